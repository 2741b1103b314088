--- holt bench journal: durable emits, and what a second process gets of them. A writer and a holder are processes of their own,
-- each with its folder; entries carry 64 bytes. Callers are Lua tasks.
local children = require("holt.cli.children")
local core = require("holt.core")
local json = require("holt.json")
local term = require("holt.cli.term")

local M = {}

M.WORKLOADS = {
  "journal_durable_seq", "journal_durable_c64", "journal_replicated", "journal_catchup", "journal_catchup_single",
}

local WARM_UP = 0.3
local PAYLOAD = ("x"):rep(64)
local CALLERS = { journal_durable_c64 = 64, journal_replicated = 512, journal_catchup = 512, journal_catchup_single = 1 }
local CATCHUP_ENTRIES = 500000 -- for journal_catchup; as many as fit into the time for journal_catchup_single

local function tell(result)
  io.stdout:write(json.encode(result), "\n")
  io.stdout:flush()
end

local function report(workload, metric, value, unit)
  tell({ workload = workload, metric = metric, value = value, unit = unit })
end

local function open(values)
  local holt = require("holt")
  local node = holt.node({
    name = "bench-" .. values.role,
    channel = "holt-bench",
    listen = values.role == "writer" and "127.0.0.1:0" or nil,
    data = values.directory,
  })
  return node, assert(node:journal("bench", { codec = "raw", announce = false, redial = false }))
end

--- The writer ------------------------------------------------------------------------------------------------------------

-- One emit after the other: how long each took.
local function sequential(log, name, seconds)
  local now, times, count = core.now, {}, 0
  local warm_until = now() + WARM_UP
  while now() < warm_until do
    assert(log:emit("E", PAYLOAD))
  end
  local started = now()
  local ends = started + seconds
  while started < ends do
    assert(log:emit("E", PAYLOAD))
    local ended = now()
    count = count + 1
    times[count] = ended - started
    started = ended
  end
  table.sort(times)
  for _, wanted in ipairs({ { "p50", 0.50 }, { "p99", 0.99 } }) do
    local time = times[math.max(1, math.ceil(count * wanted[2]))]
    report(name, wanted[1], math.floor(time * 1e7 + 0.5) / 10, "us")
  end
end

-- Callers with one emit under way each, until `is_over()`.
local function start_callers(log, count, is_over)
  local state, tasks = { emitted = 0 }, {}
  for i = 1, count do
    tasks[i] = core.go(function()
      while not is_over(state) do
        assert(log:emit("E", PAYLOAD))
        state.emitted = state.emitted + 1
      end
    end)
  end
  return state, tasks
end

local function join(tasks)
  for _, task in ipairs(tasks) do
    task:join()
  end
end

local function concurrent(log, name, seconds)
  local is_over = false
  local state, tasks = start_callers(log, CALLERS[name], function()
    return is_over
  end)
  core.sleep(WARM_UP)
  local before, began = state.emitted, core.now()
  core.sleep(seconds)
  local rate = (state.emitted - before) / (core.now() - began)
  is_over = true
  join(tasks)
  report(name, "emits", math.floor(rate + 0.5), "ops/s")
  local stats = log:stats()
  report(name, "bytes_per_entry", math.floor(stats.bytes / math.max(stats.entries, 1) * 10 + 0.5) / 10, "bytes")
end

-- Write until somebody ends us; or so much that a newcomer has something to catch up with.
local function feed(node, log, name, seconds)
  if name == "journal_replicated" then
    tell({ listening = node:status().listen[1] })
    start_callers(log, CALLERS[name], function()
      return false
    end)
    return
  end
  local ends = core.now() + seconds
  local is_single = CALLERS[name] == 1
  local _, tasks = start_callers(log, CALLERS[name], function(state)
    return is_single and core.now() >= ends or state.emitted >= CATCHUP_ENTRIES
  end)
  join(tasks)
  tell({ listening = node:status().listen[1], next = log:stats().next })
end

---@param values table
---@return integer|nil exit Nothing: stay.
function M.be_writer(values)
  local node, log = open(values)
  if values.workload == "journal_durable_seq" then
    sequential(log, values.workload, values.seconds)
  elseif values.workload == "journal_durable_c64" then
    concurrent(log, values.workload, values.seconds)
  else
    feed(node, log, values.workload, values.seconds)
    return nil
  end
  log:close()
  node:close()
  return 0
end

--- The holder ------------------------------------------------------------------------------------------------------------

---@param values table
---@return integer
function M.be_holder(values)
  local node, log = open(values)
  local name = values.workload
  local began = core.now()
  assert(node:connect(values.connect))
  if name == "journal_replicated" then
    while log:stats().entries == 0 do
      core.sleep(0.01)
    end
    core.sleep(WARM_UP)
    local before
    before, began = log:stats().entries, core.now()
    core.sleep(values.seconds)
    report(name, "entries", math.floor((log:stats().entries - before) / (core.now() - began) + 0.5), "ops/s")
  else
    local wanted = values.entries
    while log:stats().next < wanted do
      assert(core.journal_wait(log[1], log:stats().next, 60))
    end
    report(name, "entries", math.floor(log:stats().entries / (core.now() - began) + 0.5), "ops/s")
  end
  node:close()
  return 0
end

--- The parent ------------------------------------------------------------------------------------------------------------

local function scratch_directory()
  local pipe = assert(io.popen("mktemp -d"))
  local path = pipe:read("l")
  pipe:close()
  return path
end

local function command_of(role, workload, folder, seconds)
  return {
    core.executable(), "bench", "journal", "--role=" .. role, "--workload=" .. workload, "--seconds=" .. seconds,
    ("--directory=%s/%s"):format(folder, role),
  }
end

-- One workload in processes of its own. False when one of them failed; its words were passed on.
local function run_one(workload, seconds, folder, on_result)
  local group, listening, told = children.new(), core.gate(), nil
  local function on_line(_, line, which)
    local result = which == "stdout" and json.decode(line)
    if type(result) ~= "table" then
      io.stderr:write(line, "\n")
    elseif result.listening then
      told = result
      listening:open()
    else
      on_result(result)
    end
  end
  core.on_signal("SIGINT", function()
    group:kill()
    core.exit(1)
  end)
  local judged, err = group:start("writer", command_of("writer", workload, folder, seconds), on_line, function()
    listening:open()
  end)
  if not judged then
    term.say("%s", tostring(err))
    return false
  end
  if not workload:find("durable", 1, true) then
    listening:wait()
    if told then
      local command = command_of("holder", workload, folder, seconds)
      table.insert(command, "--connect=" .. told.listening)
      table.insert(command, "--entries=" .. (told.next or 0))
      judged = group:start("holder", command, on_line, function() end)
    end
  end
  judged.ended:wait()
  group:kill()
  group:wait()
  if judged.code ~= 0 or judged.signal then
    term.say("the %s %s; what it said is above", judged.name, children.describe_end(judged))
    return false
  end
  return true
end

---@param values table The flags of `holt bench`.
---@param show fun(result: table)
---@return integer exit
function M.run(values, show)
  for i, workload in ipairs(M.WORKLOADS) do
    if not values.only or values.only == workload then
      term.progress("holt bench journal", (i - 1) / #M.WORKLOADS)
      local folder = scratch_directory()
      local ok = run_one(workload, values.seconds or 3, folder, function(result)
        term.progress("", nil)
        show(result)
      end)
      os.execute("rm -rf '" .. folder .. "'")
      if not ok then
        return 1
      end
    end
  end
  return 0
end

return M
