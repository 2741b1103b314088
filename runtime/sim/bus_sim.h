/* bus_sim.h - whole nodes with links and buses in a simulated machine room, under faults drawn from one seed,
 * and the checker that says whether the bus kept its word. */
#ifndef HOLT_SIM_BUS_SIM_H
#define HOLT_SIM_BUS_SIM_H

#include <stdbool.h>
#include <stdint.h>

enum holt_bus_shape {
  HOLT_SHAPE_PAIR,
  HOLT_SHAPE_CHAIN,
  HOLT_SHAPE_TREE,
  HOLT_SHAPE_RING,
  HOLT_SHAPE_RANDOM
};

struct holt_bus_sim_config {
  uint64_t seed;
  enum holt_bus_shape shape;
  unsigned nodes;     /* 2 to 256 */
  unsigned emits;     /* per node, below 4096 */
  bool small_buffers; /* buffers that overflow: drop the oldest, and tell */
  bool waits;         /* overflow = "wait" */
  bool errors;        /* overflow = "error": who finds a buffer full tries again later */
  bool breaks;        /* connections are reset at random moments */
  bool partitions;    /* ways are cut, in one direction or both, for up to ten seconds */
  bool pauses;        /* nodes stop for up to five seconds */
  bool restarts;      /* node n0 is killed and started again under its name, in the middle of the traffic */
  bool slow_handlers; /* handlers finish later, in any order */
  bool steady; /* some nodes handle one event after the other, at a rate that is lower than what comes */
  bool crossed_dials; /* both ends dial each other */
  bool many_dials;    /* each dials the other at three addresses at once */
  unsigned flaps;     /* so many links more are reset at each step of the faults */
};

struct holt_bus_sim_result {
  bool is_ok;
  char what[400];  /* the first promise that was broken */
  uint64_t hash;   /* of the whole run */
  uint64_t events; /* simulated */
  uint64_t emitted, handled, lost, late, duplicates;
  uint64_t connects; /* handshakes finished */
};

/* Everything drawn from the seed: shape, size, faults. */
struct holt_bus_sim_config holt_bus_sim_draw(uint64_t seed);
/* The same with two hundred nodes and links that flap all the time. */
struct holt_bus_sim_config holt_bus_sim_draw_large(uint64_t seed);
/* Run until all faults are healed and everything has settled, and check:
 *   - no node handles an event twice in one boot, nor one that was not emitted;
 *   - a link brings each message once to a boot, however often it breaks;
 *   - events of one origin come in order, and those that do not are marked late; on a graph without loops
 * none is late, and the word about those that were dropped comes in their place;
 *   - handled and lost together are all events emitted; on a graph without loops, and with buffers that are
 * large enough or wait, nothing is lost, not even behind a node that is slower than what comes; a node killed
 * and started again handles every event in one boot or another;
 *   - links come up again after the last fault; buffers are empty in the end; nothing stays open. */
void holt_bus_sim_run(const struct holt_bus_sim_config *config, struct holt_bus_sim_result *result);
/* The settings as one line, for a failing run. */
void holt_bus_sim_describe(const struct holt_bus_sim_config *config, char out[300]);

#endif /* HOLT_SIM_BUS_SIM_H */
