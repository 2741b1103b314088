/* script_impl.h - the inside of a script, for the files of this folder only. */
#ifndef HOLT_SCRIPT_SCRIPT_IMPL_H
#define HOLT_SCRIPT_SCRIPT_IMPL_H

#include "script/blocks.h"
#include "script/script.h"

struct holt_task {
  struct holt_list ready;   /* in script->ready or alone */
  struct holt_list live;    /* in script->live while it has not ended */
  struct holt_task *pooled; /* the next idle one */
  struct holt_script *script;
  lua_State *co;
  int ref; /* anchors `co` in the registry */
  const struct holt_job *job;
  void *arg;
  struct holt_wait *wait; /* the innermost wait while parked */
  enum holt_task_state state;
  bool is_cancel_pending;
  bool has_parked;
  bool has_failed; /* the body raised; its failure value is the result */
  bool is_kept;
};

/* See watch.c. What the tick looks at is volatile: it comes between any two instructions. */
struct holt__watch {
  lua_State *volatile running; /* the innermost Lua that runs, NULL: none does */
  volatile unsigned turns;     /* of the loop */
  volatile unsigned runs;      /* pieces of Lua begun by the scheduler */
  volatile bool is_ticking;
  volatile bool is_hot; /* whoever ends the present run shall call holt__watch_over */
  unsigned seen_turns, seen_runs;
  volatile uint64_t since_ns; /* when the tick first saw the present run */
  lua_Hook before;            /* what the armed coroutine had as its hook */
  int before_mask, before_count;
  lua_State *volatile armed;
  lua_Hook host_hook; /* the main thread's, taken from it until it runs again: Ctrl-C of plain lua5.4 */
  uint64_t tick_ms, limit_ms;
  unsigned calls; /* holt_lua_call from within Lua: C code below may be in the middle of something */
  char where[128];
  int sink_ref;
  struct holt_script_source source;
  uint64_t told_ns; /* to be told: how long it took */
  struct holt_watch_counts counts;
  const char *why;    /* somebody wants the process to end */
  const char *ending; /* the same, once the script was told of it: it ends now */
  unsigned asked;     /* how often */
  uint64_t asked_ns, end_ns;
  bool was_interrupted;
};

struct holt_script {
  lua_State *L; /* the main thread */
  struct holt_env *env;
  bool owns_env;
  bool is_closing;
  struct holt_list ready;   /* tasks to go on with */
  struct holt_list sources; /* sources that have work */
  struct holt_list live;
  size_t live_count;
  struct holt_task *pool;
  size_t pool_count;
  struct holt_task *current;
  struct holt_wait *parked; /* set by a park just before its mark travels outwards */
  unsigned no_block;        /* above 0: a park mark could not pass the C frames below */
  bool is_running;          /* within holt_script_run_ready or holt_task_run */
  int sink_ref;
  struct holt_memory memory;
  struct holt_blocks blocks;  /* of a state of our own */
  struct holt_shapes *shapes; /* the state's */
  struct holt_texts *texts;
  bool is_exiting;
  int exit_code;
  struct holt__watch watch;
};

/* --- watch.c -------------------------------------------------------------------------------------- */

void holt__watch_init(struct holt_script *script);
void holt__watch_close(struct holt_script *script);
void holt__watch_start(struct holt_script *script);
void holt__watch_give_back(struct holt_script *script); /* host_hook */
/* The run that was slow is over. */
void holt__watch_over(struct holt_script *script);

/* From here on `L` runs; returns what ran before, for holt__watch_leave. */
static inline lua_State *holt__watch_enter(struct holt_script *script, lua_State *L) {
  struct holt__watch *watch = &script->watch;
  lua_State *before = watch->running;
  if (before == NULL) watch->runs++;
  watch->running = L;
  if (!watch->is_ticking) holt__watch_start(script);
  return before;
}

static inline void holt__watch_leave(struct holt_script *script, lua_State *before) {
  struct holt__watch *watch = &script->watch;
  watch->running = before;
  if (before == NULL) {
    if (watch->is_hot) holt__watch_over(script);
  } else if (!watch->is_ticking) {
    holt__watch_start(script);
  }
}

/* What a parking coroutine yields: nobody else can make this pointer. */
extern char holt__park_mark;
static inline bool holt__is_mark(lua_State *co) {
  return lua_type(co, -1) == LUA_TLIGHTUSERDATA && lua_touserdata(co, -1) == &holt__park_mark;
}
/* Turn the loop until `wait` is answered. Raises (after cancelling it) when nothing could ever answer it. */
void holt__wait_block(lua_State *L, struct holt_wait *wait);
/* Put a task where the next run finds it. */
void holt__task_ready(struct holt_task *task);
/* Whether the coroutine at `index` runs a task, or did: only the scheduler may resume and close such a one.
 */
bool holt__is_task_coroutine(lua_State *L, int index);
/* Replace coroutine.resume, wrap and close by those that pass a park on. */
void holt__coroutine_install(lua_State *L);
/* Cancel the wait of every parked task and free all tasks. */
void holt__tasks_close(struct holt_script *script);
/* The message handler of every task: the value becomes { value, traceback }. */
int holt__failure(lua_State *L);

#endif /* HOLT_SCRIPT_SCRIPT_IMPL_H */
