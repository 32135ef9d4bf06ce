/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling. Two ideas carry it. Weights are integers, 2^40 times the probability relative to the most
 * probable token, so that every sum is exact, whatever its order, and a seed gives the same token on every
 * machine. And the samplers that cut (top-p, min-p) keep a prefix of one order, descending logit, ties by id:
 * so the state after any number of cuts is one number, the mass kept, and nothing needs to be fully sorted.
 * With top-k the candidates are a short sorted list. Without it they stay where they are, with their masses
 * summed in buckets of 1/128 in log-probability, and only the bucket that a mass falls into is sorted. */
#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "infer/infer.h"
#include "ops/draw.h"

#define BUCKETS 3552        /* TK_DRAW_DEPTH * 128 */
#define NO_BUCKET 0xffff    /* weight 0 */
#define MAX_VOCAB (1 << 22) /* keeps the sum of all weights below 2^62 */

__extension__ typedef unsigned __int128 wide;

typedef struct candidate {
    float logit; /* never NaN, at most FLT_MAX, above -INFINITY */
    int32_t id;
} candidate;

struct tk_sampler {
    tk_sampling p;
    int32_t vocab;
    tk_arena arena;
    /* What was seen; NULL without penalties. seen[id]: 0 never, else 1 + its count in the answer */
    uint32_t *seen;
    int32_t *distinct; /* the ids with seen[id] > 0, each once */
    size_t distinct_count;
    /* The step */
    float *changed;      /* the logits after bias and penalties; NULL without any */
    const float *logits; /* the caller's, or `changed` */
    candidate *list;     /* the top k in order, or the opened bucket in order */
    int32_t list_count, list_cap;
    bool listed;      /* the list is all there is */
    bool weighed;     /* max and total are valid, and bucket and mass unless listed */
    float max, scale; /* weight of a logit l: exp((l - max) * scale) */
    uint16_t *bucket; /* by id; NULL when always listed */
    uint64_t *mass;   /* by bucket */
    uint64_t total;   /* mass kept, counted from the most probable */
};

static inline float depth_of(const tk_sampler *s, float l) {
    return (tk__draw_clamped(l) - s->max) * s->scale;
}

/* ---- order and selection ------------------------------------------------------------------------------ */

static inline bool before(candidate a, candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* A heap whose root is the last of all in the order */
static void sift_down(candidate *h, int32_t n, int32_t i) {
    candidate x = h[i];
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(h[child], h[child + 1])) child++;
        if (!before(x, h[child])) break;
        h[i] = h[child];
    }
    h[i] = x;
}

static void sort(candidate *c, int32_t n) {
    for (int32_t i = n / 2; i-- > 0;) sift_down(c, n, i);
    while (n > 1) {
        candidate last = c[0];
        c[0] = c[--n], c[n] = last;
        sift_down(c, n, 0);
    }
}

/* The first k of the order, sorted. Most blocks of logits hold nothing above the k-th best so far, which a
 * branch-free test of the block shows: the cost is that of reading the logits. */
static int32_t select_best(candidate *list, int32_t k, const float *logits, int32_t vocab) {
    enum { BLOCK = 64 };
    int32_t n = 0;
    float bar = -INFINITY; /* what a logit must exceed; ids ascend, so a tie never displaces */
    for (int32_t from = 0; from < vocab; from += BLOCK) {
        int32_t to = TK_MIN(from + BLOCK, vocab);
        int any = 0;
        for (int32_t i = from; i < to; i++) any |= logits[i] > bar;
        if (!any) continue;
        for (int32_t i = from; i < to; i++) {
            if (!(logits[i] > bar)) continue;
            candidate c = { tk__draw_clamped(logits[i]), i };
            if (n == k) {
                if (!before(c, list[0])) continue;
                list[0] = c;
                sift_down(list, k, 0);
            } else {
                list[n++] = c;
                if (n == k)
                    for (int32_t j = k / 2; j-- > 0;) sift_down(list, k, j);
            }
            if (n == k) bar = list[0].logit;
        }
    }
    sort(list, n);
    return n;
}

int32_t tk_argmax(const float *logits, int32_t vocab) {
    candidate best;
    return select_best(&best, 1, logits, vocab) ? best.id : -1;
}

