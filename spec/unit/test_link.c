/* Two or three nodes in a simulated room: handshakes that fail and succeed, buffers, silence, farewells. */
#include "stations.h"

/* --- Coming together ------------------------------------------------------------------------------ */

static void what_is_emitted_before_the_link_stands_arrives_in_order(void **state) {
  (void)state;
  start_pair();
  emit(&n1, 1, 50);
  holt_sim_run(room, 1000);
  assert_heard(&n0, 1, 50);
  assert_int_equal(n1.notices[HOLT_PEER_CONNECT], 1);
  assert_int_equal(n1.notices[HOLT_PEER_PEERID], 1);
  assert_int_equal(n1.notices[HOLT_PEER_INITIALIZED], 1);
  assert_int_equal(n0.notices[HOLT_PEER_INITIALIZED], 1);
  emit(&n0, 7, 9); /* the accepting side may speak too */
  holt_sim_run(room, 1000);
  assert_heard(&n1, 7, 9);
}

static void two_nodes_that_dial_each_other_keep_one_link(void **state) {
  (void)state;
  for (int round = 0; round < 20; round++) {
    start_pair();
    holt_sim_run(room, (uint64_t)round % 5);
    dial(&n0, "n1:7000");
    emit(&n0, 1, 5);
    emit(&n1, 1, 5);
    holt_sim_run(room, 5000);
    assert_int_equal(holt_sim_open_streams(room), 2);
    assert_heard(&n0, 1, 5);
    assert_heard(&n1, 1, 5);
    holt_sim_break(room, "n0", "n1");
    holt_sim_run(room, 70000);
    assert_int_equal(holt_sim_open_streams(room), 2);
    assert_true(status_of(&n0).is_up);
    kill_station(&n0);
    kill_station(&n1);
  }
}

static void the_same_address_is_the_same_peer(void **state) {
  (void)state;
  start_named(&n0, "n0");
  start_named(&n1, "n1");
  assert_ptr_equal(dial(&n1, "n0:7000"), dial(&n1, "n0:7000"));
}

static void another_channel_is_refused_on_both_sides_without_a_storm(void **state) {
  (void)state;
  struct holt_node_config config = settings("n1");
  config.link.channel = "other";
  start_named(&n0, "n0");
  start(&n1, "n1", &config);
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  assert_int_equal(n0.refusal.code, HOLT_ECHANNEL);
  assert_int_equal(n1.last_err.code, HOLT_ECHANNEL);
  assert_non_null(strstr(n1.last_err.message, "'other'"));
  assert_non_null(strstr(n1.last_err.message, "'holt'"));
  holt_sim_run(room, 60000);
  assert_in_range(n0.refused, 1, 5);
}

static void a_node_does_not_link_to_itself(void **state) {
  (void)state;
  start_named(&n0, "n0");
  dial(&n0, "n0:7000");
  holt_sim_run(room, 20000);
  assert_int_equal(n0.last_err.code, HOLT_ESELF);
  assert_int_equal(n0.notices[HOLT_PEER_INITIALIZED], 0);
  assert_in_range(n0.notices[HOLT_PEER_BACKOFF], 1, 3);
  assert_int_equal(n0.refused, 0); /* told once, by the end that dialled */
}

static void a_second_node_of_a_living_name_is_refused(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  struct holt_node_config config = settings("n1");
  start(&n2, "n2", &config);
  dial(&n2, "n0:7000");
  holt_sim_run(room, 5000);
  assert_int_equal(n2.last_err.code, HOLT_ENAMEINUSE);
  assert_int_equal(n0.refusal.code, HOLT_ENAMEINUSE);
  assert_int_equal(n0.notices[HOLT_PEER_DISCONNECT], 0); /* the first one is not disturbed */
  emit(&n0, 1, 3);
  holt_sim_run(room, 1000);
  assert_heard(&n1, 1, 3);
  assert_int_equal(n2.heard_count, 0);
}

static void a_node_of_our_own_name_is_refused(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  start_named(&n0, "n0");
  start(&n2, "n2", &config);
  dial(&n2, "n0:7000");
  holt_sim_run(room, 1000);
  assert_int_equal(n2.last_err.code, HOLT_ENAMEINUSE);
  assert_int_equal(n0.refusal.code, HOLT_ENAMEINUSE);
}

