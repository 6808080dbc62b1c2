/* Creating an EMA: settings and weights that are refused one by one, memory that runs out, and
 * weight files. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "defaults.h"
#include "ema_harness.h"
#include "runner.h"

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

/* ---- settings ---- */

static void size_zero(cumega_ema_config *c) {
  c->size = 0;
}
static void size_negative(cumega_ema_config *c) {
  c->size = -1;
}
static void heads_zero(cumega_ema_config *c) {
  c->num_heads = 0;
}
static void heads_many(cumega_ema_config *c) {
  c->num_heads = 4097;
}
static void truncation_zero(cumega_ema_config *c) {
  c->truncation_length = 0;
}
static void truncation_negative(cumega_ema_config *c) {
  c->truncation_length = -3;
}
static void activation_unknown(cumega_ema_config *c) {
  c->activation = (cumega_activation)10;
}
static void activation_negative(cumega_ema_config *c) {
  c->activation = (cumega_activation)-1;
}
static void state_int(cumega_ema_config *c) {
  c->state_dtype = cumega_int32;
}
static void state_half(cumega_ema_config *c) {
  c->state_dtype = cumega_float16;
}
static void state_lanes(cumega_ema_config *c) {
  c->state_dtype.lanes = 4;
}
static void no_struct_size(cumega_ema_config *c) {
  c->struct_size = 0;
}

static void hardtanh(cumega_ema_config *c, double least, double greatest) {
  c->activation = CUMEGA_ACTIVATION_HARDTANH;
  c->activation_arguments.hardtanh_min_val = least;
  c->activation_arguments.hardtanh_max_val = greatest;
}
static void hardtanh_equal(cumega_ema_config *c) {
  hardtanh(c, 0.5, 0.5);
}
static void hardtanh_swapped(cumega_ema_config *c) {
  hardtanh(c, 2.0, -2.0);
}
static void hardtanh_nan(cumega_ema_config *c) {
  hardtanh(c, NAN, 1.0);
}
static void ftswish(cumega_ema_config *c, double threshold, double shift) {
  c->activation = CUMEGA_ACTIVATION_FTSWISH;
  c->activation_arguments.ftswish_threshold = threshold;
  c->activation_arguments.ftswish_mean_shift = shift;
}
static void ftswish_zero(cumega_ema_config *c) {
  ftswish(c, 0.0, 0.0);
}
static void ftswish_nan(cumega_ema_config *c) {
  ftswish(c, NAN, 0.0);
}
static void ftswish_shift_nan(cumega_ema_config *c) {
  ftswish(c, -0.2, NAN);
}
static void hardtanh_max_nan(cumega_ema_config *c) {
  c->activation = CUMEGA_ACTIVATION_HARDTANH;
  c->activation_arguments.hardtanh_min_val = 0;
  c->activation_arguments.hardtanh_max_val = NAN;
}
static void state_unknown(cumega_ema_config *c) {
  c->state_dtype.bits = 3;
}
static void swish_nan(cumega_ema_config *c) {
  c->activation = CUMEGA_ACTIVATION_SWISH;
  c->activation_arguments.swish_beta = NAN;
}
static void slope_nan(cumega_ema_config *c) {
  c->activation = CUMEGA_ACTIVATION_LEAKY_RELU;
  c->activation_arguments.leakyrelu_neg_slope = NAN;
}
static void smish_alpha_nan(cumega_ema_config *c) {
  c->activation = CUMEGA_ACTIVATION_SMISH;
  c->activation_arguments.smish_alpha = NAN;
}
static void smish_beta_nan(cumega_ema_config *c) {
  c->activation = CUMEGA_ACTIVATION_SMISH;
  c->activation_arguments.smish_beta = NAN;
}

typedef struct bad_setting {
  void (*spoil)(cumega_ema_config *config);
  const char *words[2];
} bad_setting;

