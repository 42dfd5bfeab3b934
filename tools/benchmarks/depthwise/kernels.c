/* Both gradients of a depthwise convolution, float32, NCHW, kernels of K x K with padding K / 2, strides 1 and 2:
 *
 *     dX[n, c, i, j] = sum over a, b of  dY[n, c, (i + p - a) / s, (j + p - b) / s] * W[c, a, b]
 *     dW[c, a, b]    = sum over n, i, j of  dY[n, c, i, j] * X[n, c, s i + a - p, s j + b - p]
 *
 * A channel belongs to one thread, which copies a plane of dY and of X into a frame of zeros, X with its columns apart
 * by their remainder by the stride.  All loads are then of V neighbours, and no edge is a case of its own.  Rows are
 * copied and written by whole vectors: what runs over the end of one is overwritten by the next.  Vectors are GCC's own,
 * so -march says what they become.  Sums have one order, whatever the threads.
 */

#include <stdlib.h>
#include <string.h>

#ifndef V
#define V 8 /* planes are as small as 7 x 7: half of a wider vector would be empty */
#endif

#define INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(4 * V), aligned(4), may_alias));
typedef int lanes __attribute__((vector_size(4 * V)));

typedef struct {
    long channels, height, width, out_height, out_width;
    long columns; /* of dY's frame, and of one part of X's */
} sizes;

INLINE vec load(const float *from) { return *(const vec *)from; }

INLINE float total(vec v) {
    float sum = 0;
    for (int i = 0; i < V; i++) sum += v[i];
    return sum;
}

/* dW's rows a .. a + G of one plane, added to sums. */
INLINE void kernel_rows(const float *dy, const float *x, const sizes *z, vec *sums, int a, int K, int S, int G) {
    const long columns = z->columns, rows = z->height + K - 1;
    vec acc[3 * 7];
#pragma GCC unroll 21
    for (int i = 0; i < G * K; i++) acc[i] = sums[a * K + i];
    for (long i = 0; i < z->out_height; i++) {
        const float *d = dy + (K + i) * columns + K;
        for (long j = 0; j < z->out_width; j += V) {
            const vec y = load(d + j);
#pragma GCC unroll 3
            for (int g = 0; g < G; g++)
#pragma GCC unroll 7
                for (int b = 0; b < K; b++)
                    acc[g * K + b] += y * load(x + ((b % S) * rows + S * i + a + g) * columns + j + b / S);
        }
    }
#pragma GCC unroll 21
    for (int i = 0; i < G * K; i++) sums[a * K + i] = acc[i];
}

/* V positions of dX whose remainder by the stride takes the taps first_a, first_a + S, ... of first_b, ... */
INLINE vec reached(const float *at, const float *w, long columns, int first_a, int first_b, int K, int S) {
    vec acc = {0};
#pragma GCC unroll 7
    for (int a = 0; a < K; a++)
#pragma GCC unroll 7
        for (int b = 0; b < K; b++)
            if (a % S == first_a && b % S == first_b) acc += w[a * K + b] * load(at - (a / S) * columns - b / S);
    return acc;
}

/* At to, of a plane that has left numbers from there on. */
INLINE void store(float *to, long left, vec value) {
    if (left >= V) memcpy(to, &value, sizeof value);
    else if (left > 0) memcpy(to, &value, 4 * left);
}

INLINE vec load_some(const float *from, long left) {
    vec value = {0};
    if (left >= V) value = load(from);
    else if (left > 0) memcpy(&value, from, 4 * left);
    return value;
}

INLINE void data_row(const float *dy, const float *w, const sizes *z, float *row, long i, int first, int K, int S) {
    const int p = K / 2;
    const long left = (z->height - i) * z->width;
    const float *at = dy + (K + (i + p - first) / S) * z->columns + K;
    if (S == 1) {
        for (long j = 0; j < z->width; j += V) store(row + j, left - j, reached(at + j + p, w, z->columns, first, 0, K, S));
        return;
    }
    lanes low, high;
    for (int k = 0; k < V; k++) low[k] = k / 2 + (k % 2) * V, high[k] = low[k] + V / 2;
    for (long j = 0; 2 * j < z->width; j += V) {
        const vec even = reached(at + j + p / 2, w, z->columns, first, p % 2, K, S);
        const vec odd = reached(at + j + (p + 1) / 2, w, z->columns, first, (p + 1) % 2, K, S);
        store(row + 2 * j, left - 2 * j, __builtin_shuffle(even, odd, low));
        store(row + 2 * j + V, left - 2 * j - V, __builtin_shuffle(even, odd, high));
    }
}