static void one_peer_too_many_is_refused_with_the_reason(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  config.link.max_peers = 1;
  start(&n0, "n0", &config);
  start_named(&n1, "n1");
  start_named(&n2, "n2");
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  dial(&n2, "n0:7000");
  holt_sim_run(room, 1000);
  assert_int_equal(n2.last_err.code, HOLT_EMAXPEERS);
  assert_int_equal(n0.refusal.code, HOLT_EMAXPEERS);
}

/* --- Falling apart -------------------------------------------------------------------------------- */

static void silence_ends_a_link_and_healing_brings_it_back(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  holt_sim_cut(room, "n0", "n1", true);
  holt_sim_cut(room, "n1", "n0", true);
  emit(&n0, 1, 3);
  holt_sim_run(room, 4900);
  assert_int_equal(n1.notices[HOLT_PEER_DISCONNECT], 1);
  assert_int_equal(n1.last_err.code, HOLT_ETIMEOUT);
  holt_sim_cut(room, "n0", "n1", false);
  holt_sim_cut(room, "n1", "n0", false);
  holt_sim_run(room, 70000);
  assert_heard(&n1, 1, 3);
}

static void a_link_with_a_pace_of_its_own_is_missed_and_met_again_within_it(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  struct holt_link *link = holt_links_first(holt_node_links(n1.node));
  holt_link_pace(link, 200, 400);
  holt_sim_run(room, 3000);
  assert_int_equal(n1.notices[HOLT_PEER_DISCONNECT], 0); /* idle, but answered */
  holt_sim_cut(room, "n0", "n1", true);
  holt_sim_cut(room, "n1", "n0", true);
  holt_sim_run(room, 600);
  assert_int_equal(n1.notices[HOLT_PEER_DISCONNECT], 1);
  assert_int_equal(n0.notices[HOLT_PEER_DISCONNECT], 0); /* its own limit is the general one */
  holt_sim_run(room, 60000);
  assert_in_range(n1.notices[HOLT_PEER_BACKOFF], 100, 600); /* a dial that hangs is given up as well */
  holt_sim_cut(room, "n0", "n1", false);
  holt_sim_cut(room, "n1", "n0", false);
  holt_sim_run(room, 500);
  assert_true(status_of(&n1).is_up);
  holt_link_pace(link, 0, 0);
  holt_sim_cut(room, "n0", "n1", true);
  holt_sim_run(room, 1500);
  assert_true(status_of(&n1).is_up); /* as before */
}

static void a_pace_holds_for_the_attempt_under_way(void **state) {
  (void)state;
  start_named(&n0, "n0");
  start_named(&n1, "n1");
  holt_sim_pause(room, "n0", true); /* takes the connection, and says nothing */
  dial(&n1, "n0:7000");
  holt_sim_run(room, 100);
  holt_link_pace(holt_links_first(holt_node_links(n1.node)), 200, 0);
  holt_sim_run(room, 500);
  assert_true(n1.notices[HOLT_PEER_BACKOFF] > 0);
  holt_sim_pause(room, "n0", false);
  holt_sim_run(room, 800);
  assert_true(status_of(&n1).is_up);
}

static void a_half_open_connection_is_replaced(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 500);              /* before the first ping, which would find out */
  holt_sim_cut(room, "n1", "n0", true); /* n1 hears n0, n0 does not hear n1: only n0 gives up by itself … */
  struct holt_link *link = holt_links_first(holt_node_links(n1.node));
  holt_link_reset(link); /* … but n1 loses the connection first, and its reset is lost on the way */
  holt_sim_run(room, 10);
  assert_true(status_of(&n0).is_up);
  holt_sim_cut(room, "n1", "n0", false);
  holt_sim_run(room, 500);
  assert_int_equal(n0.last_err.code, HOLT_EREPLACED);
  emit(&n0, 1, 3);
  holt_sim_run(room, 500);
  assert_heard(&n1, 1, 3);
}

static void an_idle_link_stays_up_by_pings(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  uint64_t before = holt_sim_events(room);
  holt_sim_run(room, 600000);
  assert_int_equal(n0.notices[HOLT_PEER_DISCONNECT], 0);
  /* one second a ping (a quarter of the limit), each with its answer, both ways: a bounded number of events
   */
  assert_in_range(holt_sim_events(room) - before, 600, 6000);
}

