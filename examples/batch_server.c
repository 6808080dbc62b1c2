/* A small batch server. Two workers on one GPU, each with its own context and stream, share the
 * weights. A worker prefills prompts of different lengths in one packed call, and then decodes
 * all of its requests together, one token at a time. The step is a CUDA graph, captured once and
 * replayed while requests end. The model is a toy (an embedding, the EMA, and the largest channel
 * as the next token), but the loop is a real one. At the end every token must equal the one that
 * the CPU computes for its request alone: batching and graphs change no bit. */
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cumega/cumega.h>

enum { WORKERS = 2, SLOTS = 4, CHANNELS = 64, HEADS = 4, PROMPT = 40, TOKENS = 16 };

/* Checks a call; if it fails, the calling function returns 1. */
#define CUDA(call)                                                                                \
  do {                                                                                            \
    cudaError_t error = (call);                                                                   \
    if (error != cudaSuccess)                                                                     \
      return fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error)), 1;                    \
  } while (0)
#define CUMEGA(ctx, call)                                                                         \
  do {                                                                                            \
    cumega_status status = (call);                                                                \
    if (status != CUMEGA_OK)                                                                      \
      return fprintf(stderr, "%s: %s\n", #call, cumega_context_message(ctx)), 1;                  \
  } while (0)
#define DO(call)                                                                                  \
  do {                                                                                            \
    if ((call) != 0) return 1;                                                                    \
  } while (0)

typedef struct request {
  int prompt, wanted; /* tokens in the prompt, and tokens to generate */
  int tokens[PROMPT + TOKENS], count;
} request;

/* The data of a batch, once on the device and once in pinned memory. Inputs come first, so that
 * one copy takes them all. x is at a multiple of 16 bytes, which makes runs faster. */
typedef struct batch {
  int32_t slots[SLOTS];       /* each request's row of the pool; negative: none */
  int32_t offsets[SLOTS + 1]; /* for the packed prompts */
  _Alignas(16) float x[SLOTS * PROMPT][CHANNELS], y[SLOTS * PROMPT][CHANNELS];
  float pool[SLOTS][CHANNELS][HEADS]; /* the states; only on the device */
} batch;

typedef struct worker {
  cumega_context *ctx;
  cudaStream_t stream;
  cudaGraphExec_t step;
  request requests[SLOTS];
  batch *on_device, *pinned;
} worker;

static const DLDevice gpu = {kDLCUDA, 0};

static void embed(int token, float *x) {
  for (int c = 0; c < CHANNELS; c++) x[c] = (float)((token + 3) * (7 * c + 5) % 97 - 48) / 32;
}

static int choose(const float *y) {
  int best = 0;
  for (int c = 1; c < CHANNELS; c++)
    if (y[c] > y[best]) best = c;
  return best;
}

static void make_request(request *r, int number) {
  r->prompt = 1 + number * 13 % PROMPT;
  r->wanted = 1 + number * 5 % TOKENS;
  r->count = r->prompt;
  for (int t = 0; t < r->prompt; t++) r->tokens[t] = (number + t * t) % CHANNELS;
}

static int open_worker(worker *w) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  CUDA(cudaStreamCreateWithFlags(&w->stream, cudaStreamNonBlocking));
  CUDA(cudaMalloc((void **)&w->on_device, sizeof(batch)));
  CUDA(cudaMallocHost((void **)&w->pinned, sizeof(batch)));
  options.device = gpu;
  options.stream = w->stream;
  CUMEGA(NULL, cumega_context_create(&options, &w->ctx));
  return 0;
}

static void close_worker(worker *w) {
  cumega_context_destroy(w->ctx); /* waits for its work */
  if (w->step != NULL) cudaGraphExecDestroy(w->step);
  cudaFree(w->on_device);
  cudaFreeHost(w->pinned);
  if (w->stream != NULL) cudaStreamDestroy(w->stream);
}

