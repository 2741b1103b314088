/* cluster_impl.h - what the files of cluster/ share: the state, and one section of functions a file. */
#ifndef HOLT_CLUSTER_CLUSTER_IMPL_H
#define HOLT_CLUSTER_CLUSTER_IMPL_H

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"
#include "cluster/cluster.h"
#include "env/file.h"
#include "raft/driver.h"
#include "raft/sessions.h"
#include "store/store.h"

/* --- machine.c: everything that is replicated ------------------------------------------------------------
 */

/* What a command of the log begins with. */
enum {
  HOLT__ENTRY_OPEN =
      1, /* client u64, member u64: a client opens its session, older ones of the member close */
  HOLT__ENTRY_OPERATION, /* a command of collections.h, from (client, seq) of the entry */
  HOLT__ENTRY_LABEL,     /* member u64, name, address: how a member is called and reached */
};

struct holt__label {
  uint64_t id;
  char name[HOLT_NAME_MAX + 1];
  char address[128];
};

struct holt__client {
  uint64_t id, member, boot;
};

struct holt__machine {
  struct holt_collections *collections;
  struct holt_sessions sessions;
  struct holt__label *labels; /* in order of first mention */
  size_t label_count, label_cap;
  struct holt__client *clients;
  size_t client_count, client_cap;
  struct holt_raft_conf conf; /* in force at the last index applied */
  uint64_t applied, applied_term;
};

/* What applying one entry came to. */
struct holt__applied {
  bool is_operation;
  int code;                /* 0 or why the session refused it */
  struct holt_buf answer;  /* borrowed until the next entry */
  struct holt_writer room; /* keeps the answer; reused */
};

void holt__machine_init(struct holt__machine *machine);
void holt__machine_free(struct holt__machine *machine);
void holt__machine_apply(struct holt__machine *machine, const struct holt_raft_entry *entry,
                         struct holt__applied *applied);
/* What an entry says that labels a member, behind its first byte. False: it makes no sense. */
bool holt__label_read(struct holt__label *label, struct holt_reader *in);
const struct holt__label *holt__machine_label(const struct holt__machine *machine, uint64_t id);
const struct holt__label *holt__machine_named(const struct holt__machine *machine, const char *name);
uint64_t holt__machine_hash(const struct holt__machine *machine);

/* A snapshot being written out. */
struct holt__freeze {
  struct holt_writer head; /* labels, clients, sessions */
  size_t head_at;
  struct holt_frozen *frozen;
};
void holt__machine_freeze(const struct holt__machine *machine, struct holt__freeze *freeze);
uint64_t holt__freeze_size(const struct holt__freeze *freeze);
size_t holt__freeze_read(struct holt__freeze *freeze, uint8_t *out, size_t cap);
/* The same once more, from its beginning, at no cost but its head. */
void holt__freeze_share(const struct holt__freeze *from, struct holt__freeze *to);
void holt__freeze_close(struct holt__freeze *freeze);

/* One being read in. */
struct holt__thaw {
  struct holt__machine machine;
  struct holt_writer head;
  bool has_head;
  struct holt_restore *restore;
};
void holt__thaw_init(struct holt__thaw *thaw);
int holt__thaw_feed(struct holt__thaw *thaw, struct holt_buf piece);
/* The machine it makes, or HOLT_EPROTOCOL; then `thaw` is still to be closed. */
int holt__thaw_finish(struct holt__thaw *thaw, struct holt__machine *out);
/* Returned: what it had made so far, NULL when it was not open; the caller's. */
struct holt_collections *holt__thaw_close(struct holt__thaw *thaw);

/* --- request.c -------------------------------------------------------------------------------------------
 */

