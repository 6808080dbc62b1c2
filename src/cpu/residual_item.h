/* One item of a residual connection's run: a template (vector.h). */

#include "residual_cpu.h"
#include "vector.h"
#include "element.h"
#include "residual_block.h"
#include "residual_product.h"

/* ---- lines: no norm, no products ---- */

/* Whether all inputs of a line can be read in place. */
static int all_plain(const residual_run *run) {
  for (int k = 0; k < OPERAND_OUT; k++) {
    const residual_operand *o = &run->operands[k];
    if (o->type != 0 && !is_plain(o, o->strides[run->ndim - 1])) return 0;
  }
  return 1;
}

/* Stores n results in the output. */
static void store_block(const residual_plan *plan, const residual_operand *out, int64_t offset,
                        int64_t stride, int64_t n, const real *v) {
  if (plan->stream && is_plain(out, stride)) {
    real *to = (real *)out->data + offset;
    STREAM_BLOCK(vec_load(v + i), v[i]);
  } else {
    const element_block row = element_row(out->data, out->type, offset, n, stride);
    LEVEL(TYPED(element_store))(&row, v, 0);
  }
}

/* Runs elements from .. to - 1 of the line at p. */
static void run_line(const residual_plan *plan, const residual_place *p, int64_t from,
                     int64_t to) {
#if REAL_BITS == 32
  if (plan->narrow) {
    LEVEL(residual_narrow_line)(plan, p, from, to);
    return;
  }
#endif
  real buffer[RESIDUAL_BLOCK] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const residual_run *run = plan->run;
  const residual_operand *out = &run->operands[OPERAND_OUT];
  const int64_t stride = out->strides[run->ndim - 1];
  const int in_place = is_plain(out, stride) && is_linear(run);
  const int64_t most = in_place && all_plain(run) ? to - from : RESIDUAL_BLOCK;
  for (int64_t i = from; i < to; i += most) {
    const int64_t n = smaller(to - i, most), at = p->offsets[OPERAND_OUT] + i * stride;
    if (in_place) {
      block_at(run, p, i, n, (real *)out->data + at, plan->stream);
    } else {
      block_at(run, p, i, n, buffer, 0);
      store_block(plan, out, at, stride, n, buffer);
    }
  }
}

/* Units are whole lines, or pieces of a line. If lines have several pieces, each piece is an
 * item. */
static void run_lines(const residual_plan *plan, int64_t first, int64_t count) {
  const int64_t length = plan->run->shape[plan->run->ndim - 1];
  residual_place p;
  residual_find(plan->run, first / plan->pieces, &p);
  for (int64_t unit = first; unit < first + count; unit++) {
    const int64_t from = unit % plan->pieces * plan->piece;
    run_line(plan, &p, from, smaller(length, from + plan->piece));
    residual_next(plan->run, &p);
  }
}

/* ---- rows ---- */

ALWAYS_INLINE vec terms_at(const real *v, const int squared, vec means) {
  const vec value = vec_load(v), centered = value - means;
  return squared ? centered * centered : value;
}

ALWAYS_INLINE real term_at(const real *v, const int squared, real mean) {
  return squared ? (*v - mean) * (*v - mean) : *v;
}

/* The last additions of a pairwise sum, within one vector. */
static inline real sum_lanes(vec last) {
  real sums[LANES];
  vec_store(sums, last);
  for (int stride = LANES / 2; stride > 0; stride /= 2)
    for (int j = 0; j < stride; j++) sums[j] += sums[j + stride];
  return sums[0];
}

/* The pairwise sum (src/math/tree.h) of up to TREE_GROUP terms: v, or (v - mean)^2 if `squared`,
 * which is a constant in every call. It adds a vector at a time, and does two strides at once if
 * both are whole vectors. */
ALWAYS_INLINE real sum_group(const real *v, int64_t count, const int squared, real mean) {
  real sums[TREE_GROUP / 2] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const int64_t first = tree_first_stride(count), both = count - first;
  const vec means = vec_splat(mean);
  int64_t stride = first / 2, j = 0;
  if (count == 1) return term_at(v, squared, mean);
  if (both == first && stride >= LANES) {
    for (; j < stride; j += LANES) {
      const vec a = terms_at(v + j, squared, means);
      const vec b = terms_at(v + j + first, squared, means);
      const vec c = terms_at(v + j + stride, squared, means);
      const vec d = terms_at(v + j + stride + first, squared, means);
      vec_store(sums + j, (a + b) + (c + d));
    }
    stride /= 2;
  } else {
    for (; j + LANES <= both; j += LANES)
      vec_store(sums + j,
                terms_at(v + j, squared, means) + terms_at(v + j + first, squared, means));
    for (; j < both; j++)
      sums[j] = term_at(v + j, squared, mean) + term_at(v + j + first, squared, mean);
    for (; j < first; j++) sums[j] = term_at(v + j, squared, mean);
  }
  for (; stride >= 2 * LANES; stride /= 4) {
    const int64_t half = stride / 2;
    for (j = 0; j < half; j += LANES)
      vec_store(sums + j, (vec_load(sums + j) + vec_load(sums + j + stride)) +
                              (vec_load(sums + j + half) + vec_load(sums + j + half + stride)));
  }
  if (stride == LANES) {
    vec_store(sums, vec_load(sums) + vec_load(sums + LANES));
    stride /= 2;
  }
  if (stride == LANES / 2) return sum_lanes(vec_load(sums));
  for (; stride > 0; stride /= 2)
    for (j = 0; j < stride; j++) sums[j] += sums[j + stride];
  return sums[0];
}

static real sum_of(const real *v, int64_t D) {
  real sum = (real)-0.0;
  for (int64_t start = 0; start < D; start += TREE_GROUP)
    sum += sum_group(v + start, smaller(D - start, TREE_GROUP), 0, 0);
  return sum;
}

