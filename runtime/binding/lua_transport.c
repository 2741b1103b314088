/* lua_transport.c - the C side of a transport written in Lua; the other half is lua/holt/transport.lua.
 *
 * Nothing here runs Lua from a callback: what the links want is noted, and wakes tasks that wait for it.
 * - listen: called from Lua, so the script's function runs at once, protected; it cannot wait. What it hands
 *   to on_stream becomes a stream of the listener.
 * - dial: queued; the transport's task takes it, runs the script's `connect`, answers with a stream or words.
 * - out: bytes are gathered; the stream's writer takes them and gives them to the script's `write`. While
 *   that waits, or more than QUEUE_BYTES lie here, whoever writes is told to wait.
 * - in: what the script's `read` gives goes straight to the link. nil is the end, an error table the reason.
 * - close: the task that waits for it lets the writer finish (five seconds, or not at all after an abort),
 * then closes the script's stream. Memory: each object is counted by its box in Lua and by the side of the
 * links. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "binding/lua_transport.h"
#include "binding/outside.h"

#define QUEUE_BYTES (256 * 1024)
#define TRANSPORT   "holt.transport"
#define LISTENER    "holt.transport.listener"
#define DIAL        "holt.transport.dial"
#define STREAM      "holt.transport.stream"

/* What all four kinds begin with. */
struct object {
  unsigned refs; /* its box in Lua, the side of the links */
  bool is_closed;
  bool is_abort;
  struct holt_list closers; /* tasks that wait for is_closed */
};

struct lua_transport {
  struct object object;
  struct holt_transport transport;
  struct holt_script *script;
  int listen_ref;         /* driver: listen(listener, address) -> address | nil, err */
  struct holt_list dials; /* wanted; of struct lua_dial */
  struct holt_list takers;
};

struct lua_listener {
  struct object object;
  struct holt_transport_handle handle;
  holt_accept_cb cb;
  void *arg;
};

struct lua_dial {
  struct object object; /* is_closed: answered or given up */
  struct holt_transport_handle handle;
  struct holt_list node;
  char address[256];
  holt_dial_cb cb;
  void *arg;
};

struct lua_stream {
  struct object object;
  struct holt_stream stream;
  struct holt_writer out;
  bool is_ended;
  bool is_busy; /* the script's write runs */
  bool owes_writable;
  struct holt_list takers;
  char why[256];
};

/* --- Objects and their boxes ---------------------------------------------------------------------- */

static void object_init(struct object *object, unsigned refs) {
  object->refs = refs;
  holt_list_init(&object->closers);
}

static void object_close(struct object *object, bool is_abort) {
  object->is_closed = true;
  object->is_abort = is_abort;
  holt__pending_wake(&object->closers);
}

static void object_release(struct object *object) {
  if (--object->refs == 0) free(object); /* `object` is the first member of every kind */
}

static void **push_box(lua_State *L, const char *type) {
  void **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, type);
  return box;
}

static void *check_box(lua_State *L, int index, const char *type) {
  void **box = luaL_checkudata(L, index, type);
  if (*box == NULL) luaL_argerror(L, index, "it is gone");
  return *box;
}

static int l_box_gc(lua_State *L) {
  void **box = lua_touserdata(L, 1);
  if (*box != NULL) object_release(*box);
  *box = NULL;
  return 0;
}

/* transport_closed(listener | dial | stream) -> whether in a hurry; waits for it */
static int go_closed(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct object *object = owner;
  (void)status;
  if (!object->is_closed) return holt__pend(L, &object->closers, deadline_ms, go_closed, object);
  lua_pushboolean(L, object->is_abort);
  return 1;
}

static int l_closed(lua_State *L) {
  void **box = luaL_testudata(L, 1, LISTENER);
  if (box == NULL) box = luaL_testudata(L, 1, DIAL);
  if (box == NULL) box = luaL_checkudata(L, 1, STREAM);
  if (*box == NULL) return luaL_argerror(L, 1, "it is gone");
  return go_closed(L, *box, 0, HOLT__NO_DEADLINE);
}

