--- Arguments of a verb: long and short flags, values, and words that say what was mistyped. Pure.
-- @module holt.cli.args
local options = require("holt.options")

local M = {}

---@class holt.Flag
---@field [1] string Long name, without dashes.
---@field [2]? string Short name, one letter.
---@field value? string What stands for the value in the help; a flag without one is a switch.
---@field help string
---@field kind? "seconds"|"integer" How its value is read; a text when not said.
---@field values? string[] The only values it may have.
---@field is_repeatable? boolean Gathered in a list.
---@field min? number Least value.
---@field is_hidden? boolean Not for people: left out of the help and of suggestions.

---@class holt.Verb
---@field name string
---@field usage string
---@field summary string
---@field examples string[][] Command and what it does.
---@field flags holt.Flag[]
---@field arguments? { min: integer, max: integer, names: string }
---@field takes_rest? boolean Whatever follows `--` is kept apart.
---@field run fun(values: table, arguments: string[], rest: string[]): integer|nil

local function find(verb, name, is_short)
  for _, flag in ipairs(verb.flags) do
    if name == (is_short and flag[2] or flag[1]) and name then
      return flag
    end
  end
  return nil
end

local function unknown(verb, shown, name)
  local known = { "help" }
  for _, flag in ipairs(verb.flags) do
    if not flag.is_hidden then
      known[#known + 1] = flag[1]
    end
  end
  local near = #name > 1 and options.nearest(name, known)
  return ("unknown option %s%s"):format(shown, near and (", did you mean --" .. near .. "?") or (" (see: holt " .. verb.name .. " --help)"))
end

local function convert(flag, shown, text)
  if flag.kind then
    local number = tonumber(text)
    if not number or number ~= number or number < 0 or (flag.kind == "integer" and number % 1 ~= 0) then
      local words = flag.kind == "integer" and "a whole number" or "a number of seconds"
      return nil, ("%s takes %s, not '%s'"):format(shown, words, text)
    end
    if flag.min and number < flag.min then
      return nil, ("%s must be at least %s, not %s"):format(shown, flag.min, text)
    end
    return flag.kind == "integer" and math.tointeger(number) or number
  end
  if flag.values then
    for _, value in ipairs(flag.values) do
      if value == text then
        return text
      end
    end
    local near = options.nearest(text, flag.values)
    return nil, ("%s cannot be '%s'%s; it may be: %s"):format(shown, text, near and (" (did you mean " .. near .. "?)") or "",
      table.concat(flag.values, ", "))
  end
  return text
end

local function store(values, flag, value)
  local key = flag[1]:gsub("-", "_")
  if flag.is_repeatable then
    values[key] = values[key] or {}
    table.insert(values[key], value)
  else
    values[key] = value
  end
end

-- The flag that `word` begins, its attached value, and how to call it in messages.
local function split(verb, word)
  local long, attached = word:match("^%-%-([^=]+)=?(.*)$")
  if long then
    return find(verb, long), word:find("=", 1, true) and attached or nil, "--" .. long, long
  end
  local short = word:sub(2, 2)
  local rest = word:sub(3)
  return find(verb, short, true), rest ~= "" and rest:gsub("^=", "") or nil, "-" .. short, short
end

---Read the arguments of a verb.
---@param verb holt.Verb
---@param argv string[]
---@return table|nil values By long name with underscores; `help` when it was asked for.
---@return string[]|string arguments Or what is wrong.
---@return string[]? rest What followed `--`.
function M.parse(verb, argv)
  local values, arguments, rest = {}, {}, {}
  local i = 1
  while i <= #argv do
    local word = argv[i]
    if word == "--" then
      if verb.takes_rest then
        rest = table.move(argv, i + 1, #argv, 1, {})
      else
        table.move(argv, i + 1, #argv, #arguments + 1, arguments)
      end
      break
    elseif word == "--help" or word == "-h" then
      return { help = true }, {}, {}
    elseif #word > 1 and word:sub(1, 1) == "-" then
      local flag, value, shown, name = split(verb, word)
      if not flag then
        return nil, unknown(verb, shown, name)
      elseif not flag.value then
        if value then
          return nil, shown .. " takes no value"
        end
        store(values, flag, true)
      else
        if not value then
          i = i + 1
          value = argv[i]
          if not value then
            return nil, ("%s needs a value: %s %s"):format(shown, shown, flag.value)
          end
        end
        local converted, problem = convert(flag, shown, value)
        if converted == nil then
          return nil, problem
        end
        store(values, flag, converted)
      end
    else
      arguments[#arguments + 1] = word
    end
    i = i + 1
  end
  local wanted = verb.arguments or { min = 0, max = 0, names = "" }
  if #arguments < wanted.min then
    return nil, ("%s is missing; usage: %s"):format(wanted.names, verb.usage)
  elseif #arguments > wanted.max then
    return nil, ("'%s' is one argument too many; usage: %s"):format(arguments[wanted.max + 1], verb.usage)
  end
  return values, arguments, rest
end

---The help text of a verb; examples come first.
---@param verb holt.Verb
---@return string
function M.help(verb)
  local lines = { "Examples:" }
  for _, example in ipairs(verb.examples) do
    lines[#lines + 1] = "  " .. example[1]
    lines[#lines + 1] = "      " .. example[2]
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Usage: " .. verb.usage
  lines[#lines + 1] = ""
  lines[#lines + 1] = verb.summary
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Options:"
  for _, flag in ipairs(verb.flags) do
    if not flag.is_hidden then
      local left = ("%s--%s%s"):format(flag[2] and ("-" .. flag[2] .. ", ") or "    ", flag[1], flag.value and (" " .. flag.value) or "")
      lines[#lines + 1] = ("  %-28s %s"):format(left, flag.help)
    end
  end
  lines[#lines + 1] = ("  %-28s %s"):format("-h, --help", "this text")
  return table.concat(lines, "\n") .. "\n"
end

return M
