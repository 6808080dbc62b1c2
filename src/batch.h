/* The index tensors of a batch as runs read them: lengths or offsets of its sequences, and the
 * slots of a pool of states that they use. C11 and CUDA C++ alike. */
#ifndef CUMEGA_SRC_BATCH_H
#define CUMEGA_SRC_BATCH_H

#include <cumega/context.h>
#include "math/math_attributes.h"
#include "tensor_index.h"

/* Padded: sequence i is the first rows of its own `rows`, as many as index says (all where it is
 * absent). Packed: it is rows index[i] to index[i + 1] - 1 of `rows` that all sequences share. */
typedef struct batch_layout {
  int64_t count; /* sequences */
  int64_t rows;
  int packed;
  tensor_index index; /* (count) lengths, or (count + 1) offsets */
} batch_layout;

/* Sequence i uses row index[i] of a pool with so many rows; a negative one is none. Where index is
 * absent it uses row i. */
typedef struct batch_slots {
  tensor_index index;
  int64_t rows;
} batch_slots;

/* The rows of a sequence. */
typedef struct batch_span {
  int64_t first, length;
} batch_span;

/* For a batch that has been checked. */
CUMEGA_MATH batch_span batch_span_of(const batch_layout *b, int64_t i) {
  batch_span span = {0, b->rows};
  if (b->packed) {
    span.first = tensor_index_at(&b->index, i);
    span.length = tensor_index_at(&b->index, i + 1) - span.first;
  } else if (b->index.data != NULL) {
    span.length = tensor_index_at(&b->index, i);
  }
  return span;
}

/* For a batch that nobody could check before, on a device. Returns error flags: with
 * CUMEGA_REPORT_LENGTH the length has been clamped, with CUMEGA_REPORT_OFFSET the sequence has to
 * be skipped. */
CUMEGA_MATH uint32_t batch_read(const batch_layout *b, int64_t i, batch_span *span) {
  if (b->packed) {
    const int64_t first = tensor_index_at(&b->index, i), end = tensor_index_at(&b->index, i + 1);
    const int fits = 0 <= first && first <= end && end <= b->rows;
    span->first = fits ? first : 0; /* a difference of any two numbers may overflow */
    span->length = fits ? end - first : 0;
    return fits ? 0 : CUMEGA_REPORT_OFFSET;
  }
  *span = batch_span_of(b, i);
  if (span->length >= 0 && span->length <= b->rows) return 0;
  span->length = span->length < 0 ? 0 : b->rows;
  return CUMEGA_REPORT_LENGTH;
}

CUMEGA_MATH int64_t batch_slot(const batch_slots *s, int64_t i) {
  return s->index.data != NULL ? tensor_index_at(&s->index, i) : i;
}

/* On a device: CUMEGA_REPORT_SLOT where a slot names a row that the pool does not have. */
CUMEGA_MATH uint32_t batch_read_slot(const batch_slots *s, int64_t i) {
  const int is_wrong = s->index.data != NULL && tensor_index_at(&s->index, i) >= s->rows;
  return is_wrong ? CUMEGA_REPORT_SLOT : 0;
}

#if !defined(__CUDACC__)

struct cumega_context;

/* What sentences call the arguments. */
typedef struct batch_names {
  const char *index, *rows; /* "sequence_lengths", "L" */
  const char *least;        /* what the lengths may not be below: ", the sequence's queries," */
} batch_names;

typedef struct batch_slot_names {
  const char *slots, *pool; /* "final_slots", "final_state" */
} batch_slot_names;

/* On a CPU, before anything is written: CUMEGA_ERROR_ARGUMENT where a value is wrong. least:
 * lengths may not be below those of this batch, which has as many sequences; or NULL. */
cumega_status batch_check(struct cumega_context *ctx, const batch_layout *b, batch_names names,
                          const batch_layout *least);
cumega_status batch_check_slots(struct cumega_context *ctx, const batch_slots *s,
                                batch_slot_names names, int64_t count);

/* A row of the pool that `count` sequences write has one writer at most; and where they read the
 * same pool, only its writer reads the row. reads NULL: no sequence reads that pool. written:
 * scratch of batch_writers_bytes. */
cumega_status batch_check_writers(struct cumega_context *ctx, const batch_slots *reads,
                                  batch_slot_names read_names, const batch_slots *writes,
                                  batch_slot_names write_names, int64_t count, uint8_t *written);
int64_t batch_writers_bytes(const batch_slots *writes);

#endif

#endif
