/* Ordered keys in a folder: killed while they write, without room, made smaller. */
#include <errno.h>
#include <lmdb.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "kv_machine.h"

/* --- Killed --------------------------------------------------------------------------------------- */

/* Commits until it is killed; each number is told only when it is durable. */
static void write_numbers(struct machine *m, int out) {
  new_env(m); /* a loop does not survive a fork */
  open_kv(m);
  for (uint32_t i = 1;; i++) {
    static struct script script;
    char text[40];
    snprintf(text, sizeof text, "n%08u=x p%08u=y", i, i);
    submit(m, &script, text);
    turn_until_told(m, &script);
    if (script.status != 0 || write(out, &i, sizeof i) != sizeof i) _exit(1);
  }
}

static void survive_sigkill(void (*write_until_killed)(struct machine *m, int out)) {
  struct machine m;
  struct holt_rand rand;
  uint32_t last = 0;
  begin_as(&m, IN_FOLDER);
  holt_rand_seed(&rand, 3);
  holt_env_free(m.env);
  for (int round = 0; round < 12; round++) {
    int pipes[2];
    uint32_t number, heard = 0, wanted = 1 + (uint32_t)holt_rand_below(&rand, 60);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      close(pipes[0]);
      write_until_killed(&m, pipes[1]);
    }
    close(pipes[1]);
    while (heard < wanted && read(pipes[0], &number, sizeof number) == sizeof number) heard = number;
    assert_true(heard >= wanted);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    while (read(pipes[0], &number, sizeof number) == sizeof number) heard = number;
    close(pipes[0]);
    if (heard > last) last = heard;
    new_env(&m);
    open_kv(&m);
    struct holt_kv_txn *txn;
    struct holt_buf value;
    assert_int_equal(holt_kv_begin(m.kv, &txn), 0);
    for (uint32_t i = 1; i <= last + 1; i++) {
      char name[12], pair[12];
      snprintf(name, sizeof name, "n%08u", i);
      snprintf(pair, sizeof pair, "p%08u", i);
      int rc = holt_kv_get(txn, m.table, holt_buf_text(name), &value);
      if (i <= last) assert_int_equal(rc, 0);
      assert_int_equal(holt_kv_get(txn, m.table, holt_buf_text(pair), &value), rc); /* whole or not at all */
    }
    holt_kv_end(txn);
    close_kv(&m);
    holt_env_free(m.env);
  }
  new_env(&m);
  end(&m);
}

static void test_what_was_acknowledged_survives_sigkill(void **state) {
  (void)state;
  survive_sigkill(write_numbers);
}

/* --- Without room --------------------------------------------------------------------------------- */

static char large[100000];

static int put_large(void *arg, struct holt_kv_txn *txn) {
  struct machine *m = arg;
  char name[12];
  snprintf(name, sizeof name, "k%06u", m->done);
  return holt_kv_put(txn, m->table, holt_buf_text(name), holt_buf(large, sizeof large));
}

static bool read_large(struct machine *m, unsigned number) {
  struct holt_kv_txn *txn;
  struct holt_buf value;
  char name[12];
  snprintf(name, sizeof name, "k%06u", number);
  NEED(holt_kv_begin(m->kv, &txn) == 0);
  int rc = holt_kv_get(txn, m->table, holt_buf_text(name), &value);
  NEED(rc != 0 || value.len == sizeof large);
  holt_kv_end(txn);
  return rc == 0;
}

