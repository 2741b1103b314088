/* kv_impl.h - what a kind of ordered store provides. Only for store/ itself. */
#ifndef HOLT_STORE_KV_IMPL_H
#define HOLT_STORE_KV_IMPL_H

#include <stdatomic.h>

#include "store/kv.h"

enum holt_kv_move { HOLT_KV_SEEK, HOLT_KV_SEEK_BACK, HOLT_KV_NEXT, HOLT_KV_PREV };

/* See kv.h for what each must do. `write_*` run on a worker's thread or, at start, on the loop's. */
struct holt_kv_ops {
  /* Free it, which begins at `kv`, then run `closed` on a later turn or now: nobody waits inside a call. */
  void (*close)(struct holt_kv *kv, void (*closed)(void *arg), void *arg);
  void (*drop)(struct holt_kv *kv);   /* now, while nothing is under way */
  void (*forget)(struct holt_kv *kv); /* the env is gone */
  uint64_t (*size_bytes)(const struct holt_kv *kv);
  uint64_t (*free_bytes)(struct holt_kv *kv); /* NULL: none, ever */
  int (*table)(struct holt_kv *kv, const char *name, uint32_t *table, struct holt_err *err);
  int (*each_table)(struct holt_kv_txn *txn, void (*each)(void *arg, const char *name), void *arg);
  int (*begin)(struct holt_kv *kv, struct holt_kv_txn **out);
  void (*end)(struct holt_kv_txn *txn);
  int (*get)(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf *value);
  int (*count)(struct holt_kv_txn *txn, uint32_t table, uint64_t *count);
  int (*cursor_open)(struct holt_kv_txn *txn, uint32_t table, struct holt_kv_cursor **out);
  void (*cursor_close)(struct holt_kv_cursor *cursor);
  int (*move)(struct holt_kv_cursor *cursor, enum holt_kv_move how, struct holt_buf key,
              struct holt_buf *found, struct holt_buf *value);
  int (*put)(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value,
             bool is_last);
  int (*erase)(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key);
  int (*stamp)(struct holt_kv_txn *txn, uint32_t version);
  int (*write_begin)(struct holt_kv *kv, struct holt_kv_txn **out, struct holt_err *err);
  int (*write_commit)(struct holt_kv_txn *txn,
                      struct holt_err *err); /* the transaction is gone in any case */
  void (*write_abort)(struct holt_kv_txn *txn);
  /* On the loop, when a job that ended well is about to be told; may be NULL. */
  void (*written)(struct holt_kv *kv);
  /* Work that should be done behind a commit, on a worker's thread, beside the next job; NULL: never. */
  bool (*wants_tending)(struct holt_kv *kv);
  void (*tend)(struct holt_kv *kv);
  void (*settle)(struct holt_kv *kv); /* the last of it, before the close; may be NULL */
  int (*copy)(struct holt_kv *kv, const char *path, struct holt_err *err); /* on a worker's thread */
  /* Write all anew, beside: on a worker's thread, while nothing is written and reading goes on. It gives up
   * when kv->stop is set. NULL: there is nothing to be gained. */
  int (*compact)(struct holt_kv *kv, struct holt_err *err);
  /* Put it in place: on the loop, while nothing is read or written. */
  int (*compacted)(struct holt_kv *kv, struct holt_err *err);
  /* See holt_kv_keep and holt_kv_kept; NULL: there is no folder. */
  int (*keep)(struct holt_kv *kv, struct holt_buf bytes, struct holt_err *err);
  int (*kept)(struct holt_kv *kv, struct holt_writer *out);
  void (*mark)(struct holt_kv *kv); /* damaged: salvage at the next opening */
};

struct holt_kv_copy {
  struct holt_work work;
  struct holt_kv *kv;
  char *path;
  holt_kv_done_cb done;
  void *arg;
  struct holt_err err;
};

struct holt_kv_compaction {
  struct holt_kv_job job; /* its `write` is NULL */
  struct holt_kv *kv;
  holt_kv_done_cb done;
  void *arg;
};

/* First member of each kind's own struct; so are the next two. */
struct holt_kv {
  const struct holt_kv_ops *ops;
  struct holt_env *env;
  char *path;
  uint32_t version;
  uint32_t rebuilds;      /* how often damage had it made anew */
  char *aside;            /* where the damaged file went at this opening, or NULL */
  atomic_bool is_damaged; /* a page is, as was seen since the opening */
  bool is_marked;
  struct holt_list jobs; /* that wait */
  struct holt_kv_job *running;
  struct holt_work work;
  struct holt_kv_copy *copying;
  struct holt_kv_compaction *compacting;
  struct holt_work tending;
  bool is_tending, is_settled;
  atomic_bool stop;       /* the compaction shall end soon */
  struct holt_err failed; /* code not 0: no write is possible any more */
  unsigned reads_open;
  bool is_closing;
  void (*closed)(void *arg);
  void *closed_arg;
  struct holt_post post;
};

struct holt_kv_txn {
  struct holt_kv *kv;
  bool is_write;
};

struct holt_kv_cursor {
  struct holt_kv_txn *txn;
};

void holt__kv_init(struct holt_kv *kv, struct holt_env *env, const struct holt_kv_ops *ops, const char *path);
int holt__kv_open_lmdb(struct holt_env *env, const struct holt_kv_options *options, struct holt_kv **out,
                       struct holt_err *err);
int holt__kv_open_memory(struct holt_env *env, const struct holt_kv_options *options, struct holt_kv **out,
                         struct holt_err *err);
/* Whether a store stamped so may be opened with these options. */
int holt__kv_check_stamp(const struct holt_kv_options *options, const char *kind, uint32_t version,
                         struct holt_err *err);

#endif /* HOLT_STORE_KV_IMPL_H */
