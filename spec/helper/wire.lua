--- A transport in Lua between nodes of one state: streams in memory, made of gates, that a spec can cut, mute and hold.
local core = require("holt.core")
local holt = require("holt")

---Make one. Fields of `world` tell of it and steer it: streams, listeners, written; hold (a gate that writes wait for),
---is_mute (bytes vanish), is_cut (connects fail), connect, listen_problem, write_problem.
---@param world table
return function(world)
  world.listeners, world.streams, world.written = {}, {}, 0
  local function end_of(name)
    local stream = { peer = name, inbox = {}, gate = core.gate(), closed = 0 }
    function stream:read()
      while #self.inbox == 0 and not self.is_over do
        self.gate:shut()
        self.gate:wait()
      end
      if #self.inbox > 0 then
        return table.remove(self.inbox, 1)
      end
      return nil, self.problem
    end
    function stream:write(bytes)
      if world.hold then
        world.holding = (world.holding or 0) + #bytes
        world.hold:wait()
      end
      if world.write_problem then
        error(world.write_problem, 0)
      end
      world.written = world.written + #bytes
      if world.is_mute then
        return true
      end
      table.insert(self.other.inbox, bytes)
      self.other.gate:open()
      return true
    end
    function stream:over(problem)
      self.is_over, self.problem = true, problem
      self.gate:open()
    end
    function stream:close()
      self.closed = self.closed + 1
      self:over()
      self.other:over()
    end
    world.streams[#world.streams + 1] = stream
    return stream
  end
  function world.cut() -- every stream breaks, until heal
    world.is_cut = true
    for _, stream in ipairs(world.streams) do
      stream:over(holt.errors.new("connection_reset", "the wire was cut"))
    end
  end
  function world.heal()
    world.is_cut = false
  end
  return {
    listen = function(address, on_stream)
      if world.listen_problem then
        return nil, world.listen_problem
      end
      world.listeners[address] = on_stream
      return {
        close = function()
          world.listeners[address] = nil
        end,
      }
    end,
    connect = function(address)
      if world.connect then
        local stream, err = world.connect(address)
        if stream == nil then
          return nil, err
        end
      end
      local on_stream = world.listeners[address]
      if world.is_cut or not on_stream then
        return nil, holt.errors.new("connection_refused", "nobody is at " .. address)
      end
      local here, there = end_of("here"), end_of("there")
      here.other, there.other = there, here
      holt.sleep(0)
      on_stream(there)
      return here
    end,
  }
end
