/* Compares outputs with reference/. */
#include <stdlib.h>
#include "bench.h"
#include "failure.h"
#include "values.h"

int bench_numbers(const case_file *file, const char *const *names, double **numbers) {
  int code = EXIT_OK;
  for (int i = 0; names[i] != NULL; i++) {
    const DLTensor *tensor = case_find(file, "parameters", names[i]);
    const int64_t count = tensor != NULL ? values_count(tensor) : 0;
    numbers[i] = tensor != NULL ? malloc((size_t)(count + 1) * sizeof(double)) : NULL;
    if (tensor != NULL && numbers[i] == NULL)
      code = fail(EXIT_DEVICE, "no memory for the reference");
    for (int64_t k = 0; numbers[i] != NULL && k < count; k++) numbers[i][k] = values_at(tensor, k);
  }
  return code;
}

int64_t bench_spread(int64_t i, int64_t some, int64_t all) {
  return some < 2 ? all - 1 : i * (all - 1) / (some - 1);
}

void bench_note(bench_error *error, double value, double exact) {
  const double difference = value == exact ? 0 : fabs(value - exact); /* 0 for equal infinities */
  error->difference = bench_worse(difference, error->difference);
  if (isfinite(exact)) error->largest = fmax(error->largest, fabs(exact));
}

double bench_worse(double a, double b) {
  return isnan(a) || a > b ? a : b;
}

double bench_share(const bench_error *error, DLDataType dtype, double roundings) {
  const double inside = dtype.bits == 64 ? 0x1p-53 : 0x1p-24;
  const double allowed = (values_roundoff(dtype) + roundings * inside) * error->largest;
  return error->difference == 0 ? 0 : error->difference / allowed;
}

/* Checks one row of each output. */
static int check_row(const job *j, double *const *parameters, int64_t r, int64_t rows,
                     real *const *exact, bench_error *errors) {
  int code = j->operation->bench.exact(j, parameters, r, exact);
  for (int i = 0; code == EXIT_OK && i < j->output_count; i++) {
    const DLTensor *output = &j->outputs[i].tensor.dl;
    const int64_t length = values_count(output) / rows;
    for (int64_t k = 0; k < length; k++)
      bench_note(&errors[i], values_at(output, r * length + k), (double)exact[i][k]);
  }
  return code;
}

int bench_check(const bench_row *row, const job *j, double *worst) {
  const benchmark *bench = &row->what->bench;
  double *parameters[MOST_PARAMETERS] = {NULL};
  real *exact[JOB_OUTPUTS] = {NULL};
  bench_error errors[JOB_OUTPUTS] = {{0, 0}};
  int64_t rows = 1;
  *worst = 0;
  if (bench->check != NULL) return bench->check(row, j, worst);
  for (int i = 0; i < bench->row_dims; i++) rows *= row->shape[i];
  int code = bench_numbers(j->file, bench->parameters, parameters);
  for (int i = 0; i < j->output_count; i++) {
    const int64_t length = values_count(&j->outputs[i].tensor.dl) / rows;
    exact[i] = malloc((size_t)(length + 1) * sizeof(real));
    if (exact[i] == NULL) code = fail(EXIT_DEVICE, "no memory for the reference");
  }
  for (int64_t i = 0; code == EXIT_OK && i < SAMPLED_ROWS; i++)
    code = check_row(j, parameters, bench_spread(i, SAMPLED_ROWS, rows), rows, exact, errors);
  for (int i = 0; i < j->output_count; i++)
    *worst = bench_worse(bench_share(&errors[i], j->dtype, bench->roundings(j)), *worst);
  for (int i = 0; i < MOST_PARAMETERS; i++) free(parameters[i]);
  for (int i = 0; i < JOB_OUTPUTS; i++) free(exact[i]);
  return code;
}
