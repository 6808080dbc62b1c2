/* What a process looks up only once: the functions of the driver, cuFFT and cuBLAS, some of which
 * an older installation lacks, and the backend's own table. Each test here runs in new processes,
 * in which nothing has been looked up yet. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "backend.h"
#include "emulated_run.h"
#include "runner.h"

/* What a new process does; returns NULL, or what went wrong. */
typedef const char *(*errand)(int i);

static void in_a_new_process(errand what, int i) {
  int ended = -1;
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    const char *wrong = what(i);
    if (wrong != NULL) fprintf(stderr, "%d: %s: %s\n", i, wrong, cumega_context_message(NULL));
    exit(wrong != NULL);
  }
  ck_assert_int_eq(waitpid(child, &ended, 0), child);
  ck_assert_int_eq(ended, 0);
}

#define HOLDS(condition)                                                                          \
  do {                                                                                            \
    if (!(condition)) return #condition;                                                          \
  } while (0)

static int says(const cumega_context *ctx, const char *part) {
  return strstr(cumega_context_message(ctx), part) != NULL;
}

static cumega_context *open_context(cumega_status *status) {
  return emulated_context(NULL, NULL, status);
}

/* ---- the driver ---- */

static const char *look_for_the_driver(int i) {
  static const char *const functions[] = {"cuCtxGetCurrent", "cuCtxSetCurrent", "cuStreamGetCtx"};
  const char *leaks;
  cumega_status status;
  (void)i;
  for (int k = 0; k < 3; k++) {
    emulation_hide(functions[k]);
    HOLDS(open_context(&status) == NULL && status == CUMEGA_ERROR_DEVICE);
    HOLDS(says(NULL, "named symbol not found"));
    emulation_hide(NULL);
  }
  cumega_context *ctx = NULL;
  int failures = 0;
  for (; ctx == NULL; failures++) { /* every call of it, and the lookups of these functions */
    emulation_fail(failures + 1, cudaErrorInvalidValue, 0, 0);
    ctx = open_context(&status);
    HOLDS(ctx != NULL || (status == CUMEGA_ERROR_DEVICE && says(NULL, "invalid")));
    HOLDS(ctx != NULL || emulation_leaks(&leaks) == 0);
  }
  emulation_fail(0, cudaSuccess, 0, 0);
  HOLDS(failures > 3);
  emulation_hide("cuCtxGetCurrent"); /* no later call asks again */
  HOLDS(cumega_context_synchronize(ctx) == CUMEGA_OK);
  cumega_context_destroy(ctx);
  HOLDS(emulation_leaks(&leaks) == 0);
  return NULL;
}

START_TEST(a_driver_without_a_function_is_refused_until_it_has_it) {
  in_a_new_process(look_for_the_driver, 0);
}
END_TEST

/* ---- cuFFT ---- */

/* In the order of the lookups. */
#define FFT_FUNCTIONS 10
static const char *const fft_functions[FFT_FUNCTIONS] = {
    "cufftCreate",    "cufftDestroy",     "cufftSetAutoAllocation", "cufftMakePlanMany64",
    "cufftSetStream", "cufftSetWorkArea", "cufftExecR2C",           "cufftExecC2R",
    "cufftExecD2Z",   "cufftExecZ2D"};

/* Without function i, with and without the last one; i of FFT_FUNCTIONS: without cuFFT. */
static const char *look_for_cufft(int i) {
  char sentence[100];
  void *data;
  cumega_tensor x, y;
  cumega_ema *ema = NULL;
  cumega_context *ctx = open_context(NULL);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 2);
  const int64_t shape[] = {20, 1, 2};
  if (i == FFT_FUNCTIONS) setenv("EMULATION_CUFFT", "off", 1);
  snprintf(sentence, sizeof sentence, "algorithm FFT needs cuFFT, and emulated cuFFT %s%s",
           i == FFT_FUNCTIONS ? "cannot be opened" : "has no ",
           i == FFT_FUNCTIONS ? "" : fft_functions[i]);
  if (i < FFT_FUNCTIONS) emulation_hide(fft_functions[i]);
  emulation_hide(fft_functions[FFT_FUNCTIONS - 1]);
  HOLDS(cumega_ema_create(ctx, &config, NULL, &ema) == CUMEGA_OK);
  HOLDS(cumega_memory_allocate(ctx, 160, &data) == CUMEGA_OK);
  cumega_ema_io io = {.struct_size = sizeof io, .algorithm = CUMEGA_EMA_FFT};
  io.x = cumega_tensor_init(&x, data, (DLDevice){kDLCUDA, 0}, cumega_float32, 3, shape);
  io.y = cumega_tensor_init(&y, data, (DLDevice){kDLCUDA, 0}, cumega_float32, 3, shape);
  HOLDS(cumega_ema_prepare(ctx, ema, &io) == CUMEGA_ERROR_DEVICE && says(ctx, sentence));
  HOLDS(cumega_ema_forward(ctx, ema, &io) == CUMEGA_ERROR_DEVICE && says(ctx, sentence));
  io.algorithm = CUMEGA_EMA_FASTEST;
  HOLDS(cumega_memory_write(ctx, data, (float[40]){0}, 160) == CUMEGA_OK);
  HOLDS(cumega_ema_forward(ctx, ema, &io) == CUMEGA_OK);
  HOLDS(cumega_memory_release(ctx, data, 160) == CUMEGA_OK);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  return NULL;
}

