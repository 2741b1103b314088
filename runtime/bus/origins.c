/* origins.c - what has been seen of each origin: the highest number, and the holes below it.
 *
 * An event is a duplicate when its number is neither above the highest nor in a hole. A hole can be filled
 * for five seconds, or until it is known that its events were dropped; then it closes and is told as a gap,
 * except for the numbers before the first one seen. Too many holes: the oldest closes early. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bus/bus_impl.h"

void holt__origins_init(struct holt_origins *origins, uint64_t forget_ms,
                        void (*on_gap)(void *, const struct holt_origin *, uint64_t), void *arg) {
  *origins = (struct holt_origins){.forget_ms = forget_ms, .on_gap = on_gap, .arg = arg};
  holt_list_init(&origins->used);
  holt_list_init(&origins->changed);
  holt_list_init(&origins->holed);
}

static void free_origin(struct holt_origins *origins, struct holt_origin *origin) {
  if (origins->latest == origin) origins->latest = NULL;
  origins->hole_count -= origin->hole_count;
  holt_map_remove(&origins->by_boot, origin->boot);
  holt_list_remove(&origin->node);
  holt_list_remove(&origin->changed);
  holt_list_remove(&origin->holed);
  free(origin->holes);
  free(origin);
}

void holt__origins_free(struct holt_origins *origins) {
  HOLT_LIST_EACH(&origins->used, node, next)
  free_origin(origins, HOLT_CONTAINER(node, struct holt_origin, node));
  holt_map_free(&origins->by_boot);
}

static void forget_old(struct holt_origins *origins, uint64_t now_ms) {
  HOLT_LIST_EACH(&origins->used, node, next) {
    struct holt_origin *origin = HOLT_CONTAINER(node, struct holt_origin, node);
    if (origins->by_boot.count < HOLT_ORIGINS_MAX && now_ms - origin->last_ms < origins->forget_ms) return;
    free_origin(origins, origin);
  }
}

struct holt_origin *holt__origins_get(struct holt_origins *origins, uint64_t boot, struct holt_buf name,
                                      uint64_t now_ms) {
  struct holt_origin *origin = origins->latest;
  if (origin == NULL || origin->boot != boot) origin = holt_map_get(&origins->by_boot, boot);
  if (origin == NULL) {
    forget_old(origins, now_ms);
    origin = holt_alloc(sizeof *origin);
    origin->boot = boot;
    snprintf(origin->name, sizeof origin->name, "%.*s", (int)name.len, (const char *)name.data);
    holt_list_init(&origin->node);
    holt_list_init(&origin->changed);
    holt_list_init(&origin->holed);
    holt_map_set(&origins->by_boot, boot, origin);
  }
  if (origins->latest != origin) {
    holt_list_remove(&origin->node);
    holt_list_push(&origins->used, &origin->node);
    origins->latest = origin;
  }
  origin->last_ms = now_ms;
  return origin;
}

/* --- Holes ---------------------------------------------------------------------------------------- */

static void remove_hole(struct holt_origins *origins, struct holt_origin *origin, size_t at) {
  if (--origin->hole_count == 0) holt_list_remove(&origin->holed);
  origins->hole_count--;
  memmove(origin->holes + at, origin->holes + at + 1, (origin->hole_count - at) * sizeof *origin->holes);
}

/* The hole will not be filled any more. */
static void close_hole(struct holt_origins *origins, struct holt_origin *origin, size_t at) {
  struct holt_hole hole = origin->holes[at];
  remove_hole(origins, origin, at);
  if (!hole.is_silent) origins->on_gap(origins->arg, origin, hole.to - hole.from + 1);
}

static size_t oldest_hole(const struct holt_origin *origin) {
  size_t oldest = 0;
  for (size_t i = 1; i < origin->hole_count; i++)
    if (origin->holes[i].since_ms < origin->holes[oldest].since_ms) oldest = i;
  return oldest;
}

static void insert_hole(struct holt_origins *origins, struct holt_origin *origin, size_t at,
                        struct holt_hole hole) {
  if (origin->hole_count == origin->hole_cap) {
    origin->hole_cap = origin->hole_cap == 0 ? 4 : origin->hole_cap * 2;
    origin->holes = holt_realloc(origin->holes, origin->hole_cap * sizeof *origin->holes);
  }
  memmove(origin->holes + at + 1, origin->holes + at, (origin->hole_count - at) * sizeof *origin->holes);
  origin->holes[at] = hole;
  if (origin->hole_count++ == 0) holt_list_push(&origins->holed, &origin->holed);
  origins->hole_count++;
}

static void bound_holes(struct holt_origins *origins, struct holt_origin *origin) {
  while (origin->hole_count > HOLT_HOLES_MAX) close_hole(origins, origin, oldest_hole(origin));
}

