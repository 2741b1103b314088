/* parse.cc - .proto text to a schema, and the table of functions that the program loads.
 *
 * - add: the parser reads one text into a FileDescriptorProto and remembers where everything stands.
 * - missing: imports that nobody has added yet; google/protobuf/… comes out of libprotobuf itself.
 * - build: imports first, each file goes into the pool, which resolves names and checks all rules; what it
 *   complains about is given its line and column from what the parser remembered. */
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <memory>

#include "schema/protobuf.h"

namespace {

/* --- Problems with a place ------------------------------------------------------------------------ */

/* Lines "file:line:column: what", the first twenty. */
class Problems {
public:
  void add(const std::string &file, int line, int column, std::string what) {
    if (++count_ > 20) return;
    while (!what.empty() && (what.back() == '.' || what.back() == ' ' || what.back() == '\n'))
      what.pop_back();
    if (!text_.empty()) text_ += "\n";
    text_ += file;
    if (line >= 0) text_ += ":" + std::to_string(line + 1) + ":" + std::to_string(column + 1);
    text_ += ": " + what;
  }
  bool any() const { return count_ > 0; }
  std::string text() const {
    return count_ <= 20 ? text_ : text_ + "\nand " + std::to_string(count_ - 20) + " more";
  }

private:
  std::string text_;
  int count_ = 0;
};

class ParseErrors : public pb::io::ErrorCollector {
public:
  ParseErrors(Problems *problems, std::string file) : problems_(problems), file_(std::move(file)) {}
  void AddError(int line, int column, const std::string &what) override {
    problems_->add(file_, line, column, what);
  }

private:
  Problems *problems_;
  std::string file_;
};

/* The parser makes a message of its own for each map, whose fields stand nowhere in the text: the map that
 * `entry_field` belongs to, or NULL. */
const pb::FieldDescriptorProto *map_of(const pb::DescriptorProto &type, const pb::Message *entry_field) {
  for (const pb::DescriptorProto &nested : type.nested_type()) {
    for (const pb::FieldDescriptorProto &field : nested.field()) {
      if (&field != entry_field) continue;
      for (const pb::FieldDescriptorProto &map : type.field())
        if (map.type_name() == nested.name()) return &map;
    }
    const pb::FieldDescriptorProto *found = map_of(nested, entry_field);
    if (found != nullptr) return found;
  }
  return nullptr;
}

class BuildErrors : public pb::DescriptorPool::ErrorCollector {
public:
  BuildErrors(Problems *problems, const holt_schema_source *source) : problems_(problems), source_(source) {}
  void AddError(const std::string &file, const std::string &element, const pb::Message *descriptor,
                ErrorLocation location, const std::string &what) override {
    int line = -1, column = 0;
    if (source_ != nullptr) {
      if (location == IMPORT)
        source_->places.FindImport(descriptor, element, &line, &column);
      else
        source_->places.Find(descriptor, location, &line, &column);
    }
    for (int i = 0; line < 0 && source_ != nullptr && i < source_->proto.message_type_size(); i++) {
      const pb::FieldDescriptorProto *map = map_of(source_->proto.message_type(i), descriptor);
      if (map != nullptr) source_->places.Find(map, NAME, &line, &column);
    }
    problems_->add(file, line, column, line >= 0 ? what : element + ": " + what);
  }

private:
  Problems *problems_;
  const holt_schema_source *source_;
};

/* --- Reading one file ----------------------------------------------------------------------------- */

/* The parser, and options that are messages, recurse once a bracket: count before they do. */
bool brackets_are_shallow(const char *text, size_t len, const std::string &name, Problems *problems) {
  Problems unheard;
  ParseErrors errors(&unheard, name);
  pb::io::ArrayInputStream in(text, static_cast<int>(len));
  pb::io::Tokenizer tokens(&in, &errors);
  int depth = 0;
  while (tokens.Next()) {
    const std::string &token = tokens.current().text;
    if (token == "{" || token == "<" || token == "[" || token == "(") depth++;
    if (token == "}" || token == ">" || token == "]" || token == ")") depth--;
    if (depth > HOLT_SCHEMA_DEPTH_MAX) {
      problems->add(name, tokens.current().line, tokens.current().column,
                    "brackets lie more than " + std::to_string(HOLT_SCHEMA_DEPTH_MAX) + " deep");
      return false;
    }
  }
  return true;
}

int add(holt_schema *schema, const char *name, const char *text, size_t len, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    if (len > HOLT_SCHEMA_TEXT_MAX)
      return holt__refuse(answer, std::string(name) + ": longer than 4 MiB, which no schema should be");
    if (schema->sources.size() >= HOLT_SCHEMA_FILES_MAX)
      return holt__refuse(answer, std::string(name) + ": more than 1000 files are imported");
    if (schema->sources.count(name) != 0) return HOLT_SCHEMA_OK;
    Problems problems;
    if (!brackets_are_shallow(text, len, name, &problems)) return holt__refuse(answer, problems.text());
    holt_schema_source &source = schema->sources[name];
    ParseErrors errors(&problems, name);
    pb::io::ArrayInputStream in(text, static_cast<int>(len));
    pb::io::Tokenizer tokens(&in, &errors);
    pb::compiler::Parser parser;
    parser.RecordErrorsTo(&errors);
    parser.RecordSourceLocationsTo(&source.places);
    bool ok = parser.Parse(&tokens, &source.proto);
    source.proto.set_name(name);
    if (ok && !problems.any()) return HOLT_SCHEMA_OK;
    if (!problems.any()) problems.add(name, -1, 0, "not a schema");
    schema->sources.erase(name);
    return holt__refuse(answer, problems.text());
  });
}

