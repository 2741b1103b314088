/* journal_impl.h - journals as Lua holds them; for the files of the journal's binding only.
 *
 * A box is one open journal. It is counted by its userdata and by emits under way; the node's end takes the
 * journal away and leaves the box, which then answers `closed`. */
#ifndef HOLT_BINDING_JOURNAL_IMPL_H
#define HOLT_BINDING_JOURNAL_IMPL_H

#include "binding/node_impl.h"
#include "journal/journal.h"

struct lua_journal {
  struct holt_list node_list;   /* in lua_node's list while it is open */
  struct lua_node *node;        /* counted */
  struct holt_journal *journal; /* NULL once closed */
  unsigned refs;
  struct holt_list emits;    /* struct journal_emit: under way */
  struct holt_list waits;    /* who waits for an entry */
  struct holt_list rooms;    /* emits that wait for room */
  struct holt_list ends;     /* closes that wait for emits */
  struct holt_list compacts; /* who waits for the compaction */
  struct holt_journal_compaction compaction;
  bool is_compacting;
  struct holt_err compact_err; /* how the last one ended */
  uint64_t freed;
};

/* Text of 64 hexadecimal digits for 32 bytes, and back (false: it is none). */
#define HOLT__HEX (64 + 1)
void holt__write_hex(char out[HOLT__HEX], const uint8_t bytes[32]);
/* Pushes a list of the two hashes that prove a fork. */
void holt__push_proof(lua_State *L, const uint8_t proof[2][32]);
bool holt__read_hex(uint8_t *out, const char *text, size_t len);

struct lua_journal *holt__check_journal(lua_State *L, int index);
/* The same if it is open; NULL otherwise, then nil and an error table were pushed. */
struct lua_journal *holt__open_journal(lua_State *L);
void holt__journal_release(struct lua_journal *journal);

/* journal_emit.c */
int holt__l_journal_emit(lua_State *L);
/* Whoever waits is told that it is closed. */
void holt__journal_emits_shut(struct lua_journal *journal);

/* journal_look.c */
void holt__journal_compact_shut(struct lua_journal *journal);

/* journal_read.c, journal_look.c: their functions for the core table. */
extern const luaL_Reg holt__journal_reading[], holt__journal_looking[];

#endif /* HOLT_BINDING_JOURNAL_IMPL_H */
