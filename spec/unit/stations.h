/* stations.h - nodes in a simulated room for the tests of links: each notes what it hears, and can hold
 * events back. */
#ifndef HOLT_UNIT_STATIONS_H
#define HOLT_UNIT_STATIONS_H

#include "base/rand.h"
#include "env/sim.h"
#include "node/node.h"
#include "unit.h"
#include "wire/wire.h"

#define HEARD_MAX 4096

struct station {
  struct holt_env *env;
  struct holt_node *node;
  uint64_t heard[HEARD_MAX]; /* first eight bytes of each payload */
  unsigned heard_count;
  struct holt_event *held[HEARD_MAX]; /* while `holds` */
  unsigned held_count;
  bool holds;
  unsigned notices[HOLT_PEER_CLOSE + 1];
  struct holt_err last_err; /* of the last notice that had one */
  uint64_t delay_max_ms;
  uint64_t delays[64];
  unsigned delay_count;
  unsigned refused;
  struct holt_err refusal;
  uint64_t lost;
  bool is_closed;
};

static struct holt_sim *room;
static struct station n0, n1, n2;

/* --- Stations ------------------------------------------------------------------------------------- */

static __attribute__((unused)) void on_event(void *arg, struct holt_event *event) {
  struct station *s = arg;
  if (s->heard_count < HEARD_MAX)
    s->heard[s->heard_count++] =
        event->payload.len >= 8 ? holt_get_u64(event->payload.data) : event->payload.len;
  if (s->holds)
    s->held[s->held_count++] = event;
  else
    holt_event_done(event);
}

static __attribute__((unused)) void on_peer(void *arg, struct holt_peer *peer,
                                            const struct holt_peer_notice *notice) {
  struct station *s = arg;
  (void)peer;
  s->notices[notice->event] += notice->event == HOLT_PEER_DROPPED ? (unsigned)notice->number : 1;
  if (notice->err.code != 0) s->last_err = notice->err;
  if (notice->event != HOLT_PEER_BACKOFF) return;
  if (notice->delay_ms > s->delay_max_ms) s->delay_max_ms = notice->delay_ms;
  if (s->delay_count < 64) s->delays[s->delay_count++] = notice->delay_ms;
}

static __attribute__((unused)) void on_refused(void *arg, const char *where, const struct holt_err *err) {
  struct station *s = arg;
  (void)where;
  s->refused++;
  s->refusal = *err;
}

static __attribute__((unused)) void on_gap(void *arg, const char *origin, uint64_t boot, uint64_t count) {
  (void)origin, (void)boot;
  ((struct station *)arg)->lost += count;
}

static __attribute__((unused)) void on_closed(void *arg) {
  ((struct station *)arg)->is_closed = true;
}

static const struct holt_node_ops ops = {
    .on_peer = on_peer, .on_refused = on_refused, .on_gap = on_gap, .on_closed = on_closed};

static __attribute__((unused)) struct holt_node_config settings(const char *name) {
  struct holt_node_config c = holt_node_defaults();
  c.link.name = name;
  c.link.timeout_ms = 4000;
  c.insecure = true;
  return c;
}

static __attribute__((unused)) void start(struct station *s, const char *host,
                                          const struct holt_node_config *config) {
  struct holt_err err = {0};
  s->env = holt_sim_host(room, host);
  int rc = holt_node_new(s->env, config, &ops, s, &s->node, &err);
  if (rc != 0) fail_msg("%s", err.message);
  assert_int_equal(holt_node_listen(s->node, ":7000", NULL, NULL), 0);
  holt_bus_subscribe(holt_node_bus(s->node), ">", 1, on_event, s);
}

static __attribute__((unused)) void start_named(struct station *s, const char *name) {
  struct holt_node_config config = settings(name);
  start(s, name, &config);
}

static __attribute__((unused)) struct holt_peer *dial(struct station *s, const char *address) {
  struct holt_peer *peer;
  assert_int_equal(holt_node_connect(s->node, address, &peer, NULL), 0);
  return peer;
}

static __attribute__((unused)) int emit_sized(struct station *s, uint64_t number, size_t size,
                                              struct holt_err *err) {
  uint8_t *payload = calloc(1, size < 8 ? 8 : size);
  holt_put_u64(payload, number);
  int rc = holt_bus_emit(holt_node_bus(s->node), "t", 1, 0, holt_buf(payload, size < 8 ? 8 : size), err);
  free(payload);
  return rc;
}

static __attribute__((unused)) void emit(struct station *s, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i <= to; i++) assert_int_equal(emit_sized(s, i, 8, NULL), 0);
}

static __attribute__((unused)) void assert_heard(const struct station *s, uint64_t from, uint64_t to) {
  assert_int_equal(s->heard_count, to - from + 1);
  for (uint64_t i = from; i <= to; i++) assert_int_equal(s->heard[i - from], i);
}

