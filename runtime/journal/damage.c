/* damage.c - entries whose bytes changed on the disk: noticed, fetched from others, written again.
 *
 * A damaged entry is known by its neighbours: its chain, number and hash. It is asked for everywhere; the run
 * that brings it is a duplicate to the index, and mends it here. Of neighbours that are damaged together only
 * the last is known, by what follows it; the run that brings it names those before it, and what that run does
 * not reach is looked at again once it is mended.
 *
 * - At most HOLT__DAMAGES_MAX are taken up at a time, each once. What is found beyond is told once, and
 *   found again by whoever looks once some are mended.
 * - At most ASKED_MAX are asked for at a time (a neighbour keeps 256 such questions); as some come, others
 * are asked for. Who did not answer, or had it damaged himself, is asked again: after a second, then twice as
 *   late each time, a minute later at last.
 * - What was found is kept in a note until it is mended: the process that found it may have nobody to ask. */
#include <stdlib.h>

#include "base/mem.h"
#include "journal/journal_impl.h"

enum { ASKED_MAX = 128, IDENTIFY_MAX = 64, AGAIN_MS = 1000, AGAIN_MS_MAX = 60000 };

/* The nearest entry before it that can be named. */
static void find_before(struct holt_journal *j, struct holt__damage *damage) {
  struct holt_dag_chain chain;
  holt_dag_chain(j->dag, damage->chain, &chain);
  for (uint64_t number = damage->number; number > chain.first;) {
    number--;
    if (holt__journal_hash_at(j, damage->chain, number, damage->before.hash) != 0) continue;
    damage->before.number = number;
    return;
  }
}

/* It is what its successor, or the index, says. */
int holt__damage_hash(struct holt_journal *j, uint32_t chain_number, uint64_t number,
                      uint8_t out[HOLT_DAG_HASH]) {
  struct holt_dag_chain chain;
  struct holt_dag_entry successor;
  struct holt_writer bytes = {0};
  holt_dag_chain(j->dag, chain_number, &chain);
  if (chain.tip == number) {
    memcpy(out, chain.tip_hash, HOLT_DAG_HASH);
    return 0;
  }
  int rc = holt__journal_entry(j, chain_number, number + 1, &bytes, NULL);
  if (rc == 0) rc = holt_dag_entry_decode(holt_buf(bytes.data, bytes.len), &j->options.limits, &successor);
  if (rc == 0) memcpy(out, successor.prev, HOLT_DAG_HASH);
  holt_writer_free(&bytes);
  return rc == 0 ? 0 : HOLT_ECORRUPT;
}

/* Chain, number and hash of what stood there. */
static int identify(struct holt_journal *j, struct holt__damage *damage) {
  struct holt_kv_txn *txn;
  struct holt_dag_chain chain;
  struct holt_dag_author author;
  int rc = holt_kv_begin(j->all->kv, &txn);
  if (rc != 0) return rc;
  rc = holt_book_identify(j->book, txn, damage->position, &damage->chain, &damage->number);
  holt_kv_end(txn);
  if (rc != 0) return rc;
  if (damage->chain >= holt_dag_chain_count(j->dag)) return HOLT_ECORRUPT;
  holt_dag_chain(j->dag, damage->chain, &chain);
  if (damage->number > chain.tip) return HOLT_ECORRUPT;
  holt_dag_author(j->dag, chain.author, &author);
  memcpy(damage->ref.author, author.key, sizeof author.key);
  damage->ref.number = damage->number;
  find_before(j, damage);
  return holt__damage_hash(j, damage->chain, damage->number, damage->ref.hash);
}

/* --- Asking -------------------------------------------------------------------------------------------- */

static bool is_askable(const struct holt__damage *damage) {
  return damage->is_known && !damage->is_asked && damage->bytes.len == 0;
}

