/* One item of a residual connection's run. Written once; included by residual_item_f32.c and
 * residual_item_f64.c, which define
 *
 *   NAME(x)                        x with the type's suffix
 *   REAL, VEC, LANES               the number, a vector of it, and its lanes
 *   LOAD, STORE, STREAM, FMA       vector operations; FMA1 of one number
 *   SPLAT(v)                       a vector of v
 *   LOAD_ELEMENTS, STORE_ELEMENTS  between the caller's memory and ours
 *   ROUND(type, n, v)              v as a store and a load would leave it
 *   TABLE                          our member of real_vector */

#include "residual_block.h"
#include "residual_product.h"

/* ---- lines: no norm, no products ---- */

/* Elements from .. to - 1 of the line at p. */
static void NAME(run_line)(const residual_run *run, const residual_plan *plan,
                           const residual_place *p, int64_t from, int64_t to) {
  REAL buffer[BLOCK_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const residual_operand *out = &run->operands[OPERAND_OUT];
  const int64_t stride = out->strides[run->ndim - 1];
  const int direct = NAME(is_plain)(out, stride) && NAME(is_linear)(run);
  for (int64_t i = from; i < to; i += BLOCK_ELEMENTS) {
    const int64_t n = to - i < BLOCK_ELEMENTS ? to - i : BLOCK_ELEMENTS;
    const int64_t at = p->offsets[OPERAND_OUT] + i * stride;
    if (direct) {
      NAME(block_at)(run, p, i, n, (REAL *)out->data + at, plan->stream);
    } else {
      NAME(block_at)(run, p, i, n, buffer, 0);
      STORE_ELEMENTS(out, at, stride, n, buffer);
    }
  }
}

static void NAME(run_lines)(const residual_run *run, const residual_plan *plan, int64_t first,
                            int64_t count) {
  const int64_t length = run->shape[run->ndim - 1];
  residual_place p;
  residual_find(run, first / plan->pieces, &p);
  for (int64_t unit = first; unit < first + count; unit++) {
    const int64_t from = unit % plan->pieces * plan->piece;
    const int64_t to = length - from < plan->piece ? length : from + plan->piece;
    NAME(run_line)(run, plan, &p, from, to);
    if (to == length) residual_next(run, &p);
  }
}

/* ---- rows ---- */

/* The halving tree of src/math/tree.h over up to TREE_GROUP terms, a vector at a time. */
static REAL NAME(row_tree)(const REAL *terms, int64_t count, REAL *sums) {
  const int64_t first = tree_first_stride(count), both = count - first;
  int64_t j = 0;
  if (count == 1) return terms[0];
  for (; j + LANES <= both; j += LANES) STORE(sums + j, LOAD(terms + j) + LOAD(terms + j + first));
  for (; j < both; j++) sums[j] = terms[j] + terms[j + first];
  for (; j < first; j++) sums[j] = terms[j];
  int64_t stride = first / 2;
  for (; stride >= LANES; stride /= 2)
    for (j = 0; j < stride; j += LANES) STORE(sums + j, LOAD(sums + j) + LOAD(sums + j + stride));
  for (; stride > 0; stride /= 2)
    for (j = 0; j < stride; j++) sums[j] += sums[j + stride];
  return sums[0];
}

/* The sum of v, or with `squared` of (v - mean)^2. */
static REAL NAME(row_sum)(const REAL *v, int64_t D, int squared, REAL mean) {
  REAL terms[TREE_GROUP] __attribute__((aligned(MEMORY_ALIGNMENT)));
  REAL sums[TREE_GROUP / 2] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const VEC means = SPLAT(mean);
  REAL sum = (REAL)-0.0;
  for (int64_t start = 0; start < D; start += TREE_GROUP) {
    const int64_t n = D - start < TREE_GROUP ? D - start : TREE_GROUP;
    const REAL *from = v + start;
    if (squared) {
      int64_t i = 0;
      for (; i + LANES <= n; i += LANES) {
        const VEC away = LOAD(from + i) - means;
        STORE(terms + i, away * away);
      }
      for (; i < n; i++) terms[i] = (from[i] - mean) * (from[i] - mean);
      from = terms;
    }
    sum += NAME(row_tree)(from, n, sums);
  }
  return sum;
}

/* The number that v - mean is multiplied by. */
static REAL NAME(row_factor)(const norm_run *norm, const REAL *v, int64_t D, REAL *mean) {
  *mean = 0;
  if (norm->type == CUMEGA_NORM_LAYER) *mean = NAME(row_sum)(v, D, 0, 0) / (REAL)D;
  const REAL squares = NAME(row_sum)(v, D, 1, *mean);
  return NAME(norm_factor)(norm->type, (REAL)norm->eps, (REAL)norm->scale, squares, (REAL)D);
}

/* to = fma((v - mean) * r, weight, bias); to may be v. */
static void NAME(normalize)(const norm_run *norm, const REAL *v, int64_t first, int64_t n,
                            REAL mean, REAL r, REAL *to, int stream) {
  const REAL *weight = norm->weight.TABLE + first, *bias = norm->bias.TABLE + first;
  const VEC means = SPLAT(mean), rs = SPLAT(r);
  FOR_BLOCK(FMA((LOAD(v + i) - means) * rs, LOAD(weight + i), LOAD(bias + i)),
            FMA1((v[i] - mean) * r, weight[i], bias[i]));
}

static void NAME(normalize_row)(const residual_run *run, const residual_plan *plan,
                                const residual_place *p, REAL *v) {
  const residual_operand *to = &run->operands[OPERAND_NORMALIZED];
  const int64_t D = run->shape[run->ndim - 1], stride = to->strides[run->ndim - 1];
  const int64_t at = p->offsets[OPERAND_NORMALIZED];
  REAL mean;
  const REAL r = NAME(row_factor)(&run->norm, v, D, &mean);
  if (NAME(is_plain)(to, stride)) {
    NAME(normalize)(&run->norm, v, 0, D, mean, r, (REAL *)to->data + at, plan->stream);
  } else {
    NAME(normalize)(&run->norm, v, 0, D, mean, r, v, 0);
    STORE_ELEMENTS(to, at, stride, D, v);
  }
}

static void NAME(run_row)(const residual_run *run, const residual_plan *plan,
                          const residual_place *p, REAL *v) {
  const residual_operand *out = &run->operands[OPERAND_OUT];
  const int64_t D = run->shape[run->ndim - 1], stride = out->strides[run->ndim - 1];
  for (int64_t d = 0; d < D; d += BLOCK_ELEMENTS) {
    const int64_t n = D - d < BLOCK_ELEMENTS ? D - d : BLOCK_ELEMENTS;
    NAME(block_at)(run, p, d, n, v + d, 0);
    if (out->type) STORE_ELEMENTS(out, p->offsets[OPERAND_OUT] + d * stride, stride, n, v + d);
  }
  if (run->norm.type < 0) return;
  ROUND(run->type, D, v);
  NAME(normalize_row)(run, plan, p, v);
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
