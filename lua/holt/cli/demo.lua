--- holt demo: three nodes with something to watch, no file needed.
-- The parent starts three processes of this same program (`holt demo --node NAME`), listens to what they print, kills
-- one and starts it again, and counts. Each node prints one short line for each thing that happens to it.
local children = require("holt.cli.children")
local core = require("holt.core")
local term = require("holt.cli.term")

local NAMES = { "otter", "heron", "perch" }
local VICTIM = "perch" -- it handles and does not emit: what it had not sent would die with it, which nobody could help
local EMITTERS = { otter = "water.level", heron = "water.temperature" }
local INTERVAL = 0.3 -- seconds between the events of one node
local KILL_AT, RESTART_AT, END_AT = 3.5, 6.5, 10.5
local PATIENCE = 10 -- seconds to wait for what is still on its way

local verb = {
  name = "demo",
  usage = "holt demo",
  summary = "Three nodes that talk and share a map, lose one of them, and heal; ends by itself after about 12 seconds.",
  examples = {
    { "holt demo", "watch it" },
    { "NO_COLOR=1 holt demo | tee demo.txt", "without colour, into a file too" },
  },
  flags = {
    { "node", is_hidden = true, value = "NAME", help = "be one of its nodes (the demo does this by itself)" },
    { "listen", is_hidden = true, value = "ADDRESS", help = "with --node: where it listens" },
    { "connect", is_hidden = true, value = "ADDRESS", help = "with --node: whom it dials", is_repeatable = true },
  },
}

-- --- One of the nodes -------------------------------------------------------------------------------------------

