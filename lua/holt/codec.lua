--- Codecs: how the arguments of an event become bytes. msgpack (the default), json, raw, or your own.
-- @module holt.codec
local core = require("holt.core")
local errors = require("holt.errors")
local json = require("holt.json")
local options = require("holt.options")
local schemas = require("holt.schema")

local M = {}

---A codec that we bring.
---@class holt.Codec
---@field encode fun(...: any): string|nil, holt.Error? Values to bytes; nil and an error when they have no form.
---@field decode fun(bytes: string): true|nil, ... `true` and the values, or nil and an error.
---@field id integer Its number in the frame.

---A codec of your own. Either function raises when it cannot do its work.
---@class holt.CustomCodec
---@field encode fun(...: any): string The arguments of emit to bytes.
---@field decode fun(bytes: string): ... Bytes to the arguments of handlers.
---@field id? integer Its number in the frame: 16 (the default) to 255, the same on every node.

-- The numbers of the codecs we bring, but protobuf, which is there only with a schema.
M.ids = { raw = 0, msgpack = 1, json = 2 }
M.protobuf_id = 3
M.first_custom_id = 16

M.null = core.null
M.array = json.array

M.msgpack = { id = 1, encode = core.msgpack_encode, decode = core.msgpack_decode }
M.json = { id = 2, encode = json.encode_values, decode = json.decode_values }
M.raw = {
  id = 0,
  encode = function(...)
    local bytes = ...
    if select("#", ...) ~= 1 or type(bytes) ~= "string" then
      return errors.fail("codec", "raw takes one string, nothing else")
    end
    return bytes
  end,
  decode = function(bytes)
    return true, bytes
  end,
}

---The codec of a schema's messages: two values, the name of a message and the message. Its name goes with the bytes.
---@param schema holt.Schema
---@return holt.Codec
function M.protobuf(schema)
  return {
    id = M.protobuf_id,
    encode = function(...)
      local name, value = ...
      if select("#", ...) ~= 2 or type(name) ~= "string" then
        return errors.fail("schema", "protobuf takes the name of a message and the message, nothing else")
      end
      local message, err = schema:message(name)
      if not message then
        return nil, err
      end
      local bytes
      bytes, err = message.encode(value)
      if not bytes then
        return nil, err
      end
      return string.pack("<s2", message.full_name) .. bytes
    end,
    decode = function(bytes)
      local ok, name, place = pcall(string.unpack, "<s2", bytes)
      if not ok then
        return errors.fail("schema", "the name of the message is cut off")
      end
      local message, err = schema:message(name)
      if not message then
        return nil, err
      end
      local value
      value, err = message.decode(bytes:sub(place))
      if not value then
        return nil, err
      end
      return true, message.name, value
    end,
  }
end

local rules = { encode = { "function" }, decode = { "function" }, id = { "integer", min = 16, max = 255 } }

-- A codec of the user's, whose functions take and return plain values, in the shape the runtime calls.
local function wrap(name, codec)
  return function(...)
    local ok, bytes, problem = pcall(codec.encode, ...)
    if not ok or type(bytes) ~= "string" then
      local cause = ok and (problem or ("encode gave a " .. type(bytes) .. ", not a string")) or bytes
      return errors.fail("codec", ("codec '%s': %s"):format(name, tostring(cause)), { cause = cause })
    end
    return bytes
  end, function(bytes)
    local results = table.pack(pcall(codec.decode, bytes))
    if not results[1] then
      return errors.fail("codec", ("codec '%s': %s"):format(name, tostring(results[2])), { cause = results[2] })
    end
    return table.unpack(results, 1, results.n) -- true, and the values
  end
end

