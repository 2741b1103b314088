/* bus_impl.h - how the files of bus/ share their work:
 *
 *   subject.c  subjects and patterns, and which subscriptions an event has
 *   origins.c  what has been seen of each origin: duplicates, holes, gaps
 *   event.c    one event between its link, its handlers and the links onward
 *   bus.c      emitting, receiving, passing on
 *   routes.c   who serves what, and the shortest way there
 *   call.c     requests and replies
 *   line.c     requests of our own that wait in line for a way with room
 */
#ifndef HOLT_BUS_BUS_IMPL_H
#define HOLT_BUS_BUS_IMPL_H

#include "base/map.h"
#include "bus/bus.h"

/* The bit of all links that found no bit of their own: what they carry is never known to be dropped
 * everywhere. */
#define HOLT_SLOT_SHARED      ((uint64_t)1 << 63)
#define HOLT_ROUTES_BYTES_MAX (64 * 1024 * 1024) /* words about other nodes; what is beyond is not taken */
#define HOLT_SPARES_MAX       512
#define HOLT_HOLES_MAX        1024  /* ranges kept per origin, then the oldest closes early */
#define HOLT_ORIGINS_MAX      65536 /* then the one silent for longest is forgotten */
#define HOLT_HOLE_MS          5000  /* how long a hole may still be filled */
#define HOLT_LAST_MS          1000  /* neighbours are told the last numbers this often */
#define HOLT_DROPS_MAX        1024  /* dropped ranges remembered per link until they can be told */

/* --- subject.c ------------------------------------------------------------------------------------ */

struct holt_sub {
  struct holt_list node; /* in subs->all, in the order they were made */
  char *pattern;
  size_t len;
  bool is_exact, is_dead;
  holt_event_cb cb;
  void *arg;
};

/* The subscriptions of one subject, found once and kept until any subscription changes. */
struct holt_match {
  struct holt_match *next;
  char *subject;
  size_t len;
  size_t count;
  struct holt_sub *subs[];
};

struct holt_subs {
  struct holt_list all;
  struct holt_list dead;
  struct holt_map cache; /* hash of subject -> chain of holt_match */
  size_t cached;
  const struct holt_match *latest; /* the one found last */
  bool is_stale;
};

void holt__subs_init(struct holt_subs *subs);
void holt__subs_free(struct holt_subs *subs);
struct holt_sub *holt__subs_add(struct holt_subs *subs, const char *pattern, size_t len, holt_event_cb cb,
                                void *arg);
void holt__subs_remove(struct holt_subs *subs, struct holt_sub *sub);
/* Whether this is the subject asked for last, and so a good one. */
bool holt__subs_is_latest(const struct holt_subs *subs, const char *subject, size_t len);
/* Valid until the next call; skip those that are dead. */
const struct holt_match *holt__subs_match(struct holt_subs *subs, const char *subject, size_t len);

/* --- origins.c ------------------------------------------------------------------------------------ */

struct holt_hole {
  uint64_t from, to;
  uint64_t since_ms;
  bool is_silent;     /* lies before the first event seen: closes without gap */
  bool is_told;       /* the word that it was dropped has been passed on */
  uint64_t reporters; /* links (by slot) that said it was dropped */
};

struct holt_origin {
  struct holt_list node;    /* by last use, in origins->used */
  struct holt_list changed; /* in origins->changed */
  struct holt_list holed;   /* in origins->holed, or alone */
  uint64_t change;          /* number of its last change */
  uint64_t boot;
  char name[HOLT_NAME_MAX + 1];
  uint64_t highest;
  uint64_t last_ms;
  uint64_t carriers;       /* links (by slot) over which something of this origin came */
  struct holt_hole *holes; /* ascending */
  size_t hole_count, hole_cap;
};

enum holt_seen { HOLT_SEEN_NEW, HOLT_SEEN_LATE, HOLT_SEEN_DUPLICATE };

struct holt_origins {
  struct holt_map by_boot;
  struct holt_list used;
  struct holt_list changed;   /* by the last change of their highest number, newest last */
  uint64_t changes;           /* so far, of all */
  struct holt_list holed;     /* those with holes */
  struct holt_origin *latest; /* the one asked for last */
  uint64_t forget_ms;
  size_t hole_count; /* in all origins */
  void (*on_gap)(void *arg, const struct holt_origin *origin, uint64_t count);
  void *arg;
};

void holt__origins_init(struct holt_origins *origins, uint64_t forget_ms,
                        void (*on_gap)(void *, const struct holt_origin *, uint64_t), void *arg);
void holt__origins_free(struct holt_origins *origins);
struct holt_origin *holt__origins_get(struct holt_origins *origins, uint64_t boot, struct holt_buf name,
                                      uint64_t now_ms);
