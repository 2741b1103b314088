/* The pure parts of the bus and of a link: subjects, what has been seen of an origin, lanes and their
 * numbers. */
#include "base/rand.h"
#include "bus/bus_impl.h"
#include "link/msg.h"
#include "unit.h"

/* --- Subjects ------------------------------------------------------------------------------------- */

static int check(const char *text, bool is_pattern) {
  return holt_subject_check(text, strlen(text), is_pattern, NULL);
}

static void subjects_are_words_joined_by_dots(void **state) {
  (void)state;
  assert_int_equal(check("order", false), 0);
  assert_int_equal(check("order.new.eu-1", false), 0);
  const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a.b>"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_int_equal(check(bad[i], false), HOLT_EINVAL);
  assert_int_equal(holt_subject_check("a\0b", 3, false, NULL), HOLT_EINVAL);
  char longest[HOLT_SUBJECT_MAX + 2];
  memset(longest, 'x', sizeof longest);
  assert_int_equal(holt_subject_check(longest, HOLT_SUBJECT_MAX, false, NULL), 0);
  assert_int_equal(holt_subject_check(longest, HOLT_SUBJECT_MAX + 1, false, NULL), HOLT_EINVAL);
}

static void wildcards_are_words_of_their_own(void **state) {
  (void)state;
  const char *const good[] = {"*", ">", "a.*", "*.b.*", "a.>"};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_int_equal(check(good[i], true), 0);
  const char *const bad[] = {"a*", "a.b*", ">.a", "a.>.b", "**"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_int_equal(check(bad[i], true), HOLT_EINVAL);
}

static bool match(const char *pattern, const char *subject) {
  return holt_subject_match(pattern, strlen(pattern), subject, strlen(subject));
}

static void a_star_is_one_word_and_an_arrow_one_or_more(void **state) {
  (void)state;
  assert_true(match("a.b", "a.b"));
  assert_false(match("a.b", "a.bc"));
  assert_false(match("a.b", "a"));
  assert_false(match("a", "a.b"));
  assert_true(match("a.*", "a.b"));
  assert_false(match("a.*", "a"));
  assert_false(match("a.*", "a.b.c"));
  assert_true(match("*.b", "a.b"));
  assert_true(match("a.>", "a.b"));
  assert_true(match("a.>", "a.b.c"));
  assert_false(match("a.>", "a"));
  assert_true(match(">", "a"));
  assert_false(match("*.>", "a"));
}

static unsigned calls;
static void count_call(void *arg, struct holt_event *event) {
  (void)arg, (void)event;
  calls++;
}

static void subscriptions_are_found_in_the_order_they_were_made(void **state) {
  (void)state;
  struct holt_subs subs;
  holt__subs_init(&subs);
  struct holt_sub *a = holt__subs_add(&subs, "x.*", 3, count_call, NULL);
  struct holt_sub *b = holt__subs_add(&subs, "x.y", 3, count_call, NULL);
  holt__subs_add(&subs, "z", 1, count_call, NULL);
  const struct holt_match *m = holt__subs_match(&subs, "x.y", 3);
  assert_int_equal(m->count, 2);
  assert_ptr_equal(m->subs[0], a);
  assert_ptr_equal(m->subs[1], b);
  holt__subs_remove(&subs, a);
  assert_true(m->subs[0]->is_dead); /* a walk that stands on it sees that */
  m = holt__subs_match(&subs, "x.y", 3);
  assert_int_equal(m->count, 1);
  assert_int_equal(holt__subs_match(&subs, "nobody", 6)->count, 0);
  holt__subs_free(&subs);
}

/* --- Origins -------------------------------------------------------------------------------------- */

static uint64_t lost;
static void add_lost(void *arg, const struct holt_origin *origin, uint64_t count) {
  (void)arg, (void)origin;
  lost += count;
}

struct seen_test {
  struct holt_origins origins;
  struct holt_origin *one;
};

static int setup_origins(void **state) {
  static struct seen_test t;
  lost = 0;
  holt__origins_init(&t.origins, 1000000, add_lost, NULL);
  t.one = holt__origins_get(&t.origins, 42, holt_buf_text("n1"), 0);
  t.one->carriers = 1;
  *state = &t;
  return 0;
}

static int teardown_origins(void **state) {
  holt__origins_free(&((struct seen_test *)*state)->origins);
  return 0;
}

static void an_event_is_new_once(void **state) {
  struct seen_test *t = *state;
  assert_int_equal(holt__origin_see(&t->origins, t->one, 1, 0), HOLT_SEEN_NEW);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 1, 0), HOLT_SEEN_DUPLICATE);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 4, 0), HOLT_SEEN_NEW);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 3, 0), HOLT_SEEN_LATE);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 3, 0), HOLT_SEEN_DUPLICATE);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 2, 0), HOLT_SEEN_LATE);
  assert_int_equal(t->one->hole_count, 0);
}

