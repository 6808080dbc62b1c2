/* Every EMA case in tests/golden through the API: ESPnet's parameters and inputs, the exact
 * answer, and the tolerance that the file states (the largest error relative to the largest exact
 * value). CUMEGA_TEST_GOLDEN names another folder of cases. */
#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "ema_harness.h"
#include "runner.h"

typedef struct golden {
  cumega_context *ctx;
  cumega_weights *file;
  json_t *config, *tolerance;
  cumega_ema *ema;
  DLDataType state_dtype;
  double worst; /* error over tolerance, of all outputs */
} golden;

/* A tensor of the file, or NULL if the case has none with that name. */
static test_tensor *load(const golden *g, const char *name) {
  const cumega_weights_entry *entry = cumega_weights_find(g->file, name);
  if (entry == NULL) return NULL;
  test_tensor *tensor = tensor_new(entry->dtype, entry->ndim, entry->shape, NULL);
  MUST(g->ctx, cumega_weights_read(g->ctx, g->file, entry, dl(tensor)->data, entry->bytes));
  return tensor;
}

static test_tensor *like(const test_tensor *tensor, DLDataType dtype) {
  return tensor_new(dtype, tensor->view.dl.ndim, tensor->view.shape, NULL);
}

static double argument(const json_t *config, const char *name, double otherwise) {
  const json_t *value = json_object_get(json_object_get(config, "activation_args"), name);
  return json_is_number(value) ? json_number_value(value) : otherwise;
}

static cumega_ema_config read_config(golden *g) {
  cumega_ema_config c;
  cumega_ema_config_init(&c, sizeof c, json_integer_value(json_object_get(g->config, "size")));
  c.num_heads = json_integer_value(json_object_get(g->config, "num_heads"));
  const json_t *truncation = json_object_get(g->config, "truncation_length");
  if (json_is_integer(truncation)) c.truncation_length = json_integer_value(truncation);
  const char *state = json_string_value(json_object_get(g->config, "state_dtype"));
  if (state != NULL && strcmp(state, "float64") == 0) c.state_dtype = cumega_float64;
  g->state_dtype = c.state_dtype;
  const char *activation = json_string_value(json_object_get(g->config, "activation"));
  if (activation != NULL) ck_assert(cumega_activation_from_name(activation, &c.activation));
  c.activation_arguments.swish_beta =
      argument(g->config, "swish_beta", c.activation_arguments.swish_beta);
  c.activation_arguments.leakyrelu_neg_slope =
      argument(g->config, "leakyrelu_neg_slope", c.activation_arguments.leakyrelu_neg_slope);
  c.activation_arguments.hardtanh_min_val =
      argument(g->config, "hardtanh_min_val", c.activation_arguments.hardtanh_min_val);
  c.activation_arguments.hardtanh_max_val =
      argument(g->config, "hardtanh_max_val", c.activation_arguments.hardtanh_max_val);
  c.activation_arguments.smish_alpha =
      argument(g->config, "smish_alpha", c.activation_arguments.smish_alpha);
  c.activation_arguments.smish_beta =
      argument(g->config, "smish_beta", c.activation_arguments.smish_beta);
  c.activation_arguments.ftswish_threshold =
      argument(g->config, "ftswish_threshold", c.activation_arguments.ftswish_threshold);
  c.activation_arguments.ftswish_mean_shift =
      argument(g->config, "ftswish_mean_shift", c.activation_arguments.ftswish_mean_shift);
  return c;
}

static void open_case(golden *g, const char *path) {
  memset(g, 0, sizeof *g);
  g->ctx = context_new();
  MUST(g->ctx, cumega_weights_open(g->ctx, path, &g->file));
  g->config = json_loads(cumega_weights_metadata(g->file, "cumega.config"), 0, NULL);
  g->tolerance = json_loads(cumega_weights_metadata(g->file, "cumega.tolerance"), 0, NULL);
  ck_assert(json_is_object(g->config) && json_is_object(g->tolerance));
  cumega_ema_config config = read_config(g);
  const cumega_weights_entry *x = cumega_weights_find(g->file, "inputs.x");
  if (x != NULL && x->dtype.bits == 64) config.state_dtype = g->state_dtype = cumega_float64;
  MUST(g->ctx, cumega_ema_create_from_weights(g->ctx, g->file, "parameters", &config, &g->ema));
}

