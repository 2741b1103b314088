--- holt journal export: every entry as a line of JSON.
local lines = require("holt.cli.journal.lines")
local open = require("holt.cli.journal.open")
local stream = require("holt.cli.journal.stream")
local term = require("holt.cli.term")

local verb = {
  name = "journal export",
  usage = "holt journal export --db FOLDER [options]",
  summary = "Print every entry as a line of JSON, in the order in which they became durable here; equal entries are equal lines. "
    .. "holt journal import reads it back.",
  examples = {
    { "holt journal export --db data > shop.ndjson", "everything" },
    { "holt journal export --db data --meta --only OrderPlaced", "one kind of message, with hash, author and time" },
    { "holt journal export --db data --from 2f6a…64 digits", "from the entry of this hash on" },
  },
  flags = open.flags(open.kept, {
    { "meta", help = "hash, author, sequence, holder, node, time and position, too" },
    { "only", value = "NAME", help = "messages of this name; may be repeated", is_repeatable = true },
    { "from", value = "HASH", help = "begin with this entry (the first one)" },
  }),
}

---Print what a reader gives; returns how many could not be read, or nil when nobody reads our output any more.
---@param reader holt.Reader
---@param values table
---@param progress? fun(entry: holt.Entry)
---@return integer|nil
function verb.print(reader, values, progress)
  local write, bad = stream.writer(), 0
  for _, entry, problem in open.entries(reader) do
    if problem then
      term.say("%s", open.problem_text(problem))
      bad = bad + 1
    else
      local line, err = lines.of_entry(entry, values.meta)
      if not line then
        term.say("entry %s: %s", entry.hash, err.message)
        bad = bad + 1
      elseif not write(line) then
        return nil
      end
      if progress then
        progress(entry)
      end
    end
  end
  return bad
end

---Messages by the names that they have in entries, whichever the schema knows them by; nil and the exit code when it has none
---of that name.
---@param log holt.Log
---@param only string[]|nil
---@return boolean ok
---@return string[]|integer|nil names
function verb.names(log, only)
  local list = only and {}
  for i, name in ipairs(only or {}) do
    local known, full = log.codecs:find(name)
    if not known then
      return false, open.leave(log, open.fail(full))
    end
    list[i] = full
  end
  return true, list
end

function verb.run(values)
  local from = values.from or "start"
  if from ~= "start" and (#from ~= 64 or from:find("%X")) then
    term.say("--from takes a whole hash, 64 hexadecimal digits, not '%s'; holt journal export --meta shows them", from)
    return 2
  end
  local log, code = open.open(values, true)
  if not log then
    return code
  end
  local known, names = verb.names(log, values.only)
  if not known then
    return names
  end
  local ok, bad = pcall(function()
    local stats = log:stats()
    local total, shows = stats.next - stats.first, not term.is_terminal(1)
    local reader <close> = log:read({ from = from, filter = names })
    local count = 0
    return verb.print(reader, values, function(entry)
      count = count + 1
      if shows and count % 1000 == 0 then
        term.progress("exporting", (entry.position - stats.first) / total)
      end
    end)
  end)
  term.progress("exporting", nil)
  if not ok then
    return open.leave(log, open.fail(bad))
  end
  return open.leave(log, (bad or 0) > 0 and 1 or 0)
end

return verb
