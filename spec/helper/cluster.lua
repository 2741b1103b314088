--- Clusters within one process, over the memory transport: `cluster.guard(before_each, after_each)`, then
-- `cluster.start(3)`; every node is closed after each spec.
local core = require("holt.core")
local eventually = require("spec.helper.eventually")
local holt = require("holt")
local assert = require("luassert")

local M = {}

local nodes, serial = {}, 0

---One node; it is closed at the spec's end.
---@param options table
---@return holt.Node
function M.node(options)
  options.transport = options.transport or "memory"
  local node = holt.node(options)
  nodes[#nodes + 1] = node
  return node
end

local function settings(cluster, extra)
  for name, value in pairs(extra or {}) do
    cluster[name] = value
  end
  return cluster
end

---A cluster of `count` nodes n1, n2, … that are ready.
---@param count integer
---@param extra? table More settings of the cluster.
---@return holt.Node[]
function M.start(count, extra)
  serial = serial + 1
  local made = {}
  for i = 1, count do
    local address = ("cluster-%d-%d"):format(serial, i)
    made[i] = M.node({
      name = "n" .. i,
      listen = address,
      connect = i > 1 and { ("cluster-%d-1"):format(serial) } or nil,
      request_timeout = 2,
      cluster = settings({ name = "spec", members = count, election_timeout = 0.2, heartbeat = 0.02 }, extra),
    })
  end
  for _, node in ipairs(made) do
    assert(node:ready(10))
  end
  return made
end

---One more node that joins the cluster of the last start.
function M.join(name, extra)
  return M.node({
    name = name,
    listen = ("cluster-%d-%s"):format(serial, name),
    request_timeout = 2,
    cluster = settings({
      name = "spec",
      join = { ("cluster-%d-1"):format(serial) },
      election_timeout = 0.2,
      heartbeat = 0.02,
    }, extra),
  })
end

---The node that leads.
function M.leader(list)
  return eventually("a leader", function()
    for _, node in ipairs(list) do
      if node:is_open() and node:is_leader() then
        return node
      end
    end
  end)
end

---Take down what is told: a list of "name a b c".
function M.record(emitter, names)
  local told = {}
  for _, name in ipairs(names) do
    emitter:on(name, function(...)
      local words = { name }
      for i = 1, select("#", ...) do
        words[#words + 1] = tostring((select(i, ...)))
      end
      told[#told + 1] = table.concat(words, " ")
    end)
  end
  return told
end

---Wait until `told` has as many lines as `expected`, and compare.
function M.expect(expected, told)
  pcall(eventually, "events", function()
    return #told >= #expected
  end, 5)
  assert.same(expected, told)
end

function M.guard(before_each, after_each)
  before_each(function()
    nodes = {}
  end)
  after_each(function()
    for _, node in ipairs(nodes) do
      node:close()
    end
    nodes = {}
    eventually("the end of all tasks", function()
      return core.task_count() == 0
    end)
  end)
end

return M
