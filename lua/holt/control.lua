--- The control socket: what a running node answers to this user's other programs.
-- One JSON object a line: { "id": 1, "op": "eval", "code": "return 1+1" } gives { "id": 1, "ok": true, "value": [2] };
-- a failure gives { "id": 1, "ok": false, "error": { "code": …, "message": … } }. Operations: eval, status, emit, object, stop.
-- @module holt.control
local core = require("holt.core")
local errors = require("holt.errors")
local json = require("holt.json")
local log = require("holt.log")
local options = require("holt.options")

local M = {}

local DEPTH_MAX = 64

-- --- Values to JSON ---------------------------------------------------------------------------------------------

-- The text of any value; its __tostring may raise, or give no text.
local function text_of(value)
  local ok, text = pcall(tostring, value)
  return ok and text or ("a %s whose __tostring raises"):format(type(value))
end

local function strange(value)
  return { ["$type"] = math.type(value) or type(value), text = text_of(value) }
end

local convert

local function convert_table(value, depth, seen)
  if seen[value] or depth > DEPTH_MAX then
    return { ["$type"] = "table", text = seen[value] and "a table that holds itself" or "a table nested too deep" }
  end
  seen[value] = true
  local result, count = {}, 0
  for _ in next, value do -- what it holds, whatever its metamethods say
    count = count + 1
  end
  if count > 0 and count == rawlen(value) then
    for i = 1, count do
      result[i] = convert(rawget(value, i), depth + 1, seen)
    end
  elseif count == 0 then
    result = value -- an empty array or object stays what it was
  else
    for key, item in next, value do
      local name = type(key) == "string" and key or text_of(key)
      result[name] = convert(item, depth + 1, seen)
    end
  end
  seen[value] = nil
  return result
end

function convert(value, depth, seen)
  local kind = type(value)
  if kind == "nil" or value == json.null then
    return json.null
  elseif kind == "table" then
    return convert_table(value, depth, seen)
  elseif kind == "boolean" or (kind == "number" and value == value and value ~= math.huge and value ~= -math.huge) then
    return value
  elseif kind == "string" and utf8.len(value) then
    return value
  elseif kind == "string" then
    return { ["$type"] = "bytes", text = (value:gsub("[^\32-\126]", function(c)
      return ("\\x%02x"):format(c:byte())
    end)) }
  end
  return strange(value)
end

---A value as JSON can say it: nil becomes null; functions, objects, NaN and the like become { "$type", "text" }.
---@param value any
---@return any
function M.to_json_value(value)
  return convert(value, 1, {})
end

local function list_of(count, ...)
  local list = {}
  for i = 1, count do
    list[i] = M.to_json_value((select(i, ...)))
  end
  return count > 0 and list or json.array({})
end

local function error_of(value)
  if errors.is(value) then
    return { code = value.code, message = value.message, hint = value.hint, node = value.node }
  end
  return { code = "script_error", message = text_of(value) }
end

-- --- Operations -------------------------------------------------------------------------------------------------

local operations = {}

