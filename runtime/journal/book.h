/* book.h - where a journal keeps its entries: the log of arrivals and the indexes over it, on ordered keys.
 *
 * An entry is bytes that the book does not understand. It gets an arrival number (1, 2, 3…, in the order in
 * which entries came, without a gap) and is found again by it, by (chain, number), where each chain's numbers
 * rise one by one, or by its hash. Beside the entries: a record for each author, named cursors, notes. Every
 * value has a CRC-32C, which also covers its key: what comes back is what was written, or HOLT_ECORRUPT.
 *
 * Two threads meet here, each with its own functions. The loop reads, at any time, within a reading
 * transaction of the store. A worker writes, within a job of the store: holt_book_begin, changes,
 * holt_book_end; then the loop calls holt_book_settle with the outcome, before the next job begins: one
 * writing transaction of a book at a time. Until it is settled nothing of it shows in what the loop asks.
 *
 * The hash index is a log-structured merge: the newest hashes in memory, older ones in sorted runs, eight of
 * one size merged to one of the next (O'Neil et al., "The log-structured merge-tree", 1996); hashes are
 * uniform, so a run is searched by interpolation (Perl, Itai and Avni, 1978). Flushing and merging is done by
 * holt_book_end, a slice for each transaction in proportion to what it wrote. */
#ifndef HOLT_JOURNAL_BOOK_H
#define HOLT_JOURNAL_BOOK_H

#include "base/buf.h"
#include "base/err.h"
#include "store/kv.h"

enum { HOLT_BOOK_HASH = 32, HOLT_BOOK_SIGNATURE = 64, HOLT_BOOK_NAME_MAX = 100, HOLT_BOOK_KEY_MAX = 250 };

/* The version of what is in the tables, for holt_kv_options. */
enum { HOLT_BOOK_VERSION = 1 };

/* Whether a record of a table of a book is what was once put: for holt_kv_options. */
bool holt_book_is_whole(const char *table, struct holt_buf key, struct holt_buf value);

struct holt_book;

struct holt_book_options {
  struct holt_kv *kv; /* borrowed; outlives the book */
  const char *name;   /* of its tables: books of one store differ in it; at most HOLT_BOOK_NAME_MAX bytes */
  /* The hash of an entry's bytes; called on the loop's thread. */
  void (*hash)(void *arg, struct holt_buf bytes, uint8_t out[HOLT_BOOK_HASH]);
  void *arg;
  /* Marks for retention are made at least each so many bytes and milliseconds; 0, or more: 1 MiB, 10 s. */
  uint64_t mark_bytes, mark_ms;
  uint32_t flush; /* hashes kept in memory until they become a run; 0: 32,768, less is for tests */
};

/* Open or make. Holds the loop up: it reads the newest 65,536 entries at most, whatever the length.
 * Errors, with a sentence: those of holt_kv_table, HOLT_ECORRUPT, HOLT_EIO. */
int holt_book_open(const struct holt_book_options *options, struct holt_book **out, struct holt_err *err);
/* After the store was made anew (holt_kv_rebuilds), before holt_book_open: records of the log may be missing;
 * the indexes over it are made anew from what is there. Holds the loop up for as long as it takes to read
 * all. As holt_book_open. */
int holt_book_repair(const struct holt_book_options *options, struct holt_err *err);
/* Forget all entries from `arrival` on, and all records of authors: 0. Cursors that stand behind it are put
 * on it. For a book whose authors are not known any more: close it then, and open it anew. Holds the loop up.
 * Errors of the store. */
int holt_book_shorten(struct holt_book *book, uint64_t arrival, struct holt_err *err);
/* Free it: no job of it under way. The store stays open. */
void holt_book_close(struct holt_book *book);

/* --- Asking (loop) -------------------------------------------------------------------------------------- */

/* Arrivals of the oldest entry kept, and of the one after the newest. */
uint64_t holt_book_first(const struct holt_book *book);
uint64_t holt_book_next(const struct holt_book *book);
/* Encoded bytes of the entries kept. */
uint64_t holt_book_bytes(const struct holt_book *book);

struct holt_book_entry {
  uint64_t arrival;
  uint32_t chain;
  uint64_t number;
  uint64_t time_ms; /* for appending: the author's, for holt_book_find_time */
  struct holt_buf bytes;
  const uint8_t *signature; /* HOLT_BOOK_SIGNATURE bytes, or NULL */
  const uint8_t *hash;      /* for appending: HOLT_BOOK_HASH bytes; NULL in what was read */
  bool is_kept;             /* dropping takes it out of the log only: it is still found by chain and number */
};

/* These work in any transaction of the store; what they give is borrowed until it ends or writes. After
 * HOLT_ECORRUPT end the transaction before asking on. */

/* HOLT_ENOTFOUND: not there (any more); HOLT_ECORRUPT: damaged or gone though it should be there. */
int holt_book_get(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t arrival,
                  struct holt_book_entry *out);
/* `arrival` is 0 for one kept when it was dropped from the log. HOLT_ENOTFOUND, HOLT_ECORRUPT. */
int holt_book_get_number(const struct holt_book *book, struct holt_kv_txn *txn, uint32_t chain,
                         uint64_t number, struct holt_book_entry *out);
