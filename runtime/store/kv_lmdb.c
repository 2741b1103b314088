/* kv_lmdb.c - ordered tables in a folder: LMDB, which keeps a tree of pages and changes it by copying.
 *
 * - Opening: the folder is made and locked, LMDB opens its file with a map as large as the system allows, the
 *   stamp in the table ".holt" says whose it is, the file gets slack behind its last page.
 * - A job: what it changes goes to a log, which is synced, then LMDB writes the changed pages, which are
 *   synced later (kv_checkpoint.c). It never writes through the map, so a stray write of ours cannot damage
 *   the file.
 * - No room: LMDB says EIO for a write that was cut short. With hardly any room left on the disk that means
 *   full; the transaction is undone and nothing else has happened. Any other EIO ends the writing for good.
 * - Damage: LMDB has no checksums. A damaged value is for its owner to notice. A damaged page is noticed
 * before anything is written beside it (kv_look.c). Reading, it may be noticed (HOLT_ECORRUPT), also by
 * LMDB's own assertions, which come back as that code here, or may send LMDB to a wrong place of the file;
 * the slack keeps values that begin in the file from reaching beyond its end, where reading would kill the
 * process. docs/store.md says what remains. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "env/file.h"
#include "store/kv_lmdb.h"

#define MAP_BYTES     (UINT64_C(1) << 40)
#define MAP_BYTES_MIN (UINT64_C(16) << 20)
#define SLACK_BYTES   ((off_t)(HOLT_KV_VALUE_MAX + 128 * 1024)) /* a value and the page it is on */
#define SLACK_STEP    ((off_t)4 << 20)
#define READERS_BYTES ((off_t)8192)       /* what LMDB makes of lock.mdb: 126 readers */
#define HARDLY_ANY    (UINT64_C(1) << 20) /* less room than this: the disk is full */

struct lmdb_cursor {
  struct holt_kv_cursor cursor;
  MDB_cursor *mdb;
};

/* --- Errors --------------------------------------------------------------------------------------- */

/* Whether writing fails for want of room, told by looking: LMDB loses the reason of a write cut short. */
static bool is_full(MDB_env *mdb) {
  struct statvfs disk;
  struct stat file;
  struct rlimit limit;
  mdb_filehandle_t fd;
  if (mdb_env_get_fd(mdb, &fd) != 0) return false;
  if (fstatvfs(fd, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < HARDLY_ANY) return true;
  return fstat(fd, &file) == 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
         (uint64_t)file.st_size + HARDLY_ANY > limit.rlim_cur;
}

int holt__lmdb_code(MDB_env *mdb, int rc) {
  switch (rc) {
  case 0:
    return 0;
  case MDB_NOTFOUND:
    return HOLT_ENOTFOUND;
  case MDB_KEYEXIST:
    return HOLT_EEXISTS;
  case MDB_MAP_FULL:
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
    return HOLT_ENOSPC;
  case MDB_CORRUPTED:
  case MDB_PAGE_NOTFOUND:
  case MDB_BAD_TXN: /* what LMDB says after the two above */
  case MDB_INVALID:
  case MDB_CURSOR_FULL:
  case MDB_INCOMPATIBLE:
    return HOLT_ECORRUPT;
  case MDB_VERSION_MISMATCH:
    return HOLT_EVERSION;
  case MDB_TXN_FULL:
    return HOLT_ETOOLARGE;
  case MDB_READERS_FULL:
    return HOLT_EBUSY;
  case MDB_DBS_FULL:
    return HOLT_EFULL;
  case EACCES:
  case EPERM:
  case EROFS:
    return HOLT_EPERMISSION;
  case EIO:
    return mdb != NULL && is_full(mdb) ? HOLT_ENOSPC : HOLT_EIO;
  default:
    return HOLT_EIO;
  }
}

/* --- What a damaged page does to LMDB ------------------------------------------------------------- */

/* LMDB asserts what a damaged page makes false, which would end the process, or follows it to a place where
 * nothing is. Then its call is left instead. Reading holds nothing that would need to be given back. */
static _Thread_local jmp_buf *guard;
static struct sigaction before_us[2]; /* of SIGSEGV and SIGBUS */

static _Noreturn void leave(void) {
  jmp_buf *to = guard;
  guard = NULL;
  longjmp(*to, 1);
}

void holt__lmdb_on_assert(MDB_env *env, const char *text) {
  (void)env;
  if (guard == NULL) return; /* LMDB aborts */
  holt_log(HOLT_LOG_WARN, "the store is damaged: %s", text);
  leave();
}

/* Anything but a guarded call of LMDB goes the way it went before us. */
static void on_fault(int number, siginfo_t *info, void *context) {
  if (guard != NULL) {
    sigset_t again; /* not every tool that stands between leaves it open, as SA_NODEFER says */
    sigemptyset(&again);
    sigaddset(&again, number);
    pthread_sigmask(SIG_UNBLOCK, &again, NULL);
    leave();
  }
  const struct sigaction *old = &before_us[number == SIGBUS];
  if ((old->sa_flags & SA_SIGINFO) != 0) {
    old->sa_sigaction(number, info, context);
    return;
  }
  if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
    old->sa_handler(number);
    return;
  }
  signal(number, SIG_DFL); /* it comes again as soon as we return, and ends the process */
}

