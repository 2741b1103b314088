/* dag_bug.h - comes before every source of dag/ in test_dag_sim: seeded bugs by a switch at run time. */
#ifndef HOLT_UNIT_DAG_BUG_H
#define HOLT_UNIT_DAG_BUG_H

extern int holt_dag_bug;
#define HOLT_BUG(n) ((n) == holt_dag_bug)

#endif /* HOLT_UNIT_DAG_BUG_H */