/* --- Streams -------------------------------------------------------------------------------------- */

static int stream_write(struct holt_stream *stream, const void *data, size_t len) {
  struct lua_stream *s = HOLT_CONTAINER(stream, struct lua_stream, stream);
  HOLT_ASSERT(!s->object.is_closed);
  if (s->is_ended && s->why[0] != '\0') return HOLT_ERESET;
  holt_write_bytes(&s->out, data, len);
  holt__pending_wake(&s->takers);
  s->owes_writable = s->is_busy || s->out.len > QUEUE_BYTES;
  return s->owes_writable ? 1 : 0;
}

static void stream_close(struct holt_stream *stream, bool abort) {
  struct lua_stream *s = HOLT_CONTAINER(stream, struct lua_stream, stream);
  if (s->object.is_closed) return;
  if (abort) s->out.len = 0;
  holt__pending_wake(&s->takers);
  object_close(&s->object, abort);
  if (s->object.refs == 1) holt_writer_free(&s->out);
  object_release(&s->object);
}

static const struct holt_stream_ops stream_ops = {.write = stream_write, .close = stream_close};

/* A new stream for the links, whose box lies on top already. */
static struct lua_stream *stream_new(void **box, const char *peer) {
  struct lua_stream *s = holt_alloc(sizeof *s);
  object_init(&s->object, 2);
  holt_list_init(&s->takers);
  s->stream.ops = &stream_ops;
  snprintf(s->stream.peer, sizeof s->stream.peer, "%.127s", peer);
  *box = s;
  return s;
}

static int l_stream_gc(lua_State *L) {
  struct lua_stream **box = lua_touserdata(L, 1);
  struct lua_stream *s = *box;
  if (s == NULL) return 0;
  holt_writer_free(&s->out);
  s->out = (struct holt_writer){0};
  return l_box_gc(L);
}

static int go_take(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_stream *s = owner;
  (void)status;
  s->is_busy = false;
  if (s->out.len == 0 && s->owes_writable && !s->object.is_closed) {
    s->owes_writable = false;
    if (s->stream.on_writable != NULL) s->stream.on_writable(s->stream.arg);
  }
  if (s->out.len > 0) {
    lua_pushlstring(L, (const char *)s->out.data, s->out.len);
    s->out.len = 0;
    s->is_busy = true;
    return 1;
  }
  if (s->object.is_closed) return 0;
  return holt__pend(L, &s->takers, deadline_ms, go_take, s);
}

/* transport_take(stream) -> bytes to write, nothing once it is closed; waits. The last ones have been
 * written. */
static int l_take(lua_State *L) {
  return go_take(L, check_box(L, 1, STREAM), 0, HOLT__NO_DEADLINE);
}

/* transport_data(stream, bytes) -> whether anybody still wants more */
static int l_data(lua_State *L) {
  struct lua_stream *s = check_box(L, 1, STREAM);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  bool is_open = !s->object.is_closed && !s->is_ended;
  if (is_open && len > 0 && s->stream.on_data != NULL)
    s->stream.on_data(s->stream.arg, (const uint8_t *)bytes, len);
  lua_pushboolean(L, is_open && !s->object.is_closed);
  return 1;
}

/* What a script says of a failure: a word of the list and a sentence. */
static int check_failure(lua_State *L, int index, const char **message) {
  int code = holt_err_from_word(luaL_optstring(L, index, ""));
  *message = luaL_optstring(L, index + 1, "");
  return code != 0 ? code : HOLT_EIO;
}

/* transport_end(stream): the other side ended it; (stream, code, message): it broke */
static int l_end(lua_State *L) {
  struct lua_stream *s = check_box(L, 1, STREAM);
  if (s->object.is_closed || s->is_ended) return 0;
  int status = HOLT_EEOF;
  const char *message;
  if (!lua_isnoneornil(L, 3)) {
    status = check_failure(L, 2, &message);
    snprintf(s->why, sizeof s->why, "%s", message);
    s->stream.why = s->why;
  }
  s->is_ended = true;
  if (s->stream.on_end != NULL) s->stream.on_end(s->stream.arg, status);
  return 0;
}

