/* The scheduler on a virtual clock: tasks, waits, memory, and what remains when a state is closed. */
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
#include "env/sim.h"
#include "script/blocks.h"

struct room {
  struct holt_sim *sim;
  struct holt_env *env;
  struct holt_script *script;
};

static void open_core(lua_State *L, void *arg) {
  (void)arg;
  holt_binding_open(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "holt.core");
  holt_binding_add_searcher(L, true);
}

static int open_room(void **state) {
  static const struct holt_sim_config config = {.seed = 1};
  struct room *room = holt_alloc(sizeof *room);
  room->sim = holt_sim_new(&config);
  room->env = holt_sim_host(room->sim, "n1");
  room->script = holt_script_new(room->env);
  assert_non_null(room->script);
  struct holt_err err;
  assert_int_equal(holt_lua_call(room->script, open_core, NULL, &err), 0);
  *state = room;
  return 0;
}

static int close_room(void **state) {
  struct room *room = *state;
  if (room->script != NULL) holt_script_free(room->script);
  holt_env_free(room->env);
  holt_sim_free(room->sim);
  free(room);
  return 0;
}

/* --- A piece of Lua as a task --------------------------------------------------------------------- */

struct piece {
  const char *code;
  bool has_ended, is_ok;
  char result[400]; /* the first result, or the message of the failure */
};

