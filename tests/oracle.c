/* SPDX-License-Identifier: Apache-2.0 */
/* See oracle.h. Written to be read from top to bottom against the papers: first the layers' parts, each with
 * its backward below it, then the two models. One sequence at a time, every intermediate kept, no cleverness.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "oracle.h"

/* ---- weights by role ---- */

static const char *const global_roles[] = { "embed", "pos_embed", "norm_out", "norm_out.b", "head" };
static const char *const layer_roles[] = { "norm1", "norm1.b", "q",    "q.b",  "k",     "k.b",
                                           "v",     "v.b",     "o",    "o.b",  "norm2", "norm2.b",
                                           "gate",  "up",      "up.b", "down", "down.b" };
enum { GLOBALS = TK_COUNT(global_roles), PER_LAYER = TK_COUNT(layer_roles) };

int oracle_slots(const oracle_config *c) { return GLOBALS + c->layers * PER_LAYER; }

int oracle_slot(const char *role, int layer) {
    for (int i = 0; i < GLOBALS; i++)
        if (!strcmp(role, global_roles[i])) return i;
    for (int i = 0; i < PER_LAYER; i++)
        if (!strcmp(role, layer_roles[i])) return GLOBALS + layer * PER_LAYER + i;
    return -1;
}

const char *oracle_slot_role(int slot, int *layer) {
    *layer = slot < GLOBALS ? -1 : (slot - GLOBALS) / PER_LAYER;
    return slot < GLOBALS ? global_roles[slot] : layer_roles[(slot - GLOBALS) % PER_LAYER];
}

int64_t oracle_slot_size(const oracle_config *c, int slot) {
    const int64_t e = c->e, q = (int64_t)c->g * c->r * c->d, k = (int64_t)c->g * c->d, f = c->f;
    const int64_t global[] = { c->v * e, c->ctx * e, e, e, c->v * e };
    const int64_t layer[] = { e, e, q * e, q, k * e, k, k * e, k, e * q, e, e, e, f * e, f * e, f, e * f, e };
    return slot < GLOBALS ? global[slot] : layer[(slot - GLOBALS) % PER_LAYER];
}

/* ---- one sequence on its way through a model ---- */

typedef struct run {
    const oracle_config *c;
    const double *const *weights;
    double *const *grads;
    const oracle_batch *b;
    int T, sequence; /* tokens, and the number that dropout sees */
    const int *token, *target;
    const double *mask;
    double count, *logits; /* of this sequence, or NULL */
    double **held;         /* everything allocated */
    int nheld;
} run;

static double *take(run *s, int rows, int cols) {
    double *p = calloc((size_t)rows * (size_t)cols + 1, sizeof *p);
    s->held = realloc(s->held, (size_t)(s->nheld + 1) * sizeof *s->held);
    return s->held[s->nheld++] = p;
}

/* A matrix [out, in] or a norm's vector [out], its bias, and the gradients of both; any may be NULL */
typedef struct weight {
    const double *w, *b;
    double *dw, *db;
    int out, in;
} weight;

static weight find(const run *s, const char *role, int layer, int out, int in) {
    char bias[16];
    strcat(strcpy(bias, role), ".b");
    const int i = oracle_slot(role, layer), j = oracle_slot(bias, layer);
    return (weight){ s->weights[i],
                     j < 0 ? NULL : s->weights[j],
                     s->grads ? s->grads[i] : NULL,
                     j < 0 || !s->grads ? NULL : s->grads[j],
                     out,
                     in };
}

/* ---- y = x W^T + b ---- */

static double *matmul(run *s, const double *x, weight m) {
    double *y = take(s, s->T, m.out);
    for (int t = 0; t < s->T; t++)
        for (int o = 0; o < m.out; o++) {
            double sum = m.b ? m.b[o] : 0;
            for (int i = 0; i < m.in; i++) sum += x[t * m.in + i] * m.w[(int64_t)o * m.in + i];
            y[t * m.out + o] = sum;
        }
    return y;
}

/* Adds to the weight's gradients; the gradient of x is added to dx. */
static void matmul_back(const run *s, double *dx, const double *x, const double *dy, weight m) {
    for (int t = 0; t < s->T; t++)
        for (int o = 0; o < m.out; o++) {
            const double d = dy[t * m.out + o];
            if (m.db) m.db[o] += d;
            for (int i = 0; i < m.in; i++) {
                dx[t * m.in + i] += d * m.w[(int64_t)o * m.in + i];
                if (m.dw) m.dw[(int64_t)o * m.in + i] += d * x[t * m.in + i];
            }
        }
}

