/* SPDX-License-Identifier: Apache-2.0 */
/* How GGUF files say text is cut: tokenizer.ggml.pre is a name, and what it means is llama.cpp's source. A
 * name's patterns run one after the other, each on the pieces of the one before. llama.cpp runs those that it
 * has no code for through std::regex over one byte a code point, where \p{..} are bytes and letters have no
 * case beyond ASCII; the same text and patterns go to Oniguruma here. The patterns are data of llama.cpp
 * 0.3.36's models, and a name without a row is refused. */
#include "text/tokenizer.h"

/* What stands for a class beyond ASCII, and the class's ASCII members; for use inside brackets */
#define N                                                                                                    \
    "\xD1"                                                                                                   \
    "0-9"
#define L                                                                                                    \
    "\xD2"                                                                                                   \
    "A-Za-z"
#define P                                                                                                    \
    "\xD3"                                                                                                   \
    "!-#%-*,-/:;?@\\[-\\]_{}"
#define M "\xD4"
#define S                                                                                                    \
    "\xD5"                                                                                                   \
    "$+<=>\\^`|~"

#define ANY_S "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define WORD "[^\\r\\n" L N "]?[" L "]+"
#define OTHER " ?[^\\s" L N "]+"
#define SPACES "\\s+(?!\\S)|\\s+"
#define LINES "\\s*[\\r\\n]+|" SPACES
#define UPPER(marks) "(?:(?=[" L marks "])[^a-z])"
#define LOWER(marks) "(?:(?=[" L marks "])[^A-Z])"
#define CASED(upper, lower, suffix)                                                                          \
    "[^\\r\\n" L N "]?" upper "*" lower "+" suffix "|[^\\r\\n" L N "]?" upper "+" lower "*" suffix
#define SIGNS_WORD "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n" L P S "]?[" L M "]+"
#define CUT_AT_MARKS                                                                                         \
    " ?[^(\\s|.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C)]+"
/* CJK, the Samaritan to Devanagari-and-beyond range that DeepSeek's first models name, Hangul */
#define FAR_EAST "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"

/* A step: a splitter, or a pattern over collapsed text, or a pattern over the text itself */
typedef struct step {
    tk__splitter *split;
    const char *collapsed, *text;
} step;
enum { STEPS = 6 };

static const step default_steps[STEPS] = { { .collapsed = "[" P "$+<=>\\^~|]+" },
                                           { tk__split_gpt2_llama },
                                           { .collapsed = "[" N "]+" },
                                           { tk__split_3digits } };
static const step gpt2_steps[STEPS] = { { tk__split_gpt2_llama } };
static const step starcoder_steps[STEPS] = { { tk__split_number_llama }, { tk__split_gpt2_llama } };
static const step falcon_steps[STEPS] = { { tk__split_falcon_llama },
                                          { tk__split_gpt2_llama },
                                          { tk__split_3digits } };
static const step llama3_steps[STEPS] = { { tk__split_llama3_llama } };
static const step qwen2_steps[STEPS] = { { tk__split_qwen2_llama } };
static const step qwen35_steps[STEPS] = { { tk__split_qwen35_llama } };
static const step o200k_steps[STEPS] = { { tk__split_o200k_llama } };
static const step tekken_steps[STEPS] = { { tk__split_tekken_llama } };
static const step kimi_steps[STEPS] = { { tk__split_kimi_llama } };
static const step newline_steps[STEPS] = { { tk__split_newlines } };
static const step laguna_steps[STEPS] = { { tk__split_newlines }, { tk__split_qwen2_llama } };
static const step deepseek_steps[STEPS] = { { tk__split_3numbers_llama },
                                            { tk__split_cjk },
                                            { tk__split_deepseek_llama } };
