/* call.c - the messages of the call lane. */
#include <stdio.h>

#include "base/assert.h"
#include "wire/wire.h"

/* origin 8, id 8, target 8, left 4, hops 1, codec 1, length of name 1, length of subject 1 */
#define CALL_FIXED 32
/* origin 8, id 8, responder 8, hops 1, codec 1, status 1, may have run 1, length of name 1 */
#define REPLY_FIXED 29

static uint8_t *append(uint8_t *at, struct holt_buf bytes) {
  if (bytes.len > 0) memcpy(at, bytes.data, bytes.len);
  return at + bytes.len;
}

static bool is_name(struct holt_buf name) {
  return name.len > 0 && name.len <= HOLT_NAME_MAX && memchr(name.data, 0, name.len) == NULL;
}

size_t holt_wire_call_size(const struct holt_wire_call *call) {
  return CALL_FIXED + call->name.len + call->subject.len + call->payload.len;
}

void holt_wire_call_write(uint8_t *out, const struct holt_wire_call *call) {
  HOLT_ASSERT(call->name.len <= HOLT_NAME_MAX);
  HOLT_ASSERT(call->subject.len <= 255);
  holt_put_u64(out, call->origin);
  holt_put_u64(out + 8, call->id);
  holt_put_u64(out + 16, call->target);
  holt_put_u32(out + 24, call->left_ms);
  out[HOLT_WIRE_CALL_HOPS] = call->hops;
  out[29] = call->codec;
  out[30] = (uint8_t)call->name.len;
  out[31] = (uint8_t)call->subject.len;
  append(append(append(out + CALL_FIXED, call->name), call->subject), call->payload);
}

int holt_wire_call_read(struct holt_buf body, struct holt_wire_call *out, struct holt_err *err) {
  if (body.len < CALL_FIXED || body.len < (size_t)CALL_FIXED + body.data[30] + body.data[31])
    return holt_err_set(err, HOLT_EPROTOCOL, "a call message came that is shorter than it says");
  const uint8_t *in = body.data;
  *out = (struct holt_wire_call){.origin = holt_get_u64(in),
                                 .id = holt_get_u64(in + 8),
                                 .target = holt_get_u64(in + 16),
                                 .left_ms = holt_get_u32(in + 24),
                                 .hops = in[HOLT_WIRE_CALL_HOPS],
                                 .codec = in[29],
                                 .name = holt_buf(in + CALL_FIXED, in[30])};
  out->subject = holt_buf(out->name.data + in[30], in[31]);
  out->payload = holt_buf(out->subject.data + in[31], body.len - CALL_FIXED - in[30] - in[31]);
  if (!is_name(out->name) || out->subject.len == 0 || out->origin == 0 || out->target == 0)
    return holt_err_set(err, HOLT_EPROTOCOL, "a call message came without caller, target or subject");
  return 0;
}

size_t holt_wire_reply_size(const struct holt_wire_reply *reply) {
  return REPLY_FIXED + reply->name.len + reply->payload.len;
}

void holt_wire_reply_write(uint8_t *out, const struct holt_wire_reply *reply) {
  HOLT_ASSERT(reply->name.len <= HOLT_NAME_MAX);
  holt_put_u64(out, reply->origin);
  holt_put_u64(out + 8, reply->id);
  holt_put_u64(out + 16, reply->responder);
  out[HOLT_WIRE_REPLY_HOPS] = reply->hops;
  out[25] = reply->codec;
  out[26] = reply->status;
  out[27] = reply->may_have_run;
  out[28] = (uint8_t)reply->name.len;
  append(append(out + REPLY_FIXED, reply->name), reply->payload);
}

int holt_wire_reply_read(struct holt_buf body, struct holt_wire_reply *out, struct holt_err *err) {
  if (body.len < REPLY_FIXED || body.len < (size_t)REPLY_FIXED + body.data[28])
    return holt_err_set(err, HOLT_EPROTOCOL, "a reply message came that is shorter than it says");
  const uint8_t *in = body.data;
  *out = (struct holt_wire_reply){.origin = holt_get_u64(in),
                                  .id = holt_get_u64(in + 8),
                                  .responder = holt_get_u64(in + 16),
                                  .hops = in[HOLT_WIRE_REPLY_HOPS],
                                  .codec = in[25],
                                  .status = in[26],
                                  .may_have_run = in[27],
                                  .name = holt_buf(in + REPLY_FIXED, in[28])};
  out->payload = holt_buf(out->name.data + in[28], body.len - REPLY_FIXED - in[28]);
  if (!is_name(out->name) || out->origin == 0 || out->status > HOLT_REPLY_NO_RESPONDER ||
      out->may_have_run > 1)
    return holt_err_set(err, HOLT_EPROTOCOL, "a malformed reply message came");
  return 0;
}

void holt_wire_route_write(struct holt_writer *out, const struct holt_wire_route *route) {
  holt_write_u64(out, route->boot);
  holt_write_u64(out, route->version);
  holt_write_text8(out, route->name);
  holt_write_u16(out, route->neighbour_count);
  holt_write_u16(out, route->subject_count);
}

int holt_wire_route_read(struct holt_reader *in, struct holt_wire_route *out, struct holt_err *err) {
  char name[256];
  out->boot = holt_read_u64(in);
  out->version = holt_read_u64(in);
  holt_read_text8(in, name);
  size_t len = strlen(name);
  out->neighbour_count = holt_read_u16(in);
  out->subject_count = holt_read_u16(in);
  if (in->failed || out->boot == 0 || len == 0 || len > HOLT_NAME_MAX ||
      out->neighbour_count > HOLT_WIRE_NEIGHBOURS_MAX || out->subject_count > HOLT_WIRE_SUBJECTS_MAX)
    return holt_err_set(err, HOLT_EPROTOCOL, "a malformed route message came");
  memcpy(out->name, name, len + 1);
  return 0;
}
