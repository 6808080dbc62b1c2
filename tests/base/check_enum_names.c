/* The names of every public enum's values, in both directions, and the _init functions of every
 * public struct. */
#include <stddef.h>
#include <string.h>
#include <cumega/cumega.h>
#include "runner.h"

/* ---- words ---- */

typedef struct word {
  int value;
  const char *text;
} word;

/* One enum, as ints. */
typedef struct words {
  const char *type;
  const char *(*name)(int value);
  int (*from_name)(const char *name, int *value); /* whether NULL is accepted as a value */
  const word *all;
  int count;
} words;

#define ENUM(type)                                                                                \
  static const char *type##_word(int value) {                                                     \
    return type##_name((type)value);                                                              \
  }                                                                                               \
  static int type##_of_word(const char *name, int *value) {                                       \
    type found = (type)(value != NULL ? *value : 0);                                              \
    const int known = type##_from_name(name, value != NULL ? &found : NULL);                      \
    if (value != NULL) *value = (int)found;                                                       \
    return known;                                                                                 \
  }
ENUM(cumega_activation)
ENUM(cumega_ema_algorithm)
ENUM(cumega_log_level)
ENUM(cumega_norm_type)
ENUM(cumega_position_bias_kind)
ENUM(cumega_report_bit)
ENUM(cumega_residual_kind)
ENUM(cumega_status)

static const word activations[] = {{0, "identity"},   {1, "relu"},     {2, "swish"}, {3, "tanh"},
                                   {4, "leaky_relu"}, {5, "hardtanh"}, {6, "selu"},  {7, "mish"},
                                   {8, "smish"},      {9, "ftswish"}};
static const word algorithms[] = {{0, "default"}, {1, "recurrent"}, {2, "sliced"},
                                  {3, "chunked"}, {4, "fft"},       {5, "fastest"}};
static const word log_levels[] = {{0, "info"}};
static const word norm_types[] = {
    {0, "layer_norm"}, {1, "rms_norm"}, {2, "scale_norm"}, {3, "basic_norm"}};
static const word bias_kinds[] = {{0, "relative"}, {1, "rotary"}};
static const word report_bits[] = {{1, "length"}, {2, "offset"}, {4, "slot"}};
static const word residual_kinds[] = {
    {0, "Residual"}, {1, "Feedforward"}, {2, "Affine"}, {3, "Highway"}, {4, "DecayResidual"}};
static const word statuses[] = {{0, "CUMEGA_OK"},
                                {1, "CUMEGA_ERROR_ARGUMENT"},
                                {2, "CUMEGA_ERROR_UNSUPPORTED"},
                                {3, "CUMEGA_ERROR_RESOURCE"},
                                {4, "CUMEGA_ERROR_FILE"},
                                {5, "CUMEGA_ERROR_FORMAT"},
                                {6, "CUMEGA_ERROR_STATE"},
                                {7, "CUMEGA_ERROR_DEVICE"},
                                {8, "CUMEGA_ERROR_FATAL"}};

#define WORDS(type, all)                                                                          \
  { #type, type##_word, type##_of_word, all, (int)(sizeof(all) / sizeof *(all)) }
static const words enums[] = {
    WORDS(cumega_activation, activations),        WORDS(cumega_ema_algorithm, algorithms),
    WORDS(cumega_log_level, log_levels),          WORDS(cumega_norm_type, norm_types),
    WORDS(cumega_position_bias_kind, bias_kinds), WORDS(cumega_report_bit, report_bits),
    WORDS(cumega_residual_kind, residual_kinds),  WORDS(cumega_status, statuses)};
enum { ENUMS = sizeof enums / sizeof *enums, SMALLEST = -2, LARGEST = 1000, UNTOUCHED = 77 };

START_TEST(every_value_has_its_word_and_every_word_its_value) {
  const words *e = &enums[_i];
  for (int i = 0; i < e->count; i++) {
    int found = UNTOUCHED;
    ck_assert_str_eq(e->name(e->all[i].value), e->all[i].text);
    ck_assert_int_eq(e->from_name(e->all[i].text, &found), 1);
    ck_assert_msg(found == e->all[i].value, "%s: %s is %d", e->type, e->all[i].text, found);
  }
}
END_TEST

START_TEST(any_other_value_has_no_word) {
  const words *e = &enums[_i];
  int known = 0;
  for (int value = SMALLEST; value <= LARGEST; value++) known += e->name(value) != NULL;
  ck_assert_msg(known == e->count, "%s has %d words", e->type, known);
  ck_assert_ptr_null(e->name(INT32_MIN));
  ck_assert_ptr_null(e->name(INT32_MAX));
}
END_TEST

START_TEST(any_other_word_leaves_the_value_alone) {
  const words *e = &enums[_i];
  const char *const others[] = {"", "no such word", " relu", "RELU", "cumega_ok", "Info", NULL};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    int found = UNTOUCHED;
    ck_assert_msg(e->from_name(others[i], &found) == 0, "%s: %s", e->type, others[i]);
    ck_assert_int_eq(found, UNTOUCHED);
  }
  ck_assert_int_eq(e->from_name(e->all[0].text, NULL), 0);
  ck_assert_int_eq(e->from_name(NULL, NULL), 0);
}
END_TEST

