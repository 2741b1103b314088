/* msgpack_encode.c - values of Lua to canonical MessagePack, by msgpack-c's packer: its template, so that
 * what it writes goes straight into our buffer.
 *
 * Scripts send tables of the same few shapes again and again: the keys of recent maps are kept in shapes.c,
 * encoded and with their order, so that only the values are to be encoded. Whatever differs from its shape is
 * encoded and sorted from there on. */
#include <float.h>
#include <math.h>
#include <msgpack/pack_define.h>
#include <msgpack/timestamp.h>
#include <stdlib.h>

#include "script/codec.h"
#include "script/script_impl.h"
#include "script/shapes.h"

#define NOINLINE __attribute__((noinline)) /* keeps its large frame out of the common way */

struct encoder {
  lua_State *L;
  struct holt_writer *out;
  struct holt_err *err;
  struct holt_shapes *shapes;
};

/* As holt_writer_grow, without a call while there is room. */
static inline uint8_t *room(struct holt_writer *out, size_t len) {
  if (out->cap - out->len < len) return holt_writer_grow(out, len);
  uint8_t *at = out->data + out->len;
  out->len += len;
  return at;
}

static inline int append(struct holt_writer *out, const void *data, size_t len) {
  if (len > 0) memcpy(room(out, len), data, len);
  return 0;
}

#define msgpack_pack_inline_func(name)             static inline __attribute__((unused)) int pack##name
#define msgpack_pack_inline_func_cint(name)        static inline __attribute__((unused)) int pack##name
#define msgpack_pack_inline_func_fixint(name)      static inline __attribute__((unused)) int pack_fix##name
#define msgpack_pack_user                          struct holt_writer *
#define msgpack_pack_append_buffer(user, buf, len) return append(user, buf, len)
#include <msgpack/pack_template.h>

#define HIGH_BITS 0x8080808080808080u

/* Up to 16 bytes, looked at in two pieces that may overlap. */
static inline bool is_short_ascii(const unsigned char *at, size_t len) {
  uint64_t head = 0, tail = 0;
  if (len >= 8) {
    memcpy(&head, at, 8);
    memcpy(&tail, at + len - 8, 8);
  } else if (len >= 4) {
    memcpy(&head, at, 4);
    memcpy(&tail, at + len - 4, 4);
  } else if (len > 0) {
    head = (uint64_t)(at[0] | at[len / 2] | at[len - 1]);
  }
  return ((head | tail) & HIGH_BITS) == 0;
}

