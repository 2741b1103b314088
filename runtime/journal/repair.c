/* repair.c - a journal whose store was made anew from what could be read of a damaged one.
 *
 * - The indexes over the log are made again (book_repair.c). Entries that are missing in the midst count as
 * damaged: known by their neighbours, fetched from other holders (damage.c). Positions and cursors stay.
 * - What is kept of the authors does not fit the log, or too much is missing: the index of authors is made
 * anew from the log, entry by entry, up to where something is missing; what came behind that is fetched
 * again. An order of arrival is causal, so each beginning of it is closed.
 * - Nothing is left: the journal begins empty.
 * What only this holder had and is not kept lies in the old file; the event tells where. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "journal/journal_impl.h"

#define NOTE                                                                                                 \
  "rebuilds" /* how often the store had been made anew when this journal was looked at, 4 bytes              \
              */

enum { HOLES_MAX = 4096 };

static uint32_t seen_rebuilds(struct holt_journal *j) {
  struct holt_writer kept = {0};
  uint32_t seen = holt__journal_record(j, HOLT_BOOK_NOTE, NOTE, &kept) == 0 && kept.len == 4
                      ? holt_get_u32(kept.data)
                      : 0;
  holt_writer_free(&kept);
  return seen;
}

static void note_rebuilds(struct holt_journal *j) {
  uint8_t bytes[4];
  holt_put_u32(bytes, holt_kv_rebuilds(j->all->kv));
  holt_journal_set_note(j, NOTE, holt_buf(bytes, sizeof bytes));
}

/* --- Authors ---------------------------------------------------------------------------------------------
 */

/* Whether the last entry of each chain stands in the log, or is missing at a place of it. */
static bool are_tips_there(struct holt_journal *j) {
  for (uint32_t i = 0; i < holt_dag_chain_count(j->dag); i++) {
    struct holt_dag_chain chain;
    struct holt_dag_author author;
    holt_dag_chain(j->dag, i, &chain);
    holt_dag_author(j->dag, chain.author, &author);
    if (chain.tip == 0 || chain.is_buried || chain.tip <= author.horizon) continue;
    if (holt__journal_entry(j, i, chain.tip, NULL, NULL) == HOLT_ENOTFOUND) return false;
  }
  return true;
}

/* Whether an entry of the log is one that the index has. */
static bool knows(const struct holt_journal *j, const struct holt_book_entry *entry) {
  struct holt_dag_chain chain;
  if (entry->chain >= holt_dag_chain_count(j->dag)) return false;
  holt_dag_chain(j->dag, entry->chain, &chain);
  return entry->number >= chain.first && entry->number <= chain.tip;
}

/* The run that begins at *position, as it would be sent; *position is moved behind it. */
static int next_run(struct holt_journal *j, uint64_t *position, uint32_t *chain, struct holt_writer *out) {
  struct holt_dag_pack pack = {0};
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  bool is_whole = false;
  int rc = 0;
  out->len = 0;
  holt_dag_pack_begin(&pack, out);
  holt_book_scan(&scan, j->book, *position);
  while (rc == 0 && !is_whole) {
    rc = holt_book_scan_next(&scan, &entry);
    if (rc != 0) break;
    if (pack.count > 0 && entry.chain != *chain) rc = HOLT_ECORRUPT;
    *chain = entry.chain;
    if (rc == 0) rc = holt_dag_pack_add(&pack, entry.bytes, entry.signature, &j->options.limits);
    is_whole = entry.signature != NULL;
    if (is_whole) *position = entry.arrival + 1;
  }
  holt_book_scan_close(&scan);
  holt_dag_pack_end(&pack);
  return rc;
}

/* Up to which position the log makes sense from its beginning on; the index is filled with it. */
static uint64_t replay(struct holt_journal *j) {
  struct holt_dag_ops ops = holt__dag_ops(j->loop_crypto);
  struct holt_dag_run run = {0};
  struct holt_writer message = {0};
  uint64_t good = holt_book_first(j->book), next = good;
  uint32_t chain = 0;
  while (next_run(j, &next, &chain, &message) == 0) {
    struct holt_dag_result result;
    if (holt_dag_run_read(&run, holt_buf(message.data, message.len), j->name, &ops, &j->options.limits) !=
        HOLT_DAG_NONE)
      break;
    holt_dag_offer(j->dag, &run, 0, &result);
    if (result.outcome != HOLT_DAG_ADMITTED || result.admitted[0].chain != chain ||
        result.admitted[0].skip != 0)
      break;
    good = next;
  }
  holt_dag_run_free(&run);
  holt_writer_free(&message);
  return good;
}

