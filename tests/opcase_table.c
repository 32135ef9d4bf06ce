/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes at which every reference and every kernel row is tried. A new op needs at least one row here
 * (test_refs says so). Sizes are small and odd, around the widths of vectors (8, 16), quantization blocks
 * (32, 256), row panels (16) and key blocks (64); widths that are multiples of 256 let every weight format
 * take part. A kernel that has a special path for some size adds a row that reaches it. */
#include "opcase.h"

#define CASE(op, dims, ...)                                                                                  \
    {                                                                                                        \
#op, dims, "", "", { __VA_ARGS__ }                                                                   \
    }
#define SPLIT(op, dims, split, past, ...)                                                                    \
    {                                                                                                        \
#op, dims, split, past, { __VA_ARGS__ }                                                              \
    }
#define F(...) .f = { __VA_ARGS__ }
#define I(...) .i = { __VA_ARGS__ }

const op_case op_cases[] = {
    CASE(embed, "t5 v7 k6"),
    CASE(embed, "t9 v4@3/9 k33"),
    CASE(embed, "t7 v8@8/13 k96"),
    CASE(embed, "t3 v40 k256"),

    CASE(linear, "t1 n1 k1"),
    CASE(linear, "t3 n5 k7"),
    CASE(linear, "t1 n17 k32"),
    CASE(linear, "t7 n16 k64"),
    CASE(linear, "t4 n33 k96"),
    CASE(linear, "t13 n40 k160"),
    CASE(linear, "t1 n50 k256"),
    CASE(linear, "t2 n24 k512"),
    CASE(linear, "t6 n19 k576"),
    CASE(linear, "t9 n34 k256"),
    CASE(linear, "t37 n66 k768"),
    CASE(linear, "t70 n20 k512"),

    CASE(bias, "t1 n1"),
    CASE(bias, "t5 n37"),
    CASE(bias, "t3 n64"),
    CASE(bias, "t9 n1025"),

    CASE(norm, "h1 k3", F(1e-5f)),
    CASE(norm, "h3 k7", F(1e-6f)),
    CASE(norm, "h5 k40", F(1e-5f)),
    CASE(norm, "h2 k577", F(1e-5f)),
    CASE(norm, "h37 k64", F(1e-5f)),
    CASE(norm, "h19 k128", F(1e-5f)),
    CASE(norm, "h9 k256", F(1e-5f)),
    CASE(norm, "h5 k520", F(1e-5f)),
    CASE(norm, "h5 k1000", F(1e-5f)),
    CASE(norm, "h3 k2048", F(1e-5f)),
    CASE(norm, "h3 k4096", F(1e-5f)),
    CASE(norm, "h2 k8192", F(1e-5f)),
    CASE(norm, "h2 k16384", F(1e-5f)),
    CASE(norm, "h2 k20000", F(1e-5f)),
    CASE(lnorm, "h1 k4", F(1e-5f)),
    CASE(lnorm, "h3 k7", F(1e-5f)),
    CASE(lnorm, "h5 k48", F(1e-6f)),
    CASE(lnorm, "h2 k577", F(1e-5f)),
    CASE(lnorm, "h37 k64", F(1e-5f)),
    CASE(lnorm, "h9 k256", F(1e-5f)),
    CASE(lnorm, "h5 k1000", F(1e-5f)),
    CASE(lnorm, "h3 k4096", F(1e-5f)),
    CASE(lnorm, "h2 k20000", F(1e-5f)),
    CASE(softmax, "t1 k1"),
    CASE(softmax, "t3 k7"),
    CASE(softmax, "t37 k64"),
    CASE(softmax, "t9 k256"),
    CASE(softmax, "t5 k1000"),
    CASE(softmax, "t3 k4096"),
    CASE(softmax, "t2 k20000"),
    CASE(softmax, "t2 k33000"),

    CASE(rope, "t3 h2 d8 z4", F(1), I(TK_ROPE_HALF)),
    CASE(rope, "t3 h2 d8 z4", F(1), I(TK_ROPE_PAIRS)),
    CASE(rope, "t5 h3 d10 z3", F(1.25f), I(TK_ROPE_HALF)),
    CASE(rope, "t5 h3 d10 z3", F(1.25f), I(TK_ROPE_PAIRS)),
    CASE(rope, "t4 h3 d64 z32", F(1), I(TK_ROPE_HALF)),
    CASE(rope, "t4 h3 d80 z20", F(1), I(TK_ROPE_PAIRS)),
    CASE(rope, "t3 h2 d8 z1", F(1), I(TK_ROPE_HALF)),
    CASE(rope, "t3 h2 d8 z1", F(1), I(TK_ROPE_PAIRS)),
    CASE(rope, "t3 h2 d40 z9", F(1), I(TK_ROPE_HALF)),
    CASE(rope, "t3 h2 d40 z9", F(1), I(TK_ROPE_PAIRS)),

    SPLIT(attn, "t1 g1 r1 d4", "", "", F(0.5f)),
    SPLIT(attn, "t7 g1 r1 d5", "7", "", F(0.4f)),
    SPLIT(attn, "t7 g2 r3 d8", "3 4", "", F(0.35f)),
    SPLIT(attn, "t9 g3 r2 d16", "1 5 3", "", F(0.25f)),
    SPLIT(attn, "t6 g2 r2 d6", "5", "", F(0.25f)), /* the last token is padding */
    SPLIT(attn, "t12 g2 r2 d8", "12", "", F(30)),  /* almost one-hot */
    SPLIT(attn, "t75 g1 r3 d32", "5 70", "", F(0.18f)),
    SPLIT(attn, "t140 g1 r2 d64", "140", "", F(0.125f)),

    /* soft cap, ALiBi (of 6 heads, and of a part of them), window, and all of them */
    SPLIT(attn, "t9 g2 r2 d6", "9", "", F(0.8f, 3)),
    SPLIT(attn, "t9 g3 r2 d4", "2 7", "", F(0.5f, 0, 8)),
    SPLIT(attn, "t7 g2@4/7 r3 d4", "7", "", F(0.5f, 0, 8, 0.5f)),
    SPLIT(attn, "t9 g2 r2 d4", "9", "", F(0.5f), I(3)),
    SPLIT(attn, "t11 g1 r3 d6", "2 8", "", F(0.5f, 2, 4, 0), I(1)),
    SPLIT(attn, "t140 g1 r3 d24", "137", "", F(0.2f, 5, 8), I(37)),
    SPLIT(attn, "t700 g1 r2 d8", "650 50", "", F(0.4f), I(300)),
    SPLIT(kvput, "t5 g2 d8 p3 s16", "", ""),
    SPLIT(kvput, "t7 g3 d64 p2 s32", "", ""),
    SPLIT(kvput, "t19 g1 d96 p4 s64", "", ""),
    SPLIT(attn_paged, "t1 g1 r1 d4 p1 s16", "1", "", F(0.5f)),
    SPLIT(attn_paged, "t5 g2 r3 d32 p4 s16", "1 4", "17 3", F(0.18f)),
    SPLIT(attn_paged, "t3 g3 r3 d64 p12 s16", "1 1 1", "0 40 63", F(0.125f)),
    SPLIT(attn_paged, "t2 g2 r4 d64 p6 s64", "1 1", "64 129", F(0.125f)),
    SPLIT(attn_paged, "t70 g1 r2 d96 p8 s32", "66 4", "7 90", F(0.1f)),
    SPLIT(attn_paged, "t6 g2 r1 d128 p5 s48", "6", "200", F(0.09f)),
    SPLIT(attn_paged, "t6 g1 r2 d32 p50 s64", "1 5", "1100 700", F(0.2f)), /* many key blocks */
    SPLIT(attn_paged, "t9 g2 r2 d32 p4 s32", "3 5", "1 2", F(20)),
    SPLIT(attn_paged, "t3 g3 r3 d64 p12 s16", "1 1 1", "0 40 63", F(0.3f, 10)),
    SPLIT(attn_paged, "t5 g2 r3 d32 p4 s16", "1 4", "17 3", F(0.18f, 0, 8)),
    SPLIT(attn_paged, "t9 g2 r2 d64 p8 s64", "2 7", "250 60", F(0.125f), I(5)),
    SPLIT(attn_paged, "t40 g1 r3 d32 p20 s64", "30 10", "500 300", F(0.3f, 3, 8), I(100)),
    SPLIT(attn_paged, "t6 g1 r2 d32 p50 s64", "1 5", "1100 700", F(0.2f), I(513)),
    SPLIT(attn_paged, "t3 g1 r4 d128 p40 s64", "1 2", "1087 1022", F(0.09f)), /* spans of 1,024 keys */
    SPLIT(attn_paged, "t70 g1 r1 d64 p36 s64", "66 3", "970 0", F(0.125f)),   /* many rows and few */
    SPLIT(attn_paged, "t70 g2 r1 d128 p10 s64", "70", "120", F(0.09f)),
    CASE(sink, "t1 g1 r1 d4"),
    CASE(sink, "t5 g2 r3 d7"),
    CASE(sink, "t9 g3 r3 d64"),

    CASE(add, "n1"),
    CASE(add, "n77"),
    CASE(add, "n9001"), /* enough for several threads, as below */
    CASE(act, "n67", I(TK_ACT_SILU)),
    CASE(act, "n67", I(TK_ACT_GELU_TANH)),
    CASE(act, "n67", I(TK_ACT_GELU_ERF)),
    CASE(act, "n67", I(TK_ACT_RELU)),
    CASE(act, "n67", I(TK_ACT_GELU_QUICK)),
    CASE(act, "n67", I(TK_ACT_RELU2)),
    CASE(act, "n9001", I(TK_ACT_GELU_TANH)),
    CASE(scale, "n1", F(30)),
    CASE(scale, "n67", F(0.22f)),
    CASE(softcap, "n1", F(30)),
    CASE(softcap, "n67", F(1)),
    CASE(softcap, "n9001", F(30)),
    CASE(glu, "n1", I(TK_ACT_SILU)),
    CASE(glu, "n130", I(TK_ACT_SILU)),
    CASE(glu, "n9001", I(TK_ACT_SILU)),
    CASE(glu, "n37", I(TK_ACT_GELU_TANH)),
    CASE(glu, "n37", I(TK_ACT_GELU_ERF)),
    CASE(glu, "n37", I(TK_ACT_RELU)),
    CASE(glu, "n67", I(TK_ACT_GELU_QUICK)),
    CASE(glu, "n67", I(TK_ACT_RELU2)),
    CASE(glu, "n67", F(1, 1), I(TK_ACT_GELU_QUICK)), /* random numbers reach the limit */
    CASE(glu, "n83", F(0.7f), I(TK_ACT_SILU)),
    CASE(dropout, "t5 n11", F(0.3f), I(2)),
    CASE(dropout, "t3 n10@6/16", F(0.1f), I(1)),
    CASE(dropout, "t2 n19", F(0)),
    CASE(route, "t5 x8 a2", I(2, TK_ROUTE_SOFTMAX_TOP, 1)),
    CASE(route, "t4 x7 a3", I(3, TK_ROUTE_SOFTMAX_TOP, 0)),
    CASE(route, "t4 x7 a3", I(3, TK_ROUTE_TOP_SOFTMAX, 0)),
    CASE(route, "t3 x4 a4", I(4, TK_ROUTE_SOFTMAX_TOP, 0)),
    CASE(route, "t21 x60 a4", I(4, TK_ROUTE_SOFTMAX_TOP, 0)),
    CASE(experts, "t1 x3 n5 k7 a2"),
    CASE(experts, "t9 x4 n16 k32 a2"),
    CASE(experts, "t5 x3 n24 k256 a3"), /* panels across two experts */
    CASE(experts, "t37 x5 n32 k512 a2"),
    CASE(experts2, "t1 x3 n5 k7 a2"),
    CASE(experts2, "t9 x4 n16 k32 a2"),
    CASE(experts2, "t5 x3 n24 k256 a3"),
    CASE(experts2, "t37 x5 n32 k512 a2"),
    CASE(experts_bias, "t5 x3 n7 a2"),
    CASE(experts_bias, "t9 x4 n64 a3"),
    CASE(combine, "t5 n7 a1"),
    CASE(combine, "t9 n65 a3"),
    CASE(gate, "t5 n7 u1"),
    CASE(gate, "t9 n65 u1"),
    CASE(permute, "t1 k1"),
    CASE(permute, "t5 k37"),
    CASE(permute, "t9 k256"),
    CASE(draw, "o9 v1 c12 q2"),
    CASE(draw, "o9 v50 c12 q9"),
    CASE(draw, "o30 v1003 c12 q30"),
    CASE(draw, "o3 v40000 c12 q2"),
    CASE(note, "o9 v1 c12 q9"),
    CASE(note, "o40 v1003 c12 q30"),
    CASE(pick, "t9 o4 k13"),
    CASE(pick, "t3 o5 k64"),
    CASE(pick, "t5 o9 k1025"),

    CASE(head, "t4 v9 k5"),
    CASE(head, "t5 v6@4/9 k7"),
    CASE(head, "t3 v8@16/13 k6"),
    CASE(head, "t6 v40 k256"),
    CASE(head, "t9 v70 k33"),
    CASE(head, "t4 v9 k5", F(0.25, 2)),
    CASE(head, "t5 v6@4/9 k7", F(3)),
    CASE(head, "t9 v70 k33", F(0, 3)),
    CASE(loss, "t1"),
    CASE(loss, "t21"),
    CASE(cast, "n45"),
    CASE(cast, "n9001"),

    CASE(pack, "n16 k256"),
    CASE(pack, "n37 k256"),
    CASE(pack, "n50 k512"),
    CASE(pack, "n19 k96"),
    CASE(pack, "n17 k33"),
    CASE(quant, "t1 k32"),
    CASE(quant, "t5 k96"),
    CASE(quant, "t3 k576"),

    CASE(findmax, "n1"),
    CASE(findmax, "n99"),
    CASE(qlinear, "t3 n5 k7"),
    CASE(qlinear, "t6 n17 k40"),

    CASE(accum, "n33"),
    CASE(zero, "n33"),
    CASE(sqsum, "n1"),
    CASE(sqsum, "n301"),
    CASE(adamw, "n53 c8", F(1)),
    CASE(adamw, "n17 c8", F(0)),
};
const int op_ncases = (int)TK_COUNT(op_cases);

