--- Transports written in Lua: a table { listen, connect } whose streams are tables { read, write, close }.
-- Every function but `listen` may wait. The C side queues what the links want; the tasks here carry it out.
-- @module holt.transport
local core = require("holt.core")

local M = {}

-- How long a stream that is closed may go on writing what it still has.
local LINGER = 5

---@class holt.TransportStream
---@field read fun(self: holt.TransportStream): string|nil, any Waits for bytes; nil at the end, nil and an error when it broke.
---@field write fun(self: holt.TransportStream, bytes: string): any, any Waits until it can take more; nil and an error when it broke.
---@field close fun(self: holt.TransportStream) Its read and write must come back then.
---@field peer? string Where the other end is, for people.

---@class holt.Transport
---@field listen fun(address: string, on_stream: fun(stream: holt.TransportStream)): { close: function, address?: string }|nil, any
---@field connect fun(address: string): holt.TransportStream|nil, any

-- What went wrong as a word and a sentence.
local function words(err, otherwise)
  if type(err) == "table" and err.message then
    return err.code, tostring(err.message)
  end
  return nil, err ~= nil and tostring(err) or otherwise
end

local function raised(what, err)
  local _, message = words(err)
  return "script_error", ("%s raised: %s"):format(what, message)
end

local function problem_of_stream(stream)
  for _, name in ipairs({ "read", "write", "close" }) do
    local kind = type(stream)
    if (kind ~= "table" and kind ~= "userdata") or type(stream[name]) ~= "function" then
      return ("a stream needs the functions read, write and close; this %s has no %s"):format(kind, name)
    end
  end
  return nil
end

local function write_all(box, stream)
  for bytes in core.transport_take, box do
    local ok, err = stream:write(bytes)
    if ok == nil and err ~= nil then
      return words(err)
    end
  end
end

local function read_all(box, stream)
  local wants_more = true
  while wants_more do
    local bytes, err = stream:read()
    if type(bytes) ~= "string" then
      if bytes == nil and (err == nil or (type(err) == "table" and err.code == "end_of_stream")) then
        return core.transport_end(box)
      end
      return words(err, ("read gave a %s, not a string"):format(type(bytes)))
    end
    wants_more = core.transport_data(box, bytes)
  end
end

-- Run one direction of a stream; what goes wrong ends the connection, in words.
local function run(direction, name, box, stream)
  return core.go_quiet(function()
    local ok, code, message = pcall(direction, box, stream)
    if not ok then
      code, message = raised("the transport's " .. name, code)
    end
    if message then
      core.transport_end(box, code, message)
    end
  end)
end

-- Carry bytes between the links and the script's stream until the links let go.
local function attach(box, stream)
  local writer = run(write_all, "write", box, stream)
  local reader = run(read_all, "read", box, stream)
  core.go(function()
    local is_abort = core.transport_closed(box)
    if not is_abort then
      writer:join(LINGER)
    end
    writer:cancel()
    local ok, err = pcall(stream.close, stream)
    reader:cancel()
    if not ok then
      error(err, 0)
    end
  end)
end

local function accept(listener, stream)
  local problem = problem_of_stream(stream)
  if problem then
    error("on_stream: " .. problem, 3)
  end
  local box = core.transport_accept(listener, type(stream) == "table" and stream.peer or nil)
  if box then
    attach(box, stream)
  else
    core.go(stream.close, stream)
  end
end

local function listen(impl, listener, address)
  local ok, handle, err = pcall(impl.listen, address, function(stream)
    accept(listener, stream)
  end)
  if not ok then
    return nil, raised("the transport's listen", handle)
  elseif not handle then
    return nil, words(err, "the transport's listen gave nothing")
  elseif type(handle) ~= "table" or type(handle.close) ~= "function" then
    return nil, nil, "the transport's listen must give a table with a function close"
  end
  core.go(function()
    core.transport_closed(listener)
    handle:close()
  end)
  return type(handle.address) == "string" and handle.address or address
end

local function dial(impl, box, address)
  local ok, stream, err = pcall(impl.connect, address)
  if not ok then
    return core.transport_dial_failed(box, raised("the transport's connect", stream))
  elseif not stream then
    return core.transport_dial_failed(box, words(err, "the transport's connect gave nothing"))
  end
  local problem = problem_of_stream(stream)
  if problem then
    return core.transport_dial_failed(box, nil, problem)
  end
  local taken = core.transport_dialled(box)
  if taken then
    attach(taken, stream)
  else
    stream:close()
  end
end

---What is wrong with a table given as `transport`, or nil.
---@param impl table
---@return string|nil
function M.problem(impl)
  for _, name in ipairs({ "listen", "connect" }) do
    if type(impl[name]) ~= "function" then
      return ("option 'transport' needs the functions listen and connect; it has no %s"):format(name)
    end
  end
  return nil
end

---The runtime's side of a transport; for core.node_new.
---@param impl holt.Transport
---@return userdata
function M.new(impl)
  local transport = core.transport_new(function(listener, address)
    return listen(impl, listener, address)
  end)
  core.go(function()
    for box, address in core.transport_next_dial, transport do
      local dialling = core.go(dial, impl, box, address)
      core.go(function()
        core.transport_closed(box) -- answered, or given up
        dialling:cancel()
      end)
    end
  end)
  return transport
end

return M
