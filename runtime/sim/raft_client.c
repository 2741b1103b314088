/* raft_client.c - clients: they propose and read through any member, ask again until they know, and write
 * down what they were told.
 *
 * A client is opened by an entry, numbers its operations, and has up to RSIM_LANES of them under way. Without
 * an answer it asks another member under the same number. After a definite refusal it may give up: then the
 * operation never happened, and the history says so. A client whose session is gone begins a new one. */
#include "base/err.h"
#include "sim/raft_sim_impl.h"

typedef unsigned long long ull;

enum { QUEUE_KEY = 1000 };

static uint64_t tag_of(unsigned client, unsigned lane, uint32_t attempt) {
  return (uint64_t)attempt << 24 | (uint64_t)(client + 1) << 16 | (uint64_t)lane << 12;
}

static struct rsim_lane *lane_of(struct rsim *w, const struct rsim_wait *wait) {
  return &w->clients[wait->client].lanes[wait->lane];
}

/* --- At the client ------------------------------------------------------------------------------------- */

static void think(struct rsim *w, unsigned client, unsigned lane, uint64_t delay_us) {
  holt__rsim_at(w, delay_us,
                (struct rsim_event){.type = RSIM_THINK, .a = (uint8_t)client, .b = (uint8_t)lane});
}

/* Send the operation to some member. */
static void attempt(struct rsim *w, unsigned client, unsigned lane) {
  struct rsim_lane *l = &w->clients[client].lanes[lane];
  l->attempt++;
  if (l->attempts++ > 0) w->result->retries++;
  uint8_t place = (uint8_t)(holt_rand_next(&w->client_rand) % w->host_count);
  struct rsim_host *leader = &w->hosts[place];
  if (leader->is_up && leader->leader != 0 &&
      holt_rand_next(&w->client_rand) % 2 == 0) /* it was told where */
    place = (uint8_t)(leader->leader & 15);
  struct rsim_event ask = {
      .type = RSIM_ASK, .host = place, .a = (uint8_t)client, .b = (uint8_t)lane, .c = l->attempt};
  holt__rsim_at(w, holt__rsim_between(&w->client_rand, 10, 400), ask);
  ask.type = RSIM_TIMEOUT;
  holt__rsim_at(w, w->config.election_ms * holt__rsim_between(&w->client_rand, 500, 4000), ask);
}

static void draw_operation(struct rsim *w, struct rsim_client *c, struct rsim_lane *l) {
  static const uint8_t kinds[16] = {
      HOLT_HISTORY_GET,       HOLT_HISTORY_GET,    HOLT_HISTORY_GET,       HOLT_HISTORY_GET,
      HOLT_HISTORY_SET,       HOLT_HISTORY_SET,    HOLT_HISTORY_SET,       HOLT_HISTORY_UPDATE_IF,
      HOLT_HISTORY_UPDATE_IF, HOLT_HISTORY_INSERT, HOLT_HISTORY_PUSH,      HOLT_HISTORY_PUSH,
      HOLT_HISTORY_POP,       HOLT_HISTORY_POP,    HOLT_HISTORY_REMOVE_IF, HOLT_HISTORY_REMOVE};
  uint64_t draw = holt_rand_next(&w->client_rand);
  l->kind = kinds[draw % 16];
  l->is_read = l->kind == HOLT_HISTORY_GET;
  bool is_queue = l->kind == HOLT_HISTORY_PUSH || l->kind == HOLT_HISTORY_POP;
  l->key = is_queue ? QUEUE_KEY : (draw >> 8) % RSIM_KEYS;
  l->value = ++w->next_value;
  l->expected = w->next_value > 8 ? w->next_value - (draw >> 16) % 8 : HOLT_HISTORY_ABSENT;
  l->client = c->id;
  l->seq = l->is_read ? 0 : c->next_seq++;
}

static uint64_t low_of(const struct rsim_client *c) {
  uint64_t low = c->next_seq;
  for (int i = 0; i < RSIM_LANES; i++)
    if (c->lanes[i].is_busy && !c->lanes[i].is_read && c->lanes[i].seq < low && c->lanes[i].seq > 0)
      low = c->lanes[i].seq;
  return low;
}

