/* kv_redo.c - the redo log of a store in a folder.
 *
 * - Opening: of four copies of a head (two each of the last two) the newest whole one counts.
 * - Reading: records stand side by side and are numbered. Where one is not whole, a later one with a higher
 *   number shows that it was damaged; without one it is the end, torn off by a crash.
 * - What an earlier use of a half left behind has lower numbers, so it is never taken for a record. */
#include "store/kv_redo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/mem.h"

#define MADE      "redo.new"
#define MAGIC     UINT64_C(0x6f6465722e746c68) /* "hlt.redo" */
#define RECORD    UINT32_C(0x63e5a9d1)
#define HALVES_AT ((uint64_t)4 * SLOT)

enum {
  SLOT = 4096,
  VERSION = 1,
  HEAD_BYTES = 72 + HOLT__REDO_IMAGE,
  BODY_CRC_AT = 16,  /* in the header of a record */
  HEADER_CRC_AT = 20 /* 8 bytes are left free behind it */
};

/* --- The heads ------------------------------------------------------------------------------------ */

static void encode_head(const struct holt_redo *redo, const struct holt_redo_head *head, uint8_t *out) {
  holt_put_u64(out, MAGIC);
  holt_put_u32(out + 8, VERSION);
  memcpy(out + 16, head->id, HOLT__REDO_ID);
  holt_put_u64(out + 32, redo->salt);
  holt_put_u64(out + 40, head->generation);
  holt_put_u64(out + 48, head->first);
  holt_put_u32(out + 56, head->half);
  holt_put_u32(out + 60, head->page);
  holt_put_u64(out + 64, 0);
  memcpy(out + 72, head->image, HOLT__REDO_IMAGE);
  holt_put_u32(out + 12, holt_crc32c(holt_crc32c(0, out, 12), out + 16, HEAD_BYTES - 16));
}

static bool decode_head(const uint8_t *in, struct holt_redo_head *head, uint64_t *salt) {
  if (holt_get_u64(in) != MAGIC || holt_get_u32(in + 8) != VERSION ||
      holt_get_u32(in + 12) != holt_crc32c(holt_crc32c(0, in, 12), in + 16, HEAD_BYTES - 16))
    return false;
  memcpy(head->id, in + 16, HOLT__REDO_ID);
  *salt = holt_get_u64(in + 32);
  head->generation = holt_get_u64(in + 40);
  head->first = holt_get_u64(in + 48);
  head->half = holt_get_u32(in + 56);
  head->page = holt_get_u32(in + 60);
  memcpy(head->image, in + 72, HOLT__REDO_IMAGE);
  return head->half <= 1;
}

uint64_t holt__redo_start(uint32_t half) {
  return HALVES_AT + (uint64_t)half * HOLT__REDO_HALF;
}

