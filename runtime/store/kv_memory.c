/* kv_memory.c - ordered tables in memory, for nodes without a folder and for simulated hosts.
 *
 * A writing transaction collects its changes beside the tables, so reading on the loop goes on undisturbed.
 * On the real machine they are merged on the loop, when the job has ended; on a simulated host, which has one
 * thread, by the commit itself, so that a transaction has happened once its job has run, whether or not the
 * host lives to hear of it.
 *
 * All is kept in a disk (kv_disk.h): a simulated host's own, which outlives it, or one of our own. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/kv_disk.h"
#include "store/kv_impl.h"
#include "store/kv_table.h"

struct named_table {
  char name[128];
  struct holt_kv_table table;
};

struct holt_kv_disk {
  struct named_table *tables[HOLT_KV_TABLES_MAX];
  uint32_t table_count;
  char kind[64]; /* "": never opened */
  uint32_t version;
  bool is_open;
  uint64_t limit, commits;
  unsigned fail_after;
  int fail_code;
};

struct memory_kv {
  struct holt_kv kv;
  struct holt_kv_disk *disk;
  bool is_vault;
  struct memory_txn *committed; /* waits to be merged on the loop */
};

struct memory_txn {
  struct holt_kv_txn txn;
  struct holt_kv_disk *disk;
  struct holt_kv_table *changes[HOLT_KV_TABLES_MAX]; /* of a writing one; NULL: none */
  uint32_t stamp;                                    /* 0: as it is */
};

/* A read has no changes: it is only as long as needed. */
struct memory_read {
  struct holt_kv_txn txn;
  struct holt_kv_disk *disk;
};

struct memory_cursor {
  struct holt_kv_cursor cursor;
  uint32_t table;
  uint8_t key[HOLT_KV_KEY_MAX]; /* where it stands */
  size_t key_len;
  /* While nothing but this cursor looks at a table it does not change: then the place is still good. */
  struct holt_kv_place place;
};

/* --- The disk ------------------------------------------------------------------------------------- */

static void disk_free(void *object) {
  struct holt_kv_disk *disk = object;
  for (uint32_t i = 0; i < disk->table_count; i++) {
    holt__kv_table_free(&disk->tables[i]->table);
    free(disk->tables[i]);
  }
  free(disk);
}

static struct holt_kv_disk *disk_in(struct holt_vault *vault) {
  if (vault->object == NULL) {
    vault->object = holt_alloc(sizeof(struct holt_kv_disk));
    vault->free = disk_free;
  }
  return vault->object;
}

struct holt_kv_disk *holt_kv_disk_of(struct holt_sim *sim, const char *host, const char *path) {
  return disk_in(holt_sim_vault_of(sim, host, path));
}

void holt_kv_disk_limit(struct holt_kv_disk *disk, uint64_t size_bytes) {
  disk->limit = size_bytes;
}

void holt_kv_disk_fail(struct holt_kv_disk *disk, unsigned after, int code) {
  disk->fail_after = after;
  disk->fail_code = code;
}

static struct holt_kv_record *nth(struct holt_kv_disk *disk, const char *table, uint64_t record,
                                  struct holt_kv_table **of) {
  struct holt_kv_place place;
  for (uint32_t i = 0; i < disk->table_count; i++) {
    *of = &disk->tables[i]->table;
    if (strcmp(disk->tables[i]->name, table) != 0) continue;
    struct holt_kv_record *found = holt__kv_table_seek(*of, holt_buf(NULL, 0), false, &place);
    while (found != NULL && record-- > 0) found = holt__kv_table_next(*of, &place);
    return found;
  }
  return NULL;
}

int holt_kv_disk_flip(struct holt_kv_disk *disk, const char *table, uint64_t record, uint64_t bit) {
  struct holt_kv_table *of;
  struct holt_kv_record *found = nth(disk, table, record, &of);
  if (found == NULL || bit / 8 >= found->value_len) return HOLT_ENOTFOUND;
  found->bytes[found->key_len + bit / 8] ^= (uint8_t)(1U << bit % 8);
  return 0;
}

int holt_kv_disk_lose(struct holt_kv_disk *disk, const char *table, uint64_t record) {
  struct holt_kv_table *of;
  struct holt_kv_record *found = nth(disk, table, record, &of);
  if (found == NULL) return HOLT_ENOTFOUND;
  uint8_t key[HOLT_KV_KEY_MAX];
  size_t len = found->key_len;
  memcpy(key, found->bytes, len);
  holt__kv_table_erase(of, holt_buf(key, len));
  return 0;
}

