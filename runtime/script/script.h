/* script.h - the scheduler of one Lua state: coroutines that wait without blocking the loop.
 *
 * Everything a script runs - its top level, handlers, timers, tasks - runs in a coroutine of its own, taken
 * from a pool. A call that must wait parks its coroutine and is woken by a C callback; only the scheduler
 * resumes it, between turns of the loop, so Lua never runs inside a callback of the env. On the main thread
 * of a foreign state (plain lua5.4, busted) a call that must wait turns the loop itself until it is answered.
 * One script, its state and its env belong to one thread. */
#ifndef HOLT_SCRIPT_SCRIPT_H
#define HOLT_SCRIPT_SCRIPT_H

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "env/env.h"

struct holt_script;
struct holt_task;

/* --- Life ----------------------------------------------------------------------------------------- */

/* A new Lua state with its standard library, on an allocator that counts. `env` is borrowed and must outlive
 * it. NULL when memory is out. */
struct holt_script *holt_script_new(struct holt_env *env);
/* Cancels every wait, closes the state, frees the script. For a script made by holt_script_new. */
void holt_script_free(struct holt_script *script);
/* The script of a state that somebody else made, created on the first call; it dies with the state. `env` is
 * taken: it is freed after the state's last finaliser. May raise. */
struct holt_script *holt_script_attach(lua_State *L, struct holt_env *env);
/* The script of this state (any of its coroutines), or NULL before holt_script_attach. */
struct holt_script *holt_script_find(lua_State *L);
/* The same where it must exist. */
struct holt_script *holt_script_of(lua_State *L);

struct holt_env *holt_script_env(const struct holt_script *script);
lua_State *holt_script_state(const struct holt_script *script);

struct holt_memory {
  size_t bytes;       /* held by the state now */
  size_t peak_bytes;  /* the most it ever held */
  size_t limit_bytes; /* 0: no limit */
};
/* What the state's allocator counted; `bytes` only, from the collector, in a foreign state. */
void holt_script_memory(const struct holt_script *script, struct holt_memory *out);
/* From now on an allocation past `limit_bytes` fails ("not enough memory"); 0 lifts the limit. No effect in a
 * foreign state. */
void holt_script_limit_memory(struct holt_script *script, size_t limit_bytes);

/* --- Turning -------------------------------------------------------------------------------------- */

/* Run what is ready now, each thing once: what becomes ready meanwhile waits for the next call. */
void holt_script_run_ready(struct holt_script *script);
bool holt_script_has_ready(const struct holt_script *script);
/* One turn of the loop without Lua, then what is ready. With `wait` it sleeps until there is something to do.
 * Returns false when nothing is left that could ever happen. */
bool holt_script_turn(struct holt_script *script, bool wait);

/* --- Waiting -------------------------------------------------------------------------------------- */

/* Who waits, and how it goes on. Usually embedded in a struct that the C side allocates for one call.
 * Exactly one of `finish` and `cancel` runs, once, and frees that struct. */
struct holt_wait {
  struct holt_script *script;
  struct holt_task *task; /* NULL: the main thread, which turns the loop */
  /* Runs in the coroutine when it goes on: pushes the results and returns their number; may raise. */
  int (*finish)(lua_State *L, struct holt_wait *wait);
  /* Nobody waits any more: stop what would have woken it. No Lua here. */
  void (*cancel)(struct holt_wait *wait);
  bool is_parked;
  bool is_woken;
};

/* Call this before doing anything that a later holt_wait_park shall wait for: raises `cannot_block` where Lua
 * cannot yield (inside table.sort, string.gsub, a finaliser), and `canceled` when the task has been canceled
 * meanwhile. */
void holt_wait_check(lua_State *L);
/* Whether Lua can yield here, or the loop be turned: else holt_wait_check raises `cannot_block`. */
bool holt_wait_is_possible(lua_State *L);
/* From now on nothing may wait; each call with true needs one with false, on every way out. */
void holt_wait_forbid(struct holt_script *script, bool is_forbidden);
/* Whether holt_wait_check would raise `canceled`: for calls that wait only now and then. */
bool holt_wait_is_canceled(lua_State *L);
void holt_wait_init(struct holt_wait *wait, lua_State *L, int (*finish)(lua_State *, struct holt_wait *),
                    void (*cancel)(struct holt_wait *));