local function environment(context)
  return setmetatable({}, {
    __index = function(_, key)
      local value = _G[key]
      if value == nil and key == "node" then
        return context.nodes[#context.nodes]
      elseif value == nil and key == "holt" then
        return require("holt")
      end
      return value
    end,
    __newindex = _G,
  })
end

---Run code: as an expression first, then as statements. Returns what it returns; raises what it raises.
function operations.eval(context, request)
  if type(request.code) ~= "string" then
    error(errors.new("invalid", "eval needs \"code\", a text of Lua"), 0)
  end
  local env = environment(context)
  local chunk = load("return " .. request.code, "=eval", "t", env)
  local problem
  if not chunk then
    chunk, problem = load(request.code, "=eval", "t", env)
  end
  if not chunk then
    error(errors.new("script_error", tostring(problem)), 0)
  end
  return chunk()
end

function operations.status(context)
  local node = context.nodes[#context.nodes]
  local status = node and node:status() or {}
  status.pid = core.pid()
  return status
end

function operations.emit(context, request)
  local node = context.nodes[#context.nodes]
  if not node then
    error(errors.new("not_found", "the script has made no node yet"), 0)
  elseif type(request.subject) ~= "string" then
    error(errors.new("invalid", "emit needs \"subject\", a text, and may have \"args\", a list"), 0)
  end
  local arguments = request.args or {}
  local count = #arguments
  for i = 1, count do
    if arguments[i] == json.null then
      arguments[i] = nil
    end
  end
  return assert(node:emit(request.subject, table.unpack(arguments, 1, count)))
end

---Shared objects and the membership: { "op": "object", "method": "get", "name": "stock", "key": "apple" }.
function operations.object(context, request)
  return require("holt.collections.shell").answer(context.nodes[#context.nodes], request)
end

function operations.stop(context)
  context.stop()
  return true
end

local function known_operations()
  local names = {}
  for name in pairs(operations) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

-- --- Requests ---------------------------------------------------------------------------------------------------

local function run(context, request)
  local operation = operations[request.op]
  if not operation then
    local near = type(request.op) == "string" and options.nearest(request.op, known_operations())
    error(errors.new("invalid", ("there is no op %q%s; there are: %s"):format(tostring(request.op),
      near and (", did you mean '" .. near .. "'?") or "", table.concat(known_operations(), ", "))), 0)
  end
  return operation(context, request)
end

local function answer_of(id, is_list, ok, ...)
  local answer = { id = id, ok = ok }
  if not ok then
    answer.error = error_of((...))
  elseif is_list then
    answer.value = list_of(select("#", ...), ...)
  else
    answer.value = M.to_json_value((...))
  end
  return assert(json.encode(answer))
end

---Answer one line.
---@param context { nodes: table[], stop: fun() }
---@param line string
---@return string
function M.answer(context, line)
  local request, problem = json.decode(line)
  if type(request) ~= "table" then
    local words = problem and tostring(problem) or "it is no object"
    return answer_of(json.null, false, false,
      errors.new("invalid", "the request is not understood: " .. words .. "; send one JSON object a line"))
  end
  local id = request.id == nil and json.null or request.id
  local ok, text = pcall(answer_of, id, request.op == "eval", pcall(run, context, request))
  if ok then
    return text
  end
  return answer_of(id, false, false, text)
end

---Answer requests until the socket is closed; run this in a task.
---@param control table From holt.core.control_open.
---@param context { nodes: table[], stop: fun() }
function M.serve(control, context)
  while true do
    local client, line = control:next()
    if not client then
      return
    end
    core.go(function()
      control:answer(client, M.answer(context, line)) -- a client that hung up misses its answer
    end)
  end
end

---Open the control socket of a node and serve it.
---@param name string Of the node.
---@param path string|nil A path, "none", or nil for the usual place.
---@param context { nodes: table[], stop: fun() }
---@return table|nil control nil when "none".
---@return holt.Error?
function M.open(name, path, context)
  if path == "none" then
    return nil
  end
  local place, unusable = path, nil
  if not place then
    place, unusable = core.control_path(name)
  end
  if not place then
    return nil, unusable
  end
  local control, err = core.control_open(place)
  if not control then
    return nil, err
  end
  core.go(M.serve, control, context)
  log.debug("control socket at %s", place)
  return control
end

-- --- The other side ---------------------------------------------------------------------------------------------

---@class holt.ControlClient
---@field private stream table
---@field private last_id integer
local Client = {}
Client.__index = Client

---Call a control socket. One request at a time.
---@param path string
---@param timeout? number Seconds: 5.
---@return holt.ControlClient|nil
---@return holt.Error?
function M.connect(path, timeout)
  local stream, err = core.connect("unix:" .. path, timeout or 5)
  if not stream then
    return nil, err
  end
  return setmetatable({ stream = stream, last_id = 0 }, Client)
end

---Ask and wait for the answer.
---@param request table
---@param timeout? number Seconds: no limit.
---@return any value The answer's value (of eval: a list), or nil.
---@return holt.Error?
---@return boolean|nil has_answered The error is the node's own answer; else it may have done what it was asked.
function Client:request(request, timeout)
  self.last_id = self.last_id + 1
  request.id = self.last_id
  local ok, err = self.stream:write(json.encode(request) .. "\n", timeout)
  if not ok then
    return nil, err
  end
  while true do
    local line
    line, err = self.stream:read_line(timeout)
    if not line then
      return nil, err
    end
    local answer = json.decode(line)
    if type(answer) ~= "table" then
      return errors.fail("protocol", "the control socket answered with no JSON object")
    elseif answer.id == self.last_id then -- else: late, of a request that timed out
      if answer.ok then
        return answer.value
      end
      return nil, core.mark_err(answer.error), true
    end
  end
end

function Client:close()
  self.stream:close()
end

return M
