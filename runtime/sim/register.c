/* One key of a map as a sequential object: what an operation needs, writes and may answer. */
#include "sim/history_impl.h"

static bool compares(const struct holt_history_op *op) {
  return op->kind == HOLT_HISTORY_UPDATE_IF || op->kind == HOLT_HISTORY_REMOVE_IF;
}

uint64_t holt__op_needs(const struct holt_history_op *op) {
  if (op->kind == HOLT_HISTORY_INSERT) return HOLT_HISTORY_ABSENT;
  return compares(op) ? op->expected : HOLT_HISTORY_ANY;
}

uint64_t holt__op_writes(const struct holt_history_op *op) {
  bool removes = op->kind == HOLT_HISTORY_REMOVE || op->kind == HOLT_HISTORY_REMOVE_IF;
  return removes ? HOLT_HISTORY_ABSENT : op->value;
}

bool holt__op_is_twin(const struct holt_history_op *left, const struct holt_history_op *right) {
  return holt__op_needs(left) == holt__op_needs(right) && holt__op_writes(left) == holt__op_writes(right);
}

uint64_t holt__op_state_after(const struct holt_history_op *op, uint64_t state) {
  if (op->kind == HOLT_HISTORY_GET) return state;
  uint64_t need = holt__op_needs(op);
  return need == HOLT_HISTORY_ANY || need == state ? holt__op_writes(op) : state;
}

bool holt__op_fits(const struct holt_history_op *op, uint64_t state) {
  if (op->outcome == HOLT_HISTORY_UNKNOWN || op->result == HOLT_HISTORY_ANY) return true;
  if (op->result == HOLT_HISTORY_OTHER) return state != (compares(op) ? op->expected : HOLT_HISTORY_ABSENT);
  return state == op->result;
}

bool holt__op_is_free(const struct holt_history_op *op, uint64_t state) {
  if (!holt__op_fits(op, state) || holt__op_state_after(op, state) != state) return false;
  if (op->kind == HOLT_HISTORY_GET) return true;
  if (op->result == HOLT_HISTORY_OTHER) return holt__op_needs(op) != HOLT_HISTORY_ANY;
  return op->result != HOLT_HISTORY_ANY;
}

bool holt__group_needs(const struct holt__group *group, uint64_t value) {
  for (size_t i = 0; i < group->count; i++)
    if (group->ops[i]->outcome == HOLT_HISTORY_UNKNOWN && holt__op_needs(group->ops[i]) == value) return true;
  return false;
}

bool holt__group_observed(const struct holt__group *group, struct holt_map *observed) {
  static char mark;
  for (size_t i = 0; i < group->count; i++) {
    const struct holt_history_op *op = group->ops[i];
    if (holt__op_needs(op) != HOLT_HISTORY_ANY) holt_map_set(observed, holt__op_needs(op), &mark);
    if (op->outcome == HOLT_HISTORY_UNKNOWN) continue;
    if (op->result == HOLT_HISTORY_OTHER) return false;
    holt_map_set(observed, op->result, &mark);
  }
  return true;
}

bool holt__op_is_idle(const struct holt_history_op *op, const struct holt_map *observed,
                      bool is_all_observed) {
  if (op->kind == HOLT_HISTORY_GET) return true;
  return is_all_observed && holt_map_get(observed, holt__op_writes(op)) == NULL;
}
