/* check.cc - whether bytes are what a schema says, and nothing else: for a schema that has changed.
 *
 * Refused, with the path of the field: fields that the schema does not know or knows as something else,
 * numbers that are none of their enum or too wide for their field, texts that are not UTF-8. Not seen,
 * because the bytes do not show it: a field that has another name or meaning now, signed numbers that became
 * unsigned. */
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/unknown_field_set.h>
#include <google/protobuf/wire_format.h>

#include "schema/protobuf.h"

namespace {

using pb::FieldDescriptor;

std::string step_of(const FieldDescriptor *field, int index) {
  std::string step = "." + (field->is_extension() ? "[" + field->full_name() + "]" : field->name());
  if (index >= 0) step += "[" + std::to_string(index + 1) + "]";
  return step;
}

class Checker {
public:
  bool message(const pb::Message &message);
  bool widths(const pb::Descriptor *type, const pb::UnknownFieldSet &fields);
  std::string path, problem;

private:
  bool fail(const std::string &step, const std::string &what) {
    path = step;
    problem = what;
    return false;
  }
  bool unknown(const pb::Descriptor *type, const pb::UnknownField &field);
  bool item(const pb::Message &message, const FieldDescriptor *field, int index);
  bool width(const FieldDescriptor *field, uint64_t varint);
  bool width_within(const FieldDescriptor *field, const std::string &bytes);
};

const char *wire_word(const pb::UnknownField &field) {
  switch (field.type()) {
  case pb::UnknownField::TYPE_VARINT:
    return "a varint";
  case pb::UnknownField::TYPE_FIXED32:
    return "4 bytes";
  case pb::UnknownField::TYPE_FIXED64:
    return "8 bytes";
  case pb::UnknownField::TYPE_LENGTH_DELIMITED:
    return "a run of bytes";
  default:
    return "a group";
  }
}

bool Checker::unknown(const pb::Descriptor *type, const pb::UnknownField &unknown) {
  const FieldDescriptor *field = type->FindFieldByNumber(unknown.number());
  if (field == nullptr)
    return fail("", "field number " + std::to_string(unknown.number()) + " is there, " + wire_word(unknown) +
                        ", but message " + holt__short_name(type) + " has none of that number");
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM && unknown.type() == pb::UnknownField::TYPE_VARINT)
    return fail(step_of(field, -1), "enum " + field->enum_type()->name() + " has no value " +
                                        std::to_string(static_cast<int64_t>(unknown.varint())));
  return fail(step_of(field, -1), std::string("the bytes hold ") + wire_word(unknown) + ", the schema says " +
                                      field->type_name());
}

bool Checker::item(const pb::Message &message, const FieldDescriptor *field, int index) {
  const pb::Reflection *r = message.GetReflection();
  bool is_item = index >= 0;
  std::string scratch;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (this->message(is_item ? r->GetRepeatedMessage(message, field, index) : r->GetMessage(message, field)))
      return true;
    path.insert(0, step_of(field, index));
    return false;
  }
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    int number = is_item ? r->GetRepeatedEnumValue(message, field, index) : r->GetEnumValue(message, field);
    if (field->enum_type()->FindValueByNumber(number) == nullptr)
      return fail(step_of(field, index),
                  "enum " + field->enum_type()->name() + " has no value " + std::to_string(number));
  }
  if (field->type() == FieldDescriptor::TYPE_STRING) {
    const std::string &text = is_item ? r->GetRepeatedStringReference(message, field, index, &scratch)
                                      : r->GetStringReference(message, field, &scratch);
    if (!pb::internal::IsStructurallyValidUTF8(text.data(), static_cast<int>(text.size())))
      return fail(step_of(field, index), "expected UTF-8, found " + holt__quoted(text.data(), text.size()));
  }
  return true;
}

