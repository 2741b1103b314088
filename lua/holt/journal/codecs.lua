--- Codecs of a journal's messages, by name: those of its schema, those registered, those of the journal itself.
-- Pure: it knows nothing of entries. One name has one codec; a second is a mistake unless it says that it replaces.
-- @module holt.journal.codecs
local codec = require("holt.codec")
local errors = require("holt.errors")
local json = require("holt.json")
local options = require("holt.options")
local schemas = require("holt.schema")

local M = {}

---@class holt.MessageCodec
---@field encode fun(message: any): string|nil, holt.Error?
---@field decode fun(bytes: string): any, holt.Error? nil and an error when the bytes are wrong.

---@class holt.JournalCodecs
---@field messages table<string, holt.MessageCodec> By name; pairs() goes over all names in their order.
local Codecs = {}
Codecs.__index = Codecs
Codecs.__name = "holt.journal.codecs"

local REGISTER_RULES = { replace = { "boolean" } }
local CODEC_RULES = { encode = { "function" }, decode = { "function" } }
local NAME_MAX = 255

--- One codec -------------------------------------------------------------------------------------------------------

-- A codec of ours in the shape of this file: one value.
local function single(encode, decode)
  return {
    encode = encode,
    decode = function(bytes)
      local ok, value = decode(bytes)
      if not ok then
        return nil, value
      end
      return value
    end,
  }
end

local BUILT_IN = {
  raw = single(codec.raw.encode, codec.raw.decode),
  msgpack = single(codec.msgpack.encode, codec.msgpack.decode),
  json = {
    encode = json.encode,
    decode = json.decode,
  },
}

local function failed(name, what)
  return errors.fail("codec", ("codec of '%s': %s"):format(name, tostring(what)), { cause = what })
end

-- A codec of the user's: what it raises becomes an error.
local function wrap(name, encode, decode)
  return {
    encode = function(message)
      local ok, bytes, problem = pcall(encode, message)
      if not ok then
        return failed(name, bytes)
      elseif type(bytes) ~= "string" then
        return failed(name, problem or ("encode gave a " .. type(bytes) .. ", not a string"))
      end
      return bytes
    end,
    decode = function(bytes)
      local ok, message, problem = pcall(decode, bytes)
      if not ok then
        return failed(name, message)
      elseif message == nil and problem ~= nil then
        return failed(name, problem)
      end
      return message
    end,
  }
end

-- The codec that `given` means, or nil and what is wrong with it.
local function understand(name, given)
  if type(given) == "string" then
    if BUILT_IN[given] then
      return BUILT_IN[given]
    end
    local near = options.nearest(given, { "raw", "msgpack", "json" })
    return nil, ("'%s' is no codec%s"):format(given, near and (", did you mean '%s'?"):format(near) or "; there are: json, msgpack, raw")
  elseif schemas.is_message(given) then
    return given
  elseif type(given) ~= "table" then
    return nil, ("a codec is a table { encode, decode }, but it is a %s"):format(type(given))
  end
  local functions = { encode = given.encode or given[1], decode = given.decode or given[2] }
  if not functions.encode or not functions.decode then
    return nil, "a codec needs both functions, encode and decode"
  end
  local problem = options.problems(functions, CODEC_RULES)
  if problem then
    return nil, problem
  end
  return wrap(name, functions.encode, functions.decode)
end

--- Registering -----------------------------------------------------------------------------------------------------

