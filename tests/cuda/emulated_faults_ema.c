/* The EMA's calls that may fail, except its runs. */
#include "emulated_faults.h"

static cumega_status create(world *w) {
  const cumega_ema_config config = emulated_ema_config(w->run->shape);
  return cumega_ema_create(w->ctx, &config, NULL, &w->objects.ema);
}

static cumega_status create_from_weights(world *w) {
  const cumega_ema_config config = emulated_ema_config(w->run->shape);
  return cumega_ema_create_from_weights(w->ctx, w->weights, "e", &config, &w->objects.ema);
}

static int is_defined(world *w, cumega_status status) {
  return (w->objects.ema != NULL) == (status == CUMEGA_OK);
}

/* Other parameters; if they are refused, the old ones stay, as the next run shows. */
static cumega_status reset_parameters(world *w) {
  return cumega_ema_reset_parameters(w->ctx, w->objects.ema, 0.1, 0.3, 0.5, 99);
}

static cumega_status reset_to_the_defaults(world *w) {
  return cumega_ema_reset_parameters(w->ctx, w->objects.ema, 0, 0.2, 1, 0);
}

/* All five, of float64 so that they come back as they were. */
typedef struct five {
  test_tensor *tensors[5];
  cumega_ema_parameters parameters;
} five;

static five five_of(const ema_shape *s) {
  five f;
  for (int i = 0; i < 5; i++)
    f.tensors[i] =
        i == 4 ? tensor_new_1(cumega_float64, s->D) : tensor_new_2(cumega_float64, s->D, s->N);
  f.parameters = (cumega_ema_parameters){sizeof f.parameters, dl(f.tensors[0]), dl(f.tensors[1]),
                                         dl(f.tensors[2]),    dl(f.tensors[3]), dl(f.tensors[4])};
  return f;
}

static cumega_status get_parameters(world *w) {
  five f = five_of(&w->run->shape->ema);
  cumega_status status = cumega_ema_get_parameters(w->ctx, w->objects.ema, &f.parameters);
  for (int i = 0; i < 5; i++) tensor_free(f.tensors[i]);
  return status;
}

static cumega_status set_parameters(world *w) {
  five f = five_of(&w->run->shape->ema);
  for (int i = 0; i < 5; i++)
    for (int64_t d = 0; d < w->run->shape->ema.D; d++)
      for (int64_t n = 0; n < w->run->shape->ema.N; n++)
        tensor_set(f.tensors[i], d, i == 4 ? 0 : n, 0, 0.25);
  cumega_status status = cumega_ema_set_parameters(w->ctx, w->objects.ema, &f.parameters);
  for (int i = 0; i < 5; i++) tensor_free(f.tensors[i]);
  return status;
}

static cumega_status get_config(world *w) {
  cumega_ema_config config = {.struct_size = sizeof config};
  return cumega_ema_get_config(w->ctx, w->objects.ema, &config);
}

static cumega_status compute_coefficients(world *w) {
  test_tensor *p = tensor_new_2(cumega_float64, w->run->shape->ema.D, w->run->shape->ema.N);
  cumega_status status = cumega_ema_compute_coefficients(w->ctx, w->objects.ema, dl(p), NULL);
  tensor_free(p);
  return status;
}

static cumega_status compute_kernel(world *w) {
  test_tensor *k = tensor_new_2(cumega_float64, w->run->shape->ema.D, 3);
  cumega_status status = cumega_ema_compute_kernel(w->ctx, w->objects.ema, dl(k));
  tensor_free(k);
  return status;
}

const scenario ema_scenarios[] = {
    {"cumega_ema_create", "lanes", CONTEXT, create, is_defined, NULL},
    {"cumega_ema_create", "many heads, float64", CONTEXT, create, is_defined, NULL},
    {"cumega_ema_create", "truncated", CONTEXT, create, is_defined, NULL},
    {"cumega_ema_create_from_weights", "plain", CONTEXT | NEEDS_WEIGHTS, create_from_weights,
     is_defined, NULL},
    {"cumega_ema_destroy", "plain", OBJECTS, faults_destroy_objects, NULL, NULL},
    {"cumega_ema_reset_parameters", "plain", OBJECTS, reset_parameters, NULL,
     reset_to_the_defaults},
    {"cumega_ema_reset_parameters, spectra", "fft", OBJECTS | IS_PREPARED, reset_parameters, NULL,
     reset_to_the_defaults},
    {"cumega_ema_set_parameters", "plain", OBJECTS, set_parameters, NULL, reset_to_the_defaults},
    {"cumega_ema_get_parameters", "plain", OBJECTS, get_parameters, NULL, NULL},
    {"cumega_ema_get_config", "plain", OBJECTS, get_config, NULL, NULL},
    {"cumega_ema_compute_coefficients", "plain", OBJECTS, compute_coefficients, NULL, NULL},
    {"cumega_ema_compute_kernel", "plain", OBJECTS, compute_kernel, NULL, NULL},
    {"cumega_ema_workspace_size", "many heads", OBJECTS, faults_workspace_size, NULL, NULL},
    {"cumega_ema_prepare", "many heads", OBJECTS, faults_prepare, NULL, NULL},
    {"cumega_ema_prepare", "sliced", OBJECTS, faults_prepare, NULL, NULL},
    {"cumega_ema_prepare", "fft", OBJECTS, faults_prepare, NULL, NULL},
};
const int ema_scenario_count = (int)(sizeof ema_scenarios / sizeof ema_scenarios[0]);
