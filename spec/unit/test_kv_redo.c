/* The redo log of a store in a folder: what a killed process leaves is done again; damage to the log is told,
 * and costs no more than what was damaged. Loss of power is in test_kv_power.c. */
#include "base/log.h"
#include "kv_machine.h"
#include "store/kv_redo.h"

enum { RECORDS = 12 };

static bool is_whole(const char *table, struct holt_buf key, struct holt_buf value) {
  (void)table;
  return key.len > 0 && value.len == 3; /* "v" and two digits */
}

static int open_mendable(struct machine *m) {
  struct holt_kv_options options = {.path = m->path, .kind = "test", .version = 3, .is_whole = is_whole};
  int rc = holt_kv_open(m->env, &options, &m->kv, &m->err);
  return rc != 0 ? rc : holt_kv_table(m->kv, "things", &m->table, &m->err);
}

static void file_in(const struct machine *m, const char *name, char path[300]) {
  snprintf(path, 300, "%s/%s", m->path, name);
}

/* Commit each key by itself, then die. A key by which its owner knows that the store was in use is kept. */
static void write_and_die(struct machine *m) {
  NEED(open_mendable(m) == 0);
  NEED(holt_kv_keep(m->kv, holt_buf_text("key"), &m->err) == 0);
  for (unsigned i = 0; i < RECORDS; i++) {
    char text[20];
    snprintf(text, sizeof text, "k%02u=v%02u", i, i);
    NEED(change(m, text) == 0);
  }
  _exit(0);
}

static void begin_killed(struct machine *m) {
  begin_as(m, IN_FOLDER);
  assert_int_equal(in_child(write_and_die, m), 0);
}

static unsigned count_keys(struct machine *m) {
  struct holt_kv_txn *txn;
  uint64_t count;
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  assert_int_equal(holt_kv_count(txn, m->table, &count), 0);
  holt_kv_end(txn);
  return (unsigned)count;
}

static void end_all(struct machine *m) {
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'.damaged-*", m->path);
  assert_int_equal(system(command), 0);
  end(m);
}

static void flip(const struct machine *m, const char *name, uint64_t at) {
  char path[300];
  uint8_t byte;
  file_in(m, name, path);
  int fd = open(path, O_RDWR);
  assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
  byte ^= 0x10;
  assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
  close(fd);
}

static void test_what_a_killed_process_logged_is_done_again(void **state) {
  struct machine m;
  (void)state;
  begin_killed(&m);
  assert_int_equal(open_mendable(&m), 0);
  assert_int_equal(count_keys(&m), RECORDS);
  assert_int_equal(holt_kv_rebuilds(m.kv), 0);
  end_all(&m);
}

/* The record that holds this key, in the file. */
static uint64_t find_record(const struct machine *m, const char *key) {
  static uint8_t bytes[64 * 1024];
  char path[300];
  file_in(m, HOLT__REDO_FILE, path);
  int fd = open(path, O_RDONLY);
  ssize_t len = pread(fd, bytes, sizeof bytes, (off_t)holt__redo_start(1));
  close(fd);
  for (ssize_t i = 0; i + 3 < len; i++)
    if (memcmp(bytes + i, key, 3) == 0) return holt__redo_start(1) + (uint64_t)i;
  len = 0;
  fail_msg("no record of %s", key);
  return 0;
}

static void test_a_damaged_record_is_told_and_costs_no_other(void **state) {
  (void)state;
  for (int back = 0; back < 64; back += 3) { /* in the key, then before it: the op, the header */
    struct machine m;
    begin_killed(&m);
    flip(&m, HOLT__REDO_FILE, find_record(&m, "k05") - (uint64_t)back);
    assert_int_equal(open_mendable(&m), 0);
    unsigned count = count_keys(&m), rebuilds = holt_kv_rebuilds(m.kv);
    if (count == RECORDS)
      assert_int_equal(rebuilds, 0); /* a byte that nobody reads */
    else
      assert_int_equal(rebuilds, RECORDS - count); /* one: k05, or the one before it */
    assert_true(count >= RECORDS - 1);
    close_kv(&m);
    assert_int_equal(open_mendable(&m), 0); /* once is enough */
    assert_int_equal(holt_kv_rebuilds(m.kv), rebuilds);
    end_all(&m);
  }
}

static void test_a_damaged_head_has_a_copy(void **state) {
  (void)state;
  for (unsigned slot = 0; slot < 4; slot++) {
    struct machine m;
    begin_killed(&m);
    flip(&m, HOLT__REDO_FILE, (uint64_t)slot * 4096 + 100);
    assert_int_equal(open_mendable(&m), 0);
    assert_int_equal(count_keys(&m), RECORDS);
    assert_int_equal(holt_kv_rebuilds(m.kv), 0);
    end_all(&m);
  }
}

