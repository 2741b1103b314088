/* What becomes of a run:
 *
 *   - its author may write here, or it is refused;
 *   - where it joins: at the tip of one of its author's chains (as nearly always), within one (a fork),
 * behind a horizon; or what it follows is not here (the pen);
 *   - all its parents are here, or it goes into the pen;
 *   - it is admitted: tip, heads; then runs in the pen that waited for it are looked at again, and so on. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "dag/dag_impl.h"

enum { BARRED_MAX = 65536 };

/* Where a run, or what is new of it, joins. */
struct place {
  uint32_t author; /* HOLT__DAG_NONE: new */
  uint32_t chain;  /* whose tip it follows; HOLT__DAG_NONE: it begins one */
  uint32_t base;   /* of the one it begins */
  uint32_t skip;
  bool is_cut;
};

/* What was found out about a run. */
struct verdict {
  enum holt_dag_outcome outcome;
  enum holt_dag_reason reason;
  struct holt_dag_ref missing;
  bool is_again;
};

static bool refuse(struct verdict *v, enum holt_dag_reason reason) {
  v->outcome = HOLT_DAG_REFUSED;
  v->reason = reason;
  return false;
}

static bool lack(struct verdict *v, const struct holt_dag_ref *ref) {
  v->outcome = HOLT_DAG_PENNED;
  v->missing = *ref;
  return false;
}

static bool lack_prev(struct verdict *v, const struct holt_dag_run *run) {
  struct holt_dag_ref ref = {.number = run->first - 1};
  memcpy(ref.author, run->author, HOLT_DAG_KEY);
  memcpy(ref.hash, run->prev, HOLT_DAG_HASH);
  return lack(v, &ref);
}

static uint64_t last_of(const struct holt_dag_run *run) {
  return run->first + run->count - 1;
}

/* --- Who may not write ------------------------------------------------------------------------------ */

static bool is_barred(const struct holt_dag *dag, const uint8_t *key) {
  return holt_map_get(&dag->barred, holt_hash_bytes(1, key, HOLT_DAG_KEY)) != NULL;
}

/* When there are too many all are forgotten: they will be refused, and noted, again. */
static void bar(struct holt_dag *dag, const uint8_t *key) {
  if (dag->barred.count >= BARRED_MAX) holt_map_free(&dag->barred);
  holt_map_set(&dag->barred, holt_hash_bytes(1, key, HOLT_DAG_KEY), dag);
}

static bool may_write(struct holt_dag *dag, const struct holt_dag_run *run, uint32_t author,
                      struct verdict *v) {
  const uint8_t *directory = NULL;
  if (run->first == 1) directory = run->certificate->directory;
  if (directory == NULL && author != HOLT__DAG_NONE && dag->authors[author].has_opening)
    directory = dag->authors[author].directory;
  bool was_barred = is_barred(dag, run->author);
  v->is_again = was_barred && run->first == 1;
  if (directory == NULL) return was_barred ? refuse(v, HOLT_DAG_NOT_ALLOWED) : true;
  if (holt__dag_is_allowed(dag, directory)) return true;
  bar(dag, run->author);
  return refuse(v, HOLT_DAG_NOT_ALLOWED);
}

/* --- Where it joins --------------------------------------------------------------------------------- */

static int is_same_at(const struct holt_dag *dag, uint32_t chain, const struct holt_dag_run *run,
                      uint64_t number, bool *is_same) {
  uint8_t here[HOLT_DAG_HASH];
  int rc = holt__dag_hash_of(dag, chain, number, here);
  *is_same = rc == 0 && memcmp(here, run->items[number - run->first].hash, HOLT_DAG_HASH) == 0;
  return rc;
}

/* The last number of the run that chain `id` has too, or 0: what is the same at one number is the same below.
 */
