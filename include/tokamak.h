/* SPDX-License-Identifier: Apache-2.0 */
/* Tokamak's public API: open a model, hold a conversation with it, read numbers out of it.
 * Every function that can fail returns a tk_status; tk_error() then tells what went wrong, why, and
 * what to do. Nothing here prints, exits or keeps a pointer to the caller's memory after it returns,
 * unless a function says so. Handles are not shared between threads without the caller's own lock. */
#ifndef TOKAMAK_H
#define TOKAMAK_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define TK_VERSION "0.1.0"

/* X(name, process exit code, meaning) */
#define TK_STATUS_LIST(X)                                                                                    \
    X(OK, 0, "success")                                                                                      \
    X(E_USAGE, 2, "the command line or an argument is wrong")                                                \
    X(E_NOTFOUND, 3, "a file, model or name does not exist")                                                 \
    X(E_FORMAT, 4, "a file or request is damaged or not what it claims to be")                               \
    X(E_UNSUPPORTED, 5, "well-formed, but this build does not know it")                                      \
    X(E_LIMIT, 6, "a limit was reached: context length, size, steps, time")                                  \
    X(E_NOMEM, 7, "not enough memory")                                                                       \
    X(E_IO, 8, "reading or writing failed")                                                                  \
    X(E_NETWORK, 9, "the network or the other side of it failed")                                            \
    X(E_CANCELLED, 10, "stopped on request")                                                                 \
    X(E_INTERNAL, 11, "a defect in Tokamak")
typedef enum tk_status {
#define X(name, exit_code, meaning) TK_##name,
    TK_STATUS_LIST(X)
#undef X
} tk_status;

/* The calling thread's last error: up to three lines, "what", "why", "what to do". Never NULL; valid
 * until the thread's next failing call. */
const char *tk_error(void);

/* ---- sampling ------------------------------------------------------------------------------------- */

/* How the next token is drawn from the logits; docs/SAMPLING.md is the exact standard. */
typedef struct tk_logit_bias {
    int32_t token;
    float value; /* added to the token's logit; -INFINITY bans it */
} tk_logit_bias;
typedef struct tk_sampling {
    float temp;              /* 0: always the most probable token */
    int32_t top_k;           /* keep the k most probable; 0: all */
    float top_p;             /* keep the fewest whose probabilities reach p; 1: all */
    float min_p;             /* keep those of at least p times the highest probability; 0: all */
    float repeat_penalty;    /* over prompt and answer; 1: none */
    float presence_penalty;  /* over the answer; 0: none */
    float frequency_penalty; /* over the answer, times the count; 0: none */
    uint64_t seed;
    const tk_logit_bias *bias;
    size_t bias_count;
} tk_sampling;
/* temperature 0.8, top-k 40, top-p 0.95, nothing else, seed 0 */
tk_sampling tk_sampling_defaults(void);

#ifdef __cplusplus
}
#endif
#endif
