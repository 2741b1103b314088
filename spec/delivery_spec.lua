local holt = require("holt")
local nodes = require("spec.helper.nodes")
local proxies = require("spec.helper.proxy")

-- Keeps the numbers it handles: how many, in order or not, twice or not.
local RECEIVER = [[
  node = require("holt").node { channel = "spec" }
  handled, wrong, last = 0, 0, 0
  node:on("number", function(n)
    handled = handled + 1
    if n ~= last + 1 then wrong = wrong + 1 end
    last = n
  end)
]]

local SENDER = [[
  local holt = require("holt")
  node = holt.node { channel = "spec", overflow = "wait", backoff_min = 0.002, backoff_max = 0.01, buffer_max = 1000 }
  sent = 0
  function send(count)
    holt.go(function()
      for n = 1, count do
        assert(node:emit("number", n))
        sent = n
      end
    end)
  end
]]

describe("events between two nodes", function()
  nodes.guard(before_each, after_each)

  it("are each handled exactly once and in order while the connection is reset a thousand times", function()
    local count, resets = math.floor(1000000 * nodes.scale), math.floor(1000 * nodes.scale)
    local b = nodes.start { name = "b", script = RECEIVER }
    local proxy = proxies.start { target = b:address(), seed = 7, cuts = resets, bytes_max = 60000 }
    local a = nodes.start { name = "a", script = SENDER, connect = { proxy:address() } }
    a:eval(("send(%d)"):format(count))
    b:wait_for(("handled >= %d"):format(count), 240)
    holt.sleep(0.2) -- nothing may follow
    proxy:stop()
    assert.same({ count, 0, count }, { b:eval("handled, wrong, last") })
    assert.same(resets, proxy.cuts)
  end)

  it("reach a receiver that was killed and started again: none is missing, over both its lives", function()
    local count = 30000
    local b = nodes.start { name = "b", script = [[
      node = require("holt").node { channel = "spec" }
      most = 0
      node:on("number", function(n) most = math.max(most, n) print(n) end) -- printed before it is acknowledged
    ]] }
    local a = nodes.start { name = "a", script = SENDER, connect = { b } }
    a:wait_links(1)
    a:eval(("send(%d)"):format(count))
    b:wait_for("most > 1000")
    b:kill()
    local first_life = #b.lines
    assert.is_true(first_life < count, "the receiver was killed too late")
    b:restart()
    b:wait_for("most == " .. count, 60)
    b:stop()
    local seen, again, distinct = {}, 0, 0
    for _, line in ipairs(b.lines) do
      if seen[line.text] then again = again + 1 else distinct = distinct + 1 end
      seen[line.text] = true
    end
    assert.same(count, distinct)
    assert.is_true(again < count - first_life) -- not everything from the start once more
  end)
end)

describe("an event on a graph with several ways", function()
  nodes.guard(before_each, after_each)

  local COUNTER = [[
    local holt = require("holt")
    node = holt.node { channel = "spec" }
    handled = {}
    node:on("tick", function(n) local o = holt.event().origin handled[o] = handled[o] or {} table.insert(handled[o], n) end)
    function ticks(count) for n = 1, count do assert(node:emit("tick", n)) end end
    function count_of(origin) return #(handled[origin] or {}) end
    function is_ordered(origin) for i, n in ipairs(handled[origin]) do if n ~= i then return false end end return true end
  ]]

  local function start(links)
    local all = {}
    for _, row in ipairs(links) do
      local targets = {}
      for _, target in ipairs(row[2]) do
        targets[#targets + 1] = all[target] or target
      end
      all[row[1]] = nodes.start { name = row[1], script = COUNTER, connect = targets, listen = row[3] }
    end
    return all
  end

  local function check(all, count)
    for _, node in pairs(all) do
      node:eval(("ticks(%d)"):format(count))
    end
    for name, node in pairs(all) do
      for origin in pairs(all) do
        if origin ~= name then
          node:wait_for(("count_of(%q) >= %d"):format(origin, count))
        end
      end
    end
    holt.sleep(0.1) -- a second copy would come now
    for name, node in pairs(all) do
      for origin in pairs(all) do
        local want = origin == name and 0 or count
        assert.same(want, node:eval(("count_of(%q)"):format(origin)), name .. " handled events of " .. origin)
        if want > 0 then
          assert.is_true(node:eval(("is_ordered(%q)"):format(origin)))
        end
      end
    end
  end

  it("is handled once by each node of a diamond", function()
    local all = start { { "d", {} }, { "b", { "d" } }, { "c", { "d" } }, { "a", { "b", "c" } } }
    all.a:wait_links(2)
    all.d:wait_links(2)
    check(all, 200)
  end)

  it("is handled once by each node of a ring", function()
    local port = nodes.free_port()
    local first = "127.0.0.1:" .. port
    local all = start { { "d", { first } }, { "c", { "d" } }, { "b", { "c" } }, { "a", { "b" }, first } }
    for _, node in pairs(all) do
      node:wait_links(2)
    end
    check(all, 200)
  end)
end)
