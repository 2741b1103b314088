/* raft_lab.h - members under glass for the tests of raft/: each has a clock and a disk of its own, messages
 * wait in one network, and nothing happens by itself. Every step is told in short lines and checked. */
#ifndef HOLT_UNIT_RAFT_LAB_H
#define HOLT_UNIT_RAFT_LAB_H

#include "base/assert.h"
#include "base/rand.h"
#include "raft/raft.h"
#include "raft_words.h"
#include "unit.h"

enum { LAB_NODES = 10, LAB_QUEUE = 1024, LAB_LOG = 512, LAB_TERMS = 64, LAB_STATE = 2048 };

struct lab_message {
  uint8_t *bytes;
  size_t len;
  uint64_t after_seq;
  uint64_t from, to;
  uint8_t type;
  bool is_parked; /* passed over until brought back */
};

/* One persist as it was handed out, or the disk itself: both are "term, vote, snapshot, entries". */
struct lab_disk {
  uint64_t seq;
  bool has_vote, has_snapshot, is_reset;
  uint64_t term, vote, truncate_from;
  struct holt_raft_snapshot snapshot;
  struct holt_raft_entry *entries;
  size_t count;
};

struct lab_node {
  uint64_t id;
  bool exists, is_up, is_storing;
  struct holt_raft *raft;
  struct holt_raft_options options;
  uint64_t now_ms, deadline_ms;
  struct lab_disk disk, pending[64];
  size_t pending_count;
  struct lab_message held[LAB_QUEUE]; /* wait for a persist */
  size_t held_count;
  uint64_t apply_to, applied, commit, term, leader, boots;
  enum holt_raft_role role;
  struct holt_raft_snapshot storing;
  char state[LAB_STATE]; /* the commands applied, in order */
};

struct lab {
  struct lab_node nodes[LAB_NODES + 1]; /* by id */
  struct lab_message net[LAB_QUEUE];
  size_t net_count;
  bool is_cut[LAB_NODES + 1][LAB_NODES + 1]; /* from, to */
  struct words *trace;                       /* NULL: silent */
  /* what must hold at all times */
  uint64_t leader_of[LAB_TERMS];
  uint64_t committed_term[LAB_LOG], committed_hash[LAB_LOG], committed;
  char snapshots[LAB_LOG][LAB_STATE]; /* the state at an index, whoever applied it first */
  bool is_applied[LAB_LOG];
  unsigned broken; /* invariants found broken */
  uint64_t next_tag;
  unsigned answered, refused, unknown; /* proposals, reads, changes */
  unsigned out_of_memory;
  uint32_t snapshot_bytes;
};

static struct lab lab;

static __attribute__((unused, format(printf, 1, 2))) void lab_tell(const char *format, ...) {
  if (!lab.trace) return;
  va_list args;
  va_start(args, format);
  words_add(lab.trace, "  ");
  words_addv(lab.trace, format, args);
  words_add(lab.trace, "\n");
  va_end(args);
}

static __attribute__((unused, format(printf, 1, 2))) void lab_broken(const char *format, ...) {
  char text[300];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  lab.broken++;
  lab_tell("BROKEN: %s", text);
  if (!lab.trace) fprintf(stderr, "BROKEN: %s\n", text);
}

/* --- Disk ----------------------------------------------------------------------------------------------- */

static struct holt_raft_entry lab_entry_copy(const struct holt_raft_entry *entry) {
  struct holt_raft_entry copy = *entry;
  uint8_t *data = NULL;
  if (entry->len > 0) {
    data = malloc(entry->len);
    HOLT_ASSERT(data);
    memcpy(data, entry->data, entry->len);
  }
  copy.data = data;
  return copy;
}

static void lab_disk_cut(struct lab_disk *disk, size_t count) {
  while (disk->count > count) free((void *)(uintptr_t)disk->entries[--disk->count].data);
}

static void lab_disk_free(struct lab_disk *disk) {
  lab_disk_cut(disk, 0);
  free(disk->entries);
  memset(disk, 0, sizeof *disk);
}

