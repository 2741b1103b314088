/* What two holders of a journal tell each other, and what one knows of the other. */
#include "dag_shelf.h"

/* --- The exchange
 * ----------------------------------------------------------------------------------------------- */

/* All that `from` has, heard by `link` at `to`; true once it is ready. */
static bool tell_all(struct shelf *from, struct holt_dag_link *link) {
  struct holt_writer w = {0};
  bool is_begun = false;
  for (uint32_t chain = 0; holt_dag_have_all(dag_of(from), &chain, &w); w.len = 0) {
    struct holt_dag_message m;
    assert_false(is_begun);
    assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), 0);
    assert_int_equal(holt_dag_link_have(link, &m, &is_begun), 0);
  }
  holt_writer_free(&w);
  return is_begun;
}

static void news(struct shelf *from, uint32_t author, struct holt_dag_link *link) {
  struct holt_writer w = {0};
  struct holt_dag_message m;
  bool is_begun;
  assert_int_equal(holt_dag_have_some(from->dag, &author, 1, &w), 1);
  assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), 0);
  assert_int_equal(holt_dag_link_have(link, &m, &is_begun), 0);
  assert_false(is_begun);
  holt_writer_free(&w);
}

static void what_the_other_lacks_is_told_by_its_tips(void **state) {
  (void)state;
  struct shelf x, y;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_dag_run *opening = opens(&a), *run = writes(&a, 5), *more = writes(&a, 5), *other = opens(&b);
  shelf_open(&x);
  shelf_open(&y);
  give(&x, opening, 1);
  give(&x, run, 1);
  give(&x, more, 1);
  give(&x, other, 1);
  give(&y, opening, 1);
  give(&y, run, 1);
  struct holt_dag_link *link = holt_dag_link_new(x.dag, 5);
  assert_false(holt_dag_link_lacks(link, 0, 9)); /* nothing is known yet */
  news(&y, 0, link);
  assert_false(holt_dag_link_is_ready(link));
  assert_true(tell_all(&y, link));
  assert_true(holt_dag_link_is_ready(link));
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 7);
  assert_int_equal(holt_dag_link_lacks_from(link, 1), 1);
  assert_false(holt_dag_link_lacks(link, 0, 6));
  assert_true(holt_dag_link_lacks(link, 0, 7));
  assert_true(holt_dag_link_holds(link, 0, 6));
  assert_false(holt_dag_link_holds(link, 0, 7));
  assert_false(holt_dag_link_is_in_step(link));
  holt_dag_link_sent(link, 0, 11);
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 0);
  assert_false(holt_dag_link_holds(link, 0, 7)); /* sent is not had */
  give(&y, more, 1);
  give(&y, other, 1);
  news(&y, 0, link);
  assert_true(holt_dag_link_holds(link, 0, 11));
  news(&y, 1, link);
  assert_true(holt_dag_link_is_in_step(link));
  holt_dag_link_free(link);
  shelf_close(&x);
  shelf_close(&y);
}

/* Nothing of an author is sent while the other is ahead; what then comes from elsewhere settles it. */
static void who_is_ahead_is_sent_nothing(void **state) {
  (void)state;
  struct shelf x, y;
  struct lab_writer a = lab_writer(1);
  struct holt_dag_ref ref;
  struct holt_dag_run *opening = opens(&a), *run = writes(&a, 5), *more = writes(&a, 5),
                      *last = writes(&a, 1);
  shelf_open(&x);
  shelf_open(&y);
  give(&x, opening, 1);
  give(&y, opening, 1);
  give(&y, run, 1);
  give(&y, more, 1);
  struct holt_dag_link *link = holt_dag_link_new(x.dag, 5);
  assert_true(tell_all(&y, link));
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 0);
  assert_false(holt_dag_link_next_want(link, &ref)); /* it comes by itself */
  const struct holt_dag_run *runs[] = {run, more, last};
  for (int i = 0; i < 3; i++) {
    assert_int_equal(give(&x, runs[i], 6), HOLT_DAG_ADMITTED);
    assert_int_equal(holt_dag_link_admitted(link, &x.last.admitted[0]), 0);
  }
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 12);
  assert_true(holt_dag_link_holds(link, 0, 11));
  holt_dag_link_free(link);
  shelf_close(&x);
  shelf_close(&y);
}

