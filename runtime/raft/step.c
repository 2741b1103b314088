/* step.c - the one door: make room, look at the event, act, hand out the effects.
 *
 * All memory a step may need is reserved before anything changes, so a step that runs out of memory has done
 * nothing. Messages carry the persist they depend on: none leaves before term and vote are durable, and an
 * acknowledgement waits for the entries it covers. */
#include <string.h>

#include "raft/raft_impl.h"

enum { SWEEP_ENTRIES = 256 }; /* dropped entries freed at each step */

/* --- Effects ------------------------------------------------------------------------------------------- */

struct holt_raft_output *holt__raft_out(struct holt_raft *r, uint8_t type, uint64_t to) {
  HOLT_ASSERT(r->out_count < r->out_cap);
  struct holt_raft_output *out = &r->out[r->out_count++];
  memset(out, 0, sizeof *out);
  out->message.type = type;
  out->message.cluster = r->options.cluster;
  out->message.from = r->options.self;
  out->message.to = to;
  out->message.term = r->term;
  return out;
}

uint64_t holt__raft_question(const struct holt_raft *r, uint64_t to, uint64_t tag, uint64_t count) {
  uint64_t life = holt_hash_u64(r->options.seed ^ r->options.self);
  return holt_hash_u64(holt_hash_u64(holt_hash_u64(life ^ to) ^ tag) ^ count);
}

void holt__raft_done(struct holt_raft *r, enum holt_raft_done_type type, uint64_t tag, int code,
                     uint64_t index, uint64_t term) {
  HOLT_ASSERT(r->done_count < r->done_cap);
  r->done[r->done_count++] =
      (struct holt_raft_done){.type = type, .code = code, .tag = tag, .index = index, .term = term};
}

void holt__raft_fatal(struct holt_raft *r, const char *what) {
  if (!r->fatal) r->fatal = what;
}

bool holt__raft_is_stalled(const struct holt_raft *r) {
  return r->seq > r->durable_seq && r->now_ms >= r->disk_moved_ms + r->options.stall_ms && !HOLT_BUG(34);
}

/* --- Making room --------------------------------------------------------------------------------------- */

static int grow(struct holt_raft *r, void **array, size_t *cap, size_t need, size_t item_bytes) {
  if (need <= *cap) return 0;
  size_t want = *cap ? *cap : 16;
  while (want < need) want *= 2;
  void *grown = holt__raft_alloc(r, *array, want * item_bytes);
  if (!grown) return HOLT_ENOMEM;
  *array = grown;
  *cap = want;
  return 0;
}

static int reserve(struct holt_raft *r, const struct holt_raft_event *event) {
  size_t answers = r->read_count + r->log.tagged + 8;
  if (event->type == HOLT_RAFT_EV_PROPOSE) answers += event->count;
  if (event->type == HOLT_RAFT_EV_RECEIVE && event->message->type == HOLT_RAFT_FORWARD_REPLY)
    answers += event->message->hint;
  size_t outs = HOLT_RAFT_MEMBERS_MAX * 8 + r->read_count + 8;
  int rc = grow(r, (void **)&r->out, &r->out_cap, outs, sizeof *r->out);
  if (rc == 0) rc = grow(r, (void **)&r->done, &r->done_cap, answers, sizeof *r->done);
  if (rc == 0) rc = grow(r, (void **)&r->reads, &r->read_cap, r->read_count + 1, sizeof *r->reads);
  if (rc == 0) rc = holt__raft_log_reserve(r, 4); /* a no-op and memberships of our own */
  if (rc == 0 && !r->spare) {
    r->spare = holt__raft_alloc(r, NULL, HOLT_RAFT_CONF_BYTES);
    if (!r->spare) rc = HOLT_ENOMEM;
  }
  return rc;
}

static int reserve_entries(struct holt_raft *r, const struct holt_raft_entry *entries, size_t count) {
  r->copy_from = 0;
  if (r->role != HOLT_RAFT_LEADER) return 0;
  int rc = holt__raft_log_reserve(r, count + 4);
  return rc == 0 ? holt__raft_log_copy(r, entries, count) : rc;
}

/* --- Messages ------------------------------------------------------------------------------------------ */

/* No term or index of an honest member ever comes near; beyond it, counting up could wrap. */
static const uint64_t NUMBER_MAX = UINT64_MAX / 4;

