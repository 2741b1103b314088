/* read.c - looking at what is durable: entries by position, by hash, by author and number; who wrote;
 * figures. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "journal/journal_impl.h"

enum { LOOK_FOR_TIME = 16384 /* entries looked at one by one behind a mark; a mark is at most 4,096 away */ };

int holt__journal_record(struct holt_journal *j, enum holt_book_kind kind, const char *key,
                         struct holt_writer *out) {
  struct holt_kv_txn *txn;
  struct holt_buf value;
  int rc = holt_kv_begin(j->all->kv, &txn);
  if (rc != 0) return rc;
  rc = holt_book_record(j->book, txn, kind, holt_buf_text(key), &value);
  if (rc == 0) holt_write_bytes(out, value.data, value.len);
  holt_kv_end(txn);
  return rc;
}

int holt__journal_entry(struct holt_journal *j, uint32_t chain, uint64_t number, struct holt_writer *out,
                        uint64_t *position) {
  struct holt_kv_txn *txn;
  struct holt_book_entry entry;
  int rc = holt_kv_begin(j->all->kv, &txn);
  if (rc != 0) return rc;
  rc = holt_book_get_number(j->book, txn, chain, number, &entry);
  if (rc == 0 && out != NULL) holt_write_bytes(out, entry.bytes.data, entry.bytes.len);
  if (rc == 0 && position != NULL) *position = entry.arrival;
  holt_kv_end(txn);
  return rc;
}

uint64_t holt_journal_first(const struct holt_journal *j) {
  return holt_book_first(j->book);
}

uint64_t holt_journal_next(const struct holt_journal *j) {
  return holt_book_next(j->book);
}

/* The name of the author's node is in the opening, which is kept for ever. */
static const char *node_of(struct holt_journal *j, uint32_t number) {
  if (number >= j->node_names_cap) {
    uint32_t cap = number < 8 ? 16 : number * 2;
    j->node_names = holt_realloc(j->node_names, cap * sizeof *j->node_names);
    memset(j->node_names + j->node_names_cap, 0, (cap - j->node_names_cap) * sizeof *j->node_names);
    j->node_names_cap = cap;
  }
  char *name = j->node_names[number];
  if (*name != '\0') return name;
  struct holt_dag_author author;
  struct holt_dag_entry opening;
  struct holt_dag_certificate certificate;
  struct holt_dag_ops ops = holt__dag_ops(j->loop_crypto);
  struct holt_writer bytes = {0};
  holt_dag_author(j->dag, number, &author);
  if (holt__journal_entry(j, author.chain, 1, &bytes, NULL) == 0 &&
      holt_dag_entry_decode(holt_buf(bytes.data, bytes.len), &j->options.limits, &opening) == 0 &&
      holt_dag_certificate_read(opening.payload, j->name, author.key, &ops, &certificate) == 0)
    snprintf(name, HOLT_NAME_MAX + 1, "%.*s", HOLT_NAME_MAX, certificate.node);
  else
    snprintf(name, HOLT_NAME_MAX + 1, "?");
  holt_writer_free(&bytes);
  return name;
}

static void fill(struct holt_journal *j, const struct holt_book_entry *found,
                 const struct holt_dag_entry *entry, struct holt_journal_entry *out) {
  struct holt_dag_author author;
  struct holt_dag_chain chain;
  holt_dag_chain(j->dag, found->chain, &chain);
  holt_dag_author(j->dag, chain.author, &author);
  out->position = found->arrival;
  memcpy(out->author, author.key, sizeof out->author);
  memcpy(out->holder, author.directory, sizeof out->holder);
  holt_crypto_hash(j->loop_crypto, found->bytes, out->hash);
  out->number = entry->number;
  out->time_ms = entry->time_ms;
  out->node = holt_buf_text(node_of(j, chain.author));
  out->name = entry->name;
  out->payload = entry->payload;
}