static struct holt_dag_message ask_for(struct shelf *s, const struct holt_dag_ref *ref,
                                       struct holt_writer *w) {
  struct holt_dag_message m;
  w->len = 0;
  assert_int_equal(holt_dag_want_encode(dag_of(s), ref, w), 0);
  assert_int_equal(holt_dag_message_decode(holt_buf(w->data, w->len), &m), 0);
  return m;
}

/* Two holders with another branch each: the longer one asks, and is sent little more than it lacks. */
static void branches_are_asked_for_and_sent_from_where_they_part(void **state) {
  (void)state;
  struct shelf x, y;
  struct lab_writer a = lab_writer(1), b;
  struct holt_dag_ref ref;
  struct holt_dag_range range;
  struct holt_writer w = {0};
  struct holt_dag_run *right = fresh();
  struct holt_dag_run *common[] = {opens(&a), writes(&a, 999), writes(&a, 500)};
  b = a;
  struct holt_dag_run *left = writes(&a, 900);
  lab_write(&b, right, 20, "other", NULL, 0);
  shelf_open(&x);
  shelf_open(&y);
  for (int i = 0; i < 3; i++) {
    give(&x, common[i], 1);
    give(&y, common[i], 1);
  }
  give(&x, left, 1);
  give(&y, right, 1);
  struct holt_dag_link *at_x = holt_dag_link_new(x.dag, 5), *at_y = holt_dag_link_new(y.dag, 6);
  tell_all(&y, at_x);
  tell_all(&x, at_y);
  assert_int_equal(holt_dag_link_lacks_from(at_x, 0), 0);
  assert_false(holt_dag_link_next_want(at_y, &ref)); /* may be ahead, for all y knows */
  assert_true(holt_dag_link_next_want(at_x, &ref));
  assert_int_equal(ref.number, 1520);
  struct holt_dag_message m = ask_for(&x, &ref, &w);
  assert_int_equal(holt_dag_link_asked(at_y, &m), 0);
  assert_true(holt_dag_link_next_range(at_y, &range));
  assert_int_equal(range.to, 1520);
  assert_true(range.from <= 1501 && range.from > 500); /* they part at 1,500, 900 below x's tip */
  assert_false(holt_dag_link_next_range(at_y, &range));
  assert_int_equal(give(&x, right, 5), HOLT_DAG_ADMITTED);
  assert_int_equal(holt_dag_link_admitted(at_x, &x.last.admitted[0]), 0);
  news(&x, 0, at_y);
  assert_true(holt_dag_link_next_want(at_y, &ref)); /* now it is told that there are two */
  m = ask_for(&y, &ref, &w);
  assert_int_equal(holt_dag_link_asked(at_x, &m), 0);
  assert_true(holt_dag_link_next_range(at_x, &range));
  assert_int_equal(range.to, 2400);
  assert_int_equal(give(&y, left, 6), HOLT_DAG_ADMITTED);
  assert_int_equal(holt_dag_link_admitted(at_y, &y.last.admitted[0]), 0);
  news(&y, 0, at_x);
  news(&x, 0, at_y);
  assert_true(holt_dag_link_is_in_step(at_x));
  assert_true(holt_dag_link_is_in_step(at_y));
  holt_writer_free(&w);
  holt_dag_link_free(at_x);
  holt_dag_link_free(at_y);
  shelf_close(&x);
  shelf_close(&y);
}