static bool is_from_leader(uint8_t type) {
  return type == HOLT_RAFT_APPEND || type == HOLT_RAFT_HEARTBEAT || type == HOLT_RAFT_SNAPSHOT;
}

/* Whether what arrived makes sense at all; what a broken or hostile member could send stops here. */
static bool is_sound(const struct holt_raft *r, const struct holt_raft_message *m) {
  if (m->cluster != r->options.cluster || m->to != r->options.self) return false;
  if (m->from == 0 || m->from == r->options.self) return false;
  if (m->type == 0 || m->type >= HOLT_RAFT_MESSAGE_TYPES) return false;
  if (m->term > NUMBER_MAX || (m->term == 0 && (is_from_leader(m->type) || m->type == HOLT_RAFT_VOTE)))
    return false;
  if (m->count > HOLT_RAFT_APPEND_ENTRIES_MAX || (m->count > 0 && !m->entries)) return false;
  if (m->type == HOLT_RAFT_FORWARD_REPLY && m->hint > HOLT_RAFT_APPEND_ENTRIES_MAX) return false;
  if (m->type == HOLT_RAFT_SNAPSHOT) {
    const struct holt_raft_snapshot *s = m->snapshot;
    if (!s || s->index == 0 || s->term == 0 || s->term > m->term || s->conf.count == 0) return false;
    if (s->index > NUMBER_MAX || s->conf_index > s->index) return false;
    return m->offset <= s->size_bytes && m->len <= s->size_bytes - m->offset && (m->data || m->len == 0);
  }
  if (m->type != HOLT_RAFT_APPEND) return true;
  if (m->log_term > m->term || (m->index == 0 && m->log_term != 0)) return false;
  if (m->index > NUMBER_MAX) return false;
  uint64_t term = m->log_term;
  for (uint32_t i = 0; i < m->count; i++) {
    const struct holt_raft_entry *e = &m->entries[i];
    struct holt_raft_conf conf;
    if (e->index != m->index + 1 + i || e->term == 0 || e->term < term || e->term > m->term) return false;
    if (e->type < HOLT_RAFT_NOOP || e->type > HOLT_RAFT_CONF || (e->len > 0 && !e->data)) return false;
    if (e->type == HOLT_RAFT_CONF && holt_raft_conf_decode(holt_buf(e->data, e->len), &conf) != 0)
      return false;
    term = e->term;
  }
  return true;
}

/* Questions of callers: they move nobody's term. */
static bool is_termless(uint8_t type) {
  return type == HOLT_RAFT_READ || type == HOLT_RAFT_READ_REPLY || type == HOLT_RAFT_FORWARD ||
         type == HOLT_RAFT_FORWARD_REPLY;
}

/* Settle the message's term against ours. False: the message ends here. */
static bool settle_term(struct holt_raft *r, const struct holt_raft_message *m) {
  if (is_termless(m->type) || m->type == HOLT_RAFT_VOTE || m->term == r->term) return true;
  if (m->term < r->term) {
    if (HOLT_BUG(7) && m->type == HOLT_RAFT_APPEND_REPLY) return true;
    if (!is_from_leader(m->type) || HOLT_BUG(17)) return false;
    /* So that a leader of the past steps down (etcd issue 8501). */
    holt__raft_out(r, HOLT_RAFT_APPEND_REPLY, m->from)->message.flags = HOLT_RAFT_REJECT;
    return false;
  }
  bool is_granted_pre_vote =
      m->type == HOLT_RAFT_VOTE_REPLY && (m->flags & HOLT_RAFT_PRE) && !(m->flags & HOLT_RAFT_REJECT);
  if (is_granted_pre_vote) return true; /* its term is the one asked about */
  holt__raft_become_follower(r, m->term, is_from_leader(m->type) ? m->from : 0);
  return true;
}

/* The sender leads this term. False: a broken invariant. */
static bool follow(struct holt_raft *r, const struct holt_raft_message *m) {
  bool is_other = r->role == HOLT_RAFT_LEADER || (r->leader != 0 && r->leader != m->from);
  if (is_other) {
    holt__raft_fatal(r, "two leaders in one term");
    return false;
  }
  if (r->role != HOLT_RAFT_FOLLOWER || r->leader != m->from) holt__raft_become_follower(r, r->term, m->from);
  r->heard_ms = r->now_ms;
  r->has_heard = true;
  r->is_in_the_way = false;
  holt__raft_reset_election_timer(r);
  return true;
}

