/* folder.h - a folder of a test's own on the real machine. */
#ifndef HOLT_SPEC_FOLDER_H
#define HOLT_SPEC_FOLDER_H

#include <unistd.h>

#include "unit.h"

/* A new one, its path in `path`. */
static inline void folder_new(char path[200]) {
  const char *temporary = getenv("TMPDIR");
  snprintf(path, 200, "%s/holt-test-XXXXXX", temporary != NULL ? temporary : "/tmp");
  assert_non_null(mkdtemp(path));
}

/* With all that is in it. */
static inline void folder_remove(const char *path) {
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", path);
  assert_int_equal(system(command), 0);
}

#endif /* HOLT_SPEC_FOLDER_H */
