/* Request and reply on simulated graphs: the nearest responder, turns, broken ways, and never twice. */
#include "base/rand.h"
#include "env/sim.h"
#include "node/node.h"
#include "unit.h"

#define STATIONS 6

struct station {
  char name[8];
  struct holt_env *env;
  struct holt_node *node;
  struct holt_serve *serve;
  unsigned ran; /* requests handled */
  bool holds;
  struct holt_request *held[64];
  unsigned held_count;
  /* how the calls of this station ended */
  unsigned answered, failed;
  struct holt_err err;
  bool may_have_run;
  char answer[32], by[8];
};

static struct holt_sim *room;
static struct station s[STATIONS];
static uint64_t window_bytes; /* 0: the default */

static void start(unsigned i) {
  static const struct holt_node_ops ops = {0};
  struct holt_node_config config = holt_node_defaults();
  struct holt_err err;
  snprintf(s[i].name, sizeof s[i].name, "n%u", i);
  config.link.name = s[i].name;
  config.link.timeout_ms = 2000;
  config.link.backoff_max_ms = 500;
  if (window_bytes != 0) config.link.window_bytes = window_bytes;
  config.insecure = true;
  s[i].env = holt_sim_host(room, s[i].name);
  if (holt_node_new(s[i].env, &config, &ops, NULL, &s[i].node, &err) != 0) fail_msg("%s", err.message);
  assert_int_equal(holt_node_listen(s[i].node, ":7000", NULL, NULL), 0);
}

static void stop(unsigned i) {
  if (s[i].node == NULL) return;
  holt_node_free(s[i].node);
  for (unsigned k = 0; k < s[i].held_count; k++) holt_request_fail(s[i].held[k], "gone");
  holt_env_free(s[i].env);
  memset(&s[i], 0, sizeof s[i]);
}

static void join(unsigned from, unsigned to) {
  char address[16];
  struct holt_peer *peer;
  snprintf(address, sizeof address, "n%u:7000", to);
  assert_int_equal(holt_node_connect(s[from].node, address, &peer, NULL), 0);
}

static void on_request(void *arg, struct holt_request *request) {
  struct station *here = arg;
  here->ran++;
  if (here->holds)
    here->held[here->held_count++] = request;
  else if (request->payload.len == 4 && memcmp(request->payload.data, "fail", 4) == 0)
    holt_request_fail(request, "it went wrong");
  else
    holt_request_reply(request, 0, request->payload);
}

static void serve(unsigned i) {
  s[i].serve = holt_bus_serve(holt_node_bus(s[i].node), "price", 5, on_request, &s[i]);
  assert_non_null(s[i].serve);
}

static void on_result(void *arg, const struct holt_call_result *result) {
  struct station *here = arg;
  here->may_have_run = result->may_have_run;
  here->err = result->err;
  if (result->err.code != 0) {
    here->failed++;
    return;
  }
  here->answered++;
  snprintf(here->answer, sizeof here->answer, "%.*s", (int)result->payload.len,
           (const char *)result->payload.data);
  snprintf(here->by, sizeof here->by, "%s", result->node);
}

static struct holt_call *call(unsigned i, const char *text, uint64_t timeout_ms) {
  struct holt_call *c = holt_bus_call(holt_node_bus(s[i].node), "price", 5, 0, holt_buf_text(text),
                                      timeout_ms, on_result, &s[i], NULL);
  assert_non_null(c);
  return c;
}

static int setup(void **state) {
  (void)state;
  struct holt_sim_config config = {.seed = 5, .delay_min_us = 100, .delay_max_us = 1000};
  memset(s, 0, sizeof s);
  window_bytes = 0;
  room = holt_sim_new(&config);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  for (unsigned i = 0; i < STATIONS; i++) stop(i);
  holt_sim_free(room);
  return 0;
}

static void start_chain(unsigned count) {
  for (unsigned i = 0; i < count; i++) start(i);
  for (unsigned i = 1; i < count; i++) join(i, i - 1);
  holt_sim_run(room, 1000);
}

