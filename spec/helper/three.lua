--- Three processes of one cluster, n1, n2, n3, for specs that go through its rows one by one.
local nodes = require("spec.helper.nodes")
local assert = require("luassert")

local M = {}

local SCRIPT = [[
  local holt = require "holt"
  local others = {}
  for address in (arg[1] or ""):gmatch("[^,]+") do others[#others + 1] = address end
  node = holt.node { connect = others, app_data = { zone = "eu" },
    cluster = { name = "three", members = 3, election_timeout = 0.3, heartbeat = 0.03, OPTIONS } }
  told = {}
  -- Writes down what a thing tells, as text.
  function listen(thing, names)
    for _, name in ipairs(names) do
      thing:on(name, function(...)
        local words = { name }
        for i = 1, select("#", ...) do words[#words + 1] = tostring((select(i, ...))) end
        told[#told + 1] = table.concat(words, " ")
      end)
    end
  end
  function clear_told() told = {} end
]]

---Start them and wait until all are members.
---@param options? string[] More settings of the cluster, by place.
---@param more? string What each runs besides, before it is a member.
function M.start(options, more)
  local list, addresses = {}, {}
  for i = 1, 3 do
    list[i] = nodes.start({
      name = "n" .. i,
      script = SCRIPT:gsub("OPTIONS", options and options[i] or "") .. (more or ""),
      args = { table.concat(addresses, ",") },
    })
    addresses[i] = list[i]:address()
  end
  for _, node in ipairs(list) do
    node:eval("assert(node:ready(20))")
  end
  return list[1], list[2], list[3], list
end

---Start three, and run this on each.
---@param text string
function M.start_with(text)
  local _, _, _, list = M.start()
  for _, node in ipairs(list) do
    node:eval(text)
  end
  return list[1], list[2], list[3], list
end

---Another process that joins them.
function M.join(name, of, options, more)
  local node = nodes.start({
    name = name,
    script = SCRIPT:gsub("members = 3", ("join = { %q }"):format(of:address())):gsub("OPTIONS", options or "") .. (more or ""),
  })
  node:eval("assert(node:ready(20))")
  return node
end

---What a node wrote down, once it is that.
function M.told(node, expected)
  nodes.until_true(function()
    return #(node:eval("return told")) >= #expected
  end, nil, function()
    return "told so far: " .. table.concat(node:eval("return told"), "; ")
  end)
  assert.same(expected, node:eval("return told"))
end

---The one that leads.
function M.leader_of(list)
  return nodes.until_true(function()
    for _, node in ipairs(list) do
      if node:eval("return node:is_leader()") then
        return node
      end
    end
  end)
end

return M
