/* tiles.h - the entry points of matrix products, the same for every instruction set. Included after
 * gemm(), tile_float() and FLOAT_TILE. */

#define GEMM_QUANT(name, fmt)                                                                      \
    static void name(const void *panel, size_t cols, const void *x, size_t x_stride,               \
                     size_t tokens, float *y, size_t y_stride, void *scratch)                      \
    {                                                                                              \
        gemm(fmt, panel, cols, x, x_stride, tokens, y, y_stride, scratch);                         \
    }

#define GEMM_FLOAT(name, fmt)                                                                      \
    static void name(const void *panel, size_t cols, const void *x, size_t x_stride,               \
                     size_t tokens, float *y, size_t y_stride, void *scratch)                      \
    {                                                                                              \
        const char *xs = x;                                                                        \
        size_t t = 0;                                                                              \
                                                                                                   \
        (void)scratch;                                                                             \
        for (; t + FLOAT_TILE <= tokens; t += FLOAT_TILE)                                          \
            tile_float(fmt, panel, cols, xs + t * x_stride, x_stride, y + t * y_stride, y_stride,  \
                       FLOAT_TILE);                                                                \
        for (; t < tokens; t++)                                                                    \
            tile_float(fmt, panel, cols, xs + t * x_stride, x_stride, y + t * y_stride, y_stride,  \
                       1);                                                                         \
    }
