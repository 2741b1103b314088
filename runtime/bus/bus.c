/* bus.c - emitting, receiving, passing on.
 *
 * - emit: when every link has room, the event gets the next number of this boot and goes into every link's
 * buffer. Whoever finds no room queues up and is called in turn.
 * - receive: an event seen before, or of our own, is acknowledged and forgotten; any other is handed to its
 *   subscriptions and put into the buffer of every other link.
 * - dropped: what a link's buffer had to drop is told to its remote, behind what it still got; a node that
 * learns of it and misses these events too passes the word on.
 * - a link without credit for a second gets nothing passed on (it is told what it missed), so that it cannot
 * hold up a graph with loops. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bus/bus_impl.h"

#define TICK_MS 250

/* --- Links ---------------------------------------------------------------------------------------- */

struct holt_bus_link *holt__bus_link(struct holt_bus *bus, struct holt_link *link) {
  struct holt_bus_link *bl = holt_link_data(link);
  if (bl != NULL) return bl;
  bl = holt_alloc(sizeof *bl);
  bl->link = link;
  bl->refs = 1;
  bl->slot = ~bus->slots & (bus->slots + 1); /* the lowest bit that is free */
  if (bl->slot == 0) bl->slot = HOLT_SLOT_SHARED;
  if (bl->slot != HOLT_SLOT_SHARED) bus->slots |= bl->slot;
  holt_list_init(&bl->blocked);
  holt_list_push(&bus->links, &bl->node);
  holt_link_set_data(link, bl);
  return bl;
}

static void unblock(struct holt_bus_link *bl) {
  for (struct holt_list *node = holt_list_shift(&bl->blocked); node != NULL;
       node = holt_list_shift(&bl->blocked))
    holt_event_done(&HOLT_CONTAINER(node, struct holt_bus_event, blocked)->event);
}

static void forget_link(struct holt_bus *bus, struct holt_bus_link *bl) {
  unblock(bl);
  holt__origins_forget_slot(&bus->origins, bl->slot);
  if (bl->slot != HOLT_SLOT_SHARED) bus->slots &= ~bl->slot;
  holt_link_set_data(bl->link, NULL);
  bl->link = NULL;
  holt_list_remove(&bl->node);
  holt__bus_link_release(bl);
}

static void start_ticking(struct holt_bus *bus) {
  if (!holt_timer_is_active(&bus->timer)) holt_timer_start(&bus->timer, TICK_MS);
}

void holt_bus_link_up(struct holt_bus *bus, struct holt_link *link) {
  struct holt_bus_link *bl = holt__bus_link(bus, link);
  if (!holt_link_is_resumed(link)) bl->told_changes = bl->told_sequence = 0;
  start_ticking(bus);
  holt__routes_greet(bus, link);
  holt__routes_gained(bus);
}

void holt_bus_link_down(struct holt_bus *bus, struct holt_link *link) {
  (void)link;
  holt__routes_lost(bus);
}

void holt_bus_link_gone(struct holt_bus *bus, struct holt_link *link) {
  holt__routes_changed(bus);
  if (holt_link_data(link) != NULL) forget_link(bus, holt_link_data(link));
}

/* --- Dropped events ------------------------------------------------------------------------------- */

static void remember_drop(struct holt_bus_link *bl, const struct holt_wire_range *range) {
  for (size_t i = bl->drop_count; i-- > 0 && i + 8 >= bl->drop_count;) {
    struct holt_wire_range *last = &bl->drops[i];
    if (last->boot != range->boot || last->to + 1 != range->from) continue;
    last->to = range->to;
    return;
  }
  if (bl->drop_count ==
      HOLT_DROPS_MAX) { /* the receiver finds out by the missing numbers, five seconds later */
    bl->drop_count--;
    memmove(bl->drops, bl->drops + 1, bl->drop_count * sizeof *bl->drops);
  }
  if (bl->drop_count == bl->drop_cap) {
    bl->drop_cap = bl->drop_cap == 0 ? 4 : bl->drop_cap * 2;
    bl->drops = holt_realloc(bl->drops, bl->drop_cap * sizeof *bl->drops);
  }
  bl->drops[bl->drop_count++] = *range;
}

