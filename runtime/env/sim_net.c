/* sim_net.c - the network of the machine room.
 *
 * A stream is a pair of ends. Each end has a queue of what is on its way to it: data, the other side's end,
 * or a reset, each with the time it arrives; order is kept. Sending to an end that is gone brings a reset
 * back, which is how a half-open connection is noticed. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/sim_impl.h"

#define RETRY_US        20000   /* how often what waits behind a cut looks again */
#define DIAL_TIMEOUT_US 5000000 /* a dial into a cut gives up */

enum item_kind { ITEM_DATA, ITEM_WRITABLE, ITEM_FIN, ITEM_RST };

struct item {
  struct holt_list node;
  enum item_kind kind;
  uint64_t due_us;
  size_t len;
  uint8_t data[];
};

struct sim_stream {
  struct holt_stream stream;
  struct holt_sim *sim;
  struct sim_host *host; /* where this end lives */
  char peer_host[64];
  struct sim_stream *peer; /* NULL: gone */
  struct holt_list node;   /* in host->streams */
  struct holt_list inbound;
  struct sim_event deliver;
  uint64_t last_due_us;
  size_t in_flight; /* bytes this end sent that have not arrived */
  bool wants_writable;
  bool is_ended;
};

struct sim_listener {
  struct holt_listener listener;
  struct sim_host *host;
  struct holt_list node;
  uint16_t port;
  holt_accept_cb cb;
  void *arg;
};

/* A connection that the system took and the program has not seen yet. */
struct sim_accept {
  struct sim_event event;
  struct holt_list node; /* in host->accepts */
  struct sim_stream *end;
  uint16_t port;
};

struct sim_dial {
  struct holt_dial dial;
  struct sim_host *host;
  struct holt_list node;
  char address[128];
  uint64_t give_up_us;
  holt_dial_cb cb;
  void *arg;
  struct sim_event event;
  struct sim_stream *end; /* set once the other system has taken it */
  struct holt_err err;
};

/* --- Ends ----------------------------------------------------------------------------------------- */

static void schedule(struct sim_stream *s) {
  if (holt_list_is_empty(&s->inbound) || !holt_list_is_empty(&s->deliver.deferred)) return;
  struct item *first = HOLT_CONTAINER(s->inbound.next, struct item, node);
  holt__sim_event_at(s->sim, &s->deliver, first->due_us);
}

/* Put something on its way to `s`. */
static void enqueue(struct sim_stream *s, enum item_kind kind, const void *data, size_t len) {
  struct item *item = holt_alloc(sizeof *item + len);
  item->kind = kind;
  item->len = len;
  if (len > 0) memcpy(item->data, data, len);
  item->due_us = s->sim->now_us + holt__sim_delay_us(s->sim);
  if (item->due_us < s->last_due_us) item->due_us = s->last_due_us;
  s->last_due_us = item->due_us;
  holt_list_push(&s->inbound, &item->node);
  schedule(s);
}

static void clear_inbound(struct sim_stream *s) {
  HOLT_LIST_EACH(&s->inbound, node, next) free(HOLT_CONTAINER(node, struct item, node));
  holt_list_init(&s->inbound);
}

static void free_end(struct sim_stream *s) {
  clear_inbound(s);
  holt__sim_event_cancel(s->sim, &s->deliver);
  holt_list_remove(&s->node);
  if (s->peer != NULL) s->peer->peer = NULL;
  s->sim->open_streams--;
  free(s);
}

static void data_arrived(struct sim_stream *s, size_t len) {
  struct sim_stream *sender = s->peer;
  if (sender == NULL) return;
  sender->in_flight -= len;
  if (sender->wants_writable && sender->in_flight <= s->sim->config.send_buffer / 2) {
    sender->wants_writable = false;
    enqueue(sender, ITEM_WRITABLE, NULL, 0);
  }
}

static void deliver(void *arg) {
  struct sim_stream *s = arg;
  struct holt_sim *sim = s->sim;
  struct item *item = HOLT_CONTAINER(s->inbound.next, struct item, node);
  if (item->kind != ITEM_WRITABLE && holt__sim_is_cut(sim, s->peer_host, s->host->name)) {
    holt__sim_event_at(sim, &s->deliver, sim->now_us + RETRY_US);
    return;
  }
  holt_list_remove(&item->node);
  holt__sim_trace(sim, holt_hash_bytes(item->kind, item->data, item->len));
  if (item->kind == ITEM_DATA) data_arrived(s, item->len);
  schedule(s);
  /* From here on `s` may be closed, and with that freed, by its owner. */
  switch (item->kind) {
  case ITEM_DATA:
    if (s->stream.on_data != NULL) s->stream.on_data(s->stream.arg, item->data, item->len);
    break;
  case ITEM_WRITABLE:
    if (s->stream.on_writable != NULL) s->stream.on_writable(s->stream.arg);
    break;
  case ITEM_FIN:
  case ITEM_RST:
    if (!s->is_ended) {
      s->is_ended = true;
      holt__stream_end(&s->stream, item->kind == ITEM_FIN ? HOLT_EEOF : HOLT_ERESET);
    }
    break;
  }
  free(item);
}

