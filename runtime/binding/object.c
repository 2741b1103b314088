/* object.c - handles of shared objects: what they mean, and how keys and values become bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/binding.h"
#include "binding/object_impl.h"

#define CHANGES_MAX 100000 /* that wait to be told to one handle, when it does not say */

/* --- The box ------------------------------------------------------------------------------------------- */

/* Upvalue 1 of every function here is the metatable of the box. */
struct lua_object *holt__check_object(lua_State *L, int index) {
  struct lua_object **box = lua_touserdata(L, index);
  if (box != NULL && lua_getmetatable(L, index)) {
    bool is_ours = lua_rawequal(L, -1, lua_upvalueindex(1));
    lua_pop(L, 1);
    if (is_ours) return *box;
  }
  luaL_typeerror(L, index, "object");
  return NULL;
}

void holt__object_release(struct lua_object *object) {
  if (--object->refs > 0) return;
  free((void *)(uintptr_t)object->options.data);
  holt__node_release(object->node);
  free(object);
}

static void drop_ref(lua_State *L, int *ref) {
  luaL_unref(L, LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

static void unwatch(lua_State *L, struct lua_object *object) {
  if (object->watch_ref == LUA_NOREF) return;
  struct holt_cluster *cluster = holt__open_cluster(object->node, NULL);
  if (cluster != NULL) holt_collections_watch(holt_cluster_collections(cluster), object->name, false);
  holt_list_remove(&object->watching);
  drop_ref(L, &object->watch_ref);
  drop_ref(L, &object->self_ref);
}

static int l_box_gc(lua_State *L) {
  struct lua_object *object = *(struct lua_object **)lua_touserdata(L, 1);
  unwatch(L, object);
  drop_ref(L, &object->key.encode_ref);
  drop_ref(L, &object->key.decode_ref);
  drop_ref(L, &object->value.encode_ref);
  drop_ref(L, &object->value.decode_ref);
  holt__object_release(object);
  return 0;
}

/* The codec at `index`: an id, or { id = , encode = , decode = }. */
static struct object_codec read_codec(lua_State *L, int index) {
  struct object_codec codec = {.encode_ref = LUA_NOREF, .decode_ref = LUA_NOREF};
  if (lua_isinteger(L, index)) {
    codec.id = (uint8_t)lua_tointeger(L, index);
    luaL_argcheck(L, codec.id <= HOLT_CODEC_MSGPACK, index, "this codec needs its functions");
    return codec;
  }
  luaL_checktype(L, index, LUA_TTABLE);
  lua_getfield(L, index, "id");
  codec.id = (uint8_t)luaL_checkinteger(L, -1);
  lua_getfield(L, index, "encode");
  luaL_checktype(L, -1, LUA_TFUNCTION);
  lua_getfield(L, index, "decode");
  luaL_checktype(L, -1, LUA_TFUNCTION);
  codec.decode_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  codec.encode_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pop(L, 1);
  return codec;
}

/* object_new(node, kind, name, options, key codec, value codec) -> box */
static int l_object_new(lua_State *L) {
  struct lua_node *node = holt__node_of(L, 1);
  lua_Integer kind = luaL_checkinteger(L, 2);
  size_t name_len, options_len;
  const char *name = luaL_checklstring(L, 3, &name_len), *options = luaL_checklstring(L, 4, &options_len);
  luaL_argcheck(L, holt_kind_name((uint8_t)kind) != NULL, 2, "not a kind");
  luaL_argcheck(L, name_len > 0 && name_len < 256 && strlen(name) == name_len, 3,
                "a name has 1 to 255 bytes");
  luaL_argcheck(L, options_len <= UINT16_MAX, 4, "too long");
  lua_settop(L, 6);
  struct lua_object **box = lua_newuserdatauv(L, sizeof(void *), 0);
  struct lua_object *object = holt_alloc(sizeof *object);
  object->refs = 1;
  object->node = holt__node_retain(node);
  object->kind = (uint8_t)kind;
  object->key.encode_ref = object->key.decode_ref = LUA_NOREF;
  object->value.encode_ref = object->value.decode_ref = LUA_NOREF;
  object->watch_ref = object->self_ref = LUA_NOREF;
  uint8_t *copy = holt_alloc(options_len + 1);
  memcpy(copy, options, options_len);
  object->options = holt_buf(copy, options_len);
  memcpy(object->name, name, name_len);
  holt_list_init(&object->watching);
  *box = object;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setmetatable(L, -2);
  object->key = read_codec(L, 5);
  object->value = read_codec(L, 6);
  return 1;
}

/* object_close(box): nobody is told of changes any more, reads and writes answer `closed` */
static int l_object_close(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  unwatch(L, object);
  if (!object->is_closed && object->node->node != NULL) holt__object_calls_shut(object);
  object->is_closed = true;
  return 0;
}

/* object_watch(box, self, f | nil, most): f of change.c for each change from now on; at most so many wait */
static int l_object_watch(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  lua_Integer most = luaL_optinteger(L, 4, CHANGES_MAX);
  luaL_argcheck(L, most > 0, 4, "a number above 0");
  lua_settop(L, 3);
  if (lua_isnil(L, 3)) {
    unwatch(L, object);
    return 0;
  }
  luaL_checktype(L, 3, LUA_TFUNCTION);
  struct holt_cluster *cluster = holt__open_cluster(object->node, NULL);
  if (object->watch_ref != LUA_NOREF || cluster == NULL || object->is_closed) return 0;
  object->changes_max = (size_t)most;
  object->missed = 0;
  object->watch_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  object->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  holt_list_push(&object->node->watching, &object->watching);
  holt_collections_watch(holt_cluster_collections(cluster), object->name, true);
  return 0;
}

/* --- Finding what it means ----------------------------------------------------------------------------- */

static void describe_codec(char *out, size_t cap, uint8_t id) {
  static const char *const names[] = {"raw", "msgpack", "json", "protobuf"};
  if (id < sizeof names / sizeof names[0])
    snprintf(out, cap, "%s", names[id]);
  else
    snprintf(out, cap, "custom codec %u", id);
}

/* Two codecs, then for some fields their own: id, length, name. */
static void describe_options(char *out, size_t cap, struct holt_buf options) {
  struct holt_reader in = holt_reader(options);
  char key[24], value[24];
  describe_codec(key, sizeof key, holt_read_u8(&in));
  describe_codec(value, sizeof value, holt_read_u8(&in));
  size_t len = (size_t)snprintf(out, cap, "keys %s, values %s", key, value);
  while (holt_reader_left(&in) > 0 && len < cap) {
    describe_codec(value, sizeof value, holt_read_u8(&in));
    struct holt_buf name = holt_read_bytes(&in, holt_read_u8(&in));
    len +=
        (size_t)snprintf(out + len, cap - len, ", '%.*s' %s", (int)name.len, (const char *)name.data, value);
  }
}

int holt__object_blame(const struct lua_object *object, int code, struct holt_err *err) {
  struct holt_cluster *cluster = holt__open_cluster(object->node, err);
  if (cluster == NULL) return HOLT_ECLOSED;
  const struct holt_object *there = holt_collections_find(holt_cluster_collections(cluster), object->name);
  const char *kind = holt_kind_name(object->kind);
  if (there != NULL && code == HOLT_EWRONGKIND)
    return holt_err_set(err, code, "%s '%s': there is a %s of this name; give the %s another one", kind,
                        object->name, holt_kind_name(there->kind), kind);
  if (there != NULL && code == HOLT_EOPTIONS) {
    char theirs[120], ours[120];
    describe_options(theirs, sizeof theirs, there->options);
    describe_options(ours, sizeof ours, object->options);
    return holt_err_set(err, code,
                        "%s '%s' was made with other options (%s) than here (%s); give the same ones on "
                        "every node, or another name",
                        kind, object->name, theirs, ours);
  }
  return holt_err_set(err, code, "%s '%s': %s", kind, object->name, holt_err_text(code));
}

int holt__object_find(struct lua_object *object, struct holt_object **out, struct holt_err *err) {
  struct lua_node *node = object->node;
  if (object->is_closed)
    return holt_err_set(err, HOLT_ECLOSED, "this handle of %s '%s' is closed", holt_kind_name(object->kind),
                        object->name);
  struct holt_cluster *cluster = holt__open_cluster(node, err);
  if (cluster == NULL) return HOLT_ECLOSED;
  *out = object->found;
  if (object->found != NULL && object->epoch == node->objects_epoch) return 0;
  struct holt_object *there = holt_collections_find(holt_cluster_collections(cluster), object->name);
  object->found = *out = NULL;
  if (there == NULL) return 0;
  if (there->kind != object->kind) return holt__object_blame(object, HOLT_EWRONGKIND, err);
  struct holt_buf ours = object->options, theirs = there->options;
  bool is_same = ours.len == theirs.len && memcmp(ours.data, theirs.data, ours.len) == 0;
  if (ours.len > 0 && !is_same) return holt__object_blame(object, HOLT_EOPTIONS, err);
  object->found = *out = there;
  object->epoch = node->objects_epoch;
  return 0;
}

/* --- Codecs -------------------------------------------------------------------------------------------- */

/* By a function of Lua's: its text, or what it says, stays on the stack. */
static int bytes_by_lua(lua_State *L, int encode_ref, int index, struct holt_buf *out, struct holt_err *err) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, encode_ref);
  lua_pushvalue(L, index);
  lua_call(L, 1, 2); /* bytes | nil, err */
  size_t len;
  if (lua_type(L, -2) == LUA_TSTRING) {
    const char *text = lua_tolstring(L, -2, &len);
    *out = holt_buf(text, len);
    return 0;
  }
  if (lua_istable(L, -1)) lua_getfield(L, -1, "message");
  const char *message = lua_tostring(L, -1);
  return holt_err_set(err, HOLT_ECODEC, "%s", message != NULL ? message : "the codec failed");
}

