/* Attention weights for a batch of sequences of different lengths, causal, with a rotary position
 * bias. The sequences are padded to the longest, and a tensor holds their lengths. The weights
 * are written over the scores. */
#include <stdio.h>
#include <stdlib.h>
#include <cumega/cumega.h>

enum { BATCH = 3, HEADS = 1, LENGTH = 6, SIZE = 8 };

/* scores (B, H, L, L): queries times keys. */
static cumega_status weigh(cumega_context *ctx, const cumega_position_bias *bias, float *scores,
                           int32_t *lengths) {
  cumega_tensor scores_tensor, lengths_tensor;
  const int64_t shape[] = {BATCH, HEADS, LENGTH, LENGTH}, batch[] = {BATCH};
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.output = cumega_tensor_init(&scores_tensor, scores, cumega_cpu, cumega_float32, 4, shape);
  io.scores = io.output;
  io.scale = 0.35; /* for queries and keys of 8 numbers: 8^-0.5 */
  io.causal = 1;
  io.query_lengths =
      cumega_tensor_init(&lengths_tensor, lengths, cumega_cpu, cumega_int32, 1, batch);
  io.key_lengths = io.query_lengths;
  io.bias = bias;
  return cumega_attention_softmax(ctx, &io);
}

int main(void) {
  static float scores[BATCH][HEADS][LENGTH][LENGTH];
  int32_t lengths[BATCH] = {6, 3, 4};
  for (int b = 0; b < BATCH; b++)
    for (int i = 0; i < LENGTH; i++)
      for (int j = 0; j < LENGTH; j++) scores[b][0][i][j] = (float)((5 * i + 3 * j + b) % 7 - 3);

  cumega_context *ctx = NULL;
  cumega_position_bias *bias = NULL;
  cumega_status status = cumega_context_create(NULL, &ctx);
  cumega_position_bias_config config;
  cumega_position_bias_config_init(&config, sizeof config, 2048);
  config.kind = CUMEGA_POSITION_BIAS_ROTARY;
  config.size = SIZE;
  if (status == CUMEGA_OK) /* a model would use cumega_position_bias_create_from_weights */
    status = cumega_position_bias_create(ctx, &config, NULL, &bias);
  if (status == CUMEGA_OK) status = weigh(ctx, bias, &scores[0][0][0][0], lengths);

  if (status != CUMEGA_OK) {
    fprintf(stderr, "attention_weights: %s: %s\n", cumega_status_string(status),
            cumega_context_message(ctx));
  } else {
    for (int b = 0; b < BATCH; b++) {
      const float *last = scores[b][0][lengths[b] - 1];
      printf("sequence %d, weights of its last query:", b);
      for (int j = 0; j < LENGTH; j++) printf(" %.4f", (double)last[j]);
      putchar('\n');
    }
  }
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(ctx);
  return status == CUMEGA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
