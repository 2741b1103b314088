/* call.c - requests and replies.
 *
 * - call: choose the nearest responder, send the request towards it over the first link of the way, wait for
 * the reply or the deadline.
 * - on the way: a node that is not the target sends it on over its own way there. Without one, and only
 * because then it has surely not arrived, it answers "unreachable".
 * - at the target: the handler runs; its reply travels back by the ways to the caller. Where there is none it
 * waits for one to open.
 * - a link breaks: the request waits for its link as any message does, but what may have arrived at one boot
 * is not sent to another: it is answered "unreachable, may have run".
 * - unreachable, and it surely did not run: the caller tries another responder until the deadline.
 * - a patient call waits in line (line.c) whenever there is no way with room, and again when it surely did
 * not run: it ends in an answer, at the deadline, or where it may have run. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bus/bus_impl.h"

struct holt_call {
  struct holt_bus *bus;
  uint64_t id;
  uint64_t deadline_ms;
  struct holt_timer timer;
  struct holt_post post; /* for what is known at once */
  holt_call_cb cb;
  void *arg;
  uint64_t tried[HOLT_CALL_TRIES_MAX]; /* boots asked */
  size_t tried_count;
  bool is_sent; /* to the last one tried */
  bool is_patient;
  struct holt_place place; /* of a patient one without room */
  char node[HOLT_NAME_MAX + 1];
  uint8_t codec;
  size_t subject_len, payload_len;
  uint8_t bytes[]; /* subject, payload */
};

struct bus_request {
  struct holt_request request; /* first */
  struct holt_list node;       /* in calls->requests */
  struct holt_bus *bus;        /* NULL once it is gone */
  struct holt_bus_link *from;  /* NULL: a call from this very node */
  uint64_t number;             /* at its link */
  uint64_t id, deadline_ms;
  bool is_begun;
  char subject[HOLT_SUBJECT_MAX + 1];
  char origin[HOLT_NAME_MAX + 1];
  uint8_t payload[];
};

/* --- Ending a call -------------------------------------------------------------------------------- */

static void free_call(struct holt_call *call) {
  holt_map_remove(&call->bus->calls.open, call->id);
  holt_timer_stop(&call->timer);
  holt_post_cancel(&call->post);
  holt__line_leave(&call->place);
  free(call);
}

static void finish(struct holt_call *call, const struct holt_call_result *result) {
  holt_call_cb cb = call->cb;
  void *arg = call->arg;
  struct holt_call_result copy = *result;
  char node[sizeof call->node];
  memcpy(node, call->node, sizeof node);
  if (copy.node == NULL) copy.node = node;
  if (copy.err.code != 0) memcpy(copy.err.node, node, sizeof node);
  free_call(call);
  cb(arg, &copy);
}

static void fail(struct holt_call *call, int code, bool may_have_run, const char *what) {
  struct holt_call_result result = {.may_have_run = may_have_run};
  holt_err_set(&result.err, code, "call of '%.*s'%s%s: %s", (int)call->subject_len, (const char *)call->bytes,
               call->node[0] != '\0' ? " at " : "", call->node, what);
  finish(call, &result);
}

static void on_deadline(void *arg) {
  struct holt_call *call = arg;
  if (call->is_sent)
    fail(call, HOLT_ETIMEOUT, true, "no answer within the timeout; it may have run, or may yet");
  else
    fail(call, HOLT_ETIMEOUT, false,
         call->is_patient ? "no way with room to a responder opened within the timeout; it did not run"
                          : "no way to a responder opened within the timeout; it did not run");
}

/* --- Sending -------------------------------------------------------------------------------------- */

/* Hand `msg` (reference taken) to the first link of a way. */
static void send_along(const struct holt_route *route, struct holt_msg *msg) {
  holt_link_send(route->first->link, HOLT_LANE_CALL, msg);
  holt_msg_release(msg);
}

static struct holt_msg *make_reply(struct holt_bus *bus, const struct holt_wire_reply *reply) {
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_REPLY, holt_wire_reply_size(reply));
  if (msg == NULL) return NULL;
  holt_wire_reply_write(msg->data, reply);
  msg->born_ms = holt_env_now_ms(bus->env);
  return msg;
}

