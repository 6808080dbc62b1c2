/* The (L, L) matrix: row i is the table's stretch that begins at -i, and rows have one value apart. */
#include "../fp_environment.h"
#include "../math/float16.h"
#include "position_bias_cpu.h"

#define ITEM_VALUES 65536

typedef struct job {
  const position_bias_matrix *run;
  int64_t rows_of_item;
} job;

#define STORE_ROW(element, source, NARROW)                                                         \
  do {                                                                                             \
    element *to = (element *)run->data + i * run->stride_i;                                        \
    if (stride == 1)                                                                               \
      for (int64_t k = 0; k < run->L; k++) to[k] = NARROW(run->table.source[k - i]);               \
    else                                                                                           \
      for (int64_t k = 0; k < run->L; k++) to[k * stride] = NARROW(run->table.source[k - i]);      \
  } while (0)
#define UNCHANGED(x) (x)

static void run_item(void *argument, int64_t index, int worker) {
  const job *j = argument;
  const position_bias_matrix *run = j->run;
  const int64_t stride = run->stride_j, end = (index + 1) * j->rows_of_item;
  (void)worker;
  for (int64_t i = index * j->rows_of_item; i < end && i < run->L; i++) switch (run->type) {
    case TYPE_FLOAT16: STORE_ROW(uint16_t, f32, float_to_float16); break;
    case TYPE_BFLOAT16: STORE_ROW(uint16_t, f32, float_to_bfloat16); break;
    case TYPE_FLOAT64: STORE_ROW(double, f64, UNCHANGED); break;
    default: STORE_ROW(float, f32, UNCHANGED); break;
    }
}

cumega_status LEVEL(position_bias_forward_cpu)(cumega_context *ctx,
                                               const position_bias_matrix *run) {
  fp_environment environment;
  job j = {run, ITEM_VALUES / run->L + 1};
  const int64_t items = (run->L + j.rows_of_item - 1) / j.rows_of_item;
  fp_begin(&environment);
  pool_run(items > 3 ? ctx->pool : NULL, run_item, &j, items);
  fp_end(&environment);
  return CUMEGA_OK;
}
