/* process.c - child processes for Lua.
 *
 * spawn { "file", "argument" …, env = { NAME = "value" or false }, directory =, die_with_parent = true,
 *         stdin = "pipe", stdout = "pipe", stderr = "pipe" } -> process | nil, err
 * The pipes are process.stdin, process.stdout and process.stderr. A process object that is collected lets its
 * child live on. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "binding/outside.h"

#define PROCESS "holt.process"

extern char **environ;

struct lua_process {
  struct holt_process *process; /* NULL once let go */
  int pid;
  bool is_ended;
  int exit_code, signal_number;
  struct holt_list waiters;
};

static const struct {
  const char *name;
  int number;
} signals[] = {{"SIGTERM", SIGTERM}, {"SIGKILL", SIGKILL},  {"SIGINT", SIGINT},   {"SIGHUP", SIGHUP},
               {"SIGSTOP", SIGSTOP}, {"SIGCONT", SIGCONT},  {"SIGUSR1", SIGUSR1}, {"SIGUSR2", SIGUSR2},
               {"SIGQUIT", SIGQUIT}, {"SIGABRT", SIGABRT},  {"SIGSEGV", SIGSEGV}, {"SIGPIPE", SIGPIPE},
               {"SIGBUS", SIGBUS},   {"SIGWINCH", SIGWINCH}};

#define SIGNAL_COUNT (sizeof signals / sizeof signals[0])

static int check_signal(lua_State *L, int index) {
  if (lua_type(L, index) == LUA_TNUMBER) return (int)luaL_checkinteger(L, index);
  const char *name = luaL_checkstring(L, index);
  for (size_t i = 0; i < SIGNAL_COUNT; i++) {
    if (strcmp(name, signals[i].name) == 0 || strcmp(name, signals[i].name + 3) == 0)
      return signals[i].number;
  }
  return luaL_error(L, "'%s' is no signal that can be named here; try \"TERM\", \"KILL\", \"INT\"", name);
}

static void push_signal(lua_State *L, int number) {
  for (size_t i = 0; i < SIGNAL_COUNT; i++) {
    if (signals[i].number == number) {
      lua_pushstring(L, signals[i].name);
      return;
    }
  }
  lua_pushfstring(L, "signal %d", number);
}

/* --- Starting ------------------------------------------------------------------------------------- */

/* The texts of the list at `index`, NULL-terminated, in a userdata pushed on the stack; they live as long as
 * it. */
static const char **push_arguments(lua_State *L, int index) {
  lua_Integer count = luaL_len(L, index);
  const char **args = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *args, 0);
  for (lua_Integer i = 1; i <= count; i++) {
    if (lua_geti(L, index, i) != LUA_TSTRING) luaL_error(L, "spawn: argument %d must be a string", (int)i);
    args[i - 1] = lua_tostring(L, -1); /* kept alive by the list */
    lua_pop(L, 1);
  }
  args[count] = NULL;
  return args;
}

static bool is_overridden(lua_State *L, int index, const char *entry) {
  const char *equals = strchr(entry, '=');
  if (equals == NULL) return false;
  lua_pushlstring(L, entry, (size_t)(equals - entry));
  bool is_there = lua_gettable(L, index) != LUA_TNIL;
  lua_pop(L, 1);
  return is_there;
}

/* The present environment with the changes of the table at `index`; pushes two values that keep the texts. */
static const char **push_environment(lua_State *L, int index) {
  size_t room = 1, count = 0;
  for (char **entry = environ; *entry != NULL; entry++) room++;
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    room++;
    lua_pop(L, 1);
  }
  const char **list = lua_newuserdatauv(L, room * sizeof *list, 0);
  for (char **entry = environ; *entry != NULL; entry++) {
    if (!is_overridden(L, index, *entry)) list[count++] = *entry;
  }
  lua_newtable(L); /* keeps the new texts */
  int keep = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    if (lua_toboolean(L, -1)) {
      if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
        luaL_error(L, "spawn: env maps names to strings, or to false to remove one");
      lua_pushfstring(L, "%s=%s", lua_tostring(L, -2), lua_tostring(L, -1));
      list[count++] = lua_tostring(L, -1);
      lua_rawseti(L, keep, luaL_len(L, keep) + 1);
    }
    lua_pop(L, 1);
  }
  list[count] = NULL;
  return list;
}

static bool wants_pipe(lua_State *L, const char *name) {
  static const char *const words[] = {"inherit", "pipe", NULL};
  lua_getfield(L, 1, name);
  bool is_pipe = !lua_isnil(L, -1) && luaL_checkoption(L, lua_gettop(L), "inherit", words) == 1;
  lua_pop(L, 1);
  return is_pipe;
}

static void on_exit_cb(void *arg, int exit_code, int signal_number) {
  struct lua_process *p = arg;
  p->is_ended = true;
  p->exit_code = exit_code;
  p->signal_number = signal_number;
  holt_process_close(p->process);
  p->process = NULL;
  holt__handles.processes--;
  holt__pending_wake(&p->waiters);
}

