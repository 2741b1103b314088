/* raft_fsm_sim.c - the state machine of a simulated member: a map, a queue and the table of sessions.
 *
 * A command is 25 bytes: what (enum holt_history_kind or rsim_command), key, value, expected. Its hash is
 * kept up with each change, so that two members can be compared after every entry. */
#include <stdlib.h>

#include "base/err.h"
#include "sim/raft_sim_impl.h"

void holt__rsim_fsm_init(struct rsim_fsm *fsm) {
  *fsm = (struct rsim_fsm){0};
  for (int i = 0; i < RSIM_KEYS; i++) fsm->values[i] = HOLT_HISTORY_ABSENT;
}

void holt__rsim_fsm_free(struct rsim_fsm *fsm) {
  holt_sessions_free(&fsm->sessions);
  free(fsm->queue);
  holt__rsim_fsm_init(fsm);
}

static uint64_t cell_hash(uint64_t place, uint64_t value) {
  return value == HOLT_HISTORY_ABSENT ? 0 : holt_hash_u64(holt_hash_u64(place) ^ value);
}

static void set(struct rsim_fsm *fsm, uint64_t key, uint64_t value) {
  fsm->value_hash += cell_hash(key, value) - cell_hash(key, fsm->values[key]);
  fsm->values[key] = value;
}

static void push(struct rsim_fsm *fsm, uint64_t value) {
  if (fsm->queue_head + fsm->queue_count == fsm->queue_cap) {
    if (fsm->queue_head > fsm->queue_cap / 2) {
      memmove(fsm->queue, fsm->queue + fsm->queue_head, fsm->queue_count * sizeof *fsm->queue);
      fsm->queue_head = 0;
    } else {
      fsm->queue_cap = fsm->queue_cap == 0 ? 16 : fsm->queue_cap * 2;
      fsm->queue = holt_realloc(fsm->queue, fsm->queue_cap * sizeof *fsm->queue);
    }
  }
  fsm->queue[fsm->queue_head + fsm->queue_count++] = value;
  fsm->queue_hash += cell_hash(1000 + fsm->pushed++, value);
}

static uint64_t pop(struct rsim_fsm *fsm) {
  if (fsm->queue_count == 0) return HOLT_HISTORY_ABSENT;
  uint64_t value = fsm->queue[fsm->queue_head++];
  fsm->queue_count--;
  fsm->queue_hash -= cell_hash(1000 + fsm->popped++, value);
  return value;
}

/* The answer is what was found, as sim/history.h wants it. */
static uint64_t perform(struct rsim_fsm *fsm, uint8_t kind, uint64_t key, uint64_t value, uint64_t expected) {
  if (kind == HOLT_HISTORY_PUSH) {
    push(fsm, value);
    return 0;
  }
  if (kind == HOLT_HISTORY_POP) return pop(fsm);
  uint64_t found = fsm->values[key];
  switch (kind) {
  case HOLT_HISTORY_SET:
    set(fsm, key, value);
    break;
  case HOLT_HISTORY_INSERT:
    if (found == HOLT_HISTORY_ABSENT) set(fsm, key, value);
    break;
  case HOLT_HISTORY_UPDATE_IF:
    if (found == expected) set(fsm, key, value);
    break;
  case HOLT_HISTORY_REMOVE:
    set(fsm, key, HOLT_HISTORY_ABSENT);
    break;
  case HOLT_HISTORY_REMOVE_IF:
    if (found == expected) set(fsm, key, HOLT_HISTORY_ABSENT);
    break;
  default:
    break;
  }
  return found;
}

static struct rsim_result once(struct rsim *w, struct rsim_fsm *fsm, const struct holt_raft_entry *entry) {
  struct holt_buf before;
  switch (holt_sessions_begin(&fsm->sessions, entry->client, entry->seq, entry->low, &before)) {
  case HOLT_SESSION_DUPLICATE:
    return (struct rsim_result){.value = holt_get_u64(before.data)};
  case HOLT_SESSION_FORGOTTEN:
    return (struct rsim_result){.code = HOLT_ECANCELED};
  case HOLT_SESSION_UNKNOWN:
    return (struct rsim_result){.code = HOLT_ENOTFOUND};
  case HOLT_SESSION_TOO_FAR:
    return (struct rsim_result){.code = HOLT_EFULL};
  case HOLT_SESSION_NEW:
    break;
  }
  const uint8_t *at = entry->data;
  uint64_t value =
      perform(fsm, at[0], holt_get_u64(at + 1) % RSIM_KEYS, holt_get_u64(at + 9), holt_get_u64(at + 17));
  uint64_t key = holt_hash_u64(entry->client) ^ entry->seq;
  uintptr_t index = (uintptr_t)holt_map_get(&w->effects, key);
  if (index == 0) {
    holt_map_set(&w->effects, key, (void *)(uintptr_t)entry->index);
    if (w->refused.count > 0 && holt_map_get(&w->refused, key) != NULL)
      holt__rsim_fail(w, "definite_refusal",
                      "operation %llu of client %llu was applied after it was told as failed",
                      (unsigned long long)entry->seq, (unsigned long long)entry->client);
    holt_map_set(&w->outcomes, key, (void *)(uintptr_t)(value + 2)); /* absent is UINT64_MAX: it becomes 1 */
  } else if (index != entry->index) {
    holt__rsim_fail(w, "exactly_once", "operation %llu of client %llu was applied at %llu and again at %llu",
                    (unsigned long long)entry->seq, (unsigned long long)entry->client,
                    (unsigned long long)index, (unsigned long long)entry->index);
  } else if ((uintptr_t)holt_map_get(&w->outcomes, key) != (uintptr_t)(value + 2)) {
    holt__rsim_fail(w, "one_result", "operation %llu of client %llu answered differently at two members",
                    (unsigned long long)entry->seq, (unsigned long long)entry->client);
  }
  uint8_t bytes[8];
  holt_put_u64(bytes, value);
  holt_sessions_end(&fsm->sessions, entry->client, entry->seq, holt_buf(bytes, sizeof bytes));
  return (struct rsim_result){.value = value};
}