static int end_write(struct holt_stream *stream, const void *data, size_t len) {
  struct sim_stream *s = (struct sim_stream *)stream;
  struct sim_stream *peer = s->peer;
  HOLT_ASSERT(!s->wants_writable);
  if (s->is_ended) return HOLT_ERESET;
  if (peer == NULL) {
    enqueue(s, ITEM_RST, NULL, 0);
    return 0;
  }
  size_t chunk_max = s->sim->config.chunk_max == 0 ? len : s->sim->config.chunk_max;
  for (size_t at = 0; at < len;) {
    size_t chunk = s->sim->config.chunk_max == 0 ? len : 1 + holt_rand_below(&s->sim->rand, chunk_max);
    if (chunk > len - at) chunk = len - at;
    enqueue(peer, ITEM_DATA, (const uint8_t *)data + at, chunk);
    at += chunk;
  }
  s->in_flight += len;
  s->wants_writable = s->in_flight > s->sim->config.send_buffer;
  return s->wants_writable ? 1 : 0;
}

static void reset_peer(struct sim_stream *s) {
  if (s->peer == NULL || holt__sim_is_cut(s->sim, s->host->name, s->peer_host)) return; /* lost on its way */
  if (holt_rand_below(&s->sim->rand, 2) ==
      0) { /* it overtakes what is on its way; else it comes behind that */
    clear_inbound(s->peer);
    holt__sim_event_cancel(s->sim, &s->peer->deliver);
    s->peer->last_due_us = 0;
  }
  enqueue(s->peer, ITEM_RST, NULL, 0);
}

static void end_close(struct holt_stream *stream, bool abort) {
  struct sim_stream *s = (struct sim_stream *)stream;
  if (abort)
    reset_peer(s);
  else if (s->peer != NULL)
    enqueue(s->peer, ITEM_FIN, NULL, 0);
  free_end(s);
}

static const struct holt_stream_ops end_ops = {.write = end_write, .close = end_close};

static struct sim_stream *new_end(struct sim_host *host, const struct sim_host *other) {
  struct sim_stream *s = holt_alloc(sizeof *s);
  s->stream.ops = &end_ops;
  snprintf(s->stream.peer, sizeof s->stream.peer, "%s", other->name);
  snprintf(s->peer_host, sizeof s->peer_host, "%s", other->name);
  s->sim = host->sim;
  s->host = host;
  holt_list_init(&s->inbound);
  holt_list_push(&host->streams, &s->node);
  holt__sim_event_init(&s->deliver, host, "deliver", deliver, s);
  host->sim->open_streams++;
  return s;
}

void holt_sim_break(struct holt_sim *sim, const char *a, const char *b) {
  struct sim_host *host = holt__sim_find_host(sim, a);
  if (host == NULL) return;
  HOLT_LIST_EACH(&host->streams, node, next) {
    struct sim_stream *s = HOLT_CONTAINER(node, struct sim_stream, node);
    if (strcmp(s->peer_host, b) != 0 || s->is_ended) continue;
    struct sim_stream *ends[2] = {s, s->peer};
    if (s->peer != NULL) s->peer->peer = NULL;
    s->peer = NULL;
    for (int i = 0; i < 2; i++) {
      if (ends[i] == NULL) continue;
      clear_inbound(ends[i]);
      ends[i]->last_due_us = 0;
      enqueue(ends[i], ITEM_RST, NULL, 0);
    }
  }
}

/* --- Listening ------------------------------------------------------------------------------------ */

static struct sim_listener *find_listener(struct sim_host *host, uint16_t port) {
  HOLT_LIST_EACH(&host->listeners, node, next) {
    struct sim_listener *l = HOLT_CONTAINER(node, struct sim_listener, node);
    if (l->port == port) return l;
  }
  return NULL;
}

int holt__sim_listen(struct holt_env *env, const char *address, holt_accept_cb cb, void *arg,
                     struct holt_listener **out, char actual[128], struct holt_err *err) {
  struct sim_host *host = (struct sim_host *)env;
  char name[128];
  uint16_t port;
  int rc = holt_address_split(address, name, &port, err);
  if (rc != 0) return rc;
  if (port == 0) port = host->next_port++;
  if (find_listener(host, port) != NULL)
    return holt_err_set(err, HOLT_EINUSE, "cannot listen on %s: another program listens there", address);
  struct sim_listener *l = holt_alloc(sizeof *l);
  *l = (struct sim_listener){.listener.env = env, .host = host, .port = port, .cb = cb, .arg = arg};
  holt_list_push(&host->listeners, &l->node);
  if (actual != NULL) snprintf(actual, 128, "%s:%u", host->name, port);
  *out = &l->listener;
  return 0;
}

