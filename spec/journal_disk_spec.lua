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
    local used, free = a:eval("local stats = log:stats() return stats.bytes, stats.bytes_free")
    assert.is_true(used > 12e6)
    assert.is_true(free < used / 20)
    a:stop()
    a = start("{ entries = 100 }")
    a:eval("write(64)")
    a:wait_for("log:stats().entries <= 164")
    a:eval("log:cursor('audit', 'now')")
    local before, kept, place = bytes_on_disk(), a:eval("return numbers(), log:cursor('audit')")
    assert.is_true(before > 12e6)
    used, free = a:eval("local stats = log:stats() return stats.bytes, stats.bytes_free")
    assert.is_true(free > 10e6)
    assert.is_true(free < used)
    local freed, meanwhile, also = a:eval([[
      local emitted = holt.go(function() return log:emit("A", { n = 0 }) end)
      local second = holt.go(function() return log:compact() end)
      local bytes = assert(log:compact())
      local _, hash = emitted:join()
      local _, other = second:join()
      return bytes, hash, other]])
    assert.is_true(freed > 11e6)
    assert.same(freed, also)
    assert.is_true(freed >= free)
    assert.is_true(a:eval("return log:stats().bytes_free") < 100e3)
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
    local function stats(...)
      local told = nodes.holt("journal", "stats", "--db", folder(), "--name", "events", ...)
      assert.same(0, (told:wait()))
      return told:output("stdout")
    end
    local before = bytes_on_disk()
    assert.is_true(tonumber(stats("--json"):match('"bytes_free":(%d+)')) > before / 2)
    assert.matches("bytes    %d+ on the disk, %d+ of them free: `holt journal compact` gives these back\n", stats())
    program = nodes.holt("journal", "compact", "--db", folder(), "--name", "events")
    assert.same(0, (program:wait()))
    assert.matches("%d+ bytes given back", program:output("stdout"))
    assert.is_true(bytes_on_disk() < before / 5)
    assert.is_true(tonumber(stats("--json"):match('"bytes_free":(%d+)')) < 100e3)
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

-- --- No room --------------------------------------------------------------------------------------------------------

-- A file system of its own that nobody else sees, and a copy of the folder once the node has ended, however it did.
local ROOMY = [[#!/bin/sh
for a in "$@"; do case "$a" in --data=*) data=${a#--data=};; esac; done
mkdir -p "$data"
export LD_PRELOAD= DATA="$data" PROGRAM="%s"
exec unshare %s sh -c 'mount -t tmpfs -o size=24m none "$DATA" && {
  "$PROGRAM" "$@" & pid=$!; trap "kill $pid" TERM; wait $pid; wait $pid; rm -f "$DATA/filler"; cp -r "$DATA" "$DATA.kept"; }' sh "$@"
]]

local function unshare()
  for _, flags in ipairs({ "-m", "-rm" }) do
    if os.execute(("unshare %s sh -c 'mount -t tmpfs -o size=1m none /tmp' >/dev/null 2>&1"):format(flags)) then
      return flags
    end
  end
end

