/* state.c - one Lua state and its script, from birth to a clean end; the allocator that counts. */
#include <stdlib.h>
#include <string.h>

#include <lualib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "script/script_impl.h"
#include "script/shapes.h"
#include "script/texts.h"

static char script_key; /* its address is our place in the registry */

/* The main thread's extra space holds the script; Lua copies it into each new coroutine. In a state that
 * somebody else made it starts with any bytes, and coroutines older than the script keep those, so a slot
 * counts only when it holds the script that was looked up last; else the registry tells. */
static struct holt_script **slot(lua_State *L) {
  return (struct holt_script **)lua_getextraspace(L);
}

static struct holt_script *latest;

struct holt_script *holt_script_find(lua_State *L) {
  struct holt_script *script = NULL;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &script_key) == LUA_TUSERDATA)
    script = *(struct holt_script **)lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (script != NULL) {
    *slot(L) = script;
    latest = script;
  }
  return script;
}

struct holt_script *holt_script_of(lua_State *L) {
  struct holt_script *script = *slot(L);
  if (script != NULL && script == latest) return script;
  script = holt_script_find(L);
  HOLT_ASSERT(script != NULL);
  return script;
}

struct holt_env *holt_script_env(const struct holt_script *script) {
  return script->env;
}
lua_State *holt_script_state(const struct holt_script *script) {
  return script->L;
}

static void script_dealloc(struct holt_script *script) {
  if (latest == script) latest = NULL;
  holt_blocks_free(&script->blocks);
  free(script->texts);
  free(script);
}

static struct holt_script *script_alloc(struct holt_env *env, bool owns_env) {
  struct holt_script *script = holt_alloc(sizeof *script);
  script->env = env;
  script->texts = holt_alloc(sizeof *script->texts);
  script->owns_env = owns_env;
  script->sink_ref = LUA_NOREF;
  holt_list_init(&script->ready);
  holt_list_init(&script->sources);
  holt_list_init(&script->live);
  holt__watch_init(script);
  return script;
}

/* The state's last finaliser, as the box was its first: objects that stand on the script are gone by now. */
static int l_script_gc(lua_State *L) {
  struct holt_script **box = lua_touserdata(L, 1);
  struct holt_script *script = *box;
  if (script == NULL) return 0;
  *box = NULL;
  holt__tasks_close(script);
  if (script->owns_env) {
    holt_env_free(script->env);
    *slot(script->L) = NULL;
    script_dealloc(script);
  }
  return 0;
}

static void install(lua_State *L, struct holt_script *script) {
  struct holt_script **box = lua_newuserdatauv(L, sizeof(void *), 0);
  *box = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_script_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  script->L = lua_tothread(L, -1);
  lua_pop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &script_key);
  script->shapes = holt_shapes_new(L);
  *box = script;
  *slot(script->L) = script;
  *slot(L) = script;
  holt__coroutine_install(L);
}

struct holt_script *holt_script_attach(lua_State *L, struct holt_env *env) {
  struct holt_script *script = script_alloc(env, true);
  install(L, script);
  script->watch.running = script->L; /* which is not ours to run: it does whenever the loop does not turn */
  return script;
}

/* --- A state of our own --------------------------------------------------------------------------- */

static void *count_alloc(void *arg, void *block, size_t old_size, size_t new_size) {
  struct holt_script *script = arg;
  struct holt_memory *memory = &script->memory;
  if (block == NULL) old_size = 0; /* then it tells a type */
  if (new_size == 0) {
    if (block != NULL) holt_block_give(&script->blocks, block, old_size);
    memory->bytes -= old_size;
    return NULL;
  }
  if (memory->limit_bytes != 0 && new_size > old_size &&
      memory->bytes + (new_size - old_size) > memory->limit_bytes)
    return NULL;
  void *fresh = block == NULL ? holt_block_take(&script->blocks, new_size)
                              : holt_block_resize(&script->blocks, block, old_size, new_size);
  if (fresh == NULL) return NULL;
  memory->bytes += new_size - old_size;
  if (memory->bytes > memory->peak_bytes) memory->peak_bytes = memory->bytes;
  return fresh;
}

static int l_open(lua_State *L) {
  struct holt_script *script = lua_touserdata(L, 1);
  luaL_openlibs(L);
  install(L, script);
  lua_gc(L, LUA_GCGEN, 0, 0);
  return 0;
}

static int panic(lua_State *L) {
  (void)L;
  HOLT_ASSERT(!"an error left every protected call");
  return 0;
}

struct holt_script *holt_script_new(struct holt_env *env) {
  struct holt_script *script = script_alloc(env, false);
  lua_State *L = lua_newstate(count_alloc, script);
  if (L == NULL) {
    script_dealloc(script);
    return NULL;
  }
  lua_atpanic(L, panic);
  *slot(L) = NULL;
  lua_pushcfunction(L, l_open);
  lua_pushlightuserdata(L, script);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    lua_close(L);
    script_dealloc(script);
    return NULL;
  }
  return script;
}

void holt_script_free(struct holt_script *script) {
  if (script == NULL) return;
  HOLT_ASSERT(!script->owns_env);
  holt__tasks_close(script);
  lua_close(script->L);
  script_dealloc(script);
}

void holt_script_memory(const struct holt_script *script, struct holt_memory *out) {
  *out = script->memory;
  if (out->bytes == 0) {
    int kib = lua_gc(script->L, LUA_GCCOUNT);
    int rest = lua_gc(script->L, LUA_GCCOUNTB);
    if (kib >= 0) out->bytes = (size_t)kib * 1024 + (size_t)rest;
  }
}

void holt_script_limit_memory(struct holt_script *script, size_t limit_bytes) {
  script->memory.limit_bytes = limit_bytes;
}

void holt_script_exit(struct holt_script *script, int code) {
  script->is_exiting = true;
  script->exit_code = code;
}

bool holt_script_is_exiting(const struct holt_script *script, int *code) {
  if (code != NULL) *code = script->exit_code;
  return script->is_exiting;
}