static void what_is_asked_for_is_bounded(void **state) {
  (void)state;
  struct shelf x, y;
  struct lab_writer a = lab_writer(1);
  struct holt_writer w = {0};
  struct holt_dag_range range;
  struct holt_dag_message m;
  struct holt_dag_run run = {0};
  shelf_open(&x);
  shelf_open(&y);
  give(&x, opens(&a), 1);
  give(&y, &pool[0], 1);
  struct holt_dag_link *link = holt_dag_link_new(x.dag, 5);
  struct holt_dag_ref ref = {.number = 9};
  m = ask_for(&y, &ref, &w);
  assert_int_equal(holt_dag_link_asked(link, &m), HOLT_ENOTFOUND);
  for (int i = 0; i < 300; i++) { /* each for what comes before it: the ranges overlap, none holds another */
    lab_write(&a, &run, 1, "text", NULL, 0);
    give(&x, &run, 1);
    ref = lab_ref(&a);
    m = ask_for(&y, &ref, &w);
    int rc = holt_dag_link_asked(link, &m);
    assert_int_equal(rc, i < 256 ? 0 : HOLT_EFULL);
    if (i < 256) assert_int_equal(holt_dag_link_asked(link, &m), 0); /* twice the same is one */
  }
  for (uint64_t i = 0; i < 256; i++) {
    assert_true(holt_dag_link_next_range(link, &range));
    assert_int_equal(range.from, 2);
    assert_int_equal(range.to, i + 2);
  }
  assert_false(holt_dag_link_next_range(link, &range));
  holt_dag_run_free(&run);
  holt_writer_free(&w);
  holt_dag_link_free(link);
  shelf_close(&x);
  shelf_close(&y);
}

/* The opening is kept, and sent to who has nothing; then what is behind the horizon. */
static void below_the_horizon_only_the_opening_is_sent(void **state) {
  (void)state;
  struct shelf x, y;
  struct lab_writer a = lab_writer(1);
  struct holt_dag_ref ref, cut;
  struct holt_writer w = {0};
  struct holt_dag_range range;
  struct holt_dag_run *opening = opens(&a), *run = writes(&a, 9);
  shelf_open(&x);
  shelf_open(&y);
  give(&x, opening, 1);
  give(&x, run, 1);
  assert_int_equal(holt_dag_cut(x.dag, 0, 6, &cut), 0);
  struct holt_dag_link *link = holt_dag_link_new(x.dag, 5);
  assert_true(tell_all(&y, link));
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 1);
  assert_true(holt_dag_link_lacks(link, 0, 1));
  assert_false(holt_dag_link_lacks(link, 0, 2));
  assert_false(holt_dag_link_lacks(link, 0, 6));
  assert_true(holt_dag_link_lacks(link, 0, 7));
  ref = lab_ref(&a);
  struct holt_dag_message m = ask_for(&y, &ref, &w);
  assert_int_equal(holt_dag_link_asked(link, &m), 0);
  assert_true(holt_dag_link_next_range(link, &range));
  assert_int_equal(range.to, 1);
  assert_true(holt_dag_link_next_range(link, &range));
  assert_int_equal(range.from, 7);
  m = ask_for(&y, &cut, &w);
  assert_int_equal(holt_dag_link_asked(link, &m), 0);
  assert_true(holt_dag_link_next_range(link, &range));
  assert_int_equal(range.to, 1);
  give(&y, opening, 1);
  assert_true(tell_all(&y, link)); /* it has the opening: what is between is not to be had here */
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 7);
  holt_writer_free(&w);
  holt_dag_link_free(link);
  shelf_close(&x);
  shelf_close(&y);
}

