/* kv.c - the way into both kinds of ordered store, and the queue of writing jobs.
 *
 * - A job goes to a worker: begin, the caller's callback, commit; then it is told on the loop, and the next
 *   one goes.
 * - The callback refuses: the transaction is undone, the store is as it was.
 * - The commit finds no room: undone as well, told as HOLT_ENOSPC.
 * - A compaction is a job too: written by the worker, put in place on the loop before the next one goes.
 * - Anything else that a commit says is the end of writing: what is on the disk can no longer be known. */
#include "store/kv.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/kv_impl.h"

static void finish(void *arg);

void holt__kv_init(struct holt_kv *kv, struct holt_env *env, const struct holt_kv_ops *ops,
                   const char *path) {
  kv->ops = ops;
  kv->env = env;
  kv->path = holt_strdup(path == NULL ? "" : path);
  holt_list_init(&kv->jobs);
  holt_post_init(&kv->post, finish, kv);
}

int holt__kv_check_stamp(const struct holt_kv_options *options, const char *kind, uint32_t version,
                         struct holt_err *err) {
  if (strcmp(kind, options->kind) != 0)
    return holt_err_set(err, HOLT_EFOREIGN, "the folder '%s' holds a %s, not a %s", options->path, kind,
                        options->kind);
  if (version > options->version)
    return holt_err_set(
        err, HOLT_EVERSION,
        "the folder '%s' was written by a newer holt (layout %u; this one knows up to %u): start "
        "that one, or give this node another data directory",
        options->path, version, options->version);
  return 0;
}

int holt_kv_open(struct holt_env *env, const struct holt_kv_options *options, struct holt_kv **out,
                 struct holt_err *err) {
  HOLT_ASSERT(strlen(options->kind) < 64);
  if (options->path == NULL || holt_env_vault(env, options->path) != NULL)
    return holt__kv_open_memory(env, options, out, err);
  return holt__kv_open_lmdb(env, options, out, err);
}

uint32_t holt_kv_version(const struct holt_kv *kv) {
  return kv->version;
}

const char *holt_kv_path(const struct holt_kv *kv) {
  return kv->path;
}

uint32_t holt_kv_rebuilds(const struct holt_kv *kv) {
  return kv->rebuilds;
}

const char *holt_kv_aside(const struct holt_kv *kv) {
  return kv->aside;
}

bool holt_kv_is_damaged(struct holt_kv *kv) {
  if (!atomic_load(&kv->is_damaged)) return false;
  if (!kv->is_marked && kv->ops->mark != NULL) kv->ops->mark(kv);
  kv->is_marked = true;
  return true;
}

void holt_kv_suspect(struct holt_kv *kv) {
  if (kv->ops->mark != NULL) atomic_store(&kv->is_damaged, true);
}

int holt_kv_keep(struct holt_kv *kv, struct holt_buf bytes, struct holt_err *err) {
  return kv->ops->keep == NULL ? holt_err_code(err, HOLT_EUNSUPPORTED) : kv->ops->keep(kv, bytes, err);
}

int holt_kv_kept(struct holt_kv *kv, struct holt_writer *out) {
  return kv->ops->kept == NULL ? HOLT_EUNSUPPORTED : kv->ops->kept(kv, out);
}

uint64_t holt_kv_size_bytes(const struct holt_kv *kv) {
  return kv->ops->size_bytes(kv);
}

uint64_t holt_kv_free_bytes(struct holt_kv *kv) {
  return kv->ops->free_bytes == NULL ? 0 : kv->ops->free_bytes(kv);
}

int holt_kv_table(struct holt_kv *kv, const char *name, uint32_t *table, struct holt_err *err) {
  HOLT_ASSERT(!kv->is_closing);
  return kv->ops->table(kv, name, table, err);
}

/* --- Reading -------------------------------------------------------------------------------------- */

int holt_kv_begin(struct holt_kv *kv, struct holt_kv_txn **out) {
  HOLT_ASSERT(!kv->is_closing);
  int rc = kv->ops->begin(kv, out);
  if (rc == 0) kv->reads_open++;
  return rc;
}

