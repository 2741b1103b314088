/* The seam on the real machine: timers, posts, streams, children; and the address rules of both
 * implementations. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "env/env.h"
#include "env/sim.h"
#include "env/uv.h"
#include "unit.h"

static struct holt_env *env;

static int setup(void **state) {
  (void)state;
  env = holt_env_uv_new();
  return env == NULL;
}

static int teardown(void **state) {
  (void)state;
  holt_env_free(env);
  return 0;
}

static void turn_until(const bool *flag) {
  for (int i = 0; i < 100000 && !*flag; i++) holt_env_turn(env, true);
  assert_true(*flag);
}

/* --- Timers and posts ----------------------------------------------------------------------------- */

static char order[32];
static void note_a(void *arg) {
  (void)arg;
  strcat(order, "a");
}
static void note_b(void *arg) {
  (void)arg;
  strcat(order, "b");
}

static void timers_run_in_order_and_a_stopped_one_never(void **state) {
  (void)state;
  struct holt_timer a, b, never;
  order[0] = '\0';
  holt_timer_init(&a, env, note_a, NULL);
  holt_timer_init(&b, env, note_b, NULL);
  holt_timer_init(&never, env, note_a, NULL);
  holt_timer_start(&b, 20);
  holt_timer_start(&a, 5);
  holt_timer_start(&never, 1);
  holt_timer_stop(&never);
  while (holt_timer_is_active(&b)) holt_env_turn(env, true);
  assert_string_equal(order, "ab");
  assert_false(holt_env_turn(env, true)); /* nothing is left that could happen */
}

static void a_turn_ends_when_a_timer_has_run(void **state) {
  (void)state;
  struct holt_timer soon, later;
  order[0] = '\0';
  holt_timer_init(&soon, env, note_a, NULL);
  holt_timer_init(&later, env, note_b, NULL);
  holt_timer_start(&soon, 1);
  holt_timer_start(&later, 400);
  uint64_t begin = holt_env_clock_ns(env);
  while (holt_env_clock_ns(env) - begin < 3000000) {
  } /* it is due before the turn begins */
  holt_env_turn(env, true);
  assert_string_equal(order, "a"); /* and what it made ready need not wait for the other one */
  holt_timer_stop(&later);
}

static struct holt_post again;
static int posts_left;
static void post_again(void *arg) {
  (void)arg;
  if (--posts_left > 0) holt_env_post(env, &again);
}

static void a_post_runs_once_and_may_post_itself_again(void **state) {
  (void)state;
  holt_post_init(&again, post_again, NULL);
  posts_left = 3;
  holt_env_post(env, &again);
  holt_env_post(env, &again); /* twice is one call */
  while (posts_left > 0) assert_true(holt_env_turn(env, true) || posts_left == 0);
  posts_left = 5;
  holt_env_post(env, &again);
  holt_post_cancel(&again);
  holt_env_turn(env, false);
  assert_int_equal(posts_left, 5);
}

/* --- Worker jobs ---------------------------------------------------------------------------------- */

struct task {
  struct holt_work work;
  pthread_t thread;
  unsigned runs, ends;
  bool is_done;
  unsigned again; /* so often more, from inside `done` */
  unsigned sleep_us;
};

static void run_task(void *arg) {
  struct task *task = arg;
  task->thread = pthread_self();
  if (task->sleep_us > 0) usleep(task->sleep_us);
  task->runs++;
}

static void task_done(void *arg) {
  struct task *task = arg;
  task->ends++;
  if (task->again > 0) {
    task->again--;
    holt_env_work(env, &task->work);
    return;
  }
  task->is_done = true;
}

static void begin_task(struct holt_env *on, struct task *task) {
  task->work = (struct holt_work){.run = run_task, .done = task_done, .arg = task};
  holt_env_work(on, &task->work);
  assert_int_equal(task->ends, 0); /* never inside the call */
}

static void a_work_runs_elsewhere_and_ends_on_the_loop(void **state) {
  struct task task = {.again = 3};
  (void)state;
  assert_null(holt_env_vault(env, "data"));
  begin_task(env, &task);
  turn_until(&task.is_done);
  assert_int_equal(task.runs, 4);
  assert_int_equal(task.ends, 4);
  assert_false(pthread_equal(task.thread, pthread_self()));
}