/* Enter one event. */
enum holt_seen holt__origin_see(struct holt_origins *origins, struct holt_origin *origin, uint64_t number,
                                uint64_t now_ms);
/* Numbers from..to were dropped on their way over the link of `slot` (a bit of carriers). Those that are
 * missing here and of which this is the first word are handed to `each` (in ranges). Those of which every
 * link that carries the origin has said so are given up at once. */
void holt__origin_report(struct holt_origins *origins, struct holt_origin *origin, uint64_t from, uint64_t to,
                         uint64_t now_ms, uint64_t slot, void (*each)(void *arg, uint64_t from, uint64_t to),
                         void *arg);
/* A neighbour says that `number` was the last one: what is missing up to it may still come, for five seconds.
 */
void holt__origin_last(struct holt_origins *origins, struct holt_origin *origin, uint64_t number,
                       uint64_t now_ms);
/* The link of `slot` is gone: it carries nothing any more. */
void holt__origins_forget_slot(struct holt_origins *origins, uint64_t slot);
/* Give up the holes that are old enough. */
void holt__origins_close_holes(struct holt_origins *origins, uint64_t now_ms);

/* --- event.c -------------------------------------------------------------------------------------- */

/* What the bus keeps of a link; outlives it while events still point here. */
struct holt_bus_link {
  struct holt_list node;  /* in bus->links */
  struct holt_link *link; /* NULL: gone */
  uint32_t refs;
  uint64_t slot;            /* its bit in holt_origin.carriers */
  uint64_t told_changes;    /* last numbers were told up to this change … */
  uint64_t told_sequence;   /* … and of our own events up to this one */
  struct holt_list blocked; /* events that wait for its credit to be acknowledged */
  struct holt_wire_range *drops;
  size_t drop_count, drop_cap;
};

struct holt_bus_event {
  struct holt_event event;  /* first */
  struct holt_bus *bus;     /* NULL once the bus is gone */
  struct holt_list node;    /* in bus->events */
  struct holt_list blocked; /* in bus_link->blocked, one link at a time */
  uint32_t refs, owed;
  struct holt_bus_link *from;
  uint64_t number; /* at its link */
  struct holt_msg *msg;
};

/* --- routes.c ------------------------------------------------------------------------------------- */

/* What one node said of itself last, and how it is reached. */
struct holt_route {
  struct holt_list node; /* in routes->all */
  uint64_t boot, version;
  char name[HOLT_NAME_MAX + 1];
  uint64_t *neighbours;
  size_t neighbour_count;
  char **subjects;
  size_t subject_count;
  uint32_t distance;           /* links to it, 0: none leads there */
  struct holt_bus_link *first; /* the link that the way begins with; NULL: none */
  uint64_t lost_ms;            /* since when it cannot be reached */
  size_t bytes;                /* of its word */
};

struct holt_routes {
  struct holt_map by_boot;
  struct holt_list all;
  uint64_t version;       /* of our own word … */
  struct holt_writer own; /* … as it was told last */
  size_t bytes;           /* of all words kept, at most HOLT_ROUTES_BYTES_MAX */
  bool is_stale;          /* the ways are to be computed anew */
  uint64_t ways_ms;       /* when they were computed last */
  struct holt_timer tell;
  uint64_t tell_ms;  /* when it is due */
  uint64_t spent_ms; /* telling is paid for up to this time */
};

void holt__routes_init(struct holt_bus *bus);
void holt__routes_free(struct holt_bus *bus);
/* What we serve has changed: tell everybody on a later turn. */
void holt__routes_changed(struct holt_bus *bus);
/* A link came up: the same, together with those that come up next to it. */
void holt__routes_gained(struct holt_bus *bus);
/* A link fell: tell everybody in a moment, unless it has come back until then. */
void holt__routes_lost(struct holt_bus *bus);
/* The bus has closed: say that nothing is served here any more. */
void holt__routes_close(struct holt_bus *bus);
/* Something comes by that might be sent astray for want of that word: tell it now. */
void holt__routes_hurry(struct holt_bus *bus);
/* Tell a neighbour that has just come up what we know of whom, so that it tells us the rest. */
void holt__routes_greet(struct holt_bus *bus, struct holt_link *link);
void holt__routes_hear(struct holt_bus *bus, struct holt_link *link, struct holt_buf body);
/* A neighbour told what it knows: tell it what it lacks. */
void holt__routes_answer(struct holt_bus *bus, struct holt_link *link, struct holt_buf known);
/* The way to a boot; NULL when there is none. */
struct holt_route *holt__routes_to(struct holt_bus *bus, uint64_t boot);
/* The nearest node that serves `subject` and is not one of `tried`; several take turns. NULL when there is
 * none. */
struct holt_route *holt__routes_nearest(struct holt_bus *bus, const char *subject, size_t len,
                                        const uint64_t *tried, size_t tried_count);

