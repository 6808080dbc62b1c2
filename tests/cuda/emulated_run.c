#include "emulated_run.h"
#include <string.h>

#define PATTERN 0x5A

#define F32                                                                                       \
  { kDLFloat, 32, 1 }
#define F64                                                                                       \
  { kDLFloat, 64, 1 }
#define F16                                                                                       \
  { kDLFloat, 16, 1 }
#define B16                                                                                       \
  { kDLBfloat, 16, 1 }

#define SCRATCH "cumega_context_reserve"

const run_shape run_shapes[] = {
    {"lanes", &ema_operation, "ema_lanes_kernel<4", .ema = {33, 2, 32, 4, F32, F32}},
    {"lanes, packed, pools", &ema_operation, "ema_lanes_kernel<2",
     .ema = {19, 3, 8, 2, F32, F32, 1, 1}},
    {"lanes, bfloat16", &ema_operation, "ema_lanes_kernel<8", .ema = {17, 2, 8, 8, B16, F32}},
    {"plain", &ema_operation, "ema_recurrent_kernel<float,4>", .ema = {5, 3, 7, 3, F32, F32}},
    {"plain, packed, pools", &ema_operation, "ema_recurrent_kernel<float,2>",
     .ema = {5, 3, 7, 2, F16, F32, 1, 1}},
    {"plain, masked", &ema_operation, "ema_recurrent_kernel<float,4>",
     .ema = {6, 2, 5, 4, F32, F32, .masked = 1}},
    {"float64", &ema_operation, "ema_recurrent_kernel<double,8>",
     .ema = {4, 2, 5, 5, F64, F64, .pooled = 1}},
    {"float64 states", &ema_operation, "ema_recurrent_kernel<double,1>",
     .ema = {4, 2, 5, 1, F32, F64}},
    {"truncated", &ema_operation, "ema_recurrent_kernel<float,2>",
     .ema = {9, 2, 5, 2, F32, F32, .truncation = 3, .stateless = 1}},
    {"many heads", &ema_operation, "ema_many_heads_kernel<float>", SCRATCH,
     .ema = {3, 2, 5, 17, F32, F32, .pooled = 1}},
    {"many heads, float64", &ema_operation, "ema_many_heads_kernel<double>", SCRATCH,
     .ema = {2, 2, 3, 20, F64, F64, 1}},
    {"sliced", &ema_operation, "ema_sliced_check", SCRATCH, .steps_show = 1,
     .ema = {300, 1, 6, 2, F32, F32, .algorithm = CUMEGA_EMA_SLICED}},
    {"chunked", &ema_operation, "ema_chunked", SCRATCH, .own_bits = 1, .steps_show = 1,
     .ema = {130, 2, 5, 2, F32, F32, .algorithm = CUMEGA_EMA_CHUNKED}},
    {"fft", &ema_operation, "ema_fft_multiply_kernel", "cumega_ema_prepare", .own_bits = 1,
     .ema = {20, 2, 3, 2, F32, F32, .algorithm = CUMEGA_EMA_FFT, .stateless = 1}},
    {"step", &ema_operation, "ema_recurrent_kernel<float,4>",
     .ema = {0, 3, 9, 4, F32, F32, .pooled = 1}},
    {"step, many heads", &ema_operation, "ema_many_heads_kernel<float>", SCRATCH,
     .ema = {0, 2, 3, 18, F32, F32}},

    {"matrix, relative", &position_operation, "position_bias_kernel",
     .position = {POSITION_MATRIX, CUMEGA_POSITION_BIAS_RELATIVE, .Lk = 9, .dtype = F32}},
    {"matrix, rotary", &position_operation, "position_bias_kernel", "cumega_position_bias_prepare",
     .position = {POSITION_MATRIX, CUMEGA_POSITION_BIAS_ROTARY, .Lk = 17, .dtype = B16}},
    {"scores, rotary", &position_operation, "attention_scores_kernel",
     "cumega_position_bias_prepare",
     .position = {POSITION_SCORES, CUMEGA_POSITION_BIAS_ROTARY, 2, 2, 3, 9, F32, 1}},
    {"softmax, rotary", &position_operation, "attention_softmax_kernel<32,2>",
     "cumega_position_bias_prepare",
     .position = {POSITION_SOFTMAX, CUMEGA_POSITION_BIAS_ROTARY, 3, 2, 2, 21, F32, 1}},
    {"softmax, relative", &position_operation, "attention_softmax_kernel<32,8>",
     .position = {POSITION_SOFTMAX, CUMEGA_POSITION_BIAS_RELATIVE, 2, 1, 2, 300, F16, 1}},
    {"long softmax", &position_operation, "attention_long_kernel", SCRATCH,
     .position = {POSITION_SOFTMAX, CUMEGA_POSITION_BIAS_RELATIVE, 1, 1, 1, 8200, F64}},

    {"lines", &residual_operation, "residual_lines_kernel",
     .residual = {0, CUMEGA_RESIDUAL_DECAY, 0, -1, 2, 3, 7, B16}},
    {"rows", &residual_operation, "residual_rows_kernel",
     .residual = {0, CUMEGA_RESIDUAL_AFFINE, 1, CUMEGA_NORM_LAYER, 2, 3, 12, F32}},
    {"long rows", &residual_operation, "residual_long_rows_kernel",
     .residual = {0, CUMEGA_RESIDUAL_RESIDUAL, 0, CUMEGA_NORM_RMS, 1, 1, 4100, F32}},
    {"gated", &residual_operation, "residual_lines_kernel",
     .residual = {1, CUMEGA_RESIDUAL_RESIDUAL, 0, -1, 2, 2, 9, F32}},
    {"gated rows", &residual_operation, "residual_rows_kernel",
     .residual = {1, CUMEGA_RESIDUAL_RESIDUAL, 0, CUMEGA_NORM_BASIC, 3, 1, 16, F16}},
    {"highway", &residual_operation, "cublas residual_lines_kernel",
     "cumega_residual_prepare " SCRATCH, .own_bits = 1,
     .residual = {0, CUMEGA_RESIDUAL_HIGHWAY, 0, -1, 1, 5, 6, F32}},
    {"highway, double", &residual_operation, "cublas residual_lines_kernel",
     "cumega_residual_prepare " SCRATCH, .own_bits = 1,
     .residual = {0, CUMEGA_RESIDUAL_HIGHWAY, 0, -1, 1, 3, 4, F64}},
    {"highway, gathered", &residual_operation,
     "residual_gather_kernel cublas residual_rows_kernel", "cumega_residual_prepare " SCRATCH,
     .own_bits = 1, .residual = {0, CUMEGA_RESIDUAL_HIGHWAY, 1, CUMEGA_NORM_SCALE, 2, 2, 5, B16}},
};
const int run_shape_count = (int)(sizeof run_shapes / sizeof run_shapes[0]);

