/* link_impl.h - how the files of link/ share their work:
 *
 *   links.c      all of one node: listeners, names, what is to be flushed
 *   link.c       one remote node: its buffers, up and down, ageing
 *   conn.c       one connection: frames in and out, pings, silence
 *   handshake.c  who takes whom, and from which number on
 *   peer.c       one address that is dialled, with back-off
 */
#ifndef HOLT_LINK_LINK_IMPL_H
#define HOLT_LINK_LINK_IMPL_H

#include "link/link.h"
#include "link/msg.h"

#define HOLT_CONTROL_MAX (64 * 1024)  /* control bytes kept for a peer that reads nothing */
#define HOLT_OUT_BATCH   (128 * 1024) /* bytes gathered for one write */

struct holt_conn;

/*  HELLO: waiting for the other side's hello     JUDGING: its hello is here, we probe the present connection
 *  RESUME: we took it, waiting for its resume    UP: both took each other
 *
 *     HELLO ──hello──> RESUME ──resume──> UP         any state ──error, refusal, silence──> closed
 *       └──hello──> JUDGING ──────┘
 */
enum holt_conn_state { HOLT_CONN_HELLO, HOLT_CONN_JUDGING, HOLT_CONN_RESUME, HOLT_CONN_UP, HOLT_CONN_CLOSED };

struct holt_conn {
  struct holt_links *links;
  struct holt_list node;  /* in links->conns */
  struct holt_list dirty; /* in links->dirty */
  struct holt_stream *stream;
  enum holt_conn_state state;
  struct holt_peer *peer;  /* that dialled it, or NULL when it came in */
  struct holt_link *link;  /* from RESUME on */
  uint64_t number;         /* names the connection: the dialling side's draw */
  struct holt_hello hello; /* of the other side */
  struct holt_resume resume;
  bool has_hello, has_resume, has_sent_hello;
  bool is_blocked;            /* a write waits for on_writable */
  struct holt_writer in;      /* a frame that has come in part */
  struct holt_writer control; /* control frames to be written first */
  struct holt_timer timer;    /* silence and pings; JUDGING: the probe's end */
  uint64_t heard_ms, said_ms;
  uint64_t watch_ms; /* when the timer is due */
  uint64_t probe_ms; /* when the present connection was pinged for a newcomer, 0: not */
};

struct holt_link {
  struct holt_links *links;
  struct holt_list node;        /* in links->links */
  char name[HOLT_NAME_MAX + 1]; /* "" while unknown */
  uint64_t id, boot;            /* of the remote; boot 0: nothing remembered of it */
  struct holt_conn *conn;       /* RESUME or UP */
  uint64_t window;          /* bytes of frames that may be unacknowledged in a lane, in either direction */
  uint64_t out_session;     /* of our numbers; 0: none that the remote could know */
  uint64_t in_session;      /* of the remote's numbers, as it told us with START */
  bool is_resumed;          /* the present connection went on in out_session */
  bool is_doomed;           /* closed by its owner; freed on a later turn */
  uint64_t last_connection; /* number of the last connection that finished its handshake */
  struct holt_list peers;
  struct holt_lane_out out[HOLT_LANE_COUNT];
  struct holt_lane_in in[HOLT_LANE_COUNT];
  struct holt_timer ack_timer;
  struct holt_timer age_timer; /* while absent */
  uint64_t absent_since_ms;
  uint64_t redial_ms, silence_ms;            /* holt_link_pace */
  bool has_waiter;                           /* holt_link_room said HOLT_EAGAIN */
  uint64_t choked_since_ms[HOLT_LANE_COUNT]; /* 0: the lane has credit */
  struct holt_timer stall_timer;
  uint64_t dropped, connects;
  uint64_t dropped_untold; /* and why the last of them was */
  int dropped_why;
  void *data;
};

enum holt_peer_state {
  HOLT_PEER_DIALLING,
  HOLT_PEER_SHAKING, /* conn is set */
  HOLT_PEER_WAITING, /* for the next attempt */
  HOLT_PEER_RESTING, /* nothing to do: its link is up, or it is an incoming one */
  HOLT_PEER_ENDED    /* CLOSE is to be told */
};

struct holt_peer {
  struct holt_links *links;
  struct holt_list node;      /* in links->peers */
  struct holt_list link_node; /* in link->peers */
  struct holt_link *link;
  uint64_t number;
  char *address; /* "" for an incoming one */
  enum holt_peer_state state;
  struct holt_transport_handle *dial;
  struct holt_conn *conn;
  struct holt_timer timer;
  uint32_t attempts;
  uint64_t delay_ms;
  bool is_met;     /* by hearsay (holt_links_meet), else dialled for ever */
  uint64_t met_ms; /* when it was last heard of */
};

