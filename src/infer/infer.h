/* SPDX-License-Identifier: Apache-2.0 */
/* From logits to text: sampling, stop strings, the engine that runs a model step by step. */
#ifndef TK_INFER_H
#define TK_INFER_H
#include "base/base.h"
#include "model/model.h"
#include "text/template.h"
#include "text/text.h"

/* ---- sampling (sample.c, samplers.def; the standard is docs/SAMPLING.md) ----------------------------- */

/* One sampler serves one sequence: it remembers which tokens were seen. All memory is taken by new, as
 * much as the parameters need (a few KB with top-k and no penalties; 9 to 24 bytes a vocabulary entry else).
 */
typedef struct tk_sampler tk_sampler;

/* TK_E_USAGE with the parameter's name and range when one is outside it. vocab > 0. */
tk_status tk_sampling_check(const tk_sampling *p, int32_t vocab);
/* Checks, and copies what p points to. */
tk_status tk_sampler_new(tk_sampler **out, const tk_sampling *p, int32_t vocab);
void tk_sampler_free(tk_sampler *s);
/* Forgets all tokens seen. */
void tk_sampler_reset(tk_sampler *s);
/* Tokens of the prompt, and of the answer, as they come. Ids outside the vocabulary are ignored. */
void tk_sampler_see_prompt(tk_sampler *s, const int32_t *ids, size_t n);
void tk_sampler_see_answer(tk_sampler *s, int32_t id);
/* Draws the token for index `position` of the sequence (the begin token has index 0) from logits[vocab],
 * which stay as they are. A function of parameters, tokens seen, logits and position only. Fails only when
 * no logit is a number above -INFINITY. Does not see the token it returns: tell it by see_answer. */
tk_status tk_sampler_pick(tk_sampler *s, const float *logits, uint64_t position, int32_t *id);
/* The failure when no token can be drawn */
tk_status tk__nothing_to_draw(uint64_t position);

/* log softmax(logits)[id] in a fixed order of sums; NaN logits count as -INFINITY. */
double tk_logprob(const float *logits, int32_t vocab, int32_t id);
/* The index of the largest logit, the lowest one among equals; -1 if none is above -INFINITY. */
int32_t tk_argmax(const float *logits, int32_t vocab);

/* ---- stop strings (stop.c) --------------------------------------------------------------------------- */

/* Watches text that arrives in pieces for the first of several strings. Holds back exactly the longest end
 * of the text so far that may begin a stop string, so never more than the longest string less one byte; the
 * result does not depend on how the text is cut into pieces. When the pieces are whole UTF-8 characters, so
 * is what comes out. */
typedef struct tk_stop tk_stop;

enum { TK_STOP_MAX_STRINGS = 64, TK_STOP_MAX_BYTES = 4096 };
/* Copies the strings. n may be 0. Refuses empty strings, invalid UTF-8 and more than the limits above. */
tk_status tk_stop_new(tk_stop **out, const char *const *strings, size_t n);
void tk_stop_free(tk_stop *s);
void tk_stop_reset(tk_stop *s);
/* Takes n bytes of text and appends to `out` what surely lies before any stop string. True once a stop string
 * is complete: it and what follows are dropped, as is all further text until reset. Of several, the one that
 * ends first counts; of those that end together, the longest. */
bool tk_stop_push(tk_stop *s, const char *text, size_t n, tk_buf *out);
/* The text has ended: appends what was held back. */
void tk_stop_finish(tk_stop *s, tk_buf *out);
/* Which string was found, by its index in `strings`; -1: none */
int tk_stop_found(const tk_stop *s);

/* ---- engine (engine.c) ------------------------------------------------------------------------------- */

/* A loaded model that advances several sequences at once over one paged KV cache. A sequence's logits never
 * depend on the others, on how its tokens were cut into steps, or on the number of threads. One thread at a
 * time; the model file must outlive the engine. */
typedef struct tk_engine tk_engine;

typedef struct tk_engine_options { /* all zero is a good default */
    const char *device;            /* "cpu", "cuda", "cuda:1"; NULL: cpu */
    int threads;                   /* 0: one per CPU */
    int64_t ctx;    /* positions of each sequence; 0: the model's, lowered to what fits free memory */
    int seqs;       /* sequences at a time; 0: 1 */
    int chunk;      /* tokens of one step; 0: 512, on a device 2048, or fewer when ctx is */
    int picks;      /* rows of logits of one step; 0: seqs */
    int page_size;  /* keys of a page, a multiple of 16; 0: 64 */
    bool kv_set;    /* kv below counts; else F32 for float32 weights and F16 otherwise */
    tk_dtype kv;    /* F32, F16, BF16, Q8_0 */
    bool reference; /* slow plain C everywhere */
    bool no_fuse;
    bool plan_only;    /* no memory, no weights: for `plan` and `explain` */
    unsigned cpu_mask; /* features to leave unused (TK_CPU_*, TK_CUDA_SM90) */
} tk_engine_options;
tk_status tk_engine_new(tk_engine **out, const tk_modelfile *f, const tk_engine_options *options);
void tk_engine_free(tk_engine *e);

