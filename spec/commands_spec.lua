local core = require("holt.core")
local nodes = require("spec.helper.nodes")

describe("the command line", function()
  nodes.guard(before_each, after_each)

  local function output_of(...)
    local program = nodes.holt(...)
    local code = program:wait()
    return code, program:output("stdout"), program:output("stderr")
  end

  it("tells its version and opens every help with examples", function()
    assert.matches("^holt %d+%.%d+%.%d+$", select(2, output_of("--version")))
    for _, verb in ipairs { "", "run", "up", "demo", "status", "get", "set", "push", "pop", "keys", "member", "bench", "explain" } do
      local code, out = output_of(table.unpack(verb == "" and { "--help" } or { verb, "--help" }))
      assert.same(0, code)
      assert.matches("^Examples:\n  %S", out)
    end
    assert.same(2, (output_of()))
  end)

  it("names what was mistyped, and the nearest that there is", function()
    for said, arguments in pairs {
      ["there is no verb 'demoo', did you mean: holt demo"] = { "demoo" },
      ["there is no verb 'frobnicate'; see: holt --help"] = { "frobnicate" },
      ["there is no verb '--vresion', did you mean: holt --version"] = { "--vresion" },
      ["run: unknown option --naem, did you mean --name?"] = { "run", "--naem", "x", "a.lua" },
      ["run: '--timeout' must be at least 0.001, but it is 0"] = { "run", "--timeout=0", "a.lua" },
      ["bench: --failovers must be at least 1, not 0"] = { "bench", "cluster", "--failovers", "0" },
      ["bench: --seconds must be at least 0.1, not 0"] = { "bench", "bus", "--seconds", "0" },
    } do
      local code, _, text = output_of(table.unpack(arguments))
      assert.same({ 2, "holt: " .. said }, { code, text })
    end
  end)

  it("explains every code of an error", function()
    local _, list = output_of("explain")
    assert.matches("name_in_use +another node of this name is alive", list)
    local _, one = output_of("explain", "name_in_use")
    assert.matches("^name_in_use: another node of this name is alive%.\n", one)
    for code in list:gmatch("([%w_]+) [^\n]+") do
      local _, text = output_of("explain", code)
      assert.matches("^" .. code .. ": .+%.\n%u.+", text, nil, code .. " has no way out")
    end
    local code, _, said = output_of("explain", "name_in_us")
    assert.same({ 2, "holt: there is no code 'name_in_us', did you mean 'name_in_use'?" }, { code, said })
  end)

  it("knows every code that the modules give", function()
    local _, list = output_of("explain")
    local pipe <close> = assert(io.popen([[unset LD_PRELOAD; grep -rhoE 'errors\.(fail|new)\("[a-z_]+"' lua/holt]]))
    local count = 0
    for code in pipe:read("a"):gmatch('errors%.%l+%("([%l_]+)"') do
      count = count + 1
      assert.is_truthy(("\n" .. list):find("\n" .. code .. " ", 1, true), code)
    end
    assert.is_true(count > 30)
  end)

  it("settles each setting by flag over environment over file over script", function()
    local topology = nodes.write("topology.lua", [[return {
      script = "n.lua", base_port = 1, options = { channel = "file", timeout = 7, buffer_max = 3 },
      nodes = { { name = "n", listen = "127.0.0.1:0" } } }]])
    local node = nodes.start { name = "n",
      script = [[node = require("holt").node { channel = "script", timeout = 6, buffer_max = 2, max_peers = 9 }]],
      listen = false, flags = { "--topology=" .. topology, "--channel=flag" }, env = { HOLT_CHANNEL = "env", HOLT_TIMEOUT = "8" } }
    assert.same({ "flag", 8, 3, 9 }, { node:eval([[(function()
      local s = node:settings()
      return s.channel.value, s.timeout.value, s.buffer_max.value, s.max_peers.value
    end)()]]) })
  end)

  it("ends a node on SIGTERM although its script emits for ever and never looks at the answer", function()
    local node = nodes.start({
      name = "flood",
      script = [[
        local holt = require("holt")
        node = holt.node { channel = "spec" }
        holt.go(function() while true do node:emit("n", 1) end end)
      ]],
    })
    assert.same(0, (node:stop()))
  end)

  it("takes the log level from HOLT_LOG_LEVEL, below the flag", function()
    local script = nodes.write("end.lua", "require('holt').node {}:close()")
    local control = "--control=" .. nodes.folder() .. "/end.sock"
    local function said(level, ...)
      local program = nodes.holt_with({ HOLT_LOG_LEVEL = level }, "run", script, control, ...)
      return program:wait(), program:output("stderr")
    end
    assert.matches("control socket at", select(2, said("debug")))
    assert.not_matches("control socket at", select(2, said("debug", "--log-level=warn")))
    local code, problem = said("debgu")
    assert.same(2, code)
    assert.matches('HOLT_LOG_LEVEL cannot be "debgu" (did you mean "debug"?)', problem, 1, true)
  end)

  it("ends a node cleanly on SIGTERM and SIGINT, after what it sent has arrived", function()
    local a = nodes.start { name = "a", script = [[
      count = 0
      node = require("holt").node {}
      node:on("n", function() count = count + 1 end)
    ]] }
    for _, signal in ipairs { "TERM", "INT" } do
      local before = a:eval("count")
      local b = nodes.start { name = "b", connect = { a } }
      b:wait_links(1)
      b:eval("(function() for i = 1, 500 do assert(node:emit('n', i)) end end)()")
      assert.same(0, (b:stop(signal)))
      a:wait_for("count == " .. before + 500)
    end
  end)

  it("runs a node that is idle in less than 10 MB and starts it within 50 ms", function()
    local node = nodes.start { name = "idle" }
    local file <close> = assert(io.open(("/proc/%d/status"):format(node.process:pid())))
    local kilobytes = tonumber(file:read("a"):match("VmRSS:%s*(%d+)"))
    if not os.getenv("HOLT_BUILD") then -- a sanitizer's memory is its own
      assert.is_true(kilobytes < 10240, "an idle node has " .. kilobytes .. " kB")
      local times = {}
      for i = 1, 5 do
        local began = core.now()
        output_of("run", nodes.write("end.lua", "require('holt').node {}:close()"), "--control=none")
        times[i] = core.now() - began
      end
      assert.is_true(math.min(table.unpack(times)) < 0.05, "the fastest of five starts took " .. math.min(table.unpack(times)))
    end
  end)

  describe("up", function()
    local TOPOLOGY = [[
      local shape = require("holt.topology")
      return { script = "member.lua", base_port = %d, nodes = shape.star { "hub", "left", "right" } }
    ]]
    local SCRIPT = [[
      local holt = require("holt")
      node = holt.node {}
      node.events:on("peer_connected", function(peer) print("meets " .. peer.name) end)
    ]]

    local function start(script, env)
      nodes.write("member.lua", script or SCRIPT)
      local file = nodes.write("topology.lua", TOPOLOGY:format(nodes.free_port_range(3)))
      env = env or {}
      env.XDG_RUNTIME_DIR = nodes.folder()
      return nodes.holt_with(env, "up", file)
    end

    it("runs every node, shows who is ready, and stops all on Ctrl-C", function()
      local up = start()
      up:wait_output("all 3 nodes are ready")
      up:wait_output("left  | meets hub")
      up:wait_output("hub   | meets right")
      assert.matches("hub   | ready at 127%.0%.0%.1:%d+", up:output("stderr"))
      assert.same(0, (up:stop("INT")))
      assert.matches("holt: stopping 3 nodes$", up:output("stderr"))
    end)

    it("stops though a program that a node left behind holds its output", function()
      local up = start("os.execute('sleep 25 &')\n" .. SCRIPT)
      up:wait_output("all 3 nodes are ready")
      up.process:kill("INT")
      assert.same(0, (up:wait(10)))
    end)

    it("gives each node a control socket of its own, whatever HOLT_CONTROL says", function()
      local up = start(nil, { HOLT_CONTROL = nodes.folder() .. "/one.sock" })
      up:wait_output("all 3 nodes are ready")
      assert.same(0, (up:stop("INT")))
    end)

    it("tells who died and of what, and lets the others live", function()
      local up = start()
      up:wait_output("all 3 nodes are ready")
      local control = require("holt.control")
      local client = assert(control.connect(nodes.folder() .. "/holt/left.sock"))
      local pid = assert(client:request { op = "status" }).pid
      client:close()
      os.execute("kill -KILL " .. pid)
      up:wait_output("left  | was ended by SIGKILL")
      assert.is_true(up.process:is_running())
      assert.same(1, (up:stop("TERM")))
      assert.matches("1 of 3 nodes failed", up:output("stderr"))
    end)

    it("ends when all its nodes have", function()
      local up = start("error('no water')")
      assert.same(1, (up:wait()))
      assert.matches("hub   | holt: the script raised an error: .*member%.lua:1: no water", up:output("stderr"))
      assert.matches("3 of 3 nodes failed", up:output("stderr"))
    end)

    it("tells what is wrong with a topology file", function()
      for text, words in pairs {
        ["return 5"] = "a topology file returns a table",
        ["return { script = 'a.lua', base_prt = 1, nodes = {'a'} }"] = "unknown option 'base_prt', did you mean 'base_port'",
        ["return { script = 'a.lua', base_port = 1, nodes = { { name = 'one', connect = { 'two' } } } }"] =
          "node 'one' connects to 'two', which is neither a node of this file",
        ["return {"] = "topology.lua:1:",
        ["return { script = 'a.lua', base_port = 65535, nodes = { 'a', 'b' } }"] = "leaves no port for node 2, 'b'",
        ["return { script = 'a.lua', base_port = 1, nodes = { 'a b' } }"] = "the node name 'a b' is empty, or has a space",
        ["return { script = 'a.lua', base_port = 1, nodes = { 'a' }, options = { timout = 1 } }"] =
          "options of node 'a': unknown option 'timout', did you mean 'timeout'?",
        ["return { script = 'no.lua', base_port = 1, nodes = { 'a' } }"] = "the script of node 'a' cannot be read",
        ["return require('holt.topology').rnig { 'a' }"] = "no shape 'rnig', did you mean 'ring'?",
        ["return require('holt.topology').ring {}"] = "topology.lua: ring: a list of node names was expected",
      } do
        local code, _, said = output_of("up", nodes.write("topology.lua", text))
        assert.same(2, code)
        assert.matches(words, said, 1, true)
      end
    end)
  end)

  it("shows a demo in which nothing is lost", function()
    local demo = nodes.holt("demo")
    assert.same(0, (demo:wait(60)))
    local out = demo:output("stdout")
    assert.matches("perch  was ended by SIGKILL", out)
    assert.matches("perch  catches up: #%d+ of otter", out)
    assert.matches("leads the cluster", out)
    assert.matches("map: %d+ writes acknowledged, all of them on all three members", out)
    assert.matches("emitted %d+, handled %d+ of %d+, lost 0: nothing was lost$", out)
    assert.not_matches("\27", out) -- no colour outside a terminal
    for line in out:gmatch("[^\n]+") do
      assert.is_true(#line <= 80, "wider than 80 columns: " .. line)
    end
  end)

  it("measures between two processes", function()
    local code, out = output_of("bench", "bus", "--json", "--seconds", "0.2")
    assert.same(0, code)
    local json = require("holt.json")
    local got = {}
    for line in out:gmatch("[^\n]+") do
      local row = json.decode(line)
      assert.is_true(row.value > 0)
      got[#got + 1] = row.workload .. " " .. row.metric .. " " .. row.unit
    end
    assert.same({ "bus_raw_64B received events/s", "bus_raw_1KiB received events/s", "bus_msgpack_5f received events/s",
      "bus_rtt_64B p50 us", "bus_rtt_64B p99 us", "bus_call_64B p50 us", "bus_call_64B p99 us" }, got)
  end)

  it("measures a cluster of three processes, in memory and on disk", function()
    local json = require("holt.json")
    local got = {}
    for _, workload in ipairs { "cluster_mem_c64", "cluster_durable_seq", "cluster_failover" } do
      local code, out = output_of("bench", "cluster", "--json", "--seconds", "0.2", "--failovers", "1", "--only", workload)
      assert.same(0, code)
      for line in out:gmatch("[^\n]+") do
        local row = json.decode(line)
        assert.is_true(row.value > 0)
        got[#got + 1] = row.workload .. " " .. row.metric .. " " .. row.unit
      end
    end
    assert.same({ "cluster_mem_c64 sets ops/s", "cluster_durable_seq p50 us", "cluster_durable_seq p99 us",
      "cluster_failover first_write ms", "cluster_failover first_write_worst ms" }, got)
  end)
end)
