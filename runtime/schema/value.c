#include "schema/value.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)8192)
#define ALIGNMENT   ((size_t)16)

struct block {
  struct block *older;
  size_t reserved; /* keeps what follows aligned */
};

void *holt_arena_alloc(struct holt_arena *arena, size_t size_bytes) {
  if (size_bytes == 0) size_bytes = 1; /* NULL means failure only */
  if (size_bytes > SIZE_MAX / 2) {
    arena->is_full = true;
    return NULL;
  }
  size_bytes = (size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (arena->limit_bytes > 0 && size_bytes > arena->limit_bytes - arena->used_bytes) {
    arena->is_full = true;
    return NULL;
  }
  if (size_bytes > (size_t)(arena->end - arena->at)) {
    size_t room = size_bytes > BLOCK_BYTES ? size_bytes : BLOCK_BYTES;
    struct block *block = malloc(sizeof *block + room);
    if (block == NULL) {
      arena->is_full = true;
      return NULL;
    }
    block->older = arena->blocks;
    arena->blocks = block;
    arena->at = (char *)(block + 1);
    arena->end = arena->at + room;
  }
  void *result = arena->at;
  arena->at += size_bytes;
  arena->used_bytes += size_bytes;
  return result;
}

char *holt_arena_text(struct holt_arena *arena, const char *text, size_t len) {
  char *copy = holt_arena_alloc(arena, len + 1);
  if (copy == NULL) return NULL;
  if (len > 0) memcpy(copy, text, len);
  copy[len] = '\0';
  return copy;
}

void holt_arena_free(struct holt_arena *arena) {
  struct block *block = arena->blocks;
  while (block != NULL) {
    struct block *older = block->older;
    free(block);
    block = older;
  }
  *arena = (struct holt_arena){.limit_bytes = arena->limit_bytes};
}
