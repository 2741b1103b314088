/* cluster.c - the life of a cluster object, and the drive: raft, log, machine and links put together.
 *
 * - A timer follows the core's deadline; a tick of our own sees to retries, deadlines and formation.
 * - What must not happen inside a callback is put off to the end of the turn: proposals, reads, slices of
 *   snapshots, entries that the last turn left to apply.
 * - While a script holds the loop (holt_env_turn_held) nothing is applied and no snapshot takes the place of
 * the state: that waits for the next turn of the common kind. Everything else goes on.
 * - A broken invariant or a failed disk ends membership, never the process: reads go on, writes are refused.
 */
#include "cluster/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster_impl.h"

enum { TICK_MS = 20, APPLY_MAX = 256, APPEND_BYTES = 128 << 10, HELD_BYTES_MAX = 64 << 20 };
enum { BACKLOG_MAX = 65536, BEGIN_AGAIN_MS = 1000 };

struct holt_cluster_config holt_cluster_defaults(void) {
  return (struct holt_cluster_config){.name = "",
                                      .node_name = "",
                                      .address = "",
                                      .members = 0,
                                      .election_ms = 500,
                                      .heartbeat_ms = 50,
                                      .can_lead = true,
                                      .is_voter = true,
                                      .snapshot_entries = 100000,
                                      .snapshot_bytes = 64 << 20,
                                      .entry_bytes_max = 4 << 20};
}

uint64_t holt__cluster_now(const struct holt_cluster *c) {
  return holt_env_now_ms(c->env);
}

/* --- Telling ------------------------------------------------------------------------------------------- */

void holt__cluster_tell(struct holt_cluster *c, enum holt_cluster_event event, const char *text,
                        const char *old, uint64_t number) {
  struct holt_cluster_notice notice = {.event = event, .text = text, .old = old, .number = number};
  if (c->ops->on_event) c->ops->on_event(c->arg, &notice);
}

void holt__cluster_tell_error(struct holt_cluster *c, enum holt_cluster_event event,
                              const struct holt_err *err) {
  struct holt_cluster_notice notice = {.event = event, .text = "", .old = "", .err = *err};
  if (c->ops->on_event) c->ops->on_event(c->arg, &notice);
}

static const char *role_name(const struct holt_cluster *c, enum holt_raft_role role) {
  if (!c->raft) return "none";
  if (role == HOLT_RAFT_LEADER) return "leader";
  return role == HOLT_RAFT_FOLLOWER ? "follower" : "candidate";
}

static void set_leader(struct holt_cluster *c, uint64_t leader) {
  char old[HOLT_NAME_MAX + 1];
  snprintf(old, sizeof old, "%s", c->leader_name);
  const char *name = leader ? holt_cluster_member_name(c, leader) : "";
  if (leader == c->leader && strcmp(name, old) == 0) return;
  bool is_other = leader != c->leader;
  c->leader = leader;
  snprintf(c->leader_name, sizeof c->leader_name, "%s", name);
  if (strcmp(c->leader_name, old) != 0)
    holt__cluster_tell(c, HOLT_CLUSTER_LEADER, c->leader_name, old, leader);
  if (is_other && leader) holt__requests_retry(c);
}

static void set_role(struct holt_cluster *c, enum holt_raft_role role) {
  if (role == c->role) return;
  const char *old = role_name(c, c->role), *now = role_name(c, role);
  c->role = role;
  if (strcmp(old, now) != 0) holt__cluster_tell(c, HOLT_CLUSTER_STATE, now, old, 0);
}

/* --- The driver's world -------------------------------------------------------------------------------- */

static int io_persist(void *arg, const struct holt_raft_persist *persist) {
  struct holt_cluster *c = arg;
  return c->store ? holt__disk_persist(c, persist) : 1;
}

static void io_send(void *arg, const struct holt_raft_message *message, struct holt_buf bytes) {
  struct holt_cluster *c = arg;
  const struct holt__neighbour *to = holt__form_by_id(c, message->to);
  if (to) (void)holt_link_post(to->link, HOLT_WIRE_RAFT, bytes); /* lost: Raft copes */
}

