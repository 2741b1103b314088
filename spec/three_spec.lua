local nodes = require("spec.helper.nodes")
local three = require("spec.helper.three")

-- What holt offers under Hamok's names, row by row, against three running processes: n1, n2, n3. More of it: three_more_spec.
local start, start_with, join, told, leader_of = three.start, three.start_with, three.join, three.told, three.leader_of

describe("three processes", function()
  nodes.guard(before_each, after_each)

  it("agree on themselves: ids, members, leader, role, objects, figures, positions", function()
    local n1, n2, n3, list = start()
    local leader = leader_of(list)
    for _, node in ipairs(list) do
      assert.equal(node.name, node:eval("return node.name"))
      assert.equal("eu", node:eval("return node.app_data.zone"))
      assert.equal(leader.name, node:eval("return node:leader()"))
      assert.equal(node == leader and "leader" or "follower", node:eval("return node:role()"))
      assert.is_true(node:eval("return node:is_open()"))
      local names = node:eval([[
        local names = {}
        for _, member in ipairs(node:members()) do names[#names + 1] = member.name .. " " .. member.role end
        table.sort(names)
        return names]])
      assert.same({ "n1 voter", "n2 voter", "n3 voter" }, names)
    end
    assert.is_false(n1:eval("return node.id") == n2:eval("return node.id"))
    assert.is_true(n1:eval("return node:map('stock'):set('a', 1)"))
    for _, node in ipairs { n2, n3 } do
      assert.is_true(node:eval("return node:barrier(5)"))
      assert.same({ "stock map 1" }, node:eval([[
        local list = {}
        for _, object in ipairs(node:objects()) do list[#list + 1] = object.name .. " " .. object.kind .. " " .. object.size end
        return list]]))
      assert.is_true(node:eval("return node:applied(5)"))
    end
    assert.equal(3, n3:eval("return node:stats().members"))
    assert.equal(0, n3:eval("return node:stats().pending"))
    local positions = n2:eval("return node:status().cluster")
    assert.is_true(positions.first <= positions.applied and positions.applied <= positions.commit)
    assert.is_true(positions.commit <= positions.last and positions.log_bytes > 0)
  end)

  it("never let one lead that may not, and count no learner", function()
    local n1, _, n3, list = start { "can_lead = false" }
    assert.is_false(leader_of(list) == n1)
    assert.is_nil((n3:eval("return node:transfer('n1', { timeout = 1 })")))
    assert.is_false(n1:eval("return node:is_leader()"))
    local learner = join("n4", n3, "voter = false")
    assert.equal("learner", learner:eval("return node:role()"))
    assert.is_true(learner:eval("return node:map('m'):set('from', 'the learner')"))
    assert.equal("the learner", n1:eval("return node:map('m'):get('from', { linearizable = true })"))
    n3:kill() -- two of three voters are left; with the learner counted in, it would be three of four
    assert.is_true(learner:eval("return node:map('m'):set('after', 1)"))
    n1:pause() -- one of three: the learner makes no majority
    local _, err = learner:eval("local ok, err = node:map('m'):set('no', 1, { timeout = 1 }) return ok, tostring(err.code)")
    assert.is_true(err == "no_quorum" or err == "unknown", err)
    n1:resume()
  end)

  it("tell of their life: states, leaders, members, commits, heartbeats, the quorum", function()
    local n1, n2, n3, list = start()
    local leader = leader_of(list)
    local other = leader == n1 and n2 or n1
    local third = leader == n3 and n2 or n3
    third:eval("listen(node.events, { 'leader_changed', 'member_joined', 'member_left', 'quorum_lost', 'quorum_regained' })")
    third:eval("node.events:on('commit', function() commits = (commits or 0) + 1 end)")
    third:eval("node.events:on('heartbeat', function() beats = (beats or 0) + 1 end)")
    other:eval("listen(node.events, { 'leader', 'state_changed' })")
    assert.is_true(leader:eval(("return node:transfer(%q)"):format(other.name)))
    other:wait_for("node:is_leader()")
    nodes.until_true(function()
      local list_told = table.concat(other:eval("return told"), ";")
      return list_told:find("state_changed leader", 1, true) and list_told:find("leader", 1, true)
    end)
    third:wait_for("told[#told] and told[#told]:find('leader_changed " .. other.name .. "')")
    other:eval("for i = 1, 3 do assert(node:map('m'):set('k', i)) end")
    third:wait_for("(commits or 0) > 0 and (beats or 0) > 1")

    third:eval("clear_told()")
    leader:eval("assert(node:leave(5))")
    third:wait_for(("told[1] and told[1]:find('^member_left %s ')"):format(leader.name))
    leader:stop()
    third:eval("clear_told()")
    local fresh = join("n4", third)
    third:wait_for("told[1] and told[1]:find('^member_joined n4 ')")
    fresh:pause()
    other:pause()
    third:wait_for("told[#told] and told[#told]:find('^quorum_lost')")
    fresh:resume()
    other:resume()
    third:wait_for("table.concat(told, ';'):find('quorum_regained')")
    assert.is_true(third:eval("return node:map('m'):set('k', 4, { timeout = 10 })"))
  end)

  it("take nothing while the leader hands over, and say so", function()
    local setting = "election_timeout = 2" -- so long the leader waits for its heir
    local _, _, _, list = start { setting, setting, setting }
    local leader = leader_of(list)
    local heir = list[1] == leader and list[2] or list[1]
    heir:pause()
    leader:eval(("holt.go(function() node:transfer(%q, { timeout = 10 }) end) holt.sleep(0.1)"):format(heir.name))
    local code, message = leader:eval("local _, err = node:map('m'):set('a', 1, { timeout = 0.2 }) return err.code, err.message")
    assert.equal("busy", code)
    assert.equal(
      "map 'm': too much is under way: the leader took nothing more until the time-out (it may be handing over); "
        .. "nothing was done, try again",
      message
    )
    heir:resume()
    heir:wait_for("node:is_leader()")
    assert.is_true(leader:eval("return node:map('m'):set('a', 1, { timeout = 10 })"))
  end)

  it("share a map: all of its calls, at any member, told on another", function()
    local n1, n2, n3 = start_with("m = node:map('m', { initial = { first = 1 } })")
    n3:eval("assert(m:ready(5)) listen(m, { 'insert', 'update', 'remove', 'clear', 'close' })")
    assert.same({ true }, { n1:eval("return m:set('a', 1)") })
    assert.same({ true, 1 }, { n2:eval("return m:set('a', 2)") })
    assert.same({ false, 2 }, { n3:eval("return m:insert('a', 9)") })
    assert.same({ true }, { n1:eval("return m:insert('b', false)") })
    assert.same({ false, false }, { n2:eval("return m:insert('b', 1)") }) -- false is there
    assert.same({ false, 2 }, { n1:eval("return m:update_if('a', 3, 1)") })
    assert.same({ true }, { n2:eval("return (m:update_if('a', 3, 2))") })
    assert.same({ false, 3 }, { n3:eval("return m:remove_if('a', 2)") })
    assert.same({ true }, { n1:eval("return (m:remove_if('a', 3))") })
    assert.same({ false }, { n2:eval("return (m:remove('a'))") })
    assert.same({ true, false }, { n3:eval("return m:remove('b')") })
    assert.is_true((n1:eval("return m:set_all { x = 1, y = 2 }")))
    local done, found = n2:eval("return m:insert_all { y = 9, z = 3 }")
    assert.same({ false, { y = 2 } }, { done, found })
    assert.same({ x = 1, z = 3 }, n3:eval("return m:get_all { 'x', 'z', 'nothing' }"))
    assert.same({ true, { x = 1 } }, { n1:eval("return m:remove_all { 'x', 'nothing' }") })
    assert.equal(3, n2:eval("return m:size { linearizable = true }")) -- first, y, z
    assert.is_false(n2:eval("return m:is_empty()"))
    assert.same({ "y", "z", "first" }, n2:eval("local l = {} for key in m:keys() do l[#l + 1] = key end return l"))
    assert.same({ 2, 3, 1 }, n2:eval("local l = {} for v in m:values() do l[#l + 1] = v end return l"))
    assert.equal("y2 z3 first1", n1:eval([[
      local l = {}
      for key, value in m:pairs { linearizable = true } do l[#l + 1] = key .. value end
      return table.concat(l, " ")]]))
    local copy = n1:eval("return m:export()")
    assert.equal("map", copy.kind)
    assert.is_true(n2:eval("return m:clear()"))
    assert.is_true(n3:eval("return m:is_empty { linearizable = true }"))
    told(n3, {
      "insert a 1", "update a 1 2", "insert b false", "update a 2 3", "remove a 3", "remove b false", "insert x 1",
      "insert y 2", "insert z 3", "remove x 1", "clear",
    })
    n3:eval("m:close()")
    told(n3, {
      "insert a 1", "update a 1 2", "insert b false", "update a 2 3", "remove a 3", "remove b false", "insert x 1",
      "insert y 2", "insert z 3", "remove x 1", "clear", "close",
    })
    assert.equal("closed", n3:eval("return select(2, m:set('a', 1)).code"))
    assert.equal("closed", n3:eval("return select(2, m:get('a')).code"))
  end)

  it("share a queue: in order, each item once, told on another, whole for a newcomer", function()
    local n1, n2, n3 = start_with("q = node:queue('q')")
    n3:eval("listen(q, { 'add', 'remove', 'empty', 'not_empty', 'close' })")
    assert.is_true(n1:eval("return q:push('a', 'b')"))
    assert.is_true(n2:eval("return q:push('c')"))
    assert.equal("a", n3:eval("return q:peek { linearizable = true }"))
    assert.equal(3, n1:eval("return q:size { linearizable = true }"))
    assert.same({ "a", "b", "c" }, n2:eval("local l = {} for _, item in q:pairs { linearizable = true } do l[#l + 1] = item end return l"))
    assert.equal("a", n2:eval("return q:pop()"))
    assert.equal("b", n3:eval("return q:pop()"))
    local fresh = join("n4", n1) -- with one item in it
    assert.equal("c", fresh:eval("return node:queue('q'):pop()"))
    assert.is_nil((n1:eval("return q:pop()")))
    assert.is_true(n1:eval("return q:is_empty { linearizable = true }"))
    n2:eval("require('holt').go(function() waited = q:pop { wait = 20 } end)")
    assert.is_true(n1:eval("return q:push('late')"))
    n2:wait_for("waited == 'late'")
    assert.is_true(n1:eval("return q:push(1, 2)"))
    assert.is_true(n3:eval("return q:clear()"))
    assert.is_true(n3:eval("q:close() return q.closed"))
    told(n3, {
      "add a", "add b", "not_empty", "add c", "remove a", "remove b", "remove c", "empty", "add late", "not_empty",
      "remove late", "empty", "add 1", "add 2", "not_empty", "empty", "close",
    })
  end)

  it("share a record: its fields, conditions over one and several, told on another", function()
    local n1, n2, n3 = start()
    n1:eval("r = node:record('r', { initial = { rate = 10 } }) assert(r:ready(5))")
    n2:eval("r = node:record('r', { initial = { rate = 99, zone = 'eu' } }) assert(r:ready(5))")
    n3:eval("r = node:record('r') listen(r, { 'insert', 'update', 'remove', 'clear' })")
    assert.same({ rate = 10, zone = "eu" }, n3:eval("return r:get_all { linearizable = true }"))
    n3:eval("clear_told()")
    assert.same({ true, 10 }, { n3:eval("return r:set('rate', 11)") })
    assert.same({ false, 11 }, { n1:eval("return r:insert('rate', 1)") })
    assert.same({ false, { rate = 11 } }, { n2:eval("return r:insert_all { rate = 1, unit = 's' }") })
    assert.same({ true }, { n1:eval("return (r:update_if('rate', 12, 11))") })
    local answer = { n1:eval("return r:update_all_if({ rate = 0 }, { rate = 12, unit = 'ms' })") }
    assert.same({ false, { rate = 12, unit = "s", zone = "eu" } }, answer)
    assert.same({ true }, { n2:eval("return (r:update_all_if({ rate = 13, unit = 'ms' }, { rate = 12, unit = 's' }))") })
    assert.same({ true, "eu" }, { n1:eval("return r:remove('zone')") })
    assert.equal(13, n3:eval("return r:get('rate', { linearizable = true })"))
    assert.is_true(n1:eval("return r:clear()"))
    nodes.until_true(function()
      return n3:eval("return told[#told]") == "clear"
    end)
    local heard = n3:eval("return told")
    assert.same({ "update rate 10 11", "insert unit s", "update rate 11 12" }, { table.unpack(heard, 1, 3) })
    local both = { heard[4], heard[5] } -- one moment: in the order of the fields' names
    table.sort(both)
    assert.same({ "update rate 12 13", "update unit s ms" }, both)
    assert.same({ "remove zone eu", "clear" }, { table.unpack(heard, 6) })
  end)

  it("share an emitter: who listens with which metadata, publish, notify, withdrawing, a member that is gone", function()
    local n1, n2, n3 = start_with("e = node:emitter('e') got = {} function hear(...) got[#got + 1] = table.concat({ ... }, ' ') end")
    n1:eval("e.subscriptions:on('added', function(event, member) told[#told + 1] = 'added ' .. event .. ' ' .. tostring(member) end)")
    n1:eval("e.subscriptions:on('removed', function(event, member) told[#told + 1] = 'removed ' .. event .. ' ' .. tostring(member) end)")
    assert.is_false(n1:eval("return e:notify('fire', 'nobody hears')"))
    assert.is_true(n2:eval("return e:subscribe('fire', hear, { meta = { floor = 1 } })"))
    assert.is_true(n3:eval("return e:subscribe('fire', hear)"))
    assert.is_true(n3:eval("return e:subscribe('flood', hear)"))
    n1:eval("assert(node:barrier(5))")
    assert.is_true(n1:eval("return e:has_subscribers('fire')"))
    assert.is_false(n1:eval("return e:has_subscribers('fire', { own = true })"))
    assert.same({ { "n2", "n3" }, {} }, { n1:eval("local a, b = e:publish('fire', 'kitchen', 3) table.sort(a) return a, b") })
    assert.is_true(n1:eval("return e:notify('flood', 'cellar')"))
    n3:wait_for("#got == 2")
    assert.same({ "kitchen 3" }, n2:eval("return got"))
    assert.same({ false, { floor = 1 } }, { n2:eval("return e:update_meta('fire', { floor = 9 }, { floor = 2 })") })
    assert.is_true((n2:eval("return e:update_meta('fire', { floor = 2 }, { floor = 1 })")))
    assert.equal("not_subscribed", n1:eval("return select(2, e:update_meta('fire', 1)).code"))
    assert.equal(2, n1:eval("assert(node:barrier(5)) return e.subscriptions:get('fire').n2.floor"))
    assert.is_true(n3:eval("return e:unsubscribe('fire', hear)")) -- this event only
    n1:eval("assert(node:barrier(5))")
    assert.same({ { "n3" }, {} }, { n1:eval("return e:publish('flood', 'again')") })
    assert.same({ { "n2" }, {} }, { n1:eval("return e:publish('fire', 'again')") })
    assert.equal(1, n2:eval("return e:stats().subscriptions")) -- its own
    assert.is_true(n1:eval("return e:stats().sent >= 4"))
    n2:eval("assert(node:leave(5))") -- who is gone listens no more
    n1:wait_for("not e:has_subscribers('fire')")
    n1:wait_for("#told >= 5")
    assert.same({ "added fire n2", "added fire n3", "added flood n3", "removed fire n3", "removed fire n2" }, n1:eval("return told"))
  end)

  it("go on when one of them closes its links on purpose", function()
    local n1, n2, n3 = start()
    n1:eval("for _, peer in ipairs(node:peers()) do peer:close() end")
    assert.is_true(n2:eval("return node:map('m'):set('a', 1, { timeout = 20 })"))
    assert.equal(1, n3:eval("return node:map('m'):get('a', { linearizable = true, timeout = 20 })"))
    assert.equal("n1", n1:eval("return node.name")) -- it is alive, whatever it is linked to now
    assert.equal(3, n2:eval("return #node:members()"))
  end)

  it("refuse one name for two kinds, and other options, wherever they are tried", function()
    local n1, n2, n3 = start()
    assert.is_true(n1:eval("return node:map('thing'):set('a', 1)"))
    assert.same({ "wrong_kind", true }, { n2:eval([[
      local ok, err = node:queue('thing'):push(1)
      return err.code, tostring(err):find("there is a map of this name", 1, true) ~= nil]]) })
    n3:eval("other = node:map('thing', { codec = 'json' })")
    assert.same({
      "option_conflict",
      "map 'thing' was made with other options (keys msgpack, values msgpack) than here (keys msgpack, values json); "
        .. "give the same ones on every node, or another name",
    }, { n3:eval("local _, err = other:set('a', 2) return err.code, err.message") })
    n3:eval("other:close()")
    assert.equal(1, n3:eval("return node:map('thing'):get('a', { linearizable = true })")) -- nothing was lost
  end)
end)
