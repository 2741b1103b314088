--- holt journal import: lines of JSON become entries. Killed and run again, it goes on behind the last line it wrote.
--
-- - Every LAP lines a note beside the journal says how many lines are written, and up to which position.
-- - Begun again: lines behind the note that are in the journal already, in this order, are not written a second time.
local core = require("holt.core")
local errors = require("holt.errors")
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local LAP = 1000
local IN_FLIGHT = 512

local verb = {
  name = "journal import",
  usage = "holt journal import FILE --db FOLDER [options]",
  summary = "Write every line of FILE, {\"name\": …, \"payload\": …}, into the journal. Killed at any point and run again, it goes on "
    .. "where it was. Lines that are refused are told by number; the rest goes on (exit code 5 at the end).",
  examples = {
    { "holt journal import shop.ndjson --db copy --schema shop.proto", "from a file" },
    { "holt journal export --db data | holt journal import - --db copy", "from standard input: not to be gone on with" },
  },
  flags = open.flags(open.common, {
    { "strict", help = "end at the first line that is refused" },
  }),
  arguments = { min = 1, max = 1, names = "FILE" },
}

-- What the note of an import that did not end says: lines done, and the position behind them.
local function read_note(log, key)
  local lines, position = (core.journal_note(log[1], key) or ""):match("^(%d+) (%d+)$")
  return math.tointeger(lines) or 0, math.tointeger(position)
end

-- The entries of this folder that lie behind the note, so that their lines can be told apart from those that are missing.
local function written_behind(log, position)
  if not position then
    return function() end
  end
  local reader = log:read({ from = position, raw = true, filter = function(entry)
    return entry.holder == log.id and entry.name ~= "EventPeer"
  end })
  return reader
end

local Import = {}
Import.__index = Import

function Import:refuse(number, err)
  term.progress("importing", nil)
  term.say("line %d: %s", number, err.message or tostring(err))
  self.refused = self.refused + 1
  if self.is_strict or err.code == "disk_full" or err.code == "io" then
    self.is_over = true
  end
end

function Import:write(number, name, bytes)
  local hash, err = core.journal_emit(self.log[1], name, bytes)
  self.pending = self.pending - 1
  if hash then
    self.written = self.written + 1
  else
    self:refuse(number, err)
  end
  self.room:open()
end

function Import:wait(most)
  while self.pending > most do
    self.room = core.gate()
    self.room:wait()
  end
end

function Import:take(number, line)
  local name, payload = open.parse(line)
  if not name then
    return self:refuse(number, payload)
  elseif name == "EventPeer" then
    self.skipped = self.skipped + 1 -- where another holder was reached, said by that holder
    return
  end
  local bytes, full = self.log.codecs:encode(name, payload)
  if not bytes then
    return self:refuse(number, full)
  end
  name = full
  local behind = self.behind and self.behind()
  if behind and behind.name == name and behind.payload == bytes then
    self.skipped = self.skipped + 1
    return
  end
  self.behind = nil
  self.pending = self.pending + 1
  core.go(self.write, self, number, name, bytes)
  self:wait(IN_FLIGHT)
end

function Import:lap(number)
  self:wait(0)
  core.journal_set_note(self.log[1], self.key, ("%d %d"):format(number, select(2, core.journal_bounds(self.log[1]))))
end

local function import(log, path, values)
  local file, why = io.stdin, nil
  if path ~= "-" then
    file, why = io.open(path)
  end
  if not file then
    error(errors.new("not_found", ("cannot read %s"):format(why)), 0)
  end
  local size = path ~= "-" and file:seek("end") or 0
  if path ~= "-" then
    file:seek("set")
  end
  local self = setmetatable({
    log = log,
    key = "import " .. path,
    is_strict = values.strict,
    pending = 0,
    written = 0,
    skipped = 0,
    refused = 0,
  }, Import)
  local done, position = 0, nil
  if path ~= "-" then
    done, position = read_note(log, self.key)
  end
  self.behind = position and written_behind(log, position)
  if path ~= "-" and not position then
    self:lap(0)
  end
  local number, bytes = 0, 0
  for line in file:lines() do
    number, bytes = number + 1, bytes + #line + 1
    if number > done and line:find("%S") then
      self:take(number, line)
    end
    if number % LAP == 0 then
      if path ~= "-" and number > done then
        self:lap(number)
      end
      if size > 0 then
        term.progress("importing", bytes / size)
      end
      core.sleep(0)
    end
    if self.is_over then
      break
    end
  end
  self:wait(0)
  term.progress("importing", nil)
  if not self.is_over then
    core.journal_set_note(log[1], self.key)
  end
  self.done = done
  return self
end

function verb.run(values, arguments)
  local path = arguments[1]
  local log, code = open.open(values)
  if not log then
    return code
  end
  local ok, result = pcall(import, log, path, values)
  if not ok then
    return open.leave(log, open.fail(result))
  end
  term.say("%d written, %d refused, %d skipped%s", result.written, result.refused, result.skipped,
    result.done > 0 and (", after %d lines of the run before"):format(result.done) or "")
  return open.leave(log, result.refused > 0 and 5 or 0)
end

return verb
