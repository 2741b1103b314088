/* env.h - the seam: clock, timers, chance, byte streams, child processes, signals. Files: env/file.h.
 *
 * Everything above reaches the outside world through one `struct holt_env`. Two implementations: `uv`
 * (env/uv.h, the real machine, on libuv) and `sim` (env/sim.h, a virtual machine room from one seed). An env
 * belongs to one thread; a callback never runs inside the call that registered it. Durations are
 * milliseconds. */
#ifndef HOLT_ENV_ENV_H
#define HOLT_ENV_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"

struct holt_env; /* see env/env_impl.h for what an implementation provides */

/* --- Life ----------------------------------------------------------------------------------------- */

/* Run one turn: due timers, posts, input and output. With `wait` it sleeps until there is something to do;
 * without, it only looks. Returns false when nothing is left that could ever happen. */
bool holt_env_turn(struct holt_env *env, bool wait);
/* The same without sleeping, while whoever uses the loop is in the middle of something (a script that holds
 * it for long): callbacks run, but what would change the state that script looks at is to wait. Signals are
 * heard even when nothing else is left that could happen. Never from within a callback. */
bool holt_env_turn_held(struct holt_env *env);
/* Within holt_env_turn_held: work that changes what a script sees is put off to a later turn. */
bool holt_env_is_held(const struct holt_env *env);
/* Close what is still open (without calling back) and free the env. */
void holt_env_free(struct holt_env *env);

/* For whoever lent memory to a worker job whose `done` will not come any more: `cb` runs once holt_env_free
 * has ended, on its thread. The caller owns the memory; take it out (holt_env_end_cancel) before letting that
 * go. */
struct holt_env_end {
  struct holt_list node;
  void (*cb)(void *arg);
  void *arg;
};
void holt_env_at_end(struct holt_env *env, struct holt_env_end *end);
void holt_env_end_cancel(struct holt_env_end *end);

/* --- Time and chance ------------------------------------------------------------------------------ */

/* Monotonic milliseconds, taken once per turn. */
uint64_t holt_env_now_ms(struct holt_env *env);
/* Monotonic nanoseconds, read now: for measuring, never for deciding. */
uint64_t holt_env_clock_ns(struct holt_env *env);
/* Seconds since 1970: for people and stamps only. */
double holt_env_wall_s(struct holt_env *env);
/* 64 random bits; unpredictable in uv, from the seed in sim. */
uint64_t holt_env_random(struct holt_env *env);

/* --- Timers --------------------------------------------------------------------------------------- */

typedef void (*holt_timer_cb)(void *arg);

/* One-shot. The caller owns the memory and must stop it before letting that memory go. */
struct holt_timer {
  struct holt_heap_node node;
  struct holt_env *env;
  holt_timer_cb cb;
  void *arg;
};

void holt_timer_init(struct holt_timer *timer, struct holt_env *env, holt_timer_cb cb, void *arg);
/* Runs `cb` once after `delay_ms`; a running timer is set anew. */
void holt_timer_start(struct holt_timer *timer, uint64_t delay_ms);
/* Harmless when it does not run. */
void holt_timer_stop(struct holt_timer *timer);
bool holt_timer_is_active(const struct holt_timer *timer);
/* Timers that run now, of everybody: what a test must find unchanged at its end. */
size_t holt_env_timer_count(const struct holt_env *env);

/* A call put off to the end of the present turn (or of the next one, when made between turns).
 * The caller owns the memory; posting twice is one call; cancel before letting the memory go. */
struct holt_post {
  struct holt_list node;
  void (*cb)(void *arg);
  void *arg;
};

void holt_post_init(struct holt_post *post, void (*cb)(void *arg), void *arg);
void holt_env_post(struct holt_env *env, struct holt_post *post);
void holt_post_cancel(struct holt_post *post);

/* --- Worker jobs ---------------------------------------------------------------------------------- */

/* Work that would hold the loop up: hashing, signing, a commit of a database. The caller owns the memory, of
 * the job and of all that `arg` leads to, until `done` has begun; it may be used again from then on. Works of
 * one env may run at the same time: whoever needs an order submits the next one when `done` of the last runs.
 */
struct holt_work {
  void (*run)(void *arg);  /* on a worker's thread; touches nothing that the loop touches meanwhile */
  void (*done)(void *arg); /* exactly once, on the loop, never inside holt_env_work() */
  void *arg;
  void *job; /* the env's */
};

/* Begin the work. It cannot be taken back. holt_env_free() waits for what is running and calls no `done`; on
 * a simulated host, whose death that is, the seed decides whether `run` has still happened. */
void holt_env_work(struct holt_env *env, struct holt_work *work);

/* A place for a disk that is not made of files: kept by a simulated machine room for a host and a path, until
 * the room is freed, however often the host dies. Whoever fills it says how it is freed. */
struct holt_vault {
  void *object; /* NULL: empty */
  void (*free)(void *object);
};

/* NULL on the real machine. */
struct holt_vault *holt_env_vault(struct holt_env *env, const char *path);

/* --- A tick that interrupts ----------------------------------------------------------------------- */

/* Runs inside a signal handler, on the thread that started the tick, in the middle of whatever it does there:
 * it may look at volatile fields, set them, stop the tick, and do nothing else but what signal-safety(7)
 * allows. */
typedef void (*holt_tick_cb)(void *arg);

/* Call `cb` every `interval_ms` of real time, beginning one interval from now; 0 stops it, and only that may
 * be called from `cb`. One tick an env. System calls it interrupts are restarted where the system can do
 * that; sleep, poll and their like end early. In sim, and where the system has no such timer, it never comes.
 * From the thread that turns the env. */
