/* Errors, devices, memory, faults on demand: what the runtime reports about itself, and what
 * tests make it do. */
#include <cfenv>
#include <thread>

#include "check_device.h"
#include "check_launch.h"
#include "correct_kernels.h"

static const int N = 64;

START_TEST(the_nth_call_fails_once_or_for_ever) {
  begin(0);
  void *p;
  emulation_fail(3, cudaErrorMemoryAllocation, 0, 0);
  OK(cudaMalloc(&p, 16));
  OK(cudaMalloc(&p, 16));
  ck_assert_int_eq(cudaMalloc(&p, 16), cudaErrorMemoryAllocation);
  ck_assert_int_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
  OK(cudaGetLastError());
  OK(cudaMalloc(&p, 16));
  emulation_fail(2, cudaErrorUnknown, 1, 0);
  OK(cudaMalloc(&p, 16));
  ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorUnknown);
  ck_assert_int_eq(cudaMalloc(&p, 16), cudaErrorUnknown);
  emulation_fail(0, cudaSuccess, 0, 0);
  OK(cudaMalloc(&p, 16));
  ck_assert_int_eq(emulation_call_count(), 8);
}
END_TEST

START_TEST(every_kind_of_call_can_be_made_to_fail) {
  begin(0);
  buffer<float> x(N);
  int number;
  cudaStream_t stream;
  void *function;
  const auto fails = [](auto call) {
    emulation_fail(1, cudaErrorUnknown, 0, 0);
    ck_assert_int_eq(call(), cudaErrorUnknown);
  };
  fails([&]() { return cudaGetDeviceCount(&number); });
  fails([&]() { return cudaSetDevice(0); });
  fails([&]() { return cudaStreamCreate(&stream); });
  fails([&]() { return cudaMemsetAsync(x.data, 0, 4, nullptr); });
  fails([&]() { return scale(x.data, x.data, N, 1.0f, nullptr); });
  fails([&]() { return cudaGetDriverEntryPoint("cuCtxGetCurrent", &function, 0, nullptr); });
}
END_TEST

START_TEST(a_lost_device_fails_everything_and_memory_is_still_given_back) {
  begin(0);
  buffer<float> *x = new buffer<float>(N);
  void *p;
  emulation_fail(1, cudaErrorIllegalAddress, 0, 1);
  ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  ck_assert_int_eq(cudaMalloc(&p, 16), cudaErrorIllegalAddress);
  ck_assert_int_eq(cudaGetLastError(), cudaErrorIllegalAddress);
  ck_assert_int_eq(cudaGetLastError(), cudaErrorIllegalAddress); /* it sticks */
  emulation_revive();
  OK(cudaGetLastError());
  emulation_fail(1, cudaErrorIllegalAddress, 0, 1);
  ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  ck_assert_int_eq(scale(x->data, x->data, N, 1.0f, nullptr), cudaErrorIllegalAddress);
  ck_assert_int_eq(emulation_leaks(nullptr), 1);
  delete x;
  ck_assert_int_eq(emulation_leaks(nullptr), 0);
  emulation_reset();
  OK(cudaMalloc(&p, 16));
}
END_TEST

START_TEST(leaks_are_listed) {
  begin(0);
  void *p, *q;
  cudaStream_t stream;
  cudaEvent_t event;
  const char *text;
  OK(cudaMalloc(&p, 100));
  OK(cudaMallocHost(&q, 7));
  OK(cudaStreamCreate(&stream));
  OK(cudaEventCreate(&event));
  ck_assert_int_eq(emulation_leaks(&text), 4);
  ck_assert_str_eq(text, "device memory, 100 bytes, allocation 1, device 0\n"
                         "pinned memory, 7 bytes, allocation 2, device 0\n"
                         "stream 1\nevent 1\n");
  OK(cudaFree(p));
  OK(cudaFreeHost(q));
  OK(cudaStreamDestroy(stream));
  OK(cudaEventDestroy(event));
  ck_assert_int_eq(emulation_leaks(nullptr), 0);
  ck_assert_int_eq(cudaFree(p), cudaErrorInvalidValue); /* twice */
  ck_assert_int_eq(cudaEventDestroy(event), cudaErrorInvalidResourceHandle);
}
END_TEST

