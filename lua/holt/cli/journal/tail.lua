--- holt journal tail: the newest entries, and with --follow those that come.
local core = require("holt.core")
local export = require("holt.cli.journal.export")
local open = require("holt.cli.journal.open")

local verb = {
  name = "journal tail",
  usage = "holt journal tail [--db FOLDER] [options]",
  summary = "Print the newest entries as lines of JSON. With --follow it goes on with those that come from the holders it is "
    .. "linked to, until it is told to end; without --db it keeps what it gets in memory.",
  examples = {
    { "holt journal tail --db data", "the last ten" },
    { "holt journal tail shop.proto --follow --connect :7001", "watch what a holder has and gets" },
    { "holt journal tail --db data --lines 1 --meta", "the newest, with its hash" },
  },
  flags = open.flags(open.common, open.links, {
    { "lines", "n", value = "COUNT", help = "how many (10)", kind = "integer" },
    { "follow", "f", help = "go on with those that come" },
    { "only", value = "NAME", help = "messages of this name; may be repeated", is_repeatable = true },
    { "meta", help = "hash, author, sequence, holder, node, time and position, too" },
  }),
  arguments = { min = 0, max = 1, names = "SCHEMA" },
}

-- The position of the entry that is the `count`-th from the end, among those that are wanted.
local function find_start(log, count, only)
  local first, next_one = core.journal_bounds(log[1])
  local width = math.max(count * 2, 64)
  while true do
    local from = math.max(first, next_one - width)
    local places = {}
    local reader <close> = log:read({ from = from, filter = only, raw = true })
    for _, entry, problem in open.entries(reader) do
      places[#places + 1] = (entry or problem).position
    end
    if #places >= count or from == first then
      return count == 0 and next_one or places[math.max(1, #places - count + 1)] or next_one
    end
    width = width * 4
  end
end

function verb.run(values, arguments)
  values.schema = arguments[1] or values.schema
  values.is_live = values.follow
  local log, code = open.open(values, not values.follow)
  if not log then
    return code
  end
  local function close()
    core.go(function()
      core.exit(open.leave(log, 0))
    end)
  end
  core.on_signal("SIGTERM", close)
  core.on_signal("SIGINT", close)
  local known, names = export.names(log, values.only)
  if not known then
    return names
  end
  code = open.connect(log, values)
  if code then
    return open.leave(log, code)
  end
  local ok, bad = pcall(function()
    local start = find_start(log, values.lines or 10, names)
    local reader <close> = log:read({ from = start, filter = names, follow = values.follow })
    return export.print(reader, values)
  end)
  if log.closed then
    return nil -- ending already
  elseif not ok then
    return open.leave(log, open.fail(bad))
  end
  return open.leave(log, (bad or 0) > 0 and 1 or 0)
end

return verb
