local nodes = require("spec.helper.nodes")

-- Members as others see them: who is missing and since when, who came and went. Three processes, default settings.
local SCRIPT = [[
  holt = require "holt"
  node = holt.node { connect = CONNECT, request_timeout = 3, cluster = { name = "members", CLUSTER } }
  map = node:map("m")
  told = {}
  for _, event in ipairs { "member_joined", "member_left" } do
    node.events:on(event, function(name, id) told[#told + 1] = event .. " " .. name end)
  end
]]

describe("the members of a cluster", function()
  nodes.guard(before_each, after_each)

  local list, addresses

  local function launch(name, cluster)
    local node = nodes.start({
      name = name,
      script = SCRIPT:gsub("CONNECT", "{ " .. table.concat(addresses, ", ") .. " }"):gsub("CLUSTER", cluster),
    })
    addresses[#addresses + 1] = ("%q"):format(node:address())
    return node
  end

  local function start(settings)
    list, addresses = {}, {}
    for i = 1, 3 do
      list[i] = launch("n" .. i, "members = 3" .. (settings or ""))
    end
    for _, node in ipairs(list) do
      node:eval("assert(node:ready(20))", 30)
    end
    return list[1], list[2], list[3]
  end

  local function status(node)
    local shell = nodes.holt("status", "--control", node.control)
    assert.equal(0, shell:wait(), shell:output())
    return shell:output("stdout")
  end

  it("that stand still are missed like those that are dead: by name, in errors and in the shell, and since when", function()
    local n1, n2, n3 = start()
    assert.is_true(n1:eval("return (map:set('k', 1))"))
    n2:pause()
    n3:pause()
    n1:wait_for("not node:status().cluster.quorum")
    n1:wait_for([[(function()
      local missing = 0
      for _, member in ipairs(node:members()) do
        if not member.linked and member.last_heard >= 0 then missing = missing + 1 end
      end
      return missing == 2
    end)()]])
    local code, words = n1:eval("local _, err = map:set('k', 2, { timeout = 0.3 }) return err.code, err.message")
    assert.is_true(code == "no_quorum" or code == "unknown", code)
    if code == "no_quorum" then
      assert.matches("not connected: n[23] for %d+ s, n[23] for %d+ s; start them, or mend the network between", words)
    end
    local said = status(n1)
    assert.matches("quorum   NO for %d s; missing: n[23] for %d s, n[23] for %d s\n", said)
    assert.matches("n2 +voter [^\n]-not connected for %d s", said)
    n2:resume()
    n3:resume()
    n1:wait_for("node:status().cluster.quorum")
    assert.is_true(n1:eval("return (map:set('k', 3))"))
    assert.matches("quorum   yes\n", status(n1))
  end)

  it("find each other again after all were killed, though the one that they were told to dial is gone", function()
    list, addresses = {}, {}
    for i = 1, 3 do
      local name = "n" .. i
      list[i] = nodes.start({
        name = name,
        script = SCRIPT:gsub("CONNECT", "{ " .. (addresses[1] or "") .. " }"):gsub("CLUSTER", "members = 3"),
        flags = { "--data=" .. nodes.folder() .. "/" .. name },
      })
      addresses[i] = ("%q"):format(list[i]:address())
    end
    for _, node in ipairs(list) do
      node:eval("assert(node:ready(20))", 30)
    end
    assert.is_true(list[1]:eval("return (map:set('k', 1))"))
    for _, node in ipairs(list) do
      node:kill()
    end
    list[2]:restart()
    list[3]:restart()
    for i = 2, 3 do
      list[i]:eval("assert(node:ready(20))", 30)
      assert.equal(1, (list[i]:eval("return map:get('k', { linearizable = true })")))
    end
    assert.is_true(list[3]:eval("return (map:set('k', 2))"))
  end)

  it("do not say that they have been without a majority for longer than they have lived", function()
    list, addresses = {}, {}
    local alone = launch("alone", "members = 3")
    assert.matches("quorum   NO for %d s", status(alone)) -- of the boot of the machine it would be more
  end)

  it("are told of with their names: one without a vote as well, as it comes and as it goes", function()
    local n1 = start()
    local learner = launch("c1", "voter = false, join = { " .. addresses[1] .. " }")
    learner:eval("assert(node:ready(20))", 30)
    n1:wait_for([[told[#told] == "member_joined c1"]])
    assert.is_true((learner:eval("return node:leave(5)", 10)))
    n1:wait_for([[told[#told] == "member_left c1"]])
    assert.equal(3, (n1:eval("return #node:members()")))
    local late = launch("late", "voter = false, join = { " .. addresses[1] .. " }") -- it replays all of that
    late:eval("assert(node:ready(20))", 30)
    late:wait_for([[told[#told] == "member_joined late"]])
    for _, event in ipairs(late:eval("return told")) do
      assert.matches("^member_%a+ %w+$", event)
    end
  end)

  it("let one without a vote leave a cluster of one", function()
    list, addresses = {}, {}
    local one = launch("one", "members = 1")
    one:eval("assert(node:ready(20))", 30)
    local learner = launch("c1", "voter = false, join = { " .. addresses[1] .. " }")
    learner:eval("assert(node:ready(20))", 30)
    one:wait_for("#node:members() == 2")
    assert.is_true((learner:eval("return node:leave(5)", 10)))
    assert.equal(1, (one:eval("assert(node:barrier(5)) return #node:members()")))
  end)

  it("carry the largest operation that max_entry_bytes may allow, written at any of them; more is refused in words", function()
    local most = 7 * 1024 * 1024
    local n1, n2, n3 = start(", max_entry_bytes = " .. most)
    for i, node in ipairs(list) do
      assert.is_true((node:eval(("return (map:set('k%d', ('x'):rep(%d - 200)))"):format(i, most), 20)))
      local code = node:eval(("local _, err = map:set('k%d', ('x'):rep(%d)) return err.code"):format(i, most))
      assert.equal("too_large", code)
    end
    assert.is_true((n2:eval("return (map:set('small', 1))")))
    for _, node in ipairs({ n1, n2, n3 }) do
      assert.equal(most - 200, (node:eval("return #map:get('k1', { linearizable = true })", 20)))
    end
    local more = nodes.write("more.lua", 'require("holt").node { cluster = { name = "x", max_entry_bytes = 8 << 20 } }')
    local refused = nodes.holt("run", more)
    assert.equal(1, refused:wait(10))
    assert.matches("max_entry_bytes", refused:output("stderr"), 1, true)
    assert.matches("7340032", refused:output("stderr"), 1, true)
  end)
end)
