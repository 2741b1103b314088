--- Shared emitters: `node:emitter(name)`. Who listens to what is replicated; events go straight to those who do.
-- @module holt.collections.emitter
local cluster = require("holt.cluster")
local codec = require("holt.codec")
local codecs = require("holt.collections.codecs")
local core = require("holt.core")
local errors = require("holt.errors")
local object = require("holt.collections.object")
local options = require("holt.options")
local outbox = require("holt.collections.outbox")
local subscriptions = require("holt.collections.subscriptions")

local M = {}

local OP = object.OP
local name_of, members_of = subscriptions.name_of, subscriptions.members_of

local RULES = { codecs = { "table" }, request_timeout = { "seconds" }, events_max = { "integer", min = 1 } }
local SUBSCRIBE_RULES = { meta = { "any" }, timeout = { "seconds" } }
local HAS_RULES = { own = { "boolean" }, linearizable = { "boolean" }, timeout = { "seconds" } }
local EVENTS = { "dropped", "close" }
local SUBJECT = "_holt.emitter.%016x"
local FRAME_REST = 512 -- bytes of a frame beside the event and the names
local RUNNING_MAX = 1000 -- listeners of a handle that run at once before events of notify wait
local ROOM_REST = 256 -- what an event on its way costs beside its own bytes

--- The emitter -------------------------------------------------------------------------------------------------------

---@class holt.SharedEmitter: holt.Object
---@field subscriptions holt.Subscriptions
local Emitter = object.class()

local function check_event(method, event)
  if type(event) ~= "string" or event == "" or event:find("\0", 1, true) then
    local got = event == "" and "an empty one" or tostring(event)
    error(("emitter:%s: an event is named by a string without zero bytes, got %s"):format(method, got), 3)
  end
end

local function check_handler(method, f)
  if type(f) ~= "function" then
    error(("emitter:%s: the handler must be a function, got %s"):format(method, type(f)), 3)
  end
end

local function key_of(event, id)
  return event .. "\0" .. string.pack(">i8", id)
end

local function closed(self)
  return errors.fail("closed", ("this handle of emitter '%s' is closed"):format(self.name))
end

-- One operation on this node's own subscription to an event: done, found | nil, err
local function own(self, op, event, meta, expected, timeout)
  local id = core.cluster_self(self.node)
  if not id then
    return errors.fail("closed", ("emitter '%s': the node is closed"):format(self.name))
  end
  local bytes, expected_bytes, err = false, false, nil
  if op == OP.set or op == OP.update or op == OP.update_if then
    bytes, err = core.object_encode(self[1], meta)
  end
  if op == OP.update_if and bytes then
    expected_bytes, err = core.object_encode(self[1], expected)
  end
  if err then
    return nil, err
  end
  local ok, done, answers = core.command(self.node, timeout, false, { self[1] }, {}, {
    1,
    op,
    key_of(event, id),
    bytes,
    expected_bytes,
  })
  if not ok then
    return nil, done
  end
  return done[1], object.decode(self[1], answers[1])
end

-- Wait until the outcome of an operation is known, or nobody can tell any more: whether it was done.
local function was_done_late(self, err)
  local done
  repeat
    done, err = err:outcome(10)
  until done or err.code ~= "unknown" or self.closed
  return done
end

-- Withdraw from an event, whose listeners were `list`: whoever subscribes meanwhile waits, also until a withdrawal of unknown
-- outcome is known, for it could come through after that.
local function withdraw(self, event, list, timeout)
  local gate = core.gate()
  self.listeners[event], self.leaving[event] = nil, gate
  local function known(done)
    if done then
      self.listeners[event], self.metas[event] = nil, nil
    end
    if self.leaving[event] == gate then
      self.leaving[event] = nil
    end
    gate:open()
  end
  local done, err = own(self, OP.remove, event, nil, nil, timeout)
  if done ~= nil then
    known(true)
    return true
  end
  self.listeners[event] = list
  if err.outcome then
    core.go_quiet(function()
      known(was_done_late(self, err))
    end)
  else
    known(false)
  end
  return nil, err
end

