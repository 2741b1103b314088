local nodes = require("spec.helper.nodes")

describe("the example of a writer that comes home", function()
  nodes.guard(before_each, after_each)

  it("brings all it wrote while it was alone, in two trips, through a harbour that was away too", function()
    local harbour = nodes.start({
      name = "harbour",
      file = "examples/offline/harbour.lua",
      flags = { "--data", nodes.folder() .. "/harbour" },
    })
    local function trip(count)
      local boat = nodes.holt("run", "examples/offline/writer.lua", "--name", "boat", "--control", "none", "--data",
        nodes.folder() .. "/boat", "--", harbour:address(), tostring(count))
      assert.same(0, (boat:wait()))
      assert.matches("the harbour has everything", boat:output())
    end
    trip(20)
    harbour:wait_output("boat is home with 20 positions")
    harbour:stop()
    harbour:restart()
    trip(5)
    harbour:wait_output("boat is home with 5 positions") -- the others were dealt with before
  end)

  it("keeps what it wrote where no harbour is to be seen, and brings it with the next trip", function()
    local function boat(...)
      local program = nodes.holt("run", "examples/offline/writer.lua", "--name", "boat", "--control", "none", "--data",
        nodes.folder() .. "/boat", "--", ...)
      return program:wait(), program:output()
    end
    local code, text = boat()
    assert.same(2, code)
    assert.matches("^usage: ", text)
    code, text = boat("127.0.0.1:1", "3", "0.5")
    assert.same(1, code)
    assert.matches("on the disk here", text)
    local harbour = nodes.start({
      name = "harbour",
      file = "examples/offline/harbour.lua",
      flags = { "--data", nodes.folder() .. "/harbour" },
    })
    assert.same(0, (boat(harbour:address(), "2")))
    harbour:wait_output("boat is home with 5 positions")
  end)
end)
