/* raft_sim.c - the simulator's clock: events in the order of their time, and ties in the order they were
 * made. */
#include "sim/raft_sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/raft_sim_impl.h"

enum { ARENA_CHUNK = 1 << 16, HEALING_EVENTS_MAX = 400000 };

/* --- Small things ----------------------------------------------------------------------------------------
 */

bool holt__rsim_has(const struct rsim *w, enum holt_raft_sim_fault fault) {
  return w->config.faults >> fault & 1;
}

void holt__rsim_count(struct rsim *w, enum holt_raft_sim_fault fault) {
  w->result->faults[fault]++;
}

void holt__rsim_mix(struct rsim *w, uint64_t value) {
  w->hash = (w->hash ^ value) * 0x9e3779b97f4a7c15u;
  w->hash ^= w->hash >> 29;
}

uint64_t holt__rsim_between(struct holt_rand *r, uint64_t low, uint64_t high) {
  return high <= low ? low : low + holt_rand_next(r) % (high - low + 1);
}

bool holt__rsim_chance(struct holt_rand *r, uint32_t ppm) {
  return ppm > 0 && holt_rand_next(r) % 1000000 < ppm;
}

void *holt__rsim_arena(struct rsim *w, size_t size_bytes) {
  size_bytes = (size_bytes + 15) & ~(size_t)15;
  if (w->arena == NULL || w->arena_used + size_bytes > w->arena_size) {
    size_t size = size_bytes + 16 > ARENA_CHUNK ? size_bytes + 16 : ARENA_CHUNK;
    uint8_t *chunk = holt_realloc(NULL, size);
    memcpy(chunk, &w->arena, sizeof w->arena);
    w->arena = chunk;
    w->arena_size = size;
    w->arena_used = 16;
  }
  void *at = w->arena + w->arena_used;
  w->arena_used += size_bytes;
  return at;
}

void holt__rsim_fail(struct rsim *w, const char *invariant, const char *format, ...) {
  if (w->has_failed) return;
  w->has_failed = true;
  struct holt_raft_sim_result *result = w->result;
  va_list args;
  snprintf(result->invariant, sizeof result->invariant, "%s", invariant);
  va_start(args, format);
  vsnprintf(result->what, sizeof result->what, format, args);
  va_end(args);
  RSIM_SAY(w, "BROKEN %s: %s", result->invariant, result->what);
}

void holt__rsim_say(struct rsim *w, const char *format, ...) {
  char text[400];
  int used = snprintf(text, sizeof text, "%8llu.%03llu ms  ", (unsigned long long)w->now_us / 1000,
                      (unsigned long long)w->now_us % 1000);
  va_list args;
  va_start(args, format);
  vsnprintf(text + used, sizeof text - (size_t)used, format, args);
  va_end(args);
  w->config.line(w->config.line_arg, text);
}

/* --- The event heap: four children a node, so that it is half as deep
 * ------------------------------------------ */

static bool is_before(const struct rsim_slot *a, const struct rsim_slot *b) {
  return a->time_us != b->time_us ? a->time_us < b->time_us : a->order < b->order;
}

static uint32_t event_new(struct rsim *w) {
  if (w->free_count == 0) {
    size_t cap = w->event_cap == 0 ? 1024 : w->event_cap * 2;
    w->events = holt_realloc(w->events, cap * sizeof *w->events);
    w->free_events = holt_realloc(w->free_events, cap * sizeof *w->free_events);
    for (size_t i = cap; i-- > w->event_cap;) w->free_events[w->free_count++] = (uint32_t)i;
    w->event_cap = cap;
  }
  return w->free_events[--w->free_count];
}

static void push(struct rsim *w, uint64_t time_us, uint64_t order, uint32_t event) {
  if (w->heap_count == w->heap_cap) {
    w->heap_cap = w->heap_cap == 0 ? 1024 : w->heap_cap * 2;
    w->heap = holt_realloc(w->heap, w->heap_cap * sizeof *w->heap);
  }
  struct rsim_slot slot = {.time_us = time_us, .order = order, .event = event};
  size_t at = w->heap_count++;
  while (at > 0 && is_before(&slot, &w->heap[(at - 1) / 4])) {
    w->heap[at] = w->heap[(at - 1) / 4];
    at = (at - 1) / 4;
  }
  w->heap[at] = slot;
}

