--- Talk for people, on stderr; stdout is for data.
-- @module holt.log
local core = require("holt.core")

local M = {}

local function writer(level)
  return function(format, ...)
    if not core.log_enabled(level) then
      return
    end
    if type(format) ~= "string" then
      error("holt.log." .. level .. ": the first argument must be a format string, but it is a " .. type(format), 2)
    end
    local ok, text = pcall(string.format, format, ...)
    if not ok then
      error("holt.log." .. level .. ": " .. tostring(text), 2)
    end
    core.log(level, text)
  end
end

---@type fun(format: string, ...)
M.trace = writer("trace")
---@type fun(format: string, ...)
M.debug = writer("debug")
---@type fun(format: string, ...)
M.info = writer("info")
---@type fun(format: string, ...)
M.warn = writer("warn")
---@type fun(format: string, ...)
M.error = writer("error")

---Lines below this level are not written; returns the level before.
---@param level? "trace"|"debug"|"info"|"warn"|"error"|"silent"
---@return string
function M.level(level)
  return core.log_level(level)
end

return M