static void the_wait_between_attempts_grows_to_its_limit_and_is_reset_by_a_handshake(void **state) {
  (void)state;
  struct holt_node_config config = settings("n1");
  config.link.backoff_min_ms = 100;
  config.link.backoff_max_ms = 1000;
  start(&n1, "n1", &config);
  dial(&n1, "n0:7000"); /* nobody there */
  holt_sim_run(room, 20000);
  assert_true(n1.delay_count > 10);
  for (unsigned i = 0; i < n1.delay_count; i++) assert_true(n1.delays[i] <= (i < 4 ? 100u << i : 1000u));
  assert_in_range(n1.delay_max_ms, 500, 1000);
  start_named(&n0, "n0");
  holt_sim_run(room, 2000);
  assert_int_equal(n1.notices[HOLT_PEER_INITIALIZED], 1);
  unsigned before = n1.delay_count;
  holt_sim_break(room, "n0", "n1");
  holt_sim_run(room, 2000);
  assert_int_equal(n1.delay_count, before + 1);
  assert_true(n1.delays[before] <= 100);
}

static void a_limit_of_two_keeps_the_two_newest_and_tells_the_rest(void **state) {
  (void)state;
  struct holt_node_config config = settings("n1");
  config.link.buffer_max = 2;
  start_named(&n0, "n0");
  start(&n1, "n1", &config);
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  emit(&n1, 1, 1); /* so that n0 knows n1 */
  holt_sim_run(room, 2000);
  holt_sim_cut(room, "n1", "n0", true);
  holt_sim_break(room, "n0", "n1");
  holt_sim_run(room, 100);
  emit(&n1, 2, 6);
  holt_sim_run(room, 1);
  assert_int_equal(n1.notices[HOLT_PEER_DROPPED], 3);
  assert_int_equal(n1.last_err.code, HOLT_EFULL);
  holt_sim_cut(room, "n1", "n0", false);
  holt_sim_run(room, 70000);
  assert_int_equal(n0.heard_count, 3);
  assert_int_equal(n0.heard[1], 5);
  assert_int_equal(n0.heard[2], 6);
  assert_int_equal(n0.lost, 3);
}

static void what_grows_too_old_is_dropped_and_told(void **state) {
  (void)state;
  struct holt_node_config config = settings("n1");
  config.link.buffer_timeout_ms = 10000;
  start_named(&n0, "n0");
  start(&n1, "n1", &config);
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  emit(&n1, 1, 1);
  holt_sim_run(room, 2000);
  holt_sim_cut(room, "n1", "n0", true);
  emit(&n1, 2, 4); /* already sent once: these have their numbers */
  holt_sim_run(room, 9000);
  assert_int_equal(status_of(&n1).buffered, 3);
  emit(&n1, 5, 5);
  holt_sim_run(room, 4000);
  assert_int_equal(n1.notices[HOLT_PEER_DROPPED], 3);
  assert_int_equal(status_of(&n1).dropped, 3);
  holt_sim_cut(room, "n1", "n0", false);
  holt_sim_run(room, 70000);
  assert_int_equal(n0.lost, 3);
  assert_int_equal(n0.heard_count, 2);
  assert_int_equal(n0.heard[1], 5);
}

static void an_absent_node_that_nobody_dials_is_forgotten(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  config.link.buffer_timeout_ms = 5000;
  start(&n0, "n0", &config);
  start_named(&n1, "n1");
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  kill_station(&n1);
  holt_sim_run(room, 1000);
  emit(&n0, 1, 2);
  assert_int_equal(status_of(&n0).buffered, 2);
  holt_sim_run(room, 20000);
  assert_null(holt_links_first(holt_node_links(n0.node)));
  assert_int_equal(n0.notices[HOLT_PEER_CLOSE], 1);
}

static void a_new_boot_of_the_same_name_gets_what_was_not_acknowledged(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  n1.holds = true; /* handlers that never return */
  emit(&n0, 1, 5);
  holt_sim_run(room, 3000);
  assert_int_equal(n1.heard_count, 5);
  kill_station(&n1);
  holt_sim_run(room, 100);
  emit(&n0, 6, 8);
  start_named(&n1, "n1");
  dial(&n1, "n0:7000");
  holt_sim_run(room, 3000);
  assert_heard(&n1, 1, 8); /* at least once: the five were handled before, though never acknowledged */
  assert_int_equal(status_of(&n0).buffered, 0);
}

