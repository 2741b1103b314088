-- holt journal under rough use: broken files, bytes, other journals, keys hit at the wrong moment.
local cli = require("spec.helper.journal_cli")
local files = require("spec.helper.files")
local json = require("holt.json")
local nodes = require("spec.helper.nodes")

local db, hellos, run = cli.db, cli.hellos, cli.run

local PROTO = [[
syntax = "proto3";
message Hello { string from = 1; int32 count = 2; }
message Blob { bytes data = 1; repeated bytes more = 2; }
]]

describe("holt journal", function()
  nodes.guard(before_each, after_each)

  local function schema()
    return nodes.write("hello.proto", PROTO)
  end

  local function counts(text)
    local list = {}
    for line in text:gmatch("[^\n]+") do
      list[#list + 1] = json.decode(line).payload.count
    end
    return list
  end

  local function damage(number)
    files.alter(db() .. "/journal/data.mdb", ("entry number %05d"):format(number))
  end

  describe("with --strict", function()
    it("ends at the first line that the schema refuses: nothing behind it is written", function()
      local input = '{"name":"Hello","payload":{"from":7}}\n' .. hellos(2, 3)
      local out, talk, code = run(input, schema(), "--db", db(), "--strict")
      assert.same({ "", 5 }, { out, code })
      assert.matches("line 1: .*from", talk)
      assert.same("", (run("", "--db", db(), "--from-scratch")))
    end)

    it("and at one that is too large", function()
      local input = hellos(1, 1) .. json.encode({ name = "Hello", payload = { from = ("x"):rep(1100000) } }) .. "\n" .. hellos(3, 3)
      local out, talk, code = run(input, schema(), "--db", db(), "--strict")
      assert.same({ { 1 }, 5 }, { counts(out), code })
      assert.matches("line 2: ", talk)
    end)
  end)

  it("tells bad lines in their order, whatever is wrong with them", function()
    local input = '{"name":"Hello","payload":{"from":7}}\n{garbage\n{"name":"Nobody","payload":{}}\n\255\n'
    local _, talk = run(input, schema())
    local numbers = {}
    for number in talk:gmatch("line (%d+)") do
      numbers[#numbers + 1] = tonumber(number)
    end
    assert.same({ 1, 2, 3, 4 }, numbers)
  end)

  it("refuses a line of more bytes than any entry has, and reads on", function()
    local path = nodes.write("long", hellos(1, 1) .. ("x"):rep(9 * 1024 * 1024) .. "\n" .. hellos(3, 3))
    local out, talk, code = run("", "import", path, "--db", db(), "--schema", schema())
    assert.same({ "", 5 }, { out, code })
    assert.matches("line 2: longer than 8 MiB", talk)
    assert.matches("2 written, 1 refused", talk)
    local file <close> = assert(io.open(path))
    out, talk = run(file:read("a"), schema())
    assert.same({ 1, 3 }, counts(out))
    assert.matches("line 2: longer than 8 MiB", talk)
  end)

  describe("writes lines", function()
    it("whose bytes are hexadecimal wherever they stand, and come back the same", function()
      local input = table.concat({
        '{"name":"Blob","payload":{"data":{"$hex":"00ff41"},"more":["text",{"$hex":"fffe"}]}}',
        '{"name":"Blob","payload":{"data":"text","more":[]}}',
      }, "\n")
      local out, talk = run(input, schema(), "--db", db())
      assert.same("", talk)
      assert.same(input, out)
      assert.is_truthy(utf8.len(out))
      local _, complaint = run('{"name":"Blob","payload":{"data":{"$hex":"0g"}}}\n', schema(), "--db", db())
      assert.matches("line 1: .*pairs of hexadecimal digits", complaint)
    end)

    it("in which a table that only looks like bytes stays a table", function()
      local input = table.concat({
        '{"name":"A","payload":{"$$hex":"4142"}}',
        '{"name":"B","payload":[{"$$$hex":1}]}',
        '{"name":"C","payload":{"$hex":"4142","b":1}}',
      }, "\n")
      local out = run(input, "--codec", "json", "--db", db())
      assert.same(input, out)
      local program = nodes.start({
        name = "reader",
        listen = false,
        flags = { "--data", db() },
        script = "holt = require 'holt' node = holt.node {} log = assert(node:journal('journal'))",
      })
      assert.same({ ["$hex"] = "4142" }, program:eval("for e in log:read { filter = 'A' } do return e.payload end"))
    end)

    it("with their keys in order, each time the same", function()
      local payload = { zoo = 1, apple = 2, middle = { y = 1, x = { 2, 3 } }, ["10"] = 4, empty = json.array(), none = {} }
      local line = '{"name":"A","payload":{"10":4,"apple":2,"empty":[],"middle":{"x":[2,3],"y":1},"none":{},"zoo":1}}'
      assert.same(line, (run(json.encode({ name = "A", payload = payload }) .. "\n", "--codec", "json", "--db", db())))
      assert.same(line, (run("", "export", "--db", db())))
    end)
  end)

  describe("import", function()
    -- Begin to import, and kill it once so many entries are there.
    local function import_until(path, some)
      local import = nodes.holt("journal", "import", path, "--db", db(), "--schema", schema())
      nodes.until_true(function()
        local file = io.open(db() .. "/journal/data.mdb", "rb")
        local text = file and file:read("a") or ""
        if file then
          file:close()
        end
        return text:find(("entry number %05d"):format(some), 1, true)
      end)
      import:kill()
    end

    it("that was killed goes on, by whatever path the file is called", function()
      local path = nodes.write("big.ndjson", hellos(1, 30000))
      import_until(path, 2500)
      local written = #counts((run("", "export", "--db", db())))
      assert.is_true(written >= 2500)
      local _, talk, code = run("", "import", nodes.folder() .. "/../" .. path:match("^/tmp/(.*)"), "--db", db(), "--schema", schema())
      assert.same(0, code)
      assert.matches(("%d written"):format(30000 - written), talk)
      local list = counts((run("", "export", "--db", db())))
      assert.same(30000, #list)
      for i, count in ipairs(list) do
        assert.same(i, count)
      end
    end)

    it("takes another file of the same path for another file", function()
      local path = nodes.write("big.ndjson", hellos(1, 30000))
      import_until(path, 2500)
      nodes.write("big.ndjson", hellos(50001, 50500))
      local _, talk, code = run("", "import", path, "--db", db(), "--schema", schema())
      assert.same(0, code)
      assert.matches("500 written, 0 refused, 0 skipped\n?$", talk)
    end)
  end)

  describe("where an entry is damaged", function()
    before_each(function()
      run(hellos(1, 60), schema(), "--db", db())
      damage(30)
    end)

    it("log prints the others, and names it in its place", function()
      local out, talk, code = run("", "log", "--db", db(), "--lines", "60")
      assert.same({ "", 1 }, { talk, code })
      local _, count = out:gsub("entry number", "")
      assert.same(59, count)
      assert.matches("00031[^\n]*\n[^\n]*damaged[^\n]*\n[^\n]*00029", out)
      out, _, code = run("", "log", "--graph", "--db", db(), "--lines", "5")
      assert.same({ 0, 5 }, { code, select(2, out:gsub("entry number", "")) })
    end)

    it("tail prints the others", function()
      local out, talk, code = run("", "tail", "--db", db(), "--lines", "160")
      assert.same({ 59, 1 }, { #counts(out), code })
      assert.matches("is damaged", talk)
    end)
  end)

  it("log --graph gives each author a column, and names what it had seen of others", function()
    local a = nodes.holt_with_input("journal", schema(), "--no-repl", "--node", "ada", "--db", db("a"), "--listen", "127.0.0.1:0")
    local address = a:wait_output("listening on (%S+)")
    a.process.stdin:write(hellos(1, 1))
    a:wait_output("00001")
    local b = nodes.holt_with_input("journal", schema(), "--no-repl", "--node", "bob", "--from-scratch", "--db", db(), "--connect", address)
    b:wait_output("00001")
    b.process.stdin:write(hellos(2, 2))
    b:wait_output("00002")
    a:wait_output("00002")
    a.process.stdin:write(hellos(3, 3))
    b:wait_output("00003")
    b.process.stdin:close()
    b:stop()
    a.process.stdin:close()
    a:stop()
    local out = run("", "log", "--graph", "--db", db())
    local lines = {}
    for line in out:gmatch("[^\n]+") do
      if line:find("Hello") then
        lines[#lines + 1] = line
      end
    end
    assert.same(3, #lines)
    assert.matches("^%*.* ada#%d+ Hello .*00003.* <%- bob#2$", lines[1])
    assert.matches("^| %*.* bob#2 Hello .*00002.* <%- ada#%d+$", lines[2])
    assert.matches("^%*.* ada#%d+ Hello .*00001", lines[3])
    assert.is_nil(lines[3]:find("<-", 1, true))
  end)

  describe("at the network", function()
    local function listen_until(other, ...)
      local program = nodes.holt_with_input("journal", "--codec", "json", "--no-repl", ...)
      program:wait_output("listening on")
      program.process.stdin:write('{"name":"Hello","payload":1}\n')
      program:wait_output('"name":"Hello"')
      program:wait_output(other)
      program.process.stdin:close()
      program:stop()
      return program:output("stdout")
    end

    it("takes a bare port for one of this machine", function()
      local port = nodes.free_port()
      local program = nodes.holt_with_input("journal", "--codec", "json", "--listen", tostring(port))
      assert.same("127.0.0.1:" .. port, program:wait_output("listening on (%S+)"))
      local other = nodes.holt_with_input("journal", "--codec", "json", "--connect", tostring(port))
      other:wait_output("connected to :" .. port)
      other.process.stdin:close()
      other:stop()
      program.process.stdin:close()
      program:stop()
    end)

    it("never announces all interfaces, but what --advertise says", function()
      local out = listen_until("", "--listen", "0.0.0.0:0", "--insecure")
      assert.is_nil(out:find("0.0.0.0", 1, true))
      out = listen_until('"name":"EventPeer"', "--listen", "0.0.0.0:0", "--insecure", "--advertise", "192.0.2.7:7001")
      assert.matches('"addresses":%[{"ip":"192.0.2.7","port":7001}%]', out)
    end)
  end)

  it("tells mistakes without places in its own code", function()
    run(hellos(1, 1), schema(), "--db", db())
    for _, words in ipairs({
      { "--codec", "protobuf" },
      { "--codec", "json", "--name", "a/b" },
      { "export", "--db", db(), "--from", "abc" },
      { "tail", "--db", db(), "--name", ("x"):rep(256) },
    }) do
      local _, talk, code = run("", table.unpack(words))
      assert.is_true(code == 1 or code == 2)
      assert.is_nil(talk:find(".lua:", 1, true), talk)
    end
  end)

  it("remembers schema or codec: another kind in its place is refused, and nothing is written", function()
    run(hellos(1, 1), schema(), "--db", db())
    local _, talk, code = run(hellos(2, 2), "--codec", "json", "--db", db())
    assert.same(1, code)
    assert.matches("has a schema: it cannot be opened with the codec 'json'", talk)
    assert.matches("holt journal export", talk)
    assert.same({ 1 }, counts((run("", "--db", db(), "--from-scratch"))))
    run('{"name":"Hello","payload":{"count":1}}\n', "--codec", "json", "--db", db("other"))
    for _, words in ipairs({ { "--codec", "msgpack" }, { "--schema", schema() } }) do
      words[#words + 1], words[#words + 2] = "--db", db("other")
      _, talk, code = run(hellos(2, 2), table.unpack(words))
      assert.same(1, code)
      assert.matches("has the codec 'json'", talk)
    end
    assert.same({ 1 }, counts((run("", "--db", db("other"), "--from-scratch"))))
    run("", schema(), "--db", db("third")) -- no entry yet: a mistake can be mended
    run('{"name":"Hello","payload":{"count":"text"}}\n', "--codec", "json", "--db", db("third"))
    assert.same({ "text" }, counts((run("", "--db", db("third"), "--from-scratch"))))
  end)

  it("names the journals of the folder when there is none of the wanted name", function()
    run(hellos(1, 1), schema(), "--db", db(), "--name", "shop")
    run(hellos(1, 1), schema(), "--db", db(), "--name", "bank")
    for _, verb in ipairs({ "export", "stats", "verify", "log", "tail" }) do
      local out, talk, code = run("", verb, "--db", db())
      assert.same({ "", 1 }, { out, code })
      assert.matches("no journal 'journal'; there are: bank, shop", talk)
    end
    assert.same({ 1 }, counts((run("", "export", "--db", db(), "--name", "bank"))))
  end)

  it("says what to do when another process has the folder", function()
    local a = nodes.holt_with_input("journal", "--codec", "json", "--db", db(), "--listen", "127.0.0.1:0")
    a:wait_output("listening on")
    local _, talk, code = run("", "export", "--db", db())
    assert.same(1, code)
    assert.matches("in use by another process; stop that one, or give another folder; or look at a copy of the folder", talk)
    a.process.stdin:close()
    a:stop()
  end)

  describe("at a terminal", function()
    local function open_prompt()
      local a = nodes.holt_on_terminal("journal", schema(), "--db", db())
      a.process.stdin:write("print('rea' .. 'dy')\r")
      a:wait_output("ready")
      return a
    end

    local function leave(a)
      a.process.stdin:write("\4")
      local code = a:wait()
      a.process.stdin:close()
      return code
    end

    local function cut_a_loop(a)
      a.process.stdin:write("print('be' .. 'gun') while true do end\r")
      a:wait_output("begun")
      a.process.stdin:write("\3")
      a:wait_output("interrupted")
    end

    it("Ctrl-C ends what holds the loop, and what waits; the prompt goes on", function()
      local a = open_prompt()
      cut_a_loop(a)
      a.process.stdin:write("print('al' .. 'ive') holt.sleep(1000)\r")
      a:wait_output("alive")
      a.process.stdin:write("\3")
      a:wait_output("interrupted.*interrupted")
      a.process.stdin:write("\3") -- hit once more: it is not the prompt that is meant
      nodes.until_true(function() -- the first line may meet it, the signal is slower
        a.process.stdin:write("=6 * 7\r")
        return a:output():find("\n[^\n]*42")
      end)
      nodes.until_true(function() -- it may still come, and drop what is typed
        a.process.stdin:write("\4")
        return not a.process:is_running()
      end)
      assert.same(0, a:wait())
      a.process.stdin:close()
    end)

    it("Ctrl-D while a line is dealt with ends the program behind it", function()
      local a = open_prompt()
      a.process.stdin:write("print('be' .. 'gun') holt.sleep(0.3) print('do' .. 'ne')\r")
      a:wait_output("begun")
      assert.same(0, leave(a))
      assert.matches("done", a:output())
    end)

    it("Ctrl-C at one line means no later one, however long that holds the loop", function()
      local a = open_prompt()
      cut_a_loop(a)
      a.process.stdin:write("local t = holt.now() while holt.now() < t + 2 do end print('do' .. 'ne')\r")
      a:wait_output("done")
      assert.is_nil(a:output():find("interrupted.*interrupted"))
      assert.same(0, leave(a))
    end)

    it("Ctrl-C drops a line that is half typed", function()
      local a = open_prompt()
      a.process.stdin:write("log:e\t") -- which shows that it has been read
      a:wait_output("log:emit%(.*log:events:on%(")
      a.process.stdin:write("\3")
      a:wait_output("%^C")
      a.process.stdin:write("=6 * 7\r")
      a:wait_output("\n[^\n]*42")
      assert.same(0, leave(a))
    end)

    it("ends when the journal is closed", function()
      local a = open_prompt()
      a.process.stdin:write("log:close()\r")
      assert.same(0, (a:wait()))
      assert.matches("the journal is closed", a:output())
      a.process.stdin:close()
    end)

    it("takes the terminal anew when it goes on after Ctrl-Z", function()
      local a = open_prompt()
      a.process.stdin:write('os.execute("stty icanon echo </dev/tty; kill -CONT $PPID")\r')
      nodes.until_true(function()
        a.process.stdin:write("=6 * 7\r") -- a half line is dropped
        return a:output():find("\n[^\n]*42")
      end)
      a.process.stdin:write('=io.popen("stty -a </dev/tty"):read("a"):match(".icanon")\r')
      a:wait_output('"%-icanon"')
      assert.same(0, leave(a))
    end)

    it("tells a mistake once, at the line that was typed", function()
      local a = open_prompt()
      a.process.stdin:write("emit()\r")
      a:wait_output("prompt:1: emit: expected the name of a message")
      a.process.stdin:write('assert(emit("Hello", { from = 7 }))\r')
      a:wait_output("%[schema%]")
      a.process.stdin:write("=6 * 7\r")
      a:wait_output("\n[^\n]*42")
      local _, count = a:output():gsub("%[schema%]", "")
      assert.same(1, count)
      assert.is_nil(a:output():find(".lua:", 1, true))
      assert.same(0, leave(a))
    end)
  end)
end)