struct holt_kv_disk_stats holt_kv_disk_stats(const struct holt_kv_disk *disk) {
  struct holt_kv_disk_stats stats = {.commits = disk->commits};
  for (uint32_t i = 0; i < disk->table_count; i++) stats.bytes += disk->tables[i]->table.bytes;
  return stats;
}

/* --- Reading -------------------------------------------------------------------------------------- */

static int begin(struct holt_kv *kv, struct holt_kv_txn **out) {
  struct memory_read *read = holt_alloc(sizeof *read);
  read->txn.kv = kv;
  read->disk = ((struct memory_kv *)kv)->disk;
  *out = &read->txn;
  return 0;
}

static void end(struct holt_kv_txn *txn) {
  free(txn);
}

static const struct holt_kv_table *base_of(const struct holt_kv_txn *txn, uint32_t table) {
  const struct holt_kv_disk *disk = ((const struct memory_read *)txn)->disk;
  HOLT_ASSERT(table < HOLT_KV_TABLES_MAX);
  HOLT_ASSERT(disk->tables[table] != NULL);
  return &disk->tables[table]->table;
}

static const struct holt_kv_table *changes_of(const struct holt_kv_txn *txn, uint32_t table) {
  return txn->is_write ? ((const struct memory_txn *)txn)->changes[table] : NULL;
}

static struct holt_kv_record *look(const struct holt_kv_table *table, struct holt_buf key) {
  struct holt_kv_place place;
  struct holt_kv_record *found = holt__kv_table_seek(table, key, false, &place);
  return found != NULL && holt__kv_compare(holt_kv_record_key(found), key) == 0 ? found : NULL;
}

static struct holt_kv_record *find(const struct holt_kv_txn *txn, uint32_t table, struct holt_buf key) {
  const struct holt_kv_table *changes = changes_of(txn, table);
  struct holt_kv_record *found = changes == NULL ? NULL : look(changes, key);
  if (found == NULL) found = look(base_of(txn, table), key);
  return found == NULL || found->is_gone ? NULL : found;
}

static int get(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf *value) {
  const struct holt_kv_record *found = find(txn, table, key);
  if (found == NULL) return HOLT_ENOTFOUND;
  *value = holt_kv_record_value(found);
  return 0;
}

static int count(struct holt_kv_txn *txn, uint32_t table, uint64_t *out) {
  const struct holt_kv_table *base = base_of(txn, table), *changes = changes_of(txn, table);
  *out = base->count;
  if (changes == NULL) return 0;
  struct holt_kv_place place;
  for (struct holt_kv_record *r = holt__kv_table_seek(changes, holt_buf(NULL, 0), false, &place); r != NULL;
       r = holt__kv_table_next(changes, &place)) {
    bool was_there = look(base, holt_kv_record_key(r)) != NULL;
    if (was_there && r->is_gone) (*out)--;
    if (!was_there && !r->is_gone) (*out)++;
  }
  return 0;
}

static int cursor_open(struct holt_kv_txn *txn, uint32_t table, struct holt_kv_cursor **out) {
  struct memory_cursor *c = holt_alloc(sizeof *c);
  c->cursor.txn = txn;
  c->table = table;
  *out = &c->cursor;
  return 0;
}

static void cursor_close(struct holt_kv_cursor *cursor) {
  free(cursor);
}

/* The record nearest to `key` in one direction; the key itself counts unless `is_beyond`. */
static struct holt_kv_record *nearest(const struct holt_kv_table *table, struct holt_buf key, bool is_back,
                                      bool is_beyond, struct holt_kv_place *place) {
  if (!is_back) return holt__kv_table_seek(table, key, is_beyond, place);
  if (key.len == 0 && !is_beyond) /* the last of all */
    *place = (struct holt_kv_place){.page = table->page_count};
  else
    holt__kv_table_seek(table, key, !is_beyond, place);
  return holt__kv_table_prev(table, place);
}

/* Of the nearest in the table and the nearest among the changes, the nearer one; what is gone is passed by.
 */