static struct rsim_slot pop(struct rsim *w) {
  struct rsim_slot first = w->heap[0], last = w->heap[--w->heap_count];
  size_t at = 0;
  for (;;) {
    size_t child = at * 4 + 1, best = child;
    if (child >= w->heap_count) break;
    size_t end = child + 4 < w->heap_count ? child + 4 : w->heap_count;
    for (size_t i = child + 1; i < end; i++)
      if (is_before(&w->heap[i], &w->heap[best])) best = i;
    if (!is_before(&w->heap[best], &last)) break;
    w->heap[at] = w->heap[best];
    at = best;
  }
  w->heap[at] = last;
  return first;
}

void holt__rsim_at(struct rsim *w, uint64_t delay_us, struct rsim_event event) {
  uint32_t at = event_new(w);
  w->events[at] = event;
  push(w, w->now_us + delay_us, w->next_order++, at);
}

/* --- Running
 * --------------------------------------------------------------------------------------------------- */

/* Whether the event is for a process that stands still or is gone. */
static bool is_held_up(struct rsim *w, const struct rsim_event *e, bool *is_void) {
  struct rsim_host *h = &w->hosts[e->host];
  *is_void = false;
  switch (e->type) {
  case RSIM_MESSAGE:
    *is_void = !h->is_up;
    break;
  case RSIM_TIMER:
  case RSIM_DISK:
  case RSIM_APPLY:
  case RSIM_TAKEN:
  case RSIM_STORED:
  case RSIM_STOP:
    *is_void = !h->is_up || e->life != h->life;
    break;
  case RSIM_START:
    *is_void = h->is_up || e->life != h->life;
    return false;
  case RSIM_ASK:
    break;
  default:
    return false;
  }
  return !*is_void && h->is_up && h->paused_until_us > w->now_us;
}

static void dispatch(struct rsim *w, const struct rsim_event *e) {
  switch (e->type) {
  case RSIM_FAULT:
    holt__rsim_fault(w, (enum holt_raft_sim_fault)e->a);
    break;
  case RSIM_HEAL:
    holt__rsim_heal(w, e->a);
    break;
  case RSIM_OPERATOR:
    holt__rsim_operator(w);
    break;
  case RSIM_ASK:
  case RSIM_ANSWER:
  case RSIM_TIMEOUT:
  case RSIM_THINK:
    holt__rsim_client_event(w, e);
    break;
  case RSIM_CHECK:
    holt__rsim_recover_step(w);
    break;
  default:
    holt__rsim_host_event(w, &w->hosts[e->host], e);
    break;
  }
}

static void run_one(struct rsim *w) {
  struct rsim_slot slot = pop(w);
  struct rsim_event e = w->events[slot.event];
  bool is_void;
  w->now_us = slot.time_us;
  if (is_held_up(w, &e, &is_void)) {
    push(w, w->hosts[e.host].paused_until_us, w->next_order++, slot.event);
    return;
  }
  w->free_events[w->free_count++] = slot.event;
  if (!is_void) {
    w->event_count++;
    holt__rsim_mix(w, w->now_us << 8 ^ (uint64_t)e.type << 3 ^ e.host);
    dispatch(w, &e);
  }
  if (e.blob != NULL) holt__rsim_blob_free(w, e.blob);
}

static void draw_first_members(struct rsim *w) {
  const struct holt_raft_sim_config *c = &w->config;
  unsigned followers = 0;
  w->first = (struct holt_raft_conf){.count = c->voters + c->learners};
  for (unsigned i = 0; i < w->first.count; i++) {
    struct holt_raft_member *m = &w->first.members[i];
    w->hosts[i].self->was_member = true;
    *m = (struct holt_raft_member){.id = w->hosts[i].self->id, .role = HOLT_RAFT_VOTER, .can_lead = true};
    if (i >= c->voters) m->role = HOLT_RAFT_LEARNER;
    if (!c->has_priorities) continue;
    m->priority = (uint8_t)holt__rsim_between(&w->rand, 0, 3);
    if (i > 0 && i < c->voters && (followers + 1) * 2 < c->voters && holt__rsim_chance(&w->rand, 300000)) {
      m->can_lead = false;
      followers++;
    }
  }
}