static void close_case(golden *g) {
  cumega_ema_destroy(g->ema);
  cumega_weights_close(g->file);
  json_decref(g->config);
  json_decref(g->tolerance);
  cumega_context_destroy(g->ctx);
}

static int same_kind(double a, double b) {
  if (isfinite(a) || isfinite(b)) return isfinite(a) && isfinite(b);
  return isnan(a) ? isnan(b) : a == b;
}

/* Compares one output with the file's exact one; NaN and infinities must be at the same
 * positions. */
static void compare(golden *g, const char *name, const test_tensor *found, const char *path) {
  char full[80];
  snprintf(full, sizeof full, "exact.%s", name);
  test_tensor *exact = load(g, full);
  if (exact == NULL) return;
  double largest = 0.0, off = 0.0;
  int64_t sizes[3] = {1, 1, 1};
  ck_assert_int_eq(found->view.dl.ndim, exact->view.dl.ndim);
  for (int i = 0; i < exact->view.dl.ndim; i++) {
    sizes[i] = exact->view.shape[i];
    ck_assert_int_eq(found->view.shape[i], sizes[i]);
  }
  for (int64_t i = 0; i < sizes[0]; i++)
    for (int64_t j = 0; j < sizes[1]; j++)
      for (int64_t k = 0; k < sizes[2]; k++) {
        double right = tensor_get(exact, i, j, k), ours = tensor_get(found, i, j, k);
        ck_assert_msg(same_kind(right, ours), "%s: %s[%lld, %lld, %lld] is %g, expected %g", path,
                      name, (long long)i, (long long)j, (long long)k, ours, right);
        if (!isfinite(right)) continue;
        largest = fmax(largest, fabs(right));
        off = fmax(off, fabs(right - ours));
      }
  const json_t *allowed = json_object_get(g->tolerance, name);
  ck_assert_msg(json_is_number(allowed), "%s states no tolerance of %s", path, name);
  double bound = json_number_value(allowed) * largest;
  ck_assert_msg(off <= bound, "%s: %s is off by %g, allowed %g", path, name, off, bound);
  if (off > 0.0) g->worst = fmax(g->worst, off / bound);
  tensor_free(exact);
}

/* Copies the whole pool, so that rows that are not written keep their values. */
static test_tensor *final_state(const golden *g, test_tensor *given, int64_t batch, int has_pool) {
  const json_t *size = json_object_get(g->config, "size"),
               *heads = json_object_get(g->config, "num_heads");
  if (given == NULL)
    return tensor_new_3(g->state_dtype, batch, json_integer_value(size),
                        json_integer_value(heads));
  test_tensor *final = like(given, g->state_dtype);
  if (has_pool) memcpy(dl(final)->data, dl(given)->data, (size_t)(given->block_bytes - 128));
  return final;
}

static void check_forward(golden *g, const char *path) {
  test_tensor *x = load(g, "inputs.x"), *mask = load(g, "inputs.mask");
  test_tensor *lengths = load(g, "inputs.sequence_lengths");
  test_tensor *offsets = load(g, "inputs.sequence_offsets"), *state = load(g, "inputs.state");
  test_tensor *from = load(g, "inputs.initial_slots"), *to = load(g, "inputs.final_slots");
  test_tensor *y = like(x, dl(x)->dtype), *final = NULL;
  /* Packed rows outside every sequence are not written; they are zero in the cases. */
  memset(dl(y)->data, 0, (size_t)(y->block_bytes - 128));
  int64_t batch = offsets != NULL ? dl(offsets)->shape[0] - 1 : dl(x)->shape[1];
  cumega_ema_io io = io_of(x, y);
  io.mask = dl(mask);
  io.sequence_lengths = dl(lengths);
  io.sequence_offsets = dl(offsets);
  io.initial_state = dl(state);
  io.initial_slots = dl(from);
  if (cumega_weights_find(g->file, "exact.state") != NULL) {
    final = final_state(g, state, batch, to != NULL);
    io.final_state = dl(final);
    io.final_slots = dl(to);
  }
  MUST(g->ctx, cumega_ema_forward(g->ctx, g->ema, &io));
  compare(g, "y", y, path);
  if (final != NULL) compare(g, "state", final, path);
  test_tensor *all[] = {x, mask, lengths, offsets, state, from, to, y, final};
  for (int i = 0; i < 9; i++) tensor_free(all[i]);
}

