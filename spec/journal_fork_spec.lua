-- Who writes two histories, and who does not though it looks like it: journals on real processes.
local nodes = require("spec.helper.nodes")

local SCRIPT = [[
holt = require "holt"
node = holt.node {}
log = assert(node:journal("shop", { codec = "raw", authors = AUTHORS }))
forked = {}
log.events:on("forked", function(author, sequence, proof) forked[#forked + 1] = { author, sequence, table.concat(proof, " ") } end)
log.events:on("refused", function() end)
-- Hashes of all entries but those of the nodes themselves, sorted; and the heads.
function all()
  local list, heads = {}, {}
  for entry in log:read() do
    if entry.name ~= "EventPeer" then list[#list + 1] = entry.hash end
  end
  table.sort(list)
  for _, head in ipairs(log:heads()) do heads[#heads + 1] = head.hash end
  return { table.concat(list, " "), table.concat(heads, " ") }
end
function count() return select(2, all()[1]:gsub("%x+", "")) end
]]

-- Two histories of one author, each told to one of two holders (spec/unit/liar.h). The author.
local function fork_between(a, b)
  local path = nodes.executable:gsub("holt$", "unit/test_journal_sim")
  local pipe <close> = assert(io.popen(("timeout -k 2 30 %s --fork %s %s"):format(path, a:address(), b:address())))
  return pipe:read("l")
end

describe("a journal", function()
  nodes.guard(before_each, after_each)

  local function start(name, given)
    given.name, given.script = name, ("AUTHORS = %s\n"):format(given.authors or "nil") .. SCRIPT
    given.flags = given.flags or { "--data", nodes.folder() .. "/" .. name }
    return nodes.start(given)
  end

  it("keeps both histories of who wrote two, and every holder tells it with the proof", function()
    local a, b = start("a", {}), start("b", {})
    local c = start("c", { connect = { b }, listen = "127.0.0.1:0" })
    local author = fork_between(a, b)
    assert.matches("^%x+$", author)
    c:wait_for("count() > 0")
    for _, holder in ipairs { a, b, c } do -- nobody can know yet
      assert.same({}, holder:eval("return forked"))
    end
    b:eval(("node:connect(%q)"):format(a:address()))
    for _, holder in ipairs { a, b, c } do
      holder:wait_for("#forked > 0")
    end
    local here = a:eval("return all()")
    assert.is_true(a:eval("return count()") >= 2)
    local told = a:eval("return forked")
    assert.same(1, #told)
    assert.same({ author, 2 }, { told[1][1], told[1][2] })
    for _, holder in ipairs { a, b, c } do
      assert.same(told, holder:eval("return forked"))
      holder:wait_for(("table.concat(all(), '/') == %q"):format(table.concat(here, "/")))
      assert.is_true(holder:eval("return (log:verify())"))
      assert.same(0, holder:eval("return log:stats().refused"))
    end
    local function check_proof(holder) -- two entries of that author and number
      for hash in told[1][3]:gmatch("%x+") do
        assert.same({ hash, author, 2, "liar" },
          holder:eval(("local e = assert(log:get(%q)) return { e.hash, e.author, e.sequence, e.node }"):format(hash)))
      end
      local head = holder:eval(([[for _, head in ipairs(log:heads()) do
        if head.author == %q then return { head.forked, head.proof.sequence, table.concat(head.proof, " ") } end
      end]]):format(author))
      assert.same({ true, 2, told[1][3] }, head)
    end
    check_proof(b)
    c:stop()
    c:restart() -- not told again, but known
    assert.same({}, c:eval("return forked"))
    check_proof(c)
    -- who does not take the author's entries hears nothing of it
    local holders = ("{ %q, %q }"):format(a:eval("return log.id"), b:eval("return log.id"))
    local d = start("d", { connect = { a }, listen = false, authors = holders })
    a:eval("assert(log:emit('A', 'x', { holders = 2, timeout = 20 }))")
    d:wait_for("count() == 1")
    assert.same({}, d:eval("return forked"))
  end)

  it("is written on by two copies of a folder without a fork", function()
    local a, b = start("a", {}), start("b", {})
    local folder = nodes.folder() .. "/x"
    local x = start("x", { connect = { a }, listen = false })
    local id = x:eval("for i = 1, 3 do assert(log:emit('A', 'together ' .. i, { holders = 1, timeout = 20 })) end return log.id")
    x:stop()
    assert(os.execute(("cp -r %s %s.copy"):format(folder, folder)))
    x = start("x", { connect = { a }, listen = false })
    local copy = start("x", { connect = { b }, listen = false, control = "copy", flags = { "--data", folder .. ".copy" } })
    assert.same(id, copy:eval("return log.id"))
    for _, one in ipairs { x, copy } do
      one:eval("for i = 1, 5 do assert(log:emit('A', 'apart ' .. i, { holders = 1, timeout = 20 })) end")
    end
    b:eval(("node:connect(%q)"):format(a:address()))
    local everybody = { a, b, x, copy }
    for _, holder in ipairs(everybody) do
      holder:wait_for("count() == 13")
    end
    local here = a:eval("return all()")
    for _, holder in ipairs(everybody) do
      holder:wait_for(("table.concat(all(), '/') == %q"):format(table.concat(here, "/")))
      assert.same({}, holder:eval("return forked"))
      assert.same(0, holder:eval("return log:stats().forks"))
      assert.is_true(holder:eval("return (log:verify())"))
    end
    assert.same(3, a:eval(([[local n = 0
      for _, head in ipairs(log:heads()) do n = n + (head.holder == %q and 1 or 0) end return n]]):format(id)))
  end)
end)