static int l_spawn(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  struct holt_process_options options = {.exit_cb = on_exit_cb};
  options.args = push_arguments(L, 1);
  luaL_argcheck(L, options.args[0] != NULL, 1, "the program to start was expected as the first element");
  options.file = options.args[0];
  if (lua_getfield(L, 1, "env") == LUA_TTABLE) options.env = push_environment(L, lua_gettop(L));
  lua_getfield(L, 1, "directory");
  options.directory = lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
  lua_getfield(L, 1, "die_with_parent");
  options.die_with_parent = lua_toboolean(L, -1);
  options.pipe_stdin = wants_pipe(L, "stdin");
  options.pipe_stdout = wants_pipe(L, "stdout");
  options.pipe_stderr = wants_pipe(L, "stderr");
  struct lua_process *p = lua_newuserdatauv(L, sizeof *p, 3);
  memset(p, 0, sizeof *p);
  holt_list_init(&p->waiters);
  luaL_setmetatable(L, PROCESS);
  options.arg = p;
  struct holt_stream *pipes[3] = {NULL, NULL, NULL};
  struct holt_err err = {0};
  if (holt_env_spawn(holt_script_env(holt_script_of(L)), &options, &p->process, pipes, &err) != 0) {
    p->process = NULL;
    return holt_lua_fail(L, &err);
  }
  holt__handles.processes++;
  p->pid = holt_process_pid(p->process);
  struct holt__lua_stream *streams[3] = {NULL, NULL, NULL};
  for (int i = 0; i < 3; i++) {
    if (pipes[i] != NULL) streams[i] = holt__stream_adopt(pipes[i]);
  }
  for (int i = 0; i < 3;
       i++) { /* out of memory here leaves a stream open: the script is at its end then anyway */
    if (streams[i] == NULL) continue;
    holt__stream_push(L, streams[i]);
    lua_setiuservalue(L, -2, i + 1);
  }
  return 1;
}

/* --- A process ------------------------------------------------------------------------------------ */

static struct lua_process *check_process(lua_State *L) {
  return luaL_checkudata(L, 1, PROCESS);
}

static int go_wait(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_process *p = owner;
  if (p->is_ended) {
    lua_pushinteger(L, p->exit_code);
    if (p->signal_number == 0)
      lua_pushnil(L);
    else
      push_signal(L, p->signal_number);
    return 2;
  }
  if (status != 0) return holt_lua_fail_code(L, status);
  return holt__pend(L, &p->waiters, deadline_ms, go_wait, p);
}

/* process:wait(timeout?) -> exit code, name of the signal that ended it or nil */
static int l_process_wait(lua_State *L) {
  return go_wait(L, check_process(L), 0, holt__deadline(L, 2));
}

/* process:kill(signal = "TERM") -> true | nil, err */
static int l_process_kill(lua_State *L) {
  struct lua_process *p = check_process(L);
  int number = lua_isnoneornil(L, 2) ? SIGTERM : check_signal(L, 2);
  if (p->process == NULL) return holt_lua_fail_code(L, HOLT_ECLOSED);
  int rc = holt_process_kill(p->process, number);
  if (rc != 0) return holt_lua_fail_code(L, rc);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_process_pid(lua_State *L) {
  lua_pushinteger(L, check_process(L)->pid);
  return 1;
}

static int l_process_is_running(lua_State *L) {
  lua_pushboolean(L, !check_process(L)->is_ended);
  return 1;
}

static int l_process_gc(lua_State *L) {
  struct lua_process *p = check_process(L);
  if (p->process == NULL) return 0;
  holt_process_close(p->process);
  p->process = NULL;
  holt__handles.processes--;
  return 0;
}

/* Upvalue 1 is the table of methods. */
static int l_process_index(lua_State *L) {
  static const char *const pipes[] = {"stdin", "stdout", "stderr"};
  check_process(L);
  const char *key = luaL_checkstring(L, 2);
  for (int i = 0; i < 3; i++) {
    if (strcmp(key, pipes[i]) == 0) {
      lua_getiuservalue(L, 1, i + 1);
      return 1;
    }
  }
  lua_settop(L, 2);
  lua_rawget(L, lua_upvalueindex(1));
  return 1;
}

void holt__binding_process(lua_State *L) {
  static const luaL_Reg process[] = {{"wait", l_process_wait},
                                     {"kill", l_process_kill},
                                     {"pid", l_process_pid},
                                     {"is_running", l_process_is_running},
                                     {NULL, NULL}};
  static const luaL_Reg functions[] = {{"spawn", l_spawn}, {NULL, NULL}};
  luaL_newmetatable(L, PROCESS);
  lua_newtable(L);
  luaL_setfuncs(L, process, 0);
  lua_pushcclosure(L, l_process_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_process_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
