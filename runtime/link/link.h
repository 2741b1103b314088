/* link.h - links to other nodes: handshake, numbering, acknowledgement, resend buffer, reconnect with
 * back-off.
 *
 * `struct holt_links` is all that one node has to do with its neighbours. A *link* is one remote node by
 * name, with the messages it has not acknowledged; it outlives its connections. A *peer* is the handle a
 * person holds: an address that is dialled for ever, or for as long as somebody says that a node is there, or
 * a node that dialled us. Several peers may lead to one link. Call from the loop's thread only. Durations are
 * milliseconds. */
#ifndef HOLT_LINK_LINK_H
#define HOLT_LINK_LINK_H

#include "base/buf.h"
#include "env/env.h"
#include "transport/transport.h"
#include "wire/wire.h"

#define HOLT_STALLED_MS 1000  /* without credit for so long a present peer is stalled */
#define HOLT_MEET_MS    60000 /* holt_links_meet is good for so long */

struct holt_links;
struct holt_link;
struct holt_peer;

enum holt_overflow { HOLT_OVERFLOW_DROP_OLDEST, HOLT_OVERFLOW_WAIT, HOLT_OVERFLOW_ERROR };

struct holt_links_config {
  struct holt_transport *transport; /* borrowed; outlives the links */
  const char *name;                 /* of this node; copied */
  const char *channel;              /* only nodes of the same channel talk; copied */
  uint64_t id;                      /* of this node, not 0 */
  uint64_t boot;                    /* new at each start, not 0 */
  uint64_t timeout_ms;              /* silence after which a connection is given up; also for the handshake */
  uint64_t ack_interval_ms;         /* acknowledge at least this often */
  uint64_t buffer_timeout_ms;       /* what is older is dropped; an absent node is remembered this long */
  uint32_t buffer_max;              /* messages added while the peer is away */
  uint64_t buffer_bytes;            /* and their bytes */
  uint64_t window_bytes;            /* of frames unacknowledged in one lane, at most; the smaller of both
                                     * sides counts */
  uint32_t frame_max;               /* largest frame body in bytes */
  uint32_t max_peers;
  uint64_t backoff_min_ms, backoff_max_ms;
  enum holt_overflow overflow;
};
/* The defaults of every field but transport, name, id and boot. */
struct holt_links_config holt_links_defaults(void);

/* A message in the resend buffers: counted, immutable, shared by the links it goes to. */
struct holt_msg {
  uint32_t refs;
  uint8_t type; /* enum holt_wire_type */
  uint8_t flags;
  bool is_quiet;    /* housekeeping: when it is dropped only its owner hears of it (on_dropped) */
  uint64_t born_ms; /* loop time at which it was (or seems to have been) emitted */
  uint64_t tag[2];  /* for the owner: the bus keeps origin boot and sequence here */
  uint32_t len;
  uint8_t data[];
};
/* A message with room for `len` bytes, or NULL when memory is out. One reference. */
struct holt_msg *holt_msg_new(uint8_t type, size_t len);
/* The same with `tail` more bytes behind the body, for the maker's own use: they are not sent. */
struct holt_msg *holt_msg_new_with_tail(uint8_t type, size_t len, size_t tail);
struct holt_msg *holt_msg_retain(struct holt_msg *msg);
void holt_msg_release(struct holt_msg *msg);

/* A numbered message that came in. */
struct holt_link_message {
  uint8_t type;
  uint8_t flags;
  enum holt_lane lane;
  uint64_t age_ms;      /* told by the sender */
  uint64_t number;      /* pass to holt_link_consume when it is dealt with */
  struct holt_buf body; /* borrowed until return */
};

enum holt_peer_event {
  HOLT_PEER_CONNECT,     /* the transport stands (dialling side) */
  HOLT_PEER_PEERID,      /* the other side named itself */
  HOLT_PEER_INITIALIZED, /* handshake complete */
  HOLT_PEER_ACKNOWLEDGE, /* `number`: last message covered */
  HOLT_PEER_DISCONNECT,  /* the connection is gone; `err` */
  HOLT_PEER_BACKOFF,     /* an attempt failed or the link was lost: `attempt`, `delay_ms`, `err` */
  HOLT_PEER_RECONNECT,   /* the wait is over, dialling: `attempt`, `delay_ms` */
  HOLT_PEER_DROPPED,     /* `number` messages for this peer were dropped from its buffer; `err` says why */
  HOLT_PEER_CLOSE        /* the peer is gone for good; last event, `peer` must not be used after it */
};

