/* encode.cc - a table of a script to the bytes of a message.
 *
 * - The keys of the table are looked up in the message; one that is none of its fields is refused.
 * - Fields are filled in the order of the schema, so that of several mistakes always the same one is told.
 * - The message is written with fields by number and maps by key: equal values, equal bytes.
 * A mistake is told where it lies; on the way out every level puts its step in front of the path. */
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

#include "schema/protobuf.h"

namespace {

using pb::FieldDescriptor;

std::string describe(const holt_value &value) {
  char number[40];
  switch (value.type) {
  case HOLT_VALUE_NULL:
    return "null";
  case HOLT_VALUE_BOOLEAN:
    return value.as.boolean ? "true" : "false";
  case HOLT_VALUE_INTEGER:
    return std::to_string(value.as.integer);
  case HOLT_VALUE_FLOAT:
    snprintf(number, sizeof number, "%.14g", value.as.number);
    return number;
  case HOLT_VALUE_STRING:
    return "string " + holt__quoted(value.as.text.data, value.as.text.len);
  case HOLT_VALUE_LIST:
    return value.count == 0 ? "an empty table" : "a list";
  case HOLT_VALUE_TABLE:
    return "a table";
  default:
    return "a " + std::string(value.as.text.data, value.as.text.len);
  }
}

std::string step_of(const FieldDescriptor *field) {
  return "." + (field->is_extension() ? "[" + field->full_name() + "]" : field->name());
}

std::string step_of(const holt_value &key) {
  return "[" +
         (key.type == HOLT_VALUE_STRING ? holt__quoted(key.as.text.data, key.as.text.len) : describe(key)) +
         "]";
}

struct Pair { /* of a map */
  holt_value key;
  const holt_value *value;
};

class Encoder {
public:
  bool fill(pb::Message *message, const holt_value &value, int depth);
  std::string path, problem;

private:
  bool fail(const std::string &what) {
    problem = what;
    return false;
  }
  bool fail_at(const std::string &step, const std::string &what) {
    path = step;
    return fail(what);
  }
  bool under(const std::string &step) { /* on the way out of a failure */
    path.insert(0, step);
    return false;
  }
  bool expected(const std::string &what, const holt_value &value) {
    return fail("expected " + what + ", found " + describe(value));
  }
  const FieldDescriptor *find_field(const pb::Descriptor *type, const holt_value &key);
  bool no_such_field(const pb::Descriptor *type, const std::string &name);
  bool put(pb::Message *message, const FieldDescriptor *field, const holt_value &value, int depth);
  bool put_list(pb::Message *message, const FieldDescriptor *field, const holt_value &value, int depth);
  bool put_map(pb::Message *message, const FieldDescriptor *field, const holt_value &value, int depth);
  bool put_pair(pb::Message *entry, const FieldDescriptor *field, const Pair &pair, int depth);
  bool put_text(pb::Message *message, const FieldDescriptor *field, const holt_value &value);
  bool put_enum(pb::Message *message, const FieldDescriptor *field, const holt_value &value);
  bool put_float(pb::Message *message, const FieldDescriptor *field, const holt_value &value);
  bool whole(const FieldDescriptor *field, const holt_value &value, int64_t min, uint64_t max, int64_t *out);
};

/* --- Numbers -------------------------------------------------------------------------------------- */

/* Decimal digits of at most 2^64 - 1, as decode gives what no integer of Lua can hold. */
bool parse_unsigned(const holt_value &value, int64_t *out) {
  uint64_t number = 0;
  if (value.as.text.len == 0 || value.as.text.len > 20) return false;
  for (size_t i = 0; i < value.as.text.len; i++) {
    char c = value.as.text.data[i];
    if (c < '0' || c > '9') return false;
    uint64_t digit = static_cast<uint64_t>(c - '0');
    if (number > (UINT64_MAX - digit) / 10) return false;
    number = number * 10 + digit;
  }
  *out = static_cast<int64_t>(number);
  return true;
}

/* The bits of a whole number from `min` to `max`; with max > INT64_MAX they are those of a uint64. */
bool Encoder::whole(const FieldDescriptor *field, const holt_value &value, int64_t min, uint64_t max,
                    int64_t *out) {
  bool is_wide = max > static_cast<uint64_t>(INT64_MAX);
  if (value.type == HOLT_VALUE_STRING && is_wide && parse_unsigned(value, out)) return true;
  int64_t number = 0;
  if (value.type == HOLT_VALUE_INTEGER) {
    number = value.as.integer;
  } else if (value.type == HOLT_VALUE_FLOAT && value.as.number == std::floor(value.as.number) &&
             std::isfinite(value.as.number)) {
    double top = is_wide ? 18446744073709551616.0 : 9223372036854775808.0;
    if (value.as.number < -9223372036854775808.0 || value.as.number >= top)
      return fail("out of the range of " + std::string(field->type_name()) + ": " + describe(value));
    if (value.as.number >= 9223372036854775808.0) {
      *out = static_cast<int64_t>(static_cast<uint64_t>(value.as.number));
      return true;
    }
    number = static_cast<int64_t>(value.as.number);
  } else {
    return expected("a whole number", value);
  }
  if (number < min || (number > 0 && static_cast<uint64_t>(number) > max))
    return fail("out of the range of " + std::string(field->type_name()) + ": " + describe(value));
  *out = number;
  return true;
}

bool Encoder::put_float(pb::Message *message, const FieldDescriptor *field, const holt_value &value) {
  const pb::Reflection *reflection = message->GetReflection();
  if (value.type != HOLT_VALUE_INTEGER && value.type != HOLT_VALUE_FLOAT) return expected("a number", value);
  double number = value.type == HOLT_VALUE_INTEGER ? static_cast<double>(value.as.integer) : value.as.number;
  if (value.type == HOLT_VALUE_INTEGER &&
      (number >= 9223372036854775808.0 || static_cast<int64_t>(number) != value.as.integer))
    return fail("a " + std::string(field->type_name()) + " cannot hold " + describe(value) + " exactly");
  if (std::isnan(number)) number = std::numeric_limits<double>::quiet_NaN(); /* one form */
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    field->is_repeated() ? reflection->AddDouble(message, field, number)
                         : reflection->SetDouble(message, field, number);
    return true;
  }
  if (std::isfinite(number) && std::fabs(number) > std::numeric_limits<float>::max())
    return fail("out of the range of float: " + describe(value));
  float small = static_cast<float>(number);
  field->is_repeated() ? reflection->AddFloat(message, field, small)
                       : reflection->SetFloat(message, field, small);
  return true;
}