-- The pairs of a table or a list of codecs, as a list of { name, codec }.
local function pairs_of(given)
  local list = {}
  if given[1] ~= nil then
    for i, item in ipairs(given) do
      if type(item) ~= "table" then
        return nil, ("item %d of the list must be { name =, codec = }, but it is a %s"):format(i, type(item))
      end
      list[i] = { item.name, item.codec }
    end
    return list
  end
  for name, item in pairs(given) do
    list[#list + 1] = { name, item }
  end
  table.sort(list, function(a, b)
    return tostring(a[1]) < tostring(b[1])
  end)
  return list
end

-- What is wrong with a name, or nil.
function Codecs:name_problem(name, is_replacement)
  if type(name) ~= "string" then
    return ("the name of a message is a string, but it is a %s"):format(type(name))
  elseif name == "" or #name > NAME_MAX then
    return ("the name of a message has 1 to %d bytes, not %d"):format(NAME_MAX, #name)
  elseif self.own[name] ~= nil then
    return ("the message '%s' is the journal's own"):format(name)
  elseif is_replacement then
    return nil
  elseif self.registered[name] then
    return ("the message '%s' has a codec already; { replace = true } swaps it"):format(name)
  elseif self.schema and self.schema:message(name) then
    return ("the message '%s' has the codec of the schema; { replace = true } swaps it"):format(name)
  end
  return nil
end

---Give messages their codecs: `(name, codec, opts)`, `({ Name = codec }, opts)` or `({ { name =, codec = } }, opts)`.
---All of them, or none when one is wrong.
---@return string|nil problem
function Codecs:try_register(first, second, third)
  local list, opts, problem
  if type(first) == "table" then
    list, problem = pairs_of(first)
    opts = second
    if third ~= nil then
      problem = problem or "with a table or a list of codecs, options are the second argument"
    end
  else
    list, opts = { { first, second } }, third
  end
  if problem then
    return problem
  elseif opts ~= nil and type(opts) ~= "table" then
    return ("options are a table, but they are a %s"):format(type(opts))
  end
  problem = options.problems(opts or {}, REGISTER_RULES)
  local replaces = opts ~= nil and opts.replace == true
  local fresh = {}
  for _, item in ipairs(list) do
    local name, given = item[1], item[2]
    problem = problem or self:name_problem(name, replaces)
    if not problem and fresh[name] then
      problem = ("the message '%s' is there twice"):format(name)
    end
    if problem then
      return problem
    end
    fresh[name], problem = understand(name, given)
    if problem then
      return ("message '%s': %s"):format(name, problem)
    end
  end
  for name, item in pairs(fresh) do
    self.registered[name] = item
  end
  return problem
end

---The same; a mistake raises at the caller's line. Calls chain.
---@return holt.JournalCodecs
function Codecs:register(...)
  local problem = self:try_register(...)
  if problem then
    error(("register_codec: %s"):format(problem), 2)
  end
  return self
end

--- Using -----------------------------------------------------------------------------------------------------------

-- With a schema an unknown name is a mistake; without one its payload is what the default codec says.
local function unknown(self, name, err)
  if type(name) ~= "string" or name == "" or #name > NAME_MAX then
    return errors.fail("schema", self:name_problem(name, true) or "not a name")
  elseif self.own[name] ~= nil then
    return errors.fail("schema", ("'%s' is a name of the journal's own, and no message"):format(name))
  elseif self.schema then
    return nil, err
  end
  return self.default
end

---The codec of a message, and its name as it stands in entries; nil and an error when the schema has none of that name.
---@param name string
---@return holt.MessageCodec|nil
---@return string|holt.Error
function Codecs:find(name)
  local found = self.own[name] or self.registered[name]
  if found then
    return found, name
  end
  local message, err
  if self.schema and type(name) == "string" and self.own[name] == nil then
    message, err = self.schema:message(name)
  end
  if message then
    local full = self.schema:message(message.name) == message and message.name or message.full_name
    return self.registered[full] or message, full
  end
  found, err = unknown(self, name, err)
  if not found then
    return nil, err
  end
  return found, name
end

---The bytes of a message, and its name as it stands in entries.
---@param name string
---@param message any
---@return string|nil bytes
---@return string|holt.Error
function Codecs:encode(name, message)
  local found, full = self:find(name)
  if not found then
    return nil, full
  end
  local bytes, err = found.encode(message)
  if not bytes then
    return nil, err
  end
  return bytes, full
end

---The same for a message of the user's: names that are the journal's own are refused.
---@param name string
---@param message any
---@return string|nil bytes
---@return string|holt.Error
function Codecs:encode_users(name, message)
  if self.own[name] ~= nil then
    return errors.fail("schema", ("'%s' is a name of the journal's own; call the message otherwise"):format(name))
  end
  return self:encode(name, message)
end

---A message from its bytes.
---@param name string
---@param bytes string
---@return true|nil ok
---@return any message Or the error.
function Codecs:decode(name, bytes)
  local found, err = self:find(name)
  if not found then
    return nil, err
  end
  local message
  message, err = found.decode(bytes)
  if message == nil and err ~= nil then
    return nil, err
  end
  return true, message
end

---Whether stored bytes are still what their codec says: for a schema that has changed. Stricter than decode, which
---passes over fields that the schema does not know.
---@param name string
---@param bytes string
---@return true|nil ok
---@return holt.Error? err `schema` or `codec`, with the message and the field
function Codecs:check(name, bytes)
  local found, err = self:find(name)
  if not found then
    return nil, err
  elseif found.check then
    return found.check(bytes)
  end
  local ok
  ok, err = self:decode(name, bytes)
  return ok, not ok and err or nil
end

---The names of all messages that have a codec, sorted.
---@return string[]
function Codecs:names()
  local seen, list = {}, {}
  local function note(name)
    if not seen[name] then
      seen[name] = true
      list[#list + 1] = name
    end
  end
  for name, item in pairs(self.own) do
    if item then
      note(name)
    end
  end
  for name in pairs(self.registered) do
    note(name)
  end
  for _, name in ipairs(self.schema and self.schema:names() or {}) do
    note(name)
  end
  table.sort(list)
  return list
end

local Messages = {}

function Messages:__index(name)
  local codecs = rawget(self, Messages)
  if type(name) ~= "string" or not (codecs.own[name] or codecs.registered[name] or codecs.schema) then
    return nil
  end
  local found = codecs:find(name)
  return found or nil
end

function Messages:__pairs()
  local codecs = rawget(self, Messages)
  local names, i = codecs:names(), 0
  return function()
    i = i + 1
    if names[i] then
      return names[i], (codecs:find(names[i]))
    end
  end
end

---@class holt.JournalCodecsOptions
---@field schema? holt.Schema
---@field default? "raw"|"msgpack"|"json"|table For names without a codec where there is no schema: raw.

---The codecs of one journal.
---@param given? holt.JournalCodecsOptions
---@return holt.JournalCodecs|nil
---@return holt.Error? err `schema`: it has a message of a name that is the journal's own.
function M.new(given)
  given = given or {}
  local default, problem = understand("default", given.default or "raw")
  if not default then
    error(("option 'codec': %s"):format(problem), 2)
  end
  local self = setmetatable({
    schema = given.schema,
    default = default,
    registered = {},
    own = { EventPeer = BUILT_IN.msgpack, Event = false }, -- false: no message of this name, now or ever
  }, Codecs)
  for _, name in ipairs(self.schema and self.schema:names() or {}) do
    if self.own[name] ~= nil then
      return errors.fail("schema", ("the schema has a message '%s', a name that is the journal's own; call it otherwise"):format(name))
    end
  end
  self.messages = setmetatable({ [Messages] = self }, Messages)
  return self
end

return M
