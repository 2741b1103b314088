local cluster = require("spec.helper.cluster")
local holt = require("holt")
local nodes = require("spec.helper.nodes")

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

describe("docs/journal.md", function()
  nodes.guard(before_each, after_each)

  it("begins with a program that runs", function()
    local file <close> = assert(io.open("docs/journal.md"))
    local text = assert(file:read("a"):match("```lua\n(.-)```"))
    local proto = nodes.write("shop.proto", 'syntax = "proto3"; message OrderPlaced { string sku = 1; int32 qty = 2; }')
    local count, other
    text, count = text:gsub('"shop.proto"', ("%q"):format(proto))
    text, other = text:gsub('"data/shop"', ("%q"):format(nodes.folder() .. "/data"))
    assert.same({ 1, 1 }, { count, other })
    local program = nodes.holt("run", nodes.write("shop.lua", text), "--control", "none")
    program:wait_output("OrderPlaced\tapple")
    program:wait_output("apple\t[%w%-]+\t%x+")
    assert.same(0, (program:stop()))
  end)
end)
