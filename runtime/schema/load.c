/* load.c - finds and loads holt_schema.so when a schema is first needed.
 *
 * One promise of holt is that its program is one file; the library may lie beside it, and is looked for from
 * where the program or the module holt.core lies, so that a build tree, an installed and a copied holt all
 * find their own. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schema/schema.h"

#ifndef HOLT_LIBRARY_FOLDER
#define HOLT_LIBRARY_FOLDER "/usr/local/lib/holt"
#endif

static const struct holt_schema_library *library; /* loaded once, for the whole process */

struct search {
  char tried[1024]; /* folders, joined by ", " */
  char failure[512];
  const struct holt_schema_library *found;
};

/* Try FOLDER/BELOWholt_schema.so. A file that is there but cannot be loaded ends the search. */
static bool try_folder(struct search *search, const char *folder, const char *below) {
  char path[PATH_MAX];
  int len = snprintf(path, sizeof path, "%s/%s%s", folder, below, HOLT_SCHEMA_LIBRARY_FILE);
  if (len < 0 || (size_t)len >= sizeof path) return false;
  if (access(path, F_OK) != 0) {
    size_t used = strlen(search->tried);
    snprintf(search->tried + used, sizeof search->tried - used, "%s%.250s", used > 0 ? ", " : "", path);
    return false;
  }
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) {
    const char *why = dlerror();
    snprintf(search->failure, sizeof search->failure, "%.500s", why != NULL ? why : path);
    return true;
  }
  const struct holt_schema_library *table = dlsym(handle, HOLT_SCHEMA_LIBRARY_SYMBOL);
  if (table == NULL || table->version != HOLT_SCHEMA_VERSION)
    snprintf(search->failure, sizeof search->failure, "%.400s belongs to another version of holt", path);
  else
    search->found = table;
  return true;
}

static bool folder_of(char *path) {
  char *slash = strrchr(path, '/');
  if (slash == NULL) return false;
  *slash = '\0';
  return true;
}

/* Where the module holt.core lies, when we are in one; else where the program lies. */
static bool own_folder(char *out, size_t cap) {
  Dl_info info;
  char resolved[PATH_MAX];
  if (dladdr(&library, &info) == 0 || info.dli_fname == NULL) return false;
  if (strchr(info.dli_fname, '/') == NULL || realpath(info.dli_fname, resolved) == NULL) return false;
  int len = snprintf(out, cap, "%s", resolved);
  return len > 0 && (size_t)len < cap && folder_of(out);
}

static bool program_folder(char *out, size_t cap) {
  ssize_t len = readlink("/proc/self/exe", out, cap - 1);
  if (len <= 0) return false;
  out[len] = '\0';
  return folder_of(out);
}

static void look_everywhere(struct search *search) {
  static const char *const below[] = {"", "lib/holt/", "../lib/holt/"};
  char folder[PATH_MAX];
  if (program_folder(folder, sizeof folder))
    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++)
      if (try_folder(search, folder, below[i])) return;
  if (own_folder(folder, sizeof folder) && try_folder(search, folder, "")) return;
  try_folder(search, HOLT_LIBRARY_FOLDER, "");
}

const struct holt_schema_library *holt_schema_library(struct holt_err *err) {
  if (library != NULL) return library;
  struct search search = {{0}, {0}, NULL};
  look_everywhere(&search);
  if (search.found != NULL) {
    library = search.found;
    return library;
  }
  if (strstr(search.failure, "libprotobuf") != NULL)
    holt_err_set(err, HOLT_EUNSUPPORTED, "schemas need libprotobuf: apt-get install libprotobuf32 (%s)",
                 search.failure);
  else if (search.failure[0] != '\0')
    holt_err_set(err, HOLT_EUNSUPPORTED,
                 "schemas need " HOLT_SCHEMA_LIBRARY_FILE ", which cannot be loaded: %s", search.failure);
  else
    holt_err_set(err, HOLT_EUNSUPPORTED,
                 "schemas need " HOLT_SCHEMA_LIBRARY_FILE ", a part of holt, which was not found as: %s",
                 search.tried);
  return NULL;
}
