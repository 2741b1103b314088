/* schema.h - protobuf messages from .proto text at run time.
 *
 * All work is done by libprotobuf in a library of its own, holt_schema.so, which is loaded when a schema is
 * first needed: it doubles the memory of an idle node. This header is what both sides share; it is C, and no
 * exception and no type of C++ ever crosses it. Nothing here reads a file: the caller gives the texts, and is
 * told which imports are still missing.
 *
 * One schema belongs to one thread. A schema once built does not change.
 *
 * Bounds: HOLT_SCHEMA_TEXT_MAX bytes of text a file, HOLT_SCHEMA_FILES_MAX files, brackets within brackets
 * and messages within messages at most HOLT_SCHEMA_DEPTH_MAX deep, HOLT_SCHEMA_BYTES_MAX bytes a message, and
 * HOLT_SCHEMA_TREE_MAX bytes for the values of one. */
#ifndef HOLT_SCHEMA_SCHEMA_H
#define HOLT_SCHEMA_SCHEMA_H

#include "schema/value.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  HOLT_SCHEMA_VERSION = 1, /* of this interface: program and library must agree */
  HOLT_SCHEMA_TEXT_MAX = 4 * 1024 * 1024,
  HOLT_SCHEMA_FILES_MAX = 1000,
  HOLT_SCHEMA_DEPTH_MAX = 100,
  HOLT_SCHEMA_BYTES_MAX = 64 * 1024 * 1024,
  HOLT_SCHEMA_TREE_MAX = 256 * 1024 * 1024
};

/* How a call ended, besides 0. What is wrong is told as text. */
enum holt_schema_status {
  HOLT_SCHEMA_OK = 0,
  HOLT_SCHEMA_REFUSED = 1, /* the schema, the value or the bytes are not in order */
  HOLT_SCHEMA_TOO_LARGE = 2,
  HOLT_SCHEMA_NO_MEMORY = 3
};

struct holt_schema; /* opaque: defined in protobuf.cc */

/* Where a call puts what it gives back. All that it points to lies in `arena`. */
struct holt_schema_answer {
  struct holt_arena arena;
  const char *text; /* on failure: what is wrong, NUL-terminated; may have several lines */
  size_t text_len;
  const char *bytes; /* what was asked for, on success */
  size_t bytes_len;
  struct holt_value value;
};

/* The functions of the library. `answer` is the caller's, zeroed before each call; the caller frees its
 * arena, also after a failure. Texts and values that go in are borrowed until the call returns. */
struct holt_schema_library {
  int version; /* HOLT_SCHEMA_VERSION of the library */

  /* NULL when memory is out. */
  struct holt_schema *(*make)(void);
  void (*destroy)(struct holt_schema *schema);

  /* One file. Its name stands in messages ("shop.proto:7:12: …") and is what others import it by. */
  int (*add)(struct holt_schema *schema, const char *name, const char *text, size_t len,
             struct holt_schema_answer *answer);
  /* All files of a FileDescriptorSet (what `bytes` gave): the last one is what `build` is to be called with,
   * its name is in answer->bytes. */
  int (*load)(struct holt_schema *schema, const char *set, size_t len, struct holt_schema_answer *answer);
  /* A file that is imported but was not added: its name in answer->bytes, where the import stands
   * ("shop.proto:3:1") in answer->text. No name: nothing is missing. google/protobuf/… is inside the library.
   */
  int (*missing)(struct holt_schema *schema, struct holt_schema_answer *answer);
  /* Check and join the file called `root` and what it imports. Afterwards nothing can be added, and after a
   * failure nothing but destroy be called. */
  int (*build)(struct holt_schema *schema, const char *root, struct holt_schema_answer *answer);

  /* How many messages it has, after `build`; they are numbered from 0. */
  int (*message_count)(const struct holt_schema *schema);
  /* The number of the message of this name, or -1 with the reason in answer->text. A name is full
   * ("shop.Order.Item") or its end ("Order.Item", "Item") where only one message ends so; the root file's own
   * come first. */
  int (*find)(const struct holt_schema *schema, const char *name, struct holt_schema_answer *answer);
  /* Everything a schema says, for lists and editors, in answer->value: see schema.lua. */
  int (*describe)(const struct holt_schema *schema, struct holt_schema_answer *answer);
  /* answer->bytes: a FileDescriptorSet without comments and places, files in the order of imports, the root
   * last. Equal schemas have equal bytes. */
  int (*bytes)(const struct holt_schema *schema, struct holt_schema_answer *answer);
  /* answer->bytes: the same to read, as .proto text, a comment with its name before each file. */
  int (*text)(const struct holt_schema *schema, struct holt_schema_answer *answer);

  /* Canonical bytes of a message: fields by number, keys of maps sorted. What does not fit is refused with
   * its path ("Order.items[2].qty: expected a whole number, found string \"three\""). */
  int (*encode)(const struct holt_schema *schema, int message, const struct holt_value *value,
                struct holt_schema_answer *answer);
  /* answer->value: a table. Fields that the schema does not know are left out. With `has_defaults`, absent
   * fields have their default where they cannot tell absence (see docs/codecs.md). */
  int (*decode)(const struct holt_schema *schema, int message, const char *bytes, size_t len,
                bool has_defaults, struct holt_schema_answer *answer);
  /* Whether the bytes are a message and nothing but that: fields that the schema does not know or knows as
   * something else, and numbers that are none of their enum are refused with their path. */
  int (*check)(const struct holt_schema *schema, int message, const char *bytes, size_t len,
               struct holt_schema_answer *answer);
};

#define HOLT_SCHEMA_LIBRARY_FILE   "holt_schema.so"
#define HOLT_SCHEMA_LIBRARY_SYMBOL "holt_schema_library_v1"

#ifdef __cplusplus
}
#else
#include "base/err.h"

/* The library, loaded with the first call and never let go. It is looked for beside the program and beside
 * the module holt.core, in lib/holt there, and where it was installed. NULL when it cannot be loaded: `err`
 * (HOLT_EUNSUPPORTED) says what was looked for and where, or which package is missing. */
const struct holt_schema_library *holt_schema_library(struct holt_err *err);
#endif

#endif /* HOLT_SCHEMA_SCHEMA_H */
