/* routes.c - who serves what, and the shortest way there.
 *
 * - Each node floods its own word: its boot, whom it is linked with, what it serves, under a growing version.
 * A newer version replaces an older one and is passed on; any other is ignored, so that the flood ends.
 * - Two neighbours that come up tell each other of whom they know what version, and then only what the other
 * lacks.
 * - A new word is told soon, two at once and then ten a second at most; a lost link half a second later,
 * for it may come back until then. A call that comes by meanwhile hurries that. (Link-state routing as in
 * OSPF, RFC 2328: flooding in section 13, the exchange of what is known in 10.8, MinLSInterval in 12.4.
 * Without its areas and ageing: links are reliable.)
 * - A link counts when both its ends say that it is up. The ways are the shortest ones over such links,
 * computed when they are asked for and something has changed.
 * - A node that cannot be reached for a minute is forgotten. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bus/bus_impl.h"

#define FORGET_MS   60000
#define TIDY_MS     30000 /* the ways are looked at this often, though nobody asks */
#define LOST_MS     500   /* a lost link is told so much later */
#define UP_MS       50    /* a new one so much */
#define SPACING_MS  100   /* between two words of ours … */
#define BURST       2     /* … beyond so many */
#define KNOWN_MAX   (64 * 1024)
#define KNOWN_RANGE 16 /* lowest and highest boot that a message about known versions covers */
#define KNOWN_ENTRY 16 /* boot, version */

static void clear_route(struct holt_route *route) {
  for (size_t i = 0; i < route->subject_count; i++) free(route->subjects[i]);
  free(route->subjects);
  free(route->neighbours);
  route->subjects = NULL;
  route->neighbours = NULL;
  route->subject_count = route->neighbour_count = 0;
}

static void free_route(struct holt_bus *bus, struct holt_route *route) {
  holt_map_remove(&bus->routes.by_boot, route->boot);
  holt_list_remove(&route->node);
  bus->routes.bytes -= route->bytes;
  clear_route(route);
  free(route);
}

/* --- Telling -------------------------------------------------------------------------------------- */

static void write_route(struct holt_writer *out, const struct holt_route *route) {
  struct holt_wire_route wire = {.boot = route->boot,
                                 .version = route->version,
                                 .neighbour_count = (uint16_t)route->neighbour_count,
                                 .subject_count = (uint16_t)route->subject_count};
  snprintf(wire.name, sizeof wire.name, "%s", route->name);
  holt_wire_route_write(out, &wire);
  for (size_t i = 0; i < route->neighbour_count; i++) holt_write_u64(out, route->neighbours[i]);
  for (size_t i = 0; i < route->subject_count; i++) holt_write_text8(out, route->subjects[i]);
}

static void write_own(struct holt_bus *bus, struct holt_writer *out) {
  struct holt_wire_route wire = {.boot = bus->boot, .version = bus->routes.version};
  snprintf(wire.name, sizeof wire.name, "%s", bus->name);
  struct holt_writer neighbours = {0}, subjects = {0};
  for (struct holt_link *l = holt_links_first(bus->node_links); l != NULL;
       l = holt_links_next(bus->node_links, l)) {
    if (!holt_link_is_up(l) || wire.neighbour_count == HOLT_WIRE_NEIGHBOURS_MAX) continue;
    holt_write_u64(&neighbours, holt_link_boot(l));
    wire.neighbour_count++;
  }
  HOLT_LIST_EACH(&bus->calls.serves, node, next) {
    if (wire.subject_count == HOLT_WIRE_SUBJECTS_MAX || bus->is_closed) break;
    holt_write_text8(&subjects, HOLT_CONTAINER(node, struct holt_serve, node)->subject);
    wire.subject_count++;
  }
  holt_wire_route_write(out, &wire);
  holt_write_bytes(out, neighbours.data, neighbours.len);
  holt_write_bytes(out, subjects.data, subjects.len);
  holt_writer_free(&neighbours);
  holt_writer_free(&subjects);
}

static void send_word(struct holt_bus *bus, struct holt_link *link, const struct holt_link *except,
                      struct holt_buf word) {
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_ROUTE, word.len);
  if (msg == NULL) return; /* the next change tells it again */
  memcpy(msg->data, word.data, word.len);
  msg->born_ms = holt_env_now_ms(bus->env);
  msg->is_quiet = true;
  if (link != NULL) {
    holt_link_send(link, HOLT_LANE_CALL, msg);
  } else {
    struct holt_links *links = bus->node_links;
    for (struct holt_link *l = holt_links_first(links); l != NULL; l = holt_links_next(links, l))
      if (l != except && holt_link_is_up(l)) holt_link_send(l, HOLT_LANE_CALL, msg);
  }
  holt_msg_release(msg);
}

