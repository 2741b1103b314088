/* uv_process.c - child processes on libuv.
 *
 * A child that must not outlive us is started through setpriv(1), which asks the kernel to kill it when we
 * die. */
#include <stdlib.h>

#include "base/mem.h"
#include "env/uv_impl.h"

struct holt_process {
  uv_process_t handle;
  struct holt_uv *uv;
  holt_exit_cb exit_cb;
  void *arg;
};

static void free_process(uv_handle_t *handle) {
  free(handle->data);
}

static void on_exit_cb(uv_process_t *handle, int64_t exit_code, int signal_number) {
  struct holt_process *p = handle->data;
  holt_exit_cb cb = p->exit_cb;
  p->exit_cb = NULL;
  if (cb != NULL) cb(p->arg, (int)exit_code, signal_number);
}

/* The arguments with setpriv in front where the child has to die with us. Free the array, not the texts. */
static char **make_args(const struct holt_process_options *options) {
  static const char *const prefix[] = {"setpriv", "--pdeathsig", "KILL", "--"};
  size_t count = 0, at = 0;
  while (options->args[count] != NULL) count++;
  char **args = holt_alloc((count + 5) * sizeof *args);
  if (options->die_with_parent) {
    for (; at < 4; at++) args[at] = (char *)(uintptr_t)prefix[at];
    args[at++] = (char *)(uintptr_t)options->file;
  } else {
    args[at++] = (char *)(uintptr_t)options->args[0];
  }
  for (size_t i = 1; i < count; i++) args[at++] = (char *)(uintptr_t)options->args[i];
  return args;
}

static int open_pipes(struct holt_uv *uv, const struct holt_process_options *options,
                      uv_stdio_container_t stdio[3], struct holt_uv_stream *ends[3]) {
  const bool wanted[3] = {options->pipe_stdin, options->pipe_stdout, options->pipe_stderr};
  for (int i = 0; i < 3; i++) {
    stdio[i].flags = UV_INHERIT_FD;
    stdio[i].data.fd = i;
    if (!wanted[i]) continue;
    ends[i] = holt__uv_stream_new(uv);
    int rc = uv_pipe_init(&uv->loop, &ends[i]->h.pipe, 0);
    if (rc != 0) return rc;
    stdio[i].flags = UV_CREATE_PIPE | (i == 0 ? UV_READABLE_PIPE : UV_WRITABLE_PIPE);
    stdio[i].data.stream = &ends[i]->h.stream;
  }
  return 0;
}

int holt__uv_spawn(struct holt_env *env, const struct holt_process_options *options,
                   struct holt_process **out, struct holt_stream *pipes[3], struct holt_err *err) {
  struct holt_uv *uv = (struct holt_uv *)env;
  struct holt_process *p = holt_alloc(sizeof *p);
  struct holt_uv_stream *ends[3] = {NULL, NULL, NULL};
  uv_stdio_container_t stdio[3];
  *p = (struct holt_process){.uv = uv, .exit_cb = options->exit_cb, .arg = options->arg};
  char **args = make_args(options);
  uv_process_options_t uv_options = {
      .file = options->die_with_parent ? "setpriv" : options->file,
      .args = args,
      .env = (char **)(uintptr_t)options->env,
      .cwd = options->directory,
      .exit_cb = on_exit_cb,
      .stdio = stdio,
      .stdio_count = 3,
  };
  int rc = open_pipes(uv, options, stdio, ends);
  p->handle.data = p;
  bool is_begun = rc == 0;
  if (rc == 0) rc = uv_spawn(&uv->loop, &p->handle, &uv_options);
  free(args);
  if (rc == 0) {
    uv->open.processes++;
    for (int i = 0; i < 3; i++) {
      pipes[i] = ends[i] == NULL ? NULL : &ends[i]->stream;
      if (ends[i] != NULL) holt__uv_stream_open(ends[i]);
    }
    *out = p;
    return 0;
  }
  for (int i = 0; i < 3; i++)
    if (ends[i] != NULL) holt__uv_stream_discard(ends[i]);
  if (is_begun)
    uv_close((uv_handle_t *)&p->handle, free_process);
  else
    free(p);
  return holt_err_set(err, holt__uv_code(rc), "cannot start '%s': %s", options->file, uv_strerror(rc));
}

int holt_process_pid(const struct holt_process *process) {
  return process->handle.pid;
}

int holt_process_kill(struct holt_process *process, int signal_number) {
  return holt__uv_code(uv_process_kill(&process->handle, signal_number));
}

void holt_process_close(struct holt_process *process) {
  process->exit_cb = NULL;
  process->uv->open.processes--;
  uv_close((uv_handle_t *)&process->handle, free_process);
}
