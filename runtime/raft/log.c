/* log.c - the entries in memory: one flat array that moves its head when the front is dropped, so that every
 * range of entries is contiguous and an append message can point into it. What could be a million entries at
 * once is done a little at each step: freeing the data behind a snapshot, and moving to larger arrays. */
#include <stdlib.h>
#include <string.h>

#include "raft/raft_impl.h"

void *holt__raft_alloc(struct holt_raft *r, void *old, size_t size_bytes) {
  if (r->options.alloc) return r->options.alloc(r->options.alloc_arg, old, size_bytes);
  if (size_bytes == 0) {
    free(old);
    return NULL;
  }
  return realloc(old, size_bytes);
}

static void drop_data(struct holt_raft *r, struct holt_raft_entry *entry) {
  if (entry->data) holt__raft_alloc(r, (void *)(uintptr_t)entry->data, 0);
  entry->data = NULL;
  r->log.bytes -= entry->len;
}

static void drop_move(struct holt_raft *r) {
  struct holt__raft_move *move = &r->log.move;
  if (move->entries) holt__raft_alloc(r, move->entries, 0);
  if (move->slots) holt__raft_alloc(r, move->slots, 0);
  *move = (struct holt__raft_move){0};
}

void holt__raft_log_sweep(struct holt_raft *r, size_t count) {
  struct holt__raft_log *log = &r->log;
  for (; count > 0 && log->dropped > 0; count--, log->dropped--) {
    const uint8_t *data = log->entries[log->head - log->dropped].data;
    if (data) holt__raft_alloc(r, (void *)(uintptr_t)data, 0);
  }
  if (log->count == 0 && log->dropped == 0) {
    log->head = 0;
    drop_move(r);
  }
}

/* Move everything to the front of the array. */
static void close_gap(struct holt__raft_log *log) {
  size_t from = log->head - log->dropped;
  if (from == 0) return;
  memmove(log->entries, log->entries + from, (log->dropped + log->count) * sizeof *log->entries);
  memmove(log->slots + log->dropped, log->slots + log->head, log->count * sizeof *log->slots);
  log->head = log->dropped;
}

/* A short log grows where it is, at once. */
static int grow(struct holt_raft *r, size_t count) {
  struct holt__raft_log *log = &r->log;
  size_t kept = log->dropped + log->count;
  if (log->head - log->dropped >= kept && kept + count <= log->cap) {
    close_gap(log);
    return 0;
  }
  size_t cap = log->cap ? log->cap : 64;
  while (cap < kept + count) cap *= 2;
  if (cap > log->cap) {
    struct holt_raft_entry *entries = holt__raft_alloc(r, log->entries, cap * sizeof *entries);
    if (!entries) return HOLT_ENOMEM;
    log->entries = entries;
    struct holt__raft_slot *slots = holt__raft_alloc(r, log->slots, cap * sizeof *slots);
    if (!slots) return HOLT_ENOMEM;
    log->slots = slots;
    log->cap = cap;
  }
  close_gap(log);
  return 0;
}

/* A long one moves to other arrays, some entries at each step, while it goes on in the old ones: copying a
 * million entries at once would hold up the loop. */
enum { MOVE_AT_ONCE = 1024, MOVE_PER_STEP = 64, MOVE_PER_ENTRY = 4 };

static int begin_move(struct holt_raft *r, size_t count) {
  struct holt__raft_log *log = &r->log;
  struct holt__raft_move move = {.cap = MOVE_AT_ONCE, .from = log->head - log->dropped};
  while (move.cap < 3 * (log->dropped + log->count + count)) move.cap *= 2;
  drop_move(r);
  move.entries = holt__raft_alloc(r, NULL, move.cap * sizeof *move.entries);
  if (!move.entries) return HOLT_ENOMEM;
  move.slots = holt__raft_alloc(r, NULL, move.cap * sizeof *move.slots);
  if (!move.slots) {
    holt__raft_alloc(r, move.entries, 0);
    return HOLT_ENOMEM;
  }
  log->move = move;
  return 0;
}

