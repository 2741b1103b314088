/* Clusters of whole nodes on the virtual machine room: operations, failures; formation: test_cluster_form.c.
 */
#include "base/rand.h"
#include "clusters.h"
#include "env/env_impl.h"

/* --- Stories ------------------------------------------------------------------------------------------- */

static void three_nodes_form_one_cluster_and_share_a_map(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    for (int i = 0; i < 3; i++) {
      start(room, i, 3);
      holt_sim_run(room->sim, seed * 37 % 900); /* at any time */
    }
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    for (int i = 0; i < 3; i++) {
      char key[16], value[16];
      snprintf(key, sizeof key, "k%d", i);
      snprintf(value, sizeof value, "v%d", i);
      assert_int_equal(set(room, i, key, value, 3000), 0);
      assert_string_equal(get(room, i, key), value); /* seen at once where it was set */
    }
    assert_same_state(room, 3);
    assert_string_equal(get(room, 2, "k0"), "v0");
    room_free(room);
  }
}

static void one_node_alone_is_a_cluster_of_one(void **state) {
  (void)state;
  struct room *room = room_new(5);
  start(room, 0, 1);
  ready(room, 0, 5000);
  assert_int_equal(set(room, 0, "a", "1", 1000), 0);
  assert_string_equal(get(room, 0, "a"), "1");
  room_free(room);
}

static void a_leader_that_dies_takes_nothing_acknowledged_along(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    assert_int_equal(set(room, 0, "before", "1", 3000), 0);
    int leader = leader_of(room);
    assert_true(leader >= 0);
    int other = (leader + 1) % 3;
    struct waiting w = {0};
    begin_set(room, other, &w, "during", "2", 10000);
    kill_one(room, leader);
    assert_true(wait(room, &w, 10200));
    assert_int_equal(w.code, 0);
    holt_writer_free(&w.answer);
    assert_string_equal(get(room, other, "before"), "1");
    assert_string_equal(get(room, other, "during"), "2");
    start(room, leader, 3); /* it comes back empty: a new incarnation of its name */
    ready(room, leader, 20000);
    assert_string_equal(get(room, leader, "during"), "2");
    assert_same_state(room, 3);
    struct holt_cluster_status status;
    holt_cluster_status(cluster_of(room, other), &status);
    assert_int_equal(status.member_count, 3);
    room_free(room);
  }
}

static void a_minority_acknowledges_nothing(void **state) {
  (void)state;
  struct room *room = room_new(8);
  for (int i = 0; i < 5; i++) start(room, i, 5);
  for (int i = 0; i < 5; i++) ready(room, i, 10000);
  assert_int_equal(set(room, 0, "x", "1", 3000), 0);
  for (int a = 0; a < 2; a++)
    for (int b = 2; b < 5; b++) {
      holt_sim_cut(room->sim, room->stations[a].name, room->stations[b].name, true);
      holt_sim_cut(room->sim, room->stations[b].name, room->stations[a].name, true);
    }
  holt_sim_run(room->sim, 3000);
  int code = set(room, 0, "x", "minority", 2000);
  assert_true(code == HOLT_ENOLEADER || code == HOLT_EUNKNOWN);
  assert_int_equal(set(room, 3, "x", "majority", 5000), 0);
  for (int a = 0; a < 2; a++)
    for (int b = 2; b < 5; b++) {
      holt_sim_cut(room->sim, room->stations[a].name, room->stations[b].name, false);
      holt_sim_cut(room->sim, room->stations[b].name, room->stations[a].name, false);
    }
  holt_sim_run(room->sim, 20000);
  assert_same_state(room, 5);
  room_free(room);
}

