--- holt journal verify: every entry's bytes, hash, links and signatures.
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local verb = {
  name = "journal verify",
  usage = "holt journal verify --db FOLDER [--name NAME]",
  summary = "Look at every entry: its bytes, its hash, its links to what came before, the signatures that cover it. Exit code 1 when "
    .. "one is wrong. What is wrong is told and noted, and the next run on this folder gets it from the holders that it is linked to.",
  examples = {
    { "holt journal verify --db data", "says how many entries are in order" },
    { "holt journal verify --db data && echo sound", "the exit code tells" },
  },
  flags = open.flags(open.kept),
}

function verb.run(values)
  local log, code = open.open(values, true)
  if not log then
    return code
  end
  local ok, result = log:verify({
    progress = function(done, total)
      term.progress("verifying", done / math.max(total, 1))
    end,
  })
  term.progress("verifying", nil)
  local damaged = ok and log:stats().damaged or 0
  if damaged > 0 then -- the file was made anew at the opening, which was told
    term.print(("%d entries are in order; others were lost with a damaged file"):format(result))
    return open.leave(log, 1)
  elseif ok then
    term.print(("%d entries are in order"):format(result))
    return open.leave(log, 0)
  end
  for _, position in ipairs(result.damaged or {}) do
    term.print(("position %d is damaged"):format(position))
  end
  return open.leave(log, open.fail(result))
end

return verb
