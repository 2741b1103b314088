/* node.c - one node from start to a clean end.
 *
 * - new: check the settings, draw ids, make transport, links and bus.
 * - close: the bus takes nothing more; wait until another member leads, if we did, the requests that handlers
 * are at work on are answered and present peers have acknowledged everything, or the drain time is over: then
 * who still waits for an answer is told so; say goodbye; on_closed on a later turn.
 * - a second close does not wait. free closes at once and calls nobody. */
#include "node/node.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define DRAIN_LOOK_MS 20

struct holt_node {
  struct holt_env *env;
  struct holt_transport *transport;
  struct holt_links *links;
  struct holt_bus *bus;
  struct holt_cluster *cluster; /* NULL: none */
  struct holt_journals *journals;
  bool has_address; /* the cluster knows how this node is reached */
  const struct holt_node_ops *ops;
  void *arg;
  char name[HOLT_NAME_MAX + 1];
  uint64_t id, boot;
  bool insecure;
  uint64_t drain_timeout_ms, drain_until_ms;
  bool is_closing, is_closed;
  struct holt_timer drain;
  struct holt_post closed;
};

struct holt_node_config holt_node_defaults(void) {
  return (struct holt_node_config){.link = holt_links_defaults(),
                                   .transport = "tcp",
                                   .cluster = holt_cluster_defaults(),
                                   .advertise = "",
                                   .drain_timeout_ms = 5000};
}

/* --- Between links and bus ------------------------------------------------------------------------ */

static void on_peer(void *arg, struct holt_peer *peer, const struct holt_peer_notice *notice) {
  struct holt_node *node = arg;
  if (node->ops->on_peer != NULL) node->ops->on_peer(node->arg, peer, notice);
}

static void on_link_up(void *arg, struct holt_link *link) {
  struct holt_node *node = arg;
  holt_bus_link_up(node->bus, link);
  if (node->cluster != NULL) holt_cluster_link_up(node->cluster, link);
  holt_journals_link_up(node->journals, link);
}

static void on_link_down(void *arg, struct holt_link *link) {
  struct holt_node *node = arg;
  holt_journals_link_down(node->journals, link);
  if (node->cluster != NULL) holt_cluster_link_down(node->cluster, link);
  holt_bus_link_down(node->bus, link);
}

/* One that was closed on purpose goes without having been down. */
static void on_link_gone(void *arg, struct holt_link *link) {
  struct holt_node *node = arg;
  holt_journals_link_down(node->journals, link);
  if (node->cluster != NULL) holt_cluster_link_down(node->cluster, link);
  holt_bus_link_gone(node->bus, link);
}

static void on_message(void *arg, struct holt_link *link, const struct holt_link_message *message) {
  struct holt_node *node = arg;
  if (message->lane == HOLT_LANE_BUS || message->lane == HOLT_LANE_CALL)
    holt_bus_link_message(node->bus, link, message);
  else if (message->lane == HOLT_LANE_RAFT && node->cluster != NULL)
    holt_cluster_message(node->cluster, link, message);
  else if (message->lane == HOLT_LANE_JOURNAL)
    holt_journals_message(node->journals, link, message);
  else if (message->lane != HOLT_LANE_RAFT)
    holt_link_consume(link, message->lane, message->number);
}

static void on_dropped(void *arg, struct holt_link *link, struct holt_msg *msg, bool was_sent) {
  if (msg->type == HOLT_WIRE_JOURNAL) return; /* the next connection begins with what each side has */
  holt_bus_link_dropped(((struct holt_node *)arg)->bus, link, msg, was_sent);
}

static bool on_notice(void *arg, struct holt_link *link, size_t len_max, struct holt_writer *out) {
  return holt_bus_link_notice(((struct holt_node *)arg)->bus, link, len_max, out);
}

static void on_room(void *arg) {
  struct holt_node *node = arg;
  holt_bus_link_room(node->bus);
  holt_journals_room(node->journals);
}

