--- Settings of a node and where each came from: flag over environment (HOLT_*) over launcher's file over script.
-- The first node that a process makes takes the flags, the environment and the launcher's file; further ones are the
-- script's alone.
-- @module holt.config
local options = require("holt.options")

local M = {}

---Every option of holt.node that may come from outside too, and its rule.
---@type table<string, holt.OptionRule>
M.rules = {
  name = { "string" },
  listen = { "string|list" },
  connect = { "string|list" },
  advertise = { "string|list" },
  channel = { "string" },
  insecure = { "boolean" },
  transport = { "string|table", values = { "tcp", "unix", "memory" } },
  timeout = { "seconds", min = 0.001 },
  ack_interval = { "seconds", min = 0.001 },
  buffer_timeout = { "seconds", min = 0.001 },
  buffer_max = { "integer", min = 1 },
  buffer_bytes = { "integer", min = 1 },
  max_peers = { "integer", min = 1 },
  overflow = { "string", values = { "drop_oldest", "wait", "error" } },
  backoff_min = { "seconds", min = 0.001 },
  backoff_max = { "seconds", min = 0.001 },
  drain_timeout = { "seconds" },
  handler_warning = { "seconds" },
  request_timeout = { "seconds" },
  cluster = { "table" },
  data = { "string" },
  app_data = { "table" },
  schema = { "string|table" },
  codec = { "string|table" },
  codecs = { "table" },
  subjects = { "table" },
}

-- From the strongest to the weakest; the script itself stands below all of them.
local order = { "flags", "environment", "file" }
local layers = {}
local is_taken = false

---Set what one place says: "flags" or "file". Unknown options and wrong types raise.
---@param name "flags"|"file"
---@param values table<string, any>
function M.set_layer(name, values)
  if name ~= "flags" and name ~= "file" then
    error("holt.config.set_layer: a layer is 'flags' or 'file', not " .. tostring(name), 2)
  end
  layers[name] = options.check("settings from the " .. (name == "flags" and "command line" or "file"), values, M.rules)
end

local function words(text)
  local list = {}
  for word in text:gmatch("[^,%s]+") do
    list[#list + 1] = word
  end
  return list
end

-- The text of a HOLT_* variable as a value of its option.
local function parse(variable, text, rule)
  local kind = rule[1]
  if kind == "string|list" then
    return words(text)
  elseif kind == "boolean" then
    local value = ({ ["1"] = true, ["true"] = true, yes = true, ["0"] = false, ["false"] = false, no = false })[text]
    if value == nil then
      error(("%s must be 1 or 0, but it is %q"):format(variable, text), 0)
    end
    return value
  elseif kind == "seconds" or kind == "integer" then
    local value = tonumber(text)
    if not value then
      error(("%s must be a number, but it is %q"):format(variable, text), 0)
    end
    return kind == "integer" and math.tointeger(value) or value
  end
  return text
end

-- What HOLT_NAME, HOLT_LISTEN and their like say.
local function from_environment()
  local values = {}
  for name, rule in pairs(M.rules) do
    local variable = "HOLT_" .. name:upper()
    local text = os.getenv(variable)
    if text and text ~= "" and rule[1] ~= "table" then
      values[name] = parse(variable, text, rule)
      local problem = options.problem(name, values[name], rule)
      if problem then
        error(("%s: %s"):format(variable, problem), 0)
      end
    end
  end
  return values
end

---Merge all layers over what the script says, until a node has taken them.
---@param script table<string, any>
---@return table<string, any> values
---@return table<string, "flags"|"environment"|"file"|"script"> origins
function M.resolve(script)
  local values, origins = {}, {}
  for name, value in pairs(script) do
    values[name], origins[name] = value, "script"
  end
  if is_taken then
    return values, origins
  end
  layers.environment = from_environment()
  for i = #order, 1, -1 do
    for name, value in pairs(layers[order[i]] or {}) do
      values[name], origins[name] = value, order[i]
    end
  end
  return values, origins
end

---A node stands: further ones are the script's alone. One that failed leaves the layers to the next try.
function M.take()
  is_taken = true
end

---Forget all layers, and that a node has taken them: for tests.
function M.reset()
  layers, is_taken = {}, false
end

return M
