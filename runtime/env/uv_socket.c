/* uv_socket.c - listening and dialling: TCP by number or host name, and Unix sockets.
 *
 * - listen: resolve (synchronously: it happens at start), bind, listen; each connection is accepted and
 * handed over.
 * - dial: resolve in libuv's pool, then try each address in turn until one answers; the last failure is told.
 * - cancel: the callback does not run; memory is freed when libuv has let go. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/uv_impl.h"

struct uv_listener {
  struct holt_listener listener;
  struct holt_uv *uv;
  struct holt_list node;
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } h;
  bool is_unix;
  holt_accept_cb cb;
  void *arg;
};

static void name_of(const struct sockaddr *address, char out[128]) {
  char ip[64] = "?";
  if (address->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    uv_ip6_name(in6, ip, sizeof ip);
    snprintf(out, 128, "[%s]:%u", ip, ntohs(in6->sin6_port));
  } else {
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
    uv_ip4_name(in4, ip, sizeof ip);
    snprintf(out, 128, "%s:%u", ip, ntohs(in4->sin_port));
  }
}

/* TCP without delay, and the other end's name for people. */
static void prepare_tcp(struct holt_uv_stream *s) {
  struct sockaddr_storage remote;
  int len = sizeof remote;
  uv_tcp_nodelay(&s->h.tcp, 1);
  if (uv_tcp_getpeername(&s->h.tcp, (struct sockaddr *)&remote, &len) == 0)
    name_of((struct sockaddr *)&remote, s->stream.peer);
}

static int init_handle(struct holt_uv_stream *s, bool is_unix) {
  return is_unix ? uv_pipe_init(&s->uv->loop, &s->h.pipe, 0) : uv_tcp_init(&s->uv->loop, &s->h.tcp);
}

/* --- Listening ------------------------------------------------------------------------------------ */

static void on_connection(uv_stream_t *handle, int status) {
  struct uv_listener *l = handle->data;
  if (status != 0) return; /* out of descriptors: the connection waits in the backlog */
  struct holt_uv_stream *s = holt__uv_stream_new(l->uv);
  if (init_handle(s, l->is_unix) != 0) {
    free(s);
    return;
  }
  if (uv_accept(handle, &s->h.stream) != 0) {
    holt__uv_stream_discard(s);
    return;
  }
  if (l->is_unix)
    snprintf(s->stream.peer, sizeof s->stream.peer, "unix");
  else
    prepare_tcp(s);
  holt__uv_stream_open(s);
  l->cb(l->arg, &s->stream);
}

static void free_listener(uv_handle_t *handle) {
  free(handle->data);
}

void holt__uv_listener_close(struct holt_listener *listener) {
  struct uv_listener *l = (struct uv_listener *)listener;
  l->uv->open.listeners--;
  holt_list_remove(&l->node);
  uv_close(&l->h.handle, free_listener);
}

/* 1: somebody listens there; 0: it is a socket that nobody listens on; HOLT_EINUSE: it is no socket, or
 * cannot be asked. */
static int is_live_socket(const char *path) {
  struct stat info;
  if (lstat(path, &info) != 0 || !S_ISSOCK(info.st_mode)) return HOLT_EINUSE;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, path, strlen(path) + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return HOLT_EINUSE;
  int rc = connect(fd, (struct sockaddr *)&address, sizeof address);
  int why = errno;
  close(fd);
  if (rc == 0 || why == EAGAIN) return 1; /* EAGAIN: it lives and has many callers waiting */
  return why == ECONNREFUSED ? 0 : HOLT_EINUSE;
}

/* libuv cuts a path that is too long, so it must not see one. */
static int check_path(const char *path, struct holt_err *err) {
  size_t max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
  if (strlen(path) > 0 && strlen(path) <= max) return 0;
  return holt_err_set(err, HOLT_EADDRESS,
                      "'unix:%.120s' is not an address: the path of a socket has 1 to %zu bytes", path, max);
}

static int bind_unix(struct uv_listener *l, const char *path, struct holt_err *err) {
  int rc = check_path(path, err);
  if (rc != 0) return rc;
  rc = uv_pipe_init(&l->uv->loop, &l->h.pipe, 0);
  if (rc == 0) rc = uv_pipe_bind(&l->h.pipe, path);
  if (rc == UV_EADDRINUSE) {
    int live = is_live_socket(path);
    if (live == 1)
      return holt_err_set(err, HOLT_EINUSE,
                          "cannot listen on unix:%s: a running program answers there; stop it or choose "
                          "another path",
                          path);
    if (live < 0)
      return holt_err_set(err, HOLT_EINUSE,
                          "cannot listen on unix:%s: something that is no dead socket is there; remove it or "
                          "choose another path",
                          path);
    rc =
        unlink(path) == 0 || errno == ENOENT ? uv_pipe_bind(&l->h.pipe, path) : uv_translate_sys_error(errno);
  }
  if (rc == 0) return 0;
  return holt_err_set(err, holt__uv_code(rc), "cannot listen on unix:%s: %s", path, uv_strerror(rc));
}

