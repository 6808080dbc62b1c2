#include "object.h"
#include <math.h>
#include "backend.h"
#include "fp_environment.h"
#include "math/philox.h"
#include "tensor_element.h"

#define MOST_PARAMETERS 8

static uint64_t next_serial(void) {
  static uint64_t last;
  return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

static const backend_device *device_of(const object *o) {
  return o->backend->device;
}

cumega_status object_enter(cumega_context *ctx, const object_class *class, const object *o) {
  TRY(call_enter(ctx));
  if (o == NULL)
    return call_fail_argument(ctx, "%s is NULL, expected %s", class->argument, class->noun);
  return call_check_device(ctx, class->argument, o->device);
}

/* ---- parameters ---- */

/* The members of a public parameter struct: its size, then the tensors. */
typedef struct parameter_struct {
  size_t struct_size;
  DLTensor *tensors[MOST_PARAMETERS];
} parameter_struct;

static cumega_status read_parameter_struct(cumega_context *ctx, const object *o, const void *given,
                                           parameter_struct *p) {
  const object_class *class = o->class;
  memset(p, 0, sizeof *p);
  TRY(call_read_struct(ctx, "parameters", given, class->parameters_smallest, p,
                       offsetof(parameter_struct, tensors) +
                           (size_t) class->parameter_count * sizeof *p->tensors));
  for (int which = 0; which < class->parameter_count; which++) {
    const parameter wanted = class->parameter_of(o, which);
    if (p->tensors[which] && wanted.shape.letters == NULL)
      return call_fail_argument(ctx, "parameters.%s is given, expected NULL: this %s has none",
                                wanted.name, class->argument);
  }
  return CUMEGA_OK;
}

static cumega_status read_parameter(cumega_context *ctx, const object *o,
                                    const object_source *from, const parameter_struct *given,
                                    int which, const parameter *p, void *values) {
  if (from->from_weights)
    return parameter_read_weights(ctx, p, from->weights, from->prefix, values);
  if (given->tensors[which] || (from->parameters && o->class->needs_all))
    return parameter_read(ctx, p, p->name, given->tensors[which], values);
  fp_environment environment;
  fp_begin(&environment);
  const cumega_status status = o->class->fill(ctx, o, from, which, values);
  fp_end(&environment);
  return status;
}

/* New contents of both pieces, in host memory. */
static cumega_status stage(cumega_context *ctx, const object *o, const object_source *from,
                           char *host, char *block) {
  parameter_struct given = {0};
  if (from->parameters) TRY(read_parameter_struct(ctx, o, from->parameters, &given));
  for (int which = 0; which < o->class->parameter_count; which++) {
    const parameter p = o->class->parameter_of(o, which);
    if (p.shape.letters == NULL) continue;
    char *values = (p.is_in_block ? block : host) + p.offset;
    TRY(read_parameter(ctx, o, from, &given, which, &p, values));
  }
  if (!o->class->derive) return CUMEGA_OK;
  void *scratch;
  fp_environment environment;
  TRY(call_scratch(ctx, o->scratch_bytes, &scratch));
  fp_begin(&environment);
  const cumega_status status = o->class->derive(ctx, o, host, block);
  fp_end(&environment);
  return status;
}

static cumega_status refuse_capture(cumega_context *ctx) {
  int capturing = 0;
  if (ctx->backend->device) TRY(ctx->backend->device->is_capturing(ctx, &capturing));
  if (!capturing) return CUMEGA_OK;
  return call_fail(ctx, CUMEGA_ERROR_STATE,
                   "the context's stream is being captured, and making or changing an object is "
                   "not allowed meanwhile");
}

/* Puts staged contents in place. A device's memory is allocated by the first write. */
static cumega_status commit(cumega_context *ctx, object *o, const char *host, const char *block) {
  TRY(refuse_capture(ctx));
  if (o->block_bytes > 0 && device_of(o))
    TRY(device_of(o)->object_write(ctx, o->class->noun, block, o->block_bytes, &o->block));
  else if (o->block_bytes > 0)
    memcpy(o->block, block, (size_t)o->block_bytes);
  if (o->host_bytes > 0) memcpy(o->host, host, (size_t)o->host_bytes);
  o->serial = next_serial();
  return CUMEGA_OK;
}

cumega_status object_replace(cumega_context *ctx, object *o, const object_source *from) {
  const int64_t bytes = o->host_bytes + o->block_bytes;
  void *staged;
  TRY(call_allocate(ctx, bytes, o->class->noun, &staged));
  memset(staged, 0, (size_t)bytes);
  char *host = staged, *block = host + o->host_bytes;
  cumega_status status = stage(ctx, o, from, host, block);
  if (status == CUMEGA_OK) status = commit(ctx, o, host, block);
  memory_free(ctx->memory, staged, bytes);
  return status;
}

/* ---- life ---- */

static cumega_status fail_too_large(cumega_context *ctx, const object_class *class) {
  return call_fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot allocate more than %lld bytes for %s",
                   (long long)INT64_MAX, class->noun);
}