void holt_bus_link_dropped(struct holt_bus *bus, struct holt_link *link, struct holt_msg *msg,
                           bool was_sent) {
  struct holt_bus_link *bl = holt__bus_link(bus, link);
  struct holt_wire_range range = {0};
  holt__calls_on_dropped(bus, msg, was_sent);
  struct holt_wire_event event;
  if (msg->type == HOLT_WIRE_EVENT &&
      holt_wire_event_read(holt_buf(msg->data, msg->len), &event, NULL) == 0) {
    range.boot = event.boot;
    range.from = range.to = event.sequence;
    snprintf(range.origin, sizeof range.origin, "%.*s", (int)event.origin.len,
             (const char *)event.origin.data);
    remember_drop(bl, &range);
  } else if (msg->type == HOLT_WIRE_DROPPED) { /* the word itself was dropped: give it again */
    struct holt_reader in = holt_reader(holt_buf(msg->data, msg->len));
    while (holt_wire_range_read(&in, &range, NULL) == 1) remember_drop(bl, &range);
  } else if (msg->type == HOLT_WIRE_LAST) { /* tell it all again */
    bl->told_changes = bl->told_sequence = 0;
    start_ticking(bus);
  }
}

bool holt_bus_link_notice(struct holt_bus *bus, struct holt_link *link, size_t len_max,
                          struct holt_writer *out) {
  struct holt_bus_link *bl = holt__bus_link(bus, link);
  size_t told = 0;
  while (told < bl->drop_count && out->len + holt_wire_range_size(&bl->drops[told]) <= len_max)
    holt_wire_range_write(out, &bl->drops[told++]);
  if (told == 0) told = bl->drop_count; /* not even one fits: the receiver finds out by the missing numbers */
  bl->drop_count -= told;
  if (bl->drop_count > 0) memmove(bl->drops, bl->drops + told, bl->drop_count * sizeof *bl->drops);
  return bl->drop_count > 0;
}

/* --- Passing on ----------------------------------------------------------------------------------- */

/* Put `msg` into the buffer of `link`; `e` (may be NULL) is not acknowledged before there is credit for it.
 */
static void pass_on(struct holt_bus *bus, struct holt_link *link, struct holt_msg *msg,
                    struct holt_bus_event *e) {
  struct holt_bus_link *bl = holt__bus_link(bus, link);
  bool is_choked = holt_link_is_choked(link, HOLT_LANE_BUS);
  if (is_choked && holt_link_is_stalled(link, HOLT_LANE_BUS)) {
    holt_link_drop(link, HOLT_LANE_BUS, msg);
    return;
  }
  holt_link_send(link, HOLT_LANE_BUS, msg);
  bus->stats.forwarded++;
  if (!is_choked || e == NULL || !holt_list_is_empty(&e->blocked))
    return; /* one choked link holds it well enough */
  e->owed++;
  holt_list_push(&bl->blocked, &e->blocked);
}

static bool wants(struct holt_link *link, const struct holt_link *from, uint64_t origin_boot) {
  return link != from && holt_link_boot(link) != origin_boot;
}

static bool has_onward(struct holt_bus *bus, const struct holt_link *from, uint64_t origin_boot) {
  for (struct holt_link *l = holt_links_first(bus->node_links); l != NULL;
       l = holt_links_next(bus->node_links, l))
    if (wants(l, from, origin_boot)) return true;
  return false;
}

static void flood(struct holt_bus *bus, const struct holt_link *from, uint64_t origin_boot,
                  struct holt_msg *msg, struct holt_bus_event *e) {
  for (struct holt_link *l = holt_links_first(bus->node_links); l != NULL;
       l = holt_links_next(bus->node_links, l))
    if (wants(l, from, origin_boot)) pass_on(bus, l, msg, e);
}

/* --- Receiving ------------------------------------------------------------------------------------ */

static void hand_out(struct holt_bus *bus, struct holt_bus_event *e, const struct holt_match *match) {
  bool is_delivered = false;
  for (size_t i = 0; i < match->count; i++) {
    struct holt_sub *sub = match->subs[i];
    if (sub->is_dead) continue;
    is_delivered = true;
    e->owed++;
    sub->cb(sub->arg, &e->event);
  }
  if (is_delivered) bus->stats.delivered++;
}

struct passing {
  struct holt_bus *bus;
  struct holt_origin *origin;
  struct holt_writer body;
};

static void pass_range(void *arg, uint64_t from, uint64_t to) {
  struct passing *p = arg;
  struct holt_wire_range range = {.boot = p->origin->boot, .from = from, .to = to};
  snprintf(range.origin, sizeof range.origin, "%s", p->origin->name);
  holt_wire_range_write(&p->body, &range);
}

