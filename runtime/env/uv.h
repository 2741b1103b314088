/* uv.h - the seam on the real machine, by libuv. */
#ifndef HOLT_ENV_UV_H
#define HOLT_ENV_UV_H

#include "env/env.h"

/* A new env with a loop of its own, or NULL when the system has no file descriptors left. A standard stream
 * that is closed is opened on /dev/null. */
struct holt_env *holt_env_uv_new(void);

/* Streams, listeners, child processes and directories that are open: what a test must have closed at its end.
 */
struct holt_env_uv_open {
  unsigned streams, listeners, processes, dirs, timers;
};
struct holt_env_uv_open holt_env_uv_open(struct holt_env *env);

#endif /* HOLT_ENV_UV_H */