struct holt_links {
  struct holt_env *env;
  struct holt_transport *transport;
  struct holt_links_config config;
  const struct holt_links_ops *ops;
  void *arg;
  struct holt_list links, peers, conns, dirty;
  struct holt_list listeners;
  struct holt_post flush;
  struct holt_post farewell; /* tells HOLT_PEER_CLOSE of ended peers */
  struct holt_post room;
  struct holt_list dead; /* connections to be freed */
  struct holt_post bury;
  struct holt_post doom;  /* frees the links that were closed */
  struct holt_post drops; /* tells HOLT_PEER_DROPPED, once a turn */
  struct holt_writer out; /* one batch */
  uint32_t link_count;
  bool is_closed;
};

/* links.c */
struct holt_link *holt__links_find(struct holt_links *links, const char *name);
void holt__links_tell(struct holt_peer *peer, const struct holt_peer_notice *notice);

/* conn.c */
struct holt_conn *holt__conn_new(struct holt_links *links, struct holt_stream *stream,
                                 struct holt_peer *peer);
/* Close, and free on a later turn. `err` is told to link or peer. With `is_polite` what is queued
 * is still sent. Harmless on a closed one. */
void holt__conn_close(struct holt_conn *conn, const struct holt_err *err, bool is_polite);
void holt__conn_free(struct holt_conn *conn);
void holt__conn_control(struct holt_conn *conn, enum holt_wire_type type, const struct holt_writer *body);
void holt__conn_dirty(struct holt_conn *conn);
void holt__conn_flush(struct holt_conn *conn);
void holt__conn_ping(struct holt_conn *conn);
/* Silence after which the connection is given up. */
uint64_t holt__conn_limit_ms(const struct holt_conn *conn);
void holt__conn_watch(struct holt_conn *conn); /* set the timer for pings and silence */

/* handshake.c */
void holt__conn_say_hello(struct holt_conn *conn);
void holt__conn_on_control(struct holt_conn *conn, const struct holt_frame *frame, struct holt_buf body);
/* The connection that stood in the way of newcomers is gone, or has answered. */
void holt__link_judge_again(struct holt_link *link, bool is_present_alive);

/* The probe for this newcomer was not answered in time. */
void holt__conn_probe_over(struct holt_conn *newcomer);

/* link.c */
struct holt_link *holt__link_new(struct holt_links *links);
void holt__link_free(struct holt_link *link);
/* The remote numbers its messages anew. */
void holt__link_on_start(struct holt_link *link, uint64_t session);
void holt__link_up(struct holt_link *link);
void holt__link_down(struct holt_link *link, const struct holt_err *err);
/* Tell the peers what was dropped since the last time. */
void holt__link_tell_drops(struct holt_link *link);
/* Acknowledge with the next flush whatever has been dealt with. */
void holt__link_ack_now(struct holt_link *link);
/* Counts a numbered message that came and sets the number to consume it by. HOLT_EPROTOCOL with a sentence
 * when the remote has sent more than the window allows: then it is not counted. */
int holt__link_receive(struct holt_link *link, enum holt_lane lane, size_t len, uint64_t *number,
                       struct holt_err *err);
void holt__link_on_ack(struct holt_link *link, const struct holt_ack *ack);
void holt__link_room_changed(struct holt_link *link);
/* The next message of the lane that may be sent now, or NULL. It stays the link's. */
struct holt_msg *holt__link_next_msg(struct holt_link *link, enum holt_lane lane);
void holt__link_tell(struct holt_link *link, const struct holt_peer_notice *notice);
/* Hand everything that waits in `from` to `to`, and `from`'s peers; `from` is freed. */
void holt__link_merge(struct holt_link *to, struct holt_link *from);

/* peer.c */
struct holt_peer *holt__peer_new(struct holt_links *links, struct holt_link *link, const char *address);
/* The link has another pace: a wait that is longer now ends sooner. */
void holt__peer_pace(struct holt_peer *peer);
void holt__peer_dial(struct holt_peer *peer);
void holt__peer_rest(struct holt_peer *peer);
/* The attempt or the link ended: wait, then dial again. */
void holt__peer_retry(struct holt_peer *peer, const struct holt_err *err);
void holt__peer_end(struct holt_peer *peer);

#endif /* HOLT_LINK_LINK_IMPL_H */
