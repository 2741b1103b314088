/* compact.c - the disk gets back what deleted entries took: one compaction of the store for whoever asks.
 *
 * - The store does the work, off the loop; commits wait behind it, so emits do.
 * - The node closes: the compaction ends early, and whoever waits hears so.
 * - It fails: all goes on as before; if not even that, the next commit tells. */
#include "journal/journal_impl.h"

static void compacted(void *arg, int status, const struct holt_err *err) {
  struct holt_journals *all = arg;
  (void)status;
  all->is_compacting = false;
  uint64_t after = holt_kv_size_bytes(all->kv);
  uint64_t freed = after < all->bytes_before ? all->bytes_before - after : 0;
  struct holt_list waiting;
  holt_list_init(&waiting);
  holt_list_move(&waiting, &all->compactions);
  struct holt_list *at;
  while ((at = holt_list_shift(&waiting)) != NULL) {
    struct holt_journal_compaction *compaction = HOLT_CONTAINER(at, struct holt_journal_compaction, node);
    compaction->cb(compaction->arg, err, freed);
  }
}

int holt_journal_compact(struct holt_journal *j, struct holt_journal_compaction *compaction) {
  struct holt_journals *all = j->all;
  if (j->is_closing || j->opens == 0) return HOLT_ECLOSED;
  if (j->is_broken) return HOLT_EIO;
  holt_list_init(&compaction->node);
  holt_list_push(&all->compactions, &compaction->node);
  if (all->is_compacting) return 0;
  all->is_compacting = true;
  all->bytes_before = holt_kv_size_bytes(all->kv);
  int rc = holt_kv_compact(all->kv, compacted, all);
  if (rc == 0) return 0;
  all->is_compacting = false;
  holt_list_remove(&compaction->node);
  return rc;
}

void holt_journal_compact_cancel(struct holt_journal_compaction *compaction) {
  holt_list_remove(&compaction->node);
}

void holt__journals_compact_stop(struct holt_journals *all) {
  if (all->is_compacting && all->kv != NULL) holt_kv_compact_stop(all->kv);
}
