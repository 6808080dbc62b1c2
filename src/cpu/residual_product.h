/* Highway's matrix products, out = in * weight^T + bias, for ROWS rows at a time; part of
 * residual_item.h.
 *
 * Each lane of a vector is one row. So a weight is read once for all rows, and the order of a sum
 * does not depend on the vector's width: fma by index within groups of 64 inputs, then the groups
 * in order, then the bias. */

#define PRODUCT_GROUP 64
#define ROWS          PRODUCT_ROWS(sizeof(real))

/* Transposes rows first .. first + rows - 1 of an operand to (D, ROWS). The other columns are
 * 0. */
static void gather_rows(const residual_run *run, int operand, int64_t first, int64_t rows,
                        real *to) {
  const residual_operand *o = &run->operands[operand];
  const int64_t D = run->shape[run->ndim - 1], stride = o->strides[run->ndim - 1];
  real buffer[RESIDUAL_BLOCK] __attribute__((aligned(MEMORY_ALIGNMENT)));
  residual_place p;
  memset(to, 0, (size_t)(D * ROWS) * sizeof *to);
  residual_find(run, first, &p);
  for (int64_t r = 0; r < rows; r++, residual_next(run, &p))
    for (int64_t d = 0; d < D; d += RESIDUAL_BLOCK) {
      const int64_t n = smaller(D - d, RESIDUAL_BLOCK);
      const real *row = fetch(o, p.offsets[operand] + d * stride, stride, n, buffer);
      for (int64_t i = 0; i < n; i++) to[(d + i) * ROWS + r] = row[i];
    }
}

/* Computes output channels o .. o + outputs - 1 of all rows. outputs is a constant in every
 * call. */
ALWAYS_INLINE void product_channels(const int outputs, const real *in, const real *weight,
                                    const real *bias, int64_t D, int64_t o, real *out) {
  vec sum[4][2];
  for (int k = 0; k < outputs; k++) sum[k][0] = sum[k][1] = (vec){0};
  for (int64_t start = 0; start < D; start += PRODUCT_GROUP) {
    const int64_t end = smaller(D, start + PRODUCT_GROUP);
    vec part[4][2];
    for (int k = 0; k < outputs; k++) part[k][0] = part[k][1] = (vec){0};
    for (int64_t i = start; i < end; i++) {
      const vec low = vec_load(in + i * ROWS), high = vec_load(in + i * ROWS + LANES);
      for (int k = 0; k < outputs; k++) {
        const vec w = vec_splat(weight[(o + k) * D + i]);
        part[k][0] = vec_fma(w, low, part[k][0]);
        part[k][1] = vec_fma(w, high, part[k][1]);
      }
    }
    for (int k = 0; k < outputs; k++)
      for (int h = 0; h < 2; h++) sum[k][h] += part[k][h];
  }
  for (int k = 0; k < outputs; k++)
    for (int r = 0; r < ROWS; r++) out[r * D + o + k] = sum[k][r / LANES][r % LANES] + bias[o + k];
}

/* out (ROWS, D), row-major. */
static void product(const real *in, const real *weight, const real *bias, int64_t D, real *out) {
  int64_t o = 0;
  for (; o + 4 <= D; o += 4) product_channels(4, in, weight, bias, D, o, out);
  for (; o < D; o++) product_channels(1, in, weight, bias, D, o, out);
}
