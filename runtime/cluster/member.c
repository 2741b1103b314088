/* member.c - who belongs: admitting, expelling, leaving, and noticing what the log says about it.
 *
 * - The leader admits by one entry: a learner at first, a voter once it has caught up. A newcomer of a name
 * that a silent member has takes that one's place in the same change; while the other is heard it is refused.
 * - Whoever leaves asks the leader again and again until the log says that it is out; a leader hands over
 * first.
 * - A member that learns that it is out begins anew, as another incarnation. */
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_impl.h"

static int place_of(const struct holt_raft_conf *conf, uint64_t id) {
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].id == id) return (int)i;
  return -1;
}

bool holt__member_was(const struct holt_cluster *c, uint64_t id) {
  return place_of(&c->machine.conf, id) >= 0 || (c->raft && place_of(holt_raft_conf(c->raft), id) >= 0);
}

/* --- At the leader ------------------------------------------------------------------------------------- */

static bool is_heard(struct holt_cluster *c, uint64_t id) {
  struct holt_raft_status status;
  if (id == c->self) return true;
  holt_raft_status(c->raft, &status);
  for (size_t i = 0; i < status.peer_count; i++)
    if (status.peers[i].id == id)
      return holt__cluster_now(c) < status.peers[i].heard_ms + c->config.election_ms;
  return false;
}

static int change(struct holt_cluster *c, const struct holt_raft_change *changes, size_t count) {
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_CHANGE, .changes = changes, .count = count, .tag = ++c->next_tag};
  c->change_tag = event.tag;
  c->change_code = HOLT_EBUSY;
  holt__cluster_step(c, &event);
  return c->change_code; /* the core answered within the step */
}

static void propose_label(struct holt_cluster *c, uint64_t id, const char *name, const char *address) {
  struct holt_writer data = {0};
  holt_write_u8(&data, HOLT__ENTRY_LABEL);
  holt_write_u64(&data, id);
  holt_write_text8(&data, name);
  holt_write_text8(&data, address);
  struct holt_raft_entry entry = {.type = HOLT_RAFT_COMMAND, .data = data.data, .len = (uint32_t)data.len};
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_PROPOSE, .entries = &entry, .count = 1};
  holt__cluster_step(c, &event);
  holt_writer_free(&data);
}

/* --- Founders ------------------------------------------------------------------------------------------ */

const struct holt__label *holt__member_founder(const struct holt_cluster *c, uint64_t id) {
  for (uint32_t i = 0; i < c->founder_count; i++)
    if (c->founders[i].id == id) return &c->founders[i];
  return NULL;
}

void holt__member_found(struct holt_cluster *c, uint32_t place, const struct holt__neighbour *next) {
  struct holt__label *label = &c->founders[place];
  label->id = next ? next->id : c->self;
  snprintf(label->name, sizeof label->name, "%s", next ? next->name : c->node_name);
  snprintf(label->address, sizeof label->address, "%s", next ? next->address : c->address);
}

static void hint(struct holt_cluster *c, const struct holt__label *label) {
  uint32_t at = 0;
  while (at < c->hint_count && c->hints[at].id != label->id) at++;
  if (at == HOLT_RAFT_MEMBERS_MAX) { /* the oldest one goes */
    memmove(c->hints, c->hints + 1, (HOLT_RAFT_MEMBERS_MAX - 1) * sizeof *c->hints);
    at--;
  }
  c->hints[at] = *label;
  if (at == c->hint_count) c->hint_count++;
}

void holt__member_read_hints(struct holt_cluster *c, const struct holt_raft_restore *restore) {
  for (size_t i = 0; i < restore->count; i++) {
    const struct holt_raft_entry *entry = &restore->entries[i];
    struct holt__label label;
    if (entry->type != HOLT_RAFT_COMMAND || entry->len == 0 || entry->data[0] != HOLT__ENTRY_LABEL) continue;
    struct holt_reader in = holt_reader(holt_buf(entry->data + 1, entry->len - 1));
    if (holt__label_read(&label, &in)) hint(c, &label);
  }
}

