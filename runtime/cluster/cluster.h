/* cluster.h - the members that hold the collections together: formation, operations, reads, membership.
 *
 * One cluster object a node. It drives the Raft core and the collections: persist, then send, then apply. Any
 * member accepts any operation; it is passed on to the leader, asked again under the same identity until
 * there is a definite answer, and applied exactly once. Without a directory everything is in memory, and a
 * restart is a new incarnation that takes the place of the old one.
 *
 * Call from the loop's thread only; no callback runs inside the call that registered it. Durations are
 * milliseconds. */
#ifndef HOLT_CLUSTER_CLUSTER_H
#define HOLT_CLUSTER_CLUSTER_H

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "collections/collections.h"
#include "env/env.h"
#include "link/link.h"
#include "raft/raft.h"

struct holt_cluster;

/* An entry travels in one frame, with what is said about it. */
#define HOLT_CLUSTER_ENTRY_MAX (7u << 20)

struct holt_cluster_config {
  const char *name;      /* of the cluster; nodes of other names are no concern of ours; copied */
  const char *node_name; /* of this node; copied */
  bool is_node_named;    /* the name was given, not drawn: the directory keeps it and is refused to another */
  const char *address;   /* under which other members reach this node; "" when it does not listen; copied */
  const char *directory; /* where log and snapshots lie; NULL: in memory; copied */
  uint32_t members;      /* begin a cluster once so many empty nodes of it have met; 0: only join one */
  uint64_t election_ms, heartbeat_ms;
  bool can_lead, is_voter;
  uint8_t priority;
  uint64_t snapshot_entries, snapshot_bytes;
  uint32_t keep_entries;    /* kept behind a snapshot for members that lag; 0: as the core has it */
  uint32_t segment_bytes;   /* of one file of the log; 0: as the store has it */
  uint32_t block_bytes;     /* of a snapshot, written or sent at once; 0: 256 KiB */
  uint32_t entry_bytes_max; /* of one operation; larger ones are refused (HOLT_ETOOLARGE); at most
                               HOLT_CLUSTER_ENTRY_MAX */
};
struct holt_cluster_config holt_cluster_defaults(void);

enum holt_cluster_event {
  HOLT_CLUSTER_STATE,         /* `text` is the new role, `old` the one before */
  HOLT_CLUSTER_LEADER,        /* `text` is the leader's name or "", `old` the one before */
  HOLT_CLUSTER_TERM,          /* `number` */
  HOLT_CLUSTER_JOINED,        /* this node is a member */
  HOLT_CLUSTER_REJOINING,     /* it was replaced or removed, and asks again */
  HOLT_CLUSTER_LEFT,          /* by its own wish */
  HOLT_CLUSTER_MEMBER_JOINED, /* `text` name, `number` id: committed */
  HOLT_CLUSTER_MEMBER_LEFT,
  HOLT_CLUSTER_QUORUM_LOST, /* no leader for two election time-outs, or a leader without majority */
  HOLT_CLUSTER_QUORUM_REGAINED,
  HOLT_CLUSTER_NO_HEARTBEAT, /* leader: `text` silent for an election time-out */
  HOLT_CLUSTER_UNSYNCED,     /* leader: `text` is sent a snapshot */
  HOLT_CLUSTER_COMMIT,       /* `number`: index applied; told at most once a turn */
  HOLT_CLUSTER_SNAPSHOT,     /* `number`: index of one taken or received */
  HOLT_CLUSTER_CONF,         /* the membership has changed */
  HOLT_CLUSTER_DISK_ERROR,   /* `err` */
  HOLT_CLUSTER_ERROR         /* `err`: refused by the cluster, a foreign one met, …: says what to do */
};

struct holt_cluster_notice {
  enum holt_cluster_event event;
  const char *text, *old; /* borrowed */
  uint64_t number;
  struct holt_err err;
};

struct holt_cluster_ops {
  void (*on_event)(void *arg, const struct holt_cluster_notice *notice);
  /* See holt_change_cb; after the apply that made it, in order. */
  holt_change_cb on_change;
  /* A snapshot took the place of the whole state: every holt_object pointer is void; find them anew. */
  void (*on_replaced)(void *arg);
};

/* Errors: HOLT_EINVAL (settings), and for a directory HOLT_ELOCKED, HOLT_ECORRUPT, HOLT_EFOREIGN, HOLT_EIO,
 * HOLT_ENOSPC, each with a sentence. `links` are borrowed and outlive it. */
int holt_cluster_new(struct holt_env *env, struct holt_links *links, const struct holt_cluster_config *config,
                     const struct holt_cluster_ops *ops, void *arg, struct holt_cluster **out,
                     struct holt_err *err);
/* Requests still open end with HOLT_ECLOSED on a later turn of the loop or never, when the loop ends first;
 * operations that had been sent, with HOLT_EUNKNOWN. */
void holt_cluster_close(struct holt_cluster *cluster);
void holt_cluster_free(struct holt_cluster *cluster);

/* The node listens now under that address: tell the others. */
void holt_cluster_set_address(struct holt_cluster *cluster, const char *address);

/* What the links tell: the node passes it on. */
void holt_cluster_link_up(struct holt_cluster *cluster, struct holt_link *link);
void holt_cluster_link_down(struct holt_cluster *cluster, struct holt_link *link);
void holt_cluster_message(struct holt_cluster *cluster, struct holt_link *link,
                          const struct holt_link_message *message);

/* --- Operations ---------------------------------------------------------------------------------------- */