static const step superbpe_steps[STEPS] = { { .collapsed = "[" N "]+" }, { tk__split_superbpe_llama } };
static const step bloom_steps[STEPS] = { { .text = CUT_AT_MARKS } };
static const step viking_steps[STEPS] = { { .text = CUT_AT_MARKS }, { tk__split_number_llama } };
static const step whitespace_steps[STEPS] = { { .text = "\\S+" } };
static const step jais2_steps[STEPS] = {
    { .collapsed =
          ANY_S "|" WORD "|[" N "]{1,3}|" OTHER "[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
                "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|"
                "\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}" }
};
static const step spark_steps[STEPS] = {
    { tk__split_3numbers_llama },
    { tk__split_cjk },
    { .collapsed = SIGNS_WORD "| ?[" P S "]+|[\\r\\n]|" SPACES },
    { tk__split_number_llama },
};
static const step youtu_steps[STEPS] = {
    { .text =
          "[\xEA\xB0\x80-\xED\x9E\xA3\xE3\x84\xB1-\xE3\x86\x8E]+|["
          "\xEF\xBC\x81\xE2\x80\xA6\xE2\x80\x9C\xE2\x80\x9D"
          "\xE2\x80\x98\xE2\x80\x99\xE2\x80\x94\xEF\xBC\x9A\xEF\xBC\x9B\xEF\xBC\x8C\xE3\x80\x81-\xE3\x80\xBF"
          "\xEF\xB8\xB0-\xEF\xB9\x8F]+|[\xE3\x84\x85-\xE3\x84\xAF]+|[\xE4\xB8\x80-\xE9\xBE\xA5"
          "\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+" },
    { .collapsed = CASED("[" L M "]", "[" L M "]", ANY_S "?") "|[" N "]|" OTHER "[\\r\\n/]*|" LINES },
};
static const step tiny_aya_steps[STEPS] = {
    { tk__split_afmoe_llama },
    { .collapsed = CASED("[" L M "]", "[" L M "]", ANY_S "?") "|[" N "]{1,3}|" OTHER "[\\r\\n/]*|" LINES },
};
static const step granite_steps[STEPS] = {
    { .collapsed = CASED(UPPER(M), LOWER(M), ANY_S "?") "|[" N "]{1,3}|" OTHER "[\\r\\n/]*|" LINES },
};
static const step deepseek_llm_steps[STEPS] = {
    { .text = "[\r\n]" },
    { .text = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-"
              "Ჿᴀ-"
              "ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛ"
              "ὝὟ-\xE1\xBD\xBDᾀ-ᾴᾶ-ᾼ\xE1\xBE\xBEῂ-ῄῆ-ῌῐ-\xE1\xBF\x93ῖ-\xE1\xBF\x9Bῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-"
              "ℝℤ\xE2\x84\xA6ℨ"
              "\xE2\x84\xAA-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-"
              "𐑏𐒰-"
              "𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+" },
    { .text = "\\s?[!-/:-~！-／：-～‘-‟\xE3\x80\x80-。]+" },
    { .text = "\\s+\\z" },
    { .text = FAR_EAST },
    { .collapsed = "[" N "]+" },
};
static const step deepseek_coder_steps[STEPS] = {
    { .text = "[\r\n]" }, { .collapsed = "\\s?[" L "]+" }, { .collapsed = "\\s?[" P "]+" },
    { .text = FAR_EAST }, { tk__split_number_llama },
};
static const step chameleon_steps[STEPS] = {
    { .text = "<sentinel:[0-9]+>" },          { .text = "(?:IMGIMG)(?:(?:A|B|C|D|E|F|G|H|I){1,4})Z" },
    { .text = "(?:[\\t\\n]|    |  )" },       { tk__split_number_llama },
    { .collapsed = "[" P "!-/:-@\\[-`{-~]" }, { tk__split_gpt2_llama },
};
static const step bailing_steps[STEPS] = {
    { .collapsed = "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" WORD "|[" N "]|" OTHER
                   "[\\r\\n]*|\\s*[\\r\\n]|" SPACES },
};
static const step seed_coder_steps[STEPS] = {
    { .collapsed = ANY_S "|" WORD "|[" N "]| ?[^\\s" L N "\\r\\n]+|" LINES },
};
static const step ufakzeka_steps[STEPS] = {
    { .collapsed = WORD "|[" N "]|" OTHER "[\\r\\n]*|" LINES },
};
static const step afmoe_steps[STEPS] = {
    { tk__split_afmoe_llama },
    { .text = "[一-鿿㐀-䶿豈-\xEF\xAB\xBF\xE3\x81\x80-ゟ゠-ヿ･-ﾟ⼀-\xE2\xBF\x9Fเ-"
              "\xE0\xB9\xBF\xE0\xBA\x80-"
              "\xE0\xBB\xBFក-"
              "\xE1\x9F\xBFက-႟ꩠ-ꩿꧠ-\xEA\xA7\xBF가-\xED\x9E\xAFᄀ-ᇿ]+" },
    { tk__split_deepseek_llama },
};
static const step exaone_moe_steps[STEPS] = {
    { .collapsed = ANY_S "|[^\\r\\n" L N "]?(?:[" L "][" M "]*(?: [" L "][" M "]*)*)+|[" N "]|" OTHER
                         "[\\r\\n/]?|\\s*[\\r\\n]|" SPACES },
};
static const step minicpm5_steps[STEPS] = {
    { tk__split_3numbers_llama },
    { .collapsed = ANY_S "|" WORD "|[" N "]+|" OTHER "[\\r\\n]*|" LINES },
};

