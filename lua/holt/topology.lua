--- Topologies: the usual shapes, and the file from which `holt up` starts the nodes of one.
-- A shape is a list of { name =, connect = { names … } }: who dials whom.
-- @module holt.topology
local config = require("holt.config")
local errors = require("holt.errors")
local options = require("holt.options")

local M = {}

---@class holt.TopologyNode
---@field name string
---@field connect? string[] Names of other nodes of the file, or addresses.
---@field script? string Instead of the file's.
---@field listen? string Instead of host:base_port + its place - 1.
---@field env? table<string, string> Besides the file's.
---@field args? string[] For the script, instead of the file's.
---@field options? table Options of holt.node, besides the file's.

-- A shape that does not exist: say which do.
setmetatable(M, {
  __index = function(_, name)
    local near = options.nearest(tostring(name), { "chain", "ring", "star", "mesh", "tree" })
    error(("holt.topology has no shape '%s'%s there are: chain, ring, star, mesh, tree"):format(tostring(name),
      near and (", did you mean '" .. near .. "'?") or ";"), 2)
  end,
})

local function names_of(what, names)
  if type(names) ~= "table" or #names == 0 then
    error(("%s: a list of node names was expected, as in: %s { \"n1\", \"n2\", \"n3\" }"):format(what, what), 3)
  end
  local nodes, seen = {}, {}
  for i, item in ipairs(names) do
    local node = type(item) == "table" and item or { name = item }
    if type(node.name) ~= "string" then
      error(("%s: item %d must be a name, or a table with one"):format(what, i), 3)
    elseif seen[node.name] then
      error(("%s: two nodes are called '%s'; each needs a name of its own"):format(what, node.name), 3)
    end
    seen[node.name] = true
    local copy = {}
    for key, value in pairs(node) do
      copy[key] = value
    end
    copy.connect = {}
    nodes[i] = copy
  end
  return nodes
end

local function join(nodes, from, to)
  table.insert(nodes[from].connect, nodes[to].name)
end

---Each node dials the next: a - b - c.
---@param names string[]
---@return holt.TopologyNode[]
function M.chain(names)
  local nodes = names_of("chain", names)
  for i = 1, #nodes - 1 do
    join(nodes, i, i + 1)
  end
  return nodes
end

