/* attr.h - compiler attributes and the smallest macros, in one place so that no other file needs
 * to ask which compiler it is. */
#ifndef SL_BASE_ATTR_H
#define SL_BASE_ATTR_H

#define SL_NODISCARD    __attribute__((warn_unused_result))
#define SL_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define SL_NORETURN     __attribute__((noreturn))
#define SL_UNUSED       __attribute__((unused))
#define SL_ALIGNED(n)   __attribute__((aligned(n)))
#define SL_LIKELY(x)    __builtin_expect(!!(x), 1)
#define SL_UNLIKELY(x)  __builtin_expect(!!(x), 0)
#define SL_COUNT_OF(a)  (sizeof(a) / sizeof((a)[0]))
#define SL_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define SL_MAX(a, b)    ((a) > (b) ? (a) : (b))
#define SL_CACHE_LINE   64

/* 1 in builds with Address- or ThreadSanitizer, which reserve terabytes of address space. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SL_SANITIZED 1
#endif
#endif
#ifndef SL_SANITIZED
#define SL_SANITIZED 0
#endif

#ifdef __clang__
#define SL_COMPILER "clang " __clang_version__
#else
#define SL_COMPILER "gcc " __VERSION__
#endif

#endif
