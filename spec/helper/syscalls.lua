--- What a traced member did to its log, and what it said to others when: the output of strace(1), read back.
-- `trace.start(...)` starts a node under strace; `trace.read(node)` gives its calls; `trace.faults(calls)` lists every
-- acknowledgement, vote and commit that left the process before what it rests on was synced, and what was looked at.
local core = require("holt.core")
local nodes = require("spec.helper.nodes")

local M = {}

local CALLS = "read,write,writev,pwrite64,fdatasync,fsync"
local BYTES_MAX = 1 << 20 -- of one call; more than the buffers of a member hold

---Why nothing can be traced here, or nil.
---@return string|nil
function M.problem()
  local path = os.tmpname()
  local command = ("unset LD_PRELOAD; strace -D -f -o %s -e trace=write true 2>&1"):format(path)
  local pipe <close> = assert(io.popen(command))
  local said = pipe:read("a")
  local deadline = core.now() + 5
  local traced
  repeat -- the tracer is not our child: it may end after what it traces
    local file = io.open(path)
    traced = file and file:read("a") or ""
    if file then
      file:close()
    end
  until traced:find("exited with 0", 1, true) or core.now() > deadline
  os.remove(path)
  if not traced:find("exited with 0", 1, true) then
    return "strace cannot trace here: " .. (said ~= "" and said:gsub("%s+$", "") or "it wrote nothing")
  end
end

---Start a node like `nodes.start`, under strace. The process is the node itself, the tracer stands beside it.
function M.start(given)
  local executable = nodes.executable
  given.env = { ASAN_OPTIONS = "detect_leaks=0" } -- that search traces, too, and there can be one tracer only
  given.trace = nodes.folder() .. "/" .. given.name .. ".trace"
  local wrapper = nodes.write(given.name .. ".sh", ([[#!/bin/sh
exec strace -D -f -y -xx -qq -s %d -e trace=%s -e signal=none -o %s %s "$@"
]]):format(BYTES_MAX, CALLS, given.trace, executable))
  os.execute("chmod +x " .. wrapper)
  nodes.executable = wrapper
  local ok, node = pcall(nodes.start, given)
  nodes.executable = executable
  return ok and node or error(node, 2)
end

-- --- Lines to calls ---------------------------------------------------------------------------------------------

