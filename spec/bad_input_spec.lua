local core = require("holt.core")
local files = require("spec.helper.files")
local nodes = require("spec.helper.nodes")

local SCRIPT = [[
  local holt = require("holt")
  node = holt.node {}
  got = {}
  node:on("say", function(text) got[#got + 1] = text end)
]]

describe("bad input", function()
  nodes.guard(before_each, after_each)

  local function run(...)
    local program = nodes.holt("run", ...)
    local code = program:wait(10)
    return code, program:output("stderr")
  end

  -- The node still talks to others.
  local function lives_on(node)
    local other = nodes.start { name = "witness", script = SCRIPT, connect = { node } }
    other:wait_links(1)
    other:eval([[node:emit("say", "still here")]])
    node:wait_for([[got[#got] == "still here"]])
    other:stop()
  end

  describe("at the start", function()
    it("a missing script is told with exit code 2", function()
      local code, said = run("/nowhere/script.lua")
      assert.same(2, code)
      assert.same("holt: cannot read the script /nowhere/script.lua: No such file or directory; give the path of a Lua file", said)
    end)

    it("a broken script is told with file and line", function()
      local code, said = run(nodes.write("broken.lua", "local x = = 3"))
      assert.same(1, code)
      assert.matches("^holt: the script is broken: .*broken%.lua:1: unexpected symbol near '='$", said)
    end)

    it("a script that raises is told with file and line", function()
      local code, said = run(nodes.write("raises.lua", "\nerror('no water')"))
      assert.same(1, code)
      assert.matches("^holt: the script raised an error: .*raises%.lua:2: no water$", said)
    end)

    it("an unknown option is told with the nearest one", function()
      local code, said = run(nodes.write("option.lua", "require('holt').node { listn = ':1' }"))
      assert.same(1, code)
      assert.matches("option%.lua:1: holt%.node: unknown option 'listn', did you mean 'listen'%?$", said)
    end)

    it("an unknown flag, verb or value is told with exit code 2", function()
      local code, said = run("x.lua", "--lissten", ":1")
      assert.same({ 2, "holt: run: unknown option --lissten, did you mean --listen?" }, { code, said })
      code, said = run("x.lua", "--timeout=soon")
      assert.same({ 2, "holt: run: --timeout takes a number of seconds, not 'soon'" }, { code, said })
      local program = nodes.holt("rum")
      assert.same(2, (program:wait()))
      assert.same("holt: there is no verb 'rum', did you mean: holt run", program:output("stderr"))
    end)

    it("a port in use is told", function()
      local listener = assert(core.listen("127.0.0.1:0"))
      local code, said = run(nodes.write("port.lua", SCRIPT), "--control=none", "--listen=" .. listener:address())
      listener:close()
      assert.same(1, code)
      assert.matches("another program listens there; stop it or choose another port", said)
    end)

    it("listening outside this machine needs insecure", function()
      local path = nodes.write("outside.lua", SCRIPT)
      local code, said = run(path, "--control=none", "--listen=0.0.0.0:0")
      assert.same(1, code)
      assert.matches("without encryption.*%-%-insecure", said)
      local node = nodes.start { name = "open", script = SCRIPT, listen = "0.0.0.0:0", flags = { "--insecure" } }
      assert.same(0, (node:stop()))
    end)

    it("a wrong address is told", function()
      local code, said = run(nodes.write("address.lua", SCRIPT), "--control=none", "--connect=foo bar")
      assert.same(1, code)
      assert.matches("'foo bar' is not an address: write host:port", said)
    end)
  end)

  describe("between nodes", function()
    it("a wrong channel is told to both, and both live on", function()
      local a = nodes.start { name = "a", script = SCRIPT }
      local b = nodes.start { name = "b", script = SCRIPT, connect = { a }, flags = { "--channel=other" } }
      a:wait_output("on channel 'holt' and node 'b' on channel 'other'; give both the same channel")
      b:wait_output("'other'.*wrong_channel")
      lives_on(a)
      assert.is_true((b:eval("true")))
    end)

    it("two nodes of one name are told, and both live on", function()
      local a = nodes.start { name = "a", script = SCRIPT }
      local second = nodes.holt("run", a.script, "--name=a", "--control=none", "--connect=" .. a:address())
      a:wait_output("both nodes are named 'a'; give each node a name of its own")
      second:wait_output("both nodes are named 'a'")
      lives_on(a)
      assert.is_true(second.process:is_running())
    end)

    it("an event too large for a frame is refused to its sender", function()
      local a = nodes.start { name = "a", script = SCRIPT }
      local code, message = a:eval([[(function()
        local ok, err = node:emit("say", ("x"):rep(9 << 20)) return err.code, err.message end)()]])
      assert.same("too_large", code)
      assert.matches("send it in pieces", message)
      lives_on(a)
    end)

    it("a handler that raises becomes an error with file and line", function()
      local a = nodes.start { name = "a", script = SCRIPT .. [[ node:on("bang", function() error("no water") end) ]] }
      local b = nodes.start { name = "b", script = SCRIPT, connect = { a } }
      b:wait_links(1)
      b:eval([[node:emit("bang")]])
      a:wait_output("a%.lua:%d+: no water")
      b:stop()
      lives_on(a)
    end)
  end)

  describe("on a raw connection", function()
    local node

    before_each(function() node = nodes.start { name = "n", script = SCRIPT } end)

    -- Send bytes and wait until the node hangs up.
    local function send(bytes, piece)
      local stream = assert(core.connect(node:address()))
      for at = 1, #bytes, piece or #bytes do
        if not stream:write(bytes:sub(at, at + (piece or #bytes) - 1)) then
          break
        end
        if piece then
          core.sleep(0)
        end
      end
      repeat
        local data, err = stream:read(65536, 5)
      until not data and (err.code ~= "timeout" or error("the node did not hang up"))
      stream:close(true)
    end

    local function random_bytes(count, seed)
      local list, state = {}, seed
      for i = 1, count do
        state = (state * 1103515245 + 12345) & 0x7fffffff
        list[i] = string.char(state >> 16 & 0xff)
      end
      return table.concat(list)
    end

    it("garbage closes that connection with a reason, and the node lives on", function()
      for seed = 1, 20 do
        send("\xff\xff" .. random_bytes(200, seed))
      end
      assert.matches("protocol", node:wait_output("warning[^\n]*"))
      lives_on(node)
    end)

    -- What a real node says first.
    local function recorded_hello()
      local listener = assert(core.listen("127.0.0.1:0"))
      local other = nodes.start { name = "other", script = SCRIPT, connect = { listener:address() } }
      local taken = assert(listener:accept(5))
      local hello = assert(taken:read(65536, 5))
      taken:close(true)
      listener:close()
      other:stop()
      return hello
    end

    it("nothing at all, as of who looks whether a port is open, is no error", function()
      node:eval("errors = {} node.events:on('error', function(err) errors[#errors + 1] = tostring(err) end)")
      for _ = 1, 3 do
        assert(core.connect(node:address())):close()
      end
      local stream = assert(core.connect(node:address()))
      stream:write("garbage that fills a whole frame's head and more")
      node:wait_for("errors[1]") -- which came behind them
      assert.same(1, node:eval("return #errors"))
      assert.is_nil(node:eval("return errors[1]"):find("closed the connection", 1, true))
      stream:close()
    end)

    it("garbage a byte at a time does no more", function()
      send("\xff\xff\xff\x7f" .. random_bytes(30, 3), 1)
      lives_on(node)
    end)

    it("a frame over the limit is refused by its header alone", function()
      send(string.pack("<I4", 0x7fffffff) .. ("\0"):rep(12))
      node:wait_output("a frame of %d+ bytes came, at most %d+ are allowed")
      lives_on(node)
    end)

    it("a greeting that was recorded, cut short or altered anywhere never ends the node", function()
      local hello = recorded_hello()
      for cut = 1, #hello - 1, 7 do
        local stream = assert(core.connect(node:address()))
        stream:write(hello:sub(1, cut))
        stream:close()
      end
      for at = 1, #hello do
        local stream = assert(core.connect(node:address()))
        stream:write(hello:sub(1, at - 1) .. string.char(hello:byte(at) ~ 0x55) .. hello:sub(at + 1))
        stream:close()
      end
      local slow = assert(core.connect(node:address()))
      for at = 1, #hello do
        slow:write(hello:sub(at, at))
        core.sleep(0)
      end
      assert.is_truthy(slow:read(65536, 5)) -- whole, though in single bytes: it is answered
      slow:close(true)
      lives_on(node)
    end)

    it("another version of the protocol is refused in words", function()
      local hello = recorded_hello()
      local told
      for at = 1, math.min(#hello, 24) do -- wherever the version lies, one of these changes it
        local stream = assert(core.connect(node:address()))
        stream:write(hello:sub(1, at - 1) .. string.char(hello:byte(at) ~ 0x40) .. hello:sub(at + 1))
        stream:read(65536, 0.05)
        stream:close(true)
        core.sleep(0.01)
        told = told or node:output():match("version")
      end
      assert.same("version", told)
      lives_on(node)
    end)
  end)
end)

describe("bad input to a cluster of processes", function()
  nodes.guard(before_each, after_each)

  local MEMBER = [[
    node = require("holt").node { request_timeout = 5,
      cluster = { name = "CLUSTER", members = COUNT, election_timeout = 0.3, heartbeat = 0.03 } }
    map = node:map("m")
    -- code and message of what a call refused
    function refusal(value, err)
      if value ~= nil then error("it was not refused") end
      return err.code, err.message
    end
  ]]

  local function script(count, cluster)
    return (MEMBER:gsub("COUNT", count):gsub("CLUSTER", cluster or "spec"))
  end

  local function start(count)
    local list = {}
    for i = 1, count do
      local name = "n" .. i
      list[i] = nodes.start {
        name = name,
        script = script(count),
        connect = table.move(list, 1, #list, 1, {}),
        flags = { "--data=" .. nodes.folder() .. "/" .. name },
      }
    end
    for _, node in ipairs(list) do
      node:eval("assert(node:ready(30))", 40)
    end
    return list
  end

  it("an unknown member, another kind, a value too large and waiting within a txn are refused in words; nothing is lost", function()
    local a, b = table.unpack(start(2))
    assert.is_true(a:eval("return (map:set('k', 1))"))
    for call, node in pairs { transfer = a, remove_member = b } do
      local code, words = node:eval(("return refusal(node:%s('nobody'))"):format(call))
      assert.equal("not_found", code)
      assert.matches(call .. ": no member is named 'nobody'; there are: n[12], n[12]$", words)
    end
    local code, words = b:eval("return refusal(node:queue('m'):push(1))")
    assert.same({ "wrong_kind", "queue 'm': there is a map of this name; give the queue another one" }, { code, words })
    code, words = a:eval("return refusal(map:set('k', ('x'):rep(5 << 20)))")
    assert.equal("too_large", code)
    assert.matches("split it, or raise the option cluster.max_entry_bytes (at most 7 MiB) on all members", words, 1, true)
    local ok, raised = a:eval([[
      local ok, err = pcall(node.txn, node, function() require("holt").sleep(0.1) end)
      return ok, tostring(err)]])
    assert.is_false(ok)
    assert.matches("the body of a txn; make the call before or after it", raised, 1, true)
    for _, node in ipairs { a, b } do
      assert.equal(1, node:eval("return map:get('k', { linearizable = true })"))
      assert.equal(2, node:eval("return #node:members()"))
    end
  end)

  it("without a majority a write says that it was not done, and who is missing; all is there once they return", function()
    local a, b, c = table.unpack(start(3))
    assert.is_true(a:eval("return (map:set('k', 1))"))
    b:kill()
    c:kill()
    a:wait_for("not node:status().cluster.quorum")
    local code, words = a:eval("return refusal(map:set('k', 2, { timeout = 0.2 }))")
    assert.equal("no_quorum", code)
    local who = "map 'm': no leader with a majority is known; not connected: (n%d) for %d+ s, (n%d) for %d+ s; "
    local one, other = words:match("^" .. who .. "start them, or mend the network between$")
    assert.is_truthy(one == "n2" and other == "n3" or one == "n3" and other == "n2", words)
    assert.equal("no_quorum", (a:eval("return refusal(map:get('k', { linearizable = true, timeout = 0.2 }))")))
    assert.equal(1, a:eval("return map:get('k')"))
    b:restart()
    c:restart()
    for _, node in ipairs { a, b, c } do
      node:eval("assert(node:ready(30))", 40)
      assert.equal(1, node:eval("return map:get('k', { linearizable = true, timeout = 20 })", 30))
    end
    assert.is_true(a:eval("return (map:set('k', 3, { timeout = 20 }))", 30))
    assert.equal(3, c:eval("return map:get('k', { linearizable = true })"))
  end)

  describe("a data directory", function()
    local first, data

    -- CRC-32C, bit by bit (polynomial 0x82f63b78): what ends an identity, and lies within the head of a log.
    local function crc32c(bytes)
      local crc = 0xffffffff
      for i = 1, #bytes do
        crc = crc ~ bytes:byte(i)
        for _ = 1, 8 do
          crc = crc >> 1 ~ (0x82f63b78 & -(crc & 1))
        end
      end
      return crc ~ 0xffffffff
    end

    -- Every file below the folder, with its bytes.
    local function contents()
      local list = {}
      local pipe <close> = assert(io.popen(("find '%s' -type f"):format(data)))
      for path in pipe:lines() do
        list[path] = files.read(path)
      end
      assert.is_truthy(next(list))
      return list
    end

    -- A node that is started with this directory ends at once, says so, and changes nothing.
    local function assert_turned_away(name, cluster, words)
      local before = contents()
      local path = nodes.write(name .. "-2.lua", script(1, cluster))
      local program = nodes.holt("run", path, "--name=" .. name, "--control=none", "--data=" .. data)
      assert.equal(1, (program:wait()))
      assert.matches(words, program:output("stderr"))
      assert.same(before, contents())
    end

    before_each(function()
      first = start(1)[1]
      data = nodes.folder() .. "/n1"
      assert.is_true(first:eval("return (map:set('k', 1))"))
      first:stop()
    end)

    local function assert_whole()
      first:restart()
      first:eval("assert(node:ready(30))", 40)
      assert.equal(1, first:eval("return map:get('k')"))
    end

    it("of another node is left alone, and the message names both", function()
      assert_turned_away(
        "n2",
        "spec",
        "the data directory %S+/n1 is that of the node 'n1', this one is 'n2'; "
          .. "give this node another directory, or start it as %-%-name=n1$"
      )
      assert_whole()
    end)

    it("of another cluster is left alone, and the message names both", function()
      assert_turned_away(
        "n1",
        "other",
        "the data directory %S+/n1 is that of a member of the cluster 'spec', this node is of 'other'; "
          .. "give it another directory, or that cluster%.name$"
      )
      assert_whole()
    end)

    it("whose identity is of a newer version is left alone, and the message says what to start", function()
      local path = data .. "/identity"
      local old = files.read(path)
      local bytes = old:sub(1, 4) .. ("<I4"):pack(7) .. old:sub(9, -5)
      files.write(path, bytes .. ("<I4"):pack(crc32c(bytes)))
      assert_turned_away(
        "n1",
        "spec",
        "the data directory %S+/n1 was written by a newer holt %(layout 7, this one knows up to 2%); start it with that one, "
          .. "or give this node another directory$"
      )
      files.write(path, old)
      assert_whole()
    end)

    it("whose log is of a newer version is left alone, and the message says what to start", function()
      local pipe <close> = assert(io.popen(("find '%s' -name '*.wal' | sort"):format(data)))
      local path = assert(pipe:read("l"))
      local old = files.read(path)
      local head = old:sub(1, 8) .. ("<I4"):pack(7) .. old:sub(13, 124)
      local size = ("<I4"):unpack(head, 13)
      files.write(path, head .. ("<I4"):pack(crc32c(head .. old:sub(129, size))) .. old:sub(129))
      assert_turned_away(
        "n1",
        "spec",
        "the log in '%S+/log%-%x+': %x+%.wal was written by a newer holt %(layout 7, this one knows up to 1%); "
          .. "start the node with that one, or give it another directory$"
      )
      files.write(path, old)
      assert_whole()
    end)
  end)
end)
