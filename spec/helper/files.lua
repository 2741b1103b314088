--- Files of nodes, read, written and damaged behind their backs.
local assert = require("luassert")

local M = {}

---@param path string
---@return string
function M.read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

---@param path string
---@param bytes string
function M.write(path, bytes)
  local file <close> = assert(io.open(path, "wb"))
  file:write(bytes)
end

---Changes a byte of these texts, wherever they lie in the file: pages that were written anew keep old copies. Nobody may be using it.
---@param path string
---@param ... string Each is there at least once.
function M.alter(path, ...)
  local bytes = M.read(path)
  local file <close> = assert(io.open(path, "r+b"))
  for _, text in ipairs { ... } do
    local at, middle = bytes:find(text, 1, true), #text // 2
    assert.is_truthy(at)
    while at do
      file:seek("set", at - 1 + middle)
      file:write(string.char(text:byte(middle + 1) ~ 1))
      at = bytes:find(text, at + 1, true)
    end
  end
end

return M
