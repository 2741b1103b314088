/* outside.h - the Lua face of streams, listeners, child processes and the control socket.
 *
 * Shared by process.c, stream.c and control.c. Every call that waits parks its coroutine through one record
 * (struct holt__pending) and takes an optional time limit in seconds. */
#ifndef HOLT_BINDING_OUTSIDE_H
#define HOLT_BINDING_OUTSIDE_H

#include "script/script.h"

/* Add spawn, connect, listen, stdio, control_open, control_path, handles to the table on top of the
 * stack (holt.core). The state must have its script. */
void holt_binding_outside(lua_State *L);

/* What Lua holds open in this process; a spec compares it before and after. */
struct holt__handles {
  unsigned streams, listeners, processes;
};
extern struct holt__handles holt__handles;

/* --- One call that waits -------------------------------------------------------------------------- */

/* Goes on after the wait: status 0 (look again) or HOLT_ETIMEOUT. Pushes the results and returns their
 * number, or waits anew with holt__pend. Runs in the coroutine; `owner` is kept alive by the userdata at
 * stack index 1. */
typedef int (*holt__go_on)(lua_State *L, void *owner, int status, uint64_t deadline_ms);

#define HOLT__NO_DEADLINE UINT64_MAX
/* The moment until which a call may wait: from an optional number of seconds at `index`. */
uint64_t holt__deadline(lua_State *L, int index);
/* The last act of a function called by Lua: wait in `list` until woken or until the deadline. */
int holt__pend(lua_State *L, struct holt_list *list, uint64_t deadline_ms, holt__go_on go_on, void *owner);
/* Everybody in the list looks again. From anywhere. */
void holt__pending_wake(struct holt_list *list);

/* Push a new stream object for `stream`, which is taken. May raise, then the stream is closed by the
 * collector. */
struct holt__lua_stream;
struct holt__lua_stream *holt__stream_adopt(struct holt_stream *stream);
void holt__stream_push(lua_State *L, struct holt__lua_stream *adopted);
/* For one that was never pushed. */
void holt__stream_drop(struct holt__lua_stream *adopted);

void holt__binding_stream(lua_State *L);
void holt__binding_process(lua_State *L);
void holt__binding_control(lua_State *L);

#endif /* HOLT_BINDING_OUTSIDE_H */