static void must_succeed(cudaError_t error) {
  ck_assert_msg(error == cudaSuccess, "the test's own CUDA call: %s", cudaGetErrorString(error));
}

/* ---- tensors ---- */

void emulated_run_add(emulated_run *run, int which, int is_output, DLDataType dtype, int ndim,
                      const int64_t *shape) {
  void *data = NULL;
  int64_t bytes = dtype.bits / 8;
  for (int i = 0; i < ndim; i++) bytes *= shape[i];
  must_succeed(cudaMalloc(&data, (size_t)bytes));
  run->bytes[which] = bytes;
  run->is_output[which] = is_output;
  run->host[which] = memory_new(bytes);
  if (is_output) run->right[which] = memory_new(bytes);
  cumega_tensor_init(&run->views[which], data, (DLDevice){kDLCUDA, 0}, dtype, ndim, shape);
}

DLTensor *emulated_run_view(const emulated_run *run, cumega_tensor *views, int which) {
  return run->bytes[which] > 0 ? &views[which].dl : NULL;
}

/* Numbers of any floating type, through the harness. */
void emulated_run_fill_numbers(emulated_run *run, int which, uint64_t *seed) {
  const DLDataType dtype = run->views[which].dl.dtype;
  const int64_t size = dtype.bits / 8, count = run->bytes[which] / size;
  test_tensor *values = tensor_new_1(dtype, count);
  for (int64_t i = 0; i < count; i++) tensor_set(values, i, 0, 0, random_noise(seed));
  if (count > 0) memcpy(run->host[which], tensor_at(values, 0, 0, 0), (size_t)run->bytes[which]);
  tensor_free(values);
}

