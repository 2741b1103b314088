local core = require("holt.core")
local json = require("holt.json")
local nodes = require("spec.helper.nodes")

local SCRIPT = [[
  local holt = require "holt"
  local others = {}
  for address in (arg[1] or ""):gmatch("[^,]+") do others[#others + 1] = address end
  node = holt.node { connect = others, cluster = { name = "shell", members = MEMBERS, election_timeout = 0.3, heartbeat = 0.03 } }
]]

-- Three processes that form one cluster.
local function start(count)
  local list, addresses = {}, {}
  for i = 1, count do
    list[i] = nodes.start({
      name = "n" .. i,
      script = SCRIPT:gsub("MEMBERS", count),
      args = { table.concat(addresses, ",") },
    })
    addresses[i] = list[i]:address()
  end
  for _, node in ipairs(list) do
    assert.is_true(node:eval("assert(node:ready(20))"))
  end
  return list
end

local function shell(node, ...)
  local words = { ... }
  words[#words + 1] = "--control=" .. node.control
  local program = nodes.holt(table.unpack(words))
  local code = program:wait()
  return code, program:output("stdout"), program:output("stderr")
end

describe("the shell", function()
  nodes.guard(before_each, after_each)

  it("reads and writes the shared objects of a running node", function()
    local node = start(1)[1]
    assert.same({ 0, "", "" }, { shell(node, "set", "stock", "apple", "10") })
    assert.same({ 0, "10", "" }, { shell(node, "get", "stock", "apple") })
    assert.equal("integer", node:eval("return math.type(node:map('stock'):get('apple'))"))
    assert.same({ 0, "", "" }, { shell(node, "set", "stock", "pear", '{"qty":3}') })
    assert.equal(3, node:eval("return node:map('stock'):get('pear').qty"))
    assert.equal(0, (shell(node, "set", "stock", "7", "x", "--json-key")))
    assert.equal("x", node:eval("return node:map('stock'):get(7)"))
    assert.same({ 1, "", "holt: 'stock' has nothing under plum" }, { shell(node, "get", "stock", "plum") })
    assert.same(
      { 1, "", "holt: 'stock' has nothing under the text '7'; is the key no text? give --json-key" },
      { shell(node, "get", "stock", "7") }
    )
    assert.equal("7\npear\napple", select(2, shell(node, "keys", "stock")))
    assert.same({ 0, "", "" }, { shell(node, "push", "jobs", "a", "[1]") })
    assert.same({ 0, "a", "" }, { shell(node, "get", "jobs") })
    assert.same({ 0, "a", "" }, { shell(node, "pop", "jobs") })
    assert.same({ 0, "[1]", "" }, { shell(node, "pop", "jobs", "--wait", "5") })
    assert.same({ 1, "", "holt: queue 'jobs' is empty" }, { shell(node, "pop", "jobs") })
    assert.matches("map +3  stock\nqueue +0  jobs", select(2, shell(node, "keys")))
    local code, _, said = shell(node, "push", "stock", "x")
    assert.equal(1, code)
    assert.matches("'stock' is a map, not a queue", said)
  end)

  it("says which node it cannot reach, and what was left out", function()
    local program = nodes.holt("get", "stock", "--node", "nobody-here")
    assert.equal(1, program:wait())
    assert.matches("^holt: node nobody%-here does not answer at .*; is it started%? %-%-node takes its name", program:output("stderr"))
    for _, given in ipairs({ false, "" }) do
      program = nodes.holt_with({ HOLT_NAME = given, HOLT_CONTROL = given }, "get", "stock")
      assert.equal(2, program:wait())
      assert.matches("which node", program:output("stderr"))
    end
  end)

  it("leaves nothing behind on the node: no handle, and no queue of a name that was mistyped", function()
    local node = start(1)[1]
    assert.is_true(node:eval([[
      local e = node:emitter("e")
      return node:map("m"):set("a", 1) and node:queue("q"):push(1) and node:record("r"):set("f", 1) and e:subscribe("x", print)
        and e:unsubscribe("x") and node:map("m"):close() and node:queue("q"):close() and node:record("r"):close() and e:close()]]))
    for _, line in ipairs { "get m a", "keys m", "get r f", "set r f 2", "keys e", "push q 1", "pop q" } do
      local words = {}
      for word in line:gmatch("%S+") do
        words[#words + 1] = word
      end
      assert.same({ line, 0 }, { line, (shell(node, table.unpack(words))) })
    end
    assert.same({ 1, "", "holt: there is no object 'quueue' [not_found]" }, { shell(node, "pop", "quueue") })
    assert.same({ 1, "", "holt: which object? give its name [invalid]" }, { shell(node, "set", "", "a", "1") })
    assert.same("emitter e, map m, queue q, record r", node:eval([[
      local list = {}
      for i, object in ipairs(node:objects()) do list[i] = object.kind .. " " .. object.name end
      table.sort(list)
      return table.concat(list, ", ")]]))
    assert.is_nil(node:eval("return (next(node.objects_open))"))
    assert.is_true(node:eval("return node:map('quueue'):set('a', 1)"))
  end)

  it("says that it does not know whether something was done when the node ends before it has answered", function()
    local path = nodes.folder() .. "/half.sock"
    local listener = assert(core.listen("unix:" .. path))
    core.go(function()
      for _ = 1, 4 do
        local client = listener:accept()
        client:read_line()
        client:close()
      end
      listener:close()
    end)
    local half = { control = path }
    for _, words in ipairs({ { "set", "m", "a", "1" }, { "push", "q", "1" }, { "pop", "q" } }) do
      local code, out, said = shell(half, table.unpack(words))
      assert.same({ words[1], 6, "" }, { words[1], code, out })
      assert.matches("whether it was done is unknown", said)
    end
    local code, _, said = shell(half, "get", "m", "a")
    assert.same({ 1, "holt: no answer: the node ended [end_of_stream]" }, { code, said })
  end)
end)

describe("three processes", function()
  nodes.guard(before_each, after_each)

  it("form one cluster, show it to the shell, lose their leader and go on, and say so without a majority", function()
    local list = start(3)
    local _, out = shell(list[1], "status")
    assert.matches("cluster +shell +member, role %l+, term %d+, leader n%d", out)
    assert.matches("quorum +yes", out)
    local status = json.decode(select(2, shell(list[2], "status", "--json")))
    assert.equal(3, #status.members)
    assert.equal(0, (shell(list[3], "set", "stock", "apple", "1")))
    for _, node in ipairs(list) do
      assert.same({ 0, "1", "" }, { shell(node, "get", "stock", "apple") })
    end
    local leader
    for i, node in ipairs(list) do
      if node.name == status.leader then
        leader = table.remove(list, i)
        break
      end
    end
    leader:kill()
    local before = core.now()
    assert.same({ 0, "", "" }, { shell(list[1], "set", "stock", "apple", "2", "--timeout", "10") })
    assert.is_true(core.now() - before < 10)
    assert.same({ 0, "2", "" }, { shell(list[2], "get", "stock", "apple", "--timeout", "10") })
    list[2]:kill()
    local code = shell(list[1], "set", "stock", "apple", "3", "--timeout", "1")
    assert.is_true(code == 3 or code == 6)
    local later, _, said = shell(list[1], "set", "stock", "apple", "3", "--timeout", "1")
    assert.equal(3, later)
    assert.matches("no_quorum", said)
    assert.same({ 0, "2", "" }, { shell(list[1], "get", "stock", "apple", "--local") })
    nodes.until_true(function()
      _, out = shell(list[1], "status")
      return out:find("quorum +NO for [1-9]")
    end)
    local first, second = out:match("quorum +NO for %d+ s; missing: (n%d) for %d+ s, (n%d) for %d+ s\n")
    local names = { first, second }
    table.sort(names)
    local gone = { leader.name, list[2].name }
    table.sort(gone)
    assert.same(gone, names)
    for _, name in ipairs(gone) do
      assert.matches("member +" .. name .. " +voter +%S+ +[^\n]*not connected", out)
    end
  end)

  it("show the shell one line a link, also of two nodes that dial each other", function()
    local a = nodes.start({ name = "a" })
    local b = nodes.start({ name = "b", connect = { a } })
    a:wait_links(1)
    a:eval(("node:connect(%q)"):format(b:address()))
    a:wait_for([[(function()
      local up = 0
      for _, peer in ipairs(node:status().peers) do up = up + (peer.name == "b" and peer.up and 1 or 0) end
      return up == 2
    end)()]])
    local links = {}
    for line in select(2, shell(a, "status")):gmatch("link[^\n]*") do
      links[#links + 1] = line
    end
    assert.same({ "link     b " .. b:address() .. " up" }, links)
  end)

  it("show the shell who lags and since when, at the leader", function()
    local list = start(3)
    local leader = json.decode(select(2, shell(list[1], "status", "--json"))).leader
    local slow, others
    for i, node in ipairs(list) do
      if node.name ~= leader then
        slow, others = node, { list[i % 3 + 1], list[(i + 1) % 3 + 1] }
      end
    end
    slow:pause()
    for i = 1, 3 do
      assert.equal(0, (shell(others[i % 2 + 1], "set", "stock", "k" .. i, "1", "--timeout", "10")))
    end
    local out
    nodes.until_true(function()
      for _, node in ipairs(others) do -- one of them leads; after a while the link is given up
        out = select(2, shell(node, "status"))
        local line = out:match("member +" .. slow.name .. " [^\n]*") or ""
        if line:find("%d+ behind") and (line:find("silent for [1-9]%d* s") or line:find("not connected for [1-9]%d* s")) then
          return out
        end
      end
    end, nil, function()
      return out
    end)
    local named = select(2, out:gsub("silent for", "")) + select(2, out:gsub("not connected for", ""))
    assert.equal(1, named, out)
    slow:resume()
  end)

  it("answer the shell from what is confirmed: no object that a majority does not know is missed or made up", function()
    local lone = nodes.start({ name = "lone", script = SCRIPT:gsub("MEMBERS", "3") }) -- the others never come
    for _, line in ipairs { "get m a", "keys m", "keys", "pop q", "push q x", "set m a 1" } do
      local words = { "--timeout", "0.3" }
      for word in line:gmatch("%S+") do
        table.insert(words, #words - 1, word)
      end
      local code, out, said = shell(lone, table.unpack(words))
      assert.same({ line, 3, "" }, { line, code, out })
      assert.matches("no_quorum", said)
    end
    assert.same({ 0, "", "" }, { shell(lone, "keys", "--local") })
    assert.same({ 1, "", "holt: there is no object 'm' here [not_found]" }, { shell(lone, "get", "m", "a", "--local") })
    lone:kill()
    local list = start(3)
    assert.same({ 0, "", "" }, { shell(list[1], "push", "q", "x") })
    local code, _, said = shell(list[1], "get", "nothing")
    assert.same({ 1, "holt: there is no object 'nothing' [not_found]" }, { code, said })
    assert.is_true(list[1]:eval("return node:emitter('e'):subscribe('x', print)"))
    code, _, said = shell(list[2], "get", "e")
    assert.equal(1, code)
    assert.matches("'e' is an emitter, not a map or a record or a queue", said)
    list[1]:eval("return (node:queue('q', { request_timeout = 1000 })) ~= nil")
    list[2]:kill()
    list[3]:kill()
    for _, words in ipairs({ { "push", "q", "y" }, { "push", "q", "y", "z" }, { "pop", "q" } }) do -- in the time that the shell gives
      words[#words + 1] = "--timeout=0.3"
      code, _, said = shell(list[1], table.unpack(words))
      assert.is_true(code == 3 or code == 6)
      assert.not_matches("no answer", said)
    end
  end)

  it("hand leadership over and take out one that is gone, by the shell", function()
    local list = start(3)
    local leader = json.decode(select(2, shell(list[1], "status", "--json"))).leader
    local next_name = leader == "n1" and "n2" or "n1"
    assert.same({ 0, "", "" }, { shell(list[3], "member", "transfer", next_name, "--timeout", "5") })
    nodes.until_true(function()
      return list[3]:eval("return node:leader()") == next_name
    end)
    local gone = next_name == "n2" and list[1] or list[2]
    gone:kill()
    local rest = gone == list[1] and list[2] or list[1]
    assert.same({ 0, "", "" }, { shell(rest, "member", "remove", gone.name, "--timeout", "10") })
    local _, out = shell(rest, "member")
    assert.is_nil(out:find(gone.name, 1, true))
    assert.matches("leader", out)
  end)
end)
