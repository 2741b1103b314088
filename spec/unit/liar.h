/* liar.h - a neighbour of holders of a journal that cannot be trusted: it stands between them and passes on
 * what one sends to the others altered, doubled, out of order or not at all; it forges, forks, names parents
 * that nobody has, writes entries that are too large, and says that it has what it has not.
 *
 * It has links of its own and no journal. What it has signed as it should is genuine, and may be admitted. */
#ifndef HOLT_UNIT_LIAR_H
#define HOLT_UNIT_LIAR_H

#include "base/rand.h"
#include "env/sim.h"
#include "journal/journal_impl.h" /* crypto, and holt__dag_ops */
#include "transport/transport.h"
#include "unit.h"
#include "wire/wire.h"

enum {
  LIAR_HEAD = 6,      /* of a message: name of the journal, flags */
  LIAR_KEPT = 128,    /* messages that it has seen */
  LIAR_REFS = 64,     /* tips that it was told */
  LIAR_AUTHORS = 4,   /* chains of its own */
  LIAR_WRITES = 30,   /* runs of each: at most so many branches, which is below what is kept */
  LIAR_PLOTS = 128,   /* places where they may go on */
  LIAR_GENUINE = 512, /* entries that it has signed */
  LIAR_FLOOD = 1300   /* runs without parents: more than the pen takes */
};

struct liar_plot {
  unsigned author;
  uint64_t next;
  uint8_t prev[HOLT_DAG_HASH];
};

struct liar {
  struct holt_env *env;
  struct holt_transport *transport;
  struct holt_links *links;
  struct holt_rand *chance;
  struct holt_crypto *crypto;
  struct holt_dag_ops ops;
  struct holt_dag_limits limits;
  struct holt_signer *directory, *chains[LIAR_AUTHORS];
  unsigned author_count, writes[LIAR_AUTHORS];
  struct liar_plot plots[LIAR_PLOTS];
  unsigned plot_count;
  uint8_t genuine[LIAR_GENUINE][HOLT_DAG_HASH];
  unsigned genuine_count;
  struct holt_dag_ref refs[LIAR_REFS];
  unsigned ref_count;
  struct holt_msg *kept[LIAR_KEPT];
  unsigned kept_count;
  bool is_mute;  /* it passes nothing on */
  bool is_tired; /* it tells nothing new any more, and goes on being bad at passing things on */
  uint64_t serial;
  uint64_t told;  /* messages sent, and tips in them: each may make one ask */
  uint64_t asked; /* for entries */
  unsigned altered, withheld, repeated, forged, oversized, parentless;
};

static bool liar_rolls(struct liar *l, uint64_t sides) {
  return holt_rand_below(l->chance, sides) == 0;
}

/* --- Sending ----------------------------------------------------------------------------------------- */

static void liar_send(struct liar *l, struct holt_link *link, struct holt_msg *msg) {
  struct holt_dag_message m;
  if (!holt_link_is_up(link) || holt_link_room(link, HOLT_LANE_JOURNAL, msg->len) != 0) return;
  bool is_have = holt_dag_message_decode(holt_buf(msg->data + LIAR_HEAD, msg->len - LIAR_HEAD), &m) == 0 &&
                 m.type == HOLT_DAG_HAVE;
  l->told += 1 + (is_have ? m.count : 0);
  struct holt_msg *copy = holt_msg_new(HOLT_WIRE_JOURNAL, msg->len);
  memcpy(copy->data, msg->data, msg->len);
  copy->is_quiet = true;
  copy->born_ms = holt_env_now_ms(l->env);
  holt_link_send(link, HOLT_LANE_JOURNAL, copy);
  holt_msg_release(copy);
}

static struct holt_link *liar_any_link(struct liar *l) {
  struct holt_link *link = holt_links_first(l->links), *found = NULL;
  for (uint64_t seen = 1; link != NULL; link = holt_links_next(l->links, link), seen++)
    if (holt_rand_below(l->chance, seen) == 0) found = link;
  return found;
}

static void liar_keep(struct liar *l, struct holt_msg *msg) {
  unsigned at = l->kept_count < LIAR_KEPT ? l->kept_count++ : (unsigned)holt_rand_below(l->chance, LIAR_KEPT);
  if (l->kept[at] != NULL) holt_msg_release(l->kept[at]);
  l->kept[at] = holt_msg_retain(msg);
}

