/* What a test says to the emulated CUDA and asks of it. The calls of CUDA itself are in
 * include/cuda_runtime.h; docs/cuda.md says what it is for.
 *
 * Everything here may be called from any thread, and counts as no CUDA call. Texts that are handed
 * out stay valid until the next call of the same function or emulation_reset. */
#ifndef EMULATION_H
#define EMULATION_H

#include <stdint.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif
#define EMULATION_API __attribute__((visibility("default")))

/* As a process that has just started: queued work is dropped, memory, streams, events and graphs
 * are gone, errors, faults and counters are cleared, one device. The schedule is fixed, or
 * the random one whose seed the environment's CUMEGA_EMULATION_SEED holds. */
EMULATION_API void emulation_reset(void);

/* FIXED: threads in order, blocks one after another while they can go on, work in a stream only
 * when somebody waits for it, asynchronous copies at their wait. RANDOM: all of these at random,
 * reproducibly for a seed. */
typedef enum emulation_schedule { EMULATION_FIXED, EMULATION_RANDOM } emulation_schedule;
EMULATION_API void emulation_set_schedule(emulation_schedule schedule, uint64_t seed);

EMULATION_API void emulation_set_device_count(int count); /* 0 .. 8 */

/* The installed driver: CUDART_VERSION to begin with, 0 where none is installed. One of an older
 * major version is refused by everything that needs a device. */
EMULATION_API void emulation_set_driver_version(int version);

/* The driver, cuFFT or cuBLAS lacks the function of that name, as an older one would; NULL: has all again. */
EMULATION_API void emulation_hide(const char *function);

/* Whether any call has made the device's primary context. */
EMULATION_API int emulation_context_exists(int device);

/* A driver context of the device that is not its primary one, to be made current by
 * cuCtxSetCurrent; streams made while it is current belong to it. Lives until reset. */
struct CUctx_st;
EMULATION_API struct CUctx_st *emulation_context_create(int device);

/* The nth CUDA call from now (1: the next) fails with error; for_ever: and every one after it;
 * sticky: the device is lost as well, so that all later calls that use it fail likewise. Calls that
 * free, destroy or wait for work do so even when they fail. nth = 0: no more faults. */
EMULATION_API void emulation_fail(int64_t nth, cudaError_t error, int for_ever, int sticky);

/* Lost devices work again, as in a new process, but what they held is still there; what was queued
 * is not. */
EMULATION_API void emulation_revive(void);

/* Calls that emulation_fail can reach, since reset. */
EMULATION_API int64_t emulation_call_count(void);

/* The names of the calls since begin (or reset), in order; a launch is cudaLaunchKernel. */
EMULATION_API void emulation_calls_begin(void);
EMULATION_API const char *const *emulation_calls(int64_t *count);

/* The kernels that ran since begin (or reset), in order, by the text of their launch. */
EMULATION_API void emulation_kernels_begin(void);
EMULATION_API const char *const *emulation_kernels(int64_t *count);

/* What has been allocated or created and not given back: one line for each. */
EMULATION_API int64_t emulation_leaks(const char **text);

/* What kernels and calls did wrong, since reset: one line for each. A process that exits with
 * faults it has not asked about prints them and exits with 99. */
EMULATION_API int64_t emulation_faults(const char **text);

/* Operations that are queued and have not run; and running them all. */
EMULATION_API int64_t emulation_pending(void);
EMULATION_API void emulation_drain(void);

#ifdef __cplusplus
}
#endif

#endif
