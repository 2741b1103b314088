/* sim_disk.h - a simulated directory on a simulated disk: what was synced, what was not, and faults.
 *
 * A pure object: no clock, no chance of its own, no env. Programs see what they wrote at once; a crash takes
 * back what was not synced, as a draw from the caller's chance decides. For whole simulated hosts see
 * holt_sim_disk_of (env/sim.h). */
#ifndef HOLT_ENV_SIM_DISK_H
#define HOLT_ENV_SIM_DISK_H

#include "base/rand.h"
#include "env/file.h"

struct holt_sim_disk;

enum { HOLT_SIM_SECTOR = 512 }; /* what a disk writes whole or not at all */

struct holt_sim_disk *holt_sim_disk_new(void);
void holt_sim_disk_free(struct holt_sim_disk *disk);
/* Another disk in the same state, un-synced writes and faults included. */
struct holt_sim_disk *holt_sim_disk_clone(const struct holt_sim_disk *disk);

/* Run operations in order up to the first that fails; `failed` (may be NULL) gets its place, else `count`.
 * Nothing is kept of what the operations point to. Errors: HOLT_EIO, HOLT_ENOSPC, HOLT_ENOTFOUND, HOLT_EEOF.
 */
int holt_sim_disk_run(struct holt_sim_disk *disk, const struct holt_file_op *ops, size_t count,
                      size_t *failed);
/* The name of file number `i` in sorted order, NULL behind the last. Borrowed until the disk changes. */
const char *holt_sim_disk_name(const struct holt_sim_disk *disk, size_t i);
/* All of them, sorted; `*names` is returned: free() it, once. Always 0. */
int holt_sim_disk_list(const struct holt_sim_disk *disk, char ***names, size_t *count);
/* What a program reads. Borrowed until the disk changes. HOLT_ENOTFOUND. */
int holt_sim_disk_view(const struct holt_sim_disk *disk, const char *name, struct holt_buf *bytes);

/* --- Crashes -------------------------------------------------------------------------------------- */

/* What becomes of writes, lengths and names that were not synced. */
enum holt_sim_loss {
  HOLT_SIM_LOSS_NONE,    /* only the process dies: the system still holds everything, still un-synced */
  HOLT_SIM_LOSS_ALL,     /* everything un-synced is gone */
  HOLT_SIM_LOSS_PREFIX,  /* what was written up to some moment is there, the last write in part */
  HOLT_SIM_LOSS_SECTORS, /* each sector and each name for itself is there or not */
  HOLT_SIM_LOSSES
};

void holt_sim_disk_crash(struct holt_sim_disk *disk, struct holt_rand *rand, enum holt_sim_loss loss);
/* Writes, lengths and names that a crash now could take. */
size_t holt_sim_disk_unsynced(const struct holt_sim_disk *disk);

/* --- Faults --------------------------------------------------------------------------------------- */

/* The operation of `type` (0: of any type) that comes after `after` others of it fails with `code`. A WRITE
 * still writes its first `keep` bytes; after a failed SYNC the un-synced bytes of that file can never reach
 * the disk any more, though they are read, as on Linux. Once; `code` 0 takes the fault away. */
void holt_sim_disk_fail(struct holt_sim_disk *disk, enum holt_file_op_type type, unsigned after, int code,
                        size_t keep);
/* All files together may have this many bytes; beyond it HOLT_ENOSPC, a WRITE having written what fits. 0:
 * any. */
void holt_sim_disk_limit(struct holt_sim_disk *disk, uint64_t size_bytes);
/* Rot: turn one bit over, cut a file short, take it away; on the disk itself. HOLT_ENOTFOUND, HOLT_EINVAL. */
int holt_sim_disk_flip(struct holt_sim_disk *disk, const char *name, uint64_t bit);
int holt_sim_disk_truncate(struct holt_sim_disk *disk, const char *name, uint64_t size_bytes);
int holt_sim_disk_lose(struct holt_sim_disk *disk, const char *name);

/* --- Questions ------------------------------------------------------------------------------------ */

struct holt_sim_disk_stats {
  uint64_t ops, syncs, bytes_written, crashes;
};

struct holt_sim_disk_stats holt_sim_disk_stats(const struct holt_sim_disk *disk);
uint64_t holt_sim_disk_used(const struct holt_sim_disk *disk);
/* Over names and bytes as a program sees them. */
uint64_t holt_sim_disk_hash(const struct holt_sim_disk *disk);

#endif /* HOLT_ENV_SIM_DISK_H */
