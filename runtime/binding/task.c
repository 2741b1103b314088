/* task.c - tasks, sleeping and gates for Lua.
 *
 * A task's results stay on the stack of its own coroutine until the handle is collected, so joining copies
 * and several may join. A task that raises while nobody joins it is reported to the error sink. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/binding.h"

#define TASK_TYPE "holt.task"
#define GATE_TYPE "holt.gate"

/* One coroutine that waits for a moment, a task or a gate. */
struct waiter {
  struct holt_wait wait;
  struct holt_timer timer;
  struct holt_list node;
  void *of; /* the struct lua_task of a join */
  bool is_timed_out;
};

static void waiter_free(struct waiter *waiter) {
  holt_timer_stop(&waiter->timer);
  holt_list_remove(&waiter->node);
  free(waiter);
}

static void waiter_cancel(struct holt_wait *wait) {
  waiter_free(HOLT_CONTAINER(wait, struct waiter, wait));
}

static void waiter_due(void *arg) {
  struct waiter *waiter = arg;
  waiter->is_timed_out = true;
  holt_list_remove(&waiter->node);
  holt_wait_wake(&waiter->wait);
}

/* How far the loop's time, taken once a turn, lies behind: a script may have computed since. Nobody wakes
 * early. */
static uint64_t lag_ms(struct holt_env *env) {
  uint64_t now_ms = (holt_env_clock_ns(env) + 999999) / 1000000;
  uint64_t loop_ms = holt_env_now_ms(env);
  return now_ms > loop_ms && now_ms - loop_ms < 3600000 ? now_ms - loop_ms : 0;
}

/* `delay_ms` UINT64_MAX: for ever. */
static struct waiter *waiter_new(lua_State *L, int (*finish)(lua_State *, struct holt_wait *),
                                 uint64_t delay_ms) {
  struct waiter *waiter = holt_alloc(sizeof *waiter);
  holt_list_init(&waiter->node);
  holt_wait_init(&waiter->wait, L, finish, waiter_cancel);
  struct holt_env *env = holt_script_env(waiter->wait.script);
  holt_timer_init(&waiter->timer, env, waiter_due, waiter);
  if (delay_ms != UINT64_MAX) holt_timer_start(&waiter->timer, delay_ms + lag_ms(env));
  return waiter;
}

static uint64_t check_timeout(lua_State *L, int index) {
  return lua_isnoneornil(L, index) ? UINT64_MAX : holt_lua_check_seconds(L, index);
}

static void wake_all(struct holt_list *waiters) {
  struct holt_list *node;
  while ((node = holt_list_shift(waiters)) != NULL)
    holt_wait_wake(&HOLT_CONTAINER(node, struct waiter, node)->wait);
}

/* --- sleep ---------------------------------------------------------------------------------------- */

static int sleep_finish(lua_State *L, struct holt_wait *wait) {
  (void)L;
  waiter_cancel(wait);
  return 0;
}

static int l_sleep(lua_State *L) {
  uint64_t delay_ms = holt_lua_check_seconds(L, 1);
  holt_wait_check(L);
  struct waiter *waiter = waiter_new(L, sleep_finish, delay_ms);
  return holt_wait_park(L, &waiter->wait);
}

static int l_now(lua_State *L) {
  uint64_t now_ns = holt_env_clock_ns(holt_script_env(holt_script_of(L)));
  lua_pushnumber(L, (lua_Number)now_ns / 1e9);
  return 1;
}

/* --- tasks ---------------------------------------------------------------------------------------- */

struct lua_task {
  struct holt_script *script;
  struct holt_task *task;
  struct holt_list joiners;
  bool has_handle; /* the userdata lives */
  bool has_ended;
  bool is_ok;
  bool is_cancel_asked;
  bool is_quiet; /* somebody will join: a failure is not reported */
  int count;     /* results on the stack of `task` */
  char where[80];
};

