/* Checks of tensor arguments. Every sentence names the tensor, what it was, and what was expected.
 */
#include <stdio.h>
#include "tensor_view.h"

static const struct {
  tensor_type type;
  const char *name;
  uint8_t code, bits;
} types_known[] = {
    {TYPE_FLOAT32, "float32", kDLFloat, 32},
    {TYPE_FLOAT16, "float16", kDLFloat, 16},
    {TYPE_BFLOAT16, "bfloat16", kDLBfloat, 16},
    {TYPE_FLOAT64, "float64", kDLFloat, 64},
    {TYPE_BOOL, "bool", CUMEGA_DTYPE_CODE_BOOL, 8},
    {TYPE_UINT8, "uint8", kDLUInt, 8},
    {TYPE_INT32, "int32", kDLInt, 32},
    {TYPE_INT64, "int64", kDLInt, 64},
};
#define TYPE_COUNT (sizeof types_known / sizeof *types_known)

tensor_type tensor_type_of(DLDataType dtype) {
  for (size_t i = 0; i < TYPE_COUNT; i++)
    if (dtype.code == types_known[i].code && dtype.bits == types_known[i].bits)
      return types_known[i].type;
  return (tensor_type)0;
}

const char *tensor_type_name(tensor_type type) {
  size_t i = 0;
  while (types_known[i].type != type) i++;
  return types_known[i].name;
}

int64_t tensor_type_bytes(tensor_type type) {
  for (size_t i = 0; i < TYPE_COUNT; i++)
    if (types_known[i].type == type) return types_known[i].bits / 8;
  return 0;
}

/* "float32, float16 or bfloat16" */
static void name_types(unsigned types, char *text, size_t size) {
  size_t used = 0;
  text[0] = 0;
  for (size_t i = 0; i < TYPE_COUNT; i++) {
    if (!(types & types_known[i].type)) continue;
    types &= ~(unsigned)types_known[i].type;
    const char *joint = used == 0 ? "" : types != 0 ? ", " : " or ";
    used += (size_t)snprintf(text + used, size - used, "%s%s", joint, types_known[i].name);
  }
}

/* "(3, 4)" */
static void name_shape(int ndim, const int64_t *shape, char *text, size_t size) {
  size_t used = (size_t)snprintf(text, size, "(");
  for (int i = 0; i < ndim; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%lld", i == 0 ? "" : ", ",
                             (long long)shape[i]);
  snprintf(text + used, size - used, ")");
}

#define SHAPE_TEXT (CUMEGA_MAX_DIMS * 22 + 3)

static cumega_status check_type(cumega_context *ctx, const char *name, DLDataType dtype,
                                unsigned types, tensor_view *view) {
  view->type = tensor_type_of(dtype);
  view->element_bytes = tensor_type_bytes(view->type);
  if ((view->type & types) != 0 && dtype.lanes == 1) return CUMEGA_OK;
  char expected[160];
  name_types(types, expected, sizeof expected);
  if (dtype.lanes != 1)
    return call_fail_argument(ctx, "%s has a dtype of %d lanes, expected 1", name,
                              (int)dtype.lanes);
  if (view->type == 0)
    return call_fail_argument(ctx, "%s has a dtype of code %d with %d bits, expected %s", name,
                              (int)dtype.code, (int)dtype.bits, expected);
  return call_fail_argument(ctx, "%s is %s, expected %s", name, tensor_type_name(view->type),
                            expected);
}

/* A sentence about a shape. */
static cumega_status fail_shape(cumega_context *ctx, const DLTensor *tensor, const char *name,
                                const char *what) {
  char text[SHAPE_TEXT];
  name_shape(tensor->ndim, tensor->shape, text, sizeof text);
  return call_fail_argument(ctx, "%s has shape %s: %s", name, text, what);
}