/* Index of the first hole that ends at `number` or later. */
static size_t hole_at(const struct holt_origin *origin, uint64_t number) {
  size_t low = 0, high = origin->hole_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (origin->holes[middle].to < number)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static void raise_highest(struct holt_origins *origins, struct holt_origin *origin, uint64_t number) {
  origin->highest = number;
  origin->change = ++origins->changes;
  holt_list_remove(&origin->changed);
  holt_list_push(&origins->changed, &origin->changed);
}

/* Numbers above the highest and below `number` are missing. */
static void miss_below(struct holt_origins *origins, struct holt_origin *origin, uint64_t number,
                       uint64_t now_ms) {
  if (number <= origin->highest + 1) return;
  insert_hole(origins, origin, origin->hole_count,
              (struct holt_hole){.from = origin->highest + 1,
                                 .to = number - 1,
                                 .since_ms = now_ms,
                                 .is_silent = origin->highest == 0});
}

enum holt_seen holt__origin_see(struct holt_origins *origins, struct holt_origin *origin, uint64_t number,
                                uint64_t now_ms) {
  if (number > origin->highest) {
    miss_below(origins, origin, number, now_ms);
    raise_highest(origins, origin, number);
    bound_holes(origins, origin);
    return HOLT_SEEN_NEW;
  }
  size_t at = hole_at(origin, number);
  if (at == origin->hole_count || origin->holes[at].from > number) return HOLT_SEEN_DUPLICATE;
  struct holt_hole *hole = &origin->holes[at];
  if (hole->from == hole->to) {
    remove_hole(origins, origin, at);
  } else if (hole->from == number) {
    hole->from++;
  } else if (hole->to == number) {
    hole->to--;
  } else {
    struct holt_hole upper = *hole;
    upper.from = number + 1;
    hole->to = number - 1;
    insert_hole(origins, origin, at + 1, upper);
    bound_holes(origins, origin);
  }
  return HOLT_SEEN_LATE;
}

/* Cut the hole at `at` so that a hole begins at `number`, and return the index of that one. */
static size_t split_hole(struct holt_origins *origins, struct holt_origin *origin, size_t at,
                         uint64_t number) {
  if (origin->holes[at].from >= number) return at;
  struct holt_hole upper = origin->holes[at];
  upper.from = number;
  origin->holes[at].to = number - 1;
  insert_hole(origins, origin, at + 1, upper);
  return at + 1;
}

void holt__origin_report(struct holt_origins *origins, struct holt_origin *origin, uint64_t from, uint64_t to,
                         uint64_t now_ms, uint64_t slot, void (*each)(void *arg, uint64_t from, uint64_t to),
                         void *arg) {
  if (to > origin->highest) {
    uint64_t begin = from > origin->highest ? from : origin->highest + 1;
    miss_below(origins, origin, begin, now_ms);
    insert_hole(origins, origin, origin->hole_count,
                (struct holt_hole){.from = begin, .to = to, .since_ms = now_ms});
    raise_highest(origins, origin, to);
  }
  for (size_t at = hole_at(origin, from); at < origin->hole_count && origin->holes[at].from <= to;) {
    at = split_hole(origins, origin, at, from);
    if (origin->holes[at].to > to) split_hole(origins, origin, at, to + 1);
    struct holt_hole *hole = &origin->holes[at];
    if (!hole->is_told) each(arg, hole->from, hole->to);
    hole->is_told = true;
    hole->reporters |= slot & ~HOLT_SLOT_SHARED;
    hole->is_silent = false;
    if ((origin->carriers & ~hole->reporters) == 0)
      close_hole(origins, origin, at);
    else
      at++;
  }
  bound_holes(origins, origin);
}

void holt__origin_last(struct holt_origins *origins, struct holt_origin *origin, uint64_t number,
                       uint64_t now_ms) {
  if (number <= origin->highest) return;
  miss_below(origins, origin, number + 1, now_ms);
  raise_highest(origins, origin, number);
  bound_holes(origins, origin);
}

void holt__origins_forget_slot(struct holt_origins *origins, uint64_t slot) {
  if (slot == HOLT_SLOT_SHARED) return;
  HOLT_LIST_EACH(&origins->used, node, next) {
    struct holt_origin *origin = HOLT_CONTAINER(node, struct holt_origin, node);
    origin->carriers &= ~slot;
    for (size_t i = 0; i < origin->hole_count; i++) origin->holes[i].reporters &= ~slot;
  }
}

void holt__origins_close_holes(struct holt_origins *origins, uint64_t now_ms) {
  if (origins->hole_count == 0) return;
  HOLT_LIST_EACH(&origins->holed, node, next) {
    struct holt_origin *origin = HOLT_CONTAINER(node, struct holt_origin, holed);
    for (size_t at = origin->hole_count; at-- > 0;)
      if (now_ms - origin->holes[at].since_ms >= HOLT_HOLE_MS) close_hole(origins, origin, at);
  }
}
