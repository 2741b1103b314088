/* open.c - puts holt.core together and lets `require` find the Lua modules we carry. */
#include <string.h>

#include "binding/binding.h"
#include "binding/outside.h"
#include "binding/sources.h"

#ifndef HOLT_VERSION
#define HOLT_VERSION "0.1.0"
#endif

static char core_key; /* place of the core table in the registry */

void holt_binding_open(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &core_key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushliteral(L, HOLT_VERSION);
  lua_setfield(L, -2, "version");
  holt_binding_tasks(L);
  holt_binding_codecs(L);
  holt_binding_system(L);
  holt_binding_outside(L);
  holt_binding_nodes(L);
  holt_binding_objects(L);
  holt_binding_schemas(L);
  holt_binding_journals(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &core_key);
}

/* searcher(name) -> loader, path | message */
static int l_search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  for (const struct holt_lua_source *source = holt_lua_sources; source->module != NULL; source++) {
    if (strcmp(source->module, name) != 0) continue;
    lua_pushfstring(L, "@%s", source->path);
    if (luaL_loadbuffer(L, source->text, source->len, lua_tostring(L, -1)) != LUA_OK) return lua_error(L);
    lua_pushstring(L, source->path);
    return 2;
  }
  lua_pushfstring(L, "no module '%s' inside holt", name);
  return 1;
}

void holt_binding_add_searcher(lua_State *L, bool first) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, "package") == LUA_TTABLE && lua_getfield(L, -1, "searchers") == LUA_TTABLE) {
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    lua_Integer place = first ? 2 : count + 1; /* behind package.preload, or behind all */
    for (lua_Integer i = count; i >= place; i--) {
      lua_rawgeti(L, -1, i);
      lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, l_search);
    lua_rawseti(L, -2, place);
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
}
