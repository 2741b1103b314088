/* raft_impl.h - what the files of raft/ share: the state, and one section of functions a file. */
#ifndef HOLT_RAFT_RAFT_IMPL_H
#define HOLT_RAFT_RAFT_IMPL_H

#include "base/assert.h"
#include "base/rand.h"
#include "raft/bug.h"
#include "raft/raft.h"

/* --- log.c: entries in memory, from base + 1 to last ------------------------------------------------- */

struct holt__raft_slot {
  uint64_t seq; /* the persist that wrote it: a truncated entry takes its number along (no ABA) */
  uint64_t tag; /* proposed here under this tag; 0: not here */
};

/* Larger arrays that a log goes over to, a part at each step. */
struct holt__raft_move {
  struct holt_raft_entry *entries; /* NULL: none under way */
  struct holt__raft_slot *slots;
  size_t cap, from, copied; /* place `from + i` of the log becomes place i; the first `copied` are there */
};

struct holt__raft_log {
  struct holt_raft_entry *entries; /* entries[head + i] has index base_index + 1 + i; data is ours */
  struct holt__raft_slot *slots;   /* beside them */
  size_t head, count, cap;
  size_t dropped;                 /* entries before the head whose data is still to be freed */
  uint64_t base_index, base_term; /* the entry before the first one kept */
  uint64_t bytes;                 /* of all data */
  size_t tagged;                  /* slots with a tag */
  struct holt__raft_move move;
};

/* --- replicate.c: what a leader knows of one member --------------------------------------------------- */

enum holt__raft_progress_state { PROGRESS_PROBE, PROGRESS_REPLICATE, PROGRESS_SNAPSHOT };

struct holt__raft_progress {
  uint64_t id, since;
  uint64_t match, next;
  uint64_t heard_ms;    /* last reply in this term */
  uint64_t round_acked; /* last heartbeat round answered */
  uint64_t sent_round;  /* round when something was last sent: an answer to a later one overtook nothing */
  uint64_t commit_sent;
  uint64_t offset; /* of the snapshot under way */
  uint64_t snapshot_index;
  uint64_t catch_up_target, catch_up_began_ms; /* thesis 4.2.1: rounds */
  uint64_t inflight_bytes;
  uint32_t inflight_head, inflight_count;
  uint8_t state;     /* enum holt__raft_progress_state */
  bool is_waiting;   /* probe or snapshot: one message is out */
  bool is_caught_up; /* a round took less than an election time-out */
  struct {
    uint64_t index;
    uint32_t bytes;
  } inflight[HOLT_RAFT_INFLIGHT_MAX];
};

struct holt__raft_read {
  uint64_t from; /* 0: a caller here */
  uint64_t tag, index, round, epoch;
};

/* In order of meaning. NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct holt_raft {
  struct holt_raft_options options;
  struct holt_rand rand;
  uint64_t now_ms;
  const char *fatal;

  /* durable */
  uint64_t term, vote;
  struct holt__raft_log log;
  struct holt_raft_snapshot snapshot; /* newest durable one; index 0: none */

  /* what is durable of it */
  uint64_t seq, durable_seq, vote_seq; /* last persist; last durable; the last that wrote term or vote */
  uint64_t stable;                     /* last index whose persist is durable */
  uint64_t disk_moved_ms;              /* when the oldest open persist began to be waited for */
  uint64_t reset_seq;                  /* the persist that replaced the log by a snapshot */
  bool is_failed;

  /* volatile */
  enum holt_raft_role role;
  uint64_t leader, commit, applied;
  uint64_t stamp_seen_ms;  /* newest stamp in the log or before it */
  uint64_t matched;        /* follower: verified against this term's leader up to here */
  uint64_t heard_ms;       /* follower: last word of the leader */
  bool has_heard;          /* ever, in this life */
  uint64_t quiet_until_ms; /* grant no vote before (lease reads, after a restart) */
  uint64_t election_at_ms, heartbeat_at_ms;
  bool is_in_the_way; /* never leads, but has what whoever stands for election has not */
  struct holt_raft_conf conf;
  uint64_t conf_index;

  /* candidate */
  uint32_t granted, refused; /* bits by place in conf */
  bool is_transfer_election;

  /* leader */
  struct holt__raft_progress progress[HOLT_RAFT_MEMBERS_MAX];
  size_t progress_count;
  uint64_t term_start;                /* index of the no-op */
  uint64_t stamp_base_ms, elected_ms; /* time inside the machine when it was elected; when that was */
  uint64_t check_quorum_at_ms;
  uint64_t uncommitted_bytes;
  uint64_t transfer_to, transfer_until_ms;
  bool transfer_sent;
  uint64_t give_way_at_ms;           /* a leader that may not lead tries to hand over again */
  bool is_lease_void;                /* somebody was told to stand for election in this term */
  struct holt_raft_snapshot sending; /* what members in SNAPSHOT receive; index 0: none */
  uint64_t round, round_sent_ms;
  uint64_t lease_round, lease_sent_ms, lease_until_ms;
  struct holt__raft_read *reads; /* in order of round */
  size_t read_count, read_cap;

  /* follower receiving a snapshot */
  struct holt_raft_snapshot incoming; /* index 0: none */
  uint64_t incoming_offset, incoming_epoch;
  bool is_installing; /* all arrived; the driver is storing it */

  /* this step's effects */
  struct holt_raft_output *out;
  size_t out_count, out_cap;
  struct holt_raft_done *done;
  size_t done_count, done_cap;
  uint64_t persist_from;  /* first entry appended in this step, 0: none */
  uint64_t truncate_from; /* 0: none */
  bool vote_changed, snapshot_changed, is_reset, conf_changed;
  struct holt_raft_part part;
  uint64_t refused_messages;
  uint8_t **copies; /* data of the entries that this step appends */
  size_t copy_count, copy_next, copy_cap;
  size_t copy_from; /* the first of the message's entries that is new */
