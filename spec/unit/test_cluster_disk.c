/* Members whose disks lie or are full: bits turned over in any file while a member is down, folders without
 * room, files that are gone. What was acknowledged stays, the others go on, and the member comes back.
 *
 * HOLT_ONLY='a_full*': these tests only. HOLT_SEEDS: 600 looks at ten times as many places as 60. */
#include "base/rand.h"
#include "clusters.h"
#include "env/sim_disk.h"

enum { WRITES = 60 };

struct story {
  struct room *room;
  struct holt_rand rand;
  int acknowledged;      /* keys k0 … below this were written */
  bool is_unknown[4000]; /* but these may not have been */
  unsigned renewed, kept;
};

/* --- Telling of damage --------------------------------------------------------------------------------- */

static unsigned disk_errors[NODES_MAX];
static char last_error[400];

static void on_told(void *arg, const struct holt_cluster_notice *notice) {
  const struct station *s = arg;
  if (notice->event != HOLT_CLUSTER_DISK_ERROR) return;
  disk_errors[s->name[1] - '1']++;
  snprintf(last_error, sizeof last_error, "%s", notice->err.message);
}

/* --- A cluster with something in it ----------------------------------------------------------------------
 */

static void write_some(struct story *story, int count) {
  for (int i = 0; i < count; i++) {
    char key[16], value[16];
    snprintf(key, sizeof key, "k%d", story->acknowledged);
    snprintf(value, sizeof value, "v%d", story->acknowledged);
    int rc = set(story->room, story->acknowledged % 3, key, value, 10000);
    if (rc != 0) fail_msg("write %d: %s", story->acknowledged, holt_err_word(rc));
    story->acknowledged++;
  }
}

static void assert_has_all(struct story *story, int i) {
  for (int k = 0; k < story->acknowledged; k++) {
    char key[16], value[16];
    snprintf(key, sizeof key, "k%d", k);
    snprintf(value, sizeof value, "v%d", k);
    assert_string_equal(get(story->room, i, key), value);
  }
}

static void begin_story_of(struct story *story, uint64_t seed, uint32_t segment_bytes) {
  memset(story, 0, sizeof *story);
  memset(disk_errors, 0, sizeof disk_errors);
  holt_rand_seed(&story->rand, seed);
  story->room = room_new(seed);
  story->room->is_durable = true;
  story->room->snapshot_entries = 25;
  story->room->segment_bytes = segment_bytes;
  story->room->keep_entries = seed % 2 ? 5 : 0;
  story->room->on_cluster = on_told;
  for (int i = 0; i < 3; i++) start(story->room, i, 3);
  for (int i = 0; i < 3; i++) ready(story->room, i, 20000);
  write_some(story, WRITES);
  holt_sim_run(story->room->sim, 500);
}

static void begin_story(struct story *story, uint64_t seed) {
  begin_story_of(story, seed, 0);
}

static uint64_t member_id(struct room *room, int i) {
  struct holt_cluster_status status;
  holt_cluster_status(cluster_of(room, i), &status);
  return status.member_id;
}

static void assert_whole(struct story *story) {
  for (int i = 0; i < 3; i++) ready(story->room, i, 20000);
  holt_sim_run(story->room->sim, 1000);
  struct holt_cluster_status status;
  for (int i = 0; i < 3; i++) {
    holt_cluster_status(cluster_of(story->room, i), &status);
    assert_int_equal(status.member_count, 3);
    assert_has_all(story, i);
  }
  assert_same_state(story->room, 3);
}

/* --- Bits that turn over ---------------------------------------------------------------------------------
 */

enum place { IN_IDENTITY, IN_SNAPSHOT, IN_LOG };

/* The folder and the file; and up to where it holds anything. */
static uint64_t find_file(struct story *story, int i, uint64_t id, enum place place, char path[64],
                          char name[64]) {
  struct holt_buf bytes = {0};
  snprintf(path, 64, place == IN_LOG ? "data/log-%016llx" : "data", (unsigned long long)id);
  struct holt_sim_disk *disk = holt_sim_disk_of(story->room->sim, story->room->stations[i].name, path);
  snprintf(name, 64, "identity");
  char own[64];
  snprintf(own, sizeof own, "snapshot-%016llx", (unsigned long long)id);
  const char *found;
  for (size_t k = 0; place != IN_IDENTITY && (found = holt_sim_disk_name(disk, k)) != NULL; k++) {
    bool is_it = place == IN_LOG ? strstr(found, ".wal") != NULL && strstr(found, ".tmp") == NULL
                                 : strncmp(found, own, strlen(own)) == 0;
    if (is_it) snprintf(name, 64, "%s", found); /* the last, which is the newest */
  }
  assert_int_equal(holt_sim_disk_view(disk, name, &bytes), 0);
  uint64_t used = bytes.len;
  while (used > 0 && bytes.data[used - 1] == 0) used--;
  return used;
}

