/* raft_sim_impl.h - what the files of the Raft simulator share: the world, and one section of functions a
 * file.
 *
 * Host: a machine, by its place. Process: what runs on it, one life long. Incarnation: a member id and what
 * it promised; a host whose log is lost begins a new one. */
#ifndef HOLT_SIM_RAFT_SIM_IMPL_H
#define HOLT_SIM_RAFT_SIM_IMPL_H

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"
#include "raft/bug.h"
#include "raft/driver.h"
#include "raft/sessions.h"
#include "sim/history.h"
#include "sim/raft_sim.h"

enum {
  RSIM_HOSTS = 12,
  RSIM_CLIENTS = 8,
  RSIM_LANES = 3, /* operations a client has under way */
  RSIM_KEYS = 6,
  RSIM_FILES = 8,  /* snapshots on a disk */
  RSIM_STALE = 64, /* old messages kept for a replay */
  RSIM_WAITS = RSIM_CLIENTS * RSIM_LANES * 4,
  RSIM_CLUSTER = 77,
};

/* --- Events (raft_sim.c) ---------------------------------------------------------------------------------
 */

enum rsim_event_type {
  RSIM_MESSAGE, /* blob arrives at host */
  RSIM_TIMER,
  RSIM_DISK,     /* the write under way has ended */
  RSIM_APPLY,    /* go on applying */
  RSIM_TAKEN,    /* a snapshot was written */
  RSIM_STORED,   /* a received snapshot was written */
  RSIM_START,    /* start the process again */
  RSIM_STOP,     /* end the process of a member that is gone */
  RSIM_FAULT,    /* of kind `a` */
  RSIM_HEAL,     /* fault `a` ends, see rsim_cut */
  RSIM_OPERATOR, /* look after the membership */
  RSIM_ASK,      /* client's attempt reaches host: a = client, b = lane, c = attempt */
  RSIM_ANSWER,   /* and its answer the client: the same, code and value in the event */
  RSIM_TIMEOUT,  /* the client has waited long enough */
  RSIM_THINK,    /* the client begins another operation */
  RSIM_CHECK,    /* a step of the recovery */
};

struct rsim_blob { /* bytes of a message; shared by its copies */
  struct rsim_blob *next;
  uint32_t references, len, cap;
  uint8_t type, to;
  uint8_t bytes[];
};

struct rsim_event {
  uint8_t type, host;
  uint8_t a, b;
  uint32_t life; /* of the process it is for; others' are dropped */
  uint32_t c;
  int32_t code;
  uint64_t value;
  struct rsim_blob *blob;
};

struct rsim_slot { /* of the event heap */
  uint64_t time_us, order;
  uint32_t event;
};

/* --- Entries and logs (raft_log_sim.c) ---------------------------------------------------------------------
 */

/* Somebody won a term. Void: it lost that term in a crash, before anybody could hear of it. */
struct rsim_reign {
  uint64_t id;
  bool is_void;
};

/* One for each (index, term) that ever existed: by log matching its whole past is fixed. */
struct rsim_record {
  uint64_t index, term, chain; /* chain: hash of this entry and all before it */
  uint64_t client, seq, low, stamp_ms;
  uint64_t conf_before;         /* index of the last CONF entry before it */
  struct rsim_record *previous; /* NULL: the first */
  const uint8_t *data;
  uint32_t len;
  struct rsim_reign *reign; /* whose it is; NULL: from the beginning of the cluster */
  uint8_t type;
};

/* A log as records: the entries after `base`. */
struct rsim_log {
  struct rsim_record **records; /* records[head + i] has index base + 1 + i */
  size_t head, count, cap;
  uint64_t base;
  struct rsim_record *base_record; /* NULL: base is 0 */
};

struct rsim_file { /* a snapshot on disk */
  struct holt_raft_snapshot meta;
  uint8_t *bytes; /* ours */
  size_t len;
};