void holt__rsim_bootstrap(struct rsim *w) {
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = &w->first};
  for (unsigned i = 0; i < w->first.count && !w->has_failed; i++) {
    struct rsim_host *h = &w->hosts[i];
    bool may_skip = !w->config.is_memory && !holt__rsim_has(w, HOLT_RAFT_SIM_DISK_ERROR);
    if (i > 0 && may_skip && holt__rsim_chance(&w->rand, 500000))
      continue; /* it hears of it from the others */
    event.now_ms = holt__rsim_host_now(w, h);
    int rc = holt_raft_driver_step(&h->driver, &event);
    if (rc != 0) holt__rsim_fail(w, "bootstrap", "n%u refuses to begin: %d", i, rc);
    holt__rsim_host_after(w, h, rc);
  }
}

static void build(struct rsim *w) {
  const struct holt_raft_sim_config *c = &w->config;
  uint64_t seed = c->seed;
  holt_rand_seed(&w->rand, seed);
  holt_rand_seed(&w->net_rand, holt_rand_next(&w->rand));
  holt_rand_seed(&w->disk_rand, holt_rand_next(&w->rand));
  holt_rand_seed(&w->client_rand, holt_rand_next(&w->rand));
  holt_rand_seed(&w->operator_rand, holt_rand_next(&w->rand));
  for (int i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT; i++)
    holt_rand_seed(&w->fault_rand[i], holt_rand_next(&w->rand));
  bool grows = holt__rsim_has(w, HOLT_RAFT_SIM_CHURN);
  w->host_count = c->voters + c->learners + (grows ? 3 : 0);
  HOLT_ASSERT(w->host_count <= RSIM_HOSTS);
  for (unsigned i = 0; i < w->host_count; i++) {
    struct rsim_host *h = &w->hosts[i];
    h->world = w;
    h->place = (uint8_t)i;
    h->clock_rate = 1u << 20;
    h->clock_base_us = holt__rsim_between(&w->rand, 1, 1000000) * 1000;
    holt__rsim_fsm_init(&h->fsm);
    holt__rsim_host_new(w, h);
  }
  holt__rsim_faults_start(w);
  for (unsigned i = 0; i < w->host_count && !w->has_failed; i++) holt__rsim_host_start(w, &w->hosts[i]);
  draw_first_members(w);
  holt__rsim_bootstrap(w);
  holt__rsim_clients_start(w);
  holt__rsim_at(w, 100000, (struct rsim_event){.type = RSIM_OPERATOR});
}

static void demolish(struct rsim *w) {
  for (unsigned i = 0; i < w->host_count; i++) holt__rsim_host_close(w, &w->hosts[i]);
  while (w->heap_count > 0) {
    struct rsim_event e = w->events[pop(w).event];
    if (e.blob != NULL) holt__rsim_blob_free(w, e.blob);
  }
  holt__rsim_net_close(w);
  for (size_t i = 0; i < w->incarnation_count; i++) {
    holt__rsim_disk_free(&w->incarnations[i]->disk);
    free(w->incarnations[i]);
  }
  while (w->arena != NULL) {
    uint8_t *chunk = w->arena;
    memcpy(&w->arena, chunk, sizeof w->arena);
    free(chunk);
  }
  struct holt_map *maps[] = {&w->by_id,   &w->records, &w->leaders, &w->votes,
                             &w->effects, &w->refused, &w->written, &w->outcomes};
  for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) holt_map_free(maps[i]);
  free(w->heap);
  free(w->events);
  free(w->free_events);
  free(w->incarnations);
  free(w->committed);
  free(w->applied_hash);
  free(w->stages);
  holt_history_free(&w->history);
  holt_writer_free(&w->scratch);
  free(w);
}

void holt_raft_sim_run(const struct holt_raft_sim_config *config, struct holt_raft_sim_result *result) {
  struct rsim *w = holt_alloc(sizeof *w);
  *result = (struct holt_raft_sim_result){0};
  w->config = *config;
  w->result = result;
  build(w);
  while (!w->has_failed && w->event_count < config->events && w->heap_count > 0) run_one(w);
  if (!w->has_failed) holt__rsim_recover(w);
  uint64_t limit = w->event_count + HEALING_EVENTS_MAX;
  while (!w->has_failed && !w->is_done) {
    run_one(w);
    if (w->event_count > limit) holt__rsim_fail(w, "liveness", "the cluster does not settle");
  }
  if (!w->has_failed) holt__rsim_verdict(w);
  result->is_ok = !w->has_failed;
  result->hash = w->hash;
  result->events = w->event_count;
  result->time_us = w->now_us;
  demolish(w);
}
