local histories = require("spec.helper.histories")
local nodes = require("spec.helper.nodes")

-- Members in network namespaces of their own, joined by a bridge: cables are pulled and put back, packets are lost, late and out
-- of order. Only root can do that; scripts/netns runs this file and has seen that it can be done.
local SCRIPT = [[
  holt, workload = require "holt", dofile("spec/helper/workload.lua")
  node = holt.node { connect = CONNECT, insecure = true, request_timeout = 5,
    cluster = { name = "netns", CLUSTER, election_timeout = 0.3, heartbeat = 0.03 } }
]]
local PREFIX = os.getenv("HOLT_NETNS") -- of the namespaces, which are PREFIX1 to PREFIX4 and PREFIXhub
local HAS_NETEM = os.getenv("HOLT_NETEM") == "yes"
local CLIENTS = 24

local function run(format, ...)
  local command = format:format(...)
  assert(os.execute("unset LD_PRELOAD; " .. command), command)
end

describe("members in network namespaces", function()
  nodes.guard(before_each, after_each)

  -- The cable of member i: its end in the hub.
  local function cable(i, state)
    run("ip netns exec %shub ip link set port%d %s", PREFIX, i, state)
  end

  local function start()
    local members, addresses = {}, {}
    for i = 1, 3 do
      addresses[i] = ("%q"):format("10.77.0." .. i .. ":7000")
    end
    local connect = "{ " .. table.concat(addresses, ", ") .. " }"
    for i = 1, 4 do
      local is_voter = i <= 3
      members[i] = nodes.start({
        name = "n" .. i,
        prefix = { "ip", "netns", "exec", PREFIX .. i },
        listen = ("10.77.0.%d:7000"):format(i),
        script = SCRIPT:gsub("CONNECT", connect):gsub("CLUSTER", is_voter and "members = 3" or "voter = false, join = " .. connect),
        flags = { "--insecure", is_voter and "--data=" .. nodes.folder() .. "/n" .. i or nil },
      })
    end
    for _, member in ipairs(members) do
      member:eval("assert(node:ready(30))", 40)
    end
    return members
  end

  it("answer as one object each while cables are pulled and packets get lost", function()
    math.randomseed(tonumber(os.getenv("HOLT_SPEC_SEED")) or 1)
    local members = start()
    local client, file = members[4], nodes.folder() .. "/clients"
    client:eval("assert(workload.open_bank(node))")
    client:eval(("work = workload.start { node = node, path = %q, origin = 1, clients = %d } return true"):format(file, CLIENTS))
    local function go_on()
      local before = client:eval("return work.recorder.calls")
      client:wait_for(("work.recorder.calls > %d"):format(before + 200))
    end
    for _ = 1, math.max(2, math.floor(4 * nodes.scale)) do
      local victim = math.random(3)
      if HAS_NETEM then
        run(
          "ip netns exec %shub tc qdisc replace dev port%d root netem delay %dms 5ms loss %d%% reorder 20%% 50%%",
          PREFIX,
          math.random(4),
          math.random(6, 20),
          math.random(5)
        )
        go_on()
      end
      cable(victim, "down")
      members[victim]:wait_for("not node:leader()")
      go_on()
      cable(victim, "up")
      members[victim]:eval("assert(node:barrier(30))", 40)
      local refused = "work.recorder.late + (work.recorder.codes.no_quorum or 0)"
      local before = client:eval("return " .. refused)
      cable(4, "down") -- the clients alone
      client:wait_for(("%s > %d"):format(refused, before + 3))
      cable(4, "up")
      go_on()
    end
    client:eval("work.is_over = true return true")
    client:wait_for("work.running == 0", 60)
    assert.same({}, (client:eval(("return workload.finish(node, %q, 1000)"):format(file .. ".last"), 60)))
    local held
    for _, member in ipairs(members) do
      local its = member:eval("assert(node:barrier(30)) return workload.everything(node)", 40)
      held = held or its
      assert.equal(held, its)
    end
    local is_good, told = histories.check(histories.gather({ file, file .. ".last" }))
    print(told)
    assert.is_true(is_good, told)
    assert.same({}, (histories.check_emitters(histories.gather({ file .. ".emitter" }))))
  end)
end)
