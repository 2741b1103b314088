/* memory.c - a store that answers like the one on disk and keeps nothing: state in numbers, no entries. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/store_impl.h"

struct memory_store {
  struct holt_store store;
  struct holt_wal_state state, next; /* told to be durable; once the post has run */
  uint64_t seq;
  struct holt_post tell, refuse, end;
  struct holt_list reads;
  void (*closed)(void *arg);
  void *closed_arg;
};

struct refusal {
  struct holt_list node;
  holt_store_read_cb cb;
  void *arg;
};

static void tell(void *arg) {
  struct memory_store *m = arg;
  m->state = m->next;
  if (m->store.saved != NULL) m->store.saved(m->store.arg, m->seq, 0);
}

static int write_persist(struct holt_store *store, const struct holt_raft_persist *persist) {
  struct memory_store *m = (struct memory_store *)store;
  struct holt_wal_state *next = &m->next;
  if (persist->count > 0) {
    uint64_t last = persist->is_reset ? persist->snapshot->index : next->last;
    if (persist->truncate_from != 0 && persist->truncate_from <= last) last = persist->truncate_from - 1;
    if (persist->entries[0].index != last + 1) return HOLT_EINVAL;
  }
  if (persist->has_vote) {
    next->term = persist->term;
    next->vote = persist->vote;
  }
  if (persist->snapshot != NULL) next->snapshot = *persist->snapshot;
  if (persist->is_reset) {
    HOLT_ASSERT(persist->snapshot != NULL);
    next->last = persist->snapshot->index;
    next->last_term = persist->snapshot->term;
  }
  if (persist->truncate_from != 0 && persist->truncate_from <= next->last) {
    next->last = persist->truncate_from - 1;
    next->last_term = 0; /* entries are not kept, nor are their terms */
  }
  if (persist->count > 0) {
    next->last = persist->entries[persist->count - 1].index;
    next->last_term = persist->entries[persist->count - 1].term;
  }
  next->first = next->last + 1; /* none can be read */
  m->seq = persist->seq;
  holt_env_post(store->env, &m->tell);
  return 0;
}

static int drop(struct holt_store *store, uint64_t index) {
  return index > ((struct memory_store *)store)->state.snapshot.index ? HOLT_EINVAL : 0;
}

static void refuse_all(struct memory_store *m, int status) {
  struct holt_list reads;
  holt_list_init(&reads);
  holt_list_move(&reads, &m->reads);
  for (struct holt_list *node = holt_list_shift(&reads); node != NULL; node = holt_list_shift(&reads)) {
    struct refusal *refusal = HOLT_CONTAINER(node, struct refusal, node);
    refusal->cb(refusal->arg, status, NULL, 0);
    free(refusal);
  }
}

static void refuse(void *arg) {
  refuse_all(arg, HOLT_ENOTFOUND);
}

static void read_entries(struct holt_store *store, uint64_t first, uint64_t last, size_t max_bytes,
                         holt_store_read_cb cb, void *arg) {
  struct memory_store *m = (struct memory_store *)store;
  struct refusal *refusal = holt_alloc(sizeof *refusal);
  (void)first, (void)last, (void)max_bytes;
  refusal->cb = cb;
  refusal->arg = arg;
  holt_list_push(&m->reads, &refusal->node);
  holt_env_post(store->env, &m->refuse);
}

static const struct holt_wal_state *state_of(const struct holt_store *store) {
  return &((const struct memory_store *)store)->state;
}

static int restore(struct holt_store *store, struct holt_wal_restored *out, struct holt_err *err) {
  (void)store, (void)err;
  *out = (struct holt_wal_restored){0};
  return 0;
}

static void end(void *arg) {
  struct memory_store *m = arg;
  void (*closed)(void *) = m->closed;
  void *closed_arg = m->closed_arg;
  refuse_all(m, HOLT_ECANCELED);
  free(m);
  if (closed != NULL) closed(closed_arg);
}

static void close_store(struct holt_store *store, void (*closed)(void *arg), void *arg) {
  struct memory_store *m = (struct memory_store *)store;
  holt_post_cancel(&m->tell);
  holt_post_cancel(&m->refuse);
  m->closed = closed;
  m->closed_arg = arg;
  holt_env_post(store->env, &m->end);
}

static void forget(struct holt_store *store) {
  struct memory_store *m = (struct memory_store *)store;
  HOLT_LIST_EACH(&m->reads, node, next) free(HOLT_CONTAINER(node, struct refusal, node));
  free(m);
}

static const struct holt_store_ops memory_ops = {.forget = forget,
                                                 .close = close_store,
                                                 .state = state_of,
                                                 .restore = restore,
                                                 .write = write_persist,
                                                 .drop = drop,
                                                 .read = read_entries};

int holt_store_open_memory(struct holt_env *env, const struct holt_store_options *options,
                           struct holt_store **out, struct holt_err *err) {
  if (options->cluster == 0 || options->self == 0)
    return holt_err_set(err, HOLT_EINVAL, "a store in memory needs to know whose it is");
  struct memory_store *m = holt_alloc(sizeof *m);
  m->store =
      (struct holt_store){.ops = &memory_ops, .env = env, .saved = options->saved, .arg = options->arg};
  m->state =
      (struct holt_wal_state){.cluster = options->cluster, .self = options->self, .boot = 1, .first = 1};
  m->next = m->state;
  holt_post_init(&m->tell, tell, m);
  holt_post_init(&m->refuse, refuse, m);
  holt_post_init(&m->end, end, m);
  holt_list_init(&m->reads);
  *out = &m->store;
  return 0;
}