static void a_fourth_node_joins_and_leaves(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 10; seed++) {
    struct room *room = room_new(seed);
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    assert_int_equal(set(room, 0, "a", "1", 3000), 0);
    start(room, 3, 3);
    ready(room, 3, 10000);
    assert_string_equal(get(room, 3, "a"), "1");
    assert_int_equal(set(room, 3, "b", "2", 3000), 0);
    struct holt_cluster_status status;
    holt_sim_run(room->sim, 1000);
    holt_cluster_status(cluster_of(room, 0), &status);
    assert_int_equal(status.member_count, 4);
    int leaver = leader_of(room); /* the hardest one */
    struct waiting w = {0};
    prepare(&w);
    holt_cluster_leave(cluster_of(room, leaver), &w.request, 10000);
    assert_true(wait(room, &w, 10200));
    assert_int_equal(w.code, 0);
    holt_sim_run(room->sim, 3000);
    int left = (leaver + 1) % 4;
    holt_cluster_status(cluster_of(room, left), &status);
    assert_int_equal(status.member_count, 3);
    assert_int_equal(set(room, left, "c", "3", 3000), 0);
    room_free(room);
  }
}

static int count_dialled(struct room *room, int i, const char *address) {
  int count = 0;
  struct holt_links *links = holt_node_links(room->stations[i].node);
  for (struct holt_peer *peer = holt_links_first_peer(links); peer; peer = holt_links_next_peer(links, peer))
    count += strcmp(holt_peer_address(peer), address) == 0;
  return count;
}

static void a_member_that_was_removed_is_dialled_no_longer(void **state) {
  (void)state;
  struct room *room = room_new(3);
  for (int i = 0; i < 4; i++) start(room, i, 3);
  for (int i = 0; i < 4; i++) ready(room, i, 10000);
  assert_int_equal(set(room, 0, "a", "1", 3000), 0);
  kill_one(room, 3);
  holt_sim_run(room->sim, 3 * HOLT_MEET_MS); /* away, and still a member */
  for (int i = 0; i < 3; i++) assert_int_equal(count_dialled(room, i, "n4:7001"), 1);
  struct waiting w = {0};
  prepare(&w);
  holt_cluster_remove(cluster_of(room, 0), &w.request, "n4", 10000);
  assert_true(wait(room, &w, 10200));
  assert_int_equal(w.code, 0);
  holt_sim_run(room->sim, HOLT_MEET_MS + 30000 + 1000);
  for (int i = 0; i < 3; i++) assert_int_equal(count_dialled(room, i, "n4:7001"), 0);
  kill_one(room, 1);
  holt_sim_run(room->sim, 3 * HOLT_MEET_MS);
  start(room, 1, 3);
  ready(room, 1, 10000);
  assert_string_equal(get(room, 1, "a"), "1");
  room_free(room);
}

static void reads_behind_a_barrier_see_what_was_acknowledged_elsewhere(void **state) {
  (void)state;
  struct room *room = room_new(3);
  for (int i = 0; i < 3; i++) start(room, i, 3);
  for (int i = 0; i < 3; i++) ready(room, i, 10000);
  for (int round = 0; round < 50; round++) {
    char value[16];
    snprintf(value, sizeof value, "%d", round);
    assert_int_equal(set(room, round % 3, "a", value, 3000), 0);
    struct waiting w = {0};
    prepare(&w);
    int reader = (round + 1) % 3;
    holt_cluster_barrier(cluster_of(room, reader), &w.request, 3000);
    while (!w.is_done) holt_sim_step(room->sim);
    assert_int_equal(w.code, 0);
    assert_string_equal(get(room, reader, "a"), value);
    holt_writer_free(&w.answer);
  }
  room_free(room);
}

/* Whatever was under way is lost, also the word that opens the session: it is asked again as soon as the link
 * is back, long before an election would be due. */
static void a_link_to_the_leader_that_breaks_holds_calls_up_until_it_is_back(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    int leader = leader_of(room), follower = (leader + 1) % 3;
    for (int round = 0; round < 4; round++) { /* the first opens the session */
      struct waiting w = {0};
      begin_set(room, follower, &w, "a", "1", 700);
      holt_sim_run(room->sim, seed % 4);
      holt_sim_break(room->sim, room->stations[follower].name, room->stations[leader].name);
      assert_true(wait(room, &w, 900));
      if (w.code != 0) fail_msg("seed %d, round %d: %s", (int)seed, round, holt_err_word(w.code));
      assert_int_equal(leader_of(room), leader);
      holt_writer_free(&w.answer);
      holt_sim_run(room->sim, 1000);
    }
    room_free(room);
  }
}