const struct holt__label *holt__member_label(const struct holt_cluster *c, uint64_t id) {
  const struct holt__label *label = holt__machine_label(&c->machine, id);
  if (!label) label = holt__member_founder(c, id);
  for (uint32_t i = 0; !label && i < c->hint_count; i++)
    if (c->hints[i].id == id) label = &c->hints[i];
  return label;
}

/* A founder may be gone before it has told the log its name: then nobody of that name could take its place.
 */
static void label_founders(struct holt_cluster *c) {
  const struct holt_raft_conf *conf = &c->machine.conf;
  if (!holt_cluster_is_leader(c)) return;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt__label *label = holt__member_founder(c, conf->members[i].id);
    if (label && !holt__machine_label(&c->machine, label->id))
      propose_label(c, label->id, label->name, label->address);
  }
}

static int err_unled(struct holt_err *err, const char *name) {
  return holt_err_set(
      err, HOLT_EINVAL,
      "with '%s' more than half of the voters were some that never lead, and nobody could go on "
      "after a loss; start it without can_lead = false, or as a learner (voter = false), or let "
      "others that lead join first",
      name);
}

/* A member that was started again with other settings. */
static int adjust(struct holt_cluster *c, const struct holt_raft_member *member, const char *name,
                  bool can_lead, uint8_t priority, struct holt_err *err) {
  struct holt_raft_change set = {
      .type = HOLT_RAFT_SET, .id = member->id, .can_lead = can_lead, .priority = priority};
  if (member->can_lead == can_lead && member->priority == priority) return 0;
  int rc = change(c, &set, 1);
  return rc == HOLT_EINVAL ? err_unled(err, name) : rc;
}

bool holt__member_is_changed(const struct holt_cluster *c) {
  int place = place_of(&c->machine.conf, c->self);
  if (c->state != STATE_MEMBER || !c->is_joined || place < 0) return false;
  const struct holt_raft_member *me = &c->machine.conf.members[place];
  return me->can_lead != c->config.can_lead || me->priority != c->config.priority;
}

int holt__member_admit(struct holt_cluster *c, uint64_t id, const char *name, const char *address,
                       bool can_lead, bool is_voter, uint8_t priority, struct holt_err *err) {
  const struct holt_raft_conf *conf = holt_raft_conf(c->raft);
  int place = place_of(conf, id);
  if (place >= 0) return adjust(c, &conf->members[place], name, can_lead, priority, err);
  uint64_t replaced = 0;
  struct holt_raft_change changes[HOLT_RAFT_MEMBERS_MAX + 1];
  size_t count = 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    uint64_t old = conf->members[i].id;
    if (strcmp(holt_cluster_member_name(c, old), name) != 0) continue;
    if (is_heard(c, old))
      return holt_err_set(err, HOLT_ENAMEINUSE, "a member named '%s' is alive; give this node another --name",
                          name);
    if (conf->members[i].role == HOLT_RAFT_LEARNER && conf->members[i].replaces == 0)
      changes[count++] = (struct holt_raft_change){.type = HOLT_RAFT_REMOVE, .id = old};
    else if (conf->members[i].role == HOLT_RAFT_LEARNER || replaced == 0)
      replaced = old; /* a learner passes on what it was to replace */
  }
  changes[count++] = (struct holt_raft_change){.type = is_voter ? HOLT_RAFT_ADD : HOLT_RAFT_ADD_LEARNER,
                                               .id = id,
                                               .can_lead = can_lead,
                                               .priority = priority,
                                               .replaces = replaced};
  propose_label(c, id, name, address);
  int rc = change(c, changes, count);
  if (rc == HOLT_ETOOLARGE)
    return holt_err_set(err, rc, "the cluster has all %d members it may have", HOLT_RAFT_MEMBERS_MAX);
  if (rc == HOLT_EINVAL) return err_unled(err, name);
  return rc;
}

int holt__member_expel(struct holt_cluster *c, uint64_t id) {
  struct holt_raft_change remove = {.type = HOLT_RAFT_REMOVE, .id = id};
  if (place_of(holt_raft_conf(c->raft), id) < 0) return HOLT_ENOTFOUND;
  return change(c, &remove, 1);
}