/* ---- _init ---- */

typedef struct initial {
  const char *type;
  size_t bytes;
  void (*init)(void *made, size_t size);
  void (*expect)(void *made); /* every member, in a struct of zeros */
  size_t gaps[2]; /* four padding bytes each between members, which may hold anything; 0: none */
} initial;

/* init gets the type's arguments after struct_size; the rest says what these and the defaults
 * give. */
#define STRUCT(type, init, ...)                                                                   \
  static void type##_made(void *made, size_t size) {                                              \
    type *s = made;                                                                               \
    init;                                                                                         \
  }                                                                                               \
  static void type##_expected(void *made) {                                                       \
    const type expected = {.struct_size = sizeof expected, __VA_ARGS__};                          \
    memcpy(made, &expected, sizeof expected);                                                     \
  }
#define PLAIN(type)                                                                               \
  static void type##_made(void *made, size_t size) {                                              \
    type##_init(made, size);                                                                      \
  }                                                                                               \
  static void type##_expected(void *made) {                                                       \
    (void)made; /* zeros */                                                                       \
  }

#define FLOAT32                                                                                   \
  { kDLFloat, 32, 1 }
#define ARGUMENT_RULES                                                                            \
  { 1, 0.01, -1, 1, 1, 1, -0.2, 0 }

STRUCT(cumega_attention_scores_io, cumega_attention_scores_io_init(s, size), .scale = 1)
STRUCT(cumega_context_options, cumega_context_options_init(s, size), .device = {kDLCPU, 0},
       .threads = 1)
STRUCT(cumega_ema_config, cumega_ema_config_init(s, size, 5), .size = 5, .num_heads = 4,
       .truncation_length = CUMEGA_NO_TRUNCATION, .state_dtype = FLOAT32,
       .activation = CUMEGA_ACTIVATION_RELU, .activation_arguments = ARGUMENT_RULES)
PLAIN(cumega_ema_io)
PLAIN(cumega_ema_parameters)
STRUCT(cumega_norm_config, cumega_norm_config_init(s, size, CUMEGA_NORM_BASIC, 7), .size = 7,
       .type = CUMEGA_NORM_BASIC, .eps = 0.25, .dtype = FLOAT32)
PLAIN(cumega_norm_parameters)
STRUCT(cumega_position_bias_config, cumega_position_bias_config_init(s, size, 9),
       .max_positions = 9, .dtype = FLOAT32)
PLAIN(cumega_position_bias_parameters)
STRUCT(cumega_residual_config, cumega_residual_config_init(s, size, CUMEGA_RESIDUAL_AFFINE, 3, 11),
       .kind = CUMEGA_RESIDUAL_AFFINE, .i_layer = 3, .d_input = 11, .d_model = 11, .alpha = 1,
       .beta = 1, .power = 0.5, .scalar = 1, .l2 = 1, .dtype = FLOAT32)
PLAIN(cumega_residual_gated_io)
PLAIN(cumega_residual_io)
PLAIN(cumega_residual_parameters)
PLAIN(cumega_statistics)

#define INITIAL(type, ...)                                                                        \
  {                                                                                               \
#type, sizeof(type), type##_made, type##_expected, {                                          \
      __VA_ARGS__                                                                                 \
    }                                                                                             \
  }
