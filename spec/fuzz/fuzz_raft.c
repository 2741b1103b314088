/* A member of raft/ that hears whatever the bytes say, in every role: it refuses or takes it, never crashes,
 * and stops only for one of the broken invariants that are documented.
 *
 * The first byte chooses who it is; then commands follow, one byte each and what they need. Messages come
 * as raw bytes for the decoder, or field by field so that they get past it. */
#include "base/assert.h"
#include "raft/raft.h"

#include <stdlib.h>

enum { ENTRIES_MAX = 64 };

static struct holt_raft *raft;
static uint64_t now_ms, apply_to, applied, seq, commit;
static bool is_storing, is_over;

static const char *const KNOWN[] = {
    "two leaders in one term",
    "a leader has another entry in place of a committed one",
    "a leader sent other entries in place of committed ones",
};

static void check(const struct holt_raft_update *u) {
  struct holt_raft_status s;
  holt_raft_status(raft, &s);
  HOLT_ASSERT(u->commit >= commit);
  HOLT_ASSERT(s.commit <= s.last);
  HOLT_ASSERT(s.stable <= s.last);
  HOLT_ASSERT(s.applied <= s.commit);
  HOLT_ASSERT(u->apply_to <= s.commit);
  HOLT_ASSERT(s.first <= s.last + 1);
  commit = u->commit;
}

static void send_all(const struct holt_raft_update *u) {
  static uint8_t zeros[4096];
  for (size_t i = 0; i < u->out_count; i++) {
    struct holt_raft_message m = u->out[i].message;
    struct holt_writer w = {0};
    HOLT_ASSERT(m.from == 1 && m.to != 1);
    HOLT_ASSERT(u->out[i].after_seq <= seq);
    if (m.type == HOLT_RAFT_SNAPSHOT) m.data = zeros;
    HOLT_ASSERT(m.len <= sizeof zeros);
    holt_raft_message_encode(&w, &m);
    holt_writer_free(&w);
  }
}

static void step(struct holt_raft_event event) {
  struct holt_raft_update u;
  event.now_ms = now_ms;
  int rc = holt_raft_step(raft, &event, &u);
  HOLT_ASSERT(rc == 0 || rc == HOLT_EINVAL || rc == HOLT_EINTERNAL);
  if (rc == HOLT_EINTERNAL) {
    bool is_known = false;
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++)
      if (u.fatal && strcmp(u.fatal, KNOWN[i]) == 0) is_known = true;
    HOLT_ASSERT(is_known);
    is_over = true;
    return;
  }
  if (u.persist.seq) {
    HOLT_ASSERT(u.persist.seq == seq + 1);
    seq = u.persist.seq;
  }
  apply_to = u.apply_to;
  if (u.part.snapshot && u.part.is_last) is_storing = true;
  check(&u);
  send_all(&u);
}

/* --- Who it is -------------------------------------------------------------------------------------------
 */

static void receive(struct holt_raft_message m) {
  step((struct holt_raft_event){.type = HOLT_RAFT_EV_RECEIVE, .message = &m});
}

static void begin_with(unsigned role) {
  struct holt_raft_options o;
  struct holt_raft_conf conf = {.count = role & 8 ? 1 : 3};
  holt_raft_options_default(&o);
  o.self = o.cluster = 1;
  o.election_ms = 100;
  o.heartbeat_ms = 20;
  o.append_bytes = 16;
  o.chunk_bytes = 16;
  o.inflight_messages = 3;
  o.uncommitted_bytes = 100;
  o.reads_max = 4;
  o.keep_entries = role & 16 ? 2 : 0;
  o.lease_reads = role & 32;
  now_ms = apply_to = applied = seq = commit = 0;
  is_storing = is_over = false;
  HOLT_ASSERT(holt_raft_new(&o, NULL, 0, &raft) == 0);
  for (uint32_t i = 0; i < conf.count; i++)
    conf.members[i] = (struct holt_raft_member){.id = i + 1, .role = HOLT_RAFT_VOTER, .can_lead = true};
  if (role & 7) step((struct holt_raft_event){.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = &conf});
  if ((role & 7) < 2) return;
  now_ms = 1000;
  step((struct holt_raft_event){.type = HOLT_RAFT_EV_TIME}); /* asks, or leads alone */
  if ((role & 7) < 3) return;
  receive((struct holt_raft_message){
      .type = HOLT_RAFT_VOTE_REPLY, .cluster = 1, .from = 2, .to = 1, .term = 2, .flags = HOLT_RAFT_PRE});
  if ((role & 7) < 4) return;
  receive(
      (struct holt_raft_message){.type = HOLT_RAFT_VOTE_REPLY, .cluster = 1, .from = 2, .to = 1, .term = 2});
  step((struct holt_raft_event){.type = HOLT_RAFT_EV_PERSISTED, .seq = seq});
  if ((role & 7) < 5) return;
  receive((struct holt_raft_message){
      .type = HOLT_RAFT_APPEND_REPLY, .cluster = 1, .from = 2, .to = 1, .term = 2, .index = 2, .epoch = 1});
}

/* --- What it hears ---------------------------------------------------------------------------------------
 */

static uint8_t byte(struct holt_reader *in) {
  return holt_read_u8(in);
}

/* Mostly small, sometimes at an edge. */
static uint64_t number(struct holt_reader *in) {
  uint8_t b = byte(in);
  static const uint64_t EDGES[] = {UINT64_MAX,     UINT64_MAX - 1, UINT64_MAX / 2, UINT64_MAX / 2 + 1,
                                   UINT64_MAX / 4, UINT32_MAX,     1u << 31,       1000};
  return b < 248 ? b : EDGES[b - 248];
}

