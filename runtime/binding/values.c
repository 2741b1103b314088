/* values.c - the values of an event, a request or a reply: to bytes and back, by the codec in its frame. */
#include "base/mem.h"
#include "binding/node_impl.h"

uint8_t holt__codec_of(const struct lua_node *node, struct holt_buf subject) {
  for (size_t i = 0; i < node->rule_count; i++) {
    const struct subject_rule *rule = &node->rules[i];
    if (holt_subject_match(rule->pattern, rule->len, (const char *)subject.data, subject.len))
      return rule->codec;
  }
  return node->codec;
}

int holt__subject_codec(struct lua_node *node, struct holt_buf subject, uint8_t *codec,
                        struct holt_err *err) {
  size_t at =
      ((uintptr_t)subject.data >> 4) & (HOLT_KNOWN_SUBJECTS - 1); /* any would do; Lua keeps one copy */
  struct known_subject *known = &node->known[at];
  if (subject.len == known->len && subject.len > 0 && memcmp(subject.data, known->text, subject.len) == 0) {
    *codec = known->codec;
    return 0;
  }
  int rc = holt_subject_check((const char *)subject.data, subject.len, false, err);
  if (rc != 0) return rc;
  *codec = holt__codec_of(node, subject);
  if (subject.len > sizeof known->text) return 0;
  known->len = (uint8_t)subject.len;
  known->codec = *codec;
  memcpy(known->text, subject.data, subject.len);
  return 0;
}

bool holt__codec_is_known(const struct lua_node *node, uint8_t codec) {
  return codec == HOLT_CODEC_RAW || codec == HOLT_CODEC_MSGPACK || node->encode_refs[codec] != LUA_NOREF;
}

static int refuse_raw(lua_State *L, const char *what, int level) {
  luaL_where(L, level);
  lua_pushfstring(L, "%s: the codec raw takes one string, nothing else", what);
  lua_concat(L, 2);
  return lua_error(L);
}

int holt__values_encode(lua_State *L, struct lua_node *node, uint8_t codec, int first, const char *what,
                        int level, struct holt_buf *out, struct holt_err *err) {
  int top = lua_gettop(L);
  if (codec == HOLT_CODEC_RAW) {
    if (top != first || lua_type(L, first) != LUA_TSTRING) return refuse_raw(L, what, level);
    size_t len;
    const char *text = lua_tolstring(L, first, &len);
    *out = holt_buf(text, len);
    return 0;
  }
  if (codec == HOLT_CODEC_MSGPACK) {
    node->writer.len = 0;
    int rc = holt_msgpack_encode(L, first, top, &node->writer, err);
    *out = holt_buf(node->writer.data, node->writer.len);
    return rc;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, node->encode_refs[codec]);
  lua_insert(L, first);
  lua_call(L, top - first + 1, 2); /* bytes | nil, err */
  size_t len;
  const char *text = lua_type(L, first) == LUA_TSTRING ? lua_tolstring(L, first, &len) : NULL;
  if (text == NULL) return 1;
  *out = holt_buf(text, len);
  return 0;
}

int holt__values_push(lua_State *L, const struct lua_node *node, uint8_t codec, struct holt_buf bytes,
                      const struct holt__origin *from) {
  struct holt_err err;
  if (codec == HOLT_CODEC_RAW) {
    lua_pushlstring(L, bytes.len > 0 ? (const char *)bytes.data : "", bytes.len);
    return 1;
  }
  if (codec == HOLT_CODEC_MSGPACK) {
    int count = holt_msgpack_decode(L, bytes, &err);
    if (count >= 0) return count;
    return holt_lua_raise(L, HOLT_ECODEC, "%s '%s' from '%s': %s", from->kind, from->subject, from->node,
                          err.message);
  }
  int ref = node->decode_refs[codec];
  if (ref == LUA_NOREF && codec == HOLT_CODEC_PROTOBUF)
    return holt_lua_raise(L, HOLT_ECODEC,
                          "%s '%s' from '%s' is in protobuf, for which this node has no schema; give it to "
                          "holt.node { schema = … } here too",
                          from->kind, from->subject, from->node);
  if (ref == LUA_NOREF)
    return holt_lua_raise(L, HOLT_ECODEC,
                          "%s '%s' from '%s' is in codec %d, which this node does not know; give it to "
                          "holt.node { codecs = … } here too",
                          from->kind, from->subject, from->node, codec);
  int before = lua_gettop(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  lua_pushlstring(L, bytes.len > 0 ? (const char *)bytes.data : "", bytes.len);
  lua_call(L, 1, LUA_MULTRET); /* true, values… | nil, err */
  if (lua_gettop(L) <= before || !lua_toboolean(L, before + 1)) {
    luaL_tolstring(L, before + 2 <= lua_gettop(L) ? before + 2 : before + 1, NULL);
    return holt_lua_raise(L, HOLT_ECODEC, "%s '%s' from '%s': %s", from->kind, from->subject, from->node,
                          lua_tostring(L, -1));
  }
  lua_remove(L, before + 1);
  return lua_gettop(L) - before;
}