static struct holt_kv_record *nearest_of_both(const struct holt_kv_txn *txn, uint32_t table,
                                              struct holt_buf key, bool is_back, bool is_beyond) {
  const struct holt_kv_table *base = base_of(txn, table), *changes = changes_of(txn, table);
  struct holt_kv_place place;
  for (;;) {
    struct holt_kv_record *below = nearest(base, key, is_back, is_beyond, &place);
    struct holt_kv_record *change =
        changes == NULL ? NULL : nearest(changes, key, is_back, is_beyond, &place);
    if (change == NULL) return below;
    int order = below == NULL ? -1 : holt__kv_compare(holt_kv_record_key(change), holt_kv_record_key(below));
    if (below != NULL && is_back) order = -order;
    if (order > 0) return below;
    if (!change->is_gone) return change;
    key = holt_kv_record_key(change);
    is_beyond = true;
  }
}

static int move(struct holt_kv_cursor *cursor, enum holt_kv_move how, struct holt_buf key,
                struct holt_buf *found_key, struct holt_buf *value) {
  struct memory_cursor *c = (struct memory_cursor *)cursor;
  const struct holt_kv_txn *txn = cursor->txn;
  bool is_step = how == HOLT_KV_NEXT || how == HOLT_KV_PREV;
  bool is_back = how == HOLT_KV_SEEK_BACK || how == HOLT_KV_PREV;
  struct holt_kv_record *found;
  HOLT_ASSERT(!is_step || c->key_len > 0);
  if (is_step) key = holt_buf(c->key, c->key_len);
  if (txn->is_write)
    found = nearest_of_both(txn, c->table, key, is_back, is_step);
  else if (how == HOLT_KV_NEXT)
    found = holt__kv_table_next(base_of(txn, c->table), &c->place);
  else if (how == HOLT_KV_PREV)
    found = holt__kv_table_prev(base_of(txn, c->table), &c->place);
  else
    found = nearest(base_of(txn, c->table), key, is_back, false, &c->place);
  if (found == NULL) {
    c->key_len = 0;
    return HOLT_ENOTFOUND;
  }
  c->key_len = found->key_len;
  memcpy(c->key, found->bytes, found->key_len);
  *found_key = holt_kv_record_key(found);
  *value = holt_kv_record_value(found);
  return 0;
}

/* --- Writing -------------------------------------------------------------------------------------- */

static struct holt_kv_table *need_changes(struct holt_kv_txn *txn, uint32_t table) {
  struct memory_txn *t = (struct memory_txn *)txn;
  base_of(txn, table); /* asserts that it is there */
  if (t->changes[table] == NULL) t->changes[table] = holt_alloc(sizeof(struct holt_kv_table));
  return t->changes[table];
}

static int put(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value,
               bool is_last) {
  if (is_last && nearest_of_both(txn, table, key, false, false) != NULL) return HOLT_EEXISTS;
  holt__kv_table_put(need_changes(txn, table), key, value, false);
  return 0;
}

static int erase(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key) {
  if (find(txn, table, key) == NULL) return HOLT_ENOTFOUND;
  holt__kv_table_put(need_changes(txn, table), key, holt_buf(NULL, 0), true);
  return 0;
}

static int stamp(struct holt_kv_txn *txn, uint32_t version) {
  ((struct memory_txn *)txn)->stamp = version;
  return 0;
}

static int write_begin(struct holt_kv *kv, struct holt_kv_txn **out, struct holt_err *err) {
  struct memory_txn *t = holt_alloc(sizeof *t);
  (void)err;
  t->txn.kv = kv;
  t->txn.is_write = true;
  t->disk = ((struct memory_kv *)kv)->disk;
  *out = &t->txn;
  return 0;
}

static void txn_free(struct memory_txn *t) {
  if (t == NULL) return;
  for (uint32_t i = 0; i < HOLT_KV_TABLES_MAX; i++) {
    if (t->changes[i] == NULL) continue;
    holt__kv_table_free(t->changes[i]);
    free(t->changes[i]);
  }
  free(t);
}

static void write_abort(struct holt_kv_txn *txn) {
  txn_free((struct memory_txn *)txn);
}

static void merge(struct memory_txn *t) {
  for (uint32_t i = 0; i < HOLT_KV_TABLES_MAX; i++)
    if (t->changes[i] != NULL) holt__kv_table_merge(&t->disk->tables[i]->table, t->changes[i]);
  if (t->stamp != 0) t->disk->version = t->stamp;
  t->disk->commits++;
  txn_free(t);
}

static uint64_t new_bytes(const struct memory_txn *t) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < HOLT_KV_TABLES_MAX; i++)
    if (t->changes[i] != NULL) bytes += t->changes[i]->bytes;
  return bytes;
}

