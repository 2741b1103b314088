/* form.c - who is there: hellos between neighbours, joining a cluster, being left. Its first members: set.c.
 *
 * Joining. A node without a cluster that meets a member asks it; the leader admits it by an entry of the log
 * and tells it so: from then on the node belongs to that cluster.
 *
 * Frames (type HOLT_WIRE_CLUSTER): kind u8, then
 *   HELLO: cluster, name, address (text8), id, cluster id, pledge u64, round, wanted u32, state, flags,
 * priority u8, then the neighbours it knows: u8, each {name, address} so that all members find each other
 *   VOID: set u64, round u32              VOIDED: set u64, id u64 of who promises
 *   JOIN: id u64, name, address, flags, priority     ADMITTED: id, cluster id u64
 *   REFUSED: word, text (text8)           LEAVE: id u64     GONE: id u64     HAND_OVER: id u64 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster_impl.h"

enum { CAN_LEAD = 1, IS_VOTER = 2 };
enum { HELLO_EVERY_MS = 500, NEIGHBOURS_TOLD = 32 };

/* --- Neighbours ---------------------------------------------------------------------------------------- */

void holt__form_init(struct holt_cluster *c) {
  holt_list_init(&c->neighbours);
  c->round = 1;
}

static void neighbour_free(struct holt__neighbour *next) {
  holt_list_remove(&next->node);
  free(next);
}

void holt__form_free(struct holt_cluster *c) {
  while (!holt_list_is_empty(&c->neighbours))
    /* What was freed is out of the ring, which the analyser misses.
     * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    neighbour_free(HOLT_CONTAINER(c->neighbours.next, struct holt__neighbour, node));
}

static struct holt__neighbour *by_link(struct holt_cluster *c, const struct holt_link *link) {
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (next->link == link) return next;
  }
  return NULL;
}

bool holt__form_is_ours(const struct holt_cluster *c, const struct holt__neighbour *next) {
  return next->has_hello && strcmp(next->cluster, c->name) == 0;
}

struct holt__neighbour *holt__form_by_id(struct holt_cluster *c, uint64_t id) {
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (next->id == id && holt__form_is_ours(c, next)) return next;
  }
  return NULL;
}

/* --- Hello --------------------------------------------------------------------------------------------- */

static uint8_t own_flags(const struct holt_cluster *c) {
  return (uint8_t)((c->config.can_lead ? CAN_LEAD : 0) | (c->config.is_voter ? IS_VOTER : 0));
}

void holt__form_post(struct holt__neighbour *to, struct holt_writer *body) {
  (void)holt_link_post(to->link, HOLT_WIRE_CLUSTER, holt_buf(body->data, body->len));
  holt_writer_free(body);
}

static void write_known(struct holt_cluster *c, struct holt_writer *body) {
  uint8_t count = 0;
  size_t at = body->len;
  holt_write_u8(body, 0);
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (!holt__form_is_ours(c, next) || next->address[0] == 0 || count == NEIGHBOURS_TOLD) continue;
    holt_write_text8(body, next->name);
    holt_write_text8(body, next->address);
    count++;
  }
  body->data[at] = count;
}

static void say_hello(struct holt_cluster *c, struct holt__neighbour *to) {
  struct holt_writer body = {0};
  holt_write_u8(&body, HOLT__HELLO);
  holt_write_text8(&body, c->name);
  holt_write_text8(&body, c->node_name);
  holt_write_text8(&body, c->address);
  holt_write_u64(&body, c->self);
  holt_write_u64(&body, c->cluster_id);
  holt_write_u64(&body, c->pledge.set);
  holt_write_u32(&body, c->round);
  holt_write_u32(&body, c->config.members);
  holt_write_u8(&body, (uint8_t)c->state);
  holt_write_u8(&body, own_flags(c));
  holt_write_u8(&body, c->config.priority);
  write_known(c, &body);
  holt__form_post(to, &body);
}

void holt__form_say_hello(struct holt_cluster *c) {
  c->hello_at_ms = holt__cluster_now(c) + HELLO_EVERY_MS;
  HOLT__EACH_NEIGHBOUR(c, next) say_hello(c, next);
}

