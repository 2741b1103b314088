/* book_repair.c - a book whose store was made anew from what could be read of a damaged one.
 *
 * Records may be missing, those that are there are whole. The log is what counts: where a run should begin
 * and none is kept, it is put again; the index of hashes is made anew at the opening. An entry that is
 * missing in the log is found as damaged when it is read; what it was tell its neighbours. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "journal/book_impl.h"

struct repair {
  struct holt_book *book;
  uint64_t shorten_to; /* for holt_book_shorten */
};

/* Whether the runs say that `entry` stands where it stands. */
static bool is_in_run(const struct holt_book *book, struct holt_kv_txn *txn,
                      const struct holt_book_entry *entry) {
  uint8_t key[12];
  struct holt_kv_cursor *cursor;
  struct holt_buf found, value;
  bool is_right = false;
  if (holt_kv_cursor_open(txn, book->runs, &cursor) != 0) return false;
  int rc = holt_kv_seek_back(cursor, holt__book_run_key(key, entry->chain, entry->number), &found, &value);
  if (rc == 0 && found.len == 12 && holt__book_check(found, &value) == 0 && value.len == 8 &&
      holt__book_get_big(found.data, 4) == entry->chain)
    is_right =
        holt_get_u64(value.data) + (entry->number - holt__book_get_big(found.data + 4, 8)) == entry->arrival;
  holt_kv_cursor_close(cursor);
  return is_right;
}

/* The record of the log at `from` or behind it. */
static int next_entry(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t from,
                      struct holt_book_entry *out) {
  uint8_t wanted[8];
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  int rc = holt_kv_cursor_open(txn, book->log, &cursor);
  if (rc != 0) return rc;
  rc = holt_kv_seek(cursor, holt__book_log_key(wanted, from), &key, &value);
  if (rc == 0 && key.len != 8) rc = HOLT_ECORRUPT;
  uint64_t arrival = rc == 0 ? holt__book_get_big(key.data, 8) : 0;
  if (rc == 0) rc = holt__book_check(key, &value);
  if (rc == 0) rc = holt__book_decode(arrival, value, out);
  holt_kv_cursor_close(cursor);
  return rc;
}

