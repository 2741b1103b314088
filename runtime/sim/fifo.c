/* Is what a queue answered linearizable, when no value is pushed twice?
 *
 * No search is needed: such a history is linearizable if and only if it shows none of four patterns
 * (Henzinger, Sezgin and Vafeiadis, "Aspect-oriented linearizability proofs", CONCUR 2013; put as here by
 * Bouajjani, Emmi, Enea and Hamza, "On reducing linearizability to state reachability", ICALP 2015):
 *
 *   from nowhere    a value is popped that was not pushed, or its pop returned before its push was called;
 *   popped twice    two pops return one value;
 *   order inverted  push a returned before push b was called, b was popped, and a was not, or pop b returned
 *                   before pop a was called;
 *   wrong empty     a pop says "empty", though at each moment between its call and its return some value was
 *                   surely in the queue: its push had returned, its pop was not yet called.
 *
 * Operations of unknown outcome, rule by rule:
 *   - A push counts as done where its value was popped by an answered pop: it returns "never", so it is not
 *     before another push and its value is never surely in the queue. Where its value was not popped it is
 *     taken as not done: without it (and without an unknown pop that took it) all other answers stay right.
 *   - A pop may have taken any value, at any time after its call, or done nothing. It matters only for pushed
 *     values that no answered pop returned, the lost ones. The lost ones, in the order in which their pushes
 *     returned, are given to the unknown pops in the order of their calls, as long as there are any; such a
 * pop returns "never". A lost value that gets none was not popped. Then the four patterns are looked for.
 *
 * The gift loses nothing. What asks for a lost value's being popped by some time asks it of all lost values
 * whose pushes returned earlier, by the same time or an earlier one: "order inverted" with a later push b, by
 * the return of pop b, and an "empty" at time t, by t. So the value whose push returned i-th needs, at its
 * deadline, i unknown pops called, and these are enough: the i-th is there by then. Different "empty" answers
 * do not compete: the latest before any moment asks for the most. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/map.h"
#include "base/mem.h"
#include "sim/history_impl.h"

enum { TOLD_VALUES = 8 }; /* in a report */

/* A value that was pushed. */
struct item {
  const struct holt_history_op *push;
  const struct holt_history_op *pop; /* answered, or the unknown one it was given to; NULL: not popped */
};

/* The time when some value was surely in the queue, both ends excluded: from the return of the push of its
 * first value to the call of the pop of its last. */
struct cover {
  uint64_t from, to;
};

struct fifo {
  struct item *items;
  struct item **by_call, **by_return; /* in the order of their pushes */
  struct cover *covers;               /* in the order of time, apart */
  size_t count, cover_count;
};

static uint64_t pop_called(const struct item *item) {
  return item->pop == NULL ? HOLT_HISTORY_NEVER : item->pop->called;
}

static uint64_t pop_returned(const struct item *item) {
  return item->pop == NULL ? HOLT_HISTORY_NEVER : item->pop->returned;
}

static bool is_answered_pop(const struct holt_history_op *op) {
  return op->kind == HOLT_HISTORY_POP && op->outcome == HOLT_HISTORY_OK;
}

/* Fill the verdict and return false. `one` and `two` may be NULL. */
static bool wrong(struct holt_verdict *verdict, enum holt_verdict_kind kind, const char *text,
                  const struct holt_history_op *one, const struct holt_history_op *two) {
  verdict->kind = kind;
  holt__say(verdict, "queue %" PRIu64 ": %s:", verdict->key, text);
  if (one != NULL) holt__say_op(verdict, one);
  if (two != NULL) holt__say_op(verdict, two);
  return false;
}

static bool take_push(struct fifo *fifo, struct holt_map *by_value, const struct holt_history_op *push,
                      struct holt_verdict *verdict) {
  struct item *item = &fifo->items[fifo->count];
  *item = (struct item){.push = push};
  const struct item *old = holt_map_set(by_value, push->value, item);
  if (old != NULL)
    return wrong(verdict, HOLT_VERDICT_MALFORMED, "a value was pushed twice, this check is for unique ones",
                 old->push, push);
  fifo->by_call[fifo->count] = fifo->by_return[fifo->count] = item;
  fifo->count++;
  return true;
}

static bool take_pop(const struct holt_map *by_value, const struct holt_history_op *pop,
                     struct holt_verdict *verdict) {
  struct item *item = holt_map_get(by_value, pop->result);
  if (item == NULL) return wrong(verdict, HOLT_VERDICT_FROM_NOWHERE, "popped and never pushed", pop, NULL);
  if (item->pop != NULL) return wrong(verdict, HOLT_VERDICT_POPPED_TWICE, "popped twice", item->pop, pop);
  if (pop->returned < item->push->called)
    return wrong(verdict, HOLT_VERDICT_FROM_NOWHERE, "popped before it was pushed", pop, item->push);
  item->pop = pop;
  return true;
}

/* Pair pushes and answered pops. */
static bool match(struct fifo *fifo, const struct holt__group *group, struct holt_verdict *verdict) {
  struct holt_map by_value = {0};
  bool is_good = true;
  for (size_t i = 0; i < group->count && is_good; i++)
    if (group->ops[i]->kind == HOLT_HISTORY_PUSH)
      is_good = take_push(fifo, &by_value, group->ops[i], verdict);
  for (size_t i = 0; i < group->count && is_good; i++) {
    const struct holt_history_op *op = group->ops[i];
    if (is_answered_pop(op) && op->result != HOLT_HISTORY_ABSENT) is_good = take_pop(&by_value, op, verdict);
  }
  holt_map_free(&by_value);
  return is_good;
}