static void lab_disk_add(struct lab_disk *disk, const struct holt_raft_entry *entries, size_t count) {
  disk->entries = realloc(disk->entries, (disk->count + count + 1) * sizeof *disk->entries);
  HOLT_ASSERT(disk->entries);
  for (size_t i = 0; i < count; i++) disk->entries[disk->count++] = lab_entry_copy(&entries[i]);
}

/* Drop what a snapshot covers. */
static void lab_disk_drop_front(struct lab_disk *disk, uint64_t index) {
  size_t drop = 0;
  while (drop < disk->count && disk->entries[drop].index <= index)
    free((void *)(uintptr_t)disk->entries[drop++].data);
  memmove(disk->entries, disk->entries + drop, (disk->count - drop) * sizeof *disk->entries);
  disk->count -= drop;
}

static void lab_disk_write(struct lab_disk *disk, const struct lab_disk *what) {
  if (what->has_vote) {
    disk->term = what->term;
    disk->vote = what->vote;
  }
  if (what->has_snapshot) {
    disk->has_snapshot = true;
    disk->snapshot = what->snapshot;
    if (what->is_reset) lab_disk_cut(disk, 0);
    lab_disk_drop_front(disk, what->snapshot.index);
  }
  if (what->truncate_from) {
    size_t keep = 0;
    while (keep < disk->count && disk->entries[keep].index < what->truncate_from) keep++;
    lab_disk_cut(disk, keep);
  }
  uint64_t last = disk->count ? disk->entries[disk->count - 1].index : disk->snapshot.index;
  if (what->count > 0 && what->entries[0].index != last + 1)
    lab_broken("an entry %llu is written behind %llu", (unsigned long long)what->entries[0].index,
               (unsigned long long)last);
  lab_disk_add(disk, what->entries, what->count);
}

/* Whether the disk holds the entry (index, term), in its log or under its snapshot. */
static bool lab_disk_holds(const struct lab_disk *disk, uint64_t index, uint64_t term) {
  if (disk->has_snapshot && disk->snapshot.index >= index) return true;
  for (size_t i = 0; i < disk->count; i++)
    if (disk->entries[i].index == index) return disk->entries[i].term == term;
  return false;
}

/* --- What must hold ---------------------------------------------------------------------------------------
 */

static bool lab_is_majority(const struct holt_raft_conf *conf, bool is_new, const bool *has) {
  unsigned all = 0, with = 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt_raft_member *m = &conf->members[i];
    bool counts = m->role == HOLT_RAFT_VOTER;
    if (is_new) counts = counts || m->role == HOLT_RAFT_INCOMING;
    if (!is_new) counts = counts || m->role == HOLT_RAFT_OUTGOING || m->role == HOLT_RAFT_DEMOTED;
    if (!counts) continue;
    all++;
    if (m->id <= LAB_NODES && has[m->id]) with++;
  }
  return with * 2 > all;
}

static void lab_check_commit(struct lab_node *n, uint64_t from, uint64_t to) {
  for (uint64_t i = from + 1; i <= to; i++) {
    const struct holt_raft_entry *e = holt_raft_entry_at(n->raft, i);
    if (!e || i >= LAB_LOG) continue;
    uint64_t hash = holt_hash_bytes(e->type, e->data, e->len);
    if (i > lab.committed) {
      lab.committed = i;
      lab.committed_term[i] = 0;
    }
    if (lab.committed_term[i] == 0) {
      lab.committed_term[i] = e->term;
      lab.committed_hash[i] = hash;
    } else if (lab.committed_term[i] != e->term || lab.committed_hash[i] != hash) {
      lab_broken("n%u commits another entry %u than was committed", (unsigned)n->id, (unsigned)i);
    }
  }
  if (n->role != HOLT_RAFT_LEADER || to <= from) return;
  const struct holt_raft_entry *e = holt_raft_entry_at(n->raft, to);
  bool has[LAB_NODES + 1] = {false};
  for (unsigned id = 1; id <= LAB_NODES; id++)
    has[id] = lab.nodes[id].exists && e && lab_disk_holds(&lab.nodes[id].disk, to, e->term);
  const struct holt_raft_conf *conf = holt_raft_conf(n->raft);
  /* A membership that was just ended was still in force when this was counted: look for it. */
  struct holt_raft_snapshot at;
  if (holt_raft_snapshot_at(n->raft, to, &at) == 0) conf = &at.conf;
  if (e && (!lab_is_majority(conf, true, has) || !lab_is_majority(conf, false, has)))
    lab_broken("n%u commits %u without a majority of disks", (unsigned)n->id, (unsigned)to);
}

