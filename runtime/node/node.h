/* node.h - one node assembled: its settings, its links and its bus, from start to a clean end.
 *
 * The node tells what happens through `struct holt_node_ops`; those run inside the loop, so a script queues
 * what it hears and deals with it between turns. Call from the loop's thread only. Durations are
 * milliseconds. */
#ifndef HOLT_NODE_NODE_H
#define HOLT_NODE_NODE_H

#include "bus/bus.h"
#include "cluster/cluster.h"
#include "journal/journal.h"
#include "link/link.h"

struct holt_node;

struct holt_node_config {
  struct holt_links_config link; /* id and boot are drawn by the node when 0; name "" means a random one */
  const char *transport;         /* "tcp", "unix", "memory" */
  struct holt_transport *custom; /* in its place, or NULL; taken on success */
  bool insecure;                 /* may listen outside this machine without encryption */
  struct holt_cluster_config
      cluster;               /* name "": member of none; node_name and address are the node's affair */
  const char *journal;       /* the folder of its journals; NULL: in memory */
  const char *advertise;     /* how other members reach it; "": the first address it listens on */
  uint64_t drain_timeout_ms; /* how long a closing node waits for acknowledgements */
};
struct holt_node_config holt_node_defaults(void);

struct holt_node_ops {
  void (*on_peer)(void *arg, struct holt_peer *peer, const struct holt_peer_notice *notice);
  void (*on_gap)(void *arg, const char *origin, uint64_t boot, uint64_t count);
  void (*on_refused)(void *arg, const char *where, const struct holt_err *err);
  /* See struct holt_cluster_ops. */
  void (*on_cluster)(void *arg, const struct holt_cluster_notice *notice);
  holt_change_cb on_change;
  void (*on_replaced)(void *arg);
  /* See struct holt_journals_ops. */
  void (*on_journal)(void *arg, const struct holt_journal_notice *notice);
  /* Closed for good; the last call. The node may be freed from here on, though not within. */
  void (*on_closed)(void *arg);
};

/* Errors: HOLT_EINVAL (name, channel, limits) and those of holt_cluster_new, each with a sentence. */
int holt_node_new(struct holt_env *env, const struct holt_node_config *config,
                  const struct holt_node_ops *ops, void *arg, struct holt_node **out, struct holt_err *err);
/* Stop accepting work, wait until handlers have answered and present peers have acknowledged everything (at
 * most drain_timeout_ms, then callers hear that it may have run), say goodbye, close. Calling it again
 * hastens: the second call does not wait. on_closed follows on a later turn.
 */
void holt_node_close(struct holt_node *node);
bool holt_node_is_closing(const struct holt_node *node);
/* Frees the node, closed or not; no callbacks from then on. */
void holt_node_free(struct holt_node *node);

/* Errors: those of the transport, HOLT_EINSECURE outside this machine, HOLT_ECLOSED. */
int holt_node_listen(struct holt_node *node, const char *address, char actual[128], struct holt_err *err);
int holt_node_connect(struct holt_node *node, const char *address, struct holt_peer **out,
                      struct holt_err *err);
/* Drop today's peers without reconnecting; go on listening. */
void holt_node_disconnect(struct holt_node *node);

const char *holt_node_name(const struct holt_node *node);
uint64_t holt_node_id(const struct holt_node *node);
uint64_t holt_node_boot(const struct holt_node *node);
struct holt_bus *holt_node_bus(struct holt_node *node);
struct holt_links *holt_node_links(struct holt_node *node);
/* NULL when it is member of none. */
struct holt_cluster *holt_node_cluster(struct holt_node *node);
struct holt_journals *holt_node_journals(struct holt_node *node);

#endif /* HOLT_NODE_NODE_H */
