/* Correct kernels give correct results under every schedule. */
#include <chrono>
#include <numeric>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include "check_device.h"
#include "correct_kernels.h"

/* Also checks that there is no fault and no leak. */
template <typename CHECK> static void right_under_all_schedules(CHECK check) {
  under_all_schedules([&](int seed) {
    check(seed);
    const char *text;
    ck_assert_msg(emulation_faults(&text) == 0, "seed %d: %s", seed, text);
    ck_assert_msg(emulation_leaks(&text) == 0, "seed %d: %s", seed, text);
  });
}

static std::vector<int> numbers(int n) {
  std::vector<int> x((size_t)n);
  for (int i = 0; i < n; i++) x[(size_t)i] = (i * 7919 + 13) % 1001 - 500;
  return x;
}

START_TEST(a_scan_of_blocks_by_shuffles_is_right) {
  const int n = 700;
  const std::vector<int> x = numbers(n);
  right_under_all_schedules([&](int seed) {
    buffer<int> in(x), out(x.size());
    OK(scan_blocks(in.data, out.data, n, nullptr));
    const std::vector<int> y = out.read();
    int sum = 0;
    for (int i = 0; i < n; i++) {
      sum = (i % 256 == 0 ? 0 : sum) + x[(size_t)i];
      ck_assert_msg(y[(size_t)i] == sum, "seed %d, element %d", seed, i);
    }
  });
}
END_TEST

START_TEST(a_scan_that_looks_back_across_blocks_is_right) {
  const int n = 256 * 40 - 5;
  const std::vector<int> x = numbers(n);
  right_under_all_schedules([&](int seed) {
    buffer<int> in(x), out(x.size());
    buffer<unsigned long long> state(std::vector<unsigned long long>(41, 0));
    OK(scan_lookback(in.data, out.data, n, state.data, nullptr));
    const std::vector<int> y = out.read();
    int sum = 0;
    for (int i = 0; i < n; i++) {
      sum += x[(size_t)i];
      ck_assert_msg(y[(size_t)i] == sum, "seed %d, element %d", seed, i);
    }
  });
}
END_TEST

START_TEST(a_reduction_by_halving_is_right) {
  const int n = 1000;
  const std::vector<int> x = numbers(n);
  right_under_all_schedules([&](int seed) {
    buffer<int> in(x), out(4);
    OK(reduce(in.data, out.data, n, nullptr));
    const std::vector<int> sums = out.read();
    for (int b = 0; b < 4; b++) {
      const auto first = x.begin() + 256 * b, last = b == 3 ? x.end() : first + 256;
      ck_assert_msg(sums[(size_t)b] == std::accumulate(first, last, 0), "seed %d", seed);
    }
  });
}
END_TEST

START_TEST(a_transpose_by_tiles_is_right) {
  const int rows = 45, columns = 70;
  std::vector<float> x((size_t)(rows * columns));
  std::iota(x.begin(), x.end(), 0.5f);
  right_under_all_schedules([&](int seed) {
    buffer<float> in(x), out(x.size());
    OK(transpose(in.data, out.data, rows, columns, nullptr));
    const std::vector<float> y = out.read();
    for (int r = 0; r < rows; r++)
      for (int c = 0; c < columns; c++)
        ck_assert_msg(y[(size_t)(c * rows + r)] == x[(size_t)(r * columns + c)], "seed %d", seed);
  });
}
END_TEST

START_TEST(a_pipeline_of_asynchronous_copies_is_right) {
  const int steps = 20;
  std::vector<float> x((size_t)(steps * 64));
  for (size_t i = 0; i < x.size(); i++) x[i] = (float)(i % 17);
  right_under_all_schedules([&](int seed) {
    buffer<float> in(x), out(x.size());
    OK(pipeline(in.data, out.data, steps, nullptr));
    const std::vector<float> y = out.read();
    for (size_t d = 0; d < 64; d++) {
      float sum = 0.0f; /* of small integers: exact */
      for (size_t t = 0; t < (size_t)steps; t++) {
        sum += x[t * 64 + d];
        ck_assert_msg(y[t * 64 + d] == sum, "seed %d, step %zu", seed, t);
      }
    }
  });
}
END_TEST

START_TEST(votes_and_atomics_are_right) {
  const int n = 1030;
  std::vector<int> x((size_t)n, 2);
  for (size_t i = 300; i < 500; i++) x[i] = (int)i;
  right_under_all_schedules([&](int seed) {
    buffer<int> in(x);
    buffer<unsigned> counts(std::vector<unsigned>(3, 0));
    OK(votes(in.data, n, counts.data, nullptr));
    const std::vector<unsigned> c = counts.read();
    ck_assert_msg(c[0] == 100 && c[1] == 499 && c[2] == 1, "seed %d: %u, %u, %u", seed, c[0], c[1],
                  c[2]);
  });
}
END_TEST

