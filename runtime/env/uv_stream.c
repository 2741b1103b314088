/* uv_stream.c - byte streams on libuv.
 *
 * - write: uv_try_write; what the system does not take is copied and handed to uv_write; the owner waits for
 *   on_writable then. A second write before that is refused by an assertion: it is our own mistake.
 * - read: from the hand-over on, into the env's one buffer, borrowed to on_data.
 * - end of stream or error: on_end once; the owner closes. A write that fails after the other side's end is
 * told by the next write.
 * - close: abort closes at once (TCP resets); otherwise what is pending is sent, then a shutdown, bounded by
 * a timer of five seconds. Memory is freed when libuv has let go of every handle. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/uv_impl.h"

#define LINGER_MS 5000

static void release(uv_handle_t *handle) {
  struct holt_uv_stream *s = handle->data;
  if (--s->handles_open > 0) return;
  holt_list_remove(&s->node);
  s->uv->open.streams--;
  free(s->pending);
  free(s);
}

static void close_handles(struct holt_uv_stream *s) {
  if (s->is_handle_closing) return;
  s->is_handle_closing = true;
  uv_close(&s->h.handle, release);
  uv_close((uv_handle_t *)&s->linger, release);
}

static void reset_handles(struct holt_uv_stream *s) {
  if (s->is_handle_closing) return;
  if (s->h.handle.type != UV_TCP || uv_tcp_close_reset(&s->h.tcp, release) != 0) {
    close_handles(s);
    return;
  }
  s->is_handle_closing = true;
  uv_close((uv_handle_t *)&s->linger, release);
}

static void on_write(uv_write_t *request, int status) {
  struct holt_uv_stream *s = HOLT_CONTAINER(request, struct holt_uv_stream, write);
  holt__uv_end_turn(s->uv);
  free(s->pending);
  s->pending = NULL;
  if (s->is_closing) return; /* the shutdown behind us closes */
  if (status != 0 && s->stream.on_end != NULL)
    holt__stream_end(&s->stream, holt__uv_code(status));
  else if (s->stream.on_writable != NULL)
    s->stream.on_writable(s->stream.arg);
}

static int stream_write(struct holt_stream *stream, const void *data, size_t len) {
  struct holt_uv_stream *s = (struct holt_uv_stream *)stream;
  HOLT_ASSERT(!s->is_closing);
  HOLT_ASSERT(s->pending == NULL);
  uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
  int sent = uv_try_write(&s->h.stream, &buf, 1);
  if (sent == (int)len) return 0;
  if (sent < 0 && sent != UV_EAGAIN && stream->on_end == NULL) return holt__uv_code(sent);
  if (sent < 0 && sent != UV_EAGAIN) sent = 0; /* the error comes again through uv_write, on a later turn */
  if (sent < 0) sent = 0;
  size_t left = len - (size_t)sent;
  s->pending = malloc(left);
  if (s->pending == NULL) return HOLT_ENOMEM;
  memcpy(s->pending, (const uint8_t *)data + sent, left);
  buf = uv_buf_init((char *)s->pending, (unsigned)left);
  int rc = uv_write(&s->write, &s->h.stream, &buf, 1, on_write);
  if (rc == 0) return 1;
  free(s->pending);
  s->pending = NULL;
  return holt__uv_code(rc);
}

static void on_linger(uv_timer_t *timer) {
  close_handles(timer->data);
}

static void on_shutdown(uv_shutdown_t *request, int status) {
  (void)status;
  close_handles(HOLT_CONTAINER(request, struct holt_uv_stream, shutdown));
}

static void stream_close(struct holt_stream *stream, bool abort) {
  struct holt_uv_stream *s = (struct holt_uv_stream *)stream;
  if (s->is_closing) return;
  s->is_closing = true;
  if (s->is_reading) uv_read_stop(&s->h.stream);
  s->is_reading = false;
  if (abort)
    reset_handles(s);
  else if (s->uv->is_closing || uv_shutdown(&s->shutdown, &s->h.stream, on_shutdown) != 0)
    close_handles(s);
  else
    uv_timer_start(&s->linger, on_linger, LINGER_MS, 0);
}

void holt__uv_stream_cut(struct holt_uv_stream *s) {
  s->is_closing = true;
  close_handles(s);
}

/* A stream gives one buffer a turn: libuv would fill up to 32 of them before anything else has its turn. No
 * room is how it is told to come back (UV_ENOBUFS, see uv_alloc_cb in its guide). */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)suggested;
  struct holt_uv_stream *s = handle->data;
  bool had_its_turn = s->full_turn == s->uv->turns;
  *buf = uv_buf_init((char *)s->uv->read_buffer, had_its_turn ? 0 : sizeof s->uv->read_buffer);
}

static void on_read(uv_stream_t *handle, ssize_t count, const uv_buf_t *buf) {
  struct holt_uv_stream *s = handle->data;
  if (count == UV_ENOBUFS) return;
  if (count == sizeof s->uv->read_buffer) s->full_turn = s->uv->turns;
  if (count > 0) {
    if (s->stream.on_data != NULL)
      s->stream.on_data(s->stream.arg, (const uint8_t *)buf->base, (size_t)count);
  } else if (count < 0) {
    uv_read_stop(handle);
    s->is_reading = false;
    holt__stream_end(&s->stream, holt__uv_code((int)count));
  }
}

static const struct holt_stream_ops stream_ops = {.write = stream_write, .close = stream_close};

struct holt_uv_stream *holt__uv_stream_new(struct holt_uv *uv) {
  struct holt_uv_stream *s = holt_alloc(sizeof *s);
  s->stream.ops = &stream_ops;
  s->uv = uv;
  holt_list_init(&s->node);
  return s;
}

static void adopt(struct holt_uv_stream *s) {
  s->h.handle.data = s;
  uv_timer_init(&s->uv->loop, &s->linger);
  s->linger.data = s;
  s->handles_open = 2;
  holt_list_push(&s->uv->streams, &s->node);
  s->uv->open.streams++;
}

void holt__uv_stream_open(struct holt_uv_stream *s) {
  adopt(s);
  s->is_reading = uv_is_readable(&s->h.stream) && uv_read_start(&s->h.stream, on_alloc, on_read) == 0;
}

void holt__uv_stream_discard(struct holt_uv_stream *s) {
  adopt(s);
  holt__uv_stream_cut(s);
}

int holt__uv_stdio(struct holt_env *env, int number, struct holt_stream **out, struct holt_err *err) {
  struct holt_uv *uv = (struct holt_uv *)env;
  struct holt_uv_stream *s = holt__uv_stream_new(uv);
  int rc;
  switch (uv_guess_handle(number)) {
  case UV_TTY:
    rc = uv_tty_init(&uv->loop, &s->h.tty, number, 0);
    break;
  case UV_NAMED_PIPE:
  case UV_FILE:
    rc = uv_pipe_init(&uv->loop, &s->h.pipe, 0);
    if (rc == 0) rc = uv_pipe_open(&s->h.pipe, number);
    break;
  default:
    rc = UV_EBADF;
  }
  if (rc != 0) {
    free(s);
    return holt_err_set(
        err, HOLT_EUNSUPPORTED,
        "standard stream %d is neither a terminal nor a pipe (%s); use 'cat FILE |' to feed it", number,
        uv_strerror(rc));
  }
  holt__uv_stream_open(s);
  *out = &s->stream;
  return 0;
}
