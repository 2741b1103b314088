-- A chat between any number of nodes: each line of standard input goes to everybody.
--
--   holt run examples/chat/chat.lua --name ada  --listen :7101
--   holt run examples/chat/chat.lua --name bob  --connect :7101
--
-- It is a program for pipes too: `-- --json` reads and writes one JSON object a line, { "from": …, "text": … }.
local holt = require("holt")
local core = require("holt.core")

local as_json = arg[1] == "--json"
local node = holt.node { channel = "chat", overflow = "wait" }

local function show(from, text)
  if as_json then
    print(holt.json.encode { from = from, text = text })
  else
    print(from .. ": " .. text)
  end
end

node:on("chat.said", function(text)
  show(holt.event().origin, text)
end)
node.events:on("peer_connected", function(peer)
  holt.log.info("%s is here", peer.name)
end)

local input = assert(core.stdio(0))
while true do
  local line = input:read_line()
  if not line then
    break
  end
  local text = line
  if as_json then
    local message = holt.json.decode(line)
    text = type(message) == "table" and message.text
  end
  if text and text ~= "" then
    assert(node:emit("chat.said", text))
  end
end
input:close()
node:close() -- everything said has arrived
