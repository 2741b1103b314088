/* How clusters begin: nodes started in any order, wiped, restarted and cut off while they do. */
#include "base/rand.h"
#include "clusters.h"

/* --- Stories ------------------------------------------------------------------------------------------- */

static void wipe_one_as_they_begin(uint64_t seed) {
  struct room *room = room_new(seed);
  struct holt_rand rand;
  holt_rand_seed(&rand, seed);
  int nodes = seed % 3 == 0 ? 5 : 3;
  for (int i = 0; i < nodes; i++) {
    start(room, i, 3);
    holt_sim_run(room->sim, holt_rand_below(&rand, 40));
  }
  int victim = (int)holt_rand_below(&rand, 3);
  for (uint64_t left = 1 + holt_rand_below(&rand, 3); left > 0; left--) {
    holt_sim_run(room->sim, holt_rand_below(&rand, 600));
    kill_one(room, victim); /* with all it knew: without a folder that is a wiped one */
    holt_sim_run(room->sim, holt_rand_below(&rand, 600));
    start(room, victim, 3);
  }
  holt_sim_run(room->sim, 60000);
  for (int i = 0; i < nodes; i++) ready(room, i, 20000);
  assert_same_state(room, nodes); /* of one cluster */
  struct holt_cluster_status status;
  holt_cluster_status(cluster_of(room, 0), &status);
  if (status.member_count != (uint32_t)nodes)
    fail_msg("seed %d: %u members, not %d", (int)seed, status.member_count, nodes);
  room_free(room);
}

/* HOLT_SEED: the first seed; HOLT_SEEDS: how many. */
static void one_cluster_begins_though_a_node_is_wiped_in_between(void **state) {
  (void)state;
  const char *many = getenv("HOLT_SEEDS"), *first = getenv("HOLT_SEED");
  uint64_t from = first ? strtoull(first, NULL, 10) : 1, count = many ? strtoull(many, NULL, 10) : 60;
  for (uint64_t seed = from; seed < from + count; seed++) wipe_one_as_they_begin(seed);
  wipe_one_as_they_begin(677); /* one began alone, one had not seen all pledges, one was wiped */
}

static struct holt_cluster_status status_of(struct room *room, int i) {
  struct holt_cluster_status status;
  holt_cluster_status(cluster_of(room, i), &status);
  return status;
}

static void cut_off(struct room *room, int from, int to, bool is_cut) {
  holt_sim_cut(room->sim, room->stations[from].name, room->stations[to].name, is_cut);
}

static bool is_in_state(struct room *room, int i, const char *word) {
  return strcmp(status_of(room, i).state, word) == 0;
}

static void a_node_that_missed_a_pledge_begins_with_who_saw_them_all(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    bool is_durable = room->is_durable = seed % 2;
    start(room, 0, 3);
    start(room, 1, 3);
    holt_sim_run(room->sim, 1500);
    cut_off(room, 0, 1, true); /* they have met; n2 will not hear the pledge of n1 */
    start(room, 2, 3);
    while (!is_in_state(room, 2, "member")) holt_sim_step(room->sim);
    cut_off(room, 2, 1, true); /* nor that n3 has begun */
    kill_one(room, 0);
    assert_true(is_in_state(room, 1, "forming"));
    struct holt_cluster_status alone = status_of(room, 2);
    if (is_durable) { /* n2 has its pledge on disk, and has heard nobody since */
      kill_one(room, 1);
      start(room, 1, 3);
    }
    cut_off(room, 0, 1, false);
    cut_off(room, 2, 1, false);
    room->is_durable = false; /* n1 comes back wiped */
    start(room, 0, 3);
    room->is_durable = is_durable;
    for (int i = 0; i < 3; i++) ready(room, i, 30000);
    for (int i = 0; i < 3; i++) assert_int_equal(status_of(room, i).cluster_id, alone.cluster_id);
    holt_sim_run(room->sim, 1000);
    assert_int_equal(status_of(room, 1).member_count, 3);
    room_free(room);
  }
}

static void part(struct room *room, int one, int other, bool is_cut) {
  cut_off(room, one, other, is_cut);
  cut_off(room, other, one, is_cut);
}

