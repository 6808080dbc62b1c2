#include "ema_harness.h"
#include <math.h>
#include <stdlib.h>

test_parameters *parameters_new(int64_t channels, int64_t heads) {
  test_parameters *parameters = memory_new(sizeof *parameters);
  int64_t count = channels * heads;
  parameters->channels = channels;
  parameters->heads = heads;
  parameters->damping = memory_new(count * 8);
  parameters->decay = memory_new(count * 8);
  parameters->expansion = memory_new(count * 8);
  parameters->projection = memory_new(count * 8);
  parameters->residual = memory_new(channels * 8);
  return parameters;
}

void parameters_free(test_parameters *parameters) {
  if (parameters == NULL) return;
  free(parameters->damping);
  free(parameters->decay);
  free(parameters->expansion);
  free(parameters->projection);
  free(parameters->residual);
  free(parameters);
}

void parameters_fill(test_parameters *parameters, uint64_t *seed, double slowest) {
  int64_t N = parameters->heads;
  for (int64_t i = 0; i < parameters->channels * N; i++) {
    /* 1 - q = sigmoid(a)^2 = s^2, the slowest in head 0; the last of many heads has 1/2. */
    double share = N > 1 ? (double)(i % N) / (double)(N - 1) : 0.0;
    double s = sqrt(slowest * pow(0.5 / slowest, share)), a = log(s / (1.0 - s));
    parameters->damping[i] = (float)a;
    parameters->decay[i] = (float)(a * (1.0 + 1e-3 * random_unit(seed)));
    parameters->expansion[i] = (float)((i % 2 ? -1.0 : 1.0) + 0.02 * random_noise(seed));
    parameters->projection[i] = (float)random_noise(seed);
  }
  for (int64_t d = 0; d < parameters->channels; d++)
    parameters->residual[d] = (float)random_noise(seed);
}

reference_ema parameters_channel(const test_parameters *parameters, int64_t d) {
  const int64_t N = parameters->heads;
  return (reference_ema){.heads = N,
                         .damping = parameters->damping + d * N,
                         .decay = parameters->decay + d * N,
                         .expansion = parameters->expansion + d * N,
                         .projection = parameters->projection + d * N};
}

/* (D, N, 1) if dims is 3, (D, N) if 2, (D) if 1. */
static test_tensor *parameter_tensor(DLDataType dtype, int dims, int64_t D, int64_t N,
                                     const double *values) {
  test_tensor *tensor = tensor_new(dtype, dims, (int64_t[]){D, N, 1}, NULL);
  if (dims == 1) N = 1;
  for (int64_t d = 0; d < D; d++)
    for (int64_t n = 0; n < N; n++) tensor_set(tensor, d, n, 0, values[d * N + n]);
  return tensor;
}

cumega_ema *ema_new(cumega_context *ctx, cumega_ema_config config,
                    const test_parameters *parameters, DLDataType dtype) {
  int64_t D = parameters->channels, N = parameters->heads;
  config.size = D;
  config.num_heads = N;
  test_tensor *tensors[5] = {parameter_tensor(dtype, 3, D, N, parameters->damping),
                             parameter_tensor(dtype, 3, D, N, parameters->decay),
                             parameter_tensor(dtype, 3, D, N, parameters->expansion),
                             parameter_tensor(dtype, 2, D, N, parameters->projection),
                             parameter_tensor(dtype, 1, D, N, parameters->residual)};
  cumega_ema_parameters given = {sizeof given,   dl(tensors[0]), dl(tensors[1]),
                                 dl(tensors[2]), dl(tensors[3]), dl(tensors[4])};
  cumega_ema *ema = NULL;
  MUST(ctx, cumega_ema_create(ctx, &config, &given, &ema));
  for (int i = 0; i < 5; i++) tensor_free(tensors[i]);
  return ema;
}

cumega_ema *ema_pass_through(cumega_context *ctx, cumega_ema_config config) {
  test_parameters *parameters = parameters_new(config.size, 1);
  for (int64_t d = 0; d < config.size; d++) parameters->residual[d] = 1.0;
  cumega_ema *ema = ema_new(ctx, config, parameters, cumega_float64);
  parameters_free(parameters);
  return ema;
}