void holt_cluster_link_up(struct holt_cluster *c, struct holt_link *link) {
  if (c->is_closed || by_link(c, link)) return;
  struct holt__neighbour *next = holt_alloc(sizeof *next);
  next->link = link;
  holt_list_push(&c->neighbours, &next->node);
  say_hello(c, next);
}

static void note_away(struct holt_cluster *c, uint64_t id) {
  uint32_t at = c->away_next;
  for (uint32_t i = 0; i < HOLT_RAFT_MEMBERS_MAX; i++)
    if (c->away[i].id == id) at = i;
  if (at == c->away_next) c->away_next = (c->away_next + 1) % HOLT_RAFT_MEMBERS_MAX;
  c->away[at] = (struct holt__away){.id = id, .since_ms = holt__cluster_now(c)};
}

uint64_t holt__form_away_since(const struct holt_cluster *c, uint64_t id) {
  for (uint32_t i = 0; i < HOLT_RAFT_MEMBERS_MAX; i++)
    if (c->away[i].id == id) return c->away[i].since_ms;
  return c->began_ms;
}

void holt_cluster_link_down(struct holt_cluster *c, struct holt_link *link) {
  struct holt__neighbour *next = by_link(c, link);
  if (!next) return;
  if (c->raft && next->id) {
    struct holt_raft_event event = {.type = HOLT_RAFT_EV_UNREACHABLE, .id = next->id};
    holt__cluster_step(c, &event);
  }
  if (next->id) note_away(c, next->id);
  neighbour_free(next);
}

static bool is_linked_name(struct holt_cluster *c, const char *name) {
  if (strcmp(name, c->node_name) == 0) return true;
  for (struct holt_link *link = holt_links_first(c->links); link; link = holt_links_next(c->links, link))
    if (holt_link_is_up(link) && strcmp(holt_link_name(link), name) == 0) return true;
  return false;
}

/* All members are linked directly: dial who is only known by hearsay. */
static void meet(struct holt_cluster *c, const char *name, const char *address) {
  if (address[0] == 0 || strcmp(address, c->address) == 0 || is_linked_name(c, name)) return;
  holt_links_meet(c->links, address);
}

/* Once a link, however often it says hello. */
static void tell_between(struct holt_cluster *c, struct holt__neighbour *next) {
  struct holt_err err;
  if (next->is_told || holt__words_between(c, next, &err) == 0) return;
  next->is_told = true;
  holt__cluster_tell_error(c, HOLT_CLUSTER_ERROR, &err);
}

static void on_hello(struct holt_cluster *c, struct holt__neighbour *next, struct holt_reader *in) {
  char cluster[256], name[256], address[256];
  holt_read_text8(in, cluster);
  holt_read_text8(in, name);
  holt_read_text8(in, address);
  uint64_t id = holt_read_u64(in), cluster_id = holt_read_u64(in), pledge = holt_read_u64(in);
  uint32_t round = holt_read_u32(in), wanted = holt_read_u32(in);
  uint8_t state = holt_read_u8(in), flags = holt_read_u8(in), priority = holt_read_u8(in);
  if (in->failed || id == 0 || strlen(name) > HOLT_NAME_MAX || strlen(cluster) > HOLT_NAME_MAX) return;
  if (strlen(address) >= sizeof next->address || state > STATE_FAILED || priority > 10) return;
  bool is_news =
      !next->has_hello || next->id != id || next->cluster_id != cluster_id || next->pledge != pledge;
  snprintf(next->cluster, sizeof next->cluster, "%.64s", cluster);
  snprintf(next->name, sizeof next->name, "%.64s", name);
  snprintf(next->address, sizeof next->address, "%.127s", address);
  next->id = id;
  next->cluster_id = cluster_id;
  next->pledge = pledge;
  next->wanted = wanted;
  next->round = round;
  next->state = state;
  next->priority = priority;
  next->can_lead = flags & CAN_LEAD;
  next->is_voter = flags & IS_VOTER;
  next->has_hello = true;
  tell_between(c, next);
  if (!holt__form_is_ours(c, next)) return;
  holt__set_note_member(c, next);
  for (uint8_t left = holt_read_u8(in); left > 0 && !in->failed; left--) {
    holt_read_text8(in, name);
    holt_read_text8(in, address);
    if (!in->failed) meet(c, name, address);
  }
  if (is_news) {
    say_hello(c, next);
    holt__form_tick(c);
    if (id == c->leader) holt__requests_retry(c); /* what it was asked over the link before may be lost */
  }
}

