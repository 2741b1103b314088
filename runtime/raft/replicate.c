/* replicate.c - the leader's side of the log: send, count, commit (paper 5.3, 5.4.2; thesis 10.2.1).
 *
 * Toward each member the leader is in one of three states:
 *
 *              accepted                     compacted away
 *      PROBE ------------> REPLICATE        PROBE, REPLICATE ------> SNAPSHOT
 *        ^                     |                                        |
 *        +-- refused, lost ----+            PROBE <---- arrived --------+
 *
 * PROBE: one append at a time, looking for where the logs agree. REPLICATE: a window of appends under way,
 * `next` moves when they are sent. SNAPSHOT: one chunk at a time. What is lost is found by the answer to a
 * heartbeat sent after it: it names how far the member got. */
#include <string.h>

#include "raft/raft_impl.h"

enum { APPENDS_PER_STEP = 2 };

/* --- Progress ------------------------------------------------------------------------------------------ */

struct holt__raft_progress *holt__raft_progress(struct holt_raft *r, uint64_t id) {
  for (size_t i = 0; i < r->progress_count; i++)
    if (r->progress[i].id == id) return &r->progress[i];
  return NULL;
}

static void progress_begin(struct holt_raft *r, struct holt__raft_progress *p,
                           const struct holt_raft_member *m) {
  memset(p, 0, sizeof *p);
  p->id = m->id;
  p->since = m->since;
  p->next = holt__raft_log_last(r) + 1;
  p->heard_ms = r->now_ms;
  p->catch_up_began_ms = r->now_ms;
  p->catch_up_target = holt__raft_log_last(r);
}

void holt__raft_progress_refresh(struct holt_raft *r) {
  size_t kept = 0;
  for (size_t i = 0; i < r->progress_count; i++) {
    int place = holt__raft_conf_find(&r->conf, r->progress[i].id);
    if (place < 0) continue;
    if (r->conf.members[place].since != r->progress[i].since && !HOLT_BUG(25)) continue; /* admitted anew */
    if (kept != i) r->progress[kept] = r->progress[i];
    kept++;
  }
  r->progress_count = kept;
  for (uint32_t i = 0; i < r->conf.count; i++) {
    const struct holt_raft_member *m = &r->conf.members[i];
    if (m->id == r->options.self || holt__raft_progress(r, m->id)) continue;
    progress_begin(r, &r->progress[r->progress_count++], m);
  }
}

static void inflight_clear(struct holt__raft_progress *p) {
  p->inflight_head = p->inflight_count = 0;
  p->inflight_bytes = 0;
}

static void inflight_add(struct holt__raft_progress *p, uint64_t index, uint32_t bytes) {
  uint32_t at = (p->inflight_head + p->inflight_count++) % HOLT_RAFT_INFLIGHT_MAX;
  p->inflight[at].index = index;
  p->inflight[at].bytes = bytes;
  p->inflight_bytes += bytes;
}

static void inflight_free(struct holt__raft_progress *p, uint64_t index) {
  while (p->inflight_count > 0 && p->inflight[p->inflight_head].index <= index) {
    p->inflight_bytes -= p->inflight[p->inflight_head].bytes;
    p->inflight_head = (p->inflight_head + 1) % HOLT_RAFT_INFLIGHT_MAX;
    p->inflight_count--;
  }
}

static bool inflight_is_full(const struct holt_raft *r, const struct holt__raft_progress *p) {
  return p->inflight_count >= r->options.inflight_messages ||
         (p->inflight_count > 0 && p->inflight_bytes >= r->options.inflight_bytes);
}

void holt__raft_probe(struct holt_raft *r, struct holt__raft_progress *p) {
  (void)r;
  p->state = PROGRESS_PROBE;
  p->next = p->match + 1;
  p->is_waiting = false;
  inflight_clear(p);
}

/* --- Leadership ---------------------------------------------------------------------------------------- */

void holt__raft_become_leader(struct holt_raft *r) {
  HOLT_ASSERT(r->role != HOLT_RAFT_LEADER);
  r->role = HOLT_RAFT_LEADER;
  r->leader = r->options.self;
  r->transfer_to = 0;
  r->is_lease_void = r->is_in_the_way = false;
  r->round = r->lease_round = 0;
  r->lease_until_ms = 0;
  r->elected_ms = r->now_ms;
  r->stamp_base_ms = r->stamp_seen_ms;
  r->check_quorum_at_ms = r->now_ms + r->options.election_ms;
  r->progress_count = 0;
  holt__raft_progress_refresh(r);
  r->uncommitted_bytes = 0;
  for (uint64_t i = r->commit + 1; i <= holt__raft_log_last(r); i++)
    r->uncommitted_bytes += holt__raft_log_at(r, i)->len;
  if (HOLT_BUG(1)) {
    r->term_start = holt__raft_log_last(r);
    holt__raft_broadcast_heartbeat(r);
    return;
  }
  r->term_start = holt__raft_append_own(r, HOLT_RAFT_NOOP, NULL, 0, 0);
  holt__raft_broadcast_heartbeat(r);
}

