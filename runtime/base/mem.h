/* mem.h - allocation that ends the process when memory is gone.
 *
 * For small bookkeeping whose size no peer chooses. What a peer chooses the size of
 * (frames, payloads) is bounded first and uses plain malloc with an error path. */
#ifndef HOLT_BASE_MEM_H
#define HOLT_BASE_MEM_H

#include <stddef.h>

void *holt_alloc(size_t size_bytes);              /* zeroed */
void *holt_realloc(void *old, size_t size_bytes); /* not zeroed */
char *holt_strdup(const char *text);              /* NULL stays NULL */
char *holt_strndup(const char *text, size_t length);

#endif /* HOLT_BASE_MEM_H */
