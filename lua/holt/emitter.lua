--- What the runtime itself has to say: `on`, `once`, `off` for named events. Each handler runs in a task of its own.
-- @module holt.emitter
local core = require("holt.core")
local log = require("holt.log")
local options = require("holt.options")

local M = {}

---@class holt.Emitter
---@field private handlers table<string, table[]>
---@field private names string[]
---@field private what string
---@field private on_change? fun(name: string, count: integer)
local Emitter = {}
Emitter.__index = Emitter

---@param what string What raises these events, for messages: "node.events".
---@param names string[] The events there are.
---@param on_change? fun(name: string, count: integer) Told how many handlers a name has now.
---@return holt.Emitter
function M.new(what, names, on_change)
  return setmetatable({ handlers = {}, names = names, what = what, on_change = on_change }, Emitter)
end

local function check(self, method, name, f, is_optional)
  if type(name) ~= "string" then
    error(("%s:%s: expected the name of an event, got %s"):format(self.what, method, type(name)), 4)
  end
  local is_known = false
  for _, known in ipairs(self.names) do
    is_known = is_known or known == name
  end
  if not is_known then
    local near = options.nearest(name, self.names)
    error(
      ("%s:%s: there is no event '%s'%s"):format(
        self.what,
        method,
        name,
        near and (", did you mean '%s'?"):format(near) or ("; there are: " .. table.concat(self.names, ", "))
      ),
      4
    )
  end
  if type(f) ~= "function" and not (is_optional and f == nil) then
    error(("%s:%s: the handler must be a function, got %s"):format(self.what, method, type(f)), 4)
  end
end

local function add(self, method, name, f, is_once)
  check(self, method, name, f, false)
  local list = self.handlers[name] or {}
  self.handlers[name] = list
  list[#list + 1] = { f = f, is_once = is_once }
  if self.on_change then
    self.on_change(name, #list)
  end
  return self
end

---Run `f` each time.
---@param name string
---@param f function
---@return holt.Emitter self
function Emitter:on(name, f)
  return add(self, "on", name, f, false)
end

---Run `f` the next time only.
---@param name string
---@param f function
---@return holt.Emitter self
function Emitter:once(name, f)
  return add(self, "once", name, f, true)
end

---Take a handler away; without `f` all of that name.
---@param name string
---@param f? function
---@return boolean found
function Emitter:off(name, f)
  check(self, "off", name, f, true)
  local found, kept = false, {}
  for _, handler in ipairs(self.handlers[name] or {}) do
    if (f == nil or handler.f == f) and not (found and f) then
      found = true
    else
      kept[#kept + 1] = handler
    end
  end
  self.handlers[name] = kept
  if self.on_change then
    self.on_change(name, #kept)
  end
  return found
end

---Whether somebody listens.
---@param name string
---@return boolean
function Emitter:has(name)
  local list = self.handlers[name]
  return list ~= nil and #list > 0
end

---Run the handlers of `name`, each in a task of its own.
---@param name string
---@param ... any
---@return boolean heard
function Emitter:fire(name, ...)
  local list = self.handlers[name]
  if not list or #list == 0 then
    return false
  end
  local kept, is_changed = {}, false
  for _, handler in ipairs(list) do
    if handler.is_once then
      is_changed = true
    else
      kept[#kept + 1] = handler
    end
    if name == "error" then -- one that raises must not raise the next error event
      core.go_quiet(function(...)
        local ok, problem = xpcall(handler.f, debug.traceback, ...)
        if not ok then
          log.error("a handler of 'error' raised an error itself: %s", tostring(problem))
        end
      end, ...)
    else
      core.go(handler.f, ...)
    end
  end
  if is_changed then
    self.handlers[name] = kept
    if self.on_change then
      self.on_change(name, #kept)
    end
  end
  return true
end

return M
