#include "case_residual.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/residual.h>
#include "failure.h"
#include "setting.h"
#include "values.h"

/* One of the two ios; residual NULL where gated. */
typedef struct residual_call {
  cumega_residual *residual;
  cumega_norm *norm;
  cumega_residual_io io;
  cumega_residual_gated_io gated;
} residual_call;

/* ---- the norm ---- */

static int read_norm_config(const case_file *file, const json_t *object, int64_t size,
                            cumega_norm_config *config) {
  static const char *const known[] = {"type", "eps", NULL};
  const settings from = {file, object, "norm."};
  const char *name = NULL;
  cumega_norm_type type = CUMEGA_NORM_LAYER;
  int code = settings_known(&from, known);
  if (code == EXIT_OK) code = settings_need(&from, "type", "the name of a norm, as \"layer_norm\"");
  if (code == EXIT_OK) code = settings_string(&from, "type", &name);
  if (code != EXIT_OK) return code;
  if (!cumega_norm_type_from_name(name, &type))
    return settings_refuse(&from, "type", "layer_norm, rms_norm, scale_norm or basic_norm");
  *config = cumega_norm_config_default(type, size);
  return settings_number(&from, "eps", &config->eps);
}

/* The case's norm, where it has one. */
static int make_norm(job *j, residual_call *call, int64_t size) {
  const settings from = {j->file, j->file->config, ""};
  const json_t *object = NULL;
  cumega_norm_config config;
  cumega_norm_parameters p = {.struct_size = sizeof p};
  int code = settings_object(&from, "norm", &object);
  if (code != EXIT_OK || object == NULL) return code;
  code = read_norm_config(j->file, object, size, &config);
  if (code != EXIT_OK) return code;
  if (config.type == CUMEGA_NORM_LAYER) {
    code = case_need(j->file, "parameters", "norm.weight", &p.weight);
    if (code == EXIT_OK) code = case_need(j->file, "parameters", "norm.bias", &p.bias);
  } else if (config.type == CUMEGA_NORM_BASIC) {
    code = case_need(j->file, "parameters", "norm.eps", &p.eps);
  } else {
    code = case_need(j->file, "parameters", "norm.scale", &p.scale);
  }
  if (code != EXIT_OK) return code;
  return job_check(j, cumega_norm_create(j->ctx, &config, &p, &call->norm));
}

/* ---- the connection ---- */

static int read_config(const case_file *file, cumega_residual_config *config, int32_t *transposed) {
  static const char *const known[] = {
      "kind",   "i_layer", "size", "transposed",         "alpha",    "beta", "gamma",
      "scalar", "power",   "l2",   "scaling_correction", "elemwise", "norm", NULL};
  const settings from = {file, file->config, ""};
  const char *name = NULL;
  int64_t size = 0;
  cumega_residual_kind kind = CUMEGA_RESIDUAL_RESIDUAL;
  int code = settings_known(&from, known);
  if (code == EXIT_OK) code = settings_need(&from, "kind", "the name of a kind, as \"R\"");
  if (code == EXIT_OK) code = settings_string(&from, "kind", &name);
  if (code == EXIT_OK) code = settings_need(&from, "size", "an integer");
  if (code == EXIT_OK) code = settings_integer(&from, "size", &size);
  if (code != EXIT_OK) return code;
  if (!cumega_residual_kind_from_name(name, &kind))
    return settings_refuse(&from, "kind", "the name of a residual connection, as \"R\"");
  *config = cumega_residual_config_default(kind, 1, size);
  code = settings_integer(&from, "i_layer", &config->i_layer);
  if (code == EXIT_OK) code = settings_boolean(&from, "transposed", transposed);
  if (code == EXIT_OK) code = settings_number(&from, "alpha", &config->alpha);
  if (code == EXIT_OK) code = settings_number(&from, "beta", &config->beta);
  if (code == EXIT_OK) code = settings_number(&from, "gamma", &config->gamma);
  if (code == EXIT_OK) code = settings_number(&from, "power", &config->power);
  if (code == EXIT_OK) code = settings_boolean(&from, "scalar", &config->scalar);
  if (code == EXIT_OK) code = settings_boolean(&from, "l2", &config->l2);
  if (code == EXIT_OK)
    code = settings_boolean(&from, "scaling_correction", &config->scaling_correction);
  if (code == EXIT_OK) code = settings_boolean(&from, "elemwise", &config->elemwise);
  return code;
}

static int make_residual(job *j, residual_call *call, const cumega_residual_config *config) {
  cumega_residual_parameters p = {.struct_size = sizeof p};
  const int highway = config->kind == CUMEGA_RESIDUAL_HIGHWAY;
  const struct {
    const char *name;
    DLTensor **tensor;
    int needed;
  } all[] = {{"affine", &p.affine, config->kind == CUMEGA_RESIDUAL_AFFINE},
             {"Wx.weight", &p.Wx_weight, highway},
             {"Wx.bias", &p.Wx_bias, highway},
             {"Wy.weight", &p.Wy_weight, highway && !config->elemwise},
             {"Wy.bias", &p.Wy_bias, highway && !config->elemwise},
             {"Wy", &p.Wy, highway && config->elemwise}};
  int code = EXIT_OK;
  for (size_t i = 0; code == EXIT_OK && i < sizeof all / sizeof *all; i++)
    if (all[i].needed) code = case_need(j->file, "parameters", all[i].name, all[i].tensor);
  if (code != EXIT_OK) return code;
  return job_check(j, cumega_residual_create(j->ctx, config, &p, &call->residual));
}

