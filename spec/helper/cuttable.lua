--- A network of Lua streams that can be cut: `net.transport(name)` for each node, `net.cut(left, right)`, `net.heal()`.
local core = require("holt.core")

local End = {}
End.__index = End

function End:read()
  while #self.inbox == 0 do
    if self.is_closed then
      return nil
    end
    self.gate:shut()
    self.gate:wait()
  end
  local bytes = table.concat(self.inbox)
  self.inbox = {}
  return bytes
end

function End:write(bytes)
  if self.is_closed then
    return nil, "the connection is closed"
  end
  table.insert(self.other.inbox, bytes)
  self.other.gate:open()
  return true
end

function End:close()
  for _, side in ipairs({ self, self.other }) do
    side.is_closed = true
    side.gate:open()
  end
end

return function()
  local net, listeners, ends, cuts = {}, {}, {}, {}

  local function new_end(name, far)
    local side = setmetatable({ inbox = {}, gate = core.gate(), name = name, far = far, peer = far }, End)
    ends[side] = true
    return side
  end

  local function is_cut(a, b)
    return cuts[a .. "|" .. b] or cuts[b .. "|" .. a]
  end

  function net.transport(name)
    return {
      listen = function(address, on_stream)
        listeners[address] = { name = name, on_stream = on_stream }
        return {
          address = address,
          close = function()
            listeners[address] = nil
          end,
        }
      end,
      connect = function(address)
        local listener = listeners[address]
        if not listener or is_cut(name, listener.name) then
          return nil, "no way to " .. address
        end
        local near, far = new_end(name, listener.name), new_end(listener.name, name)
        near.other, far.other = far, near
        listener.on_stream(far)
        return near
      end,
    }
  end

  ---No byte passes between those of one list and those of the other.
  function net.cut(left, right)
    for _, a in ipairs(left) do
      for _, b in ipairs(right) do
        cuts[a .. "|" .. b] = true
      end
    end
    for side in pairs(ends) do
      if is_cut(side.name, side.far) then
        side:close()
        ends[side] = nil
      end
    end
  end

  function net.heal()
    cuts = {}
  end

  return net
end