static int put_runs(struct holt_book *book) {
  struct holt_book_entry entry;
  uint32_t chain = UINT32_MAX;
  uint64_t at = 0, skew = 0; /* of the entry before: arrival less number, in one run the same */
  int rc;
  while ((rc = next_entry(book, book->txn, at, &entry)) == 0) {
    uint64_t arrival = entry.arrival, number = entry.number;
    bool goes_on = entry.chain == chain && arrival - number == skew;
    chain = entry.chain;
    skew = arrival - number;
    if (!goes_on && !is_in_run(book, book->txn, &entry))
      rc = holt__book_put_run(book, chain, number, arrival);
    if (rc != 0) return rc;
    at = arrival + 1;
  }
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

static int repair(void *arg, struct holt_kv_txn *txn) {
  struct repair *r = arg;
  r->book->txn = txn;
  int rc = holt_kv_delete(txn, r->book->state, holt_buf_text("h"));
  return rc == 0 || rc == HOLT_ENOTFOUND ? put_runs(r->book) : rc;
}

int holt_book_repair(const struct holt_book_options *options, struct holt_err *err) {
  struct holt_book *book = holt_alloc(sizeof *book);
  struct repair r = {.book = book};
  book->kv = options->kv;
  int rc = holt__book_open_tables(book, options->name, err);
  if (rc == 0) rc = holt_kv_run(book->kv, repair, &r, err);
  holt_writer_free(&book->buffer);
  free(book);
  return rc;
}

/* --- Shortening --------------------------------------------------------------------------------------- */

/* The first key of `table` that is not below `from` and begins with `kind` (0: any). */
static int first_key(struct holt_kv_txn *txn, uint32_t table, struct holt_buf from, uint8_t kind,
                     uint8_t out[HOLT_KV_KEY_MAX], size_t *len, struct holt_buf *value) {
  struct holt_kv_cursor *cursor;
  struct holt_buf key;
  int rc = holt_kv_cursor_open(txn, table, &cursor);
  if (rc != 0) return rc;
  rc = holt_kv_seek(cursor, from, &key, value);
  if (rc == 0 && kind != 0 && key.data[0] != kind) rc = HOLT_ENOTFOUND;
  if (rc == 0) memcpy(out, key.data, *len = key.len);
  holt_kv_cursor_close(cursor);
  return rc;
}

static int delete_from(struct holt_kv_txn *txn, uint32_t table, struct holt_buf from, uint8_t kind) {
  uint8_t key[HOLT_KV_KEY_MAX];
  struct holt_buf value;
  size_t len;
  int rc;
  while ((rc = first_key(txn, table, from, kind, key, &len, &value)) == 0)
    if ((rc = holt_kv_delete(txn, table, holt_buf(key, len))) != 0) break;
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

static int move_cursors(struct holt_book *book, uint64_t up_to) {
  uint8_t key[HOLT_KV_KEY_MAX + 1] = {HOLT_BOOK_CURSOR};
  struct holt_buf value;
  size_t len = 1;
  int rc;
  while ((rc = first_key(book->txn, book->state, holt_buf(key, len), HOLT_BOOK_CURSOR, key, &len, &value)) ==
         0) {
    bool is_behind = holt__book_check(holt_buf(key, len), &value) == 0 && value.len == 8 &&
                     holt_get_u64(value.data) > up_to;
    if (is_behind) {
      book->buffer.len = 0;
      holt_write_u64(&book->buffer, up_to);
      rc = holt__book_put(book, book->state, holt_buf(key, len), false);
    }
    if (rc != 0) return rc;
    if (len == HOLT_KV_KEY_MAX) return 0;
    key[len++] = 0; /* the next one */
  }
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

/* Runs that begin at `arrival` or behind it. */
static int drop_runs(struct holt_book *book, uint64_t arrival) {
  uint8_t key[HOLT_KV_KEY_MAX + 1];
  struct holt_buf value;
  size_t len = 0;
  int rc;
  while ((rc = first_key(book->txn, book->runs, holt_buf(key, len), 0, key, &len, &value)) == 0) {
    if (holt__book_check(holt_buf(key, len), &value) != 0 || value.len != 8 ||
        holt_get_u64(value.data) >= arrival)
      rc = holt_kv_delete(book->txn, book->runs, holt_buf(key, len));
    if (rc != 0) return rc;
    key[len++] = 0;
  }
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

/* The book is to be opened anew afterwards. */
static int shorten(void *arg, struct holt_kv_txn *txn) {
  struct repair *r = arg;
  struct holt_book *book = r->book;
  uint8_t key[9] = {'t'};
  holt_book_begin(book, txn);
  struct holt_book_state *d = &book->draft;
  int rc = delete_from(txn, book->log, holt__book_log_key(key, r->shorten_to), 0);
  if (rc == 0) rc = drop_runs(book, r->shorten_to);
  if (rc == 0) rc = delete_from(txn, book->state, holt_buf_text("a"), HOLT_BOOK_AUTHOR);
  if (rc == 0 && r->shorten_to <= d->first) rc = delete_from(txn, book->state, holt_buf_text("k"), 'k');
  key[0] = 't';
  holt__book_put_big(key + 1, r->shorten_to, 8);
  if (rc == 0) rc = delete_from(txn, book->state, holt_buf(key, 9), 't');
  if (rc == 0) rc = move_cursors(book, r->shorten_to);
  d->next = r->shorten_to < d->first ? d->first : r->shorten_to;
  d->has_last = false; /* what comes next begins a run */
  d->mark = d->mark > d->next ? 0 : d->mark;
  if (d->next == d->first) d->dropped = d->bytes;
  if (rc == 0) rc = holt_kv_delete(txn, book->state, holt_buf_text("h")); /* made anew at the next opening */
  if (rc == HOLT_ENOTFOUND) rc = 0;
  return rc == 0 ? holt__book_put_state(book) : rc;
}

int holt_book_shorten(struct holt_book *book, uint64_t arrival, struct holt_err *err) {
  struct repair r = {.book = book, .shorten_to = arrival};
  int rc = holt_kv_run(book->kv, shorten, &r, err);
  book->txn = NULL;
  return rc;
}
