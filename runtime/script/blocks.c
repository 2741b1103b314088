#include "script/blocks.h"

#include <stdlib.h>
#include <string.h>

/* Which list a size belongs to; HOLT_BLOCK_SIZES and more: none. */
static inline size_t list_of(size_t size_bytes) {
#ifdef HOLT_PLAIN_BLOCKS
  (void)size_bytes;
  return HOLT_BLOCK_SIZES;
#else
  return (size_bytes - 1) / HOLT_BLOCK_STEP;
#endif
}

static inline size_t list_bytes(size_t list) {
  return (list + 1) * HOLT_BLOCK_STEP;
}

void *holt_block_take(struct holt_blocks *blocks, size_t size_bytes) {
  size_t list = list_of(size_bytes);
  if (list >= HOLT_BLOCK_SIZES) return malloc(size_bytes);
  struct holt_block *block = blocks->kept[list];
  if (block == NULL) return malloc(list_bytes(list));
  blocks->kept[list] = block->next;
  blocks->count[list]--;
  return block;
}

void holt_block_give(struct holt_blocks *blocks, void *block, size_t size_bytes) {
  size_t list = list_of(size_bytes);
  if (list >= HOLT_BLOCK_SIZES || blocks->count[list] >= HOLT_BLOCKS_KEPT_MAX / list_bytes(list)) {
    free(block);
    return;
  }
  struct holt_block *kept = block;
  kept->next = blocks->kept[list];
  blocks->kept[list] = kept;
  blocks->count[list]++;
}

void *holt_block_resize(struct holt_blocks *blocks, void *block, size_t old_bytes, size_t new_bytes) {
  size_t before = list_of(old_bytes), after = list_of(new_bytes);
  if (before >= HOLT_BLOCK_SIZES && after >= HOLT_BLOCK_SIZES) {
    void *moved = realloc(block, new_bytes);
    return moved == NULL && new_bytes <= old_bytes ? block : moved;
  }
  if (before == after) return block;
  void *moved = holt_block_take(blocks, new_bytes);
  if (moved == NULL) return new_bytes <= old_bytes ? block : NULL; /* too large a block does no harm */
  memcpy(moved, block, old_bytes < new_bytes ? old_bytes : new_bytes);
  holt_block_give(blocks, block, old_bytes);
  return moved;
}

void holt_blocks_free(struct holt_blocks *blocks) {
  for (size_t i = 0; i < HOLT_BLOCK_SIZES; i++) {
    for (struct holt_block *block = blocks->kept[i], *next; block != NULL; block = next) {
      next = block->next;
      free(block);
    }
  }
  *blocks = (struct holt_blocks){0};
}