/* What a member that is none any more left behind: so much that a thousand of them would fill this memory. */
static void sweep(struct story *story, int i, uint64_t id) {
  char path[64];
  snprintf(path, sizeof path, "data/log-%016llx", (unsigned long long)id);
  struct holt_sim_disk *disk = holt_sim_disk_of(story->room->sim, story->room->stations[i].name, path);
  for (const char *name; (name = holt_sim_disk_name(disk, 0)) != NULL;) holt_sim_disk_lose(disk, name);
}

/* Turn one bit while a member is down: it comes back as somebody else, and everybody has everything. */
static void flip_once(struct story *story, int victim, enum place place, uint64_t at) {
  char path[64], name[64];
  struct room *room = story->room;
  write_some(story, 1);
  uint64_t before = member_id(room, victim);
  kill_one(room, victim);
  holt_sim_run(room->sim, 50);
  uint64_t used = find_file(story, victim, before, place, path, name);
  uint64_t byte = at % used, bit = byte * 8 + holt_rand_below(&story->rand, 8);
  struct holt_sim_disk *disk = holt_sim_disk_of(room->sim, room->stations[victim].name, path);
  assert_int_equal(holt_sim_disk_flip(disk, name, bit), 0);
  memset(disk_errors, 0, sizeof disk_errors);
  start(room, victim, 3);
  ready(room, victim, 20000);
  bool is_renewed = member_id(room, victim) != before;
  if (is_renewed ? disk_errors[victim] != 1 : place != IN_LOG)
    fail_msg("bit %llu of %s/%s: %s, told %u times", (unsigned long long)bit, path, name,
             is_renewed ? "another member" : "the same member", disk_errors[victim]);
  if (is_renewed) assert_non_null(strstr(last_error, "a new member"));
  if (is_renewed) sweep(story, victim, before);
  story->renewed += is_renewed;
  story->kept += !is_renewed;
  for (int i = 0; i < 3; i++)
    if (i != victim) assert_int_equal(disk_errors[i], 0);
  assert_whole(story);
}

static uint64_t scale(void) {
  const char *seeds = getenv("HOLT_SEEDS");
  uint64_t count = seeds ? strtoull(seeds, NULL, 10) : 60;
  return count < 6 ? 6 : count;
}

static void every_byte_of_the_identity_is_watched(void **state) {
  (void)state;
  struct story story;
  begin_story(&story, 11);
  char path[64], name[64];
  uint64_t size = find_file(&story, 0, member_id(story.room, 0), IN_IDENTITY, path, name);
  uint64_t step = scale() < 60 ? 5 : 1;
  for (uint64_t at = 0; at < size; at += step) flip_once(&story, (int)(at % 3), IN_IDENTITY, at);
  assert_int_equal(story.kept, 0);
  room_free(story.room);
}

static void a_bit_in_the_snapshot_makes_a_new_member(void **state) {
  (void)state;
  struct story story;
  begin_story(&story, 12);
  for (uint64_t i = 0; i < scale() * 2; i++)
    flip_once(&story, (int)(i % 3), IN_SNAPSHOT, i < 40 ? i : holt_rand_below(&story.rand, 1 << 30));
  assert_int_equal(story.kept, 0);
  room_free(story.room);
}

static void a_bit_in_the_log_makes_a_new_member_or_undoes_what_was_never_promised(void **state) {
  (void)state;
  struct story story;
  begin_story(&story, 13);
  for (uint64_t i = 0; i < scale() * 2; i++)
    flip_once(&story, (int)(i % 3), IN_LOG, i < 40 ? i * 4 : holt_rand_below(&story.rand, 1 << 30));
  assert_true(story.renewed > story.kept * 10);
  room_free(story.room);
}

/* --- Files that are gone ---------------------------------------------------------------------------------
 */

static void a_member_that_lost_a_file_comes_back_as_a_new_one(void **state) {
  (void)state;
  struct story story;
  begin_story(&story, 14);
  for (int round = 0; round < 9; round++) {
    char path[64], name[64];
    int victim = round % 3;
    uint64_t before = member_id(story.room, victim);
    kill_one(story.room, victim);
    holt_sim_run(story.room->sim, 50);
    find_file(&story, victim, before, (enum place)(round / 3), path, name);
    struct holt_sim_disk *disk = holt_sim_disk_of(story.room->sim, story.room->stations[victim].name, path);
    assert_int_equal(holt_sim_disk_lose(disk, name), 0);
    disk_errors[victim] = 0;
    start(story.room, victim, 3);
    ready(story.room, victim, 20000);
    assert_true(member_id(story.room, victim) != before);
    assert_int_equal(disk_errors[victim], 1);
    assert_whole(&story);
    write_some(&story, 30);
    holt_sim_run(story.room->sim, 500);
  }
  room_free(story.room);
}

