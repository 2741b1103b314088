local nodes = require("spec.helper.nodes")

local SCRIPT = [[
  local holt = require "holt"
  node = holt.node { connect = CONNECT,
    cluster = { name = NAME, members = MEMBERS, can_lead = CANLEAD, election_timeout = 0.3, heartbeat = 0.03 } }
  map = node:map("m")
  told = {}
  node.events:on("error", function(err) told[#told + 1] = err end)
]]

local base -- the first of the ports of this spec's nodes

-- Node number i; it dials all others of `peers`. `settings`: cluster, members, data, follows (never leads).
local function start(i, peers, settings)
  local connect = {}
  for _, j in ipairs(peers) do
    connect[#connect + 1] = j ~= i and ("%q"):format("127.0.0.1:" .. base + j) or nil
  end
  local values = {
    CONNECT = "{ " .. table.concat(connect, ", ") .. " }",
    NAME = ("%q"):format(settings.cluster or "formation"),
    MEMBERS = settings.members or 3,
    CANLEAD = tostring(not settings.follows),
  }
  return nodes.start {
    name = settings.name or "n" .. i,
    listen = "127.0.0.1:" .. base + i,
    script = SCRIPT:gsub("%u%u%u%u+", values),
    flags = settings.data and { "--data=" .. nodes.folder() .. "/data" .. i } or nil,
  }
end

local function cluster_of(node)
  return node:eval("return node:status().cluster")
end

-- All are members of one cluster, that many, and write.
local function assert_one(list, count)
  local ids = {}
  for i, node in ipairs(list) do
    assert.equal("true", node:eval("local ok, err = node:ready(30) return tostring(ok or err)", 40))
    assert.is_true(node:eval(("return (map:set('by%d', %d, { timeout = 20 }))"):format(i, i), 30))
  end
  for _, node in ipairs(list) do
    node:wait_for(("#node:members() == %d"):format(count))
    ids[cluster_of(node).id] = true
    assert.is_true(node:eval("return (node:barrier(20))", 30))
    for i in ipairs(list) do
      assert.equal(i, node:eval(("return map:get('by%d')"):format(i)))
    end
  end
  assert.is_nil(next(ids, (next(ids))), "more than one cluster")
end

describe("nodes that begin a cluster", function()
  nodes.guard(before_each, after_each)
  before_each(function()
    base = nodes.free_port_range(10)
  end)

  it("begin one, in whatever order they start, however long the last one waits", function()
    local everybody = { 1, 2, 3 }
    for round, order in ipairs { { 1, 2, 3 }, { 3, 1, 2 }, { 2, 3, 1 }, { 3, 2, 1 } } do
      local list = {}
      for place, i in ipairs(order) do
        list[place] = start(i, everybody, { data = round % 2 == 0 })
        if place < 3 then -- as long as one is missing there is no cluster, and it says so
          local text = list[place]:eval(("return tostring(select(2, node:ready(%s)))"):format(round == 1 and 1 or 0.1))
          assert.matches(place .. " of the 3 nodes that begin the cluster 'formation' are here: n" .. i, text, 1, true)
          assert.equal("empty", cluster_of(list[place]).state)
        end
      end
      assert_one(list, 3)
      for _, node in ipairs(list) do
        node:stop()
      end
      os.execute("rm -rf " .. nodes.folder() .. "/data*")
    end
  end)

  it("begin one when one of them is wiped and started again in between", function()
    local everybody = { 1, 2, 3 }
    local list = { start(1, everybody, { data = true }), start(2, everybody, { data = true }) }
    for _ = 1, 3 do
      list[2]:kill()
      os.execute("rm -rf " .. nodes.folder() .. "/data2")
      list[2]:restart()
    end
    list[3] = start(3, everybody, { data = true })
    list[2]:kill() -- whatever it had pledged by now is forgotten
    os.execute("rm -rf " .. nodes.folder() .. "/data2")
    list[2]:restart()
    assert_one(list, 3)
    -- and one that is wiped after the beginning joins what there is
    list[1]:kill()
    os.execute("rm -rf " .. nodes.folder() .. "/data1")
    list[1]:restart()
    assert_one(list, 3)
  end)

  it("are three of five where members = 3, and the others join", function()
    local everybody, list = { 1, 2, 3, 4, 5 }, {}
    for i = 1, 5 do
      list[i] = start(i, everybody, {})
    end
    assert_one(list, 5)
  end)

  it("wait in words where they were told different numbers of members", function()
    local a = start(1, { 1, 2 }, { members = 2 })
    local b = start(2, { 1, 2 }, { members = 3 })
    local words = "begins the cluster 'formation' with members = %d, this one with members = %d: give both the same number"
    a:wait_for(("told[1] and told[1].message:find(%q, 1, true)"):format(words:format(3, 2)))
    b:wait_for(("told[1] and told[1].message:find(%q, 1, true)"):format(words:format(2, 3)))
    assert.matches(words:format(3, 2), a:eval("return tostring(select(2, node:ready(0.1)))"), 1, true)
    assert.equal("empty", cluster_of(a).state)
  end)
end)

describe("nodes that never lead", function()
  nodes.guard(before_each, after_each)
  before_each(function()
    base = nodes.free_port_range(10)
  end)

  it("begin no cluster that they are the most of, and say so; they do once enough may lead", function()
    local everybody = { 1, 2, 3 }
    local list = { start(1, everybody, {}), start(2, everybody, { follows = true }), start(3, everybody, { follows = true }) }
    local words = "too many of the 3 nodes that begin the cluster 'formation' were started with can_lead = false (%s): "
      .. "let at least 2 of them lead, else nobody could go on after a loss"
    for _, node in ipairs(list) do
      local text = node:wait_for("told[1] and told[1].message")
      assert.is_true(text == words:format("n2, n3") or text == words:format("n3, n2"), text)
      assert.matches("too many of the 3 nodes", node:eval("return tostring(select(2, node:ready(0.1)))"), 1, true)
    end
    list[3]:stop()
    list[3] = start(3, everybody, {})
    assert_one(list, 3)
    -- a fourth of the other sort may join, a fifth not
    list[4] = start(4, { 1, 2, 3, 4 }, { follows = true })
    assert_one(list, 4)
    local fifth = start(5, { 1, 2, 3, 4, 5 }, { follows = true })
    local text = fifth:wait_for("told[1] and told[1].message")
    assert.matches("with 'n5' more than half of the voters were some that never lead", text, 1, true)
    -- and none that lead may go so that too few are left
    for call, node in pairs { ["leave()"] = list[1], ["remove_member('n1')"] = list[2] } do
      assert.same({ "invalid", true }, { node:eval(([[
        local _, err = node:%s
        return err.code, err.message:find("more than half of the voters were some that never lead (n", 1, true) ~= nil]]):format(call)) })
    end
    assert_one(list, 4)
  end)
end)

describe("two clusters that meet", function()
  nodes.guard(before_each, after_each)
  before_each(function()
    base = nodes.free_port_range(10)
  end)

  it("under one name stay two, and both sides are told; nothing of one gets into the other", function()
    local list = {}
    for i = 1, 6 do
      list[i] = start(i, i <= 3 and { 1, 2, 3 } or { 4, 5, 6 }, { data = true })
    end
    local first, second = { list[1], list[2], list[3] }, { list[4], list[5], list[6] }
    assert_one(first, 3)
    assert_one(second, 3)
    assert.is_true(list[1]:eval("return (map:set('whose', 'first'))"))
    assert.is_true(list[4]:eval("return (map:set('whose', 'second'))"))
    local ids = { cluster_of(list[1]).id, cluster_of(list[4]).id }
    assert.is_not.equal(ids[1], ids[2])
    list[1]:eval(("node:connect('127.0.0.1:%d')"):format(base + 4))
    for _, node in ipairs { list[1], list[4] } do
      node:wait_for("told[1] and told[1].code == 'foreign'")
      local words = "belongs to another cluster of the name 'formation'; they stay apart: give one of the two clusters another name"
      assert.matches(words, node:eval("return told[1].message"), 1, true)
      assert.matches(words, cluster_of(node).problem, 1, true)
      local shell = nodes.holt("status", "--control", node.control)
      assert.equal(0, (shell:wait()))
      assert.matches("problem  node 'n[14]' belongs to another cluster", shell:output("stdout"))
    end
    assert_one(first, 3)
    assert_one(second, 3)
    for i, node in ipairs(list) do
      assert.equal(ids[i <= 3 and 1 or 2], cluster_of(node).id)
      assert.equal(i <= 3 and "first" or "second", node:eval("return map:get('whose', { linearizable = true })"))
    end
  end)

  it("under two names stay apart; a node that is in none yet is told on arrival, and so is the other side", function()
    local a = start(1, {}, { members = 1 })
    assert_one({ a }, 1)
    local lost = start(2, { 1 }, { members = 3, cluster = "elsewhere" })
    lost:wait_for("told[1] and told[1].code == 'foreign'")
    a:wait_for("told[1] and told[1].code == 'foreign'")
    local words = "node 'n1' is of the cluster 'formation', this one of 'elsewhere'; they stay apart: where they shall be one"
    assert.matches(words, lost:eval("return told[1].message"), 1, true)
    assert.matches(words, lost:eval("return tostring(select(2, node:ready(0.1)))"), 1, true)
    assert.matches(words, cluster_of(lost).problem, 1, true)
    assert.matches("node 'n2' is of the cluster 'elsewhere', this one of 'formation'", a:eval("return told[1].message"), 1, true)
    assert.equal(1, a:eval("return #node:members()"))
  end)
end)
