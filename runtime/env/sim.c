/* sim.c - the virtual machine room: events in time order, hosts, their timers and posts. The network is in
 * sim_net.c, the disks are in sim_file.c. */
#include "env/sim.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/sim_impl.h"

/* --- Events --------------------------------------------------------------------------------------- */

void holt__sim_trace(struct holt_sim *sim, uint64_t value) {
  sim->hash = holt_hash_u64(sim->hash ^ value);
}

void holt__sim_event_init(struct sim_event *event, struct sim_host *host, const char *kind,
                          void (*run)(void *), void *arg) {
  *event = (struct sim_event){.host = host, .kind = kind, .run = run, .arg = arg};
  holt_list_init(&event->deferred);
}

void holt__sim_event_at(struct holt_sim *sim, struct sim_event *event, uint64_t at_us) {
  holt__sim_event_cancel(sim, event);
  holt_heap_push(&sim->events, &event->node, at_us > sim->now_us ? at_us : sim->now_us);
}

void holt__sim_event_cancel(struct holt_sim *sim, struct sim_event *event) {
  holt_heap_remove(&sim->events, &event->node);
  holt_list_remove(&event->deferred);
}

/* See that the host wakes when its next timer or post is due. */
static void schedule_wake(struct sim_host *host) {
  uint64_t due_ms = holt_list_is_empty(&host->env.posts) ? holt__env_next_due(&host->env) : 0;
  if (due_ms == UINT64_MAX)
    holt__sim_event_cancel(host->sim, &host->wake);
  else if (holt_list_is_empty(&host->wake.deferred))
    holt__sim_event_at(host->sim, &host->wake, due_ms > UINT64_MAX / 1000 ? UINT64_MAX : due_ms * 1000);
}

static void run_on_host(struct holt_sim *sim, struct sim_event *event) {
  struct sim_host *host = event->host;
  if (host->is_paused) {
    holt_list_push(&host->deferred, &event->deferred);
    return;
  }
  holt__sim_trace(sim, sim->now_us ^ (uint64_t)host->number << 48);
  holt__sim_trace(sim, holt_hash_bytes(0, event->kind, strlen(event->kind)));
  sim->count++;
  host->env.now_ms = sim->now_us / 1000;
  event->run(event->arg);
  /* `event` may be gone; the host is not: a process does not free its own env from inside. */
  holt__env_run_posts(&host->env);
  schedule_wake(host);
}

bool holt_sim_step(struct holt_sim *sim) {
  struct holt_heap_node *first = holt_heap_first(&sim->events);
  if (first == NULL) return false;
  holt_heap_remove(&sim->events, first);
  HOLT_ASSERT(first->key >= sim->now_us);
  sim->now_us = first->key;
  run_on_host(sim, HOLT_CONTAINER(first, struct sim_event, node));
  return true;
}

void holt_sim_run(struct holt_sim *sim, uint64_t duration_ms) {
  uint64_t end_us = sim->now_us + duration_ms * 1000;
  /* What the test did between two runs may have made posts and timers. */
  HOLT_LIST_EACH(&sim->hosts, node, next) schedule_wake(HOLT_CONTAINER(node, struct sim_host, node));
  for (struct holt_heap_node *first = holt_heap_first(&sim->events); first != NULL && first->key <= end_us;
       first = holt_heap_first(&sim->events))
    holt_sim_step(sim);
  sim->now_us = end_us;
  HOLT_LIST_EACH(&sim->hosts, other, after)
  HOLT_CONTAINER(other, struct sim_host, node)->env.now_ms = end_us / 1000;
}

/* --- A host --------------------------------------------------------------------------------------- */

static void wake(void *arg) {
  struct sim_host *host = arg;
  holt__env_run_timers(&host->env);
}

static bool turn(struct holt_env *env, bool wait) {
  struct sim_host *host = (struct sim_host *)env;
  (void)wait;
  schedule_wake(host);
  return holt_sim_step(host->sim);
}

static void host_free(struct holt_env *env) {
  struct sim_host *host = (struct sim_host *)env;
  holt__sim_host_sockets_free(host);
  holt__sim_host_works_free(host);
  holt__sim_host_files_free(host);
  holt__sim_event_cancel(host->sim, &host->wake);
  holt_list_remove(&host->node);
  holt_heap_free(&env->timers);
  free(host);
}

static uint64_t clock_ns(struct holt_env *env) {
  return ((struct sim_host *)env)->sim->now_us * 1000;
}

static double wall_s(struct holt_env *env) {
  return 1.6e9 + (double)((struct sim_host *)env)->sim->now_us / 1e6;
}

static uint64_t host_random(struct holt_env *env) {
  return holt_rand_next(&((struct sim_host *)env)->rand);
}

static void timers_changed(struct holt_env *env) {
  schedule_wake((struct sim_host *)env);
}

static int no_spawn(struct holt_env *env, const struct holt_process_options *options,
                    struct holt_process **out, struct holt_stream *pipes[3], struct holt_err *err) {
  (void)env, (void)options, (void)out, (void)pipes;
  return holt_err_set(err, HOLT_EUNSUPPORTED, "a simulated host cannot start programs");
}

static int no_signal(struct holt_env *env, int signal_number, void (*cb)(void *, int), void *arg) {
  (void)env, (void)signal_number, (void)cb, (void)arg;
  return HOLT_EUNSUPPORTED;
}

static int no_stdio(struct holt_env *env, int number, struct holt_stream **out, struct holt_err *err) {
  (void)env, (void)number, (void)out;
  return holt_err_set(err, HOLT_EUNSUPPORTED, "a simulated host has no standard streams");
}