static void a_handler_of_an_old_session_acknowledges_nothing_of_the_new_one(void **state) {
  (void)state;
  start_named(&n0, "n0");
  start_named(&n1, "n1");
  dial(&n0, "n1:7000");
  n1.holds = true;
  emit(&n0, 1, 2);
  holt_sim_run(room, 1000);
  assert_int_equal(n1.held_count, 2);
  kill_station(&n0);
  start_named(&n0, "n0");
  dial(&n0, "n1:7000");
  emit(&n0, 11, 12);
  holt_sim_run(room, 1000);
  assert_int_equal(n1.held_count, 4);
  holt_event_done(n1.held[0]);
  holt_event_done(n1.held[1]);
  holt_sim_run(room, 5000);
  assert_int_equal(status_of(&n0).acknowledged, 0);
  holt_event_done(n1.held[2]);
  holt_event_done(n1.held[3]);
  n1.held_count = 0;
  holt_sim_run(room, 2000);
  assert_int_equal(status_of(&n0).buffered, 0);
}

/* --- Flow ----------------------------------------------------------------------------------------- */

static void an_emitter_waits_for_credit_and_is_woken_by_it(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  config.link.window_bytes = 10000;
  start(&n0, "n0", &config);
  start_named(&n1, "n1");
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  n1.holds = true;
  unsigned sent = 0;
  while (emit_sized(&n0, sent + 1, 1000, NULL) == 0) {
    sent++;
    holt_sim_run(room, 10);
  }
  assert_int_equal(sent, 9);
  struct holt_bus_waiter waiter = {0};
  woken = 0;
  holt_bus_wait(holt_node_bus(n0.node), &waiter, on_woken, NULL);
  holt_sim_run(room, 500);
  assert_int_equal(woken, 0);
  assert_true(status_of(&n0).is_up); /* waiting is not silence */
  n1.holds = false;
  for (unsigned i = 0; i < n1.held_count; i++) holt_event_done(n1.held[i]);
  n1.held_count = 0;
  holt_sim_run(room, 1100);
  assert_int_equal(woken, 1);
  assert_int_equal(emit_sized(&n0, sent + 1, 1000, NULL), 0);
  holt_sim_run(room, 100);
  assert_heard(&n1, 1, sent + 1);
}

static void one_message_handled_is_room_enough_to_wake_an_emitter(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  config.link.window_bytes = 10000;
  start(&n0, "n0", &config);
  start_named(&n1, "n1");
  dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  n1.holds = true;
  uint64_t sent = 0;
  while (emit_sized(&n0, sent + 1, 1000, NULL) == 0) {
    sent++;
    holt_sim_run(room, 1);
  }
  struct holt_bus_waiter waiter = {0};
  woken = 0;
  holt_bus_wait(holt_node_bus(n0.node), &waiter, on_woken, NULL);
  holt_event_done(n1.held[0]);
  holt_sim_run(room, 50); /* neither an interval nor a stall */
  assert_int_equal(woken, 1);
  for (unsigned i = 1; i < n1.held_count; i++) holt_event_done(n1.held[i]);
  n1.held_count = 0;
}

static void a_peer_without_credit_for_a_second_is_stalled_until_it_takes_something(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  struct holt_err err;
  config.link.window_bytes = 10000;
  start(&n0, "n0", &config);
  start_named(&n1, "n1");
  start_named(&n2, "n2");
  dial(&n1, "n0:7000");
  dial(&n2, "n0:7000");
  holt_sim_run(room, 1000);
  n1.holds = true;
  uint64_t sent = 0;
  while (emit_sized(&n0, sent + 1, 1000, NULL) == 0) {
    sent++;
    holt_sim_run(room, 10);
  }
  struct holt_bus_waiter waiter = {0};
  woken = 0;
  holt_bus_wait(holt_node_bus(n0.node), &waiter, on_woken, NULL);
  holt_sim_run(room, 1500);
  assert_int_equal(woken, 1); /* after a second it goes on without n1 */
  for (int i = 0; i < 5; i++) {
    assert_int_equal(emit_sized(&n0, ++sent, 1000, &err), HOLT_ESTALLED);
    assert_string_equal(err.node, "n1");
    holt_sim_run(room, 10);
  }
  assert_int_equal(n2.heard_count, sent); /* the other one misses nothing */
  assert_int_equal(n1.heard_count, sent - 5);
  assert_int_equal(n0.notices[HOLT_PEER_DROPPED], 5);
  n1.holds = false;
  for (unsigned i = 0; i < n1.held_count; i++) holt_event_done(n1.held[i]);
  n1.held_count = 0;
  holt_sim_run(room, 2000);
  assert_int_equal(emit_sized(&n0, ++sent, 1000, NULL), 0);
  holt_sim_run(room, 2000);
  assert_int_equal(n1.lost, 5);
  assert_int_equal(n1.heard[n1.heard_count - 1], sent);
  for (unsigned i = 1; i < n1.heard_count; i++) assert_true(n1.heard[i] > n1.heard[i - 1]);
}

