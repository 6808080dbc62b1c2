/* One softmax or apply, given to the library in many ways, which must all give the same bits. A
 * problem's values have logical indices. A way says how they lie in memory, which other sequences
 * run with them, and where they run. The result is bits by logical index again. */
#ifndef CUMEGA_TESTS_POSITION_PROBLEM_H
#define CUMEGA_TESTS_POSITION_PROBLEM_H

#include "harness.h"
#include "position_oracle.h"
#include "position_device.h"

typedef enum bias_kind { NO_BIAS, RELATIVE, ROTARY } bias_kind;

/* Everything that a problem is made from. */
typedef struct position_recipe {
  DLDataType dtype;
  int64_t B, H, Lq, Lk;
  int bias; /* bias_kind */
  int causal, nan_rows;
  int attention; /* 0: none, 1: (Lq, Lk), 2: (B, 1, Lq, Lk) */
  int padding;   /* 0: none, 1: at the end, 2: holes, 3: left, and one sequence all masked */
  int lengths;   /* each sequence has its own length */
  int special;   /* some scores are NaN, infinite, huge, -0 */
  double scale;
  uint64_t seed;
} position_recipe;

typedef struct position_problem {
  position_recipe r;
  int64_t max_positions, size;
  double *parameters[2];    /* for the bias; NULL: none */
  double *scores;           /* (B, H, Lq, Lk) */
  unsigned char *attention; /* (B, Lq, Lk) */
  unsigned char *padding;   /* (B, Lk) */
  int64_t *queries, *keys;  /* (B) */
} position_problem;

position_problem *position_problem_new(const position_recipe *r);
void position_problem_free(position_problem *p);
/* With the dtype that fits the scores; NULL without a bias. */
cumega_position_bias *position_problem_bias(const position_problem *p, cumega_context *ctx);

/* All zero: compact, and alone in its batch. */
typedef struct position_way {
  int layout, output_layout; /* 0 .. POSITION_LAYOUTS - 1 */
  int misaligned, in_place, strangers, narrow_indices, bytes_as_masks;
  uint64_t seed;
} position_way;
#define POSITION_LAYOUTS 5

/* bits: (B, H, Lq, Lk) of the weights, or of apply's scores. Returns "", or what else went
 * wrong. */
const char *position_problem_run(const position_problem *p, const position_way *w,
                                 cumega_context *ctx, int softmax, uint64_t *bits);

static inline int64_t position_count(const position_problem *p) {
  return p->r.B * p->r.H * p->r.Lq * p->r.Lk;
}
static inline int64_t position_index(const position_problem *p, int64_t b, int64_t h, int64_t i,
                                     int64_t j) {
  return ((b * p->r.H + h) * p->r.Lq + i) * p->r.Lk + j;
}

/* The value of stored bits. */
double position_value(DLDataType dtype, uint64_t bits);

/* A row from the definitions: s (-inf where masked), and whether key j belongs to the sequence.
 * Returns how many keys the sequence has, or 0 if the row is not one of its queries. */
int64_t position_oracle_row(const position_problem *p, int64_t b, int64_t h, int64_t i,
                            oracle_wide *s, double *bias_magnitude);

#endif
