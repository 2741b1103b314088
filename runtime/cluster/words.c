/* words.c - what keeps this node from its cluster, said so that somebody can do something about it. */
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_impl.h"

static bool is_seeking(uint8_t state) {
  return state == STATE_EMPTY || state == STATE_PLEDGED || state == STATE_JOINING;
}

/* Members of two clusters may well share a bus; one of them still looking for its cluster is a mistake. */
static bool is_astray(const struct holt_cluster *c, const struct holt__neighbour *next) {
  return strcmp(next->cluster, c->name) != 0 && (is_seeking((uint8_t)c->state) || is_seeking(next->state));
}

static bool wants_another_count(const struct holt_cluster *c, const struct holt__neighbour *next) {
  bool is_new = c->cluster_id == 0 && next->cluster_id == 0 && is_seeking(next->state);
  return is_new && c->config.members && next->wanted && next->wanted != c->config.members;
}

int holt__words_between(const struct holt_cluster *c, const struct holt__neighbour *next,
                        struct holt_err *err) {
  if (!next->has_hello) return 0;
  if (is_astray(c, next))
    return holt_err_set(err, HOLT_EFOREIGN,
                        "node '%s' is of the cluster '%s', this one of '%s'; they stay apart: where they "
                        "shall be one, give both the same cluster.name, else do not connect them",
                        next->name, next->cluster, c->name);
  if (strcmp(next->cluster, c->name) != 0) return 0;
  if (c->cluster_id == 0 && next->cluster_id && holt__set_is_voided(c, next->cluster_id))
    return holt_err_set(
        err, HOLT_EFOREIGN,
        "node '%s' began the cluster '%s' while it was out of sight, and this node has promised the "
        "others to take no part in that: restart one of the two without its data",
        next->name, c->name);
  if (c->cluster_id && next->cluster_id && c->cluster_id != next->cluster_id)
    return holt_err_set(err, HOLT_EFOREIGN,
                        "node '%s' belongs to another cluster of the name '%s'; they stay apart: give one of "
                        "the two clusters another name, or restart the nodes of one without their data",
                        next->name, c->name);
  if (wants_another_count(c, next))
    return holt_err_set(err, HOLT_EINVAL,
                        "node '%s' begins the cluster '%s' with members = %u, this one with members = %u: "
                        "give both the same number",
                        next->name, c->name, next->wanted, c->config.members);
  return 0;
}

int holt__words_unled(const struct holt_cluster *c, const struct holt_raft_conf *conf, struct holt_err *err) {
  char names[160] = "";
  size_t len = 0;
  if (holt_raft_can_be_led(conf)) return 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt__label *label = holt__member_founder(c, conf->members[i].id);
    if (conf->members[i].can_lead || !label || len >= sizeof names) continue;
    len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? ", " : "", label->name);
  }
  return holt_err_set(
      err, HOLT_EINVAL,
      "too many of the %u nodes that begin the cluster '%s' were started with can_lead = false "
      "(%s): let at least %u of them lead, else nobody could go on after a loss",
      conf->count, c->name, names, (conf->count + 1) / 2);
}

/* "2 of 3 nodes are here: n1, n2" */
static void say_who_is_here(const struct holt_cluster *c, char *out, size_t cap) {
  char names[200];
  uint32_t count = 1;
  size_t len = (size_t)snprintf(names, sizeof names, "%s", c->node_name);
  HOLT_LIST_EACH(&c->neighbours, node, following) {
    const struct holt__neighbour *next = HOLT_CONTAINER(node, struct holt__neighbour, node);
    bool is_one = next->has_hello && strcmp(next->cluster, c->name) == 0 && next->is_voter;
    if (!is_one || next->wanted != c->config.members) continue;
    count++;
    if (len < sizeof names) len += (size_t)snprintf(names + len, sizeof names - len, ", %s", next->name);
  }
  snprintf(out, cap, "%u of the %u nodes that begin the cluster '%s' are here: %s", count, c->config.members,
           c->name, names);
}

void holt__words_problem(const struct holt_cluster *c, char *out, size_t cap) {
  struct holt_err err;
  out[0] = '\0';
  if (c->state == STATE_LEFT) {
    snprintf(out, cap, "it has left; node:join takes it back");
    return;
  }
  if (c->state == STATE_FAILED) {
    snprintf(out, cap, "it has failed: see the log; restart it");
    return;
  }
  HOLT_LIST_EACH(&c->neighbours, node, following) {
    if (holt__words_between(c, HOLT_CONTAINER(node, struct holt__neighbour, node), &err) == 0) continue;
    snprintf(out, cap, "%s", err.message);
    return;
  }
  if (c->is_joined) return;
  if (c->refusal[0])
    snprintf(out, cap, "%s", c->refusal);
  else if (c->state == STATE_JOINING || c->state == STATE_MEMBER)
    snprintf(out, cap, "a member was asked to let it in, the leader has not done so yet");
  else if (c->was_member || c->config.members == 0 || !c->config.is_voter)
    snprintf(out, cap, "no member of the cluster '%s' is connected: it can only join, not begin one",
             c->name);
  else
    say_who_is_here(c, out, cap);
}
