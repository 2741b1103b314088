--- JSON by lua-cjson, with its traps closed: no digit is lost in either direction, whole numbers come back as
-- integers and 9.0 as a float, [] stays [], null is holt.null. See docs/codecs.md.
-- @module holt.json
local core = require("holt.core")
local errors = require("holt.errors")

local M = {}

local is_plain, mark, unmark = core.json_is_plain, core.json_mark, core.json_unmark
local scan, restore = core.json_scan, core.json_restore

local encode_text, decode_text

-- cjson is loaded with the first use: a node that never speaks JSON does not pay for it.
local function load()
  local ok, cjson = pcall(require, "cjson")
  if not ok then
    error("holt.json needs the package lua-cjson: run scripts/setup, or `apt-get install lua-cjson`", 0)
  end
  cjson = cjson.new()
  cjson.encode_invalid_numbers(false)
  cjson.decode_invalid_numbers(false)
  cjson.encode_number_precision(14)
  cjson.encode_sparse_array(true, 2, 10)
  cjson.encode_max_depth(200)
  cjson.decode_max_depth(100)
  encode_text, decode_text = cjson.encode, cjson.decode
end

M.null = core.null

---Say that a table is an array, so that it is written as [] even while it is empty.
---@generic T: table
---@param t? T
---@return T
function M.array(t)
  return setmetatable(t or {}, core.array_metatable)
end

-- Encode one value; `number` is its place among the arguments, for messages.
local function encode(value, number)
  if not encode_text then
    load()
  end
  local plain, problem = is_plain(value, number)
  if plain == nil then
    return nil, problem
  elseif plain then
    return encode_text(value)
  end
  return unmark(encode_text(mark(value)))
end

---Turn a value into JSON text.
---@param value any
---@return string|nil text
---@return holt.Error? err `codec`: NaN, infinity, a cycle, a function and their like have no JSON form.
function M.encode(value)
  local text, problem = encode(value, 1)
  if not text then
    return errors.fail("codec", "json: " .. problem:gsub("^argument 1[:,] ", "", 1))
  end
  return text
end

---Turn JSON text into a value.
---@param text string
---@return any value nil on failure; null is holt.null.
---@return holt.Error? err `codec`
function M.decode(text)
  if type(text) ~= "string" then
    error(("bad argument #1 to 'decode' (string expected, got %s)"):format(type(text)), 2)
  end
  if not decode_text then
    load()
  end
  local ok, value = pcall(decode_text, scan(text))
  if ok then
    ok, value = pcall(restore, value)
  end
  if not ok then
    return errors.fail("codec", "json: " .. tostring(value))
  end
  return value
end

---Several values as one JSON array; nil becomes null.
---@param ... any
---@return string|nil text
---@return holt.Error? err
function M.encode_values(...)
  local texts = {}
  for i = 1, select("#", ...) do
    local text, problem = encode((select(i, ...)), i)
    if not text then
      return errors.fail("codec", "json: " .. problem)
    end
    texts[i] = text
  end
  return "[" .. table.concat(texts, ",") .. "]"
end

local function values(list, i, n)
  if i > n then
    return
  end
  local value = list[i]
  if value == M.null then
    value = nil
  end
  return value, values(list, i + 1, n)
end

---The values of a JSON array; null becomes nil.
---@param text string
---@return true|nil ok
---@return any ... The values, or the error.
function M.decode_values(text)
  local list, err = M.decode(text)
  if err then
    return nil, err
  end
  if type(list) ~= "table" then
    return errors.fail("codec", "json: the values of an event are an array, but this is a " .. type(list))
  end
  return true, values(list, 1, #list)
end

return M
