/* transport.h - ways to reach another node: one vtable for TCP, memory, and later TLS and those written in
 * Lua.
 *
 * A transport turns addresses into streams (env/env.h). TCP stands directly on the env; `memory` joins nodes
 * of one process without a socket. */
#ifndef HOLT_TRANSPORT_TRANSPORT_H
#define HOLT_TRANSPORT_TRANSPORT_H

#include "env/env.h"

struct holt_transport;

/* What a transport's listen and dial return; freed by its own `close`, which stops further callbacks. */
struct holt_transport_handle {
  void (*close)(struct holt_transport_handle *handle);
};

struct holt_transport_ops {
  const char *name;
  int (*listen)(struct holt_transport *transport, const char *address, holt_accept_cb cb, void *arg,
                struct holt_transport_handle **out, char actual[128], struct holt_err *err);
  /* Every failure arrives in `cb`, on a later turn; the handle is gone once `cb` has run. */
  struct holt_transport_handle *(*dial)(struct holt_transport *transport, const char *address,
                                        holt_dial_cb cb, void *arg);
  /* Whether only this machine can reach `address`. */
  bool (*is_local)(const char *address);
  void (*free)(struct holt_transport *transport);
};

struct holt_transport {
  const struct holt_transport_ops *ops;
  struct holt_env *env;
};

struct holt_transport *holt_transport_tcp(struct holt_env *env);
/* Unix sockets: an address is a path, with or without "unix:" before it. A socket that a dead process left is
 * replaced, one that somebody listens on is HOLT_EINUSE. */
struct holt_transport *holt_transport_unix(struct holt_env *env);
/* Nodes of one process and one env; an address is any text. */
struct holt_transport *holt_transport_memory(struct holt_env *env);
/* By name ("tcp", "unix", "memory"); NULL for a name that is none, see holt_transport_names. */
struct holt_transport *holt_transport_by_name(struct holt_env *env, const char *name);
/* The known names, NULL-terminated. */
const char *const *holt_transport_names(void);
void holt_transport_free(struct holt_transport *transport);

#endif /* HOLT_TRANSPORT_TRANSPORT_H */
