/* Ordered keys in tables: the same stories on LMDB in a folder, in memory, and on a simulated host; then what
 * only a folder or only a simulated disk can suffer. */
#include "kv_machine.h"

/* --- The same on all three ------------------------------------------------------------------------ */

static void keeps_keys_in_order(struct machine *m) {
  struct holt_kv_txn *txn;
  struct holt_buf value;
  uint64_t count;
  open_kv(m);
  assert_int_equal(holt_kv_version(m->kv), 0);
  assert_string_equal(words(m, ""), "");
  assert_int_equal(change(m, "b=2 a=1 ab=3 c=4"), 0);
  assert_string_equal(words(m, ""), "a=1 ab=3 b=2 c=4");
  assert_int_equal(change(m, "b=9 -a B=5"), 0);
  assert_string_equal(words(m, ""), "B=5 ab=3 b=9 c=4");
  assert_string_equal(words(m, "aa"), "ab=3 b=9 c=4");
  assert_string_equal(words(m, "d"), "");
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  assert_int_equal(holt_kv_get(txn, m->table, holt_buf_text("b"), &value), 0);
  assert_memory_equal(value.data, "9", 1);
  assert_int_equal(holt_kv_get(txn, m->table, holt_buf_text("a"), &value), HOLT_ENOTFOUND);
  assert_int_equal(holt_kv_get(txn, m->table, holt_buf(NULL, 0), &value), HOLT_ENOTFOUND);
  assert_int_equal(holt_kv_count(txn, m->table, &count), 0);
  assert_int_equal(count, 4);
  holt_kv_end(txn);
}

static void seeks_backward(struct machine *m) {
  struct holt_kv_txn *txn;
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  open_kv(m);
  assert_int_equal(change(m, "b=1 d=2"), 0);
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  assert_int_equal(holt_kv_cursor_open(txn, m->table, &cursor), 0);
  assert_int_equal(holt_kv_seek_back(cursor, holt_buf_text("a"), &key, &value), HOLT_ENOTFOUND);
  assert_int_equal(holt_kv_seek_back(cursor, holt_buf_text("b"), &key, &value), 0);
  assert_memory_equal(key.data, "b", 1);
  assert_int_equal(holt_kv_seek_back(cursor, holt_buf_text("c"), &key, &value), 0);
  assert_memory_equal(key.data, "b", 1);
  assert_int_equal(holt_kv_seek_back(cursor, holt_buf_text("e"), &key, &value), 0);
  assert_memory_equal(key.data, "d", 1);
  holt_kv_cursor_close(cursor);
  holt_kv_end(txn);
}

static int look_from_inside(void *arg, struct holt_kv_txn *txn) {
  struct machine *m = arg;
  struct script script = {.m = m, .text = "aa=7 -b d=8"};
  uint64_t count;
  assert_int_equal(run_script(&script, txn), 0);
  assert_string_equal(words_in(txn, m->table, ""), "a=1 aa=7 c=3 d=8");
  assert_int_equal(holt_kv_count(txn, m->table, &count), 0);
  assert_int_equal(count, 4);
  assert_int_equal(holt_kv_delete(txn, m->table, holt_buf_text("b")), HOLT_ENOTFOUND);
  assert_int_equal(holt_kv_append(txn, m->table, holt_buf_text("cc"), holt_buf_text("0")), HOLT_EEXISTS);
  assert_int_equal(holt_kv_append(txn, m->table, holt_buf_text("e"), holt_buf_text("9")), 0);
  assert_int_equal(holt_kv_put(txn, m->table, holt_buf(NULL, 0), holt_buf_text("9")), HOLT_EINVAL);
  return 0;
}

static void a_transaction_sees_its_own_changes(struct machine *m) {
  open_kv(m);
  assert_int_equal(change(m, "a=1 b=2 c=3"), 0);
  assert_int_equal(holt_kv_run(m->kv, look_from_inside, m, &m->err), 0);
  assert_string_equal(words(m, ""), "a=1 aa=7 c=3 d=8 e=9");
}