static int commit_code(struct memory_txn *t) {
  struct holt_kv_disk *disk = t->disk;
  if (disk->fail_code != 0 && disk->fail_after-- == 0) {
    int code = disk->fail_code;
    disk->fail_code = 0;
    return code;
  }
  bool is_full = disk->limit != 0 && holt_kv_disk_stats(disk).bytes + new_bytes(t) > disk->limit;
  return is_full ? HOLT_ENOSPC : 0;
}

static int write_commit(struct holt_kv_txn *txn, struct holt_err *err) {
  struct memory_txn *t = (struct memory_txn *)txn;
  struct memory_kv *m = (struct memory_kv *)txn->kv;
  int rc = m->is_vault ? commit_code(t) : 0;
  if (rc != 0) {
    txn_free(t);
    holt_err_set(err, rc, "cannot write to '%s': %s", m->kv.path, holt_err_text(rc));
    if (rc != HOLT_ENOSPC) m->kv.failed = *err;
    return rc;
  }
  HOLT_ASSERT(m->committed == NULL);
  if (m->is_vault)
    merge(t);
  else
    m->committed = t;
  return 0;
}

static void written(struct holt_kv *kv) {
  struct memory_kv *m = (struct memory_kv *)kv;
  if (m->committed != NULL) merge(m->committed);
  m->committed = NULL;
}

/* --- Life ----------------------------------------------------------------------------------------- */

static uint64_t size_bytes(const struct holt_kv *kv) {
  return holt_kv_disk_stats(((const struct memory_kv *)kv)->disk).bytes;
}

static int table(struct holt_kv *kv, const char *name, uint32_t *out, struct holt_err *err) {
  struct holt_kv_disk *disk = ((struct memory_kv *)kv)->disk;
  HOLT_ASSERT(strlen(name) < sizeof disk->tables[0]->name);
  for (*out = 0; *out < disk->table_count; (*out)++)
    if (strcmp(disk->tables[*out]->name, name) == 0) return 0;
  if (*out == HOLT_KV_TABLES_MAX) return holt_err_set(err, HOLT_EFULL, "too many tables in '%s'", kv->path);
  struct named_table *made = holt_alloc(sizeof *made);
  snprintf(made->name, sizeof made->name, "%s", name);
  disk->tables[disk->table_count++] = made;
  return 0;
}

static int copy(struct holt_kv *kv, const char *path, struct holt_err *err) {
  return holt_err_set(err, HOLT_EUNSUPPORTED, "cannot copy '%s' to '%s': it is in memory", kv->path, path);
}

static void forget(struct holt_kv *kv) {
  struct memory_kv *m = (struct memory_kv *)kv;
  txn_free(m->committed);
  m->disk->is_open = false;
  if (!m->is_vault) disk_free(m->disk);
  free(m);
}

static void close_kv(struct holt_kv *kv, void (*closed)(void *arg), void *arg) {
  forget(kv);
  if (closed != NULL) closed(arg);
}

static int each_table(struct holt_kv_txn *txn, void (*each)(void *arg, const char *name), void *arg) {
  const struct holt_kv_disk *disk = ((const struct memory_kv *)txn->kv)->disk;
  for (uint32_t i = 0; i < disk->table_count; i++) each(arg, disk->tables[i]->name);
  return 0;
}

static const struct holt_kv_ops memory_ops = {
    .close = close_kv,
    .drop = forget,
    .forget = forget,
    .size_bytes = size_bytes,
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
    .written = written,
    .copy = copy,
};

int holt__kv_open_memory(struct holt_env *env, const struct holt_kv_options *options, struct holt_kv **out,
                         struct holt_err *err) {
  struct holt_vault *vault = options->path == NULL ? NULL : holt_env_vault(env, options->path);
  struct holt_kv_disk *disk = vault == NULL ? holt_alloc(sizeof *disk) : disk_in(vault);
  if (disk->is_open)
    return holt_err_set(err, HOLT_ELOCKED,
                        "the folder '%s' is in use by another process; stop that one, or give another folder",
                        options->path);
  if (disk->kind[0] != '\0') {
    int rc = holt__kv_check_stamp(options, disk->kind, disk->version, err);
    if (rc != 0) return rc;
  }
  struct memory_kv *m = holt_alloc(sizeof *m);
  m->disk = disk;
  m->is_vault = vault != NULL;
  holt__kv_init(&m->kv, env, &memory_ops, options->path);
  m->kv.version = disk->version;
  if (disk->kind[0] == '\0') disk->version = options->version;
  snprintf(disk->kind, sizeof disk->kind, "%s", options->kind);
  disk->is_open = true;
  *out = &m->kv;
  return 0;
}