static void on_credit(void *arg, struct holt_link *link, uint64_t bytes) {
  holt_bus_link_credit(((struct holt_node *)arg)->bus, link, bytes);
}

static void on_refused(void *arg, const char *where, const struct holt_err *err) {
  struct holt_node *node = arg;
  if (node->ops->on_refused != NULL) node->ops->on_refused(node->arg, where, err);
}

static void on_gap(void *arg, const char *origin, uint64_t boot, uint64_t count) {
  struct holt_node *node = arg;
  if (node->ops->on_gap != NULL) node->ops->on_gap(node->arg, origin, boot, count);
}

static const struct holt_links_ops links_ops = {.on_peer = on_peer,
                                                .on_link_up = on_link_up,
                                                .on_link_down = on_link_down,
                                                .on_link_gone = on_link_gone,
                                                .on_message = on_message,
                                                .on_dropped = on_dropped,
                                                .on_notice = on_notice,
                                                .on_room = on_room,
                                                .on_credit = on_credit,
                                                .on_refused = on_refused};
static void on_cluster(void *arg, const struct holt_cluster_notice *notice) {
  struct holt_node *node = arg;
  if (node->ops->on_cluster != NULL) node->ops->on_cluster(node->arg, notice);
}

static void on_change(void *arg, struct holt_object *object, enum holt_change_type type,
                      struct holt_item *old, struct holt_item *now, uint64_t revision) {
  struct holt_node *node = arg;
  if (node->ops->on_change != NULL) node->ops->on_change(node->arg, object, type, old, now, revision);
}

static void on_replaced(void *arg) {
  struct holt_node *node = arg;
  if (node->ops->on_replaced != NULL) node->ops->on_replaced(node->arg);
}

static void on_journal(void *arg, const struct holt_journal_notice *notice) {
  struct holt_node *node = arg;
  if (node->ops->on_journal != NULL) node->ops->on_journal(node->arg, notice);
}

static const struct holt_journals_ops journals_ops = {.on_event = on_journal};
static const struct holt_cluster_ops cluster_ops = {
    .on_event = on_cluster, .on_change = on_change, .on_replaced = on_replaced};
static const struct holt_bus_ops bus_ops = {.on_gap = on_gap};

/* --- Settings ------------------------------------------------------------------------------------- */

static int check_text(const char *what, const char *text, struct holt_err *err) {
  size_t len = strlen(text);
  if (len == 0 || len > HOLT_NAME_MAX)
    return holt_err_set(err, HOLT_EINVAL, "the %s '%.80s' has %zu bytes; 1 to %d are allowed", what, text,
                        len, HOLT_NAME_MAX);
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
      return holt_err_set(err, HOLT_EINVAL, "the %s '%s' has a space or a control character", what, text);
  return 0;
}

static int check_config(const struct holt_node_config *config, struct holt_err *err) {
  const struct holt_links_config *link = &config->link;
  if (link->timeout_ms < 10 || link->timeout_ms > UINT32_MAX)
    return holt_err_set(err, HOLT_EINVAL, "timeout must lie between 0.01 and 4000000 seconds");
  if (link->frame_max < 1024)
    return holt_err_set(err, HOLT_EINVAL, "the largest frame must have 1024 bytes at least");
  if (link->frame_max > 1u << 30)
    return holt_err_set(err, HOLT_EINVAL, "the largest frame may have 1 GiB at most");
  if (link->window_bytes > UINT32_MAX)
    return holt_err_set(err, HOLT_EINVAL, "the window may have 4294967295 bytes at most");
  if (link->backoff_min_ms == 0 || link->backoff_max_ms < link->backoff_min_ms)
    return holt_err_set(err, HOLT_EINVAL, "backoff_min must be above 0 and backoff_max at least as large");
  if (link->buffer_timeout_ms == 0)
    return holt_err_set(err, HOLT_EINVAL,
                        "buffer_timeout must be above 0; to keep nothing set buffer_max = 0");
  return check_text("channel", link->channel, err);
}

