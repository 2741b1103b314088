-- Journals and their disk, on real processes: room given back by compacting, and what a crash in the middle of it leaves.
local nodes = require("spec.helper.nodes")

local SCRIPT = [[
holt = require "holt"
node = holt.node {}
log = assert(node:journal("events", { codec = "json", keep = KEEP }))
text = ("x"):rep(4000)
function write(count)
  local tasks = {}
  for i = 1, count do
    tasks[i] = holt.go(function() return assert(log:emit("A", { n = i, text = text })) end)
  end
  for _, task in ipairs(tasks) do assert(task:join()) end
end
function numbers()
  local list = {}
  for entry in log:read { filter = "A" } do list[#list + 1] = entry.payload.n end
  return list
end
]]

local function exists(path)
  local file = io.open(path)
  return file and file:close() or false
end

describe("a journal's disk", function()
  nodes.guard(before_each, after_each)

  local function folder()
    return nodes.folder() .. "/a"
  end

  -- Bytes of the disk that its file takes: the zeros behind its end take none.
  local function bytes_on_disk()
    local pipe <close> = assert(io.popen("stat -c '%b %B' " .. folder() .. "/journal/data.mdb"))
    return pipe:read("n") * pipe:read("n")
  end

  local function start(keep)
    return nodes.start({ name = "a", listen = false, flags = { "--data", folder() }, script = ("KEEP = %s\n"):format(keep) .. SCRIPT })
  end

  it("gets the room of old entries back by compact, while the journal is in use", function()
    local a = start()
    a:eval("write(3000)")
    a:stop()
    a = start("{ entries = 100 }")
    a:eval("write(64)")
    a:wait_for("log:stats().entries <= 164")
    a:eval("log:cursor('audit', 'now')")
    local before, kept, place = bytes_on_disk(), a:eval("return numbers(), log:cursor('audit')")
    assert.is_true(before > 12e6)
    local freed, meanwhile, also = a:eval([[
      local emitted = holt.go(function() return log:emit("A", { n = 0 }) end)
      local second = holt.go(function() return log:compact() end)
      local bytes = assert(log:compact())
      local _, hash = emitted:join()
      local _, other = second:join()
      return bytes, hash, other]])
    assert.is_true(freed > 11e6)
    assert.same(freed, also)
    assert.same(64, #meanwhile)
    assert.is_true(bytes_on_disk() < before / 8)
    local after = a:eval("return numbers()")
    assert.same(0, after[#after])
    for i = 1, 64 do -- the newest are among them in any case
      assert.same(kept[#kept - 64 + i], after[#after - 65 + i])
    end
    assert.is_true(a:eval("return (log:verify())"))
    a:eval("write(10)")
    a:stop()
    a:restart()
    assert.same(10, a:eval("local list = numbers() return list[#list]"))
    assert.same(place, a:eval("return log:cursor('audit')"))
    assert.is_true(a:eval("return (log:verify())"))
  end)

  it("holds everything when the process is killed while it compacts", function()
    local a = start()
    a:eval("write(6000)")
    for _ = 1, 4 do
      a:eval("n = 0 holt.go(function() while true do assert(log:emit('B', { n = n + 1 })) n = n + 1 end end)")
      a:eval("holt.go(function() while true do assert(log:compact()) end end)")
      nodes.until_true(function()
        return exists(folder() .. "/journal/compact.mdb")
      end)
      a:kill()
      a:restart()
      assert.is_false(exists(folder() .. "/journal/compact.mdb"))
      assert.same(6000, a:eval("return #numbers()"))
      assert.is_true(a:eval("return (log:verify())"))
    end
  end)

  it("is compacted by the shell when no process has it, and says who must do it otherwise", function()
    local a = start()
    a:eval("write(2000)")
    local program = nodes.holt("journal", "compact", "--db", folder(), "--name", "events")
    assert.same(1, (program:wait()))
    assert.matches("in use", program:output("stderr"))
    assert.matches("log:compact%(%)", program:output("stderr"))
    a:stop()
    a = start("{ entries = 100 }")
    a:eval("write(1)")
    a:wait_for("log:stats().entries <= 164")
    a:stop()
    local before = bytes_on_disk()
    program = nodes.holt("journal", "compact", "--db", folder(), "--name", "events")
    assert.same(0, (program:wait()))
    assert.matches("%d+ bytes given back", program:output("stdout"))
    assert.is_true(bytes_on_disk() < before / 5)
  end)

  it("gives nothing back in memory, and nothing once the journal is closed", function()
    local a = nodes.start({ name = "a", listen = false, script = "KEEP = nil\n" .. SCRIPT })
    assert.same(0, a:eval("write(10) return log:compact()"))
    assert.same(10, a:eval("return #numbers()"))
    assert.same("closed", a:eval("log:close() local _, err = log:compact() return err.code"))
  end)

  it("lets a node close while it compacts", function()
    local a = start()
    a:eval("write(6000)")
    a:eval([[
      waiting = holt.go(function() local _, err = log:compact() told = err end)
      holt.sleep(0)]])
    assert.same(0, (a:stop()))
    a:restart()
    assert.same(6000, a:eval("return #numbers()"))
  end)
end)