/* ---- the tensors ---- */

/* What both operations' tables say, and the outputs: like `shaped`. */
static int make_outputs(job *j, residual_call *call, const char *name, const DLTensor *shaped,
                        DLTensor **out, DLTensor **normalized) {
  char shape[80];
  j->dtype = shaped->dtype;
  j->elements = values_count(shaped);
  snprintf(j->shape, sizeof j->shape, "%s%s", name, values_shape_text(shaped, shape, sizeof shape));
  int code = job_add_output(j, "outputs.out", shaped->dtype, shaped->ndim, shaped->shape, out);
  if (code == EXIT_OK && call->norm)
    code = job_add_output(j, "outputs.normalized", shaped->dtype, shaped->ndim, shaped->shape,
                          normalized);
  return code;
}

static int stage_inputs(job *j, int count, const DLTensor **const *inputs) {
  int code = EXIT_OK;
  for (int i = 0; code == EXIT_OK && i < count; i++) {
    DLTensor *tensor = (DLTensor *)(uintptr_t)*inputs[i];
    code = job_stage(j, &tensor);
    *inputs[i] = tensor;
  }
  return code;
}

static int begin(job *j, residual_call **made) {
  *made = j->object = calloc(1, sizeof **made);
  return *made == NULL ? fail(EXIT_DEVICE, "%s: no memory", j->file->path) : EXIT_OK;
}

int residual_prepare(job *j) {
  residual_call *call;
  cumega_residual_config config;
  DLTensor *y;
  int32_t transposed = 0;
  int code = begin(j, &call);
  if (code == EXIT_OK) code = read_config(j->file, &config, &transposed);
  if (code == EXIT_OK) code = make_residual(j, call, &config);
  if (code == EXIT_OK) code = make_norm(j, call, config.d_model);
  if (code == EXIT_OK) code = case_need(j->file, "inputs", "y", &y);
  if (code != EXIT_OK) return code;
  cumega_residual_io *io = &call->io;
  io->struct_size = sizeof *io;
  io->x = case_find(j->file, "inputs", "x");
  io->y = y;
  io->transposed = transposed;
  io->norm = call->norm;
  const DLTensor **const inputs[] = {&io->x, &io->y};
  code = make_outputs(j, call, "y", y, &io->out, &io->normalized);
  if (code == EXIT_OK) code = stage_inputs(j, 2, inputs);
  if (code == EXIT_OK) code = job_stage(j, &io->out);
  return code == EXIT_OK ? job_stage(j, &io->normalized) : code;
}

cumega_status residual_run(job *j) {
  residual_call *call = j->object;
  return cumega_residual_forward(j->ctx, call->residual, &call->io);
}

static int read_gated_size(const case_file *file, int64_t *size) {
  static const char *const known[] = {"size", "norm", NULL};
  const settings from = {file, file->config, ""};
  int code = settings_known(&from, known);
  if (code == EXIT_OK) code = settings_need(&from, "size", "an integer");
  return code == EXIT_OK ? settings_integer(&from, "size", size) : code;
}

int gated_residual_prepare(job *j) {
  residual_call *call;
  DLTensor *x, *gate, *h;
  int64_t size = 0;
  int code = begin(j, &call);
  if (code == EXIT_OK) code = read_gated_size(j->file, &size);
  if (code == EXIT_OK) code = make_norm(j, call, size);
  if (code == EXIT_OK) code = case_need(j->file, "inputs", "x", &x);
  if (code == EXIT_OK) code = case_need(j->file, "inputs", "gate", &gate);
  if (code == EXIT_OK) code = case_need(j->file, "inputs", "h", &h);
  if (code != EXIT_OK) return code;
  if (x->ndim < 1 || x->shape[x->ndim - 1] != size)
    return fail(EXIT_INPUT,
                "%s: tensor 'inputs.x' has not the %" PRId64 " channels of setting 'size' in its "
                "last dimension",
                j->file->path, size);
  cumega_residual_gated_io *io = &call->gated;
  io->struct_size = sizeof *io;
  io->x = x;
  io->gate = gate;
  io->h = h;
  io->norm = call->norm;
  const DLTensor **const inputs[] = {&io->x, &io->gate, &io->h};
  code = make_outputs(j, call, "x", x, &io->out, &io->normalized);
  if (code == EXIT_OK) code = stage_inputs(j, 3, inputs);
  if (code == EXIT_OK) code = job_stage(j, &io->out);
  return code == EXIT_OK ? job_stage(j, &io->normalized) : code;
}

cumega_status gated_residual_run(job *j) {
  residual_call *call = j->object;
  return cumega_residual_gated_forward(j->ctx, &call->gated);
}

void residual_release(job *j) {
  residual_call *call = j->object;
  if (call != NULL) {
    cumega_residual_destroy(call->residual);
    cumega_norm_destroy(call->norm);
  }
  free(call);
}
