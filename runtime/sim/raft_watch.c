/* raft_watch.c - what consensus promises, looked at after every step at constant cost.
 *
 * There is one record for each (index, term) that ever existed. It knows the record before it and the hash of
 * its whole past, so that "these two logs agree up to here" is one comparison. The watcher keeps its own copy
 * of each log, its own idea of what is durable where, and a table of who led, who was voted for and what is
 * committed. */
#include <stdio.h>

#include "sim/raft_sim_impl.h"

typedef unsigned long long ull;

static const char *name_of(const struct rsim_host *h, char out[24]) {
  snprintf(out, 24, "n%u(%llx)", h->place, (ull)h->self->id);
  return out;
}

static void make_room(struct rsim *w, uint64_t index) {
  if (index < w->committed_cap) return;
  size_t cap = w->committed_cap == 0 ? 1024 : w->committed_cap;
  while (cap <= index) cap *= 2;
  w->committed = holt_realloc(w->committed, cap * sizeof(struct rsim_record *));
  w->applied_hash = holt_realloc(w->applied_hash, cap * sizeof *w->applied_hash);
  memset(w->committed + w->committed_cap, 0, (cap - w->committed_cap) * sizeof(struct rsim_record *));
  memset(w->applied_hash + w->committed_cap, 0, (cap - w->committed_cap) * sizeof *w->applied_hash);
  w->committed_cap = cap;
}

static bool is_committed(const struct rsim *w, const struct rsim_record *record) {
  return record->index <= w->committed_max && w->committed[record->index] == record;
}

static struct rsim_reign *reign_of(const struct rsim *w, uint64_t term) {
  return holt_map_get(&w->leaders, term);
}

static uint64_t leader_of(const struct rsim *w, uint64_t term) {
  const struct rsim_reign *reign = reign_of(w, term);
  return reign == NULL ? 0 : reign->id;
}

/* It is not on the disk of whoever won it: nobody can have heard of it. */
static bool is_unheard(const struct rsim *w, const struct rsim_reign *reign, uint64_t term) {
  const struct rsim_incarnation *winner = holt_map_get(&w->by_id, reign->id);
  return reign->is_void || winner->disk.term < term;
}

/* --- Elections ----------------------------------------------------------------------------------------- */

/* Whoever wins a term has everything that was committed in the terms before it. */
static void check_complete(struct rsim *w, struct rsim_host *h, uint64_t term) {
  size_t i = w->stage_count;
  while (i > 0 && w->stages[i - 1].term >= term) i--;
  if (i == 0) return;
  uint64_t index = w->stages[i - 1].index;
  struct rsim_record *record = holt__rsim_log_at(&h->log, index);
  if (h->log.base > index || record == w->committed[index]) return;
  char name[24];
  holt__rsim_fail(w, "leader_completeness", "%s leads term %llu without entry %llu, committed in term %llu",
                  name_of(h, name), (ull)term, (ull)index, (ull)w->stages[i - 1].term);
}

static void check_leader(struct rsim *w, struct rsim_host *h, uint64_t term) {
  struct rsim_reign *reign = reign_of(w, term);
  uint64_t now_ms = holt__rsim_host_now(w, h);
  char name[24];
  h->leads_since_ms = now_ms;
  for (unsigned i = 0; i < RSIM_HOSTS; i++) h->heard_from[i] = now_ms;
  if (reign != NULL && reign->id != h->self->id && is_unheard(w, reign, term)) {
    reign->is_void = true;
    reign = NULL;
  }
  if (reign == NULL) {
    reign = holt__rsim_arena(w, sizeof *reign);
    *reign = (struct rsim_reign){.id = h->self->id};
    holt_map_set(&w->leaders, term, reign);
    w->result->elections++;
    RSIM_SAY(w, "%s leads term %llu", name_of(h, name), (ull)term);
  } else if (reign->id != h->self->id) {
    holt__rsim_fail(w, "one_leader", "%s leads term %llu, which %llx won before", name_of(h, name), (ull)term,
                    (ull)reign->id);
  }
  check_complete(w, h, term);
}