/* Tell our word, should it differ from the one told last. */
static void tell(void *arg) {
  struct holt_bus *bus = arg;
  struct holt_routes *routes = &bus->routes;
  struct holt_writer out = {0};
  holt_timer_stop(&routes->tell);
  write_own(bus, &out);
  if (routes->own.len == out.len && memcmp(routes->own.data, out.data, out.len) == 0) {
    holt_writer_free(&out);
    return;
  }
  out.len = 0;
  routes->version++;
  write_own(bus, &out);
  holt_writer_free(&routes->own);
  routes->own = out;
  uint64_t now = holt_env_now_ms(bus->env);
  routes->spent_ms = (routes->spent_ms > now ? routes->spent_ms : now) + SPACING_MS;
  send_word(bus, NULL, NULL, holt_buf(out.data, out.len));
}

static void tell_in(struct holt_bus *bus, uint64_t wait_ms) {
  struct holt_routes *routes = &bus->routes;
  uint64_t now = holt_env_now_ms(bus->env), due = now + wait_ms;
  routes->is_stale = true;
  holt__calls_ways_changed(bus);
  if (bus->is_closed) return;
  if (due + BURST * SPACING_MS < routes->spent_ms) due = routes->spent_ms - BURST * SPACING_MS;
  if (holt_timer_is_active(&routes->tell) && routes->tell_ms <= due) return;
  routes->tell_ms = due;
  holt_timer_start(&routes->tell, due - now);
}

void holt__routes_changed(struct holt_bus *bus) {
  tell_in(bus, 0);
}

void holt__routes_gained(struct holt_bus *bus) {
  tell_in(bus, UP_MS);
}

void holt__routes_lost(struct holt_bus *bus) {
  tell_in(bus, LOST_MS);
}

void holt__routes_hurry(struct holt_bus *bus) {
  if (holt_timer_is_active(&bus->routes.tell) && !bus->is_closed) tell(bus);
}

void holt__routes_close(struct holt_bus *bus) {
  tell(bus);
}

/* --- Neighbours that come up ---------------------------------------------------------------------- */

static int compare_boots(const void *a, const void *b) {
  uint64_t left, right;
  memcpy(&left, a, sizeof left);
  memcpy(&right, b, sizeof right);
  return left < right ? -1 : left > right;
}

static void put_known(uint8_t *at, uint64_t boot, uint64_t version) {
  holt_put_u64(at, boot);
  holt_put_u64(at + 8, version);
}

/* (boot, version) of every word that we have, our own included, by ascending boots. */
static struct holt_writer list_known(struct holt_bus *bus) {
  struct holt_routes *routes = &bus->routes;
  size_t count = 0;
  uint64_t(*pairs)[2] = holt_alloc((routes->by_boot.count + 1) * sizeof *pairs);
  pairs[count][0] = bus->boot;
  pairs[count++][1] = routes->version;
  HOLT_LIST_EACH(&routes->all, node, next) {
    const struct holt_route *route = HOLT_CONTAINER(node, struct holt_route, node);
    pairs[count][0] = route->boot;
    pairs[count++][1] = route->version;
  }
  qsort(pairs, count, sizeof *pairs, compare_boots);
  struct holt_writer out = {0};
  uint8_t *at = holt_writer_grow(&out, count * KNOWN_ENTRY);
  for (size_t i = 0; i < count; i++) put_known(at + i * KNOWN_ENTRY, pairs[i][0], pairs[i][1]);
  free(pairs);
  return out;
}

static void send_call_lane(struct holt_bus *bus, struct holt_link *link, enum holt_wire_type type,
                           struct holt_buf head, struct holt_buf body) {
  struct holt_msg *msg = holt_msg_new((uint8_t)type, head.len + body.len);
  if (msg == NULL) return;
  memcpy(msg->data, head.data, head.len);
  memcpy(msg->data + head.len, body.data, body.len);
  msg->born_ms = holt_env_now_ms(bus->env);
  msg->is_quiet = true;
  holt_link_send(link, HOLT_LANE_CALL, msg);
  holt_msg_release(msg);
}

static void compute_ways(struct holt_bus *bus);

void holt__routes_greet(struct holt_bus *bus, struct holt_link *link) {
  if (holt_env_now_ms(bus->env) - bus->routes.ways_ms >= TIDY_MS) compute_ways(bus);
  uint32_t body_max = holt_link_frame_max(link);
  if (body_max > KNOWN_MAX) body_max = KNOWN_MAX;
  if (body_max < KNOWN_RANGE + KNOWN_ENTRY) return;
  struct holt_writer known = list_known(bus);
  size_t piece = (body_max - KNOWN_RANGE) / KNOWN_ENTRY * KNOWN_ENTRY;
  for (size_t at = 0; at < known.len;
       at += piece) { /* each says which boots it covers: those it lacks are unknown */
    size_t len = known.len - at < piece ? known.len - at : piece;
    uint8_t range[KNOWN_RANGE];
    holt_put_u64(range, at == 0 ? 0 : holt_get_u64(known.data + at));
    holt_put_u64(range + 8, at + len == known.len ? UINT64_MAX : holt_get_u64(known.data + at + len) - 1);
    send_call_lane(bus, link, HOLT_WIRE_KNOWN, holt_buf(range, sizeof range), holt_buf(known.data + at, len));
  }
  holt_writer_free(&known);
}

