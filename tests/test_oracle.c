/* SPDX-License-Identifier: Apache-2.0 */
/* The oracles are what everything else is judged by, so they are judged by others: Hugging Face's logits,
 * loss and gradients (tools/make_oracle_vectors.py), finite differences over every option, and a trained
 * model's greedy text. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/base.h"
#include "oracle.h"

enum { SLOTS = 64, TOKENS = 9 };

typedef double model_fn(const oracle_config *, const double *const *, double *const *, const oracle_batch *,
                        double *);

static uint32_t counter;

static double random_number(void) { /* roughly normal */
    uint32_t word[4], at[4] = { counter++ };
    double sum = 0;
    tk_philox(word, 11, at);
    for (int i = 0; i < 4; i++) sum += tk_uniform(word[i]) - 0.5;
    return sum * 1.7;
}

static bool optional(const char *role, bool gpt2, bool biases, bool tied) {
    if (strstr(role, ".b")) return gpt2 ? true : biases && strlen(role) == 3; /* LLaMA: q.b k.b v.b o.b */
    if (!strcmp(role, "pos_embed")) return gpt2;
    if (!strcmp(role, "gate")) return !gpt2;
    return strcmp(role, "head") || !tied;
}

typedef struct fixture {
    oracle_config c;
    double *w[SLOTS], *g[SLOTS];
} fixture;

static void fixture_make(fixture *x, bool gpt2, bool biases) {
    memset(x->w, 0, sizeof x->w), memset(x->g, 0, sizeof x->g);
    assert_in_range(oracle_slots(&x->c), 1, SLOTS);
    for (int i = 0; i < oracle_slots(&x->c); i++) {
        int layer;
        const char *role = oracle_slot_role(i, &layer);
        assert_int_equal(oracle_slot(role, layer), i);
        if (!optional(role, gpt2, biases, x->c.tied)) continue;
        const int64_t n = oracle_slot_size(&x->c, i);
        x->w[i] = malloc((size_t)n * sizeof(double)), x->g[i] = calloc((size_t)n, sizeof(double));
        for (int64_t j = 0; j < n; j++) x->w[i][j] = 0.5 * random_number() + !strncmp(role, "norm", 4);
    }
}

static void fixture_free(fixture *x) {
    for (int i = 0; i < SLOTS; i++) free(x->w[i]), free(x->g[i]);
}

static const int lengths[] = { 6, 3 };
static const int tokens[TOKENS] = { 3, 1, 4, 1, 5, 9, 2, 6, 5 };

/* ---- finite differences ---- */

static void check_slopes(fixture *x, model_fn *model, const oracle_batch *b) {
    const double *const *w = (const double *const *)x->w;
    const double loss = model(&x->c, w, x->g, b, NULL), h = 1e-4;
    assert_true(fabs(model(&x->c, w, NULL, b, NULL) - loss) < 1e-15);
    for (int i = 0; i < oracle_slots(&x->c); i++) {
        const int64_t n = x->w[i] ? oracle_slot_size(&x->c, i) : 0;
        for (int64_t j = 0; j < n; j += 1 + n / 12) {
            const double keep = x->w[i][j];
            double f[4];
            for (int k = 0; k < 4; k++) {
                x->w[i][j] = keep + (double[]){ 1, -1, 2, -2 }[k] * h;
                f[k] = model(&x->c, w, NULL, b, NULL);
            }
            x->w[i][j] = keep;
            const double slope = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h);
            int layer;
            if (fabs(slope - x->g[i][j]) > 1e-9)
                fail_msg("%s of layer %d [%d]: %.12g, the slope is %.12g", oracle_slot_role(i, &layer), layer,
                         (int)j, x->g[i][j], slope);
        }
    }
}

static void llama_gradients(void **state) {
    static const double freq[] = { 1, 0.3, 0.05 };
    static const double mask[TOKENS] = { 1, 0.5, 1, 0, 1, 1, 1, 2, 1 };
    int targets[TOKENS] = { 1, 4, 1, 5, -1, 8, 6, -100, 0 }, sequence[] = { 12, 4 };
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        fixture x = { .c = { .layers = 2,
                             .e = 10,
                             .g = 2,
                             .r = 3,
                             .d = 6,
                             .f = 7,
                             .v = 11,
                             .eps = 1e-5f,
                             .scale = 0.4f,
                             .rope_freq = freq,
                             .rope_factor = 1.1f } };
        oracle_batch b = {
            .nseq = 2, .len = lengths, .tokens = tokens, .targets = targets, .seed = 9, .step = 2
        };
        x.c.tied = variant & 1, x.c.rope_interleaved = variant & 2, x.c.rope_pairs = variant & 2 ? 3 : 2;
        x.c.dropout = variant == 3 ? 0.25f : 0;
        if (variant == 2) b.mask = mask, b.count = 5;
        if (variant == 3) b.sequence = sequence;
        fixture_make(&x, false, variant == 2);
        check_slopes(&x, oracle_llama, &b);
        fixture_free(&x);
    }
}

