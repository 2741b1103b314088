/* stream.c - byte streams and listeners for Lua: read, read_line, write, close; accept.
 *
 * - What arrives is gathered; a read takes it or parks until there is something.
 * - A write is handed to the system; when that asks us to wait, the next write parks first.
 * - The other side ends: what is gathered can still be read, then end_of_stream.
 *
 * Nobody reads and more than UNREAD_MAX bytes have come: the stream is cut and reads say buffer_full. The box
 * in Lua is one pointer; the struct lives until the collector takes the box or close() lets go of the stream
 * inside. */
#include <stdlib.h>

#include "base/mem.h"
#include "binding/outside.h"

#define UNREAD_MAX  (256u * 1024 * 1024)
#define BACKLOG_MAX 1024 /* connections nobody has accepted yet */
#define STREAM      "holt.stream"
#define LISTENER    "holt.listener"

struct holt__lua_stream {
  struct holt_list node;      /* among the accepted ones of a listener */
  struct holt_stream *stream; /* NULL once closed */
  struct holt_writer in;
  size_t start, scanned; /* bytes [start, len) are unread; no newline before `scanned` */
  int end;               /* 0 while more may come */
  bool is_choked;
  struct holt_list readers, writers;
  char peer[128];
};

/* --- The stream itself ---------------------------------------------------------------------------- */

static void let_go(struct holt__lua_stream *s, bool abort, int why) {
  if (s->stream == NULL) return;
  holt_stream_close(s->stream, abort);
  s->stream = NULL;
  holt__handles.streams--;
  if (s->end == 0 || why == HOLT_ECLOSED) s->end = why;
  holt__pending_wake(&s->readers);
  holt__pending_wake(&s->writers);
}

static void on_data(void *arg, const uint8_t *data, size_t len) {
  struct holt__lua_stream *s = arg;
  if (s->in.len - s->start + len > UNREAD_MAX) {
    let_go(s, true, HOLT_EFULL);
    return;
  }
  if (s->start > 0 && s->start >= s->in.len / 2) {
    memmove(s->in.data, s->in.data + s->start, s->in.len - s->start);
    s->in.len -= s->start;
    s->scanned -= s->start;
    s->start = 0;
  }
  holt_write_bytes(&s->in, data, len);
  holt__pending_wake(&s->readers);
}

static void on_end(void *arg, int status) {
  struct holt__lua_stream *s = arg;
  s->end = status;
  if (status != HOLT_EEOF) let_go(s, true, status);
  holt__pending_wake(&s->readers);
}

static void on_writable(void *arg) {
  struct holt__lua_stream *s = arg;
  s->is_choked = false;
  holt__pending_wake(&s->writers);
}

struct holt__lua_stream *holt__stream_adopt(struct holt_stream *stream) {
  struct holt__lua_stream *s = holt_alloc(sizeof *s);
  s->stream = stream;
  holt_list_init(&s->node);
  holt_list_init(&s->readers);
  holt_list_init(&s->writers);
  memcpy(s->peer, stream->peer, sizeof s->peer);
  stream->on_data = on_data;
  stream->on_end = on_end;
  stream->on_writable = on_writable;
  stream->arg = s;
  holt__handles.streams++;
  return s;
}

/* Whoever waits has the stream on its stack, so only at the end of the state there may be waiters left: they
 * are canceled later, and must not find their way back here. */
static void forget_all(struct holt_list *waiters) {
  while (holt_list_shift(waiters) != NULL) {
  }
}

void holt__stream_drop(struct holt__lua_stream *s) {
  let_go(s, false, HOLT_ECLOSED);
  forget_all(&s->readers);
  forget_all(&s->writers);
  holt_list_remove(&s->node);
  holt_writer_free(&s->in);
  free(s);
}

void holt__stream_push(lua_State *L, struct holt__lua_stream *s) {
  struct holt__lua_stream **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = s;
  luaL_setmetatable(L, STREAM);
}

static struct holt__lua_stream *check_stream(lua_State *L) {
  struct holt__lua_stream **box = luaL_checkudata(L, 1, STREAM);
  luaL_argcheck(L, *box != NULL, 1, "stream has been collected");
  return *box;
}

static int l_stream_gc(lua_State *L) {
  struct holt__lua_stream **box = luaL_checkudata(L, 1, STREAM);
  if (*box != NULL) holt__stream_drop(*box);
  *box = NULL;
  return 0;
}

static int l_stream_close(lua_State *L) {
  let_go(check_stream(L), lua_toboolean(L, 2), HOLT_ECLOSED);
  return 0;
}

static int l_stream_peer(lua_State *L) {
  lua_pushstring(L, check_stream(L)->peer);
  return 1;
}

/* --- Reading -------------------------------------------------------------------------------------- */

