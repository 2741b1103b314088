/* book.c - the log, its runs and its records: asking and appending.
 *
 * - holt_book_begin copies the state; appending and dropping change the copy and put keys and values.
 * - holt_book_end puts the copy into the table, and does its slice of the hash index.
 * - holt_book_settle, the transaction being durable: the copy becomes the state, hashes go into memory.
 * - The transaction failed: the copy is forgotten, and with it all that was put. */
#include "journal/book.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "journal/book_impl.h"

enum { IS_SIGNED = 1, IS_KEPT = 2 };
enum { MARK_ENTRIES = 4096, MARK_BYTES = 1 << 20, MARK_MS = 10000 };
enum { STATE_BYTES = 77, STATE_BYTES_BEFORE = 69, MARK_VALUE = 24 };

/* --- Keys and values ---------------------------------------------------------------------------------- */

struct holt_buf holt__book_log_key(uint8_t key[8], uint64_t arrival) {
  holt__book_put_big(key, arrival, 8);
  return holt_buf(key, 8);
}

struct holt_buf holt__book_run_key(uint8_t key[12], uint32_t chain, uint64_t number) {
  holt__book_put_big(key, chain, 4);
  holt__book_put_big(key + 4, number, 8);
  return holt_buf(key, 12);
}

static struct holt_buf kept_key(uint8_t key[13], uint32_t chain, uint64_t number) {
  key[0] = 'k';
  holt__book_run_key(key + 1, chain, number);
  return holt_buf(key, 13);
}

static struct holt_buf mark_key(uint8_t key[9], uint64_t arrival) {
  key[0] = 't';
  holt__book_put_big(key + 1, arrival, 8);
  return holt_buf(key, 9);
}

struct holt_buf holt_book_author_key(uint32_t author, uint8_t into[4]) {
  holt__book_put_big(into, author, 4);
  return holt_buf(into, 4);
}

static uint32_t sum(struct holt_buf key, struct holt_buf value) {
  return holt_crc32c(holt_crc32c(0, key.data, key.len), value.data, value.len);
}

int holt__book_put(struct holt_book *book, uint32_t table, struct holt_buf key, bool is_last) {
  struct holt_writer *w = &book->buffer;
  holt_write_u32(w, sum(key, holt_buf(w->data, w->len)));
  struct holt_buf value = holt_buf(w->data, w->len);
  return is_last ? holt_kv_append(book->txn, table, key, value) : holt_kv_put(book->txn, table, key, value);
}

int holt__book_check(struct holt_buf key, struct holt_buf *value) {
  if (value->len < 4) return HOLT_ECORRUPT;
  value->len -= 4;
  return holt_get_u32(value->data + value->len) == sum(key, *value) ? 0 : HOLT_ECORRUPT;
}

bool holt_book_is_whole(const char *table, struct holt_buf key, struct holt_buf value) {
  (void)table;
  return holt__book_check(key, &value) == 0;
}

int holt__book_get(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf *value) {
  int rc = holt_kv_get(txn, table, key, value);
  return rc == 0 ? holt__book_check(key, value) : rc;
}

static void write_varint(struct holt_writer *w, uint64_t v) {
  for (; v >= 128; v >>= 7) holt_write_u8(w, (uint8_t)(v | 128));
  holt_write_u8(w, (uint8_t)v);
}

static uint64_t read_varint(struct holt_reader *r) {
  uint64_t v = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    uint8_t byte = holt_read_u8(r);
    v |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return v;
  }
  r->failed = true;
  return 0;
}

static void encode(struct holt_writer *w, const struct holt_book_entry *entry) {
  w->len = 0;
  holt_write_u8(w, (uint8_t)((entry->signature != NULL ? IS_SIGNED : 0) | (entry->is_kept ? IS_KEPT : 0)));
  write_varint(w, entry->chain);
  write_varint(w, entry->number);
  if (entry->signature != NULL) holt_write_bytes(w, entry->signature, HOLT_BOOK_SIGNATURE);
  holt_write_bytes(w, entry->bytes.data, entry->bytes.len);
}