#if HOLT_RAFT_BUG == 11
  uint64_t bug_last[64];
#endif
  uint8_t *spare; /* HOLT_RAFT_CONF_BYTES for a membership entry: reserved before each step */
};

void *holt__raft_alloc(struct holt_raft *r, void *old, size_t size_bytes);

/* Make room for `count` more entries. HOLT_ENOMEM: nothing changed. */
int holt__raft_log_reserve(struct holt_raft *r, size_t count);
void holt__raft_log_free(struct holt_raft *r);
uint64_t holt__raft_log_last(const struct holt_raft *r);
/* Term of the entry at `index`; 0 when the log does not hold it. */
uint64_t holt__raft_log_term(const struct holt_raft *r, uint64_t index);
uint64_t holt__raft_log_last_term(const struct holt_raft *r);
struct holt_raft_entry *holt__raft_log_at(const struct holt_raft *r, uint64_t index);
/* Append; room was reserved, `entry->data` becomes the log's own. */
void holt__raft_log_push(struct holt_raft *r, const struct holt_raft_entry *entry, uint64_t tag);
/* Void everything from `index` on; proposals of ours among it become unknown. */
void holt__raft_log_truncate(struct holt_raft *r, uint64_t index);
/* Forget everything up to `index`, which has `term`; beyond the end: the log is empty after it. */
void holt__raft_log_compact(struct holt_raft *r, uint64_t index, uint64_t term);
/* Free the data of up to `count` entries that were dropped. */
void holt__raft_log_sweep(struct holt_raft *r, size_t count);
/* After more became durable: entries count as stable by the persist that wrote them, never by their index. */
void holt__raft_log_advance_stable(struct holt_raft *r);
/* Copy `count` entries' data; HOLT_ENOMEM: nothing is held. They wait in r->copies. */
int holt__raft_log_copy(struct holt_raft *r, const struct holt_raft_entry *entries, size_t count);
/* The next copy becomes the caller's. */
uint8_t *holt__raft_log_take_copy(struct holt_raft *r);
void holt__raft_log_drop_copies(struct holt_raft *r);

/* --- conf.c: membership and majorities ----------------------------------------------------------------- */

int holt__raft_conf_find(const struct holt_raft_conf *conf, uint64_t id); /* place, or -1 */
bool holt__raft_member_votes(const struct holt_raft_conf *conf, int place);
/* Whether the members in `bits` (by place) are a majority of each half. */
bool holt__raft_conf_majority(const struct holt_raft_conf *conf, uint32_t bits);
/* Whether, without those in `bits`, no majority is left in some half. */
bool holt__raft_conf_blocked(const struct holt_raft_conf *conf, uint32_t bits);
/* The greatest number that a majority of each half has reached; `values` by place. */
uint64_t holt__raft_conf_reached(const struct holt_raft_conf *conf, const uint64_t *values);
/* The membership that holds at the end of the log: the last CONF entry up to `index`, or the snapshot's. */
void holt__raft_conf_at(const struct holt_raft *r, uint64_t index, struct holt_raft_conf *conf,
                        uint64_t *conf_index);
/* Take the one at the end of the log. */
void holt__raft_conf_refresh(struct holt_raft *r);

/* --- election.c ---------------------------------------------------------------------------------------- */