static void on_reply(struct holt_bus *bus, const struct holt_wire_reply *reply);

#define HOMELESS_HOPE_MS 5000  /* a closing node believes for so long that a way will open */
#define HOMELESS_MS      60000 /* and any node for so long */

/* A reply that waits for a way to its caller. */
struct homeless {
  struct holt_list node; /* in calls->homeless */
  uint64_t origin;
  struct holt_msg *msg;
};

static void free_homeless(struct holt_bus *bus, struct homeless *h) {
  bus->calls.homeless_count--;
  bus->calls.homeless_bytes -= h->msg->len;
  holt_list_remove(&h->node);
  holt_msg_release(h->msg);
  free(h);
}

static struct homeless *first_homeless(struct holt_bus *bus) {
  struct holt_list *list = &bus->calls.homeless;
  /* What was freed is out of the ring, which the analyser misses.
   * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
  return holt_list_is_empty(list) ? NULL : HOLT_CONTAINER(list->next, struct homeless, node);
}

/* Keep `msg` (reference taken) until there is a way. */
static void keep_homeless(struct holt_bus *bus, uint64_t origin, struct holt_msg *msg) {
  struct homeless *h = holt_alloc(sizeof *h);
  h->origin = origin;
  h->msg = msg;
  holt_list_push(&bus->calls.homeless, &h->node);
  bus->calls.homeless_count++;
  bus->calls.homeless_bytes += msg->len;
  while (bus->calls.homeless_count > HOLT_HOMELESS_MAX || bus->calls.homeless_bytes > HOLT_HOMELESS_BYTES_MAX)
    free_homeless(bus, first_homeless(bus)); /* the deadline tells its caller */
}

/* The link over which a reply gets to its caller: the first of the way there; without a way the one to the
 * caller itself, should that be a neighbour whose connection is down: it may come back. Or NULL. */
static struct holt_link *link_towards(struct holt_bus *bus, uint64_t boot) {
  struct holt_route *route = holt__routes_to(bus, boot);
  if (route != NULL) return route->first->link;
  struct holt_link *link = holt_links_first(bus->node_links);
  while (link != NULL && holt_link_boot(link) != boot) link = holt_links_next(bus->node_links, link);
  return link;
}

static void retry_homeless(void *arg) {
  struct holt_bus *bus = arg;
  HOLT_LIST_EACH(&bus->calls.homeless, node, next) {
    struct homeless *h = HOLT_CONTAINER(node, struct homeless, node);
    struct holt_link *link = link_towards(bus, h->origin);
    uint64_t age_ms = holt_env_now_ms(bus->env) - h->msg->born_ms;
    if (link != NULL) holt_link_send(link, HOLT_LANE_CALL, h->msg);
    if (link != NULL || age_ms > HOMELESS_MS) free_homeless(bus, h);
  }
}

void holt__calls_ways_changed(struct holt_bus *bus) {
  if (bus->calls.homeless_count > 0) holt_env_post(bus->env, &bus->calls.retry);
}

/* Send a reply that came `age_ms` ago towards its caller. Without a way it waits for one. */
static void send_towards(struct holt_bus *bus, const struct holt_wire_reply *reply, uint64_t age_ms) {
  struct holt_link *link = link_towards(bus, reply->origin);
  struct holt_wire_reply copy = *reply;
  if (link != NULL && copy.payload.len > 256 &&
      holt_link_room(link, HOLT_LANE_CALL, holt_wire_reply_size(reply)) != 0) {
    copy.status = HOLT_REPLY_RAISED; /* bounded: the caller gets a short word instead of its answer */
    copy.payload =
        holt_buf_text("it ran, but the way back has no room for its answer; ask for less at a time");
  }
  struct holt_msg *msg = make_reply(bus, &copy);
  if (msg == NULL) return;
  msg->born_ms -= age_ms < msg->born_ms ? age_ms : msg->born_ms;
  if (link == NULL) {
    keep_homeless(bus, reply->origin, msg);
    return;
  }
  holt_link_send(link, HOLT_LANE_CALL, msg);
  holt_msg_release(msg);
}

static void send_reply(struct holt_bus *bus, const struct holt_wire_reply *reply) {
  if (reply->origin == bus->boot)
    on_reply(bus, reply);
  else
    send_towards(bus, reply, 0);
}

static void answer_unreachable(struct holt_bus *bus, const struct holt_wire_call *call, bool may_have_run) {
  struct holt_wire_reply reply = {.origin = call->origin,
                                  .id = call->id,
                                  .responder = call->target,
                                  .status = HOLT_REPLY_UNREACHABLE,
                                  .may_have_run = may_have_run,
                                  .name = holt_buf_text(bus->name)};
  send_reply(bus, &reply);
}

static void serve_here(struct holt_bus *bus, struct holt_link *link, uint64_t number,
                       const struct holt_wire_call *wire, uint64_t left_ms);

/* Whether the first link of a way takes the request now. */
static int check_room(const struct holt_route *route, const struct holt_wire_call *wire,
                      struct holt_err *err) {
  struct holt_link *link = route->first->link;
  int rc = holt_link_room(link, HOLT_LANE_CALL, holt_wire_call_size(wire));
  if (rc == 0) return 0;
  int code = rc == HOLT_ESTALLED ? HOLT_ESTALLED : HOLT_EFULL;
  holt_err_set(err, code, "%s '%s'; try again later",
               rc == HOLT_ESTALLED ? "no request was taken for a second by"
                                   : "too many requests are under way to",
               holt_link_name(link));
  return code;
}

static struct holt_wire_call wire_of(const struct holt_call *call) {
  uint64_t now = holt_env_now_ms(call->bus->env);
  return (struct holt_wire_call){.origin = call->bus->boot,
                                 .id = call->id,
                                 .left_ms = (uint32_t)(call->deadline_ms > now ? call->deadline_ms - now : 0),
                                 .codec = call->codec,
                                 .name = holt_buf_text(call->bus->name),
                                 .subject = holt_buf(call->bytes, call->subject_len),
                                 .payload = holt_buf(call->bytes + call->subject_len, call->payload_len)};
}

/* Hand it to a handler of this very node, if there is one. */
static bool try_here(struct holt_call *call) {
  struct holt_bus *bus = call->bus;
  if (call->tried_count > 0) return false;
  if (holt__calls_find_serve(bus, (const char *)call->bytes, call->subject_len) == NULL) return false;
  struct holt_wire_call wire = wire_of(call);
  snprintf(call->node, sizeof call->node, "%s", bus->name);
  call->tried[call->tried_count++] = wire.target = bus->boot;
  call->is_sent = true;
  serve_here(bus, NULL, 0, &wire, wire.left_ms);
  return true;
}

/* The first link of the way takes it. */
static void send_by(struct holt_call *call, const struct holt_route *route) {
  struct holt_bus *bus = call->bus;
  struct holt_wire_call wire = wire_of(call);
  holt__routes_hurry(bus); /* whoever answers shall know the way back */
  bus->calls.turn++;       /* the next call asks the next of equally near ones */
  wire.target = route->boot;
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_CALL, holt_wire_call_size(&wire));
  if (msg == NULL) {
    fail(call, HOLT_ENOMEM, false, "out of memory");
    return;
  }
  holt_wire_call_write(msg->data, &wire);
  msg->born_ms = holt_env_now_ms(bus->env);
  snprintf(call->node, sizeof call->node, "%s", route->name);
  call->tried[call->tried_count++] = route->boot;
  call->is_sent = true;
  send_along(route, msg);
}

