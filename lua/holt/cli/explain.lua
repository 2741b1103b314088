--- holt explain CODE: what an error code means and what to do.
local core = require("holt.core")
local options = require("holt.options")
local term = require("holt.cli.term")

local WAY_OUT = {
  address_in_use = "Another program listens there. Stop it, or choose another port; port 0 takes a free one.",
  bad_address = "Write host:port, :port for this machine, [::1]:port for IPv6, or unix:PATH.",
  buffer_full = "The peer was away too long for its buffer. Raise buffer_max or buffer_bytes, or use overflow = \"wait\".",
  cannot_block = "Lua cannot suspend table.sort, string.gsub or a finaliser. Make the call before or after it.",
  canceled = "The task was canceled, by task:cancel() or because the node closed.",
  closed = "The node, peer or stream was closed before. Make a new one.",
  codec = "The value has no form in this codec: a function, a cycle, NaN in JSON. Send plain values, or another codec.",
  connection_refused = "Nobody listens there. Start the other node, or check the address; holt goes on dialling.",
  corrupt = "A file was damaged after it had been written; the message names it. Keep it for whoever looks into it, check the disk.",
  disk_full = "Nothing of that write counts. Make room on the disk of the data directory, then try again.",
  foreign = "The data directory belongs to another cluster or member. Give each node a directory of its own.",
  insecure = "Outside this machine holt needs encryption, which is not there yet. Say insecure = true where the network is safe.",
  locked = "Another process has this data directory open. Stop it, or give this node another directory.",
  max_peers = "Raise max_peers, or connect to another node of the bus: any node will do.",
  name_in_use = "Two nodes of one name are alive. Give one of them another --name.",
  script_error = "The script raised an error; the message names file and line.",
  self_connect = "The node dialled its own address. Take it out of connect.",
  timeout = "No answer in time. It may still have been done; ask again if doing it twice is harmless.",
  too_large = "One event may have as many bytes as a frame. Send it in pieces, or send where it can be fetched.",
  wrong_channel = "Only nodes of the same channel talk. Give both the same --channel.",
  wrong_version = "The two nodes run versions of holt that cannot talk. Bring both to the same version.",
}

local verb = {
  name = "explain",
  usage = "holt explain [CODE]",
  summary = "Say what an error code means and what to do about it.",
  examples = {
    { "holt explain name_in_use", "one code" },
    { "holt explain", "all codes" },
  },
  flags = {},
  arguments = { min = 0, max = 1, names = "CODE" },
}

function verb.run(_, arguments)
  local known = {}
  for _, item in ipairs(core.error_list()) do
    local code, text = item[1], item[2]
    known[#known + 1] = code
    if not arguments[1] then
      term.print(("%-20s %s"):format(code, text))
    elseif code == arguments[1] then
      term.print(("%s: %s."):format(code, text))
      if WAY_OUT[code] then
        term.print(WAY_OUT[code])
      end
      return 0
    end
  end
  if not arguments[1] then
    return 0
  end
  local near = options.nearest(arguments[1], known)
  term.say("there is no code '%s'%s", arguments[1], near and (", did you mean '" .. near .. "'?") or "; see: holt explain")
  return 2
end

return verb
