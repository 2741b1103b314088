local nodes = require("spec.helper.nodes")

describe("the chat example", function()
  nodes.guard(before_each, after_each)

  local function join(name, ...)
    return nodes.holt_with_input("run", "examples/chat/chat.lua", "--control=none", "--log-level=info", "--name=" .. name, ...)
  end

  it("brings each line to everybody else, over a node in between", function()
    local port = nodes.free_port()
    local bob = join("bob", "--listen=:" .. port)
    local ada = join("ada", "--connect=:" .. port)
    local eve = join("eve", "--connect=:" .. port, "--", "--json")
    bob:wait_output("ada is here")
    bob:wait_output("eve is here")
    ada.process.stdin:write("hello\n")
    bob:wait_output("ada: hello")
    eve:wait_output('"hello"')
    eve.process.stdin:write('{"text":"hi, Ada"}\n')
    ada:wait_output("eve: hi, Ada")
    bob:wait_output("eve: hi, Ada")
    assert.not_matches("ada: ", ada:output())
    for _, program in ipairs { ada, eve, bob } do
      program.process.stdin:close()
      assert.same(0, (program:wait()))
    end
  end)
end)
