/* How much memory jansson takes for a piece of a header, compared with what the account is
 * charged for it, and for whole headers that are made to take much. The suite counts jansson's
 * allocations by replacing malloc, which only a program may do; the linker replaces malloc with
 * __wrap_malloc (weights/CMakeLists.txt). */
#include <jansson.h>
#include <malloc.h>
#include "call.h"
#include "runner.h"
#include "weights_file.h"
#include "weights_files.h"

#define MALLOC_OVERHEAD 16

static int64_t taken, most_taken;
/* calls of malloc by the library while a file is opened, and which one fails; then jansson's */
static int64_t ours, failing_ours, janssons, failing_janssons;
static int opening;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes) {
  return opening && ++ours == failing_ours ? NULL : __real_malloc(bytes);
}

static void *count_malloc(size_t bytes) {
  void *block = ++janssons == failing_janssons ? NULL : __real_malloc(bytes);
  if (block == NULL) return NULL;
  taken += (int64_t)malloc_usable_size(block) + MALLOC_OVERHEAD;
  if (taken > most_taken) most_taken = taken;
  return block;
}

static void count_free(void *block) {
  if (block != NULL) taken -= (int64_t)malloc_usable_size(block) + MALLOC_OVERHEAD;
  free(block);
}

static weights_files files;
static void setup(void) {
  files_begin(&files);
  taken = most_taken = failing_ours = failing_janssons = 0;
  json_set_alloc_funcs(count_malloc, count_free);
}
static void teardown(void) {
  json_set_alloc_funcs(malloc, free);
  files_end(&files);
}

/* before, then `unit` as often as it fits into `bytes`, then after. */
static char *repeat(const char *before, const char *unit, const char *after, size_t bytes) {
  char *text = malloc(bytes + 1);
  ck_assert_ptr_nonnull(text);
  size_t used = strlen(before), tail = strlen(after), length = strlen(unit);
  memcpy(text, before, used);
  for (; used + length + tail <= bytes; used += length) memcpy(text + used, unit, length);
  strcpy(text + used, after);
  return text;
}

static const struct {
  const char *before, *unit, *after;
} pieces[] = {
    {"[", "{},", "0]"},
    {"[", "[],", "0]"},
    {"[", "0,", "0]"},
    {"{\"\":[", "{},", "0]}"},
    {"[", "{\"\":{}},", "0]"},
    {"[", "{\"\":0},", "0]"},
    {"[", "\"\",", "0]"},
    {"[", "1e9,", "0]"},
    {"[", "[{}],", "0]"},
    {"", "[", "]"},
    {"", "{\"\":", "0"},
    {"[", "{\"a\":\"b\"},", "0]"},
    {"{", "\"x\":[{}],", "\"\":0}"},
    {"\"", "x", "\""},
    {"\"", "\\u20ac", "\""},
    {"\"", "\\ud83d\\ude00", "\""},
};

START_TEST(no_piece_takes_more_than_is_charged) {
  const size_t sizes[] = {10, 60, 500, 4096, 1000 * 1000};
  int is_string = pieces[_i].before[0] == '"';
  for (int i = 0; i < (is_string ? 5 : 4); i++) {
    char *text = repeat(pieces[_i].before, pieces[_i].unit, pieces[_i].after, sizes[i]);
    weights_parse_state p = {files.ctx, "x", text, 0, NULL};
    weights_piece piece = {text, text + strlen(text)};
    json_t *value;
    int64_t before = memory_held(files.ctx->memory);
    taken = most_taken = 0;
    cumega_status status = weights_load(&p, piece, &value);
    int64_t charged = memory_peak(files.ctx->memory) - before;
    ck_assert_msg(most_taken <= charged, "%d: %zu bytes took %lld, charged %lld", _i, strlen(text),
                  (long long)most_taken, (long long)charged);
    if (status == CUMEGA_OK) weights_unload(&p, piece, value);
    ck_assert_int_eq(memory_held(files.ctx->memory), before);
    ck_assert_int_eq(taken, 0);
    free(text);
  }
}
END_TEST

/* Headers of 4 MB. jansson's memory is counted here, everything else by the account. */
static const struct {
  const char *before, *unit, *after;
  size_t largest; /* piece */
} bombs[] = {
    {"{", "\"\":0,", "\"\":0}", 8},
    {"{", "\"\":{},", "\"\":0}", 8},
    {"{\"a\":[", "{},", "0]}", 4096},
    {"{\"a\":{\"shape\":[", "0,", "0]}}", 4096},
    {"{\"", "x", "\":{}}", 4 << 20},
    {"{\"__metadata__\":{\"", "x", "\":0}}", 4 << 20},
    {"{\"__metadata__\":{", "\"\":\"\",", "\"\":\"\"}}", 8},
    {"{\"__metadata__\":{", "\"\":{},", "\"\":\"\"}}", 8},
    {"{", "\"\":{\"dtype\":\"\",\"shape\":[],\"data_offsets\":[0,0]},", "\"a\":{}}", 60},
    {"{", "\"\\u005f_metadata__\":{},", "\"a\":{}}", 60},
    {"", "{\"a\":", "}", 4096},
};