static void io_apply(void *arg, const struct holt_raft_entry *entry) {
  struct holt_cluster *c = arg;
  holt__machine_apply(&c->machine, entry, &c->applied);
  if (entry->type == HOLT_RAFT_CONF)
    holt__member_applied_conf(c);
  else if (c->has_nameless)
    holt__member_compare(c);
  holt__requests_applied(c, entry, &c->applied);
}

static bool io_may_apply(void *arg) {
  return !holt_env_is_held(((struct holt_cluster *)arg)->env);
}

static void io_done(void *arg, const struct holt_raft_done *done) {
  if (done->type == HOLT_RAFT_DONE_CHANGE)
    holt__member_change_done(arg, done);
  else
    holt__requests_done(arg, done);
}

static void io_observe(void *arg, const struct holt_raft_event *event, const struct holt_raft_update *update,
                       int rc) {
  struct holt_cluster *c = arg;
  (void)event;
  if (rc != 0 && rc != HOLT_EINVAL) return;
  if (update->term != c->term) {
    c->term = update->term;
    holt__cluster_tell(c, HOLT_CLUSTER_TERM, "", "", c->term);
  }
  set_role(c, update->role);
  set_leader(c, update->leader);
}

static const struct holt_raft_driver_io driver_io = {.persist = io_persist,
                                                     .send = io_send,
                                                     .apply = io_apply,
                                                     .done = io_done,
                                                     .snapshot_take = holt__snapshot_take,
                                                     .snapshot_read = holt__snapshot_read,
                                                     .snapshot_part = holt__snapshot_part,
                                                     .may_apply = io_may_apply,
                                                     .observe = io_observe};

static void fail(struct holt_cluster *c) {
  struct holt_err err;
  if (c->state == STATE_FAILED) return;
  c->state = STATE_FAILED;
  holt_err_set(&err, HOLT_EINTERNAL, "this member stopped taking part: %s", c->driver.fatal);
  holt__cluster_tell_error(c, HOLT_CLUSTER_ERROR, &err);
  holt__requests_fail(c, HOLT_EINTERNAL);
}

/* After whatever was done with the driver: what follows for us. */
void holt__cluster_after(struct holt_cluster *c) {
  if (!c->raft || c->is_closed) return;
  if (c->driver.fatal) {
    fail(c);
    return;
  }
  uint64_t now = holt__cluster_now(c), due = c->driver.deadline_ms;
  holt_timer_start(&c->timer, due > now ? due - now : 0);
  bool has_work = holt_raft_driver_has_work(&c->driver) || holt__snapshot_has_work(c);
  if (holt_env_is_held(c->env))
    has_work = false; /* what waits goes on with the next message, timer or tick */
  if (c->machine.applied != c->commit_told || has_work) holt__cluster_stir(c);
}

int holt__cluster_step(struct holt_cluster *c, struct holt_raft_event *event) {
  if (!c->raft || c->is_closed || c->state == STATE_FAILED) return HOLT_ECLOSED;
  event->now_ms = holt__cluster_now(c);
  int rc = holt_raft_driver_step(&c->driver, event);
  holt__cluster_after(c);
  return rc;
}

void holt__cluster_stir(struct holt_cluster *c) {
  if (!c->is_closed) holt_env_post(c->env, &c->turn);
}

/* --- Beginning and ending a membership ----------------------------------------------------------------- */

static struct holt_raft_options raft_options(struct holt_cluster *c, uint64_t cluster_id) {
  struct holt_raft_options options;
  holt_raft_options_default(&options);
  options.self = c->self;
  options.cluster = cluster_id;
  options.seed = holt_env_random(c->env);
  options.election_ms = (uint32_t)c->config.election_ms;
  options.heartbeat_ms = (uint32_t)c->config.heartbeat_ms;
  if (c->config.keep_entries) options.keep_entries = c->config.keep_entries;
  options.append_bytes = APPEND_BYTES; /* what a turn of the loop sends and takes in */
  options.inflight_bytes = 8 * APPEND_BYTES;
  if (c->config.block_bytes) options.chunk_bytes = c->config.block_bytes;
  return options;
}

