/* The second pass of SLICED; part of ema_item.h. */

/* Whether the slice began with the same bits with which the one before it ended. All NaNs are
 * equal. */
static int began_right(const ema_plan *p, int64_t row, int64_t d0, int64_t d1) {
  const int64_t count = (d1 - d0) * p->begin.stride_d;
  const int64_t at = row * p->begin.stride_row + d0 * p->begin.stride_d;
  const real *a = (const real *)p->begin.data + at;
  const real *b = (const real *)p->end.data + at - p->end.stride_row;
  for (int64_t i = 0; i < count; i++)
    if (memcmp(a + i, b + i, sizeof *a) != 0 && (a[i] == a[i] || b[i] == b[i])) return 0;
  return 1;
}

/* Computes slices of one group of channels again where necessary, then saves the final state. */
void LEVEL(TYPED(ema_check))(void *argument, int64_t index, int worker) {
  ema_plan again = *(const ema_plan *)argument;
  again.from_end = 1;
  const ema_run *run = again.run;
  const int64_t groups = again.groups, slices = again.slices.count, b = index / groups;
  const int64_t length = batch_span_of(&run->batch, b).length, first_row = b * slices;
  const int64_t item = first_row * groups + index % groups;
  const int64_t d0 = index % groups * again.group;
  const int64_t d1 = smaller(d0 + again.group, again.run->channels);
  int64_t slice = 1;
  for (; slice < slices && slice * again.slices.steps < length; slice++)
    if (!began_right(&again, first_row + slice, d0, d1))
      LEVEL(TYPED(ema_item))(&again, item + slice * groups, worker);

  const int64_t row = ema_state_row(&run->final, &run->final_slots, b);
  if (row < 0) return;
  const int64_t N = again.end.stride_d, stride_d = run->final.stride_d;
  const real *from = (const real *)again.end.data + (first_row + slice - 1) * again.end.stride_row;
  real *to = (real *)run->final.data + row * run->final.stride_row;
  for (int64_t d = d0; d < d1; d++)
    for (int64_t n = 0; n < N; n++) to[d * stride_d + n * run->final.stride_n] = from[d * N + n];
}
