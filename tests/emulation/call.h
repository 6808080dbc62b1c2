/* How every emulated call begins and ends: the lock, the count, faults on demand, lost devices,
 * calls that a capture forbids, and the thread's last error. */
#ifndef EMULATION_CALL_H
#define EMULATION_CALL_H

#include <mutex>
#include <cuda_runtime_api.h>

struct CUctx_st {
  int device;
  bool primary;
};

namespace emulation {

/* One thread at a time is inside; the thread that synchronises runs the queued work. */
std::recursive_mutex &lock();
struct lock_guard : std::lock_guard<std::recursive_mutex> {
  lock_guard() : std::lock_guard<std::recursive_mutex>(lock()) {}
};

enum call_kind : unsigned {
  CALL_PLAIN = 0,
  CALL_DEVICE = 1,  /* uses the current device: makes its context, fails if the device is lost */
  CALL_UNSAFE = 2,  /* not allowed while something captures, unless in relaxed mode */
  CALL_RELEASE = 4, /* done even if it fails, except during a capture */
  CALL_DRIVER = 8   /* leaves the runtime's last error alone */
};

/* Usage: call here(CALL_DEVICE); if (here.refused()) return here.error(); ... return
 * here.end(e); */
class call {
public:
  /* name: that of CUDA's function, for emulation_calls. */
  explicit call(unsigned kind, const char *name = __builtin_FUNCTION());
  bool refused() const { return error_ != cudaSuccess && (forbidden_ || !(kind_ & CALL_RELEASE)); }
  cudaError_t error() const { return error_; }
  cudaError_t end(cudaError_t error); /* an error from the beginning takes precedence */

private:
  lock_guard guard_;
  unsigned kind_;
  cudaError_t error_;
  bool forbidden_ = false; /* by a capture */
};

void calls_reset();

/* The calling thread's. */
struct thread_state {
  uint64_t generation;
  CUctx_st *context; /* current, or nullptr */
  cudaError_t last;
  cudaStreamCaptureMode capture_mode;
};
thread_state &thread_here();

int device_count();
cudaError_t
device_absent();      /* why there is none: no device, no driver, an old driver; or success */
int device_current(); /* 0 if the thread has no context */
cudaError_t device_lost(int device);
void device_lose(int device, cudaError_t error);
CUctx_st *device_context(int device); /* the primary one, made if necessary */
cudaError_t device_use();             /* gives the thread a context if it has none */
void devices_reset();

} // namespace emulation

#endif
