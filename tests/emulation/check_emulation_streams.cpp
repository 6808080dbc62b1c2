/* Streams, events and graphs keep CUDA's promises and give no others. */
#include "check_device.h"
#include "correct_kernels.h"

static const int N = 64;

static cudaStream_t stream_new() {
  cudaStream_t stream;
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

static cudaEvent_t event_new() {
  cudaEvent_t event;
  OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

/* y = 2 x in one stream, z = 3 y in another; returns the number of schedules that give 6 x. */
static int schedules_right_with(bool with_event) {
  int right = 0;
  under_all_schedules([&](int) {
    buffer<float> x(std::vector<float>(N, 1.0f)), y(N), z(N);
    const cudaStream_t first = stream_new(), second = stream_new();
    const cudaEvent_t done = event_new();
    OK(scale(x.data, y.data, N, 2.0f, first));
    OK(cudaEventRecord(done, first));
    if (with_event) OK(cudaStreamWaitEvent(second, done, 0));
    OK(scale(y.data, z.data, N, 3.0f, second));
    OK(cudaStreamSynchronize(second));
    right += z.read() == std::vector<float>(N, 6.0f);
    OK(cudaStreamSynchronize(first));
    OK(cudaEventDestroy(done));
    OK(cudaStreamDestroy(first));
    OK(cudaStreamDestroy(second));
  });
  return right;
}

START_TEST(an_event_orders_two_streams) {
  ck_assert_int_eq(schedules_right_with(true), SEEDS + 1);
}
END_TEST

/* Without the event the consumer runs first in the fixed schedule, and in some of the others. */
START_TEST(a_missing_event_is_seen) {
  begin(0);
  ck_assert_int_le(schedules_right_with(false), SEEDS * 3 / 4);
}
END_TEST

START_TEST(nothing_runs_before_it_must_in_the_fixed_schedule) {
  begin(0);
  buffer<float> x(std::vector<float>(N, 1.0f)), y(N);
  const cudaStream_t stream = stream_new();
  OK(scale(x.data, y.data, N, 2.0f, stream));
  ck_assert_int_eq(emulation_pending(), 1);
  ck_assert_int_eq(cudaStreamQuery(stream), cudaErrorNotReady);
  ck_assert_int_eq(cudaGetLastError(), cudaErrorNotReady);
  OK(cudaStreamQuery(stream));
  ck_assert_int_eq(emulation_pending(), 0);
  OK(scale(x.data, y.data, N, 2.0f, stream));
  emulation_drain();
  ck_assert_int_eq(emulation_pending(), 0);
}
END_TEST

START_TEST(polling_ends) {
  under_all_schedules([](int) {
    buffer<float> x(std::vector<float>(N, 1.0f)), y(N);
    const cudaStream_t stream = stream_new();
    const cudaEvent_t done = event_new();
    OK(scale(x.data, y.data, N, 2.0f, stream));
    OK(cudaEventRecord(done, stream));
    OK(scale(y.data, x.data, N, 2.0f, stream));
    int polls = 0;
    while (cudaEventQuery(done) == cudaErrorNotReady) ck_assert_int_lt(polls++, 1000);
    while (cudaStreamQuery(stream) == cudaErrorNotReady) ck_assert_int_lt(polls++, 1000);
    ck_assert(x.read() == std::vector<float>(N, 4.0f));
  });
}
END_TEST

START_TEST(a_buffer_freed_before_its_kernel_ran_is_caught) {
  begin(0);
  const cudaStream_t stream = stream_new();
  buffer<float> *y = new buffer<float>(std::vector<float>(N, 1.0f));
  access_is_caught(
      [&]() {
        float *x;
        OK(cudaMalloc(&x, N * sizeof(float)));
        OK(scale(y->data, x, N, 2.0f, stream));
        OK(cudaFree(x));
        ck_assert_int_eq(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
      },
      "freed: 0 bytes into device memory, 256 bytes",
      "kernel scale_kernel wrote to freed memory: device memory, 256 bytes");
  delete y;
}
END_TEST

START_TEST(a_queued_copy_of_freed_memory_is_reported) {
  begin(0);
  const cudaStream_t stream = stream_new();
  float *pinned, *device;
  OK(cudaMallocHost(&pinned, 256));
  OK(cudaMalloc(&device, 256));
  OK(cudaMemcpyAsync(device, pinned, 256, cudaMemcpyHostToDevice, stream));
  OK(cudaFreeHost(pinned));
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
  const char *text;
  ck_assert_int_eq(emulation_faults(&text), 1);
  ck_assert_msg(strstr(text, "freed: 0 bytes into pinned memory, 256 bytes") != nullptr, "%s",
                text);
}
END_TEST

START_TEST(free_in_stream_order_is_no_fault) {
  under_all_schedules([](int) {
    buffer<float> x(std::vector<float>(N, 1.0f)), z(N);
    const cudaStream_t stream = stream_new();
    float *y;
    OK(cudaMallocAsync(&y, N * sizeof(float), stream));
    OK(scale(x.data, y, N, 2.0f, stream));
    OK(scale(y, z.data, N, 2.0f, stream));
    OK(cudaFreeAsync(y, stream));
    OK(cudaStreamSynchronize(stream));
    ck_assert(z.read() == std::vector<float>(N, 4.0f));
    ck_assert_int_eq(emulation_faults(nullptr), 0);
  });
}
END_TEST

/* The sources change after the call. By then pageable memory has been read; pinned memory may not
 * have been, and in the fixed schedule has not. Arguments are copied by the call. */
START_TEST(copies_read_pinned_memory_when_they_run) {
  begin(0);
  const cudaStream_t stream = stream_new();
  buffer<float> x(1), y(1), z(1);
  float pageable = 1.0f, *pinned, factor = 2.0f;
  OK(cudaMallocHost(&pinned, sizeof(float)));
  *pinned = 1.0f;
  OK(cudaMemcpyAsync(x.data, &pageable, sizeof(float), cudaMemcpyHostToDevice, stream));
  OK(cudaMemcpyAsync(y.data, pinned, sizeof(float), cudaMemcpyHostToDevice, stream));
  OK(scale(x.data, z.data, 1, factor, stream));
  pageable = *pinned = factor = 5.0f;
  OK(cudaStreamSynchronize(stream));
  ck_assert(x.read()[0] == 1.0f && y.read()[0] == 5.0f && z.read()[0] == 2.0f);
  float back = 0.0f; /* to pageable memory the call waits */
  OK(cudaMemcpyAsync(&back, z.data, sizeof(float), cudaMemcpyDeviceToHost, stream));
  ck_assert(back == 2.0f);
  OK(cudaFreeHost(pinned));
}
END_TEST

START_TEST(blocking_streams_take_turns_with_the_legacy_stream) {
  under_all_schedules([](int) {
    buffer<float> x(std::vector<float>(N, 1.0f)), y(N), z(N);
    cudaStream_t blocking;
    OK(cudaStreamCreate(&blocking));
    OK(scale(x.data, y.data, N, 2.0f, blocking));
    OK(scale(y.data, z.data, N, 2.0f, nullptr));
    OK(scale(z.data, y.data, N, 2.0f, blocking));
    OK(cudaStreamSynchronize(blocking));
    ck_assert(y.read() == std::vector<float>(N, 8.0f));
  });
}
END_TEST

/* Captures y = factor x, and if forked also z = 3 x in another stream. */
static cudaGraphExec_t captured(cudaStream_t stream, const float *x, float *y, float factor,
                                float *z) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  if (z != nullptr) {
    const cudaStream_t beside = stream_new();
    const cudaEvent_t fork = event_new(), join = event_new();
    OK(cudaEventRecord(fork, stream));
    OK(cudaStreamWaitEvent(beside, fork, 0));
    OK(scale(x, z, N, 3.0f, beside));
    OK(cudaEventRecord(join, beside));
    OK(scale(x, y, N, factor, stream));
    OK(cudaStreamWaitEvent(stream, join, 0));
    OK(scale(z, z, N, 2.0f, stream));
  } else {
    OK(scale(x, y, N, factor, stream));
  }
  OK(cudaStreamEndCapture(stream, &graph));
  OK(cudaGraphInstantiate(&exec, graph, 0));
  OK(cudaGraphDestroy(graph));
  return exec;
}

START_TEST(a_graph_replays_its_arguments_on_what_memory_holds_then) {
  under_all_schedules([](int) {
    buffer<float> x(std::vector<float>(N, 1.0f)), y(N), z(N);
    const cudaStream_t stream = stream_new();
    const cudaGraphExec_t exec = captured(stream, x.data, y.data, 2.0f, z.data);
    ck_assert(y.read() != std::vector<float>(N, 2.0f)); /* nothing has run */
    for (float value = 1.0f; value < 4.0f; value += 1.0f) {
      const std::vector<float> now(N, value);
      OK(cudaMemcpy(x.data, now.data(), N * sizeof(float), cudaMemcpyHostToDevice));
      OK(cudaGraphLaunch(exec, stream));
      OK(cudaStreamSynchronize(stream));
      ck_assert(y.read() == std::vector<float>(N, 2.0f * value));
      ck_assert(z.read() == std::vector<float>(N, 6.0f * value));
    }
    int64_t count;
    emulation_kernels(&count);
    ck_assert_int_eq(count, 9);
    OK(cudaGraphExecDestroy(exec));
  });
}
END_TEST

START_TEST(a_graph_with_a_stale_pointer_is_caught) {
  begin(0);
  const cudaStream_t stream = stream_new();
  buffer<float> *x = new buffer<float>(std::vector<float>(N, 1.0f));
  access_is_caught(
      [&]() {
        float *y;
        OK(cudaMalloc(&y, N * sizeof(float)));
        const cudaGraphExec_t exec = captured(stream, x->data, y, 2.0f, nullptr);
        OK(cudaGraphLaunch(exec, stream));
        OK(cudaStreamSynchronize(stream));
        OK(cudaFree(y));
        OK(cudaGraphLaunch(exec, stream));
        ck_assert_int_eq(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
      },
      "freed: 0 bytes into device memory, 256 bytes", "wrote to freed memory: device memory");
  delete x;
}
END_TEST

/* Each of these, called while `stream` captures, gives the error and invalidates the capture. */
template <typename CALL>
static void spoils_a_capture(CALL illegal, cudaError_t error, unsigned flags) {
  begin(0);
  buffer<float> x(std::vector<float>(N, 1.0f)), y(N);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaStreamCaptureStatus status;
  OK(cudaStreamCreateWithFlags(&stream, flags));
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  OK(scale(x.data, y.data, N, 2.0f, stream));
  OK(cudaStreamIsCapturing(stream, &status));
  ck_assert_int_eq(status, cudaStreamCaptureStatusActive);
  ck_assert_int_eq(illegal(stream, x.data), error);
  OK(cudaStreamIsCapturing(stream, &status));
  ck_assert_int_eq(status, cudaStreamCaptureStatusInvalidated);
  ck_assert_int_eq(scale(x.data, y.data, N, 2.0f, stream), cudaErrorStreamCaptureInvalidated);
  ck_assert_int_eq(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  ck_assert_ptr_null(graph);
  OK(scale(x.data, y.data, N, 2.0f, stream)); /* and the stream is as before */
  OK(cudaStreamSynchronize(stream));
  ck_assert(y.read() == std::vector<float>(N, 2.0f));
}

START_TEST(what_a_capture_forbids_is_refused_and_spoils_it) {
  const unsigned own = cudaStreamNonBlocking, turns = cudaStreamDefault;
  const cudaError_t no = cudaErrorStreamCaptureUnsupported;
  void *p;
  static char host[N * sizeof(float)];
  spoils_a_capture([&](cudaStream_t, float *) { return cudaMalloc(&p, 256); }, no, own);
  spoils_a_capture([&](cudaStream_t, float *) { return cudaMallocHost(&p, 256); }, no, own);
  spoils_a_capture([](cudaStream_t, float *x) { return cudaFree(x); }, no, own);
  spoils_a_capture([](cudaStream_t s, float *) { return cudaStreamSynchronize(s); }, no, own);
  spoils_a_capture([](cudaStream_t s, float *) { return cudaStreamQuery(s); }, no, own);
  spoils_a_capture([](cudaStream_t, float *) { return cudaDeviceSynchronize(); }, no, own);
  const auto copy = [](cudaStream_t, float *x) {
    return cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost);
  };
  spoils_a_capture(copy, no, own);
  spoils_a_capture(copy, cudaErrorStreamCaptureImplicit, turns);
  spoils_a_capture([](cudaStream_t, float *x) { return scale(x, x, N, 1.0f, nullptr); },
                   cudaErrorStreamCaptureImplicit, turns);
  spoils_a_capture(
      [](cudaStream_t s, float *x) {
        const cudaStream_t other = stream_new();
        const cudaEvent_t event = event_new();
        OK(scale(x, x, N, 1.0f, other));
        OK(cudaEventRecord(event, other));
        return cudaStreamWaitEvent(s, event, 0);
      },
      cudaErrorStreamCaptureIsolation, own);
}
END_TEST

START_TEST(a_capture_must_end_where_it_began_and_have_all_its_work_joined) {
  begin(0);
  buffer<float> x(std::vector<float>(N, 1.0f));
  const cudaStream_t stream = stream_new(), beside = stream_new();
  const cudaEvent_t fork = event_new();
  cudaGraph_t graph;
  ck_assert_int_eq(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal),
                   cudaErrorStreamCaptureUnsupported);
  ck_assert_int_eq(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  OK(cudaEventRecord(fork, stream));
  OK(cudaStreamWaitEvent(beside, fork, 0));
  OK(scale(x.data, x.data, N, 1.0f, beside));
  ck_assert_int_eq(cudaEventQuery(fork), cudaErrorCapturedEvent);
  ck_assert_int_eq(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  OK(cudaEventRecord(fork, stream));
  OK(cudaStreamWaitEvent(beside, fork, 0));
  ck_assert_int_eq(cudaStreamEndCapture(beside, &graph), cudaErrorStreamCaptureUnmatched);
  ck_assert_int_eq(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
}
END_TEST

START_TEST(relaxed_captures_allow_allocation) {
  begin(0);
  const cudaStream_t stream = stream_new();
  cudaGraph_t graph;
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  buffer<float> x(N);
  OK(cudaStreamEndCapture(stream, &graph));
  OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  OK(cudaThreadExchangeStreamCaptureMode(&mode));
  buffer<float> y(N);
  OK(cudaThreadExchangeStreamCaptureMode(&mode));
  OK(cudaStreamEndCapture(stream, &graph));
}
END_TEST

START_TEST(work_of_a_destroyed_stream_still_runs) {
  begin(0);
  buffer<float> x(std::vector<float>(N, 1.0f)), y(N);
  const cudaStream_t stream = stream_new();
  OK(scale(x.data, y.data, N, 2.0f, stream));
  OK(cudaStreamDestroy(stream));
  ck_assert_int_eq(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  OK(cudaDeviceSynchronize());
  ck_assert(y.read() == std::vector<float>(N, 2.0f));
}
END_TEST

START_TEST(events_tell_the_time_between_them) {
  begin(0);
  buffer<float> x(std::vector<float>(N, 1.0f)), y(N);
  cudaEvent_t first, last;
  float ms = -1.0f;
  OK(cudaEventCreate(&first));
  OK(cudaEventCreate(&last));
  OK(cudaEventRecord(first, nullptr));
  OK(scale(x.data, y.data, N, 2.0f, nullptr));
  OK(cudaEventRecord(last, nullptr));
  ck_assert_int_eq(cudaEventElapsedTime(&ms, first, last), cudaErrorNotReady);
  OK(cudaEventSynchronize(last));
  OK(cudaEventElapsedTime(&ms, first, last));
  ck_assert(ms > 0.0f);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulation_streams");
  TCase *tests = add_case(suite, "streams", 60);
  tcase_add_test(tests, an_event_orders_two_streams);
  tcase_add_test(tests, a_missing_event_is_seen);
  tcase_add_test(tests, nothing_runs_before_it_must_in_the_fixed_schedule);
  tcase_add_test(tests, polling_ends);
  tcase_add_test(tests, a_buffer_freed_before_its_kernel_ran_is_caught);
  tcase_add_test(tests, a_queued_copy_of_freed_memory_is_reported);
  tcase_add_test(tests, free_in_stream_order_is_no_fault);
  tcase_add_test(tests, copies_read_pinned_memory_when_they_run);
  tcase_add_test(tests, blocking_streams_take_turns_with_the_legacy_stream);
  tcase_add_test(tests, a_graph_replays_its_arguments_on_what_memory_holds_then);
  tcase_add_test(tests, a_graph_with_a_stale_pointer_is_caught);
  tcase_add_test(tests, what_a_capture_forbids_is_refused_and_spoils_it);
  tcase_add_test(tests, a_capture_must_end_where_it_began_and_have_all_its_work_joined);
  tcase_add_test(tests, relaxed_captures_allow_allocation);
  tcase_add_test(tests, work_of_a_destroyed_stream_still_runs);
  tcase_add_test(tests, events_tell_the_time_between_them);
  return run_and_reset(suite);
}