static void an_emitter_may_wait_for_an_absent_peer(void **state) {
  (void)state;
  struct holt_node_config config = settings("n1");
  config.link.overflow = HOLT_OVERFLOW_WAIT;
  config.link.buffer_max = 3;
  start(&n1, "n1", &config);
  dial(&n1, "n0:7000");
  holt_sim_run(room, 100);
  emit(&n1, 1, 3);
  assert_int_equal(emit_sized(&n1, 4, 8, NULL), HOLT_EAGAIN);
  struct holt_bus_waiter waiter = {0};
  woken = 0;
  holt_bus_wait(holt_node_bus(n1.node), &waiter, on_woken, NULL);
  start_named(&n0, "n0");
  holt_sim_run(room, 60000);
  assert_int_equal(woken, 1);
  emit(&n1, 4, 4);
  holt_sim_run(room, 100);
  assert_heard(&n0, 1, 4);
}

static void an_absent_peer_may_also_mean_an_error(void **state) {
  (void)state;
  struct holt_node_config config = settings("n1");
  struct holt_err err;
  config.link.overflow = HOLT_OVERFLOW_ERROR;
  config.link.buffer_max = 3;
  start(&n1, "n1", &config);
  dial(&n1, "n0:7000");
  emit(&n1, 1, 3);
  assert_int_equal(emit_sized(&n1, 4, 8, &err), HOLT_EFULL);
}

static void a_large_event_passes_and_one_too_large_is_refused_at_once(void **state) {
  (void)state;
  struct holt_err err;
  start_pair();
  holt_sim_run(room, 1000);
  assert_int_equal(emit_sized(&n1, 1, 7 * 1024 * 1024, NULL), 0);
  assert_int_equal(emit_sized(&n1, 2, 9 * 1024 * 1024, &err), HOLT_ETOOLARGE);
  assert_non_null(strstr(err.message, "at most 8388608"));
  holt_sim_run(room, 1000);
  assert_heard(&n0, 1, 1);
}

static void what_was_handled_is_acknowledged_within_the_interval(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  emit(&n1, 1, 10);
  holt_sim_run(room, 1200);
  assert_in_range(status_of(&n1).acknowledged, 10, 11); /* perhaps with the word that 10 was the last */
  holt_sim_run(room, 2000);
  assert_int_equal(status_of(&n1).buffered, 0);
  assert_in_range(n1.notices[HOLT_PEER_ACKNOWLEDGE], 1, 3);
  emit(&n1, 11, 10 + 256); /* and at once after so many */
  holt_sim_run(room, 50);
  assert_int_equal(status_of(&n1).buffered, 0);
}

static void large_messages_are_acknowledged_by_their_bytes(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1500);
  for (int i = 1; i <= 8; i++) assert_int_equal(emit_sized(&n1, (uint64_t)i, 500 * 1024, NULL), 0);
  holt_sim_run(room, 100); /* far less than ack_interval */
  assert_true(status_of(&n1).buffered_bytes < 1024 * 1024);
}

/* --- Farewell ------------------------------------------------------------------------------------- */

static void a_node_that_closes_first_sends_everything(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  emit(&n1, 1, 2000);
  holt_node_close(n1.node);
  assert_int_equal(emit_sized(&n1, 9999, 8, NULL), HOLT_ECLOSED);
  holt_sim_run(room, 1000);
  assert_true(n1.is_closed);
  assert_heard(&n0, 1, 2000);
  assert_int_equal(n0.last_err.code, HOLT_ECLOSED);
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 1);
}

static void a_closing_node_does_not_wait_for_ever(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  n0.holds = true;
  emit(&n1, 1, 5);
  holt_node_close(n1.node);
  holt_sim_run(room, 4000);
  assert_false(n1.is_closed);
  holt_sim_run(room, 2000);
  assert_true(n1.is_closed);
}

