--- holt journal check: whether another schema still reads what is there.
local core = require("holt.core")
local open = require("holt.cli.journal.open")
local schemas = require("holt.schema")
local term = require("holt.cli.term")

local verb = {
  name = "journal check",
  usage = "holt journal check NEW.proto --db FOLDER [--name NAME] [--accept]",
  summary = "Read every entry with another schema. The first one that it would not decode, or of which it would lose a field, is named; "
    .. "exit code 5. Nothing is changed, unless --accept is given: then a schema that reads all entries becomes the journal's, also one "
    .. "that was refused at the opening (schema_conflict) because of what entries might hold.",
  examples = {
    { "holt journal check shop.v2.proto --db data", "before that schema is used" },
    { "holt journal check shop.v2.proto --db data --accept", "and from now on it is the journal's" },
    { "holt journal check shop.v2.proto --db data && mv shop.v2.proto shop.proto", "the exit code tells" },
  },
  flags = open.flags({ open.kept[1], open.kept[2], { "accept", help = "the schema becomes the journal's, if it reads all entries" } }),
  arguments = { min = 1, max = 1, names = "NEW.proto" },
}

-- What is wrong with an entry under this schema, or nil.
local function problem_of(schema, entry)
  if entry.name == "EventPeer" then
    return nil
  end
  local message, err = schema:message(entry.name)
  if message then
    local ok
    ok, err = message.check(entry.payload)
    if ok then
      return nil
    end
  end
  return err
end

local function check(log, schema)
  local count = 0
  local total = math.max(log:stats().next, 1)
  for entry in log:read({ raw = true }) do
    local err = problem_of(schema, entry)
    if err then
      err.message = ("entry %s (%s, position %d, by %s): %s"):format(entry.hash, entry.name, entry.position, entry.node, err.message)
      error(err, 0)
    end
    count = count + 1
    if count % 1000 == 0 then
      term.progress("checking", entry.position / total)
    end
  end
  return count
end

function verb.run(values, arguments)
  local schema, err = schemas.new(arguments[1])
  if not schema then
    return open.fail(err)
  end
  local log, code = open.open(values, true)
  if not log then
    return code
  end
  local ok, result = pcall(check, log, schema)
  term.progress("checking", nil)
  if not ok then
    return open.leave(log, open.fail(result))
  end
  if values.accept then
    core.journal_set_note(log[1], "schema", schema:bytes())
  end
  term.print(("%d entries can be read with %s%s"):format(result, arguments[1], values.accept and ", which is the journal's now" or ""))
  return open.leave(log, 0)
end

return verb
