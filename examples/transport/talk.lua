-- Two nodes over a transport of one's own (veiled.lua), in one process:
--
--   holt run examples/transport/talk.lua
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local holt = require("holt")
local veiled = require("veiled")

local a = holt.node { name = "a", transport = veiled, listen = "127.0.0.1:0" }
local b = holt.node { name = "b", transport = veiled, connect = a:status().listen[1] }

a:serve("upper", string.upper)
b.events:on("peer_connected", function(peer)
  print("b is linked with " .. peer.name)
end)

repeat
  local answer = b:call("upper", "veiled, and understood")
  holt.sleep(0.01)
  if answer then
    print(answer)
  end
until answer
b:close()
a:close()
print(("%d bytes came through the veil"):format(veiled.received))
