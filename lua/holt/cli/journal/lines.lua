--- Lines of JSON as holt journal reads and writes them: the same entry is always the same bytes, whatever the payload holds.
--
-- - Keys are in order, so that two exports can be compared.
-- - Bytes that are no UTF-8 text are { "$hex": "00ff" }, wherever they stand. A table of the user's that would look so gets
--   one more $ in front: { "$$hex": … }; reading takes it away again.
-- - Nothing of a line that is too long is kept.
local core = require("holt.core")
local errors = require("holt.errors")
local json = require("holt.json")

local M = {}

---Bytes of a line, at most: an entry of 1 MiB has less, however it is escaped.
M.LONGEST = 8 * 1024 * 1024

local DEEPEST = 100

--- Writing -------------------------------------------------------------------------------------------------------------

local function fail(text)
  error(errors.new("codec", text), 0)
end

local function to_hex(bytes)
  return (bytes:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end))
end

local function text_of(text)
  if not text:find('[%c"\\\127-\255]') then
    return '"' .. text .. '"'
  elseif not utf8.len(text) then
    return '{"$hex":"' .. to_hex(text) .. '"}'
  end
  return (json.encode(text):gsub("\\/", "/"))
end

local function key_of(key)
  key = type(key) == "string" and key or tostring(key)
  if not utf8.len(key) then
    fail("a key of a table is no text: JSON has no form for it")
  end
  return text_of(key)
end

-- How many places an array of JSON has for this table; nil: it is an object. As lua-cjson decides it.
local function array_length(value)
  local count, longest = 0, 0
  for key in next, value do
    if math.type(key) ~= "integer" or key < 1 then
      return nil
    end
    count, longest = count + 1, math.max(longest, key)
  end
  if count == 0 then
    return getmetatable(value) == core.array_metatable and 0 or nil
  end
  return (longest <= 10 or longest <= count * 2) and longest or nil
end

local text_of_value

local function text_of_array(value, length, depth)
  local parts = {}
  for i = 1, length do
    parts[i] = text_of_value(value[i], depth)
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

local function text_of_object(value, depth)
  local only = next(value)
  if type(only) == "string" and only:find("^%$+hex$") and next(value, only) == nil then
    value = { ["$" .. only] = value[only] }
  end
  local names, values = {}, {}
  for key, item in next, value do
    local name = key_of(key)
    names[#names + 1], values[name] = name, item
  end
  table.sort(names)
  for i, name in ipairs(names) do
    names[i] = name .. ":" .. text_of_value(values[name], depth)
  end
  return "{" .. table.concat(names, ",") .. "}"
end

function text_of_value(value, depth)
  local kind = type(value)
  if kind == "string" then
    return text_of(value)
  elseif math.type(value) == "integer" then
    return ("%d"):format(value)
  elseif kind ~= "table" then
    local text, err = json.encode(value)
    if not text then
      error(err, 0)
    end
    return text
  elseif depth >= DEEPEST then
    fail("tables are nested more than 100 deep")
  end
  local length = array_length(value)
  if length then
    return text_of_array(value, length, depth + 1)
  end
  return text_of_object(value, depth + 1)
end

---A value as text.
---@param value any
---@return string|nil text
---@return holt.Error? err `codec`
function M.encode(value)
  local ok, text = pcall(text_of_value, value, 0)
  if ok then
    return text
  elseif errors.is(text) then
    return nil, text
  end
  error(text, 0)
end

---A line for an entry: { name, payload }, and the rest with `has_meta`.
---@param entry holt.Entry
---@param has_meta boolean|nil
---@return string|nil
---@return holt.Error?
function M.of_entry(entry, has_meta)
  local body, err = M.encode(entry.payload)
  if not body then
    return nil, err
  end
  local line = ('{"name":%s,"payload":%s'):format(text_of(entry.name), body)
  if has_meta then
    line = ('%s,"hash":"%s","author":"%s","sequence":%d,"holder":"%s","node":%s,"time":%.3f,"position":%d'):format(line, entry.hash,
      entry.author, entry.sequence, entry.holder, text_of(entry.node), entry.time, entry.position)
  end
  return line .. "}"
end

--- Reading -------------------------------------------------------------------------------------------------------------

local function from_hex(digits)
  if type(digits) ~= "string" or #digits % 2 == 1 or digits:find("%X") then
    fail('{"$hex": "..."} takes pairs of hexadecimal digits')
  end
  return (digits:gsub("..", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

-- What stands for bytes becomes them; tables are changed in place.
local function restore(value)
  if type(value) ~= "table" then
    return value
  end
  local only = next(value)
  if type(only) == "string" and only:find("^%$+hex$") and next(value, only) == nil then
    if only == "$hex" then
      return from_hex(value[only])
    end
    return { [only:sub(2)] = restore(value[only]) }
  end
  for key, item in next, value do
    value[key] = restore(item)
  end
  return value
end

local function parse(line)
  local value, err = json.decode(line)
  if value == nil then
    fail("not a line of JSON: " .. err.message)
  elseif type(value) ~= "table" then
    fail('expected {"name": "...", "payload": ...}')
  end
  local name, payload = restore(value.name), restore(value.payload)
  if type(name) ~= "string" then
    fail('expected {"name": "...", "payload": ...}')
  elseif payload == nil then
    payload = {}
  end
  return name, payload
end

---The message of a line: name and payload; nil and what is wrong with it.
---@param line string|false False: it was too long.
---@return string|nil name
---@return any payload
function M.parse(line)
  if not line then
    return nil, errors.new("too_large", ("longer than %d MiB, more than any entry can be"):format(M.LONGEST // (1024 * 1024)))
  end
  local ok, name, payload = pcall(parse, line)
  if ok then
    return name, payload
  elseif errors.is(name) then
    return nil, name
  end
  error(name, 0)
end

---Lines of what `read` gives piece by piece, nil at its end: each as a number, its text (false: too long) and its bytes
---with the line break.
---@param read fun(): string|nil
---@return fun(): integer|nil, string|false|nil, integer|nil
function M.split(read)
  local number, piece, at, is_over = 0, "", 1, false
  return function()
    local parts, size = {}, 0
    while not is_over do
      local stop = piece:find("\n", at, true)
      local part = piece:sub(at, stop and stop - 1 or -1)
      size = size + #part
      if size <= M.LONGEST then
        parts[#parts + 1] = part
      else
        parts = {}
      end
      if stop then
        number, at = number + 1, stop + 1
        return number, size <= M.LONGEST and table.concat(parts), size + 1
      end
      piece, at = read(), 1
      is_over = piece == nil
    end
    if size == 0 then
      return nil
    end
    number = number + 1
    return number, size <= M.LONGEST and table.concat(parts), size
  end
end

return M