double tk_logprob(const float *logits, int32_t vocab, int32_t id) {
    int32_t best = tk_argmax(logits, vocab);
    if (best < 0 || !(logits[id] > -INFINITY)) return -INFINITY;
    float max = tk__draw_clamped(logits[best]), e[64];
    double sums[8] = { 0 };
    for (int32_t from = 0; from < vocab; from += 64) {
        int32_t n = TK_MIN(64, vocab - from);
        for (int32_t i = 0; i < n; i++) e[i] = tk__exp_negative(tk__draw_clamped(logits[from + i]) - max);
        memset(e + n, 0, (size_t)(64 - n) * sizeof *e);
        for (int32_t i = 0; i < 64; i += 8)
            for (int32_t j = 0; j < 8; j++) sums[j] += (double)e[i + j];
    }
    double sum = 0;
    for (int j = 0; j < 8; j++) sum += sums[j];
    return (double)tk__draw_clamped(logits[id]) - (double)max - log(sum);
}

/* ---- masses ---------------------------------------------------------------------------------------------
 */

/* Sets max and total, once a step. Nothing to draw from leaves total 0. */
static void weigh(tk_sampler *s) {
    if (s->weighed) return;
    s->weighed = true;
    s->total = 0;
    if (s->listed) {
        s->max = s->list_count ? s->list[0].logit : 0;
        for (int32_t i = 0; i < s->list_count; i++)
            s->total += tk__draw_weight(depth_of(s, s->list[i].logit));
        return;
    }
    if (!select_best(s->list, 1, s->logits, s->vocab)) return;
    s->max = s->list[0].logit;
    memset(s->mass, 0, BUCKETS * sizeof *s->mass);
    float z[64], e[64];
    for (int32_t from = 0; from < s->vocab; from += 64) {
        int32_t n = TK_MIN(64, s->vocab - from);
        for (int32_t i = 0; i < n; i++)
            z[i] = depth_of(s, s->logits[from + i]); /* vectorized, unlike below */
        for (int32_t i = 0; i < n; i++) e[i] = tk__exp_negative(z[i]);
        for (int32_t i = 0; i < n; i++) {
            uint64_t w = z[i] > -TK_DRAW_DEPTH ? tk__draw_fixed(e[i]) : 0;
            s->bucket[from + i] = w ? (uint16_t)(z[i] * -128.0f) : NO_BUCKET;
            if (w) s->mass[s->bucket[from + i]] += w, s->total += w;
        }
    }
}

/* Sorts the members of one bucket into the list. */
static void open_bucket(tk_sampler *s, uint16_t b) {
    s->list_count = 0;
    for (int32_t from = 0; from < s->vocab; from += 64) {
        int32_t to = TK_MIN(from + 64, s->vocab);
        int any = 0;
        for (int32_t i = from; i < to; i++) any |= s->bucket[i] == b;
        if (!any) continue;
        for (int32_t i = from; i < to; i++)
            if (s->bucket[i] == b)
                s->list[s->list_count++] = (candidate){ tk__draw_clamped(s->logits[i]), i };
    }
    sort(s->list, s->list_count);
}

/* The first candidate at which the mass from the top reaches `target` (1..total); its id goes to *id if
 * that is not NULL. Returns the mass through it. */
static uint64_t reach(tk_sampler *s, uint64_t target, int32_t *id) {
    uint64_t sum = 0;
    if (!s->listed) {
        uint16_t b = 0;
        while (sum + s->mass[b] < target) sum += s->mass[b++];
        open_bucket(s, b);
    }
    int32_t i = 0;
    while ((sum += tk__draw_weight(depth_of(s, s->list[i].logit))) < target) i++;
    if (id) *id = s->list[i].id;
    return sum;
}

/* ---- the rows of samplers.def ---------------------------------------------------------------------------
 */

static void add_bias(tk_sampler *s) {
    for (size_t i = 0; i < s->p.bias_count; i++) s->changed[s->p.bias[i].token] += s->p.bias[i].value;
}

static void penalize_repeats(tk_sampler *s) {
    for (size_t i = 0; i < s->distinct_count; i++) {
        float *l = &s->changed[s->distinct[i]];
        *l = *l < 0 ? *l * s->p.repeat_penalty : *l / s->p.repeat_penalty;
    }
}