/* An operation of this node, from submit to its answer. */
struct holt__op {
  struct holt_list node;                /* in ops, in order of seq */
  struct holt_list queue;               /* in unsent, while it waits to be proposed */
  struct holt_cluster_request *request; /* NULL: nobody waits any more */
  uint64_t seq, since_ms, sent_ms;
  uint32_t tries_open; /* proposals under way that may have been appended */
  bool is_refused;     /* waits for a tick before the next try */
  bool is_answered;    /* kept for holt_cluster_outcome only */
  int code;
  struct holt_buf answer; /* then: ours */
  size_t len;
  uint8_t *command; /* ours; HOLT__ENTRY_OPERATION in front */
};

/* Barriers that share one read index. */
struct holt__read {
  struct holt_list node;
  struct holt_list requests;
  uint64_t tag, index, sent_ms;
  bool is_sent, is_indexed;
};

/* --- form.c ----------------------------------------------------------------------------------------------
 */

enum { HOLT__VOIDED_SETS = 32 };
enum holt__state { STATE_EMPTY, STATE_PLEDGED, STATE_JOINING, STATE_MEMBER, STATE_LEFT, STATE_FAILED };

/* A node next to us that said hello, whatever its cluster. */
struct holt__neighbour {
  struct holt_list node;
  struct holt_link *link;
  bool has_hello;
  char cluster[HOLT_NAME_MAX + 1];
  char name[HOLT_NAME_MAX + 1];
  char address[128];
  uint64_t id, cluster_id, pledge;
  uint32_t wanted, round;
  uint8_t state, priority;
  bool can_lead, is_voter;
  bool is_told; /* that something is wrong between us */
};

struct holt__pledge {
  uint64_t set; /* 0: none */
  uint32_t round;
  struct holt_raft_conf conf; /* what it begins with: `set` is the hash of it */
  uint32_t voided;            /* bits by place: promised under that id to take no part in it */
  uint64_t since_ms;
};

/* A member of a cluster that this node is in no part of yet. */
struct holt__seen {
  uint64_t id, cluster_id;
  char name[HOLT_NAME_MAX + 1];
};

/* --- Snapshots kept --------------------------------------------------------------------------------------
 */

struct holt__kept {
  struct holt_raft_snapshot meta; /* index 0: none */
  struct holt__freeze freeze;     /* only shared: it stays at its beginning */
};

/* Goes along with one receiver. */
struct holt__source {
  uint64_t index;             /* of the snapshot; 0: not in use */
  struct holt__freeze freeze; /* `at` bytes of it are read */
  uint64_t at, wound_to;      /* wound_to: where it shall be; 0: where it is */
  uint64_t used;
  struct holt_writer piece; /* the last one, which ends at `at` */
};

/* The machine that a received snapshot makes, before it takes the place of ours. */
struct holt__made {
  bool is_there;
  struct holt__machine machine;
  struct holt__freeze freeze;
};

enum { HOLT__SOURCES = HOLT_RAFT_MEMBERS_MAX + 1 };

