--- Handlers of a journal's entries: each is a task with a reader of its own, so that a slow one holds up nobody else and
-- nothing waits in memory. With a cursor an entry counts as handled when the handler has returned.
-- @module holt.journal.handlers
local core = require("holt.core")
local errors = require("holt.errors")
local options = require("holt.options")
local reader = require("holt.journal.reader")

local M = {}

local RULES = {
  cursor = { "string" },
  from = { "string|table|integer" },
  retries = { "integer", min = 0 },
}
local RETRY_MIN, RETRY_MAX = 0.1, 10

---Somebody should hear of this: the journal's listeners, else the node's, else the log.
---@param log holt.Log
---@param err holt.Error
function M.report(log, err)
  if not log.events:fire("error", err) and not log.node.events:fire("error", err) then
    core.log("error", ("%s: journal '%s': %s"):format(log.node.name, log.name, tostring(err)))
  end
end

-- Wait, unless the handler is taken away meanwhile.
local function pause(handler, seconds)
  handler.is_waiting = true
  core.sleep(seconds)
  handler.is_waiting = false
end

local function as_error(raised, traceback)
  if errors.is(raised) then
    raised.traceback = raised.traceback or traceback
    return raised
  end
  local cause = type(raised) ~= "string" and raised or nil
  return errors.new("script_error", tostring(raised), { cause = cause, traceback = traceback })
end

local function call(handler, entry)
  return xpcall(handler.f, function(raised)
    return as_error(raised, debug.traceback(nil, 2))
  end, entry.payload, entry)
end

-- Run the handler for one entry until it returns, or its retries are used up. Whether it did return.
local function handle(log, handler, entry)
  local wait = RETRY_MIN
  for attempt = 1, math.huge do
    local ok, err = call(handler, entry)
    if ok or handler.is_off then
      return ok
    end
    err.handler, err.attempt, err.entry = ("handler of '%s'"):format(handler.name), attempt, entry
    M.report(log, err)
    if attempt > handler.retries then
      if handler.reader.cursor then
        log.events:fire("skipped", entry, err)
      end
      return false
    end
    pause(handler, wait)
    wait = math.min(wait * 2, RETRY_MAX)
  end
end

local function next_entry(log, handler)
  while true do
    handler.is_waiting = true
    local ok, entry = pcall(handler.reader)
    handler.is_waiting = false
    if ok then
      return entry
    elseif errors.is(entry) and entry.code == "canceled" then
      return nil
    end
    local err = as_error(entry)
    M.report(log, err) -- an entry that nobody can read: told, and behind us
    if err.code == "io" then
      pause(handler, 1)
    end
  end
end

local function remove(log, handler)
  handler.is_off = true
  handler.reader:close()
  for i, other in ipairs(log.handlers) do
    if other == handler then
      table.remove(log.handlers, i)
      break
    end
  end
end

local function run(log, handler)
  while not handler.is_off do
    local entry = next_entry(log, handler)
    if not entry or handler.is_off then
      break
    end
    if handler.is_once then
      handler.is_last = true
    end
    local is_handled = handle(log, handler, entry)
    if is_handled and handler.is_off then
      reader.settle(handler.reader, entry) -- it took itself away, and is done with this one
    elseif handler.is_once then
      if handler.reader.cursor then
        entry:ack()
      end
      break
    end
  end
  remove(log, handler)
end

---Add a handler; misuse is told at the line of the caller's caller.
---@param log holt.Log
---@param method "on"|"once"
---@param name string
---@param f function
---@param given table|nil
function M.add(log, method, name, f, given)
  local what = "log:" .. method
  if type(name) ~= "string" then
    error(("%s: expected the name of a message, got %s"):format(what, type(name)), 3)
  elseif type(f) ~= "function" then
    error(("%s: the handler must be a function, got %s"):format(what, type(f)), 3)
  end
  given = options.check(what, given, RULES, 1)
  local known, full = log.codecs:find(name)
  if not known then
    return nil, full
  end
  local from = given.from or (given.cursor and "start" or "now")
  local ok, made = pcall(reader.new, log, { cursor = given.cursor, from = from, follow = true, filter = full }, what, 3)
  if not ok then
    if errors.is(made) then
      return nil, made
    end
    error(made:gsub("^[^:]+:%d+: ", ""), 3)
  end
  local handler = {
    name = name,
    f = f,
    is_once = method == "once",
    retries = given.retries or (given.cursor and math.huge or 0),
    reader = made,
  }
  log.handlers[#log.handlers + 1] = handler
  handler.task = core.name_task(core.go(run, log, handler), "journal", f)
  return log
end

-- A handler that runs now runs to its end; one that waits is not run again.
local function take_off(log, handler)
  remove(log, handler)
  if handler.is_waiting then
    handler.task:cancel()
  end
end

---Take handlers away: `f`, or all of that name. Whether there was one.
---@param log holt.Log
---@param name string
---@param f function|nil
---@return boolean
function M.remove(log, name, f)
  if type(name) ~= "string" then
    error(("log:off: expected the name of a message, got %s"):format(type(name)), 3)
  end
  local found = false
  for _, handler in ipairs({ table.unpack(log.handlers) }) do
    if handler.name == name and (f == nil or handler.f == f) and not (found and f) then
      take_off(log, handler)
      found = true
    end
  end
  return found
end

---Take all away: the journal is closed.
---@param log holt.Log
function M.close(log)
  for _, handler in ipairs({ table.unpack(log.handlers) }) do
    take_off(log, handler)
  end
end

return M
