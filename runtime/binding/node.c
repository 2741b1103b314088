/* node.c - the life of a node as Lua sees it: made, listening, connected, closed; its figures.
 *
 * The Lua side (lua/holt/node.lua) keeps a node as a table with the userdata of this file at [1]. The table
 * is anchored while the node is open, so a script need not hold it. close() drains, then the node tells
 * on_closed; the next run of our source tells Lua, wakes who waited and frees the node. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/binding.h"
#include "binding/lua_transport.h"
#include "binding/node_impl.h"

/* --- The box -------------------------------------------------------------------------------------- */

static char box_key; /* place of the userdata's metatable in the registry */

struct lua_node *holt__node_retain(struct lua_node *node) {
  node->refs++;
  return node;
}

void holt__node_release(struct lua_node *node) {
  if (--node->refs > 0) return;
  for (size_t i = 0; i < node->rule_count; i++) free(node->rules[i].pattern);
  free(node->rules);
  holt_writer_free(&node->writer);
  holt_writer_free(&node->command);
  holt_writer_free(&node->answer);
  for (size_t i = 0; i < sizeof node->parts / sizeof node->parts[0]; i++) holt_writer_free(&node->parts[i]);
  free(node);
}

/* Upvalue 1 of every function here is the metatable of the box. */
static struct lua_node *check_box(lua_State *L, int index, int arg) {
  struct lua_node **box = lua_touserdata(L, index);
  if (box != NULL && lua_getmetatable(L, index)) {
    bool is_ours = lua_rawequal(L, -1, lua_upvalueindex(1));
    lua_pop(L, 1);
    if (is_ours && *box != NULL) return *box;
  }
  luaL_typeerror(L, arg, "node");
  return NULL;
}

/* The node that was asked for last, while its table is anchored: no other table can have its address. */
static struct lua_node *latest;

struct lua_node *holt__check_node(lua_State *L, int index) {
  const void *self = lua_topointer(L, index);
  if (latest != NULL && self == latest->self) return latest;
  if (!lua_istable(L, index)) return check_box(L, index, index);
  lua_rawgeti(L, index, 1);
  struct lua_node *node = check_box(L, -1, index);
  lua_pop(L, 1);
  if (node->self == self) latest = node;
  return node;
}

struct lua_node *holt__node_of(lua_State *L, int index) {
  if (latest != NULL && lua_topointer(L, index) == latest->self) return latest;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_rawgeti(L, index, 1);
  struct lua_node **box = lua_touserdata(L, -1);
  bool is_ours = false;
  if (box != NULL && lua_getmetatable(L, -1)) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &box_key);
    is_ours = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
  }
  lua_pop(L, 1);
  if (box == NULL || !is_ours || *box == NULL) {
    luaL_typeerror(L, index, "node");
    return NULL; /* not reached */
  }
  return *box;
}

struct close_call {
  struct holt_wait wait;
  struct holt_list node_list;
};

static void wake_closes(struct lua_node *node) {
  struct holt_list *at;
  while ((at = holt_list_shift(&node->closes)) != NULL)
    holt_wait_wake(&HOLT_CONTAINER(at, struct close_call, node_list)->wait);
}

static void unref(struct lua_node *node, int *ref) {
  luaL_unref(holt_script_state(node->script), LUA_REGISTRYINDEX, *ref);
  *ref = LUA_NOREF;
}

/* Let go of everything but the struct itself. */
static void shut(struct lua_node *node) {
  if (node->node == NULL) return;
  holt__emits_close(node);
  holt__calls_shut(node);
  holt__cluster_calls_shut(node);
  holt__journals_shut(node);
  holt__serves_close(node);
  holt__subs_close(node);
  holt_node_free(node->node);
  node->node = NULL;
  wake_closes(node);
  for (int i = 0; i < 256; i++) {
    unref(node, &node->encode_refs[i]);
    unref(node, &node->decode_refs[i]);
  }
  unref(node, &node->dispatch_ref);
  unref(node, &node->self_ref);
  node->self = NULL;
  if (latest == node) latest = NULL;
}

