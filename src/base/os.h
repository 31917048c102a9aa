/* os.h - files, clocks and randomness: the operating system in the shape the house uses it. */
#ifndef SL_BASE_OS_H
#define SL_BASE_OS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* A file mapped read-only. The span lives until sl_file_unmap. */
typedef struct sl_file_map {
    sl_span bytes;
} sl_file_map;

SL_NODISCARD sl_status sl_file_map_open(const char *path, sl_file_map *ret, sl_err *err);
void sl_file_map_close(sl_file_map *map);

/* Reads a whole file of at most max_bytes into out (initialised by the caller). */
SL_NODISCARD sl_status sl_file_read(const char *path, size_t max_bytes, sl_buf *out, sl_err *err);

/* Writes all of it to a descriptor that blocks; false: errno says why. */
bool sl_write_all(int fd, const void *bytes, size_t len);

/* Replaces path by the bytes, crash-safe: temporary file beside it, fsync, rename, fsync of the
 * directory. */
SL_NODISCARD sl_status sl_file_write_atomic(const char *path, sl_span bytes, sl_err *err);

/* Makes the directory and its parents (mode 0700 for new ones). */
SL_NODISCARD sl_status sl_mkdirs(const char *path, sl_err *err);

/* fsync on the directory that holds path, so that a rename in it survives a power cut. */
SL_NODISCARD sl_status sl_dir_sync(const char *path, sl_err *err);

bool sl_file_exists(const char *path);

/* Nanoseconds of the monotonic clock; milliseconds and nanoseconds since 1970 of the wall clock. */
int64_t sl_clock_mono_ns(void);
int64_t sl_clock_wall_ms(void);
int64_t sl_clock_wall_ns(void);

/* Fills out with bytes from the system's random source. */
void sl_random_bytes(void *out, size_t len);
/* bytes[len] in lower-case hex, with its end, into ret[2 * len + 1]. */
void sl_hex(const void *bytes, size_t len, char *ret);
/* prefix and so many random bytes in hex, with its end, into out[out_bytes], which has room. */
void sl_random_id(char *out, size_t out_bytes, const char *prefix, size_t random_bytes);

/* Raises the soft limit of open files to the hard one; returns how many there may be. */
int sl_open_files_raise(void);

/* Lets the calling thread run behind the others, for good. */
void sl_thread_yield_to_others(void);

/* Processors this process may run on, at least 1. */
int sl_cpu_count(void);
/* Bytes of memory this process may fill: the machine's, or less where a control group says so. */
uint64_t sl_memory_bytes(void);
/* Bytes of a core's second-level cache; 512 KiB when the system does not say. */
size_t sl_cache2_bytes(void);

#endif
