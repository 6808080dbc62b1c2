/* The EMA: every type, layout, head count and activation, with channels in whole vectors and without. */
#include <math.h>
#include "ema_harness.h"
#include "cases.h"

#define STEPS 24

/* Of one sequence: channels one after the other, or steps, or nothing. */
static const char *const layouts[] = {"LD", "DL", "strided"};
#define LAYOUTS 3

static test_layout layout_of(int which) {
  static const int orders[LAYOUTS][3] = {{0, 1, 2}, {1, 2, 0}, {0, 2, 1}};
  test_layout layout = {.ordered = 1};
  memcpy(layout.order, orders[which], sizeof orders[which]);
  if (which == 2) layout.gap[2] = 1; /* behind the one sequence */
  return layout;
}

typedef struct run {
  const char *name;
  int stateful, masked, padded, strided_state, with_nan, x_layout, y_layout;
  cumega_ema_algorithm algorithm;
} run;

static void count(cumega_context *ctx, const cumega_ema *ema, DLDataType dtype, const run *r) {
  cumega_ema_config config = {.struct_size = sizeof config};
  MUST(ctx, cumega_ema_get_config(ctx, ema, &config));
  const int64_t D = config.size, N = config.num_heads;
  const test_layout of_x = layout_of(r->x_layout), of_y = layout_of(r->y_layout);
  const test_layout turned = {.ordered = 1, .order = {0, 2, 1}};
  test_tensor *x = case_tensor(dtype, 3, (int64_t[]){STEPS, 1, D}, &of_x);
  test_tensor *y = case_tensor(dtype, 3, (int64_t[]){STEPS, 1, D}, &of_y);
  test_tensor *mask = case_tensor(cumega_bool, 2, (int64_t[]){1, STEPS}, NULL);
  test_tensor *state =
      case_tensor(config.state_dtype, 3, (int64_t[]){1, D, N}, r->strided_state ? &turned : NULL);
  test_tensor *lengths = tensor_of_int64(1, (int64_t[]){STEPS - 13});
  cumega_ema_io io = io_of(x, y);
  io.algorithm = r->algorithm;
  if (r->masked) io.mask = dl(mask);
  if (r->padded) io.sequence_lengths = dl(lengths);
  if (r->stateful) io.initial_state = io.final_state = dl(state);
  for (int64_t d = 0; r->with_nan && d < D; d++) { /* of either sign, the state's first */
    for (int64_t n = 0; n < N; n++) tensor_set(state, 0, d, n, -(double)NAN);
    tensor_set(x, 3, 0, d, NAN);
  }
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  case_over("ema,%s,%s,%s-%s,%s,D=%d,N=%d,%s", number_name(dtype), number_name(config.state_dtype),
            layouts[r->x_layout], layouts[r->y_layout], cumega_activation_name(config.activation),
            (int)D, (int)N, r->name);
  test_tensor *all[] = {x, y, mask, state, lengths};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
}

static cumega_ema *ema_of(cumega_context *ctx, cumega_ema_config config) {
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  return ema;
}

/* x's types that a state's goes with, in every layout and with everything that a run may have. */
static void count_types(cumega_context *ctx, DLDataType state_dtype, int64_t D,
                        cumega_activation activation) {
  static const run runs[] = {{.name = "plain"},
                             {.name = "masked", .masked = 1},
                             {.name = "stateful", .stateful = 1},
                             {.name = "padded", .padded = 1, .masked = 1}};
  cumega_ema_config config = cumega_ema_config_default(D);
  config.state_dtype = state_dtype;
  config.activation = activation;
  cumega_ema *ema = ema_of(ctx, config);
  config.truncation_length = 6;
  cumega_ema *truncated = ema_of(ctx, config);
  for (int type = 0; type < CASE_TYPES; type++) {
    if (case_types[type].bits > state_dtype.bits) continue;
    for (int layout = 0; layout < LAYOUTS; layout++) {
      for (int i = 0; i < 4; i++) {
        run r = runs[i];
        r.x_layout = r.y_layout = layout;
        count(ctx, ema, case_types[type], &r);
      }
      const run other = {.name = "plain", .x_layout = layout, .y_layout = (layout + 1) % LAYOUTS};
      count(ctx, ema, case_types[type], &other);
      const run r = {.name = "truncated", .masked = 1, .x_layout = layout, .y_layout = layout};
      count(ctx, truncated, case_types[type], &r);
    }
  }
  cumega_ema_destroy(ema);
  cumega_ema_destroy(truncated);
}

