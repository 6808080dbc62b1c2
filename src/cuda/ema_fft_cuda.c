/* The host side of FFT: lengths, plans, spectra of convolution kernels, tiles of rows.
 *
 * A context keeps the plans of the last lengths and the spectra of the last EMAs and lengths, a
 * bounded number of each (kept.h). The work areas of plans count as the context's memory. Rows are
 * computed in tiles of bounded size, so that memory does not grow with the batch. */
#include "ema_fft_cuda.h"
#include <inttypes.h>
#include <string.h>
#include "cufft_cuda.h"
#include "tuning.h"

/* The key of a plan or a spectrum. */
typedef struct fft_key {
  int64_t serial; /* of the EMA's parameters; 0 for a plan */
  int64_t n, taps, rows, pitch;
  int64_t is_double;
} fft_key;

/* A plan, whose block is its work area, or a spectrum. */
typedef struct fft_entry {
  kept base;
  fft_key key;
  void *block;
  int64_t bytes;
  const cufft_library *fft; /* the library of the handles */
  cufftHandle forward, inverse;
  int handles; /* how many of them there are */
} fft_entry;

/* ---- sizes ---- */

/* The smallest even length that is at least `least` (> 0) and has no prime factor above 7: cuFFT
 * has fast code for these. */
static int64_t good_length(int64_t least) {
  for (int64_t n = least + least % 2;; n += 2) {
    int64_t rest = n;
    for (int64_t factor = 2; factor <= 7; factor++)
      while (rest % factor == 0) rest /= factor;
    if (rest == 1) return n;
  }
}

/* At most an eighth of the context's limit, which must also hold the plan's work area, the
 * spectrum and the rows from which it is made. */
static int64_t bytes_of_tiles(const cumega_context *ctx) {
  const int64_t limit = front->memory_limit(ctx->memory);
  return limit > 0 && limit / 8 < FFT_MOST_SCRATCH ? limit / 8 : FFT_MOST_SCRATCH;
}

/* The key of a run's plan, whose rows are those of a tile. */
static fft_key plan_of(const cumega_context *ctx, const ema_launch *launch) {
  const int64_t real = launch->run.is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  const int64_t all = launch->run.batch.count * launch->run.channels, L = launch->run.batch.rows;
  const int64_t taps = launch->run.truncated ? launch->run.truncation : L;
  fft_key key;
  memset(&key, 0, sizeof key);
  key.n = good_length(L + taps - 1);
  key.pitch = key.n + 2;
  key.rows = bytes_of_tiles(ctx) / (key.pitch * real);
  if (key.rows > all) key.rows = all;
  if (key.rows < 1) key.rows = 1;
  key.is_double = launch->run.is_double;
  return key;
}

static fft_key spectrum_of(const cumega_context *ctx, const ema_launch *launch) {
  fft_key key = plan_of(ctx, launch);
  key.serial = (int64_t)launch->run.serial;
  key.taps = launch->run.truncated ? launch->run.truncation : launch->run.batch.rows;
  key.rows = key.pitch = 0;
  return key;
}

static int64_t bytes_of_rows(const fft_key *plan) {
  const int64_t real = plan->is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  return plan->rows * plan->pitch * real;
}

int64_t ema_fft_scratch(const cumega_context *ctx, const ema_launch *launch) {
  if (launch->run.batch.rows == 0) return 0; /* no plan has this length */
  const fft_key plan = plan_of(ctx, launch);
  return bytes_of_rows(&plan);
}

/* ---- what a context keeps ---- */

static void entry_free(cumega_context *ctx, fft_entry *entry) {
  const int handles = entry->handles; /* analyzer: no caller passes NULL */
  if (handles > 0) (void)entry->fft->cufftDestroy(entry->forward);
  if (handles > 1) (void)entry->fft->cufftDestroy(entry->inverse);
  cuda_release(ctx->memory, entry->block, entry->bytes);
  front->memory_free(ctx->memory, entry, sizeof *entry);
}

static void release_plan(cumega_context *ctx, kept *base) {
  entry_free(ctx, (fft_entry *)base);
}

static void release_spectrum(cumega_context *ctx, kept *base) {
  entry_free(ctx, (fft_entry *)base);
}

static void key_of(const fft_key *key, int64_t words[6]) {
  const int64_t all[6] = {key->serial, key->n, key->taps, key->rows, key->pitch, key->is_double};
  memcpy(words, all, sizeof all);
}

