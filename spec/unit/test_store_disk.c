/* The stores a member has: on disk, on the real machine and on simulated hosts, and in memory. */
#include <unistd.h>

#include "env/sim.h"
#include "env/sim_disk.h"
#include "env/uv.h"
#include "folder.h"
#include "store/store.h"
#include "unit.h"

struct member {
  struct holt_env *env;
  struct holt_sim *sim; /* NULL: the real machine */
  char path[200];
  struct holt_store *store;
  uint64_t seq, told; /* of the last write; of the last one that is durable */
  uint64_t failed_from;
  int failed_with;
  unsigned calls, closed;
  unsigned reads, read_count;
  int read_status;
  uint64_t read_first;
  uint8_t read_byte;
};

static void on_saved(void *arg, uint64_t seq, int status) {
  struct member *m = arg;
  m->calls++;
  if (status == 0) {
    assert_true(seq > m->told);
    assert_true(seq <= m->seq);
    m->told = seq;
  } else {
    m->failed_from = seq;
    m->failed_with = status;
  }
}

static void on_closed(void *arg) {
  ((struct member *)arg)->closed++;
}

static void turn(struct member *m) {
  holt_env_turn(m->env, true);
}

static void open_store(struct member *m) {
  struct holt_err err = {0};
  const struct holt_store_options options = {
      .path = m->path, .cluster = 7, .self = 3, .segment_bytes = 4096, .saved = on_saved, .arg = m};
  int rc = holt_store_open_disk(m->env, &options, &m->store, &err);
  if (rc != 0) fail_msg("%s", err.message);
}

static void close_store(struct member *m) {
  m->closed = 0;
  holt_store_close(m->store, on_closed, m);
  assert_int_equal(m->closed, 0);
  for (int i = 0; i < 10000 && m->closed == 0; i++) turn(m);
  assert_int_equal(m->closed, 1);
}

static void begin_sim(struct member *m, uint64_t seed) {
  struct holt_sim_config config = {.seed = seed, .disk_min_us = 50, .disk_max_us = 5000};
  *m = (struct member){.sim = holt_sim_new(&config), .path = "data/raft"};
  m->env = holt_sim_host(m->sim, "n1");
  open_store(m);
}

static void begin_uv(struct member *m) {
  *m = (struct member){.env = holt_env_uv_new()};
  folder_new(m->path);
  open_store(m);
}

static void end(struct member *m) {
  close_store(m);
  holt_env_free(m->env);
  if (m->sim != NULL)
    holt_sim_free(m->sim);
  else
    folder_remove(m->path);
}

static struct holt_sim_disk *disk_of(struct member *m) {
  return holt_sim_disk_of(m->sim, "n1", m->path);
}

/* Entry `index` of term 1, its data 100 times its own number. */
static int write_entry(struct member *m, uint64_t index) {
  uint8_t data[100];
  memset(data, (int)index, sizeof data);
  const struct holt_raft_entry entry = {
      .index = index, .term = 1, .seq = index, .data = data, .len = sizeof data, .type = HOLT_RAFT_COMMAND};
  const struct holt_raft_persist persist = {.seq = m->seq + 1, .entries = &entry, .count = 1};
  int rc = holt_store_write(m->store, &persist);
  if (rc == 0) m->seq++;
  return rc;
}

static void wait_told(struct member *m, uint64_t seq) {
  for (int i = 0; i < 100000 && m->told < seq; i++) turn(m);
  assert_int_equal(m->told, seq);
}

static void on_read(void *arg, int status, const struct holt_raft_entry *entries, uint32_t count) {
  struct member *m = arg;
  m->reads++;
  m->read_status = status;
  m->read_count = count;
  if (status != 0) return;
  m->read_first = entries[0].index;
  m->read_byte = entries[count - 1].data[99];
}

static void read_back(struct member *m, uint64_t first, uint64_t last, size_t max_bytes) {
  m->reads = 0;
  holt_store_read(m->store, first, last, max_bytes, on_read, m);
  assert_int_equal(m->reads, 0);
  for (int i = 0; i < 10000 && m->reads == 0; i++) turn(m);
  assert_int_equal(m->reads, 1);
}

