/* Correct kernels, each with a suitable launch. */
#ifndef EMULATION_CORRECT_KERNELS_H
#define EMULATION_CORRECT_KERNELS_H

#include <cuda_runtime_api.h>

/* y[i] = factor * x[i]. */
cudaError_t scale(const float *x, float *y, int n, float factor, cudaStream_t stream);

/* Inclusive sums of n integers, n <= 256 * blocks: y[i] = x[0] + ... + x[i]. scan_blocks sums
 * within each block of 256, by shuffles and shared memory; scan_lookback sums across blocks, with
 * `state` (1 + blocks words of zeros) for the ticket and the flags. */
cudaError_t scan_blocks(const int *x, int *y, int n, cudaStream_t stream);
cudaError_t scan_lookback(const int *x, int *y, int n, unsigned long long *state,
                          cudaStream_t stream);

/* sums[b] = the sum of the b-th 256 integers, by halving in shared memory. */
cudaError_t reduce(const int *x, int *sums, int n, cudaStream_t stream);

/* y (columns, rows) = x (rows, columns) transposed, by tiles of 32 x 32. */
cudaError_t transpose(const float *x, float *y, int rows, int columns, cudaStream_t stream);

/* y[t] = sum of x[0 .. t] for each of 64 channels, (steps, 64), by a pipeline of asynchronous
 * copies, four steps deep; steps is a multiple of 4. */
cudaError_t pipeline(const float *x, float *y, int steps, cudaStream_t stream);

/* counts[0] += the number of odd x, [1] = the largest x, [2] = the number of blocks with an odd
 * x. */
cudaError_t votes(const int *x, int n, unsigned *counts, cudaStream_t stream);

/* place[i] = i's block and thread, each as x + 2 y + 6 z, at its index in a grid (2, 3, 2) of
 * blocks (2, 3, 4). */
cudaError_t places(int *place, cudaStream_t stream);

/* order[b] = when the first thread of block b ran, for 32 blocks; next[0] starts at 0. */
cudaError_t tickets(int *order, unsigned long long *next, cudaStream_t stream);

#endif
