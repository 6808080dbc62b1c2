/* A simple cuFFT: batches of one-dimensional transforms between real and complex, in double for
 * every type, rounded once at the end. A plan needs its work area and fills it with poison: a
 * caller that keeps data in it, or lets two streams share it, gets NaN. As in cuFFT, the inverse
 * destroys its input, and neither direction scales. */
#include <cmath>
#include <complex>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include <cufft.h>
#include "call.h"
#include "library.h"
#include "memory.h"
#include "stream.h"

namespace emulation {

typedef std::complex<double> number;

struct fft_plan {
  bool made = false, allocates = true;
  int64_t n = 0, in_distance = 0, out_distance = 0, batch = 0;
  cufftType type = CUFFT_R2C;
  size_t work_bytes = 0;
  void *work = nullptr;
  cudaStream_t stream = nullptr;
};

static std::map<cufftHandle, fft_plan> plans;
static cufftHandle last_handle;

long cufft_leaks(std::string *text) {
  for (size_t i = 0; i < plans.size(); i++) *text += "a plan of cuFFT\n";
  return (long)plans.size();
}

static fft_plan *find(cufftHandle handle) {
  const auto found = plans.find(handle);
  return found == plans.end() ? nullptr : &found->second;
}

static int64_t smallest_factor(int64_t n) {
  for (int64_t f = 2; f * f <= n; f++)
    if (n % f == 0) return f;
  return n;
}

/* out[k] = sum over j of in[j * stride] * root^(j k), root = e^(-2 pi i / n); roots[j] is the
 * root for `total` to the power j. Decimation in time by the smallest factor. */
static void transform(int64_t n, const number *in, int64_t stride, number *out,
                      const std::vector<number> &roots) {
  const int64_t total = (int64_t)roots.size();
  if (n == 1) {
    *out = *in;
    return;
  }
  const int64_t radix = smallest_factor(n), part = n / radix;
  for (int64_t r = 0; r < radix; r++)
    transform(part, in + r * stride, stride * radix, out + r * part, roots);
  std::vector<number> column((size_t)radix);
  for (int64_t k = 0; k < part; k++) {
    for (int64_t r = 0; r < radix; r++)
      column[(size_t)r] = out[r * part + k] * roots[(size_t)(r * k * (total / n) % total)];
    for (int64_t q = 0; q < radix; q++) {
      number sum = 0;
      for (int64_t r = 0; r < radix; r++)
        sum += column[(size_t)r] * roots[(size_t)(r * q % radix * (total / radix))];
      out[q * part + k] = sum;
    }
  }
}

static std::vector<number> roots_of(int64_t n) {
  std::vector<number> roots((size_t)n);
  const long double turn = -2 * 3.14159265358979323846264338327950288L / (long double)n;
  for (int64_t j = 0; j < n; j++)
    roots[(size_t)j] =
        number((double)std::cos(turn * (long double)j), (double)std::sin(turn * (long double)j));
  return roots;
}

/* In place or not: a row is read completely before it is written. */
template <typename REAL> static void forward(const fft_plan &p, const REAL *from, REAL *to) {
  const std::vector<number> roots = roots_of(p.n);
  std::vector<number> in((size_t)p.n), out((size_t)p.n);
  for (int64_t b = 0; b < p.batch; b++) {
    for (int64_t t = 0; t < p.n; t++) in[(size_t)t] = (double)from[b * p.in_distance + t];
    transform(p.n, in.data(), 1, out.data(), roots);
    for (int64_t f = 0; f <= p.n / 2; f++) {
      to[2 * (b * p.out_distance + f)] = (REAL)out[(size_t)f].real();
      to[2 * (b * p.out_distance + f) + 1] = (REAL)out[(size_t)f].imag();
    }
  }
}

/* The conjugate of the forward transform of the conjugate. */
template <typename REAL> static void inverse(const fft_plan &p, const REAL *from, REAL *to) {
  const std::vector<number> roots = roots_of(p.n);
  std::vector<number> in((size_t)p.n), out((size_t)p.n);
  for (int64_t b = 0; b < p.batch; b++) {
    for (int64_t f = 0; f < p.n; f++) {
      const int64_t mirrored = f <= p.n / 2 ? f : p.n - f, at = 2 * (b * p.in_distance + mirrored);
      const number value((double)from[at], (double)from[at + 1]);
      in[(size_t)f] = f <= p.n / 2 ? std::conj(value) : value;
    }
    in[0] = in[0].real();
    if (p.n % 2 == 0) in[(size_t)(p.n / 2)] = in[(size_t)(p.n / 2)].real();
    transform(p.n, in.data(), 1, out.data(), roots);
    for (int64_t t = 0; t < p.n; t++) to[b * p.out_distance + t] = (REAL)out[(size_t)t].real();
  }
}

static cufftResult result_of(cudaError_t error) {
  return error == cudaSuccess                 ? CUFFT_SUCCESS
         : error == cudaErrorMemoryAllocation ? CUFFT_ALLOC_FAILED
                                              : CUFFT_EXEC_FAILED;
}

template <typename REAL>
static cufftResult execute(cufftHandle handle, cufftType type, const REAL *from, REAL *to) {
  call here(CALL_DEVICE, "cufftExec");
  if (here.refused()) return result_of(here.error());
  const fft_plan *found = find(handle);
  if (found == nullptr || !found->made) return CUFFT_INVALID_PLAN;
  if (found->type != type) return CUFFT_INVALID_TYPE;
  if (found->allocates || found->work == nullptr) return CUFFT_NO_WORKSPACE;
  const fft_plan p = *found;
  const stream_pointer s = stream_find(p.stream);
  if (s == nullptr || s->device != device_current()) return CUFFT_INVALID_DEVICE;
  const bool is_forward = type == CUFFT_R2C || type == CUFFT_D2Z;
  const cudaError_t error = stream_add(s, {"cufft",
                                           [p, from, to, is_forward]() {
                                             poison(p.work, p.work_bytes);
                                             if (is_forward)
                                               forward(p, from, to);
                                             else
                                               inverse(p, from, to);
                                             return cudaSuccess;
                                           },
                                           {}});
  return result_of(here.end(error));
}

} // namespace emulation

