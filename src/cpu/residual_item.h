/* One item of a residual connection's run. Written once; included by residual_item_f32.c and
 * residual_item_f64.c, which define
 *
 *   NAME(x)                        x with the type's suffix
 *   REAL, VEC, LANES               the number, a vector of it, and its lanes
 *   LOAD, STORE, STREAM, FMA       vector operations; FMA1 of one number
 *   SPLAT(v)                       a vector of v
 *   LOAD_ELEMENTS, STORE_ELEMENTS  between the caller's memory and ours
 *   ROUND(type, n, v)              v as a store and a load would leave it
 *   IS_NARROW(plan)                whether lines are residual_narrow_cpu.c's
 *   TABLE                          our member of real_vector */

#include "residual_block.h"
#include "residual_product.h"

/* ---- lines: no norm, no products ---- */

/* Whether a line's inputs are read where they lie, however many elements at a time. */
static int NAME(all_plain)(const residual_run *run) {
  for (int k = 0; k < OPERAND_OUT; k++) {
    const residual_operand *o = &run->operands[k];
    if (o->type != 0 && !NAME(is_plain)(o, o->strides[run->ndim - 1])) return 0;
  }
  return 1;
}

/* A store of numbers of ours, past the caches where that pays. */
static void NAME(keep)(const residual_plan *plan, const residual_operand *out, int64_t offset,
                       int64_t stride, int64_t n, const REAL *v) {
  if (!plan->stream || !NAME(is_plain)(out, stride)) {
    STORE_ELEMENTS(out, offset, stride, n, v);
    return;
  }
  REAL *to = (REAL *)out->data + offset;
  STREAM_BLOCK(LOAD(v + i), v[i]);
}

