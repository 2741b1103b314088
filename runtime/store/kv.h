/* kv.h - ordered keys in named tables, changed by transactions that last: LMDB in a folder, or memory.
 *
 * One process has a folder open at a time. Reading happens on the loop, in short transactions that see one
 * moment; writing happens in jobs off the loop, one at a time, each one transaction that is durable once its
 * job has ended well. What a job wrote becomes readable when it is committed, which may be a little before
 * `done` is told, and before it lasts.
 *
 * A key has 1 to HOLT_KV_KEY_MAX bytes and keys are ordered as memcmp does it, a shorter one before its
 * continuations. LMDB has no checksums: whoever needs to notice damage keeps one in the value. See
 * docs/store.md for what damage to the folder does.
 *
 * On a simulated host a folder is a vault of the machine room (holt_env_vault): a committed transaction
 * outlives the host, one under way at its death has happened or has not; store/kv_disk.h has its faults. */
#ifndef HOLT_STORE_KV_H
#define HOLT_STORE_KV_H

#include "base/buf.h"
#include "base/list.h"
#include "env/env.h"

struct holt_kv;
struct holt_kv_txn;

enum {
  HOLT_KV_KEY_MAX = 255,
  HOLT_KV_VALUE_MAX = 4 * 1024 * 1024, /* beyond it a value counts as damaged, or is refused */
  HOLT_KV_TABLES_MAX = 1024
};

/* --- Opening -------------------------------------------------------------------------------------- */

struct holt_kv_options {
  const char
      *path; /* the folder, made with mode 0700 when it is missing; NULL: memory, gone with it. Copied */
  const char
      *kind; /* what is kept here ("journal"), at most 63 bytes; another kind is HOLT_EFOREIGN. Copied */
  uint32_t version; /* of the layout of the tables; a folder with a newer one is HOLT_EVERSION */
  uint64_t
      map_bytes; /* the most the folder can ever hold; 0: 1 TiB. Less is tried where the system refuses */
  /* Whether a record of a table is what was once put; NULL: damage ends the opening (HOLT_ECORRUPT). Else a
   * folder whose pages are damaged, or whose file was cut short or is gone, is made anew from what is whole;
   * the old file goes to PATH.damaged-N (holt_kv_aside). */
  bool (*is_whole)(const char *table, struct holt_buf key, struct holt_buf value);
};

/* Open or make the store in a folder, locked meanwhile. Holds the loop up.
 * Errors, with a sentence: HOLT_ELOCKED, HOLT_EVERSION, HOLT_EFOREIGN, HOLT_ECORRUPT, HOLT_ENOSPC,
 * HOLT_EPERMISSION, HOLT_EINVAL (not a folder), HOLT_EIO. */
int holt_kv_open(struct holt_env *env, const struct holt_kv_options *options, struct holt_kv **out,
                 struct holt_err *err);
/* The version found at the opening, 0 for a new store; it is only raised by holt_kv_stamp. */
uint32_t holt_kv_version(const struct holt_kv *kv);
/* Let go. The job under way ends and is told its outcome, those that wait get HOLT_ECANCELED; then `closed`
 * (may be NULL) runs, on a later turn. `kv` must not be used any more. No read may be open. */
void holt_kv_close(struct holt_kv *kv, void (*closed)(void *arg), void *arg);
/* Let go at once, so that it can be opened again, where nothing is under way (else nothing is done, and false
 * is the answer). Holds the loop up: for start. */
bool holt_kv_drop(struct holt_kv *kv);
/* Free a store whose env was freed under it: after holt_env_free, in place of holt_kv_close, or when its
 * `closed` has not run. Nobody is told. */
void holt_kv_forget(struct holt_kv *kv);
/* The folder, "" for memory. Borrowed. */
const char *holt_kv_path(const struct holt_kv *kv);
/* How often damage had this folder made anew: whoever keeps an index over its tables looks whether something
 * is missing when that has changed. 0 in memory. */
