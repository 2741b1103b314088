-- One of a ring of sensors. Each emits what it measures under a subject of its own and listens by wildcard:
-- `sensor.*.temperature` is the temperature of every sensor, `sensor.north.>` whatever the one in the north tells.
--
--   holt up examples/sensors/topology.lua
local holt = require("holt")

local node = holt.node { channel = "sensors" }
local interval = tonumber(arg[1]) or 1
latest = {} -- a global, so that the control socket sees it: name -> last temperature

node:on("sensor.*.temperature", function(value)
  latest[holt.event().origin] = value
end)

node:on("sensor.north.>", function(value)
  local event = holt.event()
  print(("north says %s = %s (%d links away)"):format(event.subject:match("[^.]+$"), value, event.hops))
end)

node.events:on("gap", function(origin, missed)
  holt.log.warn("%d readings of %s were lost", missed, origin)
end)

holt.every(interval, function()
  node:emit(("sensor.%s.temperature"):format(node.name), math.random(150, 250) / 10)
  node:emit(("sensor.%s.humidity"):format(node.name), math.random(30, 70))
end)