static void try_next(struct holt_call *call) {
  struct holt_bus *bus = call->bus;
  if (try_here(call)) return;
  struct holt_wire_call wire = wire_of(call);
  struct holt_route *route = call->tried_count == HOLT_CALL_TRIES_MAX
                                 ? NULL
                                 : holt__routes_nearest(bus, (const char *)call->bytes, call->subject_len,
                                                        call->tried, call->tried_count);
  if (route == NULL && call->tried_count == 0) {
    fail(call, HOLT_ENORESPONDER, false, "no node that can be reached serves it");
    return;
  }
  if (route == NULL) {
    fail(call, HOLT_EUNREACHABLE, false,
         "the way to its responder broke and there is no other; it did not run");
    return;
  }
  int code = check_room(route, &wire, NULL);
  if (code != 0)
    fail(call, code, false, "too much is under way on the way to its responder; it did not run");
  else
    send_by(call, route);
}

/* A patient call, none of whose tries counts. An absent peer gets nothing: it could drop it for want of room.
 */
static bool try_patient(struct holt_call *call) {
  call->tried_count = 0;
  if (try_here(call)) return true;
  struct holt_wire_call wire = wire_of(call);
  struct holt_route *route =
      holt__routes_nearest(call->bus, (const char *)call->bytes, call->subject_len, NULL, 0);
  if (route == NULL || !holt_link_is_up(route->first->link) || check_room(route, &wire, NULL) != 0)
    return false;
  send_by(call, route);
  return true;
}

