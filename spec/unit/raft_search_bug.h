/* raft_search_bug.h - comes before every source of raft/ in test_raft_search: seeded bugs by a switch at run
 * time. 118 and 18 (no pre-vote, no stickiness) are always on: safety rests on neither, and without them
 * every election is possible at every moment. */
#ifndef HOLT_UNIT_RAFT_SEARCH_BUG_H
#define HOLT_UNIT_RAFT_SEARCH_BUG_H

extern int holt_search_bug;
#define HOLT_BUG(n) ((n) == holt_search_bug || (n) == 118 || (n) == 18)

#endif /* HOLT_UNIT_RAFT_SEARCH_BUG_H */