static void begin(struct rsim *w, unsigned client, unsigned lane) {
  struct rsim_client *c = &w->clients[client];
  struct rsim_lane *l = &c->lanes[lane];
  if (l->is_busy || w->is_healing) return;
  uint32_t number = l->attempt;
  *l = (struct rsim_lane){.attempt = number, .is_busy = true, .history = SIZE_MAX, .floor = w->acked_index};
  uint64_t draw = holt_rand_next(&w->client_rand) % 256;
  if (!c->is_open) {
    if (lane > 0) { /* the first lane opens the session */
      l->is_busy = false;
      think(w, client, lane, 20000);
      return;
    }
    if (c->id == 0) c->id = ++w->next_client << 8 | client;
    l->kind = RSIM_OPEN;
    l->client = c->id;
  } else if (draw == 0 && lane == 0 && !c->lanes[1].is_busy && !c->lanes[2].is_busy) {
    l->client = c->id;
    l->kind = RSIM_CLOSE; /* stragglers must be refused from now on */
    c->is_open = false;
  } else {
    draw_operation(w, c, l);
    l->history =
        holt_history_call(&w->history, client, l->kind, l->key, l->value, l->expected, w->event_count);
    w->result->operations++;
    if (l->is_read) w->result->reads++;
  }
  attempt(w, client, lane);
}

static void finish(struct rsim *w, unsigned client, unsigned lane) {
  w->clients[client].lanes[lane].is_busy = false;
  uint64_t mean = w->config.think_us;
  think(w, client, lane, mean / 4 + holt_rand_next(&w->client_rand) % (mean * 2));
}

/* Its session is gone: whatever is under way stays unknown, and a new one begins. */
static void renew(struct rsim *w, unsigned client) {
  struct rsim_client *c = &w->clients[client];
  c->is_open = false;
  c->id = 0;
  c->next_seq = 1;
  for (unsigned i = 0; i < RSIM_LANES; i++) {
    if (!c->lanes[i].is_busy) continue;
    w->result->unknown++;
    finish(w, client, i);
  }
}

/* It was told that this never happened: then it never must. */
static void refuse(struct rsim *w, const struct rsim_lane *l) {
  uint64_t key = holt_hash_u64(l->client) ^ l->seq;
  holt_map_set(&w->refused, key, w);
  if (holt_map_get(&w->effects, key) != NULL)
    holt__rsim_fail(w, "definite_refusal",
                    "client %llu was told that its operation %llu failed, and it did not", (ull)l->client,
                    (ull)l->seq);
}

static void on_answer(struct rsim *w, const struct rsim_event *e) {
  struct rsim_client *c = &w->clients[e->a];
  struct rsim_lane *l = &c->lanes[e->b];
  if (!l->is_busy || l->attempt != e->c) return;
  int code = e->code;
  if (code == HOLT_EUNKNOWN && HOLT_BUG(114)) code = HOLT_ENOTLEADER; /* told as if it had not happened */
  if (code == 0) {
    if (l->kind == RSIM_OPEN) c->is_open = true;
    if (l->kind == RSIM_CLOSE) c->id = 0, c->next_seq = 1;
    if (l->history != SIZE_MAX) holt_history_return(&w->history, l->history, e->value, w->event_count);
    finish(w, e->a, e->b);
    return;
  }
  if (code == HOLT_ENOTFOUND && !l->is_read && l->client == c->id) {
    renew(w, e->a);
    return;
  }
  if (code == HOLT_EUNKNOWN) l->may_have_happened = true;
  /* A refusal of what was passed on is definite as long as the network repeats nothing. */
  bool repeats = holt__rsim_has(w, HOLT_RAFT_SIM_DUPLICATE) || holt__rsim_has(w, HOLT_RAFT_SIM_STALE);
  uint64_t key = holt_hash_u64(l->client) ^ l->seq;
  if (code != HOLT_EUNKNOWN && !repeats && !l->may_have_happened && l->seq != 0 &&
      holt_map_get(&w->written, key) != NULL)
    holt__rsim_fail(w, "definite_refusal", "client %llu was refused operation %llu (%s), which is in a log",
                    (ull)l->client, (ull)l->seq, holt_err_word(code));
  bool gives_up =
      !repeats && !l->may_have_happened && l->history != SIZE_MAX && holt_rand_next(&w->client_rand) % 4 == 0;
  if (gives_up) {
    if (!l->is_read) refuse(w, l);
    holt_history_fail(&w->history, l->history, w->event_count);
    finish(w, e->a, e->b);
    return;
  }
  l->attempt++; /* nothing is under way until the next */
  struct rsim_event again = {.type = RSIM_TIMEOUT, .a = e->a, .b = e->b, .c = l->attempt, .code = 1};
  holt__rsim_at(w, holt__rsim_between(&w->client_rand, 1000, w->config.election_ms * 500u), again);
}

