--- What all shared objects have in common: their handle, reads and writes, events, ready, close.
-- A handle is a table; at [1] it holds the box of the C side, which knows name, kind and codecs.
-- @module holt.collections.object
local cluster = require("holt.cluster")
local codecs = require("holt.collections.codecs")
local core = require("holt.core")
local emitter = require("holt.emitter")
local errors = require("holt.errors")
local options = require("holt.options")

local M = {}

M.KIND = { map = 1, queue = 2, record = 3, emitter = 4 }
-- As in runtime/collections/collections.h.
M.OP = {
  set = 1,
  insert = 2,
  update = 3,
  update_if = 4,
  remove = 5,
  remove_if = 6,
  clear = 7,
  push = 8,
  pop = 9,
  withdraw = 10,
}
M.IF = { absent = 1, equal = 2, revision = 3, unchanged = 4 }

M.READ_RULES = { linearizable = { "boolean" }, timeout = { "seconds" } }
M.WRITE_RULES = { timeout = { "seconds" } }
local IMPORT_RULES = { events = { "boolean" }, timeout = { "seconds" } }
local BATCH_BYTES = 256 * 1024
local EVENTS_MAX, EVENTS_BYTES, LISTENERS_MAX = 100000, 64 * 1024 * 1024, 1000

---@class holt.Object
---@field name string
---@field kind string
---@field node holt.Node
---@field closed boolean
---@field existed boolean Whether it was there already when this handle was made.
local Object = {}

--- Making one --------------------------------------------------------------------------------------------------------

---Make a handle.
---@param node holt.Node
---@param class table
---@param name string
---@param spec { kind: string, key: holt.ObjectCodec, value: holt.ObjectCodec, fields?: table, events: string[], options: table }
---@return table
function M.new(node, class, name, spec)
  local self = {
    node = node,
    name = name,
    kind = spec.kind,
    closed = false,
    timeout = spec.options.request_timeout or node.cluster_settings.request_timeout,
    batch_bytes = spec.options.max_batch_bytes or BATCH_BYTES,
    equal = spec.options.equal,
    is_canonical = spec.value.canonical and not spec.options.equal,
    agreement = codecs.agreement(spec.key, spec.value, spec.fields),
  }
  local box = core.object_new(node, M.KIND[spec.kind], name, self.agreement, spec.key.core, spec.value.core)
  self[1] = box
  local size, revision = core.object_size(box)
  self.existed = size ~= nil and revision > 0
  self.watched = box
  self.events_max = spec.options.events_max or EVENTS_MAX
  self.events = emitter.new(("%s '%s'"):format(spec.kind, name), spec.events, function()
    M.follow(self)
  end)
  M.bound(self, self.events)
  return setmetatable(self, class)
end

-- Single changes were not told: so many, because listeners were slow; nil: a snapshot took the place of the state.
local function resync(self, events, missed)
  local is_heard = events:fire("resync", missed)
  if not missed then
    return
  end
  local node = self.node
  node.missed_changes = (node.missed_changes or 0) + missed
  is_heard = node.events:fire("changes_missed", self, missed) or is_heard
  if not is_heard then
    local text = "%s: %s '%s': %d changes were not told, its listeners are too slow"
    core.log("warn", text:format(node.name, self.kind, self.name, missed))
  end
end

---Listeners that are slow hold back so many events at most.
---@param events holt.Emitter
function M.bound(self, events)
  events:bound({
    tasks = math.min(self.events_max, LISTENERS_MAX),
    count = self.events_max,
    bytes = EVENTS_BYTES,
    on_missed = function(missed)
      resync(self, events, missed)
    end,
  })
end

---A second box of the same object, with another codec for its values.
function M.view(self, key, value)
  return core.object_new(self.node, M.KIND[self.kind], self.name, self.agreement, key.core, value.core)
end

---Have changes told from now on: self:changed(type, key, old, new, count, bytes, is_last).
function M.follow(self)
  core.object_watch(self.watched, self, self.internal.changed, self.events_max)
end

-- --- Checks --------------------------------------------------------------------------------------------------------

---Misuse is told at the line of the script that called the method.
function M.check_key(self, method, key)
  if type(self) ~= "table" or not self.kind then
    error(("%s is a method: call it with a colon, object:%s(…)"):format(method, method), 3)
  elseif key == nil or key ~= key then
    error(("%s:%s: the key is %s"):format(self.kind, method, key == nil and "nil" or "not a number (NaN)"), 3)
  end
end

function M.check_value(self, method, value, what)
  if value == nil then
    error(("%s:%s: the %s is nil; holt.null stands for nothing that is there"):format(self.kind, method, what or "value"), 3)
  end
