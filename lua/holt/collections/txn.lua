--- Transactions: `node:txn(function(t) … end)` over several objects. The body reads one applied state and writes into a
-- draft; what it read becomes conditions, what it wrote operations of one entry. When a condition does not hold any
-- more, the body runs again, until the deadline.
-- @module holt.collections.txn
local core = require("holt.core")
local errors = require("holt.errors")
local object = require("holt.collections.object")
local options = require("holt.options")

local M = {}

local OP, IF = object.OP, object.IF
local RULES = { timeout = { "seconds" } }
local GONE = {}
local OBJECTS_MAX = 255 -- as in runtime/collections/collections.h

---@class holt.Txn
local Txn = {}
Txn.__index = Txn

-- The draft of one object: its place in the command, what was read of it, what is to be written.
local function draft_of(self, handle, method, kinds, level)
  level = level or 3
  if self.is_over then
    error(("t:%s: this transaction is over; its t lives only while the body runs"):format(method), level)
  end
  if type(handle) ~= "table" or not handle.kind or not kinds[handle.kind] then
    local names = {}
    for kind in pairs(kinds) do
      names[#names + 1] = kind
    end
    table.sort(names)
    local given = type(handle) == "table" and handle.kind or type(handle)
    error(("t:%s: expected %s, got %s"):format(method, object.a(table.concat(names, " or ")), object.a(given)), level)
  end
  if handle.node ~= self.node then
    local text = "t:%s: %s '%s' is a handle of node '%s', this transaction is one of '%s'"
    error(text:format(method, handle.kind, handle.name, handle.node.name, self.node.name), level)
  end
  local id = handle.kind .. "\0" .. handle.name
  local draft = self.drafts[id]
  if not draft then
    local size, revision = core.object_size(handle[1])
    if not size then
      error(revision, 0)
    end
    if #self.boxes == OBJECTS_MAX then
      error(("t:%s: a transaction takes at most %d objects; make several of it"):format(method, OBJECTS_MAX), level)
    end
    self.boxes[#self.boxes + 1] = handle[1]
    draft = { handle = handle, place = #self.boxes, values = {}, revision = revision, is_read = {} }
    if handle.kind == "queue" then
      draft.items, draft.first = nil, 1
    end
    self.drafts[id] = draft
  end
  return draft
end

local KEYED = { map = true, record = true }
local QUEUE = { queue = true }
local ANY = { map = true, record = true, queue = true }

local function must(value, err)
  if value == nil then
    error(err, 0)
  end
  return value
end

local function box_for(draft, key)
  local views = draft.handle.views
  return views and views[key] or draft.handle[1]
end

local function condition(self, draft, type, key, revision)
  local list = self.conditions
  local n = #list
  list[n + 1], list[n + 2], list[n + 3], list[n + 4], list[n + 5] = draft.place, type, key, false, revision
end

local function operation(self, draft, op, key, value, expected)
  local list = self.ops
  local n = #list
  list[n + 1], list[n + 2], list[n + 3], list[n + 4], list[n + 5] = draft.place, op, key, value, expected or false
end

-- The whole object has been looked at: it must not change.
local function read_whole(self, draft)
  if not draft.is_whole then
    draft.is_whole = true
    condition(self, draft, IF.unchanged, false, draft.revision)
  end
end

-- What is under a key, the draft's own writes included.
local function look(self, draft, key, key_bytes)
  local value = draft.values[key_bytes]
  if value == GONE then
    return nil
  elseif value ~= nil then
    return value.value
  elseif draft.is_cleared then
    return nil
  end
  local revision, found = core.object_item(box_for(draft, key), key)
  if not revision and found then
    error(found, 0)
  end
  if not draft.is_read[key_bytes] then
    draft.is_read[key_bytes] = true
    condition(self, draft, revision and IF.revision or IF.absent, key_bytes, revision or 0)
  end
  return found
end

local function key_of(self, handle, method, key, kinds)
  local draft = draft_of(self, handle, method, kinds, 4)
  if key == nil or key ~= key then
    error(("t:%s: the key is %s"):format(method, key == nil and "nil" or "not a number (NaN)"), 3)
  end
  return draft, must(core.object_encode(handle[1], key, true))
end

local function put(self, draft, key, key_bytes, value)
  operation(self, draft, OP.set, key_bytes, must(core.object_encode(box_for(draft, key), value)))
  draft.values[key_bytes] = { key = key, value = value }
end

local function check_value(method, value)
  if value == nil then
    error(("t:%s: the value is nil; holt.null stands for nothing that is there"):format(method), 3)
  end
end

---The value under a key of a map, or of a field of a record.
function Txn:get(handle, key)
  local draft, bytes = key_of(self, handle, "get", key, KEYED)
  return look(self, draft, key, bytes)
end

---Put a value there.
function Txn:set(handle, key, value)
  local draft, bytes = key_of(self, handle, "set", key, KEYED)
  check_value("set", value)
  put(self, draft, key, bytes, value)
end

---Put it there if nothing is: true, or false and what is there.
function Txn:insert(handle, key, value)
  local draft, bytes = key_of(self, handle, "insert", key, KEYED)
  check_value("insert", value)
  local found = look(self, draft, key, bytes)
  if found ~= nil then
    return false, found
  end
  put(self, draft, key, bytes, value)
  return true
end

---Take a key out: true and what was there, or false.
function Txn:remove(handle, key)
  local draft, bytes = key_of(self, handle, "remove", key, KEYED)
  local found = look(self, draft, key, bytes)
  if found == nil then
    return false
  end
  operation(self, draft, OP.remove, bytes, false)
  draft.values[bytes] = GONE
  return true, found
end

-- The items of a queue as the draft has them.
local function items_of(self, draft)
  if draft.items then
    return draft.items
  end
  read_whole(self, draft)
  local items, next_item, err, _, view = {}, core.object_pairs(draft.handle[1])
  if not next_item then
    error(err, 0)
  end
  local closing <close> = view -- luacheck: ignore 211
  for i, item in next_item do
    items[i] = item
  end
  draft.items = items
  if not draft.is_cleared then
    for _, item in ipairs(draft.pushed or {}) do
      items[#items + 1] = item
    end
  end
  return items
end

---Append items to a queue.
function Txn:push(handle, ...)
  local draft = draft_of(self, handle, "push", QUEUE)
  for i = 1, select("#", ...) do
    local item = select(i, ...)
    check_value("push", item)
    operation(self, draft, OP.push, false, must(core.object_encode(handle[1], item)))
    if draft.items then
      table.insert(draft.items, item)
    else
      draft.pushed = draft.pushed or {}
      table.insert(draft.pushed, item)
    end
  end
end

---The first item of a queue, which stays; nil when it is empty.
function Txn:peek(handle)
  local draft = draft_of(self, handle, "peek", QUEUE)
  return items_of(self, draft)[draft.first]
end

---Take the first item of a queue; nil when it is empty.
function Txn:pop(handle)
  local draft = draft_of(self, handle, "pop", QUEUE)
  local items = items_of(self, draft)
  local item = items[draft.first]
  if item ~= nil then
    draft.first = draft.first + 1
    operation(self, draft, OP.pop, false, false)
  end
  return item
end

-- Keys and values of a map or record as the draft has them, in order of their bytes.
local function entries_of(self, draft)
  read_whole(self, draft)
  local handle, list, seen = draft.handle, {}, {}
  if not draft.is_cleared then
    local next_entry, err, _, view = core.object_pairs(handle[1], true)
    if not next_entry then
      error(err, 0)
    end
    local closing <close> = view -- luacheck: ignore 211
    for bytes in next_entry do
      local _, key = core.object_decode(handle[1], bytes, true)
      local written = draft.values[bytes]
      seen[bytes] = true
      if written == nil then
        list[#list + 1] = { bytes, key, select(2, core.object_item(box_for(draft, key), key)) }
      elseif written ~= GONE then
        list[#list + 1] = { bytes, key, written.value }
      end
    end
  end
  for bytes, written in pairs(draft.values) do
    if written ~= GONE and not seen[bytes] then
      list[#list + 1] = { bytes, written.key, written.value }
    end
  end
  table.sort(list, function(a, b)
    return a[1] < b[1]
  end)
  return list
end

---For each key and value of a map or record, or place and item of a queue.
function Txn:pairs(handle)
  local draft = draft_of(self, handle, "pairs", ANY)
  local i = 0
  if handle.kind == "queue" then
    local items, first = items_of(self, draft), draft.first
    return function()
      i = i + 1
      if items[first + i - 1] ~= nil then
        return i, items[first + i - 1]
      end
    end
  end
  local list = entries_of(self, draft)
  return function()
    i = i + 1
    if list[i] then
      return list[i][2], list[i][3]
    end
  end
end

---How many entries or items there are.
function Txn:size(handle)
  local draft = draft_of(self, handle, "size", ANY)
  if handle.kind == "queue" then
    return #items_of(self, draft) - draft.first + 1
  end
  return #entries_of(self, draft)
end

---Take everything out.
function Txn:clear(handle)
  local draft = draft_of(self, handle, "clear", ANY)
  operation(self, draft, OP.clear, false, false)
  draft.is_cleared, draft.values = true, {}
  if handle.kind == "queue" then
    draft.items, draft.first, draft.pushed = {}, 1, nil
  end
end

---Run `body(t)`: its reads and writes happen at one moment, or not at all. Returns true and what the body returned.
---@param node holt.Node
---@param body fun(t: holt.Txn): ...
---@param opts? { timeout?: number }
function M.run(node, body, opts)
  if type(body) ~= "function" then
    error(("node:txn: expected a function, got %s"):format(type(body)), 3)
  end
  local timeout = options.check("node:txn", opts, RULES, 1).timeout or node.cluster_settings.request_timeout
  local deadline = core.now() + timeout
  local ok, err = core.cluster_wait(node, "barrier", timeout)
  if not ok then
    return nil, err
  end
  repeat
    if not node:is_open() then
      return errors.fail("closed", "node:txn: the node is closed")
    end
    local t = setmetatable({ node = node, drafts = {}, boxes = {}, conditions = {}, ops = {} }, Txn)
    local results = table.pack(core.unblockable(body, t)) -- what it raises goes to the caller, nothing is proposed
    t.is_over = true
    if #t.boxes == 0 then
      return true, table.unpack(results, 1, results.n)
    end
    local left = math.max(0, deadline - core.now())
    local done, problem = core.command(node, left, false, t.boxes, t.conditions, t.ops)
    if done then
      return true, table.unpack(results, 1, results.n)
    elseif done == nil then
      local ask = problem.outcome
      if ask then
        problem.outcome = function(self, seconds)
          local later, why = ask(self, seconds)
          if later then
            return true, table.unpack(results, 1, results.n)
          end
          return later, why
        end
      end
      return nil, problem
    end
  until core.now() >= deadline
  return errors.fail("contended", "node:txn: others changed what it had read each time before the deadline")
end

return M
