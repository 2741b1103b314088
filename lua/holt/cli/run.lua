--- holt run SCRIPT: one node.
local config = require("holt.config")
local control = require("holt.control")
local core = require("holt.core")
local options = require("holt.options")
local term = require("holt.cli.term")
local topology = require("holt.topology")

local verb = {
  name = "run",
  usage = "holt run SCRIPT [options] [-- arguments of the script]",
  summary = "Run one node. What is said here wins over HOLT_* variables, a topology file and the script, in this order.",
  examples = {
    { "holt run node.lua --name n1 --listen :7001 --connect :7002", "a node that listens, and dials another for ever" },
    { "holt run node.lua --topology shop.lua --name n2", "the node n2 as the topology file describes it" },
    { "HOLT_LOG_LEVEL=debug holt run node.lua -- fast", "settings from the environment; \"fast\" is for the script" },
  },
  flags = {
    { "name", "n", value = "NAME", help = "the node's name (a random one)" },
    { "listen", "l", value = "ADDRESS", help = "listen at host:port or :port; may be repeated", is_repeatable = true },
    { "connect", "c", value = "ADDRESS", help = "dial host:port or :port; may be repeated", is_repeatable = true },
    { "advertise", value = "ADDRESS", help = "where others can dial this node, when not at its listen address", is_repeatable = true },
    { "transport", value = "NAME", help = "tcp, or unix: addresses are then paths (tcp)", values = { "tcp", "unix" } },
    { "channel", value = "NAME", help = "only nodes of one channel talk" },
    { "timeout", value = "SECONDS", help = "give a link up after this silence (60)", kind = "seconds" },
    { "ack-interval", value = "SECONDS", help = "acknowledge at least this often (1)", kind = "seconds" },
    { "buffer-timeout", value = "SECONDS", help = "keep events for an absent peer this long (900)", kind = "seconds" },
    { "buffer-max", value = "COUNT", help = "and at most this many (1000)", kind = "integer" },
    { "buffer-bytes", value = "BYTES", help = "and at most these bytes (16 MiB)", kind = "integer" },
    { "overflow", value = "POLICY", help = "then: drop_oldest, wait or error", values = { "drop_oldest", "wait", "error" } },
    { "max-peers", value = "COUNT", help = "links a node may have (1000)", kind = "integer" },
    { "backoff-min", value = "SECONDS", help = "first wait before dialling anew (0.1)", kind = "seconds" },
    { "backoff-max", value = "SECONDS", help = "longest such wait (30)", kind = "seconds" },
    { "request-timeout", value = "SECONDS", help = "how long a call waits when it is not told (5)", kind = "seconds" },
    { "handler-warning", value = "SECONDS", help = "warn when a handler holds the loop this long; 0: never (0.1)", kind = "seconds" },
    { "drain-timeout", value = "SECONDS", help = "how long an end waits for acknowledgements and answers", kind = "seconds" },
    { "data", value = "FOLDER", help = "keep the cluster's log and snapshots here (in memory)" },
    { "insecure", help = "may listen outside this machine without encryption" },
    { "topology", "t", value = "FILE", help = "take this node's settings from a topology file" },
    { "control", value = "PATH", help = "place of the control socket, or \"none\"" },
    { "log-level", value = "LEVEL", help = "trace debug info warn error silent",
      values = { "trace", "debug", "info", "warn", "error", "silent" } },
  },
  arguments = { min = 1, max = 1, names = "SCRIPT" },
  takes_rest = true,
}

local LEVELS = { "trace", "debug", "info", "warn", "error", "silent" }
local NOT_SETTINGS = { topology = true, control = true, log_level = true, help = true }

local function fail(code, text)
  term.say("%s", text)
  return code
end

local function layers(values)
  local flags = {}
  for key, value in pairs(values) do
    if not NOT_SETTINGS[key] then
      flags[key] = value
    end
  end
  local problem = options.problems(flags, config.rules)
  if problem then
    return nil, "run: " .. problem:gsub("_", "-"):gsub("^option '", "'--")
  end
  local level = os.getenv("HOLT_LOG_LEVEL")
  problem = level and level ~= "" and options.problem("HOLT_LOG_LEVEL", level, { "string", values = LEVELS })
  if problem then
    return nil, "run: " .. problem:gsub("^option '(%S+)'", "%1")
  end
  local launcher = {}
  if values.topology then
    local file, err = topology.load(values.topology)
    if not file then
      return nil, err
    end
    if not values.name then
      return nil, "--topology needs --name too: which of its nodes is this one?"
    end
    launcher, err = topology.settings(file, values.name)
    if not launcher then
      return nil, err
    end
  end
  return flags, launcher
