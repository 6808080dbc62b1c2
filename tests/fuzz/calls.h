/* Sequences of API calls, decoded from bytes: the parts that the kinds of calls are made of
 * (calls_<noun>.c, a table in fuzz_calls.c).
 *
 * The library cannot know how large a caller's memory is. So every tensor that it may accept lies
 * within a block of the fuzzer's, exact to the byte, and AddressSanitizer (or the emulation)
 * finds any access outside. All other fields may be anything. A tensor whose description the
 * contract refuses (a NULL, a negative size, sizes that wrap) may point anywhere.
 *
 * A call: call_begin; tensors and structs are decoded; the library is called; call_end checks the
 * message, and that no byte of any block has changed except those of a successful call's
 * outputs. */
#ifndef CUMEGA_TESTS_FUZZ_CALLS_H
#define CUMEGA_TESTS_FUZZ_CALLS_H

#include "fuzz.h"

#define CALLS_CONTEXTS  2
#define CALLS_EMAS      3
#define CALLS_BIASES    2
#define CALLS_RESIDUALS 3
#define CALLS_NORMS     2
#define CALLS_BLOCKS    7
#define CALL_TENSORS    12
#define CALL_STRUCTS    4

typedef struct block {
  char *base;
  int64_t bytes;
  char *before; /* its contents before the call */
} block;

/* A tensor whose arrays are allocated separately, exactly ndim long, so that reading past them
 * shows. */
typedef struct hostile {
  DLTensor dl;
  int is_output;
} hostile;

typedef struct made_ema {
  cumega_ema *ema;
  cumega_ema_config config; /* that it was made with: tensors are made to fit it */
} made_ema;

typedef struct made_bias {
  cumega_position_bias *bias;
  cumega_position_bias_config config;
} made_bias;

typedef struct made_residual {
  cumega_residual *residual;
  cumega_residual_config config;
} made_residual;

typedef struct calls {
  input in;
  DLDevice device; /* for the contexts and the blocks' memory */
  cumega_context *contexts[CALLS_CONTEXTS];
  made_ema emas[CALLS_EMAS];
  made_bias biases[CALLS_BIASES];
  made_residual residuals[CALLS_RESIDUALS];
  cumega_norm *norms[CALLS_NORMS];
  block host[CALLS_BLOCKS], blocks[CALLS_BLOCKS]; /* the same ones on a CPU */
  /* for the current call */
  hostile tensors[CALL_TENSORS];
  int tensor_count;
  void *structs[CALL_STRUCTS];
  int struct_count;
  int uses_device; /* a tensor lies in memory that the host cannot access */
} calls;

typedef void (*call_kind)(calls *c);

/* An existing context, sometimes NULL; then the message is the one for NULL. */
cumega_context *any_context(calls *c);

/* Holds the blocks of a device, and reads and writes them. */
cumega_context *calls_device_context(void);

void call_begin(calls *c);
void call_end(calls *c, const cumega_context *ctx, cumega_status status);

/* What a harmless tensor would be. */
typedef struct wanted {
  DLDataType dtype;
  int ndim;
  int64_t shape[CUMEGA_MAX_DIMS];
} wanted;

/* A tensor like that, or a harmful one, or NULL. on_host: the call takes it in CPU memory on
 * every device. */
DLTensor *any_tensor(calls *c, const wanted *like, int is_output, int on_host);
DLDataType any_dtype(calls *c, DLDataType usual);

/* A copy of a public struct, usually with the right struct_size, in memory of that size, or in 8
 * bytes if the size is absurd; sometimes NULL. `smallest` is the size of its first published
 * form. */
void *any_struct(calls *c, const void *given, size_t size, size_t smallest);

/* Kinds of calls; each does call_begin, one call, call_end. */
void call_context_create(calls *c);
void call_context_destroy(calls *c);
void call_context_misc(calls *c);
void call_memory(calls *c);
void call_weights_save(calls *c);
void call_tensor(calls *c);
void call_fill(calls *c); /* not a call of the library: new values in a block */

void call_ema_create(calls *c);
void call_ema_destroy(calls *c);
void call_ema_forward(calls *c);
void call_ema_step(calls *c);
void call_ema_parameters(calls *c);
void call_ema_compute(calls *c);
void call_ema_config(calls *c);

void call_position_bias_create(calls *c);
void call_position_bias_object(calls *c);
void call_position_bias_forward(calls *c);
void call_position_bias_scores(calls *c);

void call_norm_create(calls *c);
void call_residual_create(calls *c);
void call_residual_object(calls *c);
void call_residual_forward(calls *c);
void call_residual_gated(calls *c);

#endif
