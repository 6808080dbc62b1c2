#define CUMEGA_TESTS_EMA_DEVICE_INSIDE
#include "ema_device.h"
#include "assertions.h"
#include "device.h"

/* The same io with its tensors staged. */
static cumega_ema_io relabelled(staging *s, const cumega_ema_io *io) {
  cumega_ema_io there = *io;
  const DLTensor **members[] = {&there.x,
                                (const DLTensor **)(uintptr_t)&there.y,
                                &there.mask,
                                &there.sequence_lengths,
                                &there.sequence_offsets,
                                &there.initial_state,
                                (const DLTensor **)(uintptr_t)&there.final_state,
                                &there.initial_slots,
                                &there.final_slots};
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) staging_add(s, members[i]);
  return there;
}

typedef cumega_status (*run_function)(cumega_context *, const cumega_ema *, const cumega_ema_io *);

/* Memory is touched only if the library finds nothing wrong with the arguments; until then
 * tensors may be anything. Asking for the workspace's size makes the same checks and reads no
 * memory. */
static cumega_status run(cumega_context *ctx, const cumega_ema *ema, const cumega_ema_io *io,
                         run_function function, int is_step) {
  staging s;
  if (!staging_begin(&s, ctx) || io == NULL || io->struct_size != sizeof *io)
    return function(ctx, ema, io);
  int64_t bytes;
  cumega_ema_io there = relabelled(&s, io), probe = there;
  if (is_step) probe.raw = 1;
  if (cumega_ema_workspace_size(ctx, ema, &probe, &bytes) != CUMEGA_OK)
    return function(ctx, ema, &there);
  staging_there(&s);
  cumega_status status = function(ctx, ema, &there);
  uint32_t met = 0;
  if (status == CUMEGA_OK) {
    ck_assert_msg(cumega_context_report(ctx, &met) == CUMEGA_OK, "%s",
                  cumega_context_message(ctx));
    staging_back(&s);
  } else if (status == CUMEGA_ERROR_ARGUMENT || status == CUMEGA_ERROR_UNSUPPORTED) {
    staging_back(&s); /* which clears the message: the same refusal gives it again */
    ck_assert_int_eq(function(ctx, ema, &there), status);
  }
  return met != 0 ? CUMEGA_ERROR_ARGUMENT : status;
}

cumega_status device_ema_forward(cumega_context *ctx, const cumega_ema *ema,
                                 const cumega_ema_io *io) {
  return run(ctx, ema, io, cumega_ema_forward, 0);
}

cumega_status device_ema_step(cumega_context *ctx, const cumega_ema *ema,
                              const cumega_ema_io *io) {
  return run(ctx, ema, io, cumega_ema_step, 1);
}

cumega_status device_ema_workspace_size(cumega_context *ctx, const cumega_ema *ema,
                                        const cumega_ema_io *io, int64_t *bytes) {
  staging s;
  if (!staging_begin(&s, ctx) || io == NULL || io->struct_size != sizeof *io)
    return cumega_ema_workspace_size(ctx, ema, io, bytes);
  const cumega_ema_io there = relabelled(&s, io);
  return cumega_ema_workspace_size(ctx, ema, &there, bytes);
}