static int open_book_again(struct holt_journal *j, const struct holt_book_options *options,
                           struct holt_err *err) {
  holt_book_close(j->book);
  j->book = NULL;
  return holt_book_open(options, &j->book, err);
}

/* The beginning that can be understood, and no more. */
static int begin_anew(struct holt_journal *j, const struct holt_book_options *options, struct holt_err *err) {
  if (j->dag != NULL) holt_dag_free(j->dag);
  j->dag = holt_dag_new(&j->options);
  uint64_t good = replay(j);
  if (good == holt_book_next(j->book)) return 0;
  int rc = holt_book_shorten(j->book, good, err);
  if (rc == 0) rc = open_book_again(j, options, err);
  if (rc != 0) return rc;
  holt_dag_free(j->dag); /* it may have taken more than there is */
  j->dag = holt_dag_new(&j->options);
  replay(j);
  return 0;
}

/* --- Entries ---------------------------------------------------------------------------------------------
 */

/* How many entries are missing in the midst, and where the first ones were. HOLT_ECORRUPT: the index, which
 * never is behind the log, does not know one that is there. */
static int find_holes(struct holt_journal *j, uint64_t *holes, size_t *count) {
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  bool is_known = true;
  int rc = 0;
  *count = 0;
  holt_book_scan(&scan, j->book, holt_book_first(j->book));
  while ((rc == 0 || rc == HOLT_ECORRUPT) && is_known && *count <= HOLES_MAX) {
    rc = holt_book_scan_next(&scan, &entry);
    if (rc == 0) is_known = knows(j, &entry);
    if (rc == HOLT_ECORRUPT && (*count)++ < HOLES_MAX) holes[*count - 1] = entry.arrival;
  }
  holt_book_scan_close(&scan);
  return is_known ? 0 : HOLT_ECORRUPT;
}

int holt__repair_look(struct holt_journal *j, const struct holt_book_options *options, struct holt_err *err) {
  uint32_t rebuilds = holt_kv_rebuilds(j->all->kv);
  if (rebuilds == 0 || seen_rebuilds(j) == rebuilds) return 0;
  j->is_repaired = true;
  holt_book_close(j->book);
  j->book = NULL;
  int rc = holt_book_repair(options, err);
  return rc == 0 ? holt_book_open(options, &j->book, err) : rc;
}

int holt__repair(struct holt_journal *j, const struct holt_book_options *options, int loaded,
                 struct holt_err *err) {
  uint64_t *holes = holt_alloc(HOLES_MAX * sizeof *holes);
  uint64_t next = holt_book_next(j->book);
  size_t count = 0;
  const char *aside = holt_kv_aside(j->all->kv);
  int rc = 0;
  if (loaded == 0) loaded = find_holes(j, holes, &count);
  if (loaded != 0 || count > HOLES_MAX || count > (next - holt_book_first(j->book)) / 4 ||
      !are_tips_there(j)) {
    count = 0;
    rc = begin_anew(j, options, err);
  }
  if (rc == 0) {
    uint64_t dropped = next - holt_book_next(j->book), missing = count + dropped;
    char lost[64] = "entries may be missing here";
    if (missing > 0)
      snprintf(lost, sizeof lost, "%llu entries are missing here", (unsigned long long)missing);
    if (holt_book_next(j->book) == 1) snprintf(lost, sizeof lost, "nothing of it could be read");
    holt_err_set(&j->report, HOLT_ECORRUPT,
                 "journal '%s': its store was damaged and made anew; %s; what linked holders have comes from "
                 "them; the old file is in '%s'",
                 j->name, lost, aside == NULL ? holt_kv_path(j->all->kv) : aside);
    j->counts.damaged += dropped > 0 ? dropped : holt_book_next(j->book) == 1;
    j->knows_missing = true;
    for (size_t i = 0; i < count; i++) holt__journal_damaged(j, holes[i]);
    j->knows_missing = false;
    note_rebuilds(j);
    j->is_save_due = true;
    holt__journal_stir(j);
  }
  free(holes);
  return rc;
}
