local cluster = require("spec.helper.cluster")
local eventually = require("spec.helper.eventually")
local holt = require("holt")

-- One member alone holds objects like three do: what is shown here is their meaning.
describe("a shared", function()
  local node
  cluster.guard(before_each, after_each)
  before_each(function()
    node = cluster.start(1)[1]
  end)

  describe("map", function()
    local map
    before_each(function()
      map = node:map("stock")
    end)

    it("sets a key and tells what was there", function()
      assert.same({ true }, { map:set("apple", 10) })
      assert.same({ true, 10 }, { map:set("apple", 11) })
      assert.equal(11, map:get("apple"))
      assert.is_nil(map:get("pear"))
    end)

    it("gives a linearizable read where it is asked for", function()
      map:set("apple", 1)
      assert.equal(1, map:get("apple", { linearizable = true }))
      assert.same({ apple = 1 }, map:get_all({ "apple", "pear" }, { linearizable = true }))
      assert.equal(1, map:size({ linearizable = true }))
    end)

    it("inserts only where nothing is, and tells what is", function()
      assert.same({ true }, { map:insert("apple", 1) })
      assert.same({ false, 1 }, { map:insert("apple", 2) })
      assert.equal(1, map:get("apple"))
    end)

    it("updates and removes under a condition, and always answers", function()
      map:set("job", "pending")
      assert.same({ false, "pending" }, { map:update_if("job", "running", "done") })
      assert.same({ true }, { map:update_if("job", "running", "pending") })
      assert.same({ false }, { map:update_if("other", 1, 1) })
      assert.same({ false, "running" }, { map:remove_if("job", "pending") })
      assert.same({ true }, { map:remove_if("job", "running") })
      assert.same({ false }, { map:remove_if("job", "running") })
    end)

    it("removes a key and gives what was there", function()
      map:set("apple", 10)
      assert.same({ true, 10 }, { map:remove("apple") })
      assert.same({ false }, { map:remove("apple") })
    end)

    it("keeps 0, false, the empty string and holt.null apart from nothing", function()
      for _, value in ipairs({ 0, false, "", holt.null }) do
        assert.is_true(map:set("k", value))
        assert.same({ false, value }, { map:insert("k", 1) })
        assert.same({ true }, { map:update_if("k", 1, value) })
        assert.same({ true, 1 }, { map:remove("k") })
      end
    end)

    it("counts whole floats as integers in keys, and tells 9 from 9.0 in values", function()
      map:set(1.0, 9)
      assert.equal(9, map:get(1))
      assert.same({ false, 9 }, { map:update_if(1, 10, 9.0) })
      assert.equal("integer", math.type((map:pairs()())))
    end)

    it("does in one step for many keys what it does for one", function()
      assert.same({ true, {} }, { map:set_all({ a = 1, b = 2 }) })
      assert.same({ true, { b = 2 } }, { map:set_all({ b = 3, c = 4 }) })
      assert.same({ false, { a = 1 } }, { map:insert_all({ a = 9, d = 5 }) })
      assert.same({ true }, { map:insert_all({ e = 6 }) })
      assert.same({ a = 1, d = 5 }, map:get_all({ "a", "d", "x" }))
      assert.same({ true, { a = 1, b = 3 } }, { map:remove_all({ "a", "b", "x" }) })
      assert.equal(3, map:size())
    end)

    it("splits a bulk write by bytes", function()
      local small = node:map("split", { max_batch_bytes = 100 })
      local values = {}
      for i = 1, 50 do
        values["key" .. i] = ("x"):rep(20)
      end
      local before = node:status().cluster.applied
      assert.is_true(small:set_all(values))
      assert.equal(50, small:size())
      assert.is_true(node:status().cluster.applied - before >= 10)
    end)

    it("loops over a view that does not change meanwhile", function()
      map:set_all({ a = 1, b = 2, c = 3 })
      local seen = {}
      for key, value in map:pairs() do
        seen[key] = value
        map:remove(key)
        map:set(key .. "2", 0)
      end
      assert.same({ a = 1, b = 2, c = 3 }, seen)
      local keys, values = {}, {}
      for key in map:keys() do
        keys[#keys + 1] = key
      end
      for value in map:values() do
        values[#values + 1] = value
      end
      assert.same({ "a2", "b2", "c2" }, keys)
      assert.same({ 0, 0, 0 }, values)
    end)

    it("tells its changes in order, after they were applied; a clear sends no remove", function()
      local told = cluster.record(map, { "insert", "update", "remove", "clear", "close" })
      map:set("a", 1)
      map:set("a", 2)
      map:remove("a")
      map:set("b", 3)
      map:clear()
      map:close()
      cluster.expect({ "insert a 1", "update a 1 2", "remove a 2", "insert b 3", "clear", "close" }, told)
    end)

    it("tells a handler set by once one time, and nothing after off", function()
      local count = 0
      local function f()
        count = count + 1
      end
      map:once("insert", f)
      map:set("a", 1)
      map:set("b", 1)
      map:on("update", f)
      assert.is_true(map:off("update", f))
      map:set("a", 2)
      holt.sleep(0.02)
      assert.equal(1, count)
    end)

    it("clears, and is empty then", function()
      map:set("a", 1)
      assert.is_false(map:is_empty())
      assert.is_true(map:clear())
      assert.is_true(map:is_empty())
      assert.equal(0, map:size())
    end)

    it("compares with `equal` at the caller, by revision", function()
      local loose = node:map("loose", {
        equal = function(a, b)
          return a.id == b.id
        end,
      })
      loose:set("x", { id = 1, note = "first" })
      assert.same({ false, { id = 1, note = "first" } }, { loose:update_if("x", { id = 3 }, { id = 2 }) })
      assert.same({ true }, { loose:update_if("x", { id = 2 }, { id = 1, note = "other" }) })
      assert.same({ true }, { loose:remove_if("x", { id = 2, more = true }) })
    end)

    it("compares decoded values where the codec is not canonical", function()
      local json = node:map("json", { codec = "json" })
      assert.is_true(json:set("x", { a = 1, b = { 2 } }))
      assert.same({ false, { a = 1, b = { 2 } } }, { json:update_if("x", {}, { a = 1 }) })
      assert.same({ true }, { json:update_if("x", { a = 2 }, { b = { 2 }, a = 1 }) })
      assert.same({ a = 2 }, json:get("x"))
    end)

    it("takes a codec of one's own for keys and values", function()
      local upper = { encode = string.upper, decode = string.lower, canonical = true }
      local own = node:map("own", { key_codec = upper, value_codec = { string.reverse, string.reverse } })
      assert.is_true(own:set("Key", "value"))
      assert.equal("value", own:get("kEY"))
      assert.same({ true }, { own:update_if("key", "new", "value") })
    end)

    it("exports all of it and imports it as one operation, silently unless asked", function()
      map:set_all({ a = "\0\255", b = { 1 } })
      local copy = map:export()
      assert.equal("map", copy.kind)
      assert.equal("stock", copy.name)
      map:clear()
      map:set("c", 1)
      local told = cluster.record(map, { "insert", "update" })
      local before = node:status().cluster.applied
      assert.is_true(map:import(copy))
      assert.equal(before + 1, node:status().cluster.applied)
      assert.same({ a = "\0\255", b = { 1 }, c = 1 }, map:get_all({ "a", "b", "c" }))
      assert.is_true(map:import({ kind = "map", entries = { { "z", 1 } } }, { events = true }))
      cluster.expect({ "insert z 1" }, told)
    end)

    it("has its initial entries in once it is ready, and overwrites none", function()
      map:set("a", 1)
      local second = node:map("stock", { initial = { a = 5, b = 6 } })
      assert.is_true(second:ready(5))
      assert.is_true(second.existed)
      assert.same({ a = 1, b = 6 }, second:get_all({ "a", "b" }))
      assert.is_false(node:map("fresh", {}).existed)
    end)

    it("answers `closed` once its handle is closed, to calls under way too, and keeps the data", function()
      local lone = cluster.node({ name = "lone", cluster = { name = "lone", members = 2, election_timeout = 0.2 } })
      local waiting, jobs = lone:map("m"), lone:queue("q") -- nothing is done without the second one
      local pending = holt.go(function()
        return select(2, waiting:set("a", 2, { timeout = 60 }))
      end)
      local popping = holt.go(function()
        return select(2, jobs:pop({ timeout = 60 }))
      end)
      holt.sleep(0)
      waiting:close()
      jobs:close()
      assert.equal("closed", select(2, pending:join(5)).code)
      assert.equal("closed", select(2, popping:join(5)).code)
      map:set("a", 1)
      map:close()
      assert.is_true(map.closed)
      local _, err = map:get("a")
      assert.equal("closed", err.code)
      assert.equal("closed", select(2, map:set("a", 1)).code)
      assert.equal("closed", select(2, map:ready()).code)
      assert.is_false(pcall(map.pairs, map))
      assert.equal(1, node:map("stock"):get("a"))
    end)
  end)

  it("refuses to import what export did not give, at the line of the caller", function()
    local function refused(text, object, given)
      local line = debug.getinfo(1, "l").currentline + 1
      local ok, err = pcall(function() object:import(given) end)
      assert.is_false(ok)
      assert.equal(("spec/collections_spec.lua:%d: %s"):format(line, text), tostring(err):gsub("^.*/spec/", "spec/"))
    end
    local map, queue, record, emitter = node:map("i"), node:queue("j"), node:record("k"), node:emitter("l")
    refused("map:import: expected a table, got number", map, 3)
    refused("map:import: the table has no kind; it takes what map:export() gave: { kind = 'map', entries = … }", map, {})
    refused("map:import: this is what an emitter exported", map, { kind = "emitter" })
    refused("map:import: 'entries' must be a list, got nil", map, { kind = "map" })
    refused("map:import: 'entries' must be a list, got number", map, { kind = "map", entries = 3 })
    refused("map:import: 'entries' must be a list, it has the key a", map, { kind = "map", entries = { a = 1 } })
    refused("map:import: entries[1] must be { key, value }", map, { kind = "map", entries = { 3 } })
    refused("map:import: entries[2] must be { key, value }", map, { kind = "map", entries = { { 1, 2 }, {} } })
    refused("queue:import: items[1] is missing", queue, { kind = "queue", items = { nil, 2 } })
    refused("record:import: entries[1] must be { field, value }, the field a string", record, { kind = "record", entries = { { 1, 2 } } })
    refused("emitter:import: 'subscriptions' must be a list, got nil", emitter, { kind = "emitter" })
    refused(
      "emitter:import: subscriptions[1] must be { event = …, node = …, meta = … }",
      emitter,
      { kind = "emitter", subscriptions = { { event = "x" } } }
    )
    assert.equal(0, #node:objects()) -- nothing of all this was done
  end)

  it("says of a handle of another kind that it is not ready, and of a closed node that it has no offices", function()
    assert.is_true(node:map("one"):set("a", 1))
    local _, err = node:queue("one"):ready(1)
    assert.equal("wrong_kind", err.code)
    _, err = pcall(node.txn, node, function(t)
      t:get(node:emitter("e"), "a")
    end)
    assert.matches("t:get: expected a map or record, got an emitter", tostring(err))
    local queue, popped = node:queue("waited for"), nil
    local popping = holt.go(function()
      popped = table.pack(queue:pop({ wait = 60 }))
    end)
    holt.sleep(0.05)
    node:close()
    popping:join(5)
    assert.equal("closed", popped and popped[2] and popped[2].code)
    local office, why = node:on_leader(function() end)
    assert.is_nil(office)
    assert.equal("closed", why.code)
  end)

  describe("queue", function()
    local queue
    before_each(function()
      queue = node:queue("jobs")
    end)

    it("gives items in the order of push, each once", function()
      assert.is_true(queue:push("a", "b"))
      assert.is_true(queue:push("c"))
      assert.equal("a", queue:peek())
      assert.equal(3, queue:size())
      local seen = {}
      for i, item in queue:pairs() do
        seen[i] = item
      end
      assert.same({ "a", "b", "c" }, seen)
      assert.equal("a", queue:pop())
      assert.equal("b", queue:pop())
      assert.equal("c", queue:pop())
      assert.is_nil(queue:pop())
      assert.is_nil(queue:peek())
    end)

    it("waits for an item where it is asked to", function()
      holt.after(0.02, function()
        queue:push("late")
      end)
      assert.equal("late", queue:pop({ wait = 5 }))
      assert.is_nil(queue:pop({ wait = 0.02 }))
    end)

    it("gives each of many waiting consumers its own item", function()
      local got, tasks = {}, {}
      for i = 1, 8 do
        tasks[i] = holt.go(function()
          local item = queue:pop({ wait = 5 })
          got[#got + 1] = item
        end)
      end
      holt.sleep(0.02)
      for i = 1, 8 do
        queue:push(i)
      end
      for _, task in ipairs(tasks) do
        task:join(5)
      end
      table.sort(got)
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8 }, got)
    end)

    it("tells add, remove, empty, and not_empty after the adds", function()
      local told = cluster.record(queue, { "add", "remove", "empty", "not_empty" })
      queue:push(1, 2)
      queue:pop()
      queue:pop()
      queue:push(3)
      queue:clear()
      queue:clear()
      cluster.expect({
        "add 1",
        "add 2",
        "not_empty",
        "remove 1",
        "remove 2",
        "empty",
        "add 3",
        "not_empty",
        "empty",
      }, told)
    end)

    it("exports its items and imports them in place of what it held", function()
      queue:push("a", "b")
      local copy = queue:export()
      assert.same({ "a", "b" }, copy.items)
      queue:pop()
      queue:push("x")
      assert.is_true(queue:import(copy))
      assert.equal("a", queue:pop())
      assert.equal("b", queue:pop())
      assert.is_nil(queue:pop())
    end)
  end)

  describe("record", function()
    it("has fields, each set, inserted, updated and removed", function()
      local record = node:record("conf")
      assert.same({ true }, { record:set("rate", 1) })
      assert.same({ true, 1 }, { record:set("rate", 2) })
      assert.same({ false, 2 }, { record:insert("rate", 3) })
      assert.same({ false, 2 }, { record:update_if("rate", 4, 3) })
      assert.same({ true }, { record:update_if("rate", 4, 2) })
      assert.equal(4, record:get("rate"))
      assert.same({ true, 4 }, { record:remove("rate") })
      assert.same({ false }, { record:remove("rate") })
    end)

    it("takes whole objects: insert_all, get_all, update_all_if", function()
      local record = node:record("conf")
      assert.same({ true }, { record:insert_all({ a = 1, b = 2 }) })
      assert.same({ false, { b = 2 } }, { record:insert_all({ b = 9, c = 3 }) })
      assert.same({ a = 1, b = 2, c = 3 }, record:get_all())
      assert.same({ true }, { record:update_all_if({ a = 10, d = 4 }, { a = 1, b = 2 }) })
      local ok, found = record:update_all_if({ a = 11 }, { a = 10, b = 3 })
      assert.is_false(ok)
      assert.same({ a = 10, b = 2, c = 3, d = 4 }, found)
      assert.is_true(record:clear())
      assert.same({}, record:get_all())
    end)

    it("has a codec for each field that needs one", function()
      local record = node:record("user", { codecs = { photo = "raw", note = "json" } })
      record:set("photo", "\0\1\2")
      record:set("note", { text = "hi" })
      record:set("age", 7)
      assert.same({ photo = "\0\1\2", note = { text = "hi" }, age = 7 }, record:get_all())
      assert.same({ true }, { record:update_all_if({ age = 8 }, { note = { text = "hi" }, photo = "\0\1\2" }) })
      local ok = record:update_all_if({ age = 9 }, { note = { text = "ho" } })
      assert.is_false(ok)
      local _, err = record:set("photo", 12)
      assert.equal("codec", err.code)
    end)

    it("tells its changes field by field", function()
      local record = node:record("conf", { codecs = { b = "json" } })
      local told = cluster.record(record, { "insert", "update", "remove", "clear" })
      record:set("a", 1)
      record:set("b", "x")
      record:set("b", "y")
      record:remove("a")
      record:clear()
      cluster.expect({ "insert a 1", "insert b x", "update b x y", "remove a 1", "clear" }, told)
    end)

    it("lets a late creator's initial fields overwrite nothing", function()
      node:record("conf"):set("rate", 1)
      local late = node:record("conf", { initial = { rate = 10, burst = 5 } })
      assert.is_true(late:ready(5))
      assert.same({ rate = 1, burst = 5 }, late:get_all())
    end)

    it("is exported and imported", function()
      local record = node:record("conf", { codecs = { photo = "raw" } })
      record:insert_all({ a = 1, photo = "\0" })
      local copy = record:export()
      record:clear()
      assert.is_true(record:import(copy))
      assert.same({ a = 1, photo = "\0" }, record:get_all())
    end)
  end)

  describe("emitter", function()
    it("hands an event to those who listen, and to nobody else", function()
      local alerts, got = node:emitter("alerts"), {}
      assert.is_true(alerts:subscribe("fire", function(...)
        got[#got + 1] = { ... }
      end))
      assert.same({ { "n1" }, {} }, { alerts:publish("fire", "kitchen", { floor = 1 }) })
      assert.same({ { "kitchen", { floor = 1 } } }, got)
      assert.same({ {}, {} }, { alerts:publish("flood") })
      assert.is_true(alerts:notify("fire", "attic"))
      assert.is_false(alerts:notify("flood"))
      eventually("the notice", function()
        return #got == 2
      end)
      assert.same({ subscriptions = 1, received = 2, sent = 2, dropped = 0 }, alerts:stats())
    end)

    it("takes all of several tasks that begin to listen at once", function()
      local alerts, got, tasks = node:emitter("alerts"), 0, {}
      for i = 1, 5 do
        tasks[i] = holt.go(function()
          return alerts:subscribe("fire", function()
            got = got + 1
          end)
        end)
      end
      for _, task in ipairs(tasks) do
        assert.is_true(select(2, task:join(5)))
      end
      alerts:publish("fire")
      assert.equal(5, got)
      assert.equal(1, alerts.subscriptions:size())
    end)

    it("withdraws from one event without dropping another", function()
      local alerts = node:emitter("alerts")
      local function f() end
      alerts:subscribe("fire", f)
      alerts:subscribe("fire", print)
      alerts:subscribe("flood", f)
      assert.is_true(alerts:unsubscribe("fire", f))
      assert.is_true(alerts:has_subscribers("fire"))
      assert.is_true(alerts:unsubscribe("fire", print))
      assert.is_false(alerts:has_subscribers("fire"))
      assert.is_true(alerts:has_subscribers("flood", { own = true }))
      assert.equal("not_subscribed", select(2, alerts:unsubscribe("fire", f)).code)
      assert.same({ "flood" }, alerts.subscriptions:events())
      assert.is_true(alerts:clear())
      assert.equal(0, alerts.subscriptions:size())
    end)

    it("updates its metadata: under a wrong, a right and no condition", function()
      local alerts = node:emitter("alerts")
      assert.equal("not_subscribed", select(2, alerts:update_meta("fire", 1)).code)
      alerts:subscribe("fire", print, { meta = { floor = 1 } })
      alerts:subscribe("flood", print)
      assert.same({ false, { floor = 1 } }, { alerts:update_meta("fire", { floor = 2 }, { floor = 9 }) })
      assert.same({ true }, { alerts:update_meta("fire", { floor = 2 }, { floor = 1 }) })
      assert.same({ true }, { alerts:update_meta("fire", { floor = 3 }) })
      assert.same({ true }, { alerts:update_meta("flood", 5, nil) })
      assert.same({ n1 = { floor = 3 } }, alerts.subscriptions:get("fire"))
      assert.same({ "n1" }, alerts.subscriptions:nodes("fire"))
      assert.is_true(alerts.subscriptions:has("fire", "n1"))
      assert.is_false(alerts.subscriptions:has("fire", "n2"))
    end)

    it("tells subscriptions added, updated and removed", function()
      local alerts = node:emitter("alerts")
      local told = cluster.record(alerts.subscriptions, { "added", "updated", "removed" })
      alerts:subscribe("fire", print, { meta = 1 })
      alerts:update_meta("fire", 2)
      alerts:unsubscribe("fire")
      cluster.expect({ "added fire n1 1", "updated fire n1 2 1", "removed fire n1 2" }, told)
    end)

    it("has a codec for each event that needs one", function()
      local pack = { function(a, b)
        return a .. "," .. b
      end, function(bytes)
        return bytes:match("(.*),(.*)")
      end }
      local alerts, got = node:emitter("alerts", { codecs = { photo = "raw", pair = pack } }), {}
      for _, event in ipairs({ "photo", "pair" }) do
        alerts:subscribe(event, function(...)
          got[event] = { ... }
        end)
      end
      alerts:publish("photo", "\0\255")
      alerts:publish("pair", "a", "b")
      assert.same({ photo = { "\0\255" }, pair = { "a", "b" } }, got)
      assert.equal("codec", select(2, alerts:publish("photo", 1, 2)).code)
      local other = node:emitter("alerts", { codecs = { photo = "json" } })
      assert.equal("option_conflict", select(2, other:subscribe("photo", print)).code)
    end)

    it("counts a handler that raises as one that handled it, and makes it an error event", function()
      local alerts = node:emitter("alerts")
      local heard
      node.events:on("error", function(err)
        heard = err
      end)
      alerts:subscribe("fire", function()
        error("ouch")
      end)
      assert.same({ { "n1" }, {} }, { alerts:publish("fire") })
      assert.matches("ouch", eventually("the error", function()
        return heard
      end).message)
    end)
  end)

  describe("transaction", function()
    local stock, jobs
    before_each(function()
      stock, jobs = node:map("stock"), node:queue("jobs")
      stock:set_all({ apple = 2, pear = 5 })
    end)

    it("reads and writes several objects at one moment, and sees its own writes", function()
      local before = node:status().cluster.applied
      assert.same(
        { true, 1, 3, "ship" },
        {
          node:txn(function(t)
            t:set(stock, "apple", t:get(stock, "apple") - 1)
            t:insert(stock, "plum", 9)
            t:push(jobs, "ship", "bill")
            assert.same({ false, 5 }, { t:insert(stock, "pear", 1) })
            return t:get(stock, "apple"), t:size(stock), t:pop(jobs)
          end),
        }
      )
      assert.equal(before + 1, node:status().cluster.applied)
      assert.same({ apple = 1, pear = 5, plum = 9 }, stock:get_all({ "apple", "pear", "plum" }))
      assert.equal("bill", jobs:pop())
    end)

    it("runs again when what it read was changed before it was done", function()
      local first = stock:get("apple")
      local runs, seen = 0, {}
      local function body(t)
        runs = runs + 1
        seen[#seen + 1] = t:get(stock, "apple")
        t:set(stock, "apple", seen[#seen] + 1)
      end
      local tasks = {}
      for i = 1, 2 do
        tasks[i] = holt.go(function()
          return node:txn(body)
        end)
      end
      for _, task in ipairs(tasks) do
        assert.is_true(task:join(5))
      end
      assert.equal(first + 2, stock:get("apple"))
      -- nothing is applied between the first two runs: both read the same, one of them runs again
      assert.same({ first, first, first + 1 }, seen)
      assert.equal(3, runs)
    end)

    it("tells an emit and a notify of its body each time it runs, also when it proposes nothing", function()
      local alerts, heard = node:emitter("alerts"), 0
      assert.is_true(alerts:subscribe("seen", function()
        heard = heard + 1
      end))
      assert.is_false(pcall(node.txn, node, function(t)
        t:set(stock, "apple", 0)
        assert(alerts:notify("seen") and node:emit("seen"))
        error("no")
      end))
      assert.is_true(node:txn(function(t)
        t:set(stock, "apple", 7)
        assert(alerts:notify("seen"))
      end))
      eventually("both are heard", function()
        return heard == 2
      end)
      assert.equal(7, stock:get("apple"))
    end)

    it("loses no increment of many that run at once", function()
      local tasks = {}
      for i = 1, 20 do
        tasks[i] = holt.go(function()
          return node:txn(function(t)
            t:set(stock, "n", (t:get(stock, "n") or 0) + 1)
          end, { timeout = 20 })
        end)
      end
      for _, task in ipairs(tasks) do
        assert.is_true(task:join(20))
      end
      assert.equal(20, stock:get("n"))
    end)

    it("proposes nothing when the body raises, and refuses calls that must wait", function()
      local before = node:status().cluster.applied
      local ok, err = pcall(node.txn, node, function(t)
        t:set(stock, "apple", 0)
        error("no", 0)
      end)
      assert.is_false(ok)
      assert.equal("no", err)
      ok, err = pcall(node.txn, node, function()
        stock:set("apple", 0)
      end)
      assert.is_false(ok)
      assert.equal("cannot_block", err.code)
      assert.equal(before, node:status().cluster.applied)
    end)

    it("sees clears, removals and order in its own draft", function()
      assert.is_true(node:txn(function(t)
        t:clear(stock)
        assert.is_nil(t:get(stock, "apple"))
        assert.equal(0, t:size(stock))
        t:set(stock, "b", 2)
        t:set(stock, "a", 1)
        assert.same({ true, 2 }, { t:remove(stock, "b") })
        assert.same({ false }, { t:remove(stock, "b") })
        local keys = {}
        for key in t:pairs(stock) do
          keys[#keys + 1] = key
        end
        assert.same({ "a" }, keys)
      end))
      assert.same({ a = 1 }, stock:get_all({ "a", "b", "apple" }))
    end)
  end)

  describe("object", function()
    it("of another kind under one name is refused in words", function()
      node:queue("jobs"):push(1)
      local _, err = node:map("jobs"):set("a", 1)
      assert.equal("wrong_kind", err.code)
      assert.matches("there is a queue of this name", err.message)
      assert.equal("wrong_kind", select(2, node:map("jobs"):get("a")).code)
    end)

    it("with other options is refused in words", function()
      node:map("stock"):set("a", 1)
      local other = node:map("stock", { codec = "json" })
      local _, err = other:set("a", 2)
      assert.equal("option_conflict", err.code)
      assert.matches("values msgpack.*values json", err.message)
      assert.equal("option_conflict", select(2, other:get("a")).code)
    end)

    it("is one handle for one name and the same options", function()
      assert.equal(node:map("stock"), node:map("stock"))
      local json = node:map("stock", { codec = "json" })
      assert.equal(json, node:map("stock", { codec = "json" }))
      assert.is_true(json ~= node:map("stock", { codec = "raw" }))
      json:close()
      assert.is_true(json ~= node:map("stock", { codec = "json" }))
    end)

    it("lists itself among the objects", function()
      node:map("stock"):set("a", 1)
      local list = node:objects()
      assert.equal("stock", list[1].name)
      assert.equal("map", list[1].kind)
      assert.equal(1, list[1].size)
    end)

    it("refuses what is too large, and nothing is lost", function()
      local map = node:map("stock")
      map:set("a", 1)
      local _, err = map:set("a", ("x"):rep(40 * 1024 * 1024))
      assert.equal("too_large", err.code)
      _, err = map:set(("k"):rep(70000), 1)
      assert.equal("too_large", err.code)
      assert.equal(1, map:get("a"))
    end)
  end)

  it("object's misuse is told at the caller's line", function()
    local map = node:map("stock")
    for what, f in pairs({
      ["the key is nil"] = function()
        map:get(nil)
      end,
      ["the value is nil"] = function()
        map:set("a", nil)
      end,
      ["unknown option 'kodec', did you mean 'codec'"] = function()
        node:map("other", { kodec = "json" })
      end,
      ["a key codec must be canonical"] = function()
        node:map("other", { key_codec = "json" })
      end,
      ["codec 'jsn', which is not known, did you mean 'json'"] = function()
        node:map("other", { codec = "jsn" })
      end,
      ["there is no event 'updated', did you mean 'update'"] = function()
        map:on("updated", print)
      end,
      ["a name is a string of 1 to 255 bytes"] = function()
        node:queue("")
      end,
      ["expected a map or record, got a queue"] = function()
        node:txn(function(t)
          t:get(node:queue("q"), 1)
        end)
      end,
      ["unknown option 'timout', did you mean 'timeout'"] = function()
        map:set("a", 1, { timout = 1 })
      end,
    }) do
      local ok, err = pcall(f)
      assert.is_false(ok)
      assert.matches(what, tostring(err), 1, true)
      assert.matches("collections_spec.lua:", tostring(err), 1, true)
    end
  end)
end)

describe("a node without a cluster", function()
  cluster.guard(before_each, after_each)

  it("says so when it is asked for objects", function()
    local node = cluster.node({ name = "alone" })
    for _, method in ipairs({ "map", "queue", "record", "emitter", "ready", "members", "txn", "on_leader" }) do
      local ok, err = pcall(node[method], node, "x")
      assert.is_false(ok)
      assert.matches("in no cluster", err)
    end
  end)

  it("refuses a cluster that says neither how many nor whom to join", function()
    assert.error_matches(function()
      cluster.node({ cluster = { name = "x" } })
    end, "needs members = N")
    assert.error_matches(function()
      cluster.node({ cluster = { name = "x", members = 1, electon_timeout = 1 } })
    end, "did you mean 'election_timeout'")
  end)
end)
