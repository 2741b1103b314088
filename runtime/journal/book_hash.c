/* book_hash.c - from a hash to its entry: the newest in memory, the rest in sorted runs of pages.
 *
 * - 32,768 hashes in memory are frozen; the next transaction sorts them and writes them as a run of level 0.
 * - Eight runs of a level become one of the next, page by page, a few pages with each transaction. Until the
 *   last page is there the eight serve; then they are deleted, a few pages with each transaction.
 * - A process that dies meanwhile leaves pages that no run owns: found at the next opening, and deleted.
 * - A damaged page: its entries are not found; a merge that meets it goes on without, and has the index made
 * anew at the next opening, from the log. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "journal/book_impl.h"

enum { RUN_BYTES = 37, PAGE_BYTES = HOLT_BOOK_PAGE_ITEMS * HOLT_BOOK_ITEM };

uint64_t holt__book_prefix(const uint8_t hash[HOLT_BOOK_HASH]) {
  return holt__book_get_big(hash, 8);
}

/* --- In memory ---------------------------------------------------------------------------------------- */

static void insert(struct holt_book_memory *memory, uint64_t prefix, uint64_t arrival) {
  size_t mask = memory->cap - 1, at = (size_t)holt_hash_u64(prefix) & mask;
  while (memory->slots[at].arrival != 0) at = (at + 1) & mask;
  memory->slots[at] = (struct holt_book_item){prefix, arrival};
  memory->count++;
}

void holt__book_memory_put(struct holt_book_memory *memory, uint64_t prefix, uint64_t arrival) {
  if (memory->count * 2 >= memory->cap) {
    struct holt_book_memory larger = {.cap = memory->cap == 0 ? 64 : memory->cap * 2};
    larger.slots = holt_alloc(larger.cap * sizeof *larger.slots);
    for (size_t i = 0; i < memory->cap; i++)
      if (memory->slots[i].arrival != 0) insert(&larger, memory->slots[i].prefix, memory->slots[i].arrival);
    free(memory->slots);
    *memory = larger;
  }
  insert(memory, prefix, arrival);
}

void holt__book_memory_free(struct holt_book_memory *memory) {
  free(memory->slots);
  *memory = (struct holt_book_memory){0};
}

/* --- Pages -------------------------------------------------------------------------------------------- */

static struct holt_buf page_key(uint8_t key[8], uint32_t run, uint32_t page) {
  holt__book_put_big(key, run, 4);
  holt__book_put_big(key + 4, page, 4);
  return holt_buf(key, 8);
}

/* The items of a page, borrowed; HOLT_ECORRUPT also when it is not there. */
static int get_page(const struct holt_book *book, struct holt_kv_txn *txn, uint32_t run, uint32_t page,
                    struct holt_buf *items) {
  uint8_t key[8];
  int rc = holt__book_get(txn, book->hash, page_key(key, run, page), items);
  if (rc == HOLT_ENOTFOUND) return HOLT_ECORRUPT;
  return rc == 0 && (items->len == 0 || items->len % HOLT_BOOK_ITEM != 0) ? HOLT_ECORRUPT : rc;
}

static uint64_t prefix_at(struct holt_buf items, size_t i) {
  return holt__book_get_big(items.data + i * HOLT_BOOK_ITEM, 8);
}

static uint64_t arrival_at(struct holt_buf items, size_t i, const struct holt_book_run *run) {
  return run->base + holt_get_u32(items.data + i * HOLT_BOOK_ITEM + 8);
}

static void write_item(struct holt_writer *w, const struct holt_book_item *item, uint64_t base) {
  uint8_t *at = holt_writer_grow(w, HOLT_BOOK_ITEM);
  holt__book_put_big(at, item->prefix, 8);
  holt_put_u32(at + 8, (uint32_t)(item->arrival - base));
}