/* Both pieces, but for a block on a device. */
static cumega_status allocate_pieces(cumega_context *ctx, object *o) {
  if (o->host_bytes > 0) TRY(call_allocate(ctx, o->host_bytes, o->class->noun, &o->host));
  if (o->block_bytes > 0 && !device_of(o))
    TRY(call_allocate(ctx, o->block_bytes, o->class->noun, &o->block));
  return CUMEGA_OK;
}

static cumega_status make(cumega_context *ctx, object *o, const void *config,
                          const object_source *from) {
  const object_class *class = o->class;
  char *known = (char *)o + class->config_at;
  fp_environment environment;
  TRY(call_read_struct(ctx, "config", config, class->config_smallest, known, class->config_bytes));
  memcpy(known, &class->config_bytes, sizeof class->config_bytes);
  fp_begin(&environment);
  const cumega_status status = class->check(ctx, o);
  fp_end(&environment);
  if (status != CUMEGA_OK) return status;
  if (o->host_bytes > INT64_MAX - o->block_bytes) return fail_too_large(ctx, class);
  TRY(allocate_pieces(ctx, o));
  return object_replace(ctx, o, from);
}

cumega_status object_create(cumega_context *ctx, const object_class *class, const void *config,
                            const object_source *from, void *place) {
  void *made = NULL;
  if (place) memcpy(place, &made, sizeof made);
  TRY(call_enter(ctx));
  if (from->from_weights && from->weights == NULL)
    return call_fail_argument(ctx, "weights is NULL, expected an open weight file");
  if (!place)
    return call_fail_argument(ctx, "%s is NULL, expected where to put %s", class->argument,
                              class->noun);
  TRY(call_allocate(ctx, (int64_t) class->bytes, class->noun, &made));
  object *o = made;
  memset(o, 0, class->bytes);
  o->class = class;
  o->account = memory_retain(ctx->memory);
  o->backend = ctx->backend;
  o->device = ctx->device;
  o->process = ctx->owner;
  const cumega_status status = make(ctx, o, config, from);
  if (status == CUMEGA_OK)
    memcpy(place, &made, sizeof made);
  else
    object_destroy(o);
  return status;
}

void object_destroy(object *o) {
  if (o == NULL) return;
  memory *account = o->account;
  if (o->block && device_of(o))
    device_of(o)->object_release(account, o->device, o->process, o->block, o->block_bytes);
  else
    memory_free(account, o->block, o->block_bytes);
  memory_free(account, o->host, o->host_bytes);
  memory_free(account, o, (int64_t)o->class->bytes);
  memory_release(account);
}

/* ---- the bodies of public calls ---- */

cumega_status object_set_parameters(cumega_context *ctx, const object_class *class, object *o,
                                    const void *parameters) {
  const object_source from = {.parameters = parameters};
  TRY(object_enter(ctx, class, o));
  if (parameters == NULL) return call_fail_argument(ctx, "parameters is NULL, expected tensors");
  return object_replace(ctx, o, &from);
}

/* Values of a parameter, which on a GPU are read back first. */
static cumega_status write_parameter(cumega_context *ctx, const object *o, const parameter *p,
                                     const tensor_view *view) {
  const char *values = (const char *)(p->is_in_block ? o->block : o->host) + p->offset;
  void *copy;
  if (!p->is_in_block || !device_of(o)) {
    parameter_write(view, p->type, values);
    return CUMEGA_OK;
  }
  TRY(call_allocate(ctx, parameter_bytes(p), p->name, &copy));
  const cumega_status status = device_of(o)->memory_read(ctx, copy, values, parameter_bytes(p));
  if (status == CUMEGA_OK) parameter_write(view, p->type, copy);
  memory_free(ctx->memory, copy, parameter_bytes(p));
  return status;
}

