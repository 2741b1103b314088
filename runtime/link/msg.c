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

struct holt_msg *holt__ring_shift(struct holt_ring *ring) {
  if (ring->count == 0) return NULL;
  struct holt_msg *msg = ring->slots[ring->head];
  ring->head = slot_of(ring, 1);
  ring->count--;
  ring->bytes -= msg->len;
  ring->quiet -= msg->is_quiet;
  if (ring->count == 0 && ring->cap > 1024) { /* an idle link keeps no large ring */
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

int64_t holt__lane_out_ack(struct holt_lane_out *lane, uint64_t number) {
  if (number < lane->base || number - lane->base > lane->written) return HOLT_EPROTOCOL;
  int64_t count = (int64_t)(number - lane->base);
  for (; lane->base < number; lane->base++) holt_msg_release(holt__ring_shift(&lane->unacked));
  lane->written -= (size_t)count;
  return count;
}

int holt__lane_out_resume(struct holt_lane_out *lane, uint64_t received) {
  if (received < lane->base || received - lane->base > lane->unacked.count) return HOLT_EPROTOCOL;
  lane->written = (size_t)(received - lane->base);
  return 0;
}

void holt__lane_out_restart(struct holt_lane_out *lane) {
  lane->base = 0;
  lane->written = 0;
}

/* --- Inward --------------------------------------------------------------------------------------- */

void holt__lane_in_free(struct holt_lane_in *lane) {
  free(lane->bits);
  *lane = (struct holt_lane_in){0};
}

void holt__lane_in_restart(struct holt_lane_in *lane) {
  uint16_t epoch = (uint16_t)(lane->epoch + 1);
  holt__lane_in_free(lane);
  lane->epoch = epoch;
}

uint64_t holt__lane_in_receive(struct holt_lane_in *lane, size_t len) {
  lane->bytes += len;
  return ++lane->received;
}

static bool bit_test(const struct holt_lane_in *lane, uint64_t number) {
  uint64_t at = number & (lane->bits_cap - 1);
  return (lane->bits[at / 64] >> (at % 64) & 1) != 0;
}

static void bit_flip(struct holt_lane_in *lane, uint64_t number) {
  uint64_t at = number & (lane->bits_cap - 1);
  lane->bits[at / 64] ^= (uint64_t)1 << (at % 64);
}

/* Room for a bit of each number in (done, received]. */
static void bits_reserve(struct holt_lane_in *lane) {
  uint64_t wanted = lane->received - lane->done;
  if (wanted < lane->bits_cap) return;
  struct holt_lane_in old = *lane;
  if (lane->bits_cap == 0) lane->bits_cap = 256;
  while (lane->bits_cap <= wanted) lane->bits_cap *= 2;
  lane->bits = holt_alloc(lane->bits_cap / 8);
  for (uint64_t n = old.done + 1; old.bits != NULL && n <= old.done + old.bits_cap; n++)
    if (bit_test(&old, n)) bit_flip(lane, n);
  free(old.bits);
}

void holt__lane_in_consume(struct holt_lane_in *lane, uint64_t number) {
  HOLT_ASSERT(number > lane->done);
  HOLT_ASSERT(number <= lane->received);
  if (number != lane->done + 1) {
    bits_reserve(lane);
    HOLT_ASSERT(!bit_test(lane, number));
    bit_flip(lane, number);
    return;
  }
  lane->done++;
  while (lane->bits != NULL && lane->done < lane->received && bit_test(lane, lane->done + 1)) {
    bit_flip(lane, lane->done + 1);
    lane->done++;
  }
}

void holt__lane_in_acked(struct holt_lane_in *lane) {
  uint64_t before = lane->received - lane->acked, after = lane->received - lane->done;
  lane->bytes = before == 0 ? 0 : (uint64_t)((double)lane->bytes * (double)after / (double)before);
  lane->acked = lane->done;
}
