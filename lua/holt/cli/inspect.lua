--- Values as a person reads them: tables with their keys in order. Pure.
-- @module holt.cli.inspect
local M = {}

local DEEPEST = 8

local function is_name(key)
  return type(key) == "string" and key:find("^[%a_][%w_]*$") ~= nil
end

local function order(a, b)
  if type(a) ~= type(b) then
    return type(a) == "number"
  elseif type(a) == "number" or type(a) == "string" then
    return a < b
  end
  return tostring(a) < tostring(b)
end

local function quoted(text)
  return ("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r"):gsub("\0", "\\0")
end

---@param value any
---@param depth? integer
---@return string
function M.text(value, depth)
  depth = depth or 0
  if type(value) == "string" then
    return (quoted(value))
  end
  local meta = getmetatable(value)
  if type(value) ~= "table" or (type(meta) == "table" and meta.__tostring) then
    return tostring(value)
  elseif depth >= DEEPEST then
    return "{…}"
  end
  local parts, count = {}, #value
  for i = 1, count do
    parts[i] = M.text(value[i], depth + 1)
  end
  local keys = {}
  for key in next, value do
    if not (math.type(key) == "integer" and key >= 1 and key <= count) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, order)
  for _, key in ipairs(keys) do
    local shown = is_name(key) and key or ("[%s]"):format(M.text(key, depth + 1))
    parts[#parts + 1] = ("%s = %s"):format(shown, M.text(value[key], depth + 1))
  end
  return #parts == 0 and "{}" or ("{ %s }"):format(table.concat(parts, ", "))
end

return M
