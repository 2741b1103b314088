local core = require("holt.core")
local eventually = require("spec.helper.eventually")
local holt = require("holt")
local wire = require("spec.helper.wire")

describe("a call", function()
  local nodes, serial = {}, 0

  local function make(options)
    options.transport = options.transport or "memory"
    local node = holt.node(options)
    nodes[#nodes + 1] = node
    return node
  end

  -- A chain of linked nodes, each linked to the one before.
  local function chain(names, options)
    local list, where = {}, nil
    for i, name in ipairs(names) do
      serial = serial + 1
      local own = { name = name, listen = "call-" .. serial, connect = where }
      for key, value in pairs(options and options[name] or {}) do
        own[key] = value
      end
      list[i] = make(own)
      where = "call-" .. serial
      if i > 1 then
        eventually("the link of " .. name, function()
          return list[i]:peers()[1]:status().up
        end)
      end
    end
    return table.unpack(list)
  end

  -- Calls until the subject is known, that is, until the answer is another than no_responder.
  local function until_known(node, subject, ...)
    local arguments = table.pack(...)
    local results
    eventually("a responder of " .. subject, function()
      results = table.pack(node:call(subject, table.unpack(arguments, 1, arguments.n)))
      return not (results[1] == nil and results[2] and results[2].code == "no_responder")
    end)
    return table.unpack(results, 1, results.n)
  end

  after_each(function()
    for _, node in ipairs(nodes) do
      node:close()
    end
    nodes = {}
    eventually("the end of all tasks", function()
      return core.task_count() == 0
    end)
  end)

  it("gives what the handler returns, nil included", function()
    local a, b = chain({ "a", "b" })
    a:serve("price", function(request)
      return { total = request.qty * 3 }, nil, "eur", nil
    end)
    local results = table.pack(until_known(b, "price", { qty = 2 }, { timeout = 2 }))
    assert.same({ { total = 6 }, nil, "eur", nil, n = 4 }, results)
  end)

  it("hands over one request, or none", function()
    local a, b = chain({ "a", "b" })
    a:serve("count", function(...)
      return select("#", ...), ...
    end)
    assert.same({ 0 }, { until_known(b, "count") })
    assert.same({ 1, "x" }, { b:call("count", "x") })
    assert.same({ n = 2, 1, nil }, table.pack(b:call("count", nil)))
  end)

  it("is answered by a handler that waits, while others are answered", function()
    local a, b = chain({ "a", "b" })
    local gate = core.gate()
    a:serve("slow", function(request)
      if request == "first" then
        gate:wait()
      end
      return request
    end)
    until_known(b, "slow", "warm")
    local first = holt.go(b.call, b, "slow", "first")
    assert.equal("second", b:call("slow", "second"))
    assert.equal("running", first:status() == "done" and "done" or "running")
    gate:open()
    local ok, answer = first:join(5)
    assert.is_true(ok)
    assert.equal("first", answer)
  end)

  it("waits for its turn where the responder handles only so many at once", function()
    local a, b = chain({ "a", "b" })
    local gate, running, most = core.gate(), 0, 0
    a:serve("job", function(i)
      running = running + 1
      most = math.max(most, running)
      gate:wait()
      running = running - 1
      return i
    end, { concurrency = 2 })
    eventually("the way", function()
      local _, err = b:call("job", 0, { timeout = 0.01 })
      return err.code == "timeout"
    end)
    gate:open()
    eventually("quiet", function()
      return running == 0
    end)
    gate:shut()
    most = 0
    local calls = {}
    for i = 1, 6 do
      calls[i] = holt.go(b.call, b, "job", i)
    end
    eventually("two that run", function()
      return running == 2
    end)
    gate:open()
    for i = 1, 6 do
      assert.same({ true, i }, { calls[i]:join(5) })
    end
    assert.equal(2, most)
  end)

  it("ends in no_responder when nobody serves the subject, and surely did not run", function()
    local _, b = chain({ "a", "b" })
    local answer, err = b:call("nothing", 1)
    assert.is_nil(answer)
    assert.equal("no_responder", err.code)
    assert.is_false(err.may_have_run)
  end)

  it("ends in timeout when the handler takes too long: it may have run", function()
    local a, b = chain({ "a", "b" })
    local gate = core.gate()
    a:serve("never", function()
      gate:wait()
    end)
    local answer, err = until_known(b, "never", nil, { timeout = 0.03 })
    assert.is_nil(answer)
    assert.equal("timeout", err.code)
    assert.is_true(err.may_have_run)
    assert.equal("a", err.node)
    gate:open()
  end)

  it("ends in remote_error when the handler raises, and the responder hears of it with a traceback", function()
    local a, b = chain({ "a", "b" })
    local told
    a.events:on("error", function(err)
      told = err
    end)
    a:serve("broken", function()
      error("this handler is broken")
    end)
    local answer, err = until_known(b, "broken")
    assert.is_nil(answer)
    assert.equal("remote_error", err.code)
    assert.equal("a", err.node)
    assert.is_true(err.may_have_run)
    assert.matches("call_spec.lua:%d+: this handler is broken", err.message)
    eventually("the error event", function()
      return told
    end)
    assert.matches("this handler is broken", told.message)
    assert.matches("stack traceback", told.traceback)
    assert.equal("handler of requests for 'broken' from b", told.handler)
  end)

  it("gives the message of an error table that the handler raises", function()
    local a, b = chain({ "a", "b" })
    a.events:on("error", function() end)
    a:serve("refused", function()
      error(holt.errors.new("sold_out", "no apples are left"))
    end)
    local _, err = until_known(b, "refused")
    assert.equal("remote_error", err.code)
    assert.matches("no apples are left", err.message)
  end)

  it("ends in remote_error when what the handler returned cannot be sent", function()
    local a, b = chain({ "a", "b" })
    a.events:on("error", function() end)
    a:serve("function", function()
      return print
    end)
    local _, err = until_known(b, "function")
    assert.equal("remote_error", err.code)
    assert.matches("what the handler returned: argument 1: a function cannot be sent", err.message)
  end)

  it("answers nil and an error for a request that cannot be sent, and sends nothing", function()
    local _, b = chain({ "a", "b" })
    local answer, err = b:call("x", print)
    assert.is_nil(answer)
    assert.equal("codec", err.code)
    assert.is_false(err.may_have_run)
    answer, err = b:call("x", ("x"):rep(70 * 1024 * 1024))
    assert.is_nil(answer)
    assert.equal("too_large", err.code)
    assert.is_false(err.may_have_run)
  end)

  it("reaches a responder behind another node, which sees who asked", function()
    local a, _, c = chain({ "a", "b", "c" })
    local seen, after
    a:serve("who", function()
      seen = holt.event()
      holt.sleep(0.001)
      after = holt.event()
      return "done"
    end)
    assert.equal("done", until_known(c, "who"))
    assert.equal("who", seen.subject)
    assert.equal("c", seen.origin)
    assert.equal(c.boot, seen.boot)
    assert.equal(2, seen.hops)
    assert.is_true(seen.left > 4 and seen.left <= 5)
    assert.equal("c", after.origin)
    assert.is_nil(holt.event())
  end)

  it("takes turns among equally near responders", function()
    local b = chain({ "b" })
    local seen = {}
    for _, name in ipairs({ "a1", "a2" }) do
      local a = make({ name = name, connect = b:status().listen[1] })
      a:serve("work", function()
        return name
      end)
      eventually("the responder " .. name, function()
        local answer = b:call("work")
        return answer == name
      end)
    end
    for _ = 1, 6 do
      local name = assert(b:call("work"))
      seen[name] = (seen[name] or 0) + 1
    end
    assert.same({ a1 = 3, a2 = 3 }, seen)
  end)

  it("may be answered by the caller's own node", function()
    local a = chain({ "a" })
    a:serve("self", function(request)
      return request + 1, holt.event().hops
    end)
    assert.same({ 42, 0 }, { a:call("self", 41) })
  end)

  it("may be made from within a handler of another call", function()
    local a, b = chain({ "a", "b" })
    b:serve("inner", function(n)
      return n * 2
    end)
    a:serve("outer", function(n)
      return assert(until_known(a, "inner", n)) + 1
    end)
    assert.equal(11, until_known(b, "outer", 5))
  end)

  it("outlives a connection that breaks and comes back, and runs once", function()
    local world = {}
    local transport = wire(world)
    local a = make({ name = "a", listen = "a", transport = transport })
    local b = make({ name = "b", connect = "a", transport = transport, backoff_min = 0.001, backoff_max = 0.01 })
    local gate, runs = core.gate(), 0
    gate:open()
    a:serve("slow", function()
      runs = runs + 1
      gate:wait()
      return "after all"
    end)
    until_known(b, "slow")
    gate:shut()
    local caller = holt.go(b.call, b, "slow")
    eventually("its handler", function()
      return runs == 2
    end)
    world.cut()
    eventually("the loss", function()
      return not b:peers()[1]:status().up
    end)
    gate:open()
    world.heal()
    assert.same({ true, "after all" }, { caller:join(5) })
    assert.equal(2, runs)
  end)

  it("is never run again by a responder that was started anew: unreachable, and it may have run", function()
    local world = {}
    local transport = wire(world)
    local a = make({ name = "a", listen = "a", transport = transport, drain_timeout = 0 })
    local b = make({ name = "b", connect = "a", transport = transport, backoff_min = 0.001, backoff_max = 0.01 })
    local gate, runs = core.gate(), 0
    local function handler()
      runs = runs + 1
      gate:wait()
      return "first life"
    end
    gate:open()
    a:serve("pay", handler)
    until_known(b, "pay")
    gate:shut()
    local caller = holt.go(b.call, b, "pay", nil, { timeout = 3 })
    eventually("its handler", function()
      return runs == 2
    end)
    world.cut()
    a:close()
    local again = make({ name = "a", listen = "a", transport = transport })
    again:serve("pay", handler)
    world.heal()
    local ok, answer, err = caller:join(5)
    assert.is_true(ok)
    assert.is_nil(answer)
    assert.is_true(err.code == "unreachable" or err.code == "timeout", err.code)
    assert.is_true(err.may_have_run)
    assert.equal("a", err.node)
    assert.equal(2, runs)
    gate:open()
  end)

  it("is given up when its task is canceled", function()
    local a, b = chain({ "a", "b" })
    local gate = core.gate()
    a:serve("wait", function()
      gate:wait()
    end)
    until_known(b, "wait", nil, { timeout = 0.01 })
    local caller = core.go_quiet(b.call, b, "wait")
    holt.sleep(0.002)
    assert.equal("waiting", caller:status())
    caller:cancel()
    assert.equal("canceled", select(2, caller:join(5)).code)
    gate:open()
  end)

  it("ends in closed when the caller's node closes", function()
    local a, b = chain({ "a", "b" })
    local gate = core.gate()
    a:serve("wait", function()
      gate:wait()
    end)
    until_known(b, "wait", nil, { timeout = 0.01 })
    local caller = holt.go(b.call, b, "wait")
    holt.sleep(0.002)
    b:close()
    local ok, answer, err = caller:join(5)
    assert.is_true(ok)
    assert.is_nil(answer)
    assert.equal("closed", err.code)
    assert.is_true(err.may_have_run)
    answer, err = b:call("wait")
    assert.is_nil(answer)
    assert.equal("closed", err.code)
    assert.is_false(err.may_have_run)
    answer, err = b:serve("x", print)
    assert.is_nil(answer)
    assert.equal("closed", err.code)
    gate:open()
  end)

  it("is not run when its caller gave up before the handler could begin", function()
    local a, b = chain({ "a", "b" })
    local gate, begun = core.gate(), {}
    a:serve("one", function(name)
      begun[#begun + 1] = name
      gate:wait()
      return name
    end, { concurrency = 1 })
    gate:open()
    until_known(b, "one", "warm")
    gate:shut()
    local first = holt.go(b.call, b, "one", "first")
    eventually("the first", function()
      return begun[2] == "first"
    end)
    local _, err = b:call("one", "late", { timeout = 0.02 })
    assert.equal("timeout", err.code)
    holt.sleep(0.1) -- the responder counts the caller's time from the arrival of the request
    gate:open()
    assert.same({ true, "first" }, { first:join(5) })
    assert.equal("after", b:call("one", "after"))
    assert.same({ "warm", "first", "after" }, begun)
  end)

  it("finds nobody once the handle of serve is closed, while what was received is answered", function()
    local a, b = chain({ "a", "b" })
    local gate = core.gate()
    local service = a:serve("shop", function()
      gate:wait()
      return "still"
    end)
    until_known(b, "shop", nil, { timeout = 0.01 })
    local inside = holt.go(b.call, b, "shop")
    holt.sleep(0.005)
    assert.is_true(service:close())
    assert.is_false(service:close())
    eventually("the closed shop", function()
      local _, err = b:call("shop", nil, { timeout = 0.05 })
      return err.code == "no_responder"
    end)
    gate:open()
    assert.same({ true, "still" }, { inside:join(5) })
    assert.is_truthy(a:serve("shop", print))
  end)

  it("does not make a node that closes wait for the acknowledge interval", function()
    local a, b = chain({ "a", "b" }, { a = { ack_interval = 60 }, b = { ack_interval = 60 } })
    a:serve("x", function()
      return true
    end)
    until_known(b, "x")
    local began = holt.now()
    a:close()
    assert.is_true(holt.now() - began < 3)
  end)

  it("of a subject may be served once by a node", function()
    local a = chain({ "a" })
    assert(a:serve("x", print))
    local service, err = a:serve("x", print)
    assert.is_nil(service)
    assert.equal("exists", err.code)
  end)

  it("speaks the codec of its subject, and is answered in it", function()
    local seen = {}
    local upper = {
      encode = function(text)
        seen[#seen + 1] = "encode " .. text
        return text:upper()
      end,
      decode = string.lower,
    }
    local options = { codecs = { upper = upper }, subjects = { ["raw.*"] = "raw", ["own.*"] = "upper", ["js"] = "json" } }
    local a, b = chain({ "a", "b" }, { a = { codecs = { upper = upper } }, b = options })
    for _, subject in ipairs({ "raw.x", "own.x", "js" }) do
      a:serve(subject, function(request)
        return request
      end)
    end
    assert.equal("\0\xff", until_known(b, "raw.x", "\0\xff"))
    assert.equal("abc", until_known(b, "own.x", "abc"))
    assert.same({ "encode abc", "encode abc" }, seen)
    assert.same({ list = {}, big = math.maxinteger }, until_known(b, "js", { list = holt.array(), big = math.maxinteger }))
    local ok, message = pcall(function()
      b:call("raw.x", 1)
    end)
    assert.is_false(ok)
    assert.matches("call_spec.lua:%d+: node:call: the codec raw takes one string", message)
  end)

  it("cannot wait inside table.sort, and sends nothing", function()
    local a = chain({ "a" })
    local calls = 0
    a:serve("x", function()
      calls = calls + 1
    end)
    local sorting = core.go_quiet(function()
      table.sort({ 2, 1 }, function()
        return a:call("x")
      end)
    end)
    assert.equal("cannot_block", select(2, sorting:join(5)).code)
    a:call("x")
    assert.equal(1, calls)
  end)

  it("waits as long as the node's request_timeout when it is not told", function()
    local a = chain({ "a" }, { a = { request_timeout = 0.02 } })
    local gate = core.gate()
    a:serve("x", function()
      gate:wait()
    end)
    local _, err = a:call("x")
    assert.equal("timeout", err.code)
    gate:open()
  end)

  for what, case in pairs({
    ["an unknown option"] = {
      function(n)
        n:call("x", 1, { timout = 1 })
      end,
      "node:call: unknown option 'timout', did you mean 'timeout'?",
    },
    ["a second value"] = {
      function(n)
        n:call("x", 1, 2, { timeout = 1 })
      end,
      "node:call: takes a subject, one request and a table of options",
    },
    ["a wildcard"] = {
      function(n)
        n:call("x.*")
      end,
      "node:call: ",
    },
    ["a wildcard in serve"] = {
      function(n)
        n:serve("x.*", print)
      end,
      "node:serve: ",
    },
    ["no handler"] = {
      function(n)
        n:serve("x")
      end,
      "node:serve: the handler must be a function, got nil",
    },
  }) do
    it("tells misuse at the caller's line: " .. what, function()
      local ok, message = pcall(case[1], (chain({ "a" })))
      assert.is_false(ok)
      assert.is_truthy(message:find(case[2], 1, true), message)
      assert.matches("^[^:]*call_spec.lua:%d+: ", message)
    end)
  end
end)
