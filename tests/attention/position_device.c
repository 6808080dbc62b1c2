#define CUMEGA_TESTS_POSITION_DEVICE_INSIDE
#include "defaults.h"
#include "position_device.h"
#include "assertions.h"
#include "device.h"

/* The same io with its tensors staged. */
static cumega_attention_scores_io relabelled(staging *s, const cumega_attention_scores_io *io) {
  cumega_attention_scores_io there = *io;
  const DLTensor **members[] = {&there.scores,         (const DLTensor **)(uintptr_t)&there.output,
                                &there.attention_mask, &there.key_padding_mask,
                                &there.query_lengths,  &there.key_lengths};
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) staging_add(s, members[i]);
  return there;
}

typedef cumega_status (*run_function)(cumega_context *, const cumega_position_bias *,
                                      const cumega_attention_scores_io *);

/* Memory is touched only if the library finds nothing wrong with the arguments. Asking for the
 * workspace's size makes the same checks. */
static cumega_status run(cumega_context *ctx, const cumega_position_bias *bias,
                         const cumega_attention_scores_io *io, run_function function) {
  staging s;
  if (!staging_begin(&s, ctx) || io == NULL || io->struct_size != sizeof *io)
    return function(ctx, bias, io);
  int64_t bytes;
  const cumega_attention_scores_io there = relabelled(&s, io);
  if (scores_size_with(ctx, bias, &there, &bytes) != CUMEGA_OK) return function(ctx, bias, &there);
  staging_there(&s);
  const cumega_status status = function(ctx, bias, &there);
  uint32_t met = 0;
  if (status == CUMEGA_OK) {
    ck_assert_msg(cumega_context_report(ctx, &met) == CUMEGA_OK, "%s",
                  cumega_context_message(ctx));
    staging_back(&s);
  }
  return met != 0 ? CUMEGA_ERROR_ARGUMENT : status;
}

cumega_status device_scores_with(cumega_context *ctx, const cumega_position_bias *bias,
                                 const cumega_attention_scores_io *io) {
  return run(ctx, bias, io, scores_with);
}

cumega_status device_softmax_with(cumega_context *ctx, const cumega_position_bias *bias,
                                  const cumega_attention_scores_io *io) {
  return run(ctx, bias, io, softmax_with);
}

cumega_status device_scores_size_with(cumega_context *ctx, const cumega_position_bias *bias,
                                      const cumega_attention_scores_io *io, int64_t *bytes) {
  staging s;
  if (!staging_begin(&s, ctx) || io == NULL || io->struct_size != sizeof *io)
    return scores_size_with(ctx, bias, io, bytes);
  const cumega_attention_scores_io there = relabelled(&s, io);
  return scores_size_with(ctx, bias, &there, bytes);
}

/* No call checks without running, so the output is copied if it has memory at all. */
cumega_status device_position_bias_forward(cumega_context *ctx, const cumega_position_bias *bias,
                                           DLTensor *output) {
  staging s;
  if (!staging_begin(&s, ctx) || output == NULL)
    return cumega_position_bias_forward(ctx, bias, output);
  const DLTensor *there = output;
  const int has_memory = output->data != NULL && output->ndim == 2;
  staging_add(&s, &there);
  if (has_memory) staging_there(&s);
  const cumega_status status =
      cumega_position_bias_forward(ctx, bias, (DLTensor *)(uintptr_t)there);
  char sentence[800];
  strncpy(sentence, cumega_context_message(ctx), sizeof sentence - 1);
  sentence[sizeof sentence - 1] = '\0';
  if (has_memory) staging_back(&s);
  /* Copying back cleared the message: the same failure, without memory, gives it again. */
  if (status != CUMEGA_OK) {
    DLTensor labelled = *output;
    labelled.device = device_of_tests();
    const cumega_status again = cumega_position_bias_forward(ctx, bias, &labelled);
    ck_assert_int_eq(again, status);
    ck_assert_str_eq(cumega_context_message(ctx), sentence);
  }
  return status;
}
