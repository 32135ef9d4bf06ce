/* SPDX-License-Identifier: Apache-2.0 */
/* Merging by score (llama2.c's tok*.bin, GGUF's "llama" vocabularies) against the plain quadratic loop, and
 * the tokenizer of a real llama2.c model. */
#include <stdlib.h>
#include <time.h>

#include "tokens.h"

enum { SPM_SIZE = 3 + 256 + 60 };
typedef struct spm {
    char piece[SPM_SIZE][16];
    float score[SPM_SIZE];
    int n;
} spm;

/* <unk> <s> </s>, the bytes, then pieces of a, b, é and the space mark; few scores, so many ties */
static void make_spm(spm *m, const char *space, unsigned seed) {
    const char *letters[] = { "a", "b", "\xC3\xA9", space };
    m->n = 0;
    for (int i = 0; i < 3; i++) snprintf(m->piece[m->n++], 16, "%s", i ? i == 1 ? "<s>" : "</s>" : "<unk>");
    for (int b = 0; b < 256; b++) snprintf(m->piece[m->n++], 16, "<0x%02X>", b);
    for (int i = 0; i < 4; i++) snprintf(m->piece[m->n++], 16, "%s", letters[i]);
    while (m->n < SPM_SIZE) {
        char *p = m->piece[m->n];
        *p = 0;
        for (unsigned k = 2 + rand_r(&seed) % 3; k; k--) strcat(p, letters[rand_r(&seed) % 4]);
        int i = 0;
        while (strcmp(m->piece[i], p)) i++;
        m->n += i == m->n;
    }
    for (int i = 0; i < m->n; i++) m->score[i] = i < 259 ? 0 : -(float)(rand_r(&seed) % 12);
}

static int spm_find(const spm *m, const char *s) {
    for (int i = 3; i < m->n; i++)
        if (!strcmp(m->piece[i], s)) return i;
    return -1;
}

/* Text with the space marks in place; merges the best pair, leftmost first, until there is none. */
static void spm_slow(const spm *m, const char *text, tk_ids *out) {
    char word[256][64];
    size_t n = 0;
    for (const char *p = text; *p; n++) {
        unsigned len = tk__utf8_len(*p);
        snprintf(word[n], 64, "%.*s", (int)len, p);
        p += len;
    }
    for (;;) {
        int best = -1;
        float score = -1e30f;
        char joined[128] = "";
        for (size_t i = 0; i + 1 < n; i++) {
            char joint[128];
            snprintf(joint, sizeof joint, "%.63s%.63s", word[i], word[i + 1]);
            int id = spm_find(m, joint);
            if (id < 0 || m->score[id] <= score) continue;
            score = m->score[id], best = (int)i;
            memcpy(joined, joint, sizeof joined);
        }
        if (best < 0) break;
        snprintf(word[best], 64, "%s", joined);
        memmove(word[best + 1], word[best + 2], (n - (size_t)best - 2) * sizeof *word);
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        int id = spm_find(m, word[i]);
        if (id >= 0) ok(tk_ids_push(out, id));
        for (const char *p = word[i]; id < 0 && *p; p++) ok(tk_ids_push(out, 3 + (uint8_t)*p));
    }
}

static void check_spm(const tk_tokenizer *t, const spm *m, const char *space, unsigned seed) {
    static const char *const letters[] = { "a", "b", "\xC3\xA9", " ", "\xE6\xBC\xA2", "a", "b", " " };
    for (int round = 0; round < 2000; round++) {
        char plain[256] = "", marked[512], *end = marked;
        tk_ids got = { 0 }, want = { 0 };
        for (unsigned k = rand_r(&seed) % 20; k; k--) strcat(plain, letters[rand_r(&seed) % 8]);
        end += sprintf(end, "%s", *plain ? space : "");
        for (const char *p = plain; *p; p++)
            end += sprintf(end, "%.*s", *p == ' ' ? 3 : 1, *p == ' ' ? space : p);
        spm_slow(m, marked, &want);
        ok(tk_encode(t, plain, strlen(plain), 0, &got));
        assert_int_equal(got.n, want.n);
        if (got.n) assert_memory_equal(got.id, want.id, got.n * sizeof *got.id);
        tk_buf text = { 0 };
        ok(tk_decode(t, got.id, got.n, 0, &text));
        assert_int_equal(text.len, strlen(plain));
        if (text.len) assert_memory_equal(text.data, plain, text.len);
        tk_buf_free(&text);
        tk_ids_free(&got);
        tk_ids_free(&want);
    }
}