static void a_refused_one_changes_nothing(struct machine *m) {
  open_kv(m);
  assert_int_equal(change(m, "a=1"), 0);
  assert_int_equal(change(m, "b=2 -a stop"), HOLT_EREFUSED);
  assert_string_equal(words(m, ""), "a=1");
  assert_int_equal(change(m, "b=2"), 0); /* and writing goes on */
  assert_string_equal(words(m, ""), "a=1 b=2");
}

static void a_read_sees_one_moment(struct machine *m) {
  struct holt_kv_txn *txn, *later;
  open_kv(m);
  assert_int_equal(change(m, "a=1"), 0);
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  if (m->kind == IN_FOLDER) { /* in memory no read may be open between turns at all */
    assert_int_equal(change(m, "a=2 b=3"), 0);
    assert_int_equal(holt_kv_begin(m->kv, &later), 0);
    assert_string_equal(words_in(later, m->table, ""), "a=2 b=3");
    holt_kv_end(later);
  }
  assert_string_equal(words_in(txn, m->table, ""), "a=1");
  holt_kv_end(txn);
}

enum { JOBS = 20 };

static void jobs_run_one_after_another(struct machine *m) {
  static struct script scripts[JOBS];
  static char texts[JOBS][20];
  open_kv(m);
  for (int i = 0; i < JOBS; i++) {
    snprintf(texts[i], sizeof texts[i], i == 7 ? "never=1 stop" : "last=%d k%02d=x", i, i);
    submit(m, &scripts[i], texts[i]);
  }
  turn_until_told(m, &scripts[JOBS - 1]);
  for (unsigned i = 0; i < JOBS; i++) {
    assert_int_equal(scripts[i].told, 1);
    assert_int_equal(scripts[i].place, i);
    assert_int_equal(scripts[i].status, i == 7 ? HOLT_EREFUSED : 0);
  }
  assert_string_equal(words(m, "l"), "last=19");
  assert_string_equal(words(m, "k18"), "k18=x k19=x last=19");
}

static void closing_ends_what_waits(struct machine *m) {
  static struct script scripts[3];
  open_kv(m);
  for (int i = 0; i < 3; i++) submit(m, &scripts[i], "a=1");
  close_kv(m);
  assert_int_equal(scripts[0].status, 0); /* it was under way */
  for (int i = 1; i < 3; i++) {
    assert_int_equal(scripts[i].told, 1);
    assert_int_equal(scripts[i].status, HOLT_ECANCELED);
  }
}

static void closes_again(void *arg, int status, const struct holt_err *err) {
  struct script *script = arg;
  on_done(arg, status, err);
  holt_kv_close(script->m->kv, on_closed, script->m);
  script->m->kv = NULL;
}

static void can_be_closed_from_a_callback(struct machine *m) {
  static struct script script;
  open_kv(m);
  script = (struct script){.m = m, .text = "a=1"};
  script.job = (struct holt_kv_job){.write = run_script, .done = closes_again, .arg = &script};
  holt_kv_submit(m->kv, &script.job);
  for (int i = 0; i < 1000 && m->closed == 0; i++) holt_env_turn(m->env, true);
  assert_int_equal(m->closed, 1);
  assert_int_equal(script.told, 1);
}

static void note_table(void *arg, const char *name) {
  char *text = arg; /* 100 bytes */
  snprintf(text + strlen(text), 100 - strlen(text), "%s ", name);
}

static void names_its_tables(struct machine *m) {
  char text[100] = "";
  uint32_t other;
  open_kv(m);
  assert_int_equal(holt_kv_table(m->kv, "others", &other, &m->err), 0);
  assert_int_equal(holt_kv_each_table(m->kv, note_table, text), 0);
  assert_true(strcmp(text, "others things ") == 0 || strcmp(text, "things others ") == 0);
}

static void is_there_again_after_a_close(struct machine *m) {
  if (m->kind == IN_MEMORY) return;
  open_kv(m);
  assert_int_equal(change(m, "a=1"), 0);
  close_kv(m);
  open_kv(m);
  assert_int_equal(holt_kv_version(m->kv), 3);
  assert_string_equal(words(m, ""), "a=1");
}