static int bind_tcp(struct uv_listener *l, const char *address, struct holt_err *err) {
  char host[128], service[8];
  uint16_t port;
  int rc = holt_address_split(address, host, &port, err);
  if (rc != 0) return rc;
  snprintf(service, sizeof service, "%u", port);
  uv_getaddrinfo_t request;
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
  rc = uv_getaddrinfo(&l->uv->loop, &request, NULL, host, service, &hints); /* no callback: it blocks */
  if (rc != 0)
    return holt_err_set(err, HOLT_EHOST, "cannot listen on %s: host '%s' is unknown (%s)", address, host,
                        uv_strerror(rc));
  rc = uv_tcp_init(&l->uv->loop, &l->h.tcp);
  if (rc == 0) rc = uv_tcp_bind(&l->h.tcp, request.addrinfo->ai_addr, 0);
  uv_freeaddrinfo(request.addrinfo);
  if (rc == 0) return 0;
  return holt_err_set(err, holt__uv_code(rc), "cannot listen on %s: %s", address, uv_strerror(rc));
}

int holt__uv_listen(struct holt_env *env, const char *address, holt_accept_cb cb, void *arg,
                    struct holt_listener **out, char actual[128], struct holt_err *err) {
  struct uv_listener *l = holt_alloc(sizeof *l);
  *l = (struct uv_listener){.listener.env = env, .uv = (struct holt_uv *)env, .cb = cb, .arg = arg};
  l->is_unix = strncmp(address, "unix:", 5) == 0;
  int rc = l->is_unix ? bind_unix(l, address + 5, err) : bind_tcp(l, address, err);
  if (rc == 0) {
    rc = uv_listen(&l->h.stream, 1024, on_connection);
    if (rc == UV_EADDRINUSE)
      rc = holt_err_set(err, HOLT_EINUSE,
                        "cannot listen on %s: another program listens there; stop it or choose another port",
                        address);
    else if (rc != 0)
      rc = holt_err_set(err, holt__uv_code(rc), "cannot listen on %s: %s", address, uv_strerror(rc));
  }
  l->h.handle.data = l;
  if (rc != 0) {
    if (l->h.handle.type != UV_UNKNOWN_HANDLE)
      uv_close(&l->h.handle, free_listener);
    else
      free(l);
    return rc;
  }
  if (actual != NULL) {
    snprintf(actual, 128, "%s", address);
    struct sockaddr_storage local;
    int len = sizeof local;
    if (!l->is_unix && uv_tcp_getsockname(&l->h.tcp, (struct sockaddr *)&local, &len) == 0)
      name_of((struct sockaddr *)&local, actual);
  }
  l->uv->open.listeners++;
  holt_list_push(&l->uv->listeners, &l->node);
  *out = &l->listener;
  return 0;
}

/* --- Dialling ------------------------------------------------------------------------------------- */

struct uv_dial {
  struct holt_dial dial;
  struct holt_uv *uv;
  struct holt_list node;
  char address[256];
  holt_dial_cb cb; /* NULL once cancelled or called */
  void *arg;
  struct holt_post start;
  struct holt_err err;
  uv_getaddrinfo_t resolve;
  struct addrinfo *found, *next;
  uv_connect_t connect;
  struct holt_uv_stream *stream; /* while connecting */
};

static void dial_finish(struct uv_dial *d, struct holt_uv_stream *s) {
  holt_dial_cb cb = d->cb;
  d->cb = NULL;
  if (s != NULL && cb == NULL) {
    holt__uv_stream_discard(s);
  } else if (s != NULL) {
    holt__uv_stream_open(s);
    cb(d->arg, &s->stream, NULL);
  } else if (cb != NULL) {
    cb(d->arg, NULL, &d->err);
  }
  if (d->found != NULL) uv_freeaddrinfo(d->found);
  holt_list_remove(&d->node);
  free(d);
}

static void dial_next(struct uv_dial *d);

static void on_connect(uv_connect_t *request, int status) {
  struct uv_dial *d = HOLT_CONTAINER(request, struct uv_dial, connect);
  struct holt_uv_stream *s = d->stream;
  holt__uv_end_turn(d->uv);
  d->stream = NULL;
  if (s == NULL) { /* cancelled: the stream is closing already */
    dial_finish(d, NULL);
    return;
  }
  if (status == 0) {
    if (s->h.handle.type == UV_TCP)
      prepare_tcp(s);
    else
      snprintf(s->stream.peer, sizeof s->stream.peer, "%.120s", d->address);
    dial_finish(d, s);
    return;
  }
  holt_err_set(&d->err, holt__uv_code(status), "cannot connect to %s: %s", d->address, uv_strerror(status));
  holt__uv_stream_discard(s);
  dial_next(d);
}

