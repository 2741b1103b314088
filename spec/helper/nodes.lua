--- Real node processes for specs: start, kill, pause, resume, restart, eval, wait_for, stop, output.
-- `nodes.guard(before_each, after_each)` inside the outermost describe ends whatever a spec started, and fails the spec
-- that left a process, a socket, a timer or a task of its own behind. Times are seconds.
local control = require("holt.control")
local core = require("holt.core")
local json = require("holt.json")
local assert = require("luassert")

local M = {}

local BUILD = os.getenv("HOLT_BUILD") or "release"
local PATIENCE = 30 -- seconds until something that should happen is missed
-- What a spec starts looks for leaks as it ends, even where its own process and the shell do not.
local ASAN_OPTIONS = (os.getenv("ASAN_OPTIONS") or ""):gsub("detect_leaks=0", "detect_leaks=1")
M.executable = "build/" .. BUILD .. "/holt"

---Scale for long specs: HOLT_SPEC_SCALE=0.1 does a tenth.
M.scale = tonumber(os.getenv("HOLT_SPEC_SCALE") or "1")

-- --- Folders ----------------------------------------------------------------------------------------------------

local function command_output(command)
  local pipe <close> = _G.assert(io.popen("unset LD_PRELOAD; " .. command))
  return (pipe:read("a"):gsub("%s+$", ""))
end

local folder

---A folder of this spec's own, gone at its end.
---@return string
function M.folder()
  folder = folder or command_output("mktemp -d /tmp/holt-spec-XXXXXX")
  return folder
end

---Write a file into that folder; returns its path.
---@param name string
---@param text string
---@return string
function M.write(name, text)
  local path = M.folder() .. "/" .. name
  local file <close> = _G.assert(io.open(path, "w"))
  file:write(text)
  return path
end

---A port that is free now.
---@return integer
function M.free_port()
  local listener = _G.assert(core.listen("127.0.0.1:0"))
  local port = tonumber(listener:address():match(":(%d+)$"))
  listener:close()
  return port
end

---The first of several ports in a row that are free now, below those the system gives to whoever dials.
---@param count integer
---@return integer
function M.free_port_range(count)
  for _ = 1, 100 do
    local first = math.random(10000, 32000 - count)
    local listeners = {}
    for i = 1, count do
      listeners[i] = core.listen("127.0.0.1:" .. first + i - 1)
    end
    local found = 0
    for i = 1, count do
      if listeners[i] then
        found = found + 1
        listeners[i]:close()
      end
    end
    if found == count then
      return first
    end
  end
  error("no " .. count .. " free ports in a row")
end

-- --- Programs ---------------------------------------------------------------------------------------------------

local running = {} -- every program that was started here and not yet ended

---@class spec.Program
local Program = {}
Program.__index = Program

local function gather(self, stream, which)
  while true do
    local line = stream:read_line()
    if not line then
      break
    end
    table.insert(self.lines, { which = which, text = line })
  end
  stream:close()
end

local function launch(self, command)
  command.stdout, command.stderr, command.die_with_parent = "pipe", "pipe", true
  command.env = command.env or {}
  command.env.LD_PRELOAD = command.env.LD_PRELOAD or false
  command.env.ASAN_OPTIONS = command.env.ASAN_OPTIONS or ASAN_OPTIONS
  command.env.HOLT_LAUNCHED = false
  self.process = _G.assert(core.spawn(command))
  self.readers = {
    core.go(gather, self, self.process.stdout, "stdout"),
    core.go(gather, self, self.process.stderr, "stderr"),
  }
  running[self] = true
end

local function run(command)
  local self = setmetatable({ lines = {}, name = "holt " .. tostring(command[2]) }, Program)
  launch(self, command)
  return self
end

---Run the program `holt` with arguments and wait for nothing.
---@param ... string
---@return spec.Program
function M.holt(...)
  return run { M.executable, ... }
end

---Run a text in plain lua5.4, with the module that is being tested.
---@param code string
---@return spec.Program
function M.plain_lua(code)
  local command = { "lua5.4", "-e", code }
  command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  command.env.LD_PRELOAD = os.getenv("LD_PRELOAD") -- the sanitizer that the module was built with
  return run(command)
end

---The same with variables in its environment.
---@param env table<string, string>
---@param ... string
---@return spec.Program
function M.holt_with(env, ...)
  local command = { M.executable, ... }
  command.env = env
  return run(command)
end

---The same with a pipe to its standard input: program.process.stdin.
---@param ... string
---@return spec.Program
function M.holt_with_input(...)
  local command = { M.executable, ... }
  command.stdin = "pipe"
  return run(command)
end

