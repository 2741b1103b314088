/* test_control.c - the control socket: lines, many clients, slow clients, and who may have a socket where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/control.h"
#include "env/uv.h"

struct fixture {
  struct holt_env *env;
  struct holt_control *control;
  char folder[64];
  char path[HOLT_CONTROL_PATH_MAX + 1];
  struct holt_timer guard;
  bool is_late;
  /* what the owner saw */
  struct holt_writer lines; /* each line, then '|' */
  unsigned line_count;
  uint64_t last_client;
  size_t longest;
  bool echoes; /* answer each line with itself */
};

struct caller {
  struct holt_stream *stream;
  struct holt_writer got;
  bool is_ended, is_choked;
};

static void on_line(void *arg, uint64_t client, struct holt_buf line) {
  struct fixture *f = arg;
  f->line_count++;
  f->last_client = client;
  if (line.len > f->longest) f->longest = line.len;
  if (line.len < 100) {
    holt_write_bytes(&f->lines, line.data, line.len);
    holt_write_bytes(&f->lines, "|", 1);
  }
  if (f->echoes) assert_int_equal(0, holt_control_answer(f->control, client, line));
}

static void on_late(void *arg) {
  ((struct fixture *)arg)->is_late = true;
}

static int setup(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  struct holt_err err = {0};
  f->env = holt_env_uv_new();
  strcpy(f->folder, "/tmp/holt-test-XXXXXX");
  assert_non_null(mkdtemp(f->folder));
  snprintf(f->path, sizeof f->path, "%s/n1.sock", f->folder);
  if (holt_control_open(f->env, f->path, on_line, f, &f->control, &err) != 0) fail_msg("%s", err.message);
  holt_timer_init(&f->guard, f->env, on_late, f);
  holt_timer_start(&f->guard, 20000);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  struct fixture *f = *state;
  if (f->control != NULL) holt_control_close(f->control);
  holt_timer_stop(&f->guard);
  holt_env_free(f->env);
  holt_writer_free(&f->lines);
  assert_int_equal(0, rmdir(f->folder)); /* the socket is gone */
  free(f);
  return 0;
}

static void turn(struct fixture *f) {
  if (f->is_late) fail_msg("nothing happened for too long");
  holt_env_turn(f->env, true);
}

static void caller_data(void *arg, const uint8_t *data, size_t len) {
  holt_write_bytes(&((struct caller *)arg)->got, data, len);
}

static void caller_end(void *arg, int status) {
  (void)status;
  ((struct caller *)arg)->is_ended = true;
}

static void caller_writable(void *arg) {
  ((struct caller *)arg)->is_choked = false;
}

static void on_dialed(void *arg, struct holt_stream *stream, const struct holt_err *err) {
  struct caller *caller = arg;
  if (stream == NULL) fail_msg("%s", err->message);
  caller->stream = stream;
  stream->on_data = caller_data;
  stream->on_end = caller_end;
  stream->on_writable = caller_writable;
  stream->arg = caller;
}

static void call(struct fixture *f, struct caller *caller) {
  char address[160];
  *caller = (struct caller){0};
  snprintf(address, sizeof address, "unix:%s", f->path);
  holt_env_dial(f->env, address, on_dialed, caller);
  while (caller->stream == NULL) turn(f);
}

static void say(struct fixture *f, struct caller *caller, const void *data, size_t len) {
  while (caller->is_choked && !caller->is_ended) turn(f);
  if (caller->is_ended) return;
  caller->is_choked = holt_stream_write(caller->stream, data, len) == 1;
}

static void say_text(struct fixture *f, struct caller *caller, const char *text) {
  say(f, caller, text, strlen(text));
}

static void hang_up(struct caller *caller) {
  holt_stream_close(caller->stream, false);
  holt_writer_free(&caller->got);
}

