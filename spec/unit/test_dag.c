/* The journal's rules one by one: what becomes of a run, the pen, forks, who may write, heads, horizons,
 * records. Whole holders under faults are in test_dag_sim.c. */
#include "dag_shelf.h"

/* --- What becomes of a run
 * ---------------------------------------------------------------------------------- */

static void runs_are_admitted_in_order_and_once(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1);
  struct holt_dag_run *opening = opens(&a), *run = writes(&a, 3), *more = writes(&a, 2);
  shelf_open(&s);
  assert_int_equal(give(&s, opening, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(give(&s, run, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 1);
  assert_int_equal(s.last.admitted[0].first, 2);
  assert_int_equal(s.last.admitted[0].count, 3);
  assert_int_equal(give(&s, run, 2), HOLT_DAG_DUPLICATE);
  assert_int_equal(give(&s, opening, 2), HOLT_DAG_DUPLICATE);
  assert_int_equal(give(&s, joined(run, more), 2), HOLT_DAG_ADMITTED); /* the first half is here */
  assert_int_equal(s.last.admitted[0].skip, 3);
  assert_int_equal(s.last.admitted[0].first, 5);
  assert_int_equal(s.last.admitted[0].count, 2);
  assert_false(s.last.admitted[0].is_fork);
  assert_int_equal(status_of(&s).admitted, 6);
  assert_int_equal(status_of(&s).duplicates, 2);
  shelf_close(&s);
}

/* The next entry of the present chains costs no look into the store. */
static void the_usual_run_asks_the_store_nothing(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  shelf_open(&s);
  give(&s, opens(&a), 1);
  give(&s, opens(&b), 1);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(give(&s, names(&a, &b), 1), HOLT_DAG_ADMITTED);
    assert_int_equal(give(&s, names(&b, &a), 1), HOLT_DAG_ADMITTED);
  }
  assert_int_equal(s.looked, 0);
  shelf_close(&s);
}

static void what_comes_too_early_waits_and_is_asked_for(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_dag_run *a1 = opens(&a), *a2 = writes(&a, 2), *b1 = opens(&b), *b2 = names(&b, &a);
  struct holt_dag_run *a3 = names(&a, &b), *b3 = names(&b, &a);
  struct holt_dag_want want;
  shelf_open(&s);
  assert_int_equal(give(&s, b3, 7), HOLT_DAG_PENNED);
  assert_memory_equal(s.last.missing.author, b.key.public, HOLT_DAG_KEY);
  assert_int_equal(s.last.missing.number, 2);
  assert_int_equal(give(&s, b3, 7), HOLT_DAG_DUPLICATE);
  assert_true(holt_dag_next_want(s.dag, &want));
  assert_int_equal(want.source, 7);
  assert_memory_equal(want.ref.hash, holt_dag_run_tip(b2), HOLT_DAG_HASH);
  assert_false(holt_dag_next_want(s.dag, &want)); /* once */
  holt_dag_ask_again(s.dag, 8);
  assert_false(holt_dag_next_want(s.dag, &want));
  holt_dag_ask_again(s.dag, 7);
  assert_true(holt_dag_next_want(s.dag, &want));
  assert_int_equal(give(&s, b2, 7), HOLT_DAG_PENNED);
  assert_int_equal(give(&s, a3, 7), HOLT_DAG_PENNED);
  assert_int_equal(give(&s, a2, 7), HOLT_DAG_PENNED);
  assert_int_equal(status_of(&s).pen_runs, 4);
  assert_true(holt_dag_next_want(s.dag, &want)); /* two openings; what is in the pen is not asked for */
  assert_int_equal(want.ref.number, 1);
  assert_true(holt_dag_next_want(s.dag, &want));
  assert_int_equal(want.ref.number, 1);
  assert_false(holt_dag_next_want(s.dag, &want));
  assert_int_equal(give(&s, b1, 7), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 1);
  assert_int_equal(give(&s, a1, 9), HOLT_DAG_ADMITTED); /* and then all of them, parents first */
  assert_int_equal(s.last.admitted_count, 5);
  const struct holt_dag_run *order[] = {a1, a2, b2, a3, b3};
  for (int i = 0; i < 5; i++) {
    assert_memory_equal(holt_dag_run_tip(s.last.admitted[i].run), holt_dag_run_tip(order[i]), HOLT_DAG_HASH);
    assert_int_equal(s.last.admitted[i].source, i ? 7 : 9);
  }
  assert_int_equal(status_of(&s).pen_runs, 0);
  assert_int_equal(status_of(&s).pen_bytes, 0);
  shelf_close(&s);
}

/* Two holders' stretches may overlap; the longer one takes the place of the shorter in the pen. */
static void a_longer_run_replaces_a_shorter_in_the_pen(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_dag_run *opening = opens(&a), *first = (opens(&b), names(&a, &b)), *second = writes(&a, 2);
  shelf_open(&s);
  give(&s, opening, 1);
  assert_int_equal(give(&s, second, 1), HOLT_DAG_PENNED);
  assert_int_equal(give(&s, joined(first, second), 1), HOLT_DAG_PENNED);
  assert_int_equal(status_of(&s).pen_runs, 1);
  assert_int_equal(give(&s, second, 1), HOLT_DAG_DUPLICATE);
  struct lab_writer again = lab_writer(2);
  assert_int_equal(give(&s, opens(&again), 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 2);
  assert_int_equal(s.last.admitted[1].count, 3);
  shelf_close(&s);
}

static void the_pen_is_bounded_and_the_flooder_loses_his_own(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer honest = lab_writer(1), flooder = lab_writer(2);
  struct holt_dag_run *missing = (opens(&honest), writes(&honest, 1)), *wait = writes(&honest, 1);
  shelf_open(&s);
  s.options.pen_runs = 4;
  opens(&flooder);
  writes(&flooder, 1);
  assert_int_equal(give(&s, wait, 1), HOLT_DAG_PENNED);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(give(&s, writes(&flooder, 1), 2), HOLT_DAG_PENNED);
    assert_int_equal(s.last.evicted_count, i >= 3);
    if (i >= 3) assert_int_equal(s.last.evicted[0], 2);
  }
  assert_int_equal(status_of(&s).pen_runs, 4);
  assert_int_equal(status_of(&s).evicted, 17);
  struct lab_writer again = lab_writer(1);
  give(&s, opens(&again), 1);
  assert_int_equal(give(&s, missing, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 2); /* it was still there */
  shelf_close(&s);
}

static void the_pen_is_bounded_in_bytes(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1);
  shelf_open(&s);
  s.options.pen_bytes = 20000;
  opens(&a);
  writes(&a, 1);
  for (int i = 0; i < 5; i++) {
    give(&s, writes(&a, 40), 1);
    assert_true(status_of(&s).pen_bytes <= 20000);
  }
  assert_true(status_of(&s).pen_runs >= 1 && status_of(&s).evicted >= 1);
  assert_int_equal(give(&s, writes(&a, 400), 1), HOLT_DAG_PENNED); /* larger than the whole pen */
  assert_true(s.last.evicted_count >= 1);
  assert_true(status_of(&s).pen_bytes <= 20000);
  shelf_close(&s);
}

/* --- Forks
 * ---------------------------------------------------------------------------------------------------- */

static void both_branches_of_a_fork_are_kept_and_go_on(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b;
  struct holt_dag_ref first, second;
  struct holt_dag_author author;
  shelf_open(&s);
  give(&s, opens(&a), 1);
  give(&s, writes(&a, 3), 1);
  b = a;
  struct holt_dag_run *left = writes(&a, 2), *right = fresh();
  lab_write(&b, right, 1, "other", NULL, 0);
  give(&s, left, 1);
  assert_int_equal(give(&s, right, 2), HOLT_DAG_ADMITTED);
  assert_true(s.last.admitted[0].is_fork);
  uint32_t branch = s.last.admitted[0].chain;
  assert_int_equal(branch, 1);
  assert_int_equal(holt_dag_fork(s.dag, branch, &first, &second), 0);
  assert_int_equal(first.number, 5);
  assert_memory_equal(first.hash, right->items[0].hash, HOLT_DAG_HASH);
  assert_memory_equal(second.hash, left->items[0].hash, HOLT_DAG_HASH);
  assert_int_equal(holt_dag_fork(s.dag, 0, &first, &second), HOLT_ENOTFOUND);
  holt_dag_author(s.dag, 0, &author);
  assert_true(author.is_forked);
  assert_int_equal(author.chain_count, 2);
  assert_int_equal(give(&s, writes(&a, 1), 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted[0].chain, 0);
  assert_int_equal(give(&s, writes(&b, 1), 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted[0].chain, branch);
  assert_false(s.last.admitted[0].is_fork);
  assert_int_equal(status_of(&s).forked, 1);
  assert_int_equal(status_of(&s).forks, 1);
  assert_int_equal(status_of(&s).heads, 2);
  shelf_close(&s);
}

/* A run whose first entries are here and whose last are not joins where it differs, wherever that is. */
static void a_run_that_forks_in_its_middle_joins_there(void **state) {
  (void)state;
  for (uint32_t common = 0; common < 9; common++) {
    struct shelf s;
    struct lab_writer a = lab_writer(1);
    struct holt_dag_run *opening = opens(&a), *run = fresh();
    struct lab_writer b = a;
    struct holt_dag_run *left = writes(&a, 10);
    shelf_open(&s);
    give(&s, opening, 1);
    give(&s, left, 1);
    holt_dag_run_begin(run, b.key.public, 2, b.tip);
    for (uint32_t i = 0; i < 10; i++) {
      struct holt_dag_entry e;
      assert_int_equal(holt_dag_entry_decode(holt_dag_run_entry(left, i), &limits, &e), 0);
      if (i == common) e.payload = holt_buf_text("differs");
      assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &limits), 0);
    }
    assert_int_equal(holt_dag_run_sign(run, LAB_JOURNAL, &lab_ops, b.key.secret), 0);
    assert_int_equal(give(&s, run, 1), HOLT_DAG_ADMITTED);
    assert_true(s.last.admitted[0].is_fork);
    assert_int_equal(s.last.admitted[0].skip, common);
    assert_int_equal(s.last.admitted[0].first, 2 + common);
    assert_int_equal(give(&s, run, 1), HOLT_DAG_DUPLICATE);
    assert_int_equal(give(&s, left, 1), HOLT_DAG_DUPLICATE);
    shelf_close(&s);
    empty_pool(NULL);
  }
}

static void two_openings_of_one_key_are_a_fork(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), other = lab_writer(2), b = a;
  struct holt_dag_run *one = opens(&a), *two = fresh();
  struct holt_dag_ref first, second;
  shelf_open(&s);
  give(&s, opens(&other), 1);
  struct holt_dag_ref ref = lab_ref(&other);
  lab_open(&b, two, &ref, 1);
  give(&s, one, 1);
  assert_int_equal(give(&s, two, 1), HOLT_DAG_ADMITTED);
  assert_true(s.last.admitted[0].is_fork);
  assert_int_equal(holt_dag_fork(s.dag, s.last.admitted[0].chain, &first, &second), 0);
  assert_int_equal(first.number, 1);
  assert_memory_not_equal(first.hash, second.hash, HOLT_DAG_HASH);
  assert_int_equal(give(&s, writes(&b, 1), 1), HOLT_DAG_ADMITTED);
  shelf_close(&s);
}

