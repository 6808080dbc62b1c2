/* Descriptions of memory: shapes and strides only, no element is ever touched here. */
#include <string.h>
#include <cumega/tensor.h>

/* Row-major strides. A dimension of 0 counts as 1, as in PyTorch, so that an empty tensor's
 * strides stay those of its neighbours. Returns 0 where a dimension is negative or the number of
 * elements does not fit in 64 bits: no memory could hold such a tensor, and every offset into one
 * that passes can be computed without a check. */
static int compact_strides(int ndim, const int64_t *shape, int64_t *strides) {
  int64_t elements = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    if (shape[i] < 0) return 0;
    strides[i] = elements;
    if (shape[i] > 0 && __builtin_mul_overflow(elements, shape[i], &elements)) return 0;
  }
  return 1;
}

static int is_permutation(int ndim, const int *order) {
  unsigned seen = 0;
  for (int i = 0; i < ndim; i++) {
    if (order[i] < 0 || order[i] >= ndim) return 0;
    seen |= 1u << order[i];
  }
  return seen == (1u << ndim) - 1;
}

DLTensor *cumega_tensor_init(cumega_tensor *tensor, void *data, DLDevice device, DLDataType dtype,
                             int ndim, const int64_t *shape) {
  if (!tensor || ndim < 0 || ndim > CUMEGA_MAX_DIMS || (ndim > 0 && !shape)) return NULL;
  int64_t strides[CUMEGA_MAX_DIMS] = {0};
  if (!compact_strides(ndim, shape, strides)) return NULL;
  memset(tensor, 0, sizeof *tensor);
  for (int i = 0; i < ndim; i++) {
    tensor->shape[i] = shape[i];
    tensor->strides[i] = strides[i];
  }
  tensor->dl.data = data;
  tensor->dl.device = device;
  tensor->dl.dtype = dtype;
  tensor->dl.ndim = ndim;
  tensor->dl.shape = tensor->shape;
  tensor->dl.strides = tensor->strides;
  return &tensor->dl;
}

DLTensor *cumega_tensor_permute(cumega_tensor *view, const DLTensor *source, const int *order) {
  if (!view || !source || !order || source == &view->dl) return NULL;
  if (source->ndim < 0 || source->ndim > CUMEGA_MAX_DIMS) return NULL;
  if (source->ndim > 0 && !source->shape) return NULL;
  if (!is_permutation(source->ndim, order)) return NULL;
  int64_t compact[CUMEGA_MAX_DIMS];
  const int64_t *strides = source->strides;
  if (!strides) {
    if (!compact_strides(source->ndim, source->shape, compact)) return NULL;
    strides = compact;
  }
  memset(view, 0, sizeof *view);
  view->dl = *source;
  for (int i = 0; i < source->ndim; i++) {
    view->shape[i] = source->shape[order[i]];
    view->strides[i] = strides[order[i]];
  }
  view->dl.shape = view->shape;
  view->dl.strides = view->strides;
  return &view->dl;
}