static int put_page(struct holt_book *book, struct holt_book_run *run) {
  uint8_t key[8];
  run->items += book->buffer.len / HOLT_BOOK_ITEM;
  return holt__book_put(book, book->hash, page_key(key, run->id, run->pages++), false);
}

/* --- Finding ------------------------------------------------------------------------------------------ */

struct search {
  const struct holt_book *book;
  struct holt_kv_txn *txn;
  const uint8_t *hash;
  uint64_t prefix, arrival;
};

/* 0: it is this one. HOLT_ENOTFOUND: another, with the same beginning, or it was dropped. */
static int is_it(struct search *s, uint64_t arrival) {
  struct holt_book_entry entry;
  uint8_t hash[HOLT_BOOK_HASH];
  int rc = holt_book_get(s->book, s->txn, arrival, &entry);
  if (rc != 0) return rc;
  s->book->hash_of(s->book->arg, entry.bytes, hash);
  if (memcmp(hash, s->hash, sizeof hash) != 0) return HOLT_ENOTFOUND;
  s->arrival = arrival;
  return 0;
}

static int find_in_memory(struct search *s, const struct holt_book_memory *memory) {
  if (memory->cap == 0) return HOLT_ENOTFOUND;
  size_t mask = memory->cap - 1;
  for (size_t at = (size_t)holt_hash_u64(s->prefix) & mask; memory->slots[at].arrival != 0;
       at = (at + 1) & mask) {
    if (memory->slots[at].prefix != s->prefix) continue;
    int rc = is_it(s, memory->slots[at].arrival);
    if (rc != HOLT_ENOTFOUND) return rc;
  }
  return HOLT_ENOTFOUND;
}

/* A page between `low` and `high` where `prefix`, which lies between those of their edges, is to be expected.
 */
static uint32_t guess(uint64_t prefix, uint64_t low_edge, uint64_t high_edge, uint32_t low, uint32_t high) {
  double part = high_edge > low_edge ? (double)(prefix - low_edge) / (double)(high_edge - low_edge) : 0;
  uint32_t at = low + (uint32_t)(part * (double)(high - low));
  return at > high ? high : at;
}

/* The first page whose last item is not below the prefix. */
static int find_page(struct search *s, const struct holt_book_run *run, uint32_t *page) {
  uint32_t low = 0, high = run->pages - 1;
  uint64_t low_edge = 0, high_edge = UINT64_MAX;
  for (unsigned step = 0; low < high; step++) {
    struct holt_buf items;
    /* Halving is the way out of hashes that are not uniform. */
    uint32_t at = step < 8 ? guess(s->prefix, low_edge, high_edge, low, high - 1) : (low + high - 1) / 2;
    int rc = get_page(s->book, s->txn, run->id, at, &items);
    if (rc != 0) return rc;
    uint64_t first = prefix_at(items, 0), last = prefix_at(items, items.len / HOLT_BOOK_ITEM - 1);
    if (last < s->prefix) {
      low = at + 1;
      low_edge = last;
    } else {
      high = at;
      if (first < s->prefix) low = at; /* it begins in this page, if anywhere */
      high_edge = first;
    }
  }
  *page = low;
  return 0;
}

static int find_in_run(struct search *s, const struct holt_book_run *run) {
  uint32_t page = 0;
  if (run->pages == 0) return HOLT_ENOTFOUND;
  int rc = find_page(s, run, &page);
  for (; rc == 0 && page < run->pages; page++) {
    struct holt_buf items;
    rc = get_page(s->book, s->txn, run->id, page, &items);
    if (rc != 0) break;
    size_t low = 0, count = items.len / HOLT_BOOK_ITEM, high = count;
    while (low < high) {
      size_t middle = (low + high) / 2;
      if (prefix_at(items, middle) < s->prefix)
        low = middle + 1;
      else
        high = middle;
    }
    for (; low < count && prefix_at(items, low) == s->prefix; low++) {
      rc = is_it(s, arrival_at(items, low, run));
      if (rc != HOLT_ENOTFOUND) return rc;
    }
    if (low < count) return HOLT_ENOTFOUND;
    rc = 0;
  }
  return rc == 0 ? HOLT_ENOTFOUND : rc;
}

