/* raft.h - consensus as one step function: events in, effects out.
 *
 * The Raft of Ongaro and Ousterhout ("In search of an understandable consensus algorithm", 2014) and of
 * Ongaro's thesis (2014; sections are cited where a rule comes from), with pre-vote, check-quorum, leader
 * stickiness, joint membership with learners, ReadIndex, leadership transfer and chunked snapshots.
 *
 * Pure: no I/O, no clock, no chance but a seed, no thread, no global, no allocation but through
 * options.alloc. Whoever drives it performs the effects of each step in this order: write `persist`, send the
 * messages (those with `after_seq` once that persist is durable), apply up to `apply_to`, answer `done`.
 * raft/driver.h does just that. Durations are milliseconds; an index, a term or an id of 0 means "none". */
#ifndef HOLT_RAFT_RAFT_H
#define HOLT_RAFT_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct holt_raft; /* opaque: raft_impl.h */

/* --- Log entries ---------------------------------------------------------------------------------- */

enum holt_raft_entry_type {
  HOLT_RAFT_NOOP = 1, /* a leader's first entry in its term (thesis 3.6.2, 6.4) */
  HOLT_RAFT_COMMAND,  /* for the state machine */
  HOLT_RAFT_CONF,     /* membership: data is a holt_raft_conf, encoded */
};

/* (client, seq) name an operation for ever, low is the client's oldest one still unanswered: carried for the
 * state machine, which applies each once (raft/sessions.h). */
struct holt_raft_entry {
  uint64_t index, term;
  uint64_t client, seq, low;
  uint64_t stamp_ms;   /* time inside the machine: never goes back, stands still without a leader */
  const uint8_t *data; /* `len` bytes */
  uint32_t len;
  uint8_t type; /* enum holt_raft_entry_type */
};

/* --- Membership ----------------------------------------------------------------------------------- */

enum {
  HOLT_RAFT_MEMBERS_MAX = 31,         /* learners included */
  HOLT_RAFT_INFLIGHT_MAX = 64,        /* appends under way to one member */
  HOLT_RAFT_APPEND_ENTRIES_MAX = 4096 /* entries in one message */
};

enum holt_raft_member_role {
  HOLT_RAFT_VOTER = 1, /* in both halves of a joint configuration, or in the only one */
  HOLT_RAFT_LEARNER,   /* receives everything, counts nowhere */
  HOLT_RAFT_INCOMING,  /* joint: votes in the new half only */
  HOLT_RAFT_OUTGOING,  /* joint: votes in the old half only, leaves with it */
  HOLT_RAFT_DEMOTED,   /* joint: votes in the old half only, stays as a learner */
};

struct holt_raft_member {
  uint64_t id;       /* an incarnation: never used again once its log is lost */
  uint64_t since;    /* index of the entry that admitted it; tells two admissions of one id apart */
  uint64_t replaces; /* learner: the member that leaves when this one becomes a voter */
  uint8_t role;      /* enum holt_raft_member_role */
  uint8_t priority;  /* 0 to 10: the highest stand for election first */
  bool can_lead;     /* false: votes, but stands for election only to hand on what others lack */
  bool will_vote;    /* learner: made a voter as soon as it has caught up */
};

struct holt_raft_conf {
  uint32_t count;
  bool is_joint;
  struct holt_raft_member members[HOLT_RAFT_MEMBERS_MAX];
};

/* Whether every majority of the voters (of a joint one: the new ones) has a member that may lead. Else those
 * that never lead could be left with what is committed, and nobody to go on from there: such a membership is
 * neither begun nor changed to (HOLT_EINVAL). */
bool holt_raft_can_be_led(const struct holt_raft_conf *conf);

enum holt_raft_change_type {
  HOLT_RAFT_ADD = 1,     /* learner first, voter once caught up; then `replaces` leaves, a learner at once */
  HOLT_RAFT_ADD_LEARNER, /* learner for good */
  HOLT_RAFT_REMOVE,
  HOLT_RAFT_DEMOTE, /* voter to learner */
  HOLT_RAFT_SET,    /* can_lead and priority of a member */
};

struct holt_raft_change {
  uint8_t type; /* enum holt_raft_change_type */
  uint8_t priority;
  bool can_lead;
  uint64_t id, replaces;
};

/* What a snapshot stands for: everything up to `index`, and the committed membership there. */
struct holt_raft_snapshot {
  uint64_t index, term;
  uint64_t size_bytes;
  uint64_t stamp_ms;   /* of the entry at `index` */
  uint64_t conf_index; /* of the entry that made `conf` */
  struct holt_raft_conf conf;
};