void holt__member_change_done(struct holt_cluster *c, const struct holt_raft_done *done) {
  if (done->tag == c->change_tag) c->change_code = done->code;
}

/* --- What the log says --------------------------------------------------------------------------------- */

/* Learners on their way to vote are told of once they do. */
static bool is_to_be_told(struct holt_cluster *c, const struct holt_raft_member *member) {
  if (member->role == HOLT_RAFT_LEARNER && member->will_vote) return false;
  return *holt_cluster_member_name(c, member->id) != 0;
}

static void tell_joined(struct holt_cluster *c, const struct holt_raft_conf *now) {
  for (uint32_t i = 0; i < now->count; i++) {
    uint64_t id = now->members[i].id;
    if (place_of(&c->conf_told, id) < 0 && is_to_be_told(c, &now->members[i]))
      holt__cluster_tell(c, HOLT_CLUSTER_MEMBER_JOINED, holt_cluster_member_name(c, id), "", id);
  }
}

static void tell_left(struct holt_cluster *c, const struct holt_raft_conf *now) {
  for (uint32_t i = 0; i < c->conf_told.count; i++)
    if (place_of(now, c->conf_told.members[i].id) < 0)
      holt__cluster_tell(c, HOLT_CLUSTER_MEMBER_LEFT, c->names_told[i], "", c->conf_told.members[i].id);
}

static void remember(struct holt_cluster *c, const struct holt_raft_conf *now) {
  struct holt_raft_conf before = c->conf_told;
  memset(&c->conf_told, 0, sizeof c->conf_told);
  c->has_nameless = false;
  for (uint32_t i = 0; i < now->count; i++) {
    const struct holt_raft_member *member = &now->members[i];
    if (*holt_cluster_member_name(c, member->id) == 0) c->has_nameless = true;
    if (place_of(&before, member->id) < 0 && !is_to_be_told(c, member)) continue;
    snprintf(c->names_told[c->conf_told.count], sizeof c->names_told[0], "%s",
             holt_cluster_member_name(c, member->id));
    c->conf_told.members[c->conf_told.count++] = *member;
  }
}

void holt__member_compare(struct holt_cluster *c) {
  const struct holt_raft_conf *now = &c->machine.conf;
  tell_joined(c, now);
  tell_left(c, now);
  remember(c, now);
}

void holt__member_applied_conf(struct holt_cluster *c) {
  const struct holt_raft_conf *now = &c->machine.conf;
  holt__member_compare(c);
  holt__cluster_tell(c, HOLT_CLUSTER_CONF, "", "", c->machine.applied);
  int self = place_of(now, c->self);
  if (self < 0) {
    c->is_out = c->is_joined; /* dealt with on the next tick: the core is in the middle of a step */
    return;
  }
  const struct holt_raft_member *me = &now->members[self];
  bool is_whole = me->role == HOLT_RAFT_VOTER || me->role == HOLT_RAFT_INCOMING ||
                  (me->role == HOLT_RAFT_LEARNER && !me->will_vote);
  if (c->state == STATE_JOINING) c->state = STATE_MEMBER;
  if (!c->was_member) {
    struct holt_err err;
    c->was_member = true;
    if (holt__disk_save_identity(c, &err) != 0) holt__cluster_tell_error(c, HOLT_CLUSTER_DISK_ERROR, &err);
  }
  if (is_whole && !c->is_joined) {
    c->is_joined = c->has_quorum = true;
    c->refusal[0] = 0;
    holt__cluster_tell(c, HOLT_CLUSTER_JOINED, "", "", c->self);
    holt__form_say_hello(c);
  }
}

static void end_request(struct holt_cluster_request **request, int code) {
  struct holt_cluster_request *ended = *request;
  *request = NULL;
  if (ended) holt__cluster_request_end(ended, code, holt_buf(NULL, 0), 0);
}

