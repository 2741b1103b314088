/* verify.c - looking at entries of a journal, one after the other: bytes, place, hash, signature, parents.
 * What is wrong is taken up as damaged (damage.c). */
#include "journal/journal_impl.h"

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
  if (found->signature != NULL && !holt_crypto_verify(author.key, holt_buf(text, len), found->signature))
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
