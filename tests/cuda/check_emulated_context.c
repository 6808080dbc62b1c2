/* The rules that a CUDA context keeps. They are tested on emulated CUDA, which can be told to
 * have no driver, to lose a device, and to list every call. check_emulated_faults.c tests that
 * every call may fail. */
#include <string.h>
#include "emulated_run.h"
#include "runner.h"

static cumega_ema *ema_on(cumega_context *ctx, const cumega_ema_config *config) {
  cumega_ema *ema = NULL;
  MUST(ctx, cumega_ema_create(ctx, config, NULL, &ema));
  return ema;
}

static cumega_context *context_on(DLDeviceType type, int id) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx = NULL;
  options.device = (DLDevice){type, id};
  MUST(NULL, cumega_context_create(&options, &ctx));
  return ctx;
}

/* ---- no driver, an old one, no device ---- */

static void refused_with(const char *part, int device) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx = (cumega_context *)&options;
  struct CUctx_st *before = current_context();
  options.device = (DLDevice){kDLCUDA, device};
  MUST_FAIL(NULL, cumega_context_create(&options, &ctx), CUMEGA_ERROR_DEVICE, part);
  ck_assert_ptr_null(ctx);
  ck_assert_ptr_eq(current_context(), before);
  ck_assert_int_eq(cudaPeekAtLastError(), cudaSuccess);
  cumega_context *cpu = context_of_level(NULL, 1);
  MUST(cpu, cumega_context_synchronize(cpu));
  cumega_context_destroy(cpu);
}

START_TEST(without_a_driver_the_sentence_says_so_and_the_cpu_works) {
  emulation_set_driver_version(0);
  refused_with("device cuda:0 was asked for, but no CUDA driver is installed (libcuda.so.1)", 0);
}
END_TEST

START_TEST(an_old_driver_is_named_with_what_is_expected) {
  emulation_set_driver_version(11080);
  refused_with("the installed driver is of CUDA 11.8, expected at least 13.0", 0);
}
END_TEST

START_TEST(without_a_device_the_sentence_says_so) {
  emulation_set_device_count(0);
  refused_with("the driver sees no CUDA device", 0);
}
END_TEST

START_TEST(a_device_beyond_the_last_is_refused) {
  emulation_set_device_count(2);
  refused_with("device cuda:2 was asked for, but there are 2 CUDA devices here", 2);
}
END_TEST

/* The result of a launch on a device that none of the compiled architectures fits. */
START_TEST(a_device_without_code_is_refused_at_once) {
  int64_t count, launch = 0;
  cumega_status status;
  cumega_context_destroy(emulated_context(NULL, NULL, NULL)); /* finds the driver's functions */
  emulation_calls_begin();
  cumega_context_destroy(emulated_context(NULL, NULL, NULL));
  const char *const *calls = emulation_calls(&count);
  while (launch < count && strcmp(calls[launch], "cudaLaunchKernel") != 0) launch++;
  ck_assert_int_lt(launch, count);
  emulation_fail(launch + 1, cudaErrorNoKernelImageForDevice, 1, 0);
  ck_assert_ptr_null(emulated_context(NULL, NULL, &status));
  MUST_FAIL(NULL, status, CUMEGA_ERROR_DEVICE,
            "device cuda:0 was asked for, but this build has no code for it");
  ck_assert_int_eq(cudaPeekAtLastError(), cudaSuccess);
}
END_TEST

/* ---- the caller's CUDA ---- */

START_TEST(a_context_on_a_second_device_leaves_the_first_alone) {
  emulation_set_device_count(2);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 5);
  set_current_context(NULL);
  cumega_context *ctx = context_on(kDLCUDA, 1);
  cumega_ema *ema = ema_on(ctx, &config);
  MUST(ctx, cumega_context_synchronize(ctx));
  ck_assert_ptr_null(current_context());
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  ck_assert_ptr_null(current_context());
  ck_assert(!emulation_context_exists(0) && emulation_context_exists(1));
}
END_TEST

