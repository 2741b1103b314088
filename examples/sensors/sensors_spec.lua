local control = require("holt.control")
local nodes = require("spec.helper.nodes")

describe("the ring of sensors", function()
  nodes.guard(before_each, after_each)

  it("runs by holt up; everybody knows every temperature, and north's readings come once", function()
    local folder = nodes.folder()
    local up = nodes.holt_with({ SENSORS_PORT = tostring(nodes.free_port_range(4)), SENSORS_INTERVAL = "0.1", XDG_RUNTIME_DIR = folder },
      "up", "examples/sensors/topology.lua")
    up:wait_output("all 4 nodes are ready")
    for _, name in ipairs { "north", "east", "south", "west" } do
      local client = assert(control.connect(folder .. "/holt/" .. name .. ".sock"))
      nodes.until_true(function()
        local list = assert(client:request { op = "eval",
          code = "(function() local n = 0 for _ in pairs(latest) do n = n + 1 end return n end)()" })
        return list[1] == 3 -- all but its own
      end)
      client:close()
    end
    up:wait_output("south | north says temperature = %d+%.%d %(2 links away%)")
    up:wait_output("east  | north says humidity = %d+ %(1 links away%)")
    assert.same(0, (up:stop("INT")))
    assert.matches("stopping 4 nodes", up:output("stderr"))
  end)
end)
