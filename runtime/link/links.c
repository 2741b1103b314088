/* links.c - all that one node has to do with its neighbours: listeners, names, and what is to be flushed. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "link/link_impl.h"

struct listener {
  struct holt_list node;
  struct holt_transport_handle *handle;
};

struct holt_links_config holt_links_defaults(void) {
  return (struct holt_links_config){
      .channel = "holt",
      .timeout_ms = 60000,
      .ack_interval_ms = 1000,
      .buffer_timeout_ms = 900000,
      .buffer_max = 1000,
      .buffer_bytes = 16 * 1024 * 1024,
      .window_bytes = 4 * 1024 * 1024,
      .frame_max = HOLT_WIRE_FRAME_MAX,
      .max_peers = 1000,
      .backoff_min_ms = 100,
      .backoff_max_ms = 30000,
      .overflow = HOLT_OVERFLOW_DROP_OLDEST,
  };
}

/* --- Put-off work --------------------------------------------------------------------------------- */

static void flush(void *arg) {
  struct holt_links *links = arg;
  for (struct holt_list *node = holt_list_shift(&links->dirty); node != NULL;
       node = holt_list_shift(&links->dirty))
    holt__conn_flush(HOLT_CONTAINER(node, struct holt_conn, dirty));
}

static void tell_room(void *arg) {
  struct holt_links *links = arg;
  if (links->ops->on_room != NULL) links->ops->on_room(links->arg);
}

static void tell_drops(void *arg) {
  struct holt_links *links = arg;
  HOLT_LIST_EACH(&links->links, node, next)
  holt__link_tell_drops(HOLT_CONTAINER(node, struct holt_link, node));
}

static void bury(void *arg) {
  struct holt_links *links = arg;
  HOLT_LIST_EACH(&links->dead, node, next) holt__conn_free(HOLT_CONTAINER(node, struct holt_conn, node));
}

static void free_doomed(void *arg) {
  struct holt_links *links = arg;
  HOLT_LIST_EACH(&links->links, node, next) {
    struct holt_link *link = HOLT_CONTAINER(node, struct holt_link, node);
    if (link->is_doomed) holt__link_free(link);
  }
}

static void free_peer(struct holt_peer *peer) {
  holt_list_remove(&peer->node);
  holt_list_remove(&peer->link_node);
  holt_timer_stop(&peer->timer);
  free(peer->address);
  free(peer);
}

static void farewell(void *arg) {
  struct holt_links *links = arg;
  HOLT_LIST_EACH(&links->peers, node, next) {
    struct holt_peer *peer = HOLT_CONTAINER(node, struct holt_peer, node);
    if (peer->state != HOLT_PEER_ENDED) continue;
    struct holt_peer_notice notice = {.event = HOLT_PEER_CLOSE};
    if (links->ops->on_peer != NULL) links->ops->on_peer(links->arg, peer, &notice);
    free_peer(peer);
  }
}

void holt__links_tell(struct holt_peer *peer, const struct holt_peer_notice *notice) {
  struct holt_links *links = peer->links;
  if (links->ops->on_peer != NULL && peer->state != HOLT_PEER_ENDED)
    links->ops->on_peer(links->arg, peer, notice);
}

/* --- Life ----------------------------------------------------------------------------------------- */

struct holt_links *holt_links_new(struct holt_env *env, const struct holt_links_config *config,
                                  const struct holt_links_ops *ops, void *arg) {
  struct holt_links *links = holt_alloc(sizeof *links);
  HOLT_ASSERT(config->id != 0 && config->boot != 0);
  links->env = env;
  links->transport = config->transport;
  links->config = *config;
  links->config.name = holt_strdup(config->name);
  links->config.channel = holt_strdup(config->channel);
  links->ops = ops;
  links->arg = arg;
  holt_list_init(&links->links);
  holt_list_init(&links->peers);
  holt_list_init(&links->conns);
  holt_list_init(&links->dirty);
  holt_list_init(&links->listeners);
  holt_post_init(&links->flush, flush, links);
  holt_post_init(&links->farewell, farewell, links);
  holt_post_init(&links->room, tell_room, links);
  holt_post_init(&links->drops, tell_drops, links);
  holt_post_init(&links->bury, bury, links);
  holt_list_init(&links->dead);
  holt_post_init(&links->doom, free_doomed, links);
  return links;
}

static void close_listeners(struct holt_links *links) {
  HOLT_LIST_EACH(&links->listeners, node, next) {
    struct listener *listener = HOLT_CONTAINER(node, struct listener, node);
    listener->handle->close(listener->handle);
    holt_list_remove(&listener->node);
    free(listener);
  }
}

static void close_conns(struct holt_links *links, const char *why) {
  struct holt_reason reason = {.word = "closed"};
  struct holt_writer body = {0};
  struct holt_err err;
  snprintf(reason.text, sizeof reason.text, "%s", why);
  holt_reason_write(&body, &reason);
  holt_err_set(&err, HOLT_ECLOSED, "%s", why);
  while (!holt_list_is_empty(&links->conns)) {
    struct holt_conn *conn = HOLT_CONTAINER(links->conns.next, struct holt_conn, node);
    holt__conn_flush(conn);
    if (conn->state == HOLT_CONN_UP) holt__conn_control(conn, HOLT_WIRE_BYE, &body);
    holt__conn_close(conn, &err, true);
  }
  holt_writer_free(&body);
}

