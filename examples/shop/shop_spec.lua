local nodes = require("spec.helper.nodes")

describe("the shop example", function()
  nodes.guard(before_each, after_each)

  it("sells what it has, refills, shows settings everywhere, and goes on without its leader", function()
    local port, shops = nodes.free_port_range(3), {}
    for i = 1, 3 do
      local connect = {}
      for j = 1, i - 1 do
        connect[j] = "127.0.0.1:" .. port + j - 1
      end
      shops[i] = nodes.start {
        name = "s" .. i, file = "examples/shop/shop.lua", listen = "127.0.0.1:" .. port + i - 1, connect = connect,
      }
    end
    local leader = nodes.until_true(function()
      for i, shop in ipairs(shops) do
        if shop:output():find("s" .. i .. " refills the shelves", 1, true) then
          return i
        end
      end
    end)
    nodes.until_true(function() -- what it has in stock at first
      return shops[1]:eval("local ok, sold = order('ada', 'pear') return sold")
    end)
    for _, shop in ipairs(shops) do
      shop:wait_output("s[123] shipped pear to ada")
    end
    nodes.until_true(function() -- it was the last one: refilled by the leader
      return shops[2]:eval("local ok, sold = order('bob', 'pear') return sold")
    end)
    shops[leader]:wait_output("refilled pear")
    local rest = { shops[leader % 3 + 1], shops[(leader + 1) % 3 + 1] }
    shops[leader]:kill()
    nodes.until_true(function()
      return rest[1]:eval("local ok, sold = order('cyd', 'apple') return ok and sold", 20)
    end)
    rest[2]:wait_output("shipped apple to cyd")
    nodes.until_true(function()
      return (rest[1]:output() .. rest[2]:output()):find("refills the shelves", 1, true)
    end)
  end)
end)