/* Try the next of the addresses found; when there is none left, tell the last failure. */
static void dial_next(struct uv_dial *d) {
  while (d->cb != NULL && d->next != NULL) {
    struct addrinfo *target = d->next;
    d->next = target->ai_next;
    struct holt_uv_stream *s = holt__uv_stream_new(d->uv);
    int rc = init_handle(s, false);
    if (rc != 0) {
      free(s);
      holt_err_set(&d->err, holt__uv_code(rc), "cannot connect to %s: %s", d->address, uv_strerror(rc));
      continue;
    }
    rc = uv_tcp_connect(&d->connect, &s->h.tcp, target->ai_addr, on_connect);
    if (rc == 0) {
      d->stream = s;
      return;
    }
    holt_err_set(&d->err, holt__uv_code(rc), "cannot connect to %s: %s", d->address, uv_strerror(rc));
    holt__uv_stream_discard(s);
  }
  dial_finish(d, NULL);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found) {
  struct uv_dial *d = HOLT_CONTAINER(request, struct uv_dial, resolve);
  d->found = d->next = found;
  if (status != 0)
    holt_err_set(&d->err, holt__uv_code(status), "cannot connect to %s: %s", d->address, uv_strerror(status));
  dial_next(d);
}

static void dial_unix(struct uv_dial *d) {
  if (check_path(d->address + 5, &d->err) != 0) {
    dial_finish(d, NULL);
    return;
  }
  struct holt_uv_stream *s = holt__uv_stream_new(d->uv);
  if (init_handle(s, true) != 0) {
    free(s);
    holt_err_set(&d->err, HOLT_EIO, "cannot connect to %s: out of descriptors", d->address);
    dial_finish(d, NULL);
    return;
  }
  d->stream = s;
  uv_pipe_connect(&d->connect, &s->h.pipe, d->address + 5, on_connect);
}

static void dial_start(void *arg) {
  struct uv_dial *d = arg;
  char host[128], service[8];
  uint16_t port;
  if (strncmp(d->address, "unix:", 5) == 0) {
    dial_unix(d);
    return;
  }
  if (holt_address_split(d->address, host, &port, &d->err) != 0) {
    dial_finish(d, NULL);
    return;
  }
  snprintf(service, sizeof service, "%u", port);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
  int rc = uv_getaddrinfo(&d->uv->loop, &d->resolve, on_resolved, host, service, &hints);
  if (rc == 0) return;
  holt_err_set(&d->err, holt__uv_code(rc), "cannot connect to %s: %s", d->address, uv_strerror(rc));
  dial_finish(d, NULL);
}

struct holt_dial *holt__uv_dial(struct holt_env *env, const char *address, holt_dial_cb cb, void *arg) {
  struct uv_dial *d = holt_alloc(sizeof *d);
  d->dial.env = env;
  d->uv = (struct holt_uv *)env;
  d->cb = cb;
  d->arg = arg;
  snprintf(d->address, sizeof d->address, "%s", address);
  holt_err_set(&d->err, HOLT_EUNREACHABLE, "cannot connect to %s: no address answered", d->address);
  holt_list_push(&d->uv->dials, &d->node);
  holt_post_init(&d->start, dial_start, d);
  holt_env_post(env, &d->start);
  return &d->dial;
}

void holt__uv_dial_cancel(struct holt_dial *dial) {
  struct uv_dial *d = (struct uv_dial *)dial;
  d->cb = NULL;
  if (!holt_list_is_empty(&d->start.node)) { /* not begun */
    holt_post_cancel(&d->start);
    dial_finish(d, NULL);
  } else if (d->stream != NULL) { /* connecting: on_connect comes with UV_ECANCELED and frees */
    holt__uv_stream_discard(d->stream);
    d->stream = NULL;
  } else {
    uv_cancel((uv_req_t *)&d->resolve); /* on_resolved comes either way */
  }
}

void holt__uv_close_sockets(struct holt_uv *uv) {
  HOLT_LIST_EACH(&uv->dials, node, next)
  holt__uv_dial_cancel(&HOLT_CONTAINER(node, struct uv_dial, node)->dial);
  HOLT_LIST_EACH(&uv->listeners, other, after)
  holt__uv_listener_close(&HOLT_CONTAINER(other, struct uv_listener, node)->listener);
}
