--- A TCP proxy between two nodes that can cut connections: on demand, or at random points drawn from a seed.
local core = require("holt.core")

local M = {}

---@class spec.Proxy
---@field cuts integer Connections cut so far.
---@field connections integer Connections taken so far.
local Proxy = {}
Proxy.__index = Proxy

-- A generator of its own: the same seed cuts after the same numbers of bytes.
local function generator(seed)
  local state = seed
  return function(most)
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
    return (state >> 24) % most + 1
  end
end

local function cut(pair)
  pair.near:close(true)
  pair.far:close(true)
end

-- Pass bytes on until one side ends or the pair's share of bytes is used up.
local function pump(self, pair, from, to)
  while true do
    local data = from:read(1 << 16)
    if not data then
      break
    end
    pair.bytes_left = pair.bytes_left - #data
    if pair.bytes_left <= 0 and pair.is_doomed then
      pair.is_doomed = false
      to:write(data:sub(1, #data + pair.bytes_left)) -- up to the very byte
      self.cuts = self.cuts + 1
      break
    elseif not to:write(data) then
      break
    end
  end
  cut(pair)
  self.pairs[pair] = nil
end

local function serve(self, near)
  local far = not self.is_barred and core.connect(self.target, 5)
  if not far then
    near:close(true)
    return
  end
  self.connections = self.connections + 1
  local is_doomed = self.cuts < self.cuts_wanted
  local pair = { near = near, far = far, is_doomed = is_doomed, bytes_left = is_doomed and self.draw(self.bytes_max) or math.maxinteger }
  self.pairs[pair] = true
  core.go(pump, self, pair, near, far)
  core.go(pump, self, pair, far, near)
end

---Start a proxy to `target`. With `cuts` it cuts that many connections, each after 1 to `bytes_max` bytes.
---@param given { target: string, seed?: integer, cuts?: integer, bytes_max?: integer }
---@return spec.Proxy
function M.start(given)
  local self = setmetatable({
    target = given.target,
    draw = generator(given.seed or 1),
    cuts_wanted = given.cuts or 0,
    bytes_max = given.bytes_max or 65536,
    cuts = 0,
    connections = 0,
    pairs = {},
  }, Proxy)
  self.listener = assert(core.listen("127.0.0.1:0"))
  self.task = core.go(function()
    while true do
      local near = self.listener:accept()
      if not near then
        return
      end
      core.go(serve, self, near)
    end
  end)
  return self
end

---@return string
function Proxy:address()
  return self.listener:address()
end

---Cut every connection now; new ones are taken.
function Proxy:cut()
  for pair in pairs(self.pairs) do
    cut(pair)
    self.cuts = self.cuts + 1
  end
end

---Cut every connection, and each new one at once, until it is let through again.
---@param is_barred boolean
function Proxy:bar(is_barred)
  self.is_barred = is_barred
  if is_barred then
    self:cut()
  end
end

---Cut every connection and take no more.
function Proxy:stop()
  self.listener:close()
  for pair in pairs(self.pairs) do
    cut(pair)
  end
end

return M
