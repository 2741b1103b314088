/* tree.c - the B-tree: top-down splitting and merging (Cormen et al., "Introduction to Algorithms", ch. 18),
 * each node on the way made our own first. A node keeps the first eight bytes of every key as a number, so
 * that most comparisons do not touch the item. */
#include "collections/tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

enum { T = 16, ITEMS_MAX = 2 * T - 1 };

struct holt_tree_node {
  uint32_t refs;
  uint16_t count;
  bool is_leaf;
  uint64_t prefixes[ITEMS_MAX];
  struct holt_item *items[ITEMS_MAX];
  struct holt_tree_node *children[]; /* count + 1 of them, unless it is a leaf */
};

/* --- Items --------------------------------------------------------------------------------------------- */

struct holt_item *holt_item_new(struct holt_buf key, struct holt_buf value, uint64_t revision) {
  struct holt_item *item = holt_realloc(NULL, sizeof *item + key.len + value.len);
  item->refs = 1;
  item->key_len = (uint32_t)key.len;
  item->value_len = (uint32_t)value.len;
  item->revision = revision;
  if (key.len > 0) memcpy(item->bytes, key.data, key.len);
  if (value.len > 0) memcpy(item->bytes + key.len, value.data, value.len);
  return item;
}

struct holt_item *holt_item_hold(struct holt_item *item) {
  item->refs++;
  return item;
}

void holt_item_drop(struct holt_item *item) {
  if (item && --item->refs == 0) free(item);
}

/* --- Keys ---------------------------------------------------------------------------------------------- */

static uint64_t prefix_of(struct holt_buf key) {
  uint64_t prefix = 0;
  for (size_t i = 0; i < 8; i++) prefix = prefix << 8 | (i < key.len ? key.data[i] : 0);
  return prefix;
}

