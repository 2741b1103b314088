/* task.c - coroutines from a pool, and the order in which they run.
 *
 * - holt_task_new takes an idle coroutine (or makes one) and queues it; holt_task_run runs it at once.
 * - A step resumes the coroutine. It ends (its results go to `ended`, the coroutine back to the pool), parks
 * (its wait keeps it until woken), or yields by itself (it goes on with the next run, after the others).
 * - A body that raises ends with a failure value; the coroutine is as good as new, for the body runs in a
 * pcall.
 * - Out of memory outside that pcall: the coroutine is reset, `ended` gets the plain message. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "script/script_impl.h"

#define POOL_MAX 256 /* idle coroutines kept */

static int body_end(lua_State *L, int status, lua_KContext context) {
  struct holt_task *task = (struct holt_task *)context;
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - 1;
  task->has_failed = true;
  return 1;
}

/* What every coroutine of the pool runs: [1] is the message handler, then what was given on its stack. */
static int l_body(lua_State *L) {
  struct holt_script *script = holt_script_of(L);
  struct holt_task *task = script->current;
  lua_pushcfunction(L, holt__failure);
  if (lua_gettop(L) > 1) lua_insert(L, 1);
  int count = task->job->push(L, task->arg);
  int status = lua_pcallk(L, count, LUA_MULTRET, 1, (lua_KContext)task, body_end);
  return body_end(L, status, (lua_KContext)task);
}

/* --- The pool ------------------------------------------------------------------------------------- */

#define COROUTINES "holt.coroutines" /* in the registry: the tasks' coroutines, as weak keys */

static int l_new_coroutine(lua_State *L) {
  struct holt_task *task = lua_touserdata(L, 1);
  if (!luaL_getsubtable(L, LUA_REGISTRYINDEX, COROUTINES)) {
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
  }
  task->co = lua_newthread(L);
  lua_pushvalue(L, -1);
  lua_pushboolean(L, 1);
  lua_rawset(L, -4);
  task->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

bool holt__is_task_coroutine(lua_State *L, int index) {
  index = lua_absindex(L, index);
  if (lua_getfield(L, LUA_REGISTRYINDEX, COROUTINES) != LUA_TTABLE) {
    lua_pop(L, 1);
    return false;
  }
  lua_pushvalue(L, index);
  bool is_ours = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 2);
  return is_ours;
}

static struct holt_task *make(struct holt_script *script) {
  struct holt_task *task = holt_alloc(sizeof *task);
  task->script = script;
  task->ref = LUA_NOREF;
  holt_list_init(&task->ready);
  holt_list_init(&task->live);
  if (!lua_checkstack(script->L, 4)) goto failed;
  lua_pushcfunction(script->L, l_new_coroutine);
  lua_pushlightuserdata(script->L, task);
  if (lua_pcall(script->L, 1, 0, 0) == LUA_OK) return task;
  lua_pop(script->L, 1);
failed:
  free(task);
  return NULL;
}

static struct holt_task *take(struct holt_script *script, const struct holt_job *job, void *arg) {
  struct holt_task *task = script->pool;
  if (task != NULL) {
    script->pool = task->pooled;
    script->pool_count--;
  } else {
    task = make(script);
    if (task == NULL) return NULL;
  }
  task->job = job;
  task->arg = arg;
  task->wait = NULL;
  task->state = HOLT_TASK_NEW;
  task->is_cancel_pending = false;
  task->has_parked = false;
  task->has_failed = false;
  task->is_kept = false;
  holt_list_push(&script->live, &task->live);
  script->live_count++;
  return task;
}

static void destroy(struct holt_task *task) {
  luaL_unref(task->script->L, LUA_REGISTRYINDEX, task->ref);
  free(task);
}

static void give_back(struct holt_task *task) {
  struct holt_script *script = task->script;
  if (script->is_closing || script->pool_count >= POOL_MAX) {
    destroy(task);
    return;
  }
  lua_settop(task->co, 0);
  lua_sethook(task->co, NULL, 0,
              0); /* debug.sethook is for one coroutine; the next body never asked for it */
  task->pooled = script->pool;
  script->pool = task;
  script->pool_count++;
}

