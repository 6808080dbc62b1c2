/* Values are converted a piece of a row at a time, through doubles, which every type fits. */
#include "parameter.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "call.h"
#include "fp_environment.h"
#include "tensor_element.h"

#define PIECE 256 /* values */

int64_t parameter_count(const parameter *p) {
  int64_t count = 1;
  for (int i = 0; i < p->shape.ndim; i++) count *= p->shape.sizes[i];
  return count;
}

int64_t parameter_bytes(const parameter *p) {
  return parameter_count(p) * tensor_type_bytes(p->type);
}

static cumega_status check_shape(cumega_context *ctx, const parameter *p,
                                 const tensor_view *view) {
  const parameter_shape *s = &p->shape;
  if (p->also.letters != NULL && view->ndim == p->also.ndim) s = &p->also;
  return tensor_view_check_shape(ctx, view, s->letters, s->ndim, s->sizes);
}

/* Some values of one row of a tensor. */
typedef struct piece {
  int64_t first;          /* the row-major index of its first value */
  int64_t count;          /* 0: there is no more */
  int64_t offset, stride; /* of its elements */
} piece;

static piece piece_from(const tensor_view *view, int64_t first) {
  const int inner = view->ndim - 1;
  const int64_t length = inner < 0 ? 1 : view->shape[inner];
  if (first == view->count) return (piece){first, 0, 0, 0};
  const int64_t left = length - first % length;
  piece p = {first, left < PIECE ? left : PIECE, 0, inner < 0 ? 0 : view->strides[inner]};
  int64_t rest = first;
  for (int k = inner; k >= 0; k--) {
    p.offset += rest % view->shape[k] * view->strides[k];
    rest /= view->shape[k];
  }
  return p;
}

#define INDEX_TEXT (CUMEGA_MAX_DIMS * 22 + 3)

/* "[3, 0]" */
static void write_index(const tensor_view *view, int64_t i, char text[INDEX_TEXT]) {
  int64_t index[CUMEGA_MAX_DIMS] = {0};
  int used = sprintf(text, "[");
  for (int k = view->ndim - 1; k >= 0; k--) {
    index[k] = i % view->shape[k];
    i /= view->shape[k];
  }
  for (int k = 0; k < view->ndim; k++)
    used += sprintf(text + used, "%s%lld", k == 0 ? "" : ", ", (long long)index[k]);
  strcpy(text + used, "]");
}

/* The index of the first value that cannot be stored, or -1. */
static int64_t read_values(const tensor_view *view, tensor_type type, void *values) {
  double wide[PIECE];
  int64_t wrong = -1;
  for (piece p = piece_from(view, 0); p.count > 0; p = piece_from(view, p.first + p.count)) {
    tensor_load(view, p.offset, p.stride, p.count, wide);
    for (int64_t i = 0; i < p.count; i++) {
      if (type == TYPE_FLOAT32)
        wide[i] = ((float *)values)[p.first + i] = (float)wide[i];
      else
        ((double *)values)[p.first + i] = wide[i];
      if (!isfinite(wide[i]) && wrong < 0) wrong = p.first + i;
    }
  }
  return wrong;
}

cumega_status parameter_read(cumega_context *ctx, const parameter *p, const char *name,
                             const DLTensor *tensor, void *values) {
  tensor_view view;
  char index[INDEX_TEXT];
  fp_environment environment;
  TRY(tensor_view_make_host(ctx, name, tensor, TYPES_FLOAT, &view));
  TRY(check_shape(ctx, p, &view));
  fp_begin(&environment);
  const int64_t wrong = read_values(&view, p->type, values);
  fp_end(&environment);
  if (wrong < 0) return CUMEGA_OK;
  double value;
  const piece at = piece_from(&view, wrong);
  tensor_load(&view, at.offset, at.stride, 1, &value);
  write_index(&view, wrong, index);
  return call_fail_argument(ctx, "%s is %g at %s, expected %s", name, value, index,
                            isfinite(value) ? "values within the range of float32"
                                            : "finite values");
}

/* The file's tensor has to fit before it is read: a wrong file is CUMEGA_ERROR_FORMAT. */
static cumega_status check_entry(cumega_context *ctx, const parameter *p, const char *name,
                                 const cumega_weights_entry *entry) {
  if (entry == NULL)
    return call_fail(ctx, CUMEGA_ERROR_FORMAT, "the weight file has no tensor '%s'", name);
  if ((tensor_type_of(entry->dtype) & TYPES_FLOAT) == 0)
    return call_fail(ctx, CUMEGA_ERROR_FORMAT,
                     "the weight file's tensor '%s' is %s, expected F32, F16, BF16 or F64", name,
                     entry->dtype_name);
  tensor_view view = {.name = name, .ndim = entry->ndim};
  memcpy(view.shape, entry->shape, sizeof view.shape);
  return check_shape(ctx, p, &view) == CUMEGA_OK ? CUMEGA_OK : CUMEGA_ERROR_FORMAT;
}

cumega_status parameter_read_weights(cumega_context *ctx, const parameter *p,
                                     const cumega_weights *weights, const char *prefix,
                                     void *values) {
  char name[1024];
  size_t length = prefix != NULL ? strlen(prefix) : 0;
  const char *dot = length == 0 || prefix[length - 1] == '.' ? "" : ".";
  int written = snprintf(name, sizeof name, "%s%s%s", length > 0 ? prefix : "", dot, p->name);
  if (written >= (int)sizeof name)
    return call_fail_argument(ctx, "prefix has %zu characters, expected fewer than %zu", length,
                              sizeof name - 32);
  const cumega_weights_entry *entry = cumega_weights_find(weights, name);
  TRY(check_entry(ctx, p, name, entry));
  void *data;
  TRY(call_allocate(ctx, entry->bytes, name, &data));
  cumega_tensor tensor;
  cumega_tensor_init(&tensor, data, cumega_cpu, entry->dtype, entry->ndim, entry->shape);
  cumega_status status = cumega_weights_read(ctx, weights, entry, data, entry->bytes);
  if (status == CUMEGA_OK) status = parameter_read(ctx, p, name, &tensor.dl, values);
  memory_free(ctx->memory, data, entry->bytes);
  return status;
}

/* In the default environment: the caller's may take a subnormal number for zero. */
cumega_status parameter_check_spread(cumega_context *ctx, const char *name, double value) {
  fp_environment environment;
  fp_begin(&environment);
  int fits = isfinite(value) && value >= 0;
  fp_end(&environment);
  if (fits) return CUMEGA_OK;
  return call_fail_argument(ctx, "%s is %g, expected a finite number >= 0", name, value);
}

cumega_status parameter_check_output(cumega_context *ctx, const parameter *p,
                                     const DLTensor *tensor, tensor_view *view) {
  TRY(tensor_view_make_host(ctx, p->name, tensor, TYPES_FLOAT, view));
  TRY(check_shape(ctx, p, view));
  return tensor_view_check_output(ctx, view);
}

void parameter_write(const tensor_view *view, tensor_type type, const void *values) {
  double wide[PIECE];
  fp_environment environment;
  fp_begin(&environment);
  for (piece p = piece_from(view, 0); p.count > 0; p = piece_from(view, p.first + p.count)) {
    for (int64_t i = 0; i < p.count; i++)
      wide[i] = type == TYPE_FLOAT32 ? (double)((const float *)values)[p.first + i]
                                     : ((const double *)values)[p.first + i];
    tensor_store(view, p.offset, p.stride, p.count, wide);
  }
  fp_end(&environment);
}
