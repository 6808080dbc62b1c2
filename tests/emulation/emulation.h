/* How tests control and query emulated CUDA. CUDA's own calls are in include/cuda_runtime.h;
 * docs/cuda.md says what the emulation is for.
 *
 * Everything here may be called from any thread and does not count as a CUDA call. Returned texts
 * stay valid until the next call of the same function or of emulation_reset. */
#ifndef EMULATION_H
#define EMULATION_H

#include <stdint.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif
#define EMULATION_API __attribute__((visibility("default")))

/* Resets to the state of a new process: queued work is dropped; memory, streams, events and
 * graphs are gone; errors, faults and counters are cleared; there is one device. The schedule is
 * fixed, or the random one for the seed in the environment's CUMEGA_EMULATION_SEED. */
EMULATION_API void emulation_reset(void);

/* FIXED: threads in order, blocks one after another as long as they can go on, work in a stream
 * only when the host waits for it, asynchronous copies at their wait. RANDOM: all of these at
 * random, reproducibly for a seed. */
typedef enum emulation_schedule { EMULATION_FIXED, EMULATION_RANDOM } emulation_schedule;
EMULATION_API void emulation_set_schedule(emulation_schedule schedule, uint64_t seed);

EMULATION_API void emulation_set_device_count(int count); /* 0 .. 8 */

/* The installed driver: CUDART_VERSION at first, 0 if none is installed. Everything that needs a
 * device refuses a driver of an older major version. */
EMULATION_API void emulation_set_driver_version(int version);

/* The driver, cuFFT or cuBLAS lacks the function of that name, as an older version would; NULL:
 * has all functions again. */
EMULATION_API void emulation_hide(const char *function);

/* Whether any call has made the device's primary context. */
EMULATION_API int emulation_context_exists(int device);

/* A driver context of the device other than its primary one, for cuCtxSetCurrent; streams made
 * while it is current belong to it. Lives until reset. */
struct CUctx_st;
EMULATION_API struct CUctx_st *emulation_context_create(int device);

/* The nth CUDA call from now (1: the next) fails with error; for_ever: so does every call after
 * it; sticky: the device is lost too, so that all later calls that use it fail the same way.
 * Calls that free, destroy or wait for work do so even when they fail. nth = 0: no more faults. */
EMULATION_API void emulation_fail(int64_t nth, cudaError_t error, int for_ever, int sticky);

/* Lost devices work again, as in a new process. Their memory is still there; queued work is
 * not. */
EMULATION_API void emulation_revive(void);

/* The number of calls that emulation_fail can reach, since reset. */
EMULATION_API int64_t emulation_call_count(void);

/* The names of the calls since begin (or reset), in order; a launch is cudaLaunchKernel. */
EMULATION_API void emulation_calls_begin(void);
EMULATION_API const char *const *emulation_calls(int64_t *count);

/* The kernels that ran since begin (or reset), in order, as written in their launches. */
EMULATION_API void emulation_kernels_begin(void);
EMULATION_API const char *const *emulation_kernels(int64_t *count);

/* What has been allocated or created and not released: one line each. */
EMULATION_API int64_t emulation_leaks(const char **text);

/* What kernels and calls did wrong since reset: one line each. A process that exits without
 * having asked for its faults prints them and exits with 99. */
EMULATION_API int64_t emulation_faults(const char **text);

/* The number of operations that are queued and have not run; and a call that runs them all. */
EMULATION_API int64_t emulation_pending(void);
EMULATION_API void emulation_drain(void);

#ifdef __cplusplus
}
#endif

#endif