static int choose_transport(struct holt_node *node, const struct holt_node_config *config,
                            struct holt_err *err) {
  const char *name = config->transport;
  node->transport = config->custom != NULL ? config->custom : holt_transport_by_name(node->env, name);
  if (node->transport != NULL) return 0;
  struct holt_writer list = {0};
  for (const char *const *known = holt_transport_names(); *known != NULL; known++) {
    if (list.len > 0) holt_write_bytes(&list, ", ", 2);
    holt_write_bytes(&list, *known, strlen(*known));
  }
  int rc = holt_err_set(err, HOLT_EINVAL, "there is no transport '%s'; known are: %.*s", name, (int)list.len,
                        (const char *)list.data);
  holt_writer_free(&list);
  return rc;
}

/* --- Life ----------------------------------------------------------------------------------------- */

static void tell_closed(void *arg) {
  struct holt_node *node = arg;
  if (node->ops->on_closed != NULL) node->ops->on_closed(node->arg);
}

static void close_now(struct holt_node *node) {
  if (node->is_closed) return;
  node->is_closed = true;
  holt_timer_stop(&node->drain);
  if (node->cluster != NULL) holt_cluster_close(node->cluster);
  holt_links_close(node->links);
  holt_env_post(node->env, &node->closed);
}

/* Tell those who wait in vain, then close. */
static void end(struct holt_node *node) {
  if (!node->is_closed) holt_bus_give_up_answers(node->bus);
  if (!node->is_closed && node->cluster != NULL) holt_cluster_step_down(node->cluster);
  close_now(node);
}

static void look_drained(void *arg) {
  struct holt_node *node = arg;
  bool leads_on = node->cluster != NULL && holt_cluster_hand_over(node->cluster);
  bool is_drained = !leads_on && holt_links_unacknowledged(node->links) == 0 &&
                    !holt_bus_owes_answers(node->bus) && holt_journals_are_idle(node->journals);
  if (is_drained || holt_env_now_ms(node->env) >= node->drain_until_ms)
    end(node);
  else {
    holt_links_hurry(node->links); /* their handlers may have needed until now */
    holt_timer_start(&node->drain, DRAIN_LOOK_MS);
  }
}

static int join_cluster(struct holt_node *node, const struct holt_node_config *config, struct holt_err *err) {
  if (config->cluster.name == NULL || *config->cluster.name == '\0') return 0;
  struct holt_cluster_config cluster = config->cluster;
  cluster.node_name = node->name;
  cluster.is_node_named = config->link.name != NULL && *config->link.name != '\0';
  cluster.address = config->advertise;
  node->has_address = *config->advertise != '\0';
  return holt_cluster_new(node->env, node->links, &cluster, &cluster_ops, node, &node->cluster, err);
}

int holt_node_new(struct holt_env *env, const struct holt_node_config *config,
                  const struct holt_node_ops *ops, void *arg, struct holt_node **out, struct holt_err *err) {
  struct holt_links_config link = config->link;
  int rc = check_config(config, err);
  if (rc != 0) return rc;
  struct holt_node *node = holt_alloc(sizeof *node);
  node->env = env;
  node->ops = ops;
  node->arg = arg;
  node->insecure = config->insecure;
  node->drain_timeout_ms = config->drain_timeout_ms;
  node->id = link.id != 0 ? link.id : holt_env_random(env) | 1;
  node->boot = link.boot != 0 ? link.boot : holt_env_random(env) | 1;
  if (link.name == NULL || *link.name == '\0')
    snprintf(node->name, sizeof node->name, "node-%08x", (unsigned)(holt_env_random(env) >> 32));
  else
    snprintf(node->name, sizeof node->name, "%s", link.name);
  if (link.name != NULL && *link.name != '\0') rc = check_text("node name", link.name, err);
  if (rc == 0) rc = choose_transport(node, config, err);
  if (rc != 0) {
    free(node);
    return rc;
  }
  link.name = node->name;
  link.id = node->id;
  link.boot = node->boot;
  link.transport = node->transport;
  node->links = holt_links_new(env, &link, &links_ops, node);
  node->journals = holt_journals_new(env, node->links, node->name, config->journal, &journals_ops, node);
  node->bus = holt_bus_new(env, node->links, node->boot, node->name, link.buffer_timeout_ms, &bus_ops, node);
  holt_timer_init(&node->drain, env, look_drained, node);
  holt_post_init(&node->closed, tell_closed, node);
  rc = join_cluster(node, config, err);
  if (rc != 0) {
    holt_node_free(node);
    return rc;
  }
  *out = node;
  return 0;
}