static const struct holt_env_ops sim_ops = {
    .turn = turn,
    .free = host_free,
    .clock_ns = clock_ns,
    .wall_s = wall_s,
    .random = host_random,
    .timers_changed = timers_changed,
    .listen = holt__sim_listen,
    .listener_close = holt__sim_listener_close,
    .dial = holt__sim_dial,
    .dial_cancel = holt__sim_dial_cancel,
    .spawn = no_spawn,
    .signal = no_signal,
    .stdio = no_stdio,
    .work = holt__sim_work,
    .vault = holt__sim_vault,
    .dir_open = holt__sim_dir_open,
};

struct holt_env *holt_sim_host(struct holt_sim *sim, const char *name) {
  HOLT_ASSERT(holt__sim_find_host(sim, name) == NULL);
  struct sim_host *host = holt_alloc(sizeof *host);
  holt__env_init(&host->env, &sim_ops);
  host->sim = sim;
  host->number = ++sim->hosts_made;
  host->env.now_ms = sim->now_us / 1000;
  host->next_port = 40000;
  snprintf(host->name, sizeof host->name, "%s", name);
  holt_rand_seed(&host->rand, holt_rand_next(&sim->rand));
  holt_list_init(&host->deferred);
  holt_list_init(&host->streams);
  holt_list_init(&host->listeners);
  holt_list_init(&host->dials);
  holt_list_init(&host->accepts);
  holt_list_init(&host->works);
  holt__sim_event_init(&host->wake, host, "wake", wake, host);
  holt_list_push(&sim->hosts, &host->node);
  return &host->env;
}

/* --- The room ------------------------------------------------------------------------------------- */

struct holt_sim *holt_sim_new(const struct holt_sim_config *config) {
  struct holt_sim *sim = holt_alloc(sizeof *sim);
  sim->config = *config;
  if (sim->config.send_buffer == 0) sim->config.send_buffer = 256 * 1024;
  if (sim->config.delay_max_us < sim->config.delay_min_us)
    sim->config.delay_max_us = sim->config.delay_min_us;
  sim->now_us = 1000000; /* no clock stands at zero */
  holt_rand_seed(&sim->rand, config->seed);
  holt_list_init(&sim->hosts);
  holt_list_init(&sim->cuts);
  holt_list_init(&sim->disks);
  holt_list_init(&sim->vaults);
  return sim;
}

void holt_sim_free(struct holt_sim *sim) {
  HOLT_LIST_EACH(&sim->hosts, node, next) host_free(&HOLT_CONTAINER(node, struct sim_host, node)->env);
  HOLT_LIST_EACH(&sim->cuts, cut, after) free(HOLT_CONTAINER(cut, struct sim_cut, node));
  holt__sim_disks_free(sim);
  holt__sim_vaults_free(sim);
  holt_heap_free(&sim->events);
  free(sim);
}

uint64_t holt_sim_now_ms(const struct holt_sim *sim) {
  return sim->now_us / 1000;
}
uint64_t holt_sim_events(const struct holt_sim *sim) {
  return sim->count;
}
uint64_t holt_sim_hash(const struct holt_sim *sim) {
  return sim->hash;
}
struct holt_rand *holt_sim_rand(struct holt_sim *sim) {
  return &sim->rand;
}
unsigned holt_sim_open_streams(const struct holt_sim *sim) {
  return sim->open_streams;
}

struct sim_host *holt__sim_find_host(struct holt_sim *sim, const char *name) {
  HOLT_LIST_EACH(&sim->hosts, node, next) {
    struct sim_host *host = HOLT_CONTAINER(node, struct sim_host, node);
    if (strcmp(host->name, name) == 0) return host;
  }
  return NULL;
}

uint64_t holt__sim_delay_us(struct holt_sim *sim) {
  const struct holt_sim_config *c = &sim->config;
  return c->delay_min_us + holt_rand_below(&sim->rand, (uint64_t)c->delay_max_us - c->delay_min_us + 1);
}

static struct sim_cut *find_cut(struct holt_sim *sim, const char *from, const char *to) {
  HOLT_LIST_EACH(&sim->cuts, node, next) {
    struct sim_cut *cut = HOLT_CONTAINER(node, struct sim_cut, node);
    if (strcmp(cut->from, from) == 0 && strcmp(cut->to, to) == 0) return cut;
  }
  return NULL;
}

bool holt__sim_is_cut(struct holt_sim *sim, const char *from, const char *to) {
  return find_cut(sim, from, to) != NULL;
}

void holt_sim_cut(struct holt_sim *sim, const char *from, const char *to, bool is_cut) {
  struct sim_cut *cut = find_cut(sim, from, to);
  if (is_cut && cut == NULL) {
    cut = holt_alloc(sizeof *cut);
    snprintf(cut->from, sizeof cut->from, "%s", from);
    snprintf(cut->to, sizeof cut->to, "%s", to);
    holt_list_push(&sim->cuts, &cut->node);
  } else if (!is_cut && cut != NULL) {
    holt_list_remove(&cut->node);
    free(cut);
  }
}

void holt_sim_pause(struct holt_sim *sim, const char *name, bool is_paused) {
  struct sim_host *host = holt__sim_find_host(sim, name);
  if (host == NULL || host->is_paused == is_paused) return;
  host->is_paused = is_paused;
  if (is_paused) return;
  for (struct holt_list *node = holt_list_shift(&host->deferred); node != NULL;
       node = holt_list_shift(&host->deferred))
    holt__sim_event_at(sim, HOLT_CONTAINER(node, struct sim_event, deferred), sim->now_us);
}
