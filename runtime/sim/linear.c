/* Is what one key of a map answered linearizable?
 *
 * A search after Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory of visited
 * configurations of Lowe, "Testing for linearizability" (2017); key by key, as Horn and Kroening ("Faster
 * linearizability checking via P-compositionality", 2015) show to be enough.
 *
 *   - Calls and returns stand in one list in the order of time. Whatever is called before the first return
 *     may be next to take effect. One whose answer fits the state is taken: its two entries leave the list,
 *     and the search starts again at the head.
 *   - At a return nothing more can be tried: that operation must have taken effect by now. The last one taken
 *     goes back into the list and the search continues behind it.
 *   - The same operations taken in another order, with the same state, lead to nothing new: such a
 *     configuration is remembered and not entered twice.
 *   - An operation of unknown outcome has no return. It stands in a second list, is tried after those of the
 *     first, and may be left over.
 *
 * One that may be next, fits, and changes nothing wherever it fits, is taken at once, and nothing is tried in
 * its place: wherever an order of the rest has it, it can as well stand first.
 *
 * Some rules keep the unknown ones from making the search exponential where they need not. Each leaves out
 * only what another order does with as many of them, or with fewer:
 *   - a configuration is not entered when it has used up more of them than a known one that is else the same;
 *   - one that would not change the state is not taken;
 *   - nor one that no answered operation could follow that may be next, and no unknown one needs;
 *   - nor one that writes without a condition right after another unknown one: its value would be lost;
 *   - of several that do the same, they are taken in the order of their calls, as all stay open to the end;
 *   - one that writes a value which nobody ever found or expected is left out from the start. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "sim/history_impl.h"

enum outcome { FOUND, EXHAUSTED, GIVEN_UP };
enum { TOLD_COUNT = 8 }; /* operations in each part of a report */

/* A call or a return. */
struct entry {
  struct entry *prev, *next;
  struct entry *returned; /* of a call in the first list: its return */
  struct entry *twin;     /* of an unknown one: the one before that does the same, or NULL */
  const struct holt_history_op *op;
  uint64_t time;
  uint32_t index; /* among the calls of its list */
  bool is_return;
  bool is_chained; /* of an unknown one: another unknown one needs what it writes */
};

/* What was taken, and how things were before. */
struct frame {
  struct entry *entry;
  uint64_t state;
  uint64_t must_by; /* the time of the return that the search had come to, for an unknown one */
  uint32_t first, end, maybe_end;
  bool is_free; /* no other choice need be tried in its place */
};

/* The search on one key. `taken` has one bit for each call of the first list: all below `first` are set,
 * `first` is not, none from `end` on. So a configuration is told by `first` and the words up to `end`,
 * however long the history. `maybe_taken` is the same for the unknown ones, without a `first`. */
struct search {
  struct entry known, maybe; /* heads of the two rings */
  struct entry *entries;
  struct frame *frames;
  uint64_t *taken, *maybe_taken, *words; /* `words`: a configuration in the making */
  struct holt__seen *seen;
  uint64_t state, hash;
  size_t depth, left, left_min; /* calls of the first list yet to take; the fewest so far */
  uint64_t step_count, step_count_max;
  uint32_t call_count, maybe_count, first, end, maybe_end;
};

/* --- Taking and giving back ---------------------------------------------------------------------------- */

static void unlink_entry(struct entry *entry) {
  entry->prev->next = entry->next;
  entry->next->prev = entry->prev;
}

/* Undoes unlink_entry, in the reverse order only. */
static void relink_entry(struct entry *entry) {
  entry->prev->next = entry;
  entry->next->prev = entry;
}

static bool has_bit(const uint64_t *bits, uint32_t index) {
  return (bits[index / 64] >> (index % 64) & 1) != 0;
}

