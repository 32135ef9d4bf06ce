/* SPDX-License-Identifier: Apache-2.0 */
/* The program: a flat list of op records over values, and the passes that turn a model into steps.
 *
 *     build -> grad -> shard -> choose -> hoist -> fuse -> plan -> bind -> steps
 *
 * A builder emits forward records through tk_emit. Each pass rewrites the list and can be dumped. Failures
 * while emitting are sticky: the builder goes on with ids of -1 and tk_prog_check tells in the end. */
#ifndef TK_CORE_H
#define TK_CORE_H
#include "base/base.h"
#include "ops/device.h"

#define TK_AXES 4 /* mesh axes: a value is cut, whole or partial along each */
#define TK_MAX_DIMS 6
#define TK_MAX_ADJOINTS 3

typedef enum tk_op {
#define OP(name, forward, adjoints, flops, flags) TK_OP_##name,
#include "core/ops.def"
#undef OP
    TK_OPS
} tk_op;
enum { TK_KEEP = 1, TK_STATE = 2, TK_COMM = 4, TK_PASS = 8 };

/* ---- signatures: the parsed text of ops.def (sig.c) -------------------------------------------------- */

typedef enum tk_merge { TK_SUM, TK_MAX_MERGE, TK_LSE } tk_merge;

typedef struct tk_operand {
    char name[6], letters[8]; /* letters in lower case */
    uint8_t whole;            /* bit i: letters[i] was upper case */
    uint8_t merge;            /* tk_merge of an output whose summed letter is cut */
    int8_t made_by;           /* tk_op that makes this input, or -1 */
    char made_from[6];        /* its argument */
} tk_operand;
typedef struct tk_sig {
    int nin, nout;
    tk_operand o[TK_MAX_OPERANDS]; /* inputs, then outputs */
} tk_sig;
typedef struct tk_opinfo {
    const char *name;
    tk_sig sig[1 + TK_MAX_ADJOINTS]; /* [0] forward, [i] adjoint i */
    int adjoints, aliases;
    struct {
        char to[6], from[6];
    } alias[2]; /* dx=dz */
    double flops;
    unsigned flags;
} tk_opinfo;
const tk_opinfo *tk_op_info(int op);

/* ---- values and records ------------------------------------------------------------------------------ */

typedef int32_t tk_id; /* a value; -1 is none */

typedef enum tk_kind { TK_ACTIVATION, TK_WEIGHT, TK_STATEFUL, TK_ACCUMULATOR, TK_INPUT, TK_CONST } tk_kind;

/* How a value lies along one mesh axis: a dim position, or one of these */
enum { TK_WHOLE = -1, TK_PARTIAL = 16 /* + tk_merge */ };
#define TK_IS_CUT(c) ((c) >= 0 && (c) < TK_PARTIAL)
#define TK_IS_PARTIAL(c) ((c) >= TK_PARTIAL)

typedef enum tk_arena_id { TK_A_WEIGHTS, TK_A_STATE, TK_A_SAVED, TK_A_IO, TK_A_WORK, TK_ARENAS } tk_arena_id;

typedef struct tk_value {
    char dim[TK_MAX_DIMS + 2]; /* letters, outermost first */
    uint8_t dtype, kind;
    uint8_t split; /* the first `split` dims count rows, the others make one row of the dtype's layout */
    bool output;   /* read from outside after the step */
    bool mapped;   /* a weight whose bytes lie in somebody else's memory: none in the arena */
    bool staged;   /* by plan: a weight that a device gets only to pack it; it passes through WORK */
    int8_t cut[TK_AXES];
    tk_id store;          /* the first version of this storage; itself for most */
    tk_id like;           /* accumulators: the optimizer state whose cut they take at the update; else -1 */
    int32_t name;         /* index in names, -1: anonymous */
    uint8_t arena;        /* by plan */
    size_t offset, bytes; /* by plan; bytes are local */
} tk_value;

