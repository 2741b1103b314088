/* dag.h - what a holder of a journal knows of the entries it has, and what it does with those that come.
 *
 * The index holds authors, not entries: of each author the chain's tip and who certified it. Entries lie in
 * the store, which is asked for a hash now and then. What comes is admitted, a duplicate, a fork (admitted
 * too), put into the pen because parents are missing, or refused. Three things are always true:
 *
 *   - The admitted set is closed: whatever an entry names (its predecessor, its parents) was admitted before
 * it, or lies at or below the horizon of its author. So tips describe all of it, and the order of admission
 * is causal (Lamport 1978; causal trees: Grishchenko 2010; Kleppmann & Howard, "Byzantine Eventual
 * Consistency", 2020).
 *   - It is the same on every holder that was offered the same runs, in whatever order, above the horizons.
 *   - Memory is bounded: by options.chains_max, and the pen by runs and bytes.
 *
 * A fork is two entries of one author and number. All branches are kept, each as a chain of its own behind
 * the place where it leaves another chain. Nobody can hide one: both branches are signed by the author, and
 * passed on.
 *
 * An author is a chain key; its entries 1, 2, 3… form a chain. Small numbers name both here and in the store:
 * the author number (from 0 on, one per key) and the chain number (from 0 on, one per branch; an author that
 * did not fork has one). They never change, and differ between holders.
 *
 * Pure; call from one thread at a time. */
#ifndef HOLT_DAG_DAG_H
#define HOLT_DAG_DAG_H

#include "dag/entry.h"

#define HOLT_DAG_NO_CHAIN UINT32_MAX

struct holt_dag; /* opaque: defined in dag_impl.h */

struct holt_dag_options {
  struct holt_dag_limits limits;
  uint32_t chains_max; /* authors and branches at most; 1,000,000. What would open more is refused (FULL) */
  /* Branches of one author at most, the first chain and buried ones too; 64. An author that has so many opens
   * no further one (BRANCHES): which of them are kept differs between holders then, as do his entries in
   * them. So that nobody else suffers, what others name of him and is not here is not demanded. */
  uint32_t branches_max;
  uint32_t pen_runs; /* in the pen at most; 1,024 */
  size_t pen_bytes;  /* 16 MiB. Over either: the oldest of the source that has most bytes in it goes */
  /* Directory keys whose chains are taken; 0: everybody's. Copied. An author that may not write is refused,
   * and as a parent he is not demanded. */
  const uint8_t (*authors)[HOLT_DAG_KEY];
  size_t author_count;
  /* Fills the hash of the entry `number` of `chain`, which was admitted: also one of which the store's commit
   * is still under way. Never asked for tips. 0 or a code. */
  int (*hash_at)(void *arg, uint32_t chain, uint64_t number, uint8_t out[HOLT_DAG_HASH]);
  void *arg;
};
void holt_dag_options_default(struct holt_dag_options *options);

/* An empty index. Never NULL. */
struct holt_dag *holt_dag_new(const struct holt_dag_options *options);
void holt_dag_free(struct holt_dag *dag);
/* The limits that it was made with, borrowed. */
const struct holt_dag_limits *holt_dag_limits(const struct holt_dag *dag);

/* --- Offering --------------------------------------------------------------------------------------- */

enum holt_dag_outcome {
  HOLT_DAG_ADMITTED,  /* result.admitted has it first, then what waited for it */
  HOLT_DAG_DUPLICATE, /* all of it is here, or in the pen, already */
  HOLT_DAG_PENNED,    /* result.missing is not here: holt_dag_next_want says what to ask for */
  HOLT_DAG_REFUSED    /* result.reason */
};

