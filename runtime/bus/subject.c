/* subject.c - subjects, patterns, and the subscriptions that an event has. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/rand.h"
#include "bus/bus_impl.h"

#define CACHE_MAX 4096 /* subjects whose subscriptions are kept found */

static int check_word(const char *word, size_t len, bool is_pattern, bool is_last, const char **why) {
  if (len == 0) {
    *why = "has an empty word (two dots in a row, or one at an end)";
    return HOLT_EINVAL;
  }
  if (is_pattern && len == 1 && word[0] == '*') return 0;
  if (is_pattern && len == 1 && word[0] == '>') {
    if (is_last) return 0;
    *why = "has '>' before its end; only the last word may be '>'";
    return HOLT_EINVAL;
  }
  for (size_t i = 0; i < len; i++) {
    if (word[i] == '*' || word[i] == '>') {
      *why = is_pattern ? "has '*' or '>' inside a word; a wildcard is a word of its own"
                        : "has a wildcard; those are for patterns, an event needs one subject";
      return HOLT_EINVAL;
    }
    if (word[i] == ' ' || word[i] == '\0') {
      *why = "has a space or a NUL byte";
      return HOLT_EINVAL;
    }
  }
  return 0;
}

int holt_subject_check(const char *subject, size_t len, bool is_pattern, struct holt_err *err) {
  const char *what = is_pattern ? "pattern" : "subject", *why = NULL;
  if (len == 0) return holt_err_set(err, HOLT_EINVAL, "the %s is empty", what);
  if (len > HOLT_SUBJECT_MAX)
    return holt_err_set(err, HOLT_EINVAL, "the %s has %zu bytes, at most %d are allowed", what, len,
                        HOLT_SUBJECT_MAX);
  for (size_t start = 0; start <= len;) {
    const char *dot = memchr(subject + start, '.', len - start);
    size_t end = dot == NULL ? len : (size_t)(dot - subject);
    if (check_word(subject + start, end - start, is_pattern, end == len, &why) != 0)
      return holt_err_set(err, HOLT_EINVAL, "the %s '%.*s' %s", what, (int)len, subject, why);
    start = end + 1;
  }
  return 0;
}

static size_t word_length(const char *text, size_t len) {
  const char *dot = memchr(text, '.', len);
  return dot == NULL ? len : (size_t)(dot - text);
}

bool holt_subject_match(const char *pattern, size_t pattern_len, const char *subject, size_t subject_len) {
  while (true) {
    size_t p = word_length(pattern, pattern_len), s = word_length(subject, subject_len);
    if (p == 1 && pattern[0] == '>') return true;
    bool is_any = p == 1 && pattern[0] == '*';
    if (!is_any && (p != s || memcmp(pattern, subject, p) != 0)) return false;
    if (p == pattern_len || s == subject_len) return p == pattern_len && s == subject_len;
    pattern += p + 1;
    pattern_len -= p + 1;
    subject += s + 1;
    subject_len -= s + 1;
  }
}

/* --- Subscriptions -------------------------------------------------------------------------------- */

void holt__subs_init(struct holt_subs *subs) {
  *subs = (struct holt_subs){0};
  holt_list_init(&subs->all);
  holt_list_init(&subs->dead);
}

static void free_sub(struct holt_sub *sub) {
  holt_list_remove(&sub->node);
  free(sub->pattern);
  free(sub);
}

static void forget_matches(struct holt_subs *subs) {
  size_t cursor = 0;
  uint64_t key;
  void *value;
  while (holt_map_next(&subs->cache, &cursor, &key, &value)) {
    for (struct holt_match *match = value, *next; match != NULL; match = next) {
      next = match->next;
      free(match->subject);
      free(match);
    }
  }
  holt_map_free(&subs->cache);
  subs->cached = 0;
  subs->latest = NULL;
  subs->is_stale = false;
  HOLT_LIST_EACH(&subs->dead, node, following) free_sub(HOLT_CONTAINER(node, struct holt_sub, node));
}

void holt__subs_free(struct holt_subs *subs) {
  forget_matches(subs);
  HOLT_LIST_EACH(&subs->all, node, next) free_sub(HOLT_CONTAINER(node, struct holt_sub, node));
}

struct holt_sub *holt__subs_add(struct holt_subs *subs, const char *pattern, size_t len, holt_event_cb cb,
                                void *arg) {
  struct holt_sub *sub = holt_alloc(sizeof *sub);
  *sub = (struct holt_sub){.pattern = holt_strndup(pattern, len), .len = len, .cb = cb, .arg = arg};
  sub->is_exact = memchr(pattern, '*', len) == NULL && memchr(pattern, '>', len) == NULL;
  holt_list_push(&subs->all, &sub->node);
  subs->is_stale = true;
  return sub;
}

void holt__subs_remove(struct holt_subs *subs, struct holt_sub *sub) {
  sub->is_dead = true; /* a walk over a match may stand on it */
  holt_list_remove(&sub->node);
  holt_list_push(&subs->dead, &sub->node);
  subs->is_stale = true;
}

static bool covers(const struct holt_sub *sub, const char *subject, size_t len) {
  if (sub->is_exact) return sub->len == len && memcmp(sub->pattern, subject, len) == 0;
  return holt_subject_match(sub->pattern, sub->len, subject, len);
}

static struct holt_match *find(struct holt_subs *subs, const char *subject, size_t len) {
  size_t count = 0;
  HOLT_LIST_EACH(&subs->all, node, next)
  if (covers(HOLT_CONTAINER(node, struct holt_sub, node), subject, len)) count++;
  struct holt_match *match = holt_alloc(sizeof *match + count * sizeof match->subs[0]);
  match->subject = holt_strndup(subject, len);
  match->len = len;
  HOLT_LIST_EACH(&subs->all, other, after) {
    struct holt_sub *sub = HOLT_CONTAINER(other, struct holt_sub, node);
    if (covers(sub, subject, len)) match->subs[match->count++] = sub;
  }
  return match;
}

bool holt__subs_is_latest(const struct holt_subs *subs, const char *subject, size_t len) {
  const struct holt_match *match = subs->latest;
  return match != NULL && match->len == len && memcmp(match->subject, subject, len) == 0;
}

const struct holt_match *holt__subs_match(struct holt_subs *subs, const char *subject, size_t len) {
  if (subs->is_stale || subs->cached >= CACHE_MAX) forget_matches(subs);
  if (holt__subs_is_latest(subs, subject, len)) return subs->latest;
  uint64_t hash = holt_hash_bytes(0, subject, len);
  struct holt_match *first = holt_map_get(&subs->cache, hash);
  for (struct holt_match *match = first; match != NULL; match = match->next)
    if (match->len == len && memcmp(match->subject, subject, len) == 0) return subs->latest = match;
  struct holt_match *match = find(subs, subject, len);
  match->next = first;
  holt_map_set(&subs->cache, hash, match);
  subs->cached++;
  return subs->latest = match;
}