static void on_timeout(struct rsim *w, const struct rsim_event *e) {
  struct rsim_lane *l = &w->clients[e->a].lanes[e->b];
  if (!l->is_busy || l->attempt != e->c) return;
  if (e->code == 0) l->may_have_happened = true;     /* no answer: it may still be under way */
  if (l->attempts >= 30 && l->history != SIZE_MAX) { /* given up: nobody knows */
    w->result->unknown++;
    finish(w, e->a, e->b);
    return;
  }
  attempt(w, e->a, e->b);
}

/* --- At a member -----------------------------------------------------------------------------------------
 */

static void answer(struct rsim *w, const struct rsim_wait *wait, int code, uint64_t value) {
  if (!w->is_healing && holt__rsim_has(w, HOLT_RAFT_SIM_DROP) && holt__rsim_chance(&w->client_rand, 30000))
    return;
  holt__rsim_at(w, holt__rsim_between(&w->client_rand, 10, 400),
                (struct rsim_event){.type = RSIM_ANSWER,
                                    .a = wait->client,
                                    .b = wait->lane,
                                    .c = wait->attempt,
                                    .code = code,
                                    .value = value});
}

static void drop_wait(struct rsim_host *h, size_t i) {
  h->waits[i] = h->waits[--h->wait_count];
}

static void acknowledge(struct rsim *w, uint64_t index) {
  if (index > w->acked_index) w->acked_index = index;
}

static void propose(struct rsim *w, struct rsim_host *h, struct rsim_client *c, struct rsim_lane *l,
                    uint64_t tag) {
  uint8_t command[RSIM_COMMAND_BYTES], noise[300] = {RSIM_NOISE};
  command[0] = l->kind;
  holt_put_u64(command + 1, l->key);
  holt_put_u64(command + 9, l->value);
  holt_put_u64(command + 17, l->expected);
  struct holt_raft_entry entries[4] = {{.type = HOLT_RAFT_COMMAND,
                                        .client = l->client,
                                        .seq = l->seq,
                                        .low = low_of(c),
                                        .data = command,
                                        .len = sizeof command}};
  size_t count = 1;
  uint64_t draw = holt_rand_next(&w->client_rand);
  for (; count < 4 && draw % 8 == 0; count++, draw >>= 3)
    entries[count] = (struct holt_raft_entry){
        .type = HOLT_RAFT_COMMAND, .data = noise, .len = (uint32_t)(draw >> 10) % (uint32_t)sizeof noise};
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_PROPOSE,
                                  .now_ms = holt__rsim_host_now(w, h),
                                  .entries = entries,
                                  .count = count,
                                  .tag = tag};
  holt__rsim_host_after(w, h, holt_raft_driver_step(&h->driver, &event));
}