static void take(lua_State *L, struct holt__lua_stream *s, size_t len, size_t skip) {
  lua_pushlstring(L, (const char *)s->in.data + s->start, len);
  s->start += len + skip;
  if (s->scanned < s->start) s->scanned = s->start;
  if (s->start < s->in.len) return;
  s->start = s->scanned = s->in.len = 0;
  if (s->in.cap > 65536) {
    holt_writer_free(&s->in);
    s->in = (struct holt_writer){0};
  }
}

static int fail_end(lua_State *L, struct holt__lua_stream *s, int status) {
  return holt_lua_fail_code(L, status != 0 ? status : s->end != 0 ? s->end : HOLT_ECLOSED);
}

static int go_read(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct holt__lua_stream *s = owner;
  size_t left = s->in.len - s->start;
  if (left > 0 && s->end != HOLT_ECLOSED) {
    lua_Integer most = luaL_optinteger(L, 2, 1 << 20);
    take(L, s, left < (size_t)most ? left : (size_t)most, 0);
    return 1;
  }
  if (status != 0 || s->end != 0 || s->stream == NULL) return fail_end(L, s, status);
  return holt__pend(L, &s->readers, deadline_ms, go_read, s);
}

/* stream:read(most?, timeout?) */
static int l_stream_read(lua_State *L) {
  struct holt__lua_stream *s = check_stream(L);
  luaL_argcheck(L, luaL_optinteger(L, 2, 1) > 0, 2, "a number of bytes above 0 was expected");
  return go_read(L, s, 0, holt__deadline(L, 3));
}

static int go_read_line(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct holt__lua_stream *s = owner;
  if (s->end != HOLT_ECLOSED) {
    size_t left = s->in.len - s->scanned;
    const uint8_t *newline = left == 0 ? NULL : memchr(s->in.data + s->scanned, '\n', left);
    if (newline != NULL) {
      take(L, s, (size_t)(newline - s->in.data) - s->start, 1);
      return 1;
    }
    s->scanned = s->in.len;
    if (s->end != 0 && s->in.len > s->start) { /* the last line needs no newline */
      take(L, s, s->in.len - s->start, 0);
      return 1;
    }
  }
  if (status != 0 || s->end != 0 || s->stream == NULL) return fail_end(L, s, status);
  return holt__pend(L, &s->readers, deadline_ms, go_read_line, s);
}

/* stream:read_line(timeout?) */
static int l_stream_read_line(lua_State *L) {
  struct holt__lua_stream *s = check_stream(L);
  return go_read_line(L, s, 0, holt__deadline(L, 2));
}

/* --- Writing -------------------------------------------------------------------------------------- */

static int go_write(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct holt__lua_stream *s = owner;
  size_t len;
  const char *text = luaL_checklstring(L, 2, &len);
  if (s->stream == NULL || (s->end != 0 && s->end != HOLT_EEOF)) return fail_end(L, s, 0);
  if (s->is_choked) {
    if (status != 0) return holt_lua_fail_code(L, status);
    return holt__pend(L, &s->writers, deadline_ms, go_write, s);
  }
  int rc = len == 0 ? 0 : holt_stream_write(s->stream, text, len);
  if (rc < 0) return holt_lua_fail_code(L, rc);
  s->is_choked = rc == 1;
  lua_pushboolean(L, 1);
  return 1;
}

/* stream:write(text, timeout?) */
static int l_stream_write(lua_State *L) {
  struct holt__lua_stream *s = check_stream(L);
  luaL_checkstring(L, 2);
  return go_write(L, s, 0, holt__deadline(L, 3));
}

/* --- Connecting ----------------------------------------------------------------------------------- */

struct dial {
  struct holt_dial *dial; /* NULL once answered */
  struct holt__lua_stream *stream;
  struct holt_err err;
  struct holt_list waiters;
};

static void on_dialed(void *arg, struct holt_stream *stream, const struct holt_err *err) {
  struct dial *d = arg;
  d->dial = NULL;
  if (stream != NULL)
    d->stream = holt__stream_adopt(stream);
  else
    d->err = *err;
  holt__pending_wake(&d->waiters);
}

/* The dial lies in a userdata on the stack: should the coroutine be canceled, the collector ends it. */
static int l_dial_gc(lua_State *L) {
  struct dial *d = lua_touserdata(L, 1);
  if (d->dial != NULL) holt_dial_cancel(d->dial);
  if (d->stream != NULL) holt__stream_drop(d->stream);
  d->dial = NULL;
  d->stream = NULL;
  return 0;
}

static int go_connect(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct dial *d = owner;
  if (d->stream != NULL) {
    struct holt__lua_stream *s = d->stream;
    holt__stream_push(L, s);
    d->stream = NULL;
    return 1;
  }
  if (d->dial == NULL) return holt_lua_fail(L, &d->err);
  if (status != 0) {
    holt_dial_cancel(d->dial);
    d->dial = NULL;
    struct holt_err err;
    holt_err_set(&err, status, "no answer from %s in time", lua_tostring(L, 2));
    return holt_lua_fail(L, &err);
  }
  return holt__pend(L, &d->waiters, deadline_ms, go_connect, d);
}

