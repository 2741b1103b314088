/* kv_compact.c - an LMDB folder without the room of what was deleted, which its file never gives back.
 *
 * - On a worker's thread, while no job writes: every table is read in order, in one reading transaction, and
 *   appended to a new file beside the old one, in transactions that are not synced; then that file is.
 * - On the loop: the old file is closed, the new one takes its name, the folder is synced, it is opened.
 * - A crash before the new name: what is left of the new file is removed at the next opening. Behind it: both
 *   hold the same, whichever of them the folder shows.
 * - A damaged page: the reading is left (see kv_lmdb.c), the new file is removed, the old one stays.
 *   mdb_env_copy2() would do this with a thread of its own, which such a leaving would strand.
 * - No room for the new file: it is removed, nothing else has happened.
 * - The new file cannot be opened: nothing can be read or written any more; the next start may find out why.
 * - A table made meanwhile is empty, as jobs wait; opening makes it again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "env/file.h"
#include "store/kv_lmdb.h"

#define NEW_FILE HOLT__LMDB_NEW

enum {
  COMMIT_BYTES = 16 << 20, /* of the new file at once */
  KEY_BYTES = 511,         /* LMDB's */
  LEFT_BYTES = 4 << 20     /* so much room stays on the disk */
};

struct compaction {
  struct lmdb_kv *k;
  MDB_env *to;
  MDB_txn *from_txn, *to_txn;
  MDB_cursor *cursor;
  char *names[HOLT_KV_TABLES_MAX];
  MDB_dbi tables[HOLT_KV_TABLES_MAX];
  uint32_t count, at;
  MDB_cursor_op op;
  bool is_opening; /* in a writing transaction of the old file */
  size_t key_len, value_len, written;
  uint8_t key[KEY_BYTES];
  uint8_t *value; /* HOLT_KV_VALUE_MAX bytes */
};

static void new_path(const char *folder, char *out, size_t cap) {
  snprintf(out, cap, "%s/" NEW_FILE, folder);
}

void holt__lmdb_sweep(const char *path) {
  char name[4096];
  new_path(path, name, sizeof name);
  if (access(name, F_OK) == 0 && unlink(name) != 0)
    holt_log(HOLT_LOG_WARN, "cannot remove '%s', which a compaction left: %s", name, strerror(errno));
}

/* --- The old file --------------------------------------------------------------------------------- */

static int list_tables(void *arg) {
  struct compaction *c = arg;
  MDB_dbi all;
  MDB_val key, value;
  int rc = mdb_dbi_open(c->from_txn, NULL, 0, &all);
  if (rc == 0) rc = mdb_cursor_open(c->from_txn, all, &c->cursor);
  while (rc == 0 && (rc = mdb_cursor_get(c->cursor, &key, &value, MDB_NEXT)) == 0) {
    if (key.mv_size > KEY_BYTES || c->count == HOLT_KV_TABLES_MAX) return MDB_CORRUPTED;
    c->names[c->count] = holt_alloc(key.mv_size + 1);
    memcpy(c->names[c->count++], key.mv_data, key.mv_size);
  }
  return rc == MDB_NOTFOUND ? 0 : rc;
}

/* A writing transaction, though nothing is written: only so may tables be opened beside the loop's. */
static int open_tables(void *arg) {
  struct compaction *c = arg;
  MDB_txn *txn;
  int rc = mdb_txn_begin(c->k->mdb, NULL, 0, &txn);
  if (rc != 0) return rc;
  c->is_opening = true;
  for (uint32_t i = 0; i < c->count && rc == 0; i++) rc = mdb_dbi_open(txn, c->names[i], 0, &c->tables[i]);
  if (rc == 0)
    rc = mdb_txn_commit(txn);
  else
    mdb_txn_abort(txn);
  c->is_opening = false;
  return rc;
}