/* Sets or clears the bit of `entry`, and keeps the hash of those set in `taken`. */
static void flip(struct search *s, const struct entry *entry) {
  bool is_known = entry->returned != NULL;
  uint64_t *bits = is_known ? s->taken : s->maybe_taken;
  bits[entry->index / 64] ^= UINT64_C(1) << (entry->index % 64);
  if (is_known) s->hash ^= holt_hash_u64(entry->index);
}

/* Is the present configuration, with `state`, a new one? Remembers it. */
static bool is_new(struct search *s, uint64_t state) {
  size_t count = 0;
  s->words[count++] = (uint64_t)s->first << 32 | s->end;
  s->words[count++] = state;
  for (size_t i = s->first / 64; i * 64 < s->end; i++) s->words[count++] = s->taken[i];
  size_t maybe_count = (s->maybe_end + 63) / 64;
  memcpy(s->words + count, s->maybe_taken, maybe_count * sizeof *s->words);
  return holt__seen_add(s->seen, s->hash ^ holt_hash_u64(~state), s->words, count, maybe_count);
}

static void give_back(struct search *s, const struct frame *frame) {
  flip(s, frame->entry);
  s->first = frame->first;
  s->end = frame->end;
  s->maybe_end = frame->maybe_end;
}

/* Is it worth trying to let an unknown operation take effect now, with this state after it? See the head. */
static bool is_useful(const struct search *s, const struct entry *entry, uint64_t after) {
  if (after == s->state) return false;
  if (entry->twin != NULL && !has_bit(s->maybe_taken, entry->twin->index)) return false;
  bool follows_unknown = s->depth > 0 && s->frames[s->depth - 1].entry->returned == NULL;
  if (follows_unknown && holt__op_needs(entry->op) == HOLT_HISTORY_ANY) return false;
  if (entry->is_chained) return true;
  for (const struct entry *next = s->known.next; !next->is_return; next = next->next)
    if (holt__op_fits(next->op, after)) return true;
  return false;
}

/* Let `entry` take effect now, if it can and if that leads to something new. */
static bool take(struct search *s, struct entry *entry, uint64_t must_by) {
  if (!holt__op_fits(entry->op, s->state)) return false;
  uint64_t after = holt__op_state_after(entry->op, s->state);
  bool is_known = entry->returned != NULL;
  if (!is_known && !is_useful(s, entry, after)) return false;
  struct frame frame = {.entry = entry,
                        .state = s->state,
                        .must_by = must_by,
                        .first = s->first,
                        .end = s->end,
                        .maybe_end = s->maybe_end,
                        .is_free = is_known && holt__op_is_free(entry->op, s->state)};
  flip(s, entry);
  uint32_t *end = is_known ? &s->end : &s->maybe_end;
  if (*end <= entry->index) *end = entry->index + 1;
  while (s->first < s->end && has_bit(s->taken, s->first)) s->first++;
  if (!is_new(s, after)) {
    give_back(s, &frame);
    return false;
  }
  s->frames[s->depth++] = frame;
  s->state = after;
  unlink_entry(entry);
  if (is_known) {
    unlink_entry(entry->returned);
    if (--s->left < s->left_min) s->left_min = s->left;
  }
  return true;
}

/* Undo the last take() and return its frame. */
static const struct frame *untake(struct search *s) {
  const struct frame *frame = &s->frames[--s->depth];
  s->state = frame->state;
  give_back(s, frame);
  if (frame->entry->returned != NULL) {
    relink_entry(frame->entry->returned);
    s->left++;
  }
  relink_entry(frame->entry);
  return frame;
}

static struct entry *find_free(const struct search *s) {
  for (struct entry *at = s->known.next; !at->is_return; at = at->next)
    if (holt__op_is_free(at->op, s->state)) return at;
  return NULL;
}

/* Go back to the last choice; returns what is to be tried next in its place, or NULL when there was none. */
static struct entry *go_back(struct search *s, uint64_t *must_by) {
  while (s->depth > 0) {
    const struct frame *frame = untake(s);
    *must_by = frame->must_by;
    if (!frame->is_free) return frame->entry->next;
  }
  return NULL;
}

