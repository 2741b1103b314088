/* path.h - the place of a control socket: is its folder ours alone, does somebody listen there already? */
#ifndef HOLT_ADMIN_PATH_H
#define HOLT_ADMIN_PATH_H

#include "base/err.h"

/* Make sure `path` may become our socket: length, folder (made when missing), no live socket; a dead one is
 * removed. Errors as holt_control_open. */
int holt__control_path_prepare(const char *path, struct holt_err *err);

#endif /* HOLT_ADMIN_PATH_H */
