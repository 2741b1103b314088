--- `holt journal`, run to its end.
local json = require("holt.json")
local nodes = require("spec.helper.nodes")

local M = {}

---Where a journal of this test may be.
---@param name? string
---@return string
function M.db(name)
  return nodes.folder() .. "/" .. (name or "db")
end

---Lines of JSON for a message Hello { string from; int32 count; }.
---@param from integer
---@param to integer
---@return string
function M.hellos(from, to)
  local list = {}
  for i = from, to do
    list[#list + 1] = ('{"name":"Hello","payload":{"from":"entry number %05d","count":%d}}'):format(i, i)
  end
  return table.concat(list, "\n") .. "\n"
end

---@param input string
---@param ... string What follows `holt journal`.
---@return string out What it printed.
---@return string talk What it said besides.
---@return integer code
function M.run(input, ...)
  local program = nodes.holt_with_input("journal", ...)
  program.process.stdin:write(input)
  program.process.stdin:close()
  local code = program:wait()
  return program:output("stdout"), program:output("stderr"), code
end

---The same, its lines of JSON read.
---@return table[] lines
---@return string talk
---@return integer code
function M.run_lines(input, ...)
  local out, talk, code = M.run(input, ...)
  local lines = {}
  for line in out:gmatch("[^\n]+") do
    lines[#lines + 1] = assert(json.decode(line))
  end
  return lines, talk, code
end

return M