/* Directions: what emitted a record. Phases: when it runs. */
enum { TK_FORWARD, TK_BACKWARD, TK_UPDATE };
enum { TK_P_LOAD, TK_P_CHANGED, TK_P_FORWARD, TK_P_BACKWARD, TK_P_UPDATE, TK_PHASES };

typedef struct tk_record {
    uint8_t op, adj; /* adj 0: the op itself, i: its adjoint i */
    uint8_t when, phase, nin, nout;
    int16_t layer;  /* -1: outside layers */
    int16_t kernel; /* row of kernels.def, -1: the reference */
    tk_id arg[TK_MAX_OPERANDS];
    tk_attr attr;
    int32_t clone_of; /* id of the original's first output when this is a recomputed clone, else -1 */
    size_t scratch;   /* offset in WORK, by plan */
} tk_record;

/* What the outside knows a value by: a role of the model and a layer (-1: none) */
typedef struct tk_name {
    const char *role;
    int layer;
    tk_id id;
} tk_name;

typedef struct tk_axis {
    int size;
    bool data;     /* tokens win: batch axis, cut at sequence borders */
    bool sequence; /* model axis with sequence parallelism: PARTIAL values with t resolve to a cut of t */
    const char *letters; /* letters of weights and inputs that it cuts */
} tk_axis;
typedef struct tk_mesh {
    int axes;
    tk_axis axis[TK_AXES];
} tk_mesh;

typedef struct tk_counts { /* what the passes did, for golden tests and `explain` */
    int allreduce[3], allgather[3], reducescatter[3]; /* by direction */
    int asked[TK_OPS], merged[TK_OPS];                /* hoist: records of an op seen, and made unnecessary */
    int fused;                                        /* windows that became one record */
} tk_counts;

typedef struct tk_program {
    tk_arena arena;
    tk_status status;
    tk_value *values;
    int nvalues, cap_values;
    tk_record *records;
    int nrecords, cap_records;
    tk_name *names;
    int nnames, cap_names;
    int64_t size[128], N[128]; /* of each letter: size (padded), true size; 0: unknown */
    tk_mesh mesh;
    tk_dtype real;   /* of activations, statistics, gradients: F32, or F64 for tests */
    int layer, when; /* stamped on emitted records */
    bool trainable;  /* weights change: what depends on them alone runs in phase changed */
    tk_counts counts;
    size_t arena_bytes[TK_ARENAS], live_bound; /* by plan; WORK includes SAVED */
    int plan_threads;
    tk_device *device; /* where it runs; set before tk_choose; NULL: the CPU */
} tk_program;

void tk_prog_init(tk_program *p, tk_dtype real);
void tk_prog_free(tk_program *p);
tk_status tk_prog_check(const tk_program *p);
/* Declares a letter; `size` >= `true_size`, the rest being padding (vocabulary). */
void tk_letter(tk_program *p, char letter, int64_t size, int64_t true_size);
/* Values from outside. role must live as long as the program (literals). dims: letters, with '|' before those
 * that make a row of a weight ("e|grd"; default: the last one). */
tk_id tk_declare(tk_program *p, tk_kind kind, const char *role, const char *dims, tk_dtype dtype);
/* Appends a record; returns the first output, the others follow it. `in` has the op's inputs but for those
 * that its signature makes itself (a=findmax(x)). */
tk_id tk_emit(tk_program *p, tk_op op, tk_attr attr, const tk_id *in, int nin);
#define TK_EMIT(p, op, attr, ...)                                                                            \
    tk_emit((p), TK_OP_##op, (attr), (const tk_id[]){ __VA_ARGS__ },                                         \
            (int)(sizeof((const tk_id[]){ __VA_ARGS__ }) / sizeof(tk_id)))
#define TK_NOATTR ((tk_attr){ { 0 }, { 0 } })
/* by their bits: 0 and -0 are two attributes */
static inline bool tk__attr_same(const tk_attr *a, const tk_attr *b) {
    return !memcmp(a->f, b->f, sizeof a->f) && !memcmp(a->i, b->i, sizeof a->i);
}
/* Marks a value as read from outside after the step, under a name; passes keep the name up to date. */
void tk_output(tk_program *p, const char *role, tk_id id);
tk_id tk_find(const tk_program *p, const char *role, int layer); /* -1 when absent */

