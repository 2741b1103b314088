/* snapshot.c - the whole state out in pieces, and in again.
 *
 * Head: magic u32, version u32, objects u64, hash u64. Each object: kind u8, name text8, options u16 + bytes,
 * revision, head, tail, items, each u64. Each item: revision u64, key u32, value u32, bytes. The hash at the
 * head is that of the state, which the receiver computes anew: it proves that nothing is missing or bent. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "collections/machine.h"

enum { MAGIC = 0x544c4f48, VERSION = 1, HEAD_BYTES = 24, ITEM_HEAD_BYTES = 16 };

/* --- Out ----------------------------------------------------------------------------------------------- */

struct frozen_object {
  struct holt_writer head; /* its bytes */
  struct holt_tree tree;   /* shared */
};

/* What was frozen: the same for all who read it. */
struct frozen_state {
  uint32_t refs;
  struct frozen_object *objects;
  size_t count;
  uint64_t hash, size;
  struct holt_grave grave; /* while it is being freed */
};

struct holt_frozen {
  struct frozen_state *state;
  size_t at; /* the object being written; SIZE_MAX: before the first */
  bool has_head;
  struct holt_cursor cursor;
  struct holt_writer piece; /* what is due and did not fit yet */
  size_t piece_at;
};

static void write_object_head(struct holt_writer *out, const struct holt_object *object) {
  holt_write_u8(out, object->kind);
  holt_write_text8(out, object->name);
  holt_write_u16(out, (uint16_t)object->options.len);
  if (object->options.len > 0) holt_write_bytes(out, object->options.data, object->options.len);
  holt_write_u64(out, object->revision);
  holt_write_u64(out, object->head);
  holt_write_u64(out, object->tail);
  holt_write_u64(out, object->tree.count);
}

static struct holt_frozen *frozen_new(struct frozen_state *state) {
  struct holt_frozen *frozen = holt_alloc(sizeof *frozen);
  frozen->state = state;
  frozen->at = SIZE_MAX;
  state->refs++;
  return frozen;
}

struct holt_frozen *holt_collections_freeze(const struct holt_collections *c) {
  struct frozen_state *state = holt_alloc(sizeof *state);
  state->count = c->count;
  state->objects = holt_alloc((c->count + 1) * sizeof *state->objects);
  state->hash = c->hash;
  state->size = HEAD_BYTES;
  for (size_t i = 0; i < c->count; i++) {
    struct frozen_object *object = &state->objects[i];
    object->tree = holt_tree_share(&c->objects[i]->tree);
    write_object_head(&object->head, c->objects[i]);
    state->size += object->head.len + object->tree.bytes + object->tree.count * (uint64_t)ITEM_HEAD_BYTES;
  }
  return frozen_new(state);
}

struct holt_frozen *holt_frozen_share(const struct holt_frozen *frozen) {
  return frozen_new(frozen->state);
}

/* The last who held it is gone. False once nothing is left. */
static bool free_state(struct frozen_state *state) {
  if (holt_grave_dig(&state->grave, DIG_NODES)) return true;
  for (int left = DIG_OBJECTS; left > 0 && state->count > 0; left--) {
    struct frozen_object *object = &state->objects[--state->count];
    holt_tree_bury(&object->tree, &state->grave);
    holt_writer_free(&object->head);
  }
  if (state->count > 0 || state->grave.count > 0) return true;
  holt_grave_free(&state->grave);
  free(state->objects);
  free(state);
  return false;
}

bool holt_frozen_free_some(struct holt_frozen *frozen) {
  if (frozen->state->refs > 1)
    frozen->state->refs--;
  else if (free_state(frozen->state))
    return true;
  holt_writer_free(&frozen->piece);
  free(frozen);
  return false;
}

void holt_frozen_free(struct holt_frozen *frozen) {
  while (frozen && holt_frozen_free_some(frozen)) continue;
}

uint64_t holt_frozen_size(const struct holt_frozen *frozen) {
  return frozen->state->size;
}

static void write_head(struct holt_frozen *frozen) {
  holt_write_u32(&frozen->piece, MAGIC);
  holt_write_u32(&frozen->piece, VERSION);
  holt_write_u64(&frozen->piece, frozen->state->count);
  holt_write_u64(&frozen->piece, frozen->state->hash);
  frozen->has_head = true;
}

static void write_item(struct holt_frozen *frozen, const struct holt_item *item) {
  holt_write_u64(&frozen->piece, item->revision);
  holt_write_u32(&frozen->piece, item->key_len);
  holt_write_u32(&frozen->piece, item->value_len);
  holt_write_bytes(&frozen->piece, item->bytes, item->key_len + item->value_len);
}

/* Put the head, the next item, or the next object's head into `piece`. False at the end. */
static bool refill(struct holt_frozen *frozen) {
  struct frozen_state *state = frozen->state;
  frozen->piece.len = frozen->piece_at = 0;
  if (!frozen->has_head) {
    write_head(frozen);
    return true;
  }
  struct holt_item *item = frozen->at < state->count ? holt_cursor_next(&frozen->cursor) : NULL;
  if (item) {
    write_item(frozen, item);
    return true;
  }
  if (frozen->at == state->count || state->count == 0) return false;
  if (++frozen->at == state->count) return false; /* and stay there: SIZE_MAX + 1 is the first */
  struct frozen_object *object = &state->objects[frozen->at];
  holt_write_bytes(&frozen->piece, object->head.data, object->head.len);
  holt_cursor_seek(&frozen->cursor, &object->tree, holt_buf(NULL, 0));
  return true;
}