static const struct {
    const char *names; /* between blanks */
    const step *steps;
    tk__llama_pre also;
} rows[] = {
    { " default ", default_steps, { 0 } },
    { " gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert exaone4 mpt "
      "olmo "
      "jais trillion granite-docling jina-v1-en jina-v2-code roberta-bpe ",
      gpt2_steps,
      { 0 } },
    { " starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 ", starcoder_steps, { 0 } },
    { " falcon ", falcon_steps, { 0 } },
    { " llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ",
      llama3_steps,
      { .ignore_merges = true, .add_bos = true } },
    { " dbrx smaug-bpe ", llama3_steps, { 0 } },
    { " chatglm-bpe ", llama3_steps, { .no_bos = true } },
    { " glm4 glm5 ", llama3_steps, { .no_bos = true, .ignore_merges = true } },
    { " qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2 ",
      qwen2_steps,
      { 0 } },
    { " qwen35 ", qwen35_steps, { 0 } },
    { " jais-2 ", jais2_steps, { 0 } },
    { " deepseek-llm ", deepseek_llm_steps, { 0 } },
    { " deepseek-coder ", deepseek_coder_steps, { 0 } },
    { " deepseek-v3 hunyuan-dense joyai-llm hy_v4 ", deepseek_steps, { 0 } },
    { " spark2_5 ", spark_steps, { 0 } },
    { " youtu ", youtu_steps, { .ignore_merges = true } },
    { " poro-chat bloom gpt3-finnish ", bloom_steps, { 0 } },
    { " viking ", viking_steps, { 0 } },
    { " tekken ", tekken_steps, { .ignore_merges = true, .add_bos = true } },
    { " chameleon ", chameleon_steps, { .add_bos = true } },
    { " gpt-4o llama4 kanana2 talkie minimax-m2 ", o200k_steps, { 0 } },
    { " granite-embed-multi-97m ", granite_steps, { .ignore_merges = true } },
    { " tiny_aya cohere2moe ", tiny_aya_steps, { 0 } },
    { " kimi-k2 ", kimi_steps, { 0 } },
    { " superbpe ", superbpe_steps, { 0 } },
    { " bailingmoe bailingmoe2 llada-moe ", bailing_steps, { 0 } },
    { " seed-coder ", seed_coder_steps, { 0 } },
    { " ufakzeka ", ufakzeka_steps, { 0 } },
    { " afmoe ", afmoe_steps, { 0 } },
    { " laguna ", laguna_steps, { 0 } },
    { " exaone-moe ", exaone_moe_steps, { 0 } },
    { " gemma4 granite-embed-multi-311m ",
      newline_steps,
      { .raw = true, .escape = true, .force_bos = true, .whole_newlines = true } },
    { " sarvam-moe ", newline_steps, { .raw = true, .escape = true } },
    { " minicpm5 ", minicpm5_steps, { .ignore_merges = true } },
    { " whitespace ", whitespace_steps, { .raw = true } },
};