int holt_book_find(const struct holt_book *book, struct holt_kv_txn *txn, const uint8_t hash[HOLT_BOOK_HASH],
                   uint64_t *arrival) {
  struct search s = {.book = book, .txn = txn, .hash = hash, .prefix = holt__book_prefix(hash)};
  int rc = find_in_memory(&s, &book->newest);
  if (rc == HOLT_ENOTFOUND) rc = find_in_memory(&s, &book->frozen);
  bool is_damaged = false;
  for (uint32_t i = book->now.run_count; rc == HOLT_ENOTFOUND && i-- > 0;) {
    const struct holt_book_run *run = &book->now.runs[i];
    if (run->is_gone) continue;
    rc = find_in_run(&s, run);
    if (rc != HOLT_ECORRUPT) continue;
    is_damaged = true; /* perhaps it is in another */
    rc = HOLT_ENOTFOUND;
  }
  if (rc == 0) *arrival = s.arrival;
  return rc == HOLT_ENOTFOUND && is_damaged ? HOLT_ECORRUPT : rc;
}

/* --- The list of runs --------------------------------------------------------------------------------- */

static int put_manifest(struct holt_book *book) {
  const struct holt_book_state *d = &book->draft;
  struct holt_writer *w = &book->buffer;
  w->len = 0;
  holt_write_u64(w, d->indexed);
  holt_write_u32(w, d->next_run);
  holt_write_u8(w, d->is_index_bad);
  holt_write_u32(w, d->run_count);
  for (uint32_t i = 0; i < d->run_count; i++) {
    const struct holt_book_run *run = &d->runs[i];
    holt_write_u32(w, run->id);
    holt_write_u32(w, run->level);
    holt_write_u64(w, run->base);
    holt_write_u64(w, run->last);
    holt_write_u64(w, run->items);
    holt_write_u32(w, run->pages);
    holt_write_u8(w, run->is_gone);
  }
  return holt__book_put(book, book->state, holt_buf_text("h"), false);
}

static int read_manifest(struct holt_book_state *s, struct holt_buf value) {
  struct holt_reader r = holt_reader(value);
  s->indexed = holt_read_u64(&r);
  s->next_run = holt_read_u32(&r);
  s->is_index_bad = holt_read_u8(&r) != 0;
  s->run_count = holt_read_u32(&r);
  if (s->run_count > HOLT_BOOK_RUNS_MAX || holt_reader_left(&r) != (size_t)s->run_count * RUN_BYTES)
    return HOLT_ECORRUPT;
  for (uint32_t i = 0; i < s->run_count; i++) {
    struct holt_book_run *run = &s->runs[i];
    *run = (struct holt_book_run){.id = holt_read_u32(&r), .level = holt_read_u32(&r)};
    run->base = holt_read_u64(&r);
    run->last = holt_read_u64(&r);
    run->items = holt_read_u64(&r);
    run->pages = holt_read_u32(&r);
    run->is_gone = holt_read_u8(&r) != 0;
    if (run->level >= HOLT_BOOK_LEVELS) return HOLT_ECORRUPT;
  }
  return r.failed || s->is_index_bad ? HOLT_ECORRUPT : 0;
}

static bool is_listed(const struct holt_book_state *s, uint32_t id) {
  for (uint32_t i = 0; i < s->run_count; i++)
    if (s->runs[i].id == id) return true;
  return false;
}

