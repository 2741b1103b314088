/* Horizons: those that others told, and the own. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "dag/dag_impl.h"

enum { TOLD_MAX = 65536 };

static uint64_t told_hash(uint64_t source, const uint8_t *key) {
  return holt_hash_bytes(holt_hash_u64(source), key, HOLT_DAG_KEY);
}

static struct holt__dag_told *told_find(const struct holt_dag *dag, uint64_t source, const uint8_t *key) {
  struct holt__dag_told *t = holt_map_get(&dag->told, told_hash(source, key));
  while (t && (t->source != source || memcmp(t->ref.author, key, HOLT_DAG_KEY) != 0)) t = t->same;
  return t;
}

const struct holt_dag_ref *holt__dag_told_by(const struct holt_dag *dag, uint64_t source,
                                             const uint8_t *key) {
  const struct holt__dag_told *t = told_find(dag, source, key);
  return t ? &t->ref : NULL;
}

static int tell(struct holt_dag *dag, uint64_t source, const struct holt_dag_ref *ref) {
  struct holt__dag_told *t = told_find(dag, source, ref->author);
  if (t == NULL) {
    if (dag->told_count >= TOLD_MAX) return HOLT_EFULL;
    uint64_t hash = told_hash(source, ref->author);
    t = holt_alloc(sizeof *t);
    t->source = source;
    t->same = holt_map_get(&dag->told, hash);
    holt_map_set(&dag->told, hash, t);
    dag->told_count++;
  }
  t->ref = *ref;
  return 0;
}

static int tell_all(struct holt_dag *dag, const struct holt_dag_horizon *horizon, uint64_t source) {
  for (uint32_t i = 0; i < horizon->ref_count; i++) {
    struct holt_dag_ref ref;
    holt_dag_ref_read(horizon->refs + (size_t)i * HOLT_DAG_REF, &ref);
    int rc = tell(dag, source, &ref);
    if (rc) return rc;
  }
  return 0;
}

int holt_dag_horizon_told(struct holt_dag *dag, const struct holt_dag_horizon *horizon, uint64_t source,
                          struct holt_dag_result *result) {
  bool is_allowed = holt__dag_is_allowed(dag, horizon->directory);
  int rc = is_allowed ? tell_all(dag, horizon, source) : HOLT_EPERMISSION;
  holt__dag_look_again(dag, source, result);
  return rc;
}

bool holt_dag_horizon_ref(const struct holt_dag *dag, uint32_t author, struct holt_dag_ref *out) {
  HOLT_ASSERT(author < dag->author_count);
  const struct holt__dag_author *a = &dag->authors[author];
  uint64_t tip = 0;
  for (uint32_t id = a->chain; id != HOLT__DAG_NONE; id = dag->chains[id].next)
    if (dag->chains[id].tip > tip) tip = dag->chains[id].tip;
  bool is_excused = a->excused > tip; /* nothing that is here comes behind it */
  if (!is_excused && a->horizon == 0) return false;
  memcpy(out->author, a->key, HOLT_DAG_KEY);
  out->number = is_excused ? a->excused : a->horizon;
  memcpy(out->hash, is_excused ? a->excused_hash : a->horizon_hash, HOLT_DAG_HASH);
  return true;
}

/* Frees those of one source, or all; what stays is put into a new map. */
static void told_drop(struct holt_dag *dag, const uint64_t *source) {
  struct holt_map old = dag->told;
  size_t cursor = 0;
  uint64_t hash;
  void *value;
  dag->told = (struct holt_map){0};
  dag->told_count = 0;
  while (holt_map_next(&old, &cursor, &hash, &value))
    for (struct holt__dag_told *t = value, *same; t; t = same) {
      same = t->same;
      if (source == NULL || t->source == *source) {
        free(t);
        continue;
      }
      t->same = holt_map_get(&dag->told, hash);
      holt_map_set(&dag->told, hash, t);
      dag->told_count++;
    }
  holt_map_free(&old);
}

void holt__dag_told_free(struct holt_dag *dag) {
  told_drop(dag, NULL);
}

void holt_dag_source_gone(struct holt_dag *dag, uint64_t source) {
  holt_dag_ask_again(dag, source);
  told_drop(dag, &source);
}

void holt__dag_raise(struct holt_dag *dag, uint32_t author, uint64_t number, const uint8_t *hash) {
  struct holt__dag_author *a = &dag->authors[author];
  HOLT_ASSERT(number > a->horizon);
  a->horizon = number;
  dag->is_horizon_moved = true;
  memcpy(a->horizon_hash, hash, HOLT_DAG_HASH);
  holt__dag_review(dag, author);
  holt__dag_changed(dag, author);
}

int holt_dag_cut(struct holt_dag *dag, uint32_t chain, uint64_t number, struct holt_dag_ref *ref) {
  HOLT_ASSERT(chain < dag->chain_count);
  const struct holt__dag_chain *c = &dag->chains[chain];
  struct holt__dag_author *a = &dag->authors[c->author];
  if (number > c->tip || number <= a->horizon || number < c->first) return HOLT_EINVAL;
  int rc = holt__dag_hash_of(dag, chain, number, ref->hash);
  if (rc) return rc;
  memcpy(ref->author, a->key, HOLT_DAG_KEY);
  ref->number = number;
  holt__dag_raise(dag, c->author, number, ref->hash);
  return 0;
}
