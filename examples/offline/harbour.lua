-- The harbour: gathers what boats bring home. A boat's entries come in the order in which it wrote them, each boat's once, however
-- often the connection breaks meanwhile. The cursor remembers what was dealt with. writer.lua says how to run it.
local holt = require("holt")

local node = holt.node { channel = "harbour" }
local log = assert(node:journal("positions", { codec = "msgpack" }))
local positions = {}

log:on("Position", function(_, entry)
  positions[entry.node] = (positions[entry.node] or 0) + 1
end, { cursor = "positions" })
log:on("Home", function(home, entry)
  while (log:cursor("positions") or 0) < entry.position do -- the other handler is still at what came before
    holt.sleep(0.01)
  end
  print(("%s is home with %d positions"):format(home.boat, positions[home.boat] or 0))
end, { cursor = "homes" })