static bool is_linked(struct room *room, int i, const char *name) {
  struct holt_links *links = holt_node_links(room->stations[i].node);
  for (struct holt_link *link = holt_links_first(links); link; link = holt_links_next(links, link))
    if (holt_link_is_up(link) && strcmp(holt_link_name(link), name) == 0) return true;
  return false;
}

static void who_knows_each_other_by_hearsay_meets_again_after_a_long_parting(void **state) {
  (void)state;
  struct room *room = room_new(5);
  for (int i = 0; i < 3; i++) start(room, i, 5); /* too few to begin; the first one is all that they dial */
  holt_sim_run(room->sim, 5000);
  assert_true(is_linked(room, 1, "n3"));
  part(room, 1, 2, true);
  holt_sim_run(room->sim, 5 * HOLT_MEET_MS); /* the first one still says to each that the other is there */
  assert_false(is_linked(room, 1, "n3"));
  part(room, 1, 2, false);
  holt_sim_run(room->sim, 5000);
  assert_true(is_linked(room, 1, "n3"));
  room_free(room);
}

/* n3 sees all pledges, nobody sees its own: it begins alone, out of sight. The two others give that up, and
 * from then on n3 must not get a vote of theirs, however empty they are: they may already be beginning with
 * somebody else. */
static void who_has_voided_a_set_takes_no_part_in_it(void **state) {
  (void)state;
  unsigned alone_count = 0;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    room->is_durable = seed % 2;
    start(room, 0, 3);
    start(room, 1, 3);
    holt_sim_run(room->sim, 1500);
    part(room, 0, 1, true);
    start(room, 2, 3);
    while (!is_in_state(room, 0, "forming") || !is_in_state(room, 1, "forming")) holt_sim_step(room->sim);
    cut_off(room, 2, 0, true); /* what it says; it still hears */
    cut_off(room, 2, 1, true);
    holt_sim_run(room->sim, 100);
    bool is_alone =
        is_in_state(room, 2, "member") && !is_in_state(room, 0, "member") && !is_in_state(room, 1, "member");
    part(room, 0, 2, true);
    part(room, 1, 2, true);
    part(room, 0, 1, false);
    holt_sim_run(room->sim, 20000); /* they void it */
    is_alone = is_alone && !is_in_state(room, 0, "member") && !is_in_state(room, 1, "member");
    if (is_alone) {
      struct holt_cluster_status alone = status_of(room, 2);
      alone_count++;
      part(room, 0, 2, false);
      part(room, 1, 2, false); /* it hears of it, and starts again as somebody else */
      for (int i = 0; i < 3; i++) ready(room, i, 40000);
      for (int i = 0; i < 3; i++) assert_true(status_of(room, i).cluster_id != alone.cluster_id);
      assert_true(status_of(room, 2).member_id != alone.member_id);
    }
    room_free(room);
  }
  assert_true(alone_count >= 5);
}

/* Until one of three is in that state: which. */
static int wait_for_any(struct room *room, const char *word) {
  for (int steps = 0; steps < 1000000; steps++) {
    for (int i = 0; i < 3; i++)
      if (is_in_state(room, i, word)) return i;
    holt_sim_step(room->sim);
  }
  fail_msg("seed %llu: nobody is '%s'", (unsigned long long)room->seed, word);
  return -1;
}

/* What the log says of that node, at each. */
static void assert_settings(struct room *room, int i, bool can_lead) {
  for (int at = 0; at < 3; at++) {
    struct holt_cluster_status s = status_of(room, at);
    for (uint32_t k = 0; k < s.member_count; k++)
      if (strcmp(s.members[k].name, room->stations[i].name) == 0)
        assert_int_equal(s.members[k].can_lead, can_lead);
  }
}

/* One pledges as one that may lead, and is one that does not by the time it begins. What the others began
 * with is what counts: their logs would differ in the first entry else. Then it asks for what it is now. */