/* Search until only `left_goal` answered operations are left. */
static enum outcome run(struct search *s, size_t left_goal) {
  struct entry *at = NULL; /* what is to be tried; NULL: a new configuration */
  uint64_t must_by = 0;    /* while `at` is in the second list: its entries must be called by then */
  while (s->left > left_goal) {
    if (s->step_count == s->step_count_max) return GIVEN_UP;
    s->step_count++;
    struct entry *free_one = at == NULL ? find_free(s) : NULL;
    if (free_one != NULL && take(s, free_one, 0)) continue;
    if (free_one != NULL && (at = go_back(s, &must_by)) == NULL) return EXHAUSTED;
    if (at == NULL) at = s->known.next;
    if (at->is_return) { /* never the end of the ring: an answered operation is left, so is its return */
      must_by = at->time;
      at = s->maybe.next;
    }
    bool is_end = at == &s->maybe || (at->returned == NULL && at->time > must_by);
    if (!is_end)
      at = take(s, at, must_by) ? NULL : at->next;
    else if ((at = go_back(s, &must_by)) == NULL)
      return EXHAUSTED;
  }
  return FOUND;
}

/* --- Before -------------------------------------------------------------------------------------------- */

static struct entry *twin_of(const struct search *s, const struct holt_history_op *op) {
  for (struct entry *entry = s->maybe.prev; entry != &s->maybe; entry = entry->prev)
    if (holt__op_is_twin(entry->op, op)) return entry;
  return NULL;
}

static void append(struct entry *head, struct entry *entry) {
  entry->next = head;
  entry->prev = head->prev;
  relink_entry(entry);
}

/* At equal times calls come first: the operations overlap. */
static int compare_events(const void *left, const void *right) {
  const struct entry *a = *(struct entry *const *)left, *b = *(struct entry *const *)right;
  if (a->time != b->time) return a->time < b->time ? -1 : 1;
  if (a->is_return != b->is_return) return a->is_return ? 1 : -1;
  return a->index < b->index ? -1 : a->index > b->index;
}

static void link_lists(struct search *s, const struct holt__group *group) {
  struct holt_map observed = {0};
  bool is_all_observed = holt__group_observed(group, &observed);
  struct entry **events = holt_alloc(group->count * 2 * sizeof(struct entry *));
  struct entry *entry = s->entries;
  size_t event_count = 0;
  for (size_t i = 0; i < group->count; i++) {
    const struct holt_history_op *op = group->ops[i];
    if (op->outcome == HOLT_HISTORY_UNKNOWN) {
      if (holt__op_is_idle(op, &observed, is_all_observed)) continue;
      *entry = (struct entry){.op = op,
                              .time = op->called,
                              .index = s->maybe_count++,
                              .twin = twin_of(s, op),
                              .is_chained = holt__group_needs(group, holt__op_writes(op))};
      append(&s->maybe, entry++);
      continue;
    }
    entry[0] = (struct entry){.op = op, .time = op->called, .index = s->call_count, .returned = &entry[1]};
    entry[1] = (struct entry){.op = op, .time = op->returned, .index = s->call_count++, .is_return = true};
    events[event_count++] = entry++;
    events[event_count++] = entry++;
  }
  qsort(events, event_count, sizeof *events, compare_events);
  for (size_t i = 0; i < event_count; i++) append(&s->known, events[i]);
  free(events);
  holt_map_free(&observed);
}