/* Voters whose word is younger than an election time-out, this member included. */
bool holt__raft_has_quorum(const struct holt_raft *r) {
  uint32_t heard = 0;
  for (uint32_t i = 0; i < r->conf.count; i++) {
    uint64_t id = r->conf.members[i].id;
    const struct holt__raft_progress *p = holt__raft_progress((struct holt_raft *)(uintptr_t)r, id);
    if (id == r->options.self || (p && r->now_ms < p->heard_ms + r->options.election_ms)) heard |= 1u << i;
  }
  return holt__raft_conf_majority(&r->conf, heard);
}

void holt__raft_broadcast_heartbeat(struct holt_raft *r) {
  r->round++;
  r->round_sent_ms = r->now_ms;
  r->heartbeat_at_ms = r->now_ms + r->options.heartbeat_ms;
  r->transfer_sent = false; /* what the heir was told may be lost: it is told again */
  if (r->lease_round == 0) {
    r->lease_round = r->round;
    r->lease_sent_ms = r->now_ms;
  }
  for (size_t i = 0; i < r->progress_count; i++) {
    struct holt_raft_message *m = &holt__raft_out(r, HOLT_RAFT_HEARTBEAT, r->progress[i].id)->message;
    m->commit = r->commit;
    m->round = r->round;
    m->epoch = r->progress[i].since;
  }
}

/* --- Sending ------------------------------------------------------------------------------------------- */

static uint32_t batch(const struct holt_raft *r, uint64_t from, uint32_t *bytes) {
  uint32_t count = 0;
  *bytes = 0;
  for (const struct holt_raft_entry *e; (e = holt__raft_log_at(r, from + count)) != NULL; count++) {
    if (count > 0 && *bytes + e->len > r->options.append_bytes) break;
    if (count == HOLT_RAFT_APPEND_ENTRIES_MAX) break;
    *bytes += e->len;
  }
  return count;
}

static void send_append(struct holt_raft *r, struct holt__raft_progress *p, bool is_empty) {
  uint32_t bytes = 0, count = is_empty ? 0 : batch(r, p->next, &bytes);
  struct holt_raft_message *m = &holt__raft_out(r, HOLT_RAFT_APPEND, p->id)->message;
  m->index = p->next - 1;
  m->log_term = holt__raft_log_term(r, p->next - 1);
  m->commit = r->commit;
  m->epoch = p->since;
  m->entries = count ? holt__raft_log_at(r, p->next) : NULL;
  m->count = count;
  p->commit_sent = r->commit;
  p->sent_round = r->round;
  if (p->state == PROGRESS_PROBE) {
    p->is_waiting = true;
  } else if (count > 0) {
    p->next += count;
    inflight_add(p, p->next - 1, bytes);
  }
}

/* Send what the member's state and window allow. */
static void pump(struct holt_raft *r, struct holt__raft_progress *p) {
  if (p->state != PROGRESS_SNAPSHOT && p->next <= r->log.base_index) {
    if (r->snapshot.index < r->log.base_index) return; /* never: compaction follows a snapshot */
    p->state = PROGRESS_SNAPSHOT;
    p->snapshot_index = 0;
    p->is_waiting = false;
    inflight_clear(p);
  }
  if (p->state == PROGRESS_SNAPSHOT) {
    if (!p->is_waiting) holt__raft_send_snapshot(r, p);
    return;
  }
  if (p->state == PROGRESS_PROBE) {
    if (!p->is_waiting) send_append(r, p, false);
    return;
  }
  uint64_t last = holt__raft_log_last(r);
  bool is_sent = false;
  for (int i = 0; i < APPENDS_PER_STEP && p->next <= last && !inflight_is_full(r, p); i++, is_sent = true)
    send_append(r, p, false);
  if (!is_sent && p->commit_sent < r->commit) send_append(r, p, true);
}

/* --- Counting ------------------------------------------------------------------------------------------ */

/* An entry counts once a majority of each half holds it durably, this member as well; and only one of the
 * present term, which then carries all before it (paper 5.4.2, figure 8). */
