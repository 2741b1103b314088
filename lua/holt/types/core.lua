---@meta holt.core
-- luacheck: ignore 241
-- The C side of holt, for our own Lua modules. Scripts use `require "holt"`.

---@class holt.core
---@field version string
---@field null lightuserdata
---@field array_metatable table
local core = {}

-- Scheduler ---------------------------------------------------------------------------------------------------------

---@param seconds number
function core.sleep(seconds) end

---@return number seconds Monotonic.
function core.now() end

---@return number seconds Since 1970.
function core.wall() end

---@param f function
---@param ... any
---@return holt.Task
function core.go(f, ...) end

---Like go, for a task that somebody will join: what it raises is not reported.
---@param f function
---@param ... any
---@return holt.Task
function core.go_quiet(f, ...) end

---In messages the task is called "KIND at the place of f".
---@param task holt.Task
---@param kind string
---@param f function
---@return holt.Task task
function core.name_task(task, kind, f) end

---Something that tells the running task from others; nil on the main thread.
---@return lightuserdata|nil
function core.current() end

---@return integer tasks That have not ended.
function core.task_count() end

---A gate: who waits goes on once it is open.
---@return holt.Gate
function core.gate() end

---@class holt.Gate
local Gate = {}

---@param timeout? number
---@return true|nil ok
---@return holt.Error? err timeout
function Gate:wait(timeout) end

---Let everybody through, from now on.
function Gate:open() end

---Make them wait again.
function Gate:shut() end

---One turn of the loop, on the main thread of plain Lua. True while something is left that could happen.
---@param wait? boolean Default true.
---@return boolean
function core.turn(wait) end

---@param code? integer
function core.exit(code) end

---The code that core.exit was called with, nil before.
---@return integer|nil
function core.exit_code() end

-- Errors, log, system -----------------------------------------------------------------------------------------------

---Make an error table of a table with code and message.
---@generic T: table
---@param err T
---@return T
function core.mark_err(err) end

---What a task or handler raised goes to `sink(err, traceback, what, node)`; false: nobody heard it, log it.
---@param sink fun(err: any, traceback: string, what: string, node: table|nil): boolean?
function core.set_error_sink(sink) end

---Every error code with its text.
---@return table
function core.error_list() end

---@param level string
---@param text string
function core.log(level, text) end

---@param level? string
---@return string before
function core.log_level(level) end

---@param level string
---@return boolean
function core.log_enabled(level) end

---@return { bytes: integer, peak_bytes: integer, limit_bytes: integer }
function core.memory() end

---An allocation past this fails; 0 lifts the limit. No effect in plain lua5.4.
---@param bytes integer
function core.limit_memory(bytes) end

---@return integer bits 64 random ones.
function core.random() end

---Run `f(name)` in a task at each SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH or SIGCONT; nil takes it away.
---With `is_final` f is to end the process: code that holds the loop a second after the signal (at once after the second
---one) is ended by an error; code that catches that again and again is cut off after five seconds, with code 1. So is what
---holds the loop for a second later on, until the end; with "now" only what held it when the signal came, for f does not end it.
---@param name string
---@param f? fun(name: string)
---@param is_final? boolean|"now"
---@return true|nil ok
---@return holt.Error? err
function core.on_signal(name, f, is_final) end

---Whether code that held the loop was ended by an error for the sake of a final signal.
---@return boolean
function core.was_interrupted() end

---CRC-32C of what has the checksum `before` and of `text` behind it; begin with 0.
---@param before integer
---@param text string
---@return integer
function core.checksum(before, text) end

---How often the watchdog looks (0: every 50 ms), and from when on it warns of what holds the loop (0: never). Seconds.
---@param tick number
---@param limit number
function core.watch(tick, limit) end

---Run `f(where, seconds)` for each piece of Lua that held the loop beyond the limit, once it is over; f must not wait.
---@param f fun(where: string, seconds: number)
function core.on_slow(f) end

