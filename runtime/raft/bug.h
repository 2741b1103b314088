/* bug.h - seeded bugs: a build with -DHOLT_RAFT_BUG=n breaks rule n on purpose, so that the simulator can
 * show that it would notice (docs/raft.md has the table). The product is built with none. */
#ifndef HOLT_RAFT_BUG_H
#define HOLT_RAFT_BUG_H

#ifndef HOLT_RAFT_BUG
#define HOLT_RAFT_BUG 0
#endif
#ifndef HOLT_BUG
#define HOLT_BUG(n) (HOLT_RAFT_BUG == (n))
#endif

#endif /* HOLT_RAFT_BUG_H */
