/* raft_faults.c - what goes wrong: each kind of fault has its own chance and its own times, so that switching
 * one off leaves the others nearly as they were. */
#include "sim/raft_sim_impl.h"

static struct holt_rand *rand_of(struct rsim *w, enum holt_raft_sim_fault fault) {
  return &w->fault_rand[fault];
}

static void again(struct rsim *w, enum holt_raft_sim_fault fault) {
  uint64_t mean = w->config.mean_fault_ms * 1000u;
  if (fault == HOLT_RAFT_SIM_STALE) mean /= 8;
  if (fault == HOLT_RAFT_SIM_CRASH_ALL || fault == HOLT_RAFT_SIM_DISK_ERROR) mean *= 4;
  holt__rsim_at(w, mean / 4 + holt_rand_next(rand_of(w, fault)) % (mean * 2),
                (struct rsim_event){.type = RSIM_FAULT, .a = (uint8_t)fault});
}

void holt__rsim_faults_start(struct rsim *w) {
  struct holt_rand *r = &w->rand;
  w->delay_us = holt__rsim_between(r, 100, 2000);
  if (holt__rsim_has(w, HOLT_RAFT_SIM_DROP)) w->drop_ppm = (uint32_t)holt__rsim_between(r, 1000, 150000);
  if (holt__rsim_has(w, HOLT_RAFT_SIM_DUPLICATE))
    w->duplicate_ppm = (uint32_t)holt__rsim_between(r, 1000, 200000);
  if (holt__rsim_has(w, HOLT_RAFT_SIM_STALE)) w->stale_ppm = (uint32_t)holt__rsim_between(r, 5000, 100000);
  for (int i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT; i++)
    if (holt__rsim_has(w, (enum holt_raft_sim_fault)i)) again(w, (enum holt_raft_sim_fault)i);
}

/* --- What may be lost --------------------------------------------------------------------------------------
 */

/* The majorities that matter: the old half, the new one, and the one there will be once learners are
 * promoted. */
enum half { OLD, NEW, FUTURE };

/* Whether one of them keeps a living majority, and somebody in it that may lead. */
static bool half_survives(const struct rsim *w, const struct holt_raft_conf *conf, uint64_t lost_id,
                          enum half half) {
  unsigned count = 0, alive = 0, leading = 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt_raft_member *m = &conf->members[i];
    bool is_in = m->role == HOLT_RAFT_VOTER;
    if (half == OLD) is_in = is_in || m->role == HOLT_RAFT_OUTGOING || m->role == HOLT_RAFT_DEMOTED;
    if (half != OLD) is_in = is_in || m->role == HOLT_RAFT_INCOMING;
    const struct rsim_incarnation *member = holt_map_get(&w->by_id, m->id);
    bool is_alive = member != NULL && !member->is_lost && m->id != lost_id;
    if (half == FUTURE && m->role == HOLT_RAFT_LEARNER && m->will_vote) is_in = !is_alive; /* at worst */
    if (!is_in) continue;
    count++;
    alive += is_alive;
    leading += is_alive && m->can_lead;
  }
  return alive * 2 > count && leading > 0;
}

bool holt__rsim_can_lose(const struct rsim *w, const struct rsim_host *h) {
  for (unsigned i = 0; i < w->host_count; i++) {
    const struct rsim_host *other = &w->hosts[i];
    if (other->self->is_lost || other->conf.count == 0) continue;
    bool is_in = false;
    for (uint32_t k = 0; k < other->conf.count; k++)
      is_in = is_in || other->conf.members[k].id == h->self->id;
    if (!is_in) continue;
    for (enum half half = OLD; half <= FUTURE; half++)
      if (!half_survives(w, &other->conf, h->self->id, half)) return false;
  }
  return true;
}

/* --- The network
 * --------------------------------------------------------------------------------------------- */

static void cut_links(struct rsim *w, const struct rsim_cut *cut, int by) {
  for (unsigned a = 0; a < w->host_count; a++)
    for (unsigned b = 0; b < w->host_count; b++) {
      if (!(cut->from >> a & 1) || !(cut->to >> b & 1) || a == b) continue;
      if (cut->kind == HOLT_RAFT_SIM_SLOW_LINK)
        w->links[a][b].slow = (uint8_t)(w->links[a][b].slow + by);
      else
        w->links[a][b].cut = (uint8_t)(w->links[a][b].cut + by);
    }
}

