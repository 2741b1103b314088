/* tcp.c - TCP: the env's own streams, addresses "host:port". */
#include <stdlib.h>

#include "base/mem.h"
#include "transport/transport_impl.h"

struct socket_handle {
  struct holt_transport_handle handle;
  struct holt_listener *listener; /* one of the two */
  struct holt_dial *dial;
  holt_dial_cb cb;
  void *arg;
};

static void handle_close(struct holt_transport_handle *handle) {
  struct socket_handle *h = (struct socket_handle *)handle;
  if (h->listener != NULL) holt_listener_close(h->listener);
  if (h->dial != NULL) holt_dial_cancel(h->dial);
  free(h);
}

int holt__socket_listen(struct holt_transport *transport, const char *address, holt_accept_cb cb, void *arg,
                        struct holt_transport_handle **out, char actual[128], struct holt_err *err) {
  struct socket_handle *h = holt_alloc(sizeof *h);
  h->handle.close = handle_close;
  int rc = holt_env_listen(transport->env, address, cb, arg, &h->listener, actual, err);
  if (rc != 0) {
    free(h);
    return rc;
  }
  *out = &h->handle;
  return 0;
}

static void on_dialled(void *arg, struct holt_stream *stream, const struct holt_err *err) {
  struct socket_handle *h = arg;
  holt_dial_cb cb = h->cb;
  void *cb_arg = h->arg;
  free(h);
  cb(cb_arg, stream, err);
}

struct holt_transport_handle *holt__socket_dial(struct holt_transport *transport, const char *address,
                                                holt_dial_cb cb, void *arg) {
  struct socket_handle *h = holt_alloc(sizeof *h);
  *h = (struct socket_handle){.handle.close = handle_close, .cb = cb, .arg = arg};
  h->dial = holt_env_dial(transport->env, address, on_dialled, h);
  return &h->handle;
}

void holt__socket_free(struct holt_transport *transport) {
  free(transport);
}

static const struct holt_transport_ops tcp_ops = {.name = "tcp",
                                                  .listen = holt__socket_listen,
                                                  .dial = holt__socket_dial,
                                                  .is_local = holt_address_is_local,
                                                  .free = holt__socket_free};

struct holt_transport *holt_transport_tcp(struct holt_env *env) {
  struct holt_transport *t = holt_alloc(sizeof *t);
  *t = (struct holt_transport){.ops = &tcp_ops, .env = env};
  return t;
}
