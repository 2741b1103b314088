/* The index: authors, their chains, which tips are heads. */
#include "dag/dag.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "dag/dag_impl.h"

void holt_dag_options_default(struct holt_dag_options *options) {
  *options = (struct holt_dag_options){
      .chains_max = 1000000, .branches_max = 64, .pen_runs = 1024, .pen_bytes = 16u << 20};
  holt_dag_limits_default(&options->limits);
}

struct holt_dag *holt_dag_new(const struct holt_dag_options *options) {
  struct holt_dag *dag = holt_alloc(sizeof *dag);
  dag->options = *options;
  dag->first_head = dag->first_changed = dag->last_changed = HOLT__DAG_NONE;
  holt_list_init(&dag->pen);
  holt_list_init(&dag->done);
  if (options->author_count) {
    dag->allowed = holt_alloc(options->author_count * HOLT_DAG_KEY);
    memcpy(dag->allowed, options->authors, options->author_count * HOLT_DAG_KEY);
  }
  dag->options.authors = NULL;
  return dag;
}

void holt_dag_free(struct holt_dag *dag) {
  if (dag == NULL) return;
  holt__dag_pen_free(dag, &dag->pen);
  holt__dag_pen_free(dag, &dag->done);
  holt__dag_told_free(dag);
  holt_map_free(&dag->by_key);
  holt_map_free(&dag->barred);
  free(dag->authors);
  free(dag->chains);
  free(dag->admitted);
  free(dag->evicted);
  free(dag->parents);
  free(dag->allowed);
  free(dag);
}

const struct holt_dag_limits *holt_dag_limits(const struct holt_dag *dag) {
  return &dag->options.limits;
}

bool holt__dag_is_allowed(const struct holt_dag *dag, const uint8_t *directory) {
  if (dag->options.author_count == 0) return true;
  for (size_t i = 0; i < dag->options.author_count; i++)
    if (memcmp(dag->allowed + i * HOLT_DAG_KEY, directory, HOLT_DAG_KEY) == 0) return true;
  return false;
}

/* --- Authors ---------------------------------------------------------------------------------------- */

static uint64_t key_hash(const uint8_t *key) {
  return holt_hash_bytes(0, key, HOLT_DAG_KEY);
}

/* Numbers of authors are kept as pointers: number + 1, so that none is NULL. */
static uint32_t first_of(const struct holt_dag *dag, uint64_t hash) {
  uintptr_t value = (uintptr_t)holt_map_get(&dag->by_key, hash);
  return value ? (uint32_t)(value - 1) : HOLT__DAG_NONE;
}

uint32_t holt__dag_author_of(const struct holt_dag *dag, const uint8_t *key) {
  uint32_t a = first_of(dag, key_hash(key));
  while (a != HOLT__DAG_NONE && memcmp(dag->authors[a].key, key, HOLT_DAG_KEY) != 0) a = dag->authors[a].same;
  return a;
}

uint32_t holt__dag_author_add(struct holt_dag *dag, const uint8_t *key) {
  if (dag->author_count == dag->author_cap) {
    dag->author_cap = dag->author_cap ? dag->author_cap * 2 : 16;
    dag->authors = holt_realloc(dag->authors, dag->author_cap * sizeof *dag->authors);
  }
  uint32_t id = dag->author_count++;
  struct holt__dag_author *a = &dag->authors[id];
  *a = (struct holt__dag_author){.chain = HOLT__DAG_NONE, .last_chain = HOLT__DAG_NONE};
  memcpy(a->key, key, HOLT_DAG_KEY);
  a->same = first_of(dag, key_hash(key));
  holt_map_set(&dag->by_key, key_hash(key),
               (void *)((uintptr_t)id + 1)); /* NOLINT(performance-no-int-to-ptr) */
  holt__dag_changed(dag, id);
  return id;
}

void holt__dag_changed(struct holt_dag *dag, uint32_t author) {
  struct holt__dag_author *a = &dag->authors[author];
  if (a->is_changed) return;
  a->is_changed = true;
  a->next_changed = HOLT__DAG_NONE;
  if (dag->last_changed == HOLT__DAG_NONE) {
    dag->first_changed = author;
  } else {
    dag->authors[dag->last_changed].next_changed = author;
  }
  dag->last_changed = author;
}

bool holt_dag_next_changed(struct holt_dag *dag, uint32_t *author) {
  if (dag->first_changed == HOLT__DAG_NONE) return false;
  struct holt__dag_author *a = &dag->authors[ *author = dag->first_changed];
  dag->first_changed = a->next_changed;
  if (dag->first_changed == HOLT__DAG_NONE) dag->last_changed = HOLT__DAG_NONE;
  a->is_changed = false;
  return true;
}

/* --- Chains and heads ------------------------------------------------------------------------------- */