static int raise_version(void *arg, struct holt_kv_txn *txn) {
  (void)arg;
  return holt_kv_stamp(txn, 4);
}

static void knows_whose_it_is(struct machine *m) {
  if (m->kind == IN_MEMORY) return;
  open_kv(m);
  close_kv(m);
  assert_int_equal(open_as(m, "other", 3), HOLT_EFOREIGN);
  assert_non_null(strstr(m->err.message, "holds a test, not a other"));
  assert_int_equal(open_as(m, "test", 2), HOLT_EVERSION);
  assert_non_null(strstr(m->err.message, "newer holt"));
  assert_int_equal(open_as(m, "test", 4), 0); /* an older one is opened, for the caller to bring it up */
  assert_int_equal(holt_kv_version(m->kv), 3);
  assert_int_equal(holt_kv_run(m->kv, raise_version, NULL, &m->err), 0);
  close_kv(m);
  assert_int_equal(open_as(m, "test", 3), HOLT_EVERSION);
  m->kv = NULL;
}

static void a_second_opener_is_refused(struct machine *m) {
  struct holt_kv *first;
  if (m->kind == IN_MEMORY) return;
  open_kv(m);
  first = m->kv;
  assert_int_equal(open_as(m, "test", 3), HOLT_ELOCKED);
  assert_non_null(strstr(m->err.message, "in use"));
  m->kv = first;
  assert_int_equal(change(m, "a=1"), 0);
}

/* The map is a sorted list of numbers: what the table must hold. */
static void is_as_a_plain_list(struct machine *m) {
  enum { KEYS = 500, ROUNDS = 60 };
  bool is_there[KEYS] = {false};
  struct holt_rand rand;
  holt_rand_seed(&rand, 77);
  open_kv(m);
  for (int round = 0; round < ROUNDS; round++) {
    static struct script script;
    char text[300] = "";
    size_t len = 0;
    for (int i = 0; i < 20; i++) {
      unsigned key = (unsigned)holt_rand_below(&rand, KEYS);
      bool is_put = holt_rand_below(&rand, 5) < 3;
      if (!is_put && !is_there[key]) continue;
      is_there[key] = is_put;
      len += (size_t)snprintf(text + len, sizeof text - len, is_put ? "k%03u=v " : "-k%03u ", key);
    }
    submit(m, &script, text);
    turn_until_told(m, &script);
    assert_int_equal(script.status, 0);
    struct holt_kv_txn *txn;
    struct holt_kv_cursor *cursor;
    struct holt_buf key, value;
    assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
    assert_int_equal(holt_kv_cursor_open(txn, m->table, &cursor), 0);
    int rc = holt_kv_seek(cursor, holt_buf(NULL, 0), &key, &value);
    for (unsigned i = 0; i < KEYS; i++) {
      char name[8];
      if (!is_there[i]) continue;
      snprintf(name, sizeof name, "k%03u", i);
      assert_int_equal(rc, 0);
      assert_int_equal(key.len, 4);
      assert_memory_equal(key.data, name, 4);
      rc = holt_kv_next(cursor, &key, &value);
    }
    assert_int_equal(rc, HOLT_ENOTFOUND);
    holt_kv_cursor_close(cursor);
    holt_kv_end(txn);
  }
}

static void everywhere(void (*story)(struct machine *m)) {
  for (int kind = IN_FOLDER; kind <= ON_HOST; kind++) {
    struct machine m;
    begin_as(&m, (enum kind)kind);
    story(&m);
    end(&m);
  }
}

#define EVERYWHERE(story)                                                                                    \
  static void test_##story(void **state) {                                                                   \
    (void)state;                                                                                             \
    everywhere(story);                                                                                       \
  }
EVERYWHERE(keeps_keys_in_order)
EVERYWHERE(seeks_backward)
EVERYWHERE(a_transaction_sees_its_own_changes)
EVERYWHERE(a_refused_one_changes_nothing)
EVERYWHERE(a_read_sees_one_moment)
EVERYWHERE(jobs_run_one_after_another)
EVERYWHERE(closing_ends_what_waits)
EVERYWHERE(can_be_closed_from_a_callback)
EVERYWHERE(names_its_tables)
EVERYWHERE(is_there_again_after_a_close)
EVERYWHERE(knows_whose_it_is)
EVERYWHERE(a_second_opener_is_refused)
EVERYWHERE(is_as_a_plain_list)

