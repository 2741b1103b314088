/* raft_recover.c - after the faults: the cluster must come back by itself, settle, and be quiet.
 *
 * 1. All faults end, all processes run. A leader is known within ten election time-outs.
 * 2. A new proposal commits.
 * 3. Lost members are replaced; all members reach the same index, learners as well.
 * 4. Then nothing happens but heartbeats: no election, no snapshot, no more messages than heartbeats need.
 * At the end the histories of all clients must be those of one map and one queue. */
#include "base/err.h"
#include "sim/raft_sim_impl.h"

typedef unsigned long long ull;

enum { LEADER = 1, PROBE, CONVERGE, SETTLE, IDLE };

static void enter(struct rsim *w, unsigned phase, uint64_t elections) {
  w->phase = phase;
  w->phase_end_us = w->now_us + elections * 2000u * w->config.election_ms;
}

void holt__rsim_recover(struct rsim *w) {
  RSIM_SAY(w, "--- all faults end, after %llu events", (ull)w->event_count);
  w->is_healing = true;
  holt__rsim_heal_all(w);
  enter(w, LEADER, 10);
  holt__rsim_at(w, 1000, (struct rsim_event){.type = RSIM_CHECK});
}

/* How everybody stands, for the transcript. */
static void say_all(struct rsim *w) {
  static const char *const roles[] = {"", "voter", "learner", "incoming", "outgoing", "demoted"};
  for (unsigned i = 0; i < w->host_count; i++) {
    const struct rsim_host *h = &w->hosts[i];
    RSIM_SAY(w,
             "n%u(%llx)%s: role %d, term %llu, leader %llx, log %llu to %llu, committed %llu, applied %llu",
             i, (ull)h->self->id, h->is_up ? "" : " down", (int)h->role, (ull)h->term, (ull)h->leader,
             (ull)h->log.base, (ull)holt__rsim_log_last(&h->log), (ull)h->commit, (ull)h->fsm.index);
    if (h->is_up)
      RSIM_SAY(w, "    %zu writes under way, snapshot of %llu, %s, %s", h->self->disk.write_count,
               (ull)h->self->disk.snapshot_index,
               h->taking.bytes != NULL ? "another being written" : "none being written",
               holt_raft_driver_has_work(&h->driver) ? "more to apply" : "all applied");
    for (uint32_t k = 0; k < h->conf.count; k++) {
      const struct holt_raft_member *m = &h->conf.members[k];
      const struct rsim_incarnation *member = holt_map_get(&w->by_id, m->id);
      RSIM_SAY(w, "    %llx %s%s%s, priority %u%s", (ull)m->id, roles[m->role],
               m->will_vote ? ", to vote" : "", m->can_lead ? "" : ", never leads", m->priority,
               member->is_lost ? ", lost" : "");
    }
  }
}

static void say_lanes(struct rsim *w) {
  for (unsigned c = 0; c < w->config.clients; c++)
    for (unsigned l = 0; l < RSIM_LANES; l++)
      if (w->clients[c].lanes[l].is_busy)
        RSIM_SAY(w, "client %u waits for the answer of operation %llu, asked %u times", c,
                 (ull)w->clients[c].lanes[l].seq, w->clients[c].lanes[l].attempts);
}

static void fail_late(struct rsim *w, const char *what) {
  struct rsim_host *leader = holt__rsim_leader(w);
  if (w->config.line != NULL) say_all(w);
  if (w->config.line != NULL) say_lanes(w);
  holt__rsim_fail(w, "liveness", "%s: leader n%d, term %llu, committed %llu", what,
                  leader == NULL ? -1 : (int)leader->place, leader == NULL ? 0 : (ull)leader->term,
                  (ull)w->committed_max);
}

/* A leader whose word a majority takes. */
static bool has_leader(struct rsim *w) {
  struct rsim_host *leader = holt__rsim_leader(w);
  if (leader == NULL) return false;
  unsigned voters = 0, agree = 0;
  for (uint32_t i = 0; i < leader->conf.count; i++) {
    const struct holt_raft_member *m = &leader->conf.members[i];
    if (m->role == HOLT_RAFT_LEARNER) continue;
    const struct rsim_incarnation *member = holt_map_get(&w->by_id, m->id);
    const struct rsim_host *h = &w->hosts[member->host];
    voters++;
    agree += h->is_up && h->self == member && h->term == leader->term && h->leader == leader->self->id;
  }
  return agree * 2 > voters;
}

