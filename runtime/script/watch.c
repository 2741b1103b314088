/* watch.c - the watchdog: Lua that holds the loop is interrupted, the loop turned from within it.
 *
 * - The scheduler notes which coroutine runs. While Lua runs, the tick of the env looks at that note, inside
 * a signal handler. The loop has not turned since the last tick: it arms a hook on that coroutine, which Lua
 *   calls before its next instruction. (lua.c does the same to answer Ctrl-C.)
 * - The hook turns the loop without Lua, writes a warning once a run, raises an error if the process is to
 * end.
 * - Nothing runs at a tick: the tick stops; whoever enters Lua next starts it. So a node that sleeps has
 * none, and a busy one pays no system call for a handler.
 * - The hook is armed still: a C function takes long. The tick stops, it could only disturb; the hook starts
 * it.
 * - A hook of somebody else's (debug.sethook) is put back before ours does anything.
 * - A coroutine made while the hook was armed inherits it: it is taken away where it fires. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "script/script_impl.h"

enum { TICK_MS = 50, TICK_MIN_MS = 5 };
#define GRACE_NS ((uint64_t)1000000000) /* from being asked to the error */
#define FINAL_NS ((uint64_t)5000000000) /* to the end of the process */

/* --- In the signal handler ------------------------------------------------------------------------ */

static void on_hook(lua_State *L, lua_Debug *debug);

static void stop(struct holt_script *script) {
  script->watch.is_ticking = false;
  holt_env_tick(script->env, 0, NULL, NULL);
}

static void arm(struct holt__watch *watch, lua_State *L) {
  watch->before = lua_gethook(L);
  watch->before_mask = lua_gethookmask(L);
  watch->before_count = lua_gethookcount(L);
  watch->armed = L;
  /* By lines too: the signal may come where Lua has read the mask of the hook before and then counts ours
   * down. */
  lua_sethook(L, on_hook, LUA_MASKCOUNT | LUA_MASKLINE, 1);
}

static void on_tick(void *arg) {
  struct holt_script *script = arg;
  struct holt__watch *watch = &script->watch;
  lua_State *L = watch->running;
  bool has_turned = watch->turns != watch->seen_turns;
  watch->seen_turns = watch->turns;
  if (watch->runs != watch->seen_runs) watch->since_ns = holt_env_clock_ns(script->env);
  watch->seen_runs = watch->runs;
  if (has_turned) return;
  if (L == NULL || lua_gethook(L) == on_hook)
    stop(script);
  else
    arm(watch, L);
}

/* --- In the hook ---------------------------------------------------------------------------------- */

/* Where the coroutine is, in the script rather than in what we carry inside. */
static void find_where(lua_State *L, char out[128]) {
  lua_Debug at;
  out[0] = '\0';
  for (int level = 0; level < 100 && lua_getstack(L, level, &at); level++) {
    if (!lua_getinfo(L, "Sl", &at) || at.currentline < 0) continue;
    if (out[0] != '\0' && strncmp(at.source, "@lua/holt/", 10) == 0) continue;
    snprintf(out, 128, "%s:%d", at.short_src, at.currentline);
    if (strncmp(at.source, "@lua/holt/", 10) != 0) return;
  }
}

static void warn(struct holt_script *script, lua_State *L, uint64_t held_ns) {
  struct holt__watch *watch = &script->watch;
  if (watch->limit_ms == 0 || watch->is_hot || held_ns < watch->limit_ms * 1000000) return;
  watch->is_hot = true;
  watch->counts.slow++;
  find_where(L, watch->where);
  holt_log(
      HOLT_LOG_WARN,
      "%s has held the loop for %.2f s: no other handler, timer or task of this process runs until it waits "
      "or returns",
      watch->where, (double)held_ns / 1e9);
}

/* Somebody wants the process to end (`why`), has asked so often, and this has not let it for so long. May
 * raise. */
static void interrupt(struct holt_script *script, lua_State *L, const char *why, unsigned asked,
                      uint64_t waited_ns) {
  if (asked < 2 && waited_ns < GRACE_NS) return;
  char where[128];
  find_where(L, where);
  if (asked > 2 || waited_ns >= FINAL_NS) {
    holt_log(HOLT_LOG_ERROR, "%s: %s holds the loop and catches every error: the process ends here", why,
             where);
    fflush(NULL);
    _exit(1);
  }
  script->watch.was_interrupted = true;
  holt_lua_raise(L, HOLT_ECANCELED, "%s: ended by %s, for it held the loop", where, why);
}

/* Ctrl-C in plain lua5.4: its handler has set a hook on the main thread, which a task keeps from running. */
static bool is_host_interrupting(const struct holt_script *script, lua_State *L) {
  const int all = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
  if (!script->owns_env || L == script->L) return false;
  return lua_gethook(script->L) != NULL && lua_gethook(script->L) != on_hook &&
         lua_gethookmask(script->L) == all && lua_gethookcount(script->L) == 1;
}

/* Whether callbacks may run here: not while C code of ours called Lua in the middle of something. */
static bool may_turn(const struct holt_script *script) {
  return !script->is_closing && script->watch.calls == 0;
}

