local histories = require("spec.helper.histories")
local nodes = require("spec.helper.nodes")

-- All members of a cluster replaced or started again, one after the other, while others work on its objects: no call fails.
local SCRIPT = [[
  holt, workload = require "holt", dofile("spec/helper/workload.lua")
  node = holt.node { connect = CONNECT, request_timeout = PATIENCE, cluster = { name = "rolling", CLUSTER } }
  node.events:on("leader_changed", function(new) print("leader " .. (new or "unknown")) end)
]]
local CLIENTS = 16 -- on each of two learners

describe("members that are replaced under load", function()
  nodes.guard(before_each, after_each)

  local members, clients, files, doors, steps

  local function quoted(addresses)
    local list = {}
    for i, address in ipairs(addresses) do
      list[i] = ("%q"):format(address)
    end
    return "{ " .. table.concat(list, ", ") .. " }"
  end

  local function addresses_of(list)
    local found = {}
    for i, member in ipairs(list) do
      found[i] = member:address()
    end
    return found
  end

  local function launch(name, connect, cluster, given)
    return nodes.start({
      name = name,
      listen = given.listen,
      script = SCRIPT:gsub("CONNECT", connect):gsub("PATIENCE", given.patience or 5):gsub("CLUSTER", cluster .. (given.settings or "")),
      flags = given.is_durable and { "--data=" .. nodes.folder() .. "/" .. name } or nil,
    })
  end

  -- `count` voters at ports in a row, and two learners with clients.
  local function start(count, given)
    local port = nodes.free_port_range(count)
    members, clients, files, doors, steps = {}, {}, {}, {}, {}
    for i = 1, count do
      doors[i] = ("127.0.0.1:%d"):format(port + i - 1)
    end
    for i = 1, count do
      given.listen = doors[i]
      members[i] = launch("n" .. i, quoted(doors), "members = " .. count, given)
    end
    given.listen = nil
    for i = 1, 2 do
      clients[i] = launch("c" .. i, quoted(doors), "voter = false, join = " .. quoted(doors), given)
      clients[i]:eval("assert(node:ready(30))", 40)
    end
    for _, member in ipairs(members) do
      member:eval("assert(node:ready(30))", 40)
    end
    clients[1]:eval("assert(workload.open_bank(node))")
    for i, client in ipairs(clients) do
      files[i] = nodes.folder() .. "/clients" .. i
      local code = "work = workload.start { node = node, path = %q, origin = %d, clients = %d, timeout = %s } return true"
      client:eval(code:format(files[i], i, CLIENTS, given.patience or 5))
    end
  end

  local function step(what, member)
    steps[#steps + 1] = ("%.2f %s %s"):format(clients[1]:eval("return holt.now()"), what, member.name)
  end

  local function go_on(count)
    for _, client in ipairs(clients) do
      local before = client:eval("return work.recorder.calls")
      client:wait_for(("work.recorder.calls > %d"):format(before + count))
    end
  end

  local function leader()
    return nodes.until_true(function()
      local name = clients[1]:eval("return node:leader()")
      for _, member in ipairs(members) do
        if member.name == name then
          return member
        end
      end
    end)
  end

  -- The leader first: that is the one whose going is felt.
  local function leader_first()
    local first = leader()
    local order = { first }
    for _, member in ipairs(members) do
      order[#order + 1] = member ~= first and member or nil
    end
    return order
  end

  local function replace(old, new)
    for i, member in ipairs(members) do
      if member == old then
        members[i] = new
      end
    end
  end

  local function finish()
    for _, client in ipairs(clients) do
      client:eval("work.is_over = true return true")
    end
    for _, client in ipairs(clients) do
      client:wait_for("work.running == 0", 60)
    end
    for _, client in ipairs(clients) do
      local codes, problems, failed = client:eval("return work.recorder.codes, work.recorder.problems, work.recorder.failed")
      assert.same({}, codes, ("calls failed:\n%s\nmeanwhile:\n%s"):format(table.concat(failed, "\n"), table.concat(steps, "\n")))
      assert.same({}, problems)
    end
    files[3] = nodes.folder() .. "/last"
    assert.same({}, (clients[2]:eval(("return workload.finish(node, %q, 1000)"):format(files[3]), 60)))
    local hash, held
    for _, list in ipairs({ members, clients }) do
      for _, member in ipairs(list) do
        local its_hash, its_state = member:eval([[
          assert(node:barrier(20))
          return node:status().cluster.state_hash, workload.everything(node)]])
        hash, held = hash or its_hash, held or its_state
        assert.equal(held, its_state)
        assert.equal(hash, its_hash)
      end
    end
    local is_good, told = histories.check(histories.gather(files))
    assert.is_true(is_good, told)
    local problems = histories.check_emitters(histories.gather({ files[1] .. ".emitter", files[2] .. ".emitter" }))
    assert.same({}, problems)
  end

  it("by new ones that join, while the old ones leave: five in memory", function()
    start(5, {})
    for i, old in ipairs(leader_first()) do
      local new = launch("m" .. i, quoted(addresses_of(members)), "join = " .. quoted(addresses_of(members)), {})
      new:eval("assert(node:ready(30))", 40)
      new:wait_for("node:role() == 'follower' or node:role() == 'leader'")
      go_on(100)
      step("leave", old)
      old:eval("assert(node:leave(20))", 30)
      replace(old, new)
      assert.equal(0, old:stop())
      go_on(100)
    end
    local names = {}
    for _, member in ipairs(members[1]:eval("return node:members()")) do
      names[#names + 1] = member.name
    end
    table.sort(names)
    assert.same({ "c1", "c2", "m1", "m2", "m3", "m4", "m5" }, names)
    finish()
  end)

  it("by new ones, after the old ones were killed and taken out from the shell: three in memory", function()
    start(3, {})
    for i, old in ipairs(leader_first()) do
      step("kill", old)
      old:kill()
      go_on(100)
      local rest = {}
      for _, member in ipairs(members) do
        rest[#rest + 1] = member ~= old and member or nil
      end
      local shell = nodes.holt("member", "remove", old.name, "--control", rest[1].control)
      assert.equal(0, shell:wait(), shell:output())
      local new = launch("m" .. i, quoted(addresses_of(rest)), "join = " .. quoted(addresses_of(rest)), {})
      new:eval("assert(node:ready(30))", 40)
      new:wait_for("node:role() == 'follower' or node:role() == 'leader'")
      replace(old, new)
      go_on(100)
    end
    finish()
  end)

  -- An election takes longer here than a call may: so the one that goes has handed over before.
  it("by themselves, started again after SIGTERM: three with folders, none of which is missed as a leader", function()
    start(3, { is_durable = true, patience = 5.5, settings = ", election_timeout = 6" })
    for _ = 1, 3 do
      for _, member in ipairs(leader_first()) do
        member.lines = {}
        local was_leader = leader() == member
        step(was_leader and "stop the leader" or "stop", member)
        assert.equal(0, member:stop())
        if was_leader then -- it knew who leads in its place before it went
          local last = member:output():match(".*leader (%w+)")
          assert.is_true(last ~= nil and last ~= member.name, member:output())
        end
        go_on(50)
        step("start", member)
        member:restart()
        member:eval("assert(node:ready(30))", 40)
        go_on(50)
      end
    end
    finish()
  end)
end)
