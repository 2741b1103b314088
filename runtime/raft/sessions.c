/* sessions.c - the table of clients: each holds its answers in the order of their numbers. */
#include "raft/sessions.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rand.h"
#include "raft/bug.h"

struct answer {
  uint64_t seq;
  uint32_t len;
  uint8_t *data; /* ours */
};

struct holt__session {
  uint64_t id, low;
  struct answer *answers; /* by seq, all at or above low; answers[head] is the first */
  size_t head, count, cap;
};

static uint64_t client_hash(uint64_t id, uint64_t low) {
  return holt_hash_u64(holt_hash_u64(id) + low);
}

static uint64_t answer_hash(uint64_t id, const struct answer *a) {
  uint64_t key[2] = {id, a->seq};
  return holt_hash_bytes(holt_hash_bytes(1, key, sizeof key), a->data, a->len);
}

static void session_free(struct holt__session *session) {
  for (size_t i = 0; i < session->count; i++) free(session->answers[session->head + i].data);
  free(session->answers);
  free(session);
}

void holt_sessions_free(struct holt_sessions *sessions) {
  size_t cursor = 0;
  uint64_t id;
  void *value;
  while (holt_map_next(&sessions->clients, &cursor, &id, &value)) session_free(value);
  holt_map_free(&sessions->clients);
  *sessions = (struct holt_sessions){0};
}

static struct holt__session *session_new(struct holt_sessions *sessions, uint64_t client, uint64_t low) {
  struct holt__session *session = holt_alloc(sizeof *session);
  session->id = client;
  session->low = low;
  holt_map_set(&sessions->clients, client, session);
  sessions->hash += client_hash(client, low);
  return session;
}

bool holt_sessions_open(struct holt_sessions *sessions, uint64_t client) {
  HOLT_ASSERT(client != 0);
  if (holt_map_get(&sessions->clients, client) != NULL) return false;
  session_new(sessions, client, 1);
  return true;
}

bool holt_sessions_has(const struct holt_sessions *sessions, uint64_t client) {
  return holt_map_get(&sessions->clients, client) != NULL;
}

size_t holt_sessions_count(const struct holt_sessions *sessions) {
  return sessions->clients.count;
}

static void forget_below(struct holt_sessions *sessions, struct holt__session *session, uint64_t low) {
  sessions->hash += client_hash(session->id, low) - client_hash(session->id, session->low);
  session->low = low;
  while (session->count > 0 && session->answers[session->head].seq < low) {
    struct answer *first = &session->answers[session->head];
    sessions->hash -= answer_hash(session->id, first);
    free(first->data);
    session->head++;
    session->count--;
  }
}

bool holt_sessions_close(struct holt_sessions *sessions, uint64_t client) {
  struct holt__session *session = holt_map_remove(&sessions->clients, client);
  if (session == NULL) return false;
  forget_below(sessions, session, UINT64_MAX);
  sessions->hash -= client_hash(client, session->low);
  session_free(session);
  return true;
}

/* The place of `seq`, or where it belongs; looked for from the end, where it nearly always is. */
static size_t place_of(const struct holt__session *session, uint64_t seq) {
  size_t at = session->count;
  while (at > 0 && session->answers[session->head + at - 1].seq >= seq) at--;
  return at;
}

enum holt_session_verdict holt_sessions_begin(struct holt_sessions *sessions, uint64_t client, uint64_t seq,
                                              uint64_t low, struct holt_buf *result) {
  struct holt__session *session = holt_map_get(&sessions->clients, client);
  if (session == NULL && HOLT_BUG(136)) session = session_new(sessions, client, 1);
  if (session == NULL) return HOLT_SESSION_UNKNOWN;
  if (low > session->low && low <= seq) forget_below(sessions, session, low);
  if (seq < session->low && !HOLT_BUG(236)) return HOLT_SESSION_FORGOTTEN;
  if (seq - session->low >= HOLT_SESSION_WINDOW && seq >= session->low) return HOLT_SESSION_TOO_FAR;
  size_t at = place_of(session, seq);
  if (at == session->count || session->answers[session->head + at].seq != seq) return HOLT_SESSION_NEW;
  struct answer *found = &session->answers[session->head + at];
  *result = holt_buf(found->data, found->len);
  return HOLT_BUG(135) ? HOLT_SESSION_NEW : HOLT_SESSION_DUPLICATE;
}