static void check_vote(struct rsim *w, struct rsim_host *h, uint64_t term, uint64_t candidate) {
  uint64_t key = holt_hash_u64(h->self->id * 31 + 7) ^ term;
  uint64_t before = (uintptr_t)holt_map_get(&w->votes, key);
  char name[24];
  if (before == 0)
    holt_map_set(&w->votes, key, (void *)(uintptr_t)candidate);
  else if (before != candidate)
    holt__rsim_fail(w, "one_vote", "%s gave its vote in term %llu to %llx and to %llx", name_of(h, name),
                    (ull)term, (ull)before, (ull)candidate);
}

/* --- Logs ------------------------------------------------------------------------------------------------
 */

static uint64_t chain_of(const struct rsim_record *previous, const struct holt_raft_entry *e) {
  uint64_t head[4] = {previous == NULL ? 0 : previous->chain, e->term, e->client, e->seq << 8 | e->type};
  return holt_hash_bytes(holt_hash_u64(head[0] ^ head[1] * 3 ^ head[2] * 5 ^ head[3] * 7), e->data, e->len);
}

static void check_new_conf(struct rsim *w, struct rsim_host *h, const struct rsim_record *record) {
  char name[24];
  if (record->conf_before > 0 && record->conf_before > w->committed_max)
    holt__rsim_fail(w, "one_change",
                    "%s appended a membership at %llu while the one at %llu is not committed",
                    name_of(h, name), (ull)record->index, (ull)record->conf_before);
  size_t stage = w->stage_count;
  while (stage > 0 && w->stages[stage - 1].term > record->term) stage--; /* another may have been faster */
  bool has_own = stage > 0 && w->stages[stage - 1].term == record->term;
  if (record->previous != NULL && !has_own)
    holt__rsim_fail(w, "change_before_commit",
                    "%s changed the membership at %llu before it committed in term %llu", name_of(h, name),
                    (ull)record->index, (ull)record->term);
}

static struct rsim_record *record_new(struct rsim *w, struct rsim_host *h, struct rsim_record *previous,
                                      const struct holt_raft_entry *e, uint64_t chain) {
  char name[24];
  struct rsim_record *record = holt__rsim_arena(w, sizeof *record);
  uint8_t *data = holt__rsim_arena(w, e->len + 1);
  if (e->len > 0) memcpy(data, e->data, e->len);
  *record = (struct rsim_record){.index = e->index,
                                 .term = e->term,
                                 .chain = chain,
                                 .client = e->client,
                                 .seq = e->seq,
                                 .low = e->low,
                                 .stamp_ms = e->stamp_ms,
                                 .previous = previous,
                                 .data = data,
                                 .len = e->len,
                                 .reign = previous == NULL ? NULL : reign_of(w, e->term),
                                 .type = e->type};
  if (previous != NULL)
    record->conf_before = previous->type == HOLT_RAFT_CONF ? previous->index : previous->conf_before;
  holt_map_set(&w->records, e->index << 24 ^ e->term, record);
  if (e->seq != 0) holt_map_set(&w->written, holt_hash_u64(e->client) ^ e->seq, record);
  if (previous != NULL && leader_of(w, e->term) != h->self->id)
    holt__rsim_fail(w, "entry_from_nowhere",
                    "%s holds an entry %llu of term %llu that its leader never wrote", name_of(h, name),
                    (ull)e->index, (ull)e->term);
  if (previous != NULL && e->stamp_ms < previous->stamp_ms)
    holt__rsim_fail(w, "stamp", "%s wrote entry %llu with a time before that of entry %llu", name_of(h, name),
                    (ull)e->index, (ull)previous->index);
  if (e->type == HOLT_RAFT_CONF) check_new_conf(w, h, record);
  return record;
}

