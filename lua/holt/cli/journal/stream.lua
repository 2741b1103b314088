--- holt journal --no-repl: lines of JSON in and out, going on where the last run stopped.
--
-- - Each line of standard input is read, checked and emitted in order; many are on their way to the disk at once.
-- - Each entry, our own too, is a line on standard output; the cursor moves when the line has been written.
-- - The end of the input: with links it goes on until it is told to end; without them it ends when all is written.
-- - Nobody reads standard output any more: it ends.
local core = require("holt.core")
local errors = require("holt.errors")
local lines = require("holt.cli.journal.lines")
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local M = {}

local IN_FLIGHT = 512
local LARGE = 256 * 1024 -- bytes of a message that may be too large: nothing is begun before its answer
local PIECE = 64 * 1024

--- Input ---------------------------------------------------------------------------------------------------------------

-- The lines of standard input, from a pipe or terminal without holding up the loop. A file never makes us wait.
local function lines_of_input()
  local kind = core.stdio_kind(0)
  if kind == "file" then
    return lines.split(function()
      core.sleep(0)
      return io.stdin:read(PIECE)
    end)
  end
  local stream, err = core.stdio(0)
  if not stream then
    error(err, 0)
  end
  return lines.split(function()
    return (stream:read())
  end)
end

local Input = {}
Input.__index = Input

function Input:refuse(number, err)
  term.say("line %d: %s", number, err.message or tostring(err))
  self.refused = self.refused + 1
  if self.is_strict and not self.failure then
    self.failure = 5
  end
end

function Input:emit(number, name, bytes)
  local hash, err = core.journal_emit(self.log[1], name, bytes)
  self.pending = self.pending - 1
  if hash then
    self.emitted = self.emitted + 1
  elseif not self.is_stopped then
    self:refuse(number, err)
    if err.code == "disk_full" or err.code == "io" or err.code == "closed" then
      self.failure = 1
    end
  end
  self.room:open()
end

function Input:take(number, line)
  local name, payload = lines.parse(line)
  if not name then
    return self:refuse(number, payload)
  end
  local bytes, full = self.log.codecs:encode_users(name, payload)
  if not bytes then
    return self:refuse(number, full)
  end
  while #bytes > LARGE and self.pending > 0 do
    self:wait_room()
  end
  self.pending = self.pending + 1
  if #bytes > LARGE then
    self:emit(number, full, bytes)
  else
    core.go(self.emit, self, number, full, bytes)
  end
end

---Emit every line; returns when all are answered.
function Input:run()
  for number, line in lines_of_input() do
    if not line or line:find("%S") then
      self:take(number, line)
    end
    while self.pending >= IN_FLIGHT do
      self:wait_room()
    end
    if self.failure or self.is_stopped then
      break
    end
  end
  while self.pending > 0 do
    self:wait_room()
  end
end

function Input:wait_room()
  self.room = core.gate()
  self.room:wait()
end

---@param log holt.Log
---@param is_strict boolean|nil
function M.input(log, is_strict)
  return setmetatable({
    log = log,
    is_strict = is_strict,
    pending = 0,
    emitted = 0,
    refused = 0,
    room = core.gate(),
  }, Input)
end

--- Output --------------------------------------------------------------------------------------------------------------

---A function that writes a line to standard output and returns when it is out; false when nobody reads any more. It raises what
---else keeps it from being written.
function M.writer()
  if core.stdio_kind(1) == "pipe" then
    local stream = core.stdio(1)
    return function(line)
      return (stream:write(line .. "\n") and stream:write("")) and true or false
    end
  end
  return function(line)
    local ok, err = term.put(line .. "\n")
    if err then
      error(err, 0)
    end
    return ok
  end
end

local function print_entry(write, entry, values)
  local line, err = lines.of_entry(entry, values.meta)
  if not line then
    term.say("entry %s: %s", entry.hash, err.message)
    return true
  end
  return write(line)
end

-- One entry after the other until the reader ends. False: nobody reads our output.
local function print_all(reader, write, values, state)
  while true do
    state.is_idle = true
    local ok, entry = pcall(reader)
    state.is_idle = false
    if ok and not entry then
      return true
    elseif ok and not print_entry(write, entry, values) then
      return false
    elseif not ok and errors.is(entry) and entry.position then
      term.say("%s", open.problem_text(entry)) -- goes on behind it
    elseif not ok then
      error(entry, 0)
    end
  end
end

---Print what is there from the cursor on, and end there.
function M.drain(log, write, values)
  local reader <close> = log:read({ cursor = values.cursor })
  return print_all(reader, write, values, {})
end

---Run until told to end; returns the exit code.
---@param log holt.Log
---@param values table
---@return integer
function M.run(log, values)
  local write = M.writer()
  local reader = log:read({ cursor = values.cursor, from = "now", follow = true })
  local ended = core.gate()
  local state = {} -- has_stopped: nothing more is printed; failure: the exit code, if that is no good end
  local output = core.go(function()
    local ok, result = pcall(print_all, reader, write, values, state)
    if not ok and not (errors.is(result) and result.code == "canceled") then
      state.failure = open.fail(result)
    end
    if not ok or not result then
      state.has_stopped = true
      ended:open()
    end
  end)
  local failed = open.connect(log, values)
  if failed then
    return failed
  end
  local input = M.input(log, values.strict)
  core.go(function()
    input:run()
    if input.failure or not (values.listen or values.connect) then
      ended:open()
    end
  end)
  ended:wait()
  while not state.is_idle and not state.has_stopped do
    core.sleep(0.002)
  end
  if state.has_stopped then -- nobody reads, or nothing can be written: what we printed so far is where the next run begins
    input.is_stopped = true
    return state.failure or input.failure or 0
  end
  output:cancel()
  reader:close()
  M.drain(log, write, values)
  return input.failure or 0
end

return M