/* --- Dialling ------------------------------------------------------------------------------------- */

static void dial_close(struct holt_transport_handle *handle) {
  struct lua_dial *d = HOLT_CONTAINER(handle, struct lua_dial, handle);
  holt_list_remove(&d->node);
  object_close(&d->object, true);
  object_release(&d->object);
}

static struct holt_transport_handle *transport_dial(struct holt_transport *transport, const char *address,
                                                    holt_dial_cb cb, void *arg) {
  struct lua_transport *t = HOLT_CONTAINER(transport, struct lua_transport, transport);
  struct lua_dial *d = holt_alloc(sizeof *d);
  object_init(&d->object, 1);
  d->handle.close = dial_close;
  d->cb = cb;
  d->arg = arg;
  snprintf(d->address, sizeof d->address, "%s", address);
  holt_list_push(&t->dials, &d->node);
  holt__pending_wake(&t->takers);
  return &d->handle;
}

static int go_next_dial(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_transport *t = owner;
  (void)status;
  if (!holt_list_is_empty(&t->dials)) {
    void **box = push_box(L, DIAL);
    struct lua_dial *d = HOLT_CONTAINER(holt_list_shift(&t->dials), struct lua_dial, node);
    d->object.refs++;
    *box = d;
    lua_pushstring(L, d->address);
    return 2;
  }
  if (t->object.is_closed) return 0;
  return holt__pend(L, &t->takers, deadline_ms, go_next_dial, t);
}

/* transport_next_dial(transport) -> dial, address; nothing once the node is closed; waits */
static int l_next_dial(lua_State *L) {
  return go_next_dial(L, check_box(L, 1, TRANSPORT), 0, HOLT__NO_DEADLINE);
}

static void dial_answer(struct lua_dial *d, struct holt_stream *stream, const struct holt_err *err) {
  holt_dial_cb cb = d->cb;
  void *arg = d->arg;
  object_close(&d->object, false);
  object_release(&d->object); /* the box has another */
  cb(arg, stream, err);
}

/* transport_dialled(dial) -> stream, or nothing when it was given up meanwhile */
static int l_dialled(lua_State *L) {
  struct lua_dial *d = check_box(L, 1, DIAL);
  if (d->object.is_closed) return 0;
  struct lua_stream *s = stream_new(push_box(L, STREAM), d->address);
  dial_answer(d, &s->stream, NULL);
  return 1;
}

/* transport_dial_failed(dial, code, message) */
static int l_dial_failed(lua_State *L) {
  struct lua_dial *d = check_box(L, 1, DIAL);
  const char *message;
  int code = check_failure(L, 2, &message);
  if (d->object.is_closed) return 0;
  struct holt_err err;
  holt_err_set(&err, code, "cannot connect to %s: %s", d->address, message);
  dial_answer(d, NULL, &err);
  return 0;
}

/* --- Listening ------------------------------------------------------------------------------------ */

static void listener_close(struct holt_transport_handle *handle) {
  struct lua_listener *l = HOLT_CONTAINER(handle, struct lua_listener, handle);
  object_close(&l->object, false);
  object_release(&l->object);
}

struct listening {
  struct lua_transport *transport;
  struct lua_listener *listener;
  const char *address;
  char actual[128];
  struct holt_err err;
};

static void listen_body(lua_State *L, void *arg) {
  struct listening *listening = arg;
  lua_rawgeti(L, LUA_REGISTRYINDEX, listening->transport->listen_ref);
  void **box = push_box(L, LISTENER);
  *box = listening->listener;
  listening->listener->object.refs++;
  lua_pushstring(L, listening->address);
  lua_call(L, 2, 3); /* address | nil, code, message */
  if (lua_type(L, 1) == LUA_TSTRING) {
    snprintf(listening->actual, sizeof listening->actual, "%s", lua_tostring(L, 1));
    return;
  }
  const char *message;
  int code = check_failure(L, 2, &message);
  holt_err_set(&listening->err, code, "cannot listen on %s: %s", listening->address, message);
}