static int read_tables(struct compaction *c) {
  int rc = mdb_txn_begin(c->k->mdb, NULL, MDB_RDONLY, &c->from_txn);
  if (rc == 0) rc = holt__lmdb_guarded(list_tables, c);
  if (c->cursor != NULL) mdb_cursor_close(c->cursor);
  c->cursor = NULL;
  if (rc != 0) return rc;
  rc = holt__lmdb_guarded(open_tables, c);
  if (c->is_opening) { /* left there, LMDB is in the middle of a change */
    c->k->is_broken = true;
    holt_err_set(&c->k->kv.failed, HOLT_ECORRUPT, "the store in '%s' is damaged", c->k->kv.path);
  }
  if (rc != 0) return rc;
  mdb_txn_reset(c->from_txn); /* it does not know what was opened behind it */
  return mdb_txn_renew(c->from_txn);
}

/* Bytes of the pages that hold something. */
static int measure(void *arg) {
  struct compaction *c = arg;
  uint64_t pages = 2;
  MDB_stat stat = {0};
  for (uint32_t i = 0; i < c->count; i++) {
    int rc = mdb_stat(c->from_txn, c->tables[i], &stat);
    if (rc != 0) return rc;
    pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages + 1;
  }
  c->written = (size_t)(pages * stat.ms_psize);
  return 0;
}

static int open_cursor(void *arg) {
  struct compaction *c = arg;
  return mdb_cursor_open(c->from_txn, c->tables[c->at], &c->cursor);
}

/* To the next key and value, which are copied: reading them may fault, too. */
static int step(void *arg) {
  struct compaction *c = arg;
  MDB_val key, value;
  int rc = mdb_cursor_get(c->cursor, &key, &value, c->op);
  if (rc != 0) return rc;
  if (key.mv_size > KEY_BYTES || value.mv_size > HOLT_KV_VALUE_MAX) return MDB_CORRUPTED;
  c->key_len = key.mv_size;
  c->value_len = value.mv_size;
  memcpy(c->key, key.mv_data, key.mv_size);
  memcpy(c->value, value.mv_data, value.mv_size);
  return 0;
}

/* --- The new file --------------------------------------------------------------------------------- */

static int open_new(struct compaction *c) {
  char name[4096];
  new_path(c->k->kv.path, name, sizeof name);
  int rc = mdb_env_create(&c->to);
  if (rc == 0) rc = mdb_env_set_maxdbs(c->to, HOLT_KV_TABLES_MAX);
  if (rc == 0) rc = mdb_env_set_mapsize(c->to, c->written * 2 + ((size_t)64 << 20));
  if (rc == 0) rc = mdb_env_open(c->to, name, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC | MDB_NOMEMINIT, 0600);
  return rc;
}

static int commit_new(struct compaction *c) {
  MDB_txn *txn = c->to_txn;
  c->to_txn = NULL;
  c->written = 0;
  return mdb_txn_commit(txn);
}

static int copy_table(struct compaction *c) {
  MDB_dbi dbi;
  int rc = mdb_txn_begin(c->to, NULL, 0, &c->to_txn);
  if (rc == 0) rc = mdb_dbi_open(c->to_txn, c->names[c->at], MDB_CREATE, &dbi);
  if (rc == 0) rc = holt__lmdb_guarded(open_cursor, c);
  c->op = MDB_FIRST;
  while (rc == 0 && (rc = holt__lmdb_guarded(step, c)) == 0) {
    MDB_val key = {.mv_data = c->key, .mv_size = c->key_len};
    MDB_val value = {.mv_data = c->value, .mv_size = c->value_len};
    c->op = MDB_NEXT;
    rc = mdb_put(c->to_txn, dbi, &key, &value, MDB_APPEND);
    if (rc == MDB_KEYEXIST) rc = MDB_CORRUPTED; /* the old one's keys are out of order */
    c->written += c->key_len + c->value_len;
    if (rc != 0 || c->written < COMMIT_BYTES) continue;
    if (atomic_load(&c->k->kv.stop)) return ECANCELED;
    rc = commit_new(c);
    if (rc == 0) rc = mdb_txn_begin(c->to, NULL, 0, &c->to_txn);
  }
  if (rc != MDB_NOTFOUND) return rc;
  mdb_cursor_close(c->cursor);
  c->cursor = NULL;
  return commit_new(c);
}

static bool has_room(const struct compaction *c) {
  struct statvfs disk;
  return statvfs(c->k->kv.path, &disk) != 0 ||
         (uint64_t)disk.f_bavail * disk.f_frsize >= (uint64_t)c->written + LEFT_BYTES;
}