int holt_journal_read(struct holt_journal *j, uint64_t *position, struct holt_journal_entry *out) {
  struct holt_book_scan scan;
  struct holt_book_entry found;
  struct holt_dag_entry entry;
  int rc;
  holt_book_scan(&scan, j->book, *position);
  while ((rc = holt_book_scan_next(&scan, &found)) == 0) {
    *position = found.arrival + 1;
    rc = holt_dag_entry_decode(found.bytes, &j->options.limits, &entry);
    if (rc != 0) rc = HOLT_ECORRUPT;
    if (rc != 0 || entry.kind == HOLT_DAG_EVENT) break;
  }
  if (rc == HOLT_ECORRUPT) *position = found.arrival + 1;
  if (rc == 0) { /* it outlives the transaction */
    j->entry.len = 0;
    holt_write_bytes(&j->entry, found.bytes.data, found.bytes.len);
    found.bytes = holt_buf(j->entry.data, j->entry.len);
    rc = holt_dag_entry_decode(found.bytes, &j->options.limits, &entry);
  }
  holt_book_scan_close(&scan);
  if (rc == HOLT_ENOTFOUND) return HOLT_EEOF;
  if (rc == HOLT_ECORRUPT) holt__journal_damaged(j, *position - 1);
  if (rc == 0) fill(j, &found, &entry, out);
  return rc;
}

bool holt_journal_damage(const struct holt_journal *j, uint64_t position, struct holt_journal_damage *out) {
  const struct holt__damage *damage = holt_map_get(&j->damaged, position);
  if (damage == NULL) return false;
  memcpy(out->author, damage->ref.author, sizeof out->author);
  memcpy(out->hash, damage->ref.hash, sizeof out->hash);
  out->number = damage->ref.number;
  out->has_hash = damage->is_known;
  return true;
}

bool holt_journal_parent(struct holt_journal *j, size_t index, struct holt_journal_parent *out) {
  struct holt_dag_entry entry;
  struct holt_dag_ref ref;
  if (holt_dag_entry_decode(holt_buf(j->entry.data, j->entry.len), &j->options.limits, &entry) != 0)
    return false;
  if (index >= entry.parent_count) return false;
  holt_dag_entry_parent(&entry, (uint32_t)index, &ref);
  memcpy(out->author, ref.author, sizeof out->author);
  memcpy(out->hash, ref.hash, sizeof out->hash);
  out->number = ref.number;
  return true;
}

int holt_journal_find(struct holt_journal *j, const uint8_t hash[32], uint64_t *position) {
  struct holt_kv_txn *txn;
  int rc = holt_kv_begin(j->all->kv, &txn);
  if (rc != 0) return rc;
  rc = holt_book_find(j->book, txn, hash, position);
  holt_kv_end(txn);
  return rc;
}

int holt_journal_find_number(struct holt_journal *j, struct holt_buf key, uint64_t number,
                             uint64_t *position) {
  uint32_t count = holt_dag_author_count(j->dag), found = UINT32_MAX;
  struct holt_dag_chain chain;
  if (key.len < 4 || key.len > HOLT_DAG_KEY) return HOLT_EINVAL;
  for (uint32_t i = 0; i < count; i++) {
    struct holt_dag_author author;
    holt_dag_author(j->dag, i, &author);
    if (memcmp(author.key, key.data, key.len) != 0) continue;
    if (found != UINT32_MAX) return HOLT_ECONTENDED;
    found = author.chain;
  }
  if (found == UINT32_MAX) return HOLT_ENOTFOUND;
  int rc = HOLT_ENOTFOUND;
  for (; rc == HOLT_ENOTFOUND && found != HOLT_DAG_NO_CHAIN; found = chain.next) {
    holt_dag_chain(j->dag, found, &chain);
    rc = holt__journal_entry(j, found, number, NULL, position);
    if (rc == 0 && *position == 0) rc = HOLT_ENOTFOUND;
  }
  return rc;
}

static uint64_t time_at(struct holt_journal *j, uint64_t position) {
  struct holt_journal_entry entry;
  uint64_t at = position;
  int rc = holt_journal_read(j, &at, &entry);
  while (rc == HOLT_ECORRUPT) rc = holt_journal_read(j, &at, &entry);
  return rc == 0 ? entry.time_ms : UINT64_MAX;
}

