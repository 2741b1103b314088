/* kv_disk.h - the simulated disk behind an ordered store of a simulated host: what is on it, and faults. */
#ifndef HOLT_STORE_KV_DISK_H
#define HOLT_STORE_KV_DISK_H

#include "base/err.h"
#include "env/sim.h"

struct holt_kv_disk;

/* The disk of a host's folder, made when it is not there; lives as long as the room. */
struct holt_kv_disk *holt_kv_disk_of(struct holt_sim *sim, const char *host, const char *path);

/* Keys and values together may have this many bytes; a transaction beyond it is HOLT_ENOSPC. 0: any. */
void holt_kv_disk_limit(struct holt_kv_disk *disk, uint64_t size_bytes);
/* The commit after `after` others fails with `code` (HOLT_ENOSPC or HOLT_EIO), nothing of it is on the disk.
 * Once. */
void holt_kv_disk_fail(struct holt_kv_disk *disk, unsigned after, int code);
/* Rot: turn bit `bit` of the value of record number `record` (in order) of a table over. HOLT_ENOTFOUND. */
int holt_kv_disk_flip(struct holt_kv_disk *disk, const char *table, uint64_t record, uint64_t bit);
/* Rot: take that record away. */
int holt_kv_disk_lose(struct holt_kv_disk *disk, const char *table, uint64_t record);

struct holt_kv_disk_stats {
  uint64_t commits, bytes;
};
struct holt_kv_disk_stats holt_kv_disk_stats(const struct holt_kv_disk *disk);

#endif /* HOLT_STORE_KV_DISK_H */
