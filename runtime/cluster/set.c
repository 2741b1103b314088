/* set.c - the first members of a cluster: which nodes, their pledges, and how those become void.
 *
 * - Nodes without a cluster tell each other who they are. Once N see each other, those of the N smallest ids
 *   (with enough among them that may lead) pledge themselves to that set, durably. Whoever sees all N
 *   pledged to it, or one of them begun, begins. The set's hash is the id of the cluster; it covers all that
 *   the first entry of the log says, so two that pledge to one set begin alike, whatever their settings are
 *   by then. Nobody pledges to two sets at a time: two sets that share a node cannot both begin.
 * - A pledge leads to nothing: its members are asked to void it. Each that has taken no part yet promises
 *   that it never will under its present id. The asker is free once
 *     a majority has promised, itself included: no quorum of those ids can exist any more; or
 *     every id of the set has promised or is gone: its state is lost for good, which is known once another
 *     id goes by its name. Less than all would not do: those who are gone may have committed something
 *     together with one that is only out of sight.
 * - Who began, but never voted nor stored anything, is in the same position once less than a majority of the
 *   set is in sight: it promises as well, asks as well, and starts again under a new id, as if wiped.
 * - Whoever has seen a member of a cluster and not yet joined it begins none while that one, or a successor
 *   of its name, is away.
 * - No clock decides: time only says when to ask. */
#include <stdio.h>
#include <string.h>

#include "cluster/cluster_impl.h"

enum { CANDIDATES_MAX = 256 };

static bool may_begin(const struct holt_cluster *c) {
  return c->config.members > 0 && c->config.is_voter && !c->was_member;
}

/* --- Choosing ------------------------------------------------------------------------------------------ */

struct candidate {
  uint64_t id;
  const struct holt__neighbour *next; /* NULL: this node */
  bool can_lead;
};

static bool is_candidate(const struct holt_cluster *c, const struct holt__neighbour *next) {
  return holt__form_is_ours(c, next) && next->cluster_id == 0 && next->is_voter &&
         next->wanted == c->config.members && (next->state == STATE_EMPTY || next->state == STATE_PLEDGED);
}

/* In order of their ids. */
static uint32_t add_candidate(struct candidate *list, uint32_t count, struct candidate one) {
  if (count == CANDIDATES_MAX) return count;
  uint32_t at = count;
  for (; at > 0 && list[at - 1].id > one.id; at--) list[at] = list[at - 1];
  list[at] = one;
  return count + 1;
}

/* Of each sort the smallest ids: of those that lead as many as there must be, of the others what is left. */
static void take_smallest(const struct candidate *list, uint32_t count, uint32_t wanted, bool *is_taken) {
  uint32_t leads = (wanted + 1) / 2, others = wanted - leads;
  memset(is_taken, 0, count * sizeof *is_taken);
  for (uint32_t i = 0; i < count && leads > 0; i++) {
    if (!list[i].can_lead) continue;
    is_taken[i] = true;
    leads--;
  }
  others += leads; /* too few lead: the words name them */
  for (uint32_t i = 0; i < count && others > 0; i++) {
    if (is_taken[i]) continue;
    is_taken[i] = true;
    others--;
  }
}

/* Who would begin, as far as this node can see: the membership and the names beside it. False: too few. */
static bool choose(struct holt_cluster *c, struct holt_raft_conf *conf) {
  struct candidate list[CANDIDATES_MAX];
  bool is_taken[CANDIDATES_MAX];
  uint32_t count = add_candidate(list, 0, (struct candidate){c->self, NULL, c->config.can_lead});
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (is_candidate(c, next))
      count = add_candidate(list, count, (struct candidate){next->id, next, next->can_lead});
  }
  if (count < c->config.members) return false;
  take_smallest(list, count, c->config.members, is_taken);
  memset(conf, 0, sizeof *conf);
  for (uint32_t i = 0; i < count; i++) {
    if (!is_taken[i]) continue;
    conf->members[conf->count] =
        (struct holt_raft_member){.id = list[i].id,
                                  .role = HOLT_RAFT_VOTER,
                                  .can_lead = list[i].can_lead,
                                  .priority = list[i].next ? list[i].next->priority : c->config.priority};
    holt__member_found(c, conf->count++, list[i].next);
  }
  c->founder_count = conf->count;
  return true;
}