static void a_hole_closes_after_five_seconds_and_is_told(void **state) {
  struct seen_test *t = *state;
  holt__origin_see(&t->origins, t->one, 1, 0);
  holt__origin_see(&t->origins, t->one, 5, 1000);
  holt__origins_close_holes(&t->origins, 5999);
  assert_int_equal(lost, 0);
  holt__origins_close_holes(&t->origins, 6000);
  assert_int_equal(lost, 3);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 3, 6001),
                   HOLT_SEEN_DUPLICATE); /* never handled later */
}

static void numbers_before_the_first_one_seen_close_in_silence(void **state) {
  struct seen_test *t = *state;
  assert_int_equal(holt__origin_see(&t->origins, t->one, 100, 0), HOLT_SEEN_NEW);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 50, 10), HOLT_SEEN_LATE);
  holt__origins_close_holes(&t->origins, 10000);
  assert_int_equal(lost, 0);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 51, 10001), HOLT_SEEN_DUPLICATE);
}

static void too_many_holes_close_the_oldest_early(void **state) {
  struct seen_test *t = *state;
  holt__origin_see(&t->origins, t->one, 1, 0);
  for (uint64_t i = 1; i <= HOLT_HOLES_MAX + 10; i++) holt__origin_see(&t->origins, t->one, 1 + 2 * i, i);
  assert_int_equal(t->one->hole_count, HOLT_HOLES_MAX);
  assert_int_equal(lost, 10);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 2, 9999), HOLT_SEEN_DUPLICATE);
}

static uint64_t told_from, told_to, told;
static void note_range(void *arg, uint64_t from, uint64_t to) {
  (void)arg;
  told_from = from;
  told_to = to;
  told++;
}

static void what_was_dropped_is_given_up_only_where_it_is_missing(void **state) {
  struct seen_test *t = *state;
  told = 0;
  for (uint64_t i = 1; i <= 5; i++) holt__origin_see(&t->origins, t->one, i, 0);
  holt__origin_report(&t->origins, t->one, 4, 8, 0, 1, note_range, NULL);
  assert_int_equal(told, 1);
  assert_int_equal(told_from, 6);
  assert_int_equal(told_to, 8);
  assert_int_equal(lost, 3);
  holt__origin_report(&t->origins, t->one, 4, 8, 0, 1, note_range, NULL); /* heard a second time */
  assert_int_equal(lost, 3);
  assert_int_equal(told, 1);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 9, 0), HOLT_SEEN_NEW);
}

static void with_several_ways_a_dropped_event_may_still_come(void **state) {
  struct seen_test *t = *state;
  holt__origin_see(&t->origins, t->one, 1, 0);
  t->one->carriers = 3;
  holt__origin_report(&t->origins, t->one, 2, 9, 0, 1, note_range, NULL);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 4, 100), HOLT_SEEN_LATE);
  holt__origins_close_holes(&t->origins, 5000);
  assert_int_equal(lost, 7);
}

static void a_hole_closes_once_every_link_that_carries_the_origin_has_said_so(void **state) {
  struct seen_test *t = *state;
  t->one->carriers = 3;
  told = 0;
  holt__origin_see(&t->origins, t->one, 1, 0);
  holt__origin_report(&t->origins, t->one, 2, 9, 0, 1, note_range, NULL);
  assert_int_equal(lost, 0);
  holt__origin_report(&t->origins, t->one, 4, 6, 0, 2, note_range, NULL);
  assert_int_equal(lost, 3);
  assert_int_equal(told, 1); /* the second word need not be passed on */
  holt__origins_forget_slot(&t->origins, 2);
  holt__origin_report(&t->origins, t->one, 2, 9, 0, 1, note_range, NULL);
  assert_int_equal(lost, 8);
}