START_TEST(launches_that_cannot_be_are_refused) {
  begin(0);
  buffer<float> x(N);
  const auto launch = [&](dim3 grid, dim3 block, size_t bytes) {
    return emulation_launch("none", grid, block, bytes, nullptr, []() {});
  };
  ck_assert_int_eq(launch(0, 32, 0), cudaErrorInvalidConfiguration);
  ck_assert_int_eq(launch(1, 0, 0), cudaErrorInvalidConfiguration);
  ck_assert_int_eq(launch(1, 1025, 0), cudaErrorInvalidConfiguration);
  ck_assert_int_eq(launch(dim3(1, 65536), 32, 0), cudaErrorInvalidConfiguration);
  ck_assert_int_eq(launch(1, 32, 48 * 1024 + 1), cudaErrorInvalidValue);
  ck_assert_int_eq(cudaPeekAtLastError(), cudaErrorInvalidValue);
  const auto opt_in = [](int bytes) {
    return cudaFuncSetAttribute((const void *)&N, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                bytes);
  };
  ck_assert_int_eq(opt_in(228 * 1024), cudaErrorInvalidValue);
  OK(opt_in(100 * 1024));
  OK(launch(1, 32, 100 * 1024));
  ck_assert_int_eq(launch(1, 32, 100 * 1024 + 1), cudaErrorInvalidValue);
  OK(cudaDeviceSynchronize());
}
END_TEST

