/* The EMA's three operations. */
#include "op_ema.h"
#include <string.h>
#include "bench.h"
#include "failure.h"
#include "values.h"

#define AT(member) .offset = offsetof(ema_call, member)
#define IO(member) offsetof(ema_call, io.member)
#define ARGUMENT(name)                                                                            \
  { "activation_args." #name, SETTING_NUMBER, AT(config.activation_arguments.name) }

/* The settings of ema_kernel. forward and step have all but the first. */
static const setting settings[] = {
    {"length", SETTING_INTEGER, AT(length), .flags = SETTING_NEEDED | SETTING_FROM_ZERO,
     .bench = "=L"},
    {"size", SETTING_INTEGER, AT(config.size), .flags = SETTING_NEEDED, .bench = "=D"},
    {"num_heads", SETTING_INTEGER, AT(config.num_heads), .flags = SETTING_NEEDED, .bench = "4"},
    {"activation", SETTING_WORD, AT(config.activation), .word = word_of_activation,
     .find = find_activation, .bench = "relu"},
    ARGUMENT(swish_beta),
    ARGUMENT(smish_alpha),
    ARGUMENT(smish_beta),
    ARGUMENT(ftswish_threshold),
    ARGUMENT(ftswish_mean_shift),
    ARGUMENT(hardtanh_min_val),
    ARGUMENT(hardtanh_max_val),
    ARGUMENT(leakyrelu_neg_slope),
    {"activation_args.softplus_beta", SETTING_NUMBER, AT(without_effect)},
    {"activation_args.softplus_threshold", SETTING_NUMBER, AT(without_effect)},
    {"state_dtype", SETTING_STATE, AT(config.state_dtype)},
    {"truncation_length", SETTING_INTEGER, AT(config.truncation_length), .flags = SETTING_OR_NULL},
    {.name = NULL}};

static const operation_input forward_inputs[] = {{"x", IO(x), 1},
                                                 {"mask", IO(mask), 0},
                                                 {"sequence_lengths", IO(sequence_lengths), 0},
                                                 {"sequence_offsets", IO(sequence_offsets), 0},
                                                 {"state", IO(initial_state), 0},
                                                 {"initial_slots", IO(initial_slots), 0},
                                                 {"final_slots", IO(final_slots), 0},
                                                 {.name = NULL}};
static const operation_input step_inputs[] = {
    {"x", IO(x), 1}, {"mask", IO(mask), 0}, {"state", IO(initial_state), 0}, {.name = NULL}};

/* ---- running a case ---- */

static void set_defaults(void *object) {
  ema_call *call = object;
  cumega_ema_config_init(&call->config, sizeof call->config, 0);
  call->io.struct_size = sizeof call->io;
}

const char *const ema_parameter_names[EMA_PARAMETERS + 1] = {
    "damping_factor",           "decay_factor",    "ema_expansion_matrix",
    "kernel_projection_matrix", "residual_weight", NULL};

static cumega_ema_parameters parameters_of(DLTensor *const t[EMA_PARAMETERS]) {
  return (cumega_ema_parameters){sizeof(cumega_ema_parameters), t[0], t[1], t[2], t[3], t[4]};
}

static int make_ema(job *j) {
  ema_call *call = j->object;
  DLTensor *tensors[EMA_PARAMETERS];
  int code = EXIT_OK;
  for (int i = 0; code == EXIT_OK && i < EMA_PARAMETERS; i++)
    code = case_need(j->file, "parameters", ema_parameter_names[i], &tensors[i]);
  if (code != EXIT_OK) return code;
  const cumega_ema_parameters p = parameters_of(tensors);
  return job_check(j, cumega_ema_create(j->ctx, &call->config, &p, &call->ema));
}

/* Makes y, like x. x_dims is 2 for a packed batch. */
static int make_y(job *j, int x_dims) {
  ema_call *call = j->object;
  const DLTensor *x = call->io.x;
  const case_dimension padded[] = {{-1, "L"}, {-1, "B"}, {call->config.size, "D"}};
  const case_dimension packed[] = {{-1, "total"}, {call->config.size, "D"}};
  int code = case_expect_shape(j->file, "inputs.x", x, x_dims, x_dims == 2 ? packed : padded);
  if (code != EXIT_OK) return code;
  job_describe(j, "x", x);
  code = job_add_output(j, "outputs.y", x->dtype, x->ndim, x->shape, &call->io.y);
  if (code == EXIT_OK) values_order_like(call->io.y, x);
  return code;
}

/* Makes the final state, (B, D, N), or a copy of the pool of states if final_slots gives its
 * rows. */
static int make_final_state(job *j, int64_t batch) {
  ema_call *call = j->object;
  const DLTensor *initial = call->io.initial_state;
  int pool = call->io.final_slots != NULL;
  int64_t shape[] = {batch, call->config.size, call->config.num_heads};
  if (pool && initial == NULL)
    return fail(EXIT_INPUT, "%s: tensor 'inputs.state' is missing: final_slots name its rows",
                j->file->path);
  if (initial != NULL) {
    int rows_free = pool || call->io.initial_slots != NULL;
    case_dimension expected[] = {
        {rows_free ? -1 : batch, "rows"}, {shape[1], "D"}, {shape[2], "N"}};
    int code = case_expect_shape(j->file, "inputs.state", initial, 3, expected);
    if (code != EXIT_OK) return code;
    if (!values_dtype_equal(initial->dtype, call->config.state_dtype))
      return fail(EXIT_INPUT, "%s: tensor 'inputs.state' has type %s, expected state_dtype, %s",
                  j->file->path, values_dtype_name(initial->dtype),
                  values_dtype_name(call->config.state_dtype));
    if (pool) shape[0] = initial->shape[0];
  }
  int code = job_add_output(j, "outputs.state", call->config.state_dtype, 3, shape,
                            &call->io.final_state);
  if (code == EXIT_OK && initial != NULL && values_count(initial) > 0 &&
      values_count(initial) == values_count(call->io.final_state))
    memcpy(call->io.final_state->data, initial->data, (size_t)values_bytes(initial));
  return code;
}

static int prepare_forward(job *j) {
  ema_call *call = j->object;
  cumega_ema_io *io = &call->io;
  const case_dimension any[] = {{-1, "B + 1"}};
  const int packed = io->sequence_offsets != NULL;
  io->algorithm = j->algorithm;
  int code = make_ema(j);
  if (code == EXIT_OK) code = make_y(j, packed ? 2 : 3);
  if (code == EXIT_OK && packed)
    code = case_expect_shape(j->file, "inputs.sequence_offsets", io->sequence_offsets, 1, any);
  if (code != EXIT_OK) return code;
  int64_t batch = packed ? io->sequence_offsets->shape[0] - 1 : io->x->shape[1];
  if (batch < 0)
    return fail(EXIT_INPUT, "%s: tensor 'inputs.sequence_offsets' is empty, expected (B + 1)",
                j->file->path);
  /* Neither a truncated sum nor a convolution gives a final state. */
  if (j->algorithm == CUMEGA_EMA_FFT)
    j->left_out = "state", io->final_slots = NULL; /* forward refuses a given state */
  else if (call->config.truncation_length >= io->x->shape[0])
    code = make_final_state(j, batch);
  return code;
}

static cumega_status run_forward(job *j) {
  ema_call *call = j->object;
  return cumega_ema_forward(j->ctx, call->ema, &call->io);
}

static int prepare_step(job *j) {
  ema_call *call = j->object;
  int code = make_ema(j);
  if (code == EXIT_OK) code = make_y(j, 3);
  if (code != EXIT_OK) return code;
  const DLTensor *x = call->io.x, *mask = call->io.mask;
  if (mask != NULL) {
    case_dimension expected[] = {{x->shape[1], "B"}, {1, "1"}, {x->shape[0], "T"}};
    code = case_expect_shape(j->file, "inputs.mask", mask, 3, expected);
    if (code != EXIT_OK) return code;
  }
  return make_final_state(j, x->shape[1]);
}

/* Step t of (T, B, D). */
static DLTensor *step_of(const DLTensor *all, int64_t t, cumega_tensor *step) {
  int64_t bytes = all->shape[1] * all->shape[2] * (all->dtype.bits / 8);
  return cumega_tensor_init(step, (char *)all->data + t * bytes, all->device, all->dtype, 2,
                            all->shape + 1);
}

/* mask[:, :, t] of (B, 1, T). */
static DLTensor *mask_of(const DLTensor *all, int64_t t, cumega_tensor *step) {
  DLTensor *mask = cumega_tensor_init(step, (char *)all->data + t * (all->dtype.bits / 8),
                                      all->device, all->dtype, 2, all->shape);
  if (mask != NULL) mask->strides[0] = mask->strides[1] = all->shape[2];
  return mask;
}

static cumega_status run_step(job *j) {
  ema_call *call = j->object;
  cumega_ema_io io = call->io;
  cumega_tensor x, y, mask;
  for (int64_t t = 0; t < call->io.x->shape[0]; t++) {
    io.x = step_of(call->io.x, t, &x);
    io.y = step_of(call->io.y, t, &y);
    if (call->io.mask != NULL) io.mask = mask_of(call->io.mask, t, &mask);
    cumega_status status = cumega_ema_step(j->ctx, call->ema, &io);
    if (status != CUMEGA_OK) return status;
    io.initial_state = io.final_state; /* from the second step on */
  }
  return CUMEGA_OK;
}

static int prepare_kernel(job *j) {
  ema_call *call = j->object;
  int code = make_ema(j);
  if (code != EXIT_OK) return code;
  const DLDataType dtype = case_find(j->file, "parameters", "damping_factor")->dtype;
  const int64_t kernel[] = {call->config.size, call->length};
  const int64_t coefficients[] = {call->config.size, call->config.num_heads, 1};
  code = job_add_output(j, "outputs.kernel", dtype, 2, kernel, &call->kernel);
  if (code == EXIT_OK)
    code =
        job_add_output(j, "outputs.damping_factor", dtype, 3, coefficients, &call->damping_factor);
  if (code == EXIT_OK)
    code = job_add_output(j, "outputs.prev_timestep_weight", dtype, 3, coefficients,
                          &call->prev_timestep_weight);
  if (code == EXIT_OK) job_describe(j, "kernel", call->kernel);
  return code;
}

static cumega_status run_kernel(job *j) {
  ema_call *call = j->object;
  cumega_status status = cumega_ema_compute_coefficients(j->ctx, call->ema, call->damping_factor,
                                                         call->prev_timestep_weight);
  if (status != CUMEGA_OK) return status;
  return cumega_ema_compute_kernel(j->ctx, call->ema, call->kernel);
}

static void release(void *object) {
  cumega_ema_destroy(((ema_call *)object)->ema);
}

/* ---- measuring one ---- */

/* The order of x in memory, or a packed batch (L * B, D) of sequences of different lengths. */
static const setting forward_ways[] = {
    {"layout", SETTING_WORD, WORDS("LBD", "BLD", "BDL", "packed"), .bench = "LBD"},
    {"algorithm", SETTING_WORD, .word = word_of_algorithm, .bench = "default"},
    {.name = NULL}};

static int check_status(const case_file *file, cumega_context *host, cumega_status status) {
  if (status == CUMEGA_OK) return EXIT_OK;
  return fail(exit_code_of(status), "%s: %s", file->path, cumega_context_message(host));
}

/* Adds the parameters of an EMA that is reset with seed 0. */
static int add_parameters(case_file *file, cumega_context *host, int64_t size, DLDataType dtype) {
  const int64_t heads = json_integer_value(setting_find(file->config, "num_heads"));
  const int64_t shape[] = {size, heads};
  cumega_ema_config config;
  DLTensor *tensors[EMA_PARAMETERS];
  cumega_ema *ema = NULL;
  cumega_ema_config_init(&config, sizeof config, size);
  config.num_heads = heads;
  int code = check_status(file, host, cumega_ema_create(host, &config, NULL, &ema));
  for (int i = 0; code == EXIT_OK && i < EMA_PARAMETERS; i++)
    code = bench_case_add(file, "parameters", ema_parameter_names[i], dtype, i < 4 ? 2 : 1, shape,
                          &tensors[i]);
  if (code == EXIT_OK) {
    const cumega_ema_parameters p = parameters_of(tensors);
    code = check_status(file, host, cumega_ema_get_parameters(host, ema, &p));
  }
  cumega_ema_destroy(ema);
  return code;
}

/* Adds the offsets of a packed batch, whose lengths rise from nearly 0 to twice the mean. */
static int add_offsets(int64_t total, int64_t B, case_file *file) {
  const int64_t shape[] = {B + 1};
  DLTensor *offsets;
  int code = bench_case_add(file, "inputs", "sequence_offsets", cumega_int64, 1, shape, &offsets);
  for (int64_t b = 0; code == EXIT_OK && b <= B; b++)
    ((int64_t *)offsets->data)[b] =
        (int64_t)((double)total * (double)(b * (b + 1)) / (double)(B * (B + 1)));
  return code;
}

static int bench_forward(const bench_row *row, cumega_context *host, case_file *file) {
  const int64_t L = row->shape[0], B = row->shape[1], D = row->shape[2];
  const int64_t packed_shape[] = {L * B, D}, bld[] = {D, L * D, 1}, bdl[] = {1, D * L, L};
  const char *layout = bench_value(row, "layout");
  const int packed = strcmp(layout, "packed") == 0;
  DLTensor *x;
  int code = add_parameters(file, host, D, cumega_float32);
  if (code == EXIT_OK)
    code = bench_case_add(file, "inputs", "x", row->dtype, packed ? 2 : 3,
                          packed ? packed_shape : row->shape, &x);
  if (code != EXIT_OK) return code;
  bench_fill(x, 1);
  if (strcmp(layout, "BLD") == 0) memcpy(x->strides, bld, sizeof bld);
  if (strcmp(layout, "BDL") == 0) memcpy(x->strides, bdl, sizeof bdl);
  return packed ? add_offsets(L * B, B, file) : EXIT_OK;
}

/* Algorithms that are parallel in time have their own bits. */
static int has_own_bits(const bench_row *row) {
  const cumega_ema_algorithm algorithm = bench_algorithm(row);
  return algorithm == CUMEGA_EMA_CHUNKED || algorithm == CUMEGA_EMA_FFT ||
         algorithm == CUMEGA_EMA_FASTEST;
}

static int bench_step(const bench_row *row, cumega_context *host, case_file *file) {
  const json_t *type = setting_find(file->config, "state_dtype");
  DLDataType state_dtype = cumega_float32;
  DLTensor *x, *state;
  int code = add_parameters(file, host, row->shape[2], cumega_float32);
  (void)values_dtype_from_name(json_string_value(type), &state_dtype);
  if (code == EXIT_OK) code = bench_case_add(file, "inputs", "x", row->dtype, 3, row->shape, &x);
  if (code != EXIT_OK) return code;
  const int64_t state_shape[] = {row->shape[1], row->shape[2],
                                 json_integer_value(setting_find(file->config, "num_heads"))};
  code = bench_case_add(file, "inputs", "state", state_dtype, 3, state_shape, &state);
  if (code != EXIT_OK) return code;
  bench_fill(x, 1);
  bench_fill(state, 2);
  return EXIT_OK;
}

static int bench_kernel(const bench_row *row, cumega_context *host, case_file *file) {
  return add_parameters(file, host, row->shape[0], row->dtype);
}

static const char forward_sweep[] =
    "activation=identity; activation=relu; activation=swish; activation=tanh; "
    "activation=leaky_relu; activation=hardtanh; activation=selu; activation=mish; "
    "activation=smish; activation=ftswish; cache=flushed; dtype=bfloat16; "
    "dtype=bfloat16 activation=swish; dtype=float16; dtype=float16 activation=swish; "
    "state_dtype=float64; state_dtype=float64 activation=swish; dtype=float64; "
    "dtype=float64 activation=swish; layout=BLD; layout=BLD dtype=bfloat16; layout=BDL; "
    "layout=BDL dtype=bfloat16; layout=packed; layout=packed dtype=bfloat16; num_heads=1; "
    "num_heads=2; num_heads=8; num_heads=16; num_heads=32; shape=64,8,512; shape=16384,1,512; "
    "shape=256,64,512; threads=2; threads=2 activation=swish; "
    "threads=2 activation=swish layout=packed; shape=65536,1,64 threads=2; "
    "shape=65536,1,64 threads=2 algorithm=recurrent; "
    "shape=65536,1,64 threads=2 algorithm=sliced; truncation_length=16; level=v3; "
    "level=v3 activation=swish; level=plain; level=plain activation=swish";

#define EMA                                                                                       \
  .object_bytes = sizeof(ema_call), .set_defaults = set_defaults, .release = release,             \
  .bench.reference = "reference/ema.c"

const operation op_ema_forward = {.name = "ema_forward",
                                  .summary = "whole sequences through the multi-head damped EMA",
                                  .outputs = "y, state",
                                  EMA,
                                  .settings = settings + 1,
                                  .inputs = forward_inputs,
                                  .has_algorithms = 1,
                                  .prepare = prepare_forward,
                                  .run = run_forward,
                                  .bench.dims = "L,B,D",
                                  .bench.shape = {2048, 8, 512},
                                  .bench.ways = forward_ways,
                                  .bench.make = bench_forward,
                                  .bench.check = ema_check,
                                  .bench.has_own_bits = has_own_bits,
                                  .bench.sweep = forward_sweep};

const operation op_ema_step = {
    .name = "ema_step",
    .summary = "single steps of the EMA, one after the other",
    .outputs = "y, state",
    EMA,
    .settings = settings + 1,
    .inputs = step_inputs,
    .prepare = prepare_step,
    .run = run_step,
    .bench.dims = "T,B,D",
    .bench.shape = {1, 8, 512},
    .bench.make = bench_step,
    .bench.check = ema_check,
    .bench.sweep = "shape=1,1,512; shape=1,8,512; shape=1,64,512; shape=1,512,512; "
                   "shape=1,4096,512; activation=swish; activation=swish dtype=bfloat16; "
                   "shape=1,512,512 activation=swish threads=2"};

const operation op_ema_kernel = {.name = "ema_kernel",
                                 .summary = "the EMA's convolution kernel and its coefficients",
                                 .outputs = "kernel, damping_factor, prev_timestep_weight",
                                 EMA,
                                 .settings = settings,
                                 .is_on_host = 1,
                                 .prepare = prepare_kernel,
                                 .run = run_kernel,
                                 .bench.dims = "D,L",
                                 .bench.shape = {512, 2048},
                                 .bench.make = bench_kernel,
                                 .bench.row_dims = 1,
                                 .bench.parameters = ema_parameter_names,
                                 .bench.exact = ema_exact_kernel,
                                 .bench.roundings = ema_roundings_of_kernel,
                                 .bench.sweep =
                                     "shape=512,2048; shape=512,16384; shape=4096,2048"};
