/* disk.c - the segment log on files of the env.
 *
 * - A write is added to the log at once; at the end of the turn, or when the job under way has ended, all
 * that was added goes to the disk as one job: one write, one sync, off the loop.
 * - The job's end tells the log, and the owner how far everything is durable; then the next one starts.
 * - No room: the owner is told from which write on; the log stands where it stood and can go on.
 * - Any other failure is for good: every later write answers with it.
 * - Entries are read back by jobs too, in line with the writes. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "store/store_impl.h"

enum { FILE_MAX = 1024 * 1024 * 1024 }; /* no segment is that large */

struct disk_store {
  struct holt_store store;
  struct holt_dir *dir;
  struct holt_wal *wal;
  struct holt_wal_files files;
  struct holt_post flush;
  struct holt_file_job job;
  bool is_busy; /* the job is under way */
  bool is_closed;
  uint64_t told;                      /* holt_wal_saved when the owner was last told */
  uint64_t first_waiting, last_added; /* seqs; 0: none waits */
  uint64_t flying;                    /* seq of the last write in the batch under way */
  struct holt_list reads;             /* under way, or refused and to be told at the end of the turn */
  struct holt_post refuse;
  void (*closed)(void *arg);
  void *closed_arg;
};

/* --- Writing -------------------------------------------------------------------------------------- */

static void flush(void *arg) {
  struct disk_store *d = arg;
  if (d->is_busy || d->is_closed) return;
  const struct holt_file_op *ops;
  size_t count = holt_wal_flush(d->wal, &ops);
  if (count == 0) return;
  d->is_busy = true;
  d->job.ops = ops;
  d->job.count = count;
  d->flying = d->last_added;
  holt_dir_submit(d->dir, &d->job);
}

static void tell(struct disk_store *d, uint64_t seq, int status) {
  if (d->store.saved != NULL && !d->is_closed) d->store.saved(d->store.arg, seq, status);
}

static void job_done(struct holt_file_job *job, int status) {
  struct disk_store *d = job->arg;
  d->is_busy = false;
  int failed = holt_wal_done(d->wal, status);
  uint64_t saved = holt_wal_saved(d->wal), seq = d->flying;
  if (failed != 0) {
    uint64_t first = d->first_waiting;
    d->first_waiting = 0;
    if (first != 0) tell(d, first, failed);
  } else if (saved != d->told) {
    d->told = saved;
    d->first_waiting = seq == d->last_added ? 0 : seq + 1;
    tell(d, seq, 0);
  }
  flush(d);
}

static int write_persist(struct holt_store *store, const struct holt_raft_persist *persist) {
  struct disk_store *d = (struct disk_store *)store;
  int rc = holt_wal_add(d->wal, persist);
  if (rc != 0) return rc;
  if (d->first_waiting == 0) d->first_waiting = persist->seq;
  d->last_added = persist->seq;
  if (!d->is_busy) holt_env_post(store->env, &d->flush);
  return 0;
}

static int drop(struct holt_store *store, uint64_t index) {
  struct disk_store *d = (struct disk_store *)store;
  int rc = holt_wal_drop(d->wal, index);
  if (rc == 0 && !d->is_busy) holt_env_post(store->env, &d->flush);
  return rc;
}

/* --- Reading -------------------------------------------------------------------------------------- */

struct reading {
  struct holt_file_job job;
  struct holt_file_op op;
  struct disk_store *owner;
  struct holt_wal_piece piece;
  bool is_refused;
  uint8_t *bytes;
  holt_store_read_cb cb;
  void *arg;
  struct holt_list node; /* in owner->reads */
};

static void end_reading(struct reading *r, int status, const struct holt_raft_entry *entries,
                        uint32_t count) {
  holt_list_remove(&r->node);
  r->cb(r->arg, status, count == 0 ? NULL : entries, count);
  free(r->bytes);
  free(r);
}

static void reading_done(struct holt_file_job *job, int status) {
  struct reading *r = job->arg;
  struct holt_raft_entry *entries = NULL;
  uint32_t count = 0;
  if (r->owner->is_closed) status = HOLT_ECANCELED;
  if (status == 0) {
    entries = holt_alloc(r->piece.count * sizeof *entries);
    status =
        holt_wal_decode(r->owner->wal, &r->piece, holt_buf(r->bytes, r->piece.len), entries, &count, NULL);
    if (status == 0 && count == 0) status = HOLT_ENOTFOUND; /* truncated meanwhile */
    if (status != 0) count = 0;
  }
  end_reading(r, status, entries, count);
  free(entries);
}

/* One that comes during a callback of this walk waits for the next. */
static void refuse(void *arg) {
  struct disk_store *d = arg;
  struct holt_list refused;
  holt_list_init(&refused);
  HOLT_LIST_EACH(&d->reads, node, next) {
    if (!HOLT_CONTAINER(node, struct reading, node)->is_refused) continue;
    holt_list_remove(node);
    holt_list_push(&refused, node);
  }
  while (!holt_list_is_empty(&refused))
    end_reading(HOLT_CONTAINER(refused.next, struct reading, node), HOLT_ENOTFOUND, NULL, 0);
}

