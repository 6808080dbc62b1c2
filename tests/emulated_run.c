#include "emulated_run.h"
#include <string.h>

#define PATTERN 0x5A
#define SPARE   3 /* rows of a pool beside those that are used */

#define F32                                                                                        \
  { kDLFloat, 32, 1 }
#define F64                                                                                        \
  { kDLFloat, 64, 1 }
#define F16                                                                                        \
  { kDLFloat, 16, 1 }
#define B16                                                                                        \
  { kDLBfloat, 16, 1 }

const run_shape run_shapes[] = {
    {"lanes", 33, 2, 32, 4, F32, F32, .kernel = "ema_lanes_kernel<4"},
    {"lanes, packed, pools", 19, 3, 8, 2, F32, F32, 1, 1, .kernel = "ema_lanes_kernel<2"},
    {"lanes, bfloat16", 17, 2, 8, 8, B16, F32, .kernel = "ema_lanes_kernel<8"},
    {"plain", 5, 3, 7, 3, F32, F32, .kernel = "ema_recurrent_kernel<float,4>"},
    {"plain, packed, pools", 5, 3, 7, 2, F16, F32, 1, 1, .kernel = "ema_recurrent_kernel<float,2>"},
    {"plain, masked", 6, 2, 5, 4, F32, F32, .masked = 1, .kernel = "ema_recurrent_kernel<float,4>"},
    {"float64", 4, 2, 5, 5, F64, F64, .pooled = 1, .kernel = "ema_recurrent_kernel<double,8>"},
    {"float64 states", 4, 2, 5, 1, F32, F64, .kernel = "ema_recurrent_kernel<double,1>"},
    {"truncated", 9, 2, 5, 2, F32, F32, .truncation = 3, .kernel = "ema_recurrent_kernel<float,2>"},
    {"many heads", 3, 2, 5, 17, F32, F32, .pooled = 1, .kernel = "ema_many_heads_kernel<float>"},
    {"many heads, float64", 2, 2, 3, 20, F64, F64, 1, .kernel = "ema_many_heads_kernel<double>"},
    {"sliced", 300, 1, 6, 2, F32, F32, .algorithm = CUMEGA_EMA_SLICED,
     .kernel = "ema_sliced_check"},
    {"chunked", 130, 2, 5, 2, F32, F32, .algorithm = CUMEGA_EMA_CHUNKED, .kernel = "ema_chunked"},
    {"step", 0, 3, 9, 4, F32, F32, .pooled = 1, .kernel = "ema_recurrent_kernel<float,4>"},
    {"step, many heads", 0, 2, 3, 18, F32, F32, .kernel = "ema_many_heads_kernel<float>"},
};
const int run_shape_count = (int)(sizeof run_shapes / sizeof run_shapes[0]);

static void must_succeed(cudaError_t error) {
  ck_assert_msg(error == cudaSuccess, "the test's own CUDA call: %s", cudaGetErrorString(error));
}

static int64_t steps_of(const run_shape *shape) {
  return shape->L > 0 ? shape->L : 1;
}

static void add(emulated_run *run, int which, DLDataType dtype, int ndim, const int64_t *shape) {
  void *data = NULL;
  int64_t bytes = dtype.bits / 8;
  for (int i = 0; i < ndim; i++) bytes *= shape[i];
  must_succeed(cudaMalloc(&data, (size_t)bytes));
  run->bytes[which] = bytes;
  run->host[which] = memory_new(bytes);
  cumega_tensor_init(&run->views[which], data, (DLDevice){kDLCUDA, 0}, dtype, ndim, shape);
}

