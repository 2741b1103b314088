/* sim_impl.h - shared by the files of the simulated machine room. */
#ifndef HOLT_ENV_SIM_IMPL_H
#define HOLT_ENV_SIM_IMPL_H

#include "base/rand.h"
#include "env/env_impl.h"
#include "env/sim.h"

struct sim_host;

/* Something that happens on a host at a time. Its memory belongs to what it is embedded in. */
struct sim_event {
  struct holt_heap_node node; /* key: microseconds */
  struct holt_list deferred;  /* in host->deferred while the host is paused */
  struct sim_host *host;
  const char *kind; /* for the trace */
  void (*run)(void *arg);
  void *arg;
};

struct sim_cut {
  struct holt_list node;
  char from[64], to[64];
};

struct holt_sim {
  struct holt_sim_config config;
  struct holt_rand rand;
  struct holt_heap events;
  uint64_t now_us;
  uint64_t count, hash;
  struct holt_list hosts, cuts, disks, vaults;
  unsigned open_streams;
  unsigned hosts_made;
};

struct sim_host {
  struct holt_env env;
  struct holt_sim *sim;
  struct holt_list node; /* in sim->hosts */
  char name[64];
  unsigned number;
  struct holt_rand rand;
  struct sim_event wake; /* timers and posts */
  bool is_paused;
  struct holt_list deferred; /* of sim_event */
  struct holt_list streams, listeners, dials, accepts, works;
  uint16_t next_port;
};

void holt__sim_event_init(struct sim_event *event, struct sim_host *host, const char *kind,
                          void (*run)(void *), void *arg);
/* At `at_us`; an event that is already due is moved. */
void holt__sim_event_at(struct holt_sim *sim, struct sim_event *event, uint64_t at_us);
void holt__sim_event_cancel(struct holt_sim *sim, struct sim_event *event);
void holt__sim_trace(struct holt_sim *sim, uint64_t value);
struct sim_host *holt__sim_find_host(struct holt_sim *sim, const char *name);
bool holt__sim_is_cut(struct holt_sim *sim, const char *from, const char *to);
uint64_t holt__sim_delay_us(struct holt_sim *sim);

int holt__sim_listen(struct holt_env *env, const char *address, holt_accept_cb cb, void *arg,
                     struct holt_listener **out, char actual[128], struct holt_err *err);
void holt__sim_listener_close(struct holt_listener *listener);
struct holt_dial *holt__sim_dial(struct holt_env *env, const char *address, holt_dial_cb cb, void *arg);
void holt__sim_dial_cancel(struct holt_dial *dial);
/* The host's process is gone: break its streams, forget its listeners and dials. */
void holt__sim_host_sockets_free(struct sim_host *host);

int holt__sim_dir_open(struct holt_env *env, const char *path, struct holt_dir **out, struct holt_err *err);
/* The host is gone: what its disks have not synced may be lost. */
void holt__sim_host_files_free(struct sim_host *host);
void holt__sim_disks_free(struct holt_sim *sim);

void holt__sim_work(struct holt_env *env, struct holt_work *work);
/* The host is gone: each work under way has happened or has not. */
void holt__sim_host_works_free(struct sim_host *host);
struct holt_vault *holt__sim_vault(struct holt_env *env, const char *path);
void holt__sim_vaults_free(struct holt_sim *sim);

#endif /* HOLT_ENV_SIM_IMPL_H */