/* --- The same on both machines -------------------------------------------------------------------- */

static void what_was_told_durable_is_there_after_a_restart(struct member *m) {
  for (uint64_t i = 1; i <= 100; i++) {
    assert_int_equal(write_entry(m, i), 0);
    if (i % 7 == 0) wait_told(m, i);
  }
  wait_told(m, 100);
  close_store(m);
  open_store(m);
  const struct holt_wal_state *state = holt_store_state(m->store);
  assert_int_equal(state->last, 100);
  assert_int_equal(state->boot, 2);
  struct holt_wal_restored restored;
  assert_int_equal(holt_store_restore(m->store, &restored, NULL), 0);
  assert_int_equal(restored.restore.count, 100);
  for (uint64_t i = 0; i < 100; i++) {
    assert_int_equal(restored.restore.entries[i].index, i + 1);
    assert_int_equal(restored.restore.entries[i].data[50], i + 1);
  }
  holt_wal_restored_free(&restored);
}

static void entries_are_read_back_in_pieces(struct member *m) {
  for (uint64_t i = 1; i <= 60; i++) assert_int_equal(write_entry(m, i), 0);
  wait_told(m, 60);
  read_back(m, 1, 60, 1000);
  assert_int_equal(m->read_status, 0);
  assert_int_equal(m->read_first, 1);
  assert_true(m->read_count >= 2 && m->read_count < 10);
  assert_int_equal(m->read_byte, m->read_count);
  read_back(m, 60, 1000, 1);
  assert_int_equal(m->read_status, 0);
  assert_int_equal(m->read_count, 1); /* one at least */
  assert_int_equal(m->read_byte, 60);
  read_back(m, 61, 70, 1000);
  assert_int_equal(m->read_status, HOLT_ENOTFOUND);
}

static void closing_in_the_midst_of_things_ends_each_of_them_once(struct member *m) {
  for (uint64_t i = 1; i <= 10; i++) assert_int_equal(write_entry(m, i), 0);
  wait_told(m, 10);
  for (uint64_t i = 11; i <= 20; i++) assert_int_equal(write_entry(m, i), 0);
  holt_env_turn(m->env, false); /* it is under way */
  unsigned calls = m->calls;
  uint64_t told = m->told;
  m->reads = 0;
  holt_store_read(m->store, 1, 5, 1000, on_read, m);
  holt_store_read(m->store, 500, 505, 1000, on_read, m);
  close_store(m);
  assert_int_equal(m->reads, 2);
  assert_int_equal(m->calls, calls); /* nobody is told any more */
  open_store(m);
  assert_true(holt_store_state(m->store)->last >= told);
}

static void a_folder_in_use_is_refused_in_words(struct member *m) {
  struct holt_store *other;
  struct holt_err err = {0};
  const struct holt_store_options options = {.path = m->path};
  assert_int_equal(holt_store_open_disk(m->env, &options, &other, &err), HOLT_ELOCKED);
  assert_non_null(strstr(err.message, m->path));
}

#define ON_BOTH(story)                                                                                       \
  static void story##_on_the_real_machine(void **state) {                                                    \
    struct member m;                                                                                         \
    (void)state;                                                                                             \
    begin_uv(&m);                                                                                            \
    story(&m);                                                                                               \
    end(&m);                                                                                                 \
  }                                                                                                          \
  static void story##_on_a_simulated_one(void **state) {                                                     \
    struct member m;                                                                                         \
    (void)state;                                                                                             \
    begin_sim(&m, 4);                                                                                        \
    story(&m);                                                                                               \
    end(&m);                                                                                                 \
  }

ON_BOTH(what_was_told_durable_is_there_after_a_restart)
ON_BOTH(entries_are_read_back_in_pieces)
ON_BOTH(closing_in_the_midst_of_things_ends_each_of_them_once)
ON_BOTH(a_folder_in_use_is_refused_in_words)

/* --- Simulated hosts ------------------------------------------------------------------------------ */