static void on_hook(lua_State *L, lua_Debug *debug) {
  (void)debug;
  struct holt_script *script = holt_script_of(L);
  struct holt__watch *watch = &script->watch;
  if (watch->armed != L) { /* inherited */
    lua_sethook(L, NULL, 0, 0);
    if (!watch->is_ticking) holt__watch_start(script);
    return;
  }
  watch->armed = NULL;
  lua_sethook(L, watch->before, watch->before_mask, watch->before_count);
  if (script->is_closing) return;
  uint64_t held_ns = holt_env_clock_ns(script->env) - watch->since_ns;
  bool is_alive = true;
  watch->running = NULL; /* the tick shall not arm anything while we are here */
  if (may_turn(script)) {
    watch->counts.turns++;
    is_alive = holt_env_turn_held(script->env);
  }
  warn(script, L, held_ns);
  watch->running = L;
  bool is_idle =
      !is_alive && L == script->L && watch->why == NULL; /* plain Lua that computes: no node, no task */
  if (is_idle)
    stop(script);
  else if (!watch->is_ticking)
    holt__watch_start(script);
  uint64_t now_ns = holt_env_clock_ns(script->env), ending_ns = now_ns - watch->end_ns;
  if (watch->why != NULL)
    interrupt(script, L, watch->why, watch->asked, now_ns - watch->asked_ns);
  else if (watch->ending != NULL) /* this, which began later or gave way once, holds the end up */
    interrupt(script, L, watch->ending, 1, held_ns < ending_ns ? held_ns : ending_ns);
  if (is_host_interrupting(script, L)) {
    char where[128];
    watch->host_hook = lua_gethook(script->L); /* the report of this error runs there, and is not meant */
    lua_sethook(script->L, NULL, 0, 0);
    find_where(L, where);
    holt_lua_raise(L, HOLT_ECANCELED, "%s: ended by Ctrl-C, for it held the loop", where);
  }
}

/* --- Everywhere else ------------------------------------------------------------------------------ */

void holt__watch_give_back(struct holt_script *script) {
  const int all = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
  lua_sethook(script->L, script->watch.host_hook, all, 1);
  script->watch.host_hook = NULL;
}

void holt__watch_start(struct holt_script *script) {
  struct holt__watch *watch = &script->watch;
  if (script->is_closing || script->env == NULL) return; /* without an env nothing is held up */
  watch->is_ticking = true;
  holt_env_tick(script->env, watch->tick_ms, on_tick, script);
}

static void tell(lua_State *L, void *arg) {
  const struct holt__watch *watch = arg;
  lua_rawgeti(L, LUA_REGISTRYINDEX, watch->sink_ref);
  lua_pushstring(L, watch->where);
  lua_pushnumber(L, (lua_Number)watch->told_ns / 1e9);
  lua_call(L, 2, 0);
}

static bool run_source(struct holt_script *script, struct holt_script_source *source) {
  (void)source;
  struct holt_err err = {0};
  if (script->watch.sink_ref != LUA_NOREF && holt_lua_call(script, tell, &script->watch, &err) != 0)
    holt_log(HOLT_LOG_ERROR, "telling of a slow handler failed: %s", err.message);
  return false;
}

void holt__watch_over(struct holt_script *script) {
  struct holt__watch *watch = &script->watch;
  watch->is_hot = false;
  watch->told_ns = holt_env_clock_ns(script->env) - watch->since_ns;
  if (watch->told_ns > watch->counts.longest_ns) watch->counts.longest_ns = watch->told_ns;
  holt_source_ready(script, &watch->source);
}

void holt__watch_init(struct holt_script *script) {
  script->watch.sink_ref = LUA_NOREF;
  script->watch.tick_ms = TICK_MS;
  holt_source_init(&script->watch.source, run_source);
}

void holt__watch_close(struct holt_script *script) {
  script->watch.running = NULL;
  stop(script);
}

void holt_watch_set(struct holt_script *script, uint64_t tick_ms, uint64_t limit_ms) {
  struct holt__watch *watch = &script->watch;
  watch->limit_ms = limit_ms;
  watch->tick_ms = tick_ms == 0 ? TICK_MS : tick_ms < TICK_MIN_MS ? TICK_MIN_MS : tick_ms;
  if (watch->running != NULL) holt__watch_start(script);
}

void holt_watch_excuse(struct holt_script *script) {
  script->watch.since_ns = holt_env_clock_ns(script->env);
}

void holt_watch_on_slow(lua_State *L) {
  struct holt__watch *watch = &holt_script_of(L)->watch;
  luaL_unref(L, LUA_REGISTRYINDEX, watch->sink_ref);
  watch->sink_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void holt_watch_counts(const struct holt_script *script, struct holt_watch_counts *out) {
  *out = script->watch.counts;
}

void holt_script_interrupt(struct holt_script *script, const char *why) {
  struct holt__watch *watch = &script->watch;
  watch->why = why;
  if (why == NULL)
    watch->asked = 0;
  else if (watch->asked++ == 0)
    watch->asked_ns = holt_env_clock_ns(script->env);
}

void holt_script_end(struct holt_script *script, const char *why) {
  struct holt__watch *watch = &script->watch;
  if (watch->ending == NULL) watch->end_ns = holt_env_clock_ns(script->env);
  watch->ending = why;
}

bool holt_script_was_interrupted(const struct holt_script *script) {
  return script->watch.was_interrupted;
}
