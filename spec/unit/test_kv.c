/* Ordered keys in tables: the same stories on LMDB in a folder, in memory, and on a simulated host; then what
 * only a folder or only a simulated disk can suffer. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rand.h"
#include "env/sim.h"
#include "env/uv.h"
#include "store/kv.h"
#include "store/kv_disk.h"
#include "unit.h"

/* --- Three machines ------------------------------------------------------------------------------- */

enum kind { IN_FOLDER, IN_MEMORY, ON_HOST };

struct machine {
  enum kind kind;
  struct holt_env *env;
  struct holt_sim *sim;
  char path[200], file[250];
  struct holt_kv *kv;
  uint32_t table;
  unsigned closed, done;
  struct holt_err err;
};

static int open_as(struct machine *m, const char *kind, uint32_t version) {
  struct holt_kv_options options = {
      .path = m->kind == IN_MEMORY ? NULL : m->path, .kind = kind, .version = version};
  m->err = (struct holt_err){0};
  if (m->sim == NULL) /* a refused opening lets go of the folder with the next turn */
    for (int i = 0; i < 3; i++) holt_env_turn(m->env, false);
  return holt_kv_open(m->env, &options, &m->kv, &m->err);
}

static void open_kv(struct machine *m) {
  int rc = open_as(m, "test", 3);
  if (rc != 0) fail_msg("%s", m->err.message);
  assert_int_equal(holt_kv_table(m->kv, "things", &m->table, &m->err), 0);
}

static void new_env(struct machine *m) {
  m->env = m->kind == ON_HOST ? holt_sim_host(m->sim, "n1") : holt_env_uv_new();
  assert_non_null(m->env);
}

static void begin_as(struct machine *m, enum kind kind) {
  *m = (struct machine){.kind = kind};
  if (kind == ON_HOST) {
    struct holt_sim_config config = {.seed = 9, .disk_min_us = 100, .disk_max_us = 900};
    m->sim = holt_sim_new(&config);
    snprintf(m->path, sizeof m->path, "data");
  } else {
    const char *temporary = getenv("TMPDIR");
    snprintf(m->path, sizeof m->path, "%s/holt-test-XXXXXX", temporary != NULL ? temporary : "/tmp");
    assert_non_null(mkdtemp(m->path));
  }
  snprintf(m->file, sizeof m->file, "%s/data.mdb", m->path);
  new_env(m);
}

static void on_closed(void *arg) {
  ((struct machine *)arg)->closed++;
}

static void close_kv(struct machine *m) {
  m->closed = 0;
  holt_kv_close(m->kv, on_closed, m);
  assert_int_equal(m->closed, 0); /* never inside the call */
  for (int i = 0; i < 100000 && m->closed == 0; i++) holt_env_turn(m->env, true);
  assert_int_equal(m->closed, 1);
  m->kv = NULL;
}

static void end(struct machine *m) {
  if (m->kv != NULL) close_kv(m);
  holt_env_free(m->env);
  if (m->sim != NULL) {
    holt_sim_free(m->sim);
    return;
  }
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", m->path);
  assert_int_equal(system(command), 0);
}

/* --- Words for transactions ----------------------------------------------------------------------- */

static int put(struct holt_kv_txn *txn, uint32_t table, const char *key, const char *value) {
  return holt_kv_put(txn, table, holt_buf_text(key), holt_buf_text(value));
}

/* "a=1 b=2 -c": puts and deletes. A word "stop" refuses the transaction. */
struct script {
  struct machine *m;
  const char *text;
  unsigned told, place; /* how often, and as the how manieth of all */
  int status;
  struct holt_kv_job job;
};

static int run_script(void *arg, struct holt_kv_txn *txn) {
  const struct script *script = arg;
  char text[300], *save = NULL;
  snprintf(text, sizeof text, "%s", script->text);
  for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
    char *equals = strchr(word, '=');
    int rc = 0;
    if (strcmp(word, "stop") == 0) return HOLT_EREFUSED;
    if (word[0] == '-')
      rc = holt_kv_delete(txn, script->m->table, holt_buf_text(word + 1));
    else {
      assert_non_null(equals);
      *equals = '\0';
      rc = put(txn, script->m->table, word, equals + 1);
    }
    if (rc != 0) return rc;
  }
  return 0;
}

