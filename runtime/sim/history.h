/* history.h - what clients asked of a shared object and what they were told; and whether one object can have
 * answered so.
 *
 * A history is a list of operations, each with the time of its call and of its return. The two checks say
 * whether it is linearizable: whether each operation can be given one moment between its call and its return
 * such that the answers are those of one sequential object (Herlihy and Wing, "Linearizability", 1990).
 * They know nothing of where the history came from: a simulated run or a real one.
 *
 * Times are whatever the recorder counts in, below HOLT_HISTORY_NEVER; only their order matters. One
 * operation precedes another when it returned strictly before the other was called: at equal times they
 * overlap, so a recorder whose clock is coarse accuses less. A simulator does best with the number of its
 * event.
 *
 * Keys and values are numbers that the recorder chooses. Pure: no clock, no chance. */
#ifndef HOLT_SIM_HISTORY_H
#define HOLT_SIM_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#define HOLT_HISTORY_NEVER UINT64_MAX /* a time: it did not return */

/* Numbers that stand for no value. */
#define HOLT_HISTORY_ABSENT    UINT64_MAX       /* nothing there; an empty queue */
#define HOLT_HISTORY_ANY       (UINT64_MAX - 1) /* as a result: nobody looked at it */
#define HOLT_HISTORY_OTHER     (UINT64_MAX - 2) /* as a result: see holt_history_op.result */
#define HOLT_HISTORY_VALUE_MAX (UINT64_MAX - 3)

/* On a key of a map, or a register. Its state is a value or HOLT_HISTORY_ABSENT, absent at first. */
enum holt_history_kind {
  HOLT_HISTORY_GET,
  HOLT_HISTORY_SET,       /* to `value` */
  HOLT_HISTORY_INSERT,    /* `value`, if absent */
  HOLT_HISTORY_UPDATE_IF, /* to `value`, if `expected` (may be absent) is there */
  HOLT_HISTORY_REMOVE,
  HOLT_HISTORY_REMOVE_IF, /* if `expected` is there */
  /* On a queue, empty at first; no value may be pushed twice. */
  HOLT_HISTORY_PUSH, /* `value`, at the end */
  HOLT_HISTORY_POP,  /* the first value */
};

enum holt_history_outcome {
  HOLT_HISTORY_UNKNOWN, /* it may have happened at any time after its call, or never */
  HOLT_HISTORY_OK,      /* it happened, and `result` was its answer: a refused condition is an answer too */
  HOLT_HISTORY_FAILED,  /* it never happened, for certain */
};

struct holt_history_op {
  uint64_t key; /* of the map, or which queue; maps and queues do not share their keys */
  uint64_t value;
  uint64_t expected;
  /* What was found. Every answer of a map is told by the state that the operation found: GET the value, SET
   * and REMOVE the old one, INSERT absent when it inserted and else what was in its way, UPDATE_IF and
   * REMOVE_IF `expected` when they acted and else what was there instead. HOLT_HISTORY_ANY: not known.
   * HOLT_HISTORY_OTHER: something other than `expected`, or in the kinds that have none, something present.
   * PUSH: not looked at. POP: the value, or absent for "empty". */
  uint64_t result;
  uint64_t called;
  uint64_t returned; /* HOLT_HISTORY_NEVER unless the outcome is OK or FAILED */
  uint32_t client;   /* for the report only: a client may have several operations open */
  uint8_t kind;      /* enum holt_history_kind */
  uint8_t outcome;   /* enum holt_history_outcome */
};

/* Zero-initialised is empty. It grows with what is recorded (56 bytes an operation); the recorder bounds it.
 */
struct holt_history {
  struct holt_history_op *ops; /* in the order of holt_history_call */
  size_t count;
  size_t cap;
};

void holt_history_free(struct holt_history *history);
/* Record a call (`value` and `expected` are ignored by the kinds that have none) and return its number. It
 * stays UNKNOWN until one of the two below: what a client never heard of again needs nothing more. */
size_t holt_history_call(struct holt_history *history, uint32_t client, enum holt_history_kind kind,
                         uint64_t key, uint64_t value, uint64_t expected, uint64_t now);
/* Operation `number` was answered. */
void holt_history_return(struct holt_history *history, size_t number, uint64_t result, uint64_t now);
/* Operation `number` did not happen and will not. */
void holt_history_fail(struct holt_history *history, size_t number, uint64_t now);

enum holt_verdict_kind {
  HOLT_VERDICT_OK,
  HOLT_VERDICT_UNDECIDED, /* nothing wrong was found, but on some key the search was given up */
  HOLT_VERDICT_MALFORMED, /* not a history: returned before its call, a reserved value, pushed twice… */
  HOLT_VERDICT_NOT_LINEARIZABLE,
  HOLT_VERDICT_FROM_NOWHERE,   /* popped, but not pushed or not yet */
  HOLT_VERDICT_POPPED_TWICE,   /* one value by two pops */
  HOLT_VERDICT_ORDER_INVERTED, /* a later value came out, an earlier one did not or later */
  HOLT_VERDICT_WRONG_EMPTY,    /* "empty", while there was a value at every moment of the pop */
};

struct holt_verdict {
  enum holt_verdict_kind kind;
  uint64_t key;           /* where it is wrong; of the first undecided key when UNDECIDED */
  size_t key_count;       /* keys looked at */
  size_t undecided_count; /* of these, given up */
  size_t op_count;        /* operations looked at */
  uint64_t step_count;    /* of the search */
  char why[2000];         /* for people, several lines, the last without newline; "" when OK */
};

#define HOLT_HISTORY_STEPS 4000000 /* as `step_count_max`: about a second a key */

/* Check the map operations of `history` (borrowed), key by key, up to the first that is wrong.
 *
 * Deciding is NP-complete (Gibbons and Korach, "Testing shared memories", 1997): on each key the search is
 * given up after `step_count_max` tried operations, the key counts as undecided and the check goes on with
 * the next. What makes it slow is many overlapping operations on one key, with results that allow many
 * orders, and among them those of unknown outcome: each of these stays open to the end. Memory grows with the
 * steps of one key, by up to a hundred bytes a step, more where hundreds of operations overlap. */
void holt_history_check_map(const struct holt_history *history, uint64_t step_count_max,
                            struct holt_verdict *verdict);

/* Check the queue operations of `history` (borrowed), queue by queue, up to the first that is wrong; in
 * O(n log n), always decided. fifo.c states the rules. */
void holt_history_check_fifo(const struct holt_history *history, struct holt_verdict *verdict);

/* The word of a verdict, as in "order_inverted". */
const char *holt_verdict_word(enum holt_verdict_kind kind);

#endif /* HOLT_SIM_HISTORY_H */
