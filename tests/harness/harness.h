/* What the operations' tests are built from: numbers of every type, tensors in odd places,
 * contexts of every CPU level. A failure ends the running test through Check. */
#ifndef CUMEGA_TESTS_HARNESS_H
#define CUMEGA_TESTS_HARNESS_H

#include "device.h"
#include "statuses.h"

/* Zeroed memory; ends the program if there is none. 0 bytes also give a pointer. */
void *memory_new(int64_t bytes);

/* ---- numbers ---- */

/* splitmix64: the same numbers with every compiler and C library. */
uint64_t random_bits(uint64_t *seed);
int64_t random_below(uint64_t *seed, int64_t bound); /* 0 .. bound-1; bound >= 1 */
/* A number that the environment may override, such as CUMEGA_TEST_PAIRS. */
uint64_t number_from(const char *variable, uint64_t otherwise);
double random_unit(uint64_t *seed);  /* in [0, 1) */
double random_noise(uint64_t *seed); /* mean 0, deviation 1: the sum of twelve uniforms, exact */

/* `value` rounded to nearest even, as the type stores it; NaN stays NaN. */
double number_round(DLDataType dtype, double value);
/* Half a unit in the last place at `value`: the largest error of one rounding. */
double number_rounding(DLDataType dtype, double value);
const char *number_name(DLDataType dtype);
int same_type(DLDataType a, DLDataType b);

/* ---- tensors ---- */

/* Where a tensor lies in its memory. All zero, with ordered = 0, means compact and aligned. */
typedef struct test_layout {
  int ordered;                  /* whether order[] is used; otherwise row-major */
  int order[CUMEGA_MAX_DIMS];   /* dimensions, outermost first */
  int64_t gap[CUMEGA_MAX_DIMS]; /* elements skipped after each run of order[i] */
  unsigned reversed;            /* bit i: dimension i has a negative stride */
  unsigned repeated;            /* bit i: dimension i has stride 0 */
  int64_t shift;                /* elements between an aligned address and the memory */
  int by_offset;                /* the shift is given in byte_offset, not in data */
} test_layout;

/* A tensor with 64 guard bytes on both sides. Guards and the bytes between strided elements are
 * 0xFF. That is NaN in every type, so that a stray read shows too. */
typedef struct test_tensor {
  cumega_tensor view;
  unsigned char *block, *owned, *copy;
  int64_t block_bytes;
} test_tensor;

test_tensor *tensor_new(DLDataType dtype, int ndim, const int64_t *shape,
                        const test_layout *layout);
void tensor_free(test_tensor *tensor);

/* Elements by index; use 0 for dimensions that the tensor lacks. */
void *tensor_at(const test_tensor *tensor, int64_t i, int64_t j, int64_t k);
double tensor_get(const test_tensor *tensor, int64_t i, int64_t j, int64_t k);
void tensor_set(test_tensor *tensor, int64_t i, int64_t j, int64_t k, double value);
/* The stored bits; all NaNs give the same bits. */
uint64_t tensor_bits(const test_tensor *tensor, int64_t i, int64_t j, int64_t k);
/* The same with a fourth dimension. */
void *tensor_at_4(const test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l);
double tensor_get_4(const test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l);
void tensor_set_4(test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l, double value);
uint64_t tensor_bits_4(const test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l);
int tensor_gaps_hold(const test_tensor *tensor);
void tensor_remember(test_tensor *tensor);
int tensor_unchanged(const test_tensor *tensor); /* since tensor_remember, guards included */

/* Shapes as arguments. */
test_tensor *tensor_new_1(DLDataType dtype, int64_t a);
test_tensor *tensor_new_2(DLDataType dtype, int64_t a, int64_t b);
test_tensor *tensor_new_3(DLDataType dtype, int64_t a, int64_t b, int64_t c);
test_tensor *tensor_of_int64(int64_t count, const int64_t *values);

static inline DLTensor *dl(test_tensor *tensor) {
  return tensor == NULL ? NULL : &tensor->view.dl;
}

/* ---- contexts ---- */

static const char *const cpu_levels[] = {"plain", "v3", "v4"};
#define CPU_LEVELS 3

/* A context of a CPU level (NULL: the best), or NULL if the machine lacks it. */
cumega_context *context_of_level(const char *level, int threads);
/* A context of the device that the suites run on: the best CPU level, or CUDA. */
cumega_context *context_new(void);
/* Held by ctx and the objects made through it (cumega_statistics). */
int64_t bytes_held(cumega_context *ctx);

#endif