static void writes_of_one_turn_and_those_that_come_meanwhile_share_a_sync(void **state) {
  (void)state;
  struct member m;
  begin_sim(&m, 1);
  write_entry(&m, 1);
  wait_told(&m, 1); /* the first segment is there */
  uint64_t syncs = holt_sim_disk_stats(disk_of(&m)).syncs;
  m.calls = 0;
  for (uint64_t i = 2; i <= 6; i++) write_entry(&m, i);
  turn(&m);
  for (uint64_t i = 7; i <= 11; i++) write_entry(&m, i);
  wait_told(&m, 11);
  assert_int_equal(m.calls, 2);
  assert_int_equal(holt_sim_disk_stats(disk_of(&m)).syncs, syncs + 2);
  end(&m);
}

static void while_the_disk_stalls_nobody_is_told_anything(void **state) {
  (void)state;
  struct member m;
  begin_sim(&m, 2);
  holt_sim_disk_stall(m.sim, "n1", m.path, true);
  write_entry(&m, 1);
  holt_sim_run(m.sim, 60000);
  write_entry(&m, 2);
  holt_sim_run(m.sim, 60000);
  assert_int_equal(m.calls, 0);
  assert_int_equal(holt_store_state(m.store)->last, 0);
  holt_sim_disk_stall(m.sim, "n1", m.path, false);
  wait_told(&m, 2);
  assert_int_equal(holt_store_state(m.store)->last, 2);
  end(&m);
}

static void without_room_the_first_lost_write_is_named_and_the_store_goes_on_later(void **state) {
  (void)state;
  struct member m;
  begin_sim(&m, 3);
  write_entry(&m, 1);
  wait_told(&m, 1);
  holt_sim_disk_limit(disk_of(&m), 1);
  for (int i = 0; i < 1000 && m.failed_from == 0; i++) {
    assert_int_equal(write_entry(&m, m.seq + 1), 0);
    holt_sim_run(m.sim, 7);
  }
  assert_int_equal(m.failed_with, HOLT_ENOSPC);
  assert_int_equal(m.failed_from, m.told + 1);
  assert_int_equal(holt_store_state(m.store)->last, m.told);
  holt_sim_disk_limit(disk_of(&m), 0);
  m.seq = m.told; /* begin again where it failed */
  for (int i = 0; i < 5; i++) assert_int_equal(write_entry(&m, m.seq + 1), 0);
  wait_told(&m, m.seq);
  assert_int_equal(holt_store_state(m.store)->last, m.told);
  end(&m);
}

static void a_disk_that_fails_is_told_once_and_never_written_again(void **state) {
  (void)state;
  struct member m;
  begin_sim(&m, 4);
  write_entry(&m, 1);
  wait_told(&m, 1);
  holt_sim_disk_fail(disk_of(&m), HOLT_FILE_SYNC, 0, HOLT_EIO, 0);
  write_entry(&m, 2);
  turn(&m);
  write_entry(&m, 3);
  holt_sim_run(m.sim, 100);
  assert_int_equal(m.calls, 2);
  assert_int_equal(m.failed_with, HOLT_EIO);
  assert_int_equal(m.failed_from, 2);
  assert_int_equal(write_entry(&m, 4), HOLT_EIO);
  uint64_t ops = holt_sim_disk_stats(disk_of(&m)).ops;
  holt_sim_run(m.sim, 1000);
  assert_int_equal(holt_sim_disk_stats(disk_of(&m)).ops, ops);
  end(&m);
}

