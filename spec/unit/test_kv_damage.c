/* Ordered keys whose file was damaged: whatever is in it, the process lives. */
#include "base/log.h"
#include "base/mem.h"
#include "kv_machine.h"

enum { DAMAGE_KEYS = 3000, LARGE_VALUES = 40, LARGE_BYTES = 1 << 20 };

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
  if (holt_kv_size_bytes(m->kv) > LARGE_BYTES * LARGE_VALUES) _exit(sum == 1 ? 4 : 0); /* it takes too long */
  compaction = (struct script){.m = m};
  NEED(holt_kv_compact(m->kv, on_done, &compaction) == 0);
  while (compaction.told == 0) holt_env_turn(m->env, true);
  _exit(sum == 1 ? 4 : 0); /* so that the reading is not left out */
}

/* --- Writing ---------------------------------------------------------------------------------------- */

/* A short or long value under one of the keys, or one fewer. */
static int change_one(struct holt_kv_txn *txn, uint32_t table, struct holt_rand *rand) {
  static uint8_t value[20000];
  uint8_t key[4] = {0};
  uint64_t n = holt_rand_below(rand, DAMAGE_KEYS + 200), kind = holt_rand_below(rand, 10);
  key[2] = (uint8_t)(n >> 8);
  key[3] = (uint8_t)n;
  if (kind < 3) {
    int rc = holt_kv_delete(txn, table, holt_buf(key, 4));
    return rc == HOLT_ENOTFOUND ? 0 : rc;
  }
  memset(value, (int)n, sizeof value);
  size_t len = kind == 9 ? 3000 + (size_t)holt_rand_below(rand, sizeof value - 3000) : 20 * (size_t)kind;
  return holt_kv_put(txn, table, holt_buf(key, 4), holt_buf(value, len));
}

struct writing {
  struct machine *m;
  struct holt_rand rand;
};

static int change_some(void *arg, struct holt_kv_txn *txn) {
  struct writing *writing = arg;
  int rc = 0;
  for (int i = 0; i < 240 && rc == 0; i++) rc = change_one(txn, writing->m->table, &writing->rand);
  return rc;
}

/* Ten transactions all over the table. Any may be refused, none may end the process. */
static void write_all(struct machine *m) {
  struct writing writing = {.m = m};
  holt_rand_seed(&writing.rand, 5);
  NEED(open_as(m, "test", 3) == 0 || m->err.message[0] != '\0');
  if (m->err.code != 0 || holt_kv_table(m->kv, "things", &m->table, &m->err) != 0) _exit(3);
  for (int i = 0; i < 10; i++) {
    int rc = holt_kv_run(m->kv, change_some, &writing, &m->err);
    NEED(rc == 0 || rc == HOLT_ECORRUPT);
  }
  struct holt_kv_txn *txn;
  uint64_t count;
  for (int i = 0; i < 2; i++) {
    NEED(holt_kv_begin(m->kv, &txn) == 0);
    int rc = holt_kv_count(txn, m->table, &count);
    NEED(rc == 0 || rc == HOLT_ECORRUPT);
    holt_kv_end(txn);
  }
  holt_kv_close(m->kv, on_closed, m);
  while (m->closed == 0) holt_env_turn(m->env, true);
  _exit(0);
}

/* --- In a program of its own -------------------------------------------------------------------------- */

static const char *program; /* this one */

/* Of this one cmocka handles the signals, by which a store notices damage. */
static int elsewhere(const char *what, const struct machine *m) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    execlp(program, program, what, m->path, (char *)NULL);
    _exit(127);
  }
  return end_of(child);
}

static int here(void (*what)(struct machine *m), const char *path) {
  struct machine m = {.kind = IN_FOLDER};
  holt_log_set_level(HOLT_LOG_SILENT);
  alarm(20); /* going round in circles is no answer either */
  snprintf(m.path, sizeof m.path, "%s", path);
  new_env(&m);
  what(&m);
  return 1;
}

/* A closed store of many keys; the bytes of its pages. */
static uint64_t begin_filled(struct machine *m) {
  begin_as(m, IN_FOLDER);
  open_kv(m);
  assert_int_equal(holt_kv_run(m->kv, put_many, m, &m->err), 0);
  uint64_t used = holt_kv_size_bytes(m->kv);
  close_kv(m);
  return used;
}

