/* tree.h - an ordered map of bytes to bytes that can be frozen in an instant.
 *
 * A B-tree (Bayer and McCreight, 1972) of immutable, counted items. Nodes are counted too: holt_tree_share
 * gives a second tree over the same nodes, and whoever writes next copies just the nodes on its way. So a
 * snapshot, and a loop over a consistent view, cost nothing when they begin. Keys are ordered as bytes are.
 * Memory running out ends the process: bound what may be put in. One thread. */
#ifndef HOLT_COLLECTIONS_TREE_H
#define HOLT_COLLECTIONS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* One key with its value: never changed, counted. */
struct holt_item {
  uint32_t refs;
  uint32_t key_len, value_len;
  uint64_t revision; /* log index that put it there */
  uint8_t bytes[];   /* key, then value */
};

/* A new item, one reference, the caller's. `key` and `value` are copied. */
struct holt_item *holt_item_new(struct holt_buf key, struct holt_buf value, uint64_t revision);
struct holt_item *holt_item_hold(struct holt_item *item);
void holt_item_drop(struct holt_item *item); /* NULL is nothing */

static inline struct holt_buf holt_item_key(const struct holt_item *item) {
  return holt_buf(item->bytes, item->key_len);
}
static inline struct holt_buf holt_item_value(const struct holt_item *item) {
  return holt_buf(item->bytes + item->key_len, item->value_len);
}

struct holt_tree_node;

/* Zero-initialised is empty. */
struct holt_tree {
  struct holt_tree_node *root;
  size_t count;
  uint64_t bytes; /* of all keys and values */
};

/* Forget everything. With millions of items that takes long: see holt_tree_bury. */
void holt_tree_clear(struct holt_tree *tree);
/* Another tree of the same content, at no cost; each may be changed without the other noticing. */
struct holt_tree holt_tree_share(const struct holt_tree *tree);

/* Borrowed until the tree changes; NULL when the key is not there. */
struct holt_item *holt_tree_get(const struct holt_tree *tree, struct holt_buf key);
/* `item` is taken. Returns the item it replaced, to be dropped by the caller, or NULL. */
struct holt_item *holt_tree_put(struct holt_tree *tree, struct holt_item *item);
/* Returns the removed item, to be dropped by the caller; NULL when the key was not there. */
struct holt_item *holt_tree_remove(struct holt_tree *tree, struct holt_buf key);
struct holt_item *holt_tree_first(const struct holt_tree *tree); /* borrowed, NULL when empty */

/* A place in a tree that does not change meanwhile: loop over a share. */
enum { HOLT_TREE_DEPTH_MAX = 16 };
struct holt_cursor {
  struct {
    const struct holt_tree_node *node;
    uint32_t at;
  } path[HOLT_TREE_DEPTH_MAX];
  int depth;
};

/* Stand before the first item whose key is at least `key`. */
void holt_cursor_seek(struct holt_cursor *cursor, const struct holt_tree *tree, struct holt_buf key);
/* The next item, borrowed, or NULL at the end. */
struct holt_item *holt_cursor_next(struct holt_cursor *cursor);

/* What was cleared, let go a piece at a time. Zero-initialised is empty. */
struct holt_grave {
  struct holt_tree_node **nodes;
  size_t count, cap;
};

/* Empty the tree at once; its nodes go when holt_grave_dig comes to them. */
void holt_tree_bury(struct holt_tree *tree, struct holt_grave *grave);
/* Free about `node_max` nodes. Returns false when nothing is left. */
bool holt_grave_dig(struct holt_grave *grave, size_t node_max);
void holt_grave_free(struct holt_grave *grave);

#endif /* HOLT_COLLECTIONS_TREE_H */