/* A host that writes, truncates, takes snapshots, drops and dies, again and again. */
static uint64_t live_and_die(uint64_t seed, unsigned *deaths) {
  struct member m;
  begin_sim(&m, seed);
  struct holt_rand *rand = holt_sim_rand(m.sim);
  for (int life = 0; life < 12; life++) {
    uint64_t rounds = holt_rand_below(rand, 40), last = holt_store_state(m.store)->last, safe = last;
    m.seq = m.told = last;
    for (uint64_t i = 0; i < rounds; i++) {
      for (uint64_t n = holt_rand_below(rand, 4); n > 0; n--) assert_int_equal(write_entry(&m, ++last), 0);
      const struct holt_wal_state *state = holt_store_state(m.store);
      if (holt_rand_below(rand, 12) == 0 && state->last > state->snapshot.index) {
        const struct holt_raft_snapshot snapshot = {.index = state->last, .term = 1};
        const struct holt_raft_persist persist = {.seq = m.seq + 1, .snapshot = &snapshot};
        assert_int_equal(holt_store_write(m.store, &persist), 0);
        m.seq++;
      }
      if (holt_rand_below(rand, 6) == 0) holt_store_drop(m.store, state->snapshot.index);
      if (holt_rand_below(rand, 3) == 0) holt_sim_run(m.sim, holt_rand_below(rand, 8));
      safe = holt_store_state(m.store)->last;
    }
    holt_env_free(m.env);
    holt_store_forget(m.store);
    (*deaths)++;
    m.env = holt_sim_host(m.sim, "n1");
    open_store(&m);
    assert_true(holt_store_state(m.store)->last >= safe);
    assert_true(holt_store_state(m.store)->last <= last);
    struct holt_wal_restored restored;
    assert_int_equal(holt_store_restore(m.store, &restored, NULL), 0);
    for (size_t i = 0; i < restored.restore.count; i++)
      assert_int_equal(restored.restore.entries[i].data[99], (uint8_t)restored.restore.entries[i].index);
    holt_wal_restored_free(&restored);
  }
  uint64_t hash = holt_sim_disk_hash(disk_of(&m)) ^ holt_sim_hash(m.sim);
  end(&m);
  return hash;
}

static void whatever_a_host_dies_of_its_store_comes_back_and_a_seed_gives_one_run(void **state) {
  (void)state;
  unsigned deaths = 0;
  for (uint64_t seed = 1; seed <= 150; seed++) {
    uint64_t hash = live_and_die(seed, &deaths);
    if (seed % 10 == 0) assert_int_equal(live_and_die(seed, &deaths), hash);
  }
  assert_true(deaths > 1500);
}

/* --- In memory ------------------------------------------------------------------------------------ */

static void a_store_in_memory_answers_on_a_later_turn_and_keeps_nothing(void **state) {
  (void)state;
  struct member m;
  struct holt_err err = {0};
  struct holt_wal_restored restored;
  begin_sim(&m, 5);
  close_store(&m);
  struct holt_store_options options = {.saved = on_saved, .arg = &m};
  assert_int_equal(holt_store_open_memory(m.env, &options, &m.store, &err), HOLT_EINVAL);
  options.cluster = 7;
  options.self = 3;
  assert_int_equal(holt_store_open_memory(m.env, &options, &m.store, &err), 0);
  assert_int_equal(holt_store_restore(m.store, &restored, &err), 0);
  assert_int_equal(restored.restore.count, 0);
  for (uint64_t i = 1; i <= 5; i++) assert_int_equal(write_entry(&m, i), 0);
  assert_int_equal(write_entry(&m, 9), HOLT_EINVAL);
  assert_int_equal(m.calls, 0);
  assert_int_equal(holt_store_state(m.store)->last, 0);
  holt_sim_run(m.sim, 1);
  assert_int_equal(m.calls, 1);
  assert_int_equal(m.told, 5);
  assert_int_equal(holt_store_state(m.store)->last, 5);
  read_back(&m, 1, 5, 1000);
  assert_int_equal(m.read_status, HOLT_ENOTFOUND);
  end(&m);
}

#define T(name)    cmocka_unit_test(name)
#define BOTH(name) cmocka_unit_test(name##_on_the_real_machine), cmocka_unit_test(name##_on_a_simulated_one)

int main(void) {
  const struct CMUnitTest tests[] = {
      BOTH(what_was_told_durable_is_there_after_a_restart),
      BOTH(entries_are_read_back_in_pieces),
      BOTH(closing_in_the_midst_of_things_ends_each_of_them_once),
      BOTH(a_folder_in_use_is_refused_in_words),
      T(writes_of_one_turn_and_those_that_come_meanwhile_share_a_sync),
      T(while_the_disk_stalls_nobody_is_told_anything),
      T(without_room_the_first_lost_write_is_named_and_the_store_goes_on_later),
      T(a_disk_that_fails_is_told_once_and_never_written_again),
      T(whatever_a_host_dies_of_its_store_comes_back_and_a_seed_gives_one_run),
      T(a_store_in_memory_answers_on_a_later_turn_and_keeps_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