local function unhex(text)
  return (text:gsub("\\x(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

local function bytes_of(text)
  local parts = {}
  for quoted in text:gmatch('"([^"]*)"') do
    parts[#parts + 1] = unhex(quoted)
  end
  return table.concat(parts)
end

---@class spec.Call
---@field name string
---@field file string What the descriptor stands for.
---@field bytes string
---@field offset integer|nil
---@field result integer
---@field began integer Line at which it began,
---@field ended integer and at which it had returned.

local function finish(call, rest, result, line)
  call.text = call.text .. rest
  call.result, call.ended = result, line
  call.file = unhex(call.text:match("^%d+<(.-)>") or "")
  call.bytes = bytes_of(call.text)
  call.offset = tonumber(call.text:match("(%d+)$"))
  call.text = nil
  return call
end

---The calls of a trace in the order of their beginnings.
---@param text string
---@return spec.Call[]
function M.parse(text)
  local calls, open, number = {}, {}, 0
  for line in text:gmatch("[^\n]+") do
    number = number + 1
    local pid, said = line:match("^(%d+) +(.*)$")
    local name, rest = said:match("^<%.%.%. (%w+) resumed>(.*)$")
    if name then
      local arguments, result = rest:match("^(.*)%)%s+= (%-?%d+)")
      if arguments and open[pid] then
        finish(open[pid], arguments, tonumber(result), number)
      end
      open[pid] = nil
    else
      name, rest = said:match("^(%w+)%((.*)$")
      local call = name and { name = name, began = number, text = rest }
      local arguments, result = (rest or ""):match("^(.*)%)%s+= (%-?%d+)[^\"]*$")
      if call and arguments then
        call.text = arguments
        calls[#calls + 1] = finish(call, "", tonumber(result), number)
      elseif call and rest:find(" <unfinished %.%.%.>$") then
        call.text = rest:gsub(" <unfinished %.%.%.>$", "")
        open[pid], calls[#calls + 1] = call, call
      end
    end
  end
  for i = #calls, 1, -1 do
    if not calls[i].ended then
      table.remove(calls, i) -- under way when the process ended
    end
  end
  return calls
end

---The text of a node's trace, once the node has ended.
function M.text(node)
  local file <close> = assert(io.open(node.given.trace))
  return file:read("a")
end

-- --- Bytes to meaning -------------------------------------------------------------------------------------------

-- docs/store.md: the records of one write to a segment of the log.
local function each_record(bytes, offset, found)
  local at = 1
  while at + 48 <= #bytes do
    local magic, size, _, place = string.unpack("<I4I4I8I4", bytes, at)
    if magic ~= 0xb7a9c5e3 or place ~= offset + at - 1 then
      return -- a header, zeros
    end
    local count, record = string.unpack("<I4", bytes, at + 28), at + 40
    for _ = 1, count do
      local len, index, term, kind = string.unpack("<I4I8I8B", bytes, record + 4)
      found({ kind = kind, index = index, term = term, body = bytes:sub(record + 28, record + 27 + len) })
      record = record + (28 + len + 7) // 8 * 8
    end
    at = at + size
  end
end

local RAFT, HEAD = 64, 12
local NAMES = { "append", "append_reply", "heartbeat", "heartbeat_reply", "vote", "vote_reply" }
local COMMIT_AT = { append = 16, heartbeat = 0 } -- behind the head of the message
local PRE, REJECT = 1, 2

-- docs/protocol.md: the whole frames of consensus in a stream of bytes; what is left of it.
local function each_message(bytes, found)
  local at = 1
  while at + HEAD - 1 <= #bytes do
    local len, kind = string.unpack("<I4B", bytes, at)
    if at + HEAD + len - 1 > #bytes then
      break
    end
    if kind == RAFT then
      local body = at + HEAD
      local name, flags = NAMES[bytes:byte(body)], bytes:byte(body + 1)
      local from, to, term = string.unpack("<I8I8I8", bytes, body + 10)
      local message = { name = name, from = from, to = to, term = term }
      message.is_pre, message.is_refusal = flags & PRE ~= 0, flags & REJECT ~= 0
      if name == "append_reply" then
        message.index = string.unpack("<I8", bytes, body + 34)
      elseif COMMIT_AT[name] then
        message.commit = string.unpack("<I8", bytes, body + 34 + COMMIT_AT[name])
      end
      if name then
        found(message)
      end
    end
    at = at + HEAD + len
  end
  return bytes:sub(at)
end

-- --- What must come before what ---------------------------------------------------------------------------------

-- Writes and syncs happen when they have returned; what is sent may be read by others from the moment the call begins.
local function in_order(calls)
  local events = {}
  for _, call in ipairs(calls) do
    local is_sync = call.name == "fdatasync" or call.name == "fsync"
    if is_sync then
      events[#events + 1] = { at = call.began, what = "sync_begins", call = call }
    end
    local is_sent = call.name == "write" or call.name == "writev"
    events[#events + 1] = { at = is_sent and call.began or call.ended, what = call.name, call = call, is_sync = is_sync }
  end
  for i, event in ipairs(events) do
    event.place = i
  end
  table.sort(events, function(a, b)
    if a.at ~= b.at then
      return a.at < b.at
    end
    return a.place < b.place
  end)
  return events
end

---@class spec.Trace.Found
---@field faults string[] What left too early.
---@field acks integer Acknowledgements of the log looked at,
---@field votes integer votes,
---@field commits integer commit indexes told first by this member,
---@field answers integer and answers to clients: the text "ACK-N" for the entry that holds "mark-N;".

---@param calls spec.Call[] Of a member traced since its first start.
---@param majority integer How many members make a majority.
---@return spec.Trace.Found
function M.faults(calls, majority)
  local found = { faults = {}, acks = 0, votes = 0, commits = 0, answers = 0 }
  local written = {} -- records whose write has returned, by file, not yet covered by the beginning of a sync
  local covered = {} -- by call: what a sync under way will make durable
  local entries, last = {}, 0 -- index -> whether it is durable; the highest index written
  local term, streams = 0, {}
  local replies, commit = {}, 0 -- member -> the last acknowledgement read from it; the highest commit read
  local marks = {} -- number -> index of the entry that holds it

  local function wrong(call, text, ...)
    table.insert(found.faults, ("line %d: "):format(call.began) .. text:format(...))
  end

  -- Everything up to `index` lies safe on this member's disk.
  local function is_durable(index)
    for i = index, 1, -1 do
      if not entries[i] then
        return false, i
      end
    end
    return true
  end

  local function on_record(file, record)
    if record.kind == 1 then
      for i = record.index, last do
        entries[i] = nil
      end
      last = record.index
      for mark in record.body:gmatch("mark%-(%d+);") do
        marks[mark] = record.index
      end
    elseif record.kind == 3 then
      for i = record.index, last do
        entries[i] = nil
      end
      last = record.index - 1
    end
    written[file] = written[file] or {}
    table.insert(written[file], record)
  end

  local function on_synced(list)
    for _, record in ipairs(list) do
      if record.kind == 1 then
        entries[record.index] = true
      elseif record.kind == 2 then
        term = math.max(term, record.term)
      end
    end
  end

  -- How many members are known here to have it on disk: in `of_term`, or in any.
  local function holders(index, of_term)
    local count = is_durable(index) and 1 or 0
    for _, reply in pairs(replies) do
      if reply.index >= index and (not of_term or reply.term == of_term) then
        count = count + 1
      end
    end
    return count
  end

  local function on_answer(call, mark)
    local index = marks[mark]
    found.answers = found.answers + 1
    if not index or not is_durable(index) then
      wrong(call, "answered ACK-%s, but entry %s is not synced here", mark, tostring(index))
    elseif commit < index and holders(index) < majority then
      wrong(call, "answered ACK-%s, but entry %d is known on %d members", mark, index, holders(index))
    end
  end

  local function on_sent(call, message)
    if message.name == "append_reply" and not message.is_refusal then
      found.acks = found.acks + 1
      local ok, missing = is_durable(message.index)
      if not ok then
        wrong(call, "acknowledged up to %d, but entry %d is not synced", message.index, missing)
      end
    elseif (message.name == "vote" or message.name == "vote_reply") and not message.is_pre and not message.is_refusal then
      found.votes = found.votes + 1
      if message.term > term then
        wrong(call, "a vote of term %d left, but the log holds term %d", message.term, term)
      end
    elseif message.commit and message.commit > commit then -- more than another leader told us
      found.commits = found.commits + 1
      local count = holders(message.commit, message.term)
      if count < majority then
        wrong(call, "told that %d is committed, but %d members have it", message.commit, count)
      end
    end
  end

  for _, event in ipairs(in_order(calls)) do
    local call = event.call
    if event.what == "pwrite64" and call.result > 0 then
      each_record(call.bytes:sub(1, call.result), call.offset, function(record)
        on_record(call.file, record)
      end)
    elseif event.what == "sync_begins" then
      covered[call], written[call.file] = written[call.file] or {}, nil
    elseif event.is_sync and call.result == 0 then
      on_synced(covered[call])
    elseif event.is_sync then
      written[call.file] = nil -- whatever it should have covered is not to be relied on
    elseif call.file:find("^socket") and call.result > 0 then
      local key = call.file .. (event.what == "read" and "<" or ">")
      local bytes = (streams[key] or "") .. call.bytes:sub(1, call.result)
      streams[key] = each_message(bytes, function(message)
        if event.what ~= "read" then
          on_sent(call, message)
        elseif message.name == "append_reply" and not message.is_refusal then
          local old = replies[message.from]
          if not old or old.term < message.term or old.index < message.index then
            replies[message.from] = { term = message.term, index = message.index }
          end
        else
          commit = math.max(commit, message.commit or 0)
        end
      end)
      if event.what ~= "read" then
        for mark in call.bytes:gmatch("ACK%-(%d+)") do
          on_answer(call, mark)
        end
      end
    end
  end
  return found
end

return M