static void settings_may_change_between_pledge_and_begin(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    room->is_durable = true;
    for (int i = 0; i < 3; i++) start(room, i, 3);
    int one = wait_for_any(room, "forming");
    uint64_t id = status_of(room, one).member_id;
    kill_one(room, one);
    room->stations[one].follows = true;
    room->stations[one].priority = 7;
    start(room, one, 3);
    if (one == 0) { /* it knows nobody */
      struct holt_peer *peer;
      struct holt_err err;
      assert_int_equal(holt_node_connect(room->stations[0].node, "n2:7001", &peer, &err), 0);
    }
    for (int i = 0; i < 3; i++) ready(room, i, 20000);
    holt_sim_run(room->sim, 5000);
    assert_int_equal(status_of(room, one).member_id, id);
    assert_settings(room, one, false);
    assert_same_state(room, 3);
    assert_int_equal(set(room, 1, "a", "1", 3000), 0);
    room_free(room);
  }
}

static void a_member_that_starts_with_other_settings_gets_them_or_is_told(void **state) {
  (void)state;
  struct room *room = room_new(4);
  room->is_durable = true;
  for (int i = 0; i < 3; i++) start(room, i, 3);
  for (int i = 0; i < 3; i++) ready(room, i, 10000);
  for (int i = 0; i < 2; i++) {
    kill_one(room, i);
    room->stations[i].follows = true;
    start(room, i, 3);
    ready(room, i, 20000);
    holt_sim_run(room->sim, 5000);
  }
  assert_settings(room, 0, false);
  assert_settings(room, 1, true); /* with two of three nobody could go on after a loss */
  assert_true(leader_of(room) > 0);
  assert_non_null(
      strstr(status_of(room, 1).problem, "did not take its new settings: with 'n2' more than half"));
  room_free(room);
}

static uint32_t pledges_seen;

static void count_pledges(struct room *room, uint64_t ms) {
  for (uint64_t t = 0; t < ms; t += 5) {
    holt_sim_run(room->sim, 5);
    for (int i = 0; i < 3; i++) pledges_seen += is_in_state(room, i, "forming");
  }
}

static void who_cannot_be_led_does_not_even_pledge_and_says_why(void **state) {
  (void)state;
  struct room *room = room_new(12);
  room->stations[0].follows = room->stations[2].follows = true;
  for (int i = 0; i < 3; i++) start(room, i, 3);
  pledges_seen = 0;
  count_pledges(room, 30000);
  assert_int_equal(pledges_seen, 0);
  for (int i = 0; i < 3; i++) {
    struct holt_cluster_status s = status_of(room, i);
    if (!strstr(s.problem, "too many of the 3 nodes") || !strstr(s.problem, "let at least 2 of them lead"))
      fail_msg("n%d says: %s", i + 1, s.problem);
  }
  start(room, 3, 3); /* with a fourth there are enough, whatever its id */
  for (int i = 0; i < 4; i++) ready(room, i, 20000);
  for (int i = 0; i < 4; i++) assert_string_equal(status_of(room, i).problem, "");
  room_free(room);
}

/* Two of three are wiped after they pledged: nobody of the old ids can begin, and it is known that they are
 * lost once others go by their names. Until then it is said who is missing. */
static void a_pledge_ends_when_all_others_of_it_were_wiped(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    room->is_durable = true;
    bool is_begun = seed % 2;
    for (int i = 0; i < 3; i++) start(room, i, 3);
    int left = wait_for_any(room, is_begun ? "member" : "forming");
    int one = (left + 1) % 3, other = (left + 2) % 3;
    uint64_t before = status_of(room, left).cluster_id;
    part(room, left, one, true);
    part(room, left, other, true);
    kill_one(room, one);
    kill_one(room, other);
    room->stations[one].wiped++;
    room->stations[other].wiped++;
    part(room, left, one, false);
    part(room, left, other, false);
    start(room, one, 3);
    holt_sim_run(room->sim, 60000);
    struct holt_cluster_status s = status_of(room, left);
    char words[100];
    snprintf(words, sizeof words, "n%d is not here: start what is missing, with its data or without",
             other + 1);
    if (!strstr(s.problem, is_begun ? "it has begun" : "it has promised to begin") ||
        !strstr(s.problem, words))
      fail_msg("seed %d: n%d says: %s", (int)seed, left + 1, s.problem);
    start(room, other, 3);
    for (int i = 0; i < 3; i++) ready(room, i, 60000);
    assert_same_state(room, 3);
    assert_true(!is_begun || status_of(room, left).cluster_id != before);
    room_free(room);
  }
}

