/* Tensor arguments, checked once. The rest of the library works with tensor_views: the data's
 * address with the byte offset applied, every stride present, and the range of addresses that the
 * tensor covers. */
#ifndef CUMEGA_SRC_TENSOR_VIEW_H
#define CUMEGA_SRC_TENSOR_VIEW_H

#include "call.h"
#include "tensor_index.h"
#include "tensor_type.h"

typedef struct tensor_view {
  const char *name;
  char *data; /* of element (0, ..., 0) */
  tensor_type type;
  int64_t element_bytes;
  int ndim;
  int64_t shape[CUMEGA_MAX_DIMS];
  int64_t strides[CUMEGA_MAX_DIMS]; /* in elements; 0 where the dimension has fewer than 2 */
  int64_t count;
  char *low, *high; /* the bytes low .. high - 1 hold every element; equal where there is none */
} tensor_view;

/* The type for a dtype; 0 where cumega does not know it. */
tensor_type tensor_type_of(DLDataType dtype);
const char *tensor_type_name(tensor_type type);
int64_t tensor_type_bytes(tensor_type type);

/* Checks everything that concerns one tensor alone: it is present, its type is one of `types`,
 * shape and strides are sane, extents fit 64 bits, its data is there, aligned to its element, and
 * in ctx's memory space. */
cumega_status tensor_view_make(cumega_context *ctx, const char *name, const DLTensor *tensor,
                               unsigned types, tensor_view *view);

/* The same for CPU memory on every device: create, set and get read and write such tensors. */
cumega_status tensor_view_make_host(cumega_context *ctx, const char *name, const DLTensor *tensor,
                                    unsigned types, tensor_view *view);

/* A vector of int32 or int64 as a backend reads it. */
tensor_index tensor_view_index(const tensor_view *view);

/* An index tensor (count) in ctx's memory space, int32 or int64. An absent one (NULL) leaves view
 * and index as they are. */
cumega_status tensor_view_make_index(cumega_context *ctx, const char *name, const DLTensor *tensor,
                                     const char *letters, int64_t count, tensor_view *view,
                                     tensor_index *index);

/* Checks the number of dimensions, before their sizes are used; letters as "(L, B, D)". */
cumega_status tensor_view_check_ndim(cumega_context *ctx, const tensor_view *view,
                                     const char *letters, int ndim);

/* The shape must be exactly this; letters as "(B, D, N)". */
cumega_status tensor_view_check_shape(cumega_context *ctx, const tensor_view *view,
                                      const char *letters, int ndim, const int64_t *shape);

/* Checks an output: no two indices name the same element. Its strides must nest, as those of
 * every view of a compact tensor do. */
cumega_status tensor_view_check_output(cumega_context *ctx, const tensor_view *view);

/* Checks that an output shares no byte with an input. Where may_alias is not 0, exactly the same
 * tensor passes. Interleaved views of one buffer are told apart; a pair that is too complicated
 * to decide counts as overlapping. */
cumega_status tensor_view_check_apart(cumega_context *ctx, const tensor_view *output,
                                      const tensor_view *input, int may_alias);

/* Same address, type, shape and strides. */
int tensor_view_same(const tensor_view *a, const tensor_view *b);

#endif
