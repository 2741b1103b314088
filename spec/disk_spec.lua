local nodes = require("spec.helper.nodes")
local three = require("spec.helper.three")

local SCRIPT = [[
  local holt = require "holt"
  node = holt.node { connect = CONNECT,
    cluster = { name = "disks", members = 3, election_timeout = 0.4, heartbeat = 0.04, snapshot_threshold = 40 } }
  map = node:map("m")
  told = {}
  node.events:on("disk_error", function(err) told[#told + 1] = err end)
]]

local function start(folders, script)
  local port, list = nodes.free_port_range(3), {}
  for i = 1, 3 do
    local connect = {}
    for j = 1, 3 do
      connect[#connect + 1] = j ~= i and ("%q"):format("127.0.0.1:" .. port + j - 1) or nil
    end
    list[i] = nodes.start {
      name = "n" .. i,
      listen = "127.0.0.1:" .. port + i - 1,
      script = (script or SCRIPT):gsub("CONNECT", "{ " .. table.concat(connect, ", ") .. " }"),
      flags = { "--data=" .. folders[i] },
    }
  end
  for _, node in ipairs(list) do
    node:eval("assert(node:ready(30))", 40)
  end
  return list
end

-- Every member holds keys k1 … k`count`, and the same state.
local function assert_whole(list, count)
  for _, node in ipairs(list) do
    node:eval("assert(node:ready(30))", 40)
    local missing = node:eval(([[
      assert(node:barrier(20))
      for i = 1, %d do
        if map:get("k" .. i) ~= i then return "k" .. i end
      end
      return "nothing"]]):format(count), 40)
    assert.equal("nothing", missing, "missing on " .. node.name)
    node:wait_for("#node:members() == 3")
  end
  nodes.until_true(function()
    local hashes = {}
    for _, node in ipairs(list) do
      local cluster = node:eval("return node:status().cluster")
      hashes[cluster.state_hash .. " " .. cluster.applied] = true
    end
    return next(hashes) and not next(hashes, next(hashes))
  end)
end

-- Files of a folder and those below it, sorted.
local function files_of(folder)
  local list = {}
  local pipe <close> = assert(io.popen(("find '%s' -type f | sort"):format(folder)))
  for path in pipe:lines() do
    list[#list + 1] = path
  end
  return list
end

local function flip(path, byte, bit)
  local file <close> = assert(io.open(path, "r+b"))
  file:seek("set", byte)
  local old = file:read(1):byte()
  file:seek("set", byte)
  file:write(string.char(old ~ (1 << bit)))
end

-- Up to where a file holds something: segments are filled with zeros.
local function used(path)
  local file <close> = assert(io.open(path, "rb"))
  return #(file:read("a"):gsub("%z+$", ""))
end

describe("a bit that turned over", function()
  nodes.guard(before_each, after_each)

  it("in any file of a stopped member is found; it comes back as a new member and nothing acknowledged is lost", function()
    local folders = {}
    for i = 1, 3 do
      folders[i] = nodes.folder() .. "/data" .. i
    end
    local list, count, kinds = start(folders), 0, {}
    local seed = 20260101
    local function random(bound)
      seed = (seed * 1103515245 + 12345) & 0x7fffffff
      return (seed >> 8) % bound
    end
    for round = 1, math.max(3, math.floor(12 * nodes.scale)) do
      for _ = 1, 15 do
        count = count + 1
        assert.is_true(list[1 + count % 3]:eval(("return (map:set('k%d', %d, { timeout = 20 }))"):format(count, count)))
      end
      local victim = 1 + round % 3
      local node, id = list[victim], list[victim]:eval("return node:status().cluster.member")
      for _, other in ipairs(list) do
        other:eval("told = {}")
      end
      node:kill()
      -- of the three kinds in turn, those of the present incarnation
      local wanted = ({ "identity$", "/log%-" .. id .. "/%d+%.wal$", "/snapshot%-" .. id })[1 + round // 3 % 3]
      local candidates = {}
      for _, path in ipairs(files_of(folders[victim])) do
        if path:find(wanted) then
          candidates[#candidates + 1] = path
        end
      end
      local path = candidates[#candidates] or folders[victim] .. "/identity" -- the newest; no snapshot yet
      local byte, bit = random(used(path)), random(8)
      flip(path, byte, bit)
      node:restart()
      assert_whole(list, count)
      local now = node:eval("return node:status().cluster.member")
      local words = node:eval("return told[1] and tostring(told[1]) or ''")
      local where = ("bit %d of byte %d of %s: %s"):format(bit, byte, path, words)
      assert.is_not.equal(id, now, where)
      assert.matches("corrupt", words, where)
      assert.matches("goes on as a new member", words, where)
      assert.matches(path:match("[^/]+$"), words, 1, true)
      for i, other in ipairs(list) do
        assert.is_true(i == victim or other:eval("return #told == 0"))
      end
      kinds[path:match("/(%l+)[^/]*$") or "log"] = true
    end
    assert.is_true(nodes.scale < 1 or kinds.identity and kinds.snapshot and kinds.log)
  end)
end)

-- --- No room ----------------------------------------------------------------------------------------------------

-- Each node gets a small file system of its own that nobody else sees: unshare(1) as root, or as root of a name space.
local function unshare()
  for _, flags in ipairs { "-m", "-rm" } do
    local command = ("unshare %s sh -c 'mount -t tmpfs -o size=1m none /tmp' >/dev/null 2>&1"):format(flags)
    if os.execute(command) then
      return flags
    end
  end
end

local FULL = SCRIPT .. [[
  function fill() -- everything that is left
    filler = io.open(FOLDER .. "/filler", "w")
    filler:setvbuf("no")
    for _, size in ipairs { 65536, 4096, 512, 1 } do
      repeat until not filler:write(("x"):rep(size))
    end
    return true
  end
  function empty()
    filler:close()
    return os.remove(FOLDER .. "/filler")
  end
]]

describe("a disk without room", function()
  nodes.guard(before_each, after_each)
  local list, written, unknown, count
  local executable = nodes.executable

  after_each(function()
    nodes.executable = executable
  end)

  -- One value of 64 KiB under a key of its own, or under one of a few.
  local function write(node, timeout)
    count = count + 1
    local key = count % 20 == 0 and "own" .. count or "shared" .. count % 5
    local ok, code = table.unpack(node:eval(([[
      local ok, err = map:set(%q, "%d " .. ("x"):rep(65536), { timeout = %s })
      if not ok then errors = errors or {} errors[#errors + 1] = err end
      return { ok or false, err and err.code or "" }]]):format(key, count, timeout), 40))
    if ok then
      written[key], unknown[key] = count, nil
    elseif code == "unknown" then
      unknown[key] = unknown[key] or {}
      unknown[key][count] = true
    end
    return ok, code
  end

  local function disk_of(node)
    return node:eval("return node:status().cluster.disk")
  end

  local function assert_whole_again()
    for _, node in ipairs(list) do
      node:wait_for(function()
        return disk_of(node) == "ok"
      end)
      assert.equal("true", node:eval("local ok, err = node:barrier(20) return tostring(ok or err)", 40))
      for key, number in pairs(written) do
        local found = node:eval(("return tonumber(map:get(%q):match('^%%d+'))"):format(key))
        assert.is_true(found == number or (unknown[key] and unknown[key][found]) or false, key .. " on " .. node.name)
      end
    end
    local hashes = {}
    nodes.until_true(function()
      hashes = {}
      for _, node in ipairs(list) do
        local cluster = node:eval("return node:status().cluster")
        hashes[cluster.state_hash .. " " .. cluster.applied] = true
      end
      return not next(hashes, (next(hashes)))
    end)
  end

  it("holds up one member only, then a majority; with room again all go on and hold the same", function()
    local flags = unshare()
    if not flags then
      return pending("no small file system can be mounted here: neither as root nor by unshare -rm")
    end
    nodes.executable = nodes.write("roomy.sh", ([[#!/bin/sh
for a in "$@"; do case "$a" in --data=*) data=${a#--data=};; esac; done
mkdir -p "$data"
export LD_PRELOAD= DATA="$data" PROGRAM="%s"
exec unshare %s sh -c 'mount -t tmpfs -o size=28m none "$DATA" && exec "$PROGRAM" "$@"' sh "$@"
]]):format(executable, flags))
    os.execute("chmod +x " .. nodes.executable)
    written, unknown, count = {}, {}, 0
    local folders = {}
    for i = 1, 3 do
      folders[i] = nodes.folder() .. "/small" .. i
    end
    list = start(folders, "FOLDER = os.getenv('DATA')\n" .. FULL)
    nodes.executable = executable
    for i = 1, 30 do
      assert.is_true((write(list[1 + i % 3], 20)))
    end

    -- one: the leader, so that it has to hand over
    local leader = three.leader_of(list)
    local others = {}
    for _, node in ipairs(list) do
      others[#others + 1] = node ~= leader and node or nil
    end
    assert.is_true(leader:eval("return fill()", 20))
    for i = 1, 400 do
      assert.same({ true, "" }, { write(others[1 + i % 2], 20) })
      if disk_of(leader) == "full" then
        break
      end
    end
    assert.equal("full", disk_of(leader))
    for i = 1, 20 do
      assert.same({ true, "" }, { write(others[1 + i % 2], 20) })
    end
    assert.matches("^%d+ x", leader:eval("return map:get('shared1')")) -- it can be read
    assert.same({ false, "unknown" }, { write(leader, 1) }) -- the others did it, here it cannot be seen
    assert.matches("no space left on the disk: this member writes and acknowledges nothing until there is some",
      leader:eval("return tostring(told[1])"))
    local shell = nodes.holt("status", "--control", leader.control)
    assert.equal(0, (shell:wait()))
    assert.matches("disk     FULL: ", shell:output("stdout"), 1, true)
    assert.is_true(leader:eval("return empty()"))
    assert_whole_again()
    assert.is_true(leader:eval("return (errors[#errors]:outcome(20))"))

    -- a majority
    assert.is_true(list[1]:eval("return fill()", 20) and list[2]:eval("return fill()", 20))
    local refused = 0
    for i = 1, 400 do
      local ok, code = write(list[1 + i % 3], 1)
      refused = ok and 0 or refused + 1
      if not ok then
        assert.is_true(code == "unknown" or code == "no_quorum" or code == "busy", code)
      end
      if refused == 6 then
        break
      end
    end
    assert.equal(6, refused)
    for _, node in ipairs(list) do
      assert.matches("^%d+ x", node:eval("return map:get('shared1')"))
    end
    assert.is_true(list[1]:eval("return empty()"))
    assert.is_true(list[2]:eval("return empty()"))
    assert_whole_again()
    for _, node in ipairs(list) do
      assert.same({ true, "" }, { write(node, 20) })
    end
    assert_whole_again()
  end)
end)