end

function M.check_table(self, method, given, level)
  if type(given) ~= "table" then
    error(("%s:%s: expected a table, got %s"):format(self.kind, method, type(given)), level or 3)
  end
end

---A list of keys is a list, none of them nil or NaN.
function M.check_keys(self, method, keys)
  if type(keys) ~= "table" then
    error(("%s:%s: expected a list of keys, got %s"):format(self.kind, method, type(keys)), 3)
  end
  local count, most = 0, 0
  for place in pairs(keys) do
    if math.type(place) == "integer" and place > 0 then
      count, most = count + 1, math.max(most, place)
    elseif place ~= "n" then -- of table.pack
      local text = "%s:%s: expected a list of keys, { 'a', 'b' }, but it has the key %s"
      error(text:format(self.kind, method, tostring(place)), 3)
    end
  end
  if count ~= most then
    error(("%s:%s: a key in the list is nil"):format(self.kind, method), 3)
  end
  for place, key in ipairs(keys) do
    if key ~= key then
      error(("%s:%s: key %d is not a number (NaN)"):format(self.kind, method, place), 3)
    end
  end
end

---What `export` gave is a table of this kind with a list of `field`; `problem(item)` says what is wrong with one of it.
---@param problem fun(item: any): string|nil
---@param level? integer 3 when called by a method that the user called.
function M.check_export(self, given, field, problem, level)
  level = level or 3
  local function refuse(format, ...)
    error(("%s:import: %s"):format(self.kind, format:format(...)), level + 1)
  end
  if type(given) ~= "table" then
    refuse("expected a table, got %s", type(given))
  elseif given.kind == nil then
    refuse("the table has no kind; it takes what %s:export() gave: { kind = '%s', %s = … }", self.kind, self.kind, field)
  elseif given.kind ~= self.kind then
    refuse("this is what %s exported", M.a(tostring(given.kind)))
  elseif type(given[field]) ~= "table" then
    refuse("'%s' must be a list, got %s", field, type(given[field]))
  end
  local count = 0
  for key in pairs(given[field]) do
    if math.type(key) ~= "integer" then
      refuse("'%s' must be a list, it has the key %s", field, tostring(key))
    end
    count = math.max(count, key)
  end
  for i = 1, count do
    local item = given[field][i]
    local wrong = item == nil and "is missing" or problem(item)
    if wrong then
      refuse("%s[%d] %s", field, i, wrong)
    end
  end
end

---A kind with its article.
---@param kind string
---@return string
function M.a(kind)
  return (kind:find("^[aeiou]") and "an " or "a ") .. kind
end

---The timeout of one call.
function M.timeout(self, method, opts)
  if opts == nil then
    return self.timeout
  end
  return options.check(self.kind .. ":" .. method, opts, M.WRITE_RULES, 1).timeout or self.timeout
end

---Do what the options of a read ask for: true, or nil and why not.
function M.prepare(self, method, opts)
  opts = options.check(self.kind .. ":" .. method, opts, M.READ_RULES, 1)
  if not opts.linearizable or self.closed then
    return true
  end
  return core.cluster_wait(self.node, "barrier", opts.timeout or self.timeout)
end

---The same for an iterator, which raises.
function M.must_prepare(self, method, opts)
  local ok, err = M.prepare(self, method, opts)
  if not ok then
    error(err, 0)
  end
end

-- --- Operations ----------------------------------------------------------------------------------------------------

---The result of an operation may be known later: shape that answer too.
local function shaped(err, shape)
  local ask = err.outcome
  if ask then
    err.outcome = function(self, timeout)
      local ok, done, bytes = ask(self, timeout)
      if not ok then
        return ok, done
      end
      return shape(done, bytes)
    end
  end
  return nil, err
end

-- Key and value of each operation as bytes, or nil and why not: before the first is sent, so that nothing is done then.
local function encoded(self, list)
  local box, keys, values = self[1], {}, {}
  for i, item in ipairs(list) do
    local key, value, err = false, false, nil
    if item.key ~= nil then
      key, err = core.object_encode(box, item.key, true)
    end
    if item.value ~= nil and key ~= nil then
      value, err = core.object_encode(item.box or box, item.value)
    end
    if key == nil or value == nil then
      return nil, err
    end
    keys[i], values[i] = key, value
  end
  return keys, values
end

-- A later step was not done: say how many operations were, for these stay.
local function partly(err, count, total)
  if count > 0 then
    err.done = count
    err.message = ("%s (%d of %d were done before, and stay)"):format(err.message, count, total)
  end
  return nil, err
end