static bool run(struct holt_script *script, struct holt_script_source *source) {
  (void)script;
  struct lua_node *node = HOLT_CONTAINER(source, struct lua_node, source);
  holt__node_retain(node);
  bool is_more = holt__dispatch(node);
  is_more = holt__requests_run(node) || is_more;
  is_more = holt__changes_run(node) || is_more;
  bool is_closed = node->is_closed; /* what was told before it is in the queue of notices */
  holt__notices_run(node);
  if (is_closed && node->node != NULL) {
    shut(node);
    is_more = false;
  }
  if (node->node == NULL) is_more = false;
  holt__node_release(node);
  return is_more;
}

static int l_box_gc(lua_State *L) {
  struct lua_node **box = lua_touserdata(L, 1);
  struct lua_node *node = *box;
  *box = NULL;
  if (node == NULL) return 0;
  shut(node);
  holt__notices_drop(node);
  holt__changes_drop(node);
  holt_source_remove(&node->source);
  holt__node_release(node);
  return 0;
}

/* --- Making one ----------------------------------------------------------------------------------- */

static uint64_t field_ms(lua_State *L, const char *name, uint64_t otherwise) {
  uint64_t value = otherwise;
  if (lua_getfield(L, 1, name) != LUA_TNIL) value = holt_lua_check_seconds(L, -1);
  lua_pop(L, 1);
  return value;
}

static uint64_t field_integer(lua_State *L, const char *name, uint64_t otherwise) {
  uint64_t value = otherwise;
  if (lua_getfield(L, 1, name) != LUA_TNIL) value = (uint64_t)luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  return value;
}

/* The text stays on the stack, for it must outlive the making of the node. */
static const char *field_text(lua_State *L, const char *name, const char *otherwise) {
  return lua_getfield(L, 1, name) == LUA_TNIL ? otherwise : luaL_checkstring(L, -1);
}

static void read_config(lua_State *L, struct holt_node_config *config) {
  struct holt_links_config *link = &config->link;
  link->timeout_ms = field_ms(L, "timeout", link->timeout_ms);
  link->ack_interval_ms = field_ms(L, "ack_interval", link->ack_interval_ms);
  link->buffer_timeout_ms = field_ms(L, "buffer_timeout", link->buffer_timeout_ms);
  link->backoff_min_ms = field_ms(L, "backoff_min", link->backoff_min_ms);
  link->backoff_max_ms = field_ms(L, "backoff_max", link->backoff_max_ms);
  config->drain_timeout_ms = field_ms(L, "drain_timeout", config->drain_timeout_ms);
  link->buffer_max = (uint32_t)field_integer(L, "buffer_max", link->buffer_max);
  link->buffer_bytes = field_integer(L, "buffer_bytes", link->buffer_bytes);
  link->window_bytes = field_integer(L, "window_bytes", link->window_bytes);
  link->frame_max = (uint32_t)field_integer(L, "frame_max", link->frame_max);
  link->max_peers = (uint32_t)field_integer(L, "max_peers", link->max_peers);
  lua_getfield(L, 1, "insecure");
  config->insecure = lua_toboolean(L, -1);
  lua_pop(L, 1);
  static const char *const overflows[] = {"drop_oldest", "wait", "error", NULL};
  if (lua_getfield(L, 1, "overflow") != LUA_TNIL)
    link->overflow = (enum holt_overflow)luaL_checkoption(L, -1, NULL, overflows);
  lua_pop(L, 1);
  const char *data = field_text(L, "data", NULL);
  if (data != NULL) config->journal = lua_pushfstring(L, "%s/journal", data); /* stays on the stack */
  link->name = field_text(L, "name", "");
  link->channel = field_text(L, "channel", link->channel);
  if (lua_getfield(L, 1, "transport_box") == LUA_TUSERDATA) /* stays on the stack, as texts do */
    config->custom = holt__lua_transport_take(L, -1);
  else
    config->transport = field_text(L, "transport", config->transport);
}

