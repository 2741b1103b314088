/* look.c - reading shared objects straight from what is applied here: values, sizes, loops. */
#include <string.h>

#include "binding/object_impl.h"

static int find_item(lua_State *L, struct lua_object *object, struct holt_item **out, struct holt_err *err) {
  struct holt_object *there;
  struct holt_buf key;
  *out = NULL;
  int rc = holt__key_bytes(L, object, 2, &object->node->parts[0], &key, err);
  if (rc == 0) rc = holt__object_find(object, &there, err); /* last: a codec may have closed the node */
  if (rc == 0 && there != NULL) *out = holt_tree_get(&there->tree, key);
  return rc;
}

/* object_get(box, key) -> value | nil | nil, err */
static int l_object_get(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  struct holt_item *item;
  struct holt_err err;
  int rc = find_item(L, object, &item, &err);
  if (rc == 0 && item != NULL) rc = holt__value_push(L, object, holt_item_value(item), &err);
  if (rc != 0) return holt_lua_fail(L, &err);
  if (item == NULL) lua_pushnil(L);
  return 1;
}

static int push_item(lua_State *L, struct lua_object *object, const struct holt_item *item) {
  struct holt_err err;
  if (item == NULL) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, (lua_Integer)item->revision);
  int rc = holt__value_push(L, object, holt_item_value(item), &err);
  return rc == 0 ? 2 : holt_lua_fail(L, &err);
}

/* object_item(box, key) -> revision, value | nil | nil, err */
static int l_object_item(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  struct holt_item *item;
  struct holt_err err;
  if (find_item(L, object, &item, &err) != 0) return holt_lua_fail(L, &err);
  return push_item(L, object, item);
}

/* object_peek(box) -> revision, value | nil | nil, err: the first item */
static int l_object_peek(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  struct holt_object *there;
  struct holt_err err;
  if (holt__object_find(object, &there, &err) != 0) return holt_lua_fail(L, &err);
  return push_item(L, object, there != NULL ? holt_object_peek(there) : NULL);
}

/* object_size(box) -> entries, revision (0: it does not exist yet) | nil, err */
static int l_object_size(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  struct holt_object *there;
  struct holt_err err;
  if (holt__object_find(object, &there, &err) != 0) return holt_lua_fail(L, &err);
  lua_pushinteger(L, there != NULL ? (lua_Integer)there->tree.count : 0);
  lua_pushinteger(L, there != NULL ? (lua_Integer)there->revision : 0);
  return 2;
}

/* object_ends(box) -> head, tail: positions of a queue */
static int l_object_ends(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  struct holt_object *there;
  struct holt_err err;
  if (holt__object_find(object, &there, &err) != 0) return holt_lua_fail(L, &err);
  lua_pushinteger(L, there != NULL ? (lua_Integer)there->head : 0);
  lua_pushinteger(L, there != NULL ? (lua_Integer)there->tail : 0);
  return 2;
}

/* --- Looping over a view that does not change ---------------------------------------------------------- */

struct view {
  struct lua_object *object;
  struct holt_tree tree;
  struct holt_cursor cursor;
  lua_Integer count;
  bool is_raw;
};

static char view_key; /* place of the view's metatable in the registry */

static int l_view_close(lua_State *L) {
  struct view *view = lua_touserdata(L, 1);
  holt_tree_clear(&view->tree);
  if (view->object != NULL) holt__object_release(view->object);
  view->object = NULL;
  return 0;
}

void holt__subscription_push(lua_State *L, struct holt_buf key) {
  size_t len = key.len - 9;
  uint64_t id = 0;
  for (size_t i = 0; i < 8; i++) id = id << 8 | key.data[len + 1 + i];
  lua_pushlstring(L, (const char *)key.data, len);
  lua_pushinteger(L, (lua_Integer)id);
}

/* next() -> key, value | place, item | event, id, metadata; nothing at the end */
static int l_view_next(lua_State *L) {
  struct view *view = lua_touserdata(L, lua_upvalueindex(1));
  if (view->object == NULL) return 0;
  const struct holt_item *item = holt_cursor_next(&view->cursor);
  if (item == NULL) return 0;
  struct holt_err err;
  int rc = 0, before = lua_gettop(L);
  struct holt_buf key = holt_item_key(item);
  view->count++;
  if (view->is_raw)
    lua_pushlstring(L, (const char *)key.data, key.len);
  else if (view->object->kind == HOLT_KIND_QUEUE)
    lua_pushinteger(L, view->count);
  else if (view->object->kind == HOLT_KIND_EMITTER)
    holt__subscription_push(L, key);
  else
    rc = holt__key_push(L, view->object, key, &err);
  if (rc == 0) rc = holt__value_push(L, view->object, holt_item_value(item), &err);
  if (rc == 0) return lua_gettop(L) - before;
  holt_lua_push_err(L, &err);
  return lua_error(L);
}

/* object_pairs(box, is_raw) -> next, nil, nil, closing value | nil, err; raw: keys as bytes */
static int l_object_pairs(lua_State *L) {
  lua_settop(L, 2);
  struct lua_object *object = holt__check_object(L, 1);
  struct holt_object *there;
  struct holt_err err;
  if (holt__object_find(object, &there, &err) != 0) return holt_lua_fail(L, &err);
  struct view *view = lua_newuserdatauv(L, sizeof *view, 0);
  memset(view, 0, sizeof *view);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &view_key);
  lua_setmetatable(L, -2);
  view->is_raw = lua_toboolean(L, 2);
  view->object = object;
  object->refs++;
  if (there != NULL) view->tree = holt_tree_share(&there->tree);
  holt_cursor_seek(&view->cursor, &view->tree, holt_buf(NULL, 0));
  int at = lua_gettop(L);
  lua_pushvalue(L, at);
  lua_pushcclosure(L, l_view_next, 1);
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushvalue(L, at);
  return 4;
}

void holt__binding_look(lua_State *L) {
  static const luaL_Reg functions[] = {{"object_get", l_object_get},
                                       {"object_item", l_object_item},
                                       {"object_peek", l_object_peek},
                                       {"object_size", l_object_size},
                                       {"object_ends", l_object_ends},
                                       {"object_pairs", l_object_pairs},
                                       {NULL, NULL}};
  lua_createtable(L, 0, 2);
  lua_pushcfunction(L, l_view_close);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, l_view_close);
  lua_setfield(L, -2, "__close");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &view_key);
  lua_pushvalue(L, -2);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 1);
  lua_pop(L, 1);
}
