/* command.c - bytes of commands and of answers.
 *
 * A command: version u8, flags u8, objects u8, each {kind u8, name text8, options u16 + bytes};
 * conditions u32, each {object u8, type u8, key u16 + bytes, value u32 + bytes, revision u64};
 * operations u32, each {object u8, op u8, key u16 + bytes, value u32 + bytes, expected u32 + bytes}.
 * Fields that a type does not use are left out. Numbers are little-endian. */
#include <string.h>

#include "base/assert.h"
#include "collections/machine.h"

enum { VERSION = 1, SILENT = 1 };

enum { HAS_KEY = 1, HAS_VALUE = 2, HAS_EXPECTED = 4, HAS_REVISION = 8 };

static const uint8_t OP_FIELDS[HOLT_OPS] = {
    [HOLT_OP_SET] = HAS_KEY | HAS_VALUE,
    [HOLT_OP_INSERT] = HAS_KEY | HAS_VALUE,
    [HOLT_OP_UPDATE] = HAS_KEY | HAS_VALUE,
    [HOLT_OP_UPDATE_IF] = HAS_KEY | HAS_VALUE | HAS_EXPECTED,
    [HOLT_OP_REMOVE] = HAS_KEY,
    [HOLT_OP_REMOVE_IF] = HAS_KEY | HAS_EXPECTED,
    [HOLT_OP_CLEAR] = 0,
    [HOLT_OP_PUSH] = HAS_VALUE,
    [HOLT_OP_POP] = 0,
    [HOLT_OP_WITHDRAW] = HAS_KEY,
};

static const uint8_t CONDITION_FIELDS[HOLT_CONDITIONS] = {
    [HOLT_IF_ABSENT] = HAS_KEY,
    [HOLT_IF_EQUAL] = HAS_KEY | HAS_VALUE,
    [HOLT_IF_REVISION] = HAS_KEY | HAS_REVISION,
    [HOLT_IF_UNCHANGED] = HAS_REVISION,
};

/* --- Writing ------------------------------------------------------------------------------------------- */

static void write_long(struct holt_writer *out, struct holt_buf bytes) {
  holt_write_u32(out, (uint32_t)bytes.len);
  if (bytes.len > 0) holt_write_bytes(out, bytes.data, bytes.len);
}

static void write_short(struct holt_writer *out, struct holt_buf bytes) {
  HOLT_ASSERT(bytes.len <= HOLT_KEY_MAX);
  holt_write_u16(out, (uint16_t)bytes.len);
  if (bytes.len > 0) holt_write_bytes(out, bytes.data, bytes.len);
}

void holt_command_begin(struct holt_command *command, struct holt_writer *out, bool is_silent) {
  *command = (struct holt_command){.out = out};
  holt_write_u8(out, VERSION);
  holt_write_u8(out, is_silent ? SILENT : 0);
  command->conditions_at = out->len; /* for now: where the number of objects stands */
  holt_write_u8(out, 0);
}

uint8_t holt_command_object(struct holt_command *command, uint8_t kind, const char *name,
                            struct holt_buf options) {
  HOLT_ASSERT(command->objects < HOLT_COMMAND_OBJECTS_MAX);
  HOLT_ASSERT(command->ops_at == 0);
  holt_write_u8(command->out, kind);
  holt_write_text8(command->out, name);
  write_short(command->out, options);
  command->out->data[command->conditions_at] = (uint8_t)(command->objects + 1);
  return (uint8_t)command->objects++;
}

static void begin_conditions(struct holt_command *command) {
  if (command->ops_at != 0) return;
  command->conditions_at = command->out->len;
  command->ops_at = SIZE_MAX; /* not yet */
  holt_write_u32(command->out, 0);
}

static void begin_ops(struct holt_command *command) {
  begin_conditions(command);
  if (command->ops_at != SIZE_MAX) return;
  command->ops_at = command->out->len;
  holt_write_u32(command->out, 0);
}

