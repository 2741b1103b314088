/* raft.c - life of a core, and questions to it. */
#include <string.h>

#include "raft/raft_impl.h"

void holt_raft_options_default(struct holt_raft_options *options) {
  *options = (struct holt_raft_options){
      .election_ms = 500,
      .heartbeat_ms = 50,
      .append_bytes = 1 << 20,
      .chunk_bytes = 256 << 10,
      .inflight_messages = HOLT_RAFT_INFLIGHT_MAX,
      .inflight_bytes = 8 << 20,
      .uncommitted_bytes = 64 << 20,
      .reads_max = 65536,
      .keep_entries = 1024,
  };
}

static bool are_sound(const struct holt_raft_options *o) {
  if (o->self == 0 || o->cluster == 0 || o->election_ms == 0 || o->heartbeat_ms == 0) return false;
  if (o->heartbeat_ms > o->election_ms / 3 || o->append_bytes == 0 || o->chunk_bytes == 0) return false;
  if (o->inflight_messages == 0 || o->inflight_messages > HOLT_RAFT_INFLIGHT_MAX) return false;
  return o->inflight_bytes > 0 && o->uncommitted_bytes > 0 && o->reads_max > 0;
}

static int restore_entries(struct holt_raft *r, const struct holt_raft_restore *restore) {
  int rc = holt__raft_log_reserve(r, restore->count + 4);
  if (rc == 0) rc = holt__raft_log_copy(r, restore->entries, restore->count);
  if (rc != 0) return rc;
  for (size_t i = 0; i < restore->count; i++) {
    struct holt_raft_entry entry = restore->entries[i];
    bool follows = entry.index == holt__raft_log_last(r) + 1 && entry.term >= holt__raft_log_last_term(r);
    if (!follows || entry.term > restore->term) {
      holt__raft_log_drop_copies(r);
      return HOLT_EINVAL;
    }
    entry.data = holt__raft_log_take_copy(r);
    holt__raft_log_push(r, &entry, 0);
    r->log.slots[r->log.head + r->log.count - 1].seq = 0;
  }
  holt__raft_log_drop_copies(r);
  return 0;
}

static int restore_all(struct holt_raft *r, const struct holt_raft_restore *restore) {
  r->term = restore->term;
  r->vote = restore->vote;
  const struct holt_raft_snapshot *s = restore->snapshot;
  if (s) {
    if (s->index == 0 || s->term > restore->term) return HOLT_EINVAL;
    r->snapshot = *s;
    r->log.base_index = r->commit = r->applied = s->index;
    r->log.base_term = s->term;
    r->stamp_seen_ms = s->stamp_ms;
  }
  int rc = restore_entries(r, restore);
  r->stable = holt__raft_log_last(r);
  r->persist_from = 0;
  return rc;
}

int holt_raft_new(const struct holt_raft_options *options, const struct holt_raft_restore *restore,
                  uint64_t now_ms, struct holt_raft **out) {
  *out = NULL;
  if (!are_sound(options)) return HOLT_EINVAL;
  struct holt_raft *r;
  struct holt_raft key = {.options = *options};
  r = holt__raft_alloc(&key, NULL, sizeof *r);
  if (!r) return HOLT_ENOMEM;
  memset(r, 0, sizeof *r);
  r->options = *options;
  if (r->options.stall_ms == 0) r->options.stall_ms = options->election_ms;
  r->now_ms = now_ms;
  holt_rand_seed(&r->rand, options->seed ^ options->self);
  int rc = restore ? restore_all(r, restore) : 0;
  if (rc != 0) {
    holt_raft_free(r);
    return rc;
  }
  holt__raft_conf_refresh(r);
  /* With leases a vote given right after a restart could depose a leader that still trusts its lease. */
  if (options->lease_reads && r->term > 0) r->quiet_until_ms = now_ms + options->election_ms;
  holt__raft_reset_election_timer(r);
  *out = r;
  return 0;
}