static void cut(struct rsim *w, enum holt_raft_sim_fault fault, uint32_t from, uint32_t to, uint64_t for_us) {
  for (unsigned i = 0; i < RSIM_CUTS; i++) {
    struct rsim_cut *c = &w->cuts[i];
    if (c->is_active) continue;
    *c = (struct rsim_cut){.kind = (uint8_t)fault, .is_active = true, .from = from, .to = to};
    cut_links(w, c, 1);
    RSIM_SAY(w, "%s: from hosts %x to hosts %x, for %llu ms", holt_raft_sim_fault_word(fault), from, to,
             (unsigned long long)for_us / 1000);
    holt__rsim_at(w, for_us, (struct rsim_event){.type = RSIM_HEAL, .a = (uint8_t)i});
    return;
  }
}

void holt__rsim_heal(struct rsim *w, unsigned at) {
  struct rsim_cut *c = &w->cuts[at];
  if (!c->is_active) return;
  cut_links(w, c, -1);
  c->is_active = false;
  RSIM_SAY(w, "%s is over", holt_raft_sim_fault_word((enum holt_raft_sim_fault)c->kind));
}

static void network_fault(struct rsim *w, enum holt_raft_sim_fault fault, struct holt_rand *r,
                          uint64_t long_us) {
  uint32_t all = (1u << w->host_count) - 1, side = (uint32_t)holt_rand_next(r) & all;
  unsigned a = (unsigned)(holt_rand_next(r) % w->host_count),
           b = (unsigned)(holt_rand_next(r) % w->host_count);
  struct rsim_host *leader = holt__rsim_leader(w);
  if (leader != NULL && holt__rsim_chance(r, 500000)) a = leader->place; /* it hurts most there */
  switch (fault) {
  case HOLT_RAFT_SIM_SPLIT:
    if (holt__rsim_chance(r, 300000)) side = 1u << a; /* one alone */
    cut(w, fault, side, all & ~side, long_us);
    cut(w, fault, all & ~side, side, long_us);
    break;
  case HOLT_RAFT_SIM_ONE_WAY:
    if (holt__rsim_chance(r, 500000))
      cut(w, fault, 1u << a, all, long_us);
    else
      cut(w, fault, all, 1u << a, long_us);
    break;
  case HOLT_RAFT_SIM_PARTIAL:
    cut(w, fault, 1u << a, 1u << b, long_us);
    cut(w, fault, 1u << b, 1u << a, long_us);
    break;
  case HOLT_RAFT_SIM_SLOW_LINK:
    cut(w, fault, 1u << a, 1u << b, long_us);
    break;
  case HOLT_RAFT_SIM_BURST:
    w->links[a][b].burst_until_us = w->now_us + long_us / 2;
    break;
  default:
    HOLT_ASSERT(false);
  }
}

/* --- Hosts
 * ----------------------------------------------------------------------------------------------------- */

static struct rsim_host *victim(struct rsim *w, struct holt_rand *r) {
  struct rsim_host *leader = holt__rsim_leader(w);
  if (leader != NULL && holt__rsim_chance(r, 350000)) return leader;
  return &w->hosts[holt_rand_next(r) % w->host_count];
}

static bool crash(struct rsim *w, struct rsim_host *h) {
  if (!h->is_up || (w->config.is_memory && !holt__rsim_can_lose(w, h))) return false;
  holt__rsim_host_crash(w, h, "by a fault");
  return true;
}

static void crash_all(struct rsim *w) {
  if (w->config.is_memory) return; /* then everything would be lost, and known to be */
  for (unsigned i = 0; i < w->host_count; i++) crash(w, &w->hosts[i]);
}

static void set_clock(struct rsim *w, struct rsim_host *h, uint64_t rate, uint64_t ahead_us) {
  h->clock_base_us += ((w->now_us - h->clock_since_us) * h->clock_rate >> 20) + ahead_us;
  h->clock_since_us = w->now_us;
  h->clock_rate = rate;
  h->timer_us = 0; /* armed anew */
  if (h->is_up) holt__rsim_host_after(w, h, 0);
}

static bool fail_disk(struct rsim *w, struct rsim_host *h, bool is_broken) {
  if (!h->is_up || (is_broken && !holt__rsim_can_lose(w, h))) return false;
  struct rsim_disk *d = &h->self->disk;
  if (w->config.is_memory || d->is_broken || d->is_full) return false;
  d->is_broken = is_broken;
  d->is_full = !is_broken;
  if (is_broken) holt__rsim_host_lose(w, h);
  holt__rsim_at(w, w->config.election_ms * 8000u,
                (struct rsim_event){.type = RSIM_STOP, .host = h->place, .life = h->life});
  return true;
}