static void fill_a_limited_file(struct machine *m) {
  struct rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  struct rlimit limit = {.rlim_cur = 3000000, .rlim_max = RLIM_INFINITY};
  struct holt_kv_txn *txn;
  signal(SIGXFSZ, SIG_IGN);
  NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  open_kv(m);
  NEED(change(m, "a=1") == 0);
  int rc = 0;
  for (m->done = 0; m->done < 1000; m->done++) {
    rc = holt_kv_run(m->kv, put_large, m, &m->err);
    if (rc != 0) break;
  }
  NEED(rc == HOLT_ENOSPC);
  NEED(strstr(m->err.message, "no space left") != NULL);
  NEED(m->done > 3);
  unsigned full_at = m->done;
  NEED(holt_kv_begin(m->kv, &txn) == 0); /* reading goes on */
  holt_kv_end(txn);
  NEED(read_large(m, full_at - 1));
  NEED(!read_large(m, full_at));
  NEED(holt_kv_run(m->kv, put_large, m, &m->err) == HOLT_ENOSPC);
  NEED(setrlimit(RLIMIT_FSIZE, &none) == 0); /* there is room again */
  NEED(holt_kv_run(m->kv, put_large, m, &m->err) == 0);
  for (unsigned i = 0; i <= full_at; i++) NEED(read_large(m, i));
  close_kv(m);
  open_kv(m);
  for (unsigned i = 0; i <= full_at; i++) NEED(read_large(m, i));
  close_kv(m);
}

static void test_a_full_disk_refuses_and_goes_on_with_room(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, IN_FOLDER);
  assert_int_equal(in_child(fill_a_limited_file, &m), 0);
  end(&m);
}

/* What `story` exits with in a child, in a file system of its own. Skips the test where nobody lets us mount.
 */
static int in_small_file_system(const char *size, void (*story)(struct machine *m)) {
  struct machine m;
  begin_as(&m, IN_FOLDER);
  int rc = mount("none", m.path, "tmpfs", 0, size);
  int why = errno;
  if (rc != 0) {
    end(&m);
    if (why == EPERM || why == EACCES) skip();
    fail_msg("a tmpfs of %s: %s", size, strerror(why));
  }
  int status = in_child(story, &m);
  assert_int_equal(umount(m.path), 0);
  end(&m);
  return status;
}

static void fill_a_small_disk(struct machine *m) {
  open_kv(m);
  NEED(change(m, "a=1") == 0);
  int rc = 0;
  for (m->done = 0; m->done < 1000; m->done++) {
    rc = holt_kv_run(m->kv, put_large, m, &m->err);
    if (rc != 0) break;
  }
  unsigned full_at = m->done;
  NEED(rc == HOLT_ENOSPC && full_at > 3);
  NEED(read_large(m, full_at - 1) && !read_large(m, full_at));
  NEED(mount("none", m->path, "tmpfs", MS_REMOUNT, "size=8m") == 0);
  NEED(holt_kv_run(m->kv, put_large, m, &m->err) == 0);
  NEED(read_large(m, full_at));
  close_kv(m);
}

static void test_a_small_file_system_fills_up(void **state) {
  (void)state;
  assert_int_equal(in_small_file_system("size=2m", fill_a_small_disk), 0);
}

/* --- Compacting ----------------------------------------------------------------------------------- */

enum { HEAP_KEYS = 400 };

static int put_heap(void *arg, struct holt_kv_txn *txn) {
  struct machine *m = arg;
  int rc = 0;
  for (m->done = 0; m->done < HEAP_KEYS && rc == 0; m->done++) rc = put_large(m, txn);
  return rc;
}

/* All but every fiftieth. */
static int thin_heap(void *arg, struct holt_kv_txn *txn) {
  struct machine *m = arg;
  int rc = 0;
  for (unsigned i = 0; i < HEAP_KEYS && rc == 0; i++) {
    char name[12];
    snprintf(name, sizeof name, "k%06u", i);
    if (i % 50 != 0) rc = holt_kv_delete(txn, m->table, holt_buf_text(name));
  }
  return rc;
}

static uint64_t room_taken(const struct machine *m) {
  struct stat file;
  assert_int_equal(stat(m->file, &file), 0);
  return (uint64_t)file.st_blocks * 512;
}

static void assert_thinned(struct machine *m) {
  for (unsigned i = 0; i < HEAP_KEYS; i++) assert_int_equal(read_large(m, i), i % 50 == 0);
}

