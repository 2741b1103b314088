-- A codec of one's own: a reading of a sensor in 14 bytes, however long its digits.
--
-- `encode` takes the arguments of emit and gives bytes; `decode` takes bytes and gives the arguments of handlers. Either
-- raises when it cannot do its work: emit then answers nil and that error, and at a receiver it is an `error` event.
local FORMAT = "<I2 d I4" -- station, value, when: 14 bytes, little-endian, the same on every machine

local M = {}

function M.encode(station, value, when)
  return string.pack(FORMAT, station, value, when)
end

function M.decode(bytes)
  if #bytes ~= string.packsize(FORMAT) then
    error(("a reading has %d bytes, not %d"):format(string.packsize(FORMAT), #bytes), 0)
  end
  local station, value, when = string.unpack(FORMAT, bytes)
  return station, value, when
end

return M