---@return integer slow Pieces of Lua that held the loop beyond the limit.
---@return number longest Seconds the longest of them took.
---@return integer turns Times the loop was turned from within a piece of Lua.
function core.watch_counts() end

---@return integer
function core.pid() end

---@return string path Of the running program.
function core.executable() end

---@param number integer 0, 1 or 2.
---@return boolean
function core.is_terminal(number) end

-- Codecs ------------------------------------------------------------------------------------------------------------

---@param ... any
---@return string|nil bytes
---@return holt.Error? err codec, too_large
function core.msgpack_encode(...) end

---@param bytes string
---@return true|nil ok
---@return any ... The values, or the error.
function core.msgpack_decode(bytes) end

---Whether cjson alone writes this right; nil and the reason when it has no JSON form.
---@param value any
---@param number? integer
---@return boolean|nil
---@return string? problem
function core.json_is_plain(value, number) end

---@param value any
---@return any copy With marks for what cjson would spoil.
function core.json_mark(value) end

---@param text string
---@return string text The marks turned into what they stand for.
function core.json_unmark(text) end

---@param text string
---@return string text With marks for what cjson would spoil.
function core.json_scan(text) end

---@param value any
---@return any value Marks replaced, whole floats made integers; a table is changed in place.
function core.json_restore(value) end

-- Nodes: `node` is the node's table or its userdata -------------------------------------------------------------------

---@param config table
---@param self table The node's table.
---@param dispatch fun(node: table, kind: string, told: table)
---@return userdata|nil
---@return holt.Error? err
function core.node_new(config, self, dispatch) end

---@param node table
---@param id integer
---@param encode function
---@param decode function
function core.node_codec(node, id, encode, decode) end

---@param node table
---@param id integer
---@param pattern? string
function core.node_use_codec(node, id, pattern) end

---@param node table
---@param subject string
---@param ... any
---@return true|nil ok
---@return holt.Error? err
function core.node_emit(node, subject, ...) end

---@param node table
---@param pattern string
---@param f function
---@param concurrency? integer 0: no limit.
---@return true|nil ok
---@return holt.Error? err
function core.node_on(node, pattern, f, concurrency) end

---@param node table
---@param pattern string
---@param f function
---@return true|nil ok
---@return holt.Error? err
function core.node_once(node, pattern, f) end

---@param node table
---@param pattern string
---@param f? function
---@return boolean found
function core.node_off(node, pattern, f) end

---@param node table
---@param subject string
---@param f function
---@param concurrency? integer
---@return integer|nil number
---@return holt.Error? err
function core.node_serve(node, subject, f, concurrency) end

---@param node table
---@param number integer
---@return boolean found
function core.node_unserve(node, number) end

---@param node table
---@param subject string
---@param timeout number
---@param request? any
---@return any ...
function core.node_call(node, subject, timeout, request) end

---The same, but it rather waits until the deadline than end in want of a responder, of a way or of room.
---@param node table
---@param subject string
---@param timeout number
---@param request? any
---@return any ...
function core.node_call_patiently(node, subject, timeout, request) end

---Bytes of the largest frame body; nil once the node is closed.
---@param node table
---@return integer?
function core.node_frame_max(node) end

---@param node table
---@param address string
---@return true|nil ok
---@return string|holt.Error actual
function core.node_listen(node, address) end

---@param node table
---@param address string
---@return integer|nil peer Its number.
---@return holt.Error? err
function core.node_connect(node, address) end

---@param node table
---@return true|nil ok
---@return holt.Error? err
function core.node_disconnect(node) end

---@param node table
---@param wait? boolean Default true.
---@return true
function core.node_close(node, wait) end

---@param node table
---@return boolean
function core.node_is_open(node) end

---@param node table
---@return table[] status
function core.node_peers(node) end

---@param node table
---@param peer integer
---@return table|nil status
---@return holt.Error? err
function core.node_peer_status(node, peer) end

---@param node table
---@param peer integer
---@return boolean
function core.node_peer_close(node, peer) end