START_TEST(a_stream_of_another_context_is_refused) {
  cudaStream_t ours, theirs;
  struct CUctx_st *own = emulation_context_create(0);
  cumega_status status;
  ck_assert_int_eq(cudaSetDevice(0), cudaSuccess);
  ck_assert_int_eq(cudaStreamCreate(&ours), cudaSuccess);
  struct CUctx_st *primary = current_context();
  set_current_context(own);
  ck_assert_int_eq(cudaStreamCreate(&theirs), cudaSuccess);
  ck_assert_ptr_null(emulated_context(NULL, theirs, &status));
  ck_assert_int_eq(status, CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(NULL),
                   "expected a stream of the primary context of cuda:0") != NULL);
  cumega_context *ctx = emulated_context(NULL, ours, NULL);
  ck_assert_int_eq(cumega_context_set_stream(ctx, theirs), CUMEGA_ERROR_ARGUMENT);
  MUST(ctx, cumega_context_set_stream(ctx, NULL));
  MUST(ctx, cumega_context_set_stream(ctx, ours));
  cumega_context_destroy(ctx);
  ck_assert_ptr_eq(current_context(), own);
  ck_assert_int_eq(cudaStreamDestroy(theirs), cudaSuccess);
  set_current_context(primary);
  ck_assert_int_eq(cudaStreamDestroy(ours), cudaSuccess);
}
END_TEST

/* ---- runs only enqueue ---- */

static int is_allowed(const char *call) {
  static const char *const allowed[] = {
      "cuCtxGetCurrent",       "cuCtxSetCurrent",      "cudaSetDevice",
      "cudaStreamIsCapturing", "cudaFuncSetAttribute", "cudaDeviceGetAttribute",
      "cudaLaunchKernel",      "cudaMemsetAsync",      "cublasSetStream",
      "cublasSetWorkspace",    "cufftSetStream",       "cufftExec"};
  for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
    if (strcmp(call, allowed[i]) == 0) return 1;
  return 0;
}

START_TEST(a_prepared_run_neither_allocates_nor_waits) {
  counting_allocator ledger = {0};
  emulation_set_schedule(EMULATION_FIXED, 0); /* work stays queued until the host waits for it */
  emulated_run *run = emulated_run_new(&run_shapes[_i], 1);
  cumega_context *ctx = emulated_context(&ledger, NULL, NULL);
  run_objects objects = emulated_objects_new(ctx, run->shape);
  int64_t count;
  MUST(ctx, emulated_run_prepare(ctx, &objects, run));
  const int64_t allocations = ledger.calls, pending = emulation_pending();
  emulation_calls_begin();
  MUST(ctx, emulated_run_start(ctx, &objects, run));
  const char *const *calls = emulation_calls(&count);
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(is_allowed(calls[i]), "%s called %s", run->shape->name, calls[i]);
  ck_assert_int_eq(ledger.calls, allocations);
  ck_assert_int_gt(emulation_pending(), pending);
  MUST(ctx, cumega_context_synchronize(ctx));
  ck_assert_msg(emulated_run_is_right(run), "%s", run->shape->name);
  ck_assert_msg(strstr(cumega_context_kernels(ctx), run->shape->kernel) != NULL, "%s: %s",
                run->shape->name, cumega_context_kernels(ctx));
  ck_assert_msg(strstr(cumega_context_kernels(ctx), ", ") == NULL, "a name with a space: %s",
                cumega_context_kernels(ctx));
  emulated_objects_destroy(&objects);
  cumega_context_destroy(ctx);
  emulated_run_free(run);
}
END_TEST

/* ---- sharing ---- */

START_TEST(contexts_with_streams_of_their_own_share_objects) {
  for (int seed = 0; seed < 5; seed++) {
    emulation_set_schedule(seed == 0 ? EMULATION_FIXED : EMULATION_RANDOM, (uint64_t)seed);
    emulated_run *runs[3];
    cumega_context *contexts[3];
    cudaStream_t stream;
    ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    for (int i = 0; i < 3; i++) {
      runs[i] = emulated_run_new(&run_shapes[_i], (uint64_t)(10 * seed + i));
      contexts[i] = emulated_context(NULL, i == 1 ? stream : NULL, NULL);
    }
    run_objects objects = emulated_objects_new(contexts[0], &run_shapes[_i]);
    for (int i = 0; i < 3; i++)
      MUST(contexts[i], emulated_run_start(contexts[i], &objects, runs[i]));
    for (int i = 2; i >= 0; i--) MUST(contexts[i], cumega_context_synchronize(contexts[i]));
    for (int i = 0; i < 3; i++) ck_assert(emulated_run_is_right(runs[i]));
    cumega_context_destroy(contexts[0]); /* the objects live on */
    emulated_run_clear(runs[1]);
    MUST(contexts[1], emulated_run_start(contexts[1], &objects, runs[1]));
    MUST(contexts[1], cumega_context_synchronize(contexts[1]));
    ck_assert(emulated_run_is_right(runs[1]));
    cumega_context_destroy(contexts[1]);
    cumega_context_destroy(contexts[2]);
    emulated_objects_destroy(&objects);
    for (int i = 0; i < 3; i++) emulated_run_free(runs[i]);
    ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
  }
}
END_TEST