/* ---- norms: z = (x - mean) / sqrt(variance + eps), y = z w + b; RMSNorm takes 0 for the mean ---- */

static double normalize(const run *s, double *z, const double *x, bool centred) {
    const int n = s->c->e;
    double mean = 0, square = 0;
    for (int i = 0; i < n && centred; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean) / n;
    const double inverse = 1 / sqrt(square + (double)s->c->eps);
    for (int i = 0; i < n; i++) z[i] = (x[i] - mean) * inverse;
    return inverse;
}

static double *norm(run *s, const double *x, weight m, bool centred) {
    const int n = s->c->e;
    double *y = take(s, s->T, n);
    for (int t = 0; t < s->T; t++) {
        double *row = y + t * n;
        normalize(s, row, x + t * n, centred);
        for (int i = 0; i < n; i++) row[i] = row[i] * m.w[i] + (m.b ? m.b[i] : 0);
    }
    return y;
}

/* With u = dy w: dx = (u - mean(u) - z mean(u z)) / sqrt(...); mean(u) only when centred */
static void norm_back(run *s, double *dx, const double *x, const double *dy, weight m, bool centred) {
    const int n = s->c->e;
    double *z = take(s, 1, n);
    for (int t = 0; t < s->T; t++, x += n, dy += n, dx += n) {
        const double inverse = normalize(s, z, x, centred);
        double mean = 0, along = 0;
        for (int i = 0; i < n; i++) {
            mean += centred ? dy[i] * m.w[i] / n : 0;
            along += dy[i] * m.w[i] * z[i] / n;
            if (m.dw) m.dw[i] += dy[i] * z[i];
            if (m.db) m.db[i] += dy[i];
        }
        for (int i = 0; i < n; i++) dx[i] += (dy[i] * m.w[i] - mean - z[i] * along) * inverse;
    }
}

/* ---- rotary positions, in place; direction -1 turns back ---- */

static void rotate(const run *s, double *x, int heads, int direction) {
    const oracle_config *c = s->c;
    for (int t = 0; t < s->T; t++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < c->rope_pairs; i++) {
                double *head = x + (t * heads + h) * c->d;
                double *a = head + (c->rope_interleaved ? 2 * i : i);
                double *b = head + (c->rope_interleaved ? 2 * i + 1 : i + c->rope_pairs);
                const float angle = (float)t * (float)c->rope_freq[i];
                const double re = c->rope_factor * cos(angle), im = c->rope_factor * sin(angle) * direction;
                const double u = *a * re - *b * im, v = *b * re + *a * im;
                *a = u, *b = v;
            }
}

/* ---- causal attention: P[h][i][j] = softmax over j <= i of scale q_i k_j ---- */

static double *attention(run *s, double *P, const double *q, const double *k, const double *v) {
    const int T = s->T, H = s->c->g * s->c->r, G = s->c->g, d = s->c->d;
    double *o = take(s, T, H * d);
    for (int h = 0; h < H; h++)
        for (int i = 0; i < T; i++) {
            double *row = P + (h * T + i) * T, max = -INFINITY, sum = 0;
            const int g = h / s->c->r;
            for (int j = 0; j <= i; j++) {
                for (int x = 0; x < d; x++) row[j] += q[(i * H + h) * d + x] * k[(j * G + g) * d + x];
                row[j] *= (double)s->c->scale;
                max = fmax(max, row[j]);
            }
            for (int j = 0; j <= i; j++) sum += row[j] = exp(row[j] - max);
            for (int j = 0; j <= i; j++) {
                row[j] /= sum;
                for (int x = 0; x < d; x++) o[(i * H + h) * d + x] += row[j] * v[(j * G + g) * d + x];
            }
        }
    return o;
}

typedef struct qkv {
    double *q, *k, *v;
} qkv;