struct rsim_write {  /* a persist under way */
  uint64_t began_ms; /* by the clock of its host */
  uint64_t seq, term, vote, truncate_from, snapshot_index;
  bool has_vote, is_reset;
  struct rsim_record **records; /* ours, kept for the next use */
  struct rsim_record *snapshot_record;
  size_t count, cap;
};

struct rsim_wal; /* raft_wal_sim.c */

/* What is durable at a host. */
struct rsim_disk {
  struct rsim_wal *wal; /* the real log on a simulated disk beside this model, or NULL */
  uint64_t term, vote;
  struct rsim_log log;
  uint64_t snapshot_index;           /* that the log refers to; 0: none */
  struct rsim_file file[RSIM_FILES]; /* index 0: none */
  struct rsim_write *writes;         /* ring of those under way, oldest first */
  size_t write_head, write_count, write_cap;
  size_t syncing;    /* so many of them are being synced */
  uint64_t moved_ms; /* by the clock of its host: the last sync that ended */
  uint64_t slow_until_us, stall_until_us;
  bool is_broken, is_full; /* the next write fails */
};

/* --- The state machine (raft_fsm_sim.c) --------------------------------------------------------------------
 */

enum rsim_command { /* beside enum holt_history_kind */
                    RSIM_OPEN = 100,
                    RSIM_CLOSE,
                    RSIM_NOISE,
};

enum { RSIM_COMMAND_BYTES = 25 };

struct rsim_fsm {
  uint64_t index; /* applied */
  uint64_t chain; /* hash of all applied */
  uint64_t values[RSIM_KEYS];
  uint64_t value_hash;
  uint64_t *queue;
  size_t queue_head, queue_count, queue_cap;
  uint64_t popped, pushed; /* counters: part of the state */
  uint64_t queue_hash;
  struct holt_sessions sessions;
  uint64_t
      closed[RSIM_CLIENTS]; /* of each client the last session that was closed: none before it opens again */
};

struct rsim_result {
  int code; /* 0, or HOLT_E*: refused by the table of sessions */
  uint64_t value;
};

/* --- Hosts (raft_host.c)
 * ------------------------------------------------------------------------------------ */

/* What an id promised, for as long as the run lasts. */
struct rsim_incarnation {
  uint64_t id;
  uint8_t host;
  bool is_lost; /* its log is gone: it never comes back */
  bool was_member;
  struct rsim_disk disk;
};

struct rsim_wait { /* at a process: an answer owed to a client */
  uint64_t index, term;
  uint8_t client, lane;
  bool is_read, has_index;
  uint32_t attempt;
  uint64_t floor; /* read: what was acknowledged before it began */
};

struct rsim_host {
  struct rsim *world;
  uint8_t place;
  bool is_up;
  uint32_t life;
  struct rsim_incarnation *self;
  struct holt_raft *raft;
  struct holt_raft_driver driver;
  struct rsim_fsm fsm;
  struct rsim_log log; /* as the core should hold it, not synced yet */
  uint64_t paused_until_us, starved_until_us;
  /* clock: local ms = (base + (now - since) * rate / 2^20) / 1000 */
  uint64_t clock_base_us, clock_since_us, clock_rate;
  uint64_t timer_us; /* of the timer event under way; 0: none */
  enum holt_raft_role role;
  uint64_t term, leader, commit;
  uint64_t leads_since_ms;         /* its clock; or since its membership changed */
  uint64_t heard_from[RSIM_HOSTS]; /* leader: its clock when it last heard each host in this term */
  uint64_t heard_ms;               /* its clock when it last heard its leader; 0: not in this life and term */
  struct holt_raft_conf conf;      /* as of the last step */
  struct rsim_file taking;         /* frozen, being written */
  uint8_t *incoming;               /* pieces of a received snapshot */
  size_t incoming_len, incoming_cap;
  struct holt_raft_snapshot incoming_meta;
  bool apply_is_due;
  struct rsim_wait waits[RSIM_WAITS];
  size_t wait_count;
  struct rsim_record **records; /* of the persist of this step */
  size_t record_cap;
};

