---@meta holt.node
-- luacheck: ignore 241
-- Nodes, peers and what they tell.

---Flags and HOLT_* variables of the same names stand above these; see `holt config`. Times are seconds.
---@class holt.NodeOptions
---@field name? string What others know the node by; random when left out.
---@field listen? string|string[] Addresses to accept links at: "127.0.0.1:7001", ":7001", "[::1]:7001"; port 0 picks one.
---@field connect? string|string[] Addresses to link to, for ever.
---@field advertise? string|string[] Where others reach this node, when that is not where it listens (behind a router, in a
---container). Shown in its status; default the listening addresses.
---@field channel? string Only nodes of the same channel talk.
---@field insecure? boolean May listen outside this machine although nothing is encrypted yet.
---@field transport? "tcp"|"unix"|"memory"|holt.Transport Default tcp. unix: addresses are paths of sockets; memory joins
---nodes of one process; or a transport of your own.
---@field timeout? number Silence after which a connection is given up. Default 60.
---@field ack_interval? number Acknowledge at least this often. Default 1.
---@field buffer_timeout? number What a peer has not acknowledged for so long is dropped. Default 900.
---@field buffer_max? integer Events kept for a peer that is away. Default 1000.
---@field buffer_bytes? integer And their bytes. Default 16 MiB.
---@field overflow? "drop_oldest"|"wait"|"error" What emit does when that buffer is full. Default drop_oldest.
---@field max_peers? integer Default 1000; further ones are refused.
---@field backoff_min? number First wait before dialling anew. Default 0.1.
---@field backoff_max? number Longest such wait. Default 30.
---@field drain_timeout? number How long close waits for acknowledgements, and for handlers of requests to answer (5 seconds).
---@field handler_warning? number Warn, and raise `slow_handler`, when Lua holds the loop this long; 0: never. Default 0.1.
---Of several nodes in one process the smallest counts.
---@field request_timeout? number How long node:call waits when it is not told. Default 5.
---@field schema? holt.Schema|string What holt.schema gives, a .proto text or a file: for the codec protobuf.
---@field codec? string|holt.CustomCodec msgpack (default), json, raw, protobuf, one of `codecs`, or functions of your own.
---@field codecs? table<string, holt.CustomCodec> Codecs of your own, by name; every node that hears them needs them.
---@field cluster? holt.ClusterOptions Hold shared objects together with others: docs/collections.md.
---@field data? string Folder of what shall survive the process; without it the cluster's state lives in memory.
---@field app_data? table Yours: node.app_data.
---@field subjects? table<string, string> Patterns to codecs, for what is emitted: { ["sensor.>"] = "raw" }.

---@class holt.Node
---@field name string
---@field id string
---@field boot string New at each start.
---What the runtime says: listening(address) peer_connected(peer) peer_disconnected(peer, err) gap(origin, missed)
---dropped(peer, count, err) error(err) slow_handler(where, seconds) closed(); in a cluster also joined() left()
---rejoining() follower() candidate() leader() state_changed(new, old) leader_changed(new, old) member_joined(name, id)
---member_left(name, id) no_heartbeat_from(name) unsynced_member(name) commit(index) heartbeat() term(n) quorum_lost() quorum_regained()
---snapshot(index) conf_changed() disk_error(err) changes_missed(object, missed)
---@field events holt.Emitter
local Node = {}

---Send an event to every other node. Waits while a present peer's window is full. Own handlers do not run.
---@param subject string Words joined by dots.
---@param ... any nil is kept.
---@return true|nil ok
---@return holt.Error? err codec, too_large, buffer_full, closed; stalled: a peer (err.node) that has taken nothing for a
---second did not get it, all others did
function Node:emit(subject, ...) end

---Run `f(...)` for each event the pattern covers: `*` one word, `>` one or more at the end. A handler runs for one
---event of each origin at a time, in order; it may wait, then that origin's next event waits too.
---@param pattern string
---@param f function
---@param options? { concurrency?: integer } How many events of one origin it may handle at once. Default 1.
---@return holt.Node|nil self
---@return holt.Error? err closed
function Node:on(pattern, f, options) end

---The same, for the next event only.
---@param pattern string
---@param f function
---@return holt.Node|nil self
---@return holt.Error? err closed
function Node:once(pattern, f) end

---Take a handler away; without `f` all of that pattern.
---@param pattern string
---@param f? function
---@return boolean found
function Node:off(pattern, f) end

---Answer requests for a subject. What `f(request)` returns is the reply, nil included, in the codec of the request; what
---it raises becomes the caller's `remote_error`, and an `error` event here. It may wait. holt.event() tells who asks.
---Several nodes may serve one subject.
---@param subject string Without wildcards.
---@param f fun(request: any): ...
---@param options? { concurrency?: integer } How many requests it may handle at once; the others queue up. No limit when left out.
---@return holt.Service|nil service
---@return holt.Error? err exists, closed
function Node:serve(subject, f, options) end