/* connect(address, timeout?) */
static int l_connect(lua_State *L) {
  const char *address = luaL_checkstring(L, 1);
  uint64_t deadline_ms = holt__deadline(L, 2);
  lua_settop(L, 1);
  struct dial *d = lua_newuserdatauv(L, sizeof *d, 0);
  memset(d, 0, sizeof *d);
  holt_list_init(&d->waiters);
  luaL_setmetatable(L, "holt.dial");
  lua_insert(L, 1);
  holt_wait_check(L);
  d->dial = holt_env_dial(holt_script_env(holt_script_of(L)), address, on_dialed, d);
  return go_connect(L, d, 0, deadline_ms);
}

/* --- Listening ------------------------------------------------------------------------------------ */

struct lua_listener {
  struct holt_listener *listener; /* NULL once closed */
  struct holt_list accepted;      /* of struct holt__lua_stream */
  unsigned count;
  struct holt_list waiters;
  char address[128];
};

static void on_accept(void *arg, struct holt_stream *stream) {
  struct lua_listener *l = arg;
  if (l->count >= BACKLOG_MAX) {
    holt_stream_close(stream, true);
    return;
  }
  struct holt__lua_stream *s = holt__stream_adopt(stream);
  holt_list_push(&l->accepted, &s->node);
  l->count++;
  holt__pending_wake(&l->waiters);
}

static struct lua_listener *check_listener(lua_State *L) {
  return luaL_checkudata(L, 1, LISTENER);
}

static int l_listener_close(lua_State *L) {
  struct lua_listener *l = check_listener(L);
  if (l->listener == NULL) return 0;
  holt_listener_close(l->listener);
  l->listener = NULL;
  holt__handles.listeners--;
  for (struct holt_list *node; (node = holt_list_shift(&l->accepted)) != NULL;)
    holt__stream_drop(HOLT_CONTAINER(node, struct holt__lua_stream, node));
  l->count = 0;
  holt__pending_wake(&l->waiters);
  return 0;
}

static int go_accept(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_listener *l = owner;
  if (!holt_list_is_empty(&l->accepted)) {
    struct holt__lua_stream *s = HOLT_CONTAINER(l->accepted.next, struct holt__lua_stream, node);
    holt__stream_push(L, s);
    holt_list_remove(&s->node);
    l->count--;
    return 1;
  }
  if (l->listener == NULL) return holt_lua_fail_code(L, HOLT_ECLOSED);
  if (status != 0) return holt_lua_fail_code(L, status);
  return holt__pend(L, &l->waiters, deadline_ms, go_accept, l);
}

/* listener:accept(timeout?) */
static int l_listener_accept(lua_State *L) {
  return go_accept(L, check_listener(L), 0, holt__deadline(L, 2));
}

static int l_listener_address(lua_State *L) {
  lua_pushstring(L, check_listener(L)->address);
  return 1;
}

static int l_listen(lua_State *L) {
  const char *address = luaL_checkstring(L, 1);
  struct holt_err err = {0};
  struct lua_listener *l = lua_newuserdatauv(L, sizeof *l, 0);
  memset(l, 0, sizeof *l);
  holt_list_init(&l->accepted);
  holt_list_init(&l->waiters);
  luaL_setmetatable(L, LISTENER);
  struct holt_env *env = holt_script_env(holt_script_of(L));
  int rc = holt_env_listen(env, address, on_accept, l, &l->listener, l->address, &err);
  if (rc != 0) {
    l->listener = NULL;
    return holt_lua_fail(L, &err);
  }
  holt__handles.listeners++;
  return 1;
}

static int l_stdio(lua_State *L) {
  struct holt_err err = {0};
  struct holt_stream *stream = NULL;
  lua_Integer number = luaL_checkinteger(L, 1);
  luaL_argcheck(L, number >= 0 && number <= 2, 1, "0 (input), 1 (output) or 2 (error) was expected");
  int rc = holt_env_stdio(holt_script_env(holt_script_of(L)), (int)number, &stream, &err);
  if (rc != 0) return holt_lua_fail(L, &err);
  holt__stream_push(L, holt__stream_adopt(stream));
  return 1;
}

static void make_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

void holt__binding_stream(lua_State *L) {
  static const luaL_Reg stream[] = {{"read", l_stream_read},   {"read_line", l_stream_read_line},
                                    {"write", l_stream_write}, {"close", l_stream_close},
                                    {"peer", l_stream_peer},   {NULL, NULL}};
  static const luaL_Reg listener[] = {{"accept", l_listener_accept},
                                      {"close", l_listener_close},
                                      {"address", l_listener_address},
                                      {NULL, NULL}};
  static const luaL_Reg none[] = {{NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"connect", l_connect}, {"listen", l_listen}, {"stdio", l_stdio}, {NULL, NULL}};
  make_type(L, STREAM, stream, l_stream_gc);
  make_type(L, LISTENER, listener, l_listener_close);
  make_type(L, "holt.dial", none, l_dial_gc);
  luaL_setfuncs(L, functions, 0);
}
