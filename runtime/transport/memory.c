/* memory.c - nodes of one process and one env, joined without a socket.
 *
 * - listen: the address, any text, is entered into a table of the whole process.
 * - dial: on a later turn, look the address up; make two ends; hand one to each side.
 * - write: the bytes are copied into the other end's queue and handed over on a later turn; more than 256 KiB
 *   under way make the writer wait.
 * - close: the other end hears the end of the stream behind what was written, or a reset at once. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "transport/transport.h"

#define QUEUE_BYTES (256 * 1024)

struct memory_listener {
  struct holt_transport_handle handle;
  struct holt_env *env;
  struct holt_list node;
  char address[128];
  holt_accept_cb cb;
  void *arg;
};

/* Every listener of the process; nodes of different envs do not see each other. */
static struct holt_list listeners = {&listeners, &listeners};
static unsigned anonymous_count;

struct memory_end {
  struct holt_stream stream;
  struct holt_env *env;
  struct memory_end *peer; /* NULL: gone */
  struct holt_post post;
  struct holt_writer inbound;
  int end_status; /* what is told once inbound is empty; 0: nothing yet */
  bool is_ended;
  bool owes_writable;   /* this end waits for room in its peer */
  bool can_write_again; /* and there is room now */
};

static void wake_writer(struct memory_end *end) {
  struct memory_end *peer = end->peer;
  if (peer == NULL || !peer->owes_writable) return;
  peer->owes_writable = false;
  peer->can_write_again = true;
  holt_env_post(peer->env, &peer->post);
}

/* Hand over what has come in. After each callback the end may be gone, so one thing a turn. */
static void end_turn(void *arg) {
  struct memory_end *end = arg;
  if (end->can_write_again) {
    end->can_write_again = false;
    if (end->inbound.len > 0 || end->end_status != 0) holt_env_post(end->env, &end->post);
    if (end->stream.on_writable != NULL) end->stream.on_writable(end->stream.arg);
    return;
  }
  if (end->inbound.len > 0) {
    struct holt_writer taken = end->inbound;
    end->inbound = (struct holt_writer){0};
    if (end->end_status != 0) holt_env_post(end->env, &end->post);
    wake_writer(end);
    if (end->stream.on_data != NULL) end->stream.on_data(end->stream.arg, taken.data, taken.len);
    holt_writer_free(&taken);
    return;
  }
  if (end->end_status == 0 || end->is_ended) return;
  end->is_ended = true;
  void (*on_end)(void *, int) = end->stream.on_end;
  if (on_end != NULL) on_end(end->stream.arg, end->end_status);
}

static void end_tell(struct memory_end *end, int status) {
  if (end->end_status == 0) end->end_status = status;
  holt_env_post(end->env, &end->post);
}

static int end_write(struct holt_stream *stream, const void *data, size_t len) {
  struct memory_end *end = (struct memory_end *)stream;
  HOLT_ASSERT(!end->owes_writable);
  if (end->end_status != 0 && end->is_ended) return HOLT_ERESET;
  struct memory_end *peer = end->peer;
  if (peer == NULL) {
    end_tell(end, HOLT_ERESET);
    return 0;
  }
  holt_write_bytes(&peer->inbound, data, len);
  holt_env_post(peer->env, &peer->post);
  end->owes_writable = peer->inbound.len > QUEUE_BYTES;
  return end->owes_writable ? 1 : 0;
}

static void end_close(struct holt_stream *stream, bool abort) {
  struct memory_end *end = (struct memory_end *)stream;
  if (end->peer != NULL) {
    if (abort) end->peer->inbound.len = 0;
    end_tell(end->peer, abort ? HOLT_ERESET : HOLT_EEOF);
    end->peer->peer = NULL;
  }
  holt_post_cancel(&end->post);
  holt_writer_free(&end->inbound);
  free(end);
}

static const struct holt_stream_ops end_ops = {.write = end_write, .close = end_close};