void holt_kv_end(struct holt_kv_txn *txn) {
  HOLT_ASSERT(!txn->is_write);
  HOLT_ASSERT(txn->kv->reads_open > 0);
  txn->kv->reads_open--;
  txn->kv->ops->end(txn);
}

int holt_kv_get(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf *value) {
  if (key.len == 0 || key.len > HOLT_KV_KEY_MAX) return HOLT_ENOTFOUND;
  return txn->kv->ops->get(txn, table, key, value);
}

int holt_kv_count(struct holt_kv_txn *txn, uint32_t table, uint64_t *count) {
  return txn->kv->ops->count(txn, table, count);
}

int holt_kv_cursor_open(struct holt_kv_txn *txn, uint32_t table, struct holt_kv_cursor **out) {
  return txn->kv->ops->cursor_open(txn, table, out);
}

void holt_kv_cursor_close(struct holt_kv_cursor *cursor) {
  if (cursor != NULL) cursor->txn->kv->ops->cursor_close(cursor);
}

static int move(struct holt_kv_cursor *cursor, enum holt_kv_move how, struct holt_buf key,
                struct holt_buf *found, struct holt_buf *value) {
  HOLT_ASSERT(key.len <= HOLT_KV_KEY_MAX);
  return cursor->txn->kv->ops->move(cursor, how, key, found, value);
}

int holt_kv_seek(struct holt_kv_cursor *cursor, struct holt_buf key, struct holt_buf *found,
                 struct holt_buf *value) {
  return move(cursor, HOLT_KV_SEEK, key, found, value);
}

int holt_kv_seek_back(struct holt_kv_cursor *cursor, struct holt_buf key, struct holt_buf *found,
                      struct holt_buf *value) {
  return move(cursor, HOLT_KV_SEEK_BACK, key, found, value);
}

int holt_kv_next(struct holt_kv_cursor *cursor, struct holt_buf *found, struct holt_buf *value) {
  return move(cursor, HOLT_KV_NEXT, holt_buf(NULL, 0), found, value);
}

int holt_kv_prev(struct holt_kv_cursor *cursor, struct holt_buf *found, struct holt_buf *value) {
  return move(cursor, HOLT_KV_PREV, holt_buf(NULL, 0), found, value);
}

int holt_kv_each_table(struct holt_kv *kv, void (*each)(void *arg, const char *name), void *arg) {
  struct holt_kv_txn *txn;
  int rc = holt_kv_begin(kv, &txn);
  if (rc != 0) return rc;
  rc = kv->ops->each_table(txn, each, arg);
  holt_kv_end(txn);
  return rc;
}

/* --- Writing -------------------------------------------------------------------------------------- */

static int put(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value,
               bool is_last) {
  HOLT_ASSERT(txn->is_write);
  if (key.len == 0) return HOLT_EINVAL;
  if (key.len > HOLT_KV_KEY_MAX || value.len > HOLT_KV_VALUE_MAX) return HOLT_ETOOLARGE;
  return txn->kv->ops->put(txn, table, key, value, is_last);
}

int holt_kv_put(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value) {
  return put(txn, table, key, value, false);
}

int holt_kv_append(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf value) {
  return put(txn, table, key, value, true);
}

int holt_kv_delete(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key) {
  HOLT_ASSERT(txn->is_write);
  if (key.len == 0 || key.len > HOLT_KV_KEY_MAX) return HOLT_ENOTFOUND;
  return txn->kv->ops->erase(txn, table, key);
}

int holt_kv_stamp(struct holt_kv_txn *txn, uint32_t version) {
  HOLT_ASSERT(txn->is_write);
  return txn->kv->ops->stamp(txn, version);
}