/* For rows of a GPU besides: sizes that only its kernels tell apart, and that are slow for the references */
const op_case op_cases_gpu[] = {
    CASE(linear, "t130 n48 k1024"),
    CASE(linear, "t17 n40 k2048"),
    CASE(linear, "t1 n24 k14336"),
    CASE(linear, "t65 n33 k320"),
    CASE(quant, "t3 k4096"),
    /* tensor cores: heads of 256, 96 and 64 for few rows and for many, with every rule of scores, spans of
     * 1,024 keys that a window leaves, large pages, more query heads than a tile has rows */
    SPLIT(attn_paged, "t3 g1 r5 d256 p36 s64", "1 2", "700 1100", F(0.06f)),
    SPLIT(attn_paged, "t70 g1 r1 d256 p6 s64", "70", "40", F(0.06f)),
    SPLIT(attn_paged, "t70 g3 r1 d64 p6 s64", "70", "40", F(0.125f, 0, 8)),
    SPLIT(attn_paged, "t67 g2 r2 d128 p8 s64", "66 1", "40 130", F(0.2f, 5, 8), I(50)),
    SPLIT(attn_paged, "t3 g2 r3 d128 p54 s64", "1 1 1", "1100 40 1023", F(0.2f, 5, 8), I(700)),
    SPLIT(attn_paged, "t68 g1 r2 d96 p36 s64", "66 2", "1000 300", F(0.1f), I(200)),
    SPLIT(attn_paged, "t2 g1 r20 d64 p8 s128", "1 1", "300 200", F(0.125f)),
    SPLIT(attn_paged, "t2 g1 r4 d96 p18 s256", "1 1", "2100 3", F(0.1f)),
    SPLIT(attn_paged, "t3 g1 r2 d64 p42 s128", "1 2", "2600 5", F(0.125f), I(1500)),
    SPLIT(attn_paged, "t5 g2 r1 d64 p12 s16", "5", "90", F(-0.2f)),
};
const int op_ncases_gpu = (int)TK_COUNT(op_cases_gpu);