void holt__sim_listener_close(struct holt_listener *listener) {
  struct sim_listener *l = (struct sim_listener *)listener;
  holt_list_remove(&l->node);
  free(l);
}

static void accept_now(void *arg) {
  struct sim_accept *a = arg;
  struct sim_stream *end = a->end;
  struct sim_listener *l = find_listener(end->host, a->port);
  holt_list_remove(&a->node);
  free(a);
  if (l == NULL)
    holt_stream_close(&end->stream, true);
  else
    l->cb(l->arg, &end->stream);
}

/* --- Dialling ------------------------------------------------------------------------------------- */

static void free_dial(struct sim_dial *d) {
  holt__sim_event_cancel(d->host->sim, &d->event);
  holt_list_remove(&d->node);
  free(d);
}

static void dial_done(struct sim_dial *d) {
  holt_dial_cb cb = d->cb;
  void *arg = d->arg;
  struct sim_stream *end = d->end;
  struct holt_err err = d->err;
  free_dial(d);
  cb(arg, end == NULL ? NULL : &end->stream, end == NULL ? &err : NULL);
}

/* The other system has taken the connection: its program hears of it when it runs. */
static void make_pair(struct sim_dial *d, struct sim_host *target, uint16_t port) {
  struct sim_accept *a = holt_alloc(sizeof *a);
  d->end = new_end(d->host, target);
  a->end = new_end(target, d->host);
  a->end->peer = d->end;
  d->end->peer = a->end;
  a->port = port;
  holt_list_push(&target->accepts, &a->node);
  holt__sim_event_init(&a->event, target, "accept", accept_now, a);
  holt__sim_event_at(d->host->sim, &a->event, d->host->sim->now_us);
  /* Nothing of this connection may arrive before the program has accepted it. */
  a->end->last_due_us = d->host->sim->now_us + 1;
  d->end->last_due_us = d->host->sim->now_us + 1;
}

static void dial_step(void *arg) {
  struct sim_dial *d = arg;
  struct holt_sim *sim = d->host->sim;
  char name[128];
  uint16_t port;
  if (d->end != NULL || holt_address_split(d->address, name, &port, &d->err) != 0) {
    dial_done(d);
    return;
  }
  if (holt_address_is_local(d->address)) snprintf(name, sizeof name, "%s", d->host->name);
  if (holt__sim_is_cut(sim, d->host->name, name) || holt__sim_is_cut(sim, name, d->host->name)) {
    if (sim->now_us >= d->give_up_us) {
      holt_err_set(&d->err, HOLT_ETIMEOUT, "cannot connect to %s: timed out", d->address);
      dial_done(d);
    } else {
      holt__sim_event_at(sim, &d->event, sim->now_us + RETRY_US);
    }
    return;
  }
  struct sim_host *target = holt__sim_find_host(sim, name);
  if (target == NULL || find_listener(target, port) == NULL)
    holt_err_set(&d->err, HOLT_EREFUSED, "cannot connect to %s: connection refused", d->address);
  else
    make_pair(d, target, port);
  dial_done(d);
}

struct holt_dial *holt__sim_dial(struct holt_env *env, const char *address, holt_dial_cb cb, void *arg) {
  struct sim_host *host = (struct sim_host *)env;
  struct sim_dial *d = holt_alloc(sizeof *d);
  *d = (struct sim_dial){.dial.env = env, .host = host, .cb = cb, .arg = arg};
  snprintf(d->address, sizeof d->address, "%s", address);
  d->give_up_us = host->sim->now_us + DIAL_TIMEOUT_US;
  holt_list_push(&host->dials, &d->node);
  holt__sim_event_init(&d->event, host, "dial", dial_step, d);
  holt__sim_event_at(host->sim, &d->event, host->sim->now_us + 1 + 2 * holt__sim_delay_us(host->sim));
  return &d->dial;
}

void holt__sim_dial_cancel(struct holt_dial *dial) {
  free_dial((struct sim_dial *)dial);
}

/* --- The end of a host ---------------------------------------------------------------------------- */

void holt__sim_host_sockets_free(struct sim_host *host) {
  HOLT_LIST_EACH(&host->streams, node, next)
  holt_stream_close(&HOLT_CONTAINER(node, struct sim_stream, node)->stream, true);
  HOLT_LIST_EACH(&host->listeners, l, after) free(HOLT_CONTAINER(l, struct sim_listener, node));
  HOLT_LIST_EACH(&host->dials, d, behind) free_dial(HOLT_CONTAINER(d, struct sim_dial, node));
  HOLT_LIST_EACH(&host->accepts, a, last) {
    struct sim_accept *accept = HOLT_CONTAINER(a, struct sim_accept, node);
    holt__sim_event_cancel(host->sim, &accept->event);
    free(accept);
  }
}