/* The leader takes nothing while it hands over, so the word that opens a session is refused: it is asked
 * again soon, not an election time-out later. The heir stands still, so the leader gives up and goes on. */
static void a_session_refused_while_the_leader_hands_over_opens_soon_after(void **state) {
  (void)state;
  struct room *room = room_new(5);
  for (int i = 0; i < 3; i++) start(room, i, 3);
  for (int i = 0; i < 3; i++) ready(room, i, 10000);
  int leader = leader_of(room), follower = (leader + 1) % 3, heir = (leader + 2) % 3;
  struct waiting over = {0}, w = {0};
  holt_sim_pause(room->sim, room->stations[heir].name, true);
  prepare(&over);
  holt_cluster_transfer(cluster_of(room, leader), &over.request, room->stations[heir].name, 100);
  holt_sim_run(room->sim, 350); /* of 500 in which nothing is taken */
  begin_set(room, follower, &w, "a", "1", 350);
  assert_true(wait(room, &w, 500));
  assert_int_equal(w.code, 0);
  holt_sim_pause(room->sim, room->stations[heir].name, false);
  holt_writer_free(&over.answer);
  holt_writer_free(&w.answer);
  room_free(room);
}

static void all_die_at_once_and_come_back_with_all_that_was_acknowledged(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    room->is_durable = true;
    room->snapshot_entries = seed % 2 ? 10 : 0; /* from the log alone, and from snapshots */
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    for (int k = 0; k < 40; k++) {
      char key[16], value[16];
      snprintf(key, sizeof key, "k%d", k);
      snprintf(value, sizeof value, "v%d", k);
      assert_int_equal(set(room, k % 3, key, value, 3000), 0);
    }
    struct holt_cluster_status before[3], after;
    for (int i = 0; i < 3; i++) holt_cluster_status(cluster_of(room, i), &before[i]);
    for (int i = 0; i < 3; i++) kill_one(room, i);
    holt_sim_run(room->sim, 100);
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    for (int i = 0; i < 3; i++) {
      holt_cluster_status(cluster_of(room, i), &after);
      assert_int_equal(after.cluster_id, before[i].cluster_id);
      assert_int_equal(after.member_id, before[i].member_id); /* the same member, not a new one */
      for (int k = 0; k < 40; k++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "k%d", k);
        snprintf(value, sizeof value, "v%d", k);
        assert_string_equal(get(room, i, key), value);
      }
    }
    assert_int_equal(set(room, 1, "after", "1", 3000), 0);
    assert_same_state(room, 3);
    room_free(room);
  }
}

static void a_late_newcomer_gets_a_snapshot_and_what_followed(void **state) {
  (void)state;
  for (int durable = 0; durable < 2; durable++) {
    struct room *room = room_new(17);
    room->is_durable = durable;
    room->snapshot_entries = 500;
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    for (int k = 0; k < 4000; k += 200) { /* more than the log keeps behind a snapshot */
      struct waiting w[200] = {0};
      for (int j = 0; j < 200; j++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", k + j);
        begin_set(room, 0, &w[j], key, "value", 5000);
      }
      for (int j = 0; j < 200; j++) {
        assert_true(wait(room, &w[j], 5200));
        assert_int_equal(w[j].code, 0);
        holt_writer_free(&w[j].answer);
      }
    }
    start(room, 3, 3);
    ready(room, 3, 10000);
    assert_string_equal(get(room, 3, "k0"), "value");
    assert_string_equal(get(room, 3, "k3999"), "value");
    assert_same_state(room, 4);
    room_free(room);
  }
}

