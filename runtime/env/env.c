/* env.c - what both implementations of the seam share: timers, posts, addresses, and the way into the vtable.
 */
#include "env/env.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "env/env_impl.h"

void holt__env_init(struct holt_env *env, const struct holt_env_ops *ops) {
  env->ops = ops;
  holt_list_init(&env->posts);
  holt_list_init(&env->ends);
  holt_list_init(&env->dirs);
}

bool holt_env_turn(struct holt_env *env, bool wait) {
  return env->ops->turn(env, wait);
}

bool holt_env_turn_held(struct holt_env *env) {
  env->is_held = true;
  bool is_alive = env->ops->turn(env, false);
  env->is_held = false;
  return is_alive;
}

bool holt_env_is_held(const struct holt_env *env) {
  return env->is_held;
}

void holt_env_tick(struct holt_env *env, uint64_t interval_ms, holt_tick_cb cb, void *arg) {
  if (env->ops->tick == NULL) return;
  if (interval_ms > 0) { /* stopping touches nothing else: it may happen within the tick */
    env->tick_cb = cb;
    env->tick_arg = arg;
  }
  env->ops->tick(env, interval_ms);
}

void holt_env_free(struct holt_env *env) {
  if (env == NULL) return;
  struct holt_list ends;
  holt_list_init(&ends);
  holt_list_move(&ends, &env->ends);
  env->ops->free(env);
  struct holt_list *at;
  while ((at = holt_list_shift(&ends)) != NULL) {
    struct holt_env_end *end = HOLT_CONTAINER(at, struct holt_env_end, node);
    end->cb(end->arg);
  }
}

void holt_env_at_end(struct holt_env *env, struct holt_env_end *end) {
  holt_list_push(&env->ends, &end->node);
}

void holt_env_end_cancel(struct holt_env_end *end) {
  holt_list_remove(&end->node);
}

uint64_t holt_env_now_ms(struct holt_env *env) {
  return env->now_ms;
}
uint64_t holt_env_clock_ns(struct holt_env *env) {
  return env->ops->clock_ns(env);
}
double holt_env_wall_s(struct holt_env *env) {
  return env->ops->wall_s(env);
}
uint64_t holt_env_random(struct holt_env *env) {
  return env->ops->random(env);
}

/* --- Timers --------------------------------------------------------------------------------------- */

void holt_timer_init(struct holt_timer *timer, struct holt_env *env, holt_timer_cb cb, void *arg) {
  *timer = (struct holt_timer){.env = env, .cb = cb, .arg = arg};
}

void holt_timer_start(struct holt_timer *timer, uint64_t delay_ms) {
  struct holt_env *env = timer->env;
  holt_heap_remove(&env->timers, &timer->node);
  uint64_t due = delay_ms > UINT64_MAX - env->now_ms ? UINT64_MAX : env->now_ms + delay_ms;
  holt_heap_push(&env->timers, &timer->node, due);
  if (holt_heap_first(&env->timers) == &timer->node) env->ops->timers_changed(env);
}

void holt_timer_stop(struct holt_timer *timer) {
  if (!holt_heap_holds(&timer->node)) return;
  struct holt_env *env = timer->env;
  bool was_first = holt_heap_first(&env->timers) == &timer->node;
  holt_heap_remove(&env->timers, &timer->node);
  if (was_first) env->ops->timers_changed(env);
}

bool holt_timer_is_active(const struct holt_timer *timer) {
  return holt_heap_holds(&timer->node);
}

size_t holt_env_timer_count(const struct holt_env *env) {
  return env->timers.count;
}

uint64_t holt__env_next_due(const struct holt_env *env) {
  struct holt_heap_node *first = holt_heap_first(&env->timers);
  return first == NULL ? UINT64_MAX : first->key;
}

unsigned holt__env_run_timers(struct holt_env *env) {
  unsigned count = 0;
  uint64_t order_limit =
      env->timers.next_order; /* a timer set by one that runs now waits for the next turn */
  while (true) {
    struct holt_heap_node *first = holt_heap_first(&env->timers);
    if (first == NULL || first->key > env->now_ms || first->order >= order_limit) break;
    struct holt_timer *timer = HOLT_CONTAINER(first, struct holt_timer, node);
    holt_heap_remove(&env->timers, first);
    count++;
    timer->cb(timer->arg);
  }
  env->ops->timers_changed(env);
  return count;
}

/* --- Posts ---------------------------------------------------------------------------------------- */

void holt_post_init(struct holt_post *post, void (*cb)(void *arg), void *arg) {
  holt_list_init(&post->node);
  post->cb = cb;
  post->arg = arg;
}

void holt_env_post(struct holt_env *env, struct holt_post *post) {
  if (holt_list_is_empty(&post->node)) holt_list_push(&env->posts, &post->node);
}