---A chain whose last node dials the first.
---@param names string[]
---@return holt.TopologyNode[]
function M.ring(names)
  local nodes = names_of("ring", names)
  for i = 1, #nodes - 1 do
    join(nodes, i, i + 1)
  end
  if #nodes > 2 then
    join(nodes, #nodes, 1)
  end
  return nodes
end

---All others dial the first.
---@param names string[]
---@return holt.TopologyNode[]
function M.star(names)
  local nodes = names_of("star", names)
  for i = 2, #nodes do
    join(nodes, i, 1)
  end
  return nodes
end

---Every two nodes have a link.
---@param names string[]
---@return holt.TopologyNode[]
function M.mesh(names)
  local nodes = names_of("mesh", names)
  for i = 1, #nodes do
    for j = i + 1, #nodes do
      join(nodes, i, j)
    end
  end
  return nodes
end

---The first is the root; each node dials its parent.
---@param names string[]
---@param opts? { branches?: integer } How many children a node has: 2.
---@return holt.TopologyNode[]
function M.tree(names, opts)
  options.check("tree", opts, { branches = { "integer", min = 1 } })
  local branches = opts and opts.branches or 2
  local nodes = names_of("tree", names)
  for i = 2, #nodes do
    join(nodes, i, (i - 2) // branches + 1)
  end
  return nodes
end

local FILE_RULES = {
  script = { "string" },
  base_port = { "integer", min = 1, max = 65535 },
  host = { "string" },
  nodes = { "table" },
  env = { "table" },
  args = { "list" },
  options = { "table" },
}
local NODE_RULES = {
  name = { "string" },
  connect = { "list" },
  script = { "string" },
  listen = { "string|list" },
  env = { "table" },
  args = { "list" },
  options = { "table" },
}

local function merged(...)
  local result = {}
  for i = 1, select("#", ...) do
    for key, value in pairs((select(i, ...)) or {}) do
      result[key] = value
    end
  end
  return result
end

local function beside(folder, path)
  if path:sub(1, 1) == "/" or folder == "" then
    return path
  end
  return folder .. path
end

---Check what a topology file returned and fill in what it leaves open.
---@param file table
---@param path string For messages; scripts are looked for beside it.
---@return { nodes: table[], by_name: table<string, table> }|nil
---@return holt.Error?
function M.resolve(file, path)
  local function fail(...)
    return errors.fail("invalid", path .. ": " .. string.format(...))
  end
  if type(file) ~= "table" then
    return fail("a topology file returns a table, this one returned a %s; begin with: return { script = ...", type(file))
  end
  local problem = options.problems(file, FILE_RULES)
  if problem then
    return fail("%s", problem)
  elseif type(file.nodes) ~= "table" or #file.nodes == 0 then
    return fail("nodes is missing; say for example: nodes = shape.ring { \"n1\", \"n2\", \"n3\" }")
  end
  local folder, by_name, nodes = path:match("^(.*/)[^/]*$") or "", {}, {}
  for i, item in ipairs(file.nodes) do
    local node = type(item) == "string" and { name = item } or item
    problem = type(node) ~= "table" and "a node is a name or a table" or options.problems(node, NODE_RULES)
    if problem or not node.name then
      return fail("node %d: %s", i, problem or "it has no name; add name = \"n" .. i .. "\"")
    elseif node.name == "" or node.name:find("[%s%c]") then
      return fail("the node name '%s' is empty, or has a space or a control character; use letters, digits, - and _", node.name)
    elseif by_name[node.name] then
      return fail("two nodes are called '%s'; each needs a name of its own", node.name)
    end
    local script = node.script or file.script
    if not script then
      return fail("node '%s' has no script; add script = \"node.lua\" to the file", node.name)
    elseif not node.listen and not file.base_port then
      return fail("base_port is missing; say for example: base_port = 7001")
    elseif not node.listen and file.base_port + i - 1 > 65535 then
      return fail("base_port = %d leaves no port for node %d, '%s': ports end at 65535", file.base_port, i, node.name)
    end
    problem = options.problems(merged(file.options, node.options), config.rules)
    if problem then
      return fail("options of node '%s': %s", node.name, problem)
    end
    local listen = node.listen or ("%s:%d"):format(file.host or "127.0.0.1", file.base_port + i - 1)
    local resolved = {
      name = node.name,
      script = beside(folder, script),
      listen = type(listen) == "table" and listen or { listen },
      wants = node.connect or {},
      connect = {},
      env = merged(file.env, node.env),
      args = node.args or file.args or {},
      options = merged(file.options, node.options),
    }
    nodes[i], by_name[node.name] = resolved, resolved
  end
  for _, node in ipairs(nodes) do
    for _, wanted in ipairs(node.wants) do
      local other = by_name[wanted]
      if not other and not wanted:find(":", 1, true) then
        local known = {}
        for name in pairs(by_name) do
          known[#known + 1] = name
        end
        local near = options.nearest(wanted, known)
        return fail("node '%s' connects to '%s', which is neither a node of this file%s nor an address", node.name,
          wanted, near and (" (did you mean '" .. near .. "'?)") or "")
      end
      table.insert(node.connect, other and other.listen[1] or wanted)
    end
    node.wants = nil
  end
  return { nodes = nodes, by_name = by_name, path = path }
end

---Read a topology file.
---@param path string
---@return table|nil topology
---@return holt.Error?
function M.load(path)
  local handle, why = io.open(path, "r")
  if not handle then
    return errors.fail("not_found", ("cannot read the topology file %s; give the path of a Lua file that returns one"):format(why))
  end
  local text = handle:read("a")
  handle:close()
  if not text then
    return errors.fail("not_found", path .. " is no file; give the path of a Lua file that returns a topology")
  end
  local chunk, broken = load(text, "@" .. path, "t")
  if not chunk then
    return errors.fail("script_error", tostring(broken))
  end
  local ok, result = pcall(chunk)
  if not ok then
    local message = tostring(result)
    return errors.fail("script_error", message:find(path, 1, true) and message or (path .. ": " .. message))
  end
  return M.resolve(result, path)
end

---What the launcher's file says about one node: options of holt.node.
---@param topology table From M.load.
---@param name string
---@return table|nil
---@return holt.Error?
function M.settings(topology, name)
  local node = topology.by_name[name]
  if not node then
    local known = {}
    for _, other in ipairs(topology.nodes) do
      known[#known + 1] = other.name
    end
    return errors.fail("not_found", ("%s has no node '%s'; there are: %s"):format(topology.path, name, table.concat(known, ", ")))
  end
  return merged(node.options, { name = node.name, listen = node.listen, connect = node.connect })
end

return M
