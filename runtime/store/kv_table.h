/* kv_table.h - an ordered table in memory: sorted pages of records, found by halving. Only for store/ itself.
 */
#ifndef HOLT_STORE_KV_TABLE_H
#define HOLT_STORE_KV_TABLE_H

#include <stdbool.h>

#include "base/buf.h"

/* One key and its value, in one piece of memory. */
struct holt_kv_record {
  uint32_t key_len, value_len;
  bool is_gone; /* in a table of changes: the key is to be deleted */
  uint8_t bytes[];
};

enum { HOLT_KV_PAGE_RECORDS = 64 };

struct holt_kv_page {
  uint32_t count;
  struct holt_kv_record *records[HOLT_KV_PAGE_RECORDS];
};

/* Zero-initialised is empty. No page is empty. */
struct holt_kv_table {
  struct holt_kv_page **pages;
  size_t page_count, page_cap;
  uint64_t count, bytes; /* records; of keys and values */
};

/* A place: between records when nothing is there. Valid until the table changes. */
struct holt_kv_place {
  size_t page;
  uint32_t at;
};

static inline struct holt_buf holt_kv_record_key(const struct holt_kv_record *record) {
  return holt_buf(record->bytes, record->key_len);
}
static inline struct holt_buf holt_kv_record_value(const struct holt_kv_record *record) {
  return holt_buf(record->bytes + record->key_len, record->value_len);
}

void holt__kv_table_free(struct holt_kv_table *table);
/* As memcmp, a shorter key before its continuations. */
int holt__kv_compare(struct holt_buf a, struct holt_buf b);
/* The first record whose key is not below `key` (above it, with `is_above`); NULL behind the last. */
struct holt_kv_record *holt__kv_table_seek(const struct holt_kv_table *table, struct holt_buf key,
                                           bool is_above, struct holt_kv_place *place);
/* The record after the one at `place`, and the one before `place`; NULL at the ends. */
struct holt_kv_record *holt__kv_table_next(const struct holt_kv_table *table, struct holt_kv_place *place);
struct holt_kv_record *holt__kv_table_prev(const struct holt_kv_table *table, struct holt_kv_place *place);
/* Both are copied; one of that key is replaced. */
void holt__kv_table_put(struct holt_kv_table *table, struct holt_buf key, struct holt_buf value,
                        bool is_gone);
/* Whether it was there. */
bool holt__kv_table_erase(struct holt_kv_table *table, struct holt_buf key);
/* Carry out what a table of changes says, and empty it. */
void holt__kv_table_merge(struct holt_kv_table *table, struct holt_kv_table *changes);

#endif /* HOLT_STORE_KV_TABLE_H */