static const bad_setting bad_settings[] = {
    {size_zero, {"size", "0"}},
    {size_negative, {"size", "-1"}},
    {heads_zero, {"num_heads", "0"}},
    {heads_many, {"num_heads", "4097"}},
    {truncation_zero, {"truncation_length", "0"}},
    {truncation_negative, {"truncation_length", "-3"}},
    {activation_unknown, {"activation", "10"}},
    {activation_negative, {"activation", "-1"}},
    {state_int, {"state_dtype", "int32"}},
    {state_half, {"state_dtype", "float16"}},
    {state_lanes, {"state_dtype", NULL}},
    {no_struct_size, {"struct_size", NULL}},
    {hardtanh_equal, {"hardtanh_m", "0.5"}},
    {hardtanh_swapped, {"hardtanh_m", "-2"}},
    {hardtanh_nan, {"hardtanh_min_val", "is nan, expected a finite number"}},
    {hardtanh_max_nan, {"hardtanh_max_val", "is nan, expected a finite number"}},
    {state_unknown, {"state_dtype is unknown", "float32 or float64"}},
    {ftswish_zero, {"ftswish_threshold", "0"}},
    {ftswish_nan, {"ftswish_threshold", "is nan, expected a finite number"}},
    {ftswish_shift_nan, {"ftswish_mean_shift", "is nan, expected a finite number"}},
    {swish_nan, {"swish_beta", "is nan, expected a finite number"}},
    {slope_nan, {"leakyrelu_neg_slope", "is nan, expected a finite number"}},
    {smish_alpha_nan, {"smish_alpha", "is nan, expected a finite number"}},
    {smish_beta_nan, {"smish_beta", "is nan, expected a finite number"}},
};
#define COUNT(table) (int)(sizeof(table) / sizeof(table)[0])

/* A pointer that is not an EMA: a failed create must set it to NULL. */
static cumega_ema *const nowhere = (cumega_ema *)(uintptr_t)64;

START_TEST(a_bad_setting_is_refused_by_name_and_value) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 3);
  bad_settings[_i].spoil(&config);
  cumega_ema *ema = nowhere;
  ck_assert_int_eq(cumega_ema_create(ctx, &config, NULL, &ema), CUMEGA_ERROR_ARGUMENT);
  ck_assert_ptr_null(ema);
  for (int i = 0; i < 2 && bad_settings[_i].words[i] != NULL; i++)
    ck_assert_msg(strcasestr(cumega_context_message(ctx), bad_settings[_i].words[i]) != NULL,
                  "\"%s\" does not say \"%s\"", cumega_context_message(ctx),
                  bad_settings[_i].words[i]);
}
END_TEST

START_TEST(activations_have_names_and_swish_two) {
  cumega_activation activation = CUMEGA_ACTIVATION_RELU;
  ck_assert_int_eq(cumega_activation_from_name("silu", &activation), 1);
  ck_assert_int_eq(activation, CUMEGA_ACTIVATION_SWISH);
  ck_assert_int_eq(cumega_activation_from_name("Swish", &activation), 0);
  ck_assert_int_eq(cumega_activation_from_name(NULL, &activation), 0);
  ck_assert_int_eq(cumega_activation_from_name("swish", NULL), 0);
  ck_assert_int_eq(activation, CUMEGA_ACTIVATION_SWISH);
  ck_assert_str_eq(cumega_activation_name(activation), "swish");
  ck_assert_ptr_null(cumega_activation_name((cumega_activation)10));
}
END_TEST

START_TEST(arguments_of_other_activations_are_ignored) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 3);
  config.activation_arguments.hardtanh_min_val = 5.0;
  config.activation_arguments.ftswish_threshold = 1.0;
  config.activation_arguments.swish_beta = config.activation_arguments.smish_alpha =
      config.activation_arguments.smish_beta = NAN;
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(arguments_of_the_chosen_activation_are_taken) {
  cumega_ema_config config = ema_config_of(3), found = {.struct_size = sizeof found};
  static const cumega_activation chosen[] = {CUMEGA_ACTIVATION_HARDTANH, CUMEGA_ACTIVATION_FTSWISH,
                                             CUMEGA_ACTIVATION_SMISH};
  config.activation_arguments.hardtanh_min_val = -2;
  config.activation_arguments.hardtanh_max_val = 3;
  config.activation_arguments.ftswish_threshold = -0.5;
  config.activation_arguments.smish_alpha = 2;
  config.activation_arguments.smish_beta = 0.5;
  for (int i = 0; i < 3; i++) {
    cumega_ema *ema;
    config.activation = chosen[i];
    MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
    MUST(ctx, cumega_ema_get_config(ctx, ema, &found));
    ck_assert_double_eq(found.activation_arguments.smish_alpha, 2);
    ck_assert_double_eq(found.activation_arguments.smish_beta, 0.5);
    ck_assert_int_eq(found.activation, chosen[i]);
    cumega_ema_destroy(ema);
  }
}
END_TEST

