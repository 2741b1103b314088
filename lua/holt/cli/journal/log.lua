--- holt journal log: entries for people, and with --graph who had seen what when it was written.
local core = require("holt.core")
local inspect = require("holt.cli.inspect")
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local verb = {
  name = "journal log",
  usage = "holt journal log --db FOLDER [--graph] [options]",
  summary = "Print entries, the newest first. With --graph each author is a column; an arrow names the entries of others that the author "
    .. "had seen when it wrote, where that is news.",
  examples = {
    { "holt journal log --db data", "the newest 50" },
    { "holt journal log --graph --db data --lines 500 | less -R", "the graph of who knew what" },
  },
  flags = open.flags(open.kept, {
    { "graph", "g", help = "draw the graph" },
    { "lines", "n", value = "COUNT", help = "how many (50)", kind = "integer", min = 1 },
  }),
}

local WIDEST = 100

-- The newest `count` entries, oldest first; an error in the place of one that cannot be read.
local function newest(log, count)
  local first, next_one = core.journal_bounds(log[1])
  local width = count
  while true do
    local from = math.max(first, next_one - width)
    local list = {}
    local reader <close> = log:read({ from = from, raw = true })
    for _, entry, problem in open.entries(reader) do
      list[#list + 1] = entry or problem
    end
    if #list >= count or from == first then
      return table.move(list, math.max(1, #list - count + 1), #list, 1, {})
    end
    width = width * 2
  end
end

-- The column of each author, and between which places of the list it is drawn.
local function columns_of(list)
  local columns, spans, count = {}, {}, 0
  for i, entry in ipairs(list) do
    local span = spans[entry.author or 0]
    if not span and entry.author then -- none: damaged, and nobody knows whose it was
      count = count + 1
      columns[entry.author], span = count, { first = i }
      spans[entry.author] = span
    end
    if span then
      span.last = i
    end
  end
  return columns, spans, count
end

local function lanes(list, place, columns, spans, count)
  local cells = {}
  for i = 1, count do
    cells[i] = " "
  end
  for author, column in pairs(columns) do
    local span = spans[author]
    if author == list[place].author and list[place].name then
      cells[column] = term.paint(1, term.colour(column), "*")
    elseif place >= span.first and place <= span.last then
      cells[column] = term.paint(1, term.colour(column), "|")
    end
  end
  return table.concat(cells, " ") .. " "
end

local function arrows(log, entry, nodes)
  local parts = {}
  for _, parent in ipairs(core.journal_parents(log[1], entry.position) or {}) do
    parts[#parts + 1] = ("%s#%d"):format(nodes[parent.author] or parent.author:sub(1, 8), parent.sequence)
  end
  return #parts > 0 and " <- " .. table.concat(parts, ", ") or ""
end

local function text_of(log, entry)
  local ok, value = log.codecs:decode(entry.name, entry.payload)
  local text = ok and inspect.text(value) or ("(%s)"):format(value.message)
  if #text > WIDEST then
    text = text:sub(1, (utf8.offset(text, 0, WIDEST) or WIDEST) - 1) .. "…"
  end
  return text
end

local function print_entry(log, entry, nodes, graph, has_arrows)
  if not entry.name then
    term.print(graph .. term.paint(1, "red", "damaged") .. " " .. entry.message)
    return
  end
  local arrow = has_arrows and arrows(log, entry, nodes) or ""
  term.print(("%s%s %s#%d %s %s%s"):format(graph, term.paint(1, "yellow", entry.hash:sub(1, 12)), entry.node, entry.sequence,
    term.paint(1, "bold", entry.name), text_of(log, entry), term.paint(1, "dim", arrow)))
end

function verb.run(values)
  local log, code = open.open(values, true)
  if not log then
    return code
  end
  local list = newest(log, values.lines or 50)
  local columns, spans, count = columns_of(list)
  local nodes = {}
  for _, head in ipairs(log:heads()) do
    nodes[head.author] = head.node
  end
  local bad = 0
  for place = #list, 1, -1 do
    local entry = list[place]
    local graph = values.graph and lanes(list, place, columns, spans, count) or ""
    print_entry(log, entry, nodes, graph, values.graph)
    bad = bad + (entry.name and 0 or 1)
  end
  return open.leave(log, bad > 0 and 1 or 0)
end

return verb