static struct memory_end *new_end(struct holt_env *env, const char *peer_name) {
  struct memory_end *end = holt_alloc(sizeof *end);
  end->stream.ops = &end_ops;
  snprintf(end->stream.peer, sizeof end->stream.peer, "memory:%.100s", peer_name);
  end->env = env;
  holt_post_init(&end->post, end_turn, end);
  return end;
}

/* --- Listening and dialling ----------------------------------------------------------------------- */

static struct memory_listener *find_listener(struct holt_env *env, const char *address) {
  HOLT_LIST_EACH(&listeners, node, next) {
    struct memory_listener *l = HOLT_CONTAINER(node, struct memory_listener, node);
    if (l->env == env && strcmp(l->address, address) == 0) return l;
  }
  return NULL;
}

static void listener_close(struct holt_transport_handle *handle) {
  struct memory_listener *l = (struct memory_listener *)handle;
  holt_list_remove(&l->node);
  free(l);
}

static int memory_listen(struct holt_transport *transport, const char *address, holt_accept_cb cb, void *arg,
                         struct holt_transport_handle **out, char actual[128], struct holt_err *err) {
  if (strlen(address) >= sizeof((struct memory_listener *)0)->address)
    return holt_err_set(err, HOLT_EADDRESS,
                        "'%.40s...' is too long for an address in memory (127 bytes at most)", address);
  if (find_listener(transport->env, address) != NULL)
    return holt_err_set(err, HOLT_EINUSE,
                        "cannot listen on %s: another node listens there; choose another address", address);
  struct memory_listener *l = holt_alloc(sizeof *l);
  *l = (struct memory_listener){.handle.close = listener_close, .env = transport->env, .cb = cb, .arg = arg};
  if (*address == '\0')
    snprintf(l->address, sizeof l->address, "memory-%u", ++anonymous_count);
  else
    snprintf(l->address, sizeof l->address, "%s", address);
  holt_list_push(&listeners, &l->node);
  if (actual != NULL) snprintf(actual, 128, "%s", l->address);
  *out = &l->handle;
  return 0;
}

struct memory_dial {
  struct holt_transport_handle handle;
  struct holt_env *env;
  struct holt_post post;
  char address[128];
  holt_dial_cb cb;
  void *arg;
};

static void dial_close(struct holt_transport_handle *handle) {
  struct memory_dial *d = (struct memory_dial *)handle;
  holt_post_cancel(&d->post);
  free(d);
}

static void dial_turn(void *arg) {
  struct memory_dial d = *(struct memory_dial *)arg;
  free(arg);
  struct memory_listener *l = find_listener(d.env, d.address);
  if (l == NULL) {
    struct holt_err err;
    holt_err_set(&err, HOLT_EREFUSED, "cannot connect to %s: no node of this process listens there",
                 d.address);
    d.cb(d.arg, NULL, &err);
    return;
  }
  struct memory_end *here = new_end(d.env, d.address), *there = new_end(d.env, "dialled");
  here->peer = there;
  there->peer = here;
  l->cb(l->arg, &there->stream);
  d.cb(d.arg, &here->stream, NULL);
}

static struct holt_transport_handle *memory_dial(struct holt_transport *transport, const char *address,
                                                 holt_dial_cb cb, void *arg) {
  struct memory_dial *d = holt_alloc(sizeof *d);
  *d = (struct memory_dial){.handle.close = dial_close, .env = transport->env, .cb = cb, .arg = arg};
  snprintf(d->address, sizeof d->address, "%s", address);
  holt_post_init(&d->post, dial_turn, d);
  holt_env_post(transport->env, &d->post);
  return &d->handle;
}

static bool always_local(const char *address) {
  (void)address;
  return true;
}

static void memory_free(struct holt_transport *transport) {
  free(transport);
}

static const struct holt_transport_ops memory_ops = {.name = "memory",
                                                     .listen = memory_listen,
                                                     .dial = memory_dial,
                                                     .is_local = always_local,
                                                     .free = memory_free};

struct holt_transport *holt_transport_memory(struct holt_env *env) {
  struct holt_transport *t = holt_alloc(sizeof *t);
  *t = (struct holt_transport){.ops = &memory_ops, .env = env};
  return t;
}
