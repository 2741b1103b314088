--- Journals: durable, signed events that every holder ends up with. The work is done by runtime/journal; this module opens
-- them, checks what is given, and gives entries to handlers and readers.
-- @module holt.journal
local core = require("holt.core")
local emitter = require("holt.emitter")
local errors = require("holt.errors")
local handlers = require("holt.journal.handlers")
local options = require("holt.options")
local payloads = require("holt.journal.payloads")
local peers = require("holt.journal.peers")
local reader = require("holt.journal.reader")

local M = {}

local RULES = {
  schema = { "string|table" },
  codec = { "string|table" },
  authors = { "list" },
  keep = { "table" },
  max_entry_bytes = { "integer", min = 8192, max = 4 * 1024 * 1024 },
  announce = { "boolean" },
  redial = { "boolean" },
}
local KEEP_RULES = { time = { "seconds" }, entries = { "integer", min = 1 }, bytes = { "integer", min = 1 } }
local EMIT_RULES = { holders = { "integer", min = 0, max = 1000 }, timeout = { "seconds" } }
local VERIFY_RULES = { progress = { "function" } }
local EVENTS = {
  "ready",
  "error",
  "skipped",
  "refused",
  "forked",
  "truncated",
  "damaged",
  "mended",
  "synced",
  "disk_error",
  "closed",
}
local VERIFY_BATCH = 256

---@class holt.Log
---@field name string
---@field node holt.Node
---@field id string The public key of the data directory, 64 hexadecimal digits.
---@field events holt.Emitter
---@field messages table<string, { encode: function, decode: function }>
---@field closed boolean
---@field mending holt.Gate|nil Readers wait there for damaged entries.
local Log = {}
Log.__index = Log

--- Writing -----------------------------------------------------------------------------------------------------------

local emit = core.journal_emit

---Write an entry: its hash once it is on the disk, and with `holders = n` at so many others. A message that the schema
---refuses: nil and an error (`schema`) that names the field.
function Log:emit(name, message, opts)
  if type(name) ~= "string" then
    error(("log:emit: expected the name of a message, got %s"):format(type(name)), 2)
  end
  local bytes, full = self.codecs:encode_users(name, message)
  if not bytes then
    return nil, full
  elseif opts == nil then
    return emit(self[1], full, bytes)
  end
  options.check("log:emit", opts, EMIT_RULES)
  local timeout = opts.timeout
  if not timeout and (opts.holders or 0) > 0 then
    timeout = self.node.cluster_settings.request_timeout
  end
  return emit(self[1], full, bytes, opts.holders, timeout)
end

--- Handling and reading ----------------------------------------------------------------------------------------------

---Run `f(message, entry)` for each entry of that name from now on; with `{ cursor = … }` from where it stopped.
function Log:on(name, f, opts)
  local ok, err = handlers.add(self, "on", name, f, opts)
  return ok, err
end

---The same, for the next entry only.
function Log:once(name, f, opts)
  local ok, err = handlers.add(self, "once", name, f, opts)
  return ok, err
end

---Take a handler away; without one all of that name. Whether there was one.
function Log:off(name, f)
  local found = handlers.remove(self, name, f)
  return found
end

---Read entries: `for entry in log:read { from = "start", follow = true, cursor = "audit" } do`.
function Log:read(opts)
  local made = reader.new(self, opts, "log:read", 2)
  return made, nil, nil, made
end

local function finish(self, entry)
  setmetatable(entry, { __name = "holt.entry", __tostring = reader.entry_text })
  local ok, value = self.codecs:decode(entry.name, entry.payload)
  if not ok then
    value.entry, value.position = entry, entry.position
    return nil, value
  end
  entry.payload = value
  return entry
end

---The entry of this hash, or nil and an error (`not_found`).
function Log:get(hash)
  if type(hash) ~= "string" or #hash ~= 64 or hash:find("%X") then
    error("log:get: a hash is a string of 64 hexadecimal digits", 2)
  end
  local position, err = core.journal_find(self[1], hash)
  if not position then
    return nil, err
  end
  local list, _, problem = core.journal_read(self[1], position, 1, nil, position + 1)
  if not list or problem then
    return nil, problem or _
  elseif not list[1] then
    return errors.fail("not_found", "this hash is an author's opening, not an event")
  end
  return finish(self, list[1])
end