static qkv attention_back(run *s, const double *dout, const double *P, qkv y) {
    const int T = s->T, H = s->c->g * s->c->r, G = s->c->g, d = s->c->d;
    qkv g = { take(s, T, H * d), take(s, T, G * d), take(s, T, G * d) };
    double *dP = take(s, 1, T);
    for (int h = 0; h < H; h++)
        for (int i = 0; i < T; i++) {
            const double *row = P + (h * T + i) * T, *go = dout + (i * H + h) * d;
            const int kv = h / s->c->r;
            double inner = 0;
            for (int j = 0; j <= i; j++) {
                dP[j] = 0;
                for (int x = 0; x < d; x++) {
                    dP[j] += go[x] * y.v[(j * G + kv) * d + x];
                    g.v[(j * G + kv) * d + x] += row[j] * go[x];
                }
                inner += row[j] * dP[j];
            }
            for (int j = 0; j <= i; j++) {
                const double ds = row[j] * (dP[j] - inner) * (double)s->c->scale;
                for (int x = 0; x < d; x++) {
                    g.q[(i * H + h) * d + x] += ds * y.k[(j * G + kv) * d + x];
                    g.k[(j * G + kv) * d + x] += ds * y.q[(i * H + h) * d + x];
                }
            }
        }
    return g;
}

/* ---- dropout in place, forward and backward alike ---- */

static void dropout(const run *s, double *x, int site) {
    const double p = (double)s->c->dropout;
    if (p == 0) return;
    for (int t = 0; t < s->T; t++)
        for (int i = 0; i < s->c->e; i++) {
            uint32_t word[4], counter[4] = { (uint32_t)i / 4, (uint32_t)t, (uint32_t)s->sequence,
                                             (uint32_t)s->b->step * 256 + (uint32_t)site };
            tk_philox(word, s->b->seed, counter);
            const double uniform = (word[i % 4] >> 8) / 16777216.0;
            x[t * s->c->e + i] *= uniform < p ? 0 : 1 / (1 - p);
        }
}

static void add(const run *s, double *x, const double *y) {
    for (int i = 0; i < s->T * s->c->e; i++) x[i] += y[i];
}

/* ---- embedding and head ---- */

static double *embed(run *s, bool positions) {
    const int e = s->c->e;
    const double *table = s->weights[oracle_slot("embed", 0)], *pos = s->weights[oracle_slot("pos_embed", 0)];
    double *h = take(s, s->T, e);
    for (int t = 0; t < s->T; t++)
        for (int i = 0; i < e; i++)
            h[t * e + i] = table[(int64_t)s->token[t] * e + i] + (positions ? pos[t * e + i] : 0);
    dropout(s, h, 0);
    return h;
}

static void embed_back(const run *s, double *dh, bool positions) {
    const int e = s->c->e;
    double *table = s->grads[oracle_slot("embed", 0)], *pos = s->grads[oracle_slot("pos_embed", 0)];
    dropout(s, dh, 0);
    for (int t = 0; t < s->T; t++)
        for (int i = 0; i < e; i++) {
            if (table) table[(int64_t)s->token[t] * e + i] += dh[t * e + i];
            if (positions && pos) pos[t * e + i] += dh[t * e + i];
        }
}

static weight head_of(const run *s) { return find(s, s->c->tied ? "embed" : "head", 0, s->c->v, s->c->e); }

/* Cross entropy; turns the logits into their gradient unless there are no gradients to find */
static double cross_entropy(const run *s, double *logits) {
    const int v = s->c->v;
    double loss = 0;
    for (int t = 0; t < s->T; t++, logits += v) {
        const double m = s->target[t] < 0 ? 0 : s->mask ? s->mask[t] : 1;
        double max = -INFINITY, sum = 0;
        for (int i = 0; i < v; i++) max = fmax(max, logits[i]);
        for (int i = 0; i < v; i++) sum += exp(logits[i] - max);
        if (m != 0) loss += m * (max + log(sum) - logits[s->target[t]]);
        for (int i = 0; i < v && s->grads; i++)
            logits[i] = m * (exp(logits[i] - max) / sum - (i == s->target[t])) / s->count;
    }
    return loss / s->count;
}

/* From the last residual to the loss; dh, zeroed by the caller, gets the gradient of h */
static double head(run *s, double *dh, const double *h, bool centred) {
    weight out = find(s, "norm_out", 0, s->c->e, 1);
    double *n = norm(s, h, out, centred), *logits = matmul(s, n, head_of(s));
    if (s->logits) memcpy(s->logits, logits, (size_t)s->T * (size_t)s->c->v * sizeof *logits);
    const double loss = cross_entropy(s, logits);
    if (!s->grads) return loss;
    double *dn = take(s, s->T, s->c->e);
    matmul_back(s, dn, n, logits, head_of(s));
    norm_back(s, dh, h, dn, out, centred);
    return loss;
}