/* A run, or its end, that is part of the journal from now on: write it, then look up its entries by chain. */
struct holt_dag_admitted {
  const struct holt_dag_run
      *run;       /* the one offered, or one that left the pen; borrowed until the next offer */
  uint32_t skip;  /* so many of its first entries were here already */
  uint32_t count; /* the others: at least 1 */
  uint64_t first; /* number of the first of these */
  uint32_t author, chain;
  uint64_t source; /* who brought it */
  bool is_fork;    /* it begins a branch: result.fork of the offer, or ask holt_dag_fork */
  bool is_cut;     /* it begins behind a horizon: the author's entries before it are not to be had */
};

struct holt_dag_result {
  enum holt_dag_outcome outcome;
  enum holt_dag_reason reason;
  struct holt_dag_ref missing;
  const struct holt_dag_admitted *admitted; /* in causal order; borrowed until the next offer */
  size_t admitted_count;
  const uint64_t *evicted; /* sources of runs that the pen had no room for; borrowed until the next offer:
                              tell these holders again what we have, so that they send again */
  size_t evicted_count;
  bool is_again; /* an opening, refused as NOT_ALLOWED, and so it was before: nothing new */
  bool
      is_horizon_moved; /* tell the other holders (holt_dag_horizon_ref), before you send what was admitted */
};

/* Offer a run that holt_dag_run_read has checked, or one's own, signed. `source` is any number that names who
 * brought it (a link; 0: this holder itself). `run` is borrowed; the pen keeps a copy. Own entries must
 * follow the own tip.
 *
 * What is admitted counts from this moment on; if the store cannot write it, make the index anew from the
 * store. */
void holt_dag_offer(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source,
                    struct holt_dag_result *result);

/* Something that the pen waits for, to be asked of the source of the run that needs it (exchange.h). Each is
 * given once, until holt_dag_ask_again. False: nothing (more). */
struct holt_dag_want {
  struct holt_dag_ref ref; /* the entry; with it all of its author before it that is not here */
  uint64_t source;
};
bool holt_dag_next_want(struct holt_dag *dag, struct holt_dag_want *out);
/* The source is gone (0: whatever the source): what was asked may be asked again. */
void holt_dag_ask_again(struct holt_dag *dag, uint64_t source);
/* This link has ended: its runs in the pen stay, the horizons that it told are forgotten. */
void holt_dag_source_gone(struct holt_dag *dag, uint64_t source);

/* --- Writing own entries ---------------------------------------------------------------------------- */

/* The heads: tips that no entry of another author names; what the next own entry has to name, but for the own
 * tip, which it follows. At most HOLT_DAG_PARENTS_MAX, one of an author (what is left over is named by the
 * next batch), ascending by author: ready to be written one behind the other. `self`: own key, or NULL to see
 * all. Holders of the same entries have the same heads. Returns how many. */
size_t holt_dag_heads(const struct holt_dag *dag, const uint8_t *self,
                      struct holt_dag_ref out[HOLT_DAG_PARENTS_MAX]);

/* --- Horizons --------------------------------------------------------------------------------------- */

/* A holder told by a horizon (read by holt_dag_horizon_read) what it no longer has. From then on, of runs
 * from this source only: a parent at or below it is not demanded (the author is *excused* up to there); and a
 * run that begins right behind it, or reaches over it, which its author has signed, is admitted though what
 * is before it is not here: the author's horizon rises and what is below will not be taken any more, from
 * nobody. So give this to the dag only once what other holders have was waited for. Runs of this source that
 * are in the pen are looked at again: result->admitted, as after an offer. After an admission that is_cut,
 * tell others (holt_dag_horizon_ref). Bounded: 65,536 told by all sources, then HOLT_EFULL. HOLT_EPERMISSION:
 * its directory may not write here. */
int holt_dag_horizon_told(struct holt_dag *dag, const struct holt_dag_horizon *horizon, uint64_t source,
                          struct holt_dag_result *result);
/* What this holder has to tell others of `author`, in a horizon of its own at the beginning of each link and
 * when it changes; false: nothing, all of it is here. */
