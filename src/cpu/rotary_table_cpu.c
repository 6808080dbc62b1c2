/* The table of a rotary bias, in double:
 *
 *   e[d] = sum over k of even_k cos(d theta_k),  o[d] = sum over k of odd_k sin(d theta_k)
 *   out[-d] = e[d] + o[d],  out[d] = e[d] - o[d]
 *
 * With d = 64 a + b and A = 64 a theta_k, B = b theta_k, the angle addition formulas give
 *
 *   e[64 a + b] = sum of (even cos A) cos B + (-even sin A) sin B
 *   o[64 a + b] = sum of (odd sin A) cos B + (odd cos A) sin B
 *
 * so a value takes four fmas per pair, and the whole table takes (length / 64 + 64) * pairs sines
 * and cosines. Each d has its own sum in the order of k, whatever the vector width. */
#define REAL_BITS 64
#include "../math/rotation.h"
#include "attention_cpu.h"
#include "vector.h"

typedef struct factors {
  double *even_cosine, *even_sine, *odd_cosine, *odd_sine; /* (pairs) */
} factors;

/* Writes cos and sin of b theta_k, (pairs, 64). */
static void within_block(const rotary_table *t, double *cosines, double *sines) {
  for (int64_t k = 0; k < t->pairs; k++) {
    const double quarters = t->quarters[k], quarters_lo = t->quarters_lo[k];
    double *restrict cosine = cosines + k * ROTARY_BLOCK, *restrict sine =
                                                              sines + k * ROTARY_BLOCK;
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

/* The values of ROTARY_VECTORS vectors of distances, from `first` on. cosines and sines point to
 * the position of `first` in its block of 64. */
static void sum_tile(const rotary_table *t, const factors *f, const double *cosines,
                     const double *sines, int64_t first) {
  vec e[ROTARY_VECTORS] = {{0}}, o[ROTARY_VECTORS] = {{0}};
  for (int64_t k = 0; k < t->pairs; k++)
    for (int v = 0; v < ROTARY_VECTORS; v++) {
      const vec cosine = vec_load(cosines + k * ROTARY_BLOCK + v * LANES);
      const vec sine = vec_load(sines + k * ROTARY_BLOCK + v * LANES);
      e[v] = vec_fma(vec_splat(f->even_cosine[k]), cosine, e[v]);
      o[v] = vec_fma(vec_splat(f->odd_sine[k]), cosine, o[v]);
      e[v] = vec_fma(vec_splat(f->even_sine[k]), sine, e[v]);
      o[v] = vec_fma(vec_splat(f->odd_cosine[k]), sine, o[v]);
    }
  for (int v = 0; v < ROTARY_VECTORS; v++)
    for (int i = 0; i < LANES; i++) {
      const int64_t d = first + v * LANES + i;
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
    for (int b = 0; b < ROTARY_BLOCK; b += ROTARY_VECTORS * LANES)
      sum_tile(t, &f, cosines + b, sines + b, first + b);
  }
}
