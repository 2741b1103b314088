/* wire.h - what goes over a link: frames, and the messages of the handshake and of the lanes, to bytes and
 * back.
 *
 * docs/protocol.md describes every message. Decoders look at length and range of everything and never read
 * past the bytes they are given; what they return lies in the caller's struct or borrows from those bytes. */
#ifndef HOLT_WIRE_WIRE_H
#define HOLT_WIRE_WIRE_H

#include "base/buf.h"
#include "base/err.h"

#define HOLT_WIRE_VERSION   1
#define HOLT_WIRE_HEADER    12                /* bytes in front of each frame's body */
#define HOLT_WIRE_FRAME_MAX (8 * 1024 * 1024) /* default largest body */
#define HOLT_WIRE_HELLO_MAX 2048              /* largest body before the handshake is finished */
#define HOLT_NAME_MAX       64                /* bytes in a node name or channel */

enum holt_lane {
  HOLT_LANE_CONTROL,
  HOLT_LANE_RAFT,
  HOLT_LANE_CALL,
  HOLT_LANE_BUS,
  HOLT_LANE_JOURNAL,
  HOLT_LANE_SNAPSHOT,
  HOLT_LANE_COUNT
};

/* Whether frames of this lane are numbered, acknowledged and resent. */
static inline bool holt_lane_is_numbered(enum holt_lane lane) {
  return lane == HOLT_LANE_CALL || lane == HOLT_LANE_BUS || lane == HOLT_LANE_JOURNAL;
}

enum holt_wire_type {
  /* control lane */
  HOLT_WIRE_HELLO = 1,
  HOLT_WIRE_RESUME = 2,
  HOLT_WIRE_REFUSE = 3,
  HOLT_WIRE_PING = 4,
  HOLT_WIRE_PONG = 5,
  HOLT_WIRE_ACK = 6,
  HOLT_WIRE_BYE = 7,
  HOLT_WIRE_START = 8,
  /* any numbered lane: stands for a message that was dropped after it had got its number */
  HOLT_WIRE_EMPTY = 15,
  /* bus lane */
  HOLT_WIRE_EVENT = 16,
  HOLT_WIRE_DROPPED = 17,
  HOLT_WIRE_LAST = 18,
  /* call lane */
  HOLT_WIRE_ROUTE = 32,
  HOLT_WIRE_CALL = 33,
  HOLT_WIRE_REPLY = 34,
  HOLT_WIRE_KNOWN = 35,
  /* raft lane: never numbered, never kept */
  HOLT_WIRE_RAFT = 64,
  HOLT_WIRE_CLUSTER = 65,
  /* journal lane */
  HOLT_WIRE_JOURNAL = 80
};

struct holt_frame {
  uint32_t len; /* of the body */
  uint8_t type;
  uint8_t flags;
  uint8_t lane;
  uint32_t age_ms; /* numbered lanes: how old the message is */
};

void holt_frame_write(uint8_t out[HOLT_WIRE_HEADER], const struct holt_frame *frame);
/* Reads a header. HOLT_EPROTOCOL with a sentence when lane, type or length cannot be. */
int holt_frame_read(const uint8_t header[HOLT_WIRE_HEADER], uint32_t len_max, struct holt_frame *out,
                    struct holt_err *err);

/* First message of each side. */
struct holt_hello {
  uint16_t version;
  uint64_t id, boot;
  uint64_t connection; /* names this connection; the dialling side's counts */
  uint64_t last;       /* connection that this side last saw finished with this node, or 0 */
  uint32_t timeout_ms;
  uint32_t frame_max;
  uint32_t window; /* bytes of frames unacknowledged in one lane, at most; the smaller of both sides counts */
  char name[HOLT_NAME_MAX + 1];
  char channel[HOLT_NAME_MAX + 1];
};
void holt_hello_write(struct holt_writer *out, const struct holt_hello *hello);
/* HOLT_EVERSION when it is a hello of another version, HOLT_EPROTOCOL when it is none. */
int holt_hello_read(struct holt_buf body, struct holt_hello *out, struct holt_err *err);

/* "I take you": the session of the other side's messages that this side remembers, and up to which numbers it
 * has received them. When it is the session the other side is in, that resumes; else it starts a new one. */
struct holt_resume {
  uint64_t session; /* of the other side's messages; 0: none */
  uint64_t own;     /* the session this side's messages are in, if the other side remembers that; 0: none */
  uint64_t received[HOLT_LANE_COUNT];
};
void holt_resume_write(struct holt_writer *out, const struct holt_resume *resume);
int holt_resume_read(struct holt_buf body, struct holt_resume *out, struct holt_err *err);

/* "My messages are numbered from 1 again, in this session." Goes before the first of them. */
void holt_start_write(struct holt_writer *out, uint64_t session);
int holt_start_read(struct holt_buf body, uint64_t *session, struct holt_err *err);

