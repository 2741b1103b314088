/* errors.c - error tables, tracebacks, the one door from C to Lua. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "script/script_impl.h"

static char err_key; /* place of the error metatable in the registry */

/* Push text of field `name` of the table at 1 behind `prefix`; nothing when it is absent. Returns pieces
 * pushed. */
static int push_part(lua_State *L, const char *prefix, const char *name, const char *suffix) {
  if (lua_getfield(L, 1, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  luaL_tolstring(L, -1, NULL);
  lua_remove(L, -2);
  lua_pushfstring(L, "%s%s%s", prefix, lua_tostring(L, -1), suffix);
  lua_remove(L, -2);
  return 1;
}

static int l_err_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checkstack(L, 12, NULL);
  int parts = push_part(L, "", "node", ": ");
  parts += push_part(L, "", "message", "");
  parts += push_part(L, " [", "code", "]");
  parts += push_part(L, "\n  hint: ", "hint", "");
  parts += push_part(L, "\n  caused by: ", "cause", "");
  lua_concat(L, parts);
  return 1;
}

/* "went wrong: " .. err, in either order: as tostring gives it. */
static int l_err_concat(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  luaL_tolstring(L, 2, NULL);
  lua_concat(L, 2);
  return 1;
}

void holt_lua_mark_err(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &err_key) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, l_err_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, l_err_concat);
    lua_setfield(L, -2, "__concat");
    lua_pushliteral(L, "holt.error");
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &err_key);
  }
  lua_setmetatable(L, -2);
}

static void push_table(lua_State *L, int code, const char *message) {
  lua_createtable(L, 0, 2);
  lua_pushstring(L, holt_err_word(code));
  lua_setfield(L, -2, "code");
  lua_pushstring(L, message);
  lua_setfield(L, -2, "message");
  holt_lua_mark_err(L);
}

void holt_lua_push_err(lua_State *L, const struct holt_err *err) {
  push_table(L, err->code, err->message);
  if (err->node[0] == '\0') return;
  lua_pushstring(L, err->node);
  lua_setfield(L, -2, "node");
}

int holt_lua_fail(lua_State *L, const struct holt_err *err) {
  lua_pushnil(L);
  holt_lua_push_err(L, err);
  return 2;
}

int holt_lua_fail_code(lua_State *L, int code) {
  lua_pushnil(L);
  push_table(L, code, holt_err_text(code));
  return 2;
}

int holt_lua_raise(lua_State *L, int code, const char *format, ...) {
  char message[400];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  push_table(L, code, message);
  return lua_error(L);
}

uint64_t holt_lua_check_seconds(lua_State *L, int index) {
  lua_Number seconds = luaL_checknumber(L, index);
  luaL_argcheck(L, seconds >= 0, index,
                "seconds must be a number that is not negative"); /* refuses NaN too */
  if (seconds > 1e12) seconds = 1e12;                             /* 31,000 years; infinity means this too */
  return (uint64_t)ceil(seconds * 1000.0 - 1e-6);
}

/* --- Protected calls ------------------------------------------------------------------------------ */

int holt__failure(lua_State *L) {
  lua_settop(L, 1);
  lua_createtable(L, 0, 2);
  lua_pushvalue(L, 1);
  lua_setfield(L, 2, "value");
  luaL_traceback(L, L, NULL, 1);
  lua_setfield(L, 2, "traceback");
  return 1;
}

static int l_traceback(lua_State *L) {
  const char *text = luaL_tolstring(L, 1, NULL);
  luaL_traceback(L, L, text, 1);
  return 1;
}

struct protected_call {
  void (*body)(lua_State *L, void *arg);
  void *arg;
};

static int l_protected(lua_State *L) {
  struct protected_call *call = lua_touserdata(L, 1);
  lua_settop(L, 0);
  call->body(L, call->arg);
  return 0;
}

int holt_lua_call(struct holt_script *script, void (*body)(lua_State *L, void *arg), void *arg,
                  struct holt_err *err) {
  lua_State *L = script->L;
  struct protected_call call = {.body = body, .arg = arg};
  if (!lua_checkstack(L, 8)) return holt_err_code(err, HOLT_ENOMEM);
  lua_pushcfunction(L, l_traceback);
  lua_pushcfunction(L, l_protected);
  lua_pushlightuserdata(L, &call);
  script->no_block++;
  lua_State *outer = holt__watch_enter(script, L);
  bool is_within = outer != NULL;
  if (is_within) script->watch.calls++;
  int status = lua_pcall(L, 1, 0, -3);
  if (is_within) script->watch.calls--;
  holt__watch_leave(script, outer);
  script->no_block--;
  int rc = 0;
  if (status != LUA_OK) {
    const char *text = lua_tostring(L, -1);
    rc = holt_err_set(err, HOLT_ESCRIPT, "%s", text != NULL ? text : "an error without a text");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return rc;
}

/* --- The error sink ------------------------------------------------------------------------------- */

void holt_script_set_sink(lua_State *L) {
  struct holt_script *script = holt_script_of(L);
  luaL_unref(L, LUA_REGISTRYINDEX, script->sink_ref);
  script->sink_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void holt_lua_push_failure(lua_State *L, lua_State *co) {
  lua_pushvalue(co, -1);
  lua_xmove(co, L, 1);
  int at = lua_gettop(L);
  if (lua_istable(L, at)) {
    lua_getfield(L, at, "value");
    lua_getfield(L, at, "traceback");
    lua_remove(L, at);
  } else {
    lua_pushliteral(L, "");
  }
}

struct report {
  struct holt_script *script;
  lua_State *co;
  const char *what;
  int owner_ref;
};

static void report_body(lua_State *L, void *arg) {
  struct report *report = arg;
  bool is_heard = false;
  holt_lua_push_failure(L, report->co);
  if (report->script->sink_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, report->script->sink_ref);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_pushstring(L, report->what);
    if (report->owner_ref == LUA_NOREF)
      lua_pushnil(L);
    else
      lua_rawgeti(L, LUA_REGISTRYINDEX, report->owner_ref);
    lua_call(L, 4, 1);
    is_heard = lua_type(L, -1) != LUA_TBOOLEAN || lua_toboolean(L, -1);
  }
  if (is_heard) return;
  const char *text = luaL_tolstring(L, 1, NULL);
  holt_log(HOLT_LOG_ERROR, "%s raised an error: %s\n%s", report->what, text, lua_tostring(L, 2));
}

void holt_script_report(struct holt_script *script, lua_State *co, const char *what, int owner_ref) {
  if (script->is_closing || !lua_checkstack(co, 2)) return;
  struct report report = {.script = script, .co = co, .what = what, .owner_ref = owner_ref};
  struct holt_err err = {0};
  if (holt_lua_call(script, report_body, &report, &err) != 0)
    holt_log(HOLT_LOG_ERROR, "%s raised an error, and telling of it failed: %s", what, err.message);
}