static struct lua_task *check_task(lua_State *L) {
  struct lua_task **box = luaL_checkudata(L, 1, TASK_TYPE);
  return *box;
}

/* The function and its arguments lie on the stack already. */
static int task_push(lua_State *L, void *arg) {
  (void)arg;
  return lua_gettop(L) - 2;
}

static void task_ended(void *arg, struct holt_task *task, lua_State *co, bool ok, int count) {
  struct lua_task *self = arg;
  self->is_ok = ok;
  self->count = count;
  if (!ok && !self->is_cancel_asked && !self->is_quiet && holt_list_is_empty(&self->joiners))
    holt_script_report(self->script, co, self->where, LUA_NOREF); /* the handle may be collected meanwhile */
  self->has_ended = true;
  wake_all(&self->joiners);
  if (self->has_handle)
    holt_task_keep(task);
  else
    free(self);
}

static const struct holt_job task_job = {.push = task_push, .ended = task_ended};

static int l_task_gc(lua_State *L) {
  struct lua_task **box = luaL_checkudata(L, 1, TASK_TYPE);
  struct lua_task *self = *box;
  *box = NULL;
  if (self == NULL) return 0;
  self->has_handle = false;
  if (!self->has_ended) return 0; /* freed when it ends */
  if (self->task != NULL) holt_task_release(self->task);
  free(self);
  return 0;
}

/* Remember where the function at `index` stands, for messages. */
static void set_where(lua_State *L, struct lua_task *self, const char *kind, int index) {
  lua_Debug debug;
  lua_pushvalue(L, index);
  lua_getinfo(L, ">S", &debug);
  snprintf(self->where, sizeof self->where, "%s at %s:%d", kind, debug.short_src, debug.linedefined);
}

static int start(lua_State *L, bool is_quiet) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  int count = lua_gettop(L);
  struct holt_script *script = holt_script_of(L);
  struct lua_task **box = lua_newuserdatauv(L, sizeof(void *), 0);
  *box = NULL;
  luaL_setmetatable(L, TASK_TYPE);
  lua_insert(L, 1);

  struct lua_task *self = holt_alloc(sizeof *self);
  *box = self;
  self->script = script;
  self->has_handle = true;
  self->is_quiet = is_quiet;
  self->has_ended = true; /* until it has a coroutine */
  holt_list_init(&self->joiners);
  set_where(L, self, "task", 2);
  self->task = holt_task_new(script, &task_job, self);
  if (self->task == NULL) return luaL_error(L, "not enough memory for one more task");
  self->has_ended = false;
  lua_State *co = holt_task_stack(self->task);
  if (!lua_checkstack(co, count + 4)) {
    self->is_cancel_asked = true;
    holt_task_cancel(self->task);
    return luaL_error(L, "too many arguments for a task");
  }
  lua_xmove(L, co, count);
  return 1;
}

/* name_task(task, kind, f): in messages the task is "KIND at the place of f" */
static int l_name_task(lua_State *L) {
  struct lua_task *self = check_task(L);
  const char *kind = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  set_where(L, self, kind, 3);
  lua_settop(L, 1);
  return 1;
}

static int l_go(lua_State *L) {
  return start(L, false);
}
static int l_go_quiet(lua_State *L) {
  return start(L, true);
}