void holt_node_close(struct holt_node *node) {
  bool is_second = node->is_closing;
  node->is_closing = true;
  if (is_second) {
    end(node);
    return;
  }
  if (node->cluster != NULL) holt_cluster_hand_over(node->cluster);
  holt_journals_close(node->journals);
  holt_bus_close(node->bus);
  node->drain_until_ms = holt_env_now_ms(node->env) + node->drain_timeout_ms;
  holt_timer_start(&node->drain, 0);
}

bool holt_node_is_closing(const struct holt_node *node) {
  return node->is_closing;
}

void holt_node_free(struct holt_node *node) {
  if (node == NULL) return;
  static const struct holt_node_ops silent = {0};
  node->ops = &silent;
  close_now(node);
  holt_post_cancel(&node->closed);
  holt_journals_free(node->journals);
  holt_cluster_free(node->cluster);
  holt_bus_free(node->bus);
  holt_links_free(node->links);
  holt_transport_free(node->transport);
  free(node);
}

int holt_node_listen(struct holt_node *node, const char *address, char actual[128], struct holt_err *err) {
  if (node->is_closing) return holt_err_set(err, HOLT_ECLOSED, "the node is closed");
  if (!node->insecure && !node->transport->ops->is_local(address)) {
    char host[128];
    uint16_t port;
    int rc = holt_address_split(address, host, &port, err);
    if (rc != 0) return rc;
    return holt_err_set(
        err, HOLT_EINSECURE,
        "listening on %s would let other machines in without encryption; listen on 127.0.0.1, or set "
        "insecure = true (--insecure) if the network is trusted",
        address);
  }
  char used[128];
  int rc = holt_links_listen(node->links, address, used, err);
  if (rc != 0) return rc;
  if (actual != NULL) memcpy(actual, used, sizeof used);
  if (node->cluster != NULL && !node->has_address) {
    node->has_address = true;
    holt_cluster_set_address(node->cluster, used);
  }
  return 0;
}

int holt_node_connect(struct holt_node *node, const char *address, struct holt_peer **out,
                      struct holt_err *err) {
  if (node->is_closing) return holt_err_set(err, HOLT_ECLOSED, "the node is closed");
  return holt_links_connect(node->links, address, out, err);
}

void holt_node_disconnect(struct holt_node *node) {
  if (!node->is_closed) holt_links_disconnect(node->links);
}

const char *holt_node_name(const struct holt_node *node) {
  return node->name;
}
uint64_t holt_node_id(const struct holt_node *node) {
  return node->id;
}
uint64_t holt_node_boot(const struct holt_node *node) {
  return node->boot;
}
struct holt_bus *holt_node_bus(struct holt_node *node) {
  return node->bus;
}
struct holt_links *holt_node_links(struct holt_node *node) {
  return node->links;
}
struct holt_cluster *holt_node_cluster(struct holt_node *node) {
  return node->cluster;
}
struct holt_journals *holt_node_journals(struct holt_node *node) {
  return node->journals;
}
