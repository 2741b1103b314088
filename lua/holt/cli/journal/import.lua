--- holt journal import: lines of JSON become entries. Killed and run again, it goes on behind the last line it wrote.
--
-- - Every LAP lines a note beside the journal says how many lines are written, and up to which position. It knows the file by
--   its content, wherever it lies: a checksum of its beginning, and of all that was read of it.
-- - Begun again: lines behind the note that are in the journal already, in this order, are not written a second time.
local core = require("holt.core")
local errors = require("holt.errors")
local lines = require("holt.cli.journal.lines")
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local LAP = 1000
local IN_FLIGHT = 512
local LARGE = 256 * 1024 -- bytes of a message that may be too large: nothing is begun before its answer
local PIECE = 64 * 1024
local HEAD = 64 * 1024 -- bytes of a file by which it is known before the first lap
local NOTE = "imports"
local NOTES_MAX = 8 -- imports that did not end; older ones are forgotten

local verb = {
  name = "journal import",
  usage = "holt journal import FILE --db FOLDER [options]",
  summary = "Write every line of FILE, {\"name\": …, \"payload\": …}, into the journal. Killed at any point and run again, it goes on "
    .. "where it was. Lines that are refused are told by number; the rest goes on (exit code 5 at the end).",
  examples = {
    { "holt journal import shop.ndjson --db copy --schema shop.proto", "from a file" },
    { "holt journal export --db data | holt journal import - --db copy", "from standard input: not to be gone on with" },
  },
  flags = open.flags(open.kept, {
    { "strict", help = "end at the first line that is refused" },
  }),
  arguments = { min = 1, max = 1, names = "FILE" },
}

--- Imports that did not end ----------------------------------------------------------------------------------------------

-- Of each: lines done, the position behind them, bytes read and their checksum, bytes of the head and their checksum.
local FIELDS = { "lines", "position", "bytes", "sum", "head", "head_sum" }

