#include "sim/history.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "sim/history_impl.h"

void holt_history_free(struct holt_history *history) {
  free(history->ops);
  *history = (struct holt_history){0};
}

size_t holt_history_call(struct holt_history *history, uint32_t client, enum holt_history_kind kind,
                         uint64_t key, uint64_t value, uint64_t expected, uint64_t now) {
  if (history->count == history->cap) {
    history->cap = history->cap == 0 ? 256 : history->cap * 2;
    history->ops = holt_realloc(history->ops, history->cap * sizeof *history->ops);
  }
  history->ops[history->count] = (struct holt_history_op){.key = key,
                                                          .value = value,
                                                          .expected = expected,
                                                          .result = HOLT_HISTORY_ANY,
                                                          .called = now,
                                                          .returned = HOLT_HISTORY_NEVER,
                                                          .client = client,
                                                          .kind = (uint8_t)kind,
                                                          .outcome = HOLT_HISTORY_UNKNOWN};
  return history->count++;
}

static void end(struct holt_history *history, size_t number, enum holt_history_outcome outcome,
                uint64_t result, uint64_t now) {
  HOLT_ASSERT(number < history->count);
  struct holt_history_op *op = &history->ops[number];
  HOLT_ASSERT(op->outcome == HOLT_HISTORY_UNKNOWN);
  op->outcome = (uint8_t)outcome;
  op->result = result;
  op->returned = now;
}

void holt_history_return(struct holt_history *history, size_t number, uint64_t result, uint64_t now) {
  end(history, number, HOLT_HISTORY_OK, result, now);
}

void holt_history_fail(struct holt_history *history, size_t number, uint64_t now) {
  end(history, number, HOLT_HISTORY_FAILED, HOLT_HISTORY_ANY, now);
}

const char *holt_verdict_word(enum holt_verdict_kind kind) {
  static const char *const words[] = {
      [HOLT_VERDICT_OK] = "ok",
      [HOLT_VERDICT_UNDECIDED] = "undecided",
      [HOLT_VERDICT_MALFORMED] = "malformed",
      [HOLT_VERDICT_NOT_LINEARIZABLE] = "not_linearizable",
      [HOLT_VERDICT_FROM_NOWHERE] = "from_nowhere",
      [HOLT_VERDICT_POPPED_TWICE] = "popped_twice",
      [HOLT_VERDICT_ORDER_INVERTED] = "order_inverted",
      [HOLT_VERDICT_WRONG_EMPTY] = "wrong_empty",
  };
  return words[kind];
}

/* --- What a person reads ------------------------------------------------------------------------------- */

void holt__say(struct holt_verdict *verdict, const char *format, ...) {
  size_t used = strlen(verdict->why);
  va_list args;
  va_start(args, format);
  vsnprintf(verdict->why + used, sizeof verdict->why - used, format, args);
  va_end(args);
}

struct holt__value_text holt__value_text(uint64_t value) {
  struct holt__value_text out;
  if (value == HOLT_HISTORY_ABSENT)
    snprintf(out.text, sizeof out.text, "nothing");
  else if (value == HOLT_HISTORY_OTHER)
    snprintf(out.text, sizeof out.text, "another value");
  else if (value == HOLT_HISTORY_ANY)
    snprintf(out.text, sizeof out.text, "anything");
  else
    snprintf(out.text, sizeof out.text, "%" PRIu64, value);
  return out;
}

void holt__say_op(struct holt_verdict *verdict, const struct holt_history_op *op) {
  struct holt__value_text value = holt__value_text(op->value), expected = holt__value_text(op->expected);
  holt__say(verdict, "\n  client %" PRIu32 ": ", op->client);
  switch ((enum holt_history_kind)op->kind) {
  case HOLT_HISTORY_GET:
    holt__say(verdict, "get");
    break;
  case HOLT_HISTORY_SET:
    holt__say(verdict, "set %s", value.text);
    break;
  case HOLT_HISTORY_INSERT:
    holt__say(verdict, "insert %s", value.text);
    break;
  case HOLT_HISTORY_UPDATE_IF:
    holt__say(verdict, "update %s if %s", value.text, expected.text);
    break;
  case HOLT_HISTORY_REMOVE:
    holt__say(verdict, "remove");
    break;
  case HOLT_HISTORY_REMOVE_IF:
    holt__say(verdict, "remove if %s", expected.text);
    break;
  case HOLT_HISTORY_PUSH:
    holt__say(verdict, "push %s", value.text);
    break;
  case HOLT_HISTORY_POP:
    holt__say(verdict, "pop");
    break;
  }
  if (op->outcome == HOLT_HISTORY_UNKNOWN) {
    holt__say(verdict, ", from %" PRIu64 ", outcome unknown", op->called);
    return;
  }
  if (op->kind != HOLT_HISTORY_PUSH) holt__say(verdict, ", found %s", holt__value_text(op->result).text);
  holt__say(verdict, ", from %" PRIu64 " to %" PRIu64, op->called, op->returned);
}

