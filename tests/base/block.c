#include "defaults.h"
#include "block.h"
#include <stdlib.h>
#include <string.h>
#include "ema_device.h"
#include "harness.h"
#include "position_device.h"

enum { CHANNELS = 24, BATCH = 3, LENGTH = 40, HEADS = 2 };

cumega_status block_create(cumega_context *ctx, block *b) {
  cumega_ema_config ema;
  cumega_ema_config_init(&ema, sizeof ema, CHANNELS);
  cumega_residual_config residual;
  cumega_residual_config_init(&residual, sizeof residual, CUMEGA_RESIDUAL_AFFINE, 2, CHANNELS);
  cumega_norm_config norm;
  cumega_norm_config_init(&norm, sizeof norm, CUMEGA_NORM_LAYER, CHANNELS);
  memset(b, 0, sizeof *b);
  cumega_status status = cumega_ema_create(ctx, &ema, NULL, &b->ema);
  if (status == CUMEGA_OK) status = bias_rotary(ctx, 8, LENGTH, NULL, NULL, &b->bias);
  if (status == CUMEGA_OK) status = cumega_residual_create(ctx, &residual, NULL, &b->residual);
  if (status == CUMEGA_OK) status = cumega_norm_create(ctx, &norm, NULL, &b->norm);
  return status;
}

void block_destroy(block *b) {
  cumega_ema_destroy(b->ema);
  cumega_position_bias_destroy(b->bias);
  cumega_residual_destroy(b->residual);
  cumega_norm_destroy(b->norm);
  memset(b, 0, sizeof *b);
}

struct block_request {
  test_tensor *x, *y, *state, *scores, *out, *normalized, *lengths;
};

static void fill(test_tensor *t, uint64_t *seed) {
  const int64_t *n = t->view.shape;
  const int64_t inner = t->view.dl.ndim == 4 ? n[3] : 1;
  for (int64_t i = 0; i < n[0]; i++)
    for (int64_t j = 0; j < n[1]; j++)
      for (int64_t k = 0; k < n[2]; k++)
        for (int64_t l = 0; l < inner; l++) tensor_set_4(t, i, j, k, l, random_noise(seed));
}

block_request *block_request_new(uint64_t seed) {
  const int64_t L = 1 + random_below(&seed, LENGTH), B = 1 + random_below(&seed, BATCH);
  const DLDataType type = random_below(&seed, 3) ? cumega_float32 : cumega_bfloat16;
  int64_t lengths[BATCH];
  for (int i = 0; i < BATCH; i++) lengths[i] = random_below(&seed, L + 1);
  block_request *r = memory_new(sizeof *r);
  *r = (block_request){.x = tensor_new_3(type, L, B, CHANNELS),
                       .y = tensor_new_3(type, L, B, CHANNELS),
                       .state = tensor_new_3(cumega_float32, B, CHANNELS, 4),
                       .scores = tensor_new(type, 4, (const int64_t[]){B, HEADS, L, L}, NULL),
                       .out = tensor_new_3(type, L, B, CHANNELS),
                       .normalized = tensor_new_3(type, L, B, CHANNELS),
                       .lengths = tensor_of_int64(B, lengths)};
  fill(r->x, &seed);
  fill(r->state, &seed);
  fill(r->scores, &seed);
  return r;
}

void block_request_free(block_request *r) {
  test_tensor *all[] = {r->x, r->y, r->state, r->scores, r->out, r->normalized, r->lengths};
  for (int i = 0; i < 7; i++) tensor_free(all[i]);
  free(r);
}

/* FNV-1a. */
uint64_t block_request_hash(const block_request *r) {
  const test_tensor *all[] = {r->y, r->state, r->scores, r->out, r->normalized};
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (int i = 0; i < 5; i++) {
    const DLTensor *t = &all[i]->view.dl;
    int64_t bytes = t->dtype.bits / 8;
    for (int d = 0; d < t->ndim; d++) bytes *= t->shape[d];
    for (int64_t k = 0; k < bytes; k++)
      hash = (hash ^ ((const unsigned char *)t->data)[k]) * UINT64_C(0x100000001b3);
  }
  return hash;
}

static cumega_status run_residual(cumega_context *ctx, const block *b, const block_request *r) {
  const DLTensor *t[] = {dl(r->x), dl(r->y), dl(r->out), dl(r->normalized)};
  staging s;
  const int staged = staging_begin(&s, ctx);
  for (int i = 0; staged && i < 4; i++) staging_add(&s, &t[i]);
  if (staged) staging_there(&s);
  const cumega_residual_io io = {.struct_size = sizeof io,
                                 .x = t[0],
                                 .y = t[1],
                                 .out = (DLTensor *)(uintptr_t)t[2],
                                 .norm = b->norm,
                                 .normalized = (DLTensor *)(uintptr_t)t[3]};
  cumega_status status = cumega_residual_forward(ctx, b->residual, &io);
  if (staged && status == CUMEGA_OK) staging_back(&s);
  return status;
}

cumega_status block_request_run(cumega_context *ctx, const block *b, block_request *r) {
  const cumega_ema_io ema = {.struct_size = sizeof ema,
                             .x = dl(r->x),
                             .y = dl(r->y),
                             .sequence_lengths = dl(r->lengths),
                             .initial_state = dl(r->state),
                             .final_state = dl(r->state)};
  cumega_attention_scores_io attention;
  cumega_attention_scores_io_init(&attention, sizeof attention);
  attention.scores = attention.output = dl(r->scores);
  attention.causal = 1;
  attention.query_lengths = attention.key_lengths = dl(r->lengths);
  cumega_status status = cumega_ema_forward(ctx, b->ema, &ema);
  if (status == CUMEGA_OK) status = softmax_with(ctx, b->bias, &attention);
  return status == CUMEGA_OK ? run_residual(ctx, b, r) : status;
}

cumega_status block_run(cumega_context *ctx, const block *b, uint64_t seed, uint64_t *hash) {
  block_request *r = block_request_new(seed);
  cumega_status status = block_request_run(ctx, b, r);
  *hash = block_request_hash(r);
  block_request_free(r);
  return status;
}