/* Push the error table of a failed task. */
static void push_failure(lua_State *L, const struct lua_task *self) {
  lua_State *co = holt_task_stack(self->task);
  if (lua_isnil(co, -1)) {
    struct holt_err err = {.code = HOLT_ECANCELED, .message = "this task was canceled before it began"};
    holt_lua_push_err(L, &err);
    return;
  }
  luaL_checkstack(L, 6, NULL);
  lua_checkstack(co, 1);
  lua_pushvalue(co, -1);
  lua_xmove(co, L, 1);
  int failure = lua_gettop(L);
  if (lua_istable(L, failure)) {
    lua_getfield(L, failure, "value");
    if (lua_istable(L, -1) && lua_getfield(L, -1, "code") == LUA_TSTRING) { /* an error table: as it is */
      lua_pop(L, 1);
      if (lua_getfield(L, -1, "traceback") == LUA_TNIL && luaL_getmetafield(L, -2, "__name") != LUA_TNIL) {
        lua_pop(L, 1);
        lua_getfield(L, failure, "traceback");
        lua_setfield(L, -3, "traceback");
      }
      lua_settop(L, failure + 1);
      lua_remove(L, failure);
      return;
    }
    lua_settop(L, failure + 1);
  } else {
    lua_pushvalue(L, failure);
  }
  struct holt_err err = {.code = HOLT_ESCRIPT};
  const char *text = luaL_tolstring(L, failure + 1, NULL);
  snprintf(err.message, sizeof err.message, "%s", text);
  holt_lua_push_err(L, &err);
  lua_pushvalue(L, failure + 1);
  if (lua_isstring(L, -1)) /* the message says it already */
    lua_pop(L, 1);
  else
    lua_setfield(L, -2, "cause");
  if (lua_istable(L, failure)) {
    lua_getfield(L, failure, "traceback");
    lua_setfield(L, -2, "traceback");
  }
  lua_replace(L, failure);
  lua_settop(L, failure);
}

static int push_outcome(lua_State *L, const struct lua_task *self) {
  if (!self->is_ok) {
    lua_pushnil(L);
    push_failure(L, self);
    return 2;
  }
  lua_State *co = holt_task_stack(self->task);
  luaL_checkstack(L, self->count + 1, "too many results");
  if (!lua_checkstack(co, 1)) return luaL_error(L, "not enough memory");
  lua_pushboolean(L, 1);
  int top = lua_gettop(co);
  for (int i = top - self->count + 1; i <= top; i++) {
    lua_pushvalue(co, i);
    lua_xmove(co, L, 1);
  }
  return self->count + 1;
}

static int join_finish(lua_State *L, struct holt_wait *wait) {
  struct waiter *waiter = HOLT_CONTAINER(wait, struct waiter, wait);
  struct lua_task *self = waiter->of; /* its handle lies on this coroutine's stack */
  waiter_free(waiter);
  if (self->has_ended) return push_outcome(L, self);
  struct holt_err err;
  holt_err_set(&err, HOLT_ETIMEOUT, "%s has not ended in time", self->where);
  return holt_lua_fail(L, &err);
}

static int l_task_join(lua_State *L) {
  struct lua_task *self = check_task(L);
  uint64_t timeout_ms = check_timeout(L, 2);
  if (self->has_ended) return push_outcome(L, self);
  if (holt_task_current(self->script) == self->task)
    return luaL_argerror(L, 1, "a task cannot join itself: it would wait for ever");
  holt_wait_check(L);
  struct waiter *waiter = waiter_new(L, join_finish, timeout_ms);
  waiter->of = self;
  holt_list_push(&self->joiners, &waiter->node);
  return holt_wait_park(L, &waiter->wait);
}

static int l_task_cancel(lua_State *L) {
  struct lua_task *self = check_task(L);
  bool could = !self->has_ended;
  if (could) {
    self->is_cancel_asked = true;
    holt_task_cancel(self->task);
  }
  lua_pushboolean(L, could);
  return 1;
}

static int l_task_status(lua_State *L) {
  struct lua_task *self = check_task(L);
  const char *status = "running";
  if (self->has_ended) {
    status = "done";
    if (!self->is_ok) {
      push_failure(L, self);
      lua_getfield(L, -1, "code");
      bool is_canceled = lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "canceled") == 0;
      status = is_canceled && self->is_cancel_asked ? "canceled" : "failed";
    }
  } else if (holt_task_state(self->task) == HOLT_TASK_NEW) {
    status = "new";
  } else if (holt_task_state(self->task) == HOLT_TASK_PARKED) {
    status = "waiting";
  }
  lua_pushstring(L, status);
  return 1;
}