START_TEST(missing_arguments_are_refused) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 3);
  cumega_ema *ema = nowhere;
  ck_assert_int_eq(cumega_ema_create(NULL, &config, NULL, &ema), CUMEGA_ERROR_ARGUMENT);
  ck_assert_ptr_null(ema);
  ema = nowhere;
  ck_assert_int_eq(cumega_ema_create(ctx, NULL, NULL, &ema), CUMEGA_ERROR_ARGUMENT);
  ck_assert_ptr_null(ema);
  ck_assert_int_eq(cumega_ema_create(ctx, &config, NULL, NULL), CUMEGA_ERROR_ARGUMENT);
  ema = nowhere;
  ck_assert_int_eq(cumega_ema_create_from_weights(ctx, NULL, NULL, &config, &ema),
                   CUMEGA_ERROR_ARGUMENT);
  ck_assert_ptr_null(ema);
  cumega_ema_destroy(NULL);
}
END_TEST

/* ---- parameters ---- */

typedef struct five {
  test_tensor *t[5];
  cumega_ema_parameters given;
} five;

static const char *const names[] = {"damping_factor", "decay_factor", "ema_expansion_matrix",
                                    "kernel_projection_matrix", "residual_weight"};

/* For D = 3 and N = 2. */
static void five_make(five *f) {
  for (int i = 0; i < 5; i++) {
    f->t[i] = i == 4 ? tensor_new_1(cumega_float32, 3)
                     : tensor_new(cumega_float32, i < 3 ? 3 : 2, (int64_t[]){3, 2, 1}, NULL);
    for (int64_t d = 0; d < 3; d++)
      for (int64_t n = 0; n < (i == 4 ? 1 : 2); n++) tensor_set(f->t[i], d, n, 0, 0.25 * (d + n));
  }
  f->given = (cumega_ema_parameters){sizeof f->given, dl(f->t[0]), dl(f->t[1]),
                                     dl(f->t[2]),     dl(f->t[3]), dl(f->t[4])};
}

static void five_free(five *f) {
  for (int i = 0; i < 5; i++) tensor_free(f->t[i]);
}

static void must_not_create(const five *f, const char *word, const char *second) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 3);
  config.num_heads = 2;
  cumega_ema *ema = nowhere;
  cumega_status status = cumega_ema_create(ctx, &config, &f->given, &ema);
  const char *sentence = cumega_context_message(ctx);
  ck_assert_int_eq(status, CUMEGA_ERROR_ARGUMENT);
  ck_assert_ptr_null(ema);
  ck_assert_msg(strstr(sentence, word) != NULL && strcasestr(sentence, second) != NULL,
                "\"%s\" does not say \"%s\" and \"%s\"", sentence, word, second);
}

START_TEST(weights_that_are_not_finite_are_named_with_their_index) {
  static const double bad[] = {NAN, INFINITY, -INFINITY};
  static const char *const words[] = {"nan", "inf", "-inf"};
  for (int i = 0; i < 5; i++)
    for (int j = 0; j < 3; j++) {
      five f;
      five_make(&f);
      tensor_set(f.t[i], 2, i == 4 ? 0 : 1, 0, bad[j]);
      must_not_create(&f, names[i], words[j]);
      must_not_create(&f, "at [2", words[j]);
      five_free(&f);
    }
}
END_TEST

