/* SPDX-License-Identifier: Apache-2.0 */
/* Model files of every form that is read, against what numpy, gguf and safetensors say is in them
 * (tests/data/models, written by tools/make_model_files.py). Bad files are in test_modelfile_bad.c. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model/model.h"
#include "text/text.h"

#define DATA "tests/data/models/"

static tk_modelfile *open_ok(const char *path, const tk_modelfile_options *o) {
    tk_modelfile *f;
    if (tk_modelfile_open(&f, path, o) != TK_OK) fail_msg("%s: %s", path, tk_error());
    return f;
}

/* Every line of NAME.truth against the view of that role. */
static void compare_weights(const char *name, const char *file) {
    char path[256], line[512];
    snprintf(path, sizeof path, DATA "%s", file);
    tk_modelfile *f = open_ok(path, NULL);
    snprintf(path, sizeof path, DATA "%s.truth", name);
    FILE *truth = fopen(path, "r");
    assert_non_null(truth);
    int lines = 0;
    while (fgets(line, sizeof line, truth)) {
        char role[32];
        int layer;
        long rows, cols, row;
        double sum, first, last, got = 0;
        assert_int_equal(sscanf(line, "%31s %d %ld %ld %ld %lf %lf %lf", role, &layer, &rows, &cols, &row,
                                &sum, &first, &last),
                         8);
        tk_weight_view v;
        assert_int_equal(tk_modelfile_weight(f, role, layer, &v), TK_OK);
        if (!v.data || v.rows != rows || v.cols != cols)
            fail_msg("%s %s %d: [%ld, %ld]", name, role, layer, (long)v.rows, (long)v.cols);
        float *x = malloc((size_t)cols * 4);
        tk_weight_view_row(&v, row, x);
        for (long i = 0; i < cols; i++) got += (double)x[i];
        if (!(fabs(got - sum) <= 1e-6 * (1 + fabs(sum))) || x[0] != (float)first ||
            x[cols - 1] != (float)last)
            fail_msg("%s %s %d row %ld: sum %g (%g), first %g (%g), last %g (%g)", name, role, layer, row,
                     got, sum, (double)x[0], first, (double)x[cols - 1], last);
        free(x);
        lines++;
    }
    assert_true(lines > (tk_modelfile_config(f)->n_layer > 1 ? 30 : 20));
    fclose(truth);
    tk_modelfile_free(f);
}

static void weights_equal_their_makers(void **state) {
    (void)state;
    static const char *const gguf[] = { "gguf-f32",  "gguf-f16",  "gguf-bf16",   "gguf-q8_0",  "gguf-q4_0",
                                        "gguf-q4_1", "gguf-q4_k", "gguf-q6_k",   "gguf-text",  "gguf-gpt2",
                                        "gguf-q5_0", "gguf-q5_1", "gguf-iq4_nl", "gguf-mxfp4", "gguf-q2_k",
                                        "gguf-q3_k", "gguf-q5_k", "gguf-iq4_xs" };
    static const char *const folders[] = { "hf-llama", "hf-sharded", "hf-gpt2", "hf-gpt2-bare" };
    for (size_t i = 0; i < TK_COUNT(gguf); i++) {
        char file[64];
        snprintf(file, sizeof file, "%s.gguf", gguf[i]);
        compare_weights(gguf[i], file);
    }
    for (size_t i = 0; i < TK_COUNT(folders); i++) compare_weights(folders[i], folders[i]);
    compare_weights("gguf-split", "gguf-split-00002-of-00003.gguf");
    compare_weights("llama2c-v0", "llama2c-v0.bin");
    compare_weights("llama2c-v1", "llama2c-v1.bin");
}

static const char *template_of(const tk_modelfile *f, const char *name, bool tools) {
    const char *text;
    return tk_modelfile_template(f, name, tools, &text) == TK_OK ? text : NULL;
}

