/* system.c - the small things: log, errors, memory, signals, chance, the end of the process. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "binding/binding.h"

/* --- log and errors ------------------------------------------------------------------------------- */

static int l_log(lua_State *L) {
  int level = holt_log_level_from_word(luaL_checkstring(L, 1));
  luaL_argcheck(L, level >= 0, 1, "not a log level: trace, debug, info, warn, error");
  holt_log((enum holt_log_level)level, "%s", luaL_checkstring(L, 2));
  return 0;
}

/* log_level([word]) -> the level in force before */
static int l_log_level(lua_State *L) {
  const char *before = holt_log_level_word(holt_log_level());
  if (!lua_isnoneornil(L, 1)) {
    int level = holt_log_level_from_word(luaL_checkstring(L, 1));
    luaL_argcheck(L, level >= 0, 1, "not a log level: trace, debug, info, warn, error, silent");
    holt_log_set_level((enum holt_log_level)level);
  }
  lua_pushstring(L, before);
  return 1;
}

static int l_log_enabled(lua_State *L) {
  int level = holt_log_level_from_word(luaL_checkstring(L, 1));
  lua_pushboolean(L, level >= (int)holt_log_level());
  return 1;
}

static int l_mark_err(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  holt_lua_mark_err(L);
  return 1;
}

static int l_set_error_sink(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  holt_script_set_sink(L);
  return 0;
}

/* --- memory, chance, the end ---------------------------------------------------------------------- */

static int l_memory(lua_State *L) {
  struct holt_memory memory;
  holt_script_memory(holt_script_of(L), &memory);
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, (lua_Integer)memory.bytes);
  lua_setfield(L, -2, "bytes");
  lua_pushinteger(L, (lua_Integer)memory.peak_bytes);
  lua_setfield(L, -2, "peak_bytes");
  lua_pushinteger(L, (lua_Integer)memory.limit_bytes);
  lua_setfield(L, -2, "limit_bytes");
  return 1;
}

static int l_limit_memory(lua_State *L) {
  lua_Integer bytes = luaL_checkinteger(L, 1);
  luaL_argcheck(L, bytes >= 0, 1, "a number of bytes, 0 for no limit");
  holt_script_limit_memory(holt_script_of(L), (size_t)bytes);
  return 0;
}

static int l_random(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)holt_env_random(holt_script_env(holt_script_of(L))));
  return 1;
}

static int l_wall(lua_State *L) {
  lua_pushnumber(L, holt_env_wall_s(holt_script_env(holt_script_of(L))));
  return 1;
}

/* One turn of the loop and what it made ready; only where nothing of the scheduler is below: for the main
 * thread of plain Lua. True while something is left that could happen. */
static int l_turn(lua_State *L) {
  struct holt_script *script = holt_script_of(L);
  if (lua_isyieldable(L) || holt_task_current(script) != NULL)
    return luaL_error(L, "the loop turns by itself here; this call is for the main thread of plain Lua");
  holt_wait_check(L);
  bool wait = lua_isnoneornil(L, 1) || lua_toboolean(L, 1);
  lua_pushboolean(L, holt_script_turn(script, wait) && !holt_script_is_exiting(script, NULL));
  return 1;
}

static void exit_cancel(struct holt_wait *wait) {
  free(wait);
}

static int exit_finish(lua_State *L, struct holt_wait *wait) {
  (void)L;
  free(wait);
  return 0;
}

/* The process ends with this code after the present turn; the caller never goes on. */
static int l_exit(lua_State *L) {
  lua_Integer code = luaL_optinteger(L, 1, 0);
  luaL_argcheck(L, code >= 0 && code <= 255, 1, "an exit code is 0 to 255");
  struct holt_script *script = holt_script_of(L);
  holt_script_exit(script, (int)code);
  if (!lua_isyieldable(L)) return 0;
  holt_wait_check(L);
  struct holt_wait *wait = holt_alloc(sizeof *wait);
  holt_wait_init(wait, L, exit_finish, exit_cancel);
  return holt_wait_park(L, wait);
}

/* exit_code() -> the code that exit was called with, or nil */
static int l_exit_code(lua_State *L) {
  int code = 0;
  if (!holt_script_is_exiting(holt_script_of(L), &code)) return 0;
  lua_pushinteger(L, code);
  return 1;
}

/* --- the watchdog --------------------------------------------------------------------------------- */

/* watch(tick, limit): seconds, 0 for the default tick and for no warning */
static int l_watch(lua_State *L) {
  uint64_t tick_ms = holt_lua_check_seconds(L, 1), limit_ms = holt_lua_check_seconds(L, 2);
  holt_watch_set(holt_script_of(L), tick_ms, limit_ms);
  return 0;
}

/* on_slow(fn): fn(where, seconds) once a run that held the loop is over */
static int l_on_slow(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  holt_watch_on_slow(L);
  return 0;
}

/* watch_counts() -> slow runs, seconds the longest took, turns of the loop from within a run */
static int l_watch_counts(lua_State *L) {
  struct holt_watch_counts counts;
  holt_watch_counts(holt_script_of(L), &counts);
  lua_pushinteger(L, (lua_Integer)counts.slow);
  lua_pushnumber(L, (lua_Number)counts.longest_ns / 1e9);
  lua_pushinteger(L, (lua_Integer)counts.turns);
  return 3;
}

/* was_interrupted() -> whether what held the loop was ended by an error, for a final signal */
static int l_was_interrupted(lua_State *L) {
  lua_pushboolean(L, holt_script_was_interrupted(holt_script_of(L)));
  return 1;
}

