--- Reading a journal: one position, moved on entry by entry. A reader holds one small batch of entries; everything else
-- stays on the disk until it is asked for, so a slow reader holds up nobody and nothing piles up.
-- @module holt.journal.reader
local core = require("holt.core")
local errors = require("holt.errors")
local options = require("holt.options")

local M = {}

local BATCH = 256
local MEND_WAIT, MEND_WAIT_SHORT = 10, 1 -- seconds until a damaged entry is given up; behind one that was
local RULES = {
  from = { "string|table|integer" },
  follow = { "boolean" },
  cursor = { "string" },
  filter = { "string|list|function" },
  raw = { "boolean" },
}

---An entry of a journal.
---@class holt.Entry
---@field hash string 64 hexadecimal digits; the same on every holder.
---@field author string The key of the author's chain, 64 hexadecimal digits.
---@field sequence integer The author's number of it.
---@field holder string The `log.id` of the data directory that wrote it.
---@field node string The name of the node that wrote it.
---@field name string
---@field payload any
---@field time number Seconds since 1970 by the author's clock.
---@field position integer Its place in this holder's journal.

--- Where to begin ----------------------------------------------------------------------------------------------------

---The position that `from` means: a position, or nil and an error. Raises misuse.
---@param log holt.Log
---@param from any
---@param what string
---@param level integer
---@return integer|nil
---@return holt.Error?
function M.resolve(log, from, what, level)
  local box = log[1]
  if from == "start" or from == "now" then
    local first, next_one = core.journal_bounds(box)
    if not first then
      return nil, next_one
    end
    return from == "start" and first or next_one
  elseif math.type(from) == "integer" then
    if from < 0 then
      error(("%s: a position is 1 or more, not %d"):format(what, from), level + 1)
    end
    local first, next_one = core.journal_bounds(box)
    if first and from > next_one then
      return errors.fail("not_found", ("%s: there is no position %d, this journal ends at %d"):format(what, from, next_one - 1))
    end
    return from
  elseif type(from) == "string" then
    if #from ~= 64 or from:find("%X") then
      local near = options.nearest(from, { "start", "now" })
      error(("%s: from is \"start\", \"now\", a hash, { time = t } or { author = a, sequence = n }; it is %q%s"):format(what, from,
        near and (", did you mean %q?"):format(near) or ""), level + 1)
    end
    return core.journal_find(box, from)
  elseif type(from) == "table" and type(from.time) == "number" then
    return core.journal_find_time(box, from.time)
  elseif type(from) == "table" and type(from.author) == "string" and math.type(from.sequence) == "integer" then
    return core.journal_find_number(box, from.author, from.sequence)
  end
  error(what .. ": from is \"start\", \"now\", a hash, { time = t } or { author = a, sequence = n }", level + 1)
end

--- Cursors -----------------------------------------------------------------------------------------------------------

-- Two that move one cursor would each skip what the other has not handled yet.
local function take_cursor(log, name, who, level)
  if name == "" or #name > 255 then
    error(("%s: the name of a cursor has 1 to 255 bytes"):format(who), level + 1)
  end
  if log.cursors_used[name] then
    collectgarbage() -- a reader that was dropped gives its cursor back
  end
  local owner = log.cursors_used[name]
  if owner then
    error(("%s: the cursor '%s' is moved by %s already; give each its own, such as '%s.2'"):format(who, name, owner, name), level + 1)
  end
  log.cursors_used[name] = who
end

--- Readers -----------------------------------------------------------------------------------------------------------

---@class holt.Reader
---@field position integer Where the next batch begins.
---@field cursor string|nil
---@field private log holt.Log
---@field private limit integer|nil
---@field private batch holt.Entry[]
---@field private index integer
---@field private at integer|nil The position of the entry that was handed out last.
local Reader = {}
Reader.__index = Reader

-- All before `position` is dealt with.
local function move_cursor(self, position)
  if self.cursor and position > self.stored then
    self.stored = position
    core.journal_set_cursor(self.log[1], self.cursor, position)
  end
end

local function new_entries(self)
  local methods = {}
  function methods.ack(entry)
    if not self.cursor then
      error("entry:ack: this entry was read without a cursor", 2)
    end
    move_cursor(self, entry.position + 1)
  end
  return { __index = methods, __name = "holt.entry", __tostring = M.entry_text }
end

---@param entry holt.Entry
function M.entry_text(entry)
  return ("holt.entry (%s %s #%d)"):format(entry.name, entry.hash:sub(1, 12), entry.position)
end

--- Damaged entries -----------------------------------------------------------------------------------------------------

---An entry was mended, or the journal is closed: whoever waits looks again.
---@param log holt.Log
function M.wake(log)
  if log.mending then
    log.mending:open()
    log.mending = nil
  end
end

-- Whether another holder is linked, or one may come.
local function may_be_mended(log)
  return #log.node:peers() > 0 or #log.node:status().listen > 0
end

-- Wait until the entry that is damaged has been mended, or something else was: the caller looks again. False when it is to be
-- given up: nobody is there to bring it, or did in time. Only with a cursor, which would never come back to it.
local function wait_mended(self, position)
  local log = self.log
  if not self.cursor or not may_be_mended(log) then
    return false
  end
  if self.mend_position ~= position then
    self.mend_position, self.mend_deadline = position, core.now() + self.mend_wait
  end
  local left = self.mend_deadline - core.now()
  if left <= 0 then
    self.mend_wait = MEND_WAIT_SHORT -- perhaps no other has it, nor the next ones
    return false
  end
  log.mending = log.mending or core.gate()
  log.mending:wait(left)
  return true
