/* The EMA's three operations on case files. */
#ifndef CUMEGA_TOOLS_CASE_EMA_H
#define CUMEGA_TOOLS_CASE_EMA_H

#include "operation.h"

int ema_forward_prepare(job *j);
cumega_status ema_forward_run(job *j);

int ema_step_prepare(job *j);
cumega_status ema_step_run(job *j);

int ema_kernel_prepare(job *j);
cumega_status ema_kernel_run(job *j);

void ema_release(job *j);

#endif
