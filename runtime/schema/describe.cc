/* describe.cc - everything a schema says, as one value: for lists of messages and for editors.
 *
 * { root =, files = { … }, messages = { { name, full_name, file, is_nested, comment?, fields = { { name,
 * number, type, label, message?, group?, enum?, key?, value?, oneof?, default?, comment? } … } } … }, enums =
 * { { name, full_name, file, values = { { name, number } … } } … } } The messages stand in the order of their
 * numbers. */
#include "schema/protobuf.h"

namespace {

using pb::FieldDescriptor;

class Describer {
public:
  Describer(const holt_schema *schema, holt_schema_answer *answer) : schema_(schema), answer_(answer) {}
  holt_value everything();

private:
  using Pairs = std::vector<holt_value>;
  void put(Pairs *pairs, const char *key, const holt_value &value) {
    pairs->push_back(holt__text(answer_, key));
    pairs->push_back(value);
  }
  void put(Pairs *pairs, const char *key, const std::string &text) {
    put(pairs, key, holt__text(answer_, text));
  }
  template <typename Descriptor> void put_comment(Pairs *pairs, const Descriptor *of);
  void put_type(Pairs *pairs, const FieldDescriptor *field, const char *key);
  holt_value default_of(const FieldDescriptor *field);
  holt_value field(const FieldDescriptor *field);
  holt_value message(const pb::Descriptor *type);
  holt_value enumeration(const pb::EnumDescriptor *type);
  void enums_of(const pb::Descriptor *type, Pairs *enums);

  const holt_schema *schema_;
  holt_schema_answer *answer_;
};

template <typename Descriptor> void Describer::put_comment(Pairs *pairs, const Descriptor *of) {
  pb::SourceLocation place;
  if (!of->GetSourceLocation(&place)) return;
  const std::string &comment =
      place.leading_comments.empty() ? place.trailing_comments : place.leading_comments;
  if (!comment.empty()) put(pairs, "comment", comment);
}

/* "int32", "string" …, or the full name of a message or enum. */
void Describer::put_type(Pairs *pairs, const FieldDescriptor *field, const char *key) {
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    put(pairs, "message", field->message_type()->full_name());
    put(pairs, key, std::string("message"));
    if (field->type() == FieldDescriptor::TYPE_GROUP) put(pairs, "group", holt__boolean(true));
  } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    put(pairs, "enum", field->enum_type()->full_name());
    put(pairs, key, std::string("enum"));
  } else {
    put(pairs, key, std::string(field->type_name()));
  }
}

holt_value Describer::default_of(const FieldDescriptor *field) {
  switch (field->cpp_type()) {
  case FieldDescriptor::CPPTYPE_INT32:
    return holt__integer(field->default_value_int32());
  case FieldDescriptor::CPPTYPE_UINT32:
    return holt__integer(field->default_value_uint32());
  case FieldDescriptor::CPPTYPE_INT64:
    return holt__integer(field->default_value_int64());
  case FieldDescriptor::CPPTYPE_UINT64:
    return holt__text(answer_, std::to_string(field->default_value_uint64()));
  case FieldDescriptor::CPPTYPE_DOUBLE:
    return holt__number(field->default_value_double());
  case FieldDescriptor::CPPTYPE_FLOAT:
    return holt__number(static_cast<double>(field->default_value_float()));
  case FieldDescriptor::CPPTYPE_BOOL:
    return holt__boolean(field->default_value_bool());
  case FieldDescriptor::CPPTYPE_ENUM:
    return holt__text(answer_, field->default_value_enum()->name());
  case FieldDescriptor::CPPTYPE_STRING:
    return holt__text(answer_, field->default_value_string());
  default:
    return holt__null();
  }
}

holt_value Describer::field(const FieldDescriptor *field) {
  Pairs pairs;
  put(&pairs, "name", field->name());
  put(&pairs, "number", holt__integer(field->number()));
  const char *label = field->is_map()                                                         ? "map"
                      : field->is_repeated()                                                  ? "repeated"
                      : field->is_required()                                                  ? "required"
                      : field->has_optional_keyword() || field->containing_oneof() != nullptr ? "optional"
                                                                                              : "plain";
  put(&pairs, "label", std::string(label));
  if (field->is_map()) {
    put(&pairs, "key", std::string(field->message_type()->map_key()->type_name()));
    put_type(&pairs, field->message_type()->map_value(), "type");
  } else {
    put_type(&pairs, field, "type");
  }
  if (field->real_containing_oneof() != nullptr) put(&pairs, "oneof", field->real_containing_oneof()->name());
  if (field->has_default_value()) put(&pairs, "default", default_of(field));
  put_comment(&pairs, field);
  return holt__table(answer_, pairs);
}

holt_value Describer::message(const pb::Descriptor *type) {
  Pairs pairs, fields;
  put(&pairs, "name", holt__short_name(type));
  put(&pairs, "full_name", type->full_name());
  put(&pairs, "file", type->file()->name());
  put(&pairs, "is_nested", holt__boolean(type->containing_type() != nullptr));
  put_comment(&pairs, type);
  for (int i = 0; i < type->field_count(); i++) fields.push_back(field(type->field(i)));
  put(&pairs, "fields", holt__list(answer_, fields));
  return holt__table(answer_, pairs);
}

holt_value Describer::enumeration(const pb::EnumDescriptor *type) {
  Pairs pairs, values;
  const std::string &package = type->file()->package();
  put(&pairs, "name", package.empty() ? type->full_name() : type->full_name().substr(package.size() + 1));
  put(&pairs, "full_name", type->full_name());
  put(&pairs, "file", type->file()->name());
  put_comment(&pairs, type);
  for (int i = 0; i < type->value_count(); i++) {
    Pairs value;
    put(&value, "name", type->value(i)->name());
    put(&value, "number", holt__integer(type->value(i)->number()));
    values.push_back(holt__table(answer_, value));
  }
  put(&pairs, "values", holt__list(answer_, values));
  return holt__table(answer_, pairs);
}

void Describer::enums_of(const pb::Descriptor *type, Pairs *enums) {
  for (int i = 0; i < type->enum_type_count(); i++) enums->push_back(enumeration(type->enum_type(i)));
  for (int i = 0; i < type->nested_type_count(); i++) enums_of(type->nested_type(i), enums);
}

holt_value Describer::everything() {
  Pairs all, files, messages, enums;
  for (const pb::FileDescriptor *file : schema_->files) {
    files.push_back(holt__text(answer_, file->name()));
    for (int i = 0; i < file->enum_type_count(); i++) enums.push_back(enumeration(file->enum_type(i)));
    for (int i = 0; i < file->message_type_count(); i++) enums_of(file->message_type(i), &enums);
  }
  for (const pb::Descriptor *type : schema_->messages) messages.push_back(message(type));
  put(&all, "root", schema_->files.back()->name());
  put(&all, "files", holt__list(answer_, files));
  put(&all, "messages", holt__list(answer_, messages));
  put(&all, "enums", holt__list(answer_, enums));
  return holt__table(answer_, all);
}

} // namespace

int holt__schema_describe(const holt_schema *schema, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    answer->value = Describer(schema, answer).everything();
    return HOLT_SCHEMA_OK;
  });
}