static void a_freed_env_waits_for_its_works_and_tells_nobody(void **state) {
  struct task tasks[8] = {{.sleep_us = 2000}};
  (void)state;
  for (int i = 0; i < 8; i++) begin_task(env, &tasks[i]);
  holt_env_free(env);
  for (int i = 0; i < 8; i++) {
    assert_int_equal(tasks[i].runs, 1);
    assert_int_equal(tasks[i].ends, 0);
  }
  env = holt_env_uv_new(); /* for the teardown */
}

static void a_work_of_a_simulated_host_takes_time_and_may_die_with_it(void **state) {
  unsigned done = 0;
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    struct holt_sim_config config = {.seed = seed, .disk_min_us = 2000, .disk_max_us = 3000};
    struct holt_sim *sim = holt_sim_new(&config);
    struct holt_env *host = holt_sim_host(sim, "n1");
    struct task first = {0}, second = {0};
    begin_task(host, &first);
    holt_sim_run(sim, 1);
    assert_int_equal(first.runs, 0);
    holt_sim_run(sim, 3);
    assert_int_equal(first.runs, 1);
    assert_int_equal(first.ends, 1);
    begin_task(host, &second);
    holt_env_free(host);
    assert_int_equal(second.ends, 0);
    assert_true(second.runs <= 1);
    done += second.runs;
    holt_sim_free(sim);
  }
  assert_true(done > 8);
  assert_true(done < 32);
}

static unsigned vaults_freed;
static void free_vault(void *object) {
  vaults_freed++;
  free(object);
}

static void a_vault_outlives_its_host(void **state) {
  struct holt_sim_config config = {.seed = 1};
  struct holt_sim *sim = holt_sim_new(&config);
  struct holt_env *host = holt_sim_host(sim, "n1");
  struct holt_vault *vault = holt_env_vault(host, "data");
  (void)state;
  assert_non_null(vault);
  assert_null(vault->object);
  *vault = (struct holt_vault){.object = malloc(1), .free = free_vault};
  assert_null(holt_env_vault(host, "other")->object);
  holt_env_free(host);
  host = holt_sim_host(sim, "n1");
  assert_ptr_equal(holt_env_vault(host, "data"), vault);
  assert_ptr_equal(holt_sim_vault_of(sim, "n1", "data"), vault);
  assert_null(holt_sim_vault_of(sim, "n2", "data")->object);
  vaults_freed = 0;
  holt_sim_free(sim);
  assert_int_equal(vaults_freed, 1);
}

/* --- Streams -------------------------------------------------------------------------------------- */

struct end {
  struct holt_stream *stream;
  size_t got;
  uint8_t last;
  int status;
  bool is_there, has_ended, is_writable;
  struct holt_err err;
};

static void on_data(void *arg, const uint8_t *data, size_t len) {
  struct end *e = arg;
  e->got += len;
  e->last = data[len - 1];
}
static void on_end(void *arg, int status) {
  struct end *e = arg;
  e->status = status;
  e->has_ended = true;
}
static void on_writable(void *arg) {
  ((struct end *)arg)->is_writable = true;
}

static void take(struct end *e, struct holt_stream *stream) {
  e->stream = stream;
  e->is_there = true;
  stream->on_data = on_data;
  stream->on_end = on_end;
  stream->on_writable = on_writable;
  stream->arg = e;
}
static void on_accept(void *arg, struct holt_stream *stream) {
  take(arg, stream);
}
static void on_dialled(void *arg, struct holt_stream *stream, const struct holt_err *err) {
  struct end *e = arg;
  e->is_there = true;
  if (stream != NULL)
    take(e, stream);
  else
    e->err = *err;
}

