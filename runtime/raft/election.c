/* election.c - who leads: time-outs, pre-votes, votes (paper 5.2, 5.4.1; thesis 4.2.3, 9.6).
 *
 * A member that has not heard its leader for a drawn time-out asks whether it could win (pre-vote, no term
 * moves); with a majority it stands for election in the next term. A voter gives one vote a term, to a
 * candidate whose log is at least as long as its own, and none while it hears a leader. Votes and terms are
 * durable before any message that depends on them leaves (holt__raft_out).
 *
 * A voter that never leads may be the only one left with what is committed. Once it has refused a vote for
 * that reason, and nobody else has won for a while, it stands for election all the same: as a leader it sends
 * the others what they lack, and hands over to one that may lead (give_way in member.c). */
#include "raft/raft_impl.h"

static uint8_t best_priority(const struct holt_raft_conf *conf) {
  uint8_t best = 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt_raft_member *m = &conf->members[i];
    if (m->can_lead && m->role != HOLT_RAFT_LEARNER && m->priority > best) best = m->priority;
  }
  return best;
}

/* Drawn from [T, 2T); each step of priority below the best waits half a T more, at most 2T. */
void holt__raft_reset_election_timer(struct holt_raft *r) {
  uint64_t election = r->options.election_ms, wait = election + holt_rand_below(&r->rand, election);
  int self = holt__raft_conf_find(&r->conf, r->options.self);
  if (self >= 0) {
    uint64_t behind = best_priority(&r->conf) - (r->conf.members[self].priority < best_priority(&r->conf)
                                                     ? r->conf.members[self].priority
                                                     : best_priority(&r->conf));
    uint64_t more = behind * election / 2;
    wait += more < 2 * election ? more : 2 * election;
  }
  r->election_at_ms = r->now_ms + wait;
}

/* A member that a change takes out may be the only one with the entries that finish it: until the change is
 * committed it stands for election under the membership before it (thesis 4.2.2, figure 4.6). */
bool holt__raft_may_campaign(const struct holt_raft *r) {
  struct holt_raft_conf before;
  const struct holt_raft_conf *conf = &r->conf;
  int self = holt__raft_conf_find(conf, r->options.self);
  if (r->is_failed || r->is_installing || holt__raft_is_stalled(r)) return false;
  if (!holt__raft_member_votes(conf, self) && r->conf_index > r->commit) {
    uint64_t index;
    holt__raft_conf_at(r, r->conf_index - 1, &before,
                       &index); /* not the commit index: that is lost by a restart */
    conf = &before;
    self = holt__raft_conf_find(conf, r->options.self);
  }
  return holt__raft_member_votes(conf, self) && (conf->members[self].can_lead || r->is_in_the_way);
}

bool holt__raft_is_loyal(const struct holt_raft *r) {
  if (HOLT_BUG(18)) return false;
  if (r->now_ms < r->quiet_until_ms) return true;
  if (r->role == HOLT_RAFT_LEADER) return true; /* check-quorum ends that in time */
  /* A lease rests on this promise, also when a later term made this member forget whom it heard. */
  bool is_bound = r->leader != 0 || r->options.lease_reads;
  return is_bound && r->has_heard && r->now_ms < r->heard_ms + r->options.election_ms;
}

void holt__raft_become_follower(struct holt_raft *r, uint64_t term, uint64_t leader) {
  HOLT_ASSERT(term >= r->term);
  if (r->role == HOLT_RAFT_LEADER) holt__raft_reads_fail(r);
  bool is_new = term > r->term || r->leader != leader;
  /* Also when the same member leads on in a later term: it may have lost what it sent before. */
  bool is_other = HOLT_BUG(131) ? r->leader != leader : is_new;
  if (is_other || r->role != HOLT_RAFT_FOLLOWER || leader == 0) r->matched = 0;
  if (term > r->term) {
    r->term = term;
    r->vote = 0;
    r->vote_changed = true;
  }
  if (is_new && !r->is_installing && !HOLT_BUG(128))
    r->incoming.index = 0; /* chunks of two leaders never mix */
  r->role = HOLT_RAFT_FOLLOWER;
  r->leader = leader;
  r->transfer_to = 0;
  holt__raft_reset_election_timer(r);
}

/* Whether a log that ends in (term, index) has all that ours has, as far as anybody can tell. */
static bool is_up_to_date(const struct holt_raft *r, uint64_t log_term, uint64_t index) {
  uint64_t last_term = holt__raft_log_last_term(r), last = holt__raft_log_last(r);
  if (HOLT_BUG(6)) return index >= last;
  if (HOLT_BUG(106)) return index >= r->commit; /* compared with the commit index */
  return log_term > last_term || (log_term == last_term && index >= last);
}

/* Those that may lead and have as much get their chance first. */
static void note_in_the_way(struct holt_raft *r) {
  int self = holt__raft_conf_find(&r->conf, r->options.self);
  if (r->is_in_the_way || self < 0 || r->conf.members[self].can_lead) return;
  r->is_in_the_way = true;
  holt__raft_reset_election_timer(r);
  r->election_at_ms += 2 * (uint64_t)r->options.election_ms;
}

