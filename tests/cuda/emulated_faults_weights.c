#include <stdio.h>
#include <unistd.h>
#include "emulated_faults.h"

static char path[64];

static const char *const names[FAULTS_WEIGHTS_COUNT] = {"e.damping_factor",
                                                        "e.decay_factor",
                                                        "e.ema_expansion_matrix",
                                                        "e.kernel_projection_matrix",
                                                        "e.residual_weight",
                                                        "b.relative_position_bias",
                                                        "r.alpha",
                                                        "r.beta",
                                                        "a.affine",
                                                        "n.weight",
                                                        "n.bias"};

/* The shapes of names, one dimension or two. */
static void make_tensors(test_tensor **tensors) {
  const ema_shape *e = &faults_shape("plain")->ema;
  const int64_t D = faults_shape("rows")->residual.D;
  const int64_t positions = emulated_positions(faults_shape("softmax, relative"));
  for (int i = 0; i < 4; i++) tensors[i] = tensor_new_2(cumega_float32, e->D, e->N);
  tensors[4] = tensor_new_1(cumega_float32, e->D);
  tensors[5] = tensor_new_1(cumega_float32, 2 * positions - 1);
  for (int i = 6; i < 8; i++) tensors[i] = tensor_new_1(cumega_float32, EMULATED_ROTARY_SIZE);
  for (int i = 8; i < 11; i++) tensors[i] = tensor_new_1(cumega_float32, D);
}

static void fill_tensors(cumega_context *ctx, test_tensor **t) {
  run_objects ema = emulated_objects_new(ctx, faults_shape("plain"));
  run_objects relative = emulated_objects_new(ctx, faults_shape("softmax, relative"));
  run_objects rotary = emulated_objects_new(ctx, faults_shape("softmax, rotary"));
  run_objects rows = emulated_objects_new(ctx, faults_shape("rows"));
  cumega_ema_parameters e = {sizeof e, dl(t[0]), dl(t[1]), dl(t[2]), dl(t[3]), dl(t[4])};
  cumega_position_bias_parameters b = {sizeof b, dl(t[5]), NULL, NULL};
  cumega_position_bias_parameters r = {sizeof r, NULL, dl(t[6]), dl(t[7])};
  cumega_residual_parameters a = {.struct_size = sizeof a, .affine = dl(t[8])};
  cumega_norm_parameters n = {.struct_size = sizeof n, .weight = dl(t[9]), .bias = dl(t[10])};
  MUST(ctx, cumega_ema_get_parameters(ctx, ema.ema, &e));
  MUST(ctx, cumega_position_bias_get_parameters(ctx, relative.bias, &b));
  MUST(ctx, cumega_position_bias_get_parameters(ctx, rotary.bias, &r));
  MUST(ctx, cumega_residual_get_parameters(ctx, rows.residual, &a));
  MUST(ctx, cumega_norm_get_parameters(ctx, rows.norm, &n));
  emulated_objects_destroy(&ema);
  emulated_objects_destroy(&relative);
  emulated_objects_destroy(&rotary);
  emulated_objects_destroy(&rows);
}

const char *faults_weights_path(void) {
  if (path[0] != '\0') return path;
  test_tensor *tensors[FAULTS_WEIGHTS_COUNT];
  cumega_named_tensor named[FAULTS_WEIGHTS_COUNT];
  const cumega_metadata about = {"made.by", "a test"};
  cumega_context *ctx = context_of_level(NULL, 1);
  make_tensors(tensors);
  fill_tensors(ctx, tensors);
  for (int i = 0; i < FAULTS_WEIGHTS_COUNT; i++)
    named[i] = (cumega_named_tensor){names[i], dl(tensors[i])};
  snprintf(path, sizeof path, "/tmp/cumega-faults-%ld.safetensors", (long)getpid());
  MUST(ctx, cumega_weights_save(ctx, path, named, FAULTS_WEIGHTS_COUNT, &about, 1));
  for (int i = 0; i < FAULTS_WEIGHTS_COUNT; i++) tensor_free(tensors[i]);
  cumega_context_destroy(ctx);
  return path;
}

void faults_end(void) {
  if (path[0] != '\0') unlink(path);
}