/* shared by the passes */
tk_id tk__value(tk_program *p, tk_value v);
tk_record *tk__record(tk_program *p, tk_record r);
void tk__prog_fail(tk_program *p, tk_status s);
/* Runs of dims that the letters of a record bind; the string of dims by letter. False with an error when
 * there is no binding or more than one. Outputs take part when `outputs` (their dims are known). */
typedef struct tk_binding {
    char run[26][TK_MAX_DIMS + 2];
} tk_binding;
tk_status tk__bind_letters(const tk_program *p, const tk_record *r, bool outputs, tk_binding *b);
void tk__value_rows(const tk_program *p, const tk_value *v, int64_t *rows, int64_t *cols); /* local */
int64_t tk__local(const tk_program *p, const tk_value *v, int dim); /* local size of a dim */
const tk_sig *tk__sig(const tk_record *r);
/* {n, first, N} of every letter of r, at the planned sizes, for the rank at `at` (NULL: rank 0 everywhere) */
/* Rows of a staged weight that pass at a time: whole groups of every packed format, up to 32 MB */
int64_t tk__staged_rows(const tk_program *p, const tk_value *v);
void tk__record_dims(const tk_program *p, const tk_record *r, const int *at, tk_dim dim[26]);

/* ---- passes ------------------------------------------------------------------------------------------ */

/* Appends the backward of everything that `loss` (a scalar) depends on, sums gradients into accumulators
 * named "grad" beside each weight's role. recompute: layers >= 0 rerun their forward before their backward.
 */
tk_status tk_grad(tk_program *p, tk_id loss, bool recompute);
/* Appends the update: sum of squares, AdamW (state "adam_m.ROLE", "adam_v.ROLE"; input "hyper" [h]), zeroing.
 */
tk_status tk_update(tk_program *p);
/* Cuts everything for the mesh and inserts the collectives. zero_axis: the mesh axis that also cuts optimizer
 * state (ZeRO-1), or -1. */
tk_status tk_shard(tk_program *p, const tk_mesh *mesh, int zero_axis);
/* Picks kernels for the features in `cpu` (of the program's device instead, where it has one); inserts pack
 * and quant. reference: no kernels at all. */
tk_status tk_choose(tk_program *p, unsigned cpu, bool reference);
enum { TK_HOIST_MERGE = 1, TK_HOIST_PHASE = 2, TK_HOIST_ALL = 3 };
tk_status tk_hoist(tk_program *p, int what);
/* After hoist: windows of fusions.def that a kernel row serves become one record. */
tk_status tk_fuse(tk_program *p, unsigned cpu);
/* Gives every value its arena, offset and bytes. reuse: values whose lives do not meet share storage. SAVED
 * is the part of WORK that crosses from forward to backward; both lie in one block. */
tk_status tk_plan(tk_program *p, bool reuse, int threads);
/* A readable listing, one record a line */
void tk_dump(const tk_program *p, tk_buf *out);

/* ---- kernels and execution --------------------------------------------------------------------------- */

typedef struct tk_kernel_row {
    const char *name; /* of the forward function */
    uint8_t op;
    unsigned needs;
    tk_dtype act, weight, out; /* TK_NODTYPE: any */
    tk_scratch *scratch;
    tk_kernel *fn[1 + TK_MAX_ADJOINTS];
    const char *fn_name[1 + TK_MAX_ADJOINTS];
} tk_kernel_row;
extern const tk_kernel_row tk_kernels[];
extern const int tk_nkernels;
/* Opens "cuda" or "cuda:1" (a program and its executor borrow it); NULL for "cpu". plan: a machine without
 * such a device will do, nothing is run. */
