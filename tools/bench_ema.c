/* The EMA's three operations, made to be measured. Parameters are those of seed 0. */
#include <string.h>
#include "bench.h"
#include "bench_ema_reference.h"
#include "failure.h"
#include "values.h"

#define EMA_TAKES                                                                                  \
  (BENCH_TAKES(BENCH_HEADS) | BENCH_TAKES(BENCH_ACTIVATION) | BENCH_TAKES(BENCH_STATE_DTYPE))

static const char *state_dtype_of(const bench_settings *set) {
  DLDataType fallback = set->dtype.bits == 64 ? cumega_float64 : cumega_float32;
  return values_dtype_name(set->state_dtype.bits > 0 ? set->state_dtype : fallback);
}

static int check_status(const case_file *file, cumega_context *host, cumega_status status) {
  if (status == CUMEGA_OK) return EXIT_OK;
  return fail(exit_code_of(status), "%s: %s", file->path, cumega_context_message(host));
}

/* The five, as an EMA that is reset has them. */
static int add_parameters(const bench_settings *set, cumega_context *host, int64_t size,
                          DLDataType dtype, case_file *file) {
  const int64_t shape[] = {size, set->heads};
  cumega_ema_config config = cumega_ema_config_default(size);
  cumega_ema_parameters p = {.struct_size = sizeof p};
  cumega_ema *ema = NULL;
  const struct {
    const char *name;
    DLTensor **tensor;
    int ndim;
  } all[] = {{"parameters.damping_factor", &p.damping_factor, 2},
             {"parameters.decay_factor", &p.decay_factor, 2},
             {"parameters.ema_expansion_matrix", &p.ema_expansion_matrix, 2},
             {"parameters.kernel_projection_matrix", &p.kernel_projection_matrix, 2},
             {"parameters.residual_weight", &p.residual_weight, 1}};
  int code = EXIT_OK;
  for (size_t i = 0; code == EXIT_OK && i < sizeof all / sizeof *all; i++)
    code = bench_case_add(file, all[i].name, dtype, all[i].ndim, shape, all[i].tensor);
  if (code != EXIT_OK) return code;
  config.num_heads = set->heads;
  code = check_status(file, host, cumega_ema_create(host, &config, NULL, &ema));
  if (code == EXIT_OK) code = check_status(file, host, cumega_ema_get_parameters(host, ema, &p));
  cumega_ema_destroy(ema);
  return code;
}

static int begin(const bench_settings *set, cumega_context *host, int64_t size, case_file *file) {
  json_t *config = json_pack("{s:I, s:I, s:s, s:s}", "size", (json_int_t)size, "num_heads",
                             (json_int_t)set->heads, "activation", set->activation, "state_dtype",
                             state_dtype_of(set));
  int code = bench_case_begin(set->what, config, file);
  if (code == EXIT_OK && set->truncation > 0 &&
      json_object_set_new(config, "truncation_length", json_integer(set->truncation)) != 0)
    code = bench_no_memory(file);
  return code == EXIT_OK ? add_parameters(set, host, size, cumega_float32, file) : code;
}

/* Of a packed batch: lengths rise from nearly none to twice the mean. */
static int add_offsets(int64_t total, int64_t B, case_file *file) {
  const int64_t shape[] = {B + 1};
  DLTensor *offsets;
  int code = bench_case_add(file, "inputs.sequence_offsets", cumega_int64, 1, shape, &offsets);
  for (int64_t b = 0; code == EXIT_OK && b <= B; b++)
    ((int64_t *)offsets->data)[b] =
        (int64_t)((double)total * (double)(b * (b + 1)) / (double)(B * (B + 1)));
  return code;
}

/* (L, B, D) in the settings' order in memory. */
static void order(const bench_settings *set, DLTensor *x) {
  const int64_t L = set->shape[0], D = set->shape[2];
  const int64_t bld[] = {D, L * D, 1}, bdl[] = {1, D * L, L};
  if (strcmp(set->layout, "BLD") == 0) memcpy(x->strides, bld, sizeof bld);
  if (strcmp(set->layout, "BDL") == 0) memcpy(x->strides, bdl, sizeof bdl);
}

static int make_forward(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t L = set->shape[0], B = set->shape[1], D = set->shape[2];
  const int64_t packed_shape[] = {L * B, D};
  int packed = strcmp(set->layout, "packed") == 0;
  DLTensor *x;
  int code = begin(set, host, D, file);
  if (code == EXIT_OK)
    code = bench_case_add(file, "inputs.x", set->dtype, packed ? 2 : 3,
                          packed ? packed_shape : set->shape, &x);
  if (code != EXIT_OK) return code;
  bench_fill(x, 1);
  order(set, x);
  return packed ? add_offsets(L * B, B, file) : EXIT_OK;
}

