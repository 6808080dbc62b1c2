/* Tensors that may be harmful, and memory that shows the harm. */
#include <stdlib.h>
#include "calls.h"

__extension__ typedef __int128 wide;

#define MOST_ELEMENTS (1 << 14) /* in one tensor: bounds a call's time */

DLDataType any_dtype(calls *c, DLDataType usual) {
  const DLDataType known[] = {cumega_float32, cumega_float16, cumega_bfloat16, cumega_float64,
                              cumega_bool,    cumega_uint8,   cumega_int32,    cumega_int64};
  int kind = input_byte(&c->in);
  if (kind < 220) return usual;
  if (kind < 248) return known[kind % 8];
  DLDataType any;
  any.code = (uint8_t)input_byte(&c->in);
  any.bits = (uint8_t)input_byte(&c->in);
  any.lanes = (uint16_t)input_byte(&c->in);
  return any;
}

static int64_t element_bytes(const DLTensor *t) {
  int64_t bytes = (t->dtype.bits + 7) / 8 * (int64_t)t->dtype.lanes;
  return bytes > 0 ? bytes : 1;
}

/* The distance of element (0, ..., 0) from the lowest and the highest byte, and whether the
 * contract refuses the tensor whatever its memory is. */
static int measure(const DLTensor *t, wide *below, wide *above, wide *elements, int *empty) {
  wide compact = 1;
  *below = *above = 0;
  *elements = 1;
  *empty = 0;
  if (t->ndim < 0 || t->ndim > CUMEGA_MAX_DIMS) return 1;
  if (t->ndim > 0 && t->shape == NULL) return 1;
  for (int i = 0; i < t->ndim; i++) {
    if (t->shape[i] < 0) return 1;
    *empty |= t->shape[i] == 0;
  }
  for (int i = t->ndim - 1; i >= 0; i--) {
    wide n = t->shape[i] > 0 ? t->shape[i] : 1;
    wide stride = t->strides != NULL ? t->strides[i] : compact;
    wide reach = (n - 1) * stride;
    if (reach > INT64_MAX || reach < -INT64_MAX) return 1;
    reach *= element_bytes(t);
    if (n > 1) *(reach < 0 ? below : above) += reach < 0 ? -reach : reach;
    compact *= n;
    if (compact > INT64_MAX || *below > INT64_MAX || *above > INT64_MAX) return 1;
  }
  *elements = compact;
  return t->data == NULL && !*empty;
}

static int lies_within(const DLTensor *t, const block *b, wide below, wide above) {
  wide first = (wide)(uintptr_t)t->data + (wide)t->byte_offset;
  if (first > UINTPTR_MAX) return 1; /* wraps: refused */
  wide base = (wide)(uintptr_t)b->base;
  return first - below >= base && first + above + element_bytes(t) <= base + b->bytes;
}

/* Fits a tensor that may be accepted into its block: moves it, then narrows it, then shrinks
 * it. */
static void fit(DLTensor *t, const block *b) {
  for (int attempt = 0; attempt < 5; attempt++) {
    wide below, above, elements;
    int empty;
    if (measure(t, &below, &above, &elements, &empty)) return;
    int huge = elements > MOST_ELEMENTS;
    if (empty && t->ndim > 0) huge = t->shape[0] > 0 && elements / t->shape[0] > MOST_ELEMENTS;
    if (!huge && (empty || lies_within(t, b, below, above))) return;
    if (attempt == 0 && !huge) {
      t->byte_offset = 0;
      t->data = b->base + (below <= b->bytes ? (int64_t)below : 0);
    } else if (attempt <= 1 && !huge && t->strides != NULL) {
      for (int i = 0; i < t->ndim; i++) t->strides[i] = 0;
    } else {
      t->strides = NULL;
      t->data = b->base;
      t->byte_offset = 0;
      for (int i = 0; i < t->ndim; i++) t->shape[i] = attempt < 4 ? t->shape[i] % 3 : 1;
    }
  }
  t->ndim = 0; /* a scalar fits in every block */
  t->dtype = cumega_uint8;
}

/* a + b * c modulo 2^64; INT64_MIN becomes 0. */
static int64_t add_product(int64_t a, int64_t b, int64_t c) {
  int64_t sum = (int64_t)((uint64_t)a + (uint64_t)b * (uint64_t)c);
  return sum == INT64_MIN ? 0 : sum;
}

/* Computed as a number, since the pointer may leave its memory. */
static void *moved(const void *pointer, int64_t bytes) {
  return (void *)((uintptr_t)pointer + (uintptr_t)bytes);
}

