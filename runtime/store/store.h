/* store.h - where a member of a cluster keeps its term, vote and log: on disk, or nowhere.
 *
 * Writes are told apart by the `seq` of the core's persists, which count up by one. Call from the loop's
 * thread only. */
#ifndef HOLT_STORE_STORE_H
#define HOLT_STORE_STORE_H

#include "env/env.h"
#include "store/wal.h"

struct holt_store;

struct holt_store_options {
  const char *path;       /* the log's own folder; not for memory. Copied */
  uint64_t cluster, self; /* 0: as the folder says */
  uint32_t segment_bytes; /* 0: 8 MiB */
  /* status 0: everything up to `seq` is durable. Else `seq` and everything written after it is not:
   * HOLT_ENOSPC, it may be written again once there is room, from `seq` on or otherwise; any other code, this
   * store has failed for good and so must the member (HOLT_RAFT_EV_DISK_FAILED). Never runs inside a call,
   * nor after holt_store_close. */
  void (*saved)(void *arg, uint64_t seq, int status);
  void *arg;
};

/* Open or make the log in a folder, which is locked meanwhile; holds the loop up while it reads.
 * Errors, with a sentence: those of holt_dir_open and holt_wal_open. */
int holt_store_open_disk(struct holt_env *env, const struct holt_store_options *options,
                         struct holt_store **out, struct holt_err *err);
/* A store that forgets everything with the process: it answers in the same way, and keeps no entries, which
 * the core has in memory anyhow. */
int holt_store_open_memory(struct holt_env *env, const struct holt_store_options *options,
                           struct holt_store **out, struct holt_err *err);
/* Let go of everything. What was not durable yet may or may not become so; nobody is told. `closed` (may be
 * NULL) runs once, on a later turn, when the folder is free again. */
void holt_store_close(struct holt_store *store, void (*closed)(void *arg), void *arg);

/* Free the memory of a store whose env was freed under it, as when a simulated host dies: after
 * holt_env_free, in place of holt_store_close. Nobody is called back. */
void holt_store_forget(struct holt_store *store);

/* What is durable; borrowed, changes between turns. */
const struct holt_wal_state *holt_store_state(const struct holt_store *store);
/* For holt_raft_new; before anything is written. Holds the loop up. Frees as holt_wal_restored_free. */
int holt_store_restore(struct holt_store *store, struct holt_wal_restored *out, struct holt_err *err);

/* Write what the core wants persisted, at the end of this turn or when the job under way has ended, together
 * with all that comes until then. `persist` is copied; its seq must be one more than the last. Errors: those
 * of holt_wal_add. On error nothing was taken. */
int holt_store_write(struct holt_store *store, const struct holt_raft_persist *persist);
/* See holt_wal_drop. */
int holt_store_drop(struct holt_store *store, uint64_t index);

/* `entries` are borrowed until return, `count` may be less than asked for, but not 0 when status is 0.
 * HOLT_ENOTFOUND: the first is not there; HOLT_ECORRUPT, HOLT_EIO; HOLT_ECANCELED: the store was closed. */
typedef void (*holt_store_read_cb)(void *arg, int status, const struct holt_raft_entry *entries,
                                   uint32_t count);
/* Read from `first` to at most `last`, at least one entry and as many as `max_bytes` and one segment hold.
 * The callback runs exactly once, on a later turn. */
void holt_store_read(struct holt_store *store, uint64_t first, uint64_t last, size_t max_bytes,
                     holt_store_read_cb cb, void *arg);

#endif /* HOLT_STORE_STORE_H */