---Cut the connection as a fault would: for tests.
---@param node table
---@param peer integer
---@return boolean
function core.node_peer_reset(node, peer) end

---@param node table
---@param wants boolean
function core.node_wants_acks(node, wants) end

---@param node table
---@return { name: string, id: string, boot: string }|nil
---@return holt.Error? err
function core.node_identity(node) end

---@param node table
---@return table<string, integer>|nil
---@return holt.Error? err
function core.node_stats(node) end

---@param subject string
---@param is_pattern? boolean
---@return string|nil problem
function core.subject_problem(subject, is_pattern) end

---@param address string host:port
---@return string|nil problem
function core.address_problem(address) end

---@return holt.Event|nil
function core.event() end

-- Transports written in Lua; for lua/holt/transport.lua ----------------------------------------------------------------

---@param listen fun(listener: userdata, address: string): string|nil, string?, string?
---@return userdata transport
function core.transport_new(listen) end

---@param transport userdata
---@return userdata|nil dial
---@return string? address
function core.transport_next_dial(transport) end

---@param dial userdata
---@return userdata|nil stream
function core.transport_dialled(dial) end

---@param dial userdata
---@param code string|nil
---@param message string
function core.transport_dial_failed(dial, code, message) end

---@param listener userdata
---@param peer? string
---@return userdata|nil stream
function core.transport_accept(listener, peer) end

---@param stream userdata
---@return string|nil bytes
function core.transport_take(stream) end

---@param stream userdata
---@param bytes string
---@return boolean wants_more
function core.transport_data(stream, bytes) end

---@param stream userdata
---@param code? string
---@param message? string
function core.transport_end(stream, code, message) end

---@param object userdata A listener, dial or stream.
---@return boolean is_abort
function core.transport_closed(object) end

-- The outside world: for the command line, specs and tools -------------------------------------------------------------

---Start a program.
---@param options table
---@return table|nil process
---@return holt.Error? err
function core.spawn(options) end

---@param address string
---@param timeout? number
---@return holt.Stream|nil
---@return holt.Error? err
function core.connect(address, timeout) end

---@param address string
---@return holt.Listener|nil
---@return holt.Error? err
function core.listen(address) end

---@param number integer 0, 1 or 2.
---@return holt.Stream|nil
---@return holt.Error? err
function core.stdio(number) end

---@param path string
---@return table|nil control
---@return holt.Error? err
function core.control_open(path) end

---@param name string
---@return string|nil path
---@return holt.Error? err
function core.control_path(name) end

---@return table counts Streams, listeners and processes that Lua holds open.
function core.handles() end

---@return integer count How many folders this program has opened until now.
function core.folders_opened() end

---@param path string
---@param up_to integer Of the first so many that were opened.
---@return boolean is_open This program has that folder, or one in it, open, or is about to close it.
function core.has_folder(path, up_to) end

---@class holt.Stream
local Stream = {}

---@param most? integer
---@param timeout? number
---@return string|nil bytes
---@return holt.Error? err
function Stream:read(most, timeout) end

---@param timeout? number
---@return string|nil line
---@return holt.Error? err
function Stream:read_line(timeout) end

---@param text string
---@param timeout? number
---@return true|nil ok
---@return holt.Error? err
function Stream:write(text, timeout) end

---@param abort? boolean
function Stream:close(abort) end

---@return string
function Stream:peer() end

---@class holt.Listener
local Listener = {}

---@param timeout? number
---@return holt.Stream|nil
---@return holt.Error? err
function Listener:accept(timeout) end

function Listener:close() end

---@return string
function Listener:address() end

-- Clusters and shared objects ---------------------------------------------------------------------------------------

---@param node holt.Node
---@return table|nil status
---@return holt.Error? err
function core.cluster_status(node) end

---@param node holt.Node
---@return boolean
function core.cluster_is_leader(node) end