static fft_entry *find(cumega_context *ctx, kept_type type, const fft_key *key) {
  int64_t words[6];
  key_of(key, words);
  return (fft_entry *)front->kept_find(ctx, type, words);
}

/* Frees old entries if there are too many, after waiting for work in flight that may use them. */
static cumega_status make_room(cumega_context *ctx, kept_type type, int most) {
  kept *excess = front->kept_excess(ctx, type, most);
  if (excess == NULL) return CUMEGA_OK;
  CUDA_TRY(ctx, cudaStreamSynchronize(cuda_context_of(ctx)->stream));
  front->kept_remove(ctx, excess);
  return CUMEGA_OK;
}

/* Makes an entry, which is not in the list yet. */
static cumega_status entry_new(cumega_context *ctx, kept_type type, const fft_key *key,
                               fft_entry **made) {
  fft_entry *entry = front->memory_allocate(ctx->memory, sizeof *entry);
  *made = entry;
  if (entry == NULL)
    return front->fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot allocate %zu bytes for a plan",
                       sizeof *entry);
  memset(entry, 0, sizeof *entry);
  entry->key = *key;
  entry->base.release = type;
  key_of(key, entry->base.key);
  return CUMEGA_OK;
}

/* ---- plans ---- */

static cumega_status make_handle(cumega_context *ctx, fft_entry *plan, cufftType type,
                                 cufftHandle *handle, size_t *work) {
  const cufft_library *fft = plan->fft;
  const int is_forward = type == CUFFT_R2C || type == CUFFT_D2Z;
  long long n = plan->key.n, reals = plan->key.pitch, pairs = plan->key.pitch / 2;
  long long *from = is_forward ? &reals : &pairs, *to = is_forward ? &pairs : &reals;
  CUFFT_TRY(ctx, fft->cufftCreate(handle));
  plan->handles++;
  CUFFT_TRY(ctx, fft->cufftSetAutoAllocation(*handle, 0));
  CUFFT_TRY(ctx, fft->cufftMakePlanMany64(*handle, 1, &n, from, 1, *from, to, 1, *to, type,
                                          plan->key.rows, work));
  return CUMEGA_OK;
}

static cumega_status fill_plan(cumega_context *ctx, const cufft_library *fft, fft_entry *plan) {
  const int is_double = (int)plan->key.is_double;
  size_t forward = 0, inverse = 0;
  plan->fft = fft;
  TRY(make_handle(ctx, plan, is_double ? CUFFT_D2Z : CUFFT_R2C, &plan->forward, &forward));
  TRY(make_handle(ctx, plan, is_double ? CUFFT_Z2D : CUFFT_C2R, &plan->inverse, &inverse));
  const int64_t bytes = (int64_t)(forward > inverse ? forward : inverse);
  TRY(cuda_allocate(ctx, bytes, "the work area of a plan", &plan->block));
  plan->bytes = bytes;
  CUFFT_TRY(ctx, fft->cufftSetWorkArea(plan->forward, plan->block));
  CUFFT_TRY(ctx, fft->cufftSetWorkArea(plan->inverse, plan->block));
  return CUMEGA_OK;
}

static cumega_status add_plan(cumega_context *ctx, const cufft_library *fft, const fft_key *key) {
  fft_entry *plan;
  TRY(make_room(ctx, release_plan, FFT_MOST_PLANS));
  TRY(entry_new(ctx, release_plan, key, &plan));
  const cumega_status status = fill_plan(ctx, fft, plan);
  if (status != CUMEGA_OK) {
    entry_free(ctx, plan);
    return status;
  }
  front->kept_add(ctx, &plan->base);
  return CUMEGA_OK;
}

/* Transforms rows in place, in either direction. */
static cufftResult execute(const fft_entry *plan, cufftHandle handle, int inverse, void *rows) {
  const cufft_library *fft = plan->fft;
  if (plan->key.is_double)
    return inverse ? fft->cufftExecZ2D(handle, rows, rows) : fft->cufftExecD2Z(handle, rows, rows);
  return inverse ? fft->cufftExecC2R(handle, rows, rows) : fft->cufftExecR2C(handle, rows, rows);
}

static cumega_status transform(cumega_context *ctx, const fft_entry *plan, int inverse,
                               void *rows) {
  const cufftHandle handle = inverse ? plan->inverse : plan->forward;
  CUFFT_TRY(ctx, plan->fft->cufftSetStream(handle, cuda_context_of(ctx)->stream));
  CUFFT_TRY(ctx, execute(plan, handle, inverse, rows));
  return CUMEGA_OK;
}

