/* bug.h - seeded bugs: a build in which HOLT_BUG(n) is true breaks rule n on purpose, so that the simulation
 * can show that it would notice (spec/unit/test_dag_sim.c has the table). The product is built with none. */
#ifndef HOLT_DAG_BUG_H
#define HOLT_DAG_BUG_H

#ifndef HOLT_BUG
#define HOLT_BUG(n) 0
#endif

#endif /* HOLT_DAG_BUG_H */
