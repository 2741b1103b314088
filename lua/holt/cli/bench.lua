--- holt bench: how fast, between two processes that it starts itself. Handlers and emits are Lua.
-- The parent starts a sink and a source (`holt bench bus --role …`); the source drives one workload after the other and
-- prints a line for each result, the sink measures what it receives.
local bench_cluster = require("holt.cli.bench_cluster")
local bench_journal = require("holt.cli.bench_journal")
local children = require("holt.cli.children")
local core = require("holt.core")
local json = require("holt.json")
local term = require("holt.cli.term")

local function workloads()
  local list = { "bus_raw_64B", "bus_raw_1KiB", "bus_msgpack_5f", "bus_rtt_64B", "bus_call_64B" }
  table.move(bench_cluster.WORKLOADS, 1, #bench_cluster.WORKLOADS, #list + 1, list)
  return table.move(bench_journal.WORKLOADS, 1, #bench_journal.WORKLOADS, #list + 1, list)
end

local verb = {
  name = "bench",
  usage = "holt bench bus|cluster|journal [--json] [--seconds N] [--failovers N]",
  summary = "Measure events and round trips between two processes, a cluster of three, or journals, on this machine.",
  examples = {
    { "holt bench bus", "all workloads of the bus, 3 seconds each" },
    { "holt bench cluster", "sets in memory and on disk, local reads, a leader's death" },
    { "holt bench journal", "durable emits, replication, catching up" },
    { "holt bench bus --json --seconds 10", "one JSON object a line: workload, metric, value, unit" },
  },
  flags = {
    { "json", help = "print one JSON object a line" },
    { "seconds", "s", value = "N", help = "for each workload (3)", kind = "seconds", min = 0.1 },
    { "only", value = "WORKLOAD", help = "this workload only",
      values = workloads() },
    { "failovers", value = "N", help = "leaders killed for cluster_failover (5)", kind = "integer", min = 1 },
    { "role", is_hidden = true, value = "ROLE", help = "be a part of it", values = { "sink", "source", "member", "writer", "holder" } },
    { "connect", is_hidden = true, value = "ADDRESS", help = "the sink, or a member" },
    { "member", is_hidden = true, value = "NAME", help = "with --role member" },
    { "workload", is_hidden = true, value = "LIST", help = "with --role member: drive these" },
    { "directory", is_hidden = true, value = "DIR", help = "with --role member: its data" },
    { "entries", is_hidden = true, value = "N", help = "with --role holder: the position to reach", kind = "integer" },
  },
  arguments = { min = 1, max = 1, names = "what to measure (bus, cluster, journal)" },
}

local FLOWS = { "bus_raw_64B", "bus_raw_1KiB", "bus_msgpack_5f" }
local SUBJECTS = { bus_raw_64B = "flow.raw.a", bus_raw_1KiB = "flow.raw.b", bus_msgpack_5f = "flow.fields" }
local PATTERN_OF_RAW = "raw.>"
local WARM_UP = 0.3 -- seconds not counted

local function tell(result)
  io.stdout:write(json.encode(result), "\n")
  io.stdout:flush()
end

local function new_node(values)
  local holt = require("holt")
  return holt.node {
    name = "bench-" .. values.role,
    channel = "holt-bench",
    listen = values.role == "sink" and "127.0.0.1:0" or nil,
    connect = values.connect,
    overflow = "wait",
    subjects = { ["flow.raw.>"] = "raw", [PATTERN_OF_RAW] = "raw" },
  }
end

-- Counts what comes; the clock starts with the first event after the warm-up and stops with the last.
local function be_sink(values)
  local node = new_node(values)
  local count, first, last = 0, nil, nil
  node:on("control.begin", function()
    count, first, last = 0, nil, nil
  end)
  local function take()
    count = count + 1
    if count == 1 then
      first = core.now()
    elseif count % 256 == 0 then
      last = core.now()
    end
  end
  node:on("flow.raw.*", take)
  node:on("flow.fields", take)
  node:on("raw.ping", function(text)
    node:emit("raw.pong", text)
  end)
  assert(node:serve("raw.ask", function(text)
    return text
  end))
  node:on("control.end", function()
    local counted = count // 256 * 256
    node:emit("control.result", counted, first and last and (counted - 1) / (last - first) or 0)
  end)
  tell { listening = node:status().listen[1] }
  return nil
end

local function flow(node, name, seconds)
  local subject = SUBJECTS[name]
  local payload = name == "bus_raw_1KiB" and ("x"):rep(1024) or ("x"):rep(64)
  local emit, now = node.emit, core.now
  local is_fields = name == "bus_msgpack_5f"
  local function burst(until_when)
    while true do
      for i = 1, 256 do
        if is_fields then
          assert(emit(node, subject, { id = i, name = "sensor", value = 21.5, ok = true, tags = "a,b" }))
        else
          assert(emit(node, subject, payload))
        end
      end
      if now() >= until_when then
        return
      end
    end
  end
  burst(now() + WARM_UP)
  node:emit("control.begin")
  burst(now() + seconds)
  local gate, rate = core.gate(), nil
  node:once("control.result", function(_, value)
    rate = value
    gate:open()
  end)
  node:emit("control.end")
  gate:wait()
  tell { workload = name, metric = "received", value = math.floor(rate + 0.5), unit = "events/s" }
end

-- Percentiles of durations in seconds, told in microseconds.
local function tell_percentiles(name, times)
  table.sort(times)
  for _, wanted in ipairs { { "p50", 0.50 }, { "p99", 0.99 } } do
    local time = times[math.max(1, math.ceil(#times * wanted[2]))] or 0
    tell { workload = name, metric = wanted[1], value = math.floor(time * 1e7 + 0.5) / 10, unit = "us" }
  end
end

local function round_trips(node, name, seconds)
  local payload, now = ("x"):rep(64), core.now
  local times, count = {}, 0
  local gate = core.gate()
  local began, started, warm = now(), 0, false
  local function ping()
    started = now()
    assert(node:emit("raw.ping", payload))
  end
  node:on("raw.pong", function()
    local ended = now()
    if warm then
      count = count + 1
      times[count] = ended - started
    elseif ended - began > WARM_UP then
      warm = true
    end
    if ended - began > seconds + WARM_UP then
      gate:open()
      return
    end
    ping()
  end)
  ping()
  gate:wait()
  tell_percentiles(name, times)
end

-- One call after the other; the first ones, until the sink is known as the responder, are not counted.
local function calls(node, name, seconds)
  local payload, now = ("x"):rep(64), core.now
  local call, times, count = node.call, {}, 0
  local warm_until = now() + WARM_UP
  while now() < warm_until do
    local answer, err = call(node, "raw.ask", payload)
    if not answer and err.code ~= "no_responder" then
      error(err, 0)
    end
  end
  local started = now()
  local ends = started + seconds
  while started < ends do
    assert(call(node, "raw.ask", payload))
    local ended = now()
    count = count + 1
    times[count] = ended - started
    started = ended
  end
  tell_percentiles(name, times)
end

local function be_source(values)
  local node = new_node(values)
  local linked = core.gate()
  node.events:once("peer_connected", function()
    linked:open()
  end)
  linked:wait()
  local seconds = values.seconds or 3
  for _, name in ipairs(FLOWS) do
    if not values.only or values.only == name then
      flow(node, name, seconds)
    end
  end
  if not values.only or values.only == "bus_rtt_64B" then
    round_trips(node, "bus_rtt_64B", seconds)
  end
  if not values.only or values.only == "bus_call_64B" then
    calls(node, "bus_call_64B", seconds)
  end
  return 0
end

-- --- The parent -------------------------------------------------------------------------------------------------

local function show(values, result)
  if values.json then
    term.print(("{\"workload\":%q,\"metric\":%q,\"value\":%s,\"unit\":%q}"):format(result.workload, result.metric,
      json.encode(result.value), result.unit))
    return
  end
  local number = (result.unit == "us" or result.unit == "bytes") and ("%.1f"):format(result.value) or ("%d"):format(result.value)
  term.print(("%-22s %-15s %12s %s"):format(result.workload, result.metric, number, result.unit))
end

function verb.run(values, arguments)
  if values.role == "member" then
    return bench_cluster.be_member(values)
  elseif arguments[1] == "cluster" then
    return bench_cluster.run(values, function(result)
      show(values, result)
    end)
  elseif values.role == "writer" then
    return bench_journal.be_writer(values)
  elseif values.role == "holder" then
    return bench_journal.be_holder(values)
  elseif arguments[1] == "journal" then
    return bench_journal.run(values, function(result)
      show(values, result)
    end)
  elseif arguments[1] ~= "bus" then
    term.say("there is nothing to measure called '%s'; there are: holt bench bus, cluster, journal", arguments[1])
    return 2
  elseif values.role == "sink" then
    return be_sink(values)
  elseif values.role == "source" then
    return be_source(values)
  end
  local group, address, listening = children.new(), nil, core.gate()
  local seconds = values.seconds or 3
  local total = (values.only and 1 or #FLOWS + 2) * (seconds + WARM_UP)
  local began
  local function on_line(_, line, which)
    local result = which == "stdout" and json.decode(line)
    if type(result) ~= "table" then
      io.stderr:write(line, "\n")
    elseif result.listening then
      address = result.listening
      listening:open()
    else
      term.progress("", nil)
      show(values, result)
    end
  end
  local function on_end()
    listening:open()
  end
  core.on_signal("SIGINT", function()
    group:kill()
    core.exit(1)
  end)
  local sink, err = group:start("sink", { core.executable(), "bench", "bus", "--role=sink" }, on_line, on_end)
  if not sink then
    term.say("%s", tostring(err))
    return 1
  end
  listening:wait()
  local command = { core.executable(), "bench", "bus", "--role=source", "--connect=" .. tostring(address), "--seconds=" .. seconds }
  if values.only then
    table.insert(command, "--only=" .. values.only)
  end
  local source = group:start("source", command, on_line, on_end)
  began = core.now()
  local ticker = core.go(function()
    while true do
      term.progress("holt bench bus", math.min(1, (core.now() - began) / total))
      core.sleep(0.1)
    end
  end)
  source.ended:wait()
  ticker:cancel()
  term.progress("", nil)
  group:kill()
  group:wait()
  if source.code ~= 0 or source.signal then
    term.say("the source %s; what it said is above", children.describe_end(source))
    return 1
  end
  return 0
end

return verb