/* What LMDB had written meanwhile is all there is: good or not, it is looked at record by record. */
static void test_without_its_log_a_store_is_made_anew_and_says_so(void **state) {
  (void)state;
  for (int is_missing = 0; is_missing < 2; is_missing++) {
    struct machine m;
    char path[300];
    begin_killed(&m);
    file_in(&m, HOLT__REDO_FILE, path);
    for (unsigned slot = 0; slot < 4; slot++) flip(&m, HOLT__REDO_FILE, (uint64_t)slot * 4096 + 100);
    if (is_missing) assert_int_equal(unlink(path), 0);
    assert_int_equal(open_mendable(&m), 0);
    assert_non_null(holt_kv_aside(m.kv));
    assert_int_equal(holt_kv_rebuilds(m.kv), 1);
    assert_true(count_keys(&m) <= RECORDS);
    assert_int_equal(change(&m, "more=v99"), 0);
    close_kv(&m);
    assert_int_equal(open_mendable(&m), 0);
    assert_null(holt_kv_aside(m.kv));
    end_all(&m);
  }
}

static void test_a_lost_file_of_tables_leaves_what_was_logged(void **state) {
  struct machine m;
  (void)state;
  begin_killed(&m);
  assert_int_equal(truncate(m.file, 0), 0);
  assert_int_equal(open_mendable(&m), 0);
  assert_int_equal(holt_kv_rebuilds(m.kv), 1);
  assert_int_equal(count_keys(&m), RECORDS);
  end_all(&m);
}

static void test_the_log_of_another_store_is_not_done(void **state) {
  struct machine a, b;
  char command[800];
  (void)state;
  begin_killed(&a);
  begin_as(&b, IN_FOLDER);
  assert_int_equal(open_mendable(&b), 0);
  assert_int_equal(change(&b, "other=v01"), 0);
  close_kv(&b);
  snprintf(command, sizeof command, "cp '%s/redo' '%s/redo'", a.path, b.path);
  assert_int_equal(system(command), 0);
  assert_int_equal(open_mendable(&b), 0);
  assert_non_null(holt_kv_aside(b.kv));
  assert_string_equal(words(&b, ""), "other=v01");
  end_all(&b);
  end_all(&a);
}

/* A file of tables of yesterday with the log of today. */
static void test_an_older_file_of_tables_is_noticed(void **state) {
  struct machine m;
  char command[900];
  (void)state;
  begin_as(&m, IN_FOLDER);
  for (unsigned i = 0; i < 4; i++) {
    char text[20];
    assert_int_equal(open_mendable(&m), 0);
    snprintf(text, sizeof text, "k%02u=v%02u", i, i);
    assert_int_equal(change(&m, text), 0);
    close_kv(&m);
    if (i > 0) continue;
    snprintf(command, sizeof command, "cp '%s' '%s.old'", m.file, m.file);
    assert_int_equal(system(command), 0);
  }
  snprintf(command, sizeof command, "cp '%s.old' '%s'", m.file, m.file);
  assert_int_equal(system(command), 0);
  assert_int_equal(open_mendable(&m), 0);
  assert_non_null(holt_kv_aside(m.kv));
  assert_string_equal(words(&m, ""), "k00=v00");
  end_all(&m);
}

static void test_what_is_at_rest_is_not_touched(void **state) {
  struct machine m;
  char command[900];
  (void)state;
  begin_as(&m, IN_FOLDER);
  assert_int_equal(open_mendable(&m), 0);
  assert_int_equal(change(&m, "a=v01"), 0);
  close_kv(&m);
  snprintf(command, sizeof command, "cp '%s' '%s.old'", m.file, m.file);
  assert_int_equal(system(command), 0);
  assert_int_equal(open_as(&m, "another kind", 3), HOLT_EFOREIGN);
  snprintf(command, sizeof command, "cmp '%s' '%s.old'", m.file, m.file);
  assert_int_equal(system(command), 0);
  end_all(&m);
}

/* The env may go before the folder was let go. */
static void test_a_closed_store_can_be_forgotten(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, IN_FOLDER);
  assert_int_equal(open_mendable(&m), 0);
  assert_int_equal(change(&m, "a=v01"), 0);
  holt_kv_close(m.kv, on_closed, &m);
  holt_env_free(m.env);
  if (m.closed == 0) holt_kv_forget(m.kv);
  new_env(&m);
  assert_int_equal(open_mendable(&m), 0);
  assert_string_equal(words(&m, ""), "a=v01");
  end_all(&m);
}

static void test_a_dropped_store_can_be_opened_in_the_same_turn(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, IN_FOLDER);
  assert_int_equal(open_mendable(&m), 0);
  assert_int_equal(change(&m, "a=v01"), 0);
  assert_true(holt_kv_drop(m.kv));
  assert_int_equal(open_mendable(&m), 0);
  assert_string_equal(words(&m, ""), "a=v01");
  end_all(&m);
}