static void on_done(void *arg, int status, const struct holt_err *err) {
  struct script *script = arg;
  script->told++;
  script->status = status;
  script->place = script->m->done++;
  script->m->err = *err;
}

static void submit(struct machine *m, struct script *script, const char *text) {
  *script = (struct script){.m = m, .text = text};
  script->job = (struct holt_kv_job){.write = run_script, .done = on_done, .arg = script};
  holt_kv_submit(m->kv, &script->job);
  assert_int_equal(script->told, 0); /* never inside the call */
}

static void turn_until_told(struct machine *m, const struct script *script) {
  for (int i = 0; i < 100000 && script->told == 0; i++) {
    struct holt_kv_txn *txn; /* reading goes on meanwhile: the thread sanitizer looks on */
    uint64_t count;
    assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
    assert_int_equal(holt_kv_count(txn, m->table, &count), 0);
    holt_kv_end(txn);
    holt_env_turn(m->env, true);
  }
  assert_int_equal(script->told, 1);
}

static int change(struct machine *m, const char *text) {
  struct script script = {.m = m, .text = text};
  return holt_kv_run(m->kv, run_script, &script, &m->err);
}

/* The table as "a=1 b=2", forward, which must be the mirror of backward. */
static const char *words_in(struct holt_kv_txn *txn, uint32_t table, const char *from) {
  static char text[2000];
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  size_t len = 0;
  unsigned count = 0;
  text[0] = '\0';
  assert_int_equal(holt_kv_cursor_open(txn, table, &cursor), 0);
  int rc = holt_kv_seek(cursor, holt_buf_text(from), &key, &value);
  for (; rc == 0; rc = holt_kv_next(cursor, &key, &value), count++)
    len += (size_t)snprintf(text + len, sizeof text - len, "%s%.*s=%.*s", len > 0 ? " " : "", (int)key.len,
                            (const char *)key.data, (int)value.len, (const char *)value.data);
  assert_int_equal(rc, HOLT_ENOTFOUND);
  rc = holt_kv_seek_back(cursor, holt_buf(NULL, 0), &key, &value);
  while (count > 0 && rc == 0) {
    char word[300];
    size_t size = (size_t)snprintf(word, sizeof word, "%.*s=%.*s", (int)key.len, (const char *)key.data,
                                   (int)value.len, (const char *)value.data);
    assert_true(size <= len);
    assert_memory_equal(text + len - size, word, size);
    len -= size + (len > size ? 1 : 0);
    count--;
    rc = holt_kv_prev(cursor, &key, &value);
  }
  assert_int_equal(count, 0);
  assert_int_equal(len, 0);
  holt_kv_cursor_close(cursor);
  return text;
}

static const char *words(struct machine *m, const char *from) {
  struct holt_kv_txn *txn;
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  const char *text = words_in(txn, m->table, from);
  holt_kv_end(txn);
  return text;
}

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

/* A child, because the limit is the process's. Returns what it exits with. */
static int end_of(pid_t child) {
  int status;
  assert_true(child >= 0);
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int in_child(void (*story)(struct machine *m), struct machine *m) {
  holt_env_free(m->env);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    new_env(m);
    story(m);
    _exit(0);
  }
  int status = end_of(child);
  new_env(m);
  return status;
}

#define NEED(condition)                                                                                      \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                \
      _exit(1);                                                                                              \
    }                                                                                                        \
  } while (0)

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
}

static void test_a_full_disk_refuses_and_goes_on_with_room(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, IN_FOLDER);
  assert_int_equal(in_child(fill_a_limited_file, &m), 0);
  end(&m);
}

/* A file system of its own, 2 MB large, where the system lets us have one. */
static void fill_a_small_disk(struct machine *m) {
  char command[400];
  snprintf(command, sizeof command, "mount -t tmpfs -o size=2m none '%s' 2>/dev/null", m->path);
  if (system(command) != 0) _exit(77);
  open_kv(m);
  NEED(change(m, "a=1") == 0);
  int rc = 0;
  for (m->done = 0; m->done < 1000; m->done++) {
    rc = holt_kv_run(m->kv, put_large, m, &m->err);
    if (rc != 0) break;
  }
  unsigned full_at = m->done;
  bool is_good = rc == HOLT_ENOSPC && full_at > 3 && read_large(m, full_at - 1) && !read_large(m, full_at);
  snprintf(command, sizeof command, "mount -o remount,size=8m '%s'", m->path);
  is_good = is_good && system(command) == 0 && holt_kv_run(m->kv, put_large, m, &m->err) == 0 &&
            read_large(m, full_at);
  close_kv(m);
  snprintf(command, sizeof command, "umount '%s'", m->path);
  NEED(system(command) == 0);
  NEED(is_good);
}

