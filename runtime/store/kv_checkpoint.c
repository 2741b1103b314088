/* kv_checkpoint.c - how a transaction lasts: its changes in the redo log first, the pages of the tables
 * later.
 *
 * - A commit: the record of what was changed is appended to the log and synced, one write in one place; then
 *   LMDB writes its pages and one of its two first pages, which nobody waits for. One that is too large for a
 *   record is committed by LMDB and made a checkpoint at once.
 * - A checkpoint: from the turn on, records go into the log's other half. The pages are synced, beside the
 *   writing; then the log's head names the first page as it was at the turn. Between two of them no page that
 *   the older one needs is written over: a reading transaction holds it.
 * - An opening: the first pages are written back as the head has them, which is the checkpoint, whole and
 *   synced; then the log's records are done again. So what LMDB had written meanwhile does not matter.
 * - The log and the file of tables know each other by an id, which stands in the first pages where LMDB has
 *   nothing, with the number of the last checkpoint. A file without one is whole by itself: new, or just
 *   compacted, or of before there was a log.
 * - No room for a log: LMDB syncs each commit, twice. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "env/env.h"
#include "store/kv_lmdb.h"

#define OWNER_AT ((off_t)1024) /* in each of the two first pages */

enum {
  OWNER_BYTES = HOLT__REDO_ID + 8,
  TXN_AT = 144,      /* in a first page of LMDB with addresses of 8 bytes: its transaction */
  COMMITS_MAX = 256, /* between two checkpoints: each leaves some pages unusable until then */
  PAGES_MAX = 1024,  /* that the file may grow meanwhile */
  HALF_FULL = HOLT__REDO_HALF / 4 * 3, /* bytes of records */
  PUT = 1,
  ERASE = 2
};

/* --- Records -------------------------------------------------------------------------------------- */

void holt__lmdb_record_begin(struct lmdb_kv *k) {
  k->record.len = 0;
  memset(holt_writer_grow(&k->record, HOLT__REDO_HEADER), 0, HOLT__REDO_HEADER);
  k->is_large = !k->has_redo;
}

void holt__lmdb_record(struct lmdb_kv *k, const char *table, struct holt_buf key,
                       const struct holt_buf *value) {
  size_t len = value == NULL ? 0 : value->len;
  if (k->is_large || (k->is_large = k->record.len + key.len + len > HOLT__REDO_RECORD_MAX)) return;
  holt_write_u8(&k->record, value == NULL ? ERASE : PUT);
  holt_write_text8(&k->record, table);
  holt_write_u16(&k->record, (uint16_t)key.len);
  holt_write_u32(&k->record, (uint32_t)len);
  holt_write_bytes(&k->record, key.data, key.len);
  if (value != NULL) holt_write_bytes(&k->record, value->data, value->len);
}

static int redo_one(MDB_txn *txn, MDB_dbi dbi, uint8_t type, struct holt_buf key, struct holt_buf value) {
  MDB_val k = {.mv_size = key.len, .mv_data = (void *)(uintptr_t)key.data};
  MDB_val v = {.mv_size = value.len, .mv_data = (void *)(uintptr_t)value.data};
  if (type == PUT) return mdb_put(txn, dbi, &k, &v, 0);
  int rc = mdb_del(txn, dbi, &k, NULL);
  return rc == MDB_NOTFOUND ? 0 : rc;
}

int holt__lmdb_redo(struct lmdb_kv *k, MDB_txn *txn, struct holt_buf body) {
  struct holt_reader r = holt_reader(body);
  char name[256], last[256] = "";
  MDB_dbi dbi = 0;
  while (holt_reader_left(&r) > 0) {
    uint8_t type = holt_read_u8(&r);
    holt_read_text8(&r, name);
    size_t key_len = holt_read_u16(&r), value_len = holt_read_u32(&r);
    struct holt_buf key = holt_read_bytes(&r, key_len), value = holt_read_bytes(&r, value_len);
    if (r.failed || (type != PUT && type != ERASE)) return MDB_CORRUPTED;
    int rc = strcmp(name, last) == 0 ? 0 : mdb_dbi_open(txn, name, MDB_CREATE, &dbi);
    if (rc == 0 && k != NULL) rc = holt__lmdb_look_for(k, txn, name, HOLT_KV_TABLES_MAX, key, type == ERASE);
    if (rc == 0) rc = redo_one(txn, dbi, type, key, value);
    if (rc != 0) return rc;
    memcpy(last, name, sizeof last);
  }
  return 0;
}

/* --- Whose file it is ------------------------------------------------------------------------------- */

struct owner {
  uint8_t id[HOLT__REDO_ID];
  uint64_t generation; /* of a head of that log */
};