/* The other side of it: one that is only out of sight may hold what was acknowledged. */
static void a_pledge_stands_while_one_that_may_have_begun_is_out_of_sight(void **state) {
  (void)state;
  unsigned count = 0;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    room->is_durable = true;
    for (int i = 0; i < 3; i++) start(room, i, 3);
    int deaf = wait_for_any(room, "forming"), one = (deaf + 1) % 3, other = (deaf + 2) % 3;
    cut_off(room, one, deaf, true);
    cut_off(room, other, deaf, true);
    for (int t = 0; t < 200 && leader_of(room) < 0; t++) holt_sim_run(room->sim, 20);
    if (leader_of(room) >= 0 && is_in_state(room, deaf, "forming")) {
      count++;
      uint64_t cluster_id = status_of(room, one).cluster_id;
      assert_int_equal(set(room, one, "k", "kept", 5000), 0);
      part(room, deaf, other, true);
      part(room, one, other, true);
      kill_one(room, one);
      room->stations[one].wiped++;
      holt_sim_run(room->sim, 60000); /* nothing of what it said is still under way */
      part(room, deaf, one, false);
      start(room, one, 3); /* these two could think that nothing is left; the third has the value */
      holt_sim_run(room->sim, 60000);
      if (!is_in_state(room, deaf, "forming")) {
        struct holt_cluster_status s = status_of(room, deaf);
        fail_msg("seed %d: n%d is %s: %s", (int)seed, deaf + 1, s.state, s.problem);
      }
      part(room, deaf, other, false);
      part(room, one, other, false);
      for (int i = 0; i < 3; i++) ready(room, i, 60000);
      for (int i = 0; i < 3; i++) {
        assert_int_equal(status_of(room, i).cluster_id, cluster_id);
        assert_string_equal(get(room, i, "k"), "kept");
      }
    }
    room_free(room);
  }
  assert_true(count >= 5);
}

/* A majority of the memory is gone: that cannot be mended, but the words say so. */
static void a_majority_that_came_back_empty_is_named(void **state) {
  (void)state;
  struct room *room = room_new(9);
  for (int i = 0; i < 3; i++) start(room, i, 3);
  for (int i = 0; i < 3; i++) ready(room, i, 10000);
  assert_int_equal(set(room, 0, "k", "read me", 3000), 0);
  holt_sim_run(room->sim, 1000);
  for (int i = 1; i < 3; i++) kill_one(room, i);
  for (int i = 1; i < 3; i++) start(room, i, 3);
  holt_sim_run(room->sim, 60000);
  struct holt_cluster_status s = status_of(room, 0);
  if (!strstr(s.problem, "came back without their state") || !strstr(s.problem, "n2"))
    fail_msg("n1 says: %s", s.problem);
  assert_string_equal(get(room, 0, "k"), "read me");
  for (int i = 1; i < 3; i++) { /* they begin nothing beside it */
    assert_false(is_in_state(room, i, "member"));
    assert_string_not_equal(status_of(room, i).problem, "");
  }
  for (int i = 0; i < 3; i++) kill_one(room, i); /* as the words say */
  for (int i = 0; i < 3; i++) start(room, i, 3);
  for (int i = 0; i < 3; i++) ready(room, i, 60000);
  room_free(room);
}

/* --- Any order, any fault ------------------------------------------------------------------------------ */

struct run {
  struct room *room;
  struct holt_rand rand;
  int nodes, members;
  bool is_durable[NODES_MAX];
  bool is_begun; /* somebody stood for election: what is wiped from here on may have held something */
  int wiped, restarted, cut;
};

static bool chance(struct run *run, uint32_t percent) {
  return holt_rand_below(&run->rand, 100) < percent;
}

static int any_node(struct run *run) {
  return (int)holt_rand_below(&run->rand, (uint64_t)run->nodes);
}