static void ask_everybody(struct holt_journal *j, struct holt__damage *damage) {
  damage->is_asked = true;
  j->damages_asked++;
  HOLT_LIST_EACH(&j->exchanges, at, next)
  holt__exchange_ask_again(j, HOLT_CONTAINER(at, struct holt__exchange, node), &damage->ref, &damage->before);
}

/* As many as there is room for; what was asked for goes to the end, so that all get their turn. */
static void ask_more(struct holt_journal *j) {
  struct holt_list asked;
  holt_list_init(&asked);
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    if (j->damages_asked >= ASKED_MAX) break;
    if (!is_askable(damage)) continue;
    ask_everybody(j, damage);
    holt_list_remove(at);
    holt_list_push(&asked, at);
  }
  holt_list_move(&j->damages, &asked);
}

static void forget(struct holt_journal *j, struct holt__damage *damage) {
  holt_map_remove(&j->damaged, damage->position);
  j->damages_asked -= damage->is_asked;
  holt_list_remove(&damage->node);
  holt_writer_free(&damage->bytes);
  free(damage);
  if (j->damaged.count == 0) j->is_damage_told = false;
}

/* Retention has dropped some. */
static void forget_dropped(struct holt_journal *j) {
  uint64_t first = holt_book_first(j->book);
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    if (damage->position < first) forget(j, damage);
  }
}

/* Of whoever we meet later. */
void holt__damages_ask(struct holt_journal *j, struct holt__exchange *x) {
  forget_dropped(j);
  HOLT_LIST_EACH(&j->damages, at, next) {
    const struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    if (damage->is_asked && damage->bytes.len == 0)
      holt__exchange_ask_again(j, x, &damage->ref, &damage->before);
  }
}

/* Those that nothing named so far: perhaps what follows them is whole now. A few, for that is slow. */
static void identify_some(struct holt_journal *j) {
  struct holt_list tried;
  unsigned count = 0;
  holt_list_init(&tried);
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    if (count == IDENTIFY_MAX) break;
    if (damage->is_known) continue;
    damage->is_known = identify(j, damage) == 0;
    count++;
    holt_list_remove(at);
    holt_list_push(&tried, at);
  }
  holt_list_move(&j->damages, &tried);
}

static void ask_again_soon(struct holt_journal *j) {
  if (j->again_ms == 0) j->again_ms = AGAIN_MS;
  if (!holt_timer_is_active(&j->again)) holt_timer_start(&j->again, j->again_ms);
}

void holt__damages_ask_again(void *arg) {
  struct holt_journal *j = arg;
  forget_dropped(j);
  if (holt_list_is_empty(&j->damages)) {
    j->again_ms = 0;
    return;
  }
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    j->damages_asked -= damage->is_asked;
    damage->is_asked = false;
  }
  identify_some(j);
  ask_more(j);
  j->again_ms = j->again_ms * 2 < AGAIN_MS_MAX ? j->again_ms * 2 : AGAIN_MS_MAX;
  ask_again_soon(j);
}

/* --- Noticing ------------------------------------------------------------------------------------------ */

/* The positions, for the next start. */
static void remember(struct holt_journal *j) {
  struct holt_writer w = {0};
  HOLT_LIST_EACH(&j->damages, at, next)
  holt_write_u64(&w, HOLT_CONTAINER(at, struct holt__damage, node)->position);
  holt_journal_set_note(j, HOLT__DAMAGED_NOTE, holt_buf(w.data, w.len));
  holt_writer_free(&w);
}

void holt__journals_look_damage(struct holt_journal *j) {
  struct holt_err err;
  if (j->all->is_damage_told || !holt_kv_is_damaged(j->all->kv)) return;
  j->all->is_damage_told = true;
  holt_err_set(&err, HOLT_ECORRUPT,
               "the store in '%s' has damaged pages: start the node again, and it is made anew from what can "
               "be read; the rest comes from linked holders",
               holt_kv_path(j->all->kv));
  holt__journal_tell(j, HOLT_JOURNAL_DISK_ERROR, "", 0, &err);
}

