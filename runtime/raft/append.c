/* append.c - the follower's side of the log: check, truncate, append, acknowledge (paper 5.3).
 *
 * - The entry before the new ones must be here, with the same term; else refuse, with a hint.
 * - Entries that are here already are passed over; only one of another term truncates, never what a late,
 *   shorter append did not mention.
 * - The commit index moves to what the leader says, but never beyond what was verified against this leader.
 * - The acknowledgement waits until the last entry it covers is durable, a repeated one as well. */
#include "raft/raft_impl.h"

void holt__raft_commit_to(struct holt_raft *r, uint64_t index) {
  HOLT_ASSERT(index <= holt__raft_log_last(r));
  if (index <= r->commit) return;
  if (r->role == HOLT_RAFT_LEADER)
    for (uint64_t i = r->commit + 1; i <= index; i++) {
      uint32_t len = holt__raft_log_at(r, i)->len;
      r->uncommitted_bytes -= len < r->uncommitted_bytes ? len : r->uncommitted_bytes;
    }
  r->commit = index;
}

/* How many of the message's entries lie at or below the commit index, and which is the entry before the rest.
 */
static uint32_t skip_committed(const struct holt_raft *r, const struct holt_raft_message *m, uint64_t *prev,
                               uint64_t *prev_term) {
  *prev = m->index;
  *prev_term = m->log_term;
  if (m->index >= r->commit) return 0;
  uint64_t skip = r->commit - m->index;
  if (skip > m->count) skip = m->count;
  *prev += skip;
  *prev_term = skip ? m->entries[skip - 1].term : m->log_term;
  return (uint32_t)skip;
}

/* Whether the entry at `prev` is ours too. Below the base only what is committed was dropped. */
static bool is_held(const struct holt_raft *r, uint64_t prev, uint64_t prev_term) {
  if (prev < r->log.base_index) return true;
  if (prev > holt__raft_log_last(r)) return false;
  return holt__raft_log_term(r, prev) == prev_term;
}

/* The first of the message's entries that is not here; m->count when all are. */
static uint32_t first_new(const struct holt_raft *r, const struct holt_raft_message *m, uint32_t from) {
  for (uint32_t i = from; i < m->count; i++) {
    uint64_t index = m->index + 1 + i;
    if (index <= r->log.base_index) continue;
    if (index > holt__raft_log_last(r) || holt__raft_log_term(r, index) != m->entries[i].term) return i;
    if (HOLT_BUG(9) && i + 1 == m->count && holt__raft_log_last(r) > index) return i; /* cut behind it */
  }
  return m->count;
}

int holt__raft_prepare_append(struct holt_raft *r, const struct holt_raft_message *m) {
  uint64_t prev, prev_term;
  uint32_t skip = skip_committed(r, m, &prev, &prev_term);
  r->copy_from = m->count;
  if (r->is_installing || r->is_failed || !is_held(r, prev, prev_term)) return 0;
  r->copy_from = first_new(r, m, skip);
  if (r->copy_from == m->count) return 0;
  int rc = holt__raft_log_reserve(r, m->count - r->copy_from + 2);
  if (rc == 0) rc = holt__raft_log_copy(r, m->entries + r->copy_from, m->count - r->copy_from);
  return rc;
}

static void refuse(struct holt_raft *r, const struct holt_raft_message *m) {
  struct holt_raft_message *reply = &holt__raft_out(r, HOLT_RAFT_APPEND_REPLY, m->from)->message;
  uint64_t last = holt__raft_log_last(r), hint = m->index - 1 < last ? m->index - 1 : last;
  /* Entries of a later term than the leader has there cannot be in its log. */
  while (hint > r->log.base_index && hint > r->commit && holt__raft_log_term(r, hint) > m->log_term) hint--;
  reply->flags = HOLT_RAFT_REJECT;
  reply->index = m->index;
  reply->epoch = m->epoch;
  reply->hint = hint;
  reply->hint_term = holt__raft_log_term(r, hint);
}

static void acknowledge(struct holt_raft *r, const struct holt_raft_message *m, uint64_t index) {
  struct holt_raft_output *out = holt__raft_out(r, HOLT_RAFT_APPEND_REPLY, m->from);
  uint64_t gate = holt__raft_gate(r, index);
  out->message.index = index;
  out->message.epoch = m->epoch;
  if (HOLT_BUG(103) && r->copy_count == 0) gate = 0; /* a repeated append is acknowledged at once */
  if (gate > out->after_seq) out->after_seq = gate;
}

/* Append the new entries, voiding whatever stands in their place. False: a broken invariant. */
static bool take(struct holt_raft *r, const struct holt_raft_message *m) {
  uint64_t from = m->index + 1 + r->copy_from;
  bool conf_changes = false;
  if (from <= holt__raft_log_last(r)) {
    if (from <= r->commit && !HOLT_BUG(10)) {
      holt__raft_fatal(r, "a leader sent other entries in place of committed ones");
      return false;
    }
    conf_changes = r->conf_index >= from && !HOLT_BUG(21); /* roll the membership back */
    holt__raft_log_truncate(r, from);
    if (r->matched >= from) r->matched = from - 1;
  }
  for (size_t i = r->copy_from; i < m->count; i++) {
    struct holt_raft_entry entry = m->entries[i];
    entry.data = holt__raft_log_take_copy(r);
    if (HOLT_BUG(104)) entry.term = m->term; /* stamped anew by the receiver */
    holt__raft_log_push(r, &entry, 0);
    if (entry.type == HOLT_RAFT_CONF) conf_changes = true;
  }
  if (conf_changes) holt__raft_conf_refresh(r);
  return true;
}

void holt__raft_on_append(struct holt_raft *r, const struct holt_raft_message *m) {
  uint64_t prev, prev_term;
  skip_committed(r, m, &prev, &prev_term);
  if (r->is_installing || r->is_failed) return; /* the answer follows once the snapshot stands */
  if (!is_held(r, prev, prev_term)) {
    if (prev <= r->commit && !HOLT_BUG(10) && !HOLT_BUG(105)) {
      holt__raft_fatal(r, "a leader has another entry in place of a committed one");
      return;
    }
    if (!HOLT_BUG(105) || prev > holt__raft_log_last(r)) {
      refuse(r, m);
      return;
    }
  }
  if (r->copy_from < m->count && !take(r, m)) return;
  uint64_t last = m->index + m->count;
  if (last > holt__raft_log_last(r)) last = holt__raft_log_last(r); /* all below the base */
  if (last < r->commit) last = r->commit; /* committed here: this leader has it too */
  if (last > r->matched) r->matched = last;
  uint64_t commit = m->commit < r->matched ? m->commit : r->matched;
  holt__raft_commit_to(r, commit);
  acknowledge(r, m, last);
}

void holt__raft_on_heartbeat(struct holt_raft *r, const struct holt_raft_message *m) {
  uint64_t verified = HOLT_BUG(8) ? holt__raft_log_last(r) : r->matched;
  if (!r->is_installing) holt__raft_commit_to(r, m->commit < verified ? m->commit : verified);
  struct holt_raft_message *reply = &holt__raft_out(r, HOLT_RAFT_HEARTBEAT_REPLY, m->from)->message;
  reply->round = m->round;
  reply->epoch = m->epoch;
  reply->index = r->matched;
}
