/* msgpack_decode.c - MessagePack to values of Lua: msgpack-c's reader calls back, we build on the Lua stack.
 *
 * Bytes come from the network. A table is made no larger than the bytes that are left could fill; depth is
 * bounded by the reader's own stack; a key that Lua cannot have is refused. */
#include <assert.h>
#include <math.h>

#include <lauxlib.h>

#define MSGPACK_EMBED_STACK_SIZE 100 /* HOLT_CODEC_DEPTH_MAX */
#include <msgpack/sysdep.h>
#include <msgpack/unpack.h>
#include <msgpack/unpack_define.h>

#include "script/codec.h"
#include "script/script_impl.h"
#include "script/texts.h"

#define PREALLOCATE_MAX 1024 /* entries; larger tables grow as their entries really come */

struct reader {
  lua_State *L;
  size_t len; /* of the whole message: no container can have more entries */
  const char *problem;
  struct holt_texts *texts;
};

/* What the reader keeps for each container: the place its next item goes to. */
typedef struct {
  lua_Integer next;
} object;

#define msgpack_unpack_struct(name)    struct lua_unpack##name
#define msgpack_unpack_func(ret, name) static inline ret lua_unpack##name
#define msgpack_unpack_callback(name)  on##name
#define msgpack_unpack_object          object
#define msgpack_unpack_user            struct reader

static inline object on_root(struct reader *r) {
  (void)r;
  return (object){0};
}

static inline int push_integer(struct reader *r, lua_Integer v) {
  lua_pushinteger(r->L, v);
  return 0;
}
static inline int on_uint8(struct reader *r, uint8_t v, object *o) {
  return (void)o, push_integer(r, v);
}
static inline int on_uint16(struct reader *r, uint16_t v, object *o) {
  return (void)o, push_integer(r, v);
}
static inline int on_uint32(struct reader *r, uint32_t v, object *o) {
  return (void)o, push_integer(r, v);
}
static inline int on_int8(struct reader *r, int8_t v, object *o) {
  return (void)o, push_integer(r, v);
}
static inline int on_int16(struct reader *r, int16_t v, object *o) {
  return (void)o, push_integer(r, v);
}
static inline int on_int32(struct reader *r, int32_t v, object *o) {
  return (void)o, push_integer(r, v);
}
static inline int on_int64(struct reader *r, int64_t v, object *o) {
  return (void)o, push_integer(r, v);
}
static inline int on_uint64(struct reader *r, uint64_t v, object *o) {
  (void)o;
  if (v > INT64_MAX) {
    r->problem = "a whole number beyond 64 bits with sign";
    return -1;
  }
  return push_integer(r, (lua_Integer)v);
}
static inline int on_double(struct reader *r, double v, object *o) {
  (void)o;
  lua_pushnumber(r->L, v);
  return 0;
}
static inline int on_float(struct reader *r, float v, object *o) {
  return on_double(r, (double)v, o);
}
static inline int on_nil(struct reader *r, object *o) {
  (void)o;
  lua_pushnil(r->L);
  return 0;
}
static inline int on_true(struct reader *r, object *o) {
  (void)o;
  lua_pushboolean(r->L, 1);
  return 0;
}
static inline int on_false(struct reader *r, object *o) {
  (void)o;
  lua_pushboolean(r->L, 0);
  return 0;
}
static inline int on_str(struct reader *r, const char *base, const char *at, unsigned int len, object *o) {
  (void)base;
  (void)o;
  holt_texts_push(r->L, r->texts, at, len);
  return 0;
}
static inline int on_bin(struct reader *r, const char *base, const char *at, unsigned int len, object *o) {
  return on_str(r, base, at, len, o);
}
static inline int on_ext(struct reader *r, const char *base, const char *at, unsigned int len, object *o) {
  (void)base;
  (void)at;
  (void)len;
  (void)o;
  r->problem = "an extension type, which holt does not use";
  return -1;
}

static int open_table(struct reader *r, unsigned int count, bool is_array, object *o) {
  if (count > r->len) {
    r->problem = "a table with more entries than the message has bytes";
    return -1;
  }
  luaL_checkstack(r->L, 4, NULL);
  int room = count < PREALLOCATE_MAX ? (int)count : PREALLOCATE_MAX;
  lua_createtable(r->L, is_array ? room : 0, is_array ? 0 : room);
  o->next = 1;
  return 0;
}
static inline int on_array(struct reader *r, unsigned int count, object *o) {
  return open_table(r, count, true, o);
}
static inline int on_map(struct reader *r, unsigned int count, object *o) {
  return open_table(r, count, false, o);
}

/* Within tables nil would be no entry at all. */
static inline void keep_null(lua_State *L) {
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_pushlightuserdata(L, NULL);
}

static inline int on_array_item(struct reader *r, object *array, object item) {
  (void)item;
  keep_null(r->L);
  lua_rawseti(r->L, -2, array->next++);
  return 0;
}

static inline int on_map_item(struct reader *r, object *map, object key, object value) {
  (void)map;
  (void)key;
  (void)value;
  int type = lua_type(r->L, -2);
  bool is_key =
      type == LUA_TSTRING || type == LUA_TBOOLEAN || (type == LUA_TNUMBER && !isnan(lua_tonumber(r->L, -2)));
  if (!is_key) {
    r->problem = "a key that Lua cannot have";
    return -1;
  }
  keep_null(r->L);
  lua_rawset(r->L, -3);
  return 0;
}

/* The template hands a scalar's object on without looking at it, and so do we. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <msgpack/unpack_template.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

int holt_msgpack_decode(lua_State *L, struct holt_buf bytes, struct holt_err *err) {
  struct lua_unpack_context context;
  context.user = (struct reader){.L = L, .len = bytes.len, .texts = holt_script_of(L)->texts};
  int top = lua_gettop(L), count = 0;
  size_t at = 0;
  const char *problem = NULL;
  while (at < bytes.len && problem == NULL) {
    if (count++ == HOLT_CODEC_VALUES_MAX) {
      problem = "too many values in one message";
      break;
    }
    luaL_checkstack(L, 4, NULL);
    lua_unpack_init(&context);
    int rc = lua_unpack_execute(&context, (const char *)bytes.data, bytes.len, &at);
    if (rc == 0) problem = "the message ends within a value";
    if (rc < 0) problem = context.user.problem;
    if (rc < 0 && problem == NULL)
      problem = rc == MSGPACK_UNPACK_NOMEM_ERROR ? "tables are nested more than 100 deep" : "not MessagePack";
  }
  if (problem == NULL) return count;
  lua_settop(L, top);
  return holt_err_set(err, HOLT_ECODEC, "msgpack: at byte %zu: %s", at, problem);
}
