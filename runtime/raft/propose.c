/* propose.c - entries from callers, here or forwarded once by a follower (thesis 6.2).
 *
 * The leader appends or refuses; a refusal is definite: it was not appended. A follower passes entries on to
 * the leader it knows, and what was passed on is never passed on again. A lost message leaves the caller
 * without an answer: it asks again under the same (client, seq), which is applied once. */
#include "raft/raft_impl.h"

uint64_t holt__raft_stamp(const struct holt_raft *r) {
  uint64_t stamp = r->stamp_base_ms + (r->now_ms - r->elected_ms);
  return stamp > r->stamp_seen_ms ? stamp : r->stamp_seen_ms;
}

static void append(struct holt_raft *r, struct holt_raft_entry entry, uint64_t tag) {
  entry.index = holt__raft_log_last(r) + 1;
  entry.term = r->term;
  entry.stamp_ms = holt__raft_stamp(r);
  r->uncommitted_bytes += entry.len;
  holt__raft_log_push(r, &entry, tag);
}

uint64_t holt__raft_append_own(struct holt_raft *r, uint8_t type, uint8_t *data, uint32_t len, uint64_t tag) {
  append(r, (struct holt_raft_entry){.type = type, .data = data, .len = len}, tag);
  return holt__raft_log_last(r);
}

/* 0, or why the leader takes nothing now. */
static int admission(const struct holt_raft *r, const struct holt_raft_entry *entries, size_t count) {
  if (r->role != HOLT_RAFT_LEADER) return r->leader ? HOLT_ENOTLEADER : HOLT_ENOLEADER;
  if (r->is_failed || r->transfer_to) return HOLT_EBUSY;
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += entries[i].len;
  bool is_full = r->uncommitted_bytes + bytes > r->options.uncommitted_bytes;
  return is_full && r->uncommitted_bytes > 0 ? HOLT_EBUSY : 0; /* a large one passes alone */
}

static void append_all(struct holt_raft *r, const struct holt_raft_entry *entries, size_t count,
                       uint64_t tag) {
  for (size_t i = 0; i < count; i++) {
    struct holt_raft_entry entry = entries[i];
    entry.type = HOLT_RAFT_COMMAND;
    entry.data = holt__raft_log_take_copy(r);
    append(r, entry, tag ? tag + i : 0);
  }
}

static void forward(struct holt_raft *r, const struct holt_raft_entry *entries, uint32_t count,
                    uint64_t tag) {
  struct holt_raft_message *m = &holt__raft_out(r, HOLT_RAFT_FORWARD, r->leader)->message;
  m->entries = entries;
  m->count = count;
  m->tag = tag;
  m->epoch = holt__raft_question(r, r->leader, tag, count);
}

void holt__raft_propose(struct holt_raft *r, const struct holt_raft_event *event) {
  int rc = admission(r, event->entries, event->count);
  if (rc == HOLT_ENOTLEADER) {
    forward(r, event->entries, (uint32_t)event->count, event->tag);
    return;
  }
  uint64_t first = holt__raft_log_last(r) + 1;
  if (rc == 0) append_all(r, event->entries, event->count, event->tag);
  for (size_t i = 0; event->tag && i < event->count; i++)
    holt__raft_done(r, HOLT_RAFT_DONE_PROPOSE, event->tag + i, rc, rc == 0 ? first + i : 0, r->term);
}

void holt__raft_on_forward(struct holt_raft *r, const struct holt_raft_message *m) {
  int rc = admission(r, m->entries, m->count);
  if (HOLT_BUG(35) && rc == HOLT_ENOTLEADER) {
    forward(r, m->entries, m->count, m->tag);
    return;
  }
  uint64_t first = holt__raft_log_last(r) + 1;
  if (rc == 0) append_all(r, m->entries, m->count, 0);
  struct holt_raft_message *reply = &holt__raft_out(r, HOLT_RAFT_FORWARD_REPLY, m->from)->message;
  reply->tag = m->tag;
  reply->epoch = m->epoch;
  reply->code = rc == HOLT_ENOLEADER ? HOLT_ENOTLEADER : rc;
  reply->index = rc == 0 ? first : 0;
  reply->log_term = r->term;
  reply->hint = m->count;
}

void holt__raft_on_forward_reply(struct holt_raft *r, const struct holt_raft_message *m) {
  if (m->tag == 0) return;
  if (m->epoch != holt__raft_question(r, m->from, m->tag, m->hint)) { /* it was not asked */
    r->refused_messages++;
    return;
  }
  for (uint64_t i = 0; i < m->hint; i++)
    holt__raft_done(r, HOLT_RAFT_DONE_PROPOSE, m->tag + i, m->code, m->code == 0 ? m->index + i : 0,
                    m->log_term);
}
