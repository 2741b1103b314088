/* bus.h - events to every node reachable over any graph of links: subjects, patterns, flooding, duplicates,
 * gaps.
 *
 * An event is (origin boot, sequence). Each node handles it once per boot, in order per origin, and passes it
 * on to all its other links. Call from the loop's thread only. Durations are milliseconds. */
#ifndef HOLT_BUS_BUS_H
#define HOLT_BUS_BUS_H

#include "base/buf.h"
#include "env/env.h"
#include "link/link.h"

struct holt_bus;
struct holt_sub;

#define HOLT_SUBJECT_MAX 255 /* bytes in a subject or pattern */

/* One event on its way to the handlers of this node. Valid until holt_event_done. Fields are read-only. */
struct holt_event {
  const char *subject; /* NUL-terminated */
  size_t subject_len;
  const char *origin; /* name of the emitting node */
  uint64_t boot;      /* boot id of the emitting node */
  uint64_t sequence;  /* number of the event at that boot */
  struct holt_buf payload;
  uint8_t codec; /* id of the codec that made the payload */
  uint8_t hops;  /* links it came over; 1 from a neighbour */
  bool late;     /* arrived after events that were emitted later */
};

/* An event for a subscription; runs inside the loop, so no Lua here. The receiver owes one holt_event_done
 * for each time it is called: at once, or later; until then the event counts against its link's credit. */
typedef void (*holt_event_cb)(void *arg, struct holt_event *event);

/* Milliseconds since the event was emitted, as far as the nodes on its way could tell. */
uint64_t holt_event_age_ms(const struct holt_event *event);
/* The subscription has handled the event or its handler has parked. The event is gone when all are done. */
void holt_event_done(struct holt_event *event);
/* Keep an event beyond holt_event_done (for a handler that parked). Pair with holt_event_release. */
void holt_event_retain(struct holt_event *event);
void holt_event_release(struct holt_event *event);

/* Whether `subject` may be emitted: words of any bytes but NUL, space, '.', '*' and '>', joined by dots, at
 * most HOLT_SUBJECT_MAX bytes. With `is_pattern` a word may be '*' (any one word) and the last one '>' (one
 * or more). */
int holt_subject_check(const char *subject, size_t len, bool is_pattern, struct holt_err *err);
/* Whether `pattern` covers `subject`; both are valid. */
bool holt_subject_match(const char *pattern, size_t pattern_len, const char *subject, size_t subject_len);

/* Subscribe to a valid pattern. Order among subscriptions is the order they were made in. */
struct holt_sub *holt_bus_subscribe(struct holt_bus *bus, const char *pattern, size_t len, holt_event_cb cb,
                                    void *arg);
/* No further call of its callback; events handed out before are still owed their holt_event_done. */
void holt_bus_unsubscribe(struct holt_bus *bus, struct holt_sub *sub);

/* Send an event to every other node. Own subscriptions do not run. The bytes are copied.
 * 0, or: HOLT_EAGAIN     some link has no room and wants us to wait (see holt_bus_wait);
 *        HOLT_ETOOLARGE  the event would not fit into one frame;
 *        HOLT_EFULL      a link with overflow "error" is full (nothing was sent anywhere);
 *        HOLT_ECLOSED    the bus is closing. */
int holt_bus_emit(struct holt_bus *bus, const char *subject, size_t subject_len, uint8_t codec,
                  struct holt_buf payload, struct holt_err *err);

/* A place in the queue of those who wait to emit. The caller owns the memory and zero-initialises it. */
struct holt_bus_waiter {
  struct holt_list node;
  void (*cb)(void *arg); /* runs once: the waiter has left the queue and should try holt_bus_emit again */
  void *arg;
  bool is_retry; /* it had its turn before: queues up in front */
  bool is_woken; /* `cb` ran and no emit has been tried since */
};
/* Queue up after HOLT_EAGAIN; again with the same waiter when the retry finds no room either. */
void holt_bus_wait(struct holt_bus *bus, struct holt_bus_waiter *waiter, void (*cb)(void *arg), void *arg);
/* Leave the queue, or give one's turn away. Harmless for a waiter that does not wait. */
void holt_bus_wait_cancel(struct holt_bus *bus, struct holt_bus_waiter *waiter);

/* --- Request and reply ---------------------------------------------------------------------------- */

struct holt_serve;
struct holt_call;

/* One request for a handler of this node. Fields are read-only, valid until it is answered. */
struct holt_request {
  const char *subject;
  const char *origin; /* name of the calling node */
  uint64_t boot;      /* of the calling node */
  struct holt_buf payload;
  uint8_t codec;
  uint8_t hops;
};

/* A request; runs inside the loop. The receiver owes exactly one holt_request_reply or holt_request_fail. */
typedef void (*holt_serve_cb)(void *arg, struct holt_request *request);

/* Answer requests for `subject` (no wildcards). Every node learns of it. NULL when this node serves it
 * already. */
struct holt_serve *holt_bus_serve(struct holt_bus *bus, const char *subject, size_t len, holt_serve_cb cb,
                                  void *arg);
/* No further request; those handed out before are still owed their answer. */
void holt_bus_unserve(struct holt_bus *bus, struct holt_serve *serve);

