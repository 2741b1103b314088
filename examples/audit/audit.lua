-- An audit trail: who did what, in a journal that shows when somebody changed it afterwards. Each entry is named by the hash
-- of its content and of what came before it, and signed: to change one, one would have to change every later one, at
-- every holder.
--
--   holt run examples/audit/audit.lua --data data/audit -- record alice "opened the safe"
--   holt run examples/audit/audit.lua --data data/audit -- check
--   holt run examples/audit/audit.lua --data data/audit -- check HASH    (one that an earlier check printed: is it still there?)
local holt = require("holt")

-- Each run that writes begins with an entry of its own, which says whose it is: "2 entries" after the first.
local node = holt.node {}
local verb, who, what = ...
local is_hash = who and #who == 64 and not who:find("%X")
if not (verb == "record" and who and what or verb == "check" and (is_hash or not who)) then
  io.stderr:write('usage: holt run examples/audit/audit.lua --data FOLDER -- record WHO "WHAT" | check [HASH]\n')
  return holt.exit(2)
end
local log = assert(node:journal("audit", { codec = "json" }))

local code = 0
if verb == "record" then
  print(assert(log:emit("Done", { who = who, what = what })))
else
  local ok, result = log:verify()
  local expected = who
  if ok and expected and not log:get(expected) then -- sound in itself, but an older copy, or another journal
    code = 1
    print(("MISSING: no entry has the hash %s"):format(expected))
  elseif ok then
    print(("%d entries, all as they were written; the newest is"):format(result))
    for _, head in ipairs(log:heads()) do
      print(head.hash) -- keep this elsewhere: it stands for all that came before
    end
  else
    code = 1
    print(("TAMPERED WITH: %s"):format(result.message))
  end
end
node:close()
holt.exit(code)
