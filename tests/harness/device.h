/* The device that the suites run on, and copies there. A suite has its tensors in the host's memory; with
 * CUMEGA_TEST_DEVICE=cuda its contexts are CUDA contexts, and whoever makes a run stages its tensors:
 *
 *   if (staging_begin(&s, ctx)) {
 *     staging_add(&s, &io.x); ...       io now names copies of the tensors' descriptions
 *     (find out whether the library accepts them, without a run)
 *     staging_there(&s);                the memory is copied, exact to the byte and as aligned as it was
 *     run
 *     staging_back(&s);                 brought back, and guards checked
 *   } */
#ifndef CUMEGA_TESTS_DEVICE_H
#define CUMEGA_TESTS_DEVICE_H

#include <cumega/cumega.h>

#define STAGED_TENSORS 16

/* Some bytes of the host, one tensor's or several that overlap, and their copy. */
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
  staged_region regions[STAGED_TENSORS]; /* of tensor i; low NULL where it has none of its own */
} staging;

/* Whether CUMEGA_TEST_DEVICE says cuda, and the device of the suites' contexts. */
int device_is_cuda(void);
DLDevice device_of_tests(void);

/* Whether ctx's runs need copies. */
int staging_begin(staging *s, cumega_context *ctx);

/* *member (NULL: nothing) becomes a copy that says the other memory space: a tensor of the host is said
 * to be on the device, and the other way round, so that a test which puts a tensor into the wrong
 * memory space goes on doing so. */
void staging_add(staging *s, const DLTensor **member);

/* Only for tensors that the library accepts: before, they may be anything. */
void staging_there(staging *s);
void staging_back(staging *s);

#endif