static void penalize_presence(tk_sampler *s) {
    for (size_t i = 0; i < s->distinct_count; i++)
        if (s->seen[s->distinct[i]] > 1) s->changed[s->distinct[i]] -= s->p.presence_penalty;
}

static void penalize_frequency(tk_sampler *s) {
    for (size_t i = 0; i < s->distinct_count; i++) {
        uint32_t times = s->seen[s->distinct[i]] - 1;
        s->changed[s->distinct[i]] -= s->p.frequency_penalty * (float)times;
    }
}

static void set_temperature(tk_sampler *s) {
    if (s->p.temp > 0) {
        s->scale = 1 / s->p.temp;
    } else {
        s->list_count = select_best(s->list, 1, s->logits, s->vocab);
        s->listed = true;
    }
}

static void keep_top_k(tk_sampler *s) {
    if (s->listed) return; /* greedy: one is left */
    s->list_count = select_best(s->list, TK_MIN(s->p.top_k, s->vocab), s->logits, s->vocab);
    s->listed = true;
}

static void keep_top_p(tk_sampler *s) {
    weigh(s);
    if (!s->total) return;
    double target = ceil((double)s->p.top_p * (double)s->total);
    s->total = reach(s, target < 1 ? 1 : TK_MIN((uint64_t)target, s->total), NULL);
}

static void keep_min_p(tk_sampler *s) {
    weigh(s);
    uint64_t least = (uint64_t)ceil((double)s->p.min_p * (double)TK_DRAW_ONE), sum = 0;
    for (int32_t i = 0; i < (s->listed ? s->list_count : s->vocab); i++) {
        uint64_t w = tk__draw_weight(depth_of(s, s->listed ? s->list[i].logit : s->logits[i]));
        if (w >= least) sum += w;
    }
    s->total = TK_MIN(s->total, sum);
}

tk_status tk__nothing_to_draw(uint64_t position) {
    return TK_FAIL(TK_E_INTERNAL,
                   "no token can be drawn at position %llu\n"
                   "every logit is NaN or minus infinity: the weights are damaged, or "
                   "logit_bias bans all tokens\n"
                   "check the model file, or lift a ban",
                   (unsigned long long)position);
}

tk_status tk_sampler_pick(tk_sampler *s, const float *logits, uint64_t position, int32_t *id) {
    s->logits = logits, s->scale = 1, s->listed = false, s->weighed = false;
    assert(s->changed || (!s->p.bias_count && !s->seen)); /* what allocate promises */
    if (s->changed) {
        memcpy(s->changed, logits, (size_t)s->vocab * sizeof *logits);
        s->logits = s->changed;
    }
#define SAMPLER(name, parameter, neutral, low, high, function)                                               \
    if (s->p.parameter != (neutral)) function(s);
#include "infer/samplers.def"
#undef SAMPLER
    weigh(s);
    if (!s->total) return tk__nothing_to_draw(position);
    uint32_t word[4], counter[4] = { (uint32_t)position, (uint32_t)(position >> 32), 0, TK_DRAW_SITE };
    tk_philox(word, s->p.seed, counter);
    uint64_t random = (uint64_t)word[0] << 32 | word[1];
    reach(s, (uint64_t)((wide)random * s->total >> 64) + 1, id);
    return TK_OK;
}

/* ---- making -----------------------------------------------------------------------------------------------
 */

tk_sampling tk_sampling_defaults(void) {
    return (tk_sampling){ .temp = 0.8f, .top_k = 40, .top_p = 0.95f, .repeat_penalty = 1 };
}

tk_status tk_sampling_check(const tk_sampling *p, int32_t vocab) {
    if (vocab <= 0 || vocab > MAX_VOCAB)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "a vocabulary of %d tokens\nsampling takes 1 to %d\n"
                       "check the model file",
                       (int)vocab, MAX_VOCAB);
#define SAMPLER(name, parameter, neutral, low, high, function)                                               \
    if (!((double)p->parameter >= (double)(low) && (double)p->parameter <= (double)(high)))                  \
        return TK_FAIL(TK_E_USAGE, "%s is out of range\nit is %g\ngive a number from %g to %g", name,        \
                       (double)p->parameter, (double)(low), (double)(high));