struct holt_peer_notice {
  enum holt_peer_event event;
  uint64_t number;
  uint32_t attempt;
  uint64_t delay_ms;
  struct holt_err err; /* code 0 when there is none */
};

/* All run inside the loop; none may free the links. Any may be NULL. */
struct holt_links_ops {
  void (*on_peer)(void *arg, struct holt_peer *peer, const struct holt_peer_notice *notice);
  /* A link exists (known or unknown by name), and it is about to be freed. */
  void (*on_link_up)(void *arg, struct holt_link *link);
  void (*on_link_down)(void *arg, struct holt_link *link); /* it lost its connection */
  void (*on_link_gone)(void *arg, struct holt_link *link);
  void (*on_message)(void *arg, struct holt_link *link, const struct holt_link_message *message);
  /* `msg` left the buffer (age, overflow). In the bus lane a notice takes its place: when that is due to be
   * sent, on_notice writes its body (type HOLT_WIRE_DROPPED), at most `len_max` bytes, and returns whether
   * there is more to tell. `was_sent`: it may have arrived all the same.
   * What was sent in the call lane is not sent again to a new boot: it is dropped too. */
  void (*on_dropped)(void *arg, struct holt_link *link, struct holt_msg *msg, bool was_sent);
  bool (*on_notice)(void *arg, struct holt_link *link, size_t len_max, struct holt_writer *out);
  /* Room came back somewhere: whoever waits to send may try again. */
  void (*on_room)(void *arg);
  /* A present peer has acknowledged so many bytes of the bus lane. */
  void (*on_credit)(void *arg, struct holt_link *link, uint64_t bytes);
  /* An incoming connection was refused, or refused us, before any peer could be named. */
  void (*on_refused)(void *arg, const char *where, const struct holt_err *err);
};

struct holt_links *holt_links_new(struct holt_env *env, const struct holt_links_config *config,
                                  const struct holt_links_ops *ops, void *arg);
void holt_links_free(struct holt_links *links);
/* Say goodbye to every neighbour, close every listener and peer (each tells HOLT_PEER_CLOSE). */
void holt_links_close(struct holt_links *links);
/* Ask every neighbour to acknowledge at once what its interval would put off. */
void holt_links_hurry(struct holt_links *links);
/* Cut every connection; those that we dial are closed for good, listeners stay. */
void holt_links_disconnect(struct holt_links *links);
uint32_t holt_links_frame_max(const struct holt_links *links);
/* Messages not yet acknowledged over links that are up: 0 when everything has arrived. */
uint64_t holt_links_unacknowledged(const struct holt_links *links);

int holt_links_listen(struct holt_links *links, const char *address, char actual[128], struct holt_err *err);
/* Dial for ever. The same address gives the same peer. The peer is valid until its HOLT_PEER_CLOSE. */
int holt_links_connect(struct holt_links *links, const char *address, struct holt_peer **out,
                       struct holt_err *err);
/* Somebody says that a node is at `address`: dial until nobody has been there, and nobody has said so again,
 * for HOLT_MEET_MS. The peer ends then (HOLT_PEER_CLOSE); a link with a name keeps what waits for its node,
 * as that of any absent node. Without effect on an address that is dialled for ever. */
void holt_links_meet(struct holt_links *links, const char *address);

struct holt_link *holt_links_first(struct holt_links *links);
struct holt_link *holt_links_next(struct holt_links *links, struct holt_link *link);
struct holt_peer *holt_links_first_peer(struct holt_links *links);
struct holt_peer *holt_links_next_peer(struct holt_links *links, struct holt_peer *peer);

/* --- One peer ------------------------------------------------------------------------------------- */

