/* damage.c - entries whose bytes changed on the disk: noticed, fetched from others, written again;
 * verification.
 *
 * A damaged entry is known by its neighbours: its chain, number and hash. It is asked for everywhere; the run
 * that brings it is a duplicate to the index, and mends it here. Of neighbours that are damaged together only
 * the last is known, by what follows it; the run that brings it names those before it, and what that run does
 * not reach is looked at again once it is mended.
 *
 * What was found is kept in a note until it is mended: the process that found it may have nobody to ask. */
#include <stdlib.h>

#include "base/mem.h"
#include "journal/journal_impl.h"

enum { NOTE_BYTES = 32768 }; /* of the note: 4,096 positions */

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

static void ask_everybody(struct holt_journal *j, const struct holt__damage *damage) {
  HOLT_LIST_EACH(&j->exchanges, at, next)
  holt__exchange_ask_again(j, HOLT_CONTAINER(at, struct holt__exchange, node), &damage->ref, &damage->before);
}

/* Those that nothing named so far: perhaps what follows them is whole now. */
static void identify_again(struct holt_journal *j) {
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    if (damage->is_known || identify(j, damage) != 0) continue;
    damage->is_known = true;
    ask_everybody(j, damage);
  }
}

/* The positions, for the next start. */
static void remember(struct holt_journal *j) {
  struct holt_writer w = {0};
  HOLT_LIST_EACH(&j->damages, at, next)
  if (w.len < NOTE_BYTES) holt_write_u64(&w, HOLT_CONTAINER(at, struct holt__damage, node)->position);
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

void holt__journal_damaged(struct holt_journal *j, uint64_t position) {
  HOLT_LIST_EACH(&j->damages, at, next)
  if (HOLT_CONTAINER(at, struct holt__damage, node)->position == position) return;
  HOLT_LIST_EACH(&j->commit.mends, at, next) /* it is being mended */
  if (HOLT_CONTAINER(at, struct holt__damage, node)->position == position) return;
  look_missing(j, position);
  holt__journals_look_damage(j);
  struct holt__damage *damage = holt_alloc(sizeof *damage);
  damage->position = position;
  damage->is_known = identify(j, damage) == 0;
  holt_list_push(&j->damages, &damage->node);
  j->counts.damaged++;
  remember(j);
  holt__journal_tell(j, HOLT_JOURNAL_DAMAGED, "", position, NULL);
  if (damage->is_known) ask_everybody(j, damage);
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

/* Of whoever we meet later. */
void holt__damages_ask(struct holt_journal *j, struct holt__exchange *x) {
  HOLT_LIST_EACH(&j->damages, at, next) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    if (damage->is_known && damage->bytes.len == 0)
      holt__exchange_ask_again(j, x, &damage->ref, &damage->before);
  }
}

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

void holt__damages_free(struct holt_list *damages) {
  struct holt_list *at;
  while ((at = holt_list_shift(damages)) != NULL) {
    struct holt__damage *damage = HOLT_CONTAINER(at, struct holt__damage, node);
    holt_writer_free(&damage->bytes);
    free(damage);
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
  HOLT_LIST_EACH(&mended, at, next)
  holt__journal_tell(j, HOLT_JOURNAL_MENDED, "", HOLT_CONTAINER(at, struct holt__damage, node)->position,
                     NULL);
  if (holt_list_is_empty(&mended)) return;
  holt__damages_free(&mended);
  identify_again(j);
  remember(j);
}

/* --- Verification -----------------------------------------------------------------------------------------
 */

/* Whether an entry has the hash by which its successor, or the index, names it; true when that is not known.
 */
static bool is_named_right(struct holt_journal *j, const struct holt_dag_chain *chain, uint32_t chain_number,
                           uint64_t number, const uint8_t hash[HOLT_DAG_HASH]) {
  struct holt_writer bytes = {0};
  struct holt_dag_entry successor;
  if (number == chain->tip) return memcmp(hash, chain->tip_hash, HOLT_DAG_HASH) == 0;
  int rc = holt__journal_entry(j, chain_number, number + 1, &bytes, NULL);
  if (rc == 0) rc = holt_dag_entry_decode(holt_buf(bytes.data, bytes.len), &j->options.limits, &successor);
  bool is_right = rc != 0 || memcmp(hash, successor.prev, HOLT_DAG_HASH) == 0;
  holt_writer_free(&bytes);
  return is_right;
}

/* The successor names another: but perhaps that one was altered. */
static bool is_altered(struct holt_journal *j, const struct holt_dag_chain *chain, uint32_t chain_number,
                       uint64_t number, const uint8_t hash[HOLT_DAG_HASH]) {
  uint8_t next[HOLT_DAG_HASH];
  if (is_named_right(j, chain, chain_number, number, hash)) return false;
  if (number == chain->tip || holt__journal_hash_at(j, chain_number, number + 1, next) != 0) return true;
  return is_named_right(j, chain, chain_number, number + 1, next);
}

static int verify_parents(struct holt_journal *j, const struct holt_dag_entry *entry, struct holt_err *err) {
  for (uint32_t i = 0; i < entry->parent_count; i++) {
    struct holt_dag_author author;
    struct holt_dag_ref ref;
    uint32_t found;
    holt_dag_entry_parent(entry, i, &ref);
    if (holt_dag_author_find(j->dag, ref.author, &found) != 0) continue; /* one that may not write here */
    holt_dag_author(j->dag, found, &author);
    if (ref.number > author.horizon && ref.number > author.excused &&
        holt_dag_find(j->dag, &ref, &found) == HOLT_ENOTFOUND)
      return holt_err_set(err, HOLT_ECORRUPT, "it names a parent that is not here");
  }
  return 0;
}

static int verify_one(struct holt_journal *j, const struct holt_book_entry *found, struct holt_err *err) {
  struct holt_dag_entry entry;
  struct holt_dag_chain chain;
  struct holt_dag_author author;
  uint8_t hash[HOLT_DAG_HASH], text[HOLT_DAG_SIGNED_MAX];
  if (holt_dag_entry_decode(found->bytes, &j->options.limits, &entry) != 0)
    return holt_err_set(err, HOLT_ECORRUPT, "its bytes are not an entry");
  holt_dag_chain(j->dag, found->chain, &chain);
  holt_dag_author(j->dag, chain.author, &author);
  holt_crypto_hash(j->loop_crypto, found->bytes, hash);
  bool is_own_place = entry.number == found->number && memcmp(entry.author, author.key, HOLT_DAG_KEY) == 0;
  if (!is_own_place) return holt_err_set(err, HOLT_ECORRUPT, "it is another entry than belongs there");
  if (is_altered(j, &chain, found->chain, found->number, hash))
    return holt_err_set(err, HOLT_ECORRUPT, "it was altered: what follows it names another hash");
  size_t len = holt_dag_signed_text(hash, text);
  if (found->signature != NULL &&
      !holt_crypto_verify(j->loop_crypto, author.key, holt_buf(text, len), found->signature))
    return holt_err_set(err, HOLT_ECORRUPT, "it was altered: the signature is of something else");
  return verify_parents(j, &entry, err);
}

int holt_journal_verify(struct holt_journal *j, uint64_t *position, size_t max, struct holt_err *err) {
  struct holt_book_scan scan;
  struct holt_book_entry found;
  int rc = 0;
  holt_book_scan(&scan, j->book, *position);
  for (; rc == 0 && max > 0; max--) {
    rc = holt_book_scan_next(&scan, &found);
    if (rc == 0 || rc == HOLT_ECORRUPT) *position = found.arrival + 1;
    if (rc == HOLT_ECORRUPT) holt_err_set(err, rc, "its bytes changed on the disk");
    if (rc == 0) rc = verify_one(j, &found, err);
  }
  holt_book_scan_close(&scan);
  if (rc == HOLT_ENOTFOUND) return HOLT_EEOF;
  if (rc != HOLT_ECORRUPT) return rc;
  holt__journal_damaged(j, *position - 1);
  return holt_err_prefix(err, "journal '%s', entry at position %llu", j->name,
                         (unsigned long long)(*position - 1));
}