---@param node holt.Node
---@param which integer|string An id, or a name.
---@return string|integer|nil The name, or the id.
function core.cluster_member(node, which) end

---@param node holt.Node
---@return integer|nil id Of this member.
function core.cluster_self(node) end

---@param node holt.Node
---@return table[]|nil
---@return holt.Error? err
function core.cluster_objects(node) end

---@param node holt.Node
function core.cluster_rejoin(node) end

---@param node holt.Node
---@param is_wanted boolean
function core.cluster_wants_commits(node, is_wanted) end

---@param node holt.Node
---@param what "ready"|"barrier"|"leave"|"transfer"|"remove"
---@param timeout number
---@param name? string
---@return true|nil ok
---@return holt.Error? err
function core.cluster_wait(node, what, timeout, name) end

---Call `f(...)`; within it a call that must wait raises `cannot_block`.
---@param f function
---@param ... any
---@return any ...
function core.unblockable(f, ...) end

---@class holt.Box: userdata

---@param node holt.Node
---@param kind integer 1 map, 2 queue, 3 record, 4 emitter.
---@param name string
---@param options string What all members must agree on.
---@param key_codec integer|table
---@param value_codec integer|table
---@return holt.Box
function core.object_new(node, kind, name, options, key_codec, value_codec) end

---@param box holt.Box
function core.object_close(box) end

---Have `f(self, type, key, old, new, count, is_last)` told of changes; of an emitter `f(self, type, event, old, new, id)`.
---@param box holt.Box
---@param self any
---@param f function|nil
function core.object_watch(box, self, f) end

---@param box holt.Box
---@param value any
---@param is_key? boolean
---@return string|nil bytes
---@return holt.Error? err
function core.object_encode(box, value, is_key) end

---@param box holt.Box
---@param bytes string
---@param is_key? boolean
---@return true|nil ok
---@return any value Or the error.
function core.object_decode(box, bytes, is_key) end

---@param box holt.Box
---@param key any
---@return any value
---@return holt.Error? err
function core.object_get(box, key) end

---@param box holt.Box
---@param key any
---@return integer|nil revision
---@return any value Or the error.
function core.object_item(box, key) end

---@param box holt.Box
---@return integer|nil revision
---@return any value Or the error.
function core.object_peek(box) end

---@param box holt.Box
---@return integer|nil count
---@return integer|holt.Error revision 0: there is no such object yet.
function core.object_size(box) end

---@param box holt.Box
---@return integer|nil head
---@return integer|holt.Error tail
function core.object_ends(box) end

---@param box holt.Box
---@param is_raw? boolean Keys as bytes.
---@return function|nil next
---@return any ... For the loop; or the error.
function core.object_pairs(box, is_raw) end

---One operation, by its number in collections.h.
---@param box holt.Box
---@param op integer
---@param timeout number
---@param key? any
---@param value? any
---@param expected? any
---@return boolean|nil done
---@return any found Or the error.
function core.object_write(box, op, timeout, key, value, expected) end

---Several operations under conditions, all as bytes, in one step.
---@param node holt.Node
---@param timeout number
---@param is_silent boolean
---@param boxes holt.Box[]
---@param conditions any[] Five to a condition: place of the box, type, key, value, revision.
---@param operations any[] Five to an operation: place of the box, op, key, value, expected.
---@return boolean|nil done false: a condition does not hold.
---@return any dones Or the number of that condition, or the error.
---@return (string|false)[]? bytes
function core.command(node, timeout, is_silent, boxes, conditions, operations) end

-- Schemas ------------------------------------------------------------------------------------------------------------

---A schema to be read: add, missing, build; then find, describe, encode and their like. See lua/holt/schema.lua.
---@return userdata|nil
---@return holt.Error? err unsupported: the library is missing
function core.schema_new() end

-- Journals ----------------------------------------------------------------------------------------------------------

---@param node holt.Node
---@param options table name, authors, entry_bytes_max, keep_ms, keep_entries, keep_bytes
---@return userdata|nil box
---@return holt.Error? err locked, wrong_version, corrupt, io, disk_full, permission, closed
function core.journal_open(node, options) end

