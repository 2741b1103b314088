/* control.c - clients of the control socket.
 *
 * - A client connects; what it sends is gathered and cut at newlines.
 * - Each line goes to the owner, unless the client has too much unanswered or does not read; then it waits.
 * - Each answer is written; what the system does not take at once waits for the stream.
 *
 * A line that is too long: an error is answered and the client is cut. A client that ends its side keeps the
 * stream until all its requests are answered. A broken stream: the client is forgotten, later answers are
 * HOLT_ECLOSED. */
#include "admin/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/path.h"
#include "base/assert.h"
#include "base/mem.h"

struct client {
  struct holt_list node; /* in holt_control.clients */
  struct holt_control *control;
  struct holt_stream *stream;
  struct holt_post work; /* hands out lines, or lets the client go */
  uint64_t id;
  struct holt_writer in; /* bytes [start, len) are not handed out yet; no newline before `scanned` */
  size_t start, scanned;
  struct holt_writer out; /* answers the stream has no room for */
  unsigned in_flight;
  bool is_choked; /* the stream asked us to wait */
  bool is_ended;  /* nothing more will come in */
  bool is_broken; /* nothing can be sent any more */
};

struct holt_control {
  struct holt_env *env;
  struct holt_listener *listener;
  struct holt_list clients;
  uint64_t next_id;
  holt_control_line_cb cb;
  void *arg;
  char path[HOLT_CONTROL_PATH_MAX + 1];
};

static void client_free(struct client *client, bool abort) {
  holt_post_cancel(&client->work);
  holt_list_remove(&client->node);
  holt_stream_close(client->stream, abort);
  holt_writer_free(&client->in);
  holt_writer_free(&client->out);
  free(client);
}

static void client_write(struct client *client, struct holt_buf bytes) {
  if (client->is_broken) return;
  if (client->is_choked) {
    holt_write_bytes(&client->out, bytes.data, bytes.len);
    return;
  }
  int rc = holt_stream_write(client->stream, bytes.data, bytes.len);
  if (rc == 1) client->is_choked = true;
  if (rc < 0) client->is_broken = true;
}

/* The next whole line, or false. At the end of input the rest counts as a line. */
static bool next_line(struct client *client, struct holt_buf *line) {
  size_t left = client->in.len - client->scanned;
  const uint8_t *newline = left == 0 ? NULL : memchr(client->in.data + client->scanned, '\n', left);
  if (newline == NULL) {
    client->scanned = client->in.len;
    if (!client->is_ended || client->start == client->in.len) return false;
    *line = holt_buf(client->in.data + client->start, client->in.len - client->start);
    client->start = client->in.len;
    return true;
  }
  size_t end = (size_t)(newline - client->in.data);
  *line = holt_buf(client->in.data + client->start, end - client->start);
  client->start = client->scanned = end + 1;
  return true;
}

/* Give back the room of what has been handed out. */
static void compact(struct client *client) {
  if (client->start == 0) return;
  size_t left = client->in.len - client->start;
  if (left == 0) {
    holt_writer_free(&client->in);
    client->in = (struct holt_writer){0};
  } else {
    memmove(client->in.data, client->in.data + client->start, left);
    client->in.len = left;
  }
  client->scanned -= client->start;
  client->start = 0;
}

static bool is_blank(struct holt_buf line) {
  for (size_t i = 0; i < line.len; i++) {
    if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r') return false;
  }
  return true;
}

static void client_work(void *arg) {
  struct client *client = arg;
  struct holt_buf line;
  while (!client->is_broken && !client->is_choked && client->in_flight < HOLT_CONTROL_IN_FLIGHT &&
         next_line(client, &line)) {
    if (is_blank(line)) continue;
    client->in_flight++;
    client->control->cb(client->control->arg, client->id, line);
  }
  compact(client);
  if (client->is_broken) {
    client_free(client, true);
  } else if (client->in.len > HOLT_CONTROL_LINE_MAX) {
    static const char text[] =
        "{\"ok\":false,\"error\":{\"code\":\"too_large\",\"message\":\"a request may have 64 MiB; "
        "send smaller ones, and read the answers\"}}\n";
    client_write(client, holt_buf(text, sizeof text - 1));
    client_free(client, false);
  } else if (client->is_ended && client->in_flight == 0 && client->in.len == 0 && client->out.len == 0) {
    client_free(client, false);
  }
}

static void on_data(void *arg, const uint8_t *data, size_t len) {
  struct client *client = arg;
  holt_write_bytes(&client->in, data, len);
  holt_env_post(client->control->env, &client->work);
}

static void on_end(void *arg, int status) {
  struct client *client = arg;
  client->is_ended = true;
  if (status != HOLT_EEOF) client->is_broken = true;
  holt_env_post(client->control->env, &client->work);
}

static void on_writable(void *arg) {
  struct client *client = arg;
  client->is_choked = false;
  if (client->out.len > 0) {
    struct holt_writer out = client->out;
    client->out = (struct holt_writer){0};
    client_write(client, holt_buf(out.data, out.len));
    holt_writer_free(&out);
  }
  holt_env_post(client->control->env, &client->work);
}

static void on_client(void *arg, struct holt_stream *stream) {
  struct holt_control *control = arg;
  struct client *client = holt_alloc(sizeof *client);
  client->control = control;
  client->stream = stream;
  client->id = ++control->next_id;
  holt_post_init(&client->work, client_work, client);
  holt_list_init(&client->node);
  holt_list_push(&control->clients, &client->node);
  stream->on_data = on_data;
  stream->on_end = on_end;
  stream->on_writable = on_writable;
  stream->arg = client;
}

int holt_control_open(struct holt_env *env, const char *path, holt_control_line_cb cb, void *arg,
                      struct holt_control **out, struct holt_err *err) {
  int rc = holt__control_path_prepare(path, err);
  if (rc != 0) return rc;
  struct holt_control *control = holt_alloc(sizeof *control);
  char address[HOLT_CONTROL_PATH_MAX + sizeof "unix:"];
  control->env = env;
  control->cb = cb;
  control->arg = arg;
  holt_list_init(&control->clients);
  snprintf(control->path, sizeof control->path, "%s", path); /* its length was checked above */
  snprintf(address, sizeof address, "unix:%s", path);
  mode_t before = umask(0177);
  rc = holt_env_listen(env, address, on_client, control, &control->listener, NULL, err);
  umask(before);
  if (rc != 0) {
    holt_err_prefix(err, "control socket");
    free(control);
    return rc;
  }
  *out = control;
  return 0;
}

int holt_control_answer(struct holt_control *control, uint64_t id, struct holt_buf text) {
  HOLT_LIST_EACH(&control->clients, node, following) {
    struct client *client = HOLT_CONTAINER(node, struct client, node);
    if (client->id != id) continue;
    if (client->is_broken) return HOLT_ECLOSED;
    HOLT_ASSERT(client->in_flight > 0);
    client->in_flight--;
    client_write(client, text);
    client_write(client, holt_buf("\n", 1));
    holt_env_post(control->env, &client->work);
    return 0;
  }
  return HOLT_ECLOSED;
}

void holt_control_close(struct holt_control *control) {
  HOLT_LIST_EACH(&control->clients, node, following) {
    struct client *client = HOLT_CONTAINER(node, struct client, node);
    client_free(client, false);
  }
  holt_listener_close(control->listener);
  unlink(control->path);
  free(control);
}
