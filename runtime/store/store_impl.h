/* store_impl.h - what a store provides. Only for store/ itself. */
#ifndef HOLT_STORE_STORE_IMPL_H
#define HOLT_STORE_STORE_IMPL_H

#include "store/store.h"

struct holt_store_ops {
  void (*close)(struct holt_store *store, void (*closed)(void *arg), void *arg);
  void (*forget)(struct holt_store *store);
  const struct holt_wal_state *(*state)(const struct holt_store *store);
  int (*restore)(struct holt_store *store, struct holt_wal_restored *out, struct holt_err *err);
  int (*write)(struct holt_store *store, const struct holt_raft_persist *persist);
  int (*drop)(struct holt_store *store, uint64_t index);
  void (*read)(struct holt_store *store, uint64_t first, uint64_t last, size_t max_bytes,
               holt_store_read_cb cb, void *arg);
};

/* First member of each kind's own struct. */
struct holt_store {
  const struct holt_store_ops *ops;
  struct holt_env *env;
  void (*saved)(void *arg, uint64_t seq, int status);
  void *arg;
};

#endif /* HOLT_STORE_STORE_IMPL_H */
