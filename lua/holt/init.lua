--- holt: event nodes scripted in Lua.
-- @module holt
local core = require("holt.core")
local tasks = require("holt.tasks")

local M = {
  version = core.version,
  sleep = core.sleep,
  now = core.now,
  go = core.go,
  after = tasks.after,
  every = tasks.every,
  all = tasks.all,
  race = tasks.race,
  require = require("holt.loader").require,
  event = core.event,
  null = core.null,
  array = require("holt.codec").array,
  node = require("holt.node").new,
  codec = require("holt.codec"),
  json = require("holt.json"),
  log = require("holt.log"),
  schema = require("holt.schema"),
  errors = require("holt.errors"),
}

---End the process with this code, after the present turn; what was called last is not gone on with.
---@param code? integer
function M.exit(code)
  if core.current() == nil then
    os.exit(code or 0, true) -- the main thread of plain Lua: nobody turns us
  end
  return core.exit(code)
end

---Run what is left to do until nothing is: the last line of a script for plain lua5.4. Under `holt run` the
---runtime does this by itself.
function M.run()
  while core.turn(true) do -- luacheck: ignore 542
  end
  local code = core.exit_code()
  if code then -- a task called holt.exit
    os.exit(code, true)
  end
end

return M
