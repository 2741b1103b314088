/* What members apply: clients whose operations happen once. */
#include "cluster/cluster_impl.h"
#include "unit.h"

static struct holt__machine machine;
static struct holt__applied applied;
static uint64_t last_index;

static void apply(enum holt_raft_entry_type type, struct holt_buf data) {
  struct holt_raft_entry entry = {.index = ++last_index,
                                  .term = 1,
                                  .type = type,
                                  .data = (uint8_t *)(uintptr_t)data.data,
                                  .len = (uint32_t)data.len};
  holt__machine_apply(&machine, &entry, &applied);
}

static void apply_conf(const uint64_t *ids, uint32_t count) {
  struct holt_raft_conf conf = {.count = count};
  uint8_t bytes[HOLT_RAFT_CONF_BYTES];
  for (uint32_t i = 0; i < count; i++)
    conf.members[i] = (struct holt_raft_member){.id = ids[i], .role = HOLT_RAFT_VOTER, .can_lead = true};
  size_t len = holt_raft_conf_encode(bytes, &conf);
  apply(HOLT_RAFT_CONF, holt_buf(bytes, len));
}

static void apply_open(uint64_t client, uint64_t member, uint64_t boot) {
  struct holt_writer bytes = {0};
  holt_write_u8(&bytes, HOLT__ENTRY_OPEN);
  holt_write_u64(&bytes, client);
  holt_write_u64(&bytes, member);
  holt_write_u64(&bytes, boot);
  apply(HOLT_RAFT_COMMAND, holt_buf(bytes.data, bytes.len));
  holt_writer_free(&bytes);
}

static int set_up(void **state) {
  (void)state;
  last_index = 0;
  memset(&applied, 0, sizeof applied);
  holt__machine_init(&machine);
  apply_conf((const uint64_t[]){1, 2}, 2);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  holt__machine_free(&machine);
  holt_writer_free(&applied.room);
  return 0;
}

static void a_member_opens_its_client(void **state) {
  (void)state;
  apply_open(70, 2, 1);
  assert_true(holt_sessions_has(&machine.sessions, 70));
}

static void a_request_of_an_earlier_start_opens_nothing(void **state) {
  (void)state;
  apply_open(70, 2, 1);
  apply_open(71, 2, 2);
  assert_false(holt_sessions_has(&machine.sessions, 70));
  apply_open(70, 2, 1);
  assert_false(holt_sessions_has(&machine.sessions, 70));
  assert_true(holt_sessions_has(&machine.sessions, 71));
}

static void a_request_of_a_member_that_is_gone_opens_nothing(void **state) {
  (void)state;
  apply_open(70, 2, 1);
  apply_conf((const uint64_t[]){1}, 1);
  assert_false(holt_sessions_has(&machine.sessions, 70));
  apply_open(70, 2, 1); /* comes late: what it did before could be done twice */
  assert_false(holt_sessions_has(&machine.sessions, 70));
  apply_open(80, 3, 1); /* nor one that never was a member */
  assert_false(holt_sessions_has(&machine.sessions, 80));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_member_opens_its_client, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_request_of_an_earlier_start_opens_nothing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_request_of_a_member_that_is_gone_opens_nothing, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
