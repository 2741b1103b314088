/* kv_machine.h - for the tests of ordered keys: a store in a folder, in memory or on a simulated host, and
 * words to change and read it. */
#ifndef HOLT_SPEC_KV_MACHINE_H
#define HOLT_SPEC_KV_MACHINE_H

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rand.h"
#include "env/sim.h"
#include "env/uv.h"
#include "folder.h"
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

static inline int open_as(struct machine *m, const char *kind, uint32_t version) {
  struct holt_kv_options options = {
      .path = m->kind == IN_MEMORY ? NULL : m->path, .kind = kind, .version = version};
  m->err = (struct holt_err){0};
  if (m->sim == NULL) /* a refused opening lets go of the folder with the next turn */
    for (int i = 0; i < 3; i++) holt_env_turn(m->env, false);
  return holt_kv_open(m->env, &options, &m->kv, &m->err);
}

static inline void open_kv(struct machine *m) {
  int rc = open_as(m, "test", 3);
  if (rc != 0) fail_msg("%s", m->err.message);
  assert_int_equal(holt_kv_table(m->kv, "things", &m->table, &m->err), 0);
}

static inline void new_env(struct machine *m) {
  m->env = m->kind == ON_HOST ? holt_sim_host(m->sim, "n1") : holt_env_uv_new();
  assert_non_null(m->env);
}

static inline void begin_as(struct machine *m, enum kind kind) {
  *m = (struct machine){.kind = kind};
  if (kind == ON_HOST) {
    struct holt_sim_config config = {.seed = 9, .disk_min_us = 100, .disk_max_us = 900};
    m->sim = holt_sim_new(&config);
    snprintf(m->path, sizeof m->path, "data");
  } else {
    folder_new(m->path);
  }
  snprintf(m->file, sizeof m->file, "%s/data.mdb", m->path);
  new_env(m);
}

static inline void on_closed(void *arg) {
  ((struct machine *)arg)->closed++;
}

static inline void close_kv(struct machine *m) {
  m->closed = 0;
  holt_kv_close(m->kv, on_closed, m);
  assert_int_equal(m->closed, 0); /* never inside the call */
  for (int i = 0; i < 100000 && m->closed == 0; i++) holt_env_turn(m->env, true);
  assert_int_equal(m->closed, 1);
  m->kv = NULL;
}

static inline void end(struct machine *m) {
  if (m->kv != NULL) close_kv(m);
  holt_env_free(m->env);
  if (m->sim != NULL)
    holt_sim_free(m->sim);
  else
    folder_remove(m->path);
}

/* --- Words for transactions ----------------------------------------------------------------------- */

static inline int put(struct holt_kv_txn *txn, uint32_t table, const char *key, const char *value) {
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

static inline int run_script(void *arg, struct holt_kv_txn *txn) {
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

static inline void on_done(void *arg, int status, const struct holt_err *err) {
  struct script *script = arg;
  script->told++;
  script->status = status;
  script->place = script->m->done++;
  script->m->err = *err;
}

static inline void submit(struct machine *m, struct script *script, const char *text) {
  *script = (struct script){.m = m, .text = text};
  script->job = (struct holt_kv_job){.write = run_script, .done = on_done, .arg = script};
  holt_kv_submit(m->kv, &script->job);
  assert_int_equal(script->told, 0); /* never inside the call */
}

static inline void turn_until_told(struct machine *m, const struct script *script) {
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

static inline int change(struct machine *m, const char *text) {
  struct script script = {.m = m, .text = text};
  return holt_kv_run(m->kv, run_script, &script, &m->err);
}

/* The table as "a=1 b=2", forward, which must be the mirror of backward. */
static inline const char *words_in(struct holt_kv_txn *txn, uint32_t table, const char *from) {
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

static inline const char *words(struct machine *m, const char *from) {
  struct holt_kv_txn *txn;
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  const char *text = words_in(txn, m->table, from);
  holt_kv_end(txn);
  return text;
}
/* --- In a process of its own ---------------------------------------------------------------------- */

/* What a child exits with, or 1000 and the number of the signal that ended it. */
static inline int end_of(pid_t child) {
  int status;
  assert_true(child >= 0);
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* What `story` exits with, in a child. */
static inline int in_child(void (*story)(struct machine *m), struct machine *m) {
  static const int caught[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS}; /* by cmocka, for this process */
  holt_env_free(m->env);                                                 /* a loop does not survive a fork */
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) signal(caught[i], SIG_DFL);
    new_env(m);
    story(m);
    _exit(0);
  }
  int status = end_of(child);
  new_env(m);
  return status;
}

/* There assert_… would go on in the parent's tests. */
#define NEED(condition)                                                                                      \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                \
      _exit(1);                                                                                              \
    }                                                                                                        \
  } while (0)

#endif /* HOLT_SPEC_KV_MACHINE_H */