static void gpt2_gradients(void **state) {
    int targets[TOKENS] = { 1, 4, 1, 5, 9, -1, 6, 5, -1 };
    (void)state;
    for (int variant = 0; variant < 2; variant++) {
        fixture x = { .c = { .layers = 2,
                             .e = 8,
                             .g = 2,
                             .r = 1 + variant,
                             .d = 4,
                             .f = 9,
                             .v = 11,
                             .ctx = 7,
                             .tied = !variant,
                             .eps = 1e-5f,
                             .scale = 0.5f,
                             .dropout = variant ? 0.2f : 0 } };
        oracle_batch b = {
            .nseq = 2, .len = lengths, .tokens = tokens, .targets = targets, .seed = 5, .step = 1
        };
        fixture_make(&x, true, true);
        check_slopes(&x, oracle_gpt2, &b);
        fixture_free(&x);
    }
}

/* Gradients add up: two micro-batches with a common count give what one batch gives. */
static void micro_batches_add_up(void **state) {
    int targets[TOKENS] = { 1, 4, 1, 5, 9, -1, 6, 5, -1 }, second[] = { 1 };
    fixture x = { .c = { .layers = 1,
                         .e = 8,
                         .g = 1,
                         .r = 2,
                         .d = 4,
                         .f = 9,
                         .v = 11,
                         .ctx = 7,
                         .tied = true,
                         .eps = 1e-5f,
                         .scale = 0.5f,
                         .dropout = 0.2f } };
    double *twice[SLOTS] = { 0 };
    (void)state;
    fixture_make(&x, true, true);
    for (int i = 0; i < oracle_slots(&x.c); i++)
        if (x.w[i]) twice[i] = calloc((size_t)oracle_slot_size(&x.c, i), sizeof(double));
    oracle_batch b = { .nseq = 2, .len = lengths, .tokens = tokens, .targets = targets, .seed = 5 };
    const double *const *w = (const double *const *)x.w;
    const double loss = oracle_gpt2(&x.c, w, x.g, &b, NULL);
    oracle_batch one = {
        .nseq = 1, .len = lengths, .tokens = tokens, .targets = targets, .seed = 5, .count = 7
    };
    oracle_batch two = { .nseq = 1,
                         .len = lengths + 1,
                         .tokens = tokens + 6,
                         .targets = targets + 6,
                         .seed = 5,
                         .count = 7,
                         .sequence = second };
    const double parts = oracle_gpt2(&x.c, w, twice, &one, NULL) + oracle_gpt2(&x.c, w, twice, &two, NULL);
    assert_true(fabs(parts - loss) < 1e-14);
    for (int i = 0; i < oracle_slots(&x.c); i++)
        for (int64_t j = 0; x.w[i] && j < oracle_slot_size(&x.c, i); j++)
            assert_true(fabs(twice[i][j] - x.g[i][j]) < 1e-14);
    for (int i = 0; i < SLOTS; i++) free(twice[i]);
    fixture_free(&x);
}

/* ---- Hugging Face ---- */

static void check_vectors(const char *name, fixture *x, model_fn *model, double tolerance) {
    char path[64];
    tk_buf file = { 0 };
    snprintf(path, sizeof path, "tests/data/oracle/%s.bin", name);
    assert_int_equal(tk_file_read(&file, path, 1 << 20), TK_OK);
    const double *at = (const double *)file.data, *end = at + file.len / 8;
    for (int i = 0; i < oracle_slots(&x->c); i++)
        for (int64_t j = 0; x->w[i] && j < oracle_slot_size(&x->c, i); j++) x->w[i][j] = *at++;
    const int targets[TOKENS] = { 1, 4, 1, 5, 9, -1, 6, 5, -1 };
    double logits[TOKENS * 11];
    oracle_batch b = { .nseq = 2, .len = lengths, .tokens = tokens, .targets = targets };
    const double loss = model(&x->c, (const double *const *)x->w, x->g, &b, logits);
    for (int i = 0; i < oracle_slots(&x->c); i++)
        for (int64_t j = 0; x->w[i] && j < oracle_slot_size(&x->c, i); j++, at++) {
            int layer;
            if (fabs(x->g[i][j] - *at) > tolerance)
                fail_msg("%s: gradient of %s, layer %d [%d] is %.12g, Hugging Face has %.12g", name,
                         oracle_slot_role(i, &layer), layer, (int)j, x->g[i][j], *at);
        }
    for (int i = 0; i < TOKENS * 11; i++, at++)
        if (fabs(logits[i] - *at) > tolerance)
            fail_msg("%s: logit %d is %.12g, not %.12g", name, i, logits[i], *at);
    assert_true(fabs(loss - *at++) < tolerance);
    assert_ptr_equal(at, end);
    tk_buf_free(&file);
}