/* `seen` is borrowed and emptied. */
static void search_init(struct search *s, const struct holt__group *group, uint64_t step_count_max,
                        struct holt__seen *seen) {
  HOLT_ASSERT(group->count < UINT32_MAX / 2);
  *s = (struct search){.seen = seen, .state = HOLT_HISTORY_ABSENT, .step_count_max = step_count_max};
  s->known.next = s->known.prev = &s->known;
  s->maybe.next = s->maybe.prev = &s->maybe;
  s->entries = holt_alloc(group->count * 2 * sizeof *s->entries);
  s->frames = holt_alloc(group->count * sizeof *s->frames);
  link_lists(s, group);
  size_t words = s->call_count / 64 + 1, maybe_words = s->maybe_count / 64 + 1;
  s->taken = holt_alloc((words * 2 + maybe_words * 2 + 2) * sizeof *s->taken);
  s->maybe_taken = s->taken + words;
  s->words = s->maybe_taken + maybe_words;
  s->left = s->left_min = s->call_count;
  holt__seen_clear(seen);
}

static void search_free(struct search *s) {
  free(s->entries);
  free(s->frames);
  free(s->taken);
}

/* --- After --------------------------------------------------------------------------------------------- */

/* The search stands where the most operations were ordered: tell the last of them and what could not be next.
 */
static void explain(const struct search *s, struct holt_verdict *verdict) {
  holt__say(verdict, "key %" PRIu64 ": %zu of its %" PRIu32 " answered operations can be ordered, no more.",
            verdict->key, s->call_count - s->left, s->call_count);
  if (s->depth > 0) holt__say(verdict, "\nThe order ends:");
  for (size_t i = s->depth > TOLD_COUNT ? s->depth - TOLD_COUNT : 0; i < s->depth; i++)
    holt__say_op(verdict, s->frames[i].entry->op);
  const struct entry *at = s->known.next;
  struct holt__value_text text = holt__value_text(s->state);
  holt__say(verdict, "\nThe state is then %s, and none of these fits or leads on:", text.text);
  for (size_t told = 0; !at->is_return && told < TOLD_COUNT; at = at->next, told++)
    holt__say_op(verdict, at->op);
  while (!at->is_return) at = at->next;
  holt__say(verdict, "\nof which this one returned first:");
  holt__say_op(verdict, at->op);
}

struct map_check {
  struct holt__seen seen;
  uint64_t step_count_max;
};

static void count_undecided(const struct search *s, uint64_t key, struct holt_verdict *verdict) {
  if (verdict->undecided_count++ > 0) return;
  verdict->kind = HOLT_VERDICT_UNDECIDED;
  verdict->key = key;
  holt__say(verdict, "key %" PRIu64 ": given up after %" PRIu64 " steps, with %zu of %" PRIu32 " in an order",
            key, s->step_count, s->call_count - s->left_min, s->call_count);
}

static bool check_key(void *arg, const struct holt__group *group, struct holt_verdict *verdict) {
  struct map_check *check = arg;
  struct search s;
  search_init(&s, group, check->step_count_max, &check->seen);
  enum outcome outcome = run(&s, 0);
  verdict->step_count += s.step_count;
  if (outcome == GIVEN_UP) count_undecided(&s, group->key, verdict);
  if (outcome == EXHAUSTED) { /* the same search again, up to its best moment */
    size_t left_min = s.left_min;
    search_free(&s);
    search_init(&s, group, check->step_count_max, &check->seen);
    HOLT_ASSERT(run(&s, left_min) == FOUND);
    verdict->kind = HOLT_VERDICT_NOT_LINEARIZABLE;
    verdict->key = group->key;
    verdict->why[0] = '\0'; /* an undecided key had its say */
    explain(&s, verdict);
  }
  search_free(&s);
  return outcome != EXHAUSTED;
}

void holt_history_check_map(const struct holt_history *history, uint64_t step_count_max,
                            struct holt_verdict *verdict) {
  struct map_check check = {.step_count_max = step_count_max};
  holt__history_each(history, HOLT_HISTORY_GET, HOLT_HISTORY_REMOVE_IF, verdict, check_key, &check);
  holt__seen_free(&check.seen);
}
