#include <stdio.h>

int main(void) {
  puts("holt " HOLT_VERSION);
  return 0;
}
