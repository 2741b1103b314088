/* bury.c - what was replaced is freed a piece a turn: a state of a gigabyte takes seconds to free.
 *
 * Old machines and frozen states wait in a list; a post of its own works on the first of them, whether there
 * is a cluster at the time or not. */
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster_impl.h"

struct buried {
  struct holt_list node;
  struct holt_collections *collections; /* one of the two */
  struct holt_frozen *frozen;
};

static bool dig(struct buried *b) {
  return b->collections ? holt_collections_free_some(b->collections) : holt_frozen_free_some(b->frozen);
}

static bool dig_first(struct holt_cluster *c) {
  if (holt_list_is_empty(&c->buried)) return false;
  struct buried *b = HOLT_CONTAINER(c->buried.next, struct buried, node);
  /* The analyser does not see that a removed node is out of the ring.
   * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
  if (dig(b)) return true;
  holt_list_remove(&b->node);
  free(b);
  return !holt_list_is_empty(&c->buried);
}

static void on_dig(void *arg) {
  struct holt_cluster *c = arg;
  if (dig_first(c)) holt_env_post(c->env, &c->digging);
}

static void add(struct holt_cluster *c, struct holt_collections *collections, struct holt_frozen *frozen) {
  struct buried *b = holt_alloc(sizeof *b);
  b->collections = collections;
  b->frozen = frozen;
  holt_list_push(&c->buried, &b->node);
  if (!c->is_closed) holt_env_post(c->env, &c->digging);
}

void holt__bury_init(struct holt_cluster *c) {
  holt_list_init(&c->buried);
  holt_post_init(&c->digging, on_dig, c);
}

void holt__bury_stop(struct holt_cluster *c) {
  holt_post_cancel(&c->digging);
}

void holt__bury_free(struct holt_cluster *c) {
  while (dig_first(c)) continue;
}

void holt__bury_collections(struct holt_cluster *c, struct holt_collections *collections) {
  add(c, collections, NULL);
}

void holt__bury_machine(struct holt_cluster *c, struct holt__machine *machine) {
  if (machine->collections) add(c, machine->collections, NULL);
  machine->collections = NULL;
  holt__machine_free(machine);
}

void holt__bury_freeze(struct holt_cluster *c, struct holt__freeze *freeze) {
  if (freeze->frozen) add(c, NULL, freeze->frozen);
  freeze->frozen = NULL;
  holt__freeze_close(freeze);
}
