--- Time and tasks: after, every, all, race, on top of the scheduler's go and gate.
-- @module holt.tasks
local core = require("holt.core")
local errors = require("holt.errors")

local M = {}

local go, sleep, now = core.go, core.sleep, core.now

local function check_seconds(what, seconds, is_zero_allowed)
  if type(seconds) ~= "number" then
    error(("%s: expected a number of seconds, got %s"):format(what, type(seconds)), 3)
  end
  if seconds ~= seconds or seconds < 0 or (seconds == 0 and not is_zero_allowed) then
    local bound = is_zero_allowed and "not be negative" or "be more than 0"
    error(("%s: seconds must %s, got %s"):format(what, bound, seconds), 3)
  end
end

local function check_function(what, f)
  if type(f) ~= "function" then
    error(("%s: expected a function, got %s"):format(what, type(f)), 3)
  end
end

---@class holt.Timer
---@field private task holt.Task
---@field private is_waiting boolean
---@field private is_over boolean
local Timer = {}
Timer.__index = Timer

---Run no more. A body that runs now runs to its end. False when the timer was over already.
---@return boolean
function Timer:cancel()
  if self.is_over then
    return false
  end
  self.is_over = true
  if self.is_waiting then
    self.task:cancel()
  end
  return true
end

---Whether it will still run.
---@return boolean
function Timer:is_active()
  return not self.is_over
end

Timer.__close = Timer.cancel

local function new_timer(f, body)
  local timer = setmetatable({ is_waiting = true, is_over = false }, Timer)
  timer.task = core.name_task(go(body, timer), "timer", f)
  return timer
end

---Run `f(...)` once, `seconds` from now, in a task of its own.
---@param seconds number
---@param f function
---@param ... any
---@return holt.Timer
function M.after(seconds, f, ...)
  check_seconds("holt.after", seconds, true)
  check_function("holt.after", f)
  local count, arguments = select("#", ...), { ... }
  return new_timer(f, function(timer)
    sleep(seconds)
    if timer.is_over then -- canceled when it was due already
      return
    end
    timer.is_waiting, timer.is_over = false, true
    f(table.unpack(arguments, 1, count))
  end)
end

---Run `f()` every `seconds`, in a task of its own. It never overlaps with itself: a run that takes longer than
---the interval makes the runs it covers fall away. A run that raises is reported; the next one comes all the same.
---@param seconds number
---@param f function
---@return holt.Timer
function M.every(seconds, f)
  check_seconds("holt.every", seconds, false)
  check_function("holt.every", f)
  return new_timer(f, function(timer)
    local due = now() + seconds
    while not timer.is_over do
      timer.is_waiting = true
      sleep(math.max(0, due - now()))
      timer.is_waiting = false
      if timer.is_over then
        return
      end
      local gate = core.gate()
      local run = go(function() -- of its own, so that what it raises is reported, and this timer goes on
        local ending <close> = setmetatable({}, { __close = function()
          gate:open()
        end })
        f()
        return ending
      end)
      core.name_task(run, "timer", f)
      gate:wait()
      local late = now() - due
      due = due + seconds * math.max(1, math.floor(late / seconds) + 1)
    end
  end)
end

local function check_functions(what, functions)
  if type(functions) ~= "table" then
    error(("%s: expected a list of functions, got %s"):format(what, type(functions)), 3)
  end
  for i, f in ipairs(functions) do
    if type(f) ~= "function" then
      error(("%s: item %d must be a function, but it is a %s"):format(what, i, type(f)), 3)
    end
  end
  return #functions
end

-- Start all; `on_end(i, ok, ...)` runs as each ends. Returns the tasks as a value to close.
local function start_all(functions, on_end)
  local running = setmetatable({}, {
    __close = function(tasks)
      for _, task in ipairs(tasks) do
        task:cancel()
      end
    end,
  })
  for i, f in ipairs(functions) do
    local inner = core.go_quiet(f)
    running[#running + 1] = inner
    running[#running + 1] = go(function()
      on_end(i, inner:join())
    end)
  end
  return running
end

---Run functions side by side and wait for all of them. The first that raises makes all others be canceled.
---@param functions function[]
---@return any[]|nil results The first result of each, by its place; `n` tells how many functions there were.
---@return holt.Error? err What the first failure raised.
function M.all(functions)
  local left = check_functions("holt.all", functions)
  local results, failure, gate = { n = left }, nil, core.gate()
  if left == 0 then
    return results
  end
  local running <close> = start_all(functions, function(i, ok, value)
    left = left - 1
    if ok then
      results[i] = value
    elseif not failure then
      failure = value
    end
    if failure or left == 0 then
      gate:open()
    end
  end)
  gate:wait()
  if failure then
    return nil, failure
  end
  return results, nil, running and nil
end

---Run functions side by side; the first to end wins, the others are canceled.
---@param functions function[]
---@return integer|nil winner The place of the function that ended first.
---@return any ... Its results, or the error when it raised.
function M.race(functions)
  if check_functions("holt.race", functions) == 0 then
    error("holt.race: needs at least one function", 2)
  end
  local gate, outcome = core.gate(), nil
  local running <close> = start_all(functions, function(i, ok, ...)
    if not outcome then
      outcome = ok and table.pack(i, ...) or table.pack(nil, ...)
      gate:open()
    end
  end)
  gate:wait()
  if not running then
    return errors.fail("internal", "holt.race lost its tasks")
  end
  return table.unpack(outcome, 1, outcome.n)
end

return M
