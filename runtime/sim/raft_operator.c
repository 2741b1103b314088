/* raft_operator.c - whoever looks after the membership: replaces members whose logs are lost, and in churn
 * adds, removes, demotes and readmits others. It never asks for a membership that could not live. */
#include "base/err.h"
#include "sim/raft_sim_impl.h"

struct rsim_host *holt__rsim_leader(struct rsim *w) {
  struct rsim_host *best = NULL;
  for (unsigned i = 0; i < w->host_count; i++) {
    struct rsim_host *h = &w->hosts[i];
    if (h->is_up && h->role == HOLT_RAFT_LEADER && (best == NULL || h->term > best->term)) best = h;
  }
  return best;
}

static const struct holt_raft_member *find(const struct holt_raft_conf *conf, uint64_t id) {
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].id == id) return &conf->members[i];
  return NULL;
}

static bool ask(struct rsim *w, struct rsim_host *leader, struct holt_raft_change change) {
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_CHANGE,
                                  .now_ms = holt__rsim_host_now(w, leader),
                                  .changes = &change,
                                  .count = 1,
                                  .tag = 1};
  static const char *const words[] = {"", "add", "add as learner", "remove", "demote", "set"};
  uint64_t before = holt__rsim_log_last(&leader->log);
  int rc = holt_raft_driver_step(&leader->driver, &event);
  bool is_taken = rc == 0 && holt__rsim_log_last(&leader->log) > before;
  RSIM_SAY(w, "operator at n%u: %s %llx, replacing %llx: %s", leader->place, words[change.type],
           (unsigned long long)change.id, (unsigned long long)change.replaces,
           is_taken ? "taken" : "refused");
  w->result->changes += is_taken;
  holt__rsim_host_after(w, leader, rc);
  return is_taken;
}

/* The process on `h` is somebody new, whom the leader does not know. */
static bool is_fresh(const struct rsim_host *leader, const struct rsim_host *h) {
  return h->is_up && !h->self->is_lost && find(&leader->conf, h->self->id) == NULL;
}

struct census {
  unsigned voters, alive, leading;
};

/* The voters there are, or will be once everything begun is finished, without `id` or with it unable to lead.
 */
static struct census count(struct rsim *w, const struct holt_raft_conf *conf, uint64_t id, bool is_leaving,
                           bool is_later) {
  struct census c = {0};
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt_raft_member *m = &conf->members[i];
    const struct rsim_incarnation *member = holt_map_get(&w->by_id, m->id);
    bool will_be = m->role == HOLT_RAFT_VOTER || m->role == HOLT_RAFT_INCOMING || (is_later && m->will_vote);
    if (!will_be || (is_leaving && m->id == id)) continue;
    bool is_alive = member != NULL && !member->is_lost && w->hosts[member->host].is_up;
    c.voters++;
    c.alive += is_alive;
    c.leading += is_alive && m->can_lead && m->id != id;
  }
  return c;
}

static bool can_do_without(struct rsim *w, const struct holt_raft_conf *conf, uint64_t id, bool is_leaving) {
  for (int is_later = 0; is_later < 2; is_later++) {
    struct census c = count(w, conf, id, is_leaving, is_later != 0);
    if (c.voters == 0 || c.alive * 2 <= c.voters || c.leading == 0) return false;
  }
  return true;
}

/* Somebody new to take the place of `lost`: on its own machine, or on another. */
static struct rsim_host *heir_of(struct rsim *w, struct rsim_host *leader,
                                 const struct rsim_incarnation *lost) {
  if (is_fresh(leader, &w->hosts[lost->host])) return &w->hosts[lost->host];
  for (unsigned i = 0; i < w->host_count; i++)
    if (is_fresh(leader, &w->hosts[i])) return &w->hosts[i];
  return NULL;
}

