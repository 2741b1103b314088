/* sim.h - the seam as a virtual machine room: hosts, a clock, a network, all from one seed.
 *
 * Time passes only between events, so a minute costs what its events cost. One seed gives one run, bit for
 * bit; holt_sim_hash tells whether two runs were the same. Streams keep order and lose nothing unless they
 * break, as TCP does; delays, chunk sizes and breaks are drawn from the seed. Hosts are addressed by name:
 * "n1:7001". */
#ifndef HOLT_ENV_SIM_H
#define HOLT_ENV_SIM_H

#include "env/env.h"

struct holt_sim;

struct holt_sim_config {
  uint64_t seed;
  uint32_t delay_min_us, delay_max_us; /* one way; drawn for each write */
  uint32_t chunk_max;                  /* largest piece that arrives at once, 0: whole writes */
  uint32_t send_buffer;                /* bytes in flight before a writer must wait; 0: 256 KiB */
  uint32_t disk_min_us, disk_max_us;   /* how long a file job or a work takes; drawn for each */
  int disk_loss; /* what a host's death does to its disks: 1 + enum holt_sim_loss, 0: drawn */
};

struct holt_sim *holt_sim_new(const struct holt_sim_config *config);
/* Frees the room and every host still in it. */
void holt_sim_free(struct holt_sim *sim);
/* A new host. holt_env_free() on it is its death: streams break, listeners vanish, its disks lose what was
 * not synced (or part of it); the name can be used again. `name` is copied. */
struct holt_env *holt_sim_host(struct holt_sim *sim, const char *name);

/* Run one event; false when there is none. */
bool holt_sim_step(struct holt_sim *sim);
/* Run everything that happens in the next `duration_ms`, and let that much time pass. */
void holt_sim_run(struct holt_sim *sim, uint64_t duration_ms);
uint64_t holt_sim_now_ms(const struct holt_sim *sim);
/* Events run so far, and the hash over all of them: time, host, kind, bytes. */
uint64_t holt_sim_events(const struct holt_sim *sim);
uint64_t holt_sim_hash(const struct holt_sim *sim);
/* Chance of the run itself, for tests that draw their faults. */
struct holt_rand *holt_sim_rand(struct holt_sim *sim);

/* Cut or heal the way from one host to another (one direction). While cut nothing passes: data waits as TCP
 * would resend it, resets are lost, dials time out after five seconds. */
void holt_sim_cut(struct holt_sim *sim, const char *from, const char *to, bool is_cut);
/* Break every stream between two hosts: what was under way is lost, both sides hear of a reset. */
void holt_sim_break(struct holt_sim *sim, const char *a, const char *b);
/* Stop and continue a host, as SIGSTOP does: its sockets go on accepting, its code does not run. */
void holt_sim_pause(struct holt_sim *sim, const char *name, bool is_paused);
/* The disk behind a directory of a host (env/sim_disk.h), for faults and for looking at: made when it is not
 * there, kept until the room is freed, however often the host dies. */
struct holt_sim_disk *holt_sim_disk_of(struct holt_sim *sim, const char *host, const char *path);
/* While stalled no file job of that directory ends, nor does anything of it happen. */
void holt_sim_disk_stall(struct holt_sim *sim, const char *host, const char *path, bool is_stalled);
/* The vault behind a path of a host (holt_env_vault): made when it is not there. */
struct holt_vault *holt_sim_vault_of(struct holt_sim *sim, const char *host, const char *path);
/* Stream ends that are open in the whole room. */
unsigned holt_sim_open_streams(const struct holt_sim *sim);

#endif /* HOLT_ENV_SIM_H */