static void test_compacting_gives_the_room_back(void **state) {
  struct machine m;
  static struct script compaction, meanwhile, again;
  uint32_t other, made, elsewhere;
  (void)state;
  begin_as(&m, IN_FOLDER);
  open_kv(&m);
  assert_int_equal(holt_kv_table(m.kv, "others", &elsewhere, &m.err), 0);
  uint32_t things = m.table;
  m.table = elsewhere;
  assert_int_equal(change(&m, "x=9"), 0);
  m.table = things;
  assert_int_equal(holt_kv_run(m.kv, put_heap, &m, &m.err), 0);
  assert_int_equal(holt_kv_run(m.kv, thin_heap, &m, &m.err), 0);
  close_kv(&m);
  open_kv(&m); /* the other table is not open now, and is kept all the same */
  uint64_t before = room_taken(&m), size = holt_kv_size_bytes(m.kv);
  assert_true(before > (uint64_t)HEAP_KEYS * sizeof large);
  compaction = (struct script){.m = &m};
  assert_int_equal(holt_kv_compact(m.kv, on_done, &compaction), 0);
  assert_int_equal(holt_kv_compact(m.kv, on_done, &compaction), HOLT_EBUSY);
  assert_int_equal(holt_kv_copy(m.kv, "/tmp/none", on_done, &compaction), HOLT_EBUSY);
  submit(&m, &meanwhile, "a=1"); /* waits behind it */
  assert_int_equal(holt_kv_table(m.kv, "made", &made, &m.err), 0);
  turn_until_told(&m, &compaction);
  assert_int_equal(compaction.status, 0);
  if (meanwhile.told == 0) turn_until_told(&m, &meanwhile);
  assert_int_equal(meanwhile.status, 0);
  assert_true(compaction.place < meanwhile.place);
  assert_true(room_taken(&m) < before / 10);
  assert_true(holt_kv_size_bytes(m.kv) < size / 10);
  assert_thinned(&m);
  m.table = made;
  submit(&m, &again, "b=2");
  turn_until_told(&m, &again);
  assert_int_equal(again.status, 0);
  assert_string_equal(words(&m, ""), "b=2");
  close_kv(&m);
  open_kv(&m);
  assert_thinned(&m);
  assert_int_equal(holt_kv_table(m.kv, "others", &other, &m.err), 0);
  m.table = other;
  assert_string_equal(words(&m, ""), "x=9");
  end(&m);
}

static void test_compacting_memory_is_nothing_to_do(void **state) {
  static struct script compaction;
  (void)state;
  for (enum kind kind = IN_MEMORY; kind <= ON_HOST; kind++) {
    struct machine m;
    begin_as(&m, kind);
    open_kv(&m);
    assert_int_equal(change(&m, "a=1"), 0);
    compaction = (struct script){.m = &m};
    assert_int_equal(holt_kv_compact(m.kv, on_done, &compaction), 0);
    turn_until_told(&m, &compaction);
    assert_int_equal(compaction.status, 0);
    assert_string_equal(words(&m, ""), "a=1");
    end(&m);
  }
}

static void test_closing_ends_a_compaction(void **state) {
  struct machine m;
  static struct script compaction;
  (void)state;
  begin_as(&m, IN_FOLDER);
  open_kv(&m);
  assert_int_equal(holt_kv_run(m.kv, put_heap, &m, &m.err), 0);
  assert_int_equal(holt_kv_run(m.kv, thin_heap, &m, &m.err), 0);
  compaction = (struct script){.m = &m};
  assert_int_equal(holt_kv_compact(m.kv, on_done, &compaction), 0);
  close_kv(&m);
  assert_int_equal(compaction.told, 1);
  assert_true(compaction.status == HOLT_ECANCELED || compaction.status == 0);
  open_kv(&m);
  assert_thinned(&m);
  end(&m);
}

/* Writes and compacts for ever, as fast as it goes, telling what was acknowledged. */
static _Noreturn void write_and_compact(struct machine *m, int out) {
  static struct script compaction;
  new_env(m);
  open_kv(m);
  char text[60];
  for (uint32_t number = 1;; number++) {
    struct script script;
    compaction = (struct script){.m = m};
    NEED(holt_kv_compact(m->kv, on_done, &compaction) == 0);
    snprintf(text, sizeof text, "n%08u=1 p%08u=1", number, number);
    submit(m, &script, text);
    turn_until_told(m, &script);
    NEED(script.status == 0 && compaction.status == 0);
    NEED(write(out, &number, sizeof number) == sizeof number);
  }
}

