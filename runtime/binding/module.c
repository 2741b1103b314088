/* module.c - `require "holt.core"` in plain lua5.4 and busted: a script for a state that somebody else made.
 */
#include "binding/binding.h"
#include "env/uv.h"

int luaopen_holt_core(lua_State *L);

int luaopen_holt_core(lua_State *L) {
  if (holt_script_find(L) == NULL) {
    holt_script_attach(L, holt_env_uv_new());
    holt_binding_add_searcher(L, false);
  }
  holt_binding_open(L);
  return 1;
}
