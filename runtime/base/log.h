/* log.h - talk for people, on stderr or wherever the sink sends it. Data never goes here. */
#ifndef HOLT_BASE_LOG_H
#define HOLT_BASE_LOG_H

enum holt_log_level {
  HOLT_LOG_TRACE,
  HOLT_LOG_DEBUG,
  HOLT_LOG_INFO,
  HOLT_LOG_WARN,
  HOLT_LOG_ERROR,
  HOLT_LOG_SILENT
};

/* One finished line without newline; `text` is borrowed until return. */
typedef void (*holt_log_sink_cb)(void *arg, enum holt_log_level level, const char *text);

/* Lines below `level` are not made; the default is HOLT_LOG_WARN. For the whole process. */
void holt_log_set_level(enum holt_log_level level);
enum holt_log_level holt_log_level(void);
/* Where lines go; NULL means stderr ("holt: warning: …"). */
void holt_log_set_sink(holt_log_sink_cb sink, void *arg);
/* "trace" "debug" "info" "warn" "error" "silent" to a level; -1 for any other word. */
int holt_log_level_from_word(const char *word);
const char *holt_log_level_word(enum holt_log_level level);

void holt_log(enum holt_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif /* HOLT_BASE_LOG_H */
