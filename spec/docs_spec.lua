local cluster = require("spec.helper.cluster")
local holt = require("holt")

describe("docs/collections.md", function()
  cluster.guard(before_each, after_each)

  it("has only blocks that run, and whose answers are as they say", function()
    local node = cluster.start(1)[1]
    local file <close> = assert(io.open("docs/collections.md"))
    local count = 0
    for text in file:read("a"):gmatch("```lua\n(.-)```") do
      if not text:find("^%-%- not run") then
        count = count + 1
        local environment = setmetatable({ node = node, holt = holt, print = function() end }, { __index = _G })
        local chunk = assert(load(text, "=block " .. count, "t", environment))
        chunk()
      end
    end
    assert.is_true(count >= 9)
    assert.equal(2, node:map("stock"):get("apple"))
  end)
end)