/* Managed memory belongs to the device. */
START_TEST(a_context_for_managed_memory_takes_the_devices_objects) {
  cumega_context *managed = context_on(kDLCUDAManaged, 0), *ctx = context_on(kDLCUDA, 0);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 5);
  cumega_ema *ema = ema_on(managed, &config);
  MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0, 1, 1, 1));
  cumega_ema_destroy(ema);
  cumega_context_destroy(managed);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(an_object_of_another_device_is_refused) {
  emulation_set_device_count(2);
  cumega_context *second = context_on(kDLCUDA, 1), *ctx = context_on(kDLCUDA, 0);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 5);
  cumega_ema *ema = ema_on(second, &config);
  ck_assert_int_eq(cumega_ema_reset_parameters(ctx, ema, 0, 1, 1, 1), CUMEGA_ERROR_ARGUMENT);
  ck_assert_str_eq(cumega_context_message(ctx),
                   "ema was made for device (2, 1), expected the context's (2, 0)");
  cumega_ema_destroy(ema);
  cumega_context_destroy(second);
  cumega_context_destroy(ctx);
}
END_TEST

/* What the run reads from the context's memory stays there until it is done. */
START_TEST(a_context_destroyed_after_a_run_waits_for_it) {
  emulation_set_schedule(EMULATION_FIXED, 0);
  emulated_run *run = emulated_run_new(&run_shapes[_i], 1);
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  run_objects objects = emulated_objects_new(ctx, run->shape);
  MUST(ctx, emulated_run_start(ctx, &objects, run));
  cumega_context_destroy(ctx);
  ck_assert_msg(emulated_run_is_right(run), "%s", run->shape->name);
  emulated_objects_destroy(&objects);
  emulated_run_free(run);
}
END_TEST

/* Ordered after the stream's earlier work, so by a CUDA call. */
START_TEST(memory_is_written_and_read_in_the_stream) {
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  void *memory;
  MUST(ctx, cumega_memory_allocate(ctx, 8, &memory));
  for (int reads = 0; reads < 2; reads++) {
    char host[8] = "7 bytes";
    emulation_calls_begin();
    MUST(ctx, reads ? cumega_memory_read(ctx, host, memory, 8)
                    : cumega_memory_write(ctx, memory, host, 8));
    ck_assert_msg(emulated_calls_of("cudaMemcpyAsync"), "%s", reads ? "read" : "written");
    ck_assert_str_eq(host, "7 bytes");
  }
  MUST(ctx, cumega_memory_release(ctx, memory, 8));
  cumega_context_destroy(ctx);
}
END_TEST

/* ---- streams ---- */

/* The next stream waits for the previous run, which has finished with the scratch by then. */
START_TEST(a_new_stream_follows_the_old_one) {
  for (int seed = 0; seed < 5; seed++) {
    emulation_set_schedule(seed == 0 ? EMULATION_FIXED : EMULATION_RANDOM, (uint64_t)seed);
    emulated_run *first = emulated_run_new(&run_shapes[_i], 1);
    emulated_run *second = emulated_run_new(&run_shapes[_i], 2);
    cumega_context *ctx = emulated_context(NULL, NULL, NULL);
    run_objects objects = emulated_objects_new(ctx, first->shape);
    cudaStream_t stream;
    ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    MUST(ctx, emulated_run_start(ctx, &objects, first));
    MUST(ctx, cumega_context_set_stream(ctx, stream));
    MUST(ctx, emulated_run_start(ctx, &objects, second));
    ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
    ck_assert_msg(emulated_run_is_right(first), "first %s, seed %d", first->shape->name, seed);
    ck_assert_msg(emulated_run_is_right(second), "second %s, seed %d", first->shape->name, seed);
    cumega_context_destroy(ctx);
    emulated_objects_destroy(&objects);
    emulated_run_free(first);
    emulated_run_free(second);
    ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
  }
}
END_TEST

