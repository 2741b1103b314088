local cluster = require("spec.helper.cluster")
local eventually = require("spec.helper.eventually")
local holt = require("holt")

-- What the examples of Hamok show, by their names.
describe("as Hamok's examples show:", function()
  cluster.guard(before_each, after_each)

  local function is_settled(nodes)
    local leader = cluster.leader(nodes)
    for _, node in ipairs(nodes) do
      if node:leader() ~= leader.name or #node:members() ~= #nodes then
        return false
      end
    end
    return true
  end

  it("common-3-peers: again and again a fresh node joins and the oldest leaves; members and leader follow", function()
    local nodes = cluster.start(3)
    for i = 4, 8 do
      local fresh = cluster.join("n" .. i, { join = { nodes[2]:status().listen[1] } })
      assert.is_true(fresh:ready(10))
      local oldest = table.remove(nodes, 1)
      assert.is_true(oldest:leave(5))
      oldest:close()
      nodes[3] = fresh
      eventually("all agree after round " .. i, function()
        return is_settled(nodes)
      end)
      assert.is_true(nodes[1 + i % 3]:map("m"):set("round", i))
    end
    assert.equal(8, nodes[1]:map("m"):get("round", { linearizable = true }))
  end)

  it("join-leave-rejoin: who leaves is told of, who returns too, and has everything", function()
    local nodes = cluster.start(3)
    local told = cluster.record(nodes[2].events, { "member_left", "member_joined" })
    nodes[2]:map("m"):set("a", 1)
    local address = nodes[2]:status().listen[1]
    assert.is_true(nodes[1]:leave(5))
    nodes[1]:close()
    eventually("the leaving", function()
      return told[1] and told[1]:find("^member_left n1 ")
    end)
    local back = cluster.join("n1", { join = { address } })
    assert.is_true(back:ready(10))
    eventually("the joining", function()
      return told[2] and told[2]:find("^member_joined n1 ")
    end)
    assert.equal(1, back:map("m"):get("a", { linearizable = true }))
  end)

  it("reelection: one of three leaves, the rest elect, it joins back", function()
    local nodes = cluster.start(3)
    for round = 1, 4 do
      local leader = cluster.leader(nodes)
      local place
      for i, node in ipairs(nodes) do
        place = node == leader and i or place
      end
      table.remove(nodes, place)
      assert.is_true(leader:leave(5))
      leader:close()
      local other = cluster.leader(nodes)
      assert.is_true(other:map("m"):set("round", round))
      local back = cluster.join(leader.name, { join = { other:status().listen[1] } })
      assert.is_true(back:ready(10))
      nodes[3] = back
    end
    assert.equal(4, nodes[3]:map("m"):get("round", { linearizable = true }))
  end)

  it("rollout: all members are replaced one by one, and no call fails", function()
    local nodes = cluster.start(3)
    local client, done, failed, is_over = nodes[3], 0, {}, false
    local task = holt.go(function()
      while not is_over do
        done = done + 1
        local ok, err = client:map("m"):set("n", done, { timeout = 5 })
        if not ok then
          failed[#failed + 1] = tostring(err)
        end
        holt.sleep(0.001)
      end
    end)
    for i = 1, 3 do
      local fresh = cluster.join("fresh" .. i, { join = { client:status().listen[1] } })
      assert.is_true(fresh:ready(10))
      client = fresh -- the call under way ends at the old one, which only then leaves
      local before = done
      eventually("a call at the new one", function()
        return done > before + 1
      end)
      assert.is_true(nodes[i]:leave(5))
      nodes[i]:close()
    end
    is_over = true
    task:join(10)
    assert.same({}, failed)
    assert.is_true(done > 10)
    assert.equal(done, client:map("m"):get("n", { linearizable = true }))
  end)

  it("waiting: before there is a quorum calls end at their time-out, and ready comes with the second node", function()
    local first = cluster.node({
      name = "w1",
      listen = "waiting-1",
      cluster = { name = "waiting", members = 2, election_timeout = 0.2, heartbeat = 0.02 },
    })
    local emitter = first:emitter("e", { request_timeout = 0.1 })
    local _, err = emitter:subscribe("x", print)
    assert.equal("no_quorum", err.code)
    assert.is_false(emitter:has_subscribers("x"))
    assert.is_false(emitter:notify("x"))
    assert.is_nil((first:ready(0.1)))
    local second = cluster.node({
      name = "w2",
      listen = "waiting-2",
      connect = "waiting-1",
      cluster = { name = "waiting", members = 2, election_timeout = 0.2, heartbeat = 0.02 },
    })
    assert.is_true(first:ready(5))
    assert.is_true(second:ready(5))
    assert.is_true(first:emitter("f"):subscribe("x", print))
  end)

  it("emitter-catchup, map-catchup: what is older than the log reaches a late node by a snapshot", function()
    local nodes = cluster.start(2, { snapshot_threshold = 300 })
    nodes[1]:emitter("e"):subscribe("fire", function() end, { meta = { early = true } })
    nodes[1]:map("m"):set("early", { "bird" })
    nodes[1]:queue("q"):push("one")
    local tasks = {}
    for i = 1, 40 do -- more than the log keeps behind a snapshot
      tasks[i] = holt.go(function()
        for k = 1, 50 do
          assert(nodes[2]:map("m"):set("k" .. i, k))
        end
      end)
    end
    for _, task in ipairs(tasks) do
      assert(task:join(20))
    end
    eventually("a log without its beginning", function()
      return cluster.leader(nodes):status().cluster.first > 5
    end)
    local late = cluster.join("late", { snapshot_threshold = 300 })
    local map = late:map("m")
    local told = cluster.record(map, { "update" })
    assert.is_true(late:ready(10))
    assert.same({ "bird" }, map:get("early", { linearizable = true }))
    assert.same({ n1 = { early = true } }, late:emitter("e").subscriptions:get("fire"))
    assert.equal("one", late:queue("q"):pop())
    assert.same({ { "n1" }, {} }, { late:emitter("e"):publish("fire") })
    nodes[1]:map("m"):set("early", "worm")
    eventually("an event of after the snapshot", function()
      return told[#told] and told[#told]:find("worm")
    end)
  end)

  it("queue-events: one producer, two consumers; what they pop is each item once, in order", function()
    local nodes = cluster.start(3)
    local told = cluster.record(nodes[3]:queue("q"), { "empty", "not_empty" })
    local got = { {}, {} }
    local consumers = {}
    for i = 1, 2 do
      consumers[i] = holt.go(function()
        while true do
          local item = nodes[i]:queue("q"):pop({ wait = 5 })
          if item == "end" then
            return
          end
          table.insert(got[i], item)
        end
      end)
    end
    for i = 1, 40 do
      nodes[3]:queue("q"):push(i)
    end
    nodes[3]:queue("q"):push("end", "end")
    for _, consumer in ipairs(consumers) do
      consumer:join(10)
    end
    local all = table.move(got[2], 1, #got[2], #got[1] + 1, { table.unpack(got[1]) })
    table.sort(all)
    assert.equal(40, #all)
    for i = 1, 40 do
      assert.equal(i, all[i])
    end
    eventually("the last empty", function()
      return told[#told] == "empty"
    end)
    for i, line in ipairs(told) do
      assert.equal(i % 2 == 1 and "not_empty" or "empty", line)
    end
  end)

  it("record-update-if: of several whole objects inserted, and of several updates under one condition, one wins", function()
    local nodes = cluster.start(3)
    local function race(f)
      local tasks, won = {}, 0
      for i, node in ipairs(nodes) do
        tasks[i] = holt.go(function()
          local ok = f(node:record("r"), i)
          won = won + (ok and 1 or 0)
        end)
      end
      for _, task in ipairs(tasks) do
        task:join(5)
      end
      return won
    end
    assert.equal(1, race(function(record, i)
      return record:insert_all({ name = "n" .. i, state = "new" })
    end))
    local before = nodes[1]:record("r"):get_all({ linearizable = true })
    assert.equal(1, race(function(record, i)
      return record:update_all_if({ name = "m" .. i }, before)
    end))
  end)

  it("a member in memory that is started again takes its own place under a new id", function()
    local nodes = cluster.start(3)
    nodes[1]:map("m"):set("a", 1)
    local address = nodes[1]:status().listen[1]
    nodes[3]:emitter("e"):subscribe("fire", print)
    nodes[3]:close()
    local again = cluster.node({
      name = "n3",
      listen = "again-" .. address,
      connect = { address },
      cluster = { name = "spec", members = 3, election_timeout = 0.2, heartbeat = 0.02 },
    })
    assert.is_true(again:ready(15))
    assert.equal(1, again:map("m"):get("a", { linearizable = true }))
    assert.equal(3, #again:members())
    assert.same({}, again:emitter("e").subscriptions:nodes())
  end)
end)