static void start_any(struct run *run, int i) {
  struct room *room = run->room;
  if (room->stations[i].node != NULL) return;
  room->is_durable = run->is_durable[i];
  if (chance(run, 20)) room->stations[i].priority = (uint8_t)holt_rand_below(&run->rand, 4);
  start(room, i, (uint32_t)run->members);
  for (int k = 0; k < run->nodes; k++) {
    struct holt_peer *peer;
    struct holt_err err;
    char address[32];
    snprintf(address, sizeof address, "n%d:7001", k + 1);
    if (k != i) (void)holt_node_connect(room->stations[i].node, address, &peer, &err);
  }
}

static void kill_any(struct run *run, int i, bool is_wiped) {
  struct room *room = run->room;
  if (room->stations[i].node == NULL) return;
  room->is_durable = run->is_durable[i];
  kill_one(room, i);
  if (is_wiped || !run->is_durable[i]) run->wiped++;
  if (is_wiped)
    room->stations[i].wiped++;
  else
    run->restarted++;
}

static void look_whether_begun(struct run *run) {
  for (int i = 0; i < run->nodes; i++)
    if (run->room->stations[i].node != NULL && status_of(run->room, i).term > 1) run->is_begun = true;
}

static void heal_all(struct run *run) {
  for (int a = 0; a < run->nodes; a++)
    for (int b = 0; b < a; b++) part(run->room, a, b, false);
}

static void do_fault(struct run *run) {
  int i = any_node(run), j = any_node(run);
  look_whether_begun(run);
  bool may_wipe = !run->is_begun;
  switch (holt_rand_below(&run->rand, 8)) {
  case 0:
  case 1:
    if (may_wipe) kill_any(run, i, true);
    break;
  case 2:
    if (run->is_durable[i] || may_wipe) kill_any(run, i, false);
    break;
  case 3:
    run->cut++;
    if (i != j && chance(run, 50))
      part(run->room, i, j, true);
    else if (i != j)
      cut_off(run->room, i, j, true);
    break;
  case 4:
    run->cut++;
    for (int k = 0; k < run->nodes; k++)
      if (k != i && chance(run, 80)) part(run->room, i, k, true);
    break;
  case 5:
    if (chance(run, 50)) heal_all(run);
    break;
  default:
    start_any(run, i);
  }
}

static void describe(struct run *run) {
  for (int i = 0; i < run->nodes; i++) {
    struct holt_cluster_status s = status_of(run->room, i);
    print_message(
        "n%d %s: %s %s of cluster %llx as %llx, term %llu, last %llu, %u members, leader '%s': %s\n", i + 1,
        run->is_durable[i] ? "on disk" : "in memory", s.state, s.role, (unsigned long long)s.cluster_id,
        (unsigned long long)s.member_id, (unsigned long long)s.term, (unsigned long long)s.last,
        s.member_count, s.leader, s.problem);
  }
}

/* All are in it, and agree about everything. */
static bool is_one(struct run *run, uint64_t *cluster_id) {
  *cluster_id = status_of(run->room, 0).cluster_id;
  for (int i = 0; i < run->nodes; i++) {
    struct holt_cluster_status s = status_of(run->room, i);
    if (s.cluster_id != *cluster_id || strcmp(s.state, "member") != 0 || s.leader[0] == '\0') return false;
    if (s.member_count != (uint32_t)run->nodes || s.applied != s.commit) return false;
  }
  return *cluster_id != 0;
}

/* Every node is of a cluster that works, or says why not; nobody is of two. */
static void check_apart(struct run *run, uint64_t seed) {
  bool is_told = false;
  for (int i = 0; i < run->nodes; i++) {
    struct holt_cluster_status s = status_of(run->room, i);
    if (!s.has_quorum && s.problem[0] == '\0') {
      describe(run);
      fail_msg("seed %llu: n%d is not well and does not say why", (unsigned long long)seed, i + 1);
    }
    is_told = is_told || strstr(s.problem, "belongs to another cluster of the name 'shop'") != NULL;
  }
  if (is_told) return;
  describe(run);
  fail_msg("seed %llu: several clusters, and nobody is told", (unsigned long long)seed);
}