START_TEST(a_context_has_one_stream_of_its_own) {
  cudaStream_t stream;
  ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  emulation_calls_begin();
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  ck_assert(!emulated_calls_of("cudaEventRecord")); /* it follows no other work */
  emulation_calls_begin();
  MUST(ctx, cumega_context_set_stream(ctx, NULL)); /* where it is already */
  ck_assert(!emulated_calls_of("cudaEventRecord"));
  MUST(ctx, cumega_context_set_stream(ctx, stream));
  MUST(ctx, cumega_context_set_stream(ctx, NULL));
  ck_assert(emulated_calls_of("cudaEventRecord") &&
            !emulated_calls_of("cudaStreamCreateWithFlags"));
  cumega_context_destroy(ctx);
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
}
END_TEST

/* How the driver refuses a stream that it does not know; its other errors are reported as they
 * are. */
START_TEST(a_stream_that_there_is_not_is_an_argument) {
  static const struct {
    cudaError_t error;
    cumega_status status;
  } answers[] = {{cudaErrorInvalidResourceHandle, CUMEGA_ERROR_ARGUMENT},
                 {cudaErrorInvalidValue, CUMEGA_ERROR_ARGUMENT},
                 {cudaErrorDevicesUnavailable, CUMEGA_ERROR_DEVICE}};
  cudaStream_t stream;
  ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  emulation_calls_begin();
  MUST(ctx, cumega_context_set_stream(ctx, stream));
  const int64_t nth = emulated_first_call("cuStreamGetCtx");
  for (int i = 0; i < 3; i++) {
    emulation_fail(nth, answers[i].error, 0, 0);
    ck_assert_int_eq(cumega_context_set_stream(ctx, stream), answers[i].status);
    const int is_argument = strncmp(cumega_context_message(ctx), "stream is ", 10) == 0;
    ck_assert_int_eq(is_argument, answers[i].status == CUMEGA_ERROR_ARGUMENT);
  }
  cumega_context_destroy(ctx);
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
}
END_TEST

START_TEST(a_stream_that_cannot_follow_is_not_taken) {
  cudaStream_t stream;
  emulation_set_schedule(EMULATION_FIXED, 0);
  ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  emulated_run *run = emulated_run_new(&run_shapes[0], 1);
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  run_objects objects = emulated_objects_new(ctx, run->shape);
  emulation_calls_begin();
  MUST(ctx, cumega_context_set_stream(ctx, stream));
  const int64_t nth = emulated_first_call("cudaEventRecord");
  MUST(ctx, cumega_context_set_stream(ctx, NULL));
  emulation_fail(nth, cudaErrorNotSupported, 0, 0);
  ck_assert_int_eq(cumega_context_set_stream(ctx, stream), CUMEGA_ERROR_DEVICE);
  MUST(ctx, emulated_run_start(ctx, &objects, run));
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaSuccess);
  ck_assert(emulated_run_is_clear(run)); /* since it is in the context's stream */
  MUST(ctx, cumega_context_synchronize(ctx));
  ck_assert(emulated_run_is_right(run));
  cumega_context_destroy(ctx);
  emulated_objects_destroy(&objects);
  emulated_run_free(run);
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
}
END_TEST

