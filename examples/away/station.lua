-- Emits a reading now and then, numbered from 1. What a reader that is away has not acknowledged is kept for it, here
-- 1,000 readings for a quarter of an hour; what does not fit is told by `dropped` here and by `gap` at the reader.
--
--   holt run examples/away/station.lua --name station --listen :7401
--   holt run examples/away/reader.lua --name reader --connect :7401     stop it, start it again: nothing is missing
local holt = require("holt")

local node = holt.node { channel = "away", buffer_max = 1000, buffer_timeout = 900, ack_interval = 0.2 }
local interval = tonumber(arg[1]) or 1
local number = 0

node.events:on("peer_disconnected", function(peer)
  print(("%s is away; its readings are kept"):format(peer.name))
end)
node.events:on("peer_connected", function(peer)
  print(("%s is here"):format(peer.name))
end)
node.events:on("dropped", function(peer, count, err)
  print(("%d readings for %s were dropped: %s"):format(count, peer.name, err.message))
end)

holt.every(interval, function()
  number = number + 1
  assert(node:emit("reading", number, math.random(150, 250) / 10))
end)