/* --- call.c --------------------------------------------------------------------------------------- */

/* Replies that wait for a way, and their bytes; beyond, the oldest is given up. */
#define HOLT_HOMELESS_MAX       1000
#define HOLT_HOMELESS_BYTES_MAX (4 * 1024 * 1024)

#define HOLT_CALL_TRIES_MAX 8 /* responders asked for one call, each of which it surely did not reach */

struct holt_serve {
  struct holt_list node; /* in calls->serves */
  char subject[HOLT_SUBJECT_MAX + 1];
  size_t len;
  holt_serve_cb cb;
  void *arg;
};

/* A request's place in the line of those of its subject. */
struct holt_place {
  struct holt_list node; /* in line->places; in no list: it does not wait */
  uint64_t id;           /* places of a line are in the order of their ids */
};

/* Requests of one subject that wait, oldest first. */
struct holt_line {
  struct holt_list node; /* in lines->all */
  struct holt_list places;
  size_t len;
  char subject[];
};

struct holt_lines {
  struct holt_list all;
  struct holt_timer timer; /* runs while anybody waits */
  /* Send what waits at `place` (out of its line by then) if there is room now. False: it goes back. */
  bool (*try_one)(struct holt_place *place);
};

struct holt_calls {
  struct holt_map open; /* our own, by id */
  struct holt_lines lines;
  struct holt_list serves, requests;
  struct holt_list homeless; /* replies that wait for a way to their callers */
  size_t homeless_count, homeless_bytes;
  struct holt_post retry; /* the ways have changed: try them again */
  uint64_t next_id, turn;
};

void holt__calls_init(struct holt_bus *bus);
/* There may be a way now where there was none. */
void holt__calls_ways_changed(struct holt_bus *bus);
/* Every open call ends with HOLT_ECLOSED, on this turn. */
void holt__calls_close(struct holt_bus *bus);
void holt__calls_free(struct holt_bus *bus);
void holt__calls_on_message(struct holt_bus *bus, struct holt_link *link,
                            const struct holt_link_message *message);
void holt__calls_on_dropped(struct holt_bus *bus, struct holt_msg *msg, bool was_sent);
struct holt_serve *holt__calls_find_serve(struct holt_bus *bus, const char *subject, size_t len);

/* --- line.c --------------------------------------------------------------------------------------- */

#define HOLT_LINE_RETRY_MS                                                                                   \
  10 /* how soon those who wait are tried again, should nothing tell of room before */

void holt__lines_init(struct holt_lines *lines, struct holt_env *env,
                      bool (*try_one)(struct holt_place *place));
/* Somebody waits with this subject: whoever comes later stands behind. */
bool holt__lines_are_busy(const struct holt_lines *lines, const char *subject, size_t len);
/* Wait: behind all smaller ids, before all larger ones. */
void holt__line_wait(struct holt_lines *lines, const char *subject, size_t len, struct holt_place *place);
/* Wait no longer. Harmless for one that does not. */
void holt__line_leave(struct holt_place *place);
/* There may be room: try the first of each line, and the next as long as it goes. */
void holt__lines_try(struct holt_lines *lines);
/* The places stay with their owners. */
void holt__lines_free(struct holt_lines *lines);

/* --- bus.c ---------------------------------------------------------------------------------------- */

struct holt_bus {
  struct holt_env *env;
  struct holt_links *node_links;
  const struct holt_bus_ops *ops;
  void *arg;
  uint64_t boot, sequence;
  char name[HOLT_NAME_MAX + 1];
  size_t name_len;
  uint64_t buffer_timeout_ms;
  uint32_t frame_max;
  struct holt_subs subs;
  struct holt_origins origins;
  struct holt_list links, events, waiters;
  struct holt_bus_waiter *woken; /* whose turn it is, until the next emit */
  struct holt_post wake;         /* gives the next waiter its turn */
  struct holt_list spares;       /* events kept for the next ones */
  unsigned spare_count;
  struct holt_timer timer; /* holes, and telling last numbers */
  uint64_t slots;          /* bits given to links */
  uint64_t told_ms;        /* when last numbers were told */
  struct holt_routes routes;
  struct holt_calls calls;
  bool is_closed;
  struct holt_bus_stats stats;
};

struct holt_bus_link *holt__bus_link(struct holt_bus *bus, struct holt_link *link);

/* The event of a message that came in, with a copy of its bytes. NULL when memory is out. */
struct holt_bus_event *holt__event_new(struct holt_bus *bus, struct holt_bus_link *from,
                                       const struct holt_link_message *message,
                                       const struct holt_wire_event *wire);
void holt__bus_link_release(struct holt_bus_link *bl);

#endif /* HOLT_BUS_BUS_IMPL_H */