static int l_task_tostring(lua_State *L) {
  lua_pushfstring(L, "holt.task (%s)", check_task(L)->where);
  return 1;
}

/* Something that tells the running task from all others; nil on the main thread. */
static int l_current(lua_State *L) {
  struct holt_task *task = holt_task_current(holt_script_of(L));
  if (task == NULL)
    lua_pushnil(L);
  else
    lua_pushlightuserdata(L, task);
  return 1;
}

static int l_task_count(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)holt_script_task_count(holt_script_of(L)));
  return 1;
}

/* --- gates: wait until somebody opens ------------------------------------------------------------- */

struct gate {
  struct holt_list waiters;
  bool is_open;
};

static int l_gate(lua_State *L) {
  struct gate *gate = lua_newuserdatauv(L, sizeof *gate, 0);
  holt_list_init(&gate->waiters);
  gate->is_open = false;
  luaL_setmetatable(L, GATE_TYPE);
  return 1;
}

static int gate_finish(lua_State *L, struct holt_wait *wait) {
  bool is_timed_out = HOLT_CONTAINER(wait, struct waiter, wait)->is_timed_out;
  waiter_cancel(wait);
  if (is_timed_out) return holt_lua_fail_code(L, HOLT_ETIMEOUT);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_gate_wait(lua_State *L) {
  struct gate *gate = luaL_checkudata(L, 1, GATE_TYPE);
  uint64_t timeout_ms = check_timeout(L, 2);
  if (gate->is_open) {
    lua_pushboolean(L, 1);
    return 1;
  }
  holt_wait_check(L);
  struct waiter *waiter = waiter_new(L, gate_finish, timeout_ms);
  holt_list_push(&gate->waiters, &waiter->node);
  return holt_wait_park(L, &waiter->wait);
}

static int l_gate_open(lua_State *L) {
  struct gate *gate = luaL_checkudata(L, 1, GATE_TYPE);
  gate->is_open = true;
  wake_all(&gate->waiters);
  return 0;
}

static int l_gate_shut(lua_State *L) {
  struct gate *gate = luaL_checkudata(L, 1, GATE_TYPE);
  gate->is_open = false;
  return 0;
}

/* Whoever waits has the gate on its stack, so at the end of the state there may be waiters left: let them go.
 */
static int l_gate_gc(lua_State *L) {
  struct gate *gate = luaL_checkudata(L, 1, GATE_TYPE);
  while (holt_list_shift(&gate->waiters) != NULL) {
  }
  return 0;
}

/* -------------------------------------------------------------------------------------------------- */

static const luaL_Reg task_methods[] = {
    {"join", l_task_join}, {"cancel", l_task_cancel}, {"status", l_task_status}, {NULL, NULL}};
static const luaL_Reg gate_methods[] = {
    {"wait", l_gate_wait}, {"open", l_gate_open}, {"shut", l_gate_shut}, {NULL, NULL}};

static void new_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc,
                     lua_CFunction tostring) {
  if (luaL_newmetatable(L, name)) {
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    if (tostring != NULL) {
      lua_pushcfunction(L, tostring);
      lua_setfield(L, -2, "__tostring");
    }
  }
  lua_pop(L, 1);
}

void holt_binding_tasks(lua_State *L) {
  static const luaL_Reg functions[] = {{"sleep", l_sleep},
                                       {"now", l_now},
                                       {"go", l_go},
                                       {"go_quiet", l_go_quiet},
                                       {"name_task", l_name_task},
                                       {"current", l_current},
                                       {"gate", l_gate},
                                       {"task_count", l_task_count},
                                       {NULL, NULL}};
  new_type(L, TASK_TYPE, task_methods, l_task_gc, l_task_tostring);
  new_type(L, GATE_TYPE, gate_methods, l_gate_gc, NULL);
  luaL_setfuncs(L, functions, 0);
}
