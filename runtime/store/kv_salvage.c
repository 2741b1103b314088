/* kv_salvage.c - an LMDB folder whose pages are damaged: what can be read is written into a new file, the old
 * one is set aside.
 *
 * - At an opening, when the folder says so (a mark), or when the file is cut short, or cannot be opened.
 * - The old file is read through an environment of its own, without locks: nobody else has it. Where one of
 *   the two first pages is damaged, the other takes its place (it may be one commit older).
 * - Each table is read forward to the first damage, backward to the last; between them keys of 8 bytes are
 *   tried one after the other. What goes over is what its owner takes for whole (holt_kv_options.is_whole):
 *   a damaged page may look like a good one.
 * - The old file is linked into PATH.damaged-N, then the new one takes its name. A crash before that leaves
 *   all as it was, and the next opening begins anew.
 * - Nothing can be read: the new file is empty but for its stamp. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "env/file.h"
#include "store/kv_lmdb.h"

enum {
  COMMIT_BYTES = 16 << 20, /* of the new file at once */
  KEY_BYTES = 511,         /* LMDB's */
  PROBES_MAX = 1 << 21,    /* keys tried between two damages */
  PROBES_BLIND = 1 << 17,  /* and behind the first, when no last is known */
  STRANGE_MAX = 100000,    /* records that are not whole, of one table: then it is left */
  META_FLAGS_AT = 10,      /* in a page: its flags, 2 bytes; and LMDB's magic number */
  META_FLAG = 8,
  META_MAGIC_AT = 16,
  META_MAGIC = 0xBEEFC0DE
};

struct salvage {
  struct lmdb_kv *k;
  const struct holt_kv_options *options;
  MDB_env *from, *to;
  MDB_txn *from_txn, *to_txn;
  MDB_cursor *cursor;
  MDB_dbi from_dbi, to_dbi;
  const char *table;
  MDB_cursor_op op;
  MDB_val wanted; /* for MDB_SET_RANGE */
  size_t key_len, value_len, low_len, written;
  uint64_t kept, strange;
  uint8_t key[KEY_BYTES], low[KEY_BYTES]; /* low: the last key that went over, reading forward */
  uint8_t *value;
  uint32_t version;
};

static void name_in(const char *folder, const char *name, char *out, size_t cap) {
  snprintf(out, cap, "%s/%s", folder, name);
}

/* --- The old file --------------------------------------------------------------------------------- */

static bool is_meta(const uint8_t *page) {
  return (holt_get_u16(page + META_FLAGS_AT) & META_FLAG) != 0 &&
         holt_get_u32(page + META_MAGIC_AT) == META_MAGIC;
}

/* LMDB opens no file without both. */
static void mend_meta(const char *path) {
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  uint8_t *pages = holt_alloc(2 * size);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd >= 0 && pread(fd, pages, 2 * size, 0) == (ssize_t)(2 * size) &&
      is_meta(pages) != is_meta(pages + size)) {
    size_t good = is_meta(pages) ? 0 : 1;
    holt_put_u64(pages + good * size, 1 - good); /* its number */
    if (pwrite(fd, pages + good * size, size, (off_t)((1 - good) * size)) == (ssize_t)size) fsync(fd);
  }
  if (fd >= 0) close(fd);
  free(pages);
}

static int open_old(void *arg) {
  struct salvage *s = arg;
  char name[4096];
  name_in(s->k->kv.path, "data.mdb", name, sizeof name);
  mend_meta(name);
  int rc = mdb_env_create(&s->from);
  if (rc == 0) rc = mdb_env_set_maxdbs(s->from, HOLT_KV_TABLES_MAX);
  if (rc == 0) rc = mdb_env_set_mapsize(s->from, (size_t)s->k->map_bytes);
  if (rc == 0) mdb_env_set_assert(s->from, holt__lmdb_on_assert);
  if (rc == 0) rc = mdb_env_open(s->from, name, MDB_NOSUBDIR | MDB_NOLOCK | MDB_RDONLY | MDB_NOTLS, 0600);
  return rc;
}

