/* raft_config.c - what is drawn from a seed, how it reads, and how a failing run is made smaller. */
#include <stdio.h>

#include "base/rand.h"
#include "sim/raft_sim.h"

#define BIT(name) (1u << HOLT_RAFT_SIM_##name)

static const char *const fault_words[] = {
#define X(name, word, text) word,
    HOLT_RAFT_SIM_FAULTS(X)
#undef X
};
static const char *const profile_words[] = {"calm",       "network", "disk", "process",
                                            "membership", "swarm",   "all"};

enum {
  NETWORK = BIT(JITTER) | BIT(DROP) | BIT(DUPLICATE) | BIT(STALE) | BIT(BURST) | BIT(SLOW_LINK) | BIT(SPLIT) |
            BIT(ONE_WAY) | BIT(PARTIAL),
  DISK = BIT(DISK_SLOW) | BIT(DISK_STALL) | BIT(DISK_ERROR) | BIT(DISK_FULL) | BIT(CRASH) | BIT(CRASH_SYNC) |
         BIT(CRASH_ALL) | BIT(SNAPSHOT_FAIL),
  PROCESS = BIT(CRASH) | BIT(CRASH_SYNC) | BIT(CRASH_ALL) | BIT(PAUSE) | BIT(CLOCK_RATE) | BIT(CLOCK_JUMP) |
            BIT(STARVE) | BIT(LATE_APPLY),
  MEMBERSHIP = BIT(CHURN) | BIT(READMIT) | BIT(TRANSFER) | BIT(CRASH) | BIT(JITTER) | BIT(DROP) | BIT(SPLIT),
};

const char *holt_raft_sim_fault_word(enum holt_raft_sim_fault fault) {
  return fault_words[fault];
}

const char *holt_raft_sim_profile_word(enum holt_raft_sim_profile profile) {
  return profile_words[profile];
}

