/* main.c - holt-sim: clusters under faults, and the check of recorded histories, from the shell. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "env/uv.h"
#include "sim/history_file.h"
#include "sim/raft_sim.h"

static const char help[] =
    "Runs Raft clusters in simulation, under faults drawn from seeds, and says which promise broke.\n"
    "\n"
    "  holt-sim                               1000 seeds of everything\n"
    "  holt-sim --seed 42 --seeds 1 --words   one run, told in words\n"
    "  holt-sim --profile network --seeds 100 --events 100000\n"
    "  holt-sim check < FILE                  is a recorded history linearizable? FILE: lines, see\n"
    "                                         runtime/sim/history_file.h\n"
    "\n"
    "  --profile NAME   calm, network, disk, process, membership, swarm (each seed draws from all\n"
    "                   faults), or all: each seed the next of these (default)\n"
    "  --seed N         the first seed (default 1)\n"
    "  --seeds N        how many (default 1000)\n"
    "  --events N       simulated events a seed before all faults are healed (default 20000)\n"
    "  --without FAULT  leave this fault out; may be repeated\n"
    "  --words          tell what happens in words\n"
    "  --messages       tell every message as well\n"
    "  --no-shrink      show a failing run as it is\n"
    "  --quiet          the summary only\n"
    "  --help           this text\n"
    "\n"
    "Ends with 0 when every seed kept every promise (check: when the history is in order), with 1 and the "
    "shortest\n"
    "failing run found otherwise (what is wrong; also where the search was given up), with 2 for wrong "
    "usage.\n";

struct options {
  uint64_t seed, seeds, events;
  enum holt_raft_sim_profile profile;
  uint32_t without;
  bool words, messages, is_quiet, no_shrink;
};

/* An assertion ends the process: tell at which seed that was. */
static char present_seed[40];
static size_t present_len;

static void on_abort(int number) {
  (void)number; /* the process ends when this returns */
  if (write(2, present_seed, present_len) < 0) _exit(3);
}

static int complain(const char *what, const char *text) {
  fprintf(stderr, "holt-sim: %s%s; try holt-sim --help\n", what, text);
  return 2;
}

static bool number(const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  *out = strtoull(text, &end, 10);
  return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

static bool profile(const char *text, enum holt_raft_sim_profile *out) {
  for (int i = 0; i <= HOLT_RAFT_SIM_ALL; i++) {
    if (strcmp(holt_raft_sim_profile_word((enum holt_raft_sim_profile)i), text) != 0) continue;
    *out = (enum holt_raft_sim_profile)i;
    return true;
  }
  return false;
}

static bool fault(const char *text, uint32_t *bits) {
  for (unsigned i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT; i++) {
    if (strcmp(holt_raft_sim_fault_word((enum holt_raft_sim_fault)i), text) != 0) continue;
    *bits |= 1u << i;
    return true;
  }
  return false;
}

static int parse(int argc, char **argv, struct options *o) {
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    bool is_good = true;
    if (strcmp(name, "--words") == 0) {
      o->words = true;
      continue;
    }
    if (strcmp(name, "--messages") == 0) {
      o->messages = o->words = true;
      continue;
    }
    if (strcmp(name, "--quiet") == 0) {
      o->is_quiet = true;
      continue;
    }
    if (strcmp(name, "--no-shrink") == 0) {
      o->no_shrink = true;
      continue;
    }
    if (strcmp(name, "--seed") != 0 && strcmp(name, "--seeds") != 0 && strcmp(name, "--events") != 0 &&
        strcmp(name, "--profile") != 0 && strcmp(name, "--without") != 0)
      return complain("no such option: ", name);
    if (value == NULL) return complain("a value is missing after ", name);
    i++;
    if (strcmp(name, "--seed") == 0) is_good = number(value, &o->seed);
    if (strcmp(name, "--seeds") == 0) is_good = number(value, &o->seeds);
    if (strcmp(name, "--events") == 0) is_good = number(value, &o->events);
    if (strcmp(name, "--profile") == 0) is_good = profile(value, &o->profile);
    if (strcmp(name, "--without") == 0) is_good = fault(value, &o->without);
    if (!is_good) return complain("cannot use ", value);
  }
  return 0;
}

static void print_line(void *arg, const char *text) {
  fprintf(arg, "%s\n", text);
}

static void add(struct holt_raft_sim_result *sum, const struct holt_raft_sim_result *r) {
  for (int i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT; i++) sum->faults[i] += r->faults[i];
  sum->events += r->events;
  sum->time_us += r->time_us;
  sum->hash = (sum->hash ^ r->hash) * 0x9e3779b97f4a7c15u;
  sum->messages += r->messages;
  sum->elections += r->elections;
  sum->commits += r->commits;
  sum->applied += r->applied;
  sum->snapshots_taken += r->snapshots_taken;
  sum->snapshots_installed += r->snapshots_installed;
  sum->restarts += r->restarts;
  sum->changes += r->changes;
  sum->operations += r->operations;
  sum->reads += r->reads;
  sum->retries += r->retries;
  sum->unknown += r->unknown;
  sum->undecided += r->undecided;
}

static void progress(uint64_t done, uint64_t all, uint64_t events, double seconds) {
  char bar[31] = "..............................";
  for (uint64_t i = 0; all > 0 && i < 30 * done / all; i++) bar[i] = '#';
  fprintf(stderr, "\r[%s] %llu of %llu seeds, %.1f M events, %.0f k/s ", bar, (unsigned long long)done,
          (unsigned long long)all, (double)events / 1e6, seconds > 0 ? (double)events / seconds / 1e3 : 0);
}

