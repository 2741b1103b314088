/* event.c - one event between its link, its handlers and the links onward.
 *
 * It is acknowledged to its link when nobody owes it anything: each handler has returned or parked, and each
 * link that was choked when the event was passed on has credit again. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bus/bus_impl.h"

void holt__bus_link_release(struct holt_bus_link *bl) {
  if (--bl->refs > 0) return;
  HOLT_ASSERT(bl->link == NULL);
  free(bl->drops);
  free(bl);
}

/* The names, NUL-terminated, lie behind the body of the event's own copy: one allocation holds everything. */
static char *put_name(uint8_t **at, struct holt_buf name) {
  char *text = (char *)*at;
  memcpy(text, name.data, name.len);
  text[name.len] = '\0';
  *at += name.len + 1;
  return text;
}

static struct holt_bus_event *take_spare(struct holt_bus *bus) {
  struct holt_list *node = holt_list_shift(&bus->spares);
  if (node == NULL) return holt_realloc(NULL, sizeof(struct holt_bus_event));
  bus->spare_count--;
  return HOLT_CONTAINER(node, struct holt_bus_event, node);
}

struct holt_bus_event *holt__event_new(struct holt_bus *bus, struct holt_bus_link *from,
                                       const struct holt_link_message *message,
                                       const struct holt_wire_event *wire) {
  struct holt_buf body = message->body;
  struct holt_msg *msg =
      holt_msg_new_with_tail(HOLT_WIRE_EVENT, body.len, wire->origin.len + wire->subject.len + 2);
  if (msg == NULL) return NULL;
  uint64_t now = holt_env_now_ms(bus->env);
  memcpy(msg->data, body.data, body.len);
  msg->data[HOLT_WIRE_EVENT_HOPS]++;
  msg->born_ms = now > message->age_ms ? now - message->age_ms : 0;
  struct holt_bus_event *e = take_spare(bus);
  uint8_t *names = msg->data + body.len;
  e->bus = bus;
  e->refs = e->owed = 1; /* ours, while it is being handed out */
  e->from = from;
  e->number = message->number;
  e->msg = msg;
  from->refs++;
  holt_list_push(&bus->events, &e->node);
  holt_list_init(&e->blocked);
  e->event = (struct holt_event){
      .origin = put_name(&names, wire->origin),
      .subject = put_name(&names, wire->subject),
      .subject_len = wire->subject.len,
      .boot = wire->boot,
      .sequence = wire->sequence,
      .payload = holt_buf(msg->data + (wire->payload.data - body.data), wire->payload.len),
      .codec = wire->codec,
      .hops = (uint8_t)(wire->hops + 1)};
  return e;
}

void holt_event_retain(struct holt_event *event) {
  ((struct holt_bus_event *)event)->refs++;
}

void holt_event_release(struct holt_event *event) {
  struct holt_bus_event *e = (struct holt_bus_event *)event;
  HOLT_ASSERT(e->refs > 0);
  if (--e->refs > 0) return;
  holt_list_remove(&e->node);
  holt_list_remove(&e->blocked);
  holt_msg_release(e->msg);
  holt__bus_link_release(e->from);
  if (e->bus == NULL || e->bus->spare_count == HOLT_SPARES_MAX) {
    free(e);
    return;
  }
  e->bus->spare_count++;
  holt_list_push(e->bus->spares.next, &e->node); /* in front: it is still warm */
}

void holt_event_done(struct holt_event *event) {
  struct holt_bus_event *e = (struct holt_bus_event *)event;
  HOLT_ASSERT(e->owed > 0);
  if (--e->owed > 0) return;
  if (e->bus != NULL && e->from->link != NULL) holt_link_consume(e->from->link, HOLT_LANE_BUS, e->number);
  holt_event_release(event); /* the one reference that all owners of `owed` share */
}

uint64_t holt_event_age_ms(const struct holt_event *event) {
  const struct holt_bus_event *e = (const struct holt_bus_event *)event;
  if (e->bus == NULL) return 0;
  uint64_t now = holt_env_now_ms(e->bus->env);
  return now > e->msg->born_ms ? now - e->msg->born_ms : 0;
}