static int write_new(struct compaction *c) {
  int rc = read_tables(c);
  if (rc == 0) rc = holt__lmdb_guarded(measure, c);
  if (rc == 0 && !has_room(c)) rc = ENOSPC;
  if (rc == 0) rc = open_new(c);
  for (c->at = 0; c->at < c->count && rc == 0; c->at++)
    rc = atomic_load(&c->k->kv.stop) ? ECANCELED : copy_table(c);
  if (rc == 0) rc = mdb_env_sync(c->to, 1);
  return rc;
}

static int explain(const struct compaction *c, int rc, struct holt_err *err) {
  const char *path = c->k->kv.path;
  int code = rc == ECANCELED ? HOLT_ECANCELED : holt__lmdb_code(c->to != NULL ? c->to : c->k->mdb, rc);
  if (code == HOLT_ENOSPC)
    return holt_err_set(
        err, code,
        "the store in '%s' was not compacted: there is no room for the new file beside the old one", path);
  if (code == HOLT_ECANCELED)
    return holt_err_set(err, code, "the store in '%s' was not compacted: it is being closed", path);
  if (code == HOLT_ECORRUPT)
    return holt_err_set(
        err, code,
        "the store in '%s' was not compacted: it is damaged (nothing was changed); "
        "start the node again: the store is made anew from what can be read, the rest comes from "
        "linked holders",
        path);
  return holt_err_set(err, code, "the store in '%s' was not compacted: %s", path, mdb_strerror(rc));
}

int holt__lmdb_compact(struct holt_kv *kv, struct holt_err *err) {
  struct compaction *c = holt_alloc(sizeof *c);
  c->k = (struct lmdb_kv *)kv;
  c->value = holt_alloc(HOLT_KV_VALUE_MAX);
  holt__lmdb_sweep(kv->path);
  holt__lmdb_settle(c->k); /* or the loop would wait for it */
  int rc = c->k->is_broken ? MDB_CORRUPTED : atomic_load(&c->k->sync_error); /* then no file is changed */
  if (rc == 0) rc = write_new(c);
  if (rc != 0) explain(c, rc, err);
  if (c->cursor != NULL) mdb_cursor_close(c->cursor);
  if (c->from_txn != NULL) mdb_txn_abort(c->from_txn);
  if (c->to_txn != NULL) mdb_txn_abort(c->to_txn);
  if (c->to != NULL) mdb_env_close(c->to);
  if (rc != 0) holt__lmdb_sweep(kv->path);
  for (uint32_t i = 0; i < c->count; i++) free(c->names[i]);
  free(c->value);
  free(c);
  return err->code;
}

/* --- In place ------------------------------------------------------------------------------------- */

int holt__lmdb_compacted(struct holt_kv *kv, struct holt_err *err) {
  const struct holt_file_op ops[] = {{.type = HOLT_FILE_RENAME, .name = NEW_FILE, .to = "data.mdb"},
                                     {.type = HOLT_FILE_SYNC_DIR}};
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  if (k->idle != NULL) {
    mdb_txn_abort(k->idle->mdb);
    free(k->idle);
    k->idle = NULL;
  }
  holt__lmdb_detach(k);
  mdb_env_close(k->mdb);
  k->mdb = NULL;
  struct holt_err why = {0};
  int moved = holt_dir_run(k->dir, ops, 2, &why); /* after a failure it is the old one or the new one */
  bool is_looked_at = k->look == NULL;
  holt__lmdb_look_end(k); /* the new file is of this process */
  int rc = holt__lmdb_open(k);
  if (rc == 0 && moved != 0 && !is_looked_at) rc = holt__lmdb_look(k);
  if (rc != 0) {
    holt_err_set(&kv->failed, HOLT_EIO, "the store in '%s' was compacted and cannot be opened again: %s",
                 kv->path, mdb_strerror(rc));
    *err = kv->failed;
  } else if (moved != 0) {
    holt__lmdb_sweep(kv->path);
    holt_err_set(err, moved, "the store in '%s' was not compacted: %s", kv->path, why.message);
  }
  return err->code;
}
