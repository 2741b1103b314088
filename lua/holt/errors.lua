--- Error tables: what a call returns behind nil when it fails in a way a program must expect.
-- { code, message, hint?, node?, cause? }; tostring() reads well, so assert(f()) does too.
-- @module holt.errors
local core = require("holt.core")

local M = {}

---@class holt.Error
---@field code string A stable word, such as "timeout"; `holt explain CODE` describes each.
---@field message string What happened and what to do about it.
---@field hint? string What to try next, where the message does not say it.
---@field node? string The node that failed, when it was not this one.
---@field cause? any What was behind it.
---@field done? integer Of a bulk write in several steps: so many entries were done before one failed, and stay.
---@field traceback? string Where a task raised it.

---Make an error table.
---@param code string
---@param message string
---@param fields? { hint?: string, node?: string, cause?: any }
---@return holt.Error
function M.new(code, message, fields)
  local err = { code = code, message = message }
  for name, value in pairs(fields or {}) do
    err[name] = value
  end
  return core.mark_err(err)
end

---Make nil and an error table, for `return errors.fail(...)`.
---@param code string
---@param message string
---@param fields? table
---@return nil, holt.Error
function M.fail(code, message, fields)
  return nil, M.new(code, message, fields)
end

---Whether a value is an error table.
---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and type(value.code) == "string" and type(value.message) == "string"
end

return M