/* --- Joining ------------------------------------------------------------------------------------------- */

struct holt__neighbour *holt__form_member(struct holt_cluster *c) {
  struct holt__neighbour *found = NULL;
  HOLT__EACH_NEIGHBOUR(c, next) {
    bool is_member = holt__form_is_ours(c, next) && next->cluster_id != 0 && next->state == STATE_MEMBER;
    bool is_same = c->cluster_id == 0 || c->cluster_id == next->cluster_id;
    if (holt__set_is_voided(c, next->cluster_id)) continue; /* begun by somebody whom we gave up */
    if (is_member && is_same && (!found || next->id < found->id)) found = next;
  }
  return found;
}

static void note_refused(struct holt_cluster *c, const char *by, const struct holt_err *why) {
  struct holt_err err;
  uint64_t now = holt__cluster_now(c);
  if (c->refused_told_ms != 0 && now < c->refused_told_ms + 5000) return;
  c->refused_told_ms = now;
  c->is_change_refused = c->is_joined;
  const char *what = c->is_joined ? "did not take its new settings" : "did not let it in";
  snprintf(c->refusal, sizeof c->refusal, "node '%.64s' %s: %.200s", by, what, why->message);
  what = c->is_joined ? "did not take the new settings of this node" : "did not let this node in";
  holt_err_set(&err, why->code, "node '%s' %s: %s", by, what, why->message);
  holt__cluster_tell_error(c, HOLT_CLUSTER_ERROR, &err);
}

static void send_join(struct holt_cluster *c, struct holt__neighbour *member) {
  struct holt_writer body = {0};
  holt_write_u8(&body, HOLT__JOIN);
  holt_write_u64(&body, c->self);
  holt_write_text8(&body, c->node_name);
  holt_write_text8(&body, c->address);
  holt_write_u8(&body, own_flags(c));
  holt_write_u8(&body, c->config.priority);
  holt__form_post(member, &body);
}

/* Until the leader has let it in it takes no part, and is free to look for another cluster. */
static void ask_join(struct holt_cluster *c) {
  uint64_t now = holt__cluster_now(c);
  struct holt__neighbour *member = holt__form_member(c);
  if (!member || (c->join_asked_ms != 0 && now < c->join_asked_ms + c->config.election_ms)) return;
  c->join_asked_ms = now;
  send_join(c, member);
}

/* Other settings than it began with: it asks for them as it once asked to be let in. */
static void ask_change(struct holt_cluster *c) {
  uint64_t now = holt__cluster_now(c);
  if (c->is_change_refused || c->leader == 0 || now < c->join_asked_ms + c->config.election_ms) return;
  if (!holt__member_is_changed(c)) return;
  c->join_asked_ms = now;
  struct holt__neighbour *leader = holt__form_by_id(c, c->leader);
  struct holt_err err;
  if (leader)
    send_join(c, leader);
  else if (holt_cluster_is_leader(c) &&
           holt__member_admit(c, c->self, c->node_name, c->address, c->config.can_lead, c->config.is_voter,
                              c->config.priority, &err) == HOLT_EINVAL)
    note_refused(c, c->node_name, &err);
}

static void on_admitted(struct holt_cluster *c, struct holt_reader *in) {
  uint64_t id = holt_read_u64(in), cluster_id = holt_read_u64(in);
  if (in->failed || id != c->self || c->state != STATE_EMPTY || holt__set_is_voided(c, cluster_id)) return;
  holt__cluster_begin(c, cluster_id, NULL); /* no room for its log: asked and told again */
}

static void refuse(struct holt__neighbour *to, const struct holt_err *err) {
  struct holt_writer body = {0};
  holt_write_u8(&body, HOLT__REFUSED);
  holt_write_text8(&body, holt_err_word(err->code));
  holt_write_text8(&body, err->message);
  holt__form_post(to, &body);
}

