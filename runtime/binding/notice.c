/* notice.c - what a node tells of its peers, gaps and its end: queued in the loop, handed to one Lua function
 * of lua/holt/node.lua between turns: dispatch(node, kind, details). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "binding/journal_impl.h"
#include "binding/node_impl.h"

struct notice {
  struct holt_list node;
  const char *kind;
  uint64_t peer; /* number, 0: none */
  char name[256];
  char address[128];
  uint64_t id, number, delay_ms;
  uint32_t attempt;
  bool has_proof;
  uint8_t proof[2][32];
  struct holt_err err;
};

static struct notice *push_notice(struct lua_node *node, const char *kind) {
  struct notice *notice = holt_alloc(sizeof *notice);
  notice->kind = kind;
  holt_list_push(&node->notices, &notice->node);
  holt_source_ready(node->script, &node->source);
  return notice;
}

static const char *const peer_kinds[] = {
    [HOLT_PEER_CONNECT] = "connect",
    [HOLT_PEER_PEERID] = "peerid",
    [HOLT_PEER_INITIALIZED] = "initialized",
    [HOLT_PEER_ACKNOWLEDGE] = "acknowledge",
    [HOLT_PEER_DISCONNECT] = "disconnect",
    [HOLT_PEER_BACKOFF] = "backoff",
    [HOLT_PEER_RECONNECT] = "reconnect",
    [HOLT_PEER_DROPPED] = "dropped",
    [HOLT_PEER_CLOSE] = "close",
};

static void on_peer(void *arg, struct holt_peer *peer, const struct holt_peer_notice *told) {
  struct lua_node *node = arg;
  if (told->event == HOLT_PEER_ACKNOWLEDGE && !node->wants_acks) return;
  struct notice *notice = push_notice(node, peer_kinds[told->event]);
  notice->peer = holt_peer_number(peer);
  snprintf(notice->address, sizeof notice->address, "%s", holt_peer_address(peer));
  struct holt_link *link = holt_peer_link(peer);
  if (link != NULL) {
    struct holt_link_status status;
    holt_link_status(link, &status);
    snprintf(notice->name, sizeof notice->name, "%s", status.name);
    notice->id = status.id;
  }
  notice->number = told->number;
  notice->attempt = told->attempt;
  notice->delay_ms = told->delay_ms;
  notice->err = told->err;
}

static void on_gap(void *arg, const char *origin, uint64_t boot, uint64_t count) {
  (void)boot;
  struct notice *notice = push_notice(arg, "gap");
  snprintf(notice->name, sizeof notice->name, "%s", origin);
  notice->number = count;
}

static void on_refused(void *arg, const char *where, const struct holt_err *err) {
  struct notice *notice = push_notice(arg, "refused");
  snprintf(notice->address, sizeof notice->address, "%s", where);
  notice->err = *err;
}

static const char *const cluster_kinds[] = {
    [HOLT_CLUSTER_STATE] = "state",
    [HOLT_CLUSTER_LEADER] = "leader",
    [HOLT_CLUSTER_TERM] = "term",
    [HOLT_CLUSTER_JOINED] = "joined",
    [HOLT_CLUSTER_REJOINING] = "rejoining",
    [HOLT_CLUSTER_LEFT] = "left",
    [HOLT_CLUSTER_MEMBER_JOINED] = "member_joined",
    [HOLT_CLUSTER_MEMBER_LEFT] = "member_left",
    [HOLT_CLUSTER_QUORUM_LOST] = "quorum_lost",
    [HOLT_CLUSTER_QUORUM_REGAINED] = "quorum_regained",
    [HOLT_CLUSTER_NO_HEARTBEAT] = "no_heartbeat_from",
    [HOLT_CLUSTER_UNSYNCED] = "unsynced_member",
    [HOLT_CLUSTER_COMMIT] = "commit",
    [HOLT_CLUSTER_SNAPSHOT] = "snapshot",
    [HOLT_CLUSTER_CONF] = "conf_changed",
    [HOLT_CLUSTER_DISK_ERROR] = "disk_error",
    [HOLT_CLUSTER_ERROR] = "cluster_error",
};

static void on_cluster(void *arg, const struct holt_cluster_notice *told) {
  struct lua_node *node = arg;
  if (told->event == HOLT_CLUSTER_COMMIT && !node->wants_commits) return;
  struct notice *notice = push_notice(node, cluster_kinds[told->event]);
  if (told->text != NULL) snprintf(notice->name, sizeof notice->name, "%s", told->text);
  if (told->old != NULL) snprintf(notice->address, sizeof notice->address, "%s", told->old);
  notice->number = told->number;
  notice->err = told->err;
}

