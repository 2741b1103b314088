/* What one holder knows of another, over one link.
 *
 * Of each chain two numbers: up to where it has it, as far as we know (it said so, it sent it, we sent it),
 * and up to where it said so itself. Besides, the tips that it told and that are not here: it is ahead, or on
 * another branch; nothing of that author is sent meanwhile. Once such a tip is here, all is known again. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "dag/dag_impl.h"
#include "dag/exchange.h"

enum { TOLD_MAX = 65536, RANGES_MAX = 256, TIP_BYTES = HOLT_DAG_REF + 1, LOCATE_BYTES = 8 + HOLT_DAG_HASH };

/* A tip that the other has and we have not. */
struct told {
  struct told *next; /* of the same author, or of another whose key has the same hash */
  struct holt_dag_ref ref;
  bool is_forked, is_wanted;
};

struct holt_dag_link {
  struct holt_dag *dag;
  uint64_t source;
  bool is_receiving, is_ready;
  uint64_t *known, *holds, *limit; /* of each chain; limit: scratch, zeros between calls */
  uint32_t chain_cap;
  struct holt_map told; /* hash of the author's key: struct told */
  uint32_t told_count;
  struct holt_map full; /* numbers + 1 of authors of whom it takes no further branch */
  uint8_t *takes;       /* directories, sorted; NULL: all */
  size_t take_count;
  struct holt_dag_ref *wants;
  size_t want_count, want_cap;
  struct holt_dag_range ranges[RANGES_MAX]; /* a ring */
  size_t range_first, range_count;
};

struct holt_dag_link *holt_dag_link_new(struct holt_dag *dag, uint64_t source) {
  struct holt_dag_link *link = holt_alloc(sizeof *link);
  link->dag = dag;
  link->source = source;
  return link;
}

static void forget_told(struct holt_dag_link *link) {
  size_t cursor = 0;
  uint64_t hash;
  void *value;
  while (holt_map_next(&link->told, &cursor, &hash, &value))
    for (struct told *t = value, *next; t; t = next) {
      next = t->next;
      free(t);
    }
  holt_map_free(&link->told);
  holt_map_free(&link->full);
  link->told_count = 0;
}

void holt_dag_link_free(struct holt_dag_link *link) {
  if (link == NULL) return;
  forget_told(link);
  free(link->known);
  free(link->holds);
  free(link->limit);
  free(link->wants);
  free(link->takes);
  free(link);
}

/* --- What it does not want ---------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b) {
  return memcmp(a, b, HOLT_DAG_KEY);
}

void holt_dag_link_takes(struct holt_dag_link *link, const struct holt_dag_message *m) {
  HOLT_ASSERT(m->type == HOLT_DAG_TAKES);
  link->take_count = m->count;
  link->takes = holt_realloc(link->takes, m->count * (size_t)HOLT_DAG_KEY);
  memcpy(link->takes, m->tips, m->count * (size_t)HOLT_DAG_KEY);
  qsort(link->takes, link->take_count, HOLT_DAG_KEY, by_key);
}

/* It would refuse this: an author that may not write there, but for the opening; one branch too many. */
static bool is_unwanted(const struct holt_dag_link *link, uint32_t chain, uint64_t number) {
  uint32_t author = link->dag->chains[chain].author;
  const uint8_t *directory = link->dag->authors[author].directory;
  if (link->takes != NULL && number > 1 &&
      bsearch(directory, link->takes, link->take_count, HOLT_DAG_KEY, by_key) == NULL)
    return true;
  return link->full.count > 0 && (chain >= link->chain_cap || link->known[chain] == 0) &&
         holt_map_get(&link->full, (uint64_t)author + 1) != NULL;
}

/* --- Of each chain ------------------------------------------------------------------------------------ */

static uint64_t *grown(uint64_t *old, uint32_t from, uint32_t to) {
  uint64_t *all = holt_realloc(old, to * sizeof *all);
  memset(all + from, 0, (to - from) * sizeof *all);
  return all;
}

