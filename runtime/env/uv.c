/* uv.c - the loop, the clock, chance and signals on libuv. Streams are in uv_stream.c, sockets in
 * uv_socket.c. */
#include "env/uv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/uv_impl.h"

int holt__uv_code(int uv_code) {
  switch (uv_code) {
  case 0:
    return 0;
  case UV_EOF:
    return HOLT_EEOF;
  case UV_ECONNREFUSED:
    return HOLT_EREFUSED;
  case UV_ECONNRESET:
  case UV_EPIPE:
  case UV_ECONNABORTED:
    return HOLT_ERESET;
  case UV_ETIMEDOUT:
    return HOLT_ETIMEOUT;
  case UV_EADDRINUSE:
    return HOLT_EINUSE;
  case UV_EADDRNOTAVAIL:
  case UV_EINVAL:
    return HOLT_EADDRESS;
  case UV_EHOSTUNREACH:
  case UV_ENETUNREACH:
  case UV_ENETDOWN:
    return HOLT_EUNREACHABLE;
  case UV_EAI_NONAME:
  case UV_EAI_NODATA:
  case UV_EAI_AGAIN:
  case UV_EAI_FAIL:
    return HOLT_EHOST;
  case UV_EACCES:
  case UV_EPERM:
    return HOLT_EPERMISSION;
  case UV_ENOENT:
    return HOLT_ENOTFOUND;
  case UV_ENOMEM:
    return HOLT_ENOMEM;
  case UV_ECANCELED:
    return HOLT_ECANCELED;
  default:
    return HOLT_EIO;
  }
}

static void update_now(struct holt_uv *uv) {
  uint64_t now = uv_now(&uv->loop);
  if (now > uv->env.now_ms) uv->env.now_ms = now;
}

/* libuv runs timers and finished writes before it polls, and then would sleep although those may have given
 * us work: a stopped loop polls without sleeping. */
void holt__uv_end_turn(struct holt_uv *uv) {
  uv_stop(&uv->loop);
}

static void on_timer(uv_timer_t *handle) {
  struct holt_uv *uv = handle->data;
  update_now(uv);
  holt__uv_end_turn(uv);
  holt__env_run_timers(&uv->env);
}

static void timers_changed(struct holt_env *env) {
  struct holt_uv *uv = (struct holt_uv *)env;
  if (uv->is_closing) return;
  uint64_t due = holt__env_next_due(env);
  if (due == UINT64_MAX) {
    uv_timer_stop(&uv->timer);
    return;
  }
  uint64_t loop_now = uv_now(&uv->loop);
  uv_timer_start(&uv->timer, on_timer, due > loop_now ? due - loop_now : 0, 0);
}

static void on_look(uv_idle_t *handle) {
  (void)handle;
}

/* Happy path of one turn: posts of the last turn; libuv (timers, input, output); posts made by those. */
static bool turn(struct holt_env *env, bool wait) {
  struct holt_uv *uv = (struct holt_uv *)env;
  uv_update_time(&uv->loop);
  update_now(uv);
  if (holt__env_run_posts(env) > 0) wait = false; /* who turns us may have something to do now */
  uv->turns++;
  if (env->is_held) uv_idle_start(&uv->look, on_look);
  bool is_alive = uv_run(&uv->loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT) != 0;
  if (env->is_held) {
    uv_idle_stop(&uv->look);
    is_alive = uv_loop_alive(&uv->loop) != 0;
  }
  uv_update_time(&uv->loop);
  update_now(uv);
  holt__env_run_posts(env);
  return is_alive || !holt_list_is_empty(&env->posts);
}

static void close_any(uv_handle_t *handle, void *arg) {
  (void)arg;
  if (!uv_is_closing(handle)) uv_close(handle, NULL); /* timers and signals of our own: freed with the env */
}

static void uv_env_free(struct holt_env *env) {
  struct holt_uv *uv = (struct holt_uv *)env;
  uv->is_closing = true;
  holt__uv_tick_free(uv);
  holt__uv_close_sockets(uv);
  holt__uv_close_dirs(uv);
  HOLT_LIST_EACH(&uv->streams, node, next) {
    struct holt_uv_stream *s = HOLT_CONTAINER(node, struct holt_uv_stream, node);
    holt__uv_stream_cut(s);
  }
  uv_walk(&uv->loop, close_any, NULL);
  while (uv_run(&uv->loop, UV_RUN_ONCE) != 0) {
  }
  uv_loop_close(&uv->loop);
  for (int i = 0; i < HOLT_UV_SIGNALS; i++) free(uv->signals[i]);
  holt_heap_free(&env->timers);
  free(uv);
}

