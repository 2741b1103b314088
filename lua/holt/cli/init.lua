--- The command line: finds the verb, reads its arguments, runs it.
-- Exit codes: 0 done, 1 failed, 2 usage, 3 no quorum, 4 time-out, 5 schema, 6 outcome unknown. stdout is data, stderr is talk.
-- @module holt.cli
local args = require("holt.cli.args")
local core = require("holt.core")
local options = require("holt.options")
local term = require("holt.cli.term")

local M = {}

local VERBS = {
  "run",
  "up",
  "demo",
  "status",
  "get",
  "set",
  "push",
  "pop",
  "keys",
  "member",
  "journal",
  "bench",
  "types",
  "explain",
}

local function general_help()
  local lines = {
    "Examples:",
    "  holt demo",
    "      three nodes with something to watch; ends by itself",
    "  holt run node.lua --name n1 --listen :7001 --connect :7002",
    "      one node",
    "  holt up topology.lua",
    "      the nodes of a topology file",
    "",
    "Usage: holt VERB [options]",
    "",
    "Verbs:",
  }
  for _, name in ipairs(VERBS) do
    local summary = require("holt.cli." .. name).summary
    lines[#lines + 1] = ("  %-10s %s"):format(name, summary:match("^.-%.%f[ \0]") or summary)
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "holt VERB --help says more about one; holt --version tells the version."
  return table.concat(lines, "\n") .. "\n"
end

local function usage_error(text)
  term.say("%s", text)
  return 2
end

local function is_verb(name)
  for _, verb in ipairs(VERBS) do
    if verb == name then
      return true
    end
  end
  return false
end

local function dispatch(argv)
  local name = argv[1]
  if name == nil then
    io.stderr:write(general_help())
    return 2
  elseif name == "--version" or name == "-V" or name == "version" then
    term.print("holt " .. core.version)
    return 0
  elseif name == "--help" or name == "-h" or (name == "help" and not argv[2]) then
    io.stdout:write(general_help())
    return 0
  elseif name == "help" then
    return dispatch({ argv[2], "--help" })
  elseif not is_verb(name) then
    local near = options.nearest(name, name:sub(1, 1) == "-" and { "--version", "--help" } or VERBS)
    return usage_error(("there is no verb '%s'%s"):format(name, near and (", did you mean: holt " .. near) or "; see: holt --help"))
  end
  local verb = require("holt.cli." .. name)
  local first = 2
  for _, inner in ipairs(verb.verbs or {}) do
    if argv[2] == inner then
      verb, first = require("holt.cli." .. name .. "." .. inner), 3
      name = verb.name
      break
    end
  end
  local values, arguments, rest = args.parse(verb, table.move(argv, first, #argv, 1, {}))
  if not values then
    return usage_error(("%s: %s"):format(name, arguments))
  elseif values.help then
    io.stdout:write(args.help(verb))
    return 0
  end
  return verb.run(values, arguments, rest)
end

---Run the program. Returns the exit code, or nil when the process shall live on until nothing is left to do.
---@param ... string The arguments, without the program's name.
---@return integer|nil
function M.main(...)
  return dispatch({ ... })
end

return M
