/* unit.h - what every unit test needs: cmocka and its prerequisites. */
#ifndef HOLT_UNIT_H
#define HOLT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif /* HOLT_UNIT_H */
