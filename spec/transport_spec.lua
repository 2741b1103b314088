local core = require("holt.core")
local eventually = require("spec.helper.eventually")
local holt = require("holt")
local memory_transport = require("spec.helper.wire")

local nodes = {}

local function make(options)
  local node = holt.node(options)
  nodes[#nodes + 1] = node
  return node
end

local function link_up(node)
  eventually("the link of " .. node.name, function()
    local peer = node:peers()[1]
    return peer and peer:status().up
  end)
end

local function close_all()
  for _, node in ipairs(nodes) do
    node:close()
  end
  nodes = {}
  eventually("the end of all tasks", function()
    return core.task_count() == 0
  end)
end

describe("the transport unix", function()
  local path
  before_each(function()
    path = os.tmpname()
    os.remove(path)
  end)
  after_each(function()
    close_all()
    os.remove(path)
  end)

  it("joins nodes over a socket, whether or not its path begins with unix:", function()
    local a = make({ name = "a", transport = "unix", listen = "unix:" .. path })
    assert.same({ "unix:" .. path }, a:status().listen)
    local b = make({ name = "b", transport = "unix", connect = path })
    local got
    a:on("x", function(text)
      got = text
    end)
    link_up(b)
    b:emit("x", "over a socket")
    eventually("the event", function()
      return got
    end)
    assert.equal("over a socket", got)
  end)

  it("takes the place of a socket that a dead process left", function()
    assert(os.execute(("lua5.4 -e 'package.cpath=%q package.path=%q"):format(package.cpath, package.path)
      .. (' require("holt").node { transport = "unix", listen = %q } os.execute("kill -9 $PPID")\' >/dev/null 2>&1; true'):format(path)))
    assert(io.popen("test -S " .. path .. " && echo there"):read("l") == "there", "nothing was left behind")
    local a = make({ name = "a", transport = "unix", listen = path })
    assert.is_true(a:is_open())
  end)

  it("refuses the place of a socket that somebody listens on, in words", function()
    make({ name = "a", transport = "unix", listen = path })
    local ok, err = pcall(holt.node, { name = "b", transport = "unix", listen = path })
    assert.is_false(ok)
    assert.equal("address_in_use", err.code)
    assert.matches("a running program answers there", err.message)
  end)

  it("leaves a file alone that is no socket", function()
    local file = assert(io.open(path, "w"))
    file:write("precious")
    file:close()
    local ok, err = pcall(holt.node, { name = "a", transport = "unix", listen = path })
    assert.is_false(ok)
    assert.equal("address_in_use", err.code)
    assert.equal("precious", assert(io.open(path)):read("a"))
  end)

  it("refuses a path that is too long, instead of cutting it", function()
    local ok, err = pcall(holt.node, { name = "a", transport = "unix", listen = "/tmp/" .. ("x"):rep(200) })
    assert.is_false(ok)
    assert.equal("bad_address", err.code)
    assert.matches("1 to 107 bytes", err.message)
  end)
end)

describe("a transport written in Lua", function()
  local world, transport
  before_each(function()
    world = {}
    transport = memory_transport(world)
  end)
  after_each(close_all)

  local function pair(options)
    local a = make({ name = "a", transport = transport, listen = "here" })
    local settings = { name = "b", transport = transport, connect = "here", backoff_min = 0.001, backoff_max = 0.005 }
    for key, value in pairs(options or {}) do
      settings[key] = value
    end
    local b = make(settings)
    link_up(b)
    link_up(a)
    return a, b
  end

  it("carries events both ways, in order", function()
    local a, b = pair()
    local got, answers = {}, 0
    a:on("n", function(i)
      got[#got + 1] = i
      a:emit("back", i)
    end)
    b:on("back", function()
      answers = answers + 1
    end)
    for i = 1, 2000 do
      assert(b:emit("n", i))
    end
    eventually("all answers", function()
      return answers == 2000
    end)
    for i = 1, 2000 do
      assert.equal(i, got[i])
    end
    assert.equal("a", b:peers()[1].name)
  end)

  it("closes its streams once, and its listener, when the nodes close", function()
    pair()
    close_all()
    eventually("two closed ends", function()
      return world.streams[1].closed + world.streams[2].closed == 2
    end)
    assert.same({}, world.listeners)
  end)

  it("makes emit wait while its write waits, and keeps no more than a window", function()
    local a, b = pair()
    local got = 0
    a:on("x", function()
      got = got + 1
    end)
    world.hold = core.gate()
    local payload = ("x"):rep(100000)
    local sender = holt.go(function()
      for _ = 1, 100 do
        assert(b:emit("x", payload))
      end
      return "sent"
    end)
    assert.equal("timeout", select(2, sender:join(0.3)).code)
    assert.is_true(world.holding < 1024 * 1024, "the write was given " .. world.holding .. " bytes at once")
    local buffered = b:peers()[1]:status().buffered_bytes
    assert.is_true(buffered < 6 * 1024 * 1024, buffered .. " bytes were buffered")
    world.hold:open()
    world.hold = nil
    assert.same({ true, "sent" }, { sender:join(10) })
    eventually("all events", function()
      return got == 100
    end)
  end)

  it("links again after a stream broke, tells why in its own words, and loses nothing", function()
    local a, b = pair()
    local got, told = {}, nil
    a:on("n", function(i)
      got[#got + 1] = i
    end)
    b:peers()[1]:on("disconnect", function(err)
      told = err
    end)
    assert(b:emit("n", 1))
    world.streams[1]:over(holt.errors.new("connection_reset", "the pigeon was eaten"))
    eventually("the loss", function()
      return told
    end)
    assert.equal("connection_reset", told.code)
    assert.equal("the pigeon was eaten", told.message)
    assert(b:emit("n", 2))
    eventually("both events", function()
      return #got == 2
    end)
    assert.same({ 1, 2 }, got)
  end)

  it("turns what its functions raise into errors of the connection", function()
    local _, b = pair()
    local told
    b:peers()[1]:on("disconnect", function(err)
      told = told or err
    end)
    world.write_problem = "the pen is dry"
    b:emit("x")
    eventually("the loss", function()
      return told
    end)
    world.write_problem = nil
    assert.equal("script_error", told.code)
    assert.equal("the transport's write raised: the pen is dry", told.message)
  end)

  for what, case in pairs({
    ["answers nil and an error"] = {
      function()
        return nil, holt.errors.new("unknown_host", "no such place")
      end,
      "unknown_host",
      "cannot connect to here: no such place",
    },
    ["raises"] = {
      function()
        error("lost the map", 0)
      end,
      "script_error",
      "cannot connect to here: the transport's connect raised: lost the map",
    },
  }) do
    it("tells the peer when its connect " .. what, function()
      world.connect = case[1]
      local b = make({ name = "b", transport = transport, backoff_min = 0.001, backoff_max = 0.005 })
      local told
      b:connect("here"):on("backoff", function(_, _, err)
        told = told or err
      end)
      eventually("the failure", function()
        return told
      end)
      assert.equal(case[2], told.code)
      assert.equal(case[3], told.message)
    end)
  end

  it("gives up a connect that waits when the peer is closed", function()
    local gate, outcome = core.gate(), nil
    world.connect = function()
      local ok, err = pcall(gate.wait, gate)
      outcome = not ok and err.code
      error(err, 0)
    end
    local b = make({ name = "b", transport = transport })
    local peer = b:connect("here")
    holt.sleep(0.002)
    peer:close()
    eventually("the end of connect", function()
      return outcome
    end)
    assert.equal("canceled", outcome)
  end)

  it("may refuse to listen, in its own words", function()
    world.listen_problem = holt.errors.new("address_in_use", "somebody sits here")
    local ok, err = pcall(holt.node, { name = "a", transport = transport, listen = "here" })
    assert.is_false(ok)
    assert.equal("address_in_use", err.code)
    assert.equal("cannot listen on here: somebody sits here", err.message)
  end)

  it("needs listen and connect, and streams need their three functions", function()
    local ok, message = pcall(function()
      holt.node({ transport = { listen = print } })
    end)
    assert.is_false(ok)
    assert.matches("transport_spec.lua:%d+: holt.node: option 'transport' needs the functions", message)
    assert.matches("it has no connect", message)
    make({ name = "a", transport = transport, listen = "here" })
    ok, message = pcall(function()
      world.listeners.here({ read = print, write = print })
    end)
    assert.is_false(ok)
    assert.matches("on_stream: a stream needs the functions read, write and close; this table has no close", message)
  end)
end)
