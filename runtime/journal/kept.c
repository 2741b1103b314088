/* kept.c - what a journal keeps beside its entries: named cursors and notes.
 *
 * Both change in memory at once and are written with the next commit, or by one of their own a second later.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "journal/journal_impl.h"

static void save_soon(struct holt_journal *j) {
  if (!holt_timer_is_active(&j->save)) holt_timer_start(&j->save, HOLT__SAVE_MS);
}

/* --- Cursors ----------------------------------------------------------------------------------------------
 */

static struct holt__cursor *find_cursor(struct holt_journal *j, const char *name) {
  HOLT_LIST_EACH(&j->cursors, at, next) {
    struct holt__cursor *cursor = HOLT_CONTAINER(at, struct holt__cursor, node);
    if (strcmp(cursor->name, name) == 0) return cursor;
  }
  return NULL;
}

static struct holt__cursor *add_cursor(struct holt_journal *j, const char *name, uint64_t position) {
  struct holt__cursor *cursor = holt_alloc(sizeof *cursor + strlen(name) + 1);
  memcpy(cursor->name, name, strlen(name) + 1);
  cursor->position = position;
  holt_list_push(&j->cursors, &cursor->node);
  return cursor;
}

int holt_journal_cursor(struct holt_journal *j, const char *name, uint64_t *position) {
  struct holt__cursor *cursor = find_cursor(j, name);
  if (cursor == NULL) {
    struct holt_writer kept = {0};
    int rc = holt__journal_record(j, HOLT_BOOK_CURSOR, name, &kept);
    if (rc == 0 && kept.len != 8) rc = HOLT_ECORRUPT;
    if (rc == 0) cursor = add_cursor(j, name, holt_get_u64(kept.data));
    holt_writer_free(&kept);
    if (rc != 0) return rc;
  }
  *position = cursor->position;
  return 0;
}

void holt_journal_set_cursor(struct holt_journal *j, const char *name, uint64_t position) {
  struct holt__cursor *cursor = find_cursor(j, name);
  if (cursor == NULL) cursor = add_cursor(j, name, position);
  cursor->position = position;
  cursor->is_changed = true;
  save_soon(j);
}

/* --- Notes ------------------------------------------------------------------------------------------------
 */

int holt_journal_note(struct holt_journal *j, const char *key, struct holt_writer *out) {
  HOLT_LIST_EACH(&j->notes, at, next) {
    const struct holt__note *note = HOLT_CONTAINER(at, struct holt__note, node);
    if (strcmp(note->key, key) != 0) continue;
    if (note->value.len == 0) return HOLT_ENOTFOUND;
    holt_write_bytes(out, note->value.data, note->value.len);
    return 0;
  }
  return holt__journal_record(j, HOLT_BOOK_NOTE, key, out);
}

void holt_journal_set_note(struct holt_journal *j, const char *key, struct holt_buf value) {
  struct holt__note *note = NULL;
  HOLT_LIST_EACH(&j->notes, at, next) {
    struct holt__note *known = HOLT_CONTAINER(at, struct holt__note, node);
    if (strcmp(known->key, key) == 0) note = known;
  }
  if (note == NULL) {
    note = holt_alloc(sizeof *note + strlen(key) + 1);
    memcpy(note->key, key, strlen(key) + 1);
    holt_list_push(&j->notes, &note->node);
  }
  note->value.len = 0;
  holt_write_bytes(&note->value, value.data, value.len);
  note->is_changed = true;
  save_soon(j);
}

/* --- With a commit ----------------------------------------------------------------------------------------
 */

bool holt__journal_wants_save(const struct holt_journal *j) {
  return j->is_save_due || holt_timer_is_active(&j->save);
}

/* Name, and 8 bytes or length and bytes: copied, since both may change while the commit is under way. */
void holt__kept_collect(struct holt_journal *j) {
  struct holt__commit *c = &j->commit;
  c->cursors.len = c->notes.len = 0;
  HOLT_LIST_EACH(&j->cursors, at, next) {
    struct holt__cursor *cursor = HOLT_CONTAINER(at, struct holt__cursor, node);
    if (!cursor->is_changed) continue;
    cursor->is_changed = false;
    cursor->is_leaving = true;
    holt_write_text8(&c->cursors, cursor->name);
    holt_write_u64(&c->cursors, cursor->position);
  }
  HOLT_LIST_EACH(&j->notes, at, next) {
    struct holt__note *note = HOLT_CONTAINER(at, struct holt__note, node);
    if (!note->is_changed) continue;
    note->is_changed = false;
    note->is_leaving = true;
    holt_write_text8(&c->notes, note->key);
    holt_write_u32(&c->notes, (uint32_t)note->value.len);
    holt_write_bytes(&c->notes, note->value.data, note->value.len);
  }
}

int holt__kept_write(struct holt__commit *c) {
  char key[256];
  struct holt_book *book = c->journal->book;
  struct holt_reader in = holt_reader(holt_buf(c->cursors.data, c->cursors.len));
  int rc = 0;
  while (rc == 0 && holt_reader_left(&in) > 0) {
    holt_read_text8(&in, key);
    rc = holt_book_put(book, HOLT_BOOK_CURSOR, holt_buf_text(key), holt_read_bytes(&in, 8));
  }
  in = holt_reader(holt_buf(c->notes.data, c->notes.len));
  while (rc == 0 && holt_reader_left(&in) > 0) {
    holt_read_text8(&in, key);
    rc = holt_book_put(book, HOLT_BOOK_NOTE, holt_buf_text(key), holt_read_bytes(&in, holt_read_u32(&in)));
  }
  return rc;
}

void holt__kept_written(struct holt_journal *j) {
  HOLT_LIST_EACH(&j->cursors, at, next) HOLT_CONTAINER(at, struct holt__cursor, node)->is_leaving = false;
  HOLT_LIST_EACH(&j->notes, at, next) {
    struct holt__note *note = HOLT_CONTAINER(at, struct holt__note, node);
    if (!note->is_leaving) continue;
    note->is_leaving = false;
    if (note->is_changed) continue;
    holt_list_remove(&note->node); /* from now on the store has it */
    holt_writer_free(&note->value);
    free(note);
  }
}

void holt__kept_unwritten(struct holt_journal *j) {
  HOLT_LIST_EACH(&j->cursors, at, next) {
    struct holt__cursor *cursor = HOLT_CONTAINER(at, struct holt__cursor, node);
    cursor->is_changed = cursor->is_changed || cursor->is_leaving;
    cursor->is_leaving = false;
  }
  HOLT_LIST_EACH(&j->notes, at, next) {
    struct holt__note *note = HOLT_CONTAINER(at, struct holt__note, node);
    note->is_changed = note->is_changed || note->is_leaving;
    note->is_leaving = false;
  }
}