/* ---- running a pattern ----------------------------------------------------------------------------------
 */

static char collapse(uint32_t c, unsigned r) {
    if (c < 128) return (char)c;
    if (r & TK_CP_S) return 0x0B; /* std::regex's \s knows ASCII alone */
    return r & TK_CP_N        ? '\xD1'
           : r & TK_CP_L      ? '\xD2'
           : r & TK_CP_P      ? '\xD3'
           : r & TK_CP_M      ? '\xD4'
           : r & TK_CP_SYMBOL ? '\xD5'
                              : '\xD0';
}

/* The text that the pattern sees: one byte a code point; or as it is, but for white space beyond ASCII. */
static tk_status make_view(tk_buf *b, const char *s, size_t n, bool collapsed) {
    b->len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        unsigned len = tk__utf8_get(s + i, &c), r = tk__cp_class_15(c);
        char one = collapse(c, r);
        if (collapsed || (r & TK_CP_S))
            tk_buf_put(b, &one, 1);
        else
            tk_buf_put(b, s + i, len);
        i += len;
    }
    return tk_buf_check(b);
}

/* The place in s where the view's bytes from..to end, `at` being where they begin */
static size_t follow(const char *s, size_t at, const char *view, size_t from, size_t to, bool collapsed) {
    for (; from < to; at += tk__utf8_len(s[at])) from += collapsed ? 1 : tk__utf8_len(view[from]);
    return at;
}

static tk_status run_pattern(tk__work *w, int stage, const char *s, size_t n) {
    const tk__pretok *z = &w->t->pre[stage];
    tk_buf *b = &w->stage[stage];
    size_t at = 0, from = 0;
    TK_TRY(make_view(b, s, n, z->collapsed));
    while (from < b->len) {
        TK_TRY(tk__regex_find(z->regex, &w->search, b->data, b->len, from));
        size_t ends[2] = { b->len, b->len };
        if (w->search.found) ends[0] = w->search.start, ends[1] = w->search.end;
        if (w->search.found && ends[0] == ends[1])
            return TK_FAIL(TK_E_INTERNAL, "a pattern of a GGUF tokenizer matches nothing");
        for (int i = 0; i < 2; i++) {
            size_t to = follow(s, at, b->data, from, ends[i], z->collapsed);
            if (to > at) TK_TRY(tk__pretok_run(w, stage + 1, s + at, to - at));
            at = to, from = ends[i];
        }
    }
    return TK_OK;
}

static tk_status add_step(tk_tokenizer *t, const step *p) {
    tk__pretok z = { .run = run_pattern, .collapsed = p->collapsed };
    if (p->split) return tk__pretok_add_splitter(t, p->split);
    TK_TRY(tk__regex_new_plain(&z.regex, p->collapsed ? p->collapsed : p->text, z.collapsed));
    return tk__pretok_add(t, z);
}

tk_status tk__llama_pre_add(tk_tokenizer *t, const char *name, tk__llama_pre *out) {
    char word[64];
    snprintf(word, sizeof word, " %.60s ", name);
    for (size_t i = 0; *name && strlen(name) < 60 && !strchr(name, ' ') && i < TK_COUNT(rows); i++) {
        if (!strstr(rows[i].names, word)) continue;
        for (int k = 0;
             k < STEPS && (rows[i].steps[k].split || rows[i].steps[k].collapsed || rows[i].steps[k].text);
             k++)
            TK_TRY(add_step(t, &rows[i].steps[k]));
        *out = rows[i].also;
        return TK_OK;
    }
    return TK_FAIL(TK_E_UNSUPPORTED,
                   "this build does not know the pre-tokenizer \"%.60s\"\n"
                   "a GGUF file only names how text is cut, and a guess would give other tokens\n"
                   "give the model's tokenizer.json with --tokenizer",
                   name);
}
