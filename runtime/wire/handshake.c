/* handshake.c - the messages of the control lane. */
#include <stdio.h>

#include "wire/wire.h"

static const char magic[4] = {'h', 'o', 'l', 't'};

static int malformed(struct holt_err *err, const char *what) {
  return holt_err_set(err, HOLT_EPROTOCOL, "a malformed %s message came", what);
}

static bool is_whole(const struct holt_reader *r) {
  return !r->failed && holt_reader_left(r) == 0;
}

void holt_hello_write(struct holt_writer *out, const struct holt_hello *hello) {
  holt_write_bytes(out, magic, sizeof magic);
  holt_write_u16(out, hello->version);
  holt_write_u64(out, hello->id);
  holt_write_u64(out, hello->boot);
  holt_write_u64(out, hello->connection);
  holt_write_u64(out, hello->last);
  holt_write_u32(out, hello->timeout_ms);
  holt_write_u32(out, hello->frame_max);
  holt_write_u32(out, hello->window);
  holt_write_text8(out, hello->name);
  holt_write_text8(out, hello->channel);
}

int holt_hello_read(struct holt_buf body, struct holt_hello *out, struct holt_err *err) {
  struct holt_reader r = holt_reader(body);
  char text[256];
  *out = (struct holt_hello){0};
  struct holt_buf found = holt_read_bytes(&r, sizeof magic);
  if (r.failed || memcmp(found.data, magic, sizeof magic) != 0)
    return holt_err_set(err, HOLT_EPROTOCOL, "the other side does not speak holt's protocol");
  out->version = holt_read_u16(&r);
  if (r.failed) return malformed(err, "hello");
  if (out->version != HOLT_WIRE_VERSION)
    return holt_err_set(
        err, HOLT_EVERSION,
        "the other side speaks version %u of the protocol, this node version %u; run the same "
        "release of holt on both",
        out->version, HOLT_WIRE_VERSION);
  out->id = holt_read_u64(&r);
  out->boot = holt_read_u64(&r);
  out->connection = holt_read_u64(&r);
  out->last = holt_read_u64(&r);
  out->timeout_ms = holt_read_u32(&r);
  out->frame_max = holt_read_u32(&r);
  out->window = holt_read_u32(&r);
  holt_read_text8(&r, text);
  if (strlen(text) > HOLT_NAME_MAX || text[0] == '\0') r.failed = true;
  snprintf(out->name, sizeof out->name, "%.*s", HOLT_NAME_MAX, text);
  holt_read_text8(&r, text);
  if (strlen(text) > HOLT_NAME_MAX) r.failed = true;
  snprintf(out->channel, sizeof out->channel, "%.*s", HOLT_NAME_MAX, text);
  if (!is_whole(&r) || out->id == 0 || out->boot == 0 || out->timeout_ms == 0 || out->frame_max < 1024)
    return malformed(err, "hello");
  return 0;
}

void holt_resume_write(struct holt_writer *out, const struct holt_resume *resume) {
  holt_write_u64(out, resume->session);
  holt_write_u64(out, resume->own);
  for (int lane = 0; lane < HOLT_LANE_COUNT; lane++)
    if (holt_lane_is_numbered((enum holt_lane)lane)) holt_write_u64(out, resume->received[lane]);
}

int holt_resume_read(struct holt_buf body, struct holt_resume *out, struct holt_err *err) {
  struct holt_reader r = holt_reader(body);
  *out = (struct holt_resume){0};
  out->session = holt_read_u64(&r);
  out->own = holt_read_u64(&r);
  for (int lane = 0; lane < HOLT_LANE_COUNT; lane++)
    if (holt_lane_is_numbered((enum holt_lane)lane)) out->received[lane] = holt_read_u64(&r);
  return is_whole(&r) ? 0 : malformed(err, "resume");
}

void holt_start_write(struct holt_writer *out, uint64_t session) {
  holt_write_u64(out, session);
}

int holt_start_read(struct holt_buf body, uint64_t *session, struct holt_err *err) {
  struct holt_reader r = holt_reader(body);
  *session = holt_read_u64(&r);
  return is_whole(&r) && *session != 0 ? 0 : malformed(err, "start");
}

void holt_reason_write(struct holt_writer *out, const struct holt_reason *reason) {
  holt_write_text8(out, reason->word);
  holt_write_text8(out, reason->text);
}

int holt_reason_read(struct holt_buf body, struct holt_reason *out, struct holt_err *err) {
  struct holt_reader r = holt_reader(body);
  holt_read_text8(&r, out->word);
  holt_read_text8(&r, out->text);
  return is_whole(&r) ? 0 : malformed(err, "farewell");
}

void holt_ack_write(struct holt_writer *out, const struct holt_ack *ack) {
  holt_write_u8(out, ack->lane);
  holt_write_u64(out, ack->number);
}

int holt_ack_read(struct holt_buf body, struct holt_ack *out, struct holt_err *err) {
  struct holt_reader r = holt_reader(body);
  out->lane = holt_read_u8(&r);
  out->number = holt_read_u64(&r);
  bool is_lane = out->lane < HOLT_LANE_COUNT && holt_lane_is_numbered((enum holt_lane)out->lane);
  return is_whole(&r) && is_lane ? 0 : malformed(err, "acknowledge");
}