/* node_new(config, self, dispatch) -> userdata | nil, err. `self` is the node's table. */
static int l_node_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  struct holt_script *script = holt_script_of(L);
  struct holt_node_config config = holt_node_defaults();
  lua_settop(L, 3);
  struct lua_node **box = lua_newuserdatauv(L, sizeof(void *), 0);
  *box = NULL;
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setmetatable(L, 4);
  read_config(L, &config);
  holt__cluster_config(L, &config);

  struct lua_node *node = holt_alloc(sizeof *node);
  struct holt_err err = {0};
  node->refs = 1;
  node->script = script;
  node->codec = HOLT_CODEC_MSGPACK;
  node->is_tcp = config.custom == NULL && strcmp(config.transport, "tcp") == 0;
  node->self_ref = node->dispatch_ref = LUA_NOREF;
  for (int i = 0; i < 256; i++) node->encode_refs[i] = node->decode_refs[i] = LUA_NOREF;
  holt_source_init(&node->source, run);
  holt_list_init(&node->lanes);
  holt_list_init(&node->notices);
  holt_list_init(&node->subs);
  holt_list_init(&node->emits);
  holt_list_init(&node->serves);
  holt_list_init(&node->requests);
  holt_list_init(&node->calls);
  holt_list_init(&node->cluster_calls);
  holt_list_init(&node->journals);
  holt_list_init(&node->watching);
  holt_list_init(&node->changes);
  holt_list_init(&node->closes);
  if (holt_node_new(holt_script_env(script), &config, &holt__node_ops, node, &node->node, &err) != 0) {
    holt_transport_free(config.custom);
    holt__node_release(node);
    return holt_lua_fail(L, &err);
  }
  *box = node;
  lua_pushvalue(L, 2);
  node->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  node->self = lua_topointer(L, 2);
  lua_pushvalue(L, 3);
  node->dispatch_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 4);
  return 1;
}

