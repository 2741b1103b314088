/* dag_shelf.h - for tests of dag/: a holder in a few lines, which keeps hashes by chain and number, and runs
 * to offer. */
#ifndef HOLT_UNIT_DAG_SHELF_H
#define HOLT_UNIT_DAG_SHELF_H

#include "dag_lab.h"
#include "unit.h"

static const struct holt_dag_limits limits = {
    .entry_bytes = 1u << 20, .run_entries = 1024, .run_bytes = 4u << 20};

/* --- A holder in a few lines: hashes by chain and number -------------------------------------------------
 */

enum { SHELF_CHAINS = 64, SHELF_NUMBERS = 3000 };

struct shelf {
  struct holt_dag_options options;
  struct holt_dag *dag;
  uint8_t (*hashes[SHELF_CHAINS])[HOLT_DAG_HASH];
  struct holt_dag_result last; /* of the last offer */
  int fails;                   /* code with which the store answers */
  uint64_t looked;             /* how often it was asked */
};

static inline int shelf_hash_at(void *arg, uint32_t chain, uint64_t number, uint8_t out[HOLT_DAG_HASH]) {
  struct shelf *s = arg;
  s->looked++;
  if (s->fails) return s->fails;
  assert_true(chain < SHELF_CHAINS && number < SHELF_NUMBERS && s->hashes[chain] != NULL);
  memcpy(out, s->hashes[chain][number], HOLT_DAG_HASH);
  return 0;
}

static inline void shelf_open(struct shelf *s) {
  *s = (struct shelf){0};
  holt_dag_options_default(&s->options);
  s->options.hash_at = shelf_hash_at;
  s->options.arg = s;
}

/* The index is made with the first use, so that a test may set options before. */
static inline struct holt_dag *dag_of(struct shelf *s) {
  if (s->dag == NULL) s->dag = holt_dag_new(&s->options);
  return s->dag;
}

static inline void shelf_close(struct shelf *s) {
  holt_dag_free(s->dag);
  for (int i = 0; i < SHELF_CHAINS; i++) free(s->hashes[i]);
}

/* Stores what was admitted last. */
static inline void keep(struct shelf *s) {
  for (size_t i = 0; i < s->last.admitted_count; i++) {
    const struct holt_dag_admitted *a = &s->last.admitted[i];
    assert_true(a->chain < SHELF_CHAINS && a->first + a->count <= SHELF_NUMBERS);
    if (!s->hashes[a->chain]) s->hashes[a->chain] = holt_alloc((size_t)SHELF_NUMBERS * HOLT_DAG_HASH);
    for (uint32_t k = 0; k < a->count; k++)
      memcpy(s->hashes[a->chain][a->first + k], a->run->items[a->skip + k].hash, HOLT_DAG_HASH);
  }
}

static inline enum holt_dag_outcome give(struct shelf *s, const struct holt_dag_run *run, uint64_t source) {
  holt_dag_offer(dag_of(s), run, source, &s->last);
  keep(s);
  return s->last.outcome;
}

static inline void assert_refused(struct shelf *s, const struct holt_dag_run *run,
                                  enum holt_dag_reason reason) {
  assert_int_equal(give(s, run, 1), HOLT_DAG_REFUSED);
  assert_string_equal(holt_dag_reason_word(s->last.reason), holt_dag_reason_word(reason));
  assert_int_equal(s->last.admitted_count, 0);
}

static inline struct holt_dag_status status_of(struct shelf *s) {
  struct holt_dag_status status;
  holt_dag_status(dag_of(s), &status);
  return status;
}

/* Runs that live as long as the test. */
static struct holt_dag_run pool[64];
static size_t pool_count;

static inline struct holt_dag_run *fresh(void) {
  assert_true(pool_count < 64);
  return &pool[pool_count++];
}

static inline int empty_pool(void **state) {
  (void)state;
  while (pool_count > 0) holt_dag_run_free(&pool[--pool_count]);
  return 0;
}

static inline struct holt_dag_run *opens(struct lab_writer *w) {
  struct holt_dag_run *run = fresh();
  lab_open(w, run, NULL, 0);
  return run;
}

static inline struct holt_dag_run *writes(struct lab_writer *w, uint32_t count) {
  struct holt_dag_run *run = fresh();
  lab_write(w, run, count, "text", NULL, 0);
  return run;
}

/* One entry that names where `other` is now. */
static inline struct holt_dag_run *names(struct lab_writer *w, const struct lab_writer *other) {
  struct holt_dag_run *run = fresh();
  struct holt_dag_ref ref = lab_ref(other);
  lab_write(w, run, 1, "names", &ref, 1);
  return run;
}

/* Two runs as one, with the signature of the second. */
static inline struct holt_dag_run *joined(const struct holt_dag_run *a, const struct holt_dag_run *b) {
  struct holt_dag_run *run = fresh();
  holt_dag_run_begin(run, a->author, a->first, a->prev);
  for (int part = 0; part < 2; part++) {
    const struct holt_dag_run *from = part ? b : a;
    for (uint32_t i = 0; i < from->count; i++) {
      struct holt_dag_entry e;
      assert_int_equal(holt_dag_entry_decode(holt_dag_run_entry(from, i), &limits, &e), 0);
      assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &limits), 0);
    }
  }
  assert_memory_equal(holt_dag_run_tip(run), holt_dag_run_tip(b), HOLT_DAG_HASH);
  memcpy(run->signature, b->signature, HOLT_DAG_SIGNATURE);
  return run;
}

static inline struct holt_writer message_of(const struct holt_dag_run *run) {
  struct holt_writer out = {0};
  struct holt_dag_pack pack;
  holt_dag_pack_begin(&pack, &out);
  for (uint32_t i = 0; i < run->count; i++)
    assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, i),
                                       i == run->count - 1 ? run->signature : NULL, &limits),
                     0);
  assert_int_equal(holt_dag_pack_end(&pack), run->count);
  return out;
}

#define TEST(f) cmocka_unit_test_teardown(f, empty_pool)

#endif /* HOLT_UNIT_DAG_SHELF_H */