---The same on a terminal of its own; what is written to process.stdin is typed. Both outputs are in one, as on a screen.
---@param ... string
---@return spec.Program
function M.holt_on_terminal(...)
  local words = { M.executable, ... }
  for i, word in ipairs(words) do
    words[i] = "'" .. word:gsub("'", "'\\''") .. "'"
  end
  return run({ "script", "-qefc", "exec " .. table.concat(words, " "), "/dev/null", stdin = "pipe", env = { TERM = "xterm" } })
end

---What it has printed so far.
---@param which? "stdout"|"stderr" Both when not said.
---@return string
function Program:output(which)
  local texts = {}
  for _, line in ipairs(self.lines) do
    if not which or line.which == which then
      texts[#texts + 1] = line.text
    end
  end
  return table.concat(texts, "\n")
end

---Wait until it has ended and all its output is here.
---@param timeout? number
---@return integer|nil code
---@return string? signal
function Program:wait(timeout)
  local code, signal = self.process:wait(timeout or PATIENCE)
  if not code then
    error(("%s did not end in time; it printed:\n%s"):format(self.name, self:output()), 2)
  end
  for _, reader in ipairs(self.readers) do
    reader:join()
  end
  running[self] = nil
  if self.client then
    self.client:close()
    self.client = nil
  end
  return code, signal
end

---SIGKILL, and wait.
function Program:kill()
  self.process:kill("KILL")
  return self:wait()
end

---SIGTERM, and wait. Returns the exit code, and the signal if one ended it.
---@param signal? string Instead of TERM.
function Program:stop(signal)
  self.process:kill(signal or "TERM")
  return self:wait()
end

function Program:pause()
  _G.assert(self.process:kill("STOP"))
end

function Program:resume()
  _G.assert(self.process:kill("CONT"))
end

---Wait until its output matches a pattern.
---@param pattern string
---@param timeout? number
function Program:wait_output(pattern, timeout)
  M.until_true(function()
    return self:output():match(pattern)
  end, timeout, function()
    return ("%s never printed %q but:\n%s"):format(self.name, pattern, self:output())
  end)
  return self:output():match(pattern)
end

-- --- Waiting ----------------------------------------------------------------------------------------------------

---Wait until `check()` is true; raises with `describe()` when it is not in time.
---@param check fun(): any
---@param timeout? number
---@param describe? fun(): string
function M.until_true(check, timeout, describe)
  local deadline = core.now() + (timeout or PATIENCE)
  while true do
    local value = check()
    if value then
      return value
    elseif core.now() > deadline then
      error(describe and describe() or "waited in vain", 3)
    end
    core.sleep(0.01)
  end
end

-- --- Nodes ------------------------------------------------------------------------------------------------------

---@class spec.Node: spec.Program
local Node = setmetatable({}, { __index = Program })
Node.__index = Node

local DEFAULT_SCRIPT = 'node = require("holt").node {}\n'

local function begin(self)
  local given = self.given
  local command = table.move(given.prefix or {}, 1, #(given.prefix or {}), 1, {})
  for _, word in ipairs({ M.executable, "run", self.script, "--name", self.name, "--control", self.control }) do
    table.insert(command, word)
  end
  for _, address in ipairs(self.listen) do
    table.insert(command, "--listen=" .. address)
  end
  for _, target in ipairs(given.connect or {}) do
    table.insert(command, "--connect=" .. (type(target) == "table" and target:address() or target))
  end
  table.move(given.flags or {}, 1, #(given.flags or {}), #command + 1, command)
  if given.args then
    table.insert(command, "--")
    table.move(given.args, 1, #given.args, #command + 1, command)
  end
  command.env = {}
  for name, value in pairs(given.env or {}) do
    command.env[name] = value
  end
  launch(self, command)
end

local function wait_ready(self)
  local status
  M.until_true(function()
    if not self.process:is_running() then
      local code, signal = self:wait()
      local how = signal and ("by " .. signal) or ("with " .. code)
      error(("node %s ended %s before it was ready; it printed:\n%s"):format(self.name, how, self:output()), 4)
    end
    local client = control.connect(self.control, 1)
    if not client then
      return false
    end
    status = client:request({ op = "status" }, 5)
    if type(status) == "table" and status.name == self.name then
      self.client = client
      return true
    end
    client:close()
  end, nil, function()
    return ("node %s was not ready in time; it printed:\n%s"):format(self.name, self:output())
  end)
  self.listen = #status.listen > 0 and status.listen or self.listen -- a restart takes the same port
end

---Start a node and wait until it answers.
---@param given table name, script (text) or file, listen (false: nowhere), connect (nodes or addresses), flags, env, args, prefix
---(words in front of the command), control (another name for its socket: of two nodes of one name)
---@return spec.Node
function M.start(given)
  local self = setmetatable({ name = given.name, given = given, lines = {} }, Node)
  self.script = given.file or M.write(given.name .. ".lua", given.script or DEFAULT_SCRIPT)
  self.control = M.folder() .. "/" .. (given.control or given.name) .. ".sock"
  self.listen = given.listen == false and {} or { given.listen or "127.0.0.1:0" }
  begin(self)
  wait_ready(self)
  return self
end

---Where it listens.
---@return string
function Node:address()
  return self.listen[1]
end

---Start it again, after kill() or stop().
function Node:restart()
  begin(self)
  wait_ready(self)
end

-- Why a node no longer answers: how it ended, and what it printed last.
local function last_words(self)
  local code, signal = self.process:wait(2)
  if not code then
    return ""
  end
  self:wait()
  local lines = {}
  for i = math.max(1, #self.lines - 60), #self.lines do
    lines[#lines + 1] = self.lines[i].text
  end
  local how = signal and ("by " .. signal) or ("with " .. code)
  return ("\nit ended %s; it printed:\n%s"):format(how, table.concat(lines, "\n"))
end

local function unpack_values(list)
  for i = 1, #list do
    if list[i] == json.null then
      list[i] = nil
    end
  end
  return list
end

---Run code in the node; returns what it returns, raises what it raises.
---@param code string
---@param timeout? number
function Node:eval(code, timeout)
  local list, err = self.client:request({ op = "eval", code = code }, timeout or PATIENCE)
  if not list then
    local ended = getmetatable(err) and err.code == "end_of_stream" and last_words(self) or ""
    error(("eval in node %s: %s\n%s%s"):format(self.name, tostring(err), code, ended), 2)
  end
  local count = #list
  return table.unpack(unpack_values(list), 1, count)
end

---Wait until code (or a function of the node) gives something true; returns that.
---@param condition string|fun(node: spec.Node): any
---@param timeout? number
function Node:wait_for(condition, timeout)
  return M.until_true(function()
    if type(condition) == "function" then
      return condition(self)
    end
    return (self:eval(condition))
  end, timeout, function()
    return ("node %s: waited in vain for: %s\nit printed:\n%s"):format(self.name, tostring(condition), self:output())
  end)
end

---Wait until it has this many links that are up.
---@param count integer
function Node:wait_links(count)
  return self:wait_for(([[(function()
    local up = 0
    for _, peer in ipairs(node:status().peers) do if peer.up then up = up + 1 end end
    return up == %d
  end)()]]):format(count))
end

-- --- Leftovers --------------------------------------------------------------------------------------------------

local function own_pid()
  local file <close> = _G.assert(io.open("/proc/self/stat"))
  return file:read("n")
end

local PID = own_pid()

local function open_files()
  return tonumber(command_output(("ls /proc/%d/fd | wc -l"):format(PID)))
end

local function child_processes()
  return command_output(("ps -o pid=,args= --ppid %d | grep -v 'ps -o pid' || true"):format(PID))
end

local function snapshot()
  collectgarbage()
  collectgarbage()
  local handles = core.handles()
  handles.files = open_files()
  return handles
end

---End everything that was started here.
function M.stop_all()
  for program in pairs(running) do
    if program.process:is_running() then
      program.process:kill("CONT")
      program.process:kill("KILL")
    end
    program:wait()
  end
  if folder then
    os.execute("rm -rf " .. folder)
    folder = nil
  end
end

---Inside the outermost describe: `nodes.guard(before_each, after_each)`. Ends what each spec started, then fails the one that left
---something of its own behind.
function M.guard(before_each, after_each)
  local before
  before_each(function()
    before = snapshot()
  end)
  after_each(function()
    M.stop_all()
    local now
    for _ = 1, 200 do -- closing takes a few turns of the loop
      core.sleep(0.01)
      now = snapshot()
      now.files = math.max(now.files, before.files) -- something older may have closed meanwhile
      if now.files == before.files and now.timers == before.timers and now.tasks == before.tasks then
        break
      end
    end
    assert.same(before, now, "the spec left open files, streams, timers, tasks or processes behind")
    assert.same("", child_processes(), "the spec left child processes behind")
  end)
end

-- libuv opens a few descriptors with the first child and the first connection; let that be before any count.
do
  local child = _G.assert(core.spawn { "true", stdout = "pipe" })
  child:wait()
  child.stdout:close()
  core.connect("unix:/nowhere", 1)
  core.connect("127.0.0.1:" .. M.free_port(), 1)
end

return M
