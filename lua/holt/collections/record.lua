--- Shared records: `node:record(name)`, one object with named fields, each with a codec of its own if it needs one.
-- @module holt.collections.record
local codecs = require("holt.collections.codecs")
local core = require("holt.core")
local errors = require("holt.errors")
local object = require("holt.collections.object")
local options = require("holt.options")

local M = {}

local OP, IF = object.OP, object.IF
local write = core.object_write

local RULES = {
  codec = { "string|table" },
  codecs = { "table" },
  equal = { "function" },
  initial = { "table" },
  request_timeout = { "seconds" },
  max_batch_bytes = { "integer", min = 1 },
  events_max = { "integer", min = 1 },
}
local EVENTS = { "insert", "update", "remove", "clear", "resync", "close" }

---@class holt.Record: holt.Object
local Record = object.class()

-- The box whose codec is that of the field.
local function box_of(self, field)
  return self.views[field] or self[1]
end

local function check_field(method, field)
  if type(field) ~= "string" then
    error(("record:%s: a field is named by a string, got %s"):format(method, type(field)), 3)
  end
end

local function check_fields(self, method, given, what)
  object.check_table(self, method, given, 4)
  for field in pairs(given) do
    if type(field) ~= "string" then
      error(("record:%s: %s must have strings as keys, got a %s"):format(method, what or "the table", type(field)), 3)
    end
  end
end

---A field, or nil.
function Record:get(field, opts)
  check_field("get", field)
  if opts ~= nil then
    local ok, err = object.prepare(self, "get", opts)
    if not ok then
      return nil, err
    end
  end
  return core.object_get(box_of(self, field), field)
end

---All fields, of one moment.
function Record:get_all(opts)
  local ok, err = object.prepare(self, "get_all", opts)
  if not ok then
    return nil, err
  end
  local next_field, problem, _, view = core.object_pairs(self.watched)
  if not next_field then
    return nil, problem
  end
  local all, closing <close> = {}, view -- luacheck: ignore 211
  for field, bytes in next_field do
    local good, value = core.object_decode(box_of(self, field), bytes)
    if not good then
      return nil, value
    end
    all[field] = value
  end
  return all
end

---For each field and its value, as they were when the loop began.
function Record:pairs(opts)
  local all, err = self:get_all(opts)
  if not all then
    error(err, 0)
  end
  return next, all, nil
end

---Set a field: true and what was there.
function Record:set(field, value, opts)
  check_field("set", field)
  object.check_value(self, "set", value)
  return write(box_of(self, field), OP.set, object.timeout(self, "set", opts), field, value)
end

---Set it if it is not there: true, or false and what is there.
function Record:insert(field, value, opts)
  check_field("insert", field)
  object.check_value(self, "insert", value)
  return write(box_of(self, field), OP.insert, object.timeout(self, "insert", opts), field, value)
end

---Set it if it is `expected`: true, or false and what is there.
function Record:update_if(field, value, expected, opts)
  check_field("update_if", field)
  object.check_value(self, "update_if", value)
  object.check_value(self, "update_if", expected, "expected value")
  local timeout, box = object.timeout(self, "update_if", opts), box_of(self, field)
  if self.canonical[field] == nil and self.is_canonical or self.canonical[field] then
    return write(box, OP.update_if, timeout, field, value, expected)
  end
  return object.compare_and(self, box, "set", field, value, expected, timeout)
end

---Take a field out: true and what was there, or false.
function Record:remove(field, opts)
  check_field("remove", field)
  return write(box_of(self, field), OP.remove, object.timeout(self, "remove", opts), field)
end