static int compare_push_returns(const void *left, const void *right) {
  const struct item *a = *(struct item *const *)left, *b = *(struct item *const *)right;
  if (a->push->returned != b->push->returned) return a->push->returned < b->push->returned ? -1 : 1;
  return a < b ? -1 : a > b;
}

/* Give the lost values to the unknown pops; see the head of this file. */
static void give_to_unknown(struct fifo *fifo, const struct holt__group *group) {
  size_t next = 0;
  for (size_t i = 0; i < fifo->count; i++) {
    if (fifo->by_return[i]->pop != NULL) continue;
    while (next < group->count &&
           (group->ops[next]->kind != HOLT_HISTORY_POP || is_answered_pop(group->ops[next])))
      next++;
    if (next == group->count) return;
    fifo->by_return[i]->pop = group->ops[next++];
  }
}

/* Of all values whose push returned before push b was called, look at the one whose pop was called last. */
static bool check_order(const struct fifo *fifo, struct holt_verdict *verdict) {
  const struct item *last = NULL;
  size_t next = 0;
  for (size_t i = 0; i < fifo->count; i++) {
    const struct item *b = fifo->by_call[i];
    for (; next < fifo->count && fifo->by_return[next]->push->returned < b->push->called; next++)
      if (last == NULL || pop_called(fifo->by_return[next]) > pop_called(last)) last = fifo->by_return[next];
    if (last == NULL || pop_returned(b) >= pop_called(last)) continue;
    wrong(verdict, HOLT_VERDICT_ORDER_INVERTED, "a value was popped before one that was pushed earlier",
          b->push, b->pop);
    holt__say(verdict, "\nthe earlier one:");
    holt__say_op(verdict, last->push);
    if (last->pop == NULL)
      holt__say(verdict, "\nwas not popped, not even by a pop of unknown outcome");
    else
      holt__say_op(verdict, last->pop);
    return false;
  }
  return true;
}

/* Join the times in which one value was surely there; those that only touch stay apart. */
static void join_covers(struct fifo *fifo) {
  struct cover *end = fifo->covers; /* behind the last one */
  for (size_t i = 0; i < fifo->count; i++) {
    struct cover next = {.from = fifo->by_return[i]->push->returned, .to = pop_called(fifo->by_return[i])};
    if (next.from >= next.to) continue;
    if (end == fifo->covers || next.from >= end[-1].to)
      *end++ = next;
    else if (end[-1].to < next.to)
      end[-1].to = next.to;
  }
  fifo->cover_count = (size_t)(end - fifo->covers);
}

/* Tell which values were there one after the other. */
static void explain_empty(const struct fifo *fifo, const struct holt_history_op *empty,
                          struct holt_verdict *verdict) {
  wrong(verdict, HOLT_VERDICT_WRONG_EMPTY, "\"empty\", though there was a value all the time", empty, NULL);
  holt__say(verdict, "\none of these at every moment:");
  int told = 0;
  for (uint64_t at = empty->called; at <= empty->returned;) {
    if (told++ == TOLD_VALUES) {
      holt__say(verdict, "\n  and others");
      return;
    }
    const struct item *best = NULL;
    for (size_t i = 0; i < fifo->count && fifo->by_return[i]->push->returned < at; i++)
      if (best == NULL || pop_called(fifo->by_return[i]) > pop_called(best)) best = fifo->by_return[i];
    if (best == NULL || pop_called(best) <= at) return; /* cannot be: it is covered */
    holt__say_op(verdict, best->push);
    if (best->pop != NULL) holt__say_op(verdict, best->pop);
    at = pop_called(best);
    if (at == HOLT_HISTORY_NEVER) return;
  }
}

static bool check_empty(struct fifo *fifo, const struct holt__group *group, struct holt_verdict *verdict) {
  size_t next = 0; /* covers that begin before the call of the pop */
  join_covers(fifo);
  for (size_t i = 0; i < group->count; i++) {
    const struct holt_history_op *op = group->ops[i];
    if (!is_answered_pop(op) || op->result != HOLT_HISTORY_ABSENT) continue;
    while (next < fifo->cover_count && fifo->covers[next].from < op->called) next++;
    if (next == 0 || fifo->covers[next - 1].to <= op->returned) continue;
    explain_empty(fifo, op, verdict);
    return false;
  }
  return true;
}

static bool check_queue(void *arg, const struct holt__group *group, struct holt_verdict *verdict) {
  (void)arg;
  struct fifo fifo = {.items = holt_alloc(group->count * sizeof *fifo.items),
                      .by_call = holt_alloc(group->count * sizeof *fifo.by_call),
                      .by_return = holt_alloc(group->count * sizeof *fifo.by_return),
                      .covers = holt_alloc(group->count * sizeof *fifo.covers)};
  verdict->key = group->key;
  bool is_good = match(&fifo, group, verdict);
  if (is_good) {
    qsort(fifo.by_return, fifo.count, sizeof *fifo.by_return, compare_push_returns);
    give_to_unknown(&fifo, group);
    is_good = check_order(&fifo, verdict) && check_empty(&fifo, group, verdict);
  }
  free(fifo.items);
  free(fifo.by_call);
  free(fifo.by_return);
  free(fifo.covers);
  return is_good;
}

void holt_history_check_fifo(const struct holt_history *history, struct holt_verdict *verdict) {
  holt__history_each(history, HOLT_HISTORY_PUSH, HOLT_HISTORY_POP, verdict, check_queue, NULL);
  if (verdict->kind == HOLT_VERDICT_OK) verdict->key = 0;
}
