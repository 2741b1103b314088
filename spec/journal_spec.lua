-- Journals of scripts: writing, handlers, readers, cursors, and what goes wrong, on real processes.
local files = require("spec.helper.files")
local nodes = require("spec.helper.nodes")

local SCRIPT = [[
holt = require "holt"
node = holt.node {}
log = assert(node:journal("events", { codec = "json" }))
got = {}
function gather(name, options)
  log:on(name, function(message, entry) got[#got + 1] = message end, options)
end
function names(options)
  local list = {}
  for entry in log:read(options) do list[#list + 1] = entry.name end
  return table.concat(list, " ")
end
function fails(f, ...)
  local ok, err = pcall(f, ...)
  return not ok and (type(err) == "table" and err.code or tostring(err)) or nil
end
]]

describe("a journal", function()
  nodes.guard(before_each, after_each)

  local function start(name, given)
    given = given or {}
    given.name = name or "a"
    given.script = given.script or SCRIPT
    given.flags = given.flags or { "--data", nodes.folder() .. "/" .. given.name }
    given.listen = given.listen or false
    return nodes.start(given)
  end

  describe("is written", function()
    it("by emit, which returns the hash under which the entry is found everywhere", function()
      local a = start()
      local hash = a:eval("return log:emit('A', { n = 1 })")
      assert.matches("^%x+$", hash)
      local entry = a:eval(([[
        local e = log:get(%q)
        return { e.name, e.payload.n, e.node, e.holder == log.id, e.hash, e.time > 1.6e9 }]]):format(hash))
      assert.same({ "A", 1, "a", true, hash, true }, entry)
      assert.same("not_found", a:eval("local _, err = log:get(('0'):rep(64)) return err.code"))
    end)

    it("by 64 callers at once; every hash is another one, and the order is that of the emits", function()
      local a = start()
      a:eval([[
        hashes, count = {}, 0
        local tasks = {}
        for i = 1, 64 do
          tasks[i] = holt.go(function()
            for k = 1, 20 do
              local hash = assert(log:emit("A", { caller = i, k = k }))
              if not hashes[hash] then count = count + 1 end
              hashes[hash] = true
            end
          end)
        end
        for _, task in ipairs(tasks) do task:join() end]])
      assert.same(1280, a:eval("return count"))
      assert.is_true(a:eval([[
        local last = {}
        for entry in log:read { filter = "A" } do
          local m = entry.payload
          if m.k ~= (last[m.caller] or 0) + 1 then return false end
          last[m.caller] = m.k
        end
        return true]]))
    end)

    it("durably: what emit returned is there after SIGKILL", function()
      local a = start()
      a:eval("holt.go(function() n = 0 while true do assert(log:emit('A', { n = n + 1 })) n = n + 1 end end)")
      a:wait_for("n > 50")
      local returned = a:eval("return n")
      a:kill()
      a:restart()
      local kept, is_whole = a:eval([[
        local last, whole = 0, true
        for e in log:read { filter = "A" } do whole = whole and e.payload.n == last + 1 last = e.payload.n end
        return last, whole]])
      assert.is_true(kept >= returned)
      assert.is_true(is_whole)
      assert.is_true(a:eval("return (log:verify())"))
    end)

    it("at other holders too, when asked to; too few in time is told, with the hash", function()
      local a = start("a", { listen = "127.0.0.1:0" })
      local code, hash, holders = a:eval([[
        local _, e = log:emit('A', { 1 }, { holders = 1, timeout = 0.1 })
        return e.code, e.hash, e.holders]])
      assert.same({ "timeout", 64, 0 }, { code, #hash, holders })
      local b = start("b", { connect = { a } })
      a:wait_links(1)
      local second = a:eval("return log:emit('A', { 2 }, { holders = 1, timeout = 20 })")
      assert.same(second, b:eval(("return log:get(%q).hash"):format(second)))
    end)

    it("tells an emit that is open at the close what became of its entry", function()
      local a = start()
      a:eval([[
        holt.go(function()
          local ok, e = log:emit("A", 1, { holders = 1, timeout = 60 })
          io.stderr:write(("told: %s %s %s %s %s\n"):format(ok, e.code, e.hash, e.holders, e.message))
        end)
        log:emit("A", 2)]])
      a:stop()
      local hash = a:output():match("told: nil closed (%x+) 0 emit: closed; it is on the disk here")
      assert.is_truthy(hash, a:output())
      a:restart()
      assert.same(1, a:eval(("return log:get(%q).payload"):format(hash)))
      assert.same("A A", a:eval("return names { filter = 'A' }"))
    end)

    it("refuses misuse at the caller's line, and what is too large or closed with an error", function()
      local a = start()
      assert.matches("expected the name of a message, got number", a:eval("return fails(log.emit, log, 1)"))
      assert.matches("unknown option 'holder', did you mean 'holders'", a:eval("return fails(log.emit, log, 'A', {}, { holder = 1 })"))
      assert.same("too_large", a:eval("local _, e = log:emit('A', ('x'):rep(2000000)) return e.code"))
      assert.same("codec", a:eval("local _, e = log:emit('A', print) return e.code"))
      assert.same("schema", a:eval("local _, e = log:emit('', {}) return e.code"))
      a:eval("log:close()")
      assert.same("closed", a:eval("local _, e = log:emit('A', {}) return e.code"))
      assert.same("closed", a:eval("return fails(log.read, log)"))
    end)
  end)

  describe("is opened", function()
    it("once a name: the same options give the same journal, others are a mistake", function()
      local a = start()
      assert.is_true(a:eval("return node:journal('events') == log and node:journal('events', { codec = 'json' }) == log"))
      assert.matches("open already, with another option 'codec'", a:eval("return fails(node.journal, node, 'events', { codec = 'raw' })"))
      assert.matches("unknown option 'scheme', did you mean 'schema'", a:eval("return fails(node.journal, node, 'x', { scheme = 'x' })"))
      assert.matches("option 'keep': unknown option 'entry'", a:eval("return fails(node.journal, node, 'x', { keep = { entry = 1 } })"))
      assert.matches("'authors' lists ids", a:eval("return fails(node.journal, node, 'x', { authors = { 'ada' } })"))
      assert.matches("a name is a string", a:eval("return fails(node.journal, node, 'a/b')"))
    end)

    it("by one process only: a second is told so", function()
      local a = start()
      local b = start("b", {
        script = SCRIPT:gsub("log = assert%b()", "log, problem = node:journal('events', { codec = 'json' })"),
        flags = { "--data", nodes.folder() .. "/a" },
      })
      assert.same("locked", b:eval("return problem.code"))
      assert.is_true(a:eval("return log:ready()"))
    end)

    it("anew after close, in the same process", function()
      local a = start()
      a:eval("log:emit('A', { 1 }) log:close() log = assert(node:journal('events'))")
      assert.same(1, a:eval("for e in log:read { filter = 'A' } do return e.payload[1] end"))
    end)
  end)

  describe("is handled", function()
    it("by each handler at its own pace: a slow one holds up nobody", function()
      local a = start()
      a:eval([[
        gate = require("holt.core").gate()
        slow = {}
        log:on("A", function(m) gate:wait() slow[#slow + 1] = m end)
        gather("A")
        for i = 1, 600 do holt.go(log.emit, log, "A", i) end]])
      a:wait_for("#got == 600")
      assert.same(0, a:eval("return #slow"))
      a:eval("gate:open()")
      a:wait_for("#slow == 600")
      assert.is_true(a:eval("for i = 1, 600 do if slow[i] ~= i then return false end end return true"))
    end)

    it("once, by once; and never again after off, not even by the handler that takes itself away", function()
      local a = start()
      a:eval([[
        log:once("A", function() ones = (ones or 0) + 1 end)
        local function f() twos = (twos or 0) + 1 log:off("A", f) end
        log:on("A", f)
        gather("A")
        for i = 1, 3 do log:emit("A", i) end]])
      a:wait_for("#got == 3")
      assert.same({ 1, 1 }, { a:eval("return ones, twos") })
      assert.is_false(a:eval("return log:off('B')"))
    end)

    it("with a cursor from where it stopped, also over a restart; what it was at comes again", function()
      local a = start()
      a:eval("for i = 1, 3 do log:emit('A', i) end gather('A', { cursor = 'audit' })")
      a:wait_for("#got == 3")
      a:eval("log:on('B', function() stuck = true holt.sleep(100) end, { cursor = 'b' }) log:emit('B', 1)")
      a:wait_for("stuck")
      a:stop()
      a:restart()
      a:eval("log:emit('A', 4) gather('A', { cursor = 'audit' }) gather('B', { cursor = 'b' })")
      a:wait_for("#got == 2")
      local first, second = a:eval("return got[1], got[2]")
      assert.same(5, first + second) -- 4 for A, and 1 for B again
    end)

    it("again when it raised, with a cursor; each time is an error event", function()
      local a = start()
      a:eval([[
        problems = {}
        log.events:on("error", function(err) problems[#problems + 1] = { err.message, err.attempt, err.traceback ~= nil } end)
        local tries = 0
        log:on("A", function(m) tries = tries + 1 if tries < 3 then error("not yet") end got[#got + 1] = m end, { cursor = "c" })
        log:emit("A", "x") log:emit("A", "y")]])
      a:wait_for("#got == 2")
      assert.same({ "x", "y" }, a:eval("return got"))
      local problems = a:eval("return problems")
      assert.same(2, #problems)
      assert.matches("not yet", problems[1][1])
      assert.same({ 2, true }, { problems[2][2], problems[2][3] })
    end)

    it("and left behind after its retries, which is told; without a cursor at once", function()
      local a = start()
      a:eval([[
        log.events:on("error", function() errors = (errors or 0) + 1 end)
        log.events:on("skipped", function(entry, err) skipped = entry.payload end)
        log:on("A", function(m) if m == "bad" then error("never") end got[#got + 1] = m end, { cursor = "c", retries = 1 })
        log:emit("A", "bad") log:emit("A", "good")]])
      a:wait_for("got[1] == 'good' and skipped == 'bad' and errors == 2")
      a:eval([[
        log:off("A")
        log:on("B", function(m) if m == "bad" then error("never") end got[#got + 1] = m end)
        log:emit("B", "bad") log:emit("B", "fine")]])
      a:wait_for("got[2] == 'fine' and errors == 3")
    end)

    it("never by two with one cursor, which would each skip the other's entries", function()
      local a = start()
      a:eval("gather('A', { cursor = 'c' })")
      assert.matches("the cursor 'c' is moved by log:on already", a:eval("return fails(log.on, log, 'B', print, { cursor = 'c' })"))
      assert.matches("the cursor 'c' is moved", a:eval("return fails(log.read, log, { cursor = 'c' })"))
      a:eval("log:off('A')")
      assert.same("", a:eval("return names { cursor = 'c', filter = 'none' }"))
    end)
  end)

  describe("is read", function()
    it("from any place", function()
      local a = start()
      a:eval("log:emit('A', 1) hash = log:emit('B', 2) log:emit('C', 3)")
      assert.same("A B C", a:eval("return names {}"))
      assert.same("A B C", a:eval("return names { from = 'start' }"))
      assert.same("", a:eval("return names { from = 'now' }"))
      assert.same("B C", a:eval("return names { from = hash }"))
      assert.same("C", a:eval("local e = log:get(hash) return names { from = { author = e.author, sequence = e.sequence + 1 } }"))
      assert.same("B C", a:eval("local e = log:get(hash) return names { from = { author = e.author:sub(1, 12), sequence = e.sequence } }"))
      assert.same("B C", a:eval("return names { from = log:get(hash).position }"))
      assert.same("A B C", a:eval("return names { from = { time = log:get(hash).time - 3600 } }"))
      assert.same("", a:eval("return names { from = { time = log:get(hash).time + 3600 } }"))
      assert.same("not_found", a:eval("return fails(log.read, log, { from = ('0'):rep(64) })"))
      assert.matches("did you mean \"start\"", a:eval("return fails(log.read, log, { from = 'stat' })"))
    end)

    it("through a filter: names, or a function", function()
      local a = start()
      a:eval("for i = 1, 9 do log:emit(i % 2 == 0 and 'even' or 'odd', i) end")
      assert.same("even even even even", a:eval("return names { filter = 'even' }"))
      assert.same(9, a:eval("return select(2, names({ filter = { 'even', 'odd' } }):gsub('%a+', ''))"))
      assert.same("odd", a:eval("return names { filter = function(entry) return entry.payload == 7 end }"))
    end)

    it("to what is there when it begins; with follow for ever, until the journal is closed", function()
      local a = start()
      a:eval([[
        log:emit("A", 1)
        for entry in log:read {} do got[#got + 1] = entry.payload if #got < 5 then log:emit("A", 2) end end
        following = holt.go(function() for entry in log:read { follow = true } do seen = entry.payload end ended = true end)]])
      assert.same({ 1 }, a:eval("return got"))
      a:eval("holt.sleep(0) log:emit('A', 'live')")
      a:wait_for("seen == 'live'")
      a:eval("log:close()")
      a:wait_for("ended")
    end)

    it("with a cursor that moves when the next entry is asked for, or by ack", function()
      local a = start()
      a:eval("for i = 1, 4 do log:emit('A', i) end")
      local function first(code)
        return a:eval("for e in log:read { cursor = 'c' } do " .. (code or "") .. " return e.payload end")
      end
      assert.same(1, first())
      assert.same(1, first()) -- left with break: not dealt with
      assert.same(1, first("e:ack()"))
      assert.same(2, first("e:ack()"))
      local position = a:eval("return log:cursor('c')")
      assert.same(3, a:eval("local e = log:read { from = log:cursor('c') }() return e.payload"))
      assert.same(position, a:eval("return log:cursor('c')"))
      assert.is_nil(a:eval("return log:cursor('other')"))
      a:eval("log:cursor('c', 'start')")
      assert.same(1, first())
      assert.matches("without a cursor", a:eval("return fails(function() for e in log:read {} do e:ack() end end)"))
    end)

    it("past an entry that cannot be decoded, when asked to go on; the error says where", function()
      local a = start("a", { script = SCRIPT .. "raw = assert(node:journal('raw'))" })
      a:eval("raw:emit('A', '[1]') raw:emit('A', 'broken') raw:emit('A', '[2]')")
      a:eval("raw:close() raw = assert(node:journal('raw', { codec = 'json' }))")
      local results = a:eval([[
        local list, reader = {}, raw:read {}
        while true do
          local ok, entry = pcall(reader)
          if ok and not entry then return list end
          list[#list + 1] = ok and entry.payload[1] or entry.code .. " " .. tostring(math.type(entry.position))
        end]])
      assert.same({ 1, "codec integer", 2 }, results)
    end)
  end)

  it("tells its figures, its heads and that it is in order", function()
    local a = start()
    a:eval("for i = 1, 10 do log:emit('A', i) end")
    local stats = a:eval("return log:stats()")
    assert.same(64, #stats.id)
    assert.is_true(stats.entries >= 10 and stats.emitted >= 10 and stats.next > 10)
    local heads = a:eval("return log:heads()")
    assert.same(1, #heads)
    assert.is_true(heads[1].self)
    local ok, count = a:eval("return log:verify { progress = function(done, total) last = done / total end }")
    assert.is_true(ok)
    assert.is_true(count >= 10)
    assert.same(1, a:eval("return last"))
  end)

  it("crosses a link by several times its window, while it is written and afterwards", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", { connect = { a }, listen = "127.0.0.1:0" })
    a:eval("text = ('x'):rep(4000) for i = 1, 3000 do holt.go(log.emit, log, 'A', text) end") -- 12 MB; a window has 4 MiB
    b:wait_for("log:stats().received >= 3000")
    local c = start("c", { connect = { b } })
    c:wait_for("log:stats().received >= 3000")
    c:wait_for("(function() local n = 0 for _ in log:read { filter = 'A' } do n = n + 1 end return n == 3000 end)()")
    assert.is_true(c:eval("return (log:verify())"))
  end)

  it("goes on after connections that broke under load: what they had not acknowledged holds back no credit", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", { connect = { a } })
    a:eval("text = ('x'):rep(4000) for i = 1, 4000 do holt.go(log.emit, log, 'A', text) end")
    for i = 1, 5 do
      b:wait_for(("log:stats().received >= %d"):format(i * 300))
      b:eval("require('holt.core').node_peer_reset(node, node:peers()[1].number)")
      b:wait_links(1)
    end
    b:wait_for("log:stats().received >= 4000")
    b:wait_for("(function() local n = 0 for _ in log:read { filter = 'A' } do n = n + 1 end return n == 4000 end)()")
  end)

  it("finds what changed on its disk and gets it again from another holder", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", { connect = { a }, listen = "127.0.0.1:0" })
    a:eval("for i = 1, 200 do assert(log:emit('A', ('entry number %05d'):format(i))) end")
    b:wait_for("(function() local n = 0 for _ in log:read { filter = 'A' } do n = n + 1 end return n == 200 end)()")
    b:stop()
    for i = 20, 200, 30 do
      files.alter(nodes.folder() .. "/b/journal/data.mdb", ("entry number %05d"):format(i))
    end
    b:restart()
    b:eval("mended = 0 log.events:on('mended', function() mended = mended + 1 end)")
    local ok, err = b:eval("local ok, err = log:verify() return ok, tostring(err)")
    assert.is_nil(ok)
    assert.matches("changed on the disk", err)
    b:wait_for("log:stats().damaged == 7 and mended == 7")
    assert.is_true((b:eval("return (log:verify())")))
    local payloads = b:eval("local list = {} for e in log:read { filter = 'A' } do list[#list + 1] = e.payload end return list")
    assert.same(200, #payloads)
    for i = 1, 200 do
      assert.same(("entry number %05d"):format(i), payloads[i])
    end
  end)

  it("takes entries of `authors` only", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", {
      connect = { a },
      script = SCRIPT:gsub("codec = \"json\" }", ("codec = 'json', authors = { %q } }"):format(a:eval("return log.id"))) .. [[
        refused = {}
        log.events:on("refused", function(node, err) refused[#refused + 1] = { node, err.code, err.node, err.message } end)]],
    })
    local c = start("c", { connect = { a } })
    c:eval("log:emit('A', 'from c')")
    a:wait_for("names { filter = 'A' } == 'A'")
    a:eval("log:emit('B', 'from a')")
    b:wait_for("names { filter = { 'A', 'B' } } == 'B'")
    for _ = 1, 3 do -- what is refused is not sent again with each connection
      c:eval("for i = 1, 20 do log:emit('A', i) end")
      b:eval("require('holt.core').node_peer_reset(node, node:peers()[1].number)")
      b:wait_links(1)
      a:eval("log:emit('B', 'again')")
    end
    b:wait_for("names { filter = { 'A', 'B' } } == 'B B B B'")
    assert.same({ 1, 0 }, b:eval("local s = log:stats() return { s.refused, s.duplicates }")) -- c's opening
    assert.same("B B B B", b:eval("return names { filter = { 'A', 'B' } }"))
    local told = b:eval("return refused[1]") -- a passed c's opening on, and is named
    assert.same({ "a", "protocol", "a" }, { told[1], told[2], told[3] })
    assert.matches("entries that a sent were refused", told[4])
    assert.same(1, b:eval("return #refused"))
  end)

  it("refuses entries that are larger than it takes, and names who sent them", function()
    local a = start("a", { listen = "127.0.0.1:0" })
    local b = start("b", {
      connect = { a },
      script = SCRIPT:gsub("codec = \"json\" }", "codec = 'json', max_entry_bytes = 20000 }") .. [[
        log.events:on("refused", function(node, err) refused = { node, err.message } end)]],
    })
    a:eval("log:emit('A', 'fits')")
    b:wait_for("names { filter = 'A' } == 'A'")
    a:eval("log:emit('B', ('x'):rep(30000))")
    b:wait_for("refused")
    local told = b:eval("return refused")
    assert.same("a", told[1])
    assert.matches("larger than allowed", told[2])
    assert.same("A", b:eval("return names { filter = { 'A', 'B' } }"))
  end)

  it("tells a newcomer what is not to be had any more", function()
    local a = start("a", {
      listen = "127.0.0.1:0",
      script = SCRIPT:gsub("codec = \"json\" }", "codec = 'json', keep = { entries = 100 } }"),
    })
    a:eval("for i = 1, 1000 do holt.go(log.emit, log, 'A', i) end")
    a:wait_for("log:stats().emitted >= 1000 and log:stats().entries <= 400")
    local b = start("b", { connect = { a }, script = SCRIPT .. [[
      log.events:on("truncated", function(author, sequence) truncated = { author, sequence } end)]] })
    b:wait_for("truncated")
    local author, horizon = a:eval("local head = log:heads()[1] return head.author, head.horizon")
    assert.same({ author, true }, b:eval(("return { truncated[1], truncated[2] > 500 and truncated[2] <= %d }"):format(horizon)))
  end)

  it("carries the largest entry that max_entry_bytes may allow; a larger one is refused, and the journal goes on", function()
    local most = 4 << 20
    local script = SCRIPT:gsub('codec = "json" }', "codec = 'raw', max_entry_bytes = " .. most .. " }")
    local a = start("a", { listen = "127.0.0.1:0", script = script })
    local b = start("b", { connect = { a }, script = script })
    for i = 0, 2 do
      assert.matches("^%x+$", (a:eval(("return log:emit('A', ('x'):rep(%d))"):format(most - 5200 - i), 20)))
      for _, more in ipairs({ -100, 100, most }) do
        local code = a:eval(("local _, err = log:emit('A', ('x'):rep(%d)) return err.code"):format(most + more), 20)
        assert.equal("too_large", code)
      end
    end
    b:wait_for("names { filter = 'A' } == 'A A A'", 20)
  end)

  it("keeps as many bytes as it was told to, also when that is little, and when nothing more is written", function()
    local a = start("a", { script = SCRIPT:gsub("codec = \"json\" }", "codec = 'json', keep = { bytes = 100000 } }") })
    a:eval("for i = 1, 80 do assert(log:emit('A', ('%02d'):format(i) .. ('x'):rep(10000))) end")
    a:wait_for("log:stats().entries <= 14")
    local kept = a:eval([[
      local list = {}
      for e in log:read { filter = "A" } do list[#list + 1] = tonumber(e.payload:sub(1, 2)) end
      return list]])
    assert.is_true(#kept >= 8, #kept) -- about 100,000 bytes, the newest
    assert.same({ 80, 80 - #kept + 1 }, { kept[#kept], kept[1] })
    assert.is_true(a:eval("return (log:verify())"))
  end)

  it("keeps entries as long as it was told to, though nothing more is written", function()
    local a = start("a", { script = SCRIPT:gsub("codec = \"json\" }", "codec = 'json', keep = { time = 1 } }") })
    a:eval("for i = 1, 20 do assert(log:emit('A', i)) end")
    a:wait_for("names { filter = 'A' } == ''")
    a:eval("gather('A', { from = 'now' }) assert(log:emit('A', 'later'))")
    a:wait_for("got[1] == 'later'")
    a:wait_for("names { filter = 'A' } == ''")
    local entries = a:eval("return log:stats().entries")
    assert.is_true(entries <= 10, entries) -- what tells of the cuts does not beget more of them
    assert.is_true(a:eval("return (log:verify())"))
  end)

  it("keeps as many entries as it was told to", function()
    local a = start("a", { script = SCRIPT:gsub("codec = \"json\" }", "codec = 'json', keep = { entries = 100 } }") })
    a:eval("for i = 1, 2000 do holt.go(log.emit, log, 'A', i) end")
    a:wait_for("log:stats().emitted >= 2000 and log:stats().entries <= 400")
    assert.same(2000, a:eval("local last for e in log:read { filter = 'A' } do last = e.payload end return last"))
  end)
end)
