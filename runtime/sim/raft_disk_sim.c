/* raft_disk_sim.c - a disk that takes its time and forgets what was not synced.
 *
 * Writes queue up; one sync covers all that were queued when it began, and whoever waits is told at its end.
 * A crash loses what was not synced: all of it, or all but a prefix. What was synced stays. */
#include <stdlib.h>

#include "base/err.h"
#include "sim/raft_sim_impl.h"

static struct rsim_write *write_at(struct rsim_disk *d, size_t i) {
  return &d->writes[(d->write_head + i) % d->write_cap];
}

static struct rsim_write *write_add(struct rsim_disk *d) {
  if (d->write_count == d->write_cap) {
    size_t cap = d->write_cap == 0 ? 8 : d->write_cap * 2;
    struct rsim_write *grown = holt_alloc(cap * sizeof *grown);
    for (size_t i = 0; i < d->write_count; i++) grown[i] = *write_at(d, i);
    free(d->writes);
    d->writes = grown;
    d->write_head = 0;
    d->write_cap = cap;
  }
  return write_at(d, d->write_count++);
}

/* The write counts now. */
static void commit(struct rsim_disk *d, const struct rsim_write *write) {
  if (write->has_vote) {
    d->term = write->term;
    if (!HOLT_BUG(302)) d->vote = write->vote; /* 302: the vote follows in a write of its own, some time */
    if (HOLT_BUG(302) && write->vote == 0) d->vote = 0;
  }
  if (write->snapshot_index != 0) {
    d->snapshot_index = write->snapshot_index;
    holt__rsim_log_drop(&d->log, write->snapshot_index, write->snapshot_record, write->is_reset);
  }
  if (write->truncate_from != 0 && !HOLT_BUG(30)) holt__rsim_log_truncate(&d->log, write->truncate_from);
  for (size_t i = 0; i < write->count; i++) {
    struct rsim_record *record = write->records[i];
    uint64_t last = holt__rsim_log_last(&d->log);
    if (HOLT_BUG(30) && record->index > d->log.base && record->index <= last) {
      d->log.records[d->log.head + (size_t)(record->index - d->log.base - 1)] = record; /* the tail stays */
      continue;
    }
    if (record->index == last + 1) holt__rsim_log_push(&d->log, record);
  }
}

static void forget_first(struct rsim_disk *d, size_t count) {
  d->write_head = (d->write_head + count) % d->write_cap;
  d->write_count -= count;
}

static void begin_sync(struct rsim *w, struct rsim_host *h) {
  struct rsim_disk *d = &h->self->disk;
  if (d->syncing != 0 || d->write_count == 0) return;
  d->syncing = d->write_count;
  if (d->wal != NULL) holt__rsim_wal_begin(d->wal);
  uint64_t takes = w->config.is_memory ? holt__rsim_between(&w->disk_rand, 1, 40)
                                       : holt__rsim_between(&w->disk_rand, 60, 900);
  if (d->slow_until_us > w->now_us) takes += holt__rsim_between(&w->disk_rand, 1000, 30000);
  if (d->stall_until_us > w->now_us) takes += d->stall_until_us - w->now_us;
  holt__rsim_at(w, takes, (struct rsim_event){.type = RSIM_DISK, .host = h->place, .life = h->life});
}

int holt__rsim_disk_write(struct rsim *w, struct rsim_host *h, const struct holt_raft_persist *persist,
                          struct rsim_record **records) {
  struct rsim_disk *d = &h->self->disk;
  struct rsim_write *write = write_add(d);
  if (write->cap < persist->count) {
    write->cap = persist->count + 16;
    write->records = holt_realloc(write->records, write->cap * sizeof(struct rsim_record *));
  }
  for (size_t i = 0; i < persist->count; i++) write->records[i] = records[i];
  write->seq = persist->seq;
  write->began_ms = holt__rsim_host_now(w, h);
  write->has_vote = persist->has_vote;
  write->term = persist->term;
  write->vote = persist->vote;
  write->truncate_from = persist->truncate_from;
  write->is_reset = persist->is_reset;
  write->count = persist->count;
  write->snapshot_index = persist->snapshot == NULL ? 0 : persist->snapshot->index;
  write->snapshot_record = persist->snapshot == NULL
                               ? NULL
                               : holt__rsim_record(w, persist->snapshot->index, persist->snapshot->term);
  if (d->wal != NULL) {
    int rc = holt__rsim_wal_add(d->wal, persist);
    if (rc != 0)
      holt__rsim_fail(w, "log_write", "n%u: the segment log refuses a write: %s", h->place,
                      holt_err_word(rc));
  }
  if (HOLT_BUG(29) &&
      write->snapshot_index != 0) /* the log is cut before what refers to the snapshot counts */
    holt__rsim_log_drop(&d->log, write->snapshot_index, write->snapshot_record, write->is_reset);
  if (w->config.syncs_at_once && d->write_count == 1 && d->wal == NULL) {
    commit(d, write);
    forget_first(d, 1);
    return 1;
  }
  begin_sync(w, h);
  return 0;
}

/* The sync under way has ended well. */
static size_t synced(struct rsim *w, struct rsim_disk *d) {
  if (d->wal == NULL) return d->syncing;
  size_t count = holt__rsim_wal_sync(w, d->wal, d->syncing);
  return count < d->write_count ? count : d->write_count;
}

static uint64_t finish(struct rsim_disk *d, size_t count) {
  uint64_t seq = 0;
  for (size_t i = 0; i < count; i++) {
    const struct rsim_write *write = write_at(d, i);
    seq = write->seq;
    commit(d, write);
  }
  if (count > 0) forget_first(d, count);
  d->syncing = 0;
  return seq;
}

