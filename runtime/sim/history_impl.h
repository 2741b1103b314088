/* history_impl.h - shared by the recorder and the two checks. */
#ifndef HOLT_SIM_HISTORY_IMPL_H
#define HOLT_SIM_HISTORY_IMPL_H

#include <stdbool.h>

#include "base/map.h"
#include "sim/history.h"

/* The operations of one key in the order of their calls; borrowed. */
struct holt__group {
  const struct holt_history_op **ops;
  size_t count;
  uint64_t key;
};

/* Looks at one group; false ends the check, with the verdict filled. */
typedef bool (*holt__group_cb)(void *arg, const struct holt__group *group, struct holt_verdict *verdict);

/* Empty the verdict, refuse what is malformed, and call `each` for every key of the operations whose kind is
 * in [first, last], in the order of the keys. What failed for certain is left out. */
void holt__history_each(const struct holt_history *history, enum holt_history_kind first,
                        enum holt_history_kind last, struct holt_verdict *verdict, holt__group_cb each,
                        void *arg);

/* Add to verdict->why; what does not fit is cut. */
void holt__say(struct holt_verdict *verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Add a line about `op`: "\n  client 1: set 3, found 2, from 10 to 20". */
void holt__say_op(struct holt_verdict *verdict, const struct holt_history_op *op);

/* How a value is written: "nothing" or its number. */
struct holt__value_text {
  char text[24];
};
struct holt__value_text holt__value_text(uint64_t value);

/* --- One key of a map, in register.c --- */

/* The state that `op` needs in order to write, or HOLT_HISTORY_ANY. */
uint64_t holt__op_needs(const struct holt_history_op *op);
/* What it writes; nothing asks this of GET. */
uint64_t holt__op_writes(const struct holt_history_op *op);
/* Do two, neither a GET, do the same to every state? */
bool holt__op_is_twin(const struct holt_history_op *left, const struct holt_history_op *right);
uint64_t holt__op_state_after(const struct holt_history_op *op, uint64_t state);
/* Could `op` have answered as it did in this state? */
bool holt__op_fits(const struct holt_history_op *op, uint64_t state);
/* Could this answered operation have answered so in this state, and does it change nothing in any state in
 * which it could? */
bool holt__op_is_free(const struct holt_history_op *op, uint64_t state);
/* Does an unknown operation need this state in order to write? */
bool holt__group_needs(const struct holt__group *group, uint64_t value);
/* Collect what the operations found and needed, as keys of `observed`. False when more may have been found: a
 * result tells only what was not there. */
bool holt__group_observed(const struct holt__group *group, struct holt_map *observed);
/* May this unknown operation be left out? Nothing found or needed its value, so whatever came between it and
 * the next write without a condition accepts any state, or there is nothing: without it all answers are the
 * same. */
bool holt__op_is_idle(const struct holt_history_op *op, const struct holt_map *observed,
                      bool is_all_observed);

/* --- The memory of a search, in seen.c --- */

/* Configurations of a search that were seen: some words that tell it, and a set, as bits, of what it has used
 * up. Zero-initialised is empty. */
struct holt__seen {
  struct holt__seen_slot *slots;
  size_t cap; /* a power of two, or 0 */
  size_t count;
  uint64_t *words;
  size_t word_count;
  size_t word_cap;
};

/* Add the configuration of `equal_count` words and the set in the `set_count` words behind them (copied);
 * false when one of the same words was seen that had used up no more. `hash` is one of the words without the
 * set. */
bool holt__seen_add(struct holt__seen *seen, uint64_t hash, const uint64_t *words, size_t equal_count,
                    size_t set_count);
/* Empty it, keeping memory of moderate size. */
void holt__seen_clear(struct holt__seen *seen);
void holt__seen_free(struct holt__seen *seen);

#endif /* HOLT_SIM_HISTORY_IMPL_H */