START_TEST(no_header_takes_more_than_eight_times_its_bytes) {
  const int64_t bytes = 4 << 20;
  char *text = repeat(bombs[_i].before, bombs[_i].unit, bombs[_i].after, (size_t)bytes);
  int64_t length = (int64_t)strlen(text), before = memory_held(files.ctx->memory);
  unsigned char *file = malloc((size_t)length + 8);
  cumega_weights *weights = NULL;
  ck_assert_ptr_nonnull(file);
  save_bytes(files.path, file, make_file(file, (size_t)length + 8, text, 0));
  taken = most_taken = 0;
  cumega_status status = cumega_weights_open(files.ctx, files.path, &weights);
  int64_t peak = memory_peak(files.ctx->memory) - before;
  ck_assert_msg(status == CUMEGA_ERROR_FORMAT, "%d: %s", _i, cumega_context_message(files.ctx));
  ck_assert_msg(peak <= 8 * length + (1 << 20), "%d: %lld bytes took %lld", _i, (long long)length,
                (long long)peak);
  ck_assert_msg(most_taken <= peak, "%d: jansson took %lld, the account saw %lld", _i,
                (long long)most_taken, (long long)peak);
  ck_assert_int_eq(memory_held(files.ctx->memory), before);
  free(file);
  free(text);
}
END_TEST

/* With less memory than a piece may take, the call returns a status before jansson is asked. */
START_TEST(a_limit_is_kept_while_a_header_is_parsed) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *small;
  cumega_weights *weights;
  options.memory_limit = 3 << 20;
  ck_assert_int_eq(cumega_context_create(&options, &small), CUMEGA_OK);
  char *text = repeat("{\"__metadata__\":{\"k\":\"", "x", "\"}}", 1 << 20);
  unsigned char *file = malloc((1 << 20) + 8);
  ck_assert_ptr_nonnull(file);
  save_bytes(files.path, file, make_file(file, (1 << 20) + 8, text, 0));
  ck_assert_int_eq(cumega_weights_open(small, files.path, &weights), CUMEGA_ERROR_RESOURCE);
  ck_assert_msg(strstr(cumega_context_message(small), "no memory to parse") != NULL, "%s",
                cumega_context_message(small));
  ck_assert_int_lt(most_taken, 1000);
  ck_assert_int_eq(cumega_weights_open(files.ctx, files.path, &weights), CUMEGA_OK);
  cumega_weights_close(weights);
  free(file);
  free(text);
  cumega_context_destroy(small);
}
END_TEST

#define SMALL                                                                                     \
  "{\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"                      \
  "\"__metadata\\u005f_\":{\"k\":\"v\"},"                                                         \
  "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}"

/* Opens the small file. The status is OK or has a message about memory, and nothing leaks. */
static cumega_status open_small(cumega_context *ctx) {
  cumega_weights *weights = (cumega_weights *)&files;
  const int64_t held = memory_held(ctx->memory);
  opening = 1;
  cumega_status status = cumega_weights_open(ctx, files.path, &weights);
  opening = 0;
  if (status != CUMEGA_OK) {
    const char *sentence = cumega_context_message(ctx);
    ck_assert_ptr_null(weights);
    ck_assert_msg(status == CUMEGA_ERROR_RESOURCE, "%s", sentence);
    ck_assert_msg(strstr(sentence, "no memory to parse") || strstr(sentence, "cannot allocate"),
                  "%s", sentence);
  } else {
    ck_assert_ptr_nonnull(cumega_weights_find(weights, "a"));
    ck_assert_str_eq(cumega_weights_metadata(weights, "k"), "v");
    ck_assert_int_eq(cumega_weights_count(weights), 2);
  }
  cumega_weights_close(weights);
  ck_assert_int_eq(memory_held(ctx->memory), held);
  ck_assert_int_eq(taken, 0);
  return status;
}

START_TEST(a_header_without_memory_to_parse_it_is_a_resource_error) {
  cumega_weights_close(open_header(&files, SMALL, 11));
  ours = 0;
  ck_assert_int_eq(open_small(files.ctx), CUMEGA_OK);
  const int64_t calls = ours;
  ck_assert_int_ge(calls, 8); /* its pieces */
  for (int64_t n = 1; n <= calls; n++) {
    ours = 0;
    failing_ours = n;
    ck_assert_msg(open_small(files.ctx) == CUMEGA_ERROR_RESOURCE, "call %d", (int)n);
  }
}
END_TEST

