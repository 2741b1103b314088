-- Journals whose files were damaged: whole pages, cut short, empty. What another holder has comes back, and what to do is told.
local files = require("spec.helper.files")
local nodes = require("spec.helper.nodes")

local PAGE = 4096
local COUNT = 1500
local SEED = tonumber(os.getenv("HOLT_SEED") or "1")
local PAGES = math.max(2, math.floor(tonumber(os.getenv("HOLT_SEEDS") or "10")))

local SCRIPT = [[
holt = require "holt"
node = holt.node {}
told, mended = {}, 0
log = assert(node:journal("events", { codec = "json" }))
log.events:on("disk_error", function(err) told[#told + 1] = { err.code, err.message } end)
log.events:on("damaged", function() end)
log.events:on("mended", function() mended = mended + 1 end)
-- The texts of all entries, or the first error.
function texts()
  local list, reader = {}, log:read { filter = "A" }
  while true do
    local ok, entry = pcall(reader)
    if not ok then return nil, tostring(entry) end
    if not entry then return list end
    list[#list + 1] = entry.payload
  end
end
function is_whole(count)
  local list = texts()
  if not list or #list ~= count then return false end
  local seen = {}
  for _, text in ipairs(list) do
    if seen[text] then return false end
    seen[text] = true
  end
  for i = 1, count do
    if not seen[("entry number %05d of the journal"):format(i)] then return false end
  end
  return true
end
]]

describe("a journal whose file is damaged", function()
  nodes.guard(before_each, after_each)

  local a, b, path, sound, log_path, sound_log

  local function start(name, given)
    given.name, given.script = name, SCRIPT
    given.flags = { "--data", nodes.folder() .. "/" .. name }
    return nodes.start(given)
  end

  -- Two holders of the same entries, most of a, the last of b; b is stopped then.
  local function two_holders()
    a = start("a", { listen = "127.0.0.1:0" })
    b = start("b", { connect = { a }, listen = false })
    a:eval(([[
      local tasks = {}
      for i = 1, %d do
        tasks[i] = holt.go(function() assert(log:emit("A", ("entry number %%05d of the journal"):format(i))) end)
        if i %% 20 == 0 then tasks[i]:join() end
      end]]):format(COUNT - 100))
    b:wait_for(("log:stats().received >= %d"):format(COUNT - 100))
    b:eval(([[for i = %d, %d do
      assert(log:emit("A", ("entry number %%05d of the journal"):format(i), { holders = i == %d and 1 or 0, timeout = 20 }))
    end log:cursor("mine", 700)]]):format(COUNT - 99, COUNT, COUNT))
    local used = b:eval("return log:stats().bytes") // PAGE
    b:stop()
    path, log_path = nodes.folder() .. "/b/journal/data.mdb", nodes.folder() .. "/b/journal/redo"
    sound, sound_log = files.read(path), files.read(log_path)
    return used
  end

  -- The node starts, looks at all it has, writes, and is started again if it says so.
  local function settles()
    for _ = 1, 3 do
      b:restart()
      b:eval("log:verify() log:emit('B', 'still writes')")
      if not b:eval("return told[#told] ~= nil and told[#told][2]:find('start the node again', 1, true) ~= nil") then
        return
      end
      b:stop()
    end
    error("it is never content")
  end

  -- It has everything in the end.
  local function recovers(what)
    settles()
    nodes.until_true(function()
      return b:eval(("return is_whole(%d)"):format(COUNT))
    end, 20, function()
      return what .. ": not whole: " .. b:eval("local list, err = texts() return tostring(list and #list) .. ' ' .. tostring(err)") ..
        " " .. tostring(b:eval("return told[#told] and told[#told][2]")) .. "\n" .. b:output()
    end)
    b:wait_for("(log:verify())")
    b:eval("assert(log:emit('B', 'still writes', { holders = 1, timeout = 20 }))")
    b:stop()
  end

  local function damage(pages)
    local parts, last = {}, 0
    for _, page in ipairs(pages) do
      local bytes = {}
      for i = 1, PAGE do
        bytes[i] = string.char(math.random(0, 255))
      end
      table.move({ sound:sub(last + 1, page * PAGE), table.concat(bytes) }, 1, 2, #parts + 1, parts)
      last = (page + 1) * PAGE
    end
    files.write(log_path, sound_log)
    files.write(path, table.concat(parts) .. sound:sub(last + 1))
    os.execute(("rm -rf '%s/b/journal/lock.mdb' '%s/b/journal/damaged'"):format(nodes.folder(), nodes.folder()))
  end

  -- The pages that hold this key, also as it was before: leaves of the database (layout: mdb.c of LMDB).
  local function pages_with(wanted)
    local pages = {}
    for page = 2, #sound // PAGE - 1 do
      local flags, lower = ("<I2I2"):unpack(sound, page * PAGE + 11)
      for i = 0, flags == 2 and (lower - 16) // 2 - 1 or -1 do
        local node = page * PAGE + ("<I2"):unpack(sound, page * PAGE + 17 + 2 * i)
        if sound:sub(node + 9, node + 8 + ("<I2"):unpack(sound, node + 7)) == wanted then
          pages[#pages + 1] = page
          break
        end
      end
    end
    return pages
  end

  it("where it keeps what it knows of the authors, ends with all entries", function()
    two_holders()
    local pages = pages_with("a\0\0\0\1")
    assert.is_true(#pages > 0)
    damage(pages)
    recovers("without the authors")
  end)

  it("by a whole page, whichever, ends with all entries", function()
    local used = two_holders()
    math.randomseed(SEED)
    for i = 1, PAGES do
      local page = i <= 2 and i - 1 or math.random(2, used - 1)
      damage { page }
      recovers(("page %d of %d"):format(page, used))
    end
  end)

  for _, part in ipairs { 0.9, 0.5, 0.2, 0.0001 } do
    it(("by being cut to %g of its length, ends with all entries"):format(part), function()
      local used = two_holders()
      local id = a:eval("for _, head in ipairs(log:heads()) do if head.node == 'b' then return head.holder end end")
      files.write(path, sound:sub(1, math.floor(used * PAGE * part)))
      recovers("cut")
      b:restart()
      assert.same(id, b:eval("return log.id"))
      b:stop()
    end)
  end

  it("by being empty, is told, set aside, and fetched again; the key stays", function()
    two_holders()
    files.write(path, "")
    b:restart()
    b:wait_for("told[1]")
    local told = b:eval("return told[1]")
    assert.same("corrupt", told[1])
    assert.matches("made anew", told[2])
    assert.matches("the old file is in '.*/b/journal%.damaged%-1'", told[2])
    b:wait_for(("is_whole(%d)"):format(COUNT))
  end)

  it("by being empty, is not called sound by verify", function()
    two_holders()
    files.write(path, "")
    local program = nodes.holt("journal", "verify", "--db", nodes.folder() .. "/b", "--name", "events")
    assert.same(1, program:wait())
    assert.matches("made anew", program:output("stderr"))
    assert.matches("others were lost", program:output("stdout"))
  end)

  it("though only by being of a newer holt, is left alone, with words", function()
    two_holders()
    local newer, count = sound:gsub("version\1%z%z%z", "version\99\0\0\0")
    assert.is_true(count > 0)
    files.write(path, newer)
    local program = nodes.holt("run", b.script, "--name", "b", "--data", nodes.folder() .. "/b")
    assert.same(1, program:wait())
    assert.matches("newer holt %(layout 99.*another data directory", program:output("stderr"))
    for _, verb in ipairs({ "stats", "verify", "log", "export" }) do
      local told = nodes.holt("journal", verb, "--db", nodes.folder() .. "/b", "--name", "events")
      assert.same(1, told:wait())
      assert.matches("newer holt %(layout 99", told:output("stderr"))
    end
    assert.equal(newer, files.read(path))
    local explained = nodes.holt("explain", "wrong_version")
    assert.same(0, explained:wait())
    assert.matches("start the newer one", explained:output())
  end)

  it("by one byte, which verify finds, is mended by the next run that is linked", function()
    two_holders()
    local at = sound:find("entry number 00700", 1, true)
    while at do
      sound = sound:sub(1, at) .. "N" .. sound:sub(at + 2)
      at = sound:find("entry number 00700", 1, true)
    end
    files.write(path, sound)
    local program = nodes.holt("journal", "verify", "--db", nodes.folder() .. "/b", "--name", "events")
    assert.same(1, program:wait())
    b:restart()
    b:wait_for("mended == 1")
    b:stop()
    program = nodes.holt("journal", "verify", "--db", nodes.folder() .. "/b", "--name", "events")
    assert.same(0, program:wait(), program:output())
  end)

  local function text_of(number)
    return ("entry number %05d"):format(number)
  end

  it("in some entries while it runs, is mended at once; a reader with a cursor does not notice", function()
    two_holders()
    b:restart()
    b:wait_links(1)
    for number = 500, 540, 4 do
      files.alter(path, text_of(number))
    end
    b:eval("log.events:on('skipped', function() skipped = true end)")
    assert.same(COUNT, b:eval([[
      local count = 0
      for entry in log:read { filter = "A", cursor = "mine anew", from = "start" } do count = count + 1 end
      return count]]))
    assert.same(11, b:eval("return log:stats().damaged"))
    b:wait_for("mended == 11")
    assert.same({ true }, { b:eval("return log:verify() and not skipped and #told == 0") })
    b:stop()
  end)

  it("by a whole page while it runs, says that the rest comes with the next start, and takes part until then", function()
    two_holders()
    b:restart()
    b:wait_links(1)
    local at = sound:find(text_of(700), 1, true)
    local file <close> = assert(io.open(path, "r+b"))
    while at do
      file:seek("set", (at - 1) // PAGE * PAGE)
      file:write(("\255"):rep(PAGE))
      at = sound:find(text_of(700), at + 1, true)
    end
    file:flush()
    local ok, damaged = b:eval("local ok, err = log:verify() return tostring(ok), #err.damaged")
    assert.same("nil", ok)
    assert.is_true(damaged > 1)
    assert.matches("start the node again", b:eval("return told[1][2]"))
    assert.matches("^%x+$", (b:eval("return log:emit('B', 'while damaged', { holders = 1, timeout = 20 })")))
    local more = ("return log:emit('A', '%s of the journal', { holders = 1, timeout = 20 })"):format(text_of(COUNT + 1))
    assert.matches("^%x+$", (a:eval(more)))
    assert.same({ 1, 0, damaged }, b:eval("return { #told, mended, log:stats().damaged }"))
    b:stop()
    b:restart()
    b:wait_for(("is_whole(%d)"):format(COUNT + 1))
    b:wait_for("(log:verify())")
    b:stop()
  end)

  it("and has no other holder, keeps what can be read", function()
    local used = two_holders()
    a:stop()
    math.randomseed(SEED)
    damage { math.random(used // 2, used - 1) }
    settles()
    local kept = b:eval([[
      local count, reader = 0, log:read { filter = "A" }
      while true do
        local ok, entry = pcall(reader)
        if ok and not entry then return count end
        if ok then count = count + 1 end
      end]])
    assert.is_true(kept > COUNT / 2, kept)
    assert.is_true(b:eval("return (log:emit('B', 'still writes')) ~= nil"))
  end)
end)
