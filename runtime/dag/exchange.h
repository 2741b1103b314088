/* exchange.h - how two holders of a journal come to have the same: messages, and what one knows of the other.
 *
 * Both say what they have (HAVE: the tip of each chain; as version vectors do, Parker et al. 1983, but by
 * hash, so that forks show). Then each walks its arrival log with one cursor a link and sends what the other
 * lacks (RUN), from the first such entry on, and goes on doing so: catching up and being live are one thing.
 * The order of the log is causal, so the other admits what comes as it comes. Whatever is durable over there
 * is told by further HAVEs.
 *
 * That covers all but forks and losses, which are pulled: a tip that cannot be found in a chain long enough
 * to hold it lies on another branch, and the pen knows hashes that it misses. Both are asked for by hash
 * (WANT), with a list of hashes that are here, at growing distances (the block locator of Bitcoin), so that
 * only what is missing is sent. News of an author that forked tell all its tips, so everybody pulls what it
 * lacks: tell news of all authors that changed, after each commit, to all.
 *
 * Messages may be lost or doubled: a full HAVE starts the link anew. */
#ifndef HOLT_DAG_EXCHANGE_H
#define HOLT_DAG_EXCHANGE_H

#include "dag/dag.h"

/* --- Messages: a byte for the type, then its content ------------------------------------------------ */

enum holt_dag_message_type {
  HOLT_DAG_HAVE = 1,
  HOLT_DAG_WANT = 2,
  HOLT_DAG_RUN = 3,          /* written by holt_dag_pack_*, read by holt_dag_run_read: both with this byte */
  HOLT_DAG_HORIZON_TOLD = 4, /* then a horizon as entry.h makes and reads it */
  HOLT_DAG_TAKES = 5         /* whose entries are taken, where not everybody's are */
};

#define HOLT_DAG_HAVE_MAX   4096 /* tips in one message: 300 KiB */
#define HOLT_DAG_LOCATE_MAX 64   /* hashes in a WANT */
#define HOLT_DAG_TAKES_MAX  4096 /* directories in a TAKES: 128 KiB */

/* What is said of a tip's author in a HAVE. */
enum { HOLT_DAG_TIP_ONLY = 0, HOLT_DAG_TIP_FORKED = 1, HOLT_DAG_TIP_FULL = 2 /* takes no further branch */ };

enum { HOLT_DAG_HAVE_BEGIN = 1, HOLT_DAG_HAVE_END = 2 }; /* a full one: first, last message; none: news */

struct holt_dag_message {
  uint8_t type;
  uint8_t flags; /* of a HAVE */
  /* Borrowed. HAVE: tips, as refs with a byte behind each (HOLT_DAG_TIP_). WANT: numbers with hashes. TAKES:
   * keys of directories. */
  uint32_t count;
  const uint8_t *tips;
  struct holt_dag_ref ref; /* of a WANT */
  struct holt_buf bytes;   /* borrowed; RUN: the whole message; HORIZON_TOLD: what follows the type */
};
/* Bounded; HOLT_EPROTOCOL for anything that is not exactly one message. `out` borrows from `bytes`. A RUN is
 * only recognised: holt_dag_run_read, off the loop, does the work. */
int holt_dag_message_decode(struct holt_buf bytes, struct holt_dag_message *out);

/* Whose entries are taken here: to be told before what is here. False: everybody's, or there are more than
 * HOLT_DAG_TAKES_MAX. */
bool holt_dag_takes_encode(const struct holt_dag *dag, struct holt_writer *w);

/* What we have, in as many messages as it takes. Begin with *chain 0 and call until it returns false: each
 * call appends one message to `w`. */
bool holt_dag_have_all(const struct holt_dag *dag, uint32_t *chain, struct holt_writer *w);
/* News: the tips of these authors, all branches. At most HOLT_DAG_HAVE_MAX tips are written; returns how many
 * of the authors are in the message (0: nothing was written). */