bool Checker::message(const pb::Message &message) {
  const pb::Reflection *reflection = message.GetReflection();
  const pb::UnknownFieldSet &rest = reflection->GetUnknownFields(message);
  if (!rest.empty()) return unknown(message.GetDescriptor(), rest.field(0));
  std::vector<const FieldDescriptor *> present;
  reflection->ListFields(message, &present);
  for (const FieldDescriptor *field : present) {
    int count = field->is_repeated() ? reflection->FieldSize(message, field) : 0;
    if (!field->is_repeated() && !item(message, field, -1)) return false;
    for (int i = 0; i < count; i++)
      if (!item(message, field, i)) return false;
  }
  return true;
}

/* --- Numbers that are too wide for their field ------------------------------------------------------ */

/* libprotobuf cuts them in silence; so the bytes are read once more, without a schema. */
bool Checker::width(const FieldDescriptor *field, uint64_t varint) {
  int64_t number = static_cast<int64_t>(varint);
  bool fits = true;
  switch (field->type()) {
  case FieldDescriptor::TYPE_INT32:
  case FieldDescriptor::TYPE_ENUM:
    fits = number >= INT32_MIN && number <= INT32_MAX;
    break;
  case FieldDescriptor::TYPE_UINT32:
  case FieldDescriptor::TYPE_SINT32: /* both are 32 bits on the wire */
    fits = varint <= UINT32_MAX;
    break;
  case FieldDescriptor::TYPE_BOOL:
    fits = varint <= 1;
    break;
  default:
    break;
  }
  if (fits) return true;
  return fail(step_of(field, -1), "the bytes hold " + std::to_string(number) + ", out of the range of " +
                                      std::string(field->type_name()));
}

bool Checker::width_within(const FieldDescriptor *field, const std::string &bytes) {
  if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
    pb::UnknownFieldSet inner;
    if (!inner.ParseFromString(bytes)) return true; /* was judged before */
    if (widths(field->message_type(), inner)) return true;
    path.insert(0, step_of(field, -1));
    return false;
  }
  bool is_packed = field->is_packable() && pb::internal::WireFormat::WireTypeForFieldType(field->type()) ==
                                               pb::internal::WireFormatLite::WIRETYPE_VARINT;
  if (!is_packed) return true;
  pb::io::CodedInputStream in(reinterpret_cast<const uint8_t *>(bytes.data()),
                              static_cast<int>(bytes.size()));
  uint64_t varint;
  while (in.ReadVarint64(&varint))
    if (!width(field, varint)) return false;
  return true;
}

bool Checker::widths(const pb::Descriptor *type, const pb::UnknownFieldSet &fields) {
  for (int i = 0; i < fields.field_count(); i++) {
    const pb::UnknownField &found = fields.field(i);
    const FieldDescriptor *field = type->FindFieldByNumber(found.number());
    if (field == nullptr) continue;
    if (found.type() == pb::UnknownField::TYPE_VARINT && !width(field, found.varint())) return false;
    if (found.type() == pb::UnknownField::TYPE_LENGTH_DELIMITED &&
        !width_within(field, found.length_delimited()))
      return false;
    if (found.type() != pb::UnknownField::TYPE_GROUP || field->type() != FieldDescriptor::TYPE_GROUP)
      continue;
    if (widths(field->message_type(), found.group())) continue;
    path.insert(0, step_of(field, -1));
    return false;
  }
  return true;
}

} // namespace

int holt__schema_check(const holt_schema *schema, int message, const char *bytes, size_t len,
                       holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    std::unique_ptr<pb::Message> object = holt__read(schema, message, bytes, len, answer);
    if (object == nullptr) return HOLT_SCHEMA_REFUSED;
    Checker checker;
    pb::UnknownFieldSet fields;
    if (checker.message(*object) && (!fields.ParseFromArray(bytes, static_cast<int>(len)) ||
                                     checker.widths(schema->messages[message], fields)))
      return HOLT_SCHEMA_OK;
    return holt__refuse(answer,
                        holt__short_name(schema->messages[message]) + checker.path + ": " + checker.problem);
  });
}
