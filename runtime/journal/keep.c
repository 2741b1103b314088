/* keep.c - retention: how much is kept, and what others are told of the rest.
 *
 * The oldest entries go in the order in which they came, so what is left is closed: nothing kept needs what
 * went, but below the horizons. Each cut is an entry of our own chain, signed by the directory's key, for
 * everybody to see. */
#include <stdlib.h>

#include "base/mem.h"
#include "journal/journal_impl.h"

enum { CUT_ENTRIES = 8192, CUT_LEAST = 64, LOOK_MS = 1000, LOOK_LATEST_MS = 60000 };
enum { PART = 8 }; /* what is kept may be this part of it too much: marks, and what a cut is worth */
/* Of a horizon besides its authors: directory, count, signature. */
enum { STONE_BYTES = HOLT_DAG_KEY + 2 + HOLT_DAG_SIGNATURE + 16 };

struct cut {
  uint32_t chain;
  uint64_t number;
};

static void note_cut(struct cut **cuts, size_t *count, uint32_t chain, uint64_t number) {
  for (size_t i = *count; i-- > 0;)
    if ((*cuts)[i].chain == chain) {
      (*cuts)[i].number = number;
      return;
    }
  *cuts = holt_realloc(*cuts, (*count + 1) * sizeof **cuts);
  (*cuts)[(*count)++] = (struct cut){.chain = chain, .number = number};
}

static bool is_event(const struct holt_journal *j, const struct holt_book_entry *entry) {
  struct holt_dag_entry found;
  return holt_dag_entry_decode(entry->bytes, &j->options.limits, &found) == 0 && found.kind == HOLT_DAG_EVENT;
}

/* The last number of each chain among the entries below `up_to`. False: nobody's event is among them, and a
 * cut would only make another entry that tells of it. */
static bool collect(struct holt_journal *j, uint64_t up_to, struct cut **cuts, size_t *count) {
  bool has_event = false;
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  holt_book_scan(&scan, j->book, holt_book_first(j->book));
  for (;;) {
    int rc = holt_book_scan_next(&scan, &entry);
    if ((rc != 0 && rc != HOLT_ECORRUPT) || entry.arrival >= up_to) break;
    if (rc == 0) note_cut(cuts, count, entry.chain, entry.number);
    has_event = has_event || rc != 0 || is_event(j, &entry);
  }
  holt_book_scan_close(&scan);
  return has_event;
}

static int by_author(const void *a, const void *b) {
  return memcmp(a, b, HOLT_DAG_KEY);
}

/* Signs what `refs` says and appends it to `out`. */
static bool make_horizon(struct holt_journal *j, uint8_t *refs, uint32_t count, struct holt_writer *out) {
  struct holt_dag_horizon horizon = {.refs = refs, .ref_count = count};
  struct holt_dag_ops ops = holt__dag_ops(j->loop_crypto);
  if (count == 0) return false;
  memcpy(horizon.directory, holt_signer_public(j->all->directory_key), sizeof horizon.directory);
  qsort(refs, count, HOLT_DAG_REF, by_author);
  return holt_dag_horizon_make(out, &horizon, j->name, &ops, j->all->directory_key) == 0;
}

/* So many authors fit into one entry of ours. */
static uint32_t stone_refs(const struct holt_journal *j) {
  uint32_t room = j->options.limits.entry_bytes - holt__entry_overhead();
  uint32_t refs = room > STONE_BYTES ? (room - STONE_BYTES) / HOLT_DAG_REF : 0;
  return refs < HOLT_DAG_HORIZON_REFS ? refs : HOLT_DAG_HORIZON_REFS;
}

/* Tell in our own chain what goes, in as many entries as it takes. */
static void leave_stones(struct holt_journal *j, uint8_t *refs, uint32_t count) {
  uint32_t most = stone_refs(j);
  for (uint32_t done = 0; most > 0 && done < count; done += most) {
    struct holt_writer stone = {0};
    uint32_t here = count - done < most ? count - done : most;
    if (make_horizon(j, refs + (size_t)done * HOLT_DAG_REF, here, &stone))
      holt__write_own(j, HOLT_DAG_HORIZON, "horizon", holt_buf(stone.data, stone.len));
    holt_writer_free(&stone);
  }
}

/* The index is changed at once, for every chain of which something goes; the next commit drops the entries.
 * False: a chain could not be cut, so nothing is dropped now. */