static void equals_hugging_face(void **state) {
    static const double freq[] = { 1, 0.01 };
    fixture l = { .c = { .layers = 2,
                         .e = 8,
                         .g = 2,
                         .r = 2,
                         .d = 4,
                         .f = 10,
                         .v = 11,
                         .eps = 1e-5f,
                         .scale = 0.5f,
                         .rope_pairs = 2,
                         .rope_freq = freq,
                         .rope_factor = 1 } };
    fixture g = { .c = { .layers = 2,
                         .e = 8,
                         .g = 2,
                         .r = 1,
                         .d = 4,
                         .f = 10,
                         .v = 11,
                         .ctx = 6,
                         .tied = true,
                         .eps = 1e-5f,
                         .scale = 0.5f } };
    (void)state;
    fixture_make(&l, false, false);
    check_vectors("llama", &l, oracle_llama, 1e-6); /* Hugging Face's cos and sin are float32 */
    fixture_free(&l);
    fixture_make(&g, true, true);
    check_vectors("gpt2", &g, oracle_gpt2, 1e-9); /* eps is a float32 here */
    fixture_free(&g);
}

/* ---- a trained model (llama2.c's stories260K) tells its story ---- */

static const float *take(double **w, const float *from, int64_t n) {
    *w = malloc((size_t)n * sizeof(double));
    for (int64_t i = 0; i < n; i++) (*w)[i] = from[i];
    return from + n;
}

static bool shared_file(tk_buf *b, const char *name) {
    char path[512];
    const char *shared = getenv("TOKAMAK_SHARED");
    snprintf(path, sizeof path, "%s/models/stories260k/%s", shared ? shared : "../shared", name);
    return tk_file_read(b, path, 1 << 21) == TK_OK;
}

static void tells_the_story(void **state) {
    enum { STEPS = 48 };
    static const char *order[] = { "norm1", "q", "k", "v", "o", "norm2", "gate", "down", "up" };
    tk_buf model = { 0 }, vocabulary = { 0 }, story = { 0 };
    double freq[64];
    (void)state;
    if (!shared_file(&model, "stories260K.bin") || !shared_file(&vocabulary, "tok512.bin") ||
        !shared_file(&story, "greedy200.txt")) {
        print_message("skipped: no shared files\n");
        tk_buf_free(&model), tk_buf_free(&vocabulary), tk_buf_free(&story);
        return;
    }
    int32_t head[7]; /* dim, hidden, layers, heads, KV heads, vocabulary, context */
    memcpy(head, model.data, sizeof head);
    const int d = head[0] / head[3];
    fixture x = { .c = { .layers = head[2],
                         .e = head[0],
                         .g = head[4],
                         .r = head[3] / head[4],
                         .d = d,
                         .f = head[1],
                         .v = head[5],
                         .tied = true,
                         .eps = 1e-5f,
                         .scale = (float)(1 / sqrt(d)),
                         .rope_pairs = d / 2,
                         .rope_interleaved = true,
                         .rope_freq = freq,
                         .rope_factor = 1 } };
    for (int i = 0; i < d / 2; i++) freq[i] = pow(10000, -2.0 * i / d);
    double *w[128] = { 0 };
    assert_in_range(oracle_slots(&x.c), 1, 128);
    const float *at = (const float *)(model.data + sizeof head);
    at = take(&w[oracle_slot("embed", 0)], at, oracle_slot_size(&x.c, oracle_slot("embed", 0)));
    for (size_t role = 0; role < TK_COUNT(order); role++)
        for (int l = 0; l < head[2]; l++) {
            const int slot = oracle_slot(order[role], l);
            at = take(&w[slot], at, oracle_slot_size(&x.c, slot));
        }
    take(&w[oracle_slot("norm_out", 0)], at, head[0]);

    int text[STEPS + 1] = { 1 }, none[STEPS + 1];
    double *logits = malloc(sizeof(double) * STEPS * (size_t)head[5]);
    char said[1024] = "";
    for (int n = 1; n <= STEPS; n++) {
        oracle_batch b = { .nseq = 1, .len = &n, .tokens = text, .targets = none, .count = 1 };
        none[n - 1] = -1;
        oracle_llama(&x.c, (const double *const *)w, NULL, &b, logits);
        int best = 0;
        for (int i = 0; i < head[5]; i++)
            if (logits[(n - 1) * head[5] + i] > logits[(n - 1) * head[5] + best]) best = i;
        text[n] = best;
        const char *piece = vocabulary.data + 4; /* score, length, bytes of each token */
        for (int i = 0; i < best; i++) piece += 8 + tk_le32(piece + 4);
        const int length = (int)tk_le32(piece + 4);
        const bool first = n == 1 && piece[8] == ' '; /* the begin token eats one space */
        snprintf(said + strlen(said), sizeof said - strlen(said), "%.*s", length - first, piece + 8 + first);
    }
    if (strncmp(said, story.data, strlen(said))) fail_msg("told: %s", said);
    assert_in_range(strlen(said), 60, 1000);
    for (int i = 0; i < 128; i++) free(w[i]);
    free(logits), tk_buf_free(&model), tk_buf_free(&vocabulary), tk_buf_free(&story);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_gradients),      cmocka_unit_test(gpt2_gradients),
        cmocka_unit_test(micro_batches_add_up), cmocka_unit_test(equals_hugging_face),
        cmocka_unit_test(tells_the_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
