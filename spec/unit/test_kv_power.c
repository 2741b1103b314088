/* The power fails while a store in a folder is written, read, compacted, closed or opened. Every write, sync
 * and change of a name is noted, LMDB's too; then a folder is made as a disk may have it that had written
 * sectors in any order and lost what was not synced. There the store opens, whole, with all that was told to
 * be done, and in between nothing. Then it goes on in that folder.
 *
 *   HOLT_SEED=n  the first seed (1)     HOLT_SEEDS=n  how many (12) */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "kv_machine.h"

/* --- What happens to the disk ------------------------------------------------------------------------- */

enum event_type { WRITE, GROW, SYNC, NAME, RENAME, UNLINK, SYNC_NAMES, JOBS_TOLD, JOBS_BEGUN };
enum { SECTOR = 512, FILES = 64, EVENTS = 1 << 20 };

struct event {
  enum event_type type;
  unsigned file; /* which one it is of those seen */
  uint64_t at;   /* of WRITE, length of GROW, first event that a SYNC does not cover, how many jobs */
  size_t len;
  uint8_t *data;
  char name[300], to[64];
};

static struct {
  pthread_mutex_t lock;
  bool is_on;
  char folder[200];
  ino_t files[FILES];
  unsigned file_count;
  struct event *events;
  uint64_t count;
  bool is_full;               /* writes of pages fail: no room */
  bool is_slow;               /* a sync of pages takes long, so that jobs overtake it */
  const char *sync_fails_for; /* a name */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define REAL(name, type) ((type)(uintptr_t)dlsym(RTLD_NEXT, name))

static struct event *note(enum event_type type) {
  if (disk.count == EVENTS) abort();
  struct event *e = &disk.events[disk.count++];
  *e = (struct event){.type = type};
  return e;
}

/* The name in our folder that this descriptor was opened by; NULL: it is another file. */
static const char *name_of(int fd, char path[300]) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, 299);
  size_t len = strlen(disk.folder);
  if (!disk.is_on || n <= 0) return NULL;
  path[n] = '\0';
  return strncmp(path, disk.folder, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

/* The number of its file, seen the first time with its name. */
static bool find_file(int fd, unsigned *file) {
  char path[300];
  struct stat stat;
  const char *name = name_of(fd, path);
  if (name == NULL || strcmp(name, "lock.mdb") == 0 || fstat(fd, &stat) != 0) return false;
  for (*file = 0; *file < disk.file_count; (*file)++)
    if (disk.files[*file] == stat.st_ino) return true;
  if (disk.file_count == FILES) abort();
  disk.files[disk.file_count++] = stat.st_ino;
  struct event *e = note(NAME);
  e->file = *file;
  snprintf(e->name, sizeof e->name, "%s", name);
  return true;
}

static void note_write(int fd, const void *data, size_t len, off_t at) {
  unsigned file;
  if (!find_file(fd, &file)) return;
  struct event *e = note(WRITE);
  e->file = file;
  e->at = (uint64_t)at;
  e->len = len;
  e->data = malloc(len);
  memcpy(e->data, data, len);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
  char path[300];
  pthread_mutex_lock(&disk.lock);
  ssize_t n = -1;
  const char *name = name_of(fd, path);
  errno = ENOSPC;
  if (!disk.is_full || len < 4096 || name == NULL || strcmp(name, "data.mdb") != 0)
    n = REAL("pwrite", ssize_t(*)(int, const void *, size_t, off_t))(fd, data, len, at);
  if (n > 0) note_write(fd, data, (size_t)n, at);
  pthread_mutex_unlock(&disk.lock);
  return n;
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at) {
  return pwrite(fd, data, len, at);
}

ssize_t write(int fd, const void *data, size_t len) {
  pthread_mutex_lock(&disk.lock);
  off_t at = disk.is_on ? lseek(fd, 0, SEEK_CUR) : -1;
  ssize_t n = REAL("write", ssize_t(*)(int, const void *, size_t))(fd, data, len);
  if (n > 0 && at >= 0) note_write(fd, data, (size_t)n, at);
  pthread_mutex_unlock(&disk.lock);
  return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  char path[300];
  pthread_mutex_lock(&disk.lock);
  off_t at = disk.is_on ? lseek(fd, 0, SEEK_CUR) : -1;
  const char *name = name_of(fd, path);
  ssize_t n = -1;
  errno = ENOSPC;
  if (!disk.is_full || name == NULL || strcmp(name, "data.mdb") != 0)
    n = REAL("writev", ssize_t(*)(int, const struct iovec *, int))(fd, parts, count);
  size_t left = n > 0 && at >= 0 ? (size_t)n : 0;
  for (int i = 0; i < count && left > 0; i++) {
    size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
    note_write(fd, parts[i].iov_base, part, at);
    at += (off_t)part;
    left -= part;
  }
  pthread_mutex_unlock(&disk.lock);
  return n;
}

int ftruncate(int fd, off_t len) {
  pthread_mutex_lock(&disk.lock);
  int rc = REAL("ftruncate", int (*)(int, off_t))(fd, len);
  unsigned file;
  if (rc == 0 && find_file(fd, &file)) {
    struct event *e = note(GROW);
    e->file = file;
    e->at = (uint64_t)len;
  }
  pthread_mutex_unlock(&disk.lock);
  return rc;
}

int ftruncate64(int fd, off_t len) {
  return ftruncate(fd, len);
}

/* What was written when it began has lasted when it ends. */
static int synced(int fd, const char *call) {
  char path[300];
  pthread_mutex_lock(&disk.lock);
  uint64_t begun = disk.count;
  const char *name = name_of(fd, path);
  bool is_slow = name != NULL && disk.is_slow && strcmp(name, "data.mdb") == 0;
  bool fails = name != NULL && disk.sync_fails_for != NULL && strcmp(name, disk.sync_fails_for) == 0;
  pthread_mutex_unlock(&disk.lock);
  if (is_slow) usleep(20000);
  errno = EIO;
  if (fails) return -1;
  int rc = REAL(call, int (*)(int))(fd);
  pthread_mutex_lock(&disk.lock);
  unsigned file;
  ssize_t n = 0;
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (disk.is_on && (n = readlink(link, path, 299)) > 0) path[n] = '\0';
  if (rc == 0 && n > 0 && strcmp(path, disk.folder) == 0) {
    note(SYNC_NAMES)->at = begun;
  } else if (rc == 0 && find_file(fd, &file)) {
    struct event *e = note(SYNC);
    e->file = file;
    e->at = begun;
  }
  pthread_mutex_unlock(&disk.lock);
  return rc;
}

int fdatasync(int fd) {
  return synced(fd, "fdatasync");
}

int fsync(int fd) {
  return synced(fd, "fsync");
}

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

static void note_names(enum event_type type, const char *name, const char *to) {
  if (!disk.is_on) return;
  struct event *e = note(type);
  snprintf(e->name, sizeof e->name, "%s", last_part(name));
  if (to != NULL) snprintf(e->to, sizeof e->to, "%s", last_part(to));
}

int rename(const char *name, const char *to) {
  pthread_mutex_lock(&disk.lock);
  int rc = REAL("rename", int (*)(const char *, const char *))(name, to);
  if (rc == 0) note_names(RENAME, name, to);
  pthread_mutex_unlock(&disk.lock);
  return rc;
}

int renameat(int from_fd, const char *name, int to_fd, const char *to) {
  pthread_mutex_lock(&disk.lock);
  int rc = REAL("renameat", int (*)(int, const char *, int, const char *))(from_fd, name, to_fd, to);
  if (rc == 0) note_names(RENAME, name, to);
  pthread_mutex_unlock(&disk.lock);
  return rc;
}

int unlink(const char *name) {
  pthread_mutex_lock(&disk.lock);
  int rc = REAL("unlink", int (*)(const char *))(name);
  if (rc == 0) note_names(UNLINK, name, NULL);
  pthread_mutex_unlock(&disk.lock);
  return rc;
}

int unlinkat(int fd, const char *name, int flags) {
  pthread_mutex_lock(&disk.lock);
  int rc = REAL("unlinkat", int (*)(int, const char *, int))(fd, name, flags);
  if (rc == 0) note_names(UNLINK, name, NULL);
  pthread_mutex_unlock(&disk.lock);
  return rc;
}

static void note_jobs(enum event_type type, uint64_t jobs) {
  pthread_mutex_lock(&disk.lock);
  note(type)->at = jobs;
  pthread_mutex_unlock(&disk.lock);
}

/* --- What is left of it ------------------------------------------------------------------------------- */

struct content {
  uint8_t *data;
  size_t len, cap;
  char name[300]; /* "": it has none */
};

static void grow(struct content *c, size_t len) {
  if (len > c->cap) {
    c->cap = len * 2;
    c->data = realloc(c->data, c->cap);
  }
  if (len > c->len) {
    memset(c->data + c->len, 0, len - c->len);
    c->len = len;
  }
}

static void write_sectors(struct content *c, const struct event *e, struct holt_rand *rand,
                          unsigned percent) {
  for (size_t from = 0; from < e->len;) {
    size_t end = (size_t)((e->at + from) / SECTOR + 1) * SECTOR - (size_t)e->at;
    if (end > e->len) end = e->len;
    if (percent == 100 || holt_rand_below(rand, 100) < percent) {
      grow(c, (size_t)e->at + end);
      memcpy(c->data + e->at + from, e->data + from, end - from);
    }
    from = end;
  }
}

/* The first event of this file (FILES: of the names) that no sync before the crash has covered. */
static uint64_t lasting(uint64_t crash, unsigned file) {
  uint64_t end = 0;
  for (uint64_t i = 0; i < crash; i++) {
    const struct event *e = &disk.events[i];
    bool is_it = file == FILES ? e->type == SYNC_NAMES : e->type == SYNC && e->file == file;
    if (is_it && e->at > end) end = e->at;
  }
  return end;
}

static void change_names(struct content *files, const struct event *e) {
  const char *gone = e->type == RENAME ? e->to : e->type == UNLINK ? e->name : "";
  for (unsigned i = 0; i < disk.file_count; i++)
    if (*gone != '\0' && strcmp(files[i].name, gone) == 0) files[i].name[0] = '\0';
  if (e->type == NAME) memcpy(files[e->file].name, e->name, sizeof e->name);
  for (unsigned i = 0; i < disk.file_count && e->type == RENAME; i++)
    if (strcmp(files[i].name, e->name) == 0) memcpy(files[i].name, e->to, sizeof e->to);
}

static void make_folder(const char *path, const struct content *files) {
  for (unsigned i = 0; i < disk.file_count; i++) {
    char name[600];
    if (files[i].name[0] == '\0') continue;
    snprintf(name, sizeof name, "%s/%s", path, files[i].name);
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(files[i].data, 1, files[i].len, file), files[i].len);
    fclose(file);
  }
}

