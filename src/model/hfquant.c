/* SPDX-License-Identifier: Apache-2.0 */
/* Quantized Hugging Face checkpoints: what quantization_config says, and how the several tensors of one
 * weight become rows of a format of ours, without loss. Integers, scales and zeros keep their values; where
 * no format can hold them exactly (scales beyond float16, 8 bits with a zero), the weight becomes float32,
 * which can.
 *
 *   gptq                qweight [k bits / 32, n] words along k, qzeros [groups, n bits / 32] words along n
 * (version 1 stores them less one), scales [groups, n], g_idx [k]. With act-order g_idx is no ramp: the
 *                       columns are then sorted by group, and the builder sorts the activations alike
 * (tk_quant.order). awq                 qweight [k, n / 8] and qzeros [groups, n / 8]: eight neighbours of n
 * a word, 0 2 4 6 1 3 5 7 compressed-tensors  pack-quantized: weight_packed [n, k bits / 32] words along k,
 * weight_scale [n, groups], weight_zero_point [n bits / 32, groups]; int-quantized: weight i8, weight_scale
 * [n, 1]; float-quantized: weight e4m3, weight_scale fp8                 weight e4m3, weight_scale_inv (or
 * weight_scale): one, [n, 1], or of blocks mxfp4               NAME_blocks [.., n, k / 32, 16], NAME_scales
 * [.., n, k / 32]: neighbours share a byte */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/file.h"

struct tk_quant {
    tk_quant_kind kind;
    int bits;
    int64_t n, k, group, groups; /* group: k of a scale; groups: of a row */
    int64_t block_n;             /* rows that share scales */
    bool plus_one;               /* gptq version 1 */
    const tk_tensor *q, *zeros, *scales;
    const int32_t *order; /* [k] position in the rows -> k of the layer; NULL: as it is */
    tk_dtype dtype;       /* of the blocks that tk__quant_block makes */
};

/* ---- quantization_config ---- */

static tk_status unknown(const tk_modelfile *f, const char *what, const char *value) {
    return TK_FAIL(TK_E_UNSUPPORTED,
                   "%s: quantization_config: %s \"%.60s\" is not known\nits weights would be misread\n"
                   "get the unquantized model or a GGUF version",
                   f->path, what, value ? value : "(none)");
}

static const char *text_at(const json_t *j, const char *key, const char *absent) {
    const json_t *v = json_object_get(j, key);
    return json_is_string(v) ? json_string_value(v) : absent;
}

/* compressed-tensors: every group must agree on what we read from it */
static tk_status read_compressed(tk_modelfile *f, const json_t *j) {
    const char *format = text_at(j, "format", "");
    tk__quant_config *c = &f->quant;
    if (!strcmp(format, "pack-quantized"))
        c->kind = TK_QUANT_PACKED;
    else if (!strcmp(format, "int-quantized"))
        c->kind = TK_QUANT_INT8;
    else if (!strcmp(format, "float-quantized"))
        c->kind = TK_QUANT_FP8;
    else
        return unknown(f, "compressed-tensors format", format);
    const char *name;
    json_t *group;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(j, "config_groups"), name, group) {
        const json_t *w = json_object_get(group, "weights");
        const int bits = (int)json_integer_value(json_object_get(w, "num_bits"));
        if (c->kind == TK_QUANT_PACKED && bits != 4 && bits != 8) return unknown(f, "num_bits of", name);
        if (c->bits && bits != c->bits) return unknown(f, "groups of different num_bits:", name);
        c->bits = bits;
    }
    return TK_OK;
}