end

local function read_script(path)
  local file, why = io.open(path, "r")
  local text = file and file:read("a")
  if file then
    file:close()
  end
  if not text then
    return nil, ("cannot read the script %s; give the path of a Lua file"):format(why or (path .. ": it is a folder"))
  end
  return text
end

-- The script's own lines of a traceback; nothing when the message says as much by itself.
local function script_lines(traceback, message)
  local lines = {}
  for line in traceback:gmatch("\n%s+([^\n]+)") do
    if line:find("in function 'xpcall'", 1, true) then
      break
    elseif not line:find("^%[C%]") and not line:find("^lua/holt/") and not line:find("^%(%.%.%.tail") then
      lines[#lines + 1] = "  " .. line
    end
  end
  local place = lines[1] and lines[1]:match("^%s*([^:]+:%d+:)")
  if #lines == 0 or (#lines == 1 and place and message:find(place, 1, true)) then
    return ""
  end
  return "\n" .. table.concat(lines, "\n")
end

-- SIGTERM and SIGINT: close the nodes and end; the second one ends at once. Code that holds the loop for a second more
-- is ended by an error, and the process with 1.
local function watch_signals(context)
  local is_ending = false
  local function on_signal(name)
    if is_ending then
      core.exit(1)
    end
    is_ending = true
    core.log("info", name .. ": closing")
    context.stop()
  end
  core.on_signal("SIGTERM", on_signal, true)
  if os.getenv("HOLT_LAUNCHED") then -- a terminal sends SIGINT to us as well as to `holt up`, which tells us to end
    core.on_signal("SIGINT", function() end)
  else
    core.on_signal("SIGINT", on_signal, true)
  end
end

local function new_context()
  local context = { nodes = {} }
  function context.stop()
    core.go(function()
      for _, node in ipairs({ table.unpack(context.nodes) }) do -- each leaves the list as it closes
        node:close()
      end
      core.exit(core.was_interrupted() and 1 or 0)
    end)
  end
  return context
end

local function open_control(context, values, node)
  local place = values.control or os.getenv("HOLT_CONTROL")
  if #context.nodes > 1 and place ~= "none" then
    place = nil -- the place that was asked for belongs to the first node
  end
  local socket, err = control.open(node.name, place, context)
  if err then
    term.say("%s", tostring(err))
    core.exit(1)
  end
  if socket then
    node.events:on("closed", function()
      socket:close()
    end)
  end
end

---Prepare a process that runs nodes: settings, signals, control sockets.
---@param values table Flags.
---@param flags table Settings from the command line.
---@param launcher table Settings from the launcher's file.
function verb.prepare(values, flags, launcher)
  local level = values.log_level or os.getenv("HOLT_LOG_LEVEL")
  if level and level ~= "" then
    core.log_level(level)
  end
  config.set_layer("flags", flags)
  config.set_layer("file", launcher)
  local context = new_context()
  watch_signals(context)
  require("holt.node").on_new = function(node)
    table.insert(context.nodes, node)
    node.events:on("closed", function()
      for i, other in ipairs(context.nodes) do
        if other == node then
          table.remove(context.nodes, i)
          break
        end
      end
    end)
    open_control(context, values, node)
  end
  return context
end

function verb.run(values, arguments, rest)
  local path = arguments[1]
  local flags, launcher = layers(values)
  if not flags then
    return fail(2, tostring(launcher))
  end
  local text, problem = read_script(path)
  if not text then
    return fail(2, problem)
  end
  local chunk, broken = load(text, "@" .. path)
  if not chunk then
    return fail(1, "the script is broken: " .. tostring(broken))
  end
  verb.prepare(values, flags, launcher)
  package.path = (path:match("^(.*/)[^/]*$") or "./") .. "?.lua;" .. package.path
  _G.arg = table.move(rest, 1, #rest, 1, { [0] = path })
  local ok, raised = xpcall(chunk, function(value)
    return { value = value, traceback = debug.traceback(nil, 2) }
  end, table.unpack(rest))
  if not ok then
    local message = tostring(raised.value)
    term.say("the script raised an error: %s%s", message, script_lines(raised.traceback, message))
    return 1
  end
  return nil -- the process lives while something is left that can happen
end

return verb
