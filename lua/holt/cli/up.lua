--- holt up FILE: the nodes of a topology file as processes.
local children = require("holt.cli.children")
local control = require("holt.control")
local core = require("holt.core")
local term = require("holt.cli.term")
local topology = require("holt.topology")

local READY_AFTER_MAX = 30 -- seconds until we stop looking whether a node is ready

local verb = {
  name = "up",
  usage = "holt up FILE",
  summary = "Run the nodes of a topology file as processes, until Ctrl-C. Nothing is restarted by itself.",
  examples = {
    { "holt up topology.lua", "start all nodes, show their output, stop all on Ctrl-C" },
    { "holt up topology.lua --log-level info", "the same, with more talk from each node" },
  },
  flags = {
    { "log-level", value = "LEVEL", help = "for all nodes: trace debug info warn error silent",
      values = { "trace", "debug", "info", "warn", "error", "silent" } },
    { "insecure", help = "nodes may listen outside this machine without encryption" },
  },
  arguments = { min = 1, max = 1, names = "FILE" },
}

local function command_of(node, file, values)
  local command = { core.executable(), "run", node.script, "--topology", file, "--name", node.name }
  if values.log_level then
    table.insert(command, "--log-level=" .. values.log_level)
  end
  if values.insecure then
    table.insert(command, "--insecure")
  end
  if #node.args > 0 then
    table.insert(command, "--")
    table.move(node.args, 1, #node.args, #command + 1, command)
  end
  command.env = {}
  for name, value in pairs(node.env) do
    command.env[name] = tostring(value)
  end
  return command
end

-- Look until the node answers on its control socket.
local function wait_ready(child)
  local path = core.control_path(child.name)
  local deadline = core.now() + READY_AFTER_MAX
  while path and child.is_running and core.now() < deadline do
    local client = control.connect(path, 1)
    local status = client and client:request({ op = "status" }, 2)
    if client then
      client:close()
    end
    if type(status) == "table" and status.pid == child.process:pid() then
      return status
    end
    core.sleep(0.05)
  end
  return nil
end

function verb.run(values, arguments)
  local file = arguments[1]
  local plan, err = topology.load(file)
  if not plan then
    term.say("%s", tostring(err))
    return 2
  end
  for _, node in ipairs(plan.nodes) do
    local script, why = io.open(node.script)
    if not script then
      term.say("%s: the script of node '%s' cannot be read: %s; scripts are looked for beside the file", file, node.name, why)
      return 2
    end
    script:close()
  end
  local width, ready = 0, 0
  for _, node in ipairs(plan.nodes) do
    width = math.max(width, #node.name)
  end
  local group = children.new()
  local function talk(child, text)
    local label = (("%-" .. width .. "s |"):format(child.name))
    io.stderr:write(term.paint(2, term.colour(child.index), label), " ", text, "\n")
  end
  local function on_line(child, line, which)
    local number = which == "stdout" and 1 or 2
    local label = (("%-" .. width .. "s |"):format(child.name))
    local out = number == 1 and io.stdout or io.stderr
    out:write(term.paint(number, term.colour(child.index), label), " ", line, "\n")
    out:flush()
  end
  local function on_end(child)
    if not group.is_stopping then
      talk(child, term.paint(2, "red", children.describe_end(child)))
    end
  end

  local signals = 0
  local function on_signal()
    signals = signals + 1
    if signals == 1 then
      term.say("stopping %d nodes", #group.list)
      core.go(function() group:stop(10) end)
    else
      group:kill()
    end
  end
  core.on_signal("SIGINT", on_signal)
  core.on_signal("SIGTERM", on_signal)

  for _, node in ipairs(plan.nodes) do
    local child
    child, err = group:start(node.name, command_of(node, file, values), on_line, on_end)
    if not child then
      term.say("%s", tostring(err))
      group:stop(5)
      return 1
    end
    core.go(function()
      local status = wait_ready(child)
      if status then
        ready = ready + 1
        talk(child, term.paint(2, "green", "ready") .. " at " .. table.concat(node.listen, ", "))
        if ready == #plan.nodes then
          term.say("all %d nodes are ready; Ctrl-C stops them", ready)
        end
      end
    end)
  end
  group:wait()
  local failed = 0
  for _, child in ipairs(group.list) do
    if child.signal or child.code ~= 0 then
      failed = failed + 1
      if group.is_stopping then
        talk(child, children.describe_end(child))
      end
    end
  end
  if failed > 0 then
    term.say("%d of %d nodes failed", failed, #group.list)
    return 1
  end
  return 0
end

return verb
