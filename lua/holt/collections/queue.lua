--- Shared queues: `node:queue(name)`. What one member pops is gone for all.
-- @module holt.collections.queue
local codecs = require("holt.collections.codecs")
local core = require("holt.core")
local object = require("holt.collections.object")
local options = require("holt.options")

local M = {}

local OP = object.OP
local write = core.object_write

local RULES = {
  codec = { "string|table" },
  request_timeout = { "seconds" },
  max_batch_bytes = { "integer", min = 1 },
  events_max = { "integer", min = 1 },
}
local POP_RULES = { wait = { "seconds" }, timeout = { "seconds" } }
local EVENTS = { "add", "remove", "empty", "not_empty", "resync", "close" }

---@class holt.Queue: holt.Object
local Queue = object.class()

---Append items, all in one step.
function Queue:push(...)
  local count = select("#", ...)
  if count == 1 then
    local item = ...
    object.check_value(self, "push", item, "item")
    local ok, err = write(self[1], OP.push, self.timeout, nil, item)
    return ok, err
  end
  local list = {}
  for i = 1, count do
    local item = select(i, ...)
    object.check_value(self, "push", item, "item")
    list[i] = { op = OP.push, value = item }
  end
  if count == 0 then
    return true
  end
  return object.run(self, list, self.timeout, function()
    return true
  end, false, true)
end

local close = Queue.close

---Let go of this handle; who waits for an item gets `closed`.
function Queue:close()
  local is_closed = close(self)
  self.more:open()
  return is_closed
end

Queue.__close = Queue.close

-- Whether there are items that no other task of this handle is about to take: so that of many that wait for an item only
-- as many ask the cluster as there are items. Where nobody can tell, yes.
local function has_more(self)
  return (core.object_size(self[1]) or math.huge) > self.taking
end

-- Wait until there may be an item, or until `deadline`.
local function wait_for_more(self, deadline)
  while not has_more(self) and not self.closed do
    local rest = deadline - core.now()
    if rest <= 0 then
      return
    end
    self.more:shut()
    self.more:wait(rest)
  end
end

-- Take the first item; others that wait may try when there is more than is being taken.
local function take(self, timeout)
  self.taking = self.taking + 1
  local ending <close> = self.taken -- luacheck: ignore 211
  return write(self[1], OP.pop, timeout)
end

---Take the first item: it, or nil when there is none. `{ wait = seconds }` waits for one.
function Queue:pop(opts)
  local wait, timeout = 0, self.timeout
  if opts ~= nil then
    opts = options.check("queue:pop", opts, POP_RULES)
    wait, timeout = opts.wait or 0, opts.timeout or timeout
  end
  if wait > 0 then
    object.follow(self)
  end
  local deadline = wait > 0 and core.now() + wait or 0
  while true do
    local done, item
    if wait > 0 then
      done, item = take(self, timeout)
    else
      done, item = write(self[1], OP.pop, timeout)
    end
    if done == nil then
      local err = item
      local ask = err.outcome
      if ask then
        err.outcome = function(of, seconds)
          local later, found = ask(of, seconds)
          if later == nil then
            return nil, found
          end
          return found
        end
      end
      return nil, err
    elseif done then
      return item
    end
    if core.now() >= deadline then
      return nil
    end
    wait_for_more(self, deadline)
  end
end

---The first item, which stays.
function Queue:peek(opts)
  if opts ~= nil then
    local ok, err = object.prepare(self, "peek", opts)
    if not ok then
      return nil, err
    end
  end
  local revision, item = core.object_peek(self[1])
  if not revision and item then
    return nil, item
  end
  return item
end

---For each place and item, from first to last, as they were when the loop began.
function Queue:pairs(opts)
  object.must_prepare(self, "pairs", opts)
  local next_item, err, _, view = core.object_pairs(self[1])
  if not next_item then
    error(err, 0)
  end
  return next_item, nil, nil, view
end

function Queue.internal.export_into(self, result)
  result.items = {}
  for i, item in self:pairs() do
    result.items[i] = item
  end
  result.head, result.tail = core.object_ends(self[1])
end

function Queue.internal.check_import(self, given)
  object.check_export(self, given, "items", function() end, 4)
end

function Queue.internal.import_list(self, given)
  local list = { { op = OP.clear } }
  for _, item in ipairs(given.items) do
    list[#list + 1] = { op = OP.push, value = item }
  end
  return list
end

function Queue.internal.changed(self, type, _, old, new, count, bytes, is_last)
  local events = self.events
  if type == "insert" then
    self.was_empty = self.was_empty or count == 1
    events:fire_bounded(bytes, "add", new)
  elseif type == "remove" then
    events:fire_bounded(bytes, "remove", old)
  end
  if (type == "remove" and count == 0) or type == "clear" then
    self.was_empty = false
    events:fire_bounded(0, "empty")
  end
  if is_last and self.was_empty and type == "insert" then
    self.was_empty = false
    events:fire_bounded(0, "not_empty")
  end
  if type == "replaced" or type == "resync" then
    self.was_empty = false
    events:miss(type == "resync" and count or nil)
  end
  if type ~= "remove" and type ~= "clear" then
    self.more:open()
  end
end

---Empty it; true also when it was empty.
function Queue:clear(opts)
  local size = core.object_size(self[1])
  if size == 0 then
    local timeout = object.timeout(self, "clear", opts)
    local ok, err = core.cluster_wait(self.node, "barrier", timeout)
    if not ok then
      return nil, err
    elseif core.object_size(self[1]) == 0 then
      return true
    end
  end
  return write(self[1], OP.clear, object.timeout(self, "clear", opts))
end

---Get or create; returns at once.
function M.new(node, name, given, level)
  given = options.check("node:queue", given, RULES, level - 2)
  local value = codecs.resolve("node:queue", "codec", given.codec, node.cluster_settings.codecs, level)
  local self = object.new(node, Queue, name, {
    kind = "queue",
    key = codecs.raw,
    value = value,
    events = EVENTS,
    options = given,
  })
  self.more = core.gate()
  self.taking = 0 -- tasks that wait for an item and ask the cluster for one now
  self.taken = setmetatable({}, { __close = function()
    self.taking = self.taking - 1
    if has_more(self) then
      self.more:open()
    end
  end })
  return self
end

return M
