-- Graphs of real processes, with nodes killed, paused and started again, and with handlers that stop.
local holt = require("holt")
local core = require("holt.core")
local nodes = require("spec.helper.nodes")
local topology = require("holt.topology")

-- Every node can emit numbers; it keeps what it handled of each life of each origin: how many, and how many came twice or
-- out of order. Rounds are numbers under a subject of their own, of which none may be missing.
local MEMBER = [[
  local holt = require("holt")
  node = holt.node { channel = "graph", backoff_min = 0.02, backoff_max = 0.2, timeout = 20 }
  handled, missed = {}, {}
  node:on("tick", function(n)
    local event = holt.event()
    local one = handled[event.origin]
    if not one or one.boot ~= event.boot then
      one = { boot = event.boot, count = 0, last = 0, wrong = 0, seen = {} }
      handled[event.origin] = one
    end
    if one.seen[n] or n < one.last and not event.late then
      one.wrong = one.wrong + 1
    end
    one.seen[n], one.count, one.last = true, one.count + 1, math.max(one.last, n)
  end)
  node:on("round.*", function(n)
    local event = holt.event()
    rounds[event.subject] = rounds[event.subject] or {}
    local list = rounds[event.subject]
    list[event.origin] = list[event.origin] or {}
    table.insert(list[event.origin], n)
  end)
  rounds = {}
  node.events:on("gap", function(origin, count) missed[origin] = (missed[origin] or 0) + count end)
  emitted, is_ticking = 0, false
  function tick(interval)
    is_ticking = true
    holt.go(function()
      while is_ticking do
        if node:emit("tick", emitted + 1) then emitted = emitted + 1 end
        holt.sleep(interval)
      end
      ticking_ended = true
    end)
  end
  function round(subject, count) for n = 1, count do assert(node:emit(subject, n)) end end
  function account_of(origin)
    local one = handled[origin] or { count = 0, wrong = 0 }
    return one.count, missed[origin] or 0, one.wrong
  end
  -- Of how many nodes all events of this round are here; raises for one too many or out of order.
  function complete(subject, count)
    local found = 0
    for origin, list in pairs(rounds[subject] or {}) do
      for i, n in ipairs(list) do
        if n ~= i then error(origin .. "'s event " .. n .. " came as number " .. i) end
      end
      if #list > count then error(#list .. " events of " .. origin) end
      if #list == count then found = found + 1 end
    end
    return found
  end
]]

local function names(count)
  local list = {}
  for i = 1, count do
    list[i] = ("n%02d"):format(i)
  end
  return list
end