/* `body` begins with the byte of the message's type. */
static struct holt_msg *liar_message_of(struct liar *l, const struct holt_writer *body) {
  struct holt_writer out = {0};
  holt_write_text8(&out, "shop");
  holt_write_u8(&out, liar_rolls(l, 8)); /* asks for all */
  holt_write_bytes(&out, body->data, body->len);
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_JOURNAL, out.len);
  memcpy(msg->data, out.data, out.len);
  holt_writer_free(&out);
  return msg;
}

/* To some or all; it remembers it. */
static void liar_tell(struct liar *l, const struct holt_writer *body, bool is_to_all) {
  struct holt_msg *msg = liar_message_of(l, body);
  for (struct holt_link *link = holt_links_first(l->links); link; link = holt_links_next(l->links, link))
    if (is_to_all || liar_rolls(l, 2)) liar_send(l, link, msg);
  liar_keep(l, msg);
  holt_msg_release(msg);
}

static void liar_alter(struct liar *l, struct holt_msg *msg) {
  size_t head = LIAR_HEAD; /* altered it would reach nobody */
  if (msg->len <= head) return;
  for (uint64_t bits = 1 + holt_rand_below(l->chance, 3); bits > 0; bits--)
    msg->data[head + holt_rand_below(l->chance, msg->len - head)] ^=
        (uint8_t)(1u << holt_rand_below(l->chance, 8));
  if (liar_rolls(l, 4)) msg->len = (uint32_t)(head + holt_rand_below(l->chance, msg->len - head));
  l->altered++;
}

/* What one said to us, the others hear; perhaps. */
static void liar_pass_on(struct liar *l, const struct holt_link *from, struct holt_buf body) {
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_JOURNAL, body.len);
  memcpy(msg->data, body.data, body.len);
  liar_keep(l, msg);
  for (struct holt_link *link = holt_links_first(l->links); link; link = holt_links_next(l->links, link)) {
    if (link == from) continue;
    uint64_t what = holt_rand_below(l->chance, 10);
    if (what < 3) {
      l->withheld++;
      continue;
    }
    liar_send(l, link, msg);
    if (what == 3) liar_send(l, link, msg);
    if (what > 6) continue;
    struct holt_msg *altered = holt_msg_new(HOLT_WIRE_JOURNAL, msg->len);
    memcpy(altered->data, msg->data, msg->len);
    liar_alter(l, altered);
    liar_send(l, link, altered);
    holt_msg_release(altered);
  }
  holt_msg_release(msg);
}

/* --- Hearing ------------------------------------------------------------------------------------------ */

static void liar_note_tips(struct liar *l, const struct holt_dag_message *m) {
  for (uint32_t i = 0; i < m->count; i++) {
    unsigned at = l->ref_count < LIAR_REFS ? l->ref_count++ : (unsigned)holt_rand_below(l->chance, LIAR_REFS);
    holt_dag_ref_read(m->tips + (size_t)i * (HOLT_DAG_REF + 1), &l->refs[at]);
  }
}

/* What it has written behind an opening is on that neighbour's disk. */
static void liar_note_told_back(struct liar *l, struct holt_link *link, const struct holt_dag_message *m) {
  struct holt_dag_ref ref;
  for (uint32_t i = 0; i < m->count; i++) {
    holt_dag_ref_read(m->tips + (size_t)i * (HOLT_DAG_REF + 1), &ref);
    for (unsigned a = 0; a < l->author_count; a++)
      if (ref.number > 1 && memcmp(ref.author, holt_signer_public(l->chains[a]), HOLT_DAG_KEY) == 0)
        holt_link_set_data(link, l);
  }
}

static void liar_message(void *arg, struct holt_link *link, const struct holt_link_message *message) {
  struct liar *l = arg;
  struct holt_dag_message m;
  if (message->lane == HOLT_LANE_JOURNAL && message->body.len > LIAR_HEAD) {
    struct holt_buf body = holt_buf(message->body.data + LIAR_HEAD, message->body.len - LIAR_HEAD);
    assert_int_equal(holt_dag_message_decode(body, &m), 0);
    if (m.type == HOLT_DAG_HAVE) liar_note_tips(l, &m);
    l->asked += m.type == HOLT_DAG_WANT;
    if (m.type == HOLT_DAG_HAVE) liar_note_told_back(l, link, &m);
    if (!l->is_mute) liar_pass_on(l, link, message->body);
  }
  if (holt_lane_is_numbered(message->lane)) holt_link_consume(link, message->lane, message->number);
}