/* In order of meaning. NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct holt__away {
  uint64_t id, since_ms;
};

struct holt_cluster {
  struct holt_env *env;
  struct holt_links *links;
  struct holt_cluster_config config;
  char name[HOLT_NAME_MAX + 1], node_name[HOLT_NAME_MAX + 1], address[128];
  char owner[HOLT_NAME_MAX + 1]; /* the name of the node whose directory it is; "": none was given yet */
  const struct holt_cluster_ops *ops;
  void *arg;
  bool is_closed;
  enum holt__state state;
  uint64_t self, cluster_id;

  struct holt_raft *raft; /* NULL while there is no cluster */
  struct holt_raft_driver driver;
  struct holt_store *store;                          /* NULL: in memory */
  struct holt_dir *dir;                              /* NULL: in memory */
  bool was_member;                                   /* never begins a cluster again */
  struct holt_err damage;                            /* found at the start, told on the first tick */
  uint64_t shift, last_seq, snapshot_seq, reset_seq; /* see disk.c */
  uint64_t full_seq, full_covers;                    /* 0: there is room */
  uint64_t begin_again_ms;
  bool is_disk_failed, is_begin_full; /* is_begin_full: no room for a new log or identity, told */
  struct holt_timer full_timer;
  struct holt__snapshot_file *file;       /* a snapshot that is being written */
  uint64_t snapshot_now, snapshot_before; /* indexes of the files that are there */
  struct holt__machine machine;
  struct holt__applied applied;
  struct holt_timer timer; /* the driver's deadline */
  struct holt_timer tick;  /* everything of our own: retries, deadlines, formation */
  struct holt_post turn;   /* what is put off to the end of a turn */

  /* what was told last */
  enum holt_raft_role role;
  uint64_t leader, term, commit_told;
  char leader_name[HOLT_NAME_MAX + 1];
  bool has_quorum, is_joined;
  uint64_t handing_over_ms; /* since when; 0: not */
  uint64_t leader_seen_ms;  /* when a leader was last known; at first, when we began to look */
  struct holt__away away[HOLT_RAFT_MEMBERS_MAX]; /* whose link fell; by place, the oldest goes first */
  uint32_t away_next;
  uint64_t began_ms;
  struct holt_raft_conf conf_told;
  char names_told[HOLT_RAFT_MEMBERS_MAX][HOLT_NAME_MAX + 1]; /* beside conf_told */
  bool has_nameless;         /* members are not told of before the log has said how they are called */
  uint64_t silent, unsynced; /* bits by place among the leader's peers: told */

  /* operations */
  uint64_t client, next_seq;
  bool is_session_open;
  uint64_t session_asked_ms, label_asked_ms;
  struct holt_list ops_open, unsent; /* struct holt__op by node and by queue */
  struct holt_map op_by_seq;
  size_t op_count, orphan_count;
  struct holt_list reads; /* struct holt__read */
  uint64_t next_tag;
  struct holt_list ready; /* requests of holt_cluster_ready */
  struct holt_list outcomes;

  /* neighbours and formation */
  struct holt_list neighbours;
  struct holt__pledge pledge;
  struct holt__label founders[HOLT_RAFT_MEMBERS_MAX]; /* beside the pledge's members, as they were called */
  uint32_t founder_count;
  struct holt__seen seen[HOLT_RAFT_MEMBERS_MAX]; /* the oldest goes first */
  uint32_t seen_count;
  bool is_unled;                                   /* `refusal` is about who would begin */
  struct holt__label hints[HOLT_RAFT_MEMBERS_MAX]; /* read from the log at the start, committed or not: good
                                                    * enough to find members and to name them */
  uint32_t hint_count;
  uint32_t round; /* of the next pledge */
  uint32_t voided_round;
  uint64_t voided_sets[HOLT__VOIDED_SETS]; /* it never takes part in these under its present id; the oldest
                                            * goes first */
  uint32_t voided_count;
  uint64_t join_asked_ms, void_asked_ms, hello_at_ms;
  uint64_t refused_told_ms;
  char refusal[380];      /* why it was not let in, the last time; "" once it was */
  bool is_change_refused; /* its settings stay what they were */

  /* membership work asked for here */
  struct holt_cluster_request *leaving, *transferring, *removing;
  uint64_t removing_id, transferring_id, work_asked_ms;
  struct holt_list refused; /* requests that came while another of their kind was under way */
  uint64_t transfer_from;
  bool is_transfer_bad, is_out;
  uint64_t change_tag;
  int change_code;

  /* snapshots */
  struct holt__kept newest, older;
  struct holt__source sources[HOLT__SOURCES];
  uint64_t source_clock;
  struct holt_raft_snapshot freezing; /* index 0: none is being taken */
  struct holt__freeze freeze;
  struct holt_raft_snapshot thawing; /* index 0: none is being received */
  struct holt__thaw thaw;
  bool is_thawed;          /* all pieces are in */
  int thaw_code;           /* what was wrong with them */
  struct holt__made made;  /* then: until its file is durable, or nobody looks at ours any more */
  bool is_made_written;    /* … its file is, or thaw_code says why not */
  struct holt_list buried; /* freed a piece a turn: see bury.c */
  struct holt_post digging;
  bool is_untidy; /* clearing left something to free */
};