/* Nobody ever heard of this entry. */
static bool is_void(const struct rsim *w, const struct rsim_host *h, const struct rsim_record *record) {
  if (record->reign == NULL) return false; /* from the beginning of the cluster: many wrote it */
  if (record->reign->id == h->self->id) return record->reign->is_void;
  return is_unheard(w, record->reign, record->term);
}

static struct rsim_record *take_entry(struct rsim *w, struct rsim_host *h, const struct holt_raft_entry *e) {
  char name[24];
  uint64_t last = holt__rsim_log_last(&h->log);
  if (e->index != last + 1) {
    holt__rsim_fail(w, "log_gap", "%s wrote entry %llu after %llu", name_of(h, name), (ull)e->index,
                    (ull)last);
    return NULL;
  }
  struct rsim_record *previous = holt__rsim_log_at(&h->log, last);
  uint64_t chain = chain_of(previous, e);
  struct rsim_record *record = holt__rsim_record(w, e->index, e->term);
  bool was_never = record != NULL && is_void(w, h, record);
  if (record == NULL || was_never) {
    record = record_new(w, h, previous, e, chain);
  } else if (record->previous != previous || record->chain != chain) {
    holt__rsim_fail(w, "log_matching", "%s holds another entry %llu of term %llu, or another past before it",
                    name_of(h, name), (ull)e->index, (ull)e->term);
    return NULL;
  }
  if (previous != NULL && previous->term > e->term)
    holt__rsim_fail(w, "term_order", "%s: entry %llu has a term below that of the one before",
                    name_of(h, name), (ull)e->index);
  holt__rsim_log_push(&h->log, record);
  return record;
}

static void check_snapshot(struct rsim *w, struct rsim_host *h, const struct holt_raft_persist *p) {
  const struct holt_raft_snapshot *s = p->snapshot;
  struct rsim_record *record = holt__rsim_record(w, s->index, s->term);
  char name[24];
  name_of(h, name);
  if (record == NULL || !is_committed(w, record)) {
    holt__rsim_fail(w, "snapshot_committed", "%s has a snapshot of (%llu, term %llu), which is not committed",
                    name, (ull)s->index, (ull)s->term);
    return;
  }
  uint64_t conf = record->type == HOLT_RAFT_CONF ? record->index : record->conf_before;
  if (conf != s->conf_index)
    holt__rsim_fail(w, "snapshot_membership",
                    "%s: a snapshot of %llu holds the membership of %llu, not of %llu", name, (ull)s->index,
                    (ull)s->conf_index, (ull)conf);
  if (holt__rsim_disk_file(&h->self->disk, s->index) == NULL)
    holt__rsim_fail(w, "snapshot_missing", "%s refers to a snapshot of %llu that is not on its disk", name,
                    (ull)s->index);
  if (p->is_reset && holt__rsim_log_last(&h->log) > s->index &&
      holt__rsim_log_at(&h->log, s->index) == record)
    holt__rsim_fail(w, "reset_drops", "%s throws away entries after %llu that agree with the snapshot", name,
                    (ull)s->index);
  if (!p->is_reset && s->index <= holt__rsim_log_last(&h->log) && s->index > h->log.base &&
      holt__rsim_log_at(&h->log, s->index) != record)
    holt__rsim_fail(w, "snapshot_conflict", "%s keeps entries after a snapshot of %llu that disagree with it",
                    name, (ull)s->index);
  holt__rsim_log_drop(&h->log, s->index, record, p->is_reset);
}

