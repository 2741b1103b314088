local nodes = require("spec.helper.nodes")

local SCRIPT = [[
  local holt = require "holt"
  node = holt.node { connect = CONNECT,
    cluster = { name = "disks", members = 3, election_timeout = 0.4, heartbeat = 0.04, snapshot_threshold = 40 } }
  map = node:map("m")
  told = {}
  node.events:on("disk_error", function(err) told[#told + 1] = err end)
]]

local function start(folders)
  local port, list = nodes.free_port_range(3), {}
  for i = 1, 3 do
    local connect = {}
    for j = 1, 3 do
      connect[#connect + 1] = j ~= i and ("%q"):format("127.0.0.1:" .. port + j - 1) or nil
    end
    list[i] = nodes.start {
      name = "n" .. i,
      listen = "127.0.0.1:" .. port + i - 1,
      script = SCRIPT:gsub("CONNECT", "{ " .. table.concat(connect, ", ") .. " }"),
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
