/* Clusters of whole nodes on the virtual machine room: formation, operations, failures. */
#include "cluster/cluster.h"

#include "env/sim.h"
#include "node/node.h"
#include "unit.h"

enum { NODES_MAX = 7 };

struct station {
  struct room *room;
  char name[16];
  struct holt_env *env;
  struct holt_node *node;
  uint32_t members;
};

struct room {
  struct holt_sim *sim;
  bool is_durable;
  uint64_t snapshot_entries;
  struct station stations[NODES_MAX];
  int count;
};

struct waiting {
  struct holt_cluster_request request;
  bool is_done;
  int code;
  struct holt_writer answer;
  uint64_t number;
};

static void on_end(void *arg, int code, struct holt_buf answer, uint64_t number) {
  struct waiting *w = arg;
  assert_false(w->is_done);
  w->is_done = true;
  w->code = code;
  w->number = number;
  w->answer.len = 0;
  holt_write_bytes(&w->answer, answer.data, answer.len);
}

static void prepare(struct waiting *w) {
  w->is_done = false;
  w->request.cb = on_end;
  w->request.arg = w;
}

static void quiet_closed(void *arg) {
  (void)arg;
}

static void on_cluster(void *arg, const struct holt_cluster_notice *notice) {
  const struct station *s = arg;
  if (getenv("HOLT_VERBOSE") != NULL)
    printf("%6d %s: event %d '%s' '%s' %llu %s\n", (int)holt_sim_now_ms(s->room->sim), s->name, notice->event,
           notice->text, notice->old, (unsigned long long)notice->number,
           notice->err.code ? notice->err.message : "");
}

static const struct holt_node_ops node_ops = {.on_closed = quiet_closed, .on_cluster = on_cluster};

static void start(struct room *room, int i, uint32_t members) {
  struct station *s = &room->stations[i];
  s->room = room;
  s->members = members;
  snprintf(s->name, sizeof s->name, "n%d", i + 1);
  s->env = holt_sim_host(room->sim, s->name);
  struct holt_node_config config = holt_node_defaults();
  config.link.name = s->name;
  config.insecure = true;
  config.cluster.name = "shop";
  config.cluster.members = members;
  if (room->is_durable) config.cluster.directory = "data";
  if (room->snapshot_entries) config.cluster.snapshot_entries = room->snapshot_entries;
  struct holt_err err;
  char address[32];
  if (holt_node_new(s->env, &config, &node_ops, s, &s->node, &err) != 0) fail_msg("%s", err.message);
  snprintf(address, sizeof address, "%s:7001", s->name);
  assert_int_equal(holt_node_listen(s->node, address, NULL, &err), 0);
  for (int k = 0; k < i; k++) { /* a newcomer knows one node at least */
    if (room->stations[k].node == NULL) continue;
    struct holt_peer *peer;
    snprintf(address, sizeof address, "n%d:7001", k + 1);
    assert_int_equal(holt_node_connect(s->node, address, &peer, &err), 0);
    break;
  }
}

/* Its process ends without a word. */
static void kill_one(struct room *room, int i) {
  struct station *s = &room->stations[i];
  holt_node_free(s->node);
  s->node = NULL;
  if (room->is_durable) holt_sim_run(room->sim, 20); /* its files are let go behind the job under way */
  holt_env_free(s->env);
}

static struct room *room_new(uint64_t seed) {
  struct room *room = calloc(1, sizeof *room);
  struct holt_sim_config config = {.seed = seed, .delay_min_us = 100, .delay_max_us = 3000};
  room->sim = holt_sim_new(&config);
  return room;
}

static void room_free(struct room *room) {
  for (int i = 0; i < NODES_MAX; i++)
    if (room->stations[i].node != NULL) kill_one(room, i);
  holt_sim_free(room->sim);
  free(room);
}

static struct holt_cluster *cluster_of(struct room *room, int i) {
  return holt_node_cluster(room->stations[i].node);
}

