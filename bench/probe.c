/* probe.c - what this machine's memory and processors can do at most, as JSON.
 *
 * A model's decode reads every weight once per token: bandwidth is its limit. Its prefill is dot
 * products: the peaks of the widest int8, bf16 and fp32 instructions are its limits. Every figure
 * is the best of several short rounds, with one thread and with one per processor, each pinned: a
 * limit is what can be reached, and noise only takes away. An instruction that the processor lacks
 * gives no figure, so that the program builds and runs everywhere. */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define THREADS_MAX 256
#define ARRAY_BYTES ((size_t)1 << 30)
#define ROUNDS      7
#define LOOPS       2000000L

/* One thread's share of a measurement. The result is made of all that was computed, so that the
 * compiler drops nothing. */
typedef uint64_t (*work_fn)(int thread, int threads);

static const uint8_t *array; /* [ARRAY_BYTES], huge pages where the system gives them */
static int cpus[THREADS_MAX];
static int cpu_count;

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

typedef uint64_t vec16 __attribute__((vector_size(16)));

static inline __attribute__((always_inline)) vec16 xor_line(const uint8_t *p)
{
    const vec16 *v = (const vec16 *)(const void *)p;

    return (v[0] ^ v[1]) ^ (v[2] ^ v[3]);
}

/* Reads the share as `streams` places at once, `ahead` bytes prefetched before each: which of these
 * is fastest depends on the processor's own prefetcher. */
static inline __attribute__((always_inline)) uint64_t read_share(int thread, int threads,
                                                                 int streams, size_t ahead)
{
    size_t share = ARRAY_BYTES / (size_t)threads / 65536 * 65536, part = share / (size_t)streams;
    const uint8_t *p = array + share * (size_t)thread;
    vec16 sum[4] = { 0 };

    for (size_t i = 0; i < part; i += 128)
        for (int s = 0; s < streams; s++) {
            const uint8_t *q = p + (size_t)s * part + i;

            if (ahead) {
                __builtin_prefetch(q + ahead);
                __builtin_prefetch(q + ahead + 64);
            }
            sum[s] ^= xor_line(q) ^ xor_line(q + 64);
        }
    sum[0] ^= sum[1] ^ sum[2] ^ sum[3];
    return sum[0][0] ^ sum[0][1];
}

#define READER(name, streams, ahead)                                                               \
    static uint64_t name(int thread, int threads)                                                  \
    {                                                                                              \
        return read_share(thread, threads, streams, ahead);                                        \
    }

READER(read_plain, 1, 0)
READER(read_near, 1, 1024)
READER(read_far, 1, 4096)
READER(read_four, 4, 0)
READER(read_four_near, 4, 1024)

/* ---- computing --------------------------------------------------------------------------------
 */

/* LOOPS times `count` independent accumulators: enough to hide an instruction's latency, few enough
 * for the registers. The empty asm keeps the compiler from folding repetitions; every loop over the
 * accumulators is unrolled, or they would live in memory. */
#define EACH(i, count) _Pragma("GCC unroll 32") for (int i = 0; i < (count); i++)
#define PEAK(name, isa, type, count, set, step, fold)                                              \
    __attribute__((target(isa))) static uint64_t name(int thread, int threads)                     \
    {                                                                                              \
        type acc[count], x = set, y = set;                                                         \
        uint64_t ret = (uint64_t)thread + (uint64_t)threads;                                       \
                                                                                                   \
        EACH(i, count)                                                                             \
        {                                                                                          \
            acc[i] = set;                                                                          \
        }                                                                                          \
        for (long n = 0; n < LOOPS; n++) {                                                         \
            EACH(i, count)                                                                         \
            {                                                                                      \
                acc[i] = step(acc[i], x, y);                                                       \
                __asm__ volatile("" : "+v"(acc[i]));                                               \
            }                                                                                      \
        }                                                                                          \
        EACH(i, count)                                                                             \
        {                                                                                          \
            ret += (uint64_t)fold(acc[i]);                                                         \
        }                                                                                          \
        return ret;                                                                                \
    }

#if defined(__x86_64__)
#include <immintrin.h>

#define FMA512(acc, x, y)   _mm512_fmadd_ps(x, y, acc)
#define FMA256(acc, x, y)   _mm256_fmadd_ps(x, y, acc)
#define BF16_512(acc, x, y) _mm512_dpbf16_ps(acc, (__m512bh)(x), (__m512bh)(y))
#define FIRST_512(v)        _mm_cvtsi128_si32(_mm512_castsi512_si128(v))
#define FIRST_256(v)        _mm_cvtsi128_si32(_mm256_castsi256_si128(v))

PEAK(int8_512, "avx512f,avx512vnni", __m512i, 24, _mm512_set1_epi8(1), _mm512_dpbusd_epi32,
     FIRST_512)
PEAK(int8_256, "avx2,avxvnni", __m256i, 12, _mm256_set1_epi8(1), _mm256_dpbusd_avx_epi32, FIRST_256)
PEAK(bf16_512, "avx512f,avx512bf16", __m512, 24, _mm512_set1_ps(1e-9f), BF16_512, _mm512_cvtss_f32)
PEAK(fp32_512, "avx512f", __m512, 24, _mm512_set1_ps(1e-9f), FMA512, _mm512_cvtss_f32)
PEAK(fp32_256, "avx2,fma", __m256, 12, _mm256_set1_ps(1e-9f), FMA256, _mm256_cvtss_f32)

