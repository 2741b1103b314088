--- Child processes of one command: started together, their lines passed on, stopped together.
-- @module holt.cli.children
local core = require("holt.core")

local M = {}

-- A child's own children may hold its pipes open after its end: no longer than this do we wait for their lines.
local LAST_LINES_MAX = 1

---@class holt.Children
---@field list table[]
---@field private is_stopping boolean
local Children = {}
Children.__index = Children

function M.new()
  return setmetatable({ list = {}, is_stopping = false }, Children)
end

local function pass_lines(stream, on_line, child, which)
  while true do
    local line = stream:read_line()
    if not line then
      break
    end
    on_line(child, line, which)
  end
  stream:close()
end

---Start a program. `on_line(child, line, "stdout"|"stderr")` gets its lines, `on_end(child, code, signal)` its end,
---after its last line.
---@param name string
---@param command table As for holt.core.spawn.
---@param on_line function
---@param on_end function
---@return table|nil child
---@return holt.Error?
function Children:start(name, command, on_line, on_end)
  command.stdout, command.stderr, command.die_with_parent = "pipe", "pipe", true
  command.env = command.env or {}
  command.env.HOLT_LAUNCHED = "1"
  if command.env.HOLT_CONTROL == nil then
    command.env.HOLT_CONTROL = false -- one place cannot be that of all of them
  end
  local process, err = core.spawn(command)
  if not process then
    return nil, err
  end
  local child = { name = name, process = process, index = #self.list + 1, is_running = true }
  table.insert(self.list, child)
  local readers = {
    core.go(pass_lines, process.stdout, on_line, child, "stdout"),
    core.go(pass_lines, process.stderr, on_line, child, "stderr"),
  }
  child.ended = core.gate()
  core.go(function()
    local code, signal = process:wait()
    local deadline = core.now() + LAST_LINES_MAX
    for i, reader in ipairs(readers) do
      reader:join(math.max(0, deadline - core.now()))
      local stream = i == 1 and process.stdout or process.stderr
      stream:close() -- ends a reader that still waits
      reader:join()
    end
    child.is_running, child.code, child.signal = false, code, signal
    child.ended:open()
    on_end(child, code, signal)
  end)
  return child
end

---How a child ended, in words.
---@param child table
---@return string
function M.describe_end(child)
  if child.signal then
    return "was ended by " .. child.signal
  elseif child.code == 127 then
    return "could not be started"
  elseif child.code ~= 0 then
    return "ended with exit code " .. child.code
  end
  return "ended"
end

---Ask all to end with SIGTERM; whoever still runs after `grace` seconds gets SIGKILL. Returns when all have ended.
---@param grace number
function Children:stop(grace)
  self.is_stopping = true
  local deadline = core.now() + grace
  for _, child in ipairs(self.list) do
    if child.is_running then
      child.process:kill("TERM")
    end
  end
  for _, child in ipairs(self.list) do
    if child.is_running then
      local code = child.process:wait(math.max(0, deadline - core.now()))
      if not code then
        child.process:kill("KILL")
      end
      child.ended:wait()
    end
  end
end

---Kill all that run, now; what they still had to say is not waited for.
function Children:kill()
  self.is_stopping = true
  for _, child in ipairs(self.list) do
    if child.is_running then
      child.process:kill("KILL")
      child.process.stdout:close()
      child.process.stderr:close()
    end
  end
end

---Wait until all have ended.
function Children:wait()
  for _, child in ipairs(self.list) do
    child.ended:wait()
  end
end

return M