static int to_bytes(lua_State *L, const struct object_codec *codec, int index, struct holt_writer *scratch,
                    struct holt_buf *out, struct holt_err *err) {
  if (codec->encode_ref != LUA_NOREF) return bytes_by_lua(L, codec->encode_ref, index, out, err);
  if (codec->id == HOLT_CODEC_RAW) {
    if (lua_type(L, index) != LUA_TSTRING)
      return holt_err_set(err, HOLT_ECODEC, "the codec raw takes a string, not a %s",
                          luaL_typename(L, index));
    out->data = (const uint8_t *)lua_tolstring(L, index, &out->len);
    return 0;
  }
  scratch->len = 0;
  int rc = holt_msgpack_encode(L, index, index, scratch, err);
  *out = holt_buf(scratch->data, scratch->len);
  return rc;
}

int holt__value_bytes(lua_State *L, const struct lua_object *object, int index, struct holt_writer *scratch,
                      struct holt_buf *out, struct holt_err *err) {
  int rc = to_bytes(L, &object->value, index, scratch, out, err);
  if (rc != 0) holt_err_prefix(err, "%s '%s': the value", holt_kind_name(object->kind), object->name);
  return rc;
}

/* As keys whole floats count as integers, as in Lua. */
int holt__key_bytes(lua_State *L, const struct lua_object *object, int index, struct holt_writer *scratch,
                    struct holt_buf *out, struct holt_err *err) {
  if (lua_type(L, index) == LUA_TNUMBER && !lua_isinteger(L, index)) {
    int is_whole;
    lua_Integer whole = lua_tointegerx(L, index, &is_whole);
    if (is_whole) {
      lua_pushinteger(L, whole);
      index = lua_gettop(L);
    }
  }
  int rc = to_bytes(L, &object->key, index, scratch, out, err);
  if (rc == 0 && out->len > HOLT_KEY_MAX)
    rc =
        holt_err_set(err, HOLT_ETOOLARGE, "it has %zu bytes, at most %d are allowed", out->len, HOLT_KEY_MAX);
  if (rc != 0) holt_err_prefix(err, "%s '%s': the key", holt_kind_name(object->kind), object->name);
  return rc;
}

