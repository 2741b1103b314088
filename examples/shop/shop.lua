-- A shop run by three nodes. Stock is a map, orders are a queue, settings a record; who has shipped what is told by an
-- emitter. Any node takes orders and ships them; the one that leads refills the shelves. Kill one: the others go on.
--
--   holt up examples/shop/topology.lua
local holt = require("holt")

local node = holt.node { channel = "shop", cluster = { name = "shop", members = 3 } }

local settings = node:record("settings", { initial = { refill = 3, every = 1 } })
local stock = node:map("stock", { initial = { apple = 2, pear = 1 } })
local orders = node:queue("orders")
local shipping = node:emitter("shipping")

---Take an order if there is enough: stock and queue change at one moment, or not at all.
function order(customer, sku) -- luacheck: ignore 111
  return node:txn(function(t)
    local count = t:get(stock, sku) or 0
    if count == 0 then
      return false, "sold out"
    end
    t:set(stock, sku, count - 1)
    t:push(orders, { customer = customer, sku = sku })
    return true, count - 1
  end)
end

settings:on("update", function(name, old, new)
  print(("%s is %s now, it was %s"):format(name, new, old))
end)

assert(node:ready(60))
assert(shipping:subscribe("shipped", function(by, sku, customer)
  print(("%s shipped %s to %s"):format(by, sku, customer))
end))

node:on_leader(function()
  print(node.name .. " refills the shelves from now on")
  while true do
    holt.sleep(settings:get("every") or 1)
    for sku, count in stock:pairs() do
      if count == 0 and stock:update_if(sku, settings:get("refill"), 0) then
        print("refilled " .. sku)
      end
    end
  end
end)

-- What one node takes from the queue no other does.
while node:is_open() do
  local job, err = orders:pop { wait = 10 }
  if job then
    shipping:publish("shipped", node.name, job.sku, job.customer)
  elseif err then
    print("cannot look for orders: " .. tostring(err))
    holt.sleep(0.5)
  end
end