/* The last act of a function called by Lua: `return holt_wait_park(L, wait)`. */
int holt_wait_park(lua_State *L, struct holt_wait *wait);
/* The answer is there. From anywhere, callbacks of the env included; again is harmless until `finish` has
 * run. */
void holt_wait_wake(struct holt_wait *wait);

/* --- Tasks ---------------------------------------------------------------------------------------- */

/* What a coroutine of the pool is to run. All get the `arg` of the task. */
struct holt_job {
  /* Pushes a function and its arguments, in the coroutine; returns the number of arguments. May raise. What
   * was put on holt_task_stack before lies at 2 and up (1 is taken): it may be the function and the
   * arguments. */
  int (*push)(lua_State *L, void *arg);
  /* The task parked for the first time. No Lua here. May be NULL. */
  void (*parked)(void *arg, struct holt_task *task);
  /* The task ended. Success: its `count` results are on top of `co`. Failure: one value is there, a table
   * { value = what was raised, traceback = text }, a plain string when memory was out, nil when it was
   * canceled before its first run or the script closes. Not in a protected call: whatever may raise goes
   * through holt_lua_call. Afterwards the coroutine returns to the pool, unless this calls holt_task_keep. */
  void (*ended)(void *arg, struct holt_task *task, lua_State *co, bool ok, int count);
};

enum holt_task_state {
  HOLT_TASK_NEW,     /* waits for its first run */
  HOLT_TASK_RUNNING, /* now, or about to go on */
  HOLT_TASK_PARKED,
  HOLT_TASK_ENDED
};

/* Make a task that starts with the next holt_script_run_ready. `job` must outlive it. The task is borrowed,
 * valid until its `ended` has returned. NULL when memory is out. */
struct holt_task *holt_task_new(struct holt_script *script, const struct holt_job *job, void *arg);
/* Make one and run it at once; only from the scheduler (a source, or between turns). Returns the state it is
 * in afterwards; with HOLT_TASK_PARKED, *out (may be NULL) is the task. HOLT_ENOMEM when there was no memory.
 */
int holt_task_run(struct holt_script *script, const struct holt_job *job, void *arg, struct holt_task **out);
/* Raise `canceled` in it where it is parked, or at its next park; before its first run it ends without
 * running. */
void holt_task_cancel(struct holt_task *task);
enum holt_task_state holt_task_state(const struct holt_task *task);
/* The task that runs now, NULL on the main thread. */
struct holt_task *holt_task_current(const struct holt_script *script);
const struct holt_job *holt_task_job(const struct holt_task *task);
void *holt_task_arg(const struct holt_task *task);
/* For an `arg` that must outlive the call that ran the task: set it from within `parked`. */
void holt_task_set_arg(struct holt_task *task, void *arg);
/* The coroutine's stack, to be filled before the first run (see push), or read while it is kept. */
lua_State *holt_task_stack(const struct holt_task *task);
/* From within `ended`: keep the coroutine with its results until holt_task_release. */
void holt_task_keep(struct holt_task *task);
void holt_task_release(struct holt_task *task);
/* Tasks that have not ended. */
size_t holt_script_task_count(const struct holt_script *script);

/* --- The watchdog --------------------------------------------------------------------------------- */

/* A piece of Lua that runs long holds the loop. Once it has for a tick (50 ms, see holt_watch_set), a hook
 * interrupts it and turns the loop without Lua: callbacks run, heartbeats and acknowledgements leave, what is
 * for Lua is queued, nothing is applied (holt_env_turn_held); again at every tick. Not interrupted: a long
 * call of a C function, a finaliser, coroutines resumed by a coroutine.resume that was there before ours.
 * Where the env has no tick (sim), nothing of this happens. */

/* How often, 0 for the default; and after how long it is told that a run (a task, a handler, the main thread
 * between two turns) holds the loop: once a run, as a warning in the log at once, and to the function of
 * holt_watch_on_slow when the run is over. 0: not told. On the main thread of plain Lua the watch begins
 * here, and rests when the loop has nothing left to do. */