void holt__rsim_watch_persist(struct rsim *w, struct rsim_host *h, const struct holt_raft_persist *p,
                              struct rsim_record **records) {
  char name[24];
  if (p->snapshot != NULL) check_snapshot(w, h, p);
  if (p->truncate_from != 0) {
    struct rsim_record *first = holt__rsim_log_at(&h->log, p->truncate_from);
    RSIM_SAY(w, "%s truncates from %llu", name_of(h, name), (ull)p->truncate_from);
    if (p->truncate_from <= h->commit || (first != NULL && is_committed(w, first)))
      holt__rsim_fail(w, "truncates_committed", "%s truncates from %llu, which is committed",
                      name_of(h, name), (ull)p->truncate_from);
    holt__rsim_log_truncate(&h->log, p->truncate_from);
  }
  for (size_t i = 0; i < p->count && !w->has_failed; i++) records[i] = take_entry(w, h, &p->entries[i]);
}

/* --- Commitment --------------------------------------------------------------------------------------------
 */

static bool holds(const struct rsim *w, uint64_t id, const struct rsim_record *record) {
  const struct rsim_incarnation *member = holt_map_get(&w->by_id, id);
  if (member == NULL) return false;
  const struct rsim_log *log = &member->disk.log;
  return log->base >= record->index || holt__rsim_log_at(log, record->index) == record;
}

static bool is_majority(const struct rsim *w, const struct holt_raft_conf *conf,
                        const struct rsim_record *record) {
  unsigned old_count = 0, old_have = 0, new_count = 0, new_have = 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt_raft_member *m = &conf->members[i];
    if (m->role == HOLT_RAFT_LEARNER) continue;
    bool has = holds(w, m->id, record);
    bool is_old = m->role != HOLT_RAFT_INCOMING,
         is_new = m->role == HOLT_RAFT_VOTER || m->role == HOLT_RAFT_INCOMING;
    old_count += is_old;
    old_have += is_old && has;
    new_count += is_new;
    new_have += is_new && has;
  }
  return old_have * 2 > old_count && (new_count == 0 || new_have * 2 > new_count);
}

static void check_first_commit(struct rsim *w, struct rsim_host *h, const struct rsim_record *record,
                               uint64_t term) {
  char name[24];
  if (record->term != term && record->previous != NULL)
    holt__rsim_fail(w, "old_term_commit",
                    "%s committed entry %llu of term %llu in term %llu by counting copies", name_of(h, name),
                    (ull)record->index, (ull)record->term, (ull)term);
  if (!is_majority(w, &h->conf, record))
    holt__rsim_fail(w, "durable_majority", "%s committed entry %llu, but no majority has it on its disks",
                    name_of(h, name), (ull)record->index);
  if (w->stage_count > 0 && w->stages[w->stage_count - 1].term == term) {
    w->stages[w->stage_count - 1].index = record->index;
    return;
  }
  if (w->stage_count == w->stage_cap) {
    w->stage_cap = w->stage_cap == 0 ? 64 : w->stage_cap * 2;
    w->stages = holt_realloc(w->stages, w->stage_cap * sizeof *w->stages);
  }
  w->stages[w->stage_count++] = (struct rsim_stage){.term = term, .index = record->index};
}

static void check_commit(struct rsim *w, struct rsim_host *h, uint64_t to, uint64_t term) {
  char name[24];
  make_room(w, to);
  for (uint64_t index = h->commit + 1; index <= to; index++) {
    if (index <= h->log.base) { /* came with a snapshot, which was looked at */
      index = h->log.base;
      continue;
    }
    struct rsim_record *record = holt__rsim_log_at(&h->log, index);
    if (record == NULL) {
      holt__rsim_fail(w, "commit_beyond_log", "%s committed %llu, which it does not hold", name_of(h, name),
                      (ull)index);
      return;
    }
    if (index > w->committed_max) {
      w->committed[index] = record;
      w->committed_max = index;
      w->result->commits++;
      if (index == to) check_first_commit(w, h, record, term);
    } else if (w->committed[index] != record) {
      holt__rsim_fail(w, "state_machine_safety",
                      "%s committed entry %llu of term %llu, others that of term %llu", name_of(h, name),
                      (ull)index, (ull)record->term, (ull)w->committed[index]->term);
      return;
    }
  }
}