static void hear_bytes(struct holt_reader *in) {
  static struct holt_raft_entry entries[ENTRIES_MAX];
  static struct holt_raft_snapshot snapshot;
  struct holt_raft_message m;
  struct holt_buf bytes = holt_read_bytes(in, holt_read_u16(in));
  if (in->failed) return;
  if (holt_raft_message_decode(bytes, &m, entries, ENTRIES_MAX, &snapshot) != 0) return;
  struct holt_writer w = {0};
  holt_raft_message_encode(&w, &m);
  HOLT_ASSERT(w.len == bytes.len && memcmp(w.data, bytes.data, w.len) == 0);
  holt_writer_free(&w);
  receive(m);
}

static void hear_conf(struct holt_reader *in, struct holt_raft_conf *conf) {
  memset(conf, 0, sizeof *conf);
  conf->count = 1 + byte(in) % 5;
  conf->is_joint = byte(in) & 1;
  for (uint32_t i = 0; i < conf->count; i++)
    conf->members[i] = (struct holt_raft_member){.id = i + 1 + (byte(in) & 1) * 5,
                                                 .since = byte(in) & 7,
                                                 .role = (uint8_t)(1 + byte(in) % (conf->is_joint ? 5 : 2)),
                                                 .can_lead = byte(in) & 1,
                                                 .will_vote = byte(in) & 1};
}

static void hear_fields(struct holt_reader *in) {
  static struct holt_raft_entry entries[8];
  static uint8_t confs[8][HOLT_RAFT_CONF_BYTES], data[64];
  static struct holt_raft_snapshot snapshot;
  struct holt_raft_message m = {.cluster = 1, .to = 1, .entries = entries, .data = data};
  m.type = (uint8_t)(1 + byte(in) % (HOLT_RAFT_MESSAGE_TYPES - 1));
  m.flags = byte(in) & 7;
  m.from = 2 + byte(in) % 3;
  m.term = number(in);
  m.index = number(in);
  m.log_term = number(in);
  m.commit = number(in);
  m.round = number(in);
  m.epoch = number(in);
  m.hint = number(in);
  m.hint_term = number(in);
  m.tag = number(in);
  m.offset = number(in);
  m.code = -(int32_t)(byte(in) % 50);
  if (m.type == HOLT_RAFT_APPEND || m.type == HOLT_RAFT_FORWARD) m.count = byte(in) % 8;
  for (uint32_t i = 0; i < m.count; i++) {
    struct holt_raft_conf conf;
    entries[i] = (struct holt_raft_entry){.index = m.index + 1 + i, .term = number(in), .data = data};
    entries[i].type = (uint8_t)(1 + byte(in) % 3);
    entries[i].len = byte(in) % sizeof data;
    if (entries[i].type != HOLT_RAFT_CONF) continue;
    hear_conf(in, &conf);
    entries[i].data = confs[i];
    entries[i].len = (uint32_t)holt_raft_conf_encode(confs[i], &conf);
  }
  if (m.type == HOLT_RAFT_SNAPSHOT) {
    snapshot = (struct holt_raft_snapshot){.index = m.index, .term = m.log_term, .size_bytes = number(in)};
    snapshot.conf_index = number(in);
    hear_conf(in, &snapshot.conf);
    m.snapshot = &snapshot;
    m.len = byte(in) % sizeof data;
  }
  if (!in->failed) receive(m);
}

/* --- What its own side does -------------------------------------------------------------------------------
 */

static void do_one(struct holt_reader *in) {
  struct holt_raft_entry entry = {.type = HOLT_RAFT_COMMAND, .data = (const uint8_t *)"value", .len = 5};
  struct holt_raft_change change = {.can_lead = true};
  struct holt_raft_snapshot snapshot;
  switch (byte(in) % 16) {
  case 0:
    hear_bytes(in);
    break;
  case 1:
  case 2:
  case 3:
    hear_fields(in);
    break;
  case 4:
    now_ms += byte(in);
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_TIME});
    break;
  case 5:
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_PERSISTED, .seq = seq});
    break;
  case 6:
    if (apply_to > applied) applied = apply_to;
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_APPLIED, .index = applied});
    break;
  case 7: {
    bool fails = byte(in) & 1;
    if (!is_storing) break;
    is_storing = false;
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_STORED, .code = fails ? HOLT_EIO : 0});
    if (commit > applied && !fails) applied = commit;
    break;
  }
  case 8:
    step((struct holt_raft_event){
        .type = HOLT_RAFT_EV_PROPOSE, .entries = &entry, .count = 1, .tag = byte(in)});
    break;
  case 9:
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_READ, .tag = byte(in)});
    break;
  case 10:
    change.type = byte(in) % 7;
    change.id = byte(in) % 8;
    change.replaces = byte(in) % 8;
    change.priority = byte(in) % 12;
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_CHANGE, .changes = &change, .count = 1, .tag = 7});
    break;
  case 11:
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_TRANSFER, .id = byte(in) % 5});
    break;
  case 12:
    if (holt_raft_snapshot_at(raft, applied, &snapshot) != 0) break;
    snapshot.size_bytes = byte(in);
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_TAKEN, .snapshot = &snapshot});
    break;
  case 13:
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_UNREACHABLE, .id = byte(in) % 5});
    break;
  case 14:
    step((struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_GONE, .id = byte(in) % 5});
    break;
  default:
    step((struct holt_raft_event){.type =
                                      byte(in) == 255 ? HOLT_RAFT_EV_DISK_FAILED : HOLT_RAFT_EV_STEP_DOWN});
    break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct holt_reader in = holt_reader(holt_buf(data, size));
  begin_with(holt_read_u8(&in));
  while (!is_over && !in.failed && holt_reader_left(&in) > 0) do_one(&in);
  (void)holt_raft_hash(raft);
  holt_raft_free(raft);
  return 0;
}
