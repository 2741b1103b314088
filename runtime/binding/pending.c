/* pending.c - one call of Lua that waits for the outside, with a time limit.
 *
 * - The record lies in its owner's list while the coroutine is parked.
 * - Woken by the owner, or by its timer: the coroutine goes on and looks again.
 * - Canceled: the record leaves the list, nothing else happens. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "binding/outside.h"
#include "env/file.h"

struct holt__handles holt__handles;

struct pending {
  struct holt_wait wait;
  struct holt_list node;
  struct holt_timer timer;
  uint64_t deadline_ms;
  int status;
  holt__go_on go_on;
  void *owner;
};

static void release(struct pending *pending) {
  holt_timer_stop(&pending->timer);
  holt_list_remove(&pending->node);
  free(pending);
}

static int finish(lua_State *L, struct holt_wait *wait) {
  struct pending *pending = HOLT_CONTAINER(wait, struct pending, wait);
  holt__go_on go_on = pending->go_on;
  void *owner = pending->owner;
  int status = pending->status;
  uint64_t deadline_ms = pending->deadline_ms;
  release(pending);
  return go_on(L, owner, status, deadline_ms);
}

static void cancel(struct holt_wait *wait) {
  release(HOLT_CONTAINER(wait, struct pending, wait));
}

static void on_deadline(void *arg) {
  struct pending *pending = arg;
  pending->status = HOLT_ETIMEOUT;
  holt_wait_wake(&pending->wait);
}

uint64_t holt__deadline(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return HOLT__NO_DEADLINE;
  return holt_env_now_ms(holt_script_env(holt_script_of(L))) + holt_lua_check_seconds(L, index);
}

int holt__pend(lua_State *L, struct holt_list *list, uint64_t deadline_ms, holt__go_on go_on, void *owner) {
  holt_wait_check(L);
  struct holt_env *env = holt_script_env(holt_script_of(L));
  struct pending *pending = holt_alloc(sizeof *pending);
  holt_wait_init(&pending->wait, L, finish, cancel);
  holt_timer_init(&pending->timer, env, on_deadline, pending);
  pending->deadline_ms = deadline_ms;
  pending->go_on = go_on;
  pending->owner = owner;
  holt_list_init(&pending->node);
  holt_list_push(list, &pending->node);
  if (deadline_ms != HOLT__NO_DEADLINE) {
    uint64_t now = holt_env_now_ms(env);
    holt_timer_start(&pending->timer, deadline_ms > now ? deadline_ms - now : 0);
  }
  return holt_wait_park(L, &pending->wait);
}

void holt__pending_wake(struct holt_list *list) {
  HOLT_LIST_EACH(list, node, following) {
    struct pending *pending = HOLT_CONTAINER(node, struct pending, node);
    holt_wait_wake(&pending->wait);
  }
}

static int l_handles(lua_State *L) {
  struct holt_script *script = holt_script_of(L);
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, holt__handles.streams);
  lua_setfield(L, -2, "streams");
  lua_pushinteger(L, holt__handles.listeners);
  lua_setfield(L, -2, "listeners");
  lua_pushinteger(L, holt__handles.processes);
  lua_setfield(L, -2, "processes");
  lua_pushinteger(L, (lua_Integer)holt_env_timer_count(holt_script_env(script)));
  lua_setfield(L, -2, "timers");
  lua_pushinteger(L, (lua_Integer)holt_script_task_count(script));
  lua_setfield(L, -2, "tasks");
  return 1;
}

/* folders_opened() -> how many until now */
static int l_folders_opened(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)holt_dirs_opened(holt_script_env(holt_script_of(L))));
  return 1;
}

/* has_folder(path, up_to): one in it counts, too; of the first so many that were opened */
static int l_has_folder(lua_State *L) {
  struct holt_env *env = holt_script_env(holt_script_of(L));
  uint64_t up_to = (uint64_t)luaL_checkinteger(L, 2);
  lua_pushboolean(L, holt_dir_is_open_below(env, luaL_checkstring(L, 1), up_to));
  return 1;
}

/* is_terminal(0, 1 or 2) */
static int l_is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

/* stdio_kind(0, 1 or 2) -> "terminal", "pipe" (or a socket), "file" (or a device, which never makes us wait),
 * "none" */
static int l_stdio_kind(lua_State *L) {
  struct stat status;
  int number = (int)luaL_checkinteger(L, 1);
  const char *kind = "file";
  if (fstat(number, &status) != 0)
    kind = "none";
  else if (isatty(number))
    kind = "terminal";
  else if (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode))
    kind = "pipe";
  lua_pushstring(L, kind);
  return 1;
}

static int l_pid(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

/* executable() -> the path of the program that runs */
static int l_executable(lua_State *L) {
  char path[4096];
  ssize_t len = readlink("/proc/self/exe", path, sizeof path);
  if (len < 0) return holt_lua_fail_code(L, HOLT_ENOTFOUND);
  lua_pushlstring(L, path, (size_t)len);
  return 1;
}

/* error_list() -> { { code, text } ... } in the order of base/err.h */
static int l_error_list(lua_State *L) {
  static const struct {
    const char *word, *text;
  } list[] = {
#define X(name, number, word, text) {word, text},
      HOLT_ERRORS(X)
#undef X
  };
  lua_newtable(L);
  for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, list[i].word);
    lua_rawseti(L, -2, 1);
    lua_pushstring(L, list[i].text);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

void holt_binding_outside(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"handles", l_handles},         {"folders_opened", l_folders_opened}, {"has_folder", l_has_folder},
      {"is_terminal", l_is_terminal}, {"executable", l_executable},         {"pid", l_pid},
      {"error_list", l_error_list},   {"stdio_kind", l_stdio_kind},         {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  holt__binding_stream(L);
  holt__binding_process(L);
  holt__binding_control(L);
}
