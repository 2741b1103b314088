/* The watchdog, its tick given by hand: what the hook turns, tells and leaves alone. The clock is virtual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "binding/binding.h"
#include "env/env_impl.h"
#include "env/sim.h"

static struct {
  struct holt_sim *sim;
  struct holt_env *env;
  struct holt_env_ops ops; /* of the simulated host, with a tick */
  struct holt_script *script;
  uint64_t interval_ms, clock_ns;
  unsigned starts;
  char log[2000];
} room;

static void set_tick(struct holt_env *env, uint64_t interval_ms) {
  (void)env;
  room.interval_ms = interval_ms;
  if (interval_ms > 0) room.starts++;
}

static uint64_t clock_ns(struct holt_env *env) {
  (void)env;
  return room.clock_ns;
}

/* One interval passes: what the signal handler does. Called from Lua, so in the middle of it. */
static void tick(void) {
  if (room.interval_ms == 0) return;
  room.clock_ns += room.interval_ms * 1000000;
  room.env->tick_cb(room.env->tick_arg);
}

static int l_tick(lua_State *L) {
  for (lua_Integer i = luaL_optinteger(L, 1, 1); i > 0; i--) tick();
  return 0;
}

static void keep_log(void *arg, enum holt_log_level level, const char *text) {
  (void)arg, (void)level;
  strncat(room.log, text, sizeof room.log - strlen(room.log) - 1);
}

static void prepare(lua_State *L, void *arg) {
  (void)arg;
  holt_binding_open(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "holt.core");
  lua_pushvalue(L, -2);
  lua_setglobal(L, "core");
  lua_pushcfunction(L, l_tick);
  lua_setglobal(L, "tick");
}

static int open_room(void **state) {
  (void)state;
  static const struct holt_sim_config config = {.seed = 1};
  memset(&room, 0, sizeof room);
  room.sim = holt_sim_new(&config);
  room.env = holt_sim_host(room.sim, "n1");
  room.ops = *room.env->ops;
  room.ops.tick = set_tick;
  room.ops.clock_ns = clock_ns;
  room.env->ops = &room.ops;
  room.clock_ns = 1000000000;
  room.script = holt_script_new(room.env);
  assert_int_equal(holt_lua_call(room.script, prepare, NULL, NULL), 0);
  holt_watch_set(room.script, 50, 120);
  holt_log_set_sink(keep_log, NULL);
  return 0;
}

static int close_room(void **state) {
  (void)state;
  holt_log_set_sink(NULL, NULL);
  holt_script_free(room.script);
  holt_env_free(room.env);
  holt_sim_free(room.sim);
  return 0;
}

/* --- A piece of Lua as a task ---------------------------------------------------------------------- */

struct piece {
  const char *code;
  bool has_ended, is_ok;
  char result[400];
};

static int piece_push(lua_State *L, void *arg) {
  const struct piece *piece = arg;
  if (luaL_loadbuffer(L, piece->code, strlen(piece->code), "@piece.lua") != LUA_OK) return lua_error(L);
  return 0;
}

static void piece_ended(void *arg, struct holt_task *task, lua_State *co, bool ok, int count) {
  (void)task;
  struct piece *piece = arg;
  piece->has_ended = true;
  piece->is_ok = ok;
  if (!ok && lua_istable(co, -1)) {
    lua_getfield(co, -1, "value");
    snprintf(piece->result, sizeof piece->result, "%s", luaL_tolstring(co, -1, NULL));
  } else if (count > 0) {
    snprintf(piece->result, sizeof piece->result, "%s", luaL_tolstring(co, -count, NULL));
  }
}

static const struct holt_job piece_job = {.push = piece_push, .ended = piece_ended};

/* Turns until it has ended; the room's events last as long as it waits. */
static struct piece run(const char *code) {
  struct piece piece = {.code = code};
  assert_non_null(holt_task_new(room.script, &piece_job, &piece));
  for (int i = 0; i < 1000 && !piece.has_ended; i++) holt_script_turn(room.script, true);
  assert_true(piece.has_ended);
  return piece;
}

