--- holt journal stats: figures of a journal and its authors.
local json = require("holt.json")
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local verb = {
  name = "journal stats",
  usage = "holt journal stats --db FOLDER [--name NAME] [--json]",
  summary = "Figures of a journal: entries, bytes, how many of these are free, and its authors with their newest entry.",
  examples = {
    { "holt journal stats --db data", "for people" },
    { "holt journal stats --db data --json | jq .entries", "for programs" },
  },
  flags = open.flags(open.kept, { { "json", help = "one object" } }),
}

local function print_table(stats)
  term.print(("id       %s"):format(stats.id))
  term.print(("entries  %d (positions %d to %d)"):format(stats.entries, stats.first, stats.next - 1))
  term.print(("bytes    %d on the disk, %d of them free: `holt journal compact` gives these back"):format(stats.bytes, stats.bytes_free))
  term.print(("damaged  %d"):format(stats.damaged))
  term.print("")
  term.print(("%-16s  %-16s  %10s  %-16s  %s"):format("author", "node", "sequence", "newest", ""))
  for _, head in ipairs(stats.heads) do
    local marks = {}
    if head.horizon > 0 then
      marks[#marks + 1] = ("up to %d gone"):format(head.horizon)
    end
    if head.forked then
      marks[#marks + 1] = "forked"
    end
    term.print(("%-16s  %-16s  %10d  %-16s  %s"):format(head.author:sub(1, 16), head.node, head.sequence, head.hash:sub(1, 16),
      table.concat(marks, ", ")))
  end
end

function verb.run(values)
  local log, code = open.open(values, true)
  if not log then
    return code
  end
  local stats = log:stats()
  stats.heads = json.array(log:heads())
  stats.known_peers = json.array(log:known_peers())
  if values.json then
    term.print(json.encode(stats))
  else
    print_table(stats)
  end
  return open.leave(log, 0)
end

return verb