/* Whose log the file has, from one of its first pages; false: nobody's. */
static bool read_owner(int fd, off_t page, struct owner *owner) {
  static const uint8_t zeros[HOLT__REDO_ID];
  uint8_t bytes[OWNER_BYTES] = {0};
  bool is_read = pread(fd, bytes, sizeof bytes, page + OWNER_AT) == (ssize_t)sizeof bytes;
  memcpy(owner->id, bytes, HOLT__REDO_ID);
  owner->generation = holt_get_u64(bytes + HOLT__REDO_ID);
  return is_read && memcmp(owner->id, zeros, HOLT__REDO_ID) != 0;
}

static int write_owner(int fd, const uint8_t *id, uint64_t generation, off_t page) {
  uint8_t bytes[OWNER_BYTES];
  memcpy(bytes, id, HOLT__REDO_ID);
  holt_put_u64(bytes + HOLT__REDO_ID, generation);
  for (off_t at = 0; at <= page; at += page)
    if (pwrite(fd, bytes, sizeof bytes, at + OWNER_AT) != (ssize_t)sizeof bytes)
      return errno != 0 ? errno : EIO;
  return 0;
}

int holt__lmdb_disown(int fd, off_t page) {
  static const uint8_t zeros[HOLT__REDO_ID];
  int rc = write_owner(fd, zeros, 0, page);
  return rc == 0 && fdatasync(fd) != 0 ? errno : rc;
}

/* --- A checkpoint --------------------------------------------------------------------------------- */

static int fd_of(const struct lmdb_kv *k) {
  mdb_filehandle_t fd = -1;
  mdb_env_get_fd(k->mdb, &fd);
  return fd;
}

static void let_go(MDB_txn **reading) {
  if (*reading != NULL) mdb_txn_abort(*reading);
  *reading = NULL;
}

/* From here on records are behind the next checkpoint, which is what is committed now. By who writes. */
static int turn(struct lmdb_kv *k) {
  MDB_envinfo info;
  int rc = mdb_env_info(k->mdb, &info);
  if (rc == 0) rc = mdb_txn_begin(k->mdb, NULL, MDB_RDONLY, &k->next_held);
  if (rc != 0) return rc;
  k->next = k->redo.head;
  off_t at = (off_t)(info.me_last_txnid & 1) * k->page;
  if (pread(fd_of(k), k->next.image, HOLT__REDO_IMAGE, at) != HOLT__REDO_IMAGE) {
    let_go(&k->next_held);
    return EIO;
  }
  holt__redo_turn(&k->redo);
  k->next.first = k->redo.number;
  k->next.half = k->redo.half;
  k->next.page = k->page;
  k->commits = 0;
  k->pages = info.me_last_pgno;
  k->is_turned = true;
  return 0;
}

/* Make it count. errno; then nothing may be written any more. */
static int finish(struct lmdb_kv *k) {
  int rc = atomic_load(&k->sync_error);
  if (!k->is_turned || rc != 0) return rc;
  rc = fdatasync(fd_of(k)) == 0 ? 0 : errno;
  if (rc == 0) rc = holt__redo_write_head(&k->redo, &k->next);
  if (rc == 0) rc = write_owner(fd_of(k), k->next.id, k->next.generation, (off_t)k->page);
  atomic_store(&k->sync_error, rc);
  if (rc != 0) return rc;
  let_go(&k->held);
  k->held = k->next_held;
  k->next_held = NULL;
  k->is_turned = false;
  return 0;
}

/* All that is committed, now. */
static int checkpoint(struct lmdb_kv *k) {
  pthread_mutex_lock(&k->lock);
  int rc = finish(k);
  if (rc == 0) rc = turn(k);
  if (rc == 0) rc = finish(k);
  pthread_mutex_unlock(&k->lock);
  return rc;
}

bool holt__lmdb_wants_tending(const struct lmdb_kv *k) {
  return atomic_load(&k->is_due);
}

void holt__lmdb_tend(struct lmdb_kv *k) {
  atomic_store(&k->is_due, false);
  pthread_mutex_lock(&k->lock);
  int rc = k->has_redo ? finish(k) : 0;
  if (rc != 0) holt_log(HOLT_LOG_ERROR, "cannot sync the store in '%s': %s", k->kv.path, strerror(rc));
  pthread_mutex_unlock(&k->lock);
}

void holt__lmdb_settle(struct lmdb_kv *k) {
  if (!k->has_redo || k->is_broken || k->kv.failed.code != 0) return;
  int rc = checkpoint(k);
  if (rc != 0)
    holt_log(HOLT_LOG_WARN, "no checkpoint of the store in '%s': %s", k->kv.path, mdb_strerror(rc));
}

/* --- Committing ----------------------------------------------------------------------------------- */

struct commit {
  MDB_txn *txn;
  bool is_over; /* it was not left in its middle */
};