static void hears(struct fixture *f, struct caller *caller, const char *text) {
  while (caller->got.len < strlen(text) && !caller->is_ended) turn(f);
  assert_int_equal(strlen(text), caller->got.len);
  assert_memory_equal(text, caller->got.data, caller->got.len);
}

static void saw(struct fixture *f, const char *text) {
  assert_int_equal(strlen(text), f->lines.len);
  assert_memory_equal(text, f->lines.data, f->lines.len);
}

static void test_lines_in_pieces(void **state) {
  struct fixture *f = *state;
  struct caller a;
  f->echoes = true;
  call(f, &a);
  const char text[] = "one\ntwo\r\n\n  \nthree\n";
  for (size_t i = 0; i + 1 < sizeof text; i++) {
    say(f, &a, text + i, 1);
    turn(f);
  }
  hears(f, &a, "one\ntwo\r\nthree\n");
  saw(f, "one|two\r|three|");
  hang_up(&a);
}

static void test_many_clients(void **state) {
  struct fixture *f = *state;
  struct caller callers[20];
  f->echoes = true;
  for (int i = 0; i < 20; i++) call(f, &callers[i]);
  for (int i = 0; i < 20; i++) {
    char text[16];
    snprintf(text, sizeof text, "I am %d\n", i);
    say_text(f, &callers[i], text);
  }
  for (int i = 0; i < 20; i++) {
    char text[16];
    snprintf(text, sizeof text, "I am %d\n", i);
    hears(f, &callers[i], text);
    hang_up(&callers[i]);
  }
}

static void test_large_lines_and_answers(void **state) {
  struct fixture *f = *state;
  struct caller a;
  const size_t size = 8u << 20;
  char *text = malloc(size + 1);
  memset(text, 'x', size);
  text[size] = '\n';
  f->echoes = true;
  call(f, &a);
  for (int i = 0; i < 3; i++) say(f, &a, text, size + 1);
  while (a.got.len < 3 * (size + 1)) turn(f);
  assert_int_equal(size, f->longest);
  assert_int_equal(3, f->line_count);
  assert_memory_equal(text, a.got.data, size + 1);
  free(text);
  hang_up(&a);
}

static void test_unanswered_requests_are_bounded(void **state) {
  struct fixture *f = *state;
  struct caller a, b;
  call(f, &a);
  for (int i = 0; i < 3 * HOLT_CONTROL_IN_FLIGHT; i++) say_text(f, &a, "?\n");
  while (f->line_count < HOLT_CONTROL_IN_FLIGHT) turn(f);
  uint64_t first = f->last_client;
  call(f, &b); /* another client is not held up by the first */
  say_text(f, &b, "hello\n");
  while (f->last_client == first) turn(f);
  assert_int_equal(HOLT_CONTROL_IN_FLIGHT + 1, f->line_count);
  for (int i = 0; i < HOLT_CONTROL_IN_FLIGHT; i++) {
    assert_int_equal(0, holt_control_answer(f->control, first, holt_buf_text("!")));
  }
  while (f->line_count < 2 * HOLT_CONTROL_IN_FLIGHT + 1) turn(f);
  hang_up(&a);
  hang_up(&b);
}

static void test_too_long_a_line(void **state) {
  struct fixture *f = *state;
  struct caller a;
  const size_t size = 1u << 20;
  char *text = malloc(size);
  memset(text, 'x', size);
  call(f, &a);
  for (int i = 0; i < 70 && !a.is_ended; i++) say(f, &a, text, size);
  while (!a.is_ended) turn(f);
  assert_int_equal(0, f->line_count);
  holt_write_u8(&a.got, 0);
  assert_non_null(strstr((char *)a.got.data, "too_large"));
  free(text);
  hang_up(&a);
}