static void a_closed_peer_is_not_dialled_again(void **state) {
  (void)state;
  start_named(&n0, "n0");
  start_named(&n1, "n1");
  struct holt_peer *peer = dial(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  holt_peer_close(peer);
  holt_sim_run(room, 60000);
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 1);
  assert_int_equal(n0.notices[HOLT_PEER_INITIALIZED], 1);
  assert_false(status_of(&n0).is_up);
  assert_null(holt_links_first(holt_node_links(n1.node)));
}

static void a_disconnected_node_goes_on_listening(void **state) {
  (void)state;
  start_pair();
  holt_sim_run(room, 1000);
  holt_node_disconnect(n1.node);
  holt_sim_run(room, 60000);
  assert_false(status_of(&n0).is_up);
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 1);
  dial(&n0, "n1:7000");
  emit(&n0, 1, 2);
  holt_sim_run(room, 5000);
  assert_heard(&n1, 1, 2);
}

/* --- Known by hearsay ----------------------------------------------------------------------------- */

static void meet(struct station *s, const char *address) {
  holt_links_meet(holt_node_links(s->node), address);
}

static void an_address_known_by_hearsay_is_dialled_while_somebody_says_so(void **state) {
  (void)state;
  start_named(&n1, "n1");
  for (int i = 0; i < 20; i++) {
    meet(&n1, "n0:7000"); /* nobody there */
    holt_sim_run(room, HOLT_MEET_MS / 2);
  }
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 0);
  assert_int_equal(status_of(&n1).attempts, n1.notices[HOLT_PEER_BACKOFF]);
  holt_sim_run(room, HOLT_MEET_MS + 30000); /* and the longest wait between attempts */
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 1);
  assert_null(holt_links_first(holt_node_links(n1.node)));
  assert_null(holt_links_first_peer(holt_node_links(n1.node)));
  unsigned before = n1.notices[HOLT_PEER_BACKOFF];
  start_named(&n0, "n0");
  holt_sim_run(room, 10 * HOLT_MEET_MS);
  assert_int_equal(n1.notices[HOLT_PEER_BACKOFF], before);
  meet(&n1, "n0:7000");
  holt_sim_run(room, 1000);
  assert_true(status_of(&n1).is_up);
}

static void what_waits_for_a_node_that_is_no_longer_dialled_arrives_once_it_dials(void **state) {
  (void)state;
  start_named(&n0, "n0");
  start_named(&n1, "n1");
  meet(&n1, "n0:7000");
  emit(&n1, 1, 1);
  holt_sim_run(room, 2 * HOLT_MEET_MS); /* it is linked: nobody needs to say so again */
  assert_heard(&n0, 1, 1);
  kill_station(&n0);
  emit(&n1, 2, 5);
  holt_sim_run(room, HOLT_MEET_MS / 2);
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 0);
  holt_sim_run(room, HOLT_MEET_MS / 2 + 30000);
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 1);
  assert_string_equal(status_of(&n1).name, "n0");
  start_named(&n0, "n0");
  holt_sim_run(room, 2 * HOLT_MEET_MS);
  assert_int_equal(n0.heard_count, 0);
  dial(&n0, "n1:7000");
  holt_sim_run(room, 1000);
  assert_heard(&n0, 2, 5);
}

static void an_address_that_a_person_gave_is_dialled_for_ever(void **state) {
  (void)state;
  start_named(&n1, "n1");
  meet(&n1, "n0:7000");
  dial(&n1, "n0:7000");
  dial(&n1, "n2:7000");
  meet(&n1, "n2:7000");
  holt_sim_run(room, 10 * HOLT_MEET_MS);
  assert_int_equal(n1.notices[HOLT_PEER_CLOSE], 0);
  start_named(&n0, "n0");
  start_named(&n2, "n2");
  holt_sim_run(room, 30000);
  assert_int_equal(n1.notices[HOLT_PEER_INITIALIZED], 2);
}

/* --- Strangers ------------------------------------------------------------------------------------ */

static struct stranger stranger;

/* Send bytes to n0 as somebody who is no node; returns when n0 has answered or hung up. */
static void say_to_n0(struct holt_env *env, const void *bytes, size_t len) {
  memset(&stranger, 0, sizeof stranger);
  holt_env_dial(env, "n0:7000", stranger_dialled, &stranger);
  holt_sim_run(room, 50);
  (void)holt_stream_write(stranger.stream, bytes, len);
  holt_sim_run(room, 200);
}

static void hang_up(void) {
  holt_stream_close(stranger.stream, true);
  holt_sim_run(room, 100);
}