local function read_notes(log)
  local list = {}
  for line in (core.journal_note(log[1], NOTE) or ""):gmatch("[^\n]+") do
    local note, i = {}, 0
    for number in line:gmatch("%d+") do
      i = i + 1
      note[FIELDS[i] or i] = math.tointeger(number)
    end
    list[#list + 1] = i == #FIELDS and note or nil
  end
  return list
end

local function write_notes(log, list)
  local rows = {}
  for i = math.max(1, #list - NOTES_MAX + 1), #list do
    local numbers = {}
    for k, field in ipairs(FIELDS) do
      numbers[k] = list[i][field]
    end
    rows[#rows + 1] = table.concat(numbers, " ")
  end
  core.journal_set_note(log[1], NOTE, table.concat(rows, "\n"))
end

-- The checksum of the first `size` bytes; nil when the file has less.
local function sum_of(file, size)
  file:seek("set")
  local sum = 0
  while size > 0 do
    local piece = file:read(math.min(size, PIECE))
    if not piece then
      return nil
    end
    sum, size = core.checksum(sum, piece), size - #piece
  end
  return sum
end

-- The note of this file, an old one or a new one, and the list it is in.
local function find_note(log, file)
  local list = read_notes(log)
  for _, note in ipairs(list) do
    if sum_of(file, note.head) == note.head_sum and sum_of(file, note.bytes) == note.sum then
      return note, list
    end
  end
  local head = math.min(file:seek("end"), HEAD)
  local note = { lines = 0, bytes = 0, sum = 0, head = head, head_sum = sum_of(file, head) }
  list[#list + 1] = note
  return note, list
end

-- The entries of this folder that lie behind the note, so that their lines can be told apart from those that are missing.
local function written_behind(log, position)
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
  self.is_over = self.is_over or self.is_strict
end

-- The disk takes no more: told once, and nothing behind the last lap counts as done.
function Import:stop(number, err)
  if not self.failure or number < self.failed_at then
    self.failure, self.failed_at = err, number
  end
  self.is_over = true
end

function Import:write(number, name, bytes)
  local hash, err = core.journal_emit(self.log[1], name, bytes)
  self.pending = self.pending - 1
  if hash then
    self.written = self.written + 1
  elseif err.code == "disk_full" or err.code == "io" or err.code == "closed" then
    self:stop(number, err)
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

-- Whether the line is in the journal already, written by the run before. One that is not may have been refused by the journal then, as
-- it will be now; those behind it are compared with the same entry.
function Import:is_written(name, bytes)
  if not self.behind then
    return false
  end
  self.next = self.next or self.behind()
  if not self.next then
    self.behind = nil
    return false
  elseif self.next.name ~= name or self.next.payload ~= bytes then
    return false
  end
  self.next = nil
  return true
end

function Import:take(number, line)
  local name, payload = lines.parse(line)
  if not name then
    return self:refuse(number, payload)
  elseif name == "EventPeer" then
    self.skipped = self.skipped + 1 -- where another holder was reached, said by that holder
    return
  end
  local bytes, full = self.log.codecs:encode_users(name, payload)
  if not bytes then
    return self:refuse(number, full)
  elseif self:is_written(full, bytes) then
    self.skipped = self.skipped + 1
    return
  end
  if #bytes > LARGE then
    self:wait(0)
  end
  self.pending = self.pending + 1
  if #bytes > LARGE then
    self:write(number, full, bytes)
  else
    core.go(self.write, self, number, full, bytes)
  end
  self:wait(IN_FLIGHT)
end

-- Everything up to here is written.
function Import:lap(number)
  if not self.note or self.is_lap_over then
    return
  end
  self:wait(0)
  if self.is_over then
    return
  end
  self.note.lines, self.note.bytes, self.note.sum = number, self.bytes, self.sum
  self.note.position = select(2, core.journal_bounds(self.log[1]))
  write_notes(self.log, self.notes)
end

-- The file has been read to its end: the note goes.
function Import:finish()
  for i, note in ipairs(self.notes or {}) do
    if note == self.note then
      table.remove(self.notes, i)
      write_notes(self.log, self.notes)
      return
    end
  end
end

local function begin(log, file, is_regular, values)
  local self = setmetatable({
    log = log,
    is_strict = values.strict,
    pending = 0,
    written = 0,
    skipped = 0,
    refused = 0,
    bytes = 0,
    sum = 0,
    done = 0,
    room = core.gate(),
  }, Import)
  if is_regular then
    self.note, self.notes = find_note(log, file)
    self.done, self.bytes, self.sum = self.note.lines, self.note.bytes, self.note.sum
    self.behind = self.note.position and written_behind(log, self.note.position)
    if not self.note.position then
      self:lap(0)
    end
    file:seek("set", self.bytes)
  end
  return self
end

local function import(log, path, values)
  local file, why = io.stdin, nil
  if path ~= "-" then
    file, why = io.open(path, "rb")
  end
  if not file then
    error(errors.new("not_found", ("cannot read %s"):format(why)), 0)
  end
  local function read()
    local piece, problem = file:read(PIECE)
    if problem then
      error(errors.new("io", ("cannot read %s: %s"):format(path, problem)), 0)
    end
    return piece
  end
  local size = path ~= "-" and file:seek("end") or nil -- nil: it comes through a pipe, and only once
  if size then
    file:seek("set")
    read() -- a folder opens as a file does, but cannot be read
  end
  local self = begin(log, file, size ~= nil, values)
  local number = self.done
  for _, line, length in lines.split(read) do
    number, self.bytes = number + 1, self.bytes + length
    if line then
      self.sum = core.checksum(self.sum, length > #line and line .. "\n" or line)
    else
      self.is_lap_over = true -- its bytes are gone: the next run begins at the lap before
    end
    if not line or line:find("%S") then
      self:take(number, line)
    end
    if number % LAP == 0 then
      self:lap(number)
      if size then
        term.progress("importing", self.bytes / size)
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
    self:finish()
  end
  if self.failure then
    term.say("line %d: %s; %s", self.failed_at, self.failure.message, size and "run it again when that is mended: it goes on from here"
      or "what is behind it was not read")
  end
  return self
end

function verb.run(values, arguments)
  local path = arguments[1]
  if not values.db then
    term.say("import into which journal? Give --db FOLDER")
    return 2
  end
  local log, code = open.typed(values, verb)
  if not log then
    return code
  end
  local ok, result = pcall(import, log, path, values)
  if not ok then
    return open.leave(log, open.fail(result))
  end
  term.say("%d written, %d refused, %d skipped%s", result.written, result.refused, result.skipped,
    result.done > 0 and (", after %d lines of the run before"):format(result.done) or "")
  return open.leave(log, result.failure and 1 or result.refused > 0 and 5 or 0)
end

return verb