/* The loop only. Entries below holt_book_first are not found. HOLT_ENOTFOUND, HOLT_ECORRUPT. */
int holt_book_find(const struct holt_book *book, struct holt_kv_txn *txn, const uint8_t hash[HOLT_BOOK_HASH],
                   uint64_t *arrival);
/* Whether there is no record at all where one should be. */
bool holt_book_is_missing(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t arrival);
/* What stood at `arrival`, whose entry is damaged, by its neighbours and the index; slow. HOLT_ENOTFOUND. */
int holt_book_identify(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t arrival,
                       uint32_t *chain, uint64_t *number);

/* An arrival, `*from`, before which no entry has a time_ms of at least this. The first one that has is at
 * most some 4,096 entries (or 1 MiB, or 10 seconds) behind it, unless one that was dropped had a later time.
 * HOLT_EIO. */
int holt_book_find_time(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t time_ms,
                        uint64_t *from);

/* Reading on in order of arrival; on the loop, in a transaction of its own: close it before the loop turns.
 */
struct holt_book_scan {
  const struct holt_book *book;
  struct holt_kv_txn *txn;       /* NULL: none is open */
  struct holt_kv_cursor *cursor; /* NULL: to be opened */
  uint64_t next;                 /* arrival that comes next */
  uint64_t found;                /* where the cursor stands */
  struct holt_buf value;
};
/* From `arrival`, or the first one kept if that is later. */
void holt_book_scan(struct holt_book_scan *scan, const struct holt_book *book, uint64_t arrival);
/* What it gives is borrowed until the next call. HOLT_ENOTFOUND: the end. HOLT_ECORRUPT: the entry
 * out->arrival is damaged; the next call goes on behind it (where damage hides many, each of them answers
 * so). HOLT_EBUSY, HOLT_EIO. */
int holt_book_scan_next(struct holt_book_scan *scan, struct holt_book_entry *out);
void holt_book_scan_close(struct holt_book_scan *scan);

/* Records beside the entries. */
enum holt_book_kind {
  HOLT_BOOK_AUTHOR = 'a', /* the index's records, by number (holt_book_author_key) */
  HOLT_BOOK_CURSOR = 'c', /* named cursors */
  HOLT_BOOK_NOTE = 'n'    /* anything else: keys, schema, peers */
};
/* 4 bytes that order as the number does. */
struct holt_buf holt_book_author_key(uint32_t author, uint8_t into[4]);
/* HOLT_ENOTFOUND, HOLT_ECORRUPT. */
int holt_book_record(const struct holt_book *book, struct holt_kv_txn *txn, enum holt_book_kind kind,
                     struct holt_buf key, struct holt_buf *value);
/* All of a kind, in the order of their keys; the first code of `each` that is not 0 ends it and is returned.
 * A damaged record is given with `value.data` NULL. */
int holt_book_records(const struct holt_book *book, struct holt_kv_txn *txn, enum holt_book_kind kind,
                      int (*each)(void *arg, struct holt_buf key, struct holt_buf value), void *arg);

/* --- Changing (worker, in a writing transaction) -------------------------------------------------------- */

/* An error of any of these must end the transaction; holt_book_settle is called all the same. */

void holt_book_begin(struct holt_book *book, struct holt_kv_txn *txn);
/* The entries get the arrivals from holt_book_next on, or behind what this transaction appended before;
 * `first` (may be NULL) receives the first. Needs chain, number, bytes, hash; signature and is_kept where
 * they apply. `time_ms` is the wall clock here, for retention by age. Copied. */
int holt_book_append(struct holt_book *book, const struct holt_book_entry *entries, size_t count,
                     uint64_t time_ms, uint64_t *first);
/* Put a record; an empty value takes it away. Key of 1 to HOLT_BOOK_KEY_MAX bytes. */
int holt_book_put(struct holt_book *book, enum holt_book_kind kind, struct holt_buf key,
                  struct holt_buf value);
/* Write an entry again whose record was damaged, at its arrival. */
int holt_book_mend(struct holt_book *book, const struct holt_book_entry *entry);
/* Drop entries from the oldest on, below `up_to`, at most `max`. HOLT_EAGAIN: some are left. Damaged ones go
 * too. */
int holt_book_drop(struct holt_book *book, uint64_t up_to, size_t max);
/* The last call of the transaction: the state and the slice of work on the hash index. */
int holt_book_end(struct holt_book *book);

/* On the loop, before the job begins: entries below `up_to` will be dropped by it. They may be gone from here
 * on, before that is settled; that is no damage. */
void holt_book_will_drop(struct holt_book *book, uint64_t up_to);
/* On the loop: how the job ended, 0 or a code. */
void holt_book_settle(struct holt_book *book, int status);

/* --- Retention ------------------------------------------------------------------------------------------ */

/* Below which arrival everything may go so that at most so much is kept (0: no limit): exact for entries, to
 * marks of at most 4,096 entries, 1 MiB or 10 seconds (see holt_book_options) for age and bytes. Times of
 * appending that lie behind `now_ms` are passed by, and one that lies before an earlier one counts as that.
 */
int holt_book_cut(const struct holt_book *book, struct holt_kv_txn *txn, uint64_t keep_ms,
                  uint64_t keep_entries, uint64_t keep_bytes, uint64_t now_ms, uint64_t *up_to);

#endif /* HOLT_JOURNAL_BOOK_H */