static void a_last_number_shows_that_the_end_is_missing(void **state) {
  struct seen_test *t = *state;
  holt__origin_see(&t->origins, t->one, 1, 0);
  holt__origin_last(&t->origins, t->one, 4, 0);
  holt__origin_last(&t->origins, t->one, 2, 0); /* an old word changes nothing */
  assert_int_equal(holt__origin_see(&t->origins, t->one, 4, 100), HOLT_SEEN_LATE);
  holt__origins_close_holes(&t->origins, 5000);
  assert_int_equal(lost, 2);
}

static void the_last_number_of_an_unknown_origin_is_no_loss(void **state) {
  struct seen_test *t = *state;
  holt__origin_last(&t->origins, t->one, 4, 0);
  assert_int_equal(holt__origin_see(&t->origins, t->one, 5, 0), HOLT_SEEN_NEW);
  holt__origins_close_holes(&t->origins, 5000);
  assert_int_equal(lost, 0);
}

static void handled_and_lost_are_all_whatever_the_order(void **state) {
  struct seen_test *t = *state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 5);
  uint64_t handled = 0, now = 0;
  uint64_t last = 1;
  t->one->carriers = 3;
  holt__origin_see(&t->origins, t->one, 1, 0);
  handled++;
  for (int i = 0; i < 20000; i++) {
    uint64_t number = 1 + holt_rand_below(&rand, last + 20);
    now += holt_rand_below(&rand, 20);
    if (holt_rand_below(&rand, 10) == 0) {
      uint64_t to = number + holt_rand_below(&rand, 30);
      holt__origin_report(&t->origins, t->one, number, to, now, 1 + holt_rand_below(&rand, 3), note_range,
                          NULL);
      if (to > last) last = to;
    } else if (holt__origin_see(&t->origins, t->one, number, now) != HOLT_SEEN_DUPLICATE) {
      handled++;
    }
    if (number > last) last = number;
    if (i % 50 == 0) holt__origins_close_holes(&t->origins, now);
  }
  holt__origins_close_holes(&t->origins, now + HOLT_HOLE_MS);
  assert_int_equal(t->one->highest, last);
  assert_int_equal(handled + lost, last);
  assert_int_equal(t->origins.hole_count, 0);
}

/* --- Lanes ---------------------------------------------------------------------------------------- */

static void acknowledging_the_second_of_four_leaves_two(void **state) {
  (void)state;
  struct holt_lane_out lane = {0};
  for (int i = 0; i < 4; i++) holt__ring_push(&lane.unacked, holt_msg_new(HOLT_WIRE_EVENT, 10));
  for (int i = 0; i < 4; i++) holt__lane_out_write(&lane);
  assert_int_equal(holt__lane_out_ack(&lane, 2), 2);
  assert_int_equal(lane.unacked.count, 2);
  assert_int_equal(lane.unacked.bytes, 20);
  assert_int_equal(holt__lane_out_ack(&lane, 1), HOLT_EPROTOCOL); /* backwards */
  assert_int_equal(holt__lane_out_ack(&lane, 5), HOLT_EPROTOCOL); /* never sent */
  assert_int_equal(lane.unacked.count, 2);
  assert_int_equal(lane.written_cost, 2 * (10 + HOLT_WIRE_HEADER));
  holt__lane_out_free(&lane);
}

static void what_the_other_side_has_takes_its_part_of_the_window_though_it_was_dropped_here(void **state) {
  (void)state;
  struct holt_lane_out lane = {0};
  for (int i = 0; i < 3; i++) holt__ring_push(&lane.unacked, holt_msg_new(HOLT_WIRE_EVENT, 100));
  for (size_t i = 0; i < 3; i++) holt_msg_release(holt__lane_out_blank(&lane, i));
  assert_int_equal(holt__lane_out_resume(&lane, 2),
                   0); /* two of the three had arrived before they were dropped */
  assert_int_equal(lane.written_cost, 2 * (100 + HOLT_WIRE_HEADER));
  assert_false(holt__lane_out_may_write(&lane, 0, 2 * (100 + HOLT_WIRE_HEADER)));
  assert_true(holt__lane_out_may_write(&lane, 0, 2 * (100 + HOLT_WIRE_HEADER) + HOLT_WIRE_HEADER));
  assert_int_equal(holt__lane_out_write(&lane)->len, 0);
  assert_int_equal(holt__lane_out_ack(&lane, 2), 2);
  assert_int_equal(lane.written_cost, HOLT_WIRE_HEADER);
  assert_int_equal(holt__lane_out_ack(&lane, 3), 1);
  assert_int_equal(lane.written_cost, 0);
  holt__lane_out_free(&lane);
}