static void a_call_crosses_the_graph_and_its_answer_comes_back(void **state) {
  (void)state;
  start_chain(4);
  serve(3);
  holt_sim_run(room, 100);
  call(0, "otter", 1000);
  holt_sim_run(room, 100);
  assert_int_equal(s[0].answered, 1);
  assert_string_equal(s[0].answer, "otter");
  assert_string_equal(s[0].by, "n3");
}

static void nobody_who_serves_it_is_known_at_once(void **state) {
  (void)state;
  start_chain(2);
  call(0, "x", 60000);
  holt_sim_run(room, 10);
  assert_int_equal(s[0].err.code, HOLT_ENORESPONDER);
  assert_false(s[0].may_have_run);
}

static void the_nearest_responder_is_asked_and_equally_near_ones_take_turns(void **state) {
  (void)state;
  for (unsigned i = 0; i < 4; i++) start(i);
  join(1, 0); /* n1 and n2 are neighbours of n0, n3 lies behind n2 */
  join(2, 0);
  join(3, 2);
  holt_sim_run(room, 1000);
  serve(1);
  serve(2);
  serve(3);
  holt_sim_run(room, 100);
  for (int i = 0; i < 10; i++) call(0, "x", 1000);
  holt_sim_run(room, 100);
  assert_int_equal(s[0].answered, 10);
  assert_int_equal(s[1].ran, 5);
  assert_int_equal(s[2].ran, 5);
  assert_int_equal(s[3].ran, 0);
  holt_bus_unserve(holt_node_bus(s[1].node), s[1].serve);
  holt_bus_unserve(holt_node_bus(s[2].node), s[2].serve);
  holt_sim_run(room, 100);
  call(0, "x", 1000);
  holt_sim_run(room, 100);
  assert_int_equal(s[3].ran, 1);
}

static void a_node_may_ask_itself(void **state) {
  (void)state;
  start(0);
  serve(0);
  call(0, "x", 1000);
  assert_int_equal(s[0].answered, 0); /* not within the call */
  holt_sim_run(room, 10);
  assert_int_equal(s[0].answered, 1);
  assert_string_equal(s[0].by, "n0");
}

static void a_handler_that_raises_is_told_with_its_words(void **state) {
  (void)state;
  start_chain(2);
  serve(1);
  holt_sim_run(room, 100);
  call(0, "fail", 1000);
  holt_sim_run(room, 100);
  assert_int_equal(s[0].err.code, HOLT_EREMOTE);
  assert_true(s[0].may_have_run);
  assert_non_null(strstr(s[0].err.message, "it went wrong"));
  assert_string_equal(s[0].err.node, "n1");
}

static void a_handler_that_takes_too_long_may_have_run(void **state) {
  (void)state;
  start_chain(2);
  serve(1);
  s[1].holds = true;
  holt_sim_run(room, 100);
  call(0, "x", 300);
  holt_sim_run(room, 400);
  assert_int_equal(s[0].err.code, HOLT_ETIMEOUT);
  assert_true(s[0].may_have_run);
  assert_int_equal(holt_request_left_ms(s[1].held[0]), 0); /* the handler can see that it works in vain */
  holt_request_reply(s[1].held[0], 0, holt_buf_text("late"));
  s[1].held_count = 0;
  holt_sim_run(room, 100);
  assert_int_equal(s[0].answered, 0);
  assert_int_equal(s[0].failed, 1);
}

static void a_responder_killed_in_the_middle_is_not_asked_again_by_itself(void **state) {
  (void)state;
  start_chain(2);
  serve(1);
  s[1].holds = true;
  holt_sim_run(room, 100);
  call(0, "x", 5000);
  holt_sim_run(room, 100);
  assert_int_equal(s[1].ran, 1);
  stop(1);
  holt_sim_run(room, 100);
  start(1);
  serve(1);
  join(1, 0);
  holt_sim_run(room, 6000);
  assert_int_equal(s[1].ran, 0); /* the new boot never saw it */
  assert_int_equal(s[0].failed, 1);
  assert_true(s[0].err.code == HOLT_EUNREACHABLE || s[0].err.code == HOLT_ETIMEOUT);
  assert_true(s[0].may_have_run);
}

