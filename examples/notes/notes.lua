-- Two journals that keep each other up to date: whatever is written at one is at both, also what was written while they
-- could not see each other.
--
--   holt run examples/notes/notes.lua --name ada --listen :7501 --data data/ada
--   holt run examples/notes/notes.lua --name bob --connect :7501 --data data/bob
--
-- Each writes a note now and then. Stop one, let the other go on, start it again: it gets what it missed, and needs no
-- --connect any more, as it knows the other from before.
local holt = require("holt")

local node = holt.node { channel = "notes" }
local log = assert(node:journal("notes", {
  schema = [[
    syntax = "proto3";
    message Note { string text = 1; int32 number = 2; }
  ]],
}))

log:on("Note", function(note, entry)
  print(("%s: %s"):format(entry.node, note.text))
end)
log.events:on("synced", function(name)
  print(("we have all that %s had"):format(name))
end)

local interval = tonumber(arg[1]) or 2
local number = 0
for entry in log:read { filter = "Note" } do -- what we wrote in earlier runs
  if entry.holder == log.id then
    number = math.max(number, entry.payload.number)
  end
end

holt.every(interval, function()
  number = number + 1
  assert(log:emit("Note", { text = ("note %d of %s"):format(number, node.name), number = number }))
end)
