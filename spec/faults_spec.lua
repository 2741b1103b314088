local nodes = require("spec.helper.nodes")

-- Three voters with folders, that are killed, paused and started again; two learners that are left alone and whose
-- tasks work on a map, a queue and a record all the while, and write down what each call came to.
local VOTER = [[
  local holt = require "holt"
  node = holt.node { connect = CONNECT, cluster = { name = "faults", members = 3, election_timeout = 0.3, heartbeat = 0.03 } }
]]
local CLIENT = [[
  holt = require "holt"
  node = holt.node { connect = CONNECT,
    cluster = { name = "faults", join = CONNECT, voter = false, election_timeout = 0.3, heartbeat = 0.03 } }
  map, queue, record = node:map("counters"), node:queue("jobs"), node:record("last")
  is_over, running = false, 0
  tally = { added = {}, open_adds = {}, pushed = {}, open_pushes = {}, popped = {}, open_pops = 0, errors = {}, calls = 0,
    late = 0 }

  -- What a call came to, its outcome asked for where it is unknown: true result…, or nil and the code.
  local function settle(done, value)
    tally.calls = tally.calls + 1
    if done == nil and value and value.code == "unknown" then
      tally.late = tally.late + 1
      done, value = value:outcome(30)
    end
    if done == nil and value then
      local code = value.code
      tally.errors[code] = (tally.errors[code] or 0) + 1
      return nil, code
    end
    return true, done, value
  end

  local function client(f)
    holt.go(function()
      running = running + 1
      while not is_over do
        f()
        holt.sleep(0.002)
      end
      running = running - 1
    end)
  end

  function begin(name)
    for i = 1, 6 do
      local key = "key" .. i % 3
      client(function() -- adds one, by looking and by condition
        local found, err = map:get(key, { linearizable = true, timeout = 3 })
        if err then return end
        local ok, done
        if found == nil then
          ok, done = settle(map:insert(key, 1, { timeout = 3 }))
        else
          ok, done = settle(map:update_if(key, found + 1, found, { timeout = 3 }))
        end
        if ok and done then
          tally.added[key] = (tally.added[key] or 0) + 1
        elseif not ok and done == "unknown" then
          tally.open_adds[key] = (tally.open_adds[key] or 0) + 1
        end
      end)
    end
    for i = 1, 2 do
      local serial = 0
      client(function()
        serial = serial + 1
        local item = name .. "-" .. i .. "-" .. serial
        local ok, done = settle(queue:push(item))
        if ok then
          tally.pushed[#tally.pushed + 1] = item
        elseif done == "unknown" then
          tally.open_pushes[item] = true
        end
      end)
      client(function()
        local item, err = queue:pop { timeout = 3 }
        if item == nil and err and err.code == "unknown" then
          item, err = err:outcome(30)
        end
        if item then
          tally.popped[#tally.popped + 1] = item
        elseif err and err.code == "unknown" then
          tally.open_pops = tally.open_pops + 1
        end
      end)
    end
    client(function()
      settle(record:set(name, tally.calls, { timeout = 3 }))
    end)
    return true
  end
]]

describe("members that are killed, paused and started again", function()
  nodes.guard(before_each, after_each)

  it("lose no acknowledged write, do nothing twice, and answer every call", function()
    local seed = tonumber(os.getenv("HOLT_SPEC_SEED")) or 1
    print("seed " .. seed)
    math.randomseed(seed)
    local port, addresses, voters, clients = nodes.free_port_range(3), {}, {}, {}
    for i = 1, 3 do
      addresses[i] = ("%q"):format("127.0.0.1:" .. port + i - 1)
    end
    local connect = "{ " .. table.concat(addresses, ", ") .. " }"
    for i = 1, 3 do
      local others = { table.unpack(addresses) }
      table.remove(others, i)
      voters[i] = nodes.start({
        name = "v" .. i,
        listen = "127.0.0.1:" .. port + i - 1,
        script = VOTER:gsub("CONNECT", "{ " .. table.concat(others, ", ") .. " }"),
        flags = { "--data=" .. nodes.folder() .. "/v" .. i },
      })
    end
    for i = 1, 2 do
      clients[i] = nodes.start({ name = "c" .. i, script = CLIENT:gsub("CONNECT", connect) })
      clients[i]:eval("assert(node:ready(20))")
    end
    for _, client in ipairs(clients) do
      client:eval(("return begin(%q)"):format(client.name))
    end

    local rounds = math.max(2, math.floor(10 * nodes.scale))
    for round = 1, rounds do
      local victim = voters[math.random(3)]
      local fault = math.random() < 0.5 and "kill" or "pause"
      if round >= rounds - 1 then
        fault = round == rounds and "all" or "stall"
      end
      local before = clients[1]:eval("return tally.calls")
      if fault == "kill" then
        victim:kill()
        nodes.until_true(function() -- the others go on
          return clients[1]:eval("return tally.calls") > before + 200
        end)
        victim:restart()
      elseif fault == "pause" then
        victim:pause()
        nodes.until_true(function()
          return clients[1]:eval("return tally.calls") > before + 200
        end)
        victim:resume()
      elseif fault == "stall" then -- no majority, for longer than a call may take
        voters[1]:pause()
        voters[2]:pause()
        nodes.until_true(function()
          return clients[1]:eval("return tally.late + (tally.errors.no_quorum or 0) > 0")
        end)
        voters[1]:resume()
        voters[2]:resume()
      else
        for _, voter in ipairs(voters) do
          voter.process:kill("KILL")
        end
        for _, voter in ipairs(voters) do
          voter:wait()
        end
        for _, voter in ipairs(voters) do
          voter:restart()
        end
      end
      for _, voter in ipairs(voters) do
        voter:eval("assert(node:ready(20))", 30)
      end
      local after = clients[2]:eval("return tally.calls")
      nodes.until_true(function()
        return clients[2]:eval("return tally.calls") > after + 200
      end)
    end

    local added, open_adds, pushed, open_pushes, popped, open_pops = {}, {}, {}, {}, {}, 0
    for _, client in ipairs(clients) do
      client:eval("is_over = true")
    end
    for _, client in ipairs(clients) do
      nodes.until_true(function()
        return client:eval("return running == 0")
      end, 60)
      local tally = client:eval("return tally")
      for key, count in pairs(tally.added) do
        added[key] = (added[key] or 0) + count
      end
      for key, count in pairs(tally.open_adds) do
        open_adds[key] = (open_adds[key] or 0) + count
      end
      table.move(tally.pushed, 1, #tally.pushed, #pushed + 1, pushed)
      table.move(tally.popped, 1, #tally.popped, #popped + 1, popped)
      for item in pairs(tally.open_pushes) do
        open_pushes[item] = true
      end
      open_pops = open_pops + tally.open_pops
    end
    for key, count in pairs(added) do
      local found = voters[1]:eval(("return node:map('counters'):get(%q, { linearizable = true })"):format(key))
      assert.is_true(found >= count, ("%s: %d additions were acknowledged, %d are there"):format(key, count, found))
      assert.is_true(found <= count + (open_adds[key] or 0), ("%s: %d additions, but %d are there"):format(key, count, found))
    end
    local rest = voters[2]:eval([[
      local list = {}
      node:queue("jobs"):size({ linearizable = true })
      for i, item in node:queue("jobs"):pairs() do list[i] = item end
      return list]])
    table.move(rest, 1, #rest, #popped + 1, popped)
    local seen = {}
    for _, item in ipairs(popped) do
      assert.is_nil(seen[item], item .. " came out twice")
      seen[item] = true
    end
    local lost = 0
    for _, item in ipairs(pushed) do
      lost = lost + (seen[item] and 0 or 1)
      seen[item] = nil
    end
    assert.is_true(lost <= open_pops, lost .. " acknowledged items are lost")
    for item in pairs(seen) do
      assert.is_true(open_pushes[item], item .. " was never pushed")
    end
    local hashes = {}
    nodes.until_true(function()
      for i, voter in ipairs(voters) do
        hashes[i] = voter:eval("return node:status().state_hash")
      end
      return hashes[1] == hashes[2] and hashes[2] == hashes[3]
    end)
    assert.is_true(#pushed > 50)
  end)
end)
