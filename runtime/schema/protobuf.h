/* protobuf.h - what the C++ files of this folder share; nobody else includes it. */
#ifndef HOLT_SCHEMA_PROTOBUF_H
#define HOLT_SCHEMA_PROTOBUF_H

#include <google/protobuf/compiler/parser.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>

#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "schema/schema.h"

namespace pb = google::protobuf;

/* A file as it was read, and where in its text everything stands. */
struct holt_schema_source {
  pb::FileDescriptorProto proto;
  pb::compiler::SourceLocationTable places;
};

struct holt_schema {
  std::map<std::string, holt_schema_source> sources; /* what was added, by name */
  pb::DescriptorPool pool;
  pb::DynamicMessageFactory factory{&pool};
  std::vector<const pb::FileDescriptor *> files;     /* in the order of imports, the root last */
  std::vector<const pb::Descriptor *> messages;      /* the root's first */
  std::vector<const pb::Message *> prototypes;       /* of each message, made when first needed */
  std::map<std::string, std::vector<int>> name_ends; /* "Order.Item", "Item" … -> numbers of messages */
};

/* --- Answers -------------------------------------------------------------------------------------- */

/* Copied into the arena; these throw std::bad_alloc, and HOLT_SCHEMA_GUARD turns that into a status. */
char *holt__keep(holt_schema_answer *answer, const std::string &text);
void *holt__room(holt_schema_answer *answer, size_t size_bytes);
int holt__refuse(holt_schema_answer *answer, const std::string &text);
int holt__give(holt_schema_answer *answer, const std::string &bytes);
int holt__out_of_memory(holt_schema_answer *answer);

/* The body of every function of the library: no exception leaves it, and libprotobuf talks to nobody. */
template <typename Body> int holt__guard(holt_schema_answer *answer, Body body) {
  pb::LogSilencer silence;
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return holt__out_of_memory(answer);
  } catch (...) {
    answer->text = "libprotobuf gave up";
    answer->text_len = sizeof "libprotobuf gave up" - 1;
    return HOLT_SCHEMA_REFUSED;
  }
}

/* --- Values --------------------------------------------------------------------------------------- */

holt_value holt__null();
holt_value holt__boolean(bool value);
holt_value holt__integer(int64_t value);
holt_value holt__number(double value);
holt_value holt__text(holt_schema_answer *answer, const std::string &text);          /* copied */
holt_value holt__borrowed(const std::string &text);                                  /* lives in the pool */
holt_value holt__list(holt_schema_answer *answer, const std::vector<holt_value> &);  /* items copied */
holt_value holt__table(holt_schema_answer *answer, const std::vector<holt_value> &); /* key, value, … */

/* --- Names ---------------------------------------------------------------------------------------- */

/* ", did you mean 'qty'?", or nothing when no name is near. */
std::string holt__did_you_mean(const std::string &word, const std::vector<std::string> &known);
/* The name within its package: "Order.Item". */
std::string holt__short_name(const pb::Descriptor *type);
/* A text as people read it: in quotes, cut when long. */
std::string holt__quoted(const char *data, size_t len);

/* --- Parts of the library, by file ---------------------------------------------------------------- */

int holt__schema_describe(const holt_schema *schema, holt_schema_answer *answer);
int holt__schema_encode(const holt_schema *schema, int message, const holt_value *value,
                        holt_schema_answer *answer);
int holt__schema_decode(const holt_schema *schema, int message, const char *bytes, size_t len,
                        bool has_defaults, holt_schema_answer *answer);
int holt__schema_check(const holt_schema *schema, int message, const char *bytes, size_t len,
                       holt_schema_answer *answer);
/* An empty message of this type; the caller's. */
pb::Message *holt__new_message(const holt_schema *schema, int message);
/* The message that the bytes are; NULL, and the reason in the answer, when they are none. */
std::unique_ptr<pb::Message> holt__read(const holt_schema *schema, int number, const char *bytes, size_t len,
                                        holt_schema_answer *answer);

#endif /* HOLT_SCHEMA_PROTOBUF_H */