static void config_of_a_hf_llama(void **state) {
    (void)state;
    tk_modelfile *f = open_ok(DATA "hf-llama", NULL);
    const tk_config *c = tk_modelfile_config(f);
    assert_int_equal(c->arch, TK_ARCH_LLAMA);
    assert_string_equal(c->name, "hf-llama");
    assert_string_equal(tk_modelfile_format(f), "safetensors");
    assert_true(c->n_layer == 2 && c->n_embd == 16 && c->n_head == 4 && c->n_kv_head == 2 &&
                c->head_dim == 4 && c->n_ff == 24);
    assert_true(c->n_vocab == 20 && c->n_ctx == 16 && c->norm == TK_NORM_RMS && c->norm_eps == 1e-5f &&
                c->act == TK_ACT_SILU);
    assert_true(c->gated && c->qkv_bias && c->o_bias && c->mlp_bias && !c->norm_bias && !c->tied &&
                !c->learned_pos);
    assert_true(c->rope.style == TK_ROPE_HALF && c->rope.dims == 4 && c->rope.theta == 5000 &&
                c->rope.scaling == TK_ROPE_LLAMA3);
    assert_true(c->rope.factor == 8 && c->rope.low_freq == 1 && c->rope.high_freq == 4 &&
                c->rope.original_ctx == 8);
    assert_true(c->bos == 1 && c->n_eos == 3 && c->pad == -1);
    assert_true((c->eos[0] ^ c->eos[1] ^ c->eos[2]) == (2 ^ 3 ^ 5));
    assert_true(tk_attn_scale(c, 1) == 0.5f);
    const tk_gen_defaults *g = tk_modelfile_gen_defaults(f);
    assert_true(g->has_temperature && g->temperature == 0.6f && g->has_top_p && g->top_p == 0.9f &&
                !g->has_top_k && g->do_sample);
    assert_string_equal(template_of(f, NULL, false), "{{ messages[0].content }}");
    assert_string_equal(template_of(f, NULL, true), "no");
    assert_null(template_of(f, "rag", true));
    assert_string_equal(tk_modelfile_special(f, "bos_token"), "<s>");
    assert_string_equal(tk_modelfile_special(f, "eos_token"), "</s>");
    assert_null(tk_modelfile_special(f, "pad_token"));
    tk_modelfile_free(f);
}

static void config_with_transformers_5_keys(void **state) {
    (void)state;
    tk_modelfile *f = open_ok(DATA "hf-sharded", NULL);
    const tk_config *c = tk_modelfile_config(f);
    assert_true(c->tied && c->rope.scaling == TK_ROPE_LINEAR && c->rope.factor == 2 && c->rope.theta == 7000);
    assert_string_equal(template_of(f, NULL, false),
                        "{{ bos_token }}newer\n"); /* not tokenizer_config.json's */
    tk_weight_view v;
    assert_int_equal(tk_modelfile_weight(f, "head", 0, &v), TK_OK);
    assert_null(v.data); /* tied: absent, and no error */
    assert_int_equal(tk_modelfile_weight(f, "q.b", 1, &v), TK_OK);
    assert_null(v.data);
    assert_int_equal(tk_modelfile_weight(f, "pos_embed", 0, &v), TK_OK);
    assert_null(v.data);
    assert_int_equal(tk_modelfile_weight(f, "nonsense", 0, &v), TK_E_INTERNAL);
    assert_int_equal(tk_modelfile_weight(f, "q", 2, &v), TK_E_INTERNAL);
    int n;
    tk_modelfile_tensors(f, &n);
    assert_int_equal(n, 20);
    tk_modelfile_free(f);
}

static void config_of_gpt2(void **state) {
    (void)state;
    tk_modelfile *f = open_ok(DATA "hf-gpt2", NULL);
    const tk_config *c = tk_modelfile_config(f);
    assert_true(c->arch == TK_ARCH_GPT2 && c->norm == TK_NORM_LAYER && c->act == TK_ACT_GELU_TANH &&
                c->learned_pos && c->tied && !c->gated);
    assert_true(c->norm_bias && c->qkv_bias && c->o_bias && c->mlp_bias && c->attn_scale_by_layer &&
                c->rope.dims == 0);
    assert_true(c->n_kv_head == 4 && c->head_dim == 4 && c->n_ctx == 8 && tk_attn_scale(c, 1) == 0.25f);
    assert_true(c->bos == -1); /* 50256 of 20 tokens */
    tk_weight_view v;
    assert_int_equal(tk_modelfile_weight(f, "k", 1, &v), TK_OK);
    assert_true(v.transposed && v.first == 16 && v.rows == 16 && v.cols == 16 && v.stride == 48 * 4);
    assert_true(v.data >= v.map->data && v.data + v.bytes <= v.map->data + v.map->size);
    tk_modelfile_free(f);

    f = open_ok(DATA "gguf-gpt2.gguf", NULL);
    assert_int_equal(tk_modelfile_weight(f, "v", 0, &v), TK_OK);
    assert_true(v.plain && v.dtype == TK_Q8_0 && v.rows == 32 && v.bytes == 32 * 34 &&
                tk_modelfile_config(f)->tied);
    tk_modelfile_free(f);
}

