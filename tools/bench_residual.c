/* Residual connections and the norms that follow, made to be measured. */
#include <string.h>
#include <cumega/residual.h>
#include "bench.h"
#include "failure.h"

static int is_highway(const bench_settings *set) {
  return strcmp(set->kind, "Highway") == 0;
}

/* A parameter, small enough that sums of many stay in range. */
static int add_parameter(case_file *file, const char *name, int ndim, const int64_t *shape) {
  DLTensor *tensor;
  int code = bench_case_add(file, name, cumega_float32, ndim, shape, &tensor);
  if (code != EXIT_OK) return code;
  bench_fill(tensor, 3);
  float *values = tensor->data;
  int64_t count = ndim == 2 ? shape[0] * shape[1] : ndim == 1 ? shape[0] : 1;
  for (int64_t i = 0; i < count; i++) values[i] *= ndim == 2 ? 0.0625f : 0.5f;
  return EXIT_OK;
}

/* The norm's parameters and its part of the settings; "none" has neither. */
static int add_norm(const bench_settings *set, int64_t size, case_file *file) {
  const char *norm = set->norm;
  if (strcmp(norm, "none") == 0) return EXIT_OK;
  if (json_object_set_new(file->config, "norm", json_pack("{s:s}", "type", norm)) != 0)
    return bench_no_memory(file);
  if (strcmp(norm, "basic_norm") == 0) return add_parameter(file, "parameters.norm.eps", 0, NULL);
  if (strcmp(norm, "scale_norm") == 0) return add_parameter(file, "parameters.norm.scale", 0, NULL);
  if (strcmp(norm, "rms_norm") == 0) return add_parameter(file, "parameters.norm.scale", 1, &size);
  int code = add_parameter(file, "parameters.norm.weight", 1, &size);
  return code == EXIT_OK ? add_parameter(file, "parameters.norm.bias", 1, &size) : code;
}

static int add_inputs(const bench_settings *set, int count, const char *const *names,
                      case_file *file) {
  int code = EXIT_OK;
  for (int i = 0; code == EXIT_OK && i < count; i++) {
    DLTensor *tensor;
    code = bench_case_add(file, names[i], set->dtype, 3, set->shape, &tensor);
    if (code == EXIT_OK) bench_fill(tensor, (uint64_t)i + 1);
  }
  return code;
}

static int make_residual(const bench_settings *set, cumega_context *host, case_file *file) {
  static const char *const inputs[] = {"inputs.x", "inputs.y"};
  const int64_t D = set->shape[2], square[] = {D, D}, one = 1;
  (void)host;
  int code = bench_case_begin(
      set->what,
      json_pack("{s:s, s:i, s:I}", "kind", set->kind, "i_layer", 3, "size", (json_int_t)D), file);
  if (code == EXIT_OK && strcmp(set->kind, "Affine") == 0)
    code = add_parameter(file, "parameters.affine", 1, &one);
  if (code == EXIT_OK && is_highway(set)) {
    code = add_parameter(file, "parameters.Wx.weight", 2, square);
    if (code == EXIT_OK) code = add_parameter(file, "parameters.Wx.bias", 1, &D);
    if (code == EXIT_OK) code = add_parameter(file, "parameters.Wy.weight", 2, square);
    if (code == EXIT_OK) code = add_parameter(file, "parameters.Wy.bias", 1, &D);
  }
  if (code == EXIT_OK) code = add_norm(set, D, file);
  return code == EXIT_OK ? add_inputs(set, 2, inputs, file) : code;
}

static int make_gated(const bench_settings *set, cumega_context *host, case_file *file) {
  static const char *const inputs[] = {"inputs.x", "inputs.gate", "inputs.h"};
  (void)host;
  int code =
      bench_case_begin(set->what, json_pack("{s:I}", "size", (json_int_t)set->shape[2]), file);
  if (code == EXIT_OK) code = add_norm(set, set->shape[2], file);
  return code == EXIT_OK ? add_inputs(set, 3, inputs, file) : code;
}

/* Two products with (D, D) matrices. */
static double work_of_residual(const bench_settings *set) {
  return is_highway(set) ? 2 * (double)set->shape[2] : 1;
}

static const char *const residual_sweep[] = {
    "kind=Affine",    "kind=DecayResidual", "kind=Feedforward", "kind=Highway shape=64,8,256",
    "dtype=bfloat16", "dtype=float16",      "dtype=float64",    "norm=layer_norm",
    "norm=rms_norm",  "norm=scale_norm",    "norm=basic_norm",  "norm=layer_norm dtype=bfloat16",
    "shape=1,8,512",  "cache=flushed",      "threads=2",        NULL};
static const char *const gated_sweep[] = {"dtype=bfloat16", "norm=layer_norm", "shape=1,8,512",
                                          "cache=flushed",  "threads=2",       NULL};

const benchmark bench_residual = {.operation = "residual",
                                  .letters = "L,B,D",
                                  .shape = {2048, 8, 512},
                                  .takes = BENCH_TAKES(BENCH_KIND) | BENCH_TAKES(BENCH_NORM),
                                  .make = make_residual,
                                  .work = work_of_residual,
                                  .sweep = residual_sweep};

const benchmark bench_gated_residual = {.operation = "gated_residual",
                                        .letters = "L,B,D",
                                        .shape = {2048, 8, 512},
                                        .takes = BENCH_TAKES(BENCH_NORM),
                                        .make = make_gated,
                                        .sweep = gated_sweep};