/* Fills shape, strides and count. */
static cumega_status check_shape(cumega_context *ctx, const DLTensor *tensor, tensor_view *view) {
  int64_t compact = 1;
  int overflow = 0, empty = 0;
  for (int i = view->ndim - 1; i >= 0; i--) {
    int64_t n = tensor->shape[i];
    if (n < 0) return fail_shape(ctx, tensor, view->name, "a dimension is negative");
    view->shape[i] = n;
    view->strides[i] = n < 2 ? 0 : tensor->strides ? tensor->strides[i] : compact;
    overflow |= __builtin_mul_overflow(compact, n > 0 ? n : 1, &compact);
    empty |= n == 0;
  }
  if (overflow) return fail_shape(ctx, tensor, view->name, "more elements than 63 bits can count");
  view->count = empty ? 0 : compact;
  return CUMEGA_OK;
}

/* The bytes that the tensor covers below and above the element that data points to; together they
 * fit 63 bits. */
static cumega_status check_extent(cumega_context *ctx, const DLTensor *tensor,
                                  const tensor_view *view, int64_t *below, int64_t *above) {
  int overflow = 0;
  *below = *above = 0;
  for (int i = 0; i < view->ndim && view->count != 0; i++) {
    int64_t reach, stride = view->strides[i], *side = stride < 0 ? below : above;
    overflow |= __builtin_mul_overflow(view->shape[i] - 1, stride, &reach);
    overflow |= __builtin_mul_overflow(
        reach, stride < 0 ? -view->element_bytes : view->element_bytes, &reach);
    overflow |= __builtin_add_overflow(*side, reach, side);
  }
  int64_t whole;
  overflow |= __builtin_add_overflow(*below, *above, &whole);
  overflow |= __builtin_add_overflow(whole, view->element_bytes, &whole);
  if (!overflow) return CUMEGA_OK;
  return fail_shape(ctx, tensor, view->name, "its strides reach further than 63 bits can address");
}

static cumega_status check_address(cumega_context *ctx, const DLTensor *tensor, tensor_view *view,
                                   int64_t below, int64_t above) {
  uintptr_t address = (uintptr_t)tensor->data;
  if (tensor->data == NULL) {
    if (view->count == 0) return CUMEGA_OK;
    return call_fail_argument(ctx, "%s has %lld elements, but its data is NULL", view->name,
                              (long long)view->count);
  }
  int wraps = __builtin_add_overflow(address, tensor->byte_offset, &address);
  wraps |= view->count != 0 &&
           (address < (uint64_t)below ||
            UINTPTR_MAX - address < (uint64_t)above + (uint64_t)view->element_bytes);
  if (wraps)
    return call_fail_argument(ctx,
                              "%s reaches outside the address space: data %p, byte_offset %llu",
                              view->name, tensor->data, (unsigned long long)tensor->byte_offset);
  if (view->count != 0 && address % (uintptr_t)view->element_bytes != 0)
    return call_fail_argument(ctx,
                              "%s is at address %p, expected a multiple of its element's %d bytes",
                              view->name, (void *)address, (int)view->element_bytes);
  view->data = (char *)address;
  view->low = view->data - below;
  view->high = view->count == 0 ? view->low : view->data + above + view->element_bytes;
  return CUMEGA_OK;
}

static cumega_status make(cumega_context *ctx, const char *name, const DLTensor *tensor,
                          unsigned types, tensor_view *view) {
  int64_t below, above;
  memset(view, 0, sizeof *view);
  view->name = name;
  view->ndim = tensor->ndim;
  if (tensor->ndim < 0 || tensor->ndim > CUMEGA_MAX_DIMS)
    return call_fail_argument(ctx, "%s has %d dimensions, expected 0 to %d", name,
                              (int)tensor->ndim, CUMEGA_MAX_DIMS);
  if (tensor->ndim > 0 && tensor->shape == NULL)
    return call_fail_argument(ctx, "%s has %d dimensions, but its shape is NULL", name,
                              (int)tensor->ndim);
  TRY(check_type(ctx, name, tensor->dtype, types, view));
  TRY(check_shape(ctx, tensor, view));
  TRY(check_extent(ctx, tensor, view, &below, &above));
  return check_address(ctx, tensor, view, below, above);
}