/* One transaction, on whatever thread. */
static int commit(struct holt_kv *kv, holt_kv_write_cb write, void *arg, struct holt_err *err) {
  struct holt_kv_txn *txn;
  int rc = kv->ops->write_begin(kv, &txn, err);
  if (rc != 0) return rc;
  rc = write(arg, txn);
  if (rc == 0) return kv->ops->write_commit(txn, err);
  kv->ops->write_abort(txn);
  return err->code == rc ? rc : holt_err_code(err, rc);
}

static void work(void *arg) {
  struct holt_kv *kv = arg;
  struct holt_kv_job *job = kv->running;
  job->err = (struct holt_err){0};
  if (kv->failed.code != 0)
    job->err = kv->failed;
  else if (job->write != NULL)
    commit(kv, job->write, job->arg, &job->err);
  else if (kv->ops->compact != NULL)
    kv->ops->compact(kv, &job->err);
}

static void work_done(void *arg);

static void start_next(struct holt_kv *kv) {
  struct holt_list *node = kv->is_closing ? NULL : holt_list_shift(&kv->jobs);
  if (node == NULL) return;
  kv->running = HOLT_CONTAINER(node, struct holt_kv_job, node);
  kv->work = (struct holt_work){.run = work, .done = work_done, .arg = kv};
  holt_env_work(kv->env, &kv->work);
}

static void settle_work(void *arg) {
  struct holt_kv *kv = arg;
  kv->ops->settle(kv);
}

static void finish_if_idle(struct holt_kv *kv);

static void tended(void *arg) {
  struct holt_kv *kv = arg;
  kv->is_tending = false;
  finish_if_idle(kv);
}

static void tend(struct holt_kv *kv, void (*run)(void *arg)) {
  kv->is_tending = true;
  kv->tending = (struct holt_work){.run = run, .done = tended, .arg = kv};
  holt_env_work(kv->env, &kv->tending);
}

static void tend_work(void *arg) {
  struct holt_kv *kv = arg;
  kv->ops->tend(kv);
}

static void tend_if_wanted(struct holt_kv *kv) {
  if (!kv->is_tending && kv->ops->wants_tending != NULL && kv->ops->wants_tending(kv)) tend(kv, tend_work);
}

/* Close behind the last of what is under way. */
static void finish_if_idle(struct holt_kv *kv) {
  if (!kv->is_closing || kv->running != NULL || kv->copying != NULL || kv->is_tending) return;
  if (kv->ops->settle == NULL || kv->is_settled) {
    holt_env_post(kv->env, &kv->post);
    return;
  }
  kv->is_settled = true;
  tend(kv, settle_work);
}

static void work_done(void *arg) {
  struct holt_kv *kv = arg;
  struct holt_kv_job *job = kv->running;
  if (job->write == NULL && job->err.code == 0 && kv->ops->compacted != NULL) {
    HOLT_ASSERT(kv->reads_open == 0);
    kv->ops->compacted(kv, &job->err);
  }
  if (job->write != NULL && job->err.code == 0 && kv->ops->written != NULL) kv->ops->written(kv);
  struct holt_err err = job->err; /* the job's memory may be gone before the callback returns */
  kv->running = NULL;
  start_next(kv); /* the disk shall not wait for the callback */
  tend_if_wanted(kv);
  job->done(job->arg, err.code, &err);
  finish_if_idle(kv);
}

void holt_kv_submit(struct holt_kv *kv, struct holt_kv_job *job) {
  HOLT_ASSERT(!kv->is_closing);
  holt_list_init(&job->node);
  holt_list_push(&kv->jobs, &job->node);
  if (kv->running == NULL) start_next(kv);
}

int holt_kv_run(struct holt_kv *kv, holt_kv_write_cb write, void *arg, struct holt_err *err) {
  struct holt_err mine = {0};
  HOLT_ASSERT(kv->running == NULL);
  if (kv->failed.code != 0)
    mine = kv->failed;
  else if (commit(kv, write, arg, &mine) == 0 && kv->ops->written != NULL)
    kv->ops->written(kv);
  if (err != NULL) *err = mine;
  return mine.code;
}

/* --- Copying -------------------------------------------------------------------------------------- */