/* A transaction in which something failed is good for nothing more: each way begins with a new one. */
static int begin_reading(void *arg) {
  struct salvage *s = arg;
  if (s->cursor != NULL) mdb_cursor_close(s->cursor);
  s->cursor = NULL;
  if (s->from_txn != NULL) mdb_txn_abort(s->from_txn);
  s->from_txn = NULL;
  int rc = mdb_txn_begin(s->from, NULL, MDB_RDONLY, &s->from_txn);
  if (rc == 0) rc = mdb_dbi_open(s->from_txn, s->table, 0, &s->from_dbi);
  return rc == 0 ? mdb_cursor_open(s->from_txn, s->from_dbi, &s->cursor) : rc;
}

static bool is_damage(int rc) {
  return rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_BAD_TXN || rc == MDB_CURSOR_FULL ||
         rc == MDB_INCOMPATIBLE || rc == EINVAL;
}

/* To a key and value, which are copied: reading them may fault, too. */
static int step(void *arg) {
  struct salvage *s = arg;
  MDB_val key = s->wanted, value;
  int rc = mdb_cursor_get(s->cursor, &key, &value, s->op);
  if (rc != 0) return rc;
  if (key.mv_size == 0 || key.mv_size > KEY_BYTES || value.mv_size > HOLT_KV_VALUE_MAX) return MDB_CORRUPTED;
  s->key_len = key.mv_size;
  s->value_len = value.mv_size;
  memcpy(s->key, key.mv_data, key.mv_size);
  memcpy(s->value, value.mv_data, value.mv_size);
  return 0;
}

/* --- The new file --------------------------------------------------------------------------------- */

static int renew(struct salvage *s) {
  int rc = mdb_txn_commit(s->to_txn);
  s->to_txn = NULL;
  s->written = 0;
  return rc == 0 ? mdb_txn_begin(s->to, NULL, 0, &s->to_txn) : rc;
}

static int put(struct salvage *s, MDB_dbi dbi, const void *key, size_t key_len, const void *value,
               size_t value_len) {
  MDB_val k = {.mv_data = (void *)(uintptr_t)key, .mv_size = key_len};
  MDB_val v = {.mv_data = (void *)(uintptr_t)value, .mv_size = value_len};
  int rc = mdb_put(s->to_txn, dbi, &k, &v, 0);
  s->written += key_len + value_len;
  return rc == 0 && s->written >= COMMIT_BYTES ? renew(s) : rc;
}

static int open_new(struct salvage *s) {
  char name[4096];
  MDB_dbi stamp;
  uint8_t bytes[4];
  name_in(s->k->kv.path, HOLT__LMDB_NEW, name, sizeof name);
  int rc = mdb_env_create(&s->to);
  if (rc == 0) rc = mdb_env_set_maxdbs(s->to, HOLT_KV_TABLES_MAX);
  if (rc == 0) rc = mdb_env_set_mapsize(s->to, (size_t)s->k->map_bytes);
  if (rc == 0) rc = mdb_env_open(s->to, name, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0600);
  if (rc == 0) rc = mdb_txn_begin(s->to, NULL, 0, &s->to_txn);
  if (rc == 0) rc = mdb_dbi_open(s->to_txn, HOLT__LMDB_STAMP, MDB_CREATE, &stamp);
  if (rc != 0) return rc;
  const char *kind = s->options->kind;
  rc = put(s, stamp, "kind", 4, kind, strlen(kind));
  holt_put_u32(bytes, s->options->version);
  if (rc == 0) rc = put(s, stamp, "version", 7, bytes, sizeof bytes);
  holt_put_u32(bytes, s->k->kv.rebuilds + 1);
  return rc == 0 ? put(s, stamp, "rebuilds", 8, bytes, sizeof bytes) : rc;
}

/* --- From the one into the other ------------------------------------------------------------------ */

static int compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
  int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* What stands at the cursor, if it is whole and in order. MDB_CORRUPTED: this way leads on no further. */
static int take(struct salvage *s, bool is_forward) {
  struct holt_buf key = holt_buf(s->key, s->key_len), value = holt_buf(s->value, s->value_len);
  if (s->key_len > HOLT_KV_KEY_MAX || !s->options->is_whole(s->table, key, value))
    return ++s->strange > STRANGE_MAX ? MDB_CORRUPTED : 0;
  if (s->low_len > 0 && compare(s->key, s->key_len, s->low, s->low_len) <= 0) return MDB_CORRUPTED;
  int rc = put(s, s->to_dbi, s->key, s->key_len, s->value, s->value_len);
  if (rc != 0) return rc;
  s->kept++;
  if (!is_forward) return 0;
  memcpy(s->low, s->key, s->key_len);
  s->low_len = s->key_len;
  return 0;
}