/* The folder as it may be after a crash before this event. */
static void lose_power(uint64_t crash, const char *path, struct holt_rand *rand) {
  static const unsigned percents[] = {0, 30, 50, 80, 100};
  struct content files[FILES] = {0};
  uint64_t ends[FILES + 1];
  for (unsigned i = 0; i <= FILES; i++) ends[i] = lasting(crash, i);
  unsigned percent = percents[holt_rand_below(rand, 5)];
  bool are_names_lost = holt_rand_below(rand, 2) == 0; /* a change of a name is lost with all behind it */
  for (uint64_t i = 0; i < crash; i++) {
    const struct event *e = &disk.events[i];
    bool is_safe = e->type == WRITE || e->type == GROW ? i < ends[e->file] : i < ends[FILES];
    if (e->type == WRITE)
      write_sectors(&files[e->file], e, rand, is_safe ? 100 : percent);
    else if (e->type == GROW && (is_safe || holt_rand_below(rand, 100) < percent))
      grow(&files[e->file], (size_t)e->at);
    else if ((e->type == NAME || e->type == RENAME || e->type == UNLINK) && (is_safe || !are_names_lost))
      change_names(files, e);
  }
  make_folder(path, files);
  for (unsigned i = 0; i < FILES; i++) free(files[i].data);
}

