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

struct holt_bus_event *holt__event_new(struct holt_bus *bus, struct holt_bus_link *from, uint64_t number,
                                       const struct holt_wire_event *wire, struct holt_msg *msg) {
  struct holt_bus_event *e = bus->spare;
  bus->spare = NULL;
  if (e == NULL) e = holt_realloc(NULL, sizeof *e);
  e->bus = bus;
  e->refs = e->owed = 1; /* ours, while it is being handed out */
  e->from = from;
  e->number = number;
  e->msg = msg;
  from->refs++;
  holt_list_push(&bus->events, &e->node);
  holt_list_init(&e->blocked);
  memcpy(e->origin, wire->origin.data, wire->origin.len);
  e->origin[wire->origin.len] = '\0';
  memcpy(e->subject, wire->subject.data, wire->subject.len);
  e->subject[wire->subject.len] = '\0';
  struct holt_wire_event copy;
  int rc = holt_wire_event_read(holt_buf(msg->data, msg->len), &copy, NULL);
  HOLT_ASSERT(rc == 0);
  e->event = (struct holt_event){.subject = e->subject,
                                 .subject_len = wire->subject.len,
                                 .origin = e->origin,
                                 .boot = wire->boot,
                                 .sequence = wire->sequence,
                                 .payload = copy.payload,
                                 .codec = wire->codec,
                                 .hops = copy.hops};
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
  if (e->bus != NULL && e->bus->spare == NULL)
    e->bus->spare = e;
  else
    free(e);
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
