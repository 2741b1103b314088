/* Whole nodes under faults, in simulation: thousands of seeds, each a graph, a set of faults and a verdict.
 */
#include "unit.h"

#include "sim/bus_sim.h"

static unsigned seeds(void) {
  const char *text = getenv("HOLT_SEEDS");
  return text == NULL ? 3000 : (unsigned)atoi(text);
}

static void run_or_fail(const struct holt_bus_sim_config *config, struct holt_bus_sim_result *result) {
  char line[300];
  holt_bus_sim_run(config, result);
  if (result->is_ok) return;
  holt_bus_sim_describe(config, line);
  fail_msg("%s: %s", line, result->what);
}

static void every_seed_keeps_the_promises_of_the_bus(void **state) {
  (void)state;
  uint64_t first = getenv("HOLT_SEED") == NULL ? 1 : strtoull(getenv("HOLT_SEED"), NULL, 10);
  struct holt_bus_sim_result sum = {0};
  for (uint64_t seed = first; seed < first + seeds(); seed++) {
    struct holt_bus_sim_config config = holt_bus_sim_draw(seed);
    struct holt_bus_sim_result result;
    run_or_fail(&config, &result);
    sum.events += result.events;
    sum.emitted += result.emitted;
    sum.handled += result.handled;
    sum.lost += result.lost;
    sum.late += result.late;
    sum.duplicates += result.duplicates;
    sum.connects += result.connects;
  }
  printf("%u seeds, %llu simulated events: %llu emitted, %llu handled, %llu lost and told, %llu late, %llu "
         "duplicates "
         "thrown away, %llu handshakes\n",
         seeds(), (unsigned long long)sum.events, (unsigned long long)sum.emitted,
         (unsigned long long)sum.handled, (unsigned long long)sum.lost, (unsigned long long)sum.late,
         (unsigned long long)sum.duplicates, (unsigned long long)sum.connects);
  /* The faults must have bitten, or the seeds prove nothing. */
  if (seeds() < 100) return;
  assert_true(sum.lost > 0);
  assert_true(sum.duplicates > 0);
  assert_true(sum.late > 0);
}

static void two_hundred_nodes_with_flapping_links_converge(void **state) {
  (void)state;
  unsigned count = seeds() / 600 + 1;
  for (uint64_t seed = 1; seed <= count; seed++) {
    struct holt_bus_sim_config config = holt_bus_sim_draw_large(seed);
    struct holt_bus_sim_result result;
    run_or_fail(&config, &result);
    printf("200 nodes, seed %llu: %llu simulated events, %llu handshakes, %llu handled, %llu lost and told\n",
           (unsigned long long)seed, (unsigned long long)result.events, (unsigned long long)result.connects,
           (unsigned long long)result.handled, (unsigned long long)result.lost);
  }
}

static void one_seed_gives_one_run(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 50; seed++) {
    struct holt_bus_sim_config config = holt_bus_sim_draw(seed);
    struct holt_bus_sim_result first, second;
    run_or_fail(&config, &first);
    run_or_fail(&config, &second);
    assert_int_equal(first.hash, second.hash);
    assert_int_equal(first.events, second.events);
  }
}

static void two_seeds_give_two_runs(void **state) {
  (void)state;
  struct holt_bus_sim_config config = holt_bus_sim_draw(1);
  struct holt_bus_sim_result first, second;
  run_or_fail(&config, &first);
  config.seed = 2;
  run_or_fail(&config, &second);
  assert_int_not_equal(first.hash, second.hash);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_seed_gives_one_run),
      cmocka_unit_test(two_seeds_give_two_runs),
      cmocka_unit_test(two_hundred_nodes_with_flapping_links_converge),
      cmocka_unit_test(every_seed_keeps_the_promises_of_the_bus),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
