--- Clients that work on shared objects, and write down what each call came to. Runs inside a node; what is written goes
-- to `holt-sim check` and to spec/helper/histories.lua.
--
-- A call is on file before it is made, so whatever a killed process leaves behind is a history. All processes of a
-- machine read one monotonic clock. Keys of maps and records change every few seconds, so that none has a history too
-- long to be searched; each value is written once.
local holt = require("holt")

local M = {}

local KEYS, QUEUES, EVENTS = 6, 3, 3
local KEY_SECONDS = 3
local RECORD_KEYS, FIELDS = 50, 3 -- fields of the record count from here
M.BANK = { accounts = 5, each = 100 }

local function microseconds()
  return math.floor(holt.now() * 1e6)
end

--- Writing down --------------------------------------------------------------------------------------------------------

---@class spec.Recorder
---@field calls integer Calls that were answered.
---@field codes table<string, integer> How often each error came.
---@field failed string[] When and how the first ones failed.
local Recorder = {}
Recorder.__index = Recorder

---@param path string The file is appended to; one with ".emitter" behind it takes what emitters do.
---@param origin integer Of this process and start, no other has it.
function M.recorder(path, origin)
  local self = setmetatable({ origin = origin, count = 0, calls = 0, late = 0, codes = {}, failed = {}, problems = {} }, Recorder)
  self.file, self.emitter_file = assert(io.open(path, "a")), assert(io.open(path .. ".emitter", "a"))
  self.file:setvbuf("no")
  self.emitter_file:setvbuf("no")
  return self
end

function Recorder:serial()
  self.count = self.count + 1
  return self.origin * 10000000 + self.count
end

function Recorder:call(client, kind, key, ...)
  local id, words = self:serial(), {}
  for i = 1, select("#", ...) do
    words[i] = " " .. tostring((select(i, ...)))
  end
  self.file:write(("call %d %d %s %d %d%s\n"):format(id, client, kind, key, microseconds(), table.concat(words)))
  return id
end

function Recorder:told(err)
  if #self.failed < 50 then
    table.insert(self.failed, ("%.2f %s: %s"):format(holt.now(), err.code, err.message))
  end
  self.codes[err.code] = (self.codes[err.code] or 0) + 1
end

-- What an operation found, from what its method returned; see runtime/sim/history.h.
local FOUND = {
  get = function(value)
    return value
  end,
  set = function(_, old)
    return old
  end,
  insert = function(done, found)
    if not done then
      return found
    end
  end,
  update_if = function(done, found, expected)
    if done then
      return expected
    end
    return found
  end,
  remove = function(done, old)
    return done and old or nil
  end,
  push = function()
    return "any"
  end,
}
FOUND.remove_if, FOUND.pop = FOUND.update_if, FOUND.get

---Write down what call `id` came to; one that is unknown is waited for if `patience` says so.
---@return any|nil found What the operation found, nil also when it failed.
function Recorder:ended(id, kind, expected, patience, done, second)
  local err = done == nil and second or nil
  if err and err.code == "unknown" then
    self.late = self.late + 1
    if patience == 0 then
      return self:told(err)
    end
    done, second = err:outcome(patience)
    err = done == nil and second or nil
  end
  if err and (err.code == "unknown" or err.code == "not_found") then -- nobody knows
    return self:told(err)
  elseif err then
    self:told(err)
    self.file:write(("fail %d %d\n"):format(id, microseconds()))
    return
  end
  local found = FOUND[kind](done, second, expected)
  self.file:write(("ok %d %d %s\n"):format(id, microseconds(), tostring(found)))
  self.calls = self.calls + 1
  self.last = holt.now()
  return found
end

function Recorder:note(format, ...)
  self.emitter_file:write(format:format(...) .. "\n") -- one piece: whoever is killed leaves whole lines
end

function Recorder:close()
  self.file:close()
  self.emitter_file:close()
end

--- Clients -------------------------------------------------------------------------------------------------------------

