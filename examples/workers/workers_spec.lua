local nodes = require("spec.helper.nodes")

describe("the workers example", function()
  nodes.guard(before_each, after_each)

  it("spreads questions over two workers, and tells what a worker refused", function()
    local w1 = nodes.start { name = "w1", file = "examples/workers/worker.lua" }
    local w2 = nodes.start { name = "w2", file = "examples/workers/worker.lua", connect = { w1 } }
    w1:wait_links(1)
    local ask = nodes.holt("run", "examples/workers/ask.lua", "--control=none", "--name=me", "--connect=" .. w1:address(),
      "--connect=" .. w2:address(), "--", "97", "91", "7919", "10007", "12", "1")
    assert.same(0, (ask:wait()))
    local text = ask:output("stdout")
    assert.matches("97: prime, says w[12]\n91: 7 divides it, says w[12]\n7919: prime, says w[12]\n", text)
    assert.matches("10007: prime, says w[12]\n12: 2 divides it, says w[12]\n", text)
    assert.matches("1: .*1 is not a number to ask about; 2 is the smallest", text)
    w1:wait_output("me asks about")
    w2:wait_output("me asks about")
  end)

  it("goes on with the worker that is left when one is killed", function()
    local w1 = nodes.start { name = "w1", file = "examples/workers/worker.lua" }
    local w2 = nodes.start { name = "w2", file = "examples/workers/worker.lua", connect = { w1 } }
    w2:kill()
    local ask = nodes.holt("run", "examples/workers/ask.lua", "--control=none", "--name=me", "--connect=" .. w1:address(), "--", "13", "14")
    assert.same(0, (ask:wait()))
    assert.same("13: prime, says w1\n14: 2 divides it, says w1", ask:output("stdout"))
  end)
end)