/* A whole page may have become another that looks like one. */
static void look_missing(struct holt_journal *j, uint64_t position) {
  struct holt_kv_txn *txn;
  if (j->knows_missing || holt_kv_begin(j->all->kv, &txn) != 0) return;
  if (holt_book_is_missing(j->book, txn, position)) holt_kv_suspect(j->all->kv);
  holt_kv_end(txn);
}

/* Once, until all that were taken up are mended. */
static void tell_too_many(struct holt_journal *j) {
  struct holt_err err;
  if (j->is_damage_told) return;
  j->is_damage_told = true;
  holt_err_set(&err, HOLT_ECORRUPT,
               "journal '%s': more than %d entries are damaged; so many are asked for first: once they are "
               "mended, verify again to have the others found and mended, too",
               j->name, HOLT__DAMAGES_MAX);
  holt__journal_tell(j, HOLT_JOURNAL_DISK_ERROR, "", 0, &err);
}

void holt__journal_damaged(struct holt_journal *j, uint64_t position) {
  if (holt_map_get(&j->damaged, position) != NULL) return;
  look_missing(j, position);
  holt__journals_look_damage(j);
  if (j->damaged.count >= HOLT__DAMAGES_MAX) forget_dropped(j);
  if (j->damaged.count >= HOLT__DAMAGES_MAX) {
    tell_too_many(j);
    return;
  }
  struct holt__damage *damage = holt_alloc(sizeof *damage);
  damage->position = position;
  damage->is_known = identify(j, damage) == 0;
  holt_list_push(&j->damages, &damage->node);
  holt_map_set(&j->damaged, position, damage);
  j->counts.damaged++;
  remember(j);
  holt__journal_tell(j, HOLT_JOURNAL_DAMAGED, "", position, NULL);
  if (is_askable(damage) && j->damages_asked < ASKED_MAX) ask_everybody(j, damage);
  ask_again_soon(j);
}

void holt__damages_load(struct holt_journal *j) {
  struct holt_writer kept = {0};
  struct holt_err err;
  if (holt_journal_note(j, HOLT__DAMAGED_NOTE, &kept) != 0) return;
  j->knows_missing = true;
  for (size_t i = 0; i + 8 <= kept.len; i += 8) {
    uint64_t position = holt_get_u64(kept.data + i);
    if (position >= holt_book_first(j->book)) holt_journal_verify(j, &position, 1, &err);
  }
  j->knows_missing = false;
  remember(j); /* some may be dropped by now */
  holt_writer_free(&kept);
}

/* --- Mending ------------------------------------------------------------------------------------------- */

/* The place of the damaged entry in the run; UINT32_MAX: it is not in it. */
static uint32_t place_in(const struct holt_journal *j, const struct holt_dag_run *run,
                         const struct holt__damage *damage) {
  struct holt_dag_chain chain;
  struct holt_dag_author author;
  if (damage->number < run->first || damage->number - run->first >= run->count) return UINT32_MAX;
  holt_dag_chain(j->dag, damage->chain, &chain);
  holt_dag_author(j->dag, chain.author, &author);
  if (memcmp(author.key, run->author, sizeof author.key) != 0) return UINT32_MAX;
  return (uint32_t)(damage->number - run->first);
}

/* A checked run has one history: an entry in it that we know names those before it. */
static void learn(struct holt_journal *j, const struct holt_dag_run *run) {
  uint32_t chain = 0, upto = 0; /* places below `upto` are of `chain` */
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    uint32_t i = damage->is_known ? place_in(j, run, damage) : UINT32_MAX;
    if (i == UINT32_MAX || i < upto || memcmp(run->items[i].hash, damage->ref.hash, HOLT_DAG_HASH) != 0)
      continue;
    chain = damage->chain;
    upto = i;
  }
  if (upto == 0) return;
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    uint32_t i = damage->is_known || damage->chain != chain ? UINT32_MAX : place_in(j, run, damage);
    if (i >= upto) continue;
    memcpy(damage->ref.hash, run->items[i].hash, HOLT_DAG_HASH);
    damage->is_known = true;
  }
}