static unsigned rounds_of(unsigned rounds) {
  const char *seeds = getenv("HOLT_SEEDS");
  return seeds != NULL ? (unsigned)strtoul(seeds, NULL, 10) : rounds;
}

static int put_large(void *arg, struct holt_kv_txn *txn) {
  const uint32_t *table = arg;
  uint8_t *value = holt_alloc(LARGE_BYTES);
  int rc = 0;
  for (uint8_t i = 0; i < LARGE_VALUES && rc == 0; i++)
    rc = holt_kv_put(txn, *table, holt_buf(&(uint8_t){i + 1}, 1), holt_buf(value, LARGE_BYTES));
  free(value);
  return rc;
}

/* Many values in another table: too large to be looked through at its opening. The bytes before them. */
static uint64_t begin_large(struct machine *m) {
  uint32_t table;
  uint64_t used = begin_filled(m);
  open_kv(m);
  assert_int_equal(holt_kv_table(m->kv, "large", &table, &m->err), 0);
  assert_int_equal(holt_kv_run(m->kv, put_large, &table, &m->err), 0);
  close_kv(m);
  return used;
}

/* One bit over in the head of a page, or anywhere in it, or all of it noise. */
static void spoil(uint8_t page[4096], unsigned how, struct holt_rand *rand) {
  if (how == 0)
    for (size_t i = 0; i < 4096; i++) page[i] = (uint8_t)holt_rand_below(rand, 256);
  else
    page[holt_rand_below(rand, how == 1 ? 64 : 4096)] ^= (uint8_t)(1U << holt_rand_below(rand, 8));
}

static void reading_survives(struct machine *m, uint64_t used, unsigned rounds) {
  struct holt_rand rand;
  unsigned died = 0, refused = 0;
  holt_rand_seed(&rand, 11);
  for (unsigned i = 0; i < rounds; i++) {
    uint8_t good[4096], bad[4096];
    uint64_t page = 2 + holt_rand_below(&rand, used / 4096 - 2);
    int fd = open(m->file, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, good, sizeof good, (off_t)page * 4096), sizeof good);
    memcpy(bad, good, sizeof bad);
    spoil(bad, i % 3, &rand);
    assert_int_equal(pwrite(fd, bad, sizeof bad, (off_t)page * 4096), sizeof bad);
    int status = elsewhere("--read", m);
    if (status == 3) refused++;
    if (status != 3 && status != 0) {
      died++;
      print_message("round %u, page %llu: %d\n", i, (unsigned long long)page, status);
    }
    assert_int_equal(pwrite(fd, good, sizeof good, (off_t)page * 4096), sizeof good);
    close(fd);
  }
  assert_int_equal(died, 0);
  assert_true(refused < rounds);
}

static void test_reading_damaged_pages_does_not_end_the_process(void **state) {
  struct machine m;
  struct stat info;
  (void)state;
  uint64_t used = begin_filled(&m);
  assert_int_equal(stat(m.file, &info), 0);
  assert_true((uint64_t)info.st_size > used + HOLT_KV_VALUE_MAX); /* the slack */
  reading_survives(&m, used, rounds_of(60));
  end(&m);
}

static void test_reading_damaged_pages_of_a_large_store_does_not_end_the_process(void **state) {
  struct machine m;
  (void)state;
  uint64_t used = begin_large(&m);
  reading_survives(&m, used, rounds_of(150));
  end(&m);
}

/* What stands in the files of a store that was written to for a while. */
struct saved {
  uint8_t *data, *log;
  size_t data_len, log_len;
  size_t large_from, large_to; /* where values lie that nobody changes */
  char data_path[300], log_path[300];
};

static uint8_t *read_file(const char *path, size_t *len) {
  struct stat info;
  int fd = open(path, O_RDONLY);
  assert_true(fd >= 0);
  assert_int_equal(fstat(fd, &info), 0);
  *len = (size_t)info.st_size;
  uint8_t *bytes = holt_alloc(*len);
  assert_int_equal(read(fd, bytes, *len), *len);
  close(fd);
  return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len, size_t skip, size_t skip_to) {
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, (off_t)len), 0);
  assert_int_equal(pwrite(fd, bytes, skip, 0), skip);
  assert_int_equal(pwrite(fd, bytes + skip_to, len - skip_to, (off_t)skip_to), len - skip_to);
  close(fd);
}