/* A session is numbered and, in its last byte, says whose it is: a late request opens none that was closed,
 * as the cluster's own sessions go by the boots of their members. */
static uint64_t *closed_of(struct rsim_fsm *fsm, const struct holt_raft_entry *entry) {
  return &fsm->closed[(entry->client & 0xff) % RSIM_CLIENTS];
}

struct rsim_result holt__rsim_fsm_apply(struct rsim *w, struct rsim_fsm *fsm,
                                        const struct holt_raft_entry *entry) {
  fsm->index = entry->index;
  fsm->chain = holt_hash_u64(fsm->chain ^ (entry->index << 20) ^ entry->term);
  if (entry->type != HOLT_RAFT_COMMAND || entry->len < RSIM_COMMAND_BYTES) return (struct rsim_result){0};
  switch (entry->data[0]) {
  case RSIM_OPEN:
    if (entry->client > *closed_of(fsm, entry)) holt_sessions_open(&fsm->sessions, entry->client);
    return (struct rsim_result){0};
  case RSIM_CLOSE:
    holt_sessions_close(&fsm->sessions, entry->client);
    if (entry->client > *closed_of(fsm, entry)) *closed_of(fsm, entry) = entry->client;
    return (struct rsim_result){0};
  case RSIM_NOISE:
    return (struct rsim_result){0};
  default:
    return once(w, fsm, entry);
  }
}

uint64_t holt__rsim_fsm_hash(const struct rsim_fsm *fsm) {
  uint64_t hash = fsm->chain + fsm->value_hash + fsm->queue_hash * 3 + fsm->sessions.hash * 5;
  return holt_hash_u64(hash ^ fsm->popped ^ fsm->pushed << 32) | 1;
}

/* The bytes of a snapshot differ from member to member, as in life, though their number does not: so pieces
 * of two members make no whole. */
static void disguise(uint8_t *bytes, size_t len, uint64_t salt) {
  for (size_t i = 0; i < len; i++) bytes[i] ^= (uint8_t)(holt_hash_u64(salt + i / 8) >> (i % 8 * 8));
}

void holt__rsim_fsm_save(const struct rsim_fsm *fsm, uint64_t salt, struct holt_writer *out) {
  holt_write_u64(out, salt);
  holt_write_u64(out, fsm->index);
  holt_write_u64(out, fsm->chain);
  for (int i = 0; i < RSIM_KEYS; i++) holt_write_u64(out, fsm->values[i]);
  holt_write_u64(out, fsm->popped);
  holt_write_u64(out, fsm->queue_count);
  for (size_t i = 0; i < fsm->queue_count; i++) holt_write_u64(out, fsm->queue[fsm->queue_head + i]);
  for (int i = 0; i < RSIM_CLIENTS; i++) holt_write_u64(out, fsm->closed[i]);
  struct holt_sessions none = {0};
  holt_sessions_encode(HOLT_BUG(36) ? &none : &fsm->sessions, out);
  disguise(out->data + 8, out->len - 8, salt);
  holt_write_u64(out, holt_hash_bytes(0, out->data, out->len));
}

static int load(struct rsim_fsm *fsm, struct holt_reader in) {
  fsm->index = holt_read_u64(&in);
  fsm->chain = holt_read_u64(&in);
  for (uint64_t i = 0; i < RSIM_KEYS; i++) set(fsm, i, holt_read_u64(&in));
  fsm->popped = fsm->pushed = holt_read_u64(&in);
  uint64_t count = holt_read_u64(&in);
  for (uint64_t i = 0; i < count && !in.failed; i++) push(fsm, holt_read_u64(&in));
  for (int i = 0; i < RSIM_CLIENTS; i++) fsm->closed[i] = holt_read_u64(&in);
  int rc = holt_sessions_decode(&fsm->sessions, &in);
  return rc != 0 || in.failed || holt_reader_left(&in) != 0 ? HOLT_EPROTOCOL : 0;
}

int holt__rsim_fsm_load(struct rsim_fsm *fsm, struct holt_buf bytes) {
  holt__rsim_fsm_free(fsm);
  if (bytes.len < 16 ||
      holt_get_u64(bytes.data + bytes.len - 8) != holt_hash_bytes(0, bytes.data, bytes.len - 8))
    return HOLT_EPROTOCOL;
  size_t len = bytes.len - 16;
  uint8_t *plain = holt_alloc(len + 1);
  memcpy(plain, bytes.data + 8, len);
  disguise(plain, len, holt_get_u64(bytes.data));
  int rc = load(fsm, holt_reader(holt_buf(plain, len)));
  free(plain);
  return rc;
}
