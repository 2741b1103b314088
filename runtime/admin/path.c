#include "admin/path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "admin/control.h"

int holt_control_default_path(const char *name, char out[HOLT_CONTROL_PATH_MAX + 1], struct holt_err *err) {
  if (strchr(name, '/') != NULL) {
    return holt_err_set(err, HOLT_EINVAL,
                        "the name '%.80s' cannot name a control socket; pass --control PATH", name);
  }
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  const char *temporary = getenv("TMPDIR");
  if (temporary == NULL || *temporary == '\0') temporary = "/tmp";
  int len = runtime != NULL && *runtime != '\0'
                ? snprintf(out, HOLT_CONTROL_PATH_MAX + 1, "%s/holt/%s.sock", runtime, name)
                : snprintf(out, HOLT_CONTROL_PATH_MAX + 1, "%s/holt-%u/%s.sock", temporary, getuid(), name);
  if (len > HOLT_CONTROL_PATH_MAX) {
    return holt_err_set(
        err, HOLT_EINVAL,
        "the control socket's path would have %d bytes and may have %d; pass a shorter one with "
        "--control PATH, or --control none",
        len, HOLT_CONTROL_PATH_MAX);
  }
  return 0;
}

/* The part of `path` before the last '/', "." when there is none. `path` has at most HOLT_CONTROL_PATH_MAX
 * bytes. */
static void folder_of(const char *path, char out[HOLT_CONTROL_PATH_MAX + 1]) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) {
    memcpy(out, ".", 2);
    return;
  }
  size_t len = slash == path ? 1 : (size_t)(slash - path);
  memcpy(out, path, len);
  out[len] = '\0';
}

static int check_folder(const char *folder, struct holt_err *err) {
  struct stat info;
  if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
    int code = errno == EACCES || errno == EPERM || errno == EROFS ? HOLT_EPERMISSION : HOLT_EIO;
    return holt_err_set(err, code,
                        "cannot make the control socket's folder %s: %s; make it, or pass --control PATH",
                        folder, strerror(errno));
  }
  if (lstat(folder, &info) != 0) {
    return holt_err_set(err, HOLT_EIO, "cannot look at the control socket's folder %s: %s", folder,
                        strerror(errno));
  }
  if (!S_ISDIR(info.st_mode)) {
    return holt_err_set(err, HOLT_EPERMISSION, "%s is no folder; pass another --control PATH", folder);
  }
  if (info.st_uid != getuid()) {
    return holt_err_set(
        err, HOLT_EPERMISSION,
        "the control socket's folder %s belongs to another user; pass --control PATH in a folder of "
        "your own",
        folder);
  }
  if ((info.st_mode & 077) != 0) {
    return holt_err_set(err, HOLT_EPERMISSION,
                        "the control socket's folder %s is open to other users; run: chmod 700 %s", folder,
                        folder);
  }
  return 0;
}

/* 1: somebody listens there, 0: nobody, or HOLT_EIO. */
static int is_live(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, path, strlen(path) + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return HOLT_EIO;
  int rc = connect(fd, (struct sockaddr *)&address, sizeof address);
  int why = errno;
  close(fd);
  if (rc == 0 || why == EAGAIN) return 1; /* EAGAIN: it lives and has many callers waiting */
  return why == ECONNREFUSED || why == ENOENT ? 0 : HOLT_EIO;
}

int holt__control_path_prepare(const char *path, struct holt_err *err) {
  char folder[HOLT_CONTROL_PATH_MAX + 1];
  struct stat info;
  size_t len = strlen(path);
  if (len == 0 || len > HOLT_CONTROL_PATH_MAX) {
    return holt_err_set(
        err, HOLT_EINVAL,
        "the control socket's path has %zu bytes and may have 1 to %d; pass a shorter one with "
        "--control PATH",
        len, HOLT_CONTROL_PATH_MAX);
  }
  folder_of(path, folder);
  int rc = check_folder(folder, err);
  if (rc != 0) return rc;
  if (lstat(path, &info) != 0) {
    return errno == ENOENT ? 0 : holt_err_set(err, HOLT_EIO, "cannot look at %s: %s", path, strerror(errno));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return holt_err_set(err, HOLT_EINUSE, "%s is there and is no socket; pass another --control PATH", path);
  }
  rc = is_live(path);
  if (rc == 1) {
    return holt_err_set(err, HOLT_EINUSE,
                        "a running node answers at %s; give this one another --name or --control PATH", path);
  }
  if (rc < 0)
    return holt_err_set(err, rc, "cannot tell whether a node answers at %s; remove it if none does", path);
  if (unlink(path) != 0 && errno != ENOENT) {
    return holt_err_set(err, HOLT_EIO, "cannot remove the dead socket %s: %s", path, strerror(errno));
  }
  return 0;
}