size_t holt_frozen_read(struct holt_frozen *frozen, uint8_t *out, size_t cap) {
  size_t done = 0;
  while (done < cap) {
    size_t left = frozen->piece.len - frozen->piece_at;
    if (left == 0) {
      if (!refill(frozen)) break;
      continue;
    }
    size_t len = left < cap - done ? left : cap - done;
    memcpy(out + done, frozen->piece.data + frozen->piece_at, len);
    frozen->piece_at += len;
    done += len;
  }
  return done;
}

/* --- In ------------------------------------------------------------------------------------------------ */

struct holt_restore {
  struct holt_collections *c;
  struct holt_writer kept; /* bytes of a thing that is not whole yet */
  bool has_head;
  uint64_t objects_left, items_left, hash;
  struct holt_object *object;
};

struct holt_restore *holt_restore_new(void) {
  struct holt_restore *restore = holt_alloc(sizeof *restore);
  restore->c = holt_collections_new();
  return restore;
}

void holt_restore_free(struct holt_restore *restore) {
  if (!restore) return;
  holt_collections_free(restore->c);
  holt_writer_free(&restore->kept);
  free(restore);
}

struct holt_collections *holt_restore_abandon(struct holt_restore *restore) {
  struct holt_collections *c = restore->c;
  restore->c = NULL;
  holt_restore_free(restore);
  return c;
}

static int take_head(struct holt_restore *restore, struct holt_reader *in) {
  uint32_t magic = holt_read_u32(in), version = holt_read_u32(in);
  restore->objects_left = holt_read_u64(in);
  restore->hash = holt_read_u64(in);
  if (in->failed) return HOLT_EAGAIN;
  restore->has_head = true;
  return magic == MAGIC && version == VERSION ? 0 : HOLT_EPROTOCOL;
}

static int take_object(struct holt_restore *restore, struct holt_reader *in) {
  uint8_t kind = holt_read_u8(in);
  struct holt_buf name = holt_read_bytes(in, holt_read_u8(in));
  struct holt_buf options = holt_read_bytes(in, holt_read_u16(in));
  uint64_t revision = holt_read_u64(in), head = holt_read_u64(in), tail = holt_read_u64(in);
  uint64_t items = holt_read_u64(in);
  if (in->failed) return HOLT_EAGAIN;
  char text[256];
  if (!holt_kind_name(kind) || name.len == 0 || memchr(name.data, 0, name.len)) return HOLT_EPROTOCOL;
  memcpy(text, name.data, name.len);
  text[name.len] = 0;
  if (holt_collections_find(restore->c, text)) return HOLT_EPROTOCOL;
  struct holt_object *object = restore->object = holt__object_new(restore->c, kind, text, options);
  restore->c->hash -= holt__object_hash(object);
  object->revision = revision;
  object->head = head;
  object->tail = tail;
  restore->c->hash += holt__object_hash(object);
  restore->items_left = items;
  restore->objects_left--;
  return 0;
}

static int take_item(struct holt_restore *restore, struct holt_reader *in) {
  uint64_t revision = holt_read_u64(in);
  uint32_t key_len = holt_read_u32(in), value_len = holt_read_u32(in);
  struct holt_buf key = holt_read_bytes(in, key_len), value = holt_read_bytes(in, value_len);
  if (in->failed) return HOLT_EAGAIN;
  struct holt_item *item = holt_item_new(key, value, revision);
  restore->c->hash -= holt__object_hash(restore->object);
  restore->object->items_hash += holt__item_hash(restore->object, item);
  restore->c->hash += holt__object_hash(restore->object);
  struct holt_item *old = holt_tree_put(&restore->object->tree, item);
  holt_item_drop(old);
  restore->items_left--;
  return old ? HOLT_EPROTOCOL : 0;
}

/* Take one thing off the front. HOLT_EAGAIN: it is not whole yet. HOLT_EEOF: nothing more is expected. */
static int take_one(struct holt_restore *restore, struct holt_reader *in) {
  if (!restore->has_head) return take_head(restore, in);
  if (restore->items_left > 0) return take_item(restore, in);
  return restore->objects_left > 0 ? take_object(restore, in) : HOLT_EEOF;
}

int holt_restore_feed(struct holt_restore *restore, struct holt_buf piece) {
  holt_write_bytes(&restore->kept, piece.data, piece.len);
  struct holt_reader in = holt_reader(holt_buf(restore->kept.data, restore->kept.len));
  for (;;) {
    struct holt_reader before = in;
    int rc = holt_reader_left(&in) == 0 ? HOLT_EAGAIN : take_one(restore, &in);
    if (rc == 0) continue;
    if (rc != HOLT_EAGAIN) return HOLT_EPROTOCOL; /* bytes after the end, too */
    size_t left = holt_reader_left(&before);
    if (left > 0) memmove(restore->kept.data, before.at, left);
    restore->kept.len = left;
    return 0;
  }
}

int holt_restore_finish(struct holt_restore *restore, struct holt_collections **out) {
  bool is_whole = restore->has_head && restore->items_left == 0 && restore->objects_left == 0 &&
                  restore->kept.len == 0 && restore->c->hash == restore->hash;
  if (!is_whole) return HOLT_EPROTOCOL;
  *out = restore->c;
  restore->c = holt_collections_new();
  restore->has_head = false;
  return 0;
}
