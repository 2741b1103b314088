--- The network between nodes of one machine, made of TCP proxies that can be cut pair by pair and way by way. Each node
-- listens behind a door and tells others the door's address; who dials is read from the hello of its link. For a process
-- of its own: `holt run` a script that makes one and is steered by eval.
local core = require("holt.core")

---@class spec.Wires
---@field connections integer Taken so far.
local Wires = {}
Wires.__index = Wires

local MAGIC, NAME_AT = "holt", 50 -- bytes of a hello in front of the name; see runtime/wire/handshake.c

---@return spec.Wires
local function new()
  return setmetatable({ cuts = {}, healed = core.gate(), pairs = {}, connections = 0 }, Wires)
end

-- Wait until bytes may pass; false where the cut is one that resets.
local function pass(self, from, to)
  while self.cuts[from .. ">" .. to] do
    if self.is_hard then
      return false
    end
    self.healed:wait()
  end
  return true
end

local function pump(self, pair, source, target, from, to)
  while true do
    local data = source:read(1 << 16)
    if not pass(self, from, to) or not data or not target:write(data) then -- an end does not pass a cut either
      break
    end
  end
  target:close(true)
  source:close(true)
  self.pairs[pair] = nil
end

-- The first bytes of a connection, up to the name of who dials; nil when it ends before.
local function greet(near)
  local first = ""
  while true do
    local at = first:find(MAGIC, 1, true)
    if at and #first >= at + NAME_AT and #first > at + NAME_AT + first:byte(at + NAME_AT) then
      return first, (string.unpack("<s1", first, at + NAME_AT))
    end
    local data = near:read(1 << 16)
    if not data then
      return nil
    end
    first = first .. data
  end
end

local function serve(self, near, name, address)
  self.connections = self.connections + 1
  local first, dialer = greet(near)
  local is_open = first and pass(self, dialer, name) and pass(self, name, dialer)
  local far = is_open and core.connect(address, 5)
  if not far then
    near:close(true)
    return
  end
  local pair = { near = near, far = far, names = { dialer, name } }
  self.pairs[pair] = true
  far:write(first)
  core.go(pump, self, pair, near, far, dialer, name)
  core.go(pump, self, pair, far, near, name, dialer)
end

---A door at `address` to the node `name`, which listens at `target`.
function Wires:door(name, address, target)
  local listener = assert(core.listen(address))
  core.go(function()
    while true do
      local near = listener:accept()
      if not near then
        return
      end
      core.go(serve, self, near, name, target)
    end
  end)
end

---No byte goes from the nodes of one list to those of the other. They are held back, as by a network that drops packets;
---with `is_hard` the connections break at once.
---@param from string[]
---@param to string[]
---@param given? { one_way?: boolean, is_hard?: boolean }
function Wires:cut(from, to, given)
  given = given or {}
  for _, a in ipairs(from) do
    for _, b in ipairs(to) do
      self.cuts[a .. ">" .. b] = true
      self.cuts[b .. ">" .. a] = not given.one_way or nil
    end
  end
  self.is_hard = given.is_hard
  for pair in pairs(self.pairs) do
    local a, b = pair.names[1], pair.names[2]
    if given.is_hard and (self.cuts[a .. ">" .. b] or self.cuts[b .. ">" .. a]) then
      pair.near:close(true)
      pair.far:close(true)
    end
  end
end

function Wires:heal()
  self.cuts = {}
  self.healed:open()
  self.healed:shut()
end

return new