/* Neither of two streams enters the other's capture. */
START_TEST(a_capture_is_entered_and_left_alone) {
  cudaStream_t stream;
  cudaGraph_t graph;
  ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  ck_assert_int_eq(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  MUST(ctx, cumega_context_set_stream(ctx, stream));
  MUST(ctx, cumega_context_set_stream(ctx, NULL));
  MUST(ctx, cumega_context_synchronize(ctx));
  ck_assert_int_eq(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ck_assert_int_eq(cudaGraphDestroy(graph), cudaSuccess);
  cumega_context_destroy(ctx);
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
}
END_TEST

/* ---- memory ---- */

static void assert_scratch(cumega_context *ctx, int64_t scratch, int64_t others) {
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  MUST(ctx, cumega_context_statistics(ctx, &statistics));
  ck_assert_int_eq(statistics.scratch_bytes, scratch);
  ck_assert_int_eq(statistics.bytes_held, scratch + others);
}

START_TEST(scratch_never_shrinks_and_what_it_grew_from_is_given_back) {
  cumega_statistics empty = {.struct_size = sizeof empty};
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  MUST(ctx, cumega_context_statistics(ctx, &empty));
  emulation_calls_begin();
  MUST(ctx, cumega_context_reserve(ctx, 1000));
  ck_assert(!emulated_calls_of("cudaStreamSynchronize")); /* there was nothing to wait for */
  assert_scratch(ctx, 1000, empty.bytes_held);
  MUST(ctx, cumega_context_reserve(ctx, 3000));
  assert_scratch(ctx, 3000, empty.bytes_held);
  MUST(ctx, cumega_context_reserve(ctx, 2000));
  assert_scratch(ctx, 3000, empty.bytes_held);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(an_object_without_parameters_has_no_memory_on_the_device) {
  cumega_residual_config config;
  cumega_residual_config_init(&config, sizeof config, CUMEGA_RESIDUAL_FEEDFORWARD, 1, 5);
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  cumega_residual *residual;
  emulation_calls_begin();
  MUST(ctx, cumega_residual_create(ctx, &config, NULL, &residual));
  cumega_residual_destroy(residual);
  ck_assert_int_eq(emulated_calls_of("cudaMalloc"), 0);
  ck_assert_int_eq(emulated_calls_of("cudaMemcpyAsync"), 0);
  ck_assert_int_eq(emulated_calls_of("cudaFree"), 0);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(what_the_device_cannot_give_is_named) {
  cumega_context *ctx = context_on(kDLCUDA, 0);
  void *memory = ctx;
  ck_assert_int_eq(cumega_memory_allocate(ctx, (int64_t)1 << 60, &memory), CUMEGA_ERROR_RESOURCE);
  ck_assert_ptr_null(memory);
  ck_assert_str_eq(
      cumega_context_message(ctx),
      "cannot allocate 1152921504606846976 bytes on cuda:0 for the caller: out of memory");
  cumega_context_destroy(ctx);
}
END_TEST

/* For a library's failure the message has the call as well. It has a file's name, but not the
 * folder it was built in. */
START_TEST(a_failing_call_is_named_without_folders) {
  static const char *const parts[] = {
      "sgemm on cuda:0: cuBLAS", "dgemm on cuda:0: cuBLAS",
      " of cuFFT (ema_fft_cuda.c:", "cudaMalloc at context_cuda.c:"};
  int seen[4] = {0};
  for (int i = 0; i < run_shape_count; i++) {
    emulated_run *run = emulated_run_new(&run_shapes[i], 1);
    cumega_status status = CUMEGA_ERROR_DEVICE;
    for (int failing = 1; status != CUMEGA_OK; failing++) {
      cumega_context *ctx = context_on(kDLCUDA, 0);
      run_objects objects = emulated_objects_new(ctx, run->shape);
      emulation_fail(failing, cudaErrorInvalidValue, 0, 0);
      status = emulated_run_start(ctx, &objects, run);
      emulation_fail(0, cudaSuccess, 0, 0);
      const char *sentence = cumega_context_message(ctx);
      ck_assert_msg(strstr(sentence, "/") == NULL, "%s", sentence);
      for (int part = 0; part < 4; part++) seen[part] += strstr(sentence, parts[part]) != NULL;
      cumega_context_destroy(ctx); /* waits for what was enqueued before the failure */
      emulated_objects_destroy(&objects);
    }
    emulated_run_free(run);
  }
  for (int part = 0; part < 4; part++) ck_assert_msg(seen[part] > 0, "no '%s'", parts[part]);
}
END_TEST

/* ---- a lost device ---- */

START_TEST(a_lost_device_poisons_its_contexts_and_no_others) {
  emulated_run *run = emulated_run_new(&run_shapes[0], 1);
  counting_allocator ledger = {0};
  cumega_context *ctx = emulated_context(&ledger, NULL, NULL);
  cumega_context *cpu = context_of_level(NULL, 1);
  run_objects objects = emulated_objects_new(ctx, run->shape);
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  void *pointer;
  uint32_t bits;
  emulation_fail(1, cudaErrorIllegalAddress, 0, 1);
  ck_assert_int_eq(emulated_run_start(ctx, &objects, run), CUMEGA_ERROR_FATAL);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "an illegal memory access"));
  ck_assert_int_eq(emulated_run_start(ctx, &objects, run), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_synchronize(ctx), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_reserve(ctx, 1), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_report(ctx, &bits), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_statistics(ctx, &statistics), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_set_stream(ctx, NULL), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_memory_allocate(ctx, 8, &pointer), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_ema_reset_parameters(ctx, objects.ema, 0, 1, 1, 1), CUMEGA_ERROR_FATAL);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "an illegal memory access"));
  MUST(cpu, cumega_context_synchronize(cpu));
  emulated_objects_destroy(&objects);
  cumega_context_destroy(ctx);
  cumega_context_destroy(cpu);
  ck_assert_int_eq(ledger.blocks, 0);
  emulated_run_free(run);
}
END_TEST

