/* edit.c - libedit without its reading: it is given what was typed, and draws.
 *
 * - edit_open: take the terminal into raw mode, draw the prompt.
 * - feed: each character goes through el_gets, which in unbuffered mode returns after every key. A finished
 * line goes into the history and to the caller; the prompt is then hidden until show().
 * - hide, show: somebody else wants to print; the line comes back as it was.
 * - Tab completes the word before the cursor with the words that were given.
 * - close: the terminal is as it was, the history is saved.
 *
 * An escape sequence that has not arrived as a whole waits for its rest: libedit would take its beginning for
 * the end of the input. */
#include "cli/edit.h"

#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"

#define EDIT          "holt.edit"
#define HISTORY_LINES 1000

struct edit {
  EditLine *line; /* NULL once closed */
  History *history;
  HistEvent event;
  char *history_file; /* NULL: not kept */
  char prompt[64];
  struct holt_writer typed; /* not yet given to libedit */
  size_t taken;             /* bytes of it that were */
  char **words;             /* for completion */
  size_t word_count;
  bool is_shown;
};

static struct edit *check_edit(lua_State *L) {
  return luaL_checkudata(L, 1, EDIT);
}

/* --- What libedit asks for ------------------------------------------------------------------------------ */

static struct edit *edit_of(EditLine *line) {
  void *data = NULL;
  el_get(line, EL_CLIENTDATA, &data);
  return data;
}

static char *get_prompt(EditLine *line) {
  return edit_of(line)->prompt;
}

/* The next character that was typed; 0 when there is none. A byte that is no UTF-8 counts as one. */
static int get_char(EditLine *line, wchar_t *out) {
  struct edit *edit = edit_of(line);
  if (edit->taken >= edit->typed.len) return 0;
  mbstate_t state = {0};
  wchar_t c;
  size_t left = edit->typed.len - edit->taken;
  size_t len = mbrtowc(&c, (const char *)edit->typed.data + edit->taken, left, &state);
  if (len == (size_t)-1 || len == (size_t)-2) {
    c = edit->typed.data[edit->taken];
    len = 1;
  }
  edit->taken += len > 0 ? len : 1;
  *out = c;
  return 1;
}

/* --- Completion ----------------------------------------------------------------------------------------- */

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
         c == ':';
}

static unsigned char complete(EditLine *line, wint_t ch) {
  (void)ch;
  struct edit *edit = edit_of(line);
  const LineInfo *info = el_line(line);
  const char *start = info->cursor;
  while (start > info->buffer && is_word(start[-1])) start--;
  size_t len = (size_t)(info->cursor - start), common = 0, count = 0;
  const char *first = NULL;
  for (size_t i = 0; i < edit->word_count; i++) {
    const char *word = edit->words[i];
    if (strncmp(word, start, len) != 0) continue;
    if (count++ == 0) {
      first = word;
      common = strlen(word);
    }
    while (strncmp(first, word, common) != 0) common--;
  }
  if (count == 0) return CC_REFRESH_BEEP;
  if (common > len) {
    char *rest = holt_strndup(first + len, common - len);
    el_insertstr(line, rest);
    free(rest);
    return CC_REFRESH;
  }
  if (count == 1) return CC_REFRESH_BEEP;
  fputc('\n', stdout);
  for (size_t i = 0; i < edit->word_count; i++)
    if (strncmp(edit->words[i], start, len) == 0) fprintf(stdout, "%s  ", edit->words[i]);
  fputc('\n', stdout);
  return CC_REDISPLAY;
}

static void free_words(struct edit *edit) {
  for (size_t i = 0; i < edit->word_count; i++) free(edit->words[i]);
  free(edit->words);
  edit->words = NULL;
  edit->word_count = 0;
}

/* edit:words(list): what Tab knows from now on */
static int l_words(lua_State *L) {
  struct edit *edit = check_edit(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = lua_rawlen(L, 2);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i);
    luaL_checkstring(L, -1);
    lua_pop(L, 1);
  }
  free_words(edit);
  edit->words = holt_alloc((count + 1) * sizeof *edit->words);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i);
    size_t len;
    const char *word = lua_tolstring(L, -1, &len);
    edit->words[edit->word_count++] = holt_strndup(word, len);
    lua_pop(L, 1);
  }
  return 0;
}