void holt__member_gone(struct holt_cluster *c) {
  if (c->state != STATE_MEMBER && c->state != STATE_JOINING) return;
  if (holt_env_is_held(c->env)) { /* somebody looks at what would be gone: on a later tick */
    c->is_out = true;
    return;
  }
  bool is_wanted = c->leaving != NULL;
  holt__requests_fail(c, HOLT_ECLOSED);
  c->was_member = true;
  if (holt__cluster_end(c) == 0) c->state = is_wanted ? STATE_LEFT : STATE_EMPTY;
  c->is_out = false;
  holt__cluster_tell(c, is_wanted ? HOLT_CLUSTER_LEFT : HOLT_CLUSTER_REJOINING, "", "", 0);
  holt__form_say_hello(c);
  end_request(&c->leaving, 0);
}

void holt_cluster_rejoin(struct holt_cluster *c) {
  if (c->is_closed || c->state != STATE_LEFT) return;
  c->config.members = 0; /* it begins none by itself */
  c->state = STATE_EMPTY;
  holt__form_say_hello(c);
}

/* --- Asked for here ------------------------------------------------------------------------------------ */

static bool take_place(struct holt_cluster *c, struct holt_cluster_request **place,
                       struct holt_cluster_request *request, uint64_t timeout_ms) {
  holt_list_init(&request->node);
  request->deadline_ms = holt__cluster_now(c) + timeout_ms;
  request->number = 0;
  if (*place) {
    holt_list_push(&c->refused, &request->node); /* answered on the next tick */
    return false;
  }
  *place = request;
  c->work_asked_ms = 0;
  return true;
}

void holt_cluster_leave(struct holt_cluster *c, struct holt_cluster_request *request, uint64_t timeout_ms) {
  take_place(c, &c->leaving, request, timeout_ms);
}

void holt_cluster_transfer(struct holt_cluster *c, struct holt_cluster_request *request, const char *name,
                           uint64_t timeout_ms) {
  if (!take_place(c, &c->transferring, request, timeout_ms)) return;
  c->transferring_id = name ? holt_cluster_member_id(c, name) : 0;
  c->is_transfer_bad = name && c->transferring_id == 0;
  c->transfer_from = c->leader;
}

void holt_cluster_remove(struct holt_cluster *c, struct holt_cluster_request *request, const char *name,
                         uint64_t timeout_ms) {
  if (!take_place(c, &c->removing, request, timeout_ms)) return;
  c->removing_id = holt_cluster_member_id(c, name);
}

static bool is_transferring(const struct holt_cluster *c) {
  struct holt_raft_status status;
  holt_raft_status(c->raft, &status);
  return status.is_transferring;
}

/* Could the others elect one of them? */
static bool has_linked_majority(struct holt_cluster *c) {
  uint32_t voters = 0, linked = 0;
  for (uint32_t i = 0; i < c->machine.conf.count; i++) {
    const struct holt_raft_member *member = &c->machine.conf.members[i];
    if (member->role != HOLT_RAFT_VOTER) continue;
    voters++;
    linked += member->id == c->self || holt__form_by_id(c, member->id) != NULL;
  }
  return linked > 1 && linked > voters / 2;
}

bool holt_cluster_hand_over(struct holt_cluster *c) {
  uint64_t now = holt__cluster_now(c);
  bool leads = holt_cluster_is_leader(c);
  if (!c->raft || c->state != STATE_MEMBER || !has_linked_majority(c)) return false;
  if (leads && c->handing_over_ms == 0) c->handing_over_ms = now;
  if (c->handing_over_ms == 0 || now >= c->handing_over_ms + 2 * c->config.election_ms) return false;
  if (!leads) return c->leader == 0; /* the heir stands for election */
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_TRANSFER};
  if (!is_transferring(c)) holt__cluster_step(c, &event);
  return !holt_cluster_is_leader(c) || is_transferring(c);
}

void holt_cluster_step_down(struct holt_cluster *c) {
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_STEP_DOWN};
  if (holt_cluster_is_leader(c)) holt__cluster_step(c, &event);
}

static bool has_others(const struct holt_cluster *c) {
  for (uint32_t i = 0; i < c->machine.conf.count; i++) {
    const struct holt_raft_member *member = &c->machine.conf.members[i];
    if (member->role == HOLT_RAFT_VOTER && member->id != c->self) return true;
  }
  return false;
}

