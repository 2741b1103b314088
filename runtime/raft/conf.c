/* conf.c - membership: its bytes, its halves, their majorities (thesis 4.3, joint consensus). */
#include <string.h>

#include "raft/raft_impl.h"

/* --- Bytes --------------------------------------------------------------------------------------------- */

enum { MEMBER_BYTES = 28 };

size_t holt_raft_conf_encode(uint8_t out[HOLT_RAFT_CONF_BYTES], const struct holt_raft_conf *conf) {
  HOLT_ASSERT(conf->count <= HOLT_RAFT_MEMBERS_MAX);
  uint8_t *at = out;
  *at++ = (uint8_t)conf->count;
  *at++ = conf->is_joint;
  for (uint32_t i = 0; i < conf->count; i++, at += MEMBER_BYTES) {
    const struct holt_raft_member *m = &conf->members[i];
    holt_put_u64(at, m->id);
    holt_put_u64(at + 8, m->since);
    holt_put_u64(at + 16, m->replaces);
    at[24] = m->role;
    at[25] = m->priority;
    at[26] = m->can_lead;
    at[27] = m->will_vote;
  }
  return (size_t)(at - out);
}

static bool is_sound(const struct holt_raft_conf *conf) {
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt_raft_member *m = &conf->members[i];
    if (m->id == 0 || m->role < HOLT_RAFT_VOTER || m->role > HOLT_RAFT_DEMOTED || m->priority > 10)
      return false;
    if (m->role > HOLT_RAFT_LEARNER && !conf->is_joint) return false;
    for (uint32_t j = 0; j < i; j++)
      if (conf->members[j].id == m->id) return false;
  }
  return true;
}

int holt_raft_conf_decode(struct holt_buf bytes, struct holt_raft_conf *conf) {
  struct holt_reader in = holt_reader(bytes);
  memset(conf, 0, sizeof *conf);
  conf->count = holt_read_u8(&in);
  uint8_t is_joint = holt_read_u8(&in);
  conf->is_joint = is_joint;
  if (in.failed || conf->count > HOLT_RAFT_MEMBERS_MAX || is_joint > 1) return HOLT_EPROTOCOL;
  if (holt_reader_left(&in) != (size_t)conf->count * MEMBER_BYTES) return HOLT_EPROTOCOL;
  for (uint32_t i = 0; i < conf->count; i++) {
    struct holt_raft_member *m = &conf->members[i];
    m->id = holt_read_u64(&in);
    m->since = holt_read_u64(&in);
    m->replaces = holt_read_u64(&in);
    m->role = holt_read_u8(&in);
    m->priority = holt_read_u8(&in);
    uint8_t can_lead = holt_read_u8(&in), will_vote = holt_read_u8(&in);
    if (can_lead > 1 || will_vote > 1) return HOLT_EPROTOCOL;
    m->can_lead = can_lead;
    m->will_vote = will_vote;
  }
  return is_sound(conf) ? 0 : HOLT_EPROTOCOL;
}

/* --- Halves and majorities ----------------------------------------------------------------------------- */

int holt__raft_conf_find(const struct holt_raft_conf *conf, uint64_t id) {
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].id == id) return (int)i;
  return -1;
}

bool holt__raft_member_votes(const struct holt_raft_conf *conf, int place) {
  return place >= 0 && conf->members[place].role != HOLT_RAFT_LEARNER;
}

/* Members of one half, as bits by place. Without a joint membership both halves are the same. */
static uint32_t half(const struct holt_raft_conf *conf, bool is_new) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < conf->count; i++) {
    uint8_t role = conf->members[i].role;
    bool counts =
        role == HOLT_RAFT_VOTER ||
        (is_new ? role == HOLT_RAFT_INCOMING : role == HOLT_RAFT_OUTGOING || role == HOLT_RAFT_DEMOTED);
    if (counts) bits |= 1u << i;
  }
  return bits;
}

static uint32_t count_bits(uint32_t bits) {
  return (uint32_t)__builtin_popcount(bits);
}

static bool is_majority(uint32_t of, uint32_t bits) {
  return count_bits(of & bits) > count_bits(of) / 2;
}

bool holt__raft_conf_majority(const struct holt_raft_conf *conf, uint32_t bits) {
  if (!is_majority(half(conf, true), bits)) return false;
  return HOLT_BUG(123) || is_majority(half(conf, false), bits);
}

bool holt__raft_conf_blocked(const struct holt_raft_conf *conf, uint32_t bits) {
  return !holt__raft_conf_majority(conf, ~bits);
}

/* The greatest number that a majority of `bits` has reached: the middle of the sorted ones. */
static uint64_t reached_by(uint32_t bits, const uint64_t *values) {
  uint64_t sorted[HOLT_RAFT_MEMBERS_MAX];
  uint32_t count = 0;
  for (uint32_t i = 0; i < HOLT_RAFT_MEMBERS_MAX; i++) {
    if (!(bits >> i & 1)) continue;
    uint32_t at = count++;
    for (; at > 0 && sorted[at - 1] < values[i]; at--) sorted[at] = sorted[at - 1];
    sorted[at] = values[i];
  }
  return count ? sorted[count / 2] : 0;
}

uint64_t holt__raft_conf_reached(const struct holt_raft_conf *conf, const uint64_t *values) {
  uint64_t reached = reached_by(half(conf, true), values);
  if (!conf->is_joint || HOLT_BUG(123)) return reached;
  uint64_t old = reached_by(half(conf, false), values);
  return old < reached ? old : reached;
}

bool holt_raft_can_be_led(const struct holt_raft_conf *conf) {
  uint32_t voters = half(conf, true), leading = 0;
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].can_lead) leading |= 1u << i;
  return voters != 0 && !is_majority(voters, ~leading);
}

/* --- In force ------------------------------------------------------------------------------------------ */

void holt__raft_conf_at(const struct holt_raft *r, uint64_t index, struct holt_raft_conf *conf,
                        uint64_t *conf_index) {
  for (uint64_t i = index; i > r->log.base_index; i--) {
    const struct holt_raft_entry *entry = holt__raft_log_at(r, i);
    if (!entry || entry->type != HOLT_RAFT_CONF) continue;
    if (holt_raft_conf_decode(holt_buf(entry->data, entry->len), conf) != 0) continue; /* checked on append */
    *conf_index = i;
    return;
  }
  *conf = r->snapshot.conf;
  *conf_index = r->snapshot.conf_index;
}

void holt__raft_conf_refresh(struct holt_raft *r) {
  holt__raft_conf_at(r, holt__raft_log_last(r), &r->conf, &r->conf_index);
  r->conf_changed = true;
  if (r->role == HOLT_RAFT_LEADER) holt__raft_progress_refresh(r);
}

const struct holt_raft_conf *holt_raft_conf(const struct holt_raft *r) {
  return &r->conf;
}