/* --- Texts and enums ------------------------------------------------------------------------------ */

bool Encoder::put_text(pb::Message *message, const FieldDescriptor *field, const holt_value &value) {
  const pb::Reflection *reflection = message->GetReflection();
  if (value.type != HOLT_VALUE_STRING) return expected("a string", value);
  if (field->type() == FieldDescriptor::TYPE_STRING &&
      !pb::internal::IsStructurallyValidUTF8(value.as.text.data, static_cast<int>(value.as.text.len)))
    return fail("expected UTF-8, found string " + holt__quoted(value.as.text.data, value.as.text.len) +
                "; the type bytes takes anything");
  std::string text(value.as.text.data, value.as.text.len);
  if (field->is_repeated())
    reflection->AddString(message, field, std::move(text));
  else
    reflection->SetString(message, field, std::move(text));
  return true;
}

bool Encoder::put_enum(pb::Message *message, const FieldDescriptor *field, const holt_value &value) {
  const pb::EnumDescriptor *type = field->enum_type();
  int64_t number = 0;
  if (value.type == HOLT_VALUE_STRING) {
    std::string name(value.as.text.data, value.as.text.len);
    const pb::EnumValueDescriptor *found = type->FindValueByName(name);
    if (found == nullptr) {
      std::vector<std::string> known;
      known.reserve(static_cast<size_t>(type->value_count()));
      for (int i = 0; i < type->value_count(); i++) known.push_back(type->value(i)->name());
      return fail("enum " + type->name() + " has no value " + holt__quoted(name.data(), name.size()) +
                  holt__did_you_mean(name, known));
    }
    number = found->number();
  } else if (value.type != HOLT_VALUE_INTEGER && value.type != HOLT_VALUE_FLOAT) {
    return expected("a name of enum " + type->name(), value);
  } else if (!whole(field, value, INT32_MIN, INT32_MAX, &number)) {
    return false;
  } else if (type->FindValueByNumber(static_cast<int>(number)) == nullptr) {
    return fail("enum " + type->name() + " has no value " + std::to_string(number));
  }
  const pb::Reflection *reflection = message->GetReflection();
  int small = static_cast<int>(number);
  field->is_repeated() ? reflection->AddEnumValue(message, field, small)
                       : reflection->SetEnumValue(message, field, small);
  return true;
}

