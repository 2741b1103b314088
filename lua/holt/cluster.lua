--- A node's place in its cluster: settings, membership, leadership, and the shared objects it holds.
-- holt.node takes the methods of this module into its own class.
-- @module holt.cluster
local core = require("holt.core")
local errors = require("holt.errors")
local options = require("holt.options")

local M = {}

M.RULES = {
  name = { "string" },
  members = { "integer", min = 1, max = 16 },
  join = { "string|list" },
  election_timeout = { "seconds", min = 0.01 },
  heartbeat = { "seconds", min = 0.001 },
  can_lead = { "boolean" },
  voter = { "boolean" },
  priority = { "integer", min = 0, max = 10 },
  snapshot_threshold = { "integer", min = 1 },
  max_entry_bytes = { "integer", min = 1024, max = 7 * 1024 * 1024 },
}
local REQUEST_TIMEOUT = 5
local HEARTBEAT = 0.05
local READY_TIMEOUT = 30
local TRANSFER_RULES = { timeout = { "seconds" } }

-- What node.events knows besides the events of the bus.
M.EVENTS = {
  "joined",
  "left",
  "rejoining",
  "follower",
  "candidate",
  "leader",
  "state_changed",
  "leader_changed",
  "member_joined",
  "member_left",
  "no_heartbeat_from",
  "unsynced_member",
  "commit",
  "heartbeat",
  "term",
  "quorum_lost",
  "quorum_regained",
  "snapshot",
  "conf_changed",
  "disk_error",
  "changes_missed",
}

--- Settings ----------------------------------------------------------------------------------------------------------

