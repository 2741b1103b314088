/* raft_sim.h - whole members of a Raft cluster on a simulated network, disk and clock, under faults drawn
 * from one seed, and the watcher that says after every step whether consensus kept its word.
 *
 * A member is what ships: the core (raft/raft.h), its driver, its table of sessions, and a small state
 * machine (a map and a queue). Clients propose and read through any member and retry until they know the
 * outcome; an operator changes the membership. When the events of a run are used up, all faults are healed
 * and the cluster must recover. One seed gives one run, to the bit. */
#ifndef HOLT_SIM_RAFT_SIM_H
#define HOLT_SIM_RAFT_SIM_H

#include <stdbool.h>
#include <stdint.h>

/* X(NAME, word, what it does) */
#define HOLT_RAFT_SIM_FAULTS(X)                                                                              \
  X(JITTER, "jitter", "delays differ widely, so that messages overtake each other")                          \
  X(DROP, "drop", "messages are lost")                                                                       \
  X(DUPLICATE, "duplicate", "messages arrive twice")                                                         \
  X(STALE, "stale", "messages arrive again much later")                                                      \
  X(BURST, "burst", "a link holds everything back, then lets it go at once")                                 \
  X(SLOW_LINK, "slow-link", "a link takes up to an election time-out")                                       \
  X(SPLIT, "split", "the network falls into two halves")                                                     \
  X(ONE_WAY, "one-way", "a member is heard but hears nothing, or the reverse")                               \
  X(PARTIAL, "partial", "two members do not reach each other, but all others")                               \
  X(DISK_SLOW, "disk-slow", "a disk takes long for each write")                                              \
  X(DISK_STALL, "disk-stall", "a disk stands still for several election time-outs")                          \
  X(DISK_ERROR, "disk-error", "a write fails: the member is lost")                                           \
  X(DISK_FULL, "disk-full", "a write finds no space: the member stops until there is some")                  \
  X(CRASH, "crash", "a process is killed: what was not synced is lost, in whole or in part")                 \
  X(CRASH_SYNC, "crash-sync", "a process is killed at the end of a write, just before or after it counts")   \
  X(CRASH_ALL, "crash-all", "all processes are killed at once")                                              \
  X(PAUSE, "pause", "a process stands still for several election time-outs")                                 \
  X(CLOCK_RATE, "clock-rate", "clocks run at up to 20 % too fast or slow")                                   \
  X(CLOCK_JUMP, "clock-jump", "a clock jumps ahead")                                                         \
  X(STARVE, "starve", "the timers of a process come late")                                                   \
  X(CHURN, "churn", "members are added, removed, replaced, demoted and given other priorities")              \
  X(READMIT, "readmit", "a removed member is admitted again under the same id")                              \
  X(TRANSFER, "transfer", "leadership is handed over on demand")                                             \
  X(SNAPSHOT_FAIL, "snapshot-fail", "a snapshot cannot be written, stored or found")                         \
  X(LATE_APPLY, "late-apply", "what is committed is applied late, a few entries at a time")

enum holt_raft_sim_fault {
#define X(name, word, text) HOLT_RAFT_SIM_##name,
  HOLT_RAFT_SIM_FAULTS(X)
#undef X
      HOLT_RAFT_SIM_FAULT_COUNT
};

enum holt_raft_sim_profile {
  HOLT_RAFT_SIM_CALM, /* no faults */
  HOLT_RAFT_SIM_NETWORK,
  HOLT_RAFT_SIM_DISK,
  HOLT_RAFT_SIM_PROCESS,
  HOLT_RAFT_SIM_MEMBERSHIP,
  HOLT_RAFT_SIM_SWARM, /* each seed draws its faults from all */
  HOLT_RAFT_SIM_PROFILE_COUNT,
  HOLT_RAFT_SIM_ALL = HOLT_RAFT_SIM_PROFILE_COUNT /* each seed the next of them */
};

struct holt_raft_sim_config {
  uint64_t seed;
  uint64_t events;           /* before everything is healed */
  uint32_t faults;           /* bits by enum holt_raft_sim_fault */
  unsigned voters, learners; /* at the start: 1 to 7, 0 to 2 */
  unsigned clients;          /* 1 to 8 */
  bool is_memory;            /* logs in memory: a restart is a new member */
  bool lease_reads;          /* only with clocks whose rates are right */
  bool syncs_at_once;        /* persists are durable on return */
  bool real_log;             /* the segment log of store/ on a simulated disk, not only a model of one */
  bool has_priorities;       /* members differ in priority, some never lead */
  uint32_t election_ms, heartbeat_ms;
  uint32_t append_bytes, chunk_bytes, inflight_messages, inflight_bytes, uncommitted_bytes, keep_entries;
  uint32_t snapshot_entries, apply_max;
  uint32_t think_us;      /* a client between two operations, on average */
  uint32_t mean_fault_ms; /* between two faults of a kind */
  /* Told each event in words, when not NULL. */
  void (*line)(void *arg, const char *text);
  void *line_arg;
  bool messages; /* each message as well */
};

struct holt_raft_sim_result {
  bool is_ok;
  char invariant[40]; /* the word of the promise that was broken, as in "log_matching" */
  char what[600];     /* what happened */
  uint64_t hash;      /* of the whole run */
  uint64_t events;    /* simulated, all of them */
  uint64_t time_us;   /* simulated */
  uint64_t faults[HOLT_RAFT_SIM_FAULT_COUNT];
  uint64_t messages, elections, commits, applied, snapshots_taken, snapshots_installed, restarts, changes;
  uint64_t operations, reads, retries, unknown, undecided; /* of clients; keys the checker gave up */
};

const char *holt_raft_sim_fault_word(enum holt_raft_sim_fault fault);
const char *holt_raft_sim_profile_word(enum holt_raft_sim_profile profile);

/* Everything but `events`, drawn from the seed. */
struct holt_raft_sim_config holt_raft_sim_draw(uint64_t seed, enum holt_raft_sim_profile profile,
                                               uint64_t events);
void holt_raft_sim_run(const struct holt_raft_sim_config *config, struct holt_raft_sim_result *result);
/* The settings as one line. */
void holt_raft_sim_describe(const struct holt_raft_sim_config *config, char out[500]);
/* A failing run made smaller: faults switched off one by one, members and clients taken away, events cut, as
 * long as something still breaks. At most `tries` runs. */
void holt_raft_sim_shrink(struct holt_raft_sim_config *config, struct holt_raft_sim_result *result,
                          unsigned tries);

#endif /* HOLT_SIM_RAFT_SIM_H */
