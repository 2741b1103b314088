/* list.h - an intrusive doubly linked list; the head is a node of its own.
 *
 * A node that is in no list points to itself, so removing twice is harmless. */
#ifndef HOLT_BASE_LIST_H
#define HOLT_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct holt_list {
  struct holt_list *prev;
  struct holt_list *next;
};

/* The struct that holds `node` as its member `member`. */
#define HOLT_CONTAINER(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
/* Walk the list; the present node may be removed, no other. */
#define HOLT_LIST_EACH(head, node, following)                                                                \
  for (struct holt_list *node = (head)->next, *following = node->next; node != (head);                       \
       node = following, following = node->next)

static inline void holt_list_init(struct holt_list *node) {
  node->prev = node->next = node;
}

static inline bool holt_list_is_empty(const struct holt_list *head) {
  return head->next == head;
}

static inline void holt_list_push(struct holt_list *head, struct holt_list *node) { /* at the end */
  node->prev = head->prev;
  node->next = head;
  /* The analyser does not see that a head is initialised first.
   * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
  head->prev->next = node;
  head->prev = node;
}

static inline void holt_list_remove(struct holt_list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  holt_list_init(node);
}

static inline struct holt_list *holt_list_shift(struct holt_list *head) { /* first node or NULL */
  if (holt_list_is_empty(head)) return NULL;
  struct holt_list *node = head->next;
  /* The analyser does not see that a removed node is out of the ring.
   * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
  holt_list_remove(node);
  return node;
}

/* Move all nodes of `from` to the end of `to`. */
static inline void holt_list_move(struct holt_list *to, struct holt_list *from) {
  if (holt_list_is_empty(from)) return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  holt_list_init(from);
}

#endif /* HOLT_BASE_LIST_H */
