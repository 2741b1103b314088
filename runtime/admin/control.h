/* control.h - the control socket: newline-delimited requests from this user's other programs, and their
 * answers.
 *
 * A Unix socket, mode 0600, in a folder that is ours alone. It splits what arrives into lines and hands each
 * to the owner; what a line means is not its business. Any number of clients. A client has at most
 * HOLT_CONTROL_IN_FLIGHT requests unanswered and gets no further line handed out while it does not read its
 * answers; what it sends meanwhile is kept up to HOLT_CONTROL_LINE_MAX and beyond that the client is cut.
 * Call from the loop's thread only. */
#ifndef HOLT_ADMIN_CONTROL_H
#define HOLT_ADMIN_CONTROL_H

#include "base/buf.h"
#include "base/err.h"
#include "env/env.h"

#define HOLT_CONTROL_LINE_MAX  (64u * 1024 * 1024) /* bytes in one request */
#define HOLT_CONTROL_IN_FLIGHT 64
#define HOLT_CONTROL_PATH_MAX  107 /* bytes a Unix socket's path may have */

struct holt_control;

/* One request without its newline, borrowed until return. The owner owes one holt_control_answer for it. */
typedef void (*holt_control_line_cb)(void *arg, uint64_t client, struct holt_buf line);

/* Where the control socket of node `name` lies when nobody says otherwise: $XDG_RUNTIME_DIR/holt/NAME.sock,
 * else holt-UID/NAME.sock in the system's temporary folder. HOLT_EINVAL when that would be too long or `name`
 * has a '/'. */
int holt_control_default_path(const char *name, char out[HOLT_CONTROL_PATH_MAX + 1], struct holt_err *err);

/* Open the socket at `path` (copied). Its folder is made (0700) when missing; a socket nobody listens at any
 * more is replaced. Errors, each with a sentence: HOLT_EINVAL (path), HOLT_EPERMISSION (folder not ours or
 * open to others), HOLT_EINUSE (another node listens there), HOLT_EIO. */
int holt_control_open(struct holt_env *env, const char *path, holt_control_line_cb cb, void *arg,
                      struct holt_control **out, struct holt_err *err);
/* Answer a request: `text` (copied) and a newline are sent. HOLT_ECLOSED when that client is gone. */
int holt_control_answer(struct holt_control *control, uint64_t client, struct holt_buf text);
/* Hang up, remove the socket. What the streams have taken is still sent; what waits for a client that does
 * not read is not. No callback follows. */
void holt_control_close(struct holt_control *control);

#endif /* HOLT_ADMIN_CONTROL_H */
