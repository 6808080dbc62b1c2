/* Highway's products, out = in * weight^T + bias, for a few rows at a time: part of
 * residual_item.h, which says what the names in capitals are.
 *
 * The rows lie across a vector, so that weights are read as they are, one number for all rows, and
 * an element's sum has one order whatever the vector's width: fma by index within groups of 64
 * inputs, the groups added in order, then the bias. */

#define PRODUCT_GROUP 64

/* Rows first .. first + rows - 1 of an operand as (D, PRODUCT_ROWS); rows that are not there are 0.
 */
static void NAME(gather_rows)(const residual_run *run, int operand, int64_t first, int64_t rows,
                              REAL *to) {
  const residual_operand *o = &run->operands[operand];
  const int64_t D = run->shape[run->ndim - 1], stride = o->strides[run->ndim - 1];
  REAL buffer[BLOCK_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  residual_place p;
  memset(to, 0, (size_t)(D * PRODUCT_ROWS) * sizeof *to);
  residual_find(run, first, &p);
  for (int64_t r = 0; r < rows; r++, residual_next(run, &p))
    for (int64_t d = 0; d < D; d += BLOCK_ELEMENTS) {
      const int64_t n = D - d < BLOCK_ELEMENTS ? D - d : BLOCK_ELEMENTS;
      const REAL *row = NAME(fetch)(o, p.offsets[operand] + d * stride, stride, n, buffer);
      for (int64_t i = 0; i < n; i++) to[(d + i) * PRODUCT_ROWS + r] = row[i];
    }
}

/* `outputs` channels (a constant at every call) from o on, for all rows. */
static inline __attribute__((always_inline)) void
NAME(product_channels)(const int outputs, const REAL *in, const REAL *weight, const REAL *bias,
                       int64_t D, int64_t o, REAL *out) {
  VEC sum[4][2];
  for (int k = 0; k < outputs; k++) sum[k][0] = sum[k][1] = (VEC){0};
  for (int64_t start = 0; start < D; start += PRODUCT_GROUP) {
    const int64_t end = D - start < PRODUCT_GROUP ? D : start + PRODUCT_GROUP;
    VEC part[4][2];
    for (int k = 0; k < outputs; k++) part[k][0] = part[k][1] = (VEC){0};
    for (int64_t i = start; i < end; i++) {
      const VEC low = LOAD(in + i * PRODUCT_ROWS), high = LOAD(in + i * PRODUCT_ROWS + LANES);
      for (int k = 0; k < outputs; k++) {
        const VEC w = SPLAT(weight[(o + k) * D + i]);
        part[k][0] = FMA(w, low, part[k][0]);
        part[k][1] = FMA(w, high, part[k][1]);
      }
    }
    for (int k = 0; k < outputs; k++)
      for (int h = 0; h < 2; h++) sum[k][h] += part[k][h];
  }
  for (int k = 0; k < outputs; k++)
    for (int r = 0; r < PRODUCT_ROWS; r++)
      out[r * D + o + k] = sum[k][r / LANES][r % LANES] + bias[o + k];
}

/* out (PRODUCT_ROWS, D), row-major. */
static void NAME(product)(const REAL *in, const REAL *weight, const REAL *bias, int64_t D,
                          REAL *out) {
  int64_t o = 0;
  for (; o + 4 <= D; o += 4) NAME(product_channels)(4, in, weight, bias, D, o, out);
  for (; o < D; o++) NAME(product_channels)(1, in, weight, bias, D, o, out);
}
