/* value.h - values of Lua to plain trees and back, for the codecs that schemas describe. */
#ifndef HOLT_SCRIPT_VALUE_H
#define HOLT_SCRIPT_VALUE_H

#include <lua.h>

#include "base/err.h"
#include "schema/value.h"

/* Tables within tables: one a message, and one a list of them, for as many messages as a schema allows. */
#define HOLT_VALUE_DEPTH_MAX 202

/* The value at stack place `at`, as a tree in `arena`; strings stay where they are, borrowed as long as the
 * value lives unchanged. A table with the keys 1..n, or none, is a list. holt.null is null; functions and
 * their like become HOLT_VALUE_OTHER. Returns 0; HOLT_ECODEC with a reason for tables within each other more
 * than HOLT_VALUE_DEPTH_MAX deep (a cycle is that, too); HOLT_ETOOLARGE past the arena's limit. Never raises,
 * runs no metamethods. */
int holt_value_from_lua(lua_State *L, int at, struct holt_arena *arena, struct holt_value *out,
                        struct holt_err *err);

/* Push a tree: null as holt.null, a list that is empty as holt.array. May raise (memory): the arena must
 * belong to somebody who is collected. */
void holt_value_push(lua_State *L, const struct holt_value *value);

#endif /* HOLT_SCRIPT_VALUE_H */
