-- What a cursor promises where an entry is damaged: it waits for the mending, and says which entry nobody will handle.
local files = require("spec.helper.files")
local nodes = require("spec.helper.nodes")

local SCRIPT = [[
holt = require "holt"
node = holt.node {}
log = assert(node:journal("events", { codec = "json" }))
got, skipped, errors = {}, {}, 0
log.events:on("skipped", function(entry, err)
  skipped[#skipped + 1] = { entry.position, entry.author, entry.sequence, entry.hash, err.code }
end)
log.events:on("error", function() errors = errors + 1 end)
log.events:on("damaged", function() end)
function gather(options)
  log:on("A", function(message) got[#got + 1] = tonumber(message:match("%d+")) end, options)
end
function is_all(count)
  local seen = {}
  for _, number in ipairs(got) do seen[number] = true end
  return #seen == count and #got == count
end
]]

describe("a cursor at a damaged entry", function()
  nodes.guard(before_each, after_each)

  local function start(name, given)
    given.name, given.script = name, SCRIPT
    given.flags = { "--data", nodes.folder() .. "/" .. name }
    return nodes.start(given)
  end

  -- That entry on the disk of the node, which is not running.
  local function damage(name, number)
    files.alter(nodes.folder() .. "/" .. name .. "/journal/data.mdb", ("entry number %05d"):format(number))
  end

  -- So many entries, also on the disk of the other node, if there is one; their hashes.
  local function fill(node, count, other)
    local hashes = node:eval(([[
      hashes = {}
      for i = 1, %d do hashes[i] = assert(log:emit('A', ('entry number %%05d'):format(i))) end
      return hashes]]):format(count))
    if other then
      other:wait_for(("log:get(%q) ~= nil"):format(hashes[count]))
    end
    return hashes
  end

  it("handles it once another holder has mended it, though that one comes later", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", { connect = { a } })
    fill(a, 60, b)
    b:stop()
    damage("b", 30)
    a:stop() -- nobody is there when b begins
    b:restart()
    b:eval("gather { cursor = 'cur' }")
    b:wait_for("log:stats().damaged == 1")
    assert.same(29, b:eval("return #got"))
    a:restart()
    b:wait_for("is_all(60)")
    assert.same({ {}, 0 }, { b:eval("return skipped, errors") })
  end)

  it("goes on at once where no other can come, and tells which entry it was", function()
    local a = start("a", { listen = false })
    local hashes = fill(a, 60)
    a:stop()
    damage("a", 30)
    a:restart()
    a:eval("began = require('holt.core').now() gather { cursor = 'cur' }")
    a:wait_for("#got == 59")
    assert.is_true(a:eval("return require('holt.core').now() - began < 10"))
    local told, count = a:eval("return skipped, errors")
    local author, sequence, position = a:eval(([[
      local e = log:get(%q) return e.author, e.sequence, e.position]]):format(hashes[29]))
    assert.same({ { position + 1, author, sequence + 1, hashes[30], "corrupt" } }, told)
    assert.same(1, count)
  end)

  it("waits in a reader with a cursor too; one without raises at once, and can look again", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", { connect = { a } })
    fill(a, 60, b)
    b:stop()
    damage("b", 30)
    a:pause()
    b:restart()
    b:eval([[
      holt.go(function()
        for entry in log:read { cursor = 'cur', filter = 'A' } do got[#got + 1] = tonumber(entry.payload:match('%d+')) end
      end)]])
    b:wait_for("log:stats().damaged == 1 and #got == 29")
    local code, sequence = b:eval([[
      local reader = log:read { filter = 'A' }
      while true do
        local ok, entry = pcall(reader)
        if not ok then return entry.code, entry.sequence end
      end]])
    assert.same("corrupt", code)
    assert.is_true(sequence >= 30)
    a:resume()
    b:wait_for("is_all(60)")
  end)

  it("moves when its handler takes itself away, and is free when its reader was dropped", function()
    local a = start("a", { listen = false })
    a:eval([[
      for i = 1, 3 do assert(log:emit('A', 'entry ' .. i)) end
      local function f(message) got[#got + 1] = message log:off('A', f) end
      log:on('A', f, { cursor = 'cur' })]])
    a:wait_for("#got == 1")
    a:eval("gather { cursor = 'cur' }")
    a:wait_for("#got == 3")
    assert.same({ "entry 1", 2, 3 }, a:eval("return got"))
    a:eval("reader = log:read { cursor = 'other' } reader() reader = nil")
    assert.is_true(a:eval("return (pcall(log.read, log, { cursor = 'other' }))"))
  end)

  it("takes no position that cannot be", function()
    local a = start("a", { listen = false })
    fill(a, 3)
    for _, code in ipairs({ "log:read { from = -5 }", "log:cursor('x', -5)" }) do
      local ok, problem = a:eval("return pcall(function() " .. code .. " end)")
      assert.is_false(ok)
      assert.matches("a position is 1 or more", problem)
      assert.is_nil(problem:find("lua/holt", 1, true), problem)
    end
    assert.same({ nil, "not_found" }, { a:eval("local position, err = log:cursor('x', 99999) return position, err.code") })
    assert.same("not_found", a:eval("local ok, err = pcall(log.read, log, { from = 99999 }) return err.code"))
    assert.is_nil(a:eval("return log:cursor('x')"))
    assert.is_true(a:eval("return log:cursor('x', log:stats().next) == log:stats().next"))
  end)

  it("in lines of JSON, too", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", { connect = { a } })
    fill(a, 60, b)
    b:stop()
    damage("b", 30)
    local program = nodes.holt_with_input("journal", "--name", "events", "--db", nodes.folder() .. "/b", "--no-repl", "--from-scratch",
      "--connect", a:address())
    program:wait_output("entry number 00060")
    program.process.stdin:close()
    program:stop()
    local _, count = program:output("stdout"):gsub("entry number %d+", "")
    assert.same(60, count)
  end)
end)