/* --- Messages ------------------------------------------------------------------------------------- */

enum holt_raft_message_type {
  HOLT_RAFT_APPEND = 1,      /* index, log_term: the entry before; entries; commit; epoch */
  HOLT_RAFT_APPEND_REPLY,    /* index: held durably up to; or REJECT: index refused, hint, hint_term; epoch */
  HOLT_RAFT_HEARTBEAT,       /* commit, round */
  HOLT_RAFT_HEARTBEAT_REPLY, /* round; index: verified against this leader; epoch */
  HOLT_RAFT_VOTE,            /* index, log_term: the candidate's last entry; PRE, TRANSFER */
  HOLT_RAFT_VOTE_REPLY,      /* PRE, REJECT */
  HOLT_RAFT_SNAPSHOT,        /* snapshot, offset, data; epoch. Going out, data is NULL: the driver fills in */
  HOLT_RAFT_SNAPSHOT_REPLY,  /* index: of the snapshot; offset: next byte wanted; epoch */
  HOLT_RAFT_TIMEOUT_NOW,     /* stand for election at once (thesis 3.10) */
  HOLT_RAFT_READ,            /* tag, epoch: a follower asks for a read index; the answer bears both */
  HOLT_RAFT_READ_REPLY,      /* tag, epoch, index, code */
  HOLT_RAFT_FORWARD,         /* entries proposed at a follower; tag, epoch */
  HOLT_RAFT_FORWARD_REPLY, /* tag, epoch, hint: how many; code, index, log_term: where the first was appended
                            */
  HOLT_RAFT_MESSAGE_TYPES
};

enum holt_raft_message_flag {
  HOLT_RAFT_PRE = 1,      /* a pre-vote: nobody's term moves (thesis 9.6) */
  HOLT_RAFT_REJECT = 2,   /* refused */
  HOLT_RAFT_TRANSFER = 4, /* the leader itself asked for this election */
};

struct holt_raft_message {
  uint8_t type;  /* enum holt_raft_message_type; which fields count stands there */
  uint8_t flags; /* enum holt_raft_message_flag */
  int32_t code;  /* 0 or HOLT_E* */
  uint64_t cluster, from, to, term;
  uint64_t index, log_term, commit, round, epoch, hint, hint_term, tag, offset;
  const struct holt_raft_entry *entries;
  uint32_t count;
  uint32_t len; /* of data; SNAPSHOT going out: the most that may be sent */
  const uint8_t *data;
  const struct holt_raft_snapshot *snapshot;
};

/* Bytes of a message, and back. `entries` (room for `entry_max`) and `snapshot` are the caller's and the
 * decoded message points into them and into `bytes`. HOLT_EPROTOCOL for anything malformed, HOLT_ETOOLARGE
 * for more than `entry_max` entries. */
void holt_raft_message_encode(struct holt_writer *out, const struct holt_raft_message *message);
int holt_raft_message_decode(struct holt_buf bytes, struct holt_raft_message *message,
                             struct holt_raft_entry *entries, uint32_t entry_max,
                             struct holt_raft_snapshot *snapshot);
/* Bytes of one entry; decoding borrows from `in`. What the log on disk holds as well. */
void holt_raft_entry_encode(struct holt_writer *out, const struct holt_raft_entry *entry);
int holt_raft_entry_decode(struct holt_reader *in, struct holt_raft_entry *entry);
void holt_raft_snapshot_encode(struct holt_writer *out, const struct holt_raft_snapshot *snapshot);
int holt_raft_snapshot_decode(struct holt_reader *in, struct holt_raft_snapshot *snapshot);
/* Bytes of a membership, at most HOLT_RAFT_CONF_BYTES; decoding refuses unknown roles and double ids. */
enum { HOLT_RAFT_CONF_BYTES = 2 + HOLT_RAFT_MEMBERS_MAX * 28 };
size_t holt_raft_conf_encode(uint8_t out[HOLT_RAFT_CONF_BYTES], const struct holt_raft_conf *conf);
int holt_raft_conf_decode(struct holt_buf bytes, struct holt_raft_conf *conf);

/* --- Life ----------------------------------------------------------------------------------------- */

/* Like realloc(3): size 0 frees, NULL means no memory. */
typedef void *(*holt_raft_alloc_cb)(void *arg, void *old, size_t size_bytes);

