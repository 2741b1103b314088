/* wait.c - parking a coroutine, waking it, and the park that passes through the user's own coroutines.
 *
 * - A function that must wait yields the park mark. Whoever resumed that coroutine sees the mark:
 * coroutine.resume and wrap (ours, in place of Lua's) yield it outwards in their turn, the scheduler keeps
 * the task until woken.
 * - Going on runs the same way inwards: the scheduler resumes the task, each resume resumes the coroutine it
 * had started, the innermost runs the wait's `finish`.
 * - Where the mark cannot pass (a C function below that cannot yield), holt_wait_check has raised
 * `cannot_block` before anything was done.
 * - On the main thread of a foreign state there is nobody to yield to: the loop is turned right there. */
#include <lualib.h>

#include "base/assert.h"
#include "script/script_impl.h"

char holt__park_mark;

void holt_wait_init(struct holt_wait *wait, lua_State *L, int (*finish)(lua_State *, struct holt_wait *),
                    void (*cancel)(struct holt_wait *)) {
  wait->script = holt_script_of(L);
  wait->task = wait->script->current;
  wait->finish = finish;
  wait->cancel = cancel;
  wait->is_parked = false;
  wait->is_woken = false;
}

/* Lua 5.4 answers -1 to every collector option while a finaliser runs. */
static bool in_finaliser(lua_State *L) {
  return lua_gc(L, LUA_GCCOUNT) < 0;
}

/* Whether the loop may be turned here: nothing of the scheduler is below us on the C stack. */
static bool may_turn(const struct holt_script *script) {
  return script->current == NULL && !script->is_running;
}

/* Whether the stack below lets a coroutine yield, or the loop turn. */
static bool has_way(lua_State *L, const struct holt_script *script) {
  if (script->no_block > 0 || script->is_closing || in_finaliser(L)) return false;
  return lua_isyieldable(L) || may_turn(script);
}

bool holt_wait_is_possible(lua_State *L) {
  return has_way(L, holt_script_of(L));
}

void holt_wait_forbid(struct holt_script *script, bool is_forbidden) {
  if (is_forbidden)
    script->no_block++;
  else
    script->no_block--;
}

bool holt_wait_is_canceled(lua_State *L) {
  const struct holt_script *script = holt_script_of(L);
  return script->current != NULL && script->current->is_cancel_pending && has_way(L, script);
}

void holt_wait_check(lua_State *L) {
  struct holt_script *script = holt_script_of(L);
  struct holt_task *task = script->current;
  if (!has_way(L, script))
    holt_lua_raise(
        L, HOLT_ECANNOTBLOCK,
        "a call that must wait is not possible here: Lua cannot suspend table.sort, string.gsub, a "
        "finaliser, a metamethod called by C or the body of a txn; make the call before or after it");
  if (task != NULL && task->is_cancel_pending) {
    task->is_cancel_pending = false;
    holt_lua_raise(L, HOLT_ECANCELED, "this task was canceled");
  }
}

/* In the coroutine that parked, once somebody resumed it. */
static int go_on(lua_State *L, int status, lua_KContext context) {
  (void)status;
  struct holt_wait *wait = (struct holt_wait *)context;
  if (wait->is_woken) return wait->finish(L, wait);
  HOLT_ASSERT(wait->task != NULL); /* only a cancel resumes what was not woken */
  wait->task->is_cancel_pending = false;
  wait->cancel(wait);
  return holt_lua_raise(L, HOLT_ECANCELED, "this task was canceled");
}

/* holt.exit was called in a task while the main thread of plain Lua waits, and nobody above us looks for
 * that. By Lua's own os.exit: closing the state unloads the library that this code may be in. */
static void end_process(lua_State *L, int code) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, LUA_OSLIBNAME) == LUA_TTABLE) {
    lua_getfield(L, -1, "exit");
    lua_pushinteger(L, code);
    lua_pushboolean(L, 1);
    lua_call(L, 2, 0);
  }
  holt_lua_raise(L, HOLT_ECANCELED, "holt.exit was called");
}

void holt__wait_block(lua_State *L, struct holt_wait *wait) {
  struct holt_script *script = wait->script;
  HOLT_ASSERT(may_turn(script));
  while (!wait->is_woken) {
    bool is_alive = holt_script_turn(script, true);
    if (wait->is_woken) return;
    if (script->is_exiting) {
      wait->cancel(wait);
      end_process(L, script->exit_code);
    }
    if (!is_alive) {
      wait->cancel(wait);
      holt_lua_raise(L, HOLT_ECANNOTBLOCK,
                     "this call would wait for ever: nothing is left that could answer it (no timer, no "
                     "connection, no task)");
    }
  }
}

int holt_wait_park(lua_State *L, struct holt_wait *wait) {
  wait->is_parked = true;
  if (!lua_isyieldable(L)) {
    holt__wait_block(L, wait);
    return wait->finish(L, wait);
  }
  wait->script->parked = wait;
  lua_pushlightuserdata(L, &holt__park_mark);
  return lua_yieldk(L, 1, (lua_KContext)wait, go_on);
}

void holt_wait_wake(struct holt_wait *wait) {
  if (wait->is_woken) return;
  wait->is_woken = true;
  if (wait->is_parked && wait->task != NULL) holt__task_ready(wait->task);
}

