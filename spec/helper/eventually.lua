--- Waits for a condition by turning the loop; fails with a sentence when it does not come true in time.
local holt = require("holt")

---@param what string What we wait for, for the failure.
---@param condition fun(): any
---@param timeout? number
return function(what, condition, timeout)
  local deadline = holt.now() + (timeout or 5)
  while true do
    local value = condition()
    if value then
      return value
    end
    if holt.now() > deadline then
      error("waited in vain for: " .. what, 2)
    end
    holt.sleep(0.001)
  end
end
