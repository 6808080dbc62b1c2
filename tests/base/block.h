/* All operations in one call, for suites about a program's surroundings: weights that contexts
 * share, and a request whose sizes and values follow from a seed. */
#ifndef CUMEGA_TESTS_BLOCK_H
#define CUMEGA_TESTS_BLOCK_H

#include <cumega/cumega.h>

typedef struct block {
  cumega_ema *ema;
  cumega_position_bias *bias;
  cumega_residual *residual;
  cumega_norm *norm;
} block;

/* The first status that is not CUMEGA_OK; what was made so far is in *b. */
cumega_status block_create(cumega_context *ctx, block *b);
void block_destroy(block *b);

/* The request for that seed: an EMA over uneven sequences with states, attention weights with a
 * rotary bias, a residual with its norm. It runs once; the library does all of its arithmetic. */
typedef struct block_request block_request;
block_request *block_request_new(uint64_t seed);
cumega_status block_request_run(cumega_context *ctx, const block *b, block_request *request);
uint64_t block_request_hash(const block_request *request); /* of all resulting bits */
void block_request_free(block_request *request);

/* All of it. */
cumega_status block_run(cumega_context *ctx, const block *b, uint64_t seed, uint64_t *hash);

#endif