/* "I do not take you", or "I am leaving" (bye): a stable word and a sentence. */
struct holt_reason {
  char word[256];
  char text[256];
};
void holt_reason_write(struct holt_writer *out, const struct holt_reason *reason);
int holt_reason_read(struct holt_buf body, struct holt_reason *out, struct holt_err *err);

struct holt_ack {
  uint8_t lane;
  uint64_t number; /* covers all up to this one */
};
void holt_ack_write(struct holt_writer *out, const struct holt_ack *ack);
int holt_ack_read(struct holt_buf body, struct holt_ack *out, struct holt_err *err);

/* An event of the bus. Texts borrow from the body and are not NUL-terminated. */
struct holt_wire_event {
  uint64_t boot, sequence;
  uint8_t hops, codec;
  struct holt_buf origin, subject, payload;
};
#define HOLT_WIRE_EVENT_HOPS                                                                                 \
  16 /* where the hop count lies in the body: a node on the way adds one in place */
size_t holt_wire_event_size(const struct holt_wire_event *event);
void holt_wire_event_write(uint8_t *out, const struct holt_wire_event *event);
int holt_wire_event_read(struct holt_buf body, struct holt_wire_event *out, struct holt_err *err);

/* Ranges of one origin: dropped on the way (DROPPED), or the last number sent (LAST, from == to). */
struct holt_wire_range {
  uint64_t boot, from, to;
  char origin[HOLT_NAME_MAX + 1];
};
#define HOLT_WIRE_NUMBER_MAX                                                                                 \
  ((uint64_t)1 << 62)            /* no origin emits so many events: a larger number is forged */
#define HOLT_WIRE_RANGE_MAX 1024 /* ranges in one message */
/* So many bytes holt_wire_range_write takes. */
static inline size_t holt_wire_range_size(const struct holt_wire_range *range) {
  return 3 * 8 + 1 + strlen(range->origin);
}
void holt_wire_range_write(struct holt_writer *out, const struct holt_wire_range *range);
/* Reads the next range; 1: one was read, 0: no more, or HOLT_EPROTOCOL. */
int holt_wire_range_read(struct holt_reader *in, struct holt_wire_range *out, struct holt_err *err);

/* A request on its way to `target`. Texts and payload borrow from the body. */
struct holt_wire_call {
  uint64_t origin, id; /* boot that calls, and its number for the call */
  uint64_t target;     /* boot that is to answer */
  uint32_t left_ms;    /* until the deadline, when it was sent off */
  uint8_t hops, codec;
  struct holt_buf name, subject, payload; /* name of the caller */
};
#define HOLT_WIRE_CALL_HOPS 28 /* where the hop count lies in the body */
size_t holt_wire_call_size(const struct holt_wire_call *call);
void holt_wire_call_write(uint8_t *out, const struct holt_wire_call *call);
int holt_wire_call_read(struct holt_buf body, struct holt_wire_call *out, struct holt_err *err);

enum holt_reply_status {
  HOLT_REPLY_OK,
  HOLT_REPLY_RAISED,      /* the handler raised; the payload is its message */
  HOLT_REPLY_UNREACHABLE, /* it did not get there (or perhaps it did: may_have_run) */
  HOLT_REPLY_NO_RESPONDER /* it got there, and nobody serves the subject any more */
};

struct holt_wire_reply {
  uint64_t origin, id; /* of the call: where the reply goes */
  uint64_t responder;  /* boot that answers */
  uint8_t hops, codec, status, may_have_run;
  struct holt_buf name, payload; /* name of who answers */
};
#define HOLT_WIRE_REPLY_HOPS 24
size_t holt_wire_reply_size(const struct holt_wire_reply *reply);
void holt_wire_reply_write(uint8_t *out, const struct holt_wire_reply *reply);
int holt_wire_reply_read(struct holt_buf body, struct holt_wire_reply *out, struct holt_err *err);

/* What a node says of itself: whom it is linked with and what it serves. */
#define HOLT_WIRE_NEIGHBOURS_MAX 4096
#define HOLT_WIRE_SUBJECTS_MAX   4096
struct holt_wire_route {
  uint64_t boot, version; /* a higher version replaces a lower one */
  char name[HOLT_NAME_MAX + 1];
  uint16_t neighbour_count, subject_count;
};
/* The fixed part; neighbours (boots, 8 bytes each) and subjects (texts) follow, to be written and read by the
 * caller with holt_write_u64, holt_write_text8 and their counterparts. */
void holt_wire_route_write(struct holt_writer *out, const struct holt_wire_route *route);
int holt_wire_route_read(struct holt_reader *in, struct holt_wire_route *out, struct holt_err *err);

#endif /* HOLT_WIRE_WIRE_H */
