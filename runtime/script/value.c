#include "script/value.h"

#include <lauxlib.h>
#include <string.h>

#include "script/codec.h"

/* --- From Lua ------------------------------------------------------------------------------------- */

/* How many pairs the table has, and whether its keys are exactly 1..n. */
static size_t count_pairs(lua_State *L, int at, bool *is_list) {
  size_t count = 0;
  lua_Unsigned length = lua_rawlen(L, at);
  bool fits = true;
  lua_pushnil(L);
  while (lua_next(L, at) != 0) {
    lua_pop(L, 1);
    count++;
    fits = fits && lua_isinteger(L, -1) && (lua_Unsigned)lua_tointeger(L, -1) - 1 < length;
  }
  *is_list = fits && count == length;
  return count;
}

static int from_lua(lua_State *L, int at, struct holt_arena *arena, struct holt_value *out, int depth,
                    struct holt_err *err);

static int table_from_lua(lua_State *L, int at, struct holt_arena *arena, struct holt_value *out, int depth,
                          struct holt_err *err) {
  if (depth >= HOLT_VALUE_DEPTH_MAX || !lua_checkstack(L, 6))
    return holt_err_set(err, HOLT_ECODEC, "tables lie more than %d deep; does one contain itself?",
                        HOLT_VALUE_DEPTH_MAX);
  bool is_list;
  size_t count = count_pairs(L, at, &is_list);
  if (count > UINT32_MAX / 2) return holt_err_set(err, HOLT_ETOOLARGE, "a table has too many entries");
  struct holt_value *items =
      holt_arena_alloc(arena, (is_list ? count : 2 * count) * sizeof(struct holt_value));
  if (items == NULL) return holt_err_set(err, HOLT_ETOOLARGE, "the value takes too much memory");
  *out = (struct holt_value){.type = is_list ? HOLT_VALUE_LIST : HOLT_VALUE_TABLE, .count = (uint32_t)count};
  out->as.items = items;
  if (is_list) {
    for (size_t i = 0; i < count; i++) {
      lua_rawgeti(L, at, (lua_Integer)i + 1);
      int rc = from_lua(L, lua_gettop(L), arena, &items[i], depth + 1, err);
      lua_pop(L, 1);
      if (rc != 0) return rc;
    }
    return 0;
  }
  lua_pushnil(L);
  for (size_t i = 0; lua_next(L, at) != 0; i++) {
    int rc = from_lua(L, lua_gettop(L) - 1, arena, &items[2 * i], depth + 1, err);
    if (rc == 0) rc = from_lua(L, lua_gettop(L), arena, &items[2 * i + 1], depth + 1, err);
    lua_pop(L, rc == 0 ? 1 : 2);
    if (rc != 0) return rc;
  }
  return 0;
}

static int from_lua(lua_State *L, int at, struct holt_arena *arena, struct holt_value *out, int depth,
                    struct holt_err *err) {
  int type = lua_type(L, at);
  *out = (struct holt_value){.type = HOLT_VALUE_NULL};
  switch (type) {
  case LUA_TNIL:
    return 0;
  case LUA_TBOOLEAN:
    out->type = HOLT_VALUE_BOOLEAN;
    out->as.boolean = lua_toboolean(L, at);
    return 0;
  case LUA_TNUMBER:
    out->type = lua_isinteger(L, at) ? HOLT_VALUE_INTEGER : HOLT_VALUE_FLOAT;
    if (out->type == HOLT_VALUE_INTEGER)
      out->as.integer = lua_tointeger(L, at);
    else
      out->as.number = lua_tonumber(L, at);
    return 0;
  case LUA_TSTRING:
    out->type = HOLT_VALUE_STRING;
    out->as.text.data = lua_tolstring(L, at, &out->as.text.len);
    return 0;
  case LUA_TTABLE:
    return table_from_lua(L, at, arena, out, depth, err);
  default:
    if (type == LUA_TLIGHTUSERDATA && lua_touserdata(L, at) == NULL) return 0; /* holt.null */
    out->type = HOLT_VALUE_OTHER;
    out->as.text.data = lua_typename(L, type);
    out->as.text.len = strlen(out->as.text.data);
    return 0;
  }
}

int holt_value_from_lua(lua_State *L, int at, struct holt_arena *arena, struct holt_value *out,
                        struct holt_err *err) {
  return from_lua(L, lua_absindex(L, at), arena, out, 0, err);
}

/* --- To Lua --------------------------------------------------------------------------------------- */

static void push_list(lua_State *L, const struct holt_value *value) {
  lua_createtable(L, value->count < INT32_MAX ? (int)value->count : 0, 0);
  for (uint32_t i = 0; i < value->count; i++) {
    holt_value_push(L, &value->as.items[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  if (value->count == 0) {
    holt_json_push_array_metatable(L);
    lua_setmetatable(L, -2);
  }
}

static void push_table(lua_State *L, const struct holt_value *value) {
  lua_createtable(L, 0, value->count < INT32_MAX ? (int)value->count : 0);
  for (uint32_t i = 0; i < value->count; i++) {
    holt_value_push(L, &value->as.items[2 * i]);
    holt_value_push(L, &value->as.items[2 * i + 1]);
    lua_rawset(L, -3);
  }
}

void holt_value_push(lua_State *L, const struct holt_value *value) {
  luaL_checkstack(L, 4, "values lie too deep");
  switch (value->type) {
  case HOLT_VALUE_BOOLEAN:
    lua_pushboolean(L, value->as.boolean);
    break;
  case HOLT_VALUE_INTEGER:
    lua_pushinteger(L, value->as.integer);
    break;
  case HOLT_VALUE_FLOAT:
    lua_pushnumber(L, value->as.number);
    break;
  case HOLT_VALUE_STRING:
    lua_pushlstring(L, value->as.text.data, value->as.text.len);
    break;
  case HOLT_VALUE_LIST:
    push_list(L, value);
    break;
  case HOLT_VALUE_TABLE:
    push_table(L, value);
    break;
  default:
    lua_pushlightuserdata(L, NULL);
    break;
  }
}
