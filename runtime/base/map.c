#include "base/map.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"

void holt_map_free(struct holt_map *map) {
  free(map->slots);
  *map = (struct holt_map){0};
}

/* The slot that holds `key`, or the free one where it would go. */
static size_t find(const struct holt_map *map, uint64_t key) {
  size_t at = (size_t)holt_hash_u64(key) & (map->cap - 1);
  while (map->slots[at].value != NULL && map->slots[at].key != key) at = (at + 1) & (map->cap - 1);
  return at;
}

static void rehash(struct holt_map *map, size_t cap) {
  struct holt_map old = *map;
  map->slots = holt_alloc(cap * sizeof *map->slots);
  map->cap = cap;
  for (size_t i = 0; i < old.cap; i++)
    if (old.slots[i].value != NULL) map->slots[find(map, old.slots[i].key)] = old.slots[i];
  free(old.slots);
}

void *holt_map_get(const struct holt_map *map, uint64_t key) {
  return map->count == 0 ? NULL : map->slots[find(map, key)].value;
}

void *holt_map_set(struct holt_map *map, uint64_t key, void *value) {
  HOLT_ASSERT(value != NULL);
  if ((map->count + 1) * 4 > map->cap * 3) rehash(map, map->cap == 0 ? 8 : map->cap * 2);
  struct holt_map_slot *slot = &map->slots[find(map, key)];
  void *old = slot->value;
  if (old == NULL) map->count++;
  *slot = (struct holt_map_slot){.key = key, .value = value};
  return old;
}

void *holt_map_remove(struct holt_map *map, uint64_t key) {
  if (map->count == 0) return NULL;
  size_t mask = map->cap - 1;
  size_t hole = find(map, key);
  void *old = map->slots[hole].value;
  if (old == NULL) return NULL;
  /* Close the gap: pull back each later key of this run that may stand in the hole. */
  for (size_t at = (hole + 1) & mask; map->slots[at].value != NULL; at = (at + 1) & mask) {
    size_t home = (size_t)holt_hash_u64(map->slots[at].key) & mask;
    if (((at - home) & mask) >= ((at - hole) & mask)) {
      map->slots[hole] = map->slots[at];
      hole = at;
    }
  }
  map->slots[hole] = (struct holt_map_slot){0};
  map->count--;
  return old;
}

bool holt_map_next(const struct holt_map *map, size_t *cursor, uint64_t *key, void **value) {
  while (*cursor < map->cap) {
    const struct holt_map_slot *slot = &map->slots[(*cursor)++];
    if (slot->value == NULL) continue;
    *key = slot->key;
    *value = slot->value;
    return true;
  }
  return false;
}
