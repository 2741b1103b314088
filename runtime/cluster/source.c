/* source.c - snapshots kept for members that need them: the frozen state, written out as it is asked for.
 *
 * - The newest snapshot is kept frozen, which costs what has changed since; beside it the one that members
 *   are receiving, when that is an older one.
 * - Every receiver reads from the front to the back, a piece at a time: a source for each goes along with it
 *   and keeps its last piece, should the answer be lost.
 * - A receiver that asks for another place (an old answer came late, this member leads only since now) waits
 *   until a source has been wound there, a slice a turn; the core asks again. */
#include <string.h>

#include "cluster/cluster_impl.h"

enum { WIND_BYTES = 256 << 10 };

/* --- What is kept -------------------------------------------------------------------------------------- */

static void source_close(struct holt_cluster *c, struct holt__source *source) {
  holt__bury_freeze(c, &source->freeze);
  holt_writer_free(&source->piece);
  memset(source, 0, sizeof *source);
}

static void drop(struct holt_cluster *c, struct holt__kept *kept) {
  for (size_t i = 0; i < HOLT__SOURCES && kept->meta.index != 0; i++)
    if (c->sources[i].index == kept->meta.index) source_close(c, &c->sources[i]);
  holt__bury_freeze(c, &kept->freeze);
  memset(kept, 0, sizeof *kept);
}

/* The index of the snapshot that a living member is receiving from us; 0: none. */
static uint64_t being_sent(const struct holt_cluster *c) {
  struct holt_raft_status status;
  if (!c->raft) return 0;
  holt_raft_status(c->raft, &status);
  uint64_t patience = 2 * c->config.election_ms, now = holt__cluster_now(c);
  for (size_t i = 0; i < status.peer_count; i++)
    if (status.peers[i].state == 2 && now < status.peers[i].heard_ms + patience) return status.sending_index;
  return 0;
}

void holt__source_keep(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                       struct holt__freeze *freeze) {
  uint64_t sending = being_sent(c);
  if (sending == 0 || c->older.meta.index != sending) drop(c, &c->older);
  if (sending != 0 && c->newest.meta.index == sending) {
    c->older = c->newest;
    memset(&c->newest, 0, sizeof c->newest);
  }
  drop(c, &c->newest);
  c->newest = (struct holt__kept){.meta = *meta, .freeze = *freeze};
  memset(freeze, 0, sizeof *freeze);
}

void holt__source_free(struct holt_cluster *c) {
  drop(c, &c->newest);
  drop(c, &c->older);
}

/* --- Giving pieces ------------------------------------------------------------------------------------- */

static struct holt__source *find(struct holt_cluster *c, uint64_t index, uint64_t offset) {
  for (size_t i = 0; i < HOLT__SOURCES; i++) {
    struct holt__source *s = &c->sources[i];
    if (s->index != index) continue;
    if (s->at == offset || (offset > 0 && s->wound_to == offset)) return s;
    if (s->piece.len > 0 && s->at - s->piece.len == offset) return s;
  }
  return NULL;
}

/* A source at the beginning, in the place of the one that was longest out of use. */
static struct holt__source *begin(struct holt_cluster *c, const struct holt__kept *kept) {
  struct holt__source *oldest = &c->sources[0];
  for (size_t i = 1; i < HOLT__SOURCES; i++)
    if (c->sources[i].used < oldest->used) oldest = &c->sources[i];
  source_close(c, oldest);
  oldest->index = kept->meta.index;
  holt__freeze_share(&kept->freeze, &oldest->freeze);
  return oldest;
}

/* Up to `len` bytes of a freeze, less at its end only. */
static size_t read_full(struct holt__freeze *freeze, uint8_t *out, size_t len) {
  size_t done = 0, got = 1;
  for (; done < len && got > 0; done += got) got = holt__freeze_read(freeze, out + done, len - done);
  return done;
}

static void next_piece(struct holt__source *s, uint32_t len) {
  s->piece.len = 0;
  uint8_t *out = holt_writer_grow(&s->piece, len);
  s->piece.len = read_full(&s->freeze, out, len);
  s->at += s->piece.len;
}

int holt__snapshot_read(void *arg, const struct holt_raft_snapshot *snapshot, uint64_t offset, uint8_t *out,
                        uint32_t *len) {
  struct holt_cluster *c = arg;
  const struct holt__kept *kept = c->newest.meta.index == snapshot->index ? &c->newest : &c->older;
  if (kept->meta.index != snapshot->index || kept->meta.term != snapshot->term) return HOLT_ENOTFOUND;
  if (offset > kept->meta.size_bytes) return HOLT_ENOTFOUND;
  if (offset == kept->meta.size_bytes) *len = 0; /* it has all: is it still installing? */
  if (*len == 0) return 0;
  struct holt__source *s = find(c, snapshot->index, offset);
  if (!s) s = begin(c, kept);
  s->used = ++c->source_clock;
  s->wound_to = offset > s->at ? offset : 0;
  if (s->wound_to) {
    holt__cluster_stir(c);
    return HOLT_EBUSY;
  }
  if (s->at == offset) next_piece(s, *len);
  if (*len > s->piece.len) *len = (uint32_t)s->piece.len;
  memcpy(out, s->piece.data, *len);
  return 0;
}

/* --- Winding ------------------------------------------------------------------------------------------- */

static struct holt__source *winding(struct holt_cluster *c) {
  for (size_t i = 0; i < HOLT__SOURCES; i++)
    if (c->sources[i].wound_to > c->sources[i].at) return &c->sources[i];
  return NULL;
}

bool holt__source_has_work(struct holt_cluster *c) {
  return winding(c) != NULL;
}

void holt__source_turn(struct holt_cluster *c) {
  struct holt__source *s = winding(c);
  if (!s) return;
  uint64_t left = s->wound_to - s->at;
  next_piece(s, left < WIND_BYTES ? (uint32_t)left : WIND_BYTES);
  s->piece.len = 0; /* nobody asked for this one */
  HOLT_ASSERT(s->at <= s->wound_to);
}