---Several operations on this object in one step, or in a few when they are many: { op, key, value, box } each. When a later
---step fails, err.done says how many of them were done.
---@param list table[]
---@param timeout number
---@param shape fun(done: boolean[], bytes: (string|false)[], list: table[]): ... What the answers come to.
function M.run(self, list, timeout, shape, is_silent, is_whole)
  local keys, values = encoded(self, list)
  if not keys then
    return nil, values
  end
  local all_done, all_bytes, boxes = {}, {}, { self[1] }
  local go_on -- from that operation on

  local function take(first, last, done, answers)
    for i = first, last do
      all_done[i], all_bytes[i] = done[i - first + 1], answers[i - first + 1]
    end
  end

  local function failed(err, first, last)
    local ask = err.outcome
    if ask then
      err.outcome = function(of, seconds)
        local deadline = core.now() + (seconds or self.timeout)
        local ok, done, answers = ask(of, seconds)
        if not ok then
          return partly(done, first - 1, #list)
        end
        take(first, last, done, answers)
        if last == #list then
          return shape(all_done, all_bytes, list)
        end
        return go_on(last + 1, deadline)
      end
    end
    return partly(err, first - 1, #list)
  end

  function go_on(first, deadline)
    repeat
      local left = math.max(0, deadline - core.now())
      if first > 1 and left == 0 then
        return partly(errors.new("timeout", ("%s '%s': timed out"):format(self.kind, self.name)), first - 1, #list)
      end
      local ops, bytes, last = {}, 0, first - 1
      while last < #list and (is_whole or bytes < self.batch_bytes) do
        local key, value = keys[last + 1], values[last + 1]
        bytes = bytes + #(key or "") + #(value or "") + 8
        if not is_whole and bytes > self.batch_bytes and last >= first then
          break
        end
        last = last + 1
        local n = #ops
        ops[n + 1], ops[n + 2], ops[n + 3], ops[n + 4], ops[n + 5] = 1, list[last].op, key, value, false
      end
      local ok, done, answers = core.command(self.node, left, is_silent or false, boxes, {}, ops)
      if not ok then
        return failed(done, first, last)
      end
      take(first, last, done, answers)
      first = last + 1
    until first > #list
    return shape(all_done, all_bytes, list)
  end

  return go_on(1, core.now() + timeout)
end

---The value that an answer holds; nil when there is none.
function M.decode(box, bytes)
  if not bytes then
    return nil
  end
  local ok, value = core.object_decode(box, bytes)
  if ok then
    return value
  end
end

---Values of the answers by key, of those that have one.
function M.by_key(list, bytes, box, wanted)
  local result = {}
  for i, item in ipairs(list) do
    if bytes[i] and (wanted == nil or wanted[i]) then
      result[item.key] = M.decode(item.box or box, bytes[i])
    end
  end
  return result
end

---update_if and remove_if where bytes cannot be compared: look, compare here, propose "if still at that revision".
---`false` never comes from a replica that is not confirmed.
---@param op "set"|"remove"
function M.compare_and(self, box, op, key, value, expected, timeout)
  local deadline = core.now() + timeout
  local equal = self.equal or codecs.same
  local key_bytes, key_err = core.object_encode(box, key, true)
  if not key_bytes then
    return nil, key_err
  end
  local value_bytes, value_err = false
  if op == "set" then
    value_bytes, value_err = core.object_encode(box, value)
    if not value_bytes then
      return nil, value_err
    end
  end
  repeat
    local left = math.max(0, deadline - core.now())
    local ok, err = core.cluster_wait(self.node, "barrier", left)
    if not ok then
      return nil, err
    end
    local revision, found = core.object_item(box, key)
    if not revision and found then
      return nil, found
    elseif not revision then
      return false
    elseif not equal(found, expected) then
      return false, found
    end
    left = math.max(0, deadline - core.now())
    local conditions = { 1, M.IF.revision, key_bytes, false, revision }
    local done, problem = core.command(self.node, left, false, { box }, conditions, {
      1,
      M.OP[op],
      key_bytes,
      value_bytes,
      false,
    })
    if done == nil then
      return shaped(problem, function()
        return true
      end)
    elseif done then
      return true
    end
  until core.now() >= deadline
  return errors.fail("contended", ("%s '%s': others changed it each time before the deadline"):format(self.kind, self.name))
end

-- What trying again does not mend.
local LASTING = { codec = true, too_large = true, wrong_kind = true, option_conflict = true }

---Put `list` in where nothing is, once the node is ready: the option `initial`. What cannot be encoded is misuse.
---@param level integer
function M.begin(self, list, level)
  self.begun = core.gate()
  if #list == 0 then
    self.begun:open()
    return
  end
  local good, problem = encoded(self, list)
  if not good then
    self:close()
    error(("node:%s: option 'initial': %s"):format(self.kind, problem.message), level + 1)
  end
  core.go_quiet(function()
    repeat
      local ok, err = core.cluster_wait(self.node, "ready", 60)
      if ok then
        ok, err = M.run(self, list, self.timeout, function()
          return true
        end)
      end
      if not ok and LASTING[err.code] then
        self.not_begun = err
      elseif not ok then
        core.sleep(0.1)
      end
    until ok or self.not_begun or self.closed or not self.node:is_open()
    self.begun:open()
  end)
end

--- Methods of every object -------------------------------------------------------------------------------------------

---Wait until the state is taken over from the others, and what `initial` says is in.
---@param timeout? number
function Object:ready(timeout)
  if timeout ~= nil and (type(timeout) ~= "number" or timeout < 0 or timeout ~= timeout) then
    error(("%s:ready: the timeout must be a number of seconds, got %s"):format(self.kind, tostring(timeout)), 2)
  end
  timeout = timeout or self.timeout
  if self.closed then
    return errors.fail("closed", ("this handle of %s '%s' is closed"):format(self.kind, self.name))
  end
  local deadline = core.now() + timeout
  local ok, err = core.cluster_wait(self.node, "ready", timeout)
  if ok then
    ok, err = core.cluster_wait(self.node, "barrier", math.max(0, deadline - core.now()))
  end
  if ok and self.begun then
    ok, err = self.begun:wait(math.max(0, deadline - core.now()))
  end
  if ok and self.not_begun then
    ok, err = nil, self.not_begun
  end
  if ok then
    ok, err = core.object_size(self[1]) -- an object of another kind may have this name
  end
  if not ok then
    return nil, err
  end
  return true
end

---Run `f` at each event of this name, on every member, after it was applied.
function Object:on(name, f)
  emitter.add(self.events, "on", name, f, 3)
  return self
end

---The same, for the next one only.
function Object:once(name, f)
  emitter.add(self.events, "once", name, f, 3)
  return self
end

---Take a handler away; without one all of that name.
function Object:off(name, f)
  return self.events:off(name, f)
end

---Let go of this handle: its calls under way and later ones give `closed`, its listeners go; the data stays.
function Object:close()
  if self.closed then
    return false
  end
  self.closed = true
  core.object_close(self[1])
  core.object_close(self.watched)
  for _, box in pairs(self.views or {}) do
    core.object_close(box)
  end
  cluster.forget(self)
  self.events:fire("close")
  return true
end

Object.__close = Object.close

function Object:__tostring()
  return ("holt.%s (%s)"):format(self.kind, self.name)
end

---How many entries or items there are.
function Object:size(opts)
  if opts ~= nil then
    local ok, err = M.prepare(self, "size", opts)
    if not ok then
      return nil, err
    end
  end
  local count, err = core.object_size(self[1])
  if not count then
    return nil, err
  end
  return count
end

---Whether there is none.
function Object:is_empty(opts)
  if opts ~= nil then
    local ok, err = M.prepare(self, "is_empty", opts)
    if not ok then
      return nil, err
    end
  end
  local count, err = core.object_size(self[1])
  if not count then
    return nil, err
  end
  return count == 0
end

---Take everything out, in one step.
function Object:clear(opts)
  local timeout = self.timeout
  if opts ~= nil then
    timeout = M.timeout(self, "clear", opts)
  end
  return core.object_write(self[1], M.OP.clear, timeout)
end

---The content as a table of plain values, of one moment.
function Object:export()
  local size, revision = core.object_size(self[1])
  if not size then
    return nil, revision
  end
  local result = { kind = self.kind, name = self.name, revision = revision }
  local ok, err = pcall(self.internal.export_into, self, result)
  if ok then
    return result
  elseif errors.is(err) then
    return nil, err -- one of the values cannot be decoded
  end
  error(err, 0)
end

---Put in what export gave, as one operation through the log: merged into a map or record, in place of what a
---queue held. Listeners hear of it with `{ events = true }` only.
function Object:import(given, opts)
  self.internal.check_import(self, given)
  opts = options.check(self.kind .. ":import", opts, IMPORT_RULES)
  local list, err = self.internal.import_list(self, given)
  if not list then
    return nil, err
  end
  return M.run(self, list, opts.timeout or self.timeout, function()
    return true
  end, not opts.events, true)
end

---A class with all of this.
function M.class()
  local class = {}
  for name, value in pairs(Object) do
    class[name] = value
  end
  class.internal = {} -- export_into(self, result), check_import(self, given), import_list(self, given), changed(self, …): for this module
  class.__index = class
  return class
end

return M
