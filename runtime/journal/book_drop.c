/* book_drop.c - retention: how far to drop, and dropping.
 *
 * What is dropped leaves the log, and the runs that begin in it; a run that is cut in the middle begins anew
 * at the first entry left. The hash index forgets when it merges. Entries to be kept move beside the log. */
#include "base/assert.h"
#include "journal/book_impl.h"

/* The record of the log at `arrival`, if it can be read. */
static bool look(struct holt_book *book, uint64_t arrival, struct holt_buf *value,
                 struct holt_book_entry *entry) {
  uint8_t key[8];
  holt__book_put_big(key, arrival, 8);
  return holt__book_get(book->txn, book->log, holt_buf(key, 8), value) == 0 &&
         holt__book_decode(arrival, *value, entry) == 0;
}

static int ignore_missing(int rc) {
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}

static int keep(struct holt_book *book, struct holt_buf value, const struct holt_book_entry *entry) {
  uint8_t key[13];
  if (!entry->is_kept) return 0;
  key[0] = 'k';
  holt__book_run_key(key + 1, entry->chain, entry->number);
  book->buffer.len = 0;
  holt_write_bytes(&book->buffer, value.data, value.len);
  return holt__book_put(book, book->state, holt_buf(key, 13), false);
}

/* Whether `entry` stands in the run that the entry before it stands in. */
static bool goes_on(bool has_before, const struct holt_book_entry *before,
                    const struct holt_book_entry *entry) {
  return has_before && before->chain == entry->chain && before->number + 1 == entry->number;
}

static int drop_one(struct holt_book *book, bool *has_before, struct holt_book_entry *before) {
  struct holt_book_state *d = &book->draft;
  struct holt_book_entry entry = {0};
  struct holt_buf value;
  uint8_t key[12];
  int rc = 0;
  bool is_good = look(book, d->first, &value, &entry);
  if (is_good) {
    d->dropped += value.len + 4;
    bool begins_run = !goes_on(*has_before, before, &entry);
    rc = keep(book, value, &entry); /* the borrowed bytes are gone after this */
    if (rc == 0 && begins_run)
      rc = ignore_missing(
          holt_kv_delete(book->txn, book->runs, holt__book_run_key(key, entry.chain, entry.number)));
  }
  *has_before = is_good;
  *before = entry;
  holt__book_put_big(key, d->first, 8);
  if (rc == 0) rc = ignore_missing(holt_kv_delete(book->txn, book->log, holt_buf(key, 8)));
  d->first++;
  return rc;
}

/* Marks that no entry stands behind any more; the newest at or below the first entry stays. */
static int drop_marks(struct holt_book *book) {
  struct holt_kv_cursor *cursor;
  struct holt_buf found, value;
  uint8_t key[9], last[9];
  key[0] = 't';
  for (;;) {
    uint64_t second = 0;
    holt__book_put_big(key + 1, 0, 8);
    int rc = holt_kv_cursor_open(book->txn, book->state, &cursor);
    if (rc != 0) return rc;
    rc = holt_kv_seek(cursor, holt_buf(key, 9), &found, &value);
    bool is_mark = rc == 0 && found.len == 9 && found.data[0] == 't';
    if (is_mark) memcpy(last, found.data, 9);
    if (is_mark && (rc = holt_kv_next(cursor, &found, &value)) == 0 && found.len == 9 && found.data[0] == 't')
      second = holt__book_get_big(found.data + 1, 8);
    holt_kv_cursor_close(cursor);
    if (rc != 0 || !is_mark || second == 0 || second > book->draft.first) return ignore_missing(rc);
    rc = holt_kv_delete(book->txn, book->state, holt_buf(last, 9));
    if (rc != 0) return rc;
  }
}

int holt_book_drop(struct holt_book *book, uint64_t up_to, size_t max) {
  struct holt_book_state *d = &book->draft;
  struct holt_book_entry before = {0}, entry;
  struct holt_buf value;
  bool has_before = false;
  int rc = 0;
  HOLT_ASSERT(book->txn != NULL);
  if (up_to > d->next) up_to = d->next;
  size_t left = max;
  for (; d->first < up_to && left > 0 && rc == 0; left--) rc = drop_one(book, &has_before, &before);
  if (rc != 0 || left == max) return rc;
  book->work += max - left;
  if (d->first == d->next)
    d->has_last = false; /* what comes next begins a run */
  else if (look(book, d->first, &value, &entry) && goes_on(has_before, &before, &entry))
    rc = holt__book_put_run(book, entry.chain, entry.number, d->first);
  if (rc == 0) rc = drop_marks(book);
  return rc == 0 && d->first < up_to ? HOLT_EAGAIN : rc;
}

int holt_book_cut(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t keep_ms,
                  uint64_t keep_entries, uint64_t keep_bytes, uint64_t now_ms, uint64_t *up_to) {
  const struct holt_book_state *now = &book->now;
  struct holt_kv_cursor *cursor;
  struct holt_buf key, value;
  uint8_t first[9] = {'t'};
  uint64_t latest = 0; /* when the entries before the mark had come, as far as the clock tells */
  uint64_t count = now->next - now->first;
  bool is_over = keep_bytes != 0 && now->bytes - now->dropped > keep_bytes;
  *up_to = now->first;
  if (keep_entries != 0 && count > keep_entries) *up_to = now->next - keep_entries;
  if (keep_ms == 0 && !is_over) return 0;
  int rc = holt_kv_cursor_open(txn, book->state, &cursor);
  if (rc != 0) return rc;
  for (rc = holt_kv_seek(cursor, holt_buf(first, 9), &key, &value);
       rc == 0 && key.len == 9 && key.data[0] == 't'; rc = holt_kv_next(cursor, &key, &value)) {
    if (holt__book_check(key, &value) != 0 || value.len < 16) continue;
    uint64_t arrival = holt__book_get_big(key.data + 1, 8), time_ms = holt_get_u64(value.data);
    /* A clock that was set back must not make entries old, nor one that was ahead keep them for ever: marks
     * of the future say nothing, and none is older than one before it. */
    uint64_t due =
        latest == 0 ? UINT64_MAX : latest + book->mark_ms; /* else it would stand further in front */
    if (time_ms <= now_ms && time_ms > latest) latest = time_ms;
    uint64_t came = due < latest ? due : latest; /* what stands before it came no later */
    bool is_old = keep_ms != 0 && came + keep_ms <= now_ms;
    bool is_enough = is_over && now->bytes - holt_get_u64(value.data + 8) <= keep_bytes;
    bool counts = is_enough || (is_old && time_ms <= now_ms);
    if (counts && arrival > *up_to) *up_to = arrival;
    if (is_enough) is_over = false;
    if (!is_old && !is_over) break;
  }
  holt_kv_cursor_close(cursor);
  /* What stands behind the last mark came before the next one was due. */
  uint64_t last = (now->time_ms > latest ? now->time_ms : latest) + book->mark_ms;
  if (rc == HOLT_ENOTFOUND && keep_ms != 0 && last + keep_ms <= now_ms) *up_to = now->next;
  return rc == HOLT_ENOTFOUND ? 0 : rc;
}