static int make_step(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t state_shape[] = {set->shape[1], set->shape[2], set->heads};
  DLDataType state_dtype = cumega_float32;
  DLTensor *x, *state;
  int code = begin(set, host, set->shape[2], file);
  if (code == EXIT_OK) code = bench_case_add(file, "inputs.x", set->dtype, 3, set->shape, &x);
  if (code != EXIT_OK) return code;
  (void)values_dtype_from_name(state_dtype_of(set), &state_dtype);
  code = bench_case_add(file, "inputs.state", state_dtype, 3, state_shape, &state);
  if (code != EXIT_OK) return code;
  bench_fill(x, 1);
  bench_fill(state, 2);
  return EXIT_OK;
}

static int make_kernel(const bench_settings *set, cumega_context *host, case_file *file) {
  json_t *config = json_pack("{s:I, s:I, s:I}", "size", (json_int_t)set->shape[0], "num_heads",
                             (json_int_t)set->heads, "length", (json_int_t)set->shape[1]);
  int code = bench_case_begin(set->what, config, file);
  if (code != EXIT_OK) return code;
  return add_parameters(set, host, set->shape[0], set->dtype, file);
}

static const char *const forward_sweep[] = {"activation=identity",
                                            "activation=relu",
                                            "activation=swish",
                                            "activation=tanh",
                                            "activation=leaky_relu",
                                            "activation=hardtanh",
                                            "activation=selu",
                                            "activation=mish",
                                            "activation=smish",
                                            "activation=ftswish",
                                            "cache=flushed",
                                            "dtype=bfloat16",
                                            "dtype=bfloat16 activation=swish",
                                            "dtype=float16",
                                            "dtype=float16 activation=swish",
                                            "state-dtype=float64",
                                            "state-dtype=float64 activation=swish",
                                            "dtype=float64",
                                            "dtype=float64 activation=swish",
                                            "layout=BLD",
                                            "layout=BLD dtype=bfloat16",
                                            "layout=BDL",
                                            "layout=BDL dtype=bfloat16",
                                            "layout=packed",
                                            "layout=packed dtype=bfloat16",
                                            "heads=1",
                                            "heads=2",
                                            "heads=8",
                                            "heads=16",
                                            "heads=32",
                                            "shape=64,8,512",
                                            "shape=16384,1,512",
                                            "shape=256,64,512",
                                            "threads=2",
                                            "threads=2 activation=swish",
                                            "threads=2 activation=swish layout=packed",
                                            "shape=65536,1,64 threads=2",
                                            "shape=65536,1,64 threads=2 algorithm=recurrent",
                                            "shape=65536,1,64 threads=2 algorithm=sliced",
                                            "truncation=16 algorithm=direct",
                                            "level=v3",
                                            "level=v3 activation=swish",
                                            "level=plain",
                                            "level=plain activation=swish",
                                            NULL};

static const char *const step_sweep[] = {"shape=1,1,512",
                                         "shape=1,8,512",
                                         "shape=1,64,512",
                                         "shape=1,512,512",
                                         "shape=1,4096,512",
                                         "activation=swish",
                                         "activation=swish dtype=bfloat16",
                                         "shape=1,512,512 activation=swish threads=2",
                                         NULL};

static const char *const kernel_sweep[] = {"shape=512,2048", "shape=512,16384", "shape=4096,2048",
                                           NULL};

const benchmark bench_ema_forward = {.operation = "ema_forward",
                                     .letters = "L,B,D",
                                     .shape = {2048, 8, 512},
                                     .takes = EMA_TAKES | BENCH_TAKES(BENCH_LAYOUT) |
                                              BENCH_TAKES(BENCH_ALGORITHM) |
                                              BENCH_TAKES(BENCH_TRUNCATION),
                                     .make = make_forward,
                                     .check = bench_ema_reference,
                                     .checked = BENCH_EMA_CHECKED,
                                     .sweep = forward_sweep};

const benchmark bench_ema_step = {.operation = "ema_step",
                                  .letters = "T,B,D",
                                  .shape = {1, 8, 512},
                                  .takes = EMA_TAKES,
                                  .make = make_step,
                                  .check = bench_ema_reference,
                                  .checked = BENCH_EMA_CHECKED,
                                  .sweep = step_sweep};

const benchmark bench_ema_kernel = {.operation = "ema_kernel",
                                    .letters = "D,L",
                                    .shape = {512, 2048},
                                    .takes = BENCH_TAKES(BENCH_HEADS),
                                    .make = make_kernel,
                                    .sweep = kernel_sweep};
