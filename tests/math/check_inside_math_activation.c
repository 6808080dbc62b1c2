/* The ten activations: resolved arguments, values at the edges, errors against long double, bits.
 *
 * Tolerances are sums of relative roundings in units u = 2^-24 (2^-53 for double). The library's
 * exp is within 1.9 u and expm1 within 2.9 u (check_inside_math.c: 0.95 and 1.45 units in the
 * last place, each at most 2 u); both are carried through a formula by its condition:
 *
 *   swish    exp 1.9 (it enters with weight e / (1 + e)), sum, quotient, factor: 5
 *   mish     exp 1.9 (dt/dw w/t <= 1), w + 2, its product with w, n + 2, quotient, product: 7
 *   smish    s: exp 1.9, sum, quotient (dt/ds s/t <= 1); s + 2, product, n + 2, quotient, two
 *            products: 10. beta v is rounded before all that, in the reference too
 *   ftswish  v sigma(v): 4, of itself; the sum and the shift: of the sum and of the result
 *   selu     expm1 2.9, its constant's rounding and the product: 5
 *
 * To these comes what exp loses at the ends of its range. Where exp(-v) is infinite (v below -88
 * for float, -709 for double) the logistic is 0 though it should be up to 1 / largest number.
 * Where exp(v) is subnormal it has an absolute error of a unit. Both are multiplied by v.
 * Subnormal results are rounded to the spacing of the subnormals, at most twice. */
#include "math/activation.h"
#include "math_measure.h"
#include "runner.h"
#include <float.h>
#include <stdio.h>

enum { KINDS = 10, BLOCK = 4096 };