/* --- No room ---------------------------------------------------------------------------------------------
 */

static struct holt_sim_disk *disk_of(struct story *story, int i, bool is_log) {
  char path[64];
  snprintf(path, sizeof path, is_log ? "data/log-%016llx" : "data",
           (unsigned long long)member_id(story->room, i));
  return holt_sim_disk_of(story->room->sim, story->room->stations[i].name, path);
}

/* From now on its files may grow by `slack` bytes; SIZE_MAX: by any. */
static void fill_disk(struct story *story, int i, uint64_t slack) {
  bool is_log_only = holt_rand_below(&story->rand, 2); /* where a snapshot fits and a segment does not */
  for (int is_log = 0; is_log < 2; is_log++) {
    struct holt_sim_disk *disk = disk_of(story, i, is_log);
    bool is_free = slack == SIZE_MAX || (is_log_only && !is_log);
    holt_sim_disk_limit(disk, is_free ? 0 : holt_sim_disk_used(disk) + slack + 1);
  }
}

static int write_at(struct story *story, int i, uint64_t ms) {
  static char value[3000];
  char key[16];
  snprintf(key, sizeof key, "k%d", story->acknowledged);
  memset(value, ' ', sizeof value - 1);
  value[snprintf(value, 16, "v%d", story->acknowledged)] = ' ';
  int rc = set(story->room, i, key, value, ms);
  if (rc == 0) story->acknowledged++;
  return rc;
}

static void assert_still_there(struct story *story, int i) {
  for (int k = WRITES; k < story->acknowledged; k++) {
    char key[16], value[16];
    snprintf(key, sizeof key, "k%d", k);
    snprintf(value, sizeof value, "v%d ", k);
    if (!story->is_unknown[k] && strncmp(get(story->room, i, key), value, strlen(value)) != 0)
      fail_msg("%s has '%.20s' under %s", story->room->stations[i].name, get(story->room, i, key), key);
  }
}

static void assert_recovered(struct story *story, const uint64_t ids[3], uint64_t seed) {
  for (int i = 0; i < 3; i++) fill_disk(story, i, SIZE_MAX);
  holt_sim_run(story->room->sim, 5000);
  for (int i = 0; i < 3; i++) {
    ready(story->room, i, 20000);
    int rc = write_at(story, i, 10000);
    if (rc != 0)
      fail_msg("seed %d: no write at %s: %s", (int)seed, story->room->stations[i].name, holt_err_word(rc));
    assert_int_equal(member_id(story->room, i), ids[i]); /* nobody had to be replaced */
  }
  assert_same_state(story->room, 3);
  for (int i = 0; i < 3; i++) assert_still_there(story, i);
}

static void a_full_disk_holds_up_its_own_member_only(void **state) {
  (void)state;
  uint64_t told = 0;
  for (uint64_t seed = 1; seed <= 2 + scale() / 3; seed++) {
    struct story story;
    uint64_t ids[3];
    begin_story_of(&story, seed, 16384);
    for (int i = 0; i < 3; i++) ids[i] = member_id(story.room, i);
    for (int round = 0; round < 3; round++) {
      int full =
          holt_rand_below(&story.rand, 2) ? leader_of(story.room) : (int)holt_rand_below(&story.rand, 3);
      if (full < 0) full = 0;
      fill_disk(&story, full, holt_rand_below(&story.rand, 12000));
      memset(disk_errors, 0, sizeof disk_errors);
      /* few, which it gets entry by entry, or so many that it needs a snapshot */
      int count = holt_rand_below(&story.rand, 2) ? 12 : 60;
      for (int k = 0; k < count; k++) {
        int at = (full + 1 + k % 2) % 3, rc = write_at(&story, at, 20000);
        if (rc != 0) fail_msg("seed %d: a write beside a full member: %s", (int)seed, holt_err_word(rc));
        if (holt_rand_below(&story.rand, 10) == 0)
          fill_disk(&story, full, holt_rand_below(&story.rand, 12000));
      }
      told += disk_errors[full] > 0;
      assert_string_not_equal(get(story.room, full, "k0"), "(nothing)"); /* it can be read */
      fill_disk(&story, full, SIZE_MAX);
      if (holt_rand_below(&story.rand, 2)) assert_recovered(&story, ids, seed);
    }
    assert_recovered(&story, ids, seed);
    room_free(story.room);
  }
  assert_true(told > scale() / 3);
}

