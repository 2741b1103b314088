local nodes = require("spec.helper.nodes")

-- The Lua blocks of a page that begin with "-- NAME".
local function blocks_of(path)
  local file <close> = assert(io.open(path))
  local blocks = {}
  for text in file:read("a"):gmatch("```lua\n(.-)```") do
    local name = text:match("^%-%- (%S+%.lua)\n")
    if name then
      blocks[name] = text
    end
  end
  return blocks
end

describe("README.md", function()
  nodes.guard(before_each, after_each)

  it("has a script that runs as it is shown", function()
    local path = nodes.write("greeter.lua", assert(blocks_of("README.md")["greeter.lua"]))
    local ada = nodes.start { name = "ada", file = path }
    local bob = nodes.start { name = "bob", file = path, connect = { ada } }
    ada:wait_output("bob says hello to everybody")
    bob:wait_output("ada says hello to everybody")
  end)

  it("has a topology that runs as it is shown", function()
    local blocks = blocks_of("README.md")
    nodes.write("greeter.lua", blocks["greeter.lua"])
    local text, count = assert(blocks["topology.lua"]):gsub("7001", tostring(nodes.free_port_range(3)))
    assert.same(1, count)
    local up = nodes.holt_with({ XDG_RUNTIME_DIR = nodes.folder() }, "up", nodes.write("topology.lua", text))
    up:wait_output("all 3 nodes are ready")
    up:wait_output("n1 | n3 says hello to everybody")
    assert.same(0, (up:stop("INT")))
  end)

  it("names only files that are there", function()
    local file <close> = assert(io.open("README.md"))
    for path in file:read("a"):gmatch("%]%(([^)]+)%)") do
      local found <close> = assert(io.open(path))
      assert.is_truthy(found)
    end
  end)
end)
