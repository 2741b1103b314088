local config = require("holt.config")
local holt = require("holt")

describe("settings", function()
  local environment, getenv = {}, os.getenv
  before_each(function()
    config.reset()
    environment = {}
    os.getenv = function(name) -- luacheck: ignore 122
      return environment[name]
    end
  end)
  after_each(function()
    os.getenv = getenv -- luacheck: ignore 122
    config.reset()
    config.take() -- so that no later node sees what was set here
  end)

  it("come from the flags before the environment before the file before the script", function()
    config.set_layer("flags", { name = "from-flags" })
    config.set_layer("file", { name = "from-file", channel = "from-file", timeout = 1 })
    environment.HOLT_NAME, environment.HOLT_CHANNEL = "from-env", "from-env"
    local values, origins = config.resolve({ name = "s", channel = "s", timeout = 5, buffer_max = 7 })
    assert.same({ name = "from-flags", channel = "from-env", timeout = 1, buffer_max = 7 }, values)
    assert.same({ name = "flags", channel = "environment", timeout = "file", buffer_max = "script" }, origins)
  end)

  it("read lists, numbers and switches from the environment", function()
    environment.HOLT_CONNECT = "127.0.0.1:1, 127.0.0.1:2"
    environment.HOLT_LISTEN = ":7001"
    environment.HOLT_TIMEOUT = "2.5"
    environment.HOLT_BUFFER_MAX = "10"
    environment.HOLT_INSECURE = "1"
    local values = config.resolve({})
    assert.same({
      connect = { "127.0.0.1:1", "127.0.0.1:2" },
      listen = { ":7001" },
      timeout = 2.5,
      buffer_max = 10,
      insecure = true,
    }, values)
  end)

  it("name the variable that has a wrong value", function()
    environment.HOLT_TIMEOUT = "long"
    local ok, message = pcall(config.resolve, {})
    assert.is_false(ok)
    assert.equal('HOLT_TIMEOUT must be a number, but it is "long"', message)
  end)

  it("apply to the first node only; further ones are the script's alone", function()
    environment.HOLT_NAME = "first"
    assert.equal("first", config.resolve({ name = "a" }).name)
    config.take()
    assert.equal("b", config.resolve({ name = "b" }).name)
  end)

  it("are left to the next try when the first node could not be made", function()
    environment.HOLT_NAME = "first"
    assert.is_false((pcall(holt.node, { listen = "nonsense" })))
    local node = holt.node({ transport = "memory", name = "script" })
    local name = node.name
    node:close()
    assert.equal("first", name)
  end)

  it("refuse an unknown flag with the nearest option", function()
    local ok, message = pcall(config.set_layer, "flags", { lisen = "x" })
    assert.is_false(ok)
    assert.matches("settings from the command line: unknown option 'lisen', did you mean 'listen'?", message, 1, true)
  end)
end)