static void probe(struct rsim *w) {
  struct rsim_host *leader = holt__rsim_leader(w);
  uint8_t command[RSIM_COMMAND_BYTES] = {RSIM_NOISE};
  struct holt_raft_entry entry = {.type = HOLT_RAFT_COMMAND, .data = command, .len = sizeof command};
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_PROPOSE, .entries = &entry, .count = 1};
  if (leader == NULL) return;
  event.now_ms = holt__rsim_host_now(w, leader);
  holt__rsim_host_after(w, leader, holt_raft_driver_step(&leader->driver, &event));
  w->probe_index = holt__rsim_log_last(&leader->log);
  w->probe_term = leader->term;
}

/* Every member runs, none is lost, no change is under way, and all have applied all. */
static bool has_converged(struct rsim *w) {
  struct rsim_host *leader = holt__rsim_leader(w);
  if (leader == NULL || leader->conf.is_joint) return false;
  uint64_t last = holt__rsim_log_last(&leader->log);
  for (uint32_t i = 0; i < leader->conf.count; i++) {
    const struct holt_raft_member *m = &leader->conf.members[i];
    const struct rsim_incarnation *member = holt_map_get(&w->by_id, m->id);
    const struct rsim_host *h = &w->hosts[member->host];
    if (!h->is_up || h->self != member || h->fsm.index != last || m->will_vote) return false;
  }
  return leader->commit == last;
}

static bool is_anything_under_way(const struct rsim *w) {
  for (unsigned c = 0; c < w->config.clients; c++)
    for (unsigned l = 0; l < RSIM_LANES; l++)
      if (w->clients[c].lanes[l].is_busy) return true;
  for (unsigned i = 0; i < w->host_count; i++)
    if (w->hosts[i].is_up && (w->hosts[i].self->disk.write_count > 0 || w->hosts[i].taking.bytes != NULL))
      return true;
  return false;
}

static void begin_idle(struct rsim *w) {
  enter(w, IDLE, 10);
  w->messages_at = w->result->messages;
  w->elections_at = w->result->elections;
  w->snapshots_at = 0;
}

static void end_idle(struct rsim *w) {
  struct rsim_host *leader = holt__rsim_leader(w);
  uint64_t rounds = 20 * w->config.election_ms / w->config.heartbeat_ms + 2;
  uint64_t allowed = rounds * (2 * leader->conf.count + 2 * (w->host_count - leader->conf.count + 1)) + 50;
  uint64_t sent = w->result->messages - w->messages_at;
  if (w->result->elections != w->elections_at) fail_late(w, "a quiet cluster elected another leader");
  if (w->snapshots_at > 0) fail_late(w, "a quiet cluster goes on sending snapshots");
  if (sent > allowed)
    holt__rsim_fail(w, "idle_messages", "a quiet cluster of %u sent %llu messages, %llu would do",
                    leader->conf.count, (ull)sent, (ull)allowed);
  w->is_done = true;
}

void holt__rsim_recover_step(struct rsim *w) {
  bool is_late = w->now_us >= w->phase_end_us;
  switch (w->phase) {
  case LEADER:
    if (has_leader(w)) {
      enter(w, PROBE, 10);
      probe(w);
    } else if (is_late) {
      fail_late(w, "no leader within ten election time-outs");
    }
    break;
  case PROBE: {
    struct rsim_host *leader = holt__rsim_leader(w);
    if (leader != NULL && leader->term != w->probe_term)
      probe(w); /* what the last one was given may be lost */
    if (leader != NULL && leader->term == w->probe_term && leader->commit >= w->probe_index)
      enter(w, CONVERGE, 300);
    else if (is_late)
      fail_late(w, "a new proposal does not commit");
    break;
  }
  case CONVERGE:
    if (has_converged(w) && !is_anything_under_way(w))
      enter(w, SETTLE, 1);
    else if (is_late)
      fail_late(w, "the members do not reach the same state");
    break;
  case SETTLE: /* the last messages may have overtaken each other */
    if (is_late) begin_idle(w);
    break;
  case IDLE:
    if (is_late) end_idle(w);
    break;
  default:
    HOLT_ASSERT(false);
  }
  if (!w->is_done) holt__rsim_at(w, w->config.heartbeat_ms * 500u, (struct rsim_event){.type = RSIM_CHECK});
}

void holt__rsim_verdict(struct rsim *w) {
  struct holt_verdict verdict;
  holt_history_check_fifo(&w->history, &verdict);
  if (verdict.kind == HOLT_VERDICT_OK) holt_history_check_map(&w->history, 200000, &verdict);
  w->result->undecided += verdict.undecided_count;
  if (verdict.kind != HOLT_VERDICT_OK && verdict.kind != HOLT_VERDICT_UNDECIDED)
    holt__rsim_fail(w, holt_verdict_word(verdict.kind), "%s", verdict.why);
}