static void a_majority_without_room_acknowledges_nothing_and_goes_on_later(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 2 + scale() / 3; seed++) {
    struct story story;
    uint64_t ids[3];
    begin_story_of(&story, 1000 + seed, 16384);
    for (int i = 0; i < 3; i++) ids[i] = member_id(story.room, i);
    int spared = seed % 4 < 3 ? (int)(seed % 4) : -1, refused = 0;
    for (int i = 0; i < 3; i++)
      if (i != spared) fill_disk(&story, i, holt_rand_below(&story.rand, 20000));
    for (int k = 0; k < 30 && refused < 6; k++) {
      int rc = write_at(&story, k % 3, 1500);
      assert_true(rc == 0 || rc == HOLT_EUNKNOWN || rc == HOLT_ENOLEADER || rc == HOLT_EBUSY);
      refused = rc == 0 ? 0 : refused + 1;
      if (rc == HOLT_EUNKNOWN) story.is_unknown[story.acknowledged++] = true;
    }
    assert_int_equal(refused, 6);
    for (int i = 0; i < 3; i++) assert_string_not_equal(get(story.room, i, "k0"), "(nothing)");
    assert_recovered(&story, ids, seed);
    room_free(story.room);
  }
}

static void segments_behind_the_snapshot_are_removed(void **state) {
  (void)state;
  struct story story;
  begin_story_of(&story, 1, 16384);
  for (int k = 0; k < 300; k++) assert_int_equal(write_at(&story, k % 3, 10000), 0);
  holt_sim_run(story.room->sim, 1000);
  for (int i = 0; i < 3; i++)
    assert_true(holt_sim_disk_used(disk_of(&story, i, true)) < 25 * 3000 * 3); /* of 900,000 bytes written */
  room_free(story.room);
}

static void a_newcomer_without_room_joins_once_there_is_some(void **state) {
  (void)state;
  struct story story;
  begin_story_of(&story, 2, 16384);
  story.room->stations[3].room = story.room;
  holt_sim_disk_limit(holt_sim_disk_of(story.room->sim, "n4", "data"), 4096);
  start(story.room, 3, 3); /* its log gets a folder of its own: no room in that one */
  struct holt_sim_disk *log = disk_of(&story, 3, true);
  holt_sim_disk_limit(log, 4096);
  holt_sim_run(story.room->sim, 10000);
  struct holt_cluster_status status;
  holt_cluster_status(cluster_of(story.room, 3), &status);
  assert_string_equal(status.disk, "full");
  assert_int_equal(disk_errors[3], 1);
  holt_sim_disk_limit(log, 0);
  holt_sim_disk_limit(holt_sim_disk_of(story.room->sim, "n4", "data"), 0);
  ready(story.room, 3, 20000);
  holt_cluster_status(cluster_of(story.room, 3), &status);
  assert_string_equal(status.disk, "ok");
  assert_has_all(&story, 3);
  room_free(story.room);
}

/* It begins on its first tick, when the look into its empty folder is hardly over. */
static void one_node_alone_is_a_cluster_of_one_on_disk(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct room *room = room_new(seed);
    room->is_durable = true;
    for (int life = 0; life < 3; life++) {
      start(room, 0, 1);
      ready(room, 0, 5000);
      if (life > 0) assert_string_equal(get(room, 0, "a"), "1");
      assert_int_equal(set(room, 0, "a", "1", 1000), 0);
      if (life < 2) kill_one(room, 0);
    }
    room_free(room);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_node_alone_is_a_cluster_of_one_on_disk),
      cmocka_unit_test(every_byte_of_the_identity_is_watched),
      cmocka_unit_test(a_bit_in_the_snapshot_makes_a_new_member),
      cmocka_unit_test(a_bit_in_the_log_makes_a_new_member_or_undoes_what_was_never_promised),
      cmocka_unit_test(a_full_disk_holds_up_its_own_member_only),
      cmocka_unit_test(a_majority_without_room_acknowledges_nothing_and_goes_on_later),
      cmocka_unit_test(segments_behind_the_snapshot_are_removed),
      cmocka_unit_test(a_newcomer_without_room_joins_once_there_is_some),
      cmocka_unit_test(a_member_that_lost_a_file_comes_back_as_a_new_one),
  };
  cmocka_set_test_filter(getenv("HOLT_ONLY")); /* a pattern; NULL: all */
  return cmocka_run_group_tests(tests, NULL, NULL);
}
