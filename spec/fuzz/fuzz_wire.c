/* Every decoder of wire/ on arbitrary bytes: no read past the end, and what is accepted survives a round
 * trip. */
#include "base/assert.h"
#include "wire/wire.h"

static void try_hello(struct holt_buf body) {
  struct holt_hello hello, back;
  struct holt_writer w = {0};
  if (holt_hello_read(body, &hello, NULL) != 0) return;
  holt_hello_write(&w, &hello);
  HOLT_ASSERT(holt_hello_read(holt_buf(w.data, w.len), &back, NULL) == 0);
  HOLT_ASSERT(back.boot == hello.boot && strcmp(back.name, hello.name) == 0);
  holt_writer_free(&w);
}

static void try_event(struct holt_buf body) {
  struct holt_wire_event event;
  if (holt_wire_event_read(body, &event, NULL) != 0) return;
  HOLT_ASSERT(holt_wire_event_size(&event) == body.len);
  struct holt_writer w = {0};
  holt_wire_event_write(holt_writer_grow(&w, body.len), &event);
  HOLT_ASSERT(memcmp(w.data, body.data, body.len) == 0);
  holt_writer_free(&w);
}

static void try_call(struct holt_buf body) {
  struct holt_wire_call call;
  struct holt_wire_reply reply;
  struct holt_writer w = {0};
  if (holt_wire_call_read(body, &call, NULL) == 0) {
    HOLT_ASSERT(holt_wire_call_size(&call) == body.len);
    holt_wire_call_write(holt_writer_grow(&w, body.len), &call);
    HOLT_ASSERT(memcmp(w.data, body.data, body.len) == 0);
  }
  w.len = 0;
  if (holt_wire_reply_read(body, &reply, NULL) == 0) {
    HOLT_ASSERT(holt_wire_reply_size(&reply) == body.len);
    holt_wire_reply_write(holt_writer_grow(&w, body.len), &reply);
    HOLT_ASSERT(memcmp(w.data, body.data, body.len) == 0);
  }
  holt_writer_free(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct holt_buf body = holt_buf(data, size);
  struct holt_frame frame;
  struct holt_resume resume;
  struct holt_reason reason;
  struct holt_ack ack;
  struct holt_wire_range range;
  if (size >= HOLT_WIRE_HEADER) (void)holt_frame_read(data, HOLT_WIRE_FRAME_MAX, &frame, NULL);
  (void)holt_resume_read(body, &resume, NULL);
  (void)holt_reason_read(body, &reason, NULL);
  (void)holt_ack_read(body, &ack, NULL);
  struct holt_reader in = holt_reader(body);
  while (holt_wire_range_read(&in, &range, NULL) == 1) HOLT_ASSERT(range.from <= range.to);
  try_hello(body);
  try_event(body);
  try_call(body);
  struct holt_wire_route route;
  in = holt_reader(body);
  (void)holt_wire_route_read(&in, &route, NULL);
  return 0;
}
