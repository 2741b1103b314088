--- What the verbs of holt journal share: their flags, opening the journal of a folder, entries as lines of JSON.
local core = require("holt.core")
local errors = require("holt.errors")
local json = require("holt.json")
local node = require("holt.node")
local term = require("holt.cli.term")

local M = {}

M.DEFAULT_NAME = "journal"
M.DEFAULT_CURSOR = "holt journal"

local CODECS = { "protobuf", "json", "msgpack", "raw" }

---Flags of every verb.
M.common = {
  { "db", value = "FOLDER", help = "where the journal is kept (in memory)" },
  { "name", value = "NAME", help = "which journal of that folder (" .. M.DEFAULT_NAME .. ")" },
  { "schema", value = "FILE", help = "the .proto file of its messages (the one it was made with)" },
  { "codec", value = "NAME", help = "without a schema: json, msgpack or raw", values = CODECS },
}
---Flags of those that talk to other holders.
M.links = {
  { "listen", value = "ADDRESS", help = "listen at host:port or :port; may be repeated", is_repeatable = true },
  { "connect", value = "ADDRESS", help = "dial host:port or :port; may be repeated", is_repeatable = true },
  { "node", value = "NAME", help = "the name of this holder (a random one)" },
  { "retry", help = "go on dialling an address that cannot be reached at first" },
  { "insecure", help = "may listen outside this machine without encryption" },
}

---Several lists of flags as one.
function M.flags(...)
  local all = {}
  for _, list in ipairs({ ... }) do
    table.move(list, 1, #list, #all + 1, all)
  end
  return all
end

---A complaint, and the exit code of this error.
---@param err any
---@return integer
function M.fail(err)
  term.say("%s", errors.is(err) and (err.message .. (err.hint and ("; " .. err.hint) or "")) or tostring(err))
  if errors.is(err) then
    return ({ schema = 5, timeout = 4, unknown = 6 })[err.code] or 1
  end
  return 1
end

local function exists(path)
  local file = io.open(path)
  if file then
    file:close()
  end
  return file ~= nil
end

-- Dial, and end with a complaint if the first attempt fails: a name mistyped shall not wait for ever.
local function dial(made, address, values)
  local peer, err = made:connect(address)
  if not peer then
    return nil, err
  end
  local is_up = false
  peer:on("initialized", function()
    is_up = true
    term.say("connected to %s", address)
  end)
  peer:on("backoff", function(_, _, why)
    if not is_up and not values.retry then
      term.say("cannot connect to %s: %s; start the other side first, or give --retry", address, why and why.message or "no answer")
      core.exit(1)
    end
  end)
  return true
end

local function begin(values)
  local made = node.new({ name = values.node, data = values.db, listen = values.listen, insecure = values.insecure })
  local is_live = values.is_live or false
  local log, err = made:journal(values.name or M.DEFAULT_NAME, {
    schema = values.schema,
    codec = values.codec,
    announce = is_live,
    redial = is_live,
  })
  if not log then
    made:close()
    error(err, 0)
  end
  return log
end

---Open the node and the journal that the flags name. With `is_old` the journal must exist. `hints`: what to do about an error,
---by code.
---@param values table
---@param is_old boolean|nil
---@param hints table<string, string>|nil
---@return holt.Log|nil
---@return integer|nil exit The code, when it cannot be; said already.
function M.open(values, is_old, hints)
  if is_old and not values.db then
    term.say("which journal? Give --db FOLDER")
    return nil, 2
  elseif is_old and not exists(values.db .. "/journal") then
    term.say("%s holds no journal; give the folder that was --db, or a node's `data`", values.db)
    return nil, 1
  end
  local ok, log = pcall(begin, values)
  if not ok then
    if hints and errors.is(log) then
      log.hint = hints[log.code] or log.hint
    end
    return nil, M.fail(log)
  end
  for _, address in ipairs(log.node:status().listen) do
    term.say("listening on %s", address)
  end
  return log
end

---Dial the addresses of the flags. Handlers and readers stand by now, so that nothing that comes is missed.
---@param log holt.Log
---@param values table
---@return integer|nil exit
function M.connect(log, values)
  for _, address in ipairs(values.connect or {}) do
    local ok, err = dial(log.node, address, values)
    if not ok then
      return M.fail(err)
    end
  end
end

---Close everything and end the process.
---@param log holt.Log
---@param code integer
function M.leave(log, code)
  log:close()
  log.node:close()
  return code
end

---A line of JSON for an entry: { name, payload }, and the rest with `has_meta`.
---@param entry holt.Entry
---@param has_meta boolean|nil
---@return string|nil
---@return holt.Error?
function M.line(entry, has_meta)
  local payload = entry.payload
  if type(payload) == "string" and not utf8.len(payload) then
    payload = { ["$hex"] = payload:gsub(".", function(c)
      return ("%02x"):format(c:byte())
    end) }
  end
  local name, name_err = json.encode(entry.name)
  local body, err = json.encode(payload)
  if not name or not body then
    return nil, name_err or err
  end
  local line = ('{"name":%s,"payload":%s'):format(name, body)
  if has_meta then
    line = ('%s,"hash":"%s","author":"%s","sequence":%d,"holder":"%s","node":%s,"time":%.3f,"position":%d'):format(line, entry.hash,
      entry.author, entry.sequence, entry.holder, json.encode(entry.node), entry.time, entry.position)
  end
  return line .. "}"
end

---The message of a line: name and payload; nil and what is wrong with it.
---@param line string
---@return string|nil name
---@return any payload
function M.parse(line)
  local value, err = json.decode(line)
  if value == nil then
    return nil, errors.new("codec", "not a line of JSON: " .. err.message)
  elseif type(value) ~= "table" or type(value.name) ~= "string" then
    return nil, errors.new("codec", 'expected {"name": "...", "payload": ...}')
  end
  local payload = value.payload
  if type(payload) == "table" and type(payload["$hex"]) == "string" and next(payload, next(payload)) == nil then
    payload = payload["$hex"]:gsub("%x%x", function(digits)
      return string.char(tonumber(digits, 16))
    end)
  end
  if payload == nil then
    payload = {}
  end
  return value.name, payload
end

return M
