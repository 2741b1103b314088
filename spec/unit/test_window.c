/* The window: what a sender may have unacknowledged in a lane, on both sides of the promise. */
#include "stations.h"

static struct holt_env *far; /* of the strangers */

static void meet_stranger(uint32_t window) {
  x_window = window;
  far = holt_sim_host(room, "x");
  open_x(far, 0);
  say_hello_x(0, 7, 0);
  say_resume_x(0);
  holt_sim_run(room, 100);
  assert_true(status_of(&n0).is_up);
}

/* One event of the stranger, a frame of `size` bytes. */
static void put_event(uint64_t number, size_t size) {
  uint8_t body[4096], payload[4096] = {0};
  struct holt_wire_event wire = {.boot = 6,
                                 .sequence = number,
                                 .origin = holt_buf_text("stranger"),
                                 .subject = holt_buf_text("t"),
                                 .payload = holt_buf(payload, 8)};
  holt_put_u64(payload, number);
  wire.payload.len = size - HOLT_WIRE_HEADER - (holt_wire_event_size(&wire) - 8);
  holt_wire_event_write(body, &wire);
  put_x(0, HOLT_WIRE_EVENT, HOLT_LANE_BUS, body, holt_wire_event_size(&wire));
}

static void who_sends_a_byte_more_than_the_window_is_cut_with_the_reason(void **state) {
  (void)state;
  start_named(&n0, "n0");
  meet_stranger(1000);
  n0.holds = true;
  for (uint64_t i = 1; i <= 10; i++) put_event(i, 100);
  holt_sim_run(room, 2000);
  assert_int_equal(n0.heard_count, 10); /* exactly the window */
  assert_true(status_of(&n0).is_up);
  put_x(0, HOLT_WIRE_EMPTY, HOLT_LANE_BUS, NULL, 0); /* an empty message has a frame too */
  holt_sim_run(room, 200);
  assert_false(status_of(&n0).is_up);
  assert_int_equal(n0.last_err.code, HOLT_EPROTOCOL);
  assert_non_null(strstr(n0.last_err.message, "window of 1000 bytes"));
  assert_int_equal(status_of(&n0).received, 10);
  const char *bye = NULL; /* and was told so */
  for (size_t i = 0; bye == NULL && i + 8 < xs[0].got_len; i++)
    if (memcmp(xs[0].got + i, "protocol", 8) == 0) bye = (const char *)xs[0].got + i;
  assert_non_null(bye);
  holt_stream_close(xs[0].stream, true);
}

static void what_is_dealt_with_gives_room_also_before_it_is_acknowledged(void **state) {
  (void)state;
  start_named(&n0, "n0");
  meet_stranger(1000);
  for (uint64_t i = 1; i <= 200; i++) put_event(i, 100); /* handled at once, acknowledged now and then */
  holt_sim_run(room, 2000);
  assert_int_equal(n0.heard_count, 200);
  assert_true(status_of(&n0).is_up);
  holt_stream_close(xs[0].stream, true);
}

static void one_message_larger_than_the_window_is_taken_and_nothing_beside_it(void **state) {
  (void)state;
  start_named(&n0, "n0");
  meet_stranger(1000);
  n0.holds = true;
  put_event(1, 3000);
  holt_sim_run(room, 200);
  assert_int_equal(n0.heard_count, 1);
  assert_true(status_of(&n0).is_up);
  put_event(2, 60);
  holt_sim_run(room, 200);
  assert_int_equal(n0.heard_count, 1);
  assert_false(status_of(&n0).is_up);
  holt_stream_close(xs[0].stream, true);
}

static void a_hello_that_takes_less_makes_the_sender_send_less(void **state) {
  (void)state;
  start_named(&n0, "n0");
  meet_stranger(1000);
  holt_sim_run(room, 2000);
  size_t before = xs[0].got_len;
  unsigned sent = 0;
  while (sent < 100 && emit_sized(&n0, sent + 1, 80, NULL) == 0) sent++;
  holt_sim_run(room, 500); /* before anything else is said once a second */
  assert_in_range(sent, 5, 12);
  assert_true(xs[0].got_len - before <= 1000);
  holt_stream_close(xs[0].stream, true);
}

/* n0 has kept much more for n1 than a window; n1 holds what it gets, and the connection breaks again and
 * again: each time the rest is sent only as n1 deals with what it has. (n1 would cut a link that brings
 * more.) */
static void a_backlog_of_many_windows_is_resent_as_credit_allows(void **state) {
  (void)state;
  for (unsigned n = 0; n < 2; n++) {
    struct holt_node_config config = settings(n == 0 ? "n0" : "n1");
    config.link.window_bytes = n == 0 ? 100000 : 2000; /* the smaller one counts */
    start(n == 0 ? &n0 : &n1, n == 0 ? "n0" : "n1", &config);
  }
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  holt_sim_break(room, "n0", "n1");
  holt_sim_cut(room, "n0", "n1", true);
  holt_sim_run(room, 50);
  for (uint64_t i = 1; i <= 600; i++) assert_int_equal(emit_sized(&n0, i, 100, NULL), 0);
  holt_sim_cut(room, "n0", "n1", false);
  n1.holds = true;
  unsigned done = 0;
  for (unsigned round = 0; round < 4000 && done < 600; round++) {
    if (round % 7 == 0) holt_sim_break(room, "n0", "n1");
    holt_sim_run(room, 100);
    assert_true(n1.held_count - done <= 2000 / 100);
    for (unsigned k = 0; k < 5 && done < n1.held_count; k++) holt_event_done(n1.held[done++]);
  }
  n1.held_count = 0;
  holt_sim_run(room, 5000);
  assert_heard(&n1, 1, 600);
  assert_int_equal(n0.notices[HOLT_PEER_DROPPED], 0);
  assert_int_equal(status_of(&n0).buffered, 0);
  assert_int_not_equal(n1.last_err.code, HOLT_EPROTOCOL);
}

