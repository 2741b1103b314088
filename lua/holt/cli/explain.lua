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
  contended = "Others changed what the operation had looked at, each time before it was done. Try again, or give it more time.",
  corrupt = "A file was damaged after it had been written; the message names it. Keep it for whoever looks into it, check the disk.",
  disk_full = "Nothing of that write counts. Make room on the disk of the data directory, then try again.",
  foreign = "The other node, or the data directory, is of another cluster; or the directory is another node's. The message names both.",
  insecure = "Outside this machine holt needs encryption, which is not there yet. Say insecure = true where the network is safe.",
  locked = "Another process has this data directory open. Stop it, or give this node another directory.",
  max_peers = "Raise max_peers, or connect to another node of the bus: any node will do.",
  name_in_use = "Two nodes of one name are alive. Give one of them another --name.",
  no_quorum = "No majority of the voters is in touch. Nothing was done. Start the missing members.",
  not_subscribed = "Only a node that listens to an event has metadata there, and can stop listening. Call subscribe first.",
  option_conflict = "All members must agree on an object's codecs; the first write decided them. Give the same options here.",
  script_error = "The script raised an error; the message names file and line.",
  schema = "The value or the bytes do not fit the schema, or the schema itself is not in order; the message names the place.",
  self_connect = "The node dialled its own address. Take it out of connect.",
  timeout = "No answer in time. It may still have been done; ask again if doing it twice is harmless.",
  too_large = "One event may have as many bytes as a frame. Send it in pieces, or send where it can be fetched.",
  unknown = "No answer came in time: it may have been done, or may yet be. err:outcome(timeout) waits for the answer.",
  wrong_channel = "Only nodes of the same channel talk. Give both the same --channel.",
  wrong_kind = "An object of this name exists, of another kind. Give yours another name.",
  wrong_version = "Another holt is on the other side, or wrote the data directory. Bring both nodes to one version; start the newer one.",
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
