#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

_Noreturn void holt_assert_failed(const char *condition, const char *file, int line) {
  fprintf(stderr, "holt: %s:%d: this must hold and does not: %s (a defect in holt; please report it)\n", file,
          line, condition);
  abort();
}

static void *checked(void *memory, size_t size_bytes) {
  if (memory == NULL && size_bytes > 0) {
    fprintf(stderr, "holt: out of memory (%zu bytes wanted)\n", size_bytes);
    abort();
  }
  return memory;
}

void *holt_alloc(size_t size_bytes) {
  return checked(calloc(1, size_bytes), size_bytes);
}

void *holt_realloc(void *old, size_t size_bytes) {
  return checked(realloc(old, size_bytes), size_bytes);
}

char *holt_strdup(const char *text) {
  return text == NULL ? NULL : holt_strndup(text, strlen(text));
}

char *holt_strndup(const char *text, size_t length) {
  char *copy = checked(malloc(length + 1), length + 1);
  memcpy(copy, text, length);
  copy[length] = '\0';
  return copy;
}