static uint32_t pick(struct holt_rand *r, const uint32_t *from, size_t count) {
  return from[holt_rand_next(r) % count];
}
#define PICK(r, ...)                                                                                         \
  pick((r), (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static uint32_t draw_faults(struct holt_rand *r, enum holt_raft_sim_profile profile) {
  static const uint32_t sets[] = {0,       NETWORK,    DISK,
                                  PROCESS, MEMBERSHIP, (1u << HOLT_RAFT_SIM_FAULT_COUNT) - 1};
  uint32_t all = sets[profile];
  uint32_t share = PICK(r, 1, 2, 3, 5, 7),
           faults = 0; /* eighths: some seeds know few faults, some nearly all */
  for (unsigned i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT; i++)
    if ((all >> i & 1) && holt_rand_next(r) % 8 < share) faults |= 1u << i;
  return faults;
}

struct holt_raft_sim_config holt_raft_sim_draw(uint64_t seed, enum holt_raft_sim_profile profile,
                                               uint64_t events) {
  struct holt_rand rand, *r = &rand;
  if (profile == HOLT_RAFT_SIM_ALL)
    profile = (enum holt_raft_sim_profile)(seed % HOLT_RAFT_SIM_PROFILE_COUNT);
  holt_rand_seed(r, seed * 8 + profile);
  struct holt_raft_sim_config c = {.seed = seed, .events = events, .faults = draw_faults(r, profile)};
  c.voters = PICK(r, 1, 2, 3, 3, 3, 3, 4, 5, 5, 7);
  c.learners = PICK(r, 0, 0, 0, 1, 2);
  c.clients = PICK(r, 1, 2, 3, 4, 6);
  c.is_memory = profile != HOLT_RAFT_SIM_DISK && holt_rand_next(r) % 3 == 0;
  c.syncs_at_once = holt_rand_next(r) % 8 == 0;
  c.real_log = !c.is_memory && holt_rand_next(r) % 4 == 0;
  c.has_priorities = holt_rand_next(r) % 4 == 0;
  c.election_ms = PICK(r, 50, 100, 150, 300);
  c.heartbeat_ms = c.election_ms / PICK(r, 3, 5, 10);
  c.append_bytes = PICK(r, 1, 64, 256, 1024, 65536);
  c.chunk_bytes = PICK(r, 16, 100, 700, 65536);
  c.inflight_messages = PICK(r, 1, 2, 8, 64);
  c.inflight_bytes = PICK(r, 100, 2000, 1 << 20);
  c.uncommitted_bytes = PICK(r, 200, 2000, 1 << 20);
  c.snapshot_entries = PICK(r, 0, 1, 3, 10, 30, 100);
  c.keep_entries = PICK(r, 0, 0, 2, 20, 100);
  c.apply_max = c.faults & BIT(LATE_APPLY) ? PICK(r, 1, 2, 5) : 0;
  c.think_us = PICK(r, 2000, 10000, 40000, 100000);
  c.mean_fault_ms = c.election_ms * PICK(r, 1, 3, 8, 20);
  if (holt_rand_next(r) % 4 == 0) { /* a lease trusts the clocks, so they are left alone */
    c.lease_reads = true;
    c.faults &= ~(BIT(CLOCK_RATE) | BIT(CLOCK_JUMP));
  }
  return c;
}

void holt_raft_sim_describe(const struct holt_raft_sim_config *c, char out[500]) {
  size_t at = (size_t)snprintf(out, 500,
                               "seed %llu, %llu events: %u voters, %u learners, %u clients, %s%s%s%s, "
                               "election %u ms, heartbeat %u ms, "
                               "append %u, inflight %u, snapshot after %u, keep %u;",
                               (unsigned long long)c->seed, (unsigned long long)c->events, c->voters,
                               c->learners, c->clients,
                               c->is_memory  ? "logs in memory"
                               : c->real_log ? "segment logs"
                                             : "logs on disk",
                               c->lease_reads ? ", leases" : "", c->has_priorities ? ", priorities" : "",
                               c->syncs_at_once ? ", syncs at once" : "", c->election_ms, c->heartbeat_ms,
                               c->append_bytes, c->inflight_messages, c->snapshot_entries, c->keep_entries);
  for (unsigned i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT && at < 480; i++)
    if (c->faults >> i & 1) at += (size_t)snprintf(out + at, 500 - at, " %s", fault_words[i]);
}

/* --- Shrinking ---------------------------------------------------------------------------------------------
 */

static bool still_fails(const struct holt_raft_sim_config *trial, struct holt_raft_sim_config *config,
                        struct holt_raft_sim_result *result, unsigned *tries) {
  struct holt_raft_sim_result run;
  if (*tries == 0) return false;
  --*tries;
  holt_raft_sim_run(trial, &run);
  if (run.is_ok) return false;
  *config = *trial;
  *result = run;
  return true;
}

void holt_raft_sim_shrink(struct holt_raft_sim_config *config, struct holt_raft_sim_result *result,
                          unsigned tries) {
  struct holt_raft_sim_config trial;
  for (unsigned i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT; i++) {
    if (!(config->faults >> i & 1)) continue;
    trial = *config;
    trial.faults &= ~(1u << i);
    still_fails(&trial, config, result, &tries);
  }
  static const unsigned voters[] = {1, 2, 3, 5};
  for (unsigned i = 0; i < 4 && voters[i] < config->voters; i++) {
    trial = *config;
    trial.voters = voters[i];
    if (still_fails(&trial, config, result, &tries)) break;
  }
  trial = *config;
  trial.learners = 0;
  if (config->learners > 0) still_fails(&trial, config, result, &tries);
  trial = *config;
  trial.clients = 1;
  if (config->clients > 1) still_fails(&trial, config, result, &tries);
  uint64_t seed = config->seed * 1000003; /* other runs of the same kind: the shortest one reads best */
  while (tries > 0) {
    uint64_t before = result->events;
    trial = *config;
    trial.seed = seed++;
    if (trial.events > before) trial.events = before;
    struct holt_raft_sim_config best = *config;
    struct holt_raft_sim_result best_result = *result;
    if (still_fails(&trial, &best, &best_result, &tries) && best_result.events < before) {
      *config = best;
      *result = best_result;
    }
  }
}
