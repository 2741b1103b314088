/* history_file.h - histories as lines of text: how a recorder that is no part of this program hands them in.
 *
 *   call ID CLIENT KIND KEY TIME [VALUE [EXPECTED]]   set, insert, push: VALUE; update_if: both; remove_if:
 *                                                     EXPECTED alone; get, remove, pop: nothing
 *   ok ID TIME RESULT                                 it was answered
 *   fail ID TIME                                      it never happened, for certain
 *
 * A call without one of the other two has an unknown outcome: what a killed process leaves behind needs no
 * care. ID, CLIENT, KEY and TIME are numbers; an ID is used once in a text. VALUE, EXPECTED and RESULT are
 * numbers, or: nil (nothing there), any (not known), other (see holt_history_op.result). KIND is a word of
 * enum holt_history_kind in small letters. Words are parted by single blanks; an empty line means nothing. */
#ifndef HOLT_SIM_HISTORY_FILE_H
#define HOLT_SIM_HISTORY_FILE_H

#include "base/buf.h"
#include "base/err.h"
#include "sim/history.h"

/* Add the operations of `text` (borrowed) to `history`. HOLT_EINVAL: the message names the first wrong line;
 * the history then holds what came before it. */
int holt_history_read(struct holt_history *history, struct holt_buf text, struct holt_err *err);

#endif /* HOLT_SIM_HISTORY_FILE_H */
