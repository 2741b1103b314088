---@meta holt.journal
-- luacheck: ignore 241

---A journal's options. All holders choose codecs and `authors` for themselves; `keep` too.
---@class holt.JournalOptions
---@field schema? string|holt.Schema A .proto text or file. Kept with the journal: the next start needs none.
---@field codec? "json"|"msgpack"|"raw"|holt.CustomCodec Without a schema: of messages that have no codec of their own. raw.
---@field authors? string[] Only entries of these holders (`log.id`) are taken; everybody's.
---@field keep? { time?: number, entries?: integer, bytes?: integer } What is older or more goes; everything is kept.
---@field max_entry_bytes? integer Of one entry with what it says of itself (at most 5 KiB), at most 4 MiB; the same for all holders (1 MiB)
---@field announce? boolean Whether an `EventPeer` says where this node listens. True.
---@field redial? boolean Whether peers that were connected once are dialled at the start. True.

---@class holt.EmitOptions
---@field holders? integer Wait until so many other holders have it on their disks.
---@field timeout? number With `holders`: the node's `request_timeout` (5).

---@class holt.ReadOptions
---@field from? "start"|"now"|string|integer|{ time: number }|{ author: string, sequence: integer } A hash, a position. "start"; with
--- `follow` and no cursor "now". A cursor that is there already says it better.
---@field follow? boolean Wait for more at the end.
---@field cursor? string Go on where this cursor stands; it moves when the next entry is asked for, or by `entry:ack()`. It waits at
--- a damaged entry until that is mended.
---@field filter? string|string[]|fun(entry: holt.Entry): boolean Names, or any condition.
---@field raw? boolean Payloads as bytes.

---@class holt.HandlerOptions
---@field cursor? string Begin where this cursor stands; it moves when the handler has returned.
---@field from? "start"|"now"|string|integer|table Where a new cursor begins ("start"); without one "now".
---@field retries? integer How often an entry whose handler raised is handled again: without end with a cursor, else 0.

---@class holt.Head
---@field author string
---@field sequence integer Of the author's newest entry here.
---@field hash string Of the same.
---@field holder string The id of the data directory behind the author.
---@field node string
---@field horizon integer Entries up to this one are gone; 0: none.
---@field forked boolean Two entries of one number exist: `sequence` and `hash` are of the longest branch.
---@field proof? { [integer]: string, sequence: integer } Of a fork: hashes of two entries of that number, nil once they were dropped.
---@field self boolean

---@class holt.JournalStats
---@field id string
---@field first integer Position of the oldest entry kept.
---@field next integer Position that the next entry gets.
---@field entries integer
---@field bytes integer On the disk, of all journals of the data directory.
---@field bytes_free integer Of these: what holds nothing any more and `log:compact()` gives back.
---@field emitted integer Since the start, as the following.
---@field received integer
---@field duplicates integer
---@field refused integer Forged, altered or malformed.
---@field penned integer Waiting for their parents now.
---@field pen_evicted integer
---@field branches_refused integer Runs that would have begun one branch too many of their author.
---@field forks integer
---@field damaged integer Entries found damaged and taken up (4,096 at a time).
---@field commits integer
---@field holders integer Linked now.
---@field holders_in_step integer Of these with all that is here.
---@field authors integer
---@field disk_full boolean

---@class holt.Log
local Log = {}

---@param name string
---@param message any
---@param opts? holt.EmitOptions
---@return string|nil hash Once it is on the disk.
---@return holt.Error? err schema, codec, too_large, disk_full, io, closed; timeout: too few others have it, `err.hash` is on the disk here.
function Log:emit(name, message, opts) end

---@param name string
---@param f fun(message: any, entry: holt.Entry)
---@param opts? holt.HandlerOptions
---@return holt.Log|nil self
---@return holt.Error? err schema: no such message.
function Log:on(name, f, opts) end

---@param name string
---@param f fun(message: any, entry: holt.Entry)
---@param opts? holt.HandlerOptions
---@return holt.Log|nil self
---@return holt.Error? err
function Log:once(name, f, opts) end

---@param name string
---@param f? function
---@return boolean found
function Log:off(name, f) end

---@param opts? holt.ReadOptions
---@return holt.Reader reader Call it for the next entry, or use it in a `for`. Raises error tables.
function Log:read(opts) end

---@param hash string
---@return holt.Entry|nil entry
---@return holt.Error? err not_found
function Log:get(hash) end

---@param name string
---@param where? integer|string|table Set it there.
---@return integer|nil position Of the next entry it wants; nil when there is no such cursor.
---@return holt.Error? err
function Log:cursor(name, where) end

---@param name string|table
---@param codec? any
---@param opts? { replace?: boolean }
---@return holt.Log self
function Log:register_codec(name, codec, opts) end

---@return holt.Head[]|nil heads
---@return holt.Error? err
function Log:heads() end

---@return holt.JournalStats|nil stats
---@return holt.Error? err
function Log:stats() end

---@param opts? { progress?: fun(done: integer, total: integer) }
---@return true|nil ok
---@return integer|holt.Error checked Or `corrupt`, with `damaged`: positions.
function Log:verify(opts) end

---Give the disk back what deleted entries took. Reading goes on, emits wait.
---@return integer|nil bytes That were given back; 0 in memory.
---@return holt.Error? err disk_full, corrupt, closed: nothing was changed; io
function Log:compact() end

---@param timeout? number
---@return true|nil ok
---@return holt.Error? err closed
function Log:ready(timeout) end

---@return string[] addresses
function Log:known_peers() end

---@return boolean was_open
function Log:close() end

---@class holt.Reader
local Reader = {}

---@return holt.Entry|nil entry nil at the end.
function Reader:next() end

---@return boolean was_open
function Reader:close() end

---@class holt.Entry
local Entry = {}

---Everything up to this entry is dealt with: the cursor moves behind it.
function Entry:ack() end