static void lab_check_leader(struct lab_node *n) {
  if (n->term >= LAB_TERMS) return;
  if (lab.leader_of[n->term] && lab.leader_of[n->term] != n->id)
    lab_broken("n%u and n%u lead term %u", (unsigned)lab.leader_of[n->term], (unsigned)n->id,
               (unsigned)n->term);
  lab.leader_of[n->term] = n->id;
  for (uint64_t i = 1; i <= lab.committed; i++) {
    const struct holt_raft_entry *e = holt_raft_entry_at(n->raft, i);
    struct holt_raft_status s;
    holt_raft_status(n->raft, &s);
    if (i < s.first || !lab.committed_term[i]) continue;
    if (!e || e->term != lab.committed_term[i])
      lab_broken("n%u leads without the committed entry %u", (unsigned)n->id, (unsigned)i);
  }
}

/* Equal (index, term) in two logs: equal entries there and before (paper, figure 3). */
static void __attribute__((unused)) lab_check_logs(void) {
  for (unsigned a = 1; a <= LAB_NODES; a++)
    for (unsigned b = a + 1; b <= LAB_NODES; b++) {
      if (!lab.nodes[a].is_up || !lab.nodes[b].is_up) continue;
      bool must = false;
      for (uint64_t i = LAB_LOG; i > 0; i--) {
        const struct holt_raft_entry *x = holt_raft_entry_at(lab.nodes[a].raft, i);
        const struct holt_raft_entry *y = holt_raft_entry_at(lab.nodes[b].raft, i);
        if (!x || !y) continue;
        if (x->term == y->term) must = true;
        bool is_equal = x->term == y->term && x->type == y->type && x->len == y->len &&
                        (x->len == 0 || memcmp(x->data, y->data, x->len) == 0);
        if (must && !is_equal) lab_broken("the logs of n%u and n%u differ at %u", a, b, (unsigned)i);
      }
    }
}

/* --- Network ----------------------------------------------------------------------------------------------
 */

static void lab_message_free(struct lab_message *m) {
  free(m->bytes);
  memset(m, 0, sizeof *m);
}

static void lab_queue_remove(struct lab_message *queue, size_t *count, size_t at) {
  (*count)--;
  memmove(&queue[at], &queue[at + 1], (*count - at) * sizeof *queue);
}

static struct holt_raft_entry lab_entries[HOLT_RAFT_APPEND_ENTRIES_MAX];
static struct holt_raft_snapshot lab_snapshot;

/* Decoded into static storage: one at a time. */
static struct holt_raft_message lab_decode(const struct lab_message *m) {
  struct holt_raft_message out;
  int rc = holt_raft_message_decode(holt_buf(m->bytes, m->len), &out, lab_entries,
                                    HOLT_RAFT_APPEND_ENTRIES_MAX, &lab_snapshot);
  HOLT_ASSERT(rc == 0);
  return out;
}

static struct lab_message lab_encode(const struct holt_raft_message *message) {
  static uint8_t zeros[4096];
  struct holt_raft_message m = *message;
  if (m.type == HOLT_RAFT_SNAPSHOT) m.data = zeros;
  HOLT_ASSERT(m.len <= sizeof zeros);
  struct holt_writer w = {0};
  holt_raft_message_encode(&w, &m);
  return (struct lab_message){.bytes = w.data, .len = w.len, .from = m.from, .to = m.to, .type = m.type};
}