void holt__dag_chain_at(struct holt_dag *dag, uint32_t id, uint32_t author, uint64_t first, uint32_t base) {
  if (id >= dag->chain_cap) {
    uint32_t old = dag->chain_cap;
    while (id >= dag->chain_cap) dag->chain_cap = dag->chain_cap ? dag->chain_cap * 2 : 16;
    dag->chains = holt_realloc(dag->chains, dag->chain_cap * sizeof *dag->chains);
    memset(dag->chains + old, 0, (dag->chain_cap - old) * sizeof *dag->chains);
  }
  if (id >= dag->chain_count) dag->chain_count = id + 1;
  struct holt__dag_author *a = &dag->authors[author];
  dag->chains[id] =
      (struct holt__dag_chain){.author = author, .next = HOLT__DAG_NONE, .base = base, .first = first};
  if (a->last_chain == HOLT__DAG_NONE) {
    a->chain = id;
  } else {
    dag->chains[a->last_chain].next = id;
  }
  a->last_chain = id;
  a->chain_count++;
}

bool holt__dag_is_full_of(const struct holt_dag *dag, uint32_t author) {
  return dag->authors[author].chain_count >= dag->options.branches_max;
}

bool holt__dag_is_buried(const struct holt_dag *dag, uint32_t chain) {
  const struct holt__dag_chain *c = &dag->chains[chain];
  return c->tip < dag->authors[c->author].horizon;
}

static void head_link(struct holt_dag *dag, uint32_t id) {
  struct holt__dag_chain *c = &dag->chains[id];
  c->is_head = true;
  c->head_prev = HOLT__DAG_NONE;
  c->head_next = dag->first_head;
  if (dag->first_head != HOLT__DAG_NONE) dag->chains[dag->first_head].head_prev = id;
  dag->first_head = id;
  dag->head_count++;
}

static void head_unlink(struct holt_dag *dag, uint32_t id) {
  struct holt__dag_chain *c = &dag->chains[id];
  c->is_head = false;
  if (c->head_prev == HOLT__DAG_NONE) {
    dag->first_head = c->head_next;
  } else {
    dag->chains[c->head_prev].head_next = c->head_next;
  }
  if (c->head_next != HOLT__DAG_NONE) dag->chains[c->head_next].head_prev = c->head_prev;
  dag->head_count--;
}

void holt__dag_head_update(struct holt_dag *dag, uint32_t chain) {
  const struct holt__dag_chain *c = &dag->chains[chain];
  bool is_head = c->cited < c->tip && !holt__dag_is_buried(dag, chain);
  if (is_head && !c->is_head) head_link(dag, chain);
  if (!is_head && c->is_head) head_unlink(dag, chain);
}

void holt__dag_review(struct holt_dag *dag, uint32_t author) {
  struct holt__dag_author *a = &dag->authors[author];
  a->live = 0;
  for (uint32_t id = a->chain; id != HOLT__DAG_NONE; id = dag->chains[id].next) {
    a->live += !holt__dag_is_buried(dag, id);
    holt__dag_head_update(dag, id);
  }
}

static int by_author(const void *a, const void *b) {
  return memcmp(((const struct holt_dag_ref *)a)->author, ((const struct holt_dag_ref *)b)->author,
                HOLT_DAG_KEY);
}

size_t holt_dag_heads(const struct holt_dag *dag, const uint8_t *self,
                      struct holt_dag_ref out[HOLT_DAG_PARENTS_MAX]) {
  uint32_t own = self ? holt__dag_author_of(dag, self) : HOLT__DAG_NONE;
  uint32_t authors[HOLT_DAG_PARENTS_MAX];
  size_t count = 0;
  for (uint32_t id = dag->first_head; id != HOLT__DAG_NONE; id = dag->chains[id].head_next) {
    const struct holt__dag_chain *c = &dag->chains[id];
    bool is_named = c->author == own;
    for (size_t i = 0; i < count && !is_named; i++) is_named = authors[i] == c->author;
    if (is_named) continue;
    if (count == HOLT_DAG_PARENTS_MAX) break;
    authors[count] = c->author;
    memcpy(out[count].author, dag->authors[c->author].key, HOLT_DAG_KEY);
    out[count].number = c->tip;
    memcpy(out[count].hash, c->tip_hash, HOLT_DAG_HASH);
    count++;
  }
  qsort(out, count, sizeof *out, by_author);
  return count;
}

/* --- Entries by number ------------------------------------------------------------------------------ */

/* What this offer has admitted so far is not in the store yet. */
static const uint8_t *fresh_hash(const struct holt_dag *dag, uint32_t chain, uint64_t number) {
  for (size_t i = dag->is_offering ? dag->admitted_count : 0; i-- > 0;) {
    const struct holt_dag_admitted *a = &dag->admitted[i];
    if (a->chain == chain && number >= a->first && number - a->first < a->count)
      return a->run->items[a->skip + (number - a->first)].hash;
  }
  return NULL;
}