static void config_of_gguf(void **state) {
    (void)state;
    tk_modelfile *f = open_ok(DATA "gguf-f16.gguf", NULL);
    const tk_config *c = tk_modelfile_config(f);
    assert_string_equal(tk_modelfile_format(f), "GGUF v3");
    assert_string_equal(c->name, "tiny gguf-f16");
    assert_true(c->rope.style == TK_ROPE_INTERLEAVED && c->rope.theta == 5000 && c->rope.dims == 4 &&
                c->tied && c->n_vocab == 20);
    assert_true(c->rope.divisors && c->rope.divisors[0] == 1 && c->rope.divisors[1] == 2);
    float freq[2], factor;
    tk_rope_freqs(&c->rope, 1, freq, &factor);
    assert_true(freq[0] == 1 && fabs((double)freq[1] - pow(5000, -0.5) / 2) < 1e-9 && factor == 1);
    int n, found = 0;
    const tk_meta *m = tk_modelfile_meta(f, &n);
    for (int i = 0; i < n; i++)
        found += !strcmp(m[i].key, "llama.context_length") && !strcmp(m[i].value, "16");
    assert_int_equal(found, 1);
    tk_modelfile_free(f);
}

static void rope_scaling_of_gguf(void **state) {
    (void)state;
    float freq[4], factor;
    tk_modelfile *f = open_ok(DATA "gguf-q4_0.gguf", NULL);
    const tk_rope *r = &tk_modelfile_config(f)->rope;
    assert_true(r->scaling == TK_ROPE_LINEAR && r->factor == 4 && r->dims == 8);
    tk_rope_freqs(r, 1, freq, &factor);
    assert_true(freq[0] == 0.25f && factor == 1);
    tk_modelfile_free(f);
    f = open_ok(DATA "gguf-q4_1.gguf", NULL);
    r = &tk_modelfile_config(f)->rope;
    assert_true(r->scaling == TK_ROPE_YARN && r->factor == 4 && r->original_ctx == 8 && r->beta_fast == 32 &&
                r->beta_slow == 1);
    tk_rope_freqs(r, 1, freq, &factor);
    assert_true(fabs((double)factor - (1 + 0.1 * log(4))) < 1e-6 && freq[0] == 1); /* llama.cpp's factor */
    tk_modelfile_free(f);
}

static void llama2c(void **state) {
    (void)state;
    tk_modelfile *f = open_ok(DATA "llama2c-v0.bin", NULL);
    const tk_config *c = tk_modelfile_config(f);
    assert_true(c->tied && c->rope.style == TK_ROPE_INTERLEAVED && c->bos == 1 && c->norm_eps == 1e-5f &&
                c->n_ctx == 16);
    tk_tokenizer *t;
    assert_int_equal(tk_modelfile_tokenizer(f, &t), TK_E_NOTFOUND);
    assert_non_null(strstr(tk_error(), "--tokenizer"));
    tk_modelfile_free(f);
    f = open_ok(DATA "llama2c-v1.bin", NULL);
    assert_false(tk_modelfile_config(f)->tied);
    tk_modelfile_free(f);
}

/* Frequencies by Hugging Face's modeling_rope_utils 5.23 for head_dim 16, printed by tools/make_hf_models.py
 * --rope. It computes in float32 with some five roundings, hence 5e-7; Tokamak rounds once. */
static void rope_frequencies_equal_hf(void **state) {
    (void)state;
    static const struct {
        tk_rope r;
        double factor, freq[8];
    } rows[] = {
#include "data/rope_freqs.inc"
    };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        float freq[8], factor;
        tk_rope_freqs(&rows[i].r, 1, freq, &factor);
        assert_true(fabs((double)factor - rows[i].factor) < 1e-6);
        for (int k = 0; k < 8; k++)
            if (!(fabs((double)freq[k] - rows[i].freq[k]) <= 5e-7 * rows[i].freq[k]))
                fail_msg("row %zu, pair %d: %.9g, HF %.9g", i, k, (double)freq[k], rows[i].freq[k]);
    }
}

