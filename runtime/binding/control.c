/* control.c - the control socket for Lua: a task takes requests with next() and answers them when it likes.
 *
 * Requests nobody has taken yet are bounded by what each client may have unanswered (admin/control.h). */
#include "admin/control.h"

#include <stdlib.h>

#include "base/mem.h"
#include "binding/outside.h"

#define CONTROL "holt.control"

struct request {
  struct holt_list node;
  uint64_t client;
  size_t len;
  char text[];
};

struct lua_control {
  struct holt_control *control; /* NULL once closed */
  struct holt_list requests;
  struct holt_list waiters;
};

static void on_line(void *arg, uint64_t client, struct holt_buf line) {
  struct lua_control *c = arg;
  struct request *request = holt_alloc(sizeof *request + line.len);
  request->client = client;
  request->len = line.len;
  memcpy(request->text, line.data, line.len);
  holt_list_init(&request->node);
  holt_list_push(&c->requests, &request->node);
  holt__pending_wake(&c->waiters);
}

static struct lua_control *check_control(lua_State *L) {
  return luaL_checkudata(L, 1, CONTROL);
}

static int l_control_close(lua_State *L) {
  struct lua_control *c = check_control(L);
  if (c->control == NULL) return 0;
  holt_control_close(c->control);
  c->control = NULL;
  for (struct holt_list *node; (node = holt_list_shift(&c->requests)) != NULL;) {
    free(HOLT_CONTAINER(node, struct request, node));
  }
  holt__pending_wake(&c->waiters);
  return 0;
}

static int go_next(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_control *c = owner;
  if (!holt_list_is_empty(&c->requests)) {
    struct request *request = HOLT_CONTAINER(c->requests.next, struct request, node);
    lua_pushinteger(L, (lua_Integer)request->client);
    lua_pushlstring(L, request->text, request->len);
    holt_list_remove(&request->node);
    free(request);
    return 2;
  }
  if (c->control == NULL) return holt_lua_fail_code(L, HOLT_ECLOSED);
  if (status != 0) return holt_lua_fail_code(L, status);
  return holt__pend(L, &c->waiters, deadline_ms, go_next, c);
}

/* control:next(timeout?) -> client, line | nil, err */
static int l_control_next(lua_State *L) {
  return go_next(L, check_control(L), 0, holt__deadline(L, 2));
}

/* control:answer(client, text) -> true | nil, err */
static int l_control_answer(lua_State *L) {
  struct lua_control *c = check_control(L);
  uint64_t client = (uint64_t)luaL_checkinteger(L, 2);
  size_t len;
  const char *text = luaL_checklstring(L, 3, &len);
  int rc = c->control == NULL ? HOLT_ECLOSED : holt_control_answer(c->control, client, holt_buf(text, len));
  if (rc != 0) return holt_lua_fail_code(L, rc);
  lua_pushboolean(L, 1);
  return 1;
}

/* control_open(path) -> control | nil, err */
static int l_control_open(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct holt_err err = {0};
  struct lua_control *c = lua_newuserdatauv(L, sizeof *c, 0);
  memset(c, 0, sizeof *c);
  holt_list_init(&c->requests);
  holt_list_init(&c->waiters);
  luaL_setmetatable(L, CONTROL);
  if (holt_control_open(holt_script_env(holt_script_of(L)), path, on_line, c, &c->control, &err) != 0) {
    c->control = NULL;
    return holt_lua_fail(L, &err);
  }
  return 1;
}

/* control_path(name) -> path | nil, err */
static int l_control_path(lua_State *L) {
  char path[HOLT_CONTROL_PATH_MAX + 1];
  struct holt_err err = {0};
  if (holt_control_default_path(luaL_checkstring(L, 1), path, &err) != 0) return holt_lua_fail(L, &err);
  lua_pushstring(L, path);
  return 1;
}

void holt__binding_control(lua_State *L) {
  static const luaL_Reg control[] = {
      {"next", l_control_next}, {"answer", l_control_answer}, {"close", l_control_close}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"control_open", l_control_open}, {"control_path", l_control_path}, {NULL, NULL}};
  luaL_newmetatable(L, CONTROL);
  lua_newtable(L);
  luaL_setfuncs(L, control, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_control_close);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