static uint64_t set_id(const struct holt_cluster *c, const struct holt_raft_conf *conf, uint32_t round) {
  uint64_t hash = holt_hash_bytes(round, c->name, strlen(c->name));
  for (uint32_t i = 0; i < conf->count; i++) {
    hash = holt_hash_u64(hash ^ conf->members[i].id);
    hash = holt_hash_u64(hash ^ (uint64_t)(conf->members[i].priority * 2 + conf->members[i].can_lead));
  }
  return hash | 1;
}

/* --- Pledging ------------------------------------------------------------------------------------------ */

/* What was promised must outlive this process, before anybody hears it. */
static bool save(struct holt_cluster *c) {
  struct holt_err err;
  int rc = holt__disk_save_identity(c, &err);
  if (rc != 0 && !c->is_begin_full) holt__cluster_tell_error(c, HOLT_CLUSTER_DISK_ERROR, &err);
  c->is_begin_full = rc != 0; /* told once; tried again */
  return rc == 0;
}

static bool can_be_led(struct holt_cluster *c, const struct holt_raft_conf *conf) {
  struct holt_err err;
  int rc = holt__words_unled(c, conf, &err);
  if (rc != 0 && strcmp(c->refusal, err.message) != 0) holt__cluster_tell_error(c, HOLT_CLUSTER_ERROR, &err);
  if (rc != 0 || c->is_unled) snprintf(c->refusal, sizeof c->refusal, "%.379s", rc != 0 ? err.message : "");
  c->is_unled = rc != 0;
  return rc == 0;
}

static void pledge(struct holt_cluster *c) {
  struct holt_raft_conf conf;
  bool is_in = false;
  if (!choose(c, &conf) || !can_be_led(c, &conf)) return;
  for (uint32_t i = 0; i < conf.count; i++) is_in = is_in || conf.members[i].id == c->self;
  if (!is_in) return;
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (is_candidate(c, next) && next->round > c->round) c->round = next->round;
  }
  if (c->round <= c->voided_round) c->round = c->voided_round + 1;
  c->pledge = (struct holt__pledge){
      .set = set_id(c, &conf, c->round), .round = c->round, .conf = conf, .since_ms = holt__cluster_now(c)};
  c->void_asked_ms = c->pledge.since_ms;
  if (!save(c)) {
    c->pledge.set = 0;
    return;
  }
  c->state = STATE_PLEDGED;
  holt__form_say_hello(c);
}

struct holt__neighbour *holt__set_founder(struct holt_cluster *c, uint32_t place) {
  return holt__form_by_id(c, c->pledge.conf.members[place].id);
}

static bool is_own_place(const struct holt_cluster *c, uint32_t place) {
  return c->pledge.conf.members[place].id == c->self;
}

/* Somebody saw all of the set pledged to it, and began. */
static bool has_begun(struct holt_cluster *c) {
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (holt__form_is_ours(c, next) && next->cluster_id == c->pledge.set) return true;
  }
  return false;
}

/* With all pledges, or when another one had them all: who was wiped since then never shows its own again, and
 * whoever began alone needs the rest of us to elect a leader. */
static void begin_set(struct holt_cluster *c) {
  const struct holt_raft_conf *conf = &c->pledge.conf;
  bool is_whole = conf->count > 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt__neighbour *next = holt__set_founder(c, i);
    is_whole = is_whole && (is_own_place(c, i) || (next && next->pledge == c->pledge.set));
  }
  if (is_whole || has_begun(c)) holt__cluster_begin(c, c->pledge.set, conf->count ? conf : NULL);
}

/* --- Voiding ------------------------------------------------------------------------------------------- */

bool holt__set_is_voided(const struct holt_cluster *c, uint64_t set) {
  for (uint32_t i = 0; i < c->voided_count; i++)
    if (c->voided_sets[i] == set) return true;
  return false;
}

/* Others rely on it: who began that set without us must never count our vote. */
static void note_voided(struct holt_cluster *c, uint64_t set) {
  if (set == 0 || holt__set_is_voided(c, set)) return;
  if (c->voided_count == HOLT__VOIDED_SETS) {
    memmove(c->voided_sets, c->voided_sets + 1, (HOLT__VOIDED_SETS - 1) * sizeof *c->voided_sets);
    c->voided_count--;
  }
  c->voided_sets[c->voided_count++] = set;
}