int holt__dag_hash_of(const struct holt_dag *dag, uint32_t chain, uint64_t number, uint8_t *out) {
  const struct holt__dag_chain *c = &dag->chains[chain];
  HOLT_ASSERT(number >= c->first && number <= c->tip);
  const uint8_t *fresh = number == c->tip ? c->tip_hash : fresh_hash(dag, chain, number);
  if (fresh == NULL) return dag->options.hash_at(dag->options.arg, chain, number, out);
  memcpy(out, fresh, HOLT_DAG_HASH);
  return 0;
}

int holt__dag_find_in(const struct holt_dag *dag, uint32_t author, uint64_t number, const uint8_t *hash,
                      uint32_t *chain) {
  const struct holt__dag_author *a = &dag->authors[author];
  for (uint32_t id = a->chain; id != HOLT__DAG_NONE; id = dag->chains[id].next) {
    const struct holt__dag_chain *c = &dag->chains[id];
    uint8_t here[HOLT_DAG_HASH];
    if (number < c->first || number > c->tip) continue;
    if (number < c->tip && number <= a->horizon) continue;
    int rc = holt__dag_hash_of(dag, id, number, here);
    if (rc) return rc;
    if (memcmp(here, hash, HOLT_DAG_HASH) != 0) continue;
    *chain = id;
    return 0;
  }
  return HOLT_ENOTFOUND;
}

/* --- Looking ---------------------------------------------------------------------------------------- */

uint32_t holt_dag_author_count(const struct holt_dag *dag) {
  return dag->author_count;
}

uint32_t holt_dag_chain_count(const struct holt_dag *dag) {
  return dag->chain_count;
}

void holt_dag_author(const struct holt_dag *dag, uint32_t author, struct holt_dag_author *out) {
  HOLT_ASSERT(author < dag->author_count);
  const struct holt__dag_author *a = &dag->authors[author];
  *out = (struct holt_dag_author){.horizon = a->horizon,
                                  .excused = a->excused,
                                  .chain = a->chain,
                                  .chain_count = a->chain_count,
                                  .is_forked = a->is_forked};
  memcpy(out->key, a->key, HOLT_DAG_KEY);
  memcpy(out->directory, a->directory, HOLT_DAG_KEY);
  memcpy(out->horizon_hash, a->horizon_hash, HOLT_DAG_HASH);
  memcpy(out->excused_hash, a->excused_hash, HOLT_DAG_HASH);
}

void holt_dag_chain(const struct holt_dag *dag, uint32_t chain, struct holt_dag_chain *out) {
  HOLT_ASSERT(chain < dag->chain_count);
  const struct holt__dag_chain *c = &dag->chains[chain];
  *out = (struct holt_dag_chain){.author = c->author,
                                 .next = c->next,
                                 .first = c->first,
                                 .tip = c->tip,
                                 .base = c->base,
                                 .is_head = c->is_head,
                                 .is_buried = holt__dag_is_buried(dag, chain)};
  memcpy(out->tip_hash, c->tip_hash, HOLT_DAG_HASH);
}

int holt_dag_author_find(const struct holt_dag *dag, const uint8_t key[HOLT_DAG_KEY], uint32_t *author) {
  *author = holt__dag_author_of(dag, key);
  return *author == HOLT__DAG_NONE ? HOLT_ENOTFOUND : 0;
}

int holt_dag_find(const struct holt_dag *dag, const struct holt_dag_ref *ref, uint32_t *chain) {
  uint32_t author = holt__dag_author_of(dag, ref->author);
  if (author == HOLT__DAG_NONE) return HOLT_ENOTFOUND;
  return holt__dag_find_in(dag, author, ref->number, ref->hash, chain);
}

int holt_dag_fork(const struct holt_dag *dag, uint32_t chain, struct holt_dag_ref *first,
                  struct holt_dag_ref *second) {
  HOLT_ASSERT(chain < dag->chain_count);
  const struct holt__dag_chain *c = &dag->chains[chain];
  const struct holt__dag_author *a = &dag->authors[c->author];
  uint32_t base = c->base;
  if (base == HOLT__DAG_NONE && c->first == 1 && a->chain != chain) base = a->chain; /* a second opening */
  if (base == HOLT__DAG_NONE || (c->first <= a->horizon && c->first > 1)) return HOLT_ENOTFOUND;
  memcpy(first->author, a->key, HOLT_DAG_KEY);
  memcpy(second->author, a->key, HOLT_DAG_KEY);
  first->number = second->number = c->first;
  int rc = holt__dag_hash_of(dag, chain, c->first, first->hash);
  return rc ? rc : holt__dag_hash_of(dag, base, c->first, second->hash);
}

void holt_dag_status(const struct holt_dag *dag, struct holt_dag_status *out) {
  *out = dag->status;
  out->authors = dag->author_count;
  out->chains = dag->chain_count;
  out->heads = dag->head_count;
  out->pen_runs = dag->pen_runs;
  out->pen_bytes = dag->pen_bytes;
  out->forked = 0;
  for (uint32_t i = 0; i < dag->author_count; i++) out->forked += dag->authors[i].is_forked;
}