START_TEST(wrong_parameter_tensors_are_refused) {
  for (int i = 0; i < 5; i++) {
    DLTensor **member[] = {NULL, NULL, NULL, NULL, NULL};
    five f;
    five_make(&f);
    member[0] = &f.given.damping_factor, member[1] = &f.given.decay_factor;
    member[2] = &f.given.ema_expansion_matrix, member[3] = &f.given.kernel_projection_matrix;
    member[4] = &f.given.residual_weight;
    DLTensor *whole = *member[i];
    *member[i] = NULL;
    must_not_create(&f, names[i], "NULL");
    *member[i] = whole;
    whole->shape[0] = 4;
    must_not_create(&f, names[i], "4");
    whole->shape[0] = 3;
    whole->dtype = cumega_int32;
    must_not_create(&f, names[i], "int32");
    whole->dtype = cumega_float32;
    whole->device.device_type = kDLCUDA;
    must_not_create(&f, names[i], "cuda");
    whole->device = cumega_cpu;
    whole->data = NULL;
    must_not_create(&f, names[i], "NULL");
    five_free(&f);
  }
}
END_TEST

START_TEST(a_parameter_struct_without_its_size_is_refused) {
  five f;
  five_make(&f);
  f.given.struct_size = 0;
  must_not_create(&f, "struct_size", "0");
  five_free(&f);
}
END_TEST

/* ---- memory ---- */

START_TEST(a_size_beyond_what_can_be_counted_is_named) {
  static const int64_t sizes[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, sizes[i]);
    cumega_ema *ema = nowhere;
    ck_assert_int_eq(cumega_ema_create(ctx, &config, NULL, &ema), CUMEGA_ERROR_RESOURCE);
    ck_assert_ptr_null(ema);
    const char *word = i < 2 ? "config.size is 92233720368547758"
                             : "cannot allocate more than 9223372036854775807 bytes for an EMA";
    ck_assert_msg(strstr(cumega_context_message(ctx), word) != NULL, "%s",
                  cumega_context_message(ctx));
  }
}
END_TEST

typedef struct counting {
  int64_t calls, fail_at, live;
} counting;

static void *count_allocate(void *user, size_t bytes, size_t alignment) {
  counting *c = user;
  if (++c->calls == c->fail_at) return NULL;
  c->live++;
  return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void count_release(void *user, void *memory, size_t bytes) {
  (void)bytes;
  counting *c = user;
  if (memory != NULL) c->live--;
  free(memory);
}

typedef cumega_status (*life)(cumega_context *own);

/* Each allocation of a life fails once, and nothing leaks; the next try succeeds. */
static void fail_each_allocation(life whole_life) {
  int64_t fail_at = 0, succeeded = 0;
  while (!succeeded) {
    counting c = {0, ++fail_at, 0};
    cumega_context_options options;
    cumega_context_options_init(&options, sizeof options);
    options.allocator = (cumega_allocator){count_allocate, count_release, &c};
    options.threads = 2;
    cumega_context *own = NULL;
    cumega_status status = cumega_context_create(&options, &own);
    if (status == CUMEGA_OK) {
      status = whole_life(own);
      succeeded = status == CUMEGA_OK;
      if (!succeeded) ck_assert_str_ne(cumega_context_message(own), "");
      if (!succeeded) ck_assert_int_eq(whole_life(own), CUMEGA_OK); /* tried again */
    }
    ck_assert(succeeded || status == CUMEGA_ERROR_RESOURCE);
    cumega_context_destroy(own);
    ck_assert_int_eq(c.live, 0);
    ck_assert_int_lt(fail_at, 1000);
  }
  printf("%lld allocations, each failed once\n", (long long)fail_at - 1);
  ck_assert_int_gt(fail_at, 1);
}

/* Creates, runs with and without truncation, resets; returns the first status that is not OK. */
static cumega_status life_of_runs(cumega_context *own) {
  test_tensor *x = tensor_new_3(cumega_bfloat16, 9, 7, 40),
              *y = tensor_new_3(cumega_bfloat16, 9, 7, 40);
  for (int64_t i = 0; i < 9 * 7 * 40; i++) tensor_set(x, i / 280, i / 40 % 7, i % 40, 0.5);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 40);
  config.truncation_length = 3;
  cumega_ema *ema = NULL;
  cumega_status status = cumega_ema_create(own, &config, NULL, &ema);
  if (status == CUMEGA_OK) {
    cumega_ema_io io = io_of(x, y);
    status = cumega_ema_forward(own, ema, &io);
    io.ignore_truncation = 1;
    if (status == CUMEGA_OK) status = cumega_ema_forward(own, ema, &io);
    if (status == CUMEGA_OK) status = cumega_ema_reset_parameters(own, ema, 0.0, 0.2, 1.0, 4);
  }
  cumega_ema_destroy(ema);
  ck_assert(tensor_gaps_hold(y));
  tensor_free(x);
  tensor_free(y);
  return status;
}