static void test_gone_client(void **state) {
  struct fixture *f = *state;
  struct caller a;
  call(f, &a);
  say_text(f, &a, "?\n");
  while (f->line_count == 0) turn(f);
  holt_stream_close(a.stream, true);
  turn(f);
  holt_control_answer(f->control, f->last_client, holt_buf_text("late")); /* it may have hung up half only */
  while (holt_env_uv_open(f->env).streams > 0) turn(f);
  assert_int_equal(HOLT_ECLOSED, holt_control_answer(f->control, f->last_client, holt_buf_text("too late")));
  assert_int_equal(HOLT_ECLOSED, holt_control_answer(f->control, 999, holt_buf_text("nobody")));
}

static void test_mode_is_0600(void **state) {
  struct fixture *f = *state;
  struct stat info;
  assert_int_equal(0, stat(f->path, &info));
  assert_int_equal(0600, info.st_mode & 0777);
}

static void test_live_socket_is_refused(void **state) {
  struct fixture *f = *state;
  struct holt_control *second = NULL;
  struct holt_err err = {0};
  assert_int_equal(HOLT_EINUSE, holt_control_open(f->env, f->path, on_line, f, &second, &err));
  assert_non_null(strstr(err.message, "--name"));
}

static void test_dead_socket_is_replaced(void **state) {
  struct fixture *f = *state;
  struct holt_err err = {0};
  char kept[128];
  snprintf(kept, sizeof kept, "%s/kept", f->folder);
  assert_int_equal(
      0, link(f->path, kept)); /* a hard link survives the clean end, as a kill would leave the socket */
  holt_control_close(f->control);
  holt_env_turn(f->env, false);
  assert_int_equal(0, rename(kept, f->path));
  f->control = NULL;
  if (holt_control_open(f->env, f->path, on_line, f, &f->control, &err) != 0) fail_msg("%s", err.message);
}

static void test_folder_open_to_others(void **state) {
  struct fixture *f = *state;
  struct holt_control *second = NULL;
  struct holt_err err = {0};
  char folder[128], path[160];
  snprintf(folder, sizeof folder, "%s/open", f->folder);
  snprintf(path, sizeof path, "%s/n.sock", folder);
  assert_int_equal(0, mkdir(folder, 0755));
  assert_int_equal(HOLT_EPERMISSION, holt_control_open(f->env, path, on_line, f, &second, &err));
  assert_non_null(strstr(err.message, "chmod 700"));
  assert_int_equal(0, rmdir(folder));
}

static void test_path_too_long(void **state) {
  struct fixture *f = *state;
  struct holt_control *second = NULL;
  struct holt_err err = {0};
  char path[200], out[HOLT_CONTROL_PATH_MAX + 1];
  memset(path, 'p', sizeof path);
  path[sizeof path - 1] = '\0';
  assert_int_equal(HOLT_EINVAL, holt_control_open(f->env, path, on_line, f, &second, &err));
  assert_int_equal(HOLT_EINVAL, holt_control_default_path(path, out, &err));
  assert_int_equal(HOLT_EINVAL, holt_control_default_path("a/b", out, &err));
}

static void test_default_path(void **state) {
  (void)state;
  char out[HOLT_CONTROL_PATH_MAX + 1], want[128];
  struct holt_err err = {0};
  setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
  assert_int_equal(0, holt_control_default_path("n1", out, &err));
  assert_string_equal("/run/user/1/holt/n1.sock", out);
  unsetenv("XDG_RUNTIME_DIR");
  setenv("TMPDIR", "/var/tmp", 1);
  assert_int_equal(0, holt_control_default_path("n1", out, &err));
  snprintf(want, sizeof want, "/var/tmp/holt-%u/n1.sock", getuid());
  assert_string_equal(want, out);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_lines_in_pieces),
      TEST(test_many_clients),
      TEST(test_large_lines_and_answers),
      TEST(test_unanswered_requests_are_bounded),
      TEST(test_too_long_a_line),
      TEST(test_gone_client),
      TEST(test_mode_is_0600),
      TEST(test_live_socket_is_refused),
      TEST(test_dead_socket_is_replaced),
      TEST(test_folder_open_to_others),
      TEST(test_path_too_long),
      cmocka_unit_test(test_default_path),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