static void grow(struct holt_dag_link *link) {
  uint32_t cap = link->chain_cap;
  if (link->dag->chain_count <= cap) return;
  while (cap < link->dag->chain_count) cap = cap ? cap * 2 : 16;
  link->known = grown(link->known, link->chain_cap, cap);
  link->holds = grown(link->holds, link->chain_cap, cap);
  link->limit = grown(link->limit, link->chain_cap, cap);
  link->chain_cap = cap;
}

static uint64_t known_of(const struct holt_dag_link *link, uint32_t chain) {
  return chain < link->chain_cap ? link->known[chain] : 0;
}

/* The other has this entry: and so all that comes before it, on the chains that this one leaves, too. */
static void has(struct holt_dag_link *link, uint32_t chain, uint64_t number) {
  grow(link);
  while (chain != HOLT__DAG_NONE) {
    const struct holt__dag_chain *c = &link->dag->chains[chain];
    if (link->known[chain] < number) link->known[chain] = number;
    if (link->holds[chain] < number) link->holds[chain] = number;
    number = c->first - 1;
    chain = c->base;
  }
}

/* --- Tips that are not here ---------------------------------------------------------------------------- */

static uint64_t hash_of(const uint8_t *author) {
  return holt_hash_bytes(2, author, HOLT_DAG_KEY);
}

static struct told *told_of(const struct holt_dag_link *link, const uint8_t *author) {
  return holt_map_get(&link->told, hash_of(author));
}

static bool is_of(const struct told *t, const uint8_t *author) {
  return memcmp(t->ref.author, author, HOLT_DAG_KEY) == 0;
}

static bool is_unsettled(const struct holt_dag_link *link, uint32_t author) {
  const uint8_t *key = link->dag->authors[author].key;
  if (link->told_count == 0) return false;
  for (struct told *t = told_of(link, key); t; t = t->next)
    if (is_of(t, key)) return true;
  return false;
}

/* Notes it; one that did not fork has one tip, which the newer one replaces. */
static struct told *note(struct holt_dag_link *link, const struct holt_dag_ref *ref, bool is_forked) {
  struct told *first = told_of(link, ref->author), *t = first;
  for (; t; t = t->next) {
    if (!is_of(t, ref->author)) continue;
    if (memcmp(&t->ref.hash, ref->hash, HOLT_DAG_HASH) == 0 && t->ref.number == ref->number) break;
    if (t->is_forked || is_forked || t->is_wanted || t->ref.number > ref->number) continue;
    t->ref = *ref;
    break;
  }
  if (t) {
    t->is_forked |= is_forked;
    return t;
  }
  if (link->told_count >= TOLD_MAX) return NULL;
  t = holt_alloc(sizeof *t);
  *t = (struct told){.next = first, .ref = *ref, .is_forked = is_forked};
  holt_map_set(&link->told, hash_of(ref->author), t);
  link->told_count++;
  return t;
}

/* It would come by itself if the other were merely ahead. */
static bool must_ask(const struct holt_dag_link *link, uint32_t author, const struct told *t) {
  const struct holt_dag *dag = link->dag;
  if (HOLT_BUG(6)) return false;
  if (!dag->authors[author].has_opening) return false;
  if (t->is_forked || dag->authors[author].live > 1) return true;
  for (uint32_t id = dag->authors[author].chain; id != HOLT__DAG_NONE; id = dag->chains[id].next)
    if (dag->chains[id].tip >= t->ref.number) return true;
  return false;
}

static void ask(struct holt_dag_link *link, uint32_t author, struct told *t) {
  if (t->is_wanted || !must_ask(link, author, t)) return;
  t->is_wanted = true;
  if (link->want_count == link->want_cap) {
    link->want_cap = link->want_cap ? link->want_cap * 2 : 8;
    link->wants = holt_realloc(link->wants, link->want_cap * sizeof *link->wants);
  }
  link->wants[link->want_count++] = t->ref;
}