/* --- cluster.c -------------------------------------------------------------------------------------------
 */

uint64_t holt__cluster_now(const struct holt_cluster *c);
void holt__cluster_tell(struct holt_cluster *c, enum holt_cluster_event event, const char *text,
                        const char *old, uint64_t number);
void holt__cluster_tell_error(struct holt_cluster *c, enum holt_cluster_event event,
                              const struct holt_err *err);
/* Something to do at the end of this turn. */
void holt__cluster_stir(struct holt_cluster *c);
/* Hand an event to the raft, if there is one. */
int holt__cluster_step(struct holt_cluster *c, struct holt_raft_event *event);
/* Make the raft of cluster `cluster_id`, empty; then `conf` begins it (NULL: others will send the log). */
void holt__cluster_begin(struct holt_cluster *c, uint64_t cluster_id, const struct holt_raft_conf *conf);
/* Go on with what the log held. */
int holt__cluster_resume(struct holt_cluster *c, uint64_t cluster_id,
                         const struct holt_raft_restore *restore);
/* After whatever was done with the driver: timers, failures. */
void holt__cluster_after(struct holt_cluster *c);
/* Forget the raft and all that was replicated. */
void holt__cluster_discard(struct holt_cluster *c);
/* The same, and be another incarnation. 0, or why that could not be saved: it has failed then. */
int holt__cluster_end(struct holt_cluster *c);

/* --- request.c -------------------------------------------------------------------------------------------
 */

void holt__requests_init(struct holt_cluster *c);
void holt__requests_turn(struct holt_cluster *c);  /* propose and ask what waits */
void holt__requests_tick(struct holt_cluster *c);  /* deadlines, retries */
void holt__requests_retry(struct holt_cluster *c); /* another leader, or linked again: ask all again */
void holt__requests_done(struct holt_cluster *c, const struct holt_raft_done *done);
void holt__requests_applied(struct holt_cluster *c, const struct holt_raft_entry *entry,
                            const struct holt__applied *applied);
void holt__requests_reached(struct holt_cluster *c); /* more was applied */
/* After a snapshot took the place of the log: what of ours it holds. */
void holt__requests_replaced(struct holt_cluster *c);
void holt__requests_fail(struct holt_cluster *c, int code);
/* End a request: its callback runs, its memory is the caller's again. */
void holt__cluster_request_end(struct holt_cluster_request *request, int code, struct holt_buf answer,
                               uint64_t number);
bool holt__cluster_is_ready(const struct holt_cluster *c);

/* --- form.c ----------------------------------------------------------------------------------------------
 */

#define HOLT__EACH_NEIGHBOUR(c, at)                                                                          \
  for (struct holt__neighbour *at = HOLT_CONTAINER((c)->neighbours.next, struct holt__neighbour, node);      \
       &at->node != &(c)->neighbours; at = HOLT_CONTAINER(at->node.next, struct holt__neighbour, node))

/* What the frames of form.c are. */
enum {
  HOLT__HELLO = 1,
  HOLT__VOID,
  HOLT__VOIDED,
  HOLT__JOIN,
  HOLT__REFUSED,
  HOLT__LEAVE,
  HOLT__GONE,
  HOLT__HAND_OVER,
  HOLT__ADMITTED
};

void holt__form_init(struct holt_cluster *c);
void holt__form_free(struct holt_cluster *c);
void holt__form_tick(struct holt_cluster *c);
void holt__form_say_hello(struct holt_cluster *c); /* to all, because something has changed */
/* When the link to a member that has none now fell: since the start, where it never had one. */
uint64_t holt__form_away_since(const struct holt_cluster *c, uint64_t id);
struct holt__neighbour *holt__form_by_id(struct holt_cluster *c, uint64_t id);
/* It said hello, and is of the cluster of our name. */
bool holt__form_is_ours(const struct holt_cluster *c, const struct holt__neighbour *next);
void holt__form_post(struct holt__neighbour *to, struct holt_writer *body); /* `body` is freed */
/* A member to join through, NULL. */
struct holt__neighbour *holt__form_member(struct holt_cluster *c);
void holt__form_message(struct holt_cluster *c, struct holt_link *link, struct holt_buf body);

