/* blocks.h - small blocks for one Lua state, kept for the next of their size: tables and strings come and go
 * by the thousand between two collections, and Lua tells the size of what it gives back.
 *
 * Bound: HOLT_BLOCKS_KEPT_MAX bytes of each of the 32 sizes; what is beyond goes back to malloc. In a build
 * with HOLT_PLAIN_BLOCKS (sanitizers, debugging) everything does. */
#ifndef HOLT_SCRIPT_BLOCKS_H
#define HOLT_SCRIPT_BLOCKS_H

#include <stddef.h>

#define HOLT_BLOCK_STEP      16 /* bytes between two sizes */
#define HOLT_BLOCK_SIZES     32 /* so blocks of at most 512 bytes are kept */
#define HOLT_BLOCKS_KEPT_MAX (256 * 1024)

struct holt_block {
  struct holt_block *next;
};

/* Zero-initialised is empty. */
struct holt_blocks {
  struct holt_block *kept[HOLT_BLOCK_SIZES];
  unsigned count[HOLT_BLOCK_SIZES];
};

/* At least one byte, not zeroed, aligned as by malloc; NULL when memory is out. */
void *holt_block_take(struct holt_blocks *blocks, size_t size_bytes);
/* `size_bytes` as it was asked for. */
void holt_block_give(struct holt_blocks *blocks, void *block, size_t size_bytes);
/* As realloc; cannot fail when the new size is no larger. */
void *holt_block_resize(struct holt_blocks *blocks, void *block, size_t old_bytes, size_t new_bytes);
/* Give back what is kept. */
void holt_blocks_free(struct holt_blocks *blocks);

#endif /* HOLT_SCRIPT_BLOCKS_H */