-- Check a table { encode, decode, id? } and give its id and functions.
local function custom(name, codec, level)
  if type(codec) ~= "table" then
    error(("holt.node: codec '%s' must be a table { encode, decode }, but it is a %s"):format(name, type(codec)), level)
  end
  if schemas.is_message(codec) then
    error(("holt.node: codec '%s' is a message; give the node its schema and use the codec 'protobuf'"):format(name), level)
  end
  local given = { encode = codec.encode or codec[1], decode = codec.decode or codec[2], id = codec.id }
  if not given.encode or not given.decode then
    error(("holt.node: codec '%s' needs both functions, encode and decode"):format(name), level)
  end
  local problem = options.problems(given, rules)
  if problem then
    error(("holt.node: codec '%s': %s"):format(name, problem), level)
  end
  local encode, decode = wrap(name, given)
  return { id = given.id or M.first_custom_id, encode = encode, decode = decode }
end

-- The schema that the option means.
local function schema_of(given, level)
  if getmetatable(given) == schemas.Schema then
    return given
  end
  local schema, err
  if type(given) == "string" then
    schema, err = schemas.new(given)
  end
  if not schema then
    local why = err and err.message or "a schema is what holt.schema gives, a .proto text or the name of a file"
    error("holt.node: option 'schema': " .. why, level + 1)
  end
  return schema
end

---What `codec`, `codecs` and `subjects` of a node's options come to. Raises for misuse at `level`.
---@param settings table
---@param level integer
---@return { default: integer, customs: table<integer, table>, subjects: { [1]: string, [2]: integer }[] }
function M.plan(settings, level)
  level = level + 1
  local ids, customs = {}, { [M.ids.json] = M.json }
  for name, id in pairs(M.ids) do
    ids[name] = id
  end
  local function register(name, codec, depth) -- `depth` functions lie between this one and plan
    codec = custom(name, codec, level + depth + 2)
    if customs[codec.id] then
      error(
        ("holt.node: two codecs have the id %d; give each its own: id = 16 … 255, the same on all nodes"):format(codec.id),
        level + depth + 1
      )
    end
    ids[name], customs[codec.id] = codec.id, codec
  end
  if settings.schema ~= nil then
    ids.protobuf, customs[M.protobuf_id] = M.protobuf_id, M.protobuf(schema_of(settings.schema, level + 1))
  end
  for name, codec in pairs(settings.codecs or {}) do
    if type(name) ~= "string" or M.ids[name] or name == "protobuf" then
      error(("holt.node: '%s' cannot be the name of a codec of your own"):format(tostring(name)), level)
    end
    register(name, codec, 0)
  end
  local function resolve(what, codec)
    if type(codec) == "string" then
      if codec == "protobuf" and not ids[codec] then
        error(("holt.node: %s names the codec 'protobuf', which needs the option 'schema'"):format(what), level + 1)
      elseif not ids[codec] then
        local known = {}
        for name in pairs(ids) do
          known[#known + 1] = name
        end
        table.sort(known)
        local near = options.nearest(codec, known)
        error(
          ("holt.node: %s names the codec '%s', which is not known%s"):format(
            what,
            codec,
            near and (", did you mean '%s'?"):format(near) or ("; there are: " .. table.concat(known, ", "))
          ),
          level + 1
        )
      end
      return ids[codec]
    end
    register(what, codec, 1)
    return ids[what]
  end
  local plan = { default = M.ids.msgpack, customs = customs, subjects = {} }
  if settings.codec ~= nil then
    plan.default = resolve("option 'codec'", settings.codec)
  end
  for pattern, codec in pairs(settings.subjects or {}) do
    if type(pattern) ~= "string" then
      error("holt.node: option 'subjects' maps patterns to codecs: { ['sensor.>'] = 'raw' }", level)
    end
    local problem = core.subject_problem(pattern, true)
    if problem then
      error("holt.node: option 'subjects': " .. problem, level)
    end
    plan.subjects[#plan.subjects + 1] = { pattern, resolve(("subject '%s'"):format(pattern), codec) }
  end
  -- The pattern that says most decides: words before wildcards, longer before shorter.
  table.sort(plan.subjects, function(a, b)
    local wild_a, wild_b = a[1]:find("[*>]") ~= nil, b[1]:find("[*>]") ~= nil
    if wild_a ~= wild_b then
      return wild_b
    elseif #a[1] ~= #b[1] then
      return #a[1] > #b[1]
    end
    return a[1] < b[1]
  end)
  return plan
end

return M