static void advance(struct rsim *w, struct rsim_host *h, const struct holt_raft_update *update) {
  if (update->commit <= h->commit || w->has_failed) return;
  check_commit(w, h, update->commit, update->term);
  h->commit = update->commit;
}

/* --- A step
 * ------------------------------------------------------------------------------------------------- */

/* What a message may and may not lead to. */
static void check_answers(struct rsim *w, struct rsim_host *h, const struct holt_raft_message *m,
                          const struct holt_raft_update *update) {
  char name[24];
  uint64_t now_ms = holt__rsim_host_now(w, h);
  if (update->role == HOLT_RAFT_LEADER && m->term == update->term) h->heard_from[m->from & 15] = now_ms;
  bool is_leaders =
      m->type == HOLT_RAFT_APPEND || m->type == HOLT_RAFT_HEARTBEAT || m->type == HOLT_RAFT_SNAPSHOT;
  if (is_leaders && m->term == update->term && m->to == h->self->id && update->leader == m->from)
    h->heard_ms = now_ms;
  if (m->type != HOLT_RAFT_VOTE && m->type != HOLT_RAFT_FORWARD) return;
  for (size_t i = 0; i < update->out_count; i++) {
    const struct holt_raft_message *out = &update->out[i].message;
    if (m->type == HOLT_RAFT_FORWARD && out->type == HOLT_RAFT_FORWARD)
      holt__rsim_fail(w, "forwarded_once", "%s passes on what was passed on to it", name_of(h, name));
    bool grants = out->type == HOLT_RAFT_VOTE_REPLY && (out->flags & HOLT_RAFT_REJECT) == 0;
    if (grants && (m->flags & HOLT_RAFT_TRANSFER) == 0 && h->heard_ms != 0 &&
        now_ms < h->heard_ms + w->config.election_ms)
      holt__rsim_fail(w, "loyalty", "%s helps %llx to depose a leader it heard %llu ms ago", name_of(h, name),
                      (ull)m->from, (ull)(now_ms - h->heard_ms));
  }
}

/* A leader whose disk stands still for long must have handed over. */
static void check_stall(struct rsim *w, struct rsim_host *h, const struct holt_raft_update *update) {
  const struct rsim_disk *d = &h->self->disk;
  char name[24];
  if (update->role != HOLT_RAFT_LEADER || d->write_count == 0) return;
  uint64_t began_ms = d->writes[d->write_head].began_ms;
  uint64_t waits_ms = holt__rsim_host_now(w, h) - (d->moved_ms > began_ms ? d->moved_ms : began_ms);
  if (waits_ms > 2 * (uint64_t)w->config.election_ms)
    holt__rsim_fail(w, "stalled_leader", "%s leads though its disk has stood still for %llu ms",
                    name_of(h, name), (ull)waits_ms);
}

/* A leader whom no majority answers for long must know that it is none. */
static void check_alone(struct rsim *w, struct rsim_host *h, const struct holt_raft_update *update) {
  if (update->role != HOLT_RAFT_LEADER || h->role != HOLT_RAFT_LEADER || update->term != h->term) return;
  uint64_t now_ms = holt__rsim_host_now(w, h), limit_ms = 3 * (uint64_t)w->config.election_ms;
  unsigned old_count = 0, old_heard = 0, new_count = 0, new_heard = 0;
  char name[24];
  if (now_ms - h->leads_since_ms < limit_ms) return;
  for (uint32_t i = 0; i < h->conf.count; i++) {
    const struct holt_raft_member *m = &h->conf.members[i];
    bool is_heard = m->id == h->self->id || now_ms - h->heard_from[m->id & 15] < limit_ms;
    bool is_old = m->role == HOLT_RAFT_VOTER || m->role == HOLT_RAFT_OUTGOING || m->role == HOLT_RAFT_DEMOTED;
    bool is_new = m->role == HOLT_RAFT_VOTER || m->role == HOLT_RAFT_INCOMING;
    old_count += is_old, old_heard += is_old && is_heard;
    new_count += is_new, new_heard += is_new && is_heard;
  }
  if (old_heard * 2 <= old_count || new_heard * 2 <= new_count)
    holt__rsim_fail(w, "lonely_leader", "%s leads term %llu though it has heard no majority for %llu ms",
                    name_of(h, name), (ull)update->term, (ull)limit_ms);
}

