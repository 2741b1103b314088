--- Reading a journal: one position, moved on entry by entry. A reader holds one small batch of entries; everything else
-- stays on the disk until it is asked for, so a slow reader holds up nobody and nothing piles up.
-- @module holt.journal.reader
local core = require("holt.core")
local errors = require("holt.errors")
local options = require("holt.options")

local M = {}

local BATCH = 256
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

-- The next batch: true when it has something, false when there is nothing more before the limit, or nothing yet.
local function fill(self)
  while not self.is_closed do
    local list, after, err = core.journal_read(self.log[1], self.position, BATCH, self.names, self.limit)
    if not list then
      return false, after
    end
    self.batch, self.index, self.failure = list, 0, err
    if #list > 0 then
      self.position = after
      return true
    end
    if err then
      self.failure = nil
      self.position = after
      err.position = err.position or after - 1
      error(err, 0)
    end
    local is_moving = after > self.position
    self.position = after
    move_cursor(self, after)
    if not is_moving then
      return false
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
    if self.failure then
      local failure = self.failure
      self.failure = nil
      error(failure, 0)
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

function Reader:__tostring()
  return ("holt.reader (journal '%s', position %d)"):format(self.log.name, self.position)
end

-- A filter as the C side takes it, or a function for afterwards.
local function read_filter(self, filter)
  if type(filter) == "function" then
    self.predicate = filter
  elseif type(filter) == "table" then
    self.names = {}
    for _, name in ipairs(filter) do
      self.names[name] = true
    end
  else
    self.names = filter
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
