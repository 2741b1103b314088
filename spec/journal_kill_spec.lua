-- A writer of a journal that is killed at any point, the opening and the midst of bursts among them: whatever emit had returned
-- is there, once. HOLT_SEED: the first seed; HOLT_SEEDS: how many kills.
local nodes = require("spec.helper.nodes")

local SEED = tonumber(os.getenv("HOLT_SEED") or "1")
local KILLS = math.max(2, math.floor(tonumber(os.getenv("HOLT_SEEDS") or "10")))

-- Each line is written, unbuffered, behind the return of its emit; at first when the journal is about to be opened.
local WRITER = [[
local holt = require "holt"
local round, file = arg[1], assert(io.open(arg[2], "a"))
file:setvbuf("no")
file:write("open\n")
local node = holt.node {}
local log = assert(node:journal("events", { codec = "json" }))
math.randomseed(tonumber(round))
local n = 0
local function one()
  n = n + 1
  local text = ("%s:%d"):format(round, n)
  assert(log:emit("A", text .. ("."):rep(math.random(0, 300))))
  file:write(text .. "\n")
end
holt.go(function()
  while true do
    local tasks = {}
    for i = 1, math.random(0, 3) == 0 and 200 or math.random(1, 5) do tasks[i] = holt.go(one) end
    for _, task in ipairs(tasks) do task:join() end
  end
end)
]]

local READER = [[
holt = require "holt"
node = holt.node {}
log = assert(node:journal("events", { codec = "json" }))
-- What is not there exactly once, of the lines of a file.
function missing(path)
  local count, wrong = {}, {}
  for entry in log:read { filter = "A" } do
    local text = entry.payload:match("^[%d:]+")
    count[text] = (count[text] or 0) + 1
    if count[text] > 1 then wrong[#wrong + 1] = "twice " .. text end
  end
  local file = io.open(path, "r") -- none yet: it was killed before
  for line in (file and file:lines() or function() end) do
    if line:find(":", 1, true) and not count[line] then wrong[#wrong + 1] = "lost " .. line end
  end
  return table.concat(wrong, ", ", 1, math.min(#wrong, 10))
end
]]

describe("a writer of a journal", function()
  nodes.guard(before_each, after_each)

  local function lines_of(path)
    local file = io.open(path, "r")
    if not file then
      return 0
    end
    local _, count = file:read("a"):gsub("\n", "")
    file:close()
    return count
  end

  it("that is killed at any point loses nothing that emit had returned, and doubles nothing", function()
    math.randomseed(SEED)
    local script, told = nodes.write("writer.lua", WRITER), nodes.folder() .. "/told"
    local data = nodes.folder() .. "/data"
    local written = 0
    for round = 1, KILLS do
      local before = lines_of(told)
      local wanted = ({ 0, 1, 2 })[round] or math.random(2, 900) -- before, at and right after the opening
      local writer = nodes.holt("run", script, "--name", "w", "--data", data, "--", tostring(SEED * 1000 + round), told)
      nodes.until_true(function()
        return lines_of(told) - before >= wanted
      end, nil, function()
        return writer:output()
      end)
      writer:kill()
      written = lines_of(told)
      local reader = nodes.start { name = "r", script = READER, listen = false, flags = { "--data", data } }
      assert.same("", reader:eval(("return missing(%q)"):format(told)))
      assert.is_true(reader:eval("return (log:verify())"))
      reader:stop()
    end
    assert.is_true(written > KILLS)
  end)
end)