/* Replace one member whose log is lost; when nobody is there to take its place, remove it. */
static bool repair(struct rsim *w, struct rsim_host *leader) {
  for (uint32_t i = 0; i < leader->conf.count; i++) {
    const struct holt_raft_member *m = &leader->conf.members[i];
    const struct rsim_incarnation *member = holt_map_get(&w->by_id, m->id);
    if (member == NULL || !member->is_lost) continue;
    if (m->role == HOLT_RAFT_LEARNER)
      return ask(w, leader, (struct holt_raft_change){.type = HOLT_RAFT_REMOVE, .id = m->id});
    bool is_under_way = false;
    for (uint32_t k = 0; k < leader->conf.count; k++)
      is_under_way = is_under_way || leader->conf.members[k].replaces == m->id;
    if (is_under_way) continue;
    struct rsim_host *heir = w->hosts[member->host].is_up ? heir_of(w, leader, member) : NULL;
    if (heir == NULL) {
      if (!w->hosts[member->host].is_up || !can_do_without(w, &leader->conf, m->id, true)) continue;
      return ask(w, leader, (struct holt_raft_change){.type = HOLT_RAFT_REMOVE, .id = m->id});
    }
    heir->self->was_member = true;
    return ask(w, leader,
               (struct holt_raft_change){.type = HOLT_RAFT_ADD,
                                         .id = heir->self->id,
                                         .replaces = m->id,
                                         .can_lead = m->can_lead,
                                         .priority = m->priority});
  }
  return false;
}

static void churn(struct rsim *w, struct rsim_host *leader) {
  struct holt_rand *r = &w->operator_rand;
  struct rsim_host *h = &w->hosts[holt_rand_next(r) % w->host_count];
  const struct holt_raft_member *m = find(&leader->conf, h->self->id);
  uint64_t draw = holt_rand_next(r);
  struct holt_raft_change change = {.id = h->self->id, .can_lead = true};
  if (w->config.has_priorities) change.priority = (uint8_t)(draw >> 8) % 4;
  if (m == NULL) {
    if (!is_fresh(leader, h)) return;
    bool is_old = h->self->was_member;
    if (is_old && (!holt__rsim_has(w, HOLT_RAFT_SIM_READMIT) || draw % 3 == 0)) { /* it begins a new life */
      if (!holt__rsim_can_lose(w, h)) return; /* somebody may still count on it */
      holt__rsim_host_lose(w, h);
      holt__rsim_host_crash(w, h, "as it is a member no more");
      return;
    }
    if (is_old) holt__rsim_count(w, HOLT_RAFT_SIM_READMIT);
    unsigned voters = count(w, &leader->conf, 0, false, true).voters;
    change.type = voters < 7 && draw % 4 != 1 ? HOLT_RAFT_ADD : HOLT_RAFT_ADD_LEARNER;
    h->self->was_member = true;
  } else if (m->role == HOLT_RAFT_LEARNER) {
    change.type = draw % 3 == 0 ? HOLT_RAFT_REMOVE : HOLT_RAFT_ADD;
    if (change.type == HOLT_RAFT_ADD && count(w, &leader->conf, 0, false, true).voters >= 7) return;
  } else {
    change.type = draw % 8 == 0 ? HOLT_RAFT_SET : draw % 3 == 0 ? HOLT_RAFT_DEMOTE : HOLT_RAFT_REMOVE;
    if (change.type == HOLT_RAFT_SET) change.can_lead = !w->config.has_priorities || draw >> 20 & 1;
    bool stays_able = change.type == HOLT_RAFT_SET && change.can_lead;
    if (!stays_able && !can_do_without(w, &leader->conf, m->id, change.type != HOLT_RAFT_SET)) return;
  }
  if (ask(w, leader, change)) holt__rsim_count(w, HOLT_RAFT_SIM_CHURN);
}

/* The order to begin was lost with those that had it, before anything was on a disk: it is given again. */
static bool is_unborn(const struct rsim *w) {
  for (unsigned i = 0; i < w->host_count; i++) {
    const struct rsim_host *h = &w->hosts[i];
    if (!h->is_up || h->paused_until_us > w->now_us || h->self->is_lost) return false;
    if (holt__rsim_log_last(&h->log) > 0 || (i < w->first.count && w->first.members[i].id != h->self->id))
      return false;
  }
  return true;
}

void holt__rsim_operator(struct rsim *w) {
  uint64_t mean = w->is_healing ? w->config.election_ms * 500u : w->config.mean_fault_ms * 500u;
  holt__rsim_at(w, mean / 2 + holt_rand_next(&w->operator_rand) % (mean + 1),
                (struct rsim_event){.type = RSIM_OPERATOR});
  struct rsim_host *leader = holt__rsim_leader(w);
  if (leader == NULL && is_unborn(w)) holt__rsim_bootstrap(w);
  if (leader == NULL || leader->paused_until_us > w->now_us || w->phase > 3) return;
  if (repair(w, leader) || w->is_healing || !holt__rsim_has(w, HOLT_RAFT_SIM_CHURN)) return;
  churn(w, leader);
}
