--- holt status, get, set, push, pop, keys, member: a running node's shared objects and its cluster, from the shell.
-- Each verb asks one node over its control socket. Exit codes: 0 done, 1 failed or not there, 2 usage, 3 no quorum,
-- 4 time-out, 6 outcome unknown.
-- @module holt.cli.objects
local control = require("holt.control")
local core = require("holt.core")
local json = require("holt.json")
local term = require("holt.cli.term")

local M = {}

local EXIT = { no_quorum = 3, timeout = 4, unknown = 6 }
local PATIENCE = 10 -- seconds beyond what the operation itself may take

local function flags(...)
  local list = {
    { "node", "n", value = "NAME", help = "ask this node (HOLT_NAME)" },
    { "control", value = "PATH", help = "or the one with this control socket (HOLT_CONTROL)" },
    { "timeout", value = "SECONDS", help = "how long it may take (5)", kind = "seconds" },
  }
  return table.move({ ... }, 1, select("#", ...), #list + 1, list)
end

local LOCAL = { "local", help = "read what this node has applied, without asking the others" }
local KEY_JSON = { "json-key", help = "the key is JSON, not a text: 7 is a number" }

-- A variable of the environment; an empty one is as good as none.
local function from_environment(name)
  local text = os.getenv(name)
  return text ~= "" and text or nil
end

local function client_of(values)
  local path = values.control or (not values.node and from_environment("HOLT_CONTROL")) or nil
  local name = values.node or from_environment("HOLT_NAME")
  if not path and not name then
    return nil, "which node? give --node NAME, or --control PATH", 2
  end
  local err
  if not path then
    path, err = core.control_path(name)
  end
  local client
  if path then
    client, err = control.connect(path, values.timeout or 5)
  end
  if not client then
    local who = name and not values.control and ("node %s does not answer"):format(name) or "no node answers"
    local is_absent = err.code == "not_found" or err.code == "connection_refused"
    local hint = is_absent and "; is it started? --node takes its name, --control the place it was started with" or ""
    return nil, ("%s at %s: %s%s"):format(who, path or "its place", tostring(err), hint), 1
  end
  return client
end

-- No answer came: what is known then, and the exit code.
local function lost_answer(err, changes)
  local why = err.code == "timeout" and "the node is busy or paused" or "the node ended"
  if changes then
    return ("no answer: %s; whether it was done is unknown, look before you try again [unknown]"):format(why), EXIT.unknown
  end
  return ("no answer: %s [%s]"):format(why, err.code), EXIT[err.code] or 1
end

-- Ask, and give the answer; or nil and the exit code, once the failure was told. `changes`: it is more than a question.
local function ask(values, request, changes)
  local client, problem, code = client_of(values)
  if not client then
    term.say("%s", problem)
    return nil, code
  end
  request.timeout = values.timeout
  local answer, err, has_answered = client:request(request, (values.timeout or 5) + (request.wait or 0) + PATIENCE)
  client:close()
  if answer == nil and err then
    problem, code = tostring(err), EXIT[err.code] or 1
    if not has_answered then
      problem, code = lost_answer(err, changes)
    end
    term.say("%s", problem)
    return nil, code
  end
  return answer
end

-- A word of the command line: JSON where it is, else the text itself.
local function value_of(text)
  local value, err = json.decode(text)
  if err then
    return text
  end
  return value
end

local function key_of(values, text)
  if text == nil or not values.json_key then
    return text
  end
  local key, err = json.decode(text)
  if err then
    return nil, ("--json-key: %s"):format(tostring(err))
  end
  return key
end

local function show(value, is_json)
  if type(value) == "string" and not is_json then
    term.print(value)
  else
    term.print(assert(json.encode(value)))
  end
end

-- Print { found, value }; 1 where nothing is.
local function show_found(values, answer, missing)
  if answer.found then
    show(answer.value, values.json)
    return 0
  end
  term.say("%s", missing)
  return 1
end

local JSON = { "json", help = "print texts as JSON too" }

M.get = {
  name = "get",
  usage = "holt get OBJECT [KEY] [options]",
  summary = "Print a value of a map, a field of a record, or the first item of a queue.",
  examples = {
    { "holt get stock apple --node n1", "the value under a key" },
    { "holt get conf --node n1", "all fields of a record" },
    { "holt get jobs --node n1 --local", "the first item of a queue, as far as this node knows" },
  },
  flags = flags(LOCAL, KEY_JSON, JSON),
  arguments = { min = 1, max = 2, names = "OBJECT [KEY]" },
  run = function(values, arguments)
    local key, problem = key_of(values, arguments[2])
    if problem then
      term.say("get: %s", problem)
      return 2
    end
    local answer, code =
      ask(values, { op = "object", method = "get", name = arguments[1], key = key, is_local = values["local"] })
    if not answer then
      return code
    end
    local missing = ("'%s' has nothing under %s"):format(arguments[1], arguments[2] or "its head")
    if key == arguments[2] and key and type(value_of(key)) ~= "string" then
      missing = ("'%s' has nothing under the text '%s'; is the key no text? give --json-key"):format(arguments[1], key)
    end
    return show_found(values, answer, missing)
  end,
}

M.set = {
  name = "set",
  usage = "holt set OBJECT KEY VALUE [options]",
  summary = "Put a value into a map or a record. The value is JSON where it can be read as such, else a text.",
  examples = {
    { "holt set stock apple 10 --node n1", "a number" },
    { "holt set stock pear '{\"qty\": 3}' --node n1", "a table" },
    { "holt set stock plum 'a text' --node n1", "a text" },
  },
  flags = flags(KEY_JSON, { "text", help = "the value is a text, whatever it looks like" }),
  arguments = { min = 3, max = 3, names = "OBJECT KEY VALUE" },
  run = function(values, arguments)
    local key, problem = key_of(values, arguments[2])
    if problem then
      term.say("set: %s", problem)
      return 2
    end
    local value = values.text and arguments[3] or value_of(arguments[3])
    local answer, code = ask(values, { op = "object", method = "set", name = arguments[1], key = key, value = value }, true)
    return answer and 0 or code
  end,
}

M.push = {
  name = "push",
  usage = "holt push QUEUE ITEM... [options]",
  summary = "Append items to a queue, all in one step. An item is JSON where it can be read as such, else a text.",
  examples = { { "holt push jobs '{\"id\": 1}' '{\"id\": 2}' --node n1", "two items" } },
  flags = flags({ "text", help = "items are texts, whatever they look like" }),
  arguments = { min = 2, max = 1000, names = "QUEUE ITEM..." },
  run = function(values, arguments)
    local items = json.array()
    for i = 2, #arguments do
      items[i - 1] = values.text and arguments[i] or value_of(arguments[i])
    end
    local answer, code = ask(values, { op = "object", method = "push", name = arguments[1], values = items }, true)
    return answer and 0 or code
  end,
}

M.pop = {
  name = "pop",
  usage = "holt pop QUEUE [options]",
  summary = "Take the first item of a queue and print it. Exit code 1 when there is none.",
  examples = {
    { "holt pop jobs --node n1", "the first item, gone for all" },
    { "holt pop jobs --wait 30 --node n1", "or the one that comes within 30 seconds" },
  },
  flags = flags({ "wait", value = "SECONDS", help = "wait for an item (0)", kind = "seconds" }, JSON),
  arguments = { min = 1, max = 1, names = "QUEUE" },
  run = function(values, arguments)
    local request = { op = "object", method = "pop", name = arguments[1], wait = values.wait or 0 }
    local answer, code = ask(values, request, true)
    if not answer then
      return code
    end
    return show_found(values, answer, ("queue '%s' is empty"):format(arguments[1]))
  end,
}

M.keys = {
  name = "keys",
  usage = "holt keys [OBJECT] [options]",
  summary = "Print the keys of a map, the fields of a record or the events of an emitter; without a name all objects.",
  examples = {
    { "holt keys stock --node n1", "one key a line" },
    { "holt keys --node n1", "kind, size and name of each object" },
  },
  flags = flags(LOCAL, JSON),
  arguments = { min = 0, max = 1, names = "[OBJECT]" },
  run = function(values, arguments)
    local request = { op = "object", method = "keys", name = arguments[1], is_local = values["local"] }
    local list, code = ask(values, request)
    if not list then
      return code
    end
    for _, item in ipairs(list) do
      if arguments[1] or values.json then
        show(item, values.json)
      else
        term.print(("%-8s %8d  %s"):format(item.kind, item.size, item.name))
      end
    end
    return 0
  end,
}

local function member_line(member)
  local words = {}
  for _, word in ipairs({ "leader", "self" }) do
    if member[word] then
      words[#words + 1] = word
    end
  end
  if not member.linked then
    words[#words + 1] = ("not connected for %.0f s"):format(member.last_heard)
  end
  if member.lag and member.lag > 0 then
    words[#words + 1] = ("%d behind"):format(member.lag)
  end
  if member.linked and member.last_heard and member.last_heard > 1 then
    words[#words + 1] = ("silent for %.0f s"):format(member.last_heard)
  end
  return ("%-16s %-8s %-22s %s"):format(member.name or "?", member.role, member.address or "", table.concat(words, ", "))
end

M.member = {
  name = "member",
  usage = "holt member [remove NAME | transfer [NAME]] [options]",
  summary = "Print the members; take out one that was stopped for good; hand leadership over.",
  examples = {
    { "holt member --node n1", "one line a member" },
    { "holt member remove n3 --node n1", "n3, which was stopped before: alive it comes back at once, under a new id" },
    { "holt member transfer n2 --node n1", "n2 leads from now on" },
  },
  flags = flags(JSON),
  arguments = { min = 0, max = 2, names = "[remove NAME | transfer [NAME]]" },
  run = function(values, arguments)
    local action = arguments[1]
    if action and action ~= "remove" and action ~= "transfer" then
      term.say("member: there is no action '%s'; there are: remove NAME, transfer [NAME]", action)
      return 2
    elseif action == "remove" and not arguments[2] then
      term.say("member remove: which one? give its name")
      return 2
    end
    local list, code = ask(values, { op = "object", method = "member", action = action, name = arguments[2] }, action ~= nil)
    if not list then
      return code
    end
    for _, member in ipairs(action and {} or list) do
      term.print(values.json and assert(json.encode(member)) or member_line(member))
    end
    return 0
  end,
}

local function print_cluster(status)
  local cluster = status.cluster
  term.print(
    ("cluster  %s  %s, role %s, term %d, leader %s"):format(
      cluster.name or "",
      cluster.state,
      status.role or "none",
      status.term,
      status.leader or "none"
    )
  )
  term.print(("log      commit %d, applied %d, %d bytes"):format(status.commit, status.applied, cluster.log_bytes))
  if cluster.problem then
    term.print("problem  " .. cluster.problem)
  end
  if cluster.disk == "full" then
    term.print("disk     FULL: this member writes and acknowledges nothing until there is room; reads go on")
  elseif cluster.disk == "failed" then
    term.print("disk     FAILED: this member takes no part any more; check the disk, then restart the node")
  end
  if cluster.quorum then
    term.print("quorum   yes")
  else
    local missing = {}
    for _, member in ipairs(status.members) do
      if member.role == "voter" and not member.linked then
        missing[#missing + 1] = ("%s for %.0f s"):format(member.name, member.last_heard)
      end
    end
    term.print(
      ("quorum   NO for %.0f s%s"):format(
        cluster.no_quorum,
        #missing > 0 and ("; missing: " .. table.concat(missing, ", ")) or ""
      )
    )
  end
  for _, member in ipairs(status.members) do
    term.print("member   " .. member_line(member))
  end
end

-- One line a link: two nodes that dial each other have a peer for each end of it.
local function print_links(peers)
  local dialled = {}
  for _, peer in ipairs(peers) do
    dialled[peer.name or ""] = dialled[peer.name or ""] or peer.address ~= ""
  end
  for _, peer in ipairs(peers) do
    if peer.address ~= "" or not dialled[peer.name or ""] then
      term.print(("link     %s %s %s"):format(peer.name or "?", peer.address, peer.up and "up" or "down"))
    end
  end
end

M.status = {
  name = "status",
  usage = "holt status [options]",
  summary = "Print the state of a running node: its links, and its cluster's role, term, quorum and members.",
  examples = {
    { "holt status --node n1", "for people" },
    { "holt status --node n1 --json", "all of it, as one JSON object" },
  },
  flags = flags({ "json", help = "print one JSON object" }),
  arguments = { min = 0, max = 0 },
  run = function(values)
    local status, code = ask(values, { op = "status" })
    if not status then
      return code
    elseif values.json then
      term.print(assert(json.encode(status)))
      return 0
    end
    term.print(("node     %s  pid %s, %d tasks"):format(status.name or "?", status.pid, status.tasks or 0))
    for _, address in ipairs(status.listen or {}) do
      term.print("listens  " .. address)
    end
    print_links(status.peers or {})
    if status.cluster then
      print_cluster(status)
    end
    return 0
  end,
}

return M