tk_status tk__quant_read(tk_modelfile *f, const json_t *j) {
    const char *method = text_at(j, "quant_method", NULL);
    tk__quant_config *c = &f->quant;
    c->bits = (int)json_integer_value(json_object_get(j, "bits"));
    if (!method) return unknown(f, "quant_method", method);
    if (!strcmp(method, "gptq")) {
        const char *format = text_at(j, "checkpoint_format", "gptq");
        c->kind = TK_QUANT_GPTQ, c->plus_one = !strcmp(format, "gptq");
        if (!c->plus_one && strcmp(format, "gptq_v2") != 0) return unknown(f, "checkpoint_format", format);
        if (c->bits < 2 || c->bits > 8 || c->bits == 5 || c->bits == 6 || c->bits == 7)
            return unknown(f, "bits of", method);
        return TK_OK;
    }
    if (!strcmp(method, "awq")) {
        const char *version = text_at(j, "version", "gemm");
        c->kind = TK_QUANT_AWQ;
        if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
            return unknown(f, "awq version", version);
        return c->bits == 4 ? TK_OK : unknown(f, "bits of", method);
    }
    if (!strcmp(method, "compressed-tensors")) return read_compressed(f, j);
    if (!strcmp(method, "fp8") || !strcmp(method, "fbgemm_fp8")) return c->kind = TK_QUANT_FP8, TK_OK;
    if (!strcmp(method, "mxfp4")) return c->kind = TK_QUANT_MXFP4, TK_OK;
    return unknown(f, "quant_method", method);
}

/* ---- the tensors of one weight ---- */

/* NAME is "....weight", or a bare name (mxfp4's experts): the tensor of its part `part` */
static const tk_tensor *part_of(const tk_modelfile *f, const char *name, const char *part) {
    char full[200];
    size_t n = strlen(name);
    if (f->quant.kind != TK_QUANT_MXFP4 && n > 6 && !strcmp(name + n - 6, "weight")) n -= 6;
    snprintf(full, sizeof full, "%.*s%s", (int)n, name, part);
    return tk__tensor_find(f, full);
}

static const char *const q_names[] = {
    [TK_QUANT_GPTQ] = "qweight", [TK_QUANT_AWQ] = "qweight", [TK_QUANT_PACKED] = "weight_packed",
    [TK_QUANT_INT8] = "weight",  [TK_QUANT_FP8] = "weight",  [TK_QUANT_MXFP4] = "_blocks",
};

bool tk__quant_has(const tk_modelfile *f, const char *name) {
    const tk_quant_kind kind = f->quant.kind;
    if (kind == TK_QUANT_NONE) return false;
    const tk_tensor *q = part_of(f, name, q_names[kind]);
    if (kind == TK_QUANT_INT8) return q && !strcmp(q->type, "I8");
    if (kind == TK_QUANT_FP8) return q && !strcmp(q->type, "F8_E4M3");
    return q != NULL;
}

static bool shaped(const tk_tensor *t, const char *type, int64_t rows, int64_t cols) {
    return t && (!type || !strcmp(t->type, type)) && t->ndim == 2 && t->dim[0] == rows && t->dim[1] == cols;
}

static bool real(const tk_tensor *t) {
    return t->dtype == TK_F16 || t->dtype == TK_BF16 || t->dtype == TK_F32;
}

static tk_status bad_part(const tk_modelfile *f, const char *name, const char *part) {
    return TK_FAIL(
        TK_E_FORMAT,
        "%s: %s: its %s is missing, or its shape or type does not fit\nthe quantized weight cannot be read",
        f->path, name, part);
}

static float scale_at(const tk_quant *q, int64_t i) {
    float x;
    const tk_format *fmt = &tk_formats[q->scales->dtype];
    fmt->unpack(&x, q->scales->data + (size_t)i * (size_t)fmt->bytes, 1, 1, 0);
    return x;
}

/* Number i of a stream of `bits`-wide ones in little-endian words */
static unsigned bits_at(const uint8_t *words, int64_t step, int64_t i, int bits) {
    const int64_t at = i * bits, word = at / 32;
    uint64_t v = tk_le32(words + (size_t)(word * step));
    if (at % 32 + bits > 32) v |= (uint64_t)tk_le32(words + (size_t)((word + 1) * step)) << 32;
    return (unsigned)(v >> at % 32) & ((1u << bits) - 1);
}

static const int awq_place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 }; /* of neighbour i in its word */
static unsigned awq_at(const tk_tensor *t, int64_t row, int64_t n) {
    const uint32_t word = tk_le32(t->data + (size_t)(row * t->dim[1] + n / 8) * 4);
    return word >> 4 * awq_place[n % 8] & 15;
}

static float scale_of(const tk_quant *q, int64_t n, int64_t g) {
    if (q->kind == TK_QUANT_GPTQ || q->kind == TK_QUANT_AWQ) return scale_at(q, g * q->n + n);
    return scale_at(q, n / q->block_n * q->groups + g);
}