static int hear_tip(struct holt_dag_link *link, const struct holt_dag_ref *ref, uint8_t word) {
  struct holt_dag *dag = link->dag;
  bool is_forked = word != HOLT_DAG_TIP_ONLY;
  uint32_t author = holt__dag_author_of(dag, ref->author), chain;
  if (author == HOLT__DAG_NONE || !dag->authors[author].has_opening) {
    note(link, ref, is_forked);
    return 0;
  }
  if (word == HOLT_DAG_TIP_FULL) holt_map_set(&link->full, (uint64_t)author + 1, link);
  int rc = holt__dag_find_in(dag, author, ref->number, ref->hash, &chain);
  if (rc == 0) has(link, chain, ref->number);
  if (rc != HOLT_ENOTFOUND) return rc;
  if (ref->number <=
      dag->authors[author].horizon) { /* it is behind what is here: it has the opening at least */
    has(link, dag->authors[author].chain, 1);
    return 0;
  }
  /* On a branch too many; or it is ahead, then what is missing comes by itself. */
  if (holt__dag_is_full_of(dag, author)) return 0;
  struct told *t = note(link, ref, is_forked);
  if (t) ask(link, author, t);
  return 0;
}

int holt_dag_link_have(struct holt_dag_link *link, const struct holt_dag_message *m, bool *is_begun) {
  HOLT_ASSERT(m->type == HOLT_DAG_HAVE);
  *is_begun = false;
  grow(link);
  if (m->flags & HOLT_DAG_HAVE_BEGIN) {
    forget_told(link);
    if (link->chain_cap && !HOLT_BUG(11)) {
      memset(link->known, 0, link->chain_cap * sizeof *link->known);
      memset(link->holds, 0, link->chain_cap * sizeof *link->holds);
    }
    link->want_count = 0;
    link->is_receiving = true;
    link->is_ready = false;
  }
  if (!link->is_receiving && !link->is_ready) return 0; /* news before the beginning */
  for (uint32_t i = 0; i < m->count; i++) {
    struct holt_dag_ref ref;
    const uint8_t *at = m->tips + (size_t)i * TIP_BYTES;
    holt_dag_ref_read(at, &ref);
    int rc = hear_tip(link, &ref, at[HOLT_DAG_REF]);
    if (rc) return rc;
  }
  if (!(m->flags & HOLT_DAG_HAVE_END) || !link->is_receiving) return 0;
  link->is_receiving = false;
  link->is_ready = *is_begun = true;
  return 0;
}

/* --- What is admitted here ----------------------------------------------------------------------------- */

/* Looks at the told tips of an author again; those that are here now, or too old, go. */
static int settle(struct holt_dag_link *link, uint32_t author) {
  const struct holt__dag_author *a = &link->dag->authors[author];
  struct told *first = told_of(link, a->key), *kept = NULL;
  int failed = 0;
  for (struct told *t = first, *next; t; t = next) {
    uint32_t chain;
    next = t->next;
    bool is_gone = false;
    if (is_of(t, a->key)) {
      int rc = holt__dag_find_in(link->dag, author, t->ref.number, t->ref.hash, &chain);
      if (rc == 0) has(link, chain, t->ref.number);
      if (rc != 0 && rc != HOLT_ENOTFOUND) failed = rc;
      is_gone = rc == 0 || t->ref.number <= a->horizon || holt__dag_is_full_of(link->dag, author);
      if (!is_gone && rc == HOLT_ENOTFOUND) ask(link, author, t);
    }
    if (is_gone) {
      free(t);
      link->told_count--;
    } else {
      t->next = kept;
      kept = t;
    }
  }
  if (kept) {
    holt_map_set(&link->told, hash_of(a->key), kept);
  } else {
    holt_map_remove(&link->told, hash_of(a->key));
  }
  return failed;
}

