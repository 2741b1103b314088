/* kv_lmdb.h - the store in a folder, for the files that know it as LMDB. Only for store/ itself. */
#ifndef HOLT_STORE_KV_LMDB_H
#define HOLT_STORE_KV_LMDB_H

#include <lmdb.h>
#include <pthread.h>

#include "store/kv_impl.h"
#include "store/kv_redo.h"

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

struct lmdb_look;

struct lmdb_kv {
  struct holt_kv kv;
  struct holt_dir *dir;
  MDB_env *mdb; /* NULL: it could not be opened again */
  uint64_t map_bytes;
  MDB_dbi stamp_table;
  struct lmdb_table tables[HOLT_KV_TABLES_MAX];
  uint32_t table_count;
  struct lmdb_txn *idle;  /* a read to be used again */
  bool is_broken;         /* LMDB's state in memory cannot be trusted: it is not even closed */
  bool is_starved;        /* a transaction found no room: a checkpoint may give pages back */
  struct lmdb_look *look; /* kv_look.c's own; NULL: all pages are known to be sound */

  /* kv_checkpoint.c's own. */
  struct holt_redo redo;
  bool has_redo;             /* commits go there first; else LMDB syncs each */
  bool is_restored;          /* at the opening: the file of tables is as at the log's checkpoint */
  bool has_records;          /* and the log's records are of this store */
  uint32_t page;             /* bytes of one */
  struct holt_writer record; /* of the transaction under way */
  bool is_large;             /* it has none */
  unsigned commits;          /* since the turn */
  size_t pages;              /* of the file, then */
  atomic_bool is_due;        /* somebody should tend it */
  atomic_int sync_error;     /* errno: nothing can be written any more */
  pthread_mutex_t lock;      /* of what follows, and of redo.head */
  bool is_turned;            /* `next` is to be made to count */
  struct holt_redo_head next;
  MDB_txn *held, *next_held; /* reading: they keep the pages of the last checkpoint, and of the next */
};

/* The code for what LMDB said; `mdb` (may be NULL) tells whether its disk is full. */
int holt__lmdb_code(MDB_env *mdb, int rc);
/* Make this call; MDB_CORRUPTED when a damaged page sent LMDB astray in it and it was left: so it must hold
 * nothing that is to be given back. */
int holt__lmdb_guarded(int (*call)(void *arg), void *arg);
/* Open the file of k->kv.path, and the tables that are known. LMDB's code; after a failure k->mdb is NULL. */
int holt__lmdb_open(struct lmdb_kv *k);
/* In the stamp: damage had it made anew once more. LMDB's code. */
int holt__lmdb_count_rebuild(struct lmdb_kv *k, MDB_txn *txn);
/* What LMDB calls when it finds something false. */
void holt__lmdb_on_assert(MDB_env *env, const char *text);

/* kv_room.c: see free_bytes in kv_impl.h. */
uint64_t holt__lmdb_free_bytes(struct holt_kv *kv);

/* kv_checkpoint.c. Codes are LMDB's, or errno.
 *
 * Before the file of tables is opened: bring it back to the last checkpoint. MDB_CORRUPTED: it cannot be. */
int holt__lmdb_restore(struct lmdb_kv *k);
/* It is open: do again what came after the checkpoint, and log from now on. Holds the loop up. */
int holt__lmdb_attach(struct lmdb_kv *k);
/* A copy of the file of tables belongs to no log. */
int holt__lmdb_disown(int fd, off_t page);
/* Before it is closed: log no more, hold nothing. */
void holt__lmdb_detach(struct lmdb_kv *k);
/* Begin a transaction's record, and note what it did; value NULL: it removed the key. */
void holt__lmdb_record_begin(struct lmdb_kv *k);
void holt__lmdb_record(struct lmdb_kv *k, const char *table, struct holt_buf key,
                       const struct holt_buf *value);
/* Commit it, lasting. `*is_fatal`: no write can be trusted any more. */
int holt__lmdb_commit(struct lmdb_kv *k, MDB_txn *txn, bool *is_fatal);
/* Do what a record says, in a transaction of the same tables (of `k`), or of a new file's (NULL). */
int holt__lmdb_redo(struct lmdb_kv *k, MDB_txn *txn, struct holt_buf body);
/* See kv_impl.h. Any thread. */
bool holt__lmdb_wants_tending(const struct lmdb_kv *k);
void holt__lmdb_tend(struct lmdb_kv *k);
/* Make a checkpoint of all that is committed, while nothing is written. */
void holt__lmdb_settle(struct lmdb_kv *k);

/* kv_look.c. Codes are LMDB's.
 *
 * The file was opened and no key is written yet: look at its pages, at all or, of a large file, at some.
 * MDB_CORRUPTED: it must not be written to. */
int holt__lmdb_look(struct lmdb_kv *k);
/* Before a key is put, or removed, in the transaction that writes: MDB_CORRUPTED when that would change a
 * page that is damaged; nothing has happened then. `table`: its number, or HOLT_KV_TABLES_MAX. Only by who
 * writes. */
int holt__lmdb_look_for(struct lmdb_kv *k, MDB_txn *txn, const char *name, uint32_t table,
                        struct holt_buf key, bool is_removed);
/* The file is closed, or all of it is of this process. */
void holt__lmdb_look_end(struct lmdb_kv *k);

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