/* --- Clients (raft_client.c)
 * -------------------------------------------------------------------------------- */

struct rsim_lane {
  bool is_busy, is_read, may_have_happened;
  uint8_t kind;
  uint32_t attempt, attempts; /* number of the present one; how many of this operation */
  uint64_t key, value, expected, client, seq;
  size_t history; /* place in the history; SIZE_MAX: not recorded */
  uint64_t floor; /* acknowledged when it was called */
};

struct rsim_client {
  uint64_t id, next_seq;
  bool is_open, is_opening;
  struct rsim_lane lanes[RSIM_LANES];
};

/* --- The world
 * ------------------------------------------------------------------------------------------------ */

struct rsim_cut { /* a fault that ends */
  uint8_t kind;
  bool is_active;
  uint32_t from, to; /* bits of hosts */
  uint8_t host;
};
enum { RSIM_CUTS = 32 };

struct rsim_link {
  uint8_t cut;  /* so many faults cut it */
  uint8_t slow; /* or slow it down */
  uint64_t burst_until_us;
};

struct rsim_stage { /* committed up to `index` by the leader of `term` */
  uint64_t term, index;
};

struct rsim {
  struct holt_raft_sim_config config;
  struct holt_raft_sim_result *result;
  uint64_t now_us, event_count, hash;
  bool has_failed, is_healing, is_done;

  struct rsim_slot *heap;
  size_t heap_count, heap_cap;
  uint64_t next_order;
  struct rsim_event *events; /* pool */
  uint32_t *free_events;
  size_t event_cap, free_count;

  struct holt_rand rand, net_rand, disk_rand, client_rand, operator_rand;
  struct holt_rand fault_rand[HOLT_RAFT_SIM_FAULT_COUNT];

  struct rsim_host hosts[RSIM_HOSTS];
  unsigned host_count;
  struct holt_raft_conf first; /* the members at the beginning */
  struct rsim_incarnation **incarnations;
  size_t incarnation_count, incarnation_cap;
  struct holt_map by_id; /* id -> incarnation */
  uint64_t next_id;

  struct rsim_link links[RSIM_HOSTS][RSIM_HOSTS];
  struct rsim_cut cuts[RSIM_CUTS];
  uint32_t drop_ppm, duplicate_ppm, stale_ppm;
  uint64_t delay_us;
  struct rsim_blob *free_blobs[8];
  struct rsim_blob *stale[RSIM_STALE];

  /* watcher */
  struct holt_map records;        /* (index, term) -> record */
  struct rsim_record **committed; /* by index */
  uint64_t *applied_hash;         /* by index */
  size_t committed_cap;
  uint64_t committed_max;
  struct rsim_stage *stages;
  size_t stage_count, stage_cap;
  struct holt_map leaders;  /* term -> rsim_reign */
  struct holt_map votes;    /* hash of (id, term) -> candidate as pointer */
  struct holt_map effects;  /* hash of (client, seq) -> index as pointer */
  struct holt_map written;  /* the same -> it is in some log */
  struct holt_map refused;  /* the same -> told as never done */
  struct holt_map outcomes; /* the same -> its answer + 1 */
  uint64_t acked_index;     /* the highest whose effect a client was told */
  uint8_t *arena;           /* for records and their bytes; chunks linked through their first word */
  size_t arena_used, arena_size;

  struct rsim_client clients[RSIM_CLIENTS];
  struct holt_history history;
  uint64_t next_value, next_client;
  uint64_t pushes_open;

  /* recovery */
  unsigned phase;
  uint64_t phase_end_us, messages_at, elections_at, snapshots_at;
  uint64_t probe_index, probe_term;

  struct holt_writer scratch;
  struct rsim_host *current; /* whose step it is */
};