static int zero_of(const tk_quant *q, int64_t n, int64_t g) {
    const int half = 1 << (q->bits - 1);
    if (!q->zeros) return half;
    if (q->kind == TK_QUANT_AWQ) return (int)awq_at(q->zeros, g, n);
    if (q->kind == TK_QUANT_PACKED)
        return (int)bits_at(q->zeros->data + (size_t)g * 4, q->groups * 4, n, q->bits);
    const unsigned stored = bits_at(q->zeros->data + (size_t)(g * q->zeros->dim[1]) * 4, 4, n, q->bits);
    return q->plus_one ? (int)((stored + 1) & ((1u << q->bits) - 1)) : (int)stored;
}

static unsigned integer_of(const tk_quant *q, int64_t n, int64_t k) {
    if (q->kind == TK_QUANT_AWQ) return awq_at(q->q, k, n);
    if (q->kind == TK_QUANT_GPTQ) return bits_at(q->q->data + (size_t)n * 4, q->n * 4, k, q->bits);
    if (q->kind == TK_QUANT_INT8) return (unsigned)((int8_t)q->q->data[(size_t)(n * q->k + k)] + 128);
    return bits_at(q->q->data + (size_t)(n * q->q->dim[1]) * 4, 4, k, q->bits);
}

/* ---- opening ---- */

/* act-order: the columns sorted by group. A ramp, or no g_idx, needs no order. */
static tk_status read_order(tk_modelfile *f, tk_quant *q, const char *name, const tk_tensor *g) {
    if (!g) return TK_OK;
    if (strcmp(g->type, "I32") != 0 || g->ndim != 1 || g->dim[0] != q->k) return bad_part(f, name, "g_idx");
    int32_t *order = tk_arena_array(&f->arena, (size_t)q->k, sizeof *order);
    int64_t *next = calloc((size_t)q->groups, sizeof *next);
    if (!order || !next) {
        free(next);
        return TK_FAIL(TK_E_NOMEM, "out of memory");
    }
    bool ramp = true, fits = true;
    for (int64_t k = 0; k < q->k && fits; k++) {
        const int32_t group = (int32_t)tk_le32(g->data + (size_t)k * 4);
        fits = group >= 0 && group < q->groups && next[group] < q->group;
        if (!fits) break;
        ramp &= group == k / q->group;
        order[group * q->group + next[group]++] = (int32_t)k;
    }
    free(next);
    if (!fits)
        return TK_FAIL(TK_E_FORMAT, "%s: %s: g_idx does not give each of %lld groups its %lld columns",
                       f->path, name, (long long)q->groups, (long long)q->group);
    if (!ramp) q->order = order;
    return TK_OK;
}

/* Scales of blocks [n / block_n, k / group], of rows [n, 1] or [n], or one for all */
static tk_status read_scales(const tk_modelfile *f, tk_quant *q, const char *name) {
    const tk_tensor *s = q->scales;
    if (!s || !real(s) || s->ndim > 2) return bad_part(f, name, "scale");
    const int64_t rows = s->ndim ? s->dim[0] : 1, cols = s->ndim == 2 ? s->dim[1] : 1;
    if (rows < 1 || cols < 1 || rows > q->n || cols > q->k) return bad_part(f, name, "scale");
    q->block_n = rows == q->n ? 1 : tk_ceil_div(q->n, rows), q->groups = cols;
    q->group = cols == 1 ? q->k : tk_ceil_div(q->k, cols);
    if (q->kind == TK_QUANT_FP8 && cols > 1)
        q->group = tk_align((size_t)q->group, 128), q->block_n = tk_align((size_t)q->block_n, 128);
    if (tk_ceil_div(q->n, q->block_n) != rows || tk_ceil_div(q->k, q->group) != cols)
        return bad_part(f, name, "scale");
    return TK_OK;
}