---Ask the nearest node that serves the subject (equally near ones take turns, this node itself comes first) and wait for
---what its handler returns. It is asked of another node only when it surely did not reach the first.
---@param subject string
---@param request? any One value.
---@param options? { timeout?: number } Seconds; default `request_timeout` of the node, 5.
---@return any ... What the handler returned; or nil and an error.
---@return holt.Error? err no_responder, timeout, unreachable, remote_error, too_large, buffer_full, codec, closed;
---err.may_have_run tells whether the handler may have run (or may yet), err.node who was asked
function Node:call(subject, request, options) end

---Accept links at this address too.
---@param address string
---@return true|nil ok
---@return string|holt.Error address The address with its real port, or the error.
function Node:listen(address) end

---Link to the node at this address, now and after every loss; with `attempts` until so many in a row have failed: then the peer
---closes. The same address gives the same peer.
---@param address string
---@param opts? { attempts?: integer }
---@return holt.Peer|nil peer
---@return holt.Error? err bad_address, closed
function Node:connect(address, opts) end

---Drop today's peers without dialling them anew; go on listening.
---@return true|nil ok
---@return holt.Error? err closed
function Node:disconnect() end

---Take no more work, wait until present peers have acknowledged everything, say goodbye, close. Waits until it is
---done; again is harmless.
---@return true
function Node:close() end

---A journal: durable, signed events that every holder ends up with. The same name gives the same one.
---@param name string
---@param options? holt.JournalOptions
---@return holt.Log|nil log
---@return holt.Error? err schema, schema_conflict, option_conflict, not_found (its file), locked, wrong_version, corrupt, io, disk_full,
--- permission, closed
function Node:journal(name, options) end

---@return boolean
function Node:is_open() end

---Those still dialling included.
---@return holt.Peer[]
function Node:peers() end

---emitted received delivered forwarded duplicates lost expired queued unacknowledged
---@return table<string, integer>|nil
---@return holt.Error? err closed
function Node:stats() end

---Everything about the node, as `holt status --json` shows it.
---@return table
function Node:status() end

---Every setting that was given, and where it came from: flags, environment, file, script.
---@return table<string, { value: any, origin: string }>
function Node:settings() end

---A way to reach other nodes, written in Lua. Every function but listen may wait. What they raise, or give behind nil,
---becomes the error of the connection. Whom it lets in is its own affair: `insecure` is not asked for.
---@class holt.Transport
---@field listen fun(address: string, on_stream: fun(stream: holt.TransportStream)): { close: function, address?: string }|nil, any
---Calls on_stream with each stream that comes in; gives a table whose close() stops that, and whose `address`, if it has
---one, is what node.events `listening` tells.
---@field connect fun(address: string): holt.TransportStream|nil, any

---@class holt.TransportStream
---@field read fun(self: holt.TransportStream): string|nil, any Waits for bytes; nil at the end.
---@field write fun(self: holt.TransportStream, bytes: string): any, any Takes all of them; may wait, then so do the links.
---@field close fun(self: holt.TransportStream) Then its read and write come back.
---@field peer? string Where the other end is, for people.

---@class holt.Service
---@field node holt.Node
---@field subject string
local Service = {}

---Answer no further request; those received before are still answered. False when it is closed already.
---@return boolean
function Service:close() end

---@class holt.Peer
---@field name string|nil Known after `peerid`.
---@field id string|nil
---@field address string The address we dial; "" when the other side dialled us.
---@field node holt.Node
---@field events holt.Emitter
local Peer = {}

---connect() peerid(name, id) initialized() acknowledge(sequence) disconnect(err) backoff(attempt, delay, err)
---reconnect(attempt, delay) gap(missed): events that this peer's node emitted and that never came; dropped(count, err)
---close()
---@param name string
---@param f function
---@return holt.Peer self
function Peer:on(name, f) end

---@param name string
---@param f function
---@return holt.Peer self
function Peer:once(name, f) end

---@param name string
---@param f? function
---@return boolean found
function Peer:off(name, f) end

---Stop dialling, close the link, forget what was buffered for it. False when it is closed already.
---@return boolean
function Peer:close() end

---up name id boot buffered buffered_bytes acknowledged received dropped attempts connects
---@return table|nil
---@return holt.Error? err closed
function Peer:status() end

---@class holt.Emitter
local Emitter = {}

---@param name string
---@param f function
---@return holt.Emitter self
function Emitter:on(name, f) end

---@param name string
---@param f function
---@return holt.Emitter self
function Emitter:once(name, f) end

---@param name string
---@param f? function
---@return boolean found
function Emitter:off(name, f) end

---@param name string
---@return boolean
function Emitter:has(name) end

---Run the handlers of `name`, each in a task of its own; for the runtime.
---@param name string
---@param ... any
---@return boolean heard
function Emitter:fire(name, ...) end

---Bound what `fire_bounded` lets run and wait; for the runtime.
---@param limits { tasks: integer, count: integer, bytes: integer, on_missed: fun(missed: integer|nil) }
function Emitter:bound(limits) end

---As fire, within that bound; for the runtime.
---@param bytes integer What the event weighs.
---@param name string
---@param ... any
function Emitter:fire_bounded(bytes, name, ...) end

---Events were left out already; for the runtime.
---@param missed integer|nil
function Emitter:miss(missed) end