static void watch_faults(void) {
  struct sigaction ours = {.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  ours.sa_sigaction = on_fault;
  sigemptyset(&ours.sa_mask);
  sigaction(SIGSEGV, &ours, &before_us[0]);
  sigaction(SIGBUS, &ours, &before_us[1]);
}

static int safe_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value) {
  jmp_buf here;
  if (_setjmp(here) != 0) return MDB_CORRUPTED;
  guard = &here;
  int rc = mdb_get(txn, dbi, key, value);
  guard = NULL;
  return rc;
}

static int safe_move(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op) {
  jmp_buf here;
  if (_setjmp(here) != 0) return MDB_CORRUPTED;
  guard = &here;
  int rc = mdb_cursor_get(cursor, key, value, op);
  guard = NULL;
  return rc;
}

int holt__lmdb_guarded(int (*call)(void *arg), void *arg) {
  jmp_buf here, *const outer = guard; /* one call may be inside another */
  int rc = MDB_CORRUPTED;
  if (_setjmp(here) == 0) {
    guard = &here;
    rc = call(arg);
  }
  guard = outer;
  return rc;
}

/* Nothing more is written once this was said. `rc` is LMDB's. */
static int fail(struct lmdb_kv *k, int code, int rc, struct holt_err *err) {
  holt_err_set(err, code, "cannot write to the store in '%s': %s", k->kv.path,
               code == HOLT_ENOSPC ? holt_err_text(code) : mdb_strerror(rc));
  if (code != HOLT_ENOSPC && code != HOLT_ETOOLARGE) k->kv.failed = *err;
  return code;
}

/* --- Reading -------------------------------------------------------------------------------------- */

static MDB_txn *mdb_of(const struct holt_kv_txn *txn) {
  return ((const struct lmdb_txn *)txn)->mdb;
}

static MDB_env *env_of(const struct holt_kv_txn *txn) {
  return ((const struct lmdb_kv *)txn->kv)->mdb;
}

static MDB_dbi dbi_of(const struct holt_kv_txn *txn, uint32_t table) {
  return ((const struct lmdb_kv *)txn->kv)->tables[table].dbi;
}

static const char *name_of(const struct holt_kv_txn *txn, uint32_t table) {
  return ((const struct lmdb_kv *)txn->kv)->tables[table].name;
}

static MDB_val val(struct holt_buf bytes) {
  return (MDB_val){.mv_size = bytes.len, .mv_data = (void *)(uintptr_t)bytes.data};
}

static int take(const MDB_val *from, struct holt_buf *into) {
  *into = holt_buf(from->mv_data, from->mv_size);
  return from->mv_size > HOLT_KV_VALUE_MAX ? HOLT_ECORRUPT : 0;
}

/* The code, and a note of a page that is damaged. */
static int code_of(const struct holt_kv_txn *txn, int rc) {
  int code = holt__lmdb_code(env_of(txn), rc);
  if (code == HOLT_ENOSPC) ((struct lmdb_kv *)txn->kv)->is_starved = true;
  if (code == HOLT_ECORRUPT && rc != MDB_BAD_TXN) /* which follows any failure */
    atomic_store(&txn->kv->is_damaged, true);
  return code;
}

static int begin(struct holt_kv *kv, struct holt_kv_txn **out) {
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  if (k->mdb == NULL) return HOLT_EIO;
  struct lmdb_txn *t = k->idle;
  k->idle = NULL;
  bool is_new = t == NULL;
  if (is_new) {
    t = holt_alloc(sizeof *t);
    t->txn.kv = kv;
  }
  int rc = is_new ? mdb_txn_begin(k->mdb, NULL, MDB_RDONLY, &t->mdb) : mdb_txn_renew(t->mdb);
  if (rc == 0) {
    *out = &t->txn;
    return 0;
  }
  if (!is_new) mdb_txn_abort(t->mdb);
  free(t);
  return holt__lmdb_code(k->mdb, rc);
}

static void end(struct holt_kv_txn *txn) {
  struct lmdb_txn *t = (struct lmdb_txn *)txn;
  struct lmdb_kv *k = (struct lmdb_kv *)txn->kv;
  if (k->idle == NULL) {
    mdb_txn_reset(t->mdb);
    k->idle = t;
    return;
  }
  mdb_txn_abort(t->mdb);
  free(t);
}

static int get(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf *value) {
  MDB_val k = val(key), v;
  int rc = safe_get(mdb_of(txn), dbi_of(txn, table), &k, &v);
  return rc == 0 ? take(&v, value) : code_of(txn, rc);
}

/* Both may have to read the table's record first. */
struct reading {
  MDB_txn *txn;
  MDB_dbi dbi;
  MDB_stat stat;
  MDB_cursor *cursor;
};

static int read_stat(void *arg) {
  struct reading *reading = arg;
  return mdb_stat(reading->txn, reading->dbi, &reading->stat);
}