struct holt_raft_options {
  uint64_t self, cluster; /* ids, never 0 */
  uint64_t seed;          /* for election time-outs */
  uint32_t election_ms;   /* time-outs are drawn from [election, 2 election) */
  uint32_t heartbeat_ms;  /* at most a third of election_ms */
  uint32_t stall_ms;      /* a leader whose disk stood still that long hands over; 0: election_ms */
  uint32_t append_bytes;  /* payload of one append; one entry may exceed it */
  uint32_t chunk_bytes;   /* of one piece of a snapshot */
  uint32_t inflight_messages, inflight_bytes; /* per member */
  uint32_t uncommitted_bytes;                 /* beyond, proposals are refused with HOLT_EBUSY */
  uint32_t reads_max;                         /* reads waiting at once; beyond, HOLT_EBUSY */
  uint32_t keep_entries;                      /* kept behind a snapshot for members that lag */
  bool lease_reads;                           /* answer reads on a lease: trusts everybody's clock rate */
  holt_raft_alloc_cb alloc;                   /* NULL: realloc and free */
  void *alloc_arg;
};

/* Sensible values for everything but self, cluster and seed. */
void holt_raft_options_default(struct holt_raft_options *options);

/* What the log store found. Entries follow the snapshot (or index 0) without a gap; all is copied. */
struct holt_raft_restore {
  uint64_t term, vote;
  const struct holt_raft_snapshot *snapshot; /* NULL: none */
  const struct holt_raft_entry *entries;
  size_t count;
};

/* `restore` may be NULL: an empty log. Errors: HOLT_EINVAL for options or a restore that make no sense,
 * HOLT_ENOMEM. */
int holt_raft_new(const struct holt_raft_options *options, const struct holt_raft_restore *restore,
                  uint64_t now_ms, struct holt_raft **out);
void holt_raft_free(struct holt_raft *raft);

/* --- Events --------------------------------------------------------------------------------------- */

enum holt_raft_event_type {
  HOLT_RAFT_EV_TIME = 1,  /* the deadline of the last update has come */
  HOLT_RAFT_EV_BOOTSTRAP, /* conf: begin a cluster; only an empty member, only on somebody's order */
  HOLT_RAFT_EV_RECEIVE,   /* message */
  HOLT_RAFT_EV_PROPOSE,   /* entries (of type COMMAND: client, seq, low, data), count, tag: of the first, then
                             counting up */
  HOLT_RAFT_EV_READ,      /* tag */
  HOLT_RAFT_EV_CHANGE,    /* changes, count, tag */
  HOLT_RAFT_EV_TRANSFER,  /* id: hand leadership to it; 0: to the best */
  HOLT_RAFT_EV_PERSISTED, /* seq: that persist and all before are durable */
  HOLT_RAFT_EV_APPLIED,   /* index */
  HOLT_RAFT_EV_SNAPSHOT_TAKEN,  /* snapshot: durable here (see holt_raft_snapshot_at) */
  HOLT_RAFT_EV_SNAPSHOT_STORED, /* code 0: the received one is durable and restored; else it could not be */
  HOLT_RAFT_EV_SNAPSHOT_GONE,   /* id: what was to be sent to it is not there any more; begin again */
  HOLT_RAFT_EV_UNREACHABLE,     /* id: messages to it may have been lost */
  HOLT_RAFT_EV_DISK_FAILED,     /* nothing can be persisted any more: never votes, acks or leads again */
  HOLT_RAFT_EV_STEP_DOWN,       /* hand over when possible, be a follower */
};

struct holt_raft_event {
  enum holt_raft_event_type type;
  uint64_t now_ms; /* monotonic */
  const struct holt_raft_message *message;
  const struct holt_raft_entry *entries;
  const struct holt_raft_change *changes;
  const struct holt_raft_conf *conf;
  const struct holt_raft_snapshot *snapshot;
  size_t count;
  uint64_t tag, id, seq, index;
  int code;
};

/* --- Effects -------------------------------------------------------------------------------------- */

enum holt_raft_role { HOLT_RAFT_FOLLOWER, HOLT_RAFT_PRE_CANDIDATE, HOLT_RAFT_CANDIDATE, HOLT_RAFT_LEADER };

/* To be written in this order, in one piece: all of it counts or nothing. */
struct holt_raft_persist {
  uint64_t seq;  /* 0: nothing to write; else one more than the last */
  bool has_vote; /* write term and vote */
  uint64_t term, vote;
  const struct holt_raft_snapshot *snapshot; /* NULL: none; what it covers may be dropped */
  bool is_reset;                             /* the whole log is replaced by the snapshot */
  uint64_t truncate_from;                    /* 0: none; entries from here on are void */
  const struct holt_raft_entry *entries;
  size_t count;
};