void holt_watch_set(struct holt_script *script, uint64_t tick_ms, uint64_t limit_ms);
/* A call of ours that holds the loop once, such as an opening, is over: it is not told, what comes is. */
void holt_watch_excuse(struct holt_script *script);
/* Call the Lua function on top of L's stack, which is popped: f(where, seconds), where is "file:line". It
 * must not wait. */
void holt_watch_on_slow(lua_State *L);

struct holt_watch_counts {
  uint64_t slow;       /* runs that were told */
  uint64_t longest_ns; /* the longest of them */
  uint64_t turns;      /* turns of the loop from within a run */
};
void holt_watch_counts(const struct holt_script *script, struct holt_watch_counts *out);

/* Somebody wants the process to end (`why`, a static text such as "SIGTERM"); NULL: it is being dealt with.
 * What holds the loop a second later is ended by an error (`canceled`), at once when asked a second time; it
 * is raised again at every tick for who catches it, until five seconds have passed, or the third time: then
 * the process ends with code 1. From anywhere, callbacks of the env included. */
void holt_script_interrupt(struct holt_script *script, const char *why);
/* The process ends, for that reason (static): whatever holds the loop for a second from now on is ended in
 * the same way. */
void holt_script_end(struct holt_script *script, const char *why);
/* Whether such an error has been raised. */
bool holt_script_was_interrupted(const struct holt_script *script);

/* --- Sources of work ------------------------------------------------------------------------------ */

/* Somebody with a queue of its own, such as a node with events for its handlers. The owner keeps the memory,
 * and takes it out of the scheduler before freeing it, but never within `run`. */
struct holt_script_source {
  struct holt_list node;
  /* Do a bounded piece of work (holt_task_run …) between turns. True: there is more, call again next time. */
  bool (*run)(struct holt_script *script, struct holt_script_source *source);
};
void holt_source_init(struct holt_script_source *source,
                      bool (*run)(struct holt_script *, struct holt_script_source *));
/* There is work. From anywhere, callbacks included; again is harmless. */
void holt_source_ready(struct holt_script *script, struct holt_script_source *source);
void holt_source_remove(struct holt_script_source *source);

/* --- Calls and errors ----------------------------------------------------------------------------- */

/* The one door from C to Lua outside tasks: runs `body` protected (it pushes, calls, looks at results; may
 * raise, cannot wait). Returns 0, or HOLT_ESCRIPT with message and traceback in `err` (may be NULL). */
int holt_lua_call(struct holt_script *script, void (*body)(lua_State *L, void *arg), void *arg,
                  struct holt_err *err);

/* Tell the script's error sink of a failure: `co` is a task's coroutine with the failure value of `ended` on
 * top; `what` names what failed ("handler of 'a.b'"), `owner_ref` is a registry reference or LUA_NOREF. */
void holt_script_report(struct holt_script *script, lua_State *co, const char *what, int owner_ref);
/* The sink is the Lua function on top of L's stack, which is popped: sink(err, traceback, what, owner). It
 * must not wait. Without one, or if it returns false, the failure becomes a log line. */
void holt_script_set_sink(lua_State *L);

/* Push what was raised and its traceback, two values, for the failure value of `ended` on top of `co`, which
 * stays there. May raise (memory). */
void holt_lua_push_failure(lua_State *L, lua_State *co);
/* Push the error table { code, message } of `err`. May raise (memory). */
void holt_lua_push_err(lua_State *L, const struct holt_err *err);
/* Push nil and the error table; returns 2, so that `return holt_lua_fail(L, &err)` reads well. */
int holt_lua_fail(lua_State *L, const struct holt_err *err);
/* The same from a code alone. */
int holt_lua_fail_code(lua_State *L, int code);
/* Raise an error table (an expected failure where there is no way to return it). */
int holt_lua_raise(lua_State *L, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Set the metatable of error tables on the table on top. */
void holt_lua_mark_err(lua_State *L);
/* A finite number of seconds, not negative, as milliseconds (rounded up); raises a misuse error otherwise. */
uint64_t holt_lua_check_seconds(lua_State *L, int index);

/* --- Ending --------------------------------------------------------------------------------------- */

/* The script asked to end (holt.exit): whoever turns it stops after this turn. */
void holt_script_exit(struct holt_script *script, int code);
bool holt_script_is_exiting(const struct holt_script *script, int *code);

#endif /* HOLT_SCRIPT_SCRIPT_H */