static real sum_of_squares(const real *v, int64_t D, real mean) {
  real sum = (real)-0.0;
  for (int64_t start = 0; start < D; start += TREE_GROUP)
    sum += sum_group(v + start, smaller(D - start, TREE_GROUP), 1, mean);
  return sum;
}

/* The number that v - mean is multiplied by. */
static real factor_of(const norm_run *norm, const real *v, int64_t D, real *mean) {
  *mean = norm->type == CUMEGA_NORM_LAYER ? sum_of(v, D) / (real)D : 0;
  const real squares = sum_of_squares(v, D, *mean);
  return TYPED(norm_factor)(norm->type, (real)norm->eps, (real)norm->scale, squares, (real)D);
}

/* to = fma((v - mean) * factor, weight, bias); to may be v. */
static void normalize(const norm_run *norm, const real *v, int64_t n, real mean, real factor,
                      real *to, int stream) {
  const real *weight = norm->weight.TABLE, *bias = norm->bias.TABLE;
  const vec means = vec_splat(mean), factors = vec_splat(factor);
  FOR_BLOCK(vec_fma((vec_load(v + i) - means) * factors, vec_load(weight + i), vec_load(bias + i)),
            real_fma((v[i] - mean) * factor, weight[i], bias[i]));
}

static void normalize_row(const residual_plan *plan, const residual_place *p, const real *v,
                          real *own) {
  const residual_run *run = plan->run;
  const residual_operand *to = &run->operands[OPERAND_NORMALIZED];
  const int64_t D = run->shape[run->ndim - 1], stride = to->strides[run->ndim - 1];
  const int64_t at = p->offsets[OPERAND_NORMALIZED];
  real mean;
  const real factor = factor_of(&run->norm, v, D, &mean);
  if (is_plain(to, stride)) {
    normalize(&run->norm, v, D, mean, factor, (real *)to->data + at, plan->stream);
  } else {
    const element_block row = element_row(to->data, to->type, at, D, stride);
    normalize(&run->norm, v, D, mean, factor, own, 0);
    LEVEL(TYPED(element_store))(&row, own, 0);
  }
}

/* Computes a row before its norm, in the output itself if the norm can read it there, otherwise in
 * v. Returns the row. */
static real *run_formula(const residual_run *run, const residual_plan *plan,
                         const residual_place *p, real *v) {
  const residual_operand *out = &run->operands[OPERAND_OUT];
  const int64_t D = run->shape[run->ndim - 1], stride = out->strides[run->ndim - 1];
  const int64_t at = p->offsets[OPERAND_OUT];
  const int in_place = is_plain(out, stride) && is_linear(run) && !plan->stream;
  if (in_place) v = (real *)out->data + at;
  for (int64_t d = 0; d < D; d += RESIDUAL_BLOCK) {
    const int64_t n = smaller(D - d, RESIDUAL_BLOCK);
    block_at(run, p, d, n, v + d, 0);
    if (out->type && !in_place) store_block(plan, out, at + d * stride, stride, n, v + d);
  }
  return v;
}

/* run is the plan's run, or a copy of it in which products take the places of y and gate. */
static void run_row(const residual_run *run, const residual_plan *plan, const residual_place *p,
                    real *own) {
  real *v = run_formula(run, plan, p, own);
  if (run->norm.type < 0) return;
#if REAL_BITS == 32
  LEVEL(element_round_f32)(run->type, run->shape[run->ndim - 1], v);
#endif
  normalize_row(plan, p, v, own);
}

/* Highway: computes the products of a few rows, then the rows with the products as gate and y. */
static void run_products(const residual_plan *plan, int64_t first, int64_t count, real *own) {
  const residual_run *run = plan->run;
  const residual_products *w = &run->products;
  const int64_t D = run->shape[run->ndim - 1];
  real *v = own, *in = v + D, *gate = in + D * ROWS, *y = gate + D * ROWS;
  residual_run made = *run;
  made.operands[OPERAND_GATE] = (residual_operand){.data = gate, .type = REAL_TYPE};
  made.operands[OPERAND_GATE].strides[run->ndim - 1] = 1;
  if (w->y_weight.TABLE) {
    made.operands[OPERAND_Y] = made.operands[OPERAND_GATE];
    made.operands[OPERAND_Y].data = y;
  }
  for (int64_t at = first; at < first + count; at += ROWS) {
    const int64_t rows = smaller(first + count - at, ROWS);
    gather_rows(run, OPERAND_X, at, rows, in);
    product(in, w->x_weight.TABLE, w->x_bias.TABLE, D, gate);
    if (w->y_weight.TABLE) {
      gather_rows(run, OPERAND_Y, at, rows, in);
      product(in, w->y_weight.TABLE, w->y_bias.TABLE, D, y);
    }
    residual_place p;
    residual_find(run, at, &p);
    for (int64_t r = 0; r < rows; r++, residual_next(run, &p)) {
      residual_place q = p;
      q.offsets[OPERAND_GATE] = r * D;
      if (w->y_weight.TABLE) q.offsets[OPERAND_Y] = r * D;
      run_row(&made, plan, &q, v);
    }
  }
}

void LEVEL(TYPED(residual_item))(const residual_plan *plan, int64_t first, int64_t count,
                                 void *own) {
  if (!plan->by_rows) {
    run_lines(plan, first, count);
    return;
  }
  if (plan->run->products.x_weight.TABLE) {
    run_products(plan, first, count, own);
    return;
  }
  residual_place p;
  residual_find(plan->run, first, &p);
  for (int64_t row = 0; row < count; row++, residual_next(plan->run, &p))
    run_row(plan->run, plan, &p, own);
}
