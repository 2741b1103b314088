---@meta holt
-- luacheck: ignore 241
-- What `require "holt"` gives.

---@class holt
---@field version string
---@field null lightuserdata Stands for null in JSON and for nil inside a table that is sent.
local holt = {}

---Wait. The coroutine parks; everything else goes on.
---@param seconds number
function holt.sleep(seconds) end

---Monotonic seconds, for measuring. Their zero means nothing.
---@return number
function holt.now() end

---Start a task. It begins with the next turn of the loop.
---@param f fun(...: any): ...
---@param ... any Its arguments.
---@return holt.Task
function holt.go(f, ...) end

---Run `f(...)` once, `seconds` from now, in a task of its own.
---@param seconds number
---@param f function
---@param ... any
---@return holt.Timer
function holt.after(seconds, f, ...) end

---Run `f()` every `seconds`. It never overlaps with itself: runs that a long one covers fall away.
---@param seconds number More than 0.
---@param f function
---@return holt.Timer
function holt.every(seconds, f) end

---Run functions side by side and wait for all. The first that raises makes the others be canceled.
---@param functions function[]
---@return table|nil results The first result of each in its place, and `n`; nil on failure.
---@return holt.Error? err
function holt.all(functions) end

---Run functions side by side; the first to end wins, the others are canceled.
---@param functions function[]
---@return integer|nil winner Its place; nil when it raised.
---@return any ... Its results, or the error.
function holt.race(functions) end

---Within a handler of node:on or node:serve: where its event or request came from. Elsewhere nil.
---@return holt.Event|nil
function holt.event() end

---Make a node. Wrong options raise at the caller's line; an address that cannot be used raises its error table.
---@param options? holt.NodeOptions
---@return holt.Node
function holt.node(options) end

---Say that a table is an array, so that JSON writes it as [] even while it is empty.
---@generic T: table
---@param t? T
---@return T
function holt.array(t) end

---Lua's require, for modules whose top level waits. `holt run` puts it in the place of Lua's own.
---@param name string
---@return any module
---@return any? data
function holt.require(name) end

---End the process with this code, after the present turn. The caller does not go on.
---@param code? integer 0 to 255, 0 when left out.
function holt.exit(code) end

---For plain lua5.4, as the last line: run until nothing is left to do. Under `holt run` the runtime does this.
function holt.run() end

---Of an event, or of a request (those without sequence, age and late).
---@class holt.Event
---@field subject string
---@field origin string Name of the node that emitted it.
---@field boot string Its boot: new at each start.
---@field sequence integer Number of the event at that boot, from 1.
---@field age number Seconds since it was emitted, as far as the nodes on its way could tell.
---@field hops integer Links it came over; 1 from a neighbour.
---@field late boolean It arrived after events that were emitted later.
---@field left? number Of a request: seconds until its caller gives up.

---@class holt.Task
local Task = {}

---Wait for the end of a task.
---@param timeout? number Seconds; for ever when left out.
---@return true|nil ok
---@return any ... Its results; or an error: `timeout`, `canceled`, or what it raised (with `traceback`).
function Task:join(timeout) end

---Raise `canceled` in it where it waits, or at its next wait or emit. False when it has ended.
---@return boolean
function Task:cancel() end

---@return "new"|"running"|"waiting"|"done"|"failed"|"canceled"
function Task:status() end

---@class holt.Timer
local Timer = {}

---Run no more; a body that runs now runs to its end. False when it was over already.
---@return boolean
function Timer:cancel() end

---@return boolean
function Timer:is_active() end

---@class holt.Log
local log = {}

---@param format string As for string.format; further arguments follow.
---@param ... any
function log.trace(format, ...) end

---@param format string
---@param ... any
function log.debug(format, ...) end

---@param format string
---@param ... any
function log.info(format, ...) end

---@param format string
---@param ... any
function log.warn(format, ...) end

---@param format string
---@param ... any
function log.error(format, ...) end

---Lines below this level are not written. Returns the level before.
---@param level? "trace"|"debug"|"info"|"warn"|"error"|"silent"
---@return string
function log.level(level) end