static int compare(struct holt_buf a, struct holt_buf b) {
  size_t len = a.len < b.len ? a.len : b.len;
  int order = len > 0 ? memcmp(a.data, b.data, len) : 0;
  return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* The first place whose key is not less than `key`; `found` tells whether it is equal. */
static uint32_t place_of(const struct holt_tree_node *node, uint64_t prefix, struct holt_buf key,
                         bool *found) {
  uint32_t low = 0, high = node->count;
  *found = false;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    int order = (node->prefixes[middle] > prefix) - (node->prefixes[middle] < prefix);
    if (order == 0) order = compare(holt_item_key(node->items[middle]), key);
    if (order == 0) {
      *found = true;
      return middle;
    }
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* --- Nodes --------------------------------------------------------------------------------------------- */

static struct holt_tree_node *node_new(bool is_leaf) {
  size_t size = sizeof(struct holt_tree_node) + (is_leaf ? 0 : 2 * T * sizeof(struct holt_tree_node *));
  struct holt_tree_node *node = holt_realloc(NULL, size);
  node->refs = 1;
  node->count = 0;
  node->is_leaf = is_leaf;
  return node;
}

/* The node in `slot` as one that only we hold: itself, or a copy put in its place. */
static struct holt_tree_node *own(struct holt_tree_node **slot) {
  struct holt_tree_node *node = *slot;
  if (node->refs == 1) return node;
  struct holt_tree_node *copy = node_new(node->is_leaf);
  copy->count = node->count;
  memcpy(copy->prefixes, node->prefixes, node->count * sizeof node->prefixes[0]);
  for (uint32_t i = 0; i < node->count; i++) copy->items[i] = holt_item_hold(node->items[i]);
  if (!node->is_leaf)
    for (uint32_t i = 0; i <= node->count; i++) {
      copy->children[i] = node->children[i];
      copy->children[i]->refs++;
    }
  node->refs--;
  *slot = copy;
  return copy;
}

static void node_drop(struct holt_tree_node *node) {
  if (--node->refs > 0) return;
  for (uint32_t i = 0; i < node->count; i++) holt_item_drop(node->items[i]);
  if (!node->is_leaf)
    for (uint32_t i = 0; i <= node->count; i++) node_drop(node->children[i]);
  free(node);
}

static void set_item(struct holt_tree_node *node, uint32_t at, struct holt_item *item) {
  node->items[at] = item;
  node->prefixes[at] = prefix_of(holt_item_key(item));
}

/* Move `count` items (and their prefixes) within or between nodes. */
static void move_items(struct holt_tree_node *to, uint32_t to_at, const struct holt_tree_node *from,
                       uint32_t at, uint32_t count) {
  memmove(&to->items[to_at], &from->items[at], count * sizeof to->items[0]);
  memmove(&to->prefixes[to_at], &from->prefixes[at], count * sizeof to->prefixes[0]);
}

static void move_children(struct holt_tree_node *to, uint32_t to_at, const struct holt_tree_node *from,
                          uint32_t at, uint32_t count) {
  memmove(&to->children[to_at], &from->children[at], count * sizeof to->children[0]);
}

/* --- Putting ------------------------------------------------------------------------------------------- */

/* Split the full child at `at` around its middle item, which moves up. Both are ours. */
static void split(struct holt_tree_node *parent, uint32_t at) {
  struct holt_tree_node *left = own(&parent->children[at]);
  struct holt_tree_node *right = node_new(left->is_leaf);
  HOLT_ASSERT(left->count == ITEMS_MAX);
  right->count = T - 1;
  move_items(right, 0, left, T, T - 1);
  if (!left->is_leaf) move_children(right, 0, left, T, T);
  left->count = T - 1;
  move_items(parent, at + 1, parent, at, parent->count - at);
  move_children(parent, at + 2, parent, at + 1, parent->count - at);
  set_item(parent, at, left->items[T - 1]);
  parent->children[at + 1] = right;
  parent->count++;
}

static void insert_at(struct holt_tree_node *leaf, uint32_t at, struct holt_item *item) {
  move_items(leaf, at + 1, leaf, at, leaf->count - at);
  set_item(leaf, at, item);
  leaf->count++;
}

static void count_in(struct holt_tree *tree, const struct holt_item *item) {
  tree->count++;
  tree->bytes += item->key_len + item->value_len;
}

static void count_out(struct holt_tree *tree, const struct holt_item *item) {
  tree->count--;
  tree->bytes -= item->key_len + item->value_len;
}

struct holt_item *holt_tree_put(struct holt_tree *tree, struct holt_item *item) {
  struct holt_buf key = holt_item_key(item);
  uint64_t prefix = prefix_of(key);
  count_in(tree, item);
  if (!tree->root) tree->root = node_new(true);
  struct holt_tree_node *node = own(&tree->root);
  if (node->count == ITEMS_MAX) {
    struct holt_tree_node *root = node_new(false);
    root->children[0] = node;
    tree->root = root;
    split(root, 0);
    node = root;
  }
  for (;;) {
    bool found;
    uint32_t at = place_of(node, prefix, key, &found);
    if (found) {
      struct holt_item *old = node->items[at];
      node->items[at] = item;
      count_out(tree, old);
      return old;
    }
    if (node->is_leaf) {
      insert_at(node, at, item);
      return NULL;
    }
    if (node->children[at]->count == ITEMS_MAX) {
      split(node, at);
      continue; /* the key may now be here, or in either half */
    }
    node = own(&node->children[at]);
  }
}

/* --- Removing ------------------------------------------------------------------------------------------ */

/* The item at `at` and both its neighbours' T - 1 items become one child. */
static struct holt_tree_node *merge(struct holt_tree_node *node, uint32_t at) {
  struct holt_tree_node *left = own(&node->children[at]), *right = own(&node->children[at + 1]);
  set_item(left, left->count, node->items[at]);
  move_items(left, left->count + 1u, right, 0, right->count);
  if (!left->is_leaf) move_children(left, left->count + 1u, right, 0, right->count + 1u);
  left->count = (uint16_t)(left->count + 1 + right->count);
  move_items(node, at, node, at + 1, node->count - at - 1);
  move_children(node, at + 1, node, at + 2, node->count - at - 1);
  node->count--;
  free(right);
  return left;
}

static void borrow_left(struct holt_tree_node *node, uint32_t at) {
  struct holt_tree_node *child = own(&node->children[at]), *left = own(&node->children[at - 1]);
  move_items(child, 1, child, 0, child->count);
  set_item(child, 0, node->items[at - 1]);
  if (!child->is_leaf) {
    move_children(child, 1, child, 0, child->count + 1u);
    child->children[0] = left->children[left->count];
  }
  set_item(node, at - 1, left->items[left->count - 1]);
  child->count++;
  left->count--;
}

static void borrow_right(struct holt_tree_node *node, uint32_t at) {
  struct holt_tree_node *child = own(&node->children[at]), *right = own(&node->children[at + 1]);
  set_item(child, child->count, node->items[at]);
  if (!child->is_leaf) {
    child->children[child->count + 1] = right->children[0];
    move_children(right, 0, right, 1, right->count);
  }
  set_item(node, at, right->items[0]);
  move_items(right, 0, right, 1, right->count - 1u);
  child->count++;
  right->count--;
}

/* The child at `at`, ours, with at least T items, so that one may be taken from below it. */
static struct holt_tree_node *descend(struct holt_tree_node *node, uint32_t at) {
  if (node->children[at]->count >= T) return own(&node->children[at]);
  if (at > 0 && node->children[at - 1]->count >= T) {
    borrow_left(node, at);
    return node->children[at];
  }
  if (at < node->count && node->children[at + 1]->count >= T) {
    borrow_right(node, at);
    return node->children[at];
  }
  return merge(node, at < node->count ? at : at - 1);
}

static struct holt_item *take_at(struct holt_tree_node *leaf, uint32_t at) {
  struct holt_item *item = leaf->items[at];
  move_items(leaf, at, leaf, at + 1, leaf->count - at - 1);
  leaf->count--;
  return item;
}

/* The first or last item below `node`, which is ours and has one to spare. */
static struct holt_item *take_edge(struct holt_tree_node *node, bool is_last) {
  while (!node->is_leaf) node = descend(node, is_last ? node->count : 0);
  return take_at(node, is_last ? node->count - 1u : 0);
}

static struct holt_item *take(struct holt_tree_node *node, uint64_t prefix, struct holt_buf key) {
  for (;;) {
    bool found;
    uint32_t at = place_of(node, prefix, key, &found);
    if (node->is_leaf) {
      HOLT_ASSERT(found);
      return take_at(node, at);
    }
    if (!found) {
      node = descend(node, at);
      continue;
    }
    bool left_spares = node->children[at]->count >= T;
    if (!left_spares && node->children[at + 1]->count < T) {
      node = merge(node, at); /* the item moved into it */
      continue;
    }
    struct holt_item *item = node->items[at];
    set_item(node, at, take_edge(own(&node->children[left_spares ? at : at + 1]), left_spares));
    return item;
  }
}

struct holt_item *holt_tree_remove(struct holt_tree *tree, struct holt_buf key) {
  if (!holt_tree_get(tree, key)) return NULL;
  struct holt_item *item = take(own(&tree->root), prefix_of(key), key);
  struct holt_tree_node *root = tree->root;
  if (root->count == 0) {
    tree->root = root->is_leaf ? NULL : root->children[0];
    free(root);
  }
  count_out(tree, item);
  return item;
}

/* --- Whole trees --------------------------------------------------------------------------------------- */

struct holt_tree holt_tree_share(const struct holt_tree *tree) {
  if (tree->root) tree->root->refs++;
  return *tree;
}

void holt_tree_clear(struct holt_tree *tree) {
  if (tree->root) node_drop(tree->root);
  memset(tree, 0, sizeof *tree);
}

static void bury(struct holt_grave *grave, struct holt_tree_node *node) {
  if (grave->count == grave->cap) {
    grave->cap = grave->cap ? 2 * grave->cap : 64;
    grave->nodes = holt_realloc(grave->nodes, grave->cap * sizeof(struct holt_tree_node *));
  }
  grave->nodes[grave->count++] = node;
}

void holt_tree_bury(struct holt_tree *tree, struct holt_grave *grave) {
  if (tree->root) bury(grave, tree->root);
  memset(tree, 0, sizeof *tree);
}

bool holt_grave_dig(struct holt_grave *grave, size_t node_max) {
  for (; node_max > 0 && grave->count > 0; node_max--) {
    struct holt_tree_node *node = grave->nodes[--grave->count];
    if (--node->refs > 0) continue;
    for (uint32_t i = 0; i < node->count; i++) holt_item_drop(node->items[i]);
    if (!node->is_leaf)
      for (uint32_t i = 0; i <= node->count; i++) bury(grave, node->children[i]);
    free(node);
  }
  return grave->count > 0;
}

void holt_grave_free(struct holt_grave *grave) {
  while (holt_grave_dig(grave, 1024)) continue;
  free(grave->nodes);
  memset(grave, 0, sizeof *grave);
}

/* --- Looking ------------------------------------------------------------------------------------------- */

struct holt_item *holt_tree_get(const struct holt_tree *tree, struct holt_buf key) {
  uint64_t prefix = prefix_of(key);
  for (const struct holt_tree_node *node = tree->root; node;) {
    bool found;
    uint32_t at = place_of(node, prefix, key, &found);
    if (found) return node->items[at];
    node = node->is_leaf ? NULL : node->children[at];
  }
  return NULL;
}

struct holt_item *holt_tree_first(const struct holt_tree *tree) {
  const struct holt_tree_node *node = tree->root;
  if (!node) return NULL;
  while (!node->is_leaf) node = node->children[0];
  return node->items[0];
}

static void push(struct holt_cursor *cursor, const struct holt_tree_node *node, uint32_t at) {
  HOLT_ASSERT(cursor->depth < HOLT_TREE_DEPTH_MAX);
  cursor->path[cursor->depth].node = node;
  cursor->path[cursor->depth++].at = at;
}

void holt_cursor_seek(struct holt_cursor *cursor, const struct holt_tree *tree, struct holt_buf key) {
  uint64_t prefix = prefix_of(key);
  cursor->depth = 0;
  for (const struct holt_tree_node *node = tree->root; node;) {
    bool found;
    uint32_t at = place_of(node, prefix, key, &found);
    push(cursor, node, at);
    node = found || node->is_leaf ? NULL : node->children[at];
  }
}

struct holt_item *holt_cursor_next(struct holt_cursor *cursor) {
  while (cursor->depth > 0) {
    const struct holt_tree_node *node = cursor->path[cursor->depth - 1].node;
    uint32_t at = cursor->path[cursor->depth - 1].at++;
    if (at >= node->count) {
      cursor->depth--;
      continue;
    }
    if (!node->is_leaf) { /* after this item comes all that is below it to the right */
      const struct holt_tree_node *below = node->children[at + 1];
      for (; !below->is_leaf; below = below->children[0]) push(cursor, below, 0);
      push(cursor, below, 0);
    }
    return node->items[at];
  }
  return NULL;
}
