/* SPDX-License-Identifier: Apache-2.0 */
/* The ground under everything: status and errors, checked sizes, arenas, byte buffers, files, number
 * formats, random numbers, the thread pool, time. Knows nothing of models. */
#ifndef TK_BASE_H
#define TK_BASE_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tokamak.h"

/* ---- errors (error.c) -------------------------------------------------------------------------------- */

/* Fails with a message of up to three lines: what happened, why, what to do. Returns `code`.
 *     return TK_FAIL(TK_E_FORMAT, "%s: not a GGUF file\nit starts with %08x\ngive a .gguf file", path,
 * magic); */
#define TK_FAIL(code, ...) tk__failed((code), tk__fail((code), __FILE__, __LINE__, __VA_ARGS__))
tk_status tk__fail(tk_status code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The code again, where the compiler can see that it is a failure (else it warns of unset results). */
static inline tk_status tk__failed(tk_status code, tk_status same) { return (void)same, code; }
/* Forwards a failure to the caller, unchanged. */
#define TK_TRY(expr)                                                                                         \
    do {                                                                                                     \
        tk_status tk_try_ = (expr);                                                                          \
        if (tk_try_ != TK_OK) return tk_try_;                                                                \
    } while (0)
const char *tk__error_where(void); /* "file:line" of the last failure, for --verbose */
int tk__exit_code(tk_status s);
const char *tk__status_name(tk_status s);

/* ---- checked sizes: every product or sum of numbers that a file or request gave ---------------------- */

/* false on overflow; *out is then undefined */
static inline bool tk_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool tk_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
/* rounds n up to a multiple of `to` (any positive number); the caller knows that it fits */
static inline size_t tk_align(size_t n, size_t to) { return (n + to - 1) / to * to; }
static inline int64_t tk_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
#define TK_MIN(a, b) ((a) < (b) ? (a) : (b))
#define TK_MAX(a, b) ((a) > (b) ? (a) : (b))
#define TK_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- arena: everything that lives as long as its owner (arena.c) ------------------------------------- */

typedef struct tk_arena {
    struct tk_arena_block *head;
    size_t used; /* bytes handed out */
} tk_arena;      /* zero-initialized is empty and valid */
/* 16-byte aligned, zeroed; NULL with an error set when memory is out. free releases all at once. */
void *tk_arena_alloc(tk_arena *a, size_t bytes);
void *tk_arena_array(tk_arena *a, size_t count, size_t each); /* product checked */
char *tk_arena_strndup(tk_arena *a, const char *s, size_t n);
char *tk_arena_printf(tk_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tk_arena_free(tk_arena *a);

/* ---- buf: bytes that grow (arena.c) ------------------------------------------------------------------ */

typedef struct tk_buf {
    char *data; /* always NUL-terminated once non-NULL */
    size_t len, cap;
    bool failed; /* an append ran out of memory; sticky, checked once at the end */
} tk_buf;
void tk_buf_put(tk_buf *b, const void *bytes, size_t n);
void tk_buf_puts(tk_buf *b, const char *s);
void tk_buf_printf(tk_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tk_buf_free(tk_buf *b);
tk_status tk_buf_check(const tk_buf *b); /* TK_E_NOMEM if an append failed */

/* ---- files (file.c) ---------------------------------------------------------------------------------- */

typedef struct tk_map {
    const uint8_t *data; /* read-only, private mapping; NULL when size is 0 */
    size_t size;
    char *path; /* owned */
} tk_map;
/* Maps a regular file. Refuses directories, devices and Git-LFS pointer files, each with its own words. */
tk_status tk_map_open(tk_map *m, const char *path);
void tk_map_close(tk_map *m);
/* Tells the kernel that these bytes are not needed again (their packed copy is); whole pages only. */
void tk_map_release(const tk_map *m, const void *from, size_t bytes);
/* Reads a whole file of at most `limit` bytes into b (appended). */
tk_status tk_file_read(tk_buf *b, const char *path, size_t limit);
/* Writes beside the target, fsyncs, renames over it, fsyncs the folder: the old file or the new, never half.
 * What is there and no regular file (a device, a pipe) is written to as it is. */
tk_status tk_file_write(const char *path, const void *data, size_t n);
bool tk_file_exists(const char *path);
bool tk_file_is_dir(const char *path);
tk_status tk_mkdirs(const char *path); /* like mkdir -p */

/* ---- number formats (formats.def, formats.c) --------------------------------------------------------- */

/* A dtype is any way to store a matrix of numbers, plain or quantized, in file order or packed for a
 * kernel. A [rows, cols] matrix takes ceil(rows/group) * ceil(cols/block) * bytes bytes. Plain formats
 * have group 1; a packed one interleaves `group` rows. Rows of formats.def, in this order. */
typedef enum tk_dtype {
#define TK_FORMAT(name, text, block, group, bytes, stem, access) TK_##name,
#include "base/formats.def"
#undef TK_FORMAT
    TK_DTYPES,
    TK_NODTYPE = TK_DTYPES
} tk_dtype;

typedef struct tk_format {
    const char *name;        /* "q8_0" */
    int block, group, bytes; /* see above */
    /* Row `row` of a [rows, cols] matrix at `m` -> dst[cols] float32. NULL: not a real-number format. */
    void (*unpack)(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row);
    /* src[cols] float32 -> row `row`. NULL: cannot be written. Other rows of its group keep their bytes. */
    void (*pack)(void *m, const float *src, int64_t rows, int64_t cols, int64_t row);
} tk_format;
extern const tk_format tk_formats[TK_DTYPES];
/* What formats.c and formats_packed.c define for the rows (those that a row's access leaves out do not exist)
 */
#define TK_FORMAT(name, text, block, group, bytes, stem, access)                                             \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row);              \
    void tk__pack_##stem(void *m, const float *src, int64_t rows, int64_t cols, int64_t row);
#include "base/formats.def"
#undef TK_FORMAT
/* Bytes of a [rows, cols] matrix, overflow-checked: false when it does not fit or cols % block != 0 for
 * formats with block > 1 and group 1 (file formats have no ragged rows). */
bool tk_format_size(tk_dtype t, int64_t rows, int64_t cols, size_t *bytes);
tk_dtype tk_format_by_name(const char *name); /* TK_NODTYPE if unknown */

static inline float tk_bits_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t tk_f32_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float tk_bf16_f32(uint16_t h) { return tk_bits_f32((uint32_t)h << 16); }
uint16_t tk_f32_bf16(float f); /* round to nearest even, NaN kept quiet */
float tk__e4m3_f32(uint8_t x); /* OCP 8-bit floating point: bias 7, 0x7f is NaN */
float tk_f16_f32(uint16_t h);
uint16_t tk_f32_f16(float f); /* round to nearest even, subnormals kept */
/* Unaligned little-endian reads */
static inline uint16_t tk_le16(const void *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t tk_le32(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t tk_le64(const void *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* ---- random numbers: Philox4x32-10 (philox.c) -------------------------------------------------------- */

/* Counter based: the same (key, counter) gives the same four words on every machine. */
void tk_philox(uint32_t out[4], uint64_t key, const uint32_t counter[4]);
/* A float in [0, 1) from 24 bits of one word */
static inline float tk_uniform(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* ---- thread pool (pool.c) ---------------------------------------------------------------------------- */

/* n threads, the caller being thread 0. Workers are pinned when `pin` and there are enough CPUs, the caller
 * for as long as a job runs; workers spin for a while between jobs and inside barriers, then sleep. */
typedef struct tk_pool tk_pool;
tk_status tk_pool_new(tk_pool **out, int threads, bool pin);
void tk_pool_free(tk_pool *p);
int tk_pool_threads(const tk_pool *p);
/* Runs fn(arg, ith, nth) on all threads; returns when all have returned. No allocation. */
void tk_pool_run(tk_pool *p, void (*fn)(void *arg, int ith, int nth), void *arg);
/* Inside a job: waits until every thread of the pool is here. p may be NULL (one thread: no-op). */
void tk_pool_sync(tk_pool *p, int ith);
/* Pieces of a step's work for threads that do not all get on equally fast: each takes pieces of its own part
 * (that of tk_split) from the front, then what is left of the others' from the back; pieces shrink towards
 * the end, down to `grain` items. Every thread of the pool passes the same shares in the same order. Without
 * a pool, the part alone. */
typedef struct tk_share {
    tk_pool *pool;
    int64_t n, grain;
    int ith, nth, owner; /* whose part is taken from now */
    unsigned turn;
} tk_share;
tk_share tk_share_begin(tk_pool *p, int64_t n, int64_t grain, int ith, int nth);
/* The next piece [*from, *to); false: none is left. */
bool tk_share_next(tk_share *s, int64_t *from, int64_t *to);
/* The part [*from, *to) of n items that thread ith of nth owns, in units of `grain` items. */
static inline void tk_split(int64_t n, int64_t grain, int ith, int nth, int64_t *from, int64_t *to) {
    int64_t units = tk_ceil_div(n, grain), a = units * ith / nth * grain, b = units * (ith + 1) / nth * grain;
    *from = TK_MIN(a, n), *to = TK_MIN(b, n);
}

/* ---- machine (machine.c) ----------------------------------------------------------------------------- */

double tk_now(void);    /* monotonic seconds */
int tk_cpu_count(void); /* CPUs this process may use */
/* These, at most `most`: one of each core in the order of their numbers, then the others. Returns how many
 * cores there are: two threads on one core share its vector units and its way to memory, so more are no
 * faster. */
int tk_cpu_list(int *cpus, int most);
size_t tk_mem_available(void); /* bytes free for use now (MemAvailable, cgroup limit honoured) */
size_t tk_mem_peak(void);      /* VmHWM of this process, bytes */

/* CPU features that kernels ask for; a row of kernels.def names the bits it needs. */
enum {
    TK_CPU_AVX2 = 1 << 0,   /* AVX2 + FMA + F16C */
    TK_CPU_AVX512 = 1 << 1, /* F, BW, DQ, VL + VNNI */
    TK_CPU_BF16 = 1 << 2,   /* AVX512-BF16 at twice the speed of float32; not Intel's, which has half of it */
    TK_CPU_AMX = 1 << 3,    /* AMX tile, int8, bf16, the kernel's permission, and AVX512-BF16 of any speed */
};
/* What this CPU has, cut to the tier named by TOKAMAK_CPU (plain, avx2, avx512, amx) when that is set. */
unsigned tk_cpu_features(void);
#endif