uint64_t holt_peer_number(const struct holt_peer *peer);     /* unique within the process */
const char *holt_peer_address(const struct holt_peer *peer); /* dialled address, "" for incoming */
/* NULL once it was closed. */
struct holt_link *holt_peer_link(const struct holt_peer *peer);
/* Stop dialling, close the link, forget its buffer. HOLT_PEER_CLOSE follows on a later turn. */
void holt_peer_close(struct holt_peer *peer);

/* --- One link ------------------------------------------------------------------------------------- */

struct holt_link_status {
  const char *name;  /* "" while unknown */
  uint64_t id, boot; /* of the remote, 0 while unknown */
  bool is_up;
  uint64_t buffered; /* messages not yet acknowledged */
  uint64_t buffered_bytes;
  uint64_t acknowledged; /* number of the last message acknowledged by the remote */
  uint64_t received;     /* number of the last message received */
  uint64_t dropped;      /* messages dropped from its buffer so far */
  uint32_t attempts;     /* failed attempts to connect since it was last up */
  uint64_t connects;     /* handshakes finished so far */
};
void holt_link_status(const struct holt_link *link, struct holt_link_status *out);
bool holt_link_is_up(const struct holt_link *link);
const char *holt_link_name(const struct holt_link *link);
/* The name, or while that is unknown the address that is dialled: for messages to people. */
const char *holt_link_label(const struct holt_link *link);
uint64_t holt_link_boot(const struct holt_link *link);
/* Whether the remote went on where the last connection ended: what it was sent then it has, or gets. */
bool holt_link_is_resumed(const struct holt_link *link);
/* Largest body that the remote accepts; 0 while it is absent. */
uint32_t holt_link_frame_max(const struct holt_link *link);
/* For the bus: one pointer of its own on each link. */
void holt_link_set_data(struct holt_link *link, void *data);
void *holt_link_data(const struct holt_link *link);

/* Whether one more message of `len` bytes may be added now:
 * 0 yes; HOLT_EAGAIN wait for on_room (present peer without credit, or absent with overflow "wait");
 * HOLT_ESTALLED a present peer that has given no credit for a second: drop it (holt_link_drop);
 * HOLT_EFULL absent with overflow "error". */
int holt_link_room(struct holt_link *link, enum holt_lane lane, size_t len);
/* Queue `msg` (retained); it is resent after each reconnect until acknowledged. Never refuses: call
 * holt_link_room first where waiting is possible. With an absent peer the oldest may be dropped for it. */
void holt_link_send(struct holt_link *link, enum holt_lane lane, struct holt_msg *msg);
/* Send `body` (copied) in the raft lane, ahead of everything numbered: at once or never. HOLT_EUNREACHABLE:
 * not up; HOLT_ETOOLARGE; HOLT_EFULL: more than HOLT_POST_MAX bytes wait for the connection already. It
 * arrives by on_message with number 0, which is not to be consumed. */
#define HOLT_POST_MAX (32 * 1024 * 1024)
int holt_link_post(struct holt_link *link, enum holt_wire_type type, struct holt_buf body);
/* True while the lane of a present peer holds more than its window; on_room follows when that has gone down,
 * and when it has lasted for a second. */
bool holt_link_is_choked(struct holt_link *link, enum holt_lane lane);
/* True once a present peer has given no credit in the lane for a second, until credit comes. */
bool holt_link_is_stalled(const struct holt_link *link, enum holt_lane lane);
/* Drop `msg` for this link instead of sending it: counted, and told to the remote by a notice. */
void holt_link_drop(struct holt_link *link, enum holt_lane lane, struct holt_msg *msg);
/* The message with this number has been dealt with; it will be acknowledged with all before it. */
void holt_link_consume(struct holt_link *link, enum holt_lane lane, uint64_t number);
/* Go faster than the configuration says, as between members of a cluster: an attempt to connect that takes
 * longer than `redial_ms` (and its handshake as long again) is given up, the next one begins within as much,
 * and who is silent for `silence_ms` is gone. 0: as the configuration says. Holds until it is set anew. */
void holt_link_pace(struct holt_link *link, uint64_t redial_ms, uint64_t silence_ms);
/* Cut the connection, as a fault would; it is dialled anew. For tests and chaos. */
void holt_link_reset(struct holt_link *link);

#endif /* HOLT_LINK_LINK_H */
