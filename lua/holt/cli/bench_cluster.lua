--- holt bench cluster: sets, reads and a leader's death, among three processes that the bench starts itself.
-- One of the three, the leader, has the callers; the other two are members like any. Callers are Lua tasks.
local children = require("holt.cli.children")
local core = require("holt.core")
local json = require("holt.json")
local term = require("holt.cli.term")

local M = {}

M.WORKLOADS = {
  "cluster_mem_seq", "cluster_mem_c64", "cluster_mem_c4096", "cluster_local_read", "cluster_durable_seq",
  "cluster_durable_c64", "cluster_failover",
}
M.FAILOVERS = 5 -- leaders killed for cluster_failover, unless told otherwise

local WARM_UP = 0.3
local VALUE = ("x"):rep(64)
local CALLERS = { cluster_mem_c64 = 64, cluster_mem_c4096 = 4096, cluster_durable_c64 = 64 }

local function tell(result)
  io.stdout:write(json.encode(result), "\n")
  io.stdout:flush()
end

---Whether a workload needs members with directories.
function M.is_durable(name)
  return name:find("durable", 1, true) ~= nil
end

local function new_member(values)
  local holt = require("holt")
  return holt.node {
    name = values.member,
    channel = "holt-bench",
    listen = "127.0.0.1:0",
    connect = values.connect,
    data = values.directory,
    request_timeout = 30,
    cluster = { name = "bench", members = 3 },
  }
end

-- One set after the other: how long each took.
local function sequential(map, name, seconds)
  local now, times, count = core.now, {}, 0
  local warm_until = now() + WARM_UP
  while now() < warm_until do
    assert(map:set("key", VALUE))
  end
  local started = now()
  local ends = started + seconds
  while started < ends do
    assert(map:set("key" .. count % 1000, VALUE))
    local ended = now()
    count = count + 1
    times[count] = ended - started
    started = ended
  end
  table.sort(times)
  for _, wanted in ipairs { { "p50", 0.50 }, { "p99", 0.99 } } do
    local time = times[math.max(1, math.ceil(count * wanted[2]))]
    tell { workload = name, metric = wanted[1], value = math.floor(time * 1e7 + 0.5) / 10, unit = "us" }
  end
end

-- Many callers at once, each with one set under way.
local function concurrent(map, name, seconds)
  local now, count, is_counting, is_over = core.now, 0, false, false
  local tasks = {}
  for caller = 1, CALLERS[name] do
    tasks[caller] = core.go(function()
      local key = "key" .. caller
      while not is_over do
        assert(map:set(key, VALUE))
        if is_counting then
          count = count + 1
        end
      end
    end)
  end
  core.sleep(WARM_UP)
  is_counting = true
  local began = now()
  core.sleep(seconds)
  is_counting, is_over = false, true
  local rate = count / (now() - began)
  for _, task in ipairs(tasks) do
    task:join()
  end
  tell { workload = name, metric = "sets", value = math.floor(rate + 0.5), unit = "ops/s" }
end

local function local_reads(map, name, seconds)
  local now, keys = core.now, {}
  for i = 1, 1000 do
    keys[i] = "read" .. i
    assert(map:set(keys[i], VALUE))
  end
  local get, count = map.get, 0
  local began = now()
  local ends = began + seconds
  repeat
    for i = 1, 1000 do
      get(map, keys[i])
    end
    count = count + 1000
  until now() >= ends
  tell { workload = name, metric = "reads", value = math.floor(count / (now() - began) + 0.5), unit = "ops/s" }
end

-- Writes without pause while somebody kills the leader; the longest time without a success is told.
local function through_a_failover(node, map, seconds)
  local now = core.now
  while not node:leader() or node:is_leader() do -- somebody else is to die
    node:transfer("bench-2")
    core.sleep(0.01)
  end
  assert(map:set("key", VALUE))
  tell { writing = true, leader = node:leader() }
  local last, longest = now(), 0
  local ends = last + seconds
  while last < ends do
    if map:set("key", VALUE, { timeout = 10 }) then
      local at = now()
      longest = math.max(longest, at - last)
      last = at
    end
  end
  tell { outage = longest }
end

local function lead(node)
  assert(node:ready(20))
  if not node:is_leader() then
    assert(node:transfer(node.name))
  end
  while not node:is_leader() do
    core.sleep(0.01)
  end
  assert(node:ready(20))
end