static void summary(const struct options *o, const struct holt_raft_sim_result *s, uint64_t seeds,
                    double seconds) {
  typedef unsigned long long ull;
  printf("%s: %llu seeds, %llu events in %.1f s (%.0f a second), %.0f simulated seconds, hash %016llx\n",
         holt_raft_sim_profile_word(o->profile), (ull)seeds, (ull)s->events, seconds,
         (double)s->events / seconds, (double)s->time_us / 1e6, (ull)s->hash);
  printf("  %llu messages, %llu elections, %llu entries committed, %llu applied, %llu snapshots taken, %llu "
         "installed, "
         "%llu restarts, %llu changes of membership\n",
         (ull)s->messages, (ull)s->elections, (ull)s->commits, (ull)s->applied, (ull)s->snapshots_taken,
         (ull)s->snapshots_installed, (ull)s->restarts, (ull)s->changes);
  printf("  %llu operations of clients (%llu reads, %llu asked again, %llu never answered; %llu keys not "
         "decided)\n",
         (ull)s->operations, (ull)s->reads, (ull)s->retries, (ull)s->unknown, (ull)s->undecided);
  printf("  faults:");
  for (int i = 0; i < HOLT_RAFT_SIM_FAULT_COUNT; i++)
    if (s->faults[i] > 0)
      printf(" %s %llu", holt_raft_sim_fault_word((enum holt_raft_sim_fault)i), (ull)s->faults[i]);
  printf("\n");
}

static void report(struct holt_raft_sim_config *config, struct holt_raft_sim_result *result, bool no_shrink) {
  char line[500];
  holt_raft_sim_describe(config, line);
  printf("FAILED after %llu events: %s: %s\n  %s\n", (unsigned long long)result->events, result->invariant,
         result->what, line);
  fflush(stdout);
  if (!no_shrink) holt_raft_sim_shrink(config, result, 400);
  holt_raft_sim_describe(config, line);
  printf("The shortest run found, %llu events: %s: %s\n  %s\n", (unsigned long long)result->events,
         result->invariant, result->what, line);
  config->line = print_line;
  config->line_arg = stdout;
  holt_raft_sim_run(config, result);
}

/* --- check --------------------------------------------------------------------------------------------- */

static void told(const char *what, const struct holt_verdict *verdict) {
  printf("%s: %s, %zu keys, %zu operations, %llu steps, %zu undecided\n", what,
         holt_verdict_word(verdict->kind), verdict->key_count, verdict->op_count,
         (unsigned long long)verdict->step_count, verdict->undecided_count);
  if (verdict->why[0] != '\0') printf("%s\n", verdict->why);
}

static int check(void) {
  struct holt_writer text = {0};
  struct holt_history history = {0};
  struct holt_err err = {0};
  char piece[1 << 16];
  size_t len;
  while ((len = fread(piece, 1, sizeof piece, stdin)) > 0) holt_write_bytes(&text, piece, len);
  int status = ferror(stdin) ? complain("cannot read ", "the standard input") : 0;
  if (status == 0 && holt_history_read(&history, holt_buf(text.data, text.len), &err) != 0)
    status = complain(err.message, "");
  if (status == 0) {
    struct holt_verdict map, fifo;
    holt_history_check_map(&history, HOLT_HISTORY_STEPS, &map);
    holt_history_check_fifo(&history, &fifo);
    told("maps", &map);
    told("queues", &fifo);
    status = map.kind == HOLT_VERDICT_OK && fifo.kind == HOLT_VERDICT_OK ? 0 : 1;
  }
  holt_history_free(&history);
  holt_writer_free(&text);
  return status;
}

int main(int argc, char **argv) {
  struct options o = {.seed = 1, .seeds = 1000, .events = 20000, .profile = HOLT_RAFT_SIM_ALL};
  struct holt_raft_sim_result sum = {0}, result;
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--help") == 0) return fputs(help, stdout) < 0;
  if (argc == 2 && strcmp(argv[1], "check") == 0) return check();
  int status = parse(argc, argv, &o);
  if (status != 0) return status;
  signal(SIGABRT, on_abort);
  bool has_bar = !o.is_quiet && !o.words && isatty(2);
  struct holt_env *env = holt_env_uv_new(); /* for its clock: how fast this runs */
  if (env == NULL) return complain("no file descriptors left", "");
  uint64_t began = holt_env_clock_ns(env), shown = began;
  for (uint64_t i = 0; i < o.seeds && status == 0; i++) {
    uint64_t seed = o.seed + i, done = i + 1;
    struct holt_raft_sim_config config = holt_raft_sim_draw(seed, o.profile, o.events);
    config.faults &= ~o.without;
    present_len =
        (size_t)snprintf(present_seed, sizeof present_seed, "at seed %llu\n", (unsigned long long)seed);
    config.messages = o.messages;
    if (o.words) config.line = print_line, config.line_arg = stdout;
    holt_raft_sim_run(&config, &result);
    add(&sum, &result);
    uint64_t now = holt_env_clock_ns(env);
    if (has_bar && (now - shown > 200000000 || i + 1 == o.seeds)) {
      progress(i + 1, o.seeds, sum.events, (double)(now - began) / 1e9);
      shown = now;
    }
    if (result.is_ok) continue;
    if (has_bar) fputc('\n', stderr);
    printf("seed %llu (%llu of %llu)\n", (unsigned long long)seed, (unsigned long long)done,
           (unsigned long long)o.seeds);
    config.line = NULL;
    report(&config, &result, o.no_shrink || o.words);
    status = 1;
  }
  if (has_bar) fputc('\n', stderr);
  summary(&o, &sum, o.seeds, (double)(holt_env_clock_ns(env) - began) / 1e9);
  holt_env_free(env);
  return status;
}
