#include "base/heap.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

void holt_heap_free(struct holt_heap *heap) {
  for (size_t i = 0; i < heap->count; i++) heap->slots[i].node->place = 0;
  free(heap->slots);
  *heap = (struct holt_heap){0};
}

static bool is_before(const struct holt_heap_slot *a, const struct holt_heap_slot *b) {
  return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static void put(struct holt_heap *heap, size_t at, struct holt_heap_slot slot) {
  heap->slots[at] = slot;
  slot.node->place = at + 1;
}

static void sift_up(struct holt_heap *heap, size_t at, struct holt_heap_slot slot) {
  while (at > 0 && is_before(&slot, &heap->slots[(at - 1) / 2])) {
    put(heap, at, heap->slots[(at - 1) / 2]);
    at = (at - 1) / 2;
  }
  put(heap, at, slot);
}

static void sift_down(struct holt_heap *heap, size_t at, struct holt_heap_slot slot) {
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= heap->count) break;
    if (child + 1 < heap->count && is_before(&heap->slots[child + 1], &heap->slots[child])) child++;
    if (!is_before(&heap->slots[child], &slot)) break;
    put(heap, at, heap->slots[child]);
    at = child;
  }
  put(heap, at, slot);
}

void holt_heap_push(struct holt_heap *heap, struct holt_heap_node *node, uint64_t key) {
  HOLT_ASSERT(!holt_heap_holds(node));
  if (heap->count == heap->cap) {
    heap->cap = heap->cap == 0 ? 16 : heap->cap * 2;
    heap->slots = holt_realloc(heap->slots, heap->cap * sizeof *heap->slots);
  }
  node->key = key;
  node->order = heap->next_order++;
  sift_up(heap, heap->count++, (struct holt_heap_slot){.key = key, .order = node->order, .node = node});
}

void holt_heap_remove(struct holt_heap *heap, struct holt_heap_node *node) {
  if (!holt_heap_holds(node)) return;
  size_t at = node->place - 1;
  HOLT_ASSERT(at < heap->count && heap->slots[at].node == node);
  node->place = 0;
  struct holt_heap_slot last = heap->slots[--heap->count];
  if (last.node == node) return;
  if (at > 0 && is_before(&last, &heap->slots[(at - 1) / 2]))
    sift_up(heap, at, last);
  else
    sift_down(heap, at, last);
}

struct holt_heap_node *holt_heap_first(const struct holt_heap *heap) {
  return heap->count == 0 ? NULL : heap->slots[0].node;
}
