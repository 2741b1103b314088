--- What a terminal can show: colour where it is wanted, a line that is drawn again, text for people.
-- @module holt.cli.term
local core = require("holt.core")
local errors = require("holt.errors")

local M = {}

local CODES = { bold = 1, dim = 2, red = 31, green = 32, yellow = 33, blue = 34, magenta = 35, cyan = 36 }
local PALETTE = { "cyan", "yellow", "magenta", "green", "blue", "red" }

local function wants_colour(number)
  local no_color = os.getenv("NO_COLOR")
  return (no_color == nil or no_color == "") and os.getenv("TERM") ~= "dumb" and core.is_terminal(number)
end

local is_coloured = { [1] = wants_colour(1), [2] = wants_colour(2) }

---Whether standard output (1) or error (2) is a terminal.
---@param number 1|2
---@return boolean
function M.is_terminal(number)
  return core.is_terminal(number)
end

---`text` in a colour, where the stream shows colours.
---@param number 1|2 Standard output or error.
---@param colour string
---@param text string
---@return string
function M.paint(number, colour, text)
  if not is_coloured[number] or not CODES[colour] then
    return text
  end
  return ("\27[%dm%s\27[0m"):format(CODES[colour], text)
end

---A colour of its own for the n-th of several.
---@param index integer
---@return string
function M.colour(index)
  return PALETTE[(index - 1) % #PALETTE + 1]
end

---A line of talk, on stderr.
---@param format string
function M.say(format, ...)
  io.stderr:write("holt: ", string.format(format, ...), "\n")
end

local BROKEN_PIPE = 32 -- EPIPE: whoever read it has left

---A text on stdout, now. False when nobody reads any more; an error table (`io`) when it cannot be written, as on a full disk.
---@param text string
---@return boolean
---@return holt.Error?
function M.put(text)
  local ok, why, number = io.stdout:write(text)
  if ok then
    ok, why, number = io.stdout:flush()
  end
  if ok then
    return true
  elseif number == BROKEN_PIPE then
    return false
  end
  return false, errors.new("io", ("cannot write to standard output: %s"):format(why))
end

---A line of data, on stdout. What cannot be written ends the program with 1; a reader that has left is let go.
---@param text string
function M.print(text)
  local _, err = M.put(text .. "\n")
  if err then
    M.say("%s", err.message)
    core.exit(1)
    core.sleep(math.huge) -- the program ends with this turn: nobody shall go on as if it had been printed
  end
end

---Draw a progress bar on a terminal's stderr; nothing elsewhere. `share` is 0 to 1; nil takes the bar away.
---@param label string
---@param share number|nil
function M.progress(label, share)
  if not core.is_terminal(2) then
    return
  elseif not share then
    io.stderr:write("\r\27[K")
    return
  end
  local width = 30
  local filled = math.floor(width * math.max(0, math.min(1, share)) + 0.5)
  io.stderr:write(("\r%-16s [%s%s] %3d%%"):format(label, ("#"):rep(filled), ("."):rep(width - filled), math.floor(share * 100)))
end

return M