/* Enqueues one call over `rows` rows with its copies: packed prompts, or a step of every slot. */
static int enqueue(worker *w, const cumega_ema *ema, int64_t rows, int is_prefill) {
  const size_t bytes = (size_t)rows * sizeof w->pinned->x[0];
  const int64_t shape[] = {rows, CHANNELS}, pool[] = {SLOTS, CHANNELS, HEADS};
  const int64_t slots[] = {SLOTS}, offsets[] = {SLOTS + 1};
  batch *b = w->on_device;
  cumega_tensor x, y, state, row, begin;
  cumega_ema_io io = {.struct_size = sizeof io};
  io.x = cumega_tensor_init(&x, b->x, gpu, cumega_float32, 2, shape);
  io.y = cumega_tensor_init(&y, b->y, gpu, cumega_float32, 2, shape);
  io.final_state = cumega_tensor_init(&state, b->pool, gpu, cumega_float32, 3, pool);
  io.final_slots = cumega_tensor_init(&row, b->slots, gpu, cumega_int32, 1, slots);
  CUDA(cudaMemcpyAsync(b, w->pinned, offsetof(batch, x) + bytes, cudaMemcpyHostToDevice,
                       w->stream));
  if (is_prefill) {
    io.sequence_offsets = cumega_tensor_init(&begin, b->offsets, gpu, cumega_int32, 1, offsets);
    CUMEGA(w->ctx, cumega_ema_forward(w->ctx, ema, &io));
  } else {
    io.initial_state = io.final_state;
    io.initial_slots = io.final_slots;
    CUMEGA(w->ctx, cumega_ema_step(w->ctx, ema, &io));
  }
  CUDA(cudaMemcpyAsync(w->pinned->y, b->y, bytes, cudaMemcpyDeviceToHost, w->stream));
  return 0;
}

static int prefill(worker *w, const cumega_ema *ema) {
  int total = 0;
  for (int s = 0; s < SLOTS; s++) {
    const request *r = &w->requests[s];
    w->pinned->offsets[s] = total;
    w->pinned->slots[s] = s;
    for (int t = 0; t < r->prompt; t++) embed(r->tokens[t], w->pinned->x[total++]);
  }
  w->pinned->offsets[SLOTS] = total;
  return enqueue(w, ema, total, 1);
}

/* The first run serves no request, since all slots are negative. It allocates the scratch, which
 * is not possible during a capture. */
static int capture_step(worker *w, const cumega_ema *ema) {
  cudaGraph_t graph;
  for (int s = 0; s < SLOTS; s++) w->pinned->slots[s] = -1;
  DO(enqueue(w, ema, SLOTS, 0));
  CUDA(cudaStreamSynchronize(w->stream));
  CUDA(cudaStreamBeginCapture(w->stream, cudaStreamCaptureModeThreadLocal));
  DO(enqueue(w, ema, SLOTS, 0));
  CUDA(cudaStreamEndCapture(w->stream, &graph));
  CUDA(cudaGraphInstantiate(&w->step, graph, 0));
  CUDA(cudaGraphDestroy(graph));
  return 0;
}

/* Waits, takes the new token of each request from its row of y, and embeds it for the next step.
 * A complete request leaves: its slot becomes negative. Returns how many continue, or -1. */
static int take_tokens(worker *w, int is_prefill) {
  int going_on = 0;
  if (cudaStreamSynchronize(w->stream) != cudaSuccess) return -1;
  for (int s = 0; s < SLOTS; s++) {
    request *r = &w->requests[s];
    const int row = is_prefill ? w->pinned->offsets[s + 1] - 1 : s;
    if (w->pinned->slots[s] < 0) continue;
    r->tokens[r->count++] = choose(w->pinned->y[row]);
    if (r->count == r->prompt + r->wanted) w->pinned->slots[s] = -1;
    embed(r->tokens[r->count - 1], w->pinned->x[s]);
    going_on += w->pinned->slots[s] >= 0;
  }
  return going_on;
}