void holt_command_condition(struct holt_command *command, uint8_t object, uint8_t type, struct holt_buf key,
                            struct holt_buf value, uint64_t revision) {
  HOLT_ASSERT(type > 0 && type < HOLT_CONDITIONS);
  begin_conditions(command);
  HOLT_ASSERT(command->ops_at == SIZE_MAX);
  uint8_t fields = CONDITION_FIELDS[type];
  holt_write_u8(command->out, object);
  holt_write_u8(command->out, type);
  if (fields & HAS_KEY) write_short(command->out, key);
  if (fields & HAS_VALUE) write_long(command->out, value);
  if (fields & HAS_REVISION) holt_write_u64(command->out, revision);
  holt_put_u32(command->out->data + command->conditions_at, ++command->conditions);
}

void holt_command_op(struct holt_command *command, uint8_t object, uint8_t op, struct holt_buf key,
                     struct holt_buf value, struct holt_buf expected) {
  HOLT_ASSERT(op > 0 && op < HOLT_OPS);
  begin_ops(command);
  uint8_t fields = OP_FIELDS[op];
  holt_write_u8(command->out, object);
  holt_write_u8(command->out, op);
  if (fields & HAS_KEY) write_short(command->out, key);
  if (fields & HAS_VALUE) write_long(command->out, value);
  if (fields & HAS_EXPECTED) write_long(command->out, expected);
  holt_put_u32(command->out->data + command->ops_at, ++command->ops);
}

void holt_command_end(struct holt_command *command) {
  begin_ops(command);
}

/* --- Reading ------------------------------------------------------------------------------------------- */

static struct holt_buf read_long(struct holt_reader *in) {
  return holt_read_bytes(in, holt_read_u32(in));
}

static struct holt_buf read_short(struct holt_reader *in) {
  return holt_read_bytes(in, holt_read_u16(in));
}

static void read_condition(struct holt_reader *in, struct holt__condition *condition) {
  *condition = (struct holt__condition){0};
  condition->object = holt_read_u8(in);
  condition->type = holt_read_u8(in);
  if (condition->type == 0 || condition->type >= HOLT_CONDITIONS) {
    in->failed = true;
    return;
  }
  uint8_t fields = CONDITION_FIELDS[condition->type];
  if (fields & HAS_KEY) condition->key = read_short(in);
  if (fields & HAS_VALUE) condition->value = read_long(in);
  if (fields & HAS_REVISION) condition->revision = holt_read_u64(in);
}

static void read_op(struct holt_reader *in, struct holt__op *op) {
  *op = (struct holt__op){0};
  op->object = holt_read_u8(in);
  op->op = holt_read_u8(in);
  if (op->op == 0 || op->op >= HOLT_OPS) {
    in->failed = true;
    return;
  }
  uint8_t fields = OP_FIELDS[op->op];
  if (fields & HAS_KEY) op->key = read_short(in);
  if (fields & HAS_VALUE) op->value = read_long(in);
  if (fields & HAS_EXPECTED) op->expected = read_long(in);
}

enum { EVENT_KEY_TAIL = 9 }; /* a zero byte and a member's id */

/* Whether an object of this kind knows this operation, with such a key. */
static bool is_fitting(uint8_t kind, const struct holt__op *op) {
  switch (op->op) {
  case HOLT_OP_PUSH:
  case HOLT_OP_POP:
    return kind == HOLT_KIND_QUEUE;
  case HOLT_OP_CLEAR:
    return true;
  case HOLT_OP_WITHDRAW:
    return kind == HOLT_KIND_EMITTER && op->key.len == 8;
  default:
    if (kind == HOLT_KIND_EMITTER)
      return op->key.len >= EVENT_KEY_TAIL && op->key.data[op->key.len - EVENT_KEY_TAIL] == 0;
    return kind == HOLT_KIND_MAP || kind == HOLT_KIND_RECORD;
  }
}

