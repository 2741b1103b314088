/* wal.h - Raft's term, vote and log as one log of segments: the pure part.
 *
 * It makes bytes and file operations and reads bytes back; whoever calls it runs the operations:
 * store/store.h on the files of an env, a simulator of its own on env/sim_disk.h. The format is
 * docs/store.md.
 *
 * The rules it stands on:
 * - Everything added since the last flush becomes one batch: one write, one sync, all of it counts or
 * nothing.
 * - The next operations are made only once those before have succeeded, so a batch on the disk proves that
 * all before it is durable; only the last one can be torn.
 * - A failed batch takes with it what was added behind it. No room (HOLT_ENOSPC from anything but a sync):
 * what the batch may have left on the disk is wiped, only then is its failure told, and the log stands where
 * it stood. Any other failure ends this log for good.
 *
 * One thread. It allocates; memory running out ends the process. */
#ifndef HOLT_STORE_WAL_H
#define HOLT_STORE_WAL_H

#include "env/file.h"
#include "raft/raft.h"

struct holt_wal; /* opaque: wal_impl.h */

struct holt_wal_config {
  uint64_t cluster, self; /* whose log it is; 0 at recovery: whatever the files say */
  uint32_t segment_bytes; /* of one file, 0: 8 MiB; at least 1 KiB; a larger batch gets a larger file */
};

enum {
  HOLT_WAL_SEGMENT_BYTES = 8 * 1024 * 1024,
  HOLT_WAL_BATCH_MAX = 256 * 1024 * 1024, /* bytes added and not yet durable */
};

/* What is durable. Entries first..last can be read; first is last + 1 when there are none. */
struct holt_wal_state {
  uint64_t cluster, self;
  uint64_t boot; /* how often it was opened, this time included once that is durable */
  uint64_t term, vote;
  uint64_t first, last, last_term;
  struct holt_raft_snapshot snapshot; /* index 0: none */
};

struct holt_wal *holt_wal_new(const struct holt_wal_config *config);
void holt_wal_free(struct holt_wal *wal);
/* Borrowed, changes with holt_wal_done. */
const struct holt_wal_state *holt_wal_state(const struct holt_wal *wal);

/* --- Recovery ------------------------------------------------------------------------------------- */

/* How recovery and save reach the files; each returns 0 or HOLT_E*, with a sentence in `err`. */
struct holt_wal_files {
  void *arg;
  /* Names in the directory, `*names` to be released by free() in one piece. */
  int (*list)(void *arg, char ***names, size_t *count, struct holt_err *err);
  /* The whole file, appended to `into`. */
  int (*read)(void *arg, const char *name, struct holt_writer *into, struct holt_err *err);
  /* Run in order up to the first failure. */
  int (*run)(void *arg, const struct holt_file_op *ops, size_t count, struct holt_err *err);
};

struct holt_sim_disk;
/* On a simulated disk, which is borrowed. */
struct holt_wal_files holt_wal_on_sim_disk(struct holt_sim_disk *disk);

/* Once, on a new wal: find out what the files say, mend a torn end, sync, count this boot. Without a single
 * segment it is a new log, which needs config.cluster and config.self. Errors: HOLT_ECORRUPT   the files
 * cannot be vouched for; holt_wal_state then tells what could be read before the damage, nothing was changed,
 * and nothing can be added; HOLT_EFOREIGN   they belong to another cluster or member; HOLT_EVERSION   a newer
 * holt wrote them; HOLT_EINVAL     a new log without ids; HOLT_ENOSPC, HOLT_EIO and what `files` answers. */
int holt_wal_open(struct holt_wal *wal, const struct holt_wal_files *files, struct holt_err *err);

/* --- Writing -------------------------------------------------------------------------------------- */

/* Add what the core wants persisted; `persist` is copied. It becomes durable with the next flush.
 * Errors: HOLT_EINVAL    it does not fit what was added before: a gap, a truncation at or below the snapshot,
 * a term or a vote that goes back; HOLT_EFULL     more than HOLT_WAL_BATCH_MAX wait; HOLT_ETOOLARGE one entry
 * of that size; HOLT_EIO       the log has failed before; HOLT_ECLOSED it was never opened. On error nothing
 * was added. */
int holt_wal_add(struct holt_wal *wal, const struct holt_raft_persist *persist);
/* Drop whole segments that hold nothing but entries up to `index`, as soon as nothing else is to be written.
 * HOLT_EINVAL when `index` is beyond the durable snapshot. */
int holt_wal_drop(struct holt_wal *wal, uint64_t index);

/* The operations that must be run next, in order; their count, 0 when there is nothing to do. Everything they
 * point to is borrowed until holt_wal_done, which must be called before the next flush. Adding meanwhile is
 * fine. */
size_t holt_wal_flush(struct holt_wal *wal, const struct holt_file_op **ops);
/* They were run: 0, or the code of the first that failed. Flush again until it answers 0: a batch may need a
 * new segment first. Returns 0, or the code with which everything added and not yet durable has failed. */
int holt_wal_done(struct holt_wal *wal, int status);
/* How many holt_wal_add calls have become durable so far, failed ones not counted. */
uint64_t holt_wal_saved(const struct holt_wal *wal);

/* Flush and run until all is durable: for simulators. Returns what holt_wal_done did. */
int holt_wal_save(struct holt_wal *wal, const struct holt_wal_files *files, struct holt_err *err);

/* --- Reading -------------------------------------------------------------------------------------- */

/* Where consecutive entries lie together in one file. */
struct holt_wal_piece {
  char name[HOLT_FILE_NAME_MAX + 1];
  uint64_t offset;
  uint32_t len;
  uint64_t first; /* index of the first entry */
  uint32_t count;
};

/* Where the durable entries from `first` to at most `last` lie: as many as one segment holds and `max_bytes`
 * allow, at least one. HOLT_ENOTFOUND when `first` is not there. */
int holt_wal_locate(const struct holt_wal *wal, uint64_t first, uint64_t last, size_t max_bytes,
                    struct holt_wal_piece *piece);
/* The entries of a piece from its bytes; `entries` has room for piece->count and its data is borrowed from
 * `bytes`.
 * `*count` may be less than piece->count when some were truncated or dropped since.
 * HOLT_ECORRUPT: the file says something else than it did when it was written. */
int holt_wal_decode(const struct holt_wal *wal, const struct holt_wal_piece *piece, struct holt_buf bytes,
                    struct holt_raft_entry *entries, uint32_t *count, struct holt_err *err);
/* Both at once through `files`: the entries from `first` on, as one piece holds them. `bytes` is emptied
 * first. */
int holt_wal_read(const struct holt_wal *wal, const struct holt_wal_files *files, uint64_t first,
                  uint64_t last, size_t max_bytes, struct holt_writer *bytes, struct holt_raft_entry *entries,
                  uint32_t *count, uint32_t entry_max, struct holt_err *err);

/* What holt_raft_new wants: term, vote, snapshot, and the entries behind the snapshot. */
struct holt_wal_restored {
  struct holt_raft_restore restore; /* points into the rest, which must not be moved */
  struct holt_raft_snapshot snapshot;
  struct holt_raft_entry *entries;
  uint8_t *bytes;
};

/* Everything at once, after holt_wal_open; `out` is the caller's, to be freed with holt_wal_restored_free
 * unless this fails: HOLT_ECORRUPT, and what `files` answers. */
int holt_wal_restore(const struct holt_wal *wal, const struct holt_wal_files *files,
                     struct holt_wal_restored *out, struct holt_err *err);
void holt_wal_restored_free(struct holt_wal_restored *restored);

#endif /* HOLT_STORE_WAL_H */
