-- Asks the workers about the numbers it was given, all at once, and prints the answers in the order of the questions.
local holt = require("holt")

local node = holt.node { channel = "workers" }

-- Ask again only when it surely did not run. (A prime is a prime, so here we might ask again in any case; a payment is not.)
local function ask(n)
  for _ = 1, 50 do
    local answer, err = node:call("prime", n, { timeout = 5 })
    if answer or err.may_have_run then
      return answer, err
    end
    holt.sleep(0.1) -- no_responder: no worker is linked yet, or the last one has just left
  end
  return nil, "no worker came"
end

local asking = {}
for i, word in ipairs(arg) do
  asking[i] = holt.go(ask, tonumber(word))
end
for i, task in ipairs(asking) do
  local _, answer, err = task:join()
  if not answer then
    print(("%s: %s"):format(arg[i], tostring(err)))
  elseif answer.divisor then
    print(("%s: %d divides it, says %s"):format(arg[i], answer.divisor, answer.worker))
  else
    print(("%s: prime, says %s"):format(arg[i], answer.worker))
  end
end
node:close()