static int serve(worker *workers, const cumega_ema *ema) {
  int left[WORKERS], any; /* requests that need more tokens */
  for (int i = 0; i < WORKERS; i++) DO(capture_step(&workers[i], ema));
  for (int i = 0; i < WORKERS; i++) DO(prefill(&workers[i], ema));
  for (int i = 0; i < WORKERS; i++) left[i] = take_tokens(&workers[i], 1);
  do {
    any = 0;
    for (int i = 0; i < WORKERS; i++)
      if (left[i] > 0) CUDA(cudaGraphLaunch(workers[i].step, workers[i].stream));
    for (int i = 0; i < WORKERS; i++) {
      if (left[i] > 0) left[i] = take_tokens(&workers[i], 0);
      if (left[i] < 0) return fprintf(stderr, "the device failed\n"), 1;
      any |= left[i] > 0;
    }
  } while (any);
  for (int i = 0; i < WORKERS; i++) {
    uint32_t bits;
    CUMEGA(workers[i].ctx, cumega_context_report(workers[i].ctx, &bits));
    if (bits != 0) return fprintf(stderr, "bad indices: %u\n", bits), 1;
  }
  return 0;
}

/* The CPU's tokens: what it chooses after each prefix of the request's sequence, alone. */
static int check(cumega_context *ctx, const cumega_ema *ema, const request *r) {
  static float x[PROMPT + TOKENS][CHANNELS], y[PROMPT + TOKENS][CHANNELS];
  const int64_t shape[] = {r->count, 1, CHANNELS};
  cumega_tensor in, out;
  cumega_ema_io io = {.struct_size = sizeof io};
  io.x = cumega_tensor_init(&in, x, cumega_cpu, cumega_float32, 3, shape);
  io.y = cumega_tensor_init(&out, y, cumega_cpu, cumega_float32, 3, shape);
  for (int t = 0; t < r->count; t++) embed(r->tokens[t], x[t]);
  CUMEGA(ctx, cumega_ema_forward(ctx, ema, &io));
  if (r->count != r->prompt + r->wanted) return fprintf(stderr, "tokens are missing\n"), 1;
  for (int t = r->prompt; t < r->count; t++)
    if (choose(y[t - 1]) != r->tokens[t]) return fprintf(stderr, "token %d differs\n", t), 1;
  return 0;
}

static int run(worker *workers, cumega_context **cpu, cumega_ema **of_cpu, cumega_ema **of_gpu) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, CHANNELS);
  int tokens = 0;
  for (int i = 0; i < WORKERS; i++) DO(open_worker(&workers[i]));
  for (int i = 0; i < WORKERS * SLOTS; i++)
    make_request(&workers[i / SLOTS].requests[i % SLOTS], i);
  CUMEGA(workers[0].ctx, cumega_ema_create(workers[0].ctx, &config, NULL, of_gpu));
  DO(serve(workers, *of_gpu));
  CUMEGA(NULL, cumega_context_create(NULL, cpu));
  CUMEGA(*cpu, cumega_ema_create(*cpu, &config, NULL, of_cpu));
  for (int i = 0; i < WORKERS * SLOTS; i++) {
    DO(check(*cpu, *of_cpu, &workers[i / SLOTS].requests[i % SLOTS]));
    tokens += workers[i / SLOTS].requests[i % SLOTS].wanted;
  }
  printf("%d requests, %d tokens: the same as the CPU's\n", WORKERS * SLOTS, tokens);
  return 0;
}

int main(void) {
  static worker workers[WORKERS];
  cumega_context *cpu = NULL;
  cumega_ema *of_cpu = NULL, *of_gpu = NULL;
  const int failed = run(workers, &cpu, &of_cpu, &of_gpu);
  for (int i = 0; i < WORKERS; i++) close_worker(&workers[i]);
  cumega_ema_destroy(of_gpu);
  cumega_ema_destroy(of_cpu);
  cumega_context_destroy(cpu);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
