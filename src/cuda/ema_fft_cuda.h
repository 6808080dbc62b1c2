/* What FFT needs besides its launches: plans and spectra, kept in the context. */
#ifndef CUMEGA_SRC_CUDA_EMA_FFT_CUDA_H
#define CUMEGA_SRC_CUDA_EMA_FFT_CUDA_H

#include "context_cuda.h"
#include "ema_cuda.h"

/* The scratch of a run, in bytes: the rows of one tile. */
int64_t ema_fft_scratch(const cumega_context *ctx, const ema_launch *launch);

/* Within a scope, makes what the run needs and the context does not have yet. STATE while the
 * stream is being captured. */
cumega_status ema_fft_prepare(cumega_context *ctx, const ema_launch *launch);

/* Within a scope, enqueues the run. RESOURCE if something is missing during a capture. */
cumega_status ema_fft_enqueue(cumega_context *ctx, const ema_launch *launch);

#endif