static int commit_guarded(void *arg) {
  struct commit *commit = arg;
  int rc = mdb_txn_commit(commit->txn);
  commit->is_over = true;
  return rc;
}

static int commit_pages(struct lmdb_kv *k, MDB_txn *txn) {
  struct commit commit = {.txn = txn};
  int rc = holt__lmdb_guarded(commit_guarded, &commit);
  if (!commit.is_over) k->is_broken = true;
  return rc;
}

/* A record needs room in this half, or else the other one, which may still be needed. */
static int make_room(struct lmdb_kv *k) {
  pthread_mutex_lock(&k->lock);
  int rc = finish(k);
  if (rc == 0) rc = turn(k);
  pthread_mutex_unlock(&k->lock);
  return rc;
}

static bool is_due(const struct lmdb_kv *k) {
  MDB_envinfo info;
  return k->commits >= COMMITS_MAX || k->redo.at > holt__redo_start(k->redo.half) + HALF_FULL ||
         (mdb_env_info(k->mdb, &info) == 0 && info.me_last_pgno > k->pages + PAGES_MAX);
}

/* Not while the last one is being synced: nobody shall wait for that. */
static void turn_when_due(struct lmdb_kv *k) {
  k->commits++;
  if (!is_due(k)) return;
  if (pthread_mutex_trylock(&k->lock) == 0) {
    if (!k->is_turned) turn(k); /* without memory for it: the next time */
    pthread_mutex_unlock(&k->lock);
  }
  atomic_store(&k->is_due, true);
}

static int commit_logged(struct lmdb_kv *k, MDB_txn *txn, bool *is_fatal) {
  int rc = holt__redo_has_room(&k->redo, k->record.len) ? 0 : make_room(k);
  if (rc == 0) rc = holt__redo_append(&k->redo, &k->record);
  *is_fatal = rc != 0;
  if (rc != 0) {
    mdb_txn_abort(txn);
    return rc;
  }
  rc = commit_pages(k, txn);
  if (rc == 0)
    turn_when_due(k);
  else
    *is_fatal = holt__redo_retract(&k->redo) != 0;
  return rc;
}

int holt__lmdb_commit(struct lmdb_kv *k, MDB_txn *txn, bool *is_fatal) {
  *is_fatal = false;
  bool is_logged = k->has_redo && !k->is_large && k->record.len > HOLT__REDO_HEADER;
  int rc = is_logged ? commit_logged(k, txn, is_fatal) : commit_pages(k, txn);
  if (rc != 0 || !k->has_redo || !k->is_large) return rc;
  rc = checkpoint(k);
  *is_fatal = rc != 0; /* it may have happened or not */
  return rc;
}

/* --- Opening -------------------------------------------------------------------------------------- */

/* The file's own note may be one generation behind, as it is synced with the next checkpoint. An older one is
 * a copy that somebody put there. */
static bool is_ours(const struct owner *owner, const struct holt_redo_head *head) {
  return memcmp(owner->id, head->id, HOLT__REDO_ID) == 0 && owner->generation <= head->generation &&
         owner->generation + 1 >= head->generation;
}

/* Whether nothing was written behind the checkpoint: one first page is its, the other an older one. */
static bool is_at_rest(int fd, const struct holt_redo_head *head) {
  bool is_there = false;
  for (unsigned i = 0; i < 2; i++) {
    uint8_t page[HOLT__REDO_IMAGE];
    if (pread(fd, page, sizeof page, (off_t)i * head->page) != (ssize_t)sizeof page) return false;
    if (memcmp(page + 8, head->image + 8, sizeof page - 8) == 0)
      is_there = true;
    else if (holt_get_u64(page + TXN_AT) >= holt_get_u64(head->image + TXN_AT))
      return false;
  }
  return is_there && sizeof(size_t) == 8;
}

/* Write the checkpoint's first page to both places, each with its own number in front. */
static int write_images(int fd, const struct holt_redo_head *head) {
  uint8_t image[HOLT__REDO_IMAGE];
  memcpy(image, head->image, sizeof image);
  for (unsigned i = 0; i < 2; i++) {
    holt_put_u64(image, i);
    if (pwrite(fd, image, sizeof image, (off_t)i * head->page) != (ssize_t)sizeof image)
      return errno != 0 ? errno : EIO;
  }
  int rc = write_owner(fd, head->id, head->generation, head->page);
  return rc == 0 && fdatasync(fd) != 0 ? errno : rc;
}