static struct holt_origin *origin_over(struct holt_bus *bus, struct holt_link *link, uint64_t boot,
                                       struct holt_buf name) {
  struct holt_origin *origin = holt__origins_get(&bus->origins, boot, name, holt_env_now_ms(bus->env));
  origin->carriers |= holt__bus_link(bus, link)->slot;
  return origin;
}

static void report(struct holt_bus *bus, struct holt_link *link, const struct holt_wire_range *range) {
  uint64_t now = holt_env_now_ms(bus->env);
  struct passing p = {.bus = bus};
  p.origin = origin_over(bus, link, range->boot, holt_buf_text(range->origin));
  holt__origin_report(&bus->origins, p.origin, range->from, range->to, now, holt__bus_link(bus, link)->slot,
                      pass_range, &p);
  struct holt_msg *msg = p.body.len == 0 ? NULL : holt_msg_new(HOLT_WIRE_DROPPED, p.body.len);
  if (msg != NULL) {
    memcpy(msg->data, p.body.data, p.body.len);
    msg->born_ms = now;
    flood(bus, link, range->boot, msg, NULL);
    holt_msg_release(msg);
  }
  holt_writer_free(&p.body);
  start_ticking(bus);
}

static void hear_last(struct holt_bus *bus, const struct holt_wire_range *range) {
  /* It may only repeat what it had from us: that makes it no link over which events of this origin come. */
  uint64_t now = holt_env_now_ms(bus->env);
  struct holt_origin *origin =
      holt__origins_get(&bus->origins, range->boot, holt_buf_text(range->origin), now);
  holt__origin_last(&bus->origins, origin, range->to, now);
  start_ticking(bus);
}

static void on_ranges(struct holt_bus *bus, struct holt_link *link, const struct holt_link_message *message) {
  struct holt_reader in = holt_reader(message->body);
  struct holt_wire_range range;
  for (int i = 0; i < HOLT_WIRE_RANGE_MAX && holt_wire_range_read(&in, &range, NULL) == 1; i++) {
    if (range.boot == bus->boot) continue;
    if (message->type == HOLT_WIRE_DROPPED)
      report(bus, link, &range);
    else
      hear_last(bus, &range);
  }
}

/* Takes the event over, or says that it is none of ours (any more). */
static bool on_event(struct holt_bus *bus, struct holt_link *link, const struct holt_link_message *message) {
  struct holt_wire_event wire;
  struct holt_err err;
  bus->stats.received++;
  if (holt_wire_event_read(message->body, &wire, NULL) != 0) return false;
  const char *subject = (const char *)wire.subject.data;
  if (!holt__subs_is_latest(&bus->subs, subject, wire.subject.len) &&
      holt_subject_check(subject, wire.subject.len, false, &err) != 0)
    return false;
  if (wire.boot == bus->boot) {
    bus->stats.duplicates++;
    return false;
  }
  uint64_t now = holt_env_now_ms(bus->env);
  if (message->age_ms > bus->buffer_timeout_ms || wire.hops == UINT8_MAX) {
    struct holt_wire_range range = {.boot = wire.boot, .from = wire.sequence, .to = wire.sequence};
    snprintf(range.origin, sizeof range.origin, "%.*s", (int)wire.origin.len, (const char *)wire.origin.data);
    bus->stats.expired++;
    report(bus, link, &range);
    return false;
  }
  struct holt_origin *origin = origin_over(bus, link, wire.boot, wire.origin);
  enum holt_seen seen = holt__origin_see(&bus->origins, origin, wire.sequence, now);
  start_ticking(bus);
  if (seen == HOLT_SEEN_DUPLICATE) {
    bus->stats.duplicates++;
    return false;
  }
  const struct holt_match *match = holt__subs_match(&bus->subs, subject, wire.subject.len);
  bool is_passed_on = has_onward(bus, link, wire.boot);
  if (match->count == 0 && !is_passed_on) return false;
  struct holt_bus_event *e = holt__event_new(bus, holt__bus_link(bus, link), message, &wire);
  if (e == NULL) return false; /* out of memory: as if it had been dropped; the next event shows the hole */
  e->event.late = seen == HOLT_SEEN_LATE;
  if (is_passed_on) flood(bus, link, wire.boot, e->msg, e);
  hand_out(bus, e, match);
  holt_event_done(&e->event);
  return true;
}

