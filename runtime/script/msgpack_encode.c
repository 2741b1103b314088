/* msgpack_encode.c - values of Lua to canonical MessagePack, by msgpack-c's packer. */
#include <float.h>
#include <math.h>
#include <msgpack/pack.h>
#include <stdlib.h>

#include "script/codec.h"

struct encoder {
  lua_State *L;
  struct holt_writer *out;
  msgpack_packer packer;
  struct holt_err *err;
};

static int put(void *arg, const char *data, size_t len) {
  holt_write_bytes(arg, data, len);
  return 0;
}

/* Text or bytes: other languages tell them apart, and the same string must always give the same form. */
static bool is_utf8(const unsigned char *at, size_t len) {
  const unsigned char *end = at + len;
  while (at < end) {
    uint64_t eight;
    if (end - at >= 8) {
      memcpy(&eight, at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    unsigned char c = *at++;
    if (c < 0x80) continue;
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || end - at < more) return false;
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (*at < low || *at > high) return false;
    for (at++; --more > 0; at++)
      if (*at < 0x80 || *at > 0xbf) return false;
  }
  return true;
}

static void put_string(struct encoder *e, int at) {
  size_t len;
  const char *text = lua_tolstring(e->L, at, &len);
  if (is_utf8((const unsigned char *)text, len))
    msgpack_pack_str_with_body(&e->packer, text, len);
  else
    msgpack_pack_bin_with_body(&e->packer, text, len);
}

static void put_float(struct encoder *e, double v) {
  if (isnan(v)) { /* one form for all of them */
    holt_write_bytes(e->out, "\xca\x7f\xc0\x00\x00", 5);
    return;
  }
  bool fits = isinf(v) || (fabs(v) <= FLT_MAX && (double)(float)v == v);
  if (fits)
    msgpack_pack_float(&e->packer, (float)v);
  else
    msgpack_pack_double(&e->packer, v);
}

/* Number of entries, and whether the keys are exactly 1..n. */
static size_t measure(lua_State *L, int table, bool *is_array) {
  lua_Unsigned length = lua_rawlen(L, table);
  size_t count = 0;
  *is_array = true;
  lua_pushnil(L);
  while (lua_next(L, table) != 0) {
    count++;
    if (!lua_isinteger(L, -2)) {
      *is_array = false;
    } else {
      lua_Integer key = lua_tointeger(L, -2);
      if (key < 1 || (lua_Unsigned)key > length) *is_array = false;
    }
    lua_pop(L, 1);
  }
  if (count != length) *is_array = false;
  return count;
}

static int encode(struct encoder *e, int at, struct holt_codec_path *path);

static int encode_array(struct encoder *e, int table, size_t count, struct holt_codec_path *path) {
  msgpack_pack_array(&e->packer, count);
  struct holt_codec_path inner = {.outer = path, .L = e->L};
  int rc = 0;
  for (size_t i = 1; i <= count && rc == 0; i++) {
    inner.index = (lua_Integer)i;
    lua_rawgeti(e->L, table, (lua_Integer)i);
    rc = encode(e, lua_gettop(e->L), &inner);
    lua_pop(e->L, 1);
  }
  return rc;
}

struct entry {
  size_t start, key_end, end; /* places in the output */
};

static int compare(const uint8_t *base, const struct entry *a, const struct entry *b) {
  size_t a_len = a->key_end - a->start, b_len = b->key_end - b->start;
  int order = memcmp(base + a->start, base + b->start, a_len < b_len ? a_len : b_len);
  return order != 0 ? order : a_len < b_len ? -1 : a_len > b_len;
}

/* A heap sort over a few entries is as good as any, and needs no global for its context. */
static void sift(const uint8_t *base, struct entry *entries, size_t at, size_t count) {
  for (size_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && compare(base, &entries[child], &entries[child + 1]) < 0) child++;
    if (compare(base, &entries[at], &entries[child]) >= 0) return;
    struct entry moved = entries[at];
    entries[at] = entries[child];
    entries[child] = moved;
  }
}

static bool sort(const uint8_t *base, struct entry *entries, size_t count) {
  bool was_sorted = true;
  for (size_t i = 1; i < count && was_sorted; i++)
    was_sorted = compare(base, &entries[i - 1], &entries[i]) < 0;
  if (was_sorted) return true;
  for (size_t i = count / 2; i-- > 0;) sift(base, entries, i, count);
  for (size_t last = count - 1; last > 0; last--) {
    struct entry moved = entries[0];
    entries[0] = entries[last];
    entries[last] = moved;
    sift(base, entries, 0, last);
  }
  return false;
}

/* Put the entries, which fill the output from `start` on, into their sorted order. */
static int reorder(struct encoder *e, size_t start, struct entry *entries, size_t count) {
  if (sort(e->out->data, entries, count)) return 0;
  size_t len = e->out->len - start;
  uint8_t *copy = malloc(len);
  if (copy == NULL) return holt_err_code(e->err, HOLT_ENOMEM);
  memcpy(copy, e->out->data + start, len);
  uint8_t *to = e->out->data + start;
  for (size_t i = 0; i < count; i++) {
    memcpy(to, copy + (entries[i].start - start), entries[i].end - entries[i].start);
    to += entries[i].end - entries[i].start;
  }
  free(copy);
  return 0;
}