static cumega_status check_present(cumega_context *ctx, const char *name, const DLTensor *tensor) {
  if (tensor != NULL) return CUMEGA_OK;
  return call_fail_argument(ctx, "%s is NULL, expected a tensor", name);
}

cumega_status tensor_view_make(cumega_context *ctx, const char *name, const DLTensor *tensor,
                               unsigned types, tensor_view *view) {
  if (ctx->device.device_type == kDLCPU)
    return tensor_view_make_host(ctx, name, tensor, types, view);
  TRY(check_present(ctx, name, tensor));
  int on_device =
      tensor->device.device_type == kDLCUDA || tensor->device.device_type == kDLCUDAManaged;
  if (!on_device || tensor->device.device_id != ctx->device.device_id)
    return call_fail_argument(ctx,
                              "%s is on device (%d, %d), expected the context's CUDA device %d",
                              name, (int)tensor->device.device_type, (int)tensor->device.device_id,
                              (int)ctx->device.device_id);
  return make(ctx, name, tensor, types, view);
}

cumega_status tensor_view_make_host(cumega_context *ctx, const char *name, const DLTensor *tensor,
                                    unsigned types, tensor_view *view) {
  TRY(check_present(ctx, name, tensor));
  if (tensor->device.device_type != kDLCPU && tensor->device.device_type != kDLCUDAHost)
    return call_fail_argument(
        ctx, "%s is on device (%d, %d), expected CPU memory (kDLCPU or kDLCUDAHost)", name,
        (int)tensor->device.device_type, (int)tensor->device.device_id);
  return make(ctx, name, tensor, types, view);
}

cumega_status tensor_view_check_ndim(cumega_context *ctx, const tensor_view *view,
                                     const char *letters, int ndim) {
  if (view->ndim == ndim) return CUMEGA_OK;
  char have[SHAPE_TEXT];
  name_shape(view->ndim, view->shape, have, sizeof have);
  return call_fail_argument(ctx, "%s has shape %s, expected %d dimensions, %s", view->name, have,
                            ndim, letters);
}

cumega_status tensor_view_check_shape(cumega_context *ctx, const tensor_view *view,
                                      const char *letters, int ndim, const int64_t *shape) {
  if (view->ndim == ndim && memcmp(view->shape, shape, (size_t)ndim * sizeof *shape) == 0)
    return CUMEGA_OK;
  char have[SHAPE_TEXT], want[SHAPE_TEXT];
  name_shape(view->ndim, view->shape, have, sizeof have);
  name_shape(ndim, shape, want, sizeof want);
  return call_fail_argument(ctx, "%s has shape %s, expected %s = %s", view->name, have, letters,
                            want);
}

tensor_index tensor_view_index(const tensor_view *view) {
  return (tensor_index){.data = view->data, /* NULL only where there is nothing to read */
                        .stride = view->strides[0],
                        .is_int64 = view->type == TYPE_INT64};
}

cumega_status tensor_view_make_index(cumega_context *ctx, const char *name, const DLTensor *tensor,
                                     const char *letters, int64_t count, tensor_view *view,
                                     tensor_index *index) {
  if (tensor == NULL) return CUMEGA_OK;
  TRY(tensor_view_make(ctx, name, tensor, TYPES_INDEX, view));
  TRY(tensor_view_check_shape(ctx, view, letters, 1, &count));
  *index = tensor_view_index(view);
  return CUMEGA_OK;
}

int tensor_view_same(const tensor_view *a, const tensor_view *b) {
  return a->data == b->data && a->type == b->type && a->ndim == b->ndim &&
         memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0 &&
         memcmp(a->strides, b->strides, (size_t)a->ndim * sizeof *a->strides) == 0;
}
