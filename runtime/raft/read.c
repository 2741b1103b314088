/* read.c - linearizable reads without the log: ReadIndex (thesis 6.4), on request by lease (6.4.1).
 *
 * - A read takes the commit index of a leader that has committed in its own term, waits until a majority has
 *   answered a heartbeat sent after the read came, and may then be served once that index is applied.
 * - Reads that come while a round is under way share the next one. Followers ask the leader.
 * - The leader falls or is unknown: the read is refused, and may be asked again. */
#include "raft/raft_impl.h"

static bool has_committed_in_term(const struct holt_raft *r) {
  return r->commit >= r->term_start || HOLT_BUG(15);
}

static void answer(struct holt_raft *r, const struct holt__raft_read *read, int code, uint64_t index) {
  if (read->from == 0) {
    holt__raft_done(r, HOLT_RAFT_DONE_READ, read->tag, code, index, r->term);
    return;
  }
  struct holt_raft_message *m = &holt__raft_out(r, HOLT_RAFT_READ_REPLY, read->from)->message;
  m->tag = read->tag;
  m->epoch = read->epoch;
  m->code = code;
  m->index = index;
}

static bool has_lease(const struct holt_raft *r) {
  if (!r->options.lease_reads) return false;
  if (HOLT_BUG(16)) return r->lease_until_ms != 0;
  return !r->is_lease_void && r->now_ms < r->lease_until_ms;
}

void holt__raft_read(struct holt_raft *r, uint64_t from, uint64_t tag, uint64_t epoch) {
  struct holt__raft_read read = {.from = from, .tag = tag, .epoch = epoch};
  if (r->role != HOLT_RAFT_LEADER) {
    if (from != 0 || r->leader == 0) {
      answer(r, &read, from ? HOLT_ENOTLEADER : HOLT_ENOLEADER, 0);
      return;
    }
    struct holt_raft_message *m = &holt__raft_out(r, HOLT_RAFT_READ, r->leader)->message;
    m->tag = tag;
    m->epoch = holt__raft_question(r, r->leader, tag, 1);
    return;
  }
  if (r->read_count >= r->options.reads_max) {
    answer(r, &read, HOLT_EBUSY, 0);
  } else if (has_committed_in_term(r) && has_lease(r)) {
    answer(r, &read, 0, r->commit);
  } else if (HOLT_BUG(116)) {
    answer(r, &read, 0, r->commit); /* believes in its leadership without asking */
  } else {
    r->reads[r->read_count++] = read; /* room was reserved before the step */
  }
}

void holt__raft_on_read_reply(struct holt_raft *r, const struct holt_raft_message *m) {
  if (m->epoch != holt__raft_question(r, m->from, m->tag, 1)) { /* it was not asked */
    r->refused_messages++;
    return;
  }
  holt__raft_done(r, HOLT_RAFT_DONE_READ, m->tag, m->code, m->index, m->term);
}

/* The last heartbeat round that a majority has answered. */
static uint64_t confirmed_round(struct holt_raft *r) {
  uint64_t values[HOLT_RAFT_MEMBERS_MAX] = {0};
  for (uint32_t i = 0; i < r->conf.count; i++) {
    uint64_t id = r->conf.members[i].id;
    const struct holt__raft_progress *p = holt__raft_progress(r, id);
    values[i] = id == r->options.self ? r->round : (p ? p->round_acked : 0);
  }
  return holt__raft_conf_reached(&r->conf, values);
}

static void advance_lease(struct holt_raft *r, uint64_t confirmed) {
  if (r->lease_round == 0 || confirmed < r->lease_round) return;
  r->lease_until_ms = r->lease_sent_ms + (uint64_t)r->options.election_ms * 8 / 10;
  r->lease_round = 0;
}

static void release(struct holt_raft *r, uint64_t confirmed) {
  size_t kept = 0;
  for (size_t i = 0; i < r->read_count; i++) {
    if (r->reads[i].index != 0 && r->reads[i].round <= confirmed)
      answer(r, &r->reads[i], 0, r->reads[i].index);
    else
      r->reads[kept++] = r->reads[i];
  }
  r->read_count = kept;
}

void holt__raft_reads_advance(struct holt_raft *r) {
  uint64_t confirmed = confirmed_round(r);
  advance_lease(r, confirmed);
  if (r->read_count == 0 || !has_committed_in_term(r)) return;
  for (size_t i = r->read_count; i-- > 0 && r->reads[i].index == 0;) {
    r->reads[i].index = r->commit;
    r->reads[i].round = r->round + 1;
  }
  release(r, confirmed);
  if (r->read_count == 0 || r->reads[r->read_count - 1].round <= r->round || confirmed < r->round) return;
  holt__raft_broadcast_heartbeat(r);
  release(r, confirmed_round(r)); /* alone: this member is the majority */
}

void holt__raft_reads_fail(struct holt_raft *r) {
  for (size_t i = 0; i < r->read_count; i++) answer(r, &r->reads[i], HOLT_ENOTLEADER, 0);
  r->read_count = 0;
}