static size_t hello_frame(uint8_t out[512], uint16_t version) {
  struct holt_hello hello = {.version = version,
                             .id = 5,
                             .boot = 6,
                             .connection = 7,
                             .timeout_ms = 60000,
                             .frame_max = 1 << 20,
                             .name = "stranger",
                             .channel = "holt"};
  struct holt_writer body = {0};
  holt_hello_write(&body, &hello);
  struct holt_frame frame = {.len = (uint32_t)body.len, .type = HOLT_WIRE_HELLO, .lane = HOLT_LANE_CONTROL};
  holt_frame_write(out, &frame);
  memcpy(out + HOLT_WIRE_HEADER, body.data, body.len);
  size_t len = HOLT_WIRE_HEADER + body.len;
  holt_writer_free(&body);
  return len;
}

static void assert_n0_lives(void) {
  start_named(&n1, "n1");
  dial(&n1, "n0:7000");
  unsigned before = n0.heard_count;
  emit(&n1, 1, 3);
  holt_sim_run(room, 2000);
  assert_int_equal(n0.heard_count, before + 3);
}

static void another_version_is_refused_in_words(void **state) {
  (void)state;
  uint8_t bytes[512];
  start_named(&n0, "n0");
  struct holt_env *env = holt_sim_host(room, "x");
  say_to_n0(env, bytes, hello_frame(bytes, 77));
  struct holt_frame frame;
  struct holt_reason reason;
  assert_int_equal(holt_frame_read(stranger.got, 1000, &frame, NULL), 0);
  assert_int_equal(frame.type, HOLT_WIRE_REFUSE);
  assert_int_equal(holt_reason_read(holt_buf(stranger.got + HOLT_WIRE_HEADER, frame.len), &reason, NULL), 0);
  assert_string_equal(reason.word, "wrong_version");
  assert_int_equal(n0.refusal.code, HOLT_EVERSION);
  hang_up();
  assert_n0_lives();
}

static void garbage_is_refused_and_the_node_lives_on(void **state) {
  (void)state;
  static const char *const junk[] = {
      "GET / HTTP/1.1\r\nHost: otter\r\n\r\n", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
      "\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00\x00", "{\"json\":true}........"};
  start_named(&n0, "n0");
  struct holt_env *env = holt_sim_host(room, "x");
  for (size_t i = 0; i < sizeof junk / sizeof junk[0]; i++) {
    say_to_n0(env, junk[i], i == 0 || i == 3 ? strlen(junk[i]) : 12);
    assert_int_equal(stranger.ended, HOLT_EEOF);
    assert_int_equal(n0.refused, i + 1);
    assert_int_equal(n0.refusal.code, HOLT_EPROTOCOL);
    hang_up();
  }
  assert_n0_lives();
}

static void a_message_out_of_place_is_refused(void **state) {
  (void)state;
  uint8_t bytes[1024];
  start_named(&n0, "n0");
  struct holt_env *env = holt_sim_host(room, "x");
  size_t len = hello_frame(bytes, HOLT_WIRE_VERSION);
  len += hello_frame(bytes + len, HOLT_WIRE_VERSION); /* a second hello */
  say_to_n0(env, bytes, len);
  assert_int_equal(n0.refusal.code, HOLT_EPROTOCOL);
  hang_up();
  len = hello_frame(bytes, HOLT_WIRE_VERSION);
  struct holt_frame event = {.len = 0, .type = HOLT_WIRE_EVENT, .lane = HOLT_LANE_BUS};
  holt_frame_write(bytes + len, &event); /* an event before the handshake is finished */
  say_to_n0(env, bytes, len + HOLT_WIRE_HEADER);
  assert_int_equal(n0.refused, 2);
  hang_up();
  assert_n0_lives();
}

static void who_says_nothing_is_given_up_in_time(void **state) {
  (void)state;
  start_named(&n0, "n0");
  struct holt_env *env = holt_sim_host(room, "x");
  say_to_n0(env, "\x10", 1); /* the beginning of a frame, and then nothing */
  holt_sim_run(room, 5000);
  assert_int_equal(n0.refusal.code, HOLT_ETIMEOUT);
  hang_up();
}

static void bytes_may_come_one_at_a_time(void **state) {
  (void)state;
  holt_sim_free(room);
  struct holt_sim_config config = {.seed = 3, .delay_max_us = 10, .chunk_max = 1};
  room = holt_sim_new(&config);
  start_pair();
  emit(&n1, 1, 100);
  holt_sim_run(room, 1000);
  emit(&n0, 1, 100);
  holt_sim_run(room, 5000);
  assert_heard(&n0, 1, 100);
  assert_heard(&n1, 1, 100);
}

