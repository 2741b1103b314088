-- A writer that is mostly offline: a boat that logs its position all day and meets the harbour in the evening. It writes
-- to its own disk; when it is connected the harbour gets what it lacks, and the boat gets what the others wrote.
--
--   holt run examples/offline/harbour.lua --name harbour --listen :7601 --data data/harbour
--   holt run examples/offline/writer.lua --name boat --data data/boat -- 127.0.0.1:7601 10
local holt = require("holt")

local node = holt.node { channel = "harbour" }
local harbour, count, patience = arg[1], tonumber(arg[2]) or 10, tonumber(arg[3]) or 60
if not harbour then
  io.stderr:write("usage: holt run examples/offline/writer.lua --name BOAT --data FOLDER -- HARBOUR [POSITIONS] [SECONDS]\n")
  return holt.exit(2)
end
local log = assert(node:journal("positions", { codec = "msgpack" }))

for i = 1, count do -- at sea, nobody to be seen
  assert(log:emit("Position", { north = 54.3 + i / 100, east = 10.1 }))
end
print(("%d positions written at sea"):format(count))

assert(node:connect(harbour))
-- Causal order: who has this has all before it.
local ok, err = log:emit("Home", { boat = node.name }, { holders = 1, timeout = patience })
if ok then
  print("the harbour has everything")
elseif err.code == "timeout" then
  print("no harbour to be seen: everything is on the disk here, and comes home with the next trip")
else
  error(err)
end
node:close()
holt.exit(ok and 0 or 1)
