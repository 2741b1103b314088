/* snapshot.c - instead of the log: taken here, sent in chunks, received (paper 7; thesis 5).
 *
 * - The driver takes snapshots of what it applied, makes them durable and tells; the log before them may go.
 * - A member that needs what is gone receives the snapshot, one chunk at a time; each answer names the next
 *   byte it wants, so lost, repeated and restarted transfers all mend themselves.
 * - The receiver collects, lets the driver store and restore, and only then replaces its log. Meanwhile it
 *   takes no entries. Chunks of different leaders are never mixed: their bytes may differ. */
#include <string.h>

#include "raft/raft_impl.h"

/* --- Sending ------------------------------------------------------------------------------------------- */

static bool is_alive(const struct holt_raft *r, const struct holt__raft_progress *p) {
  return r->now_ms < p->heard_ms + 2 * (uint64_t)r->options.election_ms;
}

static bool is_being_sent(const struct holt_raft *r) {
  if (r->role != HOLT_RAFT_LEADER || r->sending.index == 0) return false;
  for (size_t i = 0; i < r->progress_count; i++) {
    const struct holt__raft_progress *p = &r->progress[i];
    if (p->state == PROGRESS_SNAPSHOT && p->snapshot_index == r->sending.index && is_alive(r, p)) return true;
  }
  return false;
}

/* Where a living member that is catching up by the log has got to, when that lies before `to`. */
static uint64_t slowest(const struct holt_raft *r, uint64_t to) {
  for (size_t i = 0; i < r->progress_count && r->role == HOLT_RAFT_LEADER; i++) {
    const struct holt__raft_progress *p = &r->progress[i];
    bool is_by_log = p->state != PROGRESS_SNAPSHOT && p->match >= r->log.base_index;
    if (is_by_log && is_alive(r, p) && p->match < to) to = p->match;
  }
  return to;
}

void holt__raft_send_snapshot(struct holt_raft *r, struct holt__raft_progress *p) {
  if (p->snapshot_index == 0 || p->snapshot_index != r->sending.index) {
    /* One snapshot at a time, so that its bytes are kept for all; a newer one when the log has gone on. */
    if (!is_being_sent(r) || r->sending.index < r->log.base_index) r->sending = r->snapshot;
    p->snapshot_index = r->sending.index;
    p->offset = 0;
  }
  uint64_t left = r->sending.size_bytes - p->offset;
  struct holt_raft_message *m = &holt__raft_out(r, HOLT_RAFT_SNAPSHOT, p->id)->message;
  m->snapshot = &r->sending;
  m->offset = p->offset;
  m->len = left < r->options.chunk_bytes ? (uint32_t)left : r->options.chunk_bytes;
  m->epoch = p->since;
  p->is_waiting = true;
  p->sent_round = r->round;
}

void holt__raft_on_snapshot_reply(struct holt_raft *r, const struct holt_raft_message *m) {
  struct holt__raft_progress *p = holt__raft_progress(r, m->from);
  if (!p || m->epoch != p->since) return;
  p->heard_ms = r->now_ms;
  if (p->state != PROGRESS_SNAPSHOT || m->index != p->snapshot_index) return;
  if (m->offset > r->sending.size_bytes) {
    r->refused_messages++;
    return;
  }
  if (HOLT_BUG(27) && m->offset < p->offset) return; /* a restarted receiver is not understood */
  p->offset = m->offset;
  p->is_waiting = p->offset == r->sending.size_bytes; /* it installs: a heartbeat asks again */
}

/* --- Receiving ----------------------------------------------------------------------------------------- */

static void want(struct holt_raft *r, const struct holt_raft_message *m, uint64_t offset) {
  struct holt_raft_message *reply = &holt__raft_out(r, HOLT_RAFT_SNAPSHOT_REPLY, m->from)->message;
  reply->index = m->snapshot->index;
  reply->offset = offset;
  reply->epoch = m->epoch;
}

static void acknowledge(struct holt_raft *r, uint64_t to, uint64_t epoch, uint64_t index) {
  struct holt_raft_output *out = holt__raft_out(r, HOLT_RAFT_APPEND_REPLY, to);
  uint64_t gate = holt__raft_gate(r, index);
  out->message.index = index;
  out->message.epoch = epoch;
  if (gate > out->after_seq) out->after_seq = gate;
}

static bool is_same(const struct holt_raft_snapshot *a, const struct holt_raft_snapshot *b) {
  return a->index == b->index && a->term == b->term && a->size_bytes == b->size_bytes;
}

