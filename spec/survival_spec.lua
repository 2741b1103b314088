local nodes = require("spec.helper.nodes")

local SCRIPT = [[
  local holt = require "holt"
  node = holt.node {
    connect = CONNECT,
    cluster = { name = "survival", members = 3, election_timeout = 0.3, heartbeat = 0.03 },
  }
  map, queue = node:map("m"), node:queue("q")
]]

-- Three processes at fixed ports, each dialling the others; with folders if they shall keep what they hold.
local function start(has_data)
  local port, list = nodes.free_port_range(3), {}
  for i = 1, 3 do
    local others = {}
    for j = 1, 3 do
      if j ~= i then
        others[#others + 1] = ("%q"):format("127.0.0.1:" .. port + j - 1)
      end
    end
    list[i] = nodes.start({
      name = "n" .. i,
      listen = "127.0.0.1:" .. port + i - 1,
      script = SCRIPT:gsub("CONNECT", "{ " .. table.concat(others, ", ") .. " }"),
      flags = has_data and { "--data=" .. nodes.folder() .. "/n" .. i } or nil,
    })
  end
  for _, node in ipairs(list) do
    node:eval("assert(node:ready(20))")
  end
  return list
end

local function leader_of(list)
  local place = nodes.until_true(function()
    local name = list[1]:eval("return node:leader()")
    for i, node in ipairs(list) do
      if node.name == name then
        return i
      end
    end
  end)
  return list[place], place
end

describe("a cluster of three processes", function()
  nodes.guard(before_each, after_each)

  it("keeps every acknowledged write when all are killed at once, where it has folders", function()
    local list = start(true)
    for i = 1, 50 do
      assert.is_true(list[1 + i % 3]:eval(("return (map:set('k%d', %d))"):format(i, i)))
      assert.is_true(list[1 + i % 3]:eval(("return (queue:push(%d))"):format(i)))
    end
    for _, node in ipairs(list) do
      node.process:kill("KILL")
    end
    for _, node in ipairs(list) do
      node:wait()
    end
    for _, node in ipairs(list) do
      node:restart()
    end
    for _, node in ipairs(list) do
      node:eval("assert(node:ready(20))")
    end
    for i = 1, 50 do
      assert.equal(i, list[3]:eval(("return map:get('k%d', { linearizable = true })"):format(i)))
      assert.equal(i, list[1 + i % 3]:eval("return queue:pop()"))
    end
    assert.is_nil(list[1]:eval("return queue:pop()"))
  end)

  it("lets a sole survivor serve again once its peers return", function()
    local list = start(true)
    list[1]:eval("return map:set('a', 1)")
    list[2]:kill()
    list[3]:kill()
    assert.equal("no_quorum", list[1]:eval([[
      map:set('b', 1, { timeout = 1 })
      return select(2, map:set('c', 1, { timeout = 0.5 })).code]]))
    assert.equal(1, list[1]:eval("return map:get('a')"))
    list[2]:restart()
    assert.is_true(list[1]:eval("return (map:set('a', 2, { timeout = 10 }))"))
    list[3]:restart()
    list[3]:eval("assert(node:ready(20))")
    assert.equal(2, list[3]:eval("return map:get('a', { linearizable = true, timeout = 10 })"))
  end)

  it("tells `unknown` where it cannot know, and its outcome later; nothing is done twice", function()
    local list = start(false)
    local leader, place = leader_of(list)
    assert.is_true(leader:eval("return (queue:push('first'))"))
    local others = {}
    for i, node in ipairs(list) do
      if i ~= place then
        others[#others + 1] = node
        node:pause()
      end
    end
    local code = leader:eval([[
      local ok, err = queue:push('second', 'third')
      if ok == nil and err.code ~= 'unknown' then return err.code end
      pending = err
      return err.code]], 20)
    for _, node in ipairs(others) do
      node:resume()
    end
    assert.equal("unknown", code)
    assert.is_true(leader:eval("return (pending:outcome(20))"))
    local items = leader:eval([[
      local list = {}
      queue:size({ linearizable = true, timeout = 10 })
      for i, item in queue:pairs() do list[i] = item end
      return list]])
    assert.same({ "first", "second", "third" }, items)
  end)

  it("does not name a member as having handled an event that it listened to before it was started again", function()
    local list = start(true)
    list[1]:eval("return node:emitter('alerts'):subscribe('fire', function() end)")
    assert.same({ { "n1" }, {} }, { list[1]:eval("return node:emitter('alerts'):publish('fire')") })
    list[1]:kill()
    list[1]:restart()
    list[1]:eval("assert(node:barrier(20))", 30)
    assert.same({ {}, {} }, { list[1]:eval("return node:emitter('alerts'):publish('fire')") })
    assert.same({ {}, {} }, { list[2]:eval("return node:emitter('alerts'):publish('fire')") })
  end)

  it("takes no listener for one that is known when its withdrawal was asked for and came later than the answer", function()
    local list = start(false)
    local leader, place = leader_of(list)
    leader:eval([[
      alerts, heard = node:emitter("alerts", { request_timeout = 1 }), 0
      assert(alerts:subscribe("fire", function() heard = heard + 1 end)) return true]])
    local others = { list[place % 3 + 1], list[(place + 1) % 3 + 1] }
    for _, node in ipairs(others) do
      node:pause()
    end
    local code = leader:eval("return select(2, alerts:unsubscribe('fire')).code", 20)
    for _, node in ipairs(others) do
      node:resume()
    end
    assert.equal("unknown", code)
    nodes.until_true(function() -- the late withdrawal has come through
      return others[1]:eval("return not node:emitter('alerts'):has_subscribers('fire', { linearizable = true })")
    end)
    leader:eval("return alerts:subscribe('fire', function() heard = heard + 100 end, { timeout = 10 })", 20)
    others[1]:eval("assert(node:barrier(10))")
    assert.same({ { leader.name }, {} }, { others[1]:eval("return node:emitter('alerts'):publish('fire')") })
    assert.equal(100, leader:eval("return heard"))
  end)

  it("pops each item once while leaders are killed and started again", function()
    local list = start(false)
    list[1]:eval([[for i = 1, 100 do assert(queue:push(i)) end]])
    local _, place = leader_of(list)
    local popper = list[place % 3 + 1]
    popper:eval([[
      got, problems, is_over = {}, {}, false
      holt = require "holt"
      holt.go(function()
        while #got < 100 do
          local item, err = queue:pop { timeout = 5 }
          if err and err.code == 'unknown' then item, err = err:outcome(20) end
          if item then got[#got + 1] = item end
          if err then problems[#problems + 1] = tostring(err) end
          holt.sleep(0.005)
        end
        is_over = true
      end)
      return true]])
    list[place]:kill()
    nodes.until_true(function()
      return popper:eval("return is_over")
    end)
    local got = popper:eval("return got")
    for i = 1, 100 do
      assert.equal(i, got[i])
    end
    assert.is_nil(popper:eval("return queue:pop()"))
  end)
end)
