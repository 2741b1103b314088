-- holt journal: the sessions of HyperEmitter's command line, line by line, and the verbs of its own.
local cli = require("spec.helper.journal_cli")
local json = require("holt.json")
local nodes = require("spec.helper.nodes")

local db, run = cli.db, cli.run_lines

local PROTO = [[
syntax = "proto3";
message Hello { string from = 1; int32 count = 2; }
message Bye { repeated string to = 1; }
]]

describe("holt journal", function()
  nodes.guard(before_each, after_each)

  local function schema()
    return nodes.write("hello.proto", PROTO)
  end

  local function payloads(list, name, field)
    local found = {}
    for _, line in ipairs(list) do
      if line.name == name then
        found[#found + 1] = line.payload[field]
      end
    end
    return found
  end

  it("wants a schema, the first time", function()
    local list, talk, code, _ = run("", "--db", db())
    assert.same({ {}, 2 }, { list, code })
    assert.matches("Missing schema", talk)
    assert.matches("usage: holt journal", talk)
    _, _, code = run("", schema(), "--db", db())
    assert.same(0, code)
    _, _, code = run("", "--db", db()) -- kept with the journal
    assert.same(0, code)
    _, talk, code = run("", nodes.folder() .. "/nowhere.proto")
    assert.same(1, code)
    assert.matches("cannot be read", talk)
    _, talk, code = run("", nodes.write("broken.proto", "message {"))
    assert.same(5, code)
    assert.matches("broken.proto:1:", talk)
  end)

  it("takes lines of JSON and prints each entry as one, absent fields as their default", function()
    local input = '{"name":"Hello","payload":{"from":"Ada"}}\n\n{"name":"Bye","payload":{"to":["Bob","Eve"]}}\n'
    local list, talk, code = run(input, schema())
    assert.same("", talk)
    assert.same(0, code)
    assert.same({ name = "Hello", payload = { from = "Ada", count = 0 } }, list[1])
    assert.same({ name = "Bye", payload = { to = { "Bob", "Eve" } } }, list[2])
  end)

  it("adds who wrote it and when only with --meta", function()
    local list = run('{"name":"Hello","payload":{"from":"Ada"}}\n', schema(), "--meta", "--node", "n1")
    assert.same(64, #list[1].hash)
    assert.same("n1", list[1].node)
    assert.is_true(list[1].time > 1.6e9)
  end)

  it("goes on where it stopped; --from-scratch begins with the first entry; --cursor is another place", function()
    run('{"name":"Hello","payload":{"from":"1"}}\n', schema(), "--db", db())
    local list = run('{"name":"Hello","payload":{"from":"2"}}\n', "--db", db())
    assert.same({ "2" }, payloads(list, "Hello", "from"))
    list = run("", "--db", db())
    assert.same({}, list)
    list = run("", "--db", db(), "--from-scratch")
    assert.same({ "1", "2" }, payloads(list, "Hello", "from"))
    list = run("", "--db", db())
    assert.same({}, list)
    run("", "--db", db(), "--cursor", "mine", "--from-scratch")
    list = run('{"name":"Hello","payload":{"from":"3"}}\n', "--db", db(), "--cursor", "mine")
    assert.same({ "3" }, payloads(list, "Hello", "from"))
    list = run("", "--db", db())
    assert.same({ "3" }, payloads(list, "Hello", "from"))
  end)

  local BAD = table.concat({
    '{"name":"Hello","payload":{"from":"1"}}',
    "{garbage",
    '{"name":"Nobody","payload":{}}',
    '{"name":"Hello","payload":{"from":7}}',
    '{"payload":{}}',
    "\255\254\0",
    '{"name":"EventPeer","payload":{}}',
    '{"name":"Hello","payload":{"from":"2"}}',
  }, "\n")

  it("tells a bad line by its number, and the rest goes on", function()
    local list, talk, code = run(BAD, schema())
    assert.same(0, code)
    assert.same({ "1", "2" }, payloads(list, "Hello", "from"))
    local told = { "line 2: not a line of JSON", "line 3: .*Nobody", "line 4: .*from", "line 5: expected", "line 6:", "line 7:" }
    for _, line in ipairs(told) do
      assert.matches(line, talk)
    end
  end)

  it("ends with 5 at the first one with --strict; what came before is written", function()
    local list, talk, code = run(BAD, schema(), "--db", db(), "--strict")
    assert.same(5, code)
    assert.same({ "1" }, payloads(list, "Hello", "from"))
    assert.matches("line 2:", talk)
    assert.is_nil(talk:find("line 3:", 1, true))
    list = run("", "--db", db(), "--from-scratch")
    assert.same({ "1" }, payloads(list, "Hello", "from"))
  end)

  it("listens and connects, and says so on stderr; lines cross both ways", function()
    local a = nodes.holt_with_input("journal", schema(), "--no-repl", "--listen", "127.0.0.1:0", "--db", db("a"))
    local address = a:wait_output("listening on (%S+)")
    local b = nodes.holt_with_input("journal", schema(), "--no-repl", "--connect", address)
    b:wait_output("connected to " .. address:gsub("%p", "%%%0"))
    a.process.stdin:write('{"name":"Hello","payload":{"from":"a"}}\n')
    b:wait_output('"from":"a"')
    b.process.stdin:write('{"name":"Hello","payload":{"from":"b"}}\n')
    a:wait_output('"from":"b"')
    b:wait_output('"from":"b"')
    for line in (a:output("stdout") .. "\n" .. b:output("stdout")):gmatch("[^\n]+") do
      assert.is_table(json.decode(line)) -- nothing else on stdout
    end
    a.process.stdin:close() -- linked: it goes on without input
    b.process.stdin:write('{"name":"Hello","payload":{"from":"more"}}\n')
    a:wait_output('"from":"more"')
    b.process.stdin:close()
    assert.same(0, (a:stop()))
    assert.same(0, (b:stop("INT")))
  end)

  it("prints its own EventPeer once, at the first listen", function()
    local port = nodes.free_port()
    local function listen()
      local a = nodes.holt_with_input("journal", "--codec", "json", "--db", db(), "--listen", "127.0.0.1:" .. port)
      a:wait_output("listening on")
      a.process.stdin:write('{"name":"Hello","payload":{}}\n')
      a:wait_output('"name":"Hello"')
      a.process.stdin:close()
      a:stop()
      return select(2, a:output("stdout"):gsub('"name":"EventPeer"', ""))
    end
    assert.same(1, listen())
    assert.same(0, listen())
  end)

  it("gets what was written elsewhere while it was not there", function()
    local a = nodes.holt_with_input("journal", "--codec", "json", "--db", db("a"), "--listen", "127.0.0.1:0")
    local address = a:wait_output("listening on (%S+)")
    local b = nodes.holt_with_input("journal", "--codec", "json", "--db", db("b"), "--connect", address)
    a.process.stdin:write('{"name":"Hello","payload":1}\n')
    b:wait_output('"payload":1')
    b:stop()
    b.process.stdin:close()
    a.process.stdin:write('{"name":"Hello","payload":2}\n')
    a:wait_output('"payload":2')
    local again = nodes.holt_with_input("journal", "--db", db("b"), "--connect", address)
    again:wait_output('"payload":2')
    assert.is_nil(again:output("stdout"):find('"payload":1', 1, true))
    again:stop()
    again.process.stdin:close()
    a:stop()
    a.process.stdin:close()
  end)

  it("says what is wrong with an address, and ends with 1", function()
    local taken = nodes.holt_with_input("journal", "--codec", "json", "--listen", "127.0.0.1:0")
    local address = taken:wait_output("listening on (%S+)")
    local _, talk, code = run("", "--codec", "json", "--listen", address)
    assert.same(1, code)
    assert.matches("another program listens there", talk)
    local free = nodes.free_port()
    _, talk, code = run("", "--codec", "json", "--connect", "127.0.0.1:" .. free)
    assert.same(1, code)
    assert.matches("cannot connect to 127.0.0.1:" .. free, talk)
    assert.matches("%-%-retry", talk)
    taken:stop()
    taken.process.stdin:close()
  end)

  it("ends quietly when nobody reads its output any more", function()
    local lines = {}
    for i = 1, 5000 do
      lines[i] = ('{"name":"Hello","payload":%d}'):format(i)
    end
    local path = nodes.write("lines", table.concat(lines, "\n") .. "\n")
    local command = "unset LD_PRELOAD; %s journal --codec json --db %s <%s 2>&1 | head -3; echo done"
    local pipe = assert(io.popen(command:format(nodes.executable, db(), path)))
    local text = pipe:read("a")
    pipe:close()
    assert.same('{"name":"Hello","payload":1}\n{"name":"Hello","payload":2}\n{"name":"Hello","payload":3}\ndone\n', text)
  end)

  describe("at a terminal", function()
    local function type_line(program, text)
      program.process.stdin:write(text .. "\r")
    end

    it("is a prompt: what is typed runs, entries appear, mistakes are told, Ctrl-D ends it with 0", function()
      local a = nodes.holt_on_terminal("journal", schema(), "--listen", "127.0.0.1:0", "--db", db())
      local address = a:wait_output("listening on ([%d.:]+)")
      a:wait_output("EventPeer { addresses = ")
      type_line(a, 'emit("Hello", { from = "Ada" })')
      a:wait_output('Hello { count = 0, from = "Ada" }')
      type_line(a, "=6 * 7")
      a:wait_output("\n[^\n]*42")
      type_line(a, "emit(")
      type_line(a, ")))")
      a:wait_output("unexpected symbol")
      type_line(a, 'emit("Hello", { from = 1 })')
      a:wait_output("schema")
      type_line(a, "error('oh no')")
      a:wait_output("oh no")
      type_line(a, "=log:stats().entries, node.name")
      a:wait_output("%d+\t\"node%-")
      local b = nodes.holt_with_input("journal", schema(), "--connect", address)
      b.process.stdin:write('{"name":"Bye","payload":{"to":["all"]}}\n')
      a:wait_output('Bye { to = { "all" } }')
      a.process.stdin:write("\4")
      assert.same(0, (a:wait()))
      b:stop()
      b.process.stdin:close()
      a.process.stdin:close()
    end)

    it("completes words and keeps its history", function()
      local a = nodes.holt_on_terminal("journal", schema(), "--db", db())
      a.process.stdin:write("em\tHel\t\", { from = 'tab' })\r")
      a:wait_output('Hello { count = 0, from = "tab" }')
      a.process.stdin:write("\4")
      assert.same(0, (a:wait()))
      a.process.stdin:close()
      local b = nodes.holt_on_terminal("journal", "--db", db())
      b.process.stdin:write("\27[A\r")
      b:wait_output('Hello { count = 0, from = "tab" }')
      b.process.stdin:write("\4")
      b:wait()
      b.process.stdin:close()
    end)
  end)

  describe("has verbs:", function()
    local function seed(count)
      local lines = {}
      for i = 1, count do
        lines[i] = ('{"name":"%s","payload":{"%s}}'):format(i % 2 == 0 and "Bye" or "Hello", i % 2 == 0 and 'to":["x"]' or ('count":' .. i))
      end
      run(table.concat(lines, "\n") .. "\n", schema(), "--db", db())
    end

    it("tail prints the newest", function()
      seed(20)
      local list = run("", "tail", "--db", db(), "--lines", "3", "--only", "Hello")
      assert.same({ 15, 17, 19 }, payloads(list, "Hello", "count"))
      list = run("", "tail", "--db", db())
      assert.same(10, #list)
    end)

    it("tail --follow goes on", function()
      local a = nodes.holt_with_input("journal", "--codec", "json", "--listen", "127.0.0.1:0")
      local address = a:wait_output("listening on (%S+)")
      local tail = nodes.holt("journal", "tail", "--follow", "--codec", "json", "--connect", address)
      tail:wait_output("connected to")
      a.process.stdin:write('{"name":"Hello","payload":1}\n')
      tail:wait_output('"payload":1')
      assert.same(0, (tail:stop()))
      a:stop()
      a.process.stdin:close()
    end)

    it("export prints everything, and import reads it into another journal, once, also when it is killed", function()
      seed(3000)
      local all = run("", "export", "--db", db())
      assert.is_true(#all >= 3000)
      local lines = {}
      for i, line in ipairs(all) do
        lines[i] = json.encode(line)
      end
      local path = nodes.write("all.ndjson", table.concat(lines, "\n") .. "\n")
      for attempt = 1, 3 do
        local import = nodes.holt("journal", "import", path, "--db", db("copy"), "--schema", schema())
        if attempt < 3 then
          nodes.until_true(function()
            return not import.process:is_running() or io.open(db("copy") .. "/journal")
          end)
          import:kill()
        else
          assert.same(0, (import:wait()))
          assert.matches("0 refused", import:output("stderr"))
        end
      end
      local copy = run("", "export", "--db", db("copy"))
      assert.same(payloads(all, "Hello", "count"), payloads(copy, "Hello", "count"))
    end)

    it("import tells bad lines by number and ends with 5", function()
      local path = nodes.write("bad.ndjson", BAD)
      local _, talk, code = run("", "import", path, "--db", db("copy"), "--schema", schema())
      assert.same(5, code)
      assert.matches("line 3: ", talk)
      assert.matches("2 written, 5 refused, 1 skipped", talk)
      _, talk, code = run("", "import", "/nowhere", "--db", db("copy"))
      assert.same(1, code)
      assert.matches("cannot read /nowhere", talk)
    end)

    it("verify and stats tell how it stands", function()
      seed(10)
      local program = nodes.holt("journal", "verify", "--db", db())
      assert.same(0, (program:wait()))
      assert.matches("%d+ entries are in order", program:output("stdout"))
      local stats = run("", "stats", "--db", db(), "--json")[1]
      assert.is_true(stats.entries >= 10)
      assert.same(1, #stats.heads)
    end)

    it("log --graph draws who wrote after having seen what", function()
      seed(3)
      local program = nodes.holt("journal", "log", "--graph", "--db", db())
      assert.same(0, (program:wait()))
      local _, count = program:output("stdout"):gsub("%* %x+ ", "")
      assert.same(3, count)
    end)

    it("check names the first entry that another schema would not decode", function()
      seed(4)
      local same = nodes.holt("journal", "check", schema(), "--db", db())
      assert.same(0, (same:wait()))
      local path = nodes.write("new.proto", (PROTO:gsub("int32 count", "string count")))
      local other = nodes.holt("journal", "check", path, "--db", db())
      assert.same(5, (other:wait()))
      assert.matches("Hello", other:output())
      assert.matches("count", other:output())
    end)

    it("each opens its help with examples, and a mistyped one gets the nearest", function()
      for _, verb in ipairs({ "tail", "export", "import", "verify", "log", "stats", "check", "compact" }) do
        local program = nodes.holt("journal", verb, "--help")
        assert.same(0, (program:wait()))
        assert.matches("^Examples:\n  holt journal " .. verb, program:output("stdout"))
      end
      local program = nodes.holt("journal", "exprt", "--db", db())
      assert.same(2, (program:wait()))
      assert.matches("did you mean: holt journal export", program:output("stderr"))
    end)

    it("that look at a journal say so when there is none", function()
      local _, talk, code = run("", "export", "--db", db("none"))
      assert.same(1, code)
      assert.matches("holds no journal", talk)
      _, _, code = run("", "verify")
      assert.same(2, code)
    end)
  end)
end)