local function be_node(values)
  local holt = require("holt")
  local node = holt.node {
    name = values.node,
    channel = "holt-demo",
    listen = values.listen,
    connect = values.connect,
    backoff_max = 0.5,
    cluster = { name = "demo", members = #NAMES },
  }
  local map = node:map("numbers") -- the last number of each subject, alike on every member
  local function tell(...)
    io.stdout:write(table.concat({ ... }, " "), "\n")
    io.stdout:flush()
  end
  local function store(subject, number)
    if map:set(subject, number) then
      tell("stored", subject, tostring(number))
    end
  end
  local function tell_map()
    assert(node:barrier(PATIENCE))
    for subject, number in map:pairs() do
      tell("holds", subject, tostring(number))
    end
    tell("holds", "all", tostring(map:size()))
  end
  local is_stopping = false
  core.on_signal("SIGINT", function() end) -- the terminal tells us too, but the parent decides
  core.on_signal("SIGTERM", function()
    node:close()
    core.exit(0)
  end)
  core.on_signal("SIGUSR1", function()
    is_stopping = true
  end)
  core.on_signal("SIGUSR2", function()
    core.go(tell_map)
  end)
  node.events:on("leader", function()
    tell("leads")
  end)
  local is_linked = {} -- two nodes that dial each other have a peer for each end of their one link
  node.events:on("peer_connected", function(peer)
    if not is_linked[peer.name] then
      is_linked[peer.name] = true
      tell("link", peer.name)
    end
  end)
  node.events:on("peer_disconnected", function(peer)
    is_linked[peer.name] = nil
  end)
  node:on("water.>", function(number, value)
    local event = holt.event()
    tell("handled", event.origin, tostring(number), ("%.1f"):format(event.age), tostring(value))
  end)
  tell("ready", node:status().listen[1])
  local subject, number = EMITTERS[values.node], 0
  while subject and not is_stopping do
    holt.sleep(INTERVAL)
    if not is_stopping then
      number = number + 1
      local value = math.floor((subject == "water.level" and 1.2 or 17.5) * 10 + core.random() % 9) / 10
      assert(node:emit(subject, number, value))
      tell("emitted", tostring(number), subject, tostring(value))
      core.go(store, subject, number)
    end
  end
  return nil
end

-- --- The stage --------------------------------------------------------------------------------------------------

local function free_addresses(count)
  local listeners, addresses = {}, {}
  for i = 1, count do
    listeners[i] = assert(core.listen("127.0.0.1:0"))
    addresses[i] = listeners[i]:address()
  end
  for _, listener in ipairs(listeners) do
    listener:close()
  end
  return addresses
end

local Show = {}
Show.__index = Show

local function colour_of(name)
  for i, known in ipairs(NAMES) do
    if known == name then
      return term.colour(i)
    end
  end
end

function Show:line(name, text)
  local stamp = term.paint(1, "dim", ("%5.1f s "):format(core.now() - self.began))
  local label = name and term.paint(1, colour_of(name), ("%-6s"):format(name)) or term.paint(1, "bold", "*     ")
  term.print(stamp .. " " .. label .. " " .. text)
end

local function named(name)
  return term.paint(1, colour_of(name), name)
end

local function is_done(event)
  for _, name in ipairs(NAMES) do
    if name ~= event.origin and not event.by[name] then
      return false
    end
  end
  return true
end

function Show:event_of(origin, number)
  local key = origin .. " " .. number
  local event = self.events[key]
  if not event then
    event = { origin = origin, number = tonumber(number), by = {} }
    self.events[key] = event
    self.order[#self.order + 1] = event
  end
  return event
end

-- Print an event once its emitter has told of it and everybody who is there has handled it.
function Show:show(event)
  if event.is_shown or not event.subject then
    return
  end
  local by, away = {}, {}
  for _, name in ipairs(NAMES) do
    if event.by[name] then
      by[#by + 1] = named(name)
    elseif name ~= event.origin then
      if self.is_up[name] then
        return
      end
      away[#away + 1] = named(name)
    end
  end
  event.is_shown = true
  local text = ("%-18s %5s  #%-3d -> %s"):format(event.subject, event.value, event.number, table.concat(by, ", "))
  if #away > 0 then
    text = text .. term.paint(1, "yellow", "  kept for ") .. table.concat(away, ", ")
  end
  self:line(event.origin, text)
end

local told = {}

function told.ready(show, child, address)
  show:line(child.name, term.paint(1, "green", "ready") .. " at " .. address)
  show.ready[child.name] = true
end

function told.link(show, child, other)
  show:line(child.name, "linked with " .. named(other))
  show.is_up[child.name] = true
  show.links = show.links + 1
end

function told.leads(show, child)
  if show.group.is_stopping then
    return -- the last one standing: nothing to watch any more
  end
  show:line(child.name, "leads the cluster that the three hold the map 'numbers' in")
end

function told.stored(show, _, subject, number)
  show.stored[subject] = math.max(show.stored[subject] or 0, tonumber(number))
  show.writes = show.writes + 1
end

function told.holds(show, child, subject, number)
  show.holds[child.name] = show.holds[child.name] or {}
  show.holds[child.name][subject] = tonumber(number)
end

function told.emitted(show, child, number, subject, value)
  local event = show:event_of(child.name, number)
  event.subject, event.value = subject, value
  event.is_emitted = true
  show:show(event)
end

function told.handled(show, child, origin, number, age, _)
  local event = show:event_of(origin, number)
  if event.by[child.name] then
    show.again = show.again + 1
    return
  end
  event.by[child.name] = true
  if event.is_shown then
    show.late = show.late + 1
    show:line(child.name, ("%s #%d of %s, %s s old"):format(term.paint(1, "green", "catches up:"), event.number, named(origin), age))
  end
  show:show(event)
end

function Show:start(name)
  self.is_up[name] = false
  local command = { core.executable(), "demo", "--node", name, "--listen", self.address[name] }
  for _, other in ipairs(NAMES) do
    if other == name then
      break
    end
    table.insert(command, "--connect=" .. self.address[other]) -- each dials those before it
  end
  local child, err = self.group:start(name, command, function(child, line, which)
    local words = {}
    for word in line:gmatch("%S+") do
      words[#words + 1] = word
    end
    if which == "stdout" and told[words[1]] then
      told[words[1]](self, child, table.unpack(words, 2))
    else
      self:line(name, line)
    end
  end, function(child)
    self.is_up[name] = false
    if not self.group.is_stopping then
      self:line(name, term.paint(1, "red", children.describe_end(child)))
    end
  end)
  if not child then
    error(err, 0)
  end
  self.child[name] = child
end

function Show:count()
  local emitted, wanted, handled = 0, 0, 0
  for _, event in ipairs(self.order) do
    if event.is_emitted then
      emitted = emitted + 1
      wanted = wanted + #NAMES - 1
      for _ in pairs(event.by) do
        handled = handled + 1
      end
    end
  end
  return emitted, wanted, handled
end

local function wait_until(check, timeout)
  local deadline = core.now() + timeout
  while not check() and core.now() < deadline do
    core.sleep(0.02)
  end
  return check()
end

function Show:sleep_until(seconds)
  core.sleep(math.max(0, self.began + seconds - core.now()))
end

function Show:play()
  self:line(nil, ("three nodes start: %s, %s, %s"):format(named(NAMES[1]), named(NAMES[2]), named(NAMES[3])))
  for _, name in ipairs(NAMES) do
    self:start(name)
  end
  wait_until(function() return self.links >= 6 end, 5)
  self:line(nil, "all are ready; otter and heron emit, everybody else handles")
  self:sleep_until(KILL_AT)
  self:line(nil, term.paint(1, "red", "SIGKILL") .. " for " .. named(VICTIM) .. "; the others keep its events")
  self.is_up[VICTIM] = false
  self.child[VICTIM].process:kill("KILL")
  self:sleep_until(RESTART_AT)
  self:line(nil, named(VICTIM) .. " is started again")
  self:start(VICTIM)
  self:sleep_until(END_AT)
  for name in pairs(EMITTERS) do
    self.child[name].process:kill("USR1")
  end
  core.sleep(INTERVAL)
  wait_until(function()
    local _, wanted, handled = self:count()
    return handled == wanted
  end, PATIENCE)
  for _, name in ipairs(NAMES) do
    self.child[name].process:kill("USR2")
  end
  return wait_until(function()
    return self:map_is_alike() ~= nil
  end, PATIENCE)
end

-- Whether all members hold every write that was acknowledged; nil while one has not said what it holds.
function Show:map_is_alike()
  for _, name in ipairs(NAMES) do
    if not (self.holds[name] and self.holds[name].all) then
      return nil
    end
  end
  for subject, number in pairs(self.stored) do
    for _, name in ipairs(NAMES) do
      if (self.holds[name][subject] or 0) < number then
        return false
      end
    end
  end
  return next(self.stored) ~= nil
end

function Show:summary()
  local emitted, wanted, handled = self:count()
  local lost = wanted - handled
  for _, event in ipairs(self.order) do
    if event.is_emitted and not is_done(event) then
      self:line(event.origin, ("#%d was lost"):format(event.number))
    end
  end
  if self.late > 0 then
    self:line(nil, ("%d events waited for %s and were handled when it was back"):format(self.late, named(VICTIM)))
  end
  if self.again > 0 then
    self:line(nil, ("%d came twice: handled, but unacknowledged at the kill"):format(self.again))
  end
  local is_alike = self:map_is_alike()
  self:line(nil, ("map: %d writes acknowledged, %s"):format(self.writes,
    is_alike and "all of them on all three members" or term.paint(1, "red", "but not all are on every member")))
  local verdict = lost == 0 and emitted > 0 and term.paint(1, "green", "nothing was lost")
    or term.paint(1, "red", emitted > 0 and "see above what was lost" or "nothing was emitted")
  self:line(nil, ("emitted %d, handled %d of %d, lost %d: %s"):format(emitted, handled, wanted, lost, verdict))
  return lost == 0 and emitted > 0 and is_alike
end

function verb.run(values)
  if values.node then
    return be_node(values)
  end
  local show = setmetatable({
    began = core.now(), group = children.new(), events = {}, order = {}, address = {}, child = {},
    is_up = {}, ready = {}, links = 0, late = 0, again = 0, stored = {}, holds = {}, writes = 0,
  }, Show)
  local addresses = free_addresses(#NAMES)
  for i, name in ipairs(NAMES) do
    show.address[name] = addresses[i]
  end
  local function on_signal()
    show.group:kill()
    core.exit(1)
  end
  core.on_signal("SIGINT", on_signal)
  core.on_signal("SIGTERM", on_signal)
  show:play()
  show.group:stop(3)
  return show:summary() and 0 or 1
end

return verb
