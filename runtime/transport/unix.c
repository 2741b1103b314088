/* unix.c - Unix sockets: the env's own streams, addresses are paths, with or without "unix:" before them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "transport/transport_impl.h"

#define PREFIX "unix:"

/* "unix:PATH", cut when longer than the env would take anyway. */
static const char *full_address(const char *address, char out[256]) {
  bool has_prefix = strncmp(address, PREFIX, sizeof PREFIX - 1) == 0;
  snprintf(out, 256, "%s%s", has_prefix ? "" : PREFIX, address);
  return out;
}

static int unix_listen(struct holt_transport *transport, const char *address, holt_accept_cb cb, void *arg,
                       struct holt_transport_handle **out, char actual[128], struct holt_err *err) {
  char full[256];
  return holt__socket_listen(transport, full_address(address, full), cb, arg, out, actual, err);
}

static struct holt_transport_handle *unix_dial(struct holt_transport *transport, const char *address,
                                               holt_dial_cb cb, void *arg) {
  char full[256];
  return holt__socket_dial(transport, full_address(address, full), cb, arg);
}

static bool always_local(const char *address) {
  (void)address;
  return true;
}

static const struct holt_transport_ops unix_ops = {.name = "unix",
                                                   .listen = unix_listen,
                                                   .dial = unix_dial,
                                                   .is_local = always_local,
                                                   .free = holt__socket_free};

struct holt_transport *holt_transport_unix(struct holt_env *env) {
  struct holt_transport *t = holt_alloc(sizeof *t);
  *t = (struct holt_transport){.ops = &unix_ops, .env = env};
  return t;
}