static void receive(struct holt_raft *r, const struct holt_raft_message *m) {
  if (!settle_term(r, m)) return;
  if (is_from_leader(m->type) && !follow(r, m)) return;
  bool is_leader = r->role == HOLT_RAFT_LEADER;
  switch (m->type) {
  case HOLT_RAFT_APPEND:
    holt__raft_on_append(r, m);
    break;
  case HOLT_RAFT_APPEND_REPLY:
    if (is_leader) holt__raft_on_append_reply(r, m);
    break;
  case HOLT_RAFT_HEARTBEAT:
    holt__raft_on_heartbeat(r, m);
    break;
  case HOLT_RAFT_HEARTBEAT_REPLY:
    if (is_leader) holt__raft_on_heartbeat_reply(r, m);
    break;
  case HOLT_RAFT_VOTE:
    holt__raft_on_vote(r, m);
    break;
  case HOLT_RAFT_VOTE_REPLY:
    holt__raft_on_vote_reply(r, m);
    break;
  case HOLT_RAFT_SNAPSHOT:
    holt__raft_on_snapshot(r, m);
    break;
  case HOLT_RAFT_SNAPSHOT_REPLY:
    if (is_leader) holt__raft_on_snapshot_reply(r, m);
    break;
  case HOLT_RAFT_TIMEOUT_NOW:
    holt__raft_on_timeout_now(r, m);
    break;
  case HOLT_RAFT_READ:
    holt__raft_read(r, m->from, m->tag, m->epoch);
    break;
  case HOLT_RAFT_READ_REPLY:
    holt__raft_on_read_reply(r, m);
    break;
  case HOLT_RAFT_FORWARD:
    holt__raft_on_forward(r, m);
    break;
  case HOLT_RAFT_FORWARD_REPLY:
    holt__raft_on_forward_reply(r, m);
    break;
  default:
    break;
  }
}

/* --- Other events -------------------------------------------------------------------------------------- */

static void step_down(struct holt_raft *r) {
  if (r->role != HOLT_RAFT_LEADER) return;
  holt__raft_hand_over(r);
  holt__raft_become_follower(r, r->term, 0);
}

/* A leader that no majority answers, or whose disk stands still, is none (thesis 6.2). Before every event, so
 * that one which slept does not act on what it believed before. */
static void check_leadership(struct holt_raft *r) {
  if (r->role != HOLT_RAFT_LEADER) return;
  if (holt__raft_is_stalled(r)) {
    step_down(r);
    return;
  }
  if (r->now_ms < r->check_quorum_at_ms) return;
  r->check_quorum_at_ms = r->now_ms + r->options.heartbeat_ms;
  if (!holt__raft_has_quorum(r) && !HOLT_BUG(19)) holt__raft_become_follower(r, r->term, 0);
}

static void on_time(struct holt_raft *r) {
  if (r->role == HOLT_RAFT_LEADER) {
    if (r->now_ms >= r->heartbeat_at_ms) holt__raft_broadcast_heartbeat(r);
    return;
  }
  if (r->now_ms < r->election_at_ms) return;
  if (holt__raft_may_campaign(r)) {
    holt__raft_campaign(r, !HOLT_BUG(118), false);
    return;
  }
  r->leader = 0;
  holt__raft_reset_election_timer(r);
}

static int bootstrap(struct holt_raft *r, const struct holt_raft_conf *conf) {
  if (r->term != 0 || holt__raft_log_last(r) != 0 || r->is_failed) return HOLT_EINVAL;
  if (conf->count > HOLT_RAFT_MEMBERS_MAX) return HOLT_EINVAL;
  struct holt_raft_conf checked;
  uint32_t len = (uint32_t)holt_raft_conf_encode(r->spare, conf);
  if (conf->is_joint || holt_raft_conf_decode(holt_buf(r->spare, len), &checked) != 0) return HOLT_EINVAL;
  if (holt__raft_conf_find(conf, r->options.self) < 0 || !holt_raft_can_be_led(conf)) return HOLT_EINVAL;
  for (uint32_t i = 0; i < checked.count; i++) checked.members[i].since = 1;
  len = (uint32_t)holt_raft_conf_encode(r->spare, &checked);
  holt__raft_become_follower(r, 1, 0);
  struct holt_raft_entry entry = {
      .index = 1, .term = 1, .type = HOLT_RAFT_CONF, .data = r->spare, .len = len};
  r->spare = NULL;
  holt__raft_log_push(r, &entry, 0);
  holt__raft_conf_refresh(r);
  holt__raft_reset_election_timer(r);
  return 0;
}

