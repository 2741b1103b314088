/* main.c - the executable: an env, a script, and `require("holt.cli").main(...)` in its first task.
 *
 * - main returns a number: the process ends with it. It returns nothing: the process lives while anything is
 * left that could happen (a node, a timer, a connection), then ends with 0.
 * - main raises: message and traceback on stderr, exit code 1.
 * - holt.exit(code) ends the process after the present turn. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "binding/binding.h"
#include "cli/edit.h"
#include "env/uv.h"

static const char start[] = "require('holt.loader').install()\n"
                            "return require('holt.cli').main(...)\n";

struct program {
  struct holt_script *script;
  int argc;
  char **argv;
  bool has_ended;
};

static void prepare(lua_State *L, void *arg) {
  struct program *program = arg;
  holt_binding_open(L);
  holt_cli_edit(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "holt.core");
  holt_binding_add_searcher(L, true);
  lua_createtable(L, program->argc, 1);
  for (int i = 0; i < program->argc; i++) {
    lua_pushstring(L, program->argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_setglobal(L, "arg");
}

static int main_push(lua_State *L, void *arg) {
  struct program *program = arg;
  if (luaL_loadbuffer(L, start, sizeof start - 1, "=holt") != LUA_OK) return lua_error(L);
  luaL_checkstack(L, program->argc, "too many arguments");
  for (int i = 1; i < program->argc; i++) lua_pushstring(L, program->argv[i]);
  return program->argc > 0 ? program->argc - 1 : 0;
}

struct failure {
  lua_State *co;
};

static void print_failure(lua_State *L, void *arg) {
  struct failure *failure = arg;
  holt_lua_push_failure(L, failure->co);
  fprintf(stderr, "holt: %s\n%s\n", luaL_tolstring(L, 1, NULL), lua_tostring(L, 2));
}

static void main_ended(void *arg, struct holt_task *task, lua_State *co, bool ok, int count) {
  (void)task;
  struct program *program = arg;
  program->has_ended = true;
  if (holt_script_is_exiting(program->script, NULL)) return;
  if (!ok && lua_isnil(co, -1)) return; /* never ended: the script is being closed */
  if (!ok) {
    struct failure failure = {.co = co};
    holt_lua_call(program->script, print_failure, &failure, NULL);
    holt_script_exit(program->script, 1);
  } else if (count > 0 && lua_isinteger(co, -count)) {
    holt_script_exit(program->script, (int)lua_tointeger(co, -count));
  } else if (count > 0 && lua_isboolean(co, -count)) {
    holt_script_exit(program->script, lua_toboolean(co, -count) ? 0 : 1);
  }
}

static const struct holt_job main_job = {.push = main_push, .ended = main_ended};

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN); /* a reader that left shows as a failed write */
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
  struct holt_env *env = holt_env_uv_new();
  struct program program = {.argc = argc, .argv = argv};
  if (env == NULL || (program.script = holt_script_new(env)) == NULL) {
    fprintf(stderr, "holt: cannot start: no memory or no file descriptors left (see `ulimit -a`)\n");
    return 1;
  }
  struct holt_err err = {0};
  if (holt_lua_call(program.script, prepare, &program, &err) != 0 ||
      holt_task_new(program.script, &main_job, &program) == NULL) {
    fprintf(stderr, "holt: cannot start: %s\n", err.message);
    return 1;
  }
  int code = 0;
  while (holt_script_turn(program.script, true) && !holt_script_is_exiting(program.script, NULL)) continue;
  if (!holt_script_is_exiting(program.script, &code) && !program.has_ended) {
    fprintf(stderr, "holt: the script waits for something that can never happen: nothing is left that could "
                    "wake it (no timer, no connection, no task)\n");
    code = 1;
  }
  holt_script_free(program.script);
  holt_env_free(env);
  return code;
}