---What a child does: be a member; with `workload` drive it as well.
---@return integer? exit Nothing: stay.
function M.be_member(values)
  local node = new_member(values)
  tell { listening = node:status().listen[1] }
  if not values.workload then
    return nil
  end
  local map = node:map("bench")
  for name in values.workload:gmatch("[^,]+") do
    if name == "cluster_failover" then
      assert(node:ready(20))
      through_a_failover(node, map, values.seconds)
    else
      lead(node)
      local drive = CALLERS[name] and concurrent or name == "cluster_local_read" and local_reads or sequential
      drive(map, name, values.seconds)
    end
  end
  return 0
end

-- --- The parent -------------------------------------------------------------------------------------------------

local function scratch_directory()
  local pipe = assert(io.popen("mktemp -d"))
  local path = pipe:read("l")
  pipe:close()
  return path
end

local function command_of(number, workloads, options)
  local command = {
    core.executable(), "bench", "cluster", "--role=member", "--member=bench-" .. number,
    "--seconds=" .. options.seconds,
  }
  if workloads then
    table.insert(command, "--workload=" .. table.concat(workloads, ","))
  end
  if options.address then
    table.insert(command, "--connect=" .. options.address)
  end
  if options.directory then
    table.insert(command, ("--directory=%s/%d"):format(options.directory, number))
  end
  return command
end

---Three members, the first of which drives the workloads, until that one has ended.
---@param on_result fun(result: table, group: holt.Children)
---@return boolean ok
local function run_group(workloads, options, on_result)
  local group, listening = children.new(), core.gate()
  local function on_line(_, line, which)
    local result = which == "stdout" and json.decode(line)
    if type(result) ~= "table" then
      term.progress("", nil)
      io.stderr:write(line, "\n")
    elseif result.listening then
      options.address = options.address or result.listening
      listening:open()
    else
      on_result(result, group)
    end
  end
  local function on_end()
    listening:open()
  end
  core.on_signal("SIGINT", function()
    group:kill()
    core.exit(1)
  end)
  options.address = nil
  local driver, err = group:start("bench-1", command_of(1, workloads, options), on_line, on_end)
  if not driver then
    term.say("%s", tostring(err))
    return false
  end
  listening:wait()
  for number = 2, 3 do
    group:start("bench-" .. number, command_of(number, nil, options), on_line, on_end)
  end
  driver.ended:wait()
  group:kill()
  group:wait()
  if driver.code ~= 0 or driver.signal then
    term.say("the member that drives the bench %s; what it said is above", children.describe_end(driver))
    return false
  end
  return true
end

-- Kills leaders under load and tells the median and the worst of the longest pauses.
local function run_failovers(count, show)
  local outages = {}
  for _ = 1, count do
    local ok = run_group({ "cluster_failover" }, { seconds = 4 }, function(result, group)
      if result.outage then
        table.insert(outages, result.outage)
        return
      end
      for _, child in ipairs(group.list) do
        if child.name == result.leader then
          child.process:kill("SIGKILL")
        end
      end
    end)
    if not ok then
      return 1
    end
  end
  table.sort(outages)
  for _, told in ipairs({ { "first_write", math.ceil(count / 2) }, { "first_write_worst", count } }) do
    local milliseconds = math.floor(outages[told[2]] * 1000 + 0.5)
    show { workload = "cluster_failover", metric = told[1], value = milliseconds, unit = "ms" }
  end
  return 0
end

---@param values table The flags of `holt bench`.
---@param show fun(result: table)
---@return integer exit
function M.run(values, show)
  local function chosen(is_durable)
    local list = {}
    for _, name in ipairs(M.WORKLOADS) do
      if (not values.only or values.only == name) and name ~= "cluster_failover" and M.is_durable(name) == is_durable then
        table.insert(list, name)
      end
    end
    return list
  end
  local seconds = values.seconds or 3
  local function on_result(result)
    term.progress("", nil)
    show(result)
  end
  for _, is_durable in ipairs { false, true } do
    local workloads = chosen(is_durable)
    local directory = is_durable and #workloads > 0 and scratch_directory() or nil
    local ok = #workloads == 0 or run_group(workloads, { seconds = seconds, directory = directory }, on_result)
    if directory then
      os.execute("rm -rf '" .. directory .. "'")
    end
    if not ok then
      return 1
    end
  end
  if not values.only or values.only == "cluster_failover" then
    return run_failovers(values.failovers or M.FAILOVERS, on_result)
  end
  return 0
end

return M