#define AFTER(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))
static const initial structs[] = {
    INITIAL(cumega_attention_scores_io, 0),
    INITIAL(cumega_context_options, AFTER(cumega_context_options, threads)),
    INITIAL(cumega_ema_config, 0),
    INITIAL(cumega_ema_io, AFTER(cumega_ema_io, algorithm)),
    INITIAL(cumega_ema_parameters, 0),
    INITIAL(cumega_norm_config, AFTER(cumega_norm_config, type), AFTER(cumega_norm_config, dtype)),
    INITIAL(cumega_norm_parameters, 0),
    INITIAL(cumega_position_bias_config, AFTER(cumega_position_bias_config, kind),
            AFTER(cumega_position_bias_config, dtype)),
    INITIAL(cumega_position_bias_parameters, 0),
    INITIAL(cumega_residual_config, AFTER(cumega_residual_config, kind),
            AFTER(cumega_residual_config, dtype)),
    INITIAL(cumega_residual_gated_io, 0),
    INITIAL(cumega_residual_io, AFTER(cumega_residual_io, transposed)),
    INITIAL(cumega_residual_parameters, 0),
    INITIAL(cumega_statistics, 0)};
enum { STRUCTS = sizeof structs / sizeof *structs, ROOM = 512, PAINT = 0xA5 };

static int is_gap(const initial *s, size_t at) {
  for (int i = 0; i < 2; i++)
    if (s->gaps[i] > 0 && at >= s->gaps[i] && at < s->gaps[i] + 4) return 1;
  return 0;
}

/* A program's struct of any size, older or newer than the library's: exactly that many bytes are
 * written, the defaults as far as both structs reach, zeros after that. */
START_TEST(defaults_fill_a_struct_of_any_size_and_no_more) {
  const initial *s = &structs[_i];
  ck_assert_uint_lt(s->bytes, ROOM / 2);
  for (size_t size = sizeof size; size < ROOM; size++) {
    _Alignas(16) unsigned char made[ROOM], expected[ROOM];
    memset(made, PAINT, sizeof made);
    s->init(made, size);
    memset(expected, 0, sizeof expected);
    s->expect(expected);
    memcpy(expected, &size, sizeof size);
    memset(expected + size, PAINT, sizeof expected - size);
    for (size_t i = 0; i < sizeof made; i++)
      ck_assert_msg((i < size && is_gap(s, i)) || made[i] == expected[i],
                    "%s of %zu bytes: byte %zu is %d, expected %d", s->type, size, i, made[i],
                    expected[i]);
  }
}
END_TEST

START_TEST(a_struct_without_room_for_its_size_is_left_alone) {
  const initial *s = &structs[_i];
  for (size_t size = 0; size < sizeof size; size++) {
    _Alignas(16) unsigned char made[ROOM];
    memset(made, PAINT, sizeof made);
    s->init(made, size);
    for (size_t i = 0; i < sizeof made; i++) ck_assert_int_eq(made[i], PAINT);
  }
  s->init(NULL, s->bytes);
  s->init(NULL, 0);
}
END_TEST

START_TEST(every_type_of_norm_has_espnets_eps) {
#define EXPECT_EPS(type, value, text, eps_of_type)                                                \
  do {                                                                                            \
    cumega_norm_config config;                                                                    \
    cumega_norm_config_init(&config, sizeof config, type, 3);                                     \
    ck_assert(config.eps == eps_of_type);                                                         \
  } while (0);
  CUMEGA_NORM_LIST(EXPECT_EPS)
#undef EXPECT_EPS
}
END_TEST

int main(void) {
  Suite *suite = suite_create("enum_names");
  TCase *tests = add_case(suite, "words", 10);
  tcase_add_loop_test(tests, every_value_has_its_word_and_every_word_its_value, 0, ENUMS);
  tcase_add_loop_test(tests, any_other_value_has_no_word, 0, ENUMS);
  tcase_add_loop_test(tests, any_other_word_leaves_the_value_alone, 0, ENUMS);
  TCase *defaults = add_case(suite, "defaults", 10);
  tcase_add_loop_test(defaults, defaults_fill_a_struct_of_any_size_and_no_more, 0, STRUCTS);
  tcase_add_loop_test(defaults, a_struct_without_room_for_its_size_is_left_alone, 0, STRUCTS);
  tcase_add_test(defaults, every_type_of_norm_has_espnets_eps);
  return run_suite(suite);
}