static int make_raft(struct holt_cluster *c, uint64_t cluster_id, const struct holt_raft_restore *restore) {
  HOLT_ASSERT(!c->raft);
  struct holt_raft_options options = raft_options(c, cluster_id);
  int rc = holt_raft_new(&options, restore, holt__cluster_now(c), &c->raft);
  if (rc != 0) return rc;
  struct holt_raft_driver_options driver = {.snapshot_entries = c->config.snapshot_entries,
                                            .snapshot_bytes = c->config.snapshot_bytes,
                                            .held_bytes_max = HELD_BYTES_MAX,
                                            .apply_max = APPLY_MAX};
  uint64_t applied = restore && restore->snapshot ? restore->snapshot->index : 0;
  holt_raft_driver_init(&c->driver, c->raft, &driver_io, c, &driver, applied);
  c->cluster_id = cluster_id;
  c->leader_seen_ms = holt__cluster_now(c);
  return 0;
}

static void start_raft(struct holt_cluster *c) {
  struct holt_raft_event time = {.type = HOLT_RAFT_EV_TIME};
  holt__cluster_step(c, &time);
  holt__form_say_hello(c);
}

void holt__cluster_begin(struct holt_cluster *c, uint64_t cluster_id, const struct holt_raft_conf *conf) {
  struct holt_err err;
  if (c->is_begin_full && holt__cluster_now(c) < c->begin_again_ms) return;
  int rc = holt__disk_begin(c, cluster_id, &err);
  if (rc == HOLT_ELOCKED)
    return; /* we looked into it at the start and have not let go yet: on a later tick */
  if (rc != 0) {
    if (rc != HOLT_ENOSPC || !c->is_begin_full) holt__cluster_tell_error(c, HOLT_CLUSTER_DISK_ERROR, &err);
    c->is_begin_full = rc == HOLT_ENOSPC;
    c->begin_again_ms = holt__cluster_now(c) + BEGIN_AGAIN_MS;
    if (rc != HOLT_ENOSPC) c->state = STATE_FAILED;
    return;
  }
  c->is_begin_full = false;
  if (make_raft(c, cluster_id, NULL) != 0) return;
  c->state = conf ? STATE_MEMBER : STATE_JOINING;
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = conf};
  if (conf) holt__cluster_step(c, &event);
  start_raft(c);
}

int holt__cluster_resume(struct holt_cluster *c, uint64_t cluster_id,
                         const struct holt_raft_restore *restore) {
  int rc = make_raft(c, cluster_id, restore);
  if (rc != 0) return rc;
  bool is_member = false;
  holt__member_read_hints(c, restore);
  const struct holt_raft_conf *conf = holt_raft_conf(c->raft);
  for (uint32_t i = 0; i < conf->count; i++) is_member = is_member || conf->members[i].id == c->self;
  c->state = is_member ? STATE_MEMBER : STATE_JOINING;
  if (c->machine.applied > 0) holt__member_applied_conf(c);
  start_raft(c);
  return 0;
}

void holt__cluster_discard(struct holt_cluster *c) {
  holt_timer_stop(&c->timer);
  if (c->raft) {
    holt_raft_driver_close(&c->driver);
    holt_raft_free(c->raft);
    c->raft = NULL;
  }
  holt__snapshot_free(c);
  holt__bury_machine(c, &c->machine);
  holt__machine_init(&c->machine);
  holt_collections_on_change(c->machine.collections, c->ops->on_change, c->arg);
  if (c->ops->on_replaced) c->ops->on_replaced(c->arg);
  set_role(c, HOLT_RAFT_FOLLOWER);
  set_leader(c, 0);
  c->cluster_id = c->term = c->commit_told = 0;
  c->client = holt_env_random(c->env) | 1; /* the sessions of the member it was go with that one */
  c->is_session_open = c->is_joined = false;
  c->state = STATE_EMPTY;
  memset(&c->conf_told, 0, sizeof c->conf_told);
}

