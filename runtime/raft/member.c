/* member.c - changes of membership and of leadership (thesis 3.10, 4.2.1, 4.3).
 *
 * A member is admitted as a learner, which changes no majority. Once it has caught up, one joint membership
 * makes it a voter, and takes out the one it replaces in the same step: both the old and the new majority
 * must agree until the joint entry is committed, then the leader ends it by itself. A membership is in force
 * as soon as it is in the log and goes when its entry is truncated. One change at a time, and none before
 * the leader has committed in its own term. */
#include <string.h>

#include "raft/raft_impl.h"

/* --- Changing ------------------------------------------------------------------------------------------ */

static bool is_settled(const struct holt_raft *r) {
  if (r->commit < r->term_start && !HOLT_BUG(20)) return false;
  return !r->conf.is_joint && (r->conf_index <= r->commit || HOLT_BUG(120));
}

static void remove_at(struct holt_raft_conf *conf, int place) {
  conf->count--;
  memmove(&conf->members[place], &conf->members[place + 1],
          (conf->count - (uint32_t)place) * sizeof conf->members[0]);
}

/* A learner that is replaced goes at once, and with it what it was to replace falls to `change`'s member; a
 * voter goes when that one becomes a voter, or at once where it never shall. Returns what is still to be
 * replaced. */
static uint64_t take_over(struct holt_raft_conf *conf, const struct holt_raft_change *change) {
  uint64_t replaces = change->replaces;
  int old = replaces ? holt__raft_conf_find(conf, replaces) : -1;
  while (old >= 0 && conf->members[old].role == HOLT_RAFT_LEARNER) {
    replaces = conf->members[old].replaces;
    remove_at(conf, old);
    old = replaces && replaces != change->id ? holt__raft_conf_find(conf, replaces) : -1;
  }
  if (old < 0) return 0;
  if (change->type == HOLT_RAFT_ADD) return replaces;
  conf->members[old].role = HOLT_RAFT_OUTGOING;
  return 0;
}

static int add(struct holt_raft_conf *conf, const struct holt_raft_change *change, uint64_t index) {
  if (change->id == 0 || change->priority > 10 || change->replaces == change->id) return HOLT_EINVAL;
  if (change->replaces && holt__raft_conf_find(conf, change->replaces) < 0) return HOLT_ENOTFOUND;
  int place = holt__raft_conf_find(conf, change->id);
  bool is_voter = change->type == HOLT_RAFT_ADD;
  if (place >= 0 && (conf->members[place].role != HOLT_RAFT_LEARNER || !is_voter)) return HOLT_EEXISTS;
  uint64_t replaces = take_over(conf, change);
  place = holt__raft_conf_find(conf, change->id);
  if (place < 0) {
    if (conf->count == HOLT_RAFT_MEMBERS_MAX) return HOLT_ETOOLARGE;
    place = (int)conf->count++;
    memset(&conf->members[place], 0, sizeof conf->members[place]);
    conf->members[place].since = index;
  }
  struct holt_raft_member *m = &conf->members[place];
  m->id = change->id;
  m->role = HOLT_RAFT_LEARNER;
  m->priority = change->priority;
  m->can_lead = change->can_lead;
  m->will_vote = is_voter;
  m->replaces = replaces;
  return 0;
}

static int change_one(struct holt_raft_conf *conf, const struct holt_raft_change *change, uint64_t index) {
  if (change->type == HOLT_RAFT_ADD || change->type == HOLT_RAFT_ADD_LEARNER) return add(conf, change, index);
  int place = holt__raft_conf_find(conf, change->id);
  if (place < 0) return HOLT_ENOTFOUND;
  struct holt_raft_member *m = &conf->members[place];
  switch (change->type) {
  case HOLT_RAFT_REMOVE:
    if (m->role == HOLT_RAFT_LEARNER)
      remove_at(conf, place);
    else
      m->role = HOLT_RAFT_OUTGOING;
    return 0;
  case HOLT_RAFT_DEMOTE:
    if (m->role == HOLT_RAFT_VOTER) m->role = HOLT_RAFT_DEMOTED;
    m->will_vote = false;
    return 0;
  case HOLT_RAFT_SET:
    if (change->priority > 10) return HOLT_EINVAL;
    m->priority = change->priority;
    m->can_lead = change->can_lead;
    return 0;
  default:
    return HOLT_EINVAL;
  }
}

static void mark_joint(struct holt_raft_conf *conf) {
  conf->is_joint = false;
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].role > HOLT_RAFT_LEARNER) conf->is_joint = true;
}