---What is wrong with the option `cluster`, or nil.
---@param given table
---@return string|nil
function M.problem(given)
  local problem = options.problems(given, M.RULES)
  if problem then
    return "option 'cluster': " .. problem
  end
  local name = given.name
  if name and (name == "" or #name > 64 or name:find("\0", 1, true)) then
    return "option 'cluster': a name has 1 to 64 bytes, none of them zero"
  end
  if not given.members and not given.join then
    return "option 'cluster' needs members = N (how many nodes begin it), or join = { addresses of members }"
  end
end

---What the C side takes.
---@param settings table
---@return table|nil
function M.for_core(settings)
  local given = settings.cluster
  if not given then
    return nil
  end
  local advertise = settings.advertise
  return {
    name = given.name,
    members = given.members,
    election_timeout = given.election_timeout,
    heartbeat = given.heartbeat,
    can_lead = given.can_lead,
    voter = given.voter,
    priority = given.priority,
    snapshot_threshold = given.snapshot_threshold,
    max_entry_bytes = given.max_entry_bytes,
    address = type(advertise) == "table" and advertise[1] or advertise or "",
    directory = settings.data,
  }
end

---Begin: after the C side has made the node.
function M.attach(node, settings)
  node.app_data = settings.app_data or {}
  node.objects_open = {}
  node.member_names = {}
  node.offices = {}
  node.cluster_settings = {
    request_timeout = settings.request_timeout or REQUEST_TIMEOUT,
    codecs = settings.codecs or {},
    is_member = settings.cluster ~= nil,
    voter = settings.cluster and settings.cluster.voter,
    heartbeat = settings.cluster and settings.cluster.heartbeat or HEARTBEAT,
  }
end

--- What the cluster tells --------------------------------------------------------------------------------------------

-- Runs of one office never overlap: who still holds on to the one before is waited for.
local function start(node, office)
  local before = office.ending
  office.task = core.name_task(
    core.go(function()
      if before then
        before:wait()
      end
      office.f()
    end),
    "on_leader",
    office.f
  )
  office.node = node
end

local CANCEL_AGAIN = 1 -- seconds

-- A function that catches `canceled` and goes on is canceled again and again, and named.
local function insist(node, office, task)
  local before, gate = office.ending, core.gate()
  office.ending = gate
  core.go_quiet(function()
    while true do
      task:join(CANCEL_AGAIN)
      if not task:cancel() then
        break
      end
      core.log("warn", ("%s: a function of on_leader goes on although this node does not lead any more; "
        .. "it caught 'canceled': let that through"):format(node.name))
    end
    if before then
      before:wait() -- this one may only have waited for it
    end
    if office.ending == gate then
      office.ending = nil
    end
    gate:open()
  end)
end

local function end_office(office)
  local task = office.task
  office.task = nil
  if task and task:cancel() then
    insist(office.node, office, task)
  end
end

local function complain(node, name, err)
  if not node.events:fire(name, err) then
    core.log("warn", ("%s: %s"):format(node.name, tostring(err)))
  end
end

-- A member that votes was started again with voter = false, which it cannot become by itself.
local function look_at_vote(node)
  if node.cluster_settings.voter == false and node:role() ~= "learner" then
    local text = "voter = false has no effect: '%s' is a member that votes; take it out (holt member remove %s): it joins anew without"
    complain(node, "error", errors.new("invalid", text:format(node.name, node.name)))
  end
end

M.tells = {}

function M.tells.state(node, _, told)
  local new, old = told.name, told.address
  for office in pairs(node.offices) do
    if new == "leader" and not office.task then
      start(node, office)
    elseif new ~= "leader" then
      end_office(office)
    end
  end
  if new == "follower" or new == "candidate" or new == "leader" then
    node.events:fire(new)
  end
  node.events:fire("state_changed", new, old)
end

function M.tells.leader(node, _, told)
  node.events:fire("leader_changed", told.name, told.address)
end

function M.tells.joined(node)
  if node.emitter_id then
    require("holt.collections.emitter").serve(node)
  end
  look_at_vote(node)
  node.events:fire("joined")
end

function M.tells.member_joined(node, _, told)
  node.member_names[told.number] = told.name
  node.events:fire("member_joined", told.name, ("%016x"):format(told.number))
end

function M.tells.member_left(node, _, told)
  node.events:fire("member_left", told.name, ("%016x"):format(told.number))
end

for _, name in ipairs({ "left", "rejoining", "quorum_lost", "quorum_regained", "conf_changed" }) do
  M.tells[name] = function(node)
    node.events:fire(name)
  end
end
for _, name in ipairs({ "no_heartbeat_from", "unsynced_member" }) do
  M.tells[name] = function(node, _, told)
    node.events:fire(name, told.name)
  end
end
for _, name in ipairs({ "term", "commit", "snapshot" }) do
  M.tells[name] = function(node, _, told)
    node.events:fire(name, told.number)
  end
end

function M.tells.disk_error(node, _, told)
  complain(node, "disk_error", told.err)
end

function M.tells.cluster_error(node, _, told)
  complain(node, "error", told.err)
end

---Somebody begins or ends to listen on node.events.
function M.listens(node, name, count)
  if name == "commit" then
    core.cluster_wants_commits(node, count > 0)
  elseif name == "heartbeat" and count > 0 and not node.ticker and node.cluster_settings.is_member then
    node.ticker = require("holt.tasks").every(node.cluster_settings.heartbeat, function()
      node.events:fire("heartbeat")
    end)
  elseif name == "heartbeat" and count == 0 and node.ticker then
    node.ticker:cancel()
    node.ticker = nil
  end
end

---The node is closed for good.
function M.closed(node)
  for office in pairs(node.offices) do
    end_office(office)
  end
  if node.ticker then
    node.ticker:cancel()
  end
  for _, list in pairs(node.objects_open) do
    for _, object in ipairs({ table.unpack(list) }) do
      object:close()
    end
  end
end

--- Methods of a node -------------------------------------------------------------------------------------------------

local Node = {}
M.methods = Node

local function check_member(self, method, level)
  if not self.cluster_settings.is_member then
    error(("node:%s: this node is in no cluster; give holt.node { cluster = { … } }"):format(method), level + 1)
  end
end

local function seconds(self, method, timeout, default)
  check_member(self, method, 3)
  if timeout ~= nil and (type(timeout) ~= "number" or timeout < 0 or timeout ~= timeout) then
    error(("node:%s: the timeout must be a number of seconds, got %s"):format(method, tostring(timeout)), 3)
  end
  return timeout or default or self.cluster_settings.request_timeout
end

---Wait until this node is a member, and a leader is known that has committed in its term.
function Node:ready(timeout)
  return core.cluster_wait(self, "ready", seconds(self, "ready", timeout, READY_TIMEOUT))
end

-- Without that member more than half of the voters were some that never lead: true and the error that says so.
local function fail_unled(self, method, name)
  local voters, leading, others = 0, 0, {}
  for _, member in ipairs(self:members() or {}) do
    if member.role == "voter" and member.name ~= name then
      voters = voters + 1
      leading = leading + (member.can_lead and 1 or 0)
      others[#others + 1] = not member.can_lead and member.name or nil
    end
  end
  if voters == 0 or leading * 2 >= voters then
    return false
  end
  local text = "%s: without '%s' more than half of the voters were some that never lead (%s); take one of these out first"
  return true, select(2, errors.fail("invalid", text:format(method, name, table.concat(others, ", "))))
end

---Leave the cluster: a leader hands over first. True once the others have agreed.
function Node:leave(timeout)
  local refused, err = fail_unled(self, "leave", self.name)
  if refused then
    return nil, err
  end
  return core.cluster_wait(self, "leave", seconds(self, "leave", timeout))
end

---Dial members and be one of theirs again.
function Node:join(addresses)
  check_member(self, "join", 2)
  if type(addresses) == "string" then
    addresses = { addresses }
  elseif type(addresses) ~= "table" then
    error(("node:join: expected an address or a list of them, got %s"):format(type(addresses)), 2)
  end
  for _, address in ipairs(addresses) do
    local peer, err = self:connect(address)
    if not peer then
      return nil, err
    end
  end
  core.cluster_rejoin(self)
  return true
end

---Wait until this node has applied all that was acknowledged anywhere before: what is read here then is linearizable.
function Node:barrier(timeout)
  return core.cluster_wait(self, "barrier", seconds(self, "barrier", timeout))
end

---Wait until this node has applied all that it knows to be committed: without asking the others.
function Node:applied(timeout)
  return core.cluster_wait(self, "applied", seconds(self, "applied", timeout))
end

---The members: name, id, address, role, self, leader, linked; at the leader also match, lag, last_heard.
function Node:members()
  check_member(self, "members", 2)
  local status, err = core.cluster_status(self)
  if not status then
    return nil, err
  end
  return status.members
end

---The leader's name, or nil.
function Node:leader()
  check_member(self, "leader", 2)
  local status = core.cluster_status(self)
  return status and status.leader
end

---Whether this node leads.
function Node:is_leader()
  check_member(self, "is_leader", 2)
  return core.cluster_is_leader(self)
end

---"follower", "candidate", "leader", "learner", or "none" outside of a cluster.
function Node:role()
  check_member(self, "role", 2)
  local status, err = core.cluster_status(self)
  if not status then
    return nil, err
  end
  return status.role
end

-- An error `not_found` that names who is there.
local function fail_no_member(self, method, name)
  local names = {}
  for _, member in ipairs(self:members() or {}) do
    names[#names + 1] = member.name
  end
  return errors.fail("not_found", ("%s: no member is named '%s'; there are: %s"):format(method, name, table.concat(names, ", ")))
end

---Hand leadership to that member, or to the best one.
function Node:transfer(name, opts)
  check_member(self, "transfer", 2)
  if name ~= nil and type(name) ~= "string" then
    error(("node:transfer: expected a member's name, got %s"):format(type(name)), 2)
  end
  local timeout = options.check("node:transfer", opts, TRANSFER_RULES).timeout
  local status = core.cluster_status(self)
  for _, member in ipairs(status and status.members or {}) do
    if member.name == name and (member.role ~= "voter" or not member.can_lead) then
      local why = member.role ~= "voter" and "it is a learner" or "it was started with can_lead = false"
      return errors.fail("invalid", ("transfer: '%s' cannot lead: %s"):format(name, why))
    end
  end
  local ok, err = core.cluster_wait(self, "transfer", timeout or self.cluster_settings.request_timeout, name)
  if not ok and err.code == "not_found" then
    return fail_no_member(self, "transfer", name)
  end
  return ok, err
end

---Take a member out of the cluster, one that is gone for good.
function Node:remove_member(name, opts)
  check_member(self, "remove_member", 2)
  if type(name) ~= "string" then
    error(("node:remove_member: expected a member's name, got %s"):format(type(name)), 2)
  end
  local timeout = options.check("node:remove_member", opts, TRANSFER_RULES).timeout
  local refused, why = fail_unled(self, "remove_member", name)
  if refused then
    return nil, why
  end
  local ok, err = core.cluster_wait(self, "remove", timeout or self.cluster_settings.request_timeout, name)
  if not ok and err.code == "not_found" then
    return fail_no_member(self, "remove_member", name)
  end
  return ok, err
end

---All shared objects there are: name, kind, size, bytes, revision.
function Node:objects()
  check_member(self, "objects", 2)
  local list, err = core.cluster_objects(self)
  if not list then
    return nil, err
  end
  for _, object in ipairs(list) do
    object.options = nil
  end
  return list
end

---Run `f()` in a task while this node leads; it is canceled when leadership ends, and begun anew with the next.
function Node:on_leader(f)
  check_member(self, "on_leader", 2)
  if type(f) ~= "function" then
    error(("node:on_leader: expected a function, got %s"):format(type(f)), 2)
  end
  if not self:is_open() then
    return errors.fail("closed", "on_leader: the node is closed")
  end
  local office = setmetatable({ f = f }, M.Office)
  self.offices[office] = true
  office.node = self
  if core.cluster_is_leader(self) then
    start(self, office)
  end
  return office
end

---What node:on_leader gives back.
---@class holt.Office
M.Office = {}
M.Office.__index = M.Office

---Run no more; a run under way is canceled. False when it was closed before.
function M.Office:close()
  if not self.node.offices[self] then
    return false
  end
  self.node.offices[self] = nil
  end_office(self)
  return true
end

M.Office.__close = M.Office.close

--- Shared objects ----------------------------------------------------------------------------------------------------

-- Whether two tables of options ask for the same. Codecs and functions do when they are the same ones.
local function is_alike(a, b, depth)
  for key, value in pairs(a) do
    local other = b[key]
    if value ~= other then
      local are_tables = type(value) == "table" and type(other) == "table"
      if key == "initial" and depth == 0 then
        if not are_tables or not require("holt.collections.codecs").same(value, other) then
          return false
        end
      elseif not (key == "codecs" and depth == 0 and are_tables and is_alike(value, other, 1)) then
        return false
      end
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

local function open(self, kind, name, given)
  check_member(self, kind, 3)
  if type(name) ~= "string" or name == "" or #name > 255 or name:find("\0", 1, true) then
    error(("node:%s: a name is a string of 1 to 255 bytes without zero bytes, got %s"):format(kind, tostring(name)), 3)
  end
  local id = kind .. "\0" .. name
  local list = self.objects_open[id] or {}
  for i = #list, 1, -1 do
    if given == nil or (type(given) == "table" and is_alike(given, list[i].given, 0)) then
      return list[i]
    end
  end
  local object = require("holt.collections." .. kind).new(self, name, given, 4)
  object.given = {}
  for key, value in pairs(given or {}) do -- a copy: the script may change its table
    object.given[key] = value
  end
  self.objects_open[id] = list
  list[#list + 1] = object
  return object
end

---A shared map, got or created: the first write creates it for everyone.
function Node:map(name, opts)
  local map = open(self, "map", name, opts)
  return map
end

---A shared queue.
function Node:queue(name, opts)
  local queue = open(self, "queue", name, opts)
  return queue
end

---A shared record.
function Node:record(name, opts)
  local record = open(self, "record", name, opts)
  return record
end

---A shared emitter.
function Node:emitter(name, opts)
  local shared = open(self, "emitter", name, opts)
  return shared
end

---Run `body(t)` with reads and writes of several objects that happen at one moment, or not at all.
function Node:txn(body, opts)
  check_member(self, "txn", 2)
  return require("holt.collections.txn").run(self, body, opts)
end

--- For the modules of collections ------------------------------------------------------------------------------------

---A handle was closed.
function M.forget(object)
  local list = object.node.objects_open[object.kind .. "\0" .. object.name] or {}
  for i, other in ipairs(list) do
    if other == object then
      table.remove(list, i)
    end
  end
  if #list == 0 then
    object.node.objects_open[object.kind .. "\0" .. object.name] = nil
  end
end

---Open handles of a kind, of one name or of all.
function M.open_objects(node, kind, name)
  if name then
    return node.objects_open[kind .. "\0" .. name] or {}
  end
  local all = {}
  for id, list in pairs(node.objects_open) do
    if id:sub(1, #kind + 1) == kind .. "\0" then
      table.move(list, 1, #list, #all + 1, all)
    end
  end
  return all
end

return M
