--- Who listens to what at a shared emitter: `emitter.subscriptions`.
-- @module holt.collections.subscriptions
local core = require("holt.core")
local emitter = require("holt.emitter")

local M = {}

local EVENTS = { "added", "updated", "removed", "resync" }

---@class holt.Subscriptions
local Subscriptions = {}
Subscriptions.__index = Subscriptions

---Name of a member; of one that left, the name it had.
function M.name_of(node, id)
  local name = core.cluster_member(node, id)
  if name then
    node.member_names[id] = name
  end
  return name or node.member_names[id] or ("%016x"):format(id)
end

local function each(self)
  local next_entry, err, _, view = core.object_pairs(self.emitter[1])
  if not next_entry then
    error(err, 0)
  end
  return next_entry, nil, nil, view
end

---Ids of the members that listen to an event.
function M.members_of(self, event)
  local list = {}
  for name, id in each(self) do
    if name == event then
      list[#list + 1] = id
    end
  end
  return list
end

---How many subscriptions there are: one for each event and node.
function Subscriptions:size()
  return (core.object_size(self.emitter[1]))
end

---The events that somebody listens to.
function Subscriptions:events()
  local list, last = {}, nil
  for event in each(self) do
    if event ~= last then
      list[#list + 1], last = event, event
    end
  end
  return list
end

---For each event, node and metadata, as they were when the loop began.
function Subscriptions:pairs()
  local next_entry, _, _, view = each(self)
  local node = self.emitter.node
  return function()
    local event, id, meta = next_entry()
    if event ~= nil then
      return event, M.name_of(node, id), meta
    end
  end, nil, nil, view
end

---Who listens to an event: metadata by node; holt.null where it has none.
function Subscriptions:get(event)
  local found = {}
  for name, id, meta in each(self) do
    if name == event then
      if meta == nil then
        meta = core.null
      end
      found[M.name_of(self.emitter.node, id)] = meta
    end
  end
  return found
end

---Whether anybody, or that node, listens to an event.
function Subscriptions:has(event, node)
  local found = self:get(event)
  if node == nil then
    return next(found) ~= nil
  end
  return found[node] ~= nil
end

---The nodes that listen to an event, or to anything at all.
function Subscriptions:nodes(event)
  local seen, list = {}, {}
  for name, node in self:pairs() do
    if (event == nil or name == event) and not seen[node] then
      seen[node] = true
      list[#list + 1] = node
    end
  end
  table.sort(list)
  return list
end

---Run `f(event, node, meta)` when a subscription was `added` or `removed`, `f(event, node, new, old)` when `updated`.
function Subscriptions:on(name, f)
  emitter.add(self.handlers, "on", name, f, 3)
  return self
end

---The same, for the next time only.
function Subscriptions:once(name, f)
  emitter.add(self.handlers, "once", name, f, 3)
  return self
end

---Take a handler away; without one all of that name.
function Subscriptions:off(name, f)
  return self.handlers:off(name, f)
end

---@param shared holt.SharedEmitter
---@param on_listen fun() Somebody listens to these events.
---@return holt.Subscriptions
function M.new(shared, on_listen)
  return setmetatable({
    emitter = shared,
    handlers = emitter.new(("subscriptions of emitter '%s'"):format(shared.name), EVENTS, on_listen),
  }, Subscriptions)
end

return M
