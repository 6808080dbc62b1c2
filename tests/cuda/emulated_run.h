/* Small runs of every operation on emulated CUDA. Their tensors are in memory that the test
 * allocated with CUDA, and the CPU's results are there for comparison. The library is called
 * directly, without staging. The suites of contexts, graphs and faults go through all of
 * run_shapes; a shape that an operation adds there is tested in all of them. */
#ifndef CUMEGA_TESTS_EMULATED_RUN_H
#define CUMEGA_TESTS_EMULATED_RUN_H

#include <cuda_runtime_api.h>
#include "counting_allocator.h"
#include "emulation.h"
#include "harness.h"

/* L = 0 makes it a step. */
typedef struct ema_shape {
  int64_t L, B, D, N;
  DLDataType dtype, state_dtype;
  int packed; /* (L * B, D) with offsets, otherwise padded with lengths; not for a step */
  int pooled; /* states are in pools, by slots */
  int masked;
  int stateless;      /* FFT and truncated runs are */
  int64_t truncation; /* 0: none */
  cumega_ema_algorithm algorithm;
} ema_shape;

typedef enum position_call { POSITION_MATRIX, POSITION_SCORES, POSITION_SOFTMAX } position_call;

/* A matrix is (Lk, Lk). A ragged run has lengths and masks. */
typedef struct position_shape {
  position_call call;
  cumega_position_bias_kind kind;
  int64_t B, H, Lq, Lk;
  DLDataType dtype;
  int ragged;
} position_shape;

typedef struct residual_shape {
  int gated;
  cumega_residual_kind kind;
  int per_channel; /* Affine's c, Highway's Wy */
  int norm;        /* cumega_norm_type; negative: none */
  int64_t A, B, D;
  DLDataType dtype;
} residual_shape;

typedef struct run_operation run_operation;

typedef struct run_shape {
  const char *name;
  const run_operation *operation;
  const char *kernel; /* a part of its name */
  const char *needs;  /* the calls that must precede a capture, in order; NULL: none */
  int own_bits;       /* the CPU lacks it: the expected result is a run in another context */
  int steps_show;     /* a run that fails between its launches may leave parts of its outputs */
  union {
    ema_shape ema;
    position_shape position;
    residual_shape residual;
  };
} run_shape;

/* One small shape for each kernel and path. */
extern const run_shape run_shapes[];
extern const int run_shape_count;

/* What a run needs; unused members are NULL. */
typedef struct run_objects {
  cumega_ema *ema;
  cumega_position_bias *bias;
  cumega_residual *residual;
  cumega_norm *norm;
} run_objects;

#define RUN_TENSORS 8

typedef struct emulated_run {
  const run_shape *shape;
  cumega_tensor views[RUN_TENSORS];  /* on the device; only those that exist */
  unsigned char *host[RUN_TENSORS];  /* the given values */
  unsigned char *right[RUN_TENSORS]; /* of the outputs */
  int64_t bytes[RUN_TENSORS];        /* 0 if there is none */
  int is_output[RUN_TENSORS];
} emulated_run;

/* Given values depend on the seed, parameters only on the shape. */
emulated_run *emulated_run_new(const run_shape *shape, uint64_t seed);
void emulated_run_free(emulated_run *run);

/* Other values, and other lengths, masks and slots, at the same addresses. */
void emulated_run_refill(emulated_run *run, uint64_t seed);

/* Sets the outputs to a pattern; checks that they still have it; checks that they are right. */
void emulated_run_clear(emulated_run *run);
int emulated_run_is_clear(const emulated_run *run);
int emulated_run_is_right(const emulated_run *run);

run_objects emulated_objects_new(cumega_context *ctx, const run_shape *shape);
void emulated_objects_destroy(run_objects *objects);

cumega_status emulated_run_start(cumega_context *ctx, const run_objects *objects,
                                 emulated_run *run);
/* Every call that lets a later run allocate nothing, according to the header. */
cumega_status emulated_run_workspace_size(cumega_context *ctx, const run_objects *objects,
                                          emulated_run *run, int64_t *bytes);
cumega_status emulated_run_prepare(cumega_context *ctx, const run_objects *objects,
                                   emulated_run *run);

/* A context on emulated CUDA; NULL and the status if it fails. allocator and stream may be
 * NULL. */
cumega_context *emulated_context(counting_allocator *ledger, cudaStream_t stream,
                                 cumega_status *status);

/* After a test: checks that nothing is left and that no kernel made a fault. Ends with
 * emulation_reset. */
void emulated_nothing_is_left(void);

/* How many calls of that name emulation_calls lists, and the position of the first (as
 * emulation_fail counts). */
int64_t emulated_calls_of(const char *name);
int64_t emulated_first_call(const char *name);

/* The driver's context that is current in this thread, and another one, such as a program's
 * own. */
struct CUctx_st *current_context(void);
void set_current_context(struct CUctx_st *context);

/* ---- the parts of an operation; emulated_run_<operation>.c ---- */

/* views: of the run's tensors, on the device or on the host. */
struct run_operation {
  void (*lay_out)(emulated_run *run);
  void (*fill)(emulated_run *run, uint64_t *seed); /* from the host's inputs */
  run_objects (*make)(cumega_context *ctx, const run_shape *shape);
  cumega_status (*workspace_size)(cumega_context *ctx, const run_objects *objects,
                                  const emulated_run *run, cumega_tensor *views, int64_t *bytes);
  cumega_status (*prepare)(cumega_context *ctx, const run_objects *objects,
                           const emulated_run *run, cumega_tensor *views);
  cumega_status (*start)(cumega_context *ctx, const run_objects *objects, const emulated_run *run,
                         cumega_tensor *views);
  /* The public function that start calls. */
  const char *(*function)(const run_shape *shape);
  /* A shape for the same objects that needs more: tables, scratch, plans; each step has another
   * size. */
  run_shape (*larger)(const run_shape *shape, int step);
};

extern const run_operation ema_operation, position_operation, residual_operation;

/* The parts from which `make` makes objects. */
cumega_ema_config emulated_ema_config(const run_shape *shape);
cumega_residual_config emulated_residual_config(const run_shape *shape);
cumega_norm_config emulated_norm_config(const run_shape *shape);
int64_t emulated_positions(const run_shape *shape); /* for a relative bias */
#define EMULATED_ROTARY_SIZE 8
/* Both objects of a connection, if the shape has them. */
cumega_status emulated_residual_create(cumega_context *ctx, const run_shape *shape,
                                       run_objects *objects);

/* For lay_out: an absent tensor has no elements. */
void emulated_run_add(emulated_run *run, int which, int is_output, DLDataType dtype, int ndim,
                      const int64_t *shape);
/* The tensor, or NULL if there is none. */
DLTensor *emulated_run_view(const emulated_run *run, cumega_tensor *views, int which);
void emulated_run_fill_numbers(emulated_run *run, int which, uint64_t *seed);

#endif
