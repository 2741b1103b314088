-- Prints what the station measures. It may be stopped, killed and started again under the same name: what was emitted
-- meanwhile comes then, in order, as far as the station's buffer went. A killed reader may see its last readings twice
-- (it did not live to acknowledge them), so it looks at the number.
local holt = require("holt")

local node = holt.node { channel = "away", ack_interval = 0.1 }
local last = 0

node:on("reading", function(number, value)
  if number <= last then
    return -- seen already
  end
  last = number
  print(("reading %d: %.1f (%s)"):format(number, value, holt.event().age > 0.5 and "kept for us" or "fresh"))
end)

node.events:on("gap", function(origin, missed)
  print(("%d readings of %s are lost"):format(missed, origin))
end)