/* Ask the leader to take out `id`, or to hand over to it. */
void holt__form_ask_leader(struct holt_cluster *c, bool is_leave, uint64_t id);

/* --- set.c: the first members of a cluster -----------------------------------------------------------------
 */

/* Whether this node has promised to take no part in that set. */
bool holt__set_is_voided(const struct holt_cluster *c, uint64_t set);
/* Whether the founder at that place is there, under its id. */
struct holt__neighbour *holt__set_founder(struct holt_cluster *c, uint32_t place);
/* Whether it is not there, and its state lost: another id goes by its name. */
bool holt__set_is_gone(struct holt_cluster *c, uint32_t place);
/* This node began, or was let in, and holds nothing that anybody could miss. */
bool holt__set_is_bare(const struct holt_cluster *c);
/* A neighbour is a member of some cluster: as long as it may come back, begin none without it. */
void holt__set_note_member(struct holt_cluster *c, const struct holt__neighbour *next);
/* One that was noted and is not here, nor its successor; NULL. */
const struct holt__seen *holt__set_missing(struct holt_cluster *c);
void holt__set_on_void(struct holt_cluster *c, struct holt__neighbour *next, struct holt_reader *in);
void holt__set_on_voided(struct holt_cluster *c, struct holt_reader *in);
void holt__set_tick(struct holt_cluster *c);

/* --- words.c ---------------------------------------------------------------------------------------------
 */

/* Whether too many of those that would begin never lead: 0, or HOLT_EINVAL with a sentence. */
int holt__words_unled(const struct holt_cluster *c, const struct holt_raft_conf *conf, struct holt_err *err);
/* What is wrong between this node and that one: 0, or HOLT_EFOREIGN, HOLT_EINVAL with a sentence. */
int holt__words_between(const struct holt_cluster *c, const struct holt__neighbour *next,
                        struct holt_err *err);
/* Why it is not in its cluster, or what is wrong with who is connected; "" when all is well. */
void holt__words_problem(struct holt_cluster *c, char *out, size_t cap);

/* --- member.c --------------------------------------------------------------------------------------------
 */

/* At the leader: a node asks to be a member, or a member to have other settings. 0, or why not. */
int holt__member_admit(struct holt_cluster *c, uint64_t id, const char *name, const char *address,
                       bool can_lead, bool is_voter, uint8_t priority, struct holt_err *err);
/* This member has other settings than the log says: the leader is to be told. */
bool holt__member_is_changed(const struct holt_cluster *c);
/* At the leader: take the member out. */
int holt__member_expel(struct holt_cluster *c, uint64_t id);
/* How a member is called and reached, from whatever is known of it; NULL: nothing. */
const struct holt__label *holt__member_label(const struct holt_cluster *c, uint64_t id);
/* Read the labels in a log that is taken up again. */
void holt__member_read_hints(struct holt_cluster *c, const struct holt_raft_restore *restore);
/* As the founder of that id was called; NULL. */
const struct holt__label *holt__member_founder(const struct holt_cluster *c, uint64_t id);
/* Who is at this place of the set: that neighbour (NULL: this node). */
void holt__member_found(struct holt_cluster *c, uint32_t place, const struct holt__neighbour *next);
void holt__member_change_done(struct holt_cluster *c, const struct holt_raft_done *done);
/* This node is no member any more. */
void holt__member_gone(struct holt_cluster *c);
bool holt__member_was(const struct holt_cluster *c, uint64_t id);
void holt__member_tick(struct holt_cluster *c);
/* Tell who came and went since it was last told. */
void holt__member_compare(struct holt_cluster *c);
void holt__member_applied_conf(struct holt_cluster *c);

