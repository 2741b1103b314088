/* bus_sim.c - one run: draw a graph, start nodes, let them emit, inject faults one after the other, heal,
 * settle, judge. */
#include "sim/bus_sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rand.h"
#include "env/sim.h"
#include "node/node.h"

#define NODES_MAX 256
#define EMITS_MAX 4096
#define FAULTS_MS 20000 /* faults happen in this time, then everything is healed */
#define SETTLE_MS 60000 /* at most, until all is quiet … */
#define QUIET_MS  12000 /* … and then so much longer: holes close, gaps are told */

struct run;

/* What one node has handled of one other. */
struct tally {
  uint64_t highest; /* in this boot */
  uint64_t lost, lost_in_boot, handled_in_boot;
  uint8_t *in_boot; /* bits */
  uint8_t *ever;    /* in any boot */
};

/* A handler that has not returned yet. */
struct owing {
  struct holt_list node;
  struct holt_event *event;
  struct holt_timer timer;
};

struct member {
  struct run *run;
  unsigned index;
  char name[16];
  struct holt_env *env;
  struct holt_node *node;
  uint64_t boot;
  unsigned emitted;
  struct holt_timer emit_timer;
  struct holt_bus_waiter waiter;
  bool is_waiting;
  struct holt_list owing;
  struct holt_timer pace; /* of a steady one */
  struct tally *of;       /* by origin */
  uint8_t *bits;          /* of all tallies */
};

struct edge {
  unsigned a, b;
};

struct run {
  const struct holt_bus_sim_config *config;
  struct holt_bus_sim_result *result;
  struct holt_sim *sim;
  struct holt_rand rand;
  struct member members[NODES_MAX];
  struct edge edges[NODES_MAX * 4];
  unsigned edge_count;
  unsigned emit_limit; /* of each node, for now */
};