/* A kernel's fault is reported by whichever call waits for the kernel. */
START_TEST(an_error_of_earlier_work_is_fatal_where_it_is_met) {
  emulated_run *run = emulated_run_new(&run_shapes[0], 1);
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  run_objects objects = emulated_objects_new(ctx, run->shape);
  MUST(ctx, emulated_run_start(ctx, &objects, run));
  emulation_fail(1, cudaErrorECCUncorrectable, 0, 1);
  ck_assert_int_eq(cumega_context_synchronize(ctx), CUMEGA_ERROR_FATAL);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "cuda:0: uncorrectable ECC error"));
  ck_assert_int_eq(emulated_run_start(ctx, &objects, run), CUMEGA_ERROR_FATAL);
  emulated_objects_destroy(&objects);
  cumega_context_destroy(ctx);
  emulated_run_free(run);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_context");
  TCase *tests = add_case(suite, "rules", 60);
  tcase_add_checked_fixture(tests, emulation_reset, emulated_nothing_is_left);
  tcase_add_test(tests, without_a_driver_the_sentence_says_so_and_the_cpu_works);
  tcase_add_test(tests, an_old_driver_is_named_with_what_is_expected);
  tcase_add_test(tests, without_a_device_the_sentence_says_so);
  tcase_add_test(tests, a_device_beyond_the_last_is_refused);
  tcase_add_test(tests, a_device_without_code_is_refused_at_once);
  tcase_add_test(tests, a_context_on_a_second_device_leaves_the_first_alone);
  tcase_add_test(tests, a_stream_of_another_context_is_refused);
  tcase_add_loop_test(tests, a_prepared_run_neither_allocates_nor_waits, 0, run_shape_count);
  tcase_add_loop_test(tests, contexts_with_streams_of_their_own_share_objects, 0, run_shape_count);
  tcase_add_test(tests, a_context_for_managed_memory_takes_the_devices_objects);
  tcase_add_test(tests, an_object_of_another_device_is_refused);
  tcase_add_loop_test(tests, a_context_destroyed_after_a_run_waits_for_it, 0, run_shape_count);
  tcase_add_test(tests, memory_is_written_and_read_in_the_stream);
  tcase_add_loop_test(tests, a_new_stream_follows_the_old_one, 0, run_shape_count);
  tcase_add_test(tests, a_context_has_one_stream_of_its_own);
  tcase_add_test(tests, a_stream_that_there_is_not_is_an_argument);
  tcase_add_test(tests, a_stream_that_cannot_follow_is_not_taken);
  tcase_add_test(tests, a_capture_is_entered_and_left_alone);
  tcase_add_test(tests, scratch_never_shrinks_and_what_it_grew_from_is_given_back);
  tcase_add_test(tests, an_object_without_parameters_has_no_memory_on_the_device);
  tcase_add_test(tests, what_the_device_cannot_give_is_named);
  tcase_add_test(tests, a_failing_call_is_named_without_folders);
  tcase_add_test(tests, a_lost_device_poisons_its_contexts_and_no_others);
  tcase_add_test(tests, an_error_of_earlier_work_is_fatal_where_it_is_met);
  return run_suite(suite);
}
