local control = require("holt.control")
local core = require("holt.core")
local json = require("holt.json")
local nodes = require("spec.helper.nodes")

describe("the control socket", function()
nodes.guard(before_each, after_each)

describe("of a running node", function()
  local node, stream

  before_each(function()
    node = nodes.start { name = "n1", script = [[
      local holt = require "holt"
      node = holt.node {}
      got = {}
      node:on("greet.>", function(...) got[#got + 1] = table.pack(holt.event().subject, ...) end)
      function slow(text) holt.sleep(0.05) return text, nil, 3 end
    ]] }
    stream = assert(core.connect("unix:" .. node.control))
  end)
  after_each(function() stream:close() end)

  local function ask(request)
    assert(stream:write(request .. "\n"))
    return json.decode((assert(stream:read_line(5))))
  end

  it("evaluates expressions and statements, with the script's globals", function()
    assert.same({ id = 1, ok = true, value = { 2 } }, ask('{"id":1,"op":"eval","code":"return 1+1"}'))
    assert.same({ id = 2, ok = true, value = { 2 } }, ask('{"id":2,"op":"eval","code":"1+1"}'))
    assert.same({ "n1" }, ask('{"id":3,"op":"eval","code":"node.name"}').value)
    assert.same({}, ask('{"id":4,"op":"eval","code":"shared = 5"}').value)
    assert.same({ 5 }, ask('{"id":5,"op":"eval","code":"shared"}').value)
  end)

  it("lets code block while others are answered, in whatever order", function()
    assert(stream:write('{"id":1,"op":"eval","code":"slow(42)"}\n{"id":2,"op":"eval","code":"1"}\n'))
    assert.same({ id = 2, ok = true, value = { 1 } }, json.decode((stream:read_line(5))))
    assert.same({ id = 1, ok = true, value = { 42, json.null, 3 } }, json.decode((stream:read_line(5))))
  end)

  it("says nil as null, and what JSON cannot say by type and text", function()
    local value = ask('{"id":1,"op":"eval","code":"nil, print, 0/0, {1,{x=true}}, \'\\\\255\'"}').value
    assert.same(json.null, value[1])
    assert.same("function", value[2]["$type"])
    assert.matches("builtin", value[2].text .. "builtin")
    assert.same("float", value[3]["$type"])
    assert.same({ 1, { x = true } }, value[4])
    assert.same("bytes", value[5]["$type"])
  end)

  it("answers errors of the code, of its syntax, and error tables", function()
    local raised = ask('{"id":1,"op":"eval","code":"error(\'no\')"}')
    assert.is_false(raised.ok)
    assert.same("script_error", raised.error.code)
    assert.matches("no$", raised.error.message)
    assert.same("script_error", ask('{"id":2,"op":"eval","code":"return return"}').error.code)
    assert.same("bad_address", ask('{"id":3,"op":"eval","code":"assert(node:listen(\'x\'))"}').error.code)
  end)

  it("answers under the request's number, even when a value's own metamethods raise", function()
    local raised = ask([[{"id":1,"op":"eval","code":"error(setmetatable({}, {__tostring = error}))"}]])
    assert.same({ 1, "script_error" }, { raised.id, raised.error.code })
    local walked = ask([[{"id":2,"op":"eval","code":"setmetatable({a = 1}, {__pairs = error, __len = error, __tostring = error})"}]])
    assert.same({ id = 2, ok = true, value = { { a = 1 } } }, walked)
    local keyed = ask([[{"id":3,"op":"eval","code":"{[setmetatable({}, {__tostring = error})] = 1}"}]])
    assert.same({ id = 3, ok = true, value = { { ["a table whose __tostring raises"] = 1 } } }, keyed)
  end)

  it("answers what it does not understand, and lives on", function()
    assert.same("invalid", ask("this is no JSON").error.code)
    assert.same("invalid", ask("[]").error.code)
    local near = ask('{"id":7,"op":"evall"}')
    assert.same(7, near.id)
    assert.matches("did you mean 'eval'", near.error.message)
    assert.same({ 1 }, ask('{"id":8,"op":"eval","code":"1"}').value)
  end)

  it("tells its status", function()
    local status = ask('{"id":1,"op":"status"}').value
    assert.same("n1", status.name)
    assert.same(node.process:pid(), status.pid)
    assert.same({ node:address() }, status.listen)
    assert.same({}, status.peers)
  end)

  it("speaks for the node that was made last among those that are open", function()
    local code = "(function() other = require('holt').node {} return other:is_open() end)()"
    assert.same({ true }, ask(json.encode { id = 1, op = "eval", code = code }).value)
    assert.not_same("n1", ask('{"id":2,"op":"status"}').value.name)
    ask([[{"id":3,"op":"eval","code":"other:close()"}]])
    assert.same("n1", ask('{"id":4,"op":"status"}').value.name)
    ask([[{"id":5,"op":"emit","subject":"greet.you"}]])
    assert.is_true(ask('{"id":6,"op":"stop"}').value)
    assert.same(0, (node:wait()))
  end)

  it("emits to other nodes", function()
    local other = nodes.start { name = "n2", connect = { node } }
    other:wait_links(1)
    local client = assert(control.connect(other.control))
    assert.is_true(client:request { op = "emit", subject = "greet.you", args = { "Ada", json.null, 3 } })
    client:close()
    assert.same({ "greet.you", "Ada" }, { node:wait_for("got[1]")[1], node:eval("got[1][2]") })
    assert.same(4, node:eval("got[1].n"))
  end)

  it("serves many clients and answers of megabytes", function()
    local clients = {}
    for i = 1, 30 do
      clients[i] = assert(control.connect(node.control))
    end
    for i, client in ipairs(clients) do
      local list = assert(client:request { op = "eval", code = ("('x'):rep(%d << 18)"):format(i % 4 + 1) })
      assert.same((i % 4 + 1) << 18, #list[1])
      client:close()
    end
  end)

  it("stops the node", function()
    assert.is_true(ask('{"id":1,"op":"stop"}').value)
    assert.same(0, (node:wait()))
  end)

  it("is refused to a second node in the same place", function()
    local second = nodes.holt("run", node.script, "--name", "n1", "--control", node.control)
    assert.same(1, (second:wait()))
    assert.matches("a running node answers at .*%-%-name", second:output("stderr"))
  end)
end)
end)
