/* heap.h - an intrusive binary min-heap ordered by (key, order); ties leave in the order they came. */
#ifndef HOLT_BASE_HEAP_H
#define HOLT_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialised is in no heap. */
struct holt_heap_node {
  uint64_t key;
  uint64_t order;
  size_t place; /* index + 1 in the heap, 0: in none */
};

/* Keys lie beside each other, so that comparing them touches no node. */
struct holt_heap_slot {
  uint64_t key, order;
  struct holt_heap_node *node;
};

/* Zero-initialised is empty. */
struct holt_heap {
  struct holt_heap_slot *slots;
  size_t count;
  size_t cap;
  uint64_t next_order;
};

void holt_heap_free(struct holt_heap *heap);
/* Adds `node`, which must be in no heap. */
void holt_heap_push(struct holt_heap *heap, struct holt_heap_node *node, uint64_t key);
/* Takes `node` out; nothing happens when it is in no heap. */
void holt_heap_remove(struct holt_heap *heap, struct holt_heap_node *node);
/* The first node, left in place, or NULL. */
struct holt_heap_node *holt_heap_first(const struct holt_heap *heap);

static inline bool holt_heap_holds(const struct holt_heap_node *node) {
  return node->place != 0;
}

#endif /* HOLT_BASE_HEAP_H */
