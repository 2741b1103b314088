local core = require("holt.core")
local eventually = require("spec.helper.eventually")
local holt = require("holt")
local wire = require("spec.helper.wire")

-- The rows of docs/coming-from.md that no other spec shows.

local nodes, world, transport

local function make(options)
  options.transport = options.transport or transport
  options.backoff_min, options.backoff_max = options.backoff_min or 0.001, options.backoff_max or 0.01
  local node = holt.node(options)
  nodes[#nodes + 1] = node
  return node
end

local function is_up(node)
  local peer = node:peers()[1]
  return peer and peer:status().up
end

local function linked(...)
  for _, node in ipairs({ ... }) do
    eventually("the link of " .. node.name, function()
      return is_up(node)
    end)
  end
end

-- b dials a.
local function pair(options_a, options_b)
  options_a, options_b = options_a or {}, options_b or {}
  options_a.name, options_a.listen = options_a.name or "a", "a"
  options_b.name, options_b.connect = options_b.name or "b", "a"
  local a, b = make(options_a), make(options_b)
  linked(a, b)
  return a, b, b:peers()[1]
end

-- The arguments of every event of `subject`, as a list.
local function gather(node, subject)
  local got = {}
  node:on(subject, function(value)
    got[#got + 1] = value
  end)
  return got
end

local function wait_count(what, list, count)
  eventually(("%d %s"):format(count, what), function()
    return #list >= count
  end)
end

local function acknowledged(peer)
  eventually("the acknowledgement", function()
    return peer:status().buffered == 0
  end)
end

-- Cut the wire and wait until both sides have noticed.
local function cut(...)
  world.cut()
  for _, node in ipairs({ ... }) do
    eventually("the loss at " .. node.name, function()
      return not is_up(node)
    end)
  end
end

local function begin()
  nodes, world = {}, {}
  transport = wire(world)
end

local function finish()
  for _, node in ipairs(nodes) do
    node:close()
  end
  eventually("the end of all tasks", function()
    return core.task_count() == 0
  end)
end

describe("making a node:", function()
  before_each(begin)
  after_each(finish)

  it("its name is what others know it by; without one it draws one; boot is new each time", function()
    local a, b = pair({ name = "shop" })
    assert.equal("shop", b:peers()[1].name)
    assert.equal(a.id, b:peers()[1].id)
    local one, two = make({}), make({})
    assert.matches("^node%-%x+$", one.name)
    assert.not_equal(one.name, two.name)
    assert.not_equal(one.boot, two.boot)
  end)

  it("a wrong channel is not tried again in a storm", function()
    make({ name = "a", listen = "a", channel = "red" }).events:on("error", function() end)
    local b = make({ name = "b", channel = "blue", backoff_min = 0.001, backoff_max = 8 })
    b.events:on("error", function() end)
    local delay, err
    b:connect("a"):on("backoff", function(_, seconds, why)
      delay, err = delay or seconds, err or why
    end)
    eventually("the refusal", function()
      return delay
    end)
    assert.equal("wrong_channel", err.code)
    assert.matches("red", err.message)
    assert.matches("blue", err.message)
    assert.is_true(delay >= 4, "the next attempt comes after " .. delay .. " s")
  end)

  it("a link that falls silent is given up after timeout, with that code", function()
    local _, b, peer = pair({}, { timeout = 0.2 }) -- one limit only: whose runs out first is not by chance
    local told, lost
    peer:on("disconnect", function(err)
      told = told or err
    end)
    b.events:on("peer_disconnected", function(gone, err)
      lost = lost or { gone, err }
    end)
    world.is_mute = true
    eventually("the end of patience", function()
      return told and lost
    end)
    assert.equal("timeout", told.code)
    assert.equal(peer, lost[1])
    assert.equal("timeout", lost[2].code)
  end)

  it("a handshake that is not finished within timeout fails, with that code", function()
    local listener = assert(core.listen("127.0.0.1:0")) -- takes connections and says nothing
    local b = make({ name = "b", transport = "tcp", timeout = 0.1, connect = listener:address() })
    local told
    b:peers()[1]:on("backoff", function(_, _, err)
      told = told or err
    end)
    eventually("the end of patience", function()
      return told
    end)
    listener:close()
    assert.equal("timeout", told.code)
    assert.matches("handshake", told.message)
  end)

  it("what is older than buffer_timeout is dropped here, and a gap there", function()
    local a, b, peer = pair({ ack_interval = 0.01 }, { buffer_timeout = 0.1 })
    local got, dropped, gap, of_peer = gather(a, "n"), nil, nil, 0
    b:emit("n", 1)
    acknowledged(peer)
    peer:on("dropped", function(count, err)
      dropped = { count = (dropped and dropped.count or 0) + count, err = err }
    end)
    a.events:on("gap", function(origin, missed)
      gap = { origin, (gap and gap[2] or 0) + missed }
    end)
    a:peers()[1]:on("gap", function(missed)
      of_peer = of_peer + missed
    end)
    cut(a, b)
    b:emit("n", 2)
    b:emit("n", 3)
    eventually("their end", function()
      return dropped and dropped.count == 2
    end)
    assert.equal("timeout", dropped.err.code)
    assert.equal(0, b:peers()[1]:status().buffered)
    world.heal()
    linked(a, b)
    b:emit("n", 4)
    eventually("the gap", function()
      return gap and gap[2] == 2 and of_peer == 2
    end, 8)
    assert.equal("b", gap[1])
    wait_count("events", got, 2)
    assert.same({ 1, 4 }, got)
  end)

  it("buffer_max keeps the newest for a peer that is away, and tells what it dropped", function()
    local a, b, peer = pair({ ack_interval = 0.01 }, { buffer_max = 2 })
    local got, dropped, at_node = gather(a, "n"), 0, 0
    b:emit("n", 0)
    acknowledged(peer)
    peer:on("dropped", function(count, err)
      assert(err.code == "buffer_full")
      dropped = dropped + count
    end)
    b.events:on("dropped", function(which, count)
      at_node = which == peer and at_node + count or at_node
    end)
    cut(a, b)
    for i = 1, 5 do
      assert.is_true(b:emit("n", i))
    end
    assert.equal(2, peer:status().buffered)
    world.heal()
    wait_count("events", got, 3)
    assert.same({ 0, 4, 5 }, got)
    assert.equal(3, dropped)
    assert.equal(3, at_node)
    assert.equal(3, peer:status().dropped)
  end)

  it("overflow = error makes emit fail when the buffer of an absent peer is full", function()
    local a, b = pair({}, { buffer_max = 2, overflow = "error" })
    local got = gather(a, "n")
    cut(a, b)
    assert(b:emit("n", 1))
    assert(b:emit("n", 2))
    local ok, err = b:emit("n", 3)
    assert.is_nil(ok)
    assert.equal("buffer_full", err.code)
    assert.equal("a", err.node)
    world.heal()
    wait_count("events", got, 2)
    assert.same({ 1, 2 }, got)
  end)

  it("a busy link is acknowledged every 256 messages, however long ack_interval is", function()
    local a, _, peer = pair({ ack_interval = 60 }, { ack_interval = 60 })
    local got, acks = gather(a, "n"), {}
    peer:on("acknowledge", function(sequence)
      acks[#acks + 1] = sequence
    end)
    for i = 1, 600 do
      assert(peer.node:emit("n", i))
    end
    wait_count("events", got, 600)
    eventually("an acknowledgement", function()
      return peer:status().acknowledged >= 512
    end)
    eventually("the events of it", function()
      return #acks > 0 and acks[#acks] >= 512
    end)
    assert.is_true(peer:status().buffered <= 88)
  end)

  it("a quiet link is acknowledged once every ack_interval, and the buffer is empty then", function()
    local _, b, peer = pair({ ack_interval = 0.02 })
    local last
    peer:on("acknowledge", function(sequence)
      last = sequence
    end)
    b:emit("n")
    b:emit("n")
    assert.equal(2, peer:status().buffered)
    eventually("the acknowledgement", function()
      return last == 2
    end)
    assert.equal(0, peer:status().buffered)
    assert.equal(2, peer:status().acknowledged)
  end)

  it("max_peers is a limit: the next link is refused, both sides are told why", function()
    local a, b = pair({ max_peers = 1 })
    local at_a, at_c
    a.events:on("error", function(err)
      at_a = err
    end)
    local c = make({ name = "c" })
    c.events:on("error", function(err)
      at_c = err
    end)
    local refused
    c:connect("a"):on("disconnect", function(err)
      refused = refused or err
    end)
    eventually("the refusal", function()
      return at_a and at_c
    end)
    assert.equal("max_peers", at_a.code)
    assert.equal("max_peers", at_c.code)
    assert.is_true(is_up(b))
    assert.equal(1, #a:peers())
  end)

  it("it listens at several addresses, and tells where others reach it", function()
    local a = make({ name = "a", listen = { "a", "also" }, advertise = "shop.example:7000" })
    local b, c = make({ name = "b", connect = "a" }), make({ name = "c", connect = "also" })
    linked(b, c)
    assert.same({ "a", "also" }, a:status().listen)
    assert.same({ "shop.example:7000" }, a:status().advertise)
    assert.same({}, b:status().advertise)
    eventually("both peers", function()
      return #a:peers() == 2
    end)
  end)
end)

describe("a node", function()
  before_each(begin)
  after_each(finish)

  it("listens where it is told later, too; port 0 picks a free one", function()
    local a = make({ name = "a", transport = "tcp" })
    local told
    a.events:on("listening", function(address)
      told = address
    end)
    local ok, address = a:listen("127.0.0.1:0")
    assert.is_true(ok)
    assert.matches("^127.0.0.1:%d+$", address)
    assert.not_matches(":0$", address)
    eventually("the word of it", function()
      return told
    end)
    assert.equal(address, told)
    local second = select(2, a:listen("127.0.0.1:0"))
    assert.same({ address, second }, a:status().listen)
    local b = make({ name = "b", transport = "tcp", connect = second })
    linked(b)
  end)

  it("gives a peer at once, before anybody listens, and keeps what is emitted until the link stands", function()
    local b = make({ name = "b" })
    local peer = assert(b:connect("a"))
    assert.equal(peer, b:peers()[1])
    assert.is_false(peer:status().up)
    for i = 1, 3 do
      assert.is_true(b:emit("n", i))
    end
    local a = make({ name = "a", listen = "a" })
    local got = gather(a, "n")
    wait_count("events", got, 3)
    assert.same({ 1, 2, 3 }, got)
  end)

  it("without any peer loses what it emits, and emits all the same", function()
    local a = make({ name = "a", listen = "a" })
    assert.is_true(a:emit("n", "lost"))
    local b = make({ name = "b", connect = "a" })
    local got = gather(b, "n")
    linked(a, b)
    a:emit("n", "found")
    wait_count("event", got, 1)
    assert.same({ "found" }, got)
  end)

  it("may write first when it was dialled", function()
    local a, b = pair()
    local got = gather(b, "n")
    a:emit("n", "from the accepting side")
    wait_count("event", got, 1)
    assert.same({ "from the accepting side" }, got)
  end)

  it("drops its peers at disconnect and does not dial them anew, but may connect and be dialled again", function()
    local a, b, peer = pair()
    local closed, reconnects = 0, 0
    peer:on("close", function()
      closed = closed + 1
    end)
    peer:on("reconnect", function()
      reconnects = reconnects + 1
    end)
    assert.is_true(b:disconnect())
    assert.same({}, b:peers())
    eventually("the end at both sides", function()
      return closed == 1 and not is_up(a)
    end)
    holt.sleep(0.03) -- several times backoff_max
    assert.same({}, b:peers())
    assert.equal(0, reconnects)
    local again = assert(b:connect("a"))
    assert.not_equal(peer, again)
    linked(a, b)
  end)

  it("has all its peers in a list, those still dialling too; an ended one leaves it at once", function()
    local _, b, peer = pair()
    local nobody = b:connect("nobody")
    assert.same({ [peer] = true, [nobody] = true }, { [b:peers()[1]] = true, [b:peers()[2]] = true })
    nobody:close()
    assert.same({ peer }, b:peers())
    peer:close()
    assert.same({}, b:peers())
  end)

  it("may be read as one stream of events, and piped on", function()
    local a, b = pair()
    local c = make({ name = "c", listen = "c" })
    local d = make({ name = "d", connect = "c" })
    linked(c, d)
    a:on(">", function(...) -- from one bus into another
      assert(c:emit(holt.event().subject, ...))
    end)
    local got = {}
    d:on(">", function(...)
      got[#got + 1] = { holt.event().subject, ... }
    end)
    b:emit("order.new", "apple", 1)
    b:emit("stop")
    wait_count("events", got, 2)
    assert.same({ { "order.new", "apple", 1 }, { "stop" } }, got)
    local ended = false
    a.events:on("closed", function()
      ended = true
    end)
    a:close()
    eventually("the end of the stream", function()
      return ended
    end)
  end)

  it("passes events on between its peers, and sends none back to where it came from", function()
    local hub = make({ name = "hub", listen = "hub" })
    local got = {}
    local all = {}
    for _, name in ipairs({ "a", "b", "c" }) do
      all[name] = make({ name = name, connect = "hub" })
      linked(all[name])
      all[name]:on("n", function(value)
        got[#got + 1] = name .. " heard " .. value
      end)
    end
    hub:on("n", function(value)
      got[#got + 1] = "hub heard " .. value
    end)
    all.a:emit("n", 1)
    wait_count("events", got, 3)
    hub:emit("n", 2)
    wait_count("events", got, 6)
    all.b:emit("n", 3)
    wait_count("events", got, 9)
    table.sort(got)
    assert.same({
      "a heard 2",
      "a heard 3",
      "b heard 1",
      "b heard 2",
      "c heard 1",
      "c heard 2",
      "c heard 3",
      "hub heard 1",
      "hub heard 3",
    }, got)
    assert.equal(0, all.a:stats().duplicates)
  end)

  it("reaches each of several servers once, and keeps the order of several clients", function()
    local client = make({ name = "client" })
    local got, of_clients = {}, {}
    for _, name in ipairs({ "s1", "s2", "s3" }) do
      local server = make({ name = name, listen = name })
      server:on("n", function(value)
        got[#got + 1] = name .. value
      end)
      server:on("back", function(value)
        of_clients[#of_clients + 1] = value
      end)
      client:connect(name)
      linked(server)
    end
    eventually("three links", function()
      local count = 0
      for _, peer in ipairs(client:peers()) do
        count = count + (peer:status().up and 1 or 0)
      end
      return count == 3
    end)
    client:emit("n", 1)
    wait_count("events", got, 3)
    table.sort(got)
    assert.same({ "s11", "s21", "s31" }, got)
  end)
end)

describe("a peer", function()
  before_each(begin)
  after_each(finish)

  it("tells of its connection's life in this order, with attempts, delays and errors", function()
    local a, b, peer = pair()
    local told = {}
    for _, name in ipairs({ "connect", "peerid", "initialized", "disconnect", "backoff", "reconnect", "close" }) do
      peer:on(name, function(...)
        local words = { name }
        for _, value in ipairs({ ... }) do
          words[#words + 1] = type(value) == "table" and value.code or type(value) == "string" and "text" or math.type(value)
        end
        local line = table.concat(words, " ")
        if told[#told] ~= line and told[#told - 1] ~= line then -- one round of attempts stands for all
          told[#told + 1] = line
        end
      end)
    end
    cut(a, b)
    world.heal()
    linked(a, b)
    peer:close()
    eventually("the end", function()
      return told[#told] == "close"
    end)
    assert.equal("disconnect connection_reset", told[1])
    assert.equal("backoff integer float connection_reset", told[2])
    assert.equal("reconnect integer float", told[3])
    assert.same({ "connect", "peerid text text", "initialized", "close" }, { table.unpack(told, #told - 3) })
  end)

  it("counts attempts from 1 and never waits longer than backoff_max; a finished handshake starts anew", function()
    local a, b, peer = pair({}, { backoff_min = 0.001, backoff_max = 0.004 })
    local attempts, longest = {}, 0
    peer:on("backoff", function(attempt, delay)
      attempts[#attempts + 1] = attempt
      longest = math.max(longest, delay)
    end)
    for _ = 1, 2 do
      local first = #attempts
      cut(a, b)
      wait_count("attempts", attempts, first + 5)
      for i = 1, 5 do
        assert.equal(i, attempts[first + i])
      end
      world.heal()
      linked(a, b)
      assert.equal(0, peer:status().attempts)
    end
    assert.is_true(longest <= 0.004)
  end)

  it("is told to the node as it comes and goes, incoming ones too", function()
    local a = make({ name = "a", listen = "a" })
    local told = {}
    a.events:on("peer_connected", function(peer)
      told[#told + 1] = "came " .. peer.name
    end)
    a.events:on("peer_disconnected", function(peer)
      told[#told + 1] = "went " .. peer.name
    end)
    local b = make({ name = "b", connect = "a" })
    wait_count("word", told, 1)
    b:close()
    wait_count("words", told, 2)
    assert.same({ "came b", "went b" }, told)
  end)

  it("ends once when it is closed before anybody ever answered", function()
    local b = make({ name = "b" })
    local peer, closed = b:connect("nobody"), 0
    peer:on("close", function()
      closed = closed + 1
    end)
    assert.is_true(peer:close())
    assert.is_false(peer:close())
    eventually("the end", function()
      return closed > 0
    end)
    holt.sleep(0.005)
    assert.equal(1, closed)
    assert.is_true(b:emit("n")) -- nothing is written to it
    assert.equal("closed", select(2, peer:status()).code)
  end)

  it("shows its figures: up, name, id, buffered, acknowledged, attempts, connects", function()
    local a, b, peer = pair({ ack_interval = 0.01 })
    b:emit("n", ("x"):rep(100))
    assert.equal(1, peer:status().buffered)
    assert.is_true(peer:status().buffered_bytes > 100)
    acknowledged(peer)
    local status = peer:status()
    assert.equal("a", status.name)
    assert.equal(a.id, status.id)
    assert.equal(a.boot, status.boot)
    assert.equal(1, status.acknowledged)
    assert.equal(0, status.attempts)
    assert.equal(1, status.connects)
  end)

  it("that comes back gets exactly what it has not seen, once and in order", function()
    local a, b = pair()
    local got = gather(a, "n")
    for i = 1, 3 do
      b:emit("n", i)
    end
    wait_count("events", got, 3)
    cut(a, b)
    for i = 4, 6 do
      b:emit("n", i)
    end
    world.heal()
    wait_count("events", got, 6)
    b:emit("n", 7)
    wait_count("events", got, 7)
    assert.same({ 1, 2, 3, 4, 5, 6, 7 }, got)
  end)

  it("that dialled us gets what was emitted while it was away", function()
    local a, b = pair()
    local got = gather(b, "n")
    a:emit("n", 1)
    wait_count("event", got, 1)
    cut(a, b)
    a:emit("n", 2)
    a:emit("n", 3)
    world.heal()
    wait_count("events", got, 3)
    assert.same({ 1, 2, 3 }, got)
  end)

  it("that was ended leaves the list of the other side, whose buffer waits for its return", function()
    local a, b = pair()
    local seen = gather(b, "n")
    a:emit("n", 1)
    wait_count("event", seen, 1)
    local name = b.name
    b:close()
    eventually("its end at the other side", function()
      return not is_up(a)
    end)
    a:emit("n", 2)
    local again = make({ name = name, connect = "a" })
    local got = gather(again, "n")
    wait_count("event", got, 1)
    assert.equal(2, got[#got])
  end)

  it("of the same boot that connects anew takes the place of its older link", function()
    local a, b, peer = pair({ timeout = 60 }, { timeout = 60 })
    local got = gather(a, "n")
    world.streams[1]:over(holt.errors.new("connection_reset", "only this side noticed"))
    eventually("the new link", function()
      return peer:status().connects == 2 and is_up(a)
    end)
    b:emit("n", "over the new link")
    wait_count("event", got, 1)
    local up = 0
    for _, there in ipairs(a:peers()) do
      up = up + (there:status().up and 1 or 0)
    end
    assert.equal(1, up)
  end)
end)

describe("docs/coming-from.md", function()
  it("names specs that exist", function()
    local texts = {}
    local function text_of(name)
      if not texts[name] then
        local file = io.open(name:find("/") and "spec/" .. name or ("spec/" .. name .. "_spec.lua"))
        texts[name] = file and file:read("a") or ""
        if file then
          file:close()
        end
      end
      return texts[name]
    end
    local missing, count, of_table = {}, 0, nil
    for line in io.lines("docs/coming-from.md") do
      local shown = line:match("^|.*|%s*(.-)%s*|$")
      if shown and shown:find("^shown by") then
        of_table = shown:match("%((.-)%)")
      elseif shown and shown ~= "" and shown ~= "the same" and not shown:find("^%-+$") then
        local file = of_table
        for part in (shown .. " · "):gmatch("(.-) · ") do
          local other, name = part:match("^([%w_]+): (.*)$")
          if other then
            file = other
          else
            name = part
          end
          count = count + 1
          name = name:match(": ([^:]+)$") and name:find("^misuse") and name:match(": ([^:]+)$") or name
          if name:find("^unit/") then
            if text_of(name) == "" then
              missing[#missing + 1] = name
            end
          elseif name == "all of it" then
            text_of(file)
          elseif not text_of(file):find(name, 1, true) then
            missing[#missing + 1] = file .. ": " .. name
          end
        end
      end
    end
    assert.same({}, missing)
    assert.is_true(count > 60)
  end)
end)
