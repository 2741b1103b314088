/* The seam's files: the same story on the real machine and on a simulated host; then what only a simulated
 * disk can do. */
#include <sys/stat.h>
#include <unistd.h>

#include "env/env.h"
#include "env/file.h"
#include "env/sim.h"
#include "env/sim_disk.h"
#include "env/uv.h"
#include "folder.h"
#include "unit.h"

/* --- Two machines --------------------------------------------------------------------------------- */

struct machine {
  struct holt_env *env;
  struct holt_sim *sim; /* NULL: the real one */
  char path[200];
};

static void begin_uv(struct machine *m) {
  *m = (struct machine){.env = holt_env_uv_new()};
  assert_non_null(m->env);
  folder_new(m->path);
}

static void begin_sim(struct machine *m) {
  struct holt_sim_config config = {.seed = 5, .disk_min_us = 100, .disk_max_us = 900};
  *m = (struct machine){.sim = holt_sim_new(&config), .path = "data"};
  m->env = holt_sim_host(m->sim, "n1");
}

static void end(struct machine *m) {
  holt_env_free(m->env);
  if (m->sim != NULL)
    holt_sim_free(m->sim);
  else
    folder_remove(m->path);
}

static void turn_until(struct machine *m, const unsigned *count, unsigned wanted) {
  for (int i = 0; i < 100000 && *count < wanted; i++) holt_env_turn(m->env, true);
  assert_int_equal(*count, wanted);
}

static struct holt_dir *open_dir(struct machine *m) {
  struct holt_dir *dir = NULL;
  struct holt_err err = {0};
  assert_int_equal(holt_dir_open(m->env, m->path, &dir, &err), 0);
  return dir;
}

static unsigned closed_count;
static void on_closed(void *arg) {
  (void)arg;
  closed_count++;
}

static void close_dir(struct machine *m, struct holt_dir *dir) {
  closed_count = 0;
  holt_dir_close(dir, on_closed, NULL);
  assert_int_equal(closed_count, 0); /* never inside the call */
  turn_until(m, &closed_count, 1);
}

/* --- Jobs ----------------------------------------------------------------------------------------- */

struct outcome {
  unsigned count;
  int statuses[8];
  size_t failed[8];
  struct holt_dir *close_in_cb;
};

static void on_job(struct holt_file_job *job, int status) {
  struct outcome *outcome = job->arg;
  outcome->statuses[outcome->count] = status;
  outcome->failed[outcome->count++] = job->failed;
  if (outcome->close_in_cb != NULL) {
    holt_dir_close(outcome->close_in_cb, on_closed, NULL);
    outcome->close_in_cb = NULL;
  }
}

static void submit(struct holt_dir *dir, struct holt_file_job *job, const struct holt_file_op *ops,
                   size_t count, struct outcome *outcome) {
  *job = (struct holt_file_job){.ops = ops, .count = count, .cb = on_job, .arg = outcome};
  unsigned before = outcome->count;
  holt_dir_submit(dir, job);
  assert_int_equal(outcome->count, before); /* never inside the call */
}