uint32_t holt_kv_rebuilds(const struct holt_kv *kv);
/* The folder where the damaged file went, if this opening made the store anew, else NULL. Borrowed. */
const char *holt_kv_aside(const struct holt_kv *kv);
/* Whether a damaged page was met since the opening. From then on the folder is marked: the next opening makes
 * it anew (see is_whole). Until then reading goes on as it can, and nothing should be written that need not
 * be. */
bool holt_kv_is_damaged(struct holt_kv *kv);
/* The owner knows it: something is missing that it had put. Nothing in memory. */
void holt_kv_suspect(struct holt_kv *kv);
/* A few bytes that outlive damage to the tables, in a file beside them: a key. Once they are there, an empty
 * or missing file of tables is damage, not a new store. Hold the loop up. HOLT_EUNSUPPORTED in memory;
 * HOLT_ENOTFOUND; HOLT_ENOSPC, HOLT_EIO. */
int holt_kv_keep(struct holt_kv *kv, struct holt_buf bytes, struct holt_err *err);
int holt_kv_kept(struct holt_kv *kv, struct holt_writer *out);
/* Bytes of the pages in use, free ones included; keys and values for memory. */
uint64_t holt_kv_size_bytes(const struct holt_kv *kv);
/* Of these, bytes of pages that hold nothing: later writing uses them again, holt_kv_compact gives them back
 * (and more, where pages are filled in part). Reads a list of LMDB's. 0 for memory. */
uint64_t holt_kv_free_bytes(struct holt_kv *kv);

/* The table of this name (1 to 127 bytes, no '.' in front), made when it is missing; `*table` stays valid
 * until the close. Holds the loop up, behind a job under way too: for start. Errors: HOLT_EFULL
 * (HOLT_KV_TABLES_MAX are open), HOLT_ENOSPC, HOLT_EIO, HOLT_ECORRUPT. */
int holt_kv_table(struct holt_kv *kv, const char *name, uint32_t *table, struct holt_err *err);

/* The name of every table there is but the store's own ones, in any order; `name` is borrowed until `each`
 * returns, which changes nothing. Holds the loop up: for start. Errors: HOLT_ECORRUPT, HOLT_EIO. */
int holt_kv_each_table(struct holt_kv *kv, void (*each)(void *arg, const char *name), void *arg);

/* --- Reading -------------------------------------------------------------------------------------- */

/* Begin to read on the loop. While a read is open no page is used again, so the file grows: end it before the
 * loop turns. At most 64 at a time, as one function may call another (HOLT_EBUSY). */
int holt_kv_begin(struct holt_kv *kv, struct holt_kv_txn **out);
void holt_kv_end(struct holt_kv_txn *txn);

/* `*value` is borrowed until the transaction ends or writes. HOLT_ENOTFOUND; HOLT_ECORRUPT; HOLT_EIO. */
int holt_kv_get(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf *value);
/* How many keys the table has. */
int holt_kv_count(struct holt_kv_txn *txn, uint32_t table, uint64_t *count);

/* A place in a table. Key and value are borrowed as above. After a change of its table seek anew. */
struct holt_kv_cursor;
int holt_kv_cursor_open(struct holt_kv_txn *txn, uint32_t table, struct holt_kv_cursor **out);
/* Before the end of its transaction. */
void holt_kv_cursor_close(struct holt_kv_cursor *cursor);
/* Go to the first key that is not below `key`; to the first of all for an empty one. HOLT_ENOTFOUND: none. */
int holt_kv_seek(struct holt_kv_cursor *cursor, struct holt_buf key, struct holt_buf *found,
                 struct holt_buf *value);
/* Go to the last key that is not above `key`; to the last of all for an empty one. HOLT_ENOTFOUND: none. */
int holt_kv_seek_back(struct holt_kv_cursor *cursor, struct holt_buf key, struct holt_buf *found,
                      struct holt_buf *value);