/* What a script does that computes for long: see holt_env_turn_held. */
static void hold(struct room *room, int i, bool is_held) {
  room->stations[i].env->is_held = is_held;
}

static uint64_t term_of(struct room *room, int i, uint64_t *applied) {
  struct holt_cluster_status status;
  holt_cluster_status(cluster_of(room, i), &status);
  if (applied) *applied = status.applied;
  return status.term;
}

static void a_leader_held_by_its_script_leads_on_and_applies_nothing(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    assert_int_equal(set(room, 0, "k", "before", 3000), 0);
    holt_sim_run(room->sim, 1000);
    int leader = leader_of(room), other = (leader + 1) % 3;
    uint64_t before, after, term = term_of(room, leader, &before);
    hold(room, leader, true);
    for (int i = 0; i < 10; i++) {
      assert_int_equal(set(room, other, "k", "meanwhile", 3000), 0);
      holt_sim_run(room->sim, 500);
      assert_string_equal(get(room, leader, "k"), "before");
    }
    assert_int_equal(leader_of(room), leader);
    assert_int_equal(term_of(room, leader, &after), term);
    assert_int_equal(after, before);
    assert_string_equal(get(room, other, "k"), "meanwhile");
    hold(room, leader, false);
    assert_same_state(room, 3);
    assert_string_equal(get(room, leader, "k"), "meanwhile");
    room_free(room);
  }
}

static void applied_waits_for_what_is_committed_here_and_asks_nobody(void **state) {
  (void)state;
  struct room *room = room_new(6);
  for (int i = 0; i < 3; i++) start(room, i, 3);
  for (int i = 0; i < 3; i++) ready(room, i, 10000);
  assert_int_equal(set(room, 0, "k", "before", 3000), 0);
  holt_sim_run(room->sim, 1000);
  int leader = leader_of(room), other = (leader + 1) % 3;
  struct waiting at_once = {0}, later = {0}, late = {0};
  hold(room, leader, true);
  prepare(&at_once);
  holt_cluster_applied(cluster_of(room, leader), &at_once.request, 5000);
  assert_int_equal(set(room, other, "k", "after", 3000), 0);
  holt_sim_run(room->sim, 100);
  assert_true(at_once.is_done && at_once.code == 0); /* nothing was to be applied when it was asked */
  prepare(&later);
  holt_cluster_applied(cluster_of(room, leader), &later.request, 5000);
  prepare(&late);
  holt_cluster_applied(cluster_of(room, leader), &late.request, 50);
  holt_sim_run(room->sim, 1000);
  assert_false(later.is_done);
  assert_true(late.is_done && late.code == HOLT_ETIMEOUT);
  kill_one(room, other);
  kill_one(room, (leader + 2) % 3);
  hold(room, leader, false);
  assert_true(wait(room, &later, 100));
  assert_int_equal(later.code, 0);
  assert_string_equal(get(room, leader, "k"), "after");
  room_free(room);
}

static void a_snapshot_waits_for_a_script_that_holds_the_loop(void **state) {
  (void)state;
  for (int is_durable = 0; is_durable < 2; is_durable++) {
    struct room *room = room_new(31 + (uint64_t)is_durable);
    room->is_durable = is_durable;
    room->snapshot_entries = 50;
    for (int i = 0; i < 3; i++) start(room, i, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 10000);
    assert_int_equal(set(room, 0, "k", "before", 3000), 0);
    holt_sim_run(room->sim, 1000);
    int late = (leader_of(room) + 1) % 3, other = (leader_of(room) + 2) % 3;
    holt_sim_pause(room->sim, room->stations[late].name, true);
    for (int i = 0; i < 300; i++) assert_int_equal(set(room, other, "k", "later", 3000), 0);
    hold(room, late, true);
    holt_sim_pause(room->sim, room->stations[late].name, false);
    holt_sim_run(room->sim, 5000);
    assert_string_equal(get(room, late, "k"), "before");
    hold(room, late, false);
    holt_sim_run(room->sim, 5000);
    struct holt_cluster_status status;
    holt_cluster_status(cluster_of(room, late), &status);
    assert_true(status.snapshot_index > 50); /* it came by a snapshot */
    assert_string_equal(get(room, late, "k"), "later");
    assert_same_state(room, 3);
    room_free(room);
  }
}