holt.log = log

---@class holt.Errors
local errors = {}

---Make an error table.
---@param code string
---@param message string
---@param fields? { hint?: string, node?: string, cause?: any }
---@return holt.Error
function errors.new(code, message, fields) end

---The same behind nil, for `return errors.fail(...)`.
---@param code string
---@param message string
---@param fields? table
---@return nil, holt.Error
function errors.fail(code, message, fields) end

---@param value any
---@return boolean
function errors.is(value) end

holt.errors = errors

---@class holt.Json
---@field null lightuserdata
local json = {}

---@param value any
---@return string|nil text
---@return holt.Error? err `codec`
function json.encode(value) end

---@param text string
---@return any value null is holt.null; nil on failure.
---@return holt.Error? err `codec`
function json.decode(text) end

---Several values as one JSON array; nil becomes null.
---@param ... any
---@return string|nil text
---@return holt.Error? err
function json.encode_values(...) end

---The values of a JSON array; null becomes nil.
---@param text string
---@return true|nil ok
---@return any ... The values, or the error.
function json.decode_values(text) end

---@generic T: table
---@param t? T
---@return T
function json.array(t) end

holt.json = json

---@class holt.SchemaOptions
---@field name? string What a text is called in messages; "schema.proto" unless said otherwise.
---@field folders? string[] Where imports are looked for, after the folder of the file.
---@field files? table<string, string> Texts by name: imports are looked for here first.

---A message of a schema. Its functions are called with a dot.
---@class holt.Message
---@field name string Without its package: "Order.Item".
---@field full_name string
---@field schema holt.Schema
---@field encode fun(value: table): string|nil, holt.Error? Canonical bytes; nil and `schema`, with the path of the field.
---@field decode fun(bytes: string, options?: { defaults?: boolean }): table|nil, holt.Error? `defaults = false` leaves absent fields out.
---@field check fun(bytes: string): true|nil, holt.Error? Whether the bytes are this message and hold nothing else.

---@class holt.Schema
---@field name string The file it came from.
---@field messages table<string, holt.Message> By name; nil when there is none. pairs() goes over the outermost ones.
local Schema = {}

---A message by its full name, or by its end where only one ends so.
---@param name string
---@return holt.Message|nil
---@return holt.Error? err `schema`, with the nearest name
function Schema:message(name) end

---The names of the messages on the outermost level, the file's own first.
---@return string[]
function Schema:names() end

---Everything it says: root, files, messages with their fields, enums with their values.
---@return table
function Schema:describe() end

---To be stored: all imports in it, no comments; equal schemas have equal bytes. `holt.schema.load` reads them.
---@return string
function Schema:bytes() end

---The same as .proto text, for people.
---@return string
function Schema:text() end

---@class holt.Schemas
---@overload fun(source: string, options?: holt.SchemaOptions): holt.Schema|nil, holt.Error?
local schema = {}

---Read protobuf messages from a .proto text, or a file and what it imports.
---@param source string A text, or the name of a file.
---@param options? holt.SchemaOptions
---@return holt.Schema|nil
---@return holt.Error? err `schema` with line and column; `not_found`; `unsupported`: a library is missing
function schema.new(source, options) end

---Read what Schema:bytes() gave.
---@param bytes string
---@return holt.Schema|nil
---@return holt.Error? err `schema`, `unsupported`
function schema.load(bytes) end

---@param value any
---@return boolean
function schema.is_message(value) end

holt.schema = schema

---@class holt.Codecs
---@field msgpack holt.Codec
---@field json holt.Codec
---@field raw holt.Codec
---@field ids table<string, integer>
---@field first_custom_id integer
---@field null lightuserdata
local codec = {}

---@generic T: table
---@param t? T
---@return T
function codec.array(t) end

---The codec of a schema's messages: two values, a name and a message.
---@param schema_of_node holt.Schema
---@return holt.Codec
function codec.protobuf(schema_of_node) end

---What the options codec, codecs and subjects of a node come to; for holt.node.
---@param settings table
---@param level integer
---@return table
function codec.plan(settings, level) end

holt.codec = codec

return holt
