/* SPDX-License-Identifier: Apache-2.0 */
/* The names of a GGUF file in parts: STEM-00002-of-00005.gguf. The reader finds the other parts by them, the
 * hub takes and counts them together. */
#ifndef TK_SPLIT_H
#define TK_SPLIT_H
#include <stdio.h>

#include "base/base.h"

enum {
    TK_SPLIT_TAIL = 20,
    TK_SPLIT_MOST = 4096
}; /* bytes of "-00002-of-00005.gguf"; most parts of a model */

typedef struct tk_split_name {
    int part, parts; /* from 1 */
    size_t stem;     /* bytes before the tail */
} tk_split_name;

static inline bool tk_split_parse(const char *name, tk_split_name *out) {
    const size_t n = strlen(name);
    if (n < TK_SPLIT_TAIL) return false;
    const char *tail = name + n - TK_SPLIT_TAIL;
    int part = 0, parts = 0;
    for (int i = 0; i < TK_SPLIT_TAIL; i++) {
        static const char shape[] = "-ddddd-of-ddddd.gguf";
        const bool digit = shape[i] == 'd';
        if (digit ? tail[i] < '0' || tail[i] > '9' : tail[i] != shape[i]) return false;
        if (digit) *(i < 6 ? &part : &parts) = 10 * (i < 6 ? part : parts) + tail[i] - '0';
    }
    *out = (tk_split_name){ part, parts, n - TK_SPLIT_TAIL };
    return part >= 1 && part <= parts && parts <= TK_SPLIT_MOST;
}

/* The tail of another part */
static inline void tk_split_tail(char out[TK_SPLIT_TAIL + 1], const tk_split_name *s, int part) {
    snprintf(out, TK_SPLIT_TAIL + 1, "-%05u-of-%05u.gguf", (unsigned)part % 100000,
             (unsigned)s->parts % 100000);
}
#endif
