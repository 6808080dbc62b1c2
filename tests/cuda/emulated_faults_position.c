/* Calls for position biases that may fail, except their runs. */
#include "defaults.h"
#include "emulated_faults.h"

static int is_relative(const world *w) {
  return w->run->shape->position.kind == CUMEGA_POSITION_BIAS_RELATIVE;
}

static cumega_status create(world *w) {
  cumega_position_bias **bias = &w->objects.bias;
  if (is_relative(w)) return bias_relative(w->ctx, emulated_positions(w->run->shape), NULL, bias);
  return bias_rotary(w->ctx, EMULATED_ROTARY_SIZE, 1, NULL, NULL, bias);
}

static cumega_status create_from_weights(world *w) {
  cumega_position_bias **bias = &w->objects.bias;
  if (is_relative(w))
    return bias_relative_from_weights(w->ctx, w->weights, "b", emulated_positions(w->run->shape),
                                      bias);
  return bias_rotary_from_weights(w->ctx, w->weights, "r", EMULATED_ROTARY_SIZE, 1, bias);
}

static int is_defined(world *w, cumega_status status) {
  return (w->objects.bias != NULL) == (status == CUMEGA_OK);
}

/* Other parameters; if they are refused, the old ones stay, as the next run shows. */
static cumega_status reset_parameters(world *w) {
  return cumega_position_bias_reset_parameters(w->ctx, w->objects.bias, 0.1, 0.3, 99);
}

static cumega_status reset_to_the_defaults(world *w) {
  return cumega_position_bias_reset_parameters(w->ctx, w->objects.bias, 0, 0.02, 0);
}

typedef cumega_status (*with_parameters)(cumega_context *ctx, cumega_position_bias *bias,
                                         const cumega_position_bias_parameters *parameters);

static cumega_status get(cumega_context *ctx, cumega_position_bias *bias,
                         const cumega_position_bias_parameters *parameters) {
  return cumega_position_bias_get_parameters(ctx, bias, parameters);
}

/* Zeros to set, or room for what is read. */
static cumega_status call_with_tensors(world *w, with_parameters call) {
  const int64_t positions = 2 * emulated_positions(w->run->shape) - 1;
  test_tensor *a = tensor_new_1(cumega_float64, is_relative(w) ? positions : EMULATED_ROTARY_SIZE);
  test_tensor *b = is_relative(w) ? NULL : tensor_new_1(cumega_float64, EMULATED_ROTARY_SIZE);
  for (int64_t i = 0; i < a->view.shape[0]; i++) tensor_set(a, i, 0, 0, 0);
  for (int64_t i = 0; b != NULL && i < b->view.shape[0]; i++) tensor_set(b, i, 0, 0, 0);
  const cumega_position_bias_parameters relative = {sizeof relative, dl(a), NULL, NULL};
  const cumega_position_bias_parameters rotary = {sizeof rotary, NULL, dl(a), dl(b)};
  const cumega_status status = call(w->ctx, w->objects.bias, is_relative(w) ? &relative : &rotary);
  tensor_free(a);
  if (b != NULL) tensor_free(b);
  return status;
}

static cumega_status get_parameters(world *w) {
  return call_with_tensors(w, get);
}

static cumega_status set_parameters(world *w) {
  return call_with_tensors(w, cumega_position_bias_set_parameters);
}

static cumega_status get_config(world *w) {
  cumega_position_bias_config config = {.struct_size = sizeof config};
  return cumega_position_bias_get_config(w->ctx, w->objects.bias, &config);
}

/* Beyond the existing table. */
static cumega_status prepare_more(world *w) {
  return cumega_position_bias_prepare(w->ctx, w->objects.bias, 300);
}

const scenario position_scenarios[] = {
    {"cumega_position_bias_create", "softmax, relative", CONTEXT, create, is_defined, NULL},
    {"cumega_position_bias_create", "scores, rotary", CONTEXT, create, is_defined, NULL},
    {"cumega_position_bias_create_from_weights", "softmax, relative", CONTEXT | NEEDS_WEIGHTS,
     create_from_weights, is_defined, NULL},
    {"cumega_position_bias_create_from_weights", "softmax, rotary", CONTEXT | NEEDS_WEIGHTS,
     create_from_weights, is_defined, NULL},
    {"cumega_position_bias_destroy", "softmax, relative", OBJECTS, faults_destroy_objects, NULL,
     NULL},
    {"cumega_position_bias_destroy, a table", "scores, rotary", OBJECTS | IS_PREPARED,
     faults_destroy_objects, NULL, NULL},
    {"cumega_position_bias_reset_parameters", "softmax, relative", OBJECTS, reset_parameters, NULL,
     reset_to_the_defaults},
    {"cumega_position_bias_reset_parameters, a table", "scores, rotary", OBJECTS | IS_PREPARED,
     reset_parameters, NULL, reset_to_the_defaults},
    {"cumega_position_bias_set_parameters", "matrix, relative", OBJECTS, set_parameters, NULL,
     reset_to_the_defaults},
    {"cumega_position_bias_set_parameters, a table", "scores, rotary", OBJECTS | IS_PREPARED,
     set_parameters, NULL, reset_to_the_defaults},
    {"cumega_position_bias_get_parameters", "matrix, relative", OBJECTS, get_parameters, NULL,
     NULL},
    {"cumega_position_bias_get_config", "matrix, relative", OBJECTS, get_config, NULL, NULL},
    {"cumega_attention_scores_workspace_size", "long softmax", OBJECTS, faults_workspace_size,
     NULL, NULL},
    {"cumega_position_bias_prepare", "scores, rotary", OBJECTS, faults_prepare, NULL, NULL},
    {"cumega_position_bias_prepare, again", "scores, rotary", OBJECTS | IS_PREPARED, prepare_more,
     NULL, NULL},
    {"cumega_position_bias_prepare, a graph", "scores, rotary", OBJECTS | NEEDS_GRAPH,
     prepare_more, NULL, NULL},
};
const int position_scenario_count =
    (int)(sizeof position_scenarios / sizeof position_scenarios[0]);