/* A learner that has caught up votes from now on; whom it replaces goes. */
static void admit(struct holt_raft_conf *conf, uint64_t id) {
  struct holt_raft_member *m = &conf->members[holt__raft_conf_find(conf, id)];
  int old = m->replaces ? holt__raft_conf_find(conf, m->replaces) : -1;
  m->role = HOLT_RAFT_INCOMING;
  m->will_vote = false;
  m->replaces = 0;
  if (old < 0) return;
  if (conf->members[old].role == HOLT_RAFT_VOTER)
    conf->members[old].role = HOLT_RAFT_OUTGOING;
  else if (conf->members[old].role == HOLT_RAFT_LEARNER)
    remove_at(conf, old); /* demoted since */
}

/* Whether it can be led now, and, where voters were added, once all that shall vote do. */
static bool is_viable(const struct holt_raft_conf *conf, const struct holt_raft_change *changes,
                      size_t count) {
  struct holt_raft_conf later = *conf;
  bool is_adding = false;
  if (!holt_raft_can_be_led(conf)) return false;
  for (size_t i = 0; i < count; i++) is_adding = is_adding || changes[i].type == HOLT_RAFT_ADD;
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].role == HOLT_RAFT_LEARNER && conf->members[i].will_vote &&
        holt__raft_conf_find(&later, conf->members[i].id) >= 0)
      admit(&later, conf->members[i].id);
  return !is_adding || holt_raft_can_be_led(&later);
}

/* Append `conf` as an entry of our own; the bytes were reserved before the step. */
static uint64_t append_conf(struct holt_raft *r, const struct holt_raft_conf *conf, uint64_t tag) {
  uint8_t *bytes = r->spare;
  r->spare = NULL;
  uint32_t len = (uint32_t)holt_raft_conf_encode(bytes, conf);
  uint64_t index = holt__raft_append_own(r, HOLT_RAFT_CONF, bytes, len, tag);
  holt__raft_conf_refresh(r);
  return index;
}

int holt__raft_change(struct holt_raft *r, const struct holt_raft_change *changes, size_t count,
                      uint64_t tag) {
  if (r->role != HOLT_RAFT_LEADER) return r->leader ? HOLT_ENOTLEADER : HOLT_ENOLEADER;
  if (count == 0) return HOLT_EINVAL;
  if (!is_settled(r) || r->transfer_to || !r->spare) return HOLT_EBUSY;
  struct holt_raft_conf conf = r->conf;
  for (size_t i = 0; i < count; i++) {
    int rc = change_one(&conf, &changes[i], holt__raft_log_last(r) + 1);
    if (rc != 0) return rc;
  }
  if (!is_viable(&conf, changes, count)) return HOLT_EINVAL;
  mark_joint(&conf);
  if (HOLT_BUG(5)) { /* majorities of the living: no joint phase */
    for (uint32_t i = conf.count; i-- > 0;)
      if (conf.members[i].role == HOLT_RAFT_OUTGOING) remove_at(&conf, (int)i);
    conf.is_joint = false;
  }
  uint64_t index = append_conf(r, &conf, 0);
  holt__raft_done(r, HOLT_RAFT_DONE_CHANGE, tag, 0, index, r->term);
  return 0;
}

static void leave_joint(struct holt_raft *r) {
  struct holt_raft_conf conf = r->conf;
  for (uint32_t i = conf.count; i-- > 0;) {
    struct holt_raft_member *m = &conf.members[i];
    if (m->role == HOLT_RAFT_OUTGOING)
      remove_at(&conf, (int)i);
    else if (m->role == HOLT_RAFT_INCOMING)
      m->role = HOLT_RAFT_VOTER;
    else if (m->role == HOLT_RAFT_DEMOTED)
      m->role = HOLT_RAFT_LEARNER;
  }
  conf.is_joint = false;
  append_conf(r, &conf, 0);
}

/* Caught up: everything the leader had at the beginning of a round came within an election time-out. */
static bool has_caught_up(struct holt_raft *r, uint64_t id) {
  struct holt__raft_progress *p = holt__raft_progress(r, id);
  if (!p || p->state != PROGRESS_REPLICATE) return false;
  if (r->now_ms >= p->heard_ms + r->options.election_ms) return false;
  if (p->match < p->catch_up_target) return false;
  bool is_quick = r->now_ms - p->catch_up_began_ms < r->options.election_ms;
  p->catch_up_target = holt__raft_log_last(r);
  p->catch_up_began_ms = r->now_ms;
  return is_quick || p->match == holt__raft_log_last(r);
}

