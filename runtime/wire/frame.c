/* frame.c - the header in front of every message. */
#include "wire/wire.h"

void holt_frame_write(uint8_t out[HOLT_WIRE_HEADER], const struct holt_frame *frame) {
  holt_put_u32(out, frame->len);
  out[4] = frame->type;
  out[5] = frame->flags;
  out[6] = frame->lane;
  out[7] = 0;
  holt_put_u32(out + 8, frame->age_ms);
}

static bool type_fits_lane(uint8_t type, uint8_t lane) {
  if (lane == HOLT_LANE_CONTROL) return type >= HOLT_WIRE_HELLO && type <= HOLT_WIRE_START;
  if (type == HOLT_WIRE_EMPTY) return lane < HOLT_LANE_COUNT && holt_lane_is_numbered((enum holt_lane)lane);
  if (lane == HOLT_LANE_BUS) return type >= HOLT_WIRE_EVENT && type <= HOLT_WIRE_LAST;
  if (lane == HOLT_LANE_CALL) return type >= HOLT_WIRE_ROUTE && type <= HOLT_WIRE_KNOWN;
  if (lane == HOLT_LANE_JOURNAL) return type == HOLT_WIRE_JOURNAL;
  if (lane == HOLT_LANE_RAFT) return type == HOLT_WIRE_RAFT || type == HOLT_WIRE_CLUSTER;
  return false;
}

int holt_frame_read(const uint8_t header[HOLT_WIRE_HEADER], uint32_t len_max, struct holt_frame *out,
                    struct holt_err *err) {
  *out = (struct holt_frame){.len = holt_get_u32(header),
                             .type = header[4],
                             .flags = header[5],
                             .lane = header[6],
                             .age_ms = holt_get_u32(header + 8)};
  if (out->len > len_max)
    return holt_err_set(err, HOLT_EPROTOCOL, "a frame of %u bytes came, at most %u are allowed", out->len,
                        len_max);
  if (out->lane >= HOLT_LANE_COUNT || header[7] != 0 || out->flags != 0)
    return holt_err_set(err, HOLT_EPROTOCOL,
                        "what came is not a frame of holt (lane %u, flags %u, reserved %u)", out->lane,
                        out->flags, header[7]);
  if (!type_fits_lane(out->type, out->lane))
    return holt_err_set(err, HOLT_EPROTOCOL, "a message of unknown type %u came in lane %u", out->type,
                        out->lane);
  return 0;
}