static void writes_names_and_reads_on(struct machine *m) {
  struct holt_dir *dir = open_dir(m);
  struct outcome outcome = {0};
  struct holt_file_job first, second;
  char back[6] = "";
  const struct holt_file_op make[] = {
      {.type = HOLT_FILE_CREATE, .name = "a.tmp"},
      {.type = HOLT_FILE_ALLOCATE, .name = "a.tmp", .len = 5000},
      {.type = HOLT_FILE_WRITE, .name = "a.tmp", .offset = 100, .data = "hello", .len = 5},
      {.type = HOLT_FILE_SYNC, .name = "a.tmp"},
      {.type = HOLT_FILE_RENAME, .name = "a.tmp", .to = "a"},
      {.type = HOLT_FILE_CREATE, .name = "b"},
      {.type = HOLT_FILE_CREATE, .name = "c"},
      {.type = HOLT_FILE_UNLINK, .name = "c"},
      {.type = HOLT_FILE_UNLINK, .name = "never there"},
      {.type = HOLT_FILE_SYNC_DIR},
  };
  const struct holt_file_op look[] = {
      {.type = HOLT_FILE_READ, .name = "a", .offset = 100, .into = back, .len = 5},
      {.type = HOLT_FILE_WRITE, .name = "a", .offset = 4998, .data = "beyond", .len = 6},
  };
  submit(dir, &first, make, 10, &outcome);
  submit(dir, &second, look, 2, &outcome);
  turn_until(m, &outcome.count, 2);
  assert_int_equal(outcome.statuses[0], 0);
  assert_int_equal(outcome.statuses[1], 0);
  assert_string_equal(back, "hello");
  char **names;
  size_t count;
  uint64_t size;
  assert_int_equal(holt_dir_list(dir, &names, &count, NULL), 0);
  assert_int_equal(count, 2);
  assert_string_equal(names[0], "a");
  assert_string_equal(names[1], "b");
  free(names);
  assert_int_equal(holt_dir_size(dir, "a", &size, NULL), 0);
  assert_int_equal(size, 5004);
  struct holt_writer all = {0};
  assert_int_equal(holt_dir_read(dir, "a", 5003, &all, NULL), HOLT_ETOOLARGE);
  assert_int_equal(holt_dir_read(dir, "a", 5004, &all, NULL), 0);
  assert_int_equal(all.len, 5004);
  assert_memory_equal(all.data + 4998, "beyond", 6);
  assert_int_equal(all.data[3000], 0);
  holt_writer_free(&all);
  close_dir(m, dir);
}

static void stops_at_the_first_failure(struct machine *m) {
  struct holt_dir *dir = open_dir(m);
  struct outcome outcome = {0};
  struct holt_file_job job;
  char byte;
  const struct holt_file_op ops[] = {
      {.type = HOLT_FILE_CREATE, .name = "x"},
      {.type = HOLT_FILE_READ, .name = "x", .into = &byte, .len = 1},
      {.type = HOLT_FILE_UNLINK, .name = "x"},
  };
  submit(dir, &job, ops, 3, &outcome);
  turn_until(m, &outcome.count, 1);
  assert_int_equal(outcome.statuses[0], HOLT_EEOF);
  assert_int_equal(outcome.failed[0], 1);
  uint64_t size = 7;
  assert_int_equal(holt_dir_size(dir, "x", &size, NULL), 0); /* what stood behind it was not done */
  assert_int_equal(size, 0);
  struct holt_err err = {0};
  const struct holt_file_op missing = {.type = HOLT_FILE_SYNC, .name = "missing"};
  assert_int_equal(holt_dir_run(dir, &missing, 1, &err), HOLT_ENOTFOUND);
  assert_non_null(strstr(err.message, "missing: not found"));
  close_dir(m, dir);
}

static void one_at_a_time_may_open_it(struct machine *m) {
  struct holt_dir *dir = open_dir(m), *other = NULL;
  struct holt_err err = {0};
  assert_int_equal(holt_dir_open(m->env, m->path, &other, &err), HOLT_ELOCKED);
  assert_non_null(strstr(err.message, "in use by another process"));
  close_dir(m, dir);
  close_dir(m, open_dir(m));
}

static void closing_lets_the_job_under_way_end_and_cancels_those_that_wait(struct machine *m) {
  struct holt_dir *dir = open_dir(m);
  struct outcome outcome = {0};
  struct holt_file_job jobs[3];
  const struct holt_file_op op = {.type = HOLT_FILE_CREATE, .name = "once"};
  for (int i = 0; i < 3; i++) submit(dir, &jobs[i], &op, 1, &outcome);
  closed_count = 0;
  holt_dir_close(dir, on_closed, NULL);
  turn_until(m, &closed_count, 1);
  assert_int_equal(outcome.count, 3);
  assert_int_equal(outcome.statuses[0], 0);
  assert_int_equal(outcome.statuses[1], HOLT_ECANCELED);
  assert_int_equal(outcome.statuses[2], HOLT_ECANCELED);
  dir = open_dir(m);
  outcome.count = 0;
  outcome.close_in_cb = dir;
  closed_count = 0;
  submit(dir, &jobs[0], &op, 1, &outcome);
  turn_until(m, &closed_count, 1); /* closed from inside its own callback */
  assert_int_equal(outcome.statuses[0], 0);
}