/* ---- spectra ---- */

/* Copies the weights and logarithms of the convolution kernels to the device, (D, N) each, one
 * after the other. */
static cumega_status upload_terms(cumega_context *ctx, const ema_run *run, double *host,
                                  double *device) {
  const int64_t D = run->channels, N = run->heads;
  const size_t bytes = (size_t)(2 * D * N) * sizeof *host;
  cudaStream_t stream = cuda_context_of(ctx)->stream;
  for (int64_t d = 0; d < D; d++) {
    ema_kernel_row row = {.num_heads = N, .weight = host + d * N, .log_q = host + (D + d) * N};
    front->ema_kernel_row_channel(&run->numbers, d, &row);
  }
  CUDA_TRY(ctx, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream));
  CUDA_TRY(ctx, cudaStreamSynchronize(stream));
  return CUMEGA_OK;
}

/* Computes the spectra of all channels, a tile of rows of doubles at a time. */
static cumega_status fill_spectrum(cumega_context *ctx, const ema_run *run, const fft_entry *plan,
                                   const fft_entry *spectrum, const double *terms, double *rows) {
  const int64_t D = run->channels, N = run->heads;
  const fft_key *key = &plan->key;
  cudaStream_t stream = cuda_context_of(ctx)->stream;
  for (int64_t d = 0; d < D; d += key->rows) {
    const int64_t count = D - d < key->rows ? D - d : key->rows;
    const ema_fft_table table = {.weight = terms,
                                 .log_q = terms + D * N,
                                 .rows = rows,
                                 .spectrum = spectrum->block,
                                 .first_channel = d,
                                 .channel_count = count,
                                 .heads = N,
                                 .taps = spectrum->key.taps,
                                 .n = key->n,
                                 .pitch = key->pitch,
                                 .is_double = (int)spectrum->key.is_double};
    CUDA_TRY(ctx, ema_fft_fill_table(&table, stream));
    TRY(transform(ctx, plan, 0, rows));
    CUDA_TRY(ctx, ema_fft_store_table(&table, stream));
  }
  CUDA_TRY(ctx, cudaStreamSynchronize(stream));
  return CUMEGA_OK;
}

/* What making a spectrum needs and frees afterwards. */
typedef struct spectrum_work {
  double *host;
  void *terms, *rows;
  int64_t terms_bytes, rows_bytes;
  fft_entry *plan;
} spectrum_work;

static cumega_status make_spectrum(cumega_context *ctx, const ema_run *run,
                                   const cufft_library *fft, fft_entry *spectrum,
                                   spectrum_work *w) {
  const int64_t D = run->channels, pitch = spectrum->key.n + 2;
  const int64_t pair_bytes =
      spectrum->key.is_double ? 2 * (int64_t)sizeof(double) : 2 * (int64_t)sizeof(float);
  const int64_t bytes = D * (pitch / 2) * pair_bytes;
  fft_key key;
  memset(&key, 0, sizeof key);
  key.n = spectrum->key.n;
  key.pitch = pitch;
  key.is_double = 1;
  key.rows = bytes_of_tiles(ctx) / (pitch * (int64_t)sizeof(double));
  if (key.rows > D) key.rows = D;
  if (key.rows < 1) key.rows = 1;
  TRY(cuda_allocate(ctx, bytes, "the spectrum of an EMA's kernel", &spectrum->block));
  spectrum->bytes = bytes;
  w->terms_bytes = 2 * D * run->heads * (int64_t)sizeof(double);
  w->rows_bytes = bytes_of_rows(&key);
  w->host = front->memory_allocate(ctx->memory, w->terms_bytes);
  if (w->host == NULL)
    return front->fail(ctx, CUMEGA_ERROR_RESOURCE,
                       "cannot allocate %" PRId64 " bytes for the terms of an EMA's kernel",
                       w->terms_bytes);
  TRY(cuda_allocate(ctx, w->terms_bytes, "the terms of an EMA's kernel", &w->terms));
  TRY(cuda_allocate(ctx, w->rows_bytes, "an EMA's kernel", &w->rows));
  TRY(entry_new(ctx, release_plan, &key, &w->plan));
  TRY(fill_plan(ctx, fft, w->plan));
  TRY(upload_terms(ctx, run, w->host, w->terms));
  return fill_spectrum(ctx, run, w->plan, spectrum, w->terms, w->rows);
}

