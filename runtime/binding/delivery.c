/* delivery.c - what dispatch.c stands on: a ring of events for handlers, lanes of origins, references. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "binding/node_impl.h"

/* --- The ring ------------------------------------------------------------------------------------- */

void holt__queue_push(struct delivery_queue *queue, struct delivery delivery) {
  if (queue->count == queue->cap) {
    size_t cap = queue->cap == 0 ? 16 : queue->cap * 2;
    struct delivery *items = holt_alloc(cap * sizeof *items);
    for (size_t i = 0; i < queue->count; i++) items[i] = queue->items[(queue->first + i) & (queue->cap - 1)];
    free(queue->items);
    queue->items = items;
    queue->cap = cap;
    queue->first = 0;
  }
  queue->items[(queue->first + queue->count++) & (queue->cap - 1)] = delivery;
}

struct delivery holt__queue_shift(struct delivery_queue *queue) {
  HOLT_ASSERT(queue->count > 0);
  struct delivery delivery = queue->items[queue->first];
  queue->first = (queue->first + 1) & (queue->cap - 1);
  queue->count--;
  return delivery;
}

void holt__queue_free(struct delivery_queue *queue) {
  free(queue->items);
  *queue = (struct delivery_queue){0};
}

/* --- Subscriptions and lanes ---------------------------------------------------------------------- */

void holt__sub_release(struct lua_sub *sub) {
  if (--sub->refs > 0) return;
  holt__node_release(sub->node);
  free(sub);
}

void holt__lane_free(struct lane *lane) {
  holt_list_remove(&lane->of_sub);
  holt_list_remove(&lane->runnable);
  holt__queue_free(&lane->waiting);
  free(lane);
}

struct lane *holt__lane_find(struct lua_sub *sub, uint64_t boot) {
  HOLT_LIST_EACH(&sub->lanes, at, next) {
    struct lane *lane = HOLT_CONTAINER(at, struct lane, of_sub);
    if (lane->boot == boot) return lane;
  }
  return NULL;
}
