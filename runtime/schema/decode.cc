/* decode.cc - the bytes of a message to a table of a script, and whether bytes are what a schema says.
 *
 * - libprotobuf reads the bytes into a message; cut off, malformed or too deep: refused.
 * - decode walks over its fields. What the schema does not know is passed over: it was written by a newer
 * one.
 * - check walks over the same and refuses just that: unknown fields, fields of another type, numbers that
 *   are none of their enum. */
#include <google/protobuf/io/coded_stream.h>

#include "schema/protobuf.h"

namespace {

using pb::FieldDescriptor;

/* --- Values --------------------------------------------------------------------------------------- */

class Decoder {
public:
  Decoder(holt_schema_answer *answer, bool has_defaults) : answer_(answer), has_defaults_(has_defaults) {}
  holt_value table(const pb::Message &message);

private:
  holt_value one(const pb::Message &message, const FieldDescriptor *field, int index);
  holt_value list(const pb::Message &message, const FieldDescriptor *field, int count);
  holt_value map(const pb::Message &message, const FieldDescriptor *field, int count);
  bool field(const pb::Message &message, const FieldDescriptor *field, holt_value *out);
  holt_value whole(uint64_t number);
  holt_value name_of(const FieldDescriptor *field, int number);

  holt_schema_answer *answer_;
  bool has_defaults_;
};

/* From 2^63 on no integer of Lua: as decimal digits. */
holt_value Decoder::whole(uint64_t number) {
  if (number <= static_cast<uint64_t>(INT64_MAX)) return holt__integer(static_cast<int64_t>(number));
  return holt__text(answer_, std::to_string(number));
}

holt_value Decoder::name_of(const FieldDescriptor *field, int number) {
  const pb::EnumValueDescriptor *value = field->enum_type()->FindValueByNumber(number);
  return value != nullptr ? holt__borrowed(value->name()) : holt__integer(number);
}

/* The value of a field, or of its item `index`. */
holt_value Decoder::one(const pb::Message &message, const FieldDescriptor *field, int index) {
  const pb::Reflection *r = message.GetReflection();
  bool is_item = index >= 0;
  std::string scratch;
  switch (field->cpp_type()) {
  case FieldDescriptor::CPPTYPE_INT32:
    return holt__integer(is_item ? r->GetRepeatedInt32(message, field, index) : r->GetInt32(message, field));
  case FieldDescriptor::CPPTYPE_UINT32:
    return holt__integer(is_item ? r->GetRepeatedUInt32(message, field, index)
                                 : r->GetUInt32(message, field));
  case FieldDescriptor::CPPTYPE_INT64:
    return holt__integer(is_item ? r->GetRepeatedInt64(message, field, index) : r->GetInt64(message, field));
  case FieldDescriptor::CPPTYPE_UINT64:
    return whole(is_item ? r->GetRepeatedUInt64(message, field, index) : r->GetUInt64(message, field));
  case FieldDescriptor::CPPTYPE_DOUBLE:
    return holt__number(is_item ? r->GetRepeatedDouble(message, field, index) : r->GetDouble(message, field));
  case FieldDescriptor::CPPTYPE_FLOAT:
    return holt__number(static_cast<double>(is_item ? r->GetRepeatedFloat(message, field, index)
                                                    : r->GetFloat(message, field)));
  case FieldDescriptor::CPPTYPE_BOOL:
    return holt__boolean(is_item ? r->GetRepeatedBool(message, field, index) : r->GetBool(message, field));
  case FieldDescriptor::CPPTYPE_ENUM:
    return name_of(field, is_item ? r->GetRepeatedEnumValue(message, field, index)
                                  : r->GetEnumValue(message, field));
  case FieldDescriptor::CPPTYPE_STRING:
    return holt__text(answer_, is_item ? r->GetRepeatedStringReference(message, field, index, &scratch)
                                       : r->GetStringReference(message, field, &scratch));
  case FieldDescriptor::CPPTYPE_MESSAGE:
    return table(is_item ? r->GetRepeatedMessage(message, field, index) : r->GetMessage(message, field));
  }
  return holt__null();
}

holt_value Decoder::list(const pb::Message &message, const FieldDescriptor *field, int count) {
  holt_value value = {};
  value.type = HOLT_VALUE_LIST;
  value.count = static_cast<uint32_t>(count);
  value.as.items =
      static_cast<holt_value *>(holt__room(answer_, static_cast<size_t>(count) * sizeof(holt_value)));
  for (int i = 0; i < count; i++) value.as.items[i] = one(message, field, i);
  return value;
}

holt_value Decoder::map(const pb::Message &message, const FieldDescriptor *field, int count) {
  const pb::Reflection *reflection = message.GetReflection();
  std::vector<holt_value> pairs;
  for (int i = 0; i < count; i++) {
    const pb::Message &entry = reflection->GetRepeatedMessage(message, field, i);
    pairs.push_back(one(entry, field->message_type()->map_key(), -1));
    pairs.push_back(one(entry, field->message_type()->map_value(), -1));
  }
  return holt__table(answer_, pairs);
}

/* Whether the table shall have this field, and its value. */
bool Decoder::field(const pb::Message &message, const FieldDescriptor *field, holt_value *out) {
  const pb::Reflection *reflection = message.GetReflection();
  if (field->is_repeated()) {
    int count = reflection->FieldSize(message, field);
    if (count == 0 && !has_defaults_) return false;
    *out = field->is_map() ? map(message, field, count) : list(message, field, count);
    return true;
  }
  bool is_there = reflection->HasField(message, field);
  bool tells_absence =
      field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE || field->containing_oneof() != nullptr;
  if (!is_there && (tells_absence || !has_defaults_)) return false;
  *out = one(message, field, -1);
  return true;
}

holt_value Decoder::table(const pb::Message &message) {
  const pb::Descriptor *type = message.GetDescriptor();
  std::vector<holt_value> pairs;
  holt_value value;
  for (int i = 0; i < type->field_count(); i++) {
    if (!field(message, type->field(i), &value)) continue;
    pairs.push_back(holt__borrowed(type->field(i)->name()));
    pairs.push_back(value);
  }
  if (type->extension_range_count() > 0) {
    std::vector<const FieldDescriptor *> present;
    message.GetReflection()->ListFields(message, &present);
    for (const FieldDescriptor *extension : present) {
      if (!extension->is_extension() || !field(message, extension, &value)) continue;
      pairs.push_back(holt__text(answer_, "[" + extension->full_name() + "]"));
      pairs.push_back(value);
    }
  }
  return holt__table(answer_, pairs);
}

} // namespace