static void an_env_may_be_freed_with_a_job_under_way(struct machine *m) {
  struct holt_dir *dir = open_dir(m);
  static struct outcome outcome;
  static struct holt_file_job jobs[2];
  static const struct holt_file_op op = {.type = HOLT_FILE_SYNC_DIR};
  outcome.count = 0;
  submit(dir, &jobs[0], &op, 1, &outcome);
  submit(dir, &jobs[1], &op, 1, &outcome);
  holt_env_free(m->env); /* waits for it, and calls nobody */
  assert_int_equal(outcome.count, 0);
  m->env = m->sim != NULL ? holt_sim_host(m->sim, "n1") : holt_env_uv_new();
  close_dir(m, open_dir(m)); /* the lock went with it */
}

#define ON_BOTH(story)                                                                                       \
  static void story##_on_the_real_machine(void **state) {                                                    \
    struct machine m;                                                                                        \
    (void)state;                                                                                             \
    begin_uv(&m);                                                                                            \
    story(&m);                                                                                               \
    if (m.sim == NULL) assert_int_equal(holt_env_uv_open(m.env).dirs, 0);                                    \
    end(&m);                                                                                                 \
  }                                                                                                          \
  static void story##_on_a_simulated_one(void **state) {                                                     \
    struct machine m;                                                                                        \
    (void)state;                                                                                             \
    begin_sim(&m);                                                                                           \
    story(&m);                                                                                               \
    end(&m);                                                                                                 \
  }

ON_BOTH(writes_names_and_reads_on)
ON_BOTH(stops_at_the_first_failure)
ON_BOTH(one_at_a_time_may_open_it)
ON_BOTH(closing_lets_the_job_under_way_end_and_cancels_those_that_wait)
ON_BOTH(an_env_may_be_freed_with_a_job_under_way)

static void the_loop_does_not_wait_for_the_disk(void **state) {
  (void)state;
  struct machine m;
  begin_uv(&m);
  struct holt_dir *dir = open_dir(&m);
  struct outcome outcome = {0};
  struct holt_file_job job;
  static uint8_t block[1 << 20];
  struct holt_file_op ops[40] = {{.type = HOLT_FILE_CREATE, .name = "big"}};
  for (int i = 1; i < 39; i++)
    ops[i] = (struct holt_file_op){.type = HOLT_FILE_WRITE,
                                   .name = "big",
                                   .offset = (uint64_t)i << 20,
                                   .data = block,
                                   .len = sizeof block};
  ops[39] = (struct holt_file_op){.type = HOLT_FILE_SYNC, .name = "big"};
  submit(dir, &job, ops, 40, &outcome);
  unsigned turns = 0;
  for (; outcome.count == 0; turns++) holt_env_turn(m.env, false);
  assert_int_equal(outcome.statuses[0], 0);
  assert_true(turns > 10);
  close_dir(&m, dir);
  end(&m);
}

static void folders_are_made_with_their_parents_for_the_owner_alone(void **state) {
  (void)state;
  struct machine m;
  begin_uv(&m);
  char base[200];
  snprintf(base, sizeof base, "%s", m.path);
  snprintf(m.path, sizeof m.path, "%.150s/one/two", base);
  close_dir(&m, open_dir(&m));
  struct stat info;
  assert_int_equal(stat(m.path, &info), 0);
  assert_int_equal(info.st_mode & 0777, 0700);
  struct holt_dir *dir;
  struct holt_err err = {0};
  assert_int_equal(holt_dir_open(m.env, "/dev/null/x", &dir, &err), HOLT_EINVAL);
  assert_non_null(strstr(err.message, "/dev/null/x"));
  snprintf(m.path, sizeof m.path, "%s", base);
  end(&m);
}

/* --- What a crash takes --------------------------------------------------------------------------- */

static void run1(struct holt_sim_disk *disk, struct holt_file_op op) {
  assert_int_equal(holt_sim_disk_run(disk, &op, 1, NULL), 0);
}

