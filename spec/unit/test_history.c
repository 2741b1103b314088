/* Histories and the two checks: known verdicts in pairs that differ in one thing, a comparison with a search
 * through all orders, and histories of some length. */
#include <stdbool.h>

#include "base/rand.h"
#include "sim/history.h"
#include "unit.h"

/* --- Histories written as text
 * -------------------------------------------------------------------------------
 *
 * "1-4 set 5 = nil; 2-3 get = 5; 2-? remove; 6-7! push 2": from, to, kind, what it takes, "=" what it found.
 * A "?" is an unknown outcome, "!" a definite failure. update_if takes what it expects, then what it writes.
 */

static uint64_t value_of(const char *word) {
  if (strcmp(word, "nil") == 0) return HOLT_HISTORY_ABSENT;
  if (strcmp(word, "any") == 0) return HOLT_HISTORY_ANY;
  if (strcmp(word, "other") == 0) return HOLT_HISTORY_OTHER;
  char *end;
  uint64_t value = strtoull(word, &end, 10);
  assert_true(end != word && *end == '\0');
  return value;
}

static enum holt_history_kind kind_of(const char *word) {
  static const char *const kinds[] = {"get",    "set",       "insert", "update_if",
                                      "remove", "remove_if", "push",   "pop"};
  int kind = -1;
  for (int i = 0; i < 8; i++)
    if (strcmp(word, kinds[i]) == 0) kind = i;
  assert_true(kind >= 0);
  return (enum holt_history_kind)kind;
}