bool holt__set_is_bare(const struct holt_cluster *c) {
  struct holt_raft_status status;
  if (!c->raft || (c->state != STATE_MEMBER && c->state != STATE_JOINING)) return false;
  holt_raft_status(c->raft, &status);
  return status.last <= 1 && status.commit == 0 && status.snapshot_index == 0 && !status.is_installing;
}

/* Nor has it voted, or heard of a vote: nothing that ever happened in its cluster rests on it. */
static bool is_clean(const struct holt_cluster *c) {
  struct holt_raft_status status;
  if (!holt__set_is_bare(c)) return false;
  holt_raft_status(c->raft, &status);
  return status.term <= 1 && status.vote == 0;
}

bool holt__set_is_gone(struct holt_cluster *c, uint32_t place) {
  const char *name = c->founders[place].name;
  if (name[0] == '\0' || is_own_place(c, place) || holt__set_founder(c, place)) return false;
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (holt__form_is_ours(c, next) && strcmp(next->name, name) == 0) return true;
  }
  return false;
}

/* Began with the set it pledged to, and not enough of that are in sight to elect anybody. */
static bool is_hopeless(struct holt_cluster *c) {
  const struct holt_raft_conf *conf = &c->pledge.conf;
  uint32_t there = 0;
  if (c->state != STATE_MEMBER || c->pledge.set == 0 || c->cluster_id != c->pledge.set) return false;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt__neighbour *next = holt__set_founder(c, i);
    bool is_in = next && (next->pledge == c->pledge.set || next->cluster_id == c->pledge.set);
    there += is_own_place(c, i) || is_in;
  }
  return there <= conf->count / 2;
}

static void send_void(struct holt__neighbour *to, uint8_t kind, uint64_t set, uint64_t number) {
  struct holt_writer body = {0};
  holt_write_u8(&body, kind);
  holt_write_u64(&body, set);
  if (kind == HOLT__VOID)
    holt_write_u32(&body, (uint32_t)number);
  else
    holt_write_u64(&body, number);
  holt__form_post(to, &body);
}

static void skip_round(struct holt_cluster *c, uint32_t round) {
  if (round > c->voided_round) c->voided_round = round;
  if (c->round <= c->voided_round) c->round = c->voided_round + 1;
}

/* Never again under this id; durable on return. False: not now. */
static bool give_up(struct holt_cluster *c) {
  bool is_begun = c->raft != NULL;
  if (is_begun && holt_env_is_held(c->env)) return false; /* a script looks at what would be gone */
  skip_round(c, c->pledge.round);
  if (is_begun) { /* as if it were wiped: then it can be no part of anything */
    if (!is_clean(c)) holt__requests_fail(c, HOLT_ECLOSED); /* else none has left this node */
    if (holt__cluster_end(c) != 0) return false;
  } else {
    note_voided(c, c->pledge.set);
    c->pledge.set = 0;
    c->state = STATE_EMPTY;
    if (!save(c)) return false;
  }
  holt__form_say_hello(c);
  return true;
}

/* A member of that cluster which is none of those who began it: it was let in, so there was a leader. */
static bool has_outsider(struct holt_cluster *c) {
  HOLT__EACH_NEIGHBOUR(c, next) {
    bool is_founder = false;
    if (!holt__form_is_ours(c, next) || next->cluster_id != c->pledge.set || next->state != STATE_MEMBER)
      continue;
    for (uint32_t i = 0; i < c->pledge.conf.count; i++)
      is_founder = is_founder || c->pledge.conf.members[i].id == next->id;
    if (!is_founder) return true;
  }
  return false;
}

/* It has led to nothing for a while: ask its members to void it. */
static void ask_void(struct holt_cluster *c) {
  const struct holt_raft_conf *conf = &c->pledge.conf;
  uint64_t now = holt__cluster_now(c), patience = 4 * c->config.election_ms;
  if (now < c->pledge.since_ms + patience || now < c->void_asked_ms + c->config.election_ms) return;
  c->void_asked_ms = now;
  uint32_t promised = 0, known = 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    bool has_promised = is_own_place(c, i) ? !c->raft || is_clean(c) : c->pledge.voided >> i & 1;
    struct holt__neighbour *next = holt__set_founder(c, i);
    promised += has_promised;
    known += has_promised || is_own_place(c, i) || holt__set_is_gone(c, i);
    if (!has_promised && next) send_void(next, HOLT__VOID, c->pledge.set, c->pledge.round);
  }
  bool is_free = promised > conf->count / 2 || (known == conf->count && known > 0 && !has_outsider(c));
  if (is_free) (void)give_up(c);
}

