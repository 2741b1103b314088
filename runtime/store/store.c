/* store.c - the way into both kinds of store. */
#include "store/store.h"

#include "store/store_impl.h"

void holt_store_close(struct holt_store *store, void (*closed)(void *arg), void *arg) {
  store->ops->close(store, closed, arg);
}

void holt_store_forget(struct holt_store *store) {
  store->ops->forget(store);
}

const struct holt_wal_state *holt_store_state(const struct holt_store *store) {
  return store->ops->state(store);
}

int holt_store_restore(struct holt_store *store, struct holt_wal_restored *out, struct holt_err *err) {
  return store->ops->restore(store, out, err);
}

int holt_store_write(struct holt_store *store, const struct holt_raft_persist *persist) {
  return store->ops->write(store, persist);
}

int holt_store_drop(struct holt_store *store, uint64_t index) {
  return store->ops->drop(store, index);
}

void holt_store_read(struct holt_store *store, uint64_t first, uint64_t last, size_t max_bytes,
                     holt_store_read_cb cb, void *arg) {
  store->ops->read(store, first, last, max_bytes, cb, arg);
}