START_TEST(every_allocation_may_fail_and_nothing_leaks) {
  fail_each_allocation(life_of_runs);
}
END_TEST

START_TEST(a_memory_limit_refuses_what_exceeds_it_and_nothing_else) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.memory_limit = 1 << 20;
  cumega_context *own;
  MUST(NULL, cumega_context_create(&options, &own));
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 1 << 16);
  cumega_ema *ema = nowhere;
  ck_assert_int_eq(cumega_ema_create(own, &config, NULL, &ema), CUMEGA_ERROR_RESOURCE);
  ck_assert_ptr_null(ema);
  ck_assert_str_ne(cumega_context_message(own), "");
  config.size = INT64_C(1) << 62; /* a byte count that overflows 64 bits */
  ck_assert_int_eq(cumega_ema_create(own, &config, NULL, &ema), CUMEGA_ERROR_RESOURCE);
  cumega_ema_config_init(&config, sizeof config, 16);
  MUST(own, cumega_ema_create(own, &config, NULL, &ema));
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  MUST(own, cumega_context_statistics(own, &statistics));
  ck_assert_int_le(statistics.bytes_peak, 1 << 20);
  cumega_ema_destroy(ema);
  cumega_context_destroy(own);
}
END_TEST

/* ---- weight files ---- */

static char path[64];

static void save(const five *f, const char *prefix, int without) {
  char full[6][64];
  cumega_named_tensor tensors[6];
  int count = 0;
  for (int i = 0; i < 5; i++) {
    if (i == without) continue;
    snprintf(full[count], sizeof full[count], "%s%s", prefix, names[i]);
    tensors[count] = (cumega_named_tensor){full[count], dl(f->t[i])};
    count++;
  }
  test_tensor *other = tensor_of_int64(2, (int64_t[]){1, 2});
  tensors[count++] = (cumega_named_tensor){"unrelated.damping_factor", dl(other)};
  snprintf(path, sizeof path, "/tmp/check_ema_creation-%ld.safetensors", (long)getpid());
  MUST(ctx, cumega_weights_save(ctx, path, tensors, count, NULL, 0));
  tensor_free(other);
}

/* The message of a failure contains `word`. */
static cumega_status load(const char *prefix, const char *word, cumega_ema **ema) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 3);
  config.num_heads = 2;
  cumega_weights *weights;
  MUST(ctx, cumega_weights_open(ctx, path, &weights));
  *ema = nowhere;
  cumega_status status = cumega_ema_create_from_weights(ctx, weights, prefix, &config, ema);
  char sentence[400];
  snprintf(sentence, sizeof sentence, "%s", cumega_context_message(ctx));
  cumega_weights_close(weights);
  unlink(path);
  if (status != CUMEGA_OK) {
    ck_assert_ptr_null(*ema);
    ck_assert_msg(strstr(sentence, word) != NULL, "\"%s\"", sentence);
  }
  return status;
}

/* From the file at path to the kernel. */
static cumega_status life_of_a_file(cumega_context *own) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 3);
  config.num_heads = 2;
  cumega_weights *weights = NULL;
  cumega_ema *ema = NULL;
  test_tensor *kernel = tensor_new_2(cumega_float32, 3, 10);
  cumega_status status = cumega_weights_open(own, path, &weights);
  if (status == CUMEGA_OK)
    status = cumega_ema_create_from_weights(own, weights, "m", &config, &ema);
  if (status == CUMEGA_OK) status = cumega_ema_compute_kernel(own, ema, dl(kernel));
  cumega_ema_destroy(ema);
  cumega_weights_close(weights);
  tensor_free(kernel);
  return status;
}