static tk_status open_grouped(tk_modelfile *f, tk_quant *q, const char *name) {
    const bool gptq = q->kind == TK_QUANT_GPTQ;
    const int64_t words_k = q->k * q->bits / 32, words_n = q->n * q->bits / 32;
    q->scales = part_of(f, name, "scales"), q->zeros = part_of(f, name, "qzeros");
    q->groups = q->scales && q->scales->ndim == 2 ? q->scales->dim[0] : 0;
    if (!q->scales || !real(q->scales) || q->groups < 1 || q->k % q->groups || q->scales->dim[1] != q->n)
        return bad_part(f, name, "scales");
    q->group = q->k / q->groups, q->block_n = 1;
    if (q->n % 32 || !shaped(q->zeros, "I32", q->groups, words_n)) return bad_part(f, name, "qzeros");
    if (!(gptq ? shaped(q->q, "I32", words_k, q->n) : shaped(q->q, "I32", q->k, words_n)))
        return bad_part(f, name, "qweight");
    return gptq ? read_order(f, q, name, part_of(f, name, "g_idx")) : TK_OK;
}

static tk_status open_compressed(tk_modelfile *f, tk_quant *q, const char *name) {
    q->scales = part_of(f, name, "weight_scale");
    if (!q->scales && q->kind == TK_QUANT_FP8) q->scales = part_of(f, name, "weight_scale_inv");
    TK_TRY(read_scales(f, q, name));
    if (q->kind != TK_QUANT_PACKED)
        return q->q->ndim == 2 && q->q->dim[0] == q->n && q->q->dim[1] == q->k ? TK_OK
                                                                               : bad_part(f, name, "weight");
    if (!shaped(q->q, "I32", q->n, q->k * q->bits / 32)) return bad_part(f, name, "weight_packed");
    q->zeros = part_of(f, name, "weight_zero_point");
    if (q->zeros && (q->n * q->bits % 32 || !shaped(q->zeros, "I32", q->n * q->bits / 32, q->groups)))
        return bad_part(f, name, "weight_zero_point");
    return read_order(f, q, name, part_of(f, name, "weight_g_idx"));
}

static tk_status open_mxfp4(tk_modelfile *f, tk_quant *q, const char *name) {
    q->scales = part_of(f, name, "_scales"), q->dtype = TK_MXFP4, q->groups = q->k / 32;
    const tk_tensor *b = q->q, *s = q->scales;
    if (!s || strcmp(b->type, "U8") != 0 || strcmp(s->type, "U8") != 0 || b->ndim != 4 || s->ndim != 3 ||
        b->dim[0] * b->dim[1] != q->n || b->dim[2] != q->groups || b->dim[3] != 16 ||
        s->dim[0] * s->dim[1] != q->n || s->dim[2] != q->groups)
        return bad_part(f, name, "blocks or scales");
    return TK_OK;
}

/* The format that holds integers, scales and zeros as they are */
static tk_dtype exact_format(const tk_quant *q) {
    bool half = true, centred = true;
    for (int64_t n = 0; n < q->n; n += q->block_n)
        for (int64_t g = 0; g < q->groups; g++) {
            const float s = scale_of(q, n, g);
            half = half && tk_f16_f32(tk_f32_f16(s)) == s;
        }
    for (int64_t n = 0; n < q->n && q->zeros && centred; n++)
        for (int64_t g = 0; g < q->groups && centred; g++) centred = zero_of(q, n, g) == 1 << (q->bits - 1);
    if (!half || q->group % 32) return TK_F32;
    if (q->bits == 8) return centred ? TK_Q8_0 : TK_F32;
    return q->bits == 4 && centred ? TK_Q4_0 : TK_Q4_Z;
}