int holt__book_decode(uint64_t arrival, struct holt_buf value, struct holt_book_entry *out) {
  struct holt_reader r = holt_reader(value);
  uint8_t flags = holt_read_u8(&r);
  uint64_t chain = read_varint(&r);
  *out = (struct holt_book_entry){.arrival = arrival, .chain = (uint32_t)chain, .number = read_varint(&r)};
  if ((flags & IS_SIGNED) != 0) out->signature = holt_read_bytes(&r, HOLT_BOOK_SIGNATURE).data;
  out->is_kept = (flags & IS_KEPT) != 0;
  out->bytes = holt_read_bytes(&r, holt_reader_left(&r));
  return r.failed || chain > UINT32_MAX ? HOLT_ECORRUPT : 0;
}

/* --- Asking ------------------------------------------------------------------------------------------- */

uint64_t holt_book_first(const struct holt_book *book) {
  return book->now.first;
}
uint64_t holt_book_next(const struct holt_book *book) {
  return book->now.next;
}
uint64_t holt_book_bytes(const struct holt_book *book) {
  return book->now.bytes - book->now.dropped;
}

int holt_book_get(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t arrival,
                  struct holt_book_entry *out) {
  uint8_t key[8];
  struct holt_buf value;
  *out = (struct holt_book_entry){.arrival = arrival};
  if (arrival < book->now.first || arrival >= book->now.next) return HOLT_ENOTFOUND;
  int rc = holt__book_get(txn, book->log, holt__book_log_key(key, arrival), &value);
  if (rc == HOLT_ENOTFOUND) return arrival < book->dropping ? HOLT_ENOTFOUND : HOLT_ECORRUPT;
  return rc == 0 ? holt__book_decode(arrival, value, out) : rc;
}

void holt_book_will_drop(struct holt_book *book, uint64_t up_to) {
  book->dropping = up_to;
}

bool holt_book_is_missing(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t arrival) {
  uint8_t key[8];
  struct holt_buf value;
  return holt_kv_get(txn, book->log, holt__book_log_key(key, arrival), &value) == HOLT_ENOTFOUND;
}

static int get_kept(const struct holt_book *book, struct holt_kv_txn *txn, uint32_t chain, uint64_t number,
                    struct holt_book_entry *out) {
  uint8_t key[13];
  struct holt_buf value;
  int rc = holt__book_get(txn, book->state, kept_key(key, chain, number), &value);
  return rc == 0 ? holt__book_decode(0, value, out) : rc;
}

/* The last record of the runs that is not above (chain, number); 0 and its key and arrival. */
static int run_below(const struct holt_book *book, struct holt_kv_txn *txn, uint32_t chain, uint64_t number,
                     uint64_t *first, uint64_t *arrival) {
  uint8_t key[12];
  struct holt_kv_cursor *cursor;
  struct holt_buf found, value;
  int rc = holt_kv_cursor_open(txn, book->runs, &cursor);
  if (rc != 0) return rc;
  rc = holt_kv_seek_back(cursor, holt__book_run_key(key, chain, number), &found, &value);
  if (rc == 0 && (found.len != 12 || holt__book_check(found, &value) != 0 || value.len != 8))
    rc = HOLT_ECORRUPT;
  if (rc == 0 && holt__book_get_big(found.data, 4) != chain) rc = HOLT_ENOTFOUND;
  if (rc == 0) {
    *first = holt__book_get_big(found.data + 4, 8);
    *arrival = holt_get_u64(value.data);
  }
  holt_kv_cursor_close(cursor);
  return rc;
}

int holt_book_get_number(const struct holt_book *book, struct holt_kv_txn *txn, uint32_t chain,
                         uint64_t number, struct holt_book_entry *out) {
  uint64_t first = 0, arrival = 0;
  int rc = run_below(book, txn, chain, number, &first, &arrival);
  if (rc == 0) {
    arrival += number - first;
    rc = holt_book_get(book, txn, arrival, out);
    if (rc == 0 && (out->chain != chain || out->number != number)) rc = HOLT_ENOTFOUND; /* behind the run */
  }
  return rc == HOLT_ENOTFOUND ? get_kept(book, txn, chain, number, out) : rc;
}

int holt_book_identify(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t arrival,
                       uint32_t *chain, uint64_t *number) {
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  uint64_t best = 0;
  int rc = holt_kv_cursor_open(txn, book->runs, &cursor);
  if (rc != 0) return rc;
  for (rc = holt_kv_seek(cursor, holt_buf(NULL, 0), &key, &value); rc == 0;
       rc = holt_kv_next(cursor, &key, &value)) {
    if (key.len != 12 || holt__book_check(key, &value) != 0 || value.len != 8) continue;
    uint64_t at = holt_get_u64(value.data);
    if (at > arrival || at < best) continue;
    best = at;
    *chain = (uint32_t)holt__book_get_big(key.data, 4);
    *number = holt__book_get_big(key.data + 4, 8) + (arrival - at);
  }
  holt_kv_cursor_close(cursor);
  if (rc != HOLT_ENOTFOUND) return rc;
  return best == 0 ? HOLT_ENOTFOUND : 0;
}