int holt__cluster_end(struct holt_cluster *c) {
  struct holt_err err;
  holt__cluster_discard(c);
  int rc = holt__disk_renew(c, &err);
  if (rc == 0) return 0;
  holt__cluster_tell_error(c, HOLT_CLUSTER_DISK_ERROR, &err);
  c->state = STATE_FAILED;
  return rc;
}

/* --- Timers -------------------------------------------------------------------------------------------- */

static void on_deadline(void *arg) {
  struct holt_cluster *c = arg;
  if (!c->raft || c->state == STATE_FAILED) return;
  holt_raft_driver_time(&c->driver, holt__cluster_now(c));
  holt__cluster_after(c);
}

static void watch_quorum(struct holt_cluster *c) {
  uint64_t now = holt__cluster_now(c);
  if (c->leader != 0) {
    c->leader_seen_ms = now;
    if (!c->has_quorum && c->is_joined) {
      c->has_quorum = true;
      holt__cluster_tell(c, HOLT_CLUSTER_QUORUM_REGAINED, "", "", 0);
    }
  } else if (c->has_quorum && now >= c->leader_seen_ms + 2 * c->config.election_ms) {
    c->has_quorum = false;
    holt__cluster_tell(c, HOLT_CLUSTER_QUORUM_LOST, "", "", 0);
  }
}

static void on_tick(void *arg) {
  struct holt_cluster *c = arg;
  if (c->damage.code) {
    holt__cluster_tell_error(c, HOLT_CLUSTER_DISK_ERROR, &c->damage);
    c->damage.code = 0;
  }
  holt__form_tick(c);
  holt__member_tick(c);
  holt__requests_tick(c);
  watch_quorum(c);
  holt_timer_start(&c->tick, TICK_MS);
}

static void on_turn(void *arg) {
  struct holt_cluster *c = arg;
  if (c->raft && c->state != STATE_FAILED) {
    holt__snapshot_turn(c);
    if (holt_raft_driver_has_work(&c->driver)) holt_raft_driver_turn(&c->driver, holt__cluster_now(c));
  }
  holt__requests_turn(c);
  holt__cluster_after(c);
  if (c->machine.applied != c->commit_told) {
    c->commit_told = c->machine.applied;
    set_leader(c, c->leader); /* its label may have come with an entry */
    holt__cluster_tell(c, HOLT_CLUSTER_COMMIT, "", "", c->commit_told);
  }
}

/* --- Life ---------------------------------------------------------------------------------------------- */

static int check(const struct holt_cluster_config *config, struct holt_err *err) {
  size_t len = strlen(config->name);
  if (len == 0 || len > HOLT_NAME_MAX)
    return holt_err_set(err, HOLT_EINVAL, "a cluster needs a name of 1 to %d bytes: cluster = { name = … }",
                        HOLT_NAME_MAX);
  if (config->members > HOLT_RAFT_MEMBERS_MAX)
    return holt_err_set(err, HOLT_EINVAL, "a cluster has at most %d members", HOLT_RAFT_MEMBERS_MAX);
  if (config->heartbeat_ms == 0 || config->heartbeat_ms * 3 > config->election_ms)
    return holt_err_set(err, HOLT_EINVAL,
                        "heartbeat must be above 0 and at most a third of election_timeout");
  if (config->election_ms > 3600000)
    return holt_err_set(err, HOLT_EINVAL, "election_timeout must be below an hour");
  if (config->entry_bytes_max > HOLT_CLUSTER_ENTRY_MAX)
    return holt_err_set(err, HOLT_EINVAL, "max_entry_bytes must be at most %u: that is what a frame carries",
                        HOLT_CLUSTER_ENTRY_MAX);
  if (config->priority > 10) return holt_err_set(err, HOLT_EINVAL, "priority lies between 0 and 10");
  return 0;
}

