/* edit.h - a line of input on a terminal, with history and completion, for holt.cli.
 *
 * Nothing here reads: bytes of the terminal come in through feed(), so the loop goes on while somebody types.
 */
#ifndef HOLT_CLI_EDIT_H
#define HOLT_CLI_EDIT_H

#include "script/script.h"

/* Set edit_open on the table on top of the stack (holt.core). */
void holt_cli_edit(lua_State *L);

#endif /* HOLT_CLI_EDIT_H */
