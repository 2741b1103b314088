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

/* --- Who is missing ------------------------------------------------------------------------------------ */

struct names {
  char text[200];
  size_t len;
  uint32_t count;
};

static void add_name(struct names *names, const char *name) {
  names->count++;
  if (names->len >= sizeof names->text) return;
  names->len += (size_t)snprintf(names->text + names->len, sizeof names->text - names->len, "%s%s",
                                 names->len > 0 ? ", " : "", *name ? name : "one of no name");
}

static const char *is_or_are(const struct names *names) {
  return names->count == 1 ? "is" : "are";
}

static const char *without_data(const struct holt_cluster *c) {
  return c->dir ? "stop this node, remove its data and start it again" : "restart this node";
}

/* Of the set it pledged to or began with: who is neither here nor known to be lost. */
static bool say_set(struct holt_cluster *c, char *out, size_t cap) {
  struct names all = {0}, missing = {0};
  if (c->pledge.set == 0) return false;
  for (uint32_t i = 0; i < c->pledge.conf.count; i++) {
    bool is_self = c->pledge.conf.members[i].id == c->self;
    add_name(&all, is_self ? c->node_name : c->founders[i].name);
    if (is_self || holt__set_founder(c, i) || holt__set_is_gone(c, i)) continue;
    add_name(&missing, c->founders[i].name);
  }
  if (missing.count == 0) return false;
  snprintf(out, cap,
           "it %s the cluster '%s' with %s, and %s %s not here: start what is missing, with its data or "
           "without; if that can never be, %s",
           c->raft ? "has begun" : "has promised to begin", c->name, all.text, missing.text,
           is_or_are(&missing), without_data(c));
  return true;
}

/* A member without a leader, and so many of the voters came back as others that there can be none. */
static bool say_lost(struct holt_cluster *c, char *out, size_t cap) {
  struct names lost = {0};
  const struct holt_raft_conf *conf = c->raft ? holt_raft_conf(c->raft) : NULL;
  uint32_t voters = 0;
  if (!conf || c->state != STATE_MEMBER || c->leader != 0) return false;
  for (uint32_t i = 0; i < conf->count; i++) {
    uint64_t id = conf->members[i].id;
    if (conf->members[i].role == HOLT_RAFT_LEARNER) continue;
    voters++;
    if (id == c->self || holt__form_by_id(c, id)) continue;
    const char *name = holt_cluster_member_name(c, id);
    HOLT__EACH_NEIGHBOUR(c, next) {
      if (!holt__form_is_ours(c, next) || *name == '\0' || strcmp(next->name, name) != 0) continue;
      add_name(&lost, name);
      break;
    }
  }
  if (voters == 0 || lost.count * 2 < voters) return false;
  snprintf(out, cap,
           "%s came back without %s state, and the rest of the %u voters of the cluster '%s' is no majority: "
           "it cannot go on; what it holds can be read here; to begin anew restart all its nodes without "
           "their data",
           lost.text, lost.count == 1 ? "its" : "their", voters, c->name);
  return true;
}

void holt__words_problem(struct holt_cluster *c, char *out, size_t cap) {
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
  const struct holt__seen *missing = holt__set_missing(c);
  bool is_bare = holt__set_is_bare(c) || c->state == STATE_PLEDGED;
  if (is_bare && say_set(c, out, cap)) return;
  if (!is_bare && say_lost(c, out, cap)) return;
  if (c->is_joined && !c->is_change_refused) return;
  if (c->refusal[0])
    snprintf(out, cap, "%s", c->refusal);
  else if (c->state == STATE_JOINING && !holt__form_member(c))
    snprintf(out, cap,
             "it was being let into the cluster '%s' of %s, of which nobody is here any more: start them; if "
             "that can never be, %s",
             c->name, missing ? missing->name : "others", without_data(c));
  else if (c->state == STATE_JOINING || c->state == STATE_MEMBER || holt__form_member(c))
    snprintf(out, cap, "a member was asked to let it in, the leader has not done so yet");
  else if (c->was_member || c->config.members == 0 || !c->config.is_voter)
    snprintf(out, cap, "no member of the cluster '%s' is connected: it can only join, not begin one",
             c->name);
  else if (missing)
    snprintf(out, cap,
             "'%s', a member of the cluster '%s', was here and is not any more: start it, with its data or "
             "without; if that can never be, %s",
             missing->name, c->name, without_data(c));
  else
    say_who_is_here(c, out, cap);
}
