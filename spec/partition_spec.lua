local cluster = require("spec.helper.cluster")
local cuttable = require("spec.helper.cuttable")
local eventually = require("spec.helper.eventually")
local holt = require("holt")

describe("five members, cut into two and three,", function()
  cluster.guard(before_each, after_each)

  local function start()
    local net, nodes, addresses = cuttable(), {}, {}
    for i = 1, 5 do
      addresses[i] = "place-" .. i
      nodes[i] = cluster.node({
        name = "n" .. i,
        transport = net.transport("n" .. i),
        listen = addresses[i],
        connect = i > 1 and table.move(addresses, 1, i - 1, 1, {}) or nil,
        backoff_max = 0.2,
        request_timeout = 2,
        cluster = { name = "cut", members = 5, election_timeout = 0.2, heartbeat = 0.02 },
      })
    end
    for _, node in ipairs(nodes) do
      assert(node:ready(10))
    end
    return net, nodes
  end

  -- With the leader on the smaller side, which has to give up office.
  it("acknowledge writes on one side only, and agree again once healed", function()
    local net, nodes = start()
    local leader = cluster.leader(nodes)
    table.sort(nodes, function(a, b)
      if (a == leader) ~= (b == leader) then
        return a == leader
      end
      return a.name < b.name
    end)
    local small, large = { nodes[1], nodes[2] }, { nodes[3], nodes[4], nodes[5] }
    assert.is_true(leader:map("m"):set("k", "before"))
    for _, node in ipairs(nodes) do
      assert(node:barrier(5))
    end
    local told = cluster.record(small[2].events, { "quorum_lost", "quorum_regained" })

    net.cut({ nodes[1].name, nodes[2].name }, { nodes[3].name, nodes[4].name, nodes[5].name })
    local refused = {}
    for i, node in ipairs(small) do
      local ok, err = node:map("m"):set("small" .. i, true, { timeout = 1 })
      assert.is_nil(ok)
      refused[i] = err
      assert.is_true(err.code == "no_quorum" or err.code == "unknown")
      assert.equal("before", node:map("m"):get("k"))
      assert.equal("no_quorum", select(2, node:map("m"):get("k", { linearizable = true, timeout = 0.3 })).code)
    end
    for i, node in ipairs(large) do
      assert.is_true(node:map("m"):set("large" .. i, true, { timeout = 5 }))
    end
    assert.is_true(large[1]:map("m"):set("k", "after"))
    cluster.expect({ "quorum_lost" }, told)

    net.heal()
    for _, node in ipairs(nodes) do
      assert.equal("after", node:map("m"):get("k", { linearizable = true, timeout = 10 }))
    end
    cluster.expect({ "quorum_lost", "quorum_regained" }, told)
    for i, err in ipairs(refused) do
      local there = nodes[3]:map("m"):get("small" .. i, { linearizable = true })
      if err.code == "no_quorum" then
        assert.is_nil(there) -- definitely not done
      else
        local done, why = err:outcome(10)
        assert.is_true(done or why.code == "not_found")
        assert.equal(done or nil, nodes[3]:map("m"):get("small" .. i, { linearizable = true }))
      end
    end
    eventually("equal states", function()
      local hash = nodes[1]:status().cluster.state_hash
      for _, node in ipairs(nodes) do
        if node:status().cluster.state_hash ~= hash then
          return false
        end
      end
      return true
    end)
    for i = 1, 3 do
      assert.is_true(nodes[1]:map("m"):get("large" .. i))
    end
  end)

  it("go on where the larger side has the leader: calls of clients there do not fail, nor does the return of the others", function()
    local net, nodes = start()
    local leader = cluster.leader(nodes)
    local small, large = {}, { leader }
    for _, node in ipairs(nodes) do
      if node ~= leader then
        table.insert(#small < 2 and small or large, node)
      end
    end
    local function names(list)
      local found = {}
      for i, node in ipairs(list) do
        found[i] = node.name
      end
      return found
    end
    local failed, count = {}, 0
    local is_over = false
    local task = holt.go(function()
      while not is_over do
        count = count + 1
        local ok, err = large[2]:map("m"):set("n", count)
        if not ok then
          failed[#failed + 1] = tostring(err)
        end
        holt.sleep(0.002)
      end
    end)
    net.cut(names(small), names(large))
    holt.sleep(1) -- five election time-outs
    net.heal()
    eventually("all in touch", function()
      for _, node in ipairs(nodes) do
        if node:leader() ~= cluster.leader(nodes).name then
          return false
        end
      end
      return true
    end)
    is_over = true
    task:join(5)
    assert.same({}, failed)
    assert.equal(count, small[1]:map("m"):get("n", { linearizable = true, timeout = 5 }))
  end)
end)

describe("a member that is removed in the middle of its calls", function()
  cluster.guard(before_each, after_each)

  it("calls none of them undone that was done", function()
    local nodes = cluster.start(3)
    local leader = cluster.leader(nodes)
    local victim = nodes[1] == leader and nodes[2] or nodes[1]
    local over, codes, tasks = false, {}, {}
    for i = 1, 40 do
      tasks[i] = holt.go(function()
        local count = 0
        while not over do
          count = count + 1
          local key = i .. "-" .. count
          local ok, err = victim:map("m"):set(key, true, { timeout = 1 })
          if not ok then
            codes[key] = err.code
            return
          end
        end
      end)
    end
    eventually("some writes", function()
      return leader:map("m"):size() > 200
    end)
    assert(leader:remove_member(victim.name))
    over = true
    for _, task in ipairs(tasks) do
      assert(task:join(10))
    end
    assert(leader:barrier(5))
    for key, code in pairs(codes) do
      if code ~= "unknown" then
        assert.is_nil(leader:map("m"):get(key), key .. " was done, but its caller was told " .. code)
      end
    end
    assert.is_true(next(codes) ~= nil)
  end)
end)
