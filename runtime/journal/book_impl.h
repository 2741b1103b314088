/* book_impl.h - shared by the files of the book. Only for journal/ itself.
 *
 * Tables, each under the book's name, numbers in keys big-endian, in values little-endian:
 *
 *   NAME/log    arrival (8) -> flags (1), chain and number (varints), signature (64, if flagged), bytes, crc
 *   NAME/runs   chain (4), number (8) -> arrival (8), crc: entries that stand together in the log, one chain
 *               and rising by one, until another chain's stands between them
 *   NAME/hash   run (4), page (4) -> items of 12 bytes in order, crc
 *   NAME/state  'a' 'c' 'n' and a key: records. 'k' chain number: a log value, kept when it was dropped.
 *               't' arrival -> time in ms (8), bytes of all entries before (8), highest time_ms of all
 *               entries before (8), crc: marks.
 *               's' -> the log's state. 'h' -> the runs of the hash index.
 *
 * crc: CRC-32C of key and value. */
#ifndef HOLT_JOURNAL_BOOK_IMPL_H
#define HOLT_JOURNAL_BOOK_IMPL_H

#include "journal/book.h"

enum {
  HOLT_BOOK_FLUSH = 32768,   /* hashes in memory, until they become a run of level 0 */
  HOLT_BOOK_FAN = 8,         /* runs of one level that are merged to one of the next */
  HOLT_BOOK_LEVELS = 8,      /* 8^7 * 32768 entries, and then more in one run */
  HOLT_BOOK_RUNS_MAX = 128,  /* those that wait to be deleted too */
  HOLT_BOOK_ITEM = 12,       /* beginning of the hash (8, big-endian), arrival less the run's base (4) */
  HOLT_BOOK_PAGE_ITEMS = 339 /* with its checksum one overflow page of LMDB */
};

/* A sorted run of the hash index. */
struct holt_book_run {
  uint32_t id, level;
  uint64_t base, last; /* arrivals: items are of base … last */
  uint64_t items;
  uint32_t pages;
  bool is_gone;              /* to be deleted */
  bool is_merging;           /* into another; not kept on the disk: a merge begins anew after a start */
  uint32_t at_page, at_item; /* of the next item to be merged */
};

/* What a transaction may change: the draft becomes the truth when it is settled well. */
struct holt_book_state {
  uint64_t first, next, bytes; /* bytes: of all entries ever appended */
  uint64_t dropped;            /* bytes of those dropped */
  uint64_t time_ms;            /* of the last mark */
  uint64_t mark, mark_bytes;   /* its arrival and bytes before it */
  uint64_t highest_ms;         /* time_ms of all entries ever appended */
  bool has_last;               /* what the newest entry is */
  uint32_t last_chain;
  uint64_t last_number;
  uint64_t indexed; /* arrivals below it are in runs */
  uint32_t run_count, next_run;
  bool is_index_bad; /* something of it is damaged: made anew at the next opening */
  struct holt_book_run runs[HOLT_BOOK_RUNS_MAX];
  struct holt_book_run into[HOLT_BOOK_LEVELS]; /* what the merge of a level makes; id 0: there is none */
};

struct holt_book_item {
  uint64_t prefix, arrival;
};

/* Hashes in memory: open addressing, arrival 0 is free. */
struct holt_book_memory {
  struct holt_book_item *slots;
  size_t cap, count;
};

struct holt_book {
  struct holt_kv *kv;
  uint32_t log, runs, hash, state;
  void (*hash_of)(void *arg, struct holt_buf bytes, uint8_t out[HOLT_BOOK_HASH]);
  void *arg;
  uint64_t mark_bytes, mark_ms;
  uint32_t flush;
  uint64_t dropping; /* the loop's: below it entries may be gone already */
  /* The loop's; a worker only reads them. */
  struct holt_book_state now;
  struct holt_book_memory newest, frozen; /* frozen: waits to be flushed */
  /* The worker's, between begin and settle. */
  struct holt_kv_txn *txn;
  struct holt_book_state draft;
  struct holt_book_item *fresh; /* of the entries appended */
  size_t fresh_count, fresh_cap;
  bool is_flushed, is_manifest_changed;
  uint64_t work; /* entries written and dropped: how large the slice of index work shall be */
  struct holt_writer buffer;
};

/* Keys and values (book.c). */
static inline void holt__book_put_big(uint8_t *at, uint64_t v, unsigned len) {
  for (unsigned i = 0; i < len; i++) at[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
}
static inline uint64_t holt__book_get_big(const uint8_t *at, unsigned len) {
  uint64_t v = 0;
  for (unsigned i = 0; i < len; i++) v = v << 8 | at[i];
  return v;
}
/* Put `book->buffer` with its checksum. */
int holt__book_put(struct holt_book *book, uint32_t table, struct holt_buf key, bool is_last);
/* Check the checksum and take it off. HOLT_ECORRUPT. */
int holt__book_check(struct holt_buf key, struct holt_buf *value);
int holt__book_get(struct holt_kv_txn *txn, uint32_t table, struct holt_buf key, struct holt_buf *value);
int holt__book_decode(uint64_t arrival, struct holt_buf value, struct holt_book_entry *out);
struct holt_buf holt__book_run_key(uint8_t key[12], uint32_t chain, uint64_t number);
struct holt_buf holt__book_log_key(uint8_t key[8], uint64_t arrival);
/* The tables of the book of that name, made where they are missing. */
int holt__book_open_tables(struct holt_book *book, const char *name, struct holt_err *err);
/* The draft. */
int holt__book_put_state(struct holt_book *book);
int holt__book_put_run(struct holt_book *book, uint32_t chain, uint64_t number, uint64_t arrival);

/* The hash index (book_hash.c). */
uint64_t holt__book_prefix(const uint8_t hash[HOLT_BOOK_HASH]);
void holt__book_memory_put(struct holt_book_memory *memory, uint64_t prefix, uint64_t arrival);
void holt__book_memory_free(struct holt_book_memory *memory);
/* At the opening: the runs, then the newest hashes from the log. */
int holt__book_hash_open(struct holt_book *book, struct holt_kv_txn *txn);
/* In a writing transaction: flush, merge, delete a little. */
int holt__book_hash_work(struct holt_book *book);
void holt__book_hash_settle(struct holt_book *book);

#endif /* HOLT_JOURNAL_BOOK_IMPL_H */