static void sentencepiece_like(void **state) {
    (void)state;
    for (unsigned seed = 1; seed < 6; seed++) {
        spm m;
        tk_str tokens[SPM_SIZE];
        int32_t types[SPM_SIZE];
        tk_tokenizer *t;
        make_spm(&m, "\xE2\x96\x81", seed);
        for (int i = 0; i < m.n; i++) {
            tokens[i] = (tk_str){ m.piece[i], strlen(m.piece[i]) };
            types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
        }
        tk_vocab v = TK_VOCAB_NONE;
        v.model = "llama", v.n_tokens = (size_t)m.n, v.tokens = tokens, v.types = types, v.scores = m.score,
        v.bos = 1, v.eos = 2;
        ok(tk_tokenizer_from_vocab(&t, &v));
        assert_true(tk_tokenizer_adds_bos(t));
        check_spm(t, &m, "\xE2\x96\x81", seed);
        tk_tokenizer_free(t);
        v.scores = NULL;
        assert_int_equal(tk_tokenizer_from_vocab(&t, &v), TK_E_FORMAT);

        tk_buf bin = { 0 };
        uint32_t longest = 16;
        make_spm(&m, " ", seed);
        tk_buf_put(&bin, &longest, 4);
        for (int i = 0; i < m.n; i++) {
            uint32_t n = (uint32_t)strlen(m.piece[i]);
            tk_buf_put(&bin, &m.score[i], 4);
            tk_buf_put(&bin, &n, 4);
            tk_buf_put(&bin, m.piece[i], n);
        }
        ok(tk_tokenizer_from_tokbin(&t, bin.data, bin.len, 0));
        assert_int_equal(tk_tokenizer_size(t), m.n);
        check_spm(t, &m, " ", seed);
        tk_tokenizer_free(t);
        for (size_t cut = 0; cut < bin.len; cut += 7) { /* cut anywhere but between two tokens */
            tk_status s = tk_tokenizer_from_tokbin(&t, bin.data, cut, (size_t)m.n);
            assert_int_equal(s, TK_E_FORMAT);
        }
        tk_buf_free(&bin);
    }
}

static void stories_tokenizer(void **state) {
    (void)state;
    const char *shared = getenv("TOKAMAK_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/models/stories260k/tok512.bin", shared ? shared : "../shared");
    if (!tk_file_exists(path)) {
        print_message("skipped: no shared files\n");
        skip();
    }
    tk_tokenizer *t;
    tk_ids ids = { 0 };
    tk_buf text = { 0 };
    ok(tk_tokenizer_open(&t, path));
    assert_int_equal(tk_tokenizer_size(t), 512);
    const char *s = "Once upon a time, there was a girl named Z\xC3\xBC & \xF0\x9F\x91\x8D.";
    ok(tk_encode(t, s, strlen(s), TK_ENCODE_ADD_SPECIAL, &ids));
    assert_int_equal(ids.id[0], 1);
    assert_true(ids.n < strlen(s) - 10);
    stream(t, ids.id + 1, ids.n - 1, 0, &text);
    assert_string_equal(text.data, s);
    tk_buf_free(&text);
    tk_ids_free(&ids);
    tk_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_like),
        cmocka_unit_test(stories_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