static void expect(const char *code, const char *result) {
  struct piece piece = run(code);
  assert_string_equal(piece.result, result);
  assert_true(piece.is_ok);
}

static struct holt_watch_counts counts(void) {
  struct holt_watch_counts out;
  holt_watch_counts(room.script, &out);
  return out;
}

/* --- Turning ---------------------------------------------------------------------------------------- */

static void the_loop_turns_within_a_run_from_its_second_tick_on(void **state) {
  (void)state;
  expect("tick() return select(3, core.watch_counts())", "0");
  expect("tick() local i = 0 tick() i = 1 tick() i = 2 return select(3, core.watch_counts())", "2");
}

static void what_becomes_ready_meanwhile_waits(void **state) {
  (void)state;
  expect("local order = {}\n"
         "core.go(function() order[#order + 1] = 'task' end)\n"
         "local gate = core.gate()\n"
         "core.go(function() core.sleep(0) order[#order + 1] = 'timer' gate:open() end)\n"
         "core.sleep(0)\n" /* both are under way now */
         "local n = #order\n"
         "tick(3) local i = 0 tick() i = 1 tick() i = 2\n"
         "assert(#order == n, 'something ran')\n"
         "assert(select(3, core.watch_counts()) > 0)\n"
         "gate:wait()\n"
         "return table.concat(order, ' ')",
         "task timer");
}

static struct holt_timer timer;
static unsigned timers_run;
static bool was_held;

static void on_timer(void *arg) {
  (void)arg;
  was_held = holt_env_is_held(room.env);
  timers_run++;
}

static int l_timer(lua_State *L) {
  (void)L;
  holt_timer_init(&timer, room.env, on_timer, NULL);
  holt_timer_start(&timer, 0);
  return 0;
}

static void callbacks_run_and_know_that_they_are_within_a_run(void **state) {
  (void)state;
  timers_run = 0;
  was_held = false;
  lua_register(holt_script_state(room.script), "timer", l_timer);
  expect("tick() timer() tick() local i = 1 return i", "1");
  assert_int_equal(timers_run, 1);
  assert_true(was_held);
  assert_false(holt_env_is_held(room.env));
}

/* --- Telling ---------------------------------------------------------------------------------------- */

static void a_long_run_is_named_once_and_told_when_it_is_over(void **state) {
  (void)state;
  expect("core.on_slow(function(where, seconds) told = (told or '') .. where .. ' ' .. seconds .. ';' end)\n"
         "tick()\n"
         "for i = 1, 10 do\n"
         "  tick()\n"
         "end\n"
         "return tostring(told)",
         "nil");
  expect("core.sleep(0) return told", "piece.lua:3 0.5;"); /* ten ticks after it was first seen */
  assert_int_equal(counts().slow, 1);
  assert_int_equal(counts().longest_ns, 500000000);
  assert_int_equal(counts().turns, 10);
  assert_non_null(strstr(room.log, "piece.lua:3 has held the loop for 0.15 s"));
  assert_null(strstr(strstr(room.log, "has held") + 1, "has held"));
}

static void short_runs_one_behind_the_other_are_not_named(void **state) {
  (void)state;
  expect("local left = 20\n"
         "local gate = core.gate()\n"
         "for i = 1, 20 do core.go(function() tick() left = left - 1 if left == 0 then gate:open() end end) "
         "end\n"
         "gate:wait() return left",
         "0");
  assert_int_equal(counts().slow, 0);
  assert_true(counts().turns > 10); /* but the loop turns: they hold it together */
}

/* --- The tick --------------------------------------------------------------------------------------- */

static void the_tick_stops_where_nothing_runs_and_starts_with_the_next_run(void **state) {
  (void)state;
  expect("return 1", "1");
  assert_int_equal(room.interval_ms, 50);
  tick(); /* the loop has turned since */
  assert_int_equal(room.interval_ms, 50);
  tick();
  assert_int_equal(room.interval_ms, 0);
  unsigned before = room.starts;
  expect("return 1", "1");
  assert_int_equal(room.interval_ms, 50);
  assert_int_equal(room.starts, before + 1);
}