/* What a loop over a map holds on to (a share of its tree) while a snapshot takes the place of all of it. */
static void a_loop_sees_its_moment_though_the_state_is_replaced(void **state) {
  (void)state;
  struct room *room = room_new(41);
  room->snapshot_entries = 50;
  for (int i = 0; i < 3; i++) start(room, i, 3);
  for (int i = 0; i < 3; i++) ready(room, i, 10000);
  for (int k = 0; k < 200; k++) {
    char key[16];
    snprintf(key, sizeof key, "k%03d", k);
    assert_int_equal(set(room, 0, key, "old", 3000), 0);
  }
  holt_sim_run(room->sim, 1000);
  int late = (leader_of(room) + 1) % 3, other = (leader_of(room) + 2) % 3;
  struct holt_object *before = holt_collections_find(holt_cluster_collections(cluster_of(room, late)), "m");
  struct holt_tree view = holt_tree_share(&before->tree);
  struct holt_cursor cursor;
  holt_cursor_seek(&cursor, &view, holt_buf(NULL, 0));
  for (int k = 0; k < 50; k++) assert_non_null(holt_cursor_next(&cursor));
  holt_sim_pause(room->sim, room->stations[late].name, true);
  for (int k = 0; k < 300; k++) assert_int_equal(set(room, other, "k100", "new", 3000), 0);
  holt_sim_pause(room->sim, room->stations[late].name, false);
  holt_sim_run(room->sim, 10000); /* replaced, and what it was is freed a piece a turn */
  struct holt_cluster_status status;
  holt_cluster_status(cluster_of(room, late), &status);
  assert_true(status.snapshot_index > 400);
  assert_string_equal(get(room, late, "k100"), "new");
  for (int k = 50; k < 200; k++) {
    struct holt_item *item = holt_cursor_next(&cursor);
    char key[16];
    snprintf(key, sizeof key, "k%03d", k);
    assert_non_null(item);
    assert_memory_equal(holt_item_key(item).data, key, 4);
    assert_memory_equal(holt_item_value(item).data, "old", 3);
  }
  assert_null(holt_cursor_next(&cursor));
  holt_tree_clear(&view);
  room_free(room);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_node_alone_is_a_cluster_of_one),
      cmocka_unit_test(three_nodes_form_one_cluster_and_share_a_map),
      cmocka_unit_test(reads_behind_a_barrier_see_what_was_acknowledged_elsewhere),
      cmocka_unit_test(a_leader_that_dies_takes_nothing_acknowledged_along),
      cmocka_unit_test(a_minority_acknowledges_nothing),
      cmocka_unit_test(a_fourth_node_joins_and_leaves),
      cmocka_unit_test(a_member_that_was_removed_is_dialled_no_longer),
      cmocka_unit_test(a_link_to_the_leader_that_breaks_holds_calls_up_until_it_is_back),
      cmocka_unit_test(a_session_refused_while_the_leader_hands_over_opens_soon_after),
      cmocka_unit_test(all_die_at_once_and_come_back_with_all_that_was_acknowledged),
      cmocka_unit_test(a_leader_held_by_its_script_leads_on_and_applies_nothing),
      cmocka_unit_test(applied_waits_for_what_is_committed_here_and_asks_nobody),
      cmocka_unit_test(a_snapshot_waits_for_a_script_that_holds_the_loop),
      cmocka_unit_test(a_late_newcomer_gets_a_snapshot_and_what_followed),
      cmocka_unit_test(a_loop_sees_its_moment_though_the_state_is_replaced),
  };
  cmocka_set_test_filter(getenv("HOLT_ONLY")); /* a pattern; NULL: all */
  return cmocka_run_group_tests(tests, NULL, NULL);
}
