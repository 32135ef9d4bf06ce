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
    X(E_INTERNAL, 11, "a defect in Tokamak")                                                                 \
    X(E_DEVICE, 12, "a GPU is not there or failed")
typedef enum tk_status {
#define X(name, exit_code, meaning) TK_##name,
    TK_STATUS_LIST(X)
#undef X
} tk_status;

/* The calling thread's last error: up to three lines, "what", "why", "what to do". Never NULL; valid
 * until the thread's next failing call. */
const char *tk_error(void);

/* ---- sampling ---------------------------------------------------------------------------------------- */

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

/* ---- models ------------------------------------------------------------------------------------------ */

typedef struct tk_model tk_model;
typedef struct tk_model_options { /* zeroed: the defaults */
    const char *tokenizer;        /* a file or folder that replaces the model's own */
    const char *device;           /* "cpu" (the default), "cuda", "cuda:1" */
    const char *kv_type; /* numbers of the KV cache: "f32", "f16", "bf16", "q8_0"; default: f32 for a model of
                            f32 weights, else f16 */
    int32_t ctx;         /* tokens that a session can hold; 0: the model's own number, lowered to what fits
                            free memory */
    int32_t threads;     /* 0: one a core */
    int32_t sessions;    /* how many may exist at once; 0: 1 */
    const char *chat_template; /* the name of one, of a model that has several; NULL: "default" */
} tk_model_options;
/* `path`: a GGUF file, a Hugging Face folder, or a checkpoint of llama2.c or llm.c. options may be NULL. All
 * memory is taken here: what comes after does not run out of it. */
tk_status tk_model_open(tk_model **out, const char *path, const tk_model_options *options);
/* After all of its sessions have been freed. NULL is fine. */
void tk_model_close(tk_model *m);

typedef struct tk_model_info {
    const char *name, *family, *format; /* "SmolLM2 135M", "llama", "GGUF v3"; live as long as the model */
    int32_t vocab;                      /* numbers in one position's logits */
    int32_t ctx;                        /* tokens that a session can hold */
    int32_t model_ctx;                  /* the model's own number */
    int has_template;                   /* messages can be given */
} tk_model_info;
tk_model_info tk_model_about(const tk_model *m);
/* How the model wants to be sampled: its generation_config.json over tk_sampling_defaults(). */
tk_sampling tk_model_sampling(const tk_model *m);

enum {
    TK_TEXT_BEGIN = 1, /* add the begin (and end) token where the model wants it */
    TK_TEXT_MARKS = 2  /* special tokens written in the text, like <|im_end|>, count as such */
};
/* Text to token ids; the caller frees *ids with free(). flags: TK_TEXT_... */
tk_status tk_tokenize(tk_model *m, const char *text, size_t bytes, int flags, int32_t **ids, size_t *count);
/* Token ids to text, UTF-8 and NUL-terminated, special tokens left out; the caller frees *text. */
tk_status tk_detokenize(tk_model *m, const int32_t *ids, size_t count, char **text);

/* ---- sessions: one sequence of tokens, whose beginning need not be computed again -------------------- */

typedef struct tk_session tk_session;
tk_status tk_session_new(tk_session **out, tk_model *m);
void tk_session_free(tk_session *s); /* NULL is fine */

/* Logits of every position of ids[count], which replace what the session held: sink gets them in order, a few
 * positions at a time, [positions][vocab] float32; position i predicts token i + 1. What sink returns other
 * than TK_OK ends the call. */
typedef tk_status tk_logits_sink(void *arg, const float *logits, size_t positions);
tk_status tk_logits(tk_session *s, const int32_t *ids, size_t count, tk_logits_sink *sink, void *arg);

typedef struct tk_message {
    const char *role, *content; /* "system", "user", "assistant" */
} tk_message;

typedef struct tk_request { /* zero what is not needed */
    /* The prompt, one of: plain text, which is continued; a chat, put into the model's template; ids */
    const char *text;
    size_t text_bytes;
    const tk_message *messages;
    size_t message_count;
    const int32_t *ids;
    size_t id_count;

    int32_t max_tokens; /* of the answer; 0: to the end of the context */
    tk_sampling sampling;
    const char *const *stop; /* strings that end the answer and are no part of it */
    size_t stop_count;
    /* Gets the answer as it comes, whole UTF-8 characters; not NUL-terminated. Nonzero ends the answer. */
    int (*on_text)(void *arg, const char *text, size_t bytes);
    void *arg;
    const volatile int
        *cancel; /* ends the answer once nonzero; a signal handler or another thread may set it */
} tk_request;

typedef enum tk_finish {
    TK_FINISH_END,      /* the model ended it */
    TK_FINISH_STOP,     /* a stop string */
    TK_FINISH_LENGTH,   /* max_tokens */
    TK_FINISH_CONTEXT,  /* the context is full */
    TK_FINISH_CANCELLED /* by cancel or on_text */
} tk_finish;

typedef struct tk_result {
    tk_finish finish;
    int32_t stop_index;    /* which of the stop strings; -1 */
    int32_t prompt_tokens; /* of which cached_tokens were in the session already */
    int32_t cached_tokens;
    int32_t answer_tokens;
    double prompt_seconds; /* from the call to the logits of the last prompt token */
    double first_seconds;  /* from the call to the first token of the answer */
    double answer_seconds; /* for the tokens after the first */
} tk_result;

/* Answers a prompt. The longest beginning that the session already holds is not computed again, so a chat
 * costs only its new part each turn; the answer is the same either way. A prompt that does not fit the
 * context is refused with TK_E_LIMIT, never cut. result may be NULL. */
tk_status tk_generate(tk_session *s, const tk_request *request, tk_result *result);

#ifdef __cplusplus
}
#endif
#endif
