/* transport.c - finding a transport by name. */
#include "transport/transport.h"

#include <string.h>

static const char *const names[] = {"tcp", "unix", "memory", NULL};

const char *const *holt_transport_names(void) {
  return names;
}

struct holt_transport *holt_transport_by_name(struct holt_env *env, const char *name) {
  if (strcmp(name, "tcp") == 0) return holt_transport_tcp(env);
  if (strcmp(name, "unix") == 0) return holt_transport_unix(env);
  if (strcmp(name, "memory") == 0) return holt_transport_memory(env);
  return NULL;
}

void holt_transport_free(struct holt_transport *transport) {
  if (transport != NULL) transport->ops->free(transport);
}