static int open_cursor(void *arg) {
  struct reading *reading = arg;
  return mdb_cursor_open(reading->txn, reading->dbi, &reading->cursor);
}

static int count(struct holt_kv_txn *txn, uint32_t table, uint64_t *out) {
  struct reading reading = {.txn = mdb_of(txn), .dbi = dbi_of(txn, table)};
  int rc = holt__lmdb_guarded(read_stat, &reading);
  if (rc == 0) *out = reading.stat.ms_entries;
  return code_of(txn, rc);
}

static int cursor_open(struct holt_kv_txn *txn, uint32_t table, struct holt_kv_cursor **out) {
  struct reading reading = {.txn = mdb_of(txn), .dbi = dbi_of(txn, table)};
  int rc = holt__lmdb_guarded(open_cursor, &reading);
  if (rc != 0) return code_of(txn, rc);
  struct lmdb_cursor *c = holt_alloc(sizeof *c);
  *c = (struct lmdb_cursor){.cursor = {.txn = txn}, .mdb = reading.cursor};
  *out = &c->cursor;
  return 0;
}

static void cursor_close(struct holt_kv_cursor *cursor) {
  struct lmdb_cursor *c = (struct lmdb_cursor *)cursor;
  mdb_cursor_close(c->mdb);
  free(c);
}

static int seek_back(struct lmdb_cursor *c, struct holt_buf key, MDB_val *k, MDB_val *v) {
  if (key.len == 0) return safe_move(c->mdb, k, v, MDB_LAST);
  int rc = safe_move(c->mdb, k, v, MDB_SET_RANGE);
  if (rc == MDB_NOTFOUND) return safe_move(c->mdb, k, v, MDB_LAST);
  if (rc != 0 || (k->mv_size == key.len && memcmp(k->mv_data, key.data, key.len) == 0)) return rc;
  return safe_move(c->mdb, k, v, MDB_PREV);
}

static int move(struct holt_kv_cursor *cursor, enum holt_kv_move how, struct holt_buf key,
                struct holt_buf *found, struct holt_buf *value) {
  struct lmdb_cursor *c = (struct lmdb_cursor *)cursor;
  MDB_val k = val(key), v;
  int rc;
  if (how == HOLT_KV_SEEK_BACK)
    rc = seek_back(c, key, &k, &v);
  else if (how == HOLT_KV_SEEK)
    rc = safe_move(c->mdb, &k, &v, key.len == 0 ? MDB_FIRST : MDB_SET_RANGE);
  else
    rc = safe_move(c->mdb, &k, &v, how == HOLT_KV_NEXT ? MDB_NEXT : MDB_PREV);
  if (rc != 0) return code_of(cursor->txn, rc);
  *found = holt_buf(k.mv_data, k.mv_size);
  return take(&v, value);
}

/* --- Writing -------------------------------------------------------------------------------------- */

/* An assertion inside a writing transaction leaves LMDB in the middle of a change. */
static int broken(struct holt_kv_txn *txn) {
  struct lmdb_kv *k = (struct lmdb_kv *)txn->kv;
  k->is_broken = true;
  atomic_store(&k->kv.is_damaged, true);
  fail(k, HOLT_ECORRUPT, MDB_CORRUPTED, &k->kv.failed);
  return HOLT_ECORRUPT;
}

/* The record first: key and value may lie in a page that the change moves. What was not done is taken back.
 */
static int put(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value,
               bool is_last) {
  struct lmdb_kv *store = (struct lmdb_kv *)txn->kv;
  MDB_val k = val(key), v = val(value);
  size_t recorded = store->record.len;
  jmp_buf here;
  int looked = holt__lmdb_look_for(store, mdb_of(txn), name_of(txn, table), table, key, false);
  if (looked != 0) return code_of(txn, looked);
  holt__lmdb_record(store, name_of(txn, table), key, &value);
  if (_setjmp(here) != 0) return broken(txn);
  guard = &here;
  int rc = mdb_put(mdb_of(txn), dbi_of(txn, table), &k, &v, is_last ? MDB_APPEND : 0);
  guard = NULL;
  if (rc != 0) store->record.len = recorded;
  return code_of(txn, rc);
}

static int erase(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key) {
  struct lmdb_kv *store = (struct lmdb_kv *)txn->kv;
  MDB_val k = val(key);
  size_t recorded = store->record.len;
  jmp_buf here;
  int looked = holt__lmdb_look_for(store, mdb_of(txn), name_of(txn, table), table, key, true);
  if (looked != 0) return code_of(txn, looked);
  holt__lmdb_record(store, name_of(txn, table), key, NULL);
  if (_setjmp(here) != 0) return broken(txn);
  guard = &here;
  int rc = mdb_del(mdb_of(txn), dbi_of(txn, table), &k, NULL);
  guard = NULL;
  if (rc != 0) store->record.len = recorded;
  return code_of(txn, rc);
}

static int write_stamp(MDB_txn *txn, MDB_dbi dbi, const char *name, const void *data, size_t len) {
  MDB_val k = val(holt_buf_text(name)), v = val(holt_buf(data, len));
  return mdb_put(txn, dbi, &k, &v, 0);
}