static int persisted(struct holt_raft *r, uint64_t seq) {
  if (seq > r->seq) return HOLT_EINVAL;
  if (seq <= r->durable_seq) return 0;
  r->durable_seq = seq;
  r->disk_moved_ms = r->now_ms;
#if HOLT_RAFT_BUG == 11
  if (r->bug_last[seq % 64] > r->stable) r->stable = r->bug_last[seq % 64];
  if (r->stable > holt__raft_log_last(r)) r->stable = holt__raft_log_last(r);
  return 0;
#endif
  holt__raft_log_advance_stable(r);
  return 0;
}

static void disk_failed(struct holt_raft *r) {
  step_down(r);
  r->is_failed = true;
  if (r->role != HOLT_RAFT_FOLLOWER) holt__raft_become_follower(r, r->term, 0);
}

static void unreachable(struct holt_raft *r, uint64_t id) {
  struct holt__raft_progress *p = r->role == HOLT_RAFT_LEADER ? holt__raft_progress(r, id) : NULL;
  if (!p) return;
  if (p->state == PROGRESS_REPLICATE) holt__raft_probe(r, p);
}

static void snapshot_gone(struct holt_raft *r, uint64_t id) {
  struct holt__raft_progress *p = r->role == HOLT_RAFT_LEADER ? holt__raft_progress(r, id) : NULL;
  if (!p || p->state != PROGRESS_SNAPSHOT) return;
  r->sending.index = 0;
  holt__raft_probe(r, p);
}

/* --- The step ------------------------------------------------------------------------------------------ */

static bool are_commands(const struct holt_raft_event *event) {
  if (event->count == 0 || event->count > HOLT_RAFT_APPEND_ENTRIES_MAX) return false;
  for (size_t i = 0; i < event->count; i++)
    if (event->entries[i].type != HOLT_RAFT_COMMAND) return false;
  return true;
}

static int prepare(struct holt_raft *r, const struct holt_raft_event *event) {
  if (event->type == HOLT_RAFT_EV_PROPOSE && !are_commands(event)) return HOLT_EINVAL;
  int rc = reserve(r, event);
  if (rc != 0) return rc;
  if (event->type == HOLT_RAFT_EV_PROPOSE) return reserve_entries(r, event->entries, event->count);
  if (event->type != HOLT_RAFT_EV_RECEIVE) return 0;
  const struct holt_raft_message *m = event->message;
  if (m->type == HOLT_RAFT_FORWARD) return reserve_entries(r, m->entries, m->count);
  return m->type == HOLT_RAFT_APPEND && m->term >= r->term ? holt__raft_prepare_append(r, m) : 0;
}

static int act(struct holt_raft *r, const struct holt_raft_event *event) {
  switch (event->type) {
  case HOLT_RAFT_EV_TIME:
    on_time(r);
    return 0;
  case HOLT_RAFT_EV_BOOTSTRAP:
    return bootstrap(r, event->conf);
  case HOLT_RAFT_EV_RECEIVE:
    receive(r, event->message);
    return 0;
  case HOLT_RAFT_EV_PROPOSE:
    holt__raft_propose(r, event);
    return 0;
  case HOLT_RAFT_EV_READ:
    holt__raft_read(r, 0, event->tag, 0);
    return 0;
  case HOLT_RAFT_EV_CHANGE: {
    int rc = holt__raft_change(r, event->changes, event->count, event->tag);
    if (rc != 0) holt__raft_done(r, HOLT_RAFT_DONE_CHANGE, event->tag, rc, 0, r->term);
    return 0;
  }
  case HOLT_RAFT_EV_TRANSFER:
    holt__raft_transfer(r, event->id);
    return 0;
  case HOLT_RAFT_EV_PERSISTED:
    return persisted(r, event->seq);
  case HOLT_RAFT_EV_APPLIED:
    if (event->index > r->commit) return HOLT_EINVAL;
    if (event->index > r->applied) r->applied = event->index;
    return 0;
  case HOLT_RAFT_EV_SNAPSHOT_TAKEN:
    return holt__raft_snapshot_taken(r, event->snapshot);
  case HOLT_RAFT_EV_SNAPSHOT_STORED:
    return holt__raft_snapshot_stored(r, event->code);
  case HOLT_RAFT_EV_SNAPSHOT_GONE:
    snapshot_gone(r, event->id);
    return 0;
  case HOLT_RAFT_EV_UNREACHABLE:
    unreachable(r, event->id);
    return 0;
  case HOLT_RAFT_EV_DISK_FAILED:
    disk_failed(r);
    return 0;
  case HOLT_RAFT_EV_STEP_DOWN:
    step_down(r);
    return 0;
  }
  return HOLT_EINVAL;
}

