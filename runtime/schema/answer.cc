/* answer.cc - what the library gives back: texts, values, the nearest name. */
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cstring>

#include "schema/protobuf.h"

void *holt__room(holt_schema_answer *answer, size_t size_bytes) {
  void *room = holt_arena_alloc(&answer->arena, size_bytes);
  if (room == nullptr) throw std::bad_alloc();
  return room;
}

char *holt__keep(holt_schema_answer *answer, const std::string &text) {
  char *copy = static_cast<char *>(holt__room(answer, text.size() + 1));
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

int holt__refuse(holt_schema_answer *answer, const std::string &text) {
  answer->text = holt__keep(answer, text);
  answer->text_len = text.size();
  return HOLT_SCHEMA_REFUSED;
}

int holt__give(holt_schema_answer *answer, const std::string &bytes) {
  answer->bytes = holt__keep(answer, bytes);
  answer->bytes_len = bytes.size();
  return HOLT_SCHEMA_OK;
}

int holt__out_of_memory(holt_schema_answer *answer) {
  bool is_limit = answer->arena.is_full && answer->arena.limit_bytes > 0;
  const char *text = is_limit ? "its values would take too much memory" : "out of memory";
  answer->text = text;
  answer->text_len = std::strlen(text);
  return is_limit ? HOLT_SCHEMA_TOO_LARGE : HOLT_SCHEMA_NO_MEMORY;
}

/* --- Values --------------------------------------------------------------------------------------- */

holt_value holt__null() {
  holt_value value = {};
  return value;
}

holt_value holt__boolean(bool boolean) {
  holt_value value = {};
  value.type = HOLT_VALUE_BOOLEAN;
  value.as.boolean = boolean;
  return value;
}

holt_value holt__integer(int64_t integer) {
  holt_value value = {};
  value.type = HOLT_VALUE_INTEGER;
  value.as.integer = integer;
  return value;
}

holt_value holt__number(double number) {
  holt_value value = {};
  value.type = HOLT_VALUE_FLOAT;
  value.as.number = number;
  return value;
}

holt_value holt__borrowed(const std::string &text) {
  holt_value value = {};
  value.type = HOLT_VALUE_STRING;
  value.as.text.data = text.data();
  value.as.text.len = text.size();
  return value;
}

holt_value holt__text(holt_schema_answer *answer, const std::string &text) {
  holt_value value = holt__borrowed(text);
  value.as.text.data = holt__keep(answer, text);
  return value;
}

static holt_value container(holt_schema_answer *answer, int type, const std::vector<holt_value> &items) {
  holt_value value = {};
  value.type = type;
  value.count = static_cast<uint32_t>(type == HOLT_VALUE_TABLE ? items.size() / 2 : items.size());
  value.as.items = static_cast<holt_value *>(holt__room(answer, items.size() * sizeof(holt_value)));
  std::copy(items.begin(), items.end(), value.as.items);
  return value;
}

holt_value holt__list(holt_schema_answer *answer, const std::vector<holt_value> &items) {
  return container(answer, HOLT_VALUE_LIST, items);
}

holt_value holt__table(holt_schema_answer *answer, const std::vector<holt_value> &pairs) {
  return container(answer, HOLT_VALUE_TABLE, pairs);
}

/* --- Names ---------------------------------------------------------------------------------------- */

std::string holt__short_name(const pb::Descriptor *type) {
  const std::string &package = type->file()->package();
  return package.empty() ? type->full_name() : type->full_name().substr(package.size() + 1);
}

std::string holt__quoted(const char *data, size_t len) {
  std::string text = "\"";
  for (size_t i = 0; i < len && i < 40; i++) {
    unsigned char c = static_cast<unsigned char>(data[i]);
    if (c == '"' || c == '\\') text += '\\';
    if (c < 32 || c == 127) {
      static const char digits[] = "0123456789abcdef";
      text += std::string("\\x") + digits[c >> 4] + digits[c & 15];
    } else {
      text += static_cast<char>(c);
    }
  }
  return text + (len > 40 ? "…\"" : "\"");
}

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

/* How many letters must change, be added or be taken away (Levenshtein). */
static size_t distance(const std::string &a, const std::string &b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) row[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); j++) {
      size_t above = row[j];
      size_t change = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      row[j] = std::min({above + 1, row[j - 1] + 1, change});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string holt__did_you_mean(const std::string &word, const std::vector<std::string> &known) {
  const std::string *best = nullptr;
  size_t best_distance = 0;
  if (word.size() > 200) return "";
  for (const std::string &candidate : known) {
    size_t now = distance(word, candidate);
    if (best != nullptr && now >= best_distance) continue;
    best = &candidate;
    best_distance = now;
  }
  if (best == nullptr || best_distance > std::max<size_t>(1, std::min(word.size(), best->size()) / 3 + 1))
    return "";
  return ", did you mean '" + *best + "'?";
}
