/* uv_file.c - directories and their files on the real machine.
 *
 * - One worker thread of libuv's pool at a time runs a directory's job; the loop only hears of its end.
 * - The file used last stays open, for a log writes to one file for a long while.
 * - The lock is flock(2) on the directory itself: it ends with the process, and leaves no file.
 * - A sync that fails is HOLT_EIO whatever the system says: nothing may be tried again after it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/uv_impl.h"

struct uv_dir {
  struct holt_dir dir;
  struct holt_uv *uv;
  uv_work_t work;
  bool is_silent; /* the env is closing: nobody is called back */
  int fd;
  /* The file used last; touched by the job under way, else by the loop's thread. */
  int file;
  char file_name[HOLT_FILE_NAME_MAX + 1];
};

static int code_of(int error) {
  switch (error) {
  case 0:
    return 0;
  case ENOSPC:
  case EDQUOT:
    return HOLT_ENOSPC;
  case ENOENT:
    return HOLT_ENOTFOUND;
  case EACCES:
  case EPERM:
  case EROFS:
    return HOLT_EPERMISSION;
  case ENOTDIR:
  case ENAMETOOLONG:
  case ELOOP:
    return HOLT_EINVAL;
  default:
    return HOLT_EIO;
  }
}

/* --- Operations (on any thread) ------------------------------------------------------------------- */

static void close_file(struct uv_dir *d) {
  if (d->file >= 0) close(d->file);
  d->file = -1;
}

static bool is_open(const struct uv_dir *d, const char *name) {
  return d->file >= 0 && strcmp(d->file_name, name) == 0;
}

static void remember(struct uv_dir *d, int file, const char *name) {
  close_file(d);
  d->file = file;
  snprintf(d->file_name, sizeof d->file_name, "%s", name);
}

static int open_file(struct uv_dir *d, const char *name) {
  if (is_open(d, name)) return 0;
  int file = openat(d->fd, name, O_RDWR | O_CLOEXEC);
  if (file < 0) return errno;
  remember(d, file, name);
  return 0;
}