static int read_stamp(MDB_txn *txn, MDB_dbi dbi, const char *name, MDB_val *value) {
  MDB_val k = val(holt_buf_text(name));
  int rc = mdb_get(txn, dbi, &k, value);
  return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
}

static int stamp(struct holt_kv_txn *txn, uint32_t version) {
  uint8_t bytes[4];
  holt_put_u32(bytes, version);
  struct lmdb_kv *k = (struct lmdb_kv *)txn->kv;
  int rc = write_stamp(mdb_of(txn), k->stamp_table, "version", bytes, sizeof bytes);
  struct holt_buf value = holt_buf(bytes, sizeof bytes);
  if (rc == 0) holt__lmdb_record(k, HOLT__LMDB_STAMP, holt_buf_text("version"), &value);
  return holt__lmdb_code(k->mdb, rc);
}

int holt__lmdb_count_rebuild(struct lmdb_kv *k, MDB_txn *txn) {
  uint8_t bytes[4];
  holt_put_u32(bytes, ++k->kv.rebuilds);
  return write_stamp(txn, k->stamp_table, "rebuilds", bytes, sizeof bytes);
}

static int write_begin(struct holt_kv *kv, struct holt_kv_txn **out, struct holt_err *err) {
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  if (k->is_starved) holt__lmdb_settle(k);
  k->is_starved = false;
  int rc = atomic_load(&k->sync_error);
  if (rc != 0) return fail(k, HOLT_EIO, rc, err);
  struct lmdb_txn *t = holt_alloc(sizeof *t);
  t->txn.kv = kv;
  t->txn.is_write = true;
  holt__lmdb_record_begin(k);
  rc = mdb_txn_begin(k->mdb, NULL, 0, &t->mdb);
  if (rc == 0) {
    *out = &t->txn;
    return 0;
  }
  free(t);
  return fail(k, holt__lmdb_code(k->mdb, rc), rc, err);
}

/* Keep zeros behind the last page, so that no value that begins in the file reaches beyond its end. They take
 * no room. Not having them is no harm as long as nothing is damaged. */
static void keep_slack(struct lmdb_kv *k) {
  MDB_envinfo info;
  MDB_stat stat;
  struct stat file;
  struct rlimit limit;
  mdb_filehandle_t fd;
  if (mdb_env_info(k->mdb, &info) != 0 || mdb_env_stat(k->mdb, &stat) != 0 ||
      mdb_env_get_fd(k->mdb, &fd) != 0)
    return;
  off_t used = (off_t)(info.me_last_pgno + 1) * stat.ms_psize;
  if (fstat(fd, &file) != 0 || file.st_size >= used + SLACK_BYTES) return;
  off_t wanted = used + SLACK_BYTES + SLACK_STEP;
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && (rlim_t)wanted > limit.rlim_cur) return;
  if (ftruncate(fd, wanted) != 0)
    holt_log(HOLT_LOG_DEBUG, "no slack behind the store in '%s': %s", k->kv.path, strerror(errno));
}

static int write_commit(struct holt_kv_txn *txn, struct holt_err *err) {
  struct lmdb_txn *t = (struct lmdb_txn *)txn;
  struct lmdb_kv *k = (struct lmdb_kv *)txn->kv;
  bool is_fatal;
  int rc = holt__lmdb_commit(k, t->mdb, &is_fatal);
  if (k->is_broken) {
    broken(txn);
    *err = k->kv.failed;
    free(t);
    return err->code;
  }
  free(t);
  if (rc != 0) {
    int code = is_fatal ? HOLT_EIO : holt__lmdb_code(k->mdb, rc);
    k->is_starved = code == HOLT_ENOSPC;
    if (code == HOLT_ECORRUPT) atomic_store(&k->kv.is_damaged, true);
    return fail(k, code, rc, err);
  }
  keep_slack(k);
  return 0;
}

static void write_abort(struct holt_kv_txn *txn) {
  struct lmdb_txn *t = (struct lmdb_txn *)txn;
  if (!((struct lmdb_kv *)txn->kv)->is_broken) mdb_txn_abort(t->mdb);
  free(t);
}

struct opening {
  struct lmdb_kv *k;
  const char *name;
  MDB_dbi *dbi;
  bool is_open; /* a writing transaction */
};

static int make_table(void *arg) {
  struct opening *o = arg;
  MDB_txn *txn;
  int rc = mdb_txn_begin(o->k->mdb, NULL, 0, &txn);
  if (rc != 0) return rc;
  o->is_open = true;
  rc = mdb_dbi_open(txn, o->name, MDB_CREATE, o->dbi);
  if (rc == 0)
    rc = mdb_txn_commit(txn);
  else
    mdb_txn_abort(txn);
  o->is_open = false;
  return rc;
}