/* Pages that no run owns are deleted by and by, as those of a run that is gone. */
static int adopt_orphans(struct holt_book *book, struct holt_kv_txn *txn) {
  struct holt_book_state *s = &book->now;
  struct holt_kv_cursor *cursor;
  struct holt_buf found, value;
  uint8_t key[8];
  uint32_t id = 0;
  int rc = holt_kv_cursor_open(txn, book->hash, &cursor);
  if (rc != 0) return rc;
  while (rc == 0 && s->run_count < HOLT_BOOK_RUNS_MAX) {
    rc = holt_kv_seek(cursor, page_key(key, id, 0), &found, &value);
    if (rc != 0 || found.len != 8) break;
    id = (uint32_t)holt__book_get_big(found.data, 4);
    if (!is_listed(s, id)) s->runs[s->run_count++] = (struct holt_book_run){.id = id, .is_gone = true};
    if (id >= s->next_run) s->next_run = id + 1;
    if (id++ == UINT32_MAX) break;
  }
  holt_kv_cursor_close(cursor);
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

/* The hashes that no run has, from the log. */
static int read_newest(struct holt_book *book) {
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  uint8_t hash[HOLT_BOOK_HASH];
  int rc = 0;
  holt_book_scan(&scan, book, book->now.indexed);
  for (; rc == 0 || rc == HOLT_ECORRUPT;) {
    rc = holt_book_scan_next(&scan, &entry);
    if (rc != 0) continue; /* a damaged one has no hash to be found by */
    book->hash_of(book->arg, entry.bytes, hash);
    holt__book_memory_put(&book->newest, holt__book_prefix(hash), entry.arrival);
  }
  holt_book_scan_close(&scan);
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

int holt__book_hash_open(struct holt_book *book, struct holt_kv_txn *txn) {
  struct holt_book_state *s = &book->now;
  struct holt_buf value;
  int rc = holt__book_get(txn, book->state, holt_buf_text("h"), &value);
  if (rc == 0) rc = read_manifest(s, value);
  if (rc == HOLT_ECORRUPT || rc == HOLT_ENOTFOUND || s->indexed > s->next) {
    s->run_count = 0; /* made anew, from the log */
    s->next_run = 1;
    s->indexed = s->first;
    s->is_index_bad = false;
  } else if (rc != 0) {
    return rc;
  }
  rc = adopt_orphans(book, txn);
  return rc == 0 ? read_newest(book) : rc;
}

/* --- Flushing ----------------------------------------------------------------------------------------- */

static int by_prefix(const void *a, const void *b) {
  const struct holt_book_item *x = a, *y = b;
  if (x->prefix != y->prefix) return x->prefix < y->prefix ? -1 : 1;
  return x->arrival < y->arrival ? -1 : x->arrival > y->arrival;
}

static int write_items(struct holt_book *book, struct holt_book_run *run, const struct holt_book_item *items,
                       size_t count) {
  int rc = 0;
  for (size_t i = 0; i < count && rc == 0;) {
    book->buffer.len = 0;
    for (; i < count && book->buffer.len < PAGE_BYTES; i++) write_item(&book->buffer, &items[i], run->base);
    rc = put_page(book, run);
  }
  return rc;
}

static int flush(struct holt_book *book) {
  struct holt_book_state *d = &book->draft;
  size_t count = 0;
  if (book->frozen.count == 0 || d->run_count == HOLT_BOOK_RUNS_MAX) return 0;
  struct holt_book_run run = {.id = d->next_run++, .base = UINT64_MAX};
  struct holt_book_item *items = holt_alloc(book->frozen.count * sizeof *items);
  for (size_t i = 0; i < book->frozen.cap; i++) {
    if (book->frozen.slots[i].arrival == 0) continue;
    struct holt_book_item item = items[count++] = book->frozen.slots[i];
    if (item.arrival < run.base) run.base = item.arrival;
    if (item.arrival > run.last) run.last = item.arrival;
  }
  qsort(items, count, sizeof *items, by_prefix);
  HOLT_ASSERT(run.last - run.base <= UINT32_MAX);
  for (uint64_t size = book->flush; count / HOLT_BOOK_FAN >= size && run.level + 1 < HOLT_BOOK_LEVELS;
       size *= HOLT_BOOK_FAN)
    run.level++; /* an index made anew is one large run */
  int rc = write_items(book, &run, items, count);
  free(items);
  if (rc != 0) return rc;
  d->runs[d->run_count++] = run;
  d->indexed = run.last + 1;
  book->is_flushed = book->is_manifest_changed = true;
  return 0;
}

/* --- Merging ------------------------------------------------------------------------------------------ */

/* One of the runs that are merged, and where it stands. Its page is borrowed until something is put. */
struct input {
  struct holt_book_run *run;
  struct holt_buf items;
  struct holt_book_item head;
  bool is_at_end;
};

/* Read what stands at the input's place; a damaged page is passed by. */
static void look(struct holt_book *book, struct input *in) {
  struct holt_book_run *run = in->run;
  for (; run->at_page < run->pages; run->at_page++, run->at_item = 0, in->items.len = 0) {
    if (in->items.len == 0 && get_page(book, book->txn, run->id, run->at_page, &in->items) != 0) {
      in->items = holt_buf(NULL, 0);
      book->draft.is_index_bad = true;
    }
    if ((size_t)run->at_item * HOLT_BOOK_ITEM >= in->items.len) continue;
    in->head.prefix = prefix_at(in->items, run->at_item);
    in->head.arrival = arrival_at(in->items, run->at_item, run);
    return;
  }
  in->is_at_end = true;
}

static struct input *least(struct input *inputs, size_t count) {
  struct input *best = NULL;
  for (size_t i = 0; i < count; i++)
    if (!inputs[i].is_at_end && (best == NULL || by_prefix(&inputs[i].head, &best->head) < 0))
      best = &inputs[i];
  return best;
}

static void finish_merge(struct holt_book *book, struct input *inputs, size_t count, uint32_t level) {
  struct holt_book_state *d = &book->draft;
  for (size_t i = 0; i < count; i++) {
    inputs[i].run->is_gone = true;
    inputs[i].run->is_merging = false;
  }
  /* In the place of its last input, so that the newest stay last; RUNS_MAX leaves room (begin_merge). */
  d->runs[d->run_count++] = d->into[level];
  d->into[level] = (struct holt_book_run){0};
  book->is_manifest_changed = true;
}

/* Make one page of the merge of a level. */
static int merge_page(struct holt_book *book, uint32_t level) {
  struct holt_book_state *d = &book->draft;
  struct holt_book_run *into = &d->into[level];
  struct input inputs[HOLT_BOOK_FAN] = {{0}}, *next;
  size_t count = 0;
  for (uint32_t i = 0; i < d->run_count; i++) {
    if (!d->runs[i].is_merging || d->runs[i].level != level) continue;
    HOLT_ASSERT(count < HOLT_BOOK_FAN);
    inputs[count].run = &d->runs[i];
    look(book, &inputs[count++]);
  }
  book->buffer.len = 0;
  while (book->buffer.len < PAGE_BYTES && (next = least(inputs, count)) != NULL) {
    if (next->head.arrival >= d->first) write_item(&book->buffer, &next->head, into->base);
    next->run->at_item++;
    look(book, next);
  }
  int rc = book->buffer.len > 0 ? put_page(book, into) : 0;
  if (rc == 0 && least(inputs, count) == NULL) finish_merge(book, inputs, count, level);
  return rc;
}

/* Runs of a level that could be merged; those that are dropped altogether are gone at once. */
static uint32_t count_level(struct holt_book *book, uint32_t level) {
  struct holt_book_state *d = &book->draft;
  uint32_t count = 0;
  for (uint32_t i = 0; i < d->run_count; i++) {
    struct holt_book_run *run = &d->runs[i];
    if (run->is_gone || run->is_merging || run->level != level) continue;
    if (run->last < d->first) {
      run->is_gone = book->is_manifest_changed = true;
      continue;
    }
    count++;
  }
  return count;
}

static bool begin_merge(struct holt_book *book, uint32_t level) {
  struct holt_book_state *d = &book->draft;
  struct holt_book_run into = {.level = level + 1, .base = UINT64_MAX};
  uint32_t taken = 0;
  if (count_level(book, level) < HOLT_BOOK_FAN || d->run_count >= HOLT_BOOK_RUNS_MAX - HOLT_BOOK_LEVELS)
    return false;
  if (into.level == HOLT_BOOK_LEVELS) into.level--;
  for (uint32_t i = 0; i < d->run_count && taken < HOLT_BOOK_FAN; i++) {
    struct holt_book_run *run = &d->runs[i];
    if (run->is_gone || run->is_merging || run->level != level) continue;
    uint64_t base = run->base < into.base ? run->base : into.base;
    uint64_t last = run->last > into.last ? run->last : into.last;
    if (last - base > UINT32_MAX) continue; /* too far apart for one run */
    into.base = base;
    into.last = last;
    run->is_merging = true;
    run->at_page = run->at_item = 0;
    taken++;
  }
  into.id = d->next_run++;
  d->into[level] = into;
  return true;
}

static int merge(struct holt_book *book, uint64_t pages) {
  int rc = 0;
  for (uint32_t level = 0; level < HOLT_BOOK_LEVELS && rc == 0; level++) {
    if (book->draft.into[level].id == 0 && !begin_merge(book, level)) continue;
    for (; pages > 0 && book->draft.into[level].id != 0 && rc == 0; pages--) rc = merge_page(book, level);
  }
  return rc;
}

/* --- Deleting ----------------------------------------------------------------------------------------- */

/* HOLT_ENOTFOUND: it has no page any more. */
static int delete_page(struct holt_book *book, uint32_t id) {
  struct holt_kv_cursor *cursor;
  struct holt_buf found, value;
  uint8_t key[8];
  int rc = holt_kv_cursor_open(book->txn, book->hash, &cursor);
  if (rc != 0) return rc;
  rc = holt_kv_seek(cursor, page_key(key, id, 0), &found, &value);
  if (rc == 0 && (found.len != 8 || holt__book_get_big(found.data, 4) != id)) rc = HOLT_ENOTFOUND;
  if (rc == 0) memcpy(key, found.data, 8);
  holt_kv_cursor_close(cursor);
  return rc == 0 ? holt_kv_delete(book->txn, book->hash, holt_buf(key, 8)) : rc;
}

static int delete_gone(struct holt_book *book, uint64_t pages) {
  struct holt_book_state *d = &book->draft;
  for (uint32_t i = 0; i < d->run_count && pages > 0;) {
    if (!d->runs[i].is_gone) {
      i++;
      continue;
    }
    int rc = delete_page(book, d->runs[i].id);
    pages--;
    if (rc == 0) continue;
    if (rc != HOLT_ENOTFOUND) return rc;
    d->run_count--;
    memmove(&d->runs[i], &d->runs[i + 1], (d->run_count - i) * sizeof d->runs[0]);
    book->is_manifest_changed = true;
  }
  return 0;
}

/* Each entry is merged once a level, and the pages it left are deleted as often: six levels and a little. */
int holt__book_hash_work(struct holt_book *book) {
  uint64_t pages = book->work * 6 / HOLT_BOOK_PAGE_ITEMS + 1;
  int rc = flush(book);
  if (rc == 0) rc = merge(book, pages);
  if (rc == 0) rc = delete_gone(book, pages);
  return rc == 0 && book->is_manifest_changed ? put_manifest(book) : rc;
}

void holt__book_hash_settle(struct holt_book *book) {
  for (size_t i = 0; i < book->fresh_count; i++)
    holt__book_memory_put(&book->newest, book->fresh[i].prefix, book->fresh[i].arrival);
  if (book->is_flushed) holt__book_memory_free(&book->frozen);
  if (book->newest.count < book->flush || book->frozen.count > 0) return;
  book->frozen = book->newest;
  book->newest = (struct holt_book_memory){0};
}
