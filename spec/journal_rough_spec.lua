-- holt journal by somebody who mistypes, redirects, and fills disks: it says what is wrong, and never that all went well.
local cli = require("spec.helper.journal_cli")
local nodes = require("spec.helper.nodes")

local EXECUTABLE = nodes.executable:sub(1, 1) == "/" and nodes.executable or os.getenv("PWD") .. "/" .. nodes.executable
local PROTO = [[
syntax = "proto3";
package shop;
message Hello { string from = 1; int32 count = 2; }
message Other { string text = 1; }
]]

describe("holt journal, used roughly,", function()
  nodes.guard(before_each, after_each)

  local function schema()
    return nodes.write("hello.proto", PROTO)
  end

  local function path(name)
    return nodes.folder() .. "/" .. name
  end

  local function exists(name)
    local file = io.open(path(name))
    return file and file:close() or false
  end

  local function quoted(words)
    local list = {}
    for i, word in ipairs(words) do
      list[i] = "'" .. word:gsub("'", "'\\''") .. "'"
    end
    return table.concat(list, " ")
  end

  -- `holt journal WORDS` in a shell, with its redirections; everything it prints, and its exit code.
  local function shell(redirections, ...)
    local command = ("cd %s; %s journal %s %s; echo \"exit $?\""):format(quoted { nodes.folder() }, quoted { EXECUTABLE },
      quoted { ... }, redirections)
    local pipe <close> = assert(io.popen("timeout 60 sh -c " .. quoted { command } .. " 2>&1"))
    local text = pipe:read("a")
    return text, tonumber(text:match("exit (%d+)\n$"))
  end

  local function fill(count)
    nodes.write("in.ndjson", cli.hellos(1, count))
    local text, code = shell("</dev/null", "import", "in.ndjson", "--db", "db", "--schema", schema())
    assert.same({ "holt: " .. count .. " written, 0 refused, 0 skipped\nexit 0\n", 0 }, { text, code })
  end

  it("never says that what could not be printed was", function()
    fill(3)
    for _, words in ipairs({ { "export" }, { "tail" }, { "stats" }, { "log" }, { "verify" }, { "--from-scratch" } }) do
      words[#words + 1] = "--db=db"
      local text, code = shell("</dev/null 2>talk >/dev/full; code=$?; cat talk; (exit $code)", table.unpack(words))
      assert.same({ words[1], 1 }, { words[1], code })
      assert.matches("cannot write to standard output: No space left on device", text, 1, true)
    end
    assert.matches('"count":1,', (shell("</dev/null", "--db", "db")), 1, true) -- the cursor has not moved
  end)

  it("ends when its input has ended and nobody reads its output any more", function()
    fill(3000) -- more than a pipe takes
    local text = shell("</dev/null | (sleep 1; head -1)", "--db", "db", "--from-scratch")
    assert.same('{"name":"Hello","payload":{"count":1,"from":"entry number 00001"}}\nexit 0\n', text)
  end)

  it("takes a standard stream that is closed for one that leads nowhere", function()
    fill(1)
    for _, redirection in ipairs({ ">&- </dev/null", "2>&- </dev/null", "<&-", "<&- >&- 2>&-" }) do
      local text, code = shell(redirection, "--db", "db", "--cursor", redirection)
      assert.same({ "exit 0\n", 0 }, { text, code })
    end
    assert.same("2 entries are in order\nexit 0\n", (shell("", "verify", "--db", "db")))
  end)

  it("prints lines and no prompt when its output is no terminal, though its input is one", function()
    fill(1)
    local command = quoted { quoted { EXECUTABLE } .. " journal --db db --from-scratch | cat" }
    local pipe <close> = assert(io.popen(("cd %s; timeout 60 script -qefc %s /dev/null </dev/null"):format(nodes.folder(), command)))
    local text = pipe:read("a")
    assert.matches('{"name":"Hello","payload":{"count":1,"from":"entry number 00001"}}', text, 1, true)
    assert.is_nil(text:find("> ", 1, true))
  end)

  it("leaves nothing behind where there was no journal and no schema to make one with", function()
    for _, words in ipairs({ { "--db", "typo" }, { "import", "-", "--db", "typo" } }) do
      local text, code = shell("</dev/null", table.unpack(words))
      assert.same(2, code)
      assert.matches("typo holds no journal yet", text, 1, true)
      assert.matches("Missing schema", text, 1, true)
      assert.is_false(exists("typo"))
    end
  end)

  it("refuses a folder without a name, which would be one at the root of the disk", function()
    for _, words in ipairs({ { schema(), "--db", "" }, { "stats", "--db=" }, { "import", "-", "--db", "" } }) do
      local text, code = shell("</dev/null", table.unpack(words))
      assert.same({ words[1], 2 }, { words[1], code })
      assert.matches("--db", text, 1, true)
    end
  end)

  it("offers memory in place of a folder only where it is taken", function()
    for _, verb in ipairs({ "tail", "export", "import", "verify", "log", "stats", "check", "compact" }) do
      local text = shell("", verb, "--help")
      assert.same({ verb, verb == "tail" }, { verb, text:find("--db FOLDER[^\n]*%(in memory%)") ~= nil })
    end
  end)

  it("says what there is when a word is neither a file nor a verb", function()
    local text, code = shell("</dev/null", "get", "--db", "db")
    assert.same(2, code)
    assert.matches("^holt: there is no file and no verb 'get'; verbs are: tail, export, import, ", text)
  end)

  describe("import", function()
    it("wants a folder: memory would lose all of it", function()
      nodes.write("in.ndjson", cli.hellos(1, 3))
      local text, code = shell("", "import", "in.ndjson", "--schema", schema())
      assert.same(2, code)
      assert.matches("--db FOLDER", text, 1, true)
    end)

    it("says once that a journal without a schema takes no lines", function()
      nodes.start({ name = "a", listen = false, flags = { "--data", path("db") }, script = [[
        node = require("holt").node {}
        log = assert(node:journal("journal", {}))
        assert(log:emit("A", "bytes"))]] }):stop()
      nodes.write("in.ndjson", cli.hellos(1, 3))
      local text, code = shell("", "import", "in.ndjson", "--db", "db")
      assert.same(2, code)
      assert.same(1, select(2, text:gsub("Missing schema", "")))
    end)

    it("does not take a folder for an empty file", function()
      local text, code = shell("", "import", ".", "--db", "db", "--schema", schema())
      assert.same({ "holt: cannot read .: Is a directory\nexit 1\n", 1 }, { text, code })
    end)
  end)

  describe("export and tail", function()
    it("name a message of the schema by its full name too, and refuse one that it has not", function()
      fill(2)
      for _, verb in ipairs({ "export", "tail" }) do
        local text, code = shell("", verb, "--db", "db", "--only", "shop.Hello")
        assert.same(0, code)
        assert.same(2, select(2, text:gsub('"name":"Hello"', "")))
        text, code = shell("", verb, "--db", "db", "--only", "Helo")
        assert.same(5, code)
        assert.matches("Hello", text, 1, true)
      end
    end)

    it("say what --from takes, and where hashes are shown", function()
      fill(1)
      local text, code = shell("", "export", "--db", "db", "--from", "2f6a")
      assert.same(2, code)
      assert.matches("--from takes a whole hash, 64 hexadecimal digits", text, 1, true)
      assert.matches("--meta", text, 1, true)
    end)
  end)

  it("check tells a damaged entry, and accepts nothing then", function()
    fill(3)
    local file <close> = assert(io.open(path("db/journal/data.mdb"), "r+b"))
    local bytes, at = file:read("a"), 0
    while true do
      at = bytes:find("entry number 00002", at + 1, true)
      if not at then
        break
      end
      file:seek("set", at - 1)
      file:write("E")
    end
    file:flush()
    local text, code = shell("", "check", schema(), "--db", "db", "--accept")
    assert.same(1, code)
    assert.matches("damaged", text, 1, true)
  end)

  it("refuses an --advertise that is no address", function()
    local text, code = shell("</dev/null", schema(), "--db", "db", "--advertise", "shop.example")
    assert.same(1, code)
    assert.matches("'shop.example' is not an address: write host:port", text, 1, true)
  end)

  it("says once that it cannot connect", function()
    local text, code = shell("</dev/null", schema(), "--db", "db", "--connect", "127.0.0.1:1")
    assert.same(1, code)
    assert.matches("holt: cannot connect to 127.0.0.1:1: connection refused; start the other side first", text, 1, true)
  end)
end)
