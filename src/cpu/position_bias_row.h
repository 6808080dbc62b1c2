/* One row of apply or softmax: the scores come in, widened; scale, bias and masks make s of them, in
 * scratch; then s goes out, or the softmax of it. Included by position_bias_row_f32.c and _f64.c,
 * which say what NAME, REAL, ... are.
 *
 * The order of the softmax's sums is the library's (src/math/tree.h): each group of 4,096 keys has
 * its maximum m_g and the tree s_g of exp(s - m_g); the sum adds s_g * exp(m_g - m) in order; groups
 * without a key are left out. */

#define INFINITE ((REAL)__builtin_inf())

#define LOAD_ROW(element, WIDEN)                                                                   \
  do {                                                                                             \
    const element *at = (const element *)run->scores.data + place->from + first * stride;          \
    if (stride == 1)                                                                               \
      for (int64_t j = 0; j < count; j++) s[j] = WIDEN(at[j]);                                     \
    else                                                                                           \
      for (int64_t j = 0; j < count; j++) s[j] = WIDEN(at[j * stride]);                            \
  } while (0)

#define STORE_ROW(element, NARROW)                                                                 \
  do {                                                                                             \
    element *at = (element *)run->output.data + place->to + first * stride;                        \
    if (stride == 1)                                                                               \
      for (int64_t j = 0; j < count; j++) at[j] = NARROW(s[j] * factor);                           \
    else                                                                                           \
      for (int64_t j = 0; j < count; j++) at[j * stride] = NARROW(s[j] * factor);                  \
  } while (0)

/* output[first ..] = s * factor, rounded once. */
static void NAME(store_keys)(const position_bias_run *run, const row_place *place, int64_t first,
                             int64_t count, const REAL *s, REAL factor) {
  const int64_t stride = run->output.stride_k;
  STORE_TYPES(STORE_ROW)
}

#define FILL_ROW(element, NARROW)                                                                  \
  do {                                                                                             \
    element *at = (element *)run->output.data + place->to;                                         \
    const element filling = NARROW(value);                                                         \
    if (stride == 1)                                                                               \
      for (int64_t j = first; j < end; j++) at[j] = filling;                                       \
    else                                                                                           \
      for (int64_t j = first; j < end; j++) at[j * stride] = filling;                              \
  } while (0)

/* output[first .. end - 1] = value, which every type has. */
static void NAME(fill_keys)(const position_bias_run *run, const row_place *place, int64_t first,
                            int64_t end, REAL value) {
  const int64_t stride = run->output.stride_k;
  if (first >= end) return; /* as in most rows: no type is looked at */
  STORE_TYPES(FILL_ROW)
}

static void NAME(mask_keys)(const uint8_t *mask, int64_t stride, int64_t count, REAL *s) {
  if (stride == 1)
    for (int64_t j = 0; j < count; j++) s[j] = mask[j] ? -INFINITE : s[j];
  else
    for (int64_t j = 0; j < count; j++) s[j] = mask[j * stride] ? -INFINITE : s[j];
}

/* s = fma(scale, scores, bias), masked; at scratch's own place. Without a bias -0 is added, which
 * changes nothing. */
static void NAME(make_scores)(const position_bias_run *run, const row_place *place, int64_t first,
                              int64_t count, REAL *s) {
  const int64_t stride = run->scores.stride_k;
  const REAL scale = (REAL)run->scale;
  LOAD_TYPES(LOAD_ROW)
  if (run->table.TABLE) {
    const REAL *bias = run->table.TABLE + place->row.first + first;
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES)
      STORE(s + j, FMA(scale + (VEC){0}, LOAD(s + j), LOAD(bias + j)));
    for (; j < count; j++) s[j] = SCALAR_FMA(scale, s[j], bias[j]);
  } else if (scale != 1) {
    for (int64_t j = 0; j < count; j++) s[j] *= scale;
  }
  if (place->attention) NAME(mask_keys)
  (place->attention + first * run->attention.stride_k, run->attention.stride_k, count, s);
  if (place->padding) NAME(mask_keys)
  (place->padding + first * run->padding.stride_k, run->padding.stride_k, count, s);
  for (int64_t j = count; j < row_padded(count); j++) s[j] = -INFINITE;
}

/* NaN passes unseen; the sum brings it in. count in whole paddings. */
static REAL NAME(maximum)(const REAL *s, int64_t count) {
  VEC a = LOAD(s), b = a;
  int64_t j = 0;
  a = b = MAX(a, (VEC){0} - INFINITE);
  for (; j + 2 * LANES <= count; j += 2 * LANES) {
    a = MAX(LOAD(s + j), a);
    b = MAX(LOAD(s + j + LANES), b);
  }
#if 2 * VECTOR_BYTES / 4 > ROW_PADDING
  for (; j < count; j += LANES) a = MAX(LOAD(s + j), a);
#endif
  a = MAX(b, a);
  REAL m = a[0];
  for (int i = 1; i < LANES; i++) m = a[i] > m ? a[i] : m;
  return m;
}

