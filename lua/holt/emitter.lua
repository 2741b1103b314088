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

-- Misuse is told at the line that is `level` calls further out.
local function check(self, method, name, f, is_optional, level)
  if type(name) ~= "string" then
    error(("%s:%s: expected the name of an event, got %s"):format(self.what, method, type(name)), level)
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
      level
    )
  end
  if type(f) ~= "function" and not (is_optional and f == nil) then
    error(("%s:%s: the handler must be a function, got %s"):format(self.what, method, type(f)), level)
  end
end

---Add a handler for an object that holds this emitter: misuse is told at the line of that object's caller.
---@param self holt.Emitter
---@param method "on"|"once"
---@param name string
---@param f function
---@param level integer 3 when called by a method that the user called.
function M.add(self, method, name, f, level)
  check(self, method, name, f, false, level + 1)
  local is_once = method == "once"
  local list = self.handlers[name] or {}
  self.handlers[name] = list
  list[#list + 1] = { f = f, is_once = is_once }
  if self.on_change then
    self.on_change(name, #list)
  end
end

---Run `f` each time.
---@param name string
---@param f function
---@return holt.Emitter self
function Emitter:on(name, f)
  M.add(self, "on", name, f, 3)
  return self
end

---Run `f` the next time only.
---@param name string
---@param f function
---@return holt.Emitter self
function Emitter:once(name, f)
  M.add(self, "once", name, f, 3)
  return self
end

---Take a handler away; without `f` all of that name.
---@param name string
---@param f? function
---@return boolean found
function Emitter:off(name, f)
  check(self, "off", name, f, true, 3)
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

--- A bound for handlers that are slow ------------------------------------------------------------------------------

-- Run the handlers of one event, counted.
local function begin(self, name, ...)
  local bound, list = self.bounded, self.handlers[name] or {}
  local kept, is_changed = {}, false
  for _, handler in ipairs(list) do
    if handler.is_once then
      is_changed = true
    else
      kept[#kept + 1] = handler
    end
    bound.running = bound.running + 1
    core.name_task(core.go(bound.run, handler.f, ...), "task", handler.f)
  end
  if is_changed then
    self.handlers[name] = kept
    if self.on_change then
      self.on_change(name, #kept)
    end
  end
end

local function go_on(self)
  local bound = self.bounded
  while bound.running < bound.tasks and bound.first <= bound.last do
    local event = bound.waiting[bound.first]
    bound.waiting[bound.first] = nil
    bound.first, bound.bytes = bound.first + 1, bound.bytes - event.bytes
    begin(self, table.unpack(event, 1, event.n))
  end
  if bound.missed > 0 and bound.first > bound.last then
    local missed = bound.missed
    bound.missed = 0
    bound.on_missed(missed)
  end
end

---@class holt.EmitterBound
---@field tasks integer Handlers that may run at once.
---@field count integer Events that may wait beside,
---@field bytes integer and what they may weigh.
---@field on_missed fun(missed: integer|nil) Events were left out since then; those that had waited have begun. Must not wait.

---From now on `fire_bounded` keeps to this.
---@param limits holt.EmitterBound
function Emitter:bound(limits)
  local bound = {
    tasks = limits.tasks,
    count_max = limits.count,
    bytes_max = limits.bytes,
    on_missed = limits.on_missed,
    running = 0,
    waiting = {},
    first = 1,
    last = 0,
    bytes = 0,
    missed = 0,
  }
  local ending = setmetatable({}, { __close = function()
    bound.running = bound.running - 1
    go_on(self)
  end })
  function bound.run(f, ...)
    local at_end <close> = ending
    f(...)
    return at_end and nil
  end
  self.bounded = bound
end

---Events were left out before they came here: told behind those that wait.
---@param missed integer|nil nil: nobody knows how many.
function Emitter:miss(missed)
  local bound = self.bounded
  if bound.first > bound.last then
    bound.on_missed(missed)
  else
    bound.missed = bound.missed + (missed or 1)
  end
end

---As `fire`; but while too many handlers run the event waits, and while too many wait it is left out and counted.
---@param bytes integer What it weighs.
---@param name string
function Emitter:fire_bounded(bytes, name, ...)
  local bound = self.bounded
  if not self:has(name) then
    return
  elseif bound.missed > 0 then
    bound.missed = bound.missed + 1
  elseif bound.first > bound.last and bound.running < bound.tasks then
    begin(self, name, ...)
  elseif bound.last - bound.first + 1 >= bound.count_max or (bound.bytes > 0 and bound.bytes + bytes > bound.bytes_max) then
    bound.missed = 1
  else
    local event = table.pack(name, ...)
    event.bytes = bytes
    bound.last, bound.bytes = bound.last + 1, bound.bytes + bytes
    bound.waiting[bound.last] = event
  end
end

return M