/* The membership in force is the last one in the log. */
static void check_membership(struct rsim *w, struct rsim_host *h) {
  struct rsim_record *last = holt__rsim_log_at(&h->log, holt__rsim_log_last(&h->log));
  struct holt_raft_status status;
  char name[24];
  if (last == NULL) return;
  uint64_t index = last->type == HOLT_RAFT_CONF ? last->index : last->conf_before;
  holt_raft_status(h->raft, &status);
  if (status.conf_index != index)
    holt__rsim_fail(w, "membership_in_force",
                    "%s goes by the membership of %llu, the last in its log is that of %llu",
                    name_of(h, name), (ull)status.conf_index, (ull)index);
}

void holt__rsim_watch_step(struct rsim *w, struct rsim_host *h, const struct holt_raft_event *event,
                           const struct holt_raft_update *update) {
  char name[24];
  if (update->term != h->term || update->leader != h->leader) h->heard_ms = 0;
  if (event->type == HOLT_RAFT_EV_RECEIVE) check_answers(w, h, event->message, update);
  if (event->type == HOLT_RAFT_EV_TIME) check_stall(w, h, update);
  if (event->type == HOLT_RAFT_EV_TIME) check_alone(w, h, update);
  if (update->term < h->term)
    holt__rsim_fail(w, "term_back", "%s went from term %llu to %llu", name_of(h, name), (ull)h->term,
                    (ull)update->term);
  if (update->role == HOLT_RAFT_LEADER && (h->role != HOLT_RAFT_LEADER || h->term != update->term))
    check_leader(w, h, update->term);
  if (update->role != h->role && update->role != HOLT_RAFT_LEADER)
    RSIM_SAY(w, "%s is %s in term %llu", name_of(h, name),
             update->role == HOLT_RAFT_FOLLOWER        ? "a follower"
             : update->role == HOLT_RAFT_PRE_CANDIDATE ? "asking for pre-votes"
                                                       : "a candidate",
             (ull)update->term);
  /* A leader counts what was there before; a follower commits what it has just been given. */
  if (update->commit < h->commit)
    holt__rsim_fail(w, "commit_back", "%s went back from commit %llu to %llu", name_of(h, name),
                    (ull)h->commit, (ull)update->commit);
  bool commits_first = update->role == HOLT_RAFT_LEADER;
  if (commits_first) advance(w, h, update);
  if (update->persist.seq != 0 && !w->has_failed) {
    if (h->record_cap < update->persist.count) {
      h->record_cap = update->persist.count + 64;
      h->records = holt_realloc(h->records, h->record_cap * sizeof(struct rsim_record *));
    }
    holt__rsim_watch_persist(w, h, &update->persist, h->records);
  }
  if (!commits_first) advance(w, h, update);
  if (update->apply_to > update->commit)
    holt__rsim_fail(w, "applies_uncommitted", "%s is told to apply up to %llu, committed is %llu",
                    name_of(h, name), (ull)update->apply_to, (ull)update->commit);
  h->role = update->role;
  h->term = update->term;
  h->leader = update->leader;
  if (update->conf_changed) {
    h->conf = *holt_raft_conf(h->raft);
    h->leads_since_ms = holt__rsim_host_now(w, h); /* those who are new count as heard */
  }
  const struct holt_raft_persist *p = &update->persist;
  if (update->conf_changed || p->truncate_from != 0 || p->snapshot != NULL) check_membership(w, h);
  holt__rsim_mix(w, update->term << 40 ^ update->commit << 8 ^ (uint64_t)update->role << 4 ^ h->place);
}

