/* sessions.h - exactly once: which operations of which client were applied, and what they answered.
 *
 * A replicated table (thesis 6.3), part of the state machine and of its snapshot: every member that applied
 * the same entries holds the same one. A client is opened by an entry and closed by an entry, never by a
 * clock; one that is not open is refused, never opened again in passing. Each client numbers its operations
 * from 1 and says with each which is its oldest one still unanswered (`low`): what lies before is forgotten.
 *
 * Pure. Memory running out ends the process: a member that skipped an entry would no longer be a copy. */
#ifndef HOLT_RAFT_SESSIONS_H
#define HOLT_RAFT_SESSIONS_H

#include "base/buf.h"
#include "base/map.h"

enum {
  HOLT_SESSION_WINDOW = 65536,       /* operations a client may have unanswered */
  HOLT_SESSION_RESULT_MAX = 1 << 20, /* bytes of one answer kept */
};

enum holt_session_verdict {
  HOLT_SESSION_NEW,       /* apply it, then holt_sessions_end */
  HOLT_SESSION_DUPLICATE, /* applied before: `result` is what it answered */
  HOLT_SESSION_FORGOTTEN, /* below low: answered long ago, or given up by its client */
  HOLT_SESSION_UNKNOWN,   /* the client is not open */
  HOLT_SESSION_TOO_FAR,   /* HOLT_SESSION_WINDOW or more ahead of low */
};

/* Zero-initialised is empty. */
struct holt_sessions {
  struct holt_map clients; /* id -> struct holt__session */
  uint64_t hash;           /* of the whole table, kept up with each change */
};

void holt_sessions_free(struct holt_sessions *sessions);
/* Open `client` (not 0). True if it was not open before; if it was, it stays as it is. */
bool holt_sessions_open(struct holt_sessions *sessions, uint64_t client);
/* Close it and forget its answers. False if it was not open. */
bool holt_sessions_close(struct holt_sessions *sessions, uint64_t client);
bool holt_sessions_has(const struct holt_sessions *sessions, uint64_t client);
/* What to do with operation `seq` of `client`. Moves the client's low up to `low`. `result` (borrowed until
 * the next call) is set for a duplicate only. */
enum holt_session_verdict holt_sessions_begin(struct holt_sessions *sessions, uint64_t client, uint64_t seq,
                                              uint64_t low, struct holt_buf *result);
/* The answer of an operation that was NEW; copied. */
void holt_sessions_end(struct holt_sessions *sessions, uint64_t client, uint64_t seq, struct holt_buf result);
/* The number of clients open. */
size_t holt_sessions_count(const struct holt_sessions *sessions);

/* The same table gives the same bytes at every member. */
void holt_sessions_encode(const struct holt_sessions *sessions, struct holt_writer *out);
/* Replace what is there by the table at `in`. HOLT_EPROTOCOL: malformed, then the table is empty. */
int holt_sessions_decode(struct holt_sessions *sessions, struct holt_reader *in);

#endif /* HOLT_RAFT_SESSIONS_H */