/* --- Drawing -------------------------------------------------------------------------------------------- */

static void show(struct edit *edit) {
  if (edit->line == NULL || edit->is_shown) return;
  edit->is_shown = true;
  el_set(edit->line, EL_REFRESH);
}

static void hide(struct edit *edit) {
  if (edit->line == NULL || !edit->is_shown) return;
  edit->is_shown = false;
  fputs("\r\033[J", stdout);
  fflush(stdout);
}

static bool is_empty(const struct edit *edit) {
  const LineInfo *info = el_line(edit->line);
  return info->lastchar == info->buffer;
}

/* edit:hide(): the line is gone until show(); what is printed meanwhile ends with a line break */
static int l_hide(lua_State *L) {
  hide(check_edit(L));
  return 0;
}

/* edit:show(prompt): draw the line again, with another prompt if one is given */
static int l_show(lua_State *L) {
  struct edit *edit = check_edit(L);
  if (!lua_isnoneornil(L, 2)) snprintf(edit->prompt, sizeof edit->prompt, "%s", luaL_checkstring(L, 2));
  show(edit);
  return 0;
}

/* edit:is_empty() -> whether nothing is typed on the line */
static int l_is_empty(lua_State *L) {
  struct edit *edit = check_edit(L);
  lua_pushboolean(L, edit->line == NULL || is_empty(edit));
  return 1;
}

static int l_resize(lua_State *L) {
  struct edit *edit = check_edit(L);
  if (edit->line != NULL) el_resize(edit->line);
  return 0;
}

/* edit:resume(): after Ctrl-Z and `fg` the terminal is as the shell left it: take it anew, draw an empty line
 */
static int l_resume(lua_State *L) {
  struct edit *edit = check_edit(L);
  if (edit->line == NULL) return 0;
  bool was_shown = edit->is_shown;
  el_set(edit->line, EL_UNBUFFERED, 0);
  el_set(edit->line, EL_UNBUFFERED, 1); /* which draws a prompt */
  edit->is_shown = true;
  hide(edit);
  if (was_shown) show(edit);
  return 0;
}

/* --- Feeding -------------------------------------------------------------------------------------------- */

/* How many of the bytes are whole keys: all but an escape sequence or a character that has only begun. */
static size_t whole_keys(const uint8_t *bytes, size_t len) {
  size_t escape = len;
  for (size_t i = len; i > 0 && len - i < 16; i--)
    if (bytes[i - 1] == 0x1b) {
      escape = i - 1;
      break;
    }
  if (escape < len) {
    size_t rest = len - escape;
    if (rest == 1) return escape;
    bool is_sequence = bytes[escape + 1] == '[' || bytes[escape + 1] == 'O';
    if (!is_sequence) return len;
    for (size_t i = escape + 2; i < len; i++)
      if (bytes[i] >= 0x40 && bytes[i] <= 0x7e) return len;
    return escape;
  }
  mbstate_t state = {0};
  for (size_t i = len; i > 0 && len - i < 4; i--)
    if ((bytes[i - 1] & 0xc0) != 0x80)
      return mbrlen((const char *)bytes + i - 1, len - i + 1, &state) == (size_t)-2 ? i - 1 : len;
  return len;
}

/* The line is done: into the history, and out of libedit, which then waits for the next. */
static void push_line(lua_State *L, struct edit *edit, const char *text, int count) {
  lua_pushlstring(L, text, (size_t)count - 1); /* without its line break */
  if (count > 1) history(edit->history, &edit->event, H_ENTER, lua_tostring(L, -1));
  el_set(edit->line, EL_UNBUFFERED, 0);
  el_set(edit->line, EL_UNBUFFERED, 1); /* which draws a prompt, too early */
  hide(edit);
}

/* edit:feed(bytes) -> line | false: the end of the input | nil: nothing yet. With a line, call it again with
 * "" until it gives nil: there may be more. After a line the prompt is hidden. */