---@param node holt.Node
---@return string[]|nil names The journals in the node's folder, open or not.
---@return holt.Error? err
function core.journal_names(node) end

---@param box userdata
---@return true ok Once emits under way are answered.
function core.journal_close(box) end

---@param box userdata
---@return boolean
function core.journal_is_open(box) end

---@param box userdata
---@param name string
---@param payload string
---@param holders? integer
---@param timeout? number
---@return string|nil hash
---@return holt.Error? err
function core.journal_emit(box, name, payload, holders, timeout) end

---At most `max` entries from a position on that lie before `limit`. With an error the entry behind them could not be read.
---@param box userdata
---@param position integer
---@param max integer
---@param filter? string|table<string, boolean>
---@param limit? integer
---@return table[]|nil entries
---@return integer|holt.Error next
---@return holt.Error? err
function core.journal_read(box, position, max, filter, limit) end

---Wait until there is an entry at this position or behind it.
---@param box userdata
---@param position integer
---@param timeout? number
---@return true|nil ok
---@return holt.Error? err
function core.journal_wait(box, position, timeout) end

---@param box userdata
---@param hash string
---@return integer|nil position
---@return holt.Error? err
function core.journal_find(box, hash) end

---@param box userdata
---@param author string
---@param number integer
---@return integer|nil position
---@return holt.Error? err
function core.journal_find_number(box, author, number) end

---@param box userdata
---@param seconds number
---@return integer position
function core.journal_find_time(box, seconds) end

---@param box userdata
---@return integer|nil first
---@return integer|holt.Error next
function core.journal_bounds(box) end

---@param box userdata
---@param name string
---@return integer|nil position
function core.journal_cursor(box, name) end

---@param box userdata
---@param name string
---@param position integer
---@return true|nil ok
---@return holt.Error? err
function core.journal_set_cursor(box, name, position) end

---@param box userdata
---@param key string
---@return string|nil text
function core.journal_note(box, key) end

---@param box userdata
---@param key string
---@param text? string
---@return true|nil ok
---@return holt.Error? err
function core.journal_set_note(box, key, text) end

---@param box userdata
---@return holt.JournalStats|nil
---@return holt.Error? err
function core.journal_status(box) end

---@param box userdata
---@return holt.Head[]|nil
---@return holt.Error? err
function core.journal_authors(box) end

---What the author of an entry had seen of others, where it was news.
---@param box userdata
---@param position integer
---@return { author: string, sequence: integer, hash: string }[]|nil
---@return holt.Error? err
function core.journal_parents(box, position) end

---@param box userdata
---@param position integer
---@param max integer
---@return integer|nil next
---@return boolean|holt.Error is_end
---@return holt.Error? err
function core.journal_verify(box, position, max) end

---@param box userdata
---@return integer|nil bytes
---@return holt.Error? err
function core.journal_compact(box) end

---@param number 0|1|2
---@return "terminal"|"pipe"|"file"|"none"
function core.stdio_kind(number) end

---In the program `holt` only: a line of input on this terminal, drawn with `prompt`.
---@param prompt string
---@param history_file? string
---@return holt.LineEdit
function core.edit_open(prompt, history_file) end

---@class holt.LineEdit
local LineEdit = {}

---@param bytes string What was typed.
---@return string|false|nil line false: the end of the input; nil: nothing yet.
function LineEdit:feed(bytes) end

---Take the line off the screen, to print something.
function LineEdit:hide() end

---@param prompt? string
function LineEdit:show(prompt) end

function LineEdit:resize() end

---After Ctrl-Z and `fg`: take the terminal anew, and draw an empty line.
function LineEdit:resume() end

---@return boolean is_empty Whether nothing is typed on the line.
function LineEdit:is_empty() end

---@param words string[] What Tab knows.
function LineEdit:words(words) end

function LineEdit:close() end

return core