static bool try_place(struct holt_place *place) {
  return try_patient(HOLT_CONTAINER(place, struct holt_call, place));
}

static void wait_in_line(struct holt_call *call) {
  call->tried_count = 0;
  call->node[0] = '\0';
  holt__line_wait(&call->bus->calls.lines, (const char *)call->bytes, call->subject_len, &call->place);
}

static void begin(void *arg) {
  struct holt_call *call = arg;
  if (!call->is_patient)
    try_next(call);
  else if (holt__lines_are_busy(&call->bus->calls.lines, (const char *)call->bytes, call->subject_len) ||
           !try_patient(call))
    wait_in_line(call);
}

static struct holt_call *make_call(struct holt_bus *bus, const char *subject, size_t len, uint8_t codec,
                                   struct holt_buf payload, uint64_t timeout_ms, bool is_patient,
                                   holt_call_cb cb, void *arg, struct holt_err *err) {
  struct holt_wire_call wire = {
      .name = holt_buf_text(bus->name), .subject = holt_buf(subject, len), .payload = payload};
  size_t size = holt_wire_call_size(&wire);
  if (bus->is_closed) {
    holt_err_set(err, HOLT_ECLOSED, "the node is closed");
    return NULL;
  }
  if (size > bus->frame_max) {
    holt_err_set(err, HOLT_ETOOLARGE, "the request '%.*s' has %zu bytes, at most %u fit into a frame",
                 (int)len, subject, size, bus->frame_max);
    return NULL;
  }
  struct holt_route *route = is_patient ? NULL : holt__routes_nearest(bus, subject, len, NULL, 0);
  if (route != NULL && check_room(route, &wire, err) != 0) return NULL;
  struct holt_call *call = holt_alloc(sizeof *call + len + payload.len);
  holt_list_init(&call->place.node);
  call->is_patient = is_patient;
  call->bus = bus;
  call->id = call->place.id = ++bus->calls.next_id;
  call->cb = cb;
  call->arg = arg;
  call->codec = codec;
  call->subject_len = len;
  call->payload_len = payload.len;
  memcpy(call->bytes, subject, len);
  if (payload.len > 0) memcpy(call->bytes + len, payload.data, payload.len);
  if (timeout_ms > UINT32_MAX) timeout_ms = UINT32_MAX;
  call->deadline_ms = holt_env_now_ms(bus->env) + timeout_ms;
  holt_map_set(&bus->calls.open, call->id, call);
  holt_timer_init(&call->timer, bus->env, on_deadline, call);
  holt_timer_start(&call->timer, timeout_ms);
  holt_post_init(&call->post, begin, call);
  holt_env_post(bus->env, &call->post);
  return call;
}

struct holt_call *holt_bus_call(struct holt_bus *bus, const char *subject, size_t len, uint8_t codec,
                                struct holt_buf payload, uint64_t timeout_ms, holt_call_cb cb, void *arg,
                                struct holt_err *err) {
  return make_call(bus, subject, len, codec, payload, timeout_ms, false, cb, arg, err);
}

struct holt_call *holt_bus_call_patiently(struct holt_bus *bus, const char *subject, size_t len,
                                          uint8_t codec, struct holt_buf payload, uint64_t timeout_ms,
                                          holt_call_cb cb, void *arg, struct holt_err *err) {
  return make_call(bus, subject, len, codec, payload, timeout_ms, true, cb, arg, err);
}

void holt_call_cancel(struct holt_call *call) {
  free_call(call);
}

/* --- Replies -------------------------------------------------------------------------------------- */