#include "infer/samplers.def"
#undef SAMPLER
    if (p->temp > 0 && p->temp < 1e-6f)
        return TK_FAIL(TK_E_USAGE, "temperature is out of range\nit is %g\ngive 0, or a number from 1e-6 up",
                       (double)p->temp);
    for (size_t i = 0; i < p->bias_count; i++) {
        int32_t token = p->bias[i].token;
        float value = p->bias[i].value;
        if (token < 0 || token >= vocab)
            return TK_FAIL(TK_E_USAGE,
                           "logit_bias names token %d\nthe vocabulary has ids 0 to %d\n"
                           "give an id within it",
                           (int)token, (int)vocab - 1);
        if (!(value <= FLT_MAX))
            return TK_FAIL(TK_E_USAGE,
                           "logit_bias of token %d is %g\nit is no finite number\n"
                           "give a number, like -100 to 100",
                           (int)token, (double)value);
    }
    return TK_OK;
}

static tk_status allocate(tk_sampler *s) {
    size_t vocab = (size_t)s->vocab;
    bool penalties = s->p.repeat_penalty != 1 || s->p.presence_penalty != 0 || s->p.frequency_penalty != 0;
    bool buckets = s->p.temp > 0 && s->p.top_k == 0;
    tk_logit_bias *bias = NULL;
    size_t room = buckets ? vocab : s->p.temp > 0 ? (size_t)TK_MIN(s->p.top_k, s->vocab) : 1;
    if (!(s->list = tk_arena_array(&s->arena, room, sizeof *s->list))) return TK_E_NOMEM;
    if (buckets) {
        s->bucket = tk_arena_array(&s->arena, vocab, sizeof *s->bucket);
        s->mass = tk_arena_array(&s->arena, BUCKETS, sizeof *s->mass);
        if (!s->bucket || !s->mass) return TK_E_NOMEM;
    }
    if (penalties) {
        s->seen = tk_arena_array(&s->arena, vocab, sizeof *s->seen);
        s->distinct = tk_arena_array(&s->arena, vocab, sizeof *s->distinct);
        if (!s->seen || !s->distinct) return TK_E_NOMEM;
    }
    if (penalties || s->p.bias_count) {
        if (!(s->changed = tk_arena_array(&s->arena, vocab, sizeof *s->changed))) return TK_E_NOMEM;
    }
    if (s->p.bias_count) {
        if (!(bias = tk_arena_array(&s->arena, s->p.bias_count, sizeof *bias))) return TK_E_NOMEM;
        memcpy(bias, s->p.bias, s->p.bias_count * sizeof *bias);
    }
    s->p.bias = bias;
    return TK_OK;
}

tk_status tk_sampler_new(tk_sampler **out, const tk_sampling *p, int32_t vocab) {
    *out = NULL;
    TK_TRY(tk_sampling_check(p, vocab));
    tk_sampler *s = calloc(1, sizeof *s);
    if (!s) return TK_FAIL(TK_E_NOMEM, "out of memory\nfor a sampler\nfree some memory");
    s->p = *p, s->vocab = vocab;
    tk_status status = allocate(s);
    if (status == TK_OK)
        *out = s;
    else
        tk_sampler_free(s);
    return status;
}

void tk_sampler_free(tk_sampler *s) {
    if (!s) return;
    tk_arena_free(&s->arena);
    free(s);
}

void tk_sampler_reset(tk_sampler *s) {
    for (size_t i = 0; i < s->distinct_count; i++) s->seen[s->distinct[i]] = 0;
    s->distinct_count = 0;
}

static void see(tk_sampler *s, int32_t id, uint32_t times) {
    if (!s->seen || id < 0 || id >= s->vocab) return;
    if (!s->seen[id]) {
        s->seen[id] = 1;
        s->distinct[s->distinct_count++] = id;
    }
    if (s->seen[id] <= UINT32_MAX - times) s->seen[id] += times;
}

void tk_sampler_see_prompt(tk_sampler *s, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) see(s, ids[i], 0);
}
void tk_sampler_see_answer(tk_sampler *s, int32_t id) { see(s, id, 1); }