static void another_way_is_taken_when_one_breaks(void **state) {
  (void)state;
  for (unsigned i = 0; i < 4; i++) start(i);
  join(1, 0); /* n0 - n1 - n3 and n0 - n2 - n3 */
  join(2, 0);
  join(1, 3);
  join(2, 3);
  holt_sim_run(room, 1000);
  serve(3);
  holt_sim_run(room, 100);
  call(0, "x", 1000);
  holt_sim_run(room, 100);
  assert_int_equal(s[0].answered, 1);
  stop(1);
  holt_sim_run(room, 100);
  for (int i = 0; i < 5; i++) call(0, "x", 1000);
  holt_sim_run(room, 500);
  assert_int_equal(s[0].answered, 6);
}

static void a_call_given_up_tells_nobody(void **state) {
  (void)state;
  start_chain(2);
  serve(1);
  holt_sim_run(room, 100);
  holt_call_cancel(call(0, "x", 1000));
  struct holt_call *later = call(0, "x", 1000);
  holt_sim_run(room, 1); /* it is on its way */
  holt_call_cancel(later);
  holt_sim_run(room, 2000);
  assert_int_equal(s[0].answered + s[0].failed, 0);
}

static void a_node_that_closes_ends_its_calls(void **state) {
  (void)state;
  start_chain(2);
  serve(1);
  s[1].holds = true;
  holt_sim_run(room, 100);
  call(0, "x", 60000);
  holt_sim_run(room, 50);
  holt_node_close(s[0].node);
  assert_int_equal(s[0].err.code, HOLT_ECLOSED);
  assert_true(s[0].may_have_run);
}

/* More than the window of the call lane holds is asked for in one turn of the loop. */
static void what_does_not_fit_into_the_call_lane_is_refused_and_did_not_run(void **state) {
  (void)state;
  window_bytes = 4000;
  start_chain(2);
  serve(1);
  s[1].holds = true;
  holt_sim_run(room, 1000);
  char text[300];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  for (unsigned i = 0; i < 40; i++) call(0, text, 60000);
  holt_sim_run(room, 500);
  assert_in_range(s[1].ran, 5, 12);
  assert_int_equal(s[1].ran + s[0].failed, 40);
  assert_int_equal(s[0].err.code, HOLT_EFULL);
  assert_false(s[0].may_have_run);
  struct holt_err err = {0};
  assert_null(holt_bus_call(holt_node_bus(s[0].node), "price", 5, 0, holt_buf_text(text), 1000, on_result,
                            &s[0], &err));
  assert_int_equal(err.code, HOLT_EFULL);
  holt_sim_run(room, 1500);
  assert_null(holt_bus_call(holt_node_bus(s[0].node), "price", 5, 0, holt_buf_text(text), 1000, on_result,
                            &s[0], &err));
  assert_int_equal(err.code, HOLT_ESTALLED); /* nothing was taken for more than a second */
  unsigned refused = s[0].failed;
  for (unsigned i = 0; i < s[1].held_count; i++) holt_request_reply(s[1].held[i], 0, holt_buf_text("ok"));
  s[1].holds = false;
  s[1].held_count = 0;
  holt_sim_run(room, 2000);
  assert_int_equal(s[0].answered, 40 - refused);
  call(0, text, 1000); /* there is room again */
  holt_sim_run(room, 500);
  assert_int_equal(s[0].answered, 40 - refused + 1);
  window_bytes = 0;
}