static void lab_send(struct lab_message m) {
  HOLT_ASSERT(lab.net_count < LAB_QUEUE);
  if (m.to > LAB_NODES || !lab.nodes[m.to].exists || lab.is_cut[m.from][m.to])
    lab_message_free(&m);
  else
    lab.net[lab.net_count++] = m;
}

/* --- One step --------------------------------------------------------------------------------------------
 */

static void lab_take_output(struct lab_node *n, const struct holt_raft_output *out) {
  if (lab.trace) {
    words_add(lab.trace, "  ");
    words_message(lab.trace, &out->message);
    if (out->after_seq) words_add(lab.trace, " (after p%u)", (unsigned)out->after_seq);
    if (out->message.to <= LAB_NODES && lab.is_cut[n->id][out->message.to]) words_add(lab.trace, " (lost)");
    words_add(lab.trace, "\n");
  }
  struct lab_message m = lab_encode(&out->message);
  m.after_seq = out->after_seq;
  if (m.after_seq == 0) {
    lab_send(m);
    return;
  }
  HOLT_ASSERT(n->held_count < LAB_QUEUE);
  n->held[n->held_count++] = m;
}

static void lab_take_persist(struct lab_node *n, const struct holt_raft_persist *p) {
  if (p->seq == 0) return;
  if (lab.trace) {
    words_add(lab.trace, "  n%u writes p%u:", (unsigned)n->id, (unsigned)p->seq);
    words_persist(lab.trace, p);
    words_add(lab.trace, "\n");
  }
  HOLT_ASSERT(n->pending_count < 64);
  struct lab_disk *disk = &n->pending[n->pending_count++];
  memset(disk, 0, sizeof *disk);
  disk->seq = p->seq;
  disk->has_vote = p->has_vote;
  disk->term = p->term;
  disk->vote = p->vote;
  disk->is_reset = p->is_reset;
  disk->truncate_from = p->truncate_from;
  if (p->snapshot) {
    disk->has_snapshot = true;
    disk->snapshot = *p->snapshot;
  }
  lab_disk_add(disk, p->entries, p->count);
}

static void lab_take_done(struct lab_node *n, const struct holt_raft_done *d) {
  static const char *WHAT[] = {"?", "proposal", "read", "change"};
  if (d->code == 0)
    lab.answered++;
  else if (d->code == HOLT_EUNKNOWN)
    lab.unknown++;
  else
    lab.refused++;
  if (d->code != 0)
    lab_tell("n%u answers %s #%u: %s", (unsigned)n->id, WHAT[d->type], (unsigned)d->tag,
             holt_err_word(d->code));
  else if (d->type == HOLT_RAFT_DONE_READ)
    lab_tell("n%u answers read #%u: at %u", (unsigned)n->id, (unsigned)d->tag, (unsigned)d->index);
  else
    lab_tell("n%u answers %s #%u: at %u/T%u", (unsigned)n->id, WHAT[d->type], (unsigned)d->tag,
             (unsigned)d->index, (unsigned)d->term);
}

static void lab_take_part(struct lab_node *n, const struct holt_raft_part *part) {
  if (!part->snapshot) return;
  lab_tell("n%u receives bytes %u to %u of snapshot %u%s", (unsigned)n->id, (unsigned)part->offset,
           (unsigned)(part->offset + part->len), (unsigned)part->snapshot->index,
           part->is_last ? ", the last" : "");
  if (!part->is_last) return;
  n->storing = *part->snapshot;
  n->is_storing = true;
}

