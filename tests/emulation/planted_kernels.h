/* Wrong kernels, each with a single fault. */
#ifndef EMULATION_PLANTED_KERNELS_H
#define EMULATION_PLANTED_KERNELS_H

#include <cuda_runtime_api.h>

/* Races, each over 64 integers, in place or from x to y. */
cudaError_t reverse_without_barrier(const int *x, int *y, cudaStream_t stream);
cudaError_t shift_without_second_barrier(const int *x, int *y, cudaStream_t stream);
cudaError_t exchange_without_syncwarp(const int *x, int *y, cudaStream_t stream);
cudaError_t read_other_block_without_flag(const int *x, int *y, cudaStream_t stream);

/* A pipeline of copies of 32 floats; the wait, or the barrier after it, is missing. */
cudaError_t copy_without_wait(const float *x, float *y, cudaStream_t stream);
cudaError_t copy_with_early_wait(const float *x, float *y, cudaStream_t stream);
cudaError_t copy_without_barrier(const float *x, float *y, cudaStream_t stream);
cudaError_t copy_into_stage_in_use(const float *x, float *y, cudaStream_t stream);

/* Threads that do not meet. */
cudaError_t barrier_in_a_branch(int *x, cudaStream_t stream);
cudaError_t barrier_after_return(int *x, cudaStream_t stream);
cudaError_t two_different_barriers(int *x, cudaStream_t stream);
cudaError_t shuffle_with_returned_lane(int *x, cudaStream_t stream);
cudaError_t shuffle_from_outside_mask(int *x, cudaStream_t stream);
cudaError_t shuffle_by_lane_not_in_mask(int *x, cudaStream_t stream);
cudaError_t shuffle_beyond_the_block(int *x, cudaStream_t stream);
cudaError_t shuffle_that_a_lane_skips(int *x, cudaStream_t stream);
cudaError_t wait_for_a_later_block(unsigned *flag, cudaStream_t stream);

/* Memory. x has n elements; offset is where the access happens. */
cudaError_t write_at(int *x, long long offset, cudaStream_t stream);
cudaError_t read_at(const float *x, long long offset, float *y, cudaStream_t stream);
cudaError_t write_shared_at(int offset, int *y, cudaStream_t stream);
cudaError_t read_unwritten_shared(float *y, cudaStream_t stream);
cudaError_t copy_beyond_shared(const float *x, float *y, cudaStream_t stream);
cudaError_t misaligned_copy(const float *x, float *y, cudaStream_t stream);
cudaError_t rows_without_last_barrier(const int *x, int *y, cudaStream_t stream);
cudaError_t misaligned_load(const float *x, float *y, cudaStream_t stream);

#endif
