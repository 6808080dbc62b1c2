#include "parameter.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "fp_environment.h"
#include "tensor_element.h"

int64_t parameter_count(const parameter *p) {
  int64_t count = 1;
  for (int i = 0; i < p->shape.ndim; i++) count *= p->shape.sizes[i];
  return count;
}

static cumega_status check_shape(cumega_context *ctx, const parameter *p, const tensor_view *view) {
  const parameter_shape *s = &p->shape;
  if (p->also.letters != NULL && view->ndim == p->also.ndim) s = &p->also;
  return tensor_view_check_shape(ctx, view, s->letters, s->ndim, s->sizes);
}

/* Where the i-th value lies, row-major. */
static int64_t offset_of(const tensor_view *view, int64_t i) {
  int64_t offset = 0;
  for (int k = view->ndim - 1; k >= 0; k--) {
    offset += i % view->shape[k] * view->strides[k];
    i /= view->shape[k];
  }
  return offset;
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

cumega_status parameter_read(cumega_context *ctx, const parameter *p, const char *name,
                             const DLTensor *tensor, double *values) {
  tensor_view view;
  char index[INDEX_TEXT];
  int64_t wrong = -1;
  fp_environment environment;
  TRY(tensor_view_make_host(ctx, name, tensor, TYPES_FLOAT, &view));
  TRY(check_shape(ctx, p, &view));
  fp_begin(&environment);
  for (int64_t i = 0; i < view.count; i++) {
    values[i] = tensor_element(&view, offset_of(&view, i));
    if (!isfinite(values[i]) && wrong < 0) wrong = i;
  }
  fp_end(&environment);
  if (wrong < 0) return CUMEGA_OK;
  write_index(&view, wrong, index);
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "%s is %g at %s, expected finite values", name,
                      values[wrong], index);
}

/* The file's tensor has to fit before it is read: a wrong file is a FORMAT error, not an ARGUMENT.
 */
static cumega_status check_entry(cumega_context *ctx, const parameter *p, const char *name,
                                 const cumega_weights_entry *entry) {
  if (entry == NULL)
    return context_fail(ctx, CUMEGA_ERROR_FORMAT, "the weight file has no tensor '%s'", name);
  if ((tensor_type_of(entry->dtype) & TYPES_FLOAT) == 0)
    return context_fail(ctx, CUMEGA_ERROR_FORMAT,
                        "the weight file's tensor '%s' is %s, expected F32, F16, BF16 or F64", name,
                        entry->dtype_name);
  tensor_view view = {.name = name, .ndim = entry->ndim};
  memcpy(view.shape, entry->shape, sizeof view.shape);
  return check_shape(ctx, p, &view) == CUMEGA_OK ? CUMEGA_OK : CUMEGA_ERROR_FORMAT;
}

cumega_status parameter_read_weights(cumega_context *ctx, const parameter *p,
                                     const cumega_weights *weights, const char *prefix,
                                     double *values) {
  char name[1024];
  size_t length = prefix != NULL ? strlen(prefix) : 0;
  const char *dot = length == 0 || prefix[length - 1] == '.' ? "" : ".";
  int written = snprintf(name, sizeof name, "%s%s%s", length > 0 ? prefix : "", dot, p->name);
  if (written >= (int)sizeof name)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "prefix has %zu characters, expected fewer than %zu", length,
                        sizeof name - 32);
  const cumega_weights_entry *entry = cumega_weights_find(weights, name);
  TRY(check_entry(ctx, p, name, entry));
  void *data;
  TRY(context_allocate(ctx, entry->bytes, name, &data));
  cumega_tensor tensor;
  cumega_tensor_init(&tensor, data, cumega_cpu, entry->dtype, entry->ndim, entry->shape);
  cumega_status status = cumega_weights_read(ctx, weights, entry, data, entry->bytes);
  if (status == CUMEGA_OK) status = parameter_read(ctx, p, name, &tensor.dl, values);
  memory_free(ctx->memory, data, entry->bytes);
  return status;
}

/* In our environment: the caller's may take a subnormal number for zero. */
cumega_status parameter_check_spread(cumega_context *ctx, const char *name, double value) {
  fp_environment environment;
  fp_begin(&environment);
  int fits = isfinite(value) && value >= 0;
  fp_end(&environment);
  if (fits) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "%s is %g, expected a finite number >= 0", name,
                      value);
}

cumega_status parameter_check_output(cumega_context *ctx, const parameter *p,
                                     const DLTensor *tensor, tensor_view *view) {
  TRY(tensor_view_make_host(ctx, p->name, tensor, TYPES_FLOAT, view));
  TRY(check_shape(ctx, p, view));
  return tensor_view_check_output(ctx, view);
}

void parameter_write(const tensor_view *view, const double *values) {
  fp_environment environment;
  fp_begin(&environment);
  for (int64_t i = 0; i < view->count; i++) tensor_set_element(view, offset_of(view, i), values[i]);
  fp_end(&environment);
}