void holt__set_on_void(struct holt_cluster *c, struct holt__neighbour *next, struct holt_reader *in) {
  uint64_t set = holt_read_u64(in), self = c->self;
  uint32_t round = holt_read_u32(in);
  bool is_promised;
  if (in->failed) return;
  if (c->cluster_id == set) { /* begun: a started member beats a pledge, if it can still come to anything */
    is_promised = is_hopeless(c) && is_clean(c) && give_up(c);
  } else if (c->state == STATE_PLEDGED && c->pledge.set == set) {
    is_promised = give_up(c);
  } else {
    note_voided(c, set);
    skip_round(c, round);
    is_promised = save(c);
  }
  if (is_promised) send_void(next, HOLT__VOIDED, set, self);
}

void holt__set_on_voided(struct holt_cluster *c, struct holt_reader *in) {
  uint64_t set = holt_read_u64(in), id = holt_read_u64(in);
  if (in->failed || set != c->pledge.set) return;
  for (uint32_t i = 0; i < c->pledge.conf.count; i++)
    if (c->pledge.conf.members[i].id == id) c->pledge.voided |= 1u << i;
}

/* --- Members in sight ---------------------------------------------------------------------------------- */

void holt__set_note_member(struct holt_cluster *c, const struct holt__neighbour *next) {
  if (next->cluster_id == 0 || next->state != STATE_MEMBER) return;
  if ((c->state != STATE_EMPTY && c->state != STATE_JOINING) || holt__set_is_voided(c, next->cluster_id))
    return;
  for (uint32_t i = 0; i < c->seen_count; i++)
    if (c->seen[i].id == next->id) return;
  if (c->seen_count == HOLT_RAFT_MEMBERS_MAX)
    memmove(c->seen, c->seen + 1, --c->seen_count * sizeof c->seen[0]);
  struct holt__seen *seen = &c->seen[c->seen_count++];
  seen->id = next->id;
  seen->cluster_id = next->cluster_id;
  snprintf(seen->name, sizeof seen->name, "%s", next->name);
}

/* It is of that cluster no more, or its state is lost. */
static bool is_over(struct holt_cluster *c, const struct holt__seen *seen) {
  if (holt__set_is_voided(c, seen->cluster_id)) return true;
  HOLT__EACH_NEIGHBOUR(c, next) {
    if (!holt__form_is_ours(c, next)) continue;
    if (next->id == seen->id) return next->cluster_id != seen->cluster_id;
    if (strcmp(next->name, seen->name) == 0) return true;
  }
  return false;
}

static void forget_seen(struct holt_cluster *c) {
  for (uint32_t i = c->seen_count; i-- > 0;)
    if (is_over(c, &c->seen[i]))
      memmove(&c->seen[i], &c->seen[i + 1], (--c->seen_count - i) * sizeof c->seen[0]);
}

const struct holt__seen *holt__set_missing(struct holt_cluster *c) {
  for (uint32_t i = 0; i < c->seen_count; i++)
    if (!holt__form_by_id(c, c->seen[i].id)) return &c->seen[i];
  return NULL;
}

/* It was let into a cluster of which nobody is left. */
static void leave_ruins(struct holt_cluster *c) {
  if (c->state != STATE_JOINING || c->seen_count > 0 || !holt__set_is_bare(c)) return;
  if (holt__form_member(c) || holt_env_is_held(c->env)) return;
  holt__requests_fail(c, HOLT_ECLOSED);
  if (holt__cluster_end(c) == 0) holt__form_say_hello(c);
}

/* --- On time ------------------------------------------------------------------------------------------- */

void holt__set_tick(struct holt_cluster *c) {
  bool had_seen = c->seen_count > 0;
  if (c->state == STATE_MEMBER) c->seen_count = 0;
  forget_seen(c);
  if (had_seen) leave_ruins(c);
  if (c->state == STATE_EMPTY && may_begin(c) && c->seen_count == 0 && !holt__form_member(c)) pledge(c);
  if (c->state == STATE_PLEDGED) begin_set(c);
  if (c->state == STATE_PLEDGED || (is_hopeless(c) && holt__set_is_bare(c))) ask_void(c);
}