/* Those that may lead first, so that the others do not wait for them. */
static bool promote(struct holt_raft *r) {
  struct holt_raft_conf conf = r->conf, next;
  uint32_t count = r->conf.count;
  for (uint32_t i = 0; i < 2 * count; i++) {
    const struct holt_raft_member *m = &r->conf.members[i < count ? i : i - count];
    int place = holt__raft_conf_find(&conf, m->id);
    if (m->can_lead != (i < count) || place < 0) continue;
    if (m->role != HOLT_RAFT_LEARNER || !m->will_vote || !has_caught_up(r, m->id)) continue;
    next = conf;
    admit(&next, m->id);
    if (holt_raft_can_be_led(&next)) conf = next;
  }
  mark_joint(&conf);
  if (!conf.is_joint) return false;
  append_conf(r, &conf, 0);
  return true;
}

/* The voter that may lead and was heard lately, of the highest priority, with the longest log. */
static struct holt__raft_progress *best_heir(struct holt_raft *r) {
  struct holt__raft_progress *best = NULL;
  uint8_t best_priority = 0;
  for (uint32_t i = 0; i < r->conf.count; i++) {
    const struct holt_raft_member *m = &r->conf.members[i];
    struct holt__raft_progress *p = holt__raft_progress(r, m->id);
    if (!p || !m->can_lead || (m->role != HOLT_RAFT_VOTER && m->role != HOLT_RAFT_INCOMING)) continue;
    if (r->now_ms >= p->heard_ms + r->options.election_ms) continue;
    bool is_better =
        !best || p->match > best->match || (p->match == best->match && m->priority > best_priority);
    if (!is_better) continue;
    best = p;
    best_priority = m->priority;
  }
  return best;
}

/* A leader that may not lead any more hands over to one that may; while there is none that follows, it goes
 * on. */
static void give_way(struct holt_raft *r, int self) {
  if (r->conf.members[self].can_lead || r->transfer_to || r->now_ms < r->give_way_at_ms) return;
  const struct holt__raft_progress *heir = best_heir(r);
  if (!heir || heir->state != PROGRESS_REPLICATE) return;
  r->give_way_at_ms = r->now_ms + 2 * (uint64_t)r->options.election_ms; /* proposals are taken in between */
  holt__raft_transfer(r, heir->id);
}

void holt__raft_members_advance(struct holt_raft *r) {
  if (r->commit < r->term_start || !r->spare) return;
  if (r->conf.is_joint) {
    if (r->conf_index <= r->commit || HOLT_BUG(23)) leave_joint(r);
    return;
  }
  if (r->conf_index > r->commit && !HOLT_BUG(124)) return;
  int self = holt__raft_conf_find(&r->conf, r->options.self);
  if (!holt__raft_member_votes(&r->conf, self)) { /* it led the change that took it out; now it goes */
    if (!HOLT_BUG(24)) {
      holt__raft_hand_over(r);
      holt__raft_become_follower(r, r->term, 0);
    }
    return;
  }
  give_way(r, self);
  if (r->transfer_to == 0) promote(r);
}

/* --- Handing over -------------------------------------------------------------------------------------- */

static void tell_to_stand(struct holt_raft *r, uint64_t id) {
  r->is_lease_void = true;
  holt__raft_out(r, HOLT_RAFT_TIMEOUT_NOW, id);
}

void holt__raft_hand_over(struct holt_raft *r) {
  struct holt__raft_progress *heir = best_heir(r);
  if (heir) tell_to_stand(r, heir->id);
}

void holt__raft_transfer(struct holt_raft *r, uint64_t id) {
  if (r->role != HOLT_RAFT_LEADER || id == r->options.self) return;
  if (id == 0) {
    struct holt__raft_progress *heir = best_heir(r);
    if (!heir) return;
    id = heir->id;
  }
  int place = holt__raft_conf_find(&r->conf, id);
  if (!holt__raft_member_votes(&r->conf, place) || !r->conf.members[place].can_lead) return;
  r->transfer_to = id;
  r->transfer_until_ms = r->now_ms + r->options.election_ms;
  r->transfer_sent = false;
}

void holt__raft_transfer_advance(struct holt_raft *r) {
  if (r->transfer_to == 0) return;
  const struct holt__raft_progress *p = holt__raft_progress(r, r->transfer_to);
  if (!p || r->now_ms >= r->transfer_until_ms) {
    r->transfer_to = 0; /* given up: proposals are taken again */
    return;
  }
  if (r->transfer_sent || p->match < holt__raft_log_last(r)) return;
  r->transfer_sent = true;
  tell_to_stand(r, r->transfer_to);
}

void holt__raft_on_timeout_now(struct holt_raft *r, const struct holt_raft_message *m) {
  if (r->role == HOLT_RAFT_LEADER || m->from != r->leader) return;
  if (holt__raft_may_campaign(r)) holt__raft_campaign(r, false, true);
}