static void make_file(struct holt_sim_disk *disk, const char *name) {
  run1(disk, (struct holt_file_op){.type = HOLT_FILE_CREATE, .name = name});
  run1(disk, (struct holt_file_op){.type = HOLT_FILE_SYNC_DIR});
}

static void put(struct holt_sim_disk *disk, const char *name, uint64_t offset, const void *data, size_t len) {
  run1(disk, (struct holt_file_op){
                 .type = HOLT_FILE_WRITE, .name = name, .offset = offset, .data = data, .len = len});
}

static size_t sectors_there(struct holt_sim_disk *disk, const char *name, uint8_t byte, size_t count,
                            bool *is_prefix) {
  struct holt_buf bytes = {0};
  size_t there = 0;
  *is_prefix = true;
  assert_int_equal(holt_sim_disk_view(disk, name, &bytes), 0);
  for (size_t i = 0; i < count; i++) {
    bool is_there = bytes.len > i * HOLT_SIM_SECTOR && bytes.data[i * HOLT_SIM_SECTOR] == byte;
    if (is_there && there != i) *is_prefix = false;
    there += is_there;
  }
  return there;
}

static void what_was_not_synced_is_lost_whole_in_part_or_by_sectors(void **state) {
  (void)state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 11);
  unsigned partial[HOLT_SIM_LOSSES] = {0}, scattered[HOLT_SIM_LOSSES] = {0};
  uint8_t block[8 * HOLT_SIM_SECTOR];
  for (int i = 0; i < 400; i++) {
    enum holt_sim_loss loss = (enum holt_sim_loss)(i % HOLT_SIM_LOSSES);
    struct holt_sim_disk *disk = holt_sim_disk_new();
    make_file(disk, "f");
    memset(block, 1, sizeof block);
    put(disk, "f", 0, block, sizeof block);
    run1(disk, (struct holt_file_op){.type = HOLT_FILE_SYNC, .name = "f"});
    memset(block, 2, sizeof block);
    put(disk, "f", sizeof block, block, sizeof block);
    holt_sim_disk_crash(disk, &rand, loss);
    bool is_prefix;
    assert_int_equal(sectors_there(disk, "f", 1, 8, &is_prefix), 8);
    struct holt_buf bytes = {0};
    assert_int_equal(holt_sim_disk_view(disk, "f", &bytes), 0);
    size_t later = 0, first_gap = 16;
    for (size_t s = 8; s < 16; s++) {
      bool is_there = bytes.len > s * HOLT_SIM_SECTOR && bytes.data[s * HOLT_SIM_SECTOR] == 2;
      if (!is_there && first_gap == 16) first_gap = s;
      if (is_there && s > first_gap) scattered[loss]++;
      later += is_there;
    }
    if (loss == HOLT_SIM_LOSS_NONE) assert_int_equal(later, 8);
    if (loss == HOLT_SIM_LOSS_ALL) assert_int_equal(later, 0);
    partial[loss] += later > 0 && later < 8;
    holt_sim_disk_free(disk);
  }
  assert_true(partial[HOLT_SIM_LOSS_PREFIX] > 10);
  assert_true(partial[HOLT_SIM_LOSS_SECTORS] > 30);
  assert_int_equal(scattered[HOLT_SIM_LOSS_PREFIX], 0);
  assert_true(scattered[HOLT_SIM_LOSS_SECTORS] > 30);
}

static bool has(struct holt_sim_disk *disk, const char *name) {
  struct holt_buf bytes;
  return holt_sim_disk_view(disk, name, &bytes) == 0;
}

