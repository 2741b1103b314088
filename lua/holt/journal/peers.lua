--- Who is told of a journal's holder, and whom it dials: the entry `EventPeer` at listening, and the peers known from before.
-- @module holt.journal.peers
local core = require("holt.core")

local M = {}

local KNOWN_MAX = 64
local ALL_INTERFACES = { ["0.0.0.0"] = true, ["::"] = true, ["*"] = true, [""] = true }

--- Announcing ----------------------------------------------------------------------------------------------------------

local function split(addresses)
  local list = {}
  for _, address in ipairs(addresses) do
    local ip, port = address:match("^%[?(.-)%]?:(%d+)$")
    if ip and not ALL_INTERFACES[ip] then -- which is no place that others could dial
      list[#list + 1] = { ip = ip, port = math.tointeger(port) }
    end
  end
  table.sort(list, function(a, b)
    if a.ip ~= b.ip then
      return a.ip < b.ip
    end
    return a.port < b.port
  end)
  return list
end

local function announce(log)
  while log.announcement and not log.closed do
    local bytes = log.announcement
    if core.journal_note(log[1], "announced") ~= bytes then
      local hash, err = core.journal_emit(log[1], "EventPeer", bytes)
      if not hash then
        return err
      end
      core.journal_set_note(log[1], "announced", bytes)
    end
    if log.announcement == bytes then
      log.announcement = nil
    end
  end
end

---This node is reached at these addresses: an entry says so, if the one written last says otherwise.
---@param log holt.Log
---@param addresses string[]
function M.announce(log, addresses)
  local list = split(addresses)
  if #list == 0 or not log.announces then
    return
  end
  local bytes = log.codecs:encode("EventPeer", { id = log.id, addresses = list })
  if not bytes or core.journal_note(log[1], "announced") == bytes then
    return
  end
  local is_running = log.announcement ~= nil
  log.announcement = bytes
  if not is_running then
    core.go(function()
      local err = announce(log)
      log.announcement = nil
      if err and err.code ~= "closed" then
        require("holt.journal.handlers").report(log, err)
      end
    end)
  end
end

--- Known peers ---------------------------------------------------------------------------------------------------------

---The addresses that were connected once, oldest first.
---@param log holt.Log
---@return string[]
function M.known(log)
  local list = {}
  for address in (core.journal_note(log[1], "peers") or ""):gmatch("[^\n]+") do
    list[#list + 1] = address
  end
  return list
end

local function store(log, list)
  core.journal_set_note(log[1], "peers", table.concat(list, "\n"))
end

---A connection to this address stands: it is dialled at the next start, too. At most the 64 newest are kept.
---@param log holt.Log
---@param address string
function M.remember(log, address)
  if address == "" or not log.redials then
    return
  end
  local list = M.known(log)
  for _, known in ipairs(list) do
    if known == address then
      return
    end
  end
  if #list >= KNOWN_MAX then
    table.remove(list, 1)
  end
  list[#list + 1] = address
  store(log, list)
end

---The script closed this peer: it is not dialled again.
---@param log holt.Log
---@param address string
function M.forget(log, address)
  local kept, list = {}, M.known(log)
  for _, known in ipairs(list) do
    if known ~= address then
      kept[#kept + 1] = known
    end
  end
  if #kept < #list then
    store(log, kept)
  end
end

---Dial who is known from before.
---@param log holt.Log
function M.redial(log)
  if not log.redials then
    return
  end
  for _, address in ipairs(M.known(log)) do
    log.node:connect(address) -- the same address gives the same peer; one that is none any more is let be
  end
end

return M