static void advance_commit(struct holt_raft *r) {
  uint64_t values[HOLT_RAFT_MEMBERS_MAX] = {0};
  for (uint32_t i = 0; i < r->conf.count; i++) {
    uint64_t id = r->conf.members[i].id;
    const struct holt__raft_progress *p = holt__raft_progress(r, id);
    values[i] =
        id == r->options.self ? (HOLT_BUG(12) ? holt__raft_log_last(r) : r->stable) : (p ? p->match : 0);
  }
  uint64_t reached = holt__raft_conf_reached(&r->conf, values);
  if (reached <= r->commit) return;
  if (holt__raft_log_term(r, reached) != r->term && !HOLT_BUG(1)) return;
  holt__raft_commit_to(r, reached);
}

void holt__raft_lead(struct holt_raft *r) {
  advance_commit(r);
  holt__raft_members_advance(r);
  if (r->role != HOLT_RAFT_LEADER) return;
  holt__raft_transfer_advance(r);
  if (r->role != HOLT_RAFT_LEADER) return;
  holt__raft_reads_advance(r);
  for (size_t i = 0; i < r->progress_count; i++) pump(r, &r->progress[i]);
}

/* --- Answers ------------------------------------------------------------------------------------------- */

/* The last index up to `index` whose term is at most `term`: nothing after it can be in a log that has `term`
 * there (the acceleration of paper 5.3, a term at a time). */
static uint64_t last_at_term(const struct holt_raft *r, uint64_t index, uint64_t term) {
  uint64_t low = r->log.base_index, high = index < holt__raft_log_last(r) ? index : holt__raft_log_last(r);
  if (high <= low) return low < index ? low : index;
  while (low < high) {
    uint64_t middle = low + (high - low + 1) / 2;
    if (holt__raft_log_term(r, middle) <= term)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

static void on_refused(struct holt_raft *r, struct holt__raft_progress *p,
                       const struct holt_raft_message *m) {
  if (m->index <= p->match || p->state == PROGRESS_SNAPSHOT) return; /* overtaken by an acceptance */
  if (p->state == PROGRESS_PROBE && m->index != p->next - 1) return; /* an older probe's */
  uint64_t next = m->index;
  if (m->hint < m->index) next = last_at_term(r, m->hint, m->hint_term) + 1;
  holt__raft_probe(r, p);
  if (next > p->next) p->next = next;
}

void holt__raft_on_append_reply(struct holt_raft *r, const struct holt_raft_message *m) {
  struct holt__raft_progress *p = holt__raft_progress(r, m->from);
  if (!p || (m->epoch != p->since && !HOLT_BUG(25))) return; /* of an earlier admission */
  p->heard_ms = r->now_ms;
  if (m->index > holt__raft_log_last(r)) {
    r->refused_messages++;
    return;
  }
  if (m->flags & HOLT_RAFT_REJECT) {
    on_refused(r, p, m);
    return;
  }
  if (m->index > p->match) p->match = m->index;
  inflight_free(p, p->match);
  if (p->next <= p->match) p->next = p->match + 1;
  if (p->state == PROGRESS_REPLICATE) return;
  if (p->state == PROGRESS_SNAPSHOT && p->match < r->log.base_index) {
    if (p->match < p->snapshot_index) return;
    p->snapshot_index = 0; /* it has all of it, but the log went on without it: a newer one */
    p->is_waiting = false;
    return;
  }
  p->state = PROGRESS_REPLICATE;
  p->is_waiting = false;
  inflight_clear(p);
  p->next = p->match + 1;
}

void holt__raft_on_heartbeat_reply(struct holt_raft *r, const struct holt_raft_message *m) {
  struct holt__raft_progress *p = holt__raft_progress(r, m->from);
  if (!p || m->epoch != p->since) return;
  if (m->index > holt__raft_log_last(r) || m->round > r->round) {
    r->refused_messages++;
    return;
  }
  p->heard_ms = r->now_ms;
  if (m->round > p->round_acked) p->round_acked = m->round;
  if (m->round <= p->sent_round) return; /* what was sent last may still be under way */
  if (p->state != PROGRESS_REPLICATE) {
    p->is_waiting = false; /* the probe or chunk, or its answer, was lost */
    return;
  }
  uint64_t got = m->index > p->match ? m->index : p->match;
  if (got + 1 < p->next) { /* appends were lost: go on behind what arrived */
    p->next = got + 1;
    inflight_clear(p);
  } else if (p->match + 1 < p->next) { /* all arrived, not all acknowledged: the answer may be lost */
    send_append(r, p, true);
  } else if (m->index < p->match) { /* it began anew, and does not know how much of its log is ours */
    send_append(r, p, true);
  }
}
