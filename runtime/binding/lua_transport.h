/* lua_transport.h - a transport written in Lua, as the links see it. */
#ifndef HOLT_BINDING_LUA_TRANSPORT_H
#define HOLT_BINDING_LUA_TRANSPORT_H

#include "script/script.h"
#include "transport/transport.h"

/* The transport in the userdata at `index`, to be freed once more (a node does that). May raise. */
struct holt_transport *holt__lua_transport_take(lua_State *L, int index);
/* Sets its functions on the table on top of the stack. */
void holt__binding_lua_transport(lua_State *L);

#endif /* HOLT_BINDING_LUA_TRANSPORT_H */
