--- Options tables: unknown keys refused by name, with the nearest known one; wrong types say what was expected.
-- Pure.
-- @module holt.options
local M = {}

---How many letters must change to turn one word into the other (a swap of neighbours is one change).
---@param a string
---@param b string
---@return integer
function M.distance(a, b)
  local before, row = nil, {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local fresh = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local least = math.min(row[j] + 1, fresh[j - 1] + 1, row[j - 1] + cost)
      if before and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        least = math.min(least, before[j - 2] + 1)
      end
      fresh[j] = least
    end
    before, row = row, fresh
  end
  return row[#b]
end

---The known word that is nearest to `word`, or nil when none is near enough to be meant.
---@param word string
---@param known string[]
---@return string|nil
function M.nearest(word, known)
  local best, best_distance
  for _, candidate in ipairs(known) do
    local distance = M.distance(word:lower(), candidate:lower())
    if not best_distance or distance < best_distance or (distance == best_distance and candidate < best) then
      best, best_distance = candidate, distance
    end
  end
  local allowed = math.max(1, math.min(#word, #(best or "")) // 3 + 1)
  if best and best_distance <= allowed then
    return best
  end
  return nil
end

---@class holt.OptionRule
---@field [1] string Type, or several joined by "|": one of the names of `checks` below.
---@field values? string[] The only values a string may have.
---@field min? number
---@field max? number

local checks = {}
function checks.string(v)
  return type(v) == "string"
end
function checks.boolean(v)
  return type(v) == "boolean"
end
function checks.number(v)
  return type(v) == "number" and v == v
end
function checks.integer(v)
  return math.type(v) == "integer" or (type(v) == "number" and v % 1 == 0)
end
function checks.seconds(v)
  return type(v) == "number" and v >= 0
end
checks["function"] = function(v)
  return type(v) == "function"
end
function checks.any()
  return true
end
function checks.table(v)
  return type(v) == "table"
end
function checks.list(v)
  if type(v) ~= "table" then
    return false
  end
  for _, item in ipairs(v) do
    if type(item) ~= "string" then
      return false
    end
  end
  return true
end

local words = {
  seconds = "a number of seconds that is not negative",
  integer = "a whole number",
  list = "a list of strings",
  ["function"] = "a function",
  number = "a number",
  string = "a string",
  boolean = "true or false",
  table = "a table",
}

local function describe(value)
  if type(value) == "string" then
    return ("the string %q"):format(value)
  elseif type(value) == "number" or type(value) == "boolean" then
    return tostring(value)
  end
  return "a " .. type(value)
end

---What is wrong with one value, or nil.
---@param name string
---@param value any
---@param rule holt.OptionRule
---@return string|nil
function M.problem(name, value, rule)
  local fits, expected = false, {}
  for kind in rule[1]:gmatch("[^|]+") do
    fits = fits or checks[kind](value)
    expected[#expected + 1] = words[kind]
  end
  if not fits then
    return ("option '%s' must be %s, but it is %s"):format(name, table.concat(expected, " or "), describe(value))
  end
  if rule.values and type(value) == "string" then
    for _, allowed in ipairs(rule.values) do
      if value == allowed then
        return nil
      end
    end
    local near = M.nearest(value, rule.values)
    return ("option '%s' cannot be %q%s; it may be: %s"):format(
      name,
      value,
      near and (" (did you mean %q?)"):format(near) or "",
      table.concat(rule.values, ", ")
    )
  end
  if type(value) == "number" then
    if rule.min and value < rule.min then
      return ("option '%s' must be at least %s, but it is %s"):format(name, rule.min, value)
    elseif rule.max and value > rule.max then
      return ("option '%s' must be at most %s, but it is %s"):format(name, rule.max, value)
    end
  end
  return nil
end

---What is wrong with a table of options, or nil.
---@param options table
---@param rules table<string, holt.OptionRule>
---@return string|nil
function M.problems(options, rules)
  local names = {}
  for name in pairs(options) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    return tostring(a) < tostring(b)
  end)
  for _, name in ipairs(names) do
    local rule = rules[name]
    if not rule then
      if type(name) ~= "string" then
        return ("options are named; %s is not a name"):format(describe(name))
      end
      local known = {}
      for known_name in pairs(rules) do
        known[#known + 1] = known_name
      end
      table.sort(known)
      if #known == 0 then
        return ("unknown option '%s'; it takes none"):format(name)
      end
      local near = M.nearest(name, known)
      return ("unknown option '%s'%s"):format(
        name,
        near and (", did you mean '%s'?"):format(near) or ("; there are: " .. table.concat(known, ", "))
      )
    end
    local problem = M.problem(name, options[name], rule)
    if problem then
      return problem
    end
  end
  return nil
end

---Check a table of options; raises at the line of whoever called the function that calls this.
---@param what string The function, for the message: "holt.node"
---@param options table|nil
---@param rules table<string, holt.OptionRule>
---@param level? integer Further callers to skip.
---@return table options The same table, or an empty one.
function M.check(what, options, rules, level)
  level = (level or 0) + 3
  if options == nil then
    return {}
  end
  if type(options) ~= "table" then
    error(("%s: options must be a table, but it is %s"):format(what, describe(options)), level)
  end
  local problem = M.problems(options, rules)
  if problem then
    error(what .. ": " .. problem, level)
  end
  return options
end

return M