void holt__raft_become_follower(struct holt_raft *r, uint64_t term, uint64_t leader);
void holt__raft_campaign(struct holt_raft *r, bool is_pre, bool is_transfer);
void holt__raft_on_vote(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_on_vote_reply(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_reset_election_timer(struct holt_raft *r);
bool holt__raft_may_campaign(const struct holt_raft *r);
/* A voter that hears its leader does not help to depose it (thesis 4.2.3). */
bool holt__raft_is_loyal(const struct holt_raft *r);

/* --- replicate.c: the leader's side -------------------------------------------------------------------- */

void holt__raft_become_leader(struct holt_raft *r);
struct holt__raft_progress *holt__raft_progress(struct holt_raft *r, uint64_t id); /* or NULL */
/* After a change of membership: keep who stays, begin with who is new. */
void holt__raft_progress_refresh(struct holt_raft *r);
void holt__raft_on_append_reply(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_on_heartbeat_reply(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_broadcast_heartbeat(struct holt_raft *r);
void holt__raft_probe(struct holt_raft *r, struct holt__raft_progress *p);
/* Commit what a majority holds, then send everybody what it may be sent. */
void holt__raft_lead(struct holt_raft *r);
bool holt__raft_has_quorum(const struct holt_raft *r);

/* --- append.c: the follower's side --------------------------------------------------------------------- */

/* Copy what an append will add, before anything changes. HOLT_ENOMEM: nothing is held. */
int holt__raft_prepare_append(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_on_append(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_on_heartbeat(struct holt_raft *r, const struct holt_raft_message *m);
/* Move the commit index of a follower, or of a leader that counted. */
void holt__raft_commit_to(struct holt_raft *r, uint64_t index);

/* --- snapshot.c ---------------------------------------------------------------------------------------- */

void holt__raft_send_snapshot(struct holt_raft *r, struct holt__raft_progress *p);
void holt__raft_on_snapshot(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_on_snapshot_reply(struct holt_raft *r, const struct holt_raft_message *m);
int holt__raft_snapshot_taken(struct holt_raft *r, const struct holt_raft_snapshot *snapshot);
int holt__raft_snapshot_stored(struct holt_raft *r, int code);

/* --- read.c -------------------------------------------------------------------------------------------- */

/* `epoch` is the asker's; `from` 0: a read of our own. */
void holt__raft_read(struct holt_raft *r, uint64_t from, uint64_t tag, uint64_t epoch);
void holt__raft_on_read_reply(struct holt_raft *r, const struct holt_raft_message *m);
/* Answer the reads whose round a majority has confirmed; start the next round. */
void holt__raft_reads_advance(struct holt_raft *r);
/* Leadership ended: refuse them all. */
void holt__raft_reads_fail(struct holt_raft *r);

/* --- member.c ------------------------------------------------------------------------------------------ */

int holt__raft_change(struct holt_raft *r, const struct holt_raft_change *changes, size_t count,
                      uint64_t tag);
/* Leader, each step: leave a joint membership, promote learners, go when removed. */
void holt__raft_members_advance(struct holt_raft *r);
void holt__raft_transfer(struct holt_raft *r, uint64_t id);
void holt__raft_transfer_advance(struct holt_raft *r);
/* Tell the best other member to stand for election, if there is one. */
void holt__raft_hand_over(struct holt_raft *r);
void holt__raft_on_timeout_now(struct holt_raft *r, const struct holt_raft_message *m);

/* --- propose.c ----------------------------------------------------------------------------------------- */

void holt__raft_propose(struct holt_raft *r, const struct holt_raft_event *event);
void holt__raft_on_forward(struct holt_raft *r, const struct holt_raft_message *m);
void holt__raft_on_forward_reply(struct holt_raft *r, const struct holt_raft_message *m);
/* Leader: append an entry of its own. `data` becomes the log's. */
uint64_t holt__raft_append_own(struct holt_raft *r, uint8_t type, uint8_t *data, uint32_t len, uint64_t tag);
uint64_t holt__raft_stamp(const struct holt_raft *r);

/* --- step.c -------------------------------------------------------------------------------------------- */

/* A message of this step, addressed and stamped; leaves once term and vote are durable. Never NULL. */
struct holt_raft_output *holt__raft_out(struct holt_raft *r, uint8_t type, uint64_t to);
/* What marks a question to `to`, `count` of them counting up from `tag`: an answer that does not bear it
 * comes from somebody else, or to an earlier life of ours. */
uint64_t holt__raft_question(const struct holt_raft *r, uint64_t to, uint64_t tag, uint64_t count);
void holt__raft_done(struct holt_raft *r, enum holt_raft_done_type type, uint64_t tag, int code,
                     uint64_t index, uint64_t term);
/* The persist that an acknowledgement of everything up to `index` must wait for. */
uint64_t holt__raft_gate(const struct holt_raft *r, uint64_t index);
void holt__raft_fatal(struct holt_raft *r, const char *what);
bool holt__raft_is_stalled(const struct holt_raft *r);

#endif /* HOLT_RAFT_RAFT_IMPL_H */
