#include "sim/history_file.h"

#include <inttypes.h>
#include <string.h>

#include "base/map.h"

enum { WORDS_MAX = 8 };

struct word {
  const char *text; /* borrowed, not terminated */
  size_t len;
};

struct line {
  struct word words[WORDS_MAX];
  size_t count;
};

static bool is_word(struct word word, const char *text) {
  return strlen(text) == word.len && memcmp(word.text, text, word.len) == 0;
}

/* Digits only, below the reserved numbers. */
static bool number(struct word word, uint64_t *out) {
  *out = 0;
  if (word.len == 0 || word.len > 19) return false; /* 19 digits cannot overflow */
  for (size_t i = 0; i < word.len; i++) {
    if (word.text[i] < '0' || word.text[i] > '9') return false;
    *out = *out * 10 + (uint64_t)(word.text[i] - '0');
  }
  return true;
}

static bool value(struct word word, uint64_t *out) {
  if (is_word(word, "nil"))
    *out = HOLT_HISTORY_ABSENT;
  else if (is_word(word, "any"))
    *out = HOLT_HISTORY_ANY;
  else if (is_word(word, "other"))
    *out = HOLT_HISTORY_OTHER;
  else
    return number(word, out);
  return true;
}

static bool kind_of(struct word word, enum holt_history_kind *out) {
  static const char *const kinds[] = {
      [HOLT_HISTORY_GET] = "get",       [HOLT_HISTORY_SET] = "set",
      [HOLT_HISTORY_INSERT] = "insert", [HOLT_HISTORY_UPDATE_IF] = "update_if",
      [HOLT_HISTORY_REMOVE] = "remove", [HOLT_HISTORY_REMOVE_IF] = "remove_if",
      [HOLT_HISTORY_PUSH] = "push",     [HOLT_HISTORY_POP] = "pop",
  };
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (!is_word(word, kinds[i])) continue;
    *out = (enum holt_history_kind)i;
    return true;
  }
  return false;
}

/* Part the line at its blanks; false when it has too many words. */
static bool part(const char *text, size_t len, struct line *out) {
  out->count = 0;
  for (size_t at = 0; at < len;) {
    const char *blank = memchr(text + at, ' ', len - at);
    size_t word_len = blank == NULL ? len - at : (size_t)(blank - text) - at;
    if (out->count == WORDS_MAX) return false;
    out->words[out->count++] = (struct word){.text = text + at, .len = word_len};
    at += word_len + 1;
  }
  return true;
}

/* Operations by their ID: the map holds their number in the history plus one. */
static bool find(const struct holt_map *open, struct word id, size_t *number_out) {
  uint64_t key;
  if (!number(id, &key)) return false;
  uintptr_t found = (uintptr_t)holt_map_get(open, key);
  if (found == 0) return false;
  *number_out = found - 1;
  return true;
}

static const char *take_call(struct holt_history *history, struct holt_map *open, const struct line *line) {
  uint64_t id, client, key, time, args[2] = {0};
  enum holt_history_kind kind;
  const struct word *words = line->words;
  if (line->count < 6) return "words are missing";
  if (!number(words[1], &id) || holt_map_get(open, id) != NULL) return "its ID is no number, or used before";
  if (!number(words[2], &client) || client > UINT32_MAX) return "its client is no number";
  if (!kind_of(words[3], &kind)) return "no such kind";
  if (!number(words[4], &key)) return "its key is no number";
  if (!number(words[5], &time)) return "its time is no number";
  bool is_pair = kind == HOLT_HISTORY_UPDATE_IF, has_expected = is_pair || kind == HOLT_HISTORY_REMOVE_IF;
  bool has_value =
      is_pair || kind == HOLT_HISTORY_SET || kind == HOLT_HISTORY_INSERT || kind == HOLT_HISTORY_PUSH;
  size_t wanted = (size_t)has_value + (size_t)has_expected;
  if (line->count != 6 + wanted) return "its kind takes another number of values";
  for (size_t i = 0; i < wanted; i++)
    if (!value(words[6 + i], &args[i])) return "a value is no value";
  size_t made = holt_history_call(history, (uint32_t)client, kind, key, args[0],
                                  has_expected ? args[wanted - 1] : 0, time);
  holt_map_set(open, id, (void *)(uintptr_t)(made + 1)); // NOLINT(performance-no-int-to-ptr)
  return NULL;
}

static const char *take_end(struct holt_history *history, const struct holt_map *open,
                            const struct line *line, bool is_ok) {
  uint64_t time, result = 0;
  size_t op;
  if (line->count != (is_ok ? 4u : 3u)) return "it has another number of words";
  if (!find(open, line->words[1], &op)) return "no such call before it";
  if (history->ops[op].outcome != HOLT_HISTORY_UNKNOWN) return "that call has ended already";
  if (!number(line->words[2], &time)) return "its time is no number";
  if (is_ok && !value(line->words[3], &result)) return "its result is no value";
  if (is_ok)
    holt_history_return(history, op, result, time);
  else
    holt_history_fail(history, op, time);
  return NULL;
}

static const char *take(struct holt_history *history, struct holt_map *open, const char *text, size_t len) {
  struct line line;
  if (len == 0) return NULL;
  if (!part(text, len, &line)) return "too many words";
  if (is_word(line.words[0], "call")) return take_call(history, open, &line);
  if (is_word(line.words[0], "ok")) return take_end(history, open, &line, true);
  if (is_word(line.words[0], "fail")) return take_end(history, open, &line, false);
  return "it begins neither with call nor with ok nor with fail";
}

int holt_history_read(struct holt_history *history, struct holt_buf text, struct holt_err *err) {
  if (text.len == 0) return 0; /* there may be no data to point into */
  struct holt_map open = {0};
  const char *at = (const char *)text.data, *end = at + text.len;
  int code = 0;
  for (size_t line = 1; code == 0 && at < end; line++) {
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    size_t len = (size_t)((stop == NULL ? end : stop) - at);
    const char *wrong = take(history, &open, at, len);
    if (wrong != NULL)
      code =
          holt_err_set(err, HOLT_EINVAL, "line %zu: %s: %.*s", line, wrong, (int)(len < 100 ? len : 100), at);
    at += len + 1;
  }
  holt_map_free(&open);
  return code;
}
