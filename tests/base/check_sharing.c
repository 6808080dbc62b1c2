/* Threads of a server. Each has its own context with its own threads; all use the same weights,
 * in random order and at random moments. Each request gets the same bits as when it runs alone.
 * CUMEGA_TEST_SEED chooses the requests; with CUMEGA_TEST_DEVICE=cuda the contexts are on a
 * GPU. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include "block.h"
#include "harness.h"
#include "runner.h"

enum { SERVERS = 4, REQUESTS = 24, ROUNDS = 40 };

typedef struct server {
  const block *weights;
  const uint64_t *right; /* by request */
  uint64_t seed;
  int rounds;
  pthread_barrier_t *start;
  int64_t failures, differences;
} server;

/* Between two requests: nothing, a yield to the next thread, or a short sleep. */
static void pause_at_random(uint64_t *seed) {
  switch (random_below(seed, 4)) {
  case 0: sched_yield(); break;
  case 1: nanosleep(&(struct timespec){0, (long)random_below(seed, 300000)}, NULL); break;
  default: break;
  }
}

static cumega_context *context_with(int threads) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.device = device_of_tests();
  options.threads = threads;
  cumega_context *ctx = NULL;
  return cumega_context_create(&options, &ctx) == CUMEGA_OK ? ctx : NULL;
}

static void *serve(void *argument) {
  server *s = argument;
  cumega_context *ctx = NULL;
  pthread_barrier_wait(s->start);
  for (int i = 0; i < s->rounds; i++) {
    const int64_t request = random_below(&s->seed, REQUESTS);
    uint64_t hash = 0;
    if (ctx == NULL) ctx = context_with(1 + (int)random_below(&s->seed, 3));
    if (ctx == NULL || block_run(ctx, s->weights, (uint64_t)request, &hash) != CUMEGA_OK)
      s->failures++;
    else
      s->differences += hash != s->right[request];
    pause_at_random(&s->seed);
    if (random_below(&s->seed, 8) > 0) continue;
    cumega_context_destroy(ctx);
    ctx = NULL;
  }
  cumega_context_destroy(ctx);
  return NULL;
}

START_TEST(contexts_in_threads_share_weights_and_give_the_bits_of_one_alone) {
  const char *text = getenv("CUMEGA_TEST_SEED");
  const uint64_t seed = text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : 1;
  printf("CUMEGA_TEST_SEED=%llu\n", (unsigned long long)seed);
  cumega_context *ctx = context_new();
  block weights;
  uint64_t right[REQUESTS];
  MUST(ctx, block_create(ctx, &weights));
  for (uint64_t i = 0; i < REQUESTS; i++) MUST(ctx, block_run(ctx, &weights, i, &right[i]));
  cumega_context_destroy(ctx); /* the weights outlive it */

  pthread_barrier_t start;
  pthread_t threads[SERVERS];
  server servers[SERVERS];
  pthread_barrier_init(&start, NULL, SERVERS);
  for (int i = 0; i < SERVERS; i++) {
    servers[i] = (server){.weights = &weights,
                          .right = right,
                          .seed = 100 * seed + (uint64_t)i,
                          .rounds = device_is_cuda() ? ROUNDS / 4 : ROUNDS,
                          .start = &start};
    ck_assert_int_eq(pthread_create(&threads[i], NULL, serve, &servers[i]), 0);
  }
  for (int i = 0; i < SERVERS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < SERVERS; i++) {
    ck_assert_int_eq(servers[i].failures, 0);
    ck_assert_int_eq(servers[i].differences, 0);
  }
  pthread_barrier_destroy(&start);
  block_destroy(&weights);
}
END_TEST

/* A sharing test that could not fail would prove nothing: requests differ. */
START_TEST(requests_have_bits_of_their_own) {
  cumega_context *ctx = context_new();
  block weights;
  uint64_t one, other, again;
  MUST(ctx, block_create(ctx, &weights));
  MUST(ctx, block_run(ctx, &weights, 1, &one));
  MUST(ctx, block_run(ctx, &weights, 2, &other));
  MUST(ctx, block_run(ctx, &weights, 1, &again));
  ck_assert_uint_ne(one, other);
  ck_assert_uint_eq(one, again);
  block_destroy(&weights);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("sharing");
  TCase *tests = add_case(suite, "contexts with the same weights", 300);
  tcase_add_test(tests, requests_have_bits_of_their_own);
  tcase_add_test(tests, contexts_in_threads_share_weights_and_give_the_bits_of_one_alone);
  return run_suite(suite);
}
