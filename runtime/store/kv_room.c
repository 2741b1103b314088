/* kv_room.c - how much of an LMDB file is free: pages that hold nothing, which later writing uses again and
 * only a compaction gives back. LMDB keeps their numbers in a table of its own, a list for each transaction
 * that freed some. */
#include "store/kv_lmdb.h"

#define FREE_TABLE ((MDB_dbi)0) /* as LMDB's own mdb_stat reads it */

struct room {
  MDB_cursor *cursor;
  uint64_t pages;
};

/* A list begins with its length. */
static int count_pages(void *arg) {
  struct room *room = arg;
  MDB_val key, list;
  int rc;
  while ((rc = mdb_cursor_get(room->cursor, &key, &list, MDB_NEXT)) == 0)
    if (list.mv_size >= sizeof(size_t)) {
      size_t count;
      memcpy(&count, list.mv_data, sizeof count);
      room->pages += count;
    }
  return rc;
}

uint64_t holt__lmdb_free_bytes(struct holt_kv *kv) {
  struct lmdb_kv *k = (struct lmdb_kv *)kv;
  struct holt_kv_txn *txn;
  struct room room = {0};
  MDB_stat stat;
  if (k->mdb == NULL || mdb_env_stat(k->mdb, &stat) != 0 || holt_kv_begin(kv, &txn) != 0) return 0;
  if (mdb_cursor_open(((struct lmdb_txn *)txn)->mdb, FREE_TABLE, &room.cursor) == 0) {
    holt__lmdb_guarded(count_pages, &room); /* where a page is damaged: what was counted until then */
    mdb_cursor_close(room.cursor);
  }
  holt_kv_end(txn);
  uint64_t bytes = room.pages * stat.ms_psize, all = holt_kv_size_bytes(kv);
  return bytes < all ? bytes : all;
}