/* ---- the attention half of a layer, h + dropout(Wo attention(norm(h))), which both models share ---- */

typedef struct half {
    const double *h;
    double *n, *P, *o;
    qkv y;
} half;

static double *attend(run *s, half *a, const double *h, int layer, bool centred) {
    const oracle_config *c = s->c;
    const int H = c->g * c->r;
    a->h = h, a->P = take(s, H * s->T, s->T);
    a->n = norm(s, h, find(s, "norm1", layer, c->e, 1), centred);
    a->y.q = matmul(s, a->n, find(s, "q", layer, H * c->d, c->e));
    a->y.k = matmul(s, a->n, find(s, "k", layer, c->g * c->d, c->e));
    a->y.v = matmul(s, a->n, find(s, "v", layer, c->g * c->d, c->e));
    rotate(s, a->y.q, H, 1), rotate(s, a->y.k, c->g, 1);
    a->o = attention(s, a->P, a->y.q, a->y.k, a->y.v);
    double *out = matmul(s, a->o, find(s, "o", layer, c->e, H * c->d));
    dropout(s, out, 2 * layer + 1);
    add(s, out, h);
    return out;
}

/* dh: in, the gradient of the half's output; out, that of its input */
static void attend_back(run *s, const half *a, double *dh, int layer, bool centred) {
    const oracle_config *c = s->c;
    const int H = c->g * c->r;
    double *dout = take(s, s->T, c->e), *datt = take(s, s->T, H * c->d), *dn = take(s, s->T, c->e);
    add(s, dout, dh);
    dropout(s, dout, 2 * layer + 1);
    matmul_back(s, datt, a->o, dout, find(s, "o", layer, c->e, H * c->d));
    qkv g = attention_back(s, datt, a->P, a->y);
    rotate(s, g.q, H, -1), rotate(s, g.k, c->g, -1);
    matmul_back(s, dn, a->n, g.q, find(s, "q", layer, H * c->d, c->e));
    matmul_back(s, dn, a->n, g.k, find(s, "k", layer, c->g * c->d, c->e));
    matmul_back(s, dn, a->n, g.v, find(s, "v", layer, c->g * c->d, c->e));
    norm_back(s, dh, a->h, dn, find(s, "norm1", layer, c->e, 1), centred);
}

/* ---- LLaMA: RMSNorm, rope, SwiGLU ---- */

typedef struct llama_layer {
    half att;
    double *h, *n, *gate, *up, *y;
} llama_layer;

static double llama(run *s) {
    const oracle_config *c = s->c;
    llama_layer *l = calloc((size_t)c->layers, sizeof *l);
    double *h = embed(s, false), *dh = take(s, s->T, c->e);
    const int n = s->T * c->f;
    for (int i = 0; i < c->layers; i++) {
        l[i].h = attend(s, &l[i].att, h, i, false);
        l[i].n = norm(s, l[i].h, find(s, "norm2", i, c->e, 1), false);
        l[i].gate = matmul(s, l[i].n, find(s, "gate", i, c->f, c->e));
        l[i].up = matmul(s, l[i].n, find(s, "up", i, c->f, c->e));
        l[i].y = take(s, s->T, c->f);
        for (int j = 0; j < n; j++) l[i].y[j] = l[i].gate[j] / (1 + exp(-l[i].gate[j])) * l[i].up[j];
        h = matmul(s, l[i].y, find(s, "down", i, c->e, c->f));
        dropout(s, h, 2 * i + 2);
        add(s, h, l[i].h);
    }
    const double loss = head(s, dh, h, false);
    for (int i = c->layers - 1; i >= 0 && s->grads; i--) {
        double *dout = take(s, s->T, c->e), *dy = take(s, s->T, c->f), *dn = take(s, s->T, c->e);
        double *dgate = take(s, s->T, c->f), *dup = take(s, s->T, c->f);
        add(s, dout, dh);
        dropout(s, dout, 2 * i + 2);
        matmul_back(s, dy, l[i].y, dout, find(s, "down", i, c->e, c->f));
        for (int j = 0; j < n; j++) {
            const double a = l[i].gate[j], sigma = 1 / (1 + exp(-a));
            dup[j] = dy[j] * a * sigma;
            dgate[j] = dy[j] * l[i].up[j] * (sigma + a * sigma * (1 - sigma));
        }
        matmul_back(s, dn, l[i].n, dgate, find(s, "gate", i, c->f, c->e));
        matmul_back(s, dn, l[i].n, dup, find(s, "up", i, c->f, c->e));
        norm_back(s, dh, l[i].h, dn, find(s, "norm2", i, c->e, 1), false);
        attend_back(s, &l[i].att, dh, i, false);
    }
    if (s->grads) embed_back(s, dh, false);
    free(l);
    return loss;
}

