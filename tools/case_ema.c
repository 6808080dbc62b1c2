#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/ema.h>
#include "case_ema.h"
#include "failure.h"
#include "setting.h"
#include "values.h"

/* ema and config for all three; io for forward and step, where x, mask and the states of step are
 * those of all steps; the last three for kernel. */
typedef struct ema_call {
  cumega_ema *ema;
  cumega_ema_config config;
  cumega_ema_io io;
  DLTensor *kernel, *damping_factor, *prev_timestep_weight;
} ema_call;

static int read_activation(const case_file *file, cumega_ema_config *config) {
  static const char *const known[] = {"swish_beta",
                                      "smish_alpha",
                                      "smish_beta",
                                      "ftswish_threshold",
                                      "ftswish_mean_shift",
                                      "hardtanh_min_val",
                                      "hardtanh_max_val",
                                      "leakyrelu_neg_slope",
                                      "softplus_beta",
                                      "softplus_threshold",
                                      NULL};
  double without_effect = 0; /* ESPnet's softplus arguments (docs/case-files.md) */
  double *values[] = {&config->swish_beta,
                      &config->smish_alpha,
                      &config->smish_beta,
                      &config->ftswish_threshold,
                      &config->ftswish_mean_shift,
                      &config->hardtanh_min_val,
                      &config->hardtanh_max_val,
                      &config->leakyrelu_neg_slope,
                      &without_effect,
                      &without_effect};
  settings from = {file, file->config, ""};
  const char *name = NULL;
  int code = settings_string(&from, "activation", &name);
  if (code != EXIT_OK) return code;
  if (name != NULL && !cumega_activation_from_name(name, &config->activation))
    return settings_refuse(&from, "activation", "the name of an activation, as \"relu\"");
  settings arguments = {file, NULL, "activation_args."};
  code = settings_object(&from, "activation_args", &arguments.object);
  if (code != EXIT_OK || arguments.object == NULL) return code;
  code = settings_known(&arguments, known);
  for (int i = 0; code == EXIT_OK && known[i] != NULL; i++)
    code = settings_number(&arguments, known[i], values[i]);
  return code;
}

/* *length where the operation has one, else NULL. */
static int read_config(const case_file *file, cumega_ema_config *config, int64_t *length) {
  static const char *const known[] = {
      "size",        "num_heads",         "activation", "activation_args",
      "state_dtype", "truncation_length", NULL};
  static const char *const known_of_kernel[] = {
      "size",        "num_heads",         "activation", "activation_args",
      "state_dtype", "truncation_length", "length",     NULL};
  settings from = {file, file->config, ""};
  const char *state_dtype = "float32";
  *config = cumega_ema_config_default(0);
  int code = settings_known(&from, length != NULL ? known_of_kernel : known);
  if (code == EXIT_OK) code = settings_need(&from, "size", "an integer");
  if (code == EXIT_OK) code = settings_integer(&from, "size", &config->size);
  if (code == EXIT_OK) code = settings_need(&from, "num_heads", "an integer");
  if (code == EXIT_OK) code = settings_integer(&from, "num_heads", &config->num_heads);
  if (code == EXIT_OK)
    code = settings_integer_or_null(&from, "truncation_length", &config->truncation_length);
  if (code == EXIT_OK) code = settings_string(&from, "state_dtype", &state_dtype);
  if (code == EXIT_OK && length != NULL) code = settings_need(&from, "length", "an integer >= 0");
  if (code == EXIT_OK && length != NULL) code = settings_integer(&from, "length", length);
  if (code != EXIT_OK) return code;
  if (length != NULL && *length < 0) return settings_refuse(&from, "length", "an integer >= 0");
  if (strcmp(state_dtype, "float32") != 0 && strcmp(state_dtype, "float64") != 0)
    return settings_refuse(&from, "state_dtype", "\"float32\" or \"float64\"");
  config->state_dtype = strcmp(state_dtype, "float64") == 0 ? cumega_float64 : cumega_float32;
  return read_activation(file, config);
}

