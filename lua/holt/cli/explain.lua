--- holt explain CODE: what an error code means and what to do.
local core = require("holt.core")
local options = require("holt.options")
local term = require("holt.cli.term")

local WAY_OUT = {
  address_in_use = "Another program listens there. Stop it, or choose another port; port 0 takes a free one.",
  again = "It cannot be done at this moment. Try again a little later.",
  bad_address = "Write host:port, :port for this machine, [::1]:port for IPv6, or unix:PATH.",
  buffer_full = "More waits for a peer than may. It was away too long: raise buffer_max or buffer_bytes, or use overflow = \"wait\". "
    .. "Or too much was sent at once: wait, then send again.",
  busy = "So much waits already that more would not fit into memory. Wait for what is under way.",
  canceled = "The task was canceled, by task:cancel() or because the node closed.",
  cannot_block = "Lua cannot suspend table.sort, string.gsub, a finaliser or the body of a txn. Make the call before or after it.",
  closed = "The node, peer or stream was closed before. Make a new one.",
  codec = "The value has no form in this codec: a function, a cycle, NaN in JSON. Send plain values, or another codec.",
  connection_refused = "Nobody listens there. Start the other node, or check the address; holt goes on dialling.",
  connection_reset = "The other side ended or was restarted, or something between cut the connection. holt dials again.",
  contended = "Others changed what the operation had looked at, each time before it was done. Try again, or give it more time.",
  corrupt = "A file was damaged after it had been written; the message names it. Keep it for whoever looks into it, check the disk. "
    .. "A journal gets damaged entries back from linked holders; `holt journal verify` names those that are left.",
  disk_full = "Nothing of that write counts. Make room on the disk of the data directory, then try again.",
  duplicate = "One link between two nodes is enough; this one was closed, the other stays. Nothing is lost.",
  end_of_stream = "The other side has said all it had to say. For a reader that is the end; for a link, holt dials again.",
  exists = "Choose another name or folder, or take away what is there.",
  foreign = "The other node, or the data directory, is of another cluster; or the directory is another node's. The message names both.",
  insecure = "Outside this machine holt needs encryption, which is not there yet. Say insecure = true where the network is safe.",
  internal = "A fault in holt. Please tell how it came about, with the message and what stands in the log.",
  invalid = "The message says which argument or option is wrong, and what is expected.",
  io = "Disk or network failed; the message has the system's word. After a failed write start the node anew: its disk is in doubt.",
  locked = "Another process has this data directory open. Stop it, or give this node another directory.",
  max_peers = "Raise max_peers, or connect to another node of the bus: any node will do.",
  name_in_use = "Two nodes of one name are alive. Give one of them another --name.",
  no_memory = "The system has no memory left. End something, or give the node more.",
  no_quorum = "No majority of the voters is in touch. Nothing was done. Start the missing members.",
  no_responder = "No node in reach serves this name. Start the one that does, and check the name.",
  not_found = "There is nothing of this name, hash or file. Check the spelling; where others have it, wait for them.",
  not_leader = "Another member leads. holt passes requests on by itself; ask it again when this is told to you.",
  not_subscribed = "Only a node that listens to an event has metadata there, and can stop listening. Call subscribe first.",
  option_conflict = "All members must agree on an object's codecs; the first write decided them. Give the same options here. "
    .. "A journal keeps the schema or codec that it was made with: leave the option out.",
  permission = "The user who runs the node may not do this. Check owner and mode of the file or folder; ports below 1024 are root's.",
  protocol = "The other side sent what no holt of this version sends. Is it one? The message tells what was wrong; the link was closed.",
  remote_error = "The handler at the other node raised an error; the message has its text. The fault is there.",
  replaced = "The same node has connected anew; the older connection was closed. Nothing is lost.",
  schema = "The value or the bytes do not fit the schema, or the schema itself is not in order; the message names the place.",
  schema_conflict = "Entries that are here could be read wrongly with this schema. Add fields in place of changing them; or let "
    .. "`holt journal check NEW.proto --db FOLDER` look at every entry: it names the first one concerned; --accept takes what reads all.",
  script_error = "The script raised an error; the message names file and line.",
  self_connect = "The node dialled its own address. Take it out of connect.",
  stalled = "The peer is alive but takes nothing: it is overloaded, paused or its handlers wait. Look at it there.",
  timeout = "No answer in time. It may still have been done; ask again if doing it twice is harmless.",
  too_large = "One event may have as many bytes as a frame, an entry of a journal max_entry_bytes (1 MiB). Send it in pieces, "
    .. "or send where it can be fetched.",
  unknown = "No answer came in time: it may have been done, or may yet be. err:outcome(timeout) waits for the answer.",
  unknown_host = "The name has no address. Check the spelling and the name server.",
  unreachable = "There is no way to that host. Check address, network and firewall.",
  unsupported = "Not with this build, transport or system; the message says what is missing.",
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