static void make_room(struct holt__session *session) {
  if (session->head + session->count < session->cap) return;
  if (session->head > session->cap / 2) {
    memmove(session->answers, session->answers + session->head, session->count * sizeof *session->answers);
    session->head = 0;
    return;
  }
  session->cap = session->cap == 0 ? 4 : session->cap * 2;
  session->answers = holt_realloc(session->answers, session->cap * sizeof *session->answers);
}

void holt_sessions_end(struct holt_sessions *sessions, uint64_t client, uint64_t seq,
                       struct holt_buf result) {
  HOLT_ASSERT(result.len <= HOLT_SESSION_RESULT_MAX);
  struct holt__session *session = holt_map_get(&sessions->clients, client);
  HOLT_ASSERT(session != NULL);
  make_room(session);
  size_t at = place_of(session, seq);
  struct answer *slot = &session->answers[session->head + at];
  memmove(slot + 1, slot, (session->count - at) * sizeof *slot);
  *slot =
      (struct answer){.seq = seq, .len = (uint32_t)result.len, .data = holt_realloc(NULL, result.len + 1)};
  if (result.len > 0) memcpy(slot->data, result.data, result.len);
  session->count++;
  sessions->hash += answer_hash(client, slot);
}

static int by_id(const void *left, const void *right) {
  uint64_t a = (*(struct holt__session *const *)left)->id, b = (*(struct holt__session *const *)right)->id;
  return a < b ? -1 : a > b;
}

void holt_sessions_encode(const struct holt_sessions *sessions, struct holt_writer *out) {
  size_t count = sessions->clients.count, cursor = 0, filled = 0;
  struct holt__session **sorted = holt_alloc((count + 1) * sizeof *sorted);
  uint64_t id;
  void *value;
  while (holt_map_next(&sessions->clients, &cursor, &id, &value)) sorted[filled++] = value;
  qsort(sorted, filled, sizeof(struct holt__session *), by_id);
  holt_write_u32(out, (uint32_t)filled);
  for (size_t i = 0; i < filled; i++) {
    const struct holt__session *session = sorted[i];
    holt_write_u64(out, session->id);
    holt_write_u64(out, session->low);
    holt_write_u32(out, (uint32_t)session->count);
    for (size_t k = 0; k < session->count; k++) {
      const struct answer *a = &session->answers[session->head + k];
      holt_write_u64(out, a->seq);
      holt_write_u32(out, a->len);
      holt_write_bytes(out, a->data, a->len);
    }
  }
  free(sorted);
}

static int decode_client(struct holt_sessions *sessions, struct holt_reader *in) {
  uint64_t id = holt_read_u64(in), low = holt_read_u64(in);
  uint32_t count = holt_read_u32(in);
  if (in->failed || id == 0 || low == 0 || count > HOLT_SESSION_WINDOW) return HOLT_EPROTOCOL;
  if (holt_map_get(&sessions->clients, id) != NULL) return HOLT_EPROTOCOL;
  session_new(sessions, id, low);
  uint64_t last = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t seq = holt_read_u64(in);
    uint32_t len = holt_read_u32(in);
    struct holt_buf bytes = holt_read_bytes(in, len);
    if (in->failed || len > HOLT_SESSION_RESULT_MAX || seq < low || seq <= last) return HOLT_EPROTOCOL;
    if (seq - low >= HOLT_SESSION_WINDOW) return HOLT_EPROTOCOL;
    holt_sessions_end(sessions, id, seq, bytes);
    last = seq;
  }
  return 0;
}

int holt_sessions_decode(struct holt_sessions *sessions, struct holt_reader *in) {
  holt_sessions_free(sessions);
  uint32_t count = holt_read_u32(in);
  for (uint32_t i = 0; i < count && !in->failed; i++) {
    if (decode_client(sessions, in) != 0) in->failed = true;
  }
  if (!in->failed) return 0;
  holt_sessions_free(sessions);
  return HOLT_EPROTOCOL;
}