static void names_may_be_lost_until_their_folder_is_synced(void **state) {
  (void)state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 12);
  unsigned old = 0, renamed = 0, both = 0, back = 0, gone = 0;
  for (int i = 0; i < 300; i++) {
    struct holt_sim_disk *disk = holt_sim_disk_new();
    make_file(disk, "kept");
    make_file(disk, "dropped");
    make_file(disk, "a");
    run1(disk, (struct holt_file_op){.type = HOLT_FILE_RENAME, .name = "a", .to = "b"});
    run1(disk, (struct holt_file_op){.type = HOLT_FILE_UNLINK, .name = "dropped"});
    assert_int_equal(holt_sim_disk_unsynced(disk), 2);
    if (i % 3 == 0) run1(disk, (struct holt_file_op){.type = HOLT_FILE_SYNC_DIR});
    struct holt_sim_disk *copy = holt_sim_disk_clone(disk);
    assert_int_equal(holt_sim_disk_hash(copy), holt_sim_disk_hash(disk));
    holt_sim_disk_crash(copy, &rand, i % 2 == 0 ? HOLT_SIM_LOSS_PREFIX : HOLT_SIM_LOSS_SECTORS);
    assert_true(has(copy, "kept"));
    assert_true(has(copy, "a") || has(copy, "b")); /* a rename never loses the file */
    if (i % 3 == 0) {
      assert_true(has(copy, "b") && !has(copy, "a") && !has(copy, "dropped"));
    } else {
      old += has(copy, "a");
      renamed += has(copy, "b");
      both += has(copy, "a") && has(copy, "b");
      back += has(copy, "dropped");
      gone += !has(copy, "dropped");
    }
    assert_true(has(disk, "b") && !has(disk, "dropped")); /* the clone is another disk */
    holt_sim_disk_free(copy);
    holt_sim_disk_free(disk);
  }
  assert_true(old > 20 && renamed > 20 && back > 20 && gone > 20);
  assert_int_equal(both, 0);
}

static void a_failed_sync_loses_what_it_should_have_saved_even_if_the_next_one_succeeds(void **state) {
  (void)state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 13);
  struct holt_sim_disk *disk = holt_sim_disk_new();
  struct holt_buf bytes;
  make_file(disk, "f");
  put(disk, "f", 0, "old", 3);
  run1(disk, (struct holt_file_op){.type = HOLT_FILE_SYNC, .name = "f"});
  put(disk, "f", 0, "new", 3);
  const struct holt_file_op sync = {.type = HOLT_FILE_SYNC, .name = "f"};
  holt_sim_disk_fail(disk, HOLT_FILE_SYNC, 0, HOLT_EIO, 0);
  assert_int_equal(holt_sim_disk_run(disk, &sync, 1, NULL), HOLT_EIO);
  assert_int_equal(holt_sim_disk_run(disk, &sync, 1, NULL), 0);
  assert_int_equal(holt_sim_disk_view(disk, "f", &bytes), 0);
  assert_memory_equal(bytes.data, "new", 3); /* it is read … */
  holt_sim_disk_crash(disk, &rand, HOLT_SIM_LOSS_PREFIX);
  assert_int_equal(holt_sim_disk_view(disk, "f", &bytes), 0);
  assert_memory_equal(bytes.data, "old", 3); /* … and was never there */
  holt_sim_disk_free(disk);
}

static void a_full_disk_takes_what_fits_and_says_so(void **state) {
  (void)state;
  struct holt_sim_disk *disk = holt_sim_disk_new();
  struct holt_buf bytes;
  size_t failed;
  make_file(disk, "f");
  holt_sim_disk_limit(disk, 10);
  const struct holt_file_op ops[] = {
      {.type = HOLT_FILE_WRITE, .name = "f", .data = "12345678", .len = 8},
      {.type = HOLT_FILE_WRITE, .name = "f", .offset = 4, .data = "abcdefgh", .len = 8},
      {.type = HOLT_FILE_SYNC, .name = "f"},
  };
  assert_int_equal(holt_sim_disk_run(disk, ops, 3, &failed), HOLT_ENOSPC);
  assert_int_equal(failed, 1);
  assert_int_equal(holt_sim_disk_view(disk, "f", &bytes), 0);
  assert_int_equal(bytes.len, 10);
  assert_memory_equal(bytes.data, "1234abcdef", 10);
  const struct holt_file_op more = {.type = HOLT_FILE_ALLOCATE, .name = "f", .len = 11};
  assert_int_equal(holt_sim_disk_run(disk, &more, 1, NULL), HOLT_ENOSPC);
  holt_sim_disk_limit(disk, 0);
  assert_int_equal(holt_sim_disk_run(disk, &more, 1, NULL), 0);
  holt_sim_disk_free(disk);
}