static uint64_t clock_ns(struct holt_env *env) {
  (void)env;
  return uv_hrtime();
}

static double wall_s(struct holt_env *env) {
  (void)env;
  uv_timeval64_t now;
  uv_gettimeofday(&now);
  return (double)now.tv_sec + (double)now.tv_usec / 1e6;
}

static uint64_t uv_env_random(struct holt_env *env) {
  (void)env;
  uint64_t bits = 0;
  int rc = uv_random(NULL, NULL, &bits, sizeof bits, 0, NULL);
  HOLT_ASSERT(rc == 0);
  return bits;
}

static void on_signal(uv_signal_t *handle, int signal_number) {
  struct holt_uv_signal *s = HOLT_CONTAINER(handle, struct holt_uv_signal, handle);
  if (s->cb != NULL) s->cb(s->arg, signal_number);
}

int holt__uv_signal(struct holt_env *env, int signal_number, void (*cb)(void *arg, int signal_number),
                    void *arg) {
  struct holt_uv *uv = (struct holt_uv *)env;
  if (signal_number <= 0 || signal_number >= HOLT_UV_SIGNALS) return HOLT_EINVAL;
  struct holt_uv_signal *s = uv->signals[signal_number];
  if (s == NULL) {
    if (cb == NULL) return 0;
    s = uv->signals[signal_number] = holt_alloc(sizeof *s);
    int rc = uv_signal_init(&uv->loop, &s->handle);
    if (rc != 0) return holt__uv_code(rc);
    uv_unref((uv_handle_t *)&s->handle); /* listening for a signal keeps nobody alive */
  }
  s->cb = cb;
  s->arg = arg;
  int rc = cb == NULL ? uv_signal_stop(&s->handle) : uv_signal_start(&s->handle, on_signal, signal_number);
  return holt__uv_code(rc);
}

static struct holt_vault *no_vault(struct holt_env *env, const char *path) {
  (void)env, (void)path;
  return NULL;
}

static const struct holt_env_ops uv_ops = {
    .turn = turn,
    .free = uv_env_free,
    .clock_ns = clock_ns,
    .wall_s = wall_s,
    .random = uv_env_random,
    .timers_changed = timers_changed,
    .listen = holt__uv_listen,
    .listener_close = holt__uv_listener_close,
    .dial = holt__uv_dial,
    .dial_cancel = holt__uv_dial_cancel,
    .spawn = holt__uv_spawn,
    .signal = holt__uv_signal,
    .tick = holt__uv_tick,
    .stdio = holt__uv_stdio,
    .work = holt__uv_work,
    .vault = no_vault,
    .dir_open = holt__uv_dir_open,
};

/* A standard stream that was closed before we began leads nowhere: else the first file or socket that is
 * opened would take its number, and get what is printed. */
static void hold_standard_streams(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) < 0) return;
}

struct holt_env *holt_env_uv_new(void) {
  hold_standard_streams();
  signal(SIGPIPE,
         SIG_IGN); /* writing to a closed pipe is an error of that stream, not the end of the process */
  struct holt_uv *uv = holt_realloc(NULL, sizeof *uv);
  memset(
      uv, 0,
      offsetof(struct holt_uv, read_buffer)); /* the read buffer stays untouched: no page is paid for yet */
  if (uv_loop_init(&uv->loop) != 0) {
    free(uv);
    return NULL;
  }
  holt__env_init(&uv->env, &uv_ops);
  holt_list_init(&uv->streams);
  holt_list_init(&uv->listeners);
  holt_list_init(&uv->dials);
  uv_timer_init(&uv->loop, &uv->timer);
  uv->timer.data = uv;
  uv_idle_init(&uv->loop, &uv->look);
  uv->env.now_ms = uv_now(&uv->loop);
  return &uv->env;
}

struct holt_env_uv_open holt_env_uv_open(struct holt_env *env) {
  struct holt_uv *uv = (struct holt_uv *)env;
  struct holt_env_uv_open open = uv->open;
  open.timers = (unsigned)env->timers.count;
  return open;
}
