--- What the verbs of holt journal share: their flags, opening the journal of a folder.
local core = require("holt.core")
local errors = require("holt.errors")
local node = require("holt.node")
local term = require("holt.cli.term")

local M = {}

M.DEFAULT_NAME = "journal"
M.DEFAULT_CURSOR = "holt journal"

local CODECS = { "json", "msgpack", "raw" }

---Flags of every verb.
M.common = {
  { "db", value = "FOLDER", help = "where the journal is kept (in memory)" },
  { "name", value = "NAME", help = "which journal of that folder (" .. M.DEFAULT_NAME .. ")" },
  { "schema", value = "FILE", help = "the .proto file of its messages (the one it was made with)" },
  { "codec", value = "NAME", help = "in place of a schema: json, msgpack or raw", values = CODECS },
}
---The same of verbs that need a folder.
M.kept = { { "db", value = "FOLDER", help = "where the journal is kept" }, table.unpack(M.common, 2) }
---Flags of those that talk to other holders.
M.links = {
  { "listen", value = "ADDRESS", help = "listen at [host:]port; may be repeated", is_repeatable = true },
  { "connect", value = "ADDRESS", help = "dial [host:]port; may be repeated", is_repeatable = true },
  { "advertise", value = "ADDRESS", help = "where others reach this holder, for its EventPeer (where it listens)", is_repeatable = true },
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
  local text = errors.is(err) and (err.message .. (err.hint and ("; " .. err.hint) or ""))
    or tostring(err):gsub("^[^:%s]+:%d+: ", "") -- the place is ours: what is wrong was typed
  term.say("%s", text)
  if errors.is(err) then
    return ({ schema = 5, schema_conflict = 5, timeout = 4, unknown = 6 })[err.code] or 1
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
      local text = why and why.message or "no answer"
      if not text:find("cannot connect", 1, true) then
        text = ("cannot connect to %s: %s"):format(address, text)
      end
      term.say("%s; start the other side first, or give --retry", text)
      core.exit(1)
    end
  end)
  return true
end

-- A bare port is one of this machine.
local function addresses(list)
  for i, address in ipairs(list or {}) do
    list[i] = address:gsub("^%d+$", ":%0")
  end
  return list
end

local function give_up(made, err)
  made:close()
  if err.code == "locked" then
    err.hint = "or look at a copy of the folder that was made while nobody had it open"
  end
  error(err, 0)
end

-- A name that was mistyped would make another, empty journal.
local function check_name(made, folder, name)
  local names, err = core.journal_names(made)
  if not names and err.code ~= "corrupt" then
    give_up(made, err)
  elseif not names or #names == 0 then
    return -- the opening makes a damaged folder anew
  end
  for _, other in ipairs(names) do
    if other == name then
      return
    end
  end
  table.sort(names)
  give_up(made, errors.new("not_found", ("%s holds no journal '%s'; there are: %s"):format(folder, name, table.concat(names, ", ")), {
    hint = "give --name " .. names[1],
  }))
end

local function begin(values, is_old)
  values.connect = addresses(values.connect)
  local made = node.new({
    name = values.node,
    data = values.db,
    listen = addresses(values.listen),
    advertise = values.advertise,
    insecure = values.insecure,
    handler_warning = 0, -- about our own code, which nobody who reads it could change
  })
  if is_old then
    check_name(made, values.db, values.name or M.DEFAULT_NAME)
  end
  local is_live = values.is_live or false
  local log, err = made:journal(values.name or M.DEFAULT_NAME, {
    schema = values.schema,
    codec = values.codec,
    announce = is_live,
    redial = is_live,
  })
  if not log then
    give_up(made, err)
  end
  return log
end

local MISSING = "Missing schema: give the .proto file of its messages%s, or --codec json; --db FOLDER remembers it"

---Open a journal that takes lines of JSON: it must have a schema or a codec. One that would have neither is not begun.
---@param values table
---@param verb holt.Verb
---@return holt.Log|nil
---@return integer|nil exit
function M.typed(values, verb)
  local place = values.is_live and "" or " (--schema)"
  if not values.schema and not values.codec and not (values.db and exists(values.db .. "/journal")) then
    term.say("%s" .. MISSING, values.db and values.db ~= "" and values.db .. " holds no journal yet. " or "", place)
    io.stderr:write("usage: ", verb.usage, "\n")
    return nil, 2
  end
  local log, code = M.open(values)
  if log and not log.codecs.is_typed then
    term.say(MISSING, place)
    io.stderr:write("usage: ", verb.usage, "\n")
    return nil, M.leave(log, 2)
  end
  return log, code
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
  elseif values.db == "" then
    term.say("--db has no name of a folder: it is an empty text")
    return nil, 2
  elseif is_old and not exists(values.db .. "/journal") then
    term.say("%s holds no journal; give the folder that was --db, or a node's `data`", values.db)
    return nil, 1
  end
  local ok, log = pcall(begin, values, is_old)
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

---What a reader gives, one after the other; in the place of an entry that cannot be read nil and its error, which has its
---`position`.
---@param reader holt.Reader
---@return fun(): boolean|nil, holt.Entry|nil, holt.Error|nil
function M.entries(reader)
  return function()
    local ok, entry = pcall(reader)
    if ok then
      return entry and true, entry
    elseif errors.is(entry) and entry.position then
      return true, nil, entry
    end
    error(entry, 0)
  end
end

---What is wrong with an entry, and where it is.
---@param err holt.Error
---@return string
function M.problem_text(err)
  local is_placed = err.message:find("position " .. err.position, 1, true)
  return is_placed and err.message or ("entry at position %d: %s"):format(err.position, err.message)
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

return M