void holt_links_close(struct holt_links *links) {
  if (links->is_closed) return;
  links->is_closed = true;
  close_listeners(links);
  close_conns(links, "the node is leaving");
  while (!holt_list_is_empty(&links->links))
    holt__link_free(HOLT_CONTAINER(links->links.next, struct holt_link, node));
}

void holt_links_hurry(struct holt_links *links) {
  HOLT_LIST_EACH(&links->conns, node, next) {
    struct holt_conn *conn = HOLT_CONTAINER(node, struct holt_conn, node);
    if (conn->state == HOLT_CONN_UP) holt__conn_ping(conn);
  }
}

void holt_links_disconnect(struct holt_links *links) {
  HOLT_LIST_EACH(&links->peers, node, next) {
    struct holt_peer *peer = HOLT_CONTAINER(node, struct holt_peer, node);
    if (*peer->address == '\0') continue;
    holt_list_remove(&peer->link_node); /* its link lives on, in case the other side dials */
    peer->link = NULL;
    holt__peer_end(peer);
  }
  close_conns(links, "the node disconnected");
}

void holt_links_free(struct holt_links *links) {
  if (links == NULL) return;
  static const struct holt_links_ops silent = {0};
  links->ops = &silent;
  holt_links_close(links);
  farewell(links);
  bury(links);
  holt_post_cancel(&links->bury);
  holt_post_cancel(&links->doom);
  holt_post_cancel(&links->flush);
  holt_post_cancel(&links->farewell);
  holt_post_cancel(&links->room);
  holt_post_cancel(&links->drops);
  holt_writer_free(&links->out);
  free((char *)(uintptr_t)links->config.name);
  free((char *)(uintptr_t)links->config.channel);
  free(links);
}

/* --- Listening, dialling, looking ----------------------------------------------------------------- */

static void on_accept(void *arg, struct holt_stream *stream) {
  struct holt_links *links = arg;
  holt__conn_new(links, stream, NULL);
}

int holt_links_listen(struct holt_links *links, const char *address, char actual[128], struct holt_err *err) {
  if (links->is_closed) return holt_err_code(err, HOLT_ECLOSED);
  struct listener *listener = holt_alloc(sizeof *listener);
  int rc = links->transport->ops->listen(links->transport, address, on_accept, links, &listener->handle,
                                         actual, err);
  if (rc != 0) {
    free(listener);
    return rc;
  }
  holt_list_push(&links->listeners, &listener->node);
  return 0;
}

static struct holt_peer *find_address(struct holt_links *links, const char *address) {
  HOLT_LIST_EACH(&links->peers, node, next) {
    struct holt_peer *peer = HOLT_CONTAINER(node, struct holt_peer, node);
    if (peer->state == HOLT_PEER_ENDED || peer->link->is_doomed) continue;
    if (strcmp(peer->address, address) == 0) return peer;
  }
  return NULL;
}

static struct holt_peer *dial_new(struct holt_links *links, const char *address) {
  struct holt_peer *peer = holt__peer_new(links, holt__link_new(links), address);
  holt__peer_dial(peer);
  return peer;
}

int holt_links_connect(struct holt_links *links, const char *address, struct holt_peer **out,
                       struct holt_err *err) {
  if (links->is_closed) return holt_err_code(err, HOLT_ECLOSED);
  *out = find_address(links, address);
  if (*out == NULL) *out = dial_new(links, address);
  (*out)->is_met = false;
  return 0;
}

void holt_links_meet(struct holt_links *links, const char *address) {
  if (links->is_closed) return;
  struct holt_peer *peer = find_address(links, address);
  if (peer == NULL) {
    peer = dial_new(links, address);
    peer->is_met = true;
  }
  peer->met_ms = holt_env_now_ms(links->env);
}

struct holt_link *holt__links_find(struct holt_links *links, const char *name) {
  HOLT_LIST_EACH(&links->links, node, next) {
    struct holt_link *link = HOLT_CONTAINER(node, struct holt_link, node);
    if (!link->is_doomed && strcmp(link->name, name) == 0 && *name != '\0') return link;
  }
  return NULL;
}

uint32_t holt_links_frame_max(const struct holt_links *links) {
  return links->config.frame_max;
}

uint64_t holt_links_unacknowledged(const struct holt_links *links) {
  uint64_t count = 0;
  HOLT_LIST_EACH(&links->links, node, next) {
    const struct holt_link *link = HOLT_CONTAINER(node, struct holt_link, node);
    if (!holt_link_is_up(link)) continue;
    for (int lane = 0; lane < HOLT_LANE_COUNT; lane++) count += holt__lane_out_count(&link->out[lane]);
  }
  return count;
}

/* The first link from `node` on that was not closed. */
static struct holt_link *living_from(struct holt_links *links, struct holt_list *node) {
  for (; node != &links->links; node = node->next) {
    struct holt_link *link = HOLT_CONTAINER(node, struct holt_link, node);
    if (!link->is_doomed) return link;
  }
  return NULL;
}

struct holt_link *holt_links_first(struct holt_links *links) {
  return living_from(links, links->links.next);
}

struct holt_link *holt_links_next(struct holt_links *links, struct holt_link *link) {
  return living_from(links, link->node.next);
}

struct holt_peer *holt_links_first_peer(struct holt_links *links) {
  return holt_list_is_empty(&links->peers) ? NULL : HOLT_CONTAINER(links->peers.next, struct holt_peer, node);
}

struct holt_peer *holt_links_next_peer(struct holt_links *links, struct holt_peer *peer) {
  return peer->node.next == &links->peers ? NULL : HOLT_CONTAINER(peer->node.next, struct holt_peer, node);
}