static void on_ask(struct rsim *w, const struct rsim_event *e) {
  struct rsim_client *c = &w->clients[e->a];
  struct rsim_lane *l = &c->lanes[e->b];
  struct rsim_host *h = &w->hosts[e->host];
  if (!l->is_busy || l->attempt != e->c) return;
  struct rsim_wait wait = {
      .client = e->a, .lane = e->b, .is_read = l->is_read, .attempt = e->c, .floor = l->floor};
  if (!h->is_up) {
    answer(w, &wait, HOLT_EREFUSED, 0);
    return;
  }
  for (size_t i = h->wait_count; i-- > 0;)
    if (h->waits[i].client == e->a && h->waits[i].lane == e->b) drop_wait(h, i);
  h->waits[h->wait_count++] = wait;
  if (!l->is_read) {
    propose(w, h, c, l, tag_of(e->a, e->b, e->c));
    return;
  }
  h->waits[h->wait_count - 1].floor = w->acked_index; /* the read begins here */
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_READ, .now_ms = holt__rsim_host_now(w, h), .tag = tag_of(e->a, e->b, e->c)};
  holt__rsim_host_after(w, h, holt_raft_driver_step(&h->driver, &event));
}

void holt__rsim_client_done(struct rsim *w, struct rsim_host *h, const struct holt_raft_done *done) {
  if (done->type == HOLT_RAFT_DONE_CHANGE || (done->tag & 0xfff) != 0) return;
  unsigned client = (unsigned)(done->tag >> 16 & 255) - 1, lane = done->tag >> 12 & 15;
  uint32_t number = (uint32_t)(done->tag >> 24);
  for (size_t i = 0; i < h->wait_count; i++) {
    struct rsim_wait *wait = &h->waits[i];
    if (wait->client != client || wait->lane != lane || wait->attempt != number) continue;
    if (done->code != 0) {
      answer(w, wait, done->code, 0);
      drop_wait(h, i);
      return;
    }
    wait->has_index = true;
    wait->index = done->index;
    wait->term = done->term;
    if (wait->is_read && done->index < wait->floor)
      holt__rsim_fail(w, "read_index",
                      "n%u may read at %llu, but %llu was acknowledged before the read began", h->place,
                      (ull)done->index, (ull)wait->floor);
    if (!wait->is_read && done->index <= h->fsm.index) { /* applied before it was told where: ask again */
      answer(w, wait, HOLT_EUNKNOWN, 0);
      drop_wait(h, i);
    }
    return;
  }
}

void holt__rsim_client_applied(struct rsim *w, struct rsim_host *h, const struct holt_raft_entry *entry,
                               struct rsim_result result) {
  for (size_t i = h->wait_count; i-- > 0;) {
    struct rsim_wait *wait = &h->waits[i];
    if (wait->is_read || !wait->has_index || wait->index > entry->index) continue;
    bool is_ours = wait->index == entry->index && (wait->term == entry->term || HOLT_BUG(13));
    if (is_ours) acknowledge(w, entry->index);
    answer(w, wait, is_ours ? result.code : HOLT_EUNKNOWN, result.value);
    drop_wait(h, i);
  }
}

void holt__rsim_client_reads(struct rsim *w, struct rsim_host *h) {
  for (size_t i = h->wait_count; i-- > 0;) {
    struct rsim_wait *wait = &h->waits[i];
    if (!wait->is_read || !wait->has_index || wait->index > h->fsm.index) continue;
    acknowledge(w, h->fsm.index);
    uint64_t key = lane_of(w, wait)->key; /* its client may have given up and gone on to something else */
    answer(w, wait, 0, key == QUEUE_KEY ? 0 : h->fsm.values[key]);
    drop_wait(h, i);
  }
}

/* --- Events ------------------------------------------------------------------------------------------------
 */

void holt__rsim_client_event(struct rsim *w, const struct rsim_event *e) {
  switch (e->type) {
  case RSIM_ASK:
    on_ask(w, e);
    break;
  case RSIM_ANSWER:
    on_answer(w, e);
    break;
  case RSIM_TIMEOUT:
    on_timeout(w, e);
    break;
  case RSIM_THINK:
    begin(w, e->a, e->b);
    break;
  default:
    HOLT_ASSERT(false);
  }
}

void holt__rsim_clients_start(struct rsim *w) {
  for (unsigned c = 0; c < w->config.clients; c++) {
    w->clients[c].next_seq = 1;
    for (unsigned l = 0; l < RSIM_LANES; l++) think(w, c, l, 1000 + holt_rand_next(&w->client_rand) % 50000);
  }
}