static void count_heads(cumega_context *ctx, DLDataType dtype) {
  static const int64_t heads[] = {1, 2, 3, 4, 8, 16, 20};
  static const run runs[] = {
      {.name = "stateful", .stateful = 1},
      {.name = "strided-state", .stateful = 1, .strided_state = 1},
      {.name = "sliced", .algorithm = CUMEGA_EMA_SLICED},
      {.name = "sliced-padded", .padded = 1, .algorithm = CUMEGA_EMA_SLICED},
      {.name = "sliced-nan", .stateful = 1, .with_nan = 1, .algorithm = CUMEGA_EMA_SLICED}};
  for (int i = 0; i < 7; i++)
    for (int activation = 0; activation < 3; activation++) {
      cumega_ema_config config = cumega_ema_config_default(72);
      config.state_dtype = dtype;
      config.num_heads = heads[i];
      config.activation = (cumega_activation)activation;
      cumega_ema *ema = ema_of(ctx, config);
      for (int k = 0; k < 5; k++) count(ctx, ema, dtype, &runs[k]);
      cumega_ema_destroy(ema);
    }
}

/* Four sequences, padded or packed: whether their outputs together are past the caches, in builds for such tests. */
static void count_batches(cumega_context *ctx, const cumega_ema *ema, int64_t D) {
  test_tensor *x = case_tensor(cumega_float32, 3, (int64_t[]){STEPS, 4, D}, NULL);
  test_tensor *y = case_tensor(cumega_float32, 3, (int64_t[]){STEPS, 4, D}, NULL);
  cumega_ema_io io = io_of(x, y);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  case_over("ema,B=4,D=%d,padded-batch", (int)D);
  test_tensor *rows = case_tensor(cumega_float32, 2, (int64_t[]){STEPS, D}, NULL);
  test_tensor *to = case_tensor(cumega_float32, 2, (int64_t[]){STEPS, D}, NULL);
  test_tensor *offsets = tensor_of_int64(5, (int64_t[]){0, 6, 12, 18, 24});
  io = io_of(rows, to);
  io.sequence_offsets = dl(offsets);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  case_over("ema,B=4,D=%d,packed-batch", (int)D);
  test_tensor *all[] = {x, y, rows, to, offsets};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
}

void count_ema(cumega_context *ctx) {
  static const DLDataType states[] = {{kDLFloat, 32, 1}, {kDLFloat, 64, 1}};
  const run plain = {.name = "plain"};
  cumega_ema *small = ema_of(ctx, cumega_ema_config_default(16));
  count_batches(ctx, small, 16);
  cumega_ema_destroy(small);
  for (int i = 0; i < 2; i++) {
    count_types(ctx, states[i], 64, CUMEGA_ACTIVATION_RELU);
    count_types(ctx, states[i], 37, CUMEGA_ACTIVATION_SWISH);
    count_heads(ctx, states[i]);
    for (int k = CUMEGA_ACTIVATION_IDENTITY; k <= CUMEGA_ACTIVATION_FTSWISH; k++) {
      cumega_ema_config config = cumega_ema_config_default(40);
      config.state_dtype = states[i];
      config.activation = (cumega_activation)k;
      cumega_ema *ema = ema_of(ctx, config);
      count(ctx, ema, states[i], &plain);
      cumega_ema_destroy(ema);
    }
  }
}
