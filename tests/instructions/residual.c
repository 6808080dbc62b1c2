/* Residual connections and norms: every form in every type, with rows in whole vectors and without; compact, apart and
 * across. */
#include "cases.h"

#define ROWS  3
#define LARGE 1027 /* with ROWS rows: past the caches, in builds for such tests */

typedef struct connection {
  const char *name;
  cumega_residual *residual; /* NULL: the gated one */
} connection;

typedef struct place {
  const char *name;
  test_layout layout;
  int without_out, transposed, in_place, small_only;
} place;

static const place places[] = {
    {.name = "compact"},
    {.name = "apart", .layout = {.ordered = 1, .order = {0, 1}, .gap = {0, 5}, .shift = 1}},
    {.name = "across", .layout = {.ordered = 1, .order = {1, 0}, .gap = {0, 1}}, .small_only = 1},
    {.name = "norm-alone", .without_out = 1},
    {.name = "transposed", .transposed = 1, .small_only = 1},
    {.name = "in-place", .in_place = 1}};
#define PLACES ((int)(sizeof places / sizeof *places))

static void run(cumega_context *ctx, const connection *c, const cumega_norm *norm, DLDataType dtype,
                int64_t D, const place *at) {
  const int64_t shape[] = {at->transposed ? D : ROWS, at->transposed ? ROWS : D};
  test_tensor *t[5];
  for (int i = 0; i < 5; i++) t[i] = case_tensor(dtype, 2, shape, &at->layout);
  DLTensor *out = at->without_out ? NULL : dl(t[at->in_place ? 1 : 3]);
  DLTensor *normalized = norm ? dl(t[4]) : NULL;
  if (c->residual) {
    const cumega_residual_io io = {sizeof io,      dl(t[0]), dl(t[1]),  out,
                                   at->transposed, norm,     normalized};
    MUST(ctx, cumega_residual_forward(ctx, c->residual, &io));
  } else {
    const cumega_residual_gated_io io = {sizeof io, dl(t[0]), dl(t[1]),  dl(t[2]),
                                         out,       norm,     normalized};
    MUST(ctx, cumega_residual_gated_forward(ctx, &io));
  }
  for (int i = 0; i < 5; i++) tensor_free(t[i]);
}

static void count_places(cumega_context *ctx, const connection *c, int64_t D, int norm_type,
                         int is_highway) {
  const cumega_norm_config config =
      cumega_norm_config_default((cumega_norm_type)(norm_type < 0 ? 0 : norm_type), D);
  cumega_norm *norm = NULL;
  if (norm_type >= 0) MUST(ctx, cumega_norm_create(ctx, &config, NULL, &norm));
  for (int type = 0; type < CASE_TYPES; type++)
    for (int i = 0; i < PLACES; i++) {
      const int can_transpose = norm == NULL && c->residual != NULL && !is_highway;
      if (places[i].without_out && norm == NULL) continue;
      if (places[i].transposed && !can_transpose) continue;
      if (places[i].small_only && D == LARGE) continue;
      run(ctx, c, norm, case_types[type], D, &places[i]);
      case_over("%s,%s,%s,D=%d,%s", c->name, norm ? cumega_norm_type_name(config.type) : "none",
                number_name(case_types[type]), (int)D, places[i].name);
    }
  cumega_norm_destroy(norm);
}

static cumega_residual *residual_of(cumega_context *ctx, const cumega_residual_config *config) {
  const int64_t D = config->d_model, shape[] = {D, D};
  const int64_t few[] = {1, 1};
  const int is_highway = config->kind == CUMEGA_RESIDUAL_HIGHWAY;
  test_tensor *square = case_tensor(cumega_float32, 2, is_highway ? shape : few, NULL);
  test_tensor *row = case_tensor(cumega_float32, 1, shape, NULL);
  const cumega_residual_parameters parameters = {.struct_size = sizeof parameters,
                                                 .affine = config->scalar ? NULL : dl(row),
                                                 .Wx_weight = dl(square),
                                                 .Wx_bias = dl(row),
                                                 .Wy_weight = config->elemwise ? NULL : dl(square),
                                                 .Wy_bias = config->elemwise ? NULL : dl(row),
                                                 .Wy = config->elemwise ? dl(row) : NULL};
  cumega_residual *residual;
  MUST(ctx, cumega_residual_create(ctx, config, &parameters, &residual));
  tensor_free(square);
  tensor_free(row);
  return residual;
}

static void count_kinds(cumega_context *ctx, int64_t D, int norm) {
  static const struct {
    const char *name;
    cumega_residual_kind kind;
    double alpha, beta;
    int scalar, elemwise;
  } kinds[] = {{"residual", CUMEGA_RESIDUAL_RESIDUAL, 1, 1, 1, 0},
               {"scaled", CUMEGA_RESIDUAL_RESIDUAL, 0, 0.5, 1, 0},
               {"feedforward", CUMEGA_RESIDUAL_FEEDFORWARD, 1, 1, 1, 0},
               {"affine", CUMEGA_RESIDUAL_AFFINE, 0.5, 1, 0, 0},
               {"highway", CUMEGA_RESIDUAL_HIGHWAY, 1, 1, 1, 0},
               {"highway-elemwise", CUMEGA_RESIDUAL_HIGHWAY, 1, 1, 1, 1}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (D == LARGE && kinds[i].kind == CUMEGA_RESIDUAL_HIGHWAY) continue;
    cumega_residual_config config = cumega_residual_config_default(kinds[i].kind, 3, D);
    config.alpha = kinds[i].alpha;
    config.beta = kinds[i].beta;
    config.scalar = kinds[i].scalar;
    config.elemwise = kinds[i].elemwise;
    const connection c = {kinds[i].name, residual_of(ctx, &config)};
    count_places(ctx, &c, D, norm, kinds[i].kind == CUMEGA_RESIDUAL_HIGHWAY);
    cumega_residual_destroy(c.residual);
  }
  const connection gated = {"gated", NULL};
  count_places(ctx, &gated, D, norm, 0);
}

void count_residual(cumega_context *ctx) {
  count_kinds(ctx, 64, -1);
  count_kinds(ctx, 43, -1);
  count_kinds(ctx, LARGE, -1);
  count_kinds(ctx, 64, CUMEGA_NORM_LAYER);
  static const int64_t sizes[] = {1, 43, 300, 1024, 1100};
  for (int i = 0; i < 5; i++) {
    const cumega_residual_config config =
        cumega_residual_config_default(CUMEGA_RESIDUAL_RESIDUAL, 3, sizes[i]);
    const connection c = {"residual", residual_of(ctx, &config)};
    for (int norm = CUMEGA_NORM_LAYER; norm <= CUMEGA_NORM_BASIC; norm++)
      if (norm == CUMEGA_NORM_LAYER || sizes[i] == 300) count_places(ctx, &c, sizes[i], norm, 0);
    cumega_residual_destroy(c.residual);
  }
}
