/* The device that the suites run on, and copies of tensors there. A suite keeps its tensors in
 * host memory. With CUMEGA_TEST_DEVICE=cuda its contexts are CUDA contexts, and the code that
 * makes a run stages its tensors:
 *
 *   if (staging_begin(&s, ctx)) {
 *     staging_add(&s, &io.x); ...       io now points to copies of the tensors' descriptions
 *     (find out whether the library accepts them, without a run)
 *     staging_there(&s);                copies the memory to the device, exact to the byte
 *                                       and with the same alignment
 *     run
 *     staging_back(&s);                 copies it back and checks the guards
 *   } */
#ifndef CUMEGA_TESTS_DEVICE_H
#define CUMEGA_TESTS_DEVICE_H

#include <cumega/cumega.h>

#define STAGED_TENSORS 16

/* Bytes on the host, of one tensor or of several that overlap, and their copy. */
typedef struct staged_region {
  char *low, *high;
  char *block; /* on the device */
  int64_t block_bytes, lead;
} staged_region;

typedef struct staging {
  cumega_context *ctx;
  int64_t guard;
  int count;
  DLTensor tensors[STAGED_TENSORS];
  staged_region regions[STAGED_TENSORS]; /* of tensor i; low is NULL if it has none of its own */
} staging;

/* Whether CUMEGA_TEST_DEVICE is cuda, and the device of the suites' contexts. */
int device_is_cuda(void);
DLDevice device_of_tests(void);

/* Whether runs in ctx need copies. */
int staging_begin(staging *s, cumega_context *ctx);

/* Replaces *member (NULL: nothing) with a copy whose memory space is swapped: a host tensor is
 * described as on the device, and the other way round. So a test that puts a tensor in the wrong
 * memory space still does. */
void staging_add(staging *s, const DLTensor **member);

/* Only for tensors that the library accepts; others may be anything. */
void staging_there(staging *s);
void staging_back(staging *s);

#endif
