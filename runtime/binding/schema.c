/* schema.c - schemas for lua/holt/schema.lua: core.schema_new, and the methods of what it makes.
 *
 * Every call gets an answer whose memory belongs to a userdata, so that an error of Lua (out of memory) while
 * the result is pushed leaks nothing. */
#include "schema/schema.h"

#include "binding/binding.h"
#include "script/value.h"

#define SCHEMA "holt.schema"
#define ANSWER "holt.schema_answer"

struct lua_schema {
  const struct holt_schema_library *library;
  struct holt_schema *schema;
  int message_count; /* 0 until it is built */
  bool is_failed;    /* build went wrong: nothing more can be done with it */
};

/* --- Answers -------------------------------------------------------------------------------------- */

static int l_answer_gc(lua_State *L) {
  struct holt_schema_answer *answer = lua_touserdata(L, 1);
  holt_arena_free(&answer->arena);
  return 0;
}

/* On top of the stack; it stays there while it is used. */
static struct holt_schema_answer *push_answer(lua_State *L) {
  struct holt_schema_answer *answer = lua_newuserdatauv(L, sizeof *answer, 0);
  *answer = (struct holt_schema_answer){.arena = {.limit_bytes = HOLT_SCHEMA_TREE_MAX}};
  luaL_setmetatable(L, ANSWER);
  return answer;
}

/* nil and an error table with all of the text, which may be longer than a holt_err. */
static int fail(lua_State *L, int status, struct holt_schema_answer *answer) {
  int code = status == HOLT_SCHEMA_TOO_LARGE   ? HOLT_ETOOLARGE
             : status == HOLT_SCHEMA_NO_MEMORY ? HOLT_ENOMEM
                                               : HOLT_ESCHEMA;
  holt_lua_fail_code(L, code);
  lua_pushlstring(L, answer->text != NULL ? answer->text : "", answer->text_len);
  lua_setfield(L, -2, "message");
  holt_arena_free(&answer->arena);
  return 2;
}

static int give_bytes(lua_State *L, int status, struct holt_schema_answer *answer) {
  if (status != HOLT_SCHEMA_OK) return fail(L, status, answer);
  lua_pushlstring(L, answer->bytes != NULL ? answer->bytes : "", answer->bytes_len);
  holt_arena_free(&answer->arena);
  return 1;
}

static int give_value(lua_State *L, int status, struct holt_schema_answer *answer) {
  if (status != HOLT_SCHEMA_OK) return fail(L, status, answer);
  holt_value_push(L, &answer->value);
  holt_arena_free(&answer->arena);
  return 1;
}

static int give_true(lua_State *L, int status, struct holt_schema_answer *answer) {
  if (status != HOLT_SCHEMA_OK) return fail(L, status, answer);
  holt_arena_free(&answer->arena);
  lua_pushboolean(L, 1);
  return 1;
}

/* --- Making one ----------------------------------------------------------------------------------- */

static int l_schema_gc(lua_State *L) {
  struct lua_schema *self = lua_touserdata(L, 1);
  if (self->schema != NULL) self->library->destroy(self->schema);
  self->schema = NULL;
  return 0;
}

/* schema_new() -> schema | nil, err */
static int l_schema_new(lua_State *L) {
  struct holt_err err;
  const struct holt_schema_library *library = holt_schema_library(&err);
  if (library == NULL) return holt_lua_fail(L, &err);
  struct lua_schema *self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = (struct lua_schema){.library = library};
  luaL_setmetatable(L, SCHEMA);
  self->schema = library->make();
  if (self->schema == NULL) return holt_lua_fail_code(L, HOLT_ENOMEM);
  return 1;
}

static struct lua_schema *check_open(lua_State *L) {
  struct lua_schema *self = luaL_checkudata(L, 1, SCHEMA);
  luaL_argcheck(L, self->message_count == 0 && !self->is_failed, 1, "the schema is built already");
  return self;
}

static struct lua_schema *check_built(lua_State *L) {
  struct lua_schema *self = luaL_checkudata(L, 1, SCHEMA);
  luaL_argcheck(L, self->message_count > 0, 1, "the schema is not built");
  return self;
}

/* schema:add(name, text) -> true | nil, err */
static int l_add(lua_State *L) {
  struct lua_schema *self = check_open(L);
  const char *name = luaL_checkstring(L, 2);
  size_t len;
  const char *text = luaL_checklstring(L, 3, &len);
  struct holt_schema_answer *answer = push_answer(L);
  return give_true(L, self->library->add(self->schema, name, text, len, answer), answer);
}

/* schema:load(bytes) -> name of the root file | nil, err */
static int l_load(lua_State *L) {
  struct lua_schema *self = check_open(L);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  struct holt_schema_answer *answer = push_answer(L);
  return give_bytes(L, self->library->load(self->schema, bytes, len, answer), answer);
}

