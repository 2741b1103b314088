/* sim_work.c - worker jobs of simulated hosts, and vaults: disks that are not made of files.
 *
 * A work takes as long as a file job; it runs when that time is over, then `done` is called. A host that dies
 * in between has done it or has not, as the seed decides. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "env/sim_impl.h"

/* --- Works ---------------------------------------------------------------------------------------- */

struct sim_job {
  struct holt_list node; /* in host->works */
  struct sim_event event;
  struct holt_work *work;
};

static void job_free(struct sim_job *job) {
  holt__sim_event_cancel(job->event.host->sim, &job->event);
  holt_list_remove(&job->node);
  free(job);
}

static void job_ends(void *arg) {
  struct sim_job *job = arg;
  struct holt_work *work = job->work;
  job_free(job);
  work->job = NULL;
  work->run(work->arg);
  work->done(work->arg);
}

void holt__sim_work(struct holt_env *env, struct holt_work *work) {
  struct sim_host *host = (struct sim_host *)env;
  struct holt_sim *sim = host->sim;
  const struct holt_sim_config *config = &sim->config;
  uint64_t range = config->disk_max_us > config->disk_min_us ? config->disk_max_us - config->disk_min_us : 0;
  uint64_t delay = config->disk_min_us + (range == 0 ? 0 : holt_rand_below(&sim->rand, range + 1));
  struct sim_job *job = holt_alloc(sizeof *job);
  job->work = work;
  work->job = job;
  holt__sim_event_init(&job->event, host, "work", job_ends, job);
  holt_list_push(&host->works, &job->node);
  holt__sim_event_at(sim, &job->event, sim->now_us + delay);
}

void holt__sim_host_works_free(struct sim_host *host) {
  HOLT_LIST_EACH(&host->works, node, next) {
    struct sim_job *job = HOLT_CONTAINER(node, struct sim_job, node);
    struct holt_work *work = job->work;
    job_free(job);
    if (holt_rand_below(&host->sim->rand, 2) == 1) work->run(work->arg);
  }
}

/* --- Vaults --------------------------------------------------------------------------------------- */

struct sim_vault {
  struct holt_list node; /* in sim->vaults */
  struct holt_vault vault;
  char host[64];
  char *path;
};

struct holt_vault *holt_sim_vault_of(struct holt_sim *sim, const char *host, const char *path) {
  HOLT_LIST_EACH(&sim->vaults, node, next) {
    struct sim_vault *v = HOLT_CONTAINER(node, struct sim_vault, node);
    if (strcmp(v->host, host) == 0 && strcmp(v->path, path) == 0) return &v->vault;
  }
  struct sim_vault *v = holt_alloc(sizeof *v);
  snprintf(v->host, sizeof v->host, "%s", host);
  v->path = holt_strdup(path);
  holt_list_push(&sim->vaults, &v->node);
  return &v->vault;
}

struct holt_vault *holt__sim_vault(struct holt_env *env, const char *path) {
  const struct sim_host *host = (const struct sim_host *)env;
  return holt_sim_vault_of(host->sim, host->name, path);
}

void holt__sim_vaults_free(struct holt_sim *sim) {
  HOLT_LIST_EACH(&sim->vaults, node, next) {
    struct sim_vault *v = HOLT_CONTAINER(node, struct sim_vault, node);
    if (v->vault.object != NULL) v->vault.free(v->vault.object);
    free(v->path);
    free(v);
  }
}