void holt_bus_link_message(struct holt_bus *bus, struct holt_link *link,
                           const struct holt_link_message *message) {
  if (message->lane == HOLT_LANE_CALL) {
    holt__calls_on_message(bus, link, message);
    return;
  }
  if (message->type == HOLT_WIRE_EVENT && on_event(bus, link, message)) return;
  if (message->type != HOLT_WIRE_EVENT) on_ranges(bus, link, message);
  holt_link_consume(link, HOLT_LANE_BUS, message->number);
}

/* --- Emitting ------------------------------------------------------------------------------------- */

/* Whether an emit may go ahead of those who wait: nobody waits, or somebody was given their turn. */
static bool may_try(struct holt_bus *bus) {
  if (bus->woken == NULL) return holt_list_is_empty(&bus->waiters);
  bus->woken->is_woken = false;
  bus->woken = NULL;
  return true;
}

static int fail_about(struct holt_err *err, int code, const struct holt_link *link, const char *what) {
  holt_err_set(err, code, "peer '%s' %s", holt_link_label(link), what);
  if (err != NULL) snprintf(err->node, sizeof err->node, "%s", holt_link_label(link));
  return code;
}

static int fail_full(const struct holt_link *link, struct holt_err *err) {
  return fail_about(err, HOLT_EFULL, link,
                    "is away and the buffer for it is full; nothing was sent to anybody");
}

static int fail_stalled(const struct holt_link *link, struct holt_err *err) {
  return fail_about(err, HOLT_ESTALLED, link,
                    "has taken nothing for a second, so the event was dropped for it; all others get it");
}

int holt_bus_emit(struct holt_bus *bus, const char *subject, size_t subject_len, uint8_t codec,
                  struct holt_buf payload, struct holt_err *err) {
  struct holt_wire_event wire = {.boot = bus->boot,
                                 .sequence = bus->sequence + 1,
                                 .codec = codec,
                                 .origin = holt_buf(bus->name, bus->name_len),
                                 .subject = holt_buf(subject, subject_len),
                                 .payload = payload};
  size_t size = holt_wire_event_size(&wire);
  if (bus->is_closed) return holt_err_set(err, HOLT_ECLOSED, "the node is closed");
  if (size > bus->frame_max)
    return holt_err_set(
        err, HOLT_ETOOLARGE,
        "the event '%.*s' has %zu bytes, at most %u fit into a frame; send it in pieces, or send where "
        "it can be fetched",
        (int)subject_len, subject, size, bus->frame_max);
  if (!may_try(bus)) return HOLT_EAGAIN;
  struct holt_links *links = bus->node_links;
  struct holt_link *first = holt_links_first(links), *stalled = NULL;
  for (struct holt_link *l = first; l != NULL; l = holt_links_next(links, l)) {
    int rc = holt_link_room(l, HOLT_LANE_BUS, size);
    if (rc == HOLT_ESTALLED)
      stalled = l;
    else if (rc == HOLT_EFULL) {
      holt_env_post(bus->env, &bus->wake); /* whoever waits behind us shall hear the same */
      return fail_full(l, err);
    } else if (rc != 0)
      return rc;
  }
  if (!holt_list_is_empty(&bus->waiters)) holt_env_post(bus->env, &bus->wake);
  bus->sequence++;
  bus->stats.emitted++;
  start_ticking(bus);
  if (first == NULL) return 0;
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_EVENT, size);
  if (msg == NULL) return holt_err_code(err, HOLT_ENOMEM);
  holt_wire_event_write(msg->data, &wire);
  msg->born_ms = holt_env_now_ms(bus->env);
  for (struct holt_link *l = first; l != NULL; l = holt_links_next(links, l)) {
    holt__bus_link(bus, l);
    if (stalled != NULL && holt_link_room(l, HOLT_LANE_BUS, size) == HOLT_ESTALLED)
      holt_link_drop(l, HOLT_LANE_BUS, msg);
    else
      holt_link_send(l, HOLT_LANE_BUS, msg);
  }
  holt_msg_release(msg);
  return stalled == NULL ? 0 : fail_stalled(stalled, err);
}

void holt_bus_wait(struct holt_bus *bus, struct holt_bus_waiter *waiter, void (*cb)(void *arg), void *arg) {
  waiter->cb = cb;
  waiter->arg = arg;
  holt_list_init(&waiter->node);
  holt_list_push(waiter->is_retry ? bus->waiters.next : &bus->waiters, &waiter->node);
}

void holt_bus_wait_cancel(struct holt_bus *bus, struct holt_bus_waiter *waiter) {
  if (waiter->node.next != NULL) holt_list_remove(&waiter->node);
  if (bus->woken != waiter) return;
  bus->woken = NULL;
  waiter->is_woken = false;
  holt_env_post(bus->env, &bus->wake);
}