static void add_all(emulated_run *run) {
  const run_shape *s = run->shape;
  const int64_t L = steps_of(s), rows = s->pooled ? s->B + SPARE : s->B;
  const int64_t dense[] = {L, s->B, s->D}, flat[] = {L * s->B, s->D};
  for (int which = RUN_X; which <= RUN_Y; which++)
    add(run, which, s->dtype, s->packed ? 2 : 3, s->packed ? flat : dense);
  if (s->truncation == 0) {
    add(run, RUN_INITIAL, s->state_dtype, 3, (int64_t[]){rows, s->D, s->N});
    add(run, RUN_FINAL, s->state_dtype, 3, (int64_t[]){rows, s->D, s->N});
  }
  if (s->L > 0) add(run, RUN_LENGTHS, cumega_int64, 1, (int64_t[]){s->B + (s->packed != 0)});
  if (s->pooled) {
    add(run, RUN_FROM, cumega_int64, 1, &s->B);
    add(run, RUN_TO, cumega_int64, 1, &s->B);
  }
  if (s->masked) add(run, RUN_MASK, cumega_uint8, 2, (int64_t[]){s->B, L});
}

static cumega_ema_io io_with(const emulated_run *run, cumega_tensor *views) {
  DLTensor *dl[RUN_TENSORS];
  for (int i = 0; i < RUN_TENSORS; i++) dl[i] = run->bytes[i] > 0 ? &views[i].dl : NULL;
  cumega_ema_io io = {.struct_size = sizeof io,
                      .algorithm = run->shape->algorithm,
                      .x = dl[RUN_X],
                      .y = dl[RUN_Y],
                      .mask = dl[RUN_MASK],
                      .initial_state = dl[RUN_INITIAL],
                      .final_state = dl[RUN_FINAL],
                      .initial_slots = dl[RUN_FROM],
                      .final_slots = dl[RUN_TO]};
  if (run->shape->packed)
    io.sequence_offsets = dl[RUN_LENGTHS];
  else
    io.sequence_lengths = dl[RUN_LENGTHS];
  return io;
}

/* Numbers of any floating type, through the harness. */
static void fill_numbers(emulated_run *run, int which, uint64_t *seed) {
  const DLDataType dtype = run->views[which].dl.dtype;
  const int64_t size = dtype.bits / 8, count = run->bytes[which] / size;
  test_tensor *values = tensor_new_1(dtype, count);
  for (int64_t i = 0; i < count; i++) tensor_set(values, i, 0, 0, random_noise(seed));
  if (count > 0) memcpy(run->host[which], tensor_at(values, 0, 0, 0), (size_t)run->bytes[which]);
  tensor_free(values);
}

/* Lengths from 0 to L, or offsets with such distances; slots, none twice, some negative. */
static void fill_indices(emulated_run *run, uint64_t *seed) {
  const run_shape *s = run->shape;
  int64_t *lengths = (int64_t *)(void *)run->host[RUN_LENGTHS], at = 0;
  for (int64_t b = 0; b < s->B && lengths != NULL; b++) {
    const int64_t length = random_below(seed, steps_of(s) + 1);
    lengths[b] = s->packed ? at : length;
    at += length;
  }
  if (s->packed) lengths[s->B] = at;
  const int64_t first = random_below(seed, SPARE + 1);
  for (int which = RUN_FROM; which <= RUN_TO; which++) {
    int64_t *slots = (int64_t *)(void *)run->host[which];
    for (int64_t b = 0; b < s->B && slots != NULL; b++) slots[b] = first + b;
    if (slots != NULL && random_below(seed, 2) == 0) slots[random_below(seed, s->B)] = -1;
  }
}

/* The CPU's answer, from the pattern. */
static void compute_right(emulated_run *run) {
  cumega_tensor views[RUN_TENSORS];
  cumega_context *ctx = context_of_level(NULL, 1);
  cumega_ema *ema = NULL;
  for (int i = 0; i < RUN_TENSORS; i++) {
    if (run->bytes[i] == 0) continue;
    const DLTensor *dl = &run->views[i].dl;
    const int is_output = i == RUN_Y || i == RUN_FINAL;
    if (is_output && run->right[i] == NULL) run->right[i] = memory_new(run->bytes[i]);
    if (is_output) memset(run->right[i], PATTERN, (size_t)run->bytes[i]);
    cumega_tensor_init(&views[i], is_output ? run->right[i] : run->host[i], cumega_cpu, dl->dtype,
                       dl->ndim, dl->shape);
  }
  cumega_ema_io io = io_with(run, views);
  MUST(ctx, cumega_ema_create(ctx, &run->config, NULL, &ema));
  MUST(ctx,
       run->shape->L == 0 ? cumega_ema_step(ctx, ema, &io) : cumega_ema_forward(ctx, ema, &io));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}