void holt__raft_on_snapshot(struct holt_raft *r, const struct holt_raft_message *m) {
  if (r->is_failed) return;
  if (r->is_installing) {
    if (is_same(&r->incoming, m->snapshot)) {
      r->incoming_epoch = m->epoch;
      want(r, m, r->incoming.size_bytes);
    }
    return;
  }
  if (m->snapshot->index <= r->commit &&
      !HOLT_BUG(28)) { /* late: all of it is here, and in the leader's log */
    if (r->matched < r->commit) r->matched = r->commit;
    acknowledge(r, m->from, m->epoch, r->commit);
    return;
  }
  if (!is_same(&r->incoming, m->snapshot)) {
    if (m->offset != 0) {
      want(r, m, 0);
      return;
    }
    r->incoming = *m->snapshot;
    r->incoming_offset = 0;
  }
  if (m->offset != r->incoming_offset) {
    want(r, m, r->incoming_offset);
    return;
  }
  r->part =
      (struct holt_raft_part){.snapshot = &r->incoming, .offset = m->offset, .data = m->data, .len = m->len};
  r->incoming_offset += m->len;
  r->incoming_epoch = m->epoch;
  r->part.is_last = r->is_installing = r->incoming_offset == r->incoming.size_bytes;
  want(r, m, r->incoming_offset);
}

/* The log holds the snapshot's last entry: keep what follows it. Else nothing of the log can be trusted. */
static void install(struct holt_raft *r) {
  uint64_t index = r->incoming.index;
  bool is_kept = index <= holt__raft_log_last(r) && holt__raft_log_term(r, index) == r->incoming.term;
  if (HOLT_BUG(26)) is_kept = index <= holt__raft_log_last(r);
  r->snapshot = r->incoming;
  r->snapshot_changed = true;
  if (r->incoming.stamp_ms > r->stamp_seen_ms) r->stamp_seen_ms = r->incoming.stamp_ms;
  if (!is_kept) {
    r->is_reset = true;
    r->persist_from = r->truncate_from = 0;
  }
  holt__raft_log_compact(r, is_kept ? index : UINT64_MAX, r->incoming.term);
  if (!is_kept) {
    r->log.base_index = index;
    r->stable = index;
  }
  r->reset_seq = r->seq + 1;
  r->commit = r->applied = index;
  if (r->matched < index) r->matched = index;
  if (!HOLT_BUG(22)) holt__raft_conf_refresh(r);
}

int holt__raft_snapshot_stored(struct holt_raft *r, int code) {
  if (!r->is_installing) return HOLT_EINVAL;
  r->is_installing = false;
  if (code == 0) {
    install(r);
    if (r->leader && r->role == HOLT_RAFT_FOLLOWER)
      acknowledge(r, r->leader, r->incoming_epoch, r->incoming.index);
  }
  r->incoming.index = 0;
  r->incoming_offset = 0;
  return 0;
}

/* --- Taken here ---------------------------------------------------------------------------------------- */

const struct holt_raft_snapshot *holt_raft_newest_snapshot(const struct holt_raft *r) {
  return &r->snapshot;
}

int holt_raft_snapshot_at(const struct holt_raft *r, uint64_t index, struct holt_raft_snapshot *out) {
  const struct holt_raft_entry *entry = holt__raft_log_at(r, index);
  if (!entry || index > r->commit) return HOLT_ENOTFOUND;
  memset(out, 0, sizeof *out);
  out->index = index;
  out->term = entry->term;
  out->stamp_ms = entry->stamp_ms;
  if (HOLT_BUG(121)) index = holt__raft_log_last(r); /* a membership not committed yet gets into it */
  holt__raft_conf_at(r, index, &out->conf, &out->conf_index);
  return 0;
}

int holt__raft_snapshot_taken(struct holt_raft *r, const struct holt_raft_snapshot *snapshot) {
  if (snapshot->index <= r->snapshot.index || snapshot->index > r->applied) return HOLT_EINVAL;
  if (r->is_installing || holt__raft_log_term(r, snapshot->index) != snapshot->term) return HOLT_EINVAL;
  r->snapshot = *snapshot;
  r->snapshot_changed = true;
  uint64_t keep = r->options.keep_entries, to = snapshot->index > keep ? snapshot->index - keep : 0;
  if (is_being_sent(r) && r->sending.index < to)
    to = r->sending.index; /* its receiver needs what follows it */
  /* Whoever has just received a state is far behind; another one would put it behind again. But only as long
   * as the log takes less room than the state. */
  if (r->log.bytes <= snapshot->size_bytes) to = slowest(r, to);
  if (to > r->log.base_index) holt__raft_log_compact(r, to, holt__raft_log_term(r, to));
  return 0;
}