int holt_cluster_new(struct holt_env *env, struct holt_links *links, const struct holt_cluster_config *config,
                     const struct holt_cluster_ops *ops, void *arg, struct holt_cluster **out,
                     struct holt_err *err) {
  int rc = check(config, err);
  if (rc != 0) return rc;
  struct holt_cluster *c = holt_alloc(sizeof *c);
  c->env = env;
  c->links = links;
  c->config = *config;
  snprintf(c->name, sizeof c->name, "%s", config->name);
  snprintf(c->node_name, sizeof c->node_name, "%s", config->node_name);
  snprintf(c->address, sizeof c->address, "%s", config->address);
  c->config.name = c->name;
  c->config.node_name = c->node_name;
  c->config.address = c->address;
  c->ops = ops;
  c->arg = arg;
  c->self = holt_env_random(env) | 1;
  c->client = holt_env_random(env) | 1;
  c->next_tag = holt_env_random(env) >> 8;
  holt__machine_init(&c->machine);
  holt_collections_on_change(c->machine.collections, ops->on_change, arg);
  holt__requests_init(c);
  holt__bury_init(c);
  holt_list_init(&c->refused);
  holt__form_init(c);
  holt_timer_init(&c->timer, env, on_deadline, c);
  holt_timer_init(&c->tick, env, on_tick, c);
  holt_post_init(&c->turn, on_turn, c);
  if (config->directory && *config->directory) {
    rc = holt__disk_open(c, err);
    if (rc != 0) {
      holt_cluster_free(c);
      return rc;
    }
  }
  c->leader_seen_ms = c->began_ms = holt__cluster_now(c);
  holt_timer_start(&c->tick, 0);
  *out = c;
  return 0;
}

void holt_cluster_set_address(struct holt_cluster *c, const char *address) {
  snprintf(c->address, sizeof c->address, "%s", address);
  holt__form_say_hello(c);
}

void holt_cluster_close(struct holt_cluster *c) {
  if (c->is_closed) return;
  holt__requests_fail(c, HOLT_ECLOSED);
  c->is_closed = true;
  holt_timer_stop(&c->timer);
  holt_timer_stop(&c->tick);
  holt_post_cancel(&c->turn);
  holt__bury_stop(c);
  holt__disk_close(c);
}

void holt_cluster_free(struct holt_cluster *c) {
  if (!c) return;
  holt_cluster_close(c);
  static const struct holt_cluster_ops silent = {0};
  c->ops = &silent;
  if (c->raft) {
    holt_raft_driver_close(&c->driver);
    holt_raft_free(c->raft);
  }
  holt__snapshot_free(c);
  holt__form_free(c);
  holt__bury_free(c);
  holt__machine_free(&c->machine);
  holt_writer_free(&c->applied.room);
  holt_map_free(&c->op_by_seq);
  free(c);
}

/* A script holds the loop, and more is committed than we care to keep for it: this member falls silent,
 * others go on without it, and the log does not grow. */
static bool is_overdue(const struct holt_cluster *c) {
  return holt_env_is_held(c->env) && c->driver.apply_to - c->driver.applied > BACKLOG_MAX;
}

void holt_cluster_message(struct holt_cluster *c, struct holt_link *link,
                          const struct holt_link_message *message) {
  if (c->is_closed) return;
  if (message->type == HOLT_WIRE_CLUSTER) {
    holt__form_message(c, link, message->body);
    return;
  }
  if (!c->raft || c->state == STATE_FAILED || is_overdue(c)) return;
  holt_raft_driver_receive(&c->driver, message->body, holt__cluster_now(c));
  holt__cluster_after(c);
}

/* --- Looking ------------------------------------------------------------------------------------------- */

struct holt_collections *holt_cluster_collections(struct holt_cluster *c) {
  return c->machine.collections;
}

bool holt_cluster_is_leader(const struct holt_cluster *c) {
  return c->raft && c->role == HOLT_RAFT_LEADER;
}

