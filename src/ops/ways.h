/* SPDX-License-Identifier: Apache-2.0 */
/* Ways of doing a product: kernels that give the same bits at different speeds. A device's own judgement
 * chooses among them, unless a timed search (`tokamak tune`) has found the fastest for a shape: what it found
 * is a file in the cache folder, one for each kind of device, and is taken up whenever such a device is
 * opened (ways.c). */
#ifndef TK_WAYS_H
#define TK_WAYS_H
#include "base/base.h"

/* Changes when a way's number comes to mean another kernel: files of other numbers count as missing. */
enum { TK_WAYS_OF = 1, TK_WAYS_MOST = 16, TK_WAY_OWN = TK_WAYS_MOST - 1 /* as the device judges itself */ };

/* A product's shape: what becomes of it (the device's number), its weights' format and rows in all, k, tokens
 * up to the next power of two */
typedef struct tk_way_key {
    int32_t end;
    tk_dtype weight;
    int32_t rows, width, tokens;
} tk_way_key;

typedef struct tk_way {
    tk_way_key key;
    int32_t way; /* TK_WAY_OWN, or below TK_WAYS_MOST */
    float us;    /* microseconds that it took */
} tk_way;

/* Zeroed: empty */
typedef struct tk_ways {
    tk_way *list; /* sorted by key */
    int n, room;
} tk_ways;

void tk_ways_free(tk_ways *w);
/* TK_WAY_OWN: nothing better is known of this shape */
int tk_ways_find(const tk_ways *w, const tk_way_key *key);
/* Replaces what is known of the shape. */
tk_status tk_ways_put(tk_ways *w, const tk_way *way);

/* The text of a file. `device` names the kind of device and whatever else the times depend on: one line.
 * Reading fails, and leaves w empty, unless every line is right and the file is of this device. */
tk_status tk_ways_write(const tk_ways *w, const char *device, tk_buf *text);
tk_status tk_ways_read(tk_ways *w, const char *device, const char *text, size_t n);

/* A device's products */
typedef struct tk_device_ways {
    tk_ways known;
    char device[160]; /* for the files */
    int count;        /* the ways are 0 .. count - 1; not every product has all, and takes another then */
    int trying;       /* the way to take, TK_WAY_OWN too; -1: what is known */
    tk_way_key last;  /* shape of the last product that was asked for and has more than one way */
} tk_device_ways;
/* The way to take, which becomes `last`; tokens: as they are */
int tk_device_way(tk_device_ways *w, tk_way_key key);

/* The file of a device: allocated, NULL without a cache folder; $TOKAMAK_CACHE/ways, else in the user's cache
 */
char *tk_ways_path(const char *device);
tk_status tk_ways_load(tk_ways *w, const char *device); /* no file: empty and TK_OK */
tk_status tk_ways_save(const tk_ways *w, const char *device);
#endif
