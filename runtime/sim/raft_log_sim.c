/* raft_log_sim.c - logs as the simulator sees them: pointers to records, of which there is one for each entry
 * that ever existed. */
#include <stdlib.h>

#include "sim/raft_sim_impl.h"

static uint64_t key_of(uint64_t index, uint64_t term) {
  return index << 24 ^ term;
}

struct rsim_record *holt__rsim_record(struct rsim *w, uint64_t index, uint64_t term) {
  return holt_map_get(&w->records, key_of(index, term));
}

uint64_t holt__rsim_log_last(const struct rsim_log *log) {
  return log->base + log->count;
}

struct rsim_record *holt__rsim_log_at(const struct rsim_log *log, uint64_t index) {
  if (index == log->base) return log->base_record;
  if (index < log->base || index > log->base + log->count) return NULL;
  return log->records[log->head + (size_t)(index - log->base - 1)];
}

void holt__rsim_log_push(struct rsim_log *log, struct rsim_record *record) {
  if (log->head + log->count == log->cap) {
    if (log->head > log->cap / 2) {
      memmove(log->records, log->records + log->head, log->count * sizeof(struct rsim_record *));
      log->head = 0;
    } else {
      log->cap = log->cap == 0 ? 64 : log->cap * 2;
      log->records = holt_realloc(log->records, log->cap * sizeof(struct rsim_record *));
    }
  }
  log->records[log->head + log->count++] = record;
}

void holt__rsim_log_truncate(struct rsim_log *log, uint64_t from) {
  if (from <= log->base) log->count = 0;
  if (from > log->base && from <= holt__rsim_log_last(log)) log->count = (size_t)(from - log->base - 1);
}

void holt__rsim_log_drop(struct rsim_log *log, uint64_t index, struct rsim_record *record, bool is_reset) {
  if (is_reset || index >= holt__rsim_log_last(log)) {
    log->head = log->count = 0;
  } else if (index > log->base) {
    log->head += (size_t)(index - log->base);
    log->count -= (size_t)(index - log->base);
  } else {
    return;
  }
  log->base = index;
  log->base_record = record;
}

void holt__rsim_log_copy(struct rsim_log *to, const struct rsim_log *from) {
  to->head = to->count = 0;
  to->base = from->base;
  to->base_record = from->base_record;
  for (size_t i = 0; i < from->count; i++) holt__rsim_log_push(to, from->records[from->head + i]);
}

void holt__rsim_log_free(struct rsim_log *log) {
  free(log->records);
  *log = (struct rsim_log){0};
}