/* A plane in the middle of a frame, whose rows begin at to. */
INLINE void framed(const float *from, float *to, long height, long width, long columns) {
    const vec zero = {0};
    for (long i = 0; i < height; i++) {
        for (long j = 0; j < width; j += V)
            *(vec *)(to + i * columns + j) = load_some(from + i * width + j, (height - i) * width - j);
        *(vec *)(to + i * columns + width) = zero;
    }
}

/* The same with even columns at even and odd ones at odd. */
INLINE void parted(const float *from, float *even, float *odd, long height, long width, long columns) {
    const vec zero = {0};
    lanes first, second;
    for (int k = 0; k < V; k++) first[k] = 2 * k, second[k] = 2 * k + 1;
    for (long i = 0; i < height; i++) {
        for (long j = 0; j < width; j += 2 * V) {
            const long left = (height - i) * width - j;
            const vec a = load_some(from + i * width + j, left), b = load_some(from + i * width + j + V, left - V);
            *(vec *)(even + i * columns + j / 2) = __builtin_shuffle(a, b, first);
            *(vec *)(odd + i * columns + j / 2) = __builtin_shuffle(a, b, second);
        }
        *(vec *)(even + i * columns + (width + 1) / 2) = zero;
        *(vec *)(odd + i * columns + width / 2) = zero;
    }
}

INLINE void frame(const float *dy, const float *x, const sizes *z, float *dy_frame, float *x_frame, int K, int S) {
    const long columns = z->columns, rows = z->height + K - 1, p = K / 2;
    framed(dy, dy_frame + K * columns + K, z->out_height, z->out_width, columns);
    float *first = x_frame + p * columns, *second = first + rows * columns; /* column j of X is p + j of the frame */
    if (S == 1) framed(x, first + p, z->height, z->width, columns);
    else if (p % 2) parted(x, second + p / 2, first + (p + 1) / 2, z->height, z->width, columns);
    else parted(x, first + p / 2, second + (p + 1) / 2, z->height, z->width, columns);
}

INLINE void channel(const float *dy, const float *x, const float *w, float *dx, float *dw, const sizes *z, long n, long c,
                    float *dy_frame, float *x_frame, int K, int S) {
    vec sums[49];
    for (int i = 0; i < K * K; i++) sums[i] = (vec){0};
    for (long e = 0; e < n; e++) {
        const long plane = e * z->channels + c;
        frame(dy + plane * z->out_height * z->out_width, x + plane * z->height * z->width, z, dy_frame, x_frame, K, S);
        if (K == 3) kernel_rows(dy_frame, x_frame, z, sums, 0, K, S, 3);
        else if (K == 5) kernel_rows(dy_frame, x_frame, z, sums, 0, K, S, 2), kernel_rows(dy_frame, x_frame, z, sums, 2, K, S, 2),
                         kernel_rows(dy_frame, x_frame, z, sums, 4, K, S, 1);
        else
            for (int a = 0; a < K; a++) kernel_rows(dy_frame, x_frame, z, sums, a, K, S, 1);
        for (long i = 0; i < z->height; i++) {
            float *row = dx + (plane * z->height + i) * z->width;
            if (S == 1 || (i + K / 2) % 2 == 0) data_row(dy_frame, w + c * K * K, z, row, i, 0, K, S);
            else data_row(dy_frame, w + c * K * K, z, row, i, 1, K, S);
        }
    }
    for (int i = 0; i < K * K; i++) dw[c * K * K + i] = total(sums[i]);
}

#define CASE(K_, S_) \
    if (kernel == K_ && stride == S_) channel(dy, x, w, dx, dw, &z, n, c, frames, frames + dy_size, K_, S_)

/* 0; 1 where the sizes are others than those above, 2 where there is no memory. */
int depthwise_gradient(const float *dy, const float *x, const float *w, float *dx, float *dw, long n, long channels,
                       long height, long width, int kernel, int stride, int threads) {
    if (!(kernel == 3 || kernel == 5 || kernel == 7) || !(stride == 1 || stride == 2)) return 1;
    const long out_height = (height - 1) / stride + 1, out_width = (width - 1) / stride + 1;
    const sizes z = {channels, height, width, out_height, out_width, width / stride + 2 * kernel + 2 * V};
    const long dy_size = (out_height + 2 * kernel) * z.columns, x_size = stride * (height + kernel) * z.columns;
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *frames = calloc(dy_size + x_size + V, sizeof(float));
        if (!frames) failed = 2;
#pragma omp for
        for (long c = 0; c < channels; c++) {
            if (!frames) continue;
            CASE(3, 1); CASE(3, 2); CASE(5, 1); CASE(5, 2); CASE(7, 1); CASE(7, 2);
        }
        free(frames);
    }
    return failed;
}