/* node_codec(node, id, encode, decode): functions of a codec that is not built in */
static int l_node_codec(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  lua_Integer id = luaL_checkinteger(L, 2);
  luaL_argcheck(L, id > 1 && id < 256, 2, "a codec id is 2 to 255");
  luaL_checktype(L, 3, LUA_TFUNCTION);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  lua_settop(L, 4);
  node->decode_refs[id] = luaL_ref(L, LUA_REGISTRYINDEX);
  node->encode_refs[id] = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

/* node_use_codec(node, id, pattern | nil): for subjects of that pattern (first rule wins), or for all others
 */
static int l_node_use_codec(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  lua_Integer id = luaL_checkinteger(L, 2);
  luaL_argcheck(L, id >= 0 && id < 256, 2, "a codec id is 0 to 255");
  if (lua_isnoneornil(L, 3)) {
    node->codec = (uint8_t)id;
    memset(node->known, 0, sizeof node->known);
    return 0;
  }
  size_t len;
  const char *pattern = luaL_checklstring(L, 3, &len);
  struct holt_err err;
  if (holt_subject_check(pattern, len, true, &err) != 0) return luaL_argerror(L, 3, err.message);
  node->rules = holt_realloc(node->rules, (node->rule_count + 1) * sizeof *node->rules);
  node->rules[node->rule_count++] =
      (struct subject_rule){.pattern = holt_strndup(pattern, len), .len = len, .codec = (uint8_t)id};
  memset(node->known, 0, sizeof node->known);
  return 0;
}

/* --- Life ----------------------------------------------------------------------------------------- */

static struct holt_node *open_node(struct lua_node *node, struct holt_err *err) {
  if (node->node != NULL && !holt_node_is_closing(node->node)) return node->node;
  holt_err_set(err, HOLT_ECLOSED, "the node is closed");
  return NULL;
}

static int l_listen(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  const char *address = luaL_checkstring(L, 2);
  struct holt_err err;
  char actual[128];
  struct holt_node *open = open_node(node, &err);
  if (open == NULL || holt_node_listen(open, address, actual, &err) != 0) return holt_lua_fail(L, &err);
  lua_pushboolean(L, 1);
  lua_pushstring(L, actual);
  return 2;
}

/* connect(node, address) -> number of the peer | nil, err */
static int l_connect(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  const char *address = luaL_checkstring(L, 2);
  struct holt_err err;
  struct holt_peer *peer;
  struct holt_node *open = open_node(node, &err);
  char host[128];
  uint16_t port;
  bool is_plain_tcp = node->is_tcp && strncmp(address, "unix:", 5) != 0;
  if (open != NULL && is_plain_tcp && holt_address_split(address, host, &port, &err) != 0)
    return holt_lua_fail(L, &err);
  if (open == NULL || holt_node_connect(open, address, &peer, &err) != 0) return holt_lua_fail(L, &err);
  lua_pushinteger(L, (lua_Integer)holt_peer_number(peer));
  return 1;
}

static int l_disconnect(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  struct holt_err err;
  struct holt_node *open = open_node(node, &err);
  if (open == NULL) return holt_lua_fail(L, &err);
  holt_node_disconnect(open);
  lua_pushboolean(L, 1);
  return 1;
}

static int close_finish(lua_State *L, struct holt_wait *wait) {
  free(HOLT_CONTAINER(wait, struct close_call, wait));
  lua_pushboolean(L, 1);
  return 1;
}

static void close_cancel(struct holt_wait *wait) {
  struct close_call *call = HOLT_CONTAINER(wait, struct close_call, wait);
  holt_list_remove(&call->node_list);
  free(call);
}

/* close(node, wait) -> true, once everything has been acknowledged or given up; at once when closed already
 */
static int l_close(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  bool is_waiting = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
  if (node->node != NULL && is_waiting) holt_wait_check(L);
  if (node->node != NULL) holt_node_close(node->node);
  if (node->node == NULL || !is_waiting) {
    lua_pushboolean(L, 1);
    return 1;
  }
  struct close_call *call = holt_alloc(sizeof *call);
  holt_list_push(&node->closes, &call->node_list);
  holt_wait_init(&call->wait, L, close_finish, close_cancel);
  return holt_wait_park(L, &call->wait);
}

static int l_is_open(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  lua_pushboolean(L, node->node != NULL && !holt_node_is_closing(node->node));
  return 1;
}

/* --- Peers and figures ---------------------------------------------------------------------------- */

static struct holt_peer *find_peer(struct lua_node *node, lua_Integer number) {
  if (node->node == NULL) return NULL;
  struct holt_links *links = holt_node_links(node->node);
  struct holt_peer *peer = holt_links_first_peer(links);
  while (peer != NULL && (lua_Integer)holt_peer_number(peer) != number)
    peer = holt_links_next_peer(links, peer);
  return peer != NULL && holt_peer_link(peer) != NULL ? peer : NULL; /* without a link it has ended */
}

static void set_integer(lua_State *L, const char *name, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void set_hex(lua_State *L, const char *name, uint64_t value) {
  char text[17];
  snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

static void push_peer(lua_State *L, struct holt_peer *peer) {
  lua_createtable(L, 0, 12);
  set_integer(L, "number", holt_peer_number(peer));
  lua_pushstring(L, holt_peer_address(peer));
  lua_setfield(L, -2, "address");
  struct holt_link *link = holt_peer_link(peer);
  lua_pushboolean(L, link != NULL && holt_link_is_up(link));
  lua_setfield(L, -2, "up");
  if (link == NULL) return;
  struct holt_link_status status;
  holt_link_status(link, &status);
  if (status.name[0] != '\0') {
    lua_pushstring(L, status.name);
    lua_setfield(L, -2, "name");
  }
  if (status.id != 0) set_hex(L, "id", status.id);
  if (status.boot != 0) set_hex(L, "boot", status.boot);
  set_integer(L, "buffered", status.buffered);
  set_integer(L, "buffered_bytes", status.buffered_bytes);
  set_integer(L, "acknowledged", status.acknowledged);
  set_integer(L, "received", status.received);
  set_integer(L, "dropped", status.dropped);
  set_integer(L, "attempts", status.attempts);
  set_integer(L, "connects", status.connects);
}

/* peers(node) -> list of tables with their figures */
static int l_peers(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  lua_newtable(L);
  if (node->node == NULL) return 1;
  struct holt_links *links = holt_node_links(node->node);
  lua_Integer count = 0;
  for (struct holt_peer *peer = holt_links_first_peer(links); peer != NULL;
       peer = holt_links_next_peer(links, peer)) {
    if (holt_peer_link(peer) == NULL) continue; /* ended; its close event is under way */
    push_peer(L, peer);
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

static int l_peer_status(lua_State *L) {
  struct holt_peer *peer = find_peer(holt__check_node(L, 1), luaL_checkinteger(L, 2));
  if (peer == NULL) return holt_lua_fail_code(L, HOLT_ECLOSED);
  push_peer(L, peer);
  return 1;
}

static int l_peer_close(lua_State *L) {
  struct holt_peer *peer = find_peer(holt__check_node(L, 1), luaL_checkinteger(L, 2));
  if (peer != NULL) holt_peer_close(peer);
  lua_pushboolean(L, peer != NULL);
  return 1;
}

/* Cut the connection of a peer, as a fault would: for tests. */
static int l_peer_reset(lua_State *L) {
  struct holt_peer *peer = find_peer(holt__check_node(L, 1), luaL_checkinteger(L, 2));
  struct holt_link *link = peer != NULL ? holt_peer_link(peer) : NULL;
  if (link != NULL) holt_link_reset(link);
  lua_pushboolean(L, link != NULL);
  return 1;
}

static int l_wants_acks(lua_State *L) {
  holt__check_node(L, 1)->wants_acks = lua_toboolean(L, 2);
  return 0;
}

static int l_identity(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  if (node->node == NULL) return holt_lua_fail_code(L, HOLT_ECLOSED);
  lua_createtable(L, 0, 3);
  lua_pushstring(L, holt_node_name(node->node));
  lua_setfield(L, -2, "name");
  set_hex(L, "id", holt_node_id(node->node));
  set_hex(L, "boot", holt_node_boot(node->node));
  return 1;
}

static int l_stats(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  if (node->node == NULL) return holt_lua_fail_code(L, HOLT_ECLOSED);
  struct holt_bus_stats stats;
  holt_bus_stats(holt_node_bus(node->node), &stats);
  lua_createtable(L, 0, 9);
  set_integer(L, "emitted", stats.emitted);
  set_integer(L, "received", stats.received);
  set_integer(L, "delivered", stats.delivered);
  set_integer(L, "forwarded", stats.forwarded);
  set_integer(L, "duplicates", stats.duplicates);
  set_integer(L, "lost", stats.lost);
  set_integer(L, "expired", stats.expired);
  set_integer(L, "queued", node->queue.count);
  set_integer(L, "unacknowledged", holt_links_unacknowledged(holt_node_links(node->node)));
  return 1;
}

/* subject_problem(text, is_pattern) -> sentence | nil */
static int l_subject_problem(lua_State *L) {
  size_t len;
  const char *subject = luaL_checklstring(L, 1, &len);
  struct holt_err err;
  if (holt_subject_check(subject, len, lua_toboolean(L, 2), &err) == 0) return 0;
  lua_pushstring(L, err.message);
  return 1;
}

/* address_problem(text) -> sentence | nil */
static int l_address_problem(lua_State *L) {
  char host[128];
  uint16_t port;
  struct holt_err err;
  if (holt_address_split(luaL_checkstring(L, 1), host, &port, &err) == 0) return 0;
  lua_pushstring(L, err.message);
  return 1;
}

void holt_binding_nodes(lua_State *L) {
  static const luaL_Reg functions[] = {{"node_new", l_node_new},
                                       {"node_codec", l_node_codec},
                                       {"node_use_codec", l_node_use_codec},
                                       {"node_emit", holt__l_emit},
                                       {"node_on", holt__l_on},
                                       {"node_once", holt__l_once},
                                       {"node_off", holt__l_off},
                                       {"node_serve", holt__l_serve},
                                       {"node_unserve", holt__l_unserve},
                                       {"node_call", holt__l_call},
                                       {"node_call_patiently", holt__l_call_patiently},
                                       {"node_frame_max", holt__l_frame_max},
                                       {"node_listen", l_listen},
                                       {"node_connect", l_connect},
                                       {"node_disconnect", l_disconnect},
                                       {"node_close", l_close},
                                       {"node_is_open", l_is_open},
                                       {"node_peers", l_peers},
                                       {"node_peer_status", l_peer_status},
                                       {"node_peer_close", l_peer_close},
                                       {"node_peer_reset", l_peer_reset},
                                       {"node_wants_acks", l_wants_acks},
                                       {"node_identity", l_identity},
                                       {"node_stats", l_stats},
                                       {"subject_problem", l_subject_problem},
                                       {"address_problem", l_address_problem},
                                       {"event", holt__l_event},
                                       {NULL, NULL}};
  holt__binding_lua_transport(L);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_box_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &box_key);
  holt__binding_cluster(L);
  luaL_setfuncs(L, functions, 1);
}