static void talk_over(const char *address) {
  struct end near = {0}, far = {0};
  struct holt_listener *listener;
  char actual[128];
  struct holt_err err;
  if (holt_env_listen(env, address, on_accept, &far, &listener, actual, &err) != 0)
    fail_msg("%s", err.message);
  holt_env_dial(env, actual, on_dialled, &near);
  turn_until(&near.is_there);
  turn_until(&far.is_there);
  static uint8_t large[8 * 1024 * 1024];
  large[sizeof large - 1] = 77;
  assert_int_equal(holt_stream_write(near.stream, large, sizeof large), 1); /* the rest is copied */
  size_t before = 0;
  for (; !near.is_writable; before = far.got) {
    holt_env_turn(env, true);
    assert_in_range(far.got - before, 0, 256 * 1024); /* what else there is to do waits no longer than that */
  }
  assert_int_equal(holt_stream_write(far.stream, "x", 1), 0);
  while (far.got < sizeof large || near.got < 1) holt_env_turn(env, true);
  assert_int_equal(far.last, 77);
  (void)holt_stream_write(near.stream, "bye", 3);
  holt_stream_close(near.stream, false);
  turn_until(&far.has_ended);
  assert_int_equal(far.status, HOLT_EEOF);
  assert_int_equal(far.got, sizeof large + 3);
  holt_stream_close(far.stream, false);
  holt_listener_close(listener);
  while (holt_env_uv_open(env).streams > 0) holt_env_turn(env, true);
  assert_int_equal(holt_env_uv_open(env).listeners, 0);
}

static void bytes_go_both_ways_over_ipv4(void **state) {
  (void)state;
  talk_over("127.0.0.1:0");
}
static void bytes_go_both_ways_over_a_host_name(void **state) {
  (void)state;
  struct end unused = {0};
  struct holt_listener *probe;
  if (holt_env_listen(env, "localhost:0", on_accept, &unused, &probe, NULL, NULL) == HOLT_EHOST)
    skip(); /* no /etc/hosts here */
  holt_listener_close(probe);
  talk_over("localhost:0");
}
static void bytes_go_both_ways_over_ipv6(void **state) {
  (void)state;
  struct holt_listener *probe;
  struct end unused = {0};
  if (holt_env_listen(env, "[::1]:0", on_accept, &unused, &probe, NULL, NULL) != 0) skip(); /* no IPv6 here */
  holt_listener_close(probe);
  talk_over("[::1]:0");
}
static void bytes_go_both_ways_over_a_unix_socket(void **state) {
  (void)state;
  char address[64];
  snprintf(address, sizeof address, "unix:/tmp/holt-test-%d.sock", (int)getpid());
  talk_over(address);
  unlink(address + 5);
}

static void an_aborted_stream_is_a_reset_at_the_other_end(void **state) {
  (void)state;
  struct end near = {0}, far = {0};
  struct holt_listener *listener;
  char actual[128];
  assert_int_equal(holt_env_listen(env, ":0", on_accept, &far, &listener, actual, NULL), 0);
  holt_env_dial(env, actual, on_dialled, &near);
  turn_until(&near.is_there);
  turn_until(&far.is_there);
  holt_stream_close(near.stream, true);
  turn_until(&far.has_ended);
  assert_int_equal(far.status, HOLT_ERESET);
  holt_stream_close(far.stream, true);
  holt_listener_close(listener);
}

static void failures_of_listening_and_dialling_are_told_in_words(void **state) {
  (void)state;
  struct end e = {0}, far = {0};
  struct holt_listener *listener, *second;
  char actual[128];
  struct holt_err err;
  assert_int_equal(holt_env_listen(env, ":0", on_accept, &far, &listener, actual, NULL), 0);
  assert_int_equal(holt_env_listen(env, actual, on_accept, &far, &second, NULL, &err), HOLT_EINUSE);
  assert_non_null(strstr(err.message, "another program listens there"));
  holt_listener_close(listener);
  holt_env_turn(env, false);
  holt_env_dial(env, actual, on_dialled, &e); /* nobody listens there now */
  turn_until(&e.is_there);
  assert_int_equal(e.err.code, HOLT_EREFUSED);
  e.is_there = false;
  holt_env_dial(env, "7001", on_dialled, &e);
  turn_until(&e.is_there);
  assert_int_equal(e.err.code, HOLT_EADDRESS);
}

