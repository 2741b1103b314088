#include "binding/sources.h"

int luaopen_holt_core(void *L);
int luaopen_holt_core(void *L) {
  return L == NULL;
}