/* --- Simulated hosts ------------------------------------------------------------------------------ */

static void a_stalled_disk_ends_its_job_when_it_goes_on(void **state) {
  (void)state;
  struct machine m;
  begin_sim(&m);
  struct holt_dir *dir = open_dir(&m);
  struct outcome outcome = {0};
  struct holt_file_job job;
  const struct holt_file_op op = {.type = HOLT_FILE_CREATE, .name = "late"};
  holt_sim_disk_stall(m.sim, "n1", m.path, true);
  submit(dir, &job, &op, 1, &outcome);
  holt_sim_run(m.sim, 60000);
  assert_int_equal(outcome.count, 0);
  assert_false(has(holt_sim_disk_of(m.sim, "n1", m.path), "late"));
  holt_sim_disk_stall(m.sim, "n1", m.path, false);
  holt_sim_run(m.sim, 1);
  assert_int_equal(outcome.count, 1);
  assert_int_equal(outcome.statuses[0], 0);
  assert_true(has(holt_sim_disk_of(m.sim, "n1", m.path), "late"));
  close_dir(&m, dir);
  end(&m);
}

static uint64_t die_with_a_job_under_way(uint64_t seed, unsigned *written) {
  struct holt_sim_config config = {.seed = seed, .disk_min_us = 100, .disk_max_us = 900};
  struct holt_sim *sim = holt_sim_new(&config);
  struct holt_env *env = holt_sim_host(sim, "n1");
  struct holt_dir *dir;
  struct outcome outcome = {0};
  struct holt_file_job job;
  const struct holt_file_op ops[] = {
      {.type = HOLT_FILE_CREATE, .name = "f"},
      {.type = HOLT_FILE_SYNC_DIR},
      {.type = HOLT_FILE_WRITE, .name = "f", .data = "abc", .len = 3},
      {.type = HOLT_FILE_SYNC, .name = "f"},
  };
  assert_int_equal(holt_dir_open(env, "data", &dir, NULL), 0);
  submit(dir, &job, ops, 4, &outcome);
  holt_env_free(env);
  assert_int_equal(outcome.count, 0);
  struct holt_sim_disk *disk = holt_sim_disk_of(sim, "n1", "data");
  struct holt_buf bytes = {0};
  if (holt_sim_disk_view(disk, "f", &bytes) == 0) *written += bytes.len == 3;
  uint64_t hash = holt_sim_disk_hash(disk);
  holt_sim_free(sim);
  return hash;
}

static void a_host_that_dies_leaves_some_of_its_job_as_the_seed_decides(void **state) {
  (void)state;
  unsigned written = 0, again = 0;
  for (uint64_t seed = 1; seed <= 100; seed++)
    assert_int_equal(die_with_a_job_under_way(seed, &written), die_with_a_job_under_way(seed, &again));
  assert_int_equal(written, again);
  assert_true(written > 10 && written < 90);
}

#define BOTH(name) cmocka_unit_test(name##_on_the_real_machine), cmocka_unit_test(name##_on_a_simulated_one)

int main(void) {
  const struct CMUnitTest tests[] = {
      BOTH(writes_names_and_reads_on),
      BOTH(stops_at_the_first_failure),
      BOTH(one_at_a_time_may_open_it),
      BOTH(closing_lets_the_job_under_way_end_and_cancels_those_that_wait),
      BOTH(an_env_may_be_freed_with_a_job_under_way),
      cmocka_unit_test(the_loop_does_not_wait_for_the_disk),
      cmocka_unit_test(folders_are_made_with_their_parents_for_the_owner_alone),
      cmocka_unit_test(what_was_not_synced_is_lost_whole_in_part_or_by_sectors),
      cmocka_unit_test(names_may_be_lost_until_their_folder_is_synced),
      cmocka_unit_test(a_failed_sync_loses_what_it_should_have_saved_even_if_the_next_one_succeeds),
      cmocka_unit_test(a_full_disk_takes_what_fits_and_says_so),
      cmocka_unit_test(a_stalled_disk_ends_its_job_when_it_goes_on),
      cmocka_unit_test(a_host_that_dies_leaves_some_of_its_job_as_the_seed_decides),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
