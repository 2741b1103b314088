#include "link/msg.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

/* --- Messages ------------------------------------------------------------------------------------- */

struct holt_msg *holt_msg_new(uint8_t type, size_t len) {
  return holt_msg_new_with_tail(type, len, 0);
}

struct holt_msg *holt_msg_new_with_tail(uint8_t type, size_t len, size_t tail) {
  struct holt_msg *msg = malloc(sizeof *msg + len + tail);
  if (msg == NULL) return NULL;
  *msg = (struct holt_msg){.refs = 1, .type = type, .len = (uint32_t)len};
  return msg;
}

struct holt_msg *holt_msg_retain(struct holt_msg *msg) {
  msg->refs++;
  return msg;
}

void holt_msg_release(struct holt_msg *msg) {
  if (msg != NULL && --msg->refs == 0) free(msg);
}

/* --- Ring ----------------------------------------------------------------------------------------- */

void holt__ring_free(struct holt_ring *ring) {
  for (size_t i = 0; i < ring->count; i++) holt_msg_release(holt__ring_at(ring, i));
  free(ring->slots);
  *ring = (struct holt_ring){0};
}

static size_t slot_of(const struct holt_ring *ring, size_t index) {
  return (ring->head + index) & (ring->cap - 1);
}

struct holt_msg *holt__ring_at(const struct holt_ring *ring, size_t index) {
  HOLT_ASSERT(index < ring->count);
  return ring->slots[slot_of(ring, index)];
}

static void resize(struct holt_ring *ring, size_t cap) {
  struct holt_msg **slots = holt_realloc(NULL, cap * sizeof(struct holt_msg *));
  for (size_t i = 0; i < ring->count; i++) slots[i] = holt__ring_at(ring, i);
  free(ring->slots);
  ring->slots = slots;
  ring->cap = cap;
  ring->head = 0;
}

void holt__ring_push(struct holt_ring *ring, struct holt_msg *msg) {
  if (ring->count == ring->cap) resize(ring, ring->cap == 0 ? 16 : ring->cap * 2);
  ring->slots[slot_of(ring, ring->count++)] = msg;
  ring->bytes += msg->len;
  ring->quiet += msg->is_quiet;
}

void holt__ring_unshift(struct holt_ring *ring, struct holt_msg *msg) {
  if (ring->count == ring->cap) resize(ring, ring->cap == 0 ? 16 : ring->cap * 2);
  ring->head = slot_of(ring, ring->cap - 1);
  ring->slots[ring->head] = msg;
  ring->count++;
  ring->bytes += msg->len;
  ring->quiet += msg->is_quiet;
}

struct holt_msg *holt__ring_shift(struct holt_ring *ring) {
  if (ring->count == 0) return NULL;
  struct holt_msg *msg = ring->slots[ring->head];
  ring->head = slot_of(ring, 1);
  ring->count--;
  ring->bytes -= msg->len;
  ring->quiet -= msg->is_quiet;
  if (ring->count == 0 && ring->cap > 64) { /* an idle link keeps no large ring */
    free(ring->slots);
    ring->slots = NULL;
    ring->cap = ring->head = 0;
  }
  return msg;
}

struct holt_msg *holt__ring_swap(struct holt_ring *ring, size_t index, struct holt_msg *msg) {
  struct holt_msg *old = holt__ring_at(ring, index);
  ring->slots[slot_of(ring, index)] = msg;
  ring->bytes = ring->bytes - old->len + msg->len;
  ring->quiet = ring->quiet - old->is_quiet + msg->is_quiet;
  return old;
}

/* --- Outward -------------------------------------------------------------------------------------- */

void holt__lane_out_free(struct holt_lane_out *lane) {
  holt__ring_free(&lane->unacked);
  holt__ring_free(&lane->pending);
  *lane = (struct holt_lane_out){0};
}

void holt__lane_out_note_drop(struct holt_lane_out *lane, bool is_behind) {
  if (!lane->has_notice) lane->notice_at = 0;
  if (is_behind) lane->notice_at = lane->pending.count;
  lane->has_notice = true;
}

struct holt_msg *holt__lane_out_shift(struct holt_lane_out *lane) {
  if (lane->notice_at > 0) lane->notice_at--;
  return holt__ring_shift(&lane->pending);
}

/* An empty one may stand for a message that the remote has: its tag keeps how long that was. */
static uint64_t cost_of(const struct holt_msg *msg) {
  return holt__cost(msg->type == HOLT_WIRE_EMPTY ? (size_t)msg->tag[0] : msg->len);
}

