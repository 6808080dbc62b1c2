/* One row of apply or softmax: a template (vector.h). The scores are widened into scratch; scale,
 * bias and masks turn them into s; then s, or the softmax of it, is rounded into the output.
 *
 * The softmax's sum is pairwise in groups of 4,096 keys (src/math/tree.h). Group g has its maximum
 * m_g and the sum s_g of exp(s - m_g); the row's sum adds s_g * exp(m_g - m) in order, with m the
 * row's maximum. Groups whose keys are all masked are left out. */

#include "attention_cpu.h"
#include "vector.h"
#include "element.h"
#if REAL_BITS == 32
#include "../math/elementary_f32.h"
#define real_exp math_expf
#else
#include "../math/elementary_f64.h"
#define real_exp math_exp
#endif

#define INFINITE ((real)__builtin_inf())

/* to = v * factor; to may be v. */
static void multiply(const real *v, real factor, int64_t count, real *to) {
  int64_t j = 0;
  _Pragma("GCC unroll 4") for (; j + LANES <= count; j += LANES)
      vec_store(to + j, vec_load(v + j) * vec_splat(factor));
  for (; j < count; j++) to[j] = v[j] * factor;
}

/* output[first .. first + count - 1] = s * factor, rounded once; s is overwritten. */
static void store_keys(const attention_run *run, const row_place *place, int64_t first,
                       int64_t count, real *s, real factor) {
  const int64_t stride = run->output.stride_k, offset = place->to + first * stride;
  const int in_place = run->type == REAL_TYPE && stride == 1;
  real *to = in_place ? (real *)run->output.data + offset : s;
  if (factor != 1 || in_place) {
    multiply(s, factor, count, to);
  }
  if (in_place) return;
  const element_block row = element_row(run->output.data, run->type, offset, count, stride);
  LEVEL(TYPED(element_store))(&row, s, 0);
}

/* output[first .. end - 1] = value, which every type can represent. */
static void fill_keys(const attention_run *run, const row_place *place, int64_t first, int64_t end,
                      real value) {
  const int64_t stride = run->output.stride_k;
  if (first >= end) return; /* most rows */
  const element_block row =
      element_row(run->output.data, run->type, place->to + first * stride, end - first, stride);
  LEVEL(element_fill)(&row, value);
}

static void mask_keys(const uint8_t *mask, int64_t stride, int64_t count, real *s) {
  if (stride == 1)
    for (int64_t j = 0; j < count; j++) s[j] = mask[j] ? -INFINITE : s[j];
  else
    for (int64_t j = 0; j < count; j++) s[j] = mask[j * stride] ? -INFINITE : s[j];
}

/* s[j] = fma(scale, score, bias) for key first + j, or -inf if the key is masked. s is padded with
 * -inf. */
static void make_scores(const attention_run *run, const row_place *place, int64_t first,
                        int64_t count, real *s) {
  const int64_t stride = run->scores.stride_k, offset = place->from + first * stride;
  const real scale = (real)run->scale, *x = s;
  int64_t j = 0;
  if (run->type == REAL_TYPE && stride == 1) {
    x = (const real *)run->scores.data + offset;
  } else {
    const element_block row = element_row(run->scores.data, run->type, offset, count, stride);
    LEVEL(TYPED(element_load))(&row, s, 0);
  }
  if (run->table.TABLE) {
    const real *bias = run->table.TABLE + place->row.first + first;
    for (; j + LANES <= count; j += LANES)
      vec_store(s + j, vec_fma(vec_splat(scale), vec_load(x + j), vec_load(bias + j)));
    for (; j < count; j++) s[j] = real_fma(scale, x[j], bias[j]);
  } else if (scale != 1 || x != s) {
    multiply(x, scale, count, s);
  }
  const attention_mask_view *attention = &run->attention, *padding = &run->padding;
  if (place->attention)
    mask_keys(place->attention + first * attention->stride_k, attention->stride_k, count, s);
  if (place->padding)
    mask_keys(place->padding + first * padding->stride_k, padding->stride_k, count, s);
  for (j = count; j < round_up(count, ROW_PADDING); j++) s[j] = -INFINITE;
}

/* The largest number, ignoring NaN: a NaN reaches the result through the sum. count is a multiple
 * of ROW_PADDING. */
static real maximum(const real *s, int64_t count) {
  vec a = vec_max(vec_load(s), vec_splat(-INFINITE)), b = a;
  int64_t j = 0;
  for (; j + 2 * LANES <= count; j += 2 * LANES) {
    a = vec_max(vec_load(s + j), a);
    b = vec_max(vec_load(s + j + LANES), b);
  }
#if 2 * VECTOR_BYTES / 4 > ROW_PADDING
  for (; j < count; j += LANES) a = vec_max(vec_load(s + j), a);
#endif
  a = vec_max(b, a);
  real m = a[0];
  for (int i = 1; i < LANES; i++) m = a[i] > m ? a[i] : m;
  return m;
}