void holt_post_cancel(struct holt_post *post) {
  holt_list_remove(&post->node);
}

unsigned holt__env_run_posts(struct holt_env *env) {
  struct holt_list batch;
  holt_list_init(&batch);
  holt_list_move(&batch, &env->posts);
  unsigned count = 0;
  for (struct holt_list *node = holt_list_shift(&batch); node != NULL; node = holt_list_shift(&batch)) {
    struct holt_post *post = HOLT_CONTAINER(node, struct holt_post, node);
    count++;
    post->cb(post->arg);
  }
  return count;
}

/* --- Worker jobs ---------------------------------------------------------------------------------- */

void holt_env_work(struct holt_env *env, struct holt_work *work) {
  env->ops->work(env, work);
}

struct holt_vault *holt_env_vault(struct holt_env *env, const char *path) {
  return env->ops->vault(env, path);
}

/* --- Streams -------------------------------------------------------------------------------------- */

int holt_stream_write(struct holt_stream *stream, const void *data, size_t len) {
  return len == 0 ? 0 : stream->ops->write(stream, data, len);
}

void holt_stream_close(struct holt_stream *stream, bool abort) {
  stream->on_data = NULL;
  stream->on_end = NULL;
  stream->on_writable = NULL;
  stream->ops->close(stream, abort);
}

void holt__stream_end(struct holt_stream *stream, int status) {
  void (*on_end)(void *, int) = stream->on_end;
  stream->on_end = NULL;
  stream->on_data = NULL;
  if (status != HOLT_EEOF) stream->on_writable = NULL;
  if (on_end != NULL) on_end(stream->arg, status);
}

int holt_env_listen(struct holt_env *env, const char *address, holt_accept_cb cb, void *arg,
                    struct holt_listener **out, char actual[128], struct holt_err *err) {
  return env->ops->listen(env, address, cb, arg, out, actual, err);
}

void holt_listener_close(struct holt_listener *listener) {
  if (listener != NULL) listener->env->ops->listener_close(listener);
}

struct holt_dial *holt_env_dial(struct holt_env *env, const char *address, holt_dial_cb cb, void *arg) {
  return env->ops->dial(env, address, cb, arg);
}

void holt_dial_cancel(struct holt_dial *dial) {
  dial->env->ops->dial_cancel(dial);
}

int holt_env_spawn(struct holt_env *env, const struct holt_process_options *options,
                   struct holt_process **out, struct holt_stream *pipes[3], struct holt_err *err) {
  return env->ops->spawn(env, options, out, pipes, err);
}

int holt_env_signal(struct holt_env *env, int signal_number, void (*cb)(void *arg, int signal_number),
                    void *arg) {
  return env->ops->signal(env, signal_number, cb, arg);
}

int holt_env_stdio(struct holt_env *env, int number, struct holt_stream **out, struct holt_err *err) {
  return env->ops->stdio(env, number, out, err);
}

/* --- Addresses ------------------------------------------------------------------------------------ */

static int parse_port(const char *text, uint16_t *port) {
  if (*text == '\0') return HOLT_EADDRESS;
  unsigned long value = 0;
  for (const char *at = text; *at != '\0'; at++) {
    if (*at < '0' || *at > '9') return HOLT_EADDRESS;
    value = value * 10 + (unsigned long)(*at - '0');
    if (value > 65535) return HOLT_EADDRESS;
  }
  *port = (uint16_t)value;
  return 0;
}

int holt_address_split(const char *address, char host[128], uint16_t *port, struct holt_err *err) {
  const char *colon = strrchr(address, ':');
  const char *start = address;
  size_t len = colon == NULL ? 0 : (size_t)(colon - address);
  if (len >= 2 && address[0] == '[' && colon[-1] == ']') {
    start++;
    len -= 2;
  } else if (colon != NULL && memchr(address, ':', len) != NULL) {
    return holt_err_set(err, HOLT_EADDRESS,
                        "'%s' is not an address: put an IPv6 address in brackets, as in [::1]:7001", address);
  }
  if (colon == NULL || parse_port(colon + 1, port) != 0 || len >= 128)
    return holt_err_set(err, HOLT_EADDRESS,
                        "'%s' is not an address: write host:port, as in 127.0.0.1:7001, [::1]:7001 or :7001",
                        address);
  memcpy(host, start, len);
  host[len] = '\0';
  if (len == 0) snprintf(host, 128, "127.0.0.1");
  return 0;
}

bool holt_address_is_local(const char *address) {
  char host[128];
  uint16_t port;
  if (strncmp(address, "unix:", 5) == 0) return true;
  if (holt_address_split(address, host, &port, NULL) != 0) return false;
  unsigned a, b, c, d;
  char rest;
  if (sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &rest) == 4) return a == 127;
  return strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}
