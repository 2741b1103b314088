local nodes = require("spec.helper.nodes")

-- A node joins a cluster with tens of megabytes of state while others write. The election time-out is the default: nobody's runs out.
local SCRIPT = [[
  holt = require "holt"
  node = holt.node { connect = CONNECT, cluster = { name = "large", CLUSTER, snapshot_threshold = 2000 } }
  stock = node:map("stock")
  leaders = {}
  node.events:on("leader_changed", function(new) leaders[#leaders + 1] = new or "none" end)
  function fill(from, to)
    for chunk = from, to, 1000 do
      local values = {}
      for i = chunk, math.min(chunk + 999, to) do values[("%08d"):format(i)] = ("v"):rep(100) .. i end
      assert(stock:set_all(values))
    end
  end
  work = { calls = 0, failures = {}, running = 0 }
  function work.start(callers)
    for i = 1, callers do
      work.running = work.running + 1
      holt.go(function()
        while not work.is_over do
          local key = ("%08d"):format(work.calls * 7919 % ENTRIES + 1)
          local done, err = stock:set(key, work.calls)
          work.calls = work.calls + 1
          if not done then work.failures[#work.failures + 1] = tostring(err) end
        end
        work.running = work.running - 1
      end)
    end
  end
]]
local ENTRIES = nodes.scale < 1 and 30000 or 200000

describe("a node that joins a large state", function()
  nodes.guard(before_each, after_each)

  local members, doors

  local function launch(name, cluster)
    return nodes.start({
      name = name,
      script = SCRIPT:gsub("CONNECT", "{ " .. table.concat(doors, ", ") .. " }"):gsub("CLUSTER", cluster):gsub("ENTRIES", ENTRIES),
    })
  end

  local function start()
    members, doors = {}, {}
    for i = 1, 3 do
      members[i] = launch("n" .. i, "members = 3")
      doors[i] = ("%q"):format(members[i]:address())
    end
    for _, member in ipairs(members) do
      member:eval("assert(node:ready(20))", 30)
    end
    members[1]:eval(("fill(1, %d)"):format(ENTRIES), 120)
    members[2]:eval("work.start(8)")
    members[2]:wait_for("work.calls > 3000") -- so that the log that a newcomer could begin with is gone
  end

  local function term()
    return members[1]:eval("return node:status().cluster.term")
  end

  local function check(late, former)
    members[2]:eval("work.is_over = true return true")
    members[2]:wait_for("work.running == 0")
    assert.same({}, (members[2]:eval("return work.failures")))
    assert.equal(former, term(), "there was an election")
    local hash = members[1]:eval("assert(node:barrier(20)) return node:status().cluster.state_hash")
    for _, node in ipairs({ late, members[2], members[3] }) do
      assert.equal(hash, (node:eval("assert(node:barrier(20)) return node:status().cluster.state_hash")))
    end
    assert.equal(ENTRIES, (late:eval("return stock:size()")))
    late:eval("assert(stock:set('last', 1))")
  end

  it("has all of it in the end; nobody is elected, no call fails", function()
    start()
    local former = term()
    local late = launch("late", "join = { " .. doors[1] .. " }")
    late:eval("assert(node:ready(60))", 70)
    late:wait_for("node:role() == 'follower'")
    assert.is_true((late:eval("return node:status().cluster.snapshot")) > 0) -- that is how it came
    check(late, former)
  end)

  it("may stand still in the midst of it for longer than an election takes", function()
    start()
    local former = term()
    local late = launch("late", "join = { " .. doors[1] .. " }")
    members[1]:wait_for("(function() for _, m in ipairs(node:members()) do if m.name == 'late' then return true end end end)()")
    late:pause()
    local before = members[2]:eval("return work.calls")
    members[2]:wait_for(("work.calls > %d"):format(before + 5000))
    members[2]:eval("holt.sleep(2) return true") -- four election time-outs
    late:resume()
    late:eval("assert(node:ready(60))", 70)
    late:wait_for("node:role() == 'follower'")
    check(late, former)
  end)
end)