static void lab_take(struct lab_node *n, const struct holt_raft_update *u) {
  static const char *ROLES[] = {"follower", "pre-candidate", "candidate", "leader"};
  n->deadline_ms = u->deadline_ms;
  if (u->term < n->term) lab_broken("the term of n%u goes back", (unsigned)n->id);
  if (u->commit < n->commit) lab_broken("the commit index of n%u goes back", (unsigned)n->id);
  bool is_elected = u->role == HOLT_RAFT_LEADER && (n->role != HOLT_RAFT_LEADER || n->term != u->term);
  if (u->role != n->role || u->term != n->term || u->leader != n->leader) {
    if (u->role == HOLT_RAFT_FOLLOWER && u->leader)
      lab_tell("n%u follows n%u in T%u", (unsigned)n->id, (unsigned)u->leader, (unsigned)u->term);
    else
      lab_tell("n%u is %s in T%u", (unsigned)n->id, ROLES[u->role], (unsigned)u->term);
  }
  uint64_t commit = n->commit;
  n->role = u->role;
  n->term = u->term;
  n->leader = u->leader;
  n->commit = u->commit;
  n->apply_to = u->apply_to;
  for (size_t i = 0; i < u->done_count; i++) lab_take_done(n, &u->done[i]);
  if (u->conf_changed && lab.trace) {
    words_add(lab.trace, "  n%u has members ", (unsigned)n->id);
    words_conf(lab.trace, holt_raft_conf(n->raft));
    words_add(lab.trace, "\n");
  }
  lab_take_persist(n, &u->persist);
  if (u->commit > commit) lab_tell("n%u commits %u", (unsigned)n->id, (unsigned)u->commit);
  lab_take_part(n, &u->part);
  for (size_t i = 0; i < u->out_count; i++) lab_take_output(n, &u->out[i]);
  if (u->fatal) lab_tell("n%u stops: %s", (unsigned)n->id, u->fatal);
  if (is_elected) lab_check_leader(n);
  lab_check_commit(n, commit, u->commit);
}

/* Steps once; without memory, an event of the member's own is repeated and a message is lost. */
static int lab_step(struct lab_node *n, struct holt_raft_event event) {
  struct holt_raft_update update;
  struct holt_raft_status before, after;
  event.now_ms = n->now_ms;
  holt_raft_status(n->raft, &before);
  int rc = holt_raft_step(n->raft, &event, &update);
  for (; rc == HOLT_ENOMEM; rc = holt_raft_step(n->raft, &event, &update)) {
    lab.out_of_memory++;
    holt_raft_status(n->raft, &after);
    if (update.out_count || update.done_count || update.persist.seq || after.last != before.last)
      lab_broken("a step without memory did something");
    if (event.type == HOLT_RAFT_EV_RECEIVE) return rc;
  }
  lab_take(n, &update);
  holt_raft_status(n->raft, &after);
  if (after.refused_messages > before.refused_messages) lab_tell("n%u refuses it", (unsigned)n->id);
  if (rc == HOLT_EINTERNAL) {
    n->is_up = false;
    return rc;
  }
  if (rc != 0) lab_tell("n%u says %s", (unsigned)n->id, holt_err_word(rc));
  return rc;
}

/* --- What a driver does ----------------------------------------------------------------------------------
 */

static void lab_release(struct lab_node *n, uint64_t seq) {
  for (size_t i = 0; i < n->held_count;) {
    if (n->held[i].after_seq > seq) {
      i++;
      continue;
    }
    struct lab_message m = n->held[i];
    lab_queue_remove(n->held, &n->held_count, i);
    m.after_seq = 0;
    lab_send(m);
  }
}

/* The first `count` persists reach the disk. */
static void lab_persist_silently(struct lab_node *n, size_t count) {
  for (size_t i = 0; i < count; i++) {
    lab_disk_write(&n->disk, &n->pending[i]);
    lab_disk_free(&n->pending[i]);
  }
  n->pending_count -= count;
  memmove(n->pending, n->pending + count, n->pending_count * sizeof n->pending[0]);
}