static void test_a_compaction_survives_sigkill(void **state) {
  (void)state;
  survive_sigkill(write_and_compact);
}

static void compact_without_room(struct machine *m) {
  static struct script compaction;
  char left[300];
  open_kv(m);
  NEED(holt_kv_run(m->kv, put_heap, m, &m->err) == 0); /* 40 MB */
  compaction = (struct script){.m = m};
  NEED(holt_kv_compact(m->kv, on_done, &compaction) == 0);
  turn_until_told(m, &compaction);
  NEED(compaction.status == HOLT_ENOSPC && strstr(m->err.message, "no room") != NULL);
  NEED(change(m, "a=1") == 0 && read_large(m, HEAP_KEYS - 1));
  close_kv(m);
  snprintf(left, sizeof left, "%s/compact.mdb", m->path);
  NEED(access(left, F_OK) != 0);
}

static void test_a_compaction_without_room_changes_nothing(void **state) {
  (void)state;
  assert_int_equal(in_small_file_system("size=60m", compact_without_room), 0);
}

/* --- Another program's -------------------------------------------------------------------------------- */

static bool all_is_whole(const char *table, struct holt_buf key, struct holt_buf value) {
  (void)table;
  (void)key;
  (void)value;
  return true;
}

/* A value beside the tables, and a table of several values a key: nothing that we would write. */
static void make_foreign(const char *path, unsigned flags) {
  MDB_env *mdb;
  MDB_txn *txn;
  MDB_dbi dbi;
  assert_int_equal(mdb_env_create(&mdb), 0);
  assert_int_equal(mdb_env_set_maxdbs(mdb, 4), 0);
  assert_int_equal(mdb_env_open(mdb, path, 0, 0600), 0);
  assert_int_equal(mdb_txn_begin(mdb, NULL, 0, &txn), 0);
  assert_int_equal(mdb_dbi_open(txn, flags == 0 ? NULL : "theirs", flags | MDB_CREATE, &dbi), 0);
  for (int i = 0; i < 500; i++) {
    MDB_val key = {.mv_data = &(int){flags == 0 ? i : i / 100}, .mv_size = 4},
            value = {.mv_data = &i, .mv_size = 4};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
  }
  assert_int_equal(mdb_txn_commit(txn), 0);
  mdb_env_close(mdb);
}

static void test_a_database_of_another_program_is_left_alone(void **state) {
  static const unsigned flags[] = {0, MDB_DUPSORT, MDB_DUPSORT | MDB_DUPFIXED | MDB_INTEGERDUP,
                                   MDB_REVERSEKEY};
  (void)state;
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
    struct machine m;
    struct stat before, after;
    begin_as(&m, IN_FOLDER);
    make_foreign(m.path, flags[i]);
    assert_int_equal(stat(m.file, &before), 0);
    struct holt_kv_options options = {.path = m.path, .kind = "test", .version = 3, .is_whole = all_is_whole};
    for (int k = 0; k < 2; k++) { /* with what may put damage right, and without */
      assert_int_equal(holt_kv_open(m.env, &options, &m.kv, &m.err), HOLT_EFOREIGN);
      assert_non_null(strstr(m.err.message, "holds a database of another program"));
      for (int turn = 0; turn < 3; turn++) holt_env_turn(m.env, false);
      options.is_whole = NULL;
    }
    assert_int_equal(stat(m.file, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    end(&m);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_was_acknowledged_survives_sigkill),
      cmocka_unit_test(test_a_full_disk_refuses_and_goes_on_with_room),
      cmocka_unit_test(test_a_small_file_system_fills_up),
      cmocka_unit_test(test_compacting_gives_the_room_back),
      cmocka_unit_test(test_compacting_memory_is_nothing_to_do),
      cmocka_unit_test(test_closing_ends_a_compaction),
      cmocka_unit_test(test_a_compaction_survives_sigkill),
      cmocka_unit_test(test_a_compaction_without_room_changes_nothing),
      cmocka_unit_test(test_a_database_of_another_program_is_left_alone),
  };
  return cmocka_run_group_tests_name("kv_folder", tests, NULL, NULL);
}