/* --- Reading -------------------------------------------------------------------------------------- */

std::unique_ptr<pb::Message> holt__read(const holt_schema *schema, int number, const char *bytes, size_t len,
                                        holt_schema_answer *answer) {
  const std::string name = holt__short_name(schema->messages[number]);
  if (len > HOLT_SCHEMA_BYTES_MAX) {
    holt__refuse(answer, name + ": longer than 64 MiB");
    return nullptr;
  }
  std::unique_ptr<pb::Message> message(holt__new_message(schema, number));
  pb::io::CodedInputStream in(reinterpret_cast<const uint8_t *>(bytes), static_cast<int>(len));
  in.SetRecursionLimit(HOLT_SCHEMA_DEPTH_MAX);
  if (!message->ParsePartialFromCodedStream(&in) || !in.ConsumedEntireMessage()) {
    holt__refuse(answer, name + ": the bytes are no such message; cut off, damaged, or of another type");
    return nullptr;
  }
  if (!message->IsInitialized()) {
    std::vector<std::string> missing;
    message->FindInitializationErrors(&missing);
    holt__refuse(answer, name + "." + (missing.empty() ? "?" : missing[0]) + ": required, but missing");
    return nullptr;
  }
  return message;
}

int holt__schema_decode(const holt_schema *schema, int message, const char *bytes, size_t len,
                        bool has_defaults, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    std::unique_ptr<pb::Message> object = holt__read(schema, message, bytes, len, answer);
    if (object == nullptr) return HOLT_SCHEMA_REFUSED;
    answer->value = Decoder(answer, has_defaults).table(*object);
    return HOLT_SCHEMA_OK;
  });
}
