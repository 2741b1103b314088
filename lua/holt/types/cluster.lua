---@meta holt.cluster
-- luacheck: ignore 241
-- Clusters and the objects their members share. See docs/collections.md and docs/guarantees.md.

---@class holt.Node
local Node = {}

---The option `cluster` of holt.node.
---@class holt.ClusterOptions
---@field name? string Nodes of other clusters are told so and left alone. Default "default".
---@field members? integer Begin the cluster once so many empty nodes of it have met.
---@field join? string|string[] Join the cluster of the nodes at these addresses.
---@field election_timeout? number Silence after which a member stands for election, drawn from [T, 2T). Default 0.5.
---@field heartbeat? number Default 0.05.
---@field can_lead? boolean false: votes, but never leads.
---@field voter? boolean false: receives everything, counts nowhere.
---@field priority? integer 0 to 10: the highest stand for election first.
---@field snapshot_threshold? integer Entries after which the log is cut behind a snapshot.
---@field max_entry_bytes? integer Larger operations are refused (too_large); at most 7 MiB.

---@class holt.ReadOptions
---@field linearizable? boolean See everything that was acknowledged anywhere before.
---@field timeout? number

---Wait until this node is a member, and a leader is known that has committed in its term.
---@param timeout? number Default 30.
---@return true|nil ok
---@return holt.Error? err no_quorum, timeout, closed
function Node:ready(timeout) end

---Leave the cluster; a leader hands over first.
---@param timeout? number
---@return true|nil ok
---@return holt.Error? err
function Node:leave(timeout) end

---Dial members and be one of theirs again.
---@param addresses string|string[]
---@return true|nil ok
---@return holt.Error? err
function Node:join(addresses) end

---Wait until this node has applied all that was acknowledged anywhere before the call.
---@param timeout? number
---@return true|nil ok
---@return holt.Error? err
function Node:barrier(timeout) end

---Wait until this node has applied all that it knows to be committed.
---@param timeout? number
---@return true|nil ok
---@return holt.Error? err
function Node:applied(timeout) end

---name id address role self leader linked can_lead; at the leader also match lag; last_heard there, and where not linked (seconds)
---@return table[]|nil
---@return holt.Error? err
function Node:members() end

---@return string|nil name
function Node:leader() end

---@return boolean
function Node:is_leader() end

---@return "follower"|"candidate"|"leader"|"learner"|"none"|nil
---@return holt.Error? err
function Node:role() end

---Hand leadership to a member, or to the best one.
---@param name? string
---@param options? { timeout?: number }
---@return true|nil ok
---@return holt.Error? err not_found, no_quorum, timeout
function Node:transfer(name, options) end

