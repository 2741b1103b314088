/* dag_impl.h - shared inside dag/. */
#ifndef HOLT_DAG_IMPL_H
#define HOLT_DAG_IMPL_H

#include "base/list.h"
#include "base/map.h"
#include "dag/bug.h"
#include "dag/dag.h"

#define HOLT__DAG_NONE UINT32_MAX

struct holt__dag_author {
  uint8_t key[HOLT_DAG_KEY], directory[HOLT_DAG_KEY];
  uint64_t horizon, excused;
  uint8_t horizon_hash[HOLT_DAG_HASH], excused_hash[HOLT_DAG_HASH];
  uint32_t chain, last_chain, chain_count; /* its chains, in a list */
  uint32_t live;                           /* of these not buried */
  uint32_t same;                           /* next author whose key has the same hash */
  uint32_t next_changed;
  bool has_opening, is_forked, is_changed;
};

struct holt__dag_chain {
  uint32_t author, next, base;
  uint32_t head_prev, head_next; /* among the heads */
  bool is_head;
  uint64_t first, tip, cited; /* cited: the highest number that an entry of another author names */
  uint8_t tip_hash[HOLT_DAG_HASH];
};

/* A run that waits for `missing`. */
struct holt__dag_penned {
  struct holt_list node;
  struct holt_dag_run run;
  struct holt_dag_ref missing;
  uint64_t source;
  size_t bytes;
  bool is_asked;
};

/* A horizon that a source told. */
struct holt__dag_told {
  struct holt__dag_told *same; /* next of the same hash */
  uint64_t source;
  struct holt_dag_ref ref;
};

struct holt_dag {
  struct holt_dag_options options;
  uint8_t *allowed; /* options.author_count directory keys */

  struct holt__dag_author *authors;
  uint32_t author_count, author_cap;
  struct holt_map by_key; /* hash of a key: number + 1 of the first author, as a pointer */
  struct holt__dag_chain *chains;
  uint32_t chain_count, chain_cap;
  uint32_t first_head, head_count;
  uint32_t first_changed, last_changed;

  struct holt_map barred; /* hashes of keys of authors that were refused: not demanded */
  struct holt_map told;   /* hash of source and key: struct holt__dag_told */
  uint32_t told_count;

  struct holt_list pen, done; /* oldest first; done: left the pen in this offer */
  uint32_t pen_runs;
  size_t pen_bytes;

  /* Of the present offer, or the last. */
  bool is_offering, is_horizon_moved;
  struct holt_dag_admitted *admitted;
  size_t admitted_count, admitted_cap;
  uint64_t *evicted;
  size_t evicted_count, evicted_cap;
  uint32_t *parents; /* chains of the parents of the run that is looked at, in their order */
  size_t parent_count, parent_cap;

  struct holt_dag_status status;
};

/* entry.c, run.c */
bool holt__dag_tail_read(struct holt_reader *in,
                         struct holt_dag_entry *entry); /* needs kind, author, number, prev */

/* dag.c: the index. */
uint32_t holt__dag_author_of(const struct holt_dag *dag, const uint8_t *key); /* or HOLT__DAG_NONE */
uint32_t holt__dag_author_add(struct holt_dag *dag, const uint8_t *key);
void holt__dag_chain_at(struct holt_dag *dag, uint32_t id, uint32_t author, uint64_t first, uint32_t base);
void holt__dag_changed(struct holt_dag *dag, uint32_t author);
void holt__dag_head_update(struct holt_dag *dag, uint32_t chain);
/* The hash of an entry above the horizon that was admitted. */
int holt__dag_hash_of(const struct holt_dag *dag, uint32_t chain, uint64_t number, uint8_t *out);
int holt__dag_find_in(const struct holt_dag *dag, uint32_t author, uint64_t number, const uint8_t *hash,
                      uint32_t *chain);
bool holt__dag_is_allowed(const struct holt_dag *dag, const uint8_t *directory);
/* No further branch of this author is kept. */
bool holt__dag_is_full_of(const struct holt_dag *dag, uint32_t author);
bool holt__dag_is_buried(const struct holt_dag *dag, uint32_t chain);
/* Looks at all chains of the author again: which are buried, which are heads. */
void holt__dag_review(struct holt_dag *dag, uint32_t author);
void holt__dag_raise(struct holt_dag *dag, uint32_t author, uint64_t number, const uint8_t *hash);

/* horizon.c */
const struct holt_dag_ref *holt__dag_told_by(const struct holt_dag *dag, uint64_t source, const uint8_t *key);
void holt__dag_told_free(struct holt_dag *dag);

/* offer.c: what a source has in the pen, once it told a horizon. */
void holt__dag_look_again(struct holt_dag *dag, uint64_t source, struct holt_dag_result *result);

/* pen.c */
void holt__dag_pen_put(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source,
                       const struct holt_dag_ref *missing);
bool holt__dag_pen_has(struct holt_dag *dag, const struct holt_dag_run *run);
void holt__dag_pen_take(struct holt_dag *dag, struct holt__dag_penned *penned); /* into dag->done */
void holt__dag_pen_free(struct holt_dag *dag, struct holt_list *list);

#endif /* HOLT_DAG_IMPL_H */