static void an_answer_whose_way_is_broken_waits_for_it_to_open_again(void **state) {
  (void)state;
  start_chain(3);
  serve(2);
  s[2].holds = true;
  holt_sim_run(room, 1000);
  call(0, "x", 30000);
  holt_sim_run(room, 500);
  assert_int_equal(s[2].held_count, 1);
  holt_sim_cut(room, "n1", "n2", true);
  holt_sim_cut(room, "n2", "n1", true);
  holt_sim_run(room, 5000); /* both have noticed */
  holt_request_reply(s[2].held[0], 0, holt_buf_text("late"));
  s[2].held_count = 0;
  holt_sim_run(room, 5000);
  assert_int_equal(s[0].answered + s[0].failed, 0);
  holt_sim_cut(room, "n1", "n2", false);
  holt_sim_cut(room, "n2", "n1", false);
  holt_sim_run(room, 8000);
  assert_int_equal(s[0].answered, 1);
  assert_string_equal(s[0].answer, "late");
}

static void a_node_that_closes_first_answers_what_its_handlers_are_at(void **state) {
  (void)state;
  start_chain(3);
  serve(2);
  s[2].holds = true;
  holt_sim_run(room, 1000);
  call(0, "x", 30000);
  holt_sim_run(room, 500);
  assert_int_equal(s[2].held_count, 1);
  holt_node_close(s[2].node);
  holt_sim_run(room, 2000); /* less than drain_timeout */
  call(0, "y", 30000);
  holt_sim_run(room, 100);
  assert_int_equal(s[0].err.code, HOLT_ENORESPONDER); /* everybody knows that it serves nothing more */
  assert_int_equal(s[0].answered, 0);
  holt_request_reply(s[2].held[0], 0, holt_buf_text("done"));
  s[2].held_count = 0;
  holt_sim_run(room, 500);
  assert_int_equal(s[0].answered, 1);
  assert_string_equal(s[0].answer, "done");
  assert_null(holt_links_first(holt_node_links(s[2].node))); /* and now it has gone */
}

static void a_handler_that_outlasts_the_end_of_its_node_is_told_as_such(void **state) {
  (void)state;
  start_chain(3);
  serve(2);
  s[2].holds = true;
  holt_sim_run(room, 1000);
  call(0, "x", 30000);
  holt_sim_run(room, 500);
  holt_node_close(s[2].node);
  holt_sim_run(room, 4900);
  assert_int_equal(s[0].failed, 0);
  holt_sim_run(room, 200); /* drain_timeout is five seconds */
  assert_int_equal(s[0].failed, 1);
  assert_int_equal(s[0].err.code, HOLT_EREMOTE);
  assert_true(s[0].may_have_run);
  assert_non_null(strstr(s[0].err.message, "closed before the handler had finished"));
}

static void a_node_does_not_wait_for_answers_that_nobody_awaits(void **state) {
  (void)state;
  start_chain(2);
  serve(1);
  s[1].holds = true;
  holt_sim_run(room, 1000);
  call(0, "x", 300);
  holt_sim_run(room, 500); /* its caller has given up */
  holt_node_close(s[1].node);
  holt_sim_run(room, 200);
  assert_null(holt_links_first(holt_node_links(s[1].node)));
}

/* --- Seeds ---------------------------------------------------------------------------------------- */

struct asked {
  unsigned ran, ended;
  bool answered, may_have_run;
};
static struct asked asked[2000];
static unsigned asked_count;

static void on_numbered_request(void *arg, struct holt_request *request) {
  (void)arg;
  asked[holt_get_u32(request->payload.data)].ran++;
  holt_request_reply(request, 0, request->payload);
}

static void on_numbered_result(void *arg, const struct holt_call_result *result) {
  struct asked *a = arg;
  a->ended++;
  a->answered = result->err.code == 0;
  a->may_have_run = result->may_have_run;
}

/* Five nodes on a drawn graph, links broken and cut, responders killed: every call ends once, by its
 * deadline; no handler runs twice for one call; what failed without "may have run" has not run. */