/* A checked run that brought nothing new: perhaps what is damaged here. */
void holt__damages_look(struct holt_journal *j, const struct holt_dag_run *run) {
  learn(j, run);
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    uint32_t i = damage->is_known && damage->bytes.len == 0 ? place_in(j, run, damage) : UINT32_MAX;
    if (i == UINT32_MAX || memcmp(run->items[i].hash, damage->ref.hash, HOLT_DAG_HASH) != 0) continue;
    struct holt_buf entry = holt_dag_run_entry(run, i);
    holt_write_bytes(&damage->bytes, entry.data, entry.len);
    damage->is_signed = i + 1 == run->count;
    memcpy(damage->signature, run->signature, sizeof damage->signature);
    j->is_save_due = true;
  }
}

/* The worker gets them for itself: the loop may find others meanwhile. */
void holt__damages_collect(struct holt_journal *j) {
  if (holt_kv_is_damaged(j->all->kv)) return; /* not into a damaged page: the next start makes them anew */
  forget_dropped(j);
  HOLT_LIST_EACH(&j->damages, at, next) {
    if (HOLT_CONTAINER(at, struct holt__damage, node)->bytes.len == 0) continue;
    holt_list_remove(at);
    holt_list_push(&j->commit.mends, at);
  }
}

int holt__damages_write(struct holt__commit *c) {
  int rc = 0;
  HOLT_LIST_EACH(&c->mends, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    struct holt_book_entry entry = {.arrival = damage->position,
                                    .chain = damage->chain,
                                    .number = damage->number,
                                    .bytes = holt_buf(damage->bytes.data, damage->bytes.len),
                                    .hash = damage->ref.hash,
                                    .is_kept = damage->number == 1,
                                    .signature = damage->is_signed ? damage->signature : NULL};
    if (rc == 0) rc = holt_book_mend(c->journal->book, &entry);
  }
  return rc;
}

/* Whether `mended` is what follows, and so what names this one; or its neighbour, where nothing is known. */
static bool is_named_by(const struct holt__damage *damage, const struct holt__damage *mended) {
  if (damage->number > 0) return mended->chain == damage->chain && mended->number == damage->number + 1;
  return mended->position == damage->position + 1 || mended->position + 1 == damage->position;
}

static void identify_again(struct holt_journal *j, const struct holt_list *mended) {
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    bool is_named = false;
    if (damage->is_known) continue;
    HOLT_LIST_EACH(mended, other, following)
    is_named = is_named || is_named_by(damage, HOLT_CONTAINER(other, struct holt__damage, node));
    if (is_named) damage->is_known = identify(j, damage) == 0;
  }
}

void holt__damages_settle(struct holt_journal *j, int status) {
  struct holt_list mended;
  holt_list_init(&mended);
  holt_list_move(&mended, &j->commit.mends);
  if (status != 0) {
    holt_list_move(&j->damages, &mended);
    return;
  }
  if (holt_list_is_empty(&mended)) return;
  identify_again(j, &mended);
  HOLT_LIST_EACH(&mended, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    uint64_t position = damage->position;
    forget(j, damage);
    holt__journal_tell(j, HOLT_JOURNAL_MENDED, "", position, NULL);
  }
  remember(j);
  ask_more(j);
  j->again_ms = AGAIN_MS;
}

void holt__damages_free(struct holt_journal *j) {
  HOLT_LIST_EACH(&j->damages, at, next) forget(j, HOLT_CONTAINER(at, struct holt__damage, node));
  HOLT_LIST_EACH(&j->commit.mends, at, next) forget(j, HOLT_CONTAINER(at, struct holt__damage, node));
  holt_map_free(&j->damaged);
}