static int from_bytes(lua_State *L, const struct object_codec *codec, struct holt_buf bytes,
                      struct holt_err *err) {
  const char *text = bytes.len > 0 ? (const char *)bytes.data : "";
  int before = lua_gettop(L);
  if (codec->decode_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, codec->decode_ref);
    lua_pushlstring(L, text, bytes.len);
    lua_call(L, 1, 2); /* true, value | nil, err */
    if (lua_toboolean(L, -2)) {
      lua_remove(L, -2);
      return 0;
    }
    holt_err_set(err, HOLT_ECODEC, "%s", luaL_tolstring(L, -1, NULL));
    lua_settop(L, before);
    return HOLT_ECODEC;
  }
  if (codec->id == HOLT_CODEC_RAW) {
    lua_pushlstring(L, text, bytes.len);
    return 0;
  }
  int count = holt_msgpack_decode(L, bytes, err);
  if (count < 0) return count;
  if (count == 1 && lua_isnil(L, -1)) { /* nothing, as a value that is there: holt.null */
    lua_pop(L, 1);
    lua_pushlightuserdata(L, NULL);
  }
  if (count == 1) return 0;
  lua_settop(L, before);
  return holt_err_set(err, HOLT_ECODEC, "%d values where one belongs", count);
}

static int push(lua_State *L, const struct lua_object *object, const struct object_codec *codec,
                struct holt_buf bytes, struct holt_err *err) {
  int rc = from_bytes(L, codec, bytes, err);
  if (rc != 0)
    holt_err_prefix(err, "%s '%s': a %s cannot be read", holt_kind_name(object->kind), object->name,
                    codec == &object->key ? "key" : "value");
  return rc;
}