/* --- coroutine.resume, wrap, close ---------------------------------------------------------------- */

static int resume_on(lua_State *L, int status, lua_KContext context);
static int wrap_on(lua_State *L, int status, lua_KContext context);

static bool is_parked(lua_State *co) {
  return lua_status(co) == LUA_YIELD && lua_gettop(co) > 0 && holt__is_mark(co);
}

/* Resume `co` with `count` values from the top of L; returns the number of values now on top of L, or -1 with
 * the error value there. Does not return when a park passes through: then `k` runs in its time. */
static int carry(lua_State *L, lua_State *co, int count, lua_KFunction k) {
  struct holt_script *script = holt_script_of(L);
  for (;;) {
    int got = 0;
    bool is_wall = !lua_isyieldable(L) && !may_turn(script);
    if (is_wall) script->no_block++;
    lua_State *outer = holt__watch_enter(script, co);
    int status = lua_resume(co, L, count, &got);
    holt__watch_leave(script, outer);
    if (is_wall) script->no_block--;
    if (status == LUA_YIELD && got == 1 && holt__is_mark(co)) {
      if (lua_isyieldable(L)) {
        lua_pushlightuserdata(L, &holt__park_mark);
        return lua_yieldk(L, 1, 0, k);
      }
      holt__wait_block(L, script->parked);
      lua_pop(co, 1);
      count = 0;
      continue;
    }
    if (status != LUA_OK && status != LUA_YIELD) {
      lua_xmove(co, L, 1);
      return -1;
    }
    if (!lua_checkstack(L, got + 1)) {
      lua_pop(co, got);
      lua_pushliteral(L, "too many results to resume");
      return -1;
    }
    lua_xmove(co, L, got);
    return got;
  }
}

/* Move the arguments above `from` into `co`; false with the reason on L when it cannot go on. */
static bool hand_over(lua_State *L, lua_State *co, int from) {
  int count = lua_gettop(L) - from;
  if (is_parked(co)) {
    lua_pushliteral(
        L, "cannot resume a coroutine that waits (in a call such as holt.sleep); only its answer can");
    return false;
  }
  if (!lua_checkstack(co, count)) {
    lua_pushliteral(L, "too many arguments to resume");
    return false;
  }
  lua_xmove(L, co, count);
  return true;
}

static lua_State *check_coroutine(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co != NULL, 1, "coroutine");
  return co;
}

static int resume_end(lua_State *L, int got) {
  lua_pushboolean(L, got >= 0);
  if (got < 0) got = 1;
  lua_insert(L, -(got + 1));
  return got + 1;
}

static int l_resume(lua_State *L) {
  lua_State *co = check_coroutine(L);
  int count = lua_gettop(L) - 1;
  if (holt__is_task_coroutine(L, 1)) {
    lua_pushliteral(L,
                    "cannot resume the coroutine of a task: the scheduler does; run what you want to resume "
                    "in a coroutine of your own (coroutine.create)");
    return resume_end(L, -1);
  }
  if (!hand_over(L, co, 1)) return resume_end(L, -1);
  return resume_end(L, carry(L, co, count, resume_on));
}

static int resume_on(lua_State *L, int status, lua_KContext context) {
  (void)status;
  (void)context;
  lua_State *co = lua_tothread(L, 1);
  lua_pop(co, 1); /* the mark */
  return resume_end(L, carry(L, co, 0, resume_on));
}

static int wrap_end(lua_State *L, lua_State *co, int got) {
  if (got >= 0) return got;
  int status = lua_status(co);
  if (status != LUA_OK && status != LUA_YIELD) { /* it died of an error: close its variables */
    struct holt_script *script = holt_script_of(L);
    script->no_block++;
    if (lua_resetthread(co) != LUA_OK) {
      lua_pop(L, 1);
      lua_xmove(co, L, 1);
    }
    script->no_block--;
  }
  if (lua_type(L, -1) == LUA_TSTRING) { /* say where */
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int l_wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int count = lua_gettop(L);
  if (!hand_over(L, co, 0)) return wrap_end(L, co, -1);
  return wrap_end(L, co, carry(L, co, count, wrap_on));
}

static int wrap_on(lua_State *L, int status, lua_KContext context) {
  (void)status;
  (void)context;
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  lua_pop(co, 1);
  return wrap_end(L, co, carry(L, co, 0, wrap_on));
}

static int l_wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushcclosure(L, l_wrapped, 1);
  return 1;
}

/* Upvalue 1 is Lua's own coroutine.close. */
static int l_close(lua_State *L) {
  lua_State *co = check_coroutine(L);
  if (holt__is_task_coroutine(L, 1))
    return luaL_error(L, "cannot close the coroutine of a task; end it with task:cancel()");
  if (is_parked(co))
    return luaL_error(L, "cannot close a coroutine that waits (in a call such as holt.sleep)");
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, LUA_MULTRET);
  return lua_gettop(L);
}

void holt__coroutine_install(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, "coroutine") == LUA_TTABLE) {
    lua_pushcfunction(L, l_resume);
    lua_setfield(L, -2, "resume");
    lua_pushcfunction(L, l_wrap);
    lua_setfield(L, -2, "wrap");
    lua_getfield(L, -1, "close");
    lua_pushcclosure(L, l_close, 1);
    lua_setfield(L, -2, "close");
  }
  lua_pop(L, 2);
}
