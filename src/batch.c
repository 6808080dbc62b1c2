/* The values of index tensors, on the CPU: all of them are checked before anything is written. */
#include "batch.h"
#include "call.h"

static cumega_status check_offsets(cumega_context *ctx, const batch_layout *b, batch_names names) {
  int64_t before = 0;
  for (int64_t i = 0; i <= b->count; i++) {
    const int64_t offset = tensor_index_at(&b->index, i);
    if (offset < before || offset > b->rows)
      return call_fail_argument(ctx, "%s[%lld] is %lld, expected %lld (%s) to %s = %lld",
                                names.index, (long long)i, (long long)offset, (long long)before,
                                i == 0 ? "the first row" : "the offset before it", names.rows,
                                (long long)b->rows);
    before = offset;
  }
  return CUMEGA_OK;
}

cumega_status batch_check(cumega_context *ctx, const batch_layout *b, batch_names names,
                          const batch_layout *least) {
  if (b->packed) return check_offsets(ctx, b, names);
  for (int64_t i = 0; i < b->count; i++) {
    const int64_t length = batch_span_of(b, i).length;
    const int64_t lower = least ? batch_span_of(least, i).length : 0;
    if (length < lower || length > b->rows)
      return call_fail_argument(ctx, "%s[%lld] is %lld, expected %lld%s to %s = %lld", names.index,
                                (long long)i, (long long)length, (long long)lower,
                                least ? names.least : "", names.rows, (long long)b->rows);
  }
  return CUMEGA_OK;
}

cumega_status batch_check_slots(cumega_context *ctx, const batch_slots *s, batch_slot_names names,
                                int64_t count) {
  for (int64_t i = 0; s->index.data && i < count; i++) {
    const int64_t slot = batch_slot(s, i);
    if (slot >= s->rows)
      return call_fail_argument(
          ctx, "%s[%lld] is %lld, expected less than the pool's %lld rows (negative: none)",
          names.slots, (long long)i, (long long)slot, (long long)s->rows);
  }
  return CUMEGA_OK;
}

/* The first sequence that writes this row, for sentences; there is one. */
static long long writer_of(const batch_slots *writes, int64_t count, int64_t row) {
  int64_t writer = 0;
  while (writer < count && batch_slot(writes, writer) != row) writer++;
  return (long long)writer;
}

int64_t batch_writers_bytes(const batch_slots *writes) {
  return writes->rows / 8 + 1;
}

/* written: a bit per row. */
cumega_status batch_check_writers(cumega_context *ctx, const batch_slots *reads,
                                  batch_slot_names read_names, const batch_slots *writes,
                                  batch_slot_names write_names, int64_t count, uint8_t *written) {
  memset(written, 0, (size_t)batch_writers_bytes(writes));
  for (int64_t i = 0; i < count; i++) {
    const int64_t row = batch_slot(writes, i);
    if (row < 0) continue;
    if (written[row / 8] >> row % 8 & 1)
      return call_fail_argument(ctx, "%s[%lld] is %lld, as %s[%lld] is: expected each row once",
                                write_names.slots, (long long)i, (long long)row, write_names.slots,
                                writer_of(writes, count, row));
    written[row / 8] |= (uint8_t)(1 << row % 8);
  }
  for (int64_t i = 0; reads && i < count; i++) {
    const int64_t row = batch_slot(reads, i);
    if (row < 0 || !(written[row / 8] >> row % 8 & 1) || batch_slot(writes, i) == row) continue;
    return call_fail_argument(ctx,
                              "%s is %s, and sequence %lld reads row %lld, which sequence %lld "
                              "writes: expected a second pool",
                              write_names.pool, read_names.pool, (long long)i, (long long)row,
                              writer_of(writes, count, row));
  }
  return CUMEGA_OK;
}