static void read_entries(struct holt_store *store, uint64_t first, uint64_t last, size_t max_bytes,
                         holt_store_read_cb cb, void *arg) {
  struct disk_store *d = (struct disk_store *)store;
  struct reading *r = holt_alloc(sizeof *r);
  r->owner = d;
  r->cb = cb;
  r->arg = arg;
  holt_list_push(&d->reads, &r->node);
  r->is_refused = holt_wal_locate(d->wal, first, last, max_bytes, &r->piece) != 0;
  if (r->is_refused) {
    holt_env_post(store->env, &d->refuse);
    return;
  }
  r->bytes = holt_realloc(NULL, r->piece.len);
  r->op = (struct holt_file_op){.type = HOLT_FILE_READ,
                                .name = r->piece.name,
                                .offset = r->piece.offset,
                                .len = r->piece.len,
                                .into = r->bytes};
  r->job = (struct holt_file_job){.ops = &r->op, .count = 1, .cb = reading_done, .arg = r};
  holt_dir_submit(d->dir, &r->job);
}

/* --- Life ----------------------------------------------------------------------------------------- */

static const struct holt_wal_state *state_of(const struct holt_store *store) {
  return holt_wal_state(((const struct disk_store *)store)->wal);
}

static int restore(struct holt_store *store, struct holt_wal_restored *out, struct holt_err *err) {
  struct disk_store *d = (struct disk_store *)store;
  return holt_wal_restore(d->wal, &d->files, out, err);
}

static void dir_closed(void *arg) {
  struct disk_store *d = arg;
  void (*closed)(void *) = d->closed;
  void *closed_arg = d->closed_arg;
  refuse(d);
  holt_wal_free(d->wal);
  free(d);
  if (closed != NULL) closed(closed_arg);
}

static void close_store(struct holt_store *store, void (*closed)(void *arg), void *arg) {
  struct disk_store *d = (struct disk_store *)store;
  HOLT_ASSERT(!d->is_closed);
  d->is_closed = true;
  d->closed = closed;
  d->closed_arg = arg;
  holt_post_cancel(&d->flush);
  holt_post_cancel(&d->refuse);
  holt_dir_close(d->dir, dir_closed, d);
}

static void forget(struct holt_store *store) {
  struct disk_store *d = (struct disk_store *)store;
  HOLT_LIST_EACH(&d->reads, node, next) {
    struct reading *r = HOLT_CONTAINER(node, struct reading, node);
    free(r->bytes);
    free(r);
  }
  holt_wal_free(d->wal);
  free(d);
}

static const struct holt_store_ops disk_ops = {.forget = forget,
                                               .close = close_store,
                                               .state = state_of,
                                               .restore = restore,
                                               .write = write_persist,
                                               .drop = drop,
                                               .read = read_entries};

static int files_list(void *arg, char ***names, size_t *count, struct holt_err *err) {
  return holt_dir_list(arg, names, count, err);
}

static int files_read(void *arg, const char *name, struct holt_writer *into, struct holt_err *err) {
  return holt_dir_read(arg, name, FILE_MAX, into, err);
}

static int files_run(void *arg, const struct holt_file_op *ops, size_t count, struct holt_err *err) {
  return holt_dir_run(arg, ops, count, err);
}

int holt_store_open_disk(struct holt_env *env, const struct holt_store_options *options,
                         struct holt_store **out, struct holt_err *err) {
  struct holt_dir *dir;
  int rc = holt_dir_open(env, options->path, &dir, err);
  if (rc != 0) return rc;
  struct holt_wal_config config = {
      .cluster = options->cluster, .self = options->self, .segment_bytes = options->segment_bytes};
  struct holt_wal_files files = {.arg = dir, .list = files_list, .read = files_read, .run = files_run};
  struct holt_wal *wal = holt_wal_new(&config);
  rc = holt_wal_open(wal, &files, err);
  if (rc != 0) {
    holt_err_prefix(err, "the log in '%s'", options->path);
    holt_wal_free(wal);
    holt_dir_close(dir, NULL, NULL);
    return rc;
  }
  struct disk_store *d = holt_alloc(sizeof *d);
  d->store = (struct holt_store){.ops = &disk_ops, .env = env, .saved = options->saved, .arg = options->arg};
  d->dir = dir;
  d->wal = wal;
  d->files = files;
  d->job = (struct holt_file_job){.cb = job_done, .arg = d};
  holt_post_init(&d->flush, flush, d);
  holt_post_init(&d->refuse, refuse, d);
  holt_list_init(&d->reads);
  *out = &d->store;
  return 0;
}