static int restore(struct lmdb_kv *k, int fd, int found) {
  struct owner owners[2];
  const struct holt_redo_head *head = &k->redo.head;
  off_t page = found == 0 ? (off_t)head->page : (off_t)sysconf(_SC_PAGESIZE);
  bool has_first = read_owner(fd, 0, &owners[0]), has_second = read_owner(fd, page, &owners[1]);
  if (!has_first && !has_second) {
    k->has_records = found == 0 && lseek(fd, 0, SEEK_END) == 0; /* the file of tables is lost */
    return 0;
  }
  if (found != 0 || (!is_ours(&owners[0], head) && !is_ours(&owners[1], head))) {
    holt_log(HOLT_LOG_WARN, "the redo log of the store in '%s' is %s", k->kv.path,
             found == ENOENT ? "missing"
             : found == 0    ? "that of another store, or of another time"
                             : "damaged");
    holt__redo_close(&k->redo);
    return found == 0 || found == ENOENT || found == EILSEQ ? MDB_CORRUPTED : found;
  }
  bool is_noted = owners[0].generation == head->generation && owners[1].generation == head->generation;
  int rc = is_noted && is_at_rest(fd, head) ? 0 : write_images(fd, head);
  k->is_restored = k->has_records = rc == 0;
  return rc;
}

int holt__lmdb_restore(struct lmdb_kv *k) {
  char path[4096];
  snprintf(path, sizeof path, "%s/data.mdb", k->kv.path);
  int found = holt__redo_open(&k->redo, k->kv.path);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  k->has_records = found == 0 && fd < 0 && errno == ENOENT;
  if (fd < 0) return 0; /* there is none, or LMDB will say why */
  int rc = restore(k, fd, found);
  close(fd);
  return rc;
}

struct replaying {
  struct lmdb_kv *k;
  MDB_txn *txn;
  bool is_writing; /* a transaction, which was not left in its middle */
  uint64_t lost;
};

static int redo_record(void *arg, struct holt_buf body) {
  const struct replaying *r = arg;
  return holt__lmdb_redo(r->k, r->txn, body);
}

/* One transaction: it writes over nothing that the checkpoint needs. */
static int replay(void *arg) {
  struct replaying *r = arg;
  int rc = mdb_txn_begin(r->k->mdb, NULL, 0, &r->txn);
  if (rc != 0) return rc;
  r->is_writing = true;
  rc = holt__redo_each(&r->k->redo, redo_record, r, &r->lost);
  if (rc == 0 && r->lost > 0) rc = holt__lmdb_count_rebuild(r->k, r->txn);
  if (rc == 0)
    rc = mdb_txn_commit(r->txn);
  else
    mdb_txn_abort(r->txn);
  r->is_writing = false;
  return rc;
}

static int do_again(struct lmdb_kv *k) {
  struct replaying r = {.k = k};
  int rc = holt__lmdb_guarded(replay, &r);
  if (r.is_writing) k->is_broken = true;
  if (rc == 0 && r.lost > 0)
    holt_log(HOLT_LOG_WARN,
             "the redo log of the store in '%s' is damaged; transactions of it that are lost: %" PRIu64,
             k->kv.path, r.lost);
  return rc == 0 ? checkpoint(k) : rc;
}

/* The log, new or an older one, goes on with this file, which is whole by itself. What an older one still has
 * behind its head is of another file: with another salt it can never count. */
static int adopt(struct lmdb_kv *k) {
  struct owner owner;
  bool has_owner = read_owner(fd_of(k), 0, &owner);
  for (unsigned i = 0; i < HOLT__REDO_ID && !has_owner; i += 8)
    holt_put_u64(owner.id + i, holt_env_random(k->kv.env));
  memcpy(k->redo.head.id, owner.id, HOLT__REDO_ID);
  k->redo.salt = holt_env_random(k->kv.env);
  int rc = checkpoint(k);
  return rc == 0 && fdatasync(fd_of(k)) != 0 ? errno : rc;
}

int holt__lmdb_attach(struct lmdb_kv *k) {
  MDB_stat stat;
  int rc = mdb_env_stat(k->mdb, &stat);
  if (rc != 0) return rc;
  k->page = stat.ms_psize;
  if (k->redo.fd < 0) rc = holt__redo_make(&k->redo, k->kv.path, holt_env_random(k->kv.env));
  if (rc != 0) {
    holt_log(HOLT_LOG_DEBUG, "no redo log in '%s': %s", k->kv.path, strerror(rc));
    return 0;
  }
  rc = k->is_restored ? do_again(k) : adopt(k);
  if (rc == 0) rc = mdb_env_set_flags(k->mdb, MDB_NOSYNC, 1);
  pthread_mutex_lock(&k->lock);
  k->has_redo = rc == 0;
  pthread_mutex_unlock(&k->lock);
  k->is_restored = false;
  return rc;
}

void holt__lmdb_detach(struct lmdb_kv *k) {
  pthread_mutex_lock(&k->lock);
  k->has_redo = k->is_turned = false;
  if (!k->is_broken) {
    let_go(&k->held);
    let_go(&k->next_held);
  }
  pthread_mutex_unlock(&k->lock);
}