#define HAS(feature) (__builtin_cpu_supports(feature) != 0)
#define HAS_AVXVNNI  (HAS("avx2") && avxvnni())

/* Not among the names that the compiler's builtin knows everywhere. */
static bool avxvnni(void)
{
    unsigned a = 7, b, c = 1, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return a & (1u << 4);
}
#endif

typedef struct measure {
    const char *name, *unit;
    work_fn fn;
    bool usable;
    double
        work; /* bytes or operations of one loop and thread; 0: the array once over all threads */
} measure;

/* The best usable line of each name counts. */
static int list_measures(measure *ret)
{
    const measure all[] = {
        { "read", "GB/s", read_plain, true, 0 },
        { "read", "GB/s", read_near, true, 0 },
        { "read", "GB/s", read_far, true, 0 },
        { "read", "GB/s", read_four, true, 0 },
        { "read", "GB/s", read_four_near, true, 0 },
#if defined(__x86_64__)
        { "int8", "Gop/s", int8_512, HAS("avx512f") && HAS("avx512vnni"), 24 * 64 * 2 },
        { "int8", "Gop/s", int8_256, HAS_AVXVNNI, 12 * 32 * 2 },
        { "bf16", "Gflop/s", bf16_512, HAS("avx512f") && HAS("avx512bf16"), 24 * 32 * 2 },
        { "fp32", "Gflop/s", fp32_512, HAS("avx512f"), 24 * 16 * 2 },
        { "fp32", "Gflop/s", fp32_256, HAS("avx2") && HAS("fma"), 12 * 8 * 2 },
#endif
    };
    int count = 0;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].usable)
            ret[count++] = all[i];
    return count;
}

/* ---- timing -----------------------------------------------------------------------------------
 */

typedef struct crew {
    pthread_barrier_t gate;
    work_fn fn;
    int threads;
} crew;

typedef struct member {
    crew *crew;
    pthread_t thread;
    int index;
    double start[ROUNDS], end[ROUNDS]; /* its own clock: the main thread may wait for a processor */
    uint64_t result;
} member;

static void *member_main(void *arg)
{
    member *m = arg;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpus[m->index], &set);
    sched_setaffinity(0, sizeof set, &set);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&m->crew->gate);
        m->start[round] = now_s();
        m->result += m->crew->fn(m->index, m->crew->threads);
        m->end[round] = now_s();
    }
    return NULL;
}

static double round_s(const member *members, int threads, int round)
{
    double start = members[0].start[round], end = members[0].end[round];

    for (int i = 1; i < threads; i++) {
        start = members[i].start[round] < start ? members[i].start[round] : start;
        end = members[i].end[round] > end ? members[i].end[round] : end;
    }
    return end - start;
}

/* The shortest of ROUNDS rounds in seconds. */
static double best_s(work_fn fn, int threads)
{
    static member members[THREADS_MAX];
    static volatile uint64_t sink;
    crew c = { .fn = fn, .threads = threads };
    double best;

    pthread_barrier_init(&c.gate, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        members[i] = (member){ .crew = &c, .index = i };
        if (pthread_create(&members[i].thread, NULL, member_main, &members[i])) {
            fputs("bench_probe: no thread\n", stderr);
            exit(1);
        }
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(members[i].thread, NULL);
        sink += members[i].result;
    }
    pthread_barrier_destroy(&c.gate);
    best = round_s(members, threads, 0);
    for (int round = 1; round < ROUNDS; round++) {
        double s = round_s(members, threads, round);

        best = s < best ? s : best;
    }
    return best;
}

static double best_rate(const measure *all, int count, const char *name, int threads)
{
    double best = 0;

    for (int i = 0; i < count; i++)
        if (strcmp(all[i].name, name) == 0) {
            double work = all[i].work > 0 ? all[i].work * LOOPS * threads : (double)ARRAY_BYTES;
            double rate = work / best_s(all[i].fn, threads) / 1e9;

            best = rate > best ? rate : best;
        }
    return best;
}

static bool array_init(void)
{
    /* Prefetches run past the end by their distance: harmless, but the page table is not asked. */
    uint8_t *p =
        mmap(NULL, ARRAY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return false;
    madvise(p, ARRAY_BYTES, MADV_HUGEPAGE);
    memset(p, 1, ARRAY_BYTES);
    array = p;
    return true;
}

static void find_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int i = 0; i < CPU_SETSIZE && cpu_count < THREADS_MAX; i++)
            if (CPU_ISSET((size_t)i, &set))
                cpus[cpu_count++] = i;
    if (cpu_count == 0)
        cpus[cpu_count++] = 0;
}

/* Names on the command line choose: bench_probe read. Without any, all. */
static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "read", "int8", "bf16", "fp32" };
    measure all[16];
    int count = list_measures(all);

    find_cpus();
    if (!array_init()) {
        fputs("bench_probe: out of memory\n", stderr);
        return 1;
    }
    printf("{\"threads\": %d", cpu_count);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int i = 0; i < count; i++)
            if (strcmp(all[i].name, names[n]) == 0 && wanted(names[n], argc, argv)) {
                printf(
                    ",\n \"%s\": {\"unit\": \"%s\", \"one_thread\": %.1f, \"all_threads\": %.1f}",
                    names[n], all[i].unit, best_rate(all, count, names[n], 1),
                    best_rate(all, count, names[n], cpu_count));
                break;
            }
    puts("}");
    return 0;
}