size_t holt_dag_have_some(const struct holt_dag *dag, const uint32_t *authors, size_t count,
                          struct holt_writer *w);
/* Asks for `ref` and what leads there. Errors of hash_at. */
int holt_dag_want_encode(const struct holt_dag *dag, const struct holt_dag_ref *ref, struct holt_writer *w);
/* Passes on a horizon that is made and signed. */
void holt_dag_horizon_encode(struct holt_buf horizon, struct holt_writer *w);

/* --- What the other has ----------------------------------------------------------------------------- */

struct holt_dag_link; /* opaque */

/* `dag` is borrowed and outlives it; `source` is this link's number in offers. Free the link, and make
 * another, when a connection does not resume. */
struct holt_dag_link *holt_dag_link_new(struct holt_dag *dag, uint64_t source);
void holt_dag_link_free(struct holt_dag_link *link);

/* The other takes entries of these directories only. Of other authors it lacks the opening, by which it sees
 * that it need not ask for them when somebody names them. */
void holt_dag_link_takes(struct holt_dag_link *link, const struct holt_dag_message *message);
/* The other told what it has. After the last message of a full one it is ready, and *is_begun is set: put the
 * cursor to the first of holt_dag_link_lacks_from, and walk. Remembers at most 65,536 tips that are not here;
 * of what is beyond it may be sent more than it lacks. Errors of hash_at. */
int holt_dag_link_have(struct holt_dag_link *link, const struct holt_dag_message *message, bool *is_begun);
bool holt_dag_link_is_ready(const struct holt_dag_link *link);
/* The first number of `chain` that it lacks as far as we know; 0: it has all, or is about to send us more
 * itself. For the start of the cursor: the least arrival of these over all chains. An opening that retention
 * kept though it is in the log no longer (1 is lacked, and the author has a horizon) is sent first, by
 * itself, behind the horizon. */
uint64_t holt_dag_link_lacks_from(const struct holt_dag_link *link, uint32_t chain);
/* Does it lack this entry? For each entry that the cursor meets. Always false before it is ready. */
bool holt_dag_link_lacks(const struct holt_dag_link *link, uint32_t chain, uint64_t number);
/* Has it this entry on its disk, by its own word? */
bool holt_dag_link_holds(const struct holt_dag_link *link, uint32_t chain, uint64_t number);
/* Does it hold all that is here, by its own word? */
bool holt_dag_link_is_in_step(const struct holt_dag_link *link);
/* Is all here that it told us of? False before it is ready. */
bool holt_dag_link_is_caught_up(const struct holt_dag_link *link);
/* A run of `chain` up to `number` was sent. */
void holt_dag_link_sent(struct holt_dag_link *link, uint32_t chain, uint64_t number);
/* Tell every link of every admitted run, whoever brought it. Errors of hash_at. */
int holt_dag_link_admitted(struct holt_dag_link *link, const struct holt_dag_admitted *admitted);
/* The other sent a run that we have already: so has it. Tell its link. */
int holt_dag_link_duplicate(struct holt_dag_link *link, const struct holt_dag_run *run);

/* A tip that the other told and that we must ask it for; each once until the next full HAVE. */
bool holt_dag_link_next_want(struct holt_dag_link *link, struct holt_dag_ref *out);

/* The other asks: what leads to message->ref and is not in its list becomes ranges to be sent. At most 256
 * ranges wait, then HOLT_EFULL: dropped, it will ask again. HOLT_ENOTFOUND: not here. Errors of hash_at. */
int holt_dag_link_asked(struct holt_dag_link *link, const struct holt_dag_message *message);
/* The next range to be sent, besides what the cursor sends: as runs that each lie in one piece in the arrival
 * log, up to the first signature at or behind `to`. False: none. */
struct holt_dag_range {
  uint32_t chain;
  uint64_t from, to;
};
bool holt_dag_link_next_range(struct holt_dag_link *link, struct holt_dag_range *out);

#endif /* HOLT_DAG_EXCHANGE_H */