static const char *const journal_kinds[] = {
    [HOLT_JOURNAL_REFUSED] = "journal_refused",       [HOLT_JOURNAL_FORKED] = "journal_forked",
    [HOLT_JOURNAL_TRUNCATED] = "journal_truncated",   [HOLT_JOURNAL_DAMAGED] = "journal_damaged",
    [HOLT_JOURNAL_MENDED] = "journal_mended",         [HOLT_JOURNAL_SYNCED] = "journal_synced",
    [HOLT_JOURNAL_DISK_ERROR] = "journal_disk_error",
};

static void on_journal(void *arg, const struct holt_journal_notice *told) {
  struct lua_node *node = arg;
  if (told->event == HOLT_JOURNAL_ENTRIES) {
    holt__journals_told(node, told->journal);
    return;
  }
  struct notice *notice = push_notice(node, journal_kinds[told->event]);
  snprintf(notice->name, sizeof notice->name, "%s", holt_journal_name(told->journal));
  if (told->text != NULL) snprintf(notice->address, sizeof notice->address, "%s", told->text);
  notice->number = told->number;
  notice->has_proof = told->has_proof;
  memcpy(notice->proof, told->proof, sizeof notice->proof);
  notice->err = told->err;
}

static void on_closed(void *arg) {
  struct lua_node *node = arg;
  node->is_closed = true;
  push_notice(node, "closed");
}

const struct holt_node_ops holt__node_ops = {.on_peer = on_peer,
                                             .on_gap = on_gap,
                                             .on_refused = on_refused,
                                             .on_cluster = on_cluster,
                                             .on_change = holt__on_change,
                                             .on_replaced = holt__on_replaced,
                                             .on_journal = on_journal,
                                             .on_closed = on_closed};

struct telling {
  struct lua_node *node;
  const struct notice *notice;
};

static void set_text(lua_State *L, const char *name, const char *text) {
  if (text[0] == '\0') return;
  lua_pushstring(L, text);
  lua_setfield(L, -2, name);
}

static void tell(lua_State *L, void *arg) {
  const struct telling *telling = arg;
  const struct notice *notice = telling->notice;
  lua_rawgeti(L, LUA_REGISTRYINDEX, telling->node->dispatch_ref);
  lua_rawgeti(L, LUA_REGISTRYINDEX, telling->node->self_ref);
  lua_pushstring(L, notice->kind);
  lua_createtable(L, 0, 8);
  lua_pushinteger(L, (lua_Integer)notice->peer);
  lua_setfield(L, -2, "peer");
  lua_pushinteger(L, (lua_Integer)notice->number);
  lua_setfield(L, -2, "number");
  lua_pushinteger(L, (lua_Integer)notice->attempt);
  lua_setfield(L, -2, "attempt");
  lua_pushnumber(L, (lua_Number)notice->delay_ms / 1000.0);
  lua_setfield(L, -2, "delay");
  set_text(L, "name", notice->name);
  set_text(L, "address", notice->address);
  if (notice->id != 0) {
    char id[17];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)notice->id);
    set_text(L, "id", id);
  }
  if (notice->has_proof) {
    holt__push_proof(L, notice->proof);
    lua_setfield(L, -2, "proof");
  }
  if (notice->err.code != 0) {
    holt_lua_push_err(L, &notice->err);
    lua_setfield(L, -2, "err");
  }
  lua_call(L, 3, 0);
}

void holt__notices_run(struct lua_node *node) {
  struct holt_list batch;
  holt_list_init(&batch);
  holt_list_move(&batch, &node->notices);
  HOLT_LIST_EACH(&batch, at, next) {
    struct notice *notice = HOLT_CONTAINER(at, struct notice, node);
    struct telling telling = {.node = node, .notice = notice};
    struct holt_err err = {0};
    if (node->self_ref != LUA_NOREF && holt_lua_call(node->script, tell, &telling, &err) != 0)
      holt_log(HOLT_LOG_ERROR, "telling of '%s' failed: %s", notice->kind, err.message);
    free(notice);
  }
}

void holt__notices_drop(struct lua_node *node) {
  HOLT_LIST_EACH(&node->notices, at, next) free(HOLT_CONTAINER(at, struct notice, node));
  holt_list_init(&node->notices);
}