/* T calls of one step each, with the state updated in place; x, y and the mask are views of one
 * step. */
static void check_step(golden *g, const char *path) {
  test_tensor *x = load(g, "inputs.x"), *mask = load(g, "inputs.mask");
  test_tensor *given = load(g, "inputs.state"), *y = like(x, dl(x)->dtype);
  int64_t shape[] = {1, dl(x)->shape[1], dl(x)->shape[2]}, mask_shape[] = {shape[1], 1, 1};
  test_tensor *state = final_state(g, given, shape[1], 1);
  if (given == NULL) memset(dl(state)->data, 0, (size_t)(state->block_bytes - 128));
  for (int64_t t = 0; t < dl(x)->shape[0]; t++) {
    cumega_tensor x_step, y_step, mask_step;
    cumega_ema_io io = {.struct_size = sizeof io};
    io.x = cumega_tensor_init(&x_step, tensor_at(x, t, 0, 0), cumega_cpu, dl(x)->dtype, 3, shape);
    io.y = cumega_tensor_init(&y_step, tensor_at(y, t, 0, 0), cumega_cpu, dl(x)->dtype, 3, shape);
    if (mask != NULL) {
      io.mask = cumega_tensor_init(&mask_step, tensor_at(mask, 0, 0, t), cumega_cpu,
                                   dl(mask)->dtype, 3, mask_shape);
      mask_step.strides[0] = mask->view.strides[0];
    }
    io.initial_state = io.final_state = dl(state);
    MUST(g->ctx, cumega_ema_step(g->ctx, g->ema, &io));
  }
  compare(g, "y", y, path);
  compare(g, "state", state, path);
  test_tensor *all[] = {x, mask, given, y, state};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
}

static void check_kernel(golden *g, const char *path) {
  test_tensor *like_kernel = load(g, "exact.kernel"), *like_p = load(g, "exact.damping_factor");
  const cumega_weights_entry *given = cumega_weights_find(g->file, "parameters.damping_factor");
  test_tensor *kernel = like(like_kernel, given->dtype), *p = like(like_p, given->dtype);
  test_tensor *q = like(like_p, given->dtype);
  MUST(g->ctx, cumega_ema_compute_kernel(g->ctx, g->ema, dl(kernel)));
  MUST(g->ctx, cumega_ema_compute_coefficients(g->ctx, g->ema, dl(p), dl(q)));
  compare(g, "kernel", kernel, path);
  compare(g, "damping_factor", p, path);
  compare(g, "prev_timestep_weight", q, path);
  test_tensor *all[] = {like_kernel, like_p, kernel, p, q};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
}

static void check_all(const char *op, void (*check)(golden *, const char *), size_t at_least) {
  const char *folder = getenv("CUMEGA_TEST_GOLDEN");
  char pattern[1000];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%s/%s-*.safetensors",
           folder != NULL ? folder : SOURCE_DIR "/tests/golden", op);
  int status = glob(pattern, 0, NULL, &found);
  ck_assert_msg(status == 0 && found.gl_pathc >= at_least, "fewer than %zu cases: %s", at_least,
                pattern);
  double worst = 0.0;
  for (size_t i = 0; i < found.gl_pathc; i++) {
    golden g;
    open_case(&g, found.gl_pathv[i]);
    ck_assert_str_eq(cumega_weights_metadata(g.file, "cumega.op"), op);
    check(&g, strrchr(found.gl_pathv[i], '/') + 1);
    worst = fmax(worst, g.worst);
    close_case(&g);
  }
  printf("%zu cases of %s, the worst at %.3f of its tolerance\n", found.gl_pathc, op, worst);
  globfree(&found);
}

START_TEST(every_forward_case_of_espnet_holds) {
  check_all("ema_forward", check_forward, 50);
}
END_TEST

START_TEST(every_step_case_of_espnet_holds) {
  check_all("ema_step", check_step, 7);
}
END_TEST

START_TEST(every_kernel_case_of_espnet_holds) {
  check_all("ema_kernel", check_kernel, 5);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_golden");
  TCase *tests = add_case(suite, "ESPnet's cases", 60);
  tcase_add_test(tests, every_forward_case_of_espnet_holds);
  tcase_add_test(tests, every_step_case_of_espnet_holds);
  tcase_add_test(tests, every_kernel_case_of_espnet_holds);
  return run_suite(suite);
}