static void a_dial_given_up_calls_nobody(void **state) {
  (void)state;
  struct end e = {0}, far = {0};
  struct holt_listener *listener;
  char actual[128];
  assert_int_equal(holt_env_listen(env, ":0", on_accept, &far, &listener, actual, NULL), 0);
  for (int turns = 0; turns < 4; turns++) { /* at each stage: not begun, resolving, connecting */
    struct holt_dial *dial = holt_env_dial(env, actual, on_dialled, &e);
    for (int i = 0; i < turns && !e.is_there; i++) holt_env_turn(env, false);
    if (e.is_there) break;
    holt_dial_cancel(dial);
    for (int i = 0; i < 5; i++) holt_env_turn(env, false);
    assert_false(e.is_there);
  }
  holt_listener_close(listener);
}

/* --- Children ------------------------------------------------------------------------------------- */

struct child {
  int exit_code, signal_number;
  bool has_exited;
};
static void on_exit_cb(void *arg, int exit_code, int signal_number) {
  struct child *c = arg;
  *c = (struct child){exit_code, signal_number, true};
}

static void a_child_tells_its_output_and_its_end(void **state) {
  (void)state;
  const char *const args[] = {"sh", "-c", "echo otter; exit 3", NULL};
  struct child child = {0};
  struct end out = {0};
  struct holt_process *process;
  struct holt_stream *pipes[3];
  struct holt_process_options options = {.file = "sh",
                                         .args = args,
                                         .pipe_stdout = true,
                                         .die_with_parent = true,
                                         .exit_cb = on_exit_cb,
                                         .arg = &child};
  assert_int_equal(holt_env_spawn(env, &options, &process, pipes, NULL), 0);
  take(&out, pipes[1]);
  turn_until(&child.has_exited);
  turn_until(&out.has_ended);
  assert_int_equal(child.exit_code, 3);
  assert_int_equal(out.got, 6);
  holt_stream_close(out.stream, false);
  holt_process_close(process);
}

static void a_child_can_be_killed_and_one_that_cannot_start_says_so(void **state) {
  (void)state;
  const char *const args[] = {"sleep", "100", NULL}, *const none[] = {"no-such-program", NULL};
  struct child child = {0};
  struct holt_process *process;
  struct holt_stream *pipes[3];
  struct holt_err err;
  struct holt_process_options options = {.file = "sleep", .args = args, .exit_cb = on_exit_cb, .arg = &child};
  assert_int_equal(holt_env_spawn(env, &options, &process, pipes, NULL), 0);
  assert_int_equal(holt_process_kill(process, SIGKILL), 0);
  turn_until(&child.has_exited);
  assert_int_equal(child.signal_number, SIGKILL);
  holt_process_close(process);
  options.file = "no-such-program";
  options.args = none;
  assert_int_equal(holt_env_spawn(env, &options, &process, pipes, &err), HOLT_ENOTFOUND);
  assert_non_null(strstr(err.message, "no-such-program"));
}

static bool got_signal;
static void on_signal(void *arg, int signal_number) {
  (void)arg;
  got_signal = signal_number == SIGUSR1;
}

static void a_signal_is_heard_on_the_loop(void **state) {
  (void)state;
  struct holt_timer keep;
  holt_timer_init(&keep, env, note_a, NULL);
  holt_timer_start(&keep, 60000); /* listening for signals alone keeps no loop alive */
  assert_int_equal(holt_env_signal(env, SIGUSR1, on_signal, NULL), 0);
  raise(SIGUSR1);
  turn_until(&got_signal);
  holt_timer_stop(&keep);
}

/* --- Addresses ------------------------------------------------------------------------------------ */

static void addresses_are_split_and_judged(void **state) {
  (void)state;
  char host[128];
  uint16_t port;
  assert_int_equal(holt_address_split("example.org:7001", host, &port, NULL), 0);
  assert_string_equal(host, "example.org");
  assert_int_equal(port, 7001);
  assert_int_equal(holt_address_split(":80", host, &port, NULL), 0);
  assert_string_equal(host, "127.0.0.1");
  assert_int_equal(holt_address_split("[::1]:80", host, &port, NULL), 0);
  assert_string_equal(host, "::1");
  static const char *const bad[] = {"",           "host",   "host:",   "host:x",
                                    "host:65536", "::1:80", "host:-1", "a:b:1"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(holt_address_split(bad[i], host, &port, NULL), HOLT_EADDRESS);
  static const char *const local[] = {":1",          "127.0.0.1:1", "127.8.9.1:1",
                                      "localhost:1", "[::1]:1",     "unix:/x"};
  for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) assert_true(holt_address_is_local(local[i]));
  static const char *const open[] = {"0.0.0.0:1", "[::]:1", "example.org:1", "10.0.0.1:1",
                                     "127.example.org:1"};
  for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) assert_false(holt_address_is_local(open[i]));
}

