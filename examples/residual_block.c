/* The end of a post-norm block: a residual connection whose weight decays with depth, and the
 * layer norm that follows, in one pass over memory. It works in place: the sum is written over y.
 *
 *   residual_block                                 random parameters
 *   residual_block WEIGHTS.safetensors PREFIX      a model's layer norm of 128 channels, such as
 *   residual_block tests/golden/gated_residual-trained-layer0.safetensors parameters.norm */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <cumega/cumega.h>

enum { TOKENS = 6, CHANNELS = 128, LAYERS = 4 };

static cumega_status create_norm(cumega_context *ctx, const char *path, const char *prefix,
                                 cumega_norm **norm) {
  cumega_norm_config config;
  cumega_norm_config_init(&config, sizeof config, CUMEGA_NORM_LAYER, CHANNELS);
  if (path == NULL) return cumega_norm_create(ctx, &config, NULL, norm);
  cumega_weights *weights = NULL;
  cumega_status status = cumega_weights_open(ctx, path, &weights);
  if (status == CUMEGA_OK)
    status = cumega_norm_create_from_weights(ctx, weights, prefix, &config, norm);
  cumega_weights_close(weights);
  return status;
}

/* One block: h = norm(alpha * h + beta * y), where y is the layer's output for h. */
static cumega_status block(cumega_context *ctx, const cumega_norm *norm, int64_t i_layer, float *h,
                           float *y) {
  const int64_t shape[] = {TOKENS, CHANNELS};
  cumega_residual_config config;
  cumega_residual_config_init(&config, sizeof config, CUMEGA_RESIDUAL_DECAY, i_layer, CHANNELS);
  cumega_residual *residual = NULL;
  cumega_tensor h_tensor, y_tensor;
  cumega_residual_io io = {.struct_size = sizeof io, .norm = norm};
  double alpha = 0, beta = 0;
  io.x = io.normalized = cumega_tensor_init(&h_tensor, h, cumega_cpu, cumega_float32, 2, shape);
  io.y = io.out = cumega_tensor_init(&y_tensor, y, cumega_cpu, cumega_float32, 2, shape);
  cumega_status status = cumega_residual_create(ctx, &config, NULL, &residual);
  if (status == CUMEGA_OK) status = cumega_residual_get_multipliers(ctx, residual, &alpha, &beta);
  if (status == CUMEGA_OK) status = cumega_residual_forward(ctx, residual, &io);
  if (status == CUMEGA_OK)
    printf("layer %d: %.4f x + %.4f y, first channels %+.5f %+.5f\n", (int)i_layer, alpha, beta,
           (double)h[0], (double)h[1]);
  cumega_residual_destroy(residual);
  return status;
}

int main(int argc, char **argv) {
  static float h[TOKENS * CHANNELS], y[TOKENS * CHANNELS];
  cumega_context *ctx = NULL;
  cumega_norm *norm = NULL;
  for (int i = 0; i < TOKENS * CHANNELS; i++) h[i] = (float)(i * 7 % 23 - 11) / 8;
  cumega_status status = cumega_context_create(NULL, &ctx);
  if (status == CUMEGA_OK)
    status = create_norm(ctx, argc > 1 ? argv[1] : NULL, argc > 2 ? argv[2] : NULL, &norm);
  for (int64_t layer = 1; status == CUMEGA_OK && layer <= LAYERS; layer++) {
    for (int i = 0; i < TOKENS * CHANNELS; i++) y[i] = tanhf(h[i]); /* stands for the layer */
    status = block(ctx, norm, layer, h, y);
  }
  if (status != CUMEGA_OK)
    fprintf(stderr, "residual_block: %s: %s\n", cumega_status_string(status),
            cumega_context_message(ctx));
  cumega_norm_destroy(norm);
  cumega_context_destroy(ctx);
  return status == CUMEGA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
