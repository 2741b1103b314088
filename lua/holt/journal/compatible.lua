--- Whether what was written with one schema is read as the same with another, told by the schemas alone.
-- Pure. What is added harms nobody: messages, fields, values of enums; nor do another name of a field or a wider type of it.
-- @module holt.journal.compatible
local M = {}

local MOST = 5 -- problems that are told

-- What a type may become without a stored value changing.
local WIDER = {
  int32 = { int64 = true },
  uint32 = { uint64 = true, int64 = true },
  sint32 = { sint64 = true },
  string = { bytes = true },
  enum = { int32 = true, int64 = true },
}

local IS_MANY = { repeated = true, map = true }

---@class holt.Compatible
---@field private problems string[]
---@field private count integer
local Comparison = {}
Comparison.__index = Comparison

local function fail(self, text, ...)
  self.count = self.count + 1
  if self.count <= MOST then
    self.problems[self.count] = text:format(...)
  end
end

local function index(list, key)
  local found = {}
  for _, item in ipairs(list) do
    found[item[key]] = item
  end
  return found
end

local function type_text(field)
  local name = field.message or field.enum or field.type or field.value
  if field.label == "map" then
    return ("map<%s, %s>"):format(field.key, name)
  end
  return field.label == "repeated" and "repeated " .. name or name
end

local function compare_enum(self, place, old, new)
  if self.seen[old .. " " .. new] then
    return
  end
  self.seen[old .. " " .. new] = true
  local values, by_name = index(self.new.enums[new].values, "number"), index(self.new.enums[new].values, "name")
  for _, value in ipairs(self.old.enums[old].values) do
    if by_name[value.name] and by_name[value.name].number ~= value.number then
      fail(self, "%s: value %s of enum %s was number %d, and is %d", place, value.name, old, value.number, by_name[value.name].number)
    elseif not values[value.number] then
      fail(self, "%s: value %s (number %d) of enum %s is gone", place, value.name, value.number, old)
    end
  end
end

local compare_message

local function compare_type(self, place, old, new)
  local is_alike = old.type == new.type and old.key == new.key and not old.group == not new.group
  if IS_MANY[old.label] ~= IS_MANY[new.label] or (old.label == "map") ~= (new.label == "map") then
    is_alike = false
  elseif not is_alike and WIDER[old.type] and WIDER[old.type][new.type] and old.key == new.key then
    return -- but a repeated enum that becomes a number: the same on the wire
  end
  if not is_alike then
    fail(self, "%s (number %d) was %s, and is %s", place, old.number, type_text(old), type_text(new))
  elseif old.message then
    compare_message(self, old.message, new.message)
  elseif old.enum then
    compare_enum(self, place, old.enum, new.enum)
  end
end

-- Fields that were independent and now exclude each other.
local function compare_oneofs(self, name, old, new)
  local first = {}
  for _, field in ipairs(new.fields) do
    local before = field.oneof and old[field.number]
    local other = before and first[field.oneof]
    if before and not other then
      first[field.oneof] = before
    elseif before and (before.oneof == nil or before.oneof ~= other.oneof) then
      fail(self, "%s: an entry may hold both %s and %s, which exclude each other now (oneof %s)", name, other.name, before.name,
        field.oneof)
    end
  end
end

function compare_message(self, old_name, new_name)
  if self.seen[old_name .. " " .. new_name] then
    return
  end
  self.seen[old_name .. " " .. new_name] = true
  local old, new = self.old.messages[old_name], self.new.messages[new_name]
  local before, after, by_name = index(old.fields, "number"), index(new.fields, "number"), index(new.fields, "name")
  for _, field in ipairs(old.fields) do
    local place, now, namesake = ("%s.%s"):format(old.name, field.name), after[field.number], by_name[field.name]
    if namesake and namesake.number ~= field.number then
      fail(self, "%s was number %d, and is %d", place, field.number, namesake.number)
    elseif not now then
      fail(self, "%s (number %d) is gone", place, field.number)
    else
      compare_type(self, place, field, now)
    end
  end
  for _, field in ipairs(new.fields) do
    local was = before[field.number]
    if field.label == "required" and not (was and was.label == "required") then
      fail(self, "%s.%s (number %d) is required, which entries without it are not", new.name, field.name, field.number)
    end
  end
  compare_oneofs(self, old.name, before, new)
end

local function side(schema)
  local described = schema:describe()
  return { list = described.messages, messages = index(described.messages, "full_name"), enums = index(described.enums, "full_name") }
end

---What entries of `old` could be read wrongly, or not at all, with `new`; nil when there is nothing.
---@param old holt.Schema
---@param new holt.Schema
---@return string|nil problems
function M.problems(old, new)
  local self = setmetatable({ old = side(old), new = side(new), seen = {}, problems = {}, count = 0 }, Comparison)
  for _, message in ipairs(self.old.list) do
    local is_ours = message.file:sub(1, 16) ~= "google/protobuf/"
    local now = is_ours and (self.new.messages[message.full_name] or new:message(message.name))
    if now then
      compare_message(self, message.full_name, now.full_name)
    elseif is_ours then
      fail(self, "message %s is gone", message.name)
    end
  end
  if self.count > MOST then
    self.problems[MOST + 1] = ("and %d more"):format(self.count - MOST)
  end
  return self.count > 0 and table.concat(self.problems, "; ") or nil
end

return M