/* It surely did not run. */
static void try_again(struct holt_call *call) {
  call->is_sent = false;
  if (call->is_patient)
    wait_in_line(call);
  else
    try_next(call);
}

static void on_reply(struct holt_bus *bus, const struct holt_wire_reply *reply) {
  struct holt_call *call = holt_map_get(&bus->calls.open, reply->id);
  if (call == NULL || call->tried_count == 0 || call->tried[call->tried_count - 1] != reply->responder)
    return;
  char name[HOLT_NAME_MAX + 1], text[300];
  snprintf(name, sizeof name, "%.*s", (int)reply->name.len, (const char *)reply->name.data);
  struct holt_call_result result = {.node = name, .codec = reply->codec, .payload = reply->payload};
  switch ((enum holt_reply_status)reply->status) {
  case HOLT_REPLY_OK:
    finish(call, &result);
    break;
  case HOLT_REPLY_RAISED:
    snprintf(text, sizeof text, "%.*s", (int)(reply->payload.len < 299 ? reply->payload.len : 299),
             (const char *)reply->payload.data);
    fail(call, HOLT_EREMOTE, true, text);
    break;
  case HOLT_REPLY_UNREACHABLE:
    if (reply->may_have_run) {
      fail(call, HOLT_EUNREACHABLE, true, "the way to its responder broke; it may have run");
      break;
    }
    try_again(call);
    break;
  case HOLT_REPLY_NO_RESPONDER:
    try_again(call);
    break;
  }
}

static void pass_reply_on(struct holt_bus *bus, const struct holt_wire_reply *reply, uint64_t age_ms) {
  struct holt_wire_reply copy = *reply;
  if (copy.hops == UINT8_MAX) return;
  holt__routes_hurry(bus);
  copy.hops++;
  send_towards(bus, &copy, age_ms);
}

/* --- Requests ------------------------------------------------------------------------------------- */

struct holt_serve *holt__calls_find_serve(struct holt_bus *bus, const char *subject, size_t len) {
  HOLT_LIST_EACH(&bus->calls.serves, node, next) {
    struct holt_serve *serve = HOLT_CONTAINER(node, struct holt_serve, node);
    if (serve->len == len && memcmp(serve->subject, subject, len) == 0) return serve;
  }
  return NULL;
}

struct holt_serve *holt_bus_serve(struct holt_bus *bus, const char *subject, size_t len, holt_serve_cb cb,
                                  void *arg) {
  if (holt__calls_find_serve(bus, subject, len) != NULL) return NULL;
  struct holt_serve *serve = holt_alloc(sizeof *serve);
  memcpy(serve->subject, subject, len);
  serve->len = len;
  serve->cb = cb;
  serve->arg = arg;
  holt_list_push(&bus->calls.serves, &serve->node);
  holt__routes_changed(bus);
  return serve;
}

void holt_bus_unserve(struct holt_bus *bus, struct holt_serve *serve) {
  holt_list_remove(&serve->node);
  free(serve);
  holt__routes_changed(bus);
}

uint64_t holt_request_left_ms(const struct holt_request *request) {
  const struct bus_request *r = (const struct bus_request *)request;
  if (r->bus == NULL) return 0;
  uint64_t now = holt_env_now_ms(r->bus->env);
  return r->deadline_ms > now ? r->deadline_ms - now : 0;
}

void holt_request_begun(struct holt_request *request) {
  struct bus_request *r = (struct bus_request *)request;
  if (r->is_begun) return;
  r->is_begun = true;
  if (r->from == NULL) return;
  if (r->bus != NULL && r->from->link != NULL) holt_link_consume(r->from->link, HOLT_LANE_CALL, r->number);
  holt__bus_link_release(r->from);
  r->from = NULL;
}

static void send_answer(const struct bus_request *r, enum holt_reply_status status, uint8_t codec,
                        struct holt_buf payload) {
  struct holt_wire_reply reply = {.origin = r->request.boot,
                                  .id = r->id,
                                  .responder = r->bus->boot,
                                  .codec = codec,
                                  .status = (uint8_t)status,
                                  .name = holt_buf_text(r->bus->name),
                                  .payload = payload};
  if (holt_wire_reply_size(&reply) > r->bus->frame_max) {
    reply.status = HOLT_REPLY_RAISED;
    reply.payload = holt_buf_text("the answer is larger than a frame");
  }
  send_reply(r->bus, &reply);
}

