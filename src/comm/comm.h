/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives between ranks. local: the ranks are threads of this process (simulated meshes, tests). */
#ifndef TK_COMM_H
#define TK_COMM_H
#include "core/core.h"

typedef struct tk_local tk_local;
/* A meeting place for all ranks of a mesh; tk_local_comm gives each its comm (rank in mixed radix, axis 0 the
 * slowest), valid until tk_local_free. */
tk_status tk_local_new(tk_local **out, const tk_mesh *mesh);
void tk_local_free(tk_local *l);
tk_comm *tk_local_comm(tk_local *l, int rank);
#endif