static bool host_fault(struct rsim *w, enum holt_raft_sim_fault fault, struct holt_rand *r,
                       uint64_t long_us) {
  struct rsim_host *h = victim(w, r);
  switch (fault) {
  case HOLT_RAFT_SIM_DISK_SLOW:
    h->self->disk.slow_until_us = w->now_us + long_us;
    return true;
  case HOLT_RAFT_SIM_DISK_STALL:
    h->self->disk.stall_until_us = w->now_us + long_us;
    RSIM_SAY(w, "the disk of n%u stands still for %llu ms", h->place, (unsigned long long)long_us / 1000);
    return true;
  case HOLT_RAFT_SIM_DISK_ERROR:
    return fail_disk(w, h, true);
  case HOLT_RAFT_SIM_DISK_FULL:
    return fail_disk(w, h, false);
  case HOLT_RAFT_SIM_CRASH:
    return crash(w, h);
  case HOLT_RAFT_SIM_CRASH_ALL:
    crash_all(w);
    return true;
  case HOLT_RAFT_SIM_PAUSE:
    if (h->is_up) h->paused_until_us = w->now_us + long_us;
    RSIM_SAY(w, "n%u is paused for %llu ms", h->place, (unsigned long long)long_us / 1000);
    return h->is_up;
  case HOLT_RAFT_SIM_CLOCK_RATE:
    set_clock(w, h, (1u << 20) * holt__rsim_between(r, 800, 1200) / 1000, 0);
    return true;
  case HOLT_RAFT_SIM_CLOCK_JUMP:
    set_clock(w, h, h->clock_rate, long_us);
    return true;
  case HOLT_RAFT_SIM_STARVE:
    h->starved_until_us = w->now_us + long_us;
    return true;
  case HOLT_RAFT_SIM_TRANSFER: {
    struct rsim_host *leader = holt__rsim_leader(w);
    if (leader == NULL || leader->paused_until_us > w->now_us) return false;
    struct holt_raft_event event = {.type = HOLT_RAFT_EV_TRANSFER, .now_ms = holt__rsim_host_now(w, leader)};
    if (holt__rsim_chance(r, 500000)) event.id = h->self->id;
    if (holt__rsim_chance(r, 100000)) event.type = HOLT_RAFT_EV_STEP_DOWN;
    holt__rsim_host_after(w, leader, holt_raft_driver_step(&leader->driver, &event));
    return true;
  }
  default:
    return false;
  }
}

void holt__rsim_fault(struct rsim *w, enum holt_raft_sim_fault fault) {
  if (w->is_healing) return;
  struct holt_rand *r = rand_of(w, fault);
  uint64_t long_us = w->config.election_ms * holt__rsim_between(r, 300, 6000);
  bool is_done = true;
  again(w, fault);
  switch (fault) {
  case HOLT_RAFT_SIM_JITTER:
  case HOLT_RAFT_SIM_DROP:
  case HOLT_RAFT_SIM_DUPLICATE:
  case HOLT_RAFT_SIM_SNAPSHOT_FAIL:
  case HOLT_RAFT_SIM_CRASH_SYNC:
  case HOLT_RAFT_SIM_LATE_APPLY:
  case HOLT_RAFT_SIM_READMIT:
    return; /* these act all the time, elsewhere */
  case HOLT_RAFT_SIM_CHURN:
    return; /* the operator's */
  case HOLT_RAFT_SIM_STALE:
    holt__rsim_net_replay(w);
    return;
  case HOLT_RAFT_SIM_SPLIT:
  case HOLT_RAFT_SIM_ONE_WAY:
  case HOLT_RAFT_SIM_PARTIAL:
  case HOLT_RAFT_SIM_SLOW_LINK:
  case HOLT_RAFT_SIM_BURST:
    network_fault(w, fault, r, long_us);
    break;
  default:
    is_done = host_fault(w, fault, r, long_us);
  }
  if (is_done) holt__rsim_count(w, fault);
}

void holt__rsim_heal_all(struct rsim *w) {
  for (unsigned i = 0; i < RSIM_CUTS; i++) holt__rsim_heal(w, i);
  w->drop_ppm = w->duplicate_ppm = w->stale_ppm = 0;
  for (unsigned a = 0; a < w->host_count; a++) {
    struct rsim_host *h = &w->hosts[a];
    for (unsigned b = 0; b < w->host_count; b++) w->links[a][b] = (struct rsim_link){0};
    h->paused_until_us = h->starved_until_us = 0;
    h->self->disk.slow_until_us = h->self->disk.stall_until_us = 0;
    if (h->self->is_lost || h->self->disk.is_broken || h->self->disk.is_full) {
      h->self->disk.is_full = false;
      if (h->is_up) holt__rsim_host_crash(w, h, "to start again");
    }
    if (!h->is_up)
      holt__rsim_at(w, 1000, (struct rsim_event){.type = RSIM_START, .host = h->place, .life = h->life});
    set_clock(w, h, 1u << 20, 0);
  }
}