static void work_on_leaving(struct holt_cluster *c) {
  if (c->state != STATE_MEMBER || !has_others(c)) { /* nobody to ask */
    c->state = c->state == STATE_MEMBER ? c->state : STATE_EMPTY;
    if (c->raft) {
      c->state = STATE_MEMBER;
      holt__member_gone(c);
    } else {
      c->state = STATE_LEFT;
      end_request(&c->leaving, 0);
    }
    return;
  }
  if (holt_cluster_is_leader(c)) {
    struct holt_raft_event event = {.type = HOLT_RAFT_EV_TRANSFER};
    holt__cluster_step(c, &event);
  } else {
    holt__form_ask_leader(c, true, c->self);
  }
}

static void work_on_transfer(struct holt_cluster *c) {
  bool is_done =
      c->transferring_id ? c->leader == c->transferring_id : c->leader && c->leader != c->transfer_from;
  if (is_done || c->is_transfer_bad) {
    end_request(&c->transferring, is_done ? 0 : HOLT_ENOTFOUND);
    return;
  }
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_TRANSFER, .id = c->transferring_id};
  if (holt_cluster_is_leader(c))
    holt__cluster_step(c, &event);
  else
    holt__form_ask_leader(c, false, c->transferring_id);
}

static void work_on_removal(struct holt_cluster *c) {
  if (c->removing_id == 0) {
    end_request(&c->removing, HOLT_ENOTFOUND);
  } else if (place_of(&c->machine.conf, c->removing_id) < 0) {
    end_request(&c->removing, 0);
  } else if (holt_cluster_is_leader(c)) {
    holt__member_expel(c, c->removing_id);
  } else {
    holt__form_ask_leader(c, true, c->removing_id);
  }
}

static void expire(struct holt_cluster *c, struct holt_cluster_request **request) {
  if (*request && holt__cluster_now(c) >= (*request)->deadline_ms)
    end_request(request, c->leader ? HOLT_ETIMEOUT : HOLT_ENOLEADER);
}

/* The leader tells of members it has not heard for an election time-out, once a silence. */
static void watch_silence(struct holt_cluster *c) {
  struct holt_raft_status status;
  if (!holt_cluster_is_leader(c)) {
    c->silent = 0;
    return;
  }
  holt_raft_status(c->raft, &status);
  for (size_t i = 0; i < status.peer_count; i++) {
    uint64_t bit = (uint64_t)1 << i;
    bool is_silent = holt__cluster_now(c) >= status.peers[i].heard_ms + c->config.election_ms;
    if (is_silent && !(c->silent & bit))
      holt__cluster_tell(c, HOLT_CLUSTER_NO_HEARTBEAT, holt_cluster_member_name(c, status.peers[i].id), "",
                         status.peers[i].id);
    c->silent = is_silent ? c->silent | bit : c->silent & ~bit;
    bool is_unsynced = status.peers[i].state == 2;
    if (is_unsynced && !(c->unsynced & bit))
      holt__cluster_tell(c, HOLT_CLUSTER_UNSYNCED, holt_cluster_member_name(c, status.peers[i].id), "",
                         status.peers[i].id);
    c->unsynced = is_unsynced ? c->unsynced | bit : c->unsynced & ~bit;
  }
}

void holt__member_tick(struct holt_cluster *c) {
  while (!holt_list_is_empty(&c->refused))
    holt__cluster_request_end(HOLT_CONTAINER(c->refused.next, struct holt_cluster_request, node), HOLT_EBUSY,
                              holt_buf(NULL, 0), 0);
  if (c->is_out) holt__member_gone(c);
  watch_silence(c);
  uint64_t now = holt__cluster_now(c);
  if (c->work_asked_ms == 0 || now >= c->work_asked_ms + c->config.election_ms / 4) {
    c->work_asked_ms = now;
    label_founders(c);
    if (c->transferring) work_on_transfer(c);
    if (c->removing) work_on_removal(c);
    if (c->leaving) work_on_leaving(c);
  }
  expire(c, &c->leaving);
  expire(c, &c->transferring);
  expire(c, &c->removing);
}