static int has_nan(const real *s, int64_t count) {
  for (int64_t j = 0; j < count; j++)
    if (s[j] != s[j]) return 1;
  return 0;
}

/* terms = exp(s - m); terms may be s. */
static void exponentials(const real *s, real m, int64_t count, real *terms) {
  for (int64_t j = 0; j < count; j++) terms[j] = real_exp(s[j] - m);
}

/* The pairwise sum of one group; count is a multiple of ROW_PADDING. The terms of the padding are
 * +0, which do not change a sum that has a positive term. */
static real sum_group(const real *restrict terms, int64_t count) {
  real sums[TREE_GROUP / 2];
  int stride = tree_first_stride(count);
  for (int j = 0; j < count - stride; j++) sums[j] = terms[j] + terms[j + stride];
  for (int j = (int)count - stride; j < stride; j++) sums[j] = terms[j];
  for (stride /= 2; stride >= LANES; stride /= 2)
    for (int j = 0; j < stride; j += LANES)
      vec_store(sums + j, vec_load(sums + j) + vec_load(sums + j + stride));
  for (; stride > 0; stride /= 2)
    for (int j = 0; j < stride; j++) sums[j] += sums[j + stride];
  return sums[0];
}

/* Stores a row in which every visible key is masked: zeros, or NaN. */
static void empty_row(const attention_run *run, const row_place *place) {
  fill_keys(run, place, 0, place->row.keys, run->nan_rows ? (real)__builtin_nan("") : 0);
}

/* A row of one group: each exponential is computed once, in place. */
static void short_softmax(const attention_run *run, const row_place *place, real *s) {
  const int64_t count = place->row.visible, padded = round_up(count, ROW_PADDING);
  const real m = maximum(s, padded);
  if (m == -INFINITE && !has_nan(s, count)) {
    empty_row(run, place);
    return;
  }
  exponentials(s, m, padded, s);
  const real factor = 1 / sum_group(s, padded);
  store_keys(run, place, 0, count, s, factor);
  fill_keys(run, place, count, place->row.keys, 0 * factor);
}

/* A row of several groups: s is read twice, for the terms exp(s - m_g) of the sum and for the
 * weights exp(s - m). */
static void long_softmax(const attention_run *run, const row_place *place, real *s, real *terms) {
  const int64_t count = place->row.visible;
  real m = -INFINITE, sum = 0;
  int is_empty = 1;
  for (int64_t first = 0; first < count; first += TREE_GROUP) {
    const int64_t left = smaller(count - first, TREE_GROUP);
    const real m_g = maximum(s + first, round_up(left, ROW_PADDING));
    m = m_g > m ? m_g : m;
  }
  for (int64_t first = 0; first < count; first += TREE_GROUP) {
    const int64_t left = smaller(count - first, TREE_GROUP), padded = round_up(left, ROW_PADDING);
    const real m_g = maximum(s + first, padded);
    if (m_g == -INFINITE && !has_nan(s + first, left)) continue;
    exponentials(s + first, m_g, padded, terms);
    sum += sum_group(terms, padded) * real_exp(m_g - m);
    is_empty = 0;
  }
  if (is_empty) {
    empty_row(run, place);
    return;
  }
  const real factor = 1 / sum;
  for (int64_t first = 0; first < count; first += TREE_GROUP) {
    const int64_t left = smaller(count - first, TREE_GROUP);
    exponentials(s + first, m, left, terms);
    store_keys(run, place, first, left, terms, factor);
  }
  fill_keys(run, place, count, place->row.keys, 0 * factor);
}

void LEVEL(TYPED(attention_row))(const attention_run *run, const row_place *place, real *s) {
  const attention_row *row = &place->row;
  const real unseen = run->softmax ? 0 : -INFINITE;
  for (int64_t first = 0; first < row->visible; first += TREE_GROUP)
    make_scores(run, place, first, smaller(row->visible - first, TREE_GROUP), s + first);
  if (!run->softmax) {
    store_keys(run, place, 0, row->visible, s, 1);
    fill_keys(run, place, row->visible, row->keys, unseen);
  } else if (row->visible > TREE_GROUP) {
    long_softmax(run, place, s, s + round_up(run->Lk, ROW_PADDING));
  } else if (row->visible > 0) {
    short_softmax(run, place, s);
  }
  fill_keys(run, place, row->keys, run->Lk, unseen);
}