tk_status tk_device_open(tk_device **out, const char *name, bool plan);
void tk_device_close(tk_device *d);
/* May a row with these needs run where there are these features? Devices run their own rows only. */
static inline bool tk__able(unsigned needs, unsigned have) {
    return !(needs & ~have) && !((needs ^ have) & TK_ON_CUDA);
}
/* Has a machine with these features a row of its own for an op? */
bool tk_op_served(int op, unsigned have);
/* The row that serves r as it is on a CPU with these features, or -1 */
int tk__row_for(const tk_program *p, const tk_record *r, unsigned cpu);
tk_kernel *tk_row_kernel(const tk_kernel_row *row, int adj); /* NULL where the row says NONE */
tk_kernel *tk_ref_kernel(int op, int adj, tk_dtype real);    /* NULL for collectives */

/* Collectives between the ranks of a mesh; implementations live in src/comm. The tensor is
 * [outer][n][tail] locally; a gather or scatter works along the middle. Ranks are summed in rank order. */
typedef struct tk_comm {
    void *self;
    int rank[TK_AXES];
    void (*run)(struct tk_comm *c, tk_op op, unsigned axes, tk_merge merge, const void *in, void *out,
                const int64_t shape[3], tk_dtype type);
} tk_comm;

typedef struct tk_exec tk_exec;
/* Allocates the arenas and binds addresses. pool and comm may be NULL and must outlive it. The program is
 * borrowed. null: no memory, no kernels (plans and schedules only). */
tk_status tk_exec_new(tk_exec **out, const tk_program *p, tk_pool *pool, tk_comm *comm, bool null);
void tk_exec_free(tk_exec *e);
/* Points a weight at memory that somebody else owns (a mapped file) instead of the arena. Before LOAD. */
void tk_exec_point(tk_exec *e, tk_id id, const void *data);
/* Address of a value. On a device: of an input or output, the host's copy (an output's comes back at the
 * first call after a run; a failure is in tk_exec_check); of anything else, an address there. */
void *tk_exec_data(tk_exec *e, tk_id id);
/* To write a weight or constant: where to (NULL: out of memory), and that it is done. At most one at a time.
 */
void *tk_exec_open(tk_exec *e, tk_id id);
tk_status tk_exec_close(tk_exec *e, tk_id id);
/* Bytes into a value of fixed size, from byte `at` on, before the steps that are asked for next. */
tk_status tk_exec_write(tk_exec *e, tk_id id, size_t at, const void *from, size_t bytes);
void tk_exec_drop(tk_exec *e,
                  tk_id id); /* gives a value's memory back to the system: nobody reads it again */
/* Sets the number of tokens (letter t) and of picked rows (letter o) of the next runs: at most the planned
 * size. */
void tk_exec_size(tk_exec *e, char letter, int64_t n);
void tk_exec_batch(tk_exec *e, const tk_batch *b);
void tk_exec_run(tk_exec *e, int phase);
/* On a device, runs of the forward phase behind one another: `start` asks for one and for its output `out`
 * and returns at once; `finish` waits for the oldest and gives that output. carry: an input as large as `out`
 * that gets what `out` was after the run before instead of what the host wrote, or -1. At most two may be on
 * their way. NULL: a failure. */
void tk_exec_start(tk_exec *e, tk_id out, tk_id carry);
const void *tk_exec_finish(tk_exec *e);
/* How the runs so far went: only devices fail. Sticky. */
tk_status tk_exec_check(const tk_exec *e);
/* Runs one phase with a callback after each record (profiling, progress, releasing packed originals). */
typedef void tk_exec_hook(void *arg, const tk_record *r, double seconds);
void tk_exec_run_hook(tk_exec *e, int phase, tk_exec_hook *hook, void *arg);
/* On a device: how long these records take (indices, of the forward phase, at the sizes and on the batch of
 * the last run), done one after the other as a step does them; a call's share, from about 30 ms of them. */
tk_status tk_exec_time(tk_exec *e, const int *records, int n, double *seconds);
/* flops and bytes of a record at the sizes set now: what it must compute, read and write */
void tk_exec_cost(const tk_exec *e, const tk_record *r, double *flops, double *bytes);
#endif
