/* machine.c - all that is replicated: collections, who may ask (sessions), who is called what (labels).
 *
 * An entry of the log either opens a client's session, carries one operation of a client, labels a member, or
 * changes the membership. When a member is gone its clients are closed, its label and its subscriptions go.
 */
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster_impl.h"

void holt__machine_init(struct holt__machine *machine) {
  memset(machine, 0, sizeof *machine);
  machine->collections = holt_collections_new();
}

void holt__machine_free(struct holt__machine *machine) {
  holt_collections_free(machine->collections);
  holt_sessions_free(&machine->sessions);
  free(machine->labels);
  free(machine->clients);
  memset(machine, 0, sizeof *machine);
}

/* --- Labels and clients -------------------------------------------------------------------------------- */

const struct holt__label *holt__machine_label(const struct holt__machine *machine, uint64_t id) {
  for (size_t i = 0; i < machine->label_count; i++)
    if (machine->labels[i].id == id) return &machine->labels[i];
  return NULL;
}

const struct holt__label *holt__machine_named(const struct holt__machine *machine, const char *name) {
  for (size_t i = machine->label_count; i-- > 0;) /* the newest of two incarnations */
    if (strcmp(machine->labels[i].name, name) == 0) return &machine->labels[i];
  return NULL;
}

static struct holt__label *label_for(struct holt__machine *machine, uint64_t id) {
  struct holt__label *known = (struct holt__label *)(uintptr_t)holt__machine_label(machine, id);
  if (known) return known;
  if (machine->label_count == machine->label_cap) {
    machine->label_cap = machine->label_cap ? 2 * machine->label_cap : 8;
    machine->labels = holt_realloc(machine->labels, machine->label_cap * sizeof *machine->labels);
  }
  struct holt__label *label = &machine->labels[machine->label_count++];
  memset(label, 0, sizeof *label);
  label->id = id;
  return label;
}

static void copy_text(char *out, size_t cap, const char *text) {
  size_t len = strlen(text);
  if (len >= cap) len = cap - 1;
  memcpy(out, text, len);
  out[len] = 0;
}

bool holt__label_read(struct holt__label *label, struct holt_reader *in) {
  char name[256], address[256];
  label->id = holt_read_u64(in);
  holt_read_text8(in, name);
  holt_read_text8(in, address);
  if (in->failed || label->id == 0) return false;
  copy_text(label->name, sizeof label->name, name);
  copy_text(label->address, sizeof label->address, address);
  return true;
}

static void set_label(struct holt__machine *machine, struct holt_reader *in) {
  struct holt__label read;
  if (!holt__label_read(&read, in)) return;
  *label_for(machine, read.id) = read;
}

static void add_client(struct holt__machine *machine, uint64_t id, uint64_t member, uint64_t boot) {
  if (machine->client_count == machine->client_cap) {
    machine->client_cap = machine->client_cap ? 2 * machine->client_cap : 8;
    machine->clients = holt_realloc(machine->clients, machine->client_cap * sizeof *machine->clients);
  }
  machine->clients[machine->client_count++] = (struct holt__client){.id = id, .member = member, .boot = boot};
}

/* Close the clients of `member` from starts before `boot`. */
static void close_earlier(struct holt__machine *machine, uint64_t member, uint64_t boot) {
  size_t kept = 0;
  for (size_t i = 0; i < machine->client_count; i++) {
    struct holt__client client = machine->clients[i];
    if (client.member == member && client.boot < boot)
      holt_sessions_close(&machine->sessions, client.id);
    else
      machine->clients[kept++] = client;
  }
  machine->client_count = kept;
}

/* A request of an earlier start that comes late opens nothing. */
static bool is_outdated(const struct holt__machine *machine, uint64_t member, uint64_t boot) {
  for (size_t i = 0; i < machine->client_count; i++)
    if (machine->clients[i].member == member && machine->clients[i].boot > boot) return true;
  return false;
}

static bool is_in(const struct holt_raft_conf *conf, uint64_t id) {
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].id == id) return true;
  return false;
}

/* Nor does one of a member that is gone. */
static void open_client(struct holt__machine *machine, struct holt_reader *in) {
  uint64_t id = holt_read_u64(in), member = holt_read_u64(in), boot = holt_read_u64(in);
  if (in->failed || id == 0 || is_outdated(machine, member, boot)) return;
  if (!is_in(&machine->conf, member)) return;
  if (holt_sessions_open(&machine->sessions, id)) add_client(machine, id, member, boot);
  close_earlier(machine, member, boot);
}