/* Copy up to `most` entries over; behind the last one the new arrays are the log. */
static void go_on_moving(struct holt_raft *r, size_t most) {
  struct holt__raft_log *log = &r->log;
  struct holt__raft_move *move = &log->move;
  size_t at = move->from + move->copied, end = log->head + log->count;
  if (at < log->head - log->dropped) at = log->head - log->dropped;
  size_t count = end - at < most ? end - at : most;
  if (count > 0) {
    memcpy(move->entries + (at - move->from), log->entries + at, count * sizeof *log->entries);
    memcpy(move->slots + (at - move->from), log->slots + at, count * sizeof *log->slots);
  }
  move->copied = at + count - move->from;
  if (at + count < end) return;
  if (log->entries) holt__raft_alloc(r, log->entries, 0);
  if (log->slots) holt__raft_alloc(r, log->slots, 0);
  log->entries = move->entries;
  log->slots = move->slots;
  log->cap = move->cap;
  log->head -= move->from;
  *move = (struct holt__raft_move){0};
}

int holt__raft_log_reserve(struct holt_raft *r, size_t count) {
  struct holt__raft_log *log = &r->log;
  holt__raft_log_sweep(r, 2 * count); /* freed faster than filled */
  size_t kept = log->dropped + log->count, end = log->head + log->count;
  bool is_short = log->cap <= MOVE_AT_ONCE && kept + count <= MOVE_AT_ONCE;
  if (is_short && !log->move.entries) return end + count <= log->cap ? 0 : grow(r, count);
  if (!log->move.entries && end + count + kept / 2 > log->cap) { /* in time to be through before it is full */
    int rc = begin_move(r, count);
    if (rc != 0) return rc;
  }
  if (log->move.entries) go_on_moving(r, MOVE_PER_STEP + MOVE_PER_ENTRY * count);
  if (log->head + log->count + count <= log->cap) return 0;
  int rc = begin_move(r, count); /* a batch larger than the log */
  if (rc == 0) go_on_moving(r, SIZE_MAX);
  return rc;
}

void holt__raft_log_free(struct holt_raft *r) {
  struct holt__raft_log *log = &r->log;
  holt__raft_log_sweep(r, SIZE_MAX);
  for (size_t i = 0; i < log->count; i++) drop_data(r, &log->entries[log->head + i]);
  drop_move(r);
  if (log->entries) holt__raft_alloc(r, log->entries, 0);
  if (log->slots) holt__raft_alloc(r, log->slots, 0);
  memset(log, 0, sizeof *log);
}

uint64_t holt__raft_log_last(const struct holt_raft *r) {
  return r->log.base_index + r->log.count;
}

struct holt_raft_entry *holt__raft_log_at(const struct holt_raft *r, uint64_t index) {
  if (index <= r->log.base_index || index > holt__raft_log_last(r)) return NULL;
  return &r->log.entries[r->log.head + (size_t)(index - r->log.base_index - 1)];
}

static struct holt__raft_slot *slot_at(const struct holt_raft *r, uint64_t index) {
  return &r->log.slots[r->log.head + (size_t)(index - r->log.base_index - 1)];
}

uint64_t holt__raft_log_term(const struct holt_raft *r, uint64_t index) {
  if (index == r->log.base_index) return r->log.base_term;
  const struct holt_raft_entry *entry = holt__raft_log_at(r, index);
  return entry ? entry->term : 0;
}

uint64_t holt__raft_log_last_term(const struct holt_raft *r) {
  return holt__raft_log_term(r, holt__raft_log_last(r));
}

void holt__raft_log_push(struct holt_raft *r, const struct holt_raft_entry *entry, uint64_t tag) {
  struct holt__raft_log *log = &r->log;
  HOLT_ASSERT(log->head + log->count < log->cap);
  HOLT_ASSERT(entry->index == holt__raft_log_last(r) + 1);
  HOLT_ASSERT(entry->term >= holt__raft_log_last_term(r));
  log->entries[log->head + log->count] = *entry;
  log->slots[log->head + log->count] = (struct holt__raft_slot){.seq = r->seq + 1, .tag = tag};
  log->count++;
  log->bytes += entry->len;
  if (tag) log->tagged++;
  if (entry->stamp_ms > r->stamp_seen_ms) r->stamp_seen_ms = entry->stamp_ms;
  if (!r->persist_from) r->persist_from = entry->index;
}

