/* SPDX-License-Identifier: Apache-2.0 */
/* base64 with padding, as Precompiled normalizers and tiktoken's files hold bytes. */
#include "text/tokenizer.h"

static int digit(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

bool tk__base64(tk_buf *out, const char *s, size_t n) {
    if (n % 4) return false;
    for (size_t i = 0; i < n; i += 4) {
        bool last = i + 4 == n;
        int pad = last && s[i + 3] == '=' ? 1 + (s[i + 2] == '=') : 0;
        uint32_t bits = 0;
        for (int k = 0; k < 4 - pad; k++) {
            int d = digit(s[i + (size_t)k]);
            if (d < 0) return false;
            bits = bits << 6 | (uint32_t)d;
        }
        bits <<= 6 * pad;
        char three[3] = { (char)(bits >> 16), (char)(bits >> 8), (char)bits };
        tk_buf_put(out, three, (size_t)(3 - pad));
    }
    return true;
}