/* --- One value: set, or added to a repeated field --------------------------------------------------- */

bool Encoder::put(pb::Message *message, const FieldDescriptor *field, const holt_value &value, int depth) {
  const pb::Reflection *reflection = message->GetReflection();
  bool is_repeated = field->is_repeated();
  int64_t number = 0;
  switch (field->cpp_type()) {
  case FieldDescriptor::CPPTYPE_INT32: {
    if (!whole(field, value, INT32_MIN, INT32_MAX, &number)) return false;
    int32_t v = static_cast<int32_t>(number);
    is_repeated ? reflection->AddInt32(message, field, v) : reflection->SetInt32(message, field, v);
    return true;
  }
  case FieldDescriptor::CPPTYPE_UINT32: {
    if (!whole(field, value, 0, UINT32_MAX, &number)) return false;
    uint32_t v = static_cast<uint32_t>(number);
    is_repeated ? reflection->AddUInt32(message, field, v) : reflection->SetUInt32(message, field, v);
    return true;
  }
  case FieldDescriptor::CPPTYPE_INT64:
    if (!whole(field, value, INT64_MIN, INT64_MAX, &number)) return false;
    is_repeated ? reflection->AddInt64(message, field, number) : reflection->SetInt64(message, field, number);
    return true;
  case FieldDescriptor::CPPTYPE_UINT64: {
    if (!whole(field, value, 0, UINT64_MAX, &number)) return false;
    uint64_t v = static_cast<uint64_t>(number);
    is_repeated ? reflection->AddUInt64(message, field, v) : reflection->SetUInt64(message, field, v);
    return true;
  }
  case FieldDescriptor::CPPTYPE_BOOL: {
    if (value.type != HOLT_VALUE_BOOLEAN) return expected("true or false", value);
    bool v = value.as.boolean;
    is_repeated ? reflection->AddBool(message, field, v) : reflection->SetBool(message, field, v);
    return true;
  }
  case FieldDescriptor::CPPTYPE_DOUBLE:
  case FieldDescriptor::CPPTYPE_FLOAT:
    return put_float(message, field, value);
  case FieldDescriptor::CPPTYPE_STRING:
    return put_text(message, field, value);
  case FieldDescriptor::CPPTYPE_ENUM:
    return put_enum(message, field, value);
  case FieldDescriptor::CPPTYPE_MESSAGE:
    return fill(is_repeated ? reflection->AddMessage(message, field)
                            : reflection->MutableMessage(message, field),
                value, depth + 1);
  }
  return fail("a type that is not known here");
}

bool Encoder::put_list(pb::Message *message, const FieldDescriptor *field, const holt_value &value,
                       int depth) {
  if (value.type == HOLT_VALUE_TABLE && value.count > 0)
    return fail("expected a list without holes, found a table with the key " + describe(value.as.items[0]));
  if (value.type != HOLT_VALUE_LIST) return expected("a list", value);
  for (uint32_t i = 0; i < value.count; i++)
    if (!put(message, field, value.as.items[i], depth)) return under("[" + std::to_string(i + 1) + "]");
  return true;
}

