/* The order of every sum of the library: pairwise summation in halving order. A group has up to
 * 4,096 terms, and absent terms are -0 (the identity of addition). For stride 2048, 1024, ..., 1:
 * term[j] += term[j + stride] for all j < stride. The sums of consecutive groups are added in
 * order. An empty sum is +0. These functions are the plain form; any layout of lanes and threads
 * that keeps the order gives the same bits. */
#ifndef CUMEGA_SRC_MATH_TREE_H
#define CUMEGA_SRC_MATH_TREE_H

#include "math_attributes.h"

#define TREE_GROUP 4096

/* The first stride with something to add: the largest power of two below count (1 .. 4096), but at
 * least 1. */
CUMEGA_MATH int tree_first_stride(int64_t count) {
  int stride = 1;
  while (2 * stride < count) stride *= 2;
  return stride;
}

/* The sum of one group, 1 <= count <= TREE_GROUP. */
CUMEGA_MATH float tree_group_f32(const float *terms, int64_t count) {
  float sums[TREE_GROUP / 2];
  int first = tree_first_stride(count);
  for (int j = 0; j < first; ++j) {
    float term = terms[j];
    sums[j] = j + first < count ? term + terms[j + first] : term;
  }
  for (int stride = first / 2; stride > 0; stride /= 2) {
    for (int j = 0; j < stride; ++j) sums[j] += sums[j + stride];
  }
  return sums[0]; /* cppcheck-suppress uninitvar ; first >= 1 are set */
}

CUMEGA_MATH double tree_group_f64(const double *terms, int64_t count) {
  double sums[TREE_GROUP / 2];
  int first = tree_first_stride(count);
  for (int j = 0; j < first; ++j) {
    double term = terms[j];
    sums[j] = j + first < count ? term + terms[j + first] : term;
  }
  for (int stride = first / 2; stride > 0; stride /= 2) {
    for (int j = 0; j < stride; ++j) sums[j] += sums[j + stride];
  }
  return sums[0]; /* cppcheck-suppress uninitvar ; first >= 1 are set */
}

CUMEGA_MATH float tree_sum_f32(const float *terms, int64_t count) {
  if (count == 0) return 0.0f;
  float sum = -0.0f;
  for (int64_t start = 0; start < count; start += TREE_GROUP) {
    int64_t left = count - start;
    sum += tree_group_f32(terms + start, left < TREE_GROUP ? left : TREE_GROUP);
  }
  return sum;
}

CUMEGA_MATH double tree_sum_f64(const double *terms, int64_t count) {
  if (count == 0) return 0.0;
  double sum = -0.0;
  for (int64_t start = 0; start < count; start += TREE_GROUP) {
    int64_t left = count - start;
    sum += tree_group_f64(terms + start, left < TREE_GROUP ? left : TREE_GROUP);
  }
  return sum;
}

#endif
