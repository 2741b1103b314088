local cluster = require("spec.helper.cluster")
local core = require("holt.core")
local eventually = require("spec.helper.eventually")
local holt = require("holt")

-- What people do to shared objects that nobody meant them to do.
describe("odd use of", function()
  local node, here
  cluster.guard(before_each, after_each)
  before_each(function()
    node = cluster.start(1)[1]
    here = debug.getinfo(1, "S").short_src:gsub("%p", "%%%0")
  end)

  -- The message of an error that must name this file.
  local function misuse(f, ...)
    local given = table.pack(...)
    local ok, problem = pcall(function()
      f(table.unpack(given, 1, given.n))
      return nil
    end)
    assert.is_false(ok)
    assert.matches("^" .. here .. ":%d+: ", tostring(problem))
    return problem
  end

  describe("errors", function()
    it("joins them with texts on either side", function()
      local _, err = node:map("m"):set("k", print)
      assert.equal("set: " .. tostring(err), "set: " .. err)
      assert.equal(tostring(err) .. "!", err .. "!")
      assert.equal(tostring(err) .. tostring(err), err .. err)
    end)
  end)

  describe("maps", function()
    it("bulk writes of which one cannot be encoded do nothing", function()
      local map = node:map("bulk", { max_batch_bytes = 100 })
      local many = {}
      for i = 10, 40 do
        many["k" .. i] = ("v"):rep(20)
      end
      many.zz = print
      for _, method in ipairs({ "set_all", "insert_all" }) do
        local ok, err = map[method](map, many)
        assert.is_nil(ok)
        assert.equal("codec", err.code)
        assert.equal(0, map:size())
      end
    end)

    it("bulk writes that fail half way say how many were done", function()
      local map = node:map("half", { max_batch_bytes = 100 })
      local many = { zz = ("v"):rep(5 << 20) }
      for i = 1, 30 do
        many[("k%02d"):format(i)] = ("v"):rep(20)
      end
      local ok, err = map:set_all(many)
      assert.is_nil(ok)
      assert.equal("too_large", err.code)
      assert.equal(30, err.done)
      assert.matches("30 of 31 were done before, and stay", err.message)
      assert.equal(30, map:size())
    end)

    it("lists of keys that are none are misuse", function()
      local map = node:map("lists")
      for _, method in ipairs({ "get_all", "remove_all" }) do
        assert.matches("expected a list of keys", misuse(map[method], map, { apple = 1 }))
        assert.matches("a key in the list is nil", misuse(map[method], map, { nil, "b" }))
        assert.matches("key 2 is not a number", misuse(map[method], map, { 1, 0 / 0 }))
        assert.is_table((select(-1, map[method](map, table.pack("a", "b")))))
        assert.matches("expected a list of keys, got string", misuse(map[method], map, "apple"))
      end
    end)

    it("asked for again and again with equal options are one handle", function()
      local first = node:map("same", { initial = { a = 1, list = { 1, 2 } }, request_timeout = 3 })
      assert.equal(first, node:map("same", { initial = { a = 1, list = { 1, 2 } }, request_timeout = 3 }))
      assert.equal(first, node:map("same"))
      assert.equal(node:record("r", { codecs = { logo = "raw" } }), node:record("r", { codecs = { logo = "raw" } }))
      assert.not_equal(first, node:map("same", { initial = { a = 1, list = { 1, 3 } }, request_timeout = 3 }))
    end)

    it("whose values cannot be decoded are not exported, with an error", function()
      local map = node:map("sealed", {
        codec = {
          encode = tostring,
          decode = function()
            error("lost the key")
          end,
        },
      })
      assert(map:set("a", 1))
      local copy, err = map:export()
      assert.is_nil(copy)
      assert.equal("codec", err.code)
    end)

    it("a dot in place of a colon is told", function()
      local map = node:map("dots")
      assert.matches("call it with a colon", misuse(map.get, "apple"))
      assert.matches("call it with a colon", misuse(map.set, "apple", 1))
    end)

    it("ready takes a number of seconds", function()
      local map = node:map("m")
      for _, wrong in ipairs({ -1, { timeout = 5 }, "soon", 0 / 0 }) do
        assert.matches("the timeout must be a number of seconds", misuse(map.ready, map, wrong))
      end
    end)
  end)

  describe("initial", function()
    it("values that cannot be encoded are misuse", function()
      assert.matches("option 'initial': .*a function cannot be sent", misuse(node.map, node, "m", { initial = { x = print } }))
      assert.matches("option 'initial': ", misuse(node.record, node, "r", { initial = { x = print } }))
      assert.is_true(node:map("m", { initial = { x = 1 } }):ready(5))
    end)

    it("what can never go in is told by ready, at once", function()
      assert(node:queue("taken"):push(1))
      local ok, err = node:map("taken", { initial = { x = 1 } }):ready(60)
      assert.is_nil(ok)
      assert.equal("wrong_kind", err.code)
      ok, err = node:record("big", { initial = { x = ("x"):rep(5 << 20) } }):ready(60)
      assert.is_nil(ok)
      assert.equal("too_large", err.code)
    end)
  end)

  describe("names", function()
    it("an event or a field of 70,000 bytes is refused, and the node lives on", function()
      local long = ("x"):rep(70000)
      local alerts, conf = node:emitter("e"), node:record("r")
      local function too_large(ok, err)
        assert.is_nil(ok)
        assert.equal("too_large", err.code)
        assert.matches("at most 65535", err.message)
      end
      too_large(alerts:subscribe(long, print))
      too_large(conf:update_all_if({ [long] = 1 }, { a = 1 }))
      too_large(conf:update_all_if({ a = 1 }, { [long] = 1 }))
      too_large(alerts:import({ kind = "emitter", subscriptions = { { event = long, node = "n1" } } }))
      assert.is_true(conf:set("a", 1))
    end)

    it("a name with a zero byte, or an empty one of a cluster, is misuse", function()
      assert.matches("zero byte", misuse(holt.node, { name = "a\0b", transport = "memory" }))
      assert.matches("empty text", misuse(holt.node, { name = "", transport = "memory" }))
      assert.matches("1 to 64 bytes", misuse(holt.node, { transport = "memory", cluster = { name = "", members = 1 } }))
    end)
  end)

  describe("transactions", function()
    it("read back the false that they wrote", function()
      local map = node:map("flags")
      map:set("old", false)
      local results = {
        node:txn(function(t)
          t:set(map, "k", false)
          t:set(map, "old", false)
          local _, removed = t:remove(map, "old")
          return t:get(map, "k"), removed, t:insert(map, "k", 1)
        end),
      }
      assert.same({ true, false, false, false, false }, results)
      assert.equal(false, map:get("k"))
      assert.is_nil(map:get("old"))
    end)

    it("refuse a handle of another node", function()
      local other = cluster.node({ name = "other", cluster = { name = "other", members = 1, election_timeout = 0.2, heartbeat = 0.02 } })
      assert(other:ready(10))
      for _, method in ipairs({ "get", "set" }) do
        local ok, err = pcall(node.txn, node, function(t)
          t[method](t, other:map("m"), "k", 1)
        end)
        assert.is_false(ok)
        assert.matches("is a handle of node 'other', this transaction is one of 'n1'", tostring(err))
      end
    end)

    it("of more objects than one operation may have are refused in words", function()
      local ok, err = pcall(node.txn, node, function(t)
        for i = 1, 300 do
          t:set(node:map("many" .. i), "k", 1)
        end
      end)
      assert.is_false(ok)
      assert.matches("at most 255 objects", tostring(err))
    end)
  end)

  describe("queues", function()
    it("of many tasks that wait for an item only one asks for each", function()
      local jobs, got = node:queue("jobs"), 0
      for _ = 1, 100 do
        holt.go(function()
          if jobs:pop({ wait = 60 }) then
            got = got + 1
          end
        end)
      end
      assert(node:barrier(5)) -- all have looked once
      local before = node:status().commit
      for i = 1, 100 do
        assert(jobs:push(i))
      end
      eventually("every task has its item", function()
        return got == 100
      end)
      assert.is_true(node:status().commit - before < 400, node:status().commit - before)
    end)

    it("an item that came for a task which was canceled goes to the next", function()
      local jobs, got = node:queue("jobs"), {}
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = holt.go(function()
          got[#got + 1] = jobs:pop({ wait = 60 })
        end)
      end
      assert(node:barrier(5))
      jobs:on("add", function() -- runs as the first of them wakes
        tasks[1]:cancel()
        tasks[2]:cancel()
      end)
      assert(jobs:push("a"))
      eventually("it was popped", function()
        return jobs:is_empty()
      end)
      assert(jobs:push("b"))
      eventually("the third has one", function()
        return tasks[3]:status() == "done"
      end)
    end)
  end)

  describe("emitters", function()
    it("listeners that hang hold back notify at 1,000, and a later one is told", function()
      local alerts, hang, begun = node:emitter("slow", { request_timeout = 0.2 }), core.gate(), 0
      assert(alerts:subscribe("x", function()
        begun = begun + 1
        hang:wait()
      end))
      local dropped = 0
      alerts:on("dropped", function()
        dropped = dropped + 1
      end)
      for _ = 1, 1000 do
        assert(alerts:notify("x"))
      end
      local ok, err = alerts:notify("x")
      assert.is_nil(ok)
      assert.equal("busy", err.code)
      assert.equal(1000, begun)
      hang:open()
      assert.is_true(alerts:notify("x"))
      eventually("told of the one that was left out", function()
        return dropped == 1
      end)
    end)

    it("so they do at another member", function()
      node:close()
      local list = cluster.start(2)
      local hang, begun, last = core.gate(), 0, nil
      local options = { request_timeout = 0.3 }
      assert(list[2]:emitter("far", options):subscribe("x", function(number)
        begun, last = begun + 1, number
        hang:wait()
      end))
      local alerts, dropped = list[1]:emitter("far", options), 0
      alerts:on("dropped", function()
        dropped = dropped + 1
      end)
      assert(list[1]:barrier(5))
      for i = 1, 1010 do
        assert(alerts:notify("x", i))
      end
      eventually("ten are told to be lost", function()
        return dropped == 10
      end)
      assert.equal(1000, begun)
      hang:open()
      assert.is_true(alerts:notify("x", "later"))
      eventually("the next is heard", function()
        return last == "later"
      end)
    end)
  end)

  describe("on_leader", function()
    it("a function that catches `canceled` is canceled again, and never runs twice at once", function()
      node:close()
      local list = cluster.start(2)
      local leader = cluster.leader(list)
      local other = leader == list[1] and list[2] or list[1]
      local running, most, runs = 0, 0, 0
      leader:on_leader(function()
        runs = runs + 1
        running = running + 1
        most = math.max(most, running)
        local ending <close> = setmetatable({}, { __close = function() -- luacheck: ignore 211
          running = running - 1
        end })
        pcall(holt.sleep, 3600)
        pcall(holt.sleep, 3600)
        holt.sleep(3600)
      end)
      eventually("it runs", function()
        return running == 1
      end)
      for _ = 1, 2 do -- the second time, what waits for the first is ended too
        assert(leader:transfer(other.name, { timeout = 10 }))
        eventually("the other leads", function()
          return other:is_leader()
        end)
        assert(other:transfer(leader.name, { timeout = 10 }))
        eventually("this one leads", function()
          return leader:is_leader()
        end)
      end
      eventually("it runs anew", function()
        return runs == 2 and running == 1
      end, 20)
      assert.equal(1, most)
    end)
  end)

  describe("a restart", function()
    local files = require("spec.helper.nodes")
    local function start(folder, more)
      local settings = { name = "spec", members = 1, election_timeout = 0.2, heartbeat = 0.02 }
      for name, value in pairs(more or {}) do
        settings[name] = value
      end
      local started = cluster.node({ name = "again", listen = "odd-again", data = folder, cluster = settings })
      return started
    end

    it("tells listeners that were there before `ready` what it catches up with, later ones only what is new", function()
      local folder, told = files.folder() .. "/d", {}
      local first = start(folder)
      assert(first:ready(10))
      assert(first:map("mail"):set("old", 1))
      first:close()
      local second = start(folder)
      local mail = second:map("mail")
      mail:on("insert", function(key)
        told[#told + 1] = "early " .. key
      end)
      assert(mail:ready(10))
      mail:on("insert", function(key)
        told[#told + 1] = "late " .. key
      end)
      assert(mail:set("new", 1))
      eventually("all is told", function()
        return #told >= 3
      end)
      table.sort(told)
      assert.same({ "early new", "early old", "late new" }, told)
    end)

    it("in the same folder may follow a close at once", function()
      local folder = files.folder() .. "/d"
      for i = 1, 8 do
        local again = start(folder)
        local log = assert(again:journal("log"))
        assert(log:emit("said", tostring(i)))
        assert(again:ready(10))
        assert(again:map("mail"):set("last", i))
        if i == 8 then
          local count = 0
          for _ in log:read({ filter = "said" }) do
            count = count + 1
          end
          assert.equal(8, count)
        end
        again:close()
      end
    end)

    it("with voter = false of a member that votes says that this has no effect, and what to do", function()
      local folder, told = files.folder() .. "/d", nil
      local first = start(folder)
      assert(first:ready(10))
      first:close()
      local second = start(folder, { voter = false })
      second.events:on("error", function(err)
        told = err
      end)
      assert(second:ready(10))
      eventually("it is told", function()
        return told
      end)
      assert.equal("invalid", told.code)
      assert.matches("voter = false has no effect: 'again' is a member that votes; take it out", told.message, 1, true)
    end)
  end)
end)

describe("a bulk write whose cluster is away in the middle of it", function()
  local nodes = require("spec.helper.nodes")
  local three = require("spec.helper.three")
  nodes.guard(before_each, after_each)

  it("is `unknown`, says what was done before, and its outcome goes on to the end", function()
    local first, second, third = three.start()
    first:eval([[
      map = node:map("m", { max_batch_bytes = 1 }) -- an entry a step
      local many = {}
      for i = 1, 5000 do many[i] = i end
      holt.go(function()
        result = table.pack(map:set_all(many, { timeout = 3 }))
      end)
    ]])
    first:wait_for("map:size() > 100")
    second:pause()
    third:pause()
    first:wait_for("result ~= nil")
    local code, done, size = table.unpack(first:eval("return { result[2].code, result[2].done, map:size() }"))
    assert.equal("unknown", code)
    assert.is_true(done >= 100 and done < 5000, done)
    assert.equal(size, done)
    second:resume()
    third:resume()
    assert.is_true(first:eval("return (result[2]:outcome(60))"))
    assert.equal(5000, first:eval("return map:size()"))
  end)
end)
