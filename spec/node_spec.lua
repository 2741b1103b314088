local core = require("holt.core")
local eventually = require("spec.helper.eventually")
local holt = require("holt")

-- Two linked nodes of one state, over `transport`; closed after each test.
for _, transport in ipairs({ "memory", "tcp" }) do
  describe("nodes over " .. transport, function()
    local nodes, serial = {}, 0

    local function make(options)
      options.transport = transport
      local node = holt.node(options)
      nodes[#nodes + 1] = node
      return node
    end

    local function address()
      serial = serial + 1
      return transport == "tcp" and "127.0.0.1:0" or ("spec-" .. serial)
    end

    local function pair(options_a, options_b)
      options_a, options_b = options_a or {}, options_b or {}
      options_a.name, options_a.listen = options_a.name or "a", address()
      local a = make(options_a)
      options_b.name, options_b.connect = options_b.name or "b", a:status().listen[1]
      local b = make(options_b)
      local peer = b:peers()[1]
      eventually("the link of a and b", function()
        local there = a:peers()[1]
        return peer:status().up and there and there:status().up
      end)
      return a, b, peer
    end

    after_each(function()
      for _, node in ipairs(nodes) do
        node:close()
      end
      nodes = {}
      assert.equal(0, core.task_count())
    end)

    it("hand an event over with all its arguments, nil included", function()
      local a, b = pair()
      local got
      a:on("order.new", function(...)
        got = table.pack(...)
      end)
      assert.is_true(b:emit("order.new", "apple", nil, { qty = 3, tags = {} }, 9.0, nil))
      eventually("the event", function()
        return got
      end)
      assert.same({ "apple", nil, { qty = 3, tags = {} }, 9.0, nil, n = 5 }, got)
      assert.equal("float", math.type(got[4]))
    end)

    it("cover subjects by patterns: * is one word, > the rest", function()
      local a, b = pair()
      local got = {}
      for _, pattern in ipairs({ "order.*", "order.>", ">", "*.new", "order.new", "order" }) do
        a:on(pattern, function()
          got[#got + 1] = pattern .. "=" .. holt.event().subject
        end)
      end
      b:emit("order.new")
      b:emit("order.new.big")
      b:emit("stop")
      eventually("the last event", function()
        return got[#got] == ">=stop"
      end)
      assert.same({
        "order.*=order.new",
        "order.>=order.new",
        ">=order.new",
        "*.new=order.new",
        "order.new=order.new",
        "order.>=order.new.big",
        ">=order.new.big",
        ">=stop",
      }, got)
    end)

    it("keep the order of one origin", function()
      local a, b = pair()
      local got = {}
      a:on("n", function(i)
        got[#got + 1] = i
      end)
      for i = 1, 5000 do
        assert(b:emit("n", i))
      end
      eventually("all of them", function()
        return #got == 5000
      end)
      for i = 1, 5000 do
        assert.equal(i, got[i])
      end
    end)

    it("do not run the handlers of the emitting node", function()
      local a, b = pair()
      local got = {}
      b:on("x", function()
        got[#got + 1] = "b"
      end)
      a:on("x", function()
        got[#got + 1] = "a"
        a:emit("done")
      end)
      local is_done = false
      b:on("done", function()
        is_done = true
      end)
      b:emit("x")
      eventually("the answer", function()
        return is_done
      end)
      assert.same({ "a" }, got)
    end)

    it("tell a handler where its event came from, also after it waited", function()
      local a, b = pair()
      local before, after
      a:on("x.y", function()
        before = holt.event()
        holt.sleep(0.002)
        after = holt.event()
      end)
      b:emit("x.y")
      eventually("the handler's end", function()
        return after
      end)
      assert.equal("x.y", before.subject)
      assert.equal("b", before.origin)
      assert.equal(b.boot, before.boot)
      assert.equal(1, before.sequence)
      assert.equal(1, before.hops)
      assert.is_false(before.late)
      assert.is_true(before.age >= 0)
      assert.equal(before.sequence, after.sequence)
      assert.is_nil(holt.event())
    end)

    it("run a handler set by once for one event only", function()
      local a, b = pair()
      local got, is_done = {}, false
      a:once("x", function(i)
        got[#got + 1] = i
      end)
      a:on("end", function()
        is_done = true
      end)
      b:emit("x", 1)
      b:emit("x", 2)
      b:emit("end")
      eventually("the end", function()
        return is_done
      end)
      assert.same({ 1 }, got)
    end)

    it("stop at off, for one handler or for all of a pattern", function()
      local a, b = pair()
      local got, is_done = {}, false
      local function first()
        got[#got + 1] = "first"
      end
      a:on("x", first)
      a:on("x", function()
        got[#got + 1] = "second"
      end)
      a:on("end", function()
        is_done = true
      end)
      assert.is_true(a:off("x", first))
      assert.is_false(a:off("x", first))
      b:emit("x")
      b:emit("end")
      eventually("the end", function()
        return is_done
      end)
      assert.same({ "second" }, got)
      assert.is_true(a:off("x"))
      is_done = false
      b:emit("x")
      b:emit("end")
      eventually("the end", function()
        return is_done
      end)
      assert.same({ "second" }, got)
    end)

    it("let a handler that waits hold up only its own origin", function()
      local a, b = pair()
      local c = make({ name = "c", connect = a:status().listen[1] })
      eventually("the link of c", function()
        return c:peers()[1]:status().up
      end)
      local gate, steps = core.gate(), {}
      a:on("x", function(i)
        local origin = holt.event().origin
        steps[#steps + 1] = origin .. i .. " begins"
        if origin == "b" and i == 1 then
          gate:wait()
        end
        steps[#steps + 1] = origin .. i .. " ends"
      end)
      b:emit("x", 1)
      b:emit("x", 2)
      eventually("b's first", function()
        return #steps == 1
      end)
      c:emit("x", 1)
      c:emit("x", 2)
      eventually("c's events", function()
        return #steps == 5
      end)
      assert.same({ "b1 begins", "c1 begins", "c1 ends", "c2 begins", "c2 ends" }, steps)
      gate:open()
      eventually("b's second", function()
        return #steps == 8
      end)
      assert.same({ "b1 ends", "b2 begins", "b2 ends" }, { table.unpack(steps, 6) })
    end)

    it("let as many handlers of one origin wait as concurrency says", function()
      local a, b = pair()
      local gate, running, most, done = core.gate(), 0, 0, 0
      a:on("x", function()
        running = running + 1
        most = math.max(most, running)
        gate:wait()
        running = running - 1
        done = done + 1
      end, { concurrency = 3 })
      for _ = 1, 8 do
        b:emit("x")
      end
      eventually("three that run", function()
        return running == 3
      end)
      holt.sleep(0.005)
      assert.equal(3, most)
      gate:open()
      eventually("all eight", function()
        return done == 8
      end)
    end)

    it("turn a handler that raises into an error event, and live on", function()
      local a, b = pair()
      local errors, got = {}, nil
      a.events:on("error", function(err)
        errors[#errors + 1] = err
      end)
      a:on("bad", function()
        error("this handler is broken")
      end)
      a:on("good", function(value)
        got = value
      end)
      b:emit("bad")
      b:emit("good", 7)
      eventually("the good one", function()
        return got == 7 and #errors == 1
      end)
      assert.equal("script_error", errors[1].code)
      assert.matches("node_spec.lua:%d+: this handler is broken", errors[1].message)
      assert.matches("stack traceback", errors[1].traceback)
      assert.equal("handler of 'bad' (event 'bad' from 'b')", errors[1].handler)
    end)

    it("survive an error handler that raises itself", function()
      local a, b = pair()
      local calls = 0
      local before = holt.log.level("silent")
      a.events:on("error", function()
        calls = calls + 1
        error("worse")
      end)
      a:on("bad", error)
      b:emit("bad", "first")
      eventually("the error event", function()
        return calls > 0
      end)
      holt.sleep(0.005)
      holt.log.level(before)
      assert.equal(1, calls)
    end)

    it("tell of peers as they come and go", function()
      local a, b, peer = pair()
      local told = {}
      a.events:on("peer_disconnected", function(gone)
        told[#told + 1] = gone.name
      end)
      peer:on("close", function()
        told[#told + 1] = "closed"
      end)
      assert.equal("a", peer.name)
      assert.equal(a.id, peer.id)
      assert.equal(b.id, a:peers()[1].id)
      assert.is_true(peer:close())
      eventually("both sides", function()
        return #told == 2
      end)
      table.sort(told)
      assert.same({ "b", "closed" }, told)
      assert.same({}, b:peers())
      assert.is_false(peer:close())
      assert.equal("closed", select(2, peer:status()).code)
    end)

    it("give one peer for one address, and its events in their order", function()
      local a = make({ name = "a", listen = address() })
      local b = make({ name = "b" })
      local peer = assert(b:connect(a:status().listen[1]))
      assert.equal(peer, b:connect(a:status().listen[1]))
      local told = {}
      for _, name in ipairs({ "connect", "peerid", "initialized" }) do
        peer:on(name, function(...)
          told[#told + 1] = table.concat({ name, ... }, " ")
        end)
      end
      eventually("the handshake", function()
        return #told == 3
      end)
      assert.same({ "connect", "peerid a " .. a.id, "initialized" }, told)
    end)

    it("link again after the connection broke, and lose nothing", function()
      local a, b, peer = pair({}, { backoff_min = 0.001, backoff_max = 0.01 })
      local got = {}
      a:on("n", function(i)
        got[#got + 1] = i
      end)
      for i = 1, 300 do
        assert(b:emit("n", i))
        if i % 100 == 50 then
          core.node_peer_reset(b, peer.number)
          holt.sleep(0.002)
        end
      end
      eventually("all of them", function()
        return #got >= 300
      end)
      assert.equal(300, #got)
      for i = 1, 300 do
        assert.equal(i, got[i])
      end
      assert.is_true(peer:status().connects >= 2)
    end)

    it("hear nothing of a node on another channel", function()
      local a = make({ name = "a", listen = address(), channel = "red" })
      local b = make({ name = "b", channel = "blue" })
      local errors = {}
      a.events:on("error", function(err)
        errors[#errors + 1] = err
      end)
      local peer, reason = b:connect(a:status().listen[1]), nil
      for _, name in ipairs({ "disconnect", "backoff" }) do
        peer:on(name, function(...)
          reason = reason or select(select("#", ...), ...)
        end)
      end
      eventually("the refusal on both sides", function()
        return reason and #errors > 0
      end)
      assert.equal("wrong_channel", reason.code)
      assert.equal("wrong_channel", errors[1].code)
      assert.matches("red", errors[1].message)
      assert.matches("blue", errors[1].message)
    end)

    it("speak json, raw and codecs of one's own, side by side", function()
      local reverse = {
        encode = string.reverse,
        decode = string.reverse,
      }
      local settings = { codec = "json", codecs = { reverse = reverse }, subjects = { ["raw.>"] = "raw", ["own.*"] = "reverse" } }
      local a, b = pair({ codecs = { reverse = reverse } }, settings)
      local got = {}
      a:on(">", function(...)
        got[#got + 1] = table.pack(holt.event().subject, ...)
      end)
      assert(b:emit("plain", 1, nil, { list = holt.array(), big = math.maxinteger }))
      assert(b:emit("raw.bytes", "\0\xff"))
      assert(b:emit("own.text", "abc"))
      assert.has_error(function()
        b:emit("raw.bytes", 1)
      end)
      eventually("all three", function()
        return #got == 3
      end)
      assert.same({ "plain", 1, nil, { list = {}, big = math.maxinteger }, n = 4 }, got[1])
      assert.same({ "raw.bytes", "\0\xff", n = 2 }, got[2])
      assert.same({ "own.text", "abc", n = 2 }, got[3])
    end)

    it("report an event in a codec they do not know", function()
      local a, b = pair({}, { codec = { encode = string.upper, decode = string.lower } })
      local problem
      a.events:on("error", function(err)
        problem = err
      end)
      a:on("x", function() end)
      b:emit("x", "text")
      eventually("the report", function()
        return problem
      end)
      assert.equal("codec", problem.code)
      assert.matches("event 'x' from 'b' is in codec 16, which this node does not know", problem.message)
    end)

    it("answer nil and an error for what has no form, and send nothing", function()
      local _, b = pair()
      local ok, err = b:emit("x", { a = print })
      assert.is_nil(ok)
      assert.equal("codec", err.code)
      assert.matches("argument 1, field 'a': a function cannot be sent", err.message)
      assert.equal(0, b:stats().emitted)
    end)

    it("refuse an event that is too large for one frame", function()
      local _, b = pair()
      local ok, err = b:emit("x", ("x"):rep(70 * 1024 * 1024))
      assert.is_nil(ok)
      assert.equal("too_large", err.code)
    end)

    it("make emit wait for a slow peer, and go on when it has room", function()
      local a, b = pair()
      local gate, got = core.gate(), 0
      local payload = ("x"):rep(60000)
      a:on("x", function()
        got = got + 1
      end)
      local sender = holt.go(function()
        for _ = 1, 400 do -- 24 MB through a window of 4 MiB
          assert(b:emit("x", payload))
        end
        gate:open()
      end)
      assert(sender:join(10))
      eventually("all of them", function()
        return got == 400
      end)
    end)

    it("make emit wait for an absent peer under overflow = wait, on the main thread too", function()
      local a = make({ name = "a", listen = address() })
      local where = a:status().listen[1]
      a:close()
      local b = make({
        name = "b",
        connect = where,
        overflow = "wait",
        buffer_max = 10,
        backoff_min = 0.001,
        backoff_max = 0.005,
      })
      local got = {}
      holt.after(0.02, function()
        local late = make({ name = "a", listen = where })
        late:on("n", function(i)
          got[#got + 1] = i
        end)
      end)
      for i = 1, 50 do
        assert.is_true(b:emit("n", i))
      end
      eventually("all of them", function()
        return #got == 50
      end)
      for i = 1, 50 do
        assert.equal(i, got[i])
      end
    end)

    it("give up after so many failed attempts in a row, when told to", function()
      local b = make({ name = "b", backoff_min = 0.001, backoff_max = 0.005 })
      local peer = b:connect(transport == "tcp" and "127.0.0.1:1" or "nobody", { attempts = 3 })
      local attempts, is_closed = {}, false
      peer:on("backoff", function(attempt)
        attempts[#attempts + 1] = attempt
      end)
      peer:on("close", function()
        is_closed = true
      end)
      eventually("the end of it", function()
        return is_closed
      end)
      assert.same({ 1, 2, 3 }, attempts)
      assert.same(0, #b:peers())
      local ok, problem = pcall(b.connect, b, "nobody", { attempt = 3 })
      assert.is_false(ok)
      assert.matches("did you mean 'attempts'", problem)
    end)

    it("leave nothing of an emit that was canceled or could not wait", function()
      local b = make({ name = "b", connect = transport == "tcp" and "127.0.0.1:1" or "nobody", overflow = "wait", buffer_max = 3 })
      for i = 1, 3 do
        assert(b:emit("n", i))
      end
      local waiting = core.go_quiet(b.emit, b, "n", "canceled")
      holt.sleep(0.002)
      assert.equal("waiting", waiting:status())
      waiting:cancel()
      assert.equal("canceled", select(2, waiting:join(5)).code)
      local sorting = core.go_quiet(function()
        table.sort({ 2, 1 }, function()
          return b:emit("n", "in sort")
        end)
      end)
      assert.equal("cannot_block", select(2, sorting:join(5)).code)
      assert.equal(3, b:stats().emitted)
      local closing = core.go_quiet(b.emit, b, "n", "closed")
      holt.sleep(0.002)
      b:close()
      local ok, sent, err = closing:join(5)
      assert.is_true(ok)
      assert.is_nil(sent)
      assert.equal("closed", err.code)
    end)

    it("may be closed by their own handler", function()
      local a, b = pair()
      local closed
      a:on("stop", function()
        closed = a:close()
      end)
      b:emit("stop")
      b:emit("stop")
      eventually("the close", function()
        return closed
      end)
      assert.is_false(a:is_open())
    end)

    it("end in closed, once, and answer closed from then on", function()
      local a, b = pair()
      local closed = 0
      b.events:on("closed", function()
        closed = closed + 1
      end)
      assert.is_true(b:is_open())
      assert.is_true(b:close())
      assert.is_true(b:close())
      holt.sleep(0.002)
      assert.equal(1, closed)
      assert.is_false(b:is_open())
      for _, method in ipairs({ "emit", "listen", "connect", "disconnect", "stats" }) do
        local ok, err = b[method](b, "x.y:1")
        assert.is_nil(ok)
        assert.equal("closed", err.code, method)
      end
      local ok, err = b:on("x", print)
      assert.is_nil(ok)
      assert.equal("closed", err.code)
      eventually("a to notice", function()
        return not a:peers()[1] or not a:peers()[1]:status().up
      end)
    end)

    it("deliver what was emitted just before close", function()
      local a, b = pair()
      local got = 0
      a:on("x", function()
        got = got + 1
      end)
      for _ = 1, 1000 do
        b:emit("x", "last words")
      end
      b:close()
      eventually("all of them", function()
        return got == 1000
      end)
    end)

    it("close while a handler waits: the handler is left to end", function()
      local a, b = pair()
      local gate, ended = core.gate(), false
      a:on("x", function()
        gate:wait()
        ended = holt.event().subject == "x"
      end)
      b:emit("x")
      b:emit("x")
      eventually("the handler", function()
        return core.task_count() == 1
      end)
      a:close()
      gate:open()
      eventually("its end", function()
        return ended
      end)
    end)

    it("tell their state in a table that JSON can hold", function()
      local a, b = pair()
      local status = holt.json.decode(assert(holt.json.encode(b:status())))
      assert.equal("b", status.name)
      assert.equal(16, #status.id)
      assert.equal("a", status.peers[1].name)
      assert.equal(a.boot, status.peers[1].boot)
      assert.is_true(status.peers[1].up)
      assert.same({}, status.listen)
    end)
  end)
end

describe("misuse of a node is told at the caller's line:", function()
  local node
  before_each(function()
    node = holt.node({ name = "n", transport = "memory" })
  end)
  after_each(function()
    node:close()
  end)

  for what, case in pairs({
    ["an unknown option"] = {
      function()
        holt.node({ conect = "x" })
      end,
      "unknown option 'conect', did you mean 'connect'?",
    },
    ["a wrong type"] = {
      function()
        holt.node({ timeout = "long" })
      end,
      "option 'timeout' must be a number of seconds",
    },
    ["a wrong transport"] = {
      function()
        holt.node({ transport = "tpc" })
      end,
      'option \'transport\' cannot be "tpc" (did you mean "tcp"?)',
    },
    ["a codec without functions"] = {
      function()
        holt.node({ codec = {} })
      end,
      "codec 'option 'codec'' needs both functions, encode and decode",
    },
    ["a named codec without functions"] = {
      function()
        holt.node({ codecs = { own = {} } })
      end,
      "codec 'own' needs both functions, encode and decode",
    },
    ["a named codec that is a number"] = {
      function()
        holt.node({ codecs = { own = 1 } })
      end,
      "codec 'own' must be a table",
    },
    ["a subject's codec without functions"] = {
      function()
        holt.node({ subjects = { a = {} } })
      end,
      "codec 'subject 'a'' needs both functions, encode and decode",
    },
    ["two codecs of one id"] = {
      function()
        holt.node({ codecs = { one = { tostring, tonumber } }, codec = { tostring, tonumber } })
      end,
      "two codecs have the id 16",
    },
    ["a pattern with an empty word in the option subjects"] = {
      function()
        holt.node({ subjects = { ["a..b"] = "raw" } })
      end,
      "option 'subjects': ",
    },
    ["a subject with an empty word"] = {
      function(n)
        n:emit("a..b")
      end,
      "empty word",
    },
    ["a wildcard in emit"] = {
      function(n)
        n:emit("a.*")
      end,
      "a.*",
    },
    ["a bad pattern"] = {
      function(n)
        n:on("a.>.b", print)
      end,
      "node:on: ",
    },
    ["no handler"] = {
      function(n)
        n:on("a")
      end,
      "node:on: the handler must be a function, got nil",
    },
    ["an unknown option of on"] = {
      function(n)
        n:on("a", print, { concurency = 2 })
      end,
      "node:on: unknown option 'concurency', did you mean 'concurrency'?",
    },
    ["an event the runtime never raises"] = {
      function(n)
        n.events:on("gapp", print)
      end,
      "node.events:on: there is no event 'gapp', did you mean 'gap'?",
    },
    ["an event no peer raises"] = {
      function(n)
        n:connect("nowhere"):on("conect", print)
      end,
      "peer:on: there is no event 'conect', did you mean 'connect'?",
    },
    ["an address that is no string"] = {
      function(n)
        n:connect(7001)
      end,
      "node:connect: the address must be a string",
    },
  }) do
    it(what, function()
      local ok, message = pcall(case[1], node)
      assert.is_false(ok)
      assert.is_truthy(message:find(case[2], 1, true), message)
      assert.matches("^[^:]*node_spec.lua:%d+: ", message)
    end)
  end
end)

describe("a node that its own codec closes", function()
  it("answers closed to the emit and to the call, and sends nothing", function()
    for what, send in pairs({
      emit = function(node) return node:emit("a", 1) end,
      call = function(node) return node:call("a", 1) end,
    }) do
      local node
      node = holt.node({ transport = "memory", codec = { function() node:close() return "x" end, print } })
      local ok, err = send(node)
      assert.is_nil(ok, what)
      assert.equal("closed", err.code, what)
    end
  end)
end)

describe("a node that cannot be as it should", function()
  it("is not made when its address is in use, and says what to do", function()
    local first = holt.node({ listen = "127.0.0.1:0" })
    local ok, err = pcall(holt.node, { listen = first:status().listen[1] })
    assert.is_false(ok)
    assert.equal("address_in_use", err.code)
    first:close()
  end)

  it("does not listen outside this machine unless it is told that this is insecure", function()
    local ok, err = pcall(holt.node, { listen = "0.0.0.0:0" })
    assert.is_false(ok)
    assert.equal("insecure", err.code)
    local node = holt.node({ listen = "0.0.0.0:0", insecure = true })
    node:close()
  end)

  it("answers nil and the reason for a bad address given later", function()
    local node = holt.node({})
    local ok, err = node:listen("nonsense")
    assert.is_nil(ok)
    assert.equal("bad_address", err.code)
    ok, err = node:connect("host:port")
    assert.is_nil(ok)
    assert.equal("bad_address", err.code)
    node:close()
  end)
end)