bool holt__cluster_is_ready(const struct holt_cluster *c) {
  if (!c->raft || c->state != STATE_MEMBER || c->leader == 0 || !c->is_joined) return false;
  return c->machine.applied_term == c->term;
}

uint64_t holt_cluster_member_id(struct holt_cluster *c, const char *name) {
  const struct holt_raft_conf *conf = c->raft ? holt_raft_conf(c->raft) : &c->machine.conf;
  for (uint32_t i = conf->count; i-- > 0;) /* by whatever is known of it, its label may still be under way */
    if (strcmp(holt_cluster_member_name(c, conf->members[i].id), name) == 0) return conf->members[i].id;
  return 0;
}

const char *holt_cluster_member_name(struct holt_cluster *c, uint64_t id) {
  if (id == c->self) return c->node_name;
  const struct holt__label *label = holt__machine_label(&c->machine, id);
  if (label) return label->name;
  const struct holt__neighbour *next = holt__form_by_id(c, id);
  if (next) return next->name;
  label = holt__member_label(c, id);
  return label ? label->name : "";
}

static void fill_member(struct holt_cluster *c, const struct holt_raft_status *raft,
                        const struct holt_raft_member *member, struct holt_cluster_member *out) {
  const struct holt__label *label = holt__member_label(c, member->id);
  snprintf(out->name, sizeof out->name, "%s", holt_cluster_member_name(c, member->id));
  snprintf(out->address, sizeof out->address, "%s", label ? label->address : "");
  out->id = member->id;
  out->role = member->role;
  out->can_lead = member->can_lead;
  out->is_self = member->id == c->self;
  out->is_leader = member->id == c->leader;
  out->is_linked = out->is_self || holt__form_by_id(c, member->id) != NULL;
  if (!out->is_linked) out->last_heard_ms = holt__cluster_now(c) - holt__form_away_since(c, member->id);
  if (out->is_self && raft->role == HOLT_RAFT_LEADER) out->match = raft->stable;
  for (size_t i = 0; i < raft->peer_count; i++) {
    if (raft->peers[i].id != member->id) continue;
    out->match = raft->peers[i].match;
    if (out->is_linked) out->last_heard_ms = holt__cluster_now(c) - raft->peers[i].heard_ms;
  }
}

void holt_cluster_status(struct holt_cluster *c, struct holt_cluster_status *out) {
  static const char *const STATES[] = {"empty", "forming", "joining", "member", "left", "failed"};
  memset(out, 0, sizeof *out);
  snprintf(out->name, sizeof out->name, "%s", c->name);
  snprintf(out->leader, sizeof out->leader, "%s", c->leader_name);
  out->cluster_id = c->cluster_id;
  out->member_id = c->self;
  out->state = STATES[c->state];
  out->role = role_name(c, c->role);
  out->disk = holt__disk_state(c);
  holt__words_problem(c, out->problem, sizeof out->problem);
  out->applied = c->machine.applied;
  out->state_hash = holt__machine_hash(&c->machine);
  out->has_quorum = c->has_quorum && c->leader != 0;
  out->no_quorum_ms = out->has_quorum ? 0 : holt__cluster_now(c) - c->leader_seen_ms;
  out->pending = c->op_count;
  if (!c->raft) return;
  struct holt_raft_status raft;
  holt_raft_status(c->raft, &raft);
  out->term = raft.term;
  out->commit = raft.commit;
  out->first = raft.first;
  out->last = raft.last;
  out->snapshot_index = raft.snapshot_index;
  out->log_bytes = raft.log_bytes;
  const struct holt_raft_conf *conf = holt_raft_conf(c->raft);
  for (uint32_t i = 0; i < conf->count; i++) {
    if (conf->members[i].id == c->self && conf->members[i].role == HOLT_RAFT_LEARNER) out->role = "learner";
    fill_member(c, &raft, &conf->members[i], &out->members[out->member_count++]);
  }
}