START_TEST(copies_that_cannot_be_are_refused) {
  begin(0);
  buffer<float> x(N);
  float host[N + 1] = {0};
  const auto copy = [](void *to, const void *from, size_t n, cudaMemcpyKind kind) {
    return cudaMemcpy(to, from, n * sizeof(float), kind);
  };
  ck_assert_int_eq(copy(x.data, host, N + 1, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  ck_assert_int_eq(copy(x.data + 1, host, N, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  ck_assert_int_eq(copy(x.data, host, N, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  ck_assert_int_eq(copy(host, x.data, N, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  OK(copy(x.data, host, N, cudaMemcpyDefault));
  ck_assert_int_eq(cudaMemset(host, 0, 4), cudaErrorInvalidValue);
  void *p;
  ck_assert_int_eq(cudaMalloc(&p, (size_t)1 << 40), cudaErrorMemoryAllocation);
  OK(cudaMalloc(&p, 0));
  ck_assert_ptr_null(p);
}
END_TEST

/* Only AddressSanitizer sees it: the host may not touch device memory. */
START_TEST(the_host_may_not_touch_device_memory) {
  begin(0);
#ifdef EMULATION_ASAN
  access_is_caught(
      []() {
        buffer<int> x(std::vector<int>(4, 1));
        volatile int *at = x.data;
        _exit(*at);
      },
      "the host touched 0 bytes into device memory, 16 bytes", "");
#else
  int *managed; /* which the host may touch */
  OK(cudaMallocManaged(&managed, 16));
  *managed = 1;
  OK(cudaFree(managed));
#endif
}
END_TEST

START_TEST(pointers_say_what_they_are) {
  begin(0);
  emulation_set_device_count(2);
  OK(cudaSetDevice(1));
  buffer<float> device(N);
  float *pinned, *managed;
  OK(cudaMallocHost(&pinned, 16));
  OK(cudaMallocManaged(&managed, 16));
  cudaPointerAttributes about;
  OK(cudaPointerGetAttributes(&about, device.data + 5));
  ck_assert(about.type == cudaMemoryTypeDevice && about.device == 1 && !about.hostPointer);
  OK(cudaPointerGetAttributes(&about, pinned));
  ck_assert(about.type == cudaMemoryTypeHost && about.hostPointer == pinned);
  OK(cudaPointerGetAttributes(&about, managed));
  ck_assert_int_eq(about.type, cudaMemoryTypeManaged);
  OK(cudaPointerGetAttributes(&about, &about));
  ck_assert_int_eq(about.type, cudaMemoryTypeUnregistered);
}
END_TEST

typedef int (*get_current)(struct CUctx_st **);
typedef int (*set_current)(struct CUctx_st *);
typedef int (*get_stream_context)(cudaStream_t, struct CUctx_st **);
template <typename FUNCTION> static FUNCTION driver(const char *name) {
  void *function = nullptr;
  cudaDriverEntryPointQueryResult result;
  OK(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &result));
  ck_assert_int_eq(result, cudaDriverEntryPointSuccess);
  return (FUNCTION)function;
}

START_TEST(contexts_are_made_when_they_are_needed_and_can_be_put_back) {
  begin(0);
  emulation_set_device_count(2);
  const get_current current = driver<get_current>("cuCtxGetCurrent");
  const set_current set = driver<set_current>("cuCtxSetCurrent");
  CUctx_st *before, *after;
  int count;
  OK(cudaGetDeviceCount(&count));
  ck_assert_int_eq(current(&before), 0);
  ck_assert_ptr_null(before);
  ck_assert(!emulation_context_exists(0) && !emulation_context_exists(1));
  OK(cudaSetDevice(1));
  buffer<float> x(N);
  ck_assert(!emulation_context_exists(0) && emulation_context_exists(1));
  ck_assert_int_eq(set(before), 0);
  ck_assert_int_eq(current(&after), 0);
  ck_assert_ptr_null(after);
  CUctx_st *own = emulation_context_create(1), *streams;
  cudaStream_t stream;
  ck_assert_int_eq(set(own), 0);
  OK(cudaStreamCreate(&stream));
  ck_assert_int_eq(driver<get_stream_context>("cuStreamGetCtx")(stream, &streams), 0);
  ck_assert_ptr_eq(streams, own);
  void *none;
  ck_assert_int_eq(cudaGetDriverEntryPoint("cuNoSuch", &none, 0, nullptr),
                   cudaErrorSymbolNotFound);
  emulation_hide("cuStreamGetCtx");
  ck_assert_int_eq(cudaGetDriverEntryPoint("cuStreamGetCtx", &none, 0, nullptr),
                   cudaErrorSymbolNotFound);
  (void)driver<get_current>("cuCtxGetCurrent");
  emulation_hide(nullptr);
  (void)driver<get_stream_context>("cuStreamGetCtx");
}
END_TEST

START_TEST(a_stream_serves_its_own_device_only) {
  begin(0);
  emulation_set_device_count(2);
  cudaStream_t stream;
  OK(cudaStreamCreate(&stream));
  buffer<float> x(std::vector<float>(N, 1.0f));
  OK(cudaSetDevice(1));
  ck_assert_int_eq(scale(x.data, x.data, N, 2.0f, stream), cudaErrorInvalidResourceHandle);
  int device = -1;
  OK(cudaStreamGetDevice(stream, &device));
  ck_assert_int_eq(device, 0);
  ck_assert_int_eq(cudaSetDevice(2), cudaErrorInvalidDevice);
  emulation_set_device_count(0);
  ck_assert_int_eq(cudaGetDeviceCount(&device), cudaErrorNoDevice);
  ck_assert_int_eq(cudaDeviceSynchronize(), cudaErrorNoDevice);
  emulation_reset();
}
END_TEST

START_TEST(an_old_driver_is_refused_by_all_that_needs_a_device) {
  begin(0);
  int version = -1, devices = -1;
  void *p;
  emulation_set_driver_version(CUDART_VERSION - 1000);
  ck_assert_int_eq(cudaGetDeviceCount(&devices), cudaErrorInsufficientDriver);
  ck_assert_int_eq(devices, 0);
  ck_assert_int_eq(cudaSetDevice(0), cudaErrorInsufficientDriver);
  ck_assert_int_eq(cudaMalloc(&p, 16), cudaErrorInsufficientDriver);
  OK(cudaDriverGetVersion(&version));
  ck_assert_int_eq(version, CUDART_VERSION - 1000);
  emulation_set_driver_version(CUDART_VERSION + 1000);
  OK(cudaMalloc(&p, 16));
  emulation_reset();
  OK(cudaDriverGetVersion(&version));
  ck_assert_int_eq(version, CUDART_VERSION);
}
END_TEST

START_TEST(calls_are_listed_by_name_in_order) {
  begin(0);
  void *p;
  int64_t count;
  OK(cudaMalloc(&p, 16));
  emulation_calls_begin();
  OK(cudaMallocManaged(&p, 16));
  OK(scale((float *)p, (float *)p, 1, 1.0f, nullptr));
  OK(cudaDeviceSynchronize());
  OK(cudaFree(p));
  const char *const *names = emulation_calls(&count);
  static const char *const expected[] = {"cudaMallocManaged", "cudaLaunchKernel",
                                         "cudaDeviceSynchronize", "cudaFree"};
  ck_assert_int_eq(count, 4);
  for (int i = 0; i < 4; i++) ck_assert_str_eq(names[i], expected[i]);
}
END_TEST

START_TEST(kernels_that_ran_are_listed_in_order) {
  begin(0);
  buffer<float> x(std::vector<float>(N, 1.0f));
  buffer<int> y(std::vector<int>(N, 1)), sum(1);
  OK(scale(x.data, x.data, N, 2.0f, nullptr));
  OK(cudaDeviceSynchronize());
  emulation_kernels_begin();
  OK(reduce(y.data, sum.data, N, nullptr));
  OK(scale(x.data, x.data, N, 2.0f, nullptr));
  int64_t count;
  emulation_kernels(&count);
  ck_assert_int_eq(count, 0); /* queued only */
  OK(cudaDeviceSynchronize());
  const char *const *names = emulation_kernels(&count);
  ck_assert_int_eq(count, 2);
  ck_assert_str_eq(names[0], "reduce_kernel");
  ck_assert_str_eq(names[1], "scale_kernel");
}
END_TEST

/* 1 + 2^-24 is 1 to nearest, and the next number when rounded upwards. */
START_TEST(kernels_round_to_nearest_whatever_the_host_does) {
  begin(0);
  buffer<float> x(std::vector<float>(1, 1.0f + 0x1p-23f)), y(1);
  fesetround(FE_UPWARD);
  OK(scale(x.data, y.data, 1, 1.0f - 0x1p-23f, nullptr)); /* exactly 1 - 2^-46 */
  OK(cudaDeviceSynchronize());
  const int kept = fegetround();
  fesetround(FE_TONEAREST);
  ck_assert_int_eq(kept, FE_UPWARD);
  ck_assert(y.read()[0] == 1.0f);
}
END_TEST

START_TEST(threads_have_their_own_last_error_and_may_work_at_once) {
  begin(0);
  void *p;
  ck_assert_int_eq(cudaFree(&p), cudaErrorInvalidValue);
  bool right[4] = {};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([&right, i]() {
      bool ok = cudaGetLastError() == cudaSuccess;
      for (int round = 0; round < 20; round++) {
        float *x = nullptr, host[N];
        cudaStream_t stream = nullptr;
        for (float &value : host) value = (float)i;
        ok = ok && cudaMalloc(&x, sizeof host) == cudaSuccess;
        ok = ok && cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess;
        cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, stream);
        scale(x, x, N, 3.0f, stream);
        cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDeviceToHost, stream);
        for (float value : host) ok = ok && value == 3.0f * (float)i;
        ok = ok && cudaFree(x) == cudaSuccess && cudaStreamDestroy(stream) == cudaSuccess;
      }
      right[i] = ok;
    });
  for (std::thread &thread : threads) thread.join();
  for (bool ok : right) ck_assert(ok);
  ck_assert_int_eq(cudaGetLastError(), cudaErrorInvalidValue);
}
END_TEST

START_TEST(the_environment_sets_the_seed) {
  setenv("CUMEGA_EMULATION_SEED", "5", 1);
  std::vector<int> orders[2];
  for (int run = 0; run < 2; run++) {
    if (run == 0)
      emulation_reset();
    else
      begin(5);
    buffer<int> order(32);
    buffer<unsigned long long> next(std::vector<unsigned long long>(1, 0));
    OK(tickets(order.data, next.data, nullptr));
    orders[run] = order.read();
  }
  unsetenv("CUMEGA_EMULATION_SEED");
  emulation_reset();
  ck_assert(orders[0] == orders[1]);
  ck_assert(orders[0][0] != 0 || orders[0][1] != 1 || orders[0][2] != 2);
}
END_TEST

START_TEST(errors_have_the_names_of_cuda) {
  ck_assert_str_eq(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress");
  ck_assert_str_eq(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
  ck_assert_str_eq(cudaGetErrorName((cudaError_t)1000), "unrecognized error code");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulation_runtime");
  TCase *tests = add_case(suite, "runtime", 60);
  tcase_add_test(tests, the_nth_call_fails_once_or_for_ever);
  tcase_add_test(tests, every_kind_of_call_can_be_made_to_fail);
  tcase_add_test(tests, a_lost_device_fails_everything_and_memory_is_still_given_back);
  tcase_add_test(tests, leaks_are_listed);
  tcase_add_test(tests, launches_that_cannot_be_are_refused);
  tcase_add_test(tests, copies_that_cannot_be_are_refused);
  tcase_add_test(tests, the_host_may_not_touch_device_memory);
  tcase_add_test(tests, pointers_say_what_they_are);
  tcase_add_test(tests, contexts_are_made_when_they_are_needed_and_can_be_put_back);
  tcase_add_test(tests, a_stream_serves_its_own_device_only);
  tcase_add_test(tests, an_old_driver_is_refused_by_all_that_needs_a_device);
  tcase_add_test(tests, calls_are_listed_by_name_in_order);
  tcase_add_test(tests, kernels_that_ran_are_listed_in_order);
  tcase_add_test(tests, kernels_round_to_nearest_whatever_the_host_does);
  tcase_add_test(tests, threads_have_their_own_last_error_and_may_work_at_once);
  tcase_add_test(tests, the_environment_sets_the_seed);
  tcase_add_test(tests, errors_have_the_names_of_cuda);
  return run_and_reset(suite);
}