int holt__key_push(lua_State *L, const struct lua_object *object, struct holt_buf bytes,
                   struct holt_err *err) {
  return push(L, object, &object->key, bytes, err);
}

int holt__value_push(lua_State *L, const struct lua_object *object, struct holt_buf bytes,
                     struct holt_err *err) {
  return push(L, object, &object->value, bytes, err);
}

/* object_encode(box, value, is_key) -> bytes | nil, err */
static int l_object_encode(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  bool is_key = lua_toboolean(L, 3);
  lua_settop(L, 2);
  struct holt_writer *scratch = &object->node->parts[0];
  struct holt_buf bytes = {0};
  struct holt_err err;
  int rc = is_key ? holt__key_bytes(L, object, 2, scratch, &bytes, &err)
                  : holt__value_bytes(L, object, 2, scratch, &bytes, &err);
  if (rc != 0) return holt_lua_fail(L, &err);
  lua_pushlstring(L, bytes.len > 0 ? (const char *)bytes.data : "", bytes.len);
  return 1;
}

/* object_decode(box, bytes, is_key) -> true, value | nil, err */
static int l_object_decode(lua_State *L) {
  lua_settop(L, 3);
  struct lua_object *object = holt__check_object(L, 1);
  struct holt_buf bytes = {0};
  bytes.data = (const uint8_t *)luaL_checklstring(L, 2, &bytes.len);
  struct holt_err err;
  lua_pushboolean(L, 1);
  int rc =
      lua_toboolean(L, 3) ? holt__key_push(L, object, bytes, &err) : holt__value_push(L, object, bytes, &err);
  return rc == 0 ? 2 : holt_lua_fail(L, &err);
}

void holt_binding_objects(lua_State *L) {
  static const luaL_Reg functions[] = {{"object_new", l_object_new},       {"object_close", l_object_close},
                                       {"object_watch", l_object_watch},   {"object_encode", l_object_encode},
                                       {"object_decode", l_object_decode}, {NULL, NULL}};
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_box_gc);
  lua_setfield(L, -2, "__gc");
  holt__binding_look(L); /* with the same metatable as upvalue */
  holt__binding_commands(L);
  luaL_setfuncs(L, functions, 1);
}
