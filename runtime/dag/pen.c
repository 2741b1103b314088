/* The pen: checked runs whose predecessor or parents are late. */
#include <stdlib.h>

#include "base/mem.h"
#include "dag/dag_impl.h"

static struct holt__dag_penned *penned_of(struct holt_list *node) {
  return HOLT_CONTAINER(node, struct holt__dag_penned, node);
}

static void destroy(struct holt__dag_penned *penned) {
  holt_dag_run_free(&penned->run);
  free(penned);
}

void holt__dag_pen_free(struct holt_dag *dag, struct holt_list *list) {
  for (struct holt_list *node; (node = holt_list_shift(list)) != NULL;) destroy(penned_of(node));
  if (list == &dag->pen) dag->pen_runs = 0, dag->pen_bytes = 0;
}

static void take_out(struct holt_dag *dag, struct holt__dag_penned *penned) {
  holt_list_remove(&penned->node);
  dag->pen_runs--;
  dag->pen_bytes -= penned->bytes;
}

void holt__dag_pen_take(struct holt_dag *dag, struct holt__dag_penned *penned) {
  take_out(dag, penned);
  holt_list_push(&dag->done, &penned->node);
}

/* A run that ends alike is in the pen already; one that begins later gives way to the longer. */
bool holt__dag_pen_has(struct holt_dag *dag, const struct holt_dag_run *run) {
  HOLT_LIST_EACH(&dag->pen, node, following) {
    struct holt__dag_penned *penned = penned_of(node);
    if (memcmp(holt_dag_run_tip(&penned->run), holt_dag_run_tip(run), HOLT_DAG_HASH) != 0) continue;
    if (penned->run.first <= run->first) return true;
    take_out(dag, penned);
    destroy(penned);
  }
  return false;
}

static size_t bytes_of(struct holt_dag *dag, uint64_t source) {
  size_t bytes = 0;
  HOLT_LIST_EACH(&dag->pen, node, following)
  if (penned_of(node)->source == source) bytes += penned_of(node)->bytes;
  return bytes;
}

/* The oldest run of the source that takes most room: who floods the pen loses his own. */
static struct holt__dag_penned *victim(struct holt_dag *dag) {
  struct holt__dag_penned *worst = NULL;
  size_t most = 0;
  /* The analyser does not see that a removed node is out of the ring.
   * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
  HOLT_LIST_EACH(&dag->pen, node, following) {
    struct holt__dag_penned *penned = penned_of(node);
    if (worst && penned->source == worst->source) continue;
    size_t bytes = bytes_of(dag, penned->source);
    if (bytes <= most) continue;
    most = bytes;
    worst = penned;
  }
  return worst;
}

static void evict(struct holt_dag *dag, struct holt__dag_penned *penned) {
  if (dag->evicted_count == dag->evicted_cap) {
    dag->evicted_cap = dag->evicted_cap ? dag->evicted_cap * 2 : 8;
    dag->evicted = holt_realloc(dag->evicted, dag->evicted_cap * sizeof *dag->evicted);
  }
  dag->evicted[dag->evicted_count++] = penned->source;
  dag->status.evicted++;
  take_out(dag, penned);
  destroy(penned);
}

void holt__dag_pen_put(struct holt_dag *dag, const struct holt_dag_run *run, uint64_t source,
                       const struct holt_dag_ref *missing) {
  struct holt__dag_penned *penned = holt_alloc(sizeof *penned);
  holt_dag_run_copy(&penned->run, run);
  penned->source = source;
  penned->missing = *missing;
  penned->bytes = sizeof *penned + run->bytes.len + run->count * sizeof *run->items;
  holt_list_push(&dag->pen, &penned->node);
  dag->pen_runs++;
  dag->pen_bytes += penned->bytes;
  while (!HOLT_BUG(5) && dag->pen_runs > 0 &&
         (dag->pen_runs > dag->options.pen_runs || dag->pen_bytes > dag->options.pen_bytes))
    evict(dag, victim(dag));
}

/* --- What to ask for -------------------------------------------------------------------------------- */

static bool holds(const struct holt_dag_run *run, const struct holt_dag_ref *ref) {
  if (memcmp(run->author, ref->author, HOLT_DAG_KEY) != 0) return false;
  if (ref->number < run->first || ref->number - run->first >= run->count) return false;
  return memcmp(run->items[ref->number - run->first].hash, ref->hash, HOLT_DAG_HASH) == 0;
}

static bool is_same_ref(const struct holt_dag_ref *a, const struct holt_dag_ref *b) {
  return a->number == b->number && memcmp(a->hash, b->hash, HOLT_DAG_HASH) == 0 &&
         memcmp(a->author, b->author, HOLT_DAG_KEY) == 0;
}

/* Is it in the pen itself, or asked for by another that waits? */
static bool is_on_its_way(struct holt_dag *dag, const struct holt__dag_penned *who) {
  HOLT_LIST_EACH(&dag->pen, node, following) {
    struct holt__dag_penned *penned = penned_of(node);
    if (penned == who) continue;
    if (holds(&penned->run, &who->missing)) return true;
    if (penned->is_asked && is_same_ref(&penned->missing, &who->missing)) return true;
  }
  return false;
}

bool holt_dag_next_want(struct holt_dag *dag, struct holt_dag_want *out) {
  HOLT_LIST_EACH(&dag->pen, node, following) {
    struct holt__dag_penned *penned = penned_of(node);
    if (penned->is_asked) continue;
    bool is_needless = is_on_its_way(dag, penned);
    penned->is_asked = true;
    if (is_needless) continue;
    *out = (struct holt_dag_want){.ref = penned->missing, .source = penned->source};
    return true;
  }
  return false;
}

void holt_dag_ask_again(struct holt_dag *dag, uint64_t source) {
  HOLT_LIST_EACH(&dag->pen, node, following)
  if (source == 0 || penned_of(node)->source == source) penned_of(node)->is_asked = false;
}
