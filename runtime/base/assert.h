/* assert.h - checks of our own reasoning, kept in release builds.
 *
 * Never for bytes from network, disk or script: those get an error. */
#ifndef HOLT_BASE_ASSERT_H
#define HOLT_BASE_ASSERT_H

_Noreturn void holt_assert_failed(const char *condition, const char *file, int line);

#define HOLT_ASSERT(condition) ((condition) ? (void)0 : holt_assert_failed(#condition, __FILE__, __LINE__))

#endif /* HOLT_BASE_ASSERT_H */