/* Let time pass until it is done; at most `ms`. */
static bool wait(struct room *room, struct waiting *w, uint64_t ms) {
  for (uint64_t t = 0; t < ms && !w->is_done; t += 5) holt_sim_run(room->sim, 5);
  return w->is_done;
}

static void ready(struct room *room, int i, uint64_t ms) {
  struct waiting w = {0};
  prepare(&w);
  holt_cluster_ready(cluster_of(room, i), &w.request, ms);
  assert_true(wait(room, &w, ms + 100));
  if (w.code != 0) {
    struct holt_cluster_status status;
    holt_cluster_status(cluster_of(room, i), &status);
    fail_msg("%s is not ready (%s): %s, %s of '%s', term %llu, commit %llu, applied %llu, last %llu, %u members",
             room->stations[i].name, holt_err_word(w.code), status.state, status.role, status.leader,
             (unsigned long long)status.term, (unsigned long long)status.commit,
             (unsigned long long)status.applied, (unsigned long long)status.last, status.member_count);
  }
  holt_writer_free(&w.answer);
}

static void command(struct holt_writer *out, uint8_t kind, uint8_t op, const char *key, const char *value) {
  struct holt_command c;
  holt_command_begin(&c, out, false);
  uint8_t object = holt_command_object(&c, kind, kind == HOLT_KIND_MAP ? "m" : "q", holt_buf_text("o"));
  holt_command_op(&c, object, op, holt_buf_text(key), holt_buf_text(value), holt_buf(NULL, 0));
  holt_command_end(&c);
}

static void begin_set(struct room *room, int i, struct waiting *w, const char *key, const char *value,
                      uint64_t ms) {
  struct holt_writer out = {0};
  command(&out, HOLT_KIND_MAP, HOLT_OP_SET, key, value);
  prepare(w);
  holt_cluster_submit(cluster_of(room, i), &w->request, holt_buf(out.data, out.len), ms);
  holt_writer_free(&out);
}

static int set(struct room *room, int i, const char *key, const char *value, uint64_t ms) {
  struct waiting w = {0};
  begin_set(room, i, &w, key, value, ms);
  assert_true(wait(room, &w, ms + 200));
  holt_writer_free(&w.answer);
  return w.code;
}

static const char *get(struct room *room, int i, const char *key) {
  static char text[64];
  struct holt_object *m = holt_collections_find(holt_cluster_collections(cluster_of(room, i)), "m");
  struct holt_item *item = m ? holt_tree_get(&m->tree, holt_buf_text(key)) : NULL;
  if (!item) return "(nothing)";
  snprintf(text, sizeof text, "%.*s", (int)item->value_len, (const char *)holt_item_value(item).data);
  return text;
}

static int leader_of(struct room *room) {
  for (int i = 0; i < NODES_MAX; i++)
    if (room->stations[i].node && holt_cluster_is_leader(cluster_of(room, i))) return i;
  return -1;
}

static void assert_same_state(struct room *room, int count) {
  struct holt_cluster_status first, other;
  holt_sim_run(room->sim, 1000);
  bool has_first = false;
  for (int i = 0; i < count; i++) {
    if (!room->stations[i].node) continue;
    holt_cluster_status(cluster_of(room, i), has_first ? &other : &first);
    if (has_first) {
      assert_int_equal(other.cluster_id, first.cluster_id);
      assert_int_equal(other.applied, first.applied);
      assert_int_equal(other.state_hash, first.state_hash);
    }
    has_first = true;
  }
}

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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_node_alone_is_a_cluster_of_one),
      cmocka_unit_test(three_nodes_form_one_cluster_and_share_a_map),
      cmocka_unit_test(reads_behind_a_barrier_see_what_was_acknowledged_elsewhere),
      cmocka_unit_test(a_leader_that_dies_takes_nothing_acknowledged_along),
      cmocka_unit_test(a_minority_acknowledges_nothing),
      cmocka_unit_test(a_fourth_node_joins_and_leaves),
      cmocka_unit_test(all_die_at_once_and_come_back_with_all_that_was_acknowledged),
      cmocka_unit_test(a_late_newcomer_gets_a_snapshot_and_what_followed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
