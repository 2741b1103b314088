--- holt journal at a terminal: a prompt for Lua, in which entries appear as they arrive.
local core = require("holt.core")
local errors = require("holt.errors")
local inspect = require("holt.cli.inspect")
local open = require("holt.cli.journal.open")
local term = require("holt.cli.term")

local M = {}

local PROMPT, MORE = "> ", ">> "
local KILL_LINE = "\21" -- Ctrl-U
local CUT_SECONDS = 0.5 -- Ctrl-C hit more than once means what ran, not the prompt that follows
local LOG_METHODS = { "emit(", "on(", "once(", "off(", "read {", "get(", "heads()", "stats()", "verify()", "cursor(", "events:on(", "id" }
local NODE_METHODS = { "connect(", "listen(", "peers()", "status()", "events:on(" }

--- What is printed ---------------------------------------------------------------------------------------------------

-- Lines go above the prompt, which is drawn again below them; none while a line is being run.
local function printer(state)
  return function(text)
    state.edit:hide()
    io.stdout:write(text, "\n")
    io.stdout:flush()
    if not state.is_running then
      state.edit:show()
    end
  end
end

local function watch(log, values, state)
  local reader = log:read({ cursor = values.cursor, from = "now", follow = true })
  core.go(function()
    while true do
      local ok, entry = pcall(reader)
      if ok and not entry then
        return
      elseif ok then
        state.say(("%s %s"):format(entry.name, inspect.text(entry.payload)))
      elseif errors.is(entry) and entry.position then
        state.say(open.problem_text(entry))
      else
        error(entry, 0)
      end
    end
  end)
end

--- What is run -------------------------------------------------------------------------------------------------------

local function environment(log, state)
  local env = { log = log, node = log.node, holt = require("holt") }
  function env.emit(name, message, opts)
    local ok, hash, err = pcall(log.emit, log, name, message, opts)
    if not ok then
      error(type(hash) == "string" and hash:gsub("^log:emit", "emit") or hash, 2) -- at the line that was typed
    elseif not hash and state.task then
      state.failures[#state.failures + 1] = err -- results are not shown, and this one should be, unless it is raised
    elseif not hash then
      state.say(tostring(err))
    end
    return hash, err
  end
  function env.print(...)
    local parts = table.pack(...)
    for i = 1, parts.n do
      parts[i] = tostring(parts[i])
    end
    state.say(table.concat(parts, "\t"))
  end
  return setmetatable(env, { __index = _G })
end

local function words(log)
  local list = { 'emit("', "log", "node", "print(", "holt", "holt.sleep(" }
  for _, name in ipairs(LOG_METHODS) do
    list[#list + 1] = "log:" .. name
  end
  for _, name in ipairs(NODE_METHODS) do
    list[#list + 1] = "node:" .. name
  end
  for _, name in ipairs(log.codecs:names()) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

-- Whether the text is a beginning that the next line may finish.
local function is_unfinished(problem)
  return problem:find("near <eof>", 1, true) ~= nil
end

local function compile(text, env)
  local expression = text:match("^%s*=(.*)$")
  if expression then
    return load("return " .. expression, "=prompt", "t", env), true
  end
  local chunk, problem = load(text, "=prompt", "t", env)
  return chunk, false, problem
end

-- Run it in a task of its own, which Ctrl-C cancels.
local function run_task(chunk, state)
  local results
  state.failures, state.is_canceled = {}, false
  state.task = core.go_quiet(function()
    results = table.pack(xpcall(chunk, function(raised)
      return errors.is(raised) and raised or tostring(raised)
    end))
  end)
  state.task:join()
  state.task = nil
  return results or { false, errors.new("canceled", "interrupted") }
end

local function say_failures(results, state)
  for _, err in ipairs(state.failures) do
    if results[1] or not rawequal(err, results[2]) then
      state.say(tostring(err))
    end
  end
end

local function run_chunk(chunk, is_expression, state)
  local results = run_task(chunk, state)
  say_failures(results, state)
  if not results[1] and errors.is(results[2]) and results[2].code == "canceled" then
    state.say("interrupted")
    state.cut_at, state.is_owed = core.now(), not state.is_canceled -- what held the loop: Ctrl-C is told only now
  elseif not results[1] then
    state.say(tostring(results[2]))
  elseif is_expression then
    local shown = {}
    for i = 2, math.max(results.n, 2) do
      shown[#shown + 1] = inspect.text(results[i])
    end
    state.say(table.concat(shown, "\t"))
  end
end

-- One line: run, told to be broken, or kept until the next one finishes it.
local function take_line(line, state)
  local text = state.begun and (state.begun .. "\n" .. line) or line
  if not text:find("%S") then
    state.begun = nil
    return
  end
  local chunk, is_expression, problem = compile(text, state.env)
  if chunk then
    state.begun = nil
    run_chunk(chunk, is_expression, state)
  elseif problem and is_unfinished(problem) and line ~= "" then
    state.begun = text
  else
    state.begun = nil
    state.say(problem or select(2, load("return " .. text:match("^%s*=(.*)$"), "=prompt")))
  end
end

-- Ctrl-C ends what runs; else it drops what is typed; on an empty line it ends the program.
local function on_interrupt(state, leave)
  local is_late = state.cut_at and core.now() - state.cut_at < CUT_SECONDS
  if is_late and (state.is_owed or not state.task) then
    state.is_owed = false -- it meant what ran
  elseif state.task then
    state.is_canceled = true
    state.task:cancel()
  elseif state.begun or not state.edit:is_empty() then
    state.begun = nil
    state.edit:feed(KILL_LINE)
    state.edit:hide()
    io.stdout:write("^C\n")
    state.edit:show(PROMPT)
  else
    leave()
  end
end

-- Keys until the end of the input, or of the journal.
local function run_input(state)
  local keys = assert(core.stdio(0))
  state.keys = keys
  while not state.is_over do
    local bytes = keys:read()
    local line = state.edit:feed(bytes or "\4")
    while line do
      state.is_running = true
      take_line(line, state)
      state.is_running = false
      state.edit:show(state.begun and MORE or PROMPT)
      line = state.edit:feed("")
    end
    if line == false or not bytes then
      break
    end
  end
  keys:close()
end

---Run until the end of the input; returns the exit code.
---@param log holt.Log
---@param values table
---@param leave function What a signal does.
---@return integer
function M.run(log, values, leave)
  local state = {}
  state.say = printer(state)
  state.edit = core.edit_open(PROMPT, values.db and values.db .. "/prompt_history" or nil)
  state.edit:words(words(log))
  state.env = environment(log, state)
  local closing <close> = setmetatable({}, { __close = function()
    state.edit:close()
    term.say = state.was_say
  end })
  state.was_say = term.say
  term.say = function(format, ...) -- luacheck: ignore 122
    state.say("holt: " .. format:format(...))
  end
  log.events:on("closed", function()
    state.say("the journal is closed")
    state.is_over = true
    state.edit:close()
    if state.keys then
      state.keys:close()
    end
  end)
  core.on_signal("SIGINT", function()
    on_interrupt(state, leave)
  end, "now")
  core.on_signal("SIGCONT", function()
    state.edit:resume()
  end)
  core.on_signal("SIGWINCH", function()
    state.edit:resize()
  end)
  watch(log, values, state)
  local code = open.connect(log, values)
  if code then
    return code
  end
  run_input(state)
  return closing and 0
end

return M
