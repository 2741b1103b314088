local nodes = require("spec.helper.nodes")

describe("the example of a read model", function()
  nodes.guard(before_each, after_each)

  local function run(...)
    local data = nodes.folder() .. "/data"
    local program = nodes.holt("run", "examples/readmodel/orders.lua", "--data", data, "--control", "none", "--", ...)
    assert.same(0, (program:wait()))
    return program:output("stdout")
  end

  it("takes in each entry once, and comes out the same when it is built anew", function()
    assert.same("1 entries taken in\napple 3", run("order", "apple", "3"))
    assert.same("1 entries taken in\napple 3\npear 2", run("order", "pear", "2"))
    assert.same("1 entries taken in\napple 2\npear 2", run("cancel", "apple", "1"))
    assert.same("0 entries taken in\napple 2\npear 2", run("show"))
    assert.same("3 entries taken in\napple 2\npear 2", run("rebuild"))
  end)

  it("writes nothing that it could not take in", function()
    for _, given in ipairs { { "order" }, { "order", "apple", "many" }, { "odrer", "apple" }, {} } do
      local program = nodes.holt("run", "examples/readmodel/orders.lua", "--data", nodes.folder() .. "/data", "--control", "none", "--",
        table.unpack(given))
      assert.same(2, (program:wait()))
      assert.matches("^usage: ", program:output("stderr"))
    end
    assert.same("0 entries taken in", run("show"))
  end)
end)