/* MDB_NOTFOUND: all was read. MDB_CORRUPTED: there is damage, and *high what of 8 bytes stands behind it. */
static int read_table(struct salvage *s, uint64_t *high) {
  int rc;
  s->low_len = 0;
  s->strange = 0;
  *high = 0;
  for (s->op = MDB_FIRST; (rc = holt__lmdb_guarded(step, s)) == 0; s->op = MDB_NEXT)
    if ((rc = take(s, true)) != 0) break;
  if (!is_damage(rc)) return rc;
  s->strange = 0;
  if (holt__lmdb_guarded(begin_reading, s) != 0) return MDB_CORRUPTED;
  for (s->op = MDB_LAST; (rc = holt__lmdb_guarded(step, s)) == 0; s->op = MDB_PREV) {
    if ((rc = take(s, false)) != 0) break;
    if (s->key_len == 8) *high = holt__lmdb_number(s->key);
  }
  return rc == MDB_NOTFOUND || is_damage(rc) ? MDB_CORRUPTED : rc;
}

static int probe(struct salvage *s, uint64_t high) {
  uint64_t low = s->low_len == 8 ? holt__lmdb_number(s->low) : 0;
  uint8_t wanted[8];
  if (high == 0) high = low + PROBES_BLIND;
  s->op = MDB_SET_KEY;
  for (uint64_t n = low + 1; n < high && n - low < PROBES_MAX; n++) {
    for (unsigned i = 0; i < 8; i++) wanted[i] = (uint8_t)(n >> (56 - 8 * i));
    s->wanted = (MDB_val){.mv_data = wanted, .mv_size = sizeof wanted};
    if (s->cursor == NULL && holt__lmdb_guarded(begin_reading, s) != 0) return MDB_CORRUPTED;
    int rc = holt__lmdb_guarded(step, s);
    if (is_damage(rc)) {
      mdb_cursor_close(s->cursor);
      s->cursor = NULL;
    } else if (rc == 0) {
      rc = take(s, true);
    }
    if (rc != 0 && !is_damage(rc) && rc != MDB_NOTFOUND) return rc;
  }
  return 0;
}

static int copy_table(struct salvage *s) {
  uint64_t high;
  int rc = mdb_dbi_open(s->to_txn, s->table, MDB_CREATE, &s->to_dbi);
  if (rc != 0) return rc;
  if (holt__lmdb_guarded(begin_reading, s) != 0) return 0; /* nothing of it is left */
  rc = read_table(s, &high);
  if (rc == MDB_CORRUPTED && (s->low_len == 8 || (s->low_len == 0 && high > 0))) rc = probe(s, high);
  return rc == MDB_NOTFOUND || is_damage(rc) ? 0 : rc;
}

/* The tables' names, both ways, without that of the stamp. Each is free()d. */
static uint32_t list_names(struct salvage *s, char **names) {
  static const MDB_cursor_op ways[2][2] = {{MDB_FIRST, MDB_NEXT}, {MDB_LAST, MDB_PREV}};
  uint32_t count = 0;
  s->table = NULL; /* the table of tables */
  for (int way = 0; way < 2; way++) {
    unsigned steps = 0;
    if (holt__lmdb_guarded(begin_reading, s) != 0) return count;
    for (s->op = ways[way][0]; holt__lmdb_guarded(step, s) == 0 && steps++ < HOLT_KV_TABLES_MAX;
         s->op = ways[way][1]) {
      bool is_known = s->key[0] == '.' || s->key_len > 127 || memchr(s->key, 0, s->key_len) != NULL;
      for (uint32_t i = 0; i < count; i++)
        is_known = is_known || (strlen(names[i]) == s->key_len && memcmp(names[i], s->key, s->key_len) == 0);
      if (is_known || count == HOLT_KV_TABLES_MAX) continue;
      names[count] = holt_alloc(s->key_len + 1);
      memcpy(names[count++], s->key, s->key_len);
    }
  }
  return count;
}

