--- Whether what clients wrote down (spec/helper/workload.lua) can have been: maps, records and queues by `holt-sim check`,
-- emitters by the rules of docs/guarantees.md here.
local core = require("holt.core")

local M = {}

local PROGRAM = "build/" .. (os.getenv("HOLT_BUILD") or "release") .. "/holt-sim"

---Check a history in the lines of runtime/sim/history_file.h.
---@param text string
---@return boolean is_good
---@return string told What the checker says.
function M.check(text)
  local command = { PROGRAM, "check", stdin = "pipe", stdout = "pipe", stderr = "pipe" }
  command.env = { LD_PRELOAD = false } -- it has its sanitizer inside
  local process = assert(core.spawn(command))
  local told = { "", "" }
  local readers = {}
  for i, stream in ipairs({ process.stdout, process.stderr }) do
    readers[i] = core.go(function()
      local list = {}
      while true do
        local bytes = stream:read(1 << 16)
        if not bytes then
          break
        end
        list[#list + 1] = bytes
      end
      told[i] = table.concat(list)
      stream:close()
    end)
  end
  process.stdin:write(text)
  process.stdin:close()
  local code = process:wait(200)
  for _, reader in ipairs(readers) do
    reader:join()
  end
  return code == 0, told[1] .. told[2]
end

local function read(path)
  local file = io.open(path)
  if not file then
    return ""
  end
  local text = file:read("a")
  file:close()
  return text
end

---The text of several files, one after the other.
---@param paths string[]
function M.gather(paths)
  local list = {}
  for i, path in ipairs(paths) do
    list[i] = read(path)
  end
  return table.concat(list)
end

local function words_of(list)
  local found = {}
  for name in list:gmatch("[^,]+") do
    found[name] = true
  end
  return found
end

-- One listener's time: from when it was known everywhere to when somebody began to take it away.
local function follow(listeners, kind, name, origin, event, time)
  local key = name .. " " .. event
  local list = listeners[key] or {}
  listeners[key] = list
  local last = list[#list]
  if kind == "subscribing" then
    list[#list + 1] = { name = name, origin = origin, event = event, called = time, from = math.huge, to = math.huge }
  elseif kind == "subscribed" then
    last.from = time
  elseif last then
    last.to = math.min(last.to, time)
  end
end

---Check what emitters did. Each event is heard once at most at each member, after it was told, and by who asked for it;
---whoever handled a published one heard it before `publish` returned; a member that listened all the while is named, as one
---that handled it or as one that did not answer.
---@param text string
---@return string[] problems
---@return table counts published, handled, silent, heard
function M.check_emitters(text)
  local told, heard, listeners, boots, problems = {}, {}, {}, {}, {}
  local counts = { published = 0, handled = 0, silent = 0, heard = 0 }
  local function wrong(format, ...)
    problems[#problems + 1] = format:format(...)
  end
  local answers, hearings = {}, {}
  for line in text:gmatch("[^\n]+") do
    local kind, rest = line:match("^(%S+) (.*)$")
    if kind == "published" then
      local id, time, handled, silent = rest:match("^(%d+) (%d+) ([^;]*);(.*)$")
      answers[id] = { time = tonumber(time), handled = words_of(handled), silent = words_of(silent) }
    else
      local name, origin, event, more = rest:match("^(%S+) (%d+) (%S+) (.*)$")
      boots[name] = boots[name] or {}
      boots[name][origin] = true
      if kind == "publish" or kind == "notify" then
        local id, time = more:match("^(%d+) (%d+)$")
        told[id] = { kind = kind, event = event, name = name, time = tonumber(time) }
      elseif kind == "heard" then
        local id, time = more:match("^(%d+) (%d+)$")
        hearings[#hearings + 1] = { id = id, name = name, event = event, time = tonumber(time) }
      else
        follow(listeners, kind, name, origin, event, tonumber(more))
      end
    end
  end
  for _, hearing in ipairs(hearings) do
    local id, name, source = hearing.id, hearing.name, told[hearing.id]
    local key = id .. " " .. name
    counts.heard = counts.heard + 1
    if heard[key] then
      wrong("%s heard %s twice", name, id)
    end
    heard[key] = hearing.time
    if not source then
      wrong("%s heard %s, which nobody told", name, id)
    elseif source.event ~= hearing.event or source.time > hearing.time then
      wrong("%s heard %s as %s at %d, told as %s at %d", name, id, hearing.event, hearing.time, source.event, source.time)
    end
    local asked = listeners[name .. " " .. hearing.event]
    if not asked or asked[1].called > hearing.time then
      wrong("%s heard %s and had not asked for %s", name, id, hearing.event)
    end
  end
  for id, answer in pairs(answers) do
    local source = told[id]
    counts.published = counts.published + 1
    for name in pairs(answer.handled) do
      counts.handled = counts.handled + 1
      local time = heard[id .. " " .. name]
      if not time then
        wrong("%s is said to have handled %s and never heard it", name, id)
      elseif time > answer.time then
        wrong("%s heard %s after publish had returned", name, id)
      end
    end
    for _ in pairs(answer.silent) do
      counts.silent = counts.silent + 1
    end
    for _, list in pairs(listeners) do
      for _, listener in ipairs(list) do
        local is_one_start = next(boots[listener.name], next(boots[listener.name])) == nil
        local is_sure = listener.from < source.time and listener.to > answer.time and is_one_start
        if is_sure and listener.event == source.event and not answer.handled[listener.name] and not answer.silent[listener.name] then
          wrong("publish %s of %s left out %s, which listened all the while", id, source.event, listener.name)
        end
      end
    end
  end
  return problems, counts
end

return M