/* --- A folder ------------------------------------------------------------------------------------- */

static void test_the_folder_is_the_owners_alone(void **state) {
  struct machine m;
  struct stat info;
  (void)state;
  begin_as(&m, IN_FOLDER);
  strcat(m.path, "/deeper/still");
  snprintf(m.file, sizeof m.file, "%s/data.mdb", m.path);
  open_kv(&m);
  assert_int_equal(stat(m.path, &info), 0);
  assert_int_equal(info.st_mode & 0777, 0700);
  assert_int_equal(stat(m.file, &info), 0);
  assert_int_equal(info.st_mode & 0777, 0600);
  close_kv(&m);
  *strstr(m.path, "/deeper") = '\0';
  end(&m);
}

static void write_file(const char *path, const void *data, size_t len) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, data, len), len);
  close(fd);
}

static void test_what_is_no_store_is_refused_in_words(void **state) {
  struct machine m;
  char noise[20000];
  (void)state;
  begin_as(&m, IN_FOLDER);
  for (size_t i = 0; i < sizeof noise; i++) noise[i] = (char)(i * 7);
  write_file(m.file, noise, sizeof noise);
  assert_int_equal(open_as(&m, "test", 3), HOLT_ECORRUPT);
  assert_non_null(strstr(m.err.message, "is damaged"));
  m.kv = NULL;
  write_file(m.file, noise, 0); /* as a crash at the first start leaves it */
  open_kv(&m);
  end(&m);
}

static void test_a_path_that_is_no_folder_is_refused_in_words(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, IN_FOLDER);
  write_file(m.file, "x", 1);
  strcat(m.path, "/data.mdb");
  assert_int_equal(open_as(&m, "test", 3), HOLT_EINVAL);
  m.kv = NULL;
  *strrchr(m.path, '/') = '\0';
  end(&m);
}

static void copied(void *arg, int status, const struct holt_err *err) {
  on_done(arg, status, err);
}

static void test_is_copied_while_in_use(void **state) {
  struct machine m, copy;
  static struct script script, meanwhile;
  char path[250];
  (void)state;
  begin_as(&m, IN_FOLDER);
  begin_as(&copy, IN_FOLDER);
  open_kv(&m);
  assert_int_equal(change(&m, "a=1 b=2"), 0);
  snprintf(path, sizeof path, "%s/backup", copy.path);
  script = (struct script){.m = &m};
  assert_int_equal(holt_kv_copy(m.kv, path, copied, &script), 0);
  assert_int_equal(holt_kv_copy(m.kv, path, copied, &script), HOLT_EBUSY);
  submit(&m, &meanwhile, "c=3");
  turn_until_told(&m, &script);
  assert_int_equal(script.status, 0);
  if (meanwhile.told == 0) turn_until_told(&m, &meanwhile);
  assert_int_equal(meanwhile.status, 0);
  script = (struct script){.m = &m};
  assert_int_equal(holt_kv_copy(m.kv, path, copied, &script), 0);
  turn_until_told(&m, &script);
  assert_int_equal(script.status, HOLT_EEXISTS);
  script = (struct script){.m = &m};
  assert_int_equal(holt_kv_copy(m.kv, "/nowhere/at/all", copied, &script), 0);
  turn_until_told(&m, &script);
  assert_int_equal(script.status, HOLT_ENOTFOUND);
  snprintf(copy.path, sizeof copy.path, "%.150s", path);
  open_kv(&copy);
  assert_true(strncmp(words(&copy, ""), "a=1 b=2", 7) == 0);
  close_kv(&copy);
  *strstr(copy.path, "/backup") = '\0';
  end(&copy);
  end(&m);
}

/* --- A simulated disk ----------------------------------------------------------------------------- */