tk_status tk__quant_open(tk_modelfile *f, const char *name, int64_t n, int64_t k, const tk_quant **out,
                         bool *used) {
    const tk_tensor *integers = part_of(f, name, q_names[f->quant.kind]);
    if (!f->quants) f->quants = tk_arena_array(&f->arena, (size_t)f->n_tensors, sizeof *f->quants);
    if (!f->quants) return TK_E_NOMEM;
    const tk_quant **known = &f->quants[integers - f->tensor];
    if (*known && (*known)->n == n && (*known)->k == k) return *out = *known, TK_OK;
    tk_quant *q = tk_arena_alloc(&f->arena, sizeof *q);
    if (!q) return TK_E_NOMEM;
    *q = (tk_quant){ .kind = f->quant.kind,
                     .bits = f->quant.bits,
                     .n = n,
                     .k = k,
                     .plus_one = f->quant.plus_one,
                     .q = integers };
    if (q->kind == TK_QUANT_INT8 || q->kind == TK_QUANT_FP8) q->bits = 8;
    if (k % 32)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: %s has rows of %lld numbers\nquantized ones must be multiples of 32", f->path,
                       name, (long long)k);
    switch (q->kind) {
    case TK_QUANT_GPTQ:
    case TK_QUANT_AWQ: TK_TRY(open_grouped(f, q, name)); break;
    case TK_QUANT_MXFP4: TK_TRY(open_mxfp4(f, q, name)); break;
    default: TK_TRY(open_compressed(f, q, name));
    }
    if (q->kind == TK_QUANT_FP8)
        q->dtype = q->group % 32 ? TK_F32 : TK_F8;
    else if (q->kind != TK_QUANT_MXFP4)
        q->dtype = exact_format(q);
    const tk_tensor *parts[] = { q->q, q->zeros, q->scales };
    for (size_t i = 0; i < TK_COUNT(parts); i++)
        if (parts[i]) used[parts[i] - f->tensor] = true;
    *out = *known = q;
    return TK_OK;
}

tk_dtype tk__quant_dtype(const tk_quant *q) { return q->dtype; }
const tk_tensor *tk__quant_tensor(const tk_quant *q) { return q->q; }
const int32_t *tk__quant_order(const tk_quant *q) { return q->order; }

/* ---- rows ---- */

static int64_t column(const tk_quant *q, int64_t i) { return q->order ? q->order[i] : i; }

static void block_mxfp4(const tk_quant *q, int64_t at, uint8_t *dst) {
    const uint8_t *b = q->q->data + (size_t)at * 16;
    dst[0] = q->scales->data[at];
    for (int j = 0; j < 16; j++) { /* ours: value j below, value j + 16 above */
        const int low = b[j / 2] >> j % 2 * 4 & 15, high = b[8 + j / 2] >> j % 2 * 4 & 15;
        dst[1 + j] = (uint8_t)(low | high << 4);
    }
}

static void block_f32(const tk_quant *q, int64_t n, int64_t from, uint8_t *dst) {
    for (int64_t i = from; i < from + 32; i++, dst += 4) {
        const float s = scale_of(q, n, i / q->group);
        const float x = q->kind == TK_QUANT_FP8
                            ? tk__e4m3_f32(q->q->data[(size_t)(n * q->k + i)]) * s
                            : s * (float)((int)integer_of(q, n, column(q, i)) - zero_of(q, n, i / q->group));
        memcpy(dst, &x, 4);
    }
}

static void block_integers(const tk_quant *q, int64_t n, int64_t from, uint8_t *dst) {
    const uint16_t half = tk_f32_f16(scale_of(q, n, from / q->group));
    memcpy(dst, &half, 2), dst += 2;
    if (q->dtype == TK_Q4_Z) {
        const uint16_t zero = tk_f32_f16((float)zero_of(q, n, from / q->group));
        memcpy(dst, &zero, 2), dst += 2;
    }
    if (q->dtype != TK_Q8_0) memset(dst, 0, 16);
    for (int j = 0; j < 32; j++) {
        const unsigned v = integer_of(q, n, column(q, from + j));
        if (q->dtype == TK_Q8_0)
            dst[j] = (uint8_t)(int8_t)((int)v - 128);
        else
            dst[j % 16] |= (uint8_t)(v << j / 16 * 4);
    }
}

void tk__quant_block(const tk_quant *q, int64_t n, int64_t block, void *dst) {
    const int64_t from = block * 32;
    if (q->kind == TK_QUANT_MXFP4) {
        block_mxfp4(q, n * q->groups + block, dst);
    } else if (q->dtype == TK_F32) {
        block_f32(q, n, from, dst);
    } else if (q->dtype == TK_F8) {
        const float s = scale_of(q, n, from / q->group);
        memcpy(dst, &s, 4), memcpy((uint8_t *)dst + 4, q->q->data + (size_t)(n * q->k + from), 32);
    } else {
        block_integers(q, n, from, dst);
    }
}