/* ---- the right answers, from the pattern ---- */

static void compute_on_the_cpu(emulated_run *run) {
  cumega_tensor views[RUN_TENSORS];
  cumega_context *ctx = context_of_level(NULL, 1);
  for (int i = 0; i < RUN_TENSORS; i++) {
    if (run->bytes[i] == 0) continue;
    const DLTensor *dl = &run->views[i].dl;
    if (run->is_output[i]) memset(run->right[i], PATTERN, (size_t)run->bytes[i]);
    cumega_tensor_init(&views[i], run->is_output[i] ? run->right[i] : run->host[i], cumega_cpu,
                       dl->dtype, dl->ndim, dl->shape);
  }
  run_objects objects = run->shape->operation->make(ctx, run->shape);
  MUST(ctx, run->shape->operation->start(ctx, &objects, run, views));
  emulated_objects_destroy(&objects);
  cumega_context_destroy(ctx);
}

/* On emulated CUDA, in existing memory. */
static void compute_on_the_device(emulated_run *run) {
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  run_objects objects = emulated_objects_new(ctx, run->shape);
  MUST(ctx, emulated_run_start(ctx, &objects, run));
  MUST(ctx, cumega_context_synchronize(ctx));
  for (int i = 0; i < RUN_TENSORS; i++)
    if (run->is_output[i])
      must_succeed(cudaMemcpy(run->right[i], run->views[i].dl.data, (size_t)run->bytes[i],
                              cudaMemcpyDeviceToHost));
  emulated_objects_destroy(&objects);
  cumega_context_destroy(ctx);
}

void emulated_run_refill(emulated_run *run, uint64_t seed) {
  run->shape->operation->fill(run, &seed);
  if (!run->shape->own_bits) compute_on_the_cpu(run);
  for (int i = 0; i < RUN_TENSORS; i++)
    if (run->bytes[i] > 0)
      must_succeed(cudaMemcpy(run->views[i].dl.data, run->host[i], (size_t)run->bytes[i],
                              cudaMemcpyHostToDevice));
  emulated_run_clear(run);
  if (!run->shape->own_bits) return;
  compute_on_the_device(run);
  emulated_run_clear(run);
}

emulated_run *emulated_run_new(const run_shape *shape, uint64_t seed) {
  emulated_run *run = memory_new(sizeof *run);
  run->shape = shape;
  shape->operation->lay_out(run);
  emulated_run_refill(run, seed);
  return run;
}

/* emulation_reset may already have released the device's memory. */
void emulated_run_free(emulated_run *run) {
  for (int i = 0; i < RUN_TENSORS; i++) {
    if (run->bytes[i] > 0) (void)cudaFree(run->views[i].dl.data);
    free(run->host[i]);
    free(run->right[i]);
  }
  (void)cudaGetLastError();
  free(run);
}

void emulated_run_clear(emulated_run *run) {
  for (int i = 0; i < RUN_TENSORS; i++)
    if (run->is_output[i])
      must_succeed(cudaMemset(run->views[i].dl.data, PATTERN, (size_t)run->bytes[i]));
  must_succeed(cudaDeviceSynchronize());
}