static int piece_push(lua_State *L, void *arg) {
  const struct piece *piece = arg;
  if (luaL_loadstring(L, piece->code) != LUA_OK) return lua_error(L);
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

static void settle(struct room *room) {
  do holt_script_run_ready(room->script);
  while (holt_script_has_ready(room->script) || holt_sim_step(room->sim));
}

static struct piece run(struct room *room, const char *code) {
  struct piece piece = {.code = code};
  assert_non_null(holt_task_new(room->script, &piece_job, &piece));
  settle(room);
  assert_true(piece.has_ended);
  return piece;
}

static void expect(struct room *room, const char *code, const char *result) {
  struct piece piece = run(room, code);
  assert_string_equal(piece.result, result);
  assert_true(piece.is_ok);
}

/* --- Time ----------------------------------------------------------------------------------------- */

static void a_sleep_takes_as_long_as_it_says(void **state) {
  struct room *room = *state;
  expect(room, "local c = require 'holt.core' local t0 = c.now() c.sleep(3600) return c.now() - t0",
         "3600.0");
}

static void every_keeps_its_grid_when_a_run_takes_long(void **state) {
  expect(
      *state,
      "local t = require 'holt.tasks' local c = require 'holt.core' local at, t0 = {}, c.now() local timer\n"
      "timer = t.every(10, function()\n"
      "  at[#at + 1] = math.floor(c.now() - t0 + 0.5)\n"
      "  if #at == 2 then c.sleep(25) end\n" /* begins at 20, ends at 45: 30 and 40 fall away */
      "  if #at == 4 then timer:cancel() end\n"
      "end)\n"
      "c.sleep(200) return table.concat(at, ' ')",
      "10 20 50 60");
}

static void tasks_go_on_in_the_order_they_were_woken(void **state) {
  expect(*state,
         "local c = require 'holt.core' local out, gate = {}, c.gate()\n"
         "for i = 1, 5 do c.go(function() gate:wait() out[#out + 1] = i end) end\n"
         "c.sleep(1) gate:open() c.sleep(1) return table.concat(out, ' ')",
         "1 2 3 4 5");
}

static void a_plain_yield_of_a_task_lets_the_others_go_first(void **state) {
  expect(*state,
         "local c = require 'holt.core' local out = {}\n"
         "c.go(function() out[#out + 1] = 'a1' coroutine.yield() out[#out + 1] = 'a2' end)\n"
         "c.go(function() out[#out + 1] = 'b' end)\n"
         "c.sleep(1) return table.concat(out, ' ')",
         "a1 b a2");
}

static void a_join_times_out_at_its_time(void **state) {
  expect(*state,
         "local c = require 'holt.core'\n"
         "local task = c.go(c.sleep, 100)\n"
         "local t0 = c.now() local ok, err = task:join(7)\n"
         "return tostring(ok) .. ' ' .. err.code .. ' ' .. c.now() - t0",
         "nil timeout 7.0");
}

/* --- Memory --------------------------------------------------------------------------------------- */

static void a_state_past_its_limit_raises_and_lives_on(void **state) {
  struct room *room = *state;
  holt_script_limit_memory(room->script, 4u << 20);
  struct piece piece = run(room, "local t = {} for i = 1, 1e7 do t[i] = ('x'):rep(100) .. i end");
  assert_false(piece.is_ok);
  assert_non_null(strstr(piece.result, "not enough memory"));
  expect(room, "collectgarbage() return 'alive'", "alive");
  struct holt_memory memory;
  holt_script_memory(room->script, &memory);
  assert_true(memory.peak_bytes <= 4u << 20);
  assert_true(memory.bytes < 1u << 20);
}

static void every_failing_allocation_is_survived(void **state) {
  struct room *room = *state;
  run(room, "require 'holt.tasks' require 'holt.json' collectgarbage()");
  for (size_t room_bytes = 0; room_bytes < 60000; room_bytes += 500) {
    struct holt_memory memory;
    lua_gc(holt_script_state(room->script), LUA_GCCOLLECT);
    holt_script_memory(room->script, &memory);
    holt_script_limit_memory(room->script, memory.bytes + room_bytes);
    struct piece piece = {
        .code = "local c = require 'holt.core'\n"
                "local list = {}\n"
                "for i = 1, 20 do list[i] = c.go_quiet(function(...)\n"
                "  c.sleep(0.01) return c.msgpack_decode(c.msgpack_encode({ i, x = ... })) end, i) end\n"
                "for i = 1, 20 do assert(list[i]:join()) end\n"
                "return 'done'"};
    struct holt_task *task = holt_task_new(room->script, &piece_job, &piece);
    settle(room);
    if (task != NULL) assert_true(piece.has_ended);
    holt_script_limit_memory(room->script, 0);
    settle(room);
  }
  expect(room, "return 'alive'", "alive");
  lua_gc(holt_script_state(room->script), LUA_GCCOLLECT);
  assert_int_equal(holt_script_task_count(room->script), 0);
}

/* --- Ends ----------------------------------------------------------------------------------------- */

static unsigned cancels;

static void count_cancel(struct holt_wait *wait) {
  cancels++;
  free(wait);
}

static int never_finish(lua_State *L, struct holt_wait *wait) {
  (void)L;
  (void)wait;
  fail();
  return 0;
}

static int l_wait_for_ever(lua_State *L) {
  holt_wait_check(L);
  struct holt_wait *wait = holt_alloc(sizeof *wait);
  holt_wait_init(wait, L, never_finish, count_cancel);
  return holt_wait_park(L, wait);
}

static int wait_push(lua_State *L, void *arg) {
  (void)arg;
  lua_pushcfunction(L, l_wait_for_ever);
  return 0;
}

static void wait_ended(void *arg, struct holt_task *task, lua_State *co, bool ok, int count) {
  (void)task;
  (void)count;
  assert_false(ok);
  assert_true(lua_isnil(co, -1) || lua_istable(co, -1));
  ++*(unsigned *)arg;
}

static const struct holt_job wait_job = {.push = wait_push, .ended = wait_ended};

static void closing_the_state_cancels_every_wait_once(void **state) {
  struct room *room = *state;
  unsigned ended = 0;
  cancels = 0;
  struct holt_task *first = NULL;
  for (int i = 0; i < 10; i++) {
    struct holt_task *task = holt_task_new(room->script, &wait_job, &ended);
    if (first == NULL) first = task;
  }
  settle(room);
  assert_int_equal(ended, 0);
  assert_int_equal(holt_task_state(first), HOLT_TASK_PARKED);
  holt_task_cancel(first);
  settle(room);
  assert_int_equal(ended, 1);
  assert_int_equal(cancels, 1);
  holt_script_free(room->script);
  room->script = NULL;
  assert_int_equal(ended, 10);
  assert_int_equal(cancels, 10);
}

static void a_state_closes_cleanly_with_timers_gates_and_nodes_open(void **state) {
  struct room *room = *state;
  struct piece piece = {.code = "local h = require 'holt'\n"
                                "local node = h.node { name = 'n1', listen = 'n1:1', insecure = true }\n"
                                "local other = h.node { name = 'n2', connect = 'n1:1' }\n"
                                "node:on('>', function() h.sleep(1e6) end)\n"
                                "h.sleep(1) other:emit('x', 1) h.sleep(1)\n"
                                "h.every(1, function() end) h.after(1e9, print)\n"
                                "h.go(function() require 'holt.core'.gate():wait() end)\n"
                                "return #node:peers()"};
  assert_non_null(holt_task_new(room->script, &piece_job, &piece));
  for (int i = 0; i < 20000 && !piece.has_ended; i++) {
    holt_script_run_ready(room->script);
    holt_sim_step(room->sim);
  }
  assert_string_equal(piece.result, "1");
  assert_true(holt_script_task_count(room->script) >= 3);
}

/* --- Errors --------------------------------------------------------------------------------------- */

static char logged[2000];

static void keep_log(void *arg, enum holt_log_level level, const char *text) {
  (void)arg;
  (void)level;
  snprintf(logged, sizeof logged, "%s", text);
}

static void an_unheard_failure_is_logged_with_its_place(void **state) {
  holt_log_set_sink(keep_log, NULL);
  run(*state, "require 'holt.core'.go(function() local function deep() error('lost') end deep() end)");
  holt_log_set_sink(NULL, NULL);
  assert_non_null(strstr(logged, "lost"));
  assert_non_null(strstr(logged, "stack traceback"));
  assert_non_null(strstr(logged, "'deep'"));
}

static void raise_here(lua_State *L, void *arg) {
  (void)arg;
  luaL_error(L, "inside %s", "body");
}

static void block_here(lua_State *L, void *arg) {
  (void)arg;
  lua_pushcfunction(L, l_wait_for_ever);
  lua_call(L, 0, 0);
}

static void the_door_from_c_to_lua_gives_errors_back_and_cannot_wait(void **state) {
  struct room *room = *state;
  struct holt_err err;
  assert_int_equal(holt_lua_call(room->script, raise_here, NULL, &err), HOLT_ESCRIPT);
  assert_non_null(strstr(err.message, "inside body"));
  assert_int_equal(holt_lua_call(room->script, block_here, NULL, &err), HOLT_ESCRIPT);
  assert_non_null(strstr(err.message, "cannot_block"));
  assert_int_equal(lua_gettop(holt_script_state(room->script)), 0);
}

/* --- Blocks --------------------------------------------------------------------------------------- */

/* Blocks of every size come, change their size and go, in a mixed order; each keeps what was written into it.
 */
static void blocks_keep_their_bytes(void **state) {
  (void)state;
  struct holt_blocks blocks = {0};
  uint8_t *held[64] = {0};
  size_t sizes[64] = {0};
  unsigned next = 1;
  for (unsigned round = 0; round < 20000; round++) {
    next = next * 1103515245u + 12345u;
    unsigned at = next >> 8 & 63;
    size_t size = next >> 16 & 1023;
    for (size_t i = 0; i < sizes[at]; i++) assert_int_equal(held[at][i], at);
    if (size == 0 && sizes[at] > 0) {
      holt_block_give(&blocks, held[at], sizes[at]);
    } else if (size > 0) {
      held[at] = sizes[at] == 0 ? holt_block_take(&blocks, size)
                                : holt_block_resize(&blocks, held[at], sizes[at], size);
      assert_non_null(held[at]);
      size_t kept = sizes[at] < size ? sizes[at] : size;
      for (size_t i = 0; i < kept; i++) assert_int_equal(held[at][i], at);
      memset(held[at], (int)at, size);
    }
    sizes[at] = size;
  }
  for (unsigned i = 0; i < 64; i++)
    if (sizes[i] > 0) holt_block_give(&blocks, held[i], sizes[i]);
  holt_blocks_free(&blocks);
}

#ifndef HOLT_PLAIN_BLOCKS
static void blocks_are_used_again_within_the_bound(void **state) {
  (void)state;
  struct holt_blocks blocks = {0};
  void *first = holt_block_take(&blocks, 40);
  holt_block_give(&blocks, first, 40);
  assert_ptr_equal(holt_block_take(&blocks, 33), first);
  enum { COUNT = 2 * HOLT_BLOCKS_KEPT_MAX / 48 };
  void **many = calloc(COUNT, sizeof *many);
  for (int i = 0; i < COUNT; i++) many[i] = holt_block_take(&blocks, 48);
  for (int i = 0; i < COUNT; i++) holt_block_give(&blocks, many[i], 48);
  assert_int_equal(blocks.count[2], HOLT_BLOCKS_KEPT_MAX / 48);
  holt_block_give(&blocks, first, 33);
  holt_blocks_free(&blocks);
  free(many);
}
#endif

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_room, close_room)
  const struct CMUnitTest tests[] = {
      TEST(a_sleep_takes_as_long_as_it_says),
      TEST(every_keeps_its_grid_when_a_run_takes_long),
      TEST(tasks_go_on_in_the_order_they_were_woken),
      TEST(a_plain_yield_of_a_task_lets_the_others_go_first),
      TEST(a_join_times_out_at_its_time),
      TEST(a_state_past_its_limit_raises_and_lives_on),
      TEST(every_failing_allocation_is_survived),
      TEST(closing_the_state_cancels_every_wait_once),
      TEST(a_state_closes_cleanly_with_timers_gates_and_nodes_open),
      TEST(an_unheard_failure_is_logged_with_its_place),
      TEST(the_door_from_c_to_lua_gives_errors_back_and_cannot_wait),
      cmocka_unit_test(blocks_keep_their_bytes),
#ifndef HOLT_PLAIN_BLOCKS
      cmocka_unit_test(blocks_are_used_again_within_the_bound),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
