/* How long the loop stands still while a large state is frozen, written, sent, taken in and freed.
 *
 *   bench_snapshot [ENTRIES [VALUE_BYTES [FOLDER]]]    11,000,000 of 64 bytes, in memory
 *
 * Two processes: a leader with the state, and a member without a vote that joins (takes in a snapshot), then
 * stands still until the log it needs is gone (takes in another one and frees the state it had). Operations
 * go on meanwhile. Each turn of the loop is timed, by the clock of the wall and by the processor time of its
 * thread: on a busy machine only the second is the program's own. With a FOLDER, where two folders are made,
 * both members are durable, and in the end the joiner is opened again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rand.h"
#include "env/uv.h"
#include "node/node.h"

enum { KEY_BYTES = 16, BATCH = 1000, FILLING = 4, WORKING = 8, SNAPSHOT_ENTRIES = 20000, BUCKETS = 20000 };

enum phase { STARTING, JOIN, STAND_STILL, GO_ON, REOPEN, END };

/* What both processes see. */
struct shared {
  volatile enum phase phase;
  volatile enum phase done; /* the joiner is through with it */
  char address[128];
  volatile uint64_t applied; /* at the leader: the joiner shall come as far */
};

struct process {
  const char *name;
  struct shared *shared;
  struct holt_env *env;
  struct holt_node *node;
  struct holt_cluster *cluster;
  uint64_t entries, filled, worked;
  size_t value_bytes;
  const char *folder;
  struct task *tasks; /* each submits its next operation between two turns */
  size_t task_count;
  uint64_t snapshot;          /* index of the last one told */
  uint32_t wall[BUCKETS + 1]; /* turns by tens of microseconds */
  uint32_t cpu[BUCKETS + 1];
  uint64_t worst_wall, worst_cpu, turns;
  struct timespec began;
};

struct task {
  struct process *p;
  struct holt_cluster_request request;
  bool is_filling, is_idle;
};

static uint64_t nanoseconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void give_up(const char *what) {
  fprintf(stderr, "bench_snapshot: %s\n", what);
  exit(1);
}

/* --- Measuring ---------------------------------------------------------------------------------------- */

static uint64_t memory_mb(const char *what) {
  char line[256];
  uint64_t kb = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (strncmp(line, what, strlen(what)) == 0) kb = strtoull(line + strlen(what) + 1, NULL, 10);
  if (file) fclose(file);
  return kb / 1024;
}

static void begin_phase(struct process *p) {
  memset(p->wall, 0, sizeof p->wall);
  memset(p->cpu, 0, sizeof p->cpu);
  p->worst_wall = p->worst_cpu = p->turns = 0;
  clock_gettime(CLOCK_MONOTONIC, &p->began);
  FILE *file = fopen("/proc/self/clear_refs", "w"); /* 5: the peak begins anew */
  if (file) {
    fputs("5", file);
    fclose(file);
  }
}

static double percentile_ms(const uint32_t *buckets, uint64_t count, double share) {
  uint64_t left = (uint64_t)((double)count * (1 - share));
  for (int i = BUCKETS; i > 0; i--) {
    if (buckets[i] > left) return (double)(i + 1) / 100;
    left -= buckets[i];
  }
  return 0.01;
}

static void end_phase(struct process *p, const char *what) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double seconds = (double)(now.tv_sec - p->began.tv_sec) + (double)(now.tv_nsec - p->began.tv_nsec) / 1e9;
  printf("%-7s %-34s %6.1f s  turn p99 %5.2f ms, worst %6.2f ms; cpu p99 %5.2f, worst %5.2f ms; "
         "memory %llu MB, peak %llu\n",
         p->name, what, seconds, percentile_ms(p->wall, p->turns, 0.99), (double)p->worst_wall / 1e6,
         percentile_ms(p->cpu, p->turns, 0.99), (double)p->worst_cpu / 1e6,
         (unsigned long long)memory_mb("VmRSS"), (unsigned long long)memory_mb("VmHWM"));
  fflush(stdout);
  begin_phase(p);
}

static void count(uint32_t *buckets, uint64_t ns) {
  uint64_t at = ns / 10000;
  buckets[at < BUCKETS ? at : BUCKETS]++;
}

