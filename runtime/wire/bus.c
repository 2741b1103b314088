/* bus.c - the messages of the bus lane. */
#include <stdio.h>

#include "base/assert.h"
#include "wire/wire.h"

/* boot 8, sequence 8, hops 1, codec 1, length of origin 1, length of subject 1; then origin, subject, payload
 */
#define EVENT_FIXED 20

size_t holt_wire_event_size(const struct holt_wire_event *event) {
  return EVENT_FIXED + event->origin.len + event->subject.len + event->payload.len;
}

static uint8_t *append(uint8_t *at, struct holt_buf bytes) {
  if (bytes.len > 0) memcpy(at, bytes.data, bytes.len);
  return at + bytes.len;
}

void holt_wire_event_write(uint8_t *out, const struct holt_wire_event *event) {
  HOLT_ASSERT(event->origin.len <= HOLT_NAME_MAX);
  HOLT_ASSERT(event->subject.len <= 255);
  holt_put_u64(out, event->boot);
  holt_put_u64(out + 8, event->sequence);
  out[HOLT_WIRE_EVENT_HOPS] = event->hops;
  out[17] = event->codec;
  out[18] = (uint8_t)event->origin.len;
  out[19] = (uint8_t)event->subject.len;
  uint8_t *at = append(out + EVENT_FIXED, event->origin);
  at = append(at, event->subject);
  append(at, event->payload);
}

int holt_wire_event_read(struct holt_buf body, struct holt_wire_event *out, struct holt_err *err) {
  if (body.len < EVENT_FIXED || body.len < (size_t)EVENT_FIXED + body.data[18] + body.data[19])
    return holt_err_set(err, HOLT_EPROTOCOL, "an event message came that is shorter than it says");
  const uint8_t *in = body.data;
  out->boot = holt_get_u64(in);
  out->sequence = holt_get_u64(in + 8);
  out->hops = in[HOLT_WIRE_EVENT_HOPS];
  out->codec = in[17];
  out->origin = holt_buf(in + EVENT_FIXED, in[18]);
  out->subject = holt_buf(out->origin.data + in[18], in[19]);
  out->payload = holt_buf(out->subject.data + in[19], body.len - EVENT_FIXED - in[18] - in[19]);
  bool is_named = in[18] > 0 && in[18] <= HOLT_NAME_MAX && in[19] > 0;
  if (!is_named || out->boot == 0 || out->sequence == 0 || out->sequence > HOLT_WIRE_NUMBER_MAX ||
      memchr(out->origin.data, 0, out->origin.len) != NULL)
    return holt_err_set(err, HOLT_EPROTOCOL, "an event message came without origin, number or subject");
  return 0;
}

void holt_wire_range_write(struct holt_writer *out, const struct holt_wire_range *range) {
  holt_write_u64(out, range->boot);
  holt_write_u64(out, range->from);
  holt_write_u64(out, range->to);
  holt_write_text8(out, range->origin);
}

int holt_wire_range_read(struct holt_reader *in, struct holt_wire_range *out, struct holt_err *err) {
  char text[256];
  if (holt_reader_left(in) == 0 && !in->failed) return 0;
  out->boot = holt_read_u64(in);
  out->from = holt_read_u64(in);
  out->to = holt_read_u64(in);
  holt_read_text8(in, text);
  size_t len = strlen(text);
  if (in->failed || out->boot == 0 || out->from == 0 || out->from > out->to ||
      out->to > HOLT_WIRE_NUMBER_MAX || len == 0 || len > HOLT_NAME_MAX)
    return holt_err_set(err, HOLT_EPROTOCOL, "a malformed range of event numbers came");
  memcpy(out->origin, text, len + 1);
  return 1;
}