/* From Lua only: node:listen and holt.node. */
static int transport_listen(struct holt_transport *transport, const char *address, holt_accept_cb cb,
                            void *arg, struct holt_transport_handle **out, char actual[128],
                            struct holt_err *err) {
  struct lua_transport *t = HOLT_CONTAINER(transport, struct lua_transport, transport);
  struct lua_listener *l = holt_alloc(sizeof *l);
  object_init(&l->object, 1);
  l->handle.close = listener_close;
  l->cb = cb;
  l->arg = arg;
  struct listening listening = {.transport = t, .listener = l, .address = address};
  int rc = holt_lua_call(t->script, listen_body, &listening, &listening.err);
  if (rc == 0) rc = listening.err.code;
  if (rc != 0) {
    if (err != NULL) *err = listening.err;
    listener_close(&l->handle);
    return rc;
  }
  if (actual != NULL) memcpy(actual, listening.actual, sizeof listening.actual);
  *out = &l->handle;
  return 0;
}

/* transport_accept(listener, peer) -> stream, or nothing when it is closed */
static int l_accept(lua_State *L) {
  struct lua_listener *l = check_box(L, 1, LISTENER);
  const char *peer = luaL_optstring(L, 2, "incoming");
  if (l->object.is_closed) return 0;
  struct lua_stream *s = stream_new(push_box(L, STREAM), peer);
  l->cb(l->arg, &s->stream);
  return 1;
}

/* --- The transport -------------------------------------------------------------------------------- */

static void transport_free(struct holt_transport *transport) {
  struct lua_transport *t = HOLT_CONTAINER(transport, struct lua_transport, transport);
  luaL_unref(holt_script_state(t->script), LUA_REGISTRYINDEX, t->listen_ref);
  holt__pending_wake(&t->takers);
  object_close(&t->object, false);
  object_release(&t->object);
}

/* Whom a transport of the user's own lets in is the user's affair. */
static bool always_local(const char *address) {
  (void)address;
  return true;
}

static const struct holt_transport_ops transport_ops = {.name = "lua",
                                                        .listen = transport_listen,
                                                        .dial = transport_dial,
                                                        .is_local = always_local,
                                                        .free = transport_free};

/* transport_new(listen) -> transport; `listen` is the driver's */
static int l_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  struct holt_script *script = holt_script_of(L);
  void **box = push_box(L, TRANSPORT);
  lua_pushvalue(L, 1);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  struct lua_transport *t = holt_alloc(sizeof *t);
  object_init(&t->object, 1);
  t->transport = (struct holt_transport){.ops = &transport_ops, .env = holt_script_env(script)};
  t->script = script;
  t->listen_ref = ref;
  holt_list_init(&t->dials);
  holt_list_init(&t->takers);
  *box = t;
  return 1;
}

struct holt_transport *holt__lua_transport_take(lua_State *L, int index) {
  struct lua_transport *t = check_box(L, index, TRANSPORT);
  t->object.refs++;
  return &t->transport;
}

void holt__binding_lua_transport(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"transport_new", l_new},         {"transport_next_dial", l_next_dial},
      {"transport_dialled", l_dialled}, {"transport_dial_failed", l_dial_failed},
      {"transport_accept", l_accept},   {"transport_take", l_take},
      {"transport_data", l_data},       {"transport_end", l_end},
      {"transport_closed", l_closed},   {NULL, NULL}};
  static const char *const types[] = {TRANSPORT, LISTENER, DIAL, STREAM};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    luaL_newmetatable(L, types[i]);
    lua_pushcfunction(L, i == 3 ? l_stream_gc : l_box_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
  }
  luaL_setfuncs(L, functions, 0);
}