static void read_objects(struct holt__command_view *view) {
  struct holt_reader *in = &view->rest;
  view->object_count = holt_read_u8(in);
  for (uint32_t i = 0; i < view->object_count && !in->failed; i++) {
    struct holt__command_object *object = &view->objects[i];
    object->kind = holt_read_u8(in);
    object->name = holt_read_bytes(in, holt_read_u8(in));
    object->options = read_short(in);
    bool is_sound = object->kind > 0 && object->kind < HOLT_KINDS && object->name.len > 0 &&
                    !memchr(object->name.data, 0, object->name.len);
    if (!in->failed && !is_sound) in->failed = true;
  }
}

int holt__command_view(struct holt__command_view *view, struct holt_buf bytes) {
  view->rest = holt_reader(bytes);
  struct holt_reader *in = &view->rest;
  uint8_t version = holt_read_u8(in), flags = holt_read_u8(in);
  view->is_silent = flags & SILENT;
  if (version != VERSION || flags & ~SILENT) return HOLT_EINVAL;
  read_objects(view);
  view->condition_count = holt_read_u32(in);
  if (in->failed) return HOLT_EINVAL;
  struct holt_reader look = *in;
  for (uint32_t i = 0; i < view->condition_count && !look.failed; i++) {
    struct holt__condition condition;
    read_condition(&look, &condition);
    if (condition.object >= view->object_count) look.failed = true;
  }
  view->op_count = holt_read_u32(&look);
  for (uint32_t i = 0; i < view->op_count && !look.failed; i++) {
    struct holt__op op;
    read_op(&look, &op);
    if (look.failed || op.object >= view->object_count || !is_fitting(view->objects[op.object].kind, &op))
      look.failed = true;
  }
  return look.failed || holt_reader_left(&look) != 0 ? HOLT_EINVAL : 0;
}

void holt__condition_next(struct holt__command_view *view, struct holt__condition *condition) {
  read_condition(&view->rest, condition);
}

void holt__ops_begin(struct holt__command_view *view) {
  holt_read_u32(&view->rest);
}

void holt__op_next(struct holt__command_view *view, struct holt__op *op) {
  read_op(&view->rest, op);
}

/* --- Answers ------------------------------------------------------------------------------------------- */

/* type u8; DONE: results u32, each {flags u8, [revision u64, value u32 + bytes]}; CONFLICT: at u32;
 * ERROR: code u8 (positive), at u32. */
enum { RESULT_DONE = 1, RESULT_VALUE = 2 };

int holt_answer_read(struct holt_answer *answer, struct holt_buf bytes) {
  memset(answer, 0, sizeof *answer);
  answer->rest = holt_reader(bytes);
  uint8_t type = holt_read_u8(&answer->rest);
  if (type < HOLT_ANSWER_DONE || type > HOLT_ANSWER_ERROR) return HOLT_EPROTOCOL;
  answer->type = type;
  if (type == HOLT_ANSWER_ERROR) answer->code = -holt_read_u8(&answer->rest);
  if (type == HOLT_ANSWER_DONE)
    answer->count = holt_read_u32(&answer->rest);
  else
    answer->at = holt_read_u32(&answer->rest);
  return answer->rest.failed ? HOLT_EPROTOCOL : 0;
}

int holt_answer_next(struct holt_answer *answer, struct holt_result *result) {
  memset(result, 0, sizeof *result);
  if (answer->at >= answer->count) return HOLT_ENOTFOUND;
  answer->at++;
  uint8_t flags = holt_read_u8(&answer->rest);
  result->is_done = flags & RESULT_DONE;
  result->has_value = flags & RESULT_VALUE;
  if (result->has_value) {
    result->revision = holt_read_u64(&answer->rest);
    result->value = read_long(&answer->rest);
  }
  return answer->rest.failed ? HOLT_EPROTOCOL : 0;
}