static uint64_t halve(struct holt_journal *j, uint64_t low, uint64_t high, uint64_t time_ms) {
  while (low < high) {
    uint64_t middle = low + (high - low) / 2;
    if (time_at(j, middle) < time_ms)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

uint64_t holt_journal_find_time(struct holt_journal *j, uint64_t time_ms) {
  struct holt_kv_txn *txn;
  struct holt_journal_entry entry;
  uint64_t at = holt_journal_first(j), next = holt_journal_next(j);
  if (holt_kv_begin(j->all->kv, &txn) == 0) {
    holt_book_find_time(j->book, txn, time_ms, &at);
    holt_kv_end(txn);
  }
  for (unsigned looked = 0; looked < LOOK_FOR_TIME; looked++) {
    uint64_t here = at;
    int rc = holt_journal_read(j, &at, &entry);
    if (rc == HOLT_EEOF || at >= next) return rc == 0 && entry.time_ms >= time_ms ? entry.position : next;
    if (rc == 0 && entry.time_ms >= time_ms) return entry.position;
    if (rc != 0 && at == here) return here;
  }
  return halve(j, at, next, time_ms);
}

/* --- Looking ----------------------------------------------------------------------------------------------
 */

size_t holt_journal_author_count(const struct holt_journal *j) {
  return holt_dag_author_count(j->dag);
}

/* The chain of the author's newest entry: branches, and what begins behind a horizon, are chains of their
 * own. Of several the one with the lower hash, so that it is the same everywhere. */
static void newest_chain(struct holt_journal *j, const struct holt_dag_author *author,
                         struct holt_dag_chain *out) {
  struct holt_dag_chain chain;
  *out = (struct holt_dag_chain){.next = HOLT_DAG_NO_CHAIN};
  if (author->chain == HOLT_DAG_NO_CHAIN) return; /* known by name only */
  holt_dag_chain(j->dag, author->chain, out);
  for (uint32_t at = out->next; at != HOLT_DAG_NO_CHAIN; at = chain.next) {
    holt_dag_chain(j->dag, at, &chain);
    if (chain.tip < out->tip) continue;
    if (chain.tip > out->tip || memcmp(chain.tip_hash, out->tip_hash, sizeof chain.tip_hash) < 0)
      *out = chain;
  }
}

static void find_proof(struct holt_journal *j, const struct holt_dag_author *author,
                       struct holt_journal_author *out) {
  struct holt_dag_chain chain;
  for (uint32_t at = author->chain; at != HOLT_DAG_NO_CHAIN && !out->has_proof; at = chain.next) {
    holt_dag_chain(j->dag, at, &chain);
    out->has_proof = holt__journal_fork_proof(j, at, out->proof);
    out->proof_number = chain.first;
  }
}

bool holt_journal_author(struct holt_journal *j, size_t index, struct holt_journal_author *out) {
  struct holt_dag_author author;
  struct holt_dag_chain chain;
  if (index >= holt_dag_author_count(j->dag)) return false;
  holt_dag_author(j->dag, (uint32_t)index, &author);
  newest_chain(j, &author, &chain);
  memset(out, 0, sizeof *out);
  memcpy(out->key, author.key, sizeof out->key);
  memcpy(out->holder, author.directory, sizeof out->holder);
  memcpy(out->tip, chain.tip_hash, sizeof out->tip);
  snprintf(out->node, sizeof out->node, "%s", node_of(j, (uint32_t)index));
  out->number = chain.tip;
  out->horizon = author.horizon;
  out->is_forked = author.is_forked;
  out->is_self = index == j->self;
  if (author.is_forked) find_proof(j, &author, out);
  return true;
}

void holt_journal_status(struct holt_journal *j, struct holt_journal_status *out) {
  struct holt_dag_status dag;
  holt_dag_status(j->dag, &dag);
  *out = j->counts;
  memcpy(out->id, holt_signer_public(j->all->directory_key), sizeof out->id);
  out->first = holt_book_first(j->book);
  out->next = holt_book_next(j->book);
  out->entries = out->next - out->first;
  out->bytes = holt_kv_size_bytes(j->all->kv);
  out->bytes_free = holt_kv_free_bytes(j->all->kv);
  out->penned = dag.pen_runs;
  out->pen_evicted = dag.evicted;
  out->branches_refused = dag.branches_refused;
  out->is_full = j->is_full;
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    const struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    if (!holt_dag_link_is_ready(x->link)) continue;
    out->holders++;
    out->holders_in_step += holt_dag_link_is_in_step(x->link);
  }
}
