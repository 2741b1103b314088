#include "script/shapes.h"

#define SLOTS 16 /* power of two */

static struct holt_shape shapes[SLOTS];

struct holt_shape *holt_shape_of(const char *first_key, size_t len) {
  unsigned hash = (unsigned)len;
  if (len > 0) hash += (unsigned char)first_key[0] + 7u * (unsigned char)first_key[len - 1];
  return &shapes[hash & (SLOTS - 1)];
}

static bool fits(const struct holt_buf *keys, size_t count) {
  size_t total = 0;
  if (count == 0 || count > HOLT_SHAPE_KEYS_MAX) return false;
  for (size_t i = 0; i < count; i++) {
    if ((*keys[i].data & 0xe0) != 0xa0) return false;
    total += keys[i].len;
  }
  return total <= HOLT_SHAPE_BYTES_MAX;
}

/* The first byte tells the length, so that of two different keys neither begins with the other. */
static bool is_before(struct holt_buf a, struct holt_buf b) {
  return memcmp(a.data, b.data, a.len < b.len ? a.len : b.len) < 0;
}

void holt_shape_set(struct holt_shape *shape, const struct holt_buf *keys, size_t count) {
  if (!fits(keys, count)) return;
  shape->version++;
  shape->count = (uint8_t)count;
  shape->is_sorted = true;
  size_t used = 0;
  for (size_t i = 0; i < count; i++) {
    memcpy(shape->bytes + used, keys[i].data, keys[i].len);
    shape->starts[i] = (uint8_t)used;
    used += keys[i].len;
    size_t at = i;
    for (; at > 0 && is_before(keys[i], keys[shape->order[at - 1]]); at--)
      shape->order[at] = shape->order[at - 1];
    shape->order[at] = (uint8_t)i;
    if (at < i) shape->is_sorted = false;
  }
}
