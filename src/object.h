/* What every object (an EMA, a position bias, a norm, a residual connection) has in common: it is
 * made through a context from parameters or from a weight file, on one device, and shared by all
 * contexts of that device; its parameters can be read back and replaced.
 *
 * An object's numbers are in two pieces of memory. `block` is what runs read, in the memory of
 * its device. `host` is host memory, for what only the front reads: exact parameters, numbers
 * that a run takes by value. Each class says which parameter is stored where, and in which
 * type. */
#ifndef CUMEGA_SRC_OBJECT_H
#define CUMEGA_SRC_OBJECT_H

#include "call.h"
#include "parameter.h"
#include "real_vector.h"

typedef struct object {
  const struct object_class *class;
  memory *account; /* of the context that made it; its memory is charged and released there */
  const struct backend *backend;
  DLDevice device;
  pid_t process;
  uint64_t serial; /* of its parameters: no other parameters in this process have it; never 0 */
  void *host, *block;
  int64_t host_bytes, block_bytes;
  int64_t scratch_bytes; /* the context's scratch that derive needs */
} object;

/* Where parameters come from: a weight file, the caller's struct, or where that is NULL the
 * class's initial values. */
typedef struct object_source {
  const void *parameters;
  int from_weights;
  const cumega_weights *weights;
  const char *prefix;
  double val, std1, std2; /* of random initial values */
  uint64_t seed;
} object_source;

typedef struct object_class {
  const char *argument; /* its name in calls: "ema" */
  const char *noun;     /* "an EMA" */
  size_t bytes;         /* of the object's struct, which begins with an object */
  size_t config_at, config_bytes, config_smallest;
  int parameter_count; /* members of the parameter struct, all DLTensor * after struct_size */
  size_t parameters_smallest;
  int needs_all; /* where a parameter struct is given, no member may be NULL */

  /* Checks the object's config, and sets host_bytes, block_bytes and scratch_bytes. */
  cumega_status (*check)(cumega_context *ctx, object *o);
  parameter (*parameter_of)(const object *o, int which);
  /* The initial values of a parameter. */
  cumega_status (*fill)(cumega_context *ctx, const object *o, const object_source *from, int which,
                        void *values);
  /* Computes the rest of both pieces from the parameters in them; may be NULL. */
  cumega_status (*derive)(cumega_context *ctx, const object *o, void *host, void *block);
} object_class;

/* Makes an object and puts it into *place, the caller's pointer; NULL on failure. A place that is
 * NULL is refused. check, fill and derive run in the default floating-point environment. */
cumega_status object_create(cumega_context *ctx, const object_class *class, const void *config,
                            const object_source *from, void *place);
void object_destroy(object *o); /* NULL is allowed */

/* call_enter, and o is not NULL and on ctx's device. */
cumega_status object_enter(cumega_context *ctx, const object_class *class, const object *o);

/* Replaces all parameters, in the same memory. Where the arguments are refused or memory runs out
 * the old ones stay; where the device fails during the copy, runs may meet a mixture. */
cumega_status object_replace(cumega_context *ctx, object *o, const object_source *from);

/* The bodies of the public calls. */
cumega_status object_set_parameters(cumega_context *ctx, const object_class *class, object *o,
                                    const void *parameters);
cumega_status object_get_parameters(cumega_context *ctx, const object_class *class,
                                    const object *o, const void *parameters);
cumega_status object_get_config(cumega_context *ctx, const object_class *class, const object *o,
                                void *config);

/* Random values normal(val, std), as float32: `stream` of the generator, for the parameter `p`. */
cumega_status object_draw(cumega_context *ctx, const parameter *p, const object_source *from,
                          double std, uint64_t stream, void *values);
/* CUMEGA_ERROR_ARGUMENT where val is not finite. */
cumega_status object_check_val(cumega_context *ctx, double val);

/* CUMEGA_ERROR_ARGUMENT where config.<name> is not finite. */
cumega_status object_check_finite(cumega_context *ctx, const char *name, double value);

/* config.dtype, the type that vectors and matrices are stored in. */
cumega_status object_check_dtype(cumega_context *ctx, const char *name, DLDataType dtype);

/* CUMEGA_ERROR_ARGUMENT where a run in `type` (of the tensor `tensor`) cannot use an object,
 * `name`, whose numbers are stored as dtype. */
cumega_status object_check_type(cumega_context *ctx, const char *name, DLDataType dtype,
                                const char *tensor, tensor_type type);

/* An object's layout: pieces in order, each on a cache line of its own. */
typedef struct object_layout {
  int64_t used;
  int overflow;
} object_layout;

/* The offset of a piece of rows * columns elements. */
int64_t object_take(object_layout *l, int64_t rows, int64_t columns, int64_t element_bytes);

/* What lies at an offset of the block, as runs read it; dtype: float32 or float64. */
real_vector object_vector(const object *o, DLDataType dtype, int64_t offset);

/* CUMEGA_ERROR_RESOURCE where a layout does not fit 63 bits. */
cumega_status object_check_layout(cumega_context *ctx, const object_class *class,
                                  const object_layout *l);

#endif
