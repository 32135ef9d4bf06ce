/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as threads. Every collective is: show your input, wait for all, read what you need in rank order,
 * wait for all. All ranks of the mesh meet even when only some of its axes take part, which costs time that
 * nobody measures here. Sums are taken in rank order, so every member gets the same bits. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "comm/comm.h"

struct tk_local {
    tk_mesh mesh;
    int ranks;
    pthread_barrier_t barrier;
    const void **shown; /* by rank: its input to the collective at hand */
    tk_comm *comms;
};

static int rank_of(const tk_local *l, const int *at) {
    int rank = 0;
    for (int a = 0; a < l->mesh.axes; a++) rank = rank * l->mesh.axis[a].size + at[a];
    return rank;
}

/* The members of my group along the axes in the mask, in rank order; my own position among them. */
static int members(const tk_local *l, const int *me, unsigned axes, int *list, int *mine) {
    int n = 0;
    for (int rank = 0; rank < l->ranks; rank++) {
        bool in = true, self = true;
        for (int a = 0; a < l->mesh.axes; a++) {
            if (!(axes >> a & 1)) in &= l->comms[rank].rank[a] == me[a];
            self &= l->comms[rank].rank[a] == me[a];
        }
        if (in && self) *mine = n;
        if (in) list[n++] = rank;
    }
    return n;
}

static double get(const void *p, int64_t i, tk_dtype t) {
    return t == TK_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static void put(void *p, int64_t i, tk_dtype t, double v) {
    if (t == TK_F64)
        ((double *)p)[i] = v;
    else
        ((float *)p)[i] = (float)v;
}

/* Element i merged over the members, in rank order. */
static double merged(const tk_local *l, const int *list, int n, int64_t i, tk_merge merge, tk_dtype t) {
    double most = -INFINITY, sum = 0;
    for (int k = 0; k < n; k++) most = fmax(most, get(l->shown[list[k]], i, t));
    if (merge == TK_MAX_MERGE || (merge == TK_LSE && most == -INFINITY)) return most;
    for (int k = 0; k < n; k++) {
        double v = get(l->shown[list[k]], i, t);
        sum += merge == TK_LSE ? exp(v - most) : v;
    }
    return merge == TK_LSE ? most + log(sum) : sum;
}

static void run(tk_comm *c, tk_op op, unsigned axes, tk_merge merge, const void *in, void *out,
                const int64_t shape[3], tk_dtype t) {
    tk_local *l = c->self;
    int list[256], mine = 0;
    l->shown[rank_of(l, c->rank)] = in;
    pthread_barrier_wait(&l->barrier);
    int n = members(l, c->rank, axes, list, &mine);
    /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a rank is among its own members */
    int64_t block = shape[1] * shape[2], part = block / n;
    for (int64_t o = 0; o < shape[0]; o++) switch (op) {
        case TK_OP_allgather:
            for (int k = 0; k < n; k++)
                for (int64_t i = 0; i < block; i++)
                    put(out, (o * n + k) * block + i, t, get(l->shown[list[k]], o * block + i, t));
            break;
        case TK_OP_reducescatter:
            for (int64_t i = 0; i < part; i++)
                put(out, o * part + i, t, merged(l, list, n, o * block + mine * part + i, merge, t));
            break;
        default:
            for (int64_t i = 0; i < block; i++)
                put(out, o * block + i, t, merged(l, list, n, o * block + i, merge, t));
        }
    pthread_barrier_wait(&l->barrier);
}

tk_status tk_local_new(tk_local **out, const tk_mesh *mesh) {
    *out = NULL;
    tk_local *l = calloc(1, sizeof *l);
    if (!l) return TK_FAIL(TK_E_NOMEM, "out of memory");
    l->mesh = *mesh, l->ranks = 1;
    for (int a = 0; a < mesh->axes; a++) l->ranks *= mesh->axis[a].size;
    l->shown = calloc((size_t)l->ranks, sizeof *l->shown);
    l->comms = calloc((size_t)l->ranks, sizeof *l->comms);
    if (!l->shown || !l->comms || l->ranks > 256 ||
        pthread_barrier_init(&l->barrier, NULL, (unsigned)l->ranks)) {
        free(l->shown), free(l->comms), free(l);
        return TK_FAIL(TK_E_NOMEM, "cannot make a mesh of local ranks\nat most 256 fit in one process");
    }
    for (int rank = 0; rank < l->ranks; rank++) {
        l->comms[rank] = (tk_comm){ .self = l, .run = run };
        for (int a = mesh->axes - 1, rest = rank; a >= 0; a--) {
            l->comms[rank].rank[a] = rest % mesh->axis[a].size;
            rest /= mesh->axis[a].size;
        }
    }
    *out = l;
    return TK_OK;
}

void tk_local_free(tk_local *l) {
    if (!l) return;
    pthread_barrier_destroy(&l->barrier);
    free(l->shown), free(l->comms), free(l);
}

tk_comm *tk_local_comm(tk_local *l, int rank) { return &l->comms[rank]; }
