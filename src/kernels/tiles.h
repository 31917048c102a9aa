/* tiles.h - the entry points of matrix products, the same for every instruction set: full tiles of
 * TILE_TOKENS tokens, then one token at a time. Included after tile_quant and tile_float. */

#define GEMM_QUANT(name, fmt, block_bytes)                                                         \
    static void name(const void *panel, size_t cols, const void *x, size_t x_stride,               \
                     size_t tokens, float *y, size_t y_stride)                                     \
    {                                                                                              \
        const char *xs = x;                                                                        \
        size_t t = 0;                                                                              \
                                                                                                   \
        for (; t + TILE_TOKENS <= tokens; t += TILE_TOKENS)                                        \
            tile_quant(fmt, block_bytes, panel, cols / KERNELS_BLOCK, xs + t * x_stride, x_stride, \
                       y + t * y_stride, y_stride, TILE_TOKENS);                                   \
        for (; t < tokens; t++)                                                                    \
            tile_quant(fmt, block_bytes, panel, cols / KERNELS_BLOCK, xs + t * x_stride, x_stride, \
                       y + t * y_stride, y_stride, 1);                                             \
    }

#define GEMM_FLOAT(name, fmt)                                                                      \
    static void name(const void *panel, size_t cols, const void *x, size_t x_stride,               \
                     size_t tokens, float *y, size_t y_stride)                                     \
    {                                                                                              \
        const char *xs = x;                                                                        \
        size_t t = 0;                                                                              \
                                                                                                   \
        for (; t + TILE_TOKENS <= tokens; t += TILE_TOKENS)                                        \
            tile_float(fmt, panel, cols, xs + t * x_stride, x_stride, y + t * y_stride, y_stride,  \
                       TILE_TOKENS);                                                               \
        for (; t < tokens; t++)                                                                    \
            tile_float(fmt, panel, cols, xs + t * x_stride, x_stride, y + t * y_stride, y_stride,  \
                       1);                                                                         \
    }