static bool cut(struct holt_journal *j, uint64_t up_to) {
  struct cut *cuts = NULL;
  size_t count = 0;
  uint32_t done = 0;
  int rc = 0;
  if (!collect(j, up_to, &cuts, &count)) {
    free(cuts);
    return false;
  }
  uint8_t *refs = holt_alloc((count + 1) * HOLT_DAG_REF);
  for (size_t i = 0; i < count && rc == 0; i++) {
    struct holt_dag_ref ref;
    rc = holt_dag_cut(j->dag, cuts[i].chain, cuts[i].number, &ref);
    if (rc == 0) holt_dag_ref_write(refs + (size_t)done++ * HOLT_DAG_REF, &ref);
    if (rc == HOLT_EINVAL) rc = 0; /* its horizon is there, or above, already */
  }
  leave_stones(j, refs, done);
  free(refs);
  free(cuts);
  if (done > 0) holt__exchange_horizons(j);
  if (rc == 0) j->commit.cut_to = up_to;
  return rc == 0;
}

void holt__keep_marks(const struct holt_journal *j, struct holt_book_options *options) {
  options->mark_bytes = j->keep_bytes / PART + (j->keep_bytes > 0);
  options->mark_ms = j->keep_ms / PART + (j->keep_ms > 0);
}

static bool has_limit(const struct holt_journal *j) {
  return j->keep_ms > 0 || j->keep_entries > 0 || j->keep_bytes > 0;
}

void holt__keep_soon(struct holt_journal *j) {
  if (has_limit(j) && !holt_timer_is_active(&j->keep)) holt_timer_start(&j->keep, LOOK_MS);
}

/* Entries age while nothing is written. */
static void look_again(struct holt_journal *j) {
  uint64_t wait_ms = j->keep_ms / PART;
  if (j->keep_ms == 0 || holt_timer_is_active(&j->keep)) return;
  holt_timer_start(&j->keep, wait_ms < LOOK_MS          ? LOOK_MS
                             : wait_ms > LOOK_LATEST_MS ? LOOK_LATEST_MS
                                                        : wait_ms);
}

/* Whether so many entries, from the first on, are worth an entry that tells of it. */
static bool is_worth(const struct holt_journal *j, uint64_t entries) {
  if (entries >= CUT_LEAST) return true;
  if (entries == 0) return false;
  if (j->keep_ms > 0) return true; /* a mark has passed: an eighth of the time at least */
  bool is_much = j->keep_bytes > 0 && holt_book_bytes(j->book) > j->keep_bytes + j->keep_bytes / PART;
  return is_much || (j->keep_entries > 0 && entries > j->keep_entries / PART);
}

bool holt__keep_look(struct holt_journal *j) {
  struct holt_kv_txn *txn;
  uint64_t up_to = 0, first = holt_book_first(j->book), now = holt__journal_wall_ms(j);
  if (!has_limit(j)) return false;
  look_again(j);
  if (now < j->keep_due_ms && j->keep_due_ms - now <= LOOK_MS) { /* else the clock was set back */
    holt__keep_soon(j);
    return false;
  }
  if (holt_kv_begin(j->all->kv, &txn) != 0) return false;
  int rc = holt_book_cut(j->book, txn, j->keep_ms, j->keep_entries, j->keep_bytes, now, &up_to);
  holt_kv_end(txn);
  j->keep_due_ms = now + LOOK_MS;
  if (rc != 0 || !is_worth(j, up_to - first)) return false;
  if (!cut(j, up_to - first > CUT_ENTRIES ? first + CUT_ENTRIES : up_to)) return false;
  j->keep_due_ms = 0; /* there may be more */
  return true;
}

bool holt__keep_horizon(struct holt_journal *j, uint32_t *author_number, struct holt_writer *out) {
  uint32_t authors = holt_dag_author_count(j->dag), count = 0;
  struct holt_writer payload = {0};
  uint8_t *refs = NULL;
  for (; *author_number < authors && count < HOLT_DAG_HORIZON_REFS; ++*author_number) {
    struct holt_dag_ref ref;
    if (!holt_dag_horizon_ref(j->dag, *author_number, &ref)) continue;
    refs = holt_realloc(refs, (size_t)(count + 1) * HOLT_DAG_REF);
    holt_dag_ref_write(refs + (size_t)count++ * HOLT_DAG_REF, &ref);
  }
  bool is_made = make_horizon(j, refs, count, &payload);
  if (is_made) holt_dag_horizon_encode(holt_buf(payload.data, payload.len), out);
  holt_writer_free(&payload);
  free(refs);
  return is_made;
}

int holt__journal_horizon_told(struct holt_journal *j, const struct holt__station *station,
                               const struct holt_dag_message *message) {
  struct holt_dag_horizon horizon;
  struct holt_dag_ops ops = holt__dag_ops(j->loop_crypto);
  struct holt_dag_result result;
  int rc = holt_dag_horizon_read(message->bytes, j->name, &ops, &horizon);
  if (rc != 0) return rc;
  rc = holt_dag_horizon_told(j->dag, &horizon, station->source, &result);
  holt__journal_take(j, &result, NULL, NULL); /* what waited for entries that are not to be had */
  return rc;
}