static void a_resume_sends_only_what_the_other_side_lacks(void **state) {
  (void)state;
  struct holt_lane_out lane = {.base = 10};
  for (int i = 0; i < 5; i++) holt__ring_push(&lane.unacked, holt_msg_new(HOLT_WIRE_EVENT, 1));
  assert_int_equal(holt__lane_out_resume(&lane, 13), 0);
  assert_int_equal(lane.written, 3); /* 14 and 15 follow */
  assert_int_equal(holt__lane_out_resume(&lane, 9), HOLT_EPROTOCOL);
  assert_int_equal(holt__lane_out_resume(&lane, 16), HOLT_EPROTOCOL);
  holt__lane_out_free(&lane);
}

static void messages_dealt_with_out_of_order_are_covered_when_the_row_is_whole(void **state) {
  (void)state;
  struct holt_lane_in lane = {0};
  struct holt_rand rand;
  holt_rand_seed(&rand, 11);
  uint64_t open[300];
  size_t count = 0;
  for (int i = 0; i < 20000; i++) {
    if (count < 300 && holt_rand_below(&rand, 2) == 0) {
      open[count++] = holt__lane_in_receive(&lane, 1);
    } else if (count > 0) {
      size_t at = (size_t)holt_rand_below(&rand, count);
      holt__lane_in_consume(&lane, open[at]);
      open[at] = open[--count];
    }
    uint64_t lowest = lane.received + 1;
    for (size_t j = 0; j < count; j++)
      if (open[j] < lowest) lowest = open[j];
    assert_int_equal(lane.done, lowest - 1);
    assert_int_equal(lane.open_cost, (lane.received - lane.done) * (1 + HOLT_WIRE_HEADER));
  }
  holt__lane_in_free(&lane);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(subjects_are_words_joined_by_dots),
      cmocka_unit_test(wildcards_are_words_of_their_own),
      cmocka_unit_test(a_star_is_one_word_and_an_arrow_one_or_more),
      cmocka_unit_test(subscriptions_are_found_in_the_order_they_were_made),
      cmocka_unit_test_setup_teardown(an_event_is_new_once, setup_origins, teardown_origins),
      cmocka_unit_test_setup_teardown(a_hole_closes_after_five_seconds_and_is_told, setup_origins,
                                      teardown_origins),
      cmocka_unit_test_setup_teardown(numbers_before_the_first_one_seen_close_in_silence, setup_origins,
                                      teardown_origins),
      cmocka_unit_test_setup_teardown(too_many_holes_close_the_oldest_early, setup_origins, teardown_origins),
      cmocka_unit_test_setup_teardown(what_was_dropped_is_given_up_only_where_it_is_missing, setup_origins,
                                      teardown_origins),
      cmocka_unit_test_setup_teardown(with_several_ways_a_dropped_event_may_still_come, setup_origins,
                                      teardown_origins),
      cmocka_unit_test_setup_teardown(a_hole_closes_once_every_link_that_carries_the_origin_has_said_so,
                                      setup_origins, teardown_origins),
      cmocka_unit_test_setup_teardown(a_last_number_shows_that_the_end_is_missing, setup_origins,
                                      teardown_origins),
      cmocka_unit_test_setup_teardown(the_last_number_of_an_unknown_origin_is_no_loss, setup_origins,
                                      teardown_origins),
      cmocka_unit_test_setup_teardown(handled_and_lost_are_all_whatever_the_order, setup_origins,
                                      teardown_origins),
      cmocka_unit_test(acknowledging_the_second_of_four_leaves_two),
      cmocka_unit_test(what_the_other_side_has_takes_its_part_of_the_window_though_it_was_dropped_here),
      cmocka_unit_test(a_resume_sends_only_what_the_other_side_lacks),
      cmocka_unit_test(messages_dealt_with_out_of_order_are_covered_when_the_row_is_whole),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