/* ---- GPT-2: LayerNorm, learned positions, GELU by tanh ---- */

typedef struct gpt2_layer {
    half att;
    double *h, *n, *a, *y;
} gpt2_layer;

static double gpt2(run *s) {
    const oracle_config *c = s->c;
    gpt2_layer *l = calloc((size_t)c->layers, sizeof *l);
    double *h = embed(s, true), *dh = take(s, s->T, c->e);
    const double k = sqrt(2 / 3.14159265358979323846);
    const int n = s->T * c->f;
    for (int i = 0; i < c->layers; i++) {
        l[i].h = attend(s, &l[i].att, h, i, true);
        l[i].n = norm(s, l[i].h, find(s, "norm2", i, c->e, 1), true);
        l[i].a = matmul(s, l[i].n, find(s, "up", i, c->f, c->e));
        l[i].y = take(s, s->T, c->f);
        for (int j = 0; j < n; j++) {
            const double a = l[i].a[j];
            l[i].y[j] = 0.5 * a * (1 + tanh(k * (a + 0.044715 * pow(a, 3))));
        }
        h = matmul(s, l[i].y, find(s, "down", i, c->e, c->f));
        dropout(s, h, 2 * i + 2);
        add(s, h, l[i].h);
    }
    const double loss = head(s, dh, h, true);
    for (int i = c->layers - 1; i >= 0 && s->grads; i--) {
        double *dout = take(s, s->T, c->e), *dy = take(s, s->T, c->f), *dn = take(s, s->T, c->e);
        add(s, dout, dh);
        dropout(s, dout, 2 * i + 2);
        matmul_back(s, dy, l[i].y, dout, find(s, "down", i, c->e, c->f));
        for (int j = 0; j < n; j++) {
            const double a = l[i].a[j], t = tanh(k * (a + 0.044715 * pow(a, 3)));
            dy[j] *= 0.5 * (1 + t) + 0.5 * a * (1 - t * t) * k * (1 + 0.134145 * a * a);
        }
        matmul_back(s, dn, l[i].n, dy, find(s, "up", i, c->f, c->e));
        norm_back(s, dh, l[i].h, dn, find(s, "norm2", i, c->e, 1), true);
        attend_back(s, &l[i].att, dh, i, true);
    }
    if (s->grads) embed_back(s, dh, true);
    free(l);
    return loss;
}

/* ---- all sequences ---- */

static double each_sequence(run s, double (*model)(run *), double *logits) {
    const oracle_batch *b = s.b;
    double loss = 0;
    int first = 0, tokens = 0;
    for (int i = 0; i < b->nseq; i++) tokens += b->len[i];
    s.count = b->count;
    for (int t = 0; t < tokens && b->count == 0; t++)
        s.count += b->targets[t] < 0 ? 0 : b->mask ? b->mask[t] : 1;
    for (int i = 0; i < b->nseq; first += b->len[i++]) {
        s.T = b->len[i], s.sequence = b->sequence ? b->sequence[i] : i;
        s.token = b->tokens + first, s.target = b->targets + first;
        s.mask = b->mask ? b->mask + first : NULL;
        s.logits = logits ? logits + (int64_t)first * s.c->v : NULL;
        loss += model(&s);
        for (int j = 0; j < s.nheld; j++) free(s.held[j]);
        s.nheld = 0;
    }
    free(s.held);
    return loss;
}

double oracle_llama(const oracle_config *c, const double *const *weights, double *const *grads,
                    const oracle_batch *b, double *logits) {
    return each_sequence((run){ .c = c, .weights = weights, .grads = grads, .b = b }, llama, logits);
}

double oracle_gpt2(const oracle_config *c, const double *const *weights, double *const *grads,
                   const oracle_batch *b, double *logits) {
    return each_sequence((run){ .c = c, .weights = weights, .grads = grads, .b = b }, gpt2, logits);
}