static void forget_member(struct holt__machine *machine, uint64_t revision, uint64_t id) {
  holt_collections_member_left(machine->collections, revision, id);
  close_earlier(machine, id, UINT64_MAX);
  size_t kept = 0;
  for (size_t i = 0; i < machine->label_count; i++)
    if (machine->labels[i].id != id) machine->labels[kept++] = machine->labels[i];
  machine->label_count = kept;
}

static void change_conf(struct holt__machine *machine, const struct holt_raft_entry *entry) {
  struct holt_raft_conf before = machine->conf;
  if (holt_raft_conf_decode(holt_buf(entry->data, entry->len), &machine->conf) != 0) return;
  for (uint32_t i = 0; i < before.count; i++)
    if (!is_in(&machine->conf, before.members[i].id))
      forget_member(machine, entry->index, before.members[i].id);
}

/* --- Applying ------------------------------------------------------------------------------------------ */

static int code_of(enum holt_session_verdict verdict) {
  switch (verdict) {
  case HOLT_SESSION_FORGOTTEN:
    return HOLT_ENOTFOUND;
  case HOLT_SESSION_UNKNOWN:
    return HOLT_ECLOSED;
  case HOLT_SESSION_TOO_FAR:
    return HOLT_EBUSY;
  default:
    return 0;
  }
}

static void operate(struct holt__machine *machine, const struct holt_raft_entry *entry,
                    struct holt_buf command, struct holt__applied *applied) {
  struct holt_buf kept = {0};
  applied->is_operation = true;
  enum holt_session_verdict verdict =
      holt_sessions_begin(&machine->sessions, entry->client, entry->seq, entry->low, &kept);
  applied->code = code_of(verdict);
  if (verdict == HOLT_SESSION_NEW) {
    applied->room.len = 0;
    holt_collections_apply(machine->collections, entry->index, command, &applied->room);
    applied->answer = holt_buf(applied->room.data, applied->room.len);
    /* An answer too long to be kept is given to whoever waits now, and not a second time. */
    struct holt_buf keep = applied->answer;
    if (keep.len > HOLT_SESSION_RESULT_MAX) keep.len = 0;
    holt_sessions_end(&machine->sessions, entry->client, entry->seq, keep);
  } else if (verdict == HOLT_SESSION_DUPLICATE) {
    applied->answer = kept;
    if (kept.len == 0) applied->code = HOLT_ETOOLARGE;
  }
}

void holt__machine_apply(struct holt__machine *machine, const struct holt_raft_entry *entry,
                         struct holt__applied *applied) {
  applied->is_operation = false;
  applied->code = 0;
  applied->answer = holt_buf(NULL, 0);
  machine->applied = entry->index;
  machine->applied_term = entry->term;
  if (entry->type == HOLT_RAFT_CONF) change_conf(machine, entry);
  if (entry->type != HOLT_RAFT_COMMAND) return;
  struct holt_reader in = holt_reader(holt_buf(entry->data, entry->len));
  uint8_t what = holt_read_u8(&in);
  if (what == HOLT__ENTRY_OPEN)
    open_client(machine, &in);
  else if (what == HOLT__ENTRY_LABEL)
    set_label(machine, &in);
  else if (what == HOLT__ENTRY_OPERATION)
    operate(machine, entry, holt_buf(in.at, holt_reader_left(&in)), applied);
}

uint64_t holt__machine_hash(const struct holt__machine *machine) {
  uint64_t hash = holt_hash_u64(holt_collections_hash(machine->collections)) ^ machine->sessions.hash;
  for (size_t i = 0; i < machine->label_count; i++)
    hash += holt_hash_bytes(machine->labels[i].id, machine->labels[i].name, strlen(machine->labels[i].name));
  for (size_t i = 0; i < machine->client_count; i++)
    hash += holt_hash_u64(machine->clients[i].id ^ holt_hash_u64(machine->clients[i].member));
  return hash;
}

/* --- Snapshots ----------------------------------------------------------------------------------------- */

/* Head: its length u32, labels u32, each {id, name, address}, clients u32, each {id, member, boot}, sessions.
 */