/* The version of `boot` in a list of ascending boots, 0 when it is not there. */
static uint64_t find_known(struct holt_buf list, uint64_t boot) {
  size_t low = 0, high = list.len / KNOWN_ENTRY;
  while (low < high) {
    size_t middle = (low + high) / 2;
    const uint8_t *at = list.data + middle * KNOWN_ENTRY;
    if (holt_get_u64(at) == boot) return holt_get_u64(at + 8);
    if (holt_get_u64(at) < boot)
      low = middle + 1;
    else
      high = middle;
  }
  return 0;
}

void holt__routes_answer(struct holt_bus *bus, struct holt_link *link, struct holt_buf known) {
  if (known.len < KNOWN_RANGE || !holt_link_is_up(link)) return;
  uint64_t lowest = holt_get_u64(known.data), highest = holt_get_u64(known.data + 8);
  struct holt_buf list = holt_buf(known.data + KNOWN_RANGE, known.len - KNOWN_RANGE);
  struct holt_routes *routes = &bus->routes;
  if (lowest <= bus->boot && bus->boot <= highest && find_known(list, bus->boot) < routes->version)
    send_word(bus, link, NULL, holt_buf(routes->own.data, routes->own.len));
  struct holt_writer out = {0};
  HOLT_LIST_EACH(&routes->all, node, next) {
    const struct holt_route *route = HOLT_CONTAINER(node, struct holt_route, node);
    if (route->boot < lowest || route->boot > highest || route->boot == holt_link_boot(link) ||
        find_known(list, route->boot) >= route->version)
      continue;
    out.len = 0;
    write_route(&out, route);
    send_word(bus, link, NULL, holt_buf(out.data, out.len));
  }
  holt_writer_free(&out);
}

/* --- Hearing -------------------------------------------------------------------------------------- */

static bool fill_route(struct holt_route *route, struct holt_reader *in, const struct holt_wire_route *wire) {
  route->neighbours = holt_alloc((wire->neighbour_count + 1u) * sizeof *route->neighbours);
  for (size_t i = 0; i < wire->neighbour_count; i++) route->neighbours[i] = holt_read_u64(in);
  route->neighbour_count = wire->neighbour_count;
  route->subjects = holt_alloc((wire->subject_count + 1u) * sizeof *route->subjects);
  for (size_t i = 0; i < wire->subject_count && !in->failed; i++) {
    char subject[256];
    holt_read_text8(in, subject);
    route->subjects[route->subject_count++] = holt_strdup(subject);
  }
  return !in->failed && holt_reader_left(in) == 0;
}

void holt__routes_hear(struct holt_bus *bus, struct holt_link *link, struct holt_buf body) {
  struct holt_reader in = holt_reader(body);
  struct holt_wire_route wire;
  if (holt_wire_route_read(&in, &wire, NULL) != 0 || wire.boot == bus->boot) return;
  struct holt_route *route = holt_map_get(&bus->routes.by_boot, wire.boot);
  if (route != NULL && route->version >= wire.version) return;
  size_t old_bytes = route == NULL ? 0 : route->bytes;
  if (bus->routes.bytes - old_bytes + body.len > HOLT_ROUTES_BYTES_MAX) return;
  struct holt_route fresh = {0};
  if (!fill_route(&fresh, &in, &wire) || (route == NULL && bus->routes.by_boot.count >= HOLT_ORIGINS_MAX)) {
    clear_route(&fresh);
    return;
  }
  if (route == NULL) {
    route = holt_alloc(sizeof *route);
    route->boot = wire.boot;
    holt_list_push(&bus->routes.all, &route->node);
    holt_map_set(&bus->routes.by_boot, wire.boot, route);
  } else {
    clear_route(route);
  }
  route->version = wire.version;
  bus->routes.bytes += body.len - old_bytes;
  route->bytes = body.len;
  snprintf(route->name, sizeof route->name, "%s", wire.name);
  route->neighbours = fresh.neighbours;
  route->neighbour_count = fresh.neighbour_count;
  route->subjects = fresh.subjects;
  route->subject_count = fresh.subject_count;
  bus->routes.is_stale = true;
  holt__calls_ways_changed(bus);
  send_word(bus, NULL, link, body);
}

