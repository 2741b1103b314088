/* Ordered keys whose file was damaged: whatever is in it, the process lives. */
#include "base/log.h"
#include "kv_machine.h"

enum { DAMAGE_KEYS = 3000 };

static int put_many(void *arg, struct holt_kv_txn *txn) {
  struct machine *m = arg;
  for (unsigned i = 0; i < DAMAGE_KEYS; i++) {
    uint8_t key[4], value[150];
    for (int k = 0; k < 4; k++) key[k] = (uint8_t)(i >> (24 - 8 * k));
    memset(value, (int)(i % 251), sizeof value);
    int rc = holt_kv_put(txn, m->table, holt_buf(key, 4), holt_buf(value, sizeof value));
    if (rc != 0) return rc;
  }
  return 0;
}

/* Read it all, every way there is. It may answer anything; it must answer. Exits with 3 where the store was
 * refused. */
static void read_all(struct machine *m) {
  struct holt_kv_txn *txn;
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  uint32_t sum = 0;
  unsigned steps = 0;
  NEED(open_as(m, "test", 3) == 0 || m->err.message[0] != '\0');
  if (m->err.code != 0 || holt_kv_table(m->kv, "things", &m->table, &m->err) != 0) _exit(3);
  NEED(holt_kv_begin(m->kv, &txn) == 0);
  NEED(holt_kv_cursor_open(txn, m->table, &cursor) == 0);
  int rc = holt_kv_seek(cursor, holt_buf(NULL, 0), &key, &value);
  for (; rc == 0 && steps < 2 * DAMAGE_KEYS; rc = holt_kv_next(cursor, &key, &value), steps++)
    for (size_t i = 0; i < value.len; i++) sum += value.data[i];
  holt_kv_cursor_close(cursor);
  holt_kv_end(txn);
  for (unsigned i = 0; i < DAMAGE_KEYS; i += 7) {
    uint8_t name[4] = {0, 0, (uint8_t)(i >> 8), (uint8_t)i};
    NEED(holt_kv_begin(m->kv, &txn) == 0);
    rc = holt_kv_get(txn, m->table, holt_buf(name, 4), &value);
    for (size_t k = 0; rc == 0 && k < value.len; k++) sum += value.data[k];
    NEED(rc == 0 || rc == HOLT_ENOTFOUND || rc == HOLT_ECORRUPT);
    holt_kv_end(txn);
  }
  static struct script compaction;
  compaction = (struct script){.m = m};
  NEED(holt_kv_compact(m->kv, on_done, &compaction) == 0);
  while (compaction.told == 0) holt_env_turn(m->env, true);
  _exit(sum == 1 ? 4 : 0); /* so that the reading is not left out */
}

static const char *program; /* this one */

/* In a program of its own: of this one cmocka handles the signals, by which a store notices damage. */
static int read_all_elsewhere(const struct machine *m) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    execlp(program, program, "--read", m->path, (char *)NULL);
    _exit(127);
  }
  return end_of(child);
}

static int read_all_here(const char *path) {
  struct machine m = {.kind = IN_FOLDER};
  holt_log_set_level(HOLT_LOG_SILENT);
  alarm(20); /* going round in circles is no answer either */
  snprintf(m.path, sizeof m.path, "%s", path);
  new_env(&m);
  read_all(&m);
  return 1;
}

/* One bit over in the head of a page, or anywhere: the process lives. */
/* A closed store of many keys; the bytes of its pages. */
static uint64_t begin_filled(struct machine *m) {
  begin_as(m, IN_FOLDER);
  open_kv(m);
  assert_int_equal(holt_kv_run(m->kv, put_many, m, &m->err), 0);
  uint64_t used = holt_kv_size_bytes(m->kv);
  close_kv(m);
  return used;
}

static void test_flipped_bits_do_not_end_the_process(void **state) {
  struct machine m;
  struct stat info;
  struct holt_rand rand;
  const char *seeds = getenv("HOLT_SEEDS");
  unsigned rounds = seeds != NULL ? (unsigned)strtoul(seeds, NULL, 10) : 150, died = 0, refused = 0;
  (void)state;
  uint64_t used = begin_filled(&m);
  assert_int_equal(stat(m.file, &info), 0);
  assert_true((uint64_t)info.st_size > used + HOLT_KV_VALUE_MAX); /* the slack */
  holt_rand_seed(&rand, 11);
  for (unsigned i = 0; i < rounds; i++) {
    uint64_t page = 2 + holt_rand_below(&rand, used / 4096 - 2);
    uint64_t at = page * 4096 + holt_rand_below(&rand, i % 2 == 0 ? 64 : 4096);
    uint8_t byte, bad;
    int fd = open(m.file, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    bad = byte ^ (uint8_t)(1U << holt_rand_below(&rand, 8));
    assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
    int status = read_all_elsewhere(&m);
    if (status == 3) refused++;
    if (status != 3 && status != 0) {
      died++;
      print_message("byte %llu of page %llu: %d\n", (unsigned long long)at % 4096, (unsigned long long)page,
                    status);
    }
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
  }
  assert_int_equal(died, 0);
  assert_true(refused < rounds);
  end(&m);
}

static void test_a_file_cut_short_does_not_end_the_process(void **state) {
  struct machine m;
  (void)state;
  uint64_t used = begin_filled(&m);
  for (int i = 8; i > 0; i--) {
    assert_int_equal(truncate(m.file, (off_t)(used * (unsigned)i / 9)), 0);
    int status = read_all_elsewhere(&m);
    assert_true(status == 0 || status == 3);
  }
  end(&m);
}

int main(int argc, char **argv) {
  program = argv[0];
  if (argc == 3 && strcmp(argv[1], "--read") == 0) return read_all_here(argv[2]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_flipped_bits_do_not_end_the_process),
      cmocka_unit_test(test_a_file_cut_short_does_not_end_the_process),
  };
  return cmocka_run_group_tests_name("kv_damage", tests, NULL, NULL);
}
