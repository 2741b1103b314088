local cluster = require("spec.helper.cluster")
local eventually = require("spec.helper.eventually")
local holt = require("holt")
local nodes_helper = require("spec.helper.nodes")

describe("three nodes of one cluster", function()
  local nodes
  cluster.guard(before_each, after_each)
  before_each(function()
    nodes = cluster.start(3)
  end)

  it("agree on a leader and on each other", function()
    local leader = cluster.leader(nodes)
    for _, node in ipairs(nodes) do
      eventually("the same leader", function()
        return node:leader() == leader.name
      end)
      local names = {}
      for i, member in ipairs(node:members()) do
        names[i] = member.name
      end
      table.sort(names)
      assert.same({ "n1", "n2", "n3" }, names)
      assert.equal(node == leader and "leader" or "follower", node:role())
      assert.equal(node == leader, node:is_leader())
    end
    assert.is_true(leader:status().cluster.quorum)
    assert.equal(3, leader:stats().members)
  end)

  it("take writes at any member, which sees them at once; others see them with a linearizable read", function()
    for i, node in ipairs(nodes) do
      assert.is_true(node:map("m"):set("k" .. i, i))
      assert.equal(i, node:map("m"):get("k" .. i))
      for _, other in ipairs(nodes) do
        assert.equal(i, other:map("m"):get("k" .. i, { linearizable = true }))
      end
    end
    local hash = function(node)
      return node:status().cluster.state_hash
    end
    eventually("equal states", function()
      return hash(nodes[1]) == hash(nodes[2]) and hash(nodes[2]) == hash(nodes[3])
    end)
  end)

  it("let one of two win a race for a key, and tell the other what is there", function()
    local results = {}
    for i = 1, 2 do
      local task = holt.go(function()
        return table.pack(nodes[i]:map("m"):insert("k", i))
      end)
      results[i] = task
    end
    local a, b = select(2, results[1]:join(5)), select(2, results[2]:join(5))
    a, b = a or results[1]:join(), b or results[2]:join()
    assert.is_true(a[1] ~= b[1])
    local winner = a[1] and 1 or 2
    assert.equal(winner, (a[1] and b or a)[2])
  end)

  it("let exactly one of two update from pending to running", function()
    nodes[1]:map("m"):set("job", "pending")
    local won = 0
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = holt.go(function()
        if nodes[i]:map("m"):update_if("job", "running" .. i, "pending") then
          won = won + 1
        end
      end)
    end
    for _, task in ipairs(tasks) do
      task:join(5)
    end
    assert.equal(1, won)
  end)

  it("tell one member of what others changed", function()
    local told = cluster.record(nodes[3]:map("m"), { "insert", "update", "remove", "clear" })
    nodes[1]:map("m"):set("a", 1)
    nodes[2]:map("m"):set("a", 2)
    nodes[1]:map("m"):remove("a")
    nodes[2]:map("m"):clear()
    cluster.expect({ "insert a 1", "update a 1 2", "remove a 2", "clear" }, told)
  end)

  it("pop each item of a queue once, whoever pops", function()
    local seen, count = {}, 0
    for i = 1, 30 do
      assert.is_true(nodes[1 + i % 3]:queue("q"):push(i))
    end
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = holt.go(function()
        while true do
          local item = nodes[i]:queue("q"):pop()
          if item == nil then
            return
          end
          seen[item], count = (seen[item] or 0) + 1, count + 1
        end
      end)
    end
    for _, task in ipairs(tasks) do
      task:join(10)
    end
    assert.equal(30, count)
    for i = 1, 30 do
      assert.equal(1, seen[i])
    end
  end)

  it("publish to those who listen, wherever, and tell who handled it", function()
    local got = {}
    for _, i in ipairs({ 1, 3 }) do
      assert.is_true(nodes[i]:emitter("e"):subscribe("fire", function(room)
        got[#got + 1] = i .. room
      end, { meta = i }))
    end
    local from = nodes[2]:emitter("e")
    eventually("both subscriptions", function()
      return from.subscriptions:size() == 2
    end)
    assert.same({ n1 = 1, n3 = 3 }, from.subscriptions:get("fire"))
    assert.same({ { "n1", "n3" }, {} }, { from:publish("fire", "x") })
    table.sort(got)
    assert.same({ "1x", "3x" }, got)
    nodes[1]:emitter("e"):unsubscribe("fire")
    eventually("one subscription", function()
      return from.subscriptions:size() == 1
    end)
    assert.same({ { "n3" }, {} }, { from:publish("fire", "y") })
    assert.is_true(from:notify("fire", "z"))
    eventually("the notice", function()
      return got[#got] == "3z"
    end)
  end)

  it("name those that did not answer a publish", function()
    nodes[1]:emitter("e", { request_timeout = 0.3 }):subscribe("fire", function()
      holt.sleep(2)
    end)
    nodes[3]:emitter("e"):subscribe("fire", function() end)
    local from = nodes[2]:emitter("e", { request_timeout = 0.3 })
    eventually("both subscriptions", function()
      return from.subscriptions:size() == 2
    end)
    local handled, silent, why = from:publish("fire")
    assert.same({ { "n3" }, { "n1" } }, { handled, silent })
    assert.same({ "timeout", true }, { why.n1.code, why.n1.may_have_run })
  end)

  it("hand leadership over by name; a task of the leader alone moves along", function()
    local runs, ends = {}, {}
    local offices = {}
    for i, node in ipairs(nodes) do
      offices[i] = node:on_leader(function()
        runs[#runs + 1] = node.name
        local closing <close> = setmetatable({}, { -- luacheck: ignore 211
          __close = function()
            ends[#ends + 1] = node.name
          end,
        })
        holt.sleep(1000)
      end)
    end
    local old = cluster.leader(nodes)
    eventually("the first run", function()
      return runs[1] == old.name
    end)
    local new = nodes[1] == old and nodes[2] or nodes[1]
    local told = cluster.record(new.events, { "leader", "state_changed" })
    assert.is_true(old:transfer(new.name))
    eventually("the second run", function()
      return runs[2] == new.name and ends[1] == old.name
    end)
    assert.equal("leader", told[#told - 1])
    assert.matches("^state_changed leader ", told[#told])
    for _, office in ipairs(offices) do
      assert.is_true(office:close())
      assert.is_false(office:close())
    end
    assert.equal(2, #runs)
    local _, err = old:transfer("nobody")
    assert.equal("not_found", err.code)
  end)

  it("go on without a leader that is gone, and see its return", function()
    local leader = cluster.leader(nodes)
    local rest = {}
    for _, node in ipairs(nodes) do
      if node ~= leader then
        rest[#rest + 1] = node
      end
    end
    rest[1]:map("m"):set("a", 1)
    leader:close()
    assert.is_true(rest[1]:map("m"):set("a", 2, { timeout = 5 }))
    assert.equal(2, rest[2]:map("m"):get("a", { linearizable = true, timeout = 5 }))
  end)

  it("without a majority answer no_quorum, in words, read on, and serve again once peers return", function()
    local map = nodes[1]:map("m")
    map:set("a", 1)
    local told = cluster.record(nodes[1].events, { "quorum_lost", "quorum_regained" })
    nodes[2]:close()
    nodes[3]:close()
    local _, err = map:set("a", 2, { timeout = 0.5 })
    assert.is_true(err.code == "no_quorum" or err.code == "unknown")
    eventually("quorum_lost", function()
      return told[1] == "quorum_lost"
    end)
    _, err = map:set("a", 3, { timeout = 0.2 })
    assert.equal("no_quorum", err.code)
    assert.matches("n2", err.message)
    assert.matches("n3", err.message)
    assert.is_truthy(map:get("a"))
    _, err = map:get("a", { linearizable = true, timeout = 0.2 })
    assert.equal("no_quorum", err.code)
    assert.is_false(nodes[1]:status().cluster.quorum)
  end)

  it("let a member leave, and tell of it", function()
    local told = cluster.record(nodes[2].events, { "member_left" })
    local left = cluster.record(nodes[3].events, { "left" })
    nodes[3]:emitter("e"):subscribe("fire", print)
    assert.is_true(nodes[3]:leave())
    cluster.expect({ "left" }, left)
    eventually("member_left", function()
      return told[1] and told[1]:find("^member_left n3 ")
    end)
    assert.is_true(nodes[2]:map("m"):set("a", 1))
    eventually("two members", function()
      return #nodes[1]:members() == 2
    end)
    assert.same({}, nodes[1]:emitter("e").subscriptions:nodes())
  end)

  it("take one back that has left, under a new id, with what it listens to", function()
    nodes[3]:emitter("e"):subscribe("fire", function() end)
    local before = nodes[3]:status().cluster.member
    assert.is_true(nodes[3]:leave())
    assert.equal("none", nodes[3]:role())
    assert.equal("no_quorum", select(2, nodes[3]:map("m"):set("a", 1, { timeout = 0.1 })).code)
    nodes[1]:map("m"):set("a", 2)
    assert.is_true(nodes[3]:join(nodes[1]:status().listen))
    assert.is_true(nodes[3]:ready(10))
    assert.equal(2, nodes[3]:map("m"):get("a", { linearizable = true }))
    assert.is_true(before ~= nodes[3]:status().cluster.member)
    eventually("its subscription", function()
      return nodes[1]:emitter("e").subscriptions:has("fire", "n3")
    end)
    assert.same({ { "n3" }, {} }, { nodes[1]:emitter("e"):publish("fire") })
  end)

  it("admit a fourth, which has all that was written before", function()
    nodes[1]:map("m"):set("a", 1)
    nodes[2]:queue("one"):push("only")
    nodes[3]:emitter("e"):subscribe("fire", function() end, { meta = "m" })
    local late = cluster.join("n4")
    assert.is_true(late:ready(10))
    assert.equal(1, late:map("m"):get("a", { linearizable = true }))
    assert.same({ n3 = "m" }, late:emitter("e").subscriptions:get("fire"))
    assert.same({ { "n3" }, {} }, { late:emitter("e"):publish("fire") })
    assert.equal("only", late:queue("one"):pop())
    eventually("four members", function()
      return #nodes[1]:members() == 4
    end)
  end)

  it("count commits and heartbeats for who listens", function()
    local commits, beats = 0, 0
    nodes[2].events:on("commit", function(index)
      commits = index
    end)
    local function beat()
      beats = beats + 1
    end
    nodes[2].events:on("heartbeat", beat)
    nodes[1]:map("m"):set("a", 1)
    assert.is_true(nodes[2]:barrier())
    assert.is_true(nodes[2]:applied(1))
    eventually("a commit and beats", function()
      return commits > 0 and beats >= 3
    end)
    nodes[2].events:off("heartbeat", beat)
  end)

  it("run transactions of several members one after the other", function()
    local tasks = {}
    for i = 1, 12 do
      local node = nodes[1 + i % 3]
      local map = node:map("m")
      tasks[i] = holt.go(function()
        return node:txn(function(t)
          t:set(map, "n", (t:get(map, "n") or 0) + 1)
        end, { timeout = 20 })
      end)
    end
    for _, task in ipairs(tasks) do
      assert.is_true(task:join(20))
    end
    assert.equal(12, nodes[1]:map("m"):get("n", { linearizable = true }))
  end)

  it("hold app_data of their own", function()
    local node = cluster.node({ name = "x", app_data = { zone = "eu" } })
    assert.same({ zone = "eu" }, node.app_data)
  end)
end)

describe("members of another sort", function()
  cluster.guard(before_each, after_each)
  after_each(nodes_helper.stop_all) -- and their folder

  it("are learners, which have everything and count nowhere, and voters that never lead", function()
    local node = cluster.start(1)[1]
    node:map("m"):set("a", 1)
    local learner = cluster.join("learner", { voter = false })
    local follower = cluster.join("follower", { can_lead = false })
    assert.is_true(learner:ready(10))
    assert.is_true(follower:ready(10))
    assert.equal("learner", learner:role())
    assert.equal("follower", follower:role())
    assert.equal(1, learner:map("m"):get("a", { linearizable = true }))
    assert.is_true(learner:map("m"):set("a", 2))
    assert.equal(2, follower:map("m"):get("a", { linearizable = true }))
    for name, why in pairs({ learner = "it is a learner", follower = "can_lead = false" }) do
      local _, err = node:transfer(name)
      assert.equal("invalid", err.code)
      assert.matches(why, err.message, 1, true)
    end
    learner:close() -- nobody's vote is missed
    assert.is_true(node:map("m"):set("a", 3))
  end)

  it("are refused in words when their settings, or their folder, cannot be", function()
    local folder = nodes_helper.folder()
    local first = cluster.node({ name = "first", listen = "folder-1", data = folder .. "/d", cluster = { members = 1 } })
    assert.is_true(first:ready(10))
    for what, options in pairs({
      ["heartbeat must be"] = { cluster = { members = 1, heartbeat = 1, election_timeout = 0.5 } },
      ["is in use by another"] = { cluster = { members = 1 }, data = folder .. "/d" },
      ["cannot open the folder"] = { cluster = { members = 1 }, data = "/proc/no/such" },
    }) do
      options.name = "x"
      assert.error_matches(function()
        cluster.node(options)
      end, what, 1, true)
    end
  end)

  it("of a cluster of another name do not mix, and say whom they wait for", function()
    cluster.start(1)
    local other = cluster.join("other", { name = "another" })
    local _, err = other:ready(0.3)
    assert.equal("no_quorum", err.code)
    assert.matches("in no cluster yet (empty): node 'n1' is of the cluster 'spec', this one of 'another'", err.message, 1, true)
  end)
end)