void holt__raft_log_truncate(struct holt_raft *r, uint64_t index) {
  struct holt__raft_log *log = &r->log;
  HOLT_ASSERT(index > log->base_index);
  while (log->count > 0 && holt__raft_log_last(r) >= index) {
    uint64_t last = holt__raft_log_last(r);
    struct holt__raft_slot *slot = slot_at(r, last);
    if (slot->tag) { /* overwritten here, but others may hold it still: it can yet commit */
      holt__raft_done(r, HOLT_RAFT_DONE_PROPOSE, slot->tag, HOLT_BUG(14) ? HOLT_ENOTLEADER : HOLT_EUNKNOWN,
                      last, holt__raft_log_at(r, last)->term);
      log->tagged--;
    }
    drop_data(r, holt__raft_log_at(r, last));
    log->count--;
  }
  size_t end = log->head + log->count;
  if (log->move.from + log->move.copied > end) /* what was copied of the rest is overwritten */
    log->move.copied = end > log->move.from ? end - log->move.from : 0;
  if (r->persist_from >= index) r->persist_from = 0;
  if (!r->truncate_from || index < r->truncate_from) r->truncate_from = index;
  if (r->stable >= index && !HOLT_BUG(111)) r->stable = index - 1;
}

void holt__raft_log_compact(struct holt_raft *r, uint64_t index, uint64_t term) {
  struct holt__raft_log *log = &r->log;
  while (log->count > 0 && log->base_index < index) {
    struct holt__raft_slot *slot = &log->slots[log->head];
    struct holt_raft_entry *entry = &log->entries[log->head];
    if (slot->tag) {
      if (entry->index > r->applied)
        holt__raft_done(r, HOLT_RAFT_DONE_PROPOSE, slot->tag, HOLT_EUNKNOWN, entry->index, entry->term);
      log->tagged--;
    }
    log->base_term = entry->term;
    log->bytes -= entry->len;
    log->dropped++;
    log->head++;
    log->count--;
    log->base_index++;
  }
  if (log->count == 0) {
    log->base_index = index;
    log->base_term = term;
  }
  if (r->stable < log->base_index) r->stable = log->base_index;
}

int holt__raft_log_copy(struct holt_raft *r, const struct holt_raft_entry *entries, size_t count) {
  HOLT_ASSERT(r->copy_count == 0);
  if (count > r->copy_cap) {
    uint8_t **copies = holt__raft_alloc(r, r->copies, count * sizeof *copies);
    if (!copies) return HOLT_ENOMEM;
    r->copies = copies;
    r->copy_cap = count;
  }
  for (size_t i = 0; i < count; i++) {
    uint8_t *copy = NULL;
    if (entries[i].len > 0) {
      copy = holt__raft_alloc(r, NULL, entries[i].len);
      if (!copy) {
        holt__raft_log_drop_copies(r);
        return HOLT_ENOMEM;
      }
      memcpy(copy, entries[i].data, entries[i].len);
    }
    r->copies[r->copy_count++] = copy;
  }
  r->copy_next = 0;
  return 0;
}

uint8_t *holt__raft_log_take_copy(struct holt_raft *r) {
  HOLT_ASSERT(r->copy_next < r->copy_count);
  return r->copies[r->copy_next++];
}

void holt__raft_log_drop_copies(struct holt_raft *r) {
  for (size_t i = r->copy_next; i < r->copy_count; i++)
    if (r->copies[i]) holt__raft_alloc(r, r->copies[i], 0);
  r->copy_count = r->copy_next = 0;
}

/* --- Questions from outside ---------------------------------------------------------------------------- */

const struct holt_raft_entry *holt_raft_entry_at(const struct holt_raft *r, uint64_t index) {
  return holt__raft_log_at(r, index);
}

uint64_t holt_raft_tag_at(const struct holt_raft *r, uint64_t index) {
  return holt__raft_log_at(r, index) ? slot_at(r, index)->tag : 0;
}

void holt__raft_log_advance_stable(struct holt_raft *r) {
  while (r->stable < holt__raft_log_last(r) && slot_at(r, r->stable + 1)->seq <= r->durable_seq) r->stable++;
}

/* The persist that wrote the entry at `index`; 0 when it was durable at the start. */
static uint64_t seq_at(const struct holt_raft *r, uint64_t index) {
  return index > r->log.base_index && index <= holt__raft_log_last(r) ? slot_at(r, index)->seq : 0;
}

uint64_t holt__raft_gate(const struct holt_raft *r, uint64_t index) {
  if (HOLT_BUG(3)) return 0; /* acknowledged before it is durable */
  uint64_t seq = index <= r->stable ? 0 : seq_at(r, index);
  if (seq < r->reset_seq) seq = r->reset_seq;
  return seq > r->durable_seq ? seq : 0;
}
