/* raft_words.h - what a member of raft/ does, in short readable lines; for transcripts. */
#ifndef HOLT_UNIT_RAFT_WORDS_H
#define HOLT_UNIT_RAFT_WORDS_H

#include "base/assert.h"
#include "raft/raft.h"
#include "unit.h"

/* A text that grows. Zero-initialised is empty; free with words_free. */
struct words {
  char *text;
  size_t len, cap;
};

static __attribute__((format(printf, 2, 0))) void words_addv(struct words *w, const char *format,
                                                             va_list args) {
  char line[512];
  int len = vsnprintf(line, sizeof line, format, args);
  if (len >= (int)sizeof line) len = (int)sizeof line - 1;
  if (w->len + (size_t)len + 1 > w->cap) {
    w->cap = (w->cap + (size_t)len + 1) * 2;
    w->text = realloc(w->text, w->cap);
    HOLT_ASSERT(w->text);
  }
  memcpy(w->text + w->len, line, (size_t)len + 1);
  w->len += (size_t)len;
}

static __attribute__((format(printf, 2, 3))) void words_add(struct words *w, const char *format, ...) {
  va_list args;
  va_start(args, format);
  words_addv(w, format, args);
  va_end(args);
}

static __attribute__((unused)) void words_free(struct words *w) {
  free(w->text);
  memset(w, 0, sizeof *w);
}

/* n1 a voter, n1~ a learner, n1~! to become a voter, n1+ coming in, n1- going out, n1-~ going to learn;
 * ^2 priority, * never leads. */
static void words_conf(struct words *w, const struct holt_raft_conf *conf) {
  static const char *MARKS[] = {"?", "", "~", "+", "-", "-~"};
  words_add(w, "{");
  for (uint32_t i = 0; i < conf->count; i++) {
    const struct holt_raft_member *m = &conf->members[i];
    words_add(w, "%sn%u%s%s", i ? " " : "", (unsigned)m->id, MARKS[m->role], m->will_vote ? "!" : "");
    if (m->replaces) words_add(w, "for n%u", (unsigned)m->replaces);
    if (m->priority) words_add(w, "^%u", m->priority);
    if (!m->can_lead) words_add(w, "*");
  }
  words_add(w, "}");
}

static void words_entry(struct words *w, const struct holt_raft_entry *e) {
  struct holt_raft_conf conf;
  words_add(w, "%llu/T%llu ", (unsigned long long)e->index, (unsigned long long)e->term);
  if (e->type == HOLT_RAFT_NOOP)
    words_add(w, "noop");
  else if (e->type == HOLT_RAFT_COMMAND)
    words_add(w, "%.*s", (int)e->len, e->len ? (const char *)e->data : "");
  else if (holt_raft_conf_decode(holt_buf(e->data, e->len), &conf) == 0)
    words_conf(w, &conf);
  else
    words_add(w, "?");
}

static void words_entries(struct words *w, const struct holt_raft_entry *entries, size_t count) {
  for (size_t i = 0; i < count; i++) {
    words_add(w, i ? ", " : " ");
    words_entry(w, &entries[i]);
  }
}

static __attribute__((unused)) const char *words_type(const struct holt_raft_message *m) {
  bool is_refused = m->flags & HOLT_RAFT_REJECT, is_pre = m->flags & HOLT_RAFT_PRE;
  switch (m->type) {
  case HOLT_RAFT_APPEND:
    return "append";
  case HOLT_RAFT_APPEND_REPLY:
    return is_refused ? "append-no" : "append-ok";
  case HOLT_RAFT_HEARTBEAT:
    return "heartbeat";
  case HOLT_RAFT_HEARTBEAT_REPLY:
    return "heartbeat-ok";
  case HOLT_RAFT_VOTE:
    return is_pre ? "pre-vote" : "vote";
  case HOLT_RAFT_VOTE_REPLY:
    return is_pre ? (is_refused ? "pre-vote-no" : "pre-vote-yes") : (is_refused ? "vote-no" : "vote-yes");
  case HOLT_RAFT_SNAPSHOT:
    return "snapshot";
  case HOLT_RAFT_SNAPSHOT_REPLY:
    return "snapshot-want";
  case HOLT_RAFT_TIMEOUT_NOW:
    return "timeout-now";
  case HOLT_RAFT_READ:
    return "read";
  case HOLT_RAFT_READ_REPLY:
    return m->code ? "read-no" : "read-ok";
  case HOLT_RAFT_FORWARD:
    return "forward";
  case HOLT_RAFT_FORWARD_REPLY:
    return m->code ? "forward-no" : "forward-ok";
  default:
    return "?";
  }
}