/* Milliseconds until the caller gives up; 0: it has, so running the handler is in vain. */
uint64_t holt_request_left_ms(const struct holt_request *request);
/* The handler has parked: its request no longer counts against its link's credit. Answering implies it. */
void holt_request_begun(struct holt_request *request);
/* Answer, and let go of the request. */
void holt_request_reply(struct holt_request *request, uint8_t codec, struct holt_buf payload);
/* The handler raised; the caller gets remote_error with this text. */
void holt_request_fail(struct holt_request *request, const char *message);

/* How a call ended. 0; or HOLT_ENORESPONDER (nobody serves it), HOLT_EREMOTE (the handler raised),
 * HOLT_ETIMEOUT, HOLT_EUNREACHABLE, HOLT_ECLOSED, HOLT_EFULL, HOLT_ESTALLED. `err.node` names the responder
 * where one was chosen. */
struct holt_call_result {
  struct holt_err err; /* code 0: answered */
  bool may_have_run;   /* on failure: whether the handler may have run (or may yet) */
  const char *node;    /* who answered, borrowed until return */
  uint8_t codec;
  struct holt_buf payload; /* borrowed until return */
};
typedef void (*holt_call_cb)(void *arg, const struct holt_call_result *result);

/* Ask the nearest node that serves `subject`; among equally near ones they take turns. `cb` runs once, on a
 * later turn, at the latest after `timeout_ms`. The call is valid until `cb` ran or it was cancelled. It is
 * tried with another responder only when it surely did not reach the first. NULL with `err`: HOLT_ETOOLARGE,
 * HOLT_ECLOSED, HOLT_EFULL (too much under way already), HOLT_ESTALLED (and none of it was taken for a
 * second); both may also come to `cb`, when many calls were made at once. */
struct holt_call *holt_bus_call(struct holt_bus *bus, const char *subject, size_t len, uint8_t codec,
                                struct holt_buf payload, uint64_t timeout_ms, holt_call_cb cb, void *arg,
                                struct holt_err *err);
/* The same for a call that rather waits until its deadline than end in want of a responder, of a way or of
 * room, as long as it surely did not run. Those of one subject are sent in the order they were made in. How
 * many wait is for the caller to bound. NULL with `err`: HOLT_ETOOLARGE, HOLT_ECLOSED. */
struct holt_call *holt_bus_call_patiently(struct holt_bus *bus, const char *subject, size_t len,
                                          uint8_t codec, struct holt_buf payload, uint64_t timeout_ms,
                                          holt_call_cb cb, void *arg, struct holt_err *err);
/* Give up; `cb` does not run. The handler may run all the same. */
void holt_call_cancel(struct holt_call *call);

struct holt_bus_stats {
  uint64_t emitted;    /* own events */
  uint64_t received;   /* event frames that came in */
  uint64_t delivered;  /* handed to at least one subscription */
  uint64_t forwarded;  /* copies passed on to other links */
  uint64_t duplicates; /* thrown away because already seen */
  uint64_t lost;       /* told by `gap` */
  uint64_t expired;    /* older than buffer_timeout */
};
void holt_bus_stats(const struct holt_bus *bus, struct holt_bus_stats *out);

struct holt_bus_ops {
  /* `count` events of `origin` were lost on their way here and will never be handled. */
  void (*on_gap)(void *arg, const char *origin, uint64_t boot, uint64_t count);
};

struct holt_bus *holt_bus_new(struct holt_env *env, struct holt_links *links, uint64_t boot, const char *name,
                              uint64_t buffer_timeout_ms, const struct holt_bus_ops *ops, void *arg);
/* Take no more emits, calls and requests: they get HOLT_ECLOSED, and so do those who wait once they try
 * again. Requests that were handed out are still to be answered. */
void holt_bus_close(struct holt_bus *bus);
/* Whether callers elsewhere wait for answers from here, or for one that looks for its way here. */
bool holt_bus_owes_answers(const struct holt_bus *bus);
/* Tell these callers HOLT_EREMOTE, "may have run"; what their handlers still answer is thrown away. */
void holt_bus_give_up_answers(struct holt_bus *bus);
/* Frees everything. Events still handed out stay valid until their holt_event_done. */
void holt_bus_free(struct holt_bus *bus);

/* What the links tell their bus (the node wires these to struct holt_links_ops). */
void holt_bus_link_message(struct holt_bus *bus, struct holt_link *link,
                           const struct holt_link_message *message);
void holt_bus_link_dropped(struct holt_bus *bus, struct holt_link *link, struct holt_msg *msg, bool was_sent);
void holt_bus_link_down(struct holt_bus *bus, struct holt_link *link);
bool holt_bus_link_notice(struct holt_bus *bus, struct holt_link *link, size_t len_max,
                          struct holt_writer *out);
void holt_bus_link_room(struct holt_bus *bus);
void holt_bus_link_credit(struct holt_bus *bus, struct holt_link *link, uint64_t bytes);
void holt_bus_link_up(struct holt_bus *bus, struct holt_link *link);
void holt_bus_link_gone(struct holt_bus *bus, struct holt_link *link);

#endif /* HOLT_BUS_BUS_H */