static void forget_events(void) {
  for (uint64_t i = 0; i < disk.count; i++) free(disk.events[i].data);
  disk.count = 0;
  disk.file_count = 0;
}

/* Note from now on what happens in this folder, whose files are as they are. */
static void watch(const char *folder) {
  DIR *dir = opendir(folder);
  forget_events();
  snprintf(disk.folder, sizeof disk.folder, "%s", folder);
  disk.is_on = true;
  for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
    char path[500];
    unsigned file;
    if (entry->d_type != DT_REG || strcmp(entry->d_name, "lock.mdb") == 0) continue;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    int fd = open(path, O_RDONLY);
    struct stat stat;
    assert_int_equal(fstat(fd, &stat), 0);
    uint8_t *data = malloc((size_t)stat.st_size + 1);
    assert_int_equal(read(fd, data, (size_t)stat.st_size), stat.st_size);
    pthread_mutex_lock(&disk.lock);
    assert_true(find_file(fd, &file));
    if (stat.st_size > 0) note_write(fd, data, (size_t)stat.st_size, 0);
    struct event *e = note(SYNC);
    e->file = file;
    e->at = disk.count;
    pthread_mutex_unlock(&disk.lock);
    close(fd);
    free(data);
  }
  closedir(dir);
  note(SYNC_NAMES)->at = disk.count;
}

