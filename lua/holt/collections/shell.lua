--- What the control socket does with shared objects, for the shell: get, set, push, pop, keys, and the membership.
-- @module holt.collections.shell
local cluster = require("holt.cluster")
local core = require("holt.core")
local errors = require("holt.errors")
local object = require("holt.collections.object")

local M = {}

local CODECS = { [0] = "raw", "msgpack", "json" }

local function fail(code, format, ...)
  error(errors.new(code, format:format(...)), 0)
end

local function must(value, err)
  if value == nil and err then
    error(err, 0)
  end
  return value
end

-- The options that an object was made with, so that this handle agrees.
local function options_of(found)
  local options, place = found.options, 3
  if #options == 0 then
    return nil
  end
  local function codec(id)
    if not CODECS[id] then
      fail("unsupported", "%s '%s' has a codec of its script's own; open it in the script", found.kind, found.name)
    end
    return CODECS[id]
  end
  local given = {}
  if found.kind == "map" then
    given.key_codec, given.value_codec = codec(options:byte(1)), codec(options:byte(2))
  elseif found.kind ~= "emitter" then
    given.codec = codec(options:byte(2))
  end
  while place <= #options do
    local id, name
    id, name, place = string.unpack("<Bs1", options, place)
    given.codecs = given.codecs or {}
    given.codecs[name] = codec(id)
  end
  return given
end

-- A handle of the script's own, else one for this request alone: it is closed behind it, and the script never gets it.
local function handle_of(node, request, kind, options)
  local handle = cluster.open_objects(node, kind, request.name)[1]
  if not handle then
    handle = require("holt.collections." .. kind).new(node, request.name, options, 1)
    request.opened[#request.opened + 1] = handle
  end
  return handle
end

local function find(node, request)
  for _, found in ipairs(must(core.cluster_objects(node))) do
    if found.name == request.name then
      return handle_of(node, request, found.kind, options_of(found))
    end
  end
end

-- Whether something is there is for the others to confirm, unless only this node is asked.
local function confirm(node, request)
  if not request.is_local then
    must(node:barrier(request.timeout))
  end
end

-- A handle of the object, whatever its kind; of `default` when there is none yet.
local function open(node, request, default)
  local name = request.name
  if type(name) ~= "string" or name == "" then
    fail("invalid", "which object? give its name")
  elseif #name > 255 or name:find("\0", 1, true) then
    fail("invalid", "the name of an object has 1 to 255 bytes and no zero byte")
  end
  local handle = find(node, request)
  if handle then
    return handle
  end
  confirm(node, request)
  handle = find(node, request)
  if handle then
    return handle
  elseif not default then
    fail("not_found", "there is no object '%s'%s", name, request.is_local and " here" or "")
  end
  return handle_of(node, request, default)
end

local function check_kind(handle, ...)
  for _, kind in ipairs({ ... }) do
    if handle.kind == kind then
      return handle
    end
  end
  local kinds = {}
  for i, kind in ipairs({ ... }) do
    kinds[i] = object.a(kind)
  end
  fail("wrong_kind", "'%s' is %s, not %s", handle.name, object.a(handle.kind), table.concat(kinds, " or "))
end

local function read_options(request)
  return { linearizable = not request.is_local, timeout = request.timeout }
end

local methods = {}
M.methods = methods

---{ found, value } of a key, a field, or the head of a queue; all entries where no key is given.
function methods.get(node, request)
  local handle = check_kind(open(node, request), "map", "record", "queue")
  local options = read_options(request)
  local value
  if handle.kind == "queue" then
    value = must(handle:peek(options))
  elseif request.key == nil then
    must(handle:size(options))
    value = must(handle:export()).entries
  else
    value = must(handle:get(request.key, options))
  end
  return { found = value ~= nil, value = value }
end

---{ found, value }: what was there.
function methods.set(node, request)
  local handle = check_kind(open(node, request, "map"), "map", "record")
  if request.key == nil or request.value == nil then
    fail("invalid", "set needs a key and a value")
  end
  local done, old = handle:set(request.key, request.value, { timeout = request.timeout })
  must(done, old)
  return { found = old ~= nil, value = old }
end

---Whether it was there.
function methods.remove(node, request)
  local handle = check_kind(open(node, request), "map", "record")
  local done, old = handle:remove(request.key, { timeout = request.timeout })
  must(done, old)
  return { found = done, value = done and old or nil }
end

function methods.push(node, request)
  local handle = check_kind(open(node, request, "queue"), "queue")
  local timed = setmetatable({ timeout = request.timeout or handle.timeout }, { __index = handle }) -- push takes no options
  return must(timed:push(table.unpack(request.values or {})))
end

---{ found, value }. Only who waits for an item makes a queue of a name that nothing has.
function methods.pop(node, request)
  local handle = check_kind(open(node, request, (request.wait or 0) > 0 and "queue" or nil), "queue")
  local value = must(handle:pop({ wait = request.wait, timeout = request.timeout }))
  return { found = value ~= nil, value = value }
end

---The keys of a map or record, the events of an emitter; without a name the objects there are.
function methods.keys(node, request)
  if request.name == nil then
    confirm(node, request)
    return must(node:objects())
  end
  local handle = check_kind(open(node, request), "map", "record", "emitter")
  if handle.kind == "emitter" then
    return handle.subscriptions:events()
  end
  must(handle:size(read_options(request)))
  local list = {}
  for key in handle:pairs() do
    list[#list + 1] = key
  end
  return list
end

---The members; or take one out, or hand leadership over.
function methods.member(node, request)
  local options = { timeout = request.timeout }
  if request.action == "remove" then
    return must(node:remove_member(request.name, options))
  elseif request.action == "transfer" then
    return must(node:transfer(request.name, options))
  end
  return must(node:members())
end

---Answer one request { op = "object", method, … }; raises what goes wrong.
function M.answer(node, request)
  local method = methods[request.method]
  if not method then
    fail("invalid", "there is no method %q", tostring(request.method))
  elseif not node then
    fail("not_found", "the script has made no node yet")
  elseif not node.cluster_settings.is_member then
    fail("invalid", "node '%s' is in no cluster", node.name)
  end
  request.opened = {}
  local ok, result = pcall(method, node, request)
  for _, handle in ipairs(request.opened) do
    handle:close()
  end
  if not ok then
    error(result, 0)
  end
  return result
end

return M
