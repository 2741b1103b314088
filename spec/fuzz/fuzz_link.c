/* A stranger sends arbitrary bytes to a whole node in a simulated room. With an odd first byte a proper
 * handshake goes first, so that the bytes reach the lanes. The node must live on and take a proper neighbour
 * afterwards. */
#include <stdlib.h>

#include "base/assert.h"
#include "env/sim.h"
#include "node/node.h"

static unsigned handled;

static void on_event(void *arg, struct holt_event *event) {
  (void)arg;
  handled++;
  holt_event_done(event);
}

static void on_request(void *arg, struct holt_request *request) {
  (void)arg;
  holt_request_reply(request, 0, request->payload);
}

static void on_dialled(void *arg, struct holt_stream *stream, const struct holt_err *err) {
  (void)err;
  *(struct holt_stream **)arg = stream;
}

static void send_control(struct holt_stream *stream, enum holt_wire_type type,
                         const struct holt_writer *body) {
  uint8_t header[HOLT_WIRE_HEADER];
  struct holt_frame frame = {.len = (uint32_t)body->len, .type = (uint8_t)type, .lane = HOLT_LANE_CONTROL};
  holt_frame_write(header, &frame);
  (void)holt_stream_write(stream, header, sizeof header);
  (void)holt_stream_write(stream, body->data, body->len);
}

static void shake_hands(struct holt_stream *stream) {
  struct holt_hello hello = {.version = HOLT_WIRE_VERSION,
                             .id = 5,
                             .boot = 6,
                             .connection = 7,
                             .timeout_ms = 60000,
                             .frame_max = 1 << 20,
                             .name = "x",
                             .channel = "holt"};
  struct holt_resume resume = {0};
  struct holt_writer body = {0};
  holt_hello_write(&body, &hello);
  send_control(stream, HOLT_WIRE_HELLO, &body);
  body.len = 0;
  holt_resume_write(&body, &resume);
  send_control(stream, HOLT_WIRE_RESUME, &body);
  body.len = 0;
  holt_start_write(&body, 9);
  send_control(stream, HOLT_WIRE_START, &body);
  holt_writer_free(&body);
}

static struct holt_node *start(struct holt_env *env, const char *name) {
  static const struct holt_node_ops ops = {0};
  struct holt_node_config config = holt_node_defaults();
  struct holt_node *node;
  config.link.name = name;
  config.link.frame_max = 65536;
  int rc = holt_node_new(env, &config, &ops, NULL, &node, NULL);
  HOLT_ASSERT(rc == 0);
  return node;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  struct holt_sim_config config = {.seed = data[0], .delay_max_us = 10, .chunk_max = data[0] >> 4};
  struct holt_sim *room = holt_sim_new(&config);
  struct holt_env *env = holt_sim_host(room, "n0"), *stranger = holt_sim_host(room, "x");
  struct holt_node *node = start(env, "n0");
  struct holt_stream *stream = NULL;
  struct holt_peer *peer;
  HOLT_ASSERT(holt_node_listen(node, ":7000", NULL, NULL) == 0);
  holt_bus_subscribe(holt_node_bus(node), ">", 1, on_event, NULL);
  HOLT_ASSERT(holt_bus_serve(holt_node_bus(node), "price", 5, on_request, NULL) != NULL);
  holt_env_dial(stranger, "n0:7000", on_dialled, &stream);
  holt_sim_run(room, 10);
  HOLT_ASSERT(stream != NULL);
  if ((data[0] & 1) != 0) shake_hands(stream);
  (void)holt_stream_write(stream, data + 1, size - 1);
  holt_sim_run(room, 100);
  holt_stream_close(stream, (data[0] & 2) != 0);
  holt_sim_run(room, 6000);
  /* a proper neighbour */
  struct holt_env *other = holt_sim_host(room, "n1");
  struct holt_node *neighbour = start(other, "n1");
  HOLT_ASSERT(holt_node_connect(neighbour, "n0:7000", &peer, NULL) == 0);
  handled = 0;
  HOLT_ASSERT(holt_bus_emit(holt_node_bus(neighbour), "t", 1, 0, holt_buf("p", 1), NULL) == 0);
  holt_sim_run(room, 1000);
  HOLT_ASSERT(handled == 1);
  holt_node_free(neighbour);
  holt_node_free(node);
  holt_sim_free(room);
  return 0;
}
