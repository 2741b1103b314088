--- What is on its way to one member: bounded in bytes; whoever comes beyond that waits, first come, first served.
-- @module holt.collections.outbox
local core = require("holt.core")
local errors = require("holt.errors")

local M = {}

local BYTES_MAX = 16 * 1024 * 1024
local STALLED = 1 -- seconds without an answer, with a full box

---@class holt.Outbox
local Outbox = {}
Outbox.__index = Outbox

---An empty one.
---@return holt.Outbox
function M.new()
  return setmetatable({ bytes = 0, heard = 0, queue = {}, first = 1, last = 0 }, Outbox)
end

local function fits(self, size)
  return self.bytes == 0 or self.bytes + size <= BYTES_MAX
end

-- Those that waited longest get what room there is.
local function admit(self)
  while self.first <= self.last do
    local place = self.queue[self.first]
    if not place.is_gone and not fits(self, place.size) then
      return
    end
    self.queue[self.first] = nil
    self.first = self.first + 1
    if not place.is_gone then
      self.bytes = self.bytes + place.size
      place.is_admitted = true
      place.gate:open()
    end
  end
end

-- However the waiting ended: a place that nobody uses goes to the next.
local function leave(place)
  if place.is_used then
    return
  end
  place.is_gone = true
  if place.is_admitted then
    place.outbox:give(place.size)
  else
    admit(place.outbox)
  end
end

local Place = { __close = leave }

---Take room for `size` bytes, which are to be given back. An empty box has room for anything.
---@param size integer
---@param timeout number
---@param is_hasty? boolean Do not wait for one that has answered nothing for a second.
---@return true|nil ok
---@return holt.Error? err buffer_full, stalled
function Outbox:take(size, timeout, is_hasty)
  if self.first > self.last and fits(self, size) then
    self.bytes = self.bytes + size
    return true
  end
  local deadline = core.now() + timeout
  local place <close> = setmetatable({ outbox = self, size = size, gate = core.gate() }, Place)
  self.last = self.last + 1
  self.queue[self.last] = place
  while not place.is_admitted and core.now() < deadline and not (is_hasty and self.is_stalled) do
    local since = core.now()
    place.gate:wait(math.min(STALLED, deadline - since))
    self.is_stalled = not place.is_admitted and self.heard < since and core.now() >= since + STALLED
  end
  if place.is_admitted then
    place.is_used = true
    return true
  end
  return errors.fail(
    self.is_stalled and "stalled" or "buffer_full",
    ("%d bytes are on their way already%s; this was not sent"):format(
      self.bytes,
      self.is_stalled and ", and none of them was answered for a second" or ""
    )
  )
end

---Give room back.
---@param size integer
---@param was_answered? boolean
function Outbox:give(size, was_answered)
  self.bytes = self.bytes - size
  if was_answered then
    self.heard, self.is_stalled = core.now(), false
  end
  admit(self)
end

---Nothing is in it and nobody waits.
---@return boolean
function Outbox:is_empty()
  return self.bytes == 0 and self.first > self.last
end

return M