/* A key as JSON has it, a text, for a map whose keys are none: "7", "true". */
bool key_from_text(const FieldDescriptor *field, const holt_value &key, holt_value *out) {
  std::string text(key.as.text.data, key.as.text.len);
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
    *out = holt__boolean(text == "true");
    return text == "true" || text == "false";
  }
  size_t digits = !text.empty() && text[0] == '-' ? 1 : 0;
  if (text.size() == digits || text.size() > 20 ||
      text.find_first_not_of("0123456789", digits) != std::string::npos)
    return false;
  errno = 0;
  long long number = std::strtoll(text.c_str(), nullptr, 10);
  if (errno != 0) return false; /* beyond 2^63: `whole` reads it as it is */
  *out = holt__integer(number);
  return true;
}

bool Encoder::put_pair(pb::Message *entry, const FieldDescriptor *field, const Pair &pair, int depth) {
  const FieldDescriptor *key_field = field->message_type()->map_key();
  if (!put(entry, key_field, pair.key, depth)) {
    problem = "as a key: " + problem;
    return false;
  }
  return put(entry, field->message_type()->map_value(), *pair.value, depth);
}

/* Keys in their order: texts by their bytes, numbers by their size, false before true. */
int compare_keys(const holt_value &a, const holt_value &b) {
  if (a.type == HOLT_VALUE_STRING && b.type == HOLT_VALUE_STRING) {
    size_t len = std::min(a.as.text.len, b.as.text.len);
    int order = len > 0 ? std::memcmp(a.as.text.data, b.as.text.data, len) : 0;
    return order != 0 ? order : (a.as.text.len > b.as.text.len) - (a.as.text.len < b.as.text.len);
  }
  if (a.type != b.type) return a.type < b.type ? -1 : 1; /* integers before the digits of those beyond 2^63 */
  if (a.type == HOLT_VALUE_BOOLEAN) return a.as.boolean - b.as.boolean;
  return (a.as.integer > b.as.integer) - (a.as.integer < b.as.integer);
}

/* The key in the one form that is compared: a whole float is an integer, the text "7" too where a number is
 * asked for (JSON has no other keys). What cannot be a key is left as it is, and refused when it is put. */
holt_value plain_key(const FieldDescriptor *key_field, const holt_value &key) {
  holt_value plain = key;
  if (key.type == HOLT_VALUE_FLOAT && key.as.number == std::floor(key.as.number) &&
      std::fabs(key.as.number) < 9e18)
    return holt__integer(static_cast<int64_t>(key.as.number));
  if (key.type != HOLT_VALUE_STRING || key_field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) return plain;
  return key_from_text(key_field, key, &plain) ? plain : key;
}

bool Encoder::put_map(pb::Message *message, const FieldDescriptor *field, const holt_value &value,
                      int depth) {
  if (value.type != HOLT_VALUE_TABLE && value.type != HOLT_VALUE_LIST) return expected("a table", value);
  std::vector<Pair> pairs;
  for (uint32_t i = 0; i < value.count; i++) {
    if (value.type == HOLT_VALUE_LIST)
      pairs.push_back({holt__integer(i + 1), &value.as.items[i]});
    else
      pairs.push_back(
          {plain_key(field->message_type()->map_key(), value.as.items[2 * i]), &value.as.items[2 * i + 1]});
  }
  std::sort(pairs.begin(), pairs.end(),
            [](const Pair &a, const Pair &b) { return compare_keys(a.key, b.key) < 0; });
  const Pair *before = nullptr;
  for (const Pair &pair : pairs) {
    if (before != nullptr && compare_keys(before->key, pair.key) == 0) {
      fail("this key is there twice");
      return under(step_of(pair.key));
    }
    before = &pair;
    pb::Message *entry = message->GetReflection()->AddMessage(message, field);
    if (!put_pair(entry, field, pair, depth + 1)) return under(step_of(pair.key));
  }
  return true;
}

/* --- Messages ------------------------------------------------------------------------------------- */

const FieldDescriptor *Encoder::find_field(const pb::Descriptor *type, const holt_value &key) {
  std::string name(key.as.text.data, key.as.text.len);
  const FieldDescriptor *field = type->FindFieldByName(name);
  if (field == nullptr && name.size() > 2 && name.front() == '[' && name.back() == ']')
    field = type->file()->pool()->FindExtensionByPrintableName(type, name.substr(1, name.size() - 2));
  return field;
}

