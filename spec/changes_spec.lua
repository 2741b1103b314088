local cluster = require("spec.helper.cluster")
local core = require("holt.core")
local eventually = require("spec.helper.eventually")

-- A listener that parks until it is let go; `seen` has what it was told, in order.
local function parking()
  local seen, gate = {}, core.gate()
  return seen, gate, function(...)
    seen[#seen + 1] = (select("#", ...) == 1) and (...) or (select(select("#", ...), ...))
    gate:wait()
  end
end

describe("changes that listeners are too slow for", function()
  local nodes
  cluster.guard(before_each, after_each)
  before_each(function()
    nodes = cluster.start(1, { snapshot_threshold = 10 })
  end)

  it("are left out beyond events_max, counted, and told by resync; then all goes on", function()
    local node = nodes[1]
    local map = node:map("m", { events_max = 5 })
    local seen, gate, listener = parking()
    local resyncs, noted = {}, {}
    map:on("insert", listener)
    map:on("resync", function(missed)
      resyncs[#resyncs + 1] = { missed, map:size(), #seen }
    end)
    node.events:on("changes_missed", function(object, missed)
      noted[#noted + 1] = { object.name, missed }
    end)
    for i = 1, 20 do
      assert(map:set(("k%02d"):format(i), i))
    end
    eventually("five listeners", function()
      return #seen == 5
    end)
    assert.same({}, resyncs)
    gate:open()
    eventually("a resync", function()
      return #resyncs > 0
    end)
    assert.same({ { 10, 20, 10 } }, resyncs) -- five ran, five waited; who reads now sees all twenty
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, seen)
    assert.same({ { "m", 10 } }, noted)
    assert.equal(10, node:stats().missed_changes)
    assert(map:set("after", 21))
    eventually("the next change", function()
      return seen[11] == 21
    end)
    assert.equal(1, #resyncs)
  end)

  it("do not hold back another object's, nor who waits for an item of a queue", function()
    local node = nodes[1]
    local slow, other, queue = node:map("slow", { events_max = 3 }), node:map("other"), node:queue("q", { events_max = 3 })
    local seen, gate, listener = parking()
    slow:on("insert", listener)
    queue:on("add", listener)
    local told = {}
    other:on("insert", function(key)
      told[#told + 1] = key
    end)
    local popped = {}
    local taker = core.go(function()
      for i = 1, 10 do
        popped[i] = assert(queue:pop({ wait = 10 }))
      end
    end)
    for i = 1, 10 do
      assert(slow:set(i, i))
      assert(queue:push(i))
      assert(other:set(i, i))
    end
    assert(taker:join(10))
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, popped)
    eventually("all of the other map", function()
      return #told == 10
    end)
    assert.equal(6, #seen)
    gate:open()
    eventually("what waited", function()
      return #seen == 12
    end)
    assert.equal(8, node:stats().missed_changes)
  end)

  it("of one operation are bounded before any listener runs", function()
    local node = nodes[1]
    local map = node:map("m", { events_max = 100, max_batch_bytes = 1024 * 1024 })
    local count, missed = 0, nil
    map:on("insert", function()
      count = count + 1
    end)
    map:on("resync", function(n)
      missed = n
    end)
    local entries = {}
    for i = 1, 1000 do
      entries[i] = i
    end
    assert(map:set_all(entries))
    eventually("a resync", function()
      return missed
    end)
    assert.same({ 100, 900 }, { count, missed })
    assert(map:set("one", 1))
    eventually("the next change", function()
      return count == 101
    end)
  end)

  it("are told all, in order, up to the bound, whatever listeners raise", function()
    local node = nodes[1]
    local map = node:map("m")
    local seen, errors = {}, 0
    node.events:on("error", function()
      errors = errors + 1
    end)
    map:on("update", function(_, _, new)
      seen[#seen + 1] = new
      core.sleep(0.001)
      error("on purpose")
    end)
    map:set("k", 0)
    local entries = {}
    for i = 1, 3000 do
      entries[i] = core.go(function()
        return map:set("k", i)
      end)
    end
    for _, task in ipairs(entries) do
      assert(task:join(10))
    end
    eventually("all", function()
      return #seen == 3000 and errors == 3000
    end)
    for i = 1, 3000 do
      assert.equal(i, seen[i])
    end
    assert.equal(0, node:stats().missed_changes)
  end)

  local COUNT = 3000
  it("within a snapshot are not told one by one: resync says that the state was replaced", function()
    local map = nodes[1]:map("m")
    local writers = {}
    for i = 1, COUNT do -- more than the log keeps behind a snapshot
      writers[i] = core.go(function()
        return map:set(i, i)
      end)
    end
    for _, writer in ipairs(writers) do
      assert(writer:join(10))
    end
    local late = cluster.join("late")
    local resyncs, keys = {}, {}
    late:map("m"):on("resync", function(missed)
      resyncs[#resyncs + 1] = { missed = missed, size = late:map("m"):size() }
    end)
    late:map("m"):on("insert", function(key)
      keys[#keys + 1] = key
    end)
    assert(late:ready(10))
    assert(map:set("new", 1))
    eventually("the next change", function()
      return keys[#keys] == "new"
    end)
    assert.equal(COUNT, resyncs[#resyncs].size)
    assert.is_nil(resyncs[#resyncs].missed)
    assert.is_true(#keys < COUNT)
    assert.equal(0, late:stats().missed_changes)
  end)

  it("of an emitter's subscriptions are bounded too", function()
    local alerts = nodes[1]:emitter("alerts", { events_max = 2 })
    local seen, gate, listener = parking()
    local missed
    alerts.subscriptions:on("added", listener)
    alerts.subscriptions:on("resync", function(n)
      missed = n
    end)
    for i = 1, 6 do
      assert(alerts:subscribe("e" .. i, function() end))
    end
    gate:open()
    eventually("a resync", function()
      return missed
    end)
    assert.same({ 2, 4 }, { missed, #seen })
    assert.equal(6, alerts.subscriptions:size())
  end)
end)