void holt__rsim_watch_send(struct rsim *w, struct rsim_host *h, const struct holt_raft_message *m) {
  const struct rsim_disk *disk = &h->self->disk;
  bool is_pre = m->flags & HOLT_RAFT_PRE;
  char name[24];
  if (!is_pre && m->term > disk->term)
    holt__rsim_fail(w, "early_message", "%s sent a message of term %llu while its disk says %llu",
                    name_of(h, name), (ull)m->term, (ull)disk->term);
  switch (m->type) {
  case HOLT_RAFT_VOTE:
    if (!is_pre) check_vote(w, h, m->term, h->self->id);
    break;
  case HOLT_RAFT_VOTE_REPLY:
    if (is_pre || (m->flags & HOLT_RAFT_REJECT)) break;
    check_vote(w, h, m->term, m->to);
    if (disk->term == m->term && disk->vote != m->to)
      holt__rsim_fail(w, "early_message", "%s sent a vote for %llx in term %llu that its disk does not hold",
                      name_of(h, name), (ull)m->to, (ull)m->term);
    break;
  case HOLT_RAFT_APPEND_REPLY:
    /* One of an earlier term was true when its write became durable; a later write may have undone it since.
     */
    if ((m->flags & HOLT_RAFT_REJECT) == 0 && m->term == disk->term &&
        m->index > holt__rsim_log_last(&disk->log))
      holt__rsim_fail(w, "early_message", "%s acknowledged entry %llu, its disk ends at %llu",
                      name_of(h, name), (ull)m->index, (ull)holt__rsim_log_last(&disk->log));
    break;
  case HOLT_RAFT_APPEND:
  case HOLT_RAFT_HEARTBEAT:
    if (leader_of(w, m->term) != h->self->id)
      holt__rsim_fail(w, "one_leader", "%s speaks as leader of term %llu, which it is not", name_of(h, name),
                      (ull)m->term);
    break;
  default:
    break;
  }
}

void holt__rsim_watch_applied(struct rsim *w, struct rsim_host *h) {
  uint64_t index = h->fsm.index, hash = holt__rsim_fsm_hash(&h->fsm);
  char name[24];
  if (index > w->committed_max) {
    holt__rsim_fail(w, "applies_uncommitted", "%s applied %llu, committed is %llu", name_of(h, name),
                    (ull)index, (ull)w->committed_max);
    return;
  }
  make_room(w, index);
  if (w->applied_hash[index] == 0) {
    w->applied_hash[index] = hash;
  } else if (w->applied_hash[index] != hash) {
    holt__rsim_fail(w, "state_hash", "%s holds another state at %llu than others had", name_of(h, name),
                    (ull)index);
  }
  holt__rsim_mix(w, hash);
}

void holt__rsim_watch_start(struct rsim *w, struct rsim_host *h) {
  const struct rsim_disk *disk = &h->self->disk;
  char name[24];
  for (uint64_t term = disk->term + 1; term <= h->term; term++) { /* what it won and lost again */
    struct rsim_reign *reign = reign_of(w, term);
    if (reign == NULL || reign->id != h->self->id) continue;
    reign->is_void = true;
    holt_map_remove(&w->leaders, term);
  }
  h->term = disk->term;
  h->role = HOLT_RAFT_FOLLOWER;
  h->leader = 0;
  h->heard_ms = 0;
  h->commit = disk->snapshot_index;
  h->conf = *holt_raft_conf(h->raft);
  if (h->fsm.index > 0) holt__rsim_watch_applied(w, h);
  RSIM_SAY(w, "%s starts in term %llu with entries up to %llu", name_of(h, name), (ull)disk->term,
           (ull)holt__rsim_log_last(&disk->log));
}