int load(holt_schema *schema, const char *set, size_t len, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    pb::FileDescriptorSet files;
    pb::io::CodedInputStream in(reinterpret_cast<const uint8_t *>(set), static_cast<int>(len));
    in.SetRecursionLimit(HOLT_SCHEMA_DEPTH_MAX);
    if (len > HOLT_SCHEMA_BYTES_MAX || !files.ParseFromCodedStream(&in) || !in.ConsumedEntireMessage() ||
        files.file_size() == 0 || files.file_size() > HOLT_SCHEMA_FILES_MAX)
      return holt__refuse(answer, "these bytes are not a stored schema");
    for (const pb::FileDescriptorProto &file : files.file()) schema->sources[file.name()].proto = file;
    return holt__give(answer, files.file(files.file_size() - 1).name());
  });
}

/* --- Imports -------------------------------------------------------------------------------------- */

/* What libprotobuf carries inside: google/protobuf/timestamp.proto and its kin. */
const pb::FileDescriptor *built_in(const std::string &name) {
  if (name.compare(0, 16, "google/protobuf/") != 0) return nullptr;
  return pb::DescriptorPool::generated_pool()->FindFileByName(name);
}

int missing(holt_schema *schema, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    for (const auto &entry : schema->sources) {
      for (const std::string &name : entry.second.proto.dependency()) {
        if (schema->sources.count(name) != 0 || built_in(name) != nullptr) continue;
        int line = -1, column = 0;
        entry.second.places.FindImport(&entry.second.proto, name, &line, &column);
        std::string place = entry.first;
        if (line >= 0) place += ":" + std::to_string(line + 1) + ":" + std::to_string(column + 1);
        answer->text = holt__keep(answer, place);
        answer->text_len = place.size();
        return holt__give(answer, name);
      }
    }
    return HOLT_SCHEMA_OK;
  });
}

enum class Visit { NEW, OPEN, DONE };

/* Put `name` and what it imports into the pool, the imports first. */
bool build_file(holt_schema *schema, const std::string &name, std::map<std::string, Visit> *visits,
                const holt_schema_source *importer, int depth, Problems *problems) {
  Visit &visit = (*visits)[name];
  if (visit == Visit::DONE) return true;
  int line = -1, column = 0;
  std::string place = name;
  if (importer != nullptr) {
    importer->places.FindImport(&importer->proto, name, &line, &column);
    place = importer->proto.name();
  }
  if (visit == Visit::OPEN || depth > HOLT_SCHEMA_DEPTH_MAX) {
    problems->add(place, line, column,
                  visit == Visit::OPEN ? "importing \"" + name + "\" makes a circle"
                                       : "imports lie too deep");
    return false;
  }
  visit = Visit::OPEN;
  auto found = schema->sources.find(name);
  const holt_schema_source *source = found != schema->sources.end() ? &found->second : nullptr;
  pb::FileDescriptorProto copy;
  const pb::FileDescriptorProto *proto = source != nullptr ? &source->proto : &copy;
  if (source == nullptr) {
    const pb::FileDescriptor *inside = built_in(name);
    if (inside == nullptr) {
      problems->add(place, line, column, "\"" + name + "\" was not found");
      return false;
    }
    inside->CopyTo(&copy);
  }
  for (const std::string &import : proto->dependency())
    if (!build_file(schema, import, visits, source, depth + 1, problems)) return false;
  BuildErrors errors(problems, source);
  const pb::FileDescriptor *file = schema->pool.BuildFileCollectingErrors(*proto, &errors);
  if (file == nullptr || problems->any()) {
    if (!problems->any()) problems->add(name, -1, 0, "not a schema");
    return false;
  }
  schema->files.push_back(file);
  (*visits)[name] = Visit::DONE;
  return true;
}