static int create(struct uv_dir *d, const char *name) {
  if (is_open(d, name)) close_file(d);
  if (unlinkat(d->fd, name, 0) != 0 && errno != ENOENT) return errno;
  int file = openat(d->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return errno;
  remember(d, file, name);
  return 0;
}

static int write_all(int file, const uint8_t *data, size_t len, uint64_t offset) {
  while (len > 0) {
    ssize_t n = pwrite(file, data, len, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EIO;
    data += n;
    len -= (size_t)n;
    offset += (uint64_t)n;
  }
  return 0;
}

/* -1: the file is shorter. */
static int read_all(int file, uint8_t *into, size_t len, uint64_t offset) {
  while (len > 0) {
    ssize_t n = pread(file, into, len, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return -1;
    into += n;
    len -= (size_t)n;
    offset += (uint64_t)n;
  }
  return 0;
}

/* Where the file system cannot reserve room, zeros are written. */
static int allocate(int file, size_t len) {
  static const uint8_t zeros[64 * 1024];
  int error = fallocate(file, 0, 0, (off_t)len) == 0 ? 0 : errno;
  if (error != EOPNOTSUPP && error != ENOSYS) return error;
  struct stat info;
  if (fstat(file, &info) != 0) return errno;
  for (size_t at = (size_t)info.st_size; at < len;) {
    size_t part = len - at < sizeof zeros ? len - at : sizeof zeros;
    error = write_all(file, zeros, part, at);
    if (error != 0) return error;
    at += part;
  }
  return 0;
}

static int rename_file(struct uv_dir *d, const char *name, const char *to) {
  if (is_open(d, to)) close_file(d);
  if (renameat(d->fd, name, d->fd, to) != 0) return errno;
  if (is_open(d, name)) snprintf(d->file_name, sizeof d->file_name, "%s", to);
  return 0;
}

static int unlink_file(struct uv_dir *d, const char *name) {
  if (is_open(d, name)) close_file(d);
  return unlinkat(d->fd, name, 0) == 0 || errno == ENOENT ? 0 : errno;
}

static int run_op(struct uv_dir *d, const struct holt_file_op *op) {
  int error = 0;
  switch (op->type) {
  case HOLT_FILE_CREATE:
    return code_of(create(d, op->name));
  case HOLT_FILE_RENAME:
    return code_of(rename_file(d, op->name, op->to));
  case HOLT_FILE_UNLINK:
    return code_of(unlink_file(d, op->name));
  case HOLT_FILE_SYNC_DIR:
    return fsync(d->fd) == 0 ? 0 : HOLT_EIO;
  case HOLT_FILE_ALLOCATE:
  case HOLT_FILE_WRITE:
  case HOLT_FILE_READ:
  case HOLT_FILE_SYNC:
    error = open_file(d, op->name);
    break;
  default:
    return HOLT_EINVAL;
  }
  if (error != 0) return code_of(error);
  if (op->type == HOLT_FILE_SYNC) return fdatasync(d->file) == 0 ? 0 : HOLT_EIO;
  if (op->type == HOLT_FILE_ALLOCATE) return code_of(allocate(d->file, op->len));
  if (op->type == HOLT_FILE_WRITE) return code_of(write_all(d->file, op->data, op->len, op->offset));
  error = read_all(d->file, op->into, op->len, op->offset);
  return error < 0 ? HOLT_EEOF : code_of(error);
}

static int run_ops(struct holt_dir *dir, const struct holt_file_op *ops, size_t count, size_t *failed) {
  for (*failed = 0; *failed < count; (*failed)++) {
    const struct holt_file_op *op = &ops[*failed];
    HOLT_ASSERT(op->type == HOLT_FILE_SYNC_DIR || op->name != NULL);
    int rc = run_op((struct uv_dir *)dir, op);
    if (rc != 0) return rc;
  }
  return 0;
}

/* Beside a job the file kept open is that job's: these operations open their own. */
static int run_now(struct holt_dir *dir, const struct holt_file_op *ops, size_t count, size_t *failed) {
  if (dir->running == NULL) return run_ops(dir, ops, count, failed);
  struct uv_dir own = {.fd = ((struct uv_dir *)dir)->fd, .file = -1};
  int rc = run_ops(&own.dir, ops, count, failed);
  close_file(&own);
  return rc;
}

/* --- Jobs ----------------------------------------------------------------------------------------- */

static void work(uv_work_t *request) {
  struct uv_dir *d = request->data;
  struct holt_file_job *job = d->dir.running;
  job->status = run_ops(&d->dir, job->ops, job->count, &job->failed);
}

static void after_work(uv_work_t *request, int status) {
  struct uv_dir *d = request->data;
  (void)status; /* it is never canceled */
  if (d->is_silent)
    holt__dir_free(&d->dir);
  else
    holt__dir_job_done(&d->dir);
}

static void start(struct holt_dir *dir) {
  struct uv_dir *d = (struct uv_dir *)dir;
  d->work.data = d;
  int rc = uv_queue_work(&d->uv->loop, &d->work, work, after_work);
  HOLT_ASSERT(rc == 0); /* fails without a work function only */
}

void holt__uv_close_dirs(struct holt_uv *uv) {
  HOLT_LIST_EACH(&uv->env.dirs, node, next) {
    struct holt_dir *dir = HOLT_CONTAINER(node, struct holt_dir, node);
    ((struct uv_dir *)dir)->is_silent = true;
    if (dir->running == NULL) holt__dir_free(dir);
  }
}

/* --- At once -------------------------------------------------------------------------------------- */

static int size_of(struct holt_dir *dir, const char *name, uint64_t *size_bytes, struct holt_err *err) {
  struct stat info;
  if (fstatat(((struct uv_dir *)dir)->fd, name, &info, 0) != 0)
    return holt_err_set(err, code_of(errno), "cannot look at %s/%s: %s", dir->path, name, strerror(errno));
  *size_bytes = (uint64_t)info.st_size;
  return 0;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One piece of memory: the pointers, then the texts, which stand in `texts` one after another. */
static char **make_list(const struct holt_writer *texts, size_t count) {
  char **names = holt_alloc((count + 1) * sizeof *names + texts->len);
  char *at = (char *)(names + count + 1);
  if (texts->len > 0) memcpy(at, texts->data, texts->len);
  for (size_t i = 0; i < count; i++) {
    names[i] = at;
    at += strlen(at) + 1;
  }
  qsort(names, count, sizeof *names, by_text);
  return names;
}

static int list(struct holt_dir *dir, char ***names, size_t *count, struct holt_err *err) {
  int fd = openat(((struct uv_dir *)dir)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *stream = fd < 0 ? NULL : fdopendir(fd);
  if (stream == NULL) {
    int error = errno;
    if (fd >= 0) close(fd);
    return holt_err_set(err, code_of(error), "cannot list %s: %s", dir->path, strerror(error));
  }
  struct holt_writer texts = {0};
  const struct dirent *entry;
  *count = 0;
  for (errno = 0; (entry = readdir(stream)) != NULL; errno = 0) {
    if (entry->d_name[0] == '.') continue;
    holt_write_bytes(&texts, entry->d_name, strlen(entry->d_name) + 1);
    (*count)++;
  }
  int error = errno;
  closedir(stream);
  if (error == 0) *names = make_list(&texts, *count);
  holt_writer_free(&texts);
  return error == 0 ? 0 : holt_err_set(err, code_of(error), "cannot list %s: %s", dir->path, strerror(error));
}

/* --- Life ----------------------------------------------------------------------------------------- */

static void free_dir(struct holt_dir *dir) {
  struct uv_dir *d = (struct uv_dir *)dir;
  close_file(d);
  close(d->fd);
  d->uv->open.dirs--;
  free(d);
}

static const struct holt_dir_ops dir_ops = {
    .list = list, .size = size_of, .run = run_now, .start = start, .free = free_dir};

/* A new name lasts once its directory is synced. */
static int sync_parent(const char *path) {
  char parent[4096];
  const char *slash = strrchr(path, '/');
  snprintf(parent, sizeof parent, "%.*s",
           slash == NULL   ? 1
           : slash == path ? 1
                           : (int)(slash - path),
           slash == NULL ? "." : path);
  int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  return error;
}

static int make_dirs(const char *path) {
  char part[4096];
  size_t len = strlen(path);
  if (len == 0 || len >= sizeof part) return ENAMETOOLONG;
  for (size_t i = 1; i <= len; i++) {
    if (path[i] != '/' && path[i] != '\0') continue;
    memcpy(part, path, i);
    part[i] = '\0';
    if (mkdir(part, 0700) == 0) {
      int error = sync_parent(part);
      if (error != 0) return error;
    } else if (errno != EEXIST) {
      return errno;
    }
  }
  return 0;
}

int holt__uv_dir_open(struct holt_env *env, const char *path, struct holt_dir **out, struct holt_err *err) {
  struct holt_uv *uv = (struct holt_uv *)env;
  int error = make_dirs(path);
  int fd = error != 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (error == 0 && fd < 0) error = errno;
  if (error != 0)
    return holt_err_set(err, code_of(error),
                        "cannot open the folder '%s': %s; make way for it, or give another one", path,
                        strerror(error));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    error = errno;
    close(fd);
    if (error == EWOULDBLOCK)
      return holt_err_set(
          err, HOLT_ELOCKED,
          "the folder '%s' is in use by another process; stop that one, or give another folder", path);
    return holt_err_set(err, code_of(error), "cannot lock the folder '%s': %s", path, strerror(error));
  }
  struct uv_dir *d = holt_alloc(sizeof *d);
  d->uv = uv;
  d->fd = fd;
  d->file = -1;
  holt__dir_init(&d->dir, env, &dir_ops, path);
  uv->open.dirs++;
  *out = &d->dir;
  return 0;
}