static int open_table(struct lmdb_kv *k, const char *name, MDB_dbi *dbi) {
  struct opening opening = {.k = k, .name = name, .dbi = dbi};
  int rc = k->is_broken ? MDB_CORRUPTED : k->mdb == NULL ? EIO : holt__lmdb_guarded(make_table, &opening);
  if (opening.is_open) { /* left there, LMDB is in the middle of a change */
    k->is_broken = true;
    fail(k, HOLT_ECORRUPT, MDB_CORRUPTED, &k->kv.failed);
  }
  if (rc != 0 && holt__lmdb_code(k->mdb, rc) == HOLT_ECORRUPT) atomic_store(&k->kv.is_damaged, true);
  return rc;
}

static int table(struct holt_kv *kv, const char *name, uint32_t *out, struct holt_err *err) {
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  MDB_dbi dbi;
  for (uint32_t i = 0; i < k->table_count; i++)
    if (strcmp(k->tables[i].name, name) == 0) {
      *out = i;
      return 0;
    }
  int rc = k->table_count == HOLT_KV_TABLES_MAX ? MDB_DBS_FULL : open_table(k, name, &dbi);
  if (rc != 0) {
    int code = holt__lmdb_code(k->mdb, rc);
    return holt_err_set(err, code, "cannot open the table '%s' in '%s': %s", name, kv->path,
                        code == HOLT_ENOSPC ? holt_err_text(code) : mdb_strerror(rc));
  }
  k->tables[k->table_count] = (struct lmdb_table){.name = holt_strdup(name), .dbi = dbi};
  *out = k->table_count++;
  return 0;
}

/* --- Copying -------------------------------------------------------------------------------------- */

static int copy_into(struct lmdb_kv *k, int fd) {
  int rc = mdb_env_copyfd2(k->mdb, fd, MDB_CP_COMPACT);
  if (rc == MDB_INCOMPATIBLE) { /* it has pages that nobody knows of: take them along */
    if (lseek(fd, 0, SEEK_SET) != 0 || ftruncate(fd, 0) != 0) return errno;
    rc = mdb_env_copyfd2(k->mdb, fd, 0);
    if (rc == 0) rc = holt__lmdb_disown(fd, (off_t)k->page);
  }
  if (rc == 0 && fsync(fd) != 0) rc = errno;
  return rc;
}