static void thousands_of_authors_are_told_in_pieces(void **state) {
  (void)state;
  struct shelf s;
  struct holt_dag *x, *y;
  struct holt_dag_run run = {0};
  struct holt_dag_result result;
  struct holt_writer w = {0};
  struct holt_dag_message m;
  size_t messages = 0;
  bool is_begun = false;
  shelf_open(&s);
  x = holt_dag_new(&s.options);
  y = holt_dag_new(&s.options);
  for (uint64_t i = 0; i < 9000; i++) {
    struct lab_writer a = lab_writer(i);
    lab_open(&a, &run, NULL, 0);
    holt_dag_offer(x, &run, 1, &result);
    if (i % 2) holt_dag_offer(y, &run, 1, &result);
  }
  struct holt_dag_link *link = holt_dag_link_new(x, 1);
  for (uint32_t chain = 0; holt_dag_have_all(y, &chain, &w); w.len = 0) {
    assert_false(is_begun);
    assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), 0);
    assert_true(m.count <= HOLT_DAG_HAVE_MAX);
    assert_int_equal(holt_dag_link_have(link, &m, &is_begun), 0);
    messages++;
  }
  assert_int_equal(messages, 2);
  assert_true(is_begun);
  for (uint32_t i = 0; i < 9000; i++) assert_int_equal(holt_dag_link_lacks_from(link, i), i % 2 ? 0 : 1);
  holt_dag_link_free(link);
  holt_dag_free(x);
  holt_dag_free(y);
  holt_dag_run_free(&run);
  holt_writer_free(&w);
  shelf_close(&s);
}

/* Two holders that kept other branches of an author who has too many: neither asks nor sends for ever. */
static void branches_that_are_too_many_are_not_asked_for(void **state) {
  (void)state;
  struct shelf x, y;
  struct lab_writer a = lab_writer(1);
  struct holt_dag_ref ref;
  struct holt_dag_run *opening = opens(&a), *runs[4], *last = NULL;
  struct lab_writer at[4];
  shelf_open(&x);
  shelf_open(&y);
  x.options.branches_max = y.options.branches_max = 3;
  give(&x, opening, 1);
  give(&y, opening, 1);
  for (int i = 0; i < 4; i++) {
    char text[8];
    snprintf(text, sizeof text, "%d", i);
    at[i] = a;
    runs[i] = fresh();
    lab_write(&at[i], runs[i], 1, text, NULL, 0);
    if (i != 3) assert_int_equal(give(&x, runs[i], 1), HOLT_DAG_ADMITTED); /* 0 1 2 */
    if (i != 2) assert_int_equal(give(&y, runs[i], 1), HOLT_DAG_ADMITTED); /* 0 1 3 */
  }
  last = writes(&at[0], 5);
  give(&y, last, 1); /* y is ahead on a branch that both have */
  struct holt_dag_link *at_x = holt_dag_link_new(x.dag, 5), *at_y = holt_dag_link_new(y.dag, 6);
  tell_all(&y, at_x);
  tell_all(&x, at_y);
  assert_false(holt_dag_link_next_want(at_x, &ref));
  assert_false(holt_dag_link_next_want(at_y, &ref));
  assert_int_equal(holt_dag_link_lacks_from(at_x, 2), 0); /* y would refuse it */
  assert_int_equal(holt_dag_link_lacks_from(at_y, 2), 0);
  assert_int_equal(holt_dag_link_lacks_from(at_y, 0), 3); /* what both have goes on */
  assert_true(holt_dag_link_is_caught_up(at_x));
  assert_int_equal(give(&x, last, 5), HOLT_DAG_ADMITTED);
  assert_int_equal(holt_dag_link_admitted(at_x, &x.last.admitted[0]), 0);
  assert_true(holt_dag_link_is_in_step(at_x)); /* as far as can be */
  holt_dag_link_free(at_x);
  holt_dag_link_free(at_y);
  shelf_close(&x);
  shelf_close(&y);
}

