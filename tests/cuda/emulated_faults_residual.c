/* Calls for residual connections and norms that may fail, except their runs. */
#include "emulated_faults.h"

static cumega_status create(world *w) {
  return emulated_residual_create(w->ctx, w->run->shape, &w->objects);
}

static int residual_is_defined(world *w, cumega_status status) {
  return (w->objects.residual != NULL) == (status == CUMEGA_OK);
}

static int norm_is_defined(world *w, cumega_status status) {
  return (w->objects.norm != NULL) == (status == CUMEGA_OK);
}

static cumega_status create_residual_from_weights(world *w) {
  const cumega_residual_config config = emulated_residual_config(w->run->shape);
  return cumega_residual_create_from_weights(w->ctx, w->weights, "a", &config,
                                             &w->objects.residual);
}

static cumega_status create_norm_from_weights(world *w) {
  const cumega_norm_config config = emulated_norm_config(w->run->shape);
  return cumega_norm_create_from_weights(w->ctx, w->weights, "n", &config, &w->objects.norm);
}

/* Other parameters than the objects were made with; if they are refused, the old ones stay, as
 * the next run shows. After a success the objects are made again. */
static cumega_status set_residual_parameters(world *w) {
  test_tensor *c = tensor_new_1(cumega_float64, w->run->shape->residual.D);
  for (int64_t i = 0; i < c->view.shape[0]; i++) tensor_set(c, i, 0, 0, 0.25);
  const cumega_residual_parameters p = {.struct_size = sizeof p, .affine = dl(c)};
  const cumega_status status = cumega_residual_set_parameters(w->ctx, w->objects.residual, &p);
  tensor_free(c);
  return status;
}

static cumega_status set_norm_parameters(world *w) {
  const cumega_norm_parameters initial = {.struct_size = sizeof initial};
  return cumega_norm_set_parameters(w->ctx, w->objects.norm, &initial);
}

static cumega_status get_residual_parameters(world *w) {
  test_tensor *c = tensor_new_1(cumega_float64, w->run->shape->residual.D);
  const cumega_residual_parameters p = {.struct_size = sizeof p, .affine = dl(c)};
  const cumega_status status = cumega_residual_get_parameters(w->ctx, w->objects.residual, &p);
  tensor_free(c);
  return status;
}

static cumega_status get_norm_parameters(world *w) {
  test_tensor *weight = tensor_new_1(cumega_float64, w->run->shape->residual.D);
  const cumega_norm_parameters p = {.struct_size = sizeof p, .weight = dl(weight)};
  const cumega_status status = cumega_norm_get_parameters(w->ctx, w->objects.norm, &p);
  tensor_free(weight);
  return status;
}

static cumega_status get_residual_config(world *w) {
  cumega_residual_config config = {.struct_size = sizeof config};
  return cumega_residual_get_config(w->ctx, w->objects.residual, &config);
}

static cumega_status get_norm_config(world *w) {
  cumega_norm_config config = {.struct_size = sizeof config};
  return cumega_norm_get_config(w->ctx, w->objects.norm, &config);
}

static cumega_status get_multipliers(world *w) {
  double alpha, beta;
  return cumega_residual_get_multipliers(w->ctx, w->objects.residual, &alpha, &beta);
}

const scenario residual_scenarios[] = {
    {"cumega_residual_create", "lines", CONTEXT, create, residual_is_defined, NULL},
    {"cumega_residual_create", "highway", CONTEXT, create, residual_is_defined, NULL},
    {"cumega_residual_create_from_weights", "rows", CONTEXT | NEEDS_WEIGHTS,
     create_residual_from_weights, residual_is_defined, NULL},
    {"cumega_residual_destroy", "highway", OBJECTS | IS_PREPARED, faults_destroy_objects, NULL,
     NULL},
    {"cumega_residual_set_parameters", "rows", OBJECTS, set_residual_parameters, NULL,
     faults_destroy_objects},
    {"cumega_residual_get_parameters", "rows", OBJECTS, get_residual_parameters, NULL, NULL},
    {"cumega_residual_get_config", "rows", OBJECTS, get_residual_config, NULL, NULL},
    {"cumega_residual_get_multipliers", "lines", OBJECTS, get_multipliers, NULL, NULL},
    {"cumega_residual_workspace_size", "highway", OBJECTS, faults_workspace_size, NULL, NULL},
    {"cumega_residual_gated_workspace_size", "gated", OBJECTS, faults_workspace_size, NULL, NULL},
    {"cumega_residual_prepare", "highway", OBJECTS, faults_prepare, NULL, NULL},
    {"cumega_norm_create", "gated rows", CONTEXT, create, norm_is_defined, NULL},
    {"cumega_norm_create_from_weights", "rows", CONTEXT | NEEDS_WEIGHTS, create_norm_from_weights,
     norm_is_defined, NULL},
    {"cumega_norm_destroy", "gated rows", OBJECTS, faults_destroy_objects, NULL, NULL},
    {"cumega_norm_set_parameters", "rows", OBJECTS, set_norm_parameters, NULL,
     faults_destroy_objects},
    {"cumega_norm_get_parameters", "rows", OBJECTS, get_norm_parameters, NULL, NULL},
    {"cumega_norm_get_config", "rows", OBJECTS, get_norm_config, NULL, NULL},
};
const int residual_scenario_count =
    (int)(sizeof residual_scenarios / sizeof residual_scenarios[0]);