void holt__rsim_disk_done(struct rsim *w, struct rsim_host *h) {
  struct rsim_disk *d = &h->self->disk;
  if (d->stall_until_us > w->now_us) { /* it began to stand still meanwhile */
    holt__rsim_at(w, d->stall_until_us - w->now_us,
                  (struct rsim_event){.type = RSIM_DISK, .host = h->place, .life = h->life});
    return;
  }
  d->moved_ms = holt__rsim_host_now(w, h);
  struct holt_rand *r = &w->fault_rand[HOLT_RAFT_SIM_CRASH_SYNC];
  bool crashes = !w->is_healing && holt__rsim_has(w, HOLT_RAFT_SIM_CRASH_SYNC) && holt__rsim_chance(r, 4000);
  bool is_before = crashes && holt__rsim_chance(r, 500000);
  if (crashes && (!w->config.is_memory || holt__rsim_can_lose(w, h))) {
    holt__rsim_count(w, HOLT_RAFT_SIM_CRASH_SYNC);
    if (!is_before) finish(d, synced(w, d));
    holt__rsim_host_crash(w, h, is_before ? "just before a write counts" : "just after a write counts");
    return;
  }
  uint64_t seq;
  if (HOLT_BUG(32) && d->syncing > 0) { /* 32: said to be durable while the last write is not synced yet */
    seq = write_at(d, d->syncing - 1)->seq;
    finish(d, d->syncing - 1);
    write_at(d, 0)->seq = seq;
    if (d->write_count == 1) { /* nothing follows: it will be synced with the next */
      holt__rsim_host_after(w, h, holt_raft_driver_persisted(&h->driver, seq, holt__rsim_host_now(w, h)));
      return;
    }
  } else {
    seq = finish(d, synced(w, d));
    if (d->wal != NULL) holt__rsim_wal_drop(d->wal, d->snapshot_index);
  }
  begin_sync(w, h);
  holt__rsim_host_after(w, h, holt_raft_driver_persisted(&h->driver, seq, holt__rsim_host_now(w, h)));
}

void holt__rsim_disk_crash(struct rsim *w, struct rsim_host *h) {
  struct rsim_disk *d = &h->self->disk;
  d->slow_until_us = d->stall_until_us = 0;
  if (d->wal != NULL) { /* how much survives is found out when it is opened again */
    holt__rsim_wal_crash(w, d->wal);
    d->syncing = 0;
    return;
  }
  size_t keep = 0;
  if (d->write_count > 0 && holt__rsim_chance(&w->disk_rand, 500000))
    keep = (size_t)holt__rsim_between(&w->disk_rand, 0, d->write_count);
  if (HOLT_BUG(32)) keep = 0;
  finish(d, keep);
  if (d->write_count > 0) forget_first(d, d->write_count);
}

size_t holt__rsim_disk_match(struct rsim_disk *d,
                             bool (*is_same)(const struct rsim_disk *disk,
                                             const struct holt_raft_restore *restore),
                             const struct holt_raft_restore *restore) {
  size_t took = 0;
  bool is_found = is_same(d, restore);
  for (; !is_found && d->write_count > 0; took++) {
    finish(d, 1);
    is_found = is_same(d, restore);
  }
  if (d->write_count > 0) forget_first(d, d->write_count);
  return is_found ? took : SIZE_MAX;
}

struct rsim_file *holt__rsim_disk_file(struct rsim_disk *disk, uint64_t index) {
  for (int i = 0; i < RSIM_FILES; i++)
    if (disk->file[i].meta.index == index && index != 0) return &disk->file[i];
  return NULL;
}

/* Remove what lies before the snapshot that the durable log refers to, but for one, and what is being sent.
 */
static void clean(struct rsim_host *h) {
  struct rsim_disk *d = &h->self->disk;
  struct holt_raft_status status = {0};
  uint64_t before = 0;
  if (h->is_up) holt_raft_status(h->raft, &status);
  for (int i = 0; i < RSIM_FILES; i++)
    if (d->file[i].meta.index < d->snapshot_index && d->file[i].meta.index > before)
      before = d->file[i].meta.index;
  for (int i = 0; i < RSIM_FILES; i++) {
    uint64_t index = d->file[i].meta.index;
    if (index == 0 || index >= d->snapshot_index || index == before || index == status.sending_index)
      continue;
    free(d->file[i].bytes);
    d->file[i] = (struct rsim_file){0};
  }
}

int holt__rsim_disk_keep(struct rsim_host *h, struct rsim_file *file) {
  struct rsim_disk *d = &h->self->disk;
  struct rsim_file *place = holt__rsim_disk_file(d, file->meta.index);
  clean(h);
  for (int i = 0; place == NULL && i < RSIM_FILES; i++)
    if (d->file[i].meta.index == 0) place = &d->file[i];
  if (place == NULL) return HOLT_EFULL;
  free(place->bytes);
  *place = *file;
  *file = (struct rsim_file){0};
  return 0;
}

void holt__rsim_disk_free(struct rsim_disk *disk) {
  for (size_t i = 0; i < disk->write_cap; i++) free(disk->writes[i].records);
  free(disk->writes);
  for (int i = 0; i < RSIM_FILES; i++) free(disk->file[i].bytes);
  holt__rsim_log_free(&disk->log);
  holt__rsim_wal_free(disk->wal);
  *disk = (struct rsim_disk){0};
}