static __attribute__((unused)) bool lab_persist(struct lab_node *n, size_t count) {
  if (count > n->pending_count) count = n->pending_count;
  if (count == 0) return false;
  uint64_t seq = n->pending[count - 1].seq;
  lab_persist_silently(n, count);
  lab_tell("n%u has p%u on disk", (unsigned)n->id, (unsigned)seq);
  lab_release(n, seq);
  lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_PERSISTED, .seq = seq});
  return true;
}

static void lab_state_add(struct lab_node *n, const struct holt_raft_entry *e) {
  size_t len = strlen(n->state);
  if (e->type != HOLT_RAFT_COMMAND || len + e->len + 2 >= LAB_STATE) return;
  snprintf(n->state + len, LAB_STATE - len, "%s%.*s", len ? " " : "", (int)e->len, (const char *)e->data);
}

static __attribute__((unused)) bool lab_apply(struct lab_node *n) {
  if (!n->is_up || n->apply_to <= n->applied) return false;
  uint64_t from = n->applied + 1;
  for (; n->applied < n->apply_to; n->applied++) {
    const struct holt_raft_entry *e = holt_raft_entry_at(n->raft, n->applied + 1);
    HOLT_ASSERT(e);
    lab_state_add(n, e);
    char *known = lab.snapshots[e->index % LAB_LOG];
    if (lab.is_applied[e->index % LAB_LOG] && strcmp(known, n->state) != 0)
      lab_broken("n%u has another state at %u", (unsigned)n->id, (unsigned)e->index);
    strcpy(known, n->state);
    lab.is_applied[e->index % LAB_LOG] = true;
  }
  if (from == n->applied)
    lab_tell("n%u applies %u", (unsigned)n->id, (unsigned)from);
  else
    lab_tell("n%u applies %u to %u", (unsigned)n->id, (unsigned)from, (unsigned)n->applied);
  lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_APPLIED, .index = n->applied});
  return true;
}

static __attribute__((unused)) bool lab_store(struct lab_node *n, int code) {
  if (!n->is_storing) return false;
  n->is_storing = false;
  lab_tell("n%u %s snapshot %u", (unsigned)n->id, code ? "cannot restore" : "has restored",
           (unsigned)n->storing.index);
  if (code == 0) {
    strcpy(n->state, lab.snapshots[n->storing.index]);
    n->applied = n->apply_to = n->storing.index;
  }
  lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_STORED, .code = code});
  return true;
}

static __attribute__((unused)) int lab_take_snapshot(struct lab_node *n, uint64_t index) {
  struct holt_raft_snapshot snapshot;
  int rc = holt_raft_snapshot_at(n->raft, index, &snapshot);
  if (rc != 0) {
    lab_tell("n%u says %s", (unsigned)n->id, holt_err_word(rc));
    return rc;
  }
  snapshot.size_bytes = lab.snapshot_bytes;
  return lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_TAKEN, .snapshot = &snapshot});
}

/* Deliver the message at `at` of the network. */
static __attribute__((unused)) void lab_deliver(size_t at) {
  struct lab_message m = lab.net[at];
  lab_queue_remove(lab.net, &lab.net_count, at);
  struct lab_node *n = &lab.nodes[m.to];
  if (n->is_up) {
    struct holt_raft_message message = lab_decode(&m);
    if (lab.trace) {
      words_add(lab.trace, "  n%u < n%u ", (unsigned)m.to, (unsigned)m.from);
      words_message_short(lab.trace, &message);
      words_add(lab.trace, "\n");
    }
    lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_RECEIVE, .message = &message});
  }
  lab_message_free(&m);
}

/* Give the member `ms` and every deadline in it. */
static __attribute__((unused)) void lab_tick(struct lab_node *n, uint64_t ms) {
  uint64_t until = n->now_ms + ms;
  while (n->is_up && n->deadline_ms <= until) {
    if (n->deadline_ms > n->now_ms) n->now_ms = n->deadline_ms;
    uint64_t deadline = n->deadline_ms;
    lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_TIME});
    if (n->is_up && n->deadline_ms <= deadline && n->deadline_ms <= n->now_ms) {
      lab_broken("n%u has a deadline that does not move", (unsigned)n->id);
      break;
    }
  }
  n->now_ms = until;
}