/* What is to be written in this step gets the next number; messages wait for what they depend on. */
static void seal(struct holt_raft *r, struct holt_raft_persist *persist) {
  memset(persist, 0, sizeof *persist);
  if (r->vote_changed || r->persist_from || r->truncate_from || r->snapshot_changed) {
    if (r->seq == r->durable_seq) r->disk_moved_ms = r->now_ms;
    persist->seq = ++r->seq;
    persist->has_vote = r->vote_changed;
    persist->term = r->term;
    persist->vote = HOLT_BUG(2) ? 0 : r->vote;
    persist->snapshot = r->snapshot_changed ? &r->snapshot : NULL;
    persist->is_reset = r->is_reset;
    persist->truncate_from = r->truncate_from;
    if (r->persist_from) {
      persist->entries = holt__raft_log_at(r, r->persist_from);
      persist->count = (size_t)(holt__raft_log_last(r) - r->persist_from + 1);
    }
    if (r->vote_changed) r->vote_seq = r->seq;
#if HOLT_RAFT_BUG == 11
    r->bug_last[r->seq % 64] = holt__raft_log_last(r);
#endif
  }
  uint64_t gate = r->vote_seq > r->durable_seq ? r->vote_seq : 0;
  for (size_t i = 0; i < r->out_count && !HOLT_BUG(202); i++)
    if (r->out[i].after_seq < gate) r->out[i].after_seq = gate;
}

static uint64_t next_deadline(const struct holt_raft *r) {
  if (r->role != HOLT_RAFT_LEADER) return r->election_at_ms;
  uint64_t at = r->heartbeat_at_ms < r->check_quorum_at_ms ? r->heartbeat_at_ms : r->check_quorum_at_ms;
  uint64_t stall = r->disk_moved_ms + r->options.stall_ms;
  if (r->seq > r->durable_seq && stall < at) at = stall;
  return r->transfer_to && r->transfer_until_ms < at ? r->transfer_until_ms : at;
}

static void hand_out(struct holt_raft *r, struct holt_raft_update *update) {
  memset(update, 0, sizeof *update);
  seal(r, &update->persist);
  update->deadline_ms = next_deadline(r);
  update->out = r->out;
  update->out_count = r->out_count;
  update->done = r->done;
  update->done_count = r->done_count;
  update->part = r->part;
  /* Applied is what a majority holds and this disk does too. */
  update->apply_to = r->commit < r->stable || HOLT_BUG(112) ? r->commit : r->stable;
  if (r->is_installing) update->apply_to = r->applied;
  update->role = r->role;
  update->leader = r->leader;
  update->term = r->term;
  update->commit = r->commit;
  update->conf_changed = r->conf_changed;
  update->fatal = r->fatal;
}

static void begin(struct holt_raft *r, const struct holt_raft_event *event) {
  if (event->now_ms > r->now_ms) r->now_ms = event->now_ms;
  r->out_count = r->done_count = 0;
  r->persist_from = r->truncate_from = 0;
  r->vote_changed = r->snapshot_changed = r->is_reset = r->conf_changed = false;
  r->part = (struct holt_raft_part){0};
}

int holt_raft_step(struct holt_raft *r, const struct holt_raft_event *event,
                   struct holt_raft_update *update) {
  holt__raft_log_sweep(r, SWEEP_ENTRIES);
  if (event->type == HOLT_RAFT_EV_RECEIVE && !is_sound(r, event->message)) {
    r->refused_messages++;
    begin(r, event);
    hand_out(r, update);
    return r->fatal ? HOLT_EINTERNAL : 0;
  }
  begin(r, event);
  int rc = r->fatal ? HOLT_EINTERNAL : prepare(r, event);
  if (rc == 0) {
    check_leadership(r);
    rc = act(r, event);
    if (r->role == HOLT_RAFT_LEADER && !r->fatal) holt__raft_lead(r);
  }
  holt__raft_log_drop_copies(r);
  hand_out(r, update);
  return r->fatal ? HOLT_EINTERNAL : rc;
}