void holt__machine_freeze(const struct holt__machine *machine, struct holt__freeze *freeze) {
  memset(freeze, 0, sizeof *freeze);
  struct holt_writer *head = &freeze->head;
  holt_write_u32(head, 0);
  holt_write_u32(head, (uint32_t)machine->label_count);
  for (size_t i = 0; i < machine->label_count; i++) {
    holt_write_u64(head, machine->labels[i].id);
    holt_write_text8(head, machine->labels[i].name);
    holt_write_text8(head, machine->labels[i].address);
  }
  holt_write_u32(head, (uint32_t)machine->client_count);
  for (size_t i = 0; i < machine->client_count; i++) {
    holt_write_u64(head, machine->clients[i].id);
    holt_write_u64(head, machine->clients[i].member);
    holt_write_u64(head, machine->clients[i].boot);
  }
  holt_sessions_encode(&machine->sessions, head);
  holt_put_u32(head->data, (uint32_t)(head->len - 4));
  freeze->frozen = holt_collections_freeze(machine->collections);
}

uint64_t holt__freeze_size(const struct holt__freeze *freeze) {
  return freeze->head.len + holt_frozen_size(freeze->frozen);
}

size_t holt__freeze_read(struct holt__freeze *freeze, uint8_t *out, size_t cap) {
  size_t left = freeze->head.len - freeze->head_at;
  if (left == 0) return holt_frozen_read(freeze->frozen, out, cap);
  size_t len = left < cap ? left : cap;
  memcpy(out, freeze->head.data + freeze->head_at, len);
  freeze->head_at += len;
  return len;
}

void holt__freeze_share(const struct holt__freeze *from, struct holt__freeze *to) {
  memset(to, 0, sizeof *to);
  holt_write_bytes(&to->head, from->head.data, from->head.len);
  to->frozen = holt_frozen_share(from->frozen);
}

void holt__freeze_close(struct holt__freeze *freeze) {
  holt_writer_free(&freeze->head);
  holt_frozen_free(freeze->frozen);
  memset(freeze, 0, sizeof *freeze);
}

void holt__thaw_init(struct holt__thaw *thaw) {
  memset(thaw, 0, sizeof *thaw);
  holt__machine_init(&thaw->machine);
  thaw->restore = holt_restore_new();
}

static int read_head(struct holt__machine *machine, struct holt_buf bytes) {
  struct holt_reader in = holt_reader(bytes);
  for (uint32_t left = holt_read_u32(&in); left > 0 && !in.failed; left--) set_label(machine, &in);
  for (uint32_t left = holt_read_u32(&in); left > 0 && !in.failed; left--) {
    uint64_t id = holt_read_u64(&in), member = holt_read_u64(&in), boot = holt_read_u64(&in);
    if (!in.failed) add_client(machine, id, member, boot);
  }
  if (in.failed) return HOLT_EPROTOCOL;
  int rc = holt_sessions_decode(&machine->sessions, &in);
  return rc == 0 && holt_reader_left(&in) == 0 ? 0 : HOLT_EPROTOCOL;
}

int holt__thaw_feed(struct holt__thaw *thaw, struct holt_buf piece) {
  if (!thaw->has_head) {
    holt_write_bytes(&thaw->head, piece.data, piece.len);
    if (thaw->head.len < 4) return 0;
    size_t whole = 4 + (size_t)holt_get_u32(thaw->head.data);
    if (thaw->head.len < whole) return 0;
    thaw->has_head = true;
    if (read_head(&thaw->machine, holt_buf(thaw->head.data + 4, whole - 4)) != 0) return HOLT_EPROTOCOL;
    piece = holt_buf(thaw->head.data + whole, thaw->head.len - whole);
  }
  return piece.len == 0 ? 0 : holt_restore_feed(thaw->restore, piece);
}

int holt__thaw_finish(struct holt__thaw *thaw, struct holt__machine *out) {
  struct holt_collections *collections;
  int rc = thaw->has_head ? holt_restore_finish(thaw->restore, &collections) : HOLT_EPROTOCOL;
  if (rc != 0) return rc;
  holt_collections_free(thaw->machine.collections); /* an empty one */
  thaw->machine.collections = collections;
  *out = thaw->machine;
  holt__machine_init(&thaw->machine);
  return 0;
}

struct holt_collections *holt__thaw_close(struct holt__thaw *thaw) {
  if (!thaw->restore) return NULL;
  struct holt_collections *made = holt_restore_abandon(thaw->restore);
  holt__machine_free(&thaw->machine);
  holt_writer_free(&thaw->head);
  memset(thaw, 0, sizeof *thaw);
  return made;
}