static void save(struct saved *saved, const struct machine *m) {
  snprintf(saved->data_path, sizeof saved->data_path, "%s/data.mdb", m->path);
  snprintf(saved->log_path, sizeof saved->log_path, "%s/redo", m->path);
  saved->data = read_file(saved->data_path, &saved->data_len);
  saved->log = read_file(saved->log_path, &saved->log_len);
}

/* As they were, but for one page. */
static void damage(const struct saved *saved, uint64_t page, unsigned how, struct holt_rand *rand) {
  uint8_t noise[4096];
  memcpy(noise, saved->data + page * 4096, sizeof noise);
  spoil(noise, how, rand);
  char lock[300];
  snprintf(lock, sizeof lock, "%.*s/lock.mdb", (int)(strlen(saved->log_path) - 5), saved->log_path);
  unlink(lock);
  snprintf(lock, sizeof lock, "%.*s/damaged", (int)(strlen(saved->log_path) - 5), saved->log_path);
  unlink(lock);
  write_file(saved->data_path, saved->data, saved->data_len, saved->large_from, saved->large_to);
  write_file(saved->log_path, saved->log, saved->log_len, 0, 0);
  int fd = open(saved->data_path, O_WRONLY);
  assert_true(fd >= 0);
  assert_int_equal(pwrite(fd, noise, sizeof noise, (off_t)page * 4096), sizeof noise);
  close(fd);
}

/* Whatever a page holds, writing goes on or is refused. */
static void writing_survives(struct machine *m, uint64_t used, uint64_t large_to, unsigned rounds) {
  struct saved saved = {.large_from = used, .large_to = large_to};
  struct holt_rand rand;
  unsigned died = 0, refused = 0;
  save(&saved, m);
  holt_rand_seed(&rand, 12);
  for (unsigned i = 0; i < rounds; i++) {
    uint64_t page = 2 + holt_rand_below(&rand, used / 4096 - 2);
    damage(&saved, page, i % 3, &rand);
    int status = elsewhere("--write", m);
    if (status == 3) refused++;
    if (status == 3 || status == 0) continue;
    died++;
    print_message("round %u, page %llu: %d\n", i, (unsigned long long)page, status);
  }
  assert_int_equal(died, 0);
  assert_true(refused < rounds);
  free(saved.data);
  free(saved.log);
}

static void test_writing_beside_damaged_pages_does_not_end_the_process(void **state) {
  struct machine m;
  (void)state;
  uint64_t used = begin_filled(&m);
  assert_int_equal(elsewhere("--write", &m), 0); /* so that there are free pages, too */
  writing_survives(&m, used, used, rounds_of(150));
  end(&m);
}

static void test_writing_beside_damaged_pages_of_a_large_store_does_not_end_the_process(void **state) {
  struct machine m;
  (void)state;
  uint64_t used = begin_large(&m), large_to = used + (uint64_t)LARGE_VALUES * LARGE_BYTES;
  assert_int_equal(elsewhere("--write", &m), 0);
  writing_survives(&m, used, large_to, rounds_of(150));
  end(&m);
}

static void test_a_file_cut_short_does_not_end_the_process(void **state) {
  struct machine m;
  (void)state;
  uint64_t used = begin_filled(&m);
  for (int i = 8; i > 0; i--) {
    assert_int_equal(truncate(m.file, (off_t)(used * (unsigned)i / 9)), 0);
    int status = elsewhere("--read", &m);
    assert_true(status == 0 || status == 3);
  }
  end(&m);
}

int main(int argc, char **argv) {
  program = argv[0];
  if (argc == 3 && strcmp(argv[1], "--read") == 0) return here(read_all, argv[2]);
  if (argc == 3 && strcmp(argv[1], "--write") == 0) return here(write_all, argv[2]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reading_damaged_pages_does_not_end_the_process),
      cmocka_unit_test(test_reading_damaged_pages_of_a_large_store_does_not_end_the_process),
      cmocka_unit_test(test_writing_beside_damaged_pages_does_not_end_the_process),
      cmocka_unit_test(test_writing_beside_damaged_pages_of_a_large_store_does_not_end_the_process),
      cmocka_unit_test(test_a_file_cut_short_does_not_end_the_process),
  };
  return cmocka_run_group_tests_name("kv_damage", tests, NULL, NULL);
}
