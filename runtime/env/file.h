/* file.h - the seam's files: one locked directory, and jobs of ordered operations on the files in it.
 *
 * A job is what must happen in this order, off the loop: write, sync, rename… It stops at its first failure.
 * The jobs of one directory run one after another, never two at once, so a job may build on the one before.
 * At start and recovery the same operations can be run at once, on the caller's time.
 *
 * What lasts: bytes after SYNC of their file; names (made, renamed, unlinked) after SYNC_DIR. A failed SYNC
 * must never be tried again: the system may have dropped the bytes and would call the second one a success
 * (Rebello et al., "Can applications recover from fsync failures?", 2020). */
#ifndef HOLT_ENV_FILE_H
#define HOLT_ENV_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"

struct holt_env;

/* --- Operations ----------------------------------------------------------------------------------- */

enum holt_file_op_type {
  HOLT_FILE_CREATE = 1, /* `name`, empty; one of that name is replaced */
  HOLT_FILE_ALLOCATE,   /* at least `len` bytes long, what is new are zeros, the room is reserved */
  HOLT_FILE_WRITE,    /* all `len` bytes of `data` at `offset`; a failed one may have written some of them */
  HOLT_FILE_READ,     /* exactly `len` bytes at `offset` into `into`; HOLT_EEOF when the file is shorter */
  HOLT_FILE_SYNC,     /* the file's bytes and length are on the disk */
  HOLT_FILE_RENAME,   /* `name` becomes `to`, which is replaced when it is there */
  HOLT_FILE_UNLINK,   /* `name`; none of that name is no error */
  HOLT_FILE_SYNC_DIR, /* the directory's names are on the disk */
  HOLT_FILE_OP_TYPES
};

enum { HOLT_FILE_NAME_MAX = 63 };

/* `name` and `to`: 1 to HOLT_FILE_NAME_MAX bytes, no '/', no '.' in front. All pointers are borrowed: until
 * the call returns, or until the job's callback. */
struct holt_file_op {
  enum holt_file_op_type type;
  const char *name;
  const char *to;
  uint64_t offset;
  size_t len;
  const void *data;
  void *into;
};

/* --- A directory ---------------------------------------------------------------------------------- */

struct holt_dir;

/* Open `path`, made with its parents where they are missing (mode 0700), and lock it against every other
 * process. Errors, with a sentence: HOLT_ELOCKED, HOLT_EPERMISSION, HOLT_ENOSPC, HOLT_EIO, HOLT_EINVAL (not a
 * directory). */
int holt_dir_open(struct holt_env *env, const char *path, struct holt_dir **out, struct holt_err *err);
/* How many this env has opened until now. */
uint64_t holt_dirs_opened(const struct holt_env *env);
/* Whether this env has this one open, or one in it, of the first `up_to` that it opened; those included that
 * are being closed. By their names, as they were given. */
bool holt_dir_is_open_below(const struct holt_env *env, const char *path, uint64_t up_to);
/* Let go of lock and memory: at once, or when the job under way has ended; that job's callback runs with its
 * outcome, those that wait get HOLT_ECANCELED. `dir` must not be used any more; `closed` (may be NULL) runs
 * once, on a later turn, behind all of these. */
void holt_dir_close(struct holt_dir *dir, void (*closed)(void *arg), void *arg);
/* The same at once, where no job was ever submitted or all have ended: for start. */
void holt_dir_drop(struct holt_dir *dir);
/* The path it was opened with, borrowed. */
const char *holt_dir_path(const struct holt_dir *dir);

/* These four hold the loop up: for start, recovery and small things; the first three with no job under way.
 */

/* The names in it, sorted, those that begin with '.' left out. `*names` is returned: free() it, once. */
int holt_dir_list(struct holt_dir *dir, char ***names, size_t *count, struct holt_err *err);
int holt_dir_size(struct holt_dir *dir, const char *name, uint64_t *size_bytes, struct holt_err *err);
/* Append the whole file to `into`. HOLT_ETOOLARGE beyond `max_bytes`. */
int holt_dir_read(struct holt_dir *dir, const char *name, size_t max_bytes, struct holt_writer *into,
                  struct holt_err *err);
/* Run operations now, beside the job under way if there is one, which must be about other files. Errors:
 * HOLT_ENOSPC, HOLT_ENOTFOUND, HOLT_EPERMISSION, HOLT_EIO, HOLT_EEOF. */
int holt_dir_run(struct holt_dir *dir, const struct holt_file_op *ops, size_t count, struct holt_err *err);

/* --- Jobs ----------------------------------------------------------------------------------------- */

struct holt_file_job;
/* How the job ended: 0, or the code of the first operation that failed (job->failed is its place);
 * HOLT_ECANCELED: it never began. Runs exactly once, on the loop, never inside holt_dir_submit(). */
typedef void (*holt_file_job_cb)(struct holt_file_job *job, int status);

/* The caller owns the memory, of the job and of all that `ops` point to, until the callback runs; both may be
 * used again from then on, also for the next job from inside the callback. Zero-initialise before the first
 * use. */
struct holt_file_job {
  const struct holt_file_op *ops;
  size_t count;
  holt_file_job_cb cb;
  void *arg;
  size_t failed;
  struct holt_list node; /* the rest is the env's */
  int status;
};

/* Queue a job behind those submitted before. The queue has no bound of its own: whoever submits keeps one
 * job, or few. */
void holt_dir_submit(struct holt_dir *dir, struct holt_file_job *job);

#endif /* HOLT_ENV_FILE_H */