static void won(struct holt_raft *r) {
  if (r->role == HOLT_RAFT_PRE_CANDIDATE)
    holt__raft_campaign(r, false, false);
  else
    holt__raft_become_leader(r);
}

static void count_votes(struct holt_raft *r) {
  if (holt__raft_conf_majority(&r->conf, r->granted))
    won(r);
  else if (holt__raft_conf_blocked(&r->conf, r->refused))
    holt__raft_become_follower(r, r->term, 0);
}

void holt__raft_campaign(struct holt_raft *r, bool is_pre, bool is_transfer) {
  int self = holt__raft_conf_find(&r->conf, r->options.self); /* -1: on its way out */
  r->leader = 0;
  r->matched = 0;
  r->role = is_pre ? HOLT_RAFT_PRE_CANDIDATE : HOLT_RAFT_CANDIDATE;
  if (!is_pre) {
    r->term++;
    r->vote = r->options.self;
    r->vote_changed = true;
  }
  r->granted = self >= 0 ? 1u << self : 0;
  r->refused = 0;
  holt__raft_reset_election_timer(r);
  if (holt__raft_conf_majority(&r->conf, r->granted)) {
    won(r);
    return;
  }
  for (uint32_t i = 0; i < r->conf.count; i++) {
    if ((int)i == self || !holt__raft_member_votes(&r->conf, (int)i)) continue;
    struct holt_raft_message *m = &holt__raft_out(r, HOLT_RAFT_VOTE, r->conf.members[i].id)->message;
    m->term = r->term + (is_pre ? 1 : 0);
    m->index = holt__raft_log_last(r);
    m->log_term = holt__raft_log_last_term(r);
    m->flags = (uint8_t)((is_pre ? HOLT_RAFT_PRE : 0) | (is_transfer ? HOLT_RAFT_TRANSFER : 0));
  }
}

static void answer_vote(struct holt_raft *r, const struct holt_raft_message *m, bool is_granted) {
  bool is_pre = m->flags & HOLT_RAFT_PRE;
  struct holt_raft_output *out = holt__raft_out(r, HOLT_RAFT_VOTE_REPLY, m->from);
  out->message.flags = (uint8_t)((is_pre ? HOLT_RAFT_PRE : 0) | (is_granted ? 0 : HOLT_RAFT_REJECT));
  if (is_pre && is_granted) out->message.term = m->term; /* the term asked about */
}

/* Asked by somebody in our term or a later one. Learners answer as well: they may have been made voters
 * without having heard of it yet. */
void holt__raft_on_vote(struct holt_raft *r, const struct holt_raft_message *m) {
  bool is_pre = m->flags & HOLT_RAFT_PRE;
  if (r->is_failed || r->is_installing) return;
  if (m->term < r->term) {
    if (!HOLT_BUG(17)) answer_vote(r, m, false); /* so that it learns the term (etcd issues 8243, 8501) */
    return;
  }
  if (!(m->flags & HOLT_RAFT_TRANSFER) && holt__raft_is_loyal(r)) {
    if (is_pre) answer_vote(r, m, false);
    return;
  }
  if (r->now_ms < r->quiet_until_ms) return;
  if (is_pre) {
    bool could = m->term > r->term || (m->term == r->term && (r->vote == 0 || r->vote == m->from));
    bool has_all = is_up_to_date(r, m->log_term, m->index);
    if (!has_all) note_in_the_way(r);
    answer_vote(r, m, could && has_all);
    return;
  }
  if (m->term > r->term) holt__raft_become_follower(r, m->term, 0);
  bool is_free = r->vote == 0 || r->vote == m->from || HOLT_BUG(102);
  bool is_asking = r->role == HOLT_RAFT_FOLLOWER || r->role == HOLT_RAFT_PRE_CANDIDATE;
  bool is_granted = is_free && is_asking && r->leader == 0 && is_up_to_date(r, m->log_term, m->index);
  if (is_granted && r->vote != m->from) {
    r->vote = m->from;
    r->vote_changed = true;
  }
  if (is_granted) holt__raft_become_follower(r, r->term, 0);
  answer_vote(r, m, is_granted);
}

void holt__raft_on_vote_reply(struct holt_raft *r, const struct holt_raft_message *m) {
  bool is_pre = m->flags & HOLT_RAFT_PRE, is_refused = m->flags & HOLT_RAFT_REJECT;
  if (is_pre && r->role != HOLT_RAFT_PRE_CANDIDATE) return;
  if (!is_pre && r->role != HOLT_RAFT_CANDIDATE) return;
  if (is_pre && !is_refused && m->term != r->term + 1) return; /* an answer to an older question */
  int place = holt__raft_conf_find(&r->conf, m->from);
  if (!holt__raft_member_votes(&r->conf, place)) return;
  uint32_t bit = 1u << place;
  if (is_refused)
    r->refused |= bit & ~r->granted;
  else
    r->granted |= bit;
  count_votes(r);
}