static void submit_idle(struct process *p);

/* One turn that never sleeps, timed. */
static void turn(struct process *p) {
  submit_idle(p);
  uint64_t wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  holt_env_turn(p->env, false);
  cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
  wall = nanoseconds(CLOCK_MONOTONIC) - wall;
  p->turns++;
  count(p->wall, wall);
  count(p->cpu, cpu);
  if (wall > p->worst_wall) p->worst_wall = wall;
  if (cpu > p->worst_cpu) p->worst_cpu = cpu;
}

/* --- Work --------------------------------------------------------------------------------------------- */

static void on_end(void *arg, int code, struct holt_buf answer, uint64_t number) {
  struct task *task = arg;
  (void)answer, (void)number;
  if (code == HOLT_ECLOSED) return;
  if (code != 0 && code != HOLT_EBUSY) give_up(holt_err_text(code));
  task->is_idle = true;
}

static void add_set(struct holt_command *command, uint8_t map, uint64_t number, size_t value_bytes) {
  static uint8_t value[1 << 20];
  char key[KEY_BYTES + 1];
  snprintf(key, sizeof key, "%016llx", (unsigned long long)holt_hash_u64(number)); /* all over the tree */
  holt_command_op(command, map, HOLT_OP_SET, holt_buf(key, KEY_BYTES), holt_buf(value, value_bytes),
                  holt_buf(NULL, 0));
}

static void submit(struct task *task) {
  struct process *p = task->p;
  struct holt_writer out = {0};
  struct holt_command command;
  if (task->is_filling && p->filled >= p->entries) return;
  holt_command_begin(&command, &out, false);
  uint8_t map = holt_command_object(&command, HOLT_KIND_MAP, "m", holt_buf_text("o"));
  if (task->is_filling) {
    for (int i = 0; i < BATCH && p->filled < p->entries; i++)
      add_set(&command, map, p->filled++, p->value_bytes);
  } else {
    add_set(&command, map, p->worked++ * 7919 % p->entries, p->value_bytes);
  }
  holt_command_end(&command);
  task->request.cb = on_end;
  task->request.arg = task;
  holt_cluster_submit(p->cluster, &task->request, holt_buf(out.data, out.len), 600000);
  holt_writer_free(&out);
}

static void submit_idle(struct process *p) {
  for (size_t i = 0; i < p->task_count; i++) {
    if (!p->tasks[i].is_idle) continue;
    p->tasks[i].is_idle = false;
    submit(&p->tasks[i]);
  }
}

/* --- A node ------------------------------------------------------------------------------------------- */

static void on_cluster(void *arg, const struct holt_cluster_notice *notice) {
  struct process *p = arg;
  if (notice->event == HOLT_CLUSTER_SNAPSHOT) p->snapshot = notice->number;
  if (notice->err.code) fprintf(stderr, "%s: %s\n", p->name, notice->err.message);
}

static void on_closed(void *arg) {
  (void)arg;
}

static const struct holt_node_ops node_ops = {.on_cluster = on_cluster, .on_closed = on_closed};

static void open_node(struct process *p, uint32_t members) {
  static char folder[300];
  struct holt_err err;
  struct holt_node_config config = holt_node_defaults();
  begin_phase(p);
  p->env = holt_env_uv_new();
  config.link.name = p->name;
  config.cluster.name = "bench";
  config.cluster.members = members;
  config.cluster.is_voter = members == 1;
  config.cluster.can_lead = members == 1;
  config.cluster.snapshot_entries = SNAPSHOT_ENTRIES;
  config.cluster.snapshot_bytes = 0;
  if (p->folder) {
    snprintf(folder, sizeof folder, "%s/%s", p->folder, p->name);
    config.cluster.directory = folder;
  }
  if (holt_node_new(p->env, &config, &node_ops, p, &p->node, &err) != 0) give_up(err.message);
  p->cluster = holt_node_cluster(p->node);
}

static void status_of(struct process *p, struct holt_cluster_status *status) {
  holt_cluster_status(p->cluster, status);
}

static void wait_for_leader(struct process *p) {
  while (!holt_cluster_is_leader(p->cluster)) turn(p);
}