static int redo_record(void *arg, struct holt_buf body) {
  struct salvage *s = arg;
  int rc = holt__lmdb_redo(NULL, s->to_txn, body);
  s->written += body.len;
  return rc == 0 && s->written >= COMMIT_BYTES ? renew(s) : rc;
}

/* What was not yet among the pages that count. */
static int redo_all(struct salvage *s) {
  uint64_t lost;
  return s->k->has_records ? holt__redo_each(&s->k->redo, redo_record, s, &lost) : 0;
}

static int copy_all(struct salvage *s) {
  char *names[HOLT_KV_TABLES_MAX];
  uint32_t count = 0;
  int rc = 0;
  if (holt__lmdb_guarded(open_old, s) == 0) count = list_names(s, names);
  for (uint32_t i = 0; i < count; i++) {
    s->table = names[i];
    if (rc == 0) rc = copy_table(s);
    free(names[i]);
  }
  return rc;
}

/* --- In place ------------------------------------------------------------------------------------- */

/* A folder for the old file; its path goes to k->kv.aside. 0 or errno. */
static int make_aside(struct lmdb_kv *k) {
  size_t len = strlen(k->kv.path);
  for (unsigned n = 1; n < 10000; n++) {
    free(k->kv.aside);
    k->kv.aside = holt_alloc(len + 32);
    snprintf(k->kv.aside, len + 32, "%s.damaged-%u", k->kv.path, n);
    if (mkdir(k->kv.aside, 0700) == 0) return 0;
    if (errno != EEXIST) return errno;
  }
  return EEXIST;
}

static int set_aside(struct lmdb_kv *k) {
  char from[4096], to[4096];
  int error = make_aside(k);
  name_in(k->kv.path, "data.mdb", from, sizeof from);
  name_in(k->kv.aside, "data.mdb", to, sizeof to);
  if (error == 0 && link(from, to) != 0 && errno != ENOENT && rename(from, to) != 0) error = errno;
  int folder = error == 0 ? open(k->kv.aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
  return error;
}

static int put_in_place(struct lmdb_kv *k) {
  const struct holt_file_op ops[] = {{.type = HOLT_FILE_RENAME, .name = HOLT__LMDB_NEW, .to = "data.mdb"},
                                     {.type = HOLT_FILE_UNLINK, .name = "lock.mdb"},
                                     {.type = HOLT_FILE_UNLINK, .name = HOLT__LMDB_MARK},
                                     {.type = HOLT_FILE_SYNC_DIR}};
  int error = set_aside(k);
  if (error != 0) return error;
  struct holt_err err = {0};
  return holt_dir_run(k->dir, ops, 4, &err) == 0 ? 0 : EIO;
}

int holt__lmdb_salvage(struct lmdb_kv *k, const struct holt_kv_options *options) {
  struct salvage *s = holt_alloc(sizeof *s);
  s->k = k;
  s->options = options;
  s->value = holt_alloc(HOLT_KV_VALUE_MAX);
  int rc = open_new(s);
  if (rc == 0) rc = copy_all(s);
  if (rc == 0) rc = redo_all(s);
  if (rc == 0) {
    rc = mdb_txn_commit(s->to_txn);
    s->to_txn = NULL;
  }
  if (rc == 0) rc = mdb_env_sync(s->to, 1);
  if (s->to_txn != NULL) mdb_txn_abort(s->to_txn);
  if (s->to != NULL) mdb_env_close(s->to);
  if (s->cursor != NULL) mdb_cursor_close(s->cursor);
  if (s->from_txn != NULL) mdb_txn_abort(s->from_txn);
  if (s->from != NULL) mdb_env_close(s->from);
  if (rc == 0) rc = put_in_place(k);
  k->is_restored = k->has_records = false;
  if (rc == 0)
    holt_log(HOLT_LOG_WARN,
             "the store in '%s' was damaged and made anew: %" PRIu64
             " records of it could be read, the old file is in '%s'",
             k->kv.path, s->kept, k->kv.aside);
  else
    holt__lmdb_sweep(k->kv.path);
  free(s->value);
  free(s);
  return rc;
}