-- It may yet become known that this node listens, although the call has failed: then it is taken back.
local function withdraw_late(self, event, err)
  if not err.outcome then
    return
  end
  core.go_quiet(function()
    if was_done_late(self, err) and not self.listeners[event] and not self.closed then
      withdraw(self, event, nil, self.timeout)
    end
  end)
end

---Run `f(...)` at each event of this name that anybody publishes. The first listener is made known to all members.
function Emitter:subscribe(event, f, opts)
  check_event("subscribe", event)
  check_handler("subscribe", f)
  opts = options.check("emitter:subscribe", opts, SUBSCRIBE_RULES)
  if self.closed then
    return closed(self)
  end
  local timeout = opts.timeout or self.timeout
  local function busy() -- another task makes the first one known just now, or takes the last one away
    return self.leaving[event] or self.listeners[event] and self.listeners[event].asked
  end
  while busy() do
    local ok, late = busy():wait(timeout)
    if not ok then
      return nil, late
    end
  end
  local list = self.listeners[event]
  if list then
    list[#list + 1] = f
    return true
  end
  list = { f, asked = core.gate() }
  self.listeners[event], self.metas[event] = list, opts.meta
  local done, err = own(self, OP.set, event, opts.meta, nil, timeout)
  if done == nil and self.listeners[event] == list then
    self.listeners[event], self.metas[event] = nil, nil
  end
  list.asked:open()
  list.asked = nil
  if done == nil then
    withdraw_late(self, event, err)
    return nil, err
  end
  return true
end

---Take a listener away, or all of that event. The last one withdraws this node from that event, and from no other.
function Emitter:unsubscribe(event, f, opts)
  check_event("unsubscribe", event)
  local timeout = object.timeout(self, "unsubscribe", opts)
  if self.closed then
    return closed(self)
  end
  local list = self.listeners[event]
  if not list then
    return errors.fail("not_subscribed", ("emitter '%s': this node does not listen to '%s'"):format(self.name, event))
  end
  local kept, found = {}, f == nil
  for _, listener in ipairs(list) do
    if f ~= nil and (found or listener ~= f) then
      kept[#kept + 1] = listener
    elseif f ~= nil then
      found = true
    end
  end
  if not found then
    return errors.fail(
      "not_subscribed",
      ("emitter '%s': that function does not listen to '%s'"):format(self.name, event)
    )
  elseif #kept > 0 then
    self.listeners[event] = kept
    return true
  end
  return withdraw(self, event, list, timeout)
end

---Set the metadata of this node's own subscription, with a third argument only if it is `expected`: true, or false and
---what is there.
function Emitter:update_meta(event, meta, ...)
  check_event("update_meta", event)
  if self.closed then
    return closed(self)
  end
  if not self.listeners[event] then
    return errors.fail("not_subscribed", ("emitter '%s': this node does not listen to '%s'"):format(self.name, event))
  end
  local op = select("#", ...) > 0 and OP.update_if or OP.update
  local done, found = own(self, op, event, meta, (...), self.timeout)
  if done == nil then
    return nil, found
  elseif not done then
    return false, found
  end
  self.metas[event] = meta
  return true
end

---Whether anybody listens to an event; with `{ own = true }`, whether this node does.
function Emitter:has_subscribers(event, opts)
  check_event("has_subscribers", event)
  opts = options.check("emitter:has_subscribers", opts, HAS_RULES)
  if opts.linearizable then
    local ok, err = core.cluster_wait(self.node, "barrier", opts.timeout or self.timeout)
    if not ok then
      return nil, err
    end
  end
  local size, err = core.object_size(self[1])
  if not size then
    return nil, err
  end
  local members = members_of(self.subscriptions, event)
  if not opts.own then
    return #members > 0
  end
  local id = core.cluster_self(self.node)
  for _, member in ipairs(members) do
    if member == id then
      return true
    end
  end
  return false
end

-- Wait until few enough listeners run here, for events whose sender waits for none of them: true | nil, err
local function room_to_run(self, timeout)
  local deadline = core.now() + timeout
  while self.running >= RUNNING_MAX and not self.closed do
    local left = deadline - core.now()
    if left <= 0 then
      return errors.fail("busy", ("%d listeners of emitter '%s' run there already"):format(self.running, self.name))
    end
    self.calm:shut()
    self.calm:wait(left)
  end
  return true
end

-- Run the listeners of an event here, each in a task; gives what to wait for.
local function deliver(self, event, ...)
  local listeners = self.listeners[event] or {}
  local work = { left = #listeners, over = core.gate() }
  self.running = self.running + #listeners
  local one_less = setmetatable({}, {
    __close = function()
      self.running = self.running - 1
      if self.running < RUNNING_MAX then
        self.calm:open()
      end
      work.left = work.left - 1
      if work.left == 0 then
        work.over:open()
      end
    end,
  })
  for _, f in ipairs(listeners) do
    self.received = self.received + 1
    local task = core.go(function(...)
      local closing <close> = one_less -- luacheck: ignore 211
      f(...) -- one that raises becomes an error event, and counts
    end, ...)
    core.name_task(task, "listener", f)
  end
  return work
end

local function finish(work)
  if work.left > 0 then
    work.over:wait()
  end
end

local function encode(self, method, event, ...)
  local bytes, err = (self.payloads[event] or codec.msgpack).encode(...)
  if not bytes then
    err.message = ("emitter:%s: '%s': %s"):format(method, event, err.message)
    return nil, err
  end
  return bytes
end

-- The bytes of an event, if they fit into one frame.
local function payload(self, method, event, ...)
  local size, problem = core.object_size(self[1])
  local frame_max = core.node_frame_max(self.node)
  if not size or not frame_max then
    return nil, problem or select(2, closed(self))
  end
  local bytes, err = encode(self, method, event, ...)
  if not bytes then
    return nil, err
  end
  local total = #bytes + #self.name + #event + FRAME_REST
  if total > frame_max then
    local text = "emitter:%s: '%s' has %d bytes, at most %d fit into a frame; send it in pieces, or send where it can be fetched"
    return errors.fail("too_large", text:format(method, event, total, frame_max))
  end
  return bytes
end

local function outbox_of(node, id)
  node.outboxes = node.outboxes or {}
  local box = node.outboxes[id] or outbox.new()
  node.outboxes[id] = box
  return box
end

-- Ask one member to handle an event, for which room was taken in its outbox: true when it did, false when it does not
-- listen any more. As long as it surely has not got it, this waits: for a way to it, and for room on that way.
local function send(self, id, event, bytes, deadline, wants_answer)
  local answer, err = core.node_call_patiently(self.node, SUBJECT:format(id), math.max(0, deadline - core.now()), {
    self.name,
    event,
    bytes,
    wants_answer,
  })
  local boxes = self.node.outboxes
  boxes[id]:give(#bytes + ROOM_REST, answer ~= nil)
  if boxes[id]:is_empty() then
    boxes[id] = nil
  end
  if answer then
    self.sent = self.sent + 1
  end
  return answer, err
end

-- Nobody listens to `dropped`: a warning, at most one a second.
local function complain(self, event, name, err)
  self.untold = self.untold + 1
  self.last_untold = ("'%s' to %s: %s"):format(event, name, tostring(err))
  if self.untold > 1 then
    return
  end
  core.go_quiet(function()
    core.sleep(1)
    local text = "%s: emitter '%s': %d events did not get to a listener; the last, %s"
    core.log("warn", text:format(self.node.name, self.name, self.untold, self.last_untold))
    self.untold = 0
  end)
end

-- An event of `notify` did not get to a member, or nobody can tell.
local function drop(self, event, id, err)
  local name = name_of(self.node, id)
  self.dropped = self.dropped + 1
  if not self.events:fire("dropped", event, name, err) then
    complain(self, event, name, err)
  end
end

---Tell an event to all nodes that listen to it and wait for their handlers: names of those that handled it, names of
---those that did not answer, and why not, by name.
function Emitter:publish(event, ...)
  check_event("publish", event)
  if self.closed then
    return closed(self)
  end
  local bytes, err = payload(self, "publish", event, ...)
  if not bytes then
    return nil, err
  end
  local self_id, handled, silent, why, calls = core.cluster_self(self.node), {}, {}, {}, {}
  local deadline = core.now() + self.timeout
  for _, id in ipairs(members_of(self.subscriptions, event)) do
    local name = name_of(self.node, id)
    calls[#calls + 1] = core.go_quiet(function(...)
      if id == self_id then
        self.sent = self.sent + 1
        if self.listeners[event] then -- else the entry is of the time before this process started
          finish(deliver(self, event, ...))
          handled[#handled + 1] = name
        end
        return
      end
      local answer, problem = outbox_of(self.node, id):take(#bytes + ROOM_REST, self.timeout)
      if answer then
        answer, problem = send(self, id, event, bytes, deadline, true)
      end
      if answer then
        handled[#handled + 1] = name
      elseif answer == nil then
        silent[#silent + 1], why[name] = name, problem
      end
    end, ...)
  end
  for _, call in ipairs(calls) do
    call:join()
  end
  table.sort(handled)
  table.sort(silent)
  return handled, silent, #silent > 0 and why or nil
end

---The same without waiting for handlers: whether anybody listens. It waits for room for the event, as `emit` does.
function Emitter:notify(event, ...)
  check_event("notify", event)
  if self.closed then
    return closed(self)
  end
  local bytes, err = payload(self, "notify", event, ...)
  if not bytes then
    return nil, err
  end
  local self_id, lost = core.cluster_self(self.node), nil
  local members = members_of(self.subscriptions, event)
  local deadline = core.now() + self.timeout
  for _, id in ipairs(members) do
    local room, problem
    if id == self_id then
      room, problem = room_to_run(self, math.max(0, deadline - core.now()))
      if room then
        self.sent = self.sent + 1
        deliver(self, event, ...)
      end
    else
      room, problem = outbox_of(self.node, id):take(#bytes + ROOM_REST, math.max(0, deadline - core.now()), true)
    end
    if not room then
      problem.node = name_of(self.node, id)
      problem.message = ("emitter:notify: '%s' to %s: %s"):format(event, problem.node, problem.message)
      lost = problem
      drop(self, event, id, problem)
    elseif id ~= self_id then
      core.go_quiet(function()
        local answer, why = send(self, id, event, bytes, deadline, false)
        if answer == nil then
          drop(self, event, id, why)
        end
      end)
    end
  end
  if lost then
    return nil, lost
  end
  return #members > 0
end

---Withdraw this node from all events, through the log, and drop its listeners.
function Emitter:clear(opts)
  local timeout = object.timeout(self, "clear", opts)
  if self.closed then
    return closed(self)
  end
  local id = core.cluster_self(self.node)
  local listeners, metas = self.listeners, self.metas
  self.listeners, self.metas = {}, {}
  local ops = { 1, OP.withdraw, string.pack(">i8", id or 0), false, false }
  local ok, err = core.command(self.node, timeout, false, { self[1] }, {}, ops)
  if not ok then
    self.listeners, self.metas = listeners, metas
    return nil, err
  end
  return true
end

---Counters: subscriptions, received, sent (taken by a listener), dropped (of notify: did not get there, or nobody can tell).
function Emitter:stats()
  local count = 0
  for _ in pairs(self.listeners) do
    count = count + 1
  end
  return { subscriptions = count, received = self.received, sent = self.sent, dropped = self.dropped }
end

function Emitter.internal.export_into(self, result)
  result.subscriptions = {}
  for event, node, meta in self.subscriptions:pairs() do
    table.insert(result.subscriptions, { event = event, node = node, meta = meta })
  end
end

local function subscription_problem(item)
  if type(item) ~= "table" or type(item.event) ~= "string" or type(item.node) ~= "string" then
    return "must be { event = …, node = …, meta = … }"
  end
end

---Subscriptions of nodes that are members now; those of others say nothing to anybody.
function Emitter:import(given, opts)
  object.check_export(self, given, "subscriptions", subscription_problem)
  opts = options.check("emitter:import", opts, { events = { "boolean" }, timeout = { "seconds" } })
  local ops = {}
  for _, item in ipairs(given.subscriptions) do
    local id = core.cluster_member(self.node, item.node)
    if id then
      local bytes, err = core.object_encode(self[1], item.meta)
      if not bytes then
        return nil, err
      end
      local n = #ops
      ops[n + 1], ops[n + 2], ops[n + 3], ops[n + 4], ops[n + 5] = 1, OP.set, key_of(item.event, id), bytes, false
    end
  end
  local ok, err = core.command(self.node, opts.timeout or self.timeout, not opts.events, { self[1] }, {}, ops)
  if not ok then
    return nil, err
  end
  return true
end

function Emitter.internal.changed(self, type, event, old, new, id, bytes)
  local handlers = self.subscriptions.handlers
  if type == "insert" then
    handlers:fire_bounded(bytes, "added", event, name_of(self.node, id), new)
  elseif type == "update" then
    handlers:fire_bounded(bytes, "updated", event, name_of(self.node, id), new, old)
  elseif type == "remove" then
    handlers:fire_bounded(bytes, "removed", event, name_of(self.node, id), old)
  else
    handlers:miss(type == "resync" and id or nil)
  end
end

-- This node is a member under a new id: what it listens to is made known again.
local function resubscribe(self)
  for event in pairs(self.listeners) do
    core.go_quiet(function()
      while self.listeners[event] and not self.closed do
        if own(self, OP.set, event, self.metas[event], nil, self.timeout) ~= nil then
          return
        end
        core.sleep(0.1)
      end
    end)
  end
end

--- Serving -----------------------------------------------------------------------------------------------------------

local function handle(node, request)
  local name, event, bytes, wants_answer = table.unpack(request, 1, 4)
  for _, self in ipairs(cluster.open_objects(node, "emitter", name)) do
    if self.listeners[event] then
      local values = table.pack((self.payloads[event] or codec.msgpack).decode(bytes))
      if not values[1] then
        error(values[2], 0)
      end
      if not wants_answer then
        local room, busy = room_to_run(self, core.event().left or self.timeout)
        if not room then
          error(busy, 0)
        end
      end
      local work = deliver(self, event, table.unpack(values, 2, values.n))
      if wants_answer then
        finish(work)
      end
      return true
    end
  end
  return false
end

---Answer what others publish, under this member's present id.
---@param node holt.Node
function M.serve(node)
  local id = core.cluster_self(node)
  if not id or node.emitter_id == id then
    return
  end
  node.emitter_id = id
  core.node_serve(node, SUBJECT:format(id), function(request)
    return handle(node, request)
  end)
  for _, self in ipairs(cluster.open_objects(node, "emitter")) do
    resubscribe(self)
  end
end

local function payload_codec(name, resolved)
  if resolved.id == 0 then
    return codec.raw
  elseif resolved.id == 1 then
    return codec.msgpack
  elseif resolved.id == 2 then
    return codec.json
  end
  return { encode = resolved.core.encode, decode = resolved.core.decode, name = name }
end

---Get or create; returns at once.
function M.new(node, name, given, level)
  given = options.check("node:emitter", given, RULES, level - 2)
  local fields, payloads = {}, {}
  for event, wanted in pairs(given.codecs or {}) do
    if type(event) ~= "string" then
      error("node:emitter: option 'codecs' maps events to codecs: { photo = 'raw' }", level)
    end
    fields[event] = codecs.resolve("node:emitter", "codecs." .. event, wanted, node.cluster_settings.codecs, level)
    payloads[event] = payload_codec(event, fields[event])
  end
  local self = object.new(node, Emitter, name, {
    kind = "emitter",
    key = codecs.raw,
    value = codecs.msgpack,
    fields = fields,
    events = EVENTS,
    options = given,
  })
  self.listeners, self.metas, self.payloads, self.received, self.sent = {}, {}, payloads, 0, 0
  self.dropped, self.untold = 0, 0
  self.running, self.calm = 0, core.gate() -- listeners that run now, and the gate that opens when there are few enough
  self.leaving = {} -- gates, by event: see withdraw
  self.subscriptions = subscriptions.new(self, function()
    object.follow(self)
  end)
  object.bound(self, self.subscriptions.handlers)
  M.serve(node)
  return self
end

return M