static void test_a_small_file_system_fills_up(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, IN_FOLDER);
  int status = in_child(fill_a_small_disk, &m);
  end(&m);
  if (status == 77) skip(); /* nobody lets us mount here */
  assert_int_equal(status, 0);
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
  char command[500];
  static struct script compaction;
  snprintf(command, sizeof command, "mount -t tmpfs -o size=60m none '%s' 2>/dev/null", m->path);
  if (system(command) != 0) _exit(77);
  open_kv(m);
  bool is_good = holt_kv_run(m->kv, put_heap, m, &m->err) == 0; /* 40 MB */
  compaction = (struct script){.m = m};
  NEED(holt_kv_compact(m->kv, on_done, &compaction) == 0);
  turn_until_told(m, &compaction);
  is_good = is_good && compaction.status == HOLT_ENOSPC && strstr(m->err.message, "no room") != NULL;
  is_good = is_good && change(m, "a=1") == 0 && read_large(m, HEAP_KEYS - 1);
  close_kv(m);
  snprintf(command, sizeof command, "test ! -e '%s/compact.mdb' && umount '%s'", m->path, m->path);
  NEED(system(command) == 0);
  NEED(is_good);
}

static void test_a_compaction_without_room_changes_nothing(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, IN_FOLDER);
  int status = in_child(compact_without_room, &m);
  end(&m);
  if (status == 77) skip();
  assert_int_equal(status, 0);
}

/* --- Damage --------------------------------------------------------------------------------------- */

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

/* Read it all, every way there is. It may answer anything; it must answer. */
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

/* In a program of its own: cmocka handles the signals of this one. */
static int read_all_elsewhere(const struct machine *m) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    execl("/proc/self/exe", "test_kv", "--read", m->path, (char *)NULL);
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
static void test_flipped_bits_do_not_end_the_process(void **state) {
  struct machine m;
  struct stat info;
  struct holt_rand rand;
  const char *seeds = getenv("HOLT_SEEDS");
  unsigned rounds = seeds != NULL ? (unsigned)strtoul(seeds, NULL, 10) : 150, died = 0, refused = 0;
  (void)state;
  begin_as(&m, IN_FOLDER);
  open_kv(&m);
  assert_int_equal(holt_kv_run(m.kv, put_many, &m, &m.err), 0);
  uint64_t used = holt_kv_size_bytes(m.kv);
  close_kv(&m);
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
  begin_as(&m, IN_FOLDER);
  open_kv(&m);
  assert_int_equal(holt_kv_run(m.kv, put_many, &m, &m.err), 0);
  uint64_t used = holt_kv_size_bytes(m.kv);
  close_kv(&m);
  for (int i = 8; i > 0; i--) {
    assert_int_equal(truncate(m.file, (off_t)(used * (unsigned)i / 9)), 0);
    int status = read_all_elsewhere(&m);
    assert_true(status == 0 || status == 3);
  }
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

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--read") == 0) return read_all_here(argv[2]);
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
      cmocka_unit_test(test_what_was_acknowledged_survives_sigkill),
      cmocka_unit_test(test_a_full_disk_refuses_and_goes_on_with_room),
      cmocka_unit_test(test_a_small_file_system_fills_up),
      cmocka_unit_test(test_is_copied_while_in_use),
      cmocka_unit_test(test_compacting_gives_the_room_back),
      cmocka_unit_test(test_compacting_memory_is_nothing_to_do),
      cmocka_unit_test(test_closing_ends_a_compaction),
      cmocka_unit_test(test_a_compaction_survives_sigkill),
      cmocka_unit_test(test_a_compaction_without_room_changes_nothing),
      cmocka_unit_test(test_flipped_bits_do_not_end_the_process),
      cmocka_unit_test(test_a_file_cut_short_does_not_end_the_process),
      cmocka_unit_test(test_a_dying_host_has_done_its_transaction_or_not),
      cmocka_unit_test(test_a_simulated_disk_fails_when_told),
  };
  return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