int holt_dag_link_admitted(struct holt_dag_link *link, const struct holt_dag_admitted *admitted) {
  if (admitted->source == link->source) has(link, admitted->chain, admitted->first + admitted->count - 1);
  return is_unsettled(link, admitted->author) && !HOLT_BUG(13) ? settle(link, admitted->author) : 0;
}

int holt_dag_link_duplicate(struct holt_dag_link *link, const struct holt_dag_run *run) {
  uint32_t author = holt__dag_author_of(link->dag, run->author), chain;
  uint64_t last = run->first + run->count - 1;
  if (author == HOLT__DAG_NONE) return 0;
  int rc = holt__dag_find_in(link->dag, author, last, holt_dag_run_tip(run), &chain);
  if (rc == 0) has(link, chain, last);
  return rc == HOLT_ENOTFOUND ? 0 : rc; /* in the pen, perhaps */
}

bool holt_dag_link_next_want(struct holt_dag_link *link, struct holt_dag_ref *out) {
  if (link->want_count == 0) return false;
  *out = link->wants[--link->want_count];
  return true;
}

/* --- What it lacks ------------------------------------------------------------------------------------- */

bool holt_dag_link_is_ready(const struct holt_dag_link *link) {
  return link->is_ready;
}

bool holt_dag_link_lacks(const struct holt_dag_link *link, uint32_t chain, uint64_t number) {
  const struct holt__dag_chain *c = &link->dag->chains[chain];
  if (!link->is_ready || number <= known_of(link, chain)) return false;
  if (number > 1 && number <= link->dag->authors[c->author].horizon) return false;
  if (is_unwanted(link, chain, number)) return false;
  return !is_unsettled(link, c->author);
}

uint64_t holt_dag_link_lacks_from(const struct holt_dag_link *link, uint32_t chain) {
  const struct holt__dag_chain *c = &link->dag->chains[chain];
  uint64_t horizon = link->dag->authors[c->author].horizon;
  uint64_t number = known_of(link, chain) + 1;
  if (number < c->first) number = c->first;
  if (number > 1 && number <= horizon) number = horizon + 1;
  if (number > c->tip) return 0;
  return holt_dag_link_lacks(link, chain, number) ? number : 0;
}

bool holt_dag_link_holds(const struct holt_dag_link *link, uint32_t chain, uint64_t number) {
  return chain < link->chain_cap && number <= link->holds[chain];
}

bool holt_dag_link_is_in_step(const struct holt_dag_link *link) {
  if (!link->is_ready) return false;
  for (uint32_t id = 0; id < link->dag->chain_count; id++)
    if (!holt__dag_is_buried(link->dag, id) && !is_unwanted(link, id, UINT64_MAX) &&
        !holt_dag_link_holds(link, id, link->dag->chains[id].tip))
      return false;
  return true;
}

bool holt_dag_link_is_caught_up(const struct holt_dag_link *link) {
  return link->is_ready && link->told_count == 0;
}

void holt_dag_link_sent(struct holt_dag_link *link, uint32_t chain, uint64_t number) {
  grow(link);
  if (link->known[chain] < number) link->known[chain] = number;
}

/* --- What it asks for ---------------------------------------------------------------------------------- */

static int put_range(struct holt_dag_link *link, uint32_t chain, uint64_t from, uint64_t to) {
  for (size_t i = 0; i < link->range_count; i++) {
    struct holt_dag_range *r = &link->ranges[(link->range_first + i) % RANGES_MAX];
    if (r->chain == chain && r->from <= from && r->to >= to) return 0;
  }
  if (link->range_count == RANGES_MAX) return HOLT_EFULL;
  link->ranges[(link->range_first + link->range_count++) % RANGES_MAX] =
      (struct holt_dag_range){.chain = chain, .from = from, .to = to};
  return 0;
}

