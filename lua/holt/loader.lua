--- A `require` whose modules may block while they load. Two tasks that require one module wait for one load;
-- a circle of modules that require each other is told in words.
-- @module holt.loader
local core = require("holt.core")

local M = {}

-- What is being loaded now: name -> { task, gate }; and which module each task waits for: task -> name.
core.loading = core.loading or {}
core.loading_waits = core.loading_waits or {}
local loading, waits = core.loading, core.loading_waits

local main = {} -- stands for the main thread

-- Whether waiting for `name` would wait for ourselves in the end; then the modules on the way.
local function circle(name, task)
  local way = { name }
  local record = loading[name]
  while record do
    if record.task == task then
      return way
    end
    local wanted = waits[record.task]
    if not wanted then
      return nil
    end
    way[#way + 1] = wanted
    record = loading[wanted]
  end
  return nil
end

local function find(name)
  if type(package.searchers) ~= "table" then
    error("'package.searchers' must be a table", 3)
  end
  local messages = {}
  for _, searcher in ipairs(package.searchers) do
    local loader, data = searcher(name)
    if type(loader) == "function" then
      return loader, data
    elseif type(loader) == "string" then
      messages[#messages + 1] = (loader:gsub("^\n\t", ""))
    end
  end
  error(("module '%s' not found:\n\t%s"):format(name, table.concat(messages, "\n\t")), 3)
end

local function finish(name, record, ok, ...)
  loading[name] = nil
  record.gate:open()
  if not ok then
    error((...), 0)
  end
  local value = ...
  if value ~= nil then
    package.loaded[name] = value
  elseif package.loaded[name] == nil then
    package.loaded[name] = true
  end
  return package.loaded[name], record.data
end

---Like Lua's own, but the module's top level may wait.
---@param name string
---@return any module
---@return any? data
function M.require(name)
  if type(name) ~= "string" then
    error(("bad argument #1 to 'require' (string expected, got %s)"):format(type(name)), 2)
  end
  while true do
    local present = package.loaded[name]
    if present then
      return present
    end
    local task = core.current() or main
    local record = loading[name]
    if not record then
      break
    end
    local way = circle(name, task)
    if way then
      way[#way + 1] = name
      local text = #way > 2 and table.concat(way, "' requires '") or (name .. "' requires '" .. name)
      error(("circular require: '%s'; move what both need into a third module"):format(text), 2)
    end
    waits[task] = name
    local ok, err = pcall(record.gate.wait, record.gate)
    waits[task] = nil
    if not ok then
      error(err, 0)
    end
  end
  local loader, data = find(name)
  local record = { task = core.current() or main, gate = core.gate(), data = data }
  loading[name] = record
  return finish(name, record, pcall(loader, name, data))
end

---Put it in the place of Lua's own.
function M.install()
  _G.require = M.require
end

return M