/* --- Reading on --------------------------------------------------------------------------------------- */

void holt_book_scan(struct holt_book_scan *scan, const struct holt_book *book, uint64_t arrival) {
  *scan = (struct holt_book_scan){.book = book};
  scan->next = arrival < book->now.first ? book->now.first : arrival;
}

void holt_book_scan_close(struct holt_book_scan *scan) {
  holt_kv_cursor_close(scan->cursor);
  if (scan->txn != NULL) holt_kv_end(scan->txn);
  scan->cursor = NULL;
  scan->txn = NULL;
}

/* Put the cursor on scan->next, or behind it: then scan->found says where. HOLT_ENOTFOUND: it is at the end.
 */
static int stand(struct holt_book_scan *scan) {
  uint8_t wanted[8];
  struct holt_buf key = {0};
  int rc = 0;
  if (scan->txn == NULL) rc = holt_kv_begin(scan->book->kv, &scan->txn);
  if (rc == 0 && scan->cursor != NULL) {
    if (scan->found >= scan->next) return 0;
    rc = holt_kv_next(scan->cursor, &key, &scan->value);
  } else if (rc == 0) {
    rc = holt_kv_cursor_open(scan->txn, scan->book->log, &scan->cursor);
    if (rc == 0) rc = holt_kv_seek(scan->cursor, holt__book_log_key(wanted, scan->next), &key, &scan->value);
  }
  scan->found = rc == HOLT_ENOTFOUND ? UINT64_MAX : 0;
  if (rc != 0) return rc;
  scan->found = key.len == 8 ? holt__book_get_big(key.data, 8) : 0;
  return scan->found >= scan->next ? 0 : HOLT_ECORRUPT; /* a key out of order */
}

static int scan_next(struct holt_book_scan *scan, struct holt_book_entry *out) {
  uint8_t key[8];
  *out = (struct holt_book_entry){.arrival = scan->next};
  if (scan->next >= scan->book->now.next) return HOLT_ENOTFOUND;
  int rc = stand(scan);
  if (rc == HOLT_EBUSY || rc == HOLT_EIO) return rc;
  struct holt_buf value = scan->value;
  if (rc == 0 && scan->found == scan->next) {
    rc = holt__book_check(holt__book_log_key(key, scan->next), &value);
    if (rc == 0) rc = holt__book_decode(scan->next, value, out);
    scan->next++;
    return rc;
  }
  if (rc != 0 && rc != HOLT_ENOTFOUND)
    holt_book_scan_close(scan); /* damaged pages: begin anew behind this one */
  else if (rc == 0 && holt_book_get(scan->book, scan->txn, scan->next, out) == 0) {
    scan->next++; /* the cursor went astray */
    return 0;
  }
  *out = (struct holt_book_entry){.arrival = scan->next++};
  return HOLT_ECORRUPT;
}

int holt_book_scan_next(struct holt_book_scan *scan, struct holt_book_entry *out) {
  int rc = scan_next(scan, out);
  while (rc == HOLT_ECORRUPT && out->arrival < scan->book->dropping) rc = scan_next(scan, out);
  return rc;
}

/* --- Records ------------------------------------------------------------------------------------------ */

static struct holt_buf record_key(uint8_t into[HOLT_KV_KEY_MAX], enum holt_book_kind kind,
                                  struct holt_buf key) {
  HOLT_ASSERT(key.len <= HOLT_BOOK_KEY_MAX);
  into[0] = (uint8_t)kind;
  if (key.len > 0) memcpy(into + 1, key.data, key.len);
  return holt_buf(into, key.len + 1);
}

int holt_book_record(const struct holt_book *book, struct holt_kv_txn *txn, enum holt_book_kind kind,
                     struct holt_buf key, struct holt_buf *value) {
  uint8_t full[HOLT_KV_KEY_MAX];
  return holt__book_get(txn, book->state, record_key(full, kind, key), value);
}