cumega_status object_get_parameters(cumega_context *ctx, const object_class *class,
                                    const object *o, const void *parameters) {
  parameter_struct given;
  tensor_view views[MOST_PARAMETERS];
  TRY(object_enter(ctx, class, o));
  TRY(read_parameter_struct(ctx, o, parameters, &given));
  memset(views, 0, sizeof views); /* a tensor that is left out has no elements */
  for (int i = 0; i < class->parameter_count; i++) {
    if (given.tensors[i] == NULL) continue;
    const parameter p = class->parameter_of(o, i);
    TRY(parameter_check_output(ctx, &p, given.tensors[i], &views[i]));
    for (int j = 0; j < i; j++) TRY(tensor_view_check_apart(ctx, &views[i], &views[j], 0));
  }
  for (int i = 0; i < class->parameter_count; i++) {
    if (given.tensors[i] == NULL) continue;
    const parameter p = class->parameter_of(o, i);
    TRY(write_parameter(ctx, o, &p, &views[i]));
  }
  return CUMEGA_OK;
}

cumega_status object_get_config(cumega_context *ctx, const object_class *class, const object *o,
                                void *config) {
  TRY(object_enter(ctx, class, o));
  return call_write_struct(ctx, "config", config, class->config_smallest,
                           (const char *)o + class->config_at, class->config_bytes);
}

/* ---- what classes share ---- */

cumega_status object_check_val(cumega_context *ctx, double val) {
  if (isfinite(val)) return CUMEGA_OK;
  return call_fail_argument(ctx, "val is %g, expected a finite number", val);
}

cumega_status object_draw(cumega_context *ctx, const parameter *p, const object_source *from,
                          double std, uint64_t stream, void *values) {
  int is_beyond = 0;
  for (int64_t i = 0; i < parameter_count(p); i++) {
    const float value = (float)(from->val + std * normal_at(from->seed, stream, (uint64_t)i));
    is_beyond |= !isfinite(value);
    if (p->type == TYPE_FLOAT32)
      ((float *)values)[i] = value;
    else
      ((double *)values)[i] = value;
  }
  if (!is_beyond) return CUMEGA_OK;
  return call_fail_argument(ctx,
                            "val %g with a standard deviation of %g goes beyond float32 in %s",
                            from->val, std, p->name);
}

cumega_status object_check_finite(cumega_context *ctx, const char *name, double value) {
  if (isfinite(value)) return CUMEGA_OK;
  return call_fail_argument(ctx, "config.%s is %g, expected a finite number", name, value);
}

static tensor_type real_type_of(DLDataType dtype) {
  const tensor_type type = dtype.lanes == 1 ? tensor_type_of(dtype) : 0;
  return type & (TYPE_FLOAT32 | TYPE_FLOAT64);
}

cumega_status object_check_dtype(cumega_context *ctx, const char *name, DLDataType dtype) {
  if (real_type_of(dtype)) return CUMEGA_OK;
  const tensor_type type = tensor_type_of(dtype);
  return call_fail_argument(ctx, "config.%s is %s, expected float32 or float64", name,
                            type ? tensor_type_name(type) : "unknown");
}

cumega_status object_check_type(cumega_context *ctx, const char *name, DLDataType dtype,
                                const char *tensor, tensor_type type) {
  const tensor_type wanted = type == TYPE_FLOAT64 ? TYPE_FLOAT64 : TYPE_FLOAT32;
  if (tensor_type_of(dtype) == wanted) return CUMEGA_OK;
  return call_fail_argument(ctx, "%s has dtype %s, expected %s, since %s is %s", name,
                            tensor_type_name(tensor_type_of(dtype)), tensor_type_name(wanted),
                            tensor, tensor_type_name(type));
}

int64_t object_take(object_layout *l, int64_t rows, int64_t columns, int64_t element_bytes) {
  const int64_t at = l->used;
  int64_t bytes;
  l->overflow |= __builtin_mul_overflow(rows, columns, &bytes);
  l->overflow |= __builtin_mul_overflow(bytes, element_bytes, &bytes);
  l->overflow |= __builtin_add_overflow(bytes, MEMORY_ALIGNMENT - 1, &bytes);
  bytes &= ~(int64_t)(MEMORY_ALIGNMENT - 1);
  l->overflow |= __builtin_add_overflow(l->used, bytes, &l->used);
  return at;
}

cumega_status object_check_layout(cumega_context *ctx, const object_class *class,
                                  const object_layout *l) {
  return l->overflow ? fail_too_large(ctx, class) : CUMEGA_OK;
}

real_vector object_vector(const object *o, DLDataType dtype, int64_t offset) {
  const void *at = (const char *)o->block + offset;
  if (tensor_type_of(dtype) == TYPE_FLOAT64) return (real_vector){NULL, at};
  return (real_vector){at, NULL};
}