void holt_env_tick(struct holt_env *env, uint64_t interval_ms, holt_tick_cb cb, void *arg);

/* --- Byte streams --------------------------------------------------------------------------------- */

/* A two-way stream of bytes. Made by env (TCP, Unix sockets, pipes of children), by transport/ (memory) and
 * others: whoever fills `ops`. The owner sets the callbacks before anything can arrive, that is, in the
 * callback that hands the stream over. */
struct holt_stream;

struct holt_stream_ops {
  /* See holt_stream_write and holt_stream_close. */
  int (*write)(struct holt_stream *stream, const void *data, size_t len);
  void (*close)(struct holt_stream *stream, bool abort);
};

struct holt_stream {
  const struct holt_stream_ops *ops;
  char peer[128];  /* where the other end is, for people */
  const char *why; /* once on_end runs: a sentence that says more than its status, or NULL */
  /* Set by the owner. `on_data`: borrowed until return. `on_end`: the stream is broken (HOLT_E*) or ended by
   * the other side (HOLT_EEOF); once, and no data follows; the owner must still close. After HOLT_EEOF it may
   * write on: the other side perhaps ended its own half only. `on_writable`: see write. */
  void (*on_data)(void *arg, const uint8_t *data, size_t len);
  void (*on_end)(void *arg, int status);
  void (*on_writable)(void *arg);
  void *arg;
};

/* Send `len` bytes, all of them; what the system does not take at once is copied.
 * Returns 0: taken, write on; 1: taken, but wait for on_writable before the next write; or HOLT_E*: broken,
 * and on_end follows unless it came before. */
int holt_stream_write(struct holt_stream *stream, const void *data, size_t len);
/* Let go. The stream must not be used any more, no callback follows. With `abort` what is still
 * to be sent is thrown away (TCP: reset); without it is sent first, in the background, for at most five
 * seconds. */
void holt_stream_close(struct holt_stream *stream, bool abort);

/* An address in the three forms env understands: "host:port" ("[::1]:80", ":7001" is 127.0.0.1:7001),
 * "unix:PATH". Port 0 asks for a free one when listening. */
struct holt_listener;
/* Takes over `stream`: set its callbacks now or close it. */
typedef void (*holt_accept_cb)(void *arg, struct holt_stream *stream);

/* Listen on `address`. `actual` (may be NULL) receives the address with the real port.
 * Errors, with a sentence in `err`: HOLT_EADDRESS, HOLT_EHOST, HOLT_EINUSE, HOLT_EPERMISSION, HOLT_EIO. */
int holt_env_listen(struct holt_env *env, const char *address, holt_accept_cb cb, void *arg,
                    struct holt_listener **out, char actual[128], struct holt_err *err);
void holt_listener_close(struct holt_listener *listener);

struct holt_dial;
/* status 0: takes over `stream`; else `stream` is NULL and `err` says what happened. `dial` is gone. */
typedef void (*holt_dial_cb)(void *arg, struct holt_stream *stream, const struct holt_err *err);

/* Connect to `address`, host names resolved; every failure arrives in `cb`. There is no time limit of its
 * own. */
struct holt_dial *holt_env_dial(struct holt_env *env, const char *address, holt_dial_cb cb, void *arg);
/* Give up; `cb` does not run. Only before `cb` ran. */
void holt_dial_cancel(struct holt_dial *dial);

/* Whether `address` can only be reached from this machine: loopback numbers, "localhost", unix sockets. */
bool holt_address_is_local(const char *address);
/* Split "host:port". An empty host becomes 127.0.0.1. HOLT_EADDRESS with a sentence when it is not one. */
int holt_address_split(const char *address, char host[128], uint16_t *port, struct holt_err *err);

/* --- Child processes, signals, files (uv only; sim answers HOLT_EUNSUPPORTED) --------------------- */

struct holt_process;
typedef void (*holt_exit_cb)(void *arg, int exit_code, int signal_number);

struct holt_process_options {
  const char *file;                          /* searched in PATH */
  const char *const *args;                   /* NULL-terminated, args[0] included */
  const char *const *env;                    /* NULL-terminated "NAME=value"; NULL: the present environment */
  const char *directory;                     /* NULL: the present one */
  bool die_with_parent;                      /* the child gets SIGKILL should this process die */
  bool pipe_stdin, pipe_stdout, pipe_stderr; /* else inherited */
  holt_exit_cb exit_cb;                      /* once, unless the process is closed before */
  void *arg;
};

/* Start a program. The pipes asked for come back as streams that the caller owns. */
int holt_env_spawn(struct holt_env *env, const struct holt_process_options *options,
                   struct holt_process **out, struct holt_stream *pipes[3], struct holt_err *err);
int holt_process_pid(const struct holt_process *process);
int holt_process_kill(struct holt_process *process, int signal_number);
/* Let go; the child lives on when it still runs. */
void holt_process_close(struct holt_process *process);

/* Runs `cb` on a later turn each time the signal arrives; NULL takes the handler away. */
int holt_env_signal(struct holt_env *env, int signal_number, void (*cb)(void *arg, int signal_number),
                    void *arg);

/* Standard input, output or error (0, 1, 2) of this process as a stream that the caller owns. */
int holt_env_stdio(struct holt_env *env, int number, struct holt_stream **out, struct holt_err *err);

#endif /* HOLT_ENV_ENV_H */