---Take a member out that is gone for good.
---@param name string
---@param options? { timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function Node:remove_member(name, options) end

---All shared objects: name kind size bytes revision
---@return table[]|nil
---@return holt.Error? err
function Node:objects() end

---Run `f()` in a task while this node leads; canceled when leadership ends, begun anew with the next.
---@param f fun()
---@return holt.Office
function Node:on_leader(f) end

---@param name string
---@param options? holt.MapOptions
---@return holt.Map
function Node:map(name, options) end

---@param name string
---@param options? { codec?: string|table, request_timeout?: number, max_batch_bytes?: integer, events_max?: integer }
---@return holt.Queue
function Node:queue(name, options) end

---@param name string
---@param options? holt.RecordOptions
---@return holt.Record
function Node:record(name, options) end

---@param name string
---@param options? { codecs?: table<string, string|table>, request_timeout?: number, events_max?: integer }
---@return holt.SharedEmitter
function Node:emitter(name, options) end

---Run `body(t)`: its reads and writes happen at one moment, or not at all. It may not wait, and may run several times.
---@param body fun(t: holt.Txn): ...
---@param options? { timeout?: number }
---@return true|nil ok
---@return any ... What the body returned, or the error: contended, no_quorum, unknown.
function Node:txn(body, options) end

---@class holt.Office
local Office = {}

---Run no more; a run under way is canceled.
---@return boolean
function Office:close() end

-- Maps ---------------------------------------------------------------------------------------------------------------

---@class holt.MapOptions
---@field codec? string|table Of values: msgpack (default), json, raw, or { encode, decode, id?, canonical? }.
---@field key_codec? string|table Must be canonical.
---@field value_codec? string|table The same as `codec`.
---@field equal? fun(found: any, expected: any): boolean For conditions; runs at the caller.
---@field initial? table Entries inserted where nothing is.
---@field request_timeout? number
---@field max_batch_bytes? integer Bulk writes are split into operations of about so many bytes.
---@field events_max? integer Changes that wait for slow listeners; beyond, `resync` tells. Default 100,000.

---Events: insert(key, value) update(key, old, new) remove(key, value) clear() resync(missed) close()
---@class holt.Map
---@field name string
---@field closed boolean
---@field existed boolean
local Map = {}

---The value under a key, or nil.
---@param key any
---@param options? holt.ReadOptions
---@return any value
---@return holt.Error? err
function Map:get(key, options) end

---Values of the keys that are there, by key.
---@param keys any[]
---@param options? holt.ReadOptions
---@return table|nil
---@return holt.Error? err
function Map:get_all(keys, options) end

---True and what was there.
---@param key any
---@param value any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Map:set(key, value, options) end

---True, or false and what is there.
---@param key any
---@param value any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Map:insert(key, value, options) end

---True, or false and what is there.
---@param key any
---@param value any
---@param expected any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Map:update_if(key, value, expected, options) end

---True and what was there, or false.
---@param key any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any removed Or the error.
function Map:remove(key, options) end

---True, or false and what is there.
---@param key any
---@param expected any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Map:remove_if(key, expected, options) end

---True and, by key, what was there. In steps of max_batch_bytes: when a later one fails, err.done entries were done and stay.
---@param entries table
---@param options? { timeout?: number }
---@return true|nil done
---@return any olds Or the error.
function Map:set_all(entries, options) end

---True, or false and, by key, what is there; the others are in.
---@param entries table
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Map:insert_all(entries, options) end

---True and, by key, what was there.
---@param keys any[]
---@param options? { timeout?: number }
---@return true|nil done
---@return any removed Or the error.
function Map:remove_all(keys, options) end

---For each key and value, of one moment. Raises what a read would return.
---@param options? holt.ReadOptions
---@return fun(): any, any
function Map:pairs(options) end

---For each key.
---@param options? holt.ReadOptions
---@return fun(): any, any
function Map:keys(options) end

---For each value.
---@param options? holt.ReadOptions
---@return fun(): any, any
function Map:values(options) end

---Wait until the state is taken over from the others, and what `initial` says is in.
---@param timeout? number Default: the request time-out.
---@return true|nil ok
---@return holt.Error? err no_quorum, timeout, closed
function Map:ready(timeout) end

---@param name string
---@param f function
---@return holt.Map self
function Map:on(name, f) end

---@param name string
---@param f function
---@return holt.Map self
function Map:once(name, f) end

---@param name string
---@param f? function
---@return boolean found
function Map:off(name, f) end

---Let go of this handle; the data stays with the cluster.
---@return boolean
function Map:close() end

---@param options? holt.ReadOptions
---@return integer|nil count
---@return holt.Error? err
function Map:size(options) end

---@param options? holt.ReadOptions
---@return boolean|nil
---@return holt.Error? err
function Map:is_empty(options) end

---@param options? { timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function Map:clear(options) end

---The content as plain values, of one moment: { kind, name, revision, entries }.
---@return table|nil
---@return holt.Error? err
function Map:export() end

---Put in what export gave, as one operation through the log. Listeners hear of it with `events = true` only.
---@param given table
---@param options? { events?: boolean, timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function Map:import(given, options) end

-- Queues -------------------------------------------------------------------------------------------------------------

---Events: add(item) remove(item) empty() not_empty() resync(missed) close()
---@class holt.Queue
---@field name string
---@field closed boolean
---@field existed boolean
local Queue = {}

---Append items, all in one step. It takes no options: a table at the end is an item, too.
---@param ... any
---@return true|nil ok
---@return holt.Error? err no_quorum, unknown, timeout, closed, codec, wrong_kind, option_conflict, too_large
function Queue:push(...) end

---Take the first item; nil when there is none within `wait` seconds.
---@param options? { wait?: number, timeout?: number }
---@return any item
---@return holt.Error? err
function Queue:pop(options) end

---The first item, which stays.
---@param options? holt.ReadOptions
---@return any item
---@return holt.Error? err
function Queue:peek(options) end

---For each place and item, of one moment.
---@param options? holt.ReadOptions
---@return fun(): integer, any
function Queue:pairs(options) end

---Wait until the state is taken over from the others, and what `initial` says is in.
---@param timeout? number Default: the request time-out.
---@return true|nil ok
---@return holt.Error? err no_quorum, timeout, closed
function Queue:ready(timeout) end

---@param name string
---@param f function
---@return holt.Queue self
function Queue:on(name, f) end

---@param name string
---@param f function
---@return holt.Queue self
function Queue:once(name, f) end

---@param name string
---@param f? function
---@return boolean found
function Queue:off(name, f) end

---Let go of this handle; the data stays with the cluster.
---@return boolean
function Queue:close() end

---@param options? holt.ReadOptions
---@return integer|nil count
---@return holt.Error? err
function Queue:size(options) end

---@param options? holt.ReadOptions
---@return boolean|nil
---@return holt.Error? err
function Queue:is_empty(options) end

---@param options? { timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function Queue:clear(options) end

---The content as plain values, of one moment: { kind, name, revision, items, head, tail }.
---@return table|nil
---@return holt.Error? err
function Queue:export() end

---Put in what export gave, as one operation through the log. Listeners hear of it with `events = true` only.
---@param given table
---@param options? { events?: boolean, timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function Queue:import(given, options) end

-- Records ------------------------------------------------------------------------------------------------------------

---@class holt.RecordOptions
---@field codec? string|table Of fields without their own.
---@field codecs? table<string, string|table> By field.
---@field equal? fun(found: any, expected: any): boolean
---@field initial? table<string, any> Fields inserted where nothing is.
---@field request_timeout? number
---@field max_batch_bytes? integer
---@field events_max? integer

---Events: insert(field, value) update(field, old, new) remove(field, value) clear() resync(missed) close()
---@class holt.Record
---@field name string
---@field closed boolean
---@field existed boolean
local Record = {}

---@param field string
---@param options? holt.ReadOptions
---@return any value
---@return holt.Error? err
function Record:get(field, options) end

---All fields, of one moment.
---@param options? holt.ReadOptions
---@return table|nil
---@return holt.Error? err
function Record:get_all(options) end

---@param options? holt.ReadOptions
---@return fun(): string, any
function Record:pairs(options) end

---True and what was there.
---@param field string
---@param value any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Record:set(field, value, options) end

---True, or false and what is there.
---@param field string
---@param value any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Record:insert(field, value, options) end

---True, or false and what is there.
---@param field string
---@param value any
---@param expected any
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Record:update_if(field, value, expected, options) end

---True and what was there, or false.
---@param field string
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Record:remove(field, options) end

---Each field that is absent: true, or false and those that were there.
---@param fields table<string, any>
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Record:insert_all(fields, options) end

---True and those that were there.
---@param fields table<string, any>
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Record:set_all(fields, options) end

---If all fields of `expected` are so, set all of `new`: true, or false and the record as found.
---@param new table<string, any>
---@param expected table<string, any>
---@param options? { timeout?: number }
---@return boolean|nil done
---@return any found Or the error.
function Record:update_all_if(new, expected, options) end

---Wait until the state is taken over from the others, and what `initial` says is in.
---@param timeout? number Default: the request time-out.
---@return true|nil ok
---@return holt.Error? err no_quorum, timeout, closed
function Record:ready(timeout) end

---@param name string
---@param f function
---@return holt.Record self
function Record:on(name, f) end

---@param name string
---@param f function
---@return holt.Record self
function Record:once(name, f) end

---@param name string
---@param f? function
---@return boolean found
function Record:off(name, f) end

---Let go of this handle; the data stays with the cluster.
---@return boolean
function Record:close() end

---@param options? holt.ReadOptions
---@return integer|nil count
---@return holt.Error? err
function Record:size(options) end

---@param options? holt.ReadOptions
---@return boolean|nil
---@return holt.Error? err
function Record:is_empty(options) end

---@param options? { timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function Record:clear(options) end

---The content as plain values, of one moment: { kind, name, revision, entries }.
---@return table|nil
---@return holt.Error? err
function Record:export() end

---Put in what export gave, as one operation through the log. Listeners hear of it with `events = true` only.
---@param given table
---@param options? { events?: boolean, timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function Record:import(given, options) end

-- Emitters -----------------------------------------------------------------------------------------------------------

---Event: close()
---@class holt.SharedEmitter
---@field name string
---@field closed boolean
---@field subscriptions holt.Subscriptions
local SharedEmitter = {}

---Run `f(...)` at each event of this name.
---@param event string
---@param f function
---@param options? { meta?: any, timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function SharedEmitter:subscribe(event, f, options) end

---Take a listener away, or all of that event; of no other event.
---@param event string
---@param f? function
---@param options? { timeout?: number }
---@return true|nil ok
---@return holt.Error? err not_subscribed
function SharedEmitter:unsubscribe(event, f, options) end

---With a third argument only if the metadata is `expected`: true, or false and what is there.
---@param event string
---@param meta any
---@param expected? any
---@return boolean|nil done
---@return any found Or the error: not_subscribed.
function SharedEmitter:update_meta(event, meta, expected) end

---Whether anybody listens, or with `own` this node.
---@param event string
---@param options? { own?: boolean, linearizable?: boolean, timeout?: number }
---@return boolean|nil
---@return holt.Error? err
function SharedEmitter:has_subscribers(event, options) end

---Tell all that listen and wait for their handlers.
---@param event string
---@param ... any
---@return string[]|nil handled Names of nodes.
---@return string[]|holt.Error silent Those that did not answer; or the error: too_large, closed, codec.
---@return table<string, holt.Error>? why Why those did not, by name; `may_have_run`: it may have been handled.
function SharedEmitter:publish(event, ...) end

---The same without waiting for handlers: whether anybody listens. Waits while 16 MiB are on their way to a member; one
---that has answered none of them for a second is left out. What does not get there is told by `dropped(event, name, err)`.
---@param event string
---@param ... any
---@return boolean|nil
---@return holt.Error? err too_large, closed, codec; stalled, buffer_full: a member (err.node) was left out.
function SharedEmitter:notify(event, ...) end

---subscriptions received sent dropped
---@return table<string, integer>
function SharedEmitter:stats() end

---Wait until the state is taken over from the others, and what `initial` says is in.
---@param timeout? number Default: the request time-out.
---@return true|nil ok
---@return holt.Error? err no_quorum, timeout, closed
function SharedEmitter:ready(timeout) end

---@param name string
---@param f function
---@return holt.SharedEmitter self
function SharedEmitter:on(name, f) end

---@param name string
---@param f function
---@return holt.SharedEmitter self
function SharedEmitter:once(name, f) end

---@param name string
---@param f? function
---@return boolean found
function SharedEmitter:off(name, f) end

---Let go of this handle; the data stays with the cluster.
---@return boolean
function SharedEmitter:close() end

---@param options? holt.ReadOptions
---@return integer|nil count
---@return holt.Error? err
function SharedEmitter:size(options) end

---@param options? holt.ReadOptions
---@return boolean|nil
---@return holt.Error? err
function SharedEmitter:is_empty(options) end

---@param options? { timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function SharedEmitter:clear(options) end

---The content as plain values, of one moment: { kind, name, revision, subscriptions }.
---@return table|nil
---@return holt.Error? err
function SharedEmitter:export() end

---Put in what export gave, as one operation through the log. Listeners hear of it with `events = true` only.
---@param given table
---@param options? { events?: boolean, timeout?: number }
---@return true|nil ok
---@return holt.Error? err
function SharedEmitter:import(given, options) end

---Who listens to what. Events: added(event, node, meta) updated(event, node, new, old) removed(event, node, meta)
---resync(missed)
---@class holt.Subscriptions
local Subscriptions = {}

---@return integer
function Subscriptions:size() end

---@return string[]
function Subscriptions:events() end

---For each event, node and metadata.
---@return fun(): string, string, any
function Subscriptions:pairs() end

---Metadata by node.
---@param event string
---@return table<string, any>
function Subscriptions:get(event) end

---@param event string
---@param node? string
---@return boolean
function Subscriptions:has(event, node) end

---@param event? string
---@return string[]
function Subscriptions:nodes(event) end

---@param name "added"|"updated"|"removed"
---@param f function
---@return holt.Subscriptions self
function Subscriptions:on(name, f) end

---@param name "added"|"updated"|"removed"
---@param f function
---@return holt.Subscriptions self
function Subscriptions:once(name, f) end

---@param name string
---@param f? function
---@return boolean found
function Subscriptions:off(name, f) end

-- Transactions -------------------------------------------------------------------------------------------------------

---What the body of node:txn gets. Its methods raise where others return an error.
---@class holt.Txn
local Txn = {}

---@param object holt.Map|holt.Record
---@param key any
---@return any
function Txn:get(object, key) end

---@param object holt.Map|holt.Record
---@param key any
---@param value any
function Txn:set(object, key, value) end

---@param object holt.Map|holt.Record
---@param key any
---@param value any
---@return boolean done
---@return any found
function Txn:insert(object, key, value) end

---@param object holt.Map|holt.Record
---@param key any
---@return boolean done
---@return any removed
function Txn:remove(object, key) end

---@param object holt.Map|holt.Record|holt.Queue
---@return fun(): any, any
function Txn:pairs(object) end

---@param object holt.Map|holt.Record|holt.Queue
---@return integer
function Txn:size(object) end

---@param object holt.Map|holt.Record|holt.Queue
function Txn:clear(object) end

---@param queue holt.Queue
---@param ... any
function Txn:push(queue, ...) end

---@param queue holt.Queue
---@return any
function Txn:peek(queue) end

---@param queue holt.Queue
---@return any
function Txn:pop(queue) end
