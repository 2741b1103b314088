/* raft_wal_sim.c - the real segment log under a simulated member, on a simulated disk with sectors and names.
 *
 * The disk of raft_disk_sim.c stays the measure. Each sync runs the operations that the log asks for; a crash
 * may fall between any two of them and then takes un-synced sectors, lengths and names as it likes. What the
 * log says after that must be what was synced, or what was synced and one or more whole writes behind it:
 * never less, never another. */
#include <stdlib.h>

#include "base/err.h"
#include "env/sim_disk.h"
#include "sim/raft_sim_impl.h"
#include "store/wal.h"

typedef unsigned long long ull;

struct rsim_wal {
  struct holt_sim_disk *platter;
  struct holt_wal *wal;           /* NULL: not open */
  const struct holt_file_op *ops; /* to be run by the sync under way */
  size_t op_count;
  uint64_t saved; /* writes that were durable when it was last looked at */
};

struct rsim_wal *holt__rsim_wal_new(void) {
  struct rsim_wal *l = holt_alloc(sizeof *l);
  l->platter = holt_sim_disk_new();
  return l;
}

void holt__rsim_wal_free(struct rsim_wal *l) {
  if (l == NULL) return;
  if (l->wal != NULL) holt_wal_free(l->wal);
  holt_sim_disk_free(l->platter);
  free(l);
}

/* Run what the log asks for. 130, 132: a sync of the directory, or of a file, is left out. */
static int run(struct rsim_wal *l, size_t count) {
  int rc = 0;
  for (size_t i = 0; i < count && rc == 0; i++) {
    bool is_left_out = (HOLT_BUG(130) && l->ops[i].type == HOLT_FILE_SYNC_DIR) ||
                       (HOLT_BUG(132) && l->ops[i].type == HOLT_FILE_SYNC);
    if (!is_left_out) rc = holt_sim_disk_run(l->platter, &l->ops[i], 1, NULL);
  }
  return rc;
}

int holt__rsim_wal_add(struct rsim_wal *l, const struct holt_raft_persist *persist) {
  return holt_wal_add(l->wal, persist);
}

void holt__rsim_wal_begin(struct rsim_wal *l) {
  if (l->op_count == 0) l->op_count = holt_wal_flush(l->wal, &l->ops);
}

size_t holt__rsim_wal_sync(struct rsim *w, struct rsim_wal *l, size_t wanted) {
  uint64_t target = l->saved + wanted;
  while (holt_wal_saved(l->wal) < target) {
    holt__rsim_wal_begin(l);
    if (l->op_count == 0) break;
    int rc = run(l, l->op_count);
    l->op_count = 0;
    rc = holt_wal_done(l->wal, rc);
    if (rc != 0) {
      holt__rsim_fail(w, "log_write", "the segment log fails on a good disk: %s", holt_err_word(rc));
      return 0;
    }
  }
  size_t now = (size_t)(holt_wal_saved(l->wal) - l->saved);
  l->saved = holt_wal_saved(l->wal);
  if (now < wanted)
    holt__rsim_fail(w, "log_write", "the segment log made %zu writes durable of %zu", now, wanted);
  return now;
}

void holt__rsim_wal_drop(struct rsim_wal *l, uint64_t index) {
  holt_wal_drop(l->wal, index);
}

void holt__rsim_wal_crash(struct rsim *w, struct rsim_wal *l) {
  if (l->wal == NULL) return;
  if (l->op_count > 0) {
    size_t some = (size_t)holt__rsim_between(&w->disk_rand, 0, l->op_count);
    run(l, some);
  }
  static const enum holt_sim_loss losses[] = {HOLT_SIM_LOSS_NONE, HOLT_SIM_LOSS_ALL, HOLT_SIM_LOSS_PREFIX,
                                              HOLT_SIM_LOSS_SECTORS};
  holt_sim_disk_crash(l->platter, &w->disk_rand, losses[holt_rand_next(&w->disk_rand) % 4]);
  holt_wal_free(l->wal);
  l->wal = NULL;
  l->op_count = 0;
}

/* Whether what the log restored is what the model holds. */
static bool is_same(const struct rsim_disk *d, const struct holt_raft_restore *r) {
  uint64_t snapshot = r->snapshot == NULL ? 0 : r->snapshot->index;
  if (r->term != d->term || r->vote != d->vote || snapshot != d->snapshot_index || r->count != d->log.count)
    return false;
  for (size_t i = 0; i < r->count; i++) {
    const struct rsim_record *record = d->log.records[d->log.head + i];
    const struct holt_raft_entry *e = &r->entries[i];
    if (e->index != record->index || e->term != record->term || e->client != record->client ||
        e->seq != record->seq || e->low != record->low || e->stamp_ms != record->stamp_ms ||
        e->type != record->type || e->len != record->len)
      return false;
    if (e->len > 0 && memcmp(e->data, record->data, e->len) != 0) return false;
  }
  return true;
}

void holt__rsim_wal_open(struct rsim *w, struct rsim_host *h, struct rsim_wal *l) {
  struct rsim_disk *d = &h->self->disk;
  struct holt_wal_config config = {.cluster = RSIM_CLUSTER, .self = h->self->id, .segment_bytes = 2048};
  struct holt_wal_files files = holt_wal_on_sim_disk(l->platter);
  struct holt_wal_restored restored;
  struct holt_err err = {0};
  l->wal = holt_wal_new(&config);
  int rc = holt_wal_open(l->wal, &files, &err);
  if (rc == 0) rc = holt_wal_restore(l->wal, &files, &restored, &err);
  if (rc != 0) {
    holt__rsim_fail(w, "log_open", "n%u cannot open its log after a crash: %s", h->place, err.message);
    return;
  }
  l->saved = holt_wal_saved(l->wal);
  size_t more = holt__rsim_disk_match(d, is_same, &restored.restore);
  if (more == SIZE_MAX)
    holt__rsim_fail(w, "log_content", "n%u restored term %llu, vote %llx, %zu entries: not what it wrote",
                    h->place, (ull)restored.restore.term, (ull)restored.restore.vote, restored.restore.count);
  holt_wal_restored_free(&restored);
}
