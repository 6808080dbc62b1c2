/* Runs of the library whose instructions scripts/count_instructions counts: between two calls of case_over, those
 * inside the library's runs. Making tensors takes next to none, so that many cases take a second. */
#ifndef CUMEGA_TESTS_INSTRUCTIONS_CASES_H
#define CUMEGA_TESTS_INSTRUCTIONS_CASES_H

#include "harness.h"

void count_ema(cumega_context *ctx);
void count_position(cumega_context *ctx);
void count_residual(cumega_context *ctx);

/* The four types of tensors. */
#define CASE_TYPES 4
extern const DLDataType case_types[CASE_TYPES];

/* A tensor of numbers between 0.01 and 1.1, whatever its type; of indices 0, of masks with some set. */
test_tensor *case_tensor(DLDataType dtype, int ndim, const int64_t *shape,
                         const test_layout *layout);

/* Ends a case; its name in printf's way, without spaces. */
void case_over(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
