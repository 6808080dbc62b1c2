/* Softmax and scores: every type, with the bias, masks and lengths, in rows of one group of keys and of several. */
#include "cases.h"

#define BATCH 2

/* Keys one after the other; and queries. */
static const test_layout rows = {.ordered = 1, .order = {0, 1, 2, 3}};
static const test_layout columns = {.ordered = 1, .order = {0, 1, 3, 2}, .gap = {0, 0, 0, 1}};

typedef struct run {
  const char *name;
  int relative, attention, padding, lengths, causal, across;
  double scale;
} run;

static const run runs[] = {
    {.name = "plain", .scale = 0.5},
    {.name = "scale-1", .scale = 1},
    {.name = "relative", .relative = 1, .scale = 0.5},
    {.name = "attention-mask", .attention = 1, .scale = 0.5},
    {.name = "padding-mask", .padding = 1, .scale = 0.5},
    {.name = "lengths", .lengths = 1, .scale = 0.5},
    {.name = "causal", .causal = 1, .scale = 0.5},
    {.name = "across", .relative = 1, .attention = 1, .padding = 1, .across = 1, .scale = 1}};
#define RUNS ((int)(sizeof runs / sizeof *runs))

static void count(cumega_context *ctx, DLDataType dtype, int64_t Lq, int64_t Lk, const run *r) {
  const test_layout *layout = r->across ? &columns : &rows;
  const int64_t shape[] = {BATCH, 1, Lq, Lk}, keys[] = {BATCH, Lk}, parameters = 2 * Lk - 1;
  const test_layout turned = {.ordered = 1, .order = {1, 0}};
  test_tensor *scores = case_tensor(dtype, 4, shape, layout),
              *output = case_tensor(dtype, 4, shape, layout);
  test_tensor *attention = case_tensor(cumega_bool, 4, shape, layout);
  test_tensor *padding = case_tensor(cumega_bool, 2, keys, r->across ? &turned : NULL);
  test_tensor *table = case_tensor(cumega_float32, 1, &parameters, NULL);
  test_tensor *queries_of = tensor_of_int64(BATCH, (int64_t[]){1, 1});
  test_tensor *keys_of = tensor_of_int64(BATCH, (int64_t[]){Lk - 2, Lk - 5});
  cumega_position_bias *bias = NULL;
  if (r->relative) MUST(ctx, cumega_position_bias_create_relative(ctx, Lk, dl(table), &bias));
  cumega_position_bias_io io = cumega_position_bias_io_default();
  io.scores = dl(scores);
  io.output = dl(output);
  io.scale = r->scale;
  io.causal = r->causal;
  if (r->attention) io.attention_mask = dl(attention);
  if (r->padding) io.key_padding_mask = dl(padding);
  if (r->lengths) io.query_lengths = dl(queries_of), io.key_lengths = dl(keys_of);
  MUST(ctx, cumega_position_bias_softmax(ctx, bias, &io));
  case_over("softmax,%s,Lk=%d,%s", number_name(dtype), (int)Lk, r->name);
  MUST(ctx, cumega_position_bias_apply(ctx, bias, &io));
  case_over("scores,%s,Lk=%d,%s", number_name(dtype), (int)Lk, r->name);
  cumega_position_bias_destroy(bias);
  test_tensor *all[] = {scores, output, attention, padding, table, queries_of, keys_of};
  for (int i = 0; i < 7; i++) tensor_free(all[i]);
}

/* The tables themselves. */
static void count_biases(cumega_context *ctx) {
  const int64_t size = 18, shape[] = {300, 300};
  test_tensor *alpha = case_tensor(cumega_float32, 1, &size, NULL);
  cumega_position_bias *rotary, *relative;
  MUST(ctx, cumega_position_bias_create_rotary(ctx, size, 4, dl(alpha), dl(alpha), &rotary));
  MUST(ctx, cumega_position_bias_create_relative(ctx, shape[0], NULL, &relative));
  for (int type = 0; type < CASE_TYPES; type++)
    for (int across = 0; across < 2; across++) {
      const test_layout layout = {.ordered = 1, .order = {across, !across}};
      test_tensor *output = case_tensor(case_types[type], 2, shape, &layout);
      MUST(ctx, cumega_position_bias_forward(ctx, rotary, dl(output)));
      case_over("rotary,%s,%s", number_name(case_types[type]), across ? "across" : "compact");
      MUST(ctx, cumega_position_bias_forward(ctx, relative, dl(output)));
      case_over("relative,%s,%s", number_name(case_types[type]), across ? "across" : "compact");
      tensor_free(output);
    }
  cumega_position_bias_destroy(rotary);
  cumega_position_bias_destroy(relative);
  tensor_free(alpha);
}

void count_position(cumega_context *ctx) {
  static const int64_t keys[] = {48, 128, 131, 7, 1100, 2048};
  for (int type = 0; type < CASE_TYPES; type++)
    for (int i = 0; i < 6; i++)
      for (int k = 0; k < RUNS; k++)
        count(ctx, case_types[type], keys[i] > 1000 ? 2 : 5, keys[i], &runs[k]);
  count_biases(ctx);
}