static void test_a_copy_put_in_its_place_counts_by_itself(void **state) {
  static struct script copied;
  struct machine m;
  char copy[300], command[900];
  (void)state;
  begin_as(&m, IN_FOLDER);
  assert_int_equal(open_mendable(&m), 0);
  assert_int_equal(change(&m, "a=v01"), 0);
  snprintf(copy, sizeof copy, "%s/copy", m.path);
  copied = (struct script){.m = &m};
  assert_int_equal(holt_kv_copy(m.kv, copy, on_done, &copied), 0);
  turn_until_told(&m, &copied);
  assert_int_equal(copied.status, 0);
  assert_int_equal(change(&m, "a=v02 b=v03"), 0);
  close_kv(&m);
  snprintf(command, sizeof command, "cp '%s/data.mdb' '%s'", copy, m.file);
  assert_int_equal(system(command), 0);
  assert_int_equal(open_mendable(&m), 0);
  assert_null(holt_kv_aside(m.kv));
  assert_string_equal(words(&m, ""), "a=v01");
  assert_int_equal(change(&m, "c=v04"), 0);
  close_kv(&m);
  assert_int_equal(open_mendable(&m), 0);
  assert_string_equal(words(&m, ""), "a=v01 c=v04");
  end_all(&m);
}

/* Delete all, each key as the cursor shows it: a place in a page that this very change moves. */
static int delete_what_is_shown(void *arg, struct holt_kv_txn *txn) {
  const struct machine *m = arg;
  for (;;) {
    struct holt_kv_cursor *cursor;
    struct holt_buf key, value;
    int rc = holt_kv_cursor_open(txn, m->table, &cursor);
    if (rc != 0) return rc;
    rc = holt_kv_seek(cursor, holt_buf(NULL, 0), &key, &value);
    if (rc == 0) rc = holt_kv_delete(txn, m->table, key);
    holt_kv_cursor_close(cursor);
    if (rc != 0) return rc == HOLT_ENOTFOUND ? 0 : rc;
  }
}

static void delete_and_die(struct machine *m) {
  NEED(open_mendable(m) == 0);
  NEED(holt_kv_run(m->kv, delete_what_is_shown, m, &m->err) == 0);
  _exit(0);
}

static void test_a_key_that_lies_in_the_store_is_logged_as_it_was(void **state) {
  struct machine m;
  (void)state;
  begin_killed(&m);
  assert_int_equal(in_child(delete_and_die, &m), 0);
  assert_int_equal(open_mendable(&m), 0);
  assert_int_equal(count_keys(&m), 0);
  end_all(&m);
}

static void change_one_and_die(struct machine *m) {
  NEED(open_mendable(m) == 0);
  NEED(change(m, "k05=v99") == 0);
  _exit(0);
}

/* As a salvage leaves the folder, or who puts a copy there: the log still has records, of another file. */
static void test_records_of_another_file_never_count(void **state) {
  static const uint8_t zeros[HOLT__REDO_ID + 8];
  struct machine m;
  (void)state;
  begin_killed(&m);
  int fd = open(m.file, O_RDWR);
  for (long at = 1024; at < 2 * sysconf(_SC_PAGESIZE); at += sysconf(_SC_PAGESIZE)) /* it has no owner */
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, at), sizeof zeros);
  close(fd);
  assert_int_equal(in_child(change_one_and_die, &m), 0);
  assert_int_equal(open_mendable(&m), 0);
  assert_null(holt_kv_aside(m.kv));
  assert_int_equal(count_keys(&m), RECORDS);
  assert_non_null(strstr(words(&m, ""), "k05=v99"));
  end_all(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_a_killed_process_logged_is_done_again),
      cmocka_unit_test(test_a_damaged_record_is_told_and_costs_no_other),
      cmocka_unit_test(test_a_damaged_head_has_a_copy),
      cmocka_unit_test(test_without_its_log_a_store_is_made_anew_and_says_so),
      cmocka_unit_test(test_a_lost_file_of_tables_leaves_what_was_logged),
      cmocka_unit_test(test_the_log_of_another_store_is_not_done),
      cmocka_unit_test(test_an_older_file_of_tables_is_noticed),
      cmocka_unit_test(test_what_is_at_rest_is_not_touched),
      cmocka_unit_test(test_a_closed_store_can_be_forgotten),
      cmocka_unit_test(test_a_dropped_store_can_be_opened_in_the_same_turn),
      cmocka_unit_test(test_a_copy_put_in_its_place_counts_by_itself),
      cmocka_unit_test(test_a_key_that_lies_in_the_store_is_logged_as_it_was),
      cmocka_unit_test(test_records_of_another_file_never_count),
  };
  return cmocka_run_group_tests_name("kv_redo", tests, NULL, NULL);
}