void holt_task_keep(struct holt_task *task) {
  task->is_kept = true;
}

void holt_task_release(struct holt_task *task) {
  HOLT_ASSERT(task->is_kept);
  task->is_kept = false;
  give_back(task);
}

/* --- Steps ---------------------------------------------------------------------------------------- */

static void end(struct holt_task *task, bool ok, int count) {
  struct holt_script *script = task->script;
  task->state = HOLT_TASK_ENDED;
  holt_list_remove(&task->live);
  script->live_count--;
  task->job->ended(task->arg, task, task->co, ok, count);
  if (!task->is_kept) give_back(task);
}

static void reset(struct holt_task *task) {
  struct holt_script *script = task->script;
  script->no_block++; /* closing its variables cannot wait */
  lua_resetthread(task->co);
  script->no_block--;
}

static int l_plain_failure(lua_State *L) {
  lua_createtable(L, 0, 2);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "value");
  lua_pushliteral(L, "");
  lua_setfield(L, -2, "traceback");
  return 1;
}

/* What was raised before the body ran, or for want of memory, lies on top: make it look like a body's
 * failure. */
static void wrap_failure(lua_State *co) {
  if (!lua_checkstack(co, 6)) return;
  lua_pushcfunction(co, l_plain_failure);
  lua_insert(co, -2);
  lua_pcall(co, 1, 1, 0); /* without memory the message takes its place */
}

/* Returns the state it is in afterwards; once it has ended, `task` may be gone. */
static enum holt_task_state step(struct holt_task *task) {
  struct holt_script *script = task->script;
  struct holt_task *before = script->current;
  lua_State *co = task->co;
  int given = 0;
  if (task->state == HOLT_TASK_NEW) {
    given = lua_gettop(co);
    lua_pushcfunction(co, l_body);
    if (given > 0) lua_insert(co, 1);
  }
  task->state = HOLT_TASK_RUNNING;
  script->current = task;
  int count = 0;
  lua_State *outer = holt__watch_enter(script, co);
  int status = lua_resume(co, script->L, given, &count);
  holt__watch_leave(script, outer);
  script->current = before;
  if (status == LUA_OK) {
    end(task, !task->has_failed, count);
    return HOLT_TASK_ENDED;
  }
  if (status == LUA_YIELD) {
    bool is_park = count == 1 && holt__is_mark(co);
    lua_pop(co, count);
    task->state = HOLT_TASK_PARKED;
    task->wait = NULL;
    if (is_park) {
      task->wait = script->parked;
      if (task->wait->is_woken) holt__task_ready(task);
    } else {
      holt__task_ready(task); /* a plain yield lets the others go first */
    }
    if (!task->has_parked) {
      task->has_parked = true;
      if (task->job->parked != NULL) task->job->parked(task->arg, task);
    }
    return HOLT_TASK_PARKED;
  }
  reset(task); /* leaves the error value on top */
  wrap_failure(co);
  end(task, false, 1);
  return HOLT_TASK_ENDED;
}

void holt__task_ready(struct holt_task *task) {
  if (holt_list_is_empty(&task->ready)) holt_list_push(&task->script->ready, &task->ready);
}

struct holt_task *holt_task_new(struct holt_script *script, const struct holt_job *job, void *arg) {
  struct holt_task *task = take(script, job, arg);
  if (task != NULL) holt__task_ready(task);
  return task;
}

int holt_task_run(struct holt_script *script, const struct holt_job *job, void *arg, struct holt_task **out) {
  struct holt_task *task = take(script, job, arg);
  if (task == NULL) return HOLT_ENOMEM;
  bool was_running = script->is_running;
  script->is_running = true;
  enum holt_task_state state = step(task);
  script->is_running = was_running;
  if (state == HOLT_TASK_PARKED && out != NULL) *out = task;
  return (int)state;
}

