-- What HyperEmitter's manual, tests and examples show, on real processes: one journal on each node.
local nodes = require("spec.helper.nodes")

local PROTO = [[
syntax = "proto3";
message Hello { string from = 1; }
message Goodbye { string from = 1; int32 hours = 2; }
]]

local SCRIPT = [[
holt = require "holt"
node = holt.node {}
log = assert(node:journal("chat", { schema = arg[1] }))
seen = {}
function note(name)
  return function(message) seen[#seen + 1] = name .. " " .. message.from end
end
function saw(...)
  local wanted = { ... }
  if #seen ~= #wanted then return false end
  local sorted = { table.unpack(seen) }
  table.sort(sorted)
  table.sort(wanted)
  return table.concat(sorted, "|") == table.concat(wanted, "|")
end
]]

describe("a journal in HyperEmitter's manner", function()
  nodes.guard(before_each, after_each)

  local function start(name, given)
    given = given or {}
    given.name = name
    given.script = given.script or SCRIPT
    given.args = { nodes.write("chat.proto", PROTO) }
    if given.data then
      given.flags = { "--data", nodes.folder() .. "/" .. name }
    end
    local node = nodes.start(given)
    node:eval("log:on('Hello', note 'Hello') log:on('Goodbye', note 'Goodbye')")
    return node
  end

  it("works alone: messages are appended and handled, and closing is told", function()
    local a = start("a")
    a:eval("slow = {} log:on('Hello', function(m) holt.sleep(0.05) slow[#slow + 1] = m.from end)")
    assert.same(64, #a:eval("return log:emit('Hello', { from = 'Ada' })"))
    assert.same(64, #a:eval("return log:emit('Goodbye', { from = 'Bob', hours = 2 })"))
    a:wait_for("saw('Hello Ada', 'Goodbye Bob')")
    a:wait_for("slow[1] == 'Ada'")
    a:eval("log.events:on('closed', function() is_closed = true end)")
    assert.is_true(a:eval("return log:close()"))
    a:wait_for("is_closed")
    assert.same({ nil, "closed" }, { a:eval("local hash, err = log:emit('Hello', { from = 'x' }) return hash, err.code") })
  end)

  local FORMS = {
    ["by name"] = "log:register_codec('Hello', codec):register_codec('Goodbye', codec)",
    ["by a table"] = "log:register_codec { Hello = codec, Goodbye = codec }",
    ["by a list"] = "log:register_codec { { name = 'Hello', codec = codec }, { name = 'Goodbye', codec = codec } }",
  }
  for form, code in pairs(FORMS) do
    it("takes codecs of one's own " .. form .. ", without a schema", function()
      local a = nodes.start { name = "a", script = SCRIPT:gsub("{ schema = arg%[1%] }", "{}") }
      a:eval([[
        codec = { encode = function(m) return "<" .. m.from .. ">" end, decode = function(b) return { from = b:sub(2, -2) } end }
        ]] .. code .. [[
        log:on('Hello', note 'Hello') log:on('Goodbye', note 'Goodbye')
        log:emit('Hello', { from = 'Ada' }) log:emit('Goodbye', { from = 'Bob' })]])
      a:wait_for("saw('Hello Ada', 'Goodbye Bob')")
      assert.same("<Ada>", a:eval("for entry in log:read { raw = true, filter = 'Hello' } do return entry.payload end"))
      local ok, problem = a:eval("return pcall(log.register_codec, log, 'Hello', codec)")
      assert.is_false(ok)
      assert.matches("'Hello' has a codec already", problem)
      assert.is_true(a:eval("return (pcall(log.register_codec, log, 'Hello', codec, { replace = true }))"))
    end)
  end

  it("crosses a pair both ways, even what was emitted before the link stood", function()
    local a, b = start("a"), start("b")
    a:eval("log:emit('Hello', { from = 'a' })")
    b:eval("log:emit('Goodbye', { from = 'b' })")
    b:eval(("assert(node:connect(%q))"):format(a:address()))
    a:wait_for("saw('Hello a', 'Goodbye b')")
    b:wait_for("saw('Hello a', 'Goodbye b')")
    a:eval("log:emit('Hello', { from = 'live' })")
    b:wait_for("saw('Hello a', 'Goodbye b', 'Hello live')")
  end)

  it("passes on along three in a row, in causal order", function()
    local a = start("a")
    local b = start("b", { connect = { a } })
    local c = start("c", { connect = { b } })
    a:eval("log:emit('Hello', { from = 'a' })")
    c:wait_for("saw('Hello a')")
    c:eval("log:emit('Goodbye', { from = 'c' })") -- c has seen a's
    a:wait_for("saw('Hello a', 'Goodbye c')")
    a:eval("for i = 1, 20 do log:emit('Hello', { from = tostring(i) }) end")
    c:wait_for("#seen == 22")
    local d = start("d", { connect = { b } })
    d:wait_for([[(function() -- not by its handlers: what came before they were there they do not hear
      local count = 0
      for _ in log:read { filter = { 'Hello', 'Goodbye' } } do count = count + 1 end
      return count == 22
    end)()]])
    for _, node in ipairs { a, b, c, d } do -- also where both came over a link, and where all came at once
      assert.same({ "Hello a", "Goodbye c" }, node:eval([[
        local texts = {}
        for e in log:read { filter = { 'Hello', 'Goodbye' } } do texts[#texts + 1] = e.name .. " " .. e.payload.from end
        return { texts[1], texts[2] }]]))
    end
    assert.same(a:eval("return log:heads()[1].hash"), c:eval("return log:heads()[1].hash"))
  end)

  it("never runs a handler that was taken away; the emit succeeds all the same", function()
    local a = start("a")
    a:eval("count = 0 function f() count = count + 1 end log:on('Hello', f)")
    assert.is_true(a:eval("return log:off('Hello', f)"))
    assert.is_false(a:eval("return log:off('Hello', f)"))
    assert.same(64, #a:eval("return log:emit('Hello', { from = 'Ada' })"))
    a:wait_for("saw('Hello Ada')") -- the other handler of that name
    assert.same(0, a:eval("return count"))
  end)

  it("brings up to date whoever was closed meanwhile", function()
    local a = start("a", { data = true })
    local b = start("b", { data = true })
    b:eval(("assert(node:connect(%q))"):format(a:address()))
    a:eval("log:emit('Hello', { from = '1' })")
    b:wait_for("saw('Hello 1')")
    assert.same(0, b:stop())
    a:eval("log:emit('Hello', { from = '2' }) log:emit('Hello', { from = '3' })")
    a:pause() -- or b, which dials whom it knew, has all of it before its handlers are there
    b:restart()
    b:eval("log:on('Hello', note 'Hello') log.events:on('synced', function(name) synced = name end)")
    b:eval(("assert(node:connect(%q))"):format(a:address()))
    a:resume()
    b:wait_for("saw('Hello 2', 'Hello 3')")
    b:wait_for("log:stats().holders_in_step == 1")
    b:eval("synced = nil require('holt.core').node_peer_reset(node, node:peers()[1].number)") -- the first was perhaps told before
    b:wait_for("synced == 'a'")
  end)

  it("dials whom it knew before, without being told to", function()
    local a = start("a", { data = true })
    local b = start("b", { data = true })
    b:eval(("peer = assert(node:connect(%q))"):format(a:address()))
    b:wait_links(1)
    assert.same({ a:address() }, b:eval("return log:known_peers()"))
    b:stop()
    a:eval("log:emit('Hello', { from = 'meanwhile' })")
    b:restart()
    b:eval("log:on('Hello', note 'Hello')")
    b:wait_for("#log:known_peers() == 1")
    b:wait_for("saw('Hello meanwhile') or log:stats().received > 0")
    b:eval("node:peers()[1]:close()") -- closed on purpose: forgotten
    assert.same(0, b:eval("return #log:known_peers()"))
  end)

  it("dials again when a connection is cut, and goes on", function()
    local a = start("a")
    local b = start("b", { connect = { a } })
    a:eval("log:emit('Hello', { from = '1' })")
    b:wait_for("saw('Hello 1')")
    b:eval("require('holt.core').node_peer_reset(node, node:peers()[1].number)")
    a:eval("log:emit('Hello', { from = '2' })")
    b:wait_for("saw('Hello 1', 'Hello 2')")
  end)

  it("runs no handler for entries from before the start", function()
    local a = start("a", { data = true })
    a:eval("log:emit('Hello', { from = 'old' })")
    a:wait_for("saw('Hello old')")
    a:stop()
    a:restart()
    a:eval("log:on('Hello', note 'Hello') log:emit('Hello', { from = 'new' })")
    a:wait_for("saw('Hello new')")
    assert.same(2, a:eval("local n = 0 for _ in log:read { filter = 'Hello' } do n = n + 1 end return n"))
  end)

  it("is read as a stream: what comes from now on, or from the first entry, nothing twice", function()
    local a = start("a")
    a:eval([[
      function collect(options)
        local list = {}
        holt.go(function() for entry in log:read(options) do list[#list + 1] = entry.payload.from end end)
        return list
      end
      log:emit('Hello', { from = '1' })
      now = collect { from = 'now', follow = true, filter = 'Hello' }
      start = collect { from = 'start', follow = true, filter = 'Hello' }
      log:once('Hello', function() inside = collect { follow = true, filter = 'Hello' } log:emit('Hello', { from = '3' }) end)
      hash = log:emit('Hello', { from = '2' })]])
    a:wait_for("#start == 3")
    a:wait_for("#now == 2 and #inside == 1")
    assert.same({ "1", "2", "3" }, a:eval("return start"))
    assert.same({ "2", "3" }, a:eval("return now"))
    assert.same({ "3" }, a:eval("return inside"))
    assert.same({ "2", "3" }, a:eval([[
      local l = {}
      for e in log:read { from = hash, filter = 'Hello' } do l[#l + 1] = e.payload.from end
      return l]]))
  end)

  it("takes what a stream gives and emits it", function()
    local a, b = start("a"), start("b")
    a:eval("log:emit('Hello', { from = 'x' }) log:emit('Goodbye', { from = 'y', hours = 3 })")
    local list = a:eval([[
      local l = {}
      for e in log:read { filter = { 'Hello', 'Goodbye' } } do l[#l + 1] = { name = e.name, payload = e.payload } end
      return l]])
    for _, entry in ipairs(list) do
      b:eval(("assert(log:emit(%q, { from = %q }))"):format(entry.name, entry.payload.from))
    end
    b:wait_for("saw('Hello x', 'Goodbye y')")
  end)

  it("announces where it listens, once, and again only when that differs", function()
    local port = nodes.free_port()
    local a = start("a", { data = true, listen = "127.0.0.1:" .. port })
    a:wait_for("(function() for e in log:read { filter = 'EventPeer' } do announced = e.payload.addresses[1].port return true end end)()")
    assert.same(port, a:eval("return announced"))
    a:stop()
    a:restart()
    a:eval("log:emit('Hello', { from = 'x' })") -- whatever was to be announced was emitted before
    assert.same(1, a:eval("local n = 0 for e in log:read { filter = 'EventPeer' } do n = n + 1 end return n"))
    assert.same(a:eval("return log.id"), a:eval("for e in log:read { filter = 'EventPeer' } do return e.payload.id end"))
    assert.is_true(a:eval("return (node:listen('127.0.0.1:0'))"))
    a:wait_for([[(function()
      local n = 0
      for e in log:read { filter = 'EventPeer' } do n = n + #e.payload.addresses end
      return n == 3
    end)()]])
  end)

  it("hands an EventPeer of another to handlers, like any entry", function()
    local a = start("a")
    a:eval([[log:on('EventPeer', function(m)
      if m.id ~= log.id then -- its own may come before or after
        peers, id = (peers or 0) + 1, m.id
      end
    end)]])
    local b = start("b", { connect = { a } })
    a:wait_for("peers == 1")
    assert.same(b:eval("return log.id"), a:eval("return id"))
  end)

  it("handles equal messages each time", function()
    local a = start("a")
    local first = a:eval("return log:emit('Hello', { from = 'same' })")
    local second = a:eval("return log:emit('Hello', { from = 'same' })")
    assert.are_not.same(first, second)
    a:wait_for("saw('Hello same', 'Hello same')")
  end)

  it("refuses a message that does not fit, naming its field, and a name that is its own", function()
    local a = start("a")
    local hash, code, text = a:eval("local h, e = log:emit('Goodbye', { from = 'x', hours = 'two' }) return h, e.code, e.message")
    assert.is_nil(hash)
    assert.same("schema", code)
    assert.matches("hours", text)
    assert.same("schema", a:eval("local _, e = log:emit('Helo', {}) return e.code"))
    assert.same("schema", a:eval("local _, e = log:emit('EventPeer', {}) return e.code"))
    assert.same(0, a:eval("local n = 0 for _ in log:read { filter = { 'Hello', 'Goodbye' } } do n = n + 1 end return n"))
  end)

  it("encodes and decodes by the name of a message", function()
    local a = start("a")
    assert.same("Ada", a:eval("return log.messages.Hello.decode(log.messages.Hello.encode { from = 'Ada' }).from"))
    a:eval("all = {} for name in pairs(log.messages) do all[#all + 1] = name end")
    assert.same({ "EventPeer", "Goodbye", "Hello" }, a:eval("return all"))
  end)

  it("keeps its id in the data directory, and a process holds several journals", function()
    local a = start("a", { data = true })
    local id = a:eval("return log.id")
    assert.same(64, #id)
    a:eval("other = assert(node:journal('other', { codec = 'json' })) other:emit('X', { 1 })")
    assert.same(1, a:eval("local n = 0 for e in other:read { filter = 'X' } do n = n + 1 end return n"))
    assert.is_true(a:eval("return log:ready(1)"))
    a:stop()
    a:restart()
    assert.same(id, a:eval("return log.id"))
  end)
end)
