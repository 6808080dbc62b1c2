/* A rotary bias's table, in double:
 *
 *   e[d] = sum over k of even_k cos(d theta_k),  o[d] = sum over k of odd_k sin(d theta_k)
 *   out[-d] = e[d] + o[d],  out[d] = e[d] - o[d]
 *
 * With d = 64 a + b, the sines and cosines of b theta_k serve every block a, and those of 64 a
 * theta_k every b of it, by the theorem of addition:
 *
 *   e[64 a + b] = sum of (even cos A) cos B + (-even sin A) sin B
 *   o[64 a + b] = sum of (odd sin A) cos B + (odd cos A) sin B
 *
 * so that a value costs four fma per pair, and (length / 64 + 64) * pairs sines and cosines are made
 * in all. Each d has its own chain of fma, in the order of k: the width of a vector changes nothing. */
#include "../math/rotation.h"
#include "position_bias_cpu.h"

#define TILE 4 /* vectors of distances, with two chains each, in registers */

typedef struct factors {
  double *even_cosine, *even_sine, *odd_cosine, *odd_sine; /* (pairs) */
} factors;

/* (pairs, 64): cos and sin of b theta_k. */
static void within_block(const rotary_table *t, double *cosines, double *sines) {
  for (int64_t k = 0; k < t->pairs; k++) {
    const double quarters = t->quarters[k], quarters_lo = t->quarters_lo[k];
    double *restrict cosine = cosines + k * ROTARY_BLOCK, *restrict sine = sines + k * ROTARY_BLOCK;
    for (int b = 0; b < ROTARY_BLOCK; b++) {
      const math_rotation at = math_rotate((double)b, quarters, quarters_lo);
      cosine[b] = at.cosine;
      sine[b] = at.sine;
    }
  }
}

static void begin_block(const rotary_table *t, int64_t first, const factors *f) {
  const double m = (double)first;
  double *restrict even_cosine = f->even_cosine, *restrict even_sine = f->even_sine;
  double *restrict odd_cosine = f->odd_cosine, *restrict odd_sine = f->odd_sine;
  for (int64_t k = 0; k < t->pairs; k++) {
    const math_rotation at = math_rotate(m, t->quarters[k], t->quarters_lo[k]);
    even_cosine[k] = t->even[k] * at.cosine;
    even_sine[k] = -(t->even[k] * at.sine);
    odd_sine[k] = t->odd[k] * at.sine;
    odd_cosine[k] = t->odd[k] * at.cosine;
  }
}

/* e and o of TILE vectors of distances, from `first` and within the block from b. */
static void sum_tile(const rotary_table *t, const factors *f, const double *cosines,
                     const double *sines, int64_t first) {
  vector_f64 e[TILE] = {{0}}, o[TILE] = {{0}};
  for (int64_t k = 0; k < t->pairs; k++)
    for (int v = 0; v < TILE; v++) {
      const vector_f64 zero = {0};
      const vector_f64 cosine = load_f64(cosines + k * ROTARY_BLOCK + v * LANES_F64);
      const vector_f64 sine = load_f64(sines + k * ROTARY_BLOCK + v * LANES_F64);
      e[v] = fma_f64(f->even_cosine[k] + zero, cosine, e[v]);
      o[v] = fma_f64(f->odd_sine[k] + zero, cosine, o[v]);
      e[v] = fma_f64(f->even_sine[k] + zero, sine, e[v]);
      o[v] = fma_f64(f->odd_cosine[k] + zero, sine, o[v]);
    }
  for (int v = 0; v < TILE; v++)
    for (int i = 0; i < LANES_F64; i++) {
      const int64_t d = first + v * LANES_F64 + i;
      t->out[-d] = e[v][i] + o[v][i];
      t->out[d] = e[v][i] - o[v][i];
    }
}

void LEVEL(rotary_table_cpu)(const rotary_table *t) {
  double *cosines = t->scratch, *sines = cosines + t->pairs * ROTARY_BLOCK;
  double *at = sines + t->pairs * ROTARY_BLOCK;
  const factors f = {at, at + t->pairs, at + 2 * t->pairs, at + 3 * t->pairs};
  within_block(t, cosines, sines);
  for (int64_t first = 0; first < t->length; first += ROTARY_BLOCK) {
    begin_block(t, first, &f);
    for (int b = 0; b < ROTARY_BLOCK; b += TILE * LANES_F64)
      sum_tile(t, &f, cosines + b, sines + b, first + b);
  }
}