static int common_with(const struct holt_dag *dag, uint32_t id, const struct holt_dag_run *run,
                       uint64_t *common) {
  const struct holt__dag_chain *c = &dag->chains[id];
  uint64_t horizon = dag->authors[c->author].horizon;
  uint64_t low = run->first > c->first ? run->first : c->first;
  uint64_t high = last_of(run) < c->tip ? last_of(run) : c->tip;
  bool is_same;
  *common = 0;
  if (low > high) return 0;
  if (low <= horizon)
    low = high == c->tip && high == horizon ? high : horizon + 1; /* a tip is known anyway */
  if (low > high) return 0;
  int rc = is_same_at(dag, id, run, high, &is_same);
  if (rc) return rc;
  if (is_same) {
    *common = high;
    return 0;
  }
  if (HOLT_BUG(12)) return 0;
  while (low < high) { /* different at `high`; all below `low` is the same, if *common says so */
    uint64_t middle = low + (high - low) / 2;
    rc = is_same_at(dag, id, run, middle, &is_same);
    if (rc) return rc;
    if (is_same) {
      *common = middle;
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return 0;
}

/* The chain, not buried, whose tip this is. */
static uint32_t chain_with_tip(const struct holt_dag *dag, uint32_t author, uint64_t number,
                               const uint8_t *hash) {
  uint32_t id = number < dag->authors[author].horizon ? HOLT__DAG_NONE : dag->authors[author].chain;
  for (; id != HOLT__DAG_NONE; id = dag->chains[id].next)
    if (dag->chains[id].tip == number &&
        (HOLT_BUG(9) || memcmp(dag->chains[id].tip_hash, hash, HOLT_DAG_HASH) == 0))
      break;
  return id;
}

/* Behind entry `number` of chain `id`: at its tip, or as a branch. */
static bool join(struct holt_dag *dag, struct place *p, uint32_t id, uint64_t number) {
  if (dag->chains[id].tip == number) {
    p->chain = id;
  } else {
    p->base = id;
  }
  return true;
}

/* Whether its source told that it has nothing before it any more: the horizon lies right before the run, or
 * within it (it moved while the run was on its way, or waited here). Either way author and teller name the
 * same. */
static bool is_cut_by(const struct holt_dag_ref *told, const struct holt_dag_run *run) {
  if (told == NULL || told->number < run->first - 1 || told->number >= last_of(run)) return false;
  const uint8_t *named = told->number < run->first ? run->prev : run->items[told->number - run->first].hash;
  return memcmp(told->hash, named, HOLT_DAG_HASH) == 0;
}

/* Nothing of the run is here: what comes before it? */
static bool place_behind_prev(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source,
                              struct place *p, struct verdict *v) {
  struct holt__dag_author *a = &dag->authors[p->author];
  uint32_t id;
  if (run->first == 1) return true; /* a second opening */
  if (run->first - 1 <= a->horizon) {
    p->skip = (uint32_t)(a->horizon + 1 - run->first);
    p->is_cut = true;
    return true;
  }
  int rc = holt__dag_find_in(dag, p->author, run->first - 1, run->prev, &id);
  if (rc == 0) return join(dag, p, id, run->first - 1);
  if (rc != HOLT_ENOTFOUND) return refuse(v, HOLT_DAG_STORE);
  if (!is_cut_by(holt__dag_told_by(dag, source, run->author), run))
    return holt__dag_is_full_of(dag, p->author) ? refuse(v, HOLT_DAG_BRANCHES) : lack_prev(v, run);
  p->is_cut = true;
  return true;
}

static bool find_place(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source, struct place *p,
                       struct verdict *v) {
  struct holt__dag_author *a = p->author == HOLT__DAG_NONE ? NULL : &dag->authors[p->author];
  if (a == NULL || !a->has_opening) return run->first == 1 ? true : lack_prev(v, run);
  p->chain = chain_with_tip(dag, p->author, run->first - 1, run->prev);
  if (p->chain != HOLT__DAG_NONE) return true;
  uint64_t best = 0;
  uint32_t best_chain = HOLT__DAG_NONE;
  for (uint32_t id = a->chain; id != HOLT__DAG_NONE; id = dag->chains[id].next) {
    uint64_t common;
    if (common_with(dag, id, run, &common) != 0) return refuse(v, HOLT_DAG_STORE);
    if (common <= best) continue;
    best = common;
    best_chain = id;
  }
  if (best == last_of(run)) {
    v->outcome = HOLT_DAG_DUPLICATE;
    return false;
  }
  if (best == 0 && last_of(run) <= a->horizon) return refuse(v, HOLT_DAG_BELOW_HORIZON);
  if (best == 0) return place_behind_prev(dag, run, source, p, v);
  p->skip = (uint32_t)(best + 1 - run->first);
  return join(dag, p, best_chain, best);
}

/* --- Its parents ------------------------------------------------------------------------------------ */

static void note_parent(struct holt_dag *dag, uint32_t chain) {
  if (dag->parent_count == dag->parent_cap) {
    dag->parent_cap = dag->parent_cap ? dag->parent_cap * 2 : 64;
    dag->parents = holt_realloc(dag->parents, dag->parent_cap * sizeof *dag->parents);
  }
  dag->parents[dag->parent_count++] = chain;
}

/* Its source told that it is below a horizon: noted, so that we can tell others. */
static bool is_excused(struct holt_dag *dag, uint32_t author, const struct holt_dag_ref *ref,
                       uint64_t source) {
  const struct holt_dag_ref *told = holt__dag_told_by(dag, source, ref->author);
  if (told == NULL || ref->number > told->number) return false;
  if (author == HOLT__DAG_NONE) {
    if (dag->author_count >= dag->options.chains_max) return true;
    author = holt__dag_author_add(dag, ref->author);
  }
  struct holt__dag_author *a = &dag->authors[author];
  if (a->excused >= told->number) return true;
  a->excused = told->number;
  dag->is_horizon_moved = true;
  memcpy(a->excused_hash, told->hash, HOLT_DAG_HASH);
  holt__dag_changed(dag, author);
  return true;
}

/* Is it here, or not demanded? *chain is where, or HOLT__DAG_NONE. */
static bool parent_is_here(struct holt_dag *dag, const struct holt_dag_ref *ref, uint64_t source,
                           uint32_t *chain, struct verdict *v) {
  uint32_t author = holt__dag_author_of(dag, ref->author);
  *chain = HOLT__DAG_NONE;
  if (author != HOLT__DAG_NONE) {
    int rc = holt__dag_find_in(dag, author, ref->number, ref->hash, chain);
    if (rc == 0) return true;
    if (rc != HOLT_ENOTFOUND) return refuse(v, HOLT_DAG_STORE);
    struct holt__dag_author *a = &dag->authors[author];
    if (ref->number <= a->horizon) return true;
    if (a->has_opening && !holt__dag_is_allowed(dag, a->directory)) return true;
    if (holt__dag_is_full_of(dag, author)) return true; /* it may lie on a branch that is not kept */
  }
  if (is_barred(dag, ref->author) || is_excused(dag, author, ref, source)) return true;
  if (HOLT_BUG(3)) return true;
  return lack(v, ref);
}

static bool parents_are_here(struct holt_dag *dag, const struct holt_dag_run *run, uint32_t skip,
                             uint64_t source, struct verdict *v) {
  dag->parent_count = 0;
  for (uint32_t i = skip; i < run->count; i++) {
    const uint8_t *at = run->bytes.data + run->items[i].offset + HOLT_DAG_HEAD;
    uint32_t count = *at++;
    for (uint32_t k = 0; k < count; k++) {
      struct holt_dag_ref ref;
      uint32_t chain;
      holt_dag_ref_read(at + (size_t)k * HOLT_DAG_REF, &ref);
      if (!parent_is_here(dag, &ref, source, &chain, v)) return false;
      note_parent(dag, chain);
    }
  }
  return true;
}

/* Named by another author, a tip is no head any more. */
static void cite_parents(struct holt_dag *dag, const struct holt_dag_run *run, uint32_t skip) {
  size_t at_parent = 0;
  for (uint32_t i = skip; i < run->count; i++) {
    const uint8_t *at = run->bytes.data + run->items[i].offset + HOLT_DAG_HEAD;
    uint32_t count = *at++;
    for (uint32_t k = 0; k < count; k++) {
      uint64_t number = holt_get_u64(at + (size_t)k * HOLT_DAG_REF + HOLT_DAG_KEY);
      uint32_t id = dag->parents[at_parent++];
      if (id == HOLT__DAG_NONE || number <= dag->chains[id].cited) continue;
      if (HOLT_BUG(8)) continue; /* heads that somebody has named stay heads */
      dag->chains[id].cited = number;
      holt__dag_changed(dag, dag->chains[id].author);
      holt__dag_head_update(dag, id);
    }
  }
  HOLT_ASSERT(at_parent == dag->parent_count);
}

/* --- Admitting -------------------------------------------------------------------------------------- */

static void note_admitted(struct holt_dag *dag, const struct holt_dag_admitted *admitted) {
  if (dag->admitted_count == dag->admitted_cap) {
    dag->admitted_cap = dag->admitted_cap ? dag->admitted_cap * 2 : 8;
    dag->admitted = holt_realloc(dag->admitted, dag->admitted_cap * sizeof *dag->admitted);
  }
  dag->admitted[dag->admitted_count++] = *admitted;
}

static void open_author(struct holt_dag *dag, const struct holt_dag_run *run, struct place *p) {
  if (p->author == HOLT__DAG_NONE) p->author = holt__dag_author_add(dag, run->author);
  struct holt__dag_author *a = &dag->authors[p->author];
  if (a->has_opening) return;
  a->has_opening = true;
  memcpy(a->directory, run->certificate->directory, HOLT_DAG_KEY);
}

static void admit(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source, struct place *p) {
  struct holt_dag_admitted out = {.run = run, .skip = p->skip, .source = source, .is_cut = p->is_cut};
  if (run->first == 1) open_author(dag, run, p);
  struct holt__dag_author *a = &dag->authors[p->author];
  out.count = run->count - p->skip;
  out.first = run->first + p->skip;
  if (p->is_cut && run->first - 1 > a->horizon) holt__dag_raise(dag, p->author, run->first - 1, run->prev);
  if (p->chain == HOLT__DAG_NONE) {
    p->chain = dag->chain_count;
    out.is_fork = a->live > 0;
    a->is_forked |= out.is_fork;
    dag->status.forks += out.is_fork;
    holt__dag_chain_at(dag, p->chain, p->author, out.first, p->base);
    a->live++;
  }
  struct holt__dag_chain *c = &dag->chains[p->chain];
  c->tip = last_of(run);
  memcpy(c->tip_hash, holt_dag_run_tip(run), HOLT_DAG_HASH);
  cite_parents(dag, run, p->skip);
  holt__dag_head_update(dag, p->chain);
  holt__dag_changed(dag, p->author);
  out.author = p->author;
  out.chain = p->chain;
  dag->status.admitted += out.count;
  note_admitted(dag, &out);
}

static bool has_space(struct holt_dag *dag, const struct place *p) {
  return p->chain != HOLT__DAG_NONE ||
         (dag->chain_count < dag->options.chains_max && dag->author_count < dag->options.chains_max);
}

static void look_at(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source,
                    struct verdict *v) {
  struct place p = {.chain = HOLT__DAG_NONE, .base = HOLT__DAG_NONE};
  *v = (struct verdict){.outcome = HOLT_DAG_ADMITTED};
  p.author = holt__dag_author_of(dag, run->author);
  if (!may_write(dag, run, p.author, v)) return;
  if (!find_place(dag, run, source, &p, v)) return;
  if (!has_space(dag, &p)) {
    refuse(v, HOLT_DAG_FULL);
    return;
  }
  if (p.chain == HOLT__DAG_NONE && p.author != HOLT__DAG_NONE && holt__dag_is_full_of(dag, p.author)) {
    refuse(v, HOLT_DAG_BRANCHES);
    return;
  }
  if (!parents_are_here(dag, run, p.skip, source, v)) return;
  if (HOLT_BUG(4) && p.chain == HOLT__DAG_NONE && p.base != HOLT__DAG_NONE) { /* a fork is dropped */
    v->outcome = HOLT_DAG_DUPLICATE;
    return;
  }
  p.author = holt__dag_author_of(dag, run->author); /* a parent may have added authors */
  admit(dag, run, source, &p);
}

/* --- What waited ------------------------------------------------------------------------------------ */

static void look_again(struct holt_dag *dag, struct holt__dag_penned *penned) {
  struct verdict v;
  look_at(dag, &penned->run, penned->source, &v);
  if (v.outcome == HOLT_DAG_PENNED) {
    penned->missing = v.missing;
    penned->is_asked = false;
    return;
  }
  if (v.outcome == HOLT_DAG_REFUSED && v.reason == HOLT_DAG_STORE) return; /* another time, perhaps */
  holt__dag_pen_take(dag, penned); /* its memory stays until the next offer */
}

static void wake(struct holt_dag *dag, const uint8_t *author) {
  HOLT_LIST_EACH(&dag->pen, node, following) {
    struct holt__dag_penned *penned = HOLT_CONTAINER(node, struct holt__dag_penned, node);
    if (memcmp(penned->missing.author, author, HOLT_DAG_KEY) == 0) look_again(dag, penned);
  }
}

static void begin(struct holt_dag *dag) {
  holt__dag_pen_free(dag, &dag->done);
  dag->admitted_count = dag->evicted_count = 0;
  dag->is_offering = true;
  dag->is_horizon_moved = false;
}

/* What was admitted may be what others wait for. */
static void finish(struct holt_dag *dag, const struct verdict *v, struct holt_dag_result *result) {
  for (size_t i = 0; i < dag->admitted_count && !(HOLT_BUG(10) && i > 0); i++)
    wake(dag, dag->admitted[i].run->author);
  dag->is_offering = false;
  *result = (struct holt_dag_result){.outcome = v->outcome,
                                     .reason = v->reason,
                                     .missing = v->missing,
                                     .is_again = v->is_again && v->reason == HOLT_DAG_NOT_ALLOWED,
                                     .is_horizon_moved = dag->is_horizon_moved && !HOLT_BUG(15),
                                     .admitted = dag->admitted,
                                     .admitted_count = dag->admitted_count,
                                     .evicted = dag->evicted,
                                     .evicted_count = dag->evicted_count};
}

void holt_dag_offer(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source,
                    struct holt_dag_result *result) {
  struct verdict v;
  HOLT_ASSERT(run->count > 0);
  HOLT_ASSERT((run->first == 1) == (run->certificate != NULL));
  begin(dag);
  look_at(dag, run, source, &v);
  if (v.outcome == HOLT_DAG_PENNED && holt__dag_pen_has(dag, run)) {
    v.outcome = HOLT_DAG_DUPLICATE;
  } else if (v.outcome == HOLT_DAG_PENNED) {
    holt__dag_pen_put(dag, run, source, &v.missing);
    dag->status.penned++;
  }
  dag->status.refused += v.outcome == HOLT_DAG_REFUSED;
  dag->status.branches_refused += v.reason == HOLT_DAG_BRANCHES;
  dag->status.duplicates += v.outcome == HOLT_DAG_DUPLICATE;
  if (v.reason == HOLT_DAG_NOT_ALLOWED) wake(dag, run->author);
  finish(dag, &v, result);
}

void holt__dag_look_again(struct holt_dag *dag, uint64_t source, struct holt_dag_result *result) {
  const struct verdict v = {.outcome = HOLT_DAG_DUPLICATE};
  begin(dag);
  HOLT_LIST_EACH(&dag->pen, node, following) {
    struct holt__dag_penned *penned = HOLT_CONTAINER(node, struct holt__dag_penned, node);
    if (penned->source == source) look_again(dag, penned);
  }
  finish(dag, &v, result);
}