/* checksum(before, text) -> CRC-32C of `text` that follows what has the checksum `before`; begin with 0 */
static int l_checksum(lua_State *L) {
  size_t len;
  uint32_t before = (uint32_t)luaL_checkinteger(L, 1);
  const char *text = luaL_checklstring(L, 2, &len);
  lua_pushinteger(L, holt_crc32c(before, text, len));
  return 1;
}

/* --- signals -------------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  int number;
} signal_names[] = {{"SIGINT", SIGINT},   {"SIGTERM", SIGTERM},   {"SIGHUP", SIGHUP},  {"SIGUSR1", SIGUSR1},
                    {"SIGUSR2", SIGUSR2}, {"SIGWINCH", SIGWINCH}, {"SIGCONT", SIGCONT}};
#define SIGNAL_COUNT (sizeof signal_names / sizeof signal_names[0])

struct signal_watch {
  struct holt_script_source source;
  struct holt_script *script;
  int number;
  const char *name;
  int ref;       /* the handler */
  bool is_final; /* what holds the loop is ended for it */
  bool is_end;   /* for it ends the process */
  unsigned pending;
};

struct signal_table {
  struct signal_watch watches[SIGNAL_COUNT];
};

static int signal_push(lua_State *L, void *arg) {
  struct signal_watch *watch = arg;
  lua_rawgeti(L, LUA_REGISTRYINDEX, watch->ref);
  lua_pushstring(L, watch->name);
  return 1;
}

static void signal_ended(void *arg, struct holt_task *task, lua_State *co, bool ok, int count) {
  (void)task;
  (void)count;
  struct signal_watch *watch = arg;
  if (!ok) holt_script_report(watch->script, co, watch->name, LUA_NOREF);
}

static const struct holt_job signal_job = {.push = signal_push, .ended = signal_ended};

static bool signal_run(struct holt_script *script, struct holt_script_source *source) {
  struct signal_watch *watch = HOLT_CONTAINER(source, struct signal_watch, source);
  if (watch->is_final) holt_script_interrupt(script, NULL);
  if (watch->is_end) holt_script_end(script, watch->name);
  while (watch->pending > 0) {
    watch->pending--;
    if (watch->ref != LUA_NOREF) holt_task_run(script, &signal_job, watch, NULL);
  }
  return false;
}

static void on_signal(void *arg, int number) {
  (void)number;
  struct signal_watch *watch = arg;
  watch->pending++;
  if (watch->is_final) holt_script_interrupt(watch->script, watch->name);
  holt_source_ready(watch->script, &watch->source);
}

static int l_signals_gc(lua_State *L) {
  struct signal_table *table = lua_touserdata(L, 1);
  for (size_t i = 0; i < SIGNAL_COUNT; i++) {
    struct signal_watch *watch = &table->watches[i];
    if (watch->ref != LUA_NOREF) holt_env_signal(holt_script_env(watch->script), watch->number, NULL, NULL);
    watch->ref = LUA_NOREF;
    watch->pending = 0;
    holt_source_remove(&watch->source);
  }
  return 0;
}

/* on_signal(name, fn | nil, is_final): upvalue 1 is the signal table. Final: fn ends the process, and what
 * holds the loop is ended by an error, so that it can; "now": what holds the loop now, for the process goes
 * on. */
static int l_on_signal(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  struct signal_table *table = lua_touserdata(L, lua_upvalueindex(1));
  for (size_t i = 0; i < SIGNAL_COUNT; i++) {
    struct signal_watch *watch = &table->watches[i];
    if (strcmp(watch->name, name) != 0) continue;
    struct holt_env *env = holt_script_env(watch->script);
    luaL_unref(L, LUA_REGISTRYINDEX, watch->ref);
    watch->ref = LUA_NOREF;
    bool is_set = !lua_isnoneornil(L, 2);
    int rc = holt_env_signal(env, watch->number, is_set ? on_signal : NULL, is_set ? watch : NULL);
    if (rc != 0) return holt_lua_fail_code(L, rc);
    if (is_set) {
      watch->is_final = lua_toboolean(L, 3);
      watch->is_end = watch->is_final && lua_isboolean(L, 3);
      lua_settop(L, 2);
      watch->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_pushboolean(L, 1);
    return 1;
  }
  return luaL_argerror(L, 1,
                       "not a signal we know: SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT");
}

static void push_on_signal(lua_State *L) {
  struct signal_table *table = lua_newuserdatauv(L, sizeof *table, 0);
  struct holt_script *script = holt_script_of(L);
  for (size_t i = 0; i < SIGNAL_COUNT; i++) {
    struct signal_watch *watch = &table->watches[i];
    *watch = (struct signal_watch){
        .script = script, .number = signal_names[i].number, .name = signal_names[i].name, .ref = LUA_NOREF};
    holt_source_init(&watch->source, signal_run);
  }
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_signals_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pushcclosure(L, l_on_signal, 1);
}

void holt_binding_system(lua_State *L) {
  static const luaL_Reg functions[] = {{"log", l_log},
                                       {"log_level", l_log_level},
                                       {"log_enabled", l_log_enabled},
                                       {"mark_err", l_mark_err},
                                       {"set_error_sink", l_set_error_sink},
                                       {"memory", l_memory},
                                       {"limit_memory", l_limit_memory},
                                       {"random", l_random},
                                       {"wall", l_wall},
                                       {"turn", l_turn},
                                       {"exit", l_exit},
                                       {"exit_code", l_exit_code},
                                       {"watch", l_watch},
                                       {"on_slow", l_on_slow},
                                       {"watch_counts", l_watch_counts},
                                       {"was_interrupted", l_was_interrupted},
                                       {"checksum", l_checksum},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  push_on_signal(L);
  lua_setfield(L, -2, "on_signal");
}