/* All of it had been sent to a boot that took more; the next one takes less at a time. */
static void what_was_sent_to_one_boot_is_resent_to_the_next_as_that_one_allows(void **state) {
  (void)state;
  start_named(&n0, "n0");
  start_named(&n1, "n1");
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  n1.holds = true;
  for (uint64_t i = 1; i <= 600; i++) assert_int_equal(emit_sized(&n0, i, 100, NULL), 0);
  holt_sim_run(room, 1000);
  assert_int_equal(n1.heard_count, 600);
  kill_station(&n1);
  struct holt_node_config config = settings("n1");
  config.link.window_bytes = 2000;
  start(&n1, "n1", &config);
  n1.holds = true;
  dial(&n1, "n0:7000");
  unsigned done = 0;
  for (unsigned round = 0; round < 200 && done < 600;
       round++) { /* an acknowledgement brings the next at once */
    holt_sim_run(room, 100);
    assert_true(n1.held_count - done <= 2000 / 100);
    for (unsigned k = 0; k < 5 && done < n1.held_count; k++) holt_event_done(n1.held[done++]);
  }
  n1.held_count = 0;
  assert_heard(&n1, 1, 600);
  assert_int_equal(n1.notices[HOLT_PEER_INITIALIZED], 1); /* never cut */
}

/* What was held back by credit when a connection broke stays bounded by buffer_max, however often that
 * happens. */
static void a_peer_that_comes_and_goes_without_taking_anything_costs_bounded_memory(void **state) {
  (void)state;
  for (unsigned n = 0; n < 2; n++) {
    struct holt_node_config config = settings(n == 0 ? "n0" : "n1");
    config.link.window_bytes = 2000;
    config.link.buffer_max = 50;
    start(n == 0 ? &n0 : &n1, n == 0 ? "n0" : "n1", &config);
  }
  n1.holds = true;
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  uint64_t number = 0;
  for (unsigned round = 0; round < 40; round++) {
    holt_sim_break(room, "n0", "n1");
    holt_sim_cut(room, "n0", "n1", true);
    holt_sim_run(room, 50);
    for (unsigned i = 0; i < 50; i++) emit_sized(&n0, ++number, 100, NULL);
    holt_sim_cut(room, "n0", "n1", false);
    holt_sim_run(room, 6000);
    assert_true(status_of(&n0).buffered <= 50 + 20 + 2);
  }
  for (unsigned i = 0; i < n1.held_count; i++) holt_event_done(n1.held[i]);
  n1.holds = false;
  n1.held_count = 0;
  holt_sim_run(room, 20000);
  assert_int_equal(n1.heard_count + n1.lost, number); /* the rest was told */
  assert_int_equal(status_of(&n0).buffered, 0);
}

/* A word about many dropped ranges is cut into pieces that its receiver takes. */
static void a_notice_of_many_ranges_fits_the_frames_of_its_receiver(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  config.link.buffer_max = 8;
  start(&n0, "n0", &config);
  start_named(&n1, "n1");
  config = settings("n2");
  config.link.frame_max = 1024;
  start(&n2, "n2", &config);
  struct holt_peer *peers[2] = {dial(&n1, "n0:7000"), dial(&n2, "n0:7000")};
  (void)peers;
  holt_sim_run(room, 1000);
  holt_sim_break(room, "n0", "n2");
  holt_sim_cut(room, "n0", "n2", true);
  holt_sim_run(room, 50);
  for (unsigned i = 1; i <= 300;
       i++) { /* n1's events and n0's own in turn: each drop is a range of its own */
    emit(&n1, i, i);
    emit(&n0, 1000 + i, 1000 + i);
    if (i % 4 == 0) emit_sized(&n0, 9999, 2000, NULL); /* and what n2 cannot take anyway */
    holt_sim_run(room, 20);
  }
  holt_sim_cut(room, "n0", "n2", false);
  holt_sim_run(room, 20000);
  assert_true(status_of(&n2).is_up);
  assert_int_equal(n2.notices[HOLT_PEER_INITIALIZED], 2);
  assert_int_equal(n2.heard_count + n2.lost, 300 + 300 + 75);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(who_sends_a_byte_more_than_the_window_is_cut_with_the_reason),
      T(what_is_dealt_with_gives_room_also_before_it_is_acknowledged),
      T(one_message_larger_than_the_window_is_taken_and_nothing_beside_it),
      T(a_hello_that_takes_less_makes_the_sender_send_less),
      T(a_backlog_of_many_windows_is_resent_as_credit_allows),
      T(what_was_sent_to_one_boot_is_resent_to_the_next_as_that_one_allows),
      T(a_peer_that_comes_and_goes_without_taking_anything_costs_bounded_memory),
      T(a_notice_of_many_ranges_fits_the_frames_of_its_receiver),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