/* --- Life ------------------------------------------------------------------------------------------------
 */

static __attribute__((unused)) int lab_start(struct lab_node *n) {
  struct holt_raft_restore restore = {.term = n->disk.term,
                                      .vote = n->disk.vote,
                                      .snapshot = n->disk.has_snapshot ? &n->disk.snapshot : NULL,
                                      .entries = n->disk.entries,
                                      .count = n->disk.count};
  n->options.seed = 7 + n->boots++;
  int rc = holt_raft_new(&n->options, &restore, n->now_ms, &n->raft);
  if (rc != 0) return rc;
  n->is_up = true;
  n->role = HOLT_RAFT_FOLLOWER;
  n->leader = 0;
  n->term = n->disk.term;
  n->commit = n->applied = n->apply_to = n->disk.snapshot.index;
  n->is_storing = false;
  strcpy(n->state, n->applied ? lab.snapshots[n->applied] : "");
  n->deadline_ms = n->now_ms + 2 * n->options.election_ms;
  /* A first look at the clock, to learn the deadline. */
  struct holt_raft_event look = {.type = HOLT_RAFT_EV_TIME, .now_ms = n->now_ms};
  struct holt_raft_update update;
  if (holt_raft_step(n->raft, &look, &update) == 0) n->deadline_ms = update.deadline_ms;
  return 0;
}

static __attribute__((unused)) void lab_crash(struct lab_node *n) {
  for (size_t i = 0; i < n->pending_count; i++) lab_disk_free(&n->pending[i]);
  for (size_t i = 0; i < n->held_count; i++) lab_message_free(&n->held[i]);
  n->pending_count = n->held_count = 0;
  n->is_up = n->is_storing = false;
  holt_raft_free(n->raft);
  n->raft = NULL;
}

static __attribute__((unused)) struct lab_node *lab_add(uint64_t id,
                                                        const struct holt_raft_options *options) {
  struct lab_node *n = &lab.nodes[id];
  if (n->exists) { /* admitted anew, with nothing */
    lab_crash(n);
    lab_disk_free(&n->disk);
  }
  memset(n, 0, sizeof *n);
  n->id = id;
  n->exists = true;
  n->options = *options;
  n->options.self = id;
  return n;
}

static __attribute__((unused)) void lab_close(void) {
  for (unsigned id = 1; id <= LAB_NODES; id++) {
    struct lab_node *n = &lab.nodes[id];
    if (!n->exists) continue;
    lab_crash(n);
    lab_disk_free(&n->disk);
  }
  for (size_t i = 0; i < lab.net_count; i++) lab_message_free(&lab.net[i]);
  struct words *trace = lab.trace;
  memset(&lab, 0, sizeof lab);
  lab.trace = trace;
  lab.snapshot_bytes = 20;
}

/* --- Everything at once ----------------------------------------------------------------------------------
 */

/* Write, apply, restore and deliver among `who` (by id; NULL: all) until nothing moves. False: no end. */
static __attribute__((unused)) bool lab_stabilize(const bool *who) {
  for (int round = 0; round < 400; round++) {
    bool moved = false;
    for (unsigned id = 1; id <= LAB_NODES; id++) {
      struct lab_node *n = &lab.nodes[id];
      if (!n->is_up || (who && !who[id])) continue;
      moved |= lab_persist(n, n->pending_count);
      moved |= lab_store(n, 0);
      moved |= lab_apply(n);
    }
    size_t count = lab.net_count;
    for (size_t i = 0, at = 0; i < count; i++) {
      const struct lab_message *m = &lab.net[at];
      if (m->is_parked || (who && (!who[m->from] || !who[m->to]))) {
        at++;
        continue;
      }
      lab_deliver(at);
      moved = true;
    }
    if (!moved) return true;
  }
  return false;
}

#endif /* HOLT_UNIT_RAFT_LAB_H */