void holt_raft_free(struct holt_raft *r) {
  if (!r) return;
  holt__raft_log_drop_copies(r);
  holt__raft_log_free(r);
  void *owned[] = {r->copies, r->out, r->done, r->reads, r->spare};
  for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
    if (owned[i]) holt__raft_alloc(r, owned[i], 0);
  struct holt_raft key = {.options = r->options};
  holt__raft_alloc(&key, r, 0);
}

void holt_raft_status(const struct holt_raft *r, struct holt_raft_status *out) {
  *out = (struct holt_raft_status){
      .role = r->role,
      .is_failed = r->is_failed,
      .is_installing = r->is_installing,
      .is_transferring = r->transfer_to != 0,
      .term = r->term,
      .vote = r->vote,
      .leader = r->leader,
      .first = r->log.base_index + 1,
      .last = holt__raft_log_last(r),
      .stable = r->stable,
      .commit = r->commit,
      .applied = r->applied,
      .snapshot_index = r->snapshot.index,
      .conf_index = r->conf_index,
      .uncommitted_bytes = r->uncommitted_bytes,
      .log_bytes = r->log.bytes,
      .refused_messages = r->refused_messages,
      .reads = r->read_count,
  };
  if (r->role != HOLT_RAFT_LEADER) return;
  out->peer_count = r->progress_count;
  for (size_t i = 0; i < r->progress_count; i++) {
    const struct holt__raft_progress *p = &r->progress[i];
    if (p->state == PROGRESS_SNAPSHOT && p->snapshot_index == r->sending.index)
      out->sending_index = r->sending.index;
    out->peers[i] = (struct holt_raft_peer_status){
        .id = p->id, .match = p->match, .next = p->next, .heard_ms = p->heard_ms, .state = p->state};
  }
}

/* --- Hash ---------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value) {
  return holt_hash_u64(hash ^ holt_hash_u64(value + 0x9e3779b97f4a7c15u));
}

static uint64_t left(const struct holt_raft *r, uint64_t at_ms) {
  return at_ms > r->now_ms ? at_ms - r->now_ms : 0;
}

static uint64_t hash_progress(const struct holt_raft *r, uint64_t hash) {
  for (size_t i = 0; i < r->progress_count; i++) {
    const struct holt__raft_progress *p = &r->progress[i];
    uint64_t values[] = {p->id,
                         p->since,
                         p->match,
                         p->next,
                         p->round_acked,
                         p->sent_round,
                         p->commit_sent,
                         p->offset,
                         p->state,
                         p->is_waiting,
                         p->snapshot_index,
                         p->inflight_count,
                         left(r, p->heard_ms + r->options.election_ms)};
    for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) hash = mix(hash, values[k]);
  }
  return hash;
}

uint64_t holt_raft_hash(const struct holt_raft *r) {
  uint64_t values[] = {r->term,
                       r->vote,
                       r->role,
                       r->leader,
                       r->commit,
                       r->applied,
                       r->matched,
                       r->stable,
                       r->seq - r->durable_seq,
                       r->vote_seq > r->durable_seq,
                       r->reset_seq > r->durable_seq,
                       r->granted,
                       r->refused,
                       r->snapshot.index,
                       r->incoming.index,
                       r->incoming_offset,
                       r->is_installing,
                       r->is_failed,
                       r->log.base_index,
                       r->log.base_term,
                       r->transfer_to,
                       left(r, r->heard_ms + r->options.election_ms),
                       left(r, r->election_at_ms),
                       r->role == HOLT_RAFT_LEADER ? left(r, r->heartbeat_at_ms) : 0,
                       r->read_count};
  uint64_t hash = 1;
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) hash = mix(hash, values[i]);
  for (size_t i = 0; i < r->log.count; i++) {
    const struct holt_raft_entry *e = &r->log.entries[r->log.head + i];
    hash = mix(mix(mix(hash, e->term), e->type), r->log.slots[r->log.head + i].seq > r->durable_seq);
    hash = holt_hash_bytes(hash, e->data, e->len);
  }
  return r->role == HOLT_RAFT_LEADER ? hash_progress(r, hash) : hash;
}
