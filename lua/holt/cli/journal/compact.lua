--- holt journal compact: the room of deleted entries back to the disk.
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local verb = {
  name = "journal compact",
  usage = "holt journal compact --db FOLDER [--name NAME]",
  summary = "Give the disk back what deleted entries took: the folder's file never shrinks by itself. It is written anew beside the old "
    .. "one (which takes room meanwhile) and then put in its place; killed at any point, one of both is there. While a node has the "
    .. "folder open, call log:compact() there: it goes on meanwhile.",
  examples = {
    { "holt journal compact --db data", "says how much the disk got back" },
  },
  flags = open.flags({ open.kept[1], open.kept[2] }),
}

function verb.run(values)
  local log, code = open.open(values, true, { locked = "let that process call log:compact(), or end it first" })
  if not log then
    return code
  end
  local freed, err = log:compact()
  if not freed then
    return open.leave(log, open.fail(err))
  end
  term.print(("%d bytes given back, %d left on the disk"):format(freed, log:stats().bytes))
  return open.leave(log, 0)
end

return verb