/* The EMA of the case, as j->object. */
static int make_ema(job *j, int64_t *length, ema_call **made) {
  ema_call *call = calloc(1, sizeof *call);
  if (call == NULL) return fail(EXIT_DEVICE, "%s: no memory", j->file->path);
  *made = j->object = call;
  int code = read_config(j->file, &call->config, length);
  if (code != EXIT_OK) return code;
  cumega_ema_parameters p = {.struct_size = sizeof p};
  struct {
    const char *name;
    DLTensor **tensor;
  } needed[] = {{"damping_factor", &p.damping_factor},
                {"decay_factor", &p.decay_factor},
                {"ema_expansion_matrix", &p.ema_expansion_matrix},
                {"kernel_projection_matrix", &p.kernel_projection_matrix},
                {"residual_weight", &p.residual_weight}};
  for (size_t i = 0; code == EXIT_OK && i < sizeof needed / sizeof *needed; i++)
    code = case_need(j->file, "parameters", needed[i].name, needed[i].tensor);
  if (code != EXIT_OK) return code;
  return job_check(j, cumega_ema_create(j->ctx, &call->config, &p, &call->ema));
}

/* What forward and step have in common: x, mask, initial state, y. x_dims is 2 for a packed batch.
 */
static int make_io(job *j, ema_call *call, int x_dims) {
  const case_file *file = j->file;
  case_dimension padded[] = {{-1, "L"}, {-1, "B"}, {call->config.size, "D"}};
  case_dimension packed[] = {{-1, "total"}, {call->config.size, "D"}};
  cumega_ema_io *io = &call->io;
  DLTensor *x;
  char shape[80];
  int code = case_need(file, "inputs", "x", &x);
  if (code == EXIT_OK)
    code = case_expect_shape(file, "inputs.x", x, x_dims, x_dims == 2 ? packed : padded);
  if (code != EXIT_OK) return code;
  io->struct_size = sizeof *io;
  io->x = x;
  io->mask = case_find(file, "inputs", "mask");
  io->initial_state = case_find(file, "inputs", "state");
  j->dtype = x->dtype;
  j->elements = values_count(x);
  snprintf(j->shape, sizeof j->shape, "x%s", values_shape_text(x, shape, sizeof shape));
  code = job_add_output(j, "outputs.y", x->dtype, x->ndim, x->shape, &io->y);
  if (code == EXIT_OK) values_order_like(io->y, x);
  return code;
}

/* The state as it is afterwards, (B, D, N), or a copy of the pool where final_slots name its rows.
 */
static int make_final_state(job *j, ema_call *call, int64_t batch) {
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
  int code =
      job_add_output(j, "outputs.state", call->config.state_dtype, 3, shape, &call->io.final_state);
  if (code == EXIT_OK && initial != NULL && values_count(initial) > 0 &&
      values_count(initial) == values_count(call->io.final_state))
    memcpy(call->io.final_state->data, initial->data, (size_t)values_bytes(initial));
  return code;
}

/* What was found and made on the host, for the device. */
static int stage_io(job *j, ema_call *call) {
  cumega_ema_io *io = &call->io;
  const DLTensor **inputs[] = {&io->x,
                               &io->mask,
                               &io->sequence_lengths,
                               &io->sequence_offsets,
                               &io->initial_state,
                               &io->initial_slots,
                               &io->final_slots};
  int code = EXIT_OK;
  for (size_t i = 0; code == EXIT_OK && i < sizeof inputs / sizeof *inputs; i++) {
    DLTensor *tensor = (DLTensor *)(uintptr_t)*inputs[i];
    code = job_stage(j, &tensor);
    *inputs[i] = tensor;
  }
  if (code == EXIT_OK) code = job_stage(j, &io->y);
  if (code == EXIT_OK) code = job_stage(j, &io->final_state);
  return code;
}