/* Elements from .. to - 1 of the line at p. */
static void NAME(run_line)(const residual_run *run, const residual_plan *plan,
                           const residual_place *p, int64_t from, int64_t to) {
  if (IS_NARROW(plan)) {
    LEVEL(residual_narrow_line)(run, plan, p, from, to);
    return;
  }
  REAL buffer[BLOCK_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const residual_operand *out = &run->operands[OPERAND_OUT];
  const int64_t stride = out->strides[run->ndim - 1];
  const int direct = NAME(is_plain)(out, stride) && NAME(is_linear)(run);
  const int64_t most = direct && NAME(all_plain)(run) ? to - from : BLOCK_ELEMENTS;
  for (int64_t i = from; i < to; i += most) {
    const int64_t n = to - i < most ? to - i : most;
    const int64_t at = p->offsets[OPERAND_OUT] + i * stride;
    if (direct) {
      NAME(block_at)(run, p, i, n, (REAL *)out->data + at, plan->stream);
    } else {
      NAME(block_at)(run, p, i, n, buffer, 0);
      NAME(keep)(plan, out, at, stride, n, buffer);
    }
  }
}

/* Whole lines, or one piece of a line, which is an item of its own. */
static void NAME(run_lines)(const residual_run *run, const residual_plan *plan, int64_t first,
                            int64_t count) {
  const int64_t length = run->shape[run->ndim - 1];
  residual_place p;
  residual_find(run, first / plan->pieces, &p);
  for (int64_t unit = first; unit < first + count; unit++) {
    const int64_t from = unit % plan->pieces * plan->piece;
    const int64_t to = length - from < plan->piece ? length : from + plan->piece;
    NAME(run_line)(run, plan, &p, from, to);
    residual_next(run, &p);
  }
}

/* ---- rows ---- */

static inline __attribute__((always_inline)) VEC NAME(terms_at)(const REAL *v, const int squared,
                                                                VEC means) {
  const VEC value = LOAD(v), away = value - means;
  return squared ? away * away : value;
}

static inline __attribute__((always_inline)) REAL NAME(term_at)(const REAL *v, const int squared,
                                                                REAL mean) {
  return squared ? (*v - mean) * (*v - mean) : *v;
}

/* The last strides of a tree, within one vector. */
static inline REAL NAME(tree_end)(VEC last) {
  REAL sums[LANES];
  STORE(sums, last);
  for (int stride = LANES / 2; stride > 0; stride /= 2)
    for (int j = 0; j < stride; j++) sums[j] += sums[j + stride];
  return sums[0];
}

/* The halving tree of src/math/tree.h over up to TREE_GROUP terms: v, or with `squared`, a
 * constant, (v - mean)^2. A vector at a time, and two strides at a time where both are whole. */
static inline __attribute__((always_inline)) REAL NAME(row_tree)(const REAL *v, int64_t count,
                                                                 const int squared, REAL mean) {
  REAL sums[TREE_GROUP / 2] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const int64_t first = tree_first_stride(count), both = count - first;
  const VEC means = SPLAT(mean);
  int64_t stride = first / 2, j = 0;
  if (count == 1) return NAME(term_at)(v, squared, mean);
  if (both == first && stride >= LANES) {
    for (; j < stride; j += LANES) {
      const VEC a = NAME(terms_at)(v + j, squared, means);
      const VEC b = NAME(terms_at)(v + j + first, squared, means);
      const VEC c = NAME(terms_at)(v + j + stride, squared, means);
      const VEC d = NAME(terms_at)(v + j + stride + first, squared, means);
      STORE(sums + j, (a + b) + (c + d));
    }
    stride /= 2;
  } else {
    for (; j + LANES <= both; j += LANES)
      STORE(sums + j,
            NAME(terms_at)(v + j, squared, means) + NAME(terms_at)(v + j + first, squared, means));
    for (; j < both; j++)
      sums[j] = NAME(term_at)(v + j, squared, mean) + NAME(term_at)(v + j + first, squared, mean);
    for (; j < first; j++) sums[j] = NAME(term_at)(v + j, squared, mean);
  }
  for (; stride >= 2 * LANES; stride /= 4) {
    const int64_t half = stride / 2;
    for (j = 0; j < half; j += LANES)
      STORE(sums + j, (LOAD(sums + j) + LOAD(sums + j + stride)) +
                          (LOAD(sums + j + half) + LOAD(sums + j + half + stride)));
  }
  if (stride == LANES) {
    STORE(sums, LOAD(sums) + LOAD(sums + LANES));
    stride /= 2;
  }
  if (stride == LANES / 2) return NAME(tree_end)(LOAD(sums));
  for (; stride > 0; stride /= 2)
    for (j = 0; j < stride; j++) sums[j] += sums[j + stride];
  return sums[0];
}

static REAL NAME(row_sum)(const REAL *v, int64_t D) {
  REAL sum = (REAL)-0.0;
  for (int64_t start = 0; start < D; start += TREE_GROUP)
    sum += NAME(row_tree)(v + start, D - start < TREE_GROUP ? D - start : TREE_GROUP, 0, 0);
  return sum;
}

static REAL NAME(row_squares)(const REAL *v, int64_t D, REAL mean) {
  REAL sum = (REAL)-0.0;
  for (int64_t start = 0; start < D; start += TREE_GROUP)
    sum += NAME(row_tree)(v + start, D - start < TREE_GROUP ? D - start : TREE_GROUP, 1, mean);
  return sum;
}

/* The number that v - mean is multiplied by. */
static REAL NAME(row_factor)(const norm_run *norm, const REAL *v, int64_t D, REAL *mean) {
  *mean = 0;
  if (norm->type == CUMEGA_NORM_LAYER) *mean = NAME(row_sum)(v, D) / (REAL)D;
  const REAL squares = NAME(row_squares)(v, D, *mean);
  return NAME(norm_factor)(norm->type, (REAL)norm->eps, (REAL)norm->scale, squares, (REAL)D);
}

/* to = fma((v - mean) * r, weight, bias); to may be v. */
static void NAME(normalize)(const norm_run *norm, const REAL *v, int64_t n, REAL mean, REAL r,
                            REAL *to, int stream) {
  const REAL *weight = norm->weight.TABLE, *bias = norm->bias.TABLE;
  const VEC means = SPLAT(mean), rs = SPLAT(r);
  FOR_BLOCK(FMA((LOAD(v + i) - means) * rs, LOAD(weight + i), LOAD(bias + i)),
            FMA1((v[i] - mean) * r, weight[i], bias[i]));
}

static void NAME(normalize_row)(const residual_run *run, const residual_plan *plan,
                                const residual_place *p, const REAL *v, REAL *own) {
  const residual_operand *to = &run->operands[OPERAND_NORMALIZED];
  const int64_t D = run->shape[run->ndim - 1], stride = to->strides[run->ndim - 1];
  const int64_t at = p->offsets[OPERAND_NORMALIZED];
  REAL mean;
  const REAL r = NAME(row_factor)(&run->norm, v, D, &mean);
  if (NAME(is_plain)(to, stride)) {
    NAME(normalize)(&run->norm, v, D, mean, r, (REAL *)to->data + at, plan->stream);
  } else {
    NAME(normalize)(&run->norm, v, D, mean, r, own, 0);
    STORE_ELEMENTS(to, at, stride, D, own);
  }
}

/* The sum of a row: in the output itself where the norm can read it there, else in v. Returns
 * where. */
static REAL *NAME(sum_row)(const residual_run *run, const residual_plan *plan,
                           const residual_place *p, REAL *v) {
  const residual_operand *out = &run->operands[OPERAND_OUT];
  const int64_t D = run->shape[run->ndim - 1], stride = out->strides[run->ndim - 1];
  const int64_t at = p->offsets[OPERAND_OUT];
  const int direct = NAME(is_plain)(out, stride) && NAME(is_linear)(run) && !plan->stream;
  if (direct) v = (REAL *)out->data + at;
  for (int64_t d = 0; d < D; d += BLOCK_ELEMENTS) {
    const int64_t n = D - d < BLOCK_ELEMENTS ? D - d : BLOCK_ELEMENTS;
    NAME(block_at)(run, p, d, n, v + d, 0);
    if (out->type && !direct) NAME(keep)(plan, out, at + d * stride, stride, n, v + d);
  }
  return v;
}

static void NAME(run_row)(const residual_run *run, const residual_plan *plan,
                          const residual_place *p, REAL *v) {
  REAL *sum = NAME(sum_row)(run, plan, p, v);
  if (run->norm.type < 0) return;
  ROUND(run->type, run->shape[run->ndim - 1], sum);
  NAME(normalize_row)(run, plan, p, sum, v);
}

/* Highway: the products of a few rows, then the rows with them in y's and gate's places. */
static void NAME(run_products)(const residual_run *run, const residual_plan *plan, int64_t first,
                               int64_t count, REAL *own) {
  const int64_t D = run->shape[run->ndim - 1];
  const residual_products *w = &run->products;
  REAL *v = own, *in = v + D, *gate = in + D * PRODUCT_ROWS, *y = gate + D * PRODUCT_ROWS;
  residual_run made = *run;
  made.operands[OPERAND_GATE] = (residual_operand){.data = gate, .type = REAL_TYPE};
  made.operands[OPERAND_GATE].strides[run->ndim - 1] = 1;
  if (w->y_weight.TABLE) {
    made.operands[OPERAND_Y] = made.operands[OPERAND_GATE];
    made.operands[OPERAND_Y].data = y;
  }
  for (int64_t at = first; at < first + count; at += PRODUCT_ROWS) {
    const int64_t left = first + count - at, rows = left < PRODUCT_ROWS ? left : PRODUCT_ROWS;
    NAME(gather_rows)(run, OPERAND_X, at, rows, in);
    NAME(product)(in, w->x_weight.TABLE, w->x_bias.TABLE, D, gate);
    if (w->y_weight.TABLE) {
      NAME(gather_rows)(run, OPERAND_Y, at, rows, in);
      NAME(product)(in, w->y_weight.TABLE, w->y_bias.TABLE, D, y);
    }
    residual_place p;
    residual_find(run, at, &p);
    for (int64_t r = 0; r < rows; r++, residual_next(run, &p)) {
      residual_place q = p;
      q.offsets[OPERAND_GATE] = r * D;
      if (w->y_weight.TABLE) q.offsets[OPERAND_Y] = r * D;
      NAME(run_row)(&made, plan, &q, v);
    }
  }
}

void LEVEL(NAME(residual_item))(const residual_run *run, const residual_plan *plan, int64_t first,
                                int64_t count, void *own) {
  if (!plan->by_rows) {
    NAME(run_lines)(run, plan, first, count);
    return;
  }
  if (run->products.x_weight.TABLE) {
    NAME(run_products)(run, plan, first, count, own);
    return;
  }
  residual_place p;
  residual_find(run, first, &p);
  for (int64_t row = 0; row < count; row++, residual_next(run, &p))
    NAME(run_row)(run, plan, &p, own);
}