/* schema:missing() -> name, place of its import | nothing */
static int l_missing(lua_State *L) {
  struct lua_schema *self = check_open(L);
  struct holt_schema_answer *answer = push_answer(L);
  int status = self->library->missing(self->schema, answer);
  if (status != HOLT_SCHEMA_OK) return fail(L, status, answer);
  if (answer->bytes == NULL) return 0;
  lua_pushlstring(L, answer->bytes, answer->bytes_len);
  lua_pushlstring(L, answer->text, answer->text_len);
  holt_arena_free(&answer->arena);
  return 2;
}

/* schema:build(root) -> true | nil, err */
static int l_build(lua_State *L) {
  struct lua_schema *self = check_open(L);
  const char *root = luaL_checkstring(L, 2);
  struct holt_schema_answer *answer = push_answer(L);
  self->is_failed = true;
  int status = self->library->build(self->schema, root, answer);
  if (status != HOLT_SCHEMA_OK) return fail(L, status, answer);
  self->message_count = self->library->message_count(self->schema);
  self->is_failed = false;
  if (self->message_count == 0) { /* nothing could ever be done with it */
    self->is_failed = true;
    holt_arena_free(&answer->arena);
    holt_lua_fail_code(L, HOLT_ESCHEMA);
    lua_pushfstring(L, "%s: no message in it", root);
    lua_setfield(L, -2, "message");
    return 2;
  }
  return give_true(L, status, answer);
}

/* --- Using one ------------------------------------------------------------------------------------ */

/* schema:find(name) -> number | nil, err */
static int l_find(lua_State *L) {
  struct lua_schema *self = check_built(L);
  const char *name = luaL_checkstring(L, 2);
  struct holt_schema_answer *answer = push_answer(L);
  int number = self->library->find(self->schema, name, answer);
  if (number < 0) return fail(L, HOLT_SCHEMA_REFUSED, answer);
  holt_arena_free(&answer->arena);
  lua_pushinteger(L, number);
  return 1;
}

static int l_describe(lua_State *L) {
  struct lua_schema *self = check_built(L);
  struct holt_schema_answer *answer = push_answer(L);
  return give_value(L, self->library->describe(self->schema, answer), answer);
}

static int l_bytes(lua_State *L) {
  struct lua_schema *self = check_built(L);
  struct holt_schema_answer *answer = push_answer(L);
  return give_bytes(L, self->library->bytes(self->schema, answer), answer);
}

static int l_text(lua_State *L) {
  struct lua_schema *self = check_built(L);
  struct holt_schema_answer *answer = push_answer(L);
  return give_bytes(L, self->library->text(self->schema, answer), answer);
}

static int check_message(lua_State *L, const struct lua_schema *self) {
  lua_Integer number = luaL_checkinteger(L, 2);
  luaL_argcheck(L, number >= 0 && number < self->message_count, 2, "no message has this number");
  return (int)number;
}

/* schema:encode(number, value) -> bytes | nil, err */
static int l_encode(lua_State *L) {
  struct lua_schema *self = check_built(L);
  int message = check_message(L, self);
  luaL_checkany(L, 3);
  struct holt_schema_answer *answer = push_answer(L);
  struct holt_value value;
  struct holt_err err;
  int rc = holt_value_from_lua(L, 3, &answer->arena, &value, &err);
  if (rc != 0) {
    holt_arena_free(&answer->arena);
    if (err.code == HOLT_ECODEC) err.code = HOLT_ESCHEMA;
    return holt_lua_fail(L, &err);
  }
  return give_bytes(L, self->library->encode(self->schema, message, &value, answer), answer);
}

/* schema:decode(number, bytes, has_defaults) -> table | nil, err */
static int l_decode(lua_State *L) {
  struct lua_schema *self = check_built(L);
  int message = check_message(L, self);
  size_t len;
  const char *bytes = luaL_checklstring(L, 3, &len);
  bool has_defaults = lua_toboolean(L, 4);
  struct holt_schema_answer *answer = push_answer(L);
  return give_value(L, self->library->decode(self->schema, message, bytes, len, has_defaults, answer),
                    answer);
}

/* schema:check(number, bytes) -> true | nil, err */
static int l_check(lua_State *L) {
  struct lua_schema *self = check_built(L);
  int message = check_message(L, self);
  size_t len;
  const char *bytes = luaL_checklstring(L, 3, &len);
  struct holt_schema_answer *answer = push_answer(L);
  return give_true(L, self->library->check(self->schema, message, bytes, len, answer), answer);
}

void holt_binding_schemas(lua_State *L) {
  static const luaL_Reg methods[] = {{"add", l_add},       {"load", l_load},   {"missing", l_missing},
                                     {"build", l_build},   {"find", l_find},   {"describe", l_describe},
                                     {"bytes", l_bytes},   {"text", l_text},   {"encode", l_encode},
                                     {"decode", l_decode}, {"check", l_check}, {NULL, NULL}};
  luaL_newmetatable(L, ANSWER);
  lua_pushcfunction(L, l_answer_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newmetatable(L, SCHEMA);
  lua_pushcfunction(L, l_schema_gc);
  lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushcfunction(L, l_schema_new);
  lua_setfield(L, -2, "schema_new");
}
