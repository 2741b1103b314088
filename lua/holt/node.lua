--- Nodes: options, events of the runtime, peers. The hot calls (emit, on) go straight to C.
-- @module holt.node
local cluster = require("holt.cluster")
local codec = require("holt.codec")
local config = require("holt.config")
local core = require("holt.core")
local emitter = require("holt.emitter")
local journal = require("holt.journal")
local options = require("holt.options")
local transport = require("holt.transport")

local M = {}

local NODE_EVENTS = { "listening", "peer_connected", "peer_disconnected", "gap", "dropped", "error", "slow_handler", "closed" }
table.move(cluster.EVENTS, 1, #cluster.EVENTS, #NODE_EVENTS + 1, NODE_EVENTS)
local PEER_EVENTS = {
  "connect",
  "peerid",
  "initialized",
  "acknowledge",
  "disconnect",
  "backoff",
  "reconnect",
  "gap",
  "dropped",
  "close",
}
local CONNECT_RULES = { attempts = { "integer", min = 1 } }
local ON_RULES = { concurrency = { "integer", min = 1 } }
local SERVE_RULES = { concurrency = { "integer", min = 1 } }
local CALL_RULES = { timeout = { "seconds" } }
local REQUEST_TIMEOUT = 5
local HANDLER_WARNING = 0.1
local LET_GO = 10 -- seconds until a folder that is not let go of is not waited for any longer

-- Every open node of this state, so that an error of a task reaches whoever listens.
local open_nodes = setmetatable({}, { __mode = "k" })

-- Keys of a node that only this file uses.
local PEERS, ADDRESSES, ORIGINS, SETTINGS, FOLDERS = {}, {}, {}, {}, {}

--- Peers ----------------------------------------------------------------------------------------------------------

---@class holt.Peer
---@field name string|nil The other node's name, once it has told it.
---@field id string|nil The other node's id.
---@field address string The address we dial; "" when the other side dialled us.
---@field node holt.Node
local Peer = {}
Peer.__index = Peer

---Listen to what happens to this peer: connect peerid initialized acknowledge disconnect backoff reconnect gap dropped
---close.
function Peer:on(name, f)
  emitter.add(self.events, "on", name, f, 3)
  return self
end

---The same, for the next time only.
function Peer:once(name, f)
  emitter.add(self.events, "once", name, f, 3)
  return self
end

---Take a handler away; without one all of that name.
function Peer:off(name, f)
  return self.events:off(name, f)
end

---Stop dialling, close the link, forget what was buffered. False when it is closed already.
function Peer:close()
  if self.address ~= "" then
    journal.parted(self.node, self.address)
  end
  return core.node_peer_close(self.node, self.number)
end

---Whether, and what: up, buffered, buffered_bytes, acknowledged, received, dropped, attempts, connects.
function Peer:status()
  return core.node_peer_status(self.node, self.number)
end

Peer.__close = Peer.close

function Peer:__tostring()
  local where = self.address ~= "" and self.address or "incoming"
  return ("holt.peer (%s, %s)"):format(self.name or "name not known yet", where)
end

local function peer_of(node, number, details)
  local peers = node[PEERS]
  local peer = peers[number]
  if not peer then
    peer = setmetatable({ node = node, number = number, address = "", is_up = false }, Peer)
    peer.events = emitter.new("peer", PEER_EVENTS, function(name, count)
      if name == "acknowledge" and count > 0 then
        core.node_wants_acks(node, true)
      end
    end)
    peers[number] = peer
  end
  if details then
    peer.name, peer.id = details.name or peer.name, details.id or peer.id
    peer.address = details.address or peer.address
  end
  return peer
end

--- What the node tells -----------------------------------------------------------------------------------------------

local tells = {}

function tells.connect(_, peer)
  peer.events:fire("connect")
end

function tells.peerid(_, peer, told)
  peer.events:fire("peerid", told.name, told.id)
end

function tells.initialized(node, peer)
  peer.is_up = true
  if peer.wanted then
    journal.connected(node, peer.wanted)
  end
  peer.events:fire("initialized")
  node.events:fire("peer_connected", peer)
end

function tells.acknowledge(_, peer, told)
  peer.events:fire("acknowledge", told.number)
end

function tells.disconnect(node, peer, told)
  local was_up = peer.is_up
  peer.is_up = false
  peer.events:fire("disconnect", told.err)
  if was_up then
    node.events:fire("peer_disconnected", peer, told.err)
  end
end

-- The other side refused us, or its host is unknown, and that stays so until somebody changes a setting: worth a word, once.
local REFUSALS = {
  unknown_host = true,
  wrong_channel = true,
  wrong_version = true,
  name_in_use = true,
  max_peers = true,
  self_connect = true,
}

function tells.backoff(node, peer, told)
  local err = told.err
  if err and REFUSALS[err.code] and peer.refused ~= err.code then
    peer.refused = err.code
    if not node.events:fire("error", err) then
      core.log("warn", ("%s: %s"):format(node.name, tostring(err)))
    end
  end
  peer.events:fire("backoff", told.attempt, told.delay, err)
  if peer.attempts_max and told.attempt >= peer.attempts_max then
    core.node_peer_close(node, peer.number) -- told by `close`; a journal goes on knowing the address
  end
end

function tells.reconnect(_, peer, told)
  peer.events:fire("reconnect", told.attempt, told.delay)
end

function tells.dropped(node, peer, told)
  peer.events:fire("dropped", told.number, told.err)
  node.events:fire("dropped", peer, told.number, told.err)
end

function tells.close(node, peer, told)
  if peer.is_up then
    peer.is_up = false
    node.events:fire("peer_disconnected", peer, told.err)
  end
  peer.events:fire("close")
  node[PEERS][peer.number] = nil
end

function tells.gap(node, _, told)
  for _, peer in pairs(node[PEERS]) do
    if peer.name == told.name then
      peer.events:fire("gap", told.number)
    end
  end
  node.events:fire("gap", told.name, told.number)
end

function tells.refused(node, _, told)
  local err = told.err
  if err.code == "duplicate" and node.cluster_settings.is_member then
    return -- members dial each other; one connection stays
  elseif err.code == "connection_reset" then -- who dialled it knows why: of two that dial each other one lets go; some look for open ports
    core.log("debug", ("%s: somebody connected and left before saying who it is"):format(node.name))
    return
  end
  if told.address and not err.message:find(told.address, 1, true) then
    err.message = told.address .. ": " .. err.message
  end
  if not node.events:fire("error", err) then
    core.log("warn", ("%s: %s"):format(node.name, tostring(err)))
  end
end

-- Handlers of all nodes of a state share its loop: the smallest of their settings counts.
local function set_watch()
  local tick, limit
  for node in pairs(open_nodes) do
    local warning = node[SETTINGS].handler_warning or HANDLER_WARNING
    if warning > 0 and warning < (limit or math.huge) then
      limit = warning
    end
    local heartbeat = node.cluster_settings.is_member and node.cluster_settings.heartbeat
    if heartbeat and heartbeat < (tick or math.huge) then
      tick = heartbeat
    end
  end
  core.watch(tick or 0, limit or 0)
end

function tells.closed(node)
  open_nodes[node] = nil
  set_watch()
  cluster.closed(node)
  journal.closed(node)
  node.events:fire("closed")
end

for name, tell in pairs(cluster.tells) do
  tells[name] = tell
end
for name, tell in pairs(journal.tells) do
  tells["journal_" .. name] = tell
end

local function dispatch(node, kind, told)
  tells[kind](node, told.peer ~= 0 and peer_of(node, told.peer, told) or nil, told)
end

--- Nodes -----------------------------------------------------------------------------------------------------------

---@class holt.Node
---@field name string
---@field id string
---@field boot string
---@field events holt.Emitter
local Node = {}
Node.__index = Node
for name, method in pairs(cluster.methods) do
  Node[name] = method
end

---Send an event to every other node. Waits where a present peer's window is full.
Node.emit = core.node_emit

local on, once, off = core.node_on, core.node_once, core.node_off

-- Misuse is told at the line of the script that called the method.
local function check_subject(method, what, subject, is_pattern)
  local problem = type(subject) ~= "string" and ("the %s must be a string, got %s"):format(what, type(subject))
    or core.subject_problem(subject, is_pattern)
  if problem then
    error(("node:%s: %s"):format(method, problem), 4)
  end
end

local function check_handler(method, f)
  if type(f) ~= "function" then
    error(("node:%s: the handler must be a function, got %s"):format(method, type(f)), 4)
  end
end

local function check_subscription(method, pattern, f, is_optional)
  check_subject(method, "pattern", pattern, true)
  if f ~= nil or not is_optional then
    check_handler(method, f)
  end
end

local function check_address(method, address)
  if type(address) ~= "string" then
    error(('node:%s: the address must be a string such as "127.0.0.1:7001", got %s'):format(method, type(address)), 3)
  end
end

---Run `f(...)` for each event whose subject the pattern covers: `*` is one word, `>` one or more at the end.
function Node:on(pattern, f, opts)
  check_subscription("on", pattern, f)
  local concurrency
  if opts ~= nil then
    concurrency = options.check("node:on", opts, ON_RULES).concurrency
  end
  local ok, err = on(self, pattern, f, concurrency)
  if not ok then
    return nil, err
  end
  return self
end

---The same, for the next event only.
function Node:once(pattern, f)
  check_subscription("once", pattern, f)
  local ok, err = once(self, pattern, f)
  if not ok then
    return nil, err
  end
  return self
end

---Take a handler away; without one all of that pattern.
function Node:off(pattern, f)
  check_subscription("off", pattern, f, true)
  return off(self, pattern, f)
end

--- Requests: served and called -------------------------------------------------------------------------------------

---@class holt.Service
---@field node holt.Node
---@field subject string
local Service = {}
Service.__index = Service

---Answer no further request; those received before are still answered. False when it is closed already.
function Service:close()
  return core.node_unserve(self.node, self.number)
end

Service.__close = Service.close

function Service:__tostring()
  return ("holt.service (%s)"):format(self.subject)
end

local function check_service(subject, f)
  check_subject("serve", "subject", subject, false)
  check_handler("serve", f)
end

---Answer requests for a subject: what `f(request)` returns is the reply, what it raises is the caller's error.
function Node:serve(subject, f, opts)
  check_service(subject, f)
  local concurrency = options.check("node:serve", opts, SERVE_RULES).concurrency
  local number, err = core.node_serve(self, subject, f, concurrency)
  if not number then
    return nil, err
  end
  return setmetatable({ node = self, subject = subject, number = number }, Service)
end

local function check_call(subject, count)
  check_subject("call", "subject", subject, false)
  if count > 2 then
    error("node:call: takes a subject, one request and a table of options; put several values into one table", 3)
  end
end

---Ask the nearest node that serves the subject, and wait for what its handler returns.
function Node:call(subject, ...)
  local count = select("#", ...)
  check_call(subject, count)
  local request, opts = ...
  local timeout = opts ~= nil and options.check("node:call", opts, CALL_RULES).timeout
    or self[SETTINGS].request_timeout
    or REQUEST_TIMEOUT
  if count == 0 then
    return core.node_call(self, subject, timeout)
  end
  return core.node_call(self, subject, timeout, request)
end

--- Links ------------------------------------------------------------------------------------------------------------

-- Where others reach this node: what it was told to say, else where it listens.
local function advertised(node)
  local told = node[SETTINGS].advertise
  return type(told) == "string" and { told } or { table.unpack(told or node[ADDRESSES]) }
end

---Accept links at this address. Port 0 picks a free one.
function Node:listen(address)
  check_address("listen", address)
  local ok, actual = core.node_listen(self, address)
  if not ok then
    return nil, actual
  end
  table.insert(self[ADDRESSES], actual)
  self.events:fire("listening", actual)
  journal.listening(self, advertised(self))
  return true, actual
end

---Link to the node at this address, now and after every loss; with `{ attempts = n }` until n attempts in a row have failed. The
---same address gives the same peer.
function Node:connect(address, opts)
  check_address("connect", address)
  opts = options.check("node:connect", opts, CONNECT_RULES)
  local number, err = core.node_connect(self, address)
  if not number then
    return nil, err
  end
  local peer = peer_of(self, number, { address = address })
  peer.wanted = address
  peer.attempts_max = opts.attempts or peer.attempts_max
  return peer
end

---A journal of this node, got or made: durable, signed events that every holder ends up with.
function Node:journal(name, opts)
  local log, err = journal.open(self, name, opts, advertised(self), 2)
  return log, err
end

---Drop today's peers without dialling them anew; go on listening.
function Node:disconnect()
  return core.node_disconnect(self)
end

---Wait until handlers have answered the requests they are at and the peers have acknowledged what was sent (at most
---`drain_timeout`), say goodbye, close, let go of the data folder: the next node may have it.
---Inside such a handler use `holt.go(node.close, node)`.
function Node:close()
  local data = self[SETTINGS].data
  self[FOLDERS] = self[FOLDERS] or core.folders_opened() -- those that come later are of others
  local is_closed, deadline = core.node_close(self), core.now() + LET_GO
  while data and core.has_folder(data, self[FOLDERS]) and core.now() < deadline do -- so that the next may have it
    core.sleep(0.002)
  end
  return is_closed
end

---Whether it is open.
function Node:is_open()
  return core.node_is_open(self)
end

---The peers there are, those still dialling included.
function Node:peers()
  local list = {}
  for i, status in ipairs(core.node_peers(self)) do
    list[i] = peer_of(self, status.number, status)
  end
  return list
end

local function node_stats(node)
  local stats, err = core.node_stats(node)
  if stats then
    stats.missed_changes = node.missed_changes or 0
    stats.slow_handlers, stats.slowest_handler = core.watch_counts()
  end
  return stats, err
end

---Counters: emitted received delivered forwarded duplicates lost expired queued unacknowledged slow_handlers
---slowest_handler; in a cluster also members pending in_progress partial log_bytes.
function Node:stats()
  local stats, err = node_stats(self)
  local status = stats and self.cluster_settings.is_member and core.cluster_status(self)
  if status then
    stats.members, stats.pending, stats.log_bytes = #status.members, status.pending, status.log_bytes
    stats.in_progress, stats.partial = status.last - status.commit, 0
  end
  return stats, err
end

-- A cluster's part of `status`.
local function add_cluster(node, status)
  local found = node.cluster_settings.is_member and core.cluster_status(node)
  if not found then
    return status
  end
  status.members = codec.array(found.members)
  found.members = nil
  for _, name in ipairs({ "role", "term", "leader", "commit", "applied", "state_hash" }) do
    status[name] = found[name]
  end
  found.objects = #(core.cluster_objects(node) or {})
  status.cluster = found
  return status
end

---What `holt status --json` shows.
function Node:status()
  local peers = core.node_peers(self)
  for _, peer in ipairs(peers) do
    peer.number = nil
  end
  return add_cluster(self, {
    name = self.name,
    id = self.id,
    boot = self.boot,
    open = self:is_open(),
    listen = codec.array({ table.unpack(self[ADDRESSES]) }),
    advertise = codec.array(advertised(self)),
    peers = codec.array(peers),
    stats = node_stats(self),
    memory = core.memory().bytes,
    tasks = core.task_count(),
  })
end

---Every setting in force and where it came from.
function Node:settings()
  local list = {}
  for name, origin in pairs(self[ORIGINS]) do
    list[name] = { value = self[SETTINGS][name], origin = origin }
  end
  return list
end

function Node:__close()
  self:close()
end

function Node:__tostring()
  return ("holt.node (%s)"):format(self.name)
end

local function list_of(value)
  if type(value) == "string" then
    return { value }
  end
  return value or {}
end

-- Close what was begun and raise, for a node that cannot be what its options say.
local function give_up(node, err)
  core.node_close(node, false)
  open_nodes[node] = nil
  set_watch()
  error(err, 0)
end

-- What is wrong with settings that have the right types, or nil.
local function settings_problem(settings)
  if settings.data == "" then
    return "option 'data' is an empty text: name a folder, or leave it out to live in memory"
  elseif settings.name == "" then
    return "option 'name' is an empty text: name the node, or leave it out for a random one"
  end
  for _, option in ipairs({ "name", "channel", "data" }) do
    if settings[option] and settings[option]:find("\0", 1, true) then
      return ("option '%s' has a zero byte"):format(option)
    end
  end
  local is_tcp = settings.transport == nil or settings.transport == "tcp"
  for _, address in ipairs(is_tcp and list_of(settings.advertise) or {}) do
    local problem = core.address_problem(address)
    if problem then
      return "option 'advertise': " .. problem
    end
  end
  return type(settings.transport) == "table" and transport.problem(settings.transport)
    or settings.cluster and cluster.problem(settings.cluster)
    or nil
end

---Make a node. Wrong options raise at the caller's line; an address that cannot be used raises its error table.
---@param given? table
---@return holt.Node
function M.new(given)
  given = options.check("holt.node", given, config.rules)
  local settings, origins = config.resolve(given)
  local plan = codec.plan(settings, 2)
  local problem = settings_problem(settings)
  if problem then
    error("holt.node: " .. problem, 2)
  end
  local node = setmetatable({ [PEERS] = {}, [ADDRESSES] = {}, [ORIGINS] = origins, [SETTINGS] = settings }, Node)
  cluster.attach(node, settings)
  node.journals_open = {}
  node.events = emitter.new("node.events", NODE_EVENTS, function(name, count)
    cluster.listens(node, name, count)
  end)
  local given_to_core = setmetatable({ cluster = cluster.for_core(settings) }, { __index = settings })
  if type(settings.transport) == "table" then
    given_to_core.transport_box = transport.new(settings.transport)
  end
  local box, err = core.node_new(given_to_core, node, dispatch)
  if not box then
    error(("holt.node: %s"):format(err.message), 2)
  end
  node[1] = box
  for key, value in pairs(core.node_identity(node)) do
    node[key] = value
  end
  for id, custom in pairs(plan.customs) do
    core.node_codec(node, id, custom.encode, custom.decode)
  end
  core.node_use_codec(node, plan.default)
  for _, rule in ipairs(plan.subjects) do
    core.node_use_codec(node, rule[2], rule[1])
  end
  open_nodes[node] = true
  set_watch()
  for _, address in ipairs(list_of(settings.listen)) do
    local ok, actual = core.node_listen(node, address)
    if not ok then
      give_up(node, actual)
    end
    table.insert(node[ADDRESSES], actual)
    core.go(function() -- the script sets its handlers first
      node.events:fire("listening", actual)
    end)
  end
  for _, address in ipairs(list_of(settings.connect)) do
    local peer, failure = node:connect(address)
    if not peer then
      give_up(node, failure)
    end
  end
  local join = settings.cluster and settings.cluster.join
  for _, address in ipairs(join and list_of(join) or {}) do
    local peer, failure = node:connect(address)
    if not peer then
      give_up(node, failure)
    end
  end
  config.take()
  if M.on_new then
    M.on_new(node)
  end
  return node
end

---Set by `holt run`: told of each node the script makes.
---@type nil|fun(node: holt.Node)
M.on_new = nil

---The nodes of this state that are open.
---@return holt.Node[]
function M.all()
  local list = {}
  for node in pairs(open_nodes) do
    list[#list + 1] = node
  end
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  return list
end

-- Something held the loop for long: whose it was cannot be told, so all hear it. The log knows already.
core.on_slow(function(where, seconds)
  for _, node in ipairs(M.all()) do
    node.events:fire("slow_handler", where, seconds)
  end
end)

-- A handler or task raised: its own node hears it, a task that belongs to none is told to all.
core.set_error_sink(function(value, traceback, what, owner)
  local err = value
  if type(value) ~= "table" or type(value.code) ~= "string" then
    local cause = type(value) ~= "string" and value or nil
    err = core.mark_err({ code = "script_error", message = tostring(value), cause = cause })
  end
  err.handler, err.traceback = what, err.traceback or traceback
  local heard = false
  for _, node in ipairs(owner and { owner } or M.all()) do
    heard = node.events:fire("error", err) or heard
  end
  return heard
end)

return M