static void tell_admitted(struct holt_cluster *c, struct holt__neighbour *to) {
  struct holt_writer body = {0};
  holt_write_u8(&body, HOLT__ADMITTED);
  holt_write_u64(&body, to->id);
  holt_write_u64(&body, c->cluster_id);
  holt__form_post(to, &body);
}

/* Pass a request on to the leader, as it is. */
static void pass_on(struct holt_cluster *c, uint8_t kind, const struct holt_reader *rest) {
  struct holt__neighbour *leader = c->leader ? holt__form_by_id(c, c->leader) : NULL;
  if (!leader) return;
  struct holt_writer body = {0};
  holt_write_u8(&body, kind);
  holt_write_bytes(&body, rest->at, holt_reader_left(rest));
  holt__form_post(leader, &body);
}

static void on_join(struct holt_cluster *c, struct holt_reader *in) {
  struct holt_reader all = *in;
  char name[256], address[256];
  struct holt_err err = {0};
  uint64_t id = holt_read_u64(in);
  holt_read_text8(in, name);
  holt_read_text8(in, address);
  uint8_t flags = holt_read_u8(in), priority = holt_read_u8(in);
  if (in->failed || c->state != STATE_MEMBER) return;
  if (!holt_cluster_is_leader(c)) {
    pass_on(c, HOLT__JOIN, &all);
    return;
  }
  int rc = holt__member_admit(c, id, name, address, flags & CAN_LEAD, flags & IS_VOTER, priority, &err);
  struct holt__neighbour *joiner = holt__form_by_id(c, id);
  if (!joiner)
    meet(c, name, address); /* it asks again */
  else if (rc == 0)
    tell_admitted(c, joiner);
  else if (rc != HOLT_EBUSY)
    refuse(joiner, &err);
}

static void on_refused(struct holt_cluster *c, struct holt__neighbour *from, struct holt_reader *in) {
  char word[256], text[256];
  struct holt_err err;
  holt_read_text8(in, word);
  holt_read_text8(in, text);
  if (in->failed) return;
  int code = holt_err_from_word(word);
  holt_err_set(&err, code ? code : HOLT_EINTERNAL, "%s", text);
  note_refused(c, from->name, &err);
}

/* --- Leaving and being left ---------------------------------------------------------------------------- */

void holt__form_ask_leader(struct holt_cluster *c, bool is_leave, uint64_t id) {
  struct holt__neighbour *leader = c->leader ? holt__form_by_id(c, c->leader) : NULL;
  if (!leader) return;
  struct holt_writer body = {0};
  holt_write_u8(&body, is_leave ? HOLT__LEAVE : HOLT__HAND_OVER);
  holt_write_u64(&body, id);
  holt__form_post(leader, &body);
}

static void on_leave(struct holt_cluster *c, struct holt__neighbour *from, struct holt_reader *in) {
  struct holt_reader all = *in;
  uint64_t id = holt_read_u64(in);
  if (in->failed || c->state != STATE_MEMBER) return;
  if (!holt_cluster_is_leader(c)) {
    if (from->id == id) pass_on(c, HOLT__LEAVE, &all);
    return;
  }
  if (holt__member_expel(c, id) != HOLT_ENOTFOUND) return;
  struct holt__neighbour *gone = holt__form_by_id(c, id); /* it is out already and has not heard of it */
  if (!gone) return;
  struct holt_writer body = {0};
  holt_write_u8(&body, HOLT__GONE);
  holt_write_u64(&body, id);
  holt__form_post(gone, &body);
}

static void on_hand_over(struct holt_cluster *c, struct holt_reader *in) {
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_TRANSFER, .id = holt_read_u64(in)};
  if (!in->failed && holt_cluster_is_leader(c)) holt__cluster_step(c, &event);
}

static void on_gone(struct holt_cluster *c, struct holt_reader *in) {
  uint64_t id = holt_read_u64(in);
  if (!in->failed && id == c->self) holt__member_gone(c);
}

