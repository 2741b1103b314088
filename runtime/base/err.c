#include "base/err.h"

#include <stdio.h>
#include <string.h>

static const struct {
  int code;
  const char *word;
  const char *text;
} table[] = {
#define X(name, number, word, text) {HOLT_##name, word, text},
    HOLT_ERRORS(X)
#undef X
};

#define TABLE_COUNT (sizeof table / sizeof table[0])

const char *holt_err_word(int code) {
  if (code == 0) return "ok";
  for (size_t i = 0; i < TABLE_COUNT; i++)
    if (table[i].code == code) return table[i].word;
  return "internal";
}

const char *holt_err_text(int code) {
  if (code == 0) return "ok";
  for (size_t i = 0; i < TABLE_COUNT; i++)
    if (table[i].code == code) return table[i].text;
  return "unknown error code";
}

int holt_err_from_word(const char *word) {
  for (size_t i = 0; i < TABLE_COUNT; i++)
    if (strcmp(table[i].word, word) == 0) return table[i].code;
  return 0;
}

int holt_err_set(struct holt_err *err, int code, const char *format, ...) {
  if (err == NULL) return code;
  va_list args;
  va_start(args, format);
  err->code = code;
  err->node[0] = '\0';
  vsnprintf(err->message, sizeof err->message, format, args);
  va_end(args);
  return code;
}

int holt_err_code(struct holt_err *err, int code) {
  return holt_err_set(err, code, "%s", holt_err_text(code));
}

int holt_err_prefix(struct holt_err *err, const char *format, ...) {
  if (err == NULL) return 0;
  char old[sizeof err->message];
  memcpy(old, err->message, sizeof old);
  va_list args;
  va_start(args, format);
  int n = vsnprintf(err->message, sizeof err->message, format, args);
  va_end(args);
  if (n >= 0 && (size_t)n < sizeof err->message) { /* what does not fit is cut */
    int room = (int)(sizeof err->message - (size_t)n);
    snprintf(err->message + n, (size_t)room, ": %.*s", room, old);
  }
  return err->code;
}
