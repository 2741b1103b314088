/* Raft clusters under faults, in simulation: each seed a cluster, a set of faults and a verdict. */
#include "unit.h"

#include "raft/bug.h"
#include "sim/raft_sim.h"

static unsigned seeds(void) {
  const char *text = getenv("HOLT_SEEDS");
  return text == NULL ? 1800 : (unsigned)atoi(text);
}

static uint64_t first_seed(void) {
  const char *text = getenv("HOLT_SEED");
  return text == NULL ? 1 : strtoull(text, NULL, 10);
}

static void print_line(void *arg, const char *text) {
  (void)arg;
  fprintf(stderr, "%s\n", text);
}

static void run_or_fail(struct holt_raft_sim_config *config, struct holt_raft_sim_result *result) {
  char line[500];
  holt_raft_sim_run(config, result);
  if (result->is_ok) return;
  holt_raft_sim_describe(config, line);
  fprintf(stderr, "%s\n", line);
  struct holt_raft_sim_config shrunk = *config;
  struct holt_raft_sim_result shorter = *result;
  holt_raft_sim_shrink(&shrunk, &shorter, 200);
  shrunk.line = print_line;
  holt_raft_sim_run(&shrunk, &shorter);
  fail_msg("%s: %s: %s", line, result->invariant, result->what);
}

static void run_profile(enum holt_raft_sim_profile profile, unsigned count,
                        struct holt_raft_sim_result *sum) {
  for (unsigned i = 0; i < count; i++) {
    struct holt_raft_sim_config config = holt_raft_sim_draw(first_seed() + i, profile, 20000);
    struct holt_raft_sim_result r;
    run_or_fail(&config, &r);
    sum->events += r.events;
    sum->elections += r.elections;
    sum->commits += r.commits;
    sum->snapshots_installed += r.snapshots_installed;
    sum->restarts += r.restarts;
    sum->changes += r.changes;
    sum->operations += r.operations;
    for (int f = 0; f < HOLT_RAFT_SIM_FAULT_COUNT; f++) sum->faults[f] += r.faults[f];
  }
}

static void every_seed_keeps_the_promises_of_consensus(void **state) {
  (void)state;
  unsigned count = seeds() / HOLT_RAFT_SIM_PROFILE_COUNT + 1;
  struct holt_raft_sim_result all = {0};
  for (int p = 0; p < HOLT_RAFT_SIM_PROFILE_COUNT; p++) {
    struct holt_raft_sim_result sum = {0};
    run_profile((enum holt_raft_sim_profile)p, count, &sum);
    printf("%-10s %4u seeds, %9llu events, %6llu elections, %7llu entries, %5llu snapshots installed, %5llu "
           "restarts, "
           "%4llu changes, %7llu operations\n",
           holt_raft_sim_profile_word((enum holt_raft_sim_profile)p), count, (unsigned long long)sum.events,
           (unsigned long long)sum.elections, (unsigned long long)sum.commits,
           (unsigned long long)sum.snapshots_installed, (unsigned long long)sum.restarts,
           (unsigned long long)sum.changes, (unsigned long long)sum.operations);
    all.snapshots_installed += sum.snapshots_installed;
    all.changes += sum.changes;
    for (int f = 0; f < HOLT_RAFT_SIM_FAULT_COUNT; f++) all.faults[f] += sum.faults[f];
  }
  if (count < 100) return; /* the faults must have bitten, or the seeds prove nothing */
  assert_true(all.snapshots_installed > 0);
  assert_true(all.changes > 0);
  for (int f = 0; f < HOLT_RAFT_SIM_FAULT_COUNT; f++) {
    if (f == HOLT_RAFT_SIM_JITTER || f == HOLT_RAFT_SIM_LATE_APPLY) continue; /* all the time, not counted */
    if (all.faults[f] == 0)
      fail_msg("no seed knew the fault %s", holt_raft_sim_fault_word((enum holt_raft_sim_fault)f));
  }
}

static void one_seed_gives_one_run(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct holt_raft_sim_config config = holt_raft_sim_draw(seed, HOLT_RAFT_SIM_SWARM, 5000);
    struct holt_raft_sim_result first, second;
    run_or_fail(&config, &first);
    run_or_fail(&config, &second);
    assert_int_equal(first.hash, second.hash);
    assert_int_equal(first.events, second.events);
  }
}

static void two_seeds_give_two_runs(void **state) {
  (void)state;
  struct holt_raft_sim_config config = holt_raft_sim_draw(1, HOLT_RAFT_SIM_SWARM, 5000);
  struct holt_raft_sim_result first, second;
  run_or_fail(&config, &first);
  config.seed = 2;
  run_or_fail(&config, &second);
  assert_int_not_equal(first.hash, second.hash);
}

/* Being told in words must not change what happens. */
static void count_line(void *arg, const char *text) {
  *(unsigned *)arg += text[0] != '\0';
}

static void telling_a_run_does_not_change_it(void **state) {
  (void)state;
  unsigned lines = 0;
  struct holt_raft_sim_config config = holt_raft_sim_draw(3, HOLT_RAFT_SIM_MEMBERSHIP, 5000);
  struct holt_raft_sim_result quiet, told;
  run_or_fail(&config, &quiet);
  config.line = count_line;
  config.line_arg = &lines;
  config.messages = true;
  run_or_fail(&config, &told);
  assert_int_equal(quiet.hash, told.hash);
  assert_true(lines > 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_seed_keeps_the_promises_of_consensus),
      cmocka_unit_test(one_seed_gives_one_run),
      cmocka_unit_test(two_seeds_give_two_runs),
      cmocka_unit_test(telling_a_run_does_not_change_it),
  };
  return cmocka_run_group_tests_name("raft_sim", tests, NULL, NULL);
}