void holt_task_cancel(struct holt_task *task) {
  switch (task->state) {
  case HOLT_TASK_NEW:
    holt_list_remove(&task->ready);
    lua_settop(task->co, 0);
    lua_pushnil(task->co); /* the failure of one that never ran */
    task->is_cancel_pending = true;
    end(task, false, 1);
    break;
  case HOLT_TASK_PARKED:
  case HOLT_TASK_RUNNING:
    task->is_cancel_pending = true;
    if (task->state == HOLT_TASK_PARKED) holt__task_ready(task);
    break;
  case HOLT_TASK_ENDED:
    break;
  }
}

enum holt_task_state holt_task_state(const struct holt_task *task) {
  return task->state;
}
struct holt_task *holt_task_current(const struct holt_script *script) {
  return script->current;
}
const struct holt_job *holt_task_job(const struct holt_task *task) {
  return task->job;
}
void *holt_task_arg(const struct holt_task *task) {
  return task->arg;
}
void holt_task_set_arg(struct holt_task *task, void *arg) {
  task->arg = arg;
}
lua_State *holt_task_stack(const struct holt_task *task) {
  return task->co;
}
size_t holt_script_task_count(const struct holt_script *script) {
  return script->live_count;
}

void holt__tasks_close(struct holt_script *script) {
  script->is_closing = true;
  holt__watch_close(script);
  HOLT_LIST_EACH(&script->live, node, following) {
    struct holt_task *task = HOLT_CONTAINER(node, struct holt_task, live);
    holt_list_remove(&task->live);
    holt_list_remove(&task->ready);
    script->live_count--;
    if (task->state == HOLT_TASK_PARKED && task->wait != NULL) task->wait->cancel(task->wait);
    task->wait = NULL;
    task->state = HOLT_TASK_ENDED;
    lua_pushnil(task->co);
    task->job->ended(task->arg, task, task->co, false, 1);
    if (!task->is_kept) destroy(task);
  }
  while (script->pool != NULL) {
    struct holt_task *task = script->pool;
    script->pool = task->pooled;
    destroy(task);
  }
  script->pool_count = 0;
}

/* --- Turning -------------------------------------------------------------------------------------- */

void holt_source_init(struct holt_script_source *source,
                      bool (*run)(struct holt_script *, struct holt_script_source *)) {
  holt_list_init(&source->node);
  source->run = run;
}

void holt_source_ready(struct holt_script *script, struct holt_script_source *source) {
  if (holt_list_is_empty(&source->node)) holt_list_push(&script->sources, &source->node);
}

void holt_source_remove(struct holt_script_source *source) {
  holt_list_remove(&source->node);
}

bool holt_script_has_ready(const struct holt_script *script) {
  return !holt_list_is_empty(&script->ready) || !holt_list_is_empty(&script->sources);
}

void holt_script_run_ready(struct holt_script *script) {
  HOLT_ASSERT(!script->is_running);
  struct holt_list batch;
  struct holt_list *node;
  script->is_running = true;
  holt_list_init(&batch);
  holt_list_move(&batch, &script->ready);
  while ((node = holt_list_shift(&batch)) != NULL) step(HOLT_CONTAINER(node, struct holt_task, ready));
  holt_list_move(&batch, &script->sources);
  while ((node = holt_list_shift(&batch)) != NULL) {
    struct holt_script_source *source = HOLT_CONTAINER(node, struct holt_script_source, node);
    if (source->run(script, source)) holt_source_ready(script, source);
  }
  script->is_running = false;
}

bool holt_script_turn(struct holt_script *script, bool wait) {
  lua_State *outer = script->watch.running; /* the main thread of plain Lua, or nothing */
  script->watch.turns++;
  holt__watch_leave(script, NULL);
  bool is_alive = holt_env_turn(script->env, wait && !holt_script_has_ready(script));
  bool has_run = holt_script_has_ready(script); /* and may have started what keeps the loop alive */
  holt_script_run_ready(script);
  if (outer != NULL) holt__watch_enter(script, outer);
  if (script->watch.host_hook != NULL) holt__watch_give_back(script);
  return is_alive || has_run;
}
