/* file.c - the way into the files of both implementations. */
#include "env/file.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/env_impl.h"

int holt_dir_open(struct holt_env *env, const char *path, struct holt_dir **out, struct holt_err *err) {
  return env->ops->dir_open(env, path, out, err);
}

void holt_dir_close(struct holt_dir *dir, void (*closed)(void *arg), void *arg) {
  HOLT_ASSERT(!dir->is_closing);
  dir->is_closing = true;
  dir->closed = closed;
  dir->closed_arg = arg;
  if (dir->running == NULL) holt_env_post(dir->env, &dir->post);
}

void holt_dir_drop(struct holt_dir *dir) {
  HOLT_ASSERT(!dir->is_closing && dir->running == NULL && holt_list_is_empty(&dir->jobs));
  holt__dir_free(dir);
}

const char *holt_dir_path(const struct holt_dir *dir) {
  return dir->path;
}

static bool is_idle(const struct holt_dir *dir) {
  return !dir->is_closing && dir->running == NULL;
}

int holt_dir_list(struct holt_dir *dir, char ***names, size_t *count, struct holt_err *err) {
  HOLT_ASSERT(is_idle(dir));
  return dir->ops->list(dir, names, count, err);
}

int holt_dir_size(struct holt_dir *dir, const char *name, uint64_t *size_bytes, struct holt_err *err) {
  HOLT_ASSERT(is_idle(dir));
  return dir->ops->size(dir, name, size_bytes, err);
}

int holt_dir_read(struct holt_dir *dir, const char *name, size_t max_bytes, struct holt_writer *into,
                  struct holt_err *err) {
  uint64_t size;
  int rc = holt_dir_size(dir, name, &size, err);
  if (rc != 0) return rc;
  if (size > max_bytes)
    return holt_err_set(err, HOLT_ETOOLARGE, "%s/%s is larger than %zu bytes", dir->path, name, max_bytes);
  size_t before = into->len;
  struct holt_file_op op = {.type = HOLT_FILE_READ, .name = name, .len = (size_t)size};
  op.into = holt_writer_grow(into, op.len);
  rc = holt_dir_run(dir, &op, 1, err);
  if (rc != 0) into->len = before;
  return rc;
}

static const char *op_word(enum holt_file_op_type type) {
  static const char *const words[HOLT_FILE_OP_TYPES] = {
      "operate on", "create", "reserve room for", "write to", "read", "sync", "rename", "remove", "sync"};
  return words[type];
}

int holt_dir_run(struct holt_dir *dir, const struct holt_file_op *ops, size_t count, struct holt_err *err) {
  HOLT_ASSERT(!dir->is_closing);
  size_t failed;
  int rc = dir->ops->run(dir, ops, count, &failed);
  if (rc == 0) return 0;
  const char *name = ops[failed].name == NULL ? "" : ops[failed].name;
  const char *then =
      rc == HOLT_EPERMISSION
          ? ", or the disk is read-only; make it writable for this user, or give another folder"
          : "";
  return holt_err_set(err, rc, "cannot %s %s%s%s: %s%s", op_word(ops[failed].type), dir->path,
                      name[0] == '\0' ? "" : "/", name, holt_err_text(rc), then);
}

/* --- Jobs ----------------------------------------------------------------------------------------- */

static void start_next(struct holt_dir *dir) {
  struct holt_list *node = dir->is_closing ? NULL : holt_list_shift(&dir->jobs);
  if (node == NULL) return;
  dir->running = HOLT_CONTAINER(node, struct holt_file_job, node);
  dir->ops->start(dir);
}

void holt_dir_submit(struct holt_dir *dir, struct holt_file_job *job) {
  HOLT_ASSERT(!dir->is_closing);
  holt_list_init(&job->node);
  holt_list_push(&dir->jobs, &job->node);
  if (dir->running == NULL) start_next(dir);
}

static void finish(void *arg) {
  struct holt_dir *dir = arg;
  struct holt_list jobs;
  holt_list_init(&jobs);
  holt_list_move(&jobs, &dir->jobs);
  void (*closed)(void *) = dir->closed;
  void *closed_arg = dir->closed_arg;
  holt__dir_free(dir);
  for (struct holt_list *node = holt_list_shift(&jobs); node != NULL; node = holt_list_shift(&jobs)) {
    struct holt_file_job *job = HOLT_CONTAINER(node, struct holt_file_job, node);
    job->status = HOLT_ECANCELED;
    job->cb(job, HOLT_ECANCELED);
  }
  if (closed != NULL) closed(closed_arg);
}

void holt__dir_job_done(struct holt_dir *dir) {
  struct holt_file_job *job = dir->running;
  dir->running = NULL;
  start_next(dir); /* the disk shall not wait for the callback */
  bool was_closing = dir->is_closing;
  job->cb(job, job->status);
  if (was_closing) finish(dir); /* closed by the callback: holt_dir_close has seen to it */
}

void holt__dir_init(struct holt_dir *dir, struct holt_env *env, const struct holt_dir_ops *ops,
                    const char *path) {
  dir->env = env;
  dir->ops = ops;
  dir->path = holt_strdup(path);
  holt_list_init(&dir->jobs);
  holt_list_init(&dir->node);
  holt_list_push(&env->dirs, &dir->node);
  dir->number = ++env->dirs_opened;
  holt_post_init(&dir->post, finish, dir);
}

uint64_t holt_dirs_opened(const struct holt_env *env) {
  return env->dirs_opened;
}

bool holt_dir_is_open_below(const struct holt_env *env, const char *path, uint64_t up_to) {
  size_t len = strlen(path);
  while (len > 1 && path[len - 1] == '/') len--;
  HOLT_LIST_EACH(&env->dirs, node, next) {
    const struct holt_dir *dir = HOLT_CONTAINER(node, struct holt_dir, node);
    if (dir->number <= up_to && strncmp(dir->path, path, len) == 0 &&
        (dir->path[len] == '/' || dir->path[len] == '\0'))
      return true;
  }
  return false;
}

void holt__dir_free(struct holt_dir *dir) {
  holt_post_cancel(&dir->post);
  holt_list_remove(&dir->node);
  free(dir->path);
  dir->ops->free(dir);
}