static void test_a_dying_host_has_done_its_transaction_or_not(void **state) {
  unsigned kept = 0, lost = 0;
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    struct holt_sim_config config = {.seed = seed, .disk_min_us = 100, .disk_max_us = 900};
    struct machine m = {.kind = ON_HOST, .sim = holt_sim_new(&config), .path = "data"};
    static struct script scripts[3];
    new_env(&m);
    open_kv(&m);
    submit(&m, &scripts[0], "a=1 b=1");
    turn_until_told(&m, &scripts[0]);
    submit(&m, &scripts[1], "a=2 b=2");
    submit(&m, &scripts[2], "a=3 b=3");
    holt_env_free(m.env);
    holt_kv_forget(m.kv);
    assert_int_equal(scripts[1].told, 0);
    new_env(&m);
    open_kv(&m);
    const char *text = words(&m, "");
    if (strcmp(text, "a=2 b=2") == 0)
      kept++;
    else
      lost++;
    if (strcmp(text, "a=2 b=2") != 0) assert_string_equal(text, "a=1 b=1");
    end(&m);
  }
  assert_true(kept > 5);
  assert_true(lost > 5);
}

static void test_a_simulated_disk_fails_when_told(void **state) {
  static struct script script;
  struct machine m;
  (void)state;
  begin_as(&m, ON_HOST);
  struct holt_kv_disk *disk = holt_kv_disk_of(m.sim, "n1", m.path);
  open_kv(&m);
  assert_int_equal(change(&m, "a=1"), 0);
  holt_kv_disk_limit(disk, 4);
  assert_int_equal(change(&m, "b=1 c=2"), HOLT_ENOSPC);
  assert_string_equal(words(&m, ""), "a=1");
  holt_kv_disk_limit(disk, 0);
  assert_int_equal(change(&m, "b=1 c=2"), 0);
  assert_int_equal(holt_kv_disk_stats(disk).commits, 2);
  holt_kv_disk_fail(disk, 1, HOLT_EIO);
  assert_int_equal(change(&m, "d=1"), 0);
  assert_int_equal(change(&m, "e=1"), HOLT_EIO);
  assert_int_equal(change(&m, "f=1"), HOLT_EIO); /* nothing can be written any more */
  submit(&m, &script, "f=1");
  turn_until_told(&m, &script);
  assert_int_equal(script.status, HOLT_EIO);
  assert_string_equal(words(&m, ""), "a=1 b=1 c=2 d=1");
  assert_int_equal(holt_kv_disk_flip(disk, "things", 1, 0), 0);
  assert_int_equal(holt_kv_disk_lose(disk, "things", 0), 0);
  assert_int_equal(holt_kv_disk_lose(disk, "things", 9), HOLT_ENOTFOUND);
  assert_string_equal(words(&m, ""), "b=0 c=2 d=1");
  end(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_keeps_keys_in_order),
      cmocka_unit_test(test_seeks_backward),
      cmocka_unit_test(test_a_transaction_sees_its_own_changes),
      cmocka_unit_test(test_a_refused_one_changes_nothing),
      cmocka_unit_test(test_a_read_sees_one_moment),
      cmocka_unit_test(test_jobs_run_one_after_another),
      cmocka_unit_test(test_closing_ends_what_waits),
      cmocka_unit_test(test_can_be_closed_from_a_callback),
      cmocka_unit_test(test_names_its_tables),
      cmocka_unit_test(test_is_there_again_after_a_close),
      cmocka_unit_test(test_knows_whose_it_is),
      cmocka_unit_test(test_a_second_opener_is_refused),
      cmocka_unit_test(test_is_as_a_plain_list),
      cmocka_unit_test(test_the_folder_is_the_owners_alone),
      cmocka_unit_test(test_what_is_no_store_is_refused_in_words),
      cmocka_unit_test(test_a_path_that_is_no_folder_is_refused_in_words),
      cmocka_unit_test(test_is_copied_while_in_use),
      cmocka_unit_test(test_a_dying_host_has_done_its_transaction_or_not),
      cmocka_unit_test(test_a_simulated_disk_fails_when_told),
  };
  return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