---Where the cursor stands: the position of the next entry it wants; nil when there is none of this name. With a second
---argument it is set: to a position, "start", "now", a hash, { time = t } or { author = a, sequence = n }.
function Log:cursor(name, where)
  if type(name) ~= "string" or name == "" or #name > 255 then
    error("log:cursor: the name of a cursor is a string of 1 to 255 bytes", 2)
  elseif where == nil then
    return core.journal_cursor(self[1], name)
  end
  local position, err = reader.resolve(self, where, "log:cursor", 2)
  if not position then
    return nil, err
  end
  local ok, closed = core.journal_set_cursor(self[1], name, position)
  return ok and position, closed
end

--- Messages ----------------------------------------------------------------------------------------------------------

---Give messages codecs of your own: a name and one, a table by name, or a list of { name = …, codec = … }. Returns the
---journal, so that calls chain. A second one for a message is a mistake, unless { replace = true }.
function Log:register_codec(...)
  local problem = self.codecs:try_register(...)
  if problem then
    error("log:register_codec: " .. problem, 2)
  end
  return self
end

--- Looking -----------------------------------------------------------------------------------------------------------

---Every author's newest entry: { author, sequence, hash, holder, node, horizon, forked, proof, self }, sorted by author. Two
---holders with equal heads hold the same entries; of an author marked `forked`, in the branch that is longest.
function Log:heads()
  local list, err = core.journal_authors(self[1])
  if not list then
    return nil, err
  end
  table.sort(list, function(a, b)
    return a.author < b.author
  end)
  return list
end

---Figures: see docs/journal.md.
function Log:stats()
  return core.journal_status(self[1])
end

