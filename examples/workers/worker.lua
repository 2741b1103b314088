-- A worker: answers "is this a prime?", two questions at a time; what comes beyond that waits its turn.
--
--   holt run examples/workers/worker.lua --name w1 --listen :7301
--   holt run examples/workers/worker.lua --name w2 --connect :7301
--   holt run examples/workers/ask.lua --connect :7301 -- 97 98 99 100 101
local holt = require("holt")

local node = holt.node { channel = "workers" }

local function smallest_divisor(n)
  for divisor = 2, math.floor(math.sqrt(n)) do
    if n % divisor == 0 then
      return divisor
    end
    if divisor % 1000 == 0 then
      holt.sleep(0) -- a long search lets others in
    end
  end
  return nil
end

node:serve("prime", function(n)
  if math.type(n) ~= "integer" or n < 2 then
    error(("%s is not a number to ask about; 2 is the smallest"):format(tostring(n)), 0) -- the asker gets remote_error
  end
  print(("%s asks about %d"):format(holt.event().origin, n))
  return { divisor = smallest_divisor(n), worker = node.name }
end, { concurrency = 2 })