START_TEST(every_thread_of_every_block_runs_once_at_its_place) {
  right_under_all_schedules([&](int) {
    buffer<int> out(288);
    OK(places(out.data, nullptr));
    const std::vector<int> place = out.read();
    for (int thread = 0; thread < 24; thread++)
      for (int block = 0; block < 12; block++)
        ck_assert_int_eq(place[(size_t)(thread * 12 + block)], 100 * block + thread);
  });
}
END_TEST

/* The schedule decides the order in which blocks take their tickets. */
START_TEST(a_seed_gives_the_same_schedule_again_and_another_seed_another) {
  std::vector<int> orders[3];
  for (int run = 0; run < 3; run++) {
    begin(run == 2 ? 8 : 7);
    buffer<int> order(32);
    buffer<unsigned long long> next(std::vector<unsigned long long>(1, 0));
    OK(tickets(order.data, next.data, nullptr));
    orders[run] = order.read();
  }
  ck_assert(orders[0] == orders[1]);
  ck_assert(orders[0] != orders[2]);
}
END_TEST

START_TEST(half_types_widen_exactly_and_narrow_to_nearest_even) {
  for (unsigned bits = 0; bits < 65536; bits++) {
    const float h = __half2float(__ushort_as_half((unsigned short)bits));
    const float b = __bfloat162float(__ushort_as_bfloat16((unsigned short)bits));
    if (h == h) ck_assert_uint_eq(__half_as_ushort(__float2half_rn(h)), bits);
    if (b == b) ck_assert_uint_eq(__bfloat16_as_ushort(__float2bfloat16_rn(b)), bits);
  }
  ck_assert(__half2float(__ushort_as_half(0x3c01)) == 1.0f + 0x1p-10f);
  ck_assert(__half2float(__ushort_as_half(0x0001)) == 0x1p-24f);
  ck_assert_uint_eq(__half_as_ushort(__float2half_rn(1.0f + 0x1p-11f)), 0x3c00); /* ties to even */
  ck_assert_uint_eq(__half_as_ushort(__float2half_rn(1.0f + 0x3p-11f)), 0x3c02);
  ck_assert_uint_eq(__half_as_ushort(__float2half_rn(65519.0f)), 0x7bff);
  ck_assert_uint_eq(__half_as_ushort(__float2half_rn(-65520.0f)), 0xfc00);
  ck_assert_uint_eq(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f + 0x1p-8f)), 0x3f80);
  ck_assert_uint_eq(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f + 0x3p-8f)), 0x3f82);
}
END_TEST

START_TEST(vector_types_have_the_alignment_of_cuda) {
  ck_assert(alignof(float4) == 16 && sizeof(float4) == 16 && alignof(float2) == 8);
  ck_assert(alignof(int4) == 16 && alignof(double2) == 16 && sizeof(float3) == 12);
  ck_assert(alignof(__half2) == 4 && sizeof(__nv_bfloat16) == 2);
}
END_TEST

/* Tests no limit: it prints the figure, for the documentation. */
START_TEST(a_scan_tells_its_speed) {
  const int n = 256 * 1024;
  emulation_reset();
  buffer<int> in(numbers(n)), out((size_t)n);
  const auto begin = std::chrono::steady_clock::now();
  OK(scan_blocks(in.data, out.data, n, nullptr));
  OK(cudaDeviceSynchronize());
  const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  printf("scan_blocks: %.2f million elements/s, %.0f million thread meetings/s\n", n / s * 1e-6,
         8.0 * n / s * 1e-6); /* 5 shuffles, 2 barriers, and an eighth of the threads 5 more */
  const std::vector<int> y = out.read();
  ck_assert_int_eq(y[256], numbers(n)[256]);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulation_kernels");
  TCase *tests = add_case(suite, "kernels", 60);
  tcase_add_test(tests, a_scan_of_blocks_by_shuffles_is_right);
  tcase_add_test(tests, a_scan_that_looks_back_across_blocks_is_right);
  tcase_add_test(tests, a_reduction_by_halving_is_right);
  tcase_add_test(tests, a_transpose_by_tiles_is_right);
  tcase_add_test(tests, a_pipeline_of_asynchronous_copies_is_right);
  tcase_add_test(tests, votes_and_atomics_are_right);
  tcase_add_test(tests, every_thread_of_every_block_runs_once_at_its_place);
  tcase_add_test(tests, a_seed_gives_the_same_schedule_again_and_another_seed_another);
  tcase_add_test(tests, half_types_widen_exactly_and_narrow_to_nearest_even);
  tcase_add_test(tests, vector_types_have_the_alignment_of_cuda);
  tcase_add_test(tests, a_scan_tells_its_speed);
  return run_and_reset(suite);
}