/* What came of the options, and what it takes. Bytes. */
typedef struct tk_engine_info {
    const char *device; /* in words: "cpu", "NVIDIA H200" */
    int threads, seqs, chunk, picks, page_size;
    int64_t ctx;
    tk_dtype kv;
    bool ctx_lowered; /* below the model's to fit memory */
    size_t weights, mapped, state, io,
        work;      /* packed or owned weights; weights read from the file's own pages; ... */
    double load_s; /* reading and packing */
} tk_engine_info;
const tk_engine_info *tk_engine_info_of(const tk_engine *e);
const struct tk_program *tk_engine_program(const tk_engine *e);
struct tk_exec *tk_engine_exec(tk_engine *e);

/* Takes a free sequence (TK_E_LIMIT when all are taken). */
tk_status tk_seq_new(tk_engine *e, int *seq);
void tk_seq_free(tk_engine *e, int seq);
int64_t tk_seq_length(const tk_engine *e, int seq);
/* Forgets all but the first n tokens. */
void tk_seq_truncate(tk_engine *e, int seq, int64_t n);

/* Part of one step: n tokens that continue a sequence, and how many of its last tokens want logits. */
typedef struct tk_step_item {
    int seq;
    const int32_t *tokens;
    int n, want;
} tk_step_item;
/* One step: at most `chunk` tokens and `picks` wanted rows in all, each sequence at most once. *logits:
 * [wanted rows][vocab], in the order of the items and tokens; valid until the next step; NULL allowed. Fails
 * without a change when a token is not in the vocabulary or a sequence would pass the context (both numbers
 * are said). */
tk_status tk_engine_step(tk_engine *e, const tk_step_item *items, int nitems, const float **logits);
/* Whether steps draw tokens too, by the sampler's rules, where the logits lie: devices do. */
bool tk_engine_draws(const tk_engine *e);
/* How tokens behind this sequence's are drawn from now on, ids (of the prompt) having been seen; at first:
 * the likeliest. Each token drawn counts as said in the answer. *draws: whether the engine does so; not where
 * one id has several biases. */
tk_status tk_seq_draw(tk_engine *e, int seq, const tk_sampling *how, const int32_t *ids, size_t n,
                      bool *draws);
/* The tokens drawn behind the last step's wanted rows, -1 where none could be; an engine that does not draw:
 * NULL. The rows themselves need not have been asked for. */
const int32_t *tk_engine_drawn(tk_engine *e);
/* Where the engine draws: a step that is asked for before the one before has ended. Each item has one token
 * and wants one row; tokens NULL: the one drawn in the step before, which had the same sequences in the same
 * order. `finish` waits for the oldest such step and gives its drawn tokens. At most two may be on their way,
 * and no other step meanwhile. */
tk_status tk_engine_start(tk_engine *e, const tk_step_item *items, int nitems);
tk_status tk_engine_finish(tk_engine *e, const int32_t **drawn);
/* Whether all went well so far; on a device that is known once results came back. */
tk_status tk_engine_check(const tk_engine *e);
/* As many steps as n tokens need; logits of the last token. */
tk_status tk_engine_prefill(tk_engine *e, int seq, const int32_t *tokens, int64_t n, const float **logits);

/* ---- the public API's model (open.c, prompt.c, generate.c) ------------------------------------------- */

struct tk_model {
    tk_modelfile *file;
    const tk_config *config;
    tk_engine *engine;
    int32_t ctx;
    tk_tokenizer *tokenizer;    /* the file's; NULL until asked for: numbers need none */
    tk_template *chat_template; /* NULL until a chat is rendered */
    char *template_name;        /* NULL: the model's default */
};
/* tk_model_open with up to `rows` positions of logits a step, for those who want all of them. */
tk_status tk__model_open(tk_model **out, const char *path, const tk_model_options *options, int rows);
/* Made at the first call, with the config's end tokens. */
tk_status tk__model_tokenizer(tk_model *m, tk_tokenizer **out);
/* The ids of a request's prompt, appended; at least one, all in the vocabulary. */
tk_status tk__prompt_ids(tk_model *m, const tk_request *r, tk_ids *ids);
tk_status tk__check_ids(const tk_model *m, const int32_t *ids, size_t n);
#endif