int holt_book_records(const struct holt_book *book, struct holt_kv_txn *txn, enum holt_book_kind kind,
                      int (*each)(void *arg, struct holt_buf key, struct holt_buf value), void *arg) {
  uint8_t first[HOLT_KV_KEY_MAX];
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  int rc = holt_kv_cursor_open(txn, book->state, &cursor);
  if (rc != 0) return rc;
  rc = holt_kv_seek(cursor, record_key(first, kind, holt_buf(NULL, 0)), &key, &value);
  while (rc == 0 && key.data[0] == (uint8_t)kind) {
    if (holt__book_check(key, &value) != 0) value = holt_buf(NULL, 0);
    rc = each(arg, holt_buf(key.data + 1, key.len - 1), value);
    if (rc == 0) rc = holt_kv_next(cursor, &key, &value);
  }
  holt_kv_cursor_close(cursor);
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

int holt_book_put(struct holt_book *book, enum holt_book_kind kind, struct holt_buf key,
                  struct holt_buf value) {
  uint8_t into[HOLT_KV_KEY_MAX];
  struct holt_buf full = record_key(into, kind, key);
  HOLT_ASSERT(book->txn != NULL);
  if (value.len == 0) {
    int rc = holt_kv_delete(book->txn, book->state, full);
    return rc == HOLT_ENOTFOUND ? 0 : rc;
  }
  book->buffer.len = 0;
  holt_write_bytes(&book->buffer, value.data, value.len);
  return holt__book_put(book, book->state, full, false);
}

/* --- Appending ---------------------------------------------------------------------------------------- */

void holt_book_begin(struct holt_book *book, struct holt_kv_txn *txn) {
  book->txn = txn;
  book->draft = book->now;
  book->fresh_count = 0;
  book->work = 0;
  book->is_flushed = book->is_manifest_changed = false;
}

int holt__book_put_run(struct holt_book *book, uint32_t chain, uint64_t number, uint64_t arrival) {
  uint8_t key[12];
  book->buffer.len = 0;
  holt_write_u64(&book->buffer, arrival);
  return holt__book_put(book, book->runs, holt__book_run_key(key, chain, number), false);
}

static int put_mark(struct holt_book *book, uint64_t time_ms) {
  struct holt_book_state *d = &book->draft;
  uint8_t key[9];
  uint64_t passed = time_ms > d->time_ms ? time_ms - d->time_ms : d->time_ms - time_ms;
  bool is_due = d->mark == 0 || d->next - d->mark >= MARK_ENTRIES ||
                d->bytes - d->mark_bytes >= book->mark_bytes || passed >= book->mark_ms;
  if (!is_due) return 0;
  d->time_ms = time_ms;
  d->mark = d->next;
  d->mark_bytes = d->bytes;
  book->buffer.len = 0;
  holt_write_u64(&book->buffer, d->time_ms);
  holt_write_u64(&book->buffer, d->bytes);
  holt_write_u64(&book->buffer, d->highest_ms);
  return holt__book_put(book, book->state, mark_key(key, d->next), false);
}

static void add_fresh(struct holt_book *book, const uint8_t *hash, uint64_t arrival) {
  if (book->fresh_count == book->fresh_cap) {
    book->fresh_cap = book->fresh_cap == 0 ? 64 : book->fresh_cap * 2;
    book->fresh = holt_realloc(book->fresh, book->fresh_cap * sizeof *book->fresh);
  }
  book->fresh[book->fresh_count++] =
      (struct holt_book_item){.prefix = holt__book_prefix(hash), .arrival = arrival};
}

static int append_one(struct holt_book *book, const struct holt_book_entry *entry) {
  struct holt_book_state *d = &book->draft;
  uint8_t key[8];
  HOLT_ASSERT(entry->hash != NULL);
  bool goes_on = d->has_last && d->last_chain == entry->chain && d->last_number + 1 == entry->number;
  int rc = goes_on ? 0 : holt__book_put_run(book, entry->chain, entry->number, d->next);
  if (rc != 0) return rc;
  encode(&book->buffer, entry);
  rc = holt__book_put(book, book->log, holt__book_log_key(key, d->next), true);
  if (rc != 0) return rc;
  add_fresh(book, entry->hash, d->next);
  d->bytes += book->buffer.len;
  if (entry->time_ms > d->highest_ms) d->highest_ms = entry->time_ms;
  d->has_last = true;
  d->last_chain = entry->chain;
  d->last_number = entry->number;
  d->next++;
  return 0;
}

int holt_book_append(struct holt_book *book, const struct holt_book_entry *entries, size_t count,
                     uint64_t time_ms, uint64_t *first) {
  HOLT_ASSERT(book->txn != NULL);
  if (first != NULL) *first = book->draft.next;
  int rc = 0;
  for (size_t i = 0; i < count && rc == 0; i++) {
    rc = put_mark(book, time_ms);
    if (rc == 0) rc = append_one(book, &entries[i]);
  }
  book->work += count;
  /* A key above what we know to be the last: the table is not what it was. */
  return rc == HOLT_EEXISTS ? HOLT_ECORRUPT : rc;
}

int holt_book_mend(struct holt_book *book, const struct holt_book_entry *entry) {
  uint8_t key[8];
  HOLT_ASSERT(book->txn != NULL);
  HOLT_ASSERT(entry->arrival >= book->draft.first);
  HOLT_ASSERT(entry->arrival < book->draft.next);
  encode(&book->buffer, entry);
  return holt__book_put(book, book->log, holt__book_log_key(key, entry->arrival), false);
}

/* The last mark at or before `arrival`: 0 and HOLT_ENOTFOUND when there is none. */
static int mark_before(const struct holt_book *book, struct holt_kv_cursor *cursor, uint64_t arrival,
                       uint64_t *mark, uint64_t *highest_ms) {
  uint8_t into[9];
  struct holt_buf key, value;
  (void)book;
  int rc = holt_kv_seek_back(cursor, mark_key(into, arrival), &key, &value);
  while (rc == 0 && key.len == 9 && key.data[0] == 't') {
    *mark = holt__book_get_big(key.data + 1, 8);
    if (holt__book_check(key, &value) == 0 && value.len == MARK_VALUE) {
      *highest_ms = holt_get_u64(value.data + 16);
      return 0;
    }
    rc = holt_kv_prev(cursor, &key, &value); /* damaged: the one before it says less, and nothing wrong */
  }
  return rc == 0 ? HOLT_ENOTFOUND : rc;
}

int holt_book_find_time(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t time_ms,
                        uint64_t *from) {
  struct holt_kv_cursor *cursor;
  uint64_t low = book->now.first, high = book->now.next;
  *from = low;
  int rc = holt_kv_cursor_open(txn, book->state, &cursor);
  if (rc != 0) return rc;
  while (rc == 0 && high - low > 1) { /* marks up to *from are too early, those from high on are not */
    uint64_t middle = low + (high - low) / 2, mark, highest_ms;
    rc = mark_before(book, cursor, middle, &mark, &highest_ms);
    if (rc == HOLT_ENOTFOUND) rc = mark = 0;
    if (rc != 0) break;
    if (mark <= *from) {
      low = middle;
    } else if (highest_ms < time_ms) {
      *from = mark;
      low = middle;
    } else {
      high = mark;
    }
  }
  holt_kv_cursor_close(cursor);
  return rc == HOLT_ECORRUPT ? 0 : rc;
}

int holt__book_put_state(struct holt_book *book) {
  const struct holt_book_state *d = &book->draft;
  struct holt_writer *w = &book->buffer;
  w->len = 0;
  holt_write_u64(w, d->first);
  holt_write_u64(w, d->next);
  holt_write_u64(w, d->bytes);
  holt_write_u64(w, d->dropped);
  holt_write_u64(w, d->time_ms);
  holt_write_u64(w, d->mark);
  holt_write_u64(w, d->mark_bytes);
  holt_write_u8(w, d->has_last);
  holt_write_u32(w, d->last_chain);
  holt_write_u64(w, d->last_number);
  holt_write_u64(w, d->highest_ms);
  HOLT_ASSERT(w->len == STATE_BYTES);
  return holt__book_put(book, book->state, holt_buf_text("s"), false);
}

static bool is_state_changed(const struct holt_book *book) {
  return book->draft.next != book->now.next || book->draft.first != book->now.first;
}

int holt_book_end(struct holt_book *book) {
  HOLT_ASSERT(book->txn != NULL);
  int rc = is_state_changed(book) ? holt__book_put_state(book) : 0;
  if (rc == 0) rc = holt__book_hash_work(book);
  book->txn = NULL;
  return rc;
}

void holt_book_settle(struct holt_book *book, int status) {
  book->txn = NULL;
  book->dropping = 0;
  if (status != 0) return;
  book->now = book->draft;
  holt__book_hash_settle(book);
}

/* --- Opening ------------------------------------------------------------------------------------------ */

/* The state is lost: what the log itself tells. Sizes and age begin anew. */
static int guess_state(struct holt_book *book, struct holt_kv_txn *txn) {
  struct holt_book_state *now = &book->now;
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  int rc = holt_kv_cursor_open(txn, book->log, &cursor);
  if (rc != 0) return rc;
  rc = holt_kv_seek(cursor, holt_buf(NULL, 0), &key, &value);
  if (rc == 0 && key.len == 8) now->first = holt__book_get_big(key.data, 8);
  if (rc == 0) rc = holt_kv_seek_back(cursor, holt_buf(NULL, 0), &key, &value);
  if (rc == 0 && key.len == 8) now->next = holt__book_get_big(key.data, 8) + 1;
  holt_kv_cursor_close(cursor);
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

static int read_state(struct holt_book *book, struct holt_kv_txn *txn) {
  struct holt_book_state *now = &book->now;
  struct holt_buf value;
  *now = (struct holt_book_state){.first = 1, .next = 1, .indexed = 1, .next_run = 1};
  int rc = holt__book_get(txn, book->state, holt_buf_text("s"), &value);
  if (rc == HOLT_ECORRUPT || rc == HOLT_ENOTFOUND ||
      (value.len != STATE_BYTES && value.len != STATE_BYTES_BEFORE))
    return guess_state(book, txn);
  if (rc != 0) return rc;
  struct holt_reader r = holt_reader(value);
  now->first = holt_read_u64(&r);
  now->next = holt_read_u64(&r);
  now->bytes = holt_read_u64(&r);
  now->dropped = holt_read_u64(&r);
  now->time_ms = holt_read_u64(&r);
  now->mark = holt_read_u64(&r);
  now->mark_bytes = holt_read_u64(&r);
  now->has_last = holt_read_u8(&r) != 0;
  now->last_chain = holt_read_u32(&r);
  now->last_number = holt_read_u64(&r);
  now->highest_ms = holt_read_u64(&r);
  return now->first == 0 || now->first > now->next ? HOLT_ECORRUPT : 0;
}

int holt__book_open_tables(struct holt_book *book, const char *name, struct holt_err *err) {
  static const char *const suffixes[] = {"log", "runs", "hash", "state"};
  uint32_t *const tables[] = {&book->log, &book->runs, &book->hash, &book->state};
  char full[HOLT_BOOK_NAME_MAX + 8];
  HOLT_ASSERT(strlen(name) <= HOLT_BOOK_NAME_MAX);
  for (int i = 0; i < 4; i++) {
    snprintf(full, sizeof full, "%s/%s", name, suffixes[i]);
    int rc = holt_kv_table(book->kv, full, tables[i], err);
    if (rc != 0) return rc;
  }
  return 0;
}

int holt_book_open(const struct holt_book_options *options, struct holt_book **out, struct holt_err *err) {
  struct holt_kv_txn *txn;
  struct holt_book *book = holt_alloc(sizeof *book);
  book->kv = options->kv;
  book->hash_of = options->hash;
  book->arg = options->arg;
  book->mark_bytes =
      options->mark_bytes == 0 || options->mark_bytes > MARK_BYTES ? MARK_BYTES : options->mark_bytes;
  book->mark_ms = options->mark_ms == 0 || options->mark_ms > MARK_MS ? MARK_MS : options->mark_ms;
  book->flush = options->flush == 0 ? HOLT_BOOK_FLUSH : options->flush;
  int rc = holt__book_open_tables(book, options->name, err);
  if (rc == 0) {
    rc = holt_kv_begin(book->kv, &txn);
    if (rc == 0) {
      rc = read_state(book, txn);
      if (rc == 0) rc = holt__book_hash_open(book, txn);
      holt_kv_end(txn);
    }
    if (rc != 0)
      holt_err_set(err, rc, "cannot open the journal '%s' in '%s': %s", options->name, holt_kv_path(book->kv),
                   holt_err_text(rc));
  }
  if (rc == 0)
    *out = book;
  else
    holt_book_close(book);
  return rc;
}

void holt_book_close(struct holt_book *book) {
  holt__book_memory_free(&book->newest);
  holt__book_memory_free(&book->frozen);
  holt_writer_free(&book->buffer);
  free(book->fresh);
  free(book);
}