/* --- Entries of its own -------------------------------------------------------------------------------- */

static struct holt_signer *liar_signer(struct liar *l) {
  uint8_t seed[HOLT_KEY_BYTES];
  for (size_t i = 0; i < sizeof seed; i++) seed[i] = (uint8_t)holt_rand_next(l->chance);
  return holt_signer_new(seed);
}

static void liar_pack(struct liar *l, const struct holt_dag_run *run, struct holt_writer *body) {
  struct holt_dag_pack pack = {0};
  holt_dag_pack_begin(&pack, body);
  for (uint32_t i = 0; i < run->count; i++)
    assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, i),
                                       i + 1 == run->count ? run->signature : NULL, &l->limits),
                     0);
  assert_int_equal(holt_dag_pack_end(&pack), run->count);
}

static void liar_tell_run(struct liar *l, const struct holt_dag_run *run, bool is_to_all) {
  struct holt_writer body = {0};
  liar_pack(l, run, &body);
  liar_tell(l, &body, is_to_all);
  holt_writer_free(&body);
}

static void liar_add(struct liar *l, struct holt_dag_run *run, uint8_t kind, struct holt_buf payload,
                     const struct holt_dag_ref *parent) {
  uint8_t parents[HOLT_DAG_REF];
  struct holt_dag_entry entry = {.kind = kind,
                                 .time_ms = ++l->serial,
                                 .name = holt_buf_text("lie"),
                                 .payload = payload,
                                 .parents = parents};
  if (parent != NULL && memcmp(parent->author, run->author, HOLT_DAG_KEY) != 0) {
    holt_dag_ref_write(parents, parent);
    entry.parent_count = 1;
  }
  assert_int_equal(holt_dag_run_add(run, &entry, &l->ops, &l->limits), 0);
}

static void liar_note_genuine(struct liar *l, const struct holt_dag_run *run) {
  for (uint32_t i = 0; i < run->count && l->genuine_count < LIAR_GENUINE; i++)
    memcpy(l->genuine[l->genuine_count++], run->items[i].hash, HOLT_DAG_HASH);
}

static void liar_note_plot(struct liar *l, unsigned author, const struct holt_dag_run *run) {
  if (l->plot_count == LIAR_PLOTS) return;
  struct liar_plot *plot = &l->plots[l->plot_count++];
  plot->author = author;
  plot->next = run->first + run->count;
  memcpy(plot->prev, holt_dag_run_tip(run), HOLT_DAG_HASH);
}

/* An opening: its certificate is of its own directory, or pretends to be another's. */
static void liar_open(struct liar *l) {
  struct holt_dag_run run = {0};
  struct holt_writer payload = {0};
  struct holt_dag_certificate certificate = {.node = "liar"};
  if (l->author_count == LIAR_AUTHORS) return;
  struct holt_signer *chain = liar_signer(l);
  memcpy(certificate.directory, holt_signer_public(l->directory), HOLT_DAG_KEY);
  assert_int_equal(holt_dag_certificate_make(&payload, &certificate, "shop", holt_signer_public(chain),
                                             &l->ops, l->directory),
                   0);
  holt_dag_run_begin(&run, holt_signer_public(chain), 1, NULL);
  liar_add(l, &run, HOLT_DAG_OPENING, holt_buf(payload.data, payload.len), NULL);
  assert_int_equal(holt_dag_run_sign(&run, "shop", &l->ops, chain), 0);
  liar_tell_run(l, &run, true);
  liar_note_plot(l, l->author_count, &run);
  l->chains[l->author_count++] = chain;
  holt_dag_run_free(&run);
  holt_writer_free(&payload);
}

/* A run that goes on where this plot ends, signed by its author. */
static void liar_make(struct liar *l, const struct liar_plot *plot, struct holt_dag_run *run,
                      const struct holt_dag_ref *parent) {
  uint8_t payload[16] = {0};
  struct holt_signer *chain = l->chains[plot->author];
  holt_dag_run_begin(run, holt_signer_public(chain), plot->next, plot->prev);
  holt_put_u64(payload, l->serial);
  for (uint64_t count = 1 + holt_rand_below(l->chance, 3); count > 0; count--)
    liar_add(l, run, HOLT_DAG_EVENT, holt_buf(payload, sizeof payload), run->count == 0 ? parent : NULL);
  assert_int_equal(holt_dag_run_sign(run, "shop", &l->ops, chain), 0);
}