static void tokenizer_and_template_of_gguf(void **state) {
    (void)state;
    static const char *const files[] = { "vocab.gguf", "gguf-text.gguf" };
    for (int i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, DATA "%s", files[i]);
        tk_modelfile *f = open_ok(path, &(tk_modelfile_options){ .vocab_only = i == 0 });
        assert_true((tk_modelfile_config(f) == NULL) == (i == 0));
        assert_string_equal(template_of(f, NULL, false), "{{ messages[0].content }}<|end|>");
        assert_string_equal(tk_modelfile_special(f, "eos_token"), "<|end|>");
        tk_tokenizer *t, *again;
        if (tk_modelfile_tokenizer(f, &t) != TK_OK) fail_msg("%s", tk_error());
        assert_int_equal(tk_modelfile_tokenizer(f, &again), TK_OK);
        assert_ptr_equal(t, again);
        tk_ids ids = { 0 };
        assert_int_equal(tk_encode(t, "the<|end|>", 10, TK_ENCODE_PARSE_SPECIAL, &ids), TK_OK);
        assert_true(ids.n == 2 && ids.id[0] == 257 && ids.id[1] == 258);
        assert_true(tk_tokenizer_is_eog(t, 258));
        tk_ids_free(&ids);
        tk_modelfile_free(f);
    }
}

/* Without a model: a tokenizer.json by itself, and a folder that has none. */
static void tokenizer_only(void **state) {
    (void)state;
    const tk_modelfile_options o = { .vocab_only = true };
    tk_modelfile *f = open_ok("tests/data/tokenizers/gpt2.json", &o);
    tk_tokenizer *t;
    if (tk_modelfile_tokenizer(f, &t) != TK_OK) fail_msg("%s", tk_error());
    assert_null(tk_modelfile_config(f));
    tk_modelfile_free(f);
    assert_int_equal(tk_modelfile_open(&f, DATA "hf-llama", &o), TK_E_NOTFOUND);
    assert_non_null(strstr(tk_error(), "no tokenizer.json"));
}

/* A model whose tokenizer lies elsewhere: here in another GGUF file. */
static void tokenizer_override(void **state) {
    (void)state;
    tk_modelfile *f =
        open_ok(DATA "llama2c-v0.bin", &(tk_modelfile_options){ .tokenizer = DATA "vocab.gguf" });
    tk_tokenizer *t;
    if (tk_modelfile_tokenizer(f, &t) != TK_OK) fail_msg("%s", tk_error());
    assert_int_equal(tk_tokenizer_size(t), 259);
    tk_modelfile_free(f);
}

/* Real files, where they are at hand. */
static void shared_files(void **state) {
    (void)state;
    const char *shared = getenv("TOKAMAK_SHARED") ? getenv("TOKAMAK_SHARED") : "../shared";
    char path[512], tokens[512];
    snprintf(path, sizeof path, "%s/models/stories260k/stories260K.bin", shared);
    if (!tk_file_exists(path)) {
        print_message("skipped: no shared files\n");
        return;
    }
    snprintf(tokens, sizeof tokens, "%s/models/stories260k/tok512.bin", shared);
    tk_modelfile *f = open_ok(path, &(tk_modelfile_options){ .tokenizer = tokens });
    tk_tokenizer *t;
    assert_true(tk_modelfile_config(f)->n_layer == 5 && tk_modelfile_config(f)->n_kv_head == 4);
    if (tk_modelfile_tokenizer(f, &t) != TK_OK) fail_msg("%s", tk_error());
    assert_int_equal(tk_tokenizer_size(t), 512);
    tk_modelfile_free(f);
    static const char *const vocabs[] = { "gpt-2", "llama-spm" };
    for (size_t i = 0; i < TK_COUNT(vocabs); i++) {
        snprintf(path, sizeof path, "%s/gguf_vocab/%s.gguf", shared, vocabs[i]);
        assert_int_equal(tk_modelfile_open(&f, path, NULL), TK_E_FORMAT);
        assert_non_null(strstr(tk_error(), "no weights"));
        f = open_ok(path, &(tk_modelfile_options){ .vocab_only = true });
        if (tk_modelfile_tokenizer(f, &t) != TK_OK) fail_msg("%s: %s", path, tk_error());
        tk_modelfile_free(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_equal_their_makers),
        cmocka_unit_test(config_of_a_hf_llama),
        cmocka_unit_test(config_with_transformers_5_keys),
        cmocka_unit_test(config_of_gpt2),
        cmocka_unit_test(config_of_gguf),
        cmocka_unit_test(rope_scaling_of_gguf),
        cmocka_unit_test(tokenizer_only),
        cmocka_unit_test(llama2c),
        cmocka_unit_test(rope_frequencies_equal_hf),
        cmocka_unit_test(tokenizer_and_template_of_gguf),
        cmocka_unit_test(tokenizer_override),
        cmocka_unit_test(shared_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