START_TEST(every_allocation_for_a_file_may_fail_and_nothing_leaks) {
  five f;
  five_make(&f);
  save(&f, "m.", -1);
  fail_each_allocation(life_of_a_file);
  unlink(path);
  five_free(&f);
}
END_TEST

START_TEST(weights_are_found_under_their_prefix) {
  static const char *const stored[] = {"", "", "a.b.", "a.b."};
  static const char *const asked[] = {NULL, "", "a.b", "a.b."};
  for (int i = 0; i < 4; i++) {
    five f;
    five_make(&f);
    save(&f, stored[i], -1);
    cumega_ema *ema;
    MUST(ctx, load(asked[i], "", &ema));
    test_tensor *decay = tensor_new_2(cumega_float64, 3, 2);
    cumega_ema_parameters out = {.struct_size = sizeof out, .decay_factor = dl(decay)};
    MUST(ctx, cumega_ema_get_parameters(ctx, ema, &out));
    ck_assert_double_eq(tensor_get(decay, 2, 1, 0), 0.75);
    tensor_free(decay);
    cumega_ema_destroy(ema);
    five_free(&f);
  }
}
END_TEST

START_TEST(missing_and_wrong_tensors_of_a_file_are_named) {
  cumega_ema *ema;
  five f;
  five_make(&f);
  save(&f, "m.", 1);
  ck_assert_int_eq(load("m", "m.decay_factor", &ema), CUMEGA_ERROR_FORMAT);
  ck_assert_int_eq((save(&f, "m.", -1), load("n", "n.damping_factor", &ema)), CUMEGA_ERROR_FORMAT);
  dl(f.t[1])->shape[0] = 2;
  save(&f, "m.", -1);
  ck_assert_int_eq(load("m", "m.decay_factor", &ema), CUMEGA_ERROR_FORMAT);
  dl(f.t[1])->shape[0] = 3;
  dl(f.t[1])->dtype = cumega_int32;
  save(&f, "m.", -1);
  ck_assert_int_eq(load("m", "m.decay_factor", &ema), CUMEGA_ERROR_FORMAT);
  five_free(&f);
}
END_TEST

START_TEST(a_weight_that_is_not_finite_is_named_by_its_tensor) {
  cumega_ema *ema;
  five f;
  five_make(&f);
  tensor_set(f.t[1], 1, 0, 0, NAN);
  save(&f, "m.", -1);
  ck_assert_int_ne(load("m", "m.decay_factor", &ema), CUMEGA_OK);
  five_free(&f);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_creation");
  TCase *tests = add_case(suite, "creation", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, a_bad_setting_is_refused_by_name_and_value, 0, COUNT(bad_settings));
  tcase_add_test(tests, activations_have_names_and_swish_two);
  tcase_add_test(tests, arguments_of_other_activations_are_ignored);
  tcase_add_test(tests, arguments_of_the_chosen_activation_are_taken);
  tcase_add_test(tests, missing_arguments_are_refused);
  tcase_add_test(tests, weights_that_are_not_finite_are_named_with_their_index);
  tcase_add_test(tests, wrong_parameter_tensors_are_refused);
  tcase_add_test(tests, a_size_beyond_what_can_be_counted_is_named);
  tcase_add_test(tests, a_parameter_struct_without_its_size_is_refused);
  tcase_add_test(tests, every_allocation_may_fail_and_nothing_leaks);
  tcase_add_test(tests, a_memory_limit_refuses_what_exceeds_it_and_nothing_else);
  tcase_add_test(tests, weights_are_found_under_their_prefix);
  tcase_add_test(tests, every_allocation_for_a_file_may_fail_and_nothing_leaks);
  tcase_add_test(tests, missing_and_wrong_tensors_of_a_file_are_named);
  tcase_add_test(tests, a_weight_that_is_not_finite_is_named_by_its_tensor);
  return run_suite(suite);
}