bool holt_dag_link_next_range(struct holt_dag_link *link, struct holt_dag_range *out) {
  if (link->range_count == 0) return false;
  *out = link->ranges[link->range_first];
  link->range_first = (link->range_first + 1) % RANGES_MAX;
  link->range_count--;
  return true;
}

/* A part of the way to what was asked for: `chain` up to `to`; the other has it up to `has`. */
struct leg {
  uint32_t chain;
  uint64_t to, has;
};

/* The way from the root to entry `number` of `chain`, backwards. link->limit tells of each chain on it which
 * leg it is, from 1 on. The caller frees it. */
static struct leg *way_to(struct holt_dag_link *link, uint32_t chain, uint64_t number, size_t *count) {
  size_t cap = 0;
  struct leg *legs = NULL;
  *count = 0;
  while (chain != HOLT__DAG_NONE) {
    if (*count == cap) {
      cap = cap ? cap * 2 : 4;
      legs = holt_realloc(legs, cap * sizeof *legs);
    }
    legs[(*count)++] = (struct leg){.chain = chain, .to = number};
    link->limit[chain] = *count;
    number = link->dag->chains[chain].first - 1;
    chain = link->dag->chains[chain].base;
  }
  return legs;
}

/* The other has this entry: how much of the way is that? */
static void mark(struct holt_dag_link *link, struct leg *legs, uint32_t chain, uint64_t number) {
  for (; chain != HOLT__DAG_NONE;
       number = link->dag->chains[chain].first - 1, chain = link->dag->chains[chain].base) {
    if (link->limit[chain] == 0) continue;
    struct leg *leg = &legs[link->limit[chain] - 1];
    if (number > leg->to) number = leg->to;
    if (leg->has < number) leg->has = number;
  }
}

static int mark_all(struct holt_dag_link *link, struct leg *legs, uint32_t author,
                    const struct holt_dag_message *m) {
  for (uint32_t i = 0; i < m->count; i++) {
    const uint8_t *at = m->tips + (size_t)i * LOCATE_BYTES;
    uint32_t chain;
    int rc = holt__dag_find_in(link->dag, author, holt_get_u64(at), at + 8, &chain);
    if (rc == 0) mark(link, legs, chain, holt_get_u64(at));
    if (rc != 0 && rc != HOLT_ENOTFOUND) return rc;
  }
  return 0;
}

static int put_leg(struct holt_dag_link *link, const struct leg *leg) {
  const struct holt__dag_chain *c = &link->dag->chains[leg->chain];
  uint64_t horizon = link->dag->authors[c->author].horizon;
  uint64_t from = leg->has + 1 > c->first ? leg->has + 1 : c->first;
  if (from == 1 && horizon > 0) { /* the opening is kept */
    int rc = put_range(link, leg->chain, 1, 1);
    if (rc) return rc;
  }
  if (from <= horizon) from = horizon + 1;
  return from <= leg->to ? put_range(link, leg->chain, from, leg->to) : 0;
}

int holt_dag_link_asked(struct holt_dag_link *link, const struct holt_dag_message *m) {
  HOLT_ASSERT(m->type == HOLT_DAG_WANT);
  struct holt_dag *dag = link->dag;
  uint32_t author = holt__dag_author_of(dag, m->ref.author), chain;
  size_t count;
  grow(link);
  if (author == HOLT__DAG_NONE || !dag->authors[author].has_opening) return HOLT_ENOTFOUND;
  int rc = holt__dag_find_in(dag, author, m->ref.number, m->ref.hash, &chain);
  if (rc == HOLT_ENOTFOUND && m->ref.number <= dag->authors[author].horizon)
    return put_range(link, dag->authors[author].chain, 1, 1);
  if (rc) return rc;
  struct leg *legs = way_to(link, chain, m->ref.number, &count);
  rc = mark_all(link, legs, author, m);
  for (size_t i = count; i-- > 0;) {
    if (rc == 0) rc = put_leg(link, &legs[i]);
    link->limit[legs[i].chain] = 0;
  }
  free(legs);
  return rc;
}
