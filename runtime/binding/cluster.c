/* cluster.c - a node's place in its cluster as Lua sees it: settings and status. */
#include <stdio.h>

#include "binding/object_impl.h"

struct holt_cluster *holt__open_cluster(const struct lua_node *node, struct holt_err *err) {
  if (node->node == NULL || holt_node_is_closing(node->node)) {
    holt_err_set(err, HOLT_ECLOSED, "the node is closed");
    return NULL;
  }
  struct holt_cluster *cluster = holt_node_cluster(node->node);
  if (cluster == NULL)
    holt_err_set(err, HOLT_EINVAL, "this node is in no cluster; give holt.node { cluster = … }");
  return cluster;
}

/* --- Settings ------------------------------------------------------------------------------------------ */

static uint64_t field_ms(lua_State *L, const char *name, uint64_t otherwise) {
  uint64_t value = otherwise;
  if (lua_getfield(L, -1, name) != LUA_TNIL) value = holt_lua_check_seconds(L, -1);
  lua_pop(L, 1);
  return value;
}

static uint64_t field_integer(lua_State *L, const char *name, uint64_t otherwise) {
  uint64_t value = otherwise;
  if (lua_getfield(L, -1, name) != LUA_TNIL) value = (uint64_t)luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  return value;
}

static bool field_bool(lua_State *L, const char *name, bool otherwise) {
  bool value = otherwise;
  if (lua_getfield(L, -1, name) != LUA_TNIL) value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

/* The text is anchored below the table on top. */
static const char *field_text(lua_State *L, const char *name, const char *otherwise) {
  if (lua_getfield(L, -1, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return otherwise;
  }
  const char *text = luaL_checkstring(L, -1);
  lua_insert(L, -2);
  return text;
}

void holt__cluster_config(lua_State *L, struct holt_node_config *node) {
  struct holt_cluster_config *config = &node->cluster;
  luaL_checkstack(L, 10, NULL);
  if (lua_getfield(L, 1, "cluster") == LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  luaL_checktype(L, -1, LUA_TTABLE);
  config->election_ms = field_ms(L, "election_timeout", config->election_ms);
  config->heartbeat_ms = field_ms(L, "heartbeat", config->heartbeat_ms);
  config->members = (uint32_t)field_integer(L, "members", config->members);
  config->can_lead = field_bool(L, "can_lead", config->can_lead);
  config->is_voter = field_bool(L, "voter", config->is_voter);
  config->priority = (uint8_t)field_integer(L, "priority", config->priority);
  config->snapshot_entries = field_integer(L, "snapshot_threshold", config->snapshot_entries);
  config->entry_bytes_max = (uint32_t)field_integer(L, "max_entry_bytes", config->entry_bytes_max);
  config->name = field_text(L, "name", "default");
  node->advertise = field_text(L, "address", "");
  config->directory = field_text(L, "directory", NULL);
}

/* --- Status -------------------------------------------------------------------------------------------- */

static void set_integer(lua_State *L, const char *name, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *text) {
  if (text[0] == '\0') return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, name);
}

static void set_seconds(lua_State *L, const char *name, uint64_t ms) {
  lua_pushnumber(L, (lua_Number)ms / 1000.0);
  lua_setfield(L, -2, name);
}

static void set_hex(lua_State *L, const char *name, uint64_t value) {
  if (value == 0) return;
  char text[17];
  snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
  set_text(L, name, text);
}

static void push_member(lua_State *L, const struct holt_cluster_member *member, uint64_t last) {
  lua_createtable(L, 0, 11);
  set_text(L, "name", member->name);
  set_text(L, "address", member->address);
  set_hex(L, "id", member->id);
  set_text(L, "role",
           member->role == HOLT_RAFT_LEARNER || member->role == HOLT_RAFT_DEMOTED ? "learner" : "voter");
  set_bool(L, "self", member->is_self);
  set_bool(L, "leader", member->is_leader);
  set_bool(L, "linked", member->is_self || member->is_linked);
  set_bool(L, "can_lead", member->can_lead);
  if (!member->is_linked || member->match > 0) set_seconds(L, "last_heard", member->last_heard_ms);
  if (member->match == 0) return; /* known at the leader only */
  set_integer(L, "match", member->match);
  set_integer(L, "lag", last > member->match ? last - member->match : 0);
}

static void push_status(lua_State *L, const struct holt_cluster_status *status) {
  lua_createtable(L, 0, 20);
  set_text(L, "name", status->name);
  set_hex(L, "id", status->cluster_id);
  set_hex(L, "member", status->member_id);
  set_text(L, "state", status->state);
  set_text(L, "role", status->role);
  set_text(L, "disk", status->disk);
  set_text(L, "problem", status->problem);
  set_text(L, "leader", status->leader);
  set_integer(L, "term", status->term);
  set_integer(L, "commit", status->commit);
  set_integer(L, "applied", status->applied);
  set_integer(L, "first", status->first);
  set_integer(L, "last", status->last);
  set_integer(L, "snapshot", status->snapshot_index);
  set_integer(L, "log_bytes", status->log_bytes);
  set_hex(L, "state_hash", status->state_hash);
  set_bool(L, "quorum", status->has_quorum);
  set_seconds(L, "no_quorum", status->no_quorum_ms);
  set_integer(L, "pending", status->pending);
  lua_createtable(L, (int)status->member_count, 0);
  for (uint32_t i = 0; i < status->member_count; i++) {
    push_member(L, &status->members[i], status->last);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "members");
}

/* cluster_status(node) -> table | nil, err */
static int l_status(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  struct holt_err err;
  struct holt_cluster *cluster = holt__open_cluster(node, &err);
  if (cluster == NULL) return holt_lua_fail(L, &err);
  struct holt_cluster_status *status = lua_newuserdatauv(L, sizeof *status, 0);
  holt_cluster_status(cluster, status);
  push_status(L, status);
  return 1;
}

/* cluster_is_leader(node) */
static int l_is_leader(lua_State *L) {
  struct holt_cluster *cluster = holt__open_cluster(holt__check_node(L, 1), NULL);
  lua_pushboolean(L, cluster != NULL && holt_cluster_is_leader(cluster));
  return 1;
}

/* cluster_member(node, id) -> name | nil; cluster_member(node, name) -> id | nil */
static int l_member(lua_State *L) {
  struct holt_cluster *cluster = holt__open_cluster(holt__check_node(L, 1), NULL);
  if (cluster == NULL) return 0;
  if (lua_isinteger(L, 2)) {
    const char *name = holt_cluster_member_name(cluster, (uint64_t)lua_tointeger(L, 2));
    if (name == NULL || name[0] == '\0') return 0;
    lua_pushstring(L, name);
    return 1;
  }
  uint64_t id = holt_cluster_member_id(cluster, luaL_checkstring(L, 2));
  if (id == 0) return 0;
  lua_pushinteger(L, (lua_Integer)id);
  return 1;
}

/* cluster_self(node) -> id of this member, as an integer | nil */
static int l_self(lua_State *L) {
  struct holt_cluster *cluster = holt__open_cluster(holt__check_node(L, 1), NULL);
  if (cluster == NULL) return 0;
  struct holt_cluster_status *status = lua_newuserdatauv(L, sizeof *status, 0);
  holt_cluster_status(cluster, status);
  if (status->member_id == 0) return 0;
  lua_pushinteger(L, (lua_Integer)status->member_id);
  return 1;
}

/* cluster_objects(node) -> { { name, kind, size }, … } */
static int l_objects(lua_State *L) {
  struct holt_err err;
  struct holt_cluster *cluster = holt__open_cluster(holt__check_node(L, 1), &err);
  if (cluster == NULL) return holt_lua_fail(L, &err);
  struct holt_collections *collections = holt_cluster_collections(cluster);
  lua_newtable(L);
  for (size_t i = 0; i < holt_collections_count(collections); i++) {
    const struct holt_object *object = holt_collections_at(collections, i);
    lua_createtable(L, 0, 4);
    set_text(L, "name", object->name);
    set_text(L, "kind", holt_kind_name(object->kind));
    set_integer(L, "size", object->tree.count);
    set_integer(L, "bytes", object->tree.bytes);
    set_integer(L, "revision", object->revision);
    lua_pushlstring(L, (const char *)object->options.data, object->options.len);
    lua_setfield(L, -2, "options");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* cluster_rejoin(node) */
static int l_rejoin(lua_State *L) {
  struct holt_cluster *cluster = holt__open_cluster(holt__check_node(L, 1), NULL);
  if (cluster != NULL) holt_cluster_rejoin(cluster);
  return 0;
}

/* unblockable(f, …) -> what f gives; a call that must wait raises `cannot_block` within */
static int l_unblockable(lua_State *L) {
  struct holt_script *script = holt_script_of(L);
  holt_wait_forbid(script, true);
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  holt_wait_forbid(script, false);
  return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* cluster_wants_commits(node, boolean) */
static int l_wants_commits(lua_State *L) {
  holt__check_node(L, 1)->wants_commits = lua_toboolean(L, 2);
  return 0;
}

void holt__binding_cluster(lua_State *L) {
  static const luaL_Reg functions[] = {{"cluster_status", l_status},
                                       {"cluster_is_leader", l_is_leader},
                                       {"cluster_member", l_member},
                                       {"cluster_self", l_self},
                                       {"cluster_objects", l_objects},
                                       {"cluster_rejoin", l_rejoin},
                                       {"unblockable", l_unblockable},
                                       {"cluster_wants_commits", l_wants_commits},
                                       {NULL, NULL}};
  lua_pushvalue(L, -2);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 1);
  lua_pop(L, 1);
}