using namespace emulation;

extern "C" {

cufftResult cufftCreate(cufftHandle *handle) {
  call here(CALL_DEVICE | CALL_UNSAFE);
  if (here.refused()) return result_of(here.error());
  plans[++last_handle] = fft_plan();
  *handle = last_handle;
  return result_of(here.end(cudaSuccess));
}

cufftResult cufftDestroy(cufftHandle handle) {
  call here(CALL_DEVICE | CALL_UNSAFE | CALL_RELEASE);
  if (here.refused()) return result_of(here.error());
  return plans.erase(handle) == 1 ? result_of(here.end(cudaSuccess)) : CUFFT_INVALID_PLAN;
}

cufftResult cufftSetAutoAllocation(cufftHandle handle, int allocates) {
  call here(CALL_PLAIN);
  if (here.refused()) return result_of(here.error());
  fft_plan *p = find(handle);
  if (p == nullptr) return CUFFT_INVALID_PLAN;
  p->allocates = allocates != 0;
  return result_of(here.end(cudaSuccess));
}

cufftResult cufftMakePlanMany64(cufftHandle handle, int rank, long long int *n,
                                long long int *in_shape, long long int in_stride,
                                long long int in_distance, long long int *out_shape,
                                long long int out_stride, long long int out_distance,
                                cufftType type, long long int batch, size_t *work_bytes) {
  call here(CALL_DEVICE | CALL_UNSAFE);
  if (here.refused()) return result_of(here.error());
  fft_plan *p = find(handle);
  if (p == nullptr || p->made) return CUFFT_INVALID_PLAN;
  if (rank != 1 || n[0] < 1 || batch < 1) return CUFFT_INVALID_SIZE;
  if (in_shape == nullptr || out_shape == nullptr || in_stride != 1 || out_stride != 1)
    return CUFFT_NOT_SUPPORTED;
  p->made = true;
  p->n = n[0];
  p->in_distance = in_distance;
  p->out_distance = out_distance;
  p->batch = batch;
  p->type = type;
  p->work_bytes = *work_bytes = (size_t)n[0] * 4 + 64;
  return result_of(here.end(cudaSuccess));
}

cufftResult cufftSetStream(cufftHandle handle, cudaStream_t stream) {
  call here(CALL_PLAIN);
  if (here.refused()) return result_of(here.error());
  fft_plan *p = find(handle);
  if (p == nullptr) return CUFFT_INVALID_PLAN;
  p->stream = stream;
  return result_of(here.end(cudaSuccess));
}

cufftResult cufftSetWorkArea(cufftHandle handle, void *work) {
  call here(CALL_PLAIN);
  if (here.refused()) return result_of(here.error());
  fft_plan *p = find(handle);
  if (p == nullptr) return CUFFT_INVALID_PLAN;
  p->work = work;
  return result_of(here.end(cudaSuccess));
}

cufftResult cufftExecR2C(cufftHandle plan, cufftReal *from, cufftComplex *to) {
  return execute(plan, CUFFT_R2C, from, (float *)to);
}

cufftResult cufftExecC2R(cufftHandle plan, cufftComplex *from, cufftReal *to) {
  return execute(plan, CUFFT_C2R, (float *)from, to);
}

cufftResult cufftExecD2Z(cufftHandle plan, cufftDoubleReal *from, cufftDoubleComplex *to) {
  return execute(plan, CUFFT_D2Z, from, (double *)to);
}

cufftResult cufftExecZ2D(cufftHandle plan, cufftDoubleComplex *from, cufftDoubleReal *to) {
  return execute(plan, CUFFT_Z2D, (double *)from, to);
}
}

namespace {

struct symbol {
  const char *name;
  void *function;
};

const symbol symbols[] = {
    {"cufftCreate", (void *)cufftCreate},
    {"cufftDestroy", (void *)cufftDestroy},
    {"cufftSetAutoAllocation", (void *)cufftSetAutoAllocation},
    {"cufftMakePlanMany64", (void *)cufftMakePlanMany64},
    {"cufftSetStream", (void *)cufftSetStream},
    {"cufftSetWorkArea", (void *)cufftSetWorkArea},
    {"cufftExecR2C", (void *)cufftExecR2C},
    {"cufftExecC2R", (void *)cufftExecC2R},
    {"cufftExecD2Z", (void *)cufftExecD2Z},
    {"cufftExecZ2D", (void *)cufftExecZ2D},
};

} // namespace

void *emulation_cufft_open(void) {
  const char *word = getenv("EMULATION_CUFFT");
  return word != NULL && strcmp(word, "off") == 0 ? NULL : (void *)symbols;
}

void *emulation_cufft_find(const char *name) {
  for (const symbol &s : symbols)
    if (strcmp(s.name, name) == 0 && !emulation::is_hidden(name)) return s.function;
  return NULL;
}