/* An entry that names one branch is not taken where only the other is. */
static void a_parent_on_another_branch_is_missing(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b, c = lab_writer(3);
  struct holt_dag_run *right = fresh();
  shelf_open(&s);
  give(&s, opens(&a), 1);
  give(&s, opens(&c), 1);
  b = a;
  give(&s, writes(&a, 2), 1);
  lab_write(&b, right, 1, "other", NULL, 0);
  assert_int_equal(give(&s, names(&c, &b), 1), HOLT_DAG_PENNED);
  assert_int_equal(s.last.missing.number, 2);
  assert_memory_equal(s.last.missing.hash, b.tip, HOLT_DAG_HASH);
  assert_int_equal(give(&s, right, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 2);
  shelf_close(&s);
}

/* --- Who may write
 * ---------------------------------------------------------------------------------------------- */

/* Now it is known that the parent will never be here: what waits for it is admitted. */
static void assert_refused_but_woken(struct shelf *s, const struct holt_dag_run *run,
                                     const struct holt_dag_run *woken) {
  assert_int_equal(give(s, run, 1), HOLT_DAG_REFUSED);
  assert_int_equal(s->last.reason, HOLT_DAG_NOT_ALLOWED);
  assert_int_equal(s->last.admitted_count, 1);
  assert_memory_equal(holt_dag_run_tip(s->last.admitted[0].run), holt_dag_run_tip(woken), HOLT_DAG_HASH);
}

static void others_than_the_listed_are_refused_and_not_demanded(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer good = lab_writer(1), bad = lab_writer(2);
  shelf_open(&s);
  s.options.authors = (const uint8_t(*)[HOLT_DAG_KEY])good.directory.public;
  s.options.author_count = 1;
  struct holt_dag_run *bad_opening = opens(&bad);
  struct holt_dag_run *good_opening = opens(&good), *naming = names(&good, &bad);
  assert_int_equal(give(&s, good_opening, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(give(&s, naming, 1), HOLT_DAG_PENNED); /* it is not known yet who that is */
  assert_refused_but_woken(&s, bad_opening, naming);
  assert_refused(&s, writes(&bad, 1), HOLT_DAG_NOT_ALLOWED);
  assert_int_equal(give(&s, names(&good, &bad), 1), HOLT_DAG_ADMITTED);
  shelf_close(&s);
}

static void there_is_an_end_to_authors_and_branches(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b, c = lab_writer(3), d = lab_writer(4);
  struct holt_dag_run *right = fresh();
  shelf_open(&s);
  s.options.chains_max = 3;
  give(&s, opens(&a), 1);
  b = a;
  give(&s, writes(&a, 1), 1);
  lab_write(&b, right, 1, "other", NULL, 0);
  assert_int_equal(give(&s, right, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(give(&s, opens(&c), 1), HOLT_DAG_ADMITTED);
  assert_refused(&s, opens(&d), HOLT_DAG_FULL);
  assert_int_equal(give(&s, writes(&c, 1), 1), HOLT_DAG_ADMITTED); /* what is here goes on */
  shelf_close(&s);
}

/* An author forks without end: so many branches are kept, with the proof, and go on; no other author is held
 * up by the rest. */
static void of_an_author_only_so_many_branches_are_kept(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b = lab_writer(2), branches[7];
  struct holt_dag_ref first, second;
  struct holt_dag_want want;
  shelf_open(&s);
  s.options.branches_max = 4;
  struct holt_dag_run *opening = opens(&a), *runs[7], *others = opens(&b);
  give(&s, opening, 1);
  give(&s, writes(&a, 2), 1);
  for (int i = 0; i < 7; i++) {
    char text[8];
    snprintf(text, sizeof text, "%d", i);
    branches[i] = a;
    runs[i] = fresh();
    lab_write(&branches[i], runs[i], 2, text, NULL, 0);
    if (i < 4)
      assert_int_equal(give(&s, runs[i], 1), HOLT_DAG_ADMITTED);
    else
      assert_refused(&s, runs[i], HOLT_DAG_BRANCHES);
  }
  assert_int_equal(status_of(&s).chains, 4);
  assert_int_equal(status_of(&s).branches_refused, 3);
  assert_int_equal(holt_dag_fork(s.dag, 1, &first, &second), 0);
  assert_memory_equal(first.hash, runs[1]->items[0].hash, HOLT_DAG_HASH);
  assert_int_equal(give(&s, writes(&branches[2], 1), 1), HOLT_DAG_ADMITTED); /* one that is kept goes on */
  assert_refused(&s, writes(&branches[6], 1), HOLT_DAG_BRANCHES);            /* not the pen */
  give(&s, others, 1);
  assert_int_equal(give(&s, names(&b, &branches[5]), 1), HOLT_DAG_ADMITTED); /* who named it is taken */
  assert_false(holt_dag_next_want(s.dag, &want));
  assert_int_equal(status_of(&s).pen_runs, 0);
  shelf_close(&s);
}

static void a_store_that_fails_changes_nothing(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b = lab_writer(2), early;
  shelf_open(&s);
  give(&s, opens(&a), 1);
  give(&s, opens(&b), 1);
  struct holt_dag_run *first = writes(&a, 2);
  give(&s, first, 1);
  early = a;
  give(&s, writes(&a, 2), 1);
  struct holt_dag_run *naming = names(&b, &early); /* not a tip: the store is asked */
  s.fails = HOLT_EIO;
  assert_refused(&s, naming, HOLT_DAG_STORE);
  assert_refused(&s, first, HOLT_DAG_STORE);
  s.fails = 0;
  assert_int_equal(give(&s, naming, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(give(&s, first, 1), HOLT_DAG_DUPLICATE);

  struct lab_writer c = lab_writer(3); /* what waits stays when the store fails as its turn comes */
  struct holt_dag_ref refs[2] = {lab_ref(&early), (opens(&c), lab_ref(&c))};
  if (memcmp(refs[0].author, refs[1].author, HOLT_DAG_KEY) > 0) {
    struct holt_dag_ref swap = refs[0];
    refs[0] = refs[1];
    refs[1] = swap;
  }
  struct holt_dag_run *both = fresh();
  lab_write(&b, both, 1, "both", refs, 2);
  assert_int_equal(give(&s, both, 1), HOLT_DAG_PENNED);
  struct lab_writer again = lab_writer(3);
  s.fails = HOLT_EIO;
  assert_int_equal(give(&s, opens(&again), 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 1);
  assert_int_equal(status_of(&s).pen_runs, 1);
  s.fails = 0;
  assert_int_equal(give(&s, writes(&again, 1), 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 2);
  shelf_close(&s);
}

/* --- Heads
 * -------------------------------------------------------------------------------------------------- */

static void heads_are_what_nobody_has_named(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b = lab_writer(2), c = lab_writer(3);
  struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
  shelf_open(&s);
  give(&s, opens(&a), 1);
  give(&s, opens(&b), 1);
  give(&s, opens(&c), 1);
  assert_int_equal(holt_dag_heads(s.dag, NULL, heads), 3);
  assert_true(memcmp(heads[0].author, heads[1].author, HOLT_DAG_KEY) < 0);
  assert_true(memcmp(heads[1].author, heads[2].author, HOLT_DAG_KEY) < 0);
  assert_int_equal(holt_dag_heads(s.dag, a.key.public, heads), 2);
  give(&s, names(&a, &b), 1);
  assert_int_equal(holt_dag_heads(s.dag, a.key.public, heads), 1);
  assert_memory_equal(heads[0].author, c.key.public, HOLT_DAG_KEY);
  give(&s, names(&c, &a), 1);
  assert_int_equal(holt_dag_heads(s.dag, NULL, heads), 1);
  assert_int_equal(heads[0].number, 2);
  give(&s, writes(&b, 1), 1); /* named once, it went on since */
  assert_int_equal(holt_dag_heads(s.dag, NULL, heads), 2);
  shelf_close(&s);
}

static void of_many_heads_64_are_given_one_of_each_author(void **state) {
  (void)state;
  struct shelf s;
  struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
  struct holt_dag_run run = {0};
  struct lab_writer self = lab_writer(999), forked, b;
  shelf_open(&s);
  give(&s, opens(&self), 0);
  for (uint64_t i = 0; i < 62; i++) {
    struct lab_writer w = lab_writer(i + 1);
    lab_open(&w, &run, NULL, 0);
    give(&s, &run, 1);
    forked = w;
  }
  b = forked;
  give(&s, writes(&forked, 1), 1);
  lab_write(&b, &run, 2, "other", NULL, 0);
  give(&s, &run, 1);
  assert_int_equal(status_of(&s).heads, 64);
  assert_int_equal(holt_dag_heads(s.dag, self.key.public, heads),
                   62); /* two tips of one author: one of them */
  lab_write(&self, &run, 1, "mine", heads, 62);
  assert_int_equal(give(&s, &run, 0), HOLT_DAG_ADMITTED);
  assert_int_equal(holt_dag_heads(s.dag, self.key.public, heads), 1); /* the other next time */
  holt_dag_run_free(&run);
  shelf_close(&s);
}

/* --- Horizons
 * -------------------------------------------------------------------------------------------------- */

static void told(struct shelf *s, const struct holt_dag_ref *refs, uint32_t count, uint64_t source) {
  uint8_t bytes[4 * HOLT_DAG_REF];
  struct holt_dag_horizon h = {.refs = bytes, .ref_count = lab_parents(bytes, refs, count)};
  assert_int_equal(holt_dag_horizon_told(dag_of(s), &h, source, &s->last), 0);
  keep(s);
}

static void a_newcomer_begins_behind_the_horizon_of_his_source(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b = lab_writer(2), at_cut;
  struct holt_dag_author author;
  struct holt_dag_chain chain;
  struct holt_dag_run *opening = opens(&a), *old = writes(&a, 5);
  at_cut = a;
  struct holt_dag_run *run = writes(&a, 2), *b1 = opens(&b), *b2 = names(&b, &at_cut);
  struct holt_dag_ref ref = lab_ref(&at_cut);
  shelf_open(&s);
  give(&s, opening, 1);
  assert_int_equal(give(&s, run, 1), HOLT_DAG_PENNED); /* nothing was told */
  told(&s, &ref, 1, 2);
  assert_int_equal(give(&s, run, 1), HOLT_DAG_DUPLICATE); /* by another source: no reason to begin here */
  holt_dag_source_gone(s.dag, 2);
  told(&s, &ref, 1, 1);
  assert_int_equal(s.last.admitted_count, 1); /* what waited is admitted now */
  assert_true(s.last.admitted[0].is_cut);
  assert_int_equal(status_of(&s).pen_runs, 0);
  shelf_close(&s);

  shelf_open(&s);
  told(&s, &ref, 1, 1);
  give(&s, opening, 1);
  assert_int_equal(give(&s, run, 1), HOLT_DAG_ADMITTED);
  assert_true(s.last.admitted[0].is_cut);
  assert_false(s.last.admitted[0].is_fork);
  holt_dag_author(s.dag, 0, &author);
  assert_int_equal(author.horizon, 6);
  assert_memory_equal(author.horizon_hash, at_cut.tip, HOLT_DAG_HASH);
  holt_dag_chain(s.dag, 0, &chain);
  assert_true(chain.is_buried);
  assert_refused(&s, old, HOLT_DAG_BELOW_HORIZON); /* from nobody */
  assert_int_equal(give(&s, joined(old, run), 3), HOLT_DAG_DUPLICATE);
  assert_int_equal(give(&s, b1, 3), HOLT_DAG_ADMITTED);
  assert_int_equal(give(&s, b2, 3), HOLT_DAG_ADMITTED); /* its parent is not demanded */
  assert_int_equal(give(&s, writes(&a, 1), 3), HOLT_DAG_ADMITTED);
  assert_int_equal(status_of(&s).heads, 2); /* a's tip and b's, nothing buried */
  shelf_close(&s);
}

/* The source cuts within a run that waits: it will not send that again, nor has it what is before it. */
static void a_run_that_waits_goes_on_when_its_source_cuts_within_it(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1);
  struct holt_dag_author author;
  struct holt_dag_run *opening = opens(&a);
  writes(&a, 3); /* 2 to 4 */
  struct holt_dag_ref before = lab_ref(&a);
  struct holt_dag_run *run = writes(&a, 6); /* 5 to 10 */
  struct holt_dag_ref within = {.number = 7}, last = lab_ref(&a);
  memcpy(within.author, before.author, HOLT_DAG_KEY);
  memcpy(within.hash, run->items[2].hash, HOLT_DAG_HASH);
  shelf_open(&s);
  give(&s, opening, 1);
  assert_int_equal(give(&s, run, 1), HOLT_DAG_PENNED);
  told(&s, &last, 1, 1); /* all of it is gone there: nothing follows from that */
  assert_int_equal(s.last.admitted_count, 0);
  within.hash[0] ^= 1;
  told(&s, &within, 1, 1); /* nor from what the author has not signed */
  assert_int_equal(s.last.admitted_count, 0);
  within.hash[0] ^= 1;
  told(&s, &within, 1, 1);
  assert_int_equal(s.last.admitted_count, 1);
  assert_true(s.last.admitted[0].is_cut);
  assert_int_equal(s.last.admitted[0].count, 6); /* all that came */
  holt_dag_author(s.dag, 0, &author);
  assert_int_equal(author.horizon, 4);
  assert_memory_equal(author.horizon_hash, before.hash, HOLT_DAG_HASH);
  assert_int_equal(status_of(&s).pen_runs, 0);
  shelf_close(&s);
}

/* A horizon that does not fit what the author signed moves nothing. */
static void a_false_horizon_cuts_nothing(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1);
  struct holt_dag_author author;
  struct holt_dag_run *opening = opens(&a), *old = writes(&a, 5);
  struct holt_dag_ref ref = lab_ref(&a);
  struct holt_dag_run *run = writes(&a, 2);
  shelf_open(&s);
  ref.hash[0] ^= 1;
  told(&s, &ref, 1, 1);
  ref.number = 1000000;
  told(&s, &ref, 1, 2);
  give(&s, opening, 1);
  assert_int_equal(give(&s, run, 1), HOLT_DAG_PENNED);
  assert_int_equal(give(&s, old, 2), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 2);
  holt_dag_author(s.dag, 0, &author);
  assert_int_equal(author.horizon, 0);
  shelf_close(&s);
}

/* A parent of an author of whom nothing is left. */
static void a_parent_below_a_told_horizon_is_excused(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer gone = lab_writer(1), b = lab_writer(2);
  struct holt_dag_author author;
  uint32_t id;
  opens(&gone);
  writes(&gone, 3);
  struct holt_dag_ref ref = lab_ref(&gone);
  struct holt_dag_run *opening = opens(&b), *run = names(&b, &gone);
  shelf_open(&s);
  told(&s, &ref, 1, 1);
  give(&s, opening, 1);
  assert_int_equal(give(&s, run, 2), HOLT_DAG_PENNED); /* of source 2 nothing is excused */
  assert_int_equal(holt_dag_author_find(s.dag, gone.key.public, &id), HOLT_ENOTFOUND);
  struct lab_writer c = lab_writer(3);
  struct holt_dag_run *other = (give(&s, opens(&c), 1), names(&c, &gone));
  assert_int_equal(give(&s, other, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(holt_dag_author_find(s.dag, gone.key.public, &id), 0);
  holt_dag_author(s.dag, id, &author);
  assert_int_equal(author.excused, 4);
  assert_int_equal(author.horizon, 0);
  assert_int_equal(author.chain, HOLT_DAG_NO_CHAIN);
  struct lab_writer again = lab_writer(1); /* should it come all the same, it is welcome */
  assert_int_equal(give(&s, opens(&again), 2), HOLT_DAG_ADMITTED);
  assert_int_equal(give(&s, writes(&again, 3), 2), HOLT_DAG_ADMITTED);
  shelf_close(&s);
}

static void retention_cuts_and_says_what(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1), b;
  struct holt_dag_ref ref;
  struct holt_dag_author author;
  struct holt_dag_run *right = fresh();
  shelf_open(&s);
  give(&s, opens(&a), 1);
  b = a;
  struct holt_dag_run *old = writes(&a, 9);
  give(&s, old, 1);
  lab_write(&b, right, 2, "other", NULL, 0);
  give(&s, right, 1);
  assert_int_equal(holt_dag_cut(s.dag, 0, 11, &ref), HOLT_EINVAL);
  assert_int_equal(holt_dag_cut(s.dag, 0, 5, &ref), 0);
  assert_int_equal(ref.number, 5);
  assert_memory_equal(ref.hash, old->items[3].hash, HOLT_DAG_HASH);
  assert_int_equal(holt_dag_cut(s.dag, 0, 5, &ref), HOLT_EINVAL);
  holt_dag_author(s.dag, 0, &author);
  assert_int_equal(author.horizon, 5);
  assert_int_equal(status_of(&s).heads, 1); /* the branch ended below */
  assert_refused(&s, right, HOLT_DAG_BELOW_HORIZON);
  assert_int_equal(give(&s, old, 1), HOLT_DAG_DUPLICATE);
  assert_int_equal(give(&s, writes(&a, 1), 1), HOLT_DAG_ADMITTED);
  assert_int_equal(holt_dag_cut(s.dag, 0, 11, &ref), 0); /* all of it: the tip is known still */
  struct holt_dag_run *next = writes(&a, 1), *later = writes(&a, 1);
  assert_int_equal(give(&s, later, 1), HOLT_DAG_PENNED);
  assert_int_equal(give(&s, next, 1), HOLT_DAG_ADMITTED);
  assert_int_equal(s.last.admitted_count, 2);
  shelf_close(&s);
}

/* --- Records
 * ---------------------------------------------------------------------------------------------------- */

static void fill(struct shelf *s) {
  struct lab_writer a = lab_writer(1), b = lab_writer(2), c;
  struct holt_dag_ref ref;
  struct holt_dag_run *right = fresh();
  give(s, opens(&a), 1);
  give(s, opens(&b), 1);
  give(s, writes(&a, 4), 1);
  give(s, names(&b, &a), 1);
  c = b;
  give(s, writes(&b, 1), 1);
  lab_write(&c, right, 2, "other", NULL, 0);
  give(s, right, 1);
  assert_int_equal(holt_dag_cut(s->dag, 0, 3, &ref), 0);
}

static struct holt_writer all_records(const struct holt_dag *dag) {
  struct holt_writer all = {0};
  for (uint32_t i = 0; i < holt_dag_author_count(dag); i++) {
    struct holt_writer w = {0};
    holt_dag_save(dag, i, &w);
    holt_write_u32(&all, (uint32_t)w.len);
    holt_write_bytes(&all, w.data, w.len);
    holt_writer_free(&w);
  }
  return all;
}

static int load_all(struct holt_dag *dag, const struct holt_writer *all) {
  struct holt_reader in = holt_reader(holt_buf(all->data, all->len));
  int rc = 0;
  while (rc == 0 && holt_reader_left(&in) > 0) {
    struct holt_buf record = holt_read_bytes(&in, holt_read_u32(&in));
    rc = in.failed ? HOLT_ECORRUPT : holt_dag_load(dag, record);
  }
  return rc ? rc : holt_dag_loaded(dag);
}

static void the_index_comes_back_from_its_records(void **state) {
  (void)state;
  struct shelf s;
  uint32_t changed[8], count = 0;
  struct holt_dag_ref before[HOLT_DAG_PARENTS_MAX], after[HOLT_DAG_PARENTS_MAX];
  shelf_open(&s);
  fill(&s);
  while (holt_dag_next_changed(s.dag, &changed[count])) count++;
  assert_int_equal(count, 2);
  struct holt_writer all = all_records(s.dag);
  struct holt_dag *copy = holt_dag_new(&s.options);
  assert_int_equal(load_all(copy, &all), 0);
  assert_false(holt_dag_next_changed(copy, &changed[0]));
  struct holt_writer again = all_records(copy);
  assert_int_equal(again.len, all.len);
  assert_memory_equal(again.data, all.data, all.len);
  size_t heads = holt_dag_heads(s.dag, NULL, before);
  assert_int_equal(holt_dag_heads(copy, NULL, after), heads);
  struct holt_dag_status one, two;
  holt_dag_status(s.dag, &one);
  holt_dag_status(copy, &two);
  assert_int_equal(one.heads, two.heads);
  assert_int_equal(one.forked, two.forked);
  holt_dag_free(copy);
  holt_writer_free(&all);
  holt_writer_free(&again);
  shelf_close(&s);
}

/* Any one changed byte of a record is refused, or gives an index that can be used. */
static void a_damaged_record_is_refused_or_harmless(void **state) {
  (void)state;
  struct shelf s;
  size_t refused = 0;
  shelf_open(&s);
  fill(&s);
  struct holt_writer all = all_records(s.dag);
  for (size_t i = 0; i < all.len * 3; i++) {
    static const uint8_t MASKS[] = {1, 0x80, 0xff};
    struct holt_dag *copy = holt_dag_new(&s.options);
    struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
    all.data[i / 3] ^= MASKS[i % 3];
    int rc = load_all(copy, &all);
    assert_true(rc == 0 || rc == HOLT_ECORRUPT);
    if (rc == 0) holt_dag_heads(copy, NULL, heads);
    refused += rc != 0;
    all.data[i / 3] ^= MASKS[i % 3];
    holt_dag_free(copy);
  }
  assert_true(refused > 100);
  holt_writer_free(&all);
  shelf_close(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(runs_are_admitted_in_order_and_once),
      TEST(the_usual_run_asks_the_store_nothing),
      TEST(what_comes_too_early_waits_and_is_asked_for),
      TEST(a_longer_run_replaces_a_shorter_in_the_pen),
      TEST(the_pen_is_bounded_and_the_flooder_loses_his_own),
      TEST(the_pen_is_bounded_in_bytes),
      TEST(both_branches_of_a_fork_are_kept_and_go_on),
      TEST(a_run_that_forks_in_its_middle_joins_there),
      TEST(two_openings_of_one_key_are_a_fork),
      TEST(a_parent_on_another_branch_is_missing),
      TEST(others_than_the_listed_are_refused_and_not_demanded),
      TEST(there_is_an_end_to_authors_and_branches),
      TEST(of_an_author_only_so_many_branches_are_kept),
      TEST(a_store_that_fails_changes_nothing),
      TEST(heads_are_what_nobody_has_named),
      TEST(of_many_heads_64_are_given_one_of_each_author),
      TEST(a_newcomer_begins_behind_the_horizon_of_his_source),
      TEST(a_run_that_waits_goes_on_when_its_source_cuts_within_it),
      TEST(a_false_horizon_cuts_nothing),
      TEST(a_parent_below_a_told_horizon_is_excused),
      TEST(retention_cuts_and_says_what),
      TEST(the_index_comes_back_from_its_records),
      TEST(a_damaged_record_is_refused_or_harmless),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
