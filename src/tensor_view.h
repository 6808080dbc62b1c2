/* Tensor arguments, checked once. A tensor_view is what the rest of the library works with: the
 * data's address with the byte offset applied, every stride present, and the range of addresses it
 * covers. */
#ifndef CUMEGA_SRC_TENSOR_VIEW_H
#define CUMEGA_SRC_TENSOR_VIEW_H

#include "context.h"
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

/* A dtype that cumega knows; 0 where it is none of them. */
tensor_type tensor_type_of(DLDataType dtype);
const char *tensor_type_name(tensor_type type);
int64_t tensor_type_bytes(tensor_type type);

/* Everything that can be said of one tensor alone: present, a type out of `types`, sane shape and
 * strides, extents that fit 64 bits, data there and aligned to its element, and in ctx's memory
 * space. */
cumega_status tensor_view_make(cumega_context *ctx, const char *name, const DLTensor *tensor,
                               unsigned types, tensor_view *view);

/* The same for CPU memory, whatever ctx's device: what create, set and get read and write. */
cumega_status tensor_view_make_host(cumega_context *ctx, const char *name, const DLTensor *tensor,
                                    unsigned types, tensor_view *view);

/* A vector of int32 or int64 as a backend reads it. */
tensor_index tensor_view_index(const tensor_view *view);

/* An index tensor (count) in ctx's memory space, int32 or int64. An absent one (NULL) leaves view and
 * index as they are. */
cumega_status tensor_view_make_index(cumega_context *ctx, const char *name, const DLTensor *tensor,
                                     const char *letters, int64_t count, tensor_view *view,
                                     tensor_index *index);

/* So many dimensions, before their sizes can be spoken of; letters as "(L, B, D)". */
cumega_status tensor_view_check_ndim(cumega_context *ctx, const tensor_view *view,
                                     const char *letters, int ndim);

/* The shape must be exactly this; letters as "(B, D, N)". */
cumega_status tensor_view_check_shape(cumega_context *ctx, const tensor_view *view,
                                      const char *letters, int ndim, const int64_t *shape);

/* An output: no two indices name one element. Strides must nest, as those of every view of a
 * compact tensor do. */
cumega_status tensor_view_check_output(cumega_context *ctx, const tensor_view *view);

/* An output shares no byte with an input. Exactly the same tensor passes where may_alias is not 0.
 * Interleaved views of one buffer are told apart; a pair too tangled to decide counts as
 * overlapping. */
cumega_status tensor_view_check_apart(cumega_context *ctx, const tensor_view *output,
                                      const tensor_view *input, int may_alias);

/* Same address, type, shape and strides. */
int tensor_view_same(const tensor_view *a, const tensor_view *b);

#endif
