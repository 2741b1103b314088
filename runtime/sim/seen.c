/* The configurations that a search has visited: open addressing over words in one growing block. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/history_impl.h"

struct holt__seen_slot {
  uint64_t hash;
  size_t at; /* behind the first word of the entry in `words`; 0: free */
};

/* An entry in `words`: how many must be equal and how many are the set, these, those. */
static uint64_t head_of(size_t equal_count, size_t set_count) {
  return (uint64_t)equal_count << 32 | set_count;
}

enum { KEPT_SLOTS = 4096 };

/* Is every member of the set `left` in `right`? */
static bool is_subset(const uint64_t *left, size_t left_count, const uint64_t *right, size_t right_count) {
  for (size_t i = 0; i < left_count; i++)
    if ((left[i] & ~(i < right_count ? right[i] : 0)) != 0) return false;
  return true;
}

static bool covers(const struct holt__seen *seen, const struct holt__seen_slot *slot, const uint64_t *words,
                   size_t equal_count, size_t set_count) {
  const uint64_t *old = seen->words + slot->at;
  size_t old_set_count = (size_t)(old[-1] & UINT32_MAX);
  return old[-1] >> 32 == equal_count && memcmp(old, words, equal_count * sizeof *words) == 0 &&
         is_subset(old + equal_count, old_set_count, words + equal_count, set_count);
}

static void grow(struct holt__seen *seen) {
  struct holt__seen_slot *old = seen->slots;
  size_t old_cap = seen->cap;
  seen->cap = old_cap == 0 ? 256 : old_cap * 2;
  seen->slots = holt_alloc(seen->cap * sizeof *seen->slots);
  for (size_t i = 0; i < old_cap; i++) {
    if (old[i].at == 0) continue;
    size_t to = (size_t)old[i].hash & (seen->cap - 1);
    while (seen->slots[to].at != 0) to = (to + 1) & (seen->cap - 1);
    seen->slots[to] = old[i];
  }
  free(old);
}

bool holt__seen_add(struct holt__seen *seen, uint64_t hash, const uint64_t *words, size_t equal_count,
                    size_t set_count) {
  if ((seen->count + 1) * 2 > seen->cap) grow(seen);
  size_t i = (size_t)hash & (seen->cap - 1), count = equal_count + set_count;
  for (; seen->slots[i].at != 0; i = (i + 1) & (seen->cap - 1))
    if (seen->slots[i].hash == hash && covers(seen, &seen->slots[i], words, equal_count, set_count))
      return false;
  while (seen->word_cap - seen->word_count < count + 1) {
    seen->word_cap = seen->word_cap == 0 ? 512 : seen->word_cap * 2;
    seen->words = holt_realloc(seen->words, seen->word_cap * sizeof *words);
  }
  seen->words[seen->word_count++] = head_of(equal_count, set_count);
  memcpy(seen->words + seen->word_count, words, count * sizeof *words);
  seen->slots[i] = (struct holt__seen_slot){.hash = hash, .at = seen->word_count};
  seen->word_count += count;
  seen->count++;
  return true;
}

void holt__seen_clear(struct holt__seen *seen) {
  if (seen->cap > KEPT_SLOTS) {
    holt__seen_free(seen);
    return;
  }
  if (seen->cap > 0) memset(seen->slots, 0, seen->cap * sizeof *seen->slots);
  seen->count = 0;
  seen->word_count = 0;
}

void holt__seen_free(struct holt__seen *seen) {
  free(seen->slots);
  free(seen->words);
  *seen = (struct holt__seen){0};
}