static void copy_work(void *arg) {
  struct holt_kv_copy *copy = arg;
  copy->kv->ops->copy(copy->kv, copy->path, &copy->err);
}

static void copy_free(struct holt_kv_copy *copy) {
  if (copy == NULL) return;
  free(copy->path);
  free(copy);
}

static void copy_done(void *arg) {
  struct holt_kv_copy *copy = arg;
  struct holt_kv *kv = copy->kv;
  copy->done(copy->arg, copy->err.code, &copy->err);
  kv->copying = NULL;
  copy_free(copy);
  finish_if_idle(kv);
}

int holt_kv_copy(struct holt_kv *kv, const char *path, holt_kv_done_cb done, void *arg) {
  HOLT_ASSERT(!kv->is_closing);
  if (kv->copying != NULL || kv->compacting != NULL) return HOLT_EBUSY;
  struct holt_kv_copy *copy = kv->copying = holt_alloc(sizeof *copy);
  copy->kv = kv;
  copy->path = holt_strdup(path);
  copy->done = done;
  copy->arg = arg;
  copy->work = (struct holt_work){.run = copy_work, .done = copy_done, .arg = copy};
  holt_env_work(kv->env, &copy->work);
  return 0;
}

/* --- Compacting ----------------------------------------------------------------------------------- */

static void compact_done(void *arg, int status, const struct holt_err *err) {
  struct holt_kv_compaction *compaction = arg;
  struct holt_err why = *err; /* it lies in the job */
  holt_kv_done_cb done = compaction->done;
  void *done_arg = compaction->arg;
  compaction->kv->compacting = NULL;
  free(compaction);
  done(done_arg, status, &why);
}

int holt_kv_compact(struct holt_kv *kv, holt_kv_done_cb done, void *arg) {
  HOLT_ASSERT(!kv->is_closing);
  if (kv->compacting != NULL || kv->copying != NULL) return HOLT_EBUSY;
  struct holt_kv_compaction *compaction = kv->compacting = holt_alloc(sizeof *compaction);
  compaction->kv = kv;
  compaction->done = done;
  compaction->arg = arg;
  compaction->job = (struct holt_kv_job){.done = compact_done, .arg = compaction};
  atomic_store(&kv->stop, false);
  holt_kv_submit(kv, &compaction->job);
  return 0;
}

void holt_kv_compact_stop(struct holt_kv *kv) {
  atomic_store(&kv->stop, true);
}

/* --- The end -------------------------------------------------------------------------------------- */

static void finish(void *arg) {
  struct holt_kv *kv = arg;
  struct holt_list jobs;
  struct holt_err err;
  holt_list_init(&jobs);
  holt_list_move(&jobs, &kv->jobs);
  for (struct holt_list *node = holt_list_shift(&jobs); node != NULL; node = holt_list_shift(&jobs)) {
    struct holt_kv_job *job = HOLT_CONTAINER(node, struct holt_kv_job, node);
    holt_err_code(&err, HOLT_ECANCELED);
    job->done(job->arg, HOLT_ECANCELED, &err);
  }
  free(kv->path);
  kv->path = NULL;
  kv->ops->close(kv, kv->closed, kv->closed_arg);
}

void holt_kv_close(struct holt_kv *kv, void (*closed)(void *arg), void *arg) {
  HOLT_ASSERT(!kv->is_closing);
  HOLT_ASSERT(kv->reads_open == 0);
  kv->is_closing = true;
  holt_kv_compact_stop(kv);
  kv->closed = closed;
  kv->closed_arg = arg;
  finish_if_idle(kv);
}

bool holt_kv_drop(struct holt_kv *kv) {
  if (kv->is_closing || kv->running != NULL || kv->copying != NULL || kv->is_tending || kv->reads_open > 0)
    return false;
  free(kv->path);
  kv->path = NULL;
  kv->ops->drop(kv);
  return true;
}

void holt_kv_forget(struct holt_kv *kv) {
  copy_free(kv->copying);
  free(kv->compacting);
  free(kv->path);
  kv->ops->forget(kv);
}
