/* Two threads use one context at the same time: a build without NDEBUG refuses the second call,
 * and the first goes on undisturbed. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <cumega/cumega.h>
#include "defaults.h"
#include "runner.h"

#ifndef NDEBUG

#define SENTENCE "the context is in a call of another thread: one thread at a time may use it"

/* An allocator that holds the first thread inside its call until it may go on. */
typedef struct gate {
  cumega_context *ctx;
  sem_t arrived, may_go;
  int closed;
  cumega_status status;
} gate;

static void *allocate(void *user, size_t bytes, size_t alignment) {
  gate *g = user;
  if (g->closed) {
    g->closed = 0;
    sem_post(&g->arrived);
    while (sem_wait(&g->may_go) != 0) {
    }
  }
  return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void release(void *user, void *memory, size_t bytes) {
  (void)user;
  (void)bytes;
  free(memory);
}

static void gate_new(gate *g) {
  memset(g, 0, sizeof *g);
  sem_init(&g->arrived, 0, 0);
  sem_init(&g->may_go, 0, 0);
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.allocator = (cumega_allocator){allocate, release, g};
  ck_assert_int_eq(cumega_context_create(&options, &g->ctx), CUMEGA_OK);
}

static void gate_free(gate *g) {
  cumega_context_destroy(g->ctx);
  sem_destroy(&g->arrived);
  sem_destroy(&g->may_go);
}

static void *reserve(void *argument) {
  gate *g = argument;
  g->status = cumega_context_reserve(g->ctx, 1000);
  return NULL;
}

/* What a second thread gets while the first is inside reserve. */
static void try_all_calls(cumega_context *ctx) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 3);
  cumega_ema_io io = {.struct_size = sizeof io};
  cumega_residual_gated_io gated = {.struct_size = sizeof gated};
  cumega_attention_scores_io scores;
  cumega_attention_scores_io_init(&scores, sizeof scores);
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  cumega_ema *ema = NULL;
  cumega_norm *norm = NULL;
  cumega_weights *weights = NULL;
  cumega_norm_config norm_config;
  cumega_norm_config_init(&norm_config, sizeof norm_config, CUMEGA_NORM_RMS, 3);
  const struct {
    const char *name;
    cumega_status status;
  } calls[] = {
      {"synchronize", cumega_context_synchronize(ctx)},
      {"reserve", cumega_context_reserve(ctx, 10)},
      {"statistics", cumega_context_statistics(ctx, &statistics)},
      {"write", cumega_memory_write(ctx, &config, &config, 1)},
      {"ema_create", cumega_ema_create(ctx, &config, NULL, &ema)},
      {"ema_forward", cumega_ema_forward(ctx, NULL, &io)},
      {"norm_create", cumega_norm_create(ctx, &norm_config, NULL, &norm)},
      {"gated_forward", cumega_residual_gated_forward(ctx, &gated)},
      {"softmax", softmax_with(ctx, NULL, &scores)},
      {"weights_open", cumega_weights_open(ctx, "/dev/null", &weights)},
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    ck_assert_msg(calls[i].status == CUMEGA_ERROR_STATE, "%s: %d", calls[i].name,
                  (int)calls[i].status);
  ck_assert_str_eq(cumega_context_message(NULL), SENTENCE);
}

START_TEST(a_second_thread_is_refused_until_the_first_call_has_returned) {
  gate g;
  pthread_t first;
  gate_new(&g);
  g.closed = 1;
  ck_assert_int_eq(pthread_create(&first, NULL, reserve, &g), 0);
  while (sem_wait(&g.arrived) != 0) {
  }
  try_all_calls(g.ctx);
  cumega_context_destroy(g.ctx); /* refused too: the context still exists */
  ck_assert_str_eq(cumega_context_message(NULL), SENTENCE);
  sem_post(&g.may_go);
  pthread_join(first, NULL);
  ck_assert_int_eq(g.status, CUMEGA_OK);
  ck_assert_str_eq(cumega_context_message(g.ctx), "");
  ck_assert_int_eq(cumega_context_synchronize(g.ctx), CUMEGA_OK);
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  ck_assert_int_eq(cumega_context_statistics(g.ctx, &statistics), CUMEGA_OK);
  ck_assert_int_eq(statistics.scratch_bytes, 1000);
  gate_free(&g);
}
END_TEST

typedef struct user {
  cumega_context *ctx;
  int64_t done, refused, other;
} user;

/* Until a hundred calls have succeeded. */
static void *use_without_asking(void *argument) {
  user *u = argument;
  for (int i = 0; u->done < 100 && u->other == 0; i++) {
    cumega_ema *ema = NULL;
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, 2 + i % 3);
    cumega_status status = i % 2 ? cumega_context_synchronize(u->ctx)
                                 : cumega_ema_create(u->ctx, &config, NULL, &ema);
    cumega_ema_destroy(ema);
    if (status == CUMEGA_OK)
      u->done++;
    else if (status == CUMEGA_ERROR_STATE && strcmp(cumega_context_message(NULL), SENTENCE) == 0)
      u->refused++;
    else
      u->other++;
    sched_yield();
  }
  return NULL;
}

START_TEST(threads_that_do_not_ask_each_other_are_served_or_refused) {
  cumega_context *ctx = NULL;
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.threads = 2;
  ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
  pthread_t threads[3];
  user users[3];
  for (int i = 0; i < 3; i++) {
    users[i] = (user){.ctx = ctx};
    ck_assert_int_eq(pthread_create(&threads[i], NULL, use_without_asking, &users[i]), 0);
  }
  int64_t refused = 0;
  for (int i = 0; i < 3; i++) {
    pthread_join(threads[i], NULL);
    ck_assert_int_eq(users[i].other, 0);
    refused += users[i].refused;
  }
  printf("%lld calls were refused\n", (long long)refused);
  ck_assert_int_eq(cumega_context_synchronize(ctx), CUMEGA_OK);
  cumega_context_destroy(ctx);
}
END_TEST

/* Callbacks are the caller's code in the caller's thread and may use the context. */
static void hear(void *argument, cumega_log_level level, const char *message) {
  user *u = argument;
  (void)level;
  (void)message;
  if (u->ctx && cumega_context_synchronize(u->ctx) == CUMEGA_OK) u->done++;
}

START_TEST(a_callback_may_use_the_context_of_its_call) {
  user u = {0};
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.log_callback = hear;
  options.log_user = &u;
  cumega_context *ctx = NULL;
  ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
  u.ctx = ctx;
  ck_assert_int_eq(cumega_context_reserve(ctx, 5000), CUMEGA_OK);
  ck_assert_int_eq(u.done, 1);
  ck_assert_int_eq(cumega_context_reserve(ctx, 9000), CUMEGA_OK);
  ck_assert_int_eq(u.done, 2);
  cumega_context_destroy(ctx);
}
END_TEST

#endif

int main(void) {
  Suite *suite = suite_create("context misuse");
  TCase *tests = add_case(suite, "two threads", 60);
#ifdef NDEBUG
  (void)tests;
  printf("skipped: a build with NDEBUG does not look which thread uses a context\n");
#else
  tcase_add_test(tests, a_second_thread_is_refused_until_the_first_call_has_returned);
  tcase_add_test(tests, threads_that_do_not_ask_each_other_are_served_or_refused);
  tcase_add_test(tests, a_callback_may_use_the_context_of_its_call);
#endif
  return run_suite(suite);
}
