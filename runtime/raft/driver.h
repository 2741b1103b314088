/* driver.h - persist, then send, then apply: performs what a raft asks for, in the order that keeps it safe.
 *
 * Between a raft (raft/raft.h) and the world. It hands each persist to the log writer, keeps back the
 * messages that must wait for one, applies what is committed, feeds back what is durable and applied, decides
 * when to take a snapshot, and fills the pieces of one that leave. The world is a table of functions; the
 * driver has no clock, no I/O and no chance of its own, so the simulator and the product run the same one.
 *
 * No function of the table may call the driver: answers come in on a later turn. */
#ifndef HOLT_RAFT_DRIVER_H
#define HOLT_RAFT_DRIVER_H

#include "raft/raft.h"

struct holt_raft_driver_io {
  /* Write `persist` (borrowed) after all before it; holt_raft_driver_persisted once it is durable.
   * Returns 0; 1: it is durable already (a log in memory); HOLT_E*: the disk failed, for good. */
  int (*persist)(void *arg, const struct holt_raft_persist *persist);
  /* Send `bytes` (borrowed) to message->to, or lose them. Only the plain fields of `message` count: what it
   * points to may be gone. */
  void (*send)(void *arg, const struct holt_raft_message *message, struct holt_buf bytes);
  /* Apply the entry (borrowed): each index once, in order. */
  void (*apply)(void *arg, const struct holt_raft_entry *entry);
  /* An answer of the raft's (borrowed). */
  void (*done)(void *arg, const struct holt_raft_done *done);
  /* Freeze the state as it is now, which is what `snapshot` (borrowed) stands for; write it, keep the one
   * before; then holt_raft_driver_snapshot_taken. An error: try again later. */
  int (*snapshot_take)(void *arg, const struct holt_raft_snapshot *snapshot);
  /* Copy up to *len bytes at `offset` of the snapshot into `out`; *len: how many. HOLT_EBUSY: not now, the
   * piece is asked for again after a heartbeat; other HOLT_E*: not there any more. */
  int (*snapshot_read)(void *arg, const struct holt_raft_snapshot *snapshot, uint64_t offset, uint8_t *out,
                       uint32_t *len);
  /* Store a piece (borrowed) that arrived; after the last one make it durable, put the state machine in its
   * place at once, and say holt_raft_driver_snapshot_stored. An error counts as stored with that code. */
  int (*snapshot_part)(void *arg, const struct holt_raft_part *part);
  /* Whether entries may be applied now; if not, they wait for holt_raft_driver_turn. NULL: always. */
  bool (*may_apply)(void *arg);
  /* Look at a step and what came of it, before anything is performed. May be NULL. */
  void (*observe)(void *arg, const struct holt_raft_event *event, const struct holt_raft_update *update,
                  int rc);
};

struct holt_raft_driver_options {
  uint64_t snapshot_entries; /* take one after that many entries applied; 0: never for their number */
  uint64_t snapshot_bytes;   /* or that many bytes of them; 0: never for their size */
  size_t held_bytes_max;     /* of messages that wait for a persist; beyond, they are lost (Raft copes) */
  uint32_t apply_max;        /* entries applied from one holt_raft_driver_turn to the next, each 512 bytes
                              * of one counting as another; 0: all */
};

/* A message that waits: the head, then `len` bytes in the ring. */
struct holt__raft_held {
  struct holt_raft_message message;
  uint64_t after_seq;
  uint8_t *bytes; /* ours */
  size_t len;
};

/* The fields are the driver's own; the caller may read deadline_ms, applied and the counters. */
struct holt_raft_driver {
  struct holt_raft *raft; /* borrowed */
  struct holt_raft_driver_io io;
  void *arg;
  struct holt_raft_driver_options options;
  uint64_t deadline_ms; /* when holt_raft_driver_time is due */
  uint64_t applied, apply_to;
  uint32_t apply_left; /* of apply_max */
  uint64_t lost_messages, snapshots_taken, snapshots_stored;
  const char *fatal; /* see holt_raft_update: nothing is performed any more */

  uint64_t applied_told, durable, durable_told;
  bool has_failed, failed_told;
  bool is_storing;                  /* a received snapshot is being made durable */
  struct holt_raft_snapshot taking; /* index 0: none under way */
  struct holt_raft_snapshot storing;
  uint64_t snapshot_index; /* of the newest durable one */
  uint64_t tried_index; /* of the last one begun: after a failure the next waits as long as after a success */
  uint64_t bytes_since; /* applied since */
  uint64_t gone[HOLT_RAFT_MEMBERS_MAX];
  size_t gone_count;
  int taken_code, stored_code;
  bool taken_due, stored_due;

  struct holt__raft_held *held; /* in the order of after_seq */
  size_t held_head, held_count, held_cap, held_bytes;
  struct holt_writer scratch; /* one message */
  struct holt_writer chunk;   /* one piece of a snapshot */
};

/* `raft` is borrowed, `applied` is what the state machine holds (the index of the snapshot it was restored
 * from). The first deadline is now: call holt_raft_driver_time. */
void holt_raft_driver_init(struct holt_raft_driver *driver, struct holt_raft *raft,
                           const struct holt_raft_driver_io *io, void *arg,
                           const struct holt_raft_driver_options *options, uint64_t applied);
void holt_raft_driver_close(struct holt_raft_driver *driver);

/* Hand `event` to the raft and perform what comes of it, to the end. Errors are those of holt_raft_step. */
int holt_raft_driver_step(struct holt_raft_driver *driver, const struct holt_raft_event *event);
/* Time has passed: call at deadline_ms, and no harm in calling at another time. */
int holt_raft_driver_time(struct holt_raft_driver *driver, uint64_t now_ms);
/* Bytes from another member. HOLT_EPROTOCOL: malformed, nothing was done. */
int holt_raft_driver_receive(struct holt_raft_driver *driver, struct holt_buf bytes, uint64_t now_ms);
/* The persist `seq` and all before it are durable. */
int holt_raft_driver_persisted(struct holt_raft_driver *driver, uint64_t seq, uint64_t now_ms);
/* Nothing can be written any more: messages that wait are thrown away. */
int holt_raft_driver_disk_failed(struct holt_raft_driver *driver, uint64_t now_ms);
/* The snapshot under way is durable (`size_bytes` of it), or `code` says why not. */
int holt_raft_driver_snapshot_taken(struct holt_raft_driver *driver, int code, uint64_t size_bytes,
                                    uint64_t now_ms);
/* The received snapshot is durable and the state machine stands at it, or `code` says why not. */
int holt_raft_driver_snapshot_stored(struct holt_raft_driver *driver, int code, uint64_t now_ms);
/* Another turn of the loop: go on applying what apply_max left. */
int holt_raft_driver_turn(struct holt_raft_driver *driver, uint64_t now_ms);
bool holt_raft_driver_has_work(const struct holt_raft_driver *driver);

#endif /* HOLT_RAFT_DRIVER_H */