-- Start every node of a shape, all at once, each at a port of its own; wait until their links are up.
local function start(shape)
  local port = nodes.free_port_range(#shape)
  local address, degree = {}, {}
  for i, row in ipairs(shape) do
    address[row.name] = "127.0.0.1:" .. port + i - 1
    degree[row.name] = 0
  end
  for _, row in ipairs(shape) do
    for _, target in ipairs(row.connect or {}) do
      degree[row.name], degree[target] = degree[row.name] + 1, degree[target] + 1
    end
  end
  local graph, tasks = { list = {}, degree = degree }, {}
  for i, row in ipairs(shape) do
    local connect = {}
    for k, target in ipairs(row.connect or {}) do
      connect[k] = address[target]
    end
    tasks[i] = core.go(function()
      graph.list[i] = nodes.start { name = row.name, script = MEMBER, listen = address[row.name], connect = connect }
    end)
  end
  for _, task in ipairs(tasks) do
    assert(task:join())
  end
  return graph
end

local function wait_links(graph)
  for _, node in ipairs(graph.list) do
    node:wait_links(graph.degree[node.name])
  end
end

local function resident_kilobytes(node)
  local file <close> = assert(io.open(("/proc/%d/status"):format(node.process:pid())))
  return tonumber(file:read("a"):match("VmRSS:%s*(%d+)"))
end

local FAULTS_LAST = 1 -- seconds

-- Traffic from some, while others are killed and paused; then the graph heals.
local function play(graph, plan)
  for _, i in ipairs(plan.tick) do
    graph.list[i]:eval("tick(0.01)")
  end
  for _, i in ipairs(plan.kill) do
    graph.list[i]:kill()
  end
  for _, i in ipairs(plan.pause) do
    graph.list[i]:pause()
  end
  holt.sleep(FAULTS_LAST)
  for _, i in ipairs(plan.pause) do
    graph.list[i]:resume()
  end
  for _, i in ipairs(plan.kill) do
    graph.list[i]:restart()
  end
  wait_links(graph)
  for _, i in ipairs(plan.tick) do
    graph.list[i]:eval("(function() is_ticking = false end)()")
    graph.list[i]:wait_for("ticking_ended")
  end
end

local ROUND = 20

local function check_round(graph, subject)
  for _, node in ipairs(graph.list) do
    node:eval(("round(%q, %d)"):format(subject, ROUND))
  end
  for _, node in ipairs(graph.list) do
    node:wait_for(("complete(%q, %d) == %d"):format(subject, ROUND, #graph.list - 1))
  end
end

-- For every two nodes that lived through: handled + told by `gap` = emitted.
local function check_accounts(graph, plan)
  local was_killed = {}
  for _, i in ipairs(plan.kill) do
    was_killed[i] = true
  end
  for _, i in ipairs(plan.tick) do
    local emitted = graph.list[i]:eval("emitted")
    assert.is_true(emitted > 0)
    for k, node in ipairs(graph.list) do
      if k ~= i and not was_killed[k] then
        local code = ("account_of(%q)"):format(graph.list[i].name)
        local handled, missed, wrong
        node:wait_for(function()
          handled, missed, wrong = node:eval(code)
          return handled + missed >= emitted
        end)
        assert.same({ emitted, 0 }, { handled + missed, wrong }, node.name .. " of " .. graph.list[i].name)
      end
    end
  end
end

describe("a graph of many nodes, some of them killed, paused and started again", function()
  nodes.guard(before_each, after_each)

  local function survives(shape, plan)
    local graph = start(shape)
    wait_links(graph)
    check_round(graph, "round.before")
    play(graph, plan)
    check_round(graph, "round.after")
    check_accounts(graph, plan)
    if not os.getenv("HOLT_BUILD") then -- a sanitizer's memory is its own
      for _, node in ipairs(graph.list) do
        assert.is_true(resident_kilobytes(node) < 40960, node.name .. " has " .. resident_kilobytes(node) .. " kB")
      end
    end
  end

  it("delivers everything emitted afterwards in a ring of 50, and what was missed is told", function()
    survives(topology.ring(names(50)), { tick = { 1, 20, 40 }, kill = { 10, 30 }, pause = { 5, 25, 26 } })
  end)

  it("does so in a mesh of 20", function()
    survives(topology.mesh(names(20)), { tick = { 1, 8, 15, 20 }, kill = { 3, 9, 16 }, pause = { 5, 6, 7, 8 } })
  end)

  it("does so in a tree of 31, where a dead node cuts off a whole branch", function()
    survives(topology.tree(names(31)), { tick = { 1, 12, 31 }, kill = { 2, 14 }, pause = { 3, 20 } })
  end)
end)

local CALLS = [[
  local holt = require("holt")
  node = holt.node { channel = "calls", backoff_min = 0.02, backoff_max = 0.2 }
  function ask(subject, request, timeout)
    local answer, err = node:call(subject, request, { timeout = timeout })
    if answer == nil and err then return nil, err.code, err.may_have_run, err.node end
    return answer
  end
]]
local SERVER = CALLS .. [[
  ran = 0
  node:serve("who", function(request) ran = ran + 1 if request == "stay" then holt.sleep(1000) end return node.name end)
]]

describe("a call between processes", function()
  nodes.guard(before_each, after_each)

  local function until_known(node, subject)
    node:wait_for(("ask(%q) ~= nil"):format(subject))
  end

  it("whose responder is killed meanwhile says that it may have run, and has run nowhere else", function()
    local near = nodes.start { name = "near", script = SERVER }
    local far = nodes.start { name = "far", script = SERVER }
    local between = nodes.start { name = "between", script = CALLS, connect = { far } }
    local caller = nodes.start { name = "caller", script = CALLS, connect = { between } }
    until_known(caller, "who")
    assert.same("far", caller:eval('ask("who")'))
    caller:eval(("node:connect(%q) ~= nil"):format(near:address()))
    caller:wait_for('ask("who") == "near"')
    local ran, ran_far = near:eval("ran"), far:eval("ran")
    caller:eval([[(function()
      holt = require("holt")
      holt.go(function() impatient = table.pack(ask("who", "stay", 1)) end)
      holt.go(function() patient = table.pack(ask("who", "stay", 60)) end)
    end)()]])
    near:wait_for("ran == " .. ran + 2)
    near:kill()
    local function outcome(variable)
      caller:wait_for(variable .. " ~= nil")
      return { caller:eval(("table.unpack(%s, 1, 4)"):format(variable)) }
    end
    assert.same({ nil, "timeout", true, "near" }, outcome("impatient"))
    assert.same(ran_far, far:eval("ran"))
    assert.same("far", caller:eval('ask("who")')) -- asked anew, it goes to the other
    near:restart() -- another life of near: the request is not for it
    assert.same({ nil, "unreachable", true, "near" }, outcome("patient"))
    caller:wait_for('ask("who") == "near"')
  end)

  it("goes to two equally near responders in turns", function()
    local caller = nodes.start { name = "caller", script = CALLS }
    local one = nodes.start { name = "one", script = SERVER, connect = { caller } }
    local two = nodes.start { name = "two", script = SERVER, connect = { caller } }
    caller:wait_for([[(function() local a, b = ask("who"), ask("who") return a and b and a ~= b end)()]])
    local before = { one:eval("ran"), two:eval("ran") }
    caller:eval([[(function() for _ = 1, 100 do assert(ask("who")) end end)()]])
    assert.same({ before[1] + 50, before[2] + 50 }, { one:eval("ran"), two:eval("ran") })
  end)

  it("takes another way when one breaks, and the shorter one when that opens again", function()
    local server = nodes.start { name = "server", script = SERVER }
    local short = nodes.start { name = "short", script = CALLS, connect = { server } }
    local long = nodes.start { name = "long", script = CALLS, connect = { server } }
    local longer = nodes.start { name = "longer", script = CALLS, connect = { long } }
    local caller = nodes.start { name = "caller", script = CALLS, connect = { short, longer } }
    until_known(caller, "who")
    server:eval([[(function()
      holt = require("holt")
      node:serve("way", function() return holt.event().hops end)
    end)()]])
    caller:wait_for([[ask("way") == 2]])
    short:kill()
    caller:wait_for([[ask("way") == 3]])
    short:restart()
    caller:wait_for([[ask("way") == 2]])
  end)
end)

describe("a handler that stands still", function()
  nodes.guard(before_each, after_each)

  it("costs others one second: emit then says who is stalled, and everybody else goes on getting everything", function()
    local LISTENER = [[
      local holt = require("holt")
      node = holt.node { channel = "stall" }
      handled, missed, wrong = 0, 0, 0
      node:on("big", function(n)
        handled = handled + 1
        if n < (last or 0) then wrong = wrong + 1 end
        last = n
        while stands_still do holt.sleep(0.01) end
      end)
      node.events:on("gap", function(_, count) missed = missed + count end)
    ]]
    local emitter = nodes.start { name = "emitter", script = [[
      local holt = require("holt")
      node = holt.node { channel = "stall" }
      stalled, others = {}, 0
      function send(count)
        local payload = ("x"):rep(65536)
        for n = 1, count do
          local ok, err = node:emit("big", n, payload)
          if not ok and err.code == "stalled" then
            stalled[err.node] = (stalled[err.node] or 0) + 1
          elseif not ok then
            others = others + 1
          end
        end
      end
    ]] }
    local still = nodes.start { name = "still", script = "stands_still = true\n" .. LISTENER, connect = { emitter } }
    local lively = nodes.start { name = "lively", script = LISTENER, connect = { emitter } }
    emitter:wait_links(2)
    local count = 400
    local began = core.now()
    emitter:eval(("send(%d)"):format(count))
    local took = core.now() - began
    assert.is_true(took < 20, "400 events took " .. took .. " s: more than one of them waited a second")
    lively:wait_for("handled == " .. count)
    local stalled, others = emitter:eval("stalled, others")
    assert.is_true((stalled.still or 0) > 0, "nobody was told that it is stalled")
    assert.same({ nil, 0 }, { stalled.lively, others })
    still:eval("(function() stands_still = false end)()")
    still:wait_for(("handled + missed >= %d"):format(count))
    assert.same({ count, 0, stalled.still }, { still:eval("handled + missed, wrong, missed") })
    emitter:eval("(function() stalled = {} end)()")
    emitter:eval("send(10)")
    assert.same({}, (emitter:eval("stalled"))) -- it takes part again
    still:wait_for(("handled + missed == %d"):format(count + 10))
  end)

  it("does not lock up with another, when both answer every event with two", function()
    local BOUNCER = [[
      local holt = require("holt")
      node = holt.node { channel = "bounce" }
      handled, probes, stalled, goes_on = 0, 0, 0, true
      local payload = ("x"):rep(4096)
      local function play()
        local ok, err = node:emit("ball", payload)
        if not ok and err.code == "stalled" then stalled = stalled + 1 end
      end
      node:on("ball", function()
        handled = handled + 1
        if goes_on then play() play() end
      end)
      node:on("probe", function() probes = probes + 1 end)
      holt.go(function() -- a new ball now and then, as those of a stalled link are dropped on both sides
        while goes_on do play() holt.sleep(0.05) end
      end)
    ]]
    local a = nodes.start { name = "a", script = BOUNCER }
    local b = nodes.start { name = "b", script = BOUNCER, connect = { a } }
    a:wait_for("stalled > 0") -- each owes the other a whole window, and both handlers wait in emit
    for _ = 1, 3 do
      local before = { a:eval("handled"), b:eval("handled") }
      a:wait_for("handled > 100 + " .. before[1])
      b:wait_for("handled > 100 + " .. before[2])
    end
    a:eval("(function() goes_on = false end)()")
    b:eval("(function() goes_on = false end)()")
    for _, ways in ipairs { { a, b }, { b, a } } do
      ways[1]:wait_for("node:emit('probe')")
      ways[2]:wait_for("probes == 1")
    end
  end)
end)
