--- Shared maps: `node:map(name)`. Writes are linearizable and go through the log from any member; reads are local,
-- or linearizable where asked.
-- @module holt.collections.map
local codecs = require("holt.collections.codecs")
local core = require("holt.core")
local object = require("holt.collections.object")
local options = require("holt.options")

local M = {}

local OP = object.OP
local get, write = core.object_get, core.object_write
local check_key, check_value = object.check_key, object.check_value

local RULES = {
  codec = { "string|table" },
  key_codec = { "string|table" },
  value_codec = { "string|table" },
  equal = { "function" },
  initial = { "table" },
  request_timeout = { "seconds" },
  max_batch_bytes = { "integer", min = 1 },
  events_max = { "integer", min = 1 },
}
local EVENTS = { "insert", "update", "remove", "clear", "resync", "close" }

---@class holt.Map: holt.Object
local Map = object.class()

-- Whether conditions are decided by the entry itself; else `equal` runs here.
local function condition(self, op, plain, key, value, expected, timeout)
  if self.is_canonical then
    return write(self[1], op, timeout, key, value, expected)
  end
  return object.compare_and(self, self[1], plain, key, value, expected, timeout)
end

---The value under a key, or nil.
function Map:get(key, opts)
  if key == nil or key ~= key then
    check_key(self, "get", key)
  end
  if opts ~= nil then
    local ok, err = object.prepare(self, "get", opts)
    if not ok then
      return nil, err
    end
  end
  return get(self[1], key)
end

---The values of those keys that are there, by key.
function Map:get_all(keys, opts)
  object.check_keys(self, "get_all", keys)
  local ok, err = object.prepare(self, "get_all", opts)
  if not ok then
    return nil, err
  end
  local found = {}
  for _, key in ipairs(keys) do
    local value, problem = get(self[1], key)
    if problem then
      return nil, problem
    end
    found[key] = value
  end
  return found
end

---Put a value under a key: true and what was there.
function Map:set(key, value, opts)
  check_key(self, "set", key)
  check_value(self, "set", value)
  return write(self[1], OP.set, opts == nil and self.timeout or object.timeout(self, "set", opts), key, value)
end

---Put it there if nothing is: true, or false and what is there.
function Map:insert(key, value, opts)
  check_key(self, "insert", key)
  check_value(self, "insert", value)
  return write(self[1], OP.insert, opts == nil and self.timeout or object.timeout(self, "insert", opts), key, value)
end

---Put it there if `expected` is there: true, or false and what is there.
function Map:update_if(key, value, expected, opts)
  check_key(self, "update_if", key)
  check_value(self, "update_if", value)
  check_value(self, "update_if", expected, "expected value")
  local timeout = object.timeout(self, "update_if", opts)
  return condition(self, OP.update_if, "set", key, value, expected, timeout)
end

---Take a key out: true and what was there, or false.
function Map:remove(key, opts)
  check_key(self, "remove", key)
  return write(self[1], OP.remove, opts == nil and self.timeout or object.timeout(self, "remove", opts), key)
end

---Take it out if `expected` is there: true, or false and what is there.
function Map:remove_if(key, expected, opts)
  check_key(self, "remove_if", key)
  check_value(self, "remove_if", expected, "expected value")
  local timeout = object.timeout(self, "remove_if", opts)
  return condition(self, OP.remove_if, "remove", key, nil, expected, timeout)
end

-- Entries of a table as operations, in an order that is the same each time.
local function entries(op, given)
  local list = {}
  for key, value in pairs(given) do
    list[#list + 1] = { op = op, key = key, value = value }
  end
  table.sort(list, function(a, b)
    return tostring(a.key) < tostring(b.key)
  end)
  return list
end

---Put all entries of a table in: true and, by key, what was there.
function Map:set_all(given, opts)
  object.check_table(self, "set_all", given)
  return object.run(self, entries(OP.set, given), object.timeout(self, "set_all", opts), function(_, bytes, list)
    return true, object.by_key(list, bytes, self[1])
  end)
end

---Put those in whose key is not there: true, or false and, by key, what is there.
function Map:insert_all(given, opts)
  object.check_table(self, "insert_all", given)
  return object.run(self, entries(OP.insert, given), object.timeout(self, "insert_all", opts), function(done, bytes, list)
    for i = 1, #list do
      if not done[i] then
        return false, object.by_key(list, bytes, self[1])
      end
    end
    return true
  end)
end

---Take several keys out: true and, by key, what was there.
function Map:remove_all(keys, opts)
  object.check_keys(self, "remove_all", keys)
  local list = {}
  for i, key in ipairs(keys) do
    list[i] = { op = OP.remove, key = key }
  end
  return object.run(self, list, object.timeout(self, "remove_all", opts), function(_, bytes)
    return true, object.by_key(list, bytes, self[1])
  end)
end

local function loop(self, method, opts)
  object.must_prepare(self, method, opts)
  local next_entry, err, _, view = core.object_pairs(self[1])
  if not next_entry then
    error(err, 0)
  end
  return next_entry, view
end

---For each key and value, as they were when the loop began.
function Map:pairs(opts)
  local next_entry, view = loop(self, "pairs", opts)
  return next_entry, nil, nil, view
end

---For each key.
function Map:keys(opts)
  local next_entry, view = loop(self, "keys", opts)
  return next_entry, nil, nil, view
end

---For each value.
function Map:values(opts)
  local next_entry, view = loop(self, "values", opts)
  return function()
    return (select(2, next_entry()))
  end, nil, nil, view
end

function Map.internal.export_into(self, result)
  result.entries = {}
  for key, value in self:pairs() do
    table.insert(result.entries, { key, value })
  end
end

local function entry_problem(entry)
  if type(entry) ~= "table" or entry[1] == nil or entry[1] ~= entry[1] or entry[2] == nil then
    return "must be { key, value }"
  end
end

function Map.internal.check_import(self, given)
  object.check_export(self, given, "entries", entry_problem, 4)
end

function Map.internal.import_list(self, given)
  local list = {}
  for i, entry in ipairs(given.entries) do
    list[i] = { op = OP.set, key = entry[1], value = entry[2] }
  end
  return list
end

function Map.internal.changed(self, type, key, old, new, count, bytes)
  local events = self.events
  if type == "insert" then
    events:fire_bounded(bytes, "insert", key, new)
  elseif type == "update" then
    events:fire_bounded(bytes, "update", key, old, new)
  elseif type == "remove" then
    events:fire_bounded(bytes, "remove", key, old)
  elseif type == "clear" then
    events:fire_bounded(bytes, "clear")
  else
    events:miss(type == "resync" and count or nil)
  end
end

---Get or create; returns at once.
---@param node holt.Node
---@param name string
---@param given? table
---@param level integer
function M.new(node, name, given, level)
  given = options.check("node:map", given, RULES, level - 2)
  local known = node.cluster_settings.codecs
  local key = codecs.resolve("node:map", "key_codec", given.key_codec, known, level)
  local value_name = given.value_codec ~= nil and "value_codec" or "codec"
  local value = codecs.resolve("node:map", value_name, given[value_name], known, level)
  if not key.canonical then
    error(
      "node:map: a key codec must be canonical (equal keys, equal bytes): msgpack, raw, or a table with canonical = true",
      level
    )
  end
  local self = object.new(node, Map, name, { kind = "map", key = key, value = value, events = EVENTS, options = given })
  object.begin(self, entries(OP.insert, given.initial or {}), level)
  return self
end

return M
