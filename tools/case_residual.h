/* The residual connections' two operations on case files. */
#ifndef CUMEGA_TOOLS_CASE_RESIDUAL_H
#define CUMEGA_TOOLS_CASE_RESIDUAL_H

#include "operation.h"

int residual_prepare(job *j);
cumega_status residual_run(job *j);

int gated_residual_prepare(job *j);
cumega_status gated_residual_run(job *j);

void residual_release(job *j);

#endif