/* Goes on, or forks: another may be told another branch. */
static void liar_write(struct liar *l) {
  struct holt_dag_run run = {0};
  if (l->plot_count == 0) return;
  struct liar_plot *plot = &l->plots[holt_rand_below(l->chance, l->plot_count)];
  unsigned author = plot->author;
  if (l->writes[author] == LIAR_WRITES) return;
  l->writes[author]++;
  const struct holt_dag_ref *parent =
      l->ref_count > 0 && liar_rolls(l, 2) ? &l->refs[holt_rand_below(l->chance, l->ref_count)] : NULL;
  liar_make(l, plot, &run, parent);
  liar_tell_run(l, &run, liar_rolls(l, 3));
  liar_note_genuine(l, &run);
  if (liar_rolls(l, 3)) {
    liar_note_plot(l, author, &run); /* and the old one may be gone on with: a fork */
  } else {
    plot->next = run.first + run.count;
    memcpy(plot->prev, holt_dag_run_tip(&run), HOLT_DAG_HASH);
  }
  holt_dag_run_free(&run);
}

/* To each of them another story. */
static void liar_split(struct liar *l) {
  if (l->plot_count == 0) return;
  const struct liar_plot plot = l->plots[holt_rand_below(l->chance, l->plot_count)];
  for (struct holt_link *link = holt_links_first(l->links); link; link = holt_links_next(l->links, link)) {
    struct holt_dag_run run = {0};
    struct holt_writer body = {0};
    if (l->writes[plot.author] == LIAR_WRITES) return;
    l->writes[plot.author]++;
    liar_make(l, &plot, &run, NULL);
    liar_note_genuine(l, &run);
    liar_pack(l, &run, &body);
    struct holt_msg *msg = liar_message_of(l, &body);
    liar_send(l, link, msg);
    holt_msg_release(msg);
    holt_writer_free(&body);
    holt_dag_run_free(&run);
  }
}

/* It names what nobody has: of an author that is known, or of none. */
static void liar_name_nothing(struct liar *l) {
  struct holt_dag_run run = {0};
  struct holt_dag_ref nothing = {.number = 1 + holt_rand_below(l->chance, 50)};
  if (l->plot_count == 0) return;
  const struct liar_plot *plot = &l->plots[holt_rand_below(l->chance, l->plot_count)];
  if (l->ref_count > 0) nothing = l->refs[holt_rand_below(l->chance, l->ref_count)];
  if (memcmp(nothing.author, holt_signer_public(l->chains[plot->author]), HOLT_DAG_KEY) == 0)
    nothing.author[0] ^= 1;
  for (int i = 0; i < HOLT_DAG_HASH; i++) nothing.hash[i] = (uint8_t)holt_rand_next(l->chance);
  liar_make(l, plot, &run, &nothing);
  liar_tell_run(l, &run, true);
  l->parentless++;
  holt_dag_run_free(&run);
}

/* Entries of an author who has signed something else; too large ones. */
static void liar_forge(struct liar *l) {
  struct holt_dag_run run = {0};
  if (l->ref_count == 0) return;
  const struct holt_dag_ref *victim = &l->refs[holt_rand_below(l->chance, l->ref_count)];
  holt_dag_run_begin(&run, victim->author, victim->number + 1, victim->hash);
  liar_add(l, &run, HOLT_DAG_EVENT, holt_buf_text("forged"), NULL);
  assert_int_equal(holt_dag_run_sign(&run, "shop", &l->ops, l->directory), 0);
  liar_tell_run(l, &run, true);
  l->forged++;
  holt_dag_run_free(&run);
}

static void liar_write_too_much(struct liar *l) {
  static const uint8_t payload[40000];
  struct holt_dag_run run = {0};
  if (l->plot_count == 0) return;
  const struct liar_plot *plot = &l->plots[holt_rand_below(l->chance, l->plot_count)];
  holt_dag_run_begin(&run, holt_signer_public(l->chains[plot->author]), plot->next, plot->prev);
  liar_add(l, &run, HOLT_DAG_EVENT, holt_buf(payload, sizeof payload), NULL);
  assert_int_equal(holt_dag_run_sign(&run, "shop", &l->ops, l->chains[plot->author]), 0);
  liar_tell_run(l, &run, true);
  l->oversized++;
  holt_dag_run_free(&run);
}