static void run_seed(uint64_t seed, unsigned *ones, unsigned *several) {
  struct run run = {0};
  uint64_t cluster_id;
  bool is_one_in_time = false;
  holt_rand_seed(&run.rand, seed);
  run.room = room_new(seed);
  run.members = chance(&run, 70) ? 3 : chance(&run, 50) ? 2 : 5;
  run.nodes = run.members + (int)holt_rand_below(&run.rand, chance(&run, 80) ? 3 : 5);
  if (run.nodes > NODES_MAX) run.nodes = NODES_MAX;
  for (int i = 0; i < run.nodes; i++) {
    run.is_durable[i] = chance(&run, 50);
    run.room->stations[i].follows = i % 3 == 1 && chance(&run, 30);
  }
  uint64_t pace = 10 + holt_rand_below(&run.rand, 600), faults = 5 + holt_rand_below(&run.rand, 60);
  for (uint64_t k = 0; k < faults; k++) {
    do_fault(&run);
    holt_sim_run(run.room->sim, holt_rand_below(&run.rand, pace));
  }
  heal_all(&run);
  for (int i = 0; i < run.nodes; i++) start_any(&run, i);
  for (int t = 0; t < 180 && !is_one_in_time; t++) {
    holt_sim_run(run.room->sim, 1000);
    is_one_in_time = is_one(&run, &cluster_id);
  }
  /* `members` empty nodes begin, whoever else is out of sight: where a majority of others remains, which may
   * have begun with one that was wiped since, there can be two, each in its own right */
  bool is_room_for_two = run.nodes >= run.members + run.members / 2 + 1;
  bool may_be_several = is_room_for_two && run.cut > 0 && (run.nodes >= 2 * run.members || run.wiped > 0);
  if (is_one_in_time) {
    assert_same_state(run.room, run.nodes);
    ++*ones;
  } else if (may_be_several) {
    check_apart(&run, seed);
    ++*several;
  } else {
    describe(&run);
    fail_msg("seed %llu: %d nodes, members = %d, %d wiped, %d restarted: no cluster of all",
             (unsigned long long)seed, run.nodes, run.members, run.wiped, run.restarted);
  }
  room_free(run.room);
}

/* HOLT_SEED: the first seed; HOLT_SEEDS: how many. */
static void one_cluster_begins_or_it_is_said_why_not(void **state) {
  (void)state;
  const char *many = getenv("HOLT_SEEDS"), *first = getenv("HOLT_SEED");
  uint64_t from = first ? strtoull(first, NULL, 10) : 1, count = many ? strtoull(many, NULL, 10) : 150;
  unsigned ones = 0, several = 0;
  for (uint64_t seed = from; seed < from + count; seed++) run_seed(seed, &ones, &several);
  print_message("%llu seeds: %u times one cluster, %u times several that keep apart\n",
                (unsigned long long)count, ones, several);
  assert_true(ones >= several);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_cluster_begins_though_a_node_is_wiped_in_between),
      cmocka_unit_test(a_node_that_missed_a_pledge_begins_with_who_saw_them_all),
      cmocka_unit_test(who_knows_each_other_by_hearsay_meets_again_after_a_long_parting),
      cmocka_unit_test(who_has_voided_a_set_takes_no_part_in_it),
      cmocka_unit_test(settings_may_change_between_pledge_and_begin),
      cmocka_unit_test(a_member_that_starts_with_other_settings_gets_them_or_is_told),
      cmocka_unit_test(who_cannot_be_led_does_not_even_pledge_and_says_why),
      cmocka_unit_test(a_pledge_ends_when_all_others_of_it_were_wiped),
      cmocka_unit_test(a_pledge_stands_while_one_that_may_have_begun_is_out_of_sight),
      cmocka_unit_test(a_majority_that_came_back_empty_is_named),
      cmocka_unit_test(one_cluster_begins_or_it_is_said_why_not),
  };
  cmocka_set_test_filter(getenv("HOLT_ONLY")); /* a pattern; NULL: all */
  return cmocka_run_group_tests(tests, NULL, NULL);
}