local FULL = "KEEP = nil\n" .. SCRIPT .. [[
data = os.getenv("DATA")
errors, told = {}, 0
log.events:on("disk_error", function(err) told = told + 1 end)
function fill() -- everything that is left
  filler = io.open(data .. "/filler", "w")
  filler:setvbuf("no")
  for _, size in ipairs { 65536, 4096, 512, 1 } do
    repeat until not filler:write(("x"):rep(size))
  end
end
function empty()
  filler:close()
  os.remove(data .. "/filler")
end
kept = {}
function emit(n) -- its code, or true and a note that it was acknowledged
  local hash, err = log:emit("B", { n = n, text = text })
  if hash then kept[#kept + 1] = n end
  return hash and true or err.code
end
]]

describe("a journal on a full disk", function()
  nodes.guard(before_each, after_each)

  it("refuses in words, goes on reading, goes on writing with room, and loses nothing it has acknowledged", function()
    local flags = unshare()
    if not flags then
      return pending("no small file system can be mounted here: neither as root nor by unshare -rm")
    end
    local data = nodes.folder() .. "/small"
    local executable = nodes.executable
    nodes.executable = nodes.write("roomy.sh", ROOMY:format(executable, flags))
    os.execute("chmod +x " .. nodes.executable)
    local ok, a = pcall(nodes.start, { name = "a", listen = false, script = FULL, flags = { "--data=" .. data } })
    nodes.executable = executable
    assert(ok, a)
    for i = 1, 20 do
      assert.is_true(a:eval(("return emit(%d)"):format(i)))
    end
    a:eval("fill()")
    local refused = 0
    for i = 21, 60 do -- a few may fit into pages that are there
      local outcome = a:eval(("return emit(%d)"):format(i))
      if outcome ~= true then
        assert.same("disk_full", outcome)
        refused = refused + 1
      end
    end
    assert.is_true(refused > 20)
    assert.same(1, a:eval("return told"))
    assert.is_true(a:eval("return log:stats().disk_full"))
    local before = a:eval("return kept")
    local read = a:eval("local l = {} for e in log:read { filter = 'B' } do l[#l + 1] = e.payload.n end return l")
    assert.same(before, read)
    assert.is_true(a:eval("return (log:verify())"))
    local _, refusal = a:eval("local ok, err = log:compact() return ok, err and err.code")
    assert.is_true(refusal == "disk_full")
    a:eval("empty()")
    a:wait_for("emit(100) == true")
    assert.is_false(a:eval("return log:stats().disk_full"))
    a:eval("for i = 101, 120 do emit(i) end fill() for i = 121, 160 do emit(i) end")
    local acknowledged = a:eval("return kept")
    pcall(a.eval, a, "os.execute('kill -9 $PPID')", 5)
    a:wait()
    local b = nodes.start({ name = "a", listen = false, script = "KEEP = nil\n" .. SCRIPT, flags = { "--data", data .. ".kept" } })
    assert.same(acknowledged, b:eval("local l = {} for e in log:read { filter = 'B' } do l[#l + 1] = e.payload.n end return l"))
    assert.is_true(b:eval("return (log:verify())"))
  end)
end)

-- --- Clocks ---------------------------------------------------------------------------------------------------------

local FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"

describe("a journal whose clock jumps", function()
  nodes.guard(before_each, after_each)

  local function set_clock(offset)
    nodes.write("clock.new", offset .. "\n")
    assert(os.rename(nodes.folder() .. "/clock.new", nodes.folder() .. "/clock"))
  end

  local CLOCK = "KEEP = nil\n" .. SCRIPT .. [[
    handled = {}
    log:on("A", function(message) handled[#handled + 1] = message.n end)
    function times(where)
      local list = {}
      for entry in log:read { filter = "A", from = where } do list[#list + 1] = { entry.payload.n, entry.time } end
      return list
    end
  ]]

  -- What reading from a time must give: all from the first entry on that has it or a later one.
  local function expected(all, time)
    for i, item in ipairs(all) do
      if item[2] >= time then
        return table.move(all, i, #all, 1, {})
      end
    end
    return {}
  end

  it("keeps the order of its entries, tells their times as the clock had them, and finds each time", function()
    local probe = io.open(FAKETIME)
    local preload = os.getenv("LD_PRELOAD")
    if not probe or (preload and preload ~= "") then
      if probe then
        probe:close()
      end
      return pending("libfaketime is not there (scripts/setup), or a sanitizer is in its place")
    end
    probe:close()
    set_clock("+0")
    local env = {
      LD_PRELOAD = FAKETIME,
      FAKETIME_TIMESTAMP_FILE = nodes.folder() .. "/clock",
      FAKETIME_NO_CACHE = "1",
      FAKETIME_DONT_FAKE_MONOTONIC = "1",
    }
    local a = nodes.start({ name = "a", env = env, flags = { "--data", nodes.folder() .. "/a" }, script = CLOCK })
    local b = nodes.start({ name = "b", connect = { a }, listen = false, flags = { "--data", nodes.folder() .. "/b" }, script = CLOCK })
    b:wait_links(1)
    local n = 0
    local function write(node, count)
      for _ = 1, count do
        n = n + 1
        assert.is_truthy(node:eval(("return log:emit('A', { n = %d }, { holders = 1 })"):format(n)))
      end
    end
    write(a, 3)
    for _, offset in ipairs({ "+2d", "-5d", "+0", "+3600", "-3600" }) do
      set_clock(offset)
      write(a, 3)
      write(b, 2)
    end
    a:stop()
    a:restart() -- while its clock is behind what it wrote
    b:wait_links(1)
    write(a, 2)
    write(b, 1)
    for _, node in ipairs({ a, b }) do
      node:wait_for(("#times() == %d"):format(n))
      local all = node:eval("return times()")
      for i, item in ipairs(all) do
        assert.same(i, item[1]) -- each waited for the other, so the order is one
        assert.same(expected(all, item[2]), node:eval(("return times { time = %.3f }"):format(item[2])))
      end
      assert.is_true(all[4][2] - all[3][2] > 1.9 * 86400)
      assert.is_true(all[9][2] - all[4][2] < -6.9 * 86400)
      assert.is_true(node:eval("return (log:verify())"))
    end
    assert.same(n, b:eval("return #handled"))
    assert.same({}, a:eval("return times { time = os.time() + 30 * 86400 }"))
  end)
end)

-- --- The command line without room ------------------------------------------------------------------------------------

describe("holt journal on a full disk", function()
  nodes.guard(before_each, after_each)

  -- A script with $HOLT, and $DATA on a file system of $SIZE of its own; what it prints. Nil where none can be mounted.
  local function with_room(size, script)
    local flags = unshare()
    if not flags then
      return pending("no small file system can be mounted here: neither as root nor by unshare -rm")
    end
    local path = nodes.write("in_small.sh", ([[
      export LD_PRELOAD= HOLT='%s' DATA='%s/small'
      cd '%s'; mkdir -p "$DATA"; case "$HOLT" in /*) ;; *) HOLT="$OLDPWD/$HOLT";; esac
      mount -t tmpfs -o size=%s none "$DATA" || exit
      %s]]):format(nodes.executable, nodes.folder(), nodes.folder(), size, script))
    local pipe <close> = assert(io.popen(("timeout 100 unshare %s sh %s 2>&1"):format(flags, path)))
    return pipe:read("a")
  end

  before_each(function()
    nodes.write("a.proto", 'syntax = "proto3"; message A { int32 n = 1; string text = 2; }')
  end)

  it("refuses in words to begin one there", function()
    local text = with_room("1m", [[
      dd if=/dev/zero of="$DATA/filler" bs=1k 2>/dev/null
      "$HOLT" journal a.proto --db "$DATA/new" </dev/null; echo "exit $?"]])
    if text then
      assert.matches("^holt: cannot open the store in '[^']*': no space left on the disk\nexit 1\n$", text)
    end
  end)

  it("says once that an import has no room; with room it goes on, and every line is there once", function()
    local lines = {}
    for i = 1, 30000 do
      lines[i] = ('{"name":"A","payload":{"n":%d,"text":"some text that takes a little room"}}'):format(i)
    end
    nodes.write("in.ndjson", table.concat(lines, "\n") .. "\n")
    local text = with_room("3m", [[
      "$HOLT" journal import in.ndjson --db "$DATA/db" --schema a.proto; echo "exit $?"
      mount -o remount,size=64m "$DATA"
      "$HOLT" journal import in.ndjson --db "$DATA/db"; echo "exit $?"
      "$HOLT" journal export --db "$DATA/db" | sed 's/.*"n":\([0-9]*\),.*/\1/' > numbers]])
    if not text then
      return
    end
    assert.matches("no space left on the disk; run it again when that is mended: it goes on from here\n", text, 1, true)
    assert.matches("written, 0 refused, 0 skipped\nexit 1\n", text, 1, true)
    assert.same(1, select(2, text:gsub("holt: line ", "")))
    assert.matches("\nexit 0\n$", text)
    local seen, count = {}, 0
    for line in io.lines(nodes.folder() .. "/numbers") do
      assert.is_nil(seen[line])
      seen[line], count = true, count + 1
    end
    assert.same(30000, count)
  end)
end)