static int NAME(has_nan)(const REAL *s, int64_t count) {
  for (int64_t j = 0; j < count; j++)
    if (s[j] != s[j]) return 1;
  return 0;
}

/* terms = exp(s - m); terms may be s. */
static void NAME(exponentials)(const REAL *s, REAL m, int64_t count, REAL *terms) {
  for (int64_t j = 0; j < count; j++) terms[j] = EXP(s[j] - m);
}

/* The halving tree of count terms, in whole paddings, those behind the last one +0: a sum that has a
 * term above 0 does not change by them. */
static REAL NAME(tree)(const REAL *restrict terms, int64_t count) {
  REAL sums[TREE_GROUP / 2];
  int stride = tree_first_stride(count);
  for (int j = 0; j < count - stride; j++) sums[j] = terms[j] + terms[j + stride];
  for (int j = (int)count - stride; j < stride; j++) sums[j] = terms[j];
  for (stride /= 2; stride >= LANES; stride /= 2)
    for (int j = 0; j < stride; j += LANES)
      STORE(sums + j, LOAD(sums + j) + LOAD(sums + j + stride));
  for (; stride > 0; stride /= 2)
    for (int j = 0; j < stride; j++) sums[j] += sums[j + stride];
  return sums[0];
}

/* A row without a number above -inf: zeros, or NaN. */
static void NAME(empty_row)(const position_bias_run *run, const row_place *place) {
  const REAL value = run->nan_rows ? (REAL)__builtin_nan("") : 0;
  NAME(fill_keys)(run, place, 0, place->row.keys, value);
}

/* One group: exp once, in place. */
static void NAME(short_softmax)(const position_bias_run *run, const row_place *place, REAL *s) {
  const int64_t count = place->row.visible;
  const REAL m = NAME(maximum)(s, row_padded(count));
  if (m == -INFINITE && !NAME(has_nan)(s, count)) {
    NAME(empty_row)(run, place);
    return;
  }
  NAME(exponentials)(s, m, row_padded(count), s);
  const REAL factor = 1 / NAME(tree)(s, row_padded(count));
  NAME(store_keys)(run, place, 0, count, s, factor);
  NAME(fill_keys)(run, place, count, place->row.keys, 0 * factor);
}

/* Several groups: s stays, since exp is taken against m_g for the sum and against m for the weights. */
static void NAME(long_softmax)(const position_bias_run *run, const row_place *place, REAL *s,
                               REAL *terms) {
  const int64_t count = place->row.visible;
  REAL m = -INFINITE, sum = 0;
  int any = 0;
  for (int64_t first = 0; first < count; first += TREE_GROUP) {
    const int64_t left = count - first < TREE_GROUP ? count - first : TREE_GROUP;
    const REAL m_g = NAME(maximum)(s + first, row_padded(left));
    m = m_g > m ? m_g : m;
  }
  for (int64_t first = 0; first < count; first += TREE_GROUP) {
    const int64_t left = count - first < TREE_GROUP ? count - first : TREE_GROUP;
    const REAL m_g = NAME(maximum)(s + first, row_padded(left));
    if (m_g == -INFINITE && !NAME(has_nan)(s + first, left)) continue;
    NAME(exponentials)(s + first, m_g, row_padded(left), terms);
    sum += NAME(tree)(terms, row_padded(left)) * EXP(m_g - m);
    any = 1;
  }
  if (!any) {
    NAME(empty_row)(run, place);
    return;
  }
  const REAL factor = 1 / sum;
  for (int64_t first = 0; first < count; first += TREE_GROUP) {
    const int64_t left = count - first < TREE_GROUP ? count - first : TREE_GROUP;
    NAME(exponentials)(s + first, m, left, terms);
    NAME(store_keys)(run, place, first, left, terms, factor);
  }
  NAME(fill_keys)(run, place, count, place->row.keys, 0 * factor);
}

void LEVEL(NAME(position_row))(const position_bias_run *run, const row_place *place, REAL *s) {
  const position_row *row = &place->row;
  const REAL behind = run->softmax ? 0 : -INFINITE;
  for (int64_t first = 0; first < row->visible; first += TREE_GROUP) {
    const int64_t left = row->visible - first;
    NAME(make_scores)(run, place, first, left < TREE_GROUP ? left : TREE_GROUP, s + first);
  }
  if (!run->softmax) {
    NAME(store_keys)(run, place, 0, row->visible, s, 1);
    NAME(fill_keys)(run, place, row->visible, row->keys, behind);
  } else if (row->visible > TREE_GROUP) {
    NAME(long_softmax)(run, place, s, s + row_padded(run->Lk));
  } else if (row->visible > 0) {
    NAME(short_softmax)(run, place, s);
  }
  NAME(fill_keys)(run, place, row->keys, run->Lk, behind);
}