static void words_body(struct words *w, const struct holt_raft_message *m) {
  unsigned long long index = m->index, log_term = m->log_term;
  switch (m->type) {
  case HOLT_RAFT_APPEND:
    words_add(w, " after %llu/T%llu commit %llu:", index, log_term, (unsigned long long)m->commit);
    words_entries(w, m->entries, m->count);
    if (m->count == 0) words_add(w, " nothing");
    break;
  case HOLT_RAFT_APPEND_REPLY:
    if (m->flags & HOLT_RAFT_REJECT)
      words_add(w, " at %llu, try %llu/T%llu", index, (unsigned long long)m->hint,
                (unsigned long long)m->hint_term);
    else
      words_add(w, " to %llu", index);
    break;
  case HOLT_RAFT_HEARTBEAT:
    words_add(w, " round %llu commit %llu", (unsigned long long)m->round, (unsigned long long)m->commit);
    break;
  case HOLT_RAFT_HEARTBEAT_REPLY:
    words_add(w, " round %llu matched %llu", (unsigned long long)m->round, index);
    break;
  case HOLT_RAFT_VOTE:
    words_add(w, " last %llu/T%llu%s", index, log_term, m->flags & HOLT_RAFT_TRANSFER ? " transfer" : "");
    break;
  case HOLT_RAFT_SNAPSHOT:
    words_add(w, " %llu/T%llu bytes %llu to %llu of %llu", (unsigned long long)m->snapshot->index,
              (unsigned long long)m->snapshot->term, (unsigned long long)m->offset,
              (unsigned long long)(m->offset + m->len), (unsigned long long)m->snapshot->size_bytes);
    break;
  case HOLT_RAFT_SNAPSHOT_REPLY:
    words_add(w, " %llu from byte %llu", index, (unsigned long long)m->offset);
    break;
  case HOLT_RAFT_READ:
    words_add(w, " #%llu", (unsigned long long)m->tag);
    break;
  case HOLT_RAFT_READ_REPLY:
    words_add(w, " #%llu", (unsigned long long)m->tag);
    if (m->code) words_add(w, " %s", holt_err_word(m->code));
    if (!m->code) words_add(w, " at %llu", index);
    break;
  case HOLT_RAFT_FORWARD:
    words_add(w, " #%llu:", (unsigned long long)m->tag);
    for (uint32_t i = 0; i < m->count; i++)
      words_add(w, " %.*s", (int)m->entries[i].len, (const char *)m->entries[i].data);
    break;
  case HOLT_RAFT_FORWARD_REPLY:
    words_add(w, " #%llu", (unsigned long long)m->tag);
    if (m->code) words_add(w, " %s", holt_err_word(m->code));
    if (!m->code) words_add(w, " at %llu/T%llu", index, log_term);
    break;
  default:
    break;
  }
}

static void words_message(struct words *w, const struct holt_raft_message *m) {
  words_add(w, "n%u > n%u %s T%llu", (unsigned)m->from, (unsigned)m->to, words_type(m),
            (unsigned long long)m->term);
  words_body(w, m);
}

/* As it arrives: it was told in full when it was sent. */
static __attribute__((unused)) void words_message_short(struct words *w, const struct holt_raft_message *m) {
  words_add(w, "%s T%llu", words_type(m), (unsigned long long)m->term);
  if (m->type == HOLT_RAFT_APPEND || m->type == HOLT_RAFT_APPEND_REPLY)
    words_add(w, " %llu", (unsigned long long)(m->index + m->count));
}

static __attribute__((unused)) void words_persist(struct words *w, const struct holt_raft_persist *p) {
  if (p->has_vote) {
    words_add(w, " T%llu", (unsigned long long)p->term);
    if (p->vote) words_add(w, " vote n%llu", (unsigned long long)p->vote);
  }
  if (p->snapshot)
    words_add(w, " snapshot %llu/T%llu%s", (unsigned long long)p->snapshot->index,
              (unsigned long long)p->snapshot->term, p->is_reset ? " instead of the log" : "");
  if (p->truncate_from) words_add(w, " void from %llu,", (unsigned long long)p->truncate_from);
  words_entries(w, p->entries, p->count);
}

#endif /* HOLT_UNIT_RAFT_WORDS_H */
