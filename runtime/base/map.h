/* map.h - a hash map from 64-bit numbers to pointers: open addressing, linear probing.
 *
 * Iteration order depends on the keys and the history of the map only, so it is the same on every run of a
 * seed. For keys that are texts, use holt_hash_bytes and compare in the value. */
#ifndef HOLT_BASE_MAP_H
#define HOLT_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct holt_map_slot {
  uint64_t key;
  void *value; /* NULL: free */
};

/* Zero-initialised is an empty map. */
struct holt_map {
  struct holt_map_slot *slots;
  size_t cap; /* a power of two, or 0 */
  size_t count;
};

void holt_map_free(struct holt_map *map);
/* The value of `key`, or NULL. */
void *holt_map_get(const struct holt_map *map, uint64_t key);
/* Sets `key` to `value` (not NULL) and returns the value that was there, or NULL. */
void *holt_map_set(struct holt_map *map, uint64_t key, void *value);
/* Takes `key` out and returns its value, or NULL. */
void *holt_map_remove(struct holt_map *map, uint64_t key);
/* Walk: start with *cursor 0; false at the end. The map must not change meanwhile. */
bool holt_map_next(const struct holt_map *map, size_t *cursor, uint64_t *key, void **value);

#endif /* HOLT_BASE_MAP_H */
