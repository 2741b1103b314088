-- A writer that is mostly offline: a boat that logs its position all day and meets the harbour in the evening. It writes
-- to its own disk; when it is connected the harbour gets what it lacks, and the boat gets what the others wrote.
--
--   holt run examples/offline/harbour.lua --name harbour --listen :7601 --data data/harbour
--   holt run examples/offline/writer.lua --name boat --data data/boat -- 127.0.0.1:7601 10
local holt = require("holt")

local node = holt.node { channel = "harbour" }
local log = assert(node:journal("positions", { codec = "msgpack" }))
local harbour, count = arg[1], tonumber(arg[2]) or 10

for i = 1, count do -- at sea, nobody to be seen
  assert(log:emit("Position", { north = 54.3 + i / 100, east = 10.1 }))
end
print(("%d positions written at sea"):format(count))

assert(node:connect(harbour))
assert(log:emit("Home", { boat = node.name }, { holders = 1, timeout = 60 })) -- causal order: who has this has all before it
print("the harbour has everything")
node:close()