bool holt_dag_horizon_ref(const struct holt_dag *dag, uint32_t author, struct holt_dag_ref *out);
/* This holder drops the entries of `author` up to `number` of `chain`, by its retention. `ref` is filled with
 * what belongs into the horizon to be signed. Keep openings in the store all the same: newcomers need them.
 * HOLT_EINVAL when `number` is behind the tip or not above the present horizon. Errors of hash_at. */
int holt_dag_cut(struct holt_dag *dag, uint32_t chain, uint64_t number, struct holt_dag_ref *ref);

/* --- Looking ---------------------------------------------------------------------------------------- */

struct holt_dag_author {
  uint8_t key[HOLT_DAG_KEY], directory[HOLT_DAG_KEY];
  uint64_t horizon; /* entries up to this number are not here (but for the opening), 0: all are */
  uint8_t horizon_hash[HOLT_DAG_HASH];
  uint64_t excused; /* parents up to here were not demanded, as a holder had its horizon there; 0: none */
  uint8_t excused_hash[HOLT_DAG_HASH];
  uint32_t chain;       /* its first one; HOLT_DAG_NO_CHAIN: it is only excused */
  uint32_t chain_count; /* buried ones too */
  bool is_forked;       /* ever */
};
struct holt_dag_chain {
  uint32_t author, next; /* next: the author's next chain, or HOLT_DAG_NO_CHAIN */
  uint64_t first, tip;   /* numbers; tip is 0 while it has no entry */
  uint8_t tip_hash[HOLT_DAG_HASH];
  uint32_t base; /* the chain that it leaves behind number first - 1; HOLT_DAG_NO_CHAIN: it begins with the
                    opening or behind a horizon */
  bool is_head, is_buried; /* buried: its tip is below the horizon */
};
uint32_t holt_dag_author_count(const struct holt_dag *dag);
uint32_t holt_dag_chain_count(const struct holt_dag *dag);
void holt_dag_author(const struct holt_dag *dag, uint32_t author, struct holt_dag_author *out);
void holt_dag_chain(const struct holt_dag *dag, uint32_t chain, struct holt_dag_chain *out);
/* HOLT_ENOTFOUND. */
int holt_dag_author_find(const struct holt_dag *dag, const uint8_t key[HOLT_DAG_KEY], uint32_t *author);
/* The chain in which this entry lies, 0; HOLT_ENOTFOUND; errors of hash_at. */
int holt_dag_find(const struct holt_dag *dag, const struct holt_dag_ref *ref, uint32_t *chain);
/* The proof of a fork: the first entries of branch `chain` and of what stands in the same place of the chain
 * that it left. Each has a signature of the author at or behind it, in the store. HOLT_ENOTFOUND when the
 * chain is no branch or the place is below the horizon. Errors of hash_at. */
int holt_dag_fork(const struct holt_dag *dag, uint32_t chain, struct holt_dag_ref *first,
                  struct holt_dag_ref *second);

struct holt_dag_status {
  uint32_t authors, chains, forked, heads;
  uint32_t pen_runs;
  size_t pen_bytes;
  uint64_t admitted, duplicates, penned, evicted, forks, refused; /* entries admitted; runs */
  uint64_t branches_refused;
};
void holt_dag_status(const struct holt_dag *dag, struct holt_dag_status *out);

/* --- Keeping the index ------------------------------------------------------------------------------ */
/* One record an author, rewritten in the same transaction as the entries that changed it. Opening a journal
 * reads these, however many entries there are. */

/* An author whose record changed since it was given here last; false: none. */
bool holt_dag_next_changed(struct holt_dag *dag, uint32_t *author);
void holt_dag_save(const struct holt_dag *dag, uint32_t author, struct holt_writer *w);
/* Into an index that was just made, before anything is offered: the records of authors 0, 1, 2… in this
 * order. HOLT_ECORRUPT. Behind the last, holt_dag_loaded looks at what spans authors: HOLT_ECORRUPT. */
int holt_dag_load(struct holt_dag *dag, struct holt_buf record);
int holt_dag_loaded(struct holt_dag *dag);

#endif /* HOLT_DAG_DAG_H */
