/* msg.h - rings of messages, and the two halves of a numbered lane. Pure: no connection, no clock. */
#ifndef HOLT_LINK_MSG_H
#define HOLT_LINK_MSG_H

#include "link/link.h"

/* A queue of messages, each holding one reference. Zero-initialised is empty. */
struct holt_ring {
  struct holt_msg **slots;
  size_t cap; /* power of two or 0 */
  size_t head, count;
  uint64_t bytes;
  size_t quiet; /* how many are housekeeping */
};

void holt__ring_free(struct holt_ring *ring);
void holt__ring_push(struct holt_ring *ring, struct holt_msg *msg);    /* takes the reference */
void holt__ring_unshift(struct holt_ring *ring, struct holt_msg *msg); /* the same, in front */
struct holt_msg *holt__ring_at(const struct holt_ring *ring, size_t index);
struct holt_msg *holt__ring_shift(struct holt_ring *ring); /* gives the reference; NULL when empty */
/* Put `msg` (reference taken) in the place of the one at `index`, whose reference is given back. */
struct holt_msg *holt__ring_swap(struct holt_ring *ring, size_t index, struct holt_msg *msg);

/* What goes out in one lane. Numbers are given at the first sending; `unacked` holds base+1, base+2, …
 *
 *      acknowledged | sent, unacknowledged | on its way to be sent
 *                 base        unacked           [notice] pending
 */
struct holt_lane_out {
  struct holt_ring unacked;
  size_t written;        /* how many of unacked the remote has or was sent on the present connection */
  uint64_t written_cost; /* what these take of the window */
  uint64_t base;         /* number of the last acknowledged message */
  struct holt_ring pending;
  bool has_notice;  /* messages were dropped: say so … */
  size_t notice_at; /* … behind so many of `pending` */
};

/* What a message takes of the window: its frame. */
static inline uint64_t holt__cost(size_t len) {
  return len + HOLT_WIRE_HEADER;
}
void holt__lane_out_free(struct holt_lane_out *lane);
/* Whether a message of `len` bytes may be sent now: the remote was promised no more than `window`
 * unacknowledged at a time, or a single message if that is larger. */
static inline bool holt__lane_out_may_write(const struct holt_lane_out *lane, size_t len, uint64_t window) {
  return lane->written == 0 || lane->written_cost + holt__cost(len) <= window;
}
/* The next of `unacked` is being sent. */
struct holt_msg *holt__lane_out_write(struct holt_lane_out *lane);
/* An empty message takes the place of the one at `index` of `unacked`, which is given away; NULL when memory
 * is out. The remote may have the old one: it goes on taking its part of the window. */
struct holt_msg *holt__lane_out_blank(struct holt_lane_out *lane, size_t index);
/* A message was dropped, at the front of `pending` or behind all of it: a notice is due there, or further
 * behind when one is due there already. */
void holt__lane_out_note_drop(struct holt_lane_out *lane, bool is_behind);
/* The next of `pending`, given away. */
struct holt_msg *holt__lane_out_shift(struct holt_lane_out *lane);
/* An acknowledgement came. HOLT_EPROTOCOL for a number that cannot be. Returns how many were released, else.
 */
int64_t holt__lane_out_ack(struct holt_lane_out *lane, uint64_t number);
/* The remote has received up to `received`: go on from there. HOLT_EPROTOCOL when that cannot be. */
int holt__lane_out_resume(struct holt_lane_out *lane, uint64_t received);
/* The remote remembers nothing: number everything anew from 1 and send it all. */
void holt__lane_out_restart(struct holt_lane_out *lane);
static inline uint64_t holt__lane_out_bytes(const struct holt_lane_out *lane) {
  return lane->unacked.bytes + lane->pending.bytes;
}
/* What all of them take of a window. */
static inline uint64_t holt__lane_out_cost(const struct holt_lane_out *lane) {
  return holt__lane_out_bytes(lane) + (lane->unacked.count + lane->pending.count) * HOLT_WIRE_HEADER;
}
/* Without housekeeping. */
static inline uint64_t holt__lane_out_count(const struct holt_lane_out *lane) {
  return lane->unacked.count - lane->unacked.quiet + lane->pending.count - lane->pending.quiet;
}

/* What comes in in one lane: which numbers have been dealt with, in whatever order, and what the others take
 * of the window. */
struct holt_lane_in {
  uint64_t received;  /* number of the last message that came */
  uint64_t done;      /* all up to this one have been dealt with */
  uint64_t acked;     /* last acknowledgement sent on the present connection */
  uint64_t open_cost; /* taken of the window by the messages in (done, received] … */
  uint64_t done_cost; /* … and by those that have been dealt with since the last acknowledgement */
  bool is_ack_due;
  uint32_t
      *costs;     /* of each in (done, received], at number % cap; the highest bit: dealt with out of order */
  size_t cap;     /* power of two or 0 */
  uint16_t epoch; /* counts restarts, so that an old number is not taken for a new one */
};

void holt__lane_in_free(struct holt_lane_in *lane);
void holt__lane_in_restart(struct holt_lane_in *lane);
/* Whether the remote keeps its promise with one more message of `len` bytes. */
static inline bool holt__lane_in_may_receive(const struct holt_lane_in *lane, size_t len, uint64_t window) {
  return lane->received == lane->done || lane->open_cost + holt__cost(len) <= window;
}
/* Received and not acknowledged, as part of the window. */
static inline uint64_t holt__lane_in_cost(const struct holt_lane_in *lane) {
  return lane->open_cost + lane->done_cost;
}
/* One more message came; returns its number. */
uint64_t holt__lane_in_receive(struct holt_lane_in *lane, size_t len);
void holt__lane_in_consume(struct holt_lane_in *lane, uint64_t number);
/* `done` has been acknowledged. */
void holt__lane_in_acked(struct holt_lane_in *lane);

#endif /* HOLT_LINK_MSG_H */
