/* The values of a run's index tensors, on the CPU: all of them are checked before anything is
 * written. */
#include "ema.h"

static cumega_status check_lengths(cumega_context *ctx, const ema_run *run) {
  for (int64_t b = 0; run->lengths.data && b < run->B; b++) {
    int64_t length = tensor_index_at(&run->lengths, b);
    if (length < 0 || length > run->L)
      return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                          "sequence_lengths[%lld] is %lld, expected 0 to L = %lld", (long long)b,
                          (long long)length, (long long)run->L);
  }
  return CUMEGA_OK;
}

static cumega_status check_offsets(cumega_context *ctx, const ema_run *run) {
  int64_t before = 0;
  for (int64_t b = 0; run->packed && b <= run->B; b++) {
    int64_t offset = tensor_index_at(&run->offsets, b);
    if (offset < before || offset > run->L)
      return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                          "sequence_offsets[%lld] is %lld, expected %lld (%s) to total = %lld",
                          (long long)b, (long long)offset, (long long)before,
                          b == 0 ? "the first row" : "the offset before it", (long long)run->L);
    before = offset;
  }
  return CUMEGA_OK;
}

static cumega_status check_slots(cumega_context *ctx, const char *name, const tensor_index *slots,
                                 int64_t B, int64_t rows) {
  for (int64_t b = 0; slots->data && b < B; b++) {
    int64_t slot = tensor_index_at(slots, b);
    if (slot >= rows)
      return context_fail(
          ctx, CUMEGA_ERROR_ARGUMENT,
          "%s[%lld] is %lld, expected less than the pool's %lld rows (negative: none)", name,
          (long long)b, (long long)slot, (long long)rows);
  }
  return CUMEGA_OK;
}

/* The first sequence that writes this row, which is one of those before; for the sentence only. */
static int64_t writer_of(const ema_run *run, int64_t row) {
  int64_t writer = 0;
  while (ema_state_row(&run->final, &run->final_slots, writer) != row) writer++;
  return writer;
}

/* A row has one writer at most; and where both pools are one memory, its writer alone reads it.
 * written: a bit per row of the final pool. */
static cumega_status check_writers(cumega_context *ctx, const ema_run *run, int aliased_pools,
                                   uint8_t *written) {
  memset(written, 0, (size_t)ema_indices_workspace(run));
  for (int64_t b = 0; b < run->B; b++) {
    int64_t row = ema_state_row(&run->final, &run->final_slots, b);
    if (row < 0) continue;
    if (written[row / 8] >> row % 8 & 1)
      return context_fail(
          ctx, CUMEGA_ERROR_ARGUMENT,
          "final_slots[%lld] is %lld, as final_slots[%lld] is: expected each row once",
          (long long)b, (long long)row, (long long)writer_of(run, row));
    written[row / 8] |= (uint8_t)(1 << row % 8);
  }
  for (int64_t b = 0; aliased_pools && b < run->B; b++) {
    int64_t row = ema_state_row(&run->initial, &run->initial_slots, b);
    if (row < 0 || !(written[row / 8] >> row % 8 & 1)) continue;
    if (ema_state_row(&run->final, &run->final_slots, b) == row) continue;
    return context_fail(
        ctx, CUMEGA_ERROR_ARGUMENT,
        "final_state is initial_state, and sequence %lld reads row %lld, which sequence "
        "%lld writes: expected a second pool",
        (long long)b, (long long)row, (long long)writer_of(run, row));
  }
  return CUMEGA_OK;
}

/* Without slots sequence b has row b in both pools, and nothing can collide. */
static int needs_writers(const ema_run *run) {
  return run->final_slots.data || run->initial_slots.data;
}

int64_t ema_indices_workspace(const ema_run *run) {
  return needs_writers(run) ? run->final.rows / 8 + 1 : 0;
}

cumega_status ema_indices_check(cumega_context *ctx, const ema_run *run, int aliased_pools) {
  TRY(check_lengths(ctx, run));
  TRY(check_offsets(ctx, run));
  TRY(check_slots(ctx, "initial_slots", &run->initial_slots, run->B, run->initial.rows));
  TRY(check_slots(ctx, "final_slots", &run->final_slots, run->B, run->final.rows));
  if (!needs_writers(run)) return CUMEGA_OK;
  void *written;
  TRY(context_scratch(ctx, ema_indices_workspace(run), &written));
  return check_writers(ctx, run, aliased_pools, written);
}