/* --- Names of messages ---------------------------------------------------------------------------- */

void list_message(holt_schema *schema, const pb::Descriptor *type) {
  if (type->options().map_entry()) return;
  int number = static_cast<int>(schema->messages.size());
  schema->messages.push_back(type);
  const std::string &name = type->full_name();
  for (size_t dot = 0; dot != std::string::npos; dot = name.find('.', dot)) {
    if (dot > 0) dot++;
    schema->name_ends[name.substr(dot)].push_back(number);
  }
  for (int i = 0; i < type->nested_type_count(); i++) list_message(schema, type->nested_type(i));
}

int build(holt_schema *schema, const char *root, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    Problems problems;
    std::map<std::string, Visit> visits;
    if (!build_file(schema, root, &visits, nullptr, 0, &problems))
      return holt__refuse(answer, problems.text());
    for (auto file = schema->files.rbegin(); file != schema->files.rend(); ++file)
      for (int i = 0; i < (*file)->message_type_count(); i++) list_message(schema, (*file)->message_type(i));
    for (const pb::Descriptor *type : schema->messages)
      schema->prototypes.push_back(schema->factory.GetPrototype(type));
    return HOLT_SCHEMA_OK;
  });
}

/* Of several messages with this end of a name the one that is meant, or -1. */
int choose(const holt_schema *schema, const std::string &name, const std::vector<int> &candidates) {
  const pb::FileDescriptor *root = schema->files.back();
  if (candidates.size() == 1) return candidates[0];
  for (int number : candidates)
    if (schema->messages[number]->full_name() == name) return number;
  for (int number : candidates)
    if (schema->messages[number]->file() == root && holt__short_name(schema->messages[number]) == name)
      return number;
  return -1;
}

int find(const holt_schema *schema, const char *name, holt_schema_answer *answer) {
  int result = -1;
  holt__guard(answer, [&]() -> int {
    auto found = schema->name_ends.find(name);
    if (found == schema->name_ends.end()) {
      std::vector<std::string> known;
      for (const auto &entry : schema->name_ends) known.push_back(entry.first);
      return holt__refuse(answer, "the schema has no message '" + std::string(name) + "'" +
                                      holt__did_you_mean(name, known));
    }
    result = choose(schema, name, found->second);
    if (result >= 0) return HOLT_SCHEMA_OK;
    std::string text = "several messages are called '" + std::string(name) + "':";
    for (int number : found->second) text += " " + schema->messages[number]->full_name();
    return holt__refuse(answer, text);
  });
  return result;
}

/* --- The schema as bytes and as text -------------------------------------------------------------- */

int give_bytes(const holt_schema *schema, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    pb::FileDescriptorSet set;
    for (const pb::FileDescriptor *file : schema->files) {
      file->CopyTo(set.add_file());
      file->CopyJsonNameTo(set.mutable_file(set.file_size() - 1));
    }
    std::string bytes;
    {
      pb::io::StringOutputStream stream(&bytes);
      pb::io::CodedOutputStream out(&stream);
      out.SetSerializationDeterministic(true);
      set.SerializeToCodedStream(&out);
    }
    return holt__give(answer, bytes);
  });
}

int give_text(const holt_schema *schema, holt_schema_answer *answer) {
  return holt__guard(answer, [&]() -> int {
    std::string text;
    for (const pb::FileDescriptor *file : schema->files)
      text += "// " + file->name() + "\n" + file->DebugString() + "\n";
    return holt__give(answer, text);
  });
}

int message_count(const holt_schema *schema) {
  return static_cast<int>(schema->messages.size());
}

holt_schema *make() {
  pb::LogSilencer silence;
  try {
    return new holt_schema;
  } catch (...) {
    return nullptr;
  }
}

void destroy(holt_schema *schema) {
  pb::LogSilencer silence;
  try {
    delete schema;
  } catch (...) { /* nothing to be done, nobody to tell */
  }
}

} // namespace

pb::Message *holt__new_message(const holt_schema *schema, int message) {
  return schema->prototypes[message]->New();
}

extern "C" __attribute__((visibility("default")))
const holt_schema_library holt_schema_library_v1 = {HOLT_SCHEMA_VERSION,
                                                    make,
                                                    destroy,
                                                    add,
                                                    load,
                                                    missing,
                                                    build,
                                                    message_count,
                                                    find,
                                                    holt__schema_describe,
                                                    give_bytes,
                                                    give_text,
                                                    holt__schema_encode,
                                                    holt__schema_decode,
                                                    holt__schema_check};