/* --- snapshot.c ------------------------------------------------------------------------------------------
 */

int holt__snapshot_take(void *arg, const struct holt_raft_snapshot *snapshot);
int holt__snapshot_part(void *arg, const struct holt_raft_part *part);
void holt__snapshot_turn(struct holt_cluster *c); /* a slice of the work */
bool holt__snapshot_has_work(struct holt_cluster *c);
/* Forget everything; it is freed in pieces. */
void holt__snapshot_free(struct holt_cluster *c);
/* The file is durable, or `status` says why not. */
void holt__snapshot_written(struct holt_cluster *c, int status);
/* At the start: `machine` (taken) is the state that `meta` stands for. */
void holt__snapshot_adopt(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                          struct holt__machine *machine);

/* --- source.c --------------------------------------------------------------------------------------------
 */

/* It is the newest one from now on; `freeze` is taken. */
void holt__source_keep(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                       struct holt__freeze *freeze);
/* See holt_raft_driver_io. HOLT_EBUSY: not now, ask again. */
int holt__snapshot_read(void *arg, const struct holt_raft_snapshot *snapshot, uint64_t offset, uint8_t *out,
                        uint32_t *len);
void holt__source_turn(struct holt_cluster *c);
bool holt__source_has_work(struct holt_cluster *c);
void holt__source_free(struct holt_cluster *c);

/* --- bury.c: takes what it is given, leaves it empty, frees it on later turns ------------------------------
 */

void holt__bury_init(struct holt_cluster *c);
void holt__bury_collections(struct holt_cluster *c, struct holt_collections *collections);
void holt__bury_machine(struct holt_cluster *c, struct holt__machine *machine);
void holt__bury_freeze(struct holt_cluster *c, struct holt__freeze *freeze);
void holt__bury_stop(struct holt_cluster *c); /* no turns follow */
void holt__bury_free(struct holt_cluster *c); /* all that is left, at once */

/* --- snapshot_file.c: only with a directory ----------------------------------------------------------------
 */

/* Write the state in `freeze` (shared) to its file; holt__snapshot_written tells the end, on a later turn.
 * One at a time. meta->size_bytes is that of the state. */
void holt__snapshot_file_begin(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                               const struct holt__freeze *freeze);
/* True: the one being written is given up, nobody is told. False: it is past that, its end will be told. */
bool holt__snapshot_file_cancel(struct holt_cluster *c);
void holt__snapshot_file_forget(struct holt_cluster *c); /* whatever its state, nobody is told */
void holt__snapshot_file_turn(struct holt_cluster *c);   /* fill the next block */
bool holt__snapshot_file_has_work(const struct holt_cluster *c);
/* At the start: make the machine that `meta` stands for of its file, block by block; holds the loop up. */
int holt__snapshot_file_load(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                             struct holt__machine *out, struct holt_err *err);
/* At the start: remove what a crash left behind, and snapshots that the log does not name. */
int holt__snapshot_file_clean(struct holt_cluster *c, struct holt_err *err);

/* --- disk.c; all do nothing, and succeed, in memory --------------------------------------------------------
 */

/* Open the folder; resume what was there. */
int holt__disk_open(struct holt_cluster *c, struct holt_err *err);
void holt__disk_close(struct holt_cluster *c);
/* Name, id, pledge: durable when it returns. */
int holt__disk_save_identity(struct holt_cluster *c, struct holt_err *err);
/* A new log for this cluster. */
int holt__disk_begin(struct holt_cluster *c, uint64_t cluster_id, struct holt_err *err);
/* Leave what is there, be another node. */
int holt__disk_renew(struct holt_cluster *c, struct holt_err *err);
/* For the status. */
const char *holt__disk_state(const struct holt_cluster *c);
int holt__disk_persist(struct holt_cluster *c, const struct holt_raft_persist *persist);

#endif /* HOLT_CLUSTER_CLUSTER_IMPL_H */