START_TEST(a_cufft_that_lacks_something_is_named_and_needed_by_fft_alone) {
  for (int i = 0; i <= FFT_FUNCTIONS; i++) in_a_new_process(look_for_cufft, i);
}
END_TEST

/* ---- cuBLAS ---- */

#define BLAS_FUNCTIONS 7
static const char *const blas_functions[BLAS_FUNCTIONS] = {
    "cublasCreate_v2",   "cublasDestroy_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2",
    "cublasSetMathMode", "cublasSgemm_v2",   "cublasDgemm_v2"};

static cumega_residual *residual_of(cumega_context *ctx, cumega_residual_kind kind) {
  const run_shape shape = {.residual = {0, kind, 0, -1, 1, 2, 3, cumega_float32}};
  run_objects made = {NULL};
  return emulated_residual_create(ctx, &shape, &made) == CUMEGA_OK ? made.residual : NULL;
}

/* Without function i; i of BLAS_FUNCTIONS: without cuBLAS. */
static const char *look_for_cublas(int i) {
  char sentence[100];
  cumega_context *ctx = open_context(NULL);
  cumega_residual *highway = residual_of(ctx, CUMEGA_RESIDUAL_HIGHWAY);
  cumega_residual *decay = residual_of(ctx, CUMEGA_RESIDUAL_DECAY);
  snprintf(sentence, sizeof sentence, "Highway's products need cuBLAS, and emulated cuBLAS %s%s",
           i == BLAS_FUNCTIONS ? "cannot be opened" : "has no ",
           i == BLAS_FUNCTIONS ? "" : blas_functions[i]);
  if (i == BLAS_FUNCTIONS)
    setenv("EMULATION_CUBLAS", "off", 1);
  else
    emulation_hide(blas_functions[i]);
  for (int tries = 0; tries < 2; tries++) {
    HOLDS(cumega_residual_prepare(ctx, highway) == CUMEGA_ERROR_DEVICE);
    HOLDS(says(ctx, sentence));
  }
  HOLDS(cumega_residual_prepare(ctx, decay) == CUMEGA_OK);
  cumega_residual_destroy(highway);
  cumega_residual_destroy(decay);
  cumega_context_destroy(ctx);
  return NULL;
}

START_TEST(a_cublas_that_lacks_something_is_needed_by_highway_alone) {
  for (int i = 0; i <= BLAS_FUNCTIONS; i++) in_a_new_process(look_for_cublas, i);
}
END_TEST

/* The message names cuBLAS even if memory is short too. */
START_TEST(a_cublas_that_cannot_begin_is_a_resource_error) {
  cumega_context *ctx = open_context(NULL);
  cumega_residual *highway = residual_of(ctx, CUMEGA_RESIDUAL_HIGHWAY);
  static const struct {
    cudaError_t error;
    cumega_status status;
  } cases[] = {{cudaErrorInitializationError, CUMEGA_ERROR_RESOURCE},
               {cudaErrorMemoryAllocation, CUMEGA_ERROR_RESOURCE},
               {cudaErrorInvalidValue, CUMEGA_ERROR_DEVICE}};
  emulation_calls_begin();
  MUST(ctx, cumega_residual_prepare(ctx, highway));
  const int64_t create = emulated_first_call("cublasCreate");
  for (int i = 0; i < 3; i++) {
    cumega_context *other = open_context(NULL);
    emulation_fail(create, cases[i].error, 0, 0);
    ck_assert_int_eq(cumega_residual_prepare(other, highway), cases[i].status);
    ck_assert_msg(says(other, "create(handle) on cuda:0: cuBLAS status"), "%s",
                  cumega_context_message(other));
    MUST(other, cumega_residual_prepare(other, highway));
    cumega_context_destroy(other);
  }
  cumega_residual_destroy(highway);
  cumega_context_destroy(ctx);
}
END_TEST

/* ---- the backend's table ---- */

const backend *cumega_backend_cuda(const backend_front *front);

START_TEST(a_front_of_another_build_gets_no_table) {
  const backend_front other = {.build_id = "0123456789abcdef0123456789abcdef"};
  ck_assert_ptr_null(cumega_backend_cuda(&other));
  cumega_context *ctx = open_context(NULL); /* from the front that it was built for */
  ck_assert_ptr_nonnull(ctx);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_incomplete");
  TCase *tests = add_case(suite, "incomplete", 60);
  tcase_add_test(tests, a_driver_without_a_function_is_refused_until_it_has_it);
  tcase_add_test(tests, a_cufft_that_lacks_something_is_named_and_needed_by_fft_alone);
  tcase_add_test(tests, a_cublas_that_lacks_something_is_needed_by_highway_alone);
  tcase_add_test(tests, a_cublas_that_cannot_begin_is_a_resource_error);
  tcase_add_test(tests, a_front_of_another_build_gets_no_table);
  return run_suite(suite);
}