bool Encoder::no_such_field(const pb::Descriptor *type, const std::string &name) {
  std::vector<std::string> known;
  known.reserve(static_cast<size_t>(type->field_count()));
  for (int i = 0; i < type->field_count(); i++) known.push_back(type->field(i)->name());
  return fail("there is no field " + holt__quoted(name.data(), name.size()) +
              holt__did_you_mean(name, known));
}

bool Encoder::fill(pb::Message *message, const holt_value &value, int depth) {
  const pb::Descriptor *type = message->GetDescriptor();
  if (value.type != HOLT_VALUE_TABLE && !(value.type == HOLT_VALUE_LIST && value.count == 0))
    return expected("a table of the fields of " + holt__short_name(type), value);
  if (depth > HOLT_SCHEMA_DEPTH_MAX)
    return fail("messages lie more than " + std::to_string(HOLT_SCHEMA_DEPTH_MAX) + " deep");
  std::map<int, std::pair<const FieldDescriptor *, const holt_value *>> fields; /* by number */
  const std::string *unknown = nullptr;
  std::string name;
  for (uint32_t i = 0; value.type == HOLT_VALUE_TABLE && i < value.count; i++) {
    const holt_value &key = value.as.items[2 * i], &item = value.as.items[2 * i + 1];
    if (key.type != HOLT_VALUE_STRING) return fail("fields have names; found the key " + describe(key));
    const FieldDescriptor *field = find_field(type, key);
    if (field != nullptr) {
      if (item.type != HOLT_VALUE_NULL) fields[field->number()] = {field, &item};
      continue;
    }
    std::string other(key.as.text.data, key.as.text.len);
    if (unknown == nullptr || other < name) name = std::move(other);
    unknown = &name; /* of several the first in the alphabet: tables have no order */
  }
  if (unknown != nullptr) return no_such_field(type, name);
  std::map<const pb::OneofDescriptor *, const FieldDescriptor *> chosen;
  for (const auto &entry : fields) {
    const FieldDescriptor *field = entry.second.first;
    const holt_value &item = *entry.second.second;
    const pb::OneofDescriptor *oneof = field->real_containing_oneof();
    if (oneof != nullptr && !chosen.emplace(oneof, field).second)
      return fail("'" + chosen[oneof]->name() + "' and '" + field->name() + "' exclude each other: oneof " +
                  oneof->name());
    bool ok = field->is_map()        ? put_map(message, field, item, depth)
              : field->is_repeated() ? put_list(message, field, item, depth)
                                     : put(message, field, item, depth);
    if (!ok) return under(step_of(field));
  }
  for (int i = 0; i < type->field_count(); i++)
    if (type->field(i)->is_required() && fields.count(type->field(i)->number()) == 0)
      return fail_at(step_of(type->field(i)), "required, but missing");
  return true;
}

} // namespace

int holt__schema_encode(const holt_schema *schema, int message, const holt_value *value,
                        holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    std::unique_ptr<pb::Message> object(holt__new_message(schema, message));
    Encoder encoder;
    if (!encoder.fill(object.get(), *value, 0))
      return holt__refuse(answer, holt__short_name(schema->messages[message]) + encoder.path + ": " +
                                      encoder.problem);
    size_t len = object->ByteSizeLong();
    if (len > HOLT_SCHEMA_BYTES_MAX) {
      holt__refuse(answer, holt__short_name(schema->messages[message]) + ": longer than 64 MiB");
      return HOLT_SCHEMA_TOO_LARGE;
    }
    char *bytes = static_cast<char *>(holt__room(answer, len + 1));
    pb::io::ArrayOutputStream stream(bytes, static_cast<int>(len));
    pb::io::CodedOutputStream out(&stream);
    out.SetSerializationDeterministic(true);
    object->SerializeWithCachedSizes(&out);
    out.Trim();
    if (out.HadError() || static_cast<size_t>(out.ByteCount()) != len)
      return holt__refuse(answer, "libprotobuf wrote another length than it said");
    bytes[len] = '\0';
    answer->bytes = bytes;
    answer->bytes_len = len;
    return HOLT_SCHEMA_OK;
  });
}
