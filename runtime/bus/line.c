/* line.c - requests that wait in line for a way with room: one line a subject, so that those for a node that
 * takes nothing hold up nobody else's.
 *
 * - What waits costs nothing of its link; it is tried again when a link tells of room, and every
 * HOLT_LINE_RETRY_MS, for the way may be another one by then.
 * - An empty line goes when the lines are tried next. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bus/bus_impl.h"

static struct holt_line *find(const struct holt_lines *lines, const char *subject, size_t len) {
  HOLT_LIST_EACH(&lines->all, node, next) {
    struct holt_line *line = HOLT_CONTAINER(node, struct holt_line, node);
    if (line->len == len && memcmp(line->subject, subject, len) == 0) return line;
  }
  return NULL;
}

static void free_line(struct holt_line *line) {
  holt_list_remove(&line->node);
  free(line);
}

static void on_timer(void *arg) {
  holt__lines_try(arg);
}

void holt__lines_init(struct holt_lines *lines, struct holt_env *env,
                      bool (*try_one)(struct holt_place *place)) {
  holt_list_init(&lines->all);
  holt_timer_init(&lines->timer, env, on_timer, lines);
  lines->try_one = try_one;
}

bool holt__lines_are_busy(const struct holt_lines *lines, const char *subject, size_t len) {
  const struct holt_line *line = find(lines, subject, len);
  return line != NULL && !holt_list_is_empty(&line->places);
}

void holt__line_wait(struct holt_lines *lines, const char *subject, size_t len, struct holt_place *place) {
  struct holt_line *line = find(lines, subject, len);
  if (line == NULL) {
    line = holt_alloc(sizeof *line + len);
    memcpy(line->subject, subject, len);
    line->len = len;
    holt_list_init(&line->places);
    holt_list_push(&lines->all, &line->node);
  }
  struct holt_list *behind =
      line->places.prev; /* a new one goes last, one that was tried before near the front */
  if (behind != &line->places && HOLT_CONTAINER(behind, struct holt_place, node)->id > place->id) {
    behind = &line->places;
    while (HOLT_CONTAINER(behind->next, struct holt_place, node)->id < place->id) behind = behind->next;
  }
  holt_list_push(behind->next, &place->node);
  if (!holt_timer_is_active(&lines->timer)) holt_timer_start(&lines->timer, HOLT_LINE_RETRY_MS);
}

void holt__line_leave(struct holt_place *place) {
  if (!holt_list_is_empty(&place->node)) holt_list_remove(&place->node);
}

void holt__lines_try(struct holt_lines *lines) {
  HOLT_LIST_EACH(&lines->all, node, next) {
    struct holt_line *line = HOLT_CONTAINER(node, struct holt_line, node);
    while (!holt_list_is_empty(&line->places)) {
      struct holt_place *place = HOLT_CONTAINER(line->places.next, struct holt_place, node);
      holt_list_remove(&place->node);
      if (!lines->try_one(place)) {
        holt_list_push(line->places.next, &place->node);
        break;
      }
    }
    if (holt_list_is_empty(&line->places)) free_line(line);
  }
  if (!holt_list_is_empty(&lines->all) && !holt_timer_is_active(&lines->timer))
    holt_timer_start(&lines->timer, HOLT_LINE_RETRY_MS);
}

void holt__lines_free(struct holt_lines *lines) {
  holt_timer_stop(&lines->timer);
  HOLT_LIST_EACH(&lines->all, node, next) {
    struct holt_line *line = HOLT_CONTAINER(node, struct holt_line, node);
    while (!holt_list_is_empty(&line->places)) holt_list_remove(line->places.next);
    free_line(line);
  }
}