/* raft_sim.c */
void holt__rsim_at(struct rsim *w, uint64_t delay_us, struct rsim_event event);
bool holt__rsim_has(const struct rsim *w, enum holt_raft_sim_fault fault);
void holt__rsim_count(struct rsim *w, enum holt_raft_sim_fault fault);
void holt__rsim_mix(struct rsim *w, uint64_t value);
/* A promise is broken: the first one counts. */
void holt__rsim_fail(struct rsim *w, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void holt__rsim_say(struct rsim *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define RSIM_SAY(w, ...) ((w)->config.line != NULL ? holt__rsim_say((w), __VA_ARGS__) : (void)0)
void *holt__rsim_arena(struct rsim *w, size_t size_bytes);
uint64_t holt__rsim_between(struct holt_rand *r, uint64_t low, uint64_t high);
bool holt__rsim_chance(struct holt_rand *r, uint32_t ppm);

/* Begin the cluster: somebody's order to those that run. */
void holt__rsim_bootstrap(struct rsim *w);

/* raft_net_sim.c */
void holt__rsim_net_send(struct rsim *w, struct rsim_host *from, const struct holt_raft_message *message,
                         struct holt_buf bytes);
void holt__rsim_net_replay(struct rsim *w);
void holt__rsim_blob_free(struct rsim *w, struct rsim_blob *blob);
void holt__rsim_net_close(struct rsim *w);

/* raft_log_sim.c */
struct rsim_record *holt__rsim_record(struct rsim *w, uint64_t index, uint64_t term);
struct rsim_record *holt__rsim_log_at(const struct rsim_log *log, uint64_t index);
uint64_t holt__rsim_log_last(const struct rsim_log *log);
void holt__rsim_log_push(struct rsim_log *log, struct rsim_record *record);
void holt__rsim_log_truncate(struct rsim_log *log, uint64_t from);
/* Drop everything up to `index`; beyond the end, or with `is_reset`: all. */
void holt__rsim_log_drop(struct rsim_log *log, uint64_t index, struct rsim_record *record, bool is_reset);
void holt__rsim_log_copy(struct rsim_log *to, const struct rsim_log *from);
void holt__rsim_log_free(struct rsim_log *log);

/* raft_disk_sim.c */
int holt__rsim_disk_write(struct rsim *w, struct rsim_host *h, const struct holt_raft_persist *persist,
                          struct rsim_record **records);
void holt__rsim_disk_done(struct rsim *w, struct rsim_host *h);
/* The process is killed: of what was not synced, a drawn part survives. */
void holt__rsim_disk_crash(struct rsim *w, struct rsim_host *h);
void holt__rsim_disk_free(struct rsim_disk *disk);
struct rsim_file *holt__rsim_disk_file(struct rsim_disk *disk, uint64_t index);
/* Put a snapshot beside those that may still be needed; takes the bytes. HOLT_EFULL: no room, not taken. */
int holt__rsim_disk_keep(struct rsim_host *h, struct rsim_file *file);

/* After a crash: carry out writes under way, one after the other, until `is_same`; what is left is forgotten.
 * How many it took, SIZE_MAX when it never was the same. */
size_t holt__rsim_disk_match(struct rsim_disk *disk,
                             bool (*is_same)(const struct rsim_disk *disk,
                                             const struct holt_raft_restore *restore),
                             const struct holt_raft_restore *restore);

/* raft_wal_sim.c */
struct rsim_wal *holt__rsim_wal_new(void);
void holt__rsim_wal_free(struct rsim_wal *wal);
int holt__rsim_wal_add(struct rsim_wal *wal, const struct holt_raft_persist *persist);
void holt__rsim_wal_begin(struct rsim_wal *wal); /* what was added belongs to this sync */
/* End a sync of at least `wanted` writes; how many became durable. */
size_t holt__rsim_wal_sync(struct rsim *w, struct rsim_wal *wal, size_t wanted);
void holt__rsim_wal_drop(struct rsim_wal *wal, uint64_t index);
void holt__rsim_wal_crash(struct rsim *w, struct rsim_wal *wal);
/* Open it again, and compare. */
void holt__rsim_wal_open(struct rsim *w, struct rsim_host *h, struct rsim_wal *wal);

/* raft_fsm_sim.c */
void holt__rsim_fsm_init(struct rsim_fsm *fsm);
void holt__rsim_fsm_free(struct rsim_fsm *fsm);
struct rsim_result holt__rsim_fsm_apply(struct rsim *w, struct rsim_fsm *fsm,
                                        const struct holt_raft_entry *entry);
uint64_t holt__rsim_fsm_hash(const struct rsim_fsm *fsm);
void holt__rsim_fsm_save(const struct rsim_fsm *fsm, uint64_t salt, struct holt_writer *out);
int holt__rsim_fsm_load(struct rsim_fsm *fsm, struct holt_buf bytes);

/* raft_host.c */
void holt__rsim_host_new(struct rsim *w, struct rsim_host *h); /* a new incarnation, an empty log */
void holt__rsim_host_start(struct rsim *w, struct rsim_host *h);
void holt__rsim_host_crash(struct rsim *w, struct rsim_host *h, const char *why);
void holt__rsim_host_event(struct rsim *w, struct rsim_host *h, const struct rsim_event *event);
void holt__rsim_host_lose(struct rsim *w, struct rsim_host *h); /* its log is gone for good */
uint64_t holt__rsim_host_now(const struct rsim *w, const struct rsim_host *h);
/* After anything was done to its driver: the outcome, the timer, what is left to apply. */
void holt__rsim_host_after(struct rsim *w, struct rsim_host *h, int rc);
void holt__rsim_host_close(struct rsim *w, struct rsim_host *h);

/* raft_watch.c: the promises */
void holt__rsim_watch_step(struct rsim *w, struct rsim_host *h, const struct holt_raft_event *event,
                           const struct holt_raft_update *update);
void holt__rsim_watch_send(struct rsim *w, struct rsim_host *h, const struct holt_raft_message *message);
void holt__rsim_watch_applied(struct rsim *w, struct rsim_host *h);
void holt__rsim_watch_start(struct rsim *w, struct rsim_host *h);
/* Record what is to be persisted, entry by entry; `records` (room for its count) is filled. */
void holt__rsim_watch_persist(struct rsim *w, struct rsim_host *h, const struct holt_raft_persist *persist,
                              struct rsim_record **records);

/* raft_client.c */
void holt__rsim_clients_start(struct rsim *w);
void holt__rsim_client_event(struct rsim *w, const struct rsim_event *event);
void holt__rsim_client_done(struct rsim *w, struct rsim_host *h, const struct holt_raft_done *done);
/* `h` has applied its next entry, with this result. */
void holt__rsim_client_applied(struct rsim *w, struct rsim_host *h, const struct holt_raft_entry *entry,
                               struct rsim_result result);
void holt__rsim_client_reads(struct rsim *w, struct rsim_host *h); /* those that may be served now */

/* raft_faults.c */
void holt__rsim_faults_start(struct rsim *w);
void holt__rsim_fault(struct rsim *w, enum holt_raft_sim_fault fault);
void holt__rsim_heal(struct rsim *w, unsigned cut);
void holt__rsim_heal_all(struct rsim *w);
/* Whether `h` may be lost for good without a majority going with it. */
bool holt__rsim_can_lose(const struct rsim *w, const struct rsim_host *h);

/* raft_operator.c */
void holt__rsim_operator(struct rsim *w);
struct rsim_host *holt__rsim_leader(struct rsim *w); /* the one of the highest term, or NULL */

/* raft_recover.c */
void holt__rsim_recover(struct rsim *w); /* heal everything, begin to look */
void holt__rsim_recover_step(struct rsim *w);
void holt__rsim_verdict(struct rsim *w); /* the histories */

#endif /* HOLT_SIM_RAFT_SIM_IMPL_H */
