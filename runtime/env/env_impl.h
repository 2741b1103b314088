/* env_impl.h - what an implementation of the seam provides. Only for env/ itself. */
#ifndef HOLT_ENV_ENV_IMPL_H
#define HOLT_ENV_ENV_IMPL_H

#include "env/env.h"
#include "env/file.h"

struct holt_env_ops {
  bool (*turn)(struct holt_env *env, bool wait);
  void (*free)(struct holt_env *env);
  uint64_t (*clock_ns)(struct holt_env *env);
  double (*wall_s)(struct holt_env *env);
  uint64_t (*random)(struct holt_env *env);
  /* The earliest timer may have changed. */
  void (*timers_changed)(struct holt_env *env);
  int (*listen)(struct holt_env *env, const char *address, holt_accept_cb cb, void *arg,
                struct holt_listener **out, char actual[128], struct holt_err *err);
  void (*listener_close)(struct holt_listener *listener);
  struct holt_dial *(*dial)(struct holt_env *env, const char *address, holt_dial_cb cb, void *arg);
  void (*dial_cancel)(struct holt_dial *dial);
  int (*spawn)(struct holt_env *env, const struct holt_process_options *options, struct holt_process **out,
               struct holt_stream *pipes[3], struct holt_err *err);
  int (*signal)(struct holt_env *env, int signal_number, void (*cb)(void *arg, int signal_number), void *arg);
  void (*tick)(struct holt_env *env, uint64_t interval_ms); /* NULL: it never comes */
  int (*stdio)(struct holt_env *env, int number, struct holt_stream **out, struct holt_err *err);
  void (*work)(struct holt_env *env, struct holt_work *work);
  struct holt_vault *(*vault)(struct holt_env *env, const char *path);
  int (*dir_open)(struct holt_env *env, const char *path, struct holt_dir **out, struct holt_err *err);
};

/* First member of each implementation's own struct; so are the next two of theirs. */
struct holt_env {
  const struct holt_env_ops *ops;
  uint64_t now_ms;
  struct holt_heap timers; /* of struct holt_timer, by due time in ms */
  struct holt_list posts;
  struct holt_list ends; /* struct holt_env_end */
  struct holt_list dirs; /* open ones */
  uint64_t dirs_opened;  /* until now */
  bool is_held;
  holt_tick_cb tick_cb; /* read by a signal handler: set before the tick runs */
  void *tick_arg;
};

struct holt_listener {
  struct holt_env *env;
};

struct holt_dial {
  struct holt_env *env;
};

/* --- Directories (file.c) ------------------------------------------------------------------------- */

struct holt_dir_ops {
  int (*list)(struct holt_dir *dir, char ***names, size_t *count, struct holt_err *err);
  int (*size)(struct holt_dir *dir, const char *name, uint64_t *size_bytes, struct holt_err *err);
  int (*run)(struct holt_dir *dir, const struct holt_file_op *ops, size_t count, size_t *failed);
  /* Run dir->running off the loop, set its status and `failed`, then call holt__dir_job_done on the loop. */
  void (*start)(struct holt_dir *dir);
  /* Release the lock and the memory, which begins at `dir`. No job is under way. */
  void (*free)(struct holt_dir *dir);
};

/* First member of an implementation's own struct. */
struct holt_dir {
  const struct holt_dir_ops *ops;
  struct holt_env *env;
  char *path;
  uint64_t number;       /* of the opening, in this env */
  struct holt_list node; /* in the env's list */
  struct holt_list jobs; /* that wait */
  struct holt_file_job *running;
  bool is_closing;
  void (*closed)(void *arg);
  void *closed_arg;
  struct holt_post post;
};

void holt__dir_init(struct holt_dir *dir, struct holt_env *env, const struct holt_dir_ops *ops,
                    const char *path);
void holt__dir_job_done(struct holt_dir *dir);
/* Without any callback. */
void holt__dir_free(struct holt_dir *dir);

/* --- What both share (env.c) ---------------------------------------------------------------------- */

void holt__env_init(struct holt_env *env, const struct holt_env_ops *ops);
/* Run the timers that are due at env->now_ms; returns how many ran. */
unsigned holt__env_run_timers(struct holt_env *env);
/* Run the posts that stood there at the call; returns how many ran. */
unsigned holt__env_run_posts(struct holt_env *env);
/* When the next timer is due, UINT64_MAX when none runs. */
uint64_t holt__env_next_due(const struct holt_env *env);
/* Tell the owner of a stream that it has ended; callable once per stream. */
void holt__stream_end(struct holt_stream *stream, int status);

#endif /* HOLT_ENV_ENV_IMPL_H */
