#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum holt_log_level threshold = HOLT_LOG_WARN;
static holt_log_sink_cb sink_cb;
static void *sink_arg;

static const char *const words[] = {"trace", "debug", "info", "warn", "error", "silent"};

void holt_log_set_level(enum holt_log_level level) {
  threshold = level;
}
enum holt_log_level holt_log_level(void) {
  return threshold;
}

void holt_log_set_sink(holt_log_sink_cb sink, void *arg) {
  sink_cb = sink;
  sink_arg = arg;
}

int holt_log_level_from_word(const char *word) {
  for (int i = 0; i <= HOLT_LOG_SILENT; i++)
    if (strcmp(words[i], word) == 0) return i;
  return -1;
}

const char *holt_log_level_word(enum holt_log_level level) {
  return words[level];
}

void holt_log(enum holt_log_level level, const char *format, ...) {
  if (level < threshold) return;
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (sink_cb != NULL)
    sink_cb(sink_arg, level, text);
  else
    fprintf(stderr, "holt: %s: %s\n", level == HOLT_LOG_WARN ? "warning" : words[level], text);
}