static int l_feed(lua_State *L) {
  struct edit *edit = check_edit(L);
  size_t len;
  const char *bytes = luaL_checklstring(L, 2, &len);
  if (edit->line == NULL) return 0;
  holt_write_bytes(&edit->typed, bytes, len);
  if (!edit->is_shown) return 0; /* the last line is still being dealt with */
  size_t all = edit->typed.len;
  edit->typed.len = whole_keys(edit->typed.data, all);
  int results = 0;
  while (edit->taken < edit->typed.len && results == 0) {
    if (edit->typed.data[edit->taken] == 4 && is_empty(edit)) { /* Ctrl-D */
      edit->taken++;
      lua_pushboolean(L, 0);
      results = 1;
      break;
    }
    int count = 0;
    const char *text = el_gets(edit->line, &count);
    if (text == NULL || count <= 0) continue;
    if (text[count - 1] != '\n' && text[count - 1] != '\r') continue;
    push_line(L, edit, text, count);
    results = 1;
  }
  memmove(edit->typed.data, edit->typed.data + edit->taken, all - edit->taken);
  edit->typed.len = all - edit->taken;
  edit->taken = 0;
  return results;
}

/* --- Life ----------------------------------------------------------------------------------------------- */

static void close_edit(struct edit *edit) {
  if (edit->line == NULL) return;
  hide(edit);
  if (edit->history_file != NULL) history(edit->history, &edit->event, H_SAVE, edit->history_file);
  el_set(edit->line, EL_UNBUFFERED, 0);
  el_end(edit->line);
  edit->line = NULL;
  history_end(edit->history);
  free(edit->history_file);
  holt_writer_free(&edit->typed);
  free_words(edit);
}

static int l_close(lua_State *L) {
  close_edit(check_edit(L));
  return 0;
}

/* Which bytes are a character: as the user's locale says; UTF-8 where it says nothing. */
static void choose_locale(void) {
  const char *name = setlocale(LC_CTYPE, "");
  if (name == NULL || strcmp(name, "C") == 0 || strcmp(name, "POSIX") == 0) setlocale(LC_CTYPE, "C.UTF-8");
}

/* edit_open(prompt, history file or nil) -> edit: the prompt is drawn */
static int l_edit_open(lua_State *L) {
  const char *prompt = luaL_checkstring(L, 1);
  const char *file = luaL_optstring(L, 2, NULL);
  struct edit *edit = lua_newuserdatauv(L, sizeof *edit, 0);
  memset(edit, 0, sizeof *edit);
  luaL_setmetatable(L, EDIT);
  choose_locale();
  edit->line = el_init("holt", stdin, stdout, stderr);
  edit->history = history_init();
  if (edit->line == NULL || edit->history == NULL) return luaL_error(L, "the terminal cannot be used");
  if (file != NULL) edit->history_file = holt_strndup(file, strlen(file));
  snprintf(edit->prompt, sizeof edit->prompt, "%s", prompt);
  history(edit->history, &edit->event, H_SETSIZE, HISTORY_LINES);
  history(edit->history, &edit->event, H_SETUNIQUE, 1);
  if (file != NULL) history(edit->history, &edit->event, H_LOAD, file);
  el_set(edit->line, EL_CLIENTDATA, edit);
  el_set(edit->line, EL_PROMPT, get_prompt);
  el_set(edit->line, EL_SIGNAL, 0);
  el_set(edit->line, EL_EDITOR, "emacs");
  el_set(edit->line, EL_HIST, history, edit->history);
  el_set(edit->line, EL_GETCFN, get_char);
  /* Wide, for it keeps these pointers; of narrow texts it makes copies that nothing frees. */
  el_wset(edit->line, EL_ADDFN, L"holt-complete", L"complete the word", complete);
  el_set(edit->line, EL_BIND, "^I", "holt-complete", NULL);
  el_set(edit->line, EL_BIND, "^R", "em-inc-search-prev", NULL);
  el_set(edit->line, EL_UNBUFFERED, 1);
  edit->is_shown = true;
  return 1;
}

void holt_cli_edit(lua_State *L) {
  static const luaL_Reg methods[] = {{"feed", l_feed},         {"hide", l_hide},     {"show", l_show},
                                     {"resize", l_resize},     {"words", l_words},   {"close", l_close},
                                     {"is_empty", l_is_empty}, {"resume", l_resume}, {NULL, NULL}};
  luaL_newmetatable(L, EDIT);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, l_close);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_pushcfunction(L, l_edit_open);
  lua_setfield(L, -2, "edit_open");
}