/* --- The simulated room --------------------------------------------------------------------------- */

static void a_paused_host_runs_nothing_until_it_goes_on(void **state) {
  (void)state;
  struct holt_sim_config config = {.seed = 1};
  struct holt_sim *sim = holt_sim_new(&config);
  struct holt_env *host = holt_sim_host(sim, "h");
  struct holt_timer a;
  order[0] = '\0';
  holt_timer_init(&a, host, note_a, NULL);
  holt_timer_start(&a, 10);
  holt_sim_pause(sim, "h", true);
  holt_sim_run(sim, 1000);
  assert_string_equal(order, "");
  holt_sim_pause(sim, "h", false);
  holt_sim_run(sim, 0);
  assert_string_equal(order, "a");
  holt_sim_free(sim);
}

static void a_simulated_way_that_is_cut_holds_bytes_back_and_a_break_loses_them(void **state) {
  (void)state;
  struct holt_sim_config config = {.seed = 1, .delay_min_us = 1000, .delay_max_us = 1000};
  struct holt_sim *sim = holt_sim_new(&config);
  struct holt_env *a = holt_sim_host(sim, "a"), *b = holt_sim_host(sim, "b");
  struct end near = {0}, far = {0};
  struct holt_listener *listener;
  assert_int_equal(holt_env_listen(b, ":1", on_accept, &far, &listener, NULL, NULL), 0);
  holt_env_dial(a, "b:1", on_dialled, &near);
  holt_sim_run(sim, 10);
  holt_sim_cut(sim, "a", "b", true);
  assert_int_equal(holt_stream_write(near.stream, "held", 4), 0);
  holt_sim_run(sim, 1000);
  assert_int_equal(far.got, 0);
  holt_sim_cut(sim, "a", "b", false);
  holt_sim_run(sim, 100);
  assert_int_equal(far.got, 4);
  assert_int_equal(holt_stream_write(near.stream, "lost", 4), 0);
  holt_sim_break(sim, "a", "b");
  holt_sim_run(sim, 100);
  assert_int_equal(far.got, 4);
  assert_int_equal(far.status, HOLT_ERESET);
  assert_int_equal(near.status, HOLT_ERESET);
  holt_sim_free(sim);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(timers_run_in_order_and_a_stopped_one_never),
      T(a_turn_ends_when_a_timer_has_run),
      T(a_post_runs_once_and_may_post_itself_again),
      T(a_work_runs_elsewhere_and_ends_on_the_loop),
      T(a_freed_env_waits_for_its_works_and_tells_nobody),
      cmocka_unit_test(a_work_of_a_simulated_host_takes_time_and_may_die_with_it),
      cmocka_unit_test(a_vault_outlives_its_host),
      T(bytes_go_both_ways_over_ipv4),
      T(bytes_go_both_ways_over_a_host_name),
      T(bytes_go_both_ways_over_ipv6),
      T(bytes_go_both_ways_over_a_unix_socket),
      T(an_aborted_stream_is_a_reset_at_the_other_end),
      T(failures_of_listening_and_dialling_are_told_in_words),
      T(a_dial_given_up_calls_nobody),
      T(a_child_tells_its_output_and_its_end),
      T(a_child_can_be_killed_and_one_that_cannot_start_says_so),
      T(a_signal_is_heard_on_the_loop),
      cmocka_unit_test(addresses_are_split_and_judged),
      cmocka_unit_test(a_paused_host_runs_nothing_until_it_goes_on),
      cmocka_unit_test(a_simulated_way_that_is_cut_holds_bytes_back_and_a_break_loses_them),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
