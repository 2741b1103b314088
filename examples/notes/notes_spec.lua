local nodes = require("spec.helper.nodes")

describe("the example of two journals", function()
  nodes.guard(before_each, after_each)

  local function start(name, given)
    given.name, given.file, given.args = name, "examples/notes/notes.lua", { "0.05" }
    given.flags = { "--data", nodes.folder() .. "/" .. name }
    return nodes.start(given)
  end

  it("keeps both up to date, and brings home what was missed without being told where", function()
    local ada = start("ada", {})
    local bob = start("bob", { connect = { ada } })
    ada:wait_output("bob: note 1 of bob")
    bob:wait_output("ada: note %d+ of ada")
    bob:stop()
    local last = 0
    for number in ada:output():gmatch("note (%d+) of ada") do
      last = math.max(last, tonumber(number))
    end
    ada:wait_output(("note %d of ada"):format(last + 3)) -- written while bob is away
    bob.given.connect = nil
    bob:restart()
    bob:wait_output(("ada: note %d of ada"):format(last + 2))
  end)
end)
