/* err.h - every way a call can fail: one list of codes, each with its stable word and its text.
 *
 * Functions return 0 or a negative HOLT_E* code. Where a person will read the outcome, a
 * `struct holt_err` travels with it; each caller may put a prefix in front on the way up. */
#ifndef HOLT_BASE_ERR_H
#define HOLT_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

/* X(name, number, word shown to scripts, text shown to people) */
#define HOLT_ERRORS(X)                                                                                       \
  X(EINVAL, 1, "invalid", "invalid argument")                                                                \
  X(ENOMEM, 2, "no_memory", "out of memory")                                                                 \
  X(ECLOSED, 3, "closed", "already closed")                                                                  \
  X(ECANCELED, 4, "canceled", "canceled")                                                                    \
  X(ETIMEOUT, 5, "timeout", "timed out")                                                                     \
  X(EAGAIN, 6, "again", "not now, try again later")                                                          \
  X(EFULL, 7, "buffer_full", "the buffer is full")                                                           \
  X(ETOOLARGE, 8, "too_large", "too large")                                                                  \
  X(EADDRESS, 9, "bad_address", "not an address")                                                            \
  X(EINUSE, 10, "address_in_use", "address already in use")                                                  \
  X(EREFUSED, 11, "connection_refused", "connection refused")                                                \
  X(ERESET, 12, "connection_reset", "connection reset by the other side")                                    \
  X(EUNREACHABLE, 13, "unreachable", "cannot be reached")                                                    \
  X(EHOST, 14, "unknown_host", "host name not found")                                                        \
  X(EEOF, 15, "end_of_stream", "the other side closed the stream")                                           \
  X(EPROTOCOL, 16, "protocol", "the other side broke the protocol")                                          \
  X(EVERSION, 17, "wrong_version", "the other side speaks another version of the protocol")                  \
  X(ECHANNEL, 18, "wrong_channel", "the other side is on another channel")                                   \
  X(ENAMEINUSE, 19, "name_in_use", "another node of this name is alive")                                     \
  X(EDUPLICATE, 20, "duplicate", "these two nodes already have a link")                                      \
  X(ESELF, 21, "self_connect", "a node cannot link to itself")                                               \
  X(EREPLACED, 22, "replaced", "a newer connection took over")                                               \
  X(EMAXPEERS, 23, "max_peers", "the node has all the peers it may have")                                    \
  X(EINSECURE, 24, "insecure", "not allowed without encryption")                                             \
  X(ENOTFOUND, 25, "not_found", "not found")                                                                 \
  X(EPERMISSION, 26, "permission", "permission denied")                                                      \
  X(EIO, 27, "io", "input or output failed")                                                                 \
  X(ECODEC, 28, "codec", "cannot be encoded or decoded")                                                     \
  X(ECANNOTBLOCK, 29, "cannot_block", "a call that must wait is not possible here")                          \
  X(ESCRIPT, 30, "script_error", "the script raised an error")                                               \
  X(EUNSUPPORTED, 31, "unsupported", "not supported here")                                                   \
  X(EEXISTS, 32, "exists", "exists already")                                                                 \
  X(ESTALLED, 34, "stalled", "a peer has taken nothing for a second")                                        \
  X(ENORESPONDER, 35, "no_responder", "nobody serves it")                                                    \
  X(EREMOTE, 36, "remote_error", "the handler at the other node raised an error")                            \
  X(ENOSPC, 37, "disk_full", "no space left on the disk")                                                    \
  X(ECORRUPT, 38, "corrupt", "what is on the disk is damaged")                                               \
  X(ELOCKED, 39, "locked", "another process uses it")                                                        \
  X(ENOLEADER, 40, "no_quorum", "no leader with a majority is known")                                        \
  X(ENOTLEADER, 41, "not_leader", "this member does not lead")                                               \
  X(EBUSY, 42, "busy", "too much is under way")                                                              \
  X(EUNKNOWN, 43, "unknown", "the outcome is not known")                                                     \
  X(EFOREIGN, 44, "foreign", "belongs to another cluster or member")                                         \
  X(EWRONGKIND, 45, "wrong_kind", "an object of this name and another kind exists")                          \
  X(EOPTIONS, 46, "option_conflict", "the object exists with other options")                                 \
  X(ECONTENDED, 47, "contended", "others changed it each time before the deadline")                          \
  X(ENOTSUBSCRIBED, 48, "not_subscribed", "this node does not listen to that event")                         \
  X(ESCHEMA, 49, "schema", "does not fit the schema")                                                        \
  X(ESCHEMACHANGE, 50, "schema_conflict", "what was written with the schema before would be read wrongly")   \
  X(EINTERNAL, 33, "internal", "internal error")

enum {
#define X(name, number, word, text) HOLT_##name = -(number),
  HOLT_ERRORS(X)
#undef X
};

/* The stable word of `code` ("timeout"), "ok" for 0, "internal" for a number that is none of ours. */
const char *holt_err_word(int code);
/* The sentence of `code` for people. */
const char *holt_err_text(int code);
/* The code whose word is `word`, or 0 when there is none. */
int holt_err_from_word(const char *word);

struct holt_err {
  int code;          /* 0 or HOLT_E* */
  char message[400]; /* what happened and what to do, no trailing newline; cut when longer */
  char node[65];     /* name of the other node it is about, or "" */
};

/* Fill `err` (may be NULL) and return `code`, so that `return holt_err_set(…)` reads well. */
int holt_err_set(struct holt_err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Fill `err` (may be NULL) with the text of `code`. Returns `code`. */
int holt_err_code(struct holt_err *err, int code);
/* Put "prefix: " in front of the message. Returns err->code; `err` may be NULL (then 0). */
int holt_err_prefix(struct holt_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif /* HOLT_BASE_ERR_H */
