/* crc32c.h - the checksum of files: CRC-32C (Castagnoli), as in iSCSI (RFC 3720, appendix B.4) and ext4. It
 * finds accidents, not intent. */
#ifndef HOLT_BASE_CRC32C_H
#define HOLT_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `len` bytes that follow bytes whose checksum is `crc`; begin with 0. Uses the processor's
 * own instruction where it has one. */
uint32_t holt_crc32c(uint32_t crc, const void *data, size_t len);
/* The same without that instruction. */
uint32_t holt_crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif /* HOLT_BASE_CRC32C_H */
