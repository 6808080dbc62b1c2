#include "harness.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 64

void *memory_new(int64_t bytes) {
  void *memory = calloc(bytes > 0 ? (size_t)bytes : 1, 1);
  if (memory == NULL) abort();
  return memory;
}

uint64_t random_bits(uint64_t *seed) {
  uint64_t z = *seed += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

int64_t random_below(uint64_t *seed, int64_t bound) {
  return (int64_t)(random_bits(seed) % (uint64_t)bound);
}

uint64_t number_from(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

double random_unit(uint64_t *seed) {
  return ldexp((double)(random_bits(seed) >> 11), -53);
}

double random_noise(uint64_t *seed) {
  double sum = -6.0;
  for (int i = 0; i < 12; i++) sum += ldexp((double)(random_bits(seed) >> 40), -24);
  return sum;
}

/* A binary format: its significant bits, and the exponent of its smallest normal number. */
typedef struct format {
  int digits, least, greatest;
} format;

static format format_of(DLDataType dtype) {
  if (dtype.code == kDLBfloat) return (format){8, -126, 127};
  if (dtype.bits == 16) return (format){11, -14, 15};
  return dtype.bits == 32 ? (format){24, -126, 127} : (format){53, -1022, 1023};
}

/* The exponent of the unit in the last place at value. */
static int unit_exponent(format f, double value) {
  int exponent = f.least;
  if (value != 0.0) exponent = ilogb(value);
  return (exponent < f.least ? f.least : exponent) - (f.digits - 1);
}

double number_round(DLDataType dtype, double value) {
  if (dtype.bits == 64 || !isfinite(value)) return value;
  format f = format_of(dtype);
  int unit = unit_exponent(f, value);
  double rounded = ldexp(nearbyint(ldexp(value, -unit)), unit);
  return fabs(rounded) >= ldexp(1.0, f.greatest + 1) ? copysign(INFINITY, value) : rounded;
}

double number_rounding(DLDataType dtype, double value) {
  return isfinite(value) ? ldexp(0.5, unit_exponent(format_of(dtype), value)) : 0.0;
}

const char *number_name(DLDataType dtype) {
  if (dtype.code == kDLBfloat) return "bfloat16";
  return dtype.bits == 16 ? "float16" : dtype.bits == 32 ? "float32" : "float64";
}

int same_type(DLDataType a, DLDataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

/* 16-bit formats: sign, exponent and fraction, as in IEEE 754. */
static uint16_t encode_16(format f, double value) {
  uint16_t sign = signbit(value) ? 0x8000 : 0;
  int fraction_bits = f.digits - 1;
  uint16_t infinity = (uint16_t)(0x7FFF >> fraction_bits << fraction_bits);
  if (isnan(value)) return (uint16_t)(infinity | 1u << (fraction_bits - 1));
  if (isinf(value)) return sign | infinity;
  uint16_t magnitude = (uint16_t)ldexp(fabs(value), -unit_exponent(f, value));
  if (fabs(value) >= ldexp(1.0, f.least))
    magnitude = (uint16_t)(magnitude + ((ilogb(value) - f.least) << fraction_bits));
  return sign | magnitude;
}

static double decode_16(format f, uint16_t bits) {
  int fraction_bits = f.digits - 1;
  int exponent = (bits & 0x7FFF) >> fraction_bits;
  double fraction = bits & ((1 << fraction_bits) - 1);
  double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == f.greatest - f.least + 2) return fraction != 0.0 ? NAN : sign * INFINITY;
  if (exponent != 0) fraction += 1 << fraction_bits;
  return sign * ldexp(fraction, f.least - fraction_bits + (exponent > 0 ? exponent - 1 : 0));
}

static int is_floating(DLDataType dtype) {
  return dtype.code == kDLFloat || dtype.code == kDLBfloat;
}

static double load(DLDataType dtype, const void *place) {
  if (!is_floating(dtype)) {
    int64_t wide = 0;
    int32_t narrow = 0;
    if (dtype.bits == 64) return memcpy(&wide, place, 8), (double)wide;
    if (dtype.bits == 32) return memcpy(&narrow, place, 4), (double)narrow;
    return *(const uint8_t *)place;
  }
  uint16_t half;
  float single;
  double wide;
  if (dtype.bits == 16) return memcpy(&half, place, 2), decode_16(format_of(dtype), half);
  if (dtype.bits == 32) return memcpy(&single, place, 4), (double)single;
  return memcpy(&wide, place, 8), wide;
}

static void store(DLDataType dtype, void *place, double value) {
  if (!is_floating(dtype)) {
    int64_t whole = (int64_t)value; /* little-endian: the low bytes come first */
    memcpy(place, &whole, dtype.bits / 8);
    return;
  }
  double rounded = number_round(dtype, value);
  uint16_t half = dtype.bits == 16 ? encode_16(format_of(dtype), rounded) : 0;
  float single = (float)rounded;
  if (dtype.bits == 16) memcpy(place, &half, 2);
  if (dtype.bits == 32) memcpy(place, &single, 4);
  if (dtype.bits == 64) memcpy(place, &rounded, 8);
}

/* Computes the layout's strides. Returns how many elements the memory needs; *first is the
 * position of element 0. */
static int64_t lay_out(cumega_tensor *view, const test_layout *layout, int64_t *first) {
  int ndim = view->dl.ndim;
  int64_t step = 1;
  *first = 0;
  for (int i = ndim - 1; i >= 0; i--) {
    int dim = layout->ordered ? layout->order[i] : i;
    int64_t count = view->shape[dim];
    view->strides[dim] = step;
    if (layout->repeated >> dim & 1) {
      view->strides[dim] = 0;
      continue;
    }
    if ((layout->reversed >> dim & 1) && count > 0) {
      *first += (count - 1) * step;
      view->strides[dim] = -step;
    }
    step = step * (count > 0 ? count : 1) + layout->gap[i];
  }
  return step;
}

/* Visits all elements and marks their bytes. */
static void mark_owned(test_tensor *tensor) {
  int64_t sizes[4] = {1, 1, 1, 1};
  size_t bytes = tensor->view.dl.dtype.bits / 8;
  for (int i = 0; i < tensor->view.dl.ndim; i++) sizes[i] = tensor->view.shape[i];
  for (int64_t i = 0; i < sizes[0]; i++)
    for (int64_t j = 0; j < sizes[1]; j++)
      for (int64_t k = 0; k < sizes[2]; k++)
        for (int64_t l = 0; l < sizes[3]; l++) {
          unsigned char *place = tensor_at_4(tensor, i, j, k, l);
          memset(tensor->owned + (place - tensor->block), 1, bytes);
        }
}

test_tensor *tensor_new(DLDataType dtype, int ndim, const int64_t *shape,
                        const test_layout *layout) {
  static const test_layout compact;
  if (layout == NULL) layout = &compact;
  ck_assert_int_le(ndim, 4);
  test_tensor *tensor = memory_new(sizeof *tensor);
  cumega_tensor *view = &tensor->view;
  ck_assert_ptr_nonnull(cumega_tensor_init(view, NULL, cumega_cpu, dtype, ndim, shape));
  view->dl.strides = view->strides;
  int64_t first, bytes = dtype.bits / 8;
  int64_t elements = lay_out(view, layout, &first);
  tensor->block_bytes = 2 * GUARD + (elements + layout->shift) * bytes;
  tensor->block = aligned_alloc(GUARD, (size_t)((tensor->block_bytes + GUARD - 1) & -GUARD));
  if (tensor->block == NULL) abort();
  memset(tensor->block, 0xFF, (size_t)tensor->block_bytes);
  tensor->owned = memory_new(tensor->block_bytes);
  unsigned char *start = tensor->block + GUARD;
  view->dl.data = layout->by_offset ? start : start + layout->shift * bytes;
  view->dl.byte_offset = layout->by_offset ? (uint64_t)(layout->shift * bytes) : 0;
  view->dl.data = (unsigned char *)view->dl.data + first * bytes;
  mark_owned(tensor);
  return tensor;
}

void tensor_free(test_tensor *tensor) {
  if (tensor == NULL) return;
  free(tensor->block);
  free(tensor->owned);
  free(tensor->copy);
  free(tensor);
}

void *tensor_at(const test_tensor *tensor, int64_t i, int64_t j, int64_t k) {
  const int64_t *strides = tensor->view.strides;
  int ndim = tensor->view.dl.ndim;
  int64_t element = (ndim > 0 ? i * strides[0] : 0) + (ndim > 1 ? j * strides[1] : 0) +
                    (ndim > 2 ? k * strides[2] : 0);
  unsigned char *start = (unsigned char *)tensor->view.dl.data + tensor->view.dl.byte_offset;
  return start + element * (tensor->view.dl.dtype.bits / 8);
}

void *tensor_at_4(const test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l) {
  const int64_t stride = tensor->view.dl.ndim > 3 ? tensor->view.strides[3] : 0;
  return (unsigned char *)tensor_at(tensor, i, j, k) +
         l * stride * (tensor->view.dl.dtype.bits / 8);
}

double tensor_get(const test_tensor *tensor, int64_t i, int64_t j, int64_t k) {
  return load(tensor->view.dl.dtype, tensor_at(tensor, i, j, k));
}

void tensor_set(test_tensor *tensor, int64_t i, int64_t j, int64_t k, double value) {
  store(tensor->view.dl.dtype, tensor_at(tensor, i, j, k), value);
}

uint64_t tensor_bits(const test_tensor *tensor, int64_t i, int64_t j, int64_t k) {
  return tensor_bits_4(tensor, i, j, k, 0);
}

double tensor_get_4(const test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l) {
  return load(tensor->view.dl.dtype, tensor_at_4(tensor, i, j, k, l));
}

void tensor_set_4(test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l, double value) {
  store(tensor->view.dl.dtype, tensor_at_4(tensor, i, j, k, l), value);
}

uint64_t tensor_bits_4(const test_tensor *tensor, int64_t i, int64_t j, int64_t k, int64_t l) {
  if (isnan(tensor_get_4(tensor, i, j, k, l))) return UINT64_MAX;
  uint64_t bits = 0;
  memcpy(&bits, tensor_at_4(tensor, i, j, k, l), tensor->view.dl.dtype.bits / 8);
  return bits;
}

int tensor_gaps_hold(const test_tensor *tensor) {
  for (int64_t i = 0; i < tensor->block_bytes; i++)
    if (!tensor->owned[i] && tensor->block[i] != 0xFF) return 0;
  return 1;
}

void tensor_remember(test_tensor *tensor) {
  if (tensor->copy == NULL) tensor->copy = memory_new(tensor->block_bytes);
  memcpy(tensor->copy, tensor->block, (size_t)tensor->block_bytes);
}

int tensor_unchanged(const test_tensor *tensor) {
  return memcmp(tensor->copy, tensor->block, (size_t)tensor->block_bytes) == 0;
}

test_tensor *tensor_new_1(DLDataType dtype, int64_t a) {
  return tensor_new(dtype, 1, &a, NULL);
}

test_tensor *tensor_new_2(DLDataType dtype, int64_t a, int64_t b) {
  return tensor_new(dtype, 2, (int64_t[]){a, b}, NULL);
}

test_tensor *tensor_new_3(DLDataType dtype, int64_t a, int64_t b, int64_t c) {
  return tensor_new(dtype, 3, (int64_t[]){a, b, c}, NULL);
}

test_tensor *tensor_of_int64(int64_t count, const int64_t *values) {
  test_tensor *tensor = tensor_new_1(cumega_int64, count);
  for (int64_t i = 0; i < count; i++) memcpy(tensor_at(tensor, i, 0, 0), &values[i], 8);
  return tensor;
}

/* Restores the caller's CUMEGA_CPU afterwards, since it may be set to run the suites at one
 * level. */
cumega_context *context_of_level(const char *level, int threads) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.threads = threads;
  const char *found = getenv("CUMEGA_CPU");
  char *before = found != NULL ? strdup(found) : NULL;
  if (level != NULL) setenv("CUMEGA_CPU", level, 1);
  cumega_context *ctx = NULL;
  cumega_status status = cumega_context_create(&options, &ctx);
  if (level != NULL) unsetenv("CUMEGA_CPU");
  if (before != NULL) setenv("CUMEGA_CPU", before, 1);
  free(before);
  const char *sentence = cumega_context_message(NULL);
  if (status == CUMEGA_ERROR_UNSUPPORTED && level != NULL)
    printf("CPU level %s is lacking here: %s\n", level, sentence);
  else
    ck_assert_msg(status == CUMEGA_OK, "%s", sentence);
  return ctx;
}

cumega_context *context_new(void) {
  cumega_context *ctx = NULL;
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.device = device_of_tests();
  if (device_is_cuda())
    ck_assert_msg(cumega_context_create(&options, &ctx) == CUMEGA_OK, "%s",
                  cumega_context_message(NULL));
  else
    ctx = context_of_level(NULL, 1);
  ck_assert_ptr_nonnull(ctx);
  return ctx;
}

int64_t bytes_held(cumega_context *ctx) {
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  MUST(ctx, cumega_context_statistics(ctx, &statistics));
  return statistics.bytes_held;
}