static void record_line(struct holt_history *history, uint64_t key, char *line) {
  char *rest, *words[8] = {0};
  size_t count = 0;
  for (char *word = strtok_r(line, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
    words[count++] = word;
  assert_true(count >= 2);
  char *to;
  uint64_t from = strtoull(words[0], &to, 10);
  to++; /* the dash */
  enum holt_history_kind kind = kind_of(words[1]);
  uint64_t args[2] = {0};
  size_t at = 2, arg_count = 0;
  for (; at < count && strcmp(words[at], "=") != 0; at++) args[arg_count++] = value_of(words[at]);
  bool expects = kind == HOLT_HISTORY_UPDATE_IF || kind == HOLT_HISTORY_REMOVE_IF;
  uint64_t value = args[kind == HOLT_HISTORY_UPDATE_IF ? 1 : 0];
  size_t op =
      holt_history_call(history, (uint32_t)history->count, kind, key, value, expects ? args[0] : 0, from);
  if (*to == '?') return;
  uint64_t returned = strtoull(to, &to, 10);
  if (*to == '!')
    holt_history_fail(history, op, returned);
  else
    holt_history_return(history, op, at + 1 < count ? value_of(words[at + 1]) : HOLT_HISTORY_ANY, returned);
}

static void record(struct holt_history *history, uint64_t key, const char *text) {
  char copy[600], *rest;
  assert_true(strlen(text) < sizeof copy);
  strcpy(copy, text);
  for (char *line = strtok_r(copy, ";", &rest); line != NULL; line = strtok_r(NULL, ";", &rest))
    record_line(history, key, line);
}

static void check(const struct holt_history *history, struct holt_verdict *verdict) {
  holt_history_check_map(history, HOLT_HISTORY_STEPS, verdict);
  if (verdict->kind == HOLT_VERDICT_OK) holt_history_check_fifo(history, verdict);
}

static void expect(const char *text, enum holt_verdict_kind kind) {
  struct holt_history history = {0};
  struct holt_verdict verdict;
  record(&history, 7, text);
  check(&history, &verdict);
  if (verdict.kind != kind)
    fail_msg("%s\n is %s, not %s\n%s", text, holt_verdict_word(verdict.kind), holt_verdict_word(kind),
             verdict.why);
  assert_true((verdict.why[0] == '\0') == (kind == HOLT_VERDICT_OK));
  if (kind != HOLT_VERDICT_OK) assert_int_equal(verdict.key, 7);
  holt_history_free(&history);
}

struct pair {
  const char *good, *bad;
};

static void expect_pairs(const struct pair *pairs, size_t count, enum holt_verdict_kind kind) {
  for (size_t i = 0; i < count; i++) {
    expect(pairs[i].good, HOLT_VERDICT_OK);
    expect(pairs[i].bad, kind);
  }
}
#define EXPECT_PAIRS(pairs, kind) expect_pairs(pairs, sizeof(pairs) / sizeof((pairs)[0]), kind)

/* --- Known verdicts
 * ----------------------------------------------------------------------------------------- */

static void each_operation_of_a_map_answers_what_it_found(void **state) {
  (void)state;
  static const struct pair pairs[] = {
      {"1-2 get = nil", "1-2 get = 5"},
      {"1-2 set 5 = nil; 3-4 get = 5", "1-2 set 5 = nil; 3-4 get = 6"},
      {"1-2 set 5 = nil; 3-4 get = 5", "1-2 set 5 = nil; 3-4 get = nil"},
      {"1-2 set 5 = nil; 3-4 set 6 = 5", "1-2 set 5 = nil; 3-4 set 6 = nil"},
      {"1-2 set 5 = any; 3-4 set 6 = any; 5-6 get = 6", "1-2 set 5 = any; 3-4 set 6 = any; 5-6 get = 5"},
      {"1-2 insert 5 = nil; 3-4 get = 5", "1-2 insert 5 = nil; 3-4 get = nil"},
      {"1-2 insert 5 = nil; 3-4 insert 6 = 5; 5-6 get = 5",
       "1-2 insert 5 = nil; 3-4 insert 6 = 5; 5-6 get = 6"},
      {"1-2 insert 5 = nil; 3-4 insert 6 = 5", "1-2 insert 5 = nil; 3-4 insert 6 = nil"},
      {"1-2 insert 5 = nil; 3-4 insert 6 = other", "3-4 insert 6 = other"},
      {"1-2 set 5 = nil; 3-4 update_if 5 6 = 5; 5-6 get = 6",
       "1-2 set 5 = nil; 3-4 update_if 5 6 = 5; 5-6 get = 5"},
      {"1-2 set 5 = nil; 3-4 update_if 4 6 = 5; 5-6 get = 5",
       "1-2 set 5 = nil; 3-4 update_if 4 6 = 5; 5-6 get = 6"},
      {"1-2 set 5 = nil; 3-4 update_if 4 6 = 5", "1-2 set 5 = nil; 3-4 update_if 4 6 = 4"},
      {"1-2 set 5 = nil; 3-4 update_if 4 6 = other", "1-2 set 5 = nil; 3-4 update_if 5 6 = other"},
      {"1-2 update_if nil 6 = nil; 3-4 get = 6", "1-2 update_if nil 6 = nil; 3-4 get = nil"},
      {"1-2 set 5 = nil; 3-4 remove = 5; 5-6 get = nil", "1-2 set 5 = nil; 3-4 remove = 5; 5-6 get = 5"},
      {"1-2 set 5 = nil; 3-4 remove = 5; 5-6 remove = nil",
       "1-2 set 5 = nil; 3-4 remove = 5; 5-6 remove = 5"},
      {"1-2 set 5 = nil; 3-4 remove_if 5 = 5; 5-6 get = nil",
       "1-2 set 5 = nil; 3-4 remove_if 5 = 5; 5-6 get = 5"},
      {"1-2 set 5 = nil; 3-4 remove_if 6 = 5; 5-6 get = 5",
       "1-2 set 5 = nil; 3-4 remove_if 6 = 5; 5-6 get = nil"},
      {"1-2 set 5 = nil; 3-4 remove_if 6 = other", "1-2 set 5 = nil; 3-4 remove_if 5 = other"},
  };
  EXPECT_PAIRS(pairs, HOLT_VERDICT_NOT_LINEARIZABLE);
}

static void operations_on_a_key_may_be_reordered_while_they_overlap_only(void **state) {
  (void)state;
  static const struct pair pairs[] = {
      {"1-4 set 5 = nil; 2-3 get = nil", "1-4 set 5 = nil; 5-6 get = nil"},
      {"1-4 set 5 = nil; 4-5 get = nil", "1-3 set 5 = nil; 4-5 get = nil"}, /* equal times overlap */
      /* two reads of one write: the first new, the second old */
      {"1-9 set 5 = nil; 2-4 get = 5; 3-5 get = nil", "1-9 set 5 = nil; 2-3 get = 5; 4-5 get = nil"},
      /* a lost update: both replaced the same value */
      {"1-2 set 1 = nil; 3-6 update_if 1 2 = 1; 4-5 update_if 1 3 = 2",
       "1-2 set 1 = nil; 3-6 update_if 1 2 = 1; 4-5 update_if 1 3 = 1"},
      /* two readers disagree on the order of two writes */
      {"1-2 set 1 = any; 1-2 set 2 = any; 3-4 get = 1; 5-6 get = 1",
       "1-2 set 1 = any; 1-2 set 2 = any; 3-4 get = 1; 5-6 get = 2"},
  };
  EXPECT_PAIRS(pairs, HOLT_VERDICT_NOT_LINEARIZABLE);
}

static void an_unknown_write_may_take_effect_once_late_or_never(void **state) {
  (void)state;
  static const struct pair pairs[] = {
      {"1-? set 5; 3-4 get = 5", "1-2! set 5; 3-4 get = 5"},
      {"1-? set 5; 3-4 get = nil", "1-2 set 5 = any; 3-4 get = nil"},
      {"1-? set 5; 3-4 get = nil; 5-6 get = 5", "4-? set 5; 1-3 get = 5"},
      {"1-? set 5; 3-4 get = 5; 5-6 get = 5", "1-? set 5; 3-4 get = 5; 5-6 get = nil"},
      {"1-? remove; 1-2 set 5 = nil; 3-4 get = nil", "1-? get; 1-2 set 5 = nil; 3-4 get = nil"},
      {"1-2 set 1 = nil; 1-? remove; 1-? remove; 3-4 get = nil; 5-6 set 2 = nil; 7-8 get = nil",
       "1-2 set 1 = nil; 1-? remove; 3-4 get = nil; 5-6 set 2 = nil; 7-8 get = nil"},
      /* an unknown removal that nobody found, without which the unknown insertion could not have been */
      {"1-2 set 1 = nil; 1-? remove; 1-? insert 2; 5-6 get = 2",
       "1-2 set 1 = nil; 1-? insert 2; 5-6 get = 2"},
      /* two that could serve the first reader, of which one only could serve the second */
      {"3-? set 5; 3-6 get = 5; 6-? update_if nil 5; 10-11 set 6 = any; 12-13 get = 5",
       "3-? set 5; 3-6 get = 5; 8-? update_if nil 5; 10-11 set 6 = any; 12-13 get = 5"},
      /* a value that nobody found, but that was in the way */
      {"1-? set 9; 3-4 insert 2 = other; 5-6 remove = any",
       "1-2! set 9; 3-4 insert 2 = other; 5-6 remove = any"},
  };
  EXPECT_PAIRS(pairs, HOLT_VERDICT_NOT_LINEARIZABLE);
}

static void a_value_of_a_queue_comes_from_a_push_before_its_pop(void **state) {
  (void)state;
  static const struct pair pairs[] = {
      {"1-2 push 1; 3-4 pop = 1", "1-2 push 1; 3-4 pop = 2"},
      {"1-? push 1; 3-4 pop = 1", "1-2! push 1; 3-4 pop = 1"},
      {"3-5 push 1; 1-3 pop = 1", "4-5 push 1; 1-3 pop = 1"},
      {"3-? push 1; 1-3 pop = 1", "4-? push 1; 1-3 pop = 1"},
  };
  EXPECT_PAIRS(pairs, HOLT_VERDICT_FROM_NOWHERE);
}

static void a_value_of_a_queue_is_popped_once(void **state) {
  (void)state;
  static const struct pair pairs[] = {
      {"1-2 push 1; 3-4 pop = 1; 5-6 pop = nil", "1-2 push 1; 3-4 pop = 1; 5-6 pop = 1"},
      {"1-2 push 1; 3-4 pop = 1; 5-? pop", "1-2 push 1; 3-6 pop = 1; 5-7 pop = 1"},
  };
  EXPECT_PAIRS(pairs, HOLT_VERDICT_POPPED_TWICE);
}

static void what_was_pushed_first_is_popped_first(void **state) {
  (void)state;
  static const struct pair pairs[] = {
      {"1-2 push 1; 3-4 push 2; 5-6 pop = 1; 7-8 pop = 2",
       "1-2 push 1; 3-4 push 2; 5-6 pop = 2; 7-8 pop = 1"},
      {"1-3 push 1; 3-4 push 2; 5-6 pop = 2; 7-8 pop = 1",
       "1-2 push 1; 3-4 push 2; 5-6 pop = 2; 7-8 pop = 1"},
      {"1-2 push 1; 3-4 push 2; 5-7 pop = 2; 7-8 pop = 1",
       "1-2 push 1; 3-4 push 2; 5-6 pop = 2; 7-8 pop = 1"},
      {"1-2 push 1; 3-4 push 2; 5-6 pop = 1", "1-2 push 1; 3-4 push 2; 5-6 pop = 2"},
      {"1-? push 1; 3-4 push 2; 5-6 pop = 2", "1-2 push 1; 3-? push 2; 5-6 pop = 2"},
      {"1-? push 1; 3-4 push 2; 5-6 pop = 2; 7-8 pop = 1",
       "1-2 push 1; 3-? push 2; 5-6 pop = 2; 7-8 pop = 1"},
      /* an unknown pop may have taken the first one, if it was called in time, and only one */
      {"1-2 push 1; 3-4 push 2; 6-? pop; 5-6 pop = 2", "1-2 push 1; 3-4 push 2; 7-? pop; 5-6 pop = 2"},
      {"1-2 push 1; 3-4 push 2; 5-6 push 3; 1-? pop; 1-? pop; 7-8 pop = 3",
       "1-2 push 1; 3-4 push 2; 5-6 push 3; 1-? pop; 7-8 pop = 3"},
      {"1-? pop; 1-2 push 1; 3-4 push 2; 5-6 pop = 2", "1-2! pop; 1-2 push 1; 3-4 push 2; 5-6 pop = 2"},
  };
  EXPECT_PAIRS(pairs, HOLT_VERDICT_ORDER_INVERTED);
}

static void a_queue_is_empty_only_when_it_can_have_been(void **state) {
  (void)state;
  static const struct pair pairs[] = {
      {"1-2 pop = nil; 3-4 push 1", "1-2 push 1; 3-4 pop = nil"},
      {"1-3 push 1; 3-4 pop = nil", "1-2 push 1; 3-4 pop = nil"},
      {"1-? push 1; 3-4 pop = nil", "1-2 push 1; 3-4 pop = nil; 5-? pop"},
      {"1-2 push 1; 3-6 pop = nil; 6-7 pop = 1", "1-2 push 1; 3-5 pop = nil; 6-7 pop = 1"},
      {"1-2 push 1; 3-4 pop = nil; 4-? pop", "1-2 push 1; 3-4 pop = nil; 5-? pop"},
      /* one value after the other; where they touch there may have been a gap */
      {"1-2 push 1; 6-9 pop = 1; 5-6 push 2; 8-9 pop = 2; 3-7 pop = nil",
       "1-2 push 1; 6-9 pop = 1; 4-5 push 2; 8-9 pop = 2; 3-7 pop = nil"},
      /* two lost values and one unknown pop: enough for the first "empty", not for the second */
      {"1-2 push 1; 3-? pop; 4-5 pop = nil; 6-7 push 2; 7-8 pop = nil",
       "1-2 push 1; 3-? pop; 4-5 pop = nil; 6-7 push 2; 8-9 pop = nil"},
      {"1-2 push 1; 3-? pop; 4-5 pop = nil; 6-7 push 2; 8-? pop; 9-10 pop = nil",
       "1-2 push 1; 3-? pop; 4-5 pop = nil; 6-7 push 2; 11-? pop; 9-10 pop = nil"},
  };
  EXPECT_PAIRS(pairs, HOLT_VERDICT_WRONG_EMPTY);
}

static void what_cannot_have_been_recorded_is_refused(void **state) {
  (void)state;
  expect("2-1 get = nil", HOLT_VERDICT_MALFORMED);
  expect("1-2 set nil = nil", HOLT_VERDICT_MALFORMED);
  expect("1-2 update_if any 1 = nil", HOLT_VERDICT_MALFORMED);
  expect("1-2 pop = any", HOLT_VERDICT_MALFORMED);
  expect("1-2 push 1; 3-4 push 1", HOLT_VERDICT_MALFORMED);
  expect("1-? push 1; 3-4 push 1", HOLT_VERDICT_MALFORMED);
  expect("1-2! push 1; 3-4 push 1", HOLT_VERDICT_OK);
  expect("", HOLT_VERDICT_OK);
}

static void keys_are_looked_at_apart_and_the_wrong_one_is_named(void **state) {
  (void)state;
  struct holt_history history = {0};
  struct holt_verdict verdict;
  record(&history, 9, "1-2 set 5 = nil; 5-6 get = 5");
  record(&history, 3, "3-4 get = nil; 3-4 push 1");
  record(&history, 8, "3-4 push 1; 5-6 pop = 1");
  check(&history, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_OK);
  record(&history, 8, "7-8 pop = 1");
  record(&history, 3, "5-6 get = 5");
  holt_history_check_map(&history, HOLT_HISTORY_STEPS, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_NOT_LINEARIZABLE);
  assert_int_equal(verdict.key, 3);
  holt_history_check_fifo(&history, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_POPPED_TWICE);
  assert_int_equal(verdict.key, 8);
  assert_int_equal(verdict.key_count, 2);
  holt_history_free(&history);
}

static void a_report_tells_the_order_found_and_what_could_not_be_next(void **state) {
  (void)state;
  struct holt_history history = {0};
  struct holt_verdict verdict;
  record(&history, 3, "1-2 set 5 = nil; 3-9 update_if 5 6 = 5; 4-? remove_if 8; 10-11 get = 5");
  holt_history_check_map(&history, HOLT_HISTORY_STEPS, &verdict);
  assert_string_equal(verdict.why, "key 3: 2 of its 3 answered operations can be ordered, no more.\n"
                                   "The order ends:\n"
                                   "  client 0: set 5, found nothing, from 1 to 2\n"
                                   "  client 1: update 6 if 5, found 5, from 3 to 9\n"
                                   "The state is then 6, and none of these fits or leads on:\n"
                                   "  client 3: get, found 5, from 10 to 11\n"
                                   "of which this one returned first:\n"
                                   "  client 3: get, found 5, from 10 to 11");
  holt_history_free(&history);
  record(&history, 3, "1-2 push 1; 6-9 pop = 1; 4-5 push 2; 3-7 pop = nil");
  holt_history_check_fifo(&history, &verdict);
  assert_string_equal(verdict.why, "queue 3: \"empty\", though there was a value all the time:\n"
                                   "  client 3: pop, found nothing, from 3 to 7\n"
                                   "one of these at every moment:\n"
                                   "  client 0: push 1, from 1 to 2\n"
                                   "  client 1: pop, found 1, from 6 to 9\n"
                                   "  client 2: push 2, from 4 to 5");
  holt_history_free(&history);
}

/* --- All orders
 * --------------------------------------------------------------------------------------------- */

enum { SMALL = 7 };

/* A register (with one value, or none) or a queue, written apart from the code under test. */
struct model {
  uint64_t queue[SMALL];
  size_t count;
};

/* Let `op` happen; what it found is returned. */
static uint64_t happen(struct model *model, const struct holt_history_op *op) {
  uint64_t found = model->count > 0 ? model->queue[0] : HOLT_HISTORY_ABSENT;
  bool is_there = model->count > 0, is_expected = found == op->expected;
  switch ((enum holt_history_kind)op->kind) {
  case HOLT_HISTORY_GET:
    break;
  case HOLT_HISTORY_SET:
    *model = (struct model){.queue = {op->value}, .count = 1};
    break;
  case HOLT_HISTORY_INSERT:
    if (!is_there) *model = (struct model){.queue = {op->value}, .count = 1};
    break;
  case HOLT_HISTORY_UPDATE_IF:
    if (is_expected) *model = (struct model){.queue = {op->value}, .count = 1};
    break;
  case HOLT_HISTORY_REMOVE:
    model->count = 0;
    break;
  case HOLT_HISTORY_REMOVE_IF:
    if (is_expected) model->count = 0;
    break;
  case HOLT_HISTORY_PUSH:
    model->queue[model->count++] = op->value;
    return HOLT_HISTORY_ANY;
  case HOLT_HISTORY_POP:
    if (!is_there) break;
    model->count--;
    memmove(model->queue, model->queue + 1, model->count * sizeof model->queue[0]);
    break;
  }
  return found;
}

static bool is_answer(const struct holt_history_op *op, uint64_t found) {
  if (op->outcome == HOLT_HISTORY_UNKNOWN || op->kind == HOLT_HISTORY_PUSH) return true;
  if (op->result == HOLT_HISTORY_ANY) return true;
  if (op->result != HOLT_HISTORY_OTHER) return op->result == found;
  bool expects = op->kind == HOLT_HISTORY_UPDATE_IF || op->kind == HOLT_HISTORY_REMOVE_IF;
  return expects ? found != op->expected : found != HOLT_HISTORY_ABSENT;
}

/* Is there an order of those that have not happened? Unknown ones need not. */
static bool has_order(const struct holt_history *history, unsigned happened, struct model model) {
  bool is_done = true;
  for (size_t i = 0; i < history->count; i++) {
    const struct holt_history_op *op = &history->ops[i];
    if ((happened >> i & 1) != 0) continue;
    if (op->outcome == HOLT_HISTORY_OK) is_done = false;
    bool is_next = true;
    for (size_t j = 0; j < history->count; j++)
      if ((happened >> j & 1) == 0 && history->ops[j].outcome == HOLT_HISTORY_OK &&
          history->ops[j].returned < op->called)
        is_next = false;
    struct model after = model;
    if (is_next && is_answer(op, happen(&after, op)) && has_order(history, happened | 1u << i, after))
      return true;
  }
  return is_done;
}

static uint64_t random_value(struct holt_rand *rand) {
  return holt_rand_below(rand, 3);
}

/* One operation at moment `now` of a sequential run, its times widened by up to `width`, some of it
 * forgotten. */
static void run_one(struct holt_history *history, struct holt_rand *rand, struct model *model,
                    enum holt_history_kind kind, uint64_t now, uint64_t width, uint64_t unknown_percent) {
  bool is_queue = kind >= HOLT_HISTORY_PUSH;
  uint64_t value = is_queue ? history->count : random_value(rand);
  uint64_t expected = holt_rand_below(rand, 6) == 0 ? HOLT_HISTORY_ABSENT : random_value(rand);
  size_t number = holt_history_call(history, 0, kind, 1, value, expected, now - holt_rand_below(rand, width));
  struct model before = *model;
  uint64_t found = happen(model, &history->ops[number]);
  if (holt_rand_below(rand, 100) < unknown_percent) { /* unknown: it happened or did not */
    if (holt_rand_below(rand, 2) == 0) *model = before;
    return;
  }
  holt_history_return(history, number, found, now + holt_rand_below(rand, width));
  struct holt_history_op *op = &history->ops[number];
  if (is_queue) return;
  op->result = HOLT_HISTORY_OTHER;
  if (!is_answer(op, found) || holt_rand_below(rand, 8) > 0) op->result = found;
  if (holt_rand_below(rand, 8) == 0) op->result = HOLT_HISTORY_ANY;
}

static void run_small(struct holt_history *history, struct holt_rand *rand, bool is_queue) {
  struct model model = {0};
  size_t count = 2 + holt_rand_below(rand, SMALL - 1);
  uint64_t width = 1 + holt_rand_below(rand, 20), bias = holt_rand_below(rand, 3);
  uint64_t unknown_percent = 5 + 15 * holt_rand_below(rand, 4);
  history->count = 0;
  for (size_t i = 0; i < count; i++) {
    enum holt_history_kind kind = (enum holt_history_kind)holt_rand_below(rand, 6);
    if (is_queue) kind = holt_rand_below(rand, 4) <= bias ? HOLT_HISTORY_POP : HOLT_HISTORY_PUSH;
    run_one(history, rand, &model, kind, 20 + 4 * i, width, unknown_percent);
  }
}

/* A value that somebody pushed, mostly. */
static uint64_t pushed_value(const struct holt_history *history, struct holt_rand *rand) {
  size_t number = holt_rand_below(rand, history->count + 1);
  for (size_t i = number; i < history->count; i++)
    if (history->ops[i].kind == HOLT_HISTORY_PUSH) return history->ops[i].value;
  return number;
}

/* Another result, or other times, of one operation. */
static void mutate(struct holt_history *history, struct holt_rand *rand, bool is_queue) {
  struct holt_history_op *op = &history->ops[holt_rand_below(rand, history->count)];
  if (op->outcome == HOLT_HISTORY_UNKNOWN) {
    op->outcome = HOLT_HISTORY_OK;
    op->returned = op->called + holt_rand_below(rand, 10);
  } else if (holt_rand_below(rand, 2) == 0) {
    op->called = holt_rand_below(rand, 50);
    op->returned = op->called + holt_rand_below(rand, 10);
    if (is_queue) return;
  }
  op->result = is_queue ? pushed_value(history, rand) : random_value(rand);
  if (holt_rand_below(rand, 3) == 0) op->result = HOLT_HISTORY_ABSENT;
}

/* Compares the check with the search through all orders, and counts the verdicts. */
static void compare_small(bool is_queue, uint64_t seed, int rounds, int counts[8]) {
  struct holt_rand rand;
  struct holt_history history = {0};
  struct holt_verdict verdict;
  holt_rand_seed(&rand, seed);
  for (int round = 0; round < rounds; round++) {
    run_small(&history, &rand, is_queue);
    check(&history, &verdict);
    if (verdict.kind != HOLT_VERDICT_OK) fail_msg("round %d, not mutated:\n%s", round, verdict.why);
    assert_true(has_order(&history, 0, (struct model){0}));
    uint64_t times = 1 + holt_rand_below(&rand, 2);
    for (uint64_t i = 0; i < times; i++) mutate(&history, &rand, is_queue);
    check(&history, &verdict);
    bool is_good = has_order(&history, 0, (struct model){0});
    if (is_good != (verdict.kind == HOLT_VERDICT_OK))
      fail_msg("round %d: %s, but an order was %sfound\n%s", round, holt_verdict_word(verdict.kind),
               is_good ? "" : "not ", verdict.why);
    counts[verdict.kind]++;
  }
  holt_history_free(&history);
}

static void the_search_agrees_with_all_orders(void **state) {
  (void)state;
  int counts[8] = {0};
  compare_small(false, 11, 12000, counts);
  assert_true(counts[HOLT_VERDICT_OK] > 3000);
  assert_true(counts[HOLT_VERDICT_NOT_LINEARIZABLE] > 3000);
}

static void the_four_patterns_agree_with_all_orders(void **state) {
  (void)state;
  int counts[8] = {0};
  compare_small(true, 12, 24000, counts);
  assert_true(counts[HOLT_VERDICT_OK] > 5000);
  assert_true(counts[HOLT_VERDICT_FROM_NOWHERE] > 1000);
  assert_true(counts[HOLT_VERDICT_POPPED_TWICE] > 300);
  assert_true(counts[HOLT_VERDICT_ORDER_INVERTED] > 400);
  assert_true(counts[HOLT_VERDICT_WRONG_EMPTY] > 700);
}

/* --- Histories of some length
 * ------------------------------------------------------------------------------- */

enum { KEYS = 20, LONG = 20000 };

/* On each key about eight operations overlap; one in a hundred is unknown. */
static void run_long_map(struct holt_history *history, struct holt_rand *rand) {
  struct model models[KEYS] = {0};
  for (uint64_t i = 0; i < LONG; i++) {
    enum holt_history_kind kind = (enum holt_history_kind)holt_rand_below(rand, 6);
    run_one(history, rand, &models[i % KEYS], kind, 2000 + i * 10, 1600, 1);
    history->ops[i].key = i % KEYS;
  }
}

static void a_long_history_of_many_keys_takes_few_steps(void **state) {
  (void)state;
  struct holt_rand rand;
  struct holt_history history = {0};
  struct holt_verdict verdict;
  holt_rand_seed(&rand, 5);
  run_long_map(&history, &rand);
  holt_history_check_map(&history, HOLT_HISTORY_STEPS, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_OK);
  assert_int_equal(verdict.key_count, KEYS);
  assert_in_range(verdict.step_count, LONG / 2, LONG * 6);
  size_t wrong = LONG / 2;
  while (history.ops[wrong].outcome != HOLT_HISTORY_OK) wrong++;
  history.ops[wrong].result = 77; /* nobody wrote this */
  holt_history_check_map(&history, HOLT_HISTORY_STEPS, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_NOT_LINEARIZABLE);
  assert_int_equal(verdict.key, wrong % KEYS);
  assert_non_null(strstr(verdict.why, "found 77"));
  holt_history_free(&history);
}

static void a_search_that_takes_too_long_is_given_up_for_its_key_only(void **state) {
  (void)state;
  struct holt_history history = {0};
  struct holt_verdict verdict;
  for (int i = 0; i < 12; i++)
    record(&history, 4, i % 2 == 0 ? "1-9 update_if 1 2 = any" : "1-9 set 1 = any");
  record(&history, 4, "10-11 get = 3");
  record(&history, 5, "1-2 get = nil");
  holt_history_check_map(&history, 100, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_UNDECIDED);
  assert_int_equal(verdict.key, 4);
  assert_int_equal(verdict.undecided_count, 1);
  assert_int_equal(verdict.key_count, 2);
  assert_in_range(verdict.step_count, 100, 102);
  record(&history, 6, "1-2 get = 1");
  holt_history_check_map(&history, 100, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_NOT_LINEARIZABLE);
  assert_int_equal(verdict.key, 6);
  assert_int_equal(verdict.undecided_count, 1);
  holt_history_check_map(&history, HOLT_HISTORY_STEPS, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_NOT_LINEARIZABLE);
  assert_int_equal(verdict.key, 4);
  holt_history_free(&history);
}

static void many_unknown_operations_that_do_the_same_are_one_choice_each_time(void **state) {
  (void)state;
  struct holt_history history = {0};
  struct holt_verdict verdict;
  char text[80];
  for (int i = 0; i < 200; i++) record(&history, 4, "1-? remove; 1-? set 1; 1-? set 9");
  for (int i = 0; i < 100; i++) {
    snprintf(text, sizeof text, "%d-%d get = 1; %d-%d get = nil", 10 * i + 2, 10 * i + 3, 10 * i + 4,
             10 * i + 5);
    record(&history, 4, text);
  }
  holt_history_check_map(&history, 20000, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_OK);
  record(&history, 4, "2000-2001 get = 8");
  holt_history_check_map(&history, 200000, &verdict);
  assert_int_equal(verdict.kind, HOLT_VERDICT_NOT_LINEARIZABLE);
  holt_history_free(&history);
}

/* A queue from which each value is popped after twenty more operations or so; popped in order. */
static void run_long_fifo(struct holt_history *history, struct holt_rand *rand) {
  uint64_t pushed = 0, popped = 0;
  for (uint64_t i = 0; i < LONG; i++) {
    uint64_t now = 1000 + i * 10, from = now - holt_rand_below(rand, 50),
             to = now + holt_rand_below(rand, 50);
    bool is_pop = pushed > 0 && holt_rand_below(rand, 2) == 0;
    enum holt_history_kind kind = is_pop ? HOLT_HISTORY_POP : HOLT_HISTORY_PUSH;
    size_t op = holt_history_call(history, 0, kind, 1, pushed, 0, from);
    bool is_known = holt_rand_below(rand, 100) > 0;
    uint64_t found = popped < pushed ? popped : HOLT_HISTORY_ABSENT;
    if (!is_pop)
      pushed++;
    else if (found != HOLT_HISTORY_ABSENT)
      popped++;
    if (is_known) holt_history_return(history, op, is_pop ? found : HOLT_HISTORY_ANY, to);
  }
}

static void a_long_history_of_a_queue_is_accepted_until_two_pops_are_exchanged(void **state) {
  (void)state;
  struct holt_rand rand;
  struct holt_history history = {0};
  struct holt_verdict verdict;
  holt_rand_seed(&rand, 6);
  run_long_fifo(&history, &rand);
  holt_history_check_fifo(&history, &verdict);
  if (verdict.kind != HOLT_VERDICT_OK) fail_msg("%s", verdict.why);
  assert_int_equal(verdict.op_count, LONG);
  struct holt_history_op *pops[2] = {
      0}; /* two values that were there together, pushed and popped far apart */
  for (size_t i = LONG / 2; pops[1] == NULL; i++) {
    struct holt_history_op *op = &history.ops[i];
    if (op->kind != HOLT_HISTORY_POP || op->outcome != HOLT_HISTORY_OK || op->result == HOLT_HISTORY_ABSENT)
      continue;
    if (pops[0] == NULL)
      pops[0] = op;
    else if (op->result > pops[0]->result + 40)
      pops[1] = op;
  }
  uint64_t first = pops[0]->result;
  pops[0]->result = pops[1]->result;
  pops[1]->result = first;
  holt_history_check_fifo(&history, &verdict);
  assert_true(verdict.kind == HOLT_VERDICT_ORDER_INVERTED || verdict.kind == HOLT_VERDICT_FROM_NOWHERE);
  holt_history_free(&history);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_operation_of_a_map_answers_what_it_found),
      cmocka_unit_test(operations_on_a_key_may_be_reordered_while_they_overlap_only),
      cmocka_unit_test(an_unknown_write_may_take_effect_once_late_or_never),
      cmocka_unit_test(a_value_of_a_queue_comes_from_a_push_before_its_pop),
      cmocka_unit_test(a_value_of_a_queue_is_popped_once),
      cmocka_unit_test(what_was_pushed_first_is_popped_first),
      cmocka_unit_test(a_queue_is_empty_only_when_it_can_have_been),
      cmocka_unit_test(what_cannot_have_been_recorded_is_refused),
      cmocka_unit_test(keys_are_looked_at_apart_and_the_wrong_one_is_named),
      cmocka_unit_test(a_report_tells_the_order_found_and_what_could_not_be_next),
      cmocka_unit_test(the_search_agrees_with_all_orders),
      cmocka_unit_test(the_four_patterns_agree_with_all_orders),
      cmocka_unit_test(a_long_history_of_many_keys_takes_few_steps),
      cmocka_unit_test(a_search_that_takes_too_long_is_given_up_for_its_key_only),
      cmocka_unit_test(many_unknown_operations_that_do_the_same_are_one_choice_each_time),
      cmocka_unit_test(a_long_history_of_a_queue_is_accepted_until_two_pops_are_exchanged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
