--- holt journal: a journal's peer as a tool. Without a verb of its own a prompt, or lines of JSON in and out.
local core = require("holt.core")
local errors = require("holt.errors")
local open = require("holt.cli.journal.open")
local options = require("holt.options")
local term = require("holt.cli.term")

local LEVELS = { "trace", "debug", "info", "warn", "error", "silent" }

local verb = {
  name = "journal",
  usage = "holt journal [SCHEMA] [options]\n       holt journal VERB [options]",
  summary = "Be a holder of a journal: a prompt, or with --no-repl lines of JSON in and out. Both go on where they stopped. "
    .. "Verbs: tail, export, import, verify, log, stats, check, compact; holt journal VERB --help says more about one.",
  examples = {
    { "holt journal shop.proto --db data --listen :7001", "a prompt; events appear as they arrive" },
    { "holt journal shop.proto --db copy --connect :7001 --no-repl", "lines of JSON in and out" },
    { "echo '{\"name\":\"Hello\",\"payload\":{\"from\":\"Ada\"}}' | holt journal --db data", "emit, print what is new, end" },
    { "holt journal --db data --no-repl --from-scratch </dev/null | jq .payload", "everything that is there" },
    { "holt journal export --db data > shop.ndjson", "one verb of its own: see holt journal export --help" },
  },
  flags = open.flags(open.common, open.links, {
    { "no-repl", help = "lines of JSON instead of the prompt; also when standard input or output is no terminal" },
    { "from-scratch", help = "begin with the first entry, wherever the cursor is" },
    { "cursor", value = "NAME", help = "the cursor that remembers where this stopped" },
    { "meta", help = "with --no-repl: hash, author, sequence, holder, node, time and position, too" },
    { "strict", help = "with --no-repl: end with 5 at the first line that is refused" },
    { "log-level", value = "LEVEL", help = "trace debug info warn error silent (HOLT_LOG_LEVEL, else warn)", values = LEVELS },
  }),
  arguments = { min = 0, max = 1, names = "SCHEMA" },
  verbs = { "tail", "export", "import", "verify", "log", "stats", "check", "compact" },
}

local function usage(text)
  term.say("journal: %s", text)
  io.stderr:write("usage: ", verb.usage, "\n")
  return 2
end

-- SIGTERM and SIGINT: close and end; the second one ends at once.
local function watch_signals(log)
  local is_ending = false
  local function on_signal()
    if is_ending then
      core.exit(1)
    end
    is_ending = true
    core.go(function()
      core.exit(open.leave(log, 0))
    end)
  end
  core.on_signal("SIGTERM", on_signal)
  core.on_signal("SIGINT", on_signal)
  return on_signal
end

-- A word that is no file may be a verb mistyped: what to say of it.
local function wrong_word(word)
  local file = io.open(word)
  if file then
    file:close()
  elseif not word:find("[./]") then
    local near = options.nearest(word, verb.verbs)
    return near and ("there is no verb '%s', did you mean: holt journal %s"):format(word, near)
      or ("there is no file and no verb '%s'; verbs are: %s"):format(word, table.concat(verb.verbs, ", "))
  end
  return nil
end

function verb.run(values, arguments)
  local problem = arguments[1] and wrong_word(arguments[1]) or nil
  if problem then
    term.say("%s", problem)
    return 2
  end
  if arguments[1] and values.schema and arguments[1] ~= values.schema then
    return usage(("two schemas, %s and --schema %s; give one"):format(arguments[1], values.schema))
  end
  values.schema = arguments[1] or values.schema
  values.cursor = values.cursor or open.DEFAULT_CURSOR
  values.is_live = true
  local level = values.log_level or os.getenv("HOLT_LOG_LEVEL") or ""
  problem = level ~= "" and options.problem("HOLT_LOG_LEVEL", level, { "string", values = LEVELS })
  if problem then
    term.say("journal: %s", (problem:gsub("^option '(%S+)'", "%1")))
    return 2
  end
  core.log_level(level ~= "" and level or "warn")
  local log, code = open.typed(values, verb)
  if not log then
    return code
  end
  if values.from_scratch then
    log:cursor(values.cursor, "start")
  end
  local leave = watch_signals(log)
  local is_prompt = not values.no_repl and core.is_terminal(0) and core.is_terminal(1)
  local ok, result = pcall(require(is_prompt and "holt.cli.journal.prompt" or "holt.cli.journal.stream").run, log, values, leave)
  if not ok and errors.is(result) and (result.code == "canceled" or (result.code == "closed" and log.closed)) then
    return nil -- we are ending already
  end
  return open.leave(log, ok and result or open.fail(result))
end

return verb