struct holt_raft_output {
  struct holt_raft_message message;
  uint64_t after_seq; /* send once that persist is durable; 0: now */
};

enum holt_raft_done_type {
  HOLT_RAFT_DONE_PROPOSE = 1, /* code 0: appended at (index, term), the answer is its being applied;
                                 HOLT_EUNKNOWN: it may yet commit; any other: definitely not appended */
  HOLT_RAFT_DONE_READ,        /* code 0: serve it once `index` is applied */
  HOLT_RAFT_DONE_CHANGE,      /* code 0: appended at (index, term) */
};

struct holt_raft_done {
  enum holt_raft_done_type type;
  int code;
  uint64_t tag, index, term;
};

/* A piece of a snapshot that arrived. `is_last`: make it durable, restore it, then say SNAPSHOT_STORED. */
struct holt_raft_part {
  const struct holt_raft_snapshot *snapshot; /* NULL: no piece in this update */
  uint64_t offset;                           /* 0: begin anew */
  const uint8_t *data;
  uint32_t len;
  bool is_last;
};

/* Everything in it is borrowed until the next call on the same raft. */
struct holt_raft_update {
  uint64_t deadline_ms; /* when the next EV_TIME is due */
  struct holt_raft_persist persist;
  const struct holt_raft_output *out;
  size_t out_count;
  uint64_t apply_to; /* apply entries up to here, in order (holt_raft_entry_at) */
  const struct holt_raft_done *done;
  size_t done_count;
  struct holt_raft_part part;
  enum holt_raft_role role;
  uint64_t leader, term, commit;
  bool conf_changed;
  const char *fatal; /* a broken invariant, in words: stop, and keep the files for whoever looks into it */
};

/* The only thing that changes a raft. Returns 0; HOLT_ENOMEM: nothing was done, an event of the driver's own
 * (TIME, PERSISTED, APPLIED, SNAPSHOT_*) must be repeated, a message counts as lost; HOLT_EINVAL: the event
 * makes no sense here and did nothing, but time passed before it: the update counts as ever (a leader that
 * nobody answers steps down and refuses its reads); HOLT_EINTERNAL: see update->fatal, now and from then on.
 */
int holt_raft_step(struct holt_raft *raft, const struct holt_raft_event *event,
                   struct holt_raft_update *update);

/* --- Questions ------------------------------------------------------------------------------------ */

struct holt_raft_peer_status {
  uint64_t id, match, next, heard_ms;
  uint8_t state; /* 0 probe, 1 replicate, 2 snapshot */
};

struct holt_raft_status {
  enum holt_raft_role role;
  bool is_failed, is_installing, is_transferring;
  uint64_t term, vote, leader, first, last, stable, commit, applied, snapshot_index, conf_index;
  uint64_t sending_index; /* the snapshot that members are receiving: keep it; 0: none */
  uint64_t uncommitted_bytes, log_bytes, refused_messages;
  size_t reads, peer_count;
  struct holt_raft_peer_status peers[HOLT_RAFT_MEMBERS_MAX]; /* of a leader */
};

void holt_raft_status(const struct holt_raft *raft, struct holt_raft_status *out);
/* The entry at `index`, borrowed until the next step; NULL when it is not in memory. */
const struct holt_raft_entry *holt_raft_entry_at(const struct holt_raft *raft, uint64_t index);
/* The tag under which the entry at `index` was proposed here, 0 for another's. */
uint64_t holt_raft_tag_at(const struct holt_raft *raft, uint64_t index);
const struct holt_raft_conf *holt_raft_conf(const struct holt_raft *raft);
/* The newest one taken or installed, durable or not; borrowed until the next step. Index 0: none. */
const struct holt_raft_snapshot *holt_raft_newest_snapshot(const struct holt_raft *raft);
/* Term and membership for a snapshot of everything up to `index` (at most what was applied).
 * HOLT_ENOTFOUND when that is not in memory any more. */
int holt_raft_snapshot_at(const struct holt_raft *raft, uint64_t index, struct holt_raft_snapshot *out);
/* Over all that decides its future, clocks as time left: equal states of a search have equal hashes. */
uint64_t holt_raft_hash(const struct holt_raft *raft);

#endif /* HOLT_RAFT_RAFT_H */