/* Row-major or not, with or without gaps, any dimension backwards. */
static void lay_out(calls *c, DLTensor *t) {
  int kind = input_byte(&c->in), order[CUMEGA_MAX_DIMS];
  int64_t step = 1, first = 0;
  if (kind < 80) {
    t->strides = NULL;
    return;
  }
  for (int i = 0; i < t->ndim; i++) order[i] = t->ndim - 1 - i;
  for (int i = t->ndim - 1; i > 0 && kind >= 120; i--) {
    int j = input_below(&c->in, i + 1), kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  for (int i = 0; i < t->ndim; i++) {
    int dimension = order[i], choice = input_byte(&c->in);
    int64_t n = t->shape[dimension] > 0 ? t->shape[dimension] : 1;
    t->strides[dimension] = step;
    if (choice >= 224) t->strides[dimension] = choice >= 240 ? 0 : -step;
    /* Any sizes; `fit` makes them fit. */
    if (t->strides[dimension] < 0) first = add_product(first, n - 1, step);
    step = add_product(choice >= 192 && choice < 224 ? choice % 8 : 0, step, n);
  }
  t->data = moved(t->data, add_product(0, first, element_bytes(t)));
}

static void do_harm(calls *c, DLTensor *t, int64_t *shape, int64_t *strides) {
  int i = t->ndim > 0 && t->ndim <= CUMEGA_MAX_DIMS ? input_below(&c->in, t->ndim) : 0;
  switch (input_below(&c->in, 12)) {
  case 0: t->data = NULL; break;
  case 1: t->shape = NULL; break;
  case 2: t->ndim = (int)input_number(&c->in); break;
  case 3:
  case 4: shape[i] = input_number(&c->in); break;
  case 5:
  case 6:
    t->strides = strides;
    strides[i] = input_number(&c->in);
    break;
  case 7: t->byte_offset = (uint64_t)input_number(&c->in); break;
  case 8: t->data = moved(t->data, input_below(&c->in, 16)); break;
  case 9:
    t->device.device_type = (DLDeviceType)input_below(&c->in, 16);
    t->device.device_id = input_below(&c->in, 4) == 3 ? (int)input_number(&c->in) : 0;
    break;
  case 10: t->dtype = any_dtype(c, t->dtype); break;
  default: /* the same memory as an earlier tensor of the call */
    if (c->tensor_count > 0) {
      const DLTensor *other = &c->tensors[input_below(&c->in, c->tensor_count)].dl;
      t->data = other->data;
      t->byte_offset = other->byte_offset;
    }
  }
}

static int is_of_memory(DLDevice claimed, DLDevice real) {
  if (real.device_type == kDLCPU)
    return claimed.device_type == kDLCPU || claimed.device_type == kDLCUDAHost;
  return claimed.device_type == kDLCUDA || claimed.device_type == kDLCUDAManaged;
}

static int64_t *exact_copy(const int64_t *from, int count) {
  int64_t *copy = malloc(count > 0 ? (size_t)count * sizeof *copy : 1);
  MUST(copy != NULL, "no memory");
  if (count > 0) memcpy(copy, from, (size_t)count * sizeof *copy);
  return copy;
}

/* The block among these that the data points into, or NULL. */
static const block *block_of(const block *blocks, const DLTensor *t) {
  uintptr_t data = (uintptr_t)t->data;
  for (int i = 0; i < CALLS_BLOCKS; i++) {
    uintptr_t base = (uintptr_t)blocks[i].base;
    if (data >= base && data < base + (uintptr_t)blocks[i].bytes) return &blocks[i];
  }
  return NULL;
}

/* Whether the library may accept it. If so, it lies within the block that it points into; if it
 * points elsewhere, as into the other memory space, it is moved to the block that it was made
 * for. */
static void make_bearable(DLTensor *t, DLDevice real, const block *blocks, const block *made_for) {
  const block *b = block_of(blocks, t);
  if (!is_of_memory(t->device, real)) return; /* refused for its device */
  if (b == NULL && t->data != NULL) t->data = made_for->base;
  fit(t, b != NULL ? b : made_for);
}

DLTensor *any_tensor(calls *c, const wanted *like, int is_output, int on_host) {
  int64_t shape[CUMEGA_MAX_DIMS], strides[CUMEGA_MAX_DIMS];
  int harm = input_byte(&c->in);
  if (harm >= 248 || c->tensor_count == CALL_TENSORS) return NULL;
  const block *blocks = on_host ? c->host : c->blocks;
  const block *b = blocks + input_below(&c->in, CALLS_BLOCKS);
  DLDevice real = on_host ? cumega_cpu : c->device;
  hostile *made = &c->tensors[c->tensor_count];
  DLTensor t = {.data = b->base, .device = real, .ndim = like->ndim, .shape = shape};
  t.dtype = any_dtype(c, like->dtype);
  memcpy(shape, like->shape, sizeof shape);
  memset(strides, 0, sizeof strides);
  t.strides = strides;
  lay_out(c, &t);
  if (t.strides == NULL && harm >= 160)
    for (int i = 0; i < t.ndim; i++) strides[i] = 1;
  for (int i = harm < 160 ? 0 : harm < 230 ? 1 : 2; i > 0; i--) do_harm(c, &t, shape, strides);
  make_bearable(&t, real, blocks, b);
  int dimensions = t.ndim < 0 || t.ndim > CUMEGA_MAX_DIMS ? 0 : t.ndim;
  if (t.shape != NULL) t.shape = exact_copy(shape, dimensions);
  if (t.strides != NULL) t.strides = exact_copy(strides, dimensions);
  *made = (hostile){t, is_output};
  if (!on_host && c->device.device_type != kDLCPU) c->uses_device = 1;
  c->tensor_count++;
  return &made->dl;
}

void *any_struct(calls *c, const void *given, size_t size, size_t smallest) {
  int kind = input_byte(&c->in);
  size_t claimed = size, held = size;
  if (kind >= 250 || c->struct_count == CALL_STRUCTS) return NULL;
  if (kind >= 240) { /* an absurd size */
    const size_t sizes[] = {0, 7, smallest - 1, size + 4097, SIZE_MAX, SIZE_MAX / 2};
    claimed = sizes[kind % 6];
    held = claimed > sizeof claimed && claimed < size ? claimed : sizeof claimed;
  } else if (kind >= 230) {
    claimed = held = size + (size_t)input_byte(&c->in) * 16; /* a newer header's */
  }
  char *made = malloc(held);
  MUST(made != NULL, "no memory");
  memset(made, 0, held);
  memcpy(made, given, held < size ? held : size);
  if (held > size && kind >= 238) made[held - 1] = 1;
  memcpy(made, &claimed, sizeof claimed);
  c->structs[c->struct_count++] = made;
  return made;
}

/* The bytes of the blocks that an output covers. */
static void own(const hostile *made, unsigned char *owned, const block *b) {
  const DLTensor *t = &made->dl;
  wide below, above, elements;
  int empty;
  if (!made->is_output || measure(t, &below, &above, &elements, &empty) || empty) return;
  if (!lies_within(t, b, below, above) || elements > MOST_ELEMENTS) return;
  int64_t index[CUMEGA_MAX_DIMS] = {0}, compact[CUMEGA_MAX_DIMS], step = 1;
  for (int i = t->ndim - 1; i >= 0; i--) {
    compact[i] = step;
    step *= t->shape[i];
  }
  const int64_t *strides = t->strides != NULL ? t->strides : compact;
  for (int64_t n = 0; n < (int64_t)elements; n++) {
    int64_t at = (int64_t)((uintptr_t)t->data + t->byte_offset - (uintptr_t)b->base);
    for (int i = 0; i < t->ndim; i++) at += index[i] * strides[i] * element_bytes(t);
    memset(owned + at, 1, (size_t)element_bytes(t));
    for (int i = t->ndim - 1; i >= 0 && ++index[i] == t->shape[i]; i--) index[i] = 0;
  }
}

static void check_block(calls *c, block *b, const char *now, int success) {
  if (memcmp(b->before, now, (size_t)b->bytes) == 0) return;
  MUST(success, "a call that failed has written");
  unsigned char *owned = calloc(1, (size_t)b->bytes);
  MUST(owned != NULL, "no memory");
  for (int i = 0; i < c->tensor_count; i++) own(&c->tensors[i], owned, b);
  for (int64_t i = 0; i < b->bytes; i++)
    MUST(owned[i] || b->before[i] == now[i], "byte %lld of a block of %lld is no output's",
         (long long)i, (long long)b->bytes);
  memcpy(b->before, now, (size_t)b->bytes);
  free(owned);
}

/* The device's blocks are fetched only if the call was given one of them. */
static void check_blocks(calls *c, int success) {
  static char copy[1 << 14];
  for (int i = 0; i < CALLS_BLOCKS; i++) check_block(c, &c->host[i], c->host[i].base, success);
  for (int i = 0; i < CALLS_BLOCKS && c->uses_device; i++) {
    block *b = &c->blocks[i];
    cumega_context *ctx = calls_device_context();
    MUST(b->bytes <= (int64_t)sizeof copy, "a block is too large");
    MUST(cumega_memory_read(ctx, copy, b->base, b->bytes) == CUMEGA_OK, "%s",
         cumega_context_message(ctx));
    check_block(c, b, copy, success);
  }
}

void call_begin(calls *c) {
  c->tensor_count = c->struct_count = c->uses_device = 0;
}

void call_end(calls *c, const cumega_context *ctx, cumega_status status) {
  check_message(ctx, status);
  if (ctx != NULL && c->device.device_type != kDLCPU) {
    cumega_status finished = cumega_context_synchronize((cumega_context *)(uintptr_t)ctx);
    MUST(finished == CUMEGA_OK, "%s", cumega_context_message(ctx));
  }
  check_blocks(c, status == CUMEGA_OK);
  for (int i = 0; i < c->tensor_count; i++) {
    free(c->tensors[i].dl.shape);
    free(c->tensors[i].dl.strides);
  }
  for (int i = 0; i < c->struct_count; i++) free(c->structs[i]);
}