/* --- What is written ---------------------------------------------------------------------------------- */

/* Job n of a seed puts and deletes keys of two tables; "n" holds its number. Told by the seed alone, so what
 * must be there after n jobs can be made again. */
enum { KEYS = 60, JOBS = 6000, BIG = 200000 };

struct world {
  struct machine m;
  uint64_t seed;
  uint32_t tables[2];
  uint64_t begun, told;
  uint64_t least, most; /* jobs that must be, and may be, there after the next opening */
  bool is_over;         /* nothing can be written any more */
  struct holt_rand rand;
};

struct step {
  bool is_delete;
  unsigned table, key;
  size_t len;
};

/* Every second seed has many that just fit into the log, else some are too large for it. */
static size_t length(uint64_t seed, struct holt_rand *rand) {
  uint64_t dice = holt_rand_below(rand, 100);
  if (seed % 2 == 0 ? dice < 6 : dice < 2) return seed % 2 == 0 ? BIG * 5 / 8 : BIG;
  return dice < 16 ? 3000 : 1 + holt_rand_below(rand, 200);
}

static unsigned steps_of(const struct world *w, uint64_t job, struct step *steps) {
  struct holt_rand rand;
  holt_rand_seed(&rand, w->seed * 1000003 + job);
  unsigned count = 1 + holt_rand_below(&rand, 6);
  for (unsigned i = 0; i < count; i++)
    steps[i] = (struct step){.is_delete = holt_rand_below(&rand, 4) == 0,
                             .table = holt_rand_below(&rand, 2),
                             .key = holt_rand_below(&rand, KEYS),
                             .len = length(w->seed, &rand)};
  return count;
}

static struct holt_buf value_of(uint64_t job, unsigned key, size_t len) {
  static uint8_t bytes[BIG];
  for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)(job * 31 + key * 7 + i + (i >> 8));
  return holt_buf(bytes, len);
}

static int write_job(void *arg, struct holt_kv_txn *txn) {
  struct world *w = arg;
  struct step steps[8];
  uint64_t job = w->begun;
  unsigned count = steps_of(w, job, steps);
  int rc = 0;
  for (unsigned i = 0; i < count && rc == 0; i++) {
    uint8_t key[4];
    holt_put_u32(key, steps[i].key);
    if (steps[i].is_delete) {
      rc = holt_kv_delete(txn, w->tables[steps[i].table], holt_buf(key, 4));
      if (rc == HOLT_ENOTFOUND) rc = 0;
    } else {
      rc = holt_kv_put(txn, w->tables[steps[i].table], holt_buf(key, 4),
                       value_of(job, steps[i].key, steps[i].len));
    }
  }
  uint8_t number[8];
  holt_put_u64(number, job);
  return rc == 0 ? holt_kv_put(txn, w->m.table, holt_buf_text("n"), holt_buf(number, 8)) : rc;
}

struct record {
  uint64_t job; /* 0: it is not there */
  size_t len;
};

/* What the tables must hold after so many jobs. */
static void expect(const struct world *w, uint64_t jobs, struct record state[2][KEYS]) {
  memset(state, 0, 2 * sizeof *state);
  for (uint64_t job = 1; job <= jobs; job++) {
    struct step steps[8];
    unsigned count = steps_of(w, job, steps);
    for (unsigned i = 0; i < count; i++)
      state[steps[i].table][steps[i].key] =
          steps[i].is_delete ? (struct record){0} : (struct record){.job = job, .len = steps[i].len};
  }
}

static uint64_t jobs_in(struct world *w, struct holt_kv_txn *txn) {
  struct holt_buf value;
  int rc = holt_kv_get(txn, w->m.table, holt_buf_text("n"), &value);
  assert_true(rc == 0 || rc == HOLT_ENOTFOUND);
  return rc == 0 ? holt_get_u64(value.data) : 0;
}