static void answer(struct holt_request *request, enum holt_reply_status status, uint8_t codec,
                   struct holt_buf payload) {
  struct bus_request *r = (struct bus_request *)request;
  holt_request_begun(request);
  if (r->bus != NULL && holt_request_left_ms(request) > 0) send_answer(r, status, codec, payload);
  holt_list_remove(&r->node);
  free(r);
}

void holt_request_reply(struct holt_request *request, uint8_t codec, struct holt_buf payload) {
  answer(request, HOLT_REPLY_OK, codec, payload);
}

void holt_request_fail(struct holt_request *request, const char *message) {
  answer(request, HOLT_REPLY_RAISED, 0, holt_buf_text(message));
}

static void serve_here(struct holt_bus *bus, struct holt_link *link, uint64_t number,
                       const struct holt_wire_call *wire, uint64_t left_ms) {
  struct holt_serve *serve = holt__calls_find_serve(bus, (const char *)wire->subject.data, wire->subject.len);
  if (serve == NULL || bus->is_closed) {
    struct holt_wire_reply reply = {.origin = wire->origin,
                                    .id = wire->id,
                                    .responder = bus->boot,
                                    .status = HOLT_REPLY_NO_RESPONDER,
                                    .name = holt_buf_text(bus->name)};
    if (link != NULL) holt_link_consume(link, HOLT_LANE_CALL, number);
    send_reply(bus, &reply);
    return;
  }
  struct bus_request *r = holt_alloc(sizeof *r + wire->payload.len);
  r->bus = bus;
  r->id = wire->id;
  r->number = number;
  r->deadline_ms = holt_env_now_ms(bus->env) + left_ms;
  if (link != NULL) {
    r->from = holt__bus_link(bus, link);
    r->from->refs++;
  }
  snprintf(r->subject, sizeof r->subject, "%s", serve->subject);
  snprintf(r->origin, sizeof r->origin, "%.*s", (int)wire->name.len, (const char *)wire->name.data);
  if (wire->payload.len > 0) memcpy(r->payload, wire->payload.data, wire->payload.len);
  r->request = (struct holt_request){.subject = r->subject,
                                     .origin = r->origin,
                                     .boot = wire->origin,
                                     .payload = holt_buf(r->payload, wire->payload.len),
                                     .codec = wire->codec,
                                     .hops = wire->hops};
  holt_list_push(&bus->calls.requests, &r->node);
  serve->cb(serve->arg, &r->request);
}

/* Not for us: on over our way to the target. What cannot go on has not arrived. */
static void pass_call_on(struct holt_bus *bus, const struct holt_link_message *message,
                         const struct holt_wire_call *wire) {
  holt__routes_hurry(bus); /* should it go back, then behind the word that tells why */
  struct holt_route *route = wire->hops == UINT8_MAX ? NULL : holt__routes_to(bus, wire->target);
  struct holt_msg *msg = NULL;
  if (route != NULL && holt_link_room(route->first->link, HOLT_LANE_CALL, message->body.len) == 0)
    msg = holt_msg_new(HOLT_WIRE_CALL, message->body.len);
  if (msg == NULL) {
    answer_unreachable(bus, wire, false);
    return;
  }
  memcpy(msg->data, message->body.data, message->body.len);
  msg->data[HOLT_WIRE_CALL_HOPS]++;
  uint64_t now = holt_env_now_ms(bus->env);
  msg->born_ms = now > message->age_ms ? now - message->age_ms : 0;
  send_along(route, msg);
}

static bool on_call(struct holt_bus *bus, struct holt_link *link, const struct holt_link_message *message) {
  struct holt_wire_call wire;
  if (holt_wire_call_read(message->body, &wire, NULL) != 0) return false;
  if (message->age_ms >= wire.left_ms) return false; /* its caller has given up */
  if (wire.target != bus->boot) {
    pass_call_on(bus, message, &wire);
    return false;
  }
  wire.hops++;
  serve_here(bus, link, message->number, &wire, wire.left_ms - message->age_ms);
  return true;
}

