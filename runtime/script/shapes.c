#include "script/shapes.h"

#include <lauxlib.h>

struct holt_shapes *holt_shapes_new(lua_State *L) {
  struct holt_shapes *shapes = lua_newuserdatauv(L, sizeof *shapes, 0);
  memset(shapes, 0, sizeof *shapes);
  lua_createtable(L, HOLT_SHAPES_MAX * HOLT_SHAPE_KEYS_MAX,
                  0); /* all places are there: to set one cannot fail */
  shapes->anchors = luaL_ref(L, LUA_REGISTRYINDEX);
  luaL_ref(L, LUA_REGISTRYINDEX); /* the userdata, for as long as the state lives */
  return shapes;
}

static bool fits(const struct holt_buf *keys, size_t count) {
  size_t total = 0;
  if (count == 0 || count > HOLT_SHAPE_KEYS_MAX) return false;
  for (size_t i = 0; i < count; i++) {
    if ((*keys[i].data & 0xe0) != 0xa0) return false; /* no text of at most 31 bytes */
    total += keys[i].len;
  }
  return total <= HOLT_SHAPE_BYTES_MAX;
}

/* The first byte tells the length, so that of two different keys neither begins with the other. */
static bool is_before(struct holt_buf a, struct holt_buf b) {
  return memcmp(a.data, b.data, a.len < b.len ? a.len : b.len) < 0;
}

/* Two in a row that fit each other may be the new fashion; where every table is another one, seldom try. */
static bool is_worth_it(struct holt_shape *shape) {
  if (shape->count == 0) return true;
  if (shape->misses < UINT8_MAX) shape->misses++;
  return (shape->misses >= 2 && shape->misses < 6) || shape->misses % 16 == 0;
}

/* Anchor the keys and note their addresses. */
static void take_keys(lua_State *L, struct holt_shapes *shapes, struct holt_shape *shape, int table) {
  lua_Integer place = (shape - shapes->shapes) * HOLT_SHAPE_KEYS_MAX;
  lua_rawgeti(L, LUA_REGISTRYINDEX, shapes->anchors);
  int anchors = lua_gettop(L);
  lua_pushnil(L);
  for (size_t i = 0; i < shape->count && lua_next(L, table) != 0; i++) {
    lua_pop(L, 1);
    shape->ids[i] = lua_topointer(L, -1);
    lua_pushvalue(L, -1);
    lua_rawseti(L, anchors, ++place);
  }
  lua_settop(L, anchors - 1);
}

void holt_shape_missed(lua_State *L, struct holt_shapes *shapes, struct holt_shape *shape, int table,
                       const struct holt_buf *keys, size_t count) {
  if (shape->users > 0 || !fits(keys, count) || !is_worth_it(shape)) return;
  shape->count = (uint8_t)count;
  size_t used = 0;
  for (size_t i = 0; i < count; i++) {
    memcpy(shape->bytes + used, keys[i].data, keys[i].len);
    shape->starts[i] = (uint8_t)used;
    used += keys[i].len;
    size_t at = i;
    for (; at > 0 && is_before(keys[i], keys[shape->order[at - 1]]); at--)
      shape->order[at] = shape->order[at - 1];
    shape->order[at] = (uint8_t)i;
  }
  shape->starts[count] = (uint8_t)used;
  take_keys(L, shapes, shape, table);
}