/* It holds exactly what so many jobs have made; how many, it tells. */
static uint64_t look(struct world *w) {
  struct record state[2][KEYS];
  struct holt_kv_txn *txn;
  assert_int_equal(holt_kv_begin(w->m.kv, &txn), 0);
  uint64_t jobs = jobs_in(w, txn);
  expect(w, jobs, state);
  for (unsigned table = 0; table < 2; table++) {
    uint64_t count = 0, expected = 0;
    for (unsigned i = 0; i < KEYS; i++) {
      const struct record *record = &state[table][i];
      struct holt_buf value;
      uint8_t key[4];
      holt_put_u32(key, i);
      int rc = holt_kv_get(txn, w->tables[table], holt_buf(key, 4), &value);
      assert_int_equal(rc, record->job == 0 ? HOLT_ENOTFOUND : 0);
      if (record->job == 0) continue;
      expected++;
      assert_int_equal(value.len, record->len);
      assert_memory_equal(value.data, value_of(record->job, i, record->len).data, record->len);
    }
    assert_int_equal(holt_kv_count(txn, w->tables[table], &count), 0);
    assert_int_equal(count, expected);
  }
  holt_kv_end(txn);
  return jobs;
}

/* --- Rounds --------------------------------------------------------------------------------------------- */

static bool is_whole(const char *table, struct holt_buf key, struct holt_buf value) {
  (void)table;
  (void)key;
  (void)value;
  return true;
}

static void open_world(struct world *w) {
  struct holt_kv_options options = {.path = w->m.path, .kind = "test", .version = 3, .is_whole = is_whole};
  struct machine *m = &w->m;
  int rc = holt_kv_open(m->env, &options, &m->kv, &m->err);
  if (rc != 0) fail_msg("%s", m->err.message);
  assert_null(holt_kv_aside(m->kv)); /* it was not damaged */
  assert_int_equal(holt_kv_rebuilds(m->kv), 0);
  assert_int_equal(holt_kv_table(m->kv, "things", &m->table, &m->err), 0);
  assert_int_equal(holt_kv_table(m->kv, "first", &w->tables[0], &m->err), 0);
  assert_int_equal(holt_kv_table(m->kv, "second", &w->tables[1], &m->err), 0);
}

static void on_written(void *arg, int status, const struct holt_err *err) {
  struct world *w = arg;
  w->m.done++;
  w->m.err = *err;
  if (status == 0) {
    w->told = w->begun;
    note_jobs(JOBS_TOLD, w->told);
  } else if (status == HOLT_ENOSPC) {
    assert_true(disk.is_full);
    note_jobs(JOBS_BEGUN, --w->begun); /* it never was */
  } else {
    assert_non_null(disk.sync_fails_for);
    w->is_over = true;
  }
}

static void wait_for(struct world *w) {
  for (int i = 0; i < 1000000 && w->m.done == 0; i++) holt_env_turn(w->m.env, true);
  assert_int_equal(w->m.done, 1);
}

static void run_job(struct world *w) {
  struct holt_kv_job job = {.write = write_job, .done = on_written, .arg = w};
  note_jobs(JOBS_BEGUN, ++w->begun);
  w->m.done = 0;
  holt_kv_submit(w->m.kv, &job);
  wait_for(w);
}

static void on_compacted(void *arg, int status, const struct holt_err *err) {
  struct world *w = arg;
  w->m.done++;
  w->m.err = *err;
  assert_int_equal(status, 0);
}

static void compact(struct world *w) {
  w->m.done = 0;
  assert_int_equal(holt_kv_compact(w->m.kv, on_compacted, w), 0);
  wait_for(w);
}

static void run_round(struct world *w) {
  unsigned jobs = holt_rand_below(&w->rand, 5) == 0 ? 400 : holt_rand_below(&w->rand, 60);
  unsigned full_from = holt_rand_below(&w->rand, 100), fails_from = holt_rand_below(&w->rand, 400);
  open_world(w);
  w->begun = w->told = look(w);
  if (w->told < w->least || w->told > w->most)
    fail_msg("%u jobs are there, not %u to %u", (unsigned)w->told, (unsigned)w->least, (unsigned)w->most);
  note_jobs(JOBS_BEGUN, w->begun);
  note_jobs(JOBS_TOLD, w->told);
  w->is_over = false;
  disk.is_slow = holt_rand_below(&w->rand, 4) == 0;
  if (holt_rand_below(&w->rand, 2) == 0 && jobs > full_from + 2) jobs = full_from + 2; /* ends without room */
  for (unsigned i = 0; i < jobs && w->begun < JOBS && !w->is_over; i++) {
    disk.is_full = i >= full_from && i < full_from + 4;
    if (i == fails_from) disk.sync_fails_for = holt_rand_below(&w->rand, 2) == 0 ? "redo" : "data.mdb";
    run_job(w);
    if (!disk.is_full && disk.sync_fails_for == NULL && holt_rand_below(&w->rand, 80) == 0) compact(w);
  }
  disk.is_full = false;
  if (disk.sync_fails_for == NULL) assert_int_equal(look(w), w->told);
  close_kv(&w->m);
  disk.sync_fails_for = NULL;
}

