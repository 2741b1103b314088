local nodes = require("spec.helper.nodes")

-- Burns the processor for as many seconds as it is told.
local SPIN = [[
function spin(seconds)
  local till = holt.now() + seconds
  while holt.now() < till do end
end
]]

local MEMBER = [[
holt = require "holt"
node = holt.node { connect = CONNECT, cluster = { name = "held", members = 3, election_timeout = 1, heartbeat = 0.05 } }
told = {}
node.events:on("slow_handler", function(where, seconds) told[#told + 1] = { where, seconds } end)
terms = 0
node.events:on("term", function() terms = terms + 1 end)
]] .. SPIN

local function script(connect)
  return ("CONNECT = { %s }\n"):format(connect) .. MEMBER
end

local function start_members()
  local a = nodes.start { name = "a", script = script("") }
  local to_a = ('"%s"'):format(a:address())
  local list = {
    a,
    nodes.start { name = "b", script = script(to_a) },
    nodes.start { name = "c", script = script(to_a) },
  }
  local leader, others = nil, {}
  for _, member in ipairs(list) do
    member:eval("assert(node:ready(20))")
  end
  local name = a:wait_for("node:leader()")
  for _, member in ipairs(list) do
    if member.name == name then
      leader = member
    else
      others[#others + 1] = member
    end
  end
  return leader, others
end

describe("a handler that holds the loop", function()
  nodes.guard(before_each, after_each)

  it("of a leader costs no election; what others write meanwhile is committed", function()
    local leader, others = start_members()
    local term = leader:eval("node:status().term")
    leader:eval("holt.after(0, function() spin(3) over = true end)")
    for i = 1, 10 do
      others[1]:eval(("assert(node:map('m'):set('k', %d))"):format(i))
      assert.equal(i, others[2]:eval("assert(node:map('m'):get('k', { linearizable = true }))"))
    end
    assert.match("warning: [^\n]*a%.lua:%d+ has held the loop for", leader:wait_output("warning: [^\n]*"):gsub("[bc]%.lua", "a.lua"))
    leader:wait_for("over")
    assert.same({ leader.name, term }, { others[1]:eval("node:leader(), node:status().term") })
    assert.same({ leader.name, term }, { leader:eval("node:leader(), node:status().term") })
    assert.equal(10, leader:eval("assert(node:map('m'):get('k', { linearizable = true }))"))
  end)

  it("is named once, in the log at once and by an event when it is over, and counted", function()
    local n = nodes.start { name = "n", script = [[
      holt = require "holt"
      node = holt.node {}
      told = {}
      node.events:on("slow_handler", function(where, seconds) told[#told + 1] = { where, seconds } end)
      node:serve("slow", function(seconds)
        local till = holt.now() + seconds
        while holt.now() < till do end -- line 7
        return "done"
      end)
    ]] }
    assert.equal("done", n:eval("node:call('slow', 0.6)"))
    n:wait_for("told[1]")
    local where, seconds, count, longest =
      n:eval("told[1][1], told[1][2], node:stats().slow_handlers, node:stats().slowest_handler")
    assert.match("n%.lua:7$", where)
    assert.is_true(seconds > 0.4, "it took " .. seconds)
    assert.equal(seconds, longest)
    assert.equal(1, count)
    assert.equal(1, n:eval("#told"))
    assert.equal(1, select(2, n:output("stderr"):gsub("n%.lua:7 has held the loop", "")))
  end)

  it("is not named below the limit, nor with handler_warning = 0", function()
    local n = nodes.start { name = "n", flags = { "--handler-warning=30" }, script = [[
      holt = require "holt"
      node = holt.node {}
    ]] .. SPIN }
    n:eval("spin(0.4)")
    assert.equal(0, n:eval("node:stats().slow_handlers"))
    local m = nodes.start { name = "m", script = [[
      holt = require "holt"
      node = holt.node { handler_warning = 0 }
    ]] .. SPIN }
    m:eval("spin(0.4)")
    assert.equal(0, m:eval("node:stats().slow_handlers"))
    assert.equal("", n:output() .. m:output())
  end)

  it("lets no other Lua run, and a timer of its own comes when it is over", function()
    local n = nodes.start { name = "n", script = [[
      holt = require "holt"
      node = holt.node {}
      order = {}
    ]] .. SPIN }
    n:eval([[
      holt.after(0.1, function() order[#order + 1] = "timer" end)
      spin(0.5)
      order[#order + 1] = "held"
    ]])
    n:wait_for("#order == 2")
    assert.equal("held timer", n:eval("table.concat(order, ' ')"))
  end)

  it("is found inside the user's own coroutines, under his own hook, and leaves that hook in place", function()
    local n = nodes.start { name = "n", script = [[
      holt = require "holt"
      node = holt.node {}
    ]] .. SPIN }
    local turns, is_same, lines = n:eval([[(function()
      local core = require "holt.core"
      local lines, same = 0, false
      local hook = function() lines = lines + 1 end
      local _, _, before = core.watch_counts()
      local co = coroutine.create(function()
        debug.sethook(hook, "l")
        local till = holt.now() + 0.5
        while holt.now() < till do
          local i = 0
        end
        same = debug.gethook() == hook
        debug.sethook()
      end)
      assert(coroutine.resume(co))
      local _, _, after = core.watch_counts()
      return { after - before, same, lines }
    end)()]])
    if type(turns) == "table" then
      turns, is_same, lines = table.unpack(turns)
    end
    assert.is_true(turns >= 2, "turned " .. turns .. " times")
    assert.is_true(is_same)
    assert.is_true(lines > 1000)
  end)

  it("of a txn sees one state from its first line to its last", function()
    local leader, others = start_members()
    leader:eval("assert(node:map('m'):set('k', 0))")
    leader:eval([[
      seen = {}
      holt.go(function()
        assert(node:txn(function(t)
          local first = t:get(node:map('m'), 'k')
          local plain = node:map('m'):get('k')
          in_body = true
          if #seen == 0 then spin(1.5) end
          seen[#seen + 1] = { first, t:get(node:map('m'), 'k'), plain, node:map('m'):get('k') }
          t:set(node:map('m'), 'k', first + 100)
        end))
        over = true
      end)
    ]])
    others[1]:eval("assert(node:map('m'):set('k', 7))")
    assert.equal(7, others[1]:eval("node:map('m'):get('k')"))
    leader:wait_for("over")
    assert.same({ { 0, 0, 0, 0 }, { 7, 7, 7, 7 } }, leader:eval("seen"))
    assert.equal(107, leader:eval("assert(node:map('m'):get('k', { linearizable = true }))"))
  end)
end)

describe("a script that never returns", function()
  nodes.guard(before_each, after_each)

  -- The thread sanitizer holds signals back until the program calls something that it watches.
  local BODY = os.getenv("HOLT_BUILD") == "threads" and "os.time()" or ""

  for _, signal in ipairs { "TERM", "INT" } do
    it("ends with words and code 1 on SIG" .. signal, function()
      local program = nodes.holt("run", nodes.write("spin.lua", "print 'begun'\nwhile true do " .. BODY .. " end\n"), "--control=none")
      program:wait_output("begun")
      assert.equal(1, program:stop(signal))
      assert.match("spin%.lua:2: ended by SIG" .. signal .. ", for it held the loop", program:output("stderr"))
    end)
  end

  it("in a handler: it ends by an error, the nodes are closed, the code is 1", function()
    local n = nodes.start { name = "n", script = [[
      holt = require "holt"
      node = holt.node {}
      node.events:on("error", function(err) print(err) end)
      node.events:on("closed", function() print "closed" end)
    ]] }
    n:eval("holt.after(0, function() print 'begun' while true do " .. BODY .. " end end)")
    n:wait_output("begun")
    assert.equal(1, n:stop("TERM"))
    assert.match("ended by SIGTERM, for it held the loop %[canceled%]", n:output("stdout"))
    assert.match("closed", n:output("stdout"))
  end)

  it("and gave way once as the process was to end: it ends by an error all the same", function()
    local program = nodes.holt("run", nodes.write("late.lua", ([[
      local holt = require "holt"
      local first, second = holt.node {}, holt.node {} -- which are closed one after the other
      second.close = function() holt.sleep(3600) end   -- an end that takes its time
      print "begun"
      while first:is_open() do holt.sleep(0.001) end
      while true do BODY end
    ]]):gsub("BODY", BODY)), "--control=none")
    program:wait_output("begun")
    assert.equal(1, program:stop())
    assert.match("late%.lua:6: ended by SIGTERM, for it held the loop", program:output("stderr"))
  end)

  for what, call in pairs({
    ["pops"] = "q:pop { wait = 1 }",
    ["writes"] = "m:set('k', 1)",
    ["writes many"] = "m:set_all { a = 1 }",
    ["transactions"] = "node:txn(function(t) t:set(m, 'k', 1) end)",
    ["waits for readiness"] = "node:ready(1)",
  }) do
    it("for it " .. what .. " whatever the answer is, ends with 0: a closed node gives way", function()
      local program = nodes.holt("run", nodes.write("loop.lua", ([[
        local holt = require "holt"
        node = holt.node { name = "n1", cluster = { members = 1, election_timeout = 0.1, heartbeat = 0.01 } }
        assert(node:ready(10))
        local q, m = node:queue("q"), node:map("m")
        print "begun"
        while true do CALL end
      ]]):gsub("CALL", call)), "--control=none")
      program:wait_output("begun")
      assert.equal(0, program:stop(), program:output("stderr"))
      assert.equal("", program:output("stderr"))
    end)
  end

  it("and catches every error: the process ends all the same", function()
    local program = nodes.holt("run", nodes.write("stubborn.lua", ([[
      print "begun"
      while true do
        pcall(function() while true do BODY end end)
      end
    ]]):gsub("BODY", BODY)), "--control=none")
    program:wait_output("begun")
    assert.equal(1, program:stop())
    assert.match("stubborn%.lua:%d+ holds the loop and catches every error: the process ends here", program:output())
  end)
end)

describe("plain Lua that computes", function()
  nodes.guard(before_each, after_each)

  it("keeps its links: another node hears its acknowledgements and pings", function()
    local b = nodes.start { name = "b", flags = { "--timeout=1" }, script = [[
      holt = require "holt"
      node = holt.node {}
      lost = 0
      node.events:on("peer_disconnected", function() lost = lost + 1 end)
      node:on("computed", function() lost_before = lost end)
    ]] }
    local program = nodes.plain_lua(([[
      local holt = require "holt"
      local node = holt.node { name = "a", timeout = 1, connect = %q }
      while not (node:peers()[1]:status() or {}).up do holt.sleep(0.01) end
      print "linked"
      local till = holt.now() + 4
      while holt.now() < till do end
      node:emit("computed")
      node:close()
    ]]):format(b:address()))
    program:wait_output("linked")
    assert.equal(0, program:wait())
    assert.equal(0, b:wait_for("lost_before"))
    assert.match(":%d+ has held the loop", program:output("stderr"))
  end)

  it("in a task ends with Ctrl-C as it does on the main thread", function()
    local program = nodes.plain_lua([[
      local holt = require "holt"
      holt.go(function()
        io.stderr:write("begun\n")
        while true do end
      end)
      holt.run()
    ]])
    program:wait_output("begun")
    assert.equal(1, program:stop("INT"))
    assert.match(":4: ended by Ctrl%-C, for it held the loop", program:output("stderr"))
    assert.match("interrupted!", program:output("stderr"))
  end)

  it("is left alone, and unwarned, where it has no node", function()
    local program = nodes.plain_lua([[
      local holt = require "holt"
      holt.sleep(0.01)
      local till = holt.now() + 0.5
      while holt.now() < till do end
      local _, _, turns = require("holt.core").watch_counts()
      print(turns)
    ]])
    assert.equal(0, program:wait())
    assert.equal("", program:output("stderr"))
    assert.is_true(tonumber(program:output("stdout")) <= 1)
  end)
end)