/* The same by emulated CUDA, on what is already there. */
static void compute_chunked(emulated_run *run) {
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  cumega_ema *ema = NULL;
  MUST(ctx, cumega_ema_create(ctx, &run->config, NULL, &ema));
  MUST(ctx, emulated_run_start(ctx, ema, run));
  MUST(ctx, cumega_context_synchronize(ctx));
  for (int i = RUN_Y; i <= RUN_FINAL; i += RUN_FINAL - RUN_Y) {
    if (run->right[i] == NULL) run->right[i] = memory_new(run->bytes[i]);
    must_succeed(cudaMemcpy(run->right[i], run->views[i].dl.data, (size_t)run->bytes[i],
                            cudaMemcpyDeviceToHost));
  }
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}

void emulated_run_refill(emulated_run *run, uint64_t seed) {
  for (int i = 0; i < RUN_TENSORS; i++)
    if (i == RUN_X || (i == RUN_INITIAL && run->bytes[i] > 0)) fill_numbers(run, i, &seed);
  fill_indices(run, &seed);
  for (int64_t i = 0; i < run->bytes[RUN_MASK]; i++)
    run->host[RUN_MASK][i] = random_below(&seed, 3) == 0;
  if (run->shape->algorithm != CUMEGA_EMA_CHUNKED) compute_right(run);
  for (int i = 0; i < RUN_TENSORS; i++)
    if (run->bytes[i] > 0)
      must_succeed(cudaMemcpy(run->views[i].dl.data, run->host[i], (size_t)run->bytes[i],
                              cudaMemcpyHostToDevice));
  emulated_run_clear(run);
  if (run->shape->algorithm != CUMEGA_EMA_CHUNKED) return;
  compute_chunked(run);
  emulated_run_clear(run);
}

emulated_run *emulated_run_new(const run_shape *shape, uint64_t seed) {
  emulated_run *run = memory_new(sizeof *run);
  run->shape = shape;
  run->config = cumega_ema_config_default(shape->D);
  run->config.num_heads = shape->N;
  run->config.state_dtype = shape->state_dtype;
  if (shape->truncation > 0) run->config.truncation_length = shape->truncation;
  add_all(run);
  run->io = io_with(run, run->views);
  emulated_run_refill(run, seed);
  return run;
}

/* The device's memory may have gone before, with emulation_reset. */
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
  for (int i = RUN_Y; i <= RUN_FINAL; i += RUN_FINAL - RUN_Y)
    if (run->bytes[i] > 0)
      must_succeed(cudaMemset(run->views[i].dl.data, PATTERN, (size_t)run->bytes[i]));
  must_succeed(cudaDeviceSynchronize());
}

static int outputs_are(const emulated_run *run, int is_right) {
  int same = 1;
  for (int i = RUN_Y; i <= RUN_FINAL; i += RUN_FINAL - RUN_Y) {
    if (run->bytes[i] == 0) continue;
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

cumega_status emulated_run_start(cumega_context *ctx, const cumega_ema *ema, emulated_run *run) {
  return run->shape->L == 0 ? cumega_ema_step(ctx, ema, &run->io)
                            : cumega_ema_forward(ctx, ema, &run->io);
}

cumega_context *emulated_context(counting_allocator *ledger, cudaStream_t stream,
                                 cumega_status *status) {
  cumega_context_options options = cumega_context_options_default();
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

typedef int (*get_current)(struct CUctx_st **current);
typedef int (*set_current)(struct CUctx_st *current);

static void find_driver(const char *name, void *function) {
  void *symbol = NULL;
  must_succeed(cudaGetDriverEntryPoint(name, &symbol, cudaEnableDefault, NULL));
  memcpy(function, &symbol, sizeof symbol);
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