/* A member that is none any more, and may not know: somebody who has the log tells it. */
static void tell_gone(struct holt_cluster *c) {
  if (c->state != STATE_MEMBER || !c->is_joined || c->leader == 0) return;
  HOLT__EACH_NEIGHBOUR(c, next) {
    bool is_stray =
        holt__form_is_ours(c, next) && next->cluster_id == c->cluster_id && next->state == STATE_MEMBER;
    if (!is_stray || holt__member_was(c, next->id)) continue;
    struct holt_writer body = {0};
    holt_write_u8(&body, HOLT__GONE);
    holt_write_u64(&body, next->id);
    holt__form_post(next, &body);
  }
}

/* --- In and on time ------------------------------------------------------------------------------------ */

void holt__form_message(struct holt_cluster *c, struct holt_link *link, struct holt_buf body) {
  struct holt__neighbour *next = by_link(c, link);
  struct holt_reader in = holt_reader(body);
  uint8_t kind = holt_read_u8(&in);
  if (!next || in.failed) return;
  if (kind == HOLT__HELLO) {
    on_hello(c, next, &in);
    return;
  }
  if (!holt__form_is_ours(c, next)) return;
  switch (kind) {
  case HOLT__VOID:
    holt__set_on_void(c, next, &in);
    break;
  case HOLT__VOIDED:
    holt__set_on_voided(c, &in);
    break;
  case HOLT__ADMITTED:
    on_admitted(c, &in);
    break;
  case HOLT__JOIN:
    on_join(c, &in);
    break;
  case HOLT__REFUSED:
    on_refused(c, next, &in);
    break;
  case HOLT__LEAVE:
    on_leave(c, next, &in);
    break;
  case HOLT__GONE:
    on_gone(c, &in);
    break;
  case HOLT__HAND_OVER:
    on_hand_over(c, &in);
    break;
  default:
    break;
  }
}

/* --- Pace ---------------------------------------------------------------------------------------------- */

static bool is_member_name(struct holt_cluster *c, const char *name) {
  const struct holt_raft_conf *conf = c->raft ? holt_raft_conf(c->raft) : &c->machine.conf;
  for (uint32_t i = 0; i < conf->count; i++)
    if (strcmp(holt_cluster_member_name(c, conf->members[i].id), name) == 0) return true;
  return false;
}

static bool has_all_members(struct holt_cluster *c) {
  const struct holt_raft_conf *conf = &c->machine.conf;
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].id != c->self && !holt__form_by_id(c, conf->members[i].id)) return false;
  return true;
}

/* A member that is gone is noticed within two election time-outs, and met again within one. Addresses behind
 * which nobody was met yet are dialled as fast while somebody is missing, and all while there is no cluster
 * yet. */
static void pace_links(struct holt_cluster *c) {
  uint64_t redial_ms = c->config.election_ms;
  bool is_whole = c->is_joined && has_all_members(c);
  for (struct holt_link *link = holt_links_first(c->links); link; link = holt_links_next(c->links, link)) {
    const char *name = holt_link_name(link);
    bool is_member = name[0] != 0 && is_member_name(c, name);
    bool is_sought = !c->is_joined || (name[0] == 0 && !is_whole);
    holt_link_pace(link, is_member || is_sought ? redial_ms : 0, is_member ? 2 * redial_ms : 0);
  }
}

/* The log says where the members are: who comes back finds them, though the one that it was told to dial is
 * gone for good. */
static void meet_members(struct holt_cluster *c) {
  const struct holt_raft_conf *conf = c->raft ? holt_raft_conf(c->raft) : &c->machine.conf;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt__label *label = holt__member_label(c, conf->members[i].id);
    if (!label || label->id == c->self || label->address[0] == 0 || holt__form_by_id(c, label->id)) continue;
    if (strcmp(label->address, c->address) != 0) holt_links_meet(c->links, label->address);
  }
}

void holt__form_tick(struct holt_cluster *c) {
  uint64_t now = holt__cluster_now(c);
  if (now >= c->hello_at_ms) {
    pace_links(c);
    meet_members(c);
    holt__form_say_hello(c);
    tell_gone(c);
  }
  if (c->state == STATE_LEFT || c->state == STATE_FAILED) return;
  holt__set_tick(c);
  if (c->state == STATE_EMPTY || c->state == STATE_JOINING) ask_join(c);
  if (c->state == STATE_MEMBER) ask_change(c);
}