struct holt_msg *holt__lane_out_write(struct holt_lane_out *lane) {
  struct holt_msg *msg = holt__ring_at(&lane->unacked, lane->written++);
  lane->written_cost += cost_of(msg);
  return msg;
}

struct holt_msg *holt__lane_out_blank(struct holt_lane_out *lane, size_t index) {
  struct holt_msg *empty = holt_msg_new(HOLT_WIRE_EMPTY, 0);
  if (empty == NULL) return NULL;
  struct holt_msg *old = holt__ring_swap(&lane->unacked, index, empty);
  empty->born_ms = old->born_ms;
  empty->is_quiet = true;
  empty->tag[0] = old->type == HOLT_WIRE_EMPTY ? old->tag[0] : old->len;
  return old;
}

int64_t holt__lane_out_ack(struct holt_lane_out *lane, uint64_t number) {
  if (number < lane->base || number - lane->base > lane->written) return HOLT_EPROTOCOL;
  int64_t count = (int64_t)(number - lane->base);
  for (; lane->base < number; lane->base++) {
    struct holt_msg *msg = holt__ring_shift(&lane->unacked);
    lane->written_cost -= cost_of(msg);
    holt_msg_release(msg);
  }
  lane->written -= (size_t)count;
  return count;
}

/* The remote has the first `count` of `unacked`, and none of the others. */
static void set_written(struct holt_lane_out *lane, size_t count) {
  lane->written = 0;
  lane->written_cost = 0;
  while (lane->written < count) holt__lane_out_write(lane);
  for (size_t i = count; i < lane->unacked.count; i++) {
    struct holt_msg *msg = holt__ring_at(&lane->unacked, i);
    if (msg->type == HOLT_WIRE_EMPTY) msg->tag[0] = 0;
  }
}

int holt__lane_out_resume(struct holt_lane_out *lane, uint64_t received) {
  if (received < lane->base || received - lane->base > lane->unacked.count) return HOLT_EPROTOCOL;
  set_written(lane, (size_t)(received - lane->base));
  return 0;
}

void holt__lane_out_restart(struct holt_lane_out *lane) {
  lane->base = 0;
  set_written(lane, 0);
}

/* --- Inward --------------------------------------------------------------------------------------- */

#define DEALT_WITH ((uint32_t)1 << 31)

void holt__lane_in_free(struct holt_lane_in *lane) {
  free(lane->costs);
  *lane = (struct holt_lane_in){0};
}

void holt__lane_in_restart(struct holt_lane_in *lane) {
  uint16_t epoch = (uint16_t)(lane->epoch + 1);
  holt__lane_in_free(lane);
  lane->epoch = epoch;
}

static uint32_t *cost_at(const struct holt_lane_in *lane, uint64_t number) {
  return &lane->costs[number & (lane->cap - 1)];
}

static void resize_costs(struct holt_lane_in *lane, size_t cap) {
  struct holt_lane_in old = *lane;
  lane->cap = cap;
  lane->costs = holt_realloc(NULL, cap * sizeof *lane->costs);
  for (uint64_t n = old.done + 1; n <= old.received; n++) *cost_at(lane, n) = *cost_at(&old, n);
  free(old.costs);
}

uint64_t holt__lane_in_receive(struct holt_lane_in *lane, size_t len) {
  uint64_t cost = holt__cost(len);
  HOLT_ASSERT(cost < DEALT_WITH);
  if (lane->received - lane->done == lane->cap) resize_costs(lane, lane->cap == 0 ? 64 : lane->cap * 2);
  lane->received++;
  lane->open_cost += cost;
  *cost_at(lane, lane->received) = (uint32_t)cost;
  return lane->received;
}

void holt__lane_in_consume(struct holt_lane_in *lane, uint64_t number) {
  HOLT_ASSERT(number > lane->done);
  HOLT_ASSERT(number <= lane->received);
  HOLT_ASSERT((*cost_at(lane, number) & DEALT_WITH) == 0);
  *cost_at(lane, number) |= DEALT_WITH;
  while (lane->done < lane->received && (*cost_at(lane, lane->done + 1) & DEALT_WITH) != 0) {
    uint64_t cost = *cost_at(lane, ++lane->done) & ~DEALT_WITH;
    lane->open_cost -= cost;
    lane->done_cost += cost;
  }
  if (lane->done == lane->received && lane->cap > 256) { /* an idle link keeps no large ring */
    free(lane->costs);
    lane->costs = NULL;
    lane->cap = 0;
  }
}

void holt__lane_in_acked(struct holt_lane_in *lane) {
  lane->done_cost = 0;
  lane->acked = lane->done;
}
