/* kv_lmdb.h - the store in a folder, for the files that know it as LMDB. Only for store/ itself. */
#ifndef HOLT_STORE_KV_LMDB_H
#define HOLT_STORE_KV_LMDB_H

#include <lmdb.h>

#include "store/kv_impl.h"

#define HOLT__LMDB_STAMP ".holt"       /* the table that says whose it is */
#define HOLT__LMDB_NEW   "compact.mdb" /* a file that is to take the place of the old one */
#define HOLT__LMDB_MARK  "damaged"     /* a file: pages are damaged, the next opening salvages */
#define HOLT__LMDB_KEPT  "key"         /* a file: see holt_kv_keep */

struct lmdb_txn {
  struct holt_kv_txn txn;
  MDB_txn *mdb;
};

/* A table by its number in this process, which outlives a change of the file below it. */
struct lmdb_table {
  char *name;
  MDB_dbi dbi;
};

struct lmdb_kv {
  struct holt_kv kv;
  struct holt_dir *dir;
  MDB_env *mdb; /* NULL: it could not be opened again */
  uint64_t map_bytes;
  MDB_dbi stamp_table;
  struct lmdb_table tables[HOLT_KV_TABLES_MAX];
  uint32_t table_count;
  struct lmdb_txn *idle; /* a read to be used again */
  bool is_broken;        /* LMDB's state in memory cannot be trusted: it is not even closed */
};

/* The code for what LMDB said; `mdb` (may be NULL) tells whether its disk is full. */
int holt__lmdb_code(MDB_env *mdb, int rc);
/* Make this call; MDB_CORRUPTED when a damaged page sent LMDB astray in it and it was left: so it must hold
 * nothing that is to be given back. */
int holt__lmdb_guarded(int (*call)(void *arg), void *arg);
/* Open the file of k->kv.path, and the tables that are known. LMDB's code; after a failure k->mdb is NULL. */
int holt__lmdb_open(struct lmdb_kv *k);
/* What LMDB calls when it finds something false. */
void holt__lmdb_on_assert(MDB_env *env, const char *text);

/* kv_room.c: see free_bytes in kv_impl.h. */
uint64_t holt__lmdb_free_bytes(struct holt_kv *kv);

/* kv_compact.c: see compact and compacted in kv_impl.h. */
int holt__lmdb_compact(struct holt_kv *kv, struct holt_err *err);
int holt__lmdb_compacted(struct holt_kv *kv, struct holt_err *err);
/* Remove what a compaction left that did not come to its end; before the folder's file is opened. */
void holt__lmdb_sweep(const char *path);

/* kv_salvage.c: write what can be read of k's file, which is not open, into a new one and put that in its
 * place. LMDB's code, or errno; then all is as it was. */
int holt__lmdb_salvage(struct lmdb_kv *k, const struct holt_kv_options *options);
static inline uint64_t holt__lmdb_number(const uint8_t key[8]) { /* big-endian */
  uint64_t n = 0;
  for (unsigned i = 0; i < 8; i++) n = n << 8 | key[i];
  return n;
}

#endif /* HOLT_STORE_KV_LMDB_H */