/* Says that it has what it was told of, or what is nowhere. */
static void liar_boast(struct liar *l) {
  struct holt_writer body = {0};
  uint32_t count = l->ref_count < 8 ? l->ref_count : 8;
  holt_write_u8(&body, HOLT_DAG_HAVE);
  holt_write_u8(&body, liar_rolls(l, 2) ? HOLT_DAG_HAVE_BEGIN | HOLT_DAG_HAVE_END : 0);
  holt_write_u16(&body, (uint16_t)count);
  for (uint32_t i = 0; i < count; i++) {
    struct holt_dag_ref ref = l->refs[holt_rand_below(l->chance, l->ref_count)];
    if (liar_rolls(l, 2)) ref.number += holt_rand_below(l->chance, 20);
    if (liar_rolls(l, 3)) ref.hash[0] ^= 1;
    holt_dag_ref_write(holt_writer_grow(&body, HOLT_DAG_REF), &ref);
    holt_write_u8(&body, (uint8_t)holt_rand_below(l->chance, 3));
  }
  liar_tell(l, &body, liar_rolls(l, 2));
  holt_writer_free(&body);
}

static void liar_repeat(struct liar *l) {
  struct holt_link *link = liar_any_link(l);
  if (link == NULL || l->kept_count == 0) return;
  liar_send(l, link, l->kept[holt_rand_below(l->chance, l->kept_count)]);
  l->repeated++;
}

/* --- Its life ----------------------------------------------------------------------------------------- */

/* So many that the pen cannot hold them. */
static void liar_flood(struct liar *l, struct holt_sim *sim) {
  for (int i = 0; i < LIAR_FLOOD; i++) {
    liar_name_nothing(l);
    if (i % 50 == 0) holt_sim_run(sim, 5);
  }
}

static void liar_act(struct liar *l) {
  uint64_t what = holt_rand_below(l->chance, 16);
  if (l->is_tired || holt_links_first(l->links) == NULL) return;
  if (what < 2)
    liar_open(l);
  else if (what < 6)
    liar_write(l);
  else if (what == 6)
    liar_split(l);
  else if (what == 7)
    liar_name_nothing(l);
  else if (what == 8)
    liar_forge(l);
  else if (what == 9)
    liar_write_too_much(l);
  else if (what < 12)
    liar_boast(l);
  else
    liar_repeat(l);
}

static bool liar_has_signed(const struct liar *l, const uint8_t hash[HOLT_DAG_HASH]) {
  for (unsigned i = 0; i < l->genuine_count; i++)
    if (memcmp(l->genuine[i], hash, HOLT_DAG_HASH) == 0) return true;
  return false;
}

/* It dials nobody yet. `env` is taken, `chance` borrowed. */
static struct liar *liar_new(struct holt_env *env, struct holt_rand *chance) {
  static const struct holt_links_ops ops = {.on_message = liar_message};
  struct liar *l = calloc(1, sizeof *l);
  struct holt_links_config config = holt_links_defaults();
  l->env = env;
  l->chance = chance;
  l->transport = holt_transport_by_name(l->env, "tcp");
  config.transport = l->transport;
  config.name = "liar";
  config.channel = "holt";
  config.id = 1 + holt_rand_below(l->chance, UINT32_MAX);
  config.boot = 1 + holt_rand_below(l->chance, UINT32_MAX);
  config.timeout_ms = 1000;
  config.backoff_max_ms = 500;
  l->links = holt_links_new(l->env, &config, &ops, l);
  l->crypto = holt_crypto_new();
  l->ops = holt__dag_ops(l->crypto);
  holt_dag_limits_default(&l->limits);
  l->directory = liar_signer(l);
  return l;
}

static void liar_free(struct liar *l) {
  holt_links_free(l->links);
  holt_transport_free(l->transport);
  holt_env_free(l->env);
  for (unsigned i = 0; i < l->kept_count; i++) holt_msg_release(l->kept[i]);
  for (unsigned i = 0; i < l->author_count; i++) holt_signer_free(l->chains[i]);
  holt_signer_free(l->directory);
  holt_crypto_free(l->crypto);
  free(l);
}

#endif /* HOLT_UNIT_LIAR_H */