/* Memory runs out after it was checked. Not at every call: if jansson has no memory for a string,
 * it takes the string for an invalid token. */
START_TEST(an_object_that_jansson_has_no_memory_for_is_a_resource_error) {
  const weights_parse_state p = {files.ctx, "x", "{}", 0, NULL};
  const weights_piece piece = {p.header, p.header + 2};
  const int64_t held = memory_held(files.ctx->memory);
  json_t *value;
  janssons = 0;
  ck_assert_int_eq(weights_load(&p, piece, &value), CUMEGA_OK);
  weights_unload(&p, piece, value);
  const int64_t calls = janssons;
  ck_assert_int_ge(calls, 2);
  for (int64_t n = 1; n <= calls; n++) {
    janssons = 0;
    failing_janssons = n;
    ck_assert_int_eq(weights_load(&p, piece, &value), CUMEGA_ERROR_RESOURCE);
    ck_assert_ptr_null(value);
    ck_assert_int_eq(memory_held(files.ctx->memory), held);
    ck_assert_int_eq(taken, 0);
  }
}
END_TEST

/* From what a context itself takes to what is enough, so that the limit is reached at every
 * place. */
START_TEST(every_limit_is_enough_or_a_resource_error) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_weights_close(open_header(&files, SMALL, 11));
  const int64_t least = memory_held(files.ctx->memory), most = memory_peak(files.ctx->memory);
  int enough = 0;
  for (int64_t limit = least; limit <= most; limit += limit + 160 < most ? 160 : 1) {
    cumega_context *ctx;
    options.memory_limit = limit;
    ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
    enough = open_small(ctx) == CUMEGA_OK;
    ck_assert_int_eq(enough, limit == most);
    cumega_context_destroy(ctx);
  }
  ck_assert_int_eq(enough, 1);
}
END_TEST

/* An object cut at every place, with the rest of it past its end: a walk that looks past the end
 * finds what is missing. */
START_TEST(a_walk_stays_before_its_end) {
  static const char text[] = "{ \t\r\n \"na\\\"me\"  : { \"shape\" : [ 2 , \"}\" ] }  , \"b\"  :  "
                             "123  , \"c\":\"d\\\\\"  }";
  for (size_t n = 1; n <= strlen(text); n++) {
    weights_object object = {.at = text, .end = text + n};
    weights_member member;
    int members = 0, there;
    while ((there = weights_next_member(&object, &member)) > 0) {
      members++;
      ck_assert_msg(member.value.end <= object.end, "%zu: %s", n, member.value.begin);
    }
    ck_assert_msg(there == (n == strlen(text) ? 0 : -1), "%zu", n);
    ck_assert_msg(there < 0 || members == 3, "%zu: %d members", n, members);
    ck_assert_msg(object.at <= object.end, "%zu: %td behind its end", n, object.at - object.end);
  }
}
END_TEST

START_TEST(an_entry_after_the_last_is_none) {
  cumega_weights *weights = open_header(&files, SMALL, 11);
  char data[16];
  const cumega_weights_entry *behind = &weights->tensors[weights->count].entry;
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, behind, data, sizeof data),
                   CUMEGA_ERROR_ARGUMENT);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(a_header_of_no_bytes_is_not_looked_at) {
  static const char text[] = "}{}";
  cumega_weights *weights = NULL;
  ck_assert_int_eq(weights_parse(files.ctx, "x", text + 1, 0, 0, &weights), CUMEGA_ERROR_FORMAT);
  ck_assert_msg(strstr(cumega_context_message(files.ctx), "(0 bytes) does not begin with '{'"),
                "%s", cumega_context_message(files.ctx));
  ck_assert_ptr_null(weights);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("weights from inside");
  TCase *tests = add_case(suite, "memory", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, no_piece_takes_more_than_is_charged, 0,
                      (int)(sizeof pieces / sizeof pieces[0]));
  tcase_add_loop_test(tests, no_header_takes_more_than_eight_times_its_bytes, 0,
                      (int)(sizeof bombs / sizeof bombs[0]));
  tcase_add_test(tests, a_limit_is_kept_while_a_header_is_parsed);
  tcase_add_test(tests, a_header_without_memory_to_parse_it_is_a_resource_error);
  tcase_add_test(tests, an_object_that_jansson_has_no_memory_for_is_a_resource_error);
  tcase_add_test(tests, every_limit_is_enough_or_a_resource_error);
  tcase_add_test(tests, a_walk_stays_before_its_end);
  tcase_add_test(tests, an_entry_after_the_last_is_none);
  tcase_add_test(tests, a_header_of_no_bytes_is_not_looked_at);
  return run_suite(suite);
}