end

-- Told once: nobody will handle this entry.
local function give_up(self, err)
  if self.cursor then
    self.log.events:fire("skipped", {
      position = err.position,
      author = err.author,
      sequence = err.sequence,
      hash = err.hash,
    }, err)
  end
  error(err, 0)
end

-- The next batch: true when it has something, false when there is nothing more before the limit, or nothing yet.
local function fill(self)
  while not self.is_closed do
    local list, after, err = core.journal_read(self.log[1], self.position, BATCH, self.names, self.limit)
    if not list then
      return false, after
    end
    self.batch, self.index = list, 0
    if #list > 0 then
      self.position = err and err.position or after -- what is damaged is looked at again: it may be mended by then
      self.mend_wait = MEND_WAIT
      return true
    elseif err and not (err.code == "corrupt" and wait_mended(self, err.position)) then
      self.position = after
      if err.code == "corrupt" then
        give_up(self, err)
      end
      error(err, 0)
    elseif not err then
      local is_moving = after > self.position
      self.position = after
      move_cursor(self, after)
      if not is_moving then
        return false
      end
    end
  end
  return false
end

local function wait(self)
  local ok, err = core.journal_wait(self.log[1], self.position)
  return ok, err
end

-- What was read goes through: the payload decoded, the filter asked. nil when the filter does not want it.
local function finish_entry(self, entry)
  setmetatable(entry, self.entries)
  if not self.raw then
    local ok, value = self.log.codecs:decode(entry.name, entry.payload)
    if not ok then
      value.position, value.entry = entry.position, entry
      error(value, 0)
    end
    entry.payload = value
  end
  if self.predicate and not self.predicate(entry) then
    return nil
  end
  return entry
end

---The next entry. Waits for one with `follow`; nil at the end. Raises an error table when an entry cannot be read or
---decoded: `err.position` tells which, and the next call goes on behind it.
---@return holt.Entry|nil
function Reader:next()
  if self.at then -- whoever asks for the next is done with the last one
    move_cursor(self, self.at + 1)
    self.at = nil
  end
  while not self.is_closed do
    while self.index < #self.batch do
      self.index = self.index + 1
      local entry = self.batch[self.index]
      self.batch[self.index] = false
      self.at = entry.position
      entry = finish_entry(self, entry)
      if entry then
        return entry
      end
      move_cursor(self, self.at + 1)
      self.at = nil
    end
    local found, err = fill(self)
    if not found then
      if err and (err.code ~= "closed" or not self.follow) then
        error(err, 0)
      elseif err or not self.follow or not wait(self) then
        break
      end
    end
  end
  self:close()
  return nil
end

---After the reader's end: this entry counts as dealt with all the same, unless somebody else moves the cursor by now.
---@param reader holt.Reader
---@param entry holt.Entry
function M.settle(reader, entry)
  if reader.cursor and not reader.log.cursors_used[reader.cursor] then
    move_cursor(reader, entry.position + 1)
  end
end

---Read no more. The entry that was handed out last counts as not handled: with a cursor it comes again.
function Reader:close()
  if self.is_closed then
    return false
  end
  self.is_closed = true
  if self.cursor then
    self.log.cursors_used[self.cursor] = nil
  end
  self.batch, self.index = {}, 0
  return true
end

Reader.__call = Reader.next
Reader.__close = Reader.close
Reader.__gc = Reader.close

function Reader:__tostring()
  return ("holt.reader (journal '%s', position %d)"):format(self.log.name, self.position)
end

-- A filter as the C side takes it, or a function for afterwards.
-- Messages go by the names that they have in entries, whichever the schema knows them by.
local function read_filter(self, filter)
  if type(filter) == "function" then
    self.predicate = filter
  elseif filter ~= nil then
    self.names = {}
    for _, name in ipairs(type(filter) == "table" and filter or { filter }) do
      local known, full = self.log.codecs:find(name)
      self.names[known and full or name] = true -- another holder may know more messages
    end
  end
end

---Make a reader. Misuse is told `level` calls further out; what cannot be found raises its error table.
---@param log holt.Log
---@param given table|nil
---@param what string For messages: "log:read".
---@param level integer
---@return holt.Reader
function M.new(log, given, what, level)
  given = options.check(what, given, RULES, level - 1)
  if log.closed then
    error(errors.new("closed", ("%s: the journal '%s' is closed"):format(what, log.name)), 0)
  end
  local self = setmetatable({
    log = log,
    follow = given.follow,
    raw = given.raw,
    batch = {},
    index = 0,
    stored = 0,
    mend_wait = MEND_WAIT,
    is_closed = false,
  }, Reader)
  self.entries = new_entries(self)
  read_filter(self, given.filter)
  local from = given.from
  if from == nil then
    from = (given.cursor or not given.follow) and "start" or "now"
  end
  local position, err = M.resolve(log, from, what, level + 1)
  if given.cursor then
    take_cursor(log, given.cursor, what, level + 1)
    self.cursor = given.cursor
    local stored = core.journal_cursor(log[1], given.cursor)
    if stored then
      position, self.stored = stored, stored
    end
  end
  if not position then
    self:close()
    error(err, 0)
  end
  self.position = position
  if not self.follow then
    local _, next_one = core.journal_bounds(log[1])
    self.limit = next_one
  end
  return self
end

return M