void holt__calls_on_message(struct holt_bus *bus, struct holt_link *link,
                            const struct holt_link_message *message) {
  struct holt_wire_reply reply;
  if (message->type == HOLT_WIRE_CALL && on_call(bus, link, message))
    return; /* consumed when its handler has begun */
  if (message->type == HOLT_WIRE_ROUTE) holt__routes_hear(bus, link, message->body);
  if (message->type == HOLT_WIRE_KNOWN) holt__routes_answer(bus, link, message->body);
  if (message->type == HOLT_WIRE_REPLY && holt_wire_reply_read(message->body, &reply, NULL) == 0) {
    if (reply.origin == bus->boot)
      on_reply(bus, &reply);
    else
      pass_reply_on(bus, &reply, message->age_ms);
  }
  holt_link_consume(link, HOLT_LANE_CALL, message->number);
}

void holt__calls_on_dropped(struct holt_bus *bus, struct holt_msg *msg, bool was_sent) {
  struct holt_wire_call wire;
  if (msg->type == HOLT_WIRE_CALL && holt_wire_call_read(holt_buf(msg->data, msg->len), &wire, NULL) == 0)
    answer_unreachable(bus, &wire, was_sent);
}

/* --- Life ----------------------------------------------------------------------------------------- */

void holt__calls_init(struct holt_bus *bus) {
  holt_list_init(&bus->calls.serves);
  holt_list_init(&bus->calls.requests);
  holt_list_init(&bus->calls.homeless);
  holt_post_init(&bus->calls.retry, retry_homeless, bus);
  holt__lines_init(&bus->calls.lines, bus->env, try_place);
}

void holt__calls_close(struct holt_bus *bus) {
  size_t cursor = 0;
  uint64_t id;
  void *value;
  while (holt_map_next(&bus->calls.open, &cursor, &id, &value)) {
    struct holt_call *call = value;
    fail(call, HOLT_ECLOSED, call->is_sent, "this node was closed");
    cursor = 0;
  }
}

/* Somebody elsewhere still waits for the answer. */
static bool is_awaited(const struct bus_request *r) {
  return r->request.boot != r->bus->boot && holt_request_left_ms(&r->request) > 0;
}

bool holt_bus_owes_answers(const struct holt_bus *bus) {
  HOLT_LIST_EACH(&bus->calls.requests, node, next)
  if (is_awaited(HOLT_CONTAINER(node, struct bus_request, node))) return true;
  HOLT_LIST_EACH(&bus->calls.homeless, other, after) {
    const struct holt_msg *msg = HOLT_CONTAINER(other, struct homeless, node)->msg;
    if (holt_env_now_ms(bus->env) - msg->born_ms < HOMELESS_HOPE_MS) return true;
  }
  return false;
}

/* The handler goes on, but its answer comes too late. */
static void disown(struct bus_request *r) {
  holt_request_begun(&r->request);
  holt_list_remove(&r->node);
  r->bus = NULL;
}

void holt_bus_give_up_answers(struct holt_bus *bus) {
  HOLT_LIST_EACH(&bus->calls.requests, node, next) {
    struct bus_request *r = HOLT_CONTAINER(node, struct bus_request, node);
    if (is_awaited(r))
      send_answer(r, HOLT_REPLY_RAISED, 0,
                  holt_buf_text("the node was closed before the handler had finished; it may have run"));
    disown(r);
  }
}

void holt__calls_free(struct holt_bus *bus) {
  size_t cursor = 0;
  uint64_t id;
  void *value;
  while (holt_map_next(&bus->calls.open, &cursor, &id, &value)) {
    free_call(value);
    cursor = 0;
  }
  holt_map_free(&bus->calls.open);
  holt__lines_free(&bus->calls.lines);
  holt_post_cancel(&bus->calls.retry);
  while (bus->calls.homeless_count > 0) free_homeless(bus, first_homeless(bus));
  HOLT_LIST_EACH(&bus->calls.serves, node, next) free(HOLT_CONTAINER(node, struct holt_serve, node));
  HOLT_LIST_EACH(&bus->calls.requests, other, after) /* whoever handles one lets go later */
  disown(HOLT_CONTAINER(other, struct bus_request, node));
}