/* --- Ways ----------------------------------------------------------------------------------------- */

static bool lists(const struct holt_route *route, uint64_t boot) {
  for (size_t i = 0; i < route->neighbour_count; i++)
    if (route->neighbours[i] == boot) return true;
  return false;
}

static void reach(struct holt_route *route, uint32_t distance, struct holt_bus_link *first,
                  struct holt_route **queue, size_t *tail) {
  route->distance = distance;
  route->first = first;
  queue[(*tail)++] = route;
}

static void forget_lost(struct holt_bus *bus) {
  uint64_t now = holt_env_now_ms(bus->env);
  HOLT_LIST_EACH(&bus->routes.all, node, next) {
    struct holt_route *route = HOLT_CONTAINER(node, struct holt_route, node);
    if (route->distance > 0)
      route->lost_ms = 0;
    else if (route->lost_ms == 0)
      route->lost_ms = now;
    else if (now - route->lost_ms >= FORGET_MS)
      free_route(bus, route);
  }
}

/* Breadth first from here. */
static void compute_ways(struct holt_bus *bus) {
  struct holt_routes *routes = &bus->routes;
  if (!routes->is_stale) return;
  routes->is_stale = false;
  routes->ways_ms = holt_env_now_ms(bus->env);
  struct holt_route **queue = holt_alloc((routes->by_boot.count + 1) * sizeof(struct holt_route *));
  size_t head = 0, tail = 0;
  HOLT_LIST_EACH(&routes->all, node, next) {
    struct holt_route *route = HOLT_CONTAINER(node, struct holt_route, node);
    route->distance = 0;
    route->first = NULL;
  }
  for (struct holt_link *l = holt_links_first(bus->node_links); l != NULL;
       l = holt_links_next(bus->node_links, l)) {
    struct holt_route *route = holt_link_is_up(l) ? holt_map_get(&routes->by_boot, holt_link_boot(l)) : NULL;
    if (route != NULL && route->distance == 0) reach(route, 1, holt__bus_link(bus, l), queue, &tail);
  }
  while (head < tail) {
    struct holt_route *at = queue[head++];
    for (size_t i = 0; i < at->neighbour_count; i++) {
      struct holt_route *to = holt_map_get(&routes->by_boot, at->neighbours[i]);
      if (to != NULL && to->distance == 0 && lists(to, at->boot))
        reach(to, at->distance + 1, at->first, queue, &tail);
    }
  }
  free(queue);
  forget_lost(bus);
}

struct holt_route *holt__routes_to(struct holt_bus *bus, uint64_t boot) {
  compute_ways(bus);
  struct holt_route *route = holt_map_get(&bus->routes.by_boot, boot);
  return route != NULL && route->first != NULL && route->first->link != NULL ? route : NULL;
}

static bool serves(const struct holt_route *route, const char *subject, size_t len) {
  for (size_t i = 0; i < route->subject_count; i++)
    if (strlen(route->subjects[i]) == len && memcmp(route->subjects[i], subject, len) == 0) return true;
  return false;
}

static bool is_tried(uint64_t boot, const uint64_t *tried, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (tried[i] == boot) return true;
  return false;
}

struct holt_route *holt__routes_nearest(struct holt_bus *bus, const char *subject, size_t len,
                                        const uint64_t *tried, size_t tried_count) {
  compute_ways(bus);
  uint32_t nearest = UINT32_MAX;
  uint64_t count = 0;
  HOLT_LIST_EACH(&bus->routes.all, node, next) {
    const struct holt_route *route = HOLT_CONTAINER(node, struct holt_route, node);
    if (route->distance == 0 || route->distance > nearest || !serves(route, subject, len) ||
        is_tried(route->boot, tried, tried_count))
      continue;
    count = route->distance < nearest ? 1 : count + 1;
    nearest = route->distance;
  }
  if (count == 0) return NULL;
  uint64_t wanted = bus->calls.turn % count;
  HOLT_LIST_EACH(&bus->routes.all, other, after) {
    struct holt_route *route = HOLT_CONTAINER(other, struct holt_route, node);
    if (route->distance == nearest && serves(route, subject, len) &&
        !is_tried(route->boot, tried, tried_count) && wanted-- == 0)
      return route;
  }
  return NULL;
}

void holt__routes_init(struct holt_bus *bus) {
  holt_list_init(&bus->routes.all);
  holt_timer_init(&bus->routes.tell, bus->env, tell, bus);
}

void holt__routes_free(struct holt_bus *bus) {
  holt_timer_stop(&bus->routes.tell);
  holt_writer_free(&bus->routes.own);
  HOLT_LIST_EACH(&bus->routes.all, node, next) free_route(bus, HOLT_CONTAINER(node, struct holt_route, node));
  holt_map_free(&bus->routes.by_boot);
}