static void one_seed(uint64_t seed) {
  struct holt_rand rand;
  struct holt_sim_config config = {.seed = seed, .delay_min_us = 10, .delay_max_us = 20000};
  holt_rand_seed(&rand, seed);
  memset(s, 0, sizeof s);
  memset(asked, 0, sizeof asked);
  asked_count = 0;
  room = holt_sim_new(&config);
  unsigned parent[5] = {0};
  for (unsigned i = 0; i < 5; i++) start(i);
  for (unsigned i = 1; i < 5; i++) join(i, parent[i] = (unsigned)holt_rand_below(&rand, i));
  join(4, (unsigned)holt_rand_below(&rand, 4));
  for (unsigned i = 3; i < 5; i++)
    holt_bus_serve(holt_node_bus(s[i].node), "price", 5, on_numbered_request, &s[i]);
  holt_sim_run(room, 2000);
  for (int step = 0; step < 100; step++) {
    unsigned from = (unsigned)holt_rand_below(&rand, 3), at = 1 + (unsigned)holt_rand_below(&rand, 4);
    uint8_t payload[4];
    holt_put_u32(payload, asked_count);
    holt_bus_call(holt_node_bus(s[from].node), "price", 5, 0, holt_buf(payload, 4), 3000, on_numbered_result,
                  &asked[asked_count], NULL);
    asked_count++;
    switch (holt_rand_below(&rand, 12)) {
    case 0:
      holt_sim_break(room, s[at].name, s[parent[at]].name);
      break;
    case 1:
      holt_sim_cut(room, s[at].name, s[parent[at]].name, true);
      break;
    case 2:
      holt_sim_cut(room, s[at].name, s[parent[at]].name, false);
      break;
    case 3:
      stop(4);
      start(4);
      holt_bus_serve(holt_node_bus(s[4].node), "price", 5, on_numbered_request, &s[4]);
      join(4, parent[4]);
      break;
    default:
      break;
    }
    holt_sim_run(room, holt_rand_below(&rand, 200));
  }
  holt_sim_run(room, 10000);
  for (unsigned i = 0; i < asked_count; i++) {
    if (asked[i].ended != 1)
      fail_msg("seed %llu: call %u ended %u times", (unsigned long long)seed, i, asked[i].ended);
    if (asked[i].ran > 1)
      fail_msg("seed %llu: call %u ran %u times", (unsigned long long)seed, i, asked[i].ran);
    if (asked[i].answered && asked[i].ran == 0)
      fail_msg("seed %llu: call %u answered itself", (unsigned long long)seed, i);
    if (!asked[i].answered && !asked[i].may_have_run && asked[i].ran > 0)
      fail_msg("seed %llu: call %u ran although that was ruled out", (unsigned long long)seed, i);
  }
  for (unsigned i = 0; i < 5; i++) stop(i);
  holt_sim_free(room);
}

static void a_call_runs_at_most_once_whatever_breaks(void **state) {
  (void)state;
  const char *text = getenv("HOLT_SEEDS");
  uint64_t count = text == NULL ? 500 : strtoull(text, NULL, 10);
  for (uint64_t seed = 1; seed <= count; seed++) one_seed(seed);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(a_call_crosses_the_graph_and_its_answer_comes_back),
      T(nobody_who_serves_it_is_known_at_once),
      T(the_nearest_responder_is_asked_and_equally_near_ones_take_turns),
      T(a_node_may_ask_itself),
      T(a_handler_that_raises_is_told_with_its_words),
      T(a_handler_that_takes_too_long_may_have_run),
      T(a_responder_killed_in_the_middle_is_not_asked_again_by_itself),
      T(another_way_is_taken_when_one_breaks),
      T(a_call_given_up_tells_nobody),
      T(a_node_that_closes_ends_its_calls),
      T(what_does_not_fit_into_the_call_lane_is_refused_and_did_not_run),
      T(an_answer_whose_way_is_broken_waits_for_it_to_open_again),
      T(a_node_that_closes_first_answers_what_its_handlers_are_at),
      T(a_handler_that_outlasts_the_end_of_its_node_is_told_as_such),
      T(a_node_does_not_wait_for_answers_that_nobody_awaits),
      cmocka_unit_test(a_call_runs_at_most_once_whatever_breaks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