/* Text or bytes: other languages tell them apart, and the same string must always give the same form. */
static bool is_utf8(const unsigned char *at, size_t len) {
  if (len <= 16 && is_short_ascii(at, len)) return true;
  const unsigned char *end = at + len;
  while (at < end) {
    uint64_t eight;
    if (end - at >= 8) {
      memcpy(&eight, at, 8);
      if ((eight & HIGH_BITS) == 0) {
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

static void put_text(struct holt_writer *out, const char *text, size_t len) {
  bool is_text = is_utf8((const unsigned char *)text, len);
  if (is_text && len < 32) {
    uint8_t *to = room(out, len + 1);
    *to = (uint8_t)(0xa0 | len);
    holt_copy_short(to + 1, text, len);
    return;
  }
  if (is_text)
    pack_str(out, len);
  else
    pack_bin(out, len);
  append(out, text, len);
}

static inline void put_string(struct encoder *e, int at) {
  size_t len;
  const char *text = lua_tolstring(e->L, at, &len);
  put_text(e->out, text, len);
}

static inline void put_integer(struct holt_writer *out, lua_Integer v) {
  if (v >= 0 && v < 128)
    *room(out, 1) = (uint8_t)v;
  else
    pack_int64(out, v);
}

static inline void put_float(struct holt_writer *out, double v) {
  if (isnan(v)) { /* one form for all of them */
    holt_write_bytes(out, "\xca\x7f\xc0\x00\x00", 5);
    return;
  }
  bool fits = isinf(v) || (fabs(v) <= FLT_MAX && (double)(float)v == v);
  if (fits)
    pack_float(out, (float)v);
  else
    pack_double(out, v);
}

/* Whether the keys, of which there are some, are exactly 1..n; then n is in *count. */
static bool is_array(lua_State *L, int table, size_t *count) {
  lua_Unsigned length = lua_rawlen(L, table);
  *count = length;
  if (length == 0) return false;
  lua_Unsigned found = 0;
  lua_pushnil(L);
  while (lua_next(L, table) != 0) {
    lua_pop(L, 1);
    bool fits = lua_isinteger(L, -1) && (lua_Unsigned)lua_tointeger(L, -1) - 1 < length;
    if (!fits) {
      lua_pop(L, 1);
      return false;
    }
    found++;
  }
  return found == length;
}

static int encode(struct encoder *e, int at, struct holt_codec_path *path);

static int encode_array(struct encoder *e, int table, size_t count, struct holt_codec_path *path) {
  pack_array(e->out, count);
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

/* The same, when lua_next gives the places in order and there is no table among the values (which would have
 * to be encoded twice): then one walk does. False, and nothing written, when it does not. The key and the
 * value of place 1 lie on the stack; afterwards neither. */
static bool encode_list(struct encoder *e, int table, struct holt_codec_path *path, int *rc) {
  lua_State *L = e->L;
  struct holt_codec_path inner = {.outer = path, .L = L};
  int key = lua_gettop(L) - 1;
  lua_Integer length = (lua_Integer)lua_rawlen(L, table);
  size_t before = e->out->len;
  pack_array(e->out, (size_t)length);
  *rc = 0;
  do {
    bool is_next = inner.index < length && lua_isinteger(L, key) && lua_tointeger(L, key) == inner.index + 1;
    if (!is_next || lua_istable(L, key + 1)) {
      e->out->len = before;
      lua_settop(L, key - 1);
      return false;
    }
    inner.index++;
    *rc = encode(e, key + 1, &inner);
    lua_settop(L, key);
  } while (*rc == 0 && lua_next(L, table) != 0);
  lua_settop(L, key - 1);
  if (*rc != 0 || inner.index == length) return true;
  e->out->len = before;
  return false;
}

#define FEW 16 /* entries that need no allocation */

struct entry {
  size_t start, key_end, end; /* places in the output */
};

static inline int compare(const uint8_t *base, const struct entry *a, const struct entry *b) {
  const uint8_t *at_a = base + a->start, *at_b = base + b->start;
  if (*at_a != *at_b) return *at_a < *at_b ? -1 : 1; /* a key has one byte at least */
  size_t a_len = a->key_end - a->start, b_len = b->key_end - b->start;
  int order = memcmp(at_a, at_b, a_len < b_len ? a_len : b_len);
  return order != 0 ? order : a_len < b_len ? -1 : a_len > b_len;
}

static void sort_few(const uint8_t *base, struct entry *entries, size_t count) {
  for (size_t i = 1; i < count; i++) {
    struct entry moved = entries[i];
    size_t at = i;
    for (; at > 0 && compare(base, &entries[at - 1], &moved) > 0; at--) entries[at] = entries[at - 1];
    entries[at] = moved;
  }
}

static void sift(const uint8_t *base, struct entry *entries, size_t at, size_t count) {
  for (size_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && compare(base, &entries[child], &entries[child + 1]) < 0) child++;
    if (compare(base, &entries[at], &entries[child]) >= 0) return;
    struct entry moved = entries[at];
    entries[at] = entries[child];
    entries[child] = moved;
  }
}

/* A heap sort: never quadratic, and needs no global for its context as qsort would. */
static void sort_many(const uint8_t *base, struct entry *entries, size_t count) {
  for (size_t i = count / 2; i-- > 0;) sift(base, entries, i, count);
  for (size_t last = count - 1; last > 0; last--) {
    struct entry moved = entries[0];
    entries[0] = entries[last];
    entries[last] = moved;
    sift(base, entries, 0, last);
  }
}

/* True when they were in order already. */
static bool sort(const uint8_t *base, struct entry *entries, size_t count) {
  bool was_sorted = true;
  for (size_t i = 1; i < count && was_sorted; i++)
    was_sorted = compare(base, &entries[i - 1], &entries[i]) < 0;
  if (was_sorted) return true;
  if (count <= FEW)
    sort_few(base, entries, count);
  else
    sort_many(base, entries, count);
  return false;
}

/* Put the entries, which fill the output from `start` on, into the order that stands in `entries`. */
static int reorder(struct encoder *e, size_t start, const struct entry *entries, size_t count) {
  size_t len = e->out->len - start;
  uint8_t little[1024];
  uint8_t *copy = len <= sizeof little ? little : malloc(len);
  if (copy == NULL) return holt_err_code(e->err, HOLT_ENOMEM);
  memcpy(copy, e->out->data + start, len);
  uint8_t *to = e->out->data + start;
  for (size_t i = 0; i < count; i++) {
    holt_copy_short(to, copy + (entries[i].start - start), entries[i].end - entries[i].start);
    to += entries[i].end - entries[i].start;
  }
  if (copy != little) free(copy);
  return 0;
}

/* A key that is no string. */
static NOINLINE int encode_key(struct encoder *e, int key, struct holt_codec_path *path) {
  int type = lua_type(e->L, key);
  if (type == LUA_TNUMBER || type == LUA_TBOOLEAN) return encode(e, key, path);
  char what[80];
  snprintf(what, sizeof what, "a %s cannot be a key; use a string or a number", lua_typename(e->L, type));
  return holt_codec_fail(path, e->err, what);
}

/* Room for one more; the first FEW are on the caller's stack. */
static struct entry *more_entries(struct entry *entries, struct entry *few, size_t count) {
  if (count < FEW || (count & (count - 1)) != 0) return entries;
  struct entry *larger = realloc(entries == few ? NULL : entries, 2 * count * sizeof *larger);
  if (larger == NULL) {
    if (entries != few) free(entries);
    return NULL;
  }
  if (entries == few) memcpy(larger, few, count * sizeof *few);
  return larger;
}

/* The header was left one byte; a longer one moves the entries. */
static void put_map_header(struct encoder *e, size_t at, size_t count) {
  if (count < 16) {
    e->out->data[at] = (uint8_t)(0x80 | count);
    return;
  }
  size_t len = e->out->len - at - 1, header = count < 65536 ? 3 : 5;
  holt_writer_grow(e->out, header - 1);
  memmove(e->out->data + at + header, e->out->data + at + 1, len);
  struct holt_writer in_place = {.data = e->out->data + at, .cap = header};
  pack_map(&in_place, count);
}

/* --- Maps ----------------------------------------------------------------------------------------- */

/* A map on its way: its entries so far, in the order in which the table gives them. */
struct map {
  int table, key; /* stack places; the value lies above its key */
  size_t header;  /* place of the header in the output */
  size_t count;
  struct holt_codec_path inner;
  struct entry *entries; /* `few`, or allocated */
  struct entry few[FEW];
};

/* Put keys between the values of the first entries of a map: as the table gave them, or in their order. */
static int spell_out(struct encoder *e, struct map *map, const struct holt_shape *shape, bool in_order) {
  struct holt_writer *out = e->out;
  size_t start = map->header + 1, len = out->len - start;
  uint8_t little[1024];
  uint8_t *values = len <= sizeof little ? little : malloc(len);
  if (values == NULL) return holt_err_code(e->err, HOLT_ENOMEM);
  memcpy(values, out->data + start, len);
  uint8_t *to = room(out, shape->starts[map->count]) - len; /* `room` may have moved the output */
  for (size_t i = 0; i < map->count; i++) {
    size_t at = in_order ? shape->order[i] : i;
    size_t key_len = shape->starts[at + 1] - shape->starts[at];
    size_t value = map->few[at].start, value_len = map->few[at].end - value;
    holt_copy_short(to, shape->bytes + shape->starts[at], key_len);
    holt_copy_short(to + key_len, values + (value - start), value_len);
    to += key_len + value_len;
  }
  if (values != little) free(values);
  return 0;
}

/* The keys have been put between the values: where things are now. */
static void move_entries(struct map *map, const struct holt_shape *shape) {
  size_t at = map->header + 1;
  for (size_t i = 0; i < map->count; i++) {
    struct entry *entry = &map->few[i];
    size_t key_len = shape->starts[i + 1] - shape->starts[i], value_len = entry->end - entry->start;
    entry->start = at;
    entry->key_end = at + key_len;
    at = entry->end = at + key_len + value_len;
  }
}

/* Encode the values for as long as the keys are those of the shape. Returns 0 or an error code; then *is_over
 * says whether there is no entry left, else its key and value lie on the stack. */
static int encode_known(struct encoder *e, struct map *map, struct holt_shape *shape, bool *is_over) {
  lua_State *L = e->L;
  int rc = 0;
  shape->users++;
  do {
    if (map->count == shape->count || lua_topointer(L, map->key) != shape->ids[map->count]) break;
    struct entry *entry = &map->few[map->count];
    entry->start = e->out->len;
    rc = encode(e, map->key + 1, &map->inner);
    entry->end = e->out->len;
    map->count++;
    lua_settop(L, map->key); /* the key stays for lua_next */
    *is_over = rc == 0 && lua_next(L, map->table) == 0;
  } while (rc == 0 && !*is_over);
  bool is_whole = *is_over && map->count == shape->count;
  if (rc == 0) rc = spell_out(e, map, shape, is_whole);
  if (rc == 0 && !is_whole) move_entries(map, shape);
  if (is_whole) shape->misses = 0;
  shape->users--;
  return rc;
}

/* Encode what is left, keys and values. */
static int encode_unknown(struct encoder *e, struct map *map) {
  lua_State *L = e->L;
  int rc = 0;
  do {
    map->entries = more_entries(map->entries, map->few, map->count);
    if (map->entries == NULL) {
      map->entries = map->few;
      return holt_err_code(e->err, HOLT_ENOMEM);
    }
    struct entry *entry = &map->entries[map->count++];
    entry->start = e->out->len;
    if (lua_type(L, map->key) == LUA_TSTRING)
      put_string(e, map->key);
    else
      rc = encode_key(e, map->key, &map->inner);
    entry->key_end = e->out->len;
    if (rc == 0) rc = encode(e, map->key + 1, &map->inner);
    entry->end = e->out->len;
    lua_settop(L, map->key);
  } while (rc == 0 && lua_next(L, map->table) != 0);
  return rc;
}

/* The map is none of the shape that its first key led to. */
static void tell_missed(struct encoder *e, const struct map *map, struct holt_shape *shape) {
  struct holt_buf keys[HOLT_SHAPE_KEYS_MAX];
  if (map->count > HOLT_SHAPE_KEYS_MAX) return;
  for (size_t i = 0; i < map->count; i++) {
    const struct entry *entry = &map->entries[i];
    keys[i] = holt_buf(e->out->data + entry->start, entry->key_end - entry->start);
  }
  holt_shape_missed(e->L, e->shapes, shape, map->table, keys, map->count);
}

static int sort_entries(struct encoder *e, const struct map *map) {
  if (sort(e->out->data, map->entries, map->count)) return 0;
  return reorder(e, map->header + 1, map->entries, map->count);
}

/* Key and value of the first entry lie on the stack. */
static int encode_map(struct encoder *e, int table, struct holt_codec_path *path) {
  lua_State *L = e->L;
  struct map map; /* `few` is filled as it is needed */
  map.table = table;
  map.key = lua_gettop(L) - 1;
  map.header = e->out->len;
  map.count = 0;
  map.inner = (struct holt_codec_path){.outer = path, .L = L, .key = map.key};
  map.entries = map.few;
  *room(e->out, 1) = 0;
  struct holt_shape *shape = holt_shape_of(e->shapes, lua_topointer(L, map.key));
  bool is_over = false;
  int rc = 0;
  if (shape->count > 0) rc = encode_known(e, &map, shape, &is_over);
  bool is_whole = rc == 0 && is_over && map.count == shape->count;
  if (rc == 0 && !is_over) rc = encode_unknown(e, &map);
  lua_settop(L, map.key - 1);
  if (rc == 0 && !is_whole) {
    tell_missed(e, &map, shape);
    rc = sort_entries(e, &map);
  }
  if (rc == 0) put_map_header(e, map.header, map.count);
  if (map.entries != map.few) free(map.entries);
  return rc;
}

/* A table that begins with a number. */
static int encode_numbered(struct encoder *e, int table, struct holt_codec_path *path) {
  size_t count;
  if (is_array(e->L, table, &count)) return encode_array(e, table, count, path);
  lua_pushnil(e->L);
  lua_next(e->L, table); /* it is not empty */
  return encode_map(e, table, path);
}

static NOINLINE int encode_table(struct encoder *e, int at, struct holt_codec_path *path) {
  lua_State *L = e->L;
  const void *table = lua_topointer(L, at);
  if (holt_codec_is_cycle(path->outer, table))
    return holt_codec_fail(path, e->err, "this table contains itself; break the cycle before sending it");
  int depth = 0;
  for (const struct holt_codec_path *p = path; p != NULL; p = p->outer) depth++;
  if (depth > HOLT_CODEC_DEPTH_MAX || !lua_checkstack(L, 4))
    return holt_codec_fail(path, e->err, "tables are nested more than 100 deep");
  lua_pushnil(L);
  if (lua_next(L, at) == 0) return pack_array(e->out, 0);
  path->table = table;
  int rc;
  if (lua_type(L, -2) != LUA_TNUMBER)
    rc = encode_map(e, at, path);
  else if (!encode_list(e, at, path, &rc))
    rc = encode_numbered(e, at, path);
  path->table = NULL;
  return rc;
}

static NOINLINE int refuse(struct encoder *e, int at, const struct holt_codec_path *path) {
  char what[80];
  const char *type = lua_typename(e->L, lua_type(e->L, at));
  snprintf(what, sizeof what, "a %s cannot be sent; send a table, string or number that describes it", type);
  return holt_codec_fail(path, e->err, what);
}

static int encode(struct encoder *e, int at, struct holt_codec_path *path) {
  if (e->out->len > HOLT_CODEC_BYTES_MAX)
    return holt_err_set(e->err, HOLT_ETOOLARGE, "the message is larger than 64 MiB; send it in pieces");
  switch (lua_type(e->L, at)) {
  case LUA_TNIL:
    return pack_nil(e->out);
  case LUA_TBOOLEAN:
    return lua_toboolean(e->L, at) ? pack_true(e->out) : pack_false(e->out);
  case LUA_TNUMBER:
    if (lua_isinteger(e->L, at))
      put_integer(e->out, lua_tointeger(e->L, at));
    else
      put_float(e->out, lua_tonumber(e->L, at));
    return 0;
  case LUA_TSTRING:
    put_string(e, at);
    return 0;
  case LUA_TTABLE:
    return encode_table(e, at, path);
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(e->L, at) == NULL) return pack_nil(e->out); /* holt.null */
    return refuse(e, at, path);
  default:
    return refuse(e, at, path);
  }
}

int holt_msgpack_encode(lua_State *L, int first, int last, struct holt_writer *out, struct holt_err *err) {
  struct encoder e = {.L = L, .out = out, .err = err, .shapes = holt_script_of(L)->shapes};
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