/* Who takes entries of some directories only is sent no others, but for openings. */
static void what_the_other_does_not_take_is_not_sent(void **state) {
  (void)state;
  struct shelf x, y;
  struct lab_writer good = lab_writer(1), bad = lab_writer(2);
  struct holt_writer w = {0};
  struct holt_dag_message m;
  shelf_open(&x);
  shelf_open(&y);
  assert_false(holt_dag_takes_encode(dag_of(&x), &w)); /* takes all */
  y.options.authors = (const uint8_t(*)[HOLT_DAG_KEY])good.directory.public;
  y.options.author_count = 1;
  struct holt_dag_run *g = opens(&good), *b = opens(&bad);
  give(&x, g, 1);
  give(&x, b, 1);
  give(&x, writes(&good, 3), 1);
  give(&x, writes(&bad, 3), 1);
  struct holt_dag_link *link = holt_dag_link_new(x.dag, 5);
  assert_true(holt_dag_takes_encode(dag_of(&y), &w));
  assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), 0);
  holt_dag_link_takes(link, &m);
  tell_all(&y, link);
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 1);
  assert_int_equal(holt_dag_link_lacks_from(link, 1), 1); /* so that it knows whom not to ask for */
  holt_dag_link_sent(link, 1, 1);
  assert_int_equal(holt_dag_link_lacks_from(link, 1), 0);
  assert_false(holt_dag_link_lacks(link, 1, 3));
  assert_int_equal(give(&y, b, 6), HOLT_DAG_REFUSED);
  assert_false(y.last.is_again);
  assert_int_equal(give(&y, b, 6), HOLT_DAG_REFUSED);
  assert_true(y.last.is_again);
  give(&y, g, 6);
  assert_int_equal(give(&y, names(&good, &bad), 6), HOLT_DAG_PENNED); /* it follows what is not here yet */
  tell_all(&y, link);
  assert_false(holt_dag_link_is_in_step(link));
  assert_int_equal(holt_dag_link_lacks_from(link, 0), 2);
  assert_int_equal(holt_dag_link_lacks_from(link, 1), 1); /* again, with the next connection: just that */
  for (size_t cut = 0; cut < w.len; cut++)
    assert_int_equal(holt_dag_message_decode(holt_buf(w.data, cut), &m), HOLT_EPROTOCOL);
  holt_dag_link_free(link);
  holt_writer_free(&w);
  shelf_close(&x);
  shelf_close(&y);
}

static void a_message_is_exact(void **state) {
  (void)state;
  struct shelf s;
  struct lab_writer a = lab_writer(1);
  struct holt_writer w = {0};
  struct holt_dag_message m;
  uint32_t author = 0;
  shelf_open(&s);
  give(&s, opens(&a), 1);
  give(&s, writes(&a, 40), 1);
  struct holt_dag_ref ref = lab_ref(&a);
  for (int kind = 0; kind < 2; kind++) {
    w.len = 0;
    if (kind == 0) assert_int_equal(holt_dag_have_some(s.dag, &author, 1, &w), 1);
    if (kind == 1) assert_int_equal(holt_dag_want_encode(s.dag, &ref, &w), 0);
    assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), 0);
    assert_int_equal(m.count, kind == 0 ? 1 : 7); /* 41, 40, 38, 34, 26, 10, 1 */
    for (size_t len = 0; len < w.len; len++)
      assert_int_equal(holt_dag_message_decode(holt_buf(w.data, len), &m), HOLT_EPROTOCOL);
    holt_write_u8(&w, 0);
    assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), HOLT_EPROTOCOL);
  }
  w.data[0] = 99;
  assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), HOLT_EPROTOCOL);
  w.len = 0;
  holt_dag_horizon_encode(holt_buf("horizon", 7), &w);
  assert_int_equal(holt_dag_message_decode(holt_buf(w.data, w.len), &m), 0);
  assert_int_equal(m.type, HOLT_DAG_HORIZON_TOLD);
  assert_int_equal(m.bytes.len, 7);
  holt_writer_free(&w);
  shelf_close(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(what_the_other_lacks_is_told_by_its_tips),
      TEST(who_is_ahead_is_sent_nothing),
      TEST(branches_are_asked_for_and_sent_from_where_they_part),
      TEST(what_is_asked_for_is_bounded),
      TEST(below_the_horizon_only_the_opening_is_sent),
      TEST(thousands_of_authors_are_told_in_pieces),
      TEST(branches_that_are_too_many_are_not_asked_for),
      TEST(what_the_other_does_not_take_is_not_sent),
      TEST(a_message_is_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