static int write_all(int fd, const uint8_t *data, size_t len, uint64_t at) {
  while (len > 0) {
    ssize_t n = pwrite(fd, data, len, (off_t)at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    data += n;
    len -= (size_t)n;
    at += (uint64_t)n;
  }
  return 0;
}

/* As much as there is; the rest is zeros. */
static int read_all(int fd, uint8_t *into, size_t len, uint64_t at) {
  memset(into, 0, len);
  for (size_t got = 0; got < len;) {
    ssize_t n = pread(fd, into + got, len - got, (off_t)(at + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) break;
    got += (size_t)n;
  }
  return 0;
}

int holt__redo_write_head(struct holt_redo *redo, struct holt_redo_head *head) {
  uint8_t *slots = holt_alloc(2 * SLOT);
  memset(slots, 0, 2 * SLOT);
  head->generation = redo->head.generation + 1;
  encode_head(redo, head, slots);
  memcpy(slots + SLOT, slots, SLOT);
  int rc = write_all(redo->head_fd, slots, 2 * SLOT, (head->generation & 1) * 2 * SLOT);
  if (rc == 0 && fdatasync(redo->head_fd) != 0) rc = errno;
  if (rc == 0) redo->head = *head;
  free(slots);
  return rc;
}

/* --- Life ----------------------------------------------------------------------------------------- */

static void name_in(const char *folder, const char *name, char *out, size_t cap) {
  snprintf(out, cap, "%s/%s", folder, name);
}

static int read_heads(struct holt_redo *redo) {
  uint8_t *slots = holt_alloc(4 * SLOT);
  int rc = read_all(redo->fd, slots, 4 * SLOT, 0);
  bool is_found = false;
  for (unsigned i = 0; i < 4 && rc == 0; i++) {
    struct holt_redo_head head;
    uint64_t salt;
    if (!decode_head(slots + (size_t)i * SLOT, &head, &salt)) continue;
    if (is_found && head.generation <= redo->head.generation) continue;
    redo->head = head;
    redo->salt = salt;
    is_found = true;
  }
  free(slots);
  return rc == 0 && !is_found ? EILSEQ : rc;
}

int holt__redo_open(struct holt_redo *redo, const char *folder) {
  char path[4096];
  *redo = (struct holt_redo){0};
  name_in(folder, HOLT__REDO_FILE, path, sizeof path);
  redo->fd = open(path, O_RDWR | O_CLOEXEC);
  redo->head_fd = redo->fd < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
  int rc = redo->head_fd < 0 ? errno : read_heads(redo);
  if (rc != 0) holt__redo_close(redo);
  redo->half = redo->head.half;
  redo->number = redo->head.first;
  redo->at = holt__redo_start(redo->half);
  return rc;
}

static int fill(int fd) {
  size_t total = 4 * SLOT + 2 * (size_t)HOLT__REDO_HALF;
  uint8_t *zeros = holt_alloc(total);
  memset(zeros, 0, total);
  int rc = write_all(fd, zeros, total, 0);
  if (rc == 0 && fsync(fd) != 0) rc = errno;
  free(zeros);
  return rc;
}

static int sync_folder(const char *folder) {
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int rc = fd < 0 || fsync(fd) != 0 ? errno : 0;
  if (fd >= 0) close(fd);
  return rc;
}

int holt__redo_make(struct holt_redo *redo, const char *folder, uint64_t salt) {
  char made[4096], path[4096];
  *redo = (struct holt_redo){.salt = salt, .number = 1, .at = holt__redo_start(0)};
  name_in(folder, MADE, made, sizeof made);
  name_in(folder, HOLT__REDO_FILE, path, sizeof path);
  redo->fd = open(made, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  int rc = redo->fd < 0 ? errno : fill(redo->fd);
  redo->head_fd = rc != 0 ? -1 : open(made, O_RDWR | O_CLOEXEC);
  if (rc == 0 && (redo->head_fd < 0 || rename(made, path) != 0)) rc = errno;
  if (rc == 0) rc = sync_folder(folder);
  if (rc == 0) return 0;
  unlink(made);
  holt__redo_close(redo);
  return rc;
}

void holt__redo_close(struct holt_redo *redo) {
  if (redo->fd >= 0) close(redo->fd);
  if (redo->head_fd >= 0) close(redo->head_fd);
  redo->fd = redo->head_fd = -1;
}

/* --- Appending ------------------------------------------------------------------------------------ */

void holt__redo_turn(struct holt_redo *redo) {
  redo->half = 1 - redo->half;
  redo->at = holt__redo_start(redo->half);
}

static size_t padded(size_t bytes) {
  return (bytes + 7) & ~(size_t)7;
}

bool holt__redo_has_room(const struct holt_redo *redo, size_t record_bytes) {
  return redo->at + padded(record_bytes) <= holt__redo_start(redo->half) + HOLT__REDO_HALF;
}

static uint32_t check(uint64_t salt, const uint8_t *data, size_t len) {
  uint8_t bytes[8];
  holt_put_u64(bytes, salt);
  return holt_crc32c(holt_crc32c(0, bytes, sizeof bytes), data, len);
}

int holt__redo_append(struct holt_redo *redo, struct holt_writer *record) {
  static const uint8_t zeros[8];
  size_t len = record->len - HOLT__REDO_HEADER;
  holt_write_bytes(record, zeros, padded(record->len) - record->len);
  uint8_t *header = record->data;
  holt_put_u32(header, RECORD);
  holt_put_u32(header + 4, (uint32_t)len);
  holt_put_u64(header + 8, redo->number);
  holt_put_u32(header + BODY_CRC_AT, check(redo->salt, header + HOLT__REDO_HEADER, len));
  holt_put_u32(header + HEADER_CRC_AT, check(redo->salt, header, HEADER_CRC_AT));
  holt_put_u64(header + 24, 0);
  int rc = write_all(redo->fd, header, record->len, redo->at);
  if (rc == 0 && fdatasync(redo->fd) != 0) rc = errno;
  if (rc != 0) return rc;
  redo->last_at = redo->at;
  redo->at += record->len;
  redo->number++;
  return 0;
}

int holt__redo_retract(struct holt_redo *redo) {
  static const uint8_t zeros[HOLT__REDO_HEADER];
  int rc = write_all(redo->fd, zeros, sizeof zeros, redo->last_at);
  if (rc == 0 && fdatasync(redo->fd) != 0) rc = errno;
  if (rc != 0) return rc;
  redo->at = redo->last_at;
  redo->number--;
  return 0;
}

/* --- Reading -------------------------------------------------------------------------------------- */

struct reading {
  struct holt_redo *redo;
  const uint8_t *half; /* HOLT__REDO_HALF bytes */
  size_t at;
  struct holt_buf body;
  uint64_t number;
  bool is_whole; /* its header is, when anything was found */
};

/* Whether a record's header stands here, numbered as one that is still to come. */
static bool looks_like_record(struct reading *r, size_t at) {
  const uint8_t *header = r->half + at;
  if (HOLT__REDO_HALF - at < HOLT__REDO_HEADER || holt_get_u32(header) != RECORD ||
      holt_get_u32(header + HEADER_CRC_AT) != check(r->redo->salt, header, HEADER_CRC_AT))
    return false;
  size_t len = holt_get_u32(header + 4);
  r->number = holt_get_u64(header + 8);
  if (r->number < r->redo->number || len > HOLT__REDO_HALF - at - HOLT__REDO_HEADER) return false;
  r->body = holt_buf(header + HOLT__REDO_HEADER, len);
  r->is_whole = holt_get_u32(header + BODY_CRC_AT) == check(r->redo->salt, r->body.data, len);
  return true;
}

/* Go to the next whole record of this half. */
static bool find_record(struct reading *r) {
  for (; r->at < HOLT__REDO_HALF; r->at += 8) {
    if (!looks_like_record(r, r->at)) continue;
    if (r->is_whole) return true;
    r->at += padded(HOLT__REDO_HEADER + r->body.len) - 8;
  }
  return false;
}

static int read_half(struct holt_redo *redo, uint32_t half, const uint8_t *bytes, holt_redo_each_cb each,
                     void *arg, uint64_t *lost) {
  struct reading r = {.redo = redo, .half = bytes};
  while (find_record(&r)) {
    *lost += r.number - redo->number;
    int rc = each(arg, r.body);
    if (rc != 0) return rc;
    r.at += padded(HOLT__REDO_HEADER + r.body.len);
    redo->half = half;
    redo->at = holt__redo_start(half) + r.at;
    redo->number = r.number + 1;
  }
  return 0;
}

int holt__redo_each(struct holt_redo *redo, holt_redo_each_cb each, void *arg, uint64_t *lost) {
  uint8_t *bytes = holt_alloc(HOLT__REDO_HALF);
  int rc = 0;
  *lost = 0;
  redo->half = redo->head.half;
  redo->number = redo->head.first;
  redo->at = holt__redo_start(redo->half);
  for (unsigned i = 0; i < 2 && rc == 0; i++) {
    uint32_t half = redo->head.half ^ i;
    rc = read_all(redo->fd, bytes, HOLT__REDO_HALF, holt__redo_start(half));
    if (rc == 0) rc = read_half(redo, half, bytes, each, arg, lost);
  }
  free(bytes);
  return rc;
}