static int outputs_are(const emulated_run *run, int is_right) {
  int same = 1;
  for (int i = 0; i < RUN_TENSORS; i++) {
    if (!run->is_output[i]) continue;
    unsigned char *found = memory_new(run->bytes[i]);
    must_succeed(
        cudaMemcpy(found, run->views[i].dl.data, (size_t)run->bytes[i], cudaMemcpyDeviceToHost));
    for (int64_t j = 0; j < run->bytes[i]; j++)
      same &= found[j] == (is_right ? run->right[i][j] : PATTERN);
    free(found);
  }
  return same;
}

int emulated_run_is_clear(const emulated_run *run) {
  return outputs_are(run, 0);
}

int emulated_run_is_right(const emulated_run *run) {
  return outputs_are(run, 1);
}

/* ---- calls ---- */

run_objects emulated_objects_new(cumega_context *ctx, const run_shape *shape) {
  return shape->operation->make(ctx, shape);
}

void emulated_objects_destroy(run_objects *objects) {
  cumega_ema_destroy(objects->ema);
  cumega_position_bias_destroy(objects->bias);
  cumega_residual_destroy(objects->residual);
  cumega_norm_destroy(objects->norm);
  memset(objects, 0, sizeof *objects);
}

cumega_status emulated_run_start(cumega_context *ctx, const run_objects *objects,
                                 emulated_run *run) {
  return run->shape->operation->start(ctx, objects, run, run->views);
}

cumega_status emulated_run_workspace_size(cumega_context *ctx, const run_objects *objects,
                                          emulated_run *run, int64_t *bytes) {
  return run->shape->operation->workspace_size(ctx, objects, run, run->views, bytes);
}

cumega_status emulated_run_prepare(cumega_context *ctx, const run_objects *objects,
                                   emulated_run *run) {
  int64_t scratch = 0;
  cumega_status status = run->shape->operation->prepare(ctx, objects, run, run->views);
  if (status == CUMEGA_OK) status = emulated_run_workspace_size(ctx, objects, run, &scratch);
  return status == CUMEGA_OK ? cumega_context_reserve(ctx, scratch) : status;
}

cumega_context *emulated_context(counting_allocator *ledger, cudaStream_t stream,
                                 cumega_status *status) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx = NULL;
  options.device = (DLDevice){kDLCUDA, 0};
  options.stream = stream;
  if (ledger != NULL) options.allocator = counting_allocator_of(ledger);
  cumega_status made = cumega_context_create(&options, &ctx);
  if (status != NULL)
    *status = made;
  else
    ck_assert_msg(made == CUMEGA_OK, "%s", cumega_context_message(NULL));
  return ctx;
}

/* ---- the driver's contexts ---- */

typedef int (*get_current)(struct CUctx_st **current);
typedef int (*set_current)(struct CUctx_st *current);

static void find_driver(const char *name, void *function) {
  void *symbol = NULL;
  must_succeed(cudaGetDriverEntryPoint(name, &symbol, cudaEnableDefault, NULL));
  memcpy(function, &symbol, sizeof symbol);
}

void emulated_nothing_is_left(void) {
  const char *text;
  ck_assert_msg(emulation_faults(&text) == 0, "%s", text);
  ck_assert_msg(emulation_leaks(&text) == 0, "%s", text);
  emulation_reset();
}

struct CUctx_st *current_context(void) {
  struct CUctx_st *current = NULL;
  get_current get;
  find_driver("cuCtxGetCurrent", &get);
  ck_assert_int_eq(get(&current), 0);
  return current;
}

void set_current_context(struct CUctx_st *context) {
  set_current set;
  find_driver("cuCtxSetCurrent", &set);
  ck_assert_int_eq(set(context), 0);
}

int64_t emulated_calls_of(const char *name) {
  int64_t count, found = 0;
  const char *const *calls = emulation_calls(&count);
  for (int64_t i = 0; i < count; i++) found += strcmp(calls[i], name) == 0;
  return found;
}

int64_t emulated_first_call(const char *name) {
  int64_t count, i = 0;
  const char *const *calls = emulation_calls(&count);
  while (i < count && strcmp(calls[i], name) != 0) i++;
  ck_assert_msg(i < count, "no call of %s", name);
  return i + 1;
}