---Look at every entry: bytes, hash, links to what came before, signatures. True and how many; nil and an error
---(`corrupt`) whose `damaged` lists the positions.
function Log:verify(opts)
  local progress = options.check("log:verify", opts, VERIFY_RULES).progress
  local first, last = core.journal_bounds(self[1])
  if not first then
    return nil, last
  end
  local position, damaged, failure = first, {}, nil
  while true do
    local after, is_end, err = core.journal_verify(self[1], position, VERIFY_BATCH)
    if not after then
      return nil, is_end
    elseif err and err.code ~= "corrupt" then
      return nil, err
    elseif err then
      failure = failure or err
      damaged[#damaged + 1] = after - 1
    end
    position = math.max(after, position)
    if progress then
      progress(position - first, math.max(last, position) - first)
    end
    if is_end then
      break
    end
    core.sleep(0)
  end
  if failure then
    failure.damaged, failure.position = damaged, damaged[1]
    return nil, failure
  end
  return true, position - first
end

---Give the disk back what deleted entries took: the file of all journals of this data directory is written anew, and
---needs room beside the old one meanwhile. Reading goes on, emits wait. How many bytes; or nil and an error: nothing was
---changed (`disk_full`: no room for the new file).
function Log:compact()
  return core.journal_compact(self[1])
end

---Wait until the journal is open and live.
function Log:ready(timeout)
  if timeout ~= nil and (type(timeout) ~= "number" or timeout < 0 or timeout ~= timeout) then
    error(("log:ready: the timeout must be a number of seconds, got %s"):format(tostring(timeout)), 2)
  elseif self.closed then
    return errors.fail("closed", ("the journal '%s' is closed"):format(self.name))
  end
  return true
end

---Addresses that are dialled at each start, because a connection to them stood once.
function Log:known_peers()
  local list = peers.known(self)
  return list
end

--- Life --------------------------------------------------------------------------------------------------------------

-- Handlers and readers end; nothing more is taken.
local function end_use(self)
  self.closed = true
  self.node.journals_open[self.name] = nil
  handlers.close(self)
  reader.wake(self)
end

---Take nothing more, wait until what was emitted is answered, close. False when it was closed already.
function Log:close()
  if self.closed then
    return false
  end
  end_use(self)
  core.journal_close(self[1])
  self.events:fire("closed")
  return true
end

Log.__close = Log.close

function Log:__tostring()
  return ("holt.journal ('%s' of %s)"):format(self.name, self.node.name)
end

-- Whether a second call asks for what is open already.
local function is_alike(log, given)
  for name, value in pairs(given) do
    if log.given[name] ~= value then
      return name
    end
  end
end

local function check(name, given, level)
  if type(name) ~= "string" or name == "" or #name > 255 or name:find("[%c/]") then
    error(("node:journal: a name is a string of 1 to 255 bytes without slashes and control characters, got %s"):format(
      type(name) == "string" and ("%q"):format(name) or type(name)), level + 1)
  end
  given = options.check("node:journal", given, RULES, level - 1)
  local problem = given.keep and options.problems(given.keep, KEEP_RULES)
  if problem then
    error("node:journal: option 'keep': " .. problem, level + 1)
  end
  for _, author in ipairs(given.authors or {}) do
    if #author ~= 64 or author:find("%X") then
      error(("node:journal: option 'authors' lists ids of holders (log.id, 64 hexadecimal digits), not %q"):format(author), level + 1)
    end
  end
  return given
end

local function milliseconds(seconds)
  return seconds and math.ceil(seconds * 1000) or nil
end

---Open a journal of a node, or give the one that is open.
---@param node holt.Node
---@param name string
---@param given table|nil
---@param addresses string[] Where others reach the node.
---@param level integer
---@return holt.Log|nil
---@return holt.Error?
function M.open(node, name, given, addresses, level)
  given = check(name, given, level + 1)
  local log = node.journals_open[name]
  if log then
    local other = is_alike(log, given)
    if other then
      error(("node:journal: '%s' is open already, with another option '%s'"):format(name, other), level + 1)
    end
    return log
  end
  local keep = given.keep or {}
  local box, err = core.journal_open(node, {
    name = name,
    authors = given.authors,
    entry_bytes_max = given.max_entry_bytes,
    keep_ms = milliseconds(keep.time),
    keep_entries = keep.entries,
    keep_bytes = keep.bytes,
  })
  if not box then
    return nil, err
  end
  log = setmetatable({
    box,
    name = name,
    node = node,
    id = core.journal_status(box).id,
    handlers = {},
    cursors_used = {},
    closed = false,
    given = {},
    announces = given.announce ~= false,
    redials = given.redial ~= false,
    events = emitter.new("log.events", EVENTS),
  }, Log)
  for key, value in pairs(given) do -- a copy: the script may change its table
    log.given[key] = value
  end
  local ok
  ok, log.codecs, err = pcall(payloads.new, box, name, given)
  if not ok or not log.codecs then
    core.journal_close(box)
    if not ok then
      error("node:journal: " .. tostring(log.codecs):gsub("^[^:]+:%d+: ", ""), level + 1)
    end
    return nil, err
  end
  log.messages = log.codecs.messages
  node.journals_open[name] = log
  peers.redial(log)
  peers.announce(log, addresses)
  core.go(function() -- the script sets its handlers first
    log.events:fire("ready")
  end)
  return log
end

--- What the node tells -----------------------------------------------------------------------------------------------

-- Worth a word, even if nobody listens.
local function say(log, event, err, ...)
  if not log.events:fire(event, ...) and not log.node.events:fire("error", err) then
    core.log("warn", ("%s: journal '%s': %s"):format(log.node.name, log.name, tostring(err)))
  end
end

local tells = {}

function tells.refused(log, told)
  local err = told.err
  err.node = err.node or told.address
  say(log, "refused", err, told.address, err)
end

function tells.forked(log, told)
  local err = errors.new("corrupt",
    ("author %s wrote two entries number %d; both are kept and marked"):format((told.address or ""):sub(1, 16), told.number))
  say(log, "forked", err, told.address, told.number, told.proof)
end

function tells.truncated(log, told)
  log.events:fire("truncated", told.address, told.number)
end

function tells.damaged(log, told)
  local err = errors.new("corrupt", ("the entry at position %d is damaged; linked holders that have it give it back"):format(told.number))
  say(log, "damaged", err, told.number)
end

function tells.mended(log, told)
  reader.wake(log)
  log.events:fire("mended", told.number)
end

function tells.synced(log, told)
  log.events:fire("synced", told.address)
end

function tells.disk_error(log, told)
  say(log, "disk_error", told.err, told.err)
end

---What the node is told of a journal, by kind: tell(node, peer, told).
M.tells = {}
for name, tell in pairs(tells) do
  M.tells[name] = function(node, _, told)
    local log = node.journals_open[told.name]
    if log then
      tell(log, told)
    end
  end
end

---A peer that this node dials is connected.
function M.connected(node, address)
  for _, log in pairs(node.journals_open) do
    peers.remember(log, address)
  end
end

---The script closed a peer.
function M.parted(node, address)
  for _, log in pairs(node.journals_open) do
    peers.forget(log, address)
  end
end

---The node listens somewhere.
function M.listening(node, addresses)
  for _, log in pairs(node.journals_open) do
    peers.announce(log, addresses)
  end
end

---The node is closed for good.
function M.closed(node)
  for _, log in pairs(node.journals_open) do
    end_use(log)
    log.events:fire("closed")
  end
end

return M