local function pick(list)
  return list[math.random(#list)]
end

local KINDS = { "get", "get", "get", "set", "set", "insert", "update_if", "update_if", "remove", "remove_if" }

local function key_now(base, count)
  return math.floor(holt.now() / KEY_SECONDS) * 100 + base + math.random(count)
end

-- On a map or a record: `name_of` makes its key.
local function keyed(work, object, base, count, name_of)
  local expected, recorder = {}, work.recorder
  return function(client)
    local kind, key = pick(KINDS), key_now(base, count)
    if kind == "remove_if" and object.kind == "record" then
      kind = "remove"
    end
    local name, wanted, new = name_of(key), expected[key], recorder:serial()
    if wanted == nil and (kind == "update_if" or kind == "remove_if") then
      kind = "get"
    end
    local args = ({ set = { new }, insert = { new }, update_if = { new, wanted }, remove_if = { wanted } })[kind] or {}
    local id = recorder:call(client, kind, key, table.unpack(args))
    args[#args + 1] = { timeout = work.timeout, linearizable = kind == "get" or nil }
    local found = recorder:ended(id, kind, wanted, pick({ 0, 20 }), object[kind](object, name, table.unpack(args)))
    if kind == "set" or kind == "insert" then
      found = found or new
    end
    expected[key] = found
  end
end

local function pushing(work, queues)
  return function(client)
    local place = math.random(#queues)
    local value = work.recorder:serial()
    local id = work.recorder:call(client, "push", place, value)
    work.recorder:ended(id, "push", nil, pick({ 0, 20 }), queues[place]:push(value))
  end
end

local function popping(work, queues)
  return function(client)
    local place = math.random(#queues)
    local id = work.recorder:call(client, "pop", place)
    local given = { timeout = work.timeout, wait = pick({ 0, 0, 0.05 }) }
    work.recorder:ended(id, "pop", nil, 20, queues[place]:pop(given)) -- one that is never known costs the check its edge
  end
end

-- Money moves from account to account; at each moment the sum is the same.
local function moving(work, bank)
  return function()
    local from, to = math.random(M.BANK.accounts), math.random(M.BANK.accounts)
    local ok, err = work.node:txn(function(t)
      t:set(bank, from, t:get(bank, from) - 1)
      t:set(bank, to, t:get(bank, to) + 1)
    end)
    if ok == nil then
      work.recorder:told(err)
    end
    local sum = 0
    for _, held in bank:pairs() do
      sum = sum + held
    end
    if sum ~= M.BANK.accounts * M.BANK.each then
      table.insert(work.recorder.problems, "the accounts hold " .. sum)
    end
  end
end

-- Listens to some events and tells some; see histories.lua for what is asked of that.
local function telling(work, alerts)
  local recorder, name, listening = work.recorder, work.node.name, {} -- listening: also while that is being asked for
  return function()
    local event, action = "event" .. math.random(EVENTS), math.random()
    if action < 0.1 and not listening[event] then
      listening[event] = true
      local function hear(id)
        recorder:note("heard %s %d %s %d %d", name, recorder.origin, event, id, microseconds())
      end
      recorder:note("subscribing %s %d %s %d", name, recorder.origin, event, microseconds())
      if alerts:subscribe(event, hear) then
        recorder:note("subscribed %s %d %s %d", name, recorder.origin, event, microseconds())
        listening[event] = hear
      else
        listening[event] = nil
      end
    elseif action < 0.15 and listening[event] and listening[event] ~= true then
      local hear = listening[event]
      listening[event] = true
      recorder:note("unsubscribing %s %d %s %d", name, recorder.origin, event, microseconds())
      local done, err = alerts:unsubscribe(event)
      listening[event] = not done and err.code ~= "not_subscribed" and hear or nil
    elseif action < 0.3 then
      local id = recorder:serial()
      recorder:note("notify %s %d %s %d %d", name, recorder.origin, event, id, microseconds())
      alerts:notify(event, id)
    else
      local id = recorder:serial()
      recorder:note("publish %s %d %s %d %d", name, recorder.origin, event, id, microseconds())
      if work.node:barrier(work.timeout) then
        local handled, silent = alerts:publish(event, id)
        if handled then
          recorder:note("published %d %d %s;%s", id, microseconds(), table.concat(handled, ","), table.concat(silent, ","))
        end
      end
    end
  end
end

---@class spec.Workload
---@field recorder spec.Recorder
---@field running integer Clients that have not ended.

---Start clients; field `is_over` ends them.
---@param given { node: holt.Node, path: string, origin: integer, clients: integer, pace?: number, timeout?: number }
---@return spec.Workload
function M.start(given)
  local node = given.node
  local work = { node = node, recorder = M.recorder(given.path, given.origin), running = 0, timeout = given.timeout or 2 }
  math.randomseed(given.origin)
  local map, record, bank = node:map("keys"), node:record("fields"), node:map("bank")
  local alerts = node:emitter("alerts", { request_timeout = 1 })
  local queues = {}
  for i = 1, QUEUES do
    queues[i] = node:queue("queue" .. i, { request_timeout = work.timeout })
  end
  local function same(key)
    return key
  end
  local talk = telling(work, alerts)
  local kinds = {
    keyed(work, map, 0, KEYS, same),
    keyed(work, map, 0, KEYS, same),
    pushing(work, queues),
    popping(work, queues),
    keyed(work, record, RECORD_KEYS, FIELDS, tostring),
    talk,
    keyed(work, map, 0, KEYS, same),
    moving(work, bank),
  }
  for i = 1, given.clients do
    work.running = work.running + 1
    holt.go(function()
      while not work.is_over do
        kinds[(i - 1) % #kinds + 1](i)
        holt.sleep((given.pace or 0.01) * math.random())
      end
      work.running = work.running - 1
    end)
  end
  return work
end

---Money for the accounts, once for all.
function M.open_bank(node)
  local money = {}
  for i = 1, M.BANK.accounts do
    money[i] = M.BANK.each
  end
  return node:map("bank"):insert_all(money, { timeout = 10 })
end

---The end of a history: every key is read, every queue emptied, and written down like any other call. Without faults.
---@param node holt.Node
function M.finish(node, path, origin)
  local recorder = M.recorder(path, origin)
  local function look(object, key)
    local id = recorder:call(0, "get", math.tointeger(tonumber(key)))
    recorder:ended(id, "get", nil, 0, object:get(key, { linearizable = true }))
  end
  for key in node:map("keys"):keys({ linearizable = true }) do
    look(node:map("keys"), key)
  end
  for key in node:record("fields"):pairs({ linearizable = true }) do
    look(node:record("fields"), key)
  end
  for i = 1, QUEUES do
    local found
    repeat
      local id = recorder:call(0, "pop", i)
      found = recorder:ended(id, "pop", nil, 0, node:queue("queue" .. i):pop())
    until found == nil
  end
  recorder:close()
  return recorder.codes
end

---Everything this member holds, as text.
function M.everything(node)
  local lines = {}
  for _, object in ipairs({ node:map("keys"), node:map("bank"), node:record("fields") }) do
    for _, entry in ipairs(object:export().entries) do
      lines[#lines + 1] = ("%s %s = %s"):format(object.name, entry[1], entry[2])
    end
  end
  for i = 1, QUEUES do
    for place, item in node:queue("queue" .. i):pairs() do
      lines[#lines + 1] = ("queue%d %d = %s"):format(i, place, item)
    end
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

return M
