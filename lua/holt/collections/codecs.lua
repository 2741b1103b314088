--- Codecs of shared objects: one key or value to bytes and back, and which codec all members must agree on.
-- @module holt.collections.codecs
local codec = require("holt.codec")
local errors = require("holt.errors")
local json = require("holt.json")
local options = require("holt.options")
local schemas = require("holt.schema")

local M = {}

---@class holt.ObjectCodec
---@field id integer What is written into the entry, so that members notice when they disagree.
---@field canonical boolean Equal values have equal bytes.
---@field core integer|table What the C side takes: an id it knows, or { id, encode, decode }.
---@field encode? fun(...): string|nil, holt.Error? Several values, for events of an emitter.
---@field decode? fun(bytes: string): true|nil, ...

local RULES = {
  encode = { "function" },
  decode = { "function" },
  id = { "integer", min = 16, max = 255 },
  canonical = { "boolean" },
}

local RAW = { id = 0, canonical = true, core = 0 }
local MSGPACK = { id = 1, canonical = true, core = 1 }
local JSON = {
  id = 2,
  canonical = false,
  core = {
    id = 2,
    encode = json.encode,
    decode = function(bytes)
      local value, err = json.decode(bytes)
      if err then
        return nil, err
      end
      return true, value
    end,
  },
}
M.raw, M.msgpack, M.json = RAW, MSGPACK, JSON
local BUILT_IN = { raw = RAW, msgpack = MSGPACK, json = JSON }

-- A message of a schema: equal values have equal bytes, and it says itself what is wrong.
local function of_message(message)
  return {
    id = codec.protobuf_id,
    canonical = true,
    core = {
      id = codec.protobuf_id,
      encode = message.encode,
      decode = function(bytes)
        local value, err = message.decode(bytes)
        if value == nil then
          return nil, err
        end
        return true, value
      end,
    },
  }
end

local function wrap(name, given)
  return function(...)
    local ok, bytes = pcall(given.encode, ...)
    if not ok or type(bytes) ~= "string" then
      local why = ok and ("encode gave a " .. type(bytes) .. ", not a string") or tostring(bytes)
      return errors.fail("codec", ("%s: %s"):format(name, why))
    end
    return bytes
  end, function(bytes)
    local results = table.pack(pcall(given.decode, bytes))
    if not results[1] then
      return errors.fail("codec", ("%s: %s"):format(name, tostring(results[2])))
    end
    return table.unpack(results, 1, results.n)
  end
end

local function custom(what, name, given, level)
  local fields = { encode = given.encode or given[1], decode = given.decode or given[2] }
  fields.id, fields.canonical = given.id, given.canonical
  local problem = options.problems(fields, RULES)
  if not problem and not (fields.encode and fields.decode) then
    problem = "a codec of your own needs both functions, encode and decode"
  end
  if problem then
    error(("%s: %s: %s"):format(what, name, problem), level + 1)
  end
  local encode, decode = wrap(name, fields)
  local id = fields.id or 16
  return { id = id, canonical = fields.canonical == true, core = { id = id, encode = encode, decode = decode } }
end

---The codec that an option means: a name, or a table { encode, decode, id?, canonical? }.
---@param what string The function, for messages: "node:map"
---@param name string The option: "value_codec"
---@param given string|table|nil
---@param known table<string, table> Codecs the node was given by name.
---@param level integer
---@return holt.ObjectCodec
function M.resolve(what, name, given, known, level)
  if given == nil then
    return MSGPACK
  elseif schemas.is_message(given) then
    return of_message(given)
  elseif type(given) == "table" then
    return custom(what, name, given, level + 1)
  elseif BUILT_IN[given] then
    return BUILT_IN[given]
  elseif known[given] then
    return custom(what, name, known[given], level + 1)
  end
  local names = { "raw", "msgpack", "json" }
  for other in pairs(known) do
    names[#names + 1] = other
  end
  table.sort(names)
  local near = options.nearest(tostring(given), names)
  error(
    ("%s: option '%s' names the codec '%s', which is not known%s"):format(
      what,
      name,
      tostring(given),
      near and (", did you mean '%s'?"):format(near) or ("; there are: " .. table.concat(names, ", "))
    ),
    level + 1
  )
end

---What all members must agree on, as bytes: two ids, then a codec of its own for each field that has one.
---@param key holt.ObjectCodec
---@param value holt.ObjectCodec
---@param fields? table<string, holt.ObjectCodec>
---@return string
function M.agreement(key, value, fields)
  local parts, names = { string.char(key.id, value.id) }, {}
  for name in pairs(fields or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    parts[#parts + 1] = string.pack("<Bs1", fields[name].id, name)
  end
  return table.concat(parts)
end

---Whether two values are the same all the way down, as conditions see it: 9 and 9.0 differ.
---@param a any
---@param b any
---@return boolean
function M.same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return math.type(a) == math.type(b) and a == b
  end
  for key, value in pairs(a) do
    if not M.same(value, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

return M