/* From a place found, to the next and the one before. HOLT_ENOTFOUND: none; then seek anew. */
int holt_kv_next(struct holt_kv_cursor *cursor, struct holt_buf *found, struct holt_buf *value);
int holt_kv_prev(struct holt_kv_cursor *cursor, struct holt_buf *found, struct holt_buf *value);

/* --- Writing -------------------------------------------------------------------------------------- */

/* In a writing transaction, which also reads, its own changes included. `key` and `value` are copied. An
 * error must end the transaction. HOLT_ETOOLARGE, HOLT_EINVAL (an empty key), HOLT_ENOSPC (the map is full),
 * HOLT_ECORRUPT, HOLT_EIO. */
int holt_kv_put(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value);
/* The same for a key above all in the table: packed tightly, and quicker. HOLT_EEXISTS when it is not. */
int holt_kv_append(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value);
/* HOLT_ENOTFOUND when it is not there: no harm done. */
int holt_kv_delete(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key);
/* Write another version than was found at the opening, when what is there has been brought up to it. */
int holt_kv_stamp(struct holt_kv_txn *txn, uint32_t version);

/* Fill the transaction: on a worker's thread, so touching nothing that the loop touches meanwhile. Not 0:
 * undo it all, and tell this code. */
typedef int (*holt_kv_write_cb)(void *arg, struct holt_kv_txn *txn);
/* How it ended: 0, it is durable; the callback's own code; or, with a sentence in `err`,
 * HOLT_ENOSPC: nothing was changed, reading goes on, and it may be tried again once there is room;
 * HOLT_ECANCELED: it never began;
 * any other: nothing can be written any more (all later jobs fail with the same), the node should end. */
typedef void (*holt_kv_done_cb)(void *arg, int status, const struct holt_err *err);

/* The caller owns the memory until `done` has begun. */
struct holt_kv_job {
  holt_kv_write_cb write;
  holt_kv_done_cb done; /* exactly once, on the loop, never inside holt_kv_submit() */
  void *arg;
  struct holt_list node; /* the rest is the store's */
  struct holt_err err;
};

/* Queue a job behind those submitted before. Each is a transaction and a sync of its own: whoever has many
 * changes joins them. The queue has no bound of its own. */
void holt_kv_submit(struct holt_kv *kv, struct holt_kv_job *job);
/* Fill and commit a transaction now: for start, with no job under way. */
int holt_kv_run(struct holt_kv *kv, holt_kv_write_cb write, void *arg, struct holt_err *err);

/* Copy the store as it is now into another folder, which is made and must be empty (HOLT_EEXISTS), off the
 * loop; reading and writing go on, and the file grows by what is written meanwhile. One at a time
 * (HOLT_EBUSY). `done` as above; HOLT_EUNSUPPORTED in memory. */
int holt_kv_copy(struct holt_kv *kv, const char *path, holt_kv_done_cb done, void *arg);

/* Write the store anew without the room of what was deleted, which a file of LMDB never gives back; off the
 * loop, then put it in place of the old one. Reading goes on, but for an instant; jobs wait behind it. A
 * crash at any point leaves the old one or the new one, which hold the same. One at a time, and not beside a
 * copy (HOLT_EBUSY). `done` as above: 0, also in memory, where nothing is to be gained; HOLT_ENOSPC: there is
 * no room for the new one beside the old one; HOLT_ECORRUPT: a damaged page, which only a copy of the data
 * from elsewhere mends; HOLT_ECANCELED; HOLT_EIO. But for an HOLT_EIO that holt_kv_submit repeats, nothing
 * has changed then and all goes on. */
int holt_kv_compact(struct holt_kv *kv, holt_kv_done_cb done, void *arg);
/* Let a compaction under way end soon, with HOLT_ECANCELED if it is not too late. */
void holt_kv_compact_stop(struct holt_kv *kv);

#endif /* HOLT_STORE_KV_H */
