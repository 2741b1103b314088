/* What the consensus core costs alone: three members in one thread, no I/O, messages handed over as they are,
 * every persist durable at once; the log is cut behind a snapshot every 8,192 entries.
 *
 *   bench_raft [ENTRIES]      steps and entries of 64 bytes a second, proposed 1, 16 and 128 at a time */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env/uv.h"
#include "raft/raft.h"

enum { MEMBERS = 3, QUEUE = 65536, ENTRY_BYTES = 64, SNAPSHOT_EVERY = 8192, BATCH_MAX = 128 };

struct member {
  struct holt_raft *raft;
  uint64_t deadline_ms, applied, snapshot;
};

static struct member members[MEMBERS + 1]; /* by id */
static struct holt_raft_message queue[QUEUE];
static unsigned taken, put;
static uint64_t now_ms, steps;

static void step(uint64_t id, struct holt_raft_event event);

static void take_snapshot(uint64_t id) {
  struct holt_raft_snapshot snapshot;
  struct member *m = &members[id];
  if (m->applied < m->snapshot + SNAPSHOT_EVERY) return;
  m->snapshot = m->applied;
  if (holt_raft_snapshot_at(m->raft, m->applied, &snapshot) == 0)
    step(id, (struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_TAKEN, .snapshot = &snapshot});
}

/* One step, and what a driver would do at once. */
static void step(uint64_t id, struct holt_raft_event event) {
  struct holt_raft_update update;
  event.now_ms = now_ms;
  if (holt_raft_step(members[id].raft, &event, &update) != 0) {
    fprintf(stderr, "a step failed%s%s\n", update.fatal ? ": " : "", update.fatal ? update.fatal : "");
    exit(1);
  }
  steps++;
  uint64_t persisted = update.persist.seq, apply_to = update.apply_to;
  members[id].deadline_ms = update.deadline_ms;
  for (size_t i = 0; i < update.out_count; i++) queue[put++ % QUEUE] = update.out[i].message;
  if (persisted) step(id, (struct holt_raft_event){.type = HOLT_RAFT_EV_PERSISTED, .seq = persisted});
  if (apply_to <= members[id].applied) return;
  members[id].applied = apply_to;
  step(id, (struct holt_raft_event){.type = HOLT_RAFT_EV_APPLIED, .index = apply_to});
  take_snapshot(id);
}

static void deliver(void) {
  while (taken != put) {
    struct holt_raft_message message = queue[taken++ % QUEUE];
    step(message.to, (struct holt_raft_event){.type = HOLT_RAFT_EV_RECEIVE, .message = &message});
  }
}

static void begin(void) {
  struct holt_raft_conf conf = {.count = MEMBERS};
  for (uint64_t id = 1; id <= MEMBERS; id++)
    conf.members[id - 1] = (struct holt_raft_member){.id = id, .role = HOLT_RAFT_VOTER, .can_lead = true};
  for (uint64_t id = 1; id <= MEMBERS; id++) {
    struct holt_raft_options options;
    holt_raft_options_default(&options);
    options.self = id;
    options.cluster = options.seed = 1;
    members[id] = (struct member){0};
    if (holt_raft_new(&options, NULL, now_ms, &members[id].raft) != 0) exit(1);
    step(id, (struct holt_raft_event){.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = &conf});
  }
}

static uint64_t elect(void) {
  for (;; now_ms++) {
    for (uint64_t id = 1; id <= MEMBERS; id++) {
      struct holt_raft_status status;
      if (now_ms >= members[id].deadline_ms) step(id, (struct holt_raft_event){.type = HOLT_RAFT_EV_TIME});
      deliver();
      holt_raft_status(members[id].raft, &status);
      if (status.role == HOLT_RAFT_LEADER && status.commit > 1) return id;
    }
  }
}

static void measure(size_t batch, uint64_t entries) {
  static uint8_t data[ENTRY_BYTES];
  struct holt_raft_entry list[BATCH_MAX];
  struct holt_env *env = holt_env_uv_new();
  begin();
  uint64_t leader = elect();
  for (size_t i = 0; i < batch; i++)
    list[i] = (struct holt_raft_entry){
        .type = HOLT_RAFT_COMMAND, .client = 1, .seq = 1, .data = data, .len = ENTRY_BYTES};
  steps = 0;
  uint64_t began = holt_env_clock_ns(env);
  for (uint64_t done = 0; done < entries; done += batch) {
    step(leader, (struct holt_raft_event){.type = HOLT_RAFT_EV_PROPOSE, .entries = list, .count = batch});
    deliver();
  }
  double seconds = (double)(holt_env_clock_ns(env) - began) / 1e9;
  holt_env_free(env);
  printf("%3zu at a time: %.2f million steps/s, %.2f million entries/s\n", batch,
         (double)steps / seconds / 1e6, (double)entries / seconds / 1e6);
  for (uint64_t id = 1; id <= MEMBERS; id++) holt_raft_free(members[id].raft);
}

int main(int argc, char **argv) {
  uint64_t entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
  measure(1, entries);
  measure(16, entries);
  measure(BATCH_MAX, entries);
  return 0;
}
