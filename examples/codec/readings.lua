-- Two nodes in one process: events under "reading.>" travel in our own codec, all others in msgpack.
--
--   holt run examples/codec/readings.lua
package.path = (arg[0]:match("^(.*/)") or "./") .. "?.lua;" .. package.path
local holt = require("holt")
local reading = require("reading")

-- Every node that is to understand the codec names it; `subjects` says what is sent in it.
local codecs, subjects = { reading = reading }, { ["reading.>"] = "reading" }
local a = holt.node { name = "a", transport = "memory", listen = "a", codecs = codecs }
local b = holt.node { name = "b", transport = "memory", connect = "a", codecs = codecs, subjects = subjects }

a:on("reading.*", function(station, value, when)
  print(("station %d: %s at %d"):format(station, value, when))
end)
a:on("note", function(text)
  print("note: " .. text)
end)

while not b:peers()[1]:status().up do -- close, below, waits for linked nodes only
  holt.sleep(0.01)
end
b:emit("reading.roof", 7, 21.375, 1700000000)
b:emit("note", "this one is msgpack")
local ok, err = b:emit("reading.roof", "seven", 21.375, 1700000000)
print(ok or ("refused: " .. err.message))

b:close() -- what was emitted has arrived
a:close()
print(("%d bytes instead of %d"):format(#reading.encode(7, 21.375, 1700000000),
  #holt.codec.msgpack.encode { station = 7, value = 21.375, when = 1700000000 }))