#define LOOPS(kind, a, b)                                                                         \
  LOOP(loop_f32_##kind, float, float, activation_apply_f32(kind, a, b, x))                        \
  LOOP(loop_f64_##kind, double, double, activation_apply_f64(kind, a, b, x))
LOOPS(CUMEGA_ACTIVATION_IDENTITY, 0, 0)
LOOPS(CUMEGA_ACTIVATION_RELU, 0, 0)
LOOPS(CUMEGA_ACTIVATION_SWISH, 1.5f, 0)
LOOPS(CUMEGA_ACTIVATION_TANH, 0, 0)
LOOPS(CUMEGA_ACTIVATION_LEAKY_RELU, 0.01f, 0)
LOOPS(CUMEGA_ACTIVATION_HARDTANH, -1, 1)
LOOPS(CUMEGA_ACTIVATION_SELU, 0, 0)
LOOPS(CUMEGA_ACTIVATION_MISH, 0, 0)
LOOPS(CUMEGA_ACTIVATION_SMISH, 1.25f, 0.7f)
LOOPS(CUMEGA_ACTIVATION_FTSWISH, -0.2f, 0.125f)

/* For each kind: the loops, their arguments, and the hashes of their results for the hash
 * samples. */
static const struct activation_case {
  void (*const *loop_f32)(const float *, float *, int);
  void (*const *loop_f64)(const double *, double *, int);
  double a, b;
  uint64_t hash_f32, hash_f64;
} cases[KINDS] = {
#define CASE(kind, a, b, hash32, hash64)                                                          \
  [kind] = {loop_f32_##kind, loop_f64_##kind, a, b, hash32, hash64}
    CASE(CUMEGA_ACTIVATION_IDENTITY, 0, 0, 0x1fe255587a983271u, 0xd87744f443a82afcu),
    CASE(CUMEGA_ACTIVATION_RELU, 0, 0, 0x86579ff7a6cfa6a3u, 0x31960f819ac9beb2u),
    CASE(CUMEGA_ACTIVATION_SWISH, 1.5, 0, 0xa091f554c31d4d25u, 0x927ba86ae27a695cu),
    CASE(CUMEGA_ACTIVATION_TANH, 0, 0, 0xfd73f9126c208e84u, 0x5075c648d7bf4ff5u),
    CASE(CUMEGA_ACTIVATION_LEAKY_RELU, 0.01f, 0, 0xf80059c334d3bbcbu, 0x5d225a8b093e7e19u),
    CASE(CUMEGA_ACTIVATION_HARDTANH, -1, 1, 0x24cbb2a23ba23583u, 0x27eb1f595256236au),
    CASE(CUMEGA_ACTIVATION_SELU, 0, 0, 0x4c8d81b141262d6bu, 0x15de5b8a6b142dbbu),
    CASE(CUMEGA_ACTIVATION_MISH, 0, 0, 0xab8020102228c8a4u, 0xc418dcb65a783687u),
    CASE(CUMEGA_ACTIVATION_SMISH, 1.25, 0.7f, 0x0e0a22e9cfe2dd74u, 0x25a21c33f96aa8d5u),
    CASE(CUMEGA_ACTIVATION_FTSWISH, -0.2f, 0.125, 0xe036ba8bf7ae5d68u, 0xc8f8461692f7a5d4u),
};

/* Where float and double differ. */
typedef struct precision {
  long double u, smallest, largest, exp_limit; /* exp(-v) is infinite below about -exp_limit */
} precision;

static const precision single = {0x1p-24L, 0x1p-149L, FLT_MAX, 87.0L};
static const precision twice = {0x1p-53L, 0x1p-1074L, DBL_MAX, 708.0L};

static long double sigma(long double v) {
  return 1.0L / (1.0L + expl(-v));
}

/* The value by definition, and the tolerance derived above. z is the rounded beta v. */
static long double reference(int kind, long double a, long double b, long double v, long double z,
                             const precision *p, long double *tolerance) {
  long double u = p->u, y = v, roundings = 0.0L, extra = 2.0L * p->smallest, s = sigma(v), n;
  switch (kind) {
  case CUMEGA_ACTIVATION_RELU: y = v < 0.0L ? 0.0L : v; break;
  case CUMEGA_ACTIVATION_SWISH:
    y = a * v * s, roundings = 5.0L;
    if (v < -p->exp_limit) extra += a * fabsl(v) / p->largest;
    break;
  case CUMEGA_ACTIVATION_TANH: y = tanhl(v), roundings = 3.5L; break; /* 1.75 ulp */
  case CUMEGA_ACTIVATION_LEAKY_RELU: y = v > 0.0L ? v : a * v, roundings = 1.0L; break;
  case CUMEGA_ACTIVATION_HARDTANH: y = v < a ? a : v > b ? b : v; break;
  case CUMEGA_ACTIVATION_SELU:
    y = v > 0.0L ? 1.0507009873554804934L * v : 1.75809934084737685994L * expm1l(v);
    roundings = 5.0L;
    break;
  case CUMEGA_ACTIVATION_MISH:
    y = v * tanhl(log1pl(expl(v))), roundings = 7.0L;
    if (v < -p->exp_limit) extra += fabsl(v) * 2.0L * p->smallest;
    break;
  case CUMEGA_ACTIVATION_SMISH:
    n = tanhl(log1pl(sigma(z)));
    y = a * v * n, roundings = 10.0L;
    if (z < -p->exp_limit) extra += a * fabsl(v) / p->largest;
    break;
  case CUMEGA_ACTIVATION_FTSWISH:
    y = v * s + a;
    extra += 4.0L * u * fabsl(v * s) + u * fabsl(y);
    if (fabsl(y) <= extra) extra += fabsl(a); /* either side of the step is accepted */
    y = (y >= 0.0L ? y : a) - b;
    roundings = 1.0L;
    break;
  default: break;
  }
  *tolerance = roundings * u * fabsl(y) + extra;
  return y;
}

/* Whether got is within the tolerance; results past the largest number may be infinite. */
static int within(long double got, long double expected, long double tolerance,
                  const precision *p) {
  if (isinf(got))
    return fabsl(expected) + tolerance > p->largest && signbit(got) == signbit(expected);
  return fabsl(got - expected) <= tolerance;
}

/* About 440,000 floats evenly by their bits. */
START_TEST(float_activations_keep_their_tolerances) {
  const struct activation_case *c = &cases[_i];
  float in[BLOCK], out[BLOCK], first_bad = 0.0f;
  int bad = 0;
  for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
    for (int i = 0; i < BLOCK; ++i, bits += 9973) in[i] = math_f32_of((uint32_t)bits);
    c->loop_f32[best_level()](in, out, BLOCK);
    for (int i = 0; i < BLOCK; ++i) {
      if (!isfinite(in[i])) continue;
      long double tolerance;
      long double expected =
          reference(_i, (float)c->a, (float)c->b, in[i], (float)c->b * in[i], &single, &tolerance);
      if (!within(out[i], expected, tolerance, &single) && bad++ == 0) first_bad = in[i];
    }
  }
  ck_assert_msg(bad == 0, "kind %d: %d values, first at %a", _i, bad, (double)first_bad);
}
END_TEST

static double sample_f64(uint64_t i) {
  uint64_t bits = random_bits(42, i);
  return i % 2 == 0 ? math_f64_of(bits) : (double)(int64_t)bits * 0x1p-57;
}

/* Doubles alternately by their bits and evenly over -64 .. 64. */
START_TEST(double_activations_keep_their_tolerances) {
  const struct activation_case *c = &cases[_i];
  double in[BLOCK], out[BLOCK], first_bad = 0.0;
  int bad = 0;
  for (int block = 0; block < 50; ++block) {
    for (int i = 0; i < BLOCK; ++i) in[i] = sample_f64((uint64_t)(block * BLOCK + i));
    if (block % 2 == 1) {
      for (int i = 0; i < BLOCK; ++i) in[i] *= 16.0; /* to the ends of exp's range */
    }
    c->loop_f64[best_level()](in, out, BLOCK);
    for (int i = 0; i < BLOCK; ++i) {
      if (!isfinite(in[i])) continue;
      long double tolerance;
      long double expected = reference(_i, c->a, c->b, in[i], c->b * in[i], &twice, &tolerance);
      if (!within(out[i], expected, tolerance, &twice) && bad++ == 0) first_bad = in[i];
    }
  }
  ck_assert_msg(bad == 0, "kind %d: %d values, first at %a (seed 42)", _i, bad, first_bad);
}
END_TEST

/* In the order 0, -0, inf, -inf, NaN; PyTorch's values. */
START_TEST(edges_have_the_values_of_pytorch) {
  static const double edges[] = {0.0, -0.0, INFINITY, -INFINITY, NAN};
  static const double expected[KINDS][5] = {
      [CUMEGA_ACTIVATION_IDENTITY] = {0.0, -0.0, INFINITY, -INFINITY, NAN},
      [CUMEGA_ACTIVATION_RELU] = {0.0, -0.0, INFINITY, 0.0, NAN},
      [CUMEGA_ACTIVATION_SWISH] = {0.0, -0.0, INFINITY, NAN, NAN},
      [CUMEGA_ACTIVATION_TANH] = {0.0, -0.0, 1.0, -1.0, NAN},
      [CUMEGA_ACTIVATION_LEAKY_RELU] = {0.0, -0.0, INFINITY, -INFINITY, NAN},
      [CUMEGA_ACTIVATION_HARDTANH] = {0.0, -0.0, 1.0, -1.0, NAN},
      [CUMEGA_ACTIVATION_SELU] = {0.0, -0.0, INFINITY, -1.7580993408473768, NAN},
      [CUMEGA_ACTIVATION_MISH] = {0.0, -0.0, INFINITY, NAN, NAN},
      [CUMEGA_ACTIVATION_SMISH] = {0.0, -0.0, INFINITY, NAN, NAN},
      [CUMEGA_ACTIVATION_FTSWISH] = {-0.2f, -0.2f, INFINITY, -0.2f, -0.2f},
  };
  const struct activation_case *c = &cases[_i];
  for (int i = 0; i < 5; ++i) {
    double shift = _i == CUMEGA_ACTIVATION_FTSWISH ? 0.0 : c->b;
    double y = activation_apply_f64(_i, c->a, shift, edges[i]);
    float y32 = activation_apply_f32(_i, (float)c->a, (float)shift, (float)edges[i]);
    double e = expected[_i][i];
    ck_assert_msg(isnan(e) ? isnan(y) : math_bits_f64(y) == math_bits_f64(e), "%g: %a", edges[i],
                  y);
    ck_assert_msg(isnan(e) ? isnan(y32) : math_bits_f32(y32) == math_bits_f32((float)e), "%g: %a",
                  edges[i], (double)y32);
  }
}
END_TEST

START_TEST(an_activation_of_no_slope_keeps_the_nan_of_pytorch_at_infinity) {
  ck_assert(isnan(activation_apply_f32(CUMEGA_ACTIVATION_LEAKY_RELU, 0.0f, 0.0f, -INFINITY)));
  ck_assert(isnan(activation_apply_f64(CUMEGA_ACTIVATION_LEAKY_RELU, 0.0, 0.0, -INFINITY)));
}
END_TEST

static const cumega_activation_arguments all_arguments = {.swish_beta = 1.0,
                                                          .leakyrelu_neg_slope = 0.01,
                                                          .hardtanh_min_val = -1.0,
                                                          .hardtanh_max_val = 2.0,
                                                          .smish_alpha = 1.5,
                                                          .smish_beta = 2.5,
                                                          .ftswish_threshold = -0.3,
                                                          .ftswish_mean_shift = 0.1};

START_TEST(arguments_are_those_of_the_chosen_kind_rounded_once) {
  static const double expected[KINDS][2] = {
      [CUMEGA_ACTIVATION_SWISH] = {1.0, 0.0},     [CUMEGA_ACTIVATION_LEAKY_RELU] = {0.01, 0.0},
      [CUMEGA_ACTIVATION_HARDTANH] = {-1.0, 2.0}, [CUMEGA_ACTIVATION_SMISH] = {1.5, 2.5},
      [CUMEGA_ACTIVATION_FTSWISH] = {-0.3, 0.1},
  };
  activation_f64 f64 = activation_resolve_f64((cumega_activation)_i, &all_arguments);
  activation_f32 f32 = activation_resolve_f32((cumega_activation)_i, &all_arguments);
  ck_assert(f64.kind == _i && f64.a == expected[_i][0] && f64.b == expected[_i][1]);
  ck_assert(f32.kind == _i && f32.a == (float)f64.a && f32.b == (float)f64.b);
}
END_TEST

START_TEST(arguments_that_espnet_ignores_become_one) {
  cumega_activation_arguments arguments = all_arguments;
  arguments.swish_beta = 0.5;
  ck_assert(activation_resolve_f64(CUMEGA_ACTIVATION_SWISH, &arguments).a == 1.0);
  arguments.swish_beta = 1.75;
  ck_assert(activation_resolve_f64(CUMEGA_ACTIVATION_SWISH, &arguments).a == 1.75);
  arguments.smish_alpha = 0.0;
  arguments.smish_beta = -2.0;
  const activation_f64 smish = activation_resolve_f64(CUMEGA_ACTIVATION_SMISH, &arguments);
  ck_assert(smish.a == 1.0 && smish.b == 1.0);
}
END_TEST

START_TEST(activations_have_the_committed_bits_at_every_level) {
  const struct activation_case *c = &cases[_i];
  for (int level = 0; level < LEVELS; ++level) {
    if (!level_runs(level)) continue;
    uint64_t hash32 = HASH_START, hash64 = HASH_START;
    for (int block = 0; block < 16; ++block) {
      float in32[BLOCK], out32[BLOCK];
      double in64[BLOCK], out64[BLOCK];
      for (int i = 0; i < BLOCK; ++i) {
        in64[i] = sample_f64((uint64_t)(block * BLOCK + i));
        in32[i] =
            i % 2 == 0 ? math_f32_of((uint32_t)(block * BLOCK + i) * 65521u) : (float)in64[i];
      }
      c->loop_f32[level](in32, out32, BLOCK);
      c->loop_f64[level](in64, out64, BLOCK);
      for (int i = 0; i < BLOCK; ++i) {
        hash32 = hash_f32(hash32, out32[i]);
        hash64 = hash_f64(hash64, out64[i]);
      }
    }
    ck_assert_msg(hash32 == c->hash_f32 && hash64 == c->hash_f64,
                  "kind %d at level %s has 0x%016llxu, 0x%016llxu", _i, level_names[level],
                  (unsigned long long)hash32, (unsigned long long)hash64);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside_math_activation");
  TCase *errors = add_case(suite, "errors", 60);
  tcase_add_loop_test(errors, float_activations_keep_their_tolerances, 0, KINDS);
  tcase_add_loop_test(errors, double_activations_keep_their_tolerances, 0, KINDS);
  TCase *values = add_case(suite, "values", 60);
  tcase_add_loop_test(values, edges_have_the_values_of_pytorch, 0, KINDS);
  tcase_add_test(values, an_activation_of_no_slope_keeps_the_nan_of_pytorch_at_infinity);
  tcase_add_loop_test(values, arguments_are_those_of_the_chosen_kind_rounded_once, 0, KINDS);
  tcase_add_test(values, arguments_that_espnet_ignores_become_one);
  tcase_add_loop_test(values, activations_have_the_committed_bits_at_every_level, 0, KINDS);
  return run_suite(suite);
}
