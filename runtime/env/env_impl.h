/* env_impl.h - what an implementation of the seam provides. Only for env/ itself. */
#ifndef HOLT_ENV_ENV_IMPL_H
#define HOLT_ENV_ENV_IMPL_H

#include "env/env.h"

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
  int (*stdio)(struct holt_env *env, int number, struct holt_stream **out, struct holt_err *err);
};

/* First member of each implementation's own struct; so are the next two of theirs. */
struct holt_env {
  const struct holt_env_ops *ops;
  uint64_t now_ms;
  struct holt_heap timers; /* of struct holt_timer, by due time in ms */
  struct holt_list posts;
};

struct holt_listener {
  struct holt_env *env;
};

struct holt_dial {
  struct holt_env *env;
};

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