static __attribute__((unused)) struct holt_link_status status_of(struct station *s) {
  struct holt_link_status status = {0};
  struct holt_link *link = holt_links_first(holt_node_links(s->node));
  if (link != NULL) holt_link_status(link, &status);
  return status;
}

static __attribute__((unused)) void kill_station(struct station *s) {
  if (s->node == NULL) return;
  holt_node_free(s->node);
  for (unsigned i = 0; i < s->held_count; i++) holt_event_done(s->held[i]);
  holt_env_free(s->env);
  memset(s, 0, sizeof *s);
}

static __attribute__((unused)) int setup(void **state) {
  (void)state;
  memset(&n0, 0, sizeof n0);
  memset(&n1, 0, sizeof n1);
  memset(&n2, 0, sizeof n2);
  struct holt_sim_config config = {.seed = 7, .delay_min_us = 100, .delay_max_us = 2000};
  room = holt_sim_new(&config);
  return 0;
}

static __attribute__((unused)) int teardown(void **state) {
  (void)state;
  kill_station(&n0);
  kill_station(&n1);
  kill_station(&n2);
  unsigned open = holt_sim_open_streams(room);
  holt_sim_free(room);
  return open == 0 ? 0 : -1;
}

static __attribute__((unused)) void start_pair(void) {
  start_named(&n0, "n0");
  start_named(&n1, "n1");
  dial(&n1, "n0:7000");
}

/* --- Somebody who is no node --- */

struct stranger {
  struct holt_stream *stream;
  uint8_t got[4096];
  size_t got_len;
  int ended;
};

static __attribute__((unused)) void stranger_data(void *arg, const uint8_t *data, size_t len) {
  struct stranger *s = arg;
  if (len > sizeof s->got - s->got_len) len = sizeof s->got - s->got_len;
  memcpy(s->got + s->got_len, data, len);
  s->got_len += len;
}

static __attribute__((unused)) void stranger_end(void *arg, int status) {
  ((struct stranger *)arg)->ended = status;
}

static __attribute__((unused)) void stranger_dialled(void *arg, struct holt_stream *stream,
                                                     const struct holt_err *err) {
  struct stranger *s = arg;
  assert_null(err);
  s->stream = stream;
  stream->on_data = stranger_data;
  stream->on_end = stranger_end;
  stream->arg = s;
}

/* --- Strangers that speak raw frames with n0 --- */

static struct stranger xs[4];
static uint32_t x_window = 1 << 20, x_frame_max = 1 << 20;

static __attribute__((unused)) void open_x(struct holt_env *env, int i) {
  memset(&xs[i], 0, sizeof xs[i]);
  holt_env_dial(env, "n0:7000", stranger_dialled, &xs[i]);
  holt_sim_run(room, 50);
}

static __attribute__((unused)) void put_x(int i, uint8_t type, uint8_t lane, const void *body, size_t len) {
  uint8_t *out = malloc(HOLT_WIRE_HEADER + len);
  struct holt_frame frame = {.len = (uint32_t)len, .type = type, .lane = lane};
  holt_frame_write(out, &frame);
  if (len > 0) memcpy(out + HOLT_WIRE_HEADER, body, len);
  (void)holt_stream_write(xs[i].stream, out, HOLT_WIRE_HEADER + len);
  free(out);
}

static __attribute__((unused)) void say_hello_x(int i, uint64_t connection, uint64_t last) {
  struct holt_hello hello = {.version = 1,
                             .id = 5,
                             .boot = 6,
                             .connection = connection,
                             .last = last,
                             .timeout_ms = 60000,
                             .frame_max = x_frame_max,
                             .window = x_window,
                             .name = "stranger",
                             .channel = "holt"};
  struct holt_writer body = {0};
  holt_hello_write(&body, &hello);
  put_x(i, HOLT_WIRE_HELLO, HOLT_LANE_CONTROL, body.data, body.len);
  holt_writer_free(&body);
}

static __attribute__((unused)) void say_resume_x(int i) {
  struct holt_resume r = {0};
  struct holt_writer body = {0};
  holt_resume_write(&body, &r);
  put_x(i, HOLT_WIRE_RESUME, HOLT_LANE_CONTROL, body.data, body.len);
  body.len = 0;
  holt_start_write(&body, 9);
  put_x(i, HOLT_WIRE_START, HOLT_LANE_CONTROL, body.data, body.len);
  holt_writer_free(&body);
}

static unsigned woken;
static __attribute__((unused)) __attribute__((unused)) void on_woken(void *arg) {
  (void)arg;
  woken++;
}

#endif /* HOLT_UNIT_STATIONS_H */