/* One operation or read. The caller owns the memory until `cb` ran or it was canceled. */
struct holt_cluster_request;
/* code 0: `answer` (borrowed until return; see holt_answer_read) is what applying gave. HOLT_EUNKNOWN: the
 * deadline came, and it may have been done or may yet be: the request stays open under `number`, see
 * holt_cluster_outcome. Others are definite: it was not done and will not be. HOLT_ENOLEADER: no quorum;
 * HOLT_ETIMEOUT, HOLT_ETOOLARGE, HOLT_ECLOSED, HOLT_EBUSY. */
typedef void (*holt_cluster_request_cb)(void *arg, int code, struct holt_buf answer, uint64_t number);
struct holt_cluster_request {
  struct holt_list node;
  holt_cluster_request_cb cb;
  void *arg;
  uint64_t deadline_ms; /* absolute, of the env's clock */
  uint64_t number;
};

/* Propose `command` (collections.h; copied). `request->cb` and arg are set by the caller. */
void holt_cluster_submit(struct holt_cluster *cluster, struct holt_cluster_request *request,
                         struct holt_buf command, uint64_t timeout_ms);
/* Wait until this node has applied everything that was acknowledged anywhere before the call: what is read
 * here afterwards is linearizable. `answer` is empty. */
void holt_cluster_barrier(struct holt_cluster *cluster, struct holt_cluster_request *request,
                          uint64_t timeout_ms);
/* Wait until this node has applied all that it knows to be committed at the call; asks nobody. */
void holt_cluster_applied(struct holt_cluster *cluster, struct holt_cluster_request *request,
                          uint64_t timeout_ms);
/* Wait until a leader is known that has committed in its term, and this node is a member. */
void holt_cluster_ready(struct holt_cluster *cluster, struct holt_cluster_request *request,
                        uint64_t timeout_ms);
/* Wait for the operation `number` that ended in HOLT_EUNKNOWN: code 0 with its answer; HOLT_EUNKNOWN again at
 * the deadline; HOLT_ENOTFOUND: nobody knows any more (4,096 are remembered, and none of the time before this
 * member was taken out or its session was lost). */
void holt_cluster_outcome(struct holt_cluster *cluster, struct holt_cluster_request *request, uint64_t number,
                          uint64_t timeout_ms);
/* Forget the caller; an operation may happen all the same. cb does not run. */
void holt_cluster_cancel(struct holt_cluster *cluster, struct holt_cluster_request *request);

/* --- Membership: each answers through the request, code 0 or why not -------------------------------------
 */

/* Leave: a leader hands over first; done when the others have agreed. */
void holt_cluster_leave(struct holt_cluster *cluster, struct holt_cluster_request *request,
                        uint64_t timeout_ms);
/* After a leave: be a member again, under a new id, of the cluster that the nodes next to us are in. Without
 * effect on a node that has not left. */
void holt_cluster_rejoin(struct holt_cluster *cluster);
/* Hand leadership to the member of that name; NULL: to the best one. */
void holt_cluster_transfer(struct holt_cluster *cluster, struct holt_cluster_request *request,
                           const char *name, uint64_t timeout_ms);
/* Take a member out, by name. */
void holt_cluster_remove(struct holt_cluster *cluster, struct holt_cluster_request *request, const char *name,
                         uint64_t timeout_ms);
/* Closing down: hand leadership to another member, if we have it, without leaving. True while that is under
 * way: ask again until false, which is when another is known to lead, nobody else could, or two election
 * time-outs have passed. */
bool holt_cluster_hand_over(struct holt_cluster *cluster);
/* The same without waiting: what closing does when its time is over. */
void holt_cluster_step_down(struct holt_cluster *cluster);

/* --- Looking ------------------------------------------------------------------------------------------- */

/* The objects as far as they are applied here. Never NULL. Borrowed until on_replaced. */
struct holt_collections *holt_cluster_collections(struct holt_cluster *cluster);

struct holt_cluster_member {
  char name[HOLT_NAME_MAX + 1];
  char address[128];
  uint64_t id;
  uint8_t role; /* enum holt_raft_member_role */
  bool is_self, is_leader, is_linked, can_lead;
  uint64_t match;         /* at the leader: log index it holds; elsewhere 0 */
  uint64_t last_heard_ms; /* ago; at the leader, else 0 */
};

struct holt_cluster_status {
  char name[HOLT_NAME_MAX + 1];
  uint64_t cluster_id, member_id; /* 0: none yet */
  const char *state;              /* "empty", "forming", "joining", "member", "left", "failed" */
  const char *role;               /* "follower", "candidate", "leader", "learner", "none" */
  char leader[HOLT_NAME_MAX + 1]; /* "" when none is known */
  uint64_t term, commit, applied, first, last, snapshot_index, log_bytes, state_hash;
  char problem[400]; /* why it is in no cluster, or who is connected that should not; "" */
  const char *disk;  /* "none" (in memory), "ok", "full", "failed" */
  bool has_quorum;
  uint64_t no_quorum_ms; /* for how long there has been none */
  size_t pending;        /* operations and reads under way here */
  uint32_t member_count;
  struct holt_cluster_member members[HOLT_RAFT_MEMBERS_MAX];
};
void holt_cluster_status(struct holt_cluster *cluster, struct holt_cluster_status *out);
bool holt_cluster_is_leader(const struct holt_cluster *cluster);
/* The id of the member of that name, 0 when there is none; and back ("" when unknown). */
uint64_t holt_cluster_member_id(struct holt_cluster *cluster, const char *name);
const char *holt_cluster_member_name(struct holt_cluster *cluster, uint64_t id);

#endif /* HOLT_CLUSTER_CLUSTER_H */
