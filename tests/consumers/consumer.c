/* What another project's program does: it runs one EMA whose answer is known exactly. Compiled as
 * C11 and as C++17. damping = decay = 0 gives p = 1/2 and q = 3/4; with expansion 2 and
 * projection 1 the response to a one is 1, 3/4, 9/16. */
#include <stdio.h>
#include <cumega/cumega.h>

static cumega_status make_ema(cumega_context *ctx, cumega_ema **ema) {
  float damping = 0, decay = 0, expansion = 2, projection = 1, residual = 0;
  const int64_t shape[] = {1, 1};
  cumega_tensor tensors[5];
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 1);
  config.num_heads = 1;
  config.activation = CUMEGA_ACTIVATION_IDENTITY;

  cumega_ema_parameters p;
  cumega_ema_parameters_init(&p, sizeof p);
  p.damping_factor =
      cumega_tensor_init(&tensors[0], &damping, cumega_cpu, cumega_float32, 2, shape);
  p.decay_factor = cumega_tensor_init(&tensors[1], &decay, cumega_cpu, cumega_float32, 2, shape);
  p.ema_expansion_matrix =
      cumega_tensor_init(&tensors[2], &expansion, cumega_cpu, cumega_float32, 2, shape);
  p.kernel_projection_matrix =
      cumega_tensor_init(&tensors[3], &projection, cumega_cpu, cumega_float32, 2, shape);
  p.residual_weight =
      cumega_tensor_init(&tensors[4], &residual, cumega_cpu, cumega_float32, 1, shape);
  return cumega_ema_create(ctx, &config, &p, ema);
}

int main(void) {
  float x[3] = {1, 0, 0}, y[3] = {0, 0, 0};
  const int64_t shape[] = {3, 1, 1};
  cumega_tensor input, output;
  cumega_ema_io io;
  cumega_ema_io_init(&io, sizeof io);
  io.x = cumega_tensor_init(&input, x, cumega_cpu, cumega_float32, 3, shape);
  io.y = cumega_tensor_init(&output, y, cumega_cpu, cumega_float32, 3, shape);

  cumega_context *ctx = NULL;
  cumega_ema *ema = NULL;
  cumega_status status = cumega_context_create(NULL, &ctx);
  if (status == CUMEGA_OK) status = make_ema(ctx, &ema);
  if (status == CUMEGA_OK) status = cumega_ema_forward(ctx, ema, &io);
  if (status != CUMEGA_OK)
    fprintf(stderr, "%s: %s\n", cumega_status_string(status), cumega_context_message(ctx));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);

  int right = status == CUMEGA_OK && y[0] == 1.0F && y[1] == 0.75F && y[2] == 0.5625F &&
              cumega_version_number() == CUMEGA_VERSION_NUMBER;
  printf("cumega %s: %s\n", cumega_version_string(), right ? "right" : "WRONG");
  return right ? 0 : 1;
}