static void listening_outside_this_machine_needs_a_word(void **state) {
  (void)state;
  struct holt_node_config config = settings("n0");
  struct holt_err err;
  config.insecure = false;
  start(&n0, "n0", &config);
  assert_int_equal(holt_node_listen(n0.node, "0.0.0.0:7001", NULL, &err), HOLT_EINSECURE);
  assert_non_null(strstr(err.message, "insecure"));
  assert_int_equal(holt_node_listen(n0.node, "127.0.0.1:7001", NULL, &err), 0);
  assert_int_equal(holt_node_listen(n0.node, "127.0.0.1:7001", NULL, &err), HOLT_EINUSE);
  assert_int_equal(holt_node_listen(n0.node, "no port", NULL, &err), HOLT_EADDRESS);
}

static void settings_out_of_range_are_refused_in_words(void **state) {
  (void)state;
  struct holt_node *node;
  struct holt_err err;
  struct holt_env *env = holt_sim_host(room, "x");
  struct holt_node_config config = settings("a name with spaces");
  assert_int_equal(holt_node_new(env, &config, &ops, &n0, &node, &err), HOLT_EINVAL);
  config = settings("x");
  config.link.channel = "";
  assert_int_equal(holt_node_new(env, &config, &ops, &n0, &node, &err), HOLT_EINVAL);
  config = settings("x");
  config.transport = "tpc";
  assert_int_equal(holt_node_new(env, &config, &ops, &n0, &node, &err), HOLT_EINVAL);
  assert_non_null(strstr(err.message, "tcp, unix, memory"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(what_is_emitted_before_the_link_stands_arrives_in_order),
      T(two_nodes_that_dial_each_other_keep_one_link),
      T(the_same_address_is_the_same_peer),
      T(another_channel_is_refused_on_both_sides_without_a_storm),
      T(a_node_does_not_link_to_itself),
      T(a_second_node_of_a_living_name_is_refused),
      T(a_node_of_our_own_name_is_refused),
      T(one_peer_too_many_is_refused_with_the_reason),
      T(silence_ends_a_link_and_healing_brings_it_back),
      T(a_link_with_a_pace_of_its_own_is_missed_and_met_again_within_it),
      T(a_pace_holds_for_the_attempt_under_way),
      T(a_half_open_connection_is_replaced),
      T(an_idle_link_stays_up_by_pings),
      T(the_wait_between_attempts_grows_to_its_limit_and_is_reset_by_a_handshake),
      T(a_limit_of_two_keeps_the_two_newest_and_tells_the_rest),
      T(what_grows_too_old_is_dropped_and_told),
      T(an_absent_node_that_nobody_dials_is_forgotten),
      T(a_new_boot_of_the_same_name_gets_what_was_not_acknowledged),
      T(a_handler_of_an_old_session_acknowledges_nothing_of_the_new_one),
      T(an_emitter_waits_for_credit_and_is_woken_by_it),
      T(one_message_handled_is_room_enough_to_wake_an_emitter),
      T(a_peer_without_credit_for_a_second_is_stalled_until_it_takes_something),
      T(an_emitter_may_wait_for_an_absent_peer),
      T(an_absent_peer_may_also_mean_an_error),
      T(a_large_event_passes_and_one_too_large_is_refused_at_once),
      T(what_was_handled_is_acknowledged_within_the_interval),
      T(large_messages_are_acknowledged_by_their_bytes),
      T(a_node_that_closes_first_sends_everything),
      T(a_closing_node_does_not_wait_for_ever),
      T(a_closed_peer_is_not_dialled_again),
      T(a_disconnected_node_goes_on_listening),
      T(an_address_known_by_hearsay_is_dialled_while_somebody_says_so),
      T(what_waits_for_a_node_that_is_no_longer_dialled_arrives_once_it_dials),
      T(an_address_that_a_person_gave_is_dialled_for_ever),
      T(another_version_is_refused_in_words),
      T(garbage_is_refused_and_the_node_lives_on),
      T(a_message_out_of_place_is_refused),
      T(who_says_nothing_is_given_up_in_time),
      T(bytes_may_come_one_at_a_time),
      T(listening_outside_this_machine_needs_a_word),
      T(settings_out_of_range_are_refused_in_words),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
