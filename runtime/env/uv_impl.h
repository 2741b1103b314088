/* uv_impl.h - shared by the files of the libuv implementation. */
#ifndef HOLT_ENV_UV_IMPL_H
#define HOLT_ENV_UV_IMPL_H

#include <time.h>
#include <uv.h>

#include "env/env_impl.h"
#include "env/uv.h"

#define HOLT_UV_READ_BYTES (256 * 1024)
#define HOLT_UV_SIGNALS    65

struct holt_uv_signal {
  uv_signal_t handle;
  void (*cb)(void *arg, int signal_number);
  void *arg;
  bool is_open;
};

struct holt_uv {
  struct holt_env env;
  uv_loop_t loop;
  uv_timer_t timer; /* stands for the earliest of env.timers */
  uv_idle_t look;   /* runs within a held turn: makes the loop poll though nothing keeps it alive */
  struct holt_uv_signal *signals[HOLT_UV_SIGNALS];
  timer_t tick; /* while has_tick is set */
  bool has_tick;
  struct holt_list streams, listeners, dials;
  struct holt_env_uv_open open;
  bool is_closing;
  uint64_t turns;
  uint8_t read_buffer[HOLT_UV_READ_BYTES]; /* shared: callbacks borrow what was read */
};

/* A stream over any libuv stream handle. Freed once closed and libuv has let go. */
struct holt_uv_stream {
  struct holt_stream stream;
  struct holt_uv *uv;
  struct holt_list node;
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    uv_tty_t tty;
  } h;
  uv_write_t write; /* in use while `pending` is set */
  uint8_t *pending; /* bytes that the system did not take at once */
  uv_shutdown_t shutdown;
  uv_timer_t linger; /* bounds a close that still sends */
  unsigned handles_open;
  uint64_t full_turn; /* the turn that filled the read buffer last */
  bool is_closing;    /* holt_stream_close was called */
  bool is_handle_closing;
  bool is_reading;
};

/* A callback has run: this turn must not sleep any more. First thing in callbacks that may come before the
 * poll. */
void holt__uv_end_turn(struct holt_uv *uv);
/* A code of libuv as one of ours. */
int holt__uv_code(int uv_code);
/* The handle is not initialised yet; on a failed init free() the result. */
struct holt_uv_stream *holt__uv_stream_new(struct holt_uv *uv);
/* Count it as open from here on; begins to read after the callback that hands it over. */
void holt__uv_stream_open(struct holt_uv_stream *s);
/* For a stream nobody has been given yet. */
void holt__uv_stream_discard(struct holt_uv_stream *s);
/* Close it now, also when it is lingering to send the rest. */
void holt__uv_stream_cut(struct holt_uv_stream *s);

int holt__uv_listen(struct holt_env *env, const char *address, holt_accept_cb cb, void *arg,
                    struct holt_listener **out, char actual[128], struct holt_err *err);
void holt__uv_listener_close(struct holt_listener *listener);
struct holt_dial *holt__uv_dial(struct holt_env *env, const char *address, holt_dial_cb cb, void *arg);
void holt__uv_dial_cancel(struct holt_dial *dial);
/* Close every listener and give up every dial, without calling back. */
void holt__uv_close_sockets(struct holt_uv *uv);
int holt__uv_spawn(struct holt_env *env, const struct holt_process_options *options,
                   struct holt_process **out, struct holt_stream *pipes[3], struct holt_err *err);
int holt__uv_signal(struct holt_env *env, int signal_number, void (*cb)(void *arg, int signal_number),
                    void *arg);
void holt__uv_tick(struct holt_env *env, uint64_t interval_ms);
/* No tick comes from now on. */
void holt__uv_tick_free(struct holt_uv *uv);
int holt__uv_stdio(struct holt_env *env, int number, struct holt_stream **out, struct holt_err *err);

void holt__uv_work(struct holt_env *env, struct holt_work *work);

int holt__uv_dir_open(struct holt_env *env, const char *path, struct holt_dir **out, struct holt_err *err);
/* Close every directory without calling back, once the job under way has ended. */
void holt__uv_close_dirs(struct holt_uv *uv);

#endif /* HOLT_ENV_UV_IMPL_H */