static cumega_status add_spectrum(cumega_context *ctx, const ema_run *run,
                                  const cufft_library *fft, const fft_key *key) {
  fft_entry *spectrum;
  spectrum_work w = {0};
  TRY(make_room(ctx, release_spectrum, FFT_MOST_SPECTRA));
  TRY(entry_new(ctx, release_spectrum, key, &spectrum));
  const cumega_status status = make_spectrum(ctx, run, fft, spectrum, &w);
  if (status != CUMEGA_OK) /* enqueued work may still use what is freed now */
    (void)cudaStreamSynchronize(cuda_context_of(ctx)->stream);
  if (w.plan != NULL) entry_free(ctx, w.plan);
  cuda_release(ctx->memory, w.rows, w.rows_bytes);
  cuda_release(ctx->memory, w.terms, w.terms_bytes);
  front->memory_free(ctx->memory, w.host, w.terms_bytes);
  if (status != CUMEGA_OK) {
    entry_free(ctx, spectrum);
    return status;
  }
  front->kept_add(ctx, &spectrum->base);
  return CUMEGA_OK;
}

/* ---- preparing and running ---- */

static cumega_status make_missing(cumega_context *ctx, const ema_run *run, const fft_key *plan,
                                  const fft_key *spectrum) {
  const cufft_library *fft;
  TRY(cufft_find(ctx, &fft));
  if (find(ctx, release_plan, plan) == NULL) TRY(add_plan(ctx, fft, plan));
  if (find(ctx, release_spectrum, spectrum) == NULL) TRY(add_spectrum(ctx, run, fft, spectrum));
  return CUMEGA_OK;
}

cumega_status ema_fft_prepare(cumega_context *ctx, const ema_launch *launch) {
  if (launch->run.batch.rows == 0) return CUMEGA_OK;
  const fft_key plan = plan_of(ctx, launch), spectrum = spectrum_of(ctx, launch);
  TRY(cuda_refuse_capture(ctx, "preparing a run"));
  return make_missing(ctx, &launch->run, &plan, &spectrum);
}

/* Finds both entries, or makes them if that is allowed. */
static cumega_status find_or_make(cumega_context *ctx, const ema_launch *launch, fft_entry **plan,
                                  fft_entry **spectrum) {
  const fft_key of_plan = plan_of(ctx, launch), of_spectrum = spectrum_of(ctx, launch);
  int capturing = 0;
  TRY(cuda_is_capturing(ctx, &capturing));
  if (!capturing) TRY(make_missing(ctx, &launch->run, &of_plan, &of_spectrum));
  *plan = find(ctx, release_plan, &of_plan);
  *spectrum = find(ctx, release_spectrum, &of_spectrum);
  if (*plan == NULL || *spectrum == NULL)
    return front->fail(
        ctx, CUMEGA_ERROR_RESOURCE,
        "the run needs a plan and the kernel's spectrum for transforms of %" PRId64
        " numbers, and its stream is being captured: call cumega_ema_prepare before",
        of_plan.n);
  (*plan)->base.captured |= capturing;
  (*spectrum)->base.captured |= capturing;
  return CUMEGA_OK;
}

cumega_status ema_fft_enqueue(cumega_context *ctx, const ema_launch *launch) {
  cudaStream_t stream = cuda_context_of(ctx)->stream;
  fft_entry *plan, *spectrum;
  ema_fft_launch a = {.whole = *launch};
  if (launch->run.batch.rows == 0) return CUMEGA_OK;
  TRY(find_or_make(ctx, launch, &plan, &spectrum));
  TRY(cuda_scratch(ctx, bytes_of_rows(&plan->key), &a.rows));
  a.n = plan->key.n;
  a.pitch = plan->key.pitch;
  a.spectrum = spectrum->block; /* analyzer: both were found, or the status was an error */
  const int64_t rows = launch->run.batch.count * launch->run.channels;
  for (a.first_row = 0; a.first_row < rows; a.first_row += plan->key.rows) {
    a.row_count = rows - a.first_row;
    if (a.row_count > plan->key.rows) a.row_count = plan->key.rows;
    CUDA_TRY(ctx, ema_fft_gather(&a, stream));
    TRY(transform(ctx, plan, 0, a.rows));
    CUDA_TRY(ctx, ema_fft_multiply(&a, stream));
    TRY(transform(ctx, plan, 1, a.rows));
    CUDA_TRY(ctx, ema_fft_scatter(&a, stream));
  }
  ctx->kernels =
      "ema_fft_gather_kernel cufft ema_fft_multiply_kernel cufft ema_fft_scatter_kernel";
  return CUMEGA_OK;
}