/* --- One key at a time --------------------------------------------------------------------------------- */

/* Why `op` cannot have been recorded, or NULL. */
static const char *fault_of(const struct holt_history_op *op) {
  bool writes = op->kind == HOLT_HISTORY_SET || op->kind == HOLT_HISTORY_INSERT ||
                op->kind == HOLT_HISTORY_UPDATE_IF || op->kind == HOLT_HISTORY_PUSH;
  bool compares = op->kind == HOLT_HISTORY_UPDATE_IF || op->kind == HOLT_HISTORY_REMOVE_IF;
  if (writes && op->value > HOLT_HISTORY_VALUE_MAX) return "writes a reserved value";
  if (compares && op->expected > HOLT_HISTORY_VALUE_MAX && op->expected != HOLT_HISTORY_ABSENT)
    return "expects a reserved value";
  if (op->called == HOLT_HISTORY_NEVER) return "was never called";
  if (op->outcome == HOLT_HISTORY_UNKNOWN)
    return op->returned == HOLT_HISTORY_NEVER ? NULL : "returned, but with an unknown outcome";
  if (op->returned == HOLT_HISTORY_NEVER) return "has an outcome but did not return";
  if (op->returned < op->called) return "returned before its call";
  if (op->kind == HOLT_HISTORY_POP && op->outcome == HOLT_HISTORY_OK && op->result > HOLT_HISTORY_VALUE_MAX &&
      op->result != HOLT_HISTORY_ABSENT)
    return "does not tell what it popped";
  return NULL;
}

static int compare_key_and_call(const void *left, const void *right) {
  const struct holt_history_op *a = *(const struct holt_history_op *const *)left;
  const struct holt_history_op *b = *(const struct holt_history_op *const *)right;
  if (a->key != b->key) return a->key < b->key ? -1 : 1;
  if (a->called != b->called) return a->called < b->called ? -1 : 1;
  return a < b ? -1 : a > b; /* the order of recording: the same on every run */
}

void holt__history_each(const struct holt_history *history, enum holt_history_kind first,
                        enum holt_history_kind last, struct holt_verdict *verdict, holt__group_cb each,
                        void *arg) {
  memset(verdict, 0, sizeof *verdict);
  const struct holt_history_op **ops = holt_alloc((history->count + 1) * sizeof *ops);
  size_t count = 0;
  for (size_t i = 0; i < history->count; i++) {
    const struct holt_history_op *op = &history->ops[i];
    if (op->kind < first || op->kind > last) continue;
    const char *fault = fault_of(op);
    if (fault != NULL) {
      verdict->kind = HOLT_VERDICT_MALFORMED;
      verdict->key = op->key;
      holt__say(verdict, "operation %zu, on key %" PRIu64 ", %s:", i, op->key, fault);
      holt__say_op(verdict, op);
      free(ops);
      return;
    }
    if (op->outcome != HOLT_HISTORY_FAILED) ops[count++] = op;
  }
  qsort(ops, count, sizeof *ops, compare_key_and_call);
  bool goes_on = true;
  for (size_t from = 0, to; from < count && goes_on; from = to) {
    for (to = from; to < count && ops[to]->key == ops[from]->key;) to++;
    struct holt__group group = {.ops = ops + from, .count = to - from, .key = ops[from]->key};
    verdict->key_count++;
    verdict->op_count += group.count;
    goes_on = each(arg, &group, verdict);
  }
  free(ops);
}