local function fields_of(self, op, given)
  local list = {}
  for field, value in pairs(given) do
    list[#list + 1] = { op = op, key = field, value = value, box = box_of(self, field) }
  end
  table.sort(list, function(a, b)
    return a.key < b.key
  end)
  return list
end

---Set each field that is not there: true, or false and those that were.
function Record:insert_all(given, opts)
  check_fields(self, "insert_all", given)
  local list = fields_of(self, OP.insert, given)
  return object.run(self, list, object.timeout(self, "insert_all", opts), function(done, bytes)
    local refused, is_any = {}, false
    for i = 1, #list do
      refused[i] = not done[i]
      is_any = is_any or refused[i]
    end
    if is_any then
      return false, object.by_key(list, bytes, self[1], refused)
    end
    return true
  end, false, true)
end

---Set several fields in one step: true and those that were there.
function Record:set_all(given, opts)
  check_fields(self, "set_all", given)
  local list = fields_of(self, OP.set, given)
  return object.run(self, list, object.timeout(self, "set_all", opts), function(_, bytes)
    return true, object.by_key(list, bytes, self[1])
  end, false, true)
end

-- Conditions on all fields of `expected`: by bytes where they are canonical, else by revision once looked at.
-- Returns false where one does not hold already.
local function conditions_on(self, expected)
  local list = {}
  for field, value in pairs(expected) do
    local box = box_of(self, field)
    local is_canonical = self.canonical[field]
    if is_canonical == nil then
      is_canonical = self.is_canonical
    end
    local n = #list
    if is_canonical then
      local bytes, err = core.object_encode(box, value)
      if not bytes then
        return nil, err
      end
      list[n + 1], list[n + 2], list[n + 3], list[n + 4], list[n + 5] = 1, IF.equal, field, bytes, 0
    else
      local revision, found = core.object_item(box, field)
      if not revision or not (self.equal or codecs.same)(found, value) then
        return false
      end
      list[n + 1], list[n + 2], list[n + 3], list[n + 4], list[n + 5] = 1, IF.revision, field, false, revision
    end
  end
  return list
end

---If all fields of `expected` are so, set all of `new`, in one step: true, or false and the record as found.
function Record:update_all_if(new, expected, opts)
  check_fields(self, "update_all_if", new, "the new fields")
  check_fields(self, "update_all_if", expected, "the expected fields")
  local timeout = object.timeout(self, "update_all_if", opts)
  local deadline = core.now() + timeout
  local ops = {}
  for _, item in ipairs(fields_of(self, OP.set, new)) do
    local bytes, err = core.object_encode(item.box, item.value)
    if not bytes then
      return nil, err
    end
    local n = #ops
    ops[n + 1], ops[n + 2], ops[n + 3], ops[n + 4], ops[n + 5] = 1, OP.set, item.key, bytes, false
  end
  repeat
    if self.needs_looking then
      local ok, err = core.cluster_wait(self.node, "barrier", math.max(0, deadline - core.now()))
      if not ok then
        return nil, err
      end
    end
    local conditions, err = conditions_on(self, expected)
    if conditions == nil then
      return nil, err
    elseif not conditions then
      return false, self:get_all()
    end
    local left = math.max(0, deadline - core.now())
    local done, failed = core.command(self.node, left, false, { self[1] }, conditions, ops)
    if done then
      return true
    elseif done == nil then
      return nil, failed
    elseif conditions[5 * (failed - 1) + 2] == IF.equal then
      return false, self:get_all()
    end
  until core.now() >= deadline
  return errors.fail("contended", ("record '%s': others changed it each time before the deadline"):format(self.name))
end

function Record.internal.export_into(self, result)
  result.entries = {}
  for field, value in self:pairs() do
    table.insert(result.entries, { field, value })
  end
  table.sort(result.entries, function(a, b)
    return a[1] < b[1]
  end)
end

local function entry_problem(entry)
  if type(entry) ~= "table" or type(entry[1]) ~= "string" or entry[2] == nil then
    return "must be { field, value }, the field a string"
  end
end

function Record.internal.check_import(self, given)
  object.check_export(self, given, "entries", entry_problem, 4)
end

function Record.internal.import_list(self, given)
  local list = {}
  for i, entry in ipairs(given.entries) do
    list[i] = { op = OP.set, key = entry[1], value = entry[2], box = box_of(self, entry[1]) }
  end
  return list
end

-- Of the raw box: values are bytes here.
function Record.internal.changed(self, type, field, old, new, count, bytes)
  if type == "replaced" or type == "resync" then
    self.events:miss(type == "resync" and count or nil)
    return
  end
  local events, box = self.events, box_of(self, field)
  old, new = object.decode(box, old), object.decode(box, new)
  if type == "insert" then
    events:fire_bounded(bytes, "insert", field, new)
  elseif type == "update" then
    events:fire_bounded(bytes, "update", field, old, new)
  elseif type == "remove" then
    events:fire_bounded(bytes, "remove", field, old)
  elseif type == "clear" then
    events:fire_bounded(bytes, "clear")
  end
end

---Get or create; returns at once.
function M.new(node, name, given, level)
  given = options.check("node:record", given, RULES, level - 2)
  local known = node.cluster_settings.codecs
  local value = codecs.resolve("node:record", "codec", given.codec, known, level)
  local fields, needs_looking = {}, given.equal ~= nil or not value.canonical
  for field, codec in pairs(given.codecs or {}) do
    if type(field) ~= "string" then
      error("node:record: option 'codecs' maps fields to codecs: { photo = 'raw' }", level)
    end
    fields[field] = codecs.resolve("node:record", "codecs." .. field, codec, known, level)
    needs_looking = needs_looking or not fields[field].canonical
  end
  local self = object.new(node, Record, name, {
    kind = "record",
    key = codecs.raw,
    value = value,
    fields = fields,
    events = EVENTS,
    options = given,
  })
  self.needs_looking, self.canonical, self.views = needs_looking, {}, {}
  for field, codec in pairs(fields) do
    self.canonical[field] = codec.canonical and not given.equal
    self.views[field] = object.view(self, codecs.raw, codec)
  end
  self.watched = object.view(self, codecs.raw, codecs.raw)
  local initial = given.initial or {}
  for field in pairs(initial) do
    if type(field) ~= "string" then
      error("node:record: option 'initial' is a table of named fields", level)
    end
  end
  object.begin(self, fields_of(self, OP.insert, initial), level)
  return self
end

return M
