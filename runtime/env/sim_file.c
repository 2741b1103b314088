/* sim_file.c - directories of simulated hosts: jobs with a delay, on disks that outlive the host's process.
 *
 * A job's operations happen together when it ends. A host that dies in between has run some of them, in
 * order, as the seed decides; then its disks lose what was not synced. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/sim_disk.h"
#include "env/sim_impl.h"

struct sim_dir;

/* A directory of a host, whether somebody has it open or not. */
struct sim_slot {
  struct holt_list node; /* in sim->disks */
  char host[64];
  char *path;
  struct holt_sim_disk *disk;
  struct sim_dir *open;
  bool is_stalled;
};

struct sim_dir {
  struct holt_dir dir;
  struct sim_host *host;
  struct sim_slot *slot;
  struct sim_event event; /* the end of the job under way */
  bool is_held;           /* it should have ended, but the disk is stalled */
};

static struct sim_slot *find_slot(struct holt_sim *sim, const char *host, const char *path) {
  HOLT_LIST_EACH(&sim->disks, node, next) {
    struct sim_slot *slot = HOLT_CONTAINER(node, struct sim_slot, node);
    if (strcmp(slot->host, host) == 0 && strcmp(slot->path, path) == 0) return slot;
  }
  return NULL;
}

static struct sim_slot *need_slot(struct holt_sim *sim, const char *host, const char *path) {
  struct sim_slot *slot = find_slot(sim, host, path);
  if (slot != NULL) return slot;
  slot = holt_alloc(sizeof *slot);
  snprintf(slot->host, sizeof slot->host, "%s", host);
  slot->path = holt_strdup(path);
  slot->disk = holt_sim_disk_new();
  holt_list_push(&sim->disks, &slot->node);
  return slot;
}

/* --- Jobs ----------------------------------------------------------------------------------------- */

static int run(struct holt_dir *dir, const struct holt_file_op *ops, size_t count, size_t *failed) {
  return holt_sim_disk_run(((struct sim_dir *)dir)->slot->disk, ops, count, failed);
}

static void job_ends(void *arg) {
  struct sim_dir *d = arg;
  if (d->slot->is_stalled) {
    d->is_held = true;
    return;
  }
  struct holt_file_job *job = d->dir.running;
  job->status = run(&d->dir, job->ops, job->count, &job->failed);
  holt__dir_job_done(&d->dir);
}

static void start(struct holt_dir *dir) {
  struct sim_dir *d = (struct sim_dir *)dir;
  struct holt_sim *sim = d->host->sim;
  const struct holt_sim_config *config = &sim->config;
  uint64_t range = config->disk_max_us > config->disk_min_us ? config->disk_max_us - config->disk_min_us : 0;
  uint64_t delay = config->disk_min_us + (range == 0 ? 0 : holt_rand_below(&sim->rand, range + 1));
  holt__sim_event_at(sim, &d->event, sim->now_us + delay);
}

void holt_sim_disk_stall(struct holt_sim *sim, const char *host, const char *path, bool is_stalled) {
  struct sim_slot *slot = need_slot(sim, host, path);
  slot->is_stalled = is_stalled;
  if (is_stalled || slot->open == NULL || !slot->open->is_held) return;
  slot->open->is_held = false;
  holt__sim_event_at(sim, &slot->open->event, sim->now_us);
}

/* --- At once -------------------------------------------------------------------------------------- */

static int size_of(struct holt_dir *dir, const char *name, uint64_t *size_bytes, struct holt_err *err) {
  struct holt_buf bytes;
  int rc = holt_sim_disk_view(((struct sim_dir *)dir)->slot->disk, name, &bytes);
  if (rc != 0) return holt_err_set(err, rc, "cannot look at %s/%s: %s", dir->path, name, holt_err_text(rc));
  *size_bytes = bytes.len;
  return 0;
}

static int list(struct holt_dir *dir, char ***names, size_t *count, struct holt_err *err) {
  (void)err;
  return holt_sim_disk_list(((struct sim_dir *)dir)->slot->disk, names, count);
}

/* --- Life ----------------------------------------------------------------------------------------- */

static void free_dir(struct holt_dir *dir) {
  struct sim_dir *d = (struct sim_dir *)dir;
  holt__sim_event_cancel(d->host->sim, &d->event);
  d->slot->open = NULL;
  free(d);
}

static const struct holt_dir_ops dir_ops = {
    .list = list, .size = size_of, .run = run, .start = start, .free = free_dir};

int holt__sim_dir_open(struct holt_env *env, const char *path, struct holt_dir **out, struct holt_err *err) {
  struct sim_host *host = (struct sim_host *)env;
  struct sim_slot *slot = need_slot(host->sim, host->name, path);
  if (slot->open != NULL)
    return holt_err_set(err, HOLT_ELOCKED,
                        "the folder '%s' is in use by another process; stop that one, or give another folder",
                        path);
  struct sim_dir *d = holt_alloc(sizeof *d);
  d->host = host;
  d->slot = slot;
  slot->open = d;
  holt__sim_event_init(&d->event, host, "file", job_ends, d);
  holt__dir_init(&d->dir, env, &dir_ops, path);
  *out = &d->dir;
  return 0;
}

void holt__sim_host_files_free(struct sim_host *host) {
  struct holt_sim *sim = host->sim;
  HOLT_LIST_EACH(&host->env.dirs, node, next) {
    struct sim_dir *d = (struct sim_dir *)HOLT_CONTAINER(node, struct holt_dir, node);
    const struct holt_file_job *job = d->dir.running;
    if (job != NULL && !d->slot->is_stalled)
      holt_sim_disk_run(d->slot->disk, job->ops, (size_t)holt_rand_below(&sim->rand, job->count + 1), NULL);
    holt__dir_free(&d->dir);
  }
  HOLT_LIST_EACH(&sim->disks, other, after) {
    struct sim_slot *slot = HOLT_CONTAINER(other, struct sim_slot, node);
    if (strcmp(slot->host, host->name) != 0) continue;
    int loss = sim->config.disk_loss;
    if (loss == 0) loss = 1 + (int)holt_rand_below(&sim->rand, HOLT_SIM_LOSSES);
    holt_sim_disk_crash(slot->disk, &sim->rand, (enum holt_sim_loss)(loss - 1));
  }
}

void holt__sim_disks_free(struct holt_sim *sim) {
  HOLT_LIST_EACH(&sim->disks, node, next) {
    struct sim_slot *slot = HOLT_CONTAINER(node, struct sim_slot, node);
    holt_sim_disk_free(slot->disk);
    free(slot->path);
    free(slot);
  }
}

struct holt_sim_disk *holt_sim_disk_of(struct holt_sim *sim, const char *host, const char *path) {
  return need_slot(sim, host, path)->disk;
}
