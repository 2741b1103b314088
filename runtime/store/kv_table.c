/* kv_table.c - sorted pages of records. A full page splits in two; at the end of the table it is left full
 * and a new one begun, as keys mostly come in order. */
#include "store/kv_table.h"

#include <stdlib.h>

#include "base/mem.h"

int holt__kv_compare(struct holt_buf a, struct holt_buf b) {
  size_t len = a.len < b.len ? a.len : b.len;
  int order = len == 0 ? 0 : memcmp(a.data, b.data, len);
  if (order != 0) return order;
  return a.len < b.len ? -1 : a.len > b.len;
}

void holt__kv_table_free(struct holt_kv_table *table) {
  for (size_t i = 0; i < table->page_count; i++) {
    for (uint32_t k = 0; k < table->pages[i]->count; k++) free(table->pages[i]->records[k]);
    free(table->pages[i]);
  }
  free(table->pages);
  *table = (struct holt_kv_table){0};
}

/* --- Finding -------------------------------------------------------------------------------------- */

static bool is_before(const struct holt_kv_record *record, struct holt_buf key, bool is_above) {
  int order = holt__kv_compare(holt_kv_record_key(record), key);
  return order < 0 || (order == 0 && is_above);
}

static struct holt_kv_record *at(const struct holt_kv_table *table, const struct holt_kv_place *place) {
  if (place->page == table->page_count) return NULL;
  return table->pages[place->page]->records[place->at];
}

struct holt_kv_record *holt__kv_table_seek(const struct holt_kv_table *table, struct holt_buf key,
                                           bool is_above, struct holt_kv_place *place) {
  size_t low = 0, high = table->page_count; /* the first page whose last record is not before the key */
  while (low < high) {
    size_t middle = (low + high) / 2;
    const struct holt_kv_page *page = table->pages[middle];
    if (is_before(page->records[page->count - 1], key, is_above))
      low = middle + 1;
    else
      high = middle;
  }
  *place = (struct holt_kv_place){.page = low};
  if (low == table->page_count) return NULL;
  const struct holt_kv_page *page = table->pages[low];
  uint32_t first = 0, last = page->count - 1;
  while (first < last) {
    uint32_t middle = (first + last) / 2;
    if (is_before(page->records[middle], key, is_above))
      first = middle + 1;
    else
      last = middle;
  }
  place->at = first;
  return at(table, place);
}

struct holt_kv_record *holt__kv_table_next(const struct holt_kv_table *table, struct holt_kv_place *place) {
  if (place->page == table->page_count) return NULL;
  if (++place->at == table->pages[place->page]->count) {
    place->page++;
    place->at = 0;
  }
  return at(table, place);
}

struct holt_kv_record *holt__kv_table_prev(const struct holt_kv_table *table, struct holt_kv_place *place) {
  if (place->at > 0) {
    place->at--;
    return at(table, place);
  }
  if (place->page == 0) return NULL;
  place->page--;
  place->at = table->pages[place->page]->count - 1;
  return at(table, place);
}

/* --- Changing ------------------------------------------------------------------------------------- */

static struct holt_kv_page *insert_page(struct holt_kv_table *table, size_t where) {
  if (table->page_count == table->page_cap) {
    table->page_cap = table->page_cap == 0 ? 4 : table->page_cap * 2;
    table->pages = holt_realloc(table->pages, table->page_cap * sizeof *table->pages);
  }
  memmove(table->pages + where + 1, table->pages + where, (table->page_count - where) * sizeof *table->pages);
  table->page_count++;
  return table->pages[where] = holt_alloc(sizeof **table->pages);
}

static void split(struct holt_kv_table *table, struct holt_kv_place *place) {
  struct holt_kv_page *right = insert_page(table, place->page + 1);
  struct holt_kv_page *left = table->pages[place->page];
  uint32_t kept = HOLT_KV_PAGE_RECORDS / 2;
  right->count = left->count - kept;
  memcpy(right->records, left->records + kept, right->count * sizeof *right->records);
  left->count = kept;
  if (place->at <= kept) return;
  place->page++;
  place->at -= kept;
}

/* A page with room at `place`, which lies between records. */
static struct holt_kv_page *make_room(struct holt_kv_table *table, struct holt_kv_place *place) {
  if (place->page == table->page_count) { /* behind the last record */
    if (place->page == 0 || table->pages[place->page - 1]->count == HOLT_KV_PAGE_RECORDS)
      return insert_page(table, place->page);
    place->page--;
    place->at = table->pages[place->page]->count;
  } else if (table->pages[place->page]->count == HOLT_KV_PAGE_RECORDS) {
    split(table, place);
  }
  return table->pages[place->page];
}

static void put_record(struct holt_kv_table *table, struct holt_kv_record *record) {
  struct holt_kv_place place;
  struct holt_buf key = holt_kv_record_key(record);
  struct holt_kv_record *found = holt__kv_table_seek(table, key, false, &place);
  table->bytes += record->key_len + record->value_len;
  if (found != NULL && holt__kv_compare(holt_kv_record_key(found), key) == 0) {
    table->bytes -= found->key_len + found->value_len;
    table->pages[place.page]->records[place.at] = record;
    free(found);
    return;
  }
  struct holt_kv_page *page = make_room(table, &place);
  memmove(page->records + place.at + 1, page->records + place.at,
          (page->count - place.at) * sizeof *page->records);
  page->records[place.at] = record;
  page->count++;
  table->count++;
}

void holt__kv_table_put(struct holt_kv_table *table, struct holt_buf key, struct holt_buf value,
                        bool is_gone) {
  struct holt_kv_record *record = holt_realloc(NULL, sizeof *record + key.len + value.len);
  record->key_len = (uint32_t)key.len;
  record->value_len = (uint32_t)value.len;
  record->is_gone = is_gone;
  memcpy(record->bytes, key.data, key.len);
  if (value.len > 0) memcpy(record->bytes + key.len, value.data, value.len);
  put_record(table, record);
}

bool holt__kv_table_erase(struct holt_kv_table *table, struct holt_buf key) {
  struct holt_kv_place place;
  struct holt_kv_record *found = holt__kv_table_seek(table, key, false, &place);
  if (found == NULL || holt__kv_compare(holt_kv_record_key(found), key) != 0) return false;
  struct holt_kv_page *page = table->pages[place.page];
  table->bytes -= found->key_len + found->value_len;
  table->count--;
  free(found);
  page->count--;
  memmove(page->records + place.at, page->records + place.at + 1,
          (page->count - place.at) * sizeof *page->records);
  if (page->count > 0) return true;
  free(page);
  table->page_count--;
  memmove(table->pages + place.page, table->pages + place.page + 1,
          (table->page_count - place.page) * sizeof *table->pages);
  return true;
}

void holt__kv_table_merge(struct holt_kv_table *table, struct holt_kv_table *changes) {
  for (size_t i = 0; i < changes->page_count; i++) {
    struct holt_kv_page *page = changes->pages[i];
    for (uint32_t k = 0; k < page->count; k++) {
      struct holt_kv_record *record = page->records[k];
      if (!record->is_gone) {
        put_record(table, record);
        continue;
      }
      holt__kv_table_erase(table, holt_kv_record_key(record));
      free(record);
    }
    page->count = 0;
  }
  holt__kv_table_free(changes);
}
