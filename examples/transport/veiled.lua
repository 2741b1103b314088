-- A transport of one's own: TCP underneath, each byte veiled, all bytes counted.
--
-- A transport is a table with `listen` and `connect`; their streams are tables with `read`, `write` and `close`.
-- Everything but `listen` may wait. (A veil is not encryption: it keeps nobody out.)
local core = require("holt.core")
local holt = require("holt")

local KEY = 0x5a
local veil_of = {}
for byte = 0, 255 do
  veil_of[string.char(byte)] = string.char(byte ~ KEY)
end

local M = { sent = 0, received = 0 }

local function veiled(socket)
  local stream = { peer = "veiled " .. socket:peer() }

  function stream:read()
    local bytes, err = socket:read()
    if not bytes then
      return nil, err -- end_of_stream is the end; anything else becomes the error of the connection
    end
    M.received = M.received + #bytes
    return (bytes:gsub(".", veil_of))
  end

  function stream:write(bytes)
    M.sent = M.sent + #bytes
    return socket:write((bytes:gsub(".", veil_of)))
  end

  function stream:close()
    socket:close()
  end

  return stream
end

function M.listen(address, on_stream)
  local listener, err = core.listen(address)
  if not listener then
    return nil, err
  end
  holt.go(function()
    local socket = listener:accept()
    while socket do
      on_stream(veiled(socket))
      socket = listener:accept()
    end
  end)
  return {
    address = listener:address(), -- with the real port
    close = function()
      listener:close()
    end,
  }
end

function M.connect(address)
  local socket, err = core.connect(address)
  return socket and veiled(socket), err
end

return M