static void broken(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void broken(struct run *run, const char *format, ...) {
  if (!run->result->is_ok) return; /* the first one tells most */
  run->result->is_ok = false;
  va_list args;
  va_start(args, format);
  vsnprintf(run->result->what, sizeof run->result->what, format, args);
  va_end(args);
}

/* Bytes for a bit of each event of one node. */
static size_t bits_size(const struct run *run) {
  return run->config->emits / 8 + 1;
}

static bool test_and_set(uint8_t *bits, uint64_t at) {
  bool was = (bits[at / 8] >> (at % 8) & 1) != 0;
  bits[at / 8] |= (uint8_t)(1u << (at % 8));
  return was;
}

/* A node that is killed and started again: its own events are only there to be in the way. */
static bool is_reborn(const struct run *run, unsigned index) {
  return run->config->restarts && index == 0;
}

/* --- Handling ------------------------------------------------------------------------------------- */

static void handler_returns(void *arg) {
  struct owing *o = arg;
  holt_list_remove(&o->node);
  holt_timer_stop(&o->timer);
  holt_event_done(o->event);
  free(o);
}

static bool is_steady(const struct member *m) {
  return m->run->config->steady && m->index % 3 == 1;
}

static uint64_t draw_pace_ms(struct member *m) {
  return 5 + holt_rand_below(&m->run->rand, 30);
}

static void handle_next(void *arg) {
  struct member *m = arg;
  if (holt_list_is_empty(&m->owing)) return;
  handler_returns(HOLT_CONTAINER(m->owing.next, struct owing, node));
  if (!holt_list_is_empty(&m->owing)) holt_timer_start(&m->pace, draw_pace_ms(m));
}

static void finish_later(struct member *m, struct holt_event *event) {
  struct owing *o = holt_alloc(sizeof *o);
  o->event = event;
  holt_list_push(&m->owing, &o->node);
  holt_timer_init(&o->timer, m->env, handler_returns, o);
  if (!is_steady(m))
    holt_timer_start(&o->timer, holt_rand_below(&m->run->rand, 200));
  else if (!holt_timer_is_active(&m->pace))
    holt_timer_start(&m->pace, draw_pace_ms(m));
}

/* The number in the name of a node. */
static bool read_index(const char *name, unsigned *index) {
  char *end;
  *index = (unsigned)strtoul(name + 1, &end, 10);
  return name[0] == 'n' && end != name + 1 && *end == '\0';
}

static bool has_loops(const struct holt_bus_sim_config *config) {
  return config->shape == HOLT_SHAPE_RING || config->shape == HOLT_SHAPE_RANDOM;
}

/* On a graph without loops there is one way for everything: events come in the order they were emitted, and
 * the word about those that were dropped comes in their place. */
static void check_place(struct member *m, const struct member *origin, const struct holt_event *event) {
  struct run *run = m->run;
  const struct tally *tally = &m->of[origin->index];
  if (has_loops(run->config) || run->config->restarts) return;
  if (event->late)
    broken(run, "%s handled event %llu of %s late, though there is only one way", m->name,
           (unsigned long long)event->sequence, origin->name);
  /* What a stalled link drops may be told behind what its buffer drops later. */
  if (run->config->slow_handlers || run->config->steady) return;
  if (tally->handled_in_boot + tally->lost_in_boot != event->sequence - 1)
    broken(run, "%s handled event %llu of %s when it had handled %llu before and was told of %llu lost",
           m->name, (unsigned long long)event->sequence, origin->name,
           (unsigned long long)tally->handled_in_boot, (unsigned long long)tally->lost_in_boot);
}

static void check_event(struct member *m, struct member *origin, const struct holt_event *event) {
  struct run *run = m->run;
  struct tally *tally = &m->of[origin->index];
  unsigned long long number = event->sequence;
  if (event->boot != origin->boot)
    broken(run, "%s handled an event of an unknown boot of %s", m->name, origin->name);
  if (number == 0 || number > origin->emitted) {
    broken(run, "%s handled event %llu of %s, which was never emitted", m->name, number, origin->name);
    return;
  }
  check_place(m, origin, event);
  tally->handled_in_boot++;
  if (test_and_set(tally->in_boot, number))
    broken(run, "%s handled event %llu of %s twice", m->name, number, origin->name);
  test_and_set(tally->ever, number);
  if (number < tally->highest && !event->late)
    broken(run, "%s handled event %llu of %s after %llu, not marked late", m->name, number, origin->name,
           (unsigned long long)tally->highest);
  if (number > tally->highest) tally->highest = number;
  if (event->payload.len != 8 || holt_get_u64(event->payload.data) != number)
    broken(run, "%s got event %llu of %s with the payload of another", m->name, number, origin->name);
}

static void on_event(void *arg, struct holt_event *event) {
  struct member *m = arg;
  struct run *run = m->run;
  unsigned origin;
  if (!read_index(event->origin, &origin) || origin >= run->config->nodes ||
      (origin == m->index && !is_reborn(run, origin))) /* of its last boot there may still be some about */
    broken(run, "%s handled an event of '%s', who cannot have emitted it", m->name, event->origin);
  else if (!is_reborn(run, origin))
    check_event(m, &run->members[origin], event);
  run->result->handled++;
  run->result->late += event->late;
  if (is_steady(m) || (run->config->slow_handlers && holt_rand_below(&run->rand, 3) == 0))
    finish_later(m, event);
  else
    holt_event_done(event);
}

static void on_gap(void *arg, const char *origin, uint64_t boot, uint64_t count) {
  struct member *m = arg;
  unsigned index = 0;
  (void)boot;
  (void)read_index(origin, &index);
  m->of[index].lost += count;
  m->of[index].lost_in_boot += count;
  m->run->result->lost += count;
}

static void on_peer(void *arg, struct holt_peer *peer, const struct holt_peer_notice *notice) {
  struct member *m = arg;
  (void)peer;
  m->run->result->connects += notice->event == HOLT_PEER_INITIALIZED;
}

static const struct holt_node_ops ops = {.on_gap = on_gap, .on_peer = on_peer};

/* --- Emitting ------------------------------------------------------------------------------------- */

static void emit_again(void *arg) {
  struct member *m = arg;
  m->is_waiting = false;
  holt_timer_start(&m->emit_timer, 0);
}

static void emit_next(void *arg) {
  struct member *m = arg;
  struct run *run = m->run;
  if (m->emitted >= run->emit_limit) return;
  uint8_t payload[8];
  holt_put_u64(payload, m->emitted + 1);
  struct holt_bus *bus = holt_node_bus(m->node);
  int rc = holt_bus_emit(bus, "load.test", 9, 0, holt_buf(payload, sizeof payload), NULL);
  if (rc == HOLT_EAGAIN) {
    m->is_waiting = true;
    holt_bus_wait(bus, &m->waiter, emit_again, m);
    return;
  }
  m->waiter.is_retry = false;
  if (rc == HOLT_EFULL && run->config->errors) {
    holt_timer_start(&m->emit_timer, 100 + holt_rand_below(&run->rand, 400));
    return;
  }
  if (rc != 0 && rc != HOLT_ESTALLED) broken(run, "%s could not emit: %s", m->name, holt_err_text(rc));
  m->emitted++;
  run->result->emitted++;
  uint64_t longest_ms = 8 * FAULTS_MS / (run->config->emits + 1);
  if (longest_ms > FAULTS_MS / 2) longest_ms = FAULTS_MS / 2; /* all is emitted well before the end */
  bool is_burst = holt_rand_below(&run->rand, 4) != 0;
  holt_timer_start(&m->emit_timer, is_burst ? 0 : holt_rand_below(&run->rand, longest_ms + 1));
}

/* --- Starting and killing ------------------------------------------------------------------------- */

#define PORTS 3

static void dial_port(struct run *run, unsigned from, unsigned to, unsigned port) {
  struct holt_peer *peer;
  char address[32];
  snprintf(address, sizeof address, "n%u:%u", to, port);
  if (holt_node_connect(run->members[from].node, address, &peer, NULL) != 0)
    broken(run, "n%u cannot connect to %s", from, address);
}

static void dial(struct run *run, unsigned from, unsigned to) {
  unsigned count = run->config->many_dials ? PORTS : 1;
  for (unsigned i = 0; i < count; i++) dial_port(run, from, to, 7000 + i);
}

static struct holt_node_config settings(const struct member *m) {
  const struct holt_bus_sim_config *config = m->run->config;
  struct holt_node_config c = holt_node_defaults();
  c.link.name = m->name;
  c.link.timeout_ms = 4000;
  c.link.backoff_max_ms = 2000;
  c.link.buffer_max = config->small_buffers             ? 8
                      : config->waits || config->errors ? 20
                                                        : EMITS_MAX * NODES_MAX;
  c.link.window_bytes = config->slow_handlers || config->steady ? 2000 : 4 * 1024 * 1024;
  c.link.overflow = config->waits    ? HOLT_OVERFLOW_WAIT
                    : config->errors ? HOLT_OVERFLOW_ERROR
                                     : HOLT_OVERFLOW_DROP_OLDEST;
  c.insecure = true;
  return c;
}

static void start(struct run *run, unsigned index) {
  struct member *m = &run->members[index];
  struct holt_err err;
  m->env = holt_sim_host(run->sim, m->name);
  struct holt_node_config config = settings(m);
  if (holt_node_new(m->env, &config, &ops, m, &m->node, &err) != 0)
    broken(run, "%s: %s", m->name, err.message);
  for (unsigned i = 0; i < PORTS; i++) {
    char address[8];
    snprintf(address, sizeof address, ":%u", 7000 + i);
    if (holt_node_listen(m->node, address, NULL, &err) != 0) broken(run, "%s: %s", m->name, err.message);
  }
  m->boot = holt_node_boot(m->node);
  holt_bus_subscribe(holt_node_bus(m->node), ">", 1, on_event, m);
  holt_timer_init(&m->emit_timer, m->env, emit_next, m);
  holt_timer_init(&m->pace, m->env, handle_next, m);
  m->waiter = (struct holt_bus_waiter){0};
  m->is_waiting = false;
  for (unsigned i = 0; i < run->config->nodes; i++) {
    m->of[i].highest = m->of[i].lost_in_boot = m->of[i].handled_in_boot = 0;
    memset(m->of[i].in_boot, 0, bits_size(run));
  }
}

static void connect_edges(struct run *run, unsigned index) {
  for (unsigned i = 0; i < run->edge_count; i++) {
    struct edge *e = &run->edges[i];
    bool is_crossed = run->config->crossed_dials && holt_rand_below(&run->rand, 2) == 0;
    if (e->b == index) dial(run, e->b, e->a);
    if (e->a == index && is_crossed) dial(run, e->a, e->b);
  }
}

static void kill_member(struct run *run, unsigned index) {
  struct member *m = &run->members[index];
  holt_timer_stop(&m->emit_timer);
  holt_timer_stop(&m->pace);
  holt_node_free(m->node);
  m->node = NULL;
  HOLT_LIST_EACH(&m->owing, node, next) handler_returns(HOLT_CONTAINER(node, struct owing, node));
  holt_env_free(m->env);
}

/* --- Faults --------------------------------------------------------------------------------------- */

enum fault_kind { FAULT_NONE, FAULT_CUT_ONE_WAY, FAULT_CUT, FAULT_PAUSE, FAULT_DEAD };

struct fault {
  enum fault_kind kind;
  uint64_t heal_ms;
  unsigned a, b;
};

static void heal(struct run *run, struct fault *fault) {
  const char *a = run->members[fault->a].name, *b = run->members[fault->b].name;
  holt_sim_cut(run->sim, a, b, false);
  holt_sim_cut(run->sim, b, a, false);
  holt_sim_pause(run->sim, a, false);
  if (fault->kind == FAULT_DEAD) {
    start(run, fault->a);
    connect_edges(run, fault->a);
    run->members[fault->a].emitted = 0;
    holt_timer_start(&run->members[fault->a].emit_timer, 500);
  }
  fault->kind = FAULT_NONE;
}

static void inject(struct run *run, struct fault *fault) {
  const struct holt_bus_sim_config *config = run->config;
  struct edge *e = &run->edges[holt_rand_below(&run->rand, run->edge_count)];
  const char *a = run->members[e->a].name, *b = run->members[e->b].name;
  uint64_t choice = holt_rand_below(&run->rand, 5), longest_ms = 10000;
  *fault = (struct fault){.a = e->a, .b = e->b};
  if (choice == 0 && config->breaks) {
    holt_sim_break(run->sim, a, b);
  } else if ((choice == 1 || choice == 2) && config->partitions) {
    fault->kind = choice == 1 ? FAULT_CUT_ONE_WAY : FAULT_CUT;
    holt_sim_cut(run->sim, a, b, true);
    if (choice == 2) holt_sim_cut(run->sim, b, a, true);
  } else if (choice == 3 && config->pauses) {
    fault->kind = FAULT_PAUSE;
    longest_ms = 5000;
    holt_sim_pause(run->sim, a, true);
  } else if (choice == 4 && config->restarts) {
    fault->kind = FAULT_DEAD;
    fault->a = 0;
    longest_ms = 3000;
    kill_member(run, 0);
  }
  fault->heal_ms = holt_sim_now_ms(run->sim) + 1 + holt_rand_below(&run->rand, longest_ms);
}

/* One fault at a time: two that overlap would heal each other. */
static void run_faults(struct run *run) {
  struct fault fault = {0};
  uint64_t end = holt_sim_now_ms(run->sim) + FAULTS_MS;
  while (holt_sim_now_ms(run->sim) < end && run->result->is_ok) {
    holt_sim_run(run->sim, 1 + holt_rand_below(&run->rand, 500));
    for (unsigned i = 0; i < run->config->flaps; i++) {
      const struct edge *e = &run->edges[holt_rand_below(&run->rand, run->edge_count)];
      holt_sim_break(run->sim, run->members[e->a].name, run->members[e->b].name);
    }
    if (fault.kind == FAULT_NONE)
      inject(run, &fault);
    else if (holt_sim_now_ms(run->sim) >= fault.heal_ms)
      heal(run, &fault);
  }
  heal(run, &fault);
}

/* --- The graph ------------------------------------------------------------------------------------ */

static void add_edge(struct run *run, unsigned a, unsigned b) {
  if (a == b) return;
  for (unsigned i = 0; i < run->edge_count; i++)
    if ((run->edges[i].a == a && run->edges[i].b == b) || (run->edges[i].a == b && run->edges[i].b == a))
      return;
  run->edges[run->edge_count++] = (struct edge){a, b};
}

static void draw_graph(struct run *run) {
  unsigned n = run->config->nodes;
  bool is_drawn = run->config->shape == HOLT_SHAPE_TREE || run->config->shape == HOLT_SHAPE_RANDOM;
  for (unsigned i = 1; i < n; i++)
    add_edge(run, is_drawn ? (unsigned)holt_rand_below(&run->rand, i) : i - 1, i);
  if (run->config->shape == HOLT_SHAPE_RING) add_edge(run, 0, n - 1);
  for (unsigned i = 0; run->config->shape == HOLT_SHAPE_RANDOM && i < n; i++) {
    unsigned a = (unsigned)holt_rand_below(&run->rand, n);
    add_edge(run, a, (unsigned)holt_rand_below(&run->rand, n));
  }
}

/* --- The verdict ---------------------------------------------------------------------------------- */

/* Waiting for room binds emitters only: a node on the way drops what its next link cannot take, and says so.
 */
static bool may_lose_events(const struct holt_bus_sim_config *config) {
  bool is_stopped =
      config->pauses || config->partitions; /* then a node without credit stalls its neighbour */
  return config->small_buffers || config->slow_handlers || has_loops(config) ||
         (config->steady && is_stopped) ||
         (config->nodes > 2 && (config->waits || config->errors || config->restarts));
}

static void check_tally(struct run *run, const struct member *m, const struct member *origin) {
  const struct tally *tally = &m->of[origin->index];
  uint64_t handled = 0, ever = 0;
  for (unsigned number = 1; number <= origin->emitted; number++) {
    handled += tally->in_boot[number / 8] >> (number % 8) & 1;
    ever += tally->ever[number / 8] >> (number % 8) & 1;
  }
  bool may_lose = may_lose_events(run->config);
  if (!may_lose && tally->lost > 0)
    broken(run, "%s was told to have lost %llu events of %s although nothing may be lost", m->name,
           (unsigned long long)tally->lost, origin->name);
  /* One boot may have handled what the next was told to have lost, or have died between hearing of a loss and
   * telling it. */
  bool is_excused = is_reborn(run, m->index) && may_lose;
  bool is_too_few = !is_excused && ever + tally->lost < origin->emitted;
  bool is_too_many = handled + tally->lost_in_boot > origin->emitted;
  if (is_too_few || is_too_many)
    broken(run,
           "%s handled %llu (%llu in its last boot) and was told to have lost %llu (%llu) of %u events of %s",
           m->name, (unsigned long long)ever, (unsigned long long)handled, (unsigned long long)tally->lost,
           (unsigned long long)tally->lost_in_boot, origin->emitted, origin->name);
}

static bool is_quiet(struct run *run) {
  for (unsigned i = 0; i < run->config->nodes; i++) {
    const struct member *m = &run->members[i];
    if (m->is_waiting || !holt_list_is_empty(&m->owing)) return false;
    if (m->emitted != run->emit_limit) return false;
    struct holt_links *links = holt_node_links(m->node);
    for (struct holt_link *l = holt_links_first(links); l != NULL; l = holt_links_next(links, l)) {
      struct holt_link_status status;
      holt_link_status(l, &status);
      if (!status.is_up || status.buffered > 0) return false;
    }
  }
  return true;
}

static void settle(struct run *run) {
  uint64_t end = holt_sim_now_ms(run->sim) + SETTLE_MS;
  do holt_sim_run(run->sim, 1000);
  while (!is_quiet(run) && holt_sim_now_ms(run->sim) < end);
  holt_sim_run(run->sim, QUIET_MS);
}

static void check_links(struct run *run, struct member *m) {
  struct holt_links *links = holt_node_links(m->node);
  for (struct holt_link *l = holt_links_first(links); l != NULL; l = holt_links_next(links, l)) {
    struct holt_link_status status;
    holt_link_status(l, &status);
    if (!status.is_up) broken(run, "%s: the link to '%s' is not up in the end", m->name, status.name);
    if (status.buffered > 0)
      broken(run, "%s: %llu messages for %s are still unacknowledged", m->name,
             (unsigned long long)status.buffered, status.name);
  }
  if (m->is_waiting) broken(run, "%s still waits to emit event %u", m->name, m->emitted + 1);
  if (!is_reborn(run, m->index) && m->emitted != run->config->emits)
    broken(run, "%s emitted only %u events", m->name, m->emitted);
}

static void check_all(struct run *run) {
  for (unsigned i = 0; i < run->config->nodes; i++) {
    check_links(run, &run->members[i]);
    for (unsigned j = 0; j < run->config->nodes; j++)
      if (i != j && !is_reborn(run, j)) check_tally(run, &run->members[i], &run->members[j]);
  }
}

/* --- Runs ----------------------------------------------------------------------------------------- */

struct holt_bus_sim_config holt_bus_sim_draw(uint64_t seed) {
  struct holt_rand r;
  holt_rand_seed(&r, seed);
  struct holt_bus_sim_config config = {.seed = seed};
  config.shape = (enum holt_bus_shape)holt_rand_below(&r, 5);
  config.nodes = config.shape == HOLT_SHAPE_PAIR ? 2 : 3 + (unsigned)holt_rand_below(&r, 4);
  config.emits = 20 + (unsigned)holt_rand_below(&r, 60);
  config.restarts = holt_rand_below(&r, 4) == 0;
  uint64_t overflow = holt_rand_below(&r, 4);
  config.small_buffers = overflow == 0;
  config.waits = overflow == 1;
  config.errors = overflow == 2;
  config.breaks = holt_rand_below(&r, 4) != 0;
  config.partitions = holt_rand_below(&r, 2) == 0;
  config.pauses = holt_rand_below(&r, 2) == 0;
  uint64_t handlers = holt_rand_below(&r, 4);
  config.slow_handlers = handlers < 2;
  config.steady = handlers == 2;
  config.crossed_dials = holt_rand_below(&r, 2) == 0;
  config.many_dials = holt_rand_below(&r, 3) == 0;
  return config;
}

struct holt_bus_sim_config holt_bus_sim_draw_large(uint64_t seed) {
  struct holt_bus_sim_config config = holt_bus_sim_draw(seed);
  config.shape = HOLT_SHAPE_RANDOM;
  config.nodes = 200;
  config.emits = 4;
  config.many_dials = false;
  config.flaps = 5;
  return config;
}

void holt_bus_sim_describe(const struct holt_bus_sim_config *c, char out[300]) {
  static const char *const shapes[] = {"pair", "chain", "tree", "ring", "random"};
  snprintf(out, 300, "seed %llu: %s of %u nodes, %u emits each%s%s%s%s%s%s%s%s%s%s%s",
           (unsigned long long)c->seed, shapes[c->shape], c->nodes, c->emits,
           c->small_buffers ? ", small buffers" : "", c->waits ? ", overflow wait" : "",
           c->errors ? ", overflow error" : "", c->breaks ? ", breaks" : "",
           c->partitions ? ", partitions" : "", c->pauses ? ", pauses" : "", c->restarts ? ", restarts" : "",
           c->slow_handlers ? ", slow handlers" : "", c->steady ? ", steady handlers" : "",
           c->many_dials ? ", many dials" : "", c->crossed_dials ? ", crossed dials" : "");
}

static void draw_room(struct run *run) {
  struct holt_sim_config room = {.seed = run->config->seed};
  room.delay_min_us = (uint32_t)holt_rand_below(&run->rand, 500);
  room.delay_max_us = room.delay_min_us + (uint32_t)holt_rand_below(&run->rand, 50000);
  uint64_t chunk = holt_rand_below(&run->rand, 8);
  bool is_large = run->config->nodes > 50; /* with a byte or two at a time it would take minutes */
  room.chunk_max = chunk == 0 ? (is_large ? 300 : 3) : chunk < 4 ? 1000 : 0;
  room.send_buffer = holt_rand_below(&run->rand, 2) == 0 ? 500 : 0;
  run->sim = holt_sim_new(&room);
}

static void emit_up_to(struct run *run, unsigned limit) {
  run->emit_limit = limit;
  for (unsigned i = 0; i < run->config->nodes; i++) holt_timer_start(&run->members[i].emit_timer, 0);
}

static void start_all(struct run *run) {
  for (unsigned i = 0; i < run->config->nodes; i++) {
    struct member *m = &run->members[i];
    m->run = run;
    m->index = i;
    m->of = holt_alloc(run->config->nodes * sizeof *m->of);
    m->bits = holt_alloc(run->config->nodes * 2 * bits_size(run));
    for (unsigned k = 0; k < run->config->nodes; k++) {
      m->of[k].in_boot = m->bits + 2 * k * bits_size(run);
      m->of[k].ever = m->of[k].in_boot + bits_size(run);
    }
    holt_list_init(&m->owing);
    snprintf(m->name, sizeof m->name, "n%u", i);
    start(run, i);
  }
  for (unsigned i = 0; i < run->config->nodes; i++) connect_edges(run, i);
  holt_sim_run(run->sim, 3000); /* all links stand: what is emitted before would reach only who is there */
  if (run->config->restarts ||
      run->config->steady) { /* everybody has heard of everybody: what is lost from now on is told */
    emit_up_to(run, 1);
    for (unsigned i = 0; i < 30 && !is_quiet(run); i++) holt_sim_run(run->sim, 500);
  }
  emit_up_to(run, run->config->emits);
}

static void stop_all(struct run *run) {
  for (unsigned i = 0; i < run->config->nodes; i++) {
    struct member *m = &run->members[i];
    struct holt_bus_stats stats;
    holt_bus_stats(holt_node_bus(m->node), &stats);
    run->result->duplicates += stats.duplicates;
    if (stats.duplicates > 0 && !has_loops(run->config) && !run->config->restarts)
      broken(run, "a link brought %llu messages to %s twice in one boot",
             (unsigned long long)stats.duplicates, m->name);
    kill_member(run, i);
    free(m->of);
    free(m->bits);
  }
  if (holt_sim_open_streams(run->sim) > 0) broken(run, "streams stayed open");
}

void holt_bus_sim_run(const struct holt_bus_sim_config *config, struct holt_bus_sim_result *result) {
  struct run *run = holt_alloc(sizeof *run);
  *result = (struct holt_bus_sim_result){.is_ok = true};
  run->config = config;
  run->result = result;
  holt_rand_seed(&run->rand, config->seed ^ 0x5eed);
  draw_room(run);
  draw_graph(run);
  start_all(run);
  run_faults(run);
  settle(run);
  check_all(run);
  stop_all(run);
  result->hash = holt_sim_hash(run->sim);
  result->events = holt_sim_events(run->sim);
  holt_sim_free(run->sim);
  free(run);
}
