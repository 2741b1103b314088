local nodes = require("spec.helper.nodes")
local proxies = require("spec.helper.proxy")
local three = require("spec.helper.three")

-- The rows of docs/coming-from.md that spec/three_spec.lua has not, against running processes too.
local start, start_with, join, leader_of = three.start, three.start_with, three.join, three.leader_of

local LISTEN = [[
  listen(node.events, { "joined", "left", "rejoining", "candidate", "leader", "term", "snapshot", "conf_changed",
    "no_heartbeat_from", "unsynced_member", "closed" })
]]

-- Wait until a node was told of something that matches.
local function heard(node, pattern)
  nodes.until_true(function()
    return ("\n" .. table.concat(node:eval("return told"), "\n") .. "\n"):find("\n" .. pattern .. "\n")
  end, nil, function()
    return ("%s was not told '%s', but: %s"):format(node.name, pattern, table.concat(node:eval("return told"), "; "))
  end)
end

describe("three processes", function()
  nodes.guard(before_each, after_each)

  it("lose no event of a burst: it waits for room, and what cannot be sent is told", function()
    local n1, n2, n3 = start()
    n2:eval([[
      got, last, order = 0, 0, true
      function hear(place)
        got = got + 1
        order, last = order and place > last, place
      end]])
    assert.is_true(n2:eval("return node:emitter('e'):subscribe('x', hear)"))
    n1:eval("e = node:emitter('e', { request_timeout = 20 }) assert(node:barrier(5))")
    for _, burst in ipairs { { 100, 200 << 10 }, { 20000, 1000 }, { 3, 5 << 20 } } do
      local count, size = table.unpack(burst)
      n2:eval("got, last = 0, 0")
      local taken = n1:eval(([[
        local taken, text = 0, ("x"):rep(%d)
        for i = 1, %d do if e:notify("x", i, text) then taken = taken + 1 end end
        return taken]]):format(size, count), 60)
      assert.equal(count, taken)
      n2:wait_for(("got == %d"):format(count))
      assert.is_true(n2:eval("return order"))
    end
    n2:eval("got, last, order = 0, 0, nil")
    local handled, other = n1:eval([[
      local holt = require "holt"
      local handled, other, tasks = 0, {}, {}
      for i = 1, 2000 do
        tasks[i] = holt.go(function()
          local names, silent, why = e:publish("x", i, ("x"):rep(10 << 10))
          if names and names[1] == "n2" then handled = handled + 1 else other[#other + 1] = tostring(why and why.n2 or silent) end
        end)
      end
      for _, task in ipairs(tasks) do task:join(60) end
      return handled, other]], 90)
    assert.same({ 2000, {} }, { handled, other })
    assert.equal(2000, n2:eval("return got"))
    n1:wait_for("e:stats().sent == 100 + 20000 + 3 + 2000")
    assert.equal(0, n1:eval("return e:stats().dropped"))
    for _, method in ipairs { "notify", "publish" } do -- larger than a frame
      local code, said = n1:eval(([[
        local ok, err = e:%s("x", 1, ("x"):rep(8 << 20))
        return not ok and err.code, not ok and err.message]]):format(method))
      assert.equal("too_large", code)
      assert.matches("bytes, at most 8388608 fit into a frame", said)
    end
    assert.is_true(n3:eval("return node:emitter('e'):subscribe('y', print)"))
    n1:eval("assert(node:barrier(5)) f = node:emitter('e', { request_timeout = 2 }) f:on('dropped', function(event, name, err) "
      .. "lost = { event, name, err.code } end)")
    n3:pause()
    assert.is_true(n1:eval("return f:notify('y', 1)"))
    n1:wait_for("lost ~= nil")
    assert.same({ "y", "n3", "timeout" }, n1:eval("return lost"))
    assert.equal(1, n1:eval("return f:stats().dropped"))
    assert.same({ {}, { "n3" }, "timeout" }, { n1:eval("local a, b, why = f:publish('y', 1) return a, b, why.n3.code") })
    local full = n1:eval([[
      for i = 1, 40 do
        local ok, err = f:notify("y", ("x"):rep(1 << 20))
        if not ok then return { err.code, err.node } end
      end]])
    assert.same({ "stalled", "n3" }, full)
    n3:resume()
  end)

  it("tell of elections, of who is silent, who lags, and of their own coming and going", function()
    local n1, _, _, list = start({ "snapshot_threshold = 300", "snapshot_threshold = 300", "snapshot_threshold = 300" }, LISTEN)
    local leader = leader_of(list)
    for _, node in ipairs(list) do
      heard(node, "joined")
      heard(node, "term %d+")
    end
    heard(leader, "candidate")
    heard(leader, "leader")
    local other = leader == n1 and list[2] or n1
    other:pause()
    heard(leader, "no_heartbeat_from " .. other.name)
    leader:eval([[ -- more than the log keeps behind a snapshot
      local holt, tasks = require "holt", {}
      for i = 1, 40 do
        tasks[i] = holt.go(function() for k = 1, 50 do assert(node:map("m"):set(i, k, { timeout = 10 })) end end)
      end
      for _, task in ipairs(tasks) do task:join(20) end]])
    heard(leader, "snapshot %d+")
    heard(leader, "unsynced_member " .. other.name) -- the log begins behind what it has: a snapshot goes to it
    assert.equal(3, leader:eval("return #node:members()")) -- observations: nobody is dropped
    other:resume()
    assert.equal(50, other:eval("return node:map('m'):get(7, { linearizable = true, timeout = 20 })"))
    local fresh = join("n4", leader, "snapshot_threshold = 300", LISTEN)
    heard(fresh, "joined")
    for _, node in ipairs(list) do
      heard(node, "conf_changed")
    end
    other:eval("clear_told()")
    assert.is_true(leader:eval(("return node:remove_member(%q, { timeout = 10 })"):format(other.name)))
    heard(other, "rejoining")
    heard(other, "joined")
    assert.is_true(fresh:eval("return node:leave(10)"))
    heard(fresh, "left")
    fresh:eval([[
      node.events:on("closed", function() print("closed is told") end)
      require("holt").go(function()
        node:close()
        print("then:", select(2, node:map("m"):set("a", 1)).code, select(2, node:on_leader(print)).code)
      end)]])
    fresh:wait()
    assert.matches("then:\tclosed\tclosed", fresh:output())
    assert.matches("closed is told", fresh:output())
    local stats = leader:eval("return node:stats()")
    assert.equal(3, leader:eval("return #node:members()"))
    for _, name in ipairs { "pending", "in_progress", "partial", "log_bytes" } do
      assert.is_true(math.type(stats[name]) == "integer" and stats[name] >= 0, name)
    end
  end)

  it("share objects with codecs and equality of their own, export and import, in parts and as a whole", function()
    local n1, n2, n3 = start_with([[
      local turned = { encode = string.reverse, decode = string.reverse, canonical = true }
      own = node:map("own", { key_codec = turned, value_codec = turned })
      json = node:map("json", { codec = "json" })
      people = node:map("people", { equal = function(a, b) return a.id == b.id end })
      parts = node:map("parts", { max_batch_bytes = 1000 })
      rec = node:record("rec", { codecs = { logo = "raw" } })
      box = node:emitter("box", { codecs = { photo = "raw", note = "json" } })
      m, q, r = node:map("m"), node:queue("q"), node:record("r")
      heard = {}
      function hear(...) heard[#heard + 1] = table.concat({ ... }, " ") end
    ]])
    assert.is_true(n1:eval("return own:set('key', 'value')"))
    assert.equal("value", n2:eval("return own:get('key', { linearizable = true })"))
    assert.same({ false, "value" }, { n3:eval("return own:update_if('key', 'new', 'other')") })
    assert.is_true(n1:eval("return json:set('a', { 1, 2 })"))
    assert.same({ true }, { n2:eval("return (json:update_if('a', { 3 }, { 1, 2 }))") })
    assert.same({ 3 }, n3:eval("return json:get('a', { linearizable = true })"))
    assert.is_true(n1:eval("return people:set('ada', { id = 1, name = 'Ada' })"))
    assert.is_true((n2:eval("return people:update_if('ada', { id = 2, name = 'Ada L.' }, { id = 1 })")))
    assert.is_false((n3:eval("return people:remove_if('ada', { id = 1 })")))
    assert.equal(50, n1:eval([[
      local before, all = node:status().cluster.applied, {}
      for i = 1, 50 do all["k" .. i] = ("x"):rep(600) end
      assert(parts:set_all(all))
      steps = node:status().cluster.applied - before
      return parts:size()]]))
    assert.is_true(n1:eval("return steps") > 20)
    assert.equal(50, n2:eval("return parts:size { linearizable = true }"))
    assert.is_true(n1:eval("return rec:set('logo', '\\0\\255') and rec:set('name', 'holt')"))
    assert.equal(2, n3:eval("return #rec:get('logo', { linearizable = true })"))
    assert.equal("holt", n3:eval("return rec:get('name')"))
    assert.is_true(n2:eval("return box:subscribe('photo', hear) and box:subscribe('note', hear)"))
    n1:eval("assert(node:barrier(5))")
    assert.same({ { "n2" }, {} }, { n1:eval("local a, b = box:publish('photo', 'raw bytes') return a, b") })
    assert.same({ { "n2" }, {} }, { n1:eval("local a, b = box:publish('note', 'text', 1) return a, b") })
    assert.same({ "raw bytes", "text 1" }, n2:eval("return heard"))

    n1:eval("m:set_all { a = 1, b = false } q:push('x', 'y') r:set_all { f = 1, g = 'two' }")
    n2:eval("assert(node:barrier(5)) copies = { m:export(), q:export(), r:export() } assert(m:clear() and q:clear() and r:clear())")
    n3:eval("assert(node:barrier(5)) listen(m, { 'insert' }) listen(q, { 'add' }) listen(r, { 'insert' })")
    assert.is_true(n2:eval("return m:import(copies[1]) and q:import(copies[2])"))
    assert.is_true(n2:eval("return r:import(copies[3], { events = true })"))
    assert.same({ a = 1, b = false }, n3:eval("return m:get_all({ 'a', 'b' }, { linearizable = true })"))
    assert.same({ "x", "y" }, n3:eval("local l = {} for _, item in q:pairs() do l[#l + 1] = item end return l"))
    assert.same({ f = 1, g = "two" }, n3:eval("return r:get_all()"))
    n3:wait_for("#told == 2") -- of the record alone: the others came silently
    assert.same({ "insert f 1", "insert g two" }, n3:eval("table.sort(told) return told"))
  end)

  it("hear once and no more, show who listens in every view, and name who does not answer", function()
    local n1, n2, n3 = start_with([[
      m, e, s, heard = node:map("m"), node:emitter("e", { request_timeout = 2 }), node:emitter("e").subscriptions, {}]])
    n3:eval([[
      function hear(key) heard[#heard + 1] = key end
      m:once("insert", function(key) hear("once " .. key) end)
      m:on("insert", hear)]])
    assert.is_true(n1:eval("return m:insert('a', 1)"))
    n3:wait_for("#heard == 2")
    assert.is_true(n2:eval("return m:insert('b', 1)"))
    n3:wait_for("#heard == 3")
    assert.is_true(n3:eval("return m:off('insert', hear)"))
    assert.is_true(n2:eval("return m:insert('c', 1)"))
    assert.same({ "a", "b", "once a" }, n3:eval("assert(node:barrier(5)) table.sort(heard) return heard"))

    n1:eval("s:on('updated', function(event, name, new, old) told[#told + 1] = table.concat({ event, name, new, old }, ' ') end)")
    assert.is_true(n2:eval("return e:subscribe('fire', print, { meta = 1 }) and e:subscribe('flood', print, { meta = 2 })"))
    assert.is_true(n3:eval("return e:subscribe('fire', print, { meta = 3 })"))
    assert.is_true(n2:eval("return e:update_meta('fire', 4)"))
    three.told(n1, { "fire n2 4 1" })
    n1:eval("assert(node:barrier(5))")
    assert.equal(3, n1:eval("return s:size()"))
    assert.same({ "fire", "flood" }, n1:eval("local l = s:events() table.sort(l) return l"))
    assert.same({ "n2", "n3" }, n1:eval("local l = s:nodes('fire') table.sort(l) return l"))
    assert.same({ "n2", "n3" }, n1:eval("local l = s:nodes() table.sort(l) return l"))
    assert.same({ true, false }, { n1:eval("return s:has('flood', 'n2'), s:has('flood', 'n3')") })
    assert.same({ n2 = 4, n3 = 3 }, n1:eval("return s:get('fire')"))
    assert.same({ "fire n2 4", "fire n3 3", "flood n2 2" }, n1:eval([[
      local l = {}
      for event, name, meta in s:pairs() do l[#l + 1] = event .. " " .. name .. " " .. meta end
      table.sort(l)
      return l]]))
    n3:pause()
    assert.same({ { "n2" }, { "n3" } }, { n1:eval("local a, b = e:publish('fire') return a, b") })
    n3:resume()
    assert.is_true(n2:eval("return e:clear { timeout = 10 }")) -- of all events, and this node only
    n1:eval("assert(node:barrier(10))")
    assert.same({ "n3" }, n1:eval("return s:nodes()"))
    assert.same({ 0, 0 }, { n2:eval("local t = e:stats() return t.subscriptions, t.sent") })
  end)

  it("read and write several objects at one moment", function()
    local n1, n2, n3 = start_with("m, q, r = node:map('m'), node:queue('q'), node:record('r')")
    assert.is_true(n1:eval("return m:set_all { a = 1, b = 2 } and q:push('x', 'y') and r:set('f', 1)"))
    assert.same({ true, 1, 3, 3, "x", "y", false, "b2c3z0" }, { n2:eval([[
      return node:txn(function(t)
        local a = t:get(m, "a")
        t:set(m, "c", 3)
        t:remove(m, "a")
        t:push(q, "z")
        local inserted = t:insert(r, "f", 9)
        local head, size = t:pop(q), 0
        for _ in t:pairs(q) do size = size + 1 end
        t:set(m, "z", t:size(r) - 1)
        local all = ""
        for key, value in t:pairs(m) do all = all .. key .. value end
        return a, t:size(m), size + 1, head, t:peek(q), inserted, all
      end)]]) })
    assert.same({ b = 2, c = 3, z = 0 }, n3:eval("return m:get_all({ 'a', 'b', 'c', 'z' }, { linearizable = true })"))
    assert.same({ "y", "z" }, n3:eval("local l = {} for _, item in q:pairs() do l[#l + 1] = item end return l"))
    assert.is_false(n1:eval("return (pcall(node.txn, node, function(t) t:clear(m) t:clear(q) error('no') end))"))
    assert.equal(3, n3:eval("return m:size { linearizable = true }"))
    for _, node in ipairs { n1, n2, n3 } do -- at once: no increment is lost
      node:eval([[
        require("holt").go(function()
          for i = 1, 20 do assert(node:txn(function(t) t:set(m, "n", (t:get(m, "n") or 0) + 1) end, { timeout = 20 })) end
          is_done = true
        end)]])
    end
    for _, node in ipairs { n1, n2, n3 } do
      node:wait_for("is_done")
    end
    assert.equal(60, n2:eval("return m:get('n', { linearizable = true })"))
  end)
end)

describe("five processes, cut into two and three,", function()
  nodes.guard(before_each, after_each)

  -- Each is dialled by way of a proxy of its own, except by its own side: so a cut of all proxies parts the sides only.
  local SIDE = { 1, 1, 2, 2, 2 }
  local SCRIPT = [[
    local holt = require "holt"
    node = holt.node { backoff_max = 0.2, cluster = { name = "five", members = 5, election_timeout = 0.3, heartbeat = 0.03 } }
  ]]

  it("acknowledge writes on the side of the majority only, and agree once healed", function()
    local list, doors = {}, {}
    for i = 1, 5 do
      local connect = {}
      for k = 1, i - 1 do
        connect[k] = SIDE[k] == SIDE[i] and list[k] or doors[k]:address()
      end
      doors[i] = proxies.start { target = "" }
      list[i] = nodes.start {
        name = "n" .. i, script = SCRIPT, connect = connect, flags = { "--advertise=" .. doors[i]:address() },
      }
      doors[i].target = list[i]:address()
    end
    for _, node in ipairs(list) do
      node:eval("assert(node:ready(20))")
    end
    assert.is_true(list[3]:eval("return node:is_leader() and true or node:transfer('n1', { timeout = 5 })"))
    assert.is_true(list[5]:eval("return node:map('m'):set('k', 'before', { timeout = 10 })"))
    for _, door in ipairs(doors) do
      door:bar(true)
    end
    for i = 1, 5 do -- all at once
      list[i]:eval(([[
        require("holt").go(function()
          local ok, err = node:map("m"):set("k%d", true, { timeout = %d })
          result = { ok or false, err and err.code or "" }
        end)]]):format(i, SIDE[i] == 1 and 2 or 20))
    end
    for i = 3, 5 do
      list[i]:wait_for("result")
      assert.same({ true, "" }, list[i]:eval("return result"))
    end
    for i = 1, 2 do
      list[i]:wait_for("result")
      local done, code = table.unpack(list[i]:eval("return result"))
      assert.is_false(done)
      assert.is_true(code == "no_quorum" or code == "unknown", code)
      assert.equal("no_quorum", list[i]:eval("return select(2, node:map('m'):get('k', { linearizable = true, timeout = 0.5 })).code"))
      assert.equal("no_quorum", list[i]:eval("return select(2, node:map('m'):set('late', 1, { timeout = 0.5 })).code"))
    end
    assert.is_true(list[4]:eval("return node:map('m'):set('k', 'after', { timeout = 10 })"))
    for _, door in ipairs(doors) do
      door:bar(false)
    end
    for _, node in ipairs(list) do
      assert.equal("after", node:eval("return node:map('m'):get('k', { linearizable = true, timeout = 20 })"))
      assert.same({ k3 = true, k4 = true, k5 = true }, node:eval("return node:map('m'):get_all { 'k3', 'k4', 'k5', 'late' }"))
    end
    nodes.until_true(function()
      local hash = list[1]:eval("return node:status().cluster.state_hash")
      for _, node in ipairs(list) do
        if node:eval("return node:status().cluster.state_hash") ~= hash then
          return false
        end
      end
      return true
    end)
    nodes.stop_all()
    for _, door in ipairs(doors) do
      door:stop()
    end
  end)
end)