static void new_folder(char path[200]) {
  snprintf(path, 200, "%s/holt-power-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  assert_non_null(mkdtemp(path));
}

static void remove_folder(const char *path) {
  char command[500];
  snprintf(command, sizeof command, "rm -rf '%s' '%s'.damaged-*", path, path);
  assert_int_equal(system(command), 0);
}

/* The power fails at some moment of the round; what is there next begins the next one. */
static void crash(struct world *w) {
  char path[200];
  uint64_t at = holt_rand_below(&w->rand, 3) == 0 && disk.count > 60
                    ? disk.count - holt_rand_below(&w->rand, 60)
                    : 1 + holt_rand_below(&w->rand, (uint32_t)disk.count);
  uint64_t first = 0;
  while (first < disk.count && disk.events[first].type != SYNC_NAMES) first++;
  if (at <= first) at = first + 1; /* the folder that the round began with */
  for (uint64_t i = 0; i < at; i++) {
    if (disk.events[i].type == JOBS_TOLD)
      w->least = disk.events[i].at;
    else if (disk.events[i].type == JOBS_BEGUN)
      w->most = disk.events[i].at;
  }
  disk.is_on = false;
  new_folder(path);
  lose_power(at, path, &w->rand);
  remove_folder(w->m.path);
  memcpy(w->m.path, path, sizeof path);
  watch(path);
}

static void run_seed(uint64_t seed) {
  struct world w = {.seed = seed};
  holt_rand_seed(&w.rand, seed);
  new_folder(w.m.path);
  w.m.env = holt_env_uv_new();
  watch(w.m.path);
  for (int round = 0; round < 8; round++) {
    run_round(&w);
    crash(&w);
  }
  disk.is_on = false;
  holt_env_free(w.m.env);
  remove_folder(w.m.path);
}

static void test_what_was_told_outlives_the_power(void **state) {
  (void)state;
  const char *first = getenv("HOLT_SEED"), *count = getenv("HOLT_SEEDS");
  uint64_t seed = first == NULL ? 1 : strtoull(first, NULL, 10);
  uint64_t end = seed + (count == NULL ? 12 : strtoull(count, NULL, 10));
  disk.events = calloc(EVENTS, sizeof *disk.events);
  for (; seed < end; seed++) {
    print_message("seed %llu\n", (unsigned long long)seed);
    run_seed(seed);
  }
  forget_events();
  free(disk.events);
}

static void on_refused(void *arg, int status, const struct holt_err *err) {
  struct world *w = arg;
  w->m.done++;
  w->m.err = *err;
  assert_int_equal(status, HOLT_EIO);
}

/* The disk fails under a checkpoint: what was written goes on being read, also after a compaction was tried.
 */
static void test_no_compaction_behind_a_failed_sync(void **state) {
  struct world w = {.seed = 1};
  (void)state;
  disk.events = calloc(EVENTS, sizeof *disk.events);
  new_folder(w.m.path);
  w.m.env = holt_env_uv_new();
  watch(w.m.path);
  open_world(&w);
  run_job(&w);
  disk.sync_fails_for = "data.mdb";
  w.m.done = 0;
  assert_int_equal(holt_kv_compact(w.m.kv, on_refused, &w), 0);
  wait_for(&w);
  assert_int_equal(look(&w), 1);
  close_kv(&w.m);
  disk.sync_fails_for = NULL;
  open_world(&w);
  assert_int_equal(look(&w), 1);
  close_kv(&w.m);
  disk.is_on = false;
  holt_env_free(w.m.env);
  remove_folder(w.m.path);
  forget_events();
  free(disk.events);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_was_told_outlives_the_power),
                                     cmocka_unit_test(test_no_compaction_behind_a_failed_sync)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
