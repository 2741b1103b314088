/* binding.h - the Lua face, for the files of this folder and cli/: each part adds its functions to the core
 * table. */
#ifndef HOLT_BINDING_BINDING_H
#define HOLT_BINDING_BINDING_H

#include "script/script.h"

/* Make `holt.core` in a state that has a script, and push it. The same table each time. May raise. */
void holt_binding_open(lua_State *L);
/* Our embedded Lua modules become findable by `require`; before the search path with `first`, else after it.
 */
void holt_binding_add_searcher(lua_State *L, bool first);

/* Each sets its functions on the table on top of the stack. */
void holt_binding_tasks(lua_State *L);
void holt_binding_codecs(lua_State *L);
void holt_binding_system(lua_State *L);
void holt_binding_nodes(lua_State *L);
void holt_binding_objects(lua_State *L);
void holt_binding_schemas(lua_State *L);
void holt_binding_journals(lua_State *L);

#endif /* HOLT_BINDING_BINDING_H */