static void a_long_c_call_is_left_in_peace(void **state) {
  (void)state;
  /* the third tick finds the hook armed still: it is the last one of this call */
  expect("tick(100) local i = 1 local turns = select(3, core.watch_counts()) tick() i = 2\n"
         "return turns .. ' ' .. select(3, core.watch_counts())",
         "1 2");
}

static void a_coroutine_that_ends_while_armed_leaves_the_watch_on_its_resumer(void **state) {
  (void)state;
  expect("tick()\n"
         "local co = coroutine.wrap(tick)\n" /* a C function: the hook never fires in it */
         "co(3)\n"
         "local before = select(3, core.watch_counts())\n"
         "tick() local i = 1\n"
         "return select(3, core.watch_counts()) - before",
         "1");
}

static void a_hook_of_the_users_is_put_back(void **state) {
  (void)state;
  expect("local lines = 0\n"
         "local hook = function() lines = lines + 1 end\n"
         "debug.sethook(hook, 'l')\n"
         "tick()\n"
         "tick()\n"
         "tick()\n"
         "local f, mask, count = debug.gethook()\n"
         "debug.sethook()\n"
         "assert(f == hook and mask == 'l' and count == 0)\n"
         "return lines .. ' ' .. select(3, core.watch_counts())",
         "5 2");
}

static void an_inherited_hook_goes_without_a_word(void **state) {
  (void)state;
  expect("tick()\n"
         "local co\n"
         "local t = setmetatable({}, { __index = function() return 0 end })\n"
         "tick(1)\n" /* armed: fires on the next line */
         "co = coroutine.create(function() local a = 1 return tostring(debug.gethook()) end)\n"
         "return select(2, coroutine.resume(co))",
         "nil");
}

/* --- Ending ----------------------------------------------------------------------------------------- */

static int l_interrupt(lua_State *L) {
  (void)L;
  holt_script_interrupt(room.script, "SIGTERM");
  return 0;
}

static void being_asked_to_end_raises_in_what_holds_the_loop_after_a_second(void **state) {
  (void)state;
  lua_register(holt_script_state(room.script), "interrupt", l_interrupt);
  struct piece piece = run("interrupt()\n"
                           "for i = 1, 1000 do\n"
                           "  ticks = i tick()\n"
                           "end");
  assert_false(piece.is_ok);
  assert_string_equal(piece.result, "piece.lua:2: ended by SIGTERM, for it held the loop [canceled]");
  assert_true(holt_script_was_interrupted(room.script));
  holt_script_interrupt(room.script, NULL);
  expect("return ticks", "20"); /* of 50 ms */
}

static void being_asked_twice_raises_at_once_and_again_for_who_catches_it(void **state) {
  (void)state;
  lua_register(holt_script_state(room.script), "interrupt", l_interrupt);
  expect("tick() interrupt() interrupt()\n"
         "local caught = 0\n"
         "for i = 1, 3 do\n"
         "  local ok, err = pcall(function() tick() local x = 1 end)\n"
         "  if not ok and err.code == 'canceled' then caught = caught + 1 end\n"
         "end\n"
         "return caught",
         "3");
  holt_script_interrupt(room.script, NULL);
  expect("tick() tick() tick() return 'on'", "on");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_room, close_room)
  const struct CMUnitTest tests[] = {
      TEST(the_loop_turns_within_a_run_from_its_second_tick_on),
      TEST(what_becomes_ready_meanwhile_waits),
      TEST(callbacks_run_and_know_that_they_are_within_a_run),
      TEST(a_long_run_is_named_once_and_told_when_it_is_over),
      TEST(short_runs_one_behind_the_other_are_not_named),
      TEST(the_tick_stops_where_nothing_runs_and_starts_with_the_next_run),
      TEST(a_long_c_call_is_left_in_peace),
      TEST(a_coroutine_that_ends_while_armed_leaves_the_watch_on_its_resumer),
      TEST(a_hook_of_the_users_is_put_back),
      TEST(an_inherited_hook_goes_without_a_word),
      TEST(being_asked_to_end_raises_in_what_holds_the_loop_after_a_second),
      TEST(being_asked_twice_raises_at_once_and_again_for_who_catches_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
