local core = require("holt.core")
local eventually = require("spec.helper.eventually")
local holt = require("holt")

describe("a peer whose handler never ends", function()
  it("is told to the emitter as stalled, by name, while all others get the event", function()
    local hub = holt.node({ name = "hub", transport = "memory", listen = "stalled-hub" })
    local stuck = holt.node({ name = "stuck", transport = "memory", connect = "stalled-hub" })
    local live = holt.node({ name = "live", transport = "memory", connect = "stalled-hub" })
    local gate, got, gaps = core.gate(), {}, 0
    stuck:on("n", function()
      gate:wait()
    end)
    stuck.events:on("gap", function(_, missed)
      gaps = gaps + missed
    end)
    live:on("n", function(i)
      got[#got + 1] = i
    end)
    eventually("both links", function()
      return #hub:peers() == 2 and hub:peers()[1]:status().up and hub:peers()[2]:status().up
    end)
    local payload, outcomes, stalled = ("x"):rep(1024 * 1024), {}, nil
    for i = 1, 12 do -- the window of a present peer is 4 MiB
      local ok, err = hub:emit("n", i, payload)
      outcomes[i] = ok or err.code
      stalled = stalled or err
    end
    assert.equal("stalled", stalled.code)
    assert.equal("stuck", stalled.node)
    assert.matches("stuck", stalled.message)
    assert.equal(true, outcomes[1])
    assert.equal("stalled", outcomes[12])
    eventually("all events at the live one", function()
      return #got == 12
    end)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, got)
    gate:open()
    local missed = 0
    for _, outcome in ipairs(outcomes) do
      missed = missed + (outcome == "stalled" and 1 or 0)
    end
    eventually("credit", function()
      return hub:emit("n", 13, "small")
    end)
    eventually("the gap of what was dropped", function()
      return gaps == missed
    end, 10)
    for _, node in ipairs({ stuck, live, hub }) do
      node:close()
    end
  end)
end)