static void begin_tasks(struct process *p, struct task *tasks, size_t count, bool is_filling) {
  for (size_t i = 0; i < count; i++)
    tasks[i] = (struct task){.p = p, .is_filling = is_filling, .is_idle = true};
  p->tasks = tasks;
  p->task_count = count;
}

static void lead(struct process *p) {
  static struct task filling[FILLING], working[WORKING];
  struct holt_err err;
  struct holt_cluster_status status;
  open_node(p, 1);
  if (holt_node_listen(p->node, "127.0.0.1:0", p->shared->address, &err) != 0) give_up(err.message);
  wait_for_leader(p);
  begin_tasks(p, filling, FILLING, true);
  do turn(p);
  while (status_of(p, &status), status.pending > 0 || p->filled < p->entries);
  end_phase(p, "(fills the state)");

  begin_tasks(p, working, WORKING, false);
  while (p->snapshot == 0) turn(p);
  end_phase(p, "works, takes a snapshot");

  p->shared->phase = JOIN;
  while (p->shared->done != JOIN) {
    turn(p);
    p->shared->applied = p->snapshot;
  }
  end_phase(p, "works, sends it");

  p->shared->phase = STAND_STILL;
  while (p->shared->done != STAND_STILL) turn(p);
  for (int i = 0; i < 2; i++) /* behind the second one the log that it needs is gone */
    for (uint64_t snapshot = p->snapshot; p->snapshot == snapshot;) turn(p);
  p->shared->applied = p->snapshot;
  end_phase(p, "works, takes two more");
  p->shared->phase = GO_ON;
  while (p->shared->done != GO_ON) turn(p);
  end_phase(p, "works, sends it");
  p->shared->phase = REOPEN;
  while (p->shared->done != REOPEN) turn(p);
  p->shared->phase = END;
  wait(NULL);
  _exit(0); /* freeing a gigabyte at once is not what is measured here */
}

static bool has_come(struct process *p) {
  struct holt_cluster_status status;
  status_of(p, &status);
  return p->shared->applied > 0 && status.applied >= p->shared->applied;
}

static void settle(struct process *p, int seconds) {
  for (uint64_t end = nanoseconds(CLOCK_MONOTONIC) + (uint64_t)seconds * 1000000000u;
       nanoseconds(CLOCK_MONOTONIC) < end;)
    turn(p);
}

static void join(struct process *p) {
  struct holt_err err;
  struct holt_peer *peer;
  while (p->shared->phase < JOIN) usleep(1000);
  open_node(p, 0);
  if (holt_node_connect(p->node, p->shared->address, &peer, &err) != 0) give_up(err.message);
  while (!has_come(p)) turn(p);
  end_phase(p, "joins, takes it in");
  p->shared->done = JOIN;
  while (p->shared->phase < STAND_STILL) turn(p);
  p->shared->done = STAND_STILL;
  while (p->shared->phase < GO_ON) usleep(1000);
  begin_phase(p);
  while (!has_come(p)) turn(p);
  end_phase(p, "takes the other in");
  settle(p, 20);
  end_phase(p, "(20 s) frees what it had");
  p->shared->done = GO_ON;
  while (p->shared->phase < REOPEN) turn(p);
  if (p->folder) {
    holt_node_free(p->node);
    for (int i = 0; i < 1000; i++) turn(p);
    open_node(p, 0);
    end_phase(p, "is opened again");
  }
  p->shared->done = REOPEN;
  _exit(0);
}

int main(int argc, char **argv) {
  struct shared *shared =
      mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  static struct process p;
  if (shared == MAP_FAILED) give_up("no memory");
  p.shared = shared;
  p.entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 11000000;
  p.value_bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 64;
  p.folder = argc > 3 ? argv[3] : NULL;
  if (p.entries == 0 || p.value_bytes > 1 << 20) give_up("ENTRIES above 0, VALUE_BYTES at most 1 MiB");
  pid_t child = fork();
  if (child < 0) give_up("no process");
  p.name = child == 0 ? "joiner" : "leader";
  if (child == 0) join(&p);
  lead(&p);
}
