/* The journal's rules: encoding, runs, what becomes of a run, the pen, forks, horizons, the exchange. */
#include "dag_lab.h"
#include "unit.h"

/* --- One encoding --------------------------------------------------------------------------------------- */

static struct holt_dag_limits limits = {.entry_bytes = 1u << 20, .run_entries = 1024, .run_bytes = 4u << 20};

static void an_entry_comes_back_as_it_was(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_dag_run run = {0};
  struct holt_dag_ref parent = {0};
  struct holt_dag_entry e;
  lab_open(&b, &run, NULL, 0);
  lab_open(&a, &run, NULL, 0);
  parent = lab_ref(&b);
  lab_write(&a, &run, 2, "hello", &parent, 1);
  assert_int_equal(holt_dag_entry_decode(holt_dag_run_entry(&run, 0), &limits, &e), 0);
  assert_int_equal(e.kind, HOLT_DAG_EVENT);
  assert_int_equal(e.number, 2);
  assert_int_equal(e.time_ms, 1000);
  assert_int_equal(e.parent_count, 1);
  assert_memory_equal(e.author, a.key.public, HOLT_DAG_KEY);
  struct holt_dag_ref back;
  holt_dag_entry_parent(&e, 0, &back);
  assert_memory_equal(&back.hash, &parent.hash, HOLT_DAG_HASH);
  assert_int_equal(back.number, 1);
  assert_int_equal(e.payload.len, 5);
  assert_memory_equal(e.payload.data, "hello", 5);
  holt_dag_run_free(&run);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_entry_comes_back_as_it_was),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