int ema_forward_prepare(job *j) {
  ema_call *call;
  int code = make_ema(j, NULL, &call);
  if (code != EXIT_OK) return code;
  cumega_ema_io *io = &call->io;
  const case_dimension any[] = {{-1, "B + 1"}};
  io->sequence_lengths = case_find(j->file, "inputs", "sequence_lengths");
  io->sequence_offsets = case_find(j->file, "inputs", "sequence_offsets");
  io->initial_slots = case_find(j->file, "inputs", "initial_slots");
  io->final_slots = case_find(j->file, "inputs", "final_slots");
  io->algorithm = j->algorithm;
  int packed = io->sequence_offsets != NULL;
  code = make_io(j, call, packed ? 2 : 3);
  if (code == EXIT_OK && packed)
    code = case_expect_shape(j->file, "inputs.sequence_offsets", io->sequence_offsets, 1, any);
  if (code != EXIT_OK) return code;
  int64_t batch = packed ? io->sequence_offsets->shape[0] - 1 : io->x->shape[1];
  if (batch < 0)
    return fail(EXIT_INPUT, "%s: tensor 'inputs.sequence_offsets' is empty, expected (B + 1)",
                j->file->path);
  /* A truncated sum over the past has no state that could be handed on, nor has a convolution. */
  if (j->algorithm == CUMEGA_EMA_FFT)
    j->left_out = "state", io->final_slots = NULL; /* where a state is given, forward refuses it */
  else if (call->config.truncation_length >= io->x->shape[0])
    code = make_final_state(j, call, batch);
  return code == EXIT_OK ? stage_io(j, call) : code;
}

cumega_status ema_forward_run(job *j) {
  ema_call *call = j->object;
  return cumega_ema_forward(j->ctx, call->ema, &call->io);
}

int ema_step_prepare(job *j) {
  ema_call *call;
  int code = make_ema(j, NULL, &call);
  if (code == EXIT_OK) code = make_io(j, call, 3);
  if (code != EXIT_OK) return code;
  const DLTensor *x = call->io.x, *mask = call->io.mask;
  if (mask != NULL) {
    case_dimension expected[] = {{x->shape[1], "B"}, {1, "1"}, {x->shape[0], "T"}};
    code = case_expect_shape(j->file, "inputs.mask", mask, 3, expected);
    if (code != EXIT_OK) return code;
  }
  code = make_final_state(j, call, x->shape[1]);
  return code == EXIT_OK ? stage_io(j, call) : code;
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

cumega_status ema_step_run(job *j) {
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

int ema_kernel_prepare(job *j) {
  ema_call *call;
  int64_t length = 0;
  int code = make_ema(j, &length, &call);
  if (code != EXIT_OK) return code;
  j->dtype = case_find(j->file, "parameters", "damping_factor")->dtype;
  int64_t kernel[] = {call->config.size, length};
  int64_t coefficients[] = {call->config.size, call->config.num_heads, 1};
  code = job_add_output(j, "outputs.kernel", j->dtype, 2, kernel, &call->kernel);
  if (code == EXIT_OK)
    code = job_add_output(j, "outputs.damping_factor", j->dtype, 3, coefficients,
                          &call->damping_factor);
  if (code == EXIT_OK)
    code = job_add_output(j, "outputs.prev_timestep_weight", j->dtype, 3, coefficients,
                          &call->prev_timestep_weight);
  if (code != EXIT_OK) return code;
  j->elements = values_count(call->kernel);
  snprintf(j->shape, sizeof j->shape, "kernel(%" PRId64 ", %" PRId64 ")", kernel[0], kernel[1]);
  return EXIT_OK;
}

cumega_status ema_kernel_run(job *j) {
  ema_call *call = j->object;
  cumega_status status = cumega_ema_compute_coefficients(j->ctx, call->ema, call->damping_factor,
                                                         call->prev_timestep_weight);
  if (status != CUMEGA_OK) return status;
  return cumega_ema_compute_kernel(j->ctx, call->ema, call->kernel);
}

void ema_release(job *j) {
  ema_call *call = j->object;
  if (call != NULL) cumega_ema_destroy(call->ema);
  free(call);
}