static bool is_there_room(struct holt_bus *bus) {
  for (struct holt_link *l = holt_links_first(bus->node_links); l != NULL;
       l = holt_links_next(bus->node_links, l))
    if (holt_link_room(l, HOLT_LANE_BUS, 1) == HOLT_EAGAIN) return false;
  return true;
}

static void wake_next(void *arg) {
  struct holt_bus *bus = arg;
  if (bus->woken != NULL || holt_list_is_empty(&bus->waiters) || !is_there_room(bus)) return;
  struct holt_bus_waiter *waiter =
      HOLT_CONTAINER(holt_list_shift(&bus->waiters), struct holt_bus_waiter, node);
  waiter->is_retry = waiter->is_woken = true;
  bus->woken = waiter;
  waiter->cb(waiter->arg);
}

/* A choked link has taken something: as much of what waits for it may be acknowledged. */
void holt_bus_link_credit(struct holt_bus *bus, struct holt_link *link, uint64_t bytes) {
  struct holt_bus_link *bl = holt__bus_link(bus, link);
  while (bytes > 0 && !holt_list_is_empty(&bl->blocked)) {
    struct holt_bus_event *e = HOLT_CONTAINER(holt_list_shift(&bl->blocked), struct holt_bus_event, blocked);
    bytes -= e->msg->len < bytes ? e->msg->len : bytes;
    holt_event_done(&e->event);
  }
}

void holt_bus_link_room(struct holt_bus *bus) {
  HOLT_LIST_EACH(&bus->links, node, next) {
    struct holt_bus_link *bl = HOLT_CONTAINER(node, struct holt_bus_link, node);
    if (!holt_link_is_choked(bl->link, HOLT_LANE_BUS) || holt_link_is_stalled(bl->link, HOLT_LANE_BUS))
      unblock(bl);
  }
  holt__lines_try(&bus->calls.lines);
  wake_next(bus);
}

/* --- Life ----------------------------------------------------------------------------------------- */

static void on_gap(void *arg, const struct holt_origin *origin, uint64_t count) {
  struct holt_bus *bus = arg;
  bus->stats.lost += count;
  if (bus->ops->on_gap != NULL) bus->ops->on_gap(bus->arg, origin->name, origin->boot, count);
}

/* --- Last numbers --------------------------------------------------------------------------------- */

/* Last numbers for one link, gathered into messages of bounded size. */
struct telling {
  struct holt_bus *bus;
  struct holt_link *link;
  struct holt_writer body;
  unsigned count;
};

static void send_last(struct telling *t) {
  struct holt_msg *msg = t->count == 0 ? NULL : holt_msg_new(HOLT_WIRE_LAST, t->body.len);
  t->count = 0;
  if (msg == NULL) return;
  memcpy(msg->data, t->body.data, t->body.len);
  msg->is_quiet = true;
  msg->born_ms = holt_env_now_ms(t->bus->env);
  t->body.len = 0;
  holt_link_send(t->link, HOLT_LANE_BUS, msg);
  holt_msg_release(msg);
}

static void add_last(struct telling *t, uint64_t boot, const char *name, uint64_t number) {
  if (number == 0 || boot == holt_link_boot(t->link)) return;
  struct holt_wire_range range = {.boot = boot, .from = number, .to = number};
  snprintf(range.origin, sizeof range.origin, "%s", name);
  holt_wire_range_write(&t->body, &range);
  if (++t->count == HOLT_WIRE_RANGE_MAX) send_last(t);
}

/* May last numbers be told to this link now, and is there anything new to tell? */
static bool lacks_last(struct holt_bus *bus, const struct holt_bus_link *bl) {
  return (bl->told_changes < bus->origins.changes || bl->told_sequence < bus->sequence) &&
         holt_link_is_up(bl->link);
}

static void tell_last(struct holt_bus *bus, struct holt_bus_link *bl) {
  if (!lacks_last(bus, bl) || holt_link_is_stalled(bl->link, HOLT_LANE_BUS)) return;
  struct telling t = {.bus = bus, .link = bl->link};
  if (bl->told_sequence < bus->sequence) add_last(&t, bus->boot, bus->name, bus->sequence);
  for (struct holt_list *node = bus->origins.changed.prev; node != &bus->origins.changed; node = node->prev) {
    struct holt_origin *origin = HOLT_CONTAINER(node, struct holt_origin, changed);
    if (origin->change <= bl->told_changes) break;
    add_last(&t, origin->boot, origin->name, origin->highest);
  }
  bl->told_changes = bus->origins.changes;
  bl->told_sequence = bus->sequence;
  send_last(&t);
  holt_writer_free(&t.body);
}