static int copy(struct holt_kv *kv, const char *path, struct holt_err *err) {
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  int error = mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : errno;
  int folder = error != 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int file = folder < 0 ? -1 : openat(folder, "data.mdb", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (error == 0 && file < 0) error = errno;
  if (error == 0) {
    error = copy_into(k, file);
    if (error == 0 && fsync(folder) != 0) error = errno;
    if (error != 0) unlinkat(folder, "data.mdb", 0);
  }
  if (file >= 0) close(file);
  if (folder >= 0) close(folder);
  if (error == 0) return 0;
  int code = error == EEXIST ? HOLT_EEXISTS : error == ENOENT ? HOLT_ENOTFOUND : holt__lmdb_code(NULL, error);
  return holt_err_set(err, code, "cannot copy the store in '%s' to '%s': %s", kv->path, path,
                      mdb_strerror(error));
}

/* --- Life ----------------------------------------------------------------------------------------- */

static uint64_t size_bytes(const struct holt_kv *kv) {
  const struct lmdb_kv *k = (const struct lmdb_kv *)kv;
  MDB_envinfo info;
  MDB_stat stat;
  if (k->mdb == NULL || mdb_env_info(k->mdb, &info) != 0 || mdb_env_stat(k->mdb, &stat) != 0) return 0;
  return (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
}

/* May be called again. */
static void release(struct lmdb_kv *k) {
  if (k->idle != NULL) {
    mdb_txn_abort(k->idle->mdb);
    free(k->idle);
    k->idle = NULL;
  }
  if (k->mdb != NULL && !k->is_broken) {
    holt__lmdb_detach(k);
    mdb_env_close(k->mdb);
  }
  k->mdb = NULL;
  holt__lmdb_look_end(k);
  holt__redo_close(&k->redo);
}

static void free_all(struct lmdb_kv *k) {
  release(k);
  holt_writer_free(&k->record);
  pthread_mutex_destroy(&k->lock);
  for (uint32_t i = 0; i < k->table_count; i++) free(k->tables[i].name);
  free(k->kv.aside);
  free(k);
}

static void forget(struct holt_kv *kv) {
  free_all((struct lmdb_kv *)kv);
}

static void drop(struct holt_kv *kv) {
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  release(k);
  holt_dir_drop(k->dir);
  free_all(k);
}

static void on_dir_closed(void *arg) {
  struct lmdb_kv *k = arg;
  void (*closed)(void *arg) = k->kv.closed;
  void *closed_arg = k->kv.closed_arg;
  free_all(k);
  if (closed != NULL) closed(closed_arg);
}

/* Until the folder is let go it can be forgotten, should the env go first. */
static void close_kv(struct holt_kv *kv, void (*closed)(void *arg), void *arg) {
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  k->kv.closed = closed;
  k->kv.closed_arg = arg;
  release(k);
  holt_dir_close(k->dir, on_dir_closed, k);
}

/* --- Beside the tables ---------------------------------------------------------------------------- */

static int keep(struct holt_kv *kv, struct holt_buf bytes, struct holt_err *err) {
  const struct holt_file_op ops[] = {
      {.type = HOLT_FILE_CREATE, .name = "aside"},
      {.type = HOLT_FILE_WRITE, .name = "aside", .data = bytes.data, .len = bytes.len},
      {.type = HOLT_FILE_SYNC, .name = "aside"},
      {.type = HOLT_FILE_RENAME, .name = "aside", .to = HOLT__LMDB_KEPT},
      {.type = HOLT_FILE_SYNC_DIR}};
  return holt_dir_run(((struct lmdb_kv *)kv)->dir, ops, 5, err);
}

static int kept(struct holt_kv *kv, struct holt_writer *out) {
  struct holt_err err;
  return holt_dir_read(((struct lmdb_kv *)kv)->dir, HOLT__LMDB_KEPT, 4096, out, &err);
}

static void mark(struct holt_kv *kv) {
  const struct holt_file_op ops[] = {{.type = HOLT_FILE_CREATE, .name = HOLT__LMDB_MARK},
                                     {.type = HOLT_FILE_SYNC_DIR}};
  struct holt_err err;
  if (holt_dir_run(((struct lmdb_kv *)kv)->dir, ops, 2, &err) != 0)
    holt_log(HOLT_LOG_WARN, "cannot mark the store in '%s' as damaged: %s", kv->path, err.message);
}

struct table_walk {
  MDB_txn *txn;
  MDB_cursor *cursor;
  void (*each)(void *arg, const char *name);
  void *arg;
};

/* LMDB keeps the names of its tables in a table without a name. */
static int walk_tables(void *arg) {
  struct table_walk *walk = arg;
  MDB_dbi all;
  MDB_val key, value;
  char name[128];
  int rc = mdb_dbi_open(walk->txn, NULL, 0, &all);
  if (rc == 0) rc = mdb_cursor_open(walk->txn, all, &walk->cursor);
  while (rc == 0 && (rc = mdb_cursor_get(walk->cursor, &key, &value, MDB_NEXT)) == 0) {
    if (key.mv_size == 0 || key.mv_size >= sizeof name) return MDB_CORRUPTED;
    memcpy(name, key.mv_data, key.mv_size);
    name[key.mv_size] = '\0';
    if (name[0] != '.') walk->each(walk->arg, name);
  }
  return rc == MDB_NOTFOUND ? 0 : rc;
}

static int each_table(struct holt_kv_txn *txn, void (*each)(void *arg, const char *name), void *arg) {
  struct table_walk walk = {.txn = mdb_of(txn), .each = each, .arg = arg};
  int rc = holt__lmdb_guarded(walk_tables, &walk);
  if (walk.cursor != NULL) mdb_cursor_close(walk.cursor);
  return holt__lmdb_code(env_of(txn), rc);
}

static bool wants_tending(struct holt_kv *kv) {
  return holt__lmdb_wants_tending((const struct lmdb_kv *)kv);
}

static void tend(struct holt_kv *kv) {
  holt__lmdb_tend((struct lmdb_kv *)kv);
}

static void settle(struct holt_kv *kv) {
  holt__lmdb_settle((struct lmdb_kv *)kv);
}

static const struct holt_kv_ops lmdb_ops = {
    .wants_tending = wants_tending,
    .tend = tend,
    .settle = settle,
    .close = close_kv,
    .drop = drop,
    .forget = forget,
    .size_bytes = size_bytes,
    .free_bytes = holt__lmdb_free_bytes,
    .table = table,
    .each_table = each_table,
    .begin = begin,
    .end = end,
    .get = get,
    .count = count,
    .cursor_open = cursor_open,
    .cursor_close = cursor_close,
    .move = move,
    .put = put,
    .erase = erase,
    .stamp = stamp,
    .write_begin = write_begin,
    .write_commit = write_commit,
    .write_abort = write_abort,
    .copy = copy,
    .compact = holt__lmdb_compact,
    .compacted = holt__lmdb_compacted,
    .keep = keep,
    .kept = kept,
    .mark = mark,
};

/* LMDB writes into its table of readers through a map: a page of it that the disk has no room for would kill
 * the process. So it gets its room beforehand. */
static int reserve_readers(const struct lmdb_kv *k) {
  char path[4096];
  snprintf(path, sizeof path, "%s/lock.mdb", k->kv.path);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return errno;
  int rc = posix_fallocate(fd, 0, READERS_BYTES);
  if (rc == EOPNOTSUPP || rc == EINVAL) rc = 0; /* a file system that cannot: as it was */
  close(fd);
  return rc;
}

static int open_mdb(struct lmdb_kv *k, uint64_t map_bytes) {
  k->map_bytes = map_bytes;
  int rc = mdb_env_create(&k->mdb);
  if (rc != 0) return rc;
  mdb_env_set_assert(k->mdb, holt__lmdb_on_assert);
  rc = mdb_env_set_maxdbs(k->mdb, HOLT_KV_TABLES_MAX);
  if (rc == 0) rc = mdb_env_set_mapsize(k->mdb, (size_t)map_bytes);
  if (rc == 0) rc = reserve_readers(k);
  if (rc == 0) rc = mdb_env_open(k->mdb, k->kv.path, MDB_NOTLS, 0600);
  if (rc == 0) return 0;
  mdb_env_close(k->mdb);
  k->mdb = NULL;
  return rc;
}

/* The system may bound addresses (ulimit -v): then less is asked for. */
static int open_mdb_smaller(struct lmdb_kv *k, uint64_t map_bytes) {
  int rc = open_mdb(k, map_bytes);
  while ((rc == ENOMEM || rc == EINVAL || rc == EOVERFLOW) && map_bytes / 4 >= MAP_BYTES_MIN) {
    map_bytes /= 4;
    rc = open_mdb(k, map_bytes);
  }
  return rc;
}

static int reopen_tables(void *arg) {
  struct lmdb_kv *k = arg;
  MDB_txn *txn;
  int rc = mdb_txn_begin(k->mdb, NULL, 0, &txn);
  if (rc != 0) return rc;
  rc = mdb_dbi_open(txn, HOLT__LMDB_STAMP, 0, &k->stamp_table);
  for (uint32_t i = 0; i < k->table_count && rc == 0; i++) /* one may have been made meanwhile: it is empty */
    rc = mdb_dbi_open(txn, k->tables[i].name, MDB_CREATE, &k->tables[i].dbi);
  if (rc == 0) return mdb_txn_commit(txn);
  mdb_txn_abort(txn);
  return rc;
}

int holt__lmdb_open(struct lmdb_kv *k) {
  int rc = open_mdb(k, k->map_bytes);
  if (rc != 0) return rc;
  keep_slack(k);
  rc = holt__lmdb_guarded(reopen_tables, k);
  if (rc == 0) rc = holt__lmdb_attach(k);
  if (rc == 0) return 0;
  holt__lmdb_detach(k);
  mdb_env_close(k->mdb);
  k->mdb = NULL;
  return rc;
}

/* Find the stamp, or put it on a store that holds nothing yet. */
static int check_stamp(struct lmdb_kv *k, MDB_txn *txn, const struct holt_kv_options *options,
                       struct holt_err *err) {
  MDB_dbi all;
  MDB_stat stat;
  MDB_val kind = {0}, version = {0}, rebuilds = {0};
  uint8_t bytes[4];
  char text[64];
  int rc = mdb_dbi_open(txn, NULL, 0, &all);
  if (rc == 0) rc = mdb_stat(txn, all, &stat);
  if (rc == 0)
    rc = mdb_dbi_open(txn, HOLT__LMDB_STAMP, stat.ms_entries == 0 ? MDB_CREATE : 0, &k->stamp_table);
  if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE)
    return holt_err_set(err, HOLT_EFOREIGN, "the folder '%s' holds a database of another program",
                        options->path);
  if (rc == 0 && stat.ms_entries == 0) {
    holt_put_u32(bytes, options->version);
    rc = write_stamp(txn, k->stamp_table, "kind", options->kind, strlen(options->kind));
    return rc != 0 ? rc : write_stamp(txn, k->stamp_table, "version", bytes, sizeof bytes);
  }
  if (rc == 0) rc = read_stamp(txn, k->stamp_table, "kind", &kind);
  if (rc == 0) rc = read_stamp(txn, k->stamp_table, "version", &version);
  if (rc == 0 && read_stamp(txn, k->stamp_table, "rebuilds", &rebuilds) == 0 && rebuilds.mv_size == 4)
    k->kv.rebuilds = holt_get_u32(rebuilds.mv_data);
  if (rc != 0) return rc;
  if (kind.mv_size >= sizeof text || version.mv_size != 4) return MDB_CORRUPTED;
  snprintf(text, sizeof text, "%.*s", (int)kind.mv_size, (const char *)kind.mv_data);
  k->kv.version = holt_get_u32(version.mv_data);
  return holt__kv_check_stamp(options, text, k->kv.version, err);
}

static int open_stamped(struct lmdb_kv *k, const struct holt_kv_options *options, struct holt_err *err) {
  MDB_txn *txn;
  jmp_buf here;
  if (_setjmp(here) != 0) {
    k->is_broken = true;
    return MDB_CORRUPTED;
  }
  guard = &here;
  int rc = mdb_txn_begin(k->mdb, NULL, 0, &txn);
  if (rc == 0) {
    rc = check_stamp(k, txn, options, err);
    if (rc == 0)
      rc = mdb_txn_commit(txn);
    else
      mdb_txn_abort(txn);
  }
  guard = NULL;
  return rc;
}

static int open_error(const struct lmdb_kv *k, int rc, struct holt_err *err) {
  int code = holt__lmdb_code(k->mdb, rc);
  if (code == HOLT_ECORRUPT)
    return holt_err_set(
        err, code,
        "the store in '%s' is damaged (%s): take the folder away, and what other holders have "
        "comes back from them",
        k->kv.path, mdb_strerror(rc));
  bool is_barred = rc == EROFS || rc == EACCES || rc == EPERM;
  return holt_err_set(err, code, "cannot open the store in '%s': %s%s", k->kv.path,
                      code == HOLT_ENOSPC ? holt_err_text(code) : mdb_strerror(rc),
                      is_barred ? "; also who only reads it writes there: look at a copy of the folder" : "");
}

/* --- Damage at the opening ------------------------------------------------------------------------ */

static bool is_there(const struct lmdb_kv *k, const char *name, off_t *size) {
  char path[4096];
  struct stat file;
  snprintf(path, sizeof path, "%s/%s", k->kv.path, name);
  bool is_found = stat(path, &file) == 0;
  *size = is_found ? file.st_size : 0;
  return is_found;
}

/* The file is shorter than what LMDB has written into it. `size` is what it had before we gave it slack. */
static bool is_cut_short(const struct lmdb_kv *k, off_t size) {
  MDB_envinfo info;
  MDB_stat stat;
  return mdb_env_info(k->mdb, &info) == 0 && mdb_env_stat(k->mdb, &stat) == 0 && size > 0 &&
         size < (off_t)(info.me_last_pgno + 1) * stat.ms_psize;
}

static void forget_mdb(struct lmdb_kv *k) {
  holt__lmdb_detach(k);
  holt__lmdb_look_end(k);
  if (k->mdb != NULL && !k->is_broken) mdb_env_close(k->mdb);
  k->mdb = NULL;
  k->is_broken = false;
}

/* Open the file as it is. MDB_CORRUPTED and the like: see holt__lmdb_salvage. */
static int open_as_is(struct lmdb_kv *k, const struct holt_kv_options *options, struct holt_err *err) {
  off_t size, other;
  bool is_known = is_there(k, HOLT__LMDB_KEPT, &other), is_marked = is_there(k, HOLT__LMDB_MARK, &other);
  is_there(k, "data.mdb", &size);
  k->map_bytes = options->map_bytes == 0 ? MAP_BYTES : options->map_bytes;
  int rc = holt__lmdb_restore(k);
  if (rc == 0 && options->is_whole != NULL && (is_marked || (is_known && size == 0))) rc = MDB_CORRUPTED;
  if (rc == 0) rc = open_mdb_smaller(k, k->map_bytes);
  if (rc != 0) return rc;
  bool is_short = is_cut_short(k, size);
  keep_slack(k); /* before any page is looked at */
  rc = is_short && options->is_whole != NULL ? MDB_CORRUPTED : holt__lmdb_look(k);
  if (rc == 0) rc = open_stamped(k, options, err);
  return rc == 0 ? holt__lmdb_attach(k) : rc;
}

/* Whether what hindered the opening is damage, not something that never was ours. */
static bool is_damage(const struct lmdb_kv *k, int rc, const struct holt_err *err) {
  off_t size;
  bool is_known = is_there(k, HOLT__LMDB_KEPT, &size);
  if (err->code == HOLT_EFOREIGN) return is_known; /* the stamp is gone */
  return rc != 0 && err->code == 0 && holt__lmdb_code(k->mdb, rc) == HOLT_ECORRUPT &&
         (rc != MDB_INVALID || is_known);
}

static int open_file(struct lmdb_kv *k, const struct holt_kv_options *options, struct holt_err *err) {
  int rc = open_as_is(k, options, err);
  if (options->is_whole == NULL || !is_damage(k, rc, err)) return rc;
  *err = (struct holt_err){0};
  forget_mdb(k);
  rc = holt__lmdb_salvage(k, options);
  if (rc != 0) return rc;
  rc = open_mdb_smaller(k, k->map_bytes);
  if (rc == 0) keep_slack(k);
  if (rc == 0) rc = open_stamped(k, options, err);
  return rc == 0 ? holt__lmdb_attach(k) : rc;
}

int holt__kv_open_lmdb(struct holt_env *env, const struct holt_kv_options *options, struct holt_kv **out,
                       struct holt_err *err) {
  const struct holt_file_op sync = {.type = HOLT_FILE_SYNC_DIR};
  struct holt_err own = {0};
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  struct lmdb_kv *k = holt_alloc(sizeof *k);
  pthread_once(&once, watch_faults);
  holt__kv_init(&k->kv, env, &lmdb_ops, options->path);
  k->redo.fd = k->redo.head_fd = -1;
  pthread_mutex_init(&k->lock, NULL);
  int rc = holt_dir_open(env, options->path, &k->dir, &own);
  if (rc == 0) {
    holt__lmdb_sweep(options->path);
    rc = open_file(k, options, &own);
    if (rc != 0 && own.code == 0) rc = open_error(k, rc, &own);
    if (rc == 0) rc = holt_dir_run(k->dir, &sync, 1, &own); /* the names of LMDB's files */
  }
  if (rc == 0) {
    keep_slack(k);
    *out = &k->kv;
    return 0;
  }
  if (err != NULL) *err = own;
  if (k->dir != NULL) holt_dir_close(k->dir, NULL, NULL);
  free(k->kv.path);
  free_all(k);
  return own.code;
}