static int encode_key(struct encoder *e, int key, struct holt_codec_path *path) {
  int type = lua_type(e->L, key);
  if (type == LUA_TSTRING || type == LUA_TNUMBER || type == LUA_TBOOLEAN) return encode(e, key, path);
  char what[80];
  snprintf(what, sizeof what, "a %s cannot be a key; use a string or a number", lua_typename(e->L, type));
  return holt_codec_fail(path, e->err, what);
}

static int encode_map(struct encoder *e, int table, size_t count, struct holt_codec_path *path) {
  struct entry few[8];
  struct entry *entries = few;
  if (count > sizeof few / sizeof few[0] && (entries = malloc(count * sizeof *entries)) == NULL)
    return holt_err_code(e->err, HOLT_ENOMEM);
  msgpack_pack_map(&e->packer, count);
  struct holt_codec_path inner = {.outer = path, .L = e->L};
  size_t start = e->out->len, done = 0;
  int rc = 0;
  lua_pushnil(e->L);
  while (lua_next(e->L, table) != 0) {
    inner.key = lua_gettop(e->L) - 1;
    struct entry *entry = &entries[done++];
    entry->start = e->out->len;
    rc = encode_key(e, inner.key, &inner);
    entry->key_end = e->out->len;
    if (rc == 0) rc = encode(e, inner.key + 1, &inner);
    entry->end = e->out->len;
    lua_pop(e->L, 1);
    if (rc != 0) {
      lua_pop(e->L, 1);
      break;
    }
  }
  if (rc == 0) rc = reorder(e, start, entries, count);
  if (entries != few) free(entries);
  return rc;
}

static int encode_table(struct encoder *e, int at, struct holt_codec_path *path) {
  const void *table = lua_topointer(e->L, at);
  if (holt_codec_is_cycle(path->outer, table))
    return holt_codec_fail(path, e->err, "this table contains itself; break the cycle before sending it");
  int depth = 0;
  for (const struct holt_codec_path *p = path; p != NULL; p = p->outer) depth++;
  if (depth > HOLT_CODEC_DEPTH_MAX || !lua_checkstack(e->L, 4))
    return holt_codec_fail(path, e->err, "tables are nested more than 100 deep");
  path->table = table;
  bool is_array;
  size_t count = measure(e->L, at, &is_array);
  int rc = is_array ? encode_array(e, at, count, path) : encode_map(e, at, count, path);
  path->table = NULL;
  return rc;
}

static int encode(struct encoder *e, int at, struct holt_codec_path *path) {
  if (e->out->len > HOLT_CODEC_BYTES_MAX)
    return holt_err_set(e->err, HOLT_ETOOLARGE, "the message is larger than 64 MiB; send it in pieces");
  switch (lua_type(e->L, at)) {
  case LUA_TNIL:
    msgpack_pack_nil(&e->packer);
    return 0;
  case LUA_TBOOLEAN:
    if (lua_toboolean(e->L, at))
      msgpack_pack_true(&e->packer);
    else
      msgpack_pack_false(&e->packer);
    return 0;
  case LUA_TNUMBER:
    if (lua_isinteger(e->L, at))
      msgpack_pack_int64(&e->packer, lua_tointeger(e->L, at));
    else
      put_float(e, lua_tonumber(e->L, at));
    return 0;
  case LUA_TSTRING:
    put_string(e, at);
    return 0;
  case LUA_TTABLE:
    return encode_table(e, at, path);
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(e->L, at) == NULL) { /* holt.null */
      msgpack_pack_nil(&e->packer);
      return 0;
    }
    break;
  default:
    break;
  }
  char what[80];
  const char *type = lua_typename(e->L, lua_type(e->L, at));
  snprintf(what, sizeof what, "a %s cannot be sent; send a table, string or number that describes it", type);
  return holt_codec_fail(path, e->err, what);
}

int holt_msgpack_encode(lua_State *L, int first, int last, struct holt_writer *out, struct holt_err *err) {
  struct encoder e = {.L = L, .out = out, .err = err};
  msgpack_packer_init(&e.packer, out, put);
  size_t before = out->len;
  if (last - first + 1 > HOLT_CODEC_VALUES_MAX)
    return holt_err_set(err, HOLT_ECODEC, "%d values in one message, and %d are allowed; send a table",
                        last - first + 1, HOLT_CODEC_VALUES_MAX);
  for (int at = first; at <= last; at++) {
    struct holt_codec_path path = {.L = L, .index = at - first + 1};
    int rc = encode(&e, at, &path);
    if (rc != 0) {
      out->len = before;
      return rc;
    }
  }
  return 0;
}