/* Tell every link what the last number of each origin is that has changed: it goes behind their events, so
 * that a neighbour notices when the last ones got lost. */
static void tell_last_to_all(struct holt_bus *bus) {
  HOLT_LIST_EACH(&bus->links, node, next) tell_last(bus, HOLT_CONTAINER(node, struct holt_bus_link, node));
  bus->told_ms = holt_env_now_ms(bus->env);
}

static bool has_news(struct holt_bus *bus) {
  HOLT_LIST_EACH(&bus->links, node, next)
  if (lacks_last(bus, HOLT_CONTAINER(node, struct holt_bus_link, node))) return true;
  return false;
}

static void on_tick(void *arg) {
  struct holt_bus *bus = arg;
  uint64_t now = holt_env_now_ms(bus->env);
  holt__origins_close_holes(&bus->origins, now);
  bool is_news = has_news(bus);
  if (is_news && now - bus->told_ms >= HOLT_LAST_MS) tell_last_to_all(bus);
  if (bus->origins.hole_count > 0 || is_news) holt_timer_start(&bus->timer, TICK_MS);
}

struct holt_bus *holt_bus_new(struct holt_env *env, struct holt_links *links, uint64_t boot, const char *name,
                              uint64_t buffer_timeout_ms, const struct holt_bus_ops *ops, void *arg) {
  struct holt_bus *bus = holt_alloc(sizeof *bus);
  bus->env = env;
  bus->node_links = links;
  bus->ops = ops;
  bus->arg = arg;
  bus->boot = boot;
  bus->buffer_timeout_ms = buffer_timeout_ms;
  bus->frame_max = holt_links_frame_max(links);
  snprintf(bus->name, sizeof bus->name, "%s", name);
  bus->name_len = strlen(bus->name);
  holt__subs_init(&bus->subs);
  holt__origins_init(&bus->origins, 2 * buffer_timeout_ms, on_gap, bus);
  holt_list_init(&bus->links);
  holt_list_init(&bus->events);
  holt_list_init(&bus->spares);
  holt_list_init(&bus->waiters);
  holt_post_init(&bus->wake, wake_next, bus);
  holt__routes_init(bus);
  holt__calls_init(bus);
  holt_timer_init(&bus->timer, env, on_tick, bus);
  return bus;
}

void holt_bus_close(struct holt_bus *bus) {
  bus->is_closed = true;
  holt__routes_close(bus);
  holt__calls_close(bus);
  while (!holt_list_is_empty(&bus->waiters)) {
    struct holt_bus_waiter *waiter =
        HOLT_CONTAINER(holt_list_shift(&bus->waiters), struct holt_bus_waiter, node);
    waiter->cb(waiter->arg);
  }
}

void holt_bus_free(struct holt_bus *bus) {
  if (bus == NULL) return;
  HOLT_LIST_EACH(&bus->links, node, next) forget_link(bus, HOLT_CONTAINER(node, struct holt_bus_link, node));
  HOLT_LIST_EACH(&bus->events, other, after) { /* whoever holds one lets go later */
    struct holt_bus_event *e = HOLT_CONTAINER(other, struct holt_bus_event, node);
    holt_list_remove(&e->node);
    e->bus = NULL;
  }
  holt_timer_stop(&bus->timer);
  holt_post_cancel(&bus->wake);
  holt__calls_free(bus);
  holt__routes_free(bus);
  holt__subs_free(&bus->subs);
  holt__origins_free(&bus->origins);
  for (struct holt_list *spare = holt_list_shift(&bus->spares); spare != NULL;
       spare = holt_list_shift(&bus->spares))
    free(HOLT_CONTAINER(spare, struct holt_bus_event, node));
  free(bus);
}

struct holt_sub *holt_bus_subscribe(struct holt_bus *bus, const char *pattern, size_t len, holt_event_cb cb,
                                    void *arg) {
  return holt__subs_add(&bus->subs, pattern, len, cb, arg);
}

void holt_bus_unsubscribe(struct holt_bus *bus, struct holt_sub *sub) {
  holt__subs_remove(&bus->subs, sub);
}

void holt_bus_stats(const struct holt_bus *bus, struct holt_bus_stats *out) {
  *out = bus->stats;
}
