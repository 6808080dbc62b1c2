#include "emulated_run.h"
#include "defaults.h"
#include "residual_runs.h"

enum { X, GATE, RUN_Y, OUT, NORMALIZED };

static problem problem_of(const run_shape *shape) {
  const residual_shape *s = &shape->residual;
  problem p = {.gated = s->gated,
               .config = residual_config_of(s->kind, 3, s->D),
               .norm = s->norm,
               .dtype = s->dtype,
               .shape = {s->A, s->B, s->D},
               .seed = 5};
  p.config.scalar = !s->per_channel;
  p.config.elemwise = s->per_channel;
  return p;
}

static void lay_out(emulated_run *run) {
  const residual_shape *s = &run->shape->residual;
  for (int which = X; which <= NORMALIZED; which++) {
    if ((which == GATE && !s->gated) || (which == NORMALIZED && s->norm < 0)) continue;
    emulated_run_add(run, which, which >= OUT, s->dtype, 3, (int64_t[]){s->A, s->B, s->D});
  }
}

static void fill(emulated_run *run, uint64_t *seed) {
  for (int which = X; which <= RUN_Y; which++)
    if (run->bytes[which] > 0) emulated_run_fill_numbers(run, which, seed);
}

cumega_residual_config emulated_residual_config(const run_shape *shape) {
  cumega_residual_config config = problem_of(shape).config;
  config.dtype = real_dtype_of(shape->residual.dtype);
  return config;
}

cumega_norm_config emulated_norm_config(const run_shape *shape) {
  const residual_shape *s = &shape->residual;
  cumega_norm_config config = norm_config_of((cumega_norm_type)s->norm, s->D);
  config.dtype = real_dtype_of(s->dtype);
  return config;
}

cumega_status emulated_residual_create(cumega_context *ctx, const run_shape *shape,
                                       run_objects *objects) {
  const problem p = problem_of(shape);
  return problem_create(ctx, &p, &objects->residual, &objects->norm);
}

static run_objects make(cumega_context *ctx, const run_shape *shape) {
  run_objects objects = {NULL};
  MUST(ctx, emulated_residual_create(ctx, shape, &objects));
  return objects;
}

static cumega_residual_io io_with(const run_objects *objects, const emulated_run *run,
                                  cumega_tensor *views) {
  return (cumega_residual_io){.struct_size = sizeof(cumega_residual_io),
                              .x = emulated_run_view(run, views, X),
                              .y = emulated_run_view(run, views, RUN_Y),
                              .out = emulated_run_view(run, views, OUT),
                              .norm = objects->norm,
                              .normalized = emulated_run_view(run, views, NORMALIZED)};
}

static cumega_residual_gated_io gated_io_with(const run_objects *objects, const emulated_run *run,
                                              cumega_tensor *views) {
  return (cumega_residual_gated_io){.struct_size = sizeof(cumega_residual_gated_io),
                                    .x = emulated_run_view(run, views, X),
                                    .gate = emulated_run_view(run, views, GATE),
                                    .h = emulated_run_view(run, views, RUN_Y),
                                    .out = emulated_run_view(run, views, OUT),
                                    .norm = objects->norm,
                                    .normalized = emulated_run_view(run, views, NORMALIZED)};
}

static cumega_status workspace_size(cumega_context *ctx, const run_objects *objects,
                                    const emulated_run *run, cumega_tensor *views,
                                    int64_t *bytes) {
  const cumega_residual_io io = io_with(objects, run, views);
  const cumega_residual_gated_io gated = gated_io_with(objects, run, views);
  return run->shape->residual.gated
             ? cumega_residual_gated_workspace_size(ctx, &gated, bytes)
             : cumega_residual_workspace_size(ctx, objects->residual, &io, bytes);
}

static cumega_status prepare(cumega_context *ctx, const run_objects *objects,
                             const emulated_run *run, cumega_tensor *views) {
  (void)views;
  return run->shape->residual.gated ? CUMEGA_OK : cumega_residual_prepare(ctx, objects->residual);
}

static cumega_status start(cumega_context *ctx, const run_objects *objects,
                           const emulated_run *run, cumega_tensor *views) {
  const cumega_residual_io io = io_with(objects, run, views);
  const cumega_residual_gated_io gated = gated_io_with(objects, run, views);
  return run->shape->residual.gated ? cumega_residual_gated_forward(ctx, &gated)
                                    : cumega_residual_forward(ctx, objects->residual, &io);
}

static const char *function(const run_shape *shape) {
  return shape->residual.gated ? "cumega_residual_gated_forward" : "cumega_residual_forward";
}

static run_shape larger(const run_shape *shape, int step) {
  run_shape other = *shape;
  other.residual.B += step;
  return other;
}

const run_operation residual_operation = {lay_out, fill,  make,     workspace_size,
                                          prepare, start, function, larger};
